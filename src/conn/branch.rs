//! The branches of a store: making, listing, deleting, restoring and renaming them.
//!
//! A branch is its head, so making one is one small conditional PUT. Stores do not delete conditionally;
//! a deleted branch therefore leaves a *tombstone*: its head with the instant of its deletion. The name
//! can be taken again, and the branch restored, by one more swap.
//!
//! Above [`db`](crate::db); knows nothing of transactions.
//!
//! **Invariant.** A head that this module writes stands at a commit of the branch it was made from, with a
//! next entity id that this branch has not handed out.
//!
//! **Invariant.** No branch is left standing on what garbage collection may have removed, or on what was
//! purged: the head that it was made from is read again after the PUT, and if its era is over the branch is
//! taken back.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::{Connection, node_writer};
use crate::db::checkpoint::{checkpoint, commits_until};
use crate::db::head::Head;
use crate::db::{Db, head_object};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::id::{BranchName, CommitHash, CommitId};
use crate::node::Loader;
use crate::store::{CasOutcome, HeadVersion, Store};

/// Heads that are read at once.
const PARALLEL_MAX: usize = 8;
/// How often a swap is tried anew because another one came first.
const ROUNDS_MAX: usize = 100;

/// The branches of a store.
#[derive(Clone)]
pub struct Branches {
    store: Store,
    environment: Arc<dyn Environment>,
}

/// A branch, as its head describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Its name.
    pub name: BranchName,
    /// Its newest commit.
    pub commit: CommitId,
    /// When that was made, in milliseconds since the epoch.
    pub instant: i64,
    /// When the branch was deleted, if it was, in milliseconds since the epoch.
    pub deleted: Option<i64>,
}

/// What came of a swap, once that is known.
enum Swap {
    Mine(HeadVersion),
    /// Another was first, and this is there now.
    Other(Option<(Bytes, HeadVersion)>),
}

impl Branches {
    /// The branches of a store.
    #[cfg(not(target_family = "wasm"))]
    pub fn new(store: &Store) -> Self {
        Self::new_in(store, Arc::new(crate::environment::System))
    }

    /// [`Branches::new`] with a clock and randomness of the caller's.
    pub fn new_in(store: &Store, environment: Arc<dyn Environment>) -> Self {
        Self {
            store: store.clone(),
            environment,
        }
    }

    /// The branches that have not been deleted, by name. One request to list, one a branch.
    ///
    /// # Errors
    ///
    /// [`Error::Store`]; a plain web server, for one, cannot list. [`Error::Corrupt`].
    pub async fn list(&self) -> Result<Vec<Branch>> {
        let mut all = self.list_all().await?;
        all.retain(|branch| branch.deleted.is_none());
        Ok(all)
    }

    /// The branches, those that were deleted included, by name.
    ///
    /// # Errors
    ///
    /// As [`Branches::list`].
    pub async fn list_all(&self) -> Result<Vec<Branch>> {
        let heads = self.heads().await?;
        Ok(heads.iter().map(Branch::of).collect())
    }

    /// Makes a branch that begins with a value: the newest of another branch, or a past one.
    ///
    /// One conditional PUT, and one GET to see that nothing was collected meanwhile. A value from before
    /// the checkpoint of its branch costs a pack with the shortened tree of commits besides. A branch of
    /// that name that stands untouched at this very commit is taken for the one that was asked for; over
    /// a deleted one a new branch is made.
    ///
    /// # Errors
    ///
    /// [`Error::DatabaseExists`] if there is a branch of that name; [`Error::Invalid`] if the name has a meaning
    /// elsewhere (`../x`, `CON`), or the value is speculative, a view of history or `since`, lies in another store, or
    /// lies before a purge;
    /// [`Error::SnapshotExpired`] if garbage was collected or facts were purged meanwhile, and then there is
    /// no such branch, unless somebody has committed to it already, which the message says; [`Error::Store`].
    pub async fn create(&self, name: &BranchName, at: &Db) -> Result<Db> {
        self.make(name, at).await.map(|(db, _)| db)
    }

