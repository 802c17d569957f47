//! Copies of databases through the command line.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

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

/// A server that ends with this value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves a database for reading and writing; the server, and the address that it prints.
fn serve(shell: &Shell, database: &str) -> (Server, String) {
    let mut server = Command::new(env!("CARGO_BIN_EXE_datomfusion"))
        .args([
            "serve",
            "--sync",
            "127.0.0.1:0",
            "--write",
            "--db",
            database,
        ])
        .current_dir(shell.dir())
        .env_remove("DATOMFUSION_SYNC_TOKEN")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(server.stdout.take().unwrap());
    let server = Server(server);
    let url = said.lines().next().unwrap().unwrap();
    let name = database.split('=').next().unwrap();
    assert!(url.starts_with("ws://127.0.0.1:") && url.ends_with(&format!("/{name}")));
    (server, url)
}

#[test]
fn a_server_serves_whatever_a_store_is_asked() {
    let shell = Shell::new();
    shell.file("schema.edn", SCHEMA);
    shell.file("first.edn", "[{:bin/no 1 :bin/count 10}]");
    shell.file("second.edn", "[{:bin/no 1 :bin/count 11}]");
    shell.ok(&["create", "there"]);
    shell.ok(&["transact", "there", "schema.edn", "first.edn"]);
    let (_server, url) = serve(&shell, "stock=there");

    shell.ok(&["fetch", &url, "here"]);
    shell.ok(&["transact", &url, "second.edn"]);
    assert_eq!(counts(&shell, &url), [[1, 11]]);
    assert_eq!(counts(&shell, &format!("{url}@t=2")), [[1, 10]]);
    shell.ok(&["fetch", &url, "here"]);
    assert_eq!(counts(&shell, "here"), [[1, 11]]);
    shell.ok(&["transact", "here", "first.edn"]);
    shell.ok(&["push", "here", &url]);
    assert_eq!(counts(&shell, "there"), [[1, 10]]);

    datomfusion(&["serve", "--sync", "127.0.0.1:0", "--db", "a=./b@t=1"]).failed(2);
}

#[test]
fn what_was_read_elsewhere_is_found_on_the_disk() {
    let shell = Shell::new();
    shell.file("schema.edn", SCHEMA);
    // Counts without a pattern, so that they do not fit in the head.
    let count = |no: u64| no.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let bins = (0..20_000).map(|no| format!("{{:bin/no {no} :bin/count {}}}", count(no)));
    shell.file(
        "bins.edn",
        &format!("[{}]", bins.collect::<Vec<_>>().join(" ")),
    );
    shell.ok(&["create", "there"]);
    shell.ok(&["transact", "there", "schema.edn", "bins.edn"]);
    let (_server, url) = serve(&shell, "stock=there");
    // A temporary directory may let others write; the cache makes its own.
    let cache = shell.dir().join("cache");
    let figure = |said: &str, before: &str| -> u64 {
        let found = said
            .split(before)
            .nth(1)
            .unwrap_or_else(|| panic!("{before} in {said}"));
        found.split_whitespace().next().unwrap().parse().unwrap()
    };
    let stats = || {
        let run = Command::new(env!("CARGO_BIN_EXE_datomfusion"))
            .args(["stats", &url])
            .env("DATOMFUSION_CACHE_DIR", &cache)
            .env_remove("DATOMFUSION_CACHE_BYTES")
            .output()
            .unwrap();
        let said = String::from_utf8(run.stdout).unwrap();
        (figure(&said, "this took"), figure(&said, "found on disk:"))
    };
    let (first, second) = (stats(), stats());
    assert!(first.0 > 1 && first.1 == 0, "{first:?}");
    assert!(second.0 == 1 && second.1 > 0, "{second:?}");
}
