//! Where the bytes lie: packs, which are written once, and heads, which are swapped.
//!
//! Above the identities of [`id`](crate::id), below [`node`](crate::node); knows nothing of what a frame
//! or a head holds. With [`error`](crate::error) the only place that names `object_store`.
//!
//! ```text
//! heads/<branch>      one small object a branch, changed by compare-and-swap     → HeadStore
//! packs/<xx>/<id>     frames back to back and an index of them, never changed    → ObjectStore
//! gc/<id>             notes of garbage collection, gone when they are done with
//! ```
//!
//! Frames of a store elsewhere may be kept in a directory of this machine: see `disk`.
//!
//! **Invariant.** A [`Store`] answers with the whole of what was asked for or with an error; never with
//! fewer bytes. Whether they are the *right* bytes is decided above, by their hash.
//!
//! **Invariant.** No secret leaves this module: the location is printed without credentials and options,
//! and nothing here prints an object store or its builder.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};

use crate::error::{Error, Result, StoreFailure};
use crate::id::{BranchName, PackId};

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(feature = "fs")]
mod disk;
mod failure;
#[cfg(feature = "fs")]
mod file;
mod frames;
mod head;
mod layout;
mod pack;
mod range;
mod requests;
#[cfg(feature = "sql-store")]
mod sql;
mod url;
#[cfg(feature = "ws")]
mod ws;

#[cfg(feature = "fs")]
pub use self::disk::{DiskCache, DiskUsage};
#[cfg(feature = "fs")]
pub use self::file::{FileHeads, FileObjects};
pub(crate) use self::frames::{Frame, Purges};
pub use self::head::{CasOutcome, HeadStore, HeadVersion, MemoryHeads, ObjectHeads};
pub use self::pack::{Footer, FooterEntry, FrameKind, PackWriter, read_footer};
use self::requests::Counters;
pub use self::requests::Requests;
#[cfg(all(test, feature = "ws"))]
pub(crate) use self::ws::tests as ws_tests;
#[cfg(feature = "ws")]
pub use self::ws::{SyncServer, SyncToken, serve_sync};

/// Requests that one [`Store::read_many`] has under way at once.
const PARALLEL_MAX: usize = 32;

/// A place that holds databases: immutable packs and one head per branch.
///
/// A handle: clones are cheap and share the counters of [`requests`](Self::requests).
#[derive(Clone)]
pub struct Store(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    heads: Arc<dyn HeadStore>,
    location: String,
    identity: Identity,
    access: Access,
    counters: Arc<Counters>,
    #[cfg(feature = "fs")]
    disk: Option<disk::Tier>,
}

/// What tells stores apart. Locations do not: they leave options out, and callers choose theirs freely.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Identity {
    /// The hash of an address, options included, which is never printed.
    Address(blake3::Hash),
    /// The objects, and the prefix: heads lie among them.
    Objects,
    /// The objects and the heads.
    ObjectsAndHeads,
}

impl Identity {
    /// Of an address in the one way to write it.
    fn address(kind: &str, address: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(kind.as_bytes());
        hasher.update(&[0]);
        hasher.update(address);
        Self::Address(hasher.finalize())
    }
}

/// What a storage can be asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Write,
    /// To read and to list.
    #[cfg(test)]
    Read,
    /// To read what one knows the name of: a web server.
    ReadByName,
}

impl Store {
    /// A fresh store in memory that nobody else has.
    pub fn memory() -> Self {
        Self::new(
            Arc::new(InMemory::new()),
            Arc::<MemoryHeads>::default(),
            "memory:",
        )
    }

    /// A store in a directory, which is made by the first write.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if `root` is a file or a symbolic link.
    #[cfg(feature = "fs")]
    pub fn file(root: &std::path::Path) -> Result<Self> {
        let objects = FileObjects::open(root)?;
        let location = objects.to_string();
        let identity = Identity::address("file", objects.root().as_os_str().as_encoded_bytes());
        let store = Self::new(
            Arc::new(objects),
            Arc::new(FileHeads::open(root)?),
            location,
        );
        Ok(store.with_identity(identity))
    }

