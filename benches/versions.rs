//! What versions cost, counted: opening the past, differences, branches, merges, garbage collection, proof.
//!
//!     cargo bench --no-default-features --features fs --bench versions -- DATOMS… [TABLE…]
//!
//! A database is an import of so many datoms and 1,100 transactions of ten: in turn two new people, and new
//! scores of five people anywhere. It lies in a file store in a temporary directory, and whatever changes it
//! has a copy of its own, with the times of the files. Every run opens store and values anew, so that none of our caches is warm, although
//! the system's cache of files is. Counts are of the first run and the same on every machine; times are
//! the least of several runs, by the clock and by the processor.

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded anyway")]

mod support {
    pub mod people;
    pub mod processor;
    pub mod random;
}

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use datomfusion::bench::loads;
use datomfusion::edn::Keyword;
use datomfusion::{
    BranchName, Branches, Components, Connection, Db, Depth, Entid, EntityRef, GcOptions, GcReport,
    Index, LookupRef, MergeOutcome, MergeReport, MergeStrategy, Packs, Requests, Retention, Seeded,
    Store, TimePoint, TxData, Value, gc_in,
};
use futures::TryStreamExt;
use tempfile::TempDir;

use support::people::{FACTS, appended, filled, rescored, scored, sizes};
use support::processor::processor_time;
use support::random::Random;

/// What can be asked for; all of it unless some are named.
const TABLES: [&str; 7] = [
    "past",
    "scans",
    "differences",
    "branches",
    "merges",
    "garbage",
    "proofs",
];
/// Small transactions after the import.
const TRANSACTIONS: u64 = 1100;
/// What took so long is not run again.
const LONG: Duration = Duration::from_secs(4);
/// A proof from the log holds every fact, so it is left out of larger databases.
const DEEP_DATOMS_MAX: u64 = 2_000_000;

/// A database in a directory.
struct Site {
    root: TempDir,
    datoms: u64,
    people: u64,
    newest: u64,
    /// The `t` of the last commit that made a checkpoint.
    checkpoint: u64,
    /// Someone of the import.
    someone: Entid,
}

/// What one operation took.
#[derive(Clone, Copy, Default)]
struct Cost {
    requests: Requests,
    nodes: u64,
    clock: Duration,
    processor: Duration,
}

/// An operation under way.
struct Running {
    before: Vec<(Store, Requests)>,
    processor: Duration,
    begin: Instant,
}

fn start(stores: &[&Store]) -> Running {
    Running {
        before: stores
            .iter()
            .map(|store| (Store::clone(store), store.requests()))
            .collect(),
        processor: processor_time(),
        begin: Instant::now(),
    }
}

impl Running {
    fn stop(self, nodes: u64) -> Cost {
        let clock = self.begin.elapsed();
        let processor = processor_time().saturating_sub(self.processor);
        let mut requests = Requests::default();
        for (store, before) in self.before {
            let did = store.requests() - before;
            requests.gets += did.gets;
            requests.puts += did.puts;
            requests.lists += did.lists;
            requests.deletes += did.deletes;
            requests.bytes_read += did.bytes_read;
            requests.bytes_written += did.bytes_written;
        }
        Cost {
            requests,
            nodes,
            clock,
            processor,
        }
    }
}

/// The counts of the first run and the least times of all.
async fn least<T>(runs: u64, mut run: impl AsyncFnMut(u64) -> (Cost, T)) -> (Cost, T) {
    let begin = Instant::now();
    let (mut cost, value) = run(0).await;
    for n in 1..runs {
        if begin.elapsed() > LONG {
            break;
        }
        let (again, _) = run(n).await;
        cost.clock = cost.clock.min(again.clock);
        cost.processor = cost.processor.min(again.processor);
    }
    (cost, value)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

/// The cells that all tables end with.
fn reading(cost: &Cost) -> String {
    format!(
        "{} | {:.1} | {} | {:.2} / {:.2} |",
        cost.requests.gets,
        kib(cost.requests.bytes_read),
        cost.nodes,
        milliseconds(cost.clock),
        milliseconds(cost.processor),
    )
}

fn table(title: &str, columns: &str) {
    println!("\n{title}\n\n| datoms | {columns} |");
    println!("|{}", "---|".repeat(columns.split(" | ").count() + 1));
}

fn file(root: &Path) -> Store {
    Store::file(root).unwrap()
}

fn name(text: &str) -> BranchName {
    BranchName::try_new(text).unwrap()
}

async fn open(store: &Store, branch: &str) -> Db {
    Db::open(store, &name(branch)).await.unwrap()
}

/// A connection to a store that has been opened anew; every one needs a seed of its own.
async fn connect(root: &Path, branch: &str, seed: u64) -> Connection {
    Connection::open_in(&file(root), name(branch), Seeded::new(seed))
        .await
        .unwrap()
}

async fn transact(connection: &Connection, text: &str) {
    let data = TxData::parse(text).unwrap();
    connection.transact(&data).await.unwrap();
}

async fn as_of(db: &Db, t: u64) -> Db {
    db.as_of(TimePoint::T(t)).await.unwrap()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
            // Garbage collection lets be what is as young as itself.
            let written = entry.metadata().unwrap().modified().unwrap();
            let copy = fs::File::options().write(true).open(target).unwrap();
            copy.set_modified(written).unwrap();
        }
    }
}

