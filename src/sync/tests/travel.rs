//! What travels is what is new, whatever happened at either end meanwhile.

use super::*;

/// The new checkpoints of `from` reach so much that the target's newest does not; the same number if
/// everything is counted that either head reaches.
async fn expected(from: &Db, to: &Db) -> (u64, u64) {
    let covered = to.0.head.checkpoint.covered;
    let (new, newest) = (
        checkpoints(from, covered).await,
        to.0.head.checkpoint.clone(),
    );
    let narrow = Reach::of(from, &new)
        .await
        .without(&Reach::of(to, &[newest]).await);
    let wide = Reach::all(from).await.without(&Reach::all(to).await);
    assert_eq!(narrow, wide);
    wide
}

#[tokio::test]
async fn exactly_what_is_new_travels() {
    for seed in [1, 2, 3] {
        let mut source = Source::large(10 + seed).await;
        let (from, to) = (source.store(), Store::memory());
        let whole = fetched(&from, &to, seed).await;
        let mut total = 0;
        for (round, every) in [(1, 50), (40, 13), (3, 1), (90, 200), (60, 7)] {
            source.go_on(round, every).await;
            source.connection.checkpoint().await.unwrap();
            let wanted = expected(&source.db().await, &opened(&to).await).await;
            let report = fetched(&from, &to, 100 * seed + round).await;
            println!("seed {seed}: {report:?}");
            assert_eq!(
                (report.nodes, report.bodies),
                wanted,
                "seed {seed}, round {round}"
            );
            assert_eq!(report.commits, round);
            total += report.nodes;
            alike(&source.db().await, &opened(&to).await, 37).await;
        }
        assert!(total > 100 && whole.nodes > 30, "{total}");
        // And on to a third store: what was copied can be copied.
        let third = Store::memory();
        let again = fetched(&to, &third, 7).await;
        let reach = Reach::all(&source.db().await).await;
        assert_eq!(
            (again.nodes, again.bodies),
            reach.without(&Reach::default())
        );
        alike(&source.db().await, &opened(&third).await, 53).await;
    }
}

#[tokio::test]
async fn a_small_change_reads_a_few_paths_of_both() {
    let source = Source::large(20).await;
    let (from, to) = (source.store(), Store::memory());
    let whole = fetched(&from, &to, 1).await;
    source.say("[{:n/id 17 :n/text \"changed\"}]").await;
    source.connection.checkpoint().await.unwrap();
    let report = fetched(&from, &to, 2).await;
    // Seven trees of two levels or three; the new commits lie in one leaf.
    assert!(
        report.nodes <= 7 * 3 && whole.nodes > 3 * report.nodes,
        "{report:?} {whole:?}"
    );
    assert!(report.from.gets < 20 && report.to.gets < 20, "{report:?}");
    assert_eq!(
        (report.to.puts, report.to.lists, report.to.deletes),
        (2, 0, 0)
    );
}

#[tokio::test]
async fn bodies_that_are_there_do_not_travel_again() {
    let mut source = Source::begin(21).await;
    source.go_on(60, 8).await;
    let (from, to) = (source.store(), Store::memory());
    fetched(&from, &to, 1).await;
    // The neighbours of large values change, and a large value is superseded.
    for n in 0..40 {
        source
            .say(&format!("[{{:n/id {n} :n/text \"neighbour {n}\"}}]"))
            .await;
    }
    source.connection.checkpoint().await.unwrap();
    let wanted = expected(&source.db().await, &opened(&to).await).await;
    assert_eq!(wanted.1, 0);
    let report = fetched(&from, &to, 2).await;
    assert_eq!((report.nodes, report.bodies), wanted);
    alike(&source.db().await, &opened(&to).await, 9).await;
}

