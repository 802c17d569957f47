//! Branches, their differences and merges, and the log, through the command line.

use std::fs;

use tempfile::TempDir;

use crate::support::shell::{Shell, datomfusion, sales_of};

/// A database of two tracks at t=2, and the folder that it lies in.
fn tracks() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("db").display().to_string();
    datomfusion(&["create", &url]).ok();
    let schema = r#"[
        {:db/ident :track/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one
         :db/unique :db.unique/identity}
        {:db/ident :track/price :db/valueType :db.type/bigdec :db/cardinality :db.cardinality/one}]"#;
    transact(&folder, &url, schema);
    transact(
        &folder,
        &url,
        r#"[{:track/name "Ava" :track/price 0.99M} {:track/name "Eve" :track/price 1.99M}]"#,
    );
    (folder, url)
}

fn transact(folder: &TempDir, url: &str, text: &str) {
    let file = folder.path().join("tx.edn");
    fs::write(&file, text).unwrap();
    datomfusion(&["transact", url, &file.display().to_string()]).ok();
}

fn price(url: &str, name: &str) -> String {
    let query = format!("[:find ?p . :where [?e :track/name \"{name}\"] [?e :track/price ?p]]");
    let answer = datomfusion(&["q", "--db", url, "--format", "json", &query]).ok();
    answer.trim().to_owned()
}

