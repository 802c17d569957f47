//! Copying what one store's trees reach and the other's do not.
//!
//! ```text
//!   source   level 2 ─► level 1 ─► leaves     what is not there is read, a level of all trees at a time
//!              ?          ?          │
//!   target   the node of this level that covers the same key: the same hash ends the descent
//!                                    ▼
//!   packs    leaves, after the bodies they name ─► level 1 ─► level 2     hints say where things lie here
//! ```
//!
//! Trees are canonical, so a node that both have lies in both at the same level and covers the same keys:
//! it is found from the root, not by asking for every hash. Of the target only inner nodes are read, and
//! leaves of its log where a new leaf names the body of an old value.
//!
//! **Invariant.** A node is written after all that it leads to, and says where that lies in the target.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::note::{Note, packs_of};
use crate::datom::Datom;
use crate::db::Db;
use crate::db::commit::Checkpoint;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::gc::leaf_of;
use crate::id::{Location, NodeId, PackId};
use crate::index::TreeName;
use crate::node::{Inner, Leaf, Loader, Node, NodeWriter};
use crate::store::{FrameKind, read_footer};
use crate::tree::{self, Root, Tree};
use crate::value::{Large, Value};

/// Nodes that are asked for at once.
const TOGETHER: usize = 256;
/// What hints and headers may add to a frame or a body, in bytes.
const SLACK: u64 = 64;

/// What has travelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Travelled {
    pub(super) nodes: u64,
    pub(super) bodies: u64,
    pub(super) bytes: u64,
}

/// A copy under way.
pub(super) struct Copy<'a> {
    source: &'a Loader,
    target: Arc<Loader>,
    /// A value of the target that shares nodes with what is copied.
    base: Option<&'a Db>,
    pub(super) writer: NodeWriter,
    pack_bytes: u64,
    /// Says of this copy what must be known if it does not come to its end; named `id`, once it is written.
    note: Note,
    id: PackId,
    noted: bool,
    /// Copies that were taken up.
    resumed: Vec<PackId>,
    /// Where nodes lie in the target.
    placed: HashMap<NodeId, Location>,
    /// Where bodies lie in the target.
    bodies: HashMap<NodeId, Location>,
    told: Box<dyn FnMut(Travelled) + Send + 'a>,
    travelled: Travelled,
}

/// A node that may have to travel.
struct Wanted {
    /// The tree that it belongs to; none for the facts of a schema.
    tree: Option<TreeName>,
    place: Root,
    /// Whether the target was asked: for a root, its last key must be known before.
    asked: bool,
}

