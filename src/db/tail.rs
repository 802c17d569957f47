//! The tail: what transactions said since a checkpoint, sorted as each index needs it.
//!
//! Reading a database is always *merge(tree range, tail range)*. The same mechanism serves the head, whose
//! tail is stored in the head object; a past basis, whose tail is a piece of the log; and a speculative
//! value, whose tail never leaves memory.
//!
//! **Invariant.** Along `t`, assertions and retractions of one `[e a v]` alternate, because a redundant
//! assertion writes nothing. So the first of them tells whether the checkpoint's trees hold the fact, the
//! last whether it holds now, and counts stay exact: tree + inserts − deletes.

use std::cmp::Ordering;

use super::commit::Pending;
use crate::datom::{Datom, Entid};
use crate::index::{Index, Range, TreeName, TreeOrder};

/// The datoms of the transactions after a checkpoint, with what they amount to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail {
    /// Every datom, in LOG order.
    log: Vec<Datom>,
    /// What its transactions did besides.
    pending: Vec<Pending>,
    /// Net changes of current facts in EAVT, AEVT and AVET order.
    current: [Vec<Delta>; 3],
}

/// A net change of one current fact against the checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Delta {
    /// The fact; its `tx` matters unless it is deleted.
    pub(crate) datom: Datom,
    /// What happens to it.
    pub(crate) net: Net,
}

/// What a tail does to a fact of the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Net {
    /// The trees do not hold it; now it holds.
    Insert,
    /// The trees hold it, it was retracted and asserted again: it has another `tx`.
    Replace,
    /// The trees hold it; now it does not hold.
    Delete,
}

/// A word on one fact, and its net change then; `None` if the trees tell the truth again.
#[derive(Clone, Copy)]
struct Change<'a> {
    datom: &'a Datom,
    net: Option<Net>,
}

/// Sorts facts that are in EAVT order for another index.
///
/// Stable, so that what EAVT has decided need not be compared again: AEVT is the order of attributes, AVET
/// that of attributes and values.
fn reorder<T>(index: Index, facts: &mut [T], datom: impl Fn(&T) -> &Datom) {
    match index {
        Index::Aevt => facts.sort_by_key(|fact| datom(fact).a),
        Index::Avet => {
            facts.sort_by_key(|fact| datom(fact).a);
            for run in facts.chunk_by_mut(|left, right| datom(left).a == datom(right).a) {
                run.sort_by(|left, right| datom(left).v.cmp(&datom(right).v));
            }
        }
        Index::Eavt | Index::Log => {}
    }
    let order = TreeName::current(index).order();
    debug_assert!(facts.is_sorted_by(|a, b| order.compare(datom(a), datom(b)).is_lt()));
}

