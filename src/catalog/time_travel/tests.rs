use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::*;

/// `sales`, `crm` and `Crm` are databases, everything else is foreign.
fn rewritten(sql: &str) -> Result<String> {
    rewritten_by(sql, "public", Statements::ReadOnly)
}

fn rewritten_by(sql: &str, schema: &str, statements: Statements) -> Result<String> {
    let is_database = |schema: &str| ["sales", "crm", "Crm"].contains(&schema);
    let names = Names {
        is_database: &is_database,
        catalog: "datafusion",
        schema,
    };
    parse(sql, &names, statements).map(|statement| statement.to_string())
}

fn check_all(cases: &[(&str, &str)]) {
    for (sql, expected) in cases {
        match rewritten(sql) {
            Ok(got) => assert_eq!(&got, expected, "{sql}"),
            Err(error) => panic!("{sql}: {error}"),
        }
    }
}

fn refused(sql: &str, why: &str) {
    let shown: String = sql.chars().take(200).collect();
    match rewritten(sql) {
        Ok(got) => panic!("{shown} became {got}"),
        Err(error) => assert!(error.to_string().contains(why), "{shown}: {error}"),
    }
}

#[test]
fn each_version_clause_becomes_a_schema_name() {
    check_all(&[
        (
            "SELECT * FROM sales.invoice VERSION AS OF 42",
            r#"SELECT * FROM "sales@t=42".invoice"#,
        ),
        (
            "SELECT * FROM sales.invoice FOR SYSTEM_TIME AS OF TIMESTAMP '2022-12-31 12:00:00'",
            r#"SELECT * FROM "sales@2022-12-31T12:00:00Z".invoice"#,
        ),
        (
            "SELECT * FROM sales.invoice FOR SYSTEM_TIME AS OF DATE '2022-12-31' AS i",
            r#"SELECT * FROM "sales@2022-12-31".invoice AS i"#,
        ),
        (
            "SELECT * FROM sales.invoice TIMESTAMP AS OF '2022-12-31' i",
            r#"SELECT * FROM "sales@2022-12-31".invoice i"#,
        ),
        (
            "SELECT * FROM sales.invoice FOR SYSTEM_TIME AS OF '2022-12-31T12:00:00+02:00'",
            r#"SELECT * FROM "sales@2022-12-31T10:00:00Z".invoice"#,
        ),
        (
            "SELECT * FROM sales.invoice \
             FOR SYSTEM_TIME AS OF TIMESTAMP WITH TIME ZONE '2022-12-31 12:00:00.5 +02:00'",
            r#"SELECT * FROM "sales@2022-12-31T10:00:00.500Z".invoice"#,
        ),
        (
            "SELECT * FROM sales.invoice FOR SYSTEM_TIME AS OF TIMESTAMP '2022-12-31'",
            r#"SELECT * FROM "sales@2022-12-31T00:00:00Z".invoice"#,
        ),
        (
            "SELECT * FROM sales.invoice FOR SYSTEM_TIME AS OF CAST('2022-12-31' AS TIMESTAMP)",
            r#"SELECT * FROM "sales@2022-12-31T00:00:00Z".invoice"#,
        ),
        (
            "SELECT * FROM sales.invoice FOR SYSTEM_TIME AS OF ('2022-12-31 01:00'::timestamp::date)",
            r#"SELECT * FROM "sales@2022-12-31".invoice"#,
        ),
        (
            "SELECT * FROM sales.invoice VERSION AS OF 1_000;",
            r#"SELECT * FROM "sales@t=1000".invoice"#,
        ),
    ]);
}

