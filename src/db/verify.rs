//! Proving a database whole: nodes, trees, their agreement, the log, and the chain of commits.
//!
//! ```text
//!   plain   every node of the eight trees: hash, order, separators, counts, boundaries
//!           the chain of commits: each id follows from its parent, up to the head's
//!   deep    the log: each commit's digest; nothing asserted that held, nothing retracted that did not
//!           six trees built anew from the log have the roots of the stored ones
//!           schema and tables as the log gives them
//!           older checkpoints: every node that the next one does not share
//!           bodies of large values, wherever a leaf of the eight trees says; every frame of the packs
//! ```
//!
//! The log is the truth: current facts, history and AVET follow from it, and so do the digests that the
//! commit ids cover. The log's own tree is canonical if its nodes end where they should, which the plain
//! walk checks.
//!
//! A plain verification holds a path of nodes and a batch of commit records. A deep one holds every fact of
//! the database, every superseded datom, 80 bytes a commit and 40 a purged datom, a kilobyte a checkpoint, 100 bytes
//! a place of a body and, one tree at a time, the datoms sorted and the nodes built from them.
//!
//! **Not proven.** Where children lie is no part of a node's identity. So where two trees share a node, be it
//! an older checkpoint and a newer one, and their parents name two places for it, one is read and the other is
//! taken on trust; of what only older checkpoints hold, the bodies are not read.

pub(super) mod replay;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use futures::stream::TryStreamExt;

use self::replay::Replay;
use super::commit::{Checkpoint, CommitRecord, Pending};
use super::head::Head;
use super::merge::tree_slices;
use super::stats::TreeSize;
use super::{Db, Inner, head_object, load_schema};
use crate::datom::Datom;
use crate::error::{Error, Result};
use crate::id::{CommitHash, PackId};
use crate::index::{Range, TreeName};
use crate::node::{Body, Leaf, Loader, NodeWriter};
use crate::schema::attrs;
use crate::store::Store;
use crate::tree::{self, Diff, Difference, Tree};
use crate::value::Value;

/// Commit records that are held at once.
const RECORDS: usize = 1024;

/// How much [`Db::verify_to`] proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// The trees as they are, and the chain of commits.
    Plain,
    /// Also that all of it follows from the log.
    Deep,
}

/// What [`Db::verify_to`] has read and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// What was read of each tree before its first fault, if it has one.
    pub trees: Vec<TreeSize>,
    /// Commits whose ids follow from their parents.
    pub commits: u64,
    /// Frames of packs that were checked one by one.
    pub frames: u64,
    /// The first fault of each tree, of the log, of the chain of commits and of each pack.
    pub faults: Vec<Fault>,
}

/// Something that is wrong with a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it is wrong with.
    pub object: String,
    /// What is wrong, and at which key.
    pub reason: String,
}

/// How far a verification has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// How much of it is done, in the unit of the stage.
    pub done: u64,
    /// How much there is.
    pub total: u64,
}

/// What a verification does, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Reading trees; in datoms.
    Trees,
    /// Following the chain of commits; in commits.
    Commits,
    /// Replaying the log; in datoms.
    Log,
    /// Building trees from the log; in trees.
    Rebuild,
    /// Reading what only older checkpoints hold; in checkpoints.
    Past,
    /// Reading packs whole; in packs.
    Packs,
}

impl Verification {
    /// Nodes of all trees together.
    pub fn nodes(&self) -> u64 {
        self.trees.iter().map(|tree| tree.nodes).sum()
    }

    /// Datoms of all trees together.
    pub fn datoms(&self) -> u64 {
        self.trees.iter().map(|tree| tree.datoms).sum()
    }

    /// Bytes of the nodes of all trees together.
    pub fn bytes(&self) -> u64 {
        self.trees.iter().map(|tree| tree.bytes).sum()
    }

    /// Itself if there is no fault.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] with the first fault.
    pub fn sound(self) -> Result<Self> {
        match self.faults.first() {
            None => Ok(self),
            Some(fault) => Err(Error::corrupt(&fault.object, &*fault.reason)),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.reason)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trees => "reading trees",
            Self::Commits => "following commits",
            Self::Log => "replaying the log",
            Self::Rebuild => "building trees from the log",
            Self::Past => "reading older checkpoints",
            Self::Packs => "reading packs",
        })
    }
}