    /// [`Branches::create`], with the version of the head that it has made.
    async fn make(&self, name: &BranchName, at: &Db) -> Result<(Db, HeadVersion)> {
        name.must_be_plain()?;
        self.must_hold(at)?;
        let epoch = at.0.head.gc_epoch;
        let mut head = stand_at(at, name, &self.environment).await?;
        let mut expected = None;
        for _ in 0..ROUNDS_MAX {
            let bytes = encoded(at.loader(), &mut head, &self.environment).await?;
            match self.swap(name, expected.as_ref(), bytes).await? {
                Swap::Mine(version) => {
                    if !self.still_there(at).await? {
                        // Nobody may restore it, and nothing may be kept for it that is gone already.
                        let gone = self.entomb(head.emptied(), &version).await?;
                        return Err(if gone {
                            collected(at)
                        } else {
                            lives_on(name, at)
                        });
                    }
                    let db = Db::from_head(Arc::clone(at.loader()), head).await?;
                    return Ok((db, version));
                }
                Swap::Other(None) => expected = None,
                Swap::Other(Some((found, version))) => {
                    let there = self.decode(&found, name)?;
                    if there.deleted.is_none() {
                        return Err(self.exists(name));
                    }
                    if there.database == head.database && there.gc_epoch > epoch {
                        return Err(collected(at));
                    }
                    head.generation = there.generation + 1;
                    expected = Some(version);
                }
            }
        }
        Err(busy(name))
    }

    /// Deletes a branch: its head becomes a tombstone. Its commits stay until they are collected.
    ///
    /// Lists the branches and looks for another one that lives, for the last one is not deleted. That one is
    /// looked at again behind the deletion, which is undone if it was deleted meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::NoDatabase`], [`Error::BranchDeleted`]; [`Error::Invalid`] if it is the database's only
    /// branch; [`Error::Store`].
    pub async fn delete(&self, name: &BranchName) -> Result<()> {
        for _ in 0..ROUNDS_MAX {
            let (head, version) = self.live(name).await?;
            let Some(other) = self.another(&head).await? else {
                return Err(alone(name));
            };
            if !self.entomb(head.clone(), &version).await? {
                continue;
            }
            // Of two that delete the last branches at the same time, the later one finds this out.
            if self.lives(&other, &head).await? || self.another(&head).await?.is_some() {
                return Ok(());
            }
            self.restore(name).await?;
            return Err(alone(name));
        }
        Err(busy(name))
    }

    /// Brings a deleted branch back, as it was.
    ///
    /// # Errors
    ///
    /// [`Error::NoDatabase`]; [`Error::Invalid`] if the branch is not deleted;
    /// [`Error::SnapshotExpired`] if what it needs was collected; [`Error::Store`].
    pub async fn restore(&self, name: &BranchName) -> Result<Db> {
        let loader = Arc::new(Loader::new(self.store.clone()));
        for _ in 0..ROUNDS_MAX {
            let (mut head, version) = self.read(name).await?;
            if head.deleted.take().is_none() {
                return Err(Error::invalid(format!("branch {name} is not deleted")));
            }
            if head.is_emptied() {
                return Err(expired(name));
            }
            head.generation += 1;
            let bytes = encoded(&loader, &mut head, &self.environment).await?;
            let db = Db::from_head(Arc::clone(&loader), head).await;
            let db = match db {
                Ok(db) => db.0.head.lies_there(&loader).await.map(|()| db),
                Err(error) => Err(error),
            };
            let db = db.map_err(|error| match error {
                Error::Corrupt { .. } => expired(name),
                error => error,
            })?;
            if let Swap::Mine(_) = self.swap(name, Some(&version), bytes).await? {
                return Ok(db);
            }
        }
        Err(busy(name))
    }

    /// Gives a branch another name: makes the one and deletes the other.
    ///
    /// # Errors
    ///
    /// As [`Branches::create`] and [`Branches::delete`]; [`Error::HeadMoved`] if somebody commits to the
    /// branch meanwhile, and then nothing has changed; [`Error::Invalid`] if somebody commits to both, and
    /// then both live on.
    pub async fn rename(&self, from: &BranchName, to: &BranchName) -> Result<()> {
        if from == to {
            return Ok(());
        }
        let (head, version) = self.live(from).await?;
        if self.live(to).await.is_ok() {
            return Err(self.exists(to));
        }
        let loader = Arc::new(Loader::new(self.store.clone()));
        let db = Db::from_head(loader, head.clone()).await?;
        let expected = head.commit;
        let (renamed, made) = self.make(to, &db).await?;
        if self.entomb(head, &version).await? {
            return Ok(());
        }
        if !self.entomb(Head::clone(&renamed.0.head), &made).await? {
            return Err(Error::invalid(format!(
                "others have committed to {from} and to {to} meanwhile; both live on"
            )));
        }
        let (now, _) = self.live(from).await?;
        Err(Error::HeadMoved {
            branch: from.clone(),
            expected,
            actual: now.commit,
        })
    }

