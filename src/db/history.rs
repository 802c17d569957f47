//! What was said: about one entity, and by each transaction.
//!
//! The log is read a few leaves at a time, from either end, and the records of the commits beside it. What
//! a transaction said is held whole, one transaction at once.

use std::collections::VecDeque;
use std::ops::{Bound, RangeBounds};

use futures::stream::{self, BoxStream, StreamExt};

use super::Db;
use super::commit::CommitRecord;
use crate::datom::{Datom, Entid, TxId};
use crate::error::{Error, Result};
use crate::id::CommitId;
use crate::index::{Components, Edge, Index, Range, TreeName};
use crate::schema::attrs;
use crate::tree::{Direction, Scan};
use crate::value::Value;

/// A transaction as it was committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction {
    /// The basis that it made.
    pub t: u64,
    /// Its entity.
    pub tx: TxId,
    /// When it was made, in milliseconds since the epoch.
    pub instant: i64,
    /// Its commit; `None` if it is speculative.
    pub commit: Option<CommitId>,
    /// What it said, in EAVT order.
    pub data: Vec<Datom>,
}

impl Db {
    /// All that this value's past says about an entity, in time order: assertions and retractions. Within a
    /// transaction a retraction comes before an assertion of the same attribute, so that a change of value
    /// reads from old to new.
    ///
    /// Reads the entity's leaves in two trees. Views of `as_of` and `since` say what lies within them.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`], [`Error::Store`].
    pub async fn entity_history(&self, e: Entid) -> Result<Vec<Datom>> {
        let range = Range::prefix(Components::all().e(e));
        let mut said = self.history().collect(Index::Eavt, &range).await?;
        // Stable: values of one attribute stay in their order.
        said.sort_by_key(|datom| (datom.tx, datom.a, datom.added));
        Ok(said)
    }

    /// What transaction `t` said, in EAVT order; nothing if a `since` view begins later.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if this value knows no such transaction; [`Error::Corrupt`], [`Error::Store`].
    pub async fn tx_data(&self, t: u64) -> Result<Vec<Datom>> {
        if t > self.basis_t() {
            return Err(Error::invalid(format!(
                "there is no transaction t={t} yet; the newest is t={}",
                self.basis_t()
            )));
        }
        let range = Range::prefix(Components::all().tx(TxId::from_t(t)));
        self.collect(Index::Log, &range).await
    }

    /// The transactions of a range of `t` that this value knows, oldest first. Reads nothing.
    pub fn tx_ids<R: RangeBounds<u64>>(
        &self,
        range: R,
    ) -> impl DoubleEndedIterator<Item = TxId> + use<R> {
        let (first, end) = self.clipped(&range);
        (first..end).map(TxId::from_t)
    }

    /// The transactions of a range of `t` that this value knows, oldest first.
    ///
    /// Reads the log and the commits as it is asked, ahead by as much as it has given, within the bounds of a
    /// scan.
    ///
    /// # Errors
    ///
    /// The stream yields [`Error::Corrupt`] and [`Error::Store`].
    pub fn transactions(
        &self,
        range: impl RangeBounds<u64>,
    ) -> BoxStream<'static, Result<Transaction>> {
        self.transactions_in(&range, Direction::Forward)
    }

    /// [`Db::transactions`], newest first.
    ///
    /// # Errors
    ///
    /// As [`Db::transactions`].
    pub fn transactions_back(
        &self,
        range: impl RangeBounds<u64>,
    ) -> BoxStream<'static, Result<Transaction>> {
        self.transactions_in(&range, Direction::Backward)
    }

    fn transactions_in(
        &self,
        range: &impl RangeBounds<u64>,
        direction: Direction,
    ) -> BoxStream<'static, Result<Transaction>> {
        let (first, end) = self.clipped(range);
        let walk = Walk::new(self, first, end, direction);
        stream::try_unfold(walk, |mut walk| async move {
            let next = walk.next().await?;
            Ok(next.map(|transaction| (transaction, walk)))
        })
        .boxed()
    }

    /// The part of a range of `t` that this value knows, its end excluded.
    fn clipped(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let (first, end) = ends(range);
        let since = self.since_t().map_or(0, |since| since + 1);
        let (first, end) = (first.max(since), end.min(self.basis_t() + 1));
        (first, end.max(first))
    }

    /// The commits that the head lists as pending, oldest first.
    fn pending_commits(&self) -> Vec<CommitId> {
        let pending = self.0.head.pending.iter().zip(self.chain());
        let commits = pending.map(|(pending, hash)| CommitId {
            t: pending.t,
            hash: *hash,
        });
        commits.collect()
    }
}

/// A reading of the log in progress, with the commits beside it.
struct Walk {
    db: Db,
    direction: Direction,
    /// The datoms of the trees.
    log: Scan,
    /// The datoms of the tail that are in the range.
    tail: std::ops::Range<usize>,
    /// Datoms that have been read, in LOG order; the first or the last of them are due next.
    read: VecDeque<Datom>,
    trees_ended: bool,
    /// Records of commits in the trees.
    records: Scan,
    known: VecDeque<CommitRecord>,
    pending: Vec<CommitId>,
}

/// The numbers of a range: the first, and one past the last.
pub(crate) fn ends(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let first = match range.start_bound() {
        Bound::Included(t) => *t,
        Bound::Excluded(t) => t.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(t) => t.saturating_add(1),
        Bound::Excluded(t) => *t,
        Bound::Unbounded => u64::MAX,
    };
    (first, end)
}

