//! Merging: the changes of one branch, made on another as one transaction.
//!
//! ```text
//!   ours    … ── base ── a ── b ──── merge         merge says what theirs changed since base,
//!                  \                 /             unless ours changed it too
//!   theirs          c ── d ─────────╯
//! ```
//!
//! Above [`log`](super::log), which finds the base. [`ids`] translates the entity ids of theirs, which
//! hands out the same numbers for other entities; [`cells`] compares facts three ways. A merge goes through
//! the writer like any transaction, so that it is decided anew if somebody else commits first.
//!
//! **Invariant.** The cost follows what theirs has changed since the base, not the size of the database. On
//! a branch that was purged, the records of all commits that both share are read besides.
//!
//! **Invariant.** The record of a merge names what was merged and how its entities are called here, so the
//! next merge, in either direction, begins where this one ended.

mod cells;
mod ids;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use self::cells::Merger;
use super::Connection;
use super::branch::{encoded, head_of, stand_at};
use super::log::{Base, Kinship};
use super::writer::{Request, Work};
use crate::datom::Entid;
use crate::db::Db;
use crate::db::commit::{CommitRecord, OtherParent};
use crate::error::{Error, Result};
use crate::id::CommitId;
use crate::tx::{Facts, TransactionFunctions, TxData, TxReport};
use crate::value::Value;

/// How often a fast-forward is tried anew because another writer came first.
const ROUNDS_MAX: usize = 100;

/// Where two branches say different things, in ids of the branch that takes the merge.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    /// What clashes.
    pub kind: ConflictKind,
    /// The entity. One that the merge would bring has the id that it would get.
    pub e: Entid,
    /// The attribute.
    pub a: Entid,
    /// The value at the base, if there was one.
    pub base: Option<Value>,
    /// The value that ours has.
    pub ours: Option<Value>,
    /// The value that theirs has.
    pub theirs: Option<Value>,
}

/// How two branches can contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictKind {
    /// Both gave an attribute of cardinality one another value.
    Changed,
    /// One retracted a fact or an entity that the other changed or refers to.
    Retracted,
    /// The value of a unique attribute belongs to two entities.
    Unique {
        /// The entity that has it on ours.
        holder: Entid,
    },
}

/// What becomes of a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Ours stays as it is.
    Ours,
    /// Theirs is taken over.
    Theirs,
    /// Nothing is merged at all.
    Refuse,
}

/// Who decides conflicts.
#[derive(Clone, Default)]
pub enum MergeStrategy {
    /// Nothing is merged if there are any.
    #[default]
    Fail,
    /// Ours stays as it is wherever there is one.
    Ours,
    /// Theirs is taken over wherever there is one.
    Theirs,
    /// Each is asked for; more than once if the merge is decided anew.
    Decide(Arc<dyn Fn(&Conflict) -> Resolution + Send + Sync>),
}

/// What came of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeOutcome {
    /// Ours has all that theirs has; nothing was written.
    UpToDate,
    /// Ours had nothing of its own, so its head now stands at the commit of theirs.
    FastForward,
    /// The changes of theirs are one transaction on ours.
    Merged,
    /// There are conflicts that nobody decided; nothing was written.
    Refused,
}

/// A merge, and what came of it.
#[derive(Clone, Debug)]
#[must_use = "a merge with conflicts may have been refused"]
pub struct MergeReport {
    /// What came of it.
    pub outcome: MergeOutcome,
    /// The commit that both had in common.
    pub base: CommitId,
    /// The newest commit of ours now.
    pub commit: CommitId,
    /// The conflicts, and what became of each.
    pub conflicts: Vec<(Conflict, Resolution)>,
    /// The entities that came new from theirs: their ids there, and here.
    pub renumbered: BTreeMap<Entid, Entid>,
    /// The transaction, if one was made.
    pub tx: Option<TxReport>,
}

