//! Merges with branches that were purged: who is who, and what comes back.

use super::*;
use crate::conn::Purge;
use crate::conn::fixture::{PEOPLE, create};
use crate::store::simulated::{Does, Fate, Simulation, Weather, patient};

/// Ada and her friend Bob on main, and dev, which has forgotten all names since.
async fn forgetful(seed: u64, friends: bool) -> (Connection, Connection, Entid) {
    let main = people(seed).await;
    transact(&main, "[{:p/name \"Ada\" :p/age 36} {:p/name \"Bob\"}]").await;
    if friends {
        let said = "[{:p/name \"Ada\" :p/friend [[:p/name \"Bob\"]]}]";
        transact(&main, said).await;
    }
    let bob = person(&main.db(), "Bob").await.unwrap();
    let dev = branch_off(&main, "dev").await;
    transact(&dev, "[{:p/name \"Ada\" :p/age 37}]").await;
    let names = Purge::Attribute(attribute(&dev.db(), "p/name"));
    let _ = dev.purge(&names).await.unwrap();
    (main, dev, bob)
}

/// Nothing was left on theirs that said of Bob that he was born before the two parted, so he was taken for
/// somebody new.
#[tokio::test]
async fn an_entity_whose_birth_theirs_was_purged_of_is_known_on_ours() {
    for friends in [true, false] {
        let (main, dev, bob) = forgetful(50, friends).await;
        transact(&dev, &format!("[[:db/add {bob} :p/note \"b\"]]")).await;
        transact(&main, "[{:p/name \"Eve\"}]").await;
        let report = merge(&main, &dev, &MergeStrategy::Fail).await;
        assert_eq!(report.outcome, MergeOutcome::Merged);
        assert_eq!(report.renumbered, BTreeMap::new());
        assert_eq!(
            values_of(&main.db(), "Bob", "p/note").await,
            [Value::string("b")]
        );
        // And in the other direction, where it is ours that was purged.
        transact(&main, "[{:p/name \"Bob\" :p/age 5}]").await;
        let _ = merge(&dev, &main, &MergeStrategy::Fail).await;
        let age = attribute(&dev.db(), "p/age");
        let facts = all(&dev.db(), Index::Eavt).await;
        assert!(facts.iter().any(|d| (d.e, d.a) == (bob, age)));
    }
}

/// With both purged, a reference is all that is left of Bob.
#[tokio::test]
async fn an_entity_that_is_only_referred_to_is_known_on_both() {
    let (main, dev, bob) = forgetful(51, true).await;
    let names = Purge::Attribute(attribute(&main.db(), "p/name"));
    let _ = main.purge(&names).await.unwrap();
    transact(&dev, &format!("[[:db/add {bob} :p/note \"b\"]]")).await;
    transact(&main, "[{:p/note \"ours\"}]").await;
    let report = merge(&main, &dev, &MergeStrategy::Fail).await;
    assert_eq!(report.renumbered, BTreeMap::new());
}

/// The checkpoint of a branch from the past tells the ids that its origin has handed out since.
#[tokio::test]
async fn an_entity_born_on_ours_after_the_fork_is_not_theirs() {
    let main = people(52).await;
    let past = main.db();
    transact(&main, "[{:p/name \"Eve\" :p/age 1}]").await;
    let past = main.db().as_of(TimePoint::T(past.basis_t())).await.unwrap();
    main.branches()
        .create(&crate::conn::fixture::name("dev"), &past)
        .await
        .unwrap();
    let dev = open(main.store(), "dev", 53).await;
    dev.checkpoint().await.unwrap();
    transact(&dev, "[{:p/name \"Eve\" :p/note \"theirs\"}]").await;
    let report = merge(&main, &dev, &MergeStrategy::Fail).await;
    assert_eq!(report.outcome, MergeOutcome::Merged);
    assert_eq!(
        values_of(&main.db(), "Eve", "p/note").await,
        [Value::string("theirs")]
    );
}

/// A checkpoint at the fork told the ids that the origin had handed out since. Once both were purged, its bound
/// was believed, and whom ours had named since the two parted was taken for somebody whom theirs knows.
#[tokio::test]
async fn strangers_stay_strangers_although_both_were_purged() {
    for checkpointed in [false, true] {
        let main = people(57).await;
        transact(&main, "[{:p/name \"Ada\" :p/note \"secret\"}]").await;
        let past = main.db().basis_t();
        transact(&main, "[{:p/name \"Eve\" :p/age 1}]").await;
        let past = main.db().as_of(TimePoint::T(past)).await.unwrap();
        let dev = crate::conn::fixture::name("dev");
        main.branches().create(&dev, &past).await.unwrap();
        let dev = open(main.store(), "dev", 58).await;
        if checkpointed {
            dev.checkpoint().await.unwrap();
        }
        let notes = Purge::Attribute(attribute(&dev.db(), "p/note"));
        for line in [&dev, &main] {
            assert_eq!(line.purge(&notes).await.unwrap().datoms, 1);
        }
        transact(&dev, "[{:p/name \"Eve\" :p/tags [:theirs]}]").await;
        let report = merge(&main, &dev, &MergeStrategy::Fail).await;
        assert_eq!(report.conflicts, []);
        assert_eq!(report.outcome, MergeOutcome::Merged);
        assert_eq!(values_of(&main.db(), "Eve", "p/tags").await.len(), 1);
        main.db().verify().await.unwrap();
    }
}

