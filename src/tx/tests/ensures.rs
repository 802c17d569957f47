use super::{all, database, refused, transact, values};
use crate::index::Index;
use crate::{Connection, Error, Import, TransactionFunctions, TxData, Value};

const SCHEMA: &str = "[
    {:db/ident :score/low :db/valueType :db.type/long :db/cardinality :db.cardinality/one
     :db.attr/preds [score/natural? score/small?]}
    {:db/ident :score/high :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
    {:db/ident :score/guard :db.entity/attrs [:score/low :score/high]
     :db.entity/preds score/ordered?}]";

fn functions() -> TransactionFunctions {
    let mut functions = TransactionFunctions::new();
    functions
        .register_attribute_predicate("score/natural?", |value| *value >= Value::Long(0))
        .register_attribute_predicate("score/small?", |value| *value <= Value::Long(99))
        .register_entity_predicate("score/ordered?", |db, e| async move {
            let number = async |ident: &str| {
                let values = values(&db, ident).await;
                let of_entity = values.iter().find(|(of, _)| *of == e);
                of_entity.map_or(0, |(_, value)| value.parse::<i64>().unwrap())
            };
            let (low, high) = (number("score/low").await, number("score/high").await);
            if high == 666 {
                return Err(Error::invalid("666 is not for scores"));
            }
            Ok(low <= high)
        });
    functions
}

async fn scores() -> Connection {
    database(SCHEMA).await.with_functions(&functions())
}

#[tokio::test]
async fn every_new_value_satisfies_the_predicates_of_its_attribute() {
    let connection = scores().await;
    transact(&connection, "[{:db/id 5000 :score/low 0}]").await;
    for (text, why) in [
        (
            "[[:db/add 5000 :score/low -1]]",
            ":score/low of entity 5000: score/natural? refuses -1",
        ),
        (
            "[[:db/cas 5000 :score/low 0 100]]",
            "score/small? refuses 100",
        ),
    ] {
        let reason = refused(&connection, text).await;
        assert!(reason.contains(why), "{reason}");
    }
    // What goes is not judged.
    transact(&connection, "[[:db/retract 5000 :score/low 0]]").await;
    let mut import = Import::new(connection.db().schema());
    let low = import.attribute("score/low").unwrap();
    import.entity([(low, Value::Long(-5))]).unwrap();
    let error = connection.import(import).await.unwrap_err().to_string();
    assert!(
        error.contains(":score/low: score/natural? refuses -5"),
        "{error}"
    );
}

#[tokio::test]
async fn a_predicate_that_nobody_registered_refuses_and_says_what_to_do() {
    let connection = database(SCHEMA).await;
    let reason = refused(&connection, "[{:score/low 1}]").await;
    assert!(
        reason.contains("attribute predicate score/natural? is not registered here"),
        "{reason}"
    );
    assert!(
        reason.contains("TransactionFunctions::register_attribute_predicate"),
        "{reason}"
    );
    transact(&connection, "[{:score/high 1}]").await;
    let mut misspelt = TransactionFunctions::new();
    misspelt
        .register_attribute_predicate("score/natural", |_| true)
        .register_attribute_predicate("score/small?", |_| true);
    let connection = connection.with_functions(&misspelt);
    let reason = refused(&connection, "[{:score/low 1}]").await;
    assert!(reason.contains("did you mean score/natural?"), "{reason}");
}

#[tokio::test]
async fn a_spec_is_checked_on_the_result_and_not_stored() {
    let connection = scores().await;
    let report = transact(
        &connection,
        "[{:db/id 5000 :score/low 1 :score/high 2 :db/ensure :score/guard}]",
    )
    .await;
    assert_eq!(report.tx_data.len(), 3, "two facts and the instant");
    for (text, why) in [
        (
            "[{:db/id 5001 :db/ensure :score/guard}]",
            "entity 5001 does not satisfy :score/guard: it lacks :score/high and :score/low",
        ),
        (
            "[{:db/id 5000 :db/ensure :score/guard} [:db/retract 5000 :score/low]]",
            "it lacks :score/low",
        ),
        (
            "[[:db/add 5000 :score/high 0] [:db/add 5000 :db/ensure :score/guard]]",
            "score/ordered? refuses it",
        ),
        (
            "[[:db/add 5000 :score/high 666] [:db/add 5000 :db/ensure :score/guard]]",
            "score/ordered? refuses it: 666 is not for scores",
        ),
        (
            "[[:db/add 5000 :db/ensure :score/high]]",
            "neither :db.entity/attrs nor :db.entity/preds",
        ),
        (
            "[[:db/retract 5000 :db/ensure :score/guard]]",
            "never stored",
        ),
    ] {
        let reason = refused(&connection, text).await;
        assert!(reason.contains(why), "{text}: {reason}");
    }
    // Without the word, nothing is checked.
    transact(&connection, "[[:db/add 5000 :score/high 0]]").await;
    // What the value before lacks may be said with the word.
    transact(
        &connection,
        "[[:db/add 5000 :score/high 7] [:db/add 5000 :db/ensure :score/guard]]",
    )
    .await;
    let bare = connection.with_functions(&TransactionFunctions::new());
    let reason = refused(&bare, "[[:db/add 5000 :db/ensure :score/guard]]").await;
    assert!(
        reason.contains("entity predicate score/ordered? is not registered"),
        "{reason}"
    );
    let ensure = crate::edn::Keyword::new("db/ensure");
    let ensure = connection.db().schema().entid(&ensure).unwrap();
    let log = all(&connection.db(), Index::Log).await;
    assert!(log.iter().all(|datom| datom.a != ensure));
}

#[tokio::test]
async fn predicates_of_attributes_survive_a_checkpoint_and_change_with_time() {
    let connection = scores().await;
    let before = connection.db();
    connection.checkpoint().await.unwrap();
    transact(
        &connection,
        "[[:db/retract :score/low :db.attr/preds score/small?]]",
    )
    .await;
    let reopened = Connection::open(connection.store()).await.unwrap();
    let preds = |db: &crate::Db| {
        let ident = crate::edn::Keyword::new("score/low");
        let preds = db
            .schema()
            .attribute_by_ident(&ident)
            .unwrap()
            .preds
            .to_vec();
        preds.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(preds(&reopened.db()), ["score/natural?"]);
    assert_eq!(preds(&before).len(), 2);
    let past = reopened.db().as_of(crate::TimePoint::T(1)).await.unwrap();
    assert_eq!(preds(&past), ["score/natural?", "score/small?"]);
    transact(&reopened.with_functions(&functions()), "[{:score/low 500}]").await;
    let data = TxData::parse("[{:score/low 500}]").unwrap();
    assert!(past.with_using(&data, &functions()).await.is_err());
}
