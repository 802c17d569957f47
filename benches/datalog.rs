//! Datalog over people and over graphs, stage by stage, beside DataFusion over wide tables of the same rows:
//! `cargo bench --bench datalog [-- PEOPLE…]`.
//!
//! The people are those of the `DataScript` bench: eight names, six last names, age, salary, up to four
//! others whom they follow. With `PEERS_DATA` they are read from there, as the peers read them, so that
//! counts can be compared; else they are made here, alike but not the same.
//!
//! Times are the least, in milliseconds, of as many warm runs as fit; CPU is the mean of a run. *Text* is from the
//! query's text to Arrow, for both; *execution* is of a physical plan alone, for both. `plan` parses, analyses and
//! lowers; `physical` is DataFusion's planning; `terms` makes terms of batches. `prepared` asks a query that is planned
//! already: a copy of the plan, execution, terms. `known` asks again what has been answered, which no other column
//! does. `cold` is a first query on a database that has just been opened, nothing
//! cached.
//!
//! With names of queries behind the numbers of people, these are executed for five seconds each and nothing is measured
//! beside the mean: that is for a profiler to look at.
//!
//! `results-datomfusion-20k.json` is written to `PEERS_DATA`, from text to terms; `benches/ratios.py` shows it beside
//! what the peers wrote.

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded anyway")]

mod support {
    pub mod processor;
    pub mod random;
}

use std::io::BufRead;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use datafusion::datasource::MemTable;
use datafusion::physical_plan::collect;
use datafusion::prelude::{SessionConfig, SessionContext};
use datomfusion::bench::Stages;
use datomfusion::{
    BranchName, Connection, Db, Entid, Import, Inputs, Seeded, Store, TempId, Term, TxData, Value,
};

use support::processor::processor_time;
use support::random::Random;

