//! What must be said to turn one value into another.
//!
//! ```text
//!   from = trees A ⊕ tail a          to = trees B ⊕ tail b
//!
//!   held by `to` − held by `from`  =  (B − A)  −  net a  +  net b        for each fact
//! ```
//!
//! The difference of the trees skips what they share unread, the net changes of both tails are at hand, and
//! so a sum for each fact decides: +1 is new, −1 is gone, 0 is not worth a word. A fact that moved from a
//! tail into the trees, or that both hold by different transactions, cancels itself out. Pasts are compared
//! in the same way: of a datom with its `tx`, the trees of facts, the trees of history and the log of a tail
//! hold exactly one copy together.
//!
//! Trees of two checkpoints differ by all that was said between the checkpoints, although the values may lie
//! one transaction apart. Where both values are bases of one log, what it says between the two is the net
//! change of an empty tree, and is read instead unless it is long.
//!
//! **Invariant.** Two values with the same trees are compared without reading a node.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::Db;
use super::head::Head;
use super::tail::{Net, Tail};
use crate::datom::{Datom, Entid, TxId};
use crate::error::{Error, Result};
use crate::index::{Components, Edge, Index, Range, TreeName, TreeOrder};
use crate::node::Loader;
use crate::tree::{Diff, Difference};
use crate::value::Value;

/// How much of the log is read, sorted and held rather than comparing trees; in datoms, some MiB.
const LOG_MAX: u64 = 1 << 16;

/// A fact that holds in one of two values.
///
/// Who said it is another question: see [`Db::diff_history`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    /// The entity.
    pub e: Entid,
    /// The attribute.
    pub a: Entid,
    /// The value.
    pub v: Value,
    /// `true` if it must be asserted, `false` if it must be retracted.
    pub added: bool,
}

/// How many facts of one attribute differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeCount {
    /// The attribute.
    pub a: Entid,
    /// Facts to be asserted.
    pub asserted: u64,
    /// Facts to be retracted.
    pub retracted: u64,
}

