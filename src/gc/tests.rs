//! Garbage collection against a twin that remembers everything, on a storage whose clock a test turns.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;

use futures::{FutureExt, TryStreamExt};

use super::*;
use crate::conn::Connection;
use crate::datom::Datom;
use crate::index::{Components, Index, Range, TreeName};
use crate::store::simulated::{Dice, Simulation};
use crate::tx::TxData;

mod bases;
mod crash;
mod marking;
mod purging;
mod repacking;
mod tombstones;

const MINUTE: i64 = 60 * 1000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

const SCHEMA: &str = r#"[{:db/ident :n/id :db/valueType :db.type/long :db/cardinality :db.cardinality/one
    :db/unique :db.unique/identity}
   {:db/ident :n/text :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/index true}
   {:db/ident :n/next :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}]"#;

fn world(simulation: &Arc<Simulation>, seed: u64) -> Arc<dyn Environment> {
    simulation.world(seed)
}

/// What transaction `n` of the script says: some texts are long, some facts are retracted.
fn scripted(n: u64) -> String {
    let text = match n % 7 {
        0 => format!("{n:0>1500}"),
        3 => format!("{n:0>300}"),
        _ => format!("text {n}"),
    };
    let mut said = format!("[{{:n/id {} :n/text \"{text}\" :n/next [\"t\"]}} ", n % 40);
    let _ = write!(said, "{{:db/id \"t\" :n/id {}}}", (n * 7) % 40);
    if n > 60 && n.is_multiple_of(5) {
        let _ = write!(said, " [:db/retractEntity [:n/id {}]]", (n + 3) % 40);
    }
    said.push(']');
    said
}

/// Every datom that was said, by `t`: the slow and obvious database.
#[derive(Clone, Default)]
struct Twin(Vec<Vec<Datom>>);

impl Twin {
    fn current(&self, t: u64) -> Vec<Datom> {
        let mut facts: Vec<Datom> = Vec::new();
        for datom in self
            .0
            .iter()
            .take(usize::try_from(t).unwrap() + 1)
            .flatten()
        {
            if datom.added {
                facts.push(datom.clone());
            } else {
                facts.retain(|f| f.e != datom.e || f.a != datom.a || f.v != datom.v);
            }
        }
        let order = TreeName::Eavt.order();
        facts.sort_by(|left, right| order.compare(left, right));
        facts
    }

    /// Forgets what was superseded before `t`, slowly: what a retraction before it follows or is.
    fn forget_before(&mut self, t: u64) {
        let all = self.0.concat();
        let ended = |d: &Datom| {
            all.iter().any(|r| {
                let same = (r.e, r.a, &r.v) == (d.e, d.a, &d.v);
                !r.added && same && r.tx >= d.tx && r.tx.t() < t
            })
        };
        for said in &mut self.0 {
            said.retain(|datom| !ended(datom));
        }
    }

    /// Every `step`-th basis of a database is what it was.
    async fn check(&self, db: &Db, step: usize) {
        assert_eq!(db.basis_t() + 1, self.0.len() as u64);
        let newest = db.basis_t();
        for t in (0..=newest).step_by(step).chain([newest]) {
            let past = db.as_of(crate::TimePoint::T(t)).await.unwrap();
            let facts = past.collect(Index::Eavt, &Range::all()).await.unwrap();
            assert_eq!(facts, self.current(t), "t={t}");
            let avet = past.collect(Index::Avet, &Range::all()).await.unwrap();
            let indexed = facts.iter().filter(|datom| past.in_avet(datom.a));
            assert_eq!(avet.len(), indexed.count(), "t={t}");
            assert!(facts.iter().all(|datom| match &datom.v {
                crate::Value::Large(large) => large.text().is_some(),
                _ => true,
            }));
            let history = past.history();
            let history = history.collect(Index::Log, &Range::all()).await.unwrap();
            let said = &self.0[..=usize::try_from(t).unwrap()];
            assert_eq!(history, said.concat(), "t={t}");
        }
        let log = db.collect(Index::Log, &Range::all()).await.unwrap();
        assert_eq!(log, self.0.concat());
    }
}

