//! Reading behind a storage that takes 30 ms to answer anything, with nothing in the cache:
//! `cargo bench --no-default-features --features fs --bench cold [-- DATOMS…]`.
//!
//! Rounds are exact and the same on every machine; milliseconds are of one run.

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded anyway")]

mod support {
    pub mod latency;
    pub mod people;
    pub mod random;
}

use std::sync::Arc;
use std::time::{Duration, Instant};

use datomfusion::{
    BranchName, Components, Datom, Db, EntityRef, Index, LookupRef, Store, TimePoint, TxData,
    Value, edn::Keyword,
};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;

use support::latency::Latency;
use support::people::{FACTS, appended, filled, rescored, sizes};
use support::random::Random;

const DELAY: Duration = Duration::from_millis(30);
/// Small transactions after the import, of ten datoms each.
const TRANSACTIONS: u64 = 1_100;

fn store(objects: impl ObjectStore) -> Store {
    Store::from_object_store(Arc::new(objects), Path::from("db"), "slow")
}

async fn database(objects: &Arc<InMemory>, datoms: u64) -> Db {
    let connection = filled(&store(Arc::clone(objects)), datoms).await;
    let mut random = Random(11);
    for n in 0..TRANSACTIONS {
        let text = if n % 2 == 0 {
            appended(n)
        } else {
            rescored(&mut random, datoms / FACTS, 5)
        };
        let data = TxData::parse(&text).unwrap();
        connection.transact(&data).await.unwrap();
    }
    connection.db()
}

/// Opens the newest value anew, reads, and prints what it took.
async fn measure(
    objects: &Arc<InMemory>,
    what: &str,
    bound: &str,
    read: impl AsyncFn(Db) -> usize,
) {
    let mut best = f64::MAX;
    let mut line = String::new();
    for _ in 0..3 {
        let (latency, asked) = Latency::new(objects, DELAY);
        let store = store(latency);
        let start = Instant::now();
        let db = Db::open(&store, &BranchName::default()).await.unwrap();
        let rows = read(db).await;
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
        let did = store.requests();
        line = format!(
            "{rows} | {} | {} | {} | {:.0}",
            asked.rounds(),
            did.gets,
            asked.most(),
            did.bytes_read as f64 / 1024.0
        );
    }
    println!("| {what} | {line} | {best:.0} | {bound} |");
}

async fn count(db: &Db, index: Index, components: Components) -> usize {
    let mut rows = 0;
    let mut datoms = db.datoms(index, components).unwrap();
    while datoms.try_next().await.unwrap().is_some() {
        rows += 1;
    }
    rows
}

async fn table(datoms: u64) {
    let objects = Arc::new(InMemory::new());
    let newest = database(&objects, datoms).await;
    let sizes = newest.tree_sizes().await.unwrap();
    let height = |name: &str| {
        let size = sizes.iter().find(|size| size.name.to_string() == name);
        size.map_or(0, |size| size.height)
    };
    let (eavt, avet) = (height("eavt"), height("avet"));
    let past = height("commits").max(height("log")) + 1;
    let lookup = EntityRef::Lookup(LookupRef {
        attribute: Keyword::new("p/id"),
        value: Value::Long((datoms / FACTS / 2).cast_signed()),
    });
    let e = newest.entid(&lookup).await.unwrap().unwrap();
    let name = newest.schema().entid(&Keyword::new("p/name")).unwrap();
    let t = newest.basis_t();
    println!("\n{datoms} datoms, {TRANSACTIONS} small transactions\n");
    println!(
        "| cold, {DELAY:?} a request | rows | rounds | GETs | most at once | KiB | ms | rounds at most |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let objects = &objects;
    measure(objects, "open", "1", async |_| 0).await;
    let entity = Components::all().e(e);
    let bound = format!("{} = 1 + {eavt}", 1 + eavt);
    measure(objects, "point query by id", &bound, async |db| {
        count(&db, Index::Eavt, entity.clone()).await
    })
    .await;
    let bound = format!("{} = 1 + {avet} + {eavt}", 1 + avet + eavt);
    measure(
        objects,
        "point query by a unique attribute",
        &bound,
        async |db| {
            let e = db.entid(&lookup).await.unwrap().unwrap();
            count(&db, Index::Eavt, Components::all().e(e)).await
        },
    )
    .await;
    for ago in [10, 500, 1_000] {
        let bound = match ago {
            10 => format!("{} = 1 + {eavt}", 1 + eavt),
            _ => format!("{} = 1 + {past} + {eavt}", 1 + past + eavt),
        };
        let what = format!("point query by id, as of {ago} ago");
        measure(objects, &what, &bound, async |db| {
            let db = db.as_of(TimePoint::T(t - ago)).await.unwrap();
            count(&db, Index::Eavt, entity.clone()).await
        })
        .await;
    }
    let scans = [
        ("all of EAVT", Index::Eavt, Components::all()),
        ("all of AEVT", Index::Aevt, Components::all()),
        ("one attribute", Index::Aevt, Components::all().a(name)),
        (
            "one attribute by value",
            Index::Avet,
            Components::all().a(name),
        ),
    ];
    for (what, index, components) in scans {
        measure(objects, what, "", async |db| {
            count(&db, index, components.clone()).await
        })
        .await;
        measure(objects, &format!("{what}, as of 500 ago"), "", async |db| {
            let db = db.as_of(TimePoint::T(t - 500)).await.unwrap();
            count(&db, index, components.clone()).await
        })
        .await;
    }
    measure(objects, "all of EAVT with history", "", async |db| {
        count(&db.history(), Index::Eavt, Components::all()).await
    })
    .await;
    let bound = format!("{} = 1 + {eavt}", 1 + eavt);
    measure(objects, "the first datom of EAVT", &bound, async |db| {
        let mut datoms = db.datoms(Index::Eavt, Components::all()).unwrap();
        let first: Option<Datom> = datoms.try_next().await.unwrap();
        usize::from(first.is_some())
    })
    .await;
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    for datoms in sizes(&[100_000, 1_000_000]) {
        runtime.block_on(table(datoms));
    }
}
