//! The node codec: how fast leaves are encoded and decoded, and how small they are.
//!
//! Prints bytes per datom of each kind of leaf; criterion prints datoms per second. Decoding includes
//! checksum, decompression and BLAKE3.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datomfusion::edn::Keyword;
use datomfusion::{Datom, Entid, TxId, Value, fuzz};

/// A number that looks random but is not.
fn scatter(seed: i64) -> u64 {
    let mut bits = seed.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits ^= bits >> 31;
    bits = bits.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits ^ (bits >> 29)
}

fn pick<'a>(seed: i64, words: &[&'a str]) -> &'a str {
    words[usize::try_from(scatter(seed) % words.len() as u64).expect("a small number")]
}

/// One attribute of `rows` entities, most of which have it, asserted by many transactions.
fn attribute(rows: i64, value: impl Fn(i64) -> Value) -> Vec<Datom> {
    (0..rows)
        .map(|row| {
            let e = 1024 + row * 8 / 7;
            let tx = TxId::from_t(1 + (row / 20).cast_unsigned());
            Datom::add(Entid(e), Entid(72), value(e), tx)
        })
        .collect()
}

/// Seven attributes an entity, of different types.
fn entities(rows: i64) -> Vec<Datom> {
    let datom = |row: i64| {
        let (e, field) = (1024 + row / 7, row % 7);
        let value = match field {
            0 => Value::string(format!("{} {}", pick(e, &FIRST), pick(e + 1, &LAST))),
            1 => Value::string(format!("{}{e}@example.org", pick(e, &FIRST).to_lowercase())),
            2 => Value::Long((scatter(e) % 80).cast_signed()),
            3 => Value::Keyword(Keyword::new(pick(e + 2, &["status/open", "status/closed"]))),
            4 => Value::Ref(Entid(900 + (scatter(e + 3) % 50).cast_signed())),
            5 => Value::Instant(1_600_000_000_000 + e * 60_000),
            _ => Value::Boolean(scatter(e + 4).is_multiple_of(2)),
        };
        let tx = TxId::from_t(1 + (e / 3).cast_unsigned());
        Datom::add(Entid(e), Entid(72 + field), value, tx)
    };
    (0..rows).map(datom).collect()
}

const FIRST: [&str; 8] = [
    "Ann", "Bob", "Cleo", "David", "Emma", "Frank", "Grace", "Hugo",
];
const LAST: [&str; 6] = ["Smith", "Jones", "Miller", "Brown", "Garcia", "Wilson"];

fn node(c: &mut Criterion) {
    let leaves = [
        (
            "aevt long",
            attribute(4096, |e| Value::Long((scatter(e) % 10_000).cast_signed())),
        ),
        (
            "aevt name",
            attribute(4096, |e| Value::string(pick(e, &FIRST))),
        ),
        (
            "aevt email",
            attribute(4096, |e| {
                Value::string(format!("{}{e}@example.org", pick(e, &FIRST)))
            }),
        ),
        ("eavt mixed", entities(1024)),
    ];
    for (name, datoms) in leaves {
        let (id, frame, raw_bytes) = fuzz::encode_leaf(&datoms);
        let rows = datoms.len();
        // Hundredths of a byte, in whole numbers.
        let per_datom = |bytes: usize| {
            let hundredths = bytes * 100 / rows;
            format!("{}.{:02}", hundredths / 100, hundredths % 100)
        };
        println!(
            "{name}: {} bytes a datom raw, {} in a pack",
            per_datom(raw_bytes),
            per_datom(frame.len())
        );
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function("decode", |b| {
            b.iter(|| fuzz::decode_node(&frame, id).expect("the frame is intact"));
        });
        group.bench_function("encode", |b| b.iter(|| fuzz::encode_leaf(&datoms)));
        group.finish();
    }
}

criterion_group!(benches, node);
criterion_main!(benches);
