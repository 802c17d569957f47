//! Each optimization can be switched off, which changes what is done and not what is answered.

use datafusion::arrow::util::pretty::pretty_format_batches;
use datomfusion::{Connection, Federation, Inputs, Optimizations, Store, TxData};

/// Thirty people, each the child of the one before, each in a town of their own.
async fn people() -> Connection {
    let conn = Connection::create(&Store::memory()).await.unwrap();
    let schema = r"[
        {:db/ident :p/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
        {:db/ident :p/town :db/valueType :db.type/long :db/cardinality :db.cardinality/one :db/index true}
        {:db/ident :p/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
        {:db/ident :p/parent :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}]";
    conn.transact(&TxData::parse(schema).unwrap())
        .await
        .unwrap();
    let people = (0..30).map(|n| {
        let parent = match n {
            0 => String::new(),
            _ => format!(":p/parent \"{}\"", n - 1),
        };
        format!("{{:db/id \"{n}\" :p/name \"n{n}\" :p/town {n} :p/age {n} {parent}}}")
    });
    let text = format!("[{}]", people.collect::<Vec<_>>().join(" "));
    conn.transact(&TxData::parse(&text).unwrap()).await.unwrap();
    conn
}

const RULES: &str = "[[(above ?x ?y) [?x :p/parent ?y]]
                      [(above ?x ?y) [?x :p/parent ?z] (above ?z ?y)]]";

/// The name of an optimization, a query that it serves, and what is to be seen of it in the plan that was run: with it,
/// and only without it.
const CASES: [(&str, &str, &str, &str); 5] = [
    (
        "join_order",
        "[:find ?n ?m :where [?x :p/name ?n] [?y :p/name ?m] [?z :p/name \"n3\"] [?z :p/parent ?y] [?x :p/parent ?z]]",
        "",
        "CrossJoinExec",
    ),
    (
        "index_access",
        "[:find ?n :where [?x :p/town 7] [?x :p/name ?n]]",
        "rows=index of :p/town",
        "a0@0 = 7",
    ),
    (
        "walks",
        "[:find ?x ?y :in $ % :where (above ?x ?y)]",
        "rounds=1,",
        "rounds=29",
    ),
    (
        "look_ups",
        "[:find ?y :in $ % :where [?x :p/name \"n3\"] (above ?x ?y)]",
        "look_ups=4",
        "look_ups=0",
    ),
    (
        "factoring",
        "[:find ?y :in $ % :where [?x :p/name \"n3\"] (above ?x ?y)]",
        "rows_derived=7]",
        "rows_derived=10]",
    ),
];

fn without(name: &str) -> Federation {
    let mut some = Optimizations::default();
    for (known, on) in some.switches() {
        *on = known != name;
    }
    Federation::new().with_optimizations(some)
}

#[tokio::test]
async fn what_is_switched_off_is_not_done_and_the_answer_stays() {
    let conn = people().await;
    let inputs = Inputs::new().source("$", &conn.db()).rules(RULES);
    for (name, query, with, instead) in CASES {
        let all = Federation::new();
        let some = without(name);
        let mut answers = Vec::new();
        for federation in [&all, &some] {
            let mut rows = federation.q(query, &inputs).await.unwrap().into_rows();
            rows.sort();
            assert!(!rows.is_empty(), "{name}");
            answers.push(rows);
        }
        assert_eq!(answers[0], answers[1], "{name}");
        let on = all.analyze_q(query, &inputs).await.unwrap();
        let off = some.analyze_q(query, &inputs).await.unwrap();
        assert!(on.contains(with), "{name}\n{on}");
        assert!(!on.contains(instead), "{name}\n{on}");
        assert!(off.contains(instead), "{name}\n{off}");
    }
}

#[tokio::test]
async fn settings_of_a_session_switch_them() {
    let conn = people().await;
    let mut federation = Federation::new();
    federation.attach("d", conn.db()).unwrap();
    let session = federation.session_context();
    let sql = "EXPLAIN SELECT name FROM d.p WHERE town = 7";
    let mut plans = Vec::new();
    for setting in ["true", "false"] {
        let set = format!("SET datomfusion.index_access = {setting}");
        session.sql(&set).await.unwrap().collect().await.unwrap();
        let plan = session.sql(sql).await.unwrap().collect().await.unwrap();
        plans.push(pretty_format_batches(&plan).unwrap().to_string());
    }
    assert!(plans[0].contains("rows=index of :p/town"), "{}", plans[0]);
    assert!(!plans[1].contains("rows=index"), "{}", plans[1]);
}
