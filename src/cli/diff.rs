//! `datomfusion diff URL A [B] [--format text|json]`

use std::io::Write;

use clap::Args;
use futures::stream::TryStreamExt;

use super::fact::{Format, write_fact};
use super::{Failure, Out};
use crate::db::Db;
use crate::db::basis::{BasisSpec, split_url};
use crate::store::Store;

/// Print what must be said to turn one value into another: + what only B holds, - what only A holds.
#[derive(Args, Debug)]
pub(super) struct Diff {
    /// The database
    url: String,
    /// From where: t=3, 2022-12-31, '#dev', '#dev@t=3', or the URL of another database
    from: String,
    /// To where, likewise; the newest value of URL if it is left out
    to: Option<String>,
    /// How to print the facts
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl Diff {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let from = open(&self.url, &self.from).await?;
        let to = open(&self.url, self.to.as_deref().unwrap_or_default()).await?;
        let mut changes = from.diff(&to)?;
        while let Some(change) = changes.try_next().await? {
            let db = if change.added { &to } else { &from };
            let fact = (change.e, change.a, &change.v);
            write_fact(db, fact, change.added, None, self.format, &mut out)?;
        }
        out.flush()?;
        Ok(())
    }
}

/// A value by its basis in a database, or by an address of its own.
async fn open(url: &str, which: &str) -> Result<Db, Failure> {
    let (address, given) = split_url(url)?;
    let text = match which.chars().next() {
        None => String::new(),
        Some('#' | '@') => which.to_owned(),
        Some(_) => format!("@{which}"),
    };
    let Ok(basis) = text.parse::<BasisSpec>() else {
        let db = Db::open_url(which).await;
        return db.map_err(|error| Failure::from(error).of(which));
    };
    let branch = basis.branch().or(given.branch()).cloned();
    let db = Db::open(&Store::open_url(&address)?, &branch.unwrap_or_default()).await?;
    let parts = if text.is_empty() { given } else { basis };
    let view = BasisSpec::try_new(None, parts.parts().to_vec())?;
    Ok(db.at(&view).await?)
}
