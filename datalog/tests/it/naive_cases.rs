//! What the reference evaluator must answer, worked out by hand.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its own text must fail"
)]

use datomfusion_datalog::ast::{Query, RuleSet, SourceName};
use datomfusion_datalog::edn::{Form, read};
use datomfusion_datalog::{Functions, Term};

use crate::loading::Loading;
use crate::naive::{NaiveSource, constant, evaluate};

const SCHEMA: &str = "[
  {:db/ident :p/id :db/valueType :db.type/long :db/cardinality :db.cardinality/one
   :db/unique :db.unique/identity}
  {:db/ident :p/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
  {:db/ident :p/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
  {:db/ident :p/height :db/valueType :db.type/double :db/cardinality :db.cardinality/one}
  {:db/ident :p/color :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}
  {:db/ident :p/mood :db/valueType :db.type/keyword :db/cardinality :db.cardinality/one}
  {:db/ident :p/friend :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}]";

const COLORS: &str = "[{:db/id 1001 :db/ident :color/red} {:db/id 1002 :db/ident :color/blue}]";

/// 1 → 2 → 3 → 1, and 3 → 4.
const PEOPLE: &str = "[
  {:db/id 2001 :p/id 1 :p/name \"Ada\" :p/age 30 :p/height 1.0 :p/color 1001 :p/friend 2002}
  {:db/id 2002 :p/id 2 :p/name \"Bob\" :p/age 20 :p/height 20.0 :p/color 1002 :p/friend 2003}
  {:db/id 2003 :p/id 3 :p/name \"Cyd\" :p/age 30 :p/mood :color/red :p/friend [2001 2004]}
  {:db/id 2004 :p/id 4 :p/name \"Dan\" :p/mood :p/age}]";

const CHANGES: &str = "[[:db/add 2001 :p/age 31] [:db/retract 2004 :p/mood :p/age]]";

/// Answers a query about the people, with rules and inputs as text; rows as text too.
fn ask(query: &str, rules: &str, inputs: &[&str]) -> Result<Vec<String>, String> {
    let people = Loading::of(&[SCHEMA, COLORS, PEOPLE]);
    let mut later = people.clone();
    later.transact(CHANGES);
    let tuples = "[[\"Ada\" 1] [\"Bob\" 2 :wide] [\"Cyd\"] [\"Dan\" nil]]";
    let sources = [
        ("$", NaiveSource::Db(people.current)),
        ("$later", NaiveSource::Db(later.current)),
        ("$history", NaiveSource::Db(later.history)),
        ("$tuples", NaiveSource::Collection(tuples_of(tuples))),
    ];
    let sources = sources.map(|(name, source)| (SourceName::new(name), source));
    let query = Query::parse(query).unwrap();
    let rules = RuleSet::parse(rules).unwrap();
    let inputs = inputs
        .iter()
        .map(|text| constant(&read(text).unwrap()).unwrap())
        .collect();
    let functions = Functions::standard();
    let rows = evaluate(&query, &rules, sources.into(), inputs, &functions)?;
    Ok(rows
        .iter()
        .map(|row| {
            row.iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect())
}

fn tuples_of(text: &str) -> Vec<Vec<Term>> {
    let form = read(text).unwrap();
    form.as_vector().unwrap().iter().map(elements).collect()
}

fn elements(form: &Form) -> Vec<Term> {
    let forms = form.as_sequence().unwrap().iter();
    forms.map(|form| constant(form).unwrap()).collect()
}

/// Asserts the rows of a query, in the order of terms.
#[track_caller]
fn finds(query: &str, rows: &[&str]) {
    assert_eq!(ask(query, "[]", &[]).unwrap(), rows, "{query}");
}

#[track_caller]
fn finds_by(query: &str, rules: &str, inputs: &[&str], rows: &[&str]) {
    assert_eq!(ask(query, rules, inputs).unwrap(), rows, "{query}");
}

#[track_caller]
fn fails(query: &str, rules: &str, message: &str) {
    let error = ask(query, rules, &[]).unwrap_err();
    assert!(error.contains(message), "{error}");
}

#[test]
fn patterns_join_on_equal_variables() {
    finds(
        "[:find ?n ?m :where [?a :p/friend ?b] [?a :p/name ?n] [?b :p/name ?m]]",
        &[
            r#""Ada" "Bob""#,
            r#""Bob" "Cyd""#,
            r#""Cyd" "Ada""#,
            r#""Cyd" "Dan""#,
        ],
    );
    finds(
        "[:find ?n :where [_ :p/age 30] [?e :p/age 20] [?e :p/name ?n]]",
        &[r#""Bob""#],
    );
    finds(
        "[:find ?i ?j :where [?a :p/age ?x] [?b :p/age ?x] [(< ?i ?j)] [?a :p/id ?i] [?b :p/id ?j]]",
        &["1 3"],
    );
}

#[test]
fn numbers_unify_by_number() {
    finds(
        "[:find ?i ?j :where [?a :p/id ?i] [?b :p/height ?i] [?b :p/id ?j]]",
        &["1 1"],
    );
    finds(
        "[:find ?i :where [?a :p/height 20] [?a :p/age 20.0] [?a :p/id ?i]]",
        &["2"],
    );
}

#[test]
fn a_variable_twice_in_a_pattern_unifies() {
    finds("[:find ?e :where [?e :p/friend ?e]]", &[]);
    finds("[:find ?x :in $tuples :where [$tuples ?x ?x]]", &[]);
}

#[test]
fn patterns_have_transactions_and_additions() {
    finds(
        "[:find ?n :where [?e :p/age 30 ?tx true] [?e :p/name ?n ?tx]]",
        &[r#""Ada""#, r#""Cyd""#],
    );
    finds(
        "[:find ?v ?added :in $history :where [$history 2001 :p/age ?v _ ?added]]",
        &["30 false", "30 true", "31 true"],
    );
}

#[test]
fn constants_are_idents_and_lookup_refs_where_entities_stand() {
    finds("[:find ?n :where [[:p/id 1] :p/name ?n]]", &[r#""Ada""#]);
    finds(
        "[:find ?i :where [?e :p/color :color/blue] [?e :p/id ?i]]",
        &["2"],
    );
    finds(
        "[:find ?i :where [?e :p/friend [:p/id 1]] [?e :p/id ?i]]",
        &["3"],
    );
    finds(
        "[:find ?i :where [?e :p/mood :color/red] [?e :p/id ?i]]",
        &["3"],
    );
    finds("[:find ?n :where [[:p/id 99] :p/name ?n]]", &[]);
    finds("[:find ?n :where [:color/none :p/name ?n]]", &[]);
    finds(
        "[:find ?i :where [?e _ :color/red] [?e :p/id ?i]]",
        &["1", "3"],
    );
}

#[test]
fn inputs_are_idents_and_lookup_refs_where_entities_stand() {
    finds_by(
        "[:find ?n :in $ ?e :where [?e :p/name ?n]]",
        "[]",
        &["[:p/id 2]"],
        &[r#""Bob""#],
    );
    finds_by(
        "[:find ?i :in $ ?c :where [?e :p/color ?c] [?e :p/id ?i]]",
        "[]",
        &[":color/red"],
        &["1"],
    );
    finds_by(
        "[:find ?i :in $ ?c :where [?e :p/mood ?c] [?e :p/id ?i]]",
        "[]",
        &[":color/red"],
        &["3"],
    );
    finds_by(
        "[:find ?i :in $ [?f ...] :where [?e :p/friend ?f] [?e :p/id ?i]]",
        "[]",
        &["[[:p/id 1] [:p/id 2] [:p/id 99]]"],
        &["1", "3"],
    );
    finds_by(
        "[:find ?i :in $ % ?e :where (knows ?e ?f) [?f :p/id ?i]]",
        "[[(knows ?a ?b) [?a :p/friend ?b]]]",
        &["[:p/id 3]"],
        &["1", "4"],
    );
}

#[test]
fn an_undeclared_attribute_has_no_facts() {
    finds("[:find ?e :where [?e :p/none _]]", &[]);
    finds(
        "[:find ?i :where [?e :p/id ?i] (not [?e :p/none])]",
        &["1", "2", "3", "4"],
    );
    finds(
        "[:find ?i :where [?e :p/id ?i] [(missing? $ ?e :p/none)]]",
        &["1", "2", "3", "4"],
    );
}

#[test]
fn a_variable_of_attributes_is_an_entity_and_shows_its_ident() {
    finds(
        "[:find ?a ?v :where [2002 ?a ?v]]",
        &[
            ":p/age 20",
            ":p/color 1002",
            ":p/friend 2003",
            ":p/height 20.0",
            ":p/id 2",
            ":p/name \"Bob\"",
        ],
    );
    finds("[:find ?v :where [2002 ?a ?v] [(= ?a :p/age)]]", &["20"]);
    finds(
        "[:find ?a :where [2004 ?a _] [(not= ?a :p/id)] [(!= ?a :p/mood)]]",
        &[":p/name"],
    );
    finds_by(
        "[:find ?v :in $ ?a :where [2002 ?a ?v]]",
        "[]",
        &[":p/name"],
        &["\"Bob\""],
    );
    finds_by(
        "[:find ?a :in $ % :where (has 2004 ?a)]",
        "[[(has ?e ?x) [?e ?x _] [(not= ?x :p/id)]]]",
        &[],
        &[":p/mood", ":p/name"],
    );
    finds_by(
        "[:find ?a :in $ % :where [2004 ?a _] (is-mood ?a)]",
        "[[(is-mood ?x) [(= ?x :p/mood)]]]",
        &[],
        &[":p/mood"],
    );
    finds("[:find ?a (count ?e) :where [?e ?a 30]]", &[":p/age 2"]);
}

#[test]
fn comparisons_of_different_kinds_do_not_hold() {
    finds("[:find ?v :where [2002 _ ?v] [(< ?v \"C\")]]", &["\"Bob\""]);
    finds("[:find ?v :where [2002 _ ?v] [(< ?v 21)]]", &["2", "20"]);
    finds("[:find ?i :where [?e :p/id ?i] [(< 1 ?i 3)]]", &["2"]);
}

#[test]
fn functions_bind_scalars_tuples_collections_and_relations() {
    finds(
        "[:find ?j :where [_ :p/id ?i] [(+ ?i 1) ?j] [_ :p/id ?j]]",
        &["2", "3", "4"],
    );
    finds(
        "[:find ?s :where [_ :p/name ?n] [(str ?n \"!\") ?s] [(= ?n \"Ada\")]]",
        &["\"Ada!\""],
    );
    finds("[:find ?x :where [(ground [1 2 2]) [?x ...]]]", &["1", "2"]);
    finds(
        "[:find ?x ?y :where [(ground [[1 2] [3 4]]) [[?x ?y]]]]",
        &["1 2", "3 4"],
    );
    finds("[:find ?y :where [(ground [1 2 3]) [_ ?y]]]", &["2"]);
    finds(
        "[:find ?x ?y :where [(ground [[1 [2 3]] [4 []]]) [[?x [?y ...]]]]]",
        &["1 2", "1 3"],
    );
    finds(
        "[:find ?a ?b :where [(ground 1) ?x] [(tuple ?x \"y\") ?t] [(untuple ?t) [?a ?b]]]",
        &["1 \"y\""],
    );
    finds("[:find ?x :where [(ground [1 1]) [?x ?x]]]", &["1"]);
    finds("[:find ?x :where [(ground [1 2]) [?x ?x]]]", &[]);
}

#[test]
fn a_function_that_answers_nil_drops_the_row() {
    finds("[:find ?x :where [(ground nil) ?x]]", &[]);
    finds("[:find ?e :where [?e :p/id 1] [(ground nil) _]]", &[]);
    finds(
        "[:find ?x :where [(ground [1 nil 2]) [?x ...]]]",
        &["1", "2"],
    );
    finds(
        "[:find ?n ?v :in $tuples :where [$tuples ?n ?v]]",
        &["\"Ada\" 1", "\"Bob\" 2"],
    );
}

#[test]
fn functions_read_the_database() {
    finds(
        "[:find ?i ?a :where [?e :p/id ?i] [(get-else $ ?e :p/age 0) ?a]]",
        &["1 30", "2 20", "3 30", "4 0"],
    );
    finds(
        "[:find ?i :where [?e :p/id ?i] [(missing? $ ?e :p/age)]]",
        &["4"],
    );
    finds(
        "[:find ?i ?a ?v :where [?e :p/id ?i] [(get-some $ ?e :p/height :p/age) [?a ?v]]]",
        &["1 :p/height 1.0", "2 :p/height 20.0", "3 :p/age 30"],
    );
    finds(
        "[:find ?i ?a :in $ $later :where [?e :p/id ?i] [(get-else $later ?e :p/age 0) ?a] [(< 30 ?a)]]",
        &["1 31"],
    );
    finds(
        "[:find ?a :where [(get-else $ [:p/id 2] :p/age 0) ?a]]",
        &["20"],
    );
    // A variable that a function reads of may be joined elsewhere.
    finds(
        "[:find ?i ?a :where [(get-else $ ?f :p/age 0) ?a] [?e :p/friend ?f] [?e :p/id ?i]]",
        &["1 20", "2 30", "3 0", "3 30"],
    );
}

#[test]
fn not_is_about_the_variables_it_shares() {
    finds(
        "[:find ?i :where [?e :p/id ?i] (not [?e :p/age _])]",
        &["4"],
    );
    finds(
        "[:find ?i :where (not [?e :p/age ?a]) [?e :p/id ?i]]",
        &["4"],
    );
    finds(
        "[:find ?i :where (not [(< ?i 3)]) [_ :p/id ?i]]",
        &["3", "4"],
    );
    // ?x means nothing outside.
    finds(
        "[:find ?i :where [?e :p/id ?i] (not [?x :p/friend ?e])]",
        &[],
    );
    // It waits for ?a, which is bound last.
    finds(
        "[:find ?i :where [?e :p/id ?i] (not [?e :p/age ?a]) [?o :p/age ?a] [?o :p/id 2]]",
        &["1", "3", "4"],
    );
    finds(
        "[:find ?i :where [?e :p/id ?i] (not [?e :p/age ?a] (not [(< ?a 25)]))]",
        &["2", "4"],
    );
    finds(
        "[:find ?i :where [?e :p/id ?i] (not (or [?e :p/age 20] [?e :p/mood]))]",
        &["1"],
    );
}

#[test]
fn not_join_shares_what_it_lists() {
    // The inner ?i is another.
    finds(
        "[:find ?i :where [?e :p/id ?i] (not-join [?e] [?e :p/age ?i] [(< ?i 25)])]",
        &["1", "3", "4"],
    );
    finds(
        "[:find ?i :where [?e :p/id ?i] (not-join [?e] [?f :p/friend ?e] [?f :p/age 30])]",
        &["3"],
    );
    finds_by(
        "[:find ?i :in $ ?a :where [?e :p/id ?i] (not-join [?e ?a] [?e :p/age ?a])]",
        "[]",
        &["20"],
        &["1", "3", "4"],
    );
    // Here the input is not listed, so the inner ?a is any age.
    finds_by(
        "[:find ?i :in $ ?a :where [?e :p/id ?i] (not-join [?e] [?e :p/age ?a])]",
        "[]",
        &["20"],
        &["4"],
    );
    finds(
        "[:find ?i :in $ $later :where [?e :p/id ?i] ($later not-join [?e] [?e :p/age 30])]",
        &["1", "2", "4"],
    );
}

#[test]
fn or_unites_its_branches() {
    finds(
        "[:find ?i :where [?e :p/id ?i] (or [?e :p/age 20] [?e :p/mood :p/age])]",
        &["2", "4"],
    );
    finds(
        "[:find ?v :where [?e :p/id 3] (or [?e :p/age ?v] [?e :p/mood ?v] [?e :p/height ?v])]",
        &["30", ":color/red"],
    );
    finds(
        "[:find ?i :where (or (and [?e :p/age ?a] [(< ?a 25)]) [?e :p/mood ?a]) [?e :p/id ?i]]",
        &["2", "3", "4"],
    );
    finds(
        "[:find ?i :where [?e :p/id ?i] [?e :p/age ?a] (or (and [?e :p/id] [(< ?a 25)]) (and [(< 25 ?a)] (not [?e :p/mood])))]",
        &["1", "2"],
    );
}

#[test]
fn or_join_shares_what_it_lists() {
    finds(
        "[:find ?i :where [?e :p/id ?i] (or-join [?e] (and [?e :p/friend ?i] [?i :p/age 20]) [?e :p/mood ?x])]",
        &["1", "3", "4"],
    );
    finds(
        "[:find ?i ?j :where [_ :p/id ?i] (or-join [[?i] ?j] [(+ ?i 10) ?j] (and [(< ?i 2)] [(* ?i 5) ?j]))]",
        &["1 5", "1 11", "2 12", "3 13", "4 14"],
    );
    finds_by(
        "[:find ?i :in $ ?a :where (or-join [?e ?a] [?e :p/age ?a] [?e :p/height ?a]) [?e :p/id ?i]]",
        "[]",
        &["20"],
        &["2"],
    );
    // A branch may rely on what is bound outside of it.
    finds(
        "[:find ?i :where (or-join [?i] [(< ?i 2)] [_ :p/height ?i]) [_ :p/id ?i]]",
        &["1"],
    );
}

const REACH: &str = "[[(reach ?a ?b) [?a :p/friend ?b]]
                      [(reach ?a ?b) (reach ?a ?c) [?c :p/friend ?b]]]";

#[test]
fn recursive_rules_reach_everything() {
    let nonlinear =
        "[[(reach ?a ?b) [?a :p/friend ?b]] [(reach ?a ?b) (reach ?a ?c) (reach ?c ?b)]]";
    let right =
        "[[(reach ?a ?b) [?a :p/friend ?b]] [(reach ?a ?b) [?a :p/friend ?c] (reach ?c ?b)]]";
    for rules in [REACH, nonlinear, right] {
        finds_by(
            "[:find ?i :in $ % :where (reach [:p/id 1] ?b) [?b :p/id ?i]]",
            rules,
            &[],
            &["1", "2", "3", "4"],
        );
        finds_by(
            "[:find (count ?b) :in $ % :where (reach ?a ?b)]",
            rules,
            &[],
            &["4"],
        );
        finds_by(
            "[:find ?a ?b :in $ % :where (reach ?a ?b) [?a :p/id 4]]",
            rules,
            &[],
            &[],
        );
        finds_by(
            "[:find ?i :in $ % :where (reach ?a ?a) [?a :p/id ?i]]",
            rules,
            &[],
            &["1", "2", "3"],
        );
        finds_by(
            "[:find ?i :in $ % :where (reach ?a 2004) [?a :p/id ?i]]",
            rules,
            &[],
            &["1", "2", "3"],
        );
    }
}

#[test]
fn rules_take_blanks_constants_and_sources() {
    finds_by(
        "[:find ?i :in $ % :where [?e :p/id ?i] (or [?e :p/mood :p/age] (reach ?e _))]",
        REACH,
        &[],
        &["1", "2", "3", "4"],
    );
    let sized = "[[(sized ?e \"big\") [?e :p/age ?a] [(> ?a 30)]] [(sized ?e \"small\") [?e :p/age ?a] [(<= ?a 30)]]]";
    finds_by(
        "[:find ?s :in $ % :where (sized 2001 ?s)]",
        sized,
        &[],
        &["\"small\""],
    );
    finds_by(
        "[:find ?s :in $ $later % :where ($later sized 2001 ?s)]",
        sized,
        &[],
        &["\"big\""],
    );
    finds_by(
        "[:find ?i :in $ % :where [?e :p/id ?i] (sized ?e \"small\")]",
        sized,
        &[],
        &["1", "2", "3"],
    );
    finds_by(
        "[:find ?b :in $ % :where (same 2001 ?b)]",
        "[[(same ?x ?x) [?x :p/id]]]",
        &[],
        &["2001"],
    );
}

#[test]
fn a_recursive_rule_without_base_is_empty() {
    let rules = "[[(endless ?a ?b) [?a :p/friend ?c] (endless ?c ?b)]]";
    finds_by(
        "[:find ?a ?b :in $ % :where (endless ?a ?b)]",
        rules,
        &[],
        &[],
    );
    finds_by(
        "[:find ?i :in $ % :where [?e :p/id ?i] (not (endless ?e _))]",
        rules,
        &[],
        &["1", "2", "3", "4"],
    );
}

#[test]
fn mutual_recursion_and_negation_in_rules() {
    let rules = "[[(odd ?a ?b) [?a :p/friend ?b]]
                  [(odd ?a ?b) [?a :p/friend ?c] (even ?c ?b)]
                  [(even ?a ?b) [?a :p/friend ?c] (odd ?c ?b)]
                  [(never ?a ?b) [?a :p/id] [?b :p/id] (not (odd ?a ?b))]]";
    finds_by(
        "[:find ?i :in $ % :where (even 2001 ?b) [?b :p/id ?i]]",
        rules,
        &[],
        &["1", "2", "3", "4"],
    );
    finds_by(
        "[:find ?i :in $ % :where (never 2004 ?b) [?b :p/id ?i]]",
        rules,
        &[],
        &["1", "2", "3", "4"],
    );
    finds_by(
        "[:find ?i :in $ % :where (never ?a 2004) [?a :p/id ?i]]",
        rules,
        &[],
        &["4"],
    );
    fails(
        "[:find ?a :in $ % :where (liar ?a)]",
        "[[(liar ?a) [?a :p/id] (not (liar ?a))]]",
        "negation",
    );
}

#[test]
fn arguments_of_rules_change() {
    let steps = "[[(steps [?n] ?a ?b) [(<= ?n 1)] [?a :p/friend ?b]]
                  [(steps [?n] ?a ?b) [(< 1 ?n)] [(- ?n 1) ?m] [?a :p/friend ?c] (steps ?m ?c ?b)]]";
    finds_by(
        "[:find ?i :in $ % ?n :where (steps ?n 2001 ?b) [?b :p/id ?i]]",
        steps,
        &["2"],
        &["3"],
    );
    finds_by(
        "[:find ?i :in $ % ?n :where (steps ?n 2001 ?b) [?b :p/id ?i]]",
        steps,
        &["3"],
        &["1", "4"],
    );
    let distance = "[[(distance ?a ?b ?d) [?a :p/friend ?b] [(ground 1) ?d]]
                     [(distance ?a ?b ?d) (distance ?a ?c ?f) [(< ?f 4)] [?c :p/friend ?b] [(+ ?f 1) ?d]]]";
    finds_by(
        "[:find ?d :in $ % :where (distance 2001 2001 ?d)]",
        distance,
        &[],
        &["3"],
    );
    finds_by(
        "[:find ?d :in $ % :where (distance 2001 2002 ?d)]",
        distance,
        &[],
        &["1", "4"],
    );
    let endless =
        "[[(count-up [?n] ?m) [(+ ?n 1) ?m]] [(count-up [?n] ?m) [(+ ?n 1) ?k] (count-up ?k ?m)]]";
    fails(
        "[:find ?m :in $ % :where (count-up 0 ?m)]",
        endless,
        "limit",
    );
}

#[test]
fn a_rule_waits_for_what_its_body_needs() {
    let rules = "[[(next ?n ?m) [(+ ?n 1) ?m]]]";
    finds_by(
        "[:find ?m :in $ % :where (next ?n ?m) [?e :p/id ?n] [?e :p/age 20]]",
        rules,
        &[],
        &["3"],
    );
    fails(
        "[:find ?m :in $ % :where (next ?n ?m) [_ :p/id ?m]]",
        rules,
        "insufficient bindings",
    );
}

#[test]
fn clauses_that_can_never_run_are_an_error() {
    fails(
        "[:find ?x :where [(+ ?y 1) ?x]]",
        "[]",
        "insufficient bindings",
    );
    fails(
        "[:find ?e :where [?e :p/id] [(< ?x 2)]]",
        "[]",
        "insufficient bindings",
    );
    fails(
        "[:find ?e :where [?e :p/id] (not-join [?x] [?x :p/id])]",
        "[]",
        "insufficient bindings",
    );
    fails(
        "[:find ?e :where [?e :p/id] (or-join [[?x] ?e] [?e :p/age ?x])]",
        "[]",
        "insufficient bindings",
    );
}

#[test]
fn inputs_have_all_forms() {
    finds_by(
        "[:find ?i :in $ ?a :where [?e :p/age ?a] [?e :p/id ?i]]",
        "[]",
        &["30"],
        &["1", "3"],
    );
    finds_by(
        "[:find ?i :in $ [?i ...] :where [_ :p/id ?i]]",
        "[]",
        &["[1 7 2]"],
        &["1", "2"],
    );
    finds_by("[:find ?x ?y :in [?x _ ?y]]", "[]", &["[1 2 3]"], &["1 3"]);
    finds_by(
        "[:find ?x ?y :in [[?x ?y]]]",
        "[]",
        &["[[1 2] [3 4]]"],
        &["1 2", "3 4"],
    );
    finds_by(
        "[:find ?x ?y :in [[?x [?y ...]]]]",
        "[]",
        &["[[1 [2 3]] [4 []]]"],
        &["1 2", "1 3"],
    );
    finds_by(
        "[:find ?i :in $ ?f :where [_ :p/id ?i] [(?f ?i)]]",
        "[]",
        &["even?"],
        &["2", "4"],
    );
}

#[test]
fn aggregates_are_over_distinct_tuples() {
    finds(
        "[:find (sum ?a) (count ?a) :where [_ :p/age ?a]]",
        &["50 2"],
    );
    finds(
        "[:find (sum ?a) (count ?a) (avg ?a) :with ?e :where [?e :p/age ?a]]",
        &["80 3 26.666666666666668"],
    );
    finds(
        "[:find ?a (min ?n) (max ?n) :where [?e :p/age ?a] [?e :p/name ?n]]",
        &["20 \"Bob\" \"Bob\"", "30 \"Ada\" \"Cyd\""],
    );
    finds("[:find (count ?e) . :where [?e :p/id 99]]", &[]);
    finds(
        "[:find (count-distinct ?a) :with ?e :where [?e :p/age ?a]]",
        &["2"],
    );
    finds("[:find (min 2 ?i) . :where [_ :p/id ?i]]", &["[1 2]"]);
}

#[test]
fn collections_are_sources() {
    finds(
        "[:find ?n :in $tuples :where [$tuples ?n]]",
        &["\"Ada\"", "\"Bob\"", "\"Cyd\"", "\"Dan\""],
    );
    finds(
        "[:find ?i ?x :in $ $tuples :where [$tuples ?n ?x] [?e :p/name ?n] [?e :p/id ?i]]",
        &["1 1", "2 2"],
    );
    finds(
        "[:find ?n :in $tuples :where [$tuples ?n _ :wide]]",
        &["\"Bob\""],
    );
}