#[tokio::test]
async fn a_target_with_checkpoints_of_its_own_keeps_them() {
    let mut source = Source::begin(23).await;
    let (from, to) = (source.store(), Store::memory());
    for round in 0..6 {
        source.go_on(11, 8).await;
        fetched(&from, &to, round).await;
        if round % 2 == 0 {
            let copy = Connection::open_in(&to, main(), Seeded::new(230 + round))
                .await
                .unwrap();
            copy.checkpoint().await.unwrap();
        }
        alike(&source.db().await, &opened(&to).await, 1).await;
    }
}

#[tokio::test]
async fn a_new_branch_shares_what_another_branch_has() {
    let source = Source::large(24).await;
    let (from, to) = (source.store(), Store::memory());
    let whole = fetched(&from, &to, 1).await;
    let branches = Branches::new_in(&from, Seeded::new(240));
    branches
        .create(&name("dev"), &source.db().await)
        .await
        .unwrap();
    let dev = Connection::open_in(&from, name("dev"), Seeded::new(241))
        .await
        .unwrap();
    said(&dev, "[{:n/id 3 :n/text \"on dev\"}]").await;
    dev.checkpoint().await.unwrap();
    let options = SyncOptions::branches(name("dev"), name("dev"));
    let report = copied(&from, &to, &options, 2).await.unwrap();
    assert_eq!(report.outcome, SyncOutcome::Created);
    assert!(
        report.nodes <= 7 * 3 && whole.nodes > 3 * report.nodes,
        "{report:?}"
    );
    let copy = Db::open(&to, &name("dev")).await.unwrap();
    alike(&dev.sync().await.unwrap(), &copy, 1).await;
    // Over a tombstone, too.
    let there = Branches::new_in(&to, Seeded::new(242));
    there.delete(&name("dev")).await.unwrap();
    let report = copied(&from, &to, &options, 3).await.unwrap();
    assert_eq!(report.outcome, SyncOutcome::Created);
    let copy = Db::open(&to, &name("dev")).await.unwrap();
    alike(&dev.sync().await.unwrap(), &copy, 1).await;
    opened(&to).await.verify().await.unwrap();
}

/// Collects garbage so that of the past only what was read by nobody is left, and deletes it at once.
async fn collected(store: &Store, seed: u64) {
    let options = GcOptions {
        retention: Retention::newest_only(),
        grace: std::time::Duration::ZERO,
        ..GcOptions::default()
    };
    gc_in(store, &options, Seeded::new(1 << 40 | seed))
        .await
        .unwrap();
}

#[tokio::test]
async fn collections_at_either_end_between_two_syncs_change_no_answer() {
    let mut source = Source::begin(25).await;
    let to = Simulation::new();
    for round in 0..8 {
        source.go_on(14, 5).await;
        fetched(&source.store(), &to.store(), round).await;
        source.simulation.pass(1000);
        to.pass(1000);
        if round % 2 == 0 {
            collected(&source.store(), round).await;
        }
        if round % 3 == 0 {
            collected(&to.store(), round).await;
        }
        source.connection.sync().await.unwrap();
        alike(&source.db().await, &opened(&to.store()).await, 5).await;
    }
}