impl Db {
    /// What must be said to turn this value into `to`, in EAVT order: each fact once.
    ///
    /// The values may be of different times, branches, stores or databases, or speculative. Facts are
    /// `[e a v]`: one that both hold is no change, whoever said it. Of different databases, entity ids are
    /// compared as numbers, so this answers for copies and forks rather than for strangers.
    ///
    /// Cost: what the log says between the two, if they are bases of one log and that is short. Otherwise a few
    /// paths for each run of changes between the trees, and both tails, in memory. Values that share
    /// their trees, such as the newest ones of a branch, are compared without a read; large values come
    /// with their bodies.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for views of `since` and `history`, and if an attribute has different ids in
    /// the two databases; the stream yields [`Error::Corrupt`] and [`Error::Store`].
    pub fn diff(&self, to: &Self) -> Result<BoxStream<'static, Result<Change>>> {
        self.diff_within(to, LOG_MAX)
    }

    /// [`Db::diff`], by the log if it says at most so much between the two.
    pub(super) fn diff_within(
        &self,
        to: &Self,
        log_max: u64,
    ) -> Result<BoxStream<'static, Result<Change>>> {
        let differences = self.facts(to, log_max, true)?;
        Ok(differences.map_ok(Change::from).boxed())
    }

    /// How many facts [`Db::diff`] lists for each attribute, by the attribute's id. Those without are absent.
    ///
    /// Reads no bodies of large values, and holds nothing but the counts.
    ///
    /// # Errors
    ///
    /// As [`Db::diff`].
    pub async fn diff_counts(&self, to: &Self) -> Result<Vec<ChangeCount>> {
        let mut changes = self.facts(to, LOG_MAX, false)?;
        let mut counts: BTreeMap<Entid, ChangeCount> = BTreeMap::new();
        while let Some(change) = changes.try_next().await? {
            let a = change.datom().a;
            let count = counts.entry(a).or_insert(ChangeCount {
                a,
                asserted: 0,
                retracted: 0,
            });
            match change {
                Difference::Left(_) => count.retracted += 1,
                Difference::Right(_) => count.asserted += 1,
            }
        }
        Ok(counts.into_values().collect())
    }

    /// The datoms that only one of two pasts has, in EAVT order with `tx` and retractions: of this value
    /// on the left, of `to` on the right.
    ///
    /// Every datom counts that [`Db::history`] of either would list. Attributes with `:db/noHistory` promise
    /// nothing. Cost: as [`Db::diff`], with two trees instead of one.
    ///
    /// # Errors
    ///
    /// As [`Db::diff`], but histories are welcome.
    pub fn diff_history(&self, to: &Self) -> Result<BoxStream<'static, Result<Difference>>> {
        self.diff_history_within(to, LOG_MAX)
    }

    /// [`Db::diff_history`], by the log if it says at most so much between the two.
    pub(super) fn diff_history_within(
        &self,
        to: &Self,
        log_max: u64,
    ) -> Result<BoxStream<'static, Result<Difference>>> {
        self.comparable(to)?;
        if self.logged_apart(to).is_some_and(|said| said <= log_max) {
            return Ok(self.by_log(to, true, |_| 1, true));
        }
        let said = |tail: &Tail| tail.log().iter().map(|datom| (datom.clone(), 1)).collect();
        let trees = [TreeName::Eavt, TreeName::HistoryEavt];
        Ok(Walk::new(self, to, &trees, said).stream(true))
    }

    /// The facts that only one of the two holds, large values with their bodies if they are wanted.
    fn facts(
        &self,
        to: &Self,
        log_max: u64,
        bodies: bool,
    ) -> Result<BoxStream<'static, Result<Difference>>> {
        self.comparable(to)?;
        if self.is_history() || to.is_history() {
            return Err(Error::invalid(
                "no fact holds in a history: ask diff_history for the datoms of two pasts, or compare the \
                 values that the histories are of",
            ));
        }
        if self.logged_apart(to).is_some_and(|said| said <= log_max) {
            let weight = |datom: &Datom| if datom.added { 1 } else { -1 };
            return Ok(self.by_log(to, false, weight, bodies));
        }
        let net = |tail: &Tail| {
            let deltas = tail.deltas(Index::Eavt).iter();
            let weighed = deltas.filter_map(|delta| match delta.net {
                Net::Insert => Some((delta.datom.clone(), 1)),
                Net::Replace => None,
                Net::Delete => Some((delta.datom.clone(), -1)),
            });
            weighed.collect()
        };
        Ok(Walk::new(self, to, &[TreeName::Eavt], net).stream(bodies))
    }

    /// How much one log says between the two, if both are bases of it; `None` also where their trees are the
    /// same, which need not be read.
    fn logged_apart(&self, to: &Self) -> Option<u64> {
        let (ours, theirs) = (&*self.0, &*to.0);
        let committed = ours.speculative_after.is_none() && theirs.speculative_after.is_none();
        if !committed || ours.checkpoint.covered == theirs.checkpoint.covered {
            return None;
        }
        // A purge leaves commits their ids, so only what the logs hold tells whether they are the same.
        let log = |head: &Head| {
            (
                head.checkpoint.covered,
                head.checkpoint.tree(TreeName::Log).id(),
            )
        };
        let same = Arc::ptr_eq(&ours.head, &theirs.head)
            || (log(&ours.head) == log(&theirs.head) && ours.head.log == theirs.head.log);
        let said = |inner: &super::Inner| {
            inner.checkpoint.tree(TreeName::Log).count() + inner.tail.log().len() as u64
        };
        same.then(|| said(ours).abs_diff(said(theirs)))
    }

    /// [`Walk::of_log`] as a stream.
    fn by_log(
        &self,
        to: &Self,
        keys_tx: bool,
        weight: fn(&Datom) -> i8,
        bodies: bool,
    ) -> BoxStream<'static, Result<Difference>> {
        let (from, to) = (self.clone(), to.clone());
        let walk = async move { Walk::of_log(&from, &to, keys_tx, weight).await };
        stream::once(walk)
            .map_ok(move |walk| walk.stream(bodies))
            .try_flatten()
            .boxed()
    }

    /// Whether a fact means the same in both values.
    fn comparable(&self, to: &Self) -> Result<()> {
        if self.since_t().is_some() || to.since_t().is_some() {
            return Err(Error::invalid(
                "a since view leaves out what was said before it: compare the values that it is a view of",
            ));
        }
        if self.database_id() == to.database_id() {
            return Ok(());
        }
        for attribute in self.schema().attributes() {
            let (id, ident) = (attribute.id, &attribute.ident);
            let other_id = to.schema().attribute_by_ident(ident).map(|other| other.id);
            let other_ident = to.schema().attribute(id).map(|other| &other.ident);
            if other_id.is_some_and(|other| other != id) {
                return Err(Error::invalid(format!(
                    "the databases are not of one origin: {ident} is entity {id} in one and {} in the \
                     other; compare them by what they say, in a query",
                    other_id.unwrap_or(id)
                )));
            }
            if let Some(other) = other_ident.filter(|other| *other != ident) {
                return Err(Error::invalid(format!(
                    "the databases are not of one origin: entity {id} is {ident} in one and {other} in the \
                     other; compare them by what they say, in a query"
                )));
            }
        }
        Ok(())
    }
}