impl Site {
    async fn build(datoms: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = file(root.path());
        let connection = filled(&store, datoms).await;
        let people = datoms / FACTS;
        let mut random = Random(11);
        let mut checkpoint = connection.db().basis_t();
        for n in 0..TRANSACTIONS {
            let text = if n % 2 == 0 {
                appended(n)
            } else {
                rescored(&mut random, people, 5)
            };
            let before = store.requests();
            transact(&connection, &text).await;
            if (store.requests() - before).puts > 1 {
                checkpoint = connection.db().basis_t();
            }
        }
        let newest = connection.db();
        let someone = LookupRef {
            attribute: Keyword::new("p/id"),
            value: Value::Long(people.cast_signed() / 2),
        };
        let someone = newest.entid(&EntityRef::Lookup(someone)).await.unwrap();
        Self {
            root,
            datoms,
            people,
            newest: newest.basis_t(),
            checkpoint,
            someone: someone.unwrap(),
        }
    }

    fn path(&self) -> &Path {
        self.root.path()
    }

    fn copy(&self) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        copy_folder(self.path(), root.path());
        root
    }

    /// Bases from now into the past.
    fn times(&self) -> [(&'static str, u64); 5] {
        [
            ("now", self.newest),
            ("1 transaction ago", self.newest - 1),
            ("just before the last checkpoint", self.checkpoint - 1),
            ("just after the last checkpoint", self.checkpoint),
            ("1,000 transactions ago", self.newest - 1000),
        ]
    }
}

/// Opens, goes to a `t`, reads one entity.
async fn past(sites: &[Site]) {
    table(
        "opening a past t and reading one entity by its id",
        "basis | t | GETs | KiB | nodes | ms clock / processor",
    );
    for site in sites {
        for (what, t) in site.times() {
            let cost = past_entity(site, site.path(), t).await;
            println!("| {} | {what} | {t} | {}", site.datoms, reading(&cost));
        }
        let collected = site.copy();
        collect(collected.path(), 31, Duration::ZERO, false).await;
        for (what, t) in site.times() {
            let cost = past_entity(site, collected.path(), t).await;
            println!(
                "| {} | {what}, older checkpoints collected | {t} | {}",
                site.datoms,
                reading(&cost)
            );
        }
    }
}

async fn past_entity(site: &Site, root: &Path, t: u64) -> Cost {
    let run = async |_| {
        let store = file(root);
        let running = start(&[&store]);
        let db = as_of(&open(&store, "main").await, t).await;
        let components = Components::all().e(site.someone);
        let datoms = db.datoms(Index::Eavt, components).unwrap();
        let found: Vec<_> = datoms.try_collect().await.unwrap();
        let cost = running.stop(loads(&db).nodes);
        assert_eq!(found.len() as u64, FACTS);
        (cost, ())
    };
    least(9, run).await.0
}

/// Counts the ages of all people, datom by datom.
async fn scans(sites: &[Site]) {
    table(
        "counting all ages by stream",
        "basis | ages | nodes | cold ms | warm ms | of the warm time now",
    );
    for site in sites {
        let collected = site.copy();
        collect(collected.path(), 32, Duration::ZERO, false).await;
        let [now, _, before, _, thousand] = site.times();
        let mut of_now = None;
        for ((what, t), root, aside) in [
            (now, site.path(), ""),
            (before, site.path(), ""),
            (thousand, site.path(), ""),
            (thousand, collected.path(), ", older checkpoints collected"),
        ] {
            let (mut warm, mut ages) = (Duration::MAX, 0);
            let cold = async |_| {
                let store = file(root);
                let db = as_of(&open(&store, "main").await, t).await;
                let (opened, running) = (loads(&db).nodes, start(&[&store]));
                ages = count_ages(&db).await;
                let cost = running.stop(loads(&db).nodes - opened);
                for _ in 0..4 {
                    let begin = Instant::now();
                    count_ages(&db).await;
                    warm = warm.min(begin.elapsed());
                }
                (cost, ())
            };
            let (cost, ()) = least(3, cold).await;
            let of = warm.as_secs_f64() / of_now.get_or_insert(warm).as_secs_f64();
            println!(
                "| {} | {what}{aside} | {ages} | {} | {:.2} | {:.2} | {of:.2} |",
                site.datoms,
                cost.nodes,
                milliseconds(cost.clock),
                milliseconds(warm),
            );
        }
    }
}

