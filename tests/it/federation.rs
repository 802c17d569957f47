//! Many databases, many moments and foreign files in one statement, through the library.

use datafusion::arrow::array::{Array, Int64Array, RecordBatch, StringViewArray};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::prelude::SessionContext;
use datomfusion::{Connection, Db, Federation, Store};

use crate::support::{create, database, transact};

const SCHEMA: &str = "[
 {:db/ident :item/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one
  :db/unique :db.unique/identity}
 {:db/ident :item/price :db/valueType :db.type/long :db/cardinality :db.cardinality/one
  :db/index true}]";

/// A database with pens at 1, then 2, then 3.
async fn pens(conn: &Connection) -> Db {
    transact(conn, SCHEMA).await;
    for price in 1..=3 {
        transact(
            conn,
            &format!("[{{:item/name \"pen\" :item/price {price}}}]"),
        )
        .await;
    }
    conn.db()
}

/// The rows of a statement as text, values separated by blanks.
async fn rows(federation: &Federation, sql: &str) -> Vec<String> {
    let batches = federation
        .query(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    let mut rows = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let values = batch
                .columns()
                .iter()
                .map(|column| array_value_to_string(column, row).unwrap());
            rows.push(values.collect::<Vec<_>>().join(" "));
        }
    }
    rows
}

