//! Every basis of generated histories, in every composition of views, against a vector of datoms.

use std::cmp::Ordering;

use super::{Random, all, cold, database, go_on, holding, transact};
use crate::{Components, Connection, Datom, Db, Index, Store, TimePoint, TreeName};

use futures::TryStreamExt;

/// What a view must show: the datoms that were said, and how much of them it looks at.
#[derive(Clone)]
struct Twin {
    said: Vec<Datom>,
    t: u64,
    since: Option<u64>,
    history: bool,
}

impl Twin {
    fn of(said: &[Datom]) -> Self {
        let t = said.last().unwrap().tx.t();
        Self {
            said: said.to_vec(),
            t,
            since: None,
            history: false,
        }
    }

    /// The datoms of an index, in its order.
    fn datoms(&self, db: &Db, index: Index) -> Vec<Datom> {
        let mut datoms = if self.history || index == Index::Log {
            let known = |datom: &&Datom| datom.tx.t() <= self.t;
            self.said.iter().filter(known).cloned().collect()
        } else {
            holding(&self.said, self.t)
        };
        datoms.retain(|datom| self.since.is_none_or(|since| datom.tx.t() > since));
        if index == Index::Avet {
            datoms.retain(|datom| db.in_avet(datom.a));
        }
        datoms.sort_by(|left, right| compare(index, left, right));
        datoms
    }
}

/// The order of an index, written out.
fn compare(index: Index, left: &Datom, right: &Datom) -> Ordering {
    let (e, a) = (left.e.cmp(&right.e), left.a.cmp(&right.a));
    let (v, tx) = (left.v.cmp(&right.v), left.tx.cmp(&right.tx));
    let order = match index {
        Index::Eavt => [e, a, v, tx],
        Index::Aevt => [a, e, v, tx],
        Index::Avet => [a, v, e, tx],
        Index::Log => [tx, e, a, v],
    };
    order
        .into_iter()
        .fold(Ordering::Equal, Ordering::then)
        .then(left.added.cmp(&right.added))
}

/// Compares every index of a view with its twin.
async fn check(db: &Db, twin: &Twin) {
    for index in [Index::Eavt, Index::Aevt, Index::Avet, Index::Log] {
        let expected = twin.datoms(db, index);
        assert_eq!(all(db, index).await, expected, "{index:?} of {db:?}");
        let everything = crate::index::Range::all();
        let count = db.count(index, &everything).await.unwrap();
        assert_eq!(count, expected.len() as u64, "{index:?} of {db:?}");
    }
    // A look-up sees what a scan sees.
    for datom in twin.datoms(db, Index::Eavt).iter().step_by(7) {
        let entity = db
            .datoms(Index::Eavt, Components::all().e(datom.e))
            .unwrap();
        let found: Vec<Datom> = entity.try_collect().await.unwrap();
        let mut expected = twin.datoms(db, Index::Eavt);
        expected.retain(|other| other.e == datom.e);
        assert_eq!(found, expected);
    }
}

/// A view of another, chosen at random, and its twin.
async fn viewed(random: &mut Random, db: &Db, twin: &Twin) -> (Db, Twin) {
    let mut twin = twin.clone();
    let t = random.below(twin.t + 1);
    let db = match random.below(3) {
        0 => {
            twin.t = t;
            db.as_of(TimePoint::T(t)).await.unwrap()
        }
        1 => {
            twin.since = twin.since.max(Some(t));
            db.since(TimePoint::T(t)).await.unwrap()
        }
        _ => {
            twin.history = true;
            db.history()
        }
    };
    (db, twin)
}

#[tokio::test]
async fn any_composition_of_views_shows_what_was_said() {
    // From a checkpoint every few transactions to none but those that an overflow makes.
    for (seed, every) in [(1, 2), (2, 7), (3, 30), (4, 1 << 40)] {
        println!("seed {seed}, a checkpoint once in {every}");
        let mut random = Random(seed);
        let connection = database(seed).await;
        go_on(&connection, &mut random, 45, every).await;
        let newest = connection.db();
        let whole = Twin::of(&all(&newest, Index::Log).await);
        for t in 0..=newest.basis_t() {
            let past = newest.as_of(TimePoint::T(t)).await.unwrap();
            let twin = Twin { t, ..whole.clone() };
            check(&past, &twin).await;
            let (mut db, mut twin) = (past, twin);
            for _ in 0..3 {
                (db, twin) = viewed(&mut random, &db, &twin).await;
                check(&db, &twin).await;
            }
        }
        // Every pair of a lower and an upper bound, with and without what was superseded.
        for t in (0..=45).step_by(9) {
            for since in (0..=t).step_by(4) {
                let db = newest.as_of(TimePoint::T(t)).await.unwrap();
                let db = db.since(TimePoint::T(since)).await.unwrap();
                let mut twin = Twin {
                    t,
                    since: Some(since),
                    ..whole.clone()
                };
                check(&db, &twin).await;
                twin.history = true;
                check(&db.history(), &twin).await;
            }
        }
    }
}

