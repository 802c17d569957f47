use std::collections::BTreeMap;

use super::{all, database, transact};
use crate::datom::{Datom, Entid};
use crate::edn::Keyword;
use crate::index::{Components, Index, Range, TreeName};
use crate::schema::Schema;
use crate::value::Value;
use crate::{Connection, Db, TimePoint, TxData};

const SCHEMA: &str = "[
    {:db/ident :p/a :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
    {:db/ident :p/b :db/valueType :db.type/long :db/cardinality :db.cardinality/many
     :db/index true}
    {:db/ident :p/r :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}]";

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn transaction(&mut self) -> TxData {
        let text = match self.below(12) {
            0 => format!("[[:db/add :p/a :db/index {}]]", self.below(2) == 0),
            1 => format!("[[:db/add :p/b :db/index {}]]", self.below(2) == 0),
            2 => format!("[[:db/retractEntity {}]]", 5000 + self.below(6)),
            _ => {
                let e = 5000 + self.below(6);
                let word = ["add", "retract"][usize::from(self.below(3) == 0)];
                match self.below(3) {
                    0 => format!("[[:db/{word} {e} :p/a {}]]", self.below(3)),
                    1 => format!("[[:db/{word} {e} :p/b {}]]", self.below(4)),
                    _ => format!("[[:db/{word} {e} :p/r {}]]", 5000 + self.below(6)),
                }
            }
        };
        TxData::parse(&text).unwrap()
    }
}

/// What a list of datoms says of a moment: the twin of a database.
fn current(log: &[Datom], t: u64) -> Vec<Datom> {
    let mut facts: BTreeMap<(Entid, Entid, Value), Datom> = BTreeMap::new();
    for datom in log.iter().filter(|datom| datom.tx.t() <= t) {
        let key = (datom.e, datom.a, datom.v.clone());
        if datom.added {
            facts.insert(key, datom.clone());
        } else {
            assert!(facts.remove(&key).is_some(), "{datom} retracts nothing");
        }
    }
    facts.into_values().collect()
}

async fn scan(db: &Db, index: Index) -> Vec<Datom> {
    db.collect(index, &Range::all()).await.unwrap()
}

/// Every index of a value, its history and a part of each, against the twin.
async fn agree(db: &Db, log: &[Datom], context: &str) {
    let t = db.basis_t();
    let mut schema = Schema::default();
    let upto: Vec<Datom> = log
        .iter()
        .filter(|datom| datom.tx.t() <= t)
        .cloned()
        .collect();
    schema.fold(&upto);
    let (now, since) = (current(log, t), t / 2);
    let later = |datoms: &[Datom]| -> Vec<Datom> {
        let later = datoms.iter().filter(|datom| datom.tx.t() > since);
        later.cloned().collect()
    };
    let since_db = db.since(TimePoint::T(since)).await.unwrap();
    for (view, mut expected, name) in [
        (db.clone(), now.clone(), "now"),
        (db.history(), upto.clone(), "history"),
        (since_db.clone(), later(&now), "since"),
        (since_db.history(), later(&upto), "since, history"),
    ] {
        for index in [Index::Eavt, Index::Aevt, Index::Avet] {
            if index == Index::Avet {
                let indexed = |a| schema.attribute(a).is_some_and(|a| a.in_avet());
                expected.retain(|datom| indexed(datom.a));
            }
            let tree = if view.is_history() {
                TreeName::history(index)
            } else {
                TreeName::current(index)
            };
            expected.sort_unstable_by(|left, right| tree.order().compare(left, right));
            assert_eq!(
                scan(&view, index).await,
                expected,
                "{context}: {name} {index:?} at t={t}"
            );
            let count = view.count(index, &Range::all()).await.unwrap();
            assert_eq!(count, expected.len() as u64, "{context}: {name} {index:?}");
            for attribute in schema.attributes().filter(|a| a.id >= Entid::FIRST_USER) {
                if index == Index::Avet && !attribute.in_avet() {
                    assert!(!view.in_avet(attribute.id));
                    continue;
                }
                let range = Range::prefix(Components::all().a(attribute.id).v(Value::Long(1)));
                if index == Index::Avet {
                    let located = expected.iter().filter(|d| range.locate(index, d).is_eq());
                    let located: Vec<_> = located.cloned().collect();
                    assert_eq!(
                        view.collect(index, &range).await.unwrap(),
                        located,
                        "{context}"
                    );
                    let count = view.count(index, &range).await.unwrap();
                    assert_eq!(count, located.len() as u64, "{context}");
                }
            }
        }
        if name == "now" {
            assert_eq!(scan(&view, Index::Log).await, upto, "{context}: log");
        }
    }
}