const SCHEMA: &str = "[
    {:db/ident :name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
    {:db/ident :last-name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
    {:db/ident :sex :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
    {:db/ident :age :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
    {:db/ident :salary :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
    {:db/ident :follows :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}]";

const NAMES: [&str; 8] = [
    "Ivan", "Petr", "Sergei", "Oleg", "Yuri", "Dmitry", "Fedor", "Denis",
];
const LAST_NAMES: [&str; 6] = [
    "Ivanov",
    "Petrov",
    "Sidorov",
    "Kovalev",
    "Kuznetsov",
    "Voronoi",
];

/// A query of people, and what DataFusion is asked instead.
const QUERIES: [(&str, &str, &str); 9] = [
    (
        "q1",
        r#"[:find ?e :where [?e :name "Ivan"]]"#,
        "select id from people where name = 'Ivan'",
    ),
    (
        "q2",
        r#"[:find ?e ?a :where [?e :name "Ivan"] [?e :age ?a]]"#,
        "select id, age from people where name = 'Ivan'",
    ),
    (
        "q2switch",
        r#"[:find ?e ?a :where [?e :age ?a] [?e :name "Ivan"]]"#,
        "select id, age from people where name = 'Ivan'",
    ),
    (
        "q3",
        r#"[:find ?e ?a :where [?e :name "Ivan"] [?e :age ?a] [?e :sex "male"]]"#,
        "select id, age from people where name = 'Ivan' and sex = 'male'",
    ),
    (
        "q4",
        r#"[:find ?e ?l ?a :where [?e :name "Ivan"] [?e :last-name ?l] [?e :age ?a] [?e :sex "male"]]"#,
        "select id, last_name, age from people where name = 'Ivan' and sex = 'male'",
    ),
    (
        "qpred1",
        "[:find ?e ?s :where [?e :salary ?s] [(> ?s 50000)]]",
        "select id, salary from people where salary > 50000",
    ),
    (
        "qpred2",
        "[:find ?e ?s :in $ ?m :where [?e :salary ?s] [(> ?s ?m)]]",
        "select id, salary from people where salary > 50000",
    ),
    (
        "qagg",
        "[:find ?x (avg ?s) :with ?e :where [?e :sex ?x] [?e :salary ?s]]",
        "select sex, avg(salary) from people group by sex",
    ),
    (
        "qjoin",
        r#"[:find ?e ?f :where [?e :name "Ivan"] [?e :follows ?f] [?f :name "Petr"]]"#,
        "select p.id, f.f from people p join follows f on f.e = p.id join people q on q.id = f.f
         where p.name = 'Ivan' and q.name = 'Petr'",
    ),
];

fn inputs(name: &str) -> Inputs {
    match name {
        "qpred2" => Inputs::new().argument(Term::Long(50_000)),
        _ => Inputs::new(),
    }
}

const RULES: &str = "[[(follows ?x ?y) [?x :follows ?y]]
                      [(follows ?x ?y) [?x :follows ?t] (follows ?t ?y)]]";

const CLOSURE: &str = "with recursive f as (
    select s, t from edges union select f.s, edges.t from f join edges on f.t = edges.s)
    select s, t from f";
const CLOSURE_FROM_1: &str = "with recursive f as (
    select t from edges where s = 1 union select edges.t from f join edges on f.t = edges.s)
    select t from f";

/// Time of one kind of run: the least and the median of the clock, the mean of the processor.
#[derive(Default)]
struct Times {
    runs: Vec<Duration>,
    processor: Duration,
}

impl Times {
    fn least(&self) -> f64 {
        self.runs.iter().min().map_or(0.0, Duration::as_secs_f64) * 1e3
    }

    fn median(&mut self) -> f64 {
        self.runs.sort_unstable();
        self.runs[self.runs.len() / 2].as_secs_f64() * 1e3
    }

    fn processor(&self) -> f64 {
        self.processor.as_secs_f64() * 1e3 / self.runs.len() as f64
    }
}

/// Runs as the peers' harness does: three to warm up, then up to 51 or for 1.5 seconds.
async fn timed<T>(mut run: impl AsyncFnMut() -> T) -> (Times, T) {
    for _ in 0..3 {
        run().await;
    }
    let mut times = Times::default();
    let begin = Instant::now();
    let processor = processor_time();
    loop {
        let start = Instant::now();
        let found = run().await;
        times.runs.push(start.elapsed());
        let runs = times.runs.len();
        if runs >= 51 || (runs >= 5 && begin.elapsed().as_secs_f64() > 1.5) {
            times.processor = processor_time().saturating_sub(processor);
            return (times, found);
        }
    }
}

/// What the peers' harness writes of a query.
type Results = serde_json::Map<String, serde_json::Value>;

/// A person; the first has the id 1.
struct Person {
    name: String,
    last_name: String,
    sex: String,
    age: i64,
    salary: i64,
    follows: Vec<i64>,
}

fn people(count: usize) -> Vec<Person> {
    if let Ok(directory) = std::env::var("PEERS_DATA") {
        let given = given_people(&directory, count);
        assert_eq!(given.len(), count, "PEERS_DATA has other people");
        return given;
    }
    let mut random = Random(20_261_122);
    let person = |id: i64| {
        let mut person = Person {
            name: random.one_of(&NAMES).into(),
            last_name: random.one_of(&LAST_NAMES).into(),
            sex: random.one_of(&["male", "female"]).into(),
            age: random.below(100).cast_signed(),
            salary: random.below(100_000).cast_signed(),
            follows: Vec::new(),
        };
        let wanted = random.below(5);
        while (person.follows.len() as u64) < wanted {
            let other = (1 + random.below(count as u64)).cast_signed();
            if other != id && !person.follows.contains(&other) {
                person.follows.push(other);
            }
        }
        person
    };
    (1..=count.cast_signed() as i64).map(person).collect()
}

/// What the peers' generator wrote: 20,000 as JSON, 500,000 as CSV.
fn given_people(directory: &str, count: usize) -> Vec<Person> {
    if count == 20_000 {
        let text = std::fs::read_to_string(format!("{directory}/people20k.json")).unwrap();
        let all: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let person = |person: &serde_json::Value| {
            let text = |key: &str| person[key].as_str().unwrap().to_owned();
            let long = |key: &str| person[key].as_i64().unwrap();
            Person {
                name: text("name"),
                last_name: text("last_name"),
                sex: text("sex"),
                age: long("age"),
                salary: long("salary"),
                follows: person["follows"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|id| id.as_i64().unwrap())
                    .collect(),
            }
        };
        return all.iter().map(person).collect();
    }
    let file = std::fs::File::open(format!("{directory}/people500k.csv")).unwrap();
    let person = |line: String| {
        let fields: Vec<&str> = line.split(',').collect();
        let ids = fields[6].split('|').filter(|id| !id.is_empty());
        Person {
            name: fields[1].into(),
            last_name: fields[2].into(),
            sex: fields[3].into(),
            age: fields[4].parse().unwrap(),
            salary: fields[5].parse().unwrap(),
            follows: ids.map(|id| id.parse().unwrap()).collect(),
        }
    };
    let lines = std::io::BufReader::new(file).lines().skip(1);
    lines
        .map(|line| person(line.unwrap().trim().to_owned()))
        .collect()
}

/// An empty database with the schema, and the id before that of the next entity.
async fn empty() -> (Store, Connection, i64) {
    let store = Store::memory();
    let connection = Connection::create_in(&store, BranchName::default(), Seeded::new(1))
        .await
        .unwrap();
    connection
        .transact(&TxData::parse(SCHEMA).unwrap())
        .await
        .unwrap();
    let next = TxData::parse(r#"[{:db/id "next" :name "nobody"}]"#).unwrap();
    let next = connection.db().with(&next).await.unwrap().tempids[&TempId::Text("next".into())];
    (store, connection, next.0 - 1)
}

async fn filled(people: &[Person]) -> (Store, Db) {
    let (store, connection, before) = empty().await;
    let db = connection.db();
    let mut import = Import::new(db.schema());
    let [name, last_name, sex, age, salary, follows] =
        ["name", "last-name", "sex", "age", "salary", "follows"]
            .map(|ident| import.attribute(ident).unwrap());
    for person in people {
        let own = [
            (name, Value::string(person.name.clone())),
            (last_name, Value::string(person.last_name.clone())),
            (sex, Value::string(person.sex.clone())),
            (age, Value::Long(person.age)),
            (salary, Value::Long(person.salary)),
        ];
        let others = person
            .follows
            .iter()
            .map(|id| (follows, Value::Ref(Entid(before + id))));
        import.entity(own.into_iter().chain(others)).unwrap();
    }
    connection.import(import).await.unwrap();
    (store, connection.db())
}

/// The same people as tables.
fn tables(people: &[Person]) -> SessionContext {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    let ids = || 1_i64..;
    let text = |field: fn(&Person) -> &String| -> ArrayRef {
        Arc::new(StringViewArray::from_iter_values(people.iter().map(field)))
    };
    let long = |field: fn(&Person) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(people.iter().map(field)))
    };
    let id: ArrayRef = Arc::new(Int64Array::from_iter_values(ids().take(people.len())));
    register(
        &context,
        "people",
        vec![
            ("id", id),
            ("name", text(|person| &person.name)),
            ("last_name", text(|person| &person.last_name)),
            ("sex", text(|person| &person.sex)),
            ("age", long(|person| person.age)),
            ("salary", long(|person| person.salary)),
        ],
    );
    let edges = ids()
        .zip(people)
        .flat_map(|(id, person)| person.follows.iter().map(move |to| (id, *to)));
    let (e, f): (Vec<i64>, Vec<i64>) = edges.unzip();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("e", Arc::new(Int64Array::from(e))),
        ("f", Arc::new(Int64Array::from(f))),
    ];
    register(&context, "follows", columns);
    context
}

