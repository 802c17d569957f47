//! A past value is a source like any other: what changed is a join of then with now.

use datomfusion::{Connection, Inputs, Store, Term, TimePoint, TxData};

const SCHEMA: &str = r#"[
    {:db/id "datomic.tx" :db/txInstant #inst "2020-01-01"}
    {:db/ident :stock/item :db/valueType :db.type/string :db/cardinality :db.cardinality/one
     :db/unique :db.unique/identity}
    {:db/ident :stock/price :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let connection = Connection::create(&Store::memory()).await?;
    connection.transact(&TxData::parse(SCHEMA)?).await?;
    for facts in [
        r#"[{:db/id "datomic.tx" :db/txInstant #inst "2021-03-01"}
            {:stock/item "bolt" :stock/price 10} {:stock/item "nut" :stock/price 4}]"#,
        r#"[{:db/id "datomic.tx" :db/txInstant #inst "2023-03-01"}
            {:stock/item "bolt" :stock/price 12} {:stock/item "washer" :stock/price 1}]"#,
    ] {
        connection.transact(&TxData::parse(facts)?).await?;
    }
    let now = connection.db();
    let then = now.as_of(TimePoint::parse_time("2021-12-31")?).await?;

    // Both values of one database, each under a name.
    let both = Inputs::new().source("$then", &then);
    let dearer = r#"[:find ?item ?old ?new
                     :in $ $then
                     :where [$then ?s :stock/price ?old]
                            [?s :stock/price ?new]
                            [(< ?old ?new)]
                            [?s :stock/item ?item]]"#;
    let row = [Term::from("bolt"), Term::Long(10), Term::Long(12)];
    assert_eq!(now.q(dearer, &both).await?.into_rows(), [row]);
    let added = "[:find [?item ...] :in $ $then
                  :where [?s :stock/item ?item] ($then not [?s :stock/item])]";
    let added = now.q(added, &both).await?.to_term();
    assert_eq!(added, Term::vector([Term::from("washer")]));

    // The fourth and fifth place of a pattern are the transaction, and whether it added or retracted.
    let history = now.history();
    let query = r#"[:find ?when ?price ?added
                    :in $ $history
                    :where [?s :stock/item "bolt"]
                           [$history ?s :stock/price ?price ?tx ?added]
                           [?tx :db/txInstant ?when]
                    :order-by [?when :asc ?price :asc]]"#;
    let inputs = Inputs::new().source("$history", &history);
    let changes = now.q(query, &inputs).await?;
    for row in changes.rows() {
        println!("{} {} {}", row[0], row[1], row[2]);
    }
    let shown: Vec<_> = changes
        .rows()
        .iter()
        .map(|row| (&row[1], &row[2]))
        .collect();
    let [ten, twelve] = [10, 12].map(Term::Long);
    let [yes, no] = [true, false].map(Term::Boolean);
    assert_eq!(shown, [(&ten, &yes), (&ten, &no), (&twelve, &yes)]);
    Ok(())
}
