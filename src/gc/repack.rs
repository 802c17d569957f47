//! Repacking: what lives in half-dead packs is copied, and all that leads to it is told the new places.
//!
//! Where children lie is no part of a node's identity, so copies keep their hashes, and so do the nodes
//! above them, up to the roots. Only the tree of commits changes, because its records name roots. Every
//! head then is swapped once more, with a new epoch, also those of branches that were made meanwhile; what
//! lay in the old packs is dead then, for whoever opens a branch from now on.
//!
//! So no index of places is needed, and no reader ever follows a stale one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::mark::Reachable;
use super::retention::{checkpointed, replaced};
use super::{Line, ROUNDS_MAX, Run, busy, leaf_of, read_head, tail_bodies};
use crate::conn::node_writer;
use crate::db::Db;
use crate::db::commit::{Checkpoint, CommitRecord};
use crate::db::head::Head;
use crate::error::Result;
use crate::id::{BranchName, Location, NodeId, PackId};
use crate::node::{Loader, Node, NodeWriter};
use crate::tree::{self, Root, Tree};

/// Copies what lives in `going` and swaps every head; after this nothing reaches these packs but those that
/// are returned, which a tail has come to name.
pub(super) async fn repack(
    run: &Run<'_>,
    reachable: &Reachable,
    going: &HashSet<PackId>,
) -> Result<HashSet<PackId>> {
    let mut moved = Moved {
        reachable,
        going,
        to: HashMap::new(),
        written: HashMap::new(),
        named: HashSet::new(),
    };
    let mut done: HashSet<BranchName> = HashSet::new();
    loop {
        let listed = run.store.list_branches().await?;
        let known = run.lines.keys().cloned();
        let mut open: BTreeSet<BranchName> = known.chain(listed).collect();
        open.retain(|branch| !done.contains(branch));
        // A branch that was made of an old head before that was swapped is in the next listing.
        if open.is_empty() {
            return Ok(moved.named);
        }
        for branch in open {
            moved.branch(run, &branch).await?;
            done.insert(branch);
        }
    }
}

/// What has been moved.
struct Moved<'a> {
    reachable: &'a Reachable,
    going: &'a HashSet<PackId>,
    /// Where what lay at a place lies now, be it the same place.
    to: HashMap<Location, Location>,
    /// Nodes that have been copied; one copy serves all.
    written: HashMap<NodeId, Location>,
    /// Packs that the tail of a head names; nobody copies these bodies.
    named: HashSet<PackId>,
}

/// What copying takes.
struct Hands<'a> {
    loader: &'a Loader,
    writer: NodeWriter,
}

