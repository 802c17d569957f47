//! One database at several times, asked at once: in SQL, in Datalog and as it would be.

use datafusion::arrow::util::pretty::pretty_format_batches;
use datomfusion::{Connection, Federation, Inputs, TxData};
use futures::TryStreamExt;

use crate::support::{database, transact};

const SCHEMA: &str = r#"[
    {:db/ident :track/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one
     :db/unique :db.unique/identity}
    {:db/ident :track/price :db/valueType :db.type/bigdec :db/cardinality :db.cardinality/one}
    {:db/ident :track/plays :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]"#;

/// t=1 the schema, t=2 two tracks, t=3 a price, t=4 one track gone and another there.
async fn tracks() -> Connection {
    let connection = database(1).await;
    transact(&connection, SCHEMA).await;
    transact(
        &connection,
        r#"[{:track/name "Ava" :track/price 0.99M :track/plays 1} {:track/name "Eve" :track/price 1.99M}]"#,
    )
    .await;
    transact(&connection, r#"[{:track/name "Ava" :track/price 1.29M}]"#).await;
    transact(
        &connection,
        r#"[[:db/retractEntity [:track/name "Eve"]] {:track/name "Zoe" :track/price 0.5M}
            {:db/id "datomic.tx" :db/doc "spring cleaning"}]"#,
    )
    .await;
    connection
}

async fn sql(federation: &Federation, sql: &str) -> String {
    let batches = match federation.query(sql).await {
        Ok(batches) => batches,
        Err(error) => panic!("{error}\nin {sql}"),
    };
    let text = pretty_format_batches(&batches).unwrap();
    let lines = text.to_string();
    let rows = lines.lines().filter(|line| line.starts_with('|')).skip(1);
    let cells = |row: &str| {
        let cells = row.trim_matches('|').split('|').map(str::trim);
        cells.collect::<Vec<_>>().join(" ")
    };
    rows.map(cells).collect::<Vec<_>>().join("; ")
}

fn attached(connection: &Connection) -> Federation {
    let mut federation = Federation::new();
    federation.attach("s", connection.db()).unwrap();
    federation
}

async fn ask(connection: &Connection, query: &str, arguments: &[&str]) -> String {
    let inputs = arguments.iter().fold(Inputs::new(), |inputs, text| {
        let form = datomfusion::edn::read(text).unwrap();
        inputs.argument(datomfusion::Term::try_from(&form).unwrap())
    });
    match connection.db().q(query, &inputs).await {
        Ok(answer) => {
            let mut rows: Vec<String> = answer
                .into_rows()
                .into_iter()
                .map(|row| datomfusion::Term::vector(row).to_string())
                .collect();
            rows.sort();
            rows.join(" ")
        }
        Err(error) => panic!("{error}\nin {query}"),
    }
}

#[tokio::test]
async fn a_statement_reads_the_differences_of_two_times() {
    let federation = attached(&tracks().await);
    assert_eq!(
        sql(
            &federation,
            "SELECT a, v, v_bigdec, added FROM diff('s@t=2', 's@t=3') WHERE a <> ':db/txInstant'",
        )
        .await,
        ":track/price 0.99 0.99 false; :track/price 1.29 1.29 true"
    );
    assert_eq!(
        sql(
            &federation,
            "SELECT added, count(*) FROM diff('s@t=2', 's') WHERE a LIKE ':track/%' GROUP BY added ORDER BY added",
        )
        .await,
        "false 3; true 3"
    );
    assert_eq!(
        sql(
            &federation,
            "SELECT t.name FROM diff('s@t=3', 's') d JOIN s.track t ON t.db_id = d.e \
             WHERE d.added AND d.a = ':track/price'",
        )
        .await,
        "Zoe"
    );
    assert_eq!(
        sql(&federation, "SELECT count(*) FROM diff('s', 's')").await,
        "0"
    );
    for (wrong, reason) in [
        ("diff('s')", "two names"),
        ("diff('s', 'nobody')", "attached are: s"),
        ("diff('s', 's@history')", "history"),
        ("diff('s@t=99', 's')", "newest is t=4"),
        ("diff('s@t=x', 's')", "not a whole number"),
    ] {
        let error = federation.query(&format!("SELECT * FROM {wrong}")).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains(reason), "{wrong}: {error}");
    }
}

#[tokio::test]
async fn an_attribute_that_is_gone_keeps_its_name_in_a_difference() {
    let connection = tracks().await;
    for text in [
        r#"[[:db/retract [:track/name "Ava"] :track/plays 1]]"#,
        "[[:db/retractEntity :track/plays]]",
    ] {
        transact(&connection, text).await;
    }
    let federation = attached(&connection);
    let gone = "SELECT v, added FROM diff('s@t=4', 's') WHERE a = ':track/plays'";
    assert_eq!(sql(&federation, gone).await, "1 false");
}

#[tokio::test]
async fn one_query_asks_two_times_in_either_language() {
    let connection = tracks().await;
    let federation = attached(&connection);
    assert_eq!(
        sql(
            &federation,
            "SELECT now.name, before.price, now.price FROM s.track now \
             JOIN s.track VERSION AS OF 2 before ON before.db_id = now.db_id",
        )
        .await,
        "Ava 0.99 1.29"
    );
    let before = connection
        .db()
        .as_of(datomfusion::TimePoint::T(2))
        .await
        .unwrap();
    let inputs = Inputs::new().source("$before", &before);
    let query =
        "[:find ?n ?old ?new :in $ $before :where [?e :track/name ?n] [?e :track/price ?new]
                  [$before ?e :track/price ?old] [(not= ?old ?new)]]";
    let answer = connection.db().q(query, &inputs).await.unwrap();
    assert_eq!(answer.to_term().to_string(), r#"[["Ava" 0.99M 1.29M]]"#);
}

