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
#[derive(Clone, Debug)]
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
        let sorted = |index, mut deltas: Vec<Delta>| {
            let order = TreeName::current(index).order();
            deltas.sort_unstable_by(|left, right| order.compare(&left.datom, &right.datom));
            deltas
        };
        let aevt = sorted(Index::Aevt, eavt.clone());
        let avet = eavt
            .iter()
            .filter(|delta| in_avet(delta.datom.a))
            .cloned()
            .collect();
        let avet = sorted(Index::Avet, avet);
        Self {
            log,
            pending,
            current: [eavt, aevt, avet],
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
