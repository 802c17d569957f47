//! A machine stops at any operation, somebody is faster, or bytes are damaged.

use std::task::{Context, Poll, Waker};

use super::*;
use crate::store::simulated::{Dice, Weather};
use crate::store::{FrameKind, read_footer};

/// A source, and a target that is behind it; the target is empty if so wanted.
async fn behind(seed: u64, empty: bool) -> (Source, Arc<Simulation>) {
    let mut source = Source::begin(seed).await;
    source.say(&bulk(0, 900)).await;
    source.go_on(4, 3).await;
    let to = Simulation::new();
    if !empty {
        fetched(&source.store(), &to.store(), 1).await;
    }
    source.go_on(17, 3).await;
    source.say(&bulk(300, 700).replace("bulk", "changed")).await;
    source.connection.checkpoint().await.unwrap();
    source.go_on(2, 100).await;
    (source, to)
}

#[tokio::test]
async fn a_stop_at_any_operation_is_taken_up_and_little_is_copied_twice() {
    for empty in [true, false] {
        let (source, start) = behind(30, empty).await;
        let to = start.copy().await;
        let (store, fuse) = to.store_until(0, false);
        let whole = copied(&source.store(), &store, &small(), 2).await.unwrap();
        let operations = fuse.operations();
        let packs = to.store().list_packs().await.unwrap().len();
        assert!(
            operations > 15 && packs > 10,
            "{operations} operations, {packs} packs"
        );
        assert_eq!(to.store().list_notes().await.unwrap(), []);
        let mut saved = 0;
        for at in 1..=operations {
            for applied in [false, true] {
                let to = start.copy().await;
                let (store, _) = to.store_until(at, applied);
                let mut sent = 0;
                let first = sync_watched(
                    &source.store(),
                    &store,
                    &small(),
                    Seeded::new(1 << 33 | at),
                    &mut |report| sent = report.nodes,
                )
                .await;
                // What is left to do after the swap may fail unheard.
                let left = at + 2 > operations;
                assert!(first.is_err() || left, "operation {at} was not reached");
                match Db::open(&to.store(), &main()).await {
                    Ok(there) => {
                        there.verify().await.unwrap();
                    }
                    // Not yet seen to be whole.
                    Err(Error::NoDatabase { .. } | Error::BranchDeleted { .. }) => {
                        assert!(empty && first.is_err());
                    }
                    Err(error) => panic!("operation {at}: {error}"),
                }
                let again = if empty { hints(&to.store()).await } else { 0 };
                let second = copied(&source.store(), &to.store(), &small(), 3)
                    .await
                    .unwrap();
                assert!(second.nodes <= whole.nodes);
                assert!(
                    sent + second.nodes <= whole.nodes + TOGETHER_SENT + again,
                    "operation {at}: {sent} and {} of {}",
                    second.nodes,
                    whole.nodes
                );
                saved += whole.nodes - second.nodes;
                alike(&source.db().await, &opened(&to.store()).await, 13).await;
                let notes = to.store().list_notes().await.unwrap();
                assert!(notes.is_empty() || second.outcome == SyncOutcome::UpToDate);
            }
        }
        assert!(saved > whole.nodes, "{saved}");
    }
}

/// Nodes of a pack of the small kind, and those that a report runs ahead.
const TOGETHER_SENT: u64 = 24;

/// Nodes of a store that say where others lie: where nothing was shared, they are copied again.
async fn hints(store: &Store) -> u64 {
    let mut found = 0;
    for pack in store.list_packs().await.unwrap() {
        let footer = read_footer(store, pack.id).await.unwrap();
        let hints = footer.entries().iter();
        let hints = hints.filter(|e| matches!(e.kind, FrameKind::Inner | FrameKind::Holder));
        found += hints.count() as u64;
    }
    found
}

#[tokio::test]
async fn a_stop_of_the_source_leaves_the_target_as_it_was() {
    let (source, start) = behind(31, false).await;
    let old = opened(&start.store()).await;
    let (store, fuse) = source.simulation.store_until(0, false);
    copied(&store, &start.copy().await.store(), &small(), 2)
        .await
        .unwrap();
    for at in 1..=fuse.operations() {
        let to = start.copy().await;
        let (store, _) = source.simulation.store_until(at, false);
        let error = copied(&store, &to.store(), &small(), 3).await.unwrap_err();
        assert!(matches!(error, Error::Store { .. }), "{error}");
        alike(&old, &opened(&to.store()).await, 29).await;
        copied(&source.store(), &to.store(), &small(), 4)
            .await
            .unwrap();
        alike(&source.db().await, &opened(&to.store()).await, 29).await;
    }
}

