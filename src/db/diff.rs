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
//! **Invariant.** Two values with the same trees are compared without reading a node.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::Db;
use super::tail::{Net, Tail};
use crate::datom::{Datom, Entid};
use crate::error::{Error, Result};
use crate::index::{Index, TreeName, TreeOrder};
use crate::node::Loader;
use crate::tree::{Diff, Difference};
use crate::value::Value;

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
    /// Cost: a few paths for each run of changes between the trees, and both tails, in memory. Values that
    /// share their trees, such as the newest ones of a branch, are compared without a read; large values
    /// come with their bodies.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for views of `since` and `history`, and if an attribute has different ids in
    /// the two databases; the stream yields [`Error::Corrupt`] and [`Error::Store`].
    pub fn diff(&self, to: &Self) -> Result<BoxStream<'static, Result<Change>>> {
        Ok(self
            .facts_walk(to)?
            .stream(true)
            .map_ok(Change::from)
            .boxed())
    }

    /// How many facts [`Db::diff`] lists for each attribute, by the attribute's id. Those without are absent.
    ///
    /// Reads no bodies of large values, and holds nothing but the counts.
    ///
    /// # Errors
    ///
    /// As [`Db::diff`].
    pub async fn diff_counts(&self, to: &Self) -> Result<Vec<ChangeCount>> {
        let mut changes = self.facts_walk(to)?.stream(false);
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
    /// nothing. Cost: as [`Db::diff`], for two trees instead of one.
    ///
    /// # Errors
    ///
    /// As [`Db::diff`], but histories are welcome.
    pub fn diff_history(&self, to: &Self) -> Result<BoxStream<'static, Result<Difference>>> {
        self.comparable(to)?;
        let said = |tail: &Tail| tail.log().iter().map(|datom| (datom.clone(), 1)).collect();
        let trees = [TreeName::Eavt, TreeName::HistoryEavt];
        Ok(Walk::new(self, to, &trees, said).stream(true))
    }

    fn facts_walk(&self, to: &Self) -> Result<Walk> {
        self.comparable(to)?;
        if self.is_history() || to.is_history() {
            return Err(Error::invalid(
                "no fact holds in a history: ask diff_history for the datoms of two pasts, or compare the \
                 values that the histories are of",
            ));
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
        Ok(Walk::new(self, to, &[TreeName::Eavt], net))
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
    /// What both tails say, sorted.
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
        let keys_tx = names.len() > 1;
        let order = TreeOrder {
            index: Index::Eavt,
            keys_tx,
        };
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
            tails.sort_unstable_by(|left, right| order.compare(&left.datom, &right.datom));
        }
        let trees = names.iter().map(|name| Trees {
            diff: Diff::new(from.0.checkpoint.tree(*name), to.0.checkpoint.tree(*name)),
            next: None,
            ended: false,
        });
        Self {
            order,
            trees: trees.collect(),
            tails: tails.into(),
            ready: VecDeque::new(),
            from: from.clone(),
            to: to.clone(),
        }
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
