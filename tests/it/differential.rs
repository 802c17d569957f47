//! The planner against the reference evaluator, on generated questions about real databases, with all optimizations and
//! with some of them switched off.
//!
//! `DATOMFUSION_DIFFERENTIAL_CASES` says how many (`just differential` runs a million), and
//! `DATOMFUSION_DIFFERENTIAL_SEED` where to begin. A case that differs is made smaller before it is shown.

use std::collections::BTreeMap;

use datomfusion::edn::read;
use datomfusion::{
    Answer, Components, Connection, Db, Error, Federation, Functions, Index, Inputs, Optimizations,
    Store, Term, TimePoint, TxData, ValueType,
};
use datomfusion_datalog::ast::{Query, RuleSet, SourceName};
use datomfusion_datalog::{AttributeFacts, TermType};
use futures::TryStreamExt;

#[allow(dead_code, reason = "the other package uses the rest")]
#[path = "../../datalog/tests/it/generate.rs"]
mod generate;
#[allow(dead_code, reason = "the other package uses the rest")]
#[path = "../../datalog/tests/it/naive.rs"]
mod naive;

use self::generate::{Case, Shape, SourceSpec};
use self::naive::{NaiveDb, NaiveSource, constant, evaluate};

/// What both made of a case.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// The same rows.
    Agreed,
    /// The reference gave up at a limit: nothing to compare with.
    Limited,
    /// Different rows, or only one of them failed.
    Differed(String),
}

struct World {
    /// The value after the schema and each transaction of data.
    values: Vec<Db>,
}

impl World {
    /// Nothing if a smaller case can no longer be transacted.
    async fn load(case: &Case) -> Option<Self> {
        let conn = Connection::create(&Store::memory()).await.unwrap();
        let mut values = Vec::new();
        let schema = case.world.schema_text();
        let texts = std::iter::once(schema).chain(case.world.transaction_texts());
        for text in texts {
            conn.transact(&TxData::parse(&text).ok()?).await.ok()?;
            values.push(conn.db());
        }
        Some(Self { values })
    }

    async fn value(&self, spec: &SourceSpec) -> Option<Db> {
        let newest = self.values.last().unwrap();
        match spec {
            SourceSpec::Now => Some(newest.clone()),
            SourceSpec::History => Some(newest.history()),
            SourceSpec::After(count) => {
                let t = self.values[(*count).min(self.values.len() - 1)].basis_t();
                Some(newest.as_of(TimePoint::T(t)).await.unwrap())
            }
            SourceSpec::Collection(_) => None,
        }
    }
}

fn term_type(value_type: ValueType) -> TermType {
    match value_type {
        ValueType::Boolean => TermType::Boolean,
        ValueType::Long => TermType::Long,
        ValueType::Double => TermType::Double,
        ValueType::String => TermType::String,
        ValueType::Keyword => TermType::Keyword,
        ValueType::Instant => TermType::Instant,
        ValueType::Ref => TermType::Ref,
        _ => TermType::Tuple,
    }
}

/// All that a value holds, as the reference wants to have it.
async fn naive_db(db: &Db) -> NaiveDb {
    let schema = db.schema();
    let attributes = schema.attributes().map(|attribute| AttributeFacts {
        id: attribute.id.0,
        ident: attribute.ident.clone(),
        value_type: term_type(attribute.value_type),
        is_many: attribute.is_many(),
        is_unique: attribute.unique.is_some(),
        is_component: attribute.component,
        is_indexed: attribute.indexed,
    });
    let idents = schema.idents().map(|(e, ident)| (e.0, ident.clone()));
    let datoms = db.datoms(Index::Eavt, Components::all()).unwrap();
    let datoms: Vec<_> = datoms.try_collect().await.unwrap();
    let datoms = datoms.into_iter().map(|datom| {
        let term = Term::try_from(&datom.v.to_edn()).unwrap();
        (datom.e.0, datom.a.0, term, datom.tx.0.0, datom.added)
    });
    NaiveDb {
        attributes: attributes.collect(),
        idents: idents.collect(),
        datoms: datoms.collect(),
    }
}

fn tuples(text: &str) -> Vec<Term> {
    let term = Term::try_from(&read(text).unwrap()).unwrap();
    term.elements().unwrap().to_vec()
}