#[test]
fn a_clause_works_wherever_a_table_stands() {
    check_all(&[
        (
            "SELECT a.v, b.v, c.v FROM sales.t VERSION AS OF 1 a \
             JOIN sales.t VERSION AS OF 2 AS b ON a.id = b.id CROSS JOIN sales.t c",
            r#"SELECT a.v, b.v, c.v FROM "sales@t=1".t a JOIN "sales@t=2".t AS b ON a.id = b.id CROSS JOIN sales.t c"#,
        ),
        (
            "SELECT (SELECT max(v) FROM sales.t VERSION AS OF 1) FROM crm.u \
             WHERE EXISTS (SELECT 1 FROM sales.t VERSION AS OF 2) \
             AND id IN (SELECT id FROM sales.t VERSION AS OF 3)",
            r#"SELECT (SELECT max(v) FROM "sales@t=1".t) FROM crm.u WHERE EXISTS (SELECT 1 FROM "sales@t=2".t) AND id IN (SELECT id FROM "sales@t=3".t)"#,
        ),
        (
            "WITH old AS (SELECT * FROM sales.t VERSION AS OF 1) \
             SELECT * FROM old UNION ALL SELECT * FROM sales.t VERSION AS OF 2 ORDER BY 1",
            r#"WITH old AS (SELECT * FROM "sales@t=1".t) SELECT * FROM old UNION ALL SELECT * FROM "sales@t=2".t ORDER BY 1"#,
        ),
        (
            "SELECT * FROM crm.u, LATERAL (SELECT * FROM (SELECT * FROM sales.t VERSION AS OF 1) x) y",
            r#"SELECT * FROM crm.u, LATERAL (SELECT * FROM (SELECT * FROM "sales@t=1".t) x) y"#,
        ),
        (
            "SELECT * FROM (sales.t VERSION AS OF 1 CROSS JOIN sales.t VERSION AS OF 2)",
            r#"SELECT * FROM ("sales@t=1".t CROSS JOIN "sales@t=2".t)"#,
        ),
        (
            "EXPLAIN ANALYZE SELECT * FROM sales.t VERSION AS OF 1",
            r#"EXPLAIN ANALYZE SELECT * FROM "sales@t=1".t"#,
        ),
        (
            "SELECT CASE WHEN (SELECT count(*) FROM sales.t VERSION AS OF 1) > 0 THEN 1 END",
            r#"SELECT CASE WHEN (SELECT count(*) FROM "sales@t=1".t) > 0 THEN 1 END"#,
        ),
        (
            "SELECT * FROM sales.t VERSION AS OF 1 PIVOT (sum(v) FOR k IN ('a', 'b'))",
            r#"SELECT * FROM "sales@t=1".t PIVOT(sum(v) FOR k IN ('a', 'b'))"#,
        ),
        (
            "VALUES ((SELECT max(v) FROM sales.t VERSION AS OF 1))",
            r#"VALUES ((SELECT max(v) FROM "sales@t=1".t))"#,
        ),
        (
            "SELECT sum(v) FILTER (WHERE v IN (SELECT v FROM sales.t VERSION AS OF 1)) \
             OVER (ORDER BY (SELECT max(v) FROM sales.t VERSION AS OF 2)) FROM crm.u \
             LIMIT (SELECT 1 FROM sales.t VERSION AS OF 3)",
            r#"SELECT sum(v) FILTER (WHERE v IN (SELECT v FROM "sales@t=1".t)) OVER (ORDER BY (SELECT max(v) FROM "sales@t=2".t)) FROM crm.u LIMIT (SELECT 1 FROM "sales@t=3".t)"#,
        ),
    ]);
    let insert = "INSERT INTO out SELECT * FROM sales.t VERSION AS OF 1";
    assert_eq!(
        rewritten_by(insert, "public", Statements::Any).unwrap(),
        r#"INSERT INTO out SELECT * FROM "sales@t=1".t"#
    );
    let copy = "COPY (SELECT * FROM sales.t VERSION AS OF 1) TO 'x.parquet'";
    assert!(
        rewritten_by(copy, "public", Statements::Any)
            .unwrap()
            .contains(r#""sales@t=1".t"#)
    );
}

#[test]
fn names_fold_and_quote_as_the_planner_does() {
    check_all(&[
        (
            "SELECT * FROM SALES.Invoice VERSION AS OF 1",
            r#"SELECT * FROM "sales@t=1".Invoice"#,
        ),
        (
            r#"SELECT * FROM "Crm"."A b" VERSION AS OF 1"#,
            r#"SELECT * FROM "Crm@t=1"."A b""#,
        ),
        (
            r#"SELECT * FROM sales."quo""ted" VERSION AS OF 1"#,
            r#"SELECT * FROM "sales@t=1"."quo""ted""#,
        ),
        (
            "SELECT * FROM datafusion.sales.t VERSION AS OF 1",
            r#"SELECT * FROM datafusion."sales@t=1".t"#,
        ),
        (
            r#"SELECT * FROM "sales#dev".t VERSION AS OF 1"#,
            r#"SELECT * FROM "sales#dev@t=1".t"#,
        ),
    ]);
    refused(
        r#"SELECT * FROM "SALES".t VERSION AS OF 1"#,
        "not an attached database",
    );
}

#[test]
fn unqualified_tables_need_a_default_database() {
    refused("SELECT * FROM t VERSION AS OF 1", "say which database");
    assert_eq!(
        rewritten_by(
            "SELECT t.v FROM t VERSION AS OF 1",
            "sales",
            Statements::ReadOnly
        )
        .unwrap(),
        r#"SELECT t.v FROM "sales@t=1".t"#
    );
    assert_eq!(
        rewritten_by(
            "SELECT sales.t.v FROM t VERSION AS OF 1",
            "sales",
            Statements::ReadOnly
        )
        .unwrap(),
        r#"SELECT "sales@t=1".t.v FROM "sales@t=1".t"#
    );
}

#[test]
fn qualified_columns_follow_their_table() {
    check_all(&[
        (
            "SELECT sales.t.v, t.v, v, SALES.T.\"V\" FROM sales.t VERSION AS OF 1 \
             WHERE sales.t.v > 1 GROUP BY sales.t.v ORDER BY sales.t.v",
            r#"SELECT "sales@t=1".t.v, t.v, v, "sales@t=1".T."V" FROM "sales@t=1".t WHERE "sales@t=1".t.v > 1 GROUP BY "sales@t=1".t.v ORDER BY "sales@t=1".t.v"#,
        ),
        (
            "SELECT sales.t.*, datafusion.sales.t.v FROM sales.t VERSION AS OF 1",
            r#"SELECT "sales@t=1".t.*, datafusion."sales@t=1".t.v FROM "sales@t=1".t"#,
        ),
        (
            "SELECT sales.t.v - old.v FROM sales.t JOIN sales.t VERSION AS OF 1 AS old USING (id)",
            r#"SELECT sales.t.v - old.v FROM sales.t JOIN "sales@t=1".t AS old USING(id)"#,
        ),
        (
            "SELECT sales.t.v FROM sales.t VERSION AS OF 1 \
             WHERE EXISTS (SELECT 1 FROM sales.t VERSION AS OF 1 WHERE sales.t.v = 1)",
            r#"SELECT "sales@t=1".t.v FROM "sales@t=1".t WHERE EXISTS (SELECT 1 FROM "sales@t=1".t WHERE "sales@t=1".t.v = 1)"#,
        ),
    ]);
    // The inner `sales.t.v` would silently mean the present of the outer table.
    refused(
        "SELECT v FROM sales.t WHERE EXISTS \
         (SELECT 1 FROM sales.t VERSION AS OF 1 WHERE sales.t.v = 7)",
        "give each an alias",
    );
    refused(
        "SELECT sales.t.v FROM sales.t VERSION AS OF 1 \
         UNION SELECT sales.t.v FROM sales.t VERSION AS OF 2",
        "give each an alias",
    );
}

#[test]
fn a_name_that_two_tables_answer_to_qualifies_nothing() {
    for select in [
        "t.v FROM sales.t VERSION AS OF 1, sales.t VERSION AS OF 2",
        "T.v FROM sales.t, sales.t VERSION AS OF 2",
        "t.* FROM sales.t VERSION AS OF 1 JOIN crm.T ON true",
        "* FROM crm.u AS t, sales.t VERSION AS OF 1 WHERE t.v = 1",
        "* FROM (SELECT 1) t JOIN sales.t VERSION AS OF 1 ON t.v = 1",
        "* FROM (sales.t VERSION AS OF 1 CROSS JOIN sales.t) ORDER BY t.v",
        "* FROM \"sales@t=1\".t, sales.t GROUP BY t.v",
        "* FROM sales.t, crm.t WHERE EXISTS (SELECT 1 FROM crm.u WHERE t.v = 1)",
    ] {
        refused(&format!("SELECT {select}"), "give each an alias");
    }
    check_all(&[
        (
            "SELECT t.v FROM sales.t VERSION AS OF 1 UNION SELECT t.v FROM sales.t VERSION AS OF 2",
            r#"SELECT t.v FROM "sales@t=1".t UNION SELECT t.v FROM "sales@t=2".t"#,
        ),
        (
            "SELECT * FROM sales.t VERSION AS OF 1, sales.t VERSION AS OF 2",
            r#"SELECT * FROM "sales@t=1".t, "sales@t=2".t"#,
        ),
        (
            "SELECT sales.t.v, crm.t.v FROM sales.t VERSION AS OF 1, crm.t",
            r#"SELECT "sales@t=1".t.v, crm.t.v FROM "sales@t=1".t, crm.t"#,
        ),
        (
            "SELECT u.v FROM sales.t, crm.t, crm.u WHERE EXISTS (SELECT 1 FROM crm.t WHERE t.v = 1) \
             ORDER BY u.v",
            "SELECT u.v FROM sales.t, crm.t, crm.u WHERE EXISTS (SELECT 1 FROM crm.t WHERE t.v = 1) \
             ORDER BY u.v",
        ),
        (
            "SELECT t.v FROM (SELECT * FROM sales.t, crm.t) t ORDER BY t.v",
            "SELECT t.v FROM (SELECT * FROM sales.t, crm.t) t ORDER BY t.v",
        ),
    ]);
}

#[test]
fn common_table_expressions_have_no_versions_where_they_are_visible() {
    let by_default = |sql: &str| rewritten_by(sql, "sales", Statements::ReadOnly);
    for sql in [
        "WITH t AS (SELECT 1 v) SELECT * FROM t VERSION AS OF 1",
        "WITH t AS (SELECT 1 v) SELECT * FROM T VERSION AS OF 1",
        "WITH t AS (SELECT 1 v), u AS (SELECT * FROM t VERSION AS OF 1) SELECT * FROM u",
        "WITH t AS (SELECT 1 v) SELECT * FROM (SELECT * FROM t VERSION AS OF 1) x",
        "WITH t AS (SELECT 1 v) SELECT 1 WHERE EXISTS (SELECT * FROM t VERSION AS OF 1)",
        "WITH t AS (SELECT 1 v) (SELECT 1) UNION (SELECT v FROM t VERSION AS OF 1)",
        "WITH RECURSIVE t AS (SELECT 1 v UNION ALL SELECT v FROM t VERSION AS OF 1) SELECT * FROM t",
    ] {
        let error = by_default(sql).expect_err(sql).to_string();
        assert!(error.contains("common table expression"), "{sql}: {error}");
    }
    for (sql, expected) in [
        // Its own body does not see it, nor does an earlier one or a query beside it.
        (
            "WITH t AS (SELECT * FROM t VERSION AS OF 1) SELECT * FROM t",
            r#"WITH t AS (SELECT * FROM "sales@t=1".t) SELECT * FROM t"#,
        ),
        (
            "WITH u AS (SELECT * FROM t VERSION AS OF 1), t AS (SELECT 1 AS v) SELECT * FROM u, t",
            r#"WITH u AS (SELECT * FROM "sales@t=1".t), t AS (SELECT 1 AS v) SELECT * FROM u, t"#,
        ),
        (
            "SELECT * FROM (WITH t AS (SELECT 1 AS v) SELECT * FROM t) x, t VERSION AS OF 1",
            r#"SELECT * FROM (WITH t AS (SELECT 1 AS v) SELECT * FROM t) x, "sales@t=1".t"#,
        ),
        // A qualified name is never one.
        (
            "WITH t AS (SELECT 1 AS v) SELECT * FROM sales.t VERSION AS OF 1",
            r#"WITH t AS (SELECT 1 AS v) SELECT * FROM "sales@t=1".t"#,
        ),
    ] {
        assert_eq!(by_default(sql).unwrap(), expected, "{sql}");
    }
}

#[test]
fn what_would_not_be_honoured_is_refused() {
    for (sql, why) in [
        (
            "SELECT * FROM files.t VERSION AS OF 1",
            "files is not an attached database",
        ),
        (
            "SELECT * FROM other.sales.t VERSION AS OF 1",
            "not a table of an attached database",
        ),
        (
            r#"SELECT * FROM "sales@t=3".t VERSION AS OF 1"#,
            "already names a basis",
        ),
        (
            r#"SELECT * FROM "sales@history".t VERSION AS OF 1"#,
            "already names a basis",
        ),
        (
            r#"SELECT * FROM "sales@soon".t VERSION AS OF 1"#,
            "not an attached database",
        ),
        (
            "SELECT * FROM sales.t FOR SYSTEM_TIME AS OF now()",
            "not a constant",
        ),
        (
            "SELECT * FROM sales.t FOR SYSTEM_TIME AS OF v",
            "not a constant",
        ),
        (
            "SELECT * FROM sales.t FOR SYSTEM_TIME AS OF NULL",
            "not a constant",
        ),
        (
            "SELECT * FROM sales.t FOR SYSTEM_TIME AS OF DATE '2022-12-31' - INTERVAL '1 day'",
            "not a constant",
        ),
        (
            "SELECT * FROM sales.t FOR SYSTEM_TIME AS OF (SELECT '2022-12-31')",
            "not a constant",
        ),
        (
            "SELECT * FROM sales.t FOR SYSTEM_TIME AS OF $1",
            "cannot be a parameter",
        ),
        (
            "SELECT * FROM sales.t VERSION AS OF $1",
            "cannot be a parameter",
        ),
        ("SELECT * FROM sales.t VERSION AS OF 1.5", "whole number"),
        (
            "SELECT * FROM sales.t VERSION AS OF 99999999999999999999",
            "whole number",
        ),
        (
            "SELECT * FROM sales.t FOR SYSTEM_TIME AS OF 5",
            "write VERSION AS OF",
        ),
        (
            "SELECT * FROM sales.t FOR SYSTEM_TIME AS OF 'yesterday'",
            "not a time",
        ),
        (
            "SELECT * FROM sales.t FOR SYSTEM_TIME AS OF '2022-02-30'",
            "not a time",
        ),
        (
            "SELECT * FROM sales.t FOR SYSTEM_TIME AS OF CAST('2022-12-31' AS INT)",
            "not a time",
        ),
        ("SELECT * FROM sales.t AT (VERSION => 1)", "not supported"),
        (
            "SELECT * FROM sales.t AT (TIMESTAMP => '2022-12-31') p",
            "not supported",
        ),
        (
            "SELECT * FROM sales.t BEFORE (STATEMENT => 'x')",
            "not supported",
        ),
        (
            "SELECT * FROM sales.t CHANGES(INFORMATION => DEFAULT) AT(VERSION => 1)",
            "not supported",
        ),
        (
            "SELECT * FROM sales.f VERSION AS OF 1 (2)",
            "table function",
        ),
    ] {
        refused(sql, why);
    }
}

#[test]
fn what_does_not_parse_suggests_the_right_order() {
    for sql in [
        "SELECT * FROM sales.t i VERSION AS OF 1",
        "SELECT * FROM sales.t AS i FOR SYSTEM_TIME AS OF '2022-12-31'",
        "SELECT * FROM sales.t VERSION AS OF 'x'",
        "SELECT * FROM sales.t VERSION AS OF -1",
        "SELECT * FROM sales.t FOR SYSTEM_TIME BETWEEN 1 AND 2",
        "SELECT * FROM generate_series(1, 2) VERSION AS OF 1",
        "DESCRIBE sales.t VERSION AS OF 1",
    ] {
        refused(sql, "between the table and its alias");
    }
    refused(
        "SELECT * FROM sales.t FOR VERSION AS OF 42",
        "write VERSION AS OF 42",
    );
    refused("SELEC 1", "SQL error");
    refused("SELECT 'FOR SYSTEM_TIME", "Unterminated");
}

#[test]
fn one_statement_that_reads_is_allowed() {
    for sql in [
        "SELECT 1",
        "SELECT 1;",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "VALUES (1), (2)",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE VERBOSE SELECT 1",
        "SHOW TABLES",
        "SHOW COLUMNS FROM sales.t",
        "DESCRIBE sales.t",
        "SHOW datafusion.execution.batch_size",
        "SELECT * FROM \"sales@2022-12-31\".invoice",
    ] {
        assert!(rewritten(sql).is_ok(), "{sql}: {:?}", rewritten(sql));
    }
    for (sql, why) in [
        ("", "empty"),
        (" ; ", "empty"),
        ("SELECT 1; SELECT 2", "expected one statement, got 2"),
        ("INSERT INTO sales.t VALUES (1)", "INSERT is not a query"),
        ("UPDATE sales.t SET v = 1", "UPDATE is not a query"),
        ("DELETE FROM sales.t", "DELETE is not a query"),
        ("CREATE TABLE x AS SELECT 1", "CREATE is not a query"),
        ("CREATE VIEW x AS SELECT 1", "CREATE is not a query"),
        (
            "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION 'x'",
            "CREATE is not a query",
        ),
        ("DROP TABLE sales.t", "DROP is not a query"),
        ("COPY sales.t TO 'x.csv'", "COPY is not a query"),
        (
            "SET datafusion.execution.batch_size = 1",
            "SET is not a query",
        ),
        (
            "RESET datafusion.execution.batch_size",
            "RESET is not a query",
        ),
        ("BEGIN", "BEGIN is not a query"),
        ("PREPARE p AS SELECT 1", "PREPARE is not a query"),
        ("SELECT 1 INTO x", "not a query"),
        (
            "EXPLAIN INSERT INTO sales.t VALUES (1)",
            "INSERT is not a query",
        ),
        (
            "EXPLAIN ANALYZE DELETE FROM sales.t",
            "DELETE is not a query",
        ),
        (
            "WITH x AS (INSERT INTO sales.t VALUES (1)) SELECT 1",
            "not a query",
        ),
        (
            "WITH x AS (SELECT 1) INSERT INTO sales.t SELECT * FROM x",
            "not a query",
        ),
    ] {
        refused(sql, why);
    }
    assert!(rewritten_by("DROP TABLE x", "public", Statements::Any).is_ok());
}

#[test]
fn hostile_depth_is_an_error_or_fits() {
    refused(&"EXPLAIN ".repeat(100_000), "too often");
    refused(
        &format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000)),
        "RecursionLimit",
    );
    refused(&"x".repeat(SQL_BYTES_MAX + 1), "bytes");
    let wide = format!(
        "SELECT {} FROM sales.t VERSION AS OF 1",
        vec!["v"; 20_000].join(" + ")
    );
    assert!(rewritten(&wide).is_ok());
}

#[test]
fn the_dialect_is_postgresql_but_for_versions() {
    for sql in [
        "SELECT 'a' || E'\\n' || U&'\\0041', x::int, x -> 'a', x ->> 'b', x @> y, x ~ 'r', !! 3",
        "SELECT count(*) FILTER (WHERE x) FROM t GROUP BY ROLLUP (a, b)",
        "SELECT extract('week' FROM x), interval '1' day, 1_000, x NOTNULL, a # b, a << 2, 2 ^ 3",
        "SELECT json_object('a': 1), array[1, 2][1], x COLLATE \"C\", x[1:2] FROM t",
        "EXPLAIN (ANALYZE) SELECT 1 /* a /* nested */ comment */",
        "SELECT a = b AND NOT c OR d BETWEEN 1 AND 2 * 3 + 4",
        "SELECT FROM t AS interval",
    ] {
        let ours = Parser::parse_sql(&TimeTravelDialect::default(), sql);
        let theirs = Parser::parse_sql(&PostgreSqlDialect {}, sql);
        assert_eq!(ours, theirs, "{sql}");
        assert!(ours.is_ok(), "{sql}: {ours:?}");
    }
}
