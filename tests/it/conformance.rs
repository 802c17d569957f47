//! SQL over the Chinook facts, through the command line: answers that are known.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::shell::{Shell, same};

const CATALOG: [&str; 2] = ["catalog-schema.edn", "catalog.edn"];
const SALES: [&str; 7] = [
    "sales-schema.edn",
    "sales-people.edn",
    "sales-2021.edn",
    "sales-2022.edn",
    "sales-2023.edn",
    "sales-2024.edn",
    "sales-2025.edn",
];

const DATABASES: [&str; 2] = ["catalog=catalog", "sales=sales"];

fn carried() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/chinook")
}

/// What lies beside the project where it is developed, and need not lie elsewhere.
fn shared(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared")
        .join(name)
}

fn create(shell: &Shell, name: &str, folder: &Path, files: &[&str]) {
    shell.ok(&["create", name]);
    let files: Vec<String> = files
        .iter()
        .map(|file| folder.join(file).to_str().unwrap().to_owned())
        .collect();
    let mut arguments = vec!["transact", name];
    arguments.extend(files.iter().map(String::as_str));
    let said = shell.ok(&arguments);
    assert_eq!(said.lines().count(), files.len(), "{said}");
}

fn chinook() -> Shell {
    let shell = Shell::new();
    create(&shell, "catalog", &carried(), &CATALOG);
    create(&shell, "sales", &carried(), &SALES);
    shell
}

fn check(shell: &Shell, sql: &str, expected: &Value) {
    let got: Vec<Value> = shell
        .rows(&DATABASES, sql)
        .into_iter()
        .map(Value::Array)
        .collect();
    let got = Value::Array(got);
    assert!(
        same(&got, expected),
        "{sql}\nexpected {expected}\ngot      {got}"
    );
}

#[test]
fn the_music_shop_answers_as_it_should() {
    let shell = chinook();
    for (sql, expected) in [
        ("SELECT count(*) FROM catalog.track", json!([[3503]])),
        (
            "SELECT name FROM catalog.genre WHERE id = 2",
            json!([["Jazz"]]),
        ),
        (
            "SELECT count(*) FROM catalog.track WHERE milliseconds BETWEEN 200000 AND 210000",
            json!([[162]]),
        ),
        (
            "SELECT count(*), count(state) FROM sales.customer",
            json!([[59, 30]]),
        ),
        (
            "SELECT a.name, count(*) FROM catalog.album b JOIN catalog.artist a ON b.artist = a.db_id \
             GROUP BY a.name ORDER BY 2 DESC, 1 LIMIT 2",
            json!([["Iron Maiden", 21], ["Led Zeppelin", 14]]),
        ),
        // No cent is lost, and none of the digits.
        ("SELECT sum(total) FROM sales.invoice", json!([[2328.60]])),
        (
            "SELECT count(DISTINCT t.db_id) FROM sales.invoice_line l \
             JOIN catalog.track t ON l.track_id = t.id",
            json!([[1984]]),
        ),
        (
            "SELECT count(*) FROM catalog.playlist_x_tracks x \
             JOIN catalog.playlist p ON x.db_id = p.db_id WHERE p.name = 'Grunge'",
            json!([[15]]),
        ),
        (
            "SELECT e.last_name, b.last_name FROM sales.employee e \
             LEFT JOIN sales.employee b ON e.reports_to = b.db_id ORDER BY e.id LIMIT 2",
            json!([["Adams", null], ["Edwards", "Adams"]]),
        ),
        // Three moments of one database in one statement.
        (
            "SELECT (SELECT count(*) FROM sales.invoice) a, \
                    (SELECT count(*) FROM \"sales@2021-12-31\".invoice) b, \
                    (SELECT count(*) FROM sales.invoice VERSION AS OF 4) c",
            json!([[412, 83, 166]]),
        ),
        (
            "SELECT count(*) FROM \"sales@since=6\".invoice",
            json!([[80]]),
        ),
        (
            "SELECT sql_table, sql_column FROM sales.attributes WHERE ident = ':invoice/billing-city'",
            json!([["invoice", "billing_city"]]),
        ),
        (
            "SELECT t FROM sales.transactions WHERE tx_instant < TIMESTAMP '2021-01-01 00:00:00' \
             ORDER BY t",
            json!([[0], [1], [2]]),
        ),
    ] {
        check(&shell, sql, &expected);
    }
}

#[test]
fn every_shared_case_is_answered() {
    let Ok(cases) = fs::read_to_string(shared("conformance/sql-chinook.json")) else {
        return;
    };
    let cases: Vec<Value> = serde_json::from_str(&cases).unwrap();
    let shell = chinook();
    for case in &cases {
        check(&shell, case["sql"].as_str().unwrap(), &case["expected"]);
    }
    assert!(!cases.is_empty());
}

#[test]
fn files_written_for_other_databases_load_unchanged() {
    let data = shared("data");
    if !data.exists() {
        println!("{} is not there", data.display());
        return;
    }
    let shell = Shell::new();
    let seattle = [
        "seattle-schema.edn",
        "seattle-data0.edn",
        "seattle-data1.edn",
    ];
    create(&shell, "seattle", &data.join("seattle"), &seattle);
    for (basis, communities) in [
        ("@t=1", 0),
        ("@t=2", 150),
        ("@t=3", 258),
        ("", 258),
        ("@since=2", 108),
    ] {
        let rows = shell.rows(
            &[&format!("s=seattle{basis}")],
            "SELECT count(*) FROM s.community",
        );
        assert_eq!(rows, [[json!(communities)]], "{basis}");
    }
    let enums = "SELECT count(*) FROM s.idents WHERE ident LIKE ':community.type/%'";
    assert_eq!(shell.rows(&["s=seattle"], enums), [[json!(8)]]);
    create(
        &shell,
        "movies",
        &data.join("movies"),
        &["movies-schema.edn", "movies-data.edn"],
    );
    assert_eq!(
        shell.rows(&["m=movies"], "SELECT count(*) FROM m.movie"),
        [[json!(20)]]
    );
}
