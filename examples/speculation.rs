//! What would be: values that transactions would make, asked and compared, and nothing stored.

use datafusion::arrow::util::pretty::pretty_format_batches;
use datomfusion::{Connection, Federation, Store, TxData};
use futures::TryStreamExt;

const SCHEMA: &str = r#"[
    {:db/ident :room/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one
     :db/unique :db.unique/identity}
    {:db/ident :room/seats :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::memory();
    let connection = Connection::create(&store).await?;
    connection.transact(&TxData::parse(SCHEMA)?).await?;
    let rooms = r#"[{:room/name "north" :room/seats 40} {:room/name "south" :room/seats 25}]"#;
    connection.transact(&TxData::parse(rooms)?).await?;

    // Two plans for the same rooms, the second in two steps. A value knows nothing of a writer, so a plan
    // can be made on any of them, by anybody who can read.
    let db = connection.db();
    let written = store.requests().puts;
    let bigger = TxData::parse(r#"[{:room/name "south" :room/seats 30}]"#)?;
    let bigger = db.db_with(&bigger).await?;
    let closed = TxData::parse(r#"[[:db/retractEntity [:room/name "south"]]]"#)?;
    let opened = TxData::parse(r#"[{:room/name "east" :room/seats 60}]"#)?;
    let moved = db.db_with(&closed).await?.db_with(&opened).await?;

    // They are values like any other, so they join with what is.
    let mut federation = Federation::new();
    federation.attach("now", db.clone())?;
    federation.attach("bigger", bigger)?;
    federation.attach("moved", moved.clone())?;
    let rows = federation
        .query(
            "SELECT (SELECT sum(seats) FROM now.room) AS now,
                    (SELECT sum(seats) FROM bigger.room) AS bigger,
                    (SELECT sum(seats) FROM moved.room) AS moved",
        )
        .await?;
    let table = pretty_format_batches(&rows)?.to_string();
    println!("{table}");
    assert!(table.contains("| 65  | 70     | 100   |"));

    let changes: Vec<_> = db.diff(&moved)?.try_collect().await?;
    let gone = changes.iter().filter(|change| !change.added).count();
    assert_eq!(
        (gone, changes.len()),
        (2, 6),
        "a room less, a room more, and an instant for each step"
    );
    assert_eq!(store.requests().puts, written, "nothing was written");
    Ok(())
}
