//! Counting the entities of a table.
//!
//! A table is a namespace of attributes, and its rows are the entities that have one of them. Each basis
//! keeps the exact number for every table; transactions carry it along.

use futures::stream::TryStreamExt;

use super::Db;
use crate::error::Result;
use crate::index::{Components, Index, Range};

/// The table of an attribute: its namespace. `db` and `db.*` form no tables.
pub(crate) fn table_of(ident: &datomfusion_datalog::edn::Keyword) -> Option<&str> {
    let namespace = ident.namespace().unwrap_or("");
    (namespace != "db" && !namespace.starts_with("db.")).then_some(namespace)
}

impl Db {
    /// Counts the entities of a table by reading the runs of its attributes: the slow way, for values
    /// that keep no count and for the rare change that moves an attribute to another table.
    pub(crate) async fn recount(&self, namespace: &str) -> Result<u64> {
        let mut entities = Vec::new();
        let attributes = self
            .schema()
            .attributes()
            .filter(|a| table_of(&a.ident) == Some(namespace));
        for attribute in attributes {
            let range = Range::prefix(Components::all().a(attribute.id));
            let mut slices = self.scan(Index::Aevt, range);
            while let Some(slice) = slices.try_next().await? {
                entities.extend_from_slice(&slice.leaf.e()[slice.rows.clone()]);
            }
        }
        entities.sort_unstable();
        entities.dedup();
        Ok(entities.len() as u64)
    }
}
