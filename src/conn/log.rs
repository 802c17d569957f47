//! The commit graph: who came before whom, on one branch and across several.
//!
//! ```text
//!   main  0 ── 1 ── 2 ── 3 ─────── 4 ── 5       5 has two parents: 4, the commit before it on its own
//!                    \                 /        branch, and 4' of another, which it merged
//!   dev               3' ── 4' ───────╯
//! ```
//!
//! Above [`db`](crate::db), which keeps a record of each commit. A branch is a chain of first parents from
//! its head down to `t` = 0; merges add the other edges.
//!
//! **Invariant.** A commit's hash covers its parents, so two chains that agree at one `t` agree below it.
//!
//! **Invariant.** No commit has an earlier instant than a parent, and a merge has a later one than what it
//! merged. So commits ordered by instant, then by `t`, lie in topological order.

use std::collections::VecDeque;
use std::ops::RangeBounds;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::datom::{Entid, TxId};
use crate::db::Db;
use crate::db::commit::{OtherParent, Pending, Renumbered};
use crate::db::history::ends;
use crate::error::{Error, Result};
use crate::id::{CommitHash, CommitId};

/// Commits that the first step of [`Db::log`] reads; each step reads twice as many as the one before.
const STEP_MIN: u64 = 16;
/// Commits that a step reads at most.
const STEP_MAX: u64 = 1024;

/// A commit, as the graph knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its name.
    pub id: CommitId,
    /// The commit before it, then what it merged; none for the first of a database.
    pub parents: Vec<CommitId>,
    /// When it was made, in milliseconds since the epoch.
    pub instant: i64,
    /// Its transaction, which is an entity.
    pub tx: TxId,
}

/// A commit with what a merge must know of it.
struct Recorded {
    commit: Commit,
    other_parents: Vec<OtherParent>,
}

impl Db {
    /// The commit that this value is the newest of. Reads at most one record.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the value is speculative: a value of [`Db::with`] has no commit.
    pub async fn commit_id(&self) -> Result<CommitId> {
        let t = self.basis_t();
        if self.0.speculative_after.is_some() {
            return Err(Error::invalid(
                "a value of `with` has no commit; transact first",
            ));
        }
        let hash = self.commit_hash(t).await?;
        let hash = hash.ok_or_else(|| {
            Error::corrupt(
                format!("head of branch {}", self.branch()),
                format!("it lacks the commit of t={t}"),
            )
        })?;
        Ok(CommitId { t, hash })
    }

