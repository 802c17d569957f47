//! Generated questions are questions, and mostly have answers.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its own text must fail"
)]

use std::collections::BTreeMap;

use datomfusion_datalog::ast::{Query, RuleSet, SourceName};
use datomfusion_datalog::edn::read;
use datomfusion_datalog::{Functions, Term};

use crate::generate::{Case, SourceSpec};
use crate::loading::Loading;
use crate::naive::{NaiveSource, constant, evaluate};

fn answer(case: &Case) -> Result<Vec<Vec<Term>>, String> {
    let question = &case.question;
    let query = Query::parse(&question.query_text()).map_err(|error| error.to_string())?;
    let rules = RuleSet::parse(&question.rules_text()).map_err(|error| error.to_string())?;
    let mut sources = BTreeMap::new();
    for (name, spec) in &question.sources {
        let schema = case.world.schema_text();
        let data = case.world.transaction_texts();
        let upto = match spec {
            SourceSpec::After(count) => *count,
            _ => data.len(),
        };
        let mut texts = vec![&*schema];
        texts.extend(data[..upto.min(data.len())].iter().map(|text| &**text));
        let loading = Loading::of(&texts);
        let source = match spec {
            SourceSpec::History => NaiveSource::Db(loading.history),
            SourceSpec::Collection(text) => NaiveSource::Collection(tuples(text)),
            SourceSpec::Now | SourceSpec::After(_) => NaiveSource::Db(loading.current),
        };
        sources.insert(SourceName::new(&**name), source);
    }
    let inputs = question.input_texts().into_iter();
    let inputs = inputs
        .map(|text| constant(&read(text).unwrap()).unwrap())
        .collect();
    evaluate(&query, &rules, sources, inputs, &Functions::standard())
}

fn tuples(text: &str) -> Vec<Vec<Term>> {
    let form = read(text).unwrap();
    let tuples = form.as_vector().unwrap().iter();
    tuples
        .map(|tuple| {
            let values = tuple.as_vector().unwrap().iter();
            values.map(|value| constant(value).unwrap()).collect()
        })
        .collect()
}

#[test]
fn generated_questions_are_valid_and_mostly_have_answers() {
    const CASES: u64 = 1500;
    let mut full = 0;
    let mut limited = 0;
    for seed in 0..CASES {
        let case = Case::new(seed);
        match answer(&case) {
            Ok(rows) => full += u64::from(!rows.is_empty()),
            Err(error) if error == "limit" => limited += 1,
            Err(error) => panic!("seed {seed}: {error}\n{case}"),
        }
    }
    assert!(full * 100 >= CASES * 60, "{full} of {CASES} have an answer");
    assert!(
        limited * 100 <= CASES,
        "{limited} of {CASES} end at a limit"
    );
}

#[test]
fn a_seed_makes_the_same_case_again() {
    assert_eq!(Case::new(7).to_string(), Case::new(7).to_string());
    assert_ne!(Case::new(7).to_string(), Case::new(8).to_string());
}

#[test]
fn the_order_of_clauses_cannot_be_seen_in_the_answer() {
    for seed in 0..400 {
        let case = Case::new(seed);
        let mut turned = case.clone();
        turned.question.clauses.reverse();
        for rule in &mut turned.question.rules {
            rule.body.reverse();
        }
        turned.question.rules.reverse();
        assert_eq!(answer(&case), answer(&turned), "seed {seed}\n{case}");
    }
}

#[test]
fn a_failing_case_shrinks_to_what_makes_it_fail() {
    let fails = |case: &Case| {
        case.question
            .clauses
            .iter()
            .any(|clause| clause.to_string().contains("not"))
            && case
                .world
                .transactions
                .iter()
                .flatten()
                .any(|text| text.contains(":x/next"))
    };
    let case = (0..1000)
        .map(Case::new)
        .find(|case| fails(case) && case.question.clauses.len() > 3);
    let shrunk = case.unwrap().shrink(fails);
    assert_eq!(shrunk.question.clauses.len(), 1, "{shrunk}");
    assert_eq!(
        shrunk.world.transactions.iter().flatten().count(),
        1,
        "{shrunk}"
    );
    assert!(shrunk.question.rules.is_empty() && shrunk.question.inputs.is_empty());
}
