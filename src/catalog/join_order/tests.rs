//! Claims about the order of joins: the rows are those of the order that was written, at less cost.

use std::fmt::Write;

use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::{Connection, Federation, Store, TxData};

/// Tables, their columns that refer to others or are numbers, and what can be equal.
const COLUMNS: [(&str, &[&str]); 5] = [
    ("nation", &["db_id", "size"]),
    ("customer", &["db_id", "nation", "size"]),
    ("product", &["db_id", "size"]),
    ("sale", &["db_id", "customer", "product", "size"]),
    ("sale_x_note", &["db_id", "note"]),
];

/// Few nations, some customers and products, many sales and notes on them.
async fn federation() -> Federation {
    let connection = Connection::create(&Store::memory()).await.unwrap();
    let mut schema = String::from("[");
    for (ident, kind) in [
        (":nation/size", "long"),
        (":customer/nation", "ref"),
        (":customer/size", "long"),
        (":product/size", "long"),
        (":sale/customer", "ref"),
        (":sale/product", "ref"),
        (":sale/size", "long"),
    ] {
        write!(
            schema,
            "{{:db/ident {ident} :db/valueType :db.type/{kind} :db/cardinality :db.cardinality/one}}"
        )
        .unwrap();
    }
    schema.push_str(
        "{:db/ident :sale/note :db/valueType :db.type/long :db/cardinality :db.cardinality/many}]",
    );
    let mut data = String::from("[");
    for nation in 0..4 {
        write!(data, "{{:db/id \"n{nation}\" :nation/size {nation}}}").unwrap();
    }
    for customer in 0..20 {
        let nation = customer % 4;
        write!(
            data,
            "{{:db/id \"c{customer}\" :customer/nation \"n{nation}\""
        )
        .unwrap();
        // Some have no size, which is NULL.
        if customer % 3 > 0 {
            write!(data, " :customer/size {}", customer % 7).unwrap();
        }
        data.push('}');
    }
    for product in 0..10 {
        write!(
            data,
            "{{:db/id \"p{product}\" :product/size {}}}",
            product % 5
        )
        .unwrap();
    }
    for sale in 0..40 {
        let (customer, product) = (sale * 7 % 20, sale * 3 % 10);
        write!(
            data,
            "{{:sale/customer \"c{customer}\" :sale/product \"p{product}\" :sale/size {}
              :sale/note [{} {}]}}",
            sale % 6,
            sale % 5,
            sale % 11 + 5,
        )
        .unwrap();
    }
    data.push(']');
    for text in [schema, data] {
        let data = TxData::parse(&text).unwrap();
        connection.transact(&data).await.unwrap();
    }
    let mut federation = Federation::new();
    federation.attach("shop", connection.db()).unwrap();
    federation
}

async fn answer(federation: &Federation, session: &SessionContext, sql: &str) -> String {
    let frame = federation.sql_in(session, sql).await.unwrap();
    let rows = frame.collect().await.unwrap();
    pretty_format_batches(&rows).unwrap().to_string()
}

/// A statement about some tables, each joined with an earlier one in a way that `choices` say.
fn statement(tables: &[usize], choices: &[usize]) -> String {
    let mut choices = choices.iter().copied().cycle();
    let mut choose = |count: usize| choices.next().unwrap_or(0) % count;
    let (mut sums, mut from) = (String::new(), String::new());
    for (at, table) in tables.iter().enumerate() {
        let (name, columns) = COLUMNS[*table];
        let column = columns[choose(columns.len())];
        write!(sums, ", sum(t{at}.{column}), min(t{at}.db_id)").unwrap();
        if at == 0 {
            write!(from, "shop.{name} t0").unwrap();
            continue;
        }
        let mut conditions = Vec::new();
        for number in 0..=choose(2) {
            let other = choose(at);
            let theirs = COLUMNS[tables[other]].1;
            let theirs = theirs[choose(theirs.len())];
            let ours = columns[choose(columns.len())];
            // Each is joined by an equality at least.
            let comparison = ["=", "=", "<"][choose(3).min(number * 2)];
            conditions.push(format!("t{at}.{ours} {comparison} t{other}.{theirs}"));
        }
        if choose(3) == 0 {
            let column = columns[choose(columns.len())];
            conditions.push(format!("t{at}.{column} < {}", choose(8)));
        }
        write!(
            from,
            " JOIN shop.{name} t{at} ON {}",
            conditions.join(" AND ")
        )
        .unwrap();
    }
    let first = COLUMNS[tables[0]].1;
    let column = first[choose(first.len())];
    let condition = [
        format!("t0.{column} = {}", choose(6)),
        format!("t0.{column} IS NOT NULL"),
        format!("t0.{column} IN (1, 2, {})", choose(6)),
    ];
    let condition = &condition[choose(3)];
    format!("SELECT count(*){sums} FROM {from} WHERE {condition}")
}

