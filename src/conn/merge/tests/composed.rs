//! Composite tuples: they follow their parts, and are never merged themselves.

use super::*;

const KEY: &str = "[{:db/ident :p/key :db/valueType :db.type/tuple
    :db/cardinality :db.cardinality/one :db/tupleAttrs [:p/age :p/note]}]";

/// Ada, whose key is composed of her age and her note, on two branches.
async fn composed(seed: u64) -> (Connection, Connection) {
    let main = people(seed).await;
    transact(&main, KEY).await;
    transact(&main, "[{:p/name \"Ada\" :p/age 1 :p/note \"a\"}]").await;
    let dev = branch_off(&main, "dev").await;
    (main, dev)
}

/// What a branch says of Ada's key to whoever opens it now.
async fn key(line: &Connection) -> Vec<Value> {
    let db = Db::open(line.store(), line.branch()).await.unwrap();
    db.verify().await.unwrap();
    values_of(&db, "Ada", "p/key").await
}

fn tuple(age: Option<i64>, note: Option<&str>) -> Value {
    Value::Tuple([age.map(Value::Long), note.map(Value::string)].into())
}

/// The old key was taken back twice: once by what theirs says, once because a part changes. A tail that
/// says a datom twice was written and could not be opened again.
#[tokio::test]
async fn a_composite_follows_a_part_that_theirs_changes() {
    let changes = [
        ("{:p/name \"Ada\" :p/age 2}", tuple(Some(2), Some("a"))),
        (
            "[:db/retract [:p/name \"Ada\"] :p/age]",
            tuple(None, Some("a")),
        ),
    ];
    for (change, after) in changes {
        let (main, dev) = composed(40).await;
        transact(&dev, &format!("[{change}]")).await;
        transact(&main, "[{:p/name \"Bob\"}]").await;
        let report = merge(&main, &dev, &MergeStrategy::Fail).await;
        assert_eq!(report.outcome, MergeOutcome::Merged);
        assert_eq!(key(&main).await, [after]);
        main.checkpoint().await.unwrap();
        main.db().verify().await.unwrap();
    }
}

/// The composite differed on all three sides, so it was a conflict that nobody could decide.
#[tokio::test]
async fn a_part_that_each_side_changes_is_no_conflict_of_the_composite() {
    for strategy in [MergeStrategy::Fail, MergeStrategy::Theirs] {
        let (main, dev) = composed(41).await;
        transact(&dev, "[{:p/name \"Ada\" :p/age 2}]").await;
        transact(&main, "[{:p/name \"Ada\" :p/note \"b\"}]").await;
        let report = merge(&main, &dev, &strategy).await;
        assert_eq!(report.outcome, MergeOutcome::Merged);
        assert_eq!(report.conflicts, []);
        assert_eq!(key(&main).await, [tuple(Some(2), Some("b"))]);
    }
}

#[tokio::test]
async fn a_composite_goes_with_the_entity_that_theirs_retracts() {
    for ours in ["{:p/name \"Bob\"}", "{:p/name \"Ada\" :p/note \"b\"}"] {
        let (main, dev) = composed(42).await;
        let ada = person(&main.db(), "Ada").await.unwrap();
        transact(&dev, "[[:db/retractEntity [:p/name \"Ada\"]]]").await;
        transact(&main, &format!("[{ours}]")).await;
        let report = merge(&main, &dev, &MergeStrategy::Theirs).await;
        let key = attribute(&main.db(), "p/key");
        assert!(report.conflicts.iter().all(|(c, _)| c.a != key));
        let db = Db::open(main.store(), main.branch()).await.unwrap();
        assert!(all(&db, Index::Eavt).await.iter().all(|d| d.e != ada));
        db.verify().await.unwrap();
    }
}

#[tokio::test]
async fn a_composite_that_ours_lacks_comes_with_its_attribute() {
    let main = people(43).await;
    transact(&main, "[{:p/name \"Ada\" :p/age 1 :p/note \"a\"}]").await;
    let dev = branch_off(&main, "dev").await;
    transact(&dev, KEY).await;
    transact(
        &dev,
        "[{:p/name \"Ada\" :p/age 2} {:p/name \"Eve\" :p/age 3}]",
    )
    .await;
    transact(&main, "[{:p/name \"Ada\" :p/note \"b\"}]").await;
    let report = merge(&main, &dev, &MergeStrategy::Fail).await;
    assert_eq!(report.outcome, MergeOutcome::Merged);
    assert_eq!(key(&main).await, [tuple(Some(2), Some("b"))]);
    assert_eq!(
        values_of(&main.db(), "Eve", "p/key").await,
        [tuple(Some(3), None)]
    );
}
