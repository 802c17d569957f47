//! Counting: the entities of a table, the nodes of a tree, and what path copying would cost.
//!
//! A table is a namespace of attributes, and its rows are the entities that have one of them. Each basis
//! keeps the exact number for every table; transactions carry it along.

use std::collections::BTreeMap;

use futures::stream::TryStreamExt;

use super::Db;
use crate::datom::{Datom, Entid};
use crate::error::Result;
use crate::index::{Components, Index, Range, TreeName};
use crate::tree::{self, Size};
use crate::value::Value;

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

    /// How many values an attribute has, roughly: judged by the first leaf of its facts in AEVT, which is
    /// all that is read. Entities are in no order of their values, so the leaf is taken for a sample.
    pub(crate) async fn estimated_values(&self, attribute: Entid) -> Result<u64> {
        let range = Range::prefix(Components::all().a(attribute));
        let facts = self.count(Index::Aevt, &range).await?;
        let Some(slice) = self.scan(Index::Aevt, range).try_next().await? else {
            return Ok(0);
        };
        let mut seen: BTreeMap<Value, u64> = BTreeMap::new();
        for row in slice.rows {
            *seen.entry(slice.leaf.values().value(row)).or_default() += 1;
        }
        Ok(values_of_all(facts, seen.values().copied()))
    }
}

/// The number of values among `facts` facts of which a sample shows each value so often: those seen several
/// times are taken for common, those seen once for the share that the sample has of others like them
/// (Charikar et al., *Towards estimation error guarantees for distinct values*, 2000).
fn values_of_all(facts: u64, seen: impl Iterator<Item = u64>) -> u64 {
    let (mut sampled, mut once, mut often) = (0_u64, 0_u64, 0_u64);
    for times in seen {
        sampled += times;
        if times == 1 {
            once += 1;
        } else {
            often += 1;
        }
    }
    if sampled == 0 {
        return 0;
    }
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let scale = (facts.max(sampled) as f64 / sampled as f64).sqrt();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate"
    )]
    let others = (scale * once as f64) as u64;
    often + others
}

/// The size of one of the trees of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeSize {
    /// Which tree.
    pub name: TreeName,
    /// Datoms in it.
    pub datoms: u64,
    /// Levels of nodes; 0 if it is empty.
    pub height: u32,
    /// Nodes, inner ones included.
    pub nodes: u64,
    /// Bytes that the nodes take in packs.
    pub bytes: u64,
}

impl Db {
    /// The sizes of the eight trees of this value's checkpoint. Reads all inner nodes and no leaf.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`](crate::Error::Corrupt), [`Error::Store`](crate::Error::Store).
    pub async fn tree_sizes(&self) -> Result<Vec<TreeSize>> {
        let mut sizes = Vec::new();
        for tree in self.0.checkpoint.trees.iter().chain([&self.0.head.commits]) {
            let Size { nodes, bytes } = tree::size(self.loader(), tree).await?;
            let height = tree.root.map_or(0, |root| u32::from(root.level) + 1);
            sizes.push(TreeSize {
                name: tree.name,
                datoms: tree.count(),
                height,
                nodes,
                bytes,
            });
        }
        Ok(sizes)
    }

    /// What copying the paths to these datoms would write: every node from the roots to the leaves that
    /// they touch, each once, in the trees that a commit of them changes.
    ///
    /// The yardstick for the tail: a tree without one writes this for each transaction.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`](crate::Error::Corrupt), [`Error::Store`](crate::Error::Store).
    pub async fn path_copy(&self, datoms: &[Datom]) -> Result<Size> {
        let mut total = Size::default();
        for tree in &self.0.checkpoint.trees {
            let history = matches!(
                tree.name,
                TreeName::HistoryEavt | TreeName::HistoryAevt | TreeName::HistoryAvet
            );
            let touched: Vec<&Datom> = datoms
                .iter()
                .filter(|datom| !history || !datom.added)
                .filter(|datom| tree.name.index() != Index::Avet || self.in_avet(datom.a))
                .collect();
            let size = tree::paths(self.loader(), tree, &touched).await?;
            total.nodes += size.nodes;
            total.bytes += size.bytes;
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_estimated_from_a_sample() {
        let common = values_of_all(20_000, [100; 5].into_iter());
        assert_eq!(common, 5, "five names among all");
        let unique = values_of_all(50_000, [1; 500].into_iter());
        assert_eq!(unique, 5_000, "between 500 and 50,000");
        assert_eq!(values_of_all(3, [1, 2].into_iter()), 2, "all is seen");
        assert_eq!(values_of_all(0, [].into_iter()), 0);
    }
}
