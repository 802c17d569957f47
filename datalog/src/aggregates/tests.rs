use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::edn::read;
use crate::functions::Functions;
use crate::term::Term;
use crate::term::strategy::{number, term};

/// Calls a form such as `(min 2 [3 1 2])`: the constants, then the values.
fn answer(text: &str) -> String {
    let form = read(text).unwrap();
    let (name, args) = form.as_list().unwrap().split_first().unwrap();
    let mut args: Vec<Term> = args
        .iter()
        .map(|arg| Term::try_from(arg).unwrap())
        .collect();
    let Some(Term::Vector(values)) = args.pop() else {
        panic!("{text} has no values")
    };
    let functions = Functions::standard();
    let aggregate = functions
        .aggregate(name.as_symbol().unwrap().as_str())
        .unwrap();
    match aggregate.call(&args, &values) {
        Ok(term) => term.to_string(),
        Err(message) => format!("error: {message}"),
    }
}

#[test]
fn aggregates_answer() {
    for (text, expected) in [
        ("(count [1 1 nil])", "3"),
        ("(count-distinct [1 1.0 2])", "2"),
        ("(distinct [2 1 1.0])", "#{1 2}"),
        ("(sum [])", "0"),
        ("(sum [1 2 3])", "6"),
        ("(sum [1 2N])", "3N"),
        ("(sum [1 2.50M 0.5M])", "4.00M"),
        ("(sum [1 0.1 0.2M])", "1.3"),
        ("(sum [0.1 0.1 0.1 0.1 0.1 0.1 0.1 0.1 0.1 0.1])", "1.0"),
        ("(sum [##Inf 1.0])", "##Inf"),
        ("(sum [9223372036854775807 1 -1])", "9223372036854775807"),
        (
            "(sum [9223372036854775807 1])",
            "error: sum overflows a long (9223372036854775808)",
        ),
        ("(sum [9223372036854775807 1N])", "9223372036854775808N"),
        (
            "(sum [1 \"a\"])",
            "error: sum takes numbers, not a string (\"a\")",
        ),
        ("(avg [])", "nil"),
        ("(avg [1 2])", "1.5"),
        ("(avg [2 2])", "2.0"),
        (
            "(avg [9223372036854775807 9223372036854775807])",
            "9.223372036854776e18",
        ),
        ("(avg [1N 2N])", "1.5"),
        ("(avg [1M 2M])", "1.5M"),
        ("(avg [1M 1M 2M])", "1.333333333333333333333333333333333M"),
        ("(avg [1M 2.0])", "1.5"),
        ("(min [2 1.5 \"a\"])", "1.5"),
        ("(max [2 1.5 \"a\"])", "\"a\""),
        ("(min [])", "nil"),
        ("(min 2 [3 1 2 1])", "[1 1]"),
        ("(max 2 [3 1 2])", "[2 3]"),
        ("(max 9 [3 1 2])", "[1 2 3]"),
        ("(min 0 [1])", "[]"),
        (
            "(min :a [1])",
            "error: min takes a long, not a keyword (:a)",
        ),
        (
            "(min -1 [1])",
            "error: min takes a number from zero, not a long (-1)",
        ),
        ("(min 1 2 [1])", "error: min takes 0 or 1 constant, not 2"),
        ("(sum 1 [1])", "error: sum takes no constants, not 1"),
        ("(sample [1])", "error: sample takes 1 constant, not 0"),
        ("(median [3 1 2])", "2"),
        ("(median [3 1 2 5])", "2.5"),
        ("(median [1 3])", "2"),
        (
            "(median [9223372036854775807 9223372036854775805])",
            "9223372036854775806",
        ),
        ("(median [1.5M 2M])", "1.75M"),
        ("(median [0N 0M 4 5])", "2M"),
        ("(median [0M 0N 4 5])", "2M"),
        ("(median [])", "nil"),
        (
            "(median [\"a\"])",
            "error: median takes numbers, not a string (\"a\")",
        ),
        ("(variance [174813])", "0.0"),
        ("(stddev [174813])", "0.0"),
        ("(variance [2 4 4 4 5 5 7 9])", "4.0"),
        ("(stddev [2 4 4 4 5 5 7 9])", "2.0"),
        ("(variance [10 15 20 35 75])", "554.0"),
        ("(variance [])", "nil"),
        ("(rand [])", "nil"),
        ("(rand [7])", "7"),
        ("(rand 3 [7])", "[7 7 7]"),
        ("(rand 3 [])", "[]"),
        (
            "(rand 99999999999 [1])",
            "error: rand makes a collection that is too large",
        ),
        ("(sample 3 [7 7.0])", "[7]"),
        ("(sample 0 [7])", "[]"),
    ] {
        assert_eq!(answer(text), expected, "{text}");
    }
}

#[test]
fn registered_aggregates_are_called() {
    let mut functions = Functions::standard();
    functions.register_aggregate("my/first", |values| Ok(values[0].clone()));
    let aggregate = functions.aggregate("my/first").unwrap();
    assert_eq!(aggregate.call(&[], &[Term::Long(5)]), Ok(Term::Long(5)));
    assert!(aggregate.call(&[Term::Nil], &[Term::Long(5)]).is_err());
    assert!(Functions::standard().aggregate("my/first").is_none());
    assert!(functions.aggregate("sum").unwrap().is_deterministic);
    assert!(!functions.aggregate("sample").unwrap().is_deterministic);
}

proptest! {
    #[test]
    fn no_aggregate_panics(values in vec(term(), 0..6), constants in vec(-1..9_i64, 0..2)) {
        let constants: Vec<Term> = constants.into_iter().map(Term::Long).collect();
        let functions = Functions::standard();
        for name in "count count-distinct distinct sum avg min max median variance stddev rand sample".split(' ') {
            let _ = functions.aggregate(name).unwrap().call(&constants, &values);
        }
    }

    #[test]
    fn numbers_are_aggregated_in_any_order(values in vec(number(), 0..6)) {
        let functions = Functions::standard();
        let backwards: Vec<Term> = values.iter().rev().cloned().collect();
        let is_exact = !values.iter().any(|value| matches!(value, Term::Double(_)));
        for name in ["sum", "avg", "median"].into_iter().filter(|_| is_exact) {
            let aggregate = functions.aggregate(name).unwrap();
            prop_assert_eq!(aggregate.call(&[], &values), aggregate.call(&[], &backwards));
        }
    }

    #[test]
    fn a_sample_is_distinct(values in vec(0..9_i64, 0..20), size in 0..12_usize) {
        let terms: Vec<Term> = values.iter().copied().map(Term::Long).collect();
        let constant = Term::Long(i64::try_from(size).unwrap());
        let functions = Functions::standard();
        let sample = functions.aggregate("sample").unwrap().call(&[constant], &terms).unwrap();
        let Term::Vector(sample) = sample else { panic!("{sample}") };
        let distinct: BTreeSet<&Term> = sample.iter().collect();
        prop_assert_eq!(distinct.len(), sample.len());
        prop_assert_eq!(sample.len(), size.min(values.iter().collect::<BTreeSet<_>>().len()));
        prop_assert!(sample.iter().all(|term| terms.contains(term)));
    }
}
