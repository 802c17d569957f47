//! The machine stops at any operation; the database that is found afterwards is whole.

use std::sync::Arc;

use datomfusion::{
    BranchName, Connection, Db, Error, FileHeads, FileObjects, HeadStore, MemoryHeads, Seeded,
    Store, TxData,
};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::support::faulty::{Fuse, faulty};
use crate::support::{create, transact};

const SCHEMA: &str = r#"[{:db/ident :n/id :db/valueType :db.type/long :db/cardinality :db.cardinality/one
    :db/unique :db.unique/identity}
   {:db/ident :n/text :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/index true}]"#;

/// What transaction `n` of the script says. Long texts make the tail overflow, and go out of line.
fn scripted(n: u64) -> String {
    let text = match n % 9 {
        0 => "long ".repeat(300),
        3 => format!("{n:0>900}"),
        _ => format!("text {n}"),
    };
    format!("[{{:n/id {} :n/text \"{text} {n}\"}}]", n % 70)
}

const TRANSACTIONS: u64 = 200;

/// Runs the script until the storage stops; says how far it got.
async fn run(store: &Store, from: Option<u64>) -> (u64, Option<Error>) {
    let environment = Seeded::new(from.unwrap_or(0));
    let opened = match from {
        None => Connection::create_in(store, BranchName::default(), environment).await,
        Some(_) => Connection::open_in(store, BranchName::default(), environment).await,
    };
    let connection = match opened {
        Ok(connection) => connection,
        Err(error) => return (0, Some(error)),
    };
    let start = connection.db().basis_t();
    for n in start..=TRANSACTIONS {
        let text = if n == 0 {
            SCHEMA.to_owned()
        } else {
            scripted(n)
        };
        if let Err(error) = connection.transact(&TxData::parse(&text).unwrap()).await {
            return (n, Some(error));
        }
        if n % 37 == 0
            && let Err(error) = connection.checkpoint().await
        {
            return (n + 1, Some(error));
        }
    }
    (TRANSACTIONS + 1, None)
}

