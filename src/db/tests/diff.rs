//! Differences of values against sets of datoms, and what they cost.

use std::collections::BTreeSet;

use futures::TryStreamExt;

use super::{Random, SCHEMA, all, any_transaction, cold, create, database, go_on, transact};
use crate::{
    Connection, Datom, Db, Entid, Error, Import, Index, Store, TimePoint, TreeName, TxData, Value,
};

type Fact = (Entid, Entid, Value);

fn fact(datom: &Datom) -> Fact {
    (datom.e, datom.a, datom.v.clone())
}

async fn facts(db: &Db) -> BTreeSet<Fact> {
    all(db, Index::Eavt).await.iter().map(fact).collect()
}

/// Compares the difference of two values with that of two sets.
async fn check(from: &Db, to: &Db) {
    let (ours, theirs) = (facts(from).await, facts(to).await);
    let found: Vec<_> = from.diff(to).unwrap().try_collect().await.unwrap();
    let expected: Vec<(Fact, bool)> = ours
        .symmetric_difference(&theirs)
        .map(|fact| (fact.clone(), theirs.contains(fact)))
        .collect();
    let said: Vec<(Fact, bool)> = found
        .iter()
        .map(|change| ((change.e, change.a, change.v.clone()), change.added))
        .collect();
    assert_eq!(said, expected, "{from:?} to {to:?}");
    // By the trees, whether or not it was found by the log.
    let by_trees = from.diff_within(to, 0).unwrap();
    assert_eq!(by_trees.try_collect::<Vec<_>>().await.unwrap(), found);
    // Said to `from`, the changes give `to`.
    let mut applied = ours;
    for (fact, added) in said {
        assert!(if added {
            applied.insert(fact)
        } else {
            applied.remove(&fact)
        });
    }
    assert_eq!(applied, theirs);
    // Bodies of large values are at hand.
    for value in found.iter().map(|change| &change.v) {
        assert!(!matches!(value, Value::Large(large) if large.body.get().is_none()));
    }
    let counts = from.diff_counts(to).await.unwrap();
    assert!(counts.is_sorted_by(|left, right| left.a < right.a));
    for count in &counts {
        let of = |added| {
            let changes = found.iter().filter(|c| c.a == count.a && c.added == added);
            changes.count() as u64
        };
        assert_eq!((count.asserted, count.retracted), (of(true), of(false)));
    }
    let counted: u64 = counts
        .iter()
        .map(|count| count.asserted + count.retracted)
        .sum();
    assert_eq!(counted, expected.len() as u64);
}

/// Compares the difference of two pasts with that of two sets.
async fn check_history(from: &Db, to: &Db) {
    let key = |datom: &Datom| (fact(datom), datom.tx, datom.added);
    let (ours, theirs): (BTreeSet<_>, BTreeSet<_>) = (
        all(&from.history(), Index::Eavt)
            .await
            .iter()
            .map(key)
            .collect(),
        all(&to.history(), Index::Eavt)
            .await
            .iter()
            .map(key)
            .collect(),
    );
    let found: Vec<_> = from.diff_history(to).unwrap().try_collect().await.unwrap();
    let by_trees = from.diff_history_within(to, 0).unwrap();
    assert_eq!(by_trees.try_collect::<Vec<_>>().await.unwrap(), found);
    let found: Vec<_> = found
        .iter()
        .map(|difference| {
            let right = matches!(difference, crate::Difference::Right(_));
            (key(difference.datom()), right)
        })
        .collect();
    let expected: Vec<_> = ours
        .symmetric_difference(&theirs)
        .map(|datom| (datom.clone(), theirs.contains(datom)))
        .collect();
    assert_eq!(found, expected, "{from:?} to {to:?}");
}

#[tokio::test]
async fn the_difference_of_any_two_bases_is_that_of_their_sets() {
    for (seed, every) in [(1, 6), (2, 25), (3, 1000)] {
        println!("seed {seed}, a checkpoint once in {every}");
        let connection = database(seed).await;
        go_on(&connection, &mut Random(seed), 32, every).await;
        let db = connection.db();
        let mut bases = Vec::new();
        for t in 0..=db.basis_t() {
            bases.push(db.as_of(TimePoint::T(t)).await.unwrap());
        }
        for from in &bases {
            for to in &bases {
                check(from, to).await;
            }
        }
        for from in bases.iter().step_by(3) {
            for to in bases.iter().step_by(2) {
                check_history(from, to).await;
                check_history(to, from).await;
            }
        }
    }
}

