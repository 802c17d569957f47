//! One writer a branch: transactions queue, one of them carries all that wait to a single swap of the head.
//!
//! ```text
//! transact ─┐                      ┌─ small: the new datoms lie in the head's tail ─┐
//! transact ─┼─ with, with, with ───┤                                               ├─ swap the head
//! transact ─┘   (on db-before)     └─ large: checkpoint, PUT the pack ─────────────┘
//! ```
//!
//! If another process swapped first, everything is decided anew on its value: new `t`, ids, uniqueness.
//! That holds for garbage collection too, which swaps every head before it looks for garbage: what was built
//! on an older head never becomes reachable, and a writer that slept begins anew with the nodes of today.
//! If it cannot be known who won, the head is read back and searched for the commit. If the head is what it
//! was, the request may still be on its way and take effect at any time; so it is sent again as it is, and of
//! the two at most one does. A transaction whose caller went away while its swap was under way is searched
//! for in the same manner, so that it is never committed twice; and nothing else commits it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::merge::Merge;
use super::{Connection, Newest, node_writer, read_head};
use crate::datom::Entid;
use crate::db::Db;
use crate::db::checkpoint::checkpoint;
use crate::db::commit::{Checkpoint, Pending};
use crate::db::head::Head;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::id::{BranchName, CommitHash, CommitId, DatabaseId};
use crate::index::TreeName;
use crate::node::{Era, Loader};
use crate::schema::{Schema, bootstrap_datoms};
use crate::store::{CasOutcome, HeadVersion};
use crate::tree::Tree;
use crate::tx::{Import, TransactionFunctions, TxData, TxReport};

/// Most transactions that one swap carries.
const GROUP_MAX: usize = 128;
/// How often a group is tried anew before its callers are told; each time, another writer got ahead.
const ROUNDS_MAX: usize = 1000;
/// How often a swap is sent that has no answer and cannot be seen to have happened.
const SENDS_MAX: usize = 10;

/// The queue of a branch and the right to empty it.
#[derive(Default)]
pub(super) struct Writer {
    queue: Mutex<VecDeque<Arc<Request>>>,
    /// Held by the one that writes; holds what a writer that went away left behind.
    pub(super) turn: tokio::sync::Mutex<Option<Attempt>>,
}

/// A transaction that waits, and what became of it.
pub(super) struct Request {
    work: Work,
    outcome: Mutex<Option<Result<TxReport>>>,
}

/// What a request asks for.
pub(super) enum Work {
    Transact(TxData, TransactionFunctions),
    Import(Import, TransactionFunctions),
    Merge(Arc<Merge>, TransactionFunctions),
}

impl Request {
    pub(super) fn new(work: Work) -> Arc<Self> {
        Arc::new(Self {
            work,
            outcome: Mutex::default(),
        })
    }

