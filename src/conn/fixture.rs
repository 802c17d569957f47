//! What the tests of this floor share: small databases, and choices that follow from a seed.

use std::sync::Arc;

use futures::TryStreamExt;

use super::Connection;
use crate::datom::Datom;
use crate::db::Db;
use crate::environment::{Environment, Seeded};
use crate::id::BranchName;
use crate::index::{Components, Index};
use crate::store::Store;
use crate::tx::{TxData, TxReport};

/// A small generator (`SplitMix64`).
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// A database of people: a unique identity, a unique value, one and many values, references.
pub(super) const PEOPLE: &str = r"[
    {:db/ident :p/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one
     :db/unique :db.unique/identity}
    {:db/ident :p/code :db/valueType :db.type/long :db/cardinality :db.cardinality/one
     :db/unique :db.unique/value}
    {:db/ident :p/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
    {:db/ident :p/note :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
    {:db/ident :p/tags :db/valueType :db.type/keyword :db/cardinality :db.cardinality/many}
    {:db/ident :p/best :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}
    {:db/ident :p/friend :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}]";

pub(super) fn name(text: &str) -> BranchName {
    BranchName::try_new(text).unwrap()
}

pub(super) async fn create(store: &Store, seed: u64) -> Connection {
    let environment: Arc<dyn Environment> = Seeded::new(seed);
    Connection::create_in(store, BranchName::default(), environment)
        .await
        .unwrap()
}

/// A database in memory with a schema.
pub(super) async fn people(seed: u64) -> Connection {
    let connection = create(&Store::memory(), seed).await;
    transact(&connection, PEOPLE).await;
    connection
}

pub(super) async fn open(store: &Store, branch: &str, seed: u64) -> Connection {
    let environment: Arc<dyn Environment> = Seeded::new(seed);
    Connection::open_in(store, name(branch), environment)
        .await
        .unwrap()
}

/// Makes a branch at the newest value and opens it.
pub(super) async fn branch_off(connection: &Connection, branch: &str) -> Connection {
    let db = connection.sync().await.unwrap();
    connection
        .branches()
        .create(&name(branch), &db)
        .await
        .unwrap();
    let seed = branch
        .bytes()
        .fold(7, |seed, byte| 31 * seed + u64::from(byte));
    open(connection.store(), branch, seed).await
}

pub(super) async fn transact(connection: &Connection, text: &str) -> TxReport {
    let data = TxData::parse(text).unwrap();
    match connection.transact(&data).await {
        Ok(report) => report,
        Err(error) => panic!("{error}\n{text}"),
    }
}

/// All datoms of an index.
pub(super) async fn all(db: &Db, index: Index) -> Vec<Datom> {
    let datoms = db.datoms(index, Components::all()).unwrap();
    datoms.try_collect().await.unwrap()
}