#[tokio::test]
async fn views_commute_where_they_should() {
    let connection = database(9).await;
    go_on(&connection, &mut Random(9), 60, 9).await;
    let db = connection.db();
    for (t, since) in [(40, 10), (59, 58), (30, 30), (60, 0)] {
        let (t, since) = (TimePoint::T(t), TimePoint::T(since));
        let one = db
            .as_of(t)
            .await
            .unwrap()
            .since(since)
            .await
            .unwrap()
            .history();
        let two = db
            .history()
            .since(since)
            .await
            .unwrap()
            .as_of(t)
            .await
            .unwrap();
        let three = db
            .since(since)
            .await
            .unwrap()
            .history()
            .as_of(t)
            .await
            .unwrap();
        let expected = all(&one, Index::Eavt).await;
        assert_eq!(all(&two, Index::Eavt).await, expected);
        assert_eq!(all(&three, Index::Eavt).await, expected);
    }
}

/// A database of thousands of transactions, checkpointed by its tail's overflows.
async fn long(transactions: u64) -> Connection {
    let connection = database(11).await;
    let mut random = Random(11);
    while connection.db().basis_t() < transactions {
        let texts: Vec<String> = (0..64)
            .map(|_| {
                format!(
                    "[{{:p/name \"n{}\" :p/age {} :p/tags [:t{}]}}]",
                    random.below(3000),
                    random.below(90),
                    random.below(20)
                )
            })
            .collect();
        // Those that wait for one another go together.
        futures::future::join_all(texts.iter().map(|text| transact(&connection, text))).await;
    }
    connection
}

/// Nodes that opening a past basis reads, and then those that scanning an index reads.
async fn cost(store: &Store, t: u64, index: Index) -> (u64, u64, usize) {
    let newest = cold(store).await;
    assert_eq!(
        newest.loader().loads().nodes,
        0,
        "opening the newest reads no node"
    );
    let db = newest.as_of(TimePoint::T(t)).await.unwrap();
    let opened = db.loader().loads().nodes;
    let datoms = all(&db, index).await.len();
    (opened, db.loader().loads().nodes - opened, datoms)
}

#[tokio::test]
async fn opening_any_past_reads_a_few_paths_and_scanning_it_costs_what_the_present_costs() {
    let connection = long(4000).await;
    let store = connection.store();
    let sizes = cold(store).await.tree_sizes().await.unwrap();
    let height = |name| u64::from(sizes.iter().find(|size| size.name == name).unwrap().height);
    // The record of t, that of its checkpoint and those between; the log's leaves that make the tail.
    let (commits, log) = (height(TreeName::Commits), height(TreeName::Log));
    let records = sizes
        .iter()
        .find(|size| size.name == TreeName::Commits)
        .unwrap();
    let a_leaf = records.datoms / records.nodes.max(1);
    let replayed = 192 / a_leaf.max(1) + 2;
    let bound = 2 * commits + log + replayed + 4;
    println!("{sizes:?}");
    let mut most = 0;
    for t in (0..=4000).step_by(333).chain([1, 191, 192, 193, 3999]) {
        let (opened, scanned, datoms) = cost(store, t, Index::Eavt).await;
        most = most.max(opened);
        assert!(
            opened <= bound,
            "t={t}: {opened} nodes to open, {bound} expected"
        );
        // The leaves of a tree built of just these datoms, and no more.
        let past = cold(store).await.as_of(TimePoint::T(t)).await.unwrap();
        let present = past.tree_sizes().await.unwrap()[0].nodes;
        assert!(
            scanned <= present,
            "t={t}: {scanned} nodes for {datoms} datoms, a tree of {present}"
        );
    }
    println!("at most {most} nodes to open a basis; bound {bound}");
}