/// Every text that a database holds under transaction `n` of the script, as the script says it.
async fn expect_scripted(db: &Db) {
    let texts: Vec<String> = crate::support::all(db, datomfusion::Index::Aevt)
        .await
        .into_iter()
        .filter(|d| {
            db.ident(d.a)
                .is_some_and(|ident| ident.as_str() == "n/text")
        })
        .map(|d| d.v.as_str().expect("a body was read").to_owned())
        .collect();
    let last = db.basis_t().saturating_sub(1);
    let mut expected: std::collections::BTreeMap<u64, String> = std::collections::BTreeMap::new();
    for n in 1..=last {
        let text = scripted(n);
        let text = text
            .split_once(":n/text \"")
            .unwrap()
            .1
            .trim_end_matches("\"}]")
            .to_owned();
        expected.insert(n % 70, text);
    }
    let mut expected: Vec<String> = expected.into_values().collect();
    let mut texts = texts;
    expected.sort();
    texts.sort();
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn a_stop_at_any_operation_leaves_the_old_or_the_new_value() {
    let fuse = Fuse::new(0, false);
    let whole = faulty(
        Arc::new(InMemory::new()),
        Arc::<MemoryHeads>::default(),
        &fuse,
    );
    let (done, error) = run(&whole, None).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(done, TRANSACTIONS + 1);
    let operations = fuse.operations();
    assert!(operations > TRANSACTIONS, "{operations} operations");
    for at in 1..=operations {
        for applied in [false, true] {
            let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            let heads: Arc<dyn HeadStore> = Arc::<MemoryHeads>::default();
            let fuse = Fuse::new(at, applied);
            let (done, error) = run(
                &faulty(Arc::clone(&objects), Arc::clone(&heads), &fuse),
                None,
            )
            .await;
            assert!(error.is_some(), "operation {at} was not reached");
            let store = Store::new(objects, heads, "memory:");
            let found = match Connection::open(&store).await {
                Ok(connection) => connection.db(),
                Err(Error::NoDatabase { .. }) if at == 1 && !applied => continue,
                Err(error) => panic!("operation {at}, applied {applied}: {error}"),
            };
            let t = found.basis_t();
            assert!(
                t == done || t == done + 1,
                "operation {at}: t={t} after {done} transactions"
            );
            found.verify().await.unwrap();
            expect_scripted(&found).await;
            let (done, error) = run(&store, Some(at)).await;
            assert!(error.is_none(), "{error:?}");
            assert_eq!(done, TRANSACTIONS + 1);
            let db = Connection::open(&store).await.unwrap().db();
            db.verify().await.unwrap();
            expect_scripted(&db).await;
        }
    }
    println!("stopped at each of {operations} operations, before and after");
}

#[tokio::test]
async fn a_bit_flip_anywhere_in_any_object_is_detected() {
    let objects = Arc::new(InMemory::new());
    let heads = Arc::<MemoryHeads>::default();
    let store = Store::new(
        Arc::clone(&objects) as _,
        Arc::clone(&heads) as _,
        "memory:",
    );
    let connection = create(&store, 1).await;
    transact(&connection, SCHEMA).await;
    for n in 1..40 {
        transact(&connection, &scripted(n)).await;
        if n % 13 == 0 {
            connection.checkpoint().await.unwrap();
        }
    }
    let metas: Vec<_> = objects.list(None).try_collect().await.unwrap();
    assert!(metas.len() >= 2, "{metas:?}");
    let mut flips = 0;
    for meta in metas {
        let whole = objects
            .get(&meta.location)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        // Every byte of the small structures, and a spread over the rest.
        let step = (whole.len() / 1500).max(1);
        for at in (0..whole.len()).step_by(step) {
            let mut damaged = whole.to_vec();
            damaged[at] ^= 1 << (at % 8);
            objects.put(&meta.location, damaged.into()).await.unwrap();
            let found = detect(&store).await;
            assert!(
                found.is_err(),
                "byte {at} of {} was flipped unseen",
                meta.location
            );
            flips += 1;
        }
        objects.put(&meta.location, whole.into()).await.unwrap();
    }
    let branch = BranchName::default();
    let (head, _) = heads.get(&branch).await.unwrap().unwrap();
    for at in 0..head.len() {
        let mut damaged = head.to_vec();
        damaged[at] ^= 1 << (at % 8);
        let other = Arc::<MemoryHeads>::default();
        let _ = other.cas(&branch, None, damaged.into()).await;
        let damaged = Store::new(Arc::clone(&objects) as _, other, "memory:");
        assert!(
            Connection::open(&damaged).await.is_err(),
            "byte {at} of the head was flipped unseen"
        );
        flips += 1;
    }
    detect(&store).await.expect("the store is whole again");
    println!("{flips} flips detected");
}

/// Opens a store, reads everything, and checks every pack.
async fn detect(store: &Store) -> Result<(), Error> {
    let db = Connection::open(store).await?.db();
    db.verify().await?;
    db.verify_packs().await.map(drop)
}

#[tokio::test]
async fn a_truncated_object_is_an_error_and_never_a_panic() {
    let objects = Arc::new(InMemory::new());
    let store = Store::new(
        Arc::clone(&objects) as _,
        Arc::<MemoryHeads>::default(),
        "memory:",
    );
    let connection = create(&store, 1).await;
    transact(&connection, SCHEMA).await;
    for n in 1..20 {
        transact(&connection, &scripted(n)).await;
    }
    connection.checkpoint().await.unwrap();
    let metas: Vec<_> = objects.list(None).try_collect().await.unwrap();
    for meta in metas {
        let whole = objects
            .get(&meta.location)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        for sixteenth in 0..16 {
            let short = whole.slice(..whole.len() * sixteenth / 16);
            objects.put(&meta.location, short.into()).await.unwrap();
            let error = detect(&store)
                .await
                .expect_err("a short object was believed");
            assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
        }
        objects.put(&meta.location, whole.into()).await.unwrap();
    }
}

/// The child of the next test: works on a file store and aborts at an operation.
#[tokio::test]
async fn child_that_aborts() {
    let Ok(plan) = std::env::var("DATOMFUSION_CRASH_PLAN") else {
        return;
    };
    let (root, at) = plan.rsplit_once('@').unwrap();
    let root = std::path::Path::new(root);
    let fuse = Fuse::new(at.parse().unwrap(), at.len() % 2 == 0);
    let objects = Arc::new(FileObjects::open(root).unwrap());
    let store = faulty(objects, Arc::new(FileHeads::open(root).unwrap()), &fuse);
    let plain = Store::file(root).unwrap();
    let from = plain
        .head(&BranchName::default())
        .await
        .unwrap()
        .map(|_| at.parse().unwrap());
    let (_, error) = run(&store, from).await;
    if error.is_some() {
        std::process::abort();
    }
}

#[tokio::test]
async fn a_process_that_aborts_on_a_file_store_leaves_it_whole() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store");
    let mut aborted = 0;
    // Each child goes on where the one before it died, until one comes to the end.
    for at in [1, 2, 9, 40, 41, 77].into_iter().cycle() {
        let status = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["crash::child_that_aborts", "--exact", "--quiet"])
            .env("DATOMFUSION_CRASH_PLAN", format!("{}@{at}", path.display()))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .await
            .unwrap();
        let store = Store::file(&path).unwrap();
        match Connection::open(&store).await {
            Ok(connection) => {
                connection.db().verify().await.unwrap();
                expect_scripted(&connection.db()).await;
            }
            Err(Error::NoDatabase { .. }) => assert_eq!(at, 1),
            Err(error) => panic!("{error}"),
        }
        if status.success() {
            break;
        }
        aborted += 1;
    }
    assert!(aborted >= 6, "{aborted} children aborted");
    let db = Connection::open(&Store::file(&path).unwrap())
        .await
        .unwrap()
        .db();
    assert_eq!(db.basis_t(), TRANSACTIONS + 1);
}
