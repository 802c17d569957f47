//! Merges with branches that were purged: who is who, and what comes back.

use super::*;
use crate::conn::Purge;

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
