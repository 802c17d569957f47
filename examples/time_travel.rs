//! Any earlier value, by `t` and by instant; one SQL statement that sees three of them.

use datafusion::arrow::util::pretty::pretty_format_batches;
use datomfusion::{Connection, Federation, Store, TimePoint, TxData};

const SCHEMA: &str = r#"[
    {:db/id "datomic.tx" :db/txInstant #inst "2020-01-01"}
    {:db/ident :stock/item :db/valueType :db.type/string :db/cardinality :db.cardinality/one
     :db/unique :db.unique/identity}
    {:db/ident :stock/count :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let connection = Connection::create(&Store::memory()).await?;
    connection.transact(&TxData::parse(SCHEMA)?).await?;
    for (day, bolts, nuts) in [
        ("2021-03-01", 10, 4),
        ("2022-03-01", 7, 9),
        ("2023-03-01", 8, 1),
    ] {
        let text = format!(
            r#"[{{:db/id "datomic.tx" :db/txInstant #inst "{day}"}}
                {{:stock/item "bolt" :stock/count {bolts}}}
                {{:stock/item "nut" :stock/count {nuts}}}]"#
        );
        connection.transact(&TxData::parse(&text)?).await?;
    }

    let db = connection.db();
    let end_of_2021 = db.as_of(TimePoint::parse_time("2021-12-31")?).await?;
    assert_eq!(end_of_2021.basis_t(), 2);

    let mut federation = Federation::new();
    federation.attach("shop", db)?;
    let rows = federation
        .query(
            r#"SELECT now.item, first.count AS first, old.count AS end_of_2022, now.count AS now
               FROM shop.stock now
               JOIN shop.stock VERSION AS OF 2 AS first USING (item)
               JOIN shop.stock FOR SYSTEM_TIME AS OF '2022-12-31' AS old USING (item)
               ORDER BY now.item"#,
        )
        .await?;
    let table = pretty_format_batches(&rows)?.to_string();
    println!("{table}");
    assert!(table.contains("| bolt | 10    | 7           | 8   |"));
    Ok(())
}
