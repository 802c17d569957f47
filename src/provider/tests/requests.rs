//! How often storage is asked.

#![allow(clippy::format_collect, reason = "texts of tests are short")]

use super::{context, database, register, rows_of, table, transact};
use crate::db::Db;
use crate::id::BranchName;
use crate::store::Store;

/// People in trees of two levels, and one of them.
async fn stored(number: usize) -> (Store, i64) {
    let store = Store::memory();
    let connection = database(&store, 1).await;
    transact(
        &connection,
        r"[{:db/ident :person/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
           {:db/ident :person/email :db/valueType :db.type/string :db/cardinality :db.cardinality/one
            :db/unique :db.unique/identity}
           {:db/ident :person/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]",
    )
    .await;
    let people: String = (0..number)
        .map(|i| format!("{{:person/name \"n{i}\" :person/email \"{i}@x\" :person/age {i}}}"))
        .collect();
    transact(&connection, &format!("[{people}]")).await;
    connection.checkpoint().await.unwrap();
    let context = context(8192, 1);
    register(&context, "person", table(&connection.db(), "person"));
    let id = rows_of(&context, "SELECT db_id FROM person WHERE name = 'n77'").await;
    (store, id[0].parse().unwrap())
}

/// Requests that a statement makes after the head has been read.
async fn requests(store: &Store, sql: &str, rows: usize) -> u64 {
    let db = Db::open(store, &BranchName::default()).await.unwrap();
    let context = context(8192, 1);
    let before = store.requests();
    register(&context, "person", table(&db, "person"));
    assert_eq!(rows_of(&context, sql).await.len(), rows, "{sql}");
    store.requests().gets - before.gets
}

#[tokio::test]
async fn an_entity_is_found_by_one_path() {
    let (store, id) = stored(4000).await;
    let sql = format!("SELECT name, email, age FROM person WHERE db_id = {id}");
    assert!(
        requests(&store, &sql, 1).await <= 2,
        "a root and a leaf of eavt"
    );
    let sql = format!("SELECT name FROM person WHERE db_id IN ({id}, 1)");
    assert!(requests(&store, &sql, 1).await <= 4, "two paths");
}

#[tokio::test]
async fn a_unique_value_is_found_by_two_paths() {
    let (store, _) = stored(4000).await;
    let sql = "SELECT name, age FROM person WHERE email = '77@x'";
    // The count reads the path in avet, the scan reads it again from the cache; then a path in eavt.
    assert!(requests(&store, sql, 1).await <= 4);
}

#[tokio::test]
async fn counting_all_rows_asks_for_nothing() {
    let (store, _) = stored(4000).await;
    assert_eq!(requests(&store, "SELECT count(*) FROM person", 1).await, 0);
}

#[tokio::test]
async fn unread_attributes_cost_nothing() {
    let (store, _) = stored(4000).await;
    let one = requests(&store, "SELECT age FROM person WHERE age >= 0", 4000).await;
    let all = requests(
        &store,
        "SELECT age, name, email FROM person WHERE age >= 0",
        4000,
    )
    .await;
    assert!(one < all, "{one} and {all} requests");
}