#[tokio::test]
async fn the_log_is_asked_in_datalog() {
    let connection = tracks().await;
    let named =
        "[:find ?t :in $ ?from ?to :where [(tx-ids $ ?from ?to) [?tx ...]] [?tx :db/txInstant ?at]
                  [(- ?tx 4398046511104) ?t]]";
    assert_eq!(ask(&connection, named, &["2", "4"]).await, "[2] [3]");
    let constant = "[:find ?t :where [(tx-ids $ 3 nil) [?tx ...]] [(- ?tx 4398046511104) ?t]]";
    assert_eq!(ask(&connection, constant, &[]).await, "[3] [4]");
    // As it is written for Datomic, with the log as an input.
    let said = "[:find ?a ?v ?added :in ?log ?from ?to :where [(tx-ids ?log ?from ?to) [?tx ...]]
                 [(tx-data ?log ?tx) [[?e ?a ?v _ ?added]]] [?a :db/ident :track/price]]";
    assert_eq!(
        ask(&connection, said, &["3", "4"]).await,
        "[:track/price 0.99M false] [:track/price 1.29M true]"
    );
    let retracted = "[:find ?v :in $ ?tx :where [(tx-data $ ?tx) [[_ _ ?v ?tx false]]]]";
    let inputs = Inputs::new().argument(datomfusion::Term::Long(1));
    let refused = connection.db().q(retracted, &inputs).await;
    assert!(refused.is_err(), "a binding holds no constants");
    let retracted =
        "[:find ?v :in $ ?tx :where [(tx-data $ ?tx) [[_ ?a ?v _ ?added]]] [(= ?added false)]
                      [?a :db/ident :track/name]]";
    let tx = format!("{}", (1_i64 << 42) + 4);
    assert_eq!(ask(&connection, retracted, &[&tx]).await, r#"["Eve"]"#);
    assert_eq!(ask(&connection, retracted, &["4"]).await, r#"["Eve"]"#);
    for wrong in ["-1", "\"4\"", ":t/four"] {
        let inputs = Inputs::new().argument(
            datomfusion::Term::try_from(&datomfusion::edn::read(wrong).unwrap()).unwrap(),
        );
        let error = connection.db().q(retracted, &inputs).await.unwrap_err();
        assert!(error.to_string().contains("a t or its id"), "{error}");
    }
    // Elsewhere ?log is a variable like any other.
    let plain = "[:find ?e . :in $ ?log :where [?e :track/name ?log] [?e :track/price 1.29M]]";
    assert!(ask(&connection, plain, &[r#""Ava""#]).await.len() > 2);
    let doc = "[:find ?doc . :where [?tx :db/doc ?doc] [(tx-ids $ 4 5) [?tx ...]]]";
    assert_eq!(ask(&connection, doc, &[]).await, r#"["spring cleaning"]"#);
}

#[tokio::test]
async fn transactions_and_history_are_tables() {
    let federation = attached(&tracks().await);
    assert_eq!(
        sql(
            &federation,
            "SELECT h.v, h.added, t.t FROM s.datoms_history h JOIN s.transactions t ON t.tx = h.tx \
             WHERE h.a = ':track/price' ORDER BY t.t, h.added, h.v",
        )
        .await,
        "0.99 true 2; 1.99 true 2; 0.99 false 3; 1.29 true 3; 1.99 false 4; 0.5 true 4"
    );
    assert_eq!(
        sql(
            &federation,
            "SELECT t, db_doc FROM s.transactions WHERE db_doc IS NOT NULL",
        )
        .await,
        "4 spring cleaning"
    );
    assert_eq!(
        sql(
            &federation,
            "SELECT count(*) FROM \"s@since=3\".datoms WHERE a LIKE ':track/%'"
        )
        .await,
        "2"
    );
    assert_eq!(
        sql(
            &federation,
            "SELECT count(*) FROM \"s@t=3,history\".datoms WHERE a = ':track/price'",
        )
        .await,
        "4"
    );
}

#[tokio::test]
async fn a_value_that_would_be_is_asked_like_any_other() {
    let connection = tracks().await;
    let requests = connection.store().requests();
    let data = TxData::parse(
        r#"[{:track/name "Ava" :track/price 9M} {:track/name "New" :track/price 1M}]"#,
    )
    .unwrap();
    let with = connection.db().db_with(&data).await.unwrap();
    let mut federation = attached(&connection);
    federation.attach("w", with.clone()).unwrap();
    assert_eq!(
        sql(
            &federation,
            "SELECT w.name, s.price, w.price FROM w.track w LEFT JOIN s.track s ON s.db_id = w.db_id \
             ORDER BY w.name",
        )
        .await,
        "Ava 1.29 9.00; New  1.00; Zoe 0.50 0.50"
    );
    assert_eq!(
        sql(&federation, "SELECT count(*) FROM \"w@t=4\".track").await,
        "2"
    );
    assert_eq!(
        sql(
            &federation,
            "SELECT count(*) FROM diff('s', 'w') WHERE a LIKE ':track/%'"
        )
        .await,
        "4"
    );
    let answer = with
        .q(
            "[:find (sum ?p) . :with ?e :where [?e :track/price ?p]]",
            &Inputs::new(),
        )
        .await
        .unwrap();
    assert_eq!(answer.to_term().to_string(), "10.5M");
    let after = connection.store().requests();
    assert_eq!(after.puts, requests.puts, "nothing is stored");
    assert_eq!(connection.sync().await.unwrap().basis_t(), 4);
    let changes: Vec<_> = connection
        .db()
        .diff(&with)
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(changes.len(), 5, "with the instant of the transaction");
}
