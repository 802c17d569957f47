//! Copies of databases through the command line.

use crate::support::shell::{Shell, datomfusion};

const SCHEMA: &str = r#"[
    {:db/ident :bin/no :db/valueType :db.type/long :db/cardinality :db.cardinality/one
     :db/unique :db.unique/identity}
    {:db/ident :bin/count :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]"#;

/// The counts of all bins.
fn counts(shell: &Shell, url: &str) -> Vec<Vec<serde_json::Value>> {
    let sql = "SELECT no, count FROM stock.bin ORDER BY no";
    shell.rows(&[&format!("stock={url}")], sql)
}

#[test]
fn a_copy_keeps_up_and_what_has_parted_is_refused() {
    let shell = Shell::new();
    shell
        .file("schema.edn", SCHEMA)
        .file(
            "first.edn",
            "[{:bin/no 1 :bin/count 10} {:bin/no 2 :bin/count 20}]",
        )
        .file("second.edn", "[{:bin/no 1 :bin/count 11}]")
        .file("own.edn", "[{:bin/no 3 :bin/count 30}]");
    shell.ok(&["create", "there"]);
    shell.ok(&["transact", "there", "schema.edn", "first.edn"]);

    shell.ok(&["fetch", "there", "here"]);
    assert_eq!(counts(&shell, "here"), counts(&shell, "there"));
    shell.ok(&["transact", "there", "second.edn"]);
    shell.ok(&["fetch", "there", "here"]);
    assert_eq!(counts(&shell, "here"), [[1, 11], [2, 20]]);
    assert_eq!(counts(&shell, "here@t=2"), [[1, 10], [2, 20]]);
    let again = shell.ok(&["fetch", "there", "here"]);
    assert!(again.contains("up to date"), "{again}");
    shell.ok(&["verify", "here", "--deep"]);

    // A copy may say more, and hand it back; once both have, somebody must merge.
    shell.ok(&["transact", "here", "own.edn"]);
    shell.ok(&["push", "here", "there"]);
    assert_eq!(counts(&shell, "there"), [[1, 11], [2, 20], [3, 30]]);
    shell.ok(&["transact", "here", "second.edn"]);
    shell.ok(&["transact", "there", "first.edn"]);
    let parted = shell.fails(&["fetch", "there", "here"]);
    assert!(parted.contains("parted"), "{parted}");
    shell.ok(&["fetch", "there", "here#theirs"]);
    shell.ok(&["merge", "here", "theirs", "--strategy", "theirs"]);
    assert_eq!(counts(&shell, "here"), [[1, 10], [2, 20], [3, 30]]);

    shell.ok(&["create", "stranger"]);
    let stranger = shell.fails(&["fetch", "stranger", "here"]);
    assert!(stranger.contains("database"), "{stranger}");
    datomfusion(&["fetch", "only-one"]).failed(2);
}