impl From<Difference> for Change {
    fn from(difference: Difference) -> Self {
        let added = matches!(difference, Difference::Right(_));
        let (Difference::Left(datom) | Difference::Right(datom)) = difference;
        let Datom { e, a, v, .. } = datom;
        Self { e, a, v, added }
    }
}

/// One of the two values.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    From,
    To,
}

/// How often one source of one value holds a datom more than was known: once, or once less.
struct Word {
    datom: Datom,
    side: Side,
    /// Counted for `to`, and against `from`.
    weight: i8,
}

/// A comparison in progress.
struct Walk {
    from: Db,
    to: Db,
    order: TreeOrder,
    trees: Vec<Trees>,
    /// What both tails say, or the log between the two, sorted.
    tails: VecDeque<Word>,
    ready: VecDeque<(Difference, Side)>,
}

/// Two trees of one name, and the first difference that has not been dealt with.
struct Trees {
    diff: Diff,
    next: Option<Word>,
    ended: bool,
}

impl Walk {
    /// Compares the trees of these names, which share one order but for `tx`; that of the last decides.
    /// `said` weighs what a tail adds to them.
    fn new(
        from: &Db,
        to: &Db,
        names: &[TreeName],
        said: impl Fn(&Tail) -> Vec<(Datom, i8)>,
    ) -> Self {
        let mut walk = Self::empty(from, to, names.len() > 1);
        let mut tails = Vec::new();
        // Equal tails cancel each other out over equal trees and over others alike.
        if !Arc::ptr_eq(&from.0.tail, &to.0.tail) {
            for (side, db, sign) in [(Side::From, from, -1), (Side::To, to, 1)] {
                let said = said(&db.0.tail).into_iter();
                tails.extend(said.map(|(datom, weight)| Word {
                    datom,
                    side,
                    weight: sign * weight,
                }));
            }
        }
        walk.say(tails);
        let trees = names.iter().map(|name| Trees {
            diff: Diff::new(from.0.checkpoint.tree(*name), to.0.checkpoint.tree(*name)),
            next: None,
            ended: false,
        });
        walk.trees = trees.collect();
        walk
    }

    /// Compares two bases of one log by what it says between them, each datom weighed for the newer.
    async fn of_log(from: &Db, to: &Db, keys_tx: bool, weight: fn(&Datom) -> i8) -> Result<Self> {
        let forward = from.basis_t() <= to.basis_t();
        let (older, newer, side, sign) = if forward {
            (from, to, Side::To, 1)
        } else {
            (to, from, Side::From, -1)
        };
        let edge = |t, inclusive| {
            Some(Edge {
                at: Components::all().tx(TxId::from_t(t)),
                inclusive,
            })
        };
        let between = Range {
            from: edge(older.basis_t(), false),
            to: edge(newer.basis_t(), true),
        };
        let mut slices = newer.scan(Index::Log, between);
        let mut said = Vec::new();
        while let Some(slice) = slices.try_next().await? {
            let datoms = slice.rows.clone().map(|row| slice.leaf.datom(row));
            said.extend(datoms.map(|datom| Word {
                weight: sign * weight(&datom),
                datom,
                side,
            }));
        }
        let mut walk = Self::empty(from, to, keys_tx);
        walk.say(said);
        Ok(walk)
    }