#[tokio::test]
async fn speculative_values_differ_by_what_was_supposed() {
    for seed in 0..8 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let connection = database(seed).await;
        go_on(&connection, &mut random, 20, 8).await;
        let db = connection.db();
        let mut values = vec![db.clone(), db.as_of(TimePoint::T(11)).await.unwrap()];
        while values.len() < 8 {
            let base = values[usize::try_from(random.below(values.len() as u64)).unwrap()].clone();
            let data = TxData::parse(&any_transaction(&mut random, 12)).unwrap();
            if let Ok(value) = base.db_with(&data).await {
                values.push(value);
            }
        }
        for from in &values {
            for to in &values {
                check(from, to).await;
                check_history(from, to).await;
            }
        }
    }
}

/// A second database with the same transactions up to `t`, in a store of its own.
async fn fork(seed: u64, t: u64) -> Connection {
    let connection = create(&Store::memory(), seed).await;
    transact(&connection, SCHEMA).await;
    go_on(&connection, &mut Random(5), t, 1 << 40).await;
    connection
}

#[tokio::test]
async fn values_of_different_stores_and_databases_are_compared() {
    let (one, two) = (fork(1, 40).await, fork(2, 40).await);
    assert_ne!(one.db().database_id(), two.db().database_id());
    go_on(&two, &mut Random(99), 50, 1 << 40).await;
    one.checkpoint().await.unwrap();
    for _ in 0..2 {
        check(&one.db(), &two.db()).await;
        check(&two.db(), &one.db()).await;
        check_history(&one.db(), &two.db()).await;
        two.checkpoint().await.unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_compared_is_refused_with_a_reason() {
    let refused = |from: &Db, to: &Db| match from.diff(to) {
        Err(Error::Invalid(reason)) => reason,
        _ => panic!("{from:?} was compared with {to:?}"),
    };
    let connection = database(1).await;
    let db = connection.db();
    let since = db.since(TimePoint::T(0)).await.unwrap();
    assert!(refused(&since, &db).contains("a since view leaves out"));
    assert!(refused(&db, &since).contains("a since view leaves out"));
    assert!(db.diff_history(&since).is_err());
    assert!(refused(&db.history(), &db).contains("ask diff_history"));
    let stranger = create(&Store::memory(), 2).await;
    let text = "[{:db/ident :q/x :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
                 {:db/ident :p/name :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]";
    transact(&stranger, text).await;
    assert_eq!(
        refused(&db, &stranger.db()),
        "the databases are not of one origin: :p/name is entity 1024 in one and 1025 in the other; \
         compare them by what they say, in a query"
    );
}

#[tokio::test]
async fn values_that_share_their_trees_are_compared_without_a_read() {
    let connection = database(3).await;
    go_on(&connection, &mut Random(3), 100, 1 << 40).await;
    connection.checkpoint().await.unwrap();
    go_on(&connection, &mut Random(4), 150, 1 << 40).await;
    let db = cold(connection.store()).await;
    let past = db.as_of(TimePoint::T(101)).await.unwrap();
    let before = (db.loader().loads(), db.store().requests());
    for (from, to) in [(&past, &db), (&db, &past), (&db, &db)] {
        let counts = from.diff_counts(to).await.unwrap();
        assert_eq!(counts.is_empty(), from.basis_t() == to.basis_t());
    }
    assert_eq!((db.loader().loads(), db.store().requests()), before);
    check(&past, &db).await;
}

/// A database of many people, imported.
pub(super) async fn people(count: u64) -> Connection {
    let connection = database(7).await;
    let mut import = Import::new(connection.db().schema());
    let [name, age, tags, note] =
        ["p/name", "p/age", "p/tags", "p/note"].map(|ident| import.attribute(ident).unwrap());
    let tag = |n: u64| Value::Keyword(crate::edn::Keyword::new(format!("t{n}")));
    for n in 0..count {
        let facts = [
            (name, Value::string(format!("n{n}"))),
            (age, Value::Long((n % 90).cast_signed())),
            (tags, tag(n % 7)),
            (tags, tag(7 + n % 11)),
            (note, Value::string(format!("note {}", n / 3))),
        ];
        import.entity(facts).unwrap();
    }
    connection.import(import).await.unwrap();
    connection.checkpoint().await.unwrap();
    connection
}

#[tokio::test]
async fn ten_changes_in_a_million_datoms_read_ten_paths() {
    let connection = people(200_000).await;
    let before = connection.db().basis_t();
    let mut random = Random(8);
    for _ in 0..10 {
        let text = format!(
            "[[:db/add [:p/name \"n{}\"] :p/age 1000]]",
            random.below(200_000)
        );
        transact(&connection, &text).await;
    }
    connection.checkpoint().await.unwrap();
    transact(&connection, "[[:db/add [:p/name \"n5\"] :p/age 1001]]").await;

    let sizes = cold(connection.store()).await.tree_sizes().await.unwrap();
    let eavt = sizes
        .iter()
        .find(|size| size.name == TreeName::Eavt)
        .unwrap();
    assert!(eavt.datoms >= 1_000_000);
    let db = cold(connection.store()).await;
    let past = db.as_of(TimePoint::T(before)).await.unwrap();
    let opened = db.loader().loads().nodes;
    // The log would be shorter still; values of different branches have none in common.
    let by_trees = past.diff_within(&db, 0).unwrap();
    let changes: Vec<_> = by_trees.try_collect().await.unwrap();
    // Ten ages of people and one in the tail, each retracted and asserted, and eleven instants.
    assert_eq!(changes.len(), 2 * 11 + 11);
    let read = db.loader().loads().nodes - opened;
    // The instants lie together, at the end.
    let paths = 10 * u64::from(eavt.height) * 2;
    println!("{read} of {} nodes read; {paths} allowed", eavt.nodes);
    assert!(read <= paths, "{read} nodes");
    assert!(read < eavt.nodes / 4);

    // The other way, and to the value a checkpoint earlier, with its tail only.
    let back: Vec<_> = db.diff(&past).unwrap().try_collect().await.unwrap();
    assert_eq!(back.len(), changes.len());
}

/// Two checkpoints lie far apart, although the transaction that made the second said little: to compare the
/// values on both sides of it by their trees read 670 nodes of a million datoms for 11 changes.
#[tokio::test]
async fn a_step_over_a_checkpoint_reads_a_piece_of_the_log() {
    let connection = people(20_000).await;
    let mut random = Random(9);
    for _ in 0..60 {
        let age = |n| format!("[:db/add [:p/name \"n{n}\"] :p/age {}]", 100 + n % 7);
        let ages: Vec<_> = (0..5).map(|_| age(random.below(20_000))).collect();
        transact(&connection, &format!("[{}]", ages.join(" "))).await;
    }
    connection.checkpoint().await.unwrap();
    let t = connection.db().basis_t();
    transact(&connection, "[[:db/add [:p/name \"n5\"] :p/age 1001]]").await;

    let sizes = cold(connection.store()).await.tree_sizes().await.unwrap();
    let log = sizes.iter().find(|size| size.name == TreeName::Log);
    let height = u64::from(log.unwrap().height);
    for (past, now) in [(t - 1, t), (t - 1, t + 1), (t - 20, t + 1)] {
        let db = cold(connection.store()).await;
        let from = db.as_of(TimePoint::T(past)).await.unwrap();
        // Another who has opened the branch sees the same log.
        let to = cold(connection.store()).await;
        let to = to.as_of(TimePoint::T(now)).await.unwrap();
        check_cost(&from, &to, height).await;
        check_cost(&to, &from, height).await;
        check(&from, &to).await;
        check_history(&to, &from).await;
    }
}

/// That at most so many nodes are read, and more by the trees.
async fn check_cost(from: &Db, to: &Db, nodes_max: u64) {
    let loads = || from.loader().loads().nodes + to.loader().loads().nodes;
    let before = loads();
    let changes: Vec<_> = from.diff(to).unwrap().try_collect().await.unwrap();
    let by_log = loads() - before;
    assert!(
        by_log <= nodes_max,
        "{by_log} nodes for {} changes",
        changes.len()
    );
    let by_trees = from.diff_within(to, 0).unwrap();
    assert_eq!(by_trees.try_collect::<Vec<_>>().await.unwrap(), changes);
    let by_trees = loads() - before - by_log;
    println!("{by_log} nodes by the log, {by_trees} by the trees");
}

/// A purge leaves commits their ids, so a copy from before it has the same commits and another log.
#[tokio::test]
async fn what_was_purged_from_one_of_two_stores_is_a_difference() {
    let (one, two) = (fork(3, 60).await, fork(3, 60).await);
    for connection in [&one, &two] {
        connection.checkpoint().await.unwrap();
        go_on(connection, &mut Random(6), 70, 1 << 40).await;
        assert_eq!(connection.db().head_commit(), one.db().head_commit());
    }
    let a = two
        .db()
        .schema()
        .require(&crate::edn::Keyword::new("p/note"))
        .unwrap()
        .id;
    let report = two.purge(&crate::Purge::Attribute(a)).await.unwrap();
    assert!(report.datoms > 0);
    for (t, u) in [(70, 70), (55, 70), (70, 55), (66, 40)] {
        let from = one.db().as_of(TimePoint::T(t)).await.unwrap();
        let to = two.db().as_of(TimePoint::T(u)).await.unwrap();
        check(&from, &to).await;
        check(&to, &from).await;
        check_history(&from, &to).await;
    }
}
