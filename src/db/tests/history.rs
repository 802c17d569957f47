//! Transactions from either end, and what was said about an entity.

use futures::TryStreamExt;

use super::{Random, all, cold, database, go_on, holding};
use crate::{Datom, Db, Entid, Index, TimePoint, TxData, TxId};

async fn forward(
    db: &Db,
    range: impl std::ops::RangeBounds<u64>,
) -> Vec<super::super::Transaction> {
    db.transactions(range).try_collect().await.unwrap()
}

#[tokio::test]
async fn transactions_are_the_log_cut_at_each_t() {
    for seed in 0..4 {
        println!("seed {seed}");
        let connection = database(seed).await;
        go_on(&connection, &mut Random(seed), 80, 15).await;
        let newest = connection.db();
        for db in [
            newest.clone(),
            newest.as_of(TimePoint::T(40)).await.unwrap(),
        ] {
            let log = all(&db, Index::Log).await;
            let found = forward(&db, ..).await;
            let said: Vec<Datom> = found.iter().flat_map(|tx| tx.data.clone()).collect();
            assert_eq!(said, log);
            let ts: Vec<u64> = found.iter().map(|tx| tx.t).collect();
            assert_eq!(ts, (0..=db.basis_t()).collect::<Vec<_>>());
            for tx in &found {
                assert!(tx.data.iter().all(|datom| datom.tx == tx.tx));
                let past = newest.as_of(TimePoint::T(tx.t)).await.unwrap();
                assert_eq!(tx.instant, past.basis_instant());
                let hash = newest.commit_hash(tx.t).await.unwrap();
                assert_eq!(
                    tx.commit.map(|commit| (commit.t, commit.hash)),
                    hash.map(|hash| (tx.t, hash))
                );
                assert_eq!(db.tx_data(tx.t).await.unwrap(), tx.data);
            }
            let mut back: Vec<_> = db.transactions_back(..).try_collect().await.unwrap();
            back.reverse();
            assert_eq!(back, found);
            for (from, to) in [(0, 1), (7, 31), (30, 30), (39, 1000), (90, 95)] {
                let part: Vec<_> = found
                    .iter()
                    .filter(|tx| (from..to).contains(&tx.t))
                    .cloned()
                    .collect();
                assert_eq!(forward(&db, from..to).await, part);
                let mut back: Vec<_> = db.transactions_back(from..to).try_collect().await.unwrap();
                back.reverse();
                assert_eq!(back, part);
                let ids: Vec<TxId> = db.tx_ids(from..to).collect();
                assert_eq!(ids, part.iter().map(|tx| tx.tx).collect::<Vec<_>>());
            }
            let since = db.since(TimePoint::T(10)).await.unwrap();
            assert_eq!(forward(&since, ..=12).await, found[11..=12]);
        }
        assert!(newest.tx_data(newest.basis_t() + 1).await.is_err());
    }
}

#[tokio::test]
async fn a_speculative_transaction_has_no_commit() {
    let connection = database(1).await;
    go_on(&connection, &mut Random(1), 20, 5).await;
    let data = TxData::parse("[{:p/name \"if\"}]").unwrap();
    let old = connection.db().as_of(TimePoint::T(9)).await.unwrap();
    for db in [connection.db(), old] {
        let db = db.db_with(&data).await.unwrap();
        let found = forward(&db, ..).await;
        let committed: Vec<bool> = found.iter().map(|tx| tx.commit.is_some()).collect();
        let mut expected = vec![true; committed.len()];
        *expected.last_mut().unwrap() = false;
        assert_eq!(committed, expected);
    }
}

#[tokio::test]
async fn the_newest_transactions_cost_a_path_however_long_the_log_is() {
    let connection = database(2).await;
    go_on(&connection, &mut Random(2), 2000, 1000).await;
    connection.checkpoint().await.unwrap();
    let db = cold(connection.store()).await;
    let sizes = db.tree_sizes().await.unwrap();
    let db = cold(db.store()).await;
    let mut newest = db.transactions_back(..);
    for t in (1996..=2000).rev() {
        assert_eq!(newest.try_next().await.unwrap().unwrap().t, t);
    }
    let height = |name| u64::from(sizes.iter().find(|size| size.name == name).unwrap().height);
    let (log, commits) = (
        height(crate::TreeName::Log),
        height(crate::TreeName::Commits),
    );
    let read = db.loader().loads().nodes;
    assert!(
        read <= log + commits + 6,
        "{read} nodes, heights {log} and {commits}"
    );
}

#[tokio::test]
async fn the_history_of_an_entity_is_what_the_log_says_of_it() {
    for seed in 0..4 {
        println!("seed {seed}");
        let connection = database(seed).await;
        go_on(&connection, &mut Random(seed), 60, 12).await;
        let newest = connection.db();
        let mut seen: Vec<Entid> = all(&newest, Index::Log).await.iter().map(|d| d.e).collect();
        seen.sort_unstable();
        seen.dedup();
        for t in [60, 33] {
            let db = newest.as_of(TimePoint::T(t)).await.unwrap();
            let since = db.since(TimePoint::T(20)).await.unwrap();
            let log = all(&db, Index::Log).await;
            for e in &seen {
                let mut said: Vec<Datom> = log.iter().filter(|d| d.e == *e).cloned().collect();
                let found = db.entity_history(*e).await.unwrap();
                assert!(found.is_sorted_by_key(|d| (d.tx, d.a, d.added)));
                // Replayed in this order, no fact is retracted before it holds.
                assert_eq!(holding(&found, t).len(), holding(&said, t).len());
                let late: Vec<Datom> = found.iter().filter(|d| d.tx.t() > 20).cloned().collect();
                assert_eq!(since.entity_history(*e).await.unwrap(), late);
                let mut found = found;
                found.sort_by_key(|d| (d.tx, d.a, d.v.clone(), d.added));
                said.sort_by_key(|d| (d.tx, d.a, d.v.clone(), d.added));
                assert_eq!(found, said);
            }
        }
    }
}
