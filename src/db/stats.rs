//! Counting: the entities of a table, the nodes of a tree, and what path copying would cost.
//!
//! A table is a namespace of attributes, and its rows are the entities that have one of them. Each basis
//! keeps the exact number for every table; transactions carry it along.

use futures::stream::TryStreamExt;

use super::Db;
use crate::datom::Datom;
use crate::error::Result;
use crate::index::{Components, Index, Range, TreeName};
use crate::tree::{self, Size};

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
