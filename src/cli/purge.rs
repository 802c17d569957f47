//! `datomfusion purge URL[#BRANCH][@BASIS] (--attribute A | --entity EID | --fact EID A V | --before T)`

use std::io::Write;
use std::sync::Arc;

use clap::Args;
use datomfusion_datalog::edn::{self, Form};

use super::entity::{entity, typed};
use super::{Failure, Out};
use crate::conn::{Connection, Purge as What};
use crate::datom::Entid;
use crate::db::Db;
use crate::db::basis::split_url;
use crate::environment::System;
use crate::error::Error;
use crate::store::Store;
use crate::value::{Value, ValueType};

/// Take facts out of a branch, its past included, for good.
#[derive(Args, Debug)]
pub(super) struct Purge {
    /// The database and its branch; at a basis if names are to be read as they were then
    url: String,
    #[command(flatten)]
    what: Chosen,
    /// Change nothing; say what would go
    #[arg(long)]
    dry_run: bool,
}

/// What goes.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Chosen {
    /// All facts of an attribute, as an :ident or an id
    #[arg(long, value_name = "A", allow_negative_numbers = true)]
    attribute: Option<String>,
    /// All facts about an entity, and all references to it: an id, an :ident or a [:lookup "ref"]
    #[arg(long, value_name = "EID", allow_negative_numbers = true)]
    entity: Option<String>,
    /// One fact, its value as EDN
    #[arg(long, num_args = 3, value_names = ["EID", "A", "V"], allow_negative_numbers = true)]
    fact: Option<Vec<String>>,
    /// What was superseded or retracted before this t
    #[arg(long, value_name = "T")]
    before: Option<u64>,
}

impl Purge {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let (address, basis) = split_url(&self.url)?;
        let what = self.what.read(&Db::open_url(&self.url).await?).await?;
        let store = Store::open_url(&address)?;
        let branch = basis.branch().cloned().unwrap_or_default();
        let conn = Connection::open_in(&store, branch.clone(), Arc::new(System)).await?;
        let report = if self.dry_run {
            conn.would_purge(&what).await?
        } else {
            conn.purge(&what).await?
        };
        let (datoms, transactions) = (report.datoms, report.transactions);
        if datoms == 0 {
            writeln!(out, "branch {branch} holds no such facts")?;
        } else {
            let done = if self.dry_run {
                "dry run: would purge"
            } else {
                "purged"
            };
            writeln!(
                out,
                "{done} {datoms} datoms of {transactions} transactions from branch {branch}"
            )?;
        }
        for other in &report.elsewhere {
            writeln!(
                out,
                "branch {other} holds such facts as well: purge it, too, or delete it and collect garbage"
            )?;
        }
        if datoms > 0 {
            let location = store.location();
            writeln!(
                out,
                "the bytes stay until `datomfusion gc {location}` has run twice, the grace apart"
            )?;
        }
        out.flush()?;
        Ok(())
    }
}

impl Chosen {
    /// What is to go, as a value understands it.
    async fn read(&self, db: &Db) -> Result<What, Failure> {
        if let Some(attribute) = &self.attribute {
            return Ok(What::Attribute(named(db, attribute).await?));
        }
        if let Some(entity) = &self.entity {
            return Ok(What::Entity(named(db, entity).await?));
        }
        if let Some([e, a, v]) = self.fact.as_deref() {
            let (e, a, form) = (named(db, e).await?, named(db, a).await?, form(v)?);
            let attribute = db
                .schema()
                .attribute(a)
                .ok_or_else(|| Failure::new(format!("{a} is no attribute, so no fact says it")))?;
            let v = match attribute.value_type {
                ValueType::Ref => Value::Ref(entity(db, &form).await?),
                _ => typed(attribute, &form)?,
            };
            return Ok(What::Fact { e, a, v });
        }
        let before = self.before.ok_or_else(|| {
            Failure::usage("say what to purge: --attribute, --entity, --fact or --before")
        })?;
        Ok(What::Before(before))
    }
}

fn form(text: &str) -> Result<Form, Failure> {
    edn::read(text).map_err(|error| Failure::from(Error::from(error)).of(text))
}

async fn named(db: &Db, text: &str) -> Result<Entid, Failure> {
    Ok(entity(db, &form(text)?).await?)
}
