//! What the command line says, above all when the request cannot be right.

use crate::support::shell::{ask, chinook, datomfusion};

#[test]
fn errors_say_what_there_is_instead() {
    let error = ask("SELECT 1 FROM sales.invoise").failed(1);
    assert!(
        error.contains("invoise") && error.contains("invoice_line"),
        "{error}"
    );
    let error = ask("SELECT 1 FROM shop.invoice").failed(1);
    assert!(
        error.contains("shop") && error.contains("catalog"),
        "{error}"
    );
    let error = ask("SELECT nothing FROM sales.invoice").failed(1);
    assert!(error.contains("nothing"), "{error}");
    let error = ask("SELECT 1 FROM \"sales@t=99\".invoice").failed(1);
    assert!(error.contains("t=99"), "{error}");
    let error = ask("SELECT 1 FROM \"sales@history\".invoice").failed(1);
    assert!(error.contains("datoms_history"), "{error}");
}

#[test]
fn a_version_clause_that_cannot_be_honoured_is_refused() {
    for sql in [
        "WITH c AS (SELECT 1 x) SELECT * FROM c VERSION AS OF 1",
        "SELECT * FROM \"sales@t=1\".invoice VERSION AS OF 1",
        "SELECT * FROM sales.invoice FOR SYSTEM_TIME AS OF now()",
        "SELECT * FROM sales.invoice VERSION AS OF 'x'",
        "DROP TABLE sales.invoice",
    ] {
        ask(sql).failed(1);
    }
}

#[test]
fn overflow_is_an_error_and_never_a_wrap() {
    for sql in [
        "SELECT 9223372036854775807 + 1",
        "SELECT sum(x) FROM (VALUES (9223372036854775807), (1)) t(x)",
        "SELECT (id + 9223372036854775807) * 2 FROM sales.invoice",
    ] {
        let error = ask(sql).failed(1);
        assert!(error.to_lowercase().contains("overflow"), "{error}");
    }
}

#[test]
fn an_address_that_is_not_there_is_named() {
    let error = datomfusion(&["stats", "/nowhere/at/all"]).failed(1);
    assert!(error.contains("/nowhere/at/all"), "{error}");
    let error = datomfusion(&["stats", "gopher://x/y"]).failed(1);
    assert!(
        error.contains("gopher") && error.contains("s3://"),
        "{error}"
    );
    assert_eq!(datomfusion(&["sql", "--nonsense"]).code, 2);
}

#[test]
fn a_refused_transaction_exits_with_one_and_names_the_form() {
    let (catalog, _) = chinook();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.edn");
    for (text, parts) in [
        (
            "[{:artist/id \"seven\"}]",
            &[":artist/id", "long", "\"seven\""][..],
        ),
        ("[{:artist/nam \"x\"}]", &[":artist/nam", ":artist/name"]),
        ("[{:artist/id 1\n  :artist/name]", &["line 2", "^"]),
    ] {
        std::fs::write(&file, text).unwrap();
        let error = datomfusion(&["transact", catalog, file.to_str().unwrap()]).failed(1);
        for part in parts {
            assert!(error.contains(part), "{error}\nlacks {part}");
        }
    }
}

#[test]
fn datoms_are_printed_as_edn() {
    let (_, sales) = chinook();
    let out = datomfusion(&["datoms", sales, "--index", "avet", ":invoice/id", "7"]).ok();
    assert_eq!(out.lines().count(), 1, "{out}");
    assert!(
        out.starts_with('[') && out.contains(":invoice/id 7"),
        "{out}"
    );
}

#[test]
fn a_csv_file_joins_beside_a_database() {
    let (_, sales) = chinook();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("capitals.csv");
    std::fs::write(&file, "country,capital\nFrance,Paris\nChile,Santiago\n").unwrap();
    let out = datomfusion(&[
        "sql",
        "--db",
        &format!("sales={sales}"),
        "--table",
        &format!("capitals={}", file.display()),
        "--format",
        "csv",
        "SELECT capital, count(*) n FROM sales.customer c JOIN capitals ON c.country = capitals.country \
         GROUP BY 1 ORDER BY 1",
    ])
    .ok();
    assert_eq!(out, "capital,n\nParis,5\nSantiago,1\n");
}
