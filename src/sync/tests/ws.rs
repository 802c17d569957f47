//! Copies to and from servers: what travels is what travels between any two stores.

use super::*;
use crate::store::ws_tests::remote;

/// What happened at both ends of a copy, and what was asked meanwhile.
fn told(report: &SyncReport) -> (SyncOutcome, u64, u64, u64, u64) {
    let SyncReport {
        outcome,
        commits,
        nodes,
        bodies,
        bytes,
        ..
    } = report;
    (*outcome, *commits, *nodes, *bodies, *bytes)
}

#[tokio::test]
async fn fetch_and_push_take_what_they_take_between_stores_at_hand() {
    let mut source = Source::large(60).await;
    let from = source.store();
    let (_from_served, from_afar) = remote(&from).await;
    let (fetched_to, pushed_to, twin) = (Store::memory(), Store::memory(), Store::memory());
    let (_to_served, to_afar) = remote(&pushed_to).await;
    for (round, transactions) in [(1, 0), (2, 40), (3, 1)] {
        source.go_on(transactions, 13).await;
        let plain = fetched(&from, &twin, round).await;
        let fetch = fetched(&from_afar, &fetched_to, round).await;
        let push = fetched(&from, &to_afar, round).await;
        assert_eq!((told(&fetch), told(&push)), (told(&plain), told(&plain)));
        assert_eq!(
            (fetch.from.gets, push.to.gets),
            (plain.from.gets, plain.to.gets)
        );
        assert_eq!(
            (push.to.puts, push.to.lists),
            (plain.to.puts, plain.to.lists)
        );
        assert!(plain.nodes > 0 || round > 2);
        for to in [&fetched_to, &to_afar] {
            alike(&source.db().await, &opened(to).await, 100).await;
        }
    }
    let again = fetched(&from_afar, &to_afar, 9).await;
    assert_eq!(again.outcome, SyncOutcome::UpToDate);
    assert_eq!((again.from.gets, again.to.gets), (1, 1));
    // A database behind a server is one to work with.
    let connection = Connection::open_in(&to_afar, main(), Seeded::new(61))
        .await
        .unwrap();
    said(&connection, "[{:n/id 1 :n/text \"from afar\"}]").await;
    connection.checkpoint().await.unwrap();
    assert_eq!(
        opened(&pushed_to).await.head_commit(),
        connection.db().head_commit()
    );
    opened(&pushed_to).await.verify().await.unwrap();
}

#[tokio::test]
async fn a_live_branch_is_followed_at_one_request_a_change() {
    let mut source = Source::begin(62).await;
    let (served, afar) = remote(&source.store()).await;
    // A handle of its own: requests are counted by handle.
    let writer = Store::open_url(&served.url("db")).unwrap();
    let to = Store::memory();
    // As fast as it can, which a store that can only be asked would feel.
    let ticks = stream::repeat(());
    let mut reports = follow(&afar, &to, SyncOptions::default(), Seeded::new(63), ticks);
    assert_eq!(
        reports.next().await.unwrap().unwrap().outcome,
        SyncOutcome::Created
    );
    // The writer sits at the other side, too.
    source.connection = Connection::open_in(&writer, main(), Seeded::new(64))
        .await
        .unwrap();
    for _ in 0..5 {
        let mut next = reports.next();
        assert!(futures::poll!(&mut next).is_pending());
        source.go_on(1, 1000).await;
        let report = next.await.unwrap().unwrap();
        assert_eq!(
            (report.outcome, report.commits),
            (SyncOutcome::FastForward, 1)
        );
        assert_eq!(report.from.gets, 1, "{report:?}");
        assert_eq!(
            opened(&to).await.head_commit(),
            source.connection.db().head_commit()
        );
    }
}