    /// A store below `prefix` in an object store that has conditional PUTs, which swap the heads.
    ///
    /// `location` names the store in messages; it must hold no secret.
    pub fn from_object_store(
        objects: Arc<dyn ObjectStore>,
        prefix: Path,
        location: impl Into<String>,
    ) -> Self {
        let location = location.into();
        let heads = ObjectHeads::new(Arc::clone(&objects), prefix.clone(), location.clone());
        let store = Self::assemble(objects, prefix, Arc::new(heads), location, Access::Write);
        store.with_identity(Identity::Objects)
    }

    /// A store of packs in `objects` and heads in `heads`.
    ///
    /// `location` names the store in messages; it must hold no secret.
    pub fn new(
        objects: Arc<dyn ObjectStore>,
        heads: Arc<dyn HeadStore>,
        location: impl Into<String>,
    ) -> Self {
        Self::assemble(objects, Path::ROOT, heads, location.into(), Access::Write)
    }

    fn assemble(
        objects: Arc<dyn ObjectStore>,
        prefix: Path,
        heads: Arc<dyn HeadStore>,
        location: String,
        access: Access,
    ) -> Self {
        Self(Arc::new(Inner {
            objects,
            prefix,
            heads,
            location,
            identity: Identity::ObjectsAndHeads,
            access,
            counters: Arc::default(),
            #[cfg(feature = "fs")]
            disk: None,
        }))
    }

