//! An inner node: for each child its last key, identity, count and where it lies.
//!
//! The last keys are kept as a [`Leaf`], so that searching an inner node is searching columns.

use std::ops::Range;

use super::leaf::{Leaf, partition_point};
use crate::datom::{Datom, Entid, TxId};
use crate::error::{Error, Result};
use crate::id::{Location, NodeId};
use crate::index::{self, Index, TreeOrder};

/// What an inner node knows of one child.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// The last key below.
    pub last: Datom,
    /// The identity of the child.
    pub id: NodeId,
    /// How many datoms lie below.
    pub count: u64,
    /// Where the child lies: a hint, no part of identity.
    pub location: Location,
}

/// An inner node. Its children are leaves if `level` is 1, else inner nodes one level below.
#[derive(Clone, Debug, PartialEq)]
pub struct Inner {
    level: u8,
    last_keys: Leaf,
    ids: Vec<NodeId>,
    counts: Vec<u64>,
    locations: Vec<Location>,
}

impl Inner {
    /// The greatest level: a tree of the smallest fan-out that is this high would not fit on any disk.
    pub const LEVEL_MAX: u8 = 16;
    /// Most children.
    pub const CHILDREN_MAX: usize = 65_536;

    /// Puts children together, in this order.
    ///
    /// In an order whose keys have no `tx`, the last keys lose `tx` and `added`: the same facts must give
    /// the same inner nodes, whichever transactions said them.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if there is no child, or the level, a count or the number of children is out of
    /// bounds.
    pub fn try_new(
        order: TreeOrder,
        level: u8,
        children: impl IntoIterator<Item = Child>,
    ) -> Result<Self> {
        let children = children.into_iter();
        let rows = children.size_hint().0;
        let mut last_keys = Leaf::builder(rows);
        let (mut ids, mut counts, mut locations) = (
            Vec::with_capacity(rows),
            Vec::with_capacity(rows),
            Vec::with_capacity(rows),
        );
        for child in children {
            if order.keys_tx {
                last_keys.push(&child.last);
            } else {
                last_keys.push(&Datom {
                    tx: TxId(Entid(0)),
                    added: true,
                    ..child.last
                });
            }
            ids.push(child.id);
            counts.push(child.count);
            locations.push(child.location);
        }
        Self::from_parts(level, last_keys.finish(), ids, counts, locations).map_err(Error::invalid)
    }

    /// Puts columns together and checks what can be checked without the children.
    pub(super) fn from_parts(
        level: u8,
        last_keys: Leaf,
        ids: Vec<NodeId>,
        counts: Vec<u64>,
        locations: Vec<Location>,
    ) -> Result<Self, &'static str> {
        if level == 0 || level > Self::LEVEL_MAX {
            return Err("the level of an inner node is out of bounds");
        }
        if ids.is_empty() || ids.len() > Self::CHILDREN_MAX {
            return Err("the number of children of an inner node is out of bounds");
        }
        if [last_keys.len(), counts.len(), locations.len()] != [ids.len(); 3] {
            return Err("the columns of an inner node differ in length");
        }
        let total = counts
            .iter()
            .try_fold(0u64, |sum, &count| sum.checked_add(count));
        if counts.contains(&0) || total.is_none_or(|total| total > i64::MAX as u64) {
            return Err("a count of an inner node is out of bounds");
        }
        Ok(Self {
            level,
            last_keys,
            ids,
            counts,
            locations,
        })
    }

    /// The same node, its children elsewhere.
    pub fn with_locations(self, locations: Vec<Location>) -> Self {
        debug_assert_eq!(locations.len(), self.ids.len());
        Self { locations, ..self }
    }

    /// Height above the leaves; 1 if the children are leaves.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// How many children; at least one.
    #[allow(clippy::len_without_is_empty, reason = "an inner node is never empty")]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// The last key below each child, as rows. In trees of current facts `tx` is 0.
    pub fn last_keys(&self) -> &Leaf {
        &self.last_keys
    }

    /// The identities of the children.
    pub fn ids(&self) -> &[NodeId] {
        &self.ids
    }

    /// How many datoms lie below each child.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Where the children lie.
    pub fn locations(&self) -> &[Location] {
        &self.locations
    }

    /// How many datoms lie below.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Child `i`.
    ///
    /// # Panics
    ///
    /// If `i` is out of range.
    pub fn child(&self, i: usize) -> Child {
        Child {
            last: self.last_keys.datom(i),
            id: self.ids[i],
            count: self.counts[i],
            location: self.locations[i],
        }
    }

    /// The children, in order.
    #[cfg(feature = "query")]
    pub fn children(&self) -> impl DoubleEndedIterator<Item = Child> + ExactSizeIterator {
        (0..self.len()).map(|i| self.child(i))
    }

    /// The child that holds `key`, or would: the first whose last key is not before it. `len()` if `key`
    /// lies behind everything.
    pub fn position(&self, order: TreeOrder, key: &Datom) -> usize {
        self.last_keys.lower_bound(order, key)
    }

    /// The children that may hold datoms of a range.
    ///
    /// All but the first and the last of them lie wholly inside. In trees of current facts a bound on
    /// `tx` cannot be seen from here and does not narrow the result.
    pub fn range(&self, order: TreeOrder, range: &index::Range) -> Range<usize> {
        let with_tx = order.keys_tx || order.index == Index::Log;
        let widened = |edge: &index::Edge| {
            let mut edge = edge.clone();
            if !with_tx && edge.at.tx.take().is_some() {
                edge.inclusive = true;
            }
            edge
        };
        let range = index::Range {
            from: range.from.as_ref().map(widened),
            to: range.to.as_ref().map(widened),
        };
        let located = |i| self.last_keys.locate(i, order.index, &range);
        let start = partition_point(0..self.len(), |i| located(i).is_lt());
        // The first child whose last key lies behind the range may begin inside it.
        let behind = partition_point(start..self.len(), |i| !located(i).is_gt());
        start..(behind + 1).min(self.len()).max(start)
    }

    /// Bytes of memory held, approximately.
    pub fn memory_bytes(&self) -> usize {
        let child = NodeId::LEN + size_of::<u64>() + size_of::<Location>();
        self.last_keys.memory_bytes() + self.len() * child + size_of::<Self>()
    }
}
