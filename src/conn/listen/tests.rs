use futures::future::join_all;
use futures::{FutureExt, StreamExt};

use super::*;
use crate::{BranchName, Seeded, Store, TxData};

const SCHEMA: &str = "[
    {:db/ident :n/id :db/valueType :db.type/long :db/cardinality :db.cardinality/one
     :db/unique :db.unique/identity}
    {:db/ident :n/of :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]";

async fn database(store: &Store) -> Connection {
    let connection = Connection::create_in(store, BranchName::default(), Seeded::new(3)).await;
    let connection = connection.unwrap();
    transact(&connection, SCHEMA).await.unwrap();
    connection
}

async fn other(store: &Store, seed: u64) -> Connection {
    let connection = Connection::open_in(store, BranchName::default(), Seeded::new(seed)).await;
    connection.unwrap()
}

async fn transact(connection: &Connection, text: &str) -> Result<TxReport> {
    connection.transact(&TxData::parse(text).unwrap()).await
}

/// What can be had without waiting for another commit.
fn heard(reports: &mut BoxStream<'static, Result<TxReport>>) -> Vec<Result<TxReport>> {
    let mut heard = Vec::new();
    while let Some(Some(report)) = tokio::task::unconstrained(reports.next()).now_or_never() {
        heard.push(report);
    }
    heard
}

/// Reports agree with the log: data, the values before and after, instants.
async fn agree(db: &Db, heard: &[Result<TxReport>], from: u64) {
    for (report, t) in heard.iter().zip(from..) {
        let report = report.as_ref().unwrap();
        let said: Vec<_> = db.tx_range(t, Some(t + 1)).try_collect().await.unwrap();
        assert_eq!((report.t, &report.tx_data), (t, &said));
        assert_eq!(report.db_before.basis_t(), t - 1);
        assert_eq!(report.db_after.basis_t(), t);
        assert_eq!(report.instant, report.db_after.basis_instant());
        for (seen, t) in [(&report.db_before, t - 1), (&report.db_after, t)] {
            let stored = db.as_of(TimePoint::T(t)).await.unwrap();
            let all = |db: &Db| {
                let datoms = db.stream(crate::Index::Eavt, crate::index::Range::all());
                datoms.try_collect::<Vec<_>>()
            };
            assert_eq!(all(seen).await.unwrap(), all(&stored).await.unwrap());
        }
    }
}

#[tokio::test]
async fn every_commit_of_a_group_is_heard_once_and_no_refusal_is() {
    let connection = database(&Store::memory()).await;
    let mut reports = connection.tx_reports();
    let texts: Vec<_> = (0..60)
        .map(|n| match n % 5 {
            4 => "[[:db/cas :n/of :db/doc \"never\" \"x\"]]".to_owned(),
            _ => format!("[{{:db/id \"it\" :n/id {n}}}]"),
        })
        .collect();
    let before = connection.store().requests();
    let turn = connection.0.writer.turn.lock().await;
    let mut work = join_all(texts.iter().map(|text| transact(&connection, text)));
    // All of them queue behind a writer that holds the turn.
    assert!(futures::poll!(&mut work).is_pending());
    drop(turn);
    let outcomes = work.await;
    let swaps = (connection.store().requests() - before).puts;
    let done: Vec<_> = outcomes.iter().flatten().collect();
    assert_eq!(done.len(), 48);
    assert!(swaps < 10, "they were grouped: {swaps}");
    let heard = heard(&mut reports);
    assert_eq!(heard.len(), 48);
    for (report, done) in heard.iter().flatten().zip(done) {
        assert_eq!((report.t, &report.tempids), (done.t, &done.tempids));
    }
    agree(&connection.db(), &heard, 2).await;
}