/// A database under work.
struct Work {
    simulation: Arc<Simulation>,
    connection: Connection,
    twin: Twin,
    n: u64,
}

impl Work {
    async fn begin(seed: u64) -> Self {
        let simulation = Simulation::new();
        let store = simulation.store();
        let environment = world(&simulation, seed);
        let connection = Connection::create_in(&store, BranchName::default(), environment)
            .await
            .unwrap();
        let bootstrap = connection
            .db()
            .collect(Index::Log, &Range::all())
            .await
            .unwrap();
        let mut work = Self {
            simulation,
            connection,
            twin: Twin(vec![bootstrap]),
            n: 0,
        };
        work.transact(SCHEMA).await;
        work
    }

    async fn transact(&mut self, text: &str) {
        let data = TxData::parse(text).unwrap();
        let report = self.connection.transact(&data).await.unwrap();
        self.twin.0.push(report.tx_data);
    }

    /// Goes on with the script; a checkpoint every few transactions, and time passes.
    async fn go_on(&mut self, transactions: u64, minutes: i64) {
        for _ in 0..transactions {
            self.n += 1;
            self.transact(&scripted(self.n)).await;
            self.simulation.pass(minutes * MINUTE);
            if self.n.is_multiple_of(4) {
                self.connection.checkpoint().await.unwrap();
            }
        }
    }

    async fn gc(&self, options: &GcOptions, seed: u64) -> GcReport {
        let environment = world(&self.simulation, 1 << 32 | seed);
        gc_in(&self.simulation.store(), options, environment)
            .await
            .unwrap()
    }

    /// Opens the branch afresh, proves it whole, and compares it with the twin.
    async fn check(&self, step: usize) {
        let store = self.simulation.store();
        let db = Db::open(&store, &BranchName::default()).await.unwrap();
        db.verify().await.unwrap();
        db.verify_packs().await.unwrap();
        self.twin.check(&db, step).await;
    }
}

fn newest_only() -> GcOptions {
    GcOptions {
        retention: Retention::newest_only(),
        ..GcOptions::default()
    }
}

#[tokio::test]
async fn what_a_run_finds_dead_a_later_one_deletes_after_the_grace() {
    let mut work = Work::begin(1).await;
    work.go_on(80, 10).await;
    let before = work.simulation.store().list_packs().await.unwrap().len();
    work.simulation.pass(MINUTE);
    let first = work.gc(&newest_only(), 1).await;
    assert_eq!(
        (first.kept_checkpoints, first.deleted),
        (1, Packs::default())
    );
    assert_eq!(first.dropped_checkpoints, 19);
    assert!(
        first.dead.count > 0 && first.half_dead.count > 0,
        "{first:?}"
    );
    assert_eq!(first.repacked, first.half_dead);
    assert_eq!(
        first.condemned.count,
        first.dead.count + first.half_dead.count
    );
    work.check(3).await;

    work.simulation.pass(59 * MINUTE);
    let early = work.gc(&newest_only(), 2).await;
    assert_eq!(early.deleted, Packs::default(), "the grace is not over");
    work.simulation.pass(MINUTE);
    let late = work.gc(&newest_only(), 3).await;
    assert_eq!(late.deleted, first.condemned);
    work.check(3).await;

    work.simulation.pass(2 * HOUR);
    work.gc(&newest_only(), 4).await;
    let after = work.simulation.store().list_packs().await.unwrap();
    assert!(
        after.len() * 3 < before,
        "{} of {before} packs are left",
        after.len()
    );
    assert!(work.simulation.store().list_notes().await.unwrap().len() <= 1);
    work.check(1).await;
    work.go_on(30, 1).await;
    work.check(1).await;
}

#[tokio::test]
async fn every_basis_answers_as_before_whatever_retention_drops() {
    let mut work = Work::begin(2).await;
    let mut hops = Vec::new();
    for round in 0..6 {
        work.go_on(24, 15 + 200 * (round % 3)).await;
        for (age, every) in [(HOUR, 2 * HOUR), (DAY, 12 * HOUR)] {
            let millis = |n: i64| Duration::from_millis(n.unsigned_abs());
            let options = GcOptions {
                retention: Retention::keep_all().thin(millis(age), millis(every)),
                repack: round % 2 == 0,
                ..GcOptions::default()
            };
            let report = work
                .gc(&options, u64::try_from(round * 10 + every).unwrap())
                .await;
            hops.push(report.dropped_checkpoints);
        }
        work.check(1).await;
    }
    assert!(
        hops.iter().filter(|dropped| **dropped > 0).count() > 5,
        "{hops:?}"
    );
}

