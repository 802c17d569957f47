//! Whole queries, and what a user sees when one cannot be parsed.

use datomfusion_datalog::Error;
use datomfusion_datalog::ast::{ClauseKind, FindSpec, PullPattern, Query, RuleSet};

#[track_caller]
fn assert_error<T>(result: Result<T, Error>, expected: &str) {
    let Err(error) = result else {
        panic!("the text is parsed, but should not be: {expected}");
    };
    assert_eq!(error.to_string(), expected, "\n{error}\n");
}

const WHOLE: &str = r#"
[:find ?name (count ?friend) (pull ?e [:person/name {:person/_friend 2}])
 :keys name friends person
 :with ?tx
 :in $ $archive % ?min [?country ...] [[?city _]]
 :where [?e :person/name ?name ?tx]
        [$archive ?e :person/age ?age]
        [(<= ?min ?age)]
        [(str ?name "!") ?loud]
        (or-join [[?e] ?friend]
          [?e :person/friend ?friend]
          (and [?friend :person/friend ?e] (not [?friend :person/hidden true])))
        ($archive not-join [?e] [?e :person/city ?city])
        (lives-in ?e ?country _)
 :order-by [?name :desc 1]
 :limit 10 :offset 5 :timeout 1000]"#;

#[test]
fn a_query_with_everything_is_parsed() {
    let query = Query::parse(WHOLE).unwrap();
    assert!(matches!(&query.find, FindSpec::Rel(elements) if elements.len() == 3));
    assert_eq!(query.keys.as_ref().unwrap().names.len(), 3);
    assert_eq!((query.with.len(), query.inputs.len()), (1, 6));
    assert_eq!(
        (query.limit, query.offset, query.timeout),
        (Some(10), 5, Some(1000))
    );
    assert_eq!(query.order_by.len(), 2);
    let kinds: Vec<_> = query
        .clauses
        .iter()
        .map(|clause| match clause.kind {
            ClauseKind::Pattern(_) => "pattern",
            ClauseKind::Call(_) => "call",
            ClauseKind::Rule(_) => "rule",
            ClauseKind::Not { .. } => "not",
            ClauseKind::Or { .. } => "or",
        })
        .collect();
    assert_eq!(
        kinds,
        ["pattern", "pattern", "call", "call", "or", "not", "rule"]
    );
}

#[test]
fn spans_point_into_the_text_of_the_query() {
    let query = Query::parse(WHOLE).unwrap();
    let shown = |at: usize| {
        let span = query.clauses[at].span;
        &query.text[span.start..span.end]
    };
    assert_eq!(shown(0), "[?e :person/name ?name ?tx]");
    assert_eq!(shown(2), "[(<= ?min ?age)]");
    assert_eq!(shown(6), "(lives-in ?e ?country _)");
}

#[test]
fn a_misspelled_section_is_underlined_and_corrected() {
    assert_error(
        Query::parse("[:find ?e\n :wher [?e :person/name]]"),
        "unknown section `:wher`; did you mean `:where`? at line 2, column 2
   :wher [?e :person/name]]
   ^^^^^",
    );
}

#[test]
fn a_query_that_finds_nothing_is_underlined_whole() {
    assert_error(
        Query::parse("[:where [?e :person/name]]"),
        "the query does not say what to `:find` at line 1, column 1
  [:where [?e :person/name]]
  ^^^^^^^^^^^^^^^^^^^^^^^^^^",
    );
}

#[test]
fn a_nested_call_is_underlined() {
    assert_error(
        Query::parse("[:find ?y :where [?e :a ?x] [(inc (* 2 ?x)) ?y]]"),
        "a call stands in a clause of its own, `[(f ?x) ?y]`; a list that is a constant is quoted, `'(…)` at line 1, column 35
  [:find ?y :where [?e :a ?x] [(inc (* 2 ?x)) ?y]]
                                    ^^^^^^^^",
    );
}

#[test]
fn an_error_inside_a_branch_is_underlined_there() {
    assert_error(
        Query::parse("{:find [?e]\n :where [(or [?e :a]\n             (and))]}"),
        "expected a clause after `and` at line 3, column 14
               (and))]}
               ^^^^^",
    );
}

#[test]
fn an_error_inside_a_string_quotes_what_the_string_holds() {
    assert_error(
        Query::parse(r#""[:find ?e :where [?e :a \"x\"] :limit \"1\"]""#),
        "expected a non-negative integer after `:limit`, found a string at line 1, column 37
  [:find ?e :where [?e :a \"x\"] :limit \"1\"]
                                      ^^^",
    );
}

#[test]
fn a_pattern_inside_a_query_is_underlined_there() {
    assert_error(
        Query::parse("[:find (pull ?e [:a {:b :c}]) :where [?e]]"),
        "expected a pattern, a number of levels, or `...` for all levels, found `:c` at line 1, column 25
  [:find (pull ?e [:a {:b :c}]) :where [?e]]
                          ^^",
    );
    assert_error(
        PullPattern::parse("[:a\n [:b :as]]"),
        "expected a value after `:as` at line 2, column 6
   [:b :as]]
       ^^^",
    );
}

#[test]
fn heads_that_disagree_are_reported_at_the_second() {
    assert_error(
        RuleSet::parse("[[(r ?a ?b) [?a :b ?b]]\n [(r ?a) [?a :b]]]"),
        "`r` has 1 argument here, but 2 above at line 2, column 3
   [(r ?a) [?a :b]]]
    ^^^^^^",
    );
}

#[test]
fn what_is_no_edn_is_reported_by_the_reader() {
    assert_error(
        Query::parse("[:find ?e :where [?e :a"),
        "unclosed `[` at line 1, column 18
  [:find ?e :where [?e :a
                   ^",
    );
}
