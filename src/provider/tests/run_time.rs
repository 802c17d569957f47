//! Filters that joins and sorts make while a plan runs: what they spare, counted in nodes.

#![allow(clippy::format_collect, reason = "texts of tests are short")]

use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch};
use datafusion::datasource::MemTable;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};
use tokio::sync::OnceCell;

use super::{database, register, rows_of, shown, table, transact};
use crate::db::Db;
use crate::id::BranchName;
use crate::index::TreeName;
use crate::store::Store;

const PEOPLE: i64 = 60_000;

/// People, each with a number, a code, a boss and two tags; codes and tags are scattered.
async fn people() -> Store {
    static PEOPLE_STORED: OnceCell<Store> = OnceCell::const_new();
    PEOPLE_STORED.get_or_init(store_people).await.clone()
}

async fn store_people() -> Store {
    let store = Store::memory();
    let connection = database(&store, 1).await;
    transact(
        &connection,
        r"[{:db/ident :person/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
           {:db/ident :person/n :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
           {:db/ident :person/code :db/valueType :db.type/long :db/cardinality :db.cardinality/one
            :db/index true}
           {:db/ident :person/boss :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}
           {:db/ident :person/tag :db/valueType :db.type/long :db/cardinality :db.cardinality/many
            :db/index true}]",
    )
    .await;
    let people: String = (0..PEOPLE)
        .map(|i| {
            let code = i * 7919 % PEOPLE;
            // Everybody's boss is the one with half the number, so that a walk upwards is short.
            format!(
                "{{:db/id \"{i}\" :person/name \"n{i}\" :person/n {i} :person/code {code} \
                 :person/boss \"{}\" :person/tag [{code} {}]}}\n",
                i / 2,
                code + PEOPLE
            )
        })
        .collect();
    transact(&connection, &format!("[{people}]")).await;
    connection.checkpoint().await.unwrap();
    store
}

/// A session with or without filters at run time, and tables that have read nothing.
async fn session(store: &Store, on: bool, keys: &[Option<i64>]) -> (SessionContext, Db) {
    let mut config = SessionConfig::new()
        .with_batch_size(512)
        .with_target_partitions(1);
    let optimizer = &mut config.options_mut().optimizer;
    optimizer.enable_join_dynamic_filter_pushdown = on;
    optimizer.enable_topk_dynamic_filter_pushdown = on;
    optimizer.enable_aggregate_dynamic_filter_pushdown = on;
    let context = SessionContext::new_with_config(config);
    let db = Db::open(store, &BranchName::default()).await.unwrap();
    for name in ["person", "person_x_tag"] {
        register(&context, name, table(&db, name));
    }
    let column = Arc::new(Int64Array::from(keys.to_vec())) as _;
    let batch = RecordBatch::try_from_iter_with_nullable([("k", column, true)]).unwrap();
    let memory = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
    context.register_table("keys", Arc::new(memory)).unwrap();
    (context, db)
}

/// What a statement answers, the nodes it reads, and the sum of a metric of its scans.
struct Run {
    rows: Vec<String>,
    nodes: u64,
    looked_up: usize,
    rejected: usize,
    plan: String,
}

fn sum(plan: &Arc<dyn ExecutionPlan>, metric: &str) -> usize {
    let own = plan
        .metrics()
        .and_then(|metrics| metrics.sum_by_name(metric));
    let below = plan.children().into_iter().map(|child| sum(child, metric));
    own.map_or(0, |value| value.as_usize()) + below.sum::<usize>()
}

async fn run(store: &Store, on: bool, keys: &[Option<i64>], sql: &str) -> Run {
    let (context, db) = session(store, on, keys).await;
    let plan = context.sql(sql).await.unwrap();
    let plan = plan.create_physical_plan().await.unwrap();
    let text = displayable(plan.as_ref()).indent(false).to_string();
    let batches = collect(Arc::clone(&plan), context.task_ctx())
        .await
        .unwrap();
    let mut rows = shown(&batches);
    if !sql.contains("ORDER BY") {
        rows.sort();
    }
    Run {
        rows,
        nodes: db.loader().loads().nodes,
        looked_up: sum(&plan, "run_time_lookups"),
        rejected: sum(&plan, "run_time_rejected"),
        plan: text,
    }
}

/// With and without filters at run time: the same rows.
async fn compared(store: &Store, keys: &[Option<i64>], sql: &str) -> (Run, Run) {
    let (with, without) = (
        run(store, true, keys, sql).await,
        run(store, false, keys, sql).await,
    );
    assert!(with.plan.contains("run_time=["), "{}", with.plan);
    assert!(!without.plan.contains("run_time=["), "{}", without.plan);
    assert_eq!(with.rows, without.rows, "{sql}\n{}", with.plan);
    assert_eq!((without.looked_up, without.rejected), (0, 0));
    (with, without)
}

