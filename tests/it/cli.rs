//! The command line: what it prints, how it fails, and that it says so usefully.

use serde_json::json;

use crate::support::shell::{Shell, ask, chinook, datomfusion};

const SCHEMA: &str = r"[
 {:db/ident :person/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one
  :db/unique :db.unique/identity}
 {:db/ident :person/born :db/valueType :db.type/instant :db/cardinality :db.cardinality/one}
 {:db/ident :person/height :db/valueType :db.type/bigdec :db/cardinality :db.cardinality/one}
 {:db/ident :person/friend :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}
 {:db/ident :person/tag :db/valueType :db.type/keyword :db/cardinality :db.cardinality/many}
 {:db/ident :audit/by :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
]";

const PEOPLE: &str = r#"[
 {:db/id "datomic.tx" :db/txInstant #inst "2030-01-01" :audit/by "Eve"}
 {:db/id "ada" :person/name "Ada" :person/born #inst "1815-12-10" :person/height 1.650M
  :person/friend "bob" :person/tag [:math :poetry]}
 {:db/id "bob" :person/name "Bob, \"the\" Builder" :person/friend "ada"}
]"#;

/// A shell with a database of two people at `./people`.
fn people() -> Shell {
    let shell = Shell::new();
    shell.file("schema.edn", SCHEMA).file("people.edn", PEOPLE);
    shell.ok(&["create", "people"]);
    shell.ok(&["transact", "people", "schema.edn", "people.edn"]);
    shell
}

fn sql<'a>(format: &'a str, query: &'a str) -> Vec<&'a str> {
    vec!["sql", "--db", "db=people", "--format", format, query]
}

const TWO: &str = "SELECT name, born, height, tag FROM db.person ORDER BY name";

#[test]
fn rows_are_printed_in_every_notation() {
    let shell = people();
    let table = "\
+--------------------+----------------------+--------+------------------+
| name               | born                 | height | tag              |
+--------------------+----------------------+--------+------------------+
| Ada                | 1815-12-10T00:00:00Z | 1.65   | [:math, :poetry] |
| Bob, \"the\" Builder |                      |        |                  |
+--------------------+----------------------+--------+------------------+
";
    assert_eq!(shell.ok(&sql("table", TWO)), table);
    assert_eq!(
        shell.ok(&sql("json", TWO)),
        r#"[{"name":"Ada","born":"1815-12-10T00:00:00Z","height":1.65,"tag":[":math",":poetry"]},
 {"name":"Bob, \"the\" Builder","born":null,"height":null,"tag":null}]
"#
    );
    assert_eq!(
        shell.ok(&sql(
            "ndjson",
            "SELECT count(*) AS n, NULL AS nothing FROM db.person"
        )),
        "{\"n\":2,\"nothing\":null}\n"
    );
    assert_eq!(
        shell.ok(&sql("csv", TWO)),
        "name,born,height,tag\n\
         Ada,1815-12-10T00:00:00Z,1.65,\"[\"\":math\"\",\"\":poetry\"\"]\"\n\
         \"Bob, \"\"the\"\" Builder\",,,\n"
    );
    assert_eq!(
        shell.ok(&sql(
            "edn",
            "SELECT name, born, height FROM db.person ORDER BY name LIMIT 1"
        )),
        "[{:name \"Ada\", :born #inst \"1815-12-10T00:00:00Z\", :height 1.65M}]\n"
    );
    assert_eq!(shell.ok(&sql("json", "SELECT 1 WHERE false")), "[]\n");
}

#[test]
fn a_repeated_column_gets_a_number() {
    let query = "SELECT a.name, b.name FROM db.person a JOIN db.person_x_friend x ON x.db_id = a.db_id \
                 JOIN db.person b ON x.friend = b.db_id WHERE a.name = 'Ada'";
    assert_eq!(
        people().ok(&sql("json", query)),
        "[{\"name\":\"Ada\",\"name_2\":\"Bob, \\\"the\\\" Builder\"}]\n"
    );
}

#[test]
fn a_statement_may_come_from_a_file_or_a_pipe() {
    let shell = people();
    shell.file(
        "q.sql",
        "-- how many\nSELECT count(*) AS n FROM db.person;\n",
    );
    let expected = "[{\"n\":2}]\n";
    let before = ["sql", "--db", "db=people", "--format", "json"];
    assert_eq!(
        shell.ok(&[&before[..], &["-f", "q.sql"]].concat()),
        expected
    );
    let piped = shell.run_with_input(&before, "SELECT count(*) AS n FROM db.person");
    assert_eq!(piped.ok(), expected);
    // The text begins with a hyphen, and is no option.
    assert_eq!(
        shell.ok(&sql("json", "-- why not\nSELECT 2 AS n")),
        expected
    );
}