async fn count_ages(db: &Db) -> u64 {
    let age = db.schema().require(&Keyword::new("p/age")).unwrap().id;
    let ages = db.datoms(Index::Aevt, Components::all().a(age)).unwrap();
    ages.try_fold(0, async |sum, _| Ok(sum + 1)).await.unwrap()
}

/// Compares times, branches and stores.
async fn differences(sites: &[Site]) {
    table(
        "differences, values opened before",
        "from, to | changes | bound: height × 2 a change | nodes of EAVT / of all trees | GETs | KiB | nodes | ms clock / processor",
    );
    for site in sites {
        let (last, at) = (site.newest, site.checkpoint);
        for (what, from, to) in [
            ("1 transaction apart, in the tail", last - 2, last - 1),
            ("1 transaction apart, over a checkpoint", at - 1, at),
            ("100 transactions apart, in the tail", last - 101, last - 1),
            ("200 transactions apart", at - 100, at + 100),
            ("1,000 transactions apart", last - 1000, last),
        ] {
            let roots = [site.path(); 2];
            difference(site, what, roots, [("main", from), ("main", to)]).await;
        }
        // Both begin with the same trees and have 0, 10 or 1,000 changes in trees of their own.
        let ours = site.copy();
        let main = connect(ours.path(), "main", 41).await;
        main.checkpoint().await.unwrap();
        for (seed, people) in [(42, 5), (43, 500)] {
            let theirs = tempfile::tempdir().unwrap();
            copy_folder(ours.path(), theirs.path());
            let ids = spread(site, people, 0);
            let text = scored(&mut Random(seed), ids.into_iter());
            let branch = format!("dev-{people}");
            main.branches()
                .create(&name(&branch), &main.db())
                .await
                .unwrap();
            for (root, branch) in [(&ours, &*branch), (&theirs, "main")] {
                let connection = connect(root.path(), branch, seed + 10).await;
                transact(&connection, &text).await;
                connection.checkpoint().await.unwrap();
            }
            let t = site.newest;
            let here = [ours.path(); 2];
            let there = [ours.path(), theirs.path()];
            let changed = format!("{people} people changed");
            difference(
                site,
                &format!("two branches, {changed}"),
                here,
                [("main", t), (&branch, t + 1)],
            )
            .await;
            difference(
                site,
                &format!("two stores, {changed}"),
                there,
                [("main", t), ("main", t + 1)],
            )
            .await;
        }
    }
}

async fn difference(site: &Site, what: &str, roots: [&Path; 2], bases: [(&str, u64); 2]) {
    let run = async |_| {
        // One loader serves both values of one store, as it does those of a connection.
        let [ours, theirs] = roots.map(file);
        let from = open(&ours, bases[0].0).await;
        let to = open(&theirs, bases[1].0).await;
        let (from, to) = (as_of(&from, bases[0].1).await, as_of(&to, bases[1].1).await);
        let before = loads(&from).nodes + loads(&to).nodes;
        let running = start(&[&ours, &theirs]);
        let changes = from.diff(&to).unwrap();
        let changes: Vec<_> = changes.try_collect().await.unwrap();
        let cost = running.stop(loads(&from).nodes + loads(&to).nodes - before);
        (cost, changes.len())
    };
    let (cost, changes) = least(5, run).await;
    let sizes = open(&file(roots[0]), "main").await.tree_sizes().await;
    let sizes = sizes.unwrap();
    let bound = changes as u64 * u64::from(sizes[0].height) * 2;
    let all: u64 = sizes.iter().map(|size| size.nodes).sum();
    println!(
        "| {} | {what} | {changes} | {bound} | {} / {all} | {}",
        site.datoms,
        sizes[0].nodes,
        reading(&cost)
    );
}

/// So many ids, all over the people of the import.
fn spread(site: &Site, count: u64, offset: u64) -> Vec<u64> {
    let stride = site.people / count;
    (0..count).map(|n| n * stride + offset % stride).collect()
}

