//! What several tests share: databases in memory, a model of a database, storage that fails.

pub(crate) mod faulty;
pub(crate) mod model;
pub(crate) mod random;
#[cfg(feature = "cli")]
pub(crate) mod shell;

use datomfusion::{BranchName, Connection, Db, Error, Seeded, Store, TxData, TxReport};

/// A new database in memory, on a clock and a seed of its own.
pub(crate) async fn database(seed: u64) -> Connection {
    create(&Store::memory(), seed).await
}

/// A new database in a store.
pub(crate) async fn create(store: &Store, seed: u64) -> Connection {
    Connection::create_in(store, BranchName::default(), Seeded::new(seed))
        .await
        .unwrap()
}

/// Transacts a text that must be accepted.
pub(crate) async fn transact(connection: &Connection, text: &str) -> TxReport {
    match connection.transact(&TxData::parse(text).unwrap()).await {
        Ok(report) => report,
        Err(error) => panic!("{error}\nin {text}"),
    }
}

/// Transacts a text that must be refused, and returns the message.
pub(crate) async fn refused(connection: &Connection, text: &str) -> String {
    let before = connection.db().basis_t();
    let data = match TxData::parse(text) {
        Ok(data) => data,
        Err(error) => return error.to_string(),
    };
    let error = match connection.transact(&data).await {
        Ok(report) => panic!("accepted as t={}: {text}", report.t),
        Err(error) => error,
    };
    assert!(matches!(error, Error::Transaction { .. }), "{error:?}");
    assert_eq!(
        connection.sync().await.unwrap().basis_t(),
        before,
        "nothing may be written"
    );
    error.to_string()
}

/// All datoms of an index, in order.
pub(crate) async fn all(db: &Db, index: datomfusion::Index) -> Vec<datomfusion::Datom> {
    use futures::TryStreamExt;
    let datoms = db.datoms(index, datomfusion::Components::all()).unwrap();
    datoms.try_collect().await.unwrap()
}