impl Walk {
    fn new(db: &Db, first: u64, end: u64, direction: Direction) -> Self {
        let edge = |at, inclusive| Some(Edge { at, inclusive });
        let tx = |t| Components::all().tx(TxId::from_t(t));
        let record = |t| Components::all().e(Entid(i64::try_from(t).unwrap_or(i64::MAX)));
        let log = Range {
            from: edge(tx(first), true),
            to: edge(tx(end), false),
        };
        let records = Range {
            from: edge(record(first), true),
            to: edge(record(end), false),
        };
        let tail = db.0.tail.log();
        let before = |t| tail.partition_point(|datom| datom.tx < TxId::from_t(t));
        Self {
            direction,
            log: Scan::new(db.0.checkpoint.tree(TreeName::Log), log, direction),
            tail: before(first)..before(end),
            read: VecDeque::new(),
            trees_ended: false,
            records: Scan::new(&db.0.head.commits, records, direction),
            known: VecDeque::new(),
            pending: db.pending_commits(),
            db: db.clone(),
        }
    }

    async fn next(&mut self) -> Result<Option<Transaction>> {
        while !self.whole() {
            if !self.read_on().await? {
                break;
            }
        }
        let due = match self.direction {
            Direction::Forward => self.read.front(),
            Direction::Backward => self.read.back(),
        };
        let Some(tx) = due.map(|datom| datom.tx) else {
            return Ok(None);
        };
        let data: Vec<Datom> = match self.direction {
            Direction::Forward => {
                let end = self.read.partition_point(|datom| datom.tx <= tx);
                self.read.drain(..end).collect()
            }
            Direction::Backward => {
                let start = self.read.partition_point(|datom| datom.tx < tx);
                self.read.split_off(start).into()
            }
        };
        let instant = data
            .iter()
            .find(|datom| datom.e == tx.0 && datom.a == attrs::TX_INSTANT && datom.added)
            .and_then(|datom| match datom.v {
                Value::Instant(instant) => Some(instant),
                _ => None,
            });
        let t = tx.t();
        Ok(Some(Transaction {
            t,
            tx,
            instant: instant.ok_or_else(|| {
                Error::corrupt(format!("transaction t={t}"), "the log gives it no instant")
            })?,
            commit: self.commit(t, &data).await?,
            data,
        }))
    }

    /// Whether the transaction that is due has been read to its end.
    fn whole(&self) -> bool {
        let ends = self.read.front().zip(self.read.back());
        ends.is_some_and(|(first, last)| first.tx != last.tx)
    }

    /// Reads a leaf more; `false` at the end.
    async fn read_on(&mut self) -> Result<bool> {
        match self.direction {
            Direction::Forward => {
                if self.read_tree().await? {
                    return Ok(true);
                }
                let rows = std::mem::take(&mut self.tail);
                self.read
                    .extend(self.db.0.tail.log()[rows.clone()].iter().cloned());
                Ok(!rows.is_empty())
            }
            Direction::Backward => {
                let rows = std::mem::take(&mut self.tail);
                if !rows.is_empty() {
                    self.read.extend(self.db.0.tail.log()[rows].iter().cloned());
                    return Ok(true);
                }
                self.read_tree().await
            }
        }
    }

    async fn read_tree(&mut self) -> Result<bool> {
        if self.trees_ended {
            return Ok(false);
        }
        let Some(slice) = self.log.next(self.db.loader()).await? else {
            self.trees_ended = true;
            return Ok(false);
        };
        self.db
            .loader()
            .resolve(&slice.leaf, slice.rows.clone())
            .await?;
        let datoms = slice.rows.map(|row| slice.leaf.datom(row));
        match self.direction {
            Direction::Forward => self.read.extend(datoms),
            Direction::Backward => datoms.rev().for_each(|datom| self.read.push_front(datom)),
        }
        Ok(true)
    }

    /// The commit of a transaction that said this. Those asked for come in the order of the walk.
    ///
    /// A speculation on a past basis stands where another transaction was committed: the data tells.
    async fn commit(&mut self, t: u64, data: &[Datom]) -> Result<Option<CommitId>> {
        let head = &self.db.0.head;
        if t > head.commit.t {
            return Ok(None);
        }
        if let Ok(at) = self.pending.binary_search_by_key(&t, |commit| commit.t) {
            return Ok(Some(self.pending[at]).filter(|_| head.log_of(t) == data));
        }
        let in_trees = t < self.db.0.checkpoint.covered;
        loop {
            while let Some(record) = self.known.pop_front() {
                if record.pending.t == t {
                    let hash = record.hash;
                    let committed = in_trees || record.pending.digest(data) == record.digest;
                    return Ok(committed.then_some(CommitId { t, hash }));
                }
            }
            let Some(slice) = self.records.next(self.db.loader()).await? else {
                return Err(Error::corrupt(
                    format!("commits of branch {}", self.db.branch()),
                    format!("t={t} is missing"),
                ));
            };
            let loader = self.db.loader();
            loader.resolve(&slice.leaf, slice.rows.clone()).await?;
            for row in slice.rows {
                self.known
                    .push_back(CommitRecord::from_datom(&slice.leaf.datom(row))?);
            }
            if self.direction == Direction::Backward {
                self.known.make_contiguous().reverse();
            }
        }
    }
}
