//! Bringing a branch of one store up to that of another: fetch and push are the same walk.
//!
//! Beside [`conn`](crate::conn) and [`gc`](crate::gc), above the value. Any two stores will do, and the one
//! that is read may be read-only: no process has to run at either end.
//!
//! ```text
//!   read both heads ─► kin? ─► walk from the roots ─► packs ─► tree of commits ─► swap the head
//!        │              │      copy: what is missing   durable   new records        compare, and
//!        └ same commit  └ parted, another database:    first                        if it moved: again
//!          done           refused
//! ```
//!
//! - **What travels** is what the checkpoints that are new reach and the target's newest does not: nodes of
//!   the seven trees, facts of schemas, bodies of large values ([`copy`]). Each node is verified by its hash,
//!   and new commits by the ids of those that the target has. The tree of commits does not travel: its
//!   records name places, so those of the new commits are written anew.
//! - **The past.** Checkpoints of the new commits that the source has kept travel, so a new copy opens old
//!   bases as fast as its source. What the target has of older commits stays as it is: retention is each
//!   store's own. Only where facts were purged in the source meanwhile, all records are written anew and
//!   older checkpoints go: then nothing of the new value leads to what was purged.
//! - **A new branch** shares the nodes of a branch of the same database that is there already.
//! - **Interrupted**, a long copy is taken up by the next: its packs are named by a [`note`], which keeps
//!   garbage collection away from them for a week. At most one pack is copied twice. A short one, of a single
//!   pack, leaves no note.
//!
//! **Invariant.** The target's head moves last, by compare-and-swap, from the very head whose nodes the copy
//! shares; a garbage collection or a writer in between makes it begin anew. Where there was no head yet, it is a
//! tombstone first, which keeps collections away, and comes alive once the roots have been read.
//!
//! **Invariant.** A branch moves only to a commit whose ancestor by first parents it stood at.

mod copy;
mod kin;
pub(crate) mod note;

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, Stream, StreamExt};

use self::copy::{Copy, Travelled};
use self::kin::{Past, past};
use self::note::Note;
use crate::conn::branch::encoded;
use crate::db::commit::{Checkpoint, CommitRecord};
use crate::db::head::Head;
use crate::db::{Db, head_object};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::id::{BranchName, CommitHash, CommitId, PackId};
use crate::index::TreeName;
use crate::node::Loader;
use crate::store::{CasOutcome, HeadVersion, Requests, Store};
use crate::tree::{self, Change, Tree};

/// How often a copy is tried anew because somebody else moved a head.
const ROUNDS_MAX: usize = 100;

/// What to bring where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncOptions {
    /// The branch that is read: `main` unless it is said.
    pub from_branch: BranchName,
    /// The branch that is moved, or made: `main` unless it is said.
    pub to_branch: BranchName,
    /// A pack is put once it is this long, in bytes: what an interruption may lose. 16 MiB unless it is said.
    pub pack_bytes: u64,
}

impl Default for SyncOptions {
    fn default() -> Self {
        Self::branches(BranchName::default(), BranchName::default())
    }
}

impl SyncOptions {
    /// From one branch to another.
    pub fn branches(from_branch: BranchName, to_branch: BranchName) -> Self {
        Self {
            from_branch,
            to_branch,
            pack_bytes: 16 << 20,
        }
    }
}

/// What became of the target's branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncOutcome {
    /// It had all commits of the source's already, and perhaps more.
    #[default]
    UpToDate,
    /// It moved on to the source's commit.
    FastForward,
    /// It was made.
    Created,
}

/// What a sync did, or has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// What became of the target's branch.
    pub outcome: SyncOutcome,
    /// The source's commit; none before its head was read.
    pub commit: Option<CommitId>,
    /// Commits that are new on the target's branch.
    pub commits: u64,
    /// Nodes that were copied. The target's tree of commits, which is its own, does not count.
    pub nodes: u64,
    /// Bodies of large values that were copied.
    pub bodies: u64,
    /// Bytes of the nodes that were copied, as they lie in the source.
    pub bytes: u64,
    /// What was asked of the source meanwhile through its handle.
    pub from: Requests,
    /// What was asked of the target.
    pub to: Requests,
}

