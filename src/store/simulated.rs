//! A store in memory whose clock a test turns, and which stops at an operation that a test chooses.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use futures::poll;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use tokio::sync::watch;

use super::{CasOutcome, HeadStore, HeadVersion, MemoryHeads, Store};
use crate::error::{Error, Result};
use crate::id::BranchName;

/// Counts the rounds of a piece of work: each answers all requests that are under way, none earlier.
///
/// With a storage that takes 30 ms to answer anything, a round is 30 ms.
#[derive(Debug)]
pub(crate) struct Rounds(watch::Sender<u64>);

impl Default for Rounds {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Rounds {
    /// Waits for the end of the round.
    async fn end(&self) {
        let mut round = self.0.subscribe();
        // It ends: whoever counts owns the sender.
        let _ = round.changed().await;
    }

    /// Does the work. Answers with what came of it, the rounds it took, and the most requests of a round.
    pub(crate) async fn of<T>(&self, work: impl Future<Output = T>) -> (T, u64, usize) {
        let mut work = pin!(tokio::task::unconstrained(work));
        let (mut rounds, mut most) = (0, 0);
        loop {
            if let Poll::Ready(done) = poll!(work.as_mut()) {
                return (done, rounds, most);
            }
            let under_way = self.0.receiver_count();
            assert!(under_way > 0, "it waits, but not for the storage");
            most = most.max(under_way);
            rounds += 1;
            self.0.send_modify(|round| *round += 1);
        }
    }
}

/// What the handles to one simulated storage share.
#[derive(Debug)]
pub(crate) struct Simulation {
    objects: InMemory,
    heads: MemoryHeads,
    /// Milliseconds since the epoch.
    clock: AtomicI64,
    written: Mutex<BTreeMap<Path, i64>>,
    /// Tells storages apart.
    number: u64,
}

static SIMULATIONS: AtomicU64 = AtomicU64::new(0);

/// When a handle stops.
#[derive(Debug, Default)]
pub(crate) struct Fuse {
    done: AtomicU64,
    /// The operation at which it stops, counted from 1; 0 is never.
    at: u64,
    /// Whether that operation still takes effect.
    applied: bool,
    /// Whether it goes on afterwards.
    once: bool,
}

impl Fuse {
    /// Operations so far.
    pub(crate) fn operations(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }

    /// Counts an operation; says whether it takes effect, and whether its answer arrives.
    fn step(&self) -> (bool, bool) {
        let number = self.done.fetch_add(1, Ordering::SeqCst) + 1;
        let before = self.at == 0 || number < self.at || (self.once && number > self.at);
        (before || (number == self.at && self.applied), before)
    }
}

impl Simulation {
    /// An empty storage; its clock stands at the seeded environment's first instant.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            objects: InMemory::new(),
            heads: MemoryHeads::default(),
            clock: 1_577_836_800_000.into(),
            written: Mutex::default(),
            number: SIMULATIONS.fetch_add(1, Ordering::SeqCst),
        })
    }

    /// A handle that never stops.
    pub(crate) fn store(self: &Arc<Self>) -> Store {
        self.store_until(0, false).0
    }

    /// A handle that stops at operation `at`, before or after that takes effect.
    pub(crate) fn store_until(self: &Arc<Self>, at: u64, applied: bool) -> (Store, Arc<Fuse>) {
        let fuse = Arc::new(Fuse {
            at,
            applied,
            ..Fuse::default()
        });
        (self.handle(Arc::clone(&fuse), None), fuse)
    }

    /// A handle whose operation `at` fails, before or after it takes effect, and no other.
    pub(crate) fn store_stumbling(self: &Arc<Self>, at: u64, applied: bool) -> Store {
        let fuse = Fuse {
            at,
            applied,
            once: true,
            ..Fuse::default()
        };
        self.handle(Arc::new(fuse), None)
    }

    /// A handle whose reads are answered at the end of a round.
    pub(crate) fn store_in_rounds(self: &Arc<Self>) -> (Store, Arc<Rounds>) {
        let rounds = Arc::<Rounds>::default();
        (
            self.handle(Arc::default(), Some(Arc::clone(&rounds))),
            rounds,
        )
    }

    fn handle(self: &Arc<Self>, fuse: Arc<Fuse>, rounds: Option<Arc<Rounds>>) -> Store {
        let handle = Handle {
            simulation: Arc::clone(self),
            fuse,
            rounds,
        };
        let location = format!("simulated:{}", self.number);
        let identity = super::Identity::address("simulated", &self.number.to_le_bytes());
        Store::new(Arc::new(handle.clone()), Arc::new(handle), location).with_identity(identity)
    }

    /// Turns the clock, in milliseconds.
    pub(crate) fn pass(&self, millis: i64) {
        self.clock.fetch_add(millis, Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.load(Ordering::SeqCst)
    }

    /// Puts an object that is none of ours.
    pub(crate) async fn put(&self, key: &str, body: &[u8]) {
        let payload = PutPayload::from(body.to_vec());
        self.objects.put(&Path::from(key), payload).await.unwrap();
    }

    /// Every object with its bytes, heads included.
    pub(crate) async fn bytes(&self) -> BTreeMap<String, Bytes> {
        let mut found = BTreeMap::new();
        let metas: Vec<_> = self.objects.list(None).collect().await;
        for meta in metas {
            let key = meta.unwrap().location;
            let body = self.objects.get(&key).await.unwrap().bytes().await.unwrap();
            found.insert(key.to_string(), body);
        }
        for branch in self.heads.list().await.unwrap() {
            let (body, _) = self.heads.get(&branch).await.unwrap().unwrap();
            found.insert(format!("heads/{branch}"), body);
        }
        found
    }

    /// A storage with the same objects, heads and times.
    pub(crate) async fn copy(&self) -> Arc<Self> {
        let copy = Self::new();
        copy.clock.store(self.now(), Ordering::SeqCst);
        let written = self
            .written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        *copy.written.lock().unwrap_or_else(PoisonError::into_inner) = written;
        for (key, body) in self.bytes().await {
            if let Some(branch) = key.strip_prefix("heads/") {
                let branch = BranchName::try_new(branch).unwrap();
                let CasOutcome::Swapped(_) = copy.heads.cas(&branch, None, body).await else {
                    panic!("a head was there already")
                };
            } else {
                copy.put(&key, &body).await;
            }
        }
        copy
    }
}

