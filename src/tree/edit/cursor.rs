//! A place among the nodes of one level, with the path that leads there.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Keyed;
use crate::datom::Datom;
use crate::error::Result;
use crate::index::TreeOrder;
use crate::node::{Loader, Node};
use crate::tree::{InnerNode, Root};

/// Nodes that one request may ask for.
const AHEAD_MAX: usize = 16;

/// Walks the nodes of one level from left to right, reading the inner nodes above them.
pub(super) struct Cursor<'a> {
    loader: &'a Loader,
    order: TreeOrder,
    root: Root,
    level: u8,
    /// From the root to the level above; empty before the first move and if the level is the root's.
    path: Vec<Frame>,
}

/// An inner node on the path, and which of its children the path takes.
struct Frame {
    node: InnerNode,
    at: usize,
    /// Children that were read together with an earlier one, in order.
    ahead: VecDeque<(usize, Arc<Node>)>,
}

impl<'a> Cursor<'a> {
    /// A cursor over the nodes of `level`; it stands nowhere until it is moved.
    pub(super) fn new(loader: &'a Loader, order: TreeOrder, root: Root, level: u8) -> Self {
        Self {
            loader,
            order,
            root,
            level,
            path: Vec::new(),
        }
    }

    /// Moves to the node that holds the first of `changes`, or would; behind everything that is the last.
    ///
    /// The changes behind the first one say what will be wanted next: it is read in the same request.
    pub(super) async fn seek(&mut self, changes: &[impl Keyed]) -> Result<()> {
        let Some(first) = changes.first() else {
            return Ok(());
        };
        let mut depth = 0;
        while self.frame_level(depth) > self.level {
            if depth == self.path.len() {
                self.descend(0).await?;
            }
            let frame = &mut self.path[depth];
            let at = frame
                .node
                .position(self.order, first.key())
                .min(frame.node.len() - 1);
            if at != frame.at {
                frame.at = at;
                self.path.truncate(depth + 1);
            }
            self.read_ahead(depth, changes).await?;
            depth += 1;
        }
        Ok(())
    }

    /// Moves to the first node.
    pub(super) async fn start(&mut self) -> Result<()> {
        self.path.clear();
        while self.frame_level(self.path.len()) > self.level {
            self.descend(0).await?;
        }
        Ok(())
    }

    /// Moves to the following node; `false` if there is none.
    pub(super) async fn next(&mut self) -> Result<bool> {
        let Some(depth) = self
            .path
            .iter()
            .rposition(|frame| frame.at + 1 < frame.node.len())
        else {
            return Ok(false);
        };
        self.path.truncate(depth + 1);
        self.path[depth].at += 1;
        while self.frame_level(self.path.len()) > self.level {
            self.descend(0).await?;
        }
        Ok(true)
    }

    /// Moves to the preceding node, if there is one.
    pub(super) async fn back(&mut self) -> Result<()> {
        let Some(depth) = self.path.iter().rposition(|frame| frame.at > 0) else {
            return Ok(());
        };
        self.path.truncate(depth + 1);
        self.path[depth].at -= 1;
        while self.frame_level(self.path.len()) > self.level {
            self.descend(usize::MAX).await?;
        }
        Ok(())
    }

    /// Where the node lies.
    pub(super) fn place(&self) -> Root {
        self.path
            .last()
            .map_or(self.root, |frame| frame.node.place(frame.at))
    }

    /// The last key of the node, as its parent has it.
    ///
    /// # Panics
    ///
    /// If the level is the root's, which has no parent.
    pub(super) fn last(&self) -> Datom {
        let frame = self.path.last().expect("the level lies below the root");
        frame.node.last_keys().datom(frame.at)
    }

    /// The last key of the preceding node.
    pub(super) fn previous_last(&self) -> Option<Datom> {
        let frame = self.path.iter().rev().find(|frame| frame.at > 0)?;
        Some(frame.node.last_keys().datom(frame.at - 1))
    }

    /// Whether no node follows.
    pub(super) fn is_last(&self) -> bool {
        self.path
            .iter()
            .all(|frame| frame.at + 1 == frame.node.len())
    }

    /// Reads the node.
    pub(super) async fn load(&mut self) -> Result<Arc<Node>> {
        let place = self.place();
        if let Some(frame) = self.path.last_mut() {
            while frame.ahead.pop_front_if(|(i, _)| *i < frame.at).is_some() {}
            if let Some((_, node)) = frame.ahead.pop_front_if(|(i, _)| *i == frame.at) {
                return Ok(node);
            }
        }
        self.loader.load(place.id, place.location).await
    }

    /// The level of the node that the path would reach at this depth.
    fn frame_level(&self, depth: usize) -> u8 {
        depth
            .checked_sub(1)
            .map_or(self.root.level, |above| self.path[above].node.level() - 1)
    }

    /// Puts the inner node that the path leads to onto the path and takes its child `at`, or its last.
    async fn descend(&mut self, at: usize) -> Result<()> {
        let place = self.place();
        let node = InnerNode::try_new(self.load().await?, &place)?;
        let at = at.min(node.len() - 1);
        self.path.push(Frame {
            node,
            at,
            ahead: VecDeque::new(),
        });
        Ok(())
    }

    /// Reads the children that the next changes concern, if there are several.
    async fn read_ahead(&mut self, depth: usize, changes: &[impl Keyed]) -> Result<()> {
        let order = self.order;
        let frame = &mut self.path[depth];
        if !frame.ahead.is_empty() {
            return Ok(());
        }
        let keys = frame.node.last_keys();
        let mut wanted = Vec::new();
        let mut rest = changes;
        while let Some(change) = rest.first()
            && wanted.len() < AHEAD_MAX
        {
            let at = frame.node.position(order, change.key());
            if at == frame.node.len() {
                break;
            }
            wanted.push(at);
            let here = rest.partition_point(|later| keys.compare(at, order, later.key()).is_ge());
            rest = &rest[here.max(1)..];
        }
        if wanted.len() > 1 {
            let places: Vec<_> = wanted
                .iter()
                .map(|&i| (frame.node.ids()[i], frame.node.locations()[i]))
                .collect();
            let nodes = self.loader.load_many(&places).await?;
            frame.ahead = wanted.into_iter().zip(nodes).collect();
        }
        Ok(())
    }
}
