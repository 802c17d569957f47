//! Fetches nodes, verifies them, decodes them, and keeps them while there is room.
//!
//! A node never changes, so the cache never has to be told of anything. There is one a process, bounded by
//! bytes of decoded nodes; all values that share a loader share what it has read, and equal requests under
//! way at once become one. Loaders do not see each other's nodes, because where a node's children lie is the
//! business of one store, and of one *era* of it: garbage collection moves nodes and a purge replaces them,
//! and what was read before would lead a writer to places that are about to go.
//!
//! A store may have a tier on disk, below this cache. Its frames are verified like all others, and one that is not
//! what it should be is no fault of the database: it is read from the store anew.
//!
//! Inner nodes are held apart as well, within a bound of their own: however many leaves a scan brings in, the
//! way from a root to any leaf of a database of ordinary size stays at hand.
//!
//! Bodies of large values are read on demand by [`Loader::resolve`] and cached beside the nodes, not in
//! them: what a node weighs must not grow behind the back of the cache. Therefore each [`Loader::load`] of a
//! leaf with large values hands out values of its own, which share nothing with those in the cache.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::Node;
use super::decode::{decode_as, open_body};
use super::large::{collect, is_text, unread};
use super::leaf::Leaf;
use crate::error::{Error, Result};
use crate::id::{Location, NodeId};
use crate::store::{Frame, Purges, Store};
use crate::value::{Large, Value};

/// What all loaders of this process keep.
static CACHE: LazyLock<Kept> =
    LazyLock::new(|| Kept::new(Loader::CACHE_BYTES, Loader::INNER_BYTES));

/// Tells loaders apart.
static LOADERS: AtomicU64 = AtomicU64::new(0);

/// Loads nodes and the bodies of large values from a store.
pub struct Loader {
    store: Store,
    /// Which of the process's loaders this is.
    number: u64,
    /// The era of the heads that are read through this one; set by the first.
    era: OnceLock<Era>,
    /// How often this process had purged the store: what an earlier value reads is not kept on disk.
    purges: AtomicU64,
    hits: AtomicU64,
    disk_hits: AtomicU64,
    disk_bytes: AtomicU64,
    nodes: AtomicU64,
    bodies: AtomicU64,
    frame_bytes: AtomicU64,
}

/// A stretch of a branch's life in which nodes stay where they lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Era {
    /// The garbage collections that its heads have seen.
    pub gc_epoch: u64,
    /// The purges.
    pub purges: u64,
}

/// What a [`Loader`] has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loads {
    /// Nodes and bodies found in memory.
    pub hits: u64,
    /// Nodes and bodies found on disk, in the tier of the store.
    pub disk_hits: u64,
    /// Bytes of their frames.
    pub disk_bytes: u64,
    /// Nodes read from the store.
    pub nodes: u64,
    /// Bodies of large values read from the store.
    pub bodies: u64,
    /// Bytes of the frames read from the store.
    pub frame_bytes: u64,
}

/// A body may hold the very bytes of a node, so the hash alone does not say which is meant.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    loader: u64,
    kind: Kind,
    id: NodeId,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Node,
    Body,
}

#[derive(Clone)]
enum Entry {
    Node(Arc<Node>),
    Body(Arc<[u8]>),
}

#[derive(Clone)]
struct EntryWeight;

impl Weighter<Key, Arc<Node>> for EntryWeight {
    fn weight(&self, _: &Key, node: &Arc<Node>) -> u64 {
        node.memory_bytes() as u64 + 128
    }
}

impl Weighter<Key, Entry> for EntryWeight {
    fn weight(&self, _: &Key, entry: &Entry) -> u64 {
        let bytes = match entry {
            Entry::Node(node) => node.memory_bytes(),
            Entry::Body(body) => body.len(),
        };
        bytes as u64 + 128
    }
}

/// The cache, and the inner nodes once more.
struct Kept {
    all: Cache<Key, Entry, EntryWeight>,
    /// Inner nodes: those that leaves have pushed out of `all` are found here. What both hold is held once.
    inner: Cache<Key, Arc<Node>, EntryWeight>,
}

