//! What transactions accept, what they do, and what they refuse and why.

use datomfusion::{
    Components, Connection, Datom, Entid, EntityRef, Index, TxData, Value, edn::Keyword,
};
use futures::TryStreamExt;

use crate::support::{database, refused, transact};

const SCHEMA: &str = r#"[
    {:db/ident :person/email :db/valueType :db.type/string :db/cardinality :db.cardinality/one
     :db/unique :db.unique/identity}
    {:db/ident :person/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
    {:db/ident :person/badge :db/valueType :db.type/long :db/cardinality :db.cardinality/one
     :db/unique :db.unique/value}
    {:db/ident :person/likes :db/valueType :db.type/string :db/cardinality :db.cardinality/many}
    {:db/ident :person/friend :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}
    {:db/ident :person/address :db/valueType :db.type/ref :db/cardinality :db.cardinality/one
     :db/isComponent true}
    {:db/ident :address/city :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
    {:db/ident :item/price :db/valueType :db.type/bigdec :db/cardinality :db.cardinality/one}
    {:db/ident :item/pair :db/valueType :db.type/tuple :db/cardinality :db.cardinality/one
     :db/tupleTypes [:db.type/long :db.type/string]}
    {:db/ident :color/red}]"#;

async fn people() -> Connection {
    let connection = database(1).await;
    transact(&connection, SCHEMA).await;
    connection
}

async fn entity(connection: &Connection, email: &str) -> Option<Entid> {
    let lookup = datomfusion::LookupRef {
        attribute: Keyword::new("person/email"),
        value: Value::string(email),
    };
    connection
        .db()
        .entid(&EntityRef::Lookup(lookup))
        .await
        .unwrap()
}

/// What is said of an entity, as `attribute value` lines.
async fn said(connection: &Connection, e: Entid) -> Vec<String> {
    let db = connection.db();
    let datoms: Vec<Datom> = db
        .datoms(Index::Eavt, Components::all().e(e))
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    datoms
        .iter()
        .map(|d| format!("{} {}", db.ident(d.a).unwrap(), d.v))
        .collect()
}

#[tokio::test]
async fn maps_lists_nested_maps_and_reverse_attributes_say_facts() {
    let connection = people().await;
    let report = transact(
        &connection,
        r#"[{:db/id "ada" :person/email "ada@x" :person/likes ["tea" "maps"]
             :person/address {:address/city "London"}}
            [:db/add "ada" :person/name "Ada"]
            {:person/email "bob@x" :person/_friend "ada"}]"#,
    )
    .await;
    let ada = entity(&connection, "ada@x").await.unwrap();
    let bob = entity(&connection, "bob@x").await.unwrap();
    assert_eq!(report.tempids.values().collect::<Vec<_>>(), [&ada]);
    let address = Entid(ada.0 + 1);
    assert_eq!(
        said(&connection, ada).await,
        [
            ":person/email \"ada@x\"".to_owned(),
            ":person/name \"Ada\"".into(),
            ":person/likes \"maps\"".into(),
            ":person/likes \"tea\"".into(),
            format!(":person/friend {bob}"),
            format!(":person/address {address}"),
        ]
    );
    assert_eq!(
        said(&connection, address).await,
        [":address/city \"London\""]
    );
}

#[tokio::test]
async fn a_unique_identity_upserts_and_a_redundant_fact_says_nothing() {
    let connection = people().await;
    transact(
        &connection,
        r#"[{:person/email "ada@x" :person/name "Ada"}]"#,
    )
    .await;
    let ada = entity(&connection, "ada@x").await.unwrap();
    let report = transact(
        &connection,
        r#"[{:db/id "a" :person/email "ada@x" :person/name "Ada L."}
            {:db/id "b" :person/email "ada@x" :person/likes "tea"}]"#,
    )
    .await;
    assert_eq!(report.tempids.values().collect::<Vec<_>>(), [&ada, &ada]);
    let words: Vec<_> = report
        .tx_data
        .iter()
        .filter(|d| d.e == ada)
        .map(|d| (d.v.to_string(), d.added))
        .collect();
    assert_eq!(
        words,
        [
            ("\"Ada\"".to_owned(), false),
            ("\"Ada L.\"".to_owned(), true),
            ("\"tea\"".to_owned(), true)
        ]
    );
    let again = transact(
        &connection,
        r#"[{:person/email "ada@x" :person/name "Ada L."}]"#,
    )
    .await;
    assert_eq!(
        again.tx_data.len(),
        1,
        "only the instant: {:?}",
        again.tx_data
    );
}