/// A database with a past: two checkpoints and a tail.
async fn past(seed: u64) -> (Connection, Vec<Datom>) {
    let connection = database(SCHEMA).await;
    transact(&connection, "[{:db/id 5005 :p/a 1}]").await;
    let mut dice = Dice(seed);
    for n in 0..40 {
        connection.transact(&dice.transaction()).await.unwrap();
        if n % 15 == 14 {
            connection.checkpoint().await.unwrap();
        }
    }
    let log = all(&connection.db(), Index::Log).await;
    (connection, log)
}

#[tokio::test]
async fn values_that_might_be_answer_as_a_list_of_datoms_does() {
    for seed in 0..6 {
        let (connection, log) = past(seed).await;
        let before = connection.store().requests();
        let mut dice = Dice(1000 + seed);
        // From now, from a checkpoint, from a tail, and from before all checkpoints.
        for from in [42, 32, 20, 3] {
            let mut db = connection.db().as_of(TimePoint::T(from)).await.unwrap();
            let mut log: Vec<_> = log.iter().filter(|d| d.tx.t() <= from).cloned().collect();
            for step in 0..25 {
                let report = db.with(&dice.transaction()).await.unwrap();
                assert_eq!(report.db_before.basis_t(), db.basis_t());
                log.extend(report.tx_data);
                db = report.db_after;
                if step % 4 == 0 {
                    agree(&db, &log, &format!("seed {seed}, {step} from {from}")).await;
                }
            }
            for t in [from + 25, from + 13, from + 1, from, from - 2, 1] {
                let past = db.as_of(TimePoint::T(t)).await.unwrap();
                agree(&past, &log, &format!("seed {seed}, as of {t} from {from}")).await;
                // And on from there.
                let on = past.with(&dice.transaction()).await.unwrap();
                let mut log: Vec<_> = log.iter().filter(|d| d.tx.t() <= t).cloned().collect();
                log.extend(on.tx_data);
                agree(
                    &on.db_after,
                    &log,
                    &format!("seed {seed}, on from {t} from {from}"),
                )
                .await;
            }
        }
        let asked = connection.store().requests() - before;
        assert_eq!((asked.puts, asked.lists), (0, 0));
    }
}

#[tokio::test]
async fn speculation_outgrows_the_bounds_of_a_tail_and_writes_nothing() {
    let (connection, mut log) = past(77).await;
    let before = (connection.store().requests(), connection.db().basis_t());
    let mut dice = Dice(78);
    let mut db = connection.db();
    for _ in 0..400 {
        let report = db.with(&dice.transaction()).await.unwrap();
        log.extend(report.tx_data);
        db = report.db_after;
    }
    agree(&db, &log, "400 on").await;
    agree(
        &db.as_of(TimePoint::T(250)).await.unwrap(),
        &log,
        "in the middle",
    )
    .await;
    let asked = connection.store().requests() - before.0;
    assert_eq!(asked.puts, 0);
    assert_eq!(connection.sync().await.unwrap().basis_t(), before.1);
    // What was only thought is no obstacle to what is said.
    let report = transact(&connection, "[{:db/id 5000 :p/a 9}]").await;
    assert_eq!(report.t, before.1 + 1);
}

/// AVET of an attribute whose index a speculative value turns on was empty, though its facts were there;
/// what lay in the trees when an index was turned off was still answered.
#[tokio::test]
async fn an_index_that_might_be_turned_on_or_off_answers_rightly() {
    let connection = database(SCHEMA).await;
    for n in 0..20 {
        transact(
            &connection,
            &format!("[{{:db/id {} :p/a {} :p/b {n}}}]", 5000 + n, n % 3),
        )
        .await;
    }
    connection.checkpoint().await.unwrap();
    let log = all(&connection.db(), Index::Log).await;
    let turned = |text: &str| TxData::parse(text).unwrap();
    for text in [
        "[[:db/add :p/a :db/index true]]",
        "[[:db/add :p/a :db/index true] [:db/add 5003 :p/a 7] [:db/retract 5004 :p/a]]",
        "[[:db/add :p/b :db/index false] [:db/retract 5003 :p/b]]",
    ] {
        let report = connection.db().with(&turned(text)).await.unwrap();
        let mut log = [log.clone(), report.tx_data].concat();
        agree(&report.db_after, &log, text).await;
        let next = turned("[[:db/add 5001 :p/a 1] [:db/retractEntity 5007]]");
        let on = report.db_after.with(&next).await.unwrap();
        log.extend(on.tx_data);
        agree(&on.db_after, &log, text).await;
        let a = on.db_after.schema().entid(&Keyword::new("p/a")).unwrap();
        let indexed = on
            .db_after
            .datoms(Index::Avet, Components::all().a(a))
            .is_ok();
        assert_eq!(indexed, text.contains("true"));
    }
}
