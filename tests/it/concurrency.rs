//! Many writers of one branch: one wins each round, the others decide anew; nothing is lost or doubled.

use std::sync::Arc;

use datomfusion::{BranchName, Connection, Store, System, TxData};

use crate::support::faulty::{Fuse, faulty};
use crate::support::{create, transact};

const SCHEMA: &str = r#"[{:db/ident :counter/name :db/valueType :db.type/string
    :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
   {:db/ident :counter/value :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]"#;

/// Adds one to the counter by compare-and-swap, however often it takes.
async fn increment(connection: &Connection) {
    loop {
        let value = counter(connection).await;
        let text = format!(
            "[[:db/cas [:counter/name \"c\"] :counter/value {value} {}]]",
            value + 1
        );
        match connection.transact(&TxData::parse(&text).unwrap()).await {
            Ok(_) => return,
            Err(datomfusion::Error::Transaction { .. }) => _ = connection.sync().await.unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
}

async fn counter(connection: &Connection) -> i64 {
    let db = connection.db();
    let a = db
        .schema()
        .entid(&datomfusion::edn::Keyword::new("counter/value"))
        .unwrap();
    let datoms = crate::support::all(&db, datomfusion::Index::Aevt).await;
    datoms
        .iter()
        .find(|d| d.a == a)
        .and_then(|d| d.v.as_long())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_store_lose_no_increment() {
    let store = Store::memory();
    let first = create(&store, 1).await;
    transact(&first, SCHEMA).await;
    transact(&first, "[{:counter/name \"c\" :counter/value 0}]").await;
    let workers = (0..6).map(|_| {
        let store = store.clone();
        async move {
            let connection = Connection::open_in(&store, BranchName::default(), Arc::new(System))
                .await
                .unwrap();
            for _ in 0..25 {
                increment(&connection).await;
            }
        }
    });
    futures::future::join_all(workers).await;
    let db = first.sync().await.unwrap();
    assert_eq!(counter(&first).await, 150);
    assert_eq!(db.basis_t(), 2 + 150, "each increment is one transaction");
    db.verify().await.unwrap();
}

#[tokio::test]
async fn queued_transactions_share_one_swap_of_the_head() {
    // This storage lets others run while it swaps a head, as a remote one does.
    let objects = Arc::new(object_store::memory::InMemory::new());
    let heads = Arc::<datomfusion::MemoryHeads>::default();
    let store = faulty(objects, heads, &Fuse::new(0, false));
    let connection = create(&store, 1).await;
    transact(&connection, SCHEMA).await;
    let before = store.requests();
    let texts: Vec<_> = (0..50)
        .map(|n| {
            TxData::parse(&format!("[{{:counter/name \"n{n}\" :counter/value {n}}}]")).unwrap()
        })
        .collect();
    let reports =
        futures::future::join_all(texts.iter().map(|data| connection.transact(data))).await;
    let mut ts: Vec<u64> = reports
        .into_iter()
        .map(|report| report.unwrap().t)
        .collect();
    ts.sort_unstable();
    assert_eq!(ts, (2..52).collect::<Vec<_>>());
    let puts = store.requests().puts - before.puts;
    assert!(puts <= 2, "{puts} PUTs for 50 queued transactions");
    connection.db().verify().await.unwrap();
}

#[tokio::test]
async fn a_refused_transaction_does_not_take_its_group_along() {
    let connection = crate::support::database(1).await;
    transact(&connection, SCHEMA).await;
    let good = TxData::parse("[{:counter/name \"a\" :counter/value 1}]").unwrap();
    let bad = TxData::parse("[{:counter/name \"b\" :counter/value \"one\"}]").unwrap();
    let (first, second, third) = futures::join!(
        connection.transact(&good),
        connection.transact(&bad),
        connection.transact(&good)
    );
    assert!(first.is_ok() && third.is_ok());
    assert!(second.unwrap_err().to_string().contains(":counter/value"));
}

/// The child of the next test: increments a counter on a file store.
#[tokio::test]
async fn child_that_increments() {
    let Ok(root) = std::env::var("DATOMFUSION_COUNTER_STORE") else {
        return;
    };
    let store = Store::file(std::path::Path::new(&root)).unwrap();
    let connection = Connection::open(&store).await.unwrap();
    for _ in 0..20 {
        increment(&connection).await;
    }
}

#[tokio::test]
async fn processes_on_one_file_store_lose_no_increment() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::file(&root.path().join("store")).unwrap();
    let connection = create(&store, 1).await;
    transact(&connection, SCHEMA).await;
    transact(&connection, "[{:counter/name \"c\" :counter/value 0}]").await;
    let children: Vec<_> = (0..4)
        .map(|_| {
            tokio::process::Command::new(std::env::current_exe().unwrap())
                .args(["concurrency::child_that_increments", "--exact", "--quiet"])
                .env("DATOMFUSION_COUNTER_STORE", root.path().join("store"))
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().await.unwrap().success());
    }
    let db = connection.sync().await.unwrap();
    assert_eq!(counter(&connection).await, 80);
    assert_eq!(db.basis_t(), 2 + 80);
    db.verify().await.unwrap();
}