impl Db {
    /// Reads everything that the head of this value reaches and proves that it is whole, [`Depth::Deep`].
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] with the first fault; otherwise as [`Db::verify_to`].
    pub async fn verify(&self) -> Result<Verification> {
        self.verify_to(Depth::Deep, &mut |_| ()).await?.sound()
    }

    /// Reads what the head of this value reaches and reports what is wrong with it.
    ///
    /// It is the newest commit of the head that is verified, whatever the basis of this value. Of older
    /// checkpoints, a deep verification proves that they can be read, not that they follow from the log.
    ///
    /// # Errors
    ///
    /// [`Error::SnapshotExpired`] if a garbage collection since removed what this value needs; a pack that
    /// is missing without one is a fault. [`Error::Store`] and what else is no fault of the stored bytes:
    /// those are reported.
    pub async fn verify_to(
        &self,
        depth: Depth,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Verification> {
        let past_disk = self.past_disk();
        let mut verifier = Verifier {
            db: past_disk.as_ref().unwrap_or(self),
            found: Verification::default(),
            packs: BTreeSet::new(),
            bodies: BTreeMap::new(),
            commits: Vec::new(),
            checkpoints: Vec::new(),
            missing: None,
            progress,
        };
        // Boxed: the state of a rebuild is large, and callers hold it.
        Box::pin(verifier.run(depth)).await?;
        match verifier.missing {
            Some(what) if self.collected_since().await? => Err(Error::SnapshotExpired(what)),
            _ => Ok(verifier.found),
        }
    }

    /// The same value, read past the disk tier of its store, whose frames prove nothing of what the store holds;
    /// `None` if it has none.
    fn past_disk(&self) -> Option<Self> {
        let loader = Arc::new(Loader::new(self.store().past_disk()?));
        Some(Self(Arc::new(Inner {
            loader,
            ..Inner::clone(&self.0)
        })))
    }

    /// Whether garbage was collected since this value was opened.
    async fn collected_since(&self) -> Result<bool> {
        let (store, branch) = (self.store(), self.branch());
        let Some((bytes, _)) = store.head(branch).await? else {
            return Ok(false);
        };
        let newest = Head::decode(&bytes, &head_object(store.location(), branch))?;
        Ok(newest.gc_epoch != self.0.head.gc_epoch)
    }

    /// Checks every frame of every pack in the store, also those that nothing refers to any more.
    ///
    /// Returns the number of frames. One request to list, one a pack.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] with the first fault; [`Error::Store`].
    pub async fn verify_packs(&self) -> Result<u64> {
        let mut frames = 0;
        for pack in self.store().list_packs().await? {
            frames += self.loader().verify_pack(pack.id).await?;
        }
        Ok(frames)
    }
}

/// A verification in progress.
struct Verifier<'v> {
    db: &'v Db,
    found: Verification,
    /// The packs that have been read from.
    packs: BTreeSet<PackId>,
    /// Where bodies of large values lie, with the first tree that says so.
    bodies: BTreeMap<Body, TreeName>,
    /// What the chain says of each commit.
    commits: Vec<Sealed>,
    /// The checkpoints that the chain records, oldest first.
    checkpoints: Vec<Checkpoint>,
    /// The first pack that is not there, which is a fault unless garbage was collected since.
    missing: Option<String>,
    progress: &'v mut (dyn FnMut(Progress) + Send),
}

/// What the data of a commit must agree with.
struct Sealed {
    nonce: [u8; 16],
    digest: [u8; 32],
    instant: i64,
    /// What purges have left of its datoms.
    purged: Vec<(u64, [u8; 32])>,
}