/// A merge that was asked for; shared with the writer, which decides it.
pub(super) struct Merge {
    theirs: Db,
    strategy: MergeStrategy,
    decided: Mutex<Option<Decided>>,
}

/// What a merge amounts to on a certain value of ours.
struct Decided {
    outcome: MergeOutcome,
    base: CommitId,
    commit: CommitId,
    conflicts: Vec<(Conflict, Resolution)>,
    renumbered: BTreeMap<Entid, Entid>,
}

impl Connection {
    /// Merges a value of another branch, or of this branch's past, into this branch.
    ///
    /// If ours is an ancestor of theirs, the head moves to the commit of theirs: one PUT; unless one of the
    /// two was purged of what the other one holds. Otherwise the changes of theirs since the newest common
    /// ancestor become one transaction. Entities that are new on theirs get new ids, unless a
    /// `:db.unique/identity` says that ours has them already; attributes are entities as well, and their
    /// `:db/ident` unifies them. The same change on both sides is no conflict. Composite tuples are not
    /// merged: they follow their parts. What theirs says about its own transactions stays there; a reference
    /// to one of them becomes one to the merge.
    ///
    /// The head of theirs is read before and after, because a value that was opened before its branch was
    /// purged still holds the facts.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if theirs is speculative, a view of history or `since`, of another store or
    /// another database; [`Error::Transaction`] if the result would not be allowed, for one because the
    /// schemas do not go together, or two entities would share a composite that is unique;
    /// [`Error::SnapshotExpired`] if theirs was purged, or garbage was collected, since it was opened; if the
    /// purge came while ours was written, the message says so, and ours must be purged, too; otherwise as
    /// [`Connection::transact`]. Conflicts are no error: see [`MergeReport`].
    pub async fn merge(&self, theirs: &Db, strategy: &MergeStrategy) -> Result<MergeReport> {
        self.must_accept(theirs)?;
        if purged_since(theirs).await? {
            return Err(Error::SnapshotExpired(format!(
                "facts were purged since branch {} was opened, or it is gone; open it again and merge anew",
                theirs.branch()
            )));
        }
        // Also if nothing was left to merge: a head whose answer was lost may have moved after all.
        let mut wrote = false;
        let report = self.merge_unpurged(theirs, strategy, &mut wrote).await?;
        wrote |= report.outcome == MergeOutcome::Merged;
        // A purge names the branches that hold the facts, but it may have looked at this one before.
        if wrote && purged_since(theirs).await? {
            return Err(Error::SnapshotExpired(format!(
                "facts were purged from branch {} while it was merged as {}: branch {} may hold them now; \
                 purge it, too",
                theirs.branch(),
                report.commit,
                self.branch()
            )));
        }
        Ok(report)
    }

    /// Sets `forward` once it has tried to move the head.
    async fn merge_unpurged(
        &self,
        theirs: &Db,
        strategy: &MergeStrategy,
        forward: &mut bool,
    ) -> Result<MergeReport> {
        for _ in 0..ROUNDS_MAX {
            let ours = self.sync().await?;
            let kinship = related(&ours, theirs).await?;
            let commit = ours.commit_id().await?;
            let report = |outcome, base, commit| MergeReport {
                outcome,
                base,
                commit,
                conflicts: Vec::new(),
                renumbered: BTreeMap::new(),
                tx: None,
            };
            let newest = theirs.commit_id().await?;
            if kinship.contained(commit.t) >= newest.t {
                return Ok(report(MergeOutcome::UpToDate, newest, commit));
            }
            // A transaction says what theirs has said since; a head would bring all of its past along, with
            // what was purged from ours and without what was purged from theirs.
            if kinship.fork < commit.t || !purged_alike(&ours, theirs, kinship.fork).await? {
                let merge = Arc::new(Merge {
                    theirs: theirs.clone(),
                    strategy: strategy.clone(),
                    decided: Mutex::default(),
                });
                return self.merge_by_transaction(merge).await;
            }
            *forward = true;
            if self.fast_forward(&ours, theirs).await? {
                return Ok(report(MergeOutcome::FastForward, commit, newest));
            }
        }
        Err(Error::invalid(
            "other writers were faster every time; try again",
        ))
    }

