//! Other bases of the same database: `as_of`, `since`, `history`, and the basis grammar put together.

use std::sync::Arc;

use futures::try_join;

use super::basis::{BasisPart, BasisSpec, TimePoint};
use super::commit::{Checkpoint, CommitRecord, Pending};
use super::merge::{gathered, tree_slices};
use super::{Db, Inner, Parts, load_schema};
use crate::datom::{Datom, Entid, TxId};
use crate::error::{Error, Result};
use crate::id::CommitHash;
use crate::index::{Components, Edge, Index, Range, TreeName};
use crate::schema::attrs;
use crate::tree;
use crate::value::Value;

impl Db {
    /// This database as it was just after a point in time. The point is inclusive: of an instant, the
    /// last transaction at or before it.
    ///
    /// A basis in the tail costs nothing to open. An older one reads the path to its record in the tree
    /// of commits, the path to its checkpoint's record (a path more for each time that retention dropped
    /// the one it led to), and the log leaves between the two, as much of it at once as can be; it then
    /// scans at the cost of the present. Schema and idents are those of that time. Attributes with
    /// `:db/noHistory` promise nothing here. Source: Datomic, *database filters*.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the point is a `t` or transaction that has not happened, or an instant before
    /// the first; [`Error::SnapshotExpired`] if garbage collection removed what the point needs.
    pub async fn as_of(&self, point: impl Into<TimePoint>) -> Result<Self> {
        let t = self.t_of(&point.into()).await?;
        if t == self.0.t {
            return Ok(self.clone());
        }
        let past = if t + 1 >= self.0.checkpoint.covered {
            self.within_tail(t)
        } else {
            // Boxed: it does several things at once, and its callers hold it.
            Box::pin(self.before_checkpoint(t)).await?
        };
        Ok(past.viewed(self.0.since, self.0.history))
    }

    /// The datoms of later transactions that still hold. The point is exclusive.
    ///
    /// Schema and idents are those of this value. Source: Datomic, *database filters*.
    ///
    /// # Errors
    ///
    /// As [`Db::as_of`].
    pub async fn since(&self, point: impl Into<TimePoint>) -> Result<Self> {
        let t = self.t_of(&point.into()).await?;
        Ok(self.viewed(
            Some(self.0.since.map_or(t, |since| since.max(t))),
            self.0.history,
        ))
    }

    /// Every datom of this value's past: what holds, what was superseded, and the retractions.
    #[must_use]
    pub fn history(&self) -> Self {
        self.viewed(self.0.since, true)
    }

    /// This value at a basis of the grammar; the branch must be its own.
    ///
    /// # Errors
    ///
    /// As [`Db::as_of`], and [`Error::Invalid`] if the basis names another branch.
    pub async fn at(&self, basis: &BasisSpec) -> Result<Self> {
        if let Some(branch) = basis.branch()
            && branch != self.branch()
        {
            return Err(Error::invalid(format!(
                "this is branch {}, not {branch}; open that branch",
                self.branch()
            )));
        }
        let mut db = self.clone();
        for part in basis.parts() {
            db = match part {
                BasisPart::At(point) => db.as_of(*point).await?,
                BasisPart::Commit(commit) => {
                    let t = db.t_of_commit(commit).await?;
                    db.as_of(TimePoint::T(t)).await?
                }
                BasisPart::Since(point) => db.since(*point).await?,
                BasisPart::History => db.history(),
            };
        }
        Ok(db)
    }

    fn viewed(&self, since: Option<u64>, history: bool) -> Self {
        if since == self.0.since && history == self.0.history {
            return self.clone();
        }
        Self(Arc::new(Inner {
            since,
            history,
            ..Inner::clone(&self.0)
        }))
    }

    /// The `t` of a point in time, which must lie in this value's past.
    async fn t_of(&self, point: &TimePoint) -> Result<u64> {
        let newest = self.0.t;
        let t = match *point {
            TimePoint::T(t) => t,
            TimePoint::Tx(tx) if Entid(tx).is_tx() => TxId(Entid(tx)).t(),
            TimePoint::Tx(tx) => {
                return Err(Error::invalid(format!("{tx} is not a transaction's id")));
            }
            TimePoint::Instant(_) | TimePoint::Date(_) => {
                let instant = point.last_millisecond().unwrap_or(i64::MAX);
                return self.t_of_instant(instant).await;
            }
        };
        if t > newest {
            return Err(Error::invalid(format!(
                "there is no transaction t={t} yet; the newest is t={newest}"
            )));
        }
        Ok(t)
    }

