//! The machine stops at any operation of a run.

use super::*;

/// Runs three collections with the grace between them until the storage stops.
async fn collections(simulation: &Arc<Simulation>, store: &Store) -> Option<Error> {
    for seed in 0..3 {
        let environment = world(simulation, 1 << 40 | seed);
        if let Err(error) = gc_in(store, &newest_only(), environment).await {
            return Some(error);
        }
        simulation.pass(61 * MINUTE);
    }
    None
}

#[tokio::test]
async fn a_stop_at_any_operation_of_a_run_leaves_the_store_whole() {
    let mut work = Work::begin(20).await;
    work.go_on(30, 10).await;
    work.simulation.pass(MINUTE);
    let start = work.simulation.copy().await;
    let (store, fuse) = work.simulation.store_until(0, false);
    assert!(collections(&work.simulation, &store).await.is_none());
    let operations = fuse.operations();
    let clean = work.simulation.store().list_packs().await.unwrap().len();
    assert!(operations > 60, "{operations} operations");
    assert!(store.requests().deletes > 5);
    for at in 1..=operations {
        for applied in [false, true] {
            work.simulation = start.copy().await;
            let (store, _) = work.simulation.store_until(at, applied);
            let error = collections(&work.simulation, &store).await;
            assert!(error.is_some(), "operation {at} was not reached");
            work.check(29).await;
            // The next runs take up what is left; a writer works between them.
            let store = work.simulation.store();
            for seed in 0..4 {
                work.simulation.pass(61 * MINUTE);
                let environment = world(&work.simulation, 1 << 41 | seed);
                gc_in(&store, &newest_only(), environment).await.unwrap();
            }
            let left = store.list_packs().await.unwrap().len();
            assert!(
                left <= clean + 2,
                "operation {at}: {left} packs are left, not {clean}"
            );
            assert!(
                store.list_notes().await.unwrap().len() <= 1,
                "operation {at}"
            );
            work.check(29).await;
        }
    }
}

/// A verdict named packs that a run found alive and repacked, and the run stopped before it had ended the verdict:
/// the next one found them dead and the verdict ripe, and readers of what had been alive had no grace.
#[tokio::test]
async fn a_stop_at_any_operation_of_a_run_leaves_readers_the_grace() {
    let mut work = Work::begin(22).await;
    work.go_on(40, 10).await;
    work.simulation.pass(MINUTE);
    let keep = |repack| GcOptions {
        retention: Retention::keep_all(),
        repack,
        ..GcOptions::default()
    };
    // Half of what old checkpoints needed goes with them.
    let thinned = GcOptions {
        repack: false,
        ..newest_only()
    };
    work.gc(&thinned, 1).await;
    let half = work.half_dead(&BranchName::default()).await;
    let wrong = Verdict::of(half.iter().copied()).encode();
    let note = PackId([u8::MAX; 16]);
    work.simulation.store().put_note(note, wrong).await.unwrap();
    work.simulation.pass(61 * MINUTE);
    let start = work.simulation.copy().await;
    let (store, fuse) = work.simulation.store_until(0, false);
    let environment = world(&work.simulation, 2);
    let report = gc_in(&store, &keep(true), environment).await.unwrap();
    assert!(report.repacked.count > 0, "{report:?}");
    for at in 1..=fuse.operations() {
        for applied in [false, true] {
            work.simulation = start.copy().await;
            let reader = Db::open(&work.simulation.store(), &BranchName::default())
                .await
                .unwrap();
            let (store, _) = work.simulation.store_until(at, applied);
            let environment = world(&work.simulation, 2);
            let stopped = gc_in(&store, &keep(true), environment).await;
            assert!(stopped.is_err(), "operation {at} was not reached");
            work.simulation.pass(MINUTE);
            work.gc(&keep(false), 3).await;
            if let Err(error) = reader.verify().await {
                panic!("operation {at}, {applied}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn a_stop_at_any_operation_of_a_purge_leaves_the_old_or_the_new_value() {
    let mut work = Work::begin(21).await;
    work.go_on(23, 1).await;
    let old = work.twin.clone();
    let ident = datomfusion_datalog::edn::Keyword::new("n/text");
    let text = work.connection.db().schema().entid(&ident).unwrap();
    let mut new = old.clone();
    for said in &mut new.0 {
        said.retain(|datom| datom.a != text);
    }
    let purge = async |simulation: &Arc<Simulation>, store: &Store, seed: u64| {
        let environment = world(simulation, (1 << 42) | seed);
        let branch = BranchName::default();
        let connection = Connection::open_in(store, branch, environment).await?;
        connection.purge(&crate::conn::Purge::Attribute(text)).await
    };
    let start = work.simulation.copy().await;
    let (store, fuse) = work.simulation.store_until(0, false);
    purge(&work.simulation, &store, 0).await.unwrap();
    let operations = fuse.operations();
    assert!(operations > 5, "{operations} operations");
    let mut found = [0, 0];
    for at in 1..=operations {
        for applied in [false, true] {
            work.simulation = start.copy().await;
            let (store, _) = work.simulation.store_until(at, applied);
            assert!(purge(&work.simulation, &store, 0).await.is_err(), "{at}");
            let store = work.simulation.store();
            let db = Db::open(&store, &BranchName::default()).await.unwrap();
            db.verify().await.unwrap();
            let log = db.collect(Index::Log, &Range::all()).await.unwrap();
            let purged = log == new.0.concat();
            assert!(purged || log == old.0.concat());
            found[usize::from(purged)] += 1;
            purge(&work.simulation, &store, 1).await.unwrap();
            work.twin = new.clone();
            work.check(5).await;
        }
    }
    assert!(found[0] > 0 && found[1] > 0, "{found:?}");
}
