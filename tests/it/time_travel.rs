//! Every basis of generated histories, against a vector of datoms.

use datomfusion::{Connection, Entid, Store, TimePoint};

use futures::StreamExt;

use crate::support::model::Model;
use crate::support::random::Random;
use crate::support::{create, transact};

const SCHEMA: &str = r#"[
    {:db/ident :p/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one
     :db/unique :db.unique/identity}
    {:db/ident :p/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one :db/index true}
    {:db/ident :p/tags :db/valueType :db.type/keyword :db/cardinality :db.cardinality/many}
    {:db/ident :p/friend :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}
    {:db/ident :q/note :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
    {:db/ident :q/price :db/valueType :db.type/bigdec :db/cardinality :db.cardinality/one}]"#;

/// One random transaction over a few entities, so that facts come, go and come back.
fn random_transaction(random: &mut Random, known: &[Entid]) -> String {
    let mut forms = Vec::new();
    for _ in 0..=random.below(4) {
        let name = format!("n{}", random.below(12));
        let entity = format!("[:p/name \"{name}\"]");
        let exists = random.below(12) < known.len() as u64;
        match random.below(8) {
            0 | 1 => forms.push(format!("{{:p/name \"{name}\" :p/age {}}}", random.below(5))),
            2 => forms.push(format!(
                "{{:p/name \"{name}\" :p/tags [:a{} :b]}}",
                random.below(3)
            )),
            3 => forms.push(format!(
                "{{:p/name \"{name}\" :q/note \"{}\"}}",
                "x".repeat(900 * usize::try_from(random.below(3)).unwrap())
            )),
            4 => forms.push(format!(
                "{{:p/name \"{name}\" :p/friend {{:p/name \"n{}\"}} :q/price {}.{}M}}",
                random.below(12),
                random.below(3),
                random.below(300)
            )),
            5 if exists => {
                let e = random.pick(known);
                forms.push(format!("[:db/retract {e} :p/tags]"));
            }
            6 if exists => {
                let e = random.pick(known);
                forms.push(format!("[:db/retract {e} :p/age]"));
            }
            7 if exists && random.one_in(3) => {
                let e = random.pick(known);
                forms.push(format!("[:db/retractEntity {e}]"));
            }
            _ => forms.push(
                format!("{{:db/id \"{entity}\" :q/note \"fresh\"}}")
                    .replace("[:p/name \"", "")
                    .replace("\"]", ""),
            ),
        }
    }
    format!("[{}]", forms.join(" "))
}

/// A schema change now and then: indexes come and go, a table is renamed.
fn random_change(random: &mut Random) -> &'static str {
    const CHANGES: [&str; 6] = [
        "[[:db/add :p/age :db/index false]]",
        "[[:db/add :p/age :db/index true]]",
        "[[:db/add :q/note :db/index true]]",
        "[[:db/retract :q/note :db/index]]",
        "[[:db/add :q/price :db/unique :db.unique/value] [:db/retract :q/price :db/unique]]",
        "[[:db/add :p/tags :db/doc \"labels\"]]",
    ];
    random.pick::<&str>(&CHANGES)
}

async fn history(seed: u64, transactions: u64) -> (Store, Connection, Model) {
    let mut random = Random(seed);
    let store = Store::memory();
    let connection = create(&store, seed).await;
    let mut model = Model::default();
    model.say(&crate::support::all(&connection.db(), datomfusion::Index::Log).await);
    model.say(&transact(&connection, SCHEMA).await.tx_data);
    let mut known: Vec<Entid> = Vec::new();
    for _ in 0..transactions {
        if random.one_in(12) {
            connection.checkpoint().await.unwrap();
        }
        let text = if random.one_in(15) {
            random_change(&mut random).to_owned()
        } else {
            random_transaction(&mut random, &known)
        };
        let Ok(report) = connection
            .transact(&datomfusion::TxData::parse(&text).unwrap())
            .await
        else {
            // The generator does not avoid contradictions: refusals are tested elsewhere.
            continue;
        };
        known.extend(
            report
                .tx_data
                .iter()
                .filter(|d| !d.e.is_tx() && d.e > Entid(1040))
                .map(|d| d.e),
        );
        known.sort_unstable();
        known.dedup();
        model.say(&report.tx_data);
    }
    (store, connection, model)
}