#[test]
fn datoms_are_printed_as_edn() {
    let shell = people();
    let ada = shell.ok(&["datoms", "people", "[:person/name \"Ada\"]", ":person/tag"]);
    let tags: Vec<&str> = ada.lines().collect();
    assert_eq!(tags.len(), 2, "{ada}");
    assert!(
        tags[0].ends_with(" :person/tag :math 4398046511106 true]"),
        "{ada}"
    );
    let by_value = [
        "datoms",
        "people",
        "--index",
        "avet",
        ":person/name",
        "\"Ada\"",
    ];
    assert_eq!(shell.ok(&by_value).lines().count(), 1);
    let earlier = ["datoms", "people@t=1", "--index", "aevt", ":person/name"];
    assert_eq!(shell.ok(&earlier), "");
    let said = shell.ok(&["datoms", "people", "--index", "log", "2"]);
    assert!(
        said.lines()
            .all(|line| line.ends_with(" 4398046511106 true]")),
        "{said}"
    );
}

#[test]
fn stats_count_what_there_is() {
    let stats = people().ok(&["stats", "people"]);
    assert!(
        stats.contains("basis      t=2, 2030-01-01T00:00:00Z"),
        "{stats}"
    );
    assert!(stats.contains("2  person"), "{stats}");
    assert!(
        stats.contains("this took 1 GETs"),
        "opening reads one object:\n{stats}"
    );
    assert!(stats.contains("found in memory: "), "{stats}");
    assert!(!stats.contains("on disk"), "the store is here:\n{stats}");
}

#[test]
fn the_cache_on_disk_is_shown_and_cleared() {
    let shell = Shell::new();
    shell.file("notes.txt", "x");
    let at = shell.dir().to_str().unwrap();
    for (arguments, does) in [
        (vec!["cache", at], "holds"),
        (vec!["cache", at, "--clear"], "removed"),
    ] {
        let said = shell.ok(&arguments);
        assert!(
            said.contains(&format!("{does} 0 frames, 0 bytes")),
            "{said}"
        );
    }
    assert!(shell.dir().join("notes.txt").exists());
    let said = shell.fails(&["cache", "nowhere"]);
    assert!(said.contains("nowhere is not a directory"), "{said}");
    assert!(!shell.dir().join("nowhere").exists());
}

#[test]
fn a_refused_file_names_itself_the_form_and_what_was_committed() {
    let shell = people();
    shell.file("good.edn", "[{:person/name \"Carl\"}]").file(
        "bad.edn",
        "[{:person/name \"Dora\"}\n {:person/nmae \"Emil\"}]",
    );
    let said = shell.run(&["transact", "people", "good.edn", "bad.edn"]);
    assert!(said.out.starts_with("good.edn: t=3, "), "{said:?}");
    let said = said.failed(1);
    for part in [
        "bad.edn",
        ":person/nmae",
        "did you mean :person/name",
        "line 2",
        "committed before: good.edn",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let names = shell.rows(
        &["db=people"],
        "SELECT name FROM db.person ORDER BY 1 DESC LIMIT 1",
    );
    assert_eq!(names, [[json!("Carl")]]);
}

#[test]
fn a_typing_error_in_the_last_file_commits_nothing() {
    let shell = people();
    shell
        .file("good.edn", "[{:person/name \"Carl\"}]")
        .file("open.edn", "[{:person/name\n  \"Dora\"");
    let said = shell.fails(&["transact", "people", "good.edn", "open.edn"]);
    assert!(
        said.starts_with("error: open.edn: ") && said.contains("line"),
        "{said}"
    );
    assert_eq!(
        shell.rows(&["db=people"], "SELECT max(t) FROM db.transactions"),
        [[json!(2)]]
    );
}

#[test]
fn errors_say_what_there_is() {
    let shell = people();
    let ask = |query: &str| shell.fails(&["sql", "--db", "db=people", query]);
    for (query, parts) in [
        (
            "SELECT * FROM bd.person",
            &["there is no database bd", "attached are: db"][..],
        ),
        (
            "SELECT * FROM db.persons",
            &["no table persons", "t=2", "person, ", "datoms"],
        ),
        (
            "SELECT * FROM person",
            &["there is no table person", "db.TABLE"],
        ),
        (
            "SELECT * FROM \"db@t=9\".person",
            &["db@t=9", "no transaction t=9"],
        ),
        ("SELECT * FROM \"db@whenever\".person", &["whenever"]),
        ("SELECT * FROM \"db#dev\".person", &["branch dev"]),
        ("SELECT * FROM \"db@history\".person", &["datoms_history"]),
        ("SELECT nmae FROM db.person", &["nmae"]),
        ("SELECT name + 1 FROM db.person", &[""]),
        ("DELETE FROM db.person", &["transact"]),
        ("SELECT 1; SELECT 2", &["one statement"]),
        (
            "SELECT 9223372036854775807 + db_id FROM db.person",
            &["verflow"],
        ),
    ] {
        let said = ask(query);
        for part in parts {
            assert!(said.contains(part), "{query}: {part} in {said}");
        }
    }
    for (arguments, part) in [
        (
            &["datoms", "people", "--index", "aevt", ":person/nmae"][..],
            "did you mean :person/name",
        ),
        (
            &["datoms", "people", "--index", "avet", ":person/name", "12"],
            "expected a :db.type/string",
        ),
        (
            &["datoms", "people", "--index", "avet", ":person/height"],
            "does not lie in avet",
        ),
        (&["datoms", "nowhere"], "no database at"),
        (&["sql", "--db", "db=smb://x/y", "SELECT 1"], "smb:"),
        (
            &["sql", "--db", "db=people@2022-13-45", "SELECT 1"],
            "2022-13-45",
        ),
        (
            &["sql", "--table", "t=nothing.csv", "SELECT 1"],
            "nothing.csv",
        ),
        (&["create", "people"], "already exists"),
        (&["transact", "people", "nothing.edn"], "nothing.edn"),
    ] {
        let said = shell.fails(arguments);
        assert!(said.contains(part), "{arguments:?}: {part} in {said}");
    }
}

#[test]
fn what_makes_no_sense_exits_with_2() {
    let shell = people();
    for arguments in [
        &["frobnicate"][..],
        &["sql", "--db", "people", "SELECT 1"],
        &["sql", "--format", "xml", "SELECT 1"],
        &["sql", "--db", "db=people", ""],
        &["transact", "people@t=1", "schema.edn"],
        &["create", "other@t=1"],
        &["datoms", "people", "--indx", "avet"],
        &["datoms", "people", "1", "2", "3", "4", "5"],
    ] {
        let answer = shell.run(arguments);
        assert_eq!(answer.code, 2, "{arguments:?}: {answer:?}");
    }
}

#[test]
fn a_damaged_head_is_an_error_and_not_a_panic() {
    let shell = people();
    let head = shell.dir().join("people/heads/main");
    let mut bytes = std::fs::read(&head).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&head, bytes).unwrap();
    let said = shell.fails(&["stats", "people"]);
    assert!(said.contains("corrupt"), "{said}");
}