/// Brings a branch of `to` up to a branch of `from`, or makes it.
///
/// Costs one request to each store if there is nothing new. Reads what is new, and of the target the inner
/// nodes beside it.
///
/// # Errors
///
/// [`Error::Invalid`] if the branches hold different databases, if they have parted, if the target was purged
/// of what the source holds, or if both are one store; it says what to do. [`Error::NoDatabase`] and
/// [`Error::BranchDeleted`] if the source has no such branch. [`Error::Corrupt`] names what is damaged, and
/// the target stays as it was. [`Error::CommitUnknown`], [`Error::SnapshotExpired`], [`Error::Store`].
#[cfg(not(target_family = "wasm"))]
pub async fn sync(from: &Store, to: &Store, options: &SyncOptions) -> Result<SyncReport> {
    sync_in(from, to, options, Arc::new(crate::environment::System)).await
}

/// [`sync`] with randomness of the caller's.
///
/// # Errors
///
/// As [`sync`].
pub async fn sync_in(
    from: &Store,
    to: &Store,
    options: &SyncOptions,
    environment: Arc<dyn Environment>,
) -> Result<SyncReport> {
    sync_watched(from, to, options, environment, &mut |_| ()).await
}

/// [`sync_in`], telling of what has travelled as it does.
///
/// # Errors
///
/// As [`sync`].
pub async fn sync_watched(
    from: &Store,
    to: &Store,
    options: &SyncOptions,
    environment: Arc<dyn Environment>,
    progress: &mut (dyn FnMut(&SyncReport) + Send),
) -> Result<SyncReport> {
    let mut follower = Follower::new(from, to, options.clone(), environment);
    Ok(follower.step(progress).await?.unwrap_or_default())
}

/// Keeps a branch of `to` up to a branch of `from`: once now, then with each tick; ends with the ticks.
///
/// A tick costs one conditional request while the source's branch does not move, and says nothing then. An
/// error does not end it: the next tick tries again, from the beginning. Where the source
/// [is live](Store::is_live), that request is answered when the branch moves, or after a while.
pub fn follow(
    from: &Store,
    to: &Store,
    options: SyncOptions,
    environment: Arc<dyn Environment>,
    ticks: impl Stream<Item = ()> + Send + 'static,
) -> BoxStream<'static, Result<SyncReport>> {
    let follower = Follower::new(from, to, options, environment);
    let ticks = stream::once(std::future::ready(())).chain(ticks).boxed();
    stream::unfold((follower, ticks), |(mut follower, mut ticks)| async move {
        loop {
            ticks.next().await?;
            if let Some(told) = follower.step(&mut |_| ()).await.transpose() {
                return Some((told, (follower, ticks)));
            }
        }
    })
    .boxed()
}

/// Whoever brings one branch up to another, again and again.
struct Follower {
    from: Store,
    to: Store,
    options: SyncOptions,
    environment: Arc<dyn Environment>,
    /// The source's head that the target was brought up to.
    seen: Option<HeadVersion>,
}

impl Follower {
    fn new(
        from: &Store,
        to: &Store,
        options: SyncOptions,
        environment: Arc<dyn Environment>,
    ) -> Self {
        Self {
            from: from.clone(),
            to: to.clone(),
            options,
            environment,
            seen: None,
        }
    }

    /// Brings the target up to the source; `None` if the source has not moved since the last time.
    async fn step(
        &mut self,
        progress: &mut (dyn FnMut(&SyncReport) + Send),
    ) -> Result<Option<SyncReport>> {
        let (from, branch) = (&self.from, &self.options.from_branch);
        if from.is_same(&self.to) {
            return Err(Error::invalid(format!(
                "both addresses are {}; within a store, make a branch or merge one",
                from.location()
            )));
        }
        let before = (from.requests(), self.to.requests());
        let head = match self.seen.take() {
            None => from.head(branch).await?,
            Some(seen) => match from.head_when_changed(branch, &seen).await? {
                None => {
                    self.seen = Some(seen);
                    return Ok(None);
                }
                changed => changed,
            },
        };
        let mut run = Run {
            follower: self,
            progress,
            report: SyncReport::default(),
        };
        // On the heap: the states of a copy are large.
        let (mut report, seen) = Box::pin(run.run(head)).await?;
        report.from = self.from.requests() - before.0;
        report.to = self.to.requests() - before.1;
        self.seen = Some(seen);
        Ok(Some(report))
    }
}

