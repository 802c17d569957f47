//! The counts and rates of `benches/README.md`: `cargo bench --bench figures [-- DATOMS]`.
//! With `writes` it measures writing only, with `memory` what an import of so many datoms holds.
//!
//! Counts are exact and the same on every machine; rates are of one run and say so.

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(
    clippy::format_collect,
    reason = "texts are made before the clock runs"
)]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded anyway")]

mod support {
    pub mod people;
    pub mod processor;
    pub mod random;
}

use std::time::Instant;

use datomfusion::{
    BranchName, Components, Datom, Db, EntityRef, Index, LookupRef, Store, TimePoint, TxData,
    Value, edn::Keyword, read_footer,
};
use futures::TryStreamExt;

use support::people::{FACTS, appended, empty, filled, people, rescored};
use support::processor::processor_time;
use support::random::Random;

/// Small transactions on a large database: what is written, against path copying.
async fn small_transactions(datoms: u64) {
    const TRANSACTIONS: u64 = 1024;
    for (kind, tenth) in [("appended", 10.0), ("random updates", 3.0)] {
        let store = Store::memory();
        let connection = filled(&store, datoms).await;
        let people = datoms / FACTS;
        let mut random = Random(7);
        let (mut puts, mut bytes, mut copied, mut largest) = (0, 0, 0, 0);
        let (mut checkpoints, mut objects_max) = (0u64, 0u64);
        let packs_before = store.list_packs().await.unwrap();
        let mut small = Vec::new();
        for n in 0..TRANSACTIONS {
            let text = if kind == "appended" {
                appended(n)
            } else {
                rescored(&mut random, people, 5)
            };
            let before = store.requests();
            let start = Instant::now();
            let report = connection
                .transact(&TxData::parse(&text).unwrap())
                .await
                .unwrap();
            let took = start.elapsed().as_secs_f64();
            let did = store.requests() - before;
            puts += did.puts;
            bytes += did.bytes_written;
            if did.puts > 1 {
                checkpoints += 1;
                objects_max = objects_max.max(did.puts);
            } else {
                largest = largest.max(did.bytes_written);
                small.push(took);
            }
            let data: Vec<Datom> = report
                .tx_data
                .iter()
                .filter(|d| !d.e.is_tx())
                .cloned()
                .collect();
            let copy = report.db_before.path_copy(&data).await.unwrap();
            copied += copy.bytes;
        }
        let mut written = 0;
        for pack in store.list_packs().await.unwrap() {
            if !packs_before.iter().any(|old| old.id == pack.id) {
                written += read_footer(&store, pack.id).await.unwrap().entries().len() as u64;
            }
        }
        let sizes = connection.db().tree_sizes().await.unwrap();
        let nodes: u64 = sizes.iter().map(|size| size.nodes).sum();
        let stored: u64 = sizes.iter().map(|size| size.bytes).sum();
        small.sort_unstable_by(f64::total_cmp);
        let per = |sum: u64| sum as f64 / TRANSACTIONS as f64;
        println!(
            "| {datoms} | {kind} | {:.3} | {:.1} | {:.1} | {checkpoints} | {objects_max} | {:.0} | {:.0} | {:.1} | 1/{:.1} (goal 1/{tenth}) | {:.1} | {:.2} |",
            per(puts),
            per(bytes) / 1024.0,
            largest as f64 / 1024.0,
            written as f64 / checkpoints.max(1) as f64,
            nodes as f64 - written as f64 / checkpoints.max(1) as f64,
            per(copied) / 1024.0,
            copied as f64 / bytes as f64,
            stored as f64 / datoms as f64,
            small[small.len() / 2] * 1e3,
        );
    }
}

