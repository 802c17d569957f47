//! Fills a [`NaiveDb`] from transactions as text, as far as tests need it.
//!
//! Known are maps, `:db/add` and `:db/retract`, entity ids, tempids as text, idents and lookup refs. A value
//! of cardinality one gives way to the next one.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its own text must fail"
)]

use std::collections::BTreeMap;

use datomfusion_datalog::edn::{Edn, Form, Keyword, read};
use datomfusion_datalog::{AttributeFacts, Term, TermType};

use crate::naive::{NaiveDb, constant};

/// Ids of transactions begin here.
const TX_MIN: i64 = 1 << 42;

/// A database that grows.
#[derive(Clone, Default)]
pub struct Loading {
    /// Everything that was ever asserted or retracted.
    pub history: NaiveDb,
    /// What holds.
    pub current: NaiveDb,
    transactions: i64,
    ids: i64,
}

impl Loading {
    /// The database after transactions, the schema first.
    pub fn of(texts: &[&str]) -> Self {
        let mut loading = Self {
            ids: 100,
            ..Self::default()
        };
        for text in texts {
            loading.transact(text);
        }
        loading
    }

    /// Adds a transaction.
    pub fn transact(&mut self, text: &str) {
        self.transactions += 1;
        let form = read(text).unwrap();
        let mut tempids = BTreeMap::from([("datomic.tx".to_owned(), TX_MIN + self.transactions)]);
        for operation in form.as_sequence().unwrap() {
            self.operation(operation, &mut tempids);
        }
        self.history.attributes.clone_from(&self.current.attributes);
        self.history.idents.clone_from(&self.current.idents);
    }

    fn operation(&mut self, operation: &Form, tempids: &mut BTreeMap<String, i64>) {
        if let Some(entries) = operation.as_map() {
            let e = match operation.get("db/id") {
                Some(id) => self.entity(id, tempids),
                None => self.next_id(),
            };
            if let Some(ident) = operation.get("db/ident").and_then(|form| form.as_keyword()) {
                self.current.idents.push((e, ident.clone()));
                if operation.get("db/valueType").is_some() {
                    self.current.attributes.push(attribute(e, ident, operation));
                    return;
                }
            }
            for (key, value) in entries {
                let key = key.as_keyword().unwrap();
                if matches!(key.as_str(), "db/id" | "db/ident" | "db/txInstant") {
                    continue;
                }
                let facts = self.attribute(key);
                match value.as_vector() {
                    Some(values) if facts.is_many => {
                        for value in values {
                            self.add(e, &facts, value, tempids);
                        }
                    }
                    _ => self.add(e, &facts, value, tempids),
                }
            }
            return;
        }
        let [verb, e, a, v] = operation.as_vector().unwrap() else {
            panic!("{operation} is not known");
        };
        let e = self.entity(e, tempids);
        let facts = self.attribute(a.as_keyword().unwrap());
        match verb.as_keyword().unwrap().as_str() {
            "db/add" => self.add(e, &facts, v, tempids),
            "db/retract" => {
                let v = self.value(&facts, v, tempids);
                self.retract(e, facts.id, |known| *known == v);
            }
            other => panic!("{other} is not known"),
        }
    }

    fn add(
        &mut self,
        e: i64,
        facts: &AttributeFacts,
        form: &Form,
        tempids: &mut BTreeMap<String, i64>,
    ) {
        let v = self.value(facts, form, tempids);
        let mut known = self.current.datoms.iter();
        // Nothing is looked for in a transaction of many, whose entities are all new.
        if self.transactions > 2 && known.any(|d| (d.0, d.1) == (e, facts.id) && d.2 == v) {
            return;
        }
        if !facts.is_many && self.transactions > 2 {
            self.retract(e, facts.id, |_| true);
        }
        let datom = (e, facts.id, v, TX_MIN + self.transactions, true);
        self.current.datoms.push(datom.clone());
        self.history.datoms.push(datom);
    }

    fn retract(&mut self, e: i64, a: i64, is_gone: impl Fn(&Term) -> bool) {
        let tx = TX_MIN + self.transactions;
        let history = &mut self.history.datoms;
        self.current.datoms.retain(|datom| {
            let is_gone = (datom.0, datom.1) == (e, a) && is_gone(&datom.2);
            if is_gone {
                history.push((e, a, datom.2.clone(), tx, false));
            }
            !is_gone
        });
    }

    fn value(
        &mut self,
        facts: &AttributeFacts,
        form: &Form,
        tempids: &mut BTreeMap<String, i64>,
    ) -> Term {
        match facts.value_type {
            TermType::Ref => Term::Long(self.entity(form, tempids)),
            _ => constant(form).unwrap(),
        }
    }

    fn entity(&mut self, form: &Form, tempids: &mut BTreeMap<String, i64>) -> i64 {
        match &form.edn {
            Edn::Long(id) => *id,
            Edn::String(tempid) => {
                if let Some(id) = tempids.get(&**tempid) {
                    return *id;
                }
                let id = self.next_id();
                tempids.insert(tempid.to_string(), id);
                id
            }
            Edn::Keyword(ident) => {
                let mut idents = self.current.idents.iter();
                idents.find(|(_, known)| known == ident).unwrap().0
            }
            Edn::Vector(parts) => {
                let a = self.attribute(parts[0].as_keyword().unwrap()).id;
                let v = constant(&parts[1]).unwrap();
                let mut datoms = self.current.datoms.iter();
                datoms.find(|datom| datom.1 == a && datom.2 == v).unwrap().0
            }
            other => panic!("{other} is no entity"),
        }
    }

    fn attribute(&self, ident: &Keyword) -> AttributeFacts {
        let mut attributes = self.current.attributes.iter();
        attributes
            .find(|attribute| attribute.ident == *ident)
            .unwrap_or_else(|| panic!("no attribute {ident}"))
            .clone()
    }

    fn next_id(&mut self) -> i64 {
        self.ids += 1;
        self.ids
    }
}

fn attribute(id: i64, ident: &Keyword, map: &Form) -> AttributeFacts {
    let name = |key: &str| map.get(key).and_then(|form| form.as_keyword());
    AttributeFacts {
        id,
        ident: ident.clone(),
        value_type: match name("db/valueType").unwrap().as_str() {
            "db.type/ref" => TermType::Ref,
            "db.type/long" => TermType::Long,
            "db.type/double" => TermType::Double,
            "db.type/bigdec" => TermType::BigDec,
            "db.type/boolean" => TermType::Boolean,
            "db.type/keyword" => TermType::Keyword,
            "db.type/instant" => TermType::Instant,
            "db.type/string" => TermType::String,
            other => panic!("{other} is not known"),
        },
        is_many: name("db/cardinality").is_some_and(|many| many.as_str() == "db.cardinality/many"),
        is_unique: name("db/unique").is_some(),
        is_component: false,
        is_indexed: map.get("db/index").is_some(),
    }
}
