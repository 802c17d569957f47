//! A persistent B-tree of datoms in one order.
//!
//! Above [`node`](crate::node), below `db`; knows nothing of time, schema or branches. A [`Tree`] is a value
//! of a few words: the name, which decides the order, and where the root lies. Reading takes a
//! [`Loader`](crate::node::Loader), writing a [`NodeWriter`](crate::node::NodeWriter) as well; an edit
//! writes the nodes that changed and shares the others.
//!
//! ```text
//! level 2                    [ … 400 | … 900 ]                 root: the lowest level with one node
//! level 1        [ 100 | 250 | 400 ]     [ 610 | 900 ]         a child's key is the last key below it
//! level 0    1…100  …  250  …  400    …  610    …  900         leaves: columns of datoms
//! ```
//!
//! **Invariants**, all of which [`verify`] checks:
//!
//! - Datoms ascend strictly from left to right; every leaf lies at the same depth.
//! - A child's key is the last key below it; its count is the number of datoms below it.
//! - Nodes end where [`boundary`] says, the last of a level where the level ends; the root is the lowest
//!   level with one node. So equal contents have equal roots, whatever edits made them.

mod boundary;
mod build;
mod diff;
mod edit;
mod lookup;
#[cfg(any(test, feature = "query"))]
mod sample;
mod scan;
mod size;
#[cfg(test)]
mod tests;
mod verify;

pub use build::{Builder, build, build_stream};
pub use diff::{Diff, Difference, diff};
pub use edit::{Change, Edited, edit};
pub use lookup::{count, covering, first, get, last, rank, split};
#[cfg(any(test, feature = "query"))]
pub use sample::sample;
pub use scan::{Direction, LeafSlice, Scan, scan};
pub use size::{Size, paths, size};
pub use verify::{Fault, Report, verify, verify_watched};

use std::ops::Deref;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::id::{Location, NodeId, PackId};
use crate::index::TreeName;
use crate::node::{Child, Inner, Leaf, Loader, Node};
use crate::wire::{self, Malformed, Reader, Writer};

/// A sorted set of datoms, lying in nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Which tree of a database this is; decides the order.
    pub name: TreeName,
    /// The root; `None` if the tree is empty.
    pub root: Option<Root>,
}

/// The root of a tree that is not empty, or of a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// The identity of the root node, and so of the whole content.
    pub id: NodeId,
    /// Where the root node lies.
    pub location: Location,
    /// The level of the root node: 0 if it is a leaf.
    pub level: u8,
    /// Datoms in the tree.
    pub count: u64,
}

impl Tree {
    /// The highest level that is believed; deeper trees are corrupt.
    pub const LEVEL_MAX: u8 = 16;

    /// An empty tree.
    pub fn empty(name: TreeName) -> Self {
        Self { name, root: None }
    }

    /// Datoms in the tree.
    pub fn count(&self) -> u64 {
        self.root.map_or(0, |root| root.count)
    }

    /// The identity of the content; `None` if the tree is empty.
    pub fn id(&self) -> Option<NodeId> {
        self.root.map(|root| root.id)
    }
}

impl Root {
    fn new(node: &Child, level: u8) -> Self {
        Self {
            id: node.id,
            location: node.location,
            level,
            count: node.count,
        }
    }

    /// What this node says of the nodes below it; nothing if it is a leaf.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if `node` is not the one that this stands for.
    pub fn children(&self, node: &Node) -> Result<Vec<Self>> {
        check(node, self)?;
        let Node::Inner(inner) = node else {
            return Ok(Vec::new());
        };
        Ok((0..inner.len())
            .map(|i| Self {
                id: inner.ids()[i],
                location: inner.locations()[i],
                level: self.level - 1,
                count: inner.counts()[i],
            })
            .collect())
    }

    /// Appends the stored form: id, pack, offset, length, level, count.
    pub fn encode(&self, out: &mut Writer) {
        out.raw(&self.id.0);
        out.raw(&self.location.pack.0);
        out.varint(self.location.offset);
        out.varint(u64::from(self.location.len));
        out.u8(self.level);
        out.varint(self.count);
    }

    /// Reads the stored form.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the input is cut short or out of range.
    pub fn decode(reader: &mut Reader<'_>) -> wire::Result<Self> {
        let id = NodeId(reader.array()?);
        let pack = PackId(reader.array()?);
        let offset = reader.varint()?;
        let len = u32::try_from(reader.varint()?).map_err(|_| Malformed("a frame is too long"))?;
        let level = reader.u8()?;
        if level > Tree::LEVEL_MAX {
            return Err(Malformed("a tree is too high"));
        }
        Ok(Self {
            id,
            location: Location { pack, offset, len },
            level,
            count: reader.varint()?,
        })
    }
}

/// A node that has been loaded and is known to be an inner node.
#[derive(Clone, Debug)]
struct InnerNode(Arc<Node>);

impl InnerNode {
    async fn load(loader: &Loader, place: &Root) -> Result<Self> {
        Self::try_new(loader.load(place.id, place.location).await?, place)
    }

    fn try_new(node: Arc<Node>, place: &Root) -> Result<Self> {
        check(&node, place)?;
        if place.level == 0 {
            return Err(Error::corrupt(
                place.id,
                "a leaf lies where an inner node should",
            ));
        }
        Ok(Self(node))
    }

    /// Where child `i` lies and what is below it.
    fn place(&self, i: usize) -> Root {
        Root {
            id: self.ids()[i],
            location: self.locations()[i],
            level: self.level() - 1,
            count: self.counts()[i],
        }
    }
}

impl Deref for InnerNode {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        match &*self.0 {
            Node::Inner(inner) => inner,
            Node::Leaf(_) => unreachable!("the level was checked when the node was loaded"),
        }
    }
}

/// Loads one leaf.
async fn load_leaf(loader: &Loader, place: &Root) -> Result<Arc<Leaf>> {
    leaf_of(&*loader.load(place.id, place.location).await?, place)
}

fn leaf_of(node: &Node, place: &Root) -> Result<Arc<Leaf>> {
    check(node, place)?;
    match node {
        Node::Leaf(leaf) => Ok(Arc::clone(leaf)),
        Node::Inner(_) => unreachable!("the level was checked"),
    }
}

/// Compares a node with what its parent says of it.
///
/// Levels fall by one from parent to child, so no path is longer than [`Tree::LEVEL_MAX`].
fn check(node: &Node, place: &Root) -> Result<()> {
    let level_is_kind = (place.level == 0) == matches!(node, Node::Leaf(_));
    if node.level() != place.level || !level_is_kind || place.level > Tree::LEVEL_MAX {
        return Err(Error::corrupt(
            place.id,
            "the node is not on the level its parent says",
        ));
    }
    if node.count() != place.count {
        return Err(Error::corrupt(
            place.id,
            "the node has not the count its parent says",
        ));
    }
    Ok(())
}
