//! Scans of an entity table against DataFusion over the same rows in memory:
//! `cargo bench --bench sql [-- ROWS [1]]`; with a 1, each statement is explained and analysed first.
//!
//! Everything is warm: nodes lie decoded in the cache, as the rows of the other table lie in batches. Times
//! are the least of several runs of one partition, without planning. `past` is the same table as of an earlier
//! basis, which has a tail to be merged.

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(clippy::format_push_string, reason = "the texts are built once")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::compute::concat_batches;
use datafusion::datasource::MemTable;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::{SessionConfig, SessionContext};
use datomfusion::{Connection, Db, Store, TimePoint, TxData};
use futures::TryStreamExt;

const SCHEMA: &str = "[
    {:db/ident :m/id :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
    {:db/ident :m/amount :db/valueType :db.type/double :db/cardinality :db.cardinality/one}
    {:db/ident :m/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
    {:db/ident :m/at :db/valueType :db.type/instant :db/cardinality :db.cardinality/one}
    {:db/ident :m/kind :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
    {:db/ident :m/rare :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]";

/// What is asked of `T`.
const STATEMENTS: [&str; 12] = [
    "select sum(amount) from T where amount > 5000",
    "select sum(id) from T where id % 3 = 0",
    "select count(id), sum(amount), max(name), max(at), sum(kind) from T",
    "select id, amount, name, at, kind from T",
    "select db_id, id, amount, name, at, kind, rare from T",
    "select kind, sum(amount), count(*), max(at) from T group by kind",
    "select sum(amount), count(*) from T where kind = 7",
    "select id, amount, name, at, kind from T where kind < 50",
    "select sum(rare), count(*) from T",
    "select sum(rare) from T where rare > 5",
    "select count(*) from T where name like '%00'",
    "select id, name from T where db_id = 500000",
];

/// Entities of one transaction.
const STEP: usize = 50_000;

async fn load(rows: usize) -> (Db, Db) {
    let connection = Connection::create(&Store::memory()).await.unwrap();
    connection
        .transact(&TxData::parse(SCHEMA).unwrap())
        .await
        .unwrap();
    for from in (0..rows).step_by(STEP) {
        let mut data = String::from("[");
        for i in from..(from + STEP).min(rows) {
            let (day, hour, minute) = (1 + i / 86_400 % 28, i / 3600 % 24, i / 60 % 60);
            data += &format!(
                "{{:m/id {i} :m/amount {}.25 :m/name \"customer-name-{:06}\" :m/kind {}
                  :m/at #inst \"2020-01-{day:02}T{hour:02}:{minute:02}:{:02}Z\"",
                i * 7919 % 10_000,
                i * 31 % 50_000,
                i % 100,
                i % 60
            );
            if i.is_multiple_of(10) {
                data += &format!(" :m/rare {i}");
            }
            data += "}\n";
        }
        data += "]";
        connection
            .transact(&TxData::parse(&data).unwrap())
            .await
            .unwrap();
    }
    let more = ["[{:m/id -1 :m/amount 1.0}]", "[{:m/id -2 :m/amount 2.0}]"];
    let mut bases = Vec::new();
    for text in more {
        let data = TxData::parse(text).unwrap();
        bases.push(connection.transact(&data).await.unwrap().t);
    }
    connection.checkpoint().await.unwrap();
    let now = connection.db();
    let past = now.as_of(TimePoint::T(bases[0])).await.unwrap();
    (now, past)
}

async fn register(context: &SessionContext, name: &str, db: &Db) {
    let table = db.schema_provider().table("m").await.unwrap().unwrap();
    context.register_table(name, table).unwrap();
}

async fn least(context: &SessionContext, sql: &str, runs: usize) -> (Duration, usize) {
    let mut least = Duration::MAX;
    let mut rows = 0;
    for _ in 0..runs {
        let plan = context
            .sql(sql)
            .await
            .unwrap()
            .create_physical_plan()
            .await
            .unwrap();
        let begin = Instant::now();
        let batches = execute_stream(plan, context.task_ctx()).unwrap();
        rows = batches
            .try_fold(0, async |rows, batch| Ok(rows + batch.num_rows()))
            .await
            .unwrap();
        least = least.min(begin.elapsed());
    }
    (least, rows)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<usize> = std::env::args()
        .filter_map(|text| text.parse().ok())
        .collect();
    let rows = arguments.first().copied().unwrap_or(1_000_000);
    let begin = Instant::now();
    let (now, past) = load(rows).await;
    println!("{rows} entities loaded in {:.1?}", begin.elapsed());
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    register(&context, "now", &now).await;
    register(&context, "past", &past).await;

    let frame = context.table("now").await.unwrap();
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let all = concat_batches(&schema, &frame.collect().await.unwrap()).unwrap();
    let batches = (0..all.num_rows()).step_by(8192);
    let batches = batches
        .map(|at| all.slice(at, 8192.min(all.num_rows() - at)))
        .collect();
    let memory = MemTable::try_new(schema, vec![batches]).unwrap();
    context.register_table("memory", Arc::new(memory)).unwrap();

    println!("{:<72} {:>10} {:>17} {:>17}", "", "memory", "now", "past");
    for statement in STATEMENTS {
        let of = |name: &str| statement.replace(" T", &format!(" {name}"));
        let (memory, _) = least(&context, &of("memory"), 15).await;
        print!("{statement:<72} {:>8.2}ms", memory.as_secs_f64() * 1e3);
        for name in ["now", "past"] {
            if arguments.len() > 1 {
                let analyzed = format!("explain analyze {}", of(name));
                context.sql(&analyzed).await.unwrap().show().await.unwrap();
            }
            let (time, _) = least(&context, &of(name), 15).await;
            let ratio = time.as_secs_f64() / memory.as_secs_f64();
            print!(" {:>8.2}ms {ratio:>5.2}×", time.as_secs_f64() * 1e3);
        }
        println!();
    }
}