#[test]
fn any_order_gives_the_same_rows() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let federation = runtime.block_on(federation());
    let ordered = federation.session_context();
    let written = federation.session_context();
    assert!(written.remove_optimizer_rule("join_order"));
    let tables = prop::collection::vec(0..COLUMNS.len(), 3..6);
    let choices = prop::collection::vec(0..1000_usize, 64);
    let mut runner = TestRunner::new(Config::with_cases(200));
    runner
        .run(&(tables, choices), |(tables, choices)| {
            let sql = statement(&tables, &choices);
            runtime.block_on(async {
                let found = answer(&federation, &ordered, &sql).await;
                let expected = answer(&federation, &written, &sql).await;
                prop_assert_eq!(found, expected, "{}", sql);
                Ok(())
            })
        })
        .unwrap();
}

/// The tables that a plan scans, in its order: what is joined first is named first.
async fn scans(federation: &Federation, sql: &str) -> Vec<String> {
    let frame = federation.sql(sql).await.unwrap();
    let plan = frame.into_optimized_plan().unwrap().to_string();
    let names = plan
        .lines()
        .filter_map(|line| line.split("TableScan: ").nth(1));
    names
        .map(|name| name.split_whitespace().next().unwrap_or("").to_owned())
        .collect()
}

#[tokio::test]
async fn a_condition_far_away_decides() {
    let federation = federation().await;
    let sql = "SELECT n.size, s.size AS sold, c.db_id FROM shop.product p \
               JOIN shop.sale s ON s.product = p.db_id \
               JOIN shop.customer c ON s.customer = c.db_id \
               JOIN shop.nation n ON c.nation = n.db_id WHERE n.db_id = 1028";
    let found = scans(&federation, sql).await;
    assert_eq!(found.len(), 4);
    assert!(
        found.starts_with(&["shop.nation".to_owned(), "shop.customer".to_owned()]),
        "{found:?}"
    );
    // Columns keep their order and their names.
    let frame = federation.sql(sql).await.unwrap();
    let plan = frame.into_optimized_plan().unwrap();
    let names: Vec<&str> = plan
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().as_str())
        .collect();
    assert_eq!(names, ["size", "sold", "db_id"]);
}

#[tokio::test]
async fn what_is_not_known_stays_where_it_is() {
    let federation = federation().await;
    // Outer joins, and inputs of which nobody knows how many rows they have.
    for sql in [
        "SELECT count(*) FROM shop.sale s LEFT JOIN shop.customer c ON s.customer = c.db_id \
         LEFT JOIN shop.nation n ON c.nation = n.db_id",
        "SELECT count(*) FROM shop.sale s JOIN shop.customer c ON s.customer = c.db_id \
         JOIN (SELECT nation, count(*) AS people FROM shop.customer GROUP BY nation) g ON g.nation = c.nation",
        "SELECT count(*) FROM shop.sale s JOIN shop.customer c ON s.customer = c.db_id \
         JOIN shop.nation n ON c.nation = n.db_id AND random() < 2",
    ] {
        assert_eq!(scans(&federation, sql).await[0], "shop.sale", "{sql}");
        let session = federation.session_context();
        assert!(
            answer(&federation, &session, sql).await.contains("40"),
            "{sql}"
        );
    }
}