impl Moved<'_> {
    /// Swaps the head of a branch for one that reaches nothing in the packs that go.
    async fn branch(&mut self, run: &Run<'_>, branch: &BranchName) -> Result<()> {
        for _ in 0..ROUNDS_MAX {
            let Some((head, version)) = read_head(run.store, branch).await? else {
                return Ok(());
            };
            if head.gc_epoch != run.epoch {
                if run.lines.contains_key(branch) {
                    return Err(run.fenced(branch, &head));
                }
                // Made of a head that this repacking has swapped, or of none that the run has: if it needs
                // what goes, the next run finds that alive.
                return Ok(());
            }
            let deleted = head.deleted;
            let head = Head {
                deleted: None,
                ..head
            };
            let db = Db::from_head(Arc::clone(&run.loader), head).await?;
            let mut line = Line {
                head: Head {
                    deleted,
                    ..self.head(run, &db).await?
                },
                version,
                kept: Vec::new(),
            };
            line.head.gc_epoch = run.epoch + 1;
            if run.put(branch, &mut line).await? {
                return Ok(());
            }
        }
        Err(busy(branch))
    }

    /// A head whose trees reach nothing in the packs that go.
    async fn head(&mut self, run: &Run<'_>, db: &Db) -> Result<Head> {
        let mut head = Head::clone(&db.0.head);
        let packs = tail_bodies(&head).into_iter().map(|place| place.pack);
        self.named
            .extend(packs.filter(|pack| self.going.contains(pack)));
        let mut hands = Hands {
            loader: db.loader(),
            writer: node_writer(db.loader(), &run.environment),
        };
        head.checkpoint = self.checkpoint(&mut hands, &head.checkpoint).await?;
        let mut changes = Vec::new();
        for (datom, record) in checkpointed(db).await? {
            let Some(old) = &record.checkpoint else {
                continue;
            };
            let checkpoint = self.checkpoint(&mut hands, old).await?;
            if checkpoint != *old {
                let record = CommitRecord {
                    checkpoint: Some(checkpoint),
                    ..record
                };
                changes.extend(replaced(datom, &record));
            }
        }
        head.commits = self.tree(&mut hands, head.commits).await?;
        // What was copied must be in the store before the edit reads it, through a loader that has read
        // nothing: the other one knows nodes by identity, with their children where those lay.
        hands.writer.finish().await?;
        let fresh = Arc::new(Loader::new(run.store.clone()));
        let mut writer = node_writer(&fresh, &run.environment);
        head.commits = tree::edit(&fresh, &mut writer, &head.commits, &changes)
            .await?
            .tree;
        writer.finish().await?;
        Ok(head)
    }

    async fn checkpoint(&mut self, hands: &mut Hands<'_>, old: &Checkpoint) -> Result<Checkpoint> {
        let mut new = old.clone();
        for tree in &mut new.trees {
            *tree = self.tree(hands, *tree).await?;
        }
        if let Some((id, location)) = &mut new.schema {
            let root = Root {
                id: *id,
                location: *location,
                level: 0,
                count: 0,
            };
            *location = self.node(hands, root).await?;
        }
        Ok(new)
    }

    async fn tree(&mut self, hands: &mut Hands<'_>, tree: Tree) -> Result<Tree> {
        let Some(root) = tree.root else {
            return Ok(tree);
        };
        let location = self.node(hands, root).await?;
        Ok(Tree {
            root: Some(Root { location, ..root }),
            ..tree
        })
    }

    /// Moves a node and what is below it, as far as it must; says where it lies then.
    fn node<'f>(
        &'f mut self,
        hands: &'f mut Hands<'_>,
        root: Root,
    ) -> BoxFuture<'f, Result<Location>> {
        async move {
            if let Some(to) = self.to.get(&root.location) {
                return Ok(*to);
            }
            let goes = self.going.contains(&root.location.pack);
            let to = if root.level == 0 {
                self.leaf(hands, root, goes).await?
            } else {
                self.inner(hands, root, goes).await?
            };
            self.to.insert(root.location, to);
            Ok(to)
        }
        .boxed()
    }

    async fn leaf(&mut self, hands: &mut Hands<'_>, root: Root, goes: bool) -> Result<Location> {
        let going = self.going;
        // Of a leaf that a writer wrote after the marking, nothing is known yet.
        let bodies_stay = self
            .reachable
            .bodies_of(root.location)
            .is_some_and(|packs| !packs.iter().any(|pack| going.contains(pack)));
        if !goes && bodies_stay {
            return Ok(root.location);
        }
        if let Some(to) = self.written.get(&root.id) {
            return Ok(*to);
        }
        let leaf = leaf_of(load(hands.loader, &root).await?, &root)?;
        let stays = |place: Option<Location>| place.is_none_or(|at| !going.contains(&at.pack));
        if !goes && leaf.larges().iter().all(|large| stays(large.location)) {
            return Ok(root.location);
        }
        let (_, to) = hands
            .writer
            .copy(&leaf, hands.loader, |large| {
                large.location.filter(|at| !going.contains(&at.pack))
            })
            .await?;
        self.written.insert(root.id, to);
        Ok(to)
    }

    async fn inner(&mut self, hands: &mut Hands<'_>, root: Root, goes: bool) -> Result<Location> {
        let node = load(hands.loader, &root).await?;
        let mut locations = Vec::new();
        let mut stays = !goes;
        for child in root.children(&node)? {
            let to = self.node(hands, child).await?;
            stays &= to == child.location;
            locations.push(to);
        }
        if stays {
            return Ok(root.location);
        }
        if let Some(to) = self.written.get(&root.id) {
            return Ok(*to);
        }
        let Node::Inner(inner) = node else {
            unreachable!("the level was compared when its children were listed")
        };
        let inner = Node::Inner(inner.with_locations(locations));
        let (_, to) = hands.writer.write(inner).await?;
        self.written.insert(root.id, to);
        Ok(to)
    }
}

/// Reads a node from this very place.
async fn load(loader: &Loader, root: &Root) -> Result<Node> {
    let mut nodes = loader.load_here(&[(root.id, root.location)]).await?;
    Ok(nodes.pop().expect("as many nodes come as were asked for"))
}
