//! What plans look like, and that they answer what was asked.

#![allow(clippy::format_collect, reason = "texts of tests are short")]

use super::{context, database, plan_of, register, rows_of, table, transact};
use crate::conn::Connection;
use crate::store::Store;

const SCHEMA: &str = r"[
  {:db/ident :person/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
  {:db/ident :person/email :db/valueType :db.type/string :db/cardinality :db.cardinality/one
   :db/unique :db.unique/identity}
  {:db/ident :person/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
  {:db/ident :person/friend :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}]";

async fn people(number: usize) -> Connection {
    let connection = database(&Store::memory(), 1).await;
    transact(&connection, SCHEMA).await;
    let people: String = (0..number)
        .map(|i| format!("{{:person/name \"n{i}\" :person/email \"{i}@x\" :person/age {i}}}"))
        .collect();
    transact(&connection, &format!("[{people}]")).await;
    connection
}

#[tokio::test]
async fn filters_are_evaluated_by_the_scan_alone() {
    let connection = people(20).await;
    let context = context(8192, 1);
    register(&context, "person", table(&connection.db(), "person"));
    for filter in [
        "age > 5",
        "age + 1 = 6 OR name = 'n3'",
        "name LIKE 'n1%'",
        "email = '7@x'",
        "db_id = 1030",
        "array_length(friend) IS NULL",
    ] {
        let sql = format!("SELECT age FROM person WHERE {filter}");
        let plan = plan_of(&context, &sql).await;
        assert!(!plan.contains("FilterExec"), "{plan}");
        assert!(!rows_of(&context, &sql).await.is_empty(), "{filter}");
    }
}

#[tokio::test]
async fn rows_are_known_to_ascend_by_entity() {
    let connection = people(20).await;
    let context = context(8192, 1);
    register(&context, "person", table(&connection.db(), "person"));
    for sql in [
        "SELECT db_id, name FROM person ORDER BY db_id",
        "SELECT db_id FROM person WHERE age > 3 ORDER BY db_id NULLS FIRST LIMIT 2",
    ] {
        let plan = plan_of(&context, sql).await;
        assert!(!plan.contains("Sort"), "{plan}");
    }
}

#[tokio::test]
async fn a_filter_that_rejects_null_tells_the_rows_by_itself() {
    let connection = people(20).await;
    let context = context(8192, 1);
    register(&context, "person", table(&connection.db(), "person"));
    let plan = plan_of(&context, "SELECT age FROM person WHERE age > 3").await;
    assert!(
        plan.contains("attributes=[:person/age], rows=:person/age"),
        "{plan}"
    );
    // No filter: an attribute that every person has, the one that is read anyway.
    let plan = plan_of(&context, "SELECT age FROM person").await;
    assert!(
        plan.contains("attributes=[:person/age], rows=:person/age"),
        "{plan}"
    );
    // Friends are few: something else must tell who is a person.
    let plan = plan_of(&context, "SELECT friend FROM person").await;
    assert!(
        plan.contains("attributes=[:person/age, :person/friend], rows=:person/age"),
        "{plan}"
    );
}

#[tokio::test]
async fn not_null_is_asked_of_no_column_that_cannot_be_null() {
    let connection = people(20).await;
    transact(
        &connection,
        "[{:person/name \"only a name\"} {:person/age 99}]",
    )
    .await;
    let context = context(8192, 1);
    register(&context, "person", table(&connection.db(), "person"));
    for (filter, asked, rows) in [
        ("age IS NOT NULL", 0, 21),
        ("age > 3 AND age IS NOT NULL", 0, 17),
        ("email = '7@x' AND email IS NOT NULL", 0, 1),
        // One of the two tells the rows, the other is asked for.
        ("age IS NOT NULL AND name IS NOT NULL", 1, 20),
        (
            "age > 3 AND age IS NOT NULL AND name LIKE 'n%' AND name IS NOT NULL",
            0,
            16,
        ),
        ("age IS NOT NULL OR name IS NOT NULL", 2, 22),
    ] {
        let sql = format!("SELECT age FROM person WHERE {filter}");
        let plan = plan_of(&context, &sql).await;
        assert_eq!(plan.matches("IS NOT NULL").count(), asked, "{plan}");
        assert_eq!(rows_of(&context, &sql).await.len(), rows, "{filter}");
    }
}

#[tokio::test]
async fn without_an_attribute_that_all_have_rows_are_those_of_any() {
    let connection = people(20).await;
    transact(
        &connection,
        "[{:person/name \"only a name\"} {:person/age 99}]",
    )
    .await;
    let context = context(8192, 1);
    register(&context, "person", table(&connection.db(), "person"));
    let plan = plan_of(&context, "SELECT age FROM person").await;
    assert!(plan.contains("rows=union"), "{plan}");
    assert_eq!(
        rows_of(
            &context,
            "SELECT count(*) FROM (SELECT age FROM person LIMIT 100)"
        )
        .await,
        ["22"]
    );
}

#[tokio::test]
async fn counting_rows_reads_nothing() {
    let connection = people(20).await;
    let context = context(8192, 1);
    register(&context, "person", table(&connection.db(), "person"));
    let sql = "SELECT count(*) FROM person";
    let plan = plan_of(&context, sql).await;
    assert!(!plan.contains("StarScanExec"), "{plan}");
    assert_eq!(rows_of(&context, sql).await, ["20"]);
    assert_eq!(rows_of(&context, "SELECT 1 FROM person").await.len(), 20);
}

#[tokio::test]
async fn an_index_answers_equality() {
    let connection = people(200).await;
    let context = context(8192, 1);
    register(&context, "person", table(&connection.db(), "person"));
    let sql = "SELECT name FROM person WHERE email = '7@x'";
    let plan = plan_of(&context, sql).await;
    assert!(
        plan.contains("attributes=[:person/name], rows=index of :person/email (1)"),
        "{plan}"
    );
    assert_eq!(rows_of(&context, sql).await, ["n7"]);
}

#[tokio::test]
async fn limits_hold_over_partitions() {
    let connection = people(3000).await;
    connection.checkpoint().await.unwrap();
    let context = context(100, 4);
    register(
        &context,
        "person",
        table(&connection.db(), "person").with_partition_rows(100),
    );
    let plan = plan_of(&context, "SELECT age FROM person").await;
    assert!(plan.contains("partitions="), "{plan}");
    assert_eq!(
        rows_of(&context, "SELECT age FROM person LIMIT 10")
            .await
            .len(),
        10
    );
    assert_eq!(
        rows_of(&context, "SELECT age FROM person WHERE age > 7 LIMIT 10")
            .await
            .len(),
        10
    );
    assert_eq!(
        rows_of(&context, "SELECT age FROM person LIMIT 10 OFFSET 2995")
            .await
            .len(),
        5
    );
    let sorted = rows_of(
        &context,
        "SELECT age FROM person ORDER BY db_id LIMIT 3 OFFSET 1000",
    )
    .await;
    assert_eq!(sorted, ["1000", "1001", "1002"]);
}

#[tokio::test]
async fn a_number_without_a_place_names_its_entity() {
    let connection = database(&Store::memory(), 1).await;
    transact(
        &connection,
        "[{:db/ident :x/n :db/valueType :db.type/bigint :db/cardinality :db.cardinality/one}]",
    )
    .await;
    let digits = "9".repeat(39);
    transact(&connection, &format!("[{{:x/n {digits}N}} {{:x/n 5N}}]")).await;
    let context = context(8192, 1);
    register(&context, "x", table(&connection.db(), "x"));
    let error = context
        .sql("SELECT n FROM x")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains(":x/n of entity") && message.contains(&digits),
        "{message}"
    );
    assert_eq!(
        rows_of(&context, "SELECT count(*) FROM x WHERE db_id > 0").await,
        ["2"]
    );
}

#[tokio::test]
async fn uuids_and_bytes_print_and_compare_as_sql_writes_them() {
    let connection = database(&Store::memory(), 1).await;
    transact(
        &connection,
        r"[{:db/ident :x/u :db/valueType :db.type/uuid :db/cardinality :db.cardinality/one}
           {:db/ident :x/us :db/valueType :db.type/uuid :db/cardinality :db.cardinality/many}
           {:db/ident :x/b :db/valueType :db.type/bytes :db/cardinality :db.cardinality/one}]",
    )
    .await;
    let uuid = "6f1ed002-ab5d-4f8c-9d3f-27a3f9c54d4a";
    let facts =
        format!("[{{:x/u #uuid \"{uuid}\" :x/us [#uuid \"{uuid}\"] :x/b #bytes \"00ff\"}}]");
    transact(&connection, &facts).await;
    let context = context(8192, 1);
    register(&context, "x", table(&connection.db(), "x"));
    let sql = format!("SELECT * FROM x WHERE u = '{uuid}' AND b = X'00FF'");
    let printed = context.sql(&sql).await.unwrap().to_string().await.unwrap();
    assert!(
        printed.contains(uuid) && printed.contains("00ff"),
        "{printed}"
    );
}