#[tokio::test]
async fn a_listener_hears_what_came_after_it_and_the_end() {
    let connection = database(&Store::memory()).await;
    transact(&connection, "[{:n/id 1}]").await.unwrap();
    let mut first = connection.tx_reports();
    transact(&connection, "[{:n/id 2}]").await.unwrap();
    let mut second = connection.clone().tx_reports();
    connection.checkpoint().await.unwrap();
    transact(&connection, "[{:n/id 3}]").await.unwrap();
    let ts =
        |heard: Vec<Result<TxReport>>| heard.into_iter().flatten().map(|r| r.t).collect::<Vec<_>>();
    assert_eq!(ts(heard(&mut first)), [3, 4]);
    assert_eq!(ts(heard(&mut second)), [4]);
    drop(connection);
    assert!(first.next().await.is_none());
}

#[tokio::test]
async fn what_others_commit_is_heard_from_the_log() {
    let store = Store::memory();
    let connection = database(&store).await;
    let mut reports = connection.tx_reports();
    let foreign = other(&store, 4).await;
    for n in 0..300 {
        // More than a tail holds, so that some lie behind a checkpoint.
        transact(&foreign, &format!("[{{:n/id {n}}}]"))
            .await
            .unwrap();
    }
    assert!(heard(&mut reports).is_empty(), "nobody has looked");
    connection.sync().await.unwrap();
    connection.sync().await.unwrap();
    let found = heard(&mut reports);
    assert_eq!(found.len(), 300);
    agree(&connection.db(), &found, 2).await;
    // A commit that loses the race hears of the winner's before its own.
    transact(&foreign, "[{:n/id 1000}]").await.unwrap();
    transact(&foreign, "[{:n/id 1001}]").await.unwrap();
    let own = transact(&connection, "[{:db/id \"it\" :n/id 1002}]")
        .await
        .unwrap();
    let found = heard(&mut reports);
    assert_eq!(found.len(), 3);
    agree(&connection.db(), &found, 302).await;
    assert_eq!(found[2].as_ref().unwrap().tempids, own.tempids);
    assert!(found[1].as_ref().unwrap().tempids.is_empty());
}

#[tokio::test]
async fn a_slow_listener_is_told_what_it_missed() {
    let connection = database(&Store::memory()).await;
    let mut reports = connection.tx_reports();
    let count = 1500;
    for chunk in 0..count / 100 {
        let texts: Vec<_> = (0..100)
            .map(|n| format!("[{{:n/id {}}}]", chunk * 100 + n))
            .collect();
        let done = join_all(texts.iter().map(|text| transact(&connection, text))).await;
        assert!(done.iter().all(Result::is_ok));
    }
    let found = heard(&mut reports);
    let Err(Error::ReportsMissed { from, to }) = &found[0] else {
        panic!("{:?}", found[0]);
    };
    assert_eq!(*from, 2);
    assert_eq!(found.len() as u64 - 1 + (to - from + 1), count);
    assert!(found.len() > BUFFER_MAX / 2);
    agree(&connection.db(), &found[1..4], to + 1).await;
    let ts: Vec<_> = found[1..].iter().flatten().map(|report| report.t).collect();
    assert_eq!(ts, (to + 1..=connection.db().basis_t()).collect::<Vec<_>>());
}

/// Two connections that race, with listeners on both: each hears every `t` once, in order.
#[tokio::test]
async fn racing_connections_hear_one_another_in_order() {
    let store = Store::memory();
    let connections = [database(&store).await, other(&store, 5).await];
    let mut reports = connections.each_ref().map(Connection::tx_reports);
    let texts: Vec<_> = (0..80)
        .map(|n| format!("[{{:n/id {n} :n/of {}}}]", n % 3))
        .collect();
    let work = texts.iter().enumerate().map(|(n, text)| {
        let connection = &connections[n % 2];
        async move {
            transact(connection, text).await.unwrap();
            if n % 7 == 0 {
                connection.sync().await.unwrap();
            }
        }
    });
    join_all(work).await;
    for (connection, reports) in connections.iter().zip(&mut reports) {
        connection.sync().await.unwrap();
        let found = heard(reports);
        assert_eq!(found.len(), 80);
        agree(&connection.db(), &found, 2).await;
    }
}
