//! Merges: each rule by itself, then generated histories against a slow twin that compares whole databases.

use std::collections::BTreeSet;

use datomfusion_datalog::edn::Keyword;

use super::*;
use crate::conn::fixture::{all, branch_off, open, people, transact};
use crate::datom::TxId;
use crate::db::basis::TimePoint;
use crate::index::Index;
use crate::schema::{EntityRef, LookupRef};

mod composed;
mod purged;
mod twin;

async fn person(db: &Db, name: &str) -> Option<Entid> {
    let lookup = LookupRef {
        attribute: Keyword::new("p/name"),
        value: Value::string(name),
    };
    db.entid(&EntityRef::Lookup(lookup)).await.unwrap()
}

async fn values_of(db: &Db, name: &str, attribute: &str) -> Vec<Value> {
    let e = person(db, name).await.unwrap();
    let a = db.schema().require(&Keyword::new(attribute)).unwrap().id;
    let facts = all(db, Index::Eavt).await;
    facts
        .into_iter()
        .filter(|d| d.e == e && d.a == a)
        .map(|d| d.v)
        .collect()
}

fn attribute(db: &Db, ident: &str) -> Entid {
    db.schema().require(&Keyword::new(ident)).unwrap().id
}

async fn merge(ours: &Connection, theirs: &Connection, strategy: &MergeStrategy) -> MergeReport {
    ours.merge(&theirs.db(), strategy).await.unwrap()
}

/// Ada and Bob on main, and dev branched off.
async fn two(seed: u64) -> (Connection, Connection) {
    let main = people(seed).await;
    transact(
        &main,
        "[{:p/name \"Ada\" :p/age 36 :p/tags [:a :b]} {:p/name \"Bob\" :p/code 1}]",
    )
    .await;
    let dev = branch_off(&main, "dev").await;
    (main, dev)
}

#[tokio::test]
async fn ours_that_said_nothing_moves_forward_with_one_put() {
    let (main, dev) = two(1).await;
    transact(&dev, "[{:p/name \"Eve\"}]").await;
    transact(&dev, "[{:p/name \"Eve\" :p/age 1}]").await;
    let before = main.store().requests();
    let report = merge(&main, &dev, &MergeStrategy::Fail).await;
    let asked = main.store().requests() - before;
    assert_eq!(report.outcome, MergeOutcome::FastForward);
    assert_eq!((asked.puts, asked.lists), (1, 0));
    assert_eq!(report.commit, dev.db().head_commit());
    assert_eq!(main.db().head_commit(), dev.db().head_commit());
    assert_eq!(main.db().branch(), main.branch());
    assert_eq!(main.db().basis_t(), dev.db().basis_t());
    assert_eq!(
        all(&main.db(), Index::Log).await,
        all(&dev.db(), Index::Log).await
    );
    // Both go on, and neither hands out what the other one has.
    transact(&main, "[{:p/name \"New\"}]").await;
    main.db().verify().await.unwrap();
    let again = merge(&main, &dev, &MergeStrategy::Fail).await;
    assert_eq!(again.outcome, MergeOutcome::UpToDate);
}

#[tokio::test]
async fn ours_moves_to_a_past_commit_of_theirs() {
    let (main, dev) = two(2).await;
    transact(&dev, "[{:p/name \"Eve\"}]").await;
    let wanted = dev.db();
    transact(&dev, "[{:p/name \"Eve\" :p/age 1}]").await;
    dev.checkpoint().await.unwrap();
    let past = dev
        .db()
        .as_of(TimePoint::T(wanted.basis_t()))
        .await
        .unwrap();
    let report = main.merge(&past, &MergeStrategy::Fail).await.unwrap();
    assert_eq!(report.outcome, MergeOutcome::FastForward);
    assert_eq!(main.db().head_commit(), wanted.head_commit());
    assert_eq!(
        all(&main.db(), Index::Eavt).await,
        all(&wanted, Index::Eavt).await
    );
    main.db().verify().await.unwrap();
}

