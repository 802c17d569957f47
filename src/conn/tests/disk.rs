//! A database whose store has a tier on disk: the same answers, and fewer requests.

use std::path::Path;

use crate::conn::fixture::{PEOPLE, all, branch_off, create, name, open, transact};
use crate::datom::Datom;
use crate::store::DiskCache;
use crate::{BranchName, Connection, Db, Error, Index, Purge, Store, TimePoint};

const INDEXES: [Index; 3] = [Index::Eavt, Index::Aevt, Index::Avet];

/// A database with a past, checkpoints and large values.
async fn people(store: &Store) -> Connection {
    let connection = create(store, 1).await;
    transact(&connection, PEOPLE).await;
    let large = "large ".repeat(500);
    for n in 0..40 {
        let text = format!("[{{:p/name \"{n}\" :p/age {n} :p/note \"{large}{n}\"}}]");
        transact(&connection, &text).await;
        transact(&connection, &format!("[{{:p/name \"0\" :p/age {n}}}]")).await;
        if n % 10 == 9 {
            connection.checkpoint().await.unwrap();
        }
    }
    connection
}

/// The store as another process would open it, with a tier in this directory.
fn cached(store: &Store, directory: &Path) -> Store {
    let cache = DiskCache::open(directory, 64 << 20).unwrap();
    store.clone().with_disk_cache(&cache)
}

async fn newest(store: &Store) -> Db {
    Db::open(store, &BranchName::default()).await.unwrap()
}

/// What a database says, now and in the past.
async fn said(db: &Db) -> Vec<Vec<Datom>> {
    let mut said = Vec::new();
    for index in INDEXES {
        said.push(all(db, index).await);
        said.push(all(&db.history(), index).await);
    }
    for t in [0, 5, 21, 50, 81] {
        let past = db.as_of(TimePoint::T(t)).await.unwrap();
        said.push(all(&past, Index::Eavt).await);
    }
    said
}

#[tokio::test]
async fn a_second_process_asks_for_the_head_alone_and_answers_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let bare = Store::memory();
    people(&bare).await;
    let expected = said(&newest(&bare).await).await;

    let first = newest(&cached(&bare, directory.path())).await;
    assert_eq!(said(&first).await, expected);
    let loads = first.loader().loads();
    assert!(loads.nodes > 0 && loads.bodies > 0, "{loads:?}");
    assert_eq!((loads.disk_hits, loads.disk_bytes), (0, 0));

    let store = cached(&bare, directory.path());
    let before = store.requests().gets;
    let second = newest(&store).await;
    assert_eq!(said(&second).await, expected);
    assert_eq!(store.requests().gets - before, 1, "the head");
    let again = second.loader().loads();
    assert_eq!((again.nodes, again.bodies, again.frame_bytes), (0, 0, 0));
    assert_eq!(again.disk_hits, loads.nodes + loads.bodies);
    assert_eq!(again.disk_bytes, loads.frame_bytes);
}

/// The past and the present as they were read before garbage collection, and what was not read then.
#[tokio::test]
async fn what_is_on_disk_outlives_its_pack_and_the_rest_has_expired() {
    let directory = tempfile::tempdir().unwrap();
    let bare = Store::memory();
    people(&bare).await;
    let past = TimePoint::T(21);
    let read = newest(&cached(&bare, directory.path())).await;
    let expected = all(&read.as_of(past).await.unwrap(), Index::Eavt).await;
    for pack in bare.list_packs().await.unwrap() {
        bare.delete_pack(pack.id).await.unwrap();
    }
    let store = cached(&bare, directory.path());
    let db = newest(&store).await;
    let found = db.as_of(past).await.unwrap();
    assert_eq!(all(&found, Index::Eavt).await, expected);
    let error = db.datoms(Index::Avet, crate::Components::all());
    let error = futures::TryStreamExt::try_collect::<Vec<_>>(error.unwrap()).await;
    assert!(matches!(error, Err(Error::SnapshotExpired(_))), "{error:?}");

    store.disk_cache().unwrap().clear().await.unwrap();
    let db = newest(&store).await;
    let error = db.as_of(past).await.map(drop);
    assert!(matches!(error, Err(Error::SnapshotExpired(_))), "{error:?}");
}

#[tokio::test]
async fn a_verification_reads_the_store_and_not_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let bare = Store::memory();
    people(&bare).await;
    let store = cached(&bare, directory.path());
    let db = newest(&store).await;
    said(&db).await;
    let before = store.requests().gets;
    let found = db.verify().await.unwrap();
    assert!(found.nodes() > 0 && store.requests().gets > before);
    for pack in bare.list_packs().await.unwrap() {
        bare.delete_pack(pack.id).await.unwrap();
    }
    said(&db).await;
    let error = db.verify().await.map(drop);
    assert!(matches!(error, Err(Error::Corrupt { .. })), "{error:?}");
}

/// Anybody who can write there can write a checksum that fits.
#[tokio::test]
async fn a_foreign_frame_with_a_checksum_that_fits_is_no_fault_of_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let bare = Store::memory();
    let connection = people(&bare).await;
    let expected = said(&newest(&bare).await).await;
    let store = cached(&bare, directory.path());
    let mut planted = 0;
    for pack in bare.list_packs().await.unwrap() {
        let footer = crate::read_footer(&bare, pack.id).await.unwrap();
        for entry in footer.entries() {
            let len = entry.location.len as usize;
            store.plant(&entry.location, &vec![7; len]);
            planted += 1;
        }
    }
    let db = newest(&store).await;
    assert_eq!(said(&db).await, expected);
    let loads = db.loader().loads();
    assert!(loads.disk_hits == 0 && loads.nodes > 0 && loads.bodies > 0);
    assert!(loads.nodes + loads.bodies <= planted);

    let before = store.requests().gets;
    let again = newest(&cached(&bare, directory.path())).await;
    assert_eq!(said(&again).await, expected);
    assert_eq!(store.requests().gets - before, 1, "they are replaced");
    drop(connection);
}

#[tokio::test]
async fn what_was_purged_is_not_on_disk_and_does_not_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let bare = Store::memory();
    branch_off(&people(&bare).await, "dev").await;
    let connection = open(&cached(&bare, directory.path()), "main", 2).await;
    let before = newest(&cached(&bare, directory.path())).await;
    said(&connection.db()).await;
    let cache = connection.store().disk_cache().unwrap().clone();
    assert!(cache.usage().await.unwrap().frames > 0);

    let note = connection
        .db()
        .schema()
        .entid(&datomfusion_datalog::edn::Keyword::new("p/note"));
    let report = connection
        .purge(&Purge::Attribute(note.unwrap()))
        .await
        .unwrap();
    assert_eq!((report.datoms, report.elsewhere), (40, vec![name("dev")]));
    assert_eq!(cache.usage().await.unwrap().frames, 0);

    // The value of before still reads the old packs, and leaves nothing of them.
    said(&before).await;
    assert!(before.loader().loads().nodes > 0);
    assert_eq!(cache.usage().await.unwrap().frames, 0);

    let old = before.0.head.checkpoint.trees.map(|tree| tree.id());
    assert_ne!(connection.db().roots(), old);
    let purged = said(&connection.db()).await;
    let again = newest(&cached(&bare, directory.path())).await;
    assert_eq!(said(&again).await, purged);
    let frames = cache.usage().await.unwrap().frames;
    assert!(frames > 0, "values of after the purge use it");
    let refused = connection.purge(&Purge::Entity(crate::Entid(1))).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    assert_eq!(cache.usage().await.unwrap().frames, frames);
}