#[tokio::test]
async fn every_basis_of_a_random_history_is_what_was_said() {
    for seed in 0..6 {
        println!("seed {seed}");
        let (store, connection, model) = history(seed, 60).await;
        let db = connection.db();
        for t in 0..=db.basis_t() {
            let past = db.as_of(TimePoint::T(t)).await.unwrap();
            model.check(&past, t).await;
            // A past value is a database like any other: it can be asked for its own past.
            let older = past.as_of(TimePoint::T(t / 2)).await.unwrap();
            assert_eq!(model.current(t / 2).len() as u64, count(&older).await);
        }
        db.verify().await.unwrap();
        // What another process reads is the same.
        let again = Connection::open(&store).await.unwrap().db();
        model.check(&again, db.basis_t()).await;
    }
}

async fn count(db: &datomfusion::Db) -> u64 {
    crate::support::all(db, datomfusion::Index::Eavt)
        .await
        .len() as u64
}

#[tokio::test]
async fn an_instant_means_the_last_transaction_at_or_before_it() {
    let connection = crate::support::database(1).await;
    transact(
        &connection,
        "[{:db/id \"datomic.tx\" :db/txInstant #inst \"2021-01-01\"}]",
    )
    .await;
    transact(
        &connection,
        "[{:db/id \"datomic.tx\" :db/txInstant #inst \"2021-01-01\"}]",
    )
    .await;
    connection.checkpoint().await.unwrap();
    transact(
        &connection,
        "[{:db/id \"datomic.tx\" :db/txInstant #inst \"2022-06-01T12:00:00Z\"}]",
    )
    .await;
    let db = connection.db();
    for (text, t) in [
        ("1970-01-01", 0),
        ("2020-12-31", 0),
        ("2021-01-01", 2),
        ("2021-01-01T00:00:00Z", 2),
        ("2022-05-31", 2),
        ("2022-06-01", 3),
        ("2022-06-01T11:59:59.999Z", 2),
        ("2022-06-01T12:00:00Z", 3),
        ("2031-01-01", 3),
    ] {
        let point = TimePoint::parse_time(text).unwrap();
        assert_eq!(db.as_of(point).await.unwrap().basis_t(), t, "{text}");
    }
    assert!(
        db.as_of(TimePoint::parse_time("1969-12-31").unwrap())
            .await
            .is_err()
    );
    assert!(
        db.as_of(TimePoint::T(4)).await.is_err(),
        "the future has not happened"
    );
}

#[tokio::test]
async fn the_same_datoms_have_the_same_roots_however_they_were_checkpointed() {
    let mut roots = Vec::new();
    for every in [1, 3, 1000] {
        let connection = crate::support::database(7).await;
        let mut random = Random(99);
        transact(&connection, SCHEMA).await;
        for n in 0..40 {
            if n % every == 0 {
                connection.checkpoint().await.unwrap();
            }
            let text = format!(
                "[{{:p/name \"n{}\" :p/age {} :p/tags [:a{}]}}]",
                random.below(9),
                random.below(4),
                random.below(4)
            );
            transact(&connection, &text).await;
        }
        connection.checkpoint().await.unwrap();
        roots.push(connection.db().roots());
    }
    assert_eq!(roots[0], roots[1]);
    assert_eq!(roots[1], roots[2]);
}

#[tokio::test]
async fn a_tail_overflows_into_trees_by_itself_and_nothing_is_lost() {
    let store = Store::memory();
    let connection = create(&store, 3).await;
    transact(&connection, SCHEMA).await;
    for n in 0..600 {
        transact(&connection, &format!("[{{:p/name \"n{n}\" :p/age {n}}}]")).await;
    }
    let packs = store.list_packs().await.unwrap().len();
    assert!((2..=8).contains(&packs), "{packs} packs");
    let db = Connection::open(&store).await.unwrap().db();
    db.verify().await.unwrap();
    for t in [1, 100, 256, 257, 258, 400, 601] {
        let past = db.as_of(TimePoint::T(t)).await.unwrap();
        let names = past.datoms(
            datomfusion::Index::Aevt,
            datomfusion::Components::all().a(past
                .schema()
                .entid(&datomfusion::edn::Keyword::new("p/name"))
                .unwrap()),
        );
        assert_eq!(names.unwrap().count().await as u64, t - 1, "t={t}");
    }
}