/// Requests and bytes of cold queries, against the heights of the trees.
async fn cold(datoms: u64) {
    let store = Store::memory();
    let connection = filled(&store, datoms).await;
    let mut random = Random(11);
    let people = datoms / FACTS;
    // The `t`s of the commits that made checkpoints: what lies before them is in their trees.
    let mut checkpoints = vec![connection.db().basis_t()];
    for n in 0..700 {
        let text = if n % 2 == 0 {
            appended(n)
        } else {
            rescored(&mut random, people, 5)
        };
        let before = store.requests();
        let report = connection
            .transact(&TxData::parse(&text).unwrap())
            .await
            .unwrap();
        if (store.requests() - before).puts > 1 {
            checkpoints.push(report.t);
        }
    }
    let newest = connection.db();
    let sizes = newest.tree_sizes().await.unwrap();
    let height = |name: &str| {
        sizes
            .iter()
            .find(|size| size.name.to_string() == name)
            .map_or(0, |size| size.height)
    };
    let wanted = Value::Long(people.cast_signed() / 2);
    let lookup = LookupRef {
        attribute: Keyword::new("p/id"),
        value: wanted.clone(),
    };
    let e = newest
        .entid(&EntityRef::Lookup(lookup.clone()))
        .await
        .unwrap()
        .unwrap();
    let past_t = newest.basis_t() - 500;
    let replayed = leaves_replayed(&store, &checkpoints, past_t, height("log")).await;
    for (what, bound) in [
        ("point query by db_id", 1 + height("eavt")),
        (
            "point query by a unique attribute",
            1 + height("avet") + height("eavt"),
        ),
        (
            "as-of point query by db_id",
            1 + height("commits") + height("log") + height("eavt") + replayed,
        ),
    ] {
        let before = store.requests();
        let db = Db::open(&store, &BranchName::default()).await.unwrap();
        let e = if what.contains("unique") {
            db.entid(&EntityRef::Lookup(lookup.clone()))
                .await
                .unwrap()
                .unwrap()
        } else {
            e
        };
        let db = if what.contains("as-of") {
            db.as_of(TimePoint::T(past_t)).await.unwrap()
        } else {
            db
        };
        let found: Vec<Datom> = db
            .datoms(Index::Eavt, Components::all().e(e))
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        assert_eq!(found.len() as u64, FACTS);
        let did = store.requests() - before;
        let of = if what.contains("as-of") {
            format!(
                " (1 + {} commits + {} log + {} eavt + {replayed} leaves replayed)",
                height("commits"),
                height("log"),
                height("eavt"),
            )
        } else {
            String::new()
        };
        println!(
            "| {datoms} | {what} | {} | {:.1} | {bound}{of} |",
            did.gets,
            did.bytes_read as f64 / 1024.0
        );
    }
}

/// How many leaves of the log lie between the last checkpoint at or before `t` and `t`.
async fn leaves_replayed(store: &Store, checkpoints: &[u64], t: u64, height: u32) -> u32 {
    let covered = checkpoints.iter().rev().find(|made| **made <= t).unwrap() + 1;
    if covered > t {
        return 0;
    }
    let db = Db::open(store, &BranchName::default()).await.unwrap();
    let before = store.requests();
    let log: Vec<Datom> = db
        .tx_range(covered, Some(t + 1))
        .try_collect()
        .await
        .unwrap();
    assert!(!log.is_empty());
    let gets = u32::try_from((store.requests() - before).gets).unwrap();
    gets - (height - 1)
}

async fn import_rate(datoms: u64) {
    let (mut best, mut processor) = (f64::MAX, f64::MAX);
    for _ in 0..5 {
        let store = Store::memory();
        let connection = empty(&store).await;
        let import = people(&connection.db(), 0..datoms / FACTS);
        let (start, spent) = (Instant::now(), processor_time().as_secs_f64());
        connection.import(import).await.unwrap();
        best = best.min(start.elapsed().as_secs_f64());
        processor = processor.min(processor_time().as_secs_f64() - spent);
    }
    println!(
        "bulk import of {datoms} datoms in memory: {:.0} datoms/s, {:.0} a processor second",
        datoms as f64 / best,
        datoms as f64 / processor
    );
}

async fn batch_rate(datoms: u64) {
    let root = tempfile::tempdir().unwrap();
    let store = Store::file(root.path()).unwrap();
    let connection = empty(&store).await;
    let mut done = 0;
    let mut mark = (Instant::now(), processor_time().as_secs_f64(), 0u64);
    let mut marks = [100_000, 1_000_000, 2_000_000, 5_000_000]
        .into_iter()
        .filter(|mark| *mark < datoms)
        .chain([datoms])
        .peekable();
    let mut parsing = 0.0;
    while done < datoms {
        let first = done / FACTS;
        let text: String = (first..first + 1000)
            .map(|n| {
                format!(
                    "{{:p/id {n} :p/name \"name {}\" :p/age {} :p/city \"city {}\" :p/score {n}.5}}",
                    n % 99_991,
                    n % 100,
                    n % 500
                )
            })
            .collect();
        let start = Instant::now();
        let data = TxData::parse(&format!("[{text}]")).unwrap();
        parsing += start.elapsed().as_secs_f64();
        connection.transact(&data).await.unwrap();
        done += 1000 * FACTS;
        if marks.next_if(|next| done >= *next).is_some() {
            let seconds = mark.0.elapsed().as_secs_f64();
            let processor = processor_time().as_secs_f64() - mark.1;
            println!(
                "batches of 1,000 entities into a file store: {:.0} datoms/s, {:.0} a processor second ({:.0} % parsing EDN), from {} to {done} datoms",
                (done - mark.2) as f64 / seconds,
                (done - mark.2) as f64 / processor,
                100.0 * parsing / processor,
                mark.2,
            );
            mark = (Instant::now(), processor_time().as_secs_f64(), done);
            parsing = 0.0;
        }
    }
    let bytes: u64 = store
        .list_packs()
        .await
        .unwrap()
        .iter()
        .map(|pack| pack.len)
        .sum();
    println!(
        "packs written: {:.1} bytes a datom, superseded nodes included",
        bytes as f64 / done as f64
    );
}

