//! `datomfusion pull --db URL[@BASIS] 'PATTERN' 'EID'`

use std::io::Write;

use clap::{Args, ValueEnum};
use datomfusion_datalog::edn;

use super::argument::source;
use super::entity::entity_ref;
use super::render::{Notation, write_term};
use super::with::With;
use super::{Failure, Out};
use crate::db::Db;
use crate::error::Error;

/// Print what a pattern finds of an entity: a map, or nil.
#[derive(Args, Debug)]
pub(super) struct Pull {
    /// The database, at a basis if you like: ./sales@2022-12-31
    #[arg(long, value_name = "URL[@BASIS]", value_parser = source)]
    db: (String, String),
    #[command(flatten)]
    with: With,
    /// How to print the map
    #[arg(long, value_enum, default_value = "edn")]
    format: Format,
    /// What to pull: '[*]', '[:track/name {:track/album [:album/title]}]'
    pattern: String,
    /// The entity: an id, an :ident or a [:lookup "ref"]
    #[arg(value_name = "EID", allow_negative_numbers = true)]
    entity: String,
}

/// How a map is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A map
    Edn,
    /// An object
    Json,
}

impl Pull {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let (name, url) = self.db;
        let form = edn::read(&self.entity)
            .map_err(|error| Failure::from(Error::from(error)).of(&self.entity))?;
        let mut opened = [(name, Db::open_url(&url).await?)];
        self.with.apply(&mut opened).await?;
        let [(_, db)] = opened;
        let entity = entity_ref(&db, &form)?;
        let found = db.pull(&self.pattern, entity).await?;
        let mut text = String::new();
        let notation = match self.format {
            Format::Edn => Notation::Edn,
            Format::Json => Notation::Json,
        };
        write_term(&found, notation, &mut text);
        writeln!(out, "{text}")?;
        out.flush()?;
        Ok(())
    }
}
