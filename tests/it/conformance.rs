//! Answers that independent engines gave, asked through the command line.

use std::path::Path;

use serde_json::Value as Json;

use crate::support::shell::{ask, database_of, datomfusion};

/// The rows of an answer in column order.
fn rows(text: &str) -> Vec<Vec<Json>> {
    let rows: Vec<serde_json::Map<String, Json>> = serde_json::from_str(text).unwrap();
    rows.into_iter()
        .map(|row| row.into_iter().map(|(_, value)| value).collect())
        .collect()
}

/// Numbers are equal by value, instants whether or not they name UTC.
fn same(found: &Json, expected: &Json) -> bool {
    match (found, expected) {
        (Json::Number(found), Json::Number(expected)) => {
            let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
            (found - expected).abs() <= 1e-9 * expected.abs().max(1.0)
        }
        (Json::String(found), Json::String(expected)) => {
            found == expected || found.trim_end_matches('Z') == expected
        }
        (found, expected) => found == expected,
    }
}

fn check(name: &str, sql: &str, expected: &[Vec<Json>]) {
    let found = rows(&ask(sql).ok());
    let equal = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| {
            found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| same(f, e))
        });
    assert!(
        equal,
        "{name}\n{sql}\nfound    {found:?}\nexpected {expected:?}"
    );
}

/// Facts of the Chinook data that can be counted by hand or by any other engine.
#[test]
fn chinook_answers_as_other_engines_do() {
    for (name, sql, expected) in [
        ("count", "SELECT count(*) FROM catalog.track", "[[3503]]"),
        (
            "nulls",
            "SELECT count(*), count(composer) FROM catalog.track",
            "[[3503, 2526]]",
        ),
        (
            "point",
            "SELECT name, milliseconds, unit_price FROM catalog.track WHERE id = 2500",
            r#"[["Ava Adore", 261433, 0.99]]"#,
        ),
        (
            "missing",
            "SELECT name FROM catalog.track WHERE id = 999999",
            "[]",
        ),
        (
            "revenue by year",
            "SELECT extract(year FROM date) y, count(*) n, sum(total) r FROM sales.invoice \
             GROUP BY 1 ORDER BY 1 LIMIT 2",
            "[[2021, 83, 449.46], [2022, 83, 481.45]]",
        ),
        (
            "two databases",
            "SELECT count(*) FROM sales.invoice_line l JOIN catalog.track t ON t.id = l.track_id",
            "[[2240]]",
        ),
        (
            "members",
            "SELECT count(*) FROM catalog.playlist_x_tracks",
            "[[8715]]",
        ),
        (
            "as of, beside now",
            "SELECT (SELECT sum(total) FROM sales.invoice VERSION AS OF 4) old, \
                    (SELECT sum(total) FROM \"sales@2022-12-31\".invoice) same, \
                    (SELECT sum(total) FROM sales.invoice) now",
            "[[930.91, 930.91, 2328.6]]",
        ),
    ] {
        let expected: Vec<Vec<Json>> = serde_json::from_str(expected).unwrap();
        check(name, sql, &expected);
    }
}

/// All cases of the shared file, where there is one.
#[test]
fn every_shared_sql_case_answers_right() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance/sql-chinook.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!(
            "{} is not there: only the carried cases were run",
            path.display()
        );
        return;
    };
    let cases: Vec<Json> = serde_json::from_str(&text).unwrap();
    for case in &cases {
        let expected: Vec<Vec<Json>> = serde_json::from_value(case["expected"].clone()).unwrap();
        check(
            case["name"].as_str().unwrap(),
            case["sql"].as_str().unwrap(),
            &expected,
        );
    }
    println!("{} cases", cases.len());
}

/// Revenue at the end of each year, each year's from the database as it was then, in one statement.
#[test]
fn one_statement_asks_chinook_at_the_end_of_each_year() {
    let years = (2021..=2025).map(|year| {
        format!(
            "SELECT {year} AS year, sum(total) AS revenue, count(*) AS invoices \
             FROM sales.invoice FOR SYSTEM_TIME AS OF TIMESTAMP '{year}-12-31 23:59:59'"
        )
    });
    let sql = format!(
        "{} ORDER BY year",
        years.collect::<Vec<_>>().join(" UNION ALL ")
    );
    let expected = [
        r#"[2021, 449.46, 83]"#,
        r#"[2022, 930.91, 166]"#,
        r#"[2023, 1400.49, 249]"#,
        r#"[2024, 1878.02, 332]"#,
        r#"[2025, 2328.6, 412]"#,
    ]
    .map(|row| serde_json::from_str(row).unwrap());
    check("year ends", &sql, &expected);
}

/// Datomic's own samples load unchanged, where they are.
#[test]
fn files_written_for_datomic_load_unchanged() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    if !data.exists() {
        println!("{} is not there", data.display());
        return;
    }
    let seattle = database_of(
        "seattle",
        &["schema", "data0", "data1"].map(|name| data.join(format!("seattle/seattle-{name}.edn"))),
    );
    let count = |basis: &str| {
        let db = format!("seattle={seattle}{basis}");
        let sql = "SELECT count(*) n FROM seattle.community";
        rows(&datomfusion(&["sql", "--db", &db, "--format", "json", sql]).ok())[0][0].clone()
    };
    assert_eq!(
        [count("@t=1"), count("@t=2"), count("")],
        [0, 150, 258].map(Json::from)
    );
    assert_eq!(count("@since=2"), Json::from(108));
    let count = |basis: &str| {
        let query = "[:find (count ?c) . :where [?c :community/name]]";
        let db = format!("{seattle}{basis}");
        datomfusion(&["q", "--db", &db, "--format", "json", query]).ok()
    };
    assert_eq!(
        ["@t=1", "@t=2", "", "@since=2"].map(|basis| count(basis).trim().to_owned()),
        ["null", "150", "258", "108"]
    );
    // Two times in one query of either language: what the second file brought.
    let (now, before) = (format!("$={seattle}"), format!("$before={seattle}@t=2"));
    let query = "[:find (count ?c) . :in $ $before :where [?c :community/name ?n]
                  ($before not [?c :community/name])]";
    let found = datomfusion(&[
        "q", "--db", &now, "--db", &before, "--format", "json", query,
    ]);
    assert_eq!(found.ok().trim(), "108");
    let db = format!("s={seattle}");
    let sql =
        "SELECT (SELECT count(*) FROM s.community) - (SELECT count(*) FROM \"s@t=2\".community)";
    let found = datomfusion(&["sql", "--db", &db, "--format", "json", sql]).ok();
    assert_eq!(rows(&found), [[Json::from(108)]]);
    let enums = "SELECT count(*) FROM s.idents WHERE ident LIKE ':community.type/%'";
    let found = datomfusion(&["sql", "--db", &db, "--format", "json", enums]).ok();
    assert_eq!(rows(&found), [[Json::from(8)]]);
    let movies = database_of(
        "movies",
        &["schema", "data"].map(|name| data.join(format!("movies/movies-{name}.edn"))),
    );
    let db = format!("m={movies}");
    let sql = "SELECT count(*) FROM m.movie";
    let found = datomfusion(&["sql", "--db", &db, "--format", "json", sql]).ok();
    assert_eq!(rows(&found), [[Json::from(20)]]);
}
