//! The order of joins: statements of the shapes of the Join Order Benchmark over films that are made up,
//! `cargo bench --bench joins [-- FILMS]`.
//!
//! The benchmark's queries (Leis et al., *How good are query optimizers, really?*, 2015) join up to 17 tables of
//! IMDB in 33 ways; 113 statements differ in their conditions. Its data are not here: these tables are
//! **synthetic**, with its references, and with skew (few films have most companies, keywords and people). The
//! conditions are drawn by a seed. Each statement is run as it is written, which DataFusion follows, and with
//! joins ordered by cost; times are the least of three runs with planning, or the limit where one takes longer.
//! For the smallest shapes every order of the tables is tried.

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(clippy::cast_precision_loss, reason = "figures")]

#[path = "support/random.rs"]
mod random;

use std::fmt::Write;
use std::time::{Duration, Instant};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use datomfusion::{Connection, Entid, Federation, Import, Store, TxData, Value};
use random::Random;

/// What one statement may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A table: its name in statements, its rows per hundred films (or in all, where they do not grow), what it refers
/// to, and how many values its column `v` has.
struct Table {
    name: &'static str,
    rows: Rows,
    refers: &'static [&'static str],
    values: u64,
}

#[derive(Clone, Copy)]
enum Rows {
    All(u64),
    PerHundred(u64),
}

const fn table(
    name: &'static str,
    rows: Rows,
    refers: &'static [&'static str],
    values: u64,
) -> Table {
    Table {
        name,
        rows,
        refers,
        values,
    }
}

/// Each after those that it refers to.
const TABLES: [Table; 21] = [
    table("kt", Rows::All(7), &[], 7),
    table("ct", Rows::All(4), &[], 4),
    table("it", Rows::All(110), &[], 110),
    table("rt", Rows::All(12), &[], 12),
    table("lt", Rows::All(18), &[], 18),
    table("cct", Rows::All(4), &[], 4),
    table("k", Rows::PerHundred(5), &[], 1000),
    table("cn", Rows::PerHundred(10), &[], 100),
    table("n", Rows::PerHundred(160), &[], 500),
    table("chn", Rows::PerHundred(120), &[], 500),
    table("t", Rows::PerHundred(100), &["kt"], 130),
    table("aka", Rows::PerHundred(15), &["t"], 100),
    table("an", Rows::PerHundred(35), &["n"], 100),
    table("mc", Rows::PerHundred(100), &["t", "cn", "ct"], 100),
    table("mi", Rows::PerHundred(500), &["t", "it"], 1000),
    table("mi_idx", Rows::PerHundred(55), &["t", "it"], 100),
    table("mk", Rows::PerHundred(180), &["t", "k"], 100),
    table("ci", Rows::PerHundred(1000), &["t", "n", "rt", "chn"], 50),
    table("pi", Rows::PerHundred(110), &["n", "it"], 100),
    table("cc", Rows::PerHundred(5), &["t", "cct", "cct2"], 10),
    table("ml", Rows::PerHundred(2), &["t", "t2", "lt"], 10),
];

/// The tables of the benchmark's 33 joins.
const SHAPES: [&str; 33] = [
    "ct it mc mi_idx t",
    "cn k mc mk t",
    "k mi mk t",
    "it k mi_idx mk t",
    "ct it mc mi t",
    "ci k mk n t",
    "an ci it lt ml n pi t",
    "an ci cn mc n rt t",
    "an chn ci cn mc n rt t",
    "chn ci cn ct mc rt t",
    "cn ct k lt mc mk ml t",
    "cn ct it1 it2 mc mi mi_idx t",
    "cn ct it1 it2 kt mc mi mi_idx t",
    "it1 it2 k kt mi mi_idx mk t",
    "aka cn ct it k mc mi mk t",
    "an ci cn k mc mk n t",
    "ci cn k mc mk n t",
    "ci it1 it2 mi mi_idx n t",
    "an chn ci cn it mc mi n rt t",
    "cct1 cct2 cc chn ci k kt mk n t",
    "cn ct k lt mc mi mk ml t",
    "cn ct it1 it2 k kt mc mi mi_idx mk t",
    "cct1 cc cn ct it k kt mc mi mk t",
    "an chn ci cn it k mc mi mk n rt t",
    "ci it1 it2 k mi mi_idx mk n t",
    "cct1 cct2 cc chn ci it2 k kt mi_idx mk n t",
    "cct1 cct2 cc cn ct k lt mc mi mk ml t",
    "cct1 cct2 cc cn ct it1 it2 k kt mc mi mi_idx mk t",
    "an cct1 cct2 cc chn ci cn it1 it3 k mc mi mk n pi rt t",
    "cct1 cct2 cc ci it1 it2 k mi mi_idx mk n t",
    "ci cn it1 it2 k mc mi mi_idx mk n t",
    "k lt mk ml t1 t2",
    "cn1 cn2 it1 it2 kt1 kt2 lt mc1 mc2 mi_idx1 mi_idx2 ml t1 t2",
];

