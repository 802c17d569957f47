//! Streams of leaves in key order, forward and backward.
//!
//! A scan descends lazily: nothing is read before the first leaf is asked for, and a scan of one key reads
//! one node a level. The longer it goes on, the more leaves it asks for at once (1, 2, 4 … 16), which the
//! store turns into few large reads.

use std::collections::VecDeque;
use std::ops;
use std::sync::Arc;

use futures::Stream;
use futures::stream;

use super::{InnerNode, Root, Tree};
use crate::error::Result;
use crate::index::{Range, TreeOrder};
use crate::node::{Leaf, Loader};

/// Leaves that one request may ask for.
const AHEAD_MAX: usize = 16;

/// Which end of the range comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ascending keys.
    Forward,
    /// Descending keys: the last leaf first. Rows within a leaf still ascend; read them from the end.
    Backward,
}

/// The rows of one leaf that lie in the scanned range; never empty.
#[derive(Clone, Debug)]
pub struct LeafSlice {
    /// The leaf.
    pub leaf: Arc<Leaf>,
    /// Rows of it.
    pub rows: ops::Range<usize>,
}

/// Streams the leaves of a range in order.
///
/// # Errors
///
/// [`Error::Corrupt`](crate::error::Error::Corrupt), [`Error::Store`](crate::error::Error::Store).
pub fn scan<'l>(
    loader: &'l Loader,
    tree: &Tree,
    range: Range,
    direction: Direction,
) -> impl Stream<Item = Result<LeafSlice>> + Send + 'l {
    let scan = Scan::new(tree, range, direction);
    stream::try_unfold(scan, move |mut scan| async move {
        Ok(scan.next(loader).await?.map(|slice| (slice, scan)))
    })
}

/// A scan in progress; what [`scan`] does, for callers that keep their own loader.
#[derive(Debug)]
pub struct Scan {
    order: TreeOrder,
    range: Range,
    direction: Direction,
    root: Option<Root>,
    path: Vec<Frame>,
    ready: VecDeque<Arc<Leaf>>,
    ahead: usize,
}

/// An inner node and those of its children that are still to be visited.
#[derive(Debug)]
struct Frame {
    node: InnerNode,
    rest: ops::Range<usize>,
}

impl Scan {
    /// A scan of `range` that has read nothing yet.
    pub fn new(tree: &Tree, range: Range, direction: Direction) -> Self {
        Self {
            order: tree.name.order(),
            range,
            direction,
            root: tree.root,
            path: Vec::new(),
            ready: VecDeque::new(),
            ahead: 1,
        }
    }

    /// The next leaf that holds datoms of the range.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`](crate::error::Error::Corrupt), [`Error::Store`](crate::error::Error::Store).
    pub async fn next(&mut self, loader: &Loader) -> Result<Option<LeafSlice>> {
        loop {
            while let Some(leaf) = self.ready.pop_front() {
                let rows = leaf.range(self.order.index, &self.range);
                if !rows.is_empty() {
                    return Ok(Some(LeafSlice { leaf, rows }));
                }
            }
            if let Some(root) = self.root.take() {
                self.enter(loader, root).await?;
                continue;
            }
            let Some(frame) = self.path.last_mut() else {
                return Ok(None);
            };
            if frame.rest.is_empty() {
                self.path.pop();
            } else if frame.node.level() == 1 {
                let some = frame.take(self.direction, self.ahead);
                let leaves: Vec<Root> = some.map(|i| frame.node.place(i)).collect();
                self.ahead = (2 * self.ahead).min(AHEAD_MAX);
                self.ready
                    .extend(super::load_leaves(loader, &leaves).await?);
                if self.direction == Direction::Backward {
                    self.ready.make_contiguous().reverse();
                }
            } else {
                let child = frame.take(self.direction, 1).start;
                let child = frame.node.place(child);
                self.enter(loader, child).await?;
            }
        }
    }

    async fn enter(&mut self, loader: &Loader, place: Root) -> Result<()> {
        if place.level == 0 {
            self.ready
                .extend(super::load_leaves(loader, &[place]).await?);
        } else {
            let node = InnerNode::load(loader, &place).await?;
            let rest = node.range(self.order, &self.range);
            self.path.push(Frame { node, rest });
        }
        Ok(())
    }
}

impl Frame {
    /// Takes up to `len` of the children still to be visited from the end that comes first.
    fn take(&mut self, direction: Direction, len: usize) -> ops::Range<usize> {
        let len = len.min(self.rest.len());
        match direction {
            Direction::Forward => {
                let taken = self.rest.start..self.rest.start + len;
                self.rest.start = taken.end;
                taken
            }
            Direction::Backward => {
                let taken = self.rest.end - len..self.rest.end;
                self.rest.end = taken.start;
                taken
            }
        }
    }
}