impl Kept {
    fn new(all: u64, inner: u64) -> Self {
        // The number of entries is an estimate for the size of tables: 32 KiB is a leaf of 1000 datoms.
        let entries = |bytes: u64| usize::try_from(bytes >> 15).unwrap_or(usize::MAX);
        Self {
            all: Cache::with_weighter(entries(all), all, EntryWeight),
            inner: Cache::with_weighter(entries(inner), inner, EntryWeight),
        }
    }

    fn get(&self, key: &Key) -> Option<Entry> {
        let found = self.all.get(key);
        found.or_else(|| self.inner.get(key).map(Entry::Node))
    }

    fn insert(&self, key: Key, entry: Entry) {
        self.hold(key, &entry);
        self.all.insert(key, entry);
    }

    /// The entry of this key, made unless it is there; equal requests under way become one.
    async fn get_or_insert(
        &self,
        key: &Key,
        made: impl Future<Output = Result<Entry>>,
    ) -> Result<Entry> {
        let made = async {
            let entry = made.await?;
            self.hold(*key, &entry);
            Ok(entry)
        };
        self.all.get_or_insert_async(key, made).await
    }

    fn hold(&self, key: Key, entry: &Entry) {
        if let Entry::Node(node) = entry
            && node.level() > 0
        {
            self.inner.insert(key, Arc::clone(node));
        }
    }

    /// Forgets what one loader has read.
    fn forget(&self, loader: u64) {
        self.all.retain(|key, _| key.loader != loader);
        self.inner.retain(|key, _| key.loader != loader);
    }
}

impl Loader {
    /// How much the cache of this process holds, in bytes.
    pub const CACHE_BYTES: u64 = 512 << 20;
    /// How many bytes of inner nodes it holds besides, at most.
    pub const INNER_BYTES: u64 = 64 << 20;

    /// A loader that has read nothing yet.
    pub fn new(store: Store) -> Self {
        Self {
            number: LOADERS.fetch_add(1, Ordering::Relaxed),
            era: OnceLock::new(),
            purges: store.purges().count().into(),
            store,
            hits: AtomicU64::new(0),
            disk_hits: AtomicU64::new(0),
            disk_bytes: AtomicU64::new(0),
            nodes: AtomicU64::new(0),
            bodies: AtomicU64::new(0),
            frame_bytes: AtomicU64::new(0),
        }
    }

    /// The loader for values of a head of this era: this one if it serves that era, or none yet.
    pub fn of_era(self: &Arc<Self>, era: Era) -> Arc<Self> {
        if *self.era.get_or_init(|| era) == era {
            return Arc::clone(self);
        }
        let fresh = Self::new(self.store.clone());
        // Nobody else has it yet.
        let _ = fresh.era.set(era);
        Arc::new(fresh)
    }

    fn node(&self, id: NodeId) -> Key {
        let (loader, kind) = (self.number, Kind::Node);
        Key { loader, kind, id }
    }

    fn body(&self, id: NodeId) -> Key {
        let (loader, kind) = (self.number, Kind::Body);
        Key { loader, kind, id }
    }

    /// The store that nodes come from.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What has been loaded so far.
    pub fn loads(&self) -> Loads {
        Loads {
            hits: self.hits.load(Ordering::Relaxed),
            disk_hits: self.disk_hits.load(Ordering::Relaxed),
            disk_bytes: self.disk_bytes.load(Ordering::Relaxed),
            nodes: self.nodes.load(Ordering::Relaxed),
            bodies: self.bodies.load(Ordering::Relaxed),
            frame_bytes: self.frame_bytes.load(Ordering::Relaxed),
        }
    }

    /// Loads a node; at most one request. Its hash is verified.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if another node lies there, [`Error::SnapshotExpired`] if its pack is gone,
    /// [`Error::NewerFormat`], [`Error::Store`].
    pub async fn load(&self, id: NodeId, location: Location) -> Result<Arc<Node>> {
        if let Some(node) = self.cached(id) {
            return Ok(node);
        }
        let entry = CACHE
            .get_or_insert(&self.node(id), async {
                let frame = self.frame(location).await?;
                let node = self.decoded(frame, id, location).await?;
                Ok(Entry::Node(Arc::new(node)))
            })
            .await?;
        match entry {
            Entry::Node(node) => Ok(handed_out(&node)),
            Entry::Body(_) => unreachable!("a key says what its entry is"),
        }
    }

