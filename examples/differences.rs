//! What changed between two values, at the cost of what changed: times, and a copy elsewhere.

use datafusion::arrow::util::pretty::pretty_format_batches;
use datomfusion::{
    BranchName, Connection, Db, Federation, Import, Store, TimePoint, TxData, Value,
};
use futures::TryStreamExt;

const SCHEMA: &str = r#"[
    {:db/ident :part/no :db/valueType :db.type/long :db/cardinality :db.cardinality/one
     :db/unique :db.unique/identity}
    {:db/ident :part/stock :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]"#;

/// A database of 20,000 parts.
async fn parts(store: &Store) -> datomfusion::Result<Connection> {
    let connection = Connection::create(store).await?;
    connection.transact(&TxData::parse(SCHEMA)?).await?;
    let mut parts = Import::new(connection.db().schema());
    let (no, stock) = (parts.attribute("part/no")?, parts.attribute("part/stock")?);
    for n in 0..20_000 {
        parts.entity([(no, Value::Long(n)), (stock, Value::Long(n % 90))])?;
    }
    connection.import(parts).await?;
    Ok(connection)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (here, there) = (Store::memory(), Store::memory());
    let ours = parts(&here).await?;
    parts(&there).await?;
    let sold = r#"[{:part/no 7 :part/stock 3} {:part/no 19000 :part/stock 0}]"#;
    ours.transact(&TxData::parse(sold)?).await?;

    // Of two times: both values share their trees, so nothing but what was said since is looked at.
    let db = ours.db();
    let before = db.as_of(TimePoint::T(2)).await?;
    let mut federation = Federation::new();
    federation.attach("stock", db.clone())?;
    let rows = federation
        .query(
            "SELECT a, v, added FROM diff('stock@t=2', 'stock')
             WHERE a = ':part/stock' ORDER BY e, added",
        )
        .await?;
    println!("{}", pretty_format_batches(&rows)?);
    let changes: Vec<_> = before.diff(&db)?.try_collect().await?;
    assert_eq!(changes.len(), 5, "two stocks twice, and an instant");

    // Of two stores, opened anew: equal subtrees have equal hashes, so they are skipped unread.
    let ours = Db::open(&here, &BranchName::default()).await?;
    let theirs = Db::open(&there, &BranchName::default()).await?;
    let opened = here.requests();
    let counts = ours.diff_counts(&theirs).await?;
    for count in &counts {
        let name = ours.ident(count.a).map_or("", |ident| ident.as_str());
        println!(":{name} +{} -{}", count.asserted, count.retracted);
    }
    let read = (here.requests() - opened).gets;
    assert!(read < 10, "{read} reads of 60,000 datoms");
    Ok(())
}