    /// This store, which nobody else has yet, told apart from others by something else.
    fn with_identity(mut self, identity: Identity) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.identity = identity;
        }
        self
    }

    /// Where this is, for messages: no credentials, no options.
    pub fn location(&self) -> &str {
        &self.0.location
    }

    /// Whether this and the other are handles of one store, as far as that can be told.
    ///
    /// In doubt they are not: a branch that is moved to a value of another store is lost, and who is refused
    /// can copy.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let (ours, theirs) = (&*self.0, &*other.0);
        let objects =
            || Arc::ptr_eq(&ours.objects, &theirs.objects) && ours.prefix == theirs.prefix;
        ours.identity == theirs.identity
            && match ours.identity {
                Identity::Address(_) => true,
                Identity::Objects => objects(),
                Identity::ObjectsAndHeads => objects() && Arc::ptr_eq(&ours.heads, &theirs.heads),
            }
    }

    /// Whether writes are refused because the storage cannot take them.
    pub fn read_only(&self) -> bool {
        self.0.access != Access::Write
    }

    /// The same storage as one that can only be read, as a web server would serve it.
    #[cfg(test)]
    pub(crate) fn served(&self) -> Self {
        let (objects, heads) = (Arc::clone(&self.0.objects), Arc::clone(&self.0.heads));
        let location = format!("served:{}", self.0.location);
        Self::assemble(
            objects,
            self.0.prefix.clone(),
            heads,
            location,
            Access::Read,
        )
    }

    /// What has been asked of the storage through this handle and its clones.
    pub fn requests(&self) -> Requests {
        self.0.counters.snapshot()
    }

    /// Reads the head of a branch; `None` if the branch does not exist. One request.
    ///
    /// # Errors
    ///
    /// [`Error::Store`]; [`Error::Corrupt`] if what lies there is too long for a head.
    pub async fn head(&self, branch: &BranchName) -> Result<Option<(Bytes, HeadVersion)>> {
        let head = self.0.heads.get(branch).await;
        self.count_head(head)
    }

    /// Reads the head of a branch if it is no longer the one that was `seen`. One request.
    ///
    /// # Errors
    ///
    /// As [`head`](Self::head), and [`Error::NoDatabase`] if the branch no longer exists.
    pub async fn head_if_changed(
        &self,
        branch: &BranchName,
        seen: &HeadVersion,
    ) -> Result<Option<(Bytes, HeadVersion)>> {
        let head = self.0.heads.get_if_changed(branch, seen).await;
        self.count_head(head)
    }

    fn count_head(
        &self,
        head: Result<Option<(Bytes, HeadVersion)>>,
    ) -> Result<Option<(Bytes, HeadVersion)>> {
        let body = head.as_ref().ok().and_then(Option::as_ref);
        self.0.counters.got(body.map_or(0, |(body, _)| body.len()));
        head
    }

    /// Replaces the head of a branch if it is still the `expected` one; `None` creates the branch.
    ///
    /// One request, which is not repeated. Whoever does not get [`CasOutcome::Swapped`] reads the head
    /// back: a conflict, too, may be with one's own write.
    pub async fn cas_head(
        &self,
        branch: &BranchName,
        expected: Option<&HeadVersion>,
        body: Bytes,
    ) -> CasOutcome {
        if let Err(error) = self.writable() {
            return CasOutcome::Failed(error);
        }
        if body.len() > head::HEAD_BYTES_MAX {
            return CasOutcome::Failed(head::too_long(branch.as_str()));
        }
        self.0.counters.put(body.len());
        self.0.heads.cas(branch, expected, body).await
    }

    /// The branches, in the order of their names. Lists, so it may be slow and costs money.
    ///
    /// # Errors
    ///
    /// [`Error::Store`]; [`Error::Invalid`] for a web server, which cannot list.
    pub async fn list_branches(&self) -> Result<Vec<BranchName>> {
        self.listable()?;
        self.0.counters.listed();
        let mut branches = self.0.heads.list().await?;
        branches.sort_unstable();
        Ok(branches)
    }

    /// Writes a pack, which is durable when this returns. One request.
    ///
    /// The same bytes may be put twice, for requests do get repeated on the way.
    ///
    /// # Errors
    ///
    /// [`Error::Store`], also if another pack has this identity; [`Error::Invalid`] if the store is
    /// read-only.
    pub async fn put_pack(&self, id: PackId, body: Bytes) -> Result<()> {
        self.writable()?;
        self.0.counters.put(body.len());
        let key = layout::pack_key(&self.0.prefix, id);
        let payload = PutPayload::from(body.clone());
        match self
            .0
            .objects
            .put_opts(&key, payload, PutOptions::from(PutMode::Create))
            .await
        {
            Ok(_) => Ok(()),
            // Identities are random, so this is the store repeating a request that it had carried out.
            Err(error @ object_store::Error::AlreadyExists { .. }) => {
                if self.read_pack(id).await? == body {
                    Ok(())
                } else {
                    Err(self.failure(error))
                }
            }
            Err(error) => Err(self.failure(error)),
        }
    }

    /// Reads a whole pack. One request.
    ///
    /// # Errors
    ///
    /// [`Error::SnapshotExpired`] if the pack is gone, [`Error::Store`].
    pub async fn read_pack(&self, pack: PackId) -> Result<Bytes> {
        let key = layout::pack_key(&self.0.prefix, pack);
        match self.get(&key, GetOptions::new()).await {
            Ok((bytes, meta)) if bytes.len() as u64 == meta.size => Ok(bytes),
            Ok((bytes, meta)) => Err(short(&key, &(0..meta.size), bytes.len())),
            Err(error) => Err(self.pack_failure(&key, error)),
        }
    }

    /// Length of a pack, in bytes. One request.
    ///
    /// # Errors
    ///
    /// As [`read_pack`](Self::read_pack).
    pub async fn pack_len(&self, pack: PackId) -> Result<u64> {
        let key = layout::pack_key(&self.0.prefix, pack);
        self.0.counters.got(0);
        match self.0.objects.head(&key).await {
            Ok(meta) => Ok(meta.size),
            Err(error) => Err(self.pack_failure(&key, error)),
        }
    }

    /// The packs, in the order of their identities. Lists, so it may be slow and costs money.
    ///
    /// # Errors
    ///
    /// [`Error::Store`]; [`Error::Invalid`] for a web server, which cannot list.
    pub async fn list_packs(&self) -> Result<Vec<PackInfo>> {
        self.list_below(layout::PACKS, layout::pack_at).await
    }

    /// Removes a pack for good; one that is gone already is no error. One request.
    pub(crate) async fn delete_pack(&self, id: PackId) -> Result<()> {
        self.delete(&layout::pack_key(&self.0.prefix, id)).await
    }

    /// Writes a note of garbage collection. One request.
    pub(crate) async fn put_note(&self, id: PackId, body: Bytes) -> Result<()> {
        self.writable()?;
        self.0.counters.put(body.len());
        let key = layout::note_key(&self.0.prefix, id);
        let (payload, options) = (PutPayload::from(body), PutOptions::from(PutMode::Create));
        match self.0.objects.put_opts(&key, payload, options).await {
            // Identities are random, so this is the store repeating a request that it had carried out.
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(self.failure(error)),
        }
    }

    /// The notes of garbage collection, in the order of their identities. One listing.
    pub(crate) async fn list_notes(&self) -> Result<Vec<PackInfo>> {
        self.list_below(layout::NOTES, layout::note_at).await
    }

    /// Reads a note; `None` if it is gone. One request.
    pub(crate) async fn read_note(&self, id: PackId) -> Result<Option<Bytes>> {
        let key = layout::note_key(&self.0.prefix, id);
        match self.get(&key, GetOptions::new()).await {
            Ok((bytes, _)) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failure(error)),
        }
    }

    /// Removes a note. One request.
    pub(crate) async fn delete_note(&self, id: PackId) -> Result<()> {
        self.delete(&layout::note_key(&self.0.prefix, id)).await
    }

    async fn delete(&self, key: &Path) -> Result<()> {
        self.writable()?;
        self.0.counters.deleted();
        match self.0.objects.delete(key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failure(error)),
        }
    }

    async fn list_below(
        &self,
        directory: &str,
        at: impl Fn(&Path, &Path) -> Option<PackId>,
    ) -> Result<Vec<PackInfo>> {
        self.listable()?;
        self.0.counters.listed();
        let below = self.0.prefix.clone().join(directory);
        let mut found: Vec<_> = self
            .0
            .objects
            .list(Some(&below))
            .try_filter_map(async |meta| {
                // Whatever else lies there is not ours.
                Ok(at(&self.0.prefix, &meta.location).map(|id| PackInfo {
                    id,
                    len: meta.size,
                    modified: meta.last_modified.timestamp_millis(),
                }))
            })
            .try_collect()
            .await
            .map_err(|error| self.failure(error))?;
        found.sort_unstable_by_key(|object: &PackInfo| object.id);
        Ok(found)
    }

    /// Reads a part of a pack, all of it or not at all.
    async fn read_range(&self, pack: PackId, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let key = layout::pack_key(&self.0.prefix, pack);
        let bytes = match self
            .get(&key, GetOptions::new().with_range(Some(range.clone())))
            .await
        {
            Ok((bytes, _)) => bytes,
            // A web server that knows no ranges: slow, but it holds the bytes.
            Err(object_store::Error::NotSupported { .. }) => {
                let whole = self.read_pack(pack).await?;
                let end = whole
                    .len()
                    .min(usize::try_from(range.end).unwrap_or(usize::MAX));
                let start = end.min(usize::try_from(range.start).unwrap_or(usize::MAX));
                whole.slice(start..end)
            }
            Err(error) => return Err(self.range_failure(pack, &key, &range, error).await),
        };
        if bytes.len() as u64 == range.end - range.start {
            Ok(bytes)
        } else {
            Err(short(&key, &range, bytes.len()))
        }
    }

    /// Reads the last bytes of a pack, at most `len`, and says how long the pack is.
    async fn read_pack_tail(&self, pack: PackId, len: u64) -> Result<(Bytes, u64)> {
        let key = layout::pack_key(&self.0.prefix, pack);
        let options = GetOptions::new().with_range(Some(GetRange::Suffix(len)));
        match self.get(&key, options).await {
            Ok((tail, meta)) if tail.len() as u64 == len.min(meta.size) => Ok((tail, meta.size)),
            Ok((tail, meta)) => {
                let range = meta.size.saturating_sub(len)..meta.size;
                Err(short(&key, &range, tail.len()))
            }
            // Azure can not count from the end.
            Err(object_store::Error::NotSupported { .. }) => {
                let size = self.pack_len(pack).await?;
                let tail = self
                    .read_range(pack, size.saturating_sub(len)..size)
                    .await?;
                Ok((tail, size))
            }
            Err(error) => Err(self.pack_failure(&key, error)),
        }
    }

    async fn get(
        &self,
        key: &Path,
        options: GetOptions,
    ) -> Result<(Bytes, ObjectMeta), object_store::Error> {
        let answer = async {
            let result = self.0.objects.get_opts(key, options).await?;
            let meta = result.meta.clone();
            // As the bytes arrive: a length that is only claimed allocates nothing.
            let mut chunks = result.into_stream();
            let first = chunks.try_next().await?.unwrap_or_default();
            let Some(second) = chunks.try_next().await? else {
                return Ok((first, meta));
            };
            let mut bytes = [first, second].concat();
            while let Some(chunk) = chunks.try_next().await? {
                bytes.extend_from_slice(&chunk);
            }
            Ok((bytes.into(), meta))
        };
        let answer = answer.await;
        self.0.counters.got(
            answer
                .as_ref()
                .map_or(0, |(bytes, _): &(Bytes, _)| bytes.len()),
        );
        answer
    }

    fn writable(&self) -> Result<()> {
        if self.read_only() {
            return Err(Error::invalid(format!(
                "{} can only be read",
                self.location()
            )));
        }
        Ok(())
    }

    /// Few web servers list, and of those hardly one in a way that can be relied on.
    fn listable(&self) -> Result<()> {
        if self.0.access == Access::ReadByName {
            return Err(Error::invalid(format!(
                "{} is a web server, which does not say what it holds: branches are read by name",
                self.location()
            )));
        }
        Ok(())
    }

    fn failure(&self, error: object_store::Error) -> Error {
        #[cfg(feature = "ws")]
        if let Some(said) = ws::denied(&error) {
            return Error::Invalid(said);
        }
        failure(&self.0.location, failure::requested(error))
    }

    fn pack_failure(&self, key: &Path, error: object_store::Error) -> Error {
        match error {
            // A pack is only asked for because something pointed to it, and nothing but garbage
            // collection removes one.
            object_store::Error::NotFound { .. } => Error::SnapshotExpired(format!(
                "{key} of {} is missing; if garbage was collected since, open the branch again",
                self.location()
            )),
            error => self.failure(error),
        }
    }

    /// Backends disagree on ranges past the end: some cut them, some fail in ways of their own.
    async fn range_failure(
        &self,
        pack: PackId,
        key: &Path,
        range: &Range<u64>,
        error: object_store::Error,
    ) -> Error {
        if !matches!(error, object_store::Error::Generic { .. }) {
            return self.pack_failure(key, error);
        }
        match self.pack_len(pack).await {
            Ok(len) if len < range.end => {
                let found = len.saturating_sub(range.start);
                short(key, range, usize::try_from(found).unwrap_or(usize::MAX))
            }
            _ => self.failure(error),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the object store: some print the credentials they were built with.
        f.debug_struct("Store")
            .field("location", &self.0.location)
            .finish_non_exhaustive()
    }
}