    /// The commits of this value with a `t` in the range, newest first; each follows from the one before
    /// it as its first parent.
    ///
    /// Reads records in steps, so that what is not asked for is not read. A speculative value tells what
    /// it has of committed ones.
    pub fn log(&self, range: impl RangeBounds<u64>) -> BoxStream<'static, Result<Commit>> {
        let newest = self.0.speculative_after.unwrap_or(self.basis_t());
        let (first, end) = ends(&range);
        let state = (self.clone(), end.min(newest + 1), STEP_MIN);
        stream::try_unfold(state, move |(db, end, step)| async move {
            if end <= first {
                return Ok::<_, Error>(None);
            }
            let from = end.saturating_sub(step).max(first);
            let commits = db.commits(from, end - 1).await?;
            let newest_first = commits
                .into_iter()
                .rev()
                .map(|recorded| Ok(recorded.commit));
            let state = (db, from, (2 * step).min(STEP_MAX));
            Ok(Some((stream::iter(newest_first), state)))
        })
        .try_flatten()
        .boxed()
    }

    /// The newest commit that is an ancestor of this value's and of the other's; `None` if the two are
    /// not values of one database.
    ///
    /// Chains of first parents are compared by halving, which reads a record of each a step. The commits
    /// after the fork are then searched for merges between the two. Where each has merged the other
    /// without knowing of the other's merge, there are two such commits, and one is chosen. Merges by
    /// way of a third branch are not followed.
    ///
    /// # Errors
    ///
    /// As [`Db::commit_id`].
    pub async fn common_ancestor(&self, other: &Self) -> Result<Option<CommitId>> {
        let Some(kinship) = Kinship::between(self, other).await? else {
            return Ok(None);
        };
        match kinship.base() {
            Base::Ours(t) => self.chain_commit(t).await.map(Some),
            Base::Theirs(t) => other.chain_commit(t).await.map(Some),
        }
    }

    async fn chain_commit(&self, t: u64) -> Result<CommitId> {
        let hash = self.commit_hash(t).await?;
        let hash = hash.ok_or_else(|| {
            Error::corrupt(
                format!("commits of branch {}", self.branch()),
                format!("t={t} is missing"),
            )
        })?;
        Ok(CommitId { t, hash })
    }

    /// Commits `first..=last` of the head's chain, oldest first.
    async fn commits(&self, first: u64, last: u64) -> Result<Vec<Recorded>> {
        let head = &self.0.head;
        let covered = head.checkpoint.covered;
        // One more, for it is the parent of the first.
        let from = first.saturating_sub(1);
        let mut all: Vec<(CommitHash, Pending)> = Vec::new();
        if from < covered {
            let records = self.commit_records(from, last.min(covered - 1)).await?;
            all.extend(
                records
                    .into_iter()
                    .map(|record| (record.hash, record.pending)),
            );
        }
        let waiting = head.pending.iter().zip(self.chain());
        let wanted = waiting.filter(|(pending, _)| (from..=last).contains(&pending.t));
        all.extend(wanted.map(|(pending, hash)| (*hash, pending.clone())));
        let id = |(hash, pending): &(CommitHash, Pending)| CommitId {
            t: pending.t,
            hash: *hash,
        };
        let whole = all
            .iter()
            .zip(from..=last)
            .all(|((_, pending), t)| pending.t == t);
        if !whole || all.len() as u64 != last + 1 - from {
            return Err(Error::corrupt(
                format!("commits of branch {}", self.branch()),
                format!("t={from} to t={last} are not all there"),
            ));
        }
        let parents = (first == 0)
            .then_some(None)
            .into_iter()
            .chain(all.iter().map(|c| Some(id(c))));
        let skipped = usize::from(first > 0);
        let commits = all
            .iter()
            .skip(skipped)
            .zip(parents)
            .map(|(recorded, parent)| {
                let pending = &recorded.1;
                let others = pending.other_parents.iter().map(|other| other.commit);
                Recorded {
                    commit: Commit {
                        id: id(recorded),
                        parents: parent.into_iter().chain(others).collect(),
                        instant: pending.instant,
                        tx: TxId::from_t(pending.t),
                    },
                    other_parents: pending.other_parents.clone(),
                }
            });
        Ok(commits.collect())
    }
}

/// The commits of several values, each once, children before their parents: what a graph is drawn from.
///
/// Ordered by instant, newest first. Reads as far as the stream is taken. A parent that lies on the chain of
/// none of the values is named by its child and does not come itself.
pub fn commit_graph(dbs: &[Db]) -> BoxStream<'static, Result<Commit>> {
    let lines: Vec<_> = dbs.iter().map(|db| (db.log(..), VecDeque::new())).collect();
    stream::try_unfold(lines, |mut lines: Vec<Line>| async move {
        let mut at = 0;
        while at < lines.len() {
            let (rest, next) = &mut lines[at];
            if next.is_empty() {
                next.extend(rest.try_next().await?);
            }
            if next.is_empty() {
                drop(lines.swap_remove(at));
            } else {
                at += 1;
            }
        }
        let key = |commit: &Commit| (commit.instant, commit.id);
        let newest = lines
            .iter()
            .filter_map(|(_, next)| next.front())
            .max_by_key(|commit| key(commit))
            .cloned();
        let Some(newest) = newest else {
            return Ok::<_, Error>(None);
        };
        // Chains that meet are one from there on.
        let mut seen = false;
        lines.retain_mut(|(_, next)| {
            if next.front().is_none_or(|commit| commit.id != newest.id) {
                return true;
            }
            next.pop_front();
            !std::mem::replace(&mut seen, true)
        });
        Ok(Some((newest, lines)))
    })
    .boxed()
}

