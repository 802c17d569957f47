//! A copy keeps up with its source, at the cost of what is new, and answers alike at every basis.

use datomfusion::{
    Components, Connection, Db, Index, Store, SyncOptions, SyncOutcome, System, TimePoint, TxData,
    follow, sync,
};
use futures::{StreamExt, TryStreamExt};
use std::sync::Arc;

const SCHEMA: &str = r#"[
    {:db/ident :track/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one
     :db/unique :db.unique/identity}
    {:db/ident :track/plays :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]"#;

async fn facts(db: &Db, t: u64) -> datomfusion::Result<usize> {
    let past = db.as_of(TimePoint::T(t)).await?;
    let datoms: Vec<_> = past
        .datoms(Index::Eavt, Components::all())?
        .try_collect()
        .await?;
    Ok(datoms.len())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Any two stores will do: directories, buckets, or a web server to read from.
    let (here, there) = (Store::memory(), Store::memory());
    let conn = Connection::create(&here).await?;
    conn.transact(&TxData::parse(SCHEMA)?).await?;
    let many = (0..20_000).map(|n| format!("{{:track/name \"Track {n}\" :track/plays {n}}}"));
    let many: Vec<String> = many.collect();
    conn.transact(&TxData::parse(&format!("[{}]", many.concat()))?)
        .await?;

    let options = SyncOptions::default();
    let whole = sync(&here, &there, &options).await?;
    assert_eq!(whole.outcome, SyncOutcome::Created);

    // One fact has changed: a path of each tree travels. Nothing has changed: one request at each end.
    let said = r#"[{:track/name "Track 7" :track/plays 1000}]"#;
    conn.transact(&TxData::parse(said)?).await?;
    conn.checkpoint().await?;
    let part = sync(&here, &there, &options).await?;
    println!("{} nodes, then {}", whole.nodes, part.nodes);
    assert!(part.nodes < whole.nodes);
    let none = sync(&here, &there, &options).await?;
    assert_eq!(
        (none.outcome, none.from.gets, none.to.gets),
        (SyncOutcome::UpToDate, 1, 1)
    );

    let copy = Db::open(&there, conn.branch()).await?;
    for t in 0..=copy.basis_t() {
        assert_eq!(facts(&copy, t).await?, facts(&conn.db(), t).await?);
    }

    // A copy can be written, and what it says be brought back. Followed, that happens by itself: here at
    // ticks that we give, elsewhere at those of a clock.
    let writer = Connection::open(&there).await?;
    let (tick, ticks) = futures::channel::mpsc::unbounded();
    let mut reports = follow(&there, &here, options, Arc::new(System), ticks);
    let first = reports.next().await.ok_or("nobody looked")??;
    assert_eq!(first.commits, 0);
    writer
        .transact(&TxData::parse(r#"[{:track/name "Coda" :track/plays 1}]"#)?)
        .await?;
    tick.unbounded_send(())?;
    let second = reports.next().await.ok_or("nobody looked")??;
    assert_eq!(second.commits, 1);
    assert_eq!(conn.sync().await?.head_commit(), writer.db().head_commit());
    Ok(())
}
