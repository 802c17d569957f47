use datafusion::arrow::array::{
    ArrayRef, Decimal128Array, Int8Array, Int16Array, Int32Array, Int64Array, RecordBatch,
    UInt8Array, UInt64Array,
};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::datasource::MemTable;
use datafusion::functions_aggregate::expr_fn;
use datafusion::prelude::{SessionContext, col, lit};
use datomfusion_datalog::Optimizations;

use super::*;
use crate::catalog::session::{session_builder, session_config};

const MAX: i64 = i64::MAX;
const MIN: i64 = i64::MIN;

/// A session with `n(g, v)` spread over three partitions, and one table for each narrow type.
fn context() -> SessionContext {
    let config = session_config(&Optimizations::default())
        .with_target_partitions(3)
        .with_batch_size(2);
    let context = SessionContext::new_with_state(session_builder(config).build());
    let rows = [
        vec![(1, Some(MAX)), (2, Some(5)), (1, None)],
        vec![(1, Some(1)), (3, Some(MAX)), (2, Some(-7))],
        vec![(1, Some(-1)), (3, Some(MAX)), (4, None)],
    ];
    let partitions: Vec<_> = rows
        .iter()
        .map(|rows| {
            let g: Int64Array = rows.iter().map(|(g, _)| Some(*g)).collect();
            let v: Int64Array = rows.iter().map(|(_, v)| *v).collect();
            vec![batch(vec![("g", Arc::new(g)), ("v", Arc::new(v))])]
        })
        .collect();
    let schema = partitions[0][0].schema();
    let table = MemTable::try_new(schema, partitions).unwrap();
    context.register_table("n", Arc::new(table)).unwrap();
    for (name, column) in [
        (
            "i8",
            Arc::new(Int8Array::from(vec![i8::MAX, i8::MIN])) as ArrayRef,
        ),
        ("i16", Arc::new(Int16Array::from(vec![i16::MAX, i16::MIN]))),
        ("i32", Arc::new(Int32Array::from(vec![i32::MAX, i32::MIN]))),
        ("i64", Arc::new(Int64Array::from(vec![MAX, MIN]))),
        ("u8", Arc::new(UInt8Array::from(vec![u8::MAX, 0]))),
        ("u64", Arc::new(UInt64Array::from(vec![u64::MAX, 0]))),
        (
            "small",
            Arc::new(Int64Array::from(vec![Some(3), None, Some(-4)])),
        ),
        ("digits", Arc::new(decimals(&[10_i128.pow(38) - 1, 1]))),
    ] {
        context
            .register_batch(name, batch(vec![("x", column)]))
            .unwrap();
    }
    context
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
        .unwrap()
}

fn decimals(values: &[i128]) -> Decimal128Array {
    Decimal128Array::from(values.to_vec())
        .with_precision_and_scale(38, 0)
        .unwrap()
}

async fn run(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    context.sql(sql).await?.collect().await
}

/// The cells of the answer, row by row.
async fn cells(context: &SessionContext, sql: &str) -> Result<String> {
    let mut rows = Vec::new();
    for batch in run(context, sql).await? {
        for row in 0..batch.num_rows() {
            let cells = batch
                .columns()
                .iter()
                .map(|c| array_value_to_string(c, row).unwrap());
            rows.push(cells.collect::<Vec<_>>().join(" "));
        }
    }
    Ok(rows.join(", "))
}

async fn all_give(cases: &[(&str, &str)]) {
    let context = context();
    for (sql, expected) in cases {
        match cells(&context, sql).await {
            Ok(got) => assert_eq!(&got, expected, "{sql}"),
            Err(error) => panic!("{sql}: {error}"),
        }
    }
}

