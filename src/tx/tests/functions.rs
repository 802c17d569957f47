use super::{database, read_all, refused, transact, values};
use crate::edn::Edn;
use crate::{Connection, Error, TransactionFunctions, TxData, Value};

const SCHEMA: &str = "[
    {:db/ident :account/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one
     :db/unique :db.unique/identity}
    {:db/ident :account/balance :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
    {:db/ident :account/log :db/valueType :db.type/string :db/cardinality :db.cardinality/many}]";

fn functions() -> TransactionFunctions {
    let mut functions = TransactionFunctions::new();
    functions
        .register("account/add", |db, arguments| async move {
            let id = arguments[0].as_str().unwrap_or_default().to_owned();
            let amount = arguments[1].as_long();
            let amount = amount.ok_or_else(|| Error::invalid("an amount is a number"))?;
            let e = super::lookup(&db, "account/id", Value::string(&*id)).await;
            let balances = values(&db, "account/balance").await;
            let before = balances.iter().find(|(of, _)| Some(*of) == e);
            let before: i64 = before.map_or(0, |(_, balance)| balance.parse().unwrap());
            if before + amount < 0 {
                return Err(Error::invalid(format!("{id} has only {before}")));
            }
            let after = before + amount;
            TxData::parse(&format!(
                "[{{:account/id \"{id}\" :account/balance {after}}}]"
            ))
        })
        .register("account/move", |_, arguments| async move {
            let (from, to, amount) = (
                &arguments[0],
                &arguments[1],
                arguments[2].as_long().unwrap(),
            );
            TxData::parse(&format!(
                "[[:account/add {from} -{amount}] (account/add {to} {amount})
                  {{:db/id \"datomic.tx\" :account/log {from}}}]"
            ))
        })
        .register("loop/for-ever", |_, _| async {
            TxData::parse("[[:loop/for-ever]]")
        })
        .register("wrong/type", |_, _| async {
            TxData::parse("[[:db/add \"x\" :account/balance \"much\"]]")
        })
        .register("data/built", |_, arguments| async move {
            Ok(arguments.into_iter().collect())
        });
    functions
}

async fn accounts() -> Connection {
    let connection = database(SCHEMA).await;
    connection.with_functions(&functions())
}

async fn balances(connection: &Connection) -> Vec<String> {
    let values = values(&connection.db(), "account/balance").await;
    values.into_iter().map(|(_, balance)| balance).collect()
}

#[tokio::test]
async fn a_function_stands_for_the_forms_that_it_answers() {
    let connection = accounts().await;
    transact(
        &connection,
        "[[:account/add \"a\" 10] [:db.fn/call account/add \"b\" 1]]",
    )
    .await;
    assert_eq!(balances(&connection).await, ["10", "1"]);
    transact(&connection, "[[:account/move \"a\" \"b\" 4]]").await;
    assert_eq!(balances(&connection).await, ["6", "5"]);
    let log = values(&connection.db(), "account/log").await;
    assert!(log.len() == 1 && log[0].0.is_tx(), "{log:?}");
    transact(
        &connection,
        "[[:data/built {:account/id \"c\" :account/balance 3}]]",
    )
    .await;
    assert_eq!(balances(&connection).await, ["6", "5", "3"]);
}

/// Two calls of one function see the same value: the second does not see what the first says.
#[tokio::test]
async fn a_function_sees_the_value_before_the_transaction() {
    let connection = accounts().await;
    let reason = refused(
        &connection,
        "[[:account/add \"a\" 1] [:account/add \"a\" 2]]",
    )
    .await;
    assert!(reason.contains("gets two values"), "{reason}");
    transact(
        &connection,
        "[[:account/add \"a\" 2] [:account/add \"a\" 2]]",
    )
    .await;
    assert_eq!(balances(&connection).await, ["2"]);
}

#[tokio::test]
async fn transactions_that_call_in_one_group_see_one_another() {
    let connection = accounts().await;
    let add = TxData::parse("[[:account/add \"a\" 1]]").unwrap();
    let all = futures::future::join_all((0..20).map(|_| connection.transact(&add))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(balances(&connection).await, ["20"]);
}

#[tokio::test]
async fn temporary_ids_mean_the_same_inside_and_outside_of_a_function() {
    let connection = accounts().await;
    transact(
        &connection,
        "[[:data/built {:db/id \"x\" :account/id \"x\"}] [:db/add \"x\" :account/balance 1]]",
    )
    .await;
    assert_eq!(balances(&connection).await, ["1"]);
    assert_eq!(values(&connection.db(), "account/id").await.len(), 1);
}

#[tokio::test]
async fn what_a_function_refuses_quotes_the_call() {
    let connection = accounts().await;
    for (text, why) in [
        (
            "[[:account/move \"a\" \"b\" 4]]",
            ":account/add refuses: a has only 0",
        ),
        ("[[:account/add \"a\" :much]]", "an amount is a number"),
        ("[[:loop/for-ever]]", "more than 32 deep"),
        (
            "[[:wrong/type]]",
            "got \"much\", in [:db/add \"x\" :account/balance \"much\"]",
        ),
        (
            "[[:acount/add \"a\" 1]]",
            "there is no operation :acount/add; did you mean :account/add?",
        ),
        ("[[:db/ad 1 2 3]]", "did you mean :db/add?"),
        ("[[:db.fn/call]]", "expected [:db.fn/call name argument …]"),
        (
            "[[:db.fn/call 5]]",
            "expected [:db.fn/call name argument …]",
        ),
    ] {
        let error = connection
            .transact(&TxData::parse(text).unwrap())
            .await
            .unwrap_err();
        let Error::Transaction { form, reason } = &error else {
            panic!("{error:?}");
        };
        assert!(reason.contains(why), "{text}: {reason}");
        let quoted = &text[1..text.len() - 1];
        assert!(form.starts_with(quoted), "{form}");
    }
}

#[tokio::test]
async fn functions_belong_to_a_handle_and_speculation_borrows_them() {
    let connection = accounts().await;
    let plain = connection.with_functions(&TransactionFunctions::new());
    let text = "[[:account/add \"a\" 10]]";
    let reason = refused(&plain, text).await;
    assert!(
        reason.contains("there is no operation :account/add"),
        "{reason}"
    );
    let data = TxData::parse(text).unwrap();
    assert!(plain.db().with(&data).await.is_err());
    let report = plain.db().with_using(&data, &functions()).await.unwrap();
    assert_eq!(values(&report.db_after, "account/balance").await.len(), 1);
    assert_eq!(balances(&connection).await, [""; 0]);
}

#[tokio::test]
async fn datomics_names_of_the_built_in_functions_are_understood() {
    let connection = accounts().await;
    transact(
        &connection,
        "[{:db/id \"a\" :account/id \"a\" :account/balance 1}]",
    )
    .await;
    transact(
        &connection,
        "[[:db.fn/cas [:account/id \"a\"] :account/balance 1 2]]",
    )
    .await;
    assert_eq!(balances(&connection).await, ["2"]);
    transact(
        &connection,
        "[[:db.fn/call :db.fn/retractEntity [:account/id \"a\"]]]",
    )
    .await;
    assert_eq!(balances(&connection).await, [""; 0]);
}

#[test]
fn a_registry_that_is_cloned_is_a_value() {
    let mut first = functions();
    let second = first.clone();
    first.register("later/one", |_, _| async { Ok(TxData::new([])) });
    assert!(format!("{first:?}").contains("later/one"));
    assert!(!format!("{second:?}").contains("later/one"));
    let forms = read_all("{:a 1}").unwrap();
    let built: TxData = [Edn::clone(&forms[0].edn)].into_iter().collect();
    assert_eq!(built.forms(), forms);
}
