//! No text makes the parser or the analysis panic: the corpus of the fuzz target `query`, replayed and mutated.

use std::fs;
use std::path::Path;

use datomfusion_datalog::ast::{PullPattern, Query, RuleSet, SourceName};
use datomfusion_datalog::edn::{Edn, Form, read};
use datomfusion_datalog::{Functions, Given, SourceFacts, analyze};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::forms::form;

/// Parses and analyses a text as whatever it may be; errors must print, in three lines at most.
fn parse_anything(text: &str) {
    let analysed = Query::parse(text).and_then(|query| {
        let given = Given {
            sources: &[(SourceName::default(), SourceFacts::Collection)],
            rules: &RuleSet::default(),
            arguments: &[],
            functions: &Functions::standard(),
        };
        analyze(&query, &given)
    });
    let errors = [
        analysed.err(),
        RuleSet::parse(text).err(),
        PullPattern::parse(text).err(),
    ];
    for error in errors.into_iter().flatten() {
        assert!(error.to_string().lines().count() <= 3, "{error}");
    }
}

fn corpus() -> Vec<String> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/query");
    let files = fs::read_dir(corpus).expect("the corpus is part of the repository");
    let mut paths: Vec<_> = files
        .map(|file| file.expect("the folder can be listed").path())
        .collect();
    paths.sort();
    let texts = paths
        .iter()
        .map(|path| fs::read(path).expect("a seed can be read"));
    texts
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .collect()
}

/// Words that mean something somewhere in a query, between blanks.
const WORDS: &str = ":find :in :where :with :keys :order-by :limit :as :default :db/id :a/_b ?x $ $s % _ . \
    ... * \"*\" and or not or-join not-join pull aggregate quote 'x limit nil 0 -1 [] () {} [[?a],?b] \
    (f,?x) [[(r,?a),[?a]]]";

fn word() -> impl Strategy<Value = &'static str> {
    select(WORDS.split_whitespace().collect::<Vec<_>>())
}

#[test]
fn the_corpus_is_parsed_without_panic() {
    let corpus = corpus();
    assert!(corpus.len() >= 8, "{} seeds", corpus.len());
    for text in corpus {
        parse_anything(&text);
        for (at, _) in text.char_indices() {
            parse_anything(&text[..at]);
        }
    }
}

/// Replaces one form somewhere inside another.
fn replace(form: &mut Form, at: &mut usize, new: &Form) {
    if *at == 0 {
        *form = new.clone();
    }
    *at = at.wrapping_sub(1);
    match &mut form.edn {
        Edn::List(forms) | Edn::Vector(forms) | Edn::Set(forms) => {
            for form in forms {
                replace(form, at, new);
            }
        }
        Edn::Map(entries) => {
            for (key, value) in entries {
                replace(key, at, new);
                replace(value, at, new);
            }
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn edn_that_is_no_query_is_refused_without_panic(form in form()) {
        parse_anything(&form.to_string());
        let form = Form::new(form.edn, (5..99).into());
        let _ = PullPattern::from_form(&form, "another text");
    }

    #[test]
    fn a_query_with_other_words_is_parsed_without_panic(
        seed in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), word()), 1..4),
    ) {
        let corpus = corpus();
        let mut text = seed.get(&corpus).clone();
        for (place, word) in changes {
            let blanks: Vec<usize> = text.match_indices(' ').map(|(at, _)| at).collect();
            if !blanks.is_empty() {
                text.insert_str(*place.get(&blanks), &format!(" {word}"));
            }
        }
        parse_anything(&text);
    }

    #[test]
    fn a_query_with_other_forms_is_parsed_without_panic(
        seed in any::<Index>(),
        at in 0_usize..60,
        word in word(),
        other in form(),
        is_word in any::<bool>(),
    ) {
        let corpus = corpus();
        if let Ok(mut form) = read(seed.get(&corpus).as_str()) {
            let word = read(word).unwrap();
            replace(&mut form, &mut { at }, if is_word { &word } else { &other });
            parse_anything(&form.to_string());
        }
    }
}
