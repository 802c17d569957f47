//! `datomfusion datoms URL[@BASIS] --index eavt [components…]`

use std::io::Write;

use clap::{Args, ValueEnum};
use datomfusion_datalog::edn::{self, Edn, Form};
use futures::stream::TryStreamExt;

use super::argument::no_option;
use super::entity::{entity, typed};
use super::{Failure, Out};
use crate::datom::{Datom, Entid, TxId};
use crate::db::Db;
use crate::error::Error;
use crate::index::{Components, Index};
use crate::schema::Attribute;
use crate::value::{Value, ValueType};

/// Print the datoms of an index as EDN, `[e a v tx added]` a line.
#[derive(Args, Debug)]
pub(super) struct Datoms {
    /// The database, at a basis if you like: ./sales@2022-12-31, ./sales@history
    url: String,
    /// The index, which is also the order
    #[arg(long, value_enum, default_value = "eavt")]
    index: Order,
    /// Leading components in the order of the index, as EDN: ids, :idents, [:lookup "refs"], values
    #[arg(allow_hyphen_values = true)]
    components: Vec<String>,
}

/// The orders by their names.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    /// By entity
    Eavt,
    /// By attribute
    Aevt,
    /// By attribute and value: what is indexed, unique or a reference
    Avet,
    /// By transaction
    Log,
}

impl Order {
    fn index(self) -> Index {
        match self {
            Self::Eavt => Index::Eavt,
            Self::Aevt => Index::Aevt,
            Self::Avet => Index::Avet,
            Self::Log => Index::Log,
        }
    }

    fn components(self) -> [char; 4] {
        match self {
            Self::Eavt => ['e', 'a', 'v', 't'],
            Self::Aevt => ['a', 'e', 'v', 't'],
            Self::Avet => ['a', 'v', 'e', 't'],
            Self::Log => ['t', 'e', 'a', 'v'],
        }
    }
}

impl Datoms {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let db = Db::open_url(&self.url).await?;
        for text in &self.components {
            no_option(text)?;
        }
        if self.components.len() > 4 {
            return Err(Failure::usage(
                "a datom has four components to give: e, a, v and tx",
            ));
        }
        let mut components = Components::all();
        for (kind, text) in self.index.components().into_iter().zip(&self.components) {
            let form =
                edn::read(text).map_err(|error| Failure::from(Error::from(error)).of(text))?;
            components = match kind {
                'e' => components.e(entity(&db, &form).await?),
                'a' => components.a(attribute(&db, &form)?.id),
                't' => components.tx(transaction(&form)?),
                _ => {
                    let attribute = components.a.and_then(|a| db.schema().attribute(a).cloned());
                    let attribute = attribute
                        .ok_or_else(|| Error::invalid("a value is given behind its attribute"))?;
                    components.v(value(&db, &attribute, &form).await?)
                }
            };
        }
        let mut datoms = db.datoms(self.index.index(), components)?;
        while let Some(datom) = datoms.try_next().await? {
            write_datom(&db, &datom, &mut out)?;
        }
        out.flush()?;
        Ok(())
    }
}

fn write_datom(db: &Db, datom: &Datom, out: &mut Out) -> std::io::Result<()> {
    let Datom { e, a, v, tx, added } = datom;
    match db.ident(*a) {
        Some(ident) => writeln!(out, "[{e} {ident} {v} {} {added}]", tx.0),
        None => writeln!(out, "[{e} {a} {v} {} {added}]", tx.0),
    }
}

fn attribute<'a>(db: &'a Db, form: &Form) -> Result<&'a Attribute, Error> {
    let known = match &form.edn {
        Edn::Keyword(ident) => return Ok(db.schema().require(ident)?),
        Edn::Long(id) => db.schema().attribute(Entid(*id)),
        _ => None,
    };
    known
        .map(|attribute| &**attribute)
        .ok_or_else(|| Error::invalid(format!("there is no attribute {}", form.edn)))
}

async fn value(db: &Db, attribute: &Attribute, form: &Form) -> Result<Value, Error> {
    if attribute.value_type == ValueType::Ref {
        return Ok(Value::Ref(entity(db, form).await?));
    }
    typed(attribute, form)
}

/// A transaction by its id, or by its `t`.
fn transaction(form: &Form) -> Result<TxId, Error> {
    match form.edn {
        Edn::Long(id) if Entid(id).is_tx() => Ok(TxId(Entid(id))),
        Edn::Long(t) if t >= 0 => Ok(TxId::from_t(t.unsigned_abs())),
        _ => Err(Error::invalid(format!(
            "a transaction is a t or an id, got {}",
            form.edn
        ))),
    }
}
