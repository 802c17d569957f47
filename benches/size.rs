//! What a datom takes: `cargo bench --no-default-features --features fs --bench size [-- DATOMS…]`.
//!
//! All figures are counts, the same on every machine.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded anyway")]

mod support {
    pub mod people;
    pub mod random;
}

use std::path::Path;
use std::time::Duration;

use datomfusion::{
    BranchName, Connection, GcOptions, Retention, Seeded, Store, TreeSize, TxData, gc_in,
};

use support::people::{FACTS, filled, rescored, sizes};
use support::random::Random;

/// Prints what a database takes, by tree and in all.
async fn line(what: &str, store: &Store) {
    let connection = Connection::open_in(store, BranchName::default(), Seeded::new(9))
        .await
        .unwrap();
    // What waits in the head goes into the trees, where it can be counted.
    connection.checkpoint().await.unwrap();
    let sizes = connection.db().tree_sizes().await.unwrap();
    let of = |names: &[&str]| -> Vec<TreeSize> {
        let wanted = |size: &&TreeSize| names.contains(&&*size.name.to_string());
        sizes.iter().filter(wanted).copied().collect()
    };
    let said = of(&["log"])[0].datoms;
    let each = |names: &[&str]| {
        let bytes: u64 = of(names).iter().map(|size| size.bytes).sum();
        format!("{:.2}", bytes as f64 / said as f64)
    };
    let history: Vec<String> = sizes
        .iter()
        .map(|size| size.name.to_string())
        .filter(|name| name.contains("history"))
        .collect();
    let history: Vec<&str> = history.iter().map(String::as_str).collect();
    let living: u64 = sizes.iter().map(|size| size.bytes).sum();
    let packs = store.list_packs().await.unwrap();
    let stored: u64 = packs.iter().map(|pack| pack.len).sum();
    println!(
        "| {what} | {said} | {} | {} | {} | {} | {} | {} | {:.2} | {:.2} |",
        each(&["eavt"]),
        each(&["aevt"]),
        each(&["avet"]),
        each(&history),
        each(&["log"]),
        each(&["commits"]),
        living as f64 / said as f64,
        stored as f64 / said as f64,
    );
}

/// Collects all but the newest checkpoint.
async fn collect(store: &Store) {
    for seed in [61, 62] {
        let options = GcOptions {
            retention: Retention::newest_only(),
            grace: Duration::ZERO,
            ..GcOptions::default()
        };
        gc_in(store, &options, Seeded::new(seed)).await.unwrap();
    }
}

async fn people(datoms: u64) {
    let root = tempfile::tempdir().unwrap();
    let store = Store::file(root.path()).unwrap();
    let connection = filled(&store, datoms).await;
    line(&format!("people {datoms}, imported"), &store).await;
    let mut random = Random(7);
    for _ in 0..1024 {
        let text = rescored(&mut random, datoms / FACTS, 5);
        let data = TxData::parse(&text).unwrap();
        connection.transact(&data).await.unwrap();
    }
    line("… after 1,024 updates", &store).await;
    collect(&store).await;
    line("… collected", &store).await;
}

async fn chinook() {
    let root = tempfile::tempdir().unwrap();
    let facts = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/chinook");
    let sales = ["schema", "people", "2021", "2022", "2023", "2024", "2025"];
    let sales: Vec<String> = sales.map(|part| format!("sales-{part}.edn")).into();
    let catalog = vec!["catalog-schema.edn".to_owned(), "catalog.edn".to_owned()];
    for (what, files) in [("catalog", catalog), ("sales", sales)] {
        let store = Store::file(&root.path().join(what)).unwrap();
        let connection = Connection::create_in(&store, BranchName::default(), Seeded::new(1))
            .await
            .unwrap();
        for file in files {
            let text = std::fs::read_to_string(facts.join(file)).unwrap();
            let data = TxData::parse(&text).unwrap();
            connection.transact(&data).await.unwrap();
        }
        line(&format!("Chinook, {what}"), &store).await;
        collect(&store).await;
        line("… collected", &store).await;
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    println!("bytes for each datom that was ever said\n");
    println!(
        "| data | datoms | EAVT | AEVT | AVET | history | LOG | commits | living nodes | packs |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    runtime.block_on(async {
        for datoms in sizes(&[100_000, 1_000_000]) {
            people(datoms).await;
        }
        chinook().await;
    });
}