    /// Loads nodes, in the order asked for, with as few requests as is sensible.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load); the first failure ends it.
    pub async fn load_many(&self, wanted: &[(NodeId, Location)]) -> Result<Vec<Arc<Node>>> {
        let mut nodes: Vec<_> = wanted.iter().map(|(id, _)| self.cached(*id)).collect();
        let missing: Vec<usize> = (0..wanted.len()).filter(|&i| nodes[i].is_none()).collect();
        match missing[..] {
            [] => {}
            // A single one joins an equal request that is under way; several do not wait for others,
            // because two callers that each hold what the other waits for would wait for ever.
            [i] => nodes[i] = Some(self.load(wanted[i].0, wanted[i].1).await?),
            _ => {
                let locations: Vec<_> = missing.iter().map(|&i| wanted[i].1).collect();
                let frames = self.frames(&locations).await?;
                for (i, frame) in missing.into_iter().zip(frames) {
                    let (id, location) = wanted[i];
                    let node = Arc::new(self.decoded(frame, id, location).await?);
                    nodes[i] = Some(handed_out(&node));
                    CACHE.insert(self.node(id), Entry::Node(node));
                }
            }
        }
        Ok(nodes.into_iter().flatten().collect())
    }

    /// Reads nodes from these very places, past the cache, which knows one place a node, and past its disk tier, which
    /// keeps frames of packs that are gone.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load); the first failure ends it.
    pub async fn load_here(&self, wanted: &[(NodeId, Location)]) -> Result<Vec<Node>> {
        let locations: Vec<_> = wanted.iter().map(|(_, location)| *location).collect();
        let frames = Box::pin(self.store.read_frames(&locations, None)).await?;
        let frames = wanted.iter().zip(frames);
        let decoded = frames.map(|((id, location), frame)| {
            self.read_from_store(&self.nodes, &frame);
            node_of(&frame, *id, *location)
        });
        decoded.collect()
    }

    /// Removes what the disk tier holds of the store. What other loaders of this process read from now on is not
    /// kept there, for they may serve values of before a purge.
    pub(crate) async fn purge_disk(&self) {
        let purges = self.store.purge_disk().await;
        self.purges.store(purges.count(), Ordering::SeqCst);
    }

    // Boxed, both: a request is dear, and the futures of callers are not to hold what it needs.
    async fn frame(&self, location: Location) -> Result<Frame> {
        Box::pin(self.store.frame(location, self.purges())).await
    }

    async fn frames(&self, locations: &[Location]) -> Result<Vec<Frame>> {
        Box::pin(self.store.frames(locations, self.purges())).await
    }

    fn purges(&self) -> Purges {
        Purges::counted(self.purges.load(Ordering::SeqCst))
    }

    /// Puts a node into the cache that was just encoded and has this identity.
    pub(super) fn insert(&self, id: NodeId, node: Arc<Node>) {
        CACHE.insert(self.node(id), Entry::Node(node));
    }

    /// Reads the bodies of the large values among these rows that have not been read, together.
    ///
    /// Fills [`Large::body`] in place. Hash, length and, for text, UTF-8 are verified.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if another body lies there, [`Error::SnapshotExpired`], [`Error::Store`].
    ///
    /// # Panics
    ///
    /// If the rows do not lie within the leaf.
    pub async fn resolve(&self, leaf: &Leaf, rows: Range<usize>) -> Result<()> {
        self.resolve_larges(leaf.larges_of(rows)).await
    }

    /// [`resolve`](Self::resolve) for rows of several leaves: what is equal is read once, and neighbours together.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve).
    ///
    /// # Panics
    ///
    /// As [`resolve`](Self::resolve).
    pub async fn resolve_all<'a>(
        &self,
        leaves: impl Iterator<Item = (&'a Leaf, Range<usize>)>,
    ) -> Result<()> {
        let larges = leaves.flat_map(|(leaf, rows)| leaf.larges_of(rows));
        let larges = larges.collect();
        self.resolve_larges(larges).await
    }

    /// [`resolve`](Self::resolve) for one value.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve).
    pub async fn resolve_value(&self, value: &Value) -> Result<()> {
        let mut found = Vec::new();
        collect(value, &mut found);
        self.resolve_larges(found).await
    }