/// Makes, lists, reads and deletes branches.
async fn branches(sites: &[Site]) {
    table(
        "branches",
        "what | PUTs | KiB written | lists | GETs | KiB | nodes | ms clock / processor",
    );
    for site in sites {
        let copy = site.copy();
        let root = copy.path();
        let show = |what: &str, cost: &Cost| {
            println!(
                "| {} | {what} | {} | {:.1} | {} | {}",
                site.datoms,
                cost.requests.puts,
                kib(cost.requests.bytes_written),
                cost.requests.lists,
                reading(cost)
            );
        };
        for (at, (what, t)) in site.times().into_iter().enumerate() {
            let create = async |n| {
                let store = file(root);
                let db = as_of(&open(&store, "main").await, t).await;
                let branches = Branches::new_in(&store, Seeded::new(500 + 100 * at as u64 + n));
                let (opened, running) = (loads(&db).nodes, start(&[&store]));
                let branch = name(&format!("dev-{at}-{n}"));
                branches.create(&branch, &db).await.unwrap();
                (running.stop(loads(&db).nodes - opened), ())
            };
            let (cost, ()) = least(5, create).await;
            show(&format!("create at {what}"), &cost);
        }
        let (cost, count) = least(5, async |_| {
            let store = file(root);
            let running = start(&[&store]);
            let all = Branches::new(&store).list().await.unwrap();
            (running.stop(0), all.len())
        })
        .await;
        show(&format!("list {count}"), &cost);
        let commit = as_of(&open(&file(root), "main").await, site.newest - 1000)
            .await
            .commit_id()
            .await
            .unwrap();
        let basis = format!("@commit={commit}").parse().unwrap();
        let (cost, ()) = least(5, async |_| {
            let store = file(root);
            let running = start(&[&store]);
            let db = open(&store, "dev-0-0").await.at(&basis).await.unwrap();
            assert_eq!(db.basis_t(), commit.t);
            (running.stop(loads(&db).nodes), ())
        })
        .await;
        show("open at a commit, 1,000 transactions ago", &cost);
        let (cost, ()) = least(5, async |n| {
            let store = file(root);
            let branches = Branches::new_in(&store, Seeded::new(900 + n));
            let running = start(&[&store]);
            let branch = name(&format!("dev-0-{n}"));
            branches.delete(&branch).await.unwrap();
            (running.stop(0), ())
        })
        .await;
        show(&format!("delete one of {count}"), &cost);
    }
}

/// Two branches of main, and what a merge of one into the other takes.
async fn merges(sites: &[Site]) {
    table(
        "merges",
        "changed on each | facts of the merge | conflicts | PUTs | KiB written | GETs | KiB | nodes | ms clock / processor",
    );
    for site in sites {
        let copy = site.copy();
        for people in [10, 1000] {
            for (what, offset) in [
                ("other people", Some(1)),
                ("the same people", Some(0)),
                ("on theirs alone", None),
            ] {
                let (cost, report) = least(3, async |n| {
                    let label = format!("{people}-{offset:?}-{n}").replace(['(', ')'], "");
                    merge(site, copy.path(), &label, people, offset).await
                })
                .await;
                let facts = report.tx.map_or(0, |tx| tx.tx_data.len());
                println!(
                    "| {} | {people}, {what} | {facts} | {} | {} | {:.1} | {}",
                    site.datoms,
                    report.conflicts.len(),
                    cost.requests.puts,
                    kib(cost.requests.bytes_written),
                    reading(&cost)
                );
            }
        }
    }
}

/// Merges scores of people into a branch that has changed others, the same, or none.
async fn merge(
    site: &Site,
    root: &Path,
    label: &str,
    people: u64,
    offset: Option<u64>,
) -> (Cost, MergeReport) {
    let seed = label
        .bytes()
        .fold(7, |seed, byte| 31 * seed + u64::from(byte));
    let [ours, theirs] = ["ours", "theirs"].map(|side| format!("{side}-{label}"));
    let main = connect(root, "main", seed).await;
    let sides = [(&ours, offset, 1), (&theirs, Some(0), 2)];
    for (branch, offset, salt) in sides {
        main.branches()
            .create(&name(branch), &main.db())
            .await
            .unwrap();
        if let Some(offset) = offset {
            let ids = spread(site, people, offset);
            let connection = connect(root, branch, seed + salt).await;
            let text = scored(&mut Random(seed + salt), ids.into_iter());
            transact(&connection, &text).await;
        }
    }
    let connection = connect(root, &ours, seed + 3).await;
    let store = file(root);
    let db = open(&store, &theirs).await;
    let running = start(&[connection.store(), &store]);
    let report = connection.merge(&db, &MergeStrategy::Theirs).await.unwrap();
    let cost = running.stop(loads(&connection.db()).nodes + loads(&db).nodes);
    let expected = match offset {
        Some(_) => MergeOutcome::Merged,
        None => MergeOutcome::FastForward,
    };
    assert_eq!(report.outcome, expected);
    (cost, report)
}