    fn exists(&self, name: &BranchName) -> Error {
        Error::DatabaseExists {
            location: self.store.location().to_owned(),
            branch: name.clone(),
        }
    }

    /// Makes a head a tombstone; `false` if it is no longer the one of that version.
    async fn entomb(&self, mut head: Head, version: &HeadVersion) -> Result<bool> {
        head.deleted = Some(self.environment.now());
        head.generation += 1;
        let loader = Arc::new(Loader::new(self.store.clone()));
        let bytes = encoded(&loader, &mut head, &self.environment).await?;
        let swap = self.swap(&head.branch, Some(version), bytes).await?;
        Ok(matches!(swap, Swap::Mine(_)))
    }

    /// Whether the head that a value was reached from has seen no garbage collection and no purge since.
    async fn still_there(&self, at: &Db) -> Result<bool> {
        let now = head_of(at).await?;
        Ok(now.is_some_and(|now| now.era() == at.0.head.era()))
    }

    fn must_hold(&self, at: &Db) -> Result<()> {
        if at.is_history() || at.since_t().is_some() {
            return Err(Error::invalid(
                "a branch begins with a whole value, not with a view of history or since",
            ));
        }
        if !self.store.is_same(at.store()) {
            return Err(Error::invalid(format!(
                "the value lies at {}, the branch would lie at {}",
                at.store().location(),
                self.store.location()
            )));
        }
        Ok(())
    }

    /// Another branch of a database than this, if one lives. Reads heads until it finds one.
    async fn another(&self, head: &Head) -> Result<Option<BranchName>> {
        for name in self.store.list_branches().await? {
            if name != head.branch && self.lives(&name, head).await? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Whether a branch lives and is of the same database as a head.
    async fn lives(&self, name: &BranchName, head: &Head) -> Result<bool> {
        let Some((bytes, _)) = self.store.head(name).await? else {
            return Ok(false);
        };
        let other = self.decode(&bytes, name)?;
        Ok(other.database == head.database && other.deleted.is_none())
    }

    /// Every head, tombstones included, by name.
    async fn heads(&self) -> Result<Vec<Head>> {
        let names = self.store.list_branches().await?;
        let heads = stream::iter(names)
            .map(|name| async move {
                let head = self.store.head(&name).await?;
                head.map(|(bytes, _)| self.decode(&bytes, &name))
                    .transpose()
            })
            .buffered(PARALLEL_MAX);
        heads
            .try_filter_map(|head| std::future::ready(Ok(head)))
            .try_collect()
            .await
    }

    /// The head of a branch, which may be a tombstone.
    async fn read(&self, name: &BranchName) -> Result<(Head, HeadVersion)> {
        let found = self.store.head(name).await?;
        let (bytes, version) = found.ok_or_else(|| Error::NoDatabase {
            location: self.store.location().to_owned(),
            branch: name.clone(),
        })?;
        Ok((self.decode(&bytes, name)?, version))
    }

    /// The head of a branch that is not deleted.
    async fn live(&self, name: &BranchName) -> Result<(Head, HeadVersion)> {
        let (head, version) = self.read(name).await?;
        match head.deleted {
            None => Ok((head, version)),
            Some(deleted) => Err(Error::BranchDeleted {
                location: self.store.location().to_owned(),
                branch: name.clone(),
                deleted,
            }),
        }
    }

    fn decode(&self, bytes: &[u8], name: &BranchName) -> Result<Head> {
        Head::decode(bytes, &head_object(self.store.location(), name))
    }

    /// Swaps a head; where the answer leaves it in doubt, reads it back.
    async fn swap(
        &self,
        name: &BranchName,
        expected: Option<&HeadVersion>,
        bytes: Bytes,
    ) -> Result<Swap> {
        let outcome = self.store.cas_head(name, expected, bytes.clone()).await;
        match outcome {
            CasOutcome::Swapped(version) => return Ok(Swap::Mine(version)),
            CasOutcome::Failed(error) => return Err(error),
            CasOutcome::Conflict | CasOutcome::Unknown(_) => {}
        }
        match (self.store.head(name).await?, outcome) {
            (Some((found, version)), _) if found == bytes => Ok(Swap::Mine(version)),
            (_, CasOutcome::Unknown(error)) => Err(error),
            (other, _) => Ok(Swap::Other(other)),
        }
    }
}

impl fmt::Debug for Branches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Branches")
            .field(&self.store.location())
            .finish()
    }
}

impl Branch {
    fn of(head: &Head) -> Self {
        let newest = head.pending.last();
        Self {
            name: head.branch.clone(),
            commit: head.commit,
            instant: newest.map_or(head.checkpoint_instant, |pending| pending.instant),
            deleted: head.deleted,
        }
    }
}