#[tokio::test]
async fn a_damaged_node_stops_it_by_name_and_the_target_stays_as_it_was() {
    let (source, start) = behind(32, false).await;
    let db = source.db().await;
    let new = checkpoints(&db, opened(&start.store()).await.0.head.checkpoint.covered).await;
    let mut named = 0;
    for tree in new
        .last()
        .unwrap()
        .trees
        .iter()
        .filter_map(|tree| tree.root)
    {
        let mut open = vec![tree];
        while let Some(place) = open.pop() {
            let here = [(place.id, place.location)];
            let node = db.loader().load_here(&here).await.unwrap().pop().unwrap();
            // The last of each level will do.
            open.extend(place.children(&node).unwrap().pop());
            let damaged = source.simulation.copy().await;
            let hex = place.location.pack.to_string();
            let key = format!("packs/{}/{hex}", &hex[..2]);
            let mut pack = damaged.bytes().await[&key].to_vec();
            let at = usize::try_from(place.location.offset).unwrap() + 9;
            pack[at] ^= 1;
            damaged.put(&key, &pack).await;
            let to = start.copy().await;
            let heads = opened(&to.store()).await.head_commit();
            let copy = copied(&damaged.store(), &to.store(), &small(), 2).await;
            let Err(error) = copy else {
                // It was there already.
                continue;
            };
            let Error::Corrupt { object, .. } = &error else {
                panic!("{error}")
            };
            assert!(object.contains(&place.id.to_string()), "{error}");
            assert_eq!(opened(&to.store()).await.head_commit(), heads);
            opened(&to.store()).await.verify().await.unwrap();
            named += 1;
            // From the source as it should be, the rest.
            copied(&source.store(), &to.store(), &small(), 3)
                .await
                .unwrap();
            alike(&db, &opened(&to.store()).await, 29).await;
        }
    }
    assert!(named > 7, "{named}");
}

#[tokio::test]
async fn two_at_once_do_no_harm() {
    for empty in [true, false] {
        let (source, to) = behind(33, empty).await;
        let (from, store) = (source.store(), to.store());
        let (one, two) = (small(), SyncOptions::default());
        let (one, two, three) = futures::join!(
            copied(&from, &store, &one, 2),
            copied(&from, &store, &two, 3),
            copied(&from, &store, &one, 4)
        );
        for report in [one, two, three] {
            report.unwrap();
        }
        alike(&source.db().await, &opened(&store).await, 7).await;
    }
}

/// Does something at the target while a copy is under way, once.
async fn amid(
    source: &Source,
    to: &Store,
    options: &SyncOptions,
    act: impl FnOnce() + Send,
) -> Result<SyncReport> {
    let mut act = Some(act);
    let mut progress = |_: &SyncReport| {
        if let Some(act) = act.take() {
            act();
        }
    };
    sync_watched(&source.store(), to, options, Seeded::new(77), &mut progress).await
}

#[tokio::test]
async fn a_writer_at_the_target_is_not_overwritten() {
    let (source, start) = behind(34, false).await;
    for options in [small(), SyncOptions::default()] {
        let to = start.copy().await;
        let writer = Connection::open_in(&to.store(), main(), Seeded::new(340))
            .await
            .unwrap();
        let refused = amid(&source, &to.store(), &options, || {
            block_on(said(&writer, "[{:n/id 9 :n/text \"meanwhile\"}]"));
        })
        .await
        .unwrap_err();
        assert!(
            refused.to_string().contains("have parted after t="),
            "{refused}"
        );
        assert_eq!(
            opened(&to.store()).await.head_commit(),
            writer.db().head_commit()
        );
        opened(&to.store()).await.verify().await.unwrap();

        // Who says nothing new is no obstacle.
        let to = start.copy().await;
        let writer = Connection::open_in(&to.store(), main(), Seeded::new(341))
            .await
            .unwrap();
        amid(&source, &to.store(), &options, || {
            block_on(writer.checkpoint()).unwrap();
        })
        .await
        .unwrap();
        alike(&source.db().await, &opened(&to.store()).await, 7).await;
    }
}

#[tokio::test]
async fn a_collection_at_the_target_meanwhile_takes_nothing_that_the_copy_needs() {
    for empty in [true, false] {
        let (source, start) = behind(35, empty).await;
        for options in [small(), SyncOptions::default()] {
            let to = start.copy().await;
            let store = to.store();
            amid(&source, &store, &options, || {
                for seed in 0..3 {
                    to.pass(61 * 60 * 1000);
                    let options = GcOptions {
                        retention: Retention::newest_only(),
                        ..GcOptions::default()
                    };
                    block_on(gc_in(&store, &options, Seeded::new(350 + seed))).unwrap();
                }
            })
            .await
            .unwrap();
            alike(&source.db().await, &opened(&to.store()).await, 7).await;
            assert_eq!(to.store().list_notes().await.unwrap(), []);
        }
    }
}