impl Follower {
    /// Reads the target's head.
    async fn target(&self) -> Result<Target> {
        let (to, branch) = (&self.to, &self.options.to_branch);
        let Some((bytes, version)) = to.head(branch).await? else {
            return Ok(Target::default());
        };
        let head = Head::decode(&bytes, &head_object(to.location(), branch))?;
        let mut target = Target {
            version: Some(version),
            generation: head.generation + 1,
            gc_epoch: head.gc_epoch,
            ..Target::default()
        };
        if head.deleted.is_none() {
            target.ours = Some(Db::from_head(Arc::new(Loader::new(to.clone())), head).await?);
        }
        Ok(target)
    }

    /// Another branch of the target that holds the database.
    async fn neighbour(&self, theirs: &Db) -> Result<Option<Db>> {
        let to = &self.to;
        for branch in to.list_branches().await? {
            let Some((bytes, _)) = to.head(&branch).await? else {
                continue;
            };
            let head = Head::decode(&bytes, &head_object(to.location(), &branch))?;
            if head.database == theirs.database_id() && head.deleted.is_none() {
                let loader = Arc::new(Loader::new(to.clone()));
                return Db::from_head(loader, head).await.map(Some);
            }
        }
        Ok(None)
    }

    /// Swaps the target's head; `None` if it is not what it was.
    async fn swap(
        &self,
        target: &Target,
        bytes: Bytes,
        commit: CommitId,
    ) -> Result<Option<HeadVersion>> {
        let (to, branch) = (&self.to, &self.options.to_branch);
        let swapped = to
            .cas_head(branch, target.version.as_ref(), bytes.clone())
            .await;
        match swapped {
            CasOutcome::Swapped(version) => return Ok(Some(version)),
            CasOutcome::Failed(error) => return Err(error),
            CasOutcome::Conflict | CasOutcome::Unknown(_) => {}
        }
        match (to.head(branch).await, swapped) {
            (Ok(Some((found, version))), _) if found == bytes => Ok(Some(version)),
            (Err(error), CasOutcome::Unknown(_)) => Err(Error::CommitUnknown {
                branch: branch.clone(),
                commit,
                source: Box::new(error),
            }),
            (_, CasOutcome::Unknown(error)) => Err(error),
            (Err(error), _) => Err(error),
            (Ok(_), _) => Ok(None),
        }
    }

    /// Whether no garbage was collected since a branch of the target was read.
    async fn stands(&self, neighbour: &Db) -> Result<bool> {
        let (to, branch) = (&self.to, neighbour.branch());
        let Some((bytes, _)) = to.head(branch).await? else {
            return Ok(false);
        };
        let now = Head::decode(&bytes, &head_object(to.location(), branch))?;
        Ok(now.era() == neighbour.0.head.era())
    }
}

/// One sync.
struct Run<'a> {
    follower: &'a Follower,
    progress: &'a mut (dyn FnMut(&SyncReport) + Send),
    report: SyncReport,
}

/// The target's branch as it was found.
#[derive(Default)]
struct Target {
    /// The branch, if it is there and not deleted.
    ours: Option<Db>,
    /// What the head must still be when it is swapped; a tombstone has one, too.
    version: Option<HeadVersion>,
    generation: u64,
    gc_epoch: u64,
    /// Another branch whose nodes a new one shares.
    neighbour: Option<Db>,
}

impl Target {
    /// The value whose nodes the copy shares.
    fn base(&self) -> Option<&Db> {
        self.ours.as_ref().or(self.neighbour.as_ref())
    }
}