fn failure(location: &str, source: impl Into<StoreFailure>) -> Error {
    Error::Store {
        location: location.to_owned(),
        source: source.into(),
    }
}

fn short(key: &Path, range: &Range<u64>, found: usize) -> Error {
    let wanted = range.end - range.start;
    let reason = format!("{found} of the {wanted} bytes at {} are there", range.start);
    Error::corrupt(key, reason)
}

/// What a listing says of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackInfo {
    /// The pack.
    pub id: PackId,
    /// Its length, in bytes.
    pub len: u64,
    /// When it was written by the clock of the store, in milliseconds since the epoch.
    pub modified: i64,
}

#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[cfg(feature = "aws")]
    mod s3;
    #[cfg(any(feature = "aws", feature = "http"))]
    pub(crate) mod server;
    #[cfg(feature = "http")]
    mod web;

    /// An error and its causes, as a person sees them.
    pub(crate) fn chain(error: &Error) -> String {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            text = format!("{text}\n  {error}");
            cause = error.source();
        }
        text
    }

    #[test]
    fn futures_can_move_between_threads() {
        fn movable<T: Send>(_: T) {}

        let store = Store::memory();
        movable(store.read_many(&[]));
        movable(store.list_packs());
        movable(store.list_branches());
        movable(read_footer(&store, PackId([0; 16])));
        movable(store.put_pack(PackId([0; 16]), Bytes::new()));
    }

    #[tokio::test]
    async fn frames_that_lie_together_come_in_one_request() {
        let store = Store::memory();
        let mut writer = PackWriter::new(PackId([1; 16]));
        let locations: Vec<_> = (0..100u8)
            .map(|n| writer.append(FrameKind::Leaf, 0, crate::NodeId::of(&[n]), &[n; 1000]))
            .collect();
        store.put_pack(writer.id(), writer.finish()).await.unwrap();
        let before = store.requests();
        let frames = store.read_many(&locations).await.unwrap();
        assert!(
            frames
                .iter()
                .zip(0..)
                .all(|(frame, n)| *frame == vec![n; 1000])
        );
        let spent = store.requests() - before;
        assert_eq!((spent.gets, spent.bytes_read), (1, 100_000));
    }

    /// Two lazy streams had begun to read and were not asked for more. They held every permit of the store, and
    /// whoever read anything else waited for ever.
    #[tokio::test]
    async fn reads_that_nobody_goes_on_with_hold_nobody_up() {
        let simulation = simulated::Simulation::new();
        let mut locations = Vec::new();
        for n in 0..40 {
            let mut writer = PackWriter::new(PackId([n; 16]));
            let id = crate::NodeId::of(&[n]);
            locations.push(writer.append(FrameKind::Leaf, 0, id, &[n; 100]));
            let store = simulation.store();
            store.put_pack(writer.id(), writer.finish()).await.unwrap();
        }
        let (store, rounds) = simulation.store_in_rounds();
        let mut begun: Vec<_> = (0..3)
            .map(|_| Box::pin(store.read_many(&locations)))
            .collect();
        for begun in &mut begun {
            assert!(futures::poll!(begun).is_pending());
        }
        let mut read = Box::pin(store.read_many(&locations));
        let mut polls = 0;
        let read = std::future::poll_fn(|context| {
            polls += 1;
            match read.as_mut().poll(context) {
                std::task::Poll::Pending if polls > 9 => std::task::Poll::Ready(None),
                polled => polled.map(Some),
            }
        });
        let (frames, ..) = rounds.of(read).await;
        let frames = frames.expect("it waits for those that nobody goes on with");
        assert_eq!(frames.unwrap().len(), locations.len());
        drop(begun);
    }

    #[test]
    fn stores_of_one_name_are_told_apart_and_two_openings_of_one_store_are_not() {
        fn heads() -> Arc<MemoryHeads> {
            Arc::default()
        }

        let named = |objects: &Arc<dyn ObjectStore>, prefix: &str| {
            Store::from_object_store(Arc::clone(objects), Path::from(prefix), "ours")
        };
        let (one, two): (Arc<dyn ObjectStore>, Arc<dyn ObjectStore>) =
            (Arc::new(InMemory::new()), Arc::new(InMemory::new()));
        assert!(named(&one, "a").is_same(&named(&one, "a")));
        assert!(!named(&one, "a").is_same(&named(&one, "b")));
        assert!(!named(&one, "a").is_same(&named(&two, "a")));

        let memory = Store::memory();
        assert!(memory.is_same(&memory.clone()) && !memory.is_same(&Store::memory()));
        let opened = |address: &str| Store::open_url(address).unwrap();
        assert!(opened("memory:one-of-two").is_same(&opened("memory:one-of-two")));
        assert!(!opened("memory:one-of-two").is_same(&opened("memory:two-of-two")));
        assert!(!opened("memory:").is_same(&opened("memory:")));

        // Callers who name a store as another is addressed do not make it that one.
        let given = Store::new(Arc::clone(&one), heads(), "memory:one-of-two");
        assert!(!given.is_same(&opened("memory:one-of-two")));
        assert!(!given.is_same(&Store::new(Arc::clone(&one), heads(), "memory:one-of-two")));
    }

    #[cfg(feature = "fs")]
    #[test]
    fn two_openings_of_one_directory_are_one_store() {
        let parent = tempfile::tempdir().unwrap();
        let (one, two) = (parent.path().join("one"), parent.path().join("two"));
        let open = |path: &std::path::Path| Store::file(path).unwrap();
        assert!(open(&one).is_same(&open(&one)) && !open(&one).is_same(&open(&two)));
        let url = format!("file://{}", one.display());
        assert!(open(&one).is_same(&Store::open_url(&url).unwrap()));
        let heads = Arc::<MemoryHeads>::default();
        let given = Store::new(Arc::new(InMemory::new()), heads, one.to_str().unwrap());
        assert!(!given.is_same(&open(&one)));
    }
}