#[test]
fn a_branch_is_edited_compared_and_merged_and_a_conflict_is_shown() {
    let (folder, url) = tracks();
    let dev = format!("{url}#dev");
    datomfusion(&["branch", &url, "dev"]).ok();
    transact(
        &folder,
        &dev,
        r#"[{:track/name "Ava" :track/price 1.29M} {:track/name "Zoe"}]"#,
    );
    assert_eq!(price(&url, "Ava"), "0.99", "main stays as it is");
    let diff = datomfusion(&["diff", &url, "#main", "#dev"]).ok();
    for line in [
        "- [",
        ":track/price 0.99",
        "+ [",
        ":track/price 1.29",
        "Zoe",
    ] {
        assert!(diff.contains(line), "{diff}");
    }
    let json = datomfusion(&["diff", &url, "t=2", "#dev", "--format", "json"]).ok();
    assert_eq!(
        json.lines()
            .filter(|line| line.contains("track/price"))
            .count(),
        2,
        "{json}"
    );

    transact(&folder, &url, r#"[{:track/name "Ava" :track/price 1.49M}]"#);
    let refused = datomfusion(&["merge", &url, "dev"]);
    assert!(
        refused.out.contains("conflict") && refused.out.contains("1.29"),
        "{}",
        refused.out
    );
    assert!(refused.failed(1).contains("nothing was merged"));
    assert_eq!(price(&url, "Zoe"), "null");

    let merged = datomfusion(&["merge", &url, "dev", "--strategy", "theirs"]).ok();
    assert!(merged.contains("merged as 4-"), "{merged}");
    assert_eq!(price(&url, "Ava"), "1.29");
    let again = datomfusion(&["merge", &url, "dev"]).ok();
    assert!(again.contains("up to date"), "{again}");
    let forward = datomfusion(&["merge", &dev, "main"]).ok();
    assert!(
        forward.contains("fast-forward") || forward.contains("merged"),
        "{forward}"
    );
    assert_eq!(price(&dev, "Ava"), "1.29");

    let graph = datomfusion(&["log", &url, "--graph"]).ok();
    assert!(
        graph.contains("(main)") && graph.contains("(dev)"),
        "{graph}"
    );
    assert!(graph.lines().any(|line| line.starts_with("| *")), "{graph}");
    datomfusion(&["verify", &url, "--deep"]).ok();
    datomfusion(&["verify", &dev]).ok();
}

/// An auditor corrects invoice 333 on a branch of Chinook's sales while the shop corrects it, too.
#[test]
fn a_branch_of_sales_is_edited_asked_compared_and_merged() {
    let url = sales_of("sales-audited");
    let shell = Shell::new();
    let audit = format!("{url}#audit");
    shell
        .file(
            "audit.edn",
            r#"[{:invoice/id 333 :invoice/total 9.91M :invoice/billing-city "Montréal"}]"#,
        )
        .file("shop.edn", "[{:invoice/id 333 :invoice/total 8.41M}]");
    shell.ok(&["branch", &url, "audit"]);
    shell.ok(&["transact", &audit, "audit.edn"]);
    shell.ok(&["transact", &url, "shop.edn"]);

    let revenue = "SELECT
        (SELECT sum(total) FROM sales.invoice VERSION AS OF 7) AS before,
        (SELECT sum(total) FROM sales.invoice) AS shop,
        (SELECT sum(total) FROM \"sales#audit\".invoice) AS audited,
        (SELECT count(*) FROM diff('sales', 'sales#audit') WHERE a = ':invoice/total') AS changes";
    let db = format!("sales={url}");
    let rows = shell.rows(&[&db], revenue);
    assert_eq!(
        serde_json::to_string(&rows).unwrap(),
        "[[2328.6,2328.1,2329.6,2]]"
    );
    let diff = shell.ok(&["diff", &url, "#main", "#audit"]);
    for part in ["8.41", "9.91", "Ottawa", "Montréal"] {
        assert!(diff.contains(part), "{part} in {diff}");
    }

    let refused = shell.run(&["merge", &url, "audit"]);
    for part in [":invoice/total", "8.91", "8.41", "9.91"] {
        assert!(refused.out.contains(part), "{part} in {}", refused.out);
    }
    assert!(!refused.out.contains("Montréal"), "only one side moved it");
    refused.failed(1);
    shell.ok(&["merge", &url, "audit", "--strategy", "theirs"]);
    let rows = shell.rows(&[&db], revenue);
    assert_eq!(
        serde_json::to_string(&rows).unwrap(),
        "[[2328.6,2329.6,2329.6,0]]"
    );
    let city = "SELECT billing_city FROM sales.invoice WHERE id = 333";
    assert_eq!(shell.rows(&[&db], city), [["Montréal"]]);
    shell.ok(&["verify", &url, "--deep"]);
}

#[test]
fn branches_are_listed_deleted_restored_and_renamed() {
    let (_folder, url) = tracks();
    let old = format!("{url}@t=1");
    datomfusion(&["branch", &old, "early"]).ok();
    let list = datomfusion(&["branch", &url]).ok();
    assert_eq!(list.lines().count(), 2, "{list}");
    assert!(list.contains("early  1-"), "{list}");
    datomfusion(&["branch", &url, "early"]).failed(1);
    datomfusion(&["branch", &url, "--delete", "early"]).ok();
    assert_eq!(datomfusion(&["branch", &url]).ok().lines().count(), 1);
    let gone = datomfusion(&["stats", &format!("{url}#early")]).failed(1);
    assert!(gone.contains("deleted"), "{gone}");
    datomfusion(&["branch", &url, "--restore", "early"]).ok();
    datomfusion(&["branch", &url, "--rename", "early", "first"]).ok();
    assert_eq!(price(&format!("{url}#first"), "Ava"), "null");
    datomfusion(&["branch", &url, "../x", "--delete", "y"]).failed(2);
    // Only a new branch begins at a basis, and a graph shows all.
    for arguments in [&["branch", &old, "--all"][..], &["log", &old, "--graph"]] {
        datomfusion(arguments).failed(2);
    }
    datomfusion(&["branch", &old, "--delete", "first"]).failed(2);
}

#[test]
fn the_log_and_the_history_of_an_entity_are_printed() {
    let (folder, url) = tracks();
    transact(&folder, &url, r#"[{:track/name "Ava" :track/price 1.29M}]"#);
    let log = datomfusion(&["log", &url]).ok();
    let first: Vec<&str> = log
        .lines()
        .map(|line| line.split("  ").next().unwrap())
        .collect();
    assert_eq!(first, ["t=3", "t=2", "t=1", "t=0"]);
    assert_eq!(
        datomfusion(&["log", &url, "-n", "1", "--data"])
            .ok()
            .lines()
            .count(),
        4
    );
    let json = datomfusion(&["log", &url, "--format", "json"]).ok();
    let newest: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(newest["t"], 3);
    assert_eq!(newest["datoms"], 3);
    let history = datomfusion(&["history", &url, "[:track/name \"Ava\"]"]).ok();
    let lines: Vec<String> = history
        .lines()
        .map(|line| {
            line.split(' ')
                .filter(|part| !part.starts_with('['))
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    assert_eq!(
        lines,
        [
            "t=2",
            "+ :track/name \"Ava\"]",
            "+ :track/price 0.99M]",
            "t=3",
            "- :track/price 0.99M]",
            "+ :track/price 1.29M]"
        ]
    );
    let with = folder.path().join("with.edn");
    fs::write(&with, r#"[{:track/name "Ava" :track/price 9M}]"#).unwrap();
    let with = with.display().to_string();
    let sql = "SELECT price FROM s.track WHERE name = 'Ava'";
    let db = format!("s={url}");
    let answer = datomfusion(&["sql", "--db", &db, "--with", &with, "--format", "csv", sql]).ok();
    assert!(answer.contains("9.00"), "{answer}");
    let query = "[:find ?p . :where [?e :track/name \"Ava\"] [?e :track/price ?p]]";
    let answer = datomfusion(&["q", "--db", &url, "--with", &with, query]).ok();
    assert!(answer.contains('9'), "{answer}");
    assert_eq!(price(&url, "Ava"), "1.29", "nothing is stored");
}
