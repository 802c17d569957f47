//! Streams of leaves in key order, forward and backward, read ahead along the frontier.
//!
//! A scan knows which nodes of its range it has still to visit. It reads them a *window* at a time: the next
//! leaves, and in the same request the inner nodes that lead to the window after it. The first window is one
//! leaf, each next one twice as large, so that a scan of one key reads one node a level, a long one waits for
//! its store a few times only, and one that is dropped early has read little more than it gave.
//!
//! ```text
//!                 ┌─ root
//!   level 2       │  (read)                              frontier, in the order of the visit:
//!   level 1       │  (read)  (read)  [ 3 | 4 | 5 ]         leaves of 2, then below 3, 4, 5
//!   level 0       └  given … ready … [ leaves of 2 ]
//! ```
//!
//! **Invariant.** What is still to be visited is the leaves of the frontier, then what lies below its nodes of
//! level 1, then of level 2, and so on: only the first of a level are taken, and what they lead to goes behind
//! the rest of the level below.
//!
//! **Invariant.** A window is at most [`AHEAD_DATOMS_MAX`] datoms, [`AHEAD_BYTES_MAX`] bytes of frames and
//! [`AHEAD_NODES_MAX`] nodes, unless one leaf alone exceeds that.

use std::collections::VecDeque;
use std::ops;
use std::sync::Arc;

use futures::Stream;
use futures::stream;

use super::{InnerNode, Root, Tree};
use crate::error::Result;
use crate::index::{Range, TreeOrder};
use crate::node::{Leaf, Loader, Node};

/// Datoms of the leaves that are asked for together: some 8 MiB once they are decoded.
const AHEAD_DATOMS_MAX: u64 = 1 << 18;
/// Bytes of the frames that are asked for together.
const AHEAD_BYTES_MAX: u64 = 4 << 20;
/// Nodes that are asked for together.
const AHEAD_NODES_MAX: usize = 512;

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
    /// The nodes still to be visited, by level, each level in the order of the visit.
    frontier: Vec<VecDeque<Root>>,
    ready: VecDeque<Arc<Leaf>>,
    /// Datoms of the next window; 0 is one leaf and nothing beside it.
    ahead: u64,
}

impl Scan {
    /// A scan of `range` that has read nothing yet.
    pub fn new(tree: &Tree, range: Range, direction: Direction) -> Self {
        let mut frontier = Vec::new();
        if let Some(root) = tree.root {
            frontier.resize(usize::from(root.level), VecDeque::new());
            frontier.push(VecDeque::from([root]));
        }
        Self {
            order: tree.name.order(),
            range,
            direction,
            frontier,
            ready: VecDeque::new(),
            ahead: 0,
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
            let window = self.window();
            match &window[..] {
                [] => return Ok(None),
                [only] => {
                    let node = loader.load(only.id, only.location).await?;
                    self.visit(node, only)?;
                    continue;
                }
                _ => {}
            }
            let wanted: Vec<_> = window.iter().map(|at| (at.id, at.location)).collect();
            for (node, place) in loader.load_many(&wanted).await?.into_iter().zip(&window) {
                self.visit(node, place)?;
            }
        }
    }

    /// Takes the nodes out of the frontier that are to be read together.
    fn window(&mut self) -> Vec<Root> {
        let Some((leaves, inner)) = self.frontier.split_first_mut() else {
            return Vec::new();
        };
        let mut window = Window::default();
        let mut datoms: u64 = 0;
        while let Some(leaf) = leaves.front()
            && (window.nodes.is_empty() || datoms.saturating_add(leaf.count) <= self.ahead)
            && window.has_room(leaf)
        {
            datoms = datoms.saturating_add(leaf.count);
            window.take(leaves);
        }
        // How many datoms must lie before the level above, so that the next window finds its leaves.
        let enough = match (datoms, self.ahead) {
            (0, ahead) => ahead.max(1),
            // Whoever wants one leaf pays for nothing beside it.
            (_, 0) => 0,
            (_, ahead) => 2 * ahead,
        };
        if datoms > 0 {
            let grown = self.ahead.max(datoms).saturating_mul(2);
            self.ahead = grown.min(AHEAD_DATOMS_MAX);
        }
        let mut before: u64 = leaves.iter().map(|leaf| leaf.count).sum();
        for level in inner {
            while let Some(node) = level.front()
                && before < enough
                && window.has_room(node)
            {
                before = before.saturating_add(node.count);
                window.take(level);
            }
            let rest = level.iter().map(|node| node.count);
            before = rest.fold(before, u64::saturating_add);
        }
        window.nodes
    }

    /// Takes in a node that has been read: a leaf is ready, an inner node widens the frontier below it.
    fn visit(&mut self, node: Arc<Node>, place: &Root) -> Result<()> {
        if place.level == 0 {
            self.ready.push_back(super::leaf_of(&node, place)?);
            return Ok(());
        }
        let node = InnerNode::try_new(node, place)?;
        let children = node.range(self.order, &self.range);
        let below = &mut self.frontier[usize::from(place.level) - 1];
        match self.direction {
            Direction::Forward => below.extend(children.map(|i| node.place(i))),
            Direction::Backward => below.extend(children.rev().map(|i| node.place(i))),
        }
        Ok(())
    }
}

/// Nodes to be read together, leaves first.
#[derive(Default)]
struct Window {
    nodes: Vec<Root>,
    /// Bytes of their frames.
    bytes: u64,
}

impl Window {
    /// Whether this node may be read with the others; the first always may.
    fn has_room(&self, node: &Root) -> bool {
        let bytes = self.bytes + u64::from(node.location.len);
        self.nodes.is_empty() || (self.nodes.len() < AHEAD_NODES_MAX && bytes <= AHEAD_BYTES_MAX)
    }

    fn take(&mut self, level: &mut VecDeque<Root>) {
        if let Some(node) = level.pop_front() {
            self.bytes += u64::from(node.location.len);
            self.nodes.push(node);
        }
    }
}
