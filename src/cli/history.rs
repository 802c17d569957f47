//! `datomfusion history URL[@BASIS] EID [--format text|json]`

use std::io::Write;

use clap::Args;
use datomfusion_datalog::edn;

use super::entity::entity_ref;
use super::fact::{Format, write_fact};
use super::{Failure, Out};
use crate::db::Db;
use crate::error::Error;

/// Print all that was ever said of an entity, in time order.
#[derive(Args, Debug)]
pub(super) struct History {
    /// The database, at a basis if you like
    url: String,
    /// The entity: an id, an :ident or a [:lookup "ref"] that holds at the basis
    #[arg(value_name = "EID", allow_negative_numbers = true)]
    entity: String,
    /// How to print the facts
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl History {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let form = edn::read(&self.entity)
            .map_err(|error| Failure::from(Error::from(error)).of(&self.entity))?;
        let db = Db::open_url(&self.url).await?;
        let entity = db.entid(&entity_ref(&db, &form)?).await?;
        let entity = entity.ok_or_else(|| {
            Failure::new(format!("there is no entity {} at this basis", form.edn))
        })?;
        let mut known = None;
        for datom in db.entity_history(entity).await? {
            if known != Some(datom.tx) && self.format == Format::Text {
                writeln!(out, "t={}", datom.tx.t())?;
                known = Some(datom.tx);
            }
            let fact = (datom.e, datom.a, &datom.v);
            write_fact(
                &db,
                fact,
                datom.added,
                Some(datom.tx),
                self.format,
                &mut out,
            )?;
        }
        out.flush()?;
        Ok(())
    }
}
