//! Databases of people of five attributes, and small transactions about them.
//!
//! The same size gives the same database and the same bytes; only what is asked of it differs by bench.

#![allow(dead_code, reason = "a bench uses what it needs")]
#![allow(clippy::cast_precision_loss, reason = "scores are any numbers")]

use std::ops::Range;

use datomfusion::{BranchName, Connection, Db, Import, Seeded, Store, TxData, Value};

use super::random::Random;

pub const SCHEMA: &str = r#"[
    {:db/ident :p/id :db/valueType :db.type/long :db/cardinality :db.cardinality/one
     :db/unique :db.unique/identity}
    {:db/ident :p/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/index true}
    {:db/ident :p/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
    {:db/ident :p/city :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
    {:db/ident :p/score :db/valueType :db.type/double :db/cardinality :db.cardinality/one}]"#;

/// Datoms of one person.
pub const FACTS: u64 = 5;

/// The numbers of datoms on the command line, or these.
pub fn sizes(otherwise: &[u64]) -> Vec<u64> {
    let given = std::env::args().filter_map(|arg| arg.parse().ok());
    let given: Vec<u64> = given.collect();
    if given.is_empty() {
        otherwise.to_vec()
    } else {
        given
    }
}

/// A database without people.
pub async fn empty(store: &Store) -> Connection {
    let connection = Connection::create_in(store, BranchName::default(), Seeded::new(1))
        .await
        .unwrap();
    connection
        .transact(&TxData::parse(SCHEMA).unwrap())
        .await
        .unwrap();
    connection
}

/// The people with these ids.
pub fn people(db: &Db, ids: Range<u64>) -> Import {
    let mut random = Random(ids.start);
    let mut import = Import::new(db.schema());
    let [id, name, age, city, score] = ["id", "name", "age", "city", "score"]
        .map(|n| import.attribute(&format!("p/{n}")).unwrap());
    for n in ids {
        import
            .entity([
                (id, Value::Long(n.cast_signed())),
                (
                    name,
                    Value::string(format!("name {}", random.below(100_000))),
                ),
                (age, Value::Long(random.below(100).cast_signed())),
                (city, Value::string(format!("city {}", random.below(500)))),
                (score, Value::Double(random.below(1_000_000) as f64 / 7.0)),
            ])
            .unwrap();
    }
    import
}

/// A database of so many datoms, imported.
pub async fn filled(store: &Store, datoms: u64) -> Connection {
    let connection = empty(store).await;
    let people_total = datoms / FACTS;
    let mut from = 0;
    while from < people_total {
        let to = (from + 400_000).min(people_total);
        connection
            .import(people(&connection.db(), from..to))
            .await
            .unwrap();
        from = to;
    }
    connection
}

/// Ten datoms: two new people.
pub fn appended(n: u64) -> String {
    let person = |n: u64| {
        format!(
            "{{:p/id {n} :p/name \"name {}\" :p/age {} :p/city \"city {}\" :p/score {n}.5}}",
            n % 977,
            n % 100,
            n % 500
        )
    };
    format!(
        "[{} {}]",
        person(10_000_000 + 2 * n),
        person(10_000_001 + 2 * n)
    )
}

/// New scores of so many different people anywhere: two datoms each.
pub fn rescored(random: &mut Random, people: u64, count: u64) -> String {
    let first = random.below(people);
    let stride = 1 + random.below(people / count - 1);
    scored(random, (0..count).map(|n| (first + n * stride) % people))
}

/// A new score for each of these people.
pub fn scored(random: &mut Random, ids: impl Iterator<Item = u64>) -> String {
    let one = |id| format!("{{:p/id {id} :p/score -{}.25}}", random.below(1 << 40));
    format!("[{}]", ids.map(one).collect::<Vec<_>>().join(" "))
}
