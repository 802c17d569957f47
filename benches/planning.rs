//! What planning a query costs, stage by stage, and what each rule of `DataFusion` that Datalog's plans go without
//! would add: `cargo bench --bench planning [-- PEOPLE]`.
//!
//! Times are the least of 400 runs, in microseconds. A rule's share is the least time with it, at its place among
//! ours, less the least without it, in turns with each other. So small differences are noise, and a negative one is
//! nothing else.

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

mod support {
    pub mod random;
}

use std::sync::Arc;
use std::time::Instant;

use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datomfusion::bench::Stages;
use datomfusion::{Connection, Db, Import, Inputs, Store, TxData, Value};
use datomfusion_datalog::ast::Query;
use datomfusion_datalog::fresh;

use support::random::Random;

const SCHEMA: &str = "[
    {:db/ident :name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
    {:db/ident :last-name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
    {:db/ident :sex :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
    {:db/ident :age :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
    {:db/ident :salary :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
    {:db/ident :friend :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]";

const QUERIES: [(&str, &str); 7] = [
    ("q1", r#"[:find ?e :where [?e :name "Ivan"]]"#),
    (
        "q2",
        r#"[:find ?e ?a :where [?e :name "Ivan"] [?e :age ?a]]"#,
    ),
    (
        "q3",
        r#"[:find ?e ?a :where [?e :name "Ivan"] [?e :age ?a] [?e :sex "male"]]"#,
    ),
    (
        "q4",
        r#"[:find ?e ?l ?a :where [?e :name "Ivan"] [?e :last-name ?l] [?e :age ?a] [?e :sex "male"]]"#,
    ),
    (
        "qpred",
        "[:find ?e ?s :where [?e :salary ?s] [(> ?s 50000)]]",
    ),
    (
        "qagg",
        "[:find ?x (avg ?s) :with ?e :where [?e :sex ?x] [?e :salary ?s]]",
    ),
    (
        "qjoin",
        r#"[:find ?e ?f :where [?e :name "Ivan"] [?e :friend ?n] [?f :last-name ?n] [?f :name "Petr"]]"#,
    ),
];

const RUNS: usize = 400;

type Logical = Arc<dyn OptimizerRule + Send + Sync>;
type Physical = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

async fn people(count: usize) -> Db {
    let connection = Connection::create(&Store::memory()).await.unwrap();
    let schema = TxData::parse(SCHEMA).unwrap();
    connection.transact(&schema).await.unwrap();
    let mut import = Import::new(connection.db().schema());
    let [name, last_name, sex, age, salary, friend] =
        ["name", "last-name", "sex", "age", "salary", "friend"]
            .map(|ident| import.attribute(ident).unwrap());
    let names = ["Ivan", "Petr", "Oleg", "Yuri"];
    let last_names = ["Ivanov", "Petrov", "Sidorov", "Kovalev"];
    let mut random = Random(20_261_123);
    for _ in 0..count {
        let text = |random: &mut Random, all: &[&'static str]| Value::string(random.one_of(all));
        let own = [
            (name, text(&mut random, &names)),
            (last_name, text(&mut random, &last_names)),
            (sex, text(&mut random, &["male", "female"])),
            (age, Value::Long(random.below(100).cast_signed())),
            (salary, Value::Long(random.below(100_000).cast_signed())),
            (friend, text(&mut random, &last_names)),
        ];
        import.entity(own).unwrap();
    }
    connection.import(import).await.unwrap();
    connection.db()
}

/// The least of many runs, in microseconds.
async fn least<T>(mut run: impl AsyncFnMut() -> T) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..RUNS {
        let start = Instant::now();
        let made = run().await;
        least = least.min(start.elapsed().as_secs_f64() * 1e6);
        drop(made);
    }
    least
}

/// A session with other rules.
fn with_rules(
    state: &SessionState,
    logical: Vec<Logical>,
    physical: Vec<Physical>,
) -> SessionState {
    SessionStateBuilder::new_from_existing(state.clone())
        .with_optimizer_rules(logical)
        .with_physical_optimizer_rules(physical)
        .build()
}

async fn planned(state: &SessionState, plan: &LogicalPlan) -> f64 {
    least(async || state.create_physical_plan(plan).await.unwrap()).await
}

/// Rules with one more, before the first of them that `DataFusion` has behind it.
fn with_rule<R: ?Sized>(
    ours: &[Arc<R>],
    all: &[Arc<R>],
    at: usize,
    name: fn(&R) -> &str,
) -> Vec<Arc<R>> {
    let behind: Vec<&str> = all[at + 1..].iter().map(|rule| name(rule)).collect();
    let place = ours.iter().position(|rule| behind.contains(&name(rule)));
    let mut rules = ours.to_vec();
    rules.insert(place.unwrap_or(ours.len()), Arc::clone(&all[at]));
    rules
}

/// Where `DataFusion` has rules that are not ours. A rule that stands there twice may be ours once.
fn left_out<R: ?Sized>(ours: &[Arc<R>], all: &[Arc<R>], name: fn(&R) -> &str) -> Vec<usize> {
    let mut found = Vec::new();
    for (at, rule) in all.iter().enumerate() {
        let before = all[..at].iter().filter(|other| name(other) == name(rule));
        let own = ours.iter().filter(|other| name(other) == name(rule));
        if before.count() >= own.count() {
            found.push(at);
        }
    }
    found
}

fn row(name: &str, figures: &[f64]) {
    let figures: Vec<String> = figures
        .iter()
        .map(|figure| format!("{figure:.1}"))
        .collect();
    println!("| {name} | {} |", figures.join(" | "));
}

fn heading(first: &str) {
    let names: Vec<&str> = QUERIES.iter().map(|(name, _)| *name).collect();
    println!("\n| {first} | {} |", names.join(" | "));
    println!("|{}", "---|".repeat(names.len() + 1));
}

async fn stages(db: &Db) {
    let inputs = Inputs::new();
    let mut rows: [Vec<f64>; 6] = Default::default();
    for (_, text) in QUERIES {
        let parsing = least(async || Query::parse(text).unwrap()).await;
        let bound = least(async || Stages::bind(db, text, &inputs).await.unwrap()).await;
        let lowered = least(async || Stages::new(db, text, &inputs).await.unwrap()).await;
        let stages = Stages::new(db, text, &inputs).await.unwrap();
        let physical = least(async || stages.physical().await.unwrap()).await;
        let plan = stages.physical().await.unwrap();
        let copying = least(async || fresh(&plan).unwrap()).await;
        let figures = [
            parsing,
            bound - parsing,
            lowered - bound,
            physical,
            lowered + physical,
            copying,
        ];
        for (row, figure) in rows.iter_mut().zip(figures) {
            row.push(figure);
        }
    }
    heading("stage");
    let names = [
        "parsing",
        "analysis, names",
        "counting, lowering",
        "DataFusion's planning",
        "all, from text",
        "a copy of a known plan",
    ];
    for (name, figures) in names.iter().zip(&rows) {
        row(name, figures);
    }
}

async fn rules(db: &Db) {
    let inputs = Inputs::new();
    let mut all_stages = Vec::new();
    for (_, text) in QUERIES {
        all_stages.push(Stages::new(db, text, &inputs).await.unwrap());
    }
    let (state, _) = all_stages[0].logical();
    let ours: Vec<Logical> = state.optimizers().to_vec();
    let ours_physical: Vec<Physical> = state.physical_optimizers().to_vec();
    let all = Optimizer::new().rules;
    let all_physical = PhysicalOptimizer::new().rules;
    let own = |rule: &Physical| !all_physical.iter().any(|known| known.name() == rule.name());
    let mut whole_physical = all_physical.clone();
    whole_physical.extend(ours_physical.iter().filter(|rule| own(rule)).cloned());
    heading("rules");
    let whole = with_rules(state, all.clone(), whole_physical);
    let trimmed = with_rules(state, ours.clone(), ours_physical.clone());
    for (name, state) in [("all of DataFusion's", &whole), ("ours", &trimmed)] {
        let mut figures = Vec::new();
        for stages in &all_stages {
            figures.push(planned(state, stages.logical().1).await);
        }
        row(name, &figures);
    }
    let mut others = Vec::new();
    for at in left_out(&ours, &all, |rule| rule.name()) {
        let rules = with_rule(&ours, &all, at, |rule| rule.name());
        let state = with_rules(state, rules, ours_physical.clone());
        others.push((format!("logical: {}", all[at].name()), state));
    }
    for at in left_out(&ours_physical, &all_physical, |rule| rule.name()) {
        let rules = with_rule(&ours_physical, &all_physical, at, |rule| rule.name());
        let state = with_rules(state, ours.clone(), rules);
        others.push((format!("physical: {}", all_physical[at].name()), state));
    }
    for (name, with) in &others {
        let mut figures = Vec::new();
        for stages in &all_stages {
            let plan = stages.logical().1;
            let without = planned(&trimmed, plan).await;
            figures.push(planned(with, plan).await - without);
        }
        row(name, &figures);
    }
}

/// How much of this process is in memory, in KiB, where the system tells.
fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// What a prepared query takes in memory beside its database.
async fn memory(db: &Db) {
    const KEPT: u32 = 1_000;
    let mut figures = Vec::new();
    for (_, text) in QUERIES {
        let before = resident();
        let mut kept = Vec::new();
        for _ in 0..KEPT {
            kept.push(db.prepare_q(text, &Inputs::new()).await.unwrap());
        }
        let grown = resident().zip(before).map(|(after, before)| after - before);
        figures.push(grown.unwrap_or(f64::NAN) / f64::from(KEPT));
        // What was freed would be used again.
        std::mem::forget(kept);
    }
    heading("memory");
    row("KiB a prepared query", &figures);
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let count = std::env::args().find_map(|text| text.parse().ok());
    let db = people(count.unwrap_or(20_000)).await;
    stages(&db).await;
    rules(&db).await;
    memory(&db).await;
}