/// Nodes of a path from the root of a tree to a leaf.
async fn height(store: &Store, name: TreeName) -> u64 {
    let db = Db::open(store, &BranchName::default()).await.unwrap();
    let root = db.0.checkpoint.tree(name).root;
    1 + u64::from(root.expect("the tree holds datoms").level)
}

async fn ids(store: &Store) -> Vec<Option<i64>> {
    let (context, _) = session(store, false, &[]).await;
    let ids = rows_of(&context, "SELECT db_id FROM person ORDER BY n").await;
    ids.iter().map(|id| id.parse().ok()).collect()
}

/// Ten numbers far from each other.
fn ten() -> impl Iterator<Item = usize> {
    (0..10).map(|i| i * 5500 + 77)
}

#[tokio::test]
async fn few_keys_of_entities_are_looked_up() {
    let store = people().await;
    let ids = ids(&store).await;
    let keys: Vec<_> = ten().map(|i| ids[i]).chain([None, ids[77]]).collect();
    let sql = "SELECT k, name, n, code FROM keys JOIN person ON db_id = k";
    let (with, without) = compared(&store, &keys, sql).await;
    assert_eq!((with.rows.len(), with.looked_up), (11, 10));
    let paths = 10 * height(&store, TreeName::Eavt).await;
    // Planning counts the attributes, along a path each.
    let counts = height(&store, TreeName::Aevt).await * 5;
    assert!(with.nodes <= paths + counts, "{} nodes", with.nodes);
    assert!(
        with.nodes < without.nodes,
        "{} {}",
        with.nodes,
        without.nodes
    );
}

#[tokio::test]
async fn few_keys_of_an_index_are_looked_up() {
    let store = people().await;
    let ids = ids(&store).await;
    let keys: Vec<_> = ten().map(|i| i64::try_from(i).ok()).collect();
    let sql = "SELECT k, db_id, name, n FROM keys JOIN person ON code = k";
    let (with, without) = compared(&store, &keys, sql).await;
    assert_eq!((with.rows.len(), with.looked_up), (10, 10));
    let paths = 10 * (height(&store, TreeName::Eavt).await + height(&store, TreeName::Avet).await);
    let counts = height(&store, TreeName::Aevt).await * 5;
    assert!(with.nodes <= paths + counts, "{} nodes", with.nodes);
    assert!(
        with.nodes < without.nodes,
        "{} {}",
        with.nodes,
        without.nodes
    );
    // Nobody is the boss of more than two, but for the first.
    let keys: Vec<_> = ten().map(|i| ids[i / 2]).collect();
    let sql = "SELECT k, name FROM keys JOIN person ON boss = k";
    let (with, _) = compared(&store, &keys, sql).await;
    assert_eq!((with.rows.len(), with.looked_up), (20, 20));
}

#[tokio::test]
async fn few_members_are_looked_up_by_entity_and_by_value() {
    let store = people().await;
    let ids = ids(&store).await;
    let keys: Vec<_> = ten().map(|i| ids[i]).collect();
    let by_entity = "SELECT k, tag FROM keys JOIN person_x_tag ON db_id = k";
    let (with, without) = compared(&store, &keys, by_entity).await;
    assert_eq!((with.rows.len(), with.looked_up), (20, 10));
    // Planning counts the members.
    assert!(
        with.nodes <= 12 * height(&store, TreeName::Aevt).await,
        "{} nodes",
        with.nodes
    );
    assert!(
        with.nodes < without.nodes,
        "{} {}",
        with.nodes,
        without.nodes
    );
    let keys: Vec<_> = ten().map(|i| i64::try_from(i).ok()).collect();
    let by_value = "SELECT k, db_id FROM keys JOIN person_x_tag ON tag = k";
    let (with, _) = compared(&store, &keys, by_value).await;
    assert_eq!((with.rows.len(), with.looked_up), (10, 10));
}

#[tokio::test]
async fn leaves_outside_of_the_keys_are_not_read() {
    let store = people().await;
    let ids = ids(&store).await;
    // Too many to be looked up, and neighbours.
    let keys = &ids[5000..5800];
    let sql = "SELECT k, name, n, code FROM keys JOIN person ON db_id = k";
    let (with, without) = compared(&store, keys, sql).await;
    assert_eq!((with.rows.len(), with.looked_up), (800, 0));
    assert!(
        with.nodes * 2 < without.nodes,
        "{} {}",
        with.nodes,
        without.nodes
    );
}