#[tokio::test]
async fn retracting_an_entity_takes_its_parts_and_the_references_to_it() {
    let connection = people().await;
    transact(
        &connection,
        r#"[{:db/id "a" :person/email "ada@x" :person/address {:address/city "London"}}
            {:person/email "bob@x" :person/friend "a"}]"#,
    )
    .await;
    transact(
        &connection,
        r#"[[:db/retractEntity [:person/email "ada@x"]]]"#,
    )
    .await;
    assert_eq!(entity(&connection, "ada@x").await, None);
    let bob = entity(&connection, "bob@x").await.unwrap();
    assert_eq!(said(&connection, bob).await, [":person/email \"bob@x\""]);
    let cities = crate::support::all(&connection.db(), Index::Eavt).await;
    assert!(!cities.iter().any(|d| d.v == Value::string("London")));
}

#[tokio::test]
async fn a_value_can_be_swapped_if_it_is_the_expected_one() {
    let connection = people().await;
    transact(
        &connection,
        r#"[{:person/email "ada@x" :person/name "Ada"}]"#,
    )
    .await;
    let swap = |old: &str, new: &str| {
        format!("[[:db/cas [:person/email \"ada@x\"] :person/name {old} {new}]]")
    };
    transact(&connection, &swap("\"Ada\"", "\"Grace\"")).await;
    let error = refused(&connection, &swap("\"Ada\"", "\"Joan\"")).await;
    assert!(error.contains("is \"Grace\", expected \"Ada\""), "{error}");
    let error = refused(&connection, &swap("nil", "\"Joan\"")).await;
    assert!(error.contains("expected nil"), "{error}");
}

#[tokio::test]
async fn a_transaction_can_say_things_about_itself() {
    let connection = people().await;
    let report = transact(
        &connection,
        r#"[{:db/id "datomic.tx" :db/txInstant #inst "2021-05-05" :person/name "import"}
            {:person/email "ada@x"}]"#,
    )
    .await;
    assert_eq!(report.instant, 1_620_172_800_000);
    let tx = datomfusion::TxId::from_t(report.t).0;
    assert_eq!(said(&connection, tx).await.len(), 2);
    let error = refused(
        &connection,
        "[{:db/id \"datomic.tx\" :db/txInstant #inst \"2020-01-01\"}]",
    )
    .await;
    assert!(
        error.contains("before the previous transaction's"),
        "{error}"
    );
    let later = transact(&connection, "[]").await;
    assert!(
        later.instant > report.instant,
        "a clock that lags does not turn time back"
    );
}

#[tokio::test]
async fn a_price_raises_the_scale_of_its_attribute() {
    let connection = people().await;
    transact(&connection, "[{:item/price 1M}]").await;
    let scale = |connection: &Connection| {
        connection
            .db()
            .schema()
            .require(&Keyword::new("item/price"))
            .unwrap()
            .scale
    };
    assert_eq!(scale(&connection), None);
    transact(&connection, "[{:item/price 1.25M}]").await;
    assert_eq!(scale(&connection), Some(2));
    transact(&connection, "[{:item/price 1.5000M} {:item/price 0.125M}]").await;
    assert_eq!(scale(&connection), Some(3));
    let past = connection
        .db()
        .as_of(datomfusion::TimePoint::T(3))
        .await
        .unwrap();
    assert_eq!(
        past.schema()
            .require(&Keyword::new("item/price"))
            .unwrap()
            .scale,
        Some(2)
    );
}

