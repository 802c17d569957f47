//! Claims about transactions, and what several of their tests share.

mod composites;
mod ensures;
mod functions;
mod speculation;

use futures::TryStreamExt;

use crate::datom::{Datom, Entid, TxId};
use crate::edn::{Keyword, read_all};
use crate::index::{Components, Index};
use crate::schema::{EntityRef, LookupRef};
use crate::value::Value;
use crate::{BranchName, Connection, Db, Error, Seeded, Store, TxData, TxReport};

/// A new database in memory, with what one transaction says.
async fn database(schema: &str) -> Connection {
    let store = Store::memory();
    let connection = Connection::create_in(&store, BranchName::default(), Seeded::new(7)).await;
    let connection = connection.unwrap();
    transact(&connection, schema).await;
    connection
}

async fn transact(connection: &Connection, text: &str) -> TxReport {
    match connection.transact(&TxData::parse(text).unwrap()).await {
        Ok(report) => report,
        Err(error) => panic!("{error}\nin {text}"),
    }
}

/// The reason for which a transaction is refused.
async fn refused(connection: &Connection, text: &str) -> String {
    match connection.transact(&TxData::parse(text).unwrap()).await {
        Ok(report) => panic!("accepted as t={}: {text}", report.t),
        Err(Error::Transaction { reason, .. }) => reason,
        Err(error) => panic!("{error:?}"),
    }
}

async fn all(db: &Db, index: Index) -> Vec<Datom> {
    let datoms = db.datoms(index, Components::all()).unwrap();
    datoms.try_collect().await.unwrap()
}

/// A merge has once taken a composite back twice, and nothing looked before the head was written.
#[test]
fn a_transaction_that_says_a_datom_twice_is_refused() {
    let tx = TxId::from_t(3);
    let [one, two] = [1, 2].map(|n| Datom::add(Entid(1024), Entid(1025), Value::Long(n), tx));
    super::said_once(&[one.clone(), two.clone()]).unwrap();
    for said in [[one.clone(), one.clone()], [two, one]] {
        let refused = super::said_once(&said);
        assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
    }
}

/// The values of an attribute, with their entities.
async fn values(db: &Db, ident: &str) -> Vec<(Entid, String)> {
    let a = db.schema().entid(&Keyword::new(ident)).unwrap();
    let datoms = db.datoms(Index::Aevt, Components::all().a(a)).unwrap();
    let datoms: Vec<Datom> = datoms.try_collect().await.unwrap();
    let shown = datoms
        .into_iter()
        .map(|datom| (datom.e, datom.v.to_string()));
    shown.collect()
}

async fn lookup(db: &Db, ident: &str, value: Value) -> Option<Entid> {
    let attribute = Keyword::new(ident);
    let lookup = LookupRef { attribute, value };
    db.entid(&EntityRef::Lookup(lookup)).await.unwrap()
}

/// What a transaction says is judged by the rules that it sets.
#[tokio::test]
async fn a_rule_is_kept_by_the_transaction_that_sets_it() {
    let connection = database(
        "[{:db/ident :p/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
          {:db/ident :p/tag :db/valueType :db.type/string :db/cardinality :db.cardinality/many}]",
    )
    .await;
    transact(&connection, r#"[{:p/name "x" :p/tag "a" :db/id 5000}]"#).await;
    let unique = "[:db/add :p/name :db/unique :db.unique/value]";
    let single = "[:db/add :p/tag :db/cardinality :db.cardinality/one]";
    for (text, part) in [
        (
            format!(r#"[{unique} {{:p/name "y"}} {{:p/name "y"}}]"#),
            "share the value",
        ),
        (format!(r#"[{unique} {{:p/name "x"}}]"#), "share the value"),
        (
            format!(r#"[{single} [:db/add 5000 :p/tag "b"]]"#),
            "several values",
        ),
    ] {
        let reason = refused(&connection, &text).await;
        assert!(reason.contains(part), "{reason}: {text}");
    }
    // What it takes back stands in nobody's way.
    transact(
        &connection,
        &format!(
            r#"[{unique} {single} [:db/retract 5000 :p/name "x"] {{:p/name "x"}}
                [:db/retract 5000 :p/tag "a"] [:db/add 5000 :p/tag "b"]]"#
        ),
    )
    .await;
}

#[tokio::test]
async fn an_import_describes_no_attribute_and_refers_to_what_is_there() {
    let connection = database(
        "[{:db/ident :p/pair :db/valueType :db.type/tuple :db/cardinality :db.cardinality/one
           :db/tupleTypes [:db.type/ref :db.type/long]}]",
    )
    .await;
    let mut import = crate::Import::new(connection.db().schema());
    let kind = import.attribute("db/valueType").unwrap();
    let long = connection
        .db()
        .schema()
        .entid(&Keyword::new("db.type/long"));
    let error = import
        .entity([(kind, Value::Ref(long.unwrap()))])
        .unwrap_err();
    assert!(error.to_string().contains("transact it"), "{error}");

    let mut import = crate::Import::new(connection.db().schema());
    let pair = import.attribute("p/pair").unwrap();
    let stranger = Value::Tuple([Some(Value::Ref(Entid(9_999))), Some(Value::Long(1))].into());
    import.entity([(pair, stranger)]).unwrap();
    let error = connection.import(import).await.unwrap_err();
    assert!(error.to_string().contains("no entity 9999"), "{error}");
}