#[test]
fn transactions_show_what_was_said_about_them() {
    let rows = people().rows(
        &["db=people"],
        "SELECT t, tx_instant, audit_by FROM db.transactions WHERE audit_by IS NOT NULL",
    );
    assert_eq!(
        rows,
        [[json!(2), json!("2030-01-01T00:00:00Z"), json!("Eve")]]
    );
}

#[test]
fn parquet_goes_through_a_file() {
    let shell = people();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_datomfusion"))
        .args(sql("parquet", "SELECT db_id, name FROM db.person"))
        .current_dir(shell.dir())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    std::fs::write(shell.dir().join("p.parquet"), output.stdout).unwrap();
    shell.file("heights.csv", "who,cm\nAda,165\n");
    let joined = shell.ok(&[
        "sql",
        "--db",
        "db=people",
        "--table",
        "p=p.parquet",
        "--table",
        "h=heights.csv",
        "--format",
        "json",
        "SELECT p.name, h.cm FROM p JOIN db.person d ON d.db_id = p.db_id JOIN h ON h.who = d.name",
    ]);
    assert_eq!(joined, "[{\"name\":\"Ada\",\"cm\":165}]\n");
}

#[test]
fn the_demo_runs_twice_and_its_advice_works() {
    let shell = Shell::new();
    let first = shell.ok(&["demo", "shop"]);
    assert!(first.contains("t=7 2025-12-31T00:00:00Z"), "{first}");
    assert!(first.contains("| Rock "), "{first}");
    let again = shell.ok(&["demo", "shop"]);
    assert!(again.contains("there already"), "{again}");
    let commands = again
        .lines()
        .filter_map(|line| line.trim().strip_prefix("datomfusion "));
    let mut ran = 0;
    for command in commands {
        // The first one opens a prompt.
        if command.contains(" '") || !command.starts_with("sql") {
            let script = format!("'{}' {command}", env!("CARGO_BIN_EXE_datomfusion"));
            let output = std::process::Command::new("sh")
                .args(["-c", &script])
                .current_dir(shell.dir())
                .output()
                .unwrap();
            assert!(
                output.status.success() && !output.stdout.is_empty(),
                "{command}: {output:?}"
            );
            ran += 1;
        }
    }
    assert!(ran >= 5, "{again}");
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

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    use std::io::{BufRead, BufReader};
    let shell = people();
    let endless = "SELECT a.e FROM db.datoms a, generate_series(1, 1000000)";
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_datomfusion"))
        .args(sql("csv", endless))
        .current_dir(shell.dir())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "e\n");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stderr, b"");
}