/// Wherever retention would drop everything but the newest, a bound on replaying keeps what it needs.
#[tokio::test]
async fn no_basis_replays_more_of_the_log_than_it_may() {
    const DATOMS_MAX: u64 = 100;
    let mut work = Work::begin(4).await;
    work.go_on(60, 200).await;
    work.simulation.pass(DAY);
    let options = GcOptions {
        retention: Retention::newest_only().replay(DATOMS_MAX),
        ..GcOptions::default()
    };
    let report = work.gc(&options, 1).await;
    assert!(report.dropped_checkpoints > 0, "{report:?}");
    assert!(report.kept_checkpoints > 1, "{report:?}");
    let db = Db::open(&work.simulation.store(), &BranchName::default())
        .await
        .unwrap();
    let kept = retention::checkpointed(&db).await.unwrap();
    let logs = kept.iter().filter_map(|(_, record)| {
        let checkpoint = record.checkpoint.as_ref()?;
        Some(checkpoint.tree(TreeName::Log).count())
    });
    let logs: Vec<u64> = logs.collect();
    assert!(logs.len() > 2, "{logs:?}");
    let spans: Vec<u64> = logs.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(spans.iter().all(|span| *span <= DATOMS_MAX), "{spans:?}");
    assert!(
        spans.windows(2).all(|pair| pair[0] + pair[1] > DATOMS_MAX),
        "one of two neighbours could go: {spans:?}"
    );
    work.check(1).await;
}

#[tokio::test]
async fn a_dry_run_writes_nothing_and_says_what_a_run_would_do() {
    let mut work = Work::begin(3).await;
    work.go_on(60, 10).await;
    work.simulation.pass(MINUTE);
    let dry = GcOptions {
        dry_run: true,
        repack: false,
        ..newest_only()
    };
    let wet = GcOptions {
        dry_run: false,
        ..dry.clone()
    };
    for (seed, hours) in [(1, 0), (2, 2), (3, 2)] {
        work.simulation.pass(hours * HOUR);
        let store = work.simulation.store();
        let before = work.simulation.bytes().await;
        let would = gc_in(&store, &dry, world(&work.simulation, 99))
            .await
            .unwrap();
        let spent = store.requests();
        assert_eq!((spent.puts, spent.deletes), (0, 0));
        assert_eq!(work.simulation.bytes().await, before);
        let did = work.gc(&wet, seed).await;
        assert_eq!(would.dropped_checkpoints, did.dropped_checkpoints);
        // Old nodes of the tree of commits live until a run writes new ones.
        assert!((would.dead.count..=would.dead.count + 2).contains(&did.dead.count));
        assert!((would.condemned.count..=would.condemned.count + 2).contains(&did.condemned.count));
        assert_eq!(would.deleted, did.deleted);
        if seed == 2 {
            assert!(did.deleted.count > 0);
        }
    }
}