impl<'a> Copy<'a> {
    pub(super) fn new(
        (source, target): (&'a Loader, Arc<Loader>),
        base: Option<&'a Db>,
        note: Note,
        pack_bytes: u64,
        environment: &dyn Environment,
        told: impl FnMut(Travelled) + Send + 'a,
    ) -> Self {
        let id = PackId(environment.random());
        let mut names = packs_of(id);
        let new_pack = move || names.next().expect("there are 2^64 names");
        Self {
            source,
            writer: NodeWriter::new(Arc::clone(&target), Box::new(new_pack))
                .with_pack_bytes(pack_bytes),
            target,
            base,
            pack_bytes,
            note,
            id,
            noted: false,
            resumed: Vec::new(),
            placed: HashMap::new(),
            bodies: HashMap::new(),
            told: Box::new(told),
            travelled: Travelled::default(),
        }
    }

    /// Copies what these checkpoints reach; says them with the places of the target.
    pub(super) async fn checkpoints(&mut self, all: &[Checkpoint]) -> Result<Vec<Checkpoint>> {
        let (mut open, mut seen) = (BTreeMap::new(), HashSet::new());
        for checkpoint in all {
            self.open(checkpoint, &mut open, &mut seen);
        }
        let mut inners: Vec<(NodeId, Inner)> = Vec::new();
        let mut leaves = Vec::new();
        while let Some((level, wanted)) = open.pop_last() {
            if level == 0 {
                leaves = wanted;
            } else {
                for some in wanted.chunks(TOGETHER) {
                    self.descend(some, &mut open, &mut seen, &mut inners)
                        .await?;
                }
            }
        }
        leaves.retain(|leaf| !self.placed.contains_key(&leaf.place.id));
        let bytes: u64 = leaves
            .iter()
            .map(|leaf| u64::from(leaf.place.location.len))
            .sum();
        if bytes > self.pack_bytes {
            self.write_note().await?;
        }
        for some in leaves.chunks(TOGETHER) {
            self.leaves(some).await?;
        }
        // Those that were read last lie lowest.
        while let Some((id, inner)) = inners.pop() {
            self.inner(id, inner).await?;
        }
        all.iter()
            .map(|checkpoint| self.relocated(checkpoint))
            .collect()
    }

    /// Puts what has not been put; says the notes that are to go once the head is in place. `None` if one of them
    /// is gone: its week is over, or its copy came to its end, and nothing has kept its packs since.
    pub(super) async fn finish(self) -> Result<Option<Vec<PackId>>> {
        self.writer.finish().await?;
        let own = self.noted.then_some(self.id);
        let notes: Vec<PackId> = self.resumed.into_iter().chain(own).collect();
        if notes.is_empty() {
            return Ok(Some(notes));
        }
        let there = self.target.store().list_notes().await?;
        let stands = |note: &PackId| there.iter().any(|there| there.id == *note);
        Ok(notes.iter().all(stands).then_some(notes))
    }

    /// The roots of a checkpoint that the target does not have as roots.
    fn open(
        &mut self,
        checkpoint: &Checkpoint,
        open: &mut BTreeMap<u8, Vec<Wanted>>,
        seen: &mut HashSet<NodeId>,
    ) {
        let schema = checkpoint.schema.map(|(id, location)| {
            let (level, count) = (0, 0);
            (
                None,
                Root {
                    id,
                    location,
                    level,
                    count,
                },
            )
        });
        let trees = checkpoint.trees.iter();
        let roots = trees.filter_map(|tree| Some((Some(tree.name), tree.root?)));
        for (name, place) in roots.chain(schema) {
            let there = self.base.and_then(|base| match name {
                Some(name) => base
                    .0
                    .head
                    .checkpoint
                    .tree(name)
                    .root
                    .map(|r| (r.id, r.location)),
                None => base.0.head.checkpoint.schema,
            });
            if let Some((id, location)) = there
                && id == place.id
            {
                self.placed.insert(id, location);
            } else if seen.insert(place.id) {
                open.entry(place.level).or_default().push(Wanted {
                    tree: name,
                    place,
                    asked: name.is_none(),
                });
            }
        }
    }

    /// Reads inner nodes, and finds out which of their children have to be read as well.
    async fn descend(
        &mut self,
        some: &[Wanted],
        open: &mut BTreeMap<u8, Vec<Wanted>>,
        seen: &mut HashSet<NodeId>,
        inners: &mut Vec<(NodeId, Inner)>,
    ) -> Result<()> {
        let mut below: BTreeMap<TreeName, (Vec<Root>, Vec<Datom>)> = BTreeMap::new();
        for (wanted, node) in some.iter().zip(self.read(some).await?) {
            let children = wanted.place.children(&node)?;
            let (Node::Inner(inner), Some(name)) = (node, wanted.tree) else {
                return Err(Error::corrupt(
                    wanted.place.id,
                    "a leaf lies where an inner node should",
                ));
            };
            let last = inner.last_keys();
            if !wanted.asked
                && self
                    .has(name, wanted.place, last.datom(last.len() - 1))
                    .await?
            {
                continue;
            }
            let (places, keys) = below.entry(name).or_default();
            for (child, row) in children.into_iter().zip(0..) {
                if !seen.contains(&child.id) && !self.placed.contains_key(&child.id) {
                    places.push(child);
                    keys.push(last.datom(row));
                }
            }
            inners.push((wanted.place.id, inner));
        }
        for (name, (places, keys)) in below {
            let Some(level) = places.first().map(|place| place.level) else {
                continue;
            };
            for (place, there) in places.iter().zip(self.covering(name, level, &keys).await?) {
                match there.filter(|there| there.id == place.id) {
                    Some(there) => _ = self.placed.insert(place.id, there.location),
                    None if seen.insert(place.id) => open.entry(level).or_default().push(Wanted {
                        tree: Some(name),
                        place: *place,
                        asked: true,
                    }),
                    None => {}
                }
            }
        }
        Ok(())
    }

    async fn read(&mut self, some: &[Wanted]) -> Result<Vec<Node>> {
        let places = some
            .iter()
            .map(|wanted| (wanted.place.id, wanted.place.location));
        self.source.load_here(&places.collect::<Vec<_>>()).await
    }

    async fn covering(
        &mut self,
        name: TreeName,
        level: u8,
        keys: &[Datom],
    ) -> Result<Vec<Option<Root>>> {
        let tree = self
            .base
            .map_or(Tree::empty(name), |base| *base.0.head.checkpoint.tree(name));
        tree::covering(&self.target, &tree, level, keys).await
    }

    /// Whether the target has a node whose last key is known; then its place is, too.
    async fn has(&mut self, name: TreeName, place: Root, last: Datom) -> Result<bool> {
        let there = self.covering(name, place.level, &[last]).await?;
        let there = there
            .into_iter()
            .flatten()
            .find(|there| there.id == place.id);
        self.placed
            .extend(there.map(|there| (there.id, there.location)));
        Ok(there.is_some())
    }

    async fn leaves(&mut self, some: &[Wanted]) -> Result<()> {
        let mut some: Vec<&Wanted> = some.iter().collect();
        some.retain(|wanted| !self.placed.contains_key(&wanted.place.id));
        let places = some
            .iter()
            .map(|wanted| (wanted.place.id, wanted.place.location));
        let nodes = self.source.load_here(&places.collect::<Vec<_>>()).await?;
        for (wanted, node) in some.into_iter().zip(nodes) {
            if wanted.tree.is_some() {
                wanted.place.children(&node)?;
            }
            let leaf = leaf_of(node, &wanted.place)?;
            if let (false, Some(name), Some(row)) =
                (wanted.asked, wanted.tree, leaf.len().checked_sub(1))
                && self.has(name, wanted.place, leaf.datom(row)).await?
            {
                continue;
            }
            self.leaf(&wanted.place, &leaf).await?;
        }
        Ok(())
    }

    async fn leaf(&mut self, place: &Root, leaf: &Leaf) -> Result<()> {
        let frame = u64::from(place.location.len);
        let mut room = frame + SLACK;
        if !leaf.larges().is_empty() {
            self.find_bodies(leaf).await?;
            let new = |large: &&&Arc<Large>| !self.bodies.contains_key(&large.hash);
            let (larges, new) = (
                leaf.larges(),
                leaf.larges()
                    .iter()
                    .filter(new)
                    .map(|large| large.len + SLACK)
                    .sum::<u64>(),
            );
            room += new + SLACK * larges.len() as u64;
        }
        self.make_room(room).await?;
        if self.placed.contains_key(&place.id) {
            return Ok(());
        }
        let (bodies, before) = (&self.bodies, self.writer.written().bodies);
        let copied = self
            .writer
            .copy(leaf, self.source, |large| bodies.get(&large.hash).copied())
            .await?;
        self.travelled.bodies += self.writer.written().bodies - before;
        self.arrived(place.id, frame, copied)
    }

    async fn inner(&mut self, id: NodeId, inner: Inner) -> Result<()> {
        if self.placed.contains_key(&id) {
            return Ok(());
        }
        let places = inner
            .ids()
            .iter()
            .map(|child| self.placed.get(child).copied());
        let places = places.collect::<Option<Vec<_>>>();
        let places = places.ok_or_else(|| Error::corrupt(id, "it is its own descendant"))?;
        let frame = inner.memory_bytes() as u64;
        self.make_room(frame + SLACK).await?;
        let copied = self
            .writer
            .write(Node::Inner(inner.with_locations(places)))
            .await?;
        self.arrived(id, u64::from(copied.1.len), copied)
    }

    fn arrived(&mut self, id: NodeId, bytes: u64, copied: (NodeId, Location)) -> Result<()> {
        if copied.0 != id {
            return Err(Error::corrupt(
                id,
                "it is not encoded as its content demands",
            ));
        }
        self.placed.insert(id, copied.1);
        self.travelled.nodes += 1;
        self.travelled.bytes += bytes;
        (self.told)(self.travelled);
        Ok(())
    }

    /// Finds the bodies that the target has of the large values of a leaf: its log names them.
    async fn find_bodies(&mut self, leaf: &Leaf) -> Result<()> {
        let Some(base) = self.base else {
            return Ok(());
        };
        let checkpoint = &base.0.head.checkpoint;
        let larges = leaf.larges();
        if larges
            .iter()
            .all(|large| self.bodies.contains_key(&large.hash))
        {
            return Ok(());
        }
        let old = |datom: &Datom| {
            matches!(datom.v, Value::Large(_) | Value::Tuple(_))
                && datom.tx.t() < checkpoint.covered
        };
        let keys: Vec<Datom> = (0..leaf.len())
            .map(|row| leaf.datom(row))
            .filter(old)
            .collect();
        let mut places: Vec<Root> = self
            .covering(TreeName::Log, 0, &keys)
            .await?
            .into_iter()
            .flatten()
            .collect();
        places.sort_unstable_by_key(|place| place.id);
        places.dedup_by_key(|place| place.id);
        let places: Vec<_> = places
            .iter()
            .map(|place| (place.id, place.location))
            .collect();
        for node in self.target.load_many(&places).await? {
            if let Node::Leaf(log) = &*node {
                let there = log.larges().into_iter();
                let there = there.filter_map(|large| Some((large.hash, large.location?)));
                self.bodies.extend(there);
            }
        }
        Ok(())
    }

    /// Sees to it that a note lies there before the first pack is put.
    async fn make_room(&mut self, bytes: u64) -> Result<()> {
        if self.writer.pending_bytes() + bytes >= self.pack_bytes {
            self.write_note().await?;
        }
        Ok(())
    }

    /// Takes up what earlier runs have copied, and writes this one's note.
    async fn write_note(&mut self) -> Result<()> {
        if self.noted {
            return Ok(());
        }
        let store = self.target.store();
        for note in store.list_notes().await? {
            let Some(body) = store.read_note(note.id).await? else {
                continue;
            };
            let Some(earlier) = Note::decode(&body) else {
                continue;
            };
            if earlier.database != self.note.database || earlier.branch != self.note.branch {
                continue;
            }
            // Without a base there is no head whose epoch a collection would have changed.
            let same_epoch = self.base.is_some() && earlier.gc_epoch == self.note.gc_epoch;
            self.resumed.push(note.id);
            for pack in packs_of(note.id) {
                let footer = match read_footer(store, pack).await {
                    Err(Error::SnapshotExpired(_)) => break,
                    footer => footer?,
                };
                for entry in footer.entries() {
                    match entry.kind {
                        FrameKind::Blob => self.bodies.insert(entry.hash, entry.location),
                        FrameKind::Leaf => self.placed.insert(entry.hash, entry.location),
                        // These say where others lie.
                        FrameKind::Inner | FrameKind::Holder if same_epoch => {
                            self.placed.insert(entry.hash, entry.location)
                        }
                        FrameKind::Inner | FrameKind::Holder => None,
                    };
                }
            }
        }
        store.put_note(self.id, self.note.encode()).await?;
        self.noted = true;
        Ok(())
    }

    fn relocated(&self, checkpoint: &Checkpoint) -> Result<Checkpoint> {
        let place = |id: &NodeId| {
            let place = self.placed.get(id).copied();
            place.ok_or_else(|| Error::corrupt(id, "it is a root and lies below another"))
        };
        let mut new = checkpoint.clone();
        for root in new.trees.iter_mut().filter_map(|tree| tree.root.as_mut()) {
            root.location = place(&root.id)?;
        }
        if let Some((id, location)) = &mut new.schema {
            *location = place(id)?;
        }
        Ok(new)
    }
}
