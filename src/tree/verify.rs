//! Every invariant of a tree, checked by reading all of it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::boundary::{InnerCutter, LeafCutter, Limits};
use super::{InnerNode, Root, Tree, leaf_of};
use crate::datom::Datom;
use crate::error::{Error, Result};
use crate::id::{NodeId, PackId};
use crate::index::TreeOrder;
use crate::node::{Leaf, Loader, Node, encode};

/// Children that one request may ask for.
const AHEAD: usize = 16;

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Nodes read.
    pub nodes: u64,
    /// Datoms read.
    pub datoms: u64,
    /// Bytes of the frames of the nodes.
    pub bytes: u64,
    /// The packs where the nodes lie.
    pub packs: BTreeSet<PackId>,
    /// The first thing that is wrong, in key order; nothing behind it was read.
    pub fault: Option<Fault>,
    /// The pack that is not there, if that is the fault: garbage collection may have removed it since.
    pub missing: Option<String>,
}

/// Something that is wrong with a tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// The node.
    pub node: NodeId,
    /// The first key that is wrong, or the last one that is right, if there is one.
    pub key: Option<Datom>,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (node {}", self.reason, self.node)?;
        if let Some(key) = &self.key {
            write!(f, ", at {key}")?;
        }
        f.write_str(")")
    }
}

/// Reads a whole tree and checks every invariant named in [`tree`](super).
///
/// Damage, also a node that cannot be decoded, is reported as a [`Fault`].
///
/// # Errors
///
/// [`Error::Store`] and what else is no fault of the tree.
pub async fn verify(loader: &Loader, tree: &Tree) -> Result<Report> {
    verify_watched(loader, tree, &mut |_| ()).await
}

/// [`verify`], showing each leaf that was found right.
///
/// # Errors
///
/// As [`verify`].
pub async fn verify_watched(
    loader: &Loader,
    tree: &Tree,
    watch: &mut (dyn FnMut(&Leaf) + Send),
) -> Result<Report> {
    verify_within(loader, tree, Limits::of(tree.name), watch).await
}

/// [`verify_watched`] of a tree that was built with these limits.
pub(crate) async fn verify_within(
    loader: &Loader,
    tree: &Tree,
    limits: Limits,
    watch: &mut (dyn FnMut(&Leaf) + Send),
) -> Result<Report> {
    let Some(root) = tree.root else {
        return Ok(Report::default());
    };
    let mut walk = Walk {
        order: tree.name.order(),
        leaves: LeafCutter::new(tree.name, limits),
        inner: (1..=root.level.min(Tree::LEVEL_MAX))
            .map(|level| InnerCutter::new(tree.name, level, limits))
            .collect(),
        last: None,
        started: false,
        report: Report::default(),
        watch,
    };
    match walk.run(loader, root).await {
        Ok(()) => {}
        Err(Stop::Missing(node, what)) => {
            walk.report.missing = Some(what.clone());
            walk.report.fault = Some(Fault {
                node,
                key: walk.last,
                reason: what,
            });
        }
        Err(Stop::Fault(node, reason)) => {
            walk.report.fault = Some(Fault {
                node,
                key: walk.last,
                reason,
            });
        }
        Err(Stop::Error(error)) => return Err(error),
    }
    Ok(walk.report)
}

/// Why a walk ends early.
enum Stop {
    Fault(NodeId, String),
    Missing(NodeId, String),
    Error(Error),
}

struct Walk<'p> {
    order: TreeOrder,
    leaves: LeafCutter,
    /// By level, from 1.
    inner: Vec<InnerCutter>,
    /// The last datom that was found right, or the one that is wrong.
    last: Option<Datom>,
    /// Whether a leaf has been read.
    started: bool,
    report: Report,
    watch: &'p mut (dyn FnMut(&Leaf) + Send),
}

/// An open inner node and which of its children comes next.
struct Frame {
    id: NodeId,
    node: InnerNode,
    at: usize,
    /// Whether this is the first node of its level.
    first: bool,
}

impl Frame {
    /// Reads the next children together into the cache. If that fails, the walk finds out where.
    async fn read_ahead(&self, loader: &Loader) {
        let end = self.node.len().min(self.at + AHEAD);
        let wanted: Vec<_> = (self.at..end)
            .map(|i| self.node.place(i))
            .map(|place| (place.id, place.location))
            .collect();
        let _ = loader.load_many(&wanted).await;
    }
}