    pub(super) async fn resolve_larges(&self, larges: Vec<&Arc<Large>>) -> Result<()> {
        // Equal values share one read.
        let mut missing: HashMap<NodeId, (Location, Vec<&Large>)> = HashMap::new();
        for large in larges {
            if large.body.get().is_some() {
                continue;
            }
            if let Some(Entry::Body(body)) = CACHE.get(&self.body(large.hash)) {
                self.hits.fetch_add(1, Ordering::Relaxed);
                fill(large, &body)?;
                continue;
            }
            let location = large.location.ok_or_else(|| {
                Error::corrupt(named_body(large), "it is not known where it lies")
            })?;
            missing
                .entry(large.hash)
                .or_insert_with(|| (location, Vec::new()))
                .1
                .push(large);
        }
        let missing: Vec<_> = missing.into_values().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let locations: Vec<_> = missing.iter().map(|(location, _)| *location).collect();
        let frames = self.frames(&locations).await?;
        for ((location, larges), frame) in missing.iter().zip(frames) {
            let large = larges[0];
            let decode = |frame: &[u8]| {
                let body = open_body(frame, large.hash).map_err(|malformed| {
                    let name = named_body(large);
                    Error::corrupt(format!("{name} in {}", place(*location)), malformed.0)
                })?;
                Ok(Arc::from(body))
            };
            let body: Arc<[u8]> = self
                .verified(frame, *location, &self.bodies, decode)
                .await?;
            CACHE.insert(self.body(large.hash), Entry::Body(Arc::clone(&body)));
            for large in larges {
                fill(large, &body)?;
            }
        }
        Ok(())
    }

    fn cached(&self, id: NodeId) -> Option<Arc<Node>> {
        match CACHE.get(&self.node(id))? {
            Entry::Node(node) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                Some(handed_out(&node))
            }
            Entry::Body(_) => None,
        }
    }

    async fn decoded(&self, frame: Frame, id: NodeId, location: Location) -> Result<Node> {
        let decode = |frame: &[u8]| node_of(frame, id, location);
        self.verified(frame, location, &self.nodes, decode).await
    }

    /// What a frame holds. One from disk that does not hold it is read from the store anew: whoever put it there
    /// may have been anybody, and the store, too, may have answered with other bytes that day.
    async fn verified<T>(
        &self,
        frame: Frame,
        location: Location,
        count: &AtomicU64,
        decode: impl Fn(&[u8]) -> Result<T>,
    ) -> Result<T> {
        let frame = if frame.on_disk {
            if let Ok(decoded) = decode(&frame.bytes) {
                self.disk_hits.fetch_add(1, Ordering::Relaxed);
                self.disk_bytes
                    .fetch_add(frame.bytes.len() as u64, Ordering::Relaxed);
                return Ok(decoded);
            }
            Box::pin(self.store.frame_anew(location, self.purges())).await?
        } else {
            frame
        };
        self.read_from_store(count, &frame.bytes);
        decode(&frame.bytes)
    }

    fn read_from_store(&self, count: &AtomicU64, frame: &[u8]) {
        count.fetch_add(1, Ordering::Relaxed);
        self.frame_bytes
            .fetch_add(frame.len() as u64, Ordering::Relaxed);
    }
}

fn node_of(frame: &[u8], id: NodeId, location: Location) -> Result<Node> {
    decode_as(frame, Some(id)).map_err(|fault| fault.of(named(id, location)))
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Nobody can ask for these any more.
        CACHE.forget(self.number);
    }
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader")
            .field("store", &self.store.location())
            .field("loads", &self.loads())
            .finish_non_exhaustive()
    }
}

/// What a caller gets for a cached node: values of its own, where it may fill in bodies.
fn handed_out(node: &Arc<Node>) -> Arc<Node> {
    match &**node {
        Node::Leaf(leaf) if leaf.has_large() => Arc::new(Node::from(
            leaf.map_large(|large| unread(large, large.location)),
        )),
        _ => Arc::clone(node),
    }
}

