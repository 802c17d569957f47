//! Garbage collection and purges, through the command line.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::support::shell::datomfusion;

/// Text that neither compresses nor occurs by chance.
fn canary(mut seed: u64) -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";
    let mut letter = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(letters[usize::try_from(seed >> 58).unwrap()])
    };
    (0..900).map(|_| letter()).collect()
}

/// The bytes of every file below a folder.
fn bytes(folder: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(bytes(&path));
        } else {
            found.push(fs::read(path).unwrap());
        }
    }
    found.sort();
    found
}

/// Whether a text lies anywhere below a folder; of a part of it, because the ends may be packed away.
fn holds(folder: &Path, text: &str) -> bool {
    let needle = &text.as_bytes()[100..132];
    let holds = |bytes: &Vec<u8>| bytes.windows(needle.len()).any(|window| window == needle);
    bytes(folder).iter().any(holds)
}

fn transact(folder: &TempDir, url: &str, text: &str) {
    let file = folder.path().join("tx.edn");
    fs::write(&file, text).unwrap();
    datomfusion(&["transact", url, &file.display().to_string()]).ok();
    fs::remove_file(file).unwrap();
}

/// Says so much that a checkpoint is due: texts of the numbers `first..first + 50`.
fn say_much(folder: &TempDir, url: &str, first: u64) {
    let mut said = String::from("[");
    for n in first..first + 50 {
        let _ = write!(said, "{{:n/id {n} :n/text \"{}\"}}", canary(n));
    }
    said.push(']');
    transact(folder, url, &said);
}

/// A database of a hundred texts at t=3, with a checkpoint at t=2 and at t=3.
fn texts() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("db").display().to_string();
    datomfusion(&["create", &url]).ok();
    let schema = "[
        {:db/ident :n/id :db/valueType :db.type/long :db/cardinality :db.cardinality/one
         :db/unique :db.unique/identity}
        {:db/ident :n/text :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]";
    transact(&folder, &url, schema);
    say_much(&folder, &url, 0);
    say_much(&folder, &url, 50);
    (folder, url)
}

fn count(url: &str) -> String {
    let query = "[:find (count ?e) . :where [?e :n/text]]";
    let answer = datomfusion(&["q", "--db", url, "--format", "json", query]).ok();
    answer.trim().to_owned()
}

fn gc(url: &str, flags: &[&str]) -> String {
    let mut arguments = vec!["gc", url];
    arguments.extend(flags);
    datomfusion(&arguments).ok()
}

#[test]
fn what_a_deleted_branch_held_goes_after_the_grace() {
    let (folder, url) = texts();
    datomfusion(&["branch", &url, "dev"]).ok();
    let dev = format!("{url}#dev");
    say_much(&folder, &dev, 1000);
    datomfusion(&["branch", &url, "--delete", "dev"]).ok();
    let before = bytes(folder.path());

    let would = gc(&url, &["--dry-run", "--grace", "0s", "--keep", "newest"]);
    assert!(
        would.starts_with("dry run: nothing is changed\n"),
        "{would}"
    );
    assert_eq!(bytes(folder.path()), before);
    // The branch was deleted within this grace.
    let early = gc(&url, &["--grace", "1d"]);
    assert!(early.contains("branches     2"), "{early}");
    assert!(holds(folder.path(), &canary(1007)));
    datomfusion(&["branch", &url, "--restore", "dev"]).ok();
    assert_eq!(count(&dev), "150");
    datomfusion(&["branch", &url, "--delete", "dev"]).ok();

    let did = gc(&url, &["--grace", "0s", "--keep", "newest"]);
    assert!(did.contains("checkpoints  1 kept, 1 dropped"), "{did}");
    let deleted = did.lines().find(|line| line.starts_with("deleted"));
    let deleted = deleted.unwrap().split_whitespace().nth(1);
    assert_ne!(deleted, Some("0"), "{did}");
    assert!(!holds(folder.path(), &canary(1007)), "{did}");
    let expired = datomfusion(&["branch", &url, "--restore", "dev"]).failed(1);
    assert!(expired.contains("free for a new branch"), "{expired}");
    datomfusion(&["verify", &url, "--deep"]).ok();
    for (t, texts) in [(1, "null"), (2, "50"), (3, "100")] {
        assert_eq!(count(&format!("{url}@t={t}")), texts);
    }
}