/// Net changes with others laid over them; both are sorted by `index`.
fn changed(old: &[Delta], changes: &[Change<'_>], index: Index) -> Vec<Delta> {
    let order = TreeName::current(index).order();
    let mut merged = Vec::with_capacity(old.len() + changes.len());
    let mut rest = old;
    for &Change { datom, net } in changes {
        let (before, behind) =
            rest.split_at(rest.partition_point(|old| order.compare(&old.datom, datom).is_lt()));
        merged.extend_from_slice(before);
        rest = match behind {
            [old, behind @ ..] if order.compare(&old.datom, datom).is_eq() => behind,
            _ => behind,
        };
        merged.extend(net.map(|net| Delta {
            datom: datom.clone(),
            net,
        }));
    }
    merged.extend_from_slice(rest);
    merged
}

impl Tail {
    /// Derives a tail from log datoms in LOG order.
    ///
    /// `in_avet` says which attributes lie in AVET, in the trees and in the tail alike.
    pub(crate) fn new(
        log: Vec<Datom>,
        pending: Vec<Pending>,
        in_avet: impl Fn(Entid) -> bool,
    ) -> Self {
        debug_assert!(log.is_sorted_by(|a, b| TreeName::Log.order().compare(a, b).is_lt()));
        let mut by_fact: Vec<&Datom> = log.iter().collect();
        let order = TreeOrder {
            index: Index::Eavt,
            keys_tx: true,
        };
        by_fact.sort_unstable_by(|left, right| order.compare(left, right));
        let same_fact = |left: &&Datom, right: &&Datom| {
            left.e == right.e && left.a == right.a && left.v == right.v
        };
        let eavt: Vec<Delta> = by_fact
            .chunk_by(same_fact)
            .filter_map(|said| {
                let (first, last) = (said.first()?, said.last()?);
                let net = match (first.added, last.added) {
                    (true, true) => Net::Insert,
                    (false, true) => Net::Replace,
                    (false, false) => Net::Delete,
                    (true, false) => return None,
                };
                Some(Delta {
                    datom: (*last).clone(),
                    net,
                })
            })
            .collect();
        let mut aevt = eavt.clone();
        reorder(Index::Aevt, &mut aevt, |delta| &delta.datom);
        let mut avet: Vec<_> = eavt
            .iter()
            .filter(|delta| in_avet(delta.datom.a))
            .cloned()
            .collect();
        reorder(Index::Avet, &mut avet, |delta| &delta.datom);
        Self {
            log,
            pending,
            current: [eavt, aevt, avet],
        }
    }

    /// This tail with one more transaction, whose datoms are in LOG order.
    ///
    /// `in_avet` must say what it said when this tail was made.
    pub(crate) fn extended(
        &self,
        datoms: &[Datom],
        pending: &Pending,
        in_avet: impl Fn(Entid) -> bool,
    ) -> Self {
        // A transaction says one thing of a fact at most, and within it LOG order is EAVT order.
        let eavt: Vec<_> = datoms
            .iter()
            .map(|datom| Change {
                datom,
                net: self.net(datom),
            })
            .collect();
        let indexed = eavt.iter().filter(|change| in_avet(change.datom.a));
        let mut avet: Vec<_> = indexed.copied().collect();
        reorder(Index::Avet, &mut avet, |change| change.datom);
        let mut aevt = eavt.clone();
        reorder(Index::Aevt, &mut aevt, |change| change.datom);
        Self {
            log: [&self.log, datoms].concat(),
            pending: [&self.pending, std::slice::from_ref(pending)].concat(),
            current: [
                changed(self.deltas(Index::Eavt), &eavt, Index::Eavt),
                changed(self.deltas(Index::Aevt), &aevt, Index::Aevt),
                changed(self.deltas(Index::Avet), &avet, Index::Avet),
            ],
        }
    }

    /// What becomes of a fact of which `next` is the last word.
    fn net(&self, next: &Datom) -> Option<Net> {
        let eavt = self.deltas(Index::Eavt);
        let order = TreeName::Eavt.order();
        let known = eavt.binary_search_by(|delta| order.compare(&delta.datom, next));
        // Without a net change the trees hold what can be retracted, and only that.
        let in_trees = known.map_or(!next.added, |row| eavt[row].net != Net::Insert);
        match (in_trees, next.added) {
            (false, true) => Some(Net::Insert),
            (true, true) => Some(Net::Replace),
            (true, false) => Some(Net::Delete),
            (false, false) => None,
        }
    }

    /// Every datom, in LOG order.
    pub(crate) fn log(&self) -> &[Datom] {
        &self.log
    }

    /// What its transactions did besides their datoms, by `t`.
    pub(crate) fn pending(&self) -> &[Pending] {
        &self.pending
    }

    /// Net changes of current facts, sorted by `index`; the log has none.
    pub(crate) fn deltas(&self, index: Index) -> &[Delta] {
        match index {
            Index::Eavt => &self.current[0],
            Index::Aevt => &self.current[1],
            Index::Avet => &self.current[2],
            Index::Log => &[],
        }
    }

    /// Where the net changes in `range` lie among [`Tail::deltas`].
    pub(crate) fn rows(&self, index: Index, range: &Range) -> std::ops::Range<usize> {
        let deltas = self.deltas(index);
        let start =
            deltas.partition_point(|delta| range.locate(index, &delta.datom) == Ordering::Less);
        let end =
            deltas.partition_point(|delta| range.locate(index, &delta.datom) != Ordering::Greater);
        start..end.max(start)
    }

    /// How many more facts hold in `range` than the trees hold.
    pub(crate) fn count(&self, index: Index, range: &Range) -> i64 {
        self.deltas(index)[self.rows(index, range)]
            .iter()
            .map(|delta| match delta.net {
                Net::Insert => 1,
                Net::Replace => 0,
                Net::Delete => -1,
            })
            .sum()
    }

    /// What the tail moves to history by itself: facts asserted and superseded within it, and all
    /// retractions. Facts of the trees that it supersedes come from the trees, with their `tx`.
    pub(crate) fn superseded(&self) -> impl Iterator<Item = &Datom> {
        let eavt = self.deltas(Index::Eavt);
        self.log.iter().filter(move |datom| {
            !datom.added
                || eavt
                    .binary_search_by(|delta| TreeName::Eavt.order().compare(&delta.datom, datom))
                    .map_or(true, |row| {
                        eavt[row].net == Net::Delete || eavt[row].datom.tx != datom.tx
                    })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::datom::TxId;
    use crate::value::Value;

    fn datom(e: i64, v: i64, t: u64, added: bool) -> Datom {
        Datom {
            e: Entid(e),
            a: Entid(2000),
            v: Value::Long(v),
            tx: TxId::from_t(t),
            added,
        }
    }

    proptest! {
        #[test]
        fn a_tail_extended_equals_one_derived_anew(
            in_trees in vec(any::<bool>(), 8),
            transactions in vec(vec(any::<bool>(), 8), 1..12),
        ) {
            let in_avet = |_| true;
            let mut holds = in_trees;
            let mut log = Vec::new();
            let mut tail = Tail::default();
            for (t, speaks) in (1..).zip(transactions) {
                let mut datoms = Vec::new();
                for (fact, _) in speaks.into_iter().enumerate().filter(|(_, speaks)| *speaks) {
                    holds[fact] = !holds[fact];
                    let number = i64::try_from(fact).unwrap();
                    datoms.push(datom(number % 3, number, t, holds[fact]));
                }
                datoms.sort_unstable_by(|left, right| TreeName::Log.order().compare(left, right));
                let pending = Pending { t, instant: 0, nonce: [0; 16], other_parents: Vec::new(), tables: Vec::new() };
                tail = tail.extended(&datoms, &pending, in_avet);
                log.extend(datoms);
                let anew = Tail::new(log.clone(), Vec::new(), in_avet);
                prop_assert_eq!(&tail.log, &anew.log);
                prop_assert_eq!(&tail.current, &anew.current);
            }
        }
    }

    #[test]
    fn net_changes_follow_first_and_last_word() {
        let log = vec![
            datom(1, 1, 1, true),  // new, stays
            datom(2, 2, 1, true),  // new, goes
            datom(3, 3, 1, false), // old, goes
            datom(4, 4, 1, false), // old, comes back
            datom(2, 2, 2, false),
            datom(4, 4, 2, true),
        ];
        let tail = Tail::new(log, Vec::new(), |_| false);
        let nets: Vec<_> = tail
            .deltas(Index::Eavt)
            .iter()
            .map(|d| (d.datom.e.0, d.datom.tx.t(), d.net))
            .collect();
        assert_eq!(
            nets,
            [
                (1, 1, Net::Insert),
                (3, 1, Net::Delete),
                (4, 2, Net::Replace)
            ]
        );
        assert_eq!(tail.count(Index::Eavt, &Range::all()), 0);
        let superseded: Vec<_> = tail.superseded().map(|d| (d.e.0, d.added)).collect();
        assert_eq!(superseded, [(2, true), (3, false), (4, false), (2, false)]);
        assert!(
            tail.deltas(Index::Avet).is_empty(),
            "the attribute is not indexed"
        );
    }
}
