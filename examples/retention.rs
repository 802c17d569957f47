//! Checkpoints are thinned out and garbage goes, and every basis still answers; what is purged is gone from all.

use std::time::Duration;

use datomfusion::{
    Components, Connection, GcOptions, Index, Purge, Retention, Store, TimePoint, TxData, Value, gc,
};
use futures::TryStreamExt;

const SCHEMA: &str = r#"[
    {:db/ident :track/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one
     :db/unique :db.unique/identity}
    {:db/ident :track/note :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]"#;

/// The notes that hold at a `t`.
async fn notes(connection: &Connection, t: u64) -> datomfusion::Result<Vec<String>> {
    let past = connection.db().as_of(TimePoint::T(t)).await?;
    let facts: Vec<_> = past
        .datoms(Index::Eavt, Components::all())?
        .try_collect()
        .await?;
    let note = |v: &Value| match v {
        Value::String(text) if text.starts_with("note") => Some(text.to_string()),
        _ => None,
    };
    Ok(facts.iter().filter_map(|datom| note(&datom.v)).collect())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::memory();
    let main = Connection::create(&store).await?;
    main.transact(&TxData::parse(SCHEMA)?).await?;
    for n in 2..40 {
        let said = format!(r#"[{{:track/name "Ava" :track/note "note {n}"}}]"#);
        main.transact(&TxData::parse(&said)?).await?;
        // Otherwise only when 192 transactions or 32 KiB lie behind the last one.
        main.checkpoint().await?;
    }

    // Nobody reads meanwhile, so what is dead may go at once. Otherwise the grace is an hour, and a pack
    // that one run finds dead is deleted by a later one.
    let options = GcOptions {
        retention: Retention::newest_only(),
        grace: Duration::ZERO,
        ..GcOptions::default()
    };
    let dry = GcOptions {
        dry_run: true,
        ..options.clone()
    };
    let would = gc(&store, &dry).await?;
    let did = gc(&store, &options).await?;
    println!(
        "of {} packs, {} are deleted; {} checkpoints are dropped",
        did.packs.count, did.deleted.count, did.dropped_checkpoints
    );
    assert_eq!(would.dropped_checkpoints, did.dropped_checkpoints);
    assert_eq!(did.kept_checkpoints, 1);

    // No fact depends on a checkpoint: an old basis is replayed from the log.
    main.sync().await?;
    assert_eq!(notes(&main, 7).await?, ["note 7"]);
    assert_eq!(notes(&main, 39).await?, ["note 39"]);

    // A purge takes facts out of every basis; commits keep their ids.
    let before = main.db().as_of(TimePoint::T(7)).await?.commit_id().await?;
    let report = main.purge(&Purge::Before(9)).await?;
    assert_eq!(report.elsewhere, []);
    assert_eq!(notes(&main, 7).await?, Vec::<String>::new());
    assert_eq!(notes(&main, 8).await?, ["note 8"]);
    let after = main.db().as_of(TimePoint::T(7)).await?.commit_id().await?;
    assert_eq!(before, after);
    Ok(())
}