/// Gives a value the body that has its hash, if it is as long as the value says, and text if it says so.
fn fill(large: &Large, body: &Arc<[u8]>) -> Result<()> {
    if body.len() as u64 != large.len {
        return Err(Error::corrupt(
            named_body(large),
            "the body has another length",
        ));
    }
    if is_text(large.value_type) && std::str::from_utf8(body).is_err() {
        return Err(Error::corrupt(named_body(large), "text is not UTF-8"));
    }
    // Whoever was faster put the same bytes there.
    let _ = large.body.set(Arc::clone(body));
    Ok(())
}

fn named(id: NodeId, location: Location) -> String {
    format!("node {id} in {}", place(location))
}

fn named_body(large: &Large) -> String {
    format!("value {}", large.hash)
}

fn place(location: Location) -> String {
    format!("pack {} at {}", location.pack, location.offset)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::datom::{Datom, TxId};
    use crate::id::PackId;
    use crate::index::TreeName;
    use crate::node::{Child, Inner, NodeWriter};
    use crate::{Entid, Value};

    /// A leaf with a value, written and read again.
    pub(in crate::node) async fn stored(value: Value) -> (Arc<Loader>, Leaf) {
        let loader = Arc::new(Loader::new(Store::memory()));
        let mut writer = NodeWriter::new(Arc::clone(&loader), Box::new(|| PackId([1; 16])));
        let datom = Datom::add(Entid(1), Entid(7), value, TxId::from_t(1));
        let leaf = Node::from(Leaf::from_datoms(&[datom]));
        let (id, location) = writer.write(leaf).await.unwrap();
        writer.finish().await.unwrap();
        match &*loader.load(id, location).await.unwrap() {
            Node::Leaf(leaf) => (Arc::clone(&loader), Leaf::clone(leaf)),
            Node::Inner(_) => unreachable!("a leaf was written"),
        }
    }

    /// Of equal hashes, only the first value's length was compared; and a body from the cache that was not as long
    /// as a value said was read once more.
    #[tokio::test]
    async fn each_value_of_a_body_says_its_length() {
        let (loader, leaf) = stored(Value::string("é".repeat(3000))).await;
        let right = leaf.larges()[0];
        let saying = |len: u64| {
            let mut large = Arc::into_inner(unread(right, right.location)).unwrap();
            large.len = len;
            Arc::new(large)
        };
        let (longer, shorter) = (saying(right.len + 1), saying(right.len - 1));
        for cached in [false, true] {
            let gets = loader.store().requests().gets;
            let wrong = if cached { &shorter } else { &longer };
            let refused = loader.resolve_larges(vec![&saying(right.len), wrong]).await;
            assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
            assert!(wrong.body.get().is_none());
            assert_eq!(loader.store().requests().gets - gets, u64::from(!cached));
        }
        loader.resolve_larges(vec![right]).await.unwrap();
    }

    #[test]
    fn leaves_do_not_push_out_inner_nodes() {
        let key = |n: u64| Key {
            loader: u64::MAX,
            kind: Kind::Node,
            id: NodeId::of(&n.to_le_bytes()),
        };
        let datoms: Vec<_> = (1..=1000)
            .map(|e| Datom::add(Entid(e), Entid(7), Value::Long(e), TxId::from_t(1)))
            .collect();
        let leaf = Leaf::from_datoms(&datoms);
        let child = Child {
            last: leaf.datom(999),
            id: key(0).id,
            count: 1000,
            location: Location {
                pack: PackId([0; 16]),
                offset: 0,
                len: 0,
            },
        };
        let inner = Inner::try_new(TreeName::Eavt.order(), 1, [child]).unwrap();
        let leaf = Arc::new(Node::from(leaf));
        let kept = Kept::new(1 << 20, 1 << 20);
        kept.insert(key(0), Entry::Node(Arc::new(Node::Inner(inner))));
        for n in 1..1000 {
            kept.insert(key(n), Entry::Node(Arc::clone(&leaf)));
            // Whatever is asked for again is worth more to a cache than what is not.
            kept.get(&key(n));
            kept.get(&key(n));
        }
        let here = |n| kept.get(&key(n)).is_some();
        assert!((1..1000).any(|n| !here(n)), "the cache is full");
        assert!(kept.all.get(&key(0)).is_none() && here(0));
        assert!(kept.all.weight() <= 1 << 20);
        kept.forget(u64::MAX);
        assert!((0..1000).all(|n| !here(n)));
    }
}
