//! The reference evaluator against the shared conformance cases, where they are at hand.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its own text must fail"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use datomfusion_datalog::ast::{FindSpec, Query, RuleSet, SourceName};
use datomfusion_datalog::edn::{Edn, Form, read};
use datomfusion_datalog::{Functions, Term};

use crate::loading::Loading;
use crate::naive::{NaiveSource, constant, evaluate};

/// All cases but those that pull or travel in time.
#[test]
fn the_conformance_cases_hold() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    if !shared.join("conformance").is_dir() {
        return;
    }
    let data = |names: &[&str]| {
        let texts = names
            .iter()
            .map(|name| fs::read_to_string(shared.join("data/chinook").join(name)).unwrap());
        let texts: Vec<String> = texts.collect();
        Loading::of(&texts.iter().map(|text| &**text).collect::<Vec<_>>()).current
    };
    let catalog = data(&["catalog-schema.edn", "catalog.edn"]);
    let years = [
        "sales-2021.edn",
        "sales-2022.edn",
        "sales-2023.edn",
        "sales-2024.edn",
        "sales-2025.edn",
    ];
    let sales = data(&[&["sales-schema.edn", "sales-people.edn"][..], &years].concat());

    // JSON without escapes of characters is EDN but for colons and commas after keys.
    let text = fs::read_to_string(shared.join("conformance/datalog-chinook.json")).unwrap();
    let cases = read(&from_json(&text)).unwrap();
    let mut answered = 0;
    for case in cases.as_vector().unwrap() {
        let get = |key: &str| {
            let entries = case.as_map().unwrap().iter();
            entries
                .clone()
                .find(|(name, _)| name.as_str() == Some(key))
                .map(|(_, value)| value)
        };
        let query = get("query").unwrap().as_str().unwrap();
        let mut sources = BTreeMap::new();
        let mut travels = false;
        for (name, database) in get("dbs").unwrap().as_map().unwrap() {
            let db = match database.as_str().unwrap() {
                "catalog" => catalog.clone(),
                "sales" => sales.clone(),
                _ => {
                    travels = true;
                    break;
                }
            };
            sources.insert(SourceName::new(name.as_str().unwrap()), NaiveSource::Db(db));
        }
        if travels || query.contains("(pull") {
            continue;
        }
        let args = get("args")
            .and_then(|args| args.as_vector().map(<[Form]>::to_vec))
            .unwrap_or_default();
        let mut inputs: Vec<Term> = args
            .iter()
            .map(|text| constant(&read(text.as_str().unwrap()).unwrap()).unwrap())
            .collect();
        if query.contains("$w") {
            let Term::Vector(tuples) = inputs.remove(0) else {
                panic!("tuples")
            };
            let tuples = tuples.iter().map(|tuple| match tuple {
                Term::Vector(parts) => parts.to_vec(),
                _ => panic!("a tuple"),
            });
            sources.insert(
                SourceName::new("$w"),
                NaiveSource::Collection(tuples.collect()),
            );
        }
        let rules = get("rules").map_or("[]", |rules| rules.as_str().unwrap());
        let parsed = Query::parse(query).unwrap();
        let rows = evaluate(
            &parsed,
            &RuleSet::parse(rules).unwrap(),
            sources,
            inputs,
            &Functions::standard(),
        );
        let rows = rows.unwrap_or_else(|error| panic!("{query}: {error}"));
        let name = get("name").unwrap();
        check(&name.to_string(), &parsed, &rows, get("expected").unwrap());
        answered += 1;
    }
    assert!(answered > 50, "{answered} cases");
}

fn constants(form: &Form) -> Vec<Term> {
    let forms = form.as_sequence().unwrap().iter();
    forms.map(|form| constant(form).unwrap()).collect()
}

/// Compares an answer with what is expected, by shape.
fn check(name: &str, query: &Query, rows: &[Vec<Term>], expected: &Form) {
    let strip = |form: &Form| -> Vec<String> {
        match &form.edn {
            Edn::Map(_) => {
                let keys = query.keys.as_ref().unwrap().names.iter();
                let value = |key: &str| {
                    let entries = form.as_map().unwrap().iter();
                    let mut entries =
                        entries.filter(|(k, _)| k.as_str().unwrap().trim_start_matches(':') == key);
                    show(&constant(&entries.next().unwrap().1).unwrap())
                };
                keys.map(|key| value(key.as_str())).collect()
            }
            _ => constants(form).iter().map(show).collect(),
        }
    };
    let mut found: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(show).collect())
        .collect();
    let mut wanted: Vec<Vec<String>> = match &query.find {
        FindSpec::Rel(_) => expected.as_vector().unwrap().iter().map(strip).collect(),
        FindSpec::Coll(_) => constants(expected)
            .iter()
            .map(|term| vec![show(term)])
            .collect(),
        FindSpec::Tuple(_) => vec![strip(expected)],
        FindSpec::Scalar(_) => vec![vec![show(&constant(expected).unwrap())]],
    };
    if matches!(query.find, FindSpec::Tuple(_) | FindSpec::Scalar(_)) {
        assert!(
            found.contains(&wanted[0]),
            "{name}: {found:?} has no {wanted:?}"
        );
        return;
    }
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted, "{name}");
}

/// A term as JSON shows it, doubles in nine digits; sets are sorted as text.
fn show(term: &Term) -> String {
    match term {
        Term::Keyword(keyword) => format!("{:?}", keyword.to_string()),
        Term::Double(_) | Term::Long(_) | Term::BigDec(_) | Term::BigInt(_) => {
            let number: f64 = term
                .to_string()
                .trim_end_matches(['M', 'N'])
                .parse()
                .unwrap();
            format!("{number:.9e}")
        }
        Term::Vector(terms) | Term::Set(terms) => {
            let mut parts: Vec<String> = terms.iter().map(show).collect();
            parts.sort();
            parts.join(",")
        }
        _ => term.to_string(),
    }
}

/// JSON as EDN: outside of strings, colons and commas are blank; `null` is `nil`.
fn from_json(text: &str) -> String {
    let mut edn = String::new();
    let mut is_string = false;
    let mut is_escaped = false;
    for char in text.chars() {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => is_string = !is_string,
            ':' | ',' if !is_string => {
                edn.push(' ');
                continue;
            }
            _ => {}
        }
        edn.push(char);
    }
    edn
}