    /// A comparison of nothing yet.
    fn empty(from: &Db, to: &Db, keys_tx: bool) -> Self {
        Self {
            from: from.clone(),
            to: to.clone(),
            order: TreeOrder {
                index: Index::Eavt,
                keys_tx,
            },
            trees: Vec::new(),
            tails: VecDeque::new(),
            ready: VecDeque::new(),
        }
    }

    /// Counts words in that are not in trees.
    fn say(&mut self, mut words: Vec<Word>) {
        let order = self.order;
        words.sort_unstable_by(|left, right| order.compare(&left.datom, &right.datom));
        self.tails = words.into();
    }

    /// The differences in order, large values with their bodies if they are wanted.
    fn stream(self, bodies: bool) -> BoxStream<'static, Result<Difference>> {
        stream::try_unfold(self, move |mut walk| async move {
            while walk.ready.is_empty() {
                if !walk.advance().await? {
                    return Ok(None);
                }
            }
            let Some((difference, side)) = walk.ready.pop_front() else {
                return Ok(None);
            };
            if bodies {
                let loader = walk.side(side).loader();
                loader.resolve_value(&difference.datom().v).await?;
            }
            Ok(Some((difference, walk)))
        })
        .boxed()
    }

    fn side(&self, side: Side) -> &Db {
        match side {
            Side::From => &self.from,
            Side::To => &self.to,
        }
    }

    /// Sums up what all sources say of the next fact; `false` if nothing is left.
    async fn advance(&mut self) -> Result<bool> {
        let loaders = (&**self.from.loader(), &**self.to.loader());
        for trees in &mut self.trees {
            trees.fill(loaders).await?;
        }
        let heads = self.trees.iter().filter_map(|trees| trees.next.as_ref());
        let facts = TreeName::Eavt.order();
        let Some(least) = heads
            .chain(self.tails.front())
            .map(|word| &word.datom)
            .min_by(|left, right| facts.compare(left, right))
            .cloned()
        else {
            return Ok(false);
        };
        let of_least = |word: &Word| facts.compare(&word.datom, &least).is_eq();
        let mut words = Vec::new();
        for trees in &mut self.trees {
            while let Some(word) = trees.next.take_if(|word| of_least(word)) {
                words.push(word);
                trees.fill(loaders).await?;
            }
        }
        while let Some(word) = self.tails.pop_front_if(|word| of_least(word)) {
            words.push(word);
        }
        let order = self.order;
        words.sort_by(|left, right| order.compare(&left.datom, &right.datom));
        for same in words.chunk_by(|left, right| order.compare(&left.datom, &right.datom).is_eq()) {
            let word = &same[0];
            let datom = word.datom.clone();
            let difference = match same.iter().map(|word| i32::from(word.weight)).sum() {
                0 => continue,
                -1 => Difference::Left(datom),
                1 => Difference::Right(datom),
                _ => {
                    return Err(Error::corrupt(
                        format!("datom {datom}"),
                        "a tail and its trees disagree on whether it holds",
                    ));
                }
            };
            self.ready.push_back((difference, word.side));
        }
        Ok(true)
    }
}

impl Trees {
    async fn fill(&mut self, loaders: (&Loader, &Loader)) -> Result<()> {
        if self.next.is_some() || self.ended {
            return Ok(());
        }
        self.next = self.diff.next(loaders).await?.map(|difference| {
            let (datom, side, weight) = match difference {
                Difference::Left(datom) => (datom, Side::From, -1),
                Difference::Right(datom) => (datom, Side::To, 1),
            };
            Word {
                datom,
                side,
                weight,
            }
        });
        self.ended = self.next.is_none();
        Ok(())
    }
}