#[tokio::test]
async fn a_merge_is_one_transaction_with_two_parents() {
    let (main, dev) = two(3).await;
    transact(&main, "[{:p/name \"Ada\" :p/note \"ours\"}]").await;
    transact(
        &dev,
        "[{:p/name \"Ada\" :p/age 37} [:db/retract [:p/name \"Ada\"] :p/tags :a]]",
    )
    .await;
    transact(
        &dev,
        "[{:p/name \"Eve\" :p/friend {:p/name \"Sam\"} :p/best [:p/name \"Bob\"]}]",
    )
    .await;
    let (ours, theirs) = (main.db(), dev.db());
    let before = main.store().requests();
    let report = merge(&main, &dev, &MergeStrategy::Fail).await;
    assert_eq!((main.store().requests() - before).puts, 1);
    assert_eq!(report.outcome, MergeOutcome::Merged);
    assert!(report.conflicts.is_empty());
    assert_eq!(report.base.t, 2);
    let db = main.db();
    assert_eq!(db.basis_t(), ours.basis_t() + 1);
    assert_eq!(report.commit, db.head_commit());
    assert!(db.basis_instant() > theirs.basis_instant());
    assert_eq!(values_of(&db, "Ada", "p/age").await, [Value::Long(37)]);
    assert_eq!(
        values_of(&db, "Ada", "p/note").await,
        [Value::string("ours")]
    );
    assert_eq!(
        values_of(&db, "Ada", "p/tags").await,
        [Value::Keyword(Keyword::new("b"))]
    );
    let (bob, sam) = (
        person(&db, "Bob").await.unwrap(),
        person(&db, "Sam").await.unwrap(),
    );
    assert_eq!(values_of(&db, "Eve", "p/best").await, [Value::Ref(bob)]);
    assert_eq!(values_of(&db, "Eve", "p/friend").await, [Value::Ref(sam)]);
    let log: Vec<_> = futures::TryStreamExt::try_collect(db.log(db.basis_t()..))
        .await
        .unwrap();
    let commit: &crate::conn::Commit = &log[0];
    assert_eq!(commit.parents, [ours.head_commit(), theirs.head_commit()]);
    let tx = report.tx.unwrap();
    assert_eq!(
        (tx.t, tx.db_after.commit_id().await.unwrap()),
        (db.basis_t(), report.commit)
    );
    assert!(
        tx.tx_data
            .iter()
            .all(|datom| datom.tx == TxId::from_t(tx.t))
    );
    main.checkpoint().await.unwrap();
    main.db().verify().await.unwrap();
    assert_eq!(main.db().commit_id().await.unwrap(), report.commit);
}

#[tokio::test]
async fn entities_of_one_id_stay_two_and_references_follow() {
    let (main, dev) = two(4).await;
    let ours = transact(&main, "[{:db/id \"x\" :p/note \"ours\"}]").await;
    let theirs = transact(
        &dev,
        "[{:db/id \"y\" :p/note \"theirs\" :p/friend [\"z\" \"y\"]} {:db/id \"z\" :p/note \"z\"}]",
    )
    .await;
    let id = |report: &TxReport, text: &str| report.tempids[&crate::tx::TempId::Text(text.into())];
    assert_eq!(id(&ours, "x"), id(&theirs, "y"));
    let report = merge(&main, &dev, &MergeStrategy::Fail).await;
    let [y, z] = ["y", "z"].map(|temp| report.renumbered[&id(&theirs, temp)]);
    assert_ne!(y, id(&ours, "x"));
    let db = main.db();
    let friend = attribute(&db, "p/friend");
    let facts = all(&db, Index::Eavt).await;
    let friends: Vec<_> = facts
        .iter()
        .filter(|d| d.a == friend)
        .map(|d| (d.e, d.v.clone()))
        .collect();
    assert_eq!(friends, [(y, Value::Ref(y)), (y, Value::Ref(z))]);

    // The next merge knows what the first one called them.
    transact(
        &dev,
        &format!("[[:db/add {} :p/age 5]]", id(&theirs, "z").0),
    )
    .await;
    let report = merge(&main, &dev, &MergeStrategy::Fail).await;
    assert!(report.renumbered.is_empty());
    let age = attribute(&db, "p/age");
    let aged = all(&main.db(), Index::Eavt).await;
    assert!(aged.iter().any(|d| (d.e, d.a) == (z, age)));
    // And so does one in the other direction.
    transact(&main, &format!("[[:db/add {} :p/age 6]]", z.0)).await;
    let report = merge(&dev, &main, &MergeStrategy::Fail).await;
    assert_eq!(report.renumbered.len(), 1, "only x is new to dev");
    let aged = all(&dev.db(), Index::Eavt).await;
    assert!(
        aged.iter()
            .any(|d| (d.e, d.a, &d.v) == (id(&theirs, "z"), age, &Value::Long(6)))
    );
}