    fn settle(&self, outcome: Result<TxReport>) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }

    fn take(&self) -> Option<Result<TxReport>> {
        self.outcome
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// A swap that was asked for and whose answer may have been lost.
pub(super) struct Attempt {
    /// The head that it replaces.
    version: HeadVersion,
    db: Db,
    bytes: bytes::Bytes,
    group: Vec<(Arc<Request>, TxReport)>,
}

impl Connection {
    /// Commits a transaction.
    ///
    /// A small one costs one conditional PUT; one that overflows the head's tail merges it into the trees
    /// and writes a pack before. On a file store, `Ok` means that everything has reached the disk.
    ///
    /// Of a call that is dropped, only a swap that was under way can still commit the transaction.
    ///
    /// # Errors
    ///
    /// [`Error::Transaction`] if it is refused, and then nothing was written; [`Error::CommitUnknown`] if
    /// the answer was lost and the head could not be read back; [`Error::Store`].
    pub async fn transact(&self, data: &TxData) -> Result<TxReport> {
        let work = Work::Transact(data.clone(), self.1.clone());
        self.carry(Request::new(work)).await
    }

    /// Commits an import: one transaction, whose trees are built in bulk.
    ///
    /// Holds the facts in memory, about ten times over while they are sorted: some 750 bytes a datom. Whoever
    /// has many imports them in several transactions, which bounds it.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if a unique value occurs twice, a reference leads nowhere, or the schema has
    /// changed since; otherwise as [`Connection::transact`].
    pub async fn import(&self, import: Import) -> Result<TxReport> {
        let work = Work::Import(import, self.1.clone());
        self.carry(Request::new(work)).await
    }

    /// Queues a request and sees to it that it is settled.
    pub(super) async fn carry(&self, request: Arc<Request>) -> Result<TxReport> {
        if self.store().read_only() {
            return Err(Error::invalid(format!(
                "{} is read-only",
                self.store().location()
            )));
        }
        let writer = &self.0.writer;
        lock(&writer.queue).push_back(Arc::clone(&request));
        let mut turn = writer.turn.lock().await;
        loop {
            if let Some(outcome) = request.take() {
                return outcome;
            }
            if let Some(attempt) = turn.as_mut() {
                match Box::pin(self.take_up(attempt)).await {
                    Ok(found) => self.settle_attempt(turn.take(), found),
                    Err(error) => return Err(self.give_up(&request, attempt, error)),
                }
                continue;
            }
            let group: Vec<_> = {
                let mut queue = lock(&writer.queue);
                let count = queue.len().min(GROUP_MAX);
                queue.drain(..count).collect()
            };
            if group.is_empty() {
                // An earlier holder of the turn took this request and went away before the swap.
                lock(&writer.queue).push_back(Arc::clone(&request));
                continue;
            }
            // Boxed, as below: a writer's state is large, and its callers hold many.
            Box::pin(self.commit(group, &mut turn)).await;
        }
    }

    /// Merges the head's tail into the trees now, without waiting for it to overflow.
    ///
    /// Says nothing new: the commit stays the same. One PUT for the pack, one for the head; nothing if
    /// the tail is empty.
    ///
    /// # Errors
    ///
    /// [`Error::HeadMoved`] if another writer committed meanwhile; [`Error::Store`].
    pub async fn checkpoint(&self) -> Result<()> {
        let _turn = self.0.writer.turn.lock().await;
        for _ in 0..ROUNDS_MAX {
            let base = self.newest();
            let old = &base.db.0.head;
            if old.pending.is_empty() {
                return Ok(());
            }
            let head = Head {
                generation: old.generation + 1,
                ..Head::clone(old)
            };
            let base_db = base.db.with_head(Arc::new(head));
            let (db, bytes) = match Box::pin(self.build(&base_db, &[])).await {
                Err(Error::SnapshotExpired(_)) if self.overtaken(&base.db).await => continue,
                built => built?,
            };
            let expected = db.head_commit();
            if self.swap(&base.version, db, bytes).await? {
                return Ok(());
            }
            let actual = self.db().head_commit();
            // Garbage collection swaps heads too, and says nothing new.
            if actual != expected {
                return Err(Error::HeadMoved {
                    branch: self.0.branch.clone(),
                    expected,
                    actual,
                });
            }
        }
        Err(Error::invalid("others were faster every time; try again"))
    }

    /// Makes `db` the newest value if `base` still is; `false` if it is not.
    pub(super) async fn install(&self, base: &Db, db: Db, bytes: bytes::Bytes) -> Result<bool> {
        let _turn = self.0.writer.turn.lock().await;
        let known = self.newest();
        if known.db.0.head.generation != base.0.head.generation {
            return Ok(false);
        }
        self.swap(&known.version, db, bytes).await
    }

    /// Swaps the head without a transaction; `false` if another writer came first.
    pub(super) async fn swap(
        &self,
        version: &HeadVersion,
        db: Db,
        bytes: bytes::Bytes,
    ) -> Result<bool> {
        match self
            .0
            .store
            .cas_head(&self.0.branch, Some(version), bytes)
            .await
        {
            CasOutcome::Swapped(version) => {
                self.advance(Newest { db, version }, Vec::new());
                Ok(true)
            }
            CasOutcome::Failed(error) => Err(error),
            CasOutcome::Conflict | CasOutcome::Unknown(_) => {
                let newest = self.read_head().await?;
                let (now, mine) = (&newest.db.0.head, &db.0.head);
                let mine = now.generation == mine.generation
                    && now.commit == mine.commit
                    && now.checkpoint == mine.checkpoint;
                self.advance(newest, Vec::new());
                Ok(mine)
            }
        }
    }

    pub(super) async fn read_head(&self) -> Result<Newest> {
        let newest = read_head(self.newest().db.loader(), &self.0.branch).await?;
        self.check_database(&newest)?;
        Ok(newest)
    }

    /// Whether the head has moved on from a value whose nodes are gone, so that beginning anew may help.
    async fn overtaken(&self, base: &Db) -> bool {
        let Ok(newest) = self.read_head().await else {
            return false;
        };
        let moved = newest.db.0.head.generation != base.0.head.generation;
        self.advance(newest, Vec::new());
        moved
    }

    /// Finds out whether a swap happened whose writer went away, or sees to it; `None` if it never will.
    async fn take_up(&self, attempt: &Attempt) -> Result<Option<Newest>> {
        match self.read_back(attempt, true).await? {
            Found::Mine(newest) => Ok(Some(newest)),
            Found::Other => Ok(None),
            Found::Unchanged => self.send(attempt, true).await,
        }
    }

    /// Tells the callers of a swap that it happened, or queues them anew.
    fn settle_attempt(&self, attempt: Option<Attempt>, found: Option<Newest>) {
        let Some(attempt) = attempt else { return };
        if let Some(newest) = found {
            self.settle_group(newest, attempt.group);
            return;
        }
        for (request, _) in attempt.group.into_iter().rev() {
            lock(&self.0.writer.queue).push_front(request);
        }
    }

    /// What a caller is told who waited behind a swap of which nothing can be learned. Nobody else commits
    /// his request: he may be part of that swap, and otherwise hears that he was refused.
    fn give_up(&self, request: &Arc<Request>, attempt: &mut Attempt, error: Error) -> Error {
        let other = |one: &Arc<Request>| !Arc::ptr_eq(one, request);
        lock(&self.0.writer.queue).retain(other);
        let before = attempt.group.len();
        attempt.group.retain(|(one, _)| other(one));
        match error {
            Error::CommitUnknown { source, .. } if attempt.group.len() == before => *source,
            error => error,
        }
    }

    /// Sends a swap until it is known what came of it; `None` if another writer was first. `lost` says that
    /// one that was sent before may still be on its way.
    async fn send(&self, attempt: &Attempt, mut lost: bool) -> Result<Option<Newest>> {
        let (store, branch) = (&self.0.store, &self.0.branch);
        for _ in 0..SENDS_MAX {
            let bytes = attempt.bytes.clone();
            match store.cas_head(branch, Some(&attempt.version), bytes).await {
                CasOutcome::Swapped(version) => {
                    let db = attempt.db.clone();
                    return Ok(Some(Newest { db, version }));
                }
                CasOutcome::Failed(error) if lost => return Err(self.unknown(attempt, error)),
                CasOutcome::Failed(error) => return Err(error),
                CasOutcome::Unknown(_) => lost = true,
                CasOutcome::Conflict => {}
            }
            match self.read_back(attempt, lost).await? {
                Found::Mine(newest) => return Ok(Some(newest)),
                Found::Other => return Ok(None),
                // Whatever was answered: it, or another delivery of it, may still be on its way.
                Found::Unchanged => lost = true,
            }
        }
        let unchanged = format!("the head did not change in {SENDS_MAX} attempts to swap it");
        Err(self.unknown(attempt, Error::invalid(unchanged)))
    }

    fn unknown(&self, attempt: &Attempt, source: Error) -> Error {
        Error::CommitUnknown {
            branch: self.0.branch.clone(),
            commit: attempt.db.head_commit(),
            source: Box::new(source),
        }
    }

    /// Carries a group of transactions to a swap of the head, however often it takes.
    async fn commit(&self, group: Vec<Arc<Request>>, turn: &mut Option<Attempt>) {
        let mut open = group;
        for _ in 0..ROUNDS_MAX {
            // The other reference is that of the caller, unless he went away.
            open.retain(|one| Arc::strong_count(one) > 1);
            if open.is_empty() {
                return;
            }
            let base = self.newest();
            let (taken, reports) = self.apply(&base.db, &mut open).await;
            let Some(last) = reports.last() else { continue };
            let must_checkpoint = last.must_checkpoint;
            let prepared = self
                .prepare(&base.db, last, reports.len(), must_checkpoint)
                .await;
            let (db, bytes) = match prepared {
                Ok(prepared) => prepared,
                Err(Error::SnapshotExpired(_)) if self.overtaken(&base.db).await => {
                    open.splice(0..0, taken);
                    continue;
                }
                Err(error) => return settle_all(taken.into_iter().chain(open), error),
            };
            let attempt = turn.insert(Attempt {
                version: base.version,
                db,
                bytes,
                group: taken.iter().cloned().zip(reports).collect(),
            });
            let found = self.send(attempt, false).await;
            let attempt = turn.take();
            match found {
                Ok(Some(newest)) => self.settle_attempt(attempt, Some(newest)),
                // Another writer was first: all of it is decided anew.
                Ok(None) => _ = open.splice(0..0, taken),
                Err(error) => {
                    // The others were not part of the swap.
                    let refusal = match &error {
                        Error::CommitUnknown { source, .. } => told(source),
                        error => told(error),
                    };
                    settle_all(taken.into_iter(), error);
                    return settle_all(open.into_iter(), refusal);
                }
            }
        }
        let error = Error::invalid("other writers were faster every time; try again");
        settle_all(open.into_iter(), error);
    }

    /// Makes the newest value known that a group led to, and tells its callers.
    fn settle_group(&self, newest: Newest, mut group: Vec<(Arc<Request>, TxReport)>) {
        for (_, report) in &mut group {
            report.db_after = report.db_after.with_head(Arc::clone(&newest.db.0.head));
            if report.db_before.0.speculative_after.is_some() {
                report.db_before = report.db_before.with_head(Arc::clone(&newest.db.0.head));
            }
        }
        let reports = if self.0.listeners.is_empty() {
            Vec::new()
        } else {
            group.iter().map(|(_, report)| report.clone()).collect()
        };
        self.advance(newest, reports);
        for (request, report) in group {
            request.settle(Ok(report));
        }
    }

    /// Applies transactions one after the other; those that are refused are settled at once.
    ///
    /// Returns those that go into one swap, taken off the front of `open`.
    async fn apply(
        &self,
        base: &Db,
        open: &mut Vec<Arc<Request>>,
    ) -> (Vec<Arc<Request>>, Vec<TxReport>) {
        let (mut taken, mut reports): (Vec<_>, Vec<TxReport>) = (Vec::new(), Vec::new());
        while !open.is_empty() {
            let request = open.remove(0);
            // A merge asks for commits, and the value after another transaction has none yet.
            if matches!(request.work, Work::Merge(..)) && !reports.is_empty() {
                open.insert(0, request);
                break;
            }
            let db = reports.last().map_or(base, |report| &report.db_after);
            let now = self.0.environment.now();
            let outcome = match &request.work {
                Work::Transact(data, functions) => db.with_at(data, functions, now).await,
                Work::Import(import, functions) => db.with_import(import, functions, now).await,
                Work::Merge(merge, functions) => Box::pin(merge.apply(db, functions, now)).await,
            };
            match outcome {
                Ok(report) => {
                    let must_checkpoint = report.must_checkpoint;
                    taken.push(request);
                    reports.push(report);
                    if must_checkpoint {
                        break;
                    }
                }
                Err(Error::SnapshotExpired(_)) if self.overtaken(base).await => {
                    // This process slept through a garbage collection: all of it is decided anew.
                    taken.push(request);
                    open.splice(0..0, taken);
                    return (Vec::new(), Vec::new());
                }
                Err(error) => request.settle(Err(error)),
            }
        }
        (taken, reports)
    }

    /// The head that makes the last report's value the newest, encoded; packs have been written.
    async fn prepare(
        &self,
        base: &Db,
        last: &TxReport,
        transactions: usize,
        must_checkpoint: bool,
    ) -> Result<(Db, bytes::Bytes)> {
        let db = &last.db_after;
        let old = &base.0.head;
        let tail = &db.0.tail;
        let mut pending = old.pending.clone();
        let new = tail.pending().len() - transactions;
        for transaction in &tail.pending()[new..] {
            pending.push(Pending {
                nonce: self.0.environment.random(),
                ..transaction.clone()
            });
        }
        let mut head = Head {
            generation: old.generation + 1,
            next_entid: db.0.next_entid,
            pending,
            log: tail.log().to_vec(),
            ..old.without_tail()
        };
        let digests;
        (head.commit, digests) = commit_after(&head, old.commit, transactions);
        if !must_checkpoint && let Some(bytes) = head.encode() {
            return Ok((db.with_head(Arc::new(head)), bytes));
        }
        self.build(&db.with_head(Arc::new(head)), &digests).await
    }

    /// Merges the tail of a value into its trees; the value and its encoded head, its packs written.
    async fn build(&self, db: &Db, digests: &[[u8; 32]]) -> Result<(Db, bytes::Bytes)> {
        let mut writer = node_writer(db.loader(), &self.0.environment);
        let head = checkpoint(db, digests, &mut writer).await?;
        writer.finish().await?;
        let bytes = head
            .encode()
            .ok_or_else(|| Error::invalid("the head would be too large even without a tail"))?;
        let schema = Arc::clone(db.schema());
        Ok((
            Db::from_parts(Arc::clone(db.loader()), Arc::new(head), schema),
            bytes,
        ))
    }

    /// Reads the head after an answer that may hide a success. A conflict may: of two deliveries of one
    /// request the second is refused. But if no answer was lost, and the branch or the database is gone, that
    /// is the answer.
    async fn read_back(&self, attempt: &Attempt, lost: bool) -> Result<Found> {
        let commit = attempt.db.head_commit();
        let found = async {
            let newest = self.read_head().await?;
            let mine = newest.db.commit_hash(commit.t).await? == Some(commit.hash);
            Ok::<_, Error>((newest, mine))
        };
        match found.await {
            Ok((newest, true)) => Ok(Found::Mine(newest)),
            Ok((newest, false)) => {
                let unchanged = newest.version == attempt.version;
                self.advance(newest, Vec::new());
                Ok(if unchanged {
                    Found::Unchanged
                } else {
                    Found::Other
                })
            }
            Err(
                error
                @ (Error::BranchDeleted { .. } | Error::NoDatabase { .. } | Error::Invalid(_)),
            ) if !lost => Err(error),
            Err(error) => Err(self.unknown(attempt, error)),
        }
    }
}

/// What a head is after a swap without an answer.
enum Found {
    /// The commit is in it.
    Mine(Newest),
    /// It is what it was.
    Unchanged,
    /// Another writer's, which the swap can no longer replace.
    Other,
}

/// Writes the head of a new database, whose bootstrap lies in the tail.
pub(super) async fn create(
    loader: &Arc<Loader>,
    branch: &BranchName,
    environment: &dyn Environment,
) -> Result<Newest> {
    let (store, loader) = (loader.store(), &loader.of_era(Era::default()));
    let none = CommitHash([0; 32]);
    let pending = Pending {
        t: 0,
        instant: 0,
        nonce: environment.random(),
        other_parents: Vec::new(),
        tables: Vec::new(),
    };
    let mut head = Head {
        database: DatabaseId(environment.random()),
        branch: branch.clone(),
        generation: 0,
        gc_epoch: 0,
        purges: 0,
        deleted: None,
        commit: CommitId { t: 0, hash: none },
        checkpoint: Checkpoint::default(),
        checkpoint_commit: none,
        checkpoint_instant: 0,
        commits: Tree::empty(TreeName::Commits),
        schema: Some(Schema::bootstrap()),
        next_entid: Entid::FIRST_USER,
        pending: vec![pending],
        log: sorted_bootstrap(),
    };
    head.commit = commit_after(&head, head.commit, 1).0;
    let bytes = head
        .encode()
        .ok_or_else(|| Error::invalid("the bootstrap does not fit in a head"))?;
    let commit = head.commit;
    match store.cas_head(branch, None, bytes).await {
        CasOutcome::Swapped(version) => {
            let schema = Arc::new(Schema::bootstrap());
            let db = Db::from_parts(Arc::clone(loader), Arc::new(head), schema);
            Ok(Newest { db, version })
        }
        CasOutcome::Failed(error) => Err(error),
        CasOutcome::Conflict => {
            let newest = read_head(loader, branch).await?;
            if newest.db.commit_hash(0).await? == Some(commit.hash) {
                return Ok(newest);
            }
            Err(Error::DatabaseExists {
                location: store.location().to_owned(),
                branch: branch.clone(),
            })
        }
        CasOutcome::Unknown(source) => match read_head(loader, branch).await {
            Ok(newest) if newest.db.commit_hash(0).await? == Some(commit.hash) => Ok(newest),
            _ => Err(Error::CommitUnknown {
                branch: branch.clone(),
                commit,
                source: Box::new(source),
            }),
        },
    }
}

fn sorted_bootstrap() -> Vec<crate::datom::Datom> {
    let order = TreeName::Log.order();
    let mut datoms = bootstrap_datoms();
    datoms.sort_unstable_by(|left, right| order.compare(left, right));
    datoms
}

/// The id of the last commit of a head whose last `new` pending ones follow `before`, and their digests.
fn commit_after(head: &Head, before: CommitId, new: usize) -> (CommitId, Vec<[u8; 32]>) {
    let pending = &head.pending[head.pending.len() - new..];
    let digests: Vec<_> = pending
        .iter()
        .map(|pending| pending.digest(head.log_of(pending.t)))
        .collect();
    let last = pending
        .iter()
        .zip(&digests)
        .fold(before, |parent, (pending, digest)| CommitId {
            t: pending.t,
            hash: pending.hash(parent.hash, digest),
        });
    (last, digests)
}

fn settle_all(requests: impl Iterator<Item = Arc<Request>>, error: Error) {
    let others = told(&error);
    let mut error = Some(error);
    for request in requests {
        let error = error.take().unwrap_or_else(|| told(&others));
        request.settle(Err(error));
    }
}

/// Errors do not clone: the first caller gets the chain, the others its kind and first line.
fn told(error: &Error) -> Error {
    match error {
        Error::CommitUnknown {
            branch,
            commit,
            source,
        } => Error::CommitUnknown {
            branch: branch.clone(),
            commit: *commit,
            source: Box::new(told(source)),
        },
        Error::Store { location, source } => Error::Store {
            location: location.clone(),
            source: source.to_string().into(),
        },
        Error::NoDatabase { location, branch } => Error::NoDatabase {
            location: location.clone(),
            branch: branch.clone(),
        },
        Error::BranchDeleted {
            location,
            branch,
            deleted,
        } => Error::BranchDeleted {
            location: location.clone(),
            branch: branch.clone(),
            deleted: *deleted,
        },
        Error::Corrupt { object, reason } => Error::corrupt(object, reason.clone()),
        Error::SnapshotExpired(what) => Error::SnapshotExpired(what.clone()),
        error => Error::Invalid(error.to_string()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