#[tokio::test]
async fn what_was_copied_is_kept_for_a_week_and_no_longer() {
    for empty in [true, false] {
        let (source, start) = behind(36, empty).await;
        let (store, fuse) = start.copy().await.store_until(0, false);
        let whole = copied(&source.store(), &store, &small(), 2).await.unwrap();
        let most = fuse.operations() * 3 / 4;
        let to = start.copy().await;
        let before = to.store().list_packs().await.unwrap().len();
        let (store, _) = to.store_until(most, false);
        copied(&source.store(), &store, &small(), 3)
            .await
            .unwrap_err();
        let gc = async |seed: u64| {
            to.pass(25 * HOUR);
            gc_in(&to.store(), &GcOptions::default(), Seeded::new(360 + seed))
                .await
                .unwrap()
        };
        let kept = to.store().list_packs().await.unwrap().len();
        assert!(kept > before + 5, "{kept}");
        for seed in 0..4 {
            gc(seed).await;
        }
        let later = Simulation::copy(&to).await;
        let second = copied(&source.store(), &later.store(), &small(), 4)
            .await
            .unwrap();
        assert!(second.nodes < whole.nodes, "{second:?} of {whole:?}");
        alike(&source.db().await, &opened(&later.store()).await, 7).await;
        assert_eq!(later.store().list_notes().await.unwrap(), []);
        for seed in 4..10 {
            gc(seed).await;
        }
        assert!(to.store().list_packs().await.unwrap().len() <= before);
        copied(&source.store(), &to.store(), &small(), 5)
            .await
            .unwrap();
        alike(&source.db().await, &opened(&to.store()).await, 7).await;
    }
}

const HOUR: i64 = 60 * 60 * 1000;

async fn collect(to: &Arc<Simulation>, seed: u64) {
    gc_in(
        &to.store(),
        &GcOptions::default(),
        Seeded::new(1 << 41 | seed),
    )
    .await
    .unwrap();
}

/// A copy was stopped; days later another took up its bodies and was stopped as well. When the first one's week
/// was over, its packs went. What the second one had written still led there, and a third believed it, because
/// where there is no head there is no epoch that could have changed. Now it does not.
#[tokio::test]
async fn what_a_copy_took_up_may_go_before_the_copy_does() {
    let (source, start) = behind(37, true).await;
    let (store, fuse) = start.copy().await.store_until(0, false);
    copied(&source.store(), &store, &small(), 2).await.unwrap();
    let operations = fuse.operations();
    let mut stopped = 0;
    for first in [operations / 3, operations / 2] {
        for second in (first / 2..operations).step_by(5) {
            let to = start.copy().await;
            let (store, _) = to.store_until(first, false);
            copied(&source.store(), &store, &small(), 3)
                .await
                .unwrap_err();
            to.pass(5 * 24 * HOUR);
            let (store, _) = to.store_until(second, false);
            if copied(&source.store(), &store, &small(), 4).await.is_ok() {
                continue;
            }
            stopped += 1;
            for (round, hours) in [(0, 49), (1, 2), (2, 2)] {
                to.pass(hours * HOUR);
                collect(&to, round).await;
            }
            copied(&source.store(), &to.store(), &small(), 5)
                .await
                .unwrap();
            alike(&source.db().await, &opened(&to.store()).await, 29).await;
        }
    }
    assert!(stopped > 5, "{stopped}");
}

/// A copy takes up what another had left almost a week ago. While it goes on, the week ends, and two collections
/// take away what it has taken up.
#[tokio::test]
async fn what_was_taken_up_is_looked_for_again_before_the_head_moves() {
    for empty in [true, false] {
        let (source, start) = behind(38, empty).await;
        let (store, fuse) = start.copy().await.store_until(0, false);
        copied(&source.store(), &store, &small(), 2).await.unwrap();
        for quarter in [2, 3] {
            let to = start.copy().await;
            let (store, _) = to.store_until(fuse.operations() * quarter / 4, false);
            copied(&source.store(), &store, &small(), 3)
                .await
                .unwrap_err();
            to.pass(7 * 24 * HOUR - HOUR);
            amid(&source, &to.store(), &small(), || {
                for round in 0..3 {
                    to.pass(2 * HOUR);
                    block_on(collect(&to, round));
                }
            })
            .await
            .unwrap();
            alike(&source.db().await, &opened(&to.store()).await, 29).await;
            assert_eq!(to.store().list_notes().await.unwrap(), []);
        }
    }
}