/// What is left of a chain, and the commit that is next.
type Line = (BoxStream<'static, Result<Commit>>, VecDeque<Commit>);

/// How two chains of commits hang together.
pub(crate) struct Kinship {
    /// The newest commit of their common beginning.
    pub(crate) fork: u64,
    /// What ours has merged of theirs since, oldest first.
    pub(crate) into_ours: Vec<Joint>,
    /// What theirs has merged of ours since, oldest first.
    pub(crate) into_theirs: Vec<Joint>,
}

/// A merge between two chains.
pub(crate) struct Joint {
    /// The merge, on the chain that took it.
    pub(crate) at: u64,
    /// What was merged, on the other chain.
    pub(crate) of: u64,
    /// The entities that it brought, as the other chain calls them and as the taker does.
    pub(crate) renumbered: Vec<Renumbered>,
    /// Where the taker stayed as it was although the other chain differs.
    pub(crate) kept: Vec<(Entid, Entid)>,
}

/// A common ancestor, by a chain that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    Ours(u64),
    Theirs(u64),
}

impl Kinship {
    /// Finds out how two values hang together; `None` if they have nothing in common.
    pub(crate) async fn between(ours: &Db, theirs: &Db) -> Result<Option<Self>> {
        let (our_t, their_t) = (ours.commit_id().await?.t, theirs.commit_id().await?.t);
        if ours.commit_hash(0).await? != theirs.commit_hash(0).await? {
            return Ok(None);
        }
        // INVARIANT: they agree at `fork` and not behind `beyond`.
        let (mut fork, mut beyond) = (0, our_t.min(their_t) + 1);
        // Most often one has not moved since.
        let mut probe = beyond - 1;
        while beyond - fork > 1 {
            if ours.commit_hash(probe).await? == theirs.commit_hash(probe).await? {
                fork = probe;
            } else {
                beyond = probe;
            }
            probe = fork.midpoint(beyond);
        }
        Ok(Some(Self {
            fork,
            into_ours: joints(ours, fork, our_t, theirs, their_t).await?,
            into_theirs: joints(theirs, fork, their_t, ours, our_t).await?,
        }))
    }

    /// The newest common ancestor.
    pub(crate) fn base(&self) -> Base {
        let theirs = self.into_ours.iter().max_by_key(|joint| joint.of);
        let ours = self.into_theirs.iter().max_by_key(|joint| joint.of);
        match (theirs, ours) {
            (None, None) => Base::Ours(self.fork),
            (Some(theirs), None) => Base::Theirs(theirs.of),
            (None, Some(ours)) => Base::Ours(ours.of),
            // What was merged last knows of the merge in the other direction, unless they crossed.
            (Some(theirs), Some(ours)) if ours.of >= theirs.at => Base::Ours(ours.of),
            (Some(theirs), Some(_)) => Base::Theirs(theirs.of),
        }
    }

    /// Up to where their chain is contained in our chain's `t`.
    pub(crate) fn contained(&self, t: u64) -> u64 {
        let merged = self.into_ours.iter().filter(|joint| joint.at <= t);
        merged.map(|joint| joint.of).max().unwrap_or(self.fork)
    }
}

/// The merges among commits `fork + 1 ..= last` of a chain that took commits of the other chain, whose
/// value may be older than what was merged.
async fn joints(db: &Db, fork: u64, last: u64, other: &Db, other_last: u64) -> Result<Vec<Joint>> {
    let mut joints = Vec::new();
    let mut first = fork + 1;
    while first <= last {
        let upto = last.min(first + STEP_MAX - 1);
        for recorded in db.commits(first, upto).await? {
            for parent in recorded.other_parents {
                let CommitId { t, hash } = parent.commit;
                if t > fork && other.commit_hash(t).await? == Some(hash) {
                    joints.push(Joint {
                        at: recorded.commit.id.t,
                        of: t.min(other_last),
                        renumbered: parent.renumbered,
                        kept: parent.kept,
                    });
                }
            }
        }
        first = upto + 1;
    }
    Ok(joints)
}

#[cfg(test)]
mod tests;