#[derive(Clone, Debug)]
struct Handle {
    simulation: Arc<Simulation>,
    fuse: Arc<Fuse>,
    rounds: Option<Arc<Rounds>>,
}

fn stopped() -> object_store::Error {
    object_store::Error::Generic {
        store: "simulated",
        source: "the machine has stopped".into(),
    }
}

fn lost() -> Error {
    super::failure("simulated:", stopped())
}

impl Handle {
    async fn answer(&self) {
        if let Some(rounds) = &self.rounds {
            rounds.end().await;
        }
    }

    fn dated(&self, mut meta: ObjectMeta) -> ObjectMeta {
        let written = self
            .simulation
            .written
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let at = written.get(&meta.location).copied().unwrap_or(0);
        meta.last_modified = DateTime::from_timestamp_millis(at).unwrap();
        meta
    }
}

#[async_trait]
impl HeadStore for Handle {
    async fn get(&self, branch: &BranchName) -> Result<Option<(Bytes, HeadVersion)>> {
        self.answer().await;
        match self.fuse.step() {
            (_, true) => self.simulation.heads.get(branch).await,
            _ => Err(lost()),
        }
    }

    async fn get_if_changed(
        &self,
        branch: &BranchName,
        seen: &HeadVersion,
    ) -> Result<Option<(Bytes, HeadVersion)>> {
        match self.fuse.step() {
            (_, true) => self.simulation.heads.get_if_changed(branch, seen).await,
            _ => Err(lost()),
        }
    }

    async fn cas(
        &self,
        branch: &BranchName,
        expected: Option<&HeadVersion>,
        body: Bytes,
    ) -> CasOutcome {
        let (takes_effect, answers) = self.fuse.step();
        if !takes_effect {
            return CasOutcome::Unknown(lost());
        }
        let outcome = self.simulation.heads.cas(branch, expected, body).await;
        if answers {
            outcome
        } else {
            CasOutcome::Unknown(lost())
        }
    }

    async fn list(&self) -> Result<Vec<BranchName>> {
        match self.fuse.step() {
            (_, true) => self.simulation.heads.list().await,
            _ => Err(lost()),
        }
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

#[async_trait]
impl ObjectStore for Handle {
    async fn put_opts(
        &self,
        key: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let (takes_effect, answers) = self.fuse.step();
        if !takes_effect {
            return Err(stopped());
        }
        let put = self
            .simulation
            .objects
            .put_opts(key, payload, options)
            .await;
        if put.is_ok() {
            let mut written = self
                .simulation
                .written
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            written.insert(key.clone(), self.simulation.now());
        }
        if answers { put } else { Err(stopped()) }
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.answer().await;
        match self.fuse.step() {
            (_, true) => self.simulation.objects.get_opts(key, options).await,
            _ => Err(stopped()),
        }
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let this = self.clone();
        keys.then(move |key| {
            let this = this.clone();
            async move {
                let key = key?;
                let (takes_effect, answers) = this.fuse.step();
                if takes_effect {
                    this.simulation.objects.delete(&key).await?;
                }
                if answers { Ok(key) } else { Err(stopped()) }
            }
        })
        .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        match self.fuse.step() {
            (_, true) => {
                let this = self.clone();
                let found = self.simulation.objects.list(prefix);
                found
                    .map(move |meta| meta.map(|meta| this.dated(meta)))
                    .boxed()
            }
            _ => stream::once(async { Err(stopped()) }).boxed(),
        }
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        Err(stopped())
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> object_store::Result<ListResult> {
        Err(stopped())
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> object_store::Result<()> {
        Err(stopped())
    }
}
