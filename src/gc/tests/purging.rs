//! What was purged is gone: from every basis, and after a collection from every byte.

use super::*;
use crate::conn::Purge;
use crate::datom::Entid;
use crate::db::rebuild::{log_and_records, rebuild};
use crate::environment::Seeded;
use crate::node::NodeWriter;
use crate::schema::EntityRef;
use crate::value::Value;

/// Text that neither compresses nor occurs by chance.
fn canary(seed: u64, len: usize) -> String {
    let mut dice = Dice(seed);
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";
    (0..len)
        .map(|_| char::from(letters[usize::try_from(dice.below(64)).unwrap()]))
        .collect()
}

/// The objects whose bytes hold a run of the canary: of a part of it, because LZ4 may cut it.
async fn holders(simulation: &Simulation, canary: &str) -> Vec<String> {
    let needle = &canary.as_bytes()[16..48];
    let objects = simulation.bytes().await.into_iter();
    objects
        .filter(|(_, body)| body.windows(needle.len()).any(|bytes| bytes == needle))
        .map(|(key, _)| key)
        .collect()
}

impl Work {
    fn attribute(&self, ident: &str) -> Entid {
        let ident = datomfusion_datalog::edn::Keyword::new(ident);
        self.connection.db().schema().entid(&ident).unwrap()
    }

    /// Forgets what is purged.
    fn forget(&mut self, goes: impl Fn(&Datom) -> bool) -> u64 {
        let before = self.twin.0.concat().len();
        for said in &mut self.twin.0 {
            said.retain(|datom| !goes(datom));
        }
        (before - self.twin.0.concat().len()) as u64
    }

    /// Collects until what is dead now is gone.
    async fn clean(&self, seed: u64) {
        for run in 0..2 {
            self.simulation.pass(61 * MINUTE);
            self.gc(&GcOptions::default(), seed << 8 | run).await;
        }
    }
}