async fn error(federation: &Federation, sql: &str) -> String {
    match federation.query(sql).await {
        Ok(batches) => panic!("{sql} answered {batches:?}"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn memory_disk_and_a_file_join() {
    let dir = tempfile::tempdir().unwrap();
    let memory = database(1).await;
    let disk = create(&Store::file(&dir.path().join("stock")).unwrap(), 2).await;
    transact(
        &disk,
        "[{:db/ident :shelf/item :db/valueType :db.type/string
        :db/cardinality :db.cardinality/one}
        {:db/ident :shelf/count :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]",
    )
    .await;
    transact(&disk, "[{:shelf/item \"pen\" :shelf/count 40}]").await;
    let file = dir.path().join("taxes [2030].json");
    std::fs::write(
        &file,
        "[{\"item\": \"pen\", \"percent\": 10}, {\"item\": \"ink\", \"percent\": 5}]",
    )
    .unwrap();

    let mut federation = Federation::new();
    federation.attach("sales", pens(&memory).await).unwrap();
    let url = dir.path().join("stock").to_str().unwrap().to_owned();
    federation.attach_url("stock", &url).await.unwrap();
    federation.attach_file("tax", &file).await.unwrap();
    let sql = "SELECT i.name, i.price * s.count, t.percent FROM sales.item i \
               JOIN stock.shelf s ON s.item = i.name JOIN tax t ON t.item = i.name";
    assert_eq!(rows(&federation, sql).await, ["pen 120 10"]);
}

#[tokio::test]
async fn one_statement_sees_many_moments() {
    let conn = database(1).await;
    let mut federation = Federation::new();
    federation.attach("sales", pens(&conn).await).unwrap();
    let sql = "SELECT a.price, b.price, c.price FROM sales.item a, sales.item VERSION AS OF 2 AS b, \
               \"sales@t=3\".item c";
    assert_eq!(rows(&federation, sql).await, ["3 1 2"]);
    let prices = "SELECT v_long, added FROM sales.datoms_history WHERE a = ':item/price' \
                  ORDER BY tx, added";
    let expected = ["1 true", "1 false", "2 true", "2 false", "3 true"];
    assert_eq!(rows(&federation, prices).await, expected);
    let through_the_basis = prices.replace("sales.datoms_history", "\"sales@history\".datoms");
    assert_eq!(rows(&federation, &through_the_basis).await, expected);
    let said = "SELECT count(*) FROM sales.datoms_history WHERE tx = (SELECT max(tx) FROM sales.transactions)";
    assert_eq!(rows(&federation, said).await, ["3"]);
}

#[tokio::test]
async fn an_attached_value_does_not_move() {
    let conn = database(1).await;
    let mut federation = Federation::new();
    federation.attach("sales", pens(&conn).await).unwrap();
    let session = federation.session_context();
    let price = "SELECT price FROM sales.item";
    let before = federation
        .sql_in(&session, price)
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    transact(&conn, "[{:item/name \"pen\" :item/price 9}]").await;
    let after = federation
        .sql_in(&session, price)
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    assert_eq!(before, after);
    assert_eq!(rows(&federation, price).await, ["3"]);
}

#[tokio::test]
async fn filters_on_datoms_choose_an_index() {
    let conn = database(1).await;
    let mut federation = Federation::new();
    federation.attach("d", pens(&conn).await).unwrap();
    for (filter, index, count) in [
        ("a = ':item/price'", "index=Aevt", 1),
        ("a = ':item/price' AND v_long = 3", "index=Avet", 1),
        ("a = ':item/price' AND v_long > 3", "index=Avet", 0),
        (
            "a = ':item/price' AND v_long BETWEEN 1 AND 3",
            "index=Avet",
            1,
        ),
        ("a = ':item/price' AND v = '3'", "index=Avet", 1),
        ("a = ':item/name' AND v = 'pen'", "index=Avet", 1),
        ("a IN (':item/price', ':item/name')", "ranges=2", 2),
        ("a = ':item/nothing'", "ranges=0", 0),
        ("a = ':item/price' AND a = ':item/name'", "", 0),
        ("v_string = 'pen'", "index=Aevt", 1),
        ("e = 1 AND a = ':db/ident'", "index=Eavt", 1),
        ("e IN (1, 2) AND a = ':db/ident'", "ranges=2", 2),
        ("e = NULL", "", 0),
    ] {
        let sql = format!("SELECT count(*) FROM (SELECT * FROM d.datoms WHERE {filter}) x");
        assert_eq!(
            rows(&federation, &sql).await,
            [count.to_string()],
            "{filter}"
        );
        let plan = federation
            .explain(&format!("SELECT * FROM d.datoms WHERE {filter}"), false)
            .await;
        let plan = plan.unwrap();
        assert!(plan.contains(index), "{filter}: {index} in\n{plan}");
    }
    let log = "SELECT * FROM d.datoms_history WHERE tx = 4398046511106";
    assert!(
        federation
            .explain(log, false)
            .await
            .unwrap()
            .contains("index=Log")
    );
    for table in ["d.datoms", "d.item"] {
        let sql = format!("SELECT * FROM {table}");
        let shown = federation.explain(&sql, true).await.unwrap();
        for part in [
            "output_rows=",
            "rows_expected=",
            "nodes_read=",
            "bytes_fetched=",
            "cache_hits=",
            "disk_hits=",
        ] {
            assert!(shown.contains(part), "{part} of {table} in\n{shown}");
        }
    }
}

#[tokio::test]
async fn the_text_of_a_value_matches_its_typed_column() {
    let conn = database(1).await;
    let types = [
        ("boolean", "true", "v_boolean", "true"),
        ("long", "-7", "v_long", "-7"),
        ("double", "1.5", "v_double", "1.5"),
        ("float", "0.1", "v_float", "0.1"),
        (
            "bigint",
            "123456789012345678901234N",
            "v_bigint",
            "123456789012345678901234",
        ),
        ("bigdec", "10.50M", "v_bigdec", "10.5"),
        ("string", "\"a\"", "v_string", "a"),
        ("keyword", ":a/b", "v_keyword", ":a/b"),
        ("symbol", "a/b", "v_symbol", "a/b"),
        (
            "uuid",
            "#uuid \"00000000-0000-0000-0000-000000000001\"",
            "v_uuid",
            "00000000-0000-0000-0000-000000000001",
        ),
        (
            "instant",
            "#inst \"2030-01-02\"",
            "v_instant",
            "2030-01-02T00:00:00Z",
        ),
        ("ref", "1", "v_ref", "1"),
        ("bytes", "#bytes \"00ff\"", "v_bytes", "00ff"),
        ("uri", "#uri \"x:y\"", "v_uri", "x:y"),
    ];
    let attribute = |name: &str| {
        format!(
            "{{:db/ident :v/{name} :db/valueType :db.type/{name} \
              :db/cardinality :db.cardinality/one}}"
        )
    };
    let schema: Vec<String> = types.iter().map(|(name, ..)| attribute(name)).collect();
    let schema = schema.join(" ");
    transact(&conn, &format!("[{schema}]")).await;
    let facts = types
        .map(|(name, edn, ..)| format!(":v/{name} {edn} "))
        .concat();
    let long = "x".repeat(3000);
    transact(
        &conn,
        &format!("[{{:db/id \"e\" {facts}}} {{:v/string \"{long}\"}}]"),
    )
    .await;
    let mut federation = Federation::new();
    federation.attach("d", conn.db()).unwrap();
    for (name, _, column, expected) in types {
        let sql =
            format!("SELECT v, {column} FROM d.datoms WHERE a = ':v/{name}' AND length(v) < 100");
        assert_eq!(
            rows(&federation, &sql).await,
            [format!("{expected} {expected}")],
            "{name}"
        );
        // Mixed with all the others, the values stay in their columns.
        let sql = format!("SELECT count({column}) > 0 FROM d.datoms WHERE e > 1000");
        assert_eq!(rows(&federation, &sql).await, ["true"], "{name}");
    }
    let sql = format!(
        "SELECT length(v_string) FROM d.datoms WHERE a = ':v/string' AND v_string = '{long}'"
    );
    assert_eq!(rows(&federation, &sql).await, ["3000"]);
}

#[tokio::test]
async fn datoms_agree_with_the_index() {
    let conn = database(1).await;
    let db = pens(&conn).await;
    let facts = crate::support::all(&db, datomfusion::Index::Eavt).await;
    let mut federation = Federation::new();
    federation.attach("d", db).unwrap();
    let batches = federation
        .query("SELECT e, a, v, tx, added FROM d.datoms")
        .await
        .unwrap();
    assert_eq!(
        batches.iter().map(RecordBatch::num_rows).sum::<usize>(),
        facts.len()
    );
    for batch in &batches {
        let e = batch
            .column(0)
            .as_any()
            .downcast_ref::<Int64Array>()
            .unwrap();
        let a = batch
            .column(1)
            .as_any()
            .downcast_ref::<StringViewArray>()
            .unwrap();
        for row in 0..batch.num_rows() {
            assert!(facts.iter().any(|datom| datom.e.0 == e.value(row)
                && federation.databases().any(|(_, db)| {
                    db.ident(datom.a)
                        .is_some_and(|ident| ident.to_string() == a.value(row))
                })));
        }
    }
    assert_eq!(
        rows(&federation, "SELECT count(*) FROM d.datoms").await,
        [facts.len().to_string()]
    );
}

#[tokio::test]
async fn names_that_need_quotes_or_are_taken_are_refused() {
    let db = database(1).await.db();
    let mut federation = Federation::new();
    for name in [
        "",
        "Sales",
        "1st",
        "a-b",
        "a.b",
        "public",
        "information_schema",
        "a\"b",
    ] {
        assert!(federation.attach(name, db.clone()).is_err(), "{name}");
    }
    federation.attach("sales", db.clone()).unwrap();
    assert!(federation.attach("sales", db).is_err());
}

#[tokio::test]
async fn databases_join_the_tables_of_a_session_that_exists() {
    let conn = database(1).await;
    let mut federation = Federation::new();
    federation.attach("sales", pens(&conn).await).unwrap();
    let context = SessionContext::new();
    context
        .sql("CREATE TABLE wanted AS VALUES ('pen')")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    federation.register(&context).unwrap();
    let sql = "SELECT i.price, o.price FROM wanted w JOIN sales.item i ON i.name = w.column1 \
               JOIN \"sales@t=2\".item o ON o.name = w.column1";
    let frame = context.sql(sql).await.unwrap();
    assert_eq!(frame.collect().await.unwrap()[0].num_rows(), 1);
    // DataFusion would read the present, and say nothing.
    context
        .sql("SET datafusion.sql_parser.dialect = 'databricks'")
        .await
        .unwrap();
    let ignored = context
        .sql("SELECT * FROM sales.item VERSION AS OF 2")
        .await;
    assert!(ignored.unwrap_err().to_string().contains("version"));
}

#[tokio::test]
async fn a_value_is_a_schema() {
    let conn = database(1).await;
    let schema = pens(&conn).await.schema_provider();
    assert!(schema.table_exist("item") && schema.table_exist("datoms_history"));
    let table = schema.table("item").await.unwrap().unwrap();
    assert_eq!(table.schema().field(0).name(), "db_id");
    let message = schema.table("itme").await.unwrap_err().to_string();
    assert!(message.contains("item, "), "{message}");
}

#[tokio::test]
async fn the_system_tables_describe_the_schema() {
    let conn = database(1).await;
    let mut federation = Federation::new();
    federation.attach("d", pens(&conn).await).unwrap();
    let sql = "SELECT ident, value_type, cardinality, \"unique\", indexed, sql_table, sql_column \
               FROM d.attributes WHERE sql_table IS NOT NULL ORDER BY id";
    assert_eq!(
        rows(&federation, sql).await,
        [
            ":item/name string one identity false item name",
            ":item/price long one  true item price"
        ]
    );
    let sql = "SELECT i.ident FROM d.idents i JOIN d.datoms f ON f.v_ref = i.id \
               WHERE f.a = ':db/valueType' AND f.e = (SELECT id FROM d.attributes WHERE ident = ':item/price')";
    assert_eq!(rows(&federation, sql).await, [":db.type/long"]);
    let listed =
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'd' ORDER BY 1";
    let expected = [
        "attributes",
        "datoms",
        "datoms_history",
        "idents",
        "item",
        "transactions",
    ];
    assert_eq!(rows(&federation, listed).await, expected);
}

#[tokio::test]
async fn what_is_unknown_lists_what_is_known() {
    let conn = database(1).await;
    let mut federation = Federation::new();
    federation.attach("d", pens(&conn).await).unwrap();
    assert!(
        error(&federation, "SELECT * FROM e.item")
            .await
            .contains("attached are: d")
    );
    assert!(
        error(&federation, "SELECT * FROM d.itme")
            .await
            .contains("item, ")
    );
    assert!(
        error(&federation, "SELECT * FROM item")
            .await
            .contains("d.TABLE")
    );
    // A table function is no table, and a common table expression is not looked up.
    assert_eq!(
        rows(&federation, "SELECT count(*) FROM generate_series(1, 3)").await,
        ["3"]
    );
    assert_eq!(
        rows(&federation, "WITH x AS (SELECT 1) SELECT * FROM x").await,
        ["1"]
    );
}