/// The table of an alias.
fn of_alias(alias: &str) -> &'static Table {
    let name = alias.trim_end_matches(|c: char| c.is_ascii_digit());
    TABLES.iter().find(|table| table.name == name).unwrap()
}

/// Films, and all that refers to them.
async fn films(count: u64) -> Federation {
    let connection = Connection::create(&Store::memory()).await.unwrap();
    let mut schema = String::from("[");
    let mut attribute = |ident: &str, kind: &str| {
        write!(
            schema,
            "{{:db/ident :{ident} :db/valueType :db.type/{kind} :db/cardinality :db.cardinality/one}}"
        )
        .unwrap();
    };
    for table in &TABLES {
        attribute(&format!("{}/v", table.name), "long");
        for to in table.refers {
            attribute(&format!("{}/{to}", table.name), "ref");
        }
    }
    schema.push(']');
    connection
        .transact(&TxData::parse(&schema).unwrap())
        .await
        .unwrap();
    let mut federation = Federation::new();
    let mut random = Random(1);
    let mut ids: Vec<(&str, i64, u64)> = Vec::new();
    for table in &TABLES {
        let rows = match table.rows {
            Rows::All(rows) => rows,
            Rows::PerHundred(rows) => (count * rows / 100).max(1),
        };
        let mut import = Import::new(connection.db().schema());
        let v = import.attribute(&format!("{}/v", table.name)).unwrap();
        let refers: Vec<(Entid, i64, u64)> = table
            .refers
            .iter()
            .map(|to| {
                let attribute = import.attribute(&format!("{}/{to}", table.name)).unwrap();
                let to = of_alias(to).name;
                let (_, first, rows) = ids.iter().find(|(name, ..)| *name == to).unwrap();
                (attribute, *first, *rows)
            })
            .collect();
        for row in 0..rows {
            // Values of small tables are names; elsewhere some are more common than others.
            let value = match table.rows {
                Rows::All(_) => row,
                Rows::PerHundred(_) => skewed(&mut random, table.values),
            };
            let mut facts = vec![(v, Value::Long(value.cast_signed()))];
            for (attribute, first, rows) in &refers {
                let to = first + popular(&mut random, *rows).cast_signed();
                facts.push((*attribute, Value::Ref(Entid(to))));
            }
            import.entity(facts).unwrap();
        }
        connection.import(import).await.unwrap();
        federation = Federation::new();
        federation.attach("films", connection.db()).unwrap();
        let sql = format!("SELECT min(db_id) FROM films.{}", table.name);
        let batches = federation.query(&sql).await.unwrap();
        let first = batches[0].column(0).as_primitive::<Int64Type>().value(0);
        ids.push((table.name, first, rows));
    }
    federation
}

/// A value below `count`, small ones far more often: three times of four below a third.
fn skewed(random: &mut Random, count: u64) -> u64 {
    powered(random, count, 4)
}

/// What is referred to, of `count`: the most popular film of 20,000 has 140 times its share.
fn popular(random: &mut Random, count: u64) -> u64 {
    powered(random, count, 2)
}

fn powered(random: &mut Random, count: u64, power: i32) -> u64 {
    let at = random.below(1 << 20) as f64 / f64::from(1 << 20);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "below the count"
    )]
    let number = (at.powi(power) * count as f64) as u64;
    number.min(count - 1)
}

/// The equalities and conditions of a shape.
fn conditions(aliases: &[&str], random: &mut Random) -> String {
    let mut conditions = Vec::new();
    for alias in aliases {
        let number: String = alias.chars().filter(char::is_ascii_digit).collect();
        let table = of_alias(alias);
        for column in table.refers {
            let base = of_alias(column).name;
            // Among several of one table: of the same number, or what the benchmark joins with it.
            let wanted = match (table.name, *column) {
                ("ml", "t2") => "t2".to_owned(),
                ("ml", "t") if aliases.contains(&"t1") => "t1".to_owned(),
                ("cc", "cct") => "cct1".to_owned(),
                ("cc", "cct2") => "cct2".to_owned(),
                ("mi", "it") if aliases.contains(&"it1") => "it1".to_owned(),
                ("mi_idx", "it") if number.is_empty() && aliases.contains(&"it2") => {
                    "it2".to_owned()
                }
                ("pi", "it") if aliases.contains(&"it3") => "it3".to_owned(),
                ("mk", "t") if aliases.contains(&"t1") => "t1".to_owned(),
                _ if number.is_empty() => base.to_owned(),
                _ => format!("{base}{number}"),
            };
            if aliases.contains(&&*wanted) {
                conditions.push(format!("{alias}.{column} = {wanted}.db_id"));
            }
        }
        // Of large tables, a value that is as common as one of its rows.
        let value = match table.rows {
            Rows::All(_) => random.below(table.values),
            Rows::PerHundred(_) => skewed(random, table.values),
        };
        match (table.rows, random.below(10)) {
            (Rows::All(_), 0..8) => conditions.push(format!("{alias}.v = {value}")),
            (Rows::PerHundred(_), 0..3) => conditions.push(format!("{alias}.v > {value}")),
            (Rows::PerHundred(_), 3..5) => conditions.push(format!("{alias}.v = {value}")),
            _ => {}
        }
    }
    conditions.join(" AND ")
}

