//! A database as it should be: every datom that was ever said, in a vector, and nothing clever.

use std::collections::BTreeSet;

use datomfusion::{Datom, Db, Index};

/// Every datom ever said, in the order of its saying.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    said: Vec<Datom>,
}

impl Model {
    /// Adds what a transaction said.
    pub(crate) fn say(&mut self, datoms: &[Datom]) {
        self.said.extend_from_slice(datoms);
    }

    /// What was said up to `t`.
    fn upto(&self, t: u64) -> impl Iterator<Item = &Datom> {
        self.said.iter().filter(move |datom| datom.tx.t() <= t)
    }

    /// The facts that hold at `t`.
    pub(crate) fn current(&self, t: u64) -> Vec<Datom> {
        let mut facts: Vec<Datom> = Vec::new();
        for datom in self.upto(t) {
            let same = |fact: &Datom| fact.e == datom.e && fact.a == datom.a && fact.v == datom.v;
            if datom.added {
                assert!(!facts.iter().any(same), "said twice: {datom}");
                facts.push(datom.clone());
            } else {
                let at = facts.iter().position(same).expect("a retracted fact held");
                facts.swap_remove(at);
            }
        }
        facts
    }

    /// Compares every view of a database whose basis is `t` with this model.
    pub(crate) async fn check(&self, db: &Db, t: u64) {
        assert_eq!(db.basis_t(), t);
        let current = self.current(t);
        for index in [Index::Eavt, Index::Aevt, Index::Avet] {
            let in_index = |datom: &&Datom| index != Index::Avet || db.in_avet(datom.a);
            let facts = current.iter().filter(in_index).cloned().collect();
            compare(db, index, facts, false).await;
            let said = self.upto(t).filter(in_index).cloned().collect();
            compare(&db.history(), index, said, true).await;
        }
        compare(db, Index::Log, self.upto(t).cloned().collect(), true).await;
        for since in [0, t / 2, t] {
            let later = |datom: &&Datom| datom.tx.t() > since;
            let view = db.since(datomfusion::TimePoint::T(since)).await.unwrap();
            let facts = current.iter().filter(later).cloned().collect();
            compare(&view, Index::Eavt, facts, false).await;
            let said = self.upto(t).filter(later).cloned().collect();
            compare(&view.history(), Index::Aevt, said, true).await;
        }
    }
}

/// Compares an index with the datoms it should hold, in its order.
async fn compare(db: &Db, index: Index, mut expected: Vec<Datom>, with_tx: bool) {
    let key = |datom: &Datom| {
        let Datom { e, a, v, tx, added } = datom.clone();
        let tail = if with_tx {
            (tx, added)
        } else {
            (datomfusion::TxId::from_t(0), true)
        };
        match index {
            Index::Eavt => (tail.0, e.0, a.0, Some(v), 0, tail),
            Index::Aevt => (tail.0, a.0, e.0, Some(v), 0, tail),
            Index::Avet => (tail.0, a.0, 0, Some(v), e.0, tail),
            Index::Log => (tx, e.0, a.0, Some(v), 0, tail),
        }
    };
    let key = |datom: &Datom| {
        let (first, second, third, v, fourth, tail) = key(datom);
        let lead = if index == Index::Log {
            Some(first)
        } else {
            None
        };
        (lead, second, third, v, fourth, tail)
    };
    expected.sort_by_key(key);
    let found = super::all(db, index).await;
    assert_eq!(found, expected, "{index:?} of {db:?}");
    let distinct: BTreeSet<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(distinct.len(), found.len());
}
