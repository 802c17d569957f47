//! Yesterday's files open for ever, and today's release writes the same bytes.
//!
//! `DATOMFUSION_WRITE_FIXTURE=1 cargo test --test it formats` writes `tests/fixtures/v1` anew, which is
//! right only before version 1 is released.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use datomfusion::{Connection, Index, Store, TimePoint};

use crate::support::{all, create, transact};

const SCHEMA: &str = r#"[{:db/id "datomic.tx" :db/txInstant #inst "2020-01-01"}
  {:db/ident :all/id :db/valueType :db.type/long :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
  {:db/ident :all/boolean :db/valueType :db.type/boolean :db/cardinality :db.cardinality/one}
  {:db/ident :all/double :db/valueType :db.type/double :db/cardinality :db.cardinality/one :db/index true}
  {:db/ident :all/float :db/valueType :db.type/float :db/cardinality :db.cardinality/one}
  {:db/ident :all/bigint :db/valueType :db.type/bigint :db/cardinality :db.cardinality/one}
  {:db/ident :all/bigdec :db/valueType :db.type/bigdec :db/cardinality :db.cardinality/one}
  {:db/ident :all/string :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/index true}
  {:db/ident :all/keyword :db/valueType :db.type/keyword :db/cardinality :db.cardinality/many}
  {:db/ident :all/symbol :db/valueType :db.type/symbol :db/cardinality :db.cardinality/one}
  {:db/ident :all/uuid :db/valueType :db.type/uuid :db/cardinality :db.cardinality/one}
  {:db/ident :all/instant :db/valueType :db.type/instant :db/cardinality :db.cardinality/one}
  {:db/ident :all/ref :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}
  {:db/ident :all/bytes :db/valueType :db.type/bytes :db/cardinality :db.cardinality/one}
  {:db/ident :all/uri :db/valueType :db.type/uri :db/cardinality :db.cardinality/one}
  {:db/ident :all/tuple :db/valueType :db.type/tuple :db/cardinality :db.cardinality/one
   :db/tupleTypes [:db.type/long :db.type/string]}]"#;

fn entity(n: u64) -> String {
    format!(
        r#"[{{:all/id {n} :all/boolean {} :all/double {n}.5 :all/float -{n}.25 :all/bigint {n}00000000000000000000N
            :all/bigdec {n}.{n}M :all/string "text {n} {}" :all/keyword [:a/b :c{n}] :all/symbol sym/bol{n}
            :all/uuid #uuid "00000000-0000-0000-0000-{n:012}" :all/instant #inst "2020-01-{:02}"
            :all/ref [[:all/id {}]] :all/bytes #bytes "00ff{:02x}" :all/uri "http://example.com/{n}"
            :all/tuple [{n} nil]}}]"#,
        n.is_multiple_of(2),
        if n == 3 {
            "long ".repeat(400)
        } else {
            String::new()
        },
        1 + n % 28,
        n.saturating_sub(1),
        n % 256,
    )
}

/// What the fixture holds: two checkpoints, a tail, retractions, an out-of-line value in both.
async fn write(root: &Path) {
    let store = Store::file(root).unwrap();
    let connection = create(&store, 2026).await;
    transact(&connection, SCHEMA).await;
    transact(&connection, "[{:all/id 0}]").await;
    for n in 1..24 {
        transact(&connection, &entity(n)).await;
        if n % 8 == 0 {
            transact(
                &connection,
                &format!("[[:db/retractEntity [:all/id {}]]]", n - 2),
            )
            .await;
            connection.checkpoint().await.unwrap();
        }
    }
    transact(&connection, "[[:db/add [:all/id 3] :all/string \"short\"]]").await;
    transact(&connection, &entity(3)).await;
    transact(&connection, "[[:db/retract [:all/id 5] :all/keyword]]").await;
}

/// Every object of a directory store, by key.
fn objects(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_none_or(|extension| extension != "lock") {
                let key = path.strip_prefix(root).unwrap().to_path_buf();
                found.insert(key, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

#[tokio::test]
async fn a_store_of_version_1_opens_for_ever() {
    if std::env::var_os("DATOMFUSION_WRITE_FIXTURE").is_some() {
        let _ = std::fs::remove_dir_all(fixture());
        write(&fixture()).await;
    }
    let connection = Connection::open(&Store::file(&fixture()).unwrap())
        .await
        .unwrap();
    let db = connection.db();
    assert_eq!(db.basis_t(), 30);
    db.verify().await.unwrap();
    let digest = |datoms: Vec<datomfusion::Datom>| {
        let lines: Vec<String> = datoms.iter().map(ToString::to_string).collect();
        let hash = datomfusion::NodeId::of(lines.join("\n").as_bytes()).to_string();
        (lines.len(), hash[..16].to_owned())
    };
    let past = db.as_of(TimePoint::T(20)).await.unwrap();
    let found = (
        db.verify_packs().await.unwrap(),
        digest(all(&db, Index::Log).await),
        digest(all(&db, Index::Eavt).await),
        digest(all(&past, Index::Eavt).await),
    );
    // Frames, then datoms and the hash of their print: the log, what holds, what held at t=20.
    let expected = (
        23,
        (588, "ba9b29d3afb75b18".to_owned()),
        (510, "19b5834af50a6b9f".to_owned()),
        (390, "ff4d543e40867e96".to_owned()),
    );
    assert_eq!(found, expected);
}

#[tokio::test]
async fn this_release_writes_the_bytes_of_version_1() {
    let root = tempfile::tempdir().unwrap();
    write(root.path()).await;
    let (now, then) = (objects(root.path()), objects(&fixture()));
    assert_eq!(
        now.keys().collect::<Vec<_>>(),
        then.keys().collect::<Vec<_>>()
    );
    for (key, bytes) in now {
        assert!(
            then[&key] == bytes,
            "{} differs from the fixture",
            key.display()
        );
    }
}
