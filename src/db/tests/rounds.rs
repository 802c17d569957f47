//! How often a reader waits for its storage, one answer after another: with 30 ms a request, that is its time.

use std::sync::Arc;

use super::{all, cold, create, transact};
use crate::store::simulated::{Rounds, Simulation};
use crate::{Components, Datom, Db, Entid, EntityRef, Import, Index, LookupRef, Store, Value};
use datomfusion_datalog::edn::Keyword;
use futures::TryStreamExt;

const PEOPLE: i64 = 20_000;

/// People imported at t=2, then small transactions, with checkpoints on the way.
async fn people(store: &Store) -> Db {
    let connection = create(store, 3).await;
    transact(
        &connection,
        r#"[{:db/ident :p/id :db/valueType :db.type/long :db/cardinality :db.cardinality/one
             :db/unique :db.unique/identity}
            {:db/ident :p/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
            {:db/ident :p/note :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]"#,
    )
    .await;
    let mut import = Import::new(connection.db().schema());
    let [id, age, note] = ["p/id", "p/age", "p/note"].map(|ident| import.attribute(ident).unwrap());
    for n in 0..PEOPLE {
        import
            .entity([
                (id, Value::Long(n)),
                (age, Value::Long(n % 90)),
                (note, Value::string(format!("note {}", n * 7919 % 10_007))),
            ])
            .unwrap();
    }
    connection.import(import).await.unwrap();
    for n in 0..900i64 {
        let aged = |k: i64| {
            format!(
                "{{:p/id {} :p/age {}}}",
                (n * 37 + k * 4001) % PEOPLE,
                n % 90
            )
        };
        let text = (0..5).map(aged).collect::<Vec<_>>().join(" ");
        // Some notes are large values, which lie out of line.
        let large = "large ".repeat(if n % 50 == 0 { 400 } else { 0 });
        let note = format!("{{:p/id {n} :p/note \"{large}{n}\"}}");
        transact(&connection, &format!("[{text} {note}]")).await;
    }
    connection.db()
}

/// A value opened behind a slow storage, read by something that has read nothing.
async fn counted<T>(
    simulation: &Arc<Simulation>,
    read: impl AsyncFnOnce(Db) -> T,
) -> (T, u64, usize) {
    let (store, rounds): (_, Arc<Rounds>) = simulation.store_in_rounds();
    let read = Box::pin(async { read(cold(&store).await).await });
    rounds.of(read).await
}

async fn entity(db: &Db, e: Entid) -> Vec<Datom> {
    let datoms = db.datoms(Index::Eavt, Components::all().e(e)).unwrap();
    datoms.try_collect().await.unwrap()
}

#[tokio::test]
async fn readers_wait_for_the_heights_of_trees() {
    let simulation = Simulation::new();
    let newest = people(&simulation.store()).await;
    let sizes = newest.tree_sizes().await.unwrap();
    let height = |name: &str| {
        let size = sizes.iter().find(|size| size.name.to_string() == name);
        u64::from(size.unwrap().height)
    };
    let by_id = EntityRef::Lookup(LookupRef {
        attribute: Keyword::new("p/id"),
        value: Value::Long(PEOPLE / 2),
    });
    let e = newest.entid(&by_id).await.unwrap().unwrap();

    let ((), waited, _) = counted(&simulation, async |_| ()).await;
    assert_eq!(waited, 1, "opening reads the head");

    let (found, waited, _) = counted(&simulation, async |db| entity(&db, e).await).await;
    assert_eq!(found, entity(&newest, e).await);
    assert!(waited <= 1 + height("eavt"), "{waited}");

    let (found, waited, _) = counted(&simulation, async |db| {
        let e = db.entid(&by_id).await.unwrap().unwrap();
        entity(&db, e).await
    })
    .await;
    assert_eq!(found.len(), 3);
    assert!(waited <= 1 + height("avet") + height("eavt"), "{waited}");

    // In the tail, and with one, two and more checkpoints in between.
    let t = newest.basis_t();
    for ago in [1, 150, 300, 500, 700, 890] {
        let past = newest.as_of(crate::TimePoint::T(t - ago)).await.unwrap();
        let (found, waited, _) = counted(&simulation, async |db| {
            let past = db.as_of(crate::TimePoint::T(t - ago)).await.unwrap();
            entity(&past, e).await
        })
        .await;
        assert_eq!(found, entity(&past, e).await);
        // The record of `t` beside the path to the log's end; the checkpoint's record beside the log's piece,
        // which may be two windows and hold large values.
        let most = 1 + height("commits").max(height("log")) + 4 + height("eavt");
        println!("{ago} ago: {waited} rounds, at most {most}");
        assert!(waited <= most, "{waited} rounds, {ago} ago");
    }
}

#[tokio::test]
async fn scans_wait_a_few_times_now_and_then() {
    let simulation = Simulation::new();
    let newest = people(&simulation.store()).await;
    let t = newest.basis_t();
    for index in [Index::Eavt, Index::Aevt, Index::Avet, Index::Log] {
        let expected = all(&newest, index).await;
        let (found, waited, at_once) = counted(&simulation, async |db| all(&db, index).await).await;
        assert_eq!(found, expected);
        println!("{index:?}: {waited} rounds, {at_once} requests at once");
        // Windows of 1, 2, 4 … leaves, and then the bodies of as many.
        assert!(waited <= 16, "{index:?}: {waited} rounds");
        assert!(at_once <= 32);

        let past = newest.as_of(crate::TimePoint::T(t - 500)).await.unwrap();
        let expected = all(&past, index).await;
        let (found, waited, _) = counted(&simulation, async |db| {
            let past = db.as_of(crate::TimePoint::T(t - 500)).await.unwrap();
            all(&past, index).await
        })
        .await;
        assert_eq!(found, expected);
        println!("{index:?} as of 500 ago: {waited} rounds");
        assert!(waited <= 24, "{index:?} as of: {waited} rounds");
    }
    let expected = all(&newest.history(), Index::Eavt).await;
    let (found, waited, _) = counted(&simulation, async |db| {
        all(&db.history(), Index::Eavt).await
    })
    .await;
    assert_eq!(found, expected);
    println!("history: {waited} rounds");
    assert!(waited <= 32, "history: {waited} rounds");
}
