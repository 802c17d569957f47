//! What a log amounts to: the slow and obvious way to say what holds and what is history.

use std::collections::{BTreeMap, BTreeSet};

use crate::datom::{Datom, Entid, TxId};
use crate::db::stats::table_of;
use crate::index::TreeName;
use crate::schema::Schema;
use crate::value::Value;

/// A fact without its transaction, in EAVT order.
type Fact = (Entid, Entid, Value);

/// A log read so far. Holds every fact and every superseded datom; large values are as they were said.
pub(in crate::db) struct Replay {
    current: BTreeMap<Fact, TxId>,
    history: Vec<Datom>,
    pub(in crate::db) schema: Schema,
}

impl Replay {
    pub(in crate::db) fn new() -> Self {
        Self {
            current: BTreeMap::new(),
            history: Vec::new(),
            schema: Schema::bootstrap(),
        }
    }

    /// Adds what one transaction said; fails with the first datom that cannot have been said, and why.
    pub(in crate::db) fn say(&mut self, said: &[Datom]) -> Result<(), (Datom, &'static str)> {
        let mut seen = BTreeSet::new();
        for datom in said {
            let fact = (datom.e, datom.a, datom.v.clone());
            let wrong = |why| Err((datom.clone(), why));
            if !seen.insert(fact.clone()) {
                return wrong("its transaction says it twice");
            }
            if datom.added {
                if self.current.insert(fact, datom.tx).is_some() {
                    return wrong("it held already");
                }
                continue;
            }
            let Some(tx) = self.current.remove(&fact) else {
                return wrong("it did not hold");
            };
            let attribute = self.schema.attribute(datom.a);
            if attribute.is_none_or(|attribute| !attribute.no_history) {
                let asserted = Datom::add(datom.e, datom.a, datom.v.clone(), tx);
                self.history.extend([asserted, datom.clone()]);
            }
        }
        self.schema.fold(said);
        Ok(())
    }

    /// What a tree must hold, in its order. The log and the commits hold nothing that follows from it.
    pub(in crate::db) fn datoms(&self, name: TreeName) -> Vec<Datom> {
        let in_avet = |a| self.schema.attribute(a).is_some_and(|a| a.in_avet());
        let facts = self
            .current
            .iter()
            .map(|((e, a, v), tx)| Datom::add(*e, *a, v.clone(), *tx));
        let past = self.history.iter();
        let mut datoms: Vec<Datom> = match name {
            TreeName::Eavt | TreeName::Aevt => facts.collect(),
            TreeName::Avet => facts.filter(|datom| in_avet(datom.a)).collect(),
            TreeName::HistoryEavt | TreeName::HistoryAevt => past.cloned().collect(),
            TreeName::HistoryAvet => past.filter(|datom| in_avet(datom.a)).cloned().collect(),
            TreeName::Log | TreeName::Commits => Vec::new(),
        };
        let order = name.order();
        datoms.sort_unstable_by(|left, right| order.compare(left, right));
        datoms
    }

    /// How many entities each table has; empty ones are absent.
    pub(in crate::db) fn tables(&self) -> BTreeMap<&str, u64> {
        let mut tables = BTreeMap::new();
        let mut entity = None;
        let mut counted: Vec<&str> = Vec::new();
        for (e, a, _) in self.current.keys() {
            if entity.replace(*e) != Some(*e) {
                counted.clear();
            }
            let attribute = self.schema.attribute(*a);
            if let Some(table) = attribute.and_then(|attribute| table_of(&attribute.ident))
                && !counted.contains(&table)
            {
                counted.push(table);
                *tables.entry(table).or_default() += 1;
            }
        }
        tables
    }
}
