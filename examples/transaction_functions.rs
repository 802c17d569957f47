//! Rules that every transaction keeps: functions, predicates, composite uniqueness; and who hears of it.

use std::sync::Arc;

use datomfusion::edn::{Edn, Keyword};
use datomfusion::{Connection, Error, LookupRef, Store, TransactionFunctions, TxData, Value};
use futures::StreamExt;

const SCHEMA: &str = r#"[
    {:db/ident :seat/row :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
    {:db/ident :seat/place :db/valueType :db.type/long :db/cardinality :db.cardinality/one
     :db.attr/preds seat/place?}
    {:db/ident :seat/row+place :db/valueType :db.type/tuple :db/tupleAttrs [:seat/row :seat/place]
     :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
    {:db/ident :seat/guest :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]"#;

/// What the house knows about its seats.
fn rules() -> TransactionFunctions {
    let mut rules = TransactionFunctions::new();
    rules
        .register_attribute_predicate("seat/place?", |place| {
            (Value::Long(1)..=Value::Long(20)).contains(place)
        })
        .register("seat/book", |db, arguments| async move {
            let [Edn::Long(row), Edn::Long(place), Edn::String(guest)] = &arguments[..] else {
                return Err(Error::invalid("a seat is a row and a place, for a guest"));
            };
            let seat = [row, place].map(|number| Some(Value::Long(*number)));
            let seat = LookupRef {
                attribute: Keyword::new("seat/row+place"),
                value: Value::Tuple(Arc::new(seat)),
            };
            if db.entid(&seat.into()).await?.is_some() {
                return Err(Error::invalid(format!("row {row}, place {place} is taken")));
            }
            TxData::parse(&format!(
                "[{{:seat/row {row} :seat/place {place} :seat/guest {guest:?}}}]"
            ))
        });
    rules
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let connection = Connection::create(&Store::memory()).await?;
    let house = connection.with_functions(&rules());
    house.transact(&TxData::parse(SCHEMA)?).await?;
    let mut reports = house.tx_reports();

    let both = r#"[[:seat/book 1 7 "Ava"] [:seat/book 1 8 "Eve"]]"#;
    house.transact(&TxData::parse(both)?).await?;
    for refused in [
        r#"[[:seat/book 1 7 "Zoe"]]"#,
        r#"[[:seat/book 2 21 "Zoe"]]"#,
        r#"[[:seat/book 2 "Zoe"]]"#,
    ] {
        let refused = house.transact(&TxData::parse(refused)?).await;
        println!("{}", refused.err().ok_or("it was not refused")?);
    }
    // A writer that does not know a rule cannot pass over it.
    let unaware = TxData::parse("[{:seat/row 3 :seat/place 3}]")?;
    let refused = connection.transact(&unaware).await.err();
    let error = refused.ok_or("it was not refused")?.to_string();
    assert!(error.contains("seat/place?"), "{error}");

    // What was refused was never there: the report after the first is that of the next commit.
    house
        .transact(&TxData::parse(r#"[[:seat/book 2 1 "Zoe"]]"#)?)
        .await?;
    for (t, datoms) in [(2, 9), (3, 5)] {
        let report = reports.next().await.ok_or("the stream ended")??;
        assert_eq!((report.t, report.tx_data.len()), (t, datoms));
    }
    Ok(())
}