    /// The last transaction at or before an instant; of equal instants, the last.
    async fn t_of_instant(&self, instant: i64) -> Result<u64> {
        if instant >= self.0.instant {
            return Ok(self.0.t);
        }
        let in_tail = self
            .0
            .tail
            .log()
            .iter()
            .rev()
            .filter(|datom| datom.added && datom.a == attrs::TX_INSTANT && datom.e == datom.tx.0)
            .find(|datom| matches!(datom.v, Value::Instant(at) if at <= instant));
        if let Some(datom) = in_tail {
            return Ok(datom.tx.t());
        }
        let edge = |at| {
            Some(Edge {
                at,
                inclusive: true,
            })
        };
        let range = Range {
            from: edge(Components::all().a(attrs::TX_INSTANT)),
            to: edge(
                Components::all()
                    .a(attrs::TX_INSTANT)
                    .v(Value::Instant(instant)),
            ),
        };
        let last = tree::last(
            self.loader(),
            self.0.checkpoint.tree(TreeName::Avet),
            &range,
        )
        .await?;
        last.map(|datom| datom.tx.t()).ok_or_else(|| {
            Error::invalid("that instant lies before the database's first transaction (1970-01-01)")
        })
    }

    async fn t_of_commit(&self, commit: &str) -> Result<u64> {
        let unknown = || Error::invalid(format!("there is no commit {commit} on this branch"));
        // Printed ids are `t-hex`; a bare hash must be searched for.
        if let Some((t, hash)) = commit.split_once('-') {
            let t: u64 = t.parse().map_err(|_| unknown())?;
            let found = self.commit_hash(t).await?.ok_or_else(unknown)?;
            return found
                .to_string()
                .starts_with(hash)
                .then_some(t)
                .ok_or_else(unknown);
        }
        for t in (0..=self.0.t).rev() {
            if self
                .commit_hash(t)
                .await?
                .is_some_and(|hash| hash.to_string().starts_with(commit))
            {
                return Ok(t);
            }
        }
        Err(unknown())
    }

    /// The hash of the commit that made `t`, if this branch has it.
    pub(crate) async fn commit_hash(&self, t: u64) -> Result<Option<CommitHash>> {
        let head = &self.0.head;
        if t > head.commit.t {
            return Ok(None);
        }
        // The head names the last of those that its trees cover.
        if t + 1 < head.checkpoint.covered {
            return Ok(Some(self.commit_record(t).await?.hash));
        }
        let upto = head.pending.partition_point(|pending| pending.t <= t);
        let last = upto.checked_sub(1).map(|last| self.chain()[last]);
        Ok(Some(last.unwrap_or(head.checkpoint_commit)))
    }

    /// The hashes of the commits that wait in the head. Each covers all datoms of its transaction, so they
    /// are worth keeping.
    pub(crate) fn chain(&self) -> &[CommitHash] {
        self.0.chain.get_or_init(|| {
            let head = &self.0.head;
            let hashes = head
                .pending
                .iter()
                .scan(head.checkpoint_commit, |hash, pending| {
                    *hash = pending.hash(*hash, &pending.digest(head.log_of(pending.t)));
                    Some(*hash)
                });
            hashes.collect()
        })
    }

    /// The record of a commit that lies in the tree of commits.
    async fn commit_record(&self, t: u64) -> Result<CommitRecord> {
        let records = self.commit_records(t, t).await?;
        records.into_iter().next().ok_or_else(|| {
            Error::corrupt(
                format!("commits of branch {}", self.branch()),
                format!("t={t} is missing"),
            )
        })
    }

    /// The records of commits `first..=last`, which lie in the tree of commits.
    pub(crate) async fn commit_records(&self, first: u64, last: u64) -> Result<Vec<CommitRecord>> {
        let edge = |t: u64| {
            let e = Entid(i64::try_from(t).unwrap_or(i64::MAX));
            Some(Edge {
                at: Components::all().e(e),
                inclusive: true,
            })
        };
        let range = Range {
            from: edge(first),
            to: edge(last),
        };
        let slices = tree_slices(self, &self.0.head.commits, range);
        let stored = gathered(self.loader(), slices).await?;
        stored.iter().map(CommitRecord::from_datom).collect()
    }