/// A table in batches of 8,192 rows.
fn register(context: &SessionContext, name: &str, columns: Vec<(&str, ArrayRef)>) {
    let all = RecordBatch::try_from_iter(columns).unwrap();
    let batches = (0..all.num_rows())
        .step_by(8192)
        .map(|at| all.slice(at, 8192.min(all.num_rows() - at)))
        .collect();
    let table = MemTable::try_new(all.schema(), vec![batches]).unwrap();
    context.register_table(name, Arc::new(table)).unwrap();
}

async fn sql(context: &SessionContext, text: &str) -> usize {
    let batches = context.sql(text).await.unwrap().collect().await.unwrap();
    batches.iter().map(RecordBatch::num_rows).sum()
}

/// The times of one query, all together and by stage, as a row.
async fn compare(
    name: &str,
    store: &Store,
    (query, inputs): (&str, &Inputs),
    (context, statement): (&SessionContext, &str),
    results: &mut Results,
) {
    let start = Instant::now();
    let cold = Db::open(store, &BranchName::default()).await.unwrap();
    let opened = start.elapsed();
    let first = cold.q(query, inputs).await.unwrap().rows().len();
    let cold_time = start.elapsed().saturating_sub(opened);
    let db = cold;
    let batches = async || {
        let steps = Stages::new(&db, query, inputs).await.unwrap();
        let plan = steps.physical().await.unwrap();
        let batches = steps.execute(plan).await.unwrap();
        (steps, batches)
    };
    let (text, _) = timed(async || batches().await.1.len()).await;
    let (mut whole, found) = timed(async || {
        let (steps, batches) = batches().await;
        steps.answer(&batches).await.unwrap().rows().len()
    })
    .await;
    assert_eq!(first, found);
    let (known, again) = timed(async || db.q(query, inputs).await.unwrap().rows().len()).await;
    assert_eq!(again, found);
    let (plan, steps) = timed(async || Stages::new(&db, query, inputs).await.unwrap()).await;
    let (physical, _) = timed(async || steps.physical().await.unwrap()).await;
    let asked = db.prepare_q(query, inputs).await.unwrap();
    let (asked, again) = timed(async || asked.q().await.unwrap().rows().len()).await;
    assert_eq!(again, found);
    // Each engine in a row, as its texts were run; plans are made in between and not timed.
    let mut stages = [Times::default(), Times::default(), Times::default()];
    let runs = 3 + whole.runs.len().max(15);
    for _ in 0..runs {
        let plan = steps.physical().await.unwrap();
        let start = Instant::now();
        let batches = steps.execute(plan).await.unwrap();
        stages[0].runs.push(start.elapsed());
        drop(batches);
    }
    for _ in 0..runs {
        let plan = context.sql(statement).await.unwrap();
        let plan = plan.create_physical_plan().await.unwrap();
        let start = Instant::now();
        let batches = collect(plan, context.task_ctx()).await.unwrap();
        stages[2].runs.push(start.elapsed());
        drop(batches);
    }
    let (_, batches) = batches().await;
    for _ in 0..runs {
        let start = Instant::now();
        let answer = steps.answer(&batches).await.unwrap();
        stages[1].runs.push(start.elapsed());
        drop(answer);
    }
    let (peer, expected) = timed(async || sql(context, statement).await).await;
    assert_eq!(found, expected, "{name}");
    println!(
        "| {name} | {found} | {:.2} / {:.2} | {:.2} / {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.3} | {:.2} |",
        text.least(),
        text.processor(),
        peer.least(),
        peer.processor(),
        text.least() / peer.least(),
        stages[0].least(),
        stages[2].least(),
        stages[0].least() / stages[2].least(),
        plan.least(),
        physical.least(),
        stages[1].least(),
        asked.least(),
        known.least(),
        cold_time.as_secs_f64() * 1e3,
    );
    let result = serde_json::json!({
        "count": found,
        "min_ms": whole.least(),
        "median_ms": whole.median(),
        "cpu_ms": whole.processor(),
        "first_ms": cold_time.as_secs_f64() * 1e3,
        "runs": whole.runs.len(),
    });
    results.insert(name.to_owned(), result);
}