#[tokio::test]
async fn the_second_merge_begins_where_the_first_ended() {
    let (main, dev) = two(5).await;
    transact(&main, "[{:p/name \"Bob\" :p/note \"main\"}]").await;
    transact(&dev, "[{:p/name \"Ada\" :p/age 1}]").await;
    let first = merge(&main, &dev, &MergeStrategy::Fail).await;
    assert_eq!(first.base.t, 2);
    let merged = dev.db().head_commit();
    // Ours changes what it took over, which must not be undone.
    transact(&main, "[{:p/name \"Ada\" :p/age 2}]").await;
    transact(&dev, "[{:p/name \"Ada\" :p/note \"dev\"}]").await;
    let second = merge(&main, &dev, &MergeStrategy::Fail).await;
    assert_eq!(
        (second.outcome, second.base),
        (MergeOutcome::Merged, merged)
    );
    assert_eq!(
        values_of(&main.db(), "Ada", "p/age").await,
        [Value::Long(2)]
    );
    assert_eq!(
        values_of(&main.db(), "Ada", "p/note").await,
        [Value::string("dev")]
    );
    assert_eq!(
        merge(&main, &dev, &MergeStrategy::Fail).await.outcome,
        MergeOutcome::UpToDate
    );
    // The other direction begins at the same commit.
    let base = main.db().head_commit();
    let back = merge(&dev, &main, &MergeStrategy::Fail).await;
    assert_eq!(
        (back.outcome, back.base),
        (MergeOutcome::Merged, dev_base(&dev, 4).await)
    );
    assert_eq!(values_of(&dev.db(), "Ada", "p/age").await, [Value::Long(2)]);
    let again = merge(&dev, &main, &MergeStrategy::Fail).await;
    assert_eq!((again.outcome, again.base), (MergeOutcome::UpToDate, base));
}

async fn dev_base(dev: &Connection, t: u64) -> CommitId {
    dev.db()
        .as_of(TimePoint::T(t))
        .await
        .unwrap()
        .commit_id()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_unique_identity_makes_two_entities_one() {
    let (main, dev) = two(6).await;
    transact(&main, "[{:p/note \"shifts the ids\"}]").await;
    transact(&main, "[{:p/name \"Eve\" :p/age 3}]").await;
    transact(
        &dev,
        "[{:p/name \"Eve\" :p/tags [:x] :p/best {:p/name \"Sam\"}}]",
    )
    .await;
    let report = merge(&main, &dev, &MergeStrategy::Fail).await;
    let db = main.db();
    let eve = person(&db, "Eve").await.unwrap();
    assert_eq!(
        report.renumbered[&person(&dev.db(), "Eve").await.unwrap()],
        eve
    );
    assert_eq!(values_of(&db, "Eve", "p/age").await, [Value::Long(3)]);
    assert_eq!(values_of(&db, "Eve", "p/tags").await.len(), 1);
    // A later merge knows it without the name.
    transact(&dev, "[{:p/name \"Eve\" :p/note \"later\"}]").await;
    transact(&main, "[[:db/add [:p/name \"Eve\"] :p/name \"Eva\"]]").await;
    let _ = merge(&main, &dev, &MergeStrategy::Fail).await;
    assert_eq!(
        values_of(&main.db(), "Eva", "p/note").await,
        [Value::string("later")]
    );
}

#[tokio::test]
async fn schema_merges_with_the_facts_that_use_it() {
    let (main, dev) = two(7).await;
    let size =
        "[{:db/ident :q/size :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]";
    transact(&main, "[{:p/name \"Eve\"}]").await;
    transact(&main, size).await;
    transact(&dev, size).await;
    transact(
        &dev,
        "[{:db/ident :q/owner :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}
          {:db/ident :q/serial :db/valueType :db.type/string :db/cardinality :db.cardinality/one
           :db/unique :db.unique/identity} {:db/ident :colour/red} [:db/add :p/age :db/index true]]",
    )
    .await;
    transact(
        &dev,
        "[{:q/serial \"s1\" :q/size 4 :q/owner [[:p/name \"Ada\"] :colour/red]}]",
    )
    .await;
    let report = merge(&main, &dev, &MergeStrategy::Fail).await;
    assert_eq!(report.outcome, MergeOutcome::Merged);
    let db = main.db();
    let theirs = attribute(&dev.db(), "q/size");
    assert_eq!(report.renumbered[&theirs], attribute(&db, "q/size"));
    let lookup = LookupRef {
        attribute: Keyword::new("q/serial"),
        value: Value::string("s1"),
    };
    let e = db.entid(&EntityRef::Lookup(lookup)).await.unwrap().unwrap();
    let owners: Vec<_> = all(&db, Index::Avet).await;
    let owners = owners
        .iter()
        .filter(|d| d.e == e && d.a == attribute(&db, "q/owner"));
    assert_eq!(owners.count(), 2);
    assert!(db.schema().require(&Keyword::new("p/age")).unwrap().indexed);
    assert_eq!(db.0.tables.get("q"), Some(&1));
    assert_eq!(db.0.tables.get("p"), Some(&3));
    db.verify().await.unwrap();
    main.checkpoint().await.unwrap();
    main.db().verify().await.unwrap();
}

