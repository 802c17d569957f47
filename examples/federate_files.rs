//! Two databases in two stores and a CSV file, joined in one statement.

use datafusion::arrow::util::pretty::pretty_format_batches;
use datomfusion::{Connection, Federation, Store, TxData};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;

    // One team keeps its products in a directory.
    let products = Connection::create(&Store::file(&folder.path().join("products"))?).await?;
    let schema = r#"[{:db/ident :product/sku :db/valueType :db.type/long
                      :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
                     {:db/ident :product/name :db/valueType :db.type/string
                      :db/cardinality :db.cardinality/one}]"#;
    products.transact(&TxData::parse(schema)?).await?;
    let facts = r#"[{:product/sku 1 :product/name "kettle"} {:product/sku 2 :product/name "mug"}]"#;
    products.transact(&TxData::parse(facts)?).await?;

    // Another keeps its orders in memory.
    let orders = Connection::create(&Store::memory()).await?;
    let schema = r#"[{:db/ident :order/sku :db/valueType :db.type/long
                      :db/cardinality :db.cardinality/one :db/index true}
                     {:db/ident :order/country :db/valueType :db.type/string
                      :db/cardinality :db.cardinality/one}]"#;
    orders.transact(&TxData::parse(schema)?).await?;
    let facts = r#"[{:order/sku 2 :order/country "NO"} {:order/sku 2 :order/country "CL"}
                    {:order/sku 1 :order/country "NO"}]"#;
    orders.transact(&TxData::parse(facts)?).await?;

    // And somebody sent a file.
    let file = folder.path().join("countries.csv");
    std::fs::write(&file, "code,country\nNO,Norway\nCL,Chile\n")?;

    let mut federation = Federation::new();
    federation.attach("products", products.db())?;
    federation.attach("orders", orders.db())?;
    federation.attach_file("countries", &file).await?;
    let rows = federation
        .query(
            r#"SELECT c.country, p.name
               FROM orders."order" o
               JOIN products.product p ON p.sku = o.sku
               JOIN countries c ON c.code = o.country
               ORDER BY 1, 2"#,
        )
        .await?;
    let table = pretty_format_batches(&rows)?.to_string();
    println!("{table}");
    assert!(table.contains("| Chile   | mug    |"));
    assert_eq!(
        table.matches("kettle").count() + table.matches("mug").count(),
        3
    );
    Ok(())
}