#[tokio::test]
async fn a_reader_within_the_grace_finishes_and_later_is_told_to_open_again() {
    let mut work = Work::begin(4).await;
    work.go_on(60, 10).await;
    let twin = work.twin.clone();
    let branch = BranchName::default();
    let open = || async { Db::open(&work.simulation.store(), &branch).await.unwrap() };
    // All of them have read nothing but the head.
    let (early, late) = (open().await, open().await);
    work.simulation.pass(MINUTE);
    work.gc(&newest_only(), 1).await;
    let between = open().await;
    work.simulation.pass(59 * MINUTE);
    work.gc(&newest_only(), 2).await;
    early.verify().await.unwrap();
    twin.check(&early, 1).await;

    work.simulation.pass(HOUR);
    work.gc(&newest_only(), 3).await;
    let error = late.as_of(crate::TimePoint::T(20)).await;
    let error = match error {
        Ok(past) => past.collect(Index::Eavt, &Range::all()).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(
        matches!(&error, Error::SnapshotExpired(what) if what.contains("open")),
        "{error}"
    );
    let error = late.verify().await.unwrap_err();
    assert!(matches!(error, Error::SnapshotExpired(_)), "{error}");
    twin.check(&between, 1).await;
    let (_, twin) = (between, twin);
    twin.check(&open().await, 1).await;
}

#[tokio::test]
async fn a_pack_that_is_gone_without_a_collection_is_corruption() {
    let mut work = Work::begin(5).await;
    work.go_on(8, 1).await;
    let store = work.simulation.store();
    let packs = store.list_packs().await.unwrap();
    store.delete_pack(packs[0].id).await.unwrap();
    let db = Db::open(&store, &BranchName::default()).await.unwrap();
    let error = db.verify().await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

/// A process opened the branch, read all of it, and slept while others worked and collected; the nodes in
/// its cache say where things lay. What it then writes must lead to where they lie now.
#[tokio::test]
async fn a_writer_that_slept_past_the_grace_begins_anew_and_loses_nothing() {
    let mut work = Work::begin(6).await;
    work.go_on(60, 10).await;
    let store = work.simulation.store();
    let open =
        |seed| Connection::open_in(&store, BranchName::default(), world(&work.simulation, seed));
    let (sleeper, unread, merger) = (
        open(61).await.unwrap(),
        open(62).await.unwrap(),
        open(63).await.unwrap(),
    );
    work.twin.check(&sleeper.db(), 1).await;
    for seed in 1..5 {
        work.simulation.pass(61 * MINUTE);
        work.gc(&newest_only(), seed).await;
    }
    let deleted = work.simulation.store().list_packs().await.unwrap().len();
    assert!(deleted < 12, "{deleted} packs are left");
    merger.checkpoint().await.unwrap();
    for connection in [&sleeper, &unread] {
        for n in 0..9 {
            let data = TxData::parse(&scripted(1000 + n)).unwrap();
            let report = connection.transact(&data).await.unwrap();
            work.twin.0.push(report.tx_data);
            if n % 3 == 0 {
                connection.checkpoint().await.unwrap();
            }
            work.check(20).await;
        }
        unread.sync().await.unwrap();
    }
    work.connection.sync().await.unwrap();
    work.go_on(5, 1).await;
    work.check(1).await;
}

/// Between any two steps of a run, a writer may commit; with no grace at all, what is dead goes at once.
#[tokio::test]
async fn a_writer_between_the_steps_of_a_run_loses_nothing() {
    for (seed, repack) in [(7, true), (8, false)] {
        let mut work = Work::begin(seed).await;
        work.go_on(60, 10).await;
        let options = GcOptions {
            grace: Duration::ZERO,
            repack,
            ..newest_only()
        };
        for round in 0..4 {
            work.simulation.pass(MINUTE);
            let store = work.simulation.store();
            let environment = world(&work.simulation, 700 + seed * 10 + round);
            let mut run = Run::begin(&store, &options, environment).await.unwrap();
            work.go_on(5, 0).await;
            run.swap_heads().await.unwrap();
            work.go_on(9, 0).await;
            let report = run.collect().await.unwrap();
            assert!(report.deleted.count > 0, "{report:?}");
            work.check(7).await;
            work.go_on(3, 0).await;
            work.check(50).await;
        }
        work.check(1).await;
    }
}

#[tokio::test]
async fn of_two_runs_at_once_one_is_fenced_off() {
    let mut work = Work::begin(9).await;
    work.go_on(40, 10).await;
    let (options, store) = (newest_only(), work.simulation.store());
    for swapped_first in [true, false] {
        let begin = |seed: u64| {
            let seed = (seed << 8) | u64::from(swapped_first);
            Run::begin(&store, &options, world(&work.simulation, seed))
        };
        let mut one = begin(1).await.unwrap();
        if swapped_first {
            one.swap_heads().await.unwrap();
        }
        let mut two = begin(2).await.unwrap();
        two.swap_heads().await.unwrap();
        let error = if swapped_first {
            one.collect().await.unwrap_err()
        } else {
            one.swap_heads().await.unwrap_err()
        };
        assert!(matches!(error, Error::Fenced { .. }), "{error}");
        two.collect().await.unwrap();
        work.check(9).await;
        work.simulation.pass(DAY);
        work.go_on(20, 10).await;
    }
}

#[tokio::test]
async fn what_is_not_ours_is_never_touched() {
    let mut work = Work::begin(10).await;
    let foreign = [
        "readme.txt",
        "packs/notes.txt",
        "packs/ab/00112233445566778899aabbccddeeff",
        "packs/00/00112233445566778899AABBCCDDEEFF",
        "packs/00/00112233445566778899aabbccddeeff/x",
        "gc/readme",
        "gc/00112233445566778899aabbccddeeff/x",
        "heads.bak/main",
    ];
    for key in foreign {
        work.simulation.put(key, b"foreign").await;
    }
    work.go_on(40, 10).await;
    for seed in 0..3 {
        work.simulation.pass(2 * HOUR);
        work.gc(&newest_only(), seed).await;
    }
    let bytes = work.simulation.bytes().await;
    for key in foreign {
        assert_eq!(bytes[key], b"foreign"[..], "{key}");
    }
    work.check(5).await;
}

#[tokio::test]
async fn branches_share_what_lives_and_each_is_kept_whole() {
    let mut work = Work::begin(11).await;
    work.go_on(30, 10).await;
    let store = work.simulation.store();
    let main = BranchName::default();
    let side = BranchName::try_new("side").unwrap();
    // A branch is a copy of a head under another name.
    let (mut head, _) = read_head(&store, &main).await.unwrap().unwrap();
    head.branch = side.clone();
    let CasOutcome::Swapped(_) = store.cas_head(&side, None, head.encode().unwrap()).await else {
        panic!("the branch is new")
    };
    let pinned = work.twin.clone();
    work.go_on(50, 10).await;
    for seed in 0..4 {
        work.simulation.pass(2 * HOUR);
        let report = work.gc(&newest_only(), seed).await;
        assert_eq!(report.branches, 2);
        let db = Db::open(&store, &side).await.unwrap();
        db.verify().await.unwrap();
        pinned.check(&db, 1).await;
        work.check(11).await;
    }
}

/// A life of a database that follows from a seed.
async fn live(seed: u64) {
    let mut dice = Dice(seed);
    let mut work = Work::begin(100 + seed).await;
    let mut side = Twin::default();
    for step in 0..30 {
        match dice.below(9) {
            0 => {
                let environment = world(&work.simulation, seed << 16 | step << 8);
                let store = work.simulation.store();
                work.connection = Connection::open_in(&store, BranchName::default(), environment)
                    .await
                    .unwrap();
            }
            1 => work.simulation.pass(dice.below(3).cast_signed() * HOUR),
            2 | 3 => {
                let options = GcOptions {
                    retention: Retention::keep_all().thin(
                        Duration::from_secs(60 * dice.below(200)),
                        Duration::from_secs(60 * (1 + dice.below(300))),
                    ),
                    grace: Duration::from_secs(dice.below(3) * 1800),
                    repack: dice.below(3) > 0,
                    dry_run: dice.below(8) == 0,
                };
                work.gc(&options, seed << 8 | step).await;
                work.check(13).await;
            }
            4 => {
                let newest = work.connection.sync().await.unwrap().basis_t();
                let t = dice.below(newest + 2);
                let purge = crate::conn::Purge::Before(t);
                work.connection.purge(&purge).await.unwrap();
                work.twin.forget_before(t);
                work.check(13).await;
            }
            5 | 6 => Box::pin(tombstones::turn(&work, &mut side, seed << 8 | step)).await,
            _ => {
                work.go_on(1 + dice.below(12), dice.below(9).cast_signed())
                    .await;
            }
        }
    }
    work.check(1).await;
}

#[tokio::test]
async fn generated_lives_survive_collection() {
    for seed in 0..6 {
        let lived = Box::pin(AssertUnwindSafe(live(seed)).catch_unwind()).await;
        assert!(lived.is_ok(), "seed {seed}");
    }
}