#[tokio::test]
async fn schemas_that_do_not_go_together_are_refused_with_the_reason() {
    let (main, dev) = two(8).await;
    let define = |value_type: &str| {
        format!(
            "[{{:db/ident :q/x :db/valueType :db.type/{value_type} :db/cardinality :db.cardinality/one}}]"
        )
    };
    transact(&main, &define("long")).await;
    transact(&dev, &define("string")).await;
    transact(&dev, "[{:q/x \"text\"}]").await;
    let report = merge(&main, &dev, &MergeStrategy::Fail).await;
    assert_eq!(report.outcome, MergeOutcome::Refused);
    let kinds: Vec<_> = report
        .conflicts
        .iter()
        .map(|(conflict, _)| conflict.kind)
        .collect();
    assert_eq!(kinds, [ConflictKind::Changed]);
    for strategy in [MergeStrategy::Ours, MergeStrategy::Theirs] {
        let before = main.db().head_commit();
        main.merge(&dev.db(), &strategy).await.unwrap_err();
        assert_eq!(main.sync().await.unwrap().head_commit(), before);
    }
}

/// What the two did to Ada or Bob, the conflict, and what theirs' resolution leaves.
async fn conflict_of(ours: &str, theirs: &str) -> (Conflict, Connection, Connection) {
    let (main, dev) = two(9).await;
    transact(&main, ours).await;
    transact(&dev, theirs).await;
    let before = (main.db().head_commit(), main.store().requests().puts);
    let report = merge(&main, &dev, &MergeStrategy::Fail).await;
    assert_eq!(report.outcome, MergeOutcome::Refused);
    assert!(report.tx.is_none() && report.renumbered.is_empty());
    let after = (
        main.sync().await.unwrap().head_commit(),
        main.store().requests().puts,
    );
    assert_eq!(before, after);
    assert_eq!(report.commit, before.0);
    let [(conflict, Resolution::Refuse)] = &report.conflicts[..] else {
        panic!("{:?}", report.conflicts)
    };
    (conflict.clone(), main, dev)
}

#[tokio::test]
async fn a_value_changed_on_both_sides_is_a_conflict() {
    let (conflict, main, dev) = conflict_of(
        "[{:p/name \"Ada\" :p/age 40}]",
        "[{:p/name \"Ada\" :p/age 50}]",
    )
    .await;
    let long = |n| Some(Value::Long(n));
    assert_eq!(conflict.kind, ConflictKind::Changed);
    assert_eq!(Some(conflict.e), person(&main.db(), "Ada").await);
    assert_eq!(conflict.a, attribute(&main.db(), "p/age"));
    assert_eq!(
        (conflict.base, conflict.ours, conflict.theirs),
        (long(36), long(40), long(50))
    );
    let report = merge(&main, &dev, &MergeStrategy::Theirs).await;
    assert_eq!(report.conflicts[0].1, Resolution::Theirs);
    assert_eq!(
        values_of(&main.db(), "Ada", "p/age").await,
        [Value::Long(50)]
    );
    // And the other way: ours stays, and is not asked for again.
    let report = merge(&dev, &main, &MergeStrategy::Fail).await;
    assert_eq!(report.outcome, MergeOutcome::Merged);
}