async fn all_overflow(cases: &[&str]) {
    let context = context();
    for sql in cases {
        match cells(&context, sql).await {
            Ok(got) => panic!("{sql} gave {got}"),
            Err(error) => {
                let error = error.to_string();
                assert!(error.to_lowercase().contains("overflow"), "{sql}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn constants_overflow_instead_of_folding() {
    all_overflow(&[
        "SELECT 9223372036854775807 + 1",
        "SELECT -9223372036854775807 - 2",
        "SELECT 9223372036854775807 * 2",
        "SELECT -(-9223372036854775808)",
        "SELECT -(-9223372036854775807 - 1)",
        "SELECT abs(-9223372036854775808)",
        "SELECT (-9223372036854775807 - 1) / -1",
        "SELECT x + 1 FROM (SELECT 9223372036854775807 AS x)",
        "WITH c AS (SELECT 9223372036854775807 AS x) SELECT c.x * d.x FROM c, c d",
        "SELECT 1 WHERE 9223372036854775807 + 1 < 0",
        "SELECT * FROM (VALUES (9223372036854775807 + 1))",
        "SELECT x + 1 FROM (VALUES (9223372036854775807)) t(x)",
        "SELECT 2147483647::int + 1::int",
        "SELECT 32767::smallint * 2::smallint",
        "SELECT [9223372036854775807 + 1]",
        "SELECT coalesce(NULL, 9223372036854775807 + 1)",
        "SELECT (SELECT 9223372036854775807) + 1",
        "SELECT count(*) + 9223372036854775807 FROM n",
    ])
    .await;
    all_give(&[
        ("SELECT 9223372036854775806 + 1", "9223372036854775807"),
        ("SELECT -9223372036854775808", "-9223372036854775808"),
        ("SELECT -9223372036854775807 - 1", "-9223372036854775808"),
        ("SELECT (-9223372036854775807 - 1) % -1", "0"),
        ("SELECT NULL + 1, 1 - NULL::bigint, -NULL::bigint", "  "),
        (
            "SELECT 1.5 + 1, 1e308::double * 10, 7 / 2, 7 % 4",
            "2.5 inf 3 3",
        ),
        ("SELECT 1 LIMIT 1 + 1", "1"),
    ])
    .await;
}

#[tokio::test]
async fn every_integer_type_is_checked() {
    for (table, one, two) in [
        ("i8", "1::tinyint", "2::tinyint"),
        ("i16", "1::smallint", "2::smallint"),
        ("i32", "1::int", "2::int"),
        ("i64", "1", "2"),
        ("u8", "1::tinyint unsigned", "2::tinyint unsigned"),
        ("u64", "1::bigint unsigned", "2::bigint unsigned"),
    ] {
        let signed = table.starts_with('i');
        let mut cases = vec![
            format!("SELECT x + {one} FROM {table}"),
            format!("SELECT {one} + x FROM {table}"),
            format!("SELECT x - {one} FROM {table}"),
            format!("SELECT x * {two} FROM {table}"),
            format!("SELECT x * x FROM {table}"),
            format!("SELECT x + x FROM {table}"),
            format!("SELECT a.x - b.x FROM {table} a, {table} b"),
        ];
        if signed {
            cases.push(format!("SELECT -x FROM {table}"));
            cases.push(format!("SELECT abs(x) FROM {table}"));
            cases.push(format!("SELECT x / -{one} FROM {table}"));
        }
        all_overflow(&cases.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    all_give(&[
        ("SELECT x - x, x * 1, x + 0 FROM i64", "0 9223372036854775807 9223372036854775807, 0 -9223372036854775808 -9223372036854775808"),
        ("SELECT x - x, x - 0 FROM u8", "0 255, 0 0"),
        ("SELECT x + 2, x - 2, x * 2, -x, 2 - x FROM small", "5 1 6 -3 -1,     , -2 -6 -8 4 6"),
    ])
    .await;
}

#[tokio::test]
async fn arithmetic_is_checked_wherever_an_expression_stands() {
    all_overflow(&[
        "SELECT g FROM n WHERE v + 1 < 0",
        "SELECT g FROM n ORDER BY v + 1, g",
        "SELECT v * 2, count(*) FROM n GROUP BY v * 2",
        "SELECT count(*) FROM n GROUP BY g HAVING max(v) + 1 > 0",
        "SELECT a.g FROM n a JOIN n b ON a.v + 1 = b.v",
        "SELECT a.g FROM n a LEFT JOIN n b ON a.g = b.g AND a.v * b.g > 3",
        "SELECT max(v + 1) FROM n",
        "SELECT count(*) FILTER (WHERE v + 1 > 0) FROM n",
        "SELECT row_number() OVER (ORDER BY v + 1) FROM n",
        "SELECT max(v) OVER (PARTITION BY v * 2) FROM n",
        "SELECT lag(v + 1) OVER (ORDER BY g) FROM n",
        "SELECT CASE WHEN v > 100 THEN v * 3 ELSE 0 END FROM n",
        "SELECT g FROM n WHERE v IN (SELECT v + 1 FROM n)",
        "SELECT g FROM n a WHERE EXISTS (SELECT 1 FROM n b WHERE b.v = a.v + 1)",
        "SELECT (SELECT max(v) FROM n) + g FROM n",
        "SELECT DISTINCT v + 1 FROM n",
        "SELECT v FROM n UNION SELECT v + 1 FROM n",
        "SELECT sum(v + 1) FROM n",
        "SELECT v BETWEEN v - 1 AND v + 1 FROM n",
        "WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x * 1000000 FROM r WHERE x > 0) \
         SELECT count(*) FROM r",
        "SELECT unnest([v + 1]) FROM n",
    ])
    .await;
    all_give(&[
        (
            "SELECT CASE WHEN v < 100 THEN v * 3 ELSE 0 END FROM n WHERE g = 1 ORDER BY v",
            "-3, 3, 0, 0",
        ),
        ("SELECT count(*) FROM n WHERE v < 2 + 3", "3"),
        ("SELECT g + 1 AS h FROM n WHERE v = 5", "3"),
    ])
    .await;
}

#[tokio::test]
async fn a_sum_fails_only_if_its_total_does_not_fit() {
    all_overflow(&[
        "SELECT sum(v) FROM n",
        "SELECT sum(v) FROM n WHERE g = 3",
        "SELECT g, sum(v) FROM n GROUP BY g",
        "SELECT sum(v) FILTER (WHERE g = 3) FROM n",
        "SELECT g % 2, sum(v) FROM n GROUP BY g % 2",
        "SELECT sum(DISTINCT v) FROM n WHERE v > 0",
        "SELECT g > 0, sum(DISTINCT v), count(*) FROM n WHERE v > 0 GROUP BY g > 0",
        "SELECT sum(v) OVER () FROM n",
        "SELECT sum(v) OVER (PARTITION BY g) FROM n",
        "SELECT sum(v) OVER (PARTITION BY g ORDER BY v ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM n",
        "SELECT sum(DISTINCT v) OVER (ORDER BY v ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM n",
        "SELECT sum(x) FROM (SELECT x FROM i64 WHERE x > 0 UNION ALL SELECT x FROM i64 WHERE x > 0)",
        "SELECT sum(x) FROM (SELECT x FROM u64 UNION ALL SELECT x FROM u64)",
        "SELECT sum(x) FROM digits",
        "SELECT x > 0, sum(x) FROM digits GROUP BY x > 0",
        "SELECT sum(x) OVER (ORDER BY x ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM digits",
    ])
    .await;
    all_give(&[
        // MAX + 1 - 1, each from another partition.
        ("SELECT sum(v) FROM n WHERE g = 1", "9223372036854775807"),
        (
            "SELECT g, sum(v) FROM n WHERE g < 3 GROUP BY g ORDER BY g",
            "1 9223372036854775807, 2 -2",
        ),
        (
            "SELECT g, sum(v) FROM n WHERE g <> 3 GROUP BY g ORDER BY g",
            "1 9223372036854775807, 2 -2, 4 ",
        ),
        (
            "SELECT g, sum(v) FILTER (WHERE v < 9) FROM n GROUP BY g ORDER BY g",
            "1 0, 2 -2, 3 , 4 ",
        ),
        ("SELECT sum(v) FROM n WHERE g = 4", ""),
        ("SELECT sum(v) FROM n WHERE false", ""),
        (
            "SELECT sum(DISTINCT v), count(DISTINCT g) FROM n WHERE g < 3",
            "9223372036854775805 2",
        ),
        (
            "SELECT sum(v) OVER (ORDER BY v ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM n \
             WHERE v < 9 ORDER BY v",
            "-7, -8, 0, 6",
        ),
        ("SELECT sum(x), arrow_typeof(sum(x)) FROM i8", "-1 Int64"),
        ("SELECT sum(x), arrow_typeof(sum(x)) FROM u8", "255 UInt64"),
        (
            "SELECT sum(x::real), arrow_typeof(sum(x::real)) FROM i8",
            "-1.0 Float64",
        ),
        (
            "SELECT sum(x::decimal(38, 2)), arrow_typeof(sum(x::decimal(38, 2))) \
             FROM (VALUES (1.50), (2.25)) t(x)",
            "3.75 Decimal128(38, 2)",
        ),
        (
            "SELECT arrow_typeof(sum(x)) FROM (VALUES (1.5::decimal(5, 2))) t(x)",
            "Decimal128(15, 2)",
        ),
        (
            "SELECT sum(x) FROM (SELECT x FROM i64 UNION ALL SELECT x FROM i64)",
            "-2",
        ),
        ("SELECT avg(v) FROM n WHERE g = 3", "9.223372036854776e18"),
        (
            "SELECT sum(x + 1) FROM i64 WHERE x < 0",
            "-9223372036854775807",
        ),
        (
            "SELECT sum(x) FROM (SELECT INTERVAL '1 day' AS x)",
            "1 days",
        ),
    ])
    .await;
}

#[tokio::test]
async fn decimals_keep_to_their_digits() {
    all_overflow(&[
        "SELECT x + 1 FROM digits",
        "SELECT x + x FROM digits",
        "SELECT x * x FROM digits",
        "SELECT -x - 1 FROM digits",
        "SELECT avg(x) FROM (SELECT x FROM digits UNION ALL SELECT x FROM digits)",
    ])
    .await;
    all_give(&[
        (
            "SELECT x - 1 FROM digits",
            "99999999999999999999999999999999999998, 0",
        ),
        (
            "SELECT x * 1.50::decimal(3, 2), -x FROM digits WHERE x = 1",
            "1.50 -1",
        ),
    ])
    .await;
}

#[tokio::test]
async fn columns_keep_their_names_and_types() {
    let context = context();
    let sql = "SELECT v + 1, - v, sum(g * 2) OVER (), g - 1 AS h FROM n WHERE false";
    let ours = context.sql(sql).await.unwrap();
    let theirs = SessionContext::new_with_state(
        datafusion::execution::SessionStateBuilder::new()
            .with_default_features()
            .build(),
    );
    theirs
        .register_table("n", context.table_provider("n").await.unwrap())
        .unwrap();
    let theirs = theirs.sql(sql).await.unwrap();
    assert_eq!(ours.schema(), theirs.schema());
    assert_eq!(
        ours.clone().into_optimized_plan().unwrap().schema(),
        theirs.into_optimized_plan().unwrap().schema()
    );
    let explained = cells(&context, &format!("EXPLAIN {sql}")).await.unwrap();
    assert!(!explained.contains("Error"), "{explained}");
}

#[tokio::test]
async fn constants_still_fold_into_simple_filters() {
    let plan = context()
        .sql("SELECT g FROM n WHERE v < 2 + 3 * 4 AND g = -(-2)")
        .await
        .unwrap()
        .into_optimized_plan()
        .unwrap()
        .to_string();
    assert!(
        plan.contains("n.v < Int64(14)") && plan.contains("n.g = Int64(2)"),
        "{plan}"
    );
}

#[tokio::test]
async fn checked_arithmetic_keeps_an_ordering() {
    let context = context();
    let plan = cells(
        &context,
        "EXPLAIN SELECT x FROM (SELECT x FROM i64 ORDER BY x LIMIT 10) ORDER BY x + 1",
    )
    .await
    .unwrap();
    assert_eq!(plan.matches("SortExec").count(), 1, "{plan}");
}

#[tokio::test]
async fn a_plan_built_by_hand_is_checked_as_well() {
    let context = context();
    let frame = context.table("n").await.unwrap();
    let sum = frame
        .clone()
        .aggregate(vec![], vec![expr_fn::sum(col("v"))])
        .unwrap();
    assert!(
        sum.collect()
            .await
            .unwrap_err()
            .to_string()
            .contains("overflow")
    );
    let plus = frame.select(vec![col("v") + lit(1_i64)]).unwrap();
    assert!(
        plus.collect()
            .await
            .unwrap_err()
            .to_string()
            .contains("overflow")
    );
}

#[tokio::test]
async fn the_message_shows_the_operands() {
    let error = run(&context(), "SELECT v + 1 FROM n")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("integer overflow in 9223372036854775807 + 1"),
        "{error}"
    );
    let error = run(&context(), "SELECT sum(v) FROM n")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("overflow in sum(n.v): the total does not fit Int64"),
        "{error}"
    );
}

#[tokio::test]
async fn dates_and_intervals_are_left_alone() {
    all_give(&[
        ("SELECT DATE '2022-12-31' + INTERVAL '1 day'", "2023-01-01"),
        ("SELECT DATE '2022-12-31' - DATE '2022-12-01'", "30"),
        (
            "SELECT TIMESTAMP '2022-12-31 00:00:00' - INTERVAL '1 hour'",
            "2022-12-30T23:00:00",
        ),
        ("SELECT -INTERVAL '1 day'", "-1 days"),
        (
            "SELECT sum(TIMESTAMP '2022-12-31' - TIMESTAMP '2022-12-30')",
            "PT86400S",
        ),
    ])
    .await;
}
