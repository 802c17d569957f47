//! One query over the databases of two teams, and a list that is in neither.

use datomfusion::{Connection, Federation, Inputs, Store, Term, TxData};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;

    // One team keeps its catalogue in a directory.
    let catalog = Connection::create(&Store::file(&folder.path().join("catalog"))?).await?;
    let schema = r#"[{:db/ident :product/sku :db/valueType :db.type/long
                      :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
                     {:db/ident :product/name :db/valueType :db.type/string
                      :db/cardinality :db.cardinality/one}]"#;
    catalog.transact(&TxData::parse(schema)?).await?;
    let facts = r#"[{:product/sku 1 :product/name "kettle"} {:product/sku 2 :product/name "mug"}
                    {:product/sku 3 :product/name "tray"}]"#;
    catalog.transact(&TxData::parse(facts)?).await?;

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

    // An attached database is the source of its name; $countries is given, and binds rows.
    let mut federation = Federation::new();
    federation.attach("catalog", catalog.db())?;
    federation.attach("orders", orders.db())?;
    let countries = [["NO", "Norway"], ["CL", "Chile"]];
    let countries = countries.map(|row| Term::vector(row.map(Term::from)));
    let query = r#"[:find ?country ?name
                    :in $catalog $orders $countries
                    :where [$orders ?o :order/sku ?sku]
                           [$orders ?o :order/country ?code]
                           [$catalog ?p :product/sku ?sku]
                           [$catalog ?p :product/name ?name]
                           [$countries ?code ?country]
                    :order-by [?country :asc ?name :asc]]"#;
    let inputs = Inputs::new().collection("$countries", countries);
    let sold = federation.q(query, &inputs).await?;
    let rows = [["Chile", "mug"], ["Norway", "kettle"], ["Norway", "mug"]];
    assert_eq!(sold.rows(), rows.map(|row| row.map(Term::from)));

    // Negation asks another database than the rest.
    let query = r#"[:find [?name ...]
                    :in $catalog $orders
                    :where [$catalog ?p :product/sku ?sku]
                           [$catalog ?p :product/name ?name]
                           ($orders not [_ :order/sku ?sku])]"#;
    let never = federation.q(query, &Inputs::new()).await?;
    println!("never sold: {}", never.to_term());
    assert_eq!(never.to_term(), Term::vector([Term::from("tray")]));
    Ok(())
}