#[tokio::test]
async fn ours_stays_where_it_is_chosen() {
    let (main, dev) = two(10).await;
    transact(&main, "[{:p/name \"Ada\" :p/age 40}]").await;
    transact(&dev, "[{:p/name \"Ada\" :p/age 50 :p/note \"n\"}]").await;
    let report = merge(&main, &dev, &MergeStrategy::Ours).await;
    assert_eq!(
        (report.outcome, report.conflicts.len()),
        (MergeOutcome::Merged, 1)
    );
    assert_eq!(
        values_of(&main.db(), "Ada", "p/age").await,
        [Value::Long(40)]
    );
    assert_eq!(
        values_of(&main.db(), "Ada", "p/note").await,
        [Value::string("n")]
    );
    assert_eq!(
        merge(&main, &dev, &MergeStrategy::Fail).await.outcome,
        MergeOutcome::UpToDate
    );
}

#[tokio::test]
async fn a_function_decides_each_conflict() {
    let (main, dev) = two(11).await;
    transact(&main, "[{:p/name \"Ada\" :p/age 40 :p/note \"ours\"}]").await;
    transact(&dev, "[{:p/name \"Ada\" :p/age 50 :p/note \"theirs\"}]").await;
    let larger = MergeStrategy::Decide(Arc::new(|conflict: &Conflict| {
        if conflict.theirs > conflict.ours {
            Resolution::Theirs
        } else {
            Resolution::Ours
        }
    }));
    let report = merge(&main, &dev, &larger).await;
    assert_eq!(report.conflicts.len(), 2);
    assert_eq!(
        values_of(&main.db(), "Ada", "p/age").await,
        [Value::Long(50)]
    );
    assert_eq!(
        values_of(&main.db(), "Ada", "p/note").await,
        [Value::string("theirs")]
    );
}

#[tokio::test]
async fn the_same_change_on_both_sides_is_no_conflict() {
    let (main, dev) = two(12).await;
    let both =
        "[{:p/name \"Ada\" :p/age 40 :p/tags [:c]} [:db/retract [:p/name \"Ada\"] :p/tags :a]]";
    transact(&main, both).await;
    transact(&dev, both).await;
    let report = merge(&main, &dev, &MergeStrategy::Fail).await;
    assert_eq!(
        (report.outcome, report.conflicts.len()),
        (MergeOutcome::Merged, 0)
    );
    // The transaction has nothing to say but when it was.
    assert_eq!(report.tx.unwrap().tx_data.len(), 1);
}

#[tokio::test]
async fn a_fact_retracted_here_and_changed_there_is_a_conflict() {
    let retract = "[[:db/retract [:p/name \"Ada\"] :p/age]]";
    let change = "[{:p/name \"Ada\" :p/age 40}]";
    let (conflict, main, dev) = conflict_of(retract, change).await;
    assert_eq!(
        (conflict.kind, conflict.ours),
        (ConflictKind::Retracted, None)
    );
    let _ = merge(&main, &dev, &MergeStrategy::Theirs).await;
    assert_eq!(
        values_of(&main.db(), "Ada", "p/age").await,
        [Value::Long(40)]
    );
    let (conflict, main, dev) = conflict_of(change, retract).await;
    assert_eq!(
        (conflict.kind, conflict.theirs),
        (ConflictKind::Retracted, None)
    );
    let _ = merge(&main, &dev, &MergeStrategy::Theirs).await;
    assert!(values_of(&main.db(), "Ada", "p/age").await.is_empty());
}

#[tokio::test]
async fn an_entity_retracted_here_and_changed_there_is_a_conflict() {
    let gone = "[[:db/retractEntity [:p/name \"Ada\"]]]";
    let said = "[{:p/name \"Ada\" :p/tags [:new]}]";
    let (conflict, main, dev) = conflict_of(gone, said).await;
    assert_eq!(
        (conflict.kind, conflict.ours),
        (ConflictKind::Retracted, None)
    );
    assert_eq!(conflict.theirs, Some(Value::Keyword(Keyword::new("new"))));
    let _ = merge(&main, &dev, &MergeStrategy::Ours).await;
    assert!(
        !all(&main.db(), Index::Eavt)
            .await
            .iter()
            .any(|datom| datom.e == conflict.e)
    );

    let (conflict, main, dev) = conflict_of(said, gone).await;
    assert_eq!(
        (conflict.kind, conflict.theirs),
        (ConflictKind::Retracted, None)
    );
    let _ = merge(&main, &dev, &MergeStrategy::Theirs).await;
    assert!(
        !all(&main.db(), Index::Eavt)
            .await
            .iter()
            .any(|datom| datom.e == conflict.e)
    );
}