impl Walk<'_> {
    async fn run(&mut self, loader: &Loader, root: Root) -> Result<(), Stop> {
        let mut path: Vec<Frame> = Vec::new();
        let mut next = Some(root);
        loop {
            if let Some(place) = next.take() {
                let node = self.load(loader, &place).await?;
                if place.level == 0 {
                    let leaf = leaf_of(&node, &place).map_err(|error| refused(place.id, error))?;
                    self.leaf(place.id, &leaf)?;
                } else {
                    let node = InnerNode::try_new(node, &place)
                        .map_err(|error| refused(place.id, error))?;
                    if path.is_empty() && node.len() < 2 {
                        return fault(place.id, "the root is not the lowest level with one node");
                    }
                    path.push(Frame {
                        id: place.id,
                        node,
                        at: 0,
                        first: !self.started,
                    });
                }
            }
            let Some(frame) = path.last_mut() else {
                return Ok(());
            };
            if frame.at > 0 {
                self.child(frame)?;
            }
            if frame.at < frame.node.len() {
                if frame.at.is_multiple_of(AHEAD) {
                    frame.read_ahead(loader).await;
                }
                next = Some(frame.node.place(frame.at));
                frame.at += 1;
            } else {
                path.pop();
            }
        }
    }

    /// Checks what a node says of the child that has just been read to its end.
    fn child(&mut self, frame: &Frame) -> Result<(), Stop> {
        let (keys, at) = (frame.node.last_keys(), frame.at - 1);
        if self
            .last
            .as_ref()
            .is_none_or(|last| keys.compare(at, self.order, last).is_ne())
        {
            return fault(frame.id, "the key of a child is not the last key below it");
        }
        let cutter = &mut self.inner[usize::from(frame.node.level()) - 1];
        let cut = cutter.push(&frame.node.child(at));
        if cut != (at == 0 && !frame.first) {
            return fault(frame.id, boundary_fault(cut));
        }
        Ok(())
    }

    async fn load(&mut self, loader: &Loader, place: &Root) -> Result<Arc<Node>, Stop> {
        let node = loader
            .load(place.id, place.location)
            .await
            .map_err(|error| refused(place.id, error))?;
        self.report.nodes += 1;
        self.report.bytes += u64::from(place.location.len);
        self.report.packs.insert(place.location.pack);
        if encode(&node).id != place.id {
            return fault(place.id, "the node is not in canonical form");
        }
        Ok(node)
    }

    fn leaf(&mut self, id: NodeId, leaf: &Leaf) -> Result<(), Stop> {
        if leaf.is_empty() {
            return fault(id, "a leaf is empty");
        }
        for i in 0..leaf.len() {
            let ascends = if i == 0 {
                let last = self.last.as_ref();
                last.is_none_or(|last| leaf.compare(0, self.order, last).is_gt())
            } else {
                leaf.compare_with(i - 1, self.order, leaf, i).is_lt()
            };
            let cut = self.leaves.push_row(leaf, i);
            let wrong = if !ascends {
                Some("datoms do not ascend")
            } else if cut != (i == 0 && self.started) {
                Some(boundary_fault(cut))
            } else {
                None
            };
            if let Some(reason) = wrong {
                self.last = Some(leaf.datom(i));
                return fault(id, reason);
            }
            self.started = true;
        }
        self.report.datoms += leaf.len() as u64;
        (self.watch)(leaf);
        self.last = Some(leaf.datom(leaf.len() - 1));
        Ok(())
    }
}

fn boundary_fault(cut: bool) -> &'static str {
    if cut {
        "a node should have ended before this key"
    } else {
        "a node ended too early before this key"
    }
}

fn fault<T>(node: NodeId, reason: &str) -> Result<T, Stop> {
    Err(Stop::Fault(node, reason.to_owned()))
}

/// What is said of the bytes is a fault of the tree, and so is a pack that is not there; everything else is an
/// error.
fn refused(node: NodeId, error: Error) -> Stop {
    match error {
        Error::Corrupt { reason, .. } => Stop::Fault(node, reason),
        Error::SnapshotExpired(what) => Stop::Missing(node, what),
        error => Stop::Error(error),
    }
}