/// Single commits that are durable when they return, against writing and syncing as many bytes.
async fn durable_commits() {
    const COMMITS: u64 = 500;
    let root = tempfile::tempdir().unwrap();
    let store = Store::file(root.path()).unwrap();
    let connection = filled(&store, 100_000).await;
    let bare = |name: &str, body: &[u8], replaces: bool| {
        let start = Instant::now();
        let path = root.path().join(name);
        let mut file = std::fs::File::create(&path).unwrap();
        std::io::Write::write_all(&mut file, body).unwrap();
        file.sync_all().unwrap();
        if replaces {
            std::fs::rename(&path, root.path().join("bare")).unwrap();
            std::fs::File::open(root.path())
                .unwrap()
                .sync_all()
                .unwrap();
        }
        start.elapsed().as_secs_f64() * 1e3
    };
    let (mut commits, mut synced, mut replaced) = (Vec::new(), Vec::new(), Vec::new());
    let mut bytes = 0;
    for n in 0..COMMITS {
        let data = TxData::parse(&appended(n)).unwrap();
        let before = store.requests();
        let start = Instant::now();
        connection.transact(&data).await.unwrap();
        commits.push(start.elapsed().as_secs_f64() * 1e3);
        let written = (store.requests() - before).bytes_written;
        bytes += written;
        let body = vec![7; usize::try_from(written).unwrap()];
        synced.push(bare("synced", &body, false));
        replaced.push(bare("replaced", &body, true));
    }
    for times in [&mut commits, &mut synced, &mut replaced] {
        times.sort_unstable_by(f64::total_cmp);
    }
    let at = |times: &[f64], percent: usize| times[times.len() * percent / 100];
    println!(
        "\n{COMMITS} durable commits of ten datoms, {:.1} KiB each, in turn with the same bytes written bare\n",
        bytes as f64 / 1024.0 / COMMITS as f64
    );
    println!("| what | median ms | 90 % | 99 % |\n|---|---|---|---|");
    for (what, times) in [
        ("commit", &commits),
        ("write, fsync", &synced),
        ("write, fsync, rename, fsync of the directory", &replaced),
    ] {
        println!(
            "| {what} | {:.2} | {:.2} | {:.2} |",
            at(times, 50),
            at(times, 90),
            at(times, 99)
        );
    }
}

/// The most memory that this process has held, in bytes.
fn memory_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// What an import holds: to be run alone in a process.
async fn import_memory(datoms: u64) {
    let store = Store::memory();
    let connection = empty(&store).await;
    let before = memory_peak();
    let import = people(&connection.db(), 0..datoms / FACTS);
    let made = memory_peak();
    connection.import(import).await.unwrap();
    let done = memory_peak();
    println!(
        "import of {datoms} datoms: {} bytes a datom are held before it, {} at most during it, of which {} are packs in memory",
        (made - before) / datoms,
        (done - before) / datoms,
        store.requests().bytes_written / datoms,
    );
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let most = std::env::args()
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(1_000_000);
    let sizes: Vec<u64> = [100_000, 1_000_000, 10_000_000]
        .into_iter()
        .filter(|n| *n <= most)
        .collect();
    let only = |what: &str| std::env::args().any(|arg| arg == what);
    if only("memory") {
        return runtime.block_on(import_memory(most));
    }
    if only("writes") {
        return runtime.block_on(async {
            import_rate(1_000_000).await;
            batch_rate(most).await;
            durable_commits().await;
        });
    }
    runtime.block_on(async {
        println!("10-datom transactions\n");
        println!("| datoms | kind | PUTs/tx | KiB/tx | largest small commit KiB | checkpoints | PUTs of one | nodes written of one | nodes reused | path copying KiB/tx | ratio | stored bytes/datom | median ms of a small commit |");
        println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
        for datoms in &sizes {
            small_transactions(*datoms).await;
        }
        println!("\ncold queries\n\n| datoms | query | GETs | KiB | bound |\n|---|---|---|---|---|");
        for datoms in &sizes {
            cold(*datoms).await;
        }
        println!();
        import_rate(1_000_000).await;
        batch_rate(most).await;
        durable_commits().await;
    });
}