#[tokio::test]
async fn what_is_refused_names_the_form_and_the_reason() {
    let connection = people().await;
    transact(&connection, r#"[{:person/email "ada@x" :person/badge 7}]"#).await;
    for (text, reason) in [
        ("[{:person/nme \"Ada\"}]", "did you mean :person/name?"),
        (
            "[{:person/name 7}]",
            ":person/name: expected a :db.type/string, got 7",
        ),
        ("[{:person/name nil}]", "nil is no value of :person/name"),
        ("[{:person/badge 7}]", "is unique, and entity"),
        (
            "[{:person/badge 8} {:person/badge 8}]",
            "is unique, and entity",
        ),
        (
            "[[:db/add \"a\" :person/name]]",
            "expected [:db/add entity attribute value]",
        ),
        (
            "[[:db/frobnicate 1 2]]",
            "there is no operation :db/frobnicate",
        ),
        ("[7]", "a transaction is made of maps and of lists"),
        ("[{:person/friend \"nobody\"}]", "nothing is said about it"),
        (
            "[{:person/friend [:person/email \"no@x\"]}]",
            "there is no entity with :person/email",
        ),
        ("[{:person/friend [:person/name \"Ada\"]}]", "not unique"),
        ("[{:person/friend 99999999}]", "there is no entity 99999999"),
        (
            "[{:person/friend :no/ident}]",
            "no entity with the ident :no/ident",
        ),
        (
            "[{:db/id 3 :person/name \"x\"}]",
            "belongs to the bootstrap",
        ),
        (
            "[[:db/add \"a\" :person/name \"x\"] [:db/add \"a\" :person/name \"y\"]]",
            "gets two values",
        ),
        (
            "[[:db/add [:person/email \"ada@x\"] :person/badge 7] \
              [:db/retract [:person/email \"ada@x\"] :person/badge 7]]",
            "both asserted and retracted",
        ),
        ("[{:item/pair [1]}]", "a tuple of 2 elements, got 1"),
        (
            "[{:item/pair [1 2]}]",
            "element 1: expected a :db.type/string",
        ),
        (
            "[{:db/ident :a/b :db/valueType :db.type/long}]",
            "lacks :db/cardinality",
        ),
        (
            "[{:db/ident :db/mine :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]",
            "reserved for the bootstrap",
        ),
        (
            "[[:db/add :person/name :db/valueType :db.type/long]]",
            "cannot change",
        ),
        (
            "[[:db/add :person/likes :db/isComponent true]]",
            "is :db/isComponent but no :db.type/ref",
        ),
        (
            "[[:db/retract :person/email :db/ident :person/email] \
              [:db/retract :person/email :db/valueType] [:db/retract :person/email :db/cardinality] \
              [:db/retract :person/email :db/unique]]",
            "an attribute in use cannot be retracted",
        ),
        (
            "[{:person/name \"a\"} {:person/name ##NaN}]",
            "expected a :db.type/string",
        ),
        (
            "[[:db/retract [:person/email \"ada@x\"] :person/_friend 1]]",
            "can only be asserted",
        ),
    ] {
        let error = refused(&connection, text).await;
        assert!(
            error.contains(reason),
            "{text}\n  said {error}\n  not {reason}"
        );
        assert!(
            error.starts_with("transaction refused: ") && error.contains("\n  in "),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_text_that_is_no_transaction_is_underlined() {
    let error = TxData::parse("[{:person/name \"Ada\"\n  :person/age]")
        .unwrap_err()
        .to_string();
    assert!(error.contains("line 2") && error.contains('^'), "{error}");
    assert!(TxData::parse("").is_err() && TxData::parse("{:a 1}").is_err());
}

#[tokio::test]
async fn schema_changes_that_the_data_contradicts_are_refused() {
    let connection = people().await;
    transact(
        &connection,
        r#"[{:person/email "a" :person/name "same" :person/likes ["x" "y"]}
            {:person/email "b" :person/name "same"}]"#,
    )
    .await;
    let error = refused(
        &connection,
        "[[:db/add :person/name :db/unique :db.unique/value]]",
    )
    .await;
    assert!(error.contains("share the value \"same\""), "{error}");
    let many_to_one = "[[:db/add :person/likes :db/cardinality :db.cardinality/one]]";
    let error = refused(&connection, many_to_one).await;
    assert!(error.contains("has several values"), "{error}");
    transact(
        &connection,
        r#"[[:db/retract [:person/email "a"] :person/likes "x"]]"#,
    )
    .await;
    transact(&connection, many_to_one).await;
}

#[tokio::test]
async fn an_index_that_is_turned_on_finds_what_was_there_before() {
    let connection = people().await;
    for n in 0..30 {
        transact(
            &connection,
            &format!("[{{:person/email \"p{n}\" :person/name \"n{}\"}}]", n % 3),
        )
        .await;
    }
    let name = connection
        .db()
        .schema()
        .entid(&Keyword::new("person/name"))
        .unwrap();
    let by_name = |db: datomfusion::Db| async move {
        let components = Components::all().a(name).v(Value::string("n1"));
        db.datoms(Index::Avet, components)
            .unwrap()
            .try_collect::<Vec<_>>()
            .await
            .unwrap()
            .len()
    };
    assert!(
        connection
            .db()
            .datoms(Index::Avet, Components::all().a(name))
            .is_err()
    );
    transact(&connection, "[[:db/add :person/name :db/index true]]").await;
    assert_eq!(by_name(connection.db()).await, 10);
    connection.db().verify().await.unwrap();
    transact(&connection, "[[:db/add :person/name :db/index false]]").await;
    assert!(
        connection
            .db()
            .datoms(Index::Avet, Components::all().a(name))
            .is_err()
    );
    connection.db().verify().await.unwrap();
}

#[tokio::test]
async fn what_if_leaves_the_store_as_it_was() {
    let connection = people().await;
    let before = connection.store().requests();
    let data = TxData::parse("[{:person/email \"x\"}]").unwrap();
    let report = connection.db().with(&data).await.unwrap();
    let further = report.db_after.db_with(&data).await.unwrap();
    assert_eq!(further.basis_t(), connection.db().basis_t() + 2);
    let after = connection.store().requests() - before;
    assert_eq!((after.gets, after.puts), (0, 0));
}

#[tokio::test]
async fn a_small_commit_is_one_put_and_opening_is_one_get() {
    let connection = people().await;
    let before = connection.store().requests();
    transact(&connection, "[{:person/email \"x\" :person/name \"y\"}]").await;
    let commit = connection.store().requests() - before;
    assert_eq!((commit.gets, commit.puts, commit.lists), (0, 1, 0));
    let store = connection.store().clone();
    let before = store.requests();
    let db = datomfusion::Db::open(&store, connection.branch())
        .await
        .unwrap();
    let opening = store.requests() - before;
    assert_eq!((opening.gets, opening.puts, opening.lists), (1, 0, 0));
    assert_eq!(db.basis_t(), connection.db().basis_t());
}

#[tokio::test]
async fn an_import_is_one_transaction_of_new_entities() {
    let connection = people().await;
    transact(
        &connection,
        r#"[{:person/email "e7" :person/name "taken"}]"#,
    )
    .await;
    let schema = std::sync::Arc::clone(connection.db().schema());
    let mut import = datomfusion::Import::new(&schema);
    let email = import.attribute("person/email").unwrap();
    let likes = import.attribute("person/likes").unwrap();
    let price = import.attribute("item/price").unwrap();
    assert!(import.attribute("person/nothing").is_err());
    assert!(
        import.entity([(email, Value::Long(1))]).is_err(),
        "a wrong type"
    );
    assert!(
        import
            .entity([(email, Value::string("a")), (email, Value::string("b"))])
            .is_err()
    );
    for n in 10..3000 {
        let cent = Value::big_dec(&format!("{n}.5").parse().unwrap()).unwrap();
        let facts = [
            (likes, Value::string("tea")),
            (email, Value::string(format!("e{n}"))),
            (likes, Value::string("maps")),
            (price, cent),
        ];
        import.entity(facts).unwrap();
    }
    let report = connection.import(import.clone()).await.unwrap();
    assert_eq!(
        report.tx_data.len(),
        2990 * 4 + 2,
        "the facts, the instant and the scale"
    );
    connection.db().verify().await.unwrap();
    assert!(entity(&connection, "e2999").await.is_some());
    let error = connection.import(import).await.unwrap_err().to_string();
    assert!(error.contains("schema has changed"), "{error}");
    let mut twice = datomfusion::Import::new(connection.db().schema());
    twice.entity([(email, Value::string("e7"))]).unwrap();
    let error = connection.import(twice).await.unwrap_err().to_string();
    assert!(error.contains("is unique"), "{error}");
}