impl Run<'_> {
    async fn run(
        &mut self,
        mut head: Option<(Bytes, HeadVersion)>,
    ) -> Result<(SyncReport, HeadVersion)> {
        let (from, branch) = (&self.follower.from, &self.follower.options.from_branch);
        for _ in 0..ROUNDS_MAX {
            let Some((bytes, seen)) = head.take() else {
                return Err(Error::NoDatabase {
                    location: from.location().to_owned(),
                    branch: branch.clone(),
                });
            };
            let mut target = self.follower.target().await?;
            match self.round(&bytes, &mut target).await {
                Ok(true) => return Ok((std::mem::take(&mut self.report), seen)),
                Ok(false) => {}
                // Garbage was collected at one of the ends.
                Err(Error::SnapshotExpired(what)) => {
                    let to = &self.follower.to;
                    let theirs = from.head(branch).await?.map(|(_, version)| version);
                    let ours = to.head(&self.follower.options.to_branch).await?;
                    let ours = ours.map(|(_, version)| version);
                    let beside = match &target.neighbour {
                        Some(neighbour) => self.follower.stands(neighbour).await?,
                        None => true,
                    };
                    if theirs == Some(seen) && ours == target.version && beside {
                        return Err(Error::SnapshotExpired(what));
                    }
                }
                Err(error) => return Err(error),
            }
            head = from.head(branch).await?;
        }
        Err(Error::invalid(format!(
            "branch {} at {} was changed by others every time; try again",
            self.follower.options.to_branch,
            self.follower.to.location()
        )))
    }

    /// Tries once; `false` if somebody else was faster.
    async fn round(&mut self, bytes: &[u8], target: &mut Target) -> Result<bool> {
        let (from, to) = (&self.follower.from, &self.follower.to);
        let options = &self.follower.options;
        let theirs = Head::decode(bytes, &head_object(from.location(), &options.from_branch))?;
        let theirs = Db::from_head(Arc::new(Loader::new(from.clone())), theirs).await?;
        let commit = theirs.head_commit();
        self.report.commit = Some(commit);
        let past = match &target.ours {
            None => Past::Whole,
            Some(ours) => match past(ours, &theirs).await? {
                Some(past) => past,
                None => return Ok(true),
            },
        };
        if to.read_only() {
            return Err(Error::invalid(format!(
                "{} can only be read; there is more at {} than it holds",
                to.location(),
                from.location()
            )));
        }
        if target.ours.is_none() {
            target.neighbour = self.follower.neighbour(&theirs).await?;
        }
        if target
            .neighbour
            .as_ref()
            .is_some_and(|n| target.gc_epoch > n.0.head.gc_epoch)
        {
            // A collection has swapped one of the heads and not yet the other.
            return Ok(false);
        }
        let outcome = match target.ours {
            None => SyncOutcome::Created,
            Some(_) => SyncOutcome::FastForward,
        };
        let first = target
            .ours
            .as_ref()
            .map_or(0, |ours| ours.head_commit().t + 1);
        let Some((mut head, notes)) = self.head(&theirs, target, past).await? else {
            return Ok(false);
        };
        let loader = target.base().map_or_else(
            || Arc::new(Loader::new(to.clone())),
            |base| Arc::clone(base.loader()),
        );
        if target.neighbour.is_some() || target.version.is_none() {
            // No head has fenced what this one leads to until now: it may have gone meanwhile. So it is a tombstone
            // until that is seen to be there. A branch that nobody vouches for was never alive, and none has to be
            // deleted by a request that may be carried out late.
            head.deleted = Some(self.follower.environment.now());
            let bytes = encoded(&loader, &mut head, &self.follower.environment).await?;
            target.version = self.follower.swap(target, bytes, commit).await?;
            let stands = target.version.is_some()
                && match &target.neighbour {
                    Some(neighbour) => self.follower.stands(neighbour).await.unwrap_or(false),
                    None => head.lies_there(&Loader::new(to.clone())).await.is_ok(),
                };
            if !stands {
                return Ok(false);
            }
            head.deleted = None;
            head.generation += 1;
        }
        let bytes = encoded(&loader, &mut head, &self.follower.environment).await?;
        if self.follower.swap(target, bytes, commit).await?.is_none() {
            return Ok(false);
        }
        for note in notes {
            // The head is in place: a note that stays only keeps packs for a while.
            let _ = to.delete_note(note).await;
        }
        self.report.outcome = outcome;
        self.report.commits = (commit.t + 1).saturating_sub(first);
        Ok(true)
    }

    /// The head that the target is to have, whose packs have been put; and the notes to delete then. `None` if
    /// packs that were taken up may have gone meanwhile.
    async fn head(
        &mut self,
        theirs: &Db,
        target: &Target,
        past: Past,
    ) -> Result<Option<(Head, Vec<PackId>)>> {
        let Self {
            follower,
            progress,
            report,
        } = self;
        let (inner, base) = (&theirs.0, target.base());
        let old = target.ours.as_ref().map(|ours| &ours.0.head);
        let gc_epoch = base.map_or(target.gc_epoch, |base| base.0.head.gc_epoch);
        let note = Note {
            database: theirs.database_id(),
            branch: follower.options.to_branch.clone(),
            gc_epoch: base.map_or(Note::NO_EPOCH, |base| base.0.head.gc_epoch),
        };
        let loader = base.map_or_else(
            || Arc::new(Loader::new(follower.to.clone())),
            |base| Arc::clone(base.loader()),
        );
        let before = report.clone();
        let told = move |travelled: Travelled| {
            report.nodes = before.nodes + travelled.nodes;
            report.bodies = before.bodies + travelled.bodies;
            report.bytes = before.bytes + travelled.bytes;
            progress(report);
        };
        let (bytes, environment) = (follower.options.pack_bytes, &*follower.environment);
        let hands = (theirs.loader().as_ref(), Arc::clone(&loader));
        let mut copy = Copy::new(hands, base, note, bytes, environment, told);
        let mut head = Head {
            branch: follower.options.to_branch.clone(),
            generation: target.generation,
            gc_epoch,
            schema: Some(inner.checkpoint_schema.as_ref().clone()),
            ..Head::clone(&inner.head)
        };
        if let Some(old) = old {
            head.purges = head.purges.max(old.purges);
            head.next_entid = head.next_entid.max(old.next_entid);
        }
        let chain = theirs.chain().last().copied();
        let stands = chain.unwrap_or(head.checkpoint_commit) == head.commit.hash;
        if !stands {
            return Err(Error::corrupt(
                head_object(follower.from.location(), &follower.options.from_branch),
                "its commits do not lead to the one that it names",
            ));
        }
        match old.filter(|_| past == Past::Kept) {
            // The trees here cover as much: only the tail is new.
            Some(old) if old.checkpoint.covered >= head.checkpoint.covered => {
                let covered = old.checkpoint.covered;
                head.pending.retain(|pending| pending.t >= covered);
                head.log.retain(|datom| datom.tx.t() >= covered);
                head = Head {
                    checkpoint: old.checkpoint.clone(),
                    checkpoint_commit: old.checkpoint_commit,
                    checkpoint_instant: old.checkpoint_instant,
                    commits: old.commits,
                    schema: old.schema.clone(),
                    ..head
                };
            }
            old => {
                let records = new_records(theirs, old.map(|old| &**old)).await?;
                let mut all: Vec<Checkpoint> = vec![inner.head.checkpoint.clone()];
                all.extend(
                    records
                        .iter()
                        .filter_map(|record| record.checkpoint.clone()),
                );
                let mut placed = copy.checkpoints(&all).await?.into_iter();
                head.checkpoint = placed.next().unwrap_or_default();
                let changes = records.into_iter().map(|mut record| {
                    if record.checkpoint.is_some() {
                        record.checkpoint = placed.next();
                    }
                    Change::Insert(record.to_datom())
                });
                let changes: Vec<Change> = changes.collect();
                let commits = old.map_or(Tree::empty(TreeName::Commits), |old| old.commits);
                let edited = tree::edit(&loader, &mut copy.writer, &commits, &changes).await?;
                head.commits = edited.tree;
            }
        }
        let notes = copy.finish().await?;
        Ok(notes.map(|notes| (head, notes)))
    }
}