impl Verifier<'_> {
    fn told(&mut self, stage: Stage, done: u64, total: u64) {
        (self.progress)(Progress { stage, done, total });
    }

    fn fault(&mut self, object: impl ToString, reason: impl Into<String>) {
        self.found.faults.push(Fault {
            object: object.to_string(),
            reason: reason.into(),
        });
    }

    /// What was read, or nothing if the stored bytes are at fault.
    fn read<T>(&mut self, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Ok(read) => Ok(Some(read)),
            Err(Error::Corrupt { object, reason }) => {
                self.fault(object, reason);
                Ok(None)
            }
            Err(Error::SnapshotExpired(what)) => {
                self.fault(format!("branch {}", self.db.branch()), what.clone());
                self.missing.get_or_insert(what);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn is_faulty(&self, name: TreeName) -> bool {
        let object = tree_object(name);
        self.found.faults.iter().any(|fault| fault.object == object)
    }

    async fn run(&mut self, depth: Depth) -> Result<()> {
        self.trees(depth).await?;
        self.chain().await?;
        if depth == Depth::Deep {
            self.log().await?;
            self.past().await?;
            self.bodies().await?;
            self.packs().await?;
        }
        Ok(())
    }

    async fn trees(&mut self, depth: Depth) -> Result<()> {
        let head = &self.db.0.head;
        let trees: Vec<_> = head
            .checkpoint
            .trees
            .iter()
            .chain([&head.commits])
            .collect();
        let total = trees.iter().map(|tree| tree.count()).sum();
        let mut done = 0;
        for tree in trees {
            let mut unplaced = None;
            let mut watch = |leaf: &Leaf| {
                if depth == Depth::Deep {
                    for large in leaf.larges() {
                        match Body::of(large) {
                            Some(body) => {
                                self.bodies.entry(body).or_insert(tree.name);
                            }
                            None => unplaced = unplaced.or(Some(large.hash)),
                        }
                    }
                }
                done += leaf.len() as u64;
                let stage = Stage::Trees;
                (self.progress)(Progress { stage, done, total });
            };
            let report = tree::verify_watched(self.db.loader(), tree, &mut watch).await?;
            self.packs.extend(&report.packs);
            self.found.trees.push(TreeSize {
                name: tree.name,
                datoms: report.datoms,
                height: tree.root.map_or(0, |root| u32::from(root.level) + 1),
                nodes: report.nodes,
                bytes: report.bytes,
            });
            if self.missing.is_none() {
                self.missing = report.missing;
            }
            if let Some(fault) = report.fault {
                self.fault(tree_object(tree.name), fault.to_string());
            } else if let Some(hash) = unplaced {
                let reason = format!("it is not known where the body of value {hash} lies");
                self.fault(tree_object(tree.name), reason);
            }
        }
        Ok(())
    }

    /// Each commit's id follows from its parent and what is recorded of it, up to the head's.
    async fn chain(&mut self) -> Result<()> {
        let followed = self.follow().await;
        self.read(followed).map(drop)
    }

    async fn follow(&mut self) -> Result<()> {
        let head = Arc::clone(&self.db.0.head);
        let covered = head.checkpoint.covered;
        let total = covered + head.pending.len() as u64;
        let mut parent = CommitHash([0; CommitHash::LEN]);
        for first in (0..covered).step_by(RECORDS) {
            let last = (first + RECORDS as u64).min(covered) - 1;
            for (record, t) in self
                .db
                .commit_records(first, last)
                .await?
                .iter()
                .zip(first..)
            {
                if record.pending.t != t {
                    return Err(Error::corrupt(commit_object(t), "its record is missing"));
                }
                let id = record.pending.hash(parent, &record.digest);
                if id != record.hash {
                    return Err(Error::corrupt(
                        commit_object(t),
                        "its id does not follow from its parent, instant and data",
                    ));
                }
                parent = id;
                self.link(&record.pending, record.digest, record.purged.clone())?;
                self.checkpoints.extend(record.checkpoint.clone());
                if t + 1 == covered && record.checkpoint.as_ref() != Some(&head.checkpoint) {
                    return Err(Error::corrupt(
                        commit_object(t),
                        "its record names another checkpoint than the head",
                    ));
                }
            }
            self.told(Stage::Commits, self.found.commits, total);
        }
        if self.found.commits != covered || parent != head.checkpoint_commit {
            return Err(Error::corrupt(
                "commits",
                "they do not lead to the checkpoint",
            ));
        }
        for pending in &head.pending {
            let digest = pending.digest(head.log_of(pending.t));
            parent = pending.hash(parent, &digest);
            self.link(pending, digest, Vec::new())?;
        }
        if parent != head.commit.hash {
            return Err(Error::corrupt("commits", "they do not lead to the head"));
        }
        self.told(Stage::Commits, total, total);
        Ok(())
    }

    fn link(
        &mut self,
        pending: &Pending,
        digest: [u8; 32],
        purged: Vec<(u64, [u8; 32])>,
    ) -> Result<()> {
        let (t, instant) = (pending.t, pending.instant);
        if self
            .commits
            .last()
            .is_some_and(|last| last.instant > instant)
        {
            return Err(Error::corrupt(
                commit_object(t),
                "its instant lies before its parent's",
            ));
        }
        let nonce = pending.nonce;
        self.commits.push(Sealed {
            nonce,
            digest,
            instant,
            purged,
        });
        self.found.commits += 1;
        Ok(())
    }

    /// The log says what the commits sealed, and everything else follows from it.
    async fn log(&mut self) -> Result<()> {
        let mut replay = Replay::new();
        let replayed = self.replay_tree(&mut replay).await;
        if self.is_faulty(TreeName::Log) {
            // Why it cannot be read is known already.
            return match replayed {
                Err(error)
                    if !matches!(error, Error::Corrupt { .. } | Error::SnapshotExpired(_)) =>
                {
                    Err(error)
                }
                _ => Ok(()),
            };
        }
        if self.read(replayed)?.is_none() {
            return Ok(());
        }
        for (done, name) in (0..).zip(TreeName::DATA) {
            self.told(Stage::Rebuild, done, TreeName::DATA.len() as u64);
            if name != TreeName::Log && !self.is_faulty(name) {
                let rebuilt = Box::pin(self.rebuild(name, &replay)).await;
                self.read(rebuilt)?;
            }
        }
        let total = TreeName::DATA.len() as u64;
        self.told(Stage::Rebuild, total, total);
        self.described(&replay).await?;
        // The tail must follow from the trees as the trees follow from the log.
        let head = Arc::clone(&self.db.0.head);
        for said in head.log.chunk_by(|left, right| left.tx == right.tx) {
            let said = self.say(&mut replay, said);
            if self.read(said)?.is_none() {
                break;
            }
        }
        Ok(())
    }

    async fn replay_tree(&mut self, replay: &mut Replay) -> Result<()> {
        let log = self.db.0.head.checkpoint.tree(TreeName::Log);
        let mut slices = tree_slices(self.db, log, Range::all());
        let mut said: Vec<Datom> = Vec::new();
        let (mut done, mut transactions) = (0, 0);
        while let Some(slice) = slices.try_next().await? {
            done += slice.rows.len() as u64;
            for datom in slice.rows.map(|row| slice.leaf.datom(row)) {
                if said.last().is_some_and(|last| last.tx != datom.tx) {
                    self.say(replay, &said)?;
                    transactions += 1;
                    said.clear();
                }
                said.push(datom);
            }
            self.told(Stage::Log, done, log.count());
        }
        if !said.is_empty() {
            self.say(replay, &said)?;
            transactions += 1;
        }
        let covered = self.db.0.head.checkpoint.covered;
        if transactions != covered {
            return Err(Error::corrupt(
                tree_object(TreeName::Log),
                format!("it holds {transactions} transactions, the checkpoint covers {covered}"),
            ));
        }
        Ok(())
    }

    /// Takes what one transaction said, which its commit must have sealed.
    fn say(&mut self, replay: &mut Replay, said: &[Datom]) -> Result<()> {
        let t = said.first().map_or(0, |datom| datom.tx.t());
        // Beyond a fault in the chain nothing is sealed that could be compared.
        let commit = usize::try_from(t).ok().and_then(|t| self.commits.get(t));
        if let Some(commit) = commit {
            let record = CommitRecord {
                pending: Pending {
                    t,
                    instant: commit.instant,
                    nonce: commit.nonce,
                    other_parents: Vec::new(),
                    tables: Vec::new(),
                },
                hash: CommitHash([0; CommitHash::LEN]),
                digest: commit.digest,
                covered: 0,
                checkpoint: None,
                purged: commit.purged.clone(),
            };
            if record.digest_with(said) != record.digest {
                return Err(Error::corrupt(
                    commit_object(t),
                    "what the log says of it is not what was committed: its data has another digest",
                ));
            }
            let instant = |datom: &&Datom| datom.a == attrs::TX_INSTANT && datom.e == datom.tx.0;
            let instant = said.iter().filter(|datom| datom.added).find(instant);
            if instant.map(|datom| &datom.v) != Some(&Value::Instant(commit.instant)) {
                return Err(Error::corrupt(
                    commit_object(t),
                    "its instant is not the one that the log says",
                ));
            }
        }
        replay.say(said).map_err(|(datom, why)| {
            Error::corrupt(
                tree_object(TreeName::Log),
                format!("{datom} cannot have been said: {why}"),
            )
        })
    }

    /// A tree built from the log has the root of the stored one.
    async fn rebuild(&mut self, name: TreeName, replay: &Replay) -> Result<()> {
        let stored = self.db.0.head.checkpoint.tree(name);
        let scratch = Arc::new(Loader::new(Store::memory()));
        let mut packs = 0u128;
        let new_pack = move || {
            packs += 1;
            PackId(packs.to_le_bytes())
        };
        let mut writer = NodeWriter::new(Arc::clone(&scratch), Box::new(new_pack));
        let said = tree::build(&mut writer, name, replay.datoms(name)).await?;
        writer.finish().await?;
        if said.id() == stored.id() {
            return Ok(());
        }
        let loaders = (&*scratch, &**self.db.loader());
        let mut diff = Diff::new(&said, stored);
        let reason = match (diff.next(loaders).await?, diff.next(loaders).await?) {
            (Some(Difference::Left(said)), Some(Difference::Right(stored)))
                if name.order().compare(&said, &stored).is_eq() =>
            {
                format!("it holds {stored} where the log says {said}")
            }
            (Some(Difference::Left(said)), _) => format!("it lacks {said}, which the log says"),
            (Some(Difference::Right(stored)), _) => {
                format!("it holds {stored}, which the log does not say")
            }
            (None, _) => "its nodes are not those that its datoms give".to_owned(),
        };
        self.fault(tree_object(name), reason);
        Ok(())
    }

    /// Schema and tables of the checkpoint are those that the log gives.
    async fn described(&mut self, replay: &Replay) -> Result<()> {
        let head = Arc::clone(&self.db.0.head);
        let stored = load_schema(self.db.loader(), &head.checkpoint).await;
        let stored = self.read(stored)?;
        for schema in stored.iter().chain(&head.schema) {
            if !schema.facts().eq(replay.schema.facts()) {
                self.fault("schema", "it is not the one that the log describes");
                break;
            }
        }
        let said = replay.tables();
        let stored = &head.checkpoint.tables;
        let absent = said
            .keys()
            .filter(|name| stored.iter().all(|(own, _)| **own != ***name));
        let claims = stored.iter().map(|(name, count)| (&**name, *count));
        let wrong = claims
            .chain(absent.map(|name| (*name, 0)))
            .find(|(name, count)| said.get(name).copied().unwrap_or(0) != *count);
        if let Some((name, count)) = wrong {
            let said = said.get(name).copied().unwrap_or(0);
            self.fault(
                format!("table {name}"),
                format!("it is said to have {count} entities, by the log it has {said}"),
            );
        }
        Ok(())
    }

    /// Every older checkpoint that is recorded can be read: a node is one of a newer tree that has been
    /// read, or it lies where the record says. Where the record names other places for nodes of the newer
    /// tree, those are not read.
    async fn past(&mut self) -> Result<()> {
        let mut checkpoints = std::mem::take(&mut self.checkpoints);
        let mut newer = self.db.0.head.checkpoint.trees;
        // The newest is the head's own.
        checkpoints.pop();
        let total = checkpoints.len() as u64;
        for (done, older) in (1..).zip(checkpoints.iter().rev()) {
            if let Err(error) = self.read_older(older, &mut newer).await {
                let reason = match error {
                    Error::Corrupt { object, reason } => format!("{object}: {reason}"),
                    Error::SnapshotExpired(what) => {
                        self.missing.get_or_insert(what.clone());
                        what
                    }
                    error => return Err(error),
                };
                let t = older.covered.saturating_sub(1);
                self.fault(format!("checkpoint t={t}"), reason);
            }
            self.told(Stage::Past, done, total);
        }
        Ok(())
    }

    async fn read_older(&mut self, older: &Checkpoint, newer: &mut [Tree; 7]) -> Result<()> {
        let loader = self.db.loader();
        load_schema(loader, older).await?;
        for (older, newer) in older.trees.iter().zip(newer) {
            // A newer tree that is at fault has been reported, and tells nothing of this one.
            if self.is_faulty(older.name) {
                continue;
            }
            let mut diff = Diff::new(older, newer);
            while diff.next((loader, loader)).await?.is_some() {}
            self.packs.extend(older.root.map(|root| root.location.pack));
            *newer = *older;
        }
        Ok(())
    }

    /// Bodies of large values lie where leaves say, each leaf for itself. Equal hints are followed once.
    async fn bodies(&mut self) -> Result<()> {
        let mut named: BTreeMap<TreeName, Vec<Body>> = BTreeMap::new();
        for (body, tree) in std::mem::take(&mut self.bodies) {
            named.entry(tree).or_default().push(body);
        }
        for (tree, bodies) in named {
            let verified = self.db.loader().verify_bodies(&bodies).await;
            if let Some(Some((Body { location, hash, .. }, why))) = self.read(verified)? {
                let (pack, offset) = (location.pack, location.offset);
                let reason = format!(
                    "the body of value {hash} does not lie in pack {pack} at {offset}, as a leaf says: {why}"
                );
                self.fault(tree_object(tree), reason);
            }
        }
        Ok(())
    }

    /// Every frame of the packs that have been read from.
    async fn packs(&mut self) -> Result<()> {
        let packs = std::mem::take(&mut self.packs);
        let total = packs.len() as u64;
        for (done, pack) in (1..).zip(packs) {
            let frames = self.db.loader().verify_pack(pack).await;
            self.found.frames += self.read(frames)?.unwrap_or(0);
            self.told(Stage::Packs, done, total);
        }
        Ok(())
    }
}

fn tree_object(name: TreeName) -> String {
    format!("{name} tree")
}

fn commit_object(t: u64) -> String {
    format!("commit t={t}")
}