#[tokio::test]
async fn what_was_purged_goes_from_the_copy_and_does_not_come_back() {
    let mut source = Source::begin(26).await;
    source.go_on(50, 7).await;
    let (from, to, stale) = (source.store(), Store::memory(), Store::memory());
    fetched(&from, &to, 1).await;
    fetched(&from, &stale, 2).await;
    let ident = crate::edn::Keyword::new("n/text");
    let text = source.connection.db().schema().entid(&ident).unwrap();
    for (seed, more) in [(3, 0), (4, 9)] {
        source.go_on(more, 4).await;
        source
            .connection
            .purge(&Purge::Attribute(text))
            .await
            .unwrap();
        let report = fetched(&from, &to, seed).await;
        assert_eq!(
            (report.outcome, report.commits),
            (SyncOutcome::FastForward, more)
        );
        let copy = opened(&to).await;
        alike(&source.db().await, &copy, 3).await;
        let log = facts(&copy, Index::Log).await;
        assert!(log.iter().all(|datom| datom.a != text));
        assert_eq!(
            checkpoints(&copy, 0).await.len(),
            checkpoints(&source.db().await, 0).await.len()
        );
        assert_eq!(fetched(&from, &to, 5).await.outcome, SyncOutcome::UpToDate);
    }
    // Later commits go on as usual.
    source.go_on(20, 3).await;
    let report = fetched(&from, &to, 6).await;
    assert_eq!(report.commits, 20);
    alike(&source.db().await, &opened(&to).await, 3).await;

    // A store that still holds the facts, and has later commits, does not bring them back.
    let copy = Connection::open_in(&stale, main(), Seeded::new(260))
        .await
        .unwrap();
    let purged = Simulation::new();
    fetched(&stale, &purged.store(), 7).await;
    let clean = Connection::open_in(&purged.store(), main(), Seeded::new(261))
        .await
        .unwrap();
    clean.purge(&Purge::Attribute(text)).await.unwrap();
    assert_eq!(
        fetched(&stale, &purged.store(), 8).await.outcome,
        SyncOutcome::UpToDate
    );
    said(&copy, "[{:n/id 1 :n/text \"later\"}]").await;
    let before = purged.bytes().await;
    let refused = copied(&stale, &purged.store(), &SyncOptions::default(), 9)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("still holds; purge it"),
        "{refused}"
    );
    assert_eq!(purged.bytes().await, before);
    let refused = copied(&purged.store(), &stale, &SyncOptions::default(), 10)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("it has later commits"),
        "{refused}"
    );
}

/// Each side had purged another fact, once. The counts were equal, so the copy was called up to date and kept
/// what its source had purged.
#[tokio::test]
async fn purges_are_told_apart_although_there_are_as_many() {
    let mut source = Source::begin(27).await;
    source.go_on(30, 7).await;
    let (from, to) = (source.store(), Store::memory());
    fetched(&from, &to, 1).await;
    let copy = Connection::open_in(&to, main(), Seeded::new(270))
        .await
        .unwrap();
    let ident = crate::edn::Keyword::new("n/id");
    let id = source.connection.db().schema().entid(&ident).unwrap();
    let log = facts(&source.db().await, Index::Eavt).await;
    let entity = |n: i64| {
        let found = log.iter().find(|d| d.a == id && d.v == Value::Long(n));
        Purge::Entity(found.unwrap().e)
    };
    let (one, two) = (entity(1), entity(2));
    assert!(source.connection.purge(&one).await.unwrap().datoms > 0);
    assert!(copy.purge(&two).await.unwrap().datoms > 0);
    let refused = copied(&from, &to, &SyncOptions::default(), 2)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("still holds; purge it"),
        "{refused}"
    );
    // The other way round it is the same.
    let refused = copied(&to, &from, &SyncOptions::default(), 3)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("still holds; purge it"),
        "{refused}"
    );
    // With commits of its own, too, the copy is not called up to date.
    let ahead = Simulation::new();
    fetched(&to, &ahead.store(), 4).await;
    let later = Connection::open_in(&ahead.store(), main(), Seeded::new(271))
        .await
        .unwrap();
    said(&later, "[{:n/id 5 :n/text \"later\"}]").await;
    let refused = copied(&from, &ahead.store(), &SyncOptions::default(), 5)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("it has later commits"),
        "{refused}"
    );
    later.purge(&one).await.unwrap();
    let done = fetched(&from, &ahead.store(), 6).await;
    assert_eq!(done.outcome, SyncOutcome::UpToDate);

    // Nor if it has merged the source and goes on by itself.
    let (source_of_merge, merged) = (Simulation::new(), Simulation::new());
    fetched(&to, &merged.store(), 7).await;
    fetched(&to, &source_of_merge.store(), 8).await;
    let theirs = Connection::open_in(&source_of_merge.store(), main(), Seeded::new(272))
        .await
        .unwrap();
    said(&theirs, "[{:n/id 6 :n/text \"there\"}]").await;
    let ours = Connection::open_in(&merged.store(), main(), Seeded::new(273))
        .await
        .unwrap();
    said(&ours, "[{:n/id 7 :n/text \"here\"}]").await;
    let aside = SyncOptions::branches(main(), name("theirs"));
    copied(&source_of_merge.store(), &merged.store(), &aside, 9)
        .await
        .unwrap();
    let value = Db::open(&merged.store(), &name("theirs")).await.unwrap();
    let merge = ours.merge(&value, &crate::MergeStrategy::Theirs).await;
    assert_eq!(merge.unwrap().outcome, crate::MergeOutcome::Merged);
    let (from, to) = (source_of_merge.store(), merged.store());
    assert_eq!(fetched(&from, &to, 10).await.outcome, SyncOutcome::UpToDate);
    let three = entity(3);
    assert!(theirs.purge(&one).await.unwrap().datoms > 0);
    assert!(ours.purge(&three).await.unwrap().datoms > 0);
    let refused = copied(&from, &to, &SyncOptions::default(), 11)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("purge them there, too"),
        "{refused}"
    );
    ours.purge(&one).await.unwrap();
    assert_eq!(fetched(&from, &to, 12).await.outcome, SyncOutcome::UpToDate);
}