    fn must_accept(&self, theirs: &Db) -> Result<()> {
        let ours = self.db();
        if theirs.is_history() || theirs.since_t().is_some() {
            return Err(Error::invalid(
                "what is merged is a whole value, not a view of history or since",
            ));
        }
        if theirs.database_id() != ours.database_id() {
            return Err(Error::invalid(format!(
                "{} is another database ({}, this is {}); transact its facts instead",
                theirs.store().location(),
                theirs.database_id(),
                ours.database_id()
            )));
        }
        if !self.store().is_same(theirs.store()) {
            return Err(Error::invalid(format!(
                "the value lies at {}, this branch at {}; fetch it as a branch first",
                theirs.store().location(),
                self.store().location()
            )));
        }
        Ok(())
    }

    /// Moves the head from ours to the commit of theirs; `false` if the head has moved already.
    async fn fast_forward(&self, ours: &Db, theirs: &Db) -> Result<bool> {
        let old = &ours.0.head;
        // Collection marks from every head in turn; a head of an older epoch may not have been marked.
        if old.gc_epoch != theirs.0.head.gc_epoch {
            return Err(Error::SnapshotExpired(format!(
                "garbage was collected since branch {} was opened; open it again and merge anew, and if that \
                 does not help, collect garbage: a collection did not finish",
                theirs.branch()
            )));
        }
        let mut head = stand_at(theirs, self.branch(), &self.0.environment).await?;
        head.generation = old.generation + 1;
        head.next_entid = head.next_entid.max(old.next_entid);
        head.purges = head.purges.max(old.purges);
        let bytes = encoded(theirs.loader(), &mut head, &self.0.environment).await?;
        let db = Db::from_head(Arc::clone(theirs.loader()), head).await?;
        self.install(ours, db, bytes).await
    }

    async fn merge_by_transaction(&self, merge: Arc<Merge>) -> Result<MergeReport> {
        let outcome = self
            .carry(Request::new(Work::Merge(
                Arc::clone(&merge),
                self.1.clone(),
            )))
            .await;
        let decided = merge.take();
        let decided = match (decided, &outcome) {
            (Some(decided), _) if decided.outcome != MergeOutcome::Merged => decided,
            (Some(decided), Ok(tx)) => Decided {
                commit: tx.db_after.commit_id().await?,
                ..decided
            },
            (_, Err(_)) | (None, _) => {
                return Err(outcome
                    .err()
                    .unwrap_or_else(|| Error::invalid("the merge was lost")));
            }
        };
        Ok(MergeReport {
            outcome: decided.outcome,
            base: decided.base,
            commit: decided.commit,
            conflicts: decided.conflicts,
            renumbered: decided.renumbered,
            tx: outcome.ok(),
        })
    }
}

/// Whether the same was purged from both up to `fork`. Reads nothing if neither was ever purged.
async fn purged_alike(ours: &Db, theirs: &Db, fork: u64) -> Result<bool> {
    if ours.0.head.purges == 0 && theirs.0.head.purges == 0 {
        return Ok(true);
    }
    Ok(purged(ours, fork).await? == purged(theirs, fork).await?)
}

/// What was purged from the commits up to `upto`: by transaction, the places in it.
pub(crate) async fn purged(db: &Db, upto: u64) -> Result<HashSet<(u64, u64)>> {
    // What a purge takes lies in the trees, where the purge itself has put all records.
    let Some(last) = db.0.head.checkpoint.covered.checked_sub(1) else {
        return Ok(HashSet::new());
    };
    let records = db.commit_records(0, upto.min(last)).await?;
    let places = |record: &CommitRecord| {
        let t = record.pending.t;
        let places = record.purged.iter().map(move |(place, _)| (t, *place));
        places.collect::<Vec<_>>()
    };
    Ok(records.iter().flat_map(places).collect())
}