    /// A basis whose checkpoint is this value's own.
    fn within_tail(&self, t: u64) -> Self {
        let inner = &self.0;
        let upto = TxId::from_t(t);
        let (log, pending) = (inner.tail.log(), inner.tail.pending());
        Self::assemble(Parts {
            loader: Arc::clone(&inner.loader),
            head: Arc::clone(&inner.head),
            checkpoint: inner.checkpoint.clone(),
            checkpoint_schema: Arc::clone(&inner.checkpoint_schema),
            checkpoint_instant: inner.checkpoint_instant,
            log: log[..log.partition_point(|datom| datom.tx <= upto)].to_vec(),
            pending: pending[..pending.partition_point(|pending| pending.t <= t)].to_vec(),
            next_entid: inner.next_entid,
            speculative_after: inner.speculative_after.filter(|after| t > *after),
        })
    }

    /// The checkpoint that a basis is read from and the instant of its last transaction, where the record of
    /// that basis says that one covers so many transactions.
    ///
    /// Where retention has dropped a checkpoint, its record leads to an older one: a hop each.
    async fn governing(&self, t: u64, mut covered: u64) -> Result<(Checkpoint, i64)> {
        while let Some(last) = covered.checked_sub(1) {
            let record = self.commit_record(last).await?;
            match record.checkpoint {
                Some(checkpoint) if checkpoint.covered == covered => {
                    return Ok((checkpoint, record.pending.instant));
                }
                None if record.covered < covered => covered = record.covered,
                _ => return Err(self.misled(t)),
            }
        }
        Ok((Checkpoint::default(), 0))
    }

    fn misled(&self, t: u64) -> Error {
        Error::corrupt(
            format!("commits of branch {}", self.branch()),
            format!("those before t={t} lead to no checkpoint"),
        )
    }

    /// A basis before this value's checkpoint: an older checkpoint, and a piece of the log as its tail.
    ///
    /// Nothing waits that can be read already: the path to the end of the log's piece is read beside the
    /// record of `t`, and the piece beside the record of the checkpoint.
    async fn before_checkpoint(&self, t: u64) -> Result<Self> {
        let log = self.0.head.checkpoint.tree(TreeName::Log);
        let end = Range::prefix(Components::all().tx(TxId::from_t(t)));
        let (record, _) = try_join!(self.commit_record(t), tree::last(self.loader(), log, &end))?;
        let near = record.covered;
        if near > t + 1 {
            return Err(self.misled(t));
        }
        let (found, replayed) = try_join!(self.governing(t, near), self.said(near, t + 1))?;
        let (checkpoint, instant) = found;
        let (mut pending, mut log) = self.said(checkpoint.covered, near).await?;
        pending.extend(replayed.0);
        log.extend(replayed.1);
        // Equal facts have equal identities: mostly the schema is at hand.
        let schema = |checkpoint: &Checkpoint| checkpoint.schema.map(|(id, _)| id);
        let checkpoint_schema = if schema(&checkpoint) == schema(&self.0.checkpoint) {
            Arc::clone(&self.0.checkpoint_schema)
        } else {
            Arc::new(load_schema(self.loader(), &checkpoint).await?)
        };
        Ok(Self::assemble(Parts {
            checkpoint_schema,
            checkpoint_instant: instant,
            loader: Arc::clone(self.loader()),
            head: Arc::clone(&self.0.head),
            checkpoint,
            log,
            pending,
            next_entid: self.0.next_entid,
            speculative_after: None,
        }))
    }

    /// What lies in the head's trees of transactions `first..end`: what they said, and what they did besides.
    async fn said(&self, first: u64, end: u64) -> Result<(Vec<Pending>, Vec<Datom>)> {
        let Some(last) = end.checked_sub(1).filter(|last| first <= *last) else {
            return Ok((Vec::new(), Vec::new()));
        };
        let edge = |t| {
            Some(Edge {
                at: Components::all().tx(TxId::from_t(t)),
                inclusive: true,
            })
        };
        let range = Range {
            from: edge(first),
            to: edge(last),
        };
        let log = tree_slices(self, self.0.head.checkpoint.tree(TreeName::Log), range);
        let log = gathered(self.loader(), log);
        let (records, log) = try_join!(self.commit_records(first, last), log)?;
        let pending = records.into_iter().map(|record| record.pending);
        Ok((pending.collect(), log))
    }

    /// What transactions said, in LOG order: those from `from` up to, but not including, `to`.
    pub fn tx_range(
        &self,
        from: u64,
        to: Option<u64>,
    ) -> futures::stream::BoxStream<'static, Result<Datom>> {
        let edge = |t, inclusive| {
            Some(Edge {
                at: Components::all().tx(TxId::from_t(t)),
                inclusive,
            })
        };
        let range = Range {
            from: edge(from, true),
            to: to.and_then(|t| edge(t, false)),
        };
        self.stream(Index::Log, range)
    }
}