async fn collect(root: &Path, seed: u64, grace: Duration, dry_run: bool) -> (Cost, GcReport) {
    let options = GcOptions {
        retention: Retention::newest_only(),
        grace,
        dry_run,
        repack: true,
    };
    let store = file(root);
    let running = start(&[&store]);
    let report = if dry_run {
        // Of a dry run, the clock decides what is young.
        datomfusion::gc(&store, &options).await
    } else {
        gc_in(&store, &options, Seeded::new(seed)).await
    };
    (running.stop(0), report.unwrap())
}

/// Collects garbage.
async fn garbage(sites: &[Site]) {
    table(
        "garbage collection that keeps the newest checkpoint only",
        "run | packs, MiB | living frames, MiB | dead | half dead | repacked | condemned | deleted | GETs | KiB | PUTs | KiB written | deletes | ms clock / processor",
    );
    let mib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
    let packs = |packs: Packs| format!("{}, {:.2}", packs.count, mib(packs.bytes));
    for site in sites {
        let copy = site.copy();
        let hour = Duration::from_hours(1);
        for (what, seed, grace, dry_run) in [
            ("dry", 51, hour, true),
            ("1, grace an hour", 52, hour, false),
            ("2, grace 0", 53, Duration::ZERO, false),
            ("3, grace 0", 54, Duration::ZERO, false),
        ] {
            let (cost, report) = collect(copy.path(), seed, grace, dry_run).await;
            let (did, found) = (cost.requests, report);
            println!(
                "| {} | {what} | {} | {}, {:.2} | {} | {} | {} | {} | {} | {} | {:.0} | {} | {:.0} | {} | {:.0} / {:.0} |",
                site.datoms,
                packs(found.packs),
                found.live_frames,
                mib(found.live_bytes),
                packs(found.dead),
                packs(found.half_dead),
                packs(found.repacked),
                packs(found.condemned),
                packs(found.deleted),
                did.gets,
                kib(did.bytes_read),
                did.puts,
                kib(did.bytes_written),
                did.deletes,
                milliseconds(cost.clock),
                milliseconds(cost.processor),
            );
        }
        open(&file(copy.path()), "main")
            .await
            .commit_id()
            .await
            .unwrap();
    }
}

/// Verifies the newest value.
async fn proofs(sites: &[Site]) {
    table(
        "verification",
        "depth | nodes | commits | frames | ms a million datoms of the log | GETs | KiB | nodes loaded | ms clock / processor",
    );
    for site in sites {
        for (what, depth) in [("plain", Depth::Plain), ("deep", Depth::Deep)] {
            if depth == Depth::Deep && site.datoms > DEEP_DATOMS_MAX {
                println!("| {} | {what} | not run |", site.datoms);
                continue;
            }
            let (cost, found) = least(2, async |_| {
                let store = file(site.path());
                let running = start(&[&store]);
                let db = open(&store, "main").await;
                let found = db.verify_to(depth, &mut |_| ()).await.unwrap();
                (running.stop(loads(&db).nodes), found.sound().unwrap())
            })
            .await;
            println!(
                "| {} | {what} | {} | {} | {} | {:.0} | {}",
                site.datoms,
                found.nodes(),
                found.commits,
                found.frames,
                milliseconds(cost.clock) * 1e6 / site.datoms as f64,
                reading(&cost)
            );
        }
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut sites = Vec::new();
        for datoms in sizes(&[100_000]) {
            let begin = Instant::now();
            let site = Site::build(datoms).await;
            println!(
                "{datoms} datoms and {TRANSACTIONS} transactions in {:.1?}; newest t={}, last checkpoint made by t={}",
                begin.elapsed(),
                site.newest,
                site.checkpoint
            );
            sites.push(site);
        }
        let wanted = |table: &str| {
            let named = |arg: &String| TABLES.contains(&&**arg);
            let mut args = std::env::args().filter(named).peekable();
            args.peek().is_none() || args.any(|arg| arg == table)
        };
        for table in TABLES.into_iter().filter(|table| wanted(table)) {
            match table {
                "past" => past(&sites).await,
                "scans" => scans(&sites).await,
                "differences" => differences(&sites).await,
                "branches" => branches(&sites).await,
                "merges" => merges(&sites).await,
                "garbage" => garbage(&sites).await,
                _ => proofs(&sites).await,
            }
        }
    });
}