/// Executes a query, planned anew each time, for five seconds.
async fn execute(name: &str, store: &Store, query: &str, inputs: &Inputs) {
    let db = Db::open(store, &BranchName::default()).await.unwrap();
    let prepared = Stages::new(&db, query, inputs).await.unwrap();
    let begin = Instant::now();
    let mut runs = 0;
    while begin.elapsed() < Duration::from_secs(5) {
        let plan = prepared.physical().await.unwrap();
        prepared.execute(plan).await.unwrap();
        runs += 1;
    }
    println!("{name}: {:.2?} a run", begin.elapsed() / runs);
}

fn headings(what: &str) {
    println!(
        "\n{what}\n\n| query | rows | text: min / CPU | DataFusion | ratio | execution | DataFusion | ratio | plan | physical | terms | prepared | known | cold |"
    );
    println!("|{}", "---|".repeat(14));
}

fn wide(id: i64, depth: u32, width: i64, edges: &mut Vec<(i64, i64)>) {
    if depth > 0 {
        for child in id * width..(id + 1) * width {
            edges.push((id, child));
            wide(child, depth - 1, width, edges);
        }
    }
}

fn long(depth: i64, width: i64) -> Vec<(i64, i64)> {
    let chain = |x: i64| {
        let first = x * (depth + 1) + 1;
        (first..first + depth).map(|id| (id, id + 1))
    };
    (0..width).flat_map(chain).collect()
}

