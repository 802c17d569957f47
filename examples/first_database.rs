//! Schema is data, facts are data, and a database is a value that never changes.

use datomfusion::{Components, Connection, Index, Store, TxData};
use futures::TryStreamExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let connection = Connection::create(&Store::memory()).await?;

    // An attribute is an entity that says what values mean.
    let schema = r#"[{:db/ident :book/title :db/valueType :db.type/string
                      :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
                     {:db/ident :book/year :db/valueType :db.type/long
                      :db/cardinality :db.cardinality/one}
                     {:db/ident :book/sequel :db/valueType :db.type/ref
                      :db/cardinality :db.cardinality/one}]"#;
    connection.transact(&TxData::parse(schema)?).await?;

    // Facts about new entities, which refer to each other by temporary ids.
    let books = r#"[{:db/id "two" :book/title "Looking-Glass" :book/year 1871}
                    {:book/title "Wonderland" :book/year 1866 :book/sequel "two"}]"#;
    let report = connection.transact(&TxData::parse(books)?).await?;
    println!("t={} said {} facts", report.t, report.tx_data.len());

    // A unique identity upserts: this corrects the year instead of making another book.
    let before = connection.db();
    let correction = r#"[{:book/title "Wonderland" :book/year 1865}]"#;
    connection.transact(&TxData::parse(correction)?).await?;

    for (when, db) in [("before", &before), ("after", &connection.db())] {
        let year = db
            .schema()
            .entid(&datomfusion::edn::Keyword::new("book/year"));
        let components = Components::all().a(year.expect("the attribute is there"));
        let facts: Vec<_> = db.datoms(Index::Aevt, components)?.try_collect().await?;
        let years: Vec<_> = facts.iter().filter_map(|datom| datom.v.as_long()).collect();
        println!("{when}: {years:?}");
    }

    // What was a value stays that value.
    assert_eq!(before.basis_t(), 2);
    assert_eq!(connection.db().basis_t(), 3);
    Ok(())
}
