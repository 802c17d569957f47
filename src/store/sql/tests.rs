use std::path::Path as FilePath;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use object_store::ObjectStoreExt;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _};

use super::*;
use crate::store::conformance;
use crate::store::tests::chain;
use crate::{Connection, Db, NodeId, PackId, Store, TxData};

fn sqlite(path: &FilePath) -> String {
    format!("sqlite:{}", path.display())
}

fn open(address: &str) -> Store {
    Store::open_url(address).unwrap()
}

fn refusal(address: &str) -> String {
    chain(&Store::open_url(address).expect_err(address))
}

/// The server that tests may use, and a table on it that no other test has.
fn postgres() -> (String, String) {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let server = std::env::var("DATOMFUSION_TEST_POSTGRES")
        .expect("DATOMFUSION_TEST_POSTGRES is the address of a database");
    let unique = tempfile::tempdir().unwrap();
    let hash = NodeId::of(unique.path().to_str().unwrap().as_bytes()).to_string();
    let count = MADE.fetch_add(1, Ordering::Relaxed);
    let address = format!("{server}?table=test_{}_{count}", &hash[..12]);
    (server, address)
}

async fn tell_postgres(server: &str, sql: String) {
    let mut connection = sqlx::PgConnection::connect(server).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .unwrap();
}

async fn tell_sqlite(path: &FilePath, sql: &'static str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = options.create_if_missing(true).connect().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
}