#[tokio::test]
async fn rows_that_no_key_has_are_rejected_before_other_columns_are_read() {
    let store = people().await;
    let keys: Vec<_> = (0..300).map(Some).collect();
    // No index, no order: what is left is to evaluate the filter, and to skip the names behind.
    let sql = "SELECT k, name FROM keys JOIN person ON n = k";
    let (with, without) = compared(&store, &keys, sql).await;
    assert_eq!((with.rows.len(), with.looked_up), (300, 0));
    assert_eq!(with.rejected, usize::try_from(PEOPLE).unwrap() - 300);
    assert!(
        with.nodes < without.nodes,
        "{} {}",
        with.nodes,
        without.nodes
    );
}

#[tokio::test]
async fn a_filter_that_keeps_nearly_all_is_given_up() {
    let store = people().await;
    let keys: Vec<_> = (0..PEOPLE).filter(|n| n % 20 > 0).map(Some).collect();
    let sql = "SELECT k, name FROM keys JOIN person ON n = k";
    let (with, _) = compared(&store, &keys, sql).await;
    assert!(
        with.rejected > 0 && with.rejected < 8192 / 16,
        "{}",
        with.rejected
    );
}

#[tokio::test]
async fn a_sort_asks_the_index_for_what_it_still_wants() {
    let store = people().await;
    let sql = "SELECT code, name FROM person ORDER BY code DESC NULLS LAST LIMIT 3";
    let (with, _) = compared(&store, &[], sql).await;
    let top = PEOPLE - 1;
    assert!(
        with.rows[0].starts_with(&top.to_string()),
        "{:?}",
        with.rows
    );
    assert!(with.looked_up > 0, "{}", with.plan);
}

#[tokio::test]
async fn rows_are_limited_before_a_join_sees_them() {
    let store = people().await;
    let ids = ids(&store).await;
    let keys: Vec<_> = [10, 11, 2000].map(|i| ids[i]).to_vec();
    let sql = "SELECT k, n FROM keys JOIN (SELECT * FROM person LIMIT 100) ON db_id = k";
    let (context, _) = session(&store, true, &keys).await;
    let plan = super::plan_of(&context, sql).await;
    assert!(
        plan.contains("fetch=100") && !plan.contains("run_time="),
        "{plan}"
    );
    assert_eq!(rows_of(&context, sql).await.len(), 2);
}

#[tokio::test]
async fn small_tables_have_no_filters_at_run_time() {
    let store = people().await;
    let (context, db) = session(&store, true, &[Some(1)]).await;
    context.deregister_table("person").unwrap();
    let many = u64::try_from(PEOPLE).unwrap();
    register(
        &context,
        "person",
        table(&db, "person").with_lookup_rows(many),
    );
    let sql = "SELECT k, name FROM keys JOIN person ON db_id = k";
    let plan = super::plan_of(&context, sql).await;
    assert!(!plan.contains("run_time="), "{plan}");
}

#[tokio::test]
async fn each_round_of_a_recursion_has_its_own_keys() {
    let store = people().await;
    let ids = ids(&store).await;
    let sql = "WITH RECURSIVE up(id, depth) AS (SELECT k, 0 FROM keys UNION ALL \
               SELECT boss + 0, depth + 1 FROM up JOIN person ON db_id = id WHERE depth < 12) \
               SELECT depth, n FROM up JOIN person ON db_id = id ORDER BY depth, n";
    let keys = [ids[9999], ids[6000]];
    let (with, _) = compared(&store, &keys, sql).await;
    let expected: Vec<String> = (0..=12)
        .flat_map(|depth| [6000 >> depth, 9999 >> depth].map(|n| format!("{depth} | {n}")))
        .collect();
    assert_eq!(with.rows, expected);
    assert!(with.plan.contains("RecursiveQueryExec"), "{}", with.plan);
}

#[tokio::test]
async fn a_plan_can_be_run_again_and_made_anew() {
    let store = people().await;
    let ids = ids(&store).await;
    let keys: Vec<_> = ten().map(|i| ids[i]).collect();
    let (context, _) = session(&store, true, &keys).await;
    let sql = "SELECT k, name FROM keys JOIN person ON db_id = k ORDER BY k";
    let plan = context.sql(sql).await.unwrap();
    let plan = plan.create_physical_plan().await.unwrap();
    let first = collect(Arc::clone(&plan), context.task_ctx())
        .await
        .unwrap();
    let again = collect(Arc::clone(&plan), context.task_ctx())
        .await
        .unwrap();
    assert_eq!(shown(&first), shown(&again));
    let reset = datafusion::physical_plan::execution_plan::reset_plan_states(plan).unwrap();
    let text = displayable(reset.as_ref()).indent(false).to_string();
    assert!(
        !text.contains("run_time="),
        "what was pushed down is forgotten: {text}"
    );
    let reset = collect(reset, context.task_ctx()).await.unwrap();
    assert_eq!(shown(&first), shown(&reset));
}
