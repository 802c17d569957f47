//! What is learnt of a table beforehand, against what its scan answers.

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, ToDFSchema};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::prelude::SessionContext;

use super::{context, database, register, table, transact};
use crate::db::Db;
use crate::provider::EntityTable;
use crate::store::Store;

const SCHEMA: &str = "[
    {:db/ident :m/even :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
    {:db/ident :m/skewed :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
    {:db/ident :m/rare :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
    {:db/ident :m/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/index true}]";

/// Entities with numbers below 100, numbers most of which are small, names, and a number that a tenth have.
async fn measured(rows: usize) -> (Store, Db) {
    let store = Store::memory();
    let connection = database(&store, 1).await;
    transact(&connection, SCHEMA).await;
    let mut data = String::from("[");
    for i in 0..rows {
        let skewed = (i * 7919 % 1000).pow(3) / 10_000_000;
        let (even, name) = (i * 31 % 100, i * 7919 % (rows / 2 - 27));
        write!(
            data,
            "{{:m/even {even} :m/skewed {skewed} :m/name \"n{name}\""
        )
        .unwrap();
        if i.is_multiple_of(10) {
            write!(data, " :m/rare {}", i % 70).unwrap();
        }
        data.push('}');
    }
    data.push(']');
    transact(&connection, &data).await;
    connection.checkpoint().await.unwrap();
    (store, connection.db())
}

/// A condition as it was written, which is learnt, and as rules see it.
fn parsed(context: &SessionContext, table: &EntityTable, text: &str) -> [Expr; 2] {
    let schema = table.schema().to_dfschema_ref().unwrap();
    let written = context.parse_sql_expr(text, &schema).unwrap();
    let info = SimplifyContext::builder().with_schema(Arc::clone(&schema));
    let simplifier = ExprSimplifier::new(info.build());
    let seen = simplifier.coerce(written.clone(), &schema).unwrap();
    [written, simplifier.simplify(seen).unwrap()]
}

async fn learnt(table: EntityTable, written: &Expr) -> EntityTable {
    let columns = HashSet::from(["even", "skewed", "rare", "name"]);
    table.learn(&columns, &split_conjunction(written)).await;
    table
}

/// The share of rows that a scan answers.
async fn counted(db: &Db, condition: &str) -> f64 {
    let context = context(8192, 1);
    register(&context, "m", table(db, "m"));
    let sql = format!("SELECT avg(CASE WHEN {condition} THEN 1.0 ELSE 0.0 END) FROM m");
    let batches = context.sql(&sql).await.unwrap().collect().await.unwrap();
    batches[0].column(0).as_primitive::<Float64Type>().value(0)
}

#[tokio::test]
async fn shares_of_few_rows_are_exact_and_of_many_near() {
    for (rows, near) in [(300, 1e-9), (20_000, 0.05)] {
        let (_store, db) = measured(rows).await;
        let context = context(8192, 1);
        for condition in [
            "even = 7",
            "even < 30",
            "even IN (1, 2, 3)",
            "even % 2 = 0",
            "NOT even > 60",
            "skewed = 0",
            "skewed > 50",
            "even > 20 AND even < 25",
            "name >= 'n2' AND name < 'n3'",
            "rare IS NULL",
            "rare IS NOT NULL",
            "rare > 20",
            "coalesce(rare, 0) = 0",
            "name LIKE 'n1%'",
            "name = 'n17'",
            "name >= 'n5'",
            "name = 'nobody'",
        ] {
            let table = table(&db, "m");
            let [written, seen] = parsed(&context, &table, condition);
            let share = learnt(table, &written).await.share(&seen);
            let share = share.unwrap_or_else(|| panic!("nothing is known of {condition}"));
            let exact = counted(&db, condition).await;
            // An index counts exactly.
            let near = if condition.starts_with("name =") || condition.starts_with("name >=") {
                1e-9
            } else {
                near
            };
            assert!(
                (share - exact).abs() <= near,
                "{condition} of {rows}: {share} for {exact}"
            );
        }
    }
}

#[tokio::test]
async fn conditions_about_several_columns_are_not_told() {
    let (_store, db) = measured(300).await;
    let context = context(8192, 1);
    for condition in ["even = skewed", "even < 3 OR rare > 5", "1 = 1"] {
        let table = table(&db, "m");
        let [written, seen] = parsed(&context, &table, condition);
        assert_eq!(
            learnt(table, &written).await.share(&seen),
            None,
            "{condition}"
        );
    }
    let table = table(&db, "m");
    assert_eq!(
        table.share(&Expr::IsNull(Box::new(Expr::Column(Column::from_name(
            "rare"
        ))))),
        None
    );
}

/// Sixteen leaves a column at most, and none the second time.
#[tokio::test]
async fn a_root_is_sampled_once() {
    // Of another size than any other test's, so that nobody else has sampled this root.
    let (store, db) = measured(30_001).await;
    let context = context(8192, 1);
    let table_of = |db: &Db| table(db, "m");
    let [condition, _] = parsed(&context, &table_of(&db), "skewed > 3");
    let learn = async || {
        let fresh = Db::open(&store, db.branch()).await.unwrap();
        let before = fresh.loader().loads().nodes;
        let known = learnt(table_of(&fresh), &condition).await;
        (fresh.loader().loads().nodes - before, known)
    };
    let (first, known) = learn().await;
    let (second, _) = learn().await;
    assert!(first <= 4 * 16 + 16, "{first} nodes");
    assert!(second * 2 < first, "{first} nodes, then {second}");
    for (column, most) in [("even", 110.0), ("rare", 10.0)] {
        let values = known.values(column).unwrap();
        assert!((7.0..=most).contains(&values), "{values} of {column}");
    }
    let names = known.values("name").unwrap();
    assert!((1_000.0..=15_000.0).contains(&names), "{names} names");
}

/// Three members each: a run of neighbours has the members of ten entities.
#[tokio::test]
async fn entities_with_members_are_estimated() {
    let connection = database(&Store::memory(), 1).await;
    let schema =
        "[{:db/ident :t/tag :db/valueType :db.type/long :db/cardinality :db.cardinality/many}]";
    transact(&connection, schema).await;
    let mut data = String::from("[");
    for i in 0..5_000 {
        write!(
            data,
            "{{:t/tag [{} {} {}]}}",
            i % 50,
            i % 50 + 50,
            i % 50 + 100
        )
        .unwrap();
    }
    data.push(']');
    transact(&connection, &data).await;
    connection.checkpoint().await.unwrap();
    let table = table(&connection.db(), "t_x_tag");
    table.learn(&HashSet::from(["db_id", "tag"]), &[]).await;
    let entities = table.values("db_id").unwrap();
    assert!(
        (4_000.0..=7_500.0).contains(&entities),
        "{entities} entities"
    );
    let tags = table.values("tag").unwrap();
    assert!((100.0..=400.0).contains(&tags), "{tags} tags");
}