/// A value that was opened before its branch was purged still shows what was purged.
#[tokio::test]
async fn a_value_that_was_purged_since_is_not_merged() {
    for ours_went_on in [false, true] {
        let (main, dev) = two(54).await;
        transact(&dev, "[{:p/name \"Ada\" :p/note \"secret\"}]").await;
        let stale = dev.db();
        if ours_went_on {
            transact(&main, "[{:p/name \"Bob\" :p/age 1}]").await;
        }
        let notes = Purge::Attribute(attribute(&dev.db(), "p/note"));
        let report = dev.purge(&notes).await.unwrap();
        assert_eq!((report.datoms, report.elsewhere), (1, Vec::new()));
        let refused = main.merge(&stale, &MergeStrategy::Fail).await;
        assert!(
            matches!(refused, Err(Error::SnapshotExpired(_))),
            "{refused:?}"
        );
        let _ = merge(&main, &dev, &MergeStrategy::Fail).await;
        assert!(
            values_of(&main.db(), "Ada", "p/note").await.is_empty(),
            "what was purged has come back"
        );
    }
}

/// The purge has looked at ours before the merge wrote to it, so nobody else can tell.
#[tokio::test]
async fn a_merge_that_a_purge_crossed_says_so() {
    let (main, dev) = two(55).await;
    transact(&dev, "[{:p/name \"Ada\" :p/age 50 :p/note \"secret\"}]").await;
    transact(&main, "[{:p/name \"Ada\" :p/age 40}]").await;
    let theirs = dev.db();
    let notes = Purge::Attribute(attribute(&dev.db(), "p/note"));
    let (purging, what) = (dev.clone(), notes.clone());
    let strategy = MergeStrategy::Decide(Arc::new(move |_: &Conflict| {
        let report = futures::executor::block_on(purging.purge(&what)).unwrap();
        assert_eq!(report.elsewhere, []);
        Resolution::Theirs
    }));
    let told = main.merge(&theirs, &strategy).await.unwrap_err();
    assert!(
        matches!(&told, Error::SnapshotExpired(what) if what.contains("purge it, too")),
        "{told}"
    );
    assert_eq!(main.purge(&notes).await.unwrap().datoms, 1);
}

/// Moving the head to the commit of theirs took from ours, at every basis, what theirs was purged of.
#[tokio::test]
async fn a_branch_that_was_purged_of_more_is_merged_by_a_transaction() {
    let (main, dev) = two(56).await;
    transact(&dev, "[{:p/name \"Eve\"}]").await;
    let tags = Purge::Attribute(attribute(&dev.db(), "p/tags"));
    assert_eq!(dev.purge(&tags).await.unwrap().datoms, 2);
    let report = merge(&main, &dev, &MergeStrategy::Fail).await;
    assert_eq!(report.outcome, MergeOutcome::Merged);
    assert_eq!(values_of(&main.db(), "Ada", "p/tags").await.len(), 2);
    let past = main.db().as_of(TimePoint::T(2)).await.unwrap();
    assert_eq!(values_of(&past, "Ada", "p/tags").await.len(), 2);
    assert!(person(&main.db(), "Eve").await.is_some());
    let again = merge(&main, &dev, &MergeStrategy::Fail).await;
    assert_eq!(again.outcome, MergeOutcome::UpToDate);
    main.db().verify().await.unwrap();
}

/// The answer to a fast-forward was lost, the head moved late, and then there was nothing to merge: nobody looked
/// whether theirs had been purged meanwhile, and the purge had not named ours.
#[tokio::test]
async fn a_head_that_moves_late_is_a_merge_that_a_purge_can_cross() {
    let mut crossed = 0;
    for (turns, late) in (0..24).flat_map(|turns| (0..4).map(move |late| (turns, late))) {
        let simulation = Simulation::new();
        let first = create(&simulation.store(), 57).await;
        transact(&first, PEOPLE).await;
        let dev = branch_off(&first, "dev").await;
        transact(&dev, "[{:p/name \"Ada\" :p/note \"secret\"}]").await;
        let weather = Weather::scripted([(Does::Swap, Fate::Late(late))]);
        let main = open(&simulation.store_in(weather, 0, false), "main", 58).await;
        let theirs = Db::open(
            &simulation.store_in(Weather::scripted([]), 0, false),
            dev.branch(),
        )
        .await
        .unwrap();
        let mut merge = Box::pin(main.merge(&theirs, &MergeStrategy::Fail));
        let early = patient(turns, merge.as_mut()).await;
        let notes = Purge::Attribute(attribute(&dev.db(), "p/note"));
        let purged = dev.purge(&notes).await.unwrap();
        let told = match early {
            Some(told) => told,
            None => merge.await,
        };
        simulation.deliver_all().await;
        let now = Db::open(&simulation.store(), main.branch()).await.unwrap();
        let held = person(&now, "Ada").await.is_some()
            && !values_of(&now, "Ada", "p/note").await.is_empty();
        if held && purged.elsewhere.is_empty() {
            crossed += 1;
            let said = matches!(told, Err(Error::SnapshotExpired(_)));
            assert!(said, "after {turns}, {late} late: {told:?}");
        }
    }
    assert!(crossed > 0, "no purge crossed a merge");
}