#[tokio::test]
async fn rebuilt_from_its_whole_log_a_database_is_what_it_was() {
    let mut work = Work::begin(40).await;
    work.go_on(50, 1).await;
    work.transact("[[:db/add :n/text :db/ident :renamed/text]]")
        .await;
    work.transact("[[:db/add :renamed/text :db/index false]]")
        .await;
    work.transact(r#"[{:n/id 3 :renamed/text "x"} [:db/retract [:n/id 4] :renamed/text]]"#)
        .await;
    work.connection.checkpoint().await.unwrap();
    let db = work.connection.db();
    let (log, records) = log_and_records(&db).await.unwrap();
    let loader = Arc::new(Loader::new(work.simulation.store()));
    let numbers = Seeded::new(41);
    let new_pack = Box::new(move || PackId(numbers.random()));
    let mut writer = NodeWriter::new(Arc::clone(&loader), new_pack);
    let head = Box::pin(rebuild(&db, &log, records.clone(), &mut writer))
        .await
        .unwrap();
    writer.finish().await.unwrap();
    let rebuilt = Db::from_head(loader, head).await.unwrap();
    assert_eq!(rebuilt.roots(), db.roots());
    let counted = |db: &Db| {
        let tables = db.0.tables.iter().filter(|(_, count)| **count > 0);
        tables
            .map(|(table, count)| (table.to_string(), *count))
            .collect::<Vec<_>>()
    };
    assert_eq!(counted(&rebuilt), counted(&db));
    let last = records.len() as u64 - 1;
    let again = rebuilt.commit_records(0, last).await.unwrap();
    for (old, new) in records.iter().zip(&again) {
        assert_eq!((old.hash, old.digest), (new.hash, new.digest));
    }
    for t in 0..=last {
        let (old, new) = (
            db.as_of(crate::TimePoint::T(t)),
            rebuilt.as_of(crate::TimePoint::T(t)),
        );
        assert_eq!(
            counted(&new.await.unwrap()),
            counted(&old.await.unwrap()),
            "t={t}"
        );
    }
    rebuilt.verify().await.unwrap();
}

#[tokio::test]
async fn what_is_purged_is_gone_from_every_basis_and_every_byte() {
    for kind in 0..4u64 {
        let mut work = Work::begin(50 + kind).await;
        let secrets = [canary(kind, 80), canary(100 + kind, 3000)];
        work.go_on(20, 3).await;
        // In the trees, and superseded there.
        for (id, secret) in [(500, &secrets[0]), (501, &secrets[1])] {
            work.transact(&format!(
                r#"[{{:n/id {id} :n/text "{secret}" :n/next [[:n/id 1]]}}]"#
            ))
            .await;
            work.connection.checkpoint().await.unwrap();
            work.transact(&format!(r#"[[:db/add [:n/id 2] :n/next [:n/id {id}]]]"#))
                .await;
        }
        work.transact("[[:db/retract [:n/id 500] :n/text] [:db/retract [:n/id 501] :n/text]]")
            .await;
        work.go_on(20, 3).await;
        let retracted = work.connection.db().basis_t();
        // In the tail.
        if kind != 3 {
            let [short, long] = &secrets;
            work.transact(&format!(r#"[{{:n/id 500 :n/text "{short}"}}]"#))
                .await;
            work.transact(&format!(r#"[{{:n/id 501 :n/text "{long}"}}]"#))
                .await;
        }
        let db = work.connection.db();
        let mut ids = Vec::new();
        for id in [500, 501] {
            let lookup = crate::LookupRef {
                attribute: datomfusion_datalog::edn::Keyword::new("n/id"),
                value: Value::Long(id),
            };
            ids.push(db.entid(&EntityRef::Lookup(lookup)).await.unwrap().unwrap());
        }
        for secret in &secrets {
            assert!(!holders(&work.simulation, secret).await.is_empty());
        }
        let text = work.attribute("n/text");
        let values = secrets.clone().map(Value::string);
        let purges = match kind {
            0 => vec![Purge::Attribute(text)],
            1 => ids.iter().map(|e| Purge::Entity(*e)).collect(),
            2 => ids
                .iter()
                .zip(&values)
                .map(|(e, v)| Purge::Fact {
                    e: *e,
                    a: text,
                    v: v.clone(),
                })
                .collect(),
            _ => vec![Purge::Before(retracted + 1)],
        };
        let mut purged = 0;
        for purge in &purges {
            let before = work.simulation.bytes().await;
            let would = work.connection.would_purge(purge).await.unwrap();
            assert_eq!(work.simulation.bytes().await, before);
            let report = work.connection.purge(purge).await.unwrap();
            assert_eq!(would, report);
            assert!(report.datoms > 0 && report.transactions > 0);
            assert_eq!(report.elsewhere, []);
            purged += report.datoms;
            assert_eq!(
                work.connection.purge(purge).await.unwrap().datoms,
                0,
                "it is gone"
            );
        }
        let forgotten = match kind {
            0 => work.forget(|datom| datom.a == text),
            1 => {
                let to = |v: &Value, e: &Entid| *v == Value::Ref(*e);
                work.forget(|d| ids.iter().any(|e| d.e == *e || to(&d.v, e)))
            }
            2 => work.forget(|d| d.a == text && values.contains(&d.v)),
            _ => {
                // Slowly: a datom goes if a retraction of its fact follows it, or it is one.
                let all = work.twin.0.concat();
                work.forget(|d| {
                    all.iter()
                        .any(|r| !r.added && (r.e, r.a, &r.v) == (d.e, d.a, &d.v) && r.tx >= d.tx)
                })
            }
        };
        assert_eq!(purged, forgotten, "kind {kind}");
        work.check(1).await;
        work.clean(kind).await;
        for secret in &secrets {
            assert_eq!(
                holders(&work.simulation, secret).await,
                Vec::<String>::new(),
                "kind {kind}"
            );
        }
        work.check(1).await;
        work.go_on(20, 1).await;
        work.check(1).await;
    }
}

/// Others read and write the branch while it is purged; what they remember must not come back.
#[tokio::test]
async fn a_writer_that_remembers_brings_nothing_back() {
    let mut work = Work::begin(60).await;
    let secret = canary(60, 2000);
    work.go_on(20, 3).await;
    work.transact(&format!(r#"[{{:n/id 500 :n/text "{secret}"}}]"#))
        .await;
    work.go_on(20, 3).await;
    let store = work.simulation.store();
    let environment = world(&work.simulation, 61);
    let other = Connection::open_in(&store, BranchName::default(), environment)
        .await
        .unwrap();
    work.twin.check(&other.db(), 1).await;
    let text = work.attribute("n/text");
    let v = Value::string(secret.clone());
    let lookup = work.twin.0.concat().iter().find(|d| d.v == v).unwrap().e;
    let purge = Purge::Fact {
        e: lookup,
        a: text,
        v: v.clone(),
    };
    work.connection.purge(&purge).await.unwrap();
    work.forget(|datom| datom.v == v);
    for n in 0..6 {
        let data = TxData::parse(&scripted(2000 + n)).unwrap();
        work.twin
            .0
            .push(other.transact(&data).await.unwrap().tx_data);
        other.checkpoint().await.unwrap();
    }
    work.check(3).await;
    work.clean(60).await;
    assert_eq!(
        holders(&work.simulation, &secret).await,
        Vec::<String>::new()
    );
    work.check(1).await;
}

#[tokio::test]
async fn other_branches_that_hold_the_facts_are_named() {
    let mut work = Work::begin(70).await;
    work.go_on(10, 3).await;
    let store = work.simulation.store();
    let side = BranchName::try_new("side").unwrap();
    let (mut head, _) = read_head(&store, &BranchName::default())
        .await
        .unwrap()
        .unwrap();
    head.branch = side.clone();
    let CasOutcome::Swapped(_) = store.cas_head(&side, None, head.encode().unwrap()).await else {
        panic!("the branch is new")
    };
    let purge = Purge::Attribute(work.attribute("n/next"));
    let report = work.connection.purge(&purge).await.unwrap();
    assert_eq!(report.elsewhere, std::slice::from_ref(&side));
    let environment = world(&work.simulation, 71);
    let other = Connection::open_in(&store, side.clone(), environment)
        .await
        .unwrap();
    assert_eq!(other.purge(&purge).await.unwrap().elsewhere, []);
    Db::open(&store, &side)
        .await
        .unwrap()
        .verify()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_purge_that_would_break_the_schema_is_refused() {
    let mut work = Work::begin(80).await;
    work.go_on(10, 3).await;
    let before = work.simulation.bytes().await;
    let next = work.attribute("n/next");
    let tx = crate::TxId::from_t(2).0;
    for (purge, why) in [
        (
            Purge::Entity(next),
            "purge the facts of the attribute first",
        ),
        (Purge::Attribute(Entid(1)), "bootstrap"),
        (Purge::Entity(tx), "without its instant"),
    ] {
        let would = work.connection.would_purge(&purge).await.unwrap_err();
        let error = work.connection.purge(&purge).await.unwrap_err().to_string();
        assert!(error.contains(why), "{purge:?}: {error}");
        assert_eq!(would.to_string(), error);
    }
    let instants = work
        .connection
        .db()
        .schema()
        .entid(&datomfusion_datalog::edn::Keyword::new("db/txInstant"));
    let error = work
        .connection
        .purge(&Purge::Attribute(instants.unwrap()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("without its instant"), "{error}");
    assert_eq!(work.simulation.bytes().await, before, "nothing was written");
    // Once its facts are gone, the attribute may go, too.
    work.connection
        .purge(&Purge::Attribute(next))
        .await
        .unwrap();
    work.connection.purge(&Purge::Entity(next)).await.unwrap();
    work.forget(|datom| datom.a == next || datom.e == next);
    work.connection.db().verify().await.unwrap();
    assert_eq!(
        work.connection
            .db()
            .collect(Index::Log, &Range::all())
            .await
            .unwrap(),
        work.twin.0.concat()
    );
}
