//! Generated histories, and what several tests of the database value need.

mod diff;
mod history;
mod rounds;
mod time;
mod verify;

use futures::TryStreamExt;

use crate::{
    BranchName, Components, Connection, Datom, Db, Error, Index, Seeded, Store, TxData, TxReport,
};

const SCHEMA: &str = r#"[
    {:db/ident :p/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one
     :db/unique :db.unique/identity}
    {:db/ident :p/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one :db/index true}
    {:db/ident :p/tags :db/valueType :db.type/keyword :db/cardinality :db.cardinality/many}
    {:db/ident :p/friend :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}
    {:db/ident :p/note :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]"#;

/// Random choices that follow from a seed (`SplitMix64`).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

async fn create(store: &Store, seed: u64) -> Connection {
    Connection::create_in(store, BranchName::default(), Seeded::new(seed))
        .await
        .unwrap()
}

/// A database with the schema of these tests.
async fn database(seed: u64) -> Connection {
    let connection = create(&Store::memory(), seed).await;
    transact(&connection, SCHEMA).await;
    connection
}

/// The newest value of a store, read by a loader that has read nothing.
async fn cold(store: &Store) -> Db {
    Db::open(store, &BranchName::default()).await.unwrap()
}

async fn transact(connection: &Connection, text: &str) -> TxReport {
    match connection.transact(&TxData::parse(text).unwrap()).await {
        Ok(report) => report,
        Err(error) => panic!("{error}\nin {text}"),
    }
}

/// A transaction over a few entities, so that facts come, go and come back. It may be refused.
fn any_transaction(random: &mut Random, names: u64) -> String {
    let mut forms = Vec::new();
    for _ in 0..=random.below(4) {
        let name = format!("n{}", random.below(names));
        forms.push(match random.below(8) {
            0 | 1 => format!("{{:p/name \"{name}\" :p/age {}}}", random.below(5)),
            2 => format!("{{:p/name \"{name}\" :p/tags [:a{} :b]}}", random.below(3)),
            // Some are large values, which lie out of line.
            3 => {
                let len = 900 * usize::try_from(random.below(3)).unwrap();
                format!("{{:p/name \"{name}\" :p/note \"{}\"}}", "x".repeat(len))
            }
            4 => format!(
                "{{:p/name \"{name}\" :p/friend {{:p/name \"n{}\"}}}}",
                random.below(names)
            ),
            5 => format!("[:db/retract [:p/name \"{name}\"] :p/tags]"),
            6 => format!("[:db/retract [:p/name \"{name}\"] :p/age]"),
            _ => format!("[:db/retractEntity [:p/name \"{name}\"]]"),
        });
    }
    format!("[{}]", forms.join(" "))
}

/// Goes on with a history until `t` transactions have been accepted; checkpoints once in `every`.
async fn go_on(connection: &Connection, random: &mut Random, t: u64, every: u64) {
    while connection.db().basis_t() < t {
        if random.below(every) == 0 {
            connection.checkpoint().await.unwrap();
        }
        let text = any_transaction(random, 12);
        match connection.transact(&TxData::parse(&text).unwrap()).await {
            // The generator does not avoid contradictions: refusals are tested elsewhere.
            Ok(_) | Err(Error::Transaction { .. }) => {}
            Err(error) => panic!("{error}\nin {text}"),
        }
    }
}

async fn all(db: &Db, index: Index) -> Vec<Datom> {
    let datoms = db.datoms(index, Components::all()).unwrap();
    datoms.try_collect().await.unwrap()
}

/// What holds after all that was said up to `t`, in the slow way.
fn holding(said: &[Datom], t: u64) -> Vec<Datom> {
    let mut facts: Vec<Datom> = Vec::new();
    for datom in said.iter().filter(|datom| datom.tx.t() <= t) {
        let same = |fact: &Datom| (fact.e, fact.a, &fact.v) == (datom.e, datom.a, &datom.v);
        if datom.added {
            assert!(!facts.iter().any(same), "said twice: {datom}");
            facts.push(datom.clone());
        } else {
            let at = facts.iter().position(same).expect("a retracted fact held");
            facts.swap_remove(at);
        }
    }
    facts
}

/// Where a storage shows a head before the packs that it names, reading is an error until they are there, and never
/// an answer without them.
#[tokio::test]
async fn a_node_that_is_not_visible_yet_is_an_error_and_found_later() {
    let store = Store::memory();
    let connection = create(&store, 5).await;
    transact(&connection, SCHEMA).await;
    for person in 0..40 {
        let data = format!(
            "[{{:p/name \"{person}\" :p/age {person} :p/note \"{}\"}}]",
            "long ".repeat(400)
        );
        transact(&connection, &data).await;
    }
    connection.checkpoint().await.unwrap();
    let count = async |db: &Db| -> crate::Result<usize> {
        let datoms = db.datoms(Index::Eavt, Components::all())?;
        Ok(datoms.try_collect::<Vec<Datom>>().await?.len())
    };
    let whole = count(&cold(&store).await).await.unwrap();
    let packs = store.list_packs().await.unwrap();
    let mut missed = 0;
    for pack in &packs {
        let body = store.read_pack(pack.id).await.unwrap();
        store.delete_pack(pack.id).await.unwrap();
        let db = Db::open(&store, &BranchName::default()).await;
        let early = match &db {
            Ok(db) => count(db).await,
            Err(_) => Err(Error::invalid("not opened")),
        };
        missed += u32::from(early.is_err());
        assert!(early.is_err() || early.is_ok_and(|early| early == whole));
        store.put_pack(pack.id, body).await.unwrap();
        // The same value finds it now.
        if let Ok(db) = db {
            assert_eq!(count(&db).await.unwrap(), whole);
        }
    }
    assert!(missed > 0, "{} packs", packs.len());
}