/// A new branch beside another of the same database, on which it leans.
async fn beside(seed: u64) -> (Source, Arc<Simulation>, SyncOptions) {
    let (mut source, to) = behind(seed, false).await;
    for round in 0..4 {
        source.go_on(9, 3).await;
        fetched(&source.store(), &to.store(), 100 + round).await;
    }
    source.go_on(14, 3).await;
    source.connection.checkpoint().await.unwrap();
    let options = SyncOptions {
        to_branch: name("dev"),
        ..small()
    };
    (source, to, options)
}

/// The branch was made, and one read later it was looked whether what it shares still stands. If that read
/// failed, the error left the branch behind, and nobody knew whether it could be relied on.
#[tokio::test]
async fn a_request_that_fails_once_leaves_no_branch_that_nobody_vouches_for() {
    let (source, start, options) = beside(39).await;
    let (store, fuse) = start.copy().await.store_until(0, false);
    copied(&source.store(), &store, &options, 2).await.unwrap();
    for at in 1..=fuse.operations() {
        for applied in [false, true] {
            let to = start.copy().await;
            let store = to.store_stumbling(at, applied);
            let copy = copied(&source.store(), &store, &options, 3).await;
            let there = Db::open(&to.store(), &name("dev")).await;
            match copy {
                Ok(_) => alike(&source.db().await, &there.unwrap(), 999).await,
                Err(error) => assert!(there.is_err(), "operation {at}: {error}"),
            }
        }
    }
}

/// A collection takes away what the copy was about to read of the other branch. The head of the new one is not
/// there yet and cannot tell; that of the other can.
#[tokio::test]
async fn a_collection_that_meets_only_the_neighbour_makes_a_new_branch_begin_anew() {
    let (source, start, options) = beside(40).await;
    let to = start.copy().await;
    let options_of_gc = GcOptions {
        retention: Retention::newest_only(),
        ..GcOptions::default()
    };
    amid(&source, &to.store(), &options, || {
        for seed in 0..3 {
            to.pass(2 * HOUR);
            block_on(gc_in(&to.store(), &options_of_gc, Seeded::new(400 + seed))).unwrap();
        }
    })
    .await
    .unwrap();
    let copy = Db::open(&to.store(), &name("dev")).await.unwrap();
    alike(&source.db().await, &copy, 29).await;
}

/// A first copy has no head that a collection would swap, so nothing kept it from naming packs that two
/// collections had taken away after it had put them. Now it looks for them once the head is in place.
#[test]
fn collections_between_the_pack_and_the_first_head_make_a_copy_begin_anew() {
    let (source, start) = block_on(behind(41, true));
    let mut between = 0;
    for seed in 0..8 {
        let to = block_on(start.copy());
        let weather = Weather::new("copier", 0, false, Dice(seed));
        let (from, store) = (source.store(), to.store_in(weather, 0, false));
        let options = SyncOptions::default();
        let mut copy = Box::pin(copied(&from, &store, &options, 2));
        let mut context = Context::from_waker(Waker::noop());
        let mut collected = false;
        let report = loop {
            if let Poll::Ready(report) = copy.as_mut().poll(&mut context) {
                break report.unwrap();
            }
            let there = to.store();
            let put = !block_on(there.list_packs()).unwrap().is_empty();
            if put && !std::mem::replace(&mut collected, true) {
                between += u32::from(block_on(there.list_branches()).unwrap().is_empty());
                for round in 0..2 {
                    to.pass(2 * HOUR);
                    block_on(collect(&to, round));
                }
            }
        };
        assert_eq!(report.outcome, SyncOutcome::Created);
        block_on(async { alike(&source.db().await, &opened(&to.store()).await, 29).await });
    }
    assert!(between > 2, "{between}");
}

/// One request fails, once, while a branch that is there moves on by a single pack: told so or not, what its head names
/// is there.
#[tokio::test]
async fn a_request_that_fails_once_leaves_the_old_head_or_a_whole_one() {
    let (source, start) = behind(47, false).await;
    let options = SyncOptions::default();
    let (store, fuse) = start.copy().await.store_until(0, false);
    copied(&source.store(), &store, &options, 2).await.unwrap();
    for at in 1..=fuse.operations() {
        let to = start.copy().await;
        let store = to.store_stumbling(at, false);
        let copy = copied(&source.store(), &store, &options, 3).await;
        let there = opened(&to.store()).await;
        match copy {
            Ok(_) => alike(&source.db().await, &there, 999).await,
            Err(_) => drop(there.verify().await.unwrap()),
        }
    }
}