/// Whether the branch that a value was reached from has been purged since. Reads its head.
async fn purged_since(db: &Db) -> Result<bool> {
    let now = head_of(db).await?;
    Ok(now.is_none_or(|now| now.purges != db.0.head.purges))
}

async fn related(ours: &Db, theirs: &Db) -> Result<Kinship> {
    Kinship::between(ours, theirs).await?.ok_or_else(|| {
        Error::invalid(format!(
            "branches {} and {} have no commit in common",
            ours.branch(),
            theirs.branch()
        ))
    })
}

impl Merge {
    fn take(&self) -> Option<Decided> {
        self.decided
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn decide(&self, decided: Decided) {
        *self.decided.lock().unwrap_or_else(PoisonError::into_inner) = Some(decided);
    }

    /// The value of ours after the merge. Where there is nothing to write, the error is not for the
    /// caller, who asks what was decided.
    pub(super) async fn apply(
        &self,
        ours: &Db,
        functions: &TransactionFunctions,
        now: i64,
    ) -> Result<TxReport> {
        self.take();
        let theirs = &self.theirs;
        let kinship = related(ours, theirs).await?;
        let (commit, newest) = (ours.commit_id().await?, theirs.commit_id().await?);
        let mut decided = Decided {
            outcome: MergeOutcome::UpToDate,
            base: newest,
            commit,
            conflicts: Vec::new(),
            renumbered: BTreeMap::new(),
        };
        if kinship.contained(commit.t) >= newest.t {
            self.decide(decided);
            return Err(Error::invalid("there is nothing to merge"));
        }
        let base = match kinship.base() {
            Base::Ours(t) => ours.as_of(crate::db::basis::TimePoint::T(t)).await?,
            Base::Theirs(t) => theirs.as_of(crate::db::basis::TimePoint::T(t)).await?,
        };
        decided.base = base.commit_id().await?;
        let mut merger = Merger::new(ours, theirs, base, &kinship, &self.strategy).await?;
        let mut list = merger.facts().await?;
        // Where the bodies of theirs lie may be garbage by the time this is committed.
        for fact in &mut list {
            fact.v = fact.v.unplaced();
        }
        decided.renumbered = merger.ids.brought().clone();
        decided.conflicts = merger.conflicts;
        let refused = |(_, resolution): &(Conflict, Resolution)| *resolution == Resolution::Refuse;
        if decided.conflicts.iter().any(refused) {
            let count = decided.conflicts.len();
            decided.outcome = MergeOutcome::Refused;
            decided.renumbered.clear();
            self.decide(decided);
            return Err(Error::invalid(format!("the merge has {count} conflicts")));
        }
        decided.outcome = MergeOutcome::Merged;
        let facts = Facts {
            list,
            next_entid: merger.ids.next_entid(),
            other_parents: vec![OtherParent {
                commit: newest,
                renumbered: merger.ids.runs(),
                kept: merger.kept.into_iter().collect(),
            }],
        };
        let origin = TxData::parse(&format!("[[:db/merge \"{} {newest}\"]]", theirs.branch()));
        // Later than what it merges, so that instants order the graph of commits.
        let now = now.max(theirs.basis_instant().saturating_add(1));
        let report = ours.with_facts(facts, &origin?, functions, now).await?;
        self.decide(decided);
        Ok(report)
    }
}

impl MergeStrategy {
    fn resolve(&self, conflict: &Conflict) -> Resolution {
        match self {
            Self::Fail => Resolution::Refuse,
            Self::Ours => Resolution::Ours,
            Self::Theirs => Resolution::Theirs,
            Self::Decide(decide) => decide(conflict),
        }
    }
}

impl fmt::Debug for MergeStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fail => "Fail",
            Self::Ours => "Ours",
            Self::Theirs => "Theirs",
            Self::Decide(_) => "Decide",
        })
    }
}

#[cfg(test)]
mod tests;