/// What goes wrong with a store, in each way to ask it.
async fn failures(address: &str) -> Vec<String> {
    let store = open(address);
    let branch = BranchName::default();
    let mut said = vec![format!("{store:?} {:?}", store.0.heads)];
    let mut say = |error: &Error| said.push(format!("{} {error:?}", chain(error)));
    say(&store.head(&branch).await.unwrap_err());
    say(&store.list_packs().await.unwrap_err());
    say(&store.list_branches().await.unwrap_err());
    say(&store.read_pack(PackId([1; 16])).await.unwrap_err());
    say(&store
        .put_pack(PackId([1; 16]), Bytes::from_static(b"pack"))
        .await
        .unwrap_err());
    match store
        .cas_head(&branch, None, Bytes::from_static(b"head"))
        .await
    {
        CasOutcome::Failed(error) => say(&error),
        outcome => panic!("{outcome:?}"),
    }
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_conforms() {
    let root = tempfile::tempdir().unwrap();
    let made = AtomicU32::new(0);
    let next = || made.fetch_add(1, Ordering::Relaxed);
    conformance::all(|| open(&sqlite(&root.path().join(format!("{}.db", next()))))).await;
    let one = sqlite(&root.path().join("one.db"));
    conformance::all(|| open(&format!("{one}?table=t{}", next()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PostgreSQL: see CONTRIBUTING.md"]
async fn postgres_conforms() {
    conformance::all(|| open(&postgres().1)).await;
}

const SCHEMA: &str = "[{:db/ident :n/name :db/valueType :db.type/string \
                        :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}]";

/// Writers with connections of their own, enough of them and long enough for several checkpoints.
async fn writers_land_in_one_chain(address: &str) {
    const WRITERS: u64 = 4;
    const EACH: u64 = 60;
    let first = Connection::create(&open(address)).await.unwrap();
    first
        .transact(&TxData::parse(SCHEMA).unwrap())
        .await
        .unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let address = address.to_owned();
        writers.spawn(async move {
            let connection = Connection::open(&open(&address)).await.unwrap();
            for count in 0..EACH {
                let text = format!("[{{:n/name \"{writer}-{count}\"}}]");
                let data = TxData::parse(&text).unwrap();
                connection.transact(&data).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let db = Db::open(&open(address), &BranchName::default())
        .await
        .unwrap();
    assert_eq!(db.basis_t(), 1 + WRITERS * EACH);
    db.verify().await.unwrap();
    let packs = open(address).list_packs().await.unwrap();
    assert!(!packs.is_empty(), "the tail was merged into packs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_on_sqlite_land_in_one_chain() {
    let root = tempfile::tempdir().unwrap();
    // An @, a % and a ? in the name of the file.
    let path = root.path().join("a%40b%25%3F.db");
    writers_land_in_one_chain(&sqlite(&path)).await;
    assert!(root.path().join("a@b%?.db").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PostgreSQL: see CONTRIBUTING.md"]
async fn writers_on_postgres_land_in_one_chain() {
    writers_land_in_one_chain(&postgres().1).await;
}

/// The child of the next two tests: increments a counter.
#[tokio::test]
async fn child_that_increments() {
    if let Ok(address) = std::env::var("DATOMFUSION_COUNTER_ADDRESS") {
        conformance::add(&open(&address), &BranchName::default(), 25).await;
    }
}

/// Processes that begin where there is nothing, so that they meet while they make the table, too.
async fn processes_lose_no_increment(address: &str) {
    let children: Vec<_> = (0..4)
        .map(|_| {
            tokio::process::Command::new(std::env::current_exe().unwrap())
                .args([
                    "store::sql::tests::child_that_increments",
                    "--exact",
                    "--quiet",
                ])
                .env("DATOMFUSION_COUNTER_ADDRESS", address)
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().await.unwrap().success());
    }
    let count = conformance::count(&open(address), &BranchName::default()).await;
    assert_eq!(count, 100);
}

#[tokio::test]
async fn processes_on_sqlite_lose_no_increment() {
    let root = tempfile::tempdir().unwrap();
    processes_lose_no_increment(&sqlite(&root.path().join("counter.db"))).await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: see CONTRIBUTING.md"]
async fn processes_on_postgres_lose_no_increment() {
    processes_lose_no_increment(&postgres().1).await;
}

/// Listings that were begun and not gone on with held the connections of their store, and every later
/// statement waited for one, for ever.
#[tokio::test]
async fn reads_that_nobody_goes_on_with_hold_nobody_up() {
    let root = tempfile::tempdir().unwrap();
    let store = open(&sqlite(&root.path().join("x.db")));
    let connection = Connection::create(&store).await.unwrap();
    let mut begun: Vec<_> = (0..20)
        .map(|_| store.0.objects.list(None).into_future())
        .collect();
    for listing in &mut begun {
        assert!(futures::poll!(listing).is_pending());
    }
    let others = async {
        connection
            .transact(&TxData::parse(SCHEMA).unwrap())
            .await
            .unwrap();
        connection.sync().await.unwrap().basis_t()
    };
    let basis = tokio::time::timeout(Duration::from_mins(1), others).await;
    assert_eq!(basis.expect("others wait for no reader"), 1);
    for listing in begun {
        assert!(matches!(listing.await, (Some(Ok(_)), _)));
    }
}

/// A new object of a table, beside the keys of the layout.
fn objects_of(address: &str) -> Arc<dyn ObjectStore> {
    Arc::clone(&open(address).0.objects)
}

async fn keys_are_no_patterns(objects: &dyn ObjectStore) {
    let names = [
        "a%/x", "a_/x", "ab/x", "a/x", "a/y", "a0/x", "a\\b/x", "A/x", "é/x",
    ];
    let keys: Vec<_> = names.iter().map(|name| Key::from(*name)).collect();
    for key in &keys {
        objects
            .put_opts(key, "body".into(), PutMode::Create.into())
            .await
            .unwrap();
    }
    let listed = async |prefix: &Key| -> Vec<Key> {
        let found: Vec<_> = objects.list(Some(prefix)).try_collect().await.unwrap();
        found.into_iter().map(|meta| meta.location).collect()
    };
    for key in &keys {
        let parts: Vec<_> = key.parts().collect();
        let prefix: Key = parts[..1].iter().cloned().collect();
        let expected: Vec<_> = keys
            .iter()
            .filter(|key| key.prefix_matches(&prefix))
            .cloned()
            .collect();
        assert_eq!(listed(&prefix).await, expected, "below {prefix}");
    }
    let all: Vec<_> = objects.list(None).try_collect().await.unwrap();
    assert_eq!(all.len(), names.len());
    let after = objects.list_with_offset(None, &Key::from("a/x"));
    let after: Vec<_> = after.try_collect().await.unwrap();
    assert!(after.iter().all(|meta| meta.location > Key::from("a/x")));
    let expected = keys.iter().filter(|key| **key > Key::from("a/x")).count();
    assert_eq!(after.len(), expected, "{after:?}");
    for key in &keys[..2] {
        objects.delete(key).await.unwrap();
        let again = objects.delete(key).await;
        assert!(matches!(again, Err(object_store::Error::NotFound { .. })));
    }
    let all: Vec<_> = objects.list(None).try_collect().await.unwrap();
    assert_eq!(all.len(), names.len() - 2);
}

async fn ranges_are_cut_from_pieces(objects: &dyn ObjectStore) {
    const PIECE: u64 = PIECE_BYTES;

    let place = |at: u64| usize::try_from(at).unwrap();
    let key = Key::from("packs/big");
    for len in [0, 1, PIECE - 1, PIECE, PIECE + 1, 20 * PIECE + 7] {
        let body: Bytes = (0..len).map(|n| (n * 31 % 251).to_le_bytes()[0]).collect();
        let create = || PutOptions::from(PutMode::Create);
        objects
            .put_opts(&key, body.clone().into(), create())
            .await
            .unwrap();
        for other in ["other".into(), vec![7; place(3 * PIECE)].into()] {
            let again = objects.put_opts(&key, other, create()).await;
            let refused = matches!(again, Err(object_store::Error::AlreadyExists { .. }));
            assert!(refused, "{again:?}");
        }
        let whole = objects.get(&key).await.unwrap();
        assert_eq!(whole.meta.size, len);
        assert_eq!(whole.bytes().await.unwrap(), body);
        assert_eq!(objects.head(&key).await.unwrap().size, len);
        for (start, end) in [
            (0, 1),
            (1, len),
            (PIECE - 1, PIECE + 1),
            (PIECE, 2 * PIECE),
            (3 * PIECE - 5, 5 * PIECE + 5),
            (len.saturating_sub(1), len),
        ] {
            if start < end && end <= len {
                let part = objects.get_range(&key, start..end).await.unwrap();
                assert_eq!(part, body.slice(place(start)..place(end)));
            }
        }
        for count in [1, PIECE, PIECE + 1, u64::MAX]
            .into_iter()
            .filter(|_| len > 0)
        {
            let start = len.saturating_sub(count);
            for range in [GetRange::Suffix(count), GetRange::Offset(start)] {
                let options = GetOptions::new().with_range(Some(range));
                let part = objects.get_opts(&key, options).await.unwrap();
                assert_eq!(part.bytes().await.unwrap(), body.slice(place(start)..));
            }
        }
        objects.delete(&key).await.unwrap();
        let gone = objects.get(&key).await;
        assert!(matches!(gone, Err(object_store::Error::NotFound { .. })));
    }
}

#[tokio::test]
async fn objects_on_sqlite_have_keys_and_pieces() {
    let root = tempfile::tempdir().unwrap();
    keys_are_no_patterns(&*objects_of(&sqlite(&root.path().join("keys.db")))).await;
    ranges_are_cut_from_pieces(&*objects_of(&sqlite(&root.path().join("pieces.db")))).await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: see CONTRIBUTING.md"]
async fn objects_on_postgres_have_keys_and_pieces() {
    keys_are_no_patterns(&*objects_of(&postgres().1)).await;
    ranges_are_cut_from_pieces(&*objects_of(&postgres().1)).await;
}

/// Reading, and whatever else does not make a database, finds nothing and makes nothing.
async fn nothing_is_made_by_reading(address: &str) {
    let store = open(address);
    let branch = BranchName::default();
    let error = Connection::open(&store).await.unwrap_err();
    assert!(matches!(error, Error::NoDatabase { .. }), "{error:?}");
    let said = error.to_string();
    assert!(said.starts_with("no database at "), "{said}");
    assert_eq!(store.list_packs().await.unwrap(), []);
    assert_eq!(store.list_branches().await.unwrap(), []);
    assert!(store.read_pack(PackId([1; 16])).await.is_err());
    store.delete_pack(PackId([1; 16])).await.unwrap();
    let stale = HeadVersion::new("1");
    let stale = store.cas_head(&branch, Some(&stale), Bytes::new()).await;
    assert!(matches!(stale, CasOutcome::Conflict), "{stale:?}");
}

#[tokio::test]
async fn nothing_is_made_by_reading_sqlite() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("absent.db");
    nothing_is_made_by_reading(&sqlite(&path)).await;
    assert!(!path.exists());
    tell_sqlite(&path, "CREATE TABLE other (x)").await;
    nothing_is_made_by_reading(&sqlite(&path)).await;
    let mut connection = sqlx::SqliteConnection::connect(path.to_str().unwrap())
        .await
        .unwrap();
    let tables: Vec<(String,)> = sqlx::query_as("SELECT name FROM sqlite_schema")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert_eq!(tables, [("other".to_owned(),)]);
}

#[tokio::test]
#[ignore = "needs PostgreSQL: see CONTRIBUTING.md"]
async fn nothing_is_made_by_reading_postgres() {
    let (server, address) = postgres();
    nothing_is_made_by_reading(&address).await;
    let table = address.split_once('=').unwrap().1;
    let mut connection = sqlx::PgConnection::connect(&server).await.unwrap();
    let tables: Vec<(String,)> =
        sqlx::query_as("SELECT tablename FROM pg_tables WHERE tablename = $1")
            .bind(table)
            .fetch_all(&mut connection)
            .await
            .unwrap();
    assert_eq!(tables, []);
}

#[tokio::test]
async fn stores_of_one_file_do_not_meet() {
    let root = tempfile::tempdir().unwrap();
    let address = sqlite(&root.path().join("many.db"));
    let (one, two) = (open(&address), open(&format!("{address}?table=two")));
    Connection::create(&one).await.unwrap();
    let nothing = Connection::open(&two).await;
    assert!(
        matches!(nothing, Err(Error::NoDatabase { .. })),
        "{nothing:?}"
    );
    Connection::create(&two).await.unwrap();
    assert!(!one.is_same(&two));
    assert!(one.is_same(&open(&format!("{address}?table=datomfusion"))));
}

/// Connections at rest went on with the file that was no longer there, so that one value was read from the old
/// file and the next from the new one.
#[tokio::test]
async fn a_file_that_is_removed_takes_its_connections_with_it() {
    let root = tempfile::tempdir().unwrap();
    let address = sqlite(&root.path().join("x.db"));
    let store = open(&address);
    let branch = BranchName::default();
    let first = store.cas_head(&branch, None, "first".into()).await;
    assert!(matches!(first, CasOutcome::Swapped(_)), "{first:?}");
    for file in std::fs::read_dir(root.path()).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    assert_eq!(store.head(&branch).await.unwrap(), None);
    let second = open(&address)
        .cas_head(&branch, None, "second".into())
        .await;
    assert!(matches!(second, CasOutcome::Swapped(_)), "{second:?}");
    let (head, _) = store.head(&branch).await.unwrap().unwrap();
    assert_eq!(head, "second");
}

/// Two stores of one location were taken for one, and a branch that was moved to a value of the other was lost.
#[test]
fn what_a_location_leaves_out_tells_stores_apart() {
    for (one, two) in [
        ("postgres://one@host/db", "postgres://two@host/db"),
        ("sqlite:x%3Ftable=two", "sqlite:x?table=two"),
    ] {
        let stores = [open(one), open(two)];
        assert_eq!(stores[0].location(), stores[1].location());
        assert!(!stores[0].is_same(&stores[1]));
        assert!(stores[0].is_same(&open(one)) && stores[1].is_same(&open(two)));
    }
}

#[tokio::test]
async fn what_is_no_table_of_sqlite_is_refused() {
    let root = tempfile::tempdir().unwrap();
    assert!(refusal(&sqlite(root.path())).contains("is a directory"));
    for name in [
        "x; drop table y",
        "X",
        "1x",
        "",
        "a\"b",
        "sqlite_x",
        "a-b",
        "é",
        "a.b",
    ] {
        for store in ["sqlite:x", "postgres://host/db"] {
            let said = refusal(&format!("{store}?table={name}"));
            assert!(said.contains("not the name of a table"), "{said}");
        }
    }
    assert!(refusal(&format!("sqlite:x?table={}", "x".repeat(64))).contains("at most 63"));
    for address in [
        "sqlite:",
        "sqlite://host/x",
        "sqlite:x?mode=memory",
        "sqlite:?table=x",
    ] {
        refusal(address);
    }

    let garbage = root.path().join("garbage.db");
    std::fs::write(&garbage, [7; 5000]).unwrap();
    for said in &failures(&sqlite(&garbage)).await[1..] {
        assert!(said.contains("file is not a database"), "{said}");
    }
    let under = root.path().join("no/such/directory.db");
    let write = open(&sqlite(&under))
        .put_pack(PackId([1; 16]), Bytes::new())
        .await;
    let said = chain(&write.unwrap_err());
    assert!(said.contains("no/such is not a directory"), "{said}");

    for shape in [
        "CREATE TABLE datomfusion (key TEXT PRIMARY KEY, body BLOB)",
        "CREATE VIEW datomfusion AS SELECT 1 AS key",
    ] {
        let path = root.path().join(format!("{}.db", shape.len()));
        tell_sqlite(&path, shape).await;
        for said in &failures(&sqlite(&path)).await[1..] {
            assert!(said.contains("is no store"), "{said}");
        }
    }
    let path = root.path().join("keyless.db");
    tell_sqlite(
        &path,
        "CREATE TABLE datomfusion (key, piece, size, version, modified, body)",
    )
    .await;
    let store = open(&sqlite(&path));
    let said = chain(
        &store
            .put_pack(PackId([1; 16]), Bytes::new())
            .await
            .unwrap_err(),
    );
    assert!(said.contains("is no store"), "{said}");
}

#[tokio::test]
#[ignore = "needs PostgreSQL: see CONTRIBUTING.md"]
async fn what_is_no_table_of_postgres_is_refused() {
    let (server, _) = postgres();
    for shape in [
        "TABLE shape_1 (key text PRIMARY KEY, body bytea)",
        "TABLE shape_2 (key bigint, piece bigint, size bigint, version bigint, modified bigint, \
         body bigint)",
        "VIEW shape_3 AS SELECT 1 AS key",
        "SEQUENCE shape_4",
    ] {
        let (kind, rest) = shape.split_once(' ').unwrap();
        let name = &rest[..7];
        tell_postgres(
            &server,
            format!("DROP {kind} IF EXISTS {name}; CREATE {shape}"),
        )
        .await;
        for said in &failures(&format!("{server}?table={name}")).await[1..] {
            assert!(said.contains("is no store"), "{said}");
        }
    }
    let named = server.rsplit_once('/').unwrap().0;
    for said in &failures(&format!("{named}/absent")).await[1..] {
        assert!(said.contains("no database of this name"), "{said}");
    }
}

/// A server that refuses the password, one that is not there, one that never answers.
#[tokio::test]
async fn no_password_is_printed() {
    let canary = "canary0123";
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = gone.local_addr().unwrap().port();
    drop(gone);
    let branch = BranchName::default();
    for (port, reason) in [(refused, "refused"), (port, "no answer within 10 seconds")] {
        let store = open(&format!("postgres://{canary}:{canary}@127.0.0.1:{port}/db"));
        assert_eq!(store.location(), format!("postgres://127.0.0.1:{port}/db"));
        let answer = tokio::time::timeout(Duration::from_secs(30), store.head(&branch)).await;
        let error = answer.expect("the wait is bounded").unwrap_err();
        let said = format!("{} {error:?} {store:?} {:?}", chain(&error), store.0.heads);
        assert!(said.contains(reason), "{said}");
        assert!(!said.contains(canary), "{said}");
    }
}

#[tokio::test]
#[ignore = "needs PostgreSQL: see CONTRIBUTING.md"]
async fn postgres_refuses_without_printing_the_password() {
    let canary = "canary0123";
    let mut url = url::Url::parse(&postgres().0).unwrap();
    url.set_password(Some(canary)).unwrap();
    for user in [None, Some("canary_user")] {
        if let Some(user) = user {
            url.set_username(user).unwrap();
        }
        for said in failures(url.as_str()).await {
            let is_store = said.starts_with("Store");
            assert!(
                is_store || said.contains("refuses this user or password"),
                "{said}"
            );
            assert!(!said.contains("canary"), "{said}");
        }
    }
}

/// A server that ends its connections is asked again on new ones; a commit goes on.
#[tokio::test]
#[ignore = "needs PostgreSQL: see CONTRIBUTING.md"]
async fn connections_that_postgres_ends_are_made_anew() {
    let (server, address) = postgres();
    let address = format!("{address}&application_name=unused");
    assert!(refusal(&address).contains("application_name"));
    let address = address.replace("&application_name=unused", "");
    let connection = Connection::create(&open(&address)).await.unwrap();
    connection
        .transact(&TxData::parse(SCHEMA).unwrap())
        .await
        .unwrap();
    for count in 0..5 {
        let sql = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE query LIKE '%{}%' AND pid <> pg_backend_pid()",
            address.split_once('=').unwrap().1
        );
        tell_postgres(&server, sql).await;
        let text = format!("[{{:n/name \"{count}\"}}]");
        if count % 2 == 0 {
            connection.sync().await.unwrap();
        }
        connection
            .transact(&TxData::parse(&text).unwrap())
            .await
            .unwrap();
    }
    assert_eq!(connection.sync().await.unwrap().basis_t(), 6);
    connection.db().verify().await.unwrap();
}

#[test]
fn without_a_runtime_there_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.db");
    std::fs::write(&path, []).unwrap();
    let store = open(&sqlite(&path));
    let error = futures::executor::block_on(store.head(&BranchName::default())).unwrap_err();
    assert!(chain(&error).contains("Tokio"), "{error:?}");
}