/// Asks with all optimizations, and with some of them switched off: those whose bits are set.
async fn outcome(case: &Case, switched: u64) -> Outcome {
    let Some(world) = World::load(case).await else {
        return Outcome::Agreed;
    };
    let question = &case.question;
    let (text, rules) = (question.query_text(), question.rules_text());
    let terms: Vec<Term> = question
        .input_texts()
        .into_iter()
        .map(|text| constant(&read(text).unwrap()).unwrap())
        .collect();
    let mut inputs = Inputs::new();
    let mut sources = BTreeMap::new();
    for (name, spec) in &question.sources {
        let source = match (world.value(spec).await, spec) {
            (Some(db), _) => {
                inputs = inputs.source(name, &db);
                NaiveSource::Db(naive_db(&db).await)
            }
            (None, SourceSpec::Collection(text)) => {
                let tuples = tuples(text);
                inputs = inputs.collection(name, tuples.clone());
                let rows = tuples
                    .iter()
                    .map(|tuple| tuple.elements().unwrap().to_vec());
                NaiveSource::Collection(rows.collect())
            }
            (None, _) => unreachable!("only collections are no databases"),
        };
        sources.insert(SourceName::new(&**name), source);
    }
    if !question.rules.is_empty() {
        inputs = inputs.rules(&*rules);
    }
    for term in &terms {
        inputs = inputs.argument(term.clone());
    }
    // A smaller case may no longer be a query.
    let (Ok(query), Ok(rule_set)) = (Query::parse(&text), RuleSet::parse(&rules)) else {
        return Outcome::Agreed;
    };
    let expected = evaluate(&query, &rule_set, sources, terms, &Functions::standard());
    let federation = Federation::new();
    let plain = federation.q(&text, &inputs).await;
    let outcome = compared(question.shape, &expected, plain);
    if outcome != Outcome::Agreed {
        return outcome;
    }
    // Copies of one plan, the second after the first has run.
    let prepared = federation.prepare_q(&text, &inputs).await;
    for run in 1..=2 {
        let got = match &prepared {
            Ok(prepared) => prepared.q().await,
            Err(error) => Err(Error::invalid(error.to_string())),
        };
        if let Outcome::Differed(reason) = compared(question.shape, &expected, got) {
            return Outcome::Differed(format!("prepared, run {run}: {reason}"));
        }
    }
    let mut some = Optimizations::default();
    for (at, (_, on)) in some.switches().into_iter().enumerate() {
        *on = switched >> at & 1 == 0;
    }
    let federation = Federation::new().with_optimizations(some.clone());
    match compared(
        question.shape,
        &expected,
        federation.q(&text, &inputs).await,
    ) {
        Outcome::Differed(reason) => Outcome::Differed(format!("with {some:?}\n{reason}")),
        outcome => outcome,
    }
}

/// What the reference and the planner say of one question.
fn compared(
    shape: Shape,
    expected: &Result<Vec<Vec<Term>>, String>,
    got: Result<Answer, Error>,
) -> Outcome {
    match (expected, got) {
        (Err(error), _) if error == "limit" => Outcome::Limited,
        (Err(_), Err(_)) => Outcome::Agreed,
        (Ok(rows), Err(error)) => Outcome::Differed(format!(
            "{} rows expected, got the error\n{error}",
            rows.len()
        )),
        (Err(error), Ok(answer)) => Outcome::Differed(format!(
            "the error {error:?} expected, got {} rows",
            answer.rows().len()
        )),
        (Ok(expected), Ok(answer)) => {
            let mut got = answer.into_rows();
            got.sort();
            let agreed = match shape {
                Shape::Relation | Shape::Collection => same_rows(expected, &got),
                // Any of the rows will do.
                Shape::Tuple | Shape::Scalar => match got.first() {
                    None => expected.is_empty(),
                    Some(row) => expected.iter().any(|other| same_row(row, other)),
                },
            };
            if agreed {
                Outcome::Agreed
            } else {
                Outcome::Differed(format!(
                    "expected {}\n     got {}",
                    show(expected),
                    show(&got)
                ))
            }
        }
    }
}

fn same_rows(left: &[Vec<Term>], right: &[Vec<Term>]) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .all(|(left, right)| same_row(left, right))
}

fn same_row(left: &[Term], right: &[Term]) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .all(|(left, right)| match (left, right) {
                // Sums of doubles depend on their order in the last digits.
                (Term::Double(left), Term::Double(right)) => {
                    left.total_cmp(right).is_eq()
                        || (left - right).abs() <= 1e-9 * left.abs().max(1.0)
                }
                _ => left == right,
            })
}

fn show(rows: &[Vec<Term>]) -> String {
    let some = rows.iter().take(20);
    let shown: Vec<String> = some
        .map(|row| Term::vector(row.iter().cloned()).to_string())
        .collect();
    format!("{} rows {}", rows.len(), shown.join(" "))
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn the_planner_agrees_with_the_reference() {
    let cases = number("DATOMFUSION_DIFFERENTIAL_CASES", 2_000);
    let first = number("DATOMFUSION_DIFFERENTIAL_SEED", 0);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut limited = 0;
    for seed in first..first + cases {
        let case = Case::new(seed);
        // The seven upper bits of a product with the golden ratio.
        let switched = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57;
        match runtime.block_on(outcome(&case, switched)) {
            Outcome::Agreed => {}
            Outcome::Limited => limited += 1,
            Outcome::Differed(_) => {
                // A smaller case may have lost what binds a variable: that is not the difference.
                let differs = |case: &Case| match runtime.block_on(outcome(case, switched)) {
                    Outcome::Differed(reason) => {
                        !reason.contains("bound by") && !reason.contains("insufficient bindings")
                    }
                    _ => false,
                };
                let small = case.shrink(differs);
                let reason = runtime.block_on(outcome(&small, switched));
                panic!("seed {seed}\n{small}\n{reason:?}");
            }
        }
    }
    println!("{cases} cases, {limited} of them beyond the reference's limits");
    assert!(
        limited * 20 <= cases,
        "{limited} of {cases} were not compared"
    );
}
