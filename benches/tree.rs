//! Trees: bulk building, small edits, scans and look-ups, in datoms per second, on nodes in memory.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use datomfusion::bench::{
    Change, Direction, Loader, NodeWriter, Range, Tree, TreeName, build, count, diff, edit, get,
    scan,
};
use datomfusion::{Components, Datom, Entid, PackId, Store, TxId, Value};
use futures::TryStreamExt as _;
use tokio::runtime::Runtime;

fn loader() -> Arc<Loader> {
    Arc::new(Loader::new(Store::memory()))
}

fn writer(loader: &Arc<Loader>) -> NodeWriter {
    let mut packs = 0u128;
    let new_pack = move || {
        packs += 1;
        PackId(packs.to_le_bytes())
    };
    NodeWriter::new(Arc::clone(loader), Box::new(new_pack))
}

/// Entities with ten attributes each, numbers and short strings, in the order of a tree.
fn datoms(name: TreeName, len: i64) -> Vec<Datom> {
    let value = |i: i64| match i % 10 {
        0..6 => Value::Long(i * 7919 % 100_000),
        6..9 => Value::string(format!("name {}", i * 31 % 10_000)),
        _ => Value::Ref(Entid(i % 5000)),
    };
    let mut datoms: Vec<Datom> = (0..len)
        .map(|i| {
            let (e, a) = (Entid(5000 + i / 10), Entid(100 + i % 10));
            Datom::add(e, a, value(i), TxId::from_t(i.unsigned_abs() / 1000))
        })
        .collect();
    datoms.sort_by(|left, right| name.order().compare(left, right));
    datoms
}

fn throughput(len: usize) -> Throughput {
    Throughput::Elements(len as u64)
}

fn building(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime starts");
    let mut group = c.benchmark_group("build");
    group.sample_size(10);
    for name in [
        TreeName::Eavt,
        TreeName::Aevt,
        TreeName::Avet,
        TreeName::Log,
    ] {
        let datoms = datoms(name, 1_000_000);
        group.throughput(throughput(datoms.len()));
        group.bench_with_input(BenchmarkId::from_parameter(name), &datoms, |b, datoms| {
            b.iter_batched(
                || (writer(&loader()), datoms.clone()),
                |(mut writer, datoms)| {
                    runtime
                        .block_on(build(&mut writer, name, datoms))
                        .expect("memory does not fail")
                },
                criterion::BatchSize::PerIteration,
            );
        });
    }
}

/// A tree of `len` datoms whose nodes are all in the cache.
fn cached(runtime: &Runtime, datoms: &[Datom], name: TreeName) -> (Arc<Loader>, Tree) {
    let loader = loader();
    let tree = runtime.block_on(async {
        let mut writer = writer(&loader);
        let tree = build(&mut writer, name, datoms.iter().cloned()).await;
        writer.finish().await.expect("memory does not fail");
        tree.expect("memory does not fail")
    });
    (loader, tree)
}

fn using(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime starts");
    for (label, len) in [("1e5", 100_000), ("1e6", 1_000_000)] {
        let name = TreeName::Eavt;
        let datoms = datoms(name, len);
        let (loader, tree) = cached(&runtime, &datoms, name);
        let changes: Vec<Change> = (0..10)
            .map(|i| {
                let old = &datoms[(i * 7919 * 104_729 + 13) % datoms.len()];
                Datom {
                    v: Value::Long(-1),
                    ..old.clone()
                }
            })
            .map(Change::Insert)
            .collect();
        let mut changes = changes;
        changes.sort_by(|left, right| name.order().compare(left.key(), right.key()));
        changes.dedup();
        let mut group = c.benchmark_group(label);
        group.bench_function("edit of ten", |b| {
            b.iter_batched(
                || writer(&loader),
                |mut writer| {
                    runtime
                        .block_on(edit(&loader, &mut writer, &tree, &changes))
                        .expect("memory does not fail")
                },
                criterion::BatchSize::PerIteration,
            );
        });
        let mut edit_writer = writer(&loader);
        let edited = runtime
            .block_on(edit(&loader, &mut edit_writer, &tree, &changes))
            .expect("memory does not fail");
        group.bench_function("diff of ten", |b| {
            b.iter(|| {
                let differences = diff((&loader, &loader), &tree, &edited.tree);
                let differences: Vec<_> = runtime
                    .block_on(differences.try_collect())
                    .expect("memory does not fail");
                assert_eq!(differences.len(), changes.len());
            });
        });
        let key = &datoms[datoms.len() / 3];
        group.bench_function("look-up", |b| {
            b.iter(|| {
                runtime
                    .block_on(get(&loader, &tree, black_box(key)))
                    .expect("no failure")
            });
        });
        let range = Range::prefix(Components::all().e(key.e));
        group.bench_function("count", |b| {
            b.iter(|| {
                runtime
                    .block_on(count(&loader, &tree, black_box(&range)))
                    .expect("no failure")
            });
        });
        group.sample_size(20).throughput(throughput(datoms.len()));
        group.bench_function("scan", |b| {
            b.iter(|| {
                let slices = scan(&loader, &tree, Range::all(), Direction::Forward);
                let sum = slices.try_fold(0, |sum, slice| async move {
                    Ok(slice.leaf.e()[slice.rows]
                        .iter()
                        .fold(sum, |sum, e| sum ^ e))
                });
                runtime.block_on(sum).expect("memory does not fail")
            });
        });
    }
}

criterion_group!(benches, building, using);
criterion_main!(benches);