impl Connection {
    /// The branches of this connection's store.
    pub fn branches(&self) -> Branches {
        Branches::new_in(self.store(), Arc::clone(&self.0.environment))
    }
}

/// The head from which a value was reached, as it is now; `None` if another database has taken its place.
pub(super) async fn head_of(db: &Db) -> Result<Option<Head>> {
    let Some((bytes, _)) = db.store().head(db.branch()).await? else {
        return Ok(None);
    };
    let now = Head::decode(&bytes, &head_object(db.store().location(), db.branch()))?;
    Ok((now.database == db.database_id()).then_some(now))
}

/// The head of a branch that stands at a value; packs that it needs besides have been written.
pub(super) async fn stand_at(
    db: &Db,
    branch: &BranchName,
    environment: &Arc<dyn Environment>,
) -> Result<Head> {
    let (inner, old) = (&db.0, &db.0.head);
    let commit = db.commit_id().await?;
    let covered = inner.checkpoint.covered;
    let mut head = Head {
        branch: branch.clone(),
        generation: 0,
        commit,
        checkpoint: inner.checkpoint.clone(),
        checkpoint_instant: inner.checkpoint_instant,
        schema: Some(inner.checkpoint_schema.as_ref().clone()),
        next_entid: old.next_entid.max(inner.next_entid),
        log: inner.tail.log().to_vec(),
        ..Head::clone(old)
    };
    if covered == old.checkpoint.covered {
        head.pending.retain(|pending| pending.t <= commit.t);
        return Ok(head);
    }
    let records = if covered <= commit.t {
        db.commit_records(
            covered,
            commit.t.min(old.checkpoint.covered.saturating_sub(1)),
        )
        .await?
    } else {
        Vec::new()
    };
    if records.iter().any(|record| !record.purged.is_empty()) {
        return Err(Error::invalid(format!(
            "facts before t={} were purged; a branch cannot begin there, only at the newest value",
            old.checkpoint.covered
        )));
    }
    head.pending = records.into_iter().map(|record| record.pending).collect();
    let later = old.pending.iter().filter(|pending| pending.t <= commit.t);
    head.pending.extend(later.cloned());
    head.checkpoint_commit = match covered.checked_sub(1) {
        None => CommitHash([0; CommitHash::LEN]),
        Some(t) => db.commit_hash(t).await?.ok_or_else(|| {
            Error::corrupt(
                format!("commits of branch {}", db.branch()),
                format!("t={t} is missing"),
            )
        })?,
    };
    let mut writer = node_writer(db.loader(), environment);
    head.commits = commits_until(db, covered, &mut writer).await?;
    writer.finish().await?;
    Ok(head)
}

/// The bytes of a head. One that would be too large is given trees with its tail in them.
pub(crate) async fn encoded(
    loader: &Arc<Loader>,
    head: &mut Head,
    environment: &Arc<dyn Environment>,
) -> Result<Bytes> {
    if let Some(bytes) = head.encode() {
        return Ok(bytes);
    }
    let deleted = head.deleted.take();
    let db = Db::from_head(Arc::clone(loader), head.clone()).await?;
    let mut writer = node_writer(loader, environment);
    *head = Head {
        deleted,
        ..checkpoint(&db, &[], &mut writer).await?
    };
    writer.finish().await?;
    head.encode()
        .ok_or_else(|| Error::invalid("the head would be too large even without a tail"))
}

fn collected(at: &Db) -> Error {
    Error::SnapshotExpired(format!(
        "garbage was collected or facts were purged since branch {} was opened; open it again and branch \
         off anew, and if that does not help, collect garbage: a collection did not finish",
        at.branch()
    ))
}

fn lives_on(name: &BranchName, at: &Db) -> Error {
    Error::SnapshotExpired(format!(
        "garbage was collected or facts were purged since branch {} was opened, and somebody has committed to \
         {name} already, which lives on: delete it, or purge it, too",
        at.branch()
    ))
}

fn alone(name: &BranchName) -> Error {
    Error::invalid(format!(
        "{name} is the only branch of the database; make another one first"
    ))
}

fn expired(name: &BranchName) -> Error {
    Error::SnapshotExpired(format!(
        "what branch {name} needs was collected since it was deleted; the name is free for a new branch"
    ))
}

fn busy(name: &BranchName) -> Error {
    Error::invalid(format!(
        "branch {name} was changed by others every time; try again"
    ))
}

#[cfg(test)]
mod tests;
