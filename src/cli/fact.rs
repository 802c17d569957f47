//! Facts as lines, for people and for programs.

use std::io::Write;

use clap::ValueEnum;
use serde_json::{Map, Value as Json};

use super::Failure;
use super::render::{Notation, write_term};
use crate::datom::{Entid, TxId};
use crate::db::Db;
use crate::db::basis::TimePoint;
use crate::value::{Value, term_of};

/// How lines are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A line for people
    Text,
    /// An object a line
    Json,
}

/// Writes a fact that came or went: `+ [e a v]`, or an object with `e`, `a`, `v`, `added` and `tx`.
pub(super) fn write_fact(
    db: &Db,
    (e, a, v): (Entid, Entid, &Value),
    added: bool,
    tx: Option<TxId>,
    format: Format,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let ident = db
        .ident(a)
        .map_or_else(|| a.to_string(), ToString::to_string);
    match format {
        Format::Text => {
            let sign = if added { '+' } else { '-' };
            writeln!(out, "{sign} [{e} {ident} {v}]")?;
        }
        Format::Json => {
            let mut text = String::new();
            match term_of(v) {
                Some(term) => write_term(&term, Notation::Json, &mut text),
                None => text.push_str("null"),
            }
            let v = serde_json::from_str(&text).map_err(Failure::new)?;
            let mut object = Map::new();
            object.insert("e".into(), e.0.into());
            object.insert("a".into(), ident.into());
            object.insert("v".into(), v);
            object.insert("added".into(), added.into());
            if let Some(tx) = tx {
                object.insert("tx".into(), tx.0.0.into());
            }
            writeln!(out, "{}", Json::Object(object))?;
        }
    }
    Ok(())
}

/// An instant as it is printed.
pub(super) fn instant(milliseconds: i64) -> String {
    TimePoint::Instant(milliseconds).to_string()
}
