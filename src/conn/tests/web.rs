//! A database behind a web server: all of reading, nothing of writing.

use std::path::Path;

use futures::TryStreamExt;

use crate::conn::fixture::{PEOPLE, all, create, name, open, transact};
use crate::gc::{GcOptions, gc_in};
use crate::store::tests::chain;
use crate::store::tests::server::{Web, answer};
use crate::{BranchName, Connection, Db, Error, Index, Purge, Seeded, Store, TimePoint, TxData};

/// A database in a directory, with a branch, checkpoints and a large value.
async fn people(root: &Path) -> Connection {
    let connection = create(&Store::file(root).unwrap(), 1).await;
    transact(&connection, PEOPLE).await;
    let large = "large ".repeat(500);
    for n in 0..30 {
        let text = format!("[{{:p/name \"{n}\" :p/age {n} :p/note \"{large}{n}\"}}]");
        transact(&connection, &text).await;
        if n % 10 == 0 {
            connection.checkpoint().await.unwrap();
        }
    }
    let fork = connection.db();
    let branches = connection.branches();
    branches.create(&name("Ada/Fix"), &fork).await.unwrap();
    transact(&connection, "[{:p/name \"0\" :p/age 99}]").await;
    connection
}

#[tokio::test]
async fn a_web_server_is_all_that_reading_takes() {
    let root = tempfile::tempdir().unwrap();
    let written = people(root.path()).await;
    let web = Web::of_files(root.path().to_owned());
    let store = Store::open_url(&web.url()).unwrap();

    let db = Db::open(&store, &BranchName::default()).await.unwrap();
    let asked = web.asked();
    assert_eq!(asked.len(), 1, "opening reads the head");
    assert_eq!(asked[0].path, "/heads/main");
    for index in [Index::Eavt, Index::Aevt, Index::Avet] {
        assert_eq!(all(&db, index).await, all(&written.db(), index).await);
    }
    for t in [0, 1, 5, 12, 31, 32] {
        let [here, there] = [&db, &written.db()].map(Clone::clone);
        let here = here.as_of(TimePoint::T(t)).await.unwrap();
        let there = there.as_of(TimePoint::T(t)).await.unwrap();
        let found = all(&here, Index::Eavt).await;
        assert_eq!(found, all(&there, Index::Eavt).await, "t={t}");
    }
    let commits: Vec<_> = db.log(..).try_collect().await.unwrap();
    assert_eq!(commits.len(), 33);
    assert!(db.verify().await.unwrap().datoms() > 0);
    let fixed = Db::open(&store, &name("Ada/Fix")).await.unwrap();
    assert_eq!(fixed.basis_t(), 31);

    // Whoever watches is told by the entity tag, and gets no body while there is no news.
    let watcher = open(&store, "main", 5).await;
    web.asked();
    let read = store.requests().bytes_read;
    assert_eq!(watcher.sync().await.unwrap().basis_t(), 32);
    assert_eq!(store.requests().bytes_read, read);
    transact(&written, "[{:p/name \"new\"}]").await;
    assert_eq!(watcher.sync().await.unwrap().basis_t(), 33);
    assert_eq!(web.asked().len(), 2);
}

#[tokio::test]
async fn whatever_writes_is_refused_and_asks_nothing() {
    let root = tempfile::tempdir().unwrap();
    people(root.path()).await;
    let web = Web::of_files(root.path().to_owned());
    let store = Store::open_url(&web.url()).unwrap();
    let connection = open(&store, "main", 5).await;
    web.asked();
    let data = TxData::parse("[{:p/name \"Eve\"}]").unwrap();
    let [new, seeded] = [name("new"), name("seeded")];
    let db = connection.db();
    for error in [
        connection.transact(&data).await.unwrap_err(),
        connection.purge(&Purge::Before(5)).await.unwrap_err(),
        connection.branches().create(&new, &db).await.unwrap_err(),
        connection.branches().list().await.map(|_| ()).unwrap_err(),
        gc_in(&store, &GcOptions::default(), Seeded::new(1))
            .await
            .unwrap_err(),
        Connection::create_in(&store, seeded, Seeded::new(1))
            .await
            .unwrap_err(),
    ] {
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
        let said = chain(&error);
        assert!(said.contains(&web.url()), "{said}");
        assert!(
            ["can only be read", "is read-only"]
                .iter()
                .any(|words| said.contains(words))
                || said.contains("does not say what it holds"),
            "{said}"
        );
    }
    let asked = web.asked();
    assert!(
        asked.iter().all(|asked| asked.method == "GET"),
        "nothing is tried that writes"
    );
    // What a transaction would do can still be asked.
    let report = db.with(&data).await.unwrap();
    assert_eq!(report.t, 33);
}

#[tokio::test]
async fn what_is_no_database_is_said_not_to_be_one() {
    let main = BranchName::default();
    let root = tempfile::tempdir().unwrap();
    let web = Web::of_files(root.path().to_owned());
    let empty = Store::open_url(&web.url()).unwrap();
    let error = Db::open(&empty, &main).await.unwrap_err();
    assert!(matches!(error, Error::NoDatabase { .. }), "{error:?}");
    assert!(chain(&error).contains(&web.url()), "{error}");

    // A page for people under every name, as sites with one page serve it.
    let page = b"<!doctype html><title>Welcome</title>";
    let site = Web::serve(move |_| answer("200 OK", &[("Content-Type", "text/html")], page));
    let store = Store::open_url(&site.url()).unwrap();
    let error = Db::open(&store, &main).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    let said = chain(&error);
    assert!(
        said.contains(&site.url()) && said.contains("head"),
        "{said}"
    );
}

/// The head is whole, and every pack is somebody's error page.
#[tokio::test]
async fn a_pack_that_is_a_page_is_corrupt() {
    let root = tempfile::tempdir().unwrap();
    people(root.path()).await;
    let head = std::fs::read(root.path().join("heads/main")).unwrap();
    let web = Web::serve(move |asked| match &*asked.path {
        "/heads/main" => answer("200 OK", &[], &head),
        _ => answer("200 OK", &[], "<html>no</html>".repeat(10_000).as_bytes()),
    });
    let store = Store::open_url(&web.url()).unwrap();
    let db = Db::open(&store, &BranchName::default()).await.unwrap();
    let datoms = db.datoms(Index::Eavt, crate::Components::all()).unwrap();
    let error = datoms.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    assert!(db.verify().await.is_err());
}
