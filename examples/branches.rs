//! A branch is edited, compared and merged, and a conflict is data.

use std::sync::Arc;

use datomfusion::{
    BranchName, Connection, MergeOutcome, MergeStrategy, Resolution, Store, System, TxData, Value,
};
use futures::TryStreamExt;

const SCHEMA: &str = r#"[
    {:db/ident :track/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one
     :db/unique :db.unique/identity}
    {:db/ident :track/price :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]"#;

async fn transact(connection: &Connection, text: &str) -> datomfusion::Result<()> {
    connection.transact(&TxData::parse(text)?).await.map(drop)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::memory();
    let main = Connection::create(&store).await?;
    transact(&main, SCHEMA).await?;
    transact(
        &main,
        r#"[{:track/name "Ava" :track/price 99} {:track/name "Eve" :track/price 99}]"#,
    )
    .await?;

    // A branch is one small object; it shares everything with the value that it begins with.
    let name = BranchName::try_new("sale")?;
    main.branches().create(&name, &main.db()).await?;
    let sale = Connection::open_in(&store, name, Arc::new(System)).await?;
    transact(
        &sale,
        r#"[{:track/name "Ava" :track/price 49} {:track/name "Zoe" :track/price 49}]"#,
    )
    .await?;
    transact(&main, r#"[{:track/name "Ava" :track/price 129}]"#).await?;

    // What must be said to turn one into the other, at the cost of what differs.
    let changes: Vec<_> = main.db().diff(&sale.db())?.try_collect().await?;
    let prices = changes
        .iter()
        .filter(|change| matches!(change.v, Value::Long(_)));
    assert_eq!(prices.count(), 3);

    // Both changed the price of Ava, so a merge that nobody decides writes nothing.
    let refused = main.merge(&sale.db(), &MergeStrategy::Fail).await?;
    assert_eq!(refused.outcome, MergeOutcome::Refused);
    let (conflict, _) = &refused.conflicts[0];
    println!(
        "conflict: base {:?}, ours {:?}, theirs {:?}",
        conflict.base, conflict.ours, conflict.theirs
    );
    assert_eq!(conflict.ours, Some(Value::Long(129)));

    // The lower price wins.
    let lower = MergeStrategy::Decide(Arc::new(|conflict| {
        if conflict.theirs < conflict.ours {
            Resolution::Theirs
        } else {
            Resolution::Ours
        }
    }));
    let merged = main.merge(&sale.db(), &lower).await?;
    assert_eq!(merged.outcome, MergeOutcome::Merged);
    let left: Vec<_> = main.db().diff(&sale.db())?.try_collect().await?;
    let prices = left.iter().filter(|change| change.v == Value::Long(129));
    assert_eq!(prices.count(), 0, "the branch has nothing that main lacks");

    // The merge names both parents, so the next one begins there.
    let again = main.merge(&sale.db(), &MergeStrategy::Fail).await?;
    assert_eq!(again.outcome, MergeOutcome::UpToDate);
    Ok(())
}