#[tokio::test]
async fn a_reference_to_what_the_other_side_retracted_is_a_conflict() {
    let gone = "[[:db/retractEntity [:p/name \"Ada\"]]]";
    let points = "[{:p/name \"Bob\" :p/best [:p/name \"Ada\"]}]";
    for (ours, theirs) in [(gone, points), (points, gone)] {
        let (conflict, main, dev) = conflict_of(ours, theirs).await;
        assert_eq!(conflict.kind, ConflictKind::Retracted);
        assert_eq!(Some(conflict.e), person(&main.db(), "Bob").await);
        assert_eq!(conflict.a, attribute(&main.db(), "p/best"));
        let _ = merge(&main, &dev, &MergeStrategy::Theirs).await;
        let best = values_of(&main.db(), "Bob", "p/best").await;
        assert_eq!(best.len(), usize::from(theirs == points));
    }
}

#[tokio::test]
async fn a_unique_value_on_two_entities_is_a_conflict() {
    let (conflict, main, dev) = conflict_of(
        "[{:p/name \"Ada\" :p/code 7}]",
        "[{:p/name \"Eve\" :p/code 7}]",
    )
    .await;
    let ada = person(&main.db(), "Ada").await.unwrap();
    assert_eq!(conflict.kind, ConflictKind::Unique { holder: ada });
    assert_eq!(conflict.theirs, Some(Value::Long(7)));
    let _ = merge(&main, &dev, &MergeStrategy::Theirs).await;
    assert!(values_of(&main.db(), "Ada", "p/code").await.is_empty());
    assert_eq!(
        values_of(&main.db(), "Eve", "p/code").await,
        [Value::Long(7)]
    );

    let (_, main, dev) = conflict_of(
        "[{:p/name \"Ada\" :p/code 7}]",
        "[{:p/name \"Bob\" :p/code 7}]",
    )
    .await;
    let _ = merge(&main, &dev, &MergeStrategy::Ours).await;
    assert_eq!(
        values_of(&main.db(), "Ada", "p/code").await,
        [Value::Long(7)]
    );
    assert_eq!(
        values_of(&main.db(), "Bob", "p/code").await,
        [Value::Long(1)]
    );
}

#[tokio::test]
async fn a_unique_value_that_moves_on_theirs_moves_on_ours() {
    let (main, dev) = two(13).await;
    transact(&main, "[{:p/name \"Ada\" :p/note \"x\"}]").await;
    transact(
        &dev,
        "[[:db/retract [:p/name \"Bob\"] :p/code 1] {:p/name \"Eve\" :p/code 1}]",
    )
    .await;
    let report = merge(&main, &dev, &MergeStrategy::Fail).await;
    assert_eq!(
        (report.outcome, report.conflicts.len()),
        (MergeOutcome::Merged, 0)
    );
    assert_eq!(
        values_of(&main.db(), "Eve", "p/code").await,
        [Value::Long(1)]
    );
}

#[tokio::test]
async fn transactions_of_theirs_stay_there() {
    let (main, dev) = two(14).await;
    transact(&main, "[{:p/name \"Ada\" :p/note \"x\"}]").await;
    let theirs = transact(
        &dev,
        "[{:db/id \"datomic.tx\" :p/note \"why\"} {:p/name \"Eve\" :p/best \"datomic.tx\"}]",
    )
    .await;
    assert_eq!(theirs.t, 3);
    let report = merge(&main, &dev, &MergeStrategy::Fail).await;
    let tx = TxId::from_t(report.commit.t).0;
    let said: Vec<_> = report.tx.unwrap().tx_data;
    assert_eq!(said.iter().filter(|datom| datom.e.is_tx()).count(), 1);
    assert_eq!(
        values_of(&main.db(), "Eve", "p/best").await,
        [Value::Ref(tx)]
    );
}