#[test]
fn what_is_purged_is_gone_and_its_bytes_go_with_a_collection() {
    let (folder, url) = texts();
    datomfusion(&["branch", &url, "dev"]).ok();
    transact(&folder, &url, "[[:db/retract [:n/id 8] :n/text]]");
    let before = bytes(folder.path());
    let seven = ["purge", &url, "--entity", "[:n/id 7]"];
    let would = datomfusion(&[&seven[..], &["--dry-run"]].concat()).ok();
    assert!(
        would.starts_with("dry run: would purge 2 datoms of 1 "),
        "{would}"
    );
    assert_eq!(bytes(folder.path()), before);
    let did = datomfusion(&seven).ok();
    assert!(
        did.starts_with("purged 2 datoms of 1 transactions from branch main"),
        "{did}"
    );
    assert!(did.contains("branch dev holds such facts as well"), "{did}");
    assert!(did.contains("datomfusion gc "), "{did}");
    assert_eq!(count(&format!("{url}@t=2")), "49");
    assert_eq!(count(&format!("{url}#dev")), "100");
    let refused = datomfusion(&["merge", &url, "dev"]).ok();
    assert!(refused.contains("up to date"), "{refused}");

    let dev = format!("{url}#dev");
    let did = datomfusion(&["purge", &dev, "--entity", "[:n/id 7]"]).ok();
    assert!(!did.contains("as well"), "{did}");
    // What was retracted is found by a name that it had.
    let old = format!("{url}@t=2");
    let text = format!("\"{}\"", canary(8));
    let did = datomfusion(&["purge", &old, "--fact", "[:n/id 8]", ":n/text", &text]).ok();
    assert!(did.starts_with("purged 2 datoms of 2 "), "{did}");
    let did = datomfusion(&["purge", &dev, "--fact", "[:n/id 8]", ":n/text", &text]).ok();
    assert!(did.starts_with("purged 1 datoms of 1 "), "{did}");
    let none = datomfusion(&["purge", &url, "--before", "4"]).ok();
    assert_eq!(none, "branch main holds no such facts\n");

    for (n, held) in [(7, true), (8, true), (9, true)] {
        assert_eq!(holds(folder.path(), &canary(n)), held, "{n}");
    }
    gc(&url, &["--grace", "0s"]);
    for (n, held) in [(7, false), (8, false), (9, true)] {
        assert_eq!(holds(folder.path(), &canary(n)), held, "{n}");
    }
    for branch in [&url, &dev] {
        datomfusion(&["verify", branch, "--deep"]).ok();
        assert_eq!(count(branch), "98");
        assert_eq!(count(&format!("{branch}@t=2")), "48");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (folder, url) = texts();
    let before = bytes(folder.path());
    let refused = datomfusion(&["gc", &format!("{url}#main")]).failed(2);
    assert!(refused.contains("all branches at once"), "{refused}");
    let refused = datomfusion(&["gc", &url, "--grace", "5"]).failed(2);
    assert!(refused.contains("write 90s, 15m, 2h or 1d"), "{refused}");
    datomfusion(&["purge", &url]).failed(2);
    datomfusion(&["purge", &url, "--before", "2", "--attribute", ":n/id"]).failed(2);
    let refused = datomfusion(&["purge", &url, "--entity", "[:n/id 5000]"]).failed(1);
    assert!(refused.contains("there is no entity"), "{refused}");
    let refused = datomfusion(&["purge", &url, "--attribute", ":db/ident"]).failed(1);
    assert!(refused.contains("belongs to the bootstrap"), "{refused}");
    assert_eq!(bytes(folder.path()), before);
    let empty = tempfile::tempdir().unwrap();
    let nothing = empty.path().join("none").display().to_string();
    datomfusion(&["gc", &nothing, "--dry-run"]).failed(1);
}