/// The graphs of the peers, as edges.
fn graphs() -> Vec<(&'static str, Vec<(i64, i64)>)> {
    let tree = |depth, width| {
        let mut edges = Vec::new();
        wide(1, depth, width, &mut edges);
        edges
    };
    vec![
        ("wide-3x3", tree(3, 3)),
        ("wide-5x3", tree(5, 3)),
        ("wide-7x3", tree(7, 3)),
        ("wide-4x6", tree(4, 6)),
        ("long-10x3", long(10, 3)),
        ("long-30x3", long(30, 3)),
        ("long-30x5", long(30, 5)),
        ("chain-1000", long(1000, 1)),
    ]
}

/// The closure of each graph, and what follows node 1 of the chain.
async fn closures(results: &mut Results) {
    headings("rules");
    for (name, edges) in graphs() {
        let (store, connection, before) = empty().await;
        let mut import = Import::new(connection.db().schema());
        let follows = import.attribute("follows").unwrap();
        let last = edges.iter().map(|(_, to)| *to).max().unwrap();
        let mut outgoing = vec![Vec::new(); usize::try_from(last).unwrap()];
        for (from, to) in &edges {
            outgoing[usize::try_from(from - 1).unwrap()]
                .push((follows, Value::Ref(Entid(before + to))));
        }
        for facts in outgoing {
            import.entity(facts).unwrap();
        }
        connection.import(import).await.unwrap();
        let context =
            SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        let (s, t): (Vec<i64>, Vec<i64>) = edges.iter().copied().unzip();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("s", Arc::new(Int64Array::from(s))),
            ("t", Arc::new(Int64Array::from(t))),
        ];
        register(&context, "edges", columns);
        let all = "[:find ?e ?f :in $ % :where (follows ?e ?f)]";
        let rules = Inputs::new().rules(RULES);
        let key = format!("rules-{name}");
        compare(&key, &store, (all, &rules), (&context, CLOSURE), results).await;
        if name.starts_with("chain") {
            let from = "[:find ?f :in $ % ?e :where (follows ?e ?f)]";
            let inputs = rules.argument(Term::Long(before + 1));
            let peer = (&context, CLOSURE_FROM_1);
            compare("rules-chain-from1", &store, (from, &inputs), peer, results).await;
        }
    }
}

fn write(results: &Results, people: usize) {
    if let Ok(directory) = std::env::var("PEERS_DATA") {
        let path = format!("{directory}/results-datomfusion-{}k.json", people / 1000);
        std::fs::write(path, serde_json::to_string_pretty(results).unwrap()).unwrap();
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut sizes: Vec<usize> = std::env::args()
        .filter_map(|text| text.parse().ok())
        .collect();
    if sizes.is_empty() {
        sizes = vec![20_000];
    }
    let chosen: Vec<String> = std::env::args()
        .filter(|text| QUERIES.iter().any(|(name, ..)| name == text))
        .collect();
    for count in sizes {
        let people = people(count);
        let start = Instant::now();
        let (store, _) = filled(&people).await;
        let imported = start.elapsed();
        for name in &chosen {
            let (_, query, _) = QUERIES.iter().find(|(known, ..)| known == name).unwrap();
            execute(name, &store, query, &inputs(name)).await;
        }
        if !chosen.is_empty() {
            continue;
        }
        let context = tables(&people);
        headings(&format!("{count} people, imported in {imported:.1?}"));
        let mut results = Results::new();
        results.insert("engine".into(), "datomfusion".into());
        results.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        results.insert("size".into(), format!("{}k", count / 1000).into());
        results.insert("load_s".into(), imported.as_secs_f64().into());
        for (name, query, statement) in QUERIES {
            let peer = (&context, statement);
            compare(name, &store, (query, &inputs(name)), peer, &mut results).await;
        }
        if count == 20_000 {
            closures(&mut results).await;
        }
        write(&results, count);
    }
}
