//! A store in memory whose clock a test turns, which stops at an operation that a test chooses, and whose
//! requests fare as a seed says.

mod weather;

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
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use tokio::sync::watch;

pub(crate) use self::weather::{
    Actor, Dice, Does, Fate, Journal, Weather, interleave, patient, wait,
};
use super::{CasOutcome, HeadStore, HeadVersion, MemoryHeads, Store};
use crate::environment::{Environment, Seeded};
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
    journal: Journal,
    /// What takes effect once so many requests were made.
    under_way: Mutex<Vec<(u64, Parcel)>>,
}

/// A request that is still under way although whoever sent it has given it up.
#[derive(Clone, Debug)]
enum Parcel {
    Head(BranchName, Option<HeadVersion>, Bytes),
    Object(Path, PutPayload, PutOptions),
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
            journal: Journal::default(),
            under_way: Mutex::default(),
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
        (self.handle(Arc::clone(&fuse), None, None), fuse)
    }

    /// A handle whose operation `at` fails, before or after it takes effect, and no other.
    pub(crate) fn store_stumbling(self: &Arc<Self>, at: u64, applied: bool) -> Store {
        let fuse = Fuse {
            at,
            applied,
            once: true,
            ..Fuse::default()
        };
        self.handle(Arc::new(fuse), None, None)
    }

    /// A handle whose reads are answered at the end of a round.
    pub(crate) fn store_in_rounds(self: &Arc<Self>) -> (Store, Arc<Rounds>) {
        let rounds = Arc::<Rounds>::default();
        (
            self.handle(Arc::default(), Some(Arc::clone(&rounds)), None),
            rounds,
        )
    }

    /// A handle in bad weather, which stops at operation `at`, before or after that takes effect; 0 is never.
    pub(crate) fn store_in(self: &Arc<Self>, weather: Weather, at: u64, applied: bool) -> Store {
        let fuse = Fuse {
            at,
            applied,
            ..Fuse::default()
        };
        self.handle(Arc::new(fuse), None, Some(Arc::new(weather)))
    }

    fn handle(
        self: &Arc<Self>,
        fuse: Arc<Fuse>,
        rounds: Option<Arc<Rounds>>,
        weather: Option<Arc<Weather>>,
    ) -> Store {
        let handle = Handle {
            simulation: Arc::clone(self),
            fuse,
            rounds,
            weather,
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

    /// The clock of this storage, and numbers that follow from a seed.
    pub(crate) fn world(self: &Arc<Self>, seed: u64) -> Arc<dyn Environment> {
        Arc::new(World {
            simulation: Arc::clone(self),
            numbers: Seeded::new(seed),
        })
    }

    /// What was asked in bad weather.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Delivers what is still under way.
    pub(crate) async fn deliver_all(&self) {
        self.deliver(u64::MAX).await;
    }

    /// Delivers what was to take effect by now.
    async fn deliver(&self, requests: u64) {
        let due: Vec<_> = {
            let mut under_way = self
                .under_way
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            under_way
                .extract_if(.., |(at, _)| *at <= requests)
                .collect()
        };
        for (_, parcel) in due {
            // Whoever sent it does not wait for the answer.
            match parcel {
                Parcel::Head(branch, expected, body) => {
                    let _ = self.heads.cas(&branch, expected.as_ref(), body).await;
                }
                Parcel::Object(key, payload, options) => {
                    let _ = self.put_dated(&key, payload, options).await;
                }
            }
        }
    }

    fn send_late(&self, after: u64, parcel: Parcel) {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        under_way.push((self.journal.len() + after, parcel));
    }

    async fn put_dated(
        &self,
        key: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let put = self.objects.put_opts(key, payload, options).await;
        if put.is_ok() {
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            written.insert(key.clone(), self.now());
        }
        put
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

/// The clock of a storage, and numbers that follow from a seed.
#[derive(Debug)]
struct World {
    simulation: Arc<Simulation>,
    numbers: Arc<Seeded>,
}

impl Environment for World {
    fn now(&self) -> i64 {
        self.simulation.now()
    }

    fn random(&self) -> [u8; 16] {
        self.numbers.random()
    }
}

#[derive(Clone, Debug)]
struct Handle {
    simulation: Arc<Simulation>,
    fuse: Arc<Fuse>,
    rounds: Option<Arc<Rounds>>,
    weather: Option<Arc<Weather>>,
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

    /// Waits until a request arrives; says what becomes of it.
    async fn fate(&self, does: Does, what: impl fmt::Display) -> Fate {
        let Some(weather) = &self.weather else {
            return Fate::Well;
        };
        weather.travel().await;
        let simulation = &self.simulation;
        simulation.deliver(simulation.journal.len()).await;
        let fate = weather.fate(does);
        simulation
            .journal
            .note(weather, does, &what.to_string(), fate);
        fate
    }

    /// Waits until the answer arrives.
    async fn arrival(&self) {
        if let Some(weather) = &self.weather {
            weather.travel().await;
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
        let fate = self.fate(Does::Read, branch).await;
        let found = match self.fuse.step() {
            (_, true) if fate != Fate::Dropped => self.simulation.heads.get(branch).await,
            _ => Err(lost()),
        };
        self.arrival().await;
        Ok(found?.map(|(body, version)| (fate.damage(body), version)))
    }

    async fn get_if_changed(
        &self,
        branch: &BranchName,
        seen: &HeadVersion,
    ) -> Result<Option<(Bytes, HeadVersion)>> {
        let fate = self.fate(Does::Read, branch).await;
        let found = match self.fuse.step() {
            (_, true) if fate != Fate::Dropped => {
                self.simulation.heads.get_if_changed(branch, seen).await
            }
            _ => Err(lost()),
        };
        self.arrival().await;
        Ok(found?.map(|(body, version)| (fate.damage(body), version)))
    }

    async fn cas(
        &self,
        branch: &BranchName,
        expected: Option<&HeadVersion>,
        body: Bytes,
    ) -> CasOutcome {
        let fate = self.fate(Does::Swap, branch).await;
        let (takes_effect, answers) = self.fuse.step();
        if !takes_effect {
            return CasOutcome::Unknown(lost());
        }
        let simulation = &self.simulation;
        let swap = async || simulation.heads.cas(branch, expected, body.clone()).await;
        let outcome = match fate {
            Fate::Refused => CasOutcome::Failed(lost()),
            Fate::Contended => CasOutcome::Conflict,
            Fate::Dropped => CasOutcome::Unknown(lost()),
            Fate::Late(after) => {
                let parcel = Parcel::Head(branch.clone(), expected.cloned(), body);
                simulation.send_late(after, parcel);
                CasOutcome::Unknown(lost())
            }
            Fate::Lost => {
                let _ = swap().await;
                CasOutcome::Unknown(lost())
            }
            Fate::Twice => {
                let _ = swap().await;
                swap().await
            }
            Fate::Well | Fate::Short(_) | Fate::Flipped(_) => swap().await,
        };
        self.arrival().await;
        if answers {
            outcome
        } else {
            CasOutcome::Unknown(lost())
        }
    }

    async fn list(&self) -> Result<Vec<BranchName>> {
        let fate = self.fate(Does::List, "heads").await;
        let found = match self.fuse.step() {
            (_, true) if fate != Fate::Dropped => self.simulation.heads.list().await,
            _ => Err(lost()),
        };
        self.arrival().await;
        found
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
        let fate = self.fate(Does::Write, key).await;
        let (takes_effect, answers) = self.fuse.step();
        if !takes_effect {
            return Err(stopped());
        }
        let simulation = &self.simulation;
        let put = async || {
            simulation
                .put_dated(key, payload.clone(), options.clone())
                .await
        };
        let put = match fate {
            Fate::Refused | Fate::Dropped => Err(stopped()),
            Fate::Late(after) => {
                let parcel = Parcel::Object(key.clone(), payload, options);
                simulation.send_late(after, parcel);
                Err(stopped())
            }
            Fate::Lost => {
                let _ = put().await;
                Err(stopped())
            }
            Fate::Twice => {
                let _ = put().await;
                put().await
            }
            _ => put().await,
        };
        self.arrival().await;
        if answers { put } else { Err(stopped()) }
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.answer().await;
        let fate = self.fate(Does::Read, key).await;
        let found = match self.fuse.step() {
            (_, true) if fate != Fate::Dropped => {
                self.simulation.objects.get_opts(key, options).await
            }
            _ => Err(stopped()),
        };
        self.arrival().await;
        let mut found = found?;
        if matches!(fate, Fate::Short(_) | Fate::Flipped(_)) {
            let payload = found.payload;
            let GetResultPayload::Stream(chunks) = payload else {
                return Err(stopped());
            };
            let body = chunks.try_collect::<Vec<_>>().await?.concat();
            let damaged = fate.damage(body.into());
            found.payload = GetResultPayload::Stream(stream::iter([Ok(damaged)]).boxed());
        }
        Ok(found)
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
                let fate = this.fate(Does::Delete, &key).await;
                let (takes_effect, answers) = this.fuse.step();
                if takes_effect && fate != Fate::Dropped {
                    this.simulation.objects.delete(&key).await?;
                }
                this.arrival().await;
                let answers = answers && fate == Fate::Well;
                if answers { Ok(key) } else { Err(stopped()) }
            }
        })
        .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let found = async move {
            let fate = this.fate(Does::List, "objects").await;
            let (_, answers) = this.fuse.step();
            if !answers || fate != Fate::Well {
                return Err(stopped());
            }
            let found: Vec<_> = this
                .simulation
                .objects
                .list(prefix.as_ref())
                .try_collect()
                .await?;
            this.arrival().await;
            let found: Vec<_> = found.into_iter().map(|meta| Ok(this.dated(meta))).collect();
            Ok(stream::iter(found))
        };
        stream::once(found).try_flatten().boxed()
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