fn statement(aliases: &[&str], conditions: &str) -> String {
    let from: Vec<String> = aliases
        .iter()
        .map(|alias| format!("films.{} {alias}", of_alias(alias).name))
        .collect();
    format!(
        "SELECT count(*) FROM {} WHERE {conditions}",
        from.join(", ")
    )
}

/// The least time of a statement, and what it counts; nothing if the limit was reached.
async fn run(
    federation: &Federation,
    session: &SessionContext,
    sql: &str,
    times: usize,
) -> Option<(Duration, i64)> {
    let mut least: Option<(Duration, i64)> = None;
    for _ in 0..times {
        let start = Instant::now();
        let answer = async { federation.sql_in(session, sql).await?.collect().await };
        let batches = tokio::time::timeout(LIMIT, answer).await.ok()?.unwrap();
        let count = batches[0].column(0).as_primitive::<Int64Type>().value(0);
        let taken = start.elapsed();
        least = Some(least.map_or((taken, count), |(known, _)| (known.min(taken), count)));
        if taken > LIMIT / 10 {
            break;
        }
    }
    least
}

/// Every order of some things.
fn orders<'a>(rest: &[&'a str]) -> Vec<Vec<&'a str>> {
    if rest.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for at in 0..rest.len() {
        let mut others = rest.to_vec();
        let first = others.remove(at);
        for mut order in orders(&others) {
            order.insert(0, first);
            all.push(order);
        }
    }
    all
}

fn main() {
    let mut given = std::env::args().filter_map(|arg| arg.parse().ok());
    let count: u64 = given.next().unwrap_or(20_000);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(measure(count));
}

async fn measure(count: u64) {
    let federation = films(count).await;
    let ordered = federation.session_context();
    let written = federation.session_context();
    assert!(written.remove_optimizer_rule("join_order"));
    println!(
        "{count} films; least milliseconds with planning, one thread for the session's partitions"
    );
    println!(
        "{:6} {:>6} {:>10} {:>10} {:>8}",
        "shape", "tables", "written", "ordered", "ratio"
    );
    let (mut logs, mut worst, mut against_best) = (Vec::new(), f64::MAX, Vec::new());
    for number in 0..113_usize {
        let shape = number % SHAPES.len();
        let variant = number / SHAPES.len();
        let aliases: Vec<&str> = SHAPES[shape].split(' ').collect();
        let mut random = Random(number as u64 + 1);
        let conditions = conditions(&aliases, &mut random);
        let sql = statement(&aliases, &conditions);
        let before = run(&federation, &written, &sql, 3).await;
        let after = run(&federation, &ordered, &sql, 3).await;
        if let (Some((_, one)), Some((_, other))) = (before, after) {
            assert_eq!(one, other, "{sql}");
        }
        let taken = |found: Option<(Duration, i64)>| {
            found.map_or(LIMIT, |(taken, _)| taken).as_secs_f64() * 1e3
        };
        let (before, after) = (taken(before), taken(after));
        let ratio = before / after;
        logs.push(ratio.ln());
        worst = worst.min(ratio);
        let name = format!(
            "{}{}",
            shape + 1,
            char::from(b'a' + u8::try_from(variant).unwrap())
        );
        println!(
            "{name:6} {:6} {before:10.2} {after:10.2} {ratio:8.2}",
            aliases.len()
        );
        if aliases.len() <= 4 || (aliases.len() == 5 && variant == 0) {
            let mut best = f64::MAX;
            for order in orders(&aliases) {
                let sql = statement(&order, &conditions);
                best = best.min(taken(run(&federation, &written, &sql, 2).await));
            }
            against_best.push((name, after / best));
        }
    }
    let mean = (logs.iter().sum::<f64>() / logs.len() as f64).exp();
    println!("geometric mean of written / ordered: {mean:.2}; the worst: {worst:.2}");
    for (name, ratio) in against_best {
        println!("{name}: ordered / the best of all orders: {ratio:.2}");
    }
}