/// One side had purged two facts one after the other, the other both at once. The counts differed for ever: the
/// copy was written anew by a fetch, and refused for good where it had commits of its own, be they a merge.
#[tokio::test]
async fn the_same_facts_are_purged_in_however_many_steps() {
    let mut source = Source::begin(28).await;
    source.go_on(30, 7).await;
    source.say("[{:n/id 9001 :n/text \"to go\"}]").await;
    let (from, to) = (source.store(), Simulation::new());
    fetched(&from, &to.store(), 1).await;
    let (ahead, merged) = (to.copy().await, to.copy().await);
    let connect =
        async |at: &Store, seed: u64| Connection::open_in(at, main(), Seeded::new(seed)).await;
    let said_here = async |at: &Store, seed: u64, text: &str| {
        let connection = connect(at, seed).await.unwrap();
        said(&connection, text).await;
        connection
    };
    let here = said_here(&merged.store(), 280, "[{:n/id 7 :n/text \"here\"}]").await;
    source.say("[{:n/id 6 :n/text \"there\"}]").await;
    let aside = SyncOptions::branches(main(), name("theirs"));
    copied(&from, &merged.store(), &aside, 2).await.unwrap();
    let theirs = Db::open(&merged.store(), &name("theirs")).await.unwrap();
    let merge = here.merge(&theirs, &crate::MergeStrategy::Theirs).await;
    assert_eq!(merge.unwrap().outcome, crate::MergeOutcome::Merged);
    fetched(&from, &ahead.store(), 3).await;
    fetched(&from, &to.store(), 4).await;
    let later = said_here(&ahead.store(), 281, "[{:n/id 5 :n/text \"later\"}]").await;

    let there = facts(&source.db().await, Index::Eavt).await;
    let e = there.iter().find(|datom| datom.v == Value::Long(9001));
    let e = e.unwrap().e;
    for datom in there.into_iter().filter(|datom| datom.e == e) {
        let Datom { e, a, v, .. } = datom;
        let one = source.connection.purge(&Purge::Fact { e, a, v }).await;
        assert!(one.unwrap().datoms > 0);
    }
    assert_eq!(source.db().await.0.head.purges, 2);
    for (seed, copy) in [
        (5, connect(&to.store(), 282).await.unwrap()),
        (6, later),
        (7, here),
    ] {
        assert_eq!(copy.purge(&Purge::Entity(e)).await.unwrap().datoms, 2);
        let report = fetched(&from, copy.store(), seed).await;
        assert_eq!(report.outcome, SyncOutcome::UpToDate, "{seed}");
        assert_eq!(copy.sync().await.unwrap().0.head.purges, 1, "{seed}");
    }
}