/// The records of the source's tree of commits that the target lacks: those after what its trees cover.
///
/// Their hashes follow from the target's commits.
async fn new_records(theirs: &Db, old: Option<&Head>) -> Result<Vec<CommitRecord>> {
    let covered = old.map_or(0, |old| old.checkpoint.covered);
    let mut parent = old.map_or(CommitHash([0; CommitHash::LEN]), |old| {
        old.checkpoint_commit
    });
    let upto = theirs.0.head.checkpoint.covered;
    let mut records = match upto.checked_sub(1) {
        Some(last) => theirs.commit_records(covered, last).await?,
        None => Vec::new(),
    };
    let corrupt = |t: u64, reason: &str| {
        Error::corrupt(
            format!("commit t={t} of branch {}", theirs.branch()),
            reason,
        )
    };
    for (record, t) in records.iter_mut().zip(covered..) {
        if record.pending.t != t {
            return Err(corrupt(t, "its record is missing"));
        }
        if record.pending.hash(parent, &record.digest) != record.hash {
            return Err(corrupt(
                t,
                "its id does not follow from its parent and its data",
            ));
        }
        parent = record.hash;
        // The source's checkpoints before this are none of the target's.
        record.covered = record.covered.max(covered);
    }
    if records.len() as u64 != upto - covered || parent != theirs.0.head.checkpoint_commit {
        return Err(corrupt(upto, "the records before it do not lead to it"));
    }
    Ok(records)
}

#[cfg(test)]
mod tests;