#[tokio::test]
async fn large_values_come_along() {
    let (main, dev) = two(15).await;
    let long = "long ".repeat(1000);
    transact(&main, "[{:p/name \"Ada\" :p/age 1}]").await;
    transact(&dev, &format!("[{{:p/name \"Ada\" :p/note \"{long}\"}}]")).await;
    dev.checkpoint().await.unwrap();
    let theirs = Db::open(dev.store(), dev.branch()).await.unwrap();
    let report = main.merge(&theirs, &MergeStrategy::Fail).await.unwrap();
    assert_eq!(report.outcome, MergeOutcome::Merged);
    main.checkpoint().await.unwrap();
    let db = Db::open(main.store(), main.branch()).await.unwrap();
    assert_eq!(
        values_of(&db, "Ada", "p/note").await,
        [Value::string(&*long)]
    );
    db.verify().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_merged_is_refused() {
    let (main, dev) = two(16).await;
    let stranger = people(17).await.db();
    let data = TxData::parse("[{:p/name \"Eve\"}]").unwrap();
    let speculative = dev.db().db_with(&data).await.unwrap();
    let since = dev.db().since(TimePoint::T(1)).await.unwrap();
    for theirs in [stranger, speculative, since, dev.db().history()] {
        let refused = main.merge(&theirs, &MergeStrategy::Theirs).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{theirs:?}");
    }
}

#[tokio::test]
async fn a_merge_is_decided_anew_if_another_writer_was_first() {
    let (main, dev) = two(18).await;
    transact(&main, "[{:p/name \"Bob\" :p/age 1}]").await;
    transact(&dev, "[{:p/name \"Ada\" :p/age 50} {:p/name \"Eve\"}]").await;
    // While the merge is decided, another process commits through its own connection.
    let other = open(main.store(), "main", 19).await;
    let theirs = dev.db();
    let (asked, told) = std::sync::mpsc::channel::<()>();
    let asked = Mutex::new(asked);
    transact(&main, "[{:p/name \"Ada\" :p/age 40}]").await;
    other.sync().await.unwrap();
    let interloper = other.clone();
    let strategy = MergeStrategy::Decide(Arc::new(move |conflict: &Conflict| {
        let _ = asked.lock().unwrap().send(());
        if conflict.ours == Some(Value::Long(40)) {
            // Decided on a value that is about to be overtaken.
            let text = "[{:p/name \"Ada\" :p/age 41} {:p/name \"Zoe\"}]";
            futures::executor::block_on(transact(&interloper, text));
        }
        Resolution::Theirs
    }));
    let report = main.merge(&theirs, &strategy).await.unwrap();
    assert_eq!(told.try_iter().count(), 2);
    assert_eq!(report.conflicts.len(), 1);
    assert_eq!(report.conflicts[0].0.ours, Some(Value::Long(41)));
    let db = main.db();
    assert_eq!(values_of(&db, "Ada", "p/age").await, [Value::Long(50)]);
    let (eve, zoe) = (
        person(&db, "Eve").await.unwrap(),
        person(&db, "Zoe").await.unwrap(),
    );
    assert_ne!(eve, zoe);
    assert_eq!(
        report.renumbered.values().copied().collect::<BTreeSet<_>>(),
        BTreeSet::from([eve])
    );
    db.verify().await.unwrap();
}

#[tokio::test]
async fn merges_and_transactions_of_one_connection_queue() {
    let (main, dev) = two(20).await;
    transact(&main, "[{:p/name \"Bob\" :p/age 1}]").await;
    transact(&dev, "[{:p/name \"Eve\"}]").await;
    let theirs = dev.db();
    let texts: Vec<_> = (0..6)
        .map(|n| TxData::parse(&format!("[{{:p/name \"q{n}\"}}]")).unwrap())
        .collect();
    let transactions = futures::future::join_all(texts.iter().map(|data| main.transact(data)));
    let (merged, done) =
        futures::future::join(main.merge(&theirs, &MergeStrategy::Fail), transactions).await;
    assert_eq!(merged.unwrap().outcome, MergeOutcome::Merged);
    assert!(done.iter().all(Result::is_ok));
    let db = main.sync().await.unwrap();
    assert_eq!(db.basis_t(), 3 + 1 + 6);
    for name in ["Eve", "q0", "q5"] {
        assert!(person(&db, name).await.is_some(), "{name}");
    }
    db.verify().await.unwrap();
}
