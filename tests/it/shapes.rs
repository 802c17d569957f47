//! The shapes of queries in which planners of Datalog have gone wrong, each a claim.

use std::fmt::Write;

use datomfusion::{BranchName, Connection, Db, Federation, Functions, Inputs, Store, Term};

use crate::support::{database, transact};

const SCHEMA: &str = r#"[
    {:db/ident :p/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one
     :db/unique :db.unique/identity}
    {:db/ident :p/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one :db/index true}
    {:db/ident :p/weight :db/valueType :db.type/double :db/cardinality :db.cardinality/one}
    {:db/ident :p/price :db/valueType :db.type/bigdec :db/cardinality :db.cardinality/one}
    {:db/ident :p/mood :db/valueType :db.type/keyword :db/cardinality :db.cardinality/one}
    {:db/ident :p/nick :db/valueType :db.type/string :db/cardinality :db.cardinality/many}
    {:db/ident :p/friend :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}]"#;

const PEOPLE: &str = r#"[
    {:db/id "ada" :p/name "Ada" :p/age 36 :p/weight 36.0 :p/nick ["a" "ad"] :p/mood :p/age
     :p/friend ["bob" "cyd"]}
    {:db/id "bob" :p/name "Bob" :p/age 40 :p/weight 70.5 :p/friend ["cyd"] :p/price 1.50M}
    {:db/id "cyd" :p/name "Cyd" :p/age 40 :p/nick ["c"] :p/friend ["dan"] :p/price 0.10M}
    {:db/id "dan" :p/name "Dan" :p/weight 40.0}]"#;

const REACH: &str = "[[(reach ?a ?b) [?a :p/friend ?b]]
                      [(reach ?a ?b) [?a :p/friend ?c] (reach ?c ?b)]]";

async fn people() -> Db {
    let connection = database(1).await;
    transact(&connection, SCHEMA).await;
    transact(&connection, PEOPLE).await;
    connection.db()
}

fn given(arguments: &[&str]) -> Inputs {
    arguments.iter().fold(Inputs::new(), |inputs, text| {
        inputs.argument(Term::try_from(&datomfusion::edn::read(text).unwrap()).unwrap())
    })
}

/// The rows of an answer, sorted.
async fn ask_with(db: &Db, query: &str, inputs: Inputs) -> String {
    match db.q(query, &inputs).await {
        Ok(answer) => {
            let mut rows = answer.into_rows();
            rows.sort();
            let rows = rows.into_iter().map(|row| Term::vector(row).to_string());
            rows.collect::<Vec<_>>().join(" ")
        }
        Err(error) => panic!("{error}\nin {query}"),
    }
}

async fn ask(db: &Db, query: &str) -> String {
    ask_with(db, query, Inputs::new()).await
}

async fn refused(db: &Db, query: &str, inputs: Inputs) -> String {
    match db.q(query, &inputs).await {
        Ok(answer) => panic!("answered {} to {query}", answer.to_term()),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_predicate_holds_on_a_variable_that_nothing_else_uses() {
    let db = people().await;
    let query =
        "[:find ?n :where [?e :p/name ?n] [?e :p/age ?a] [(= ?a ?b)] [?f :p/age ?b] [(< 36 ?b)]]";
    assert_eq!(ask(&db, query).await, r#"["Bob"] ["Cyd"]"#);
    let query =
        "[:find ?n :where [?e :p/name ?n] [?e :p/age ?a] [(identity ?a) ?b] [(not= ?b 40)]]";
    assert_eq!(ask(&db, query).await, r#"["Ada"]"#);
}

#[tokio::test]
async fn not_join_sees_an_outer_input_that_it_joins_on_and_no_other() {
    let db = people().await;
    let listed = "[:find ?n :in $ ?age
                   :where [?e :p/name ?n] (not-join [?e ?age] [?e :p/age ?age])]";
    assert_eq!(
        ask_with(&db, listed, given(&["40"])).await,
        r#"["Ada"] ["Dan"]"#
    );
    // Not listed, the inner ?age is another variable: whoever has an age at all is out.
    let unlisted = "[:find ?n :in $ ?age
                     :where [?e :p/name ?n] [(< 0 ?age)] (not-join [?e] [?e :p/age ?age])]";
    assert_eq!(ask_with(&db, unlisted, given(&["40"])).await, r#"["Dan"]"#);
}

#[tokio::test]
async fn a_recursive_rule_answers_all_that_it_reaches_however_it_is_written() {
    let db = people().await;
    let left = "[[(reach ?a ?b) [?a :p/friend ?b]]
                 [(reach ?a ?b) (reach ?a ?c) [?c :p/friend ?b]]]";
    let twice = "[[(reach ?a ?b) [?a :p/friend ?b]]
                  [(reach ?a ?b) (reach ?a ?c) (reach ?c ?b)]]";
    let mutual = "[[(reach ?a ?b) [?a :p/friend ?b]]
                   [(reach ?a ?b) [?a :p/friend ?c] (onward ?c ?b)]
                   [(onward ?a ?b) (reach ?a ?b)]]";
    let with_or = "[[(reach ?a ?b) (or [?a :p/friend ?b]
                                       (and [?a :p/friend ?c] (reach ?c ?b)))]]";
    for rules in [REACH, left, twice, mutual, with_or] {
        let closure = "[:find ?m ?n :in $ % :where (reach ?a ?b) [?a :p/name ?m] [?b :p/name ?n]]";
        let expected = r#"["Ada" "Bob"] ["Ada" "Cyd"] ["Ada" "Dan"] ["Bob" "Cyd"] ["Bob" "Dan"] ["Cyd" "Dan"]"#;
        let rules = Inputs::new().rules(rules);
        assert_eq!(
            ask_with(&db, closure, rules.clone()).await,
            expected,
            "{rules:?}"
        );
        let from = r#"[:find ?n :in $ % :where (reach [:p/name "Bob"] ?b) [?b :p/name ?n]]"#;
        assert_eq!(
            ask_with(&db, from, rules.clone()).await,
            r#"["Cyd"] ["Dan"]"#,
            "{rules:?}"
        );
        let to = r#"[:find ?n :in $ % :where (reach ?a [:p/name "Cyd"]) [?a :p/name ?n]]"#;
        assert_eq!(
            ask_with(&db, to, rules.clone()).await,
            r#"["Ada"] ["Bob"]"#,
            "{rules:?}"
        );
        let both = r#"[:find ?n :in $ % :where [?a :p/name "Ada"] [?a :p/name ?n]
                       (reach ?a [:p/name "Dan"])]"#;
        assert_eq!(
            ask_with(&db, both, rules.clone()).await,
            r#"["Ada"]"#,
            "{rules:?}"
        );
    }
}

#[tokio::test]
async fn a_blank_is_an_argument_of_a_rule_inside_an_or() {
    let db = people().await;
    let query = "[:find ?n :in $ %
                  :where [?e :p/name ?n] (or (reach ?e _) [?e :p/weight 40.0])]";
    let rules = || Inputs::new().rules(REACH);
    let all = r#"["Ada"] ["Bob"] ["Cyd"] ["Dan"]"#;
    assert_eq!(ask_with(&db, query, rules()).await, all);
    let query = "[:find ?n :in $ % :where [?e :p/name ?n] (not (reach _ ?e))]";
    assert_eq!(ask_with(&db, query, rules()).await, r#"["Ada"]"#);
}

#[tokio::test]
async fn a_rule_may_change_an_argument_by_a_function() {
    let db = people().await;
    let rules = "[[(within ?a ?b ?d) [?a :p/friend ?b] [(ground 1) ?d]]
                  [(within ?a ?b ?d) (within ?a ?c ?f) [?c :p/friend ?b] [(inc ?f) ?d] [(< ?d 9)]]
                  [(steps [?a ?n] ?b) [(= ?n 0)] [(identity ?a) ?b]]
                  [(steps [?a ?n] ?b) [(< 0 ?n)] [?a :p/friend ?c] [(dec ?n) ?m] (steps ?c ?m ?b)]]";
    let up = r#"[:find ?n ?d :in $ % :where (within [:p/name "Ada"] ?b ?d) [?b :p/name ?n]]"#;
    let expected = r#"["Bob" 1] ["Cyd" 1] ["Cyd" 2] ["Dan" 2] ["Dan" 3]"#;
    assert_eq!(
        ask_with(&db, up, Inputs::new().rules(rules)).await,
        expected
    );
    let down =
        r#"[:find ?n :in $ % ?k :where [?a :p/name "Ada"] (steps ?a ?k ?b) [?b :p/name ?n]]"#;
    let inputs = given(&["2"]).rules(rules);
    assert_eq!(ask_with(&db, down, inputs).await, r#"["Cyd"] ["Dan"]"#);
}

#[tokio::test]
async fn two_clauses_may_ask_for_the_same_attribute() {
    let db = people().await;
    let one = "[:find ?n ?a ?b :where [?e :p/name ?n] [?e :p/age ?a] [?e :p/age ?b]]";
    assert_eq!(
        ask(&db, one).await,
        r#"["Ada" 36 36] ["Bob" 40 40] ["Cyd" 40 40]"#
    );
    let many = "[:find ?a ?b :where [?e :p/nick ?a] [?e :p/nick ?b] [(< ?a ?b)]]";
    assert_eq!(ask(&db, many).await, r#"["a" "ad"]"#);
    let constant = "[:find ?n :where [?e :p/age 40] [?e :p/name ?n] [?e :p/age ?a] [(< ?a 41)]]";
    assert_eq!(ask(&db, constant).await, r#"["Bob"] ["Cyd"]"#);
    let clash = "[:find ?n :where [?e :p/name ?n] [?e :p/age 40] [?e :p/age 36]]";
    assert_eq!(ask(&db, clash).await, "");
}

/// Both calls may be refused. The second drops the rows of which the first would be.
#[tokio::test]
async fn a_call_that_drops_rows_comes_before_one_that_refuses_them() {
    let db = people().await;
    let query = "[:find ?a ?x :in $ ?n :where [(+ ?v 1) ?x] [?e ?a ?v] [(inc ?n) ?v]]";
    assert_eq!(ask_with(&db, query, given(&["-5"])).await, "");
}

/// The physical planner moved the condition below what it guards, and below what it is about.
#[tokio::test]
async fn a_condition_guards_a_call_and_sees_what_is_shown() {
    let db = people().await;
    let query = r#"[:find ?a ?b :in $ [?a ...]
                    :where [(+ ?a 1) ?c] [(< 3 ?c)] [(/ 10 ?a) ?b] [_ :p/name "Ada"]]"#;
    assert_eq!(ask_with(&db, query, given(&["[0 5]"])).await, "[5 2]");
    let query = r#"[:find (max ?r) . :in $ [?a ...] :with ?a
                    :where [(+ ?a 1) ?c] [(< 3 ?c)] [(rand-int 1000) ?r] [(< ?r 100)] [_ :p/name "Ada"]]"#;
    let numbers: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    let inputs = given(&[&format!("[{}]", numbers.join(" "))]);
    let most = db.q(query, &inputs).await.unwrap().to_term();
    assert!(matches!(most, Term::Long(most) if most < 100), "{most}");
}

/// A call that leads nowhere ran before what drops all of its rows, if that was written behind it.
#[tokio::test]
async fn a_call_that_connects_nothing_waits_for_what_drops_its_rows() {
    let db = people().await;
    let divide = "[?e :p/age ?a] [(- ?a ?a) ?z] [(/ 1 ?z) ?b]";
    let nobody = r#"[?f :p/name "nobody"]"#;
    for clauses in [format!("{divide} {nobody}"), format!("{nobody} {divide}")] {
        assert_eq!(ask(&db, &format!("[:find ?b :where {clauses}]")).await, "");
    }
}

#[tokio::test]
async fn a_conjunction_has_a_bound() {
    let db = people().await;
    let mut query = String::from("[:find ?a0 :where");
    for n in 0..2000 {
        write!(query, " [?a{n} :p/friend ?a{}]", n + 1).unwrap();
    }
    query.push(']');
    let reason = refused(&db, &query, Inputs::new()).await;
    assert!(reason.contains("at most 512"), "{reason}");
    let mut query = String::from("[:find ?e :where [?e :p/age ?a]");
    for n in 0..2000 {
        write!(query, " (not [?e :p/friend {n}])").unwrap();
    }
    query.push(']');
    let reason = refused(&db, &query, Inputs::new()).await;
    assert!(reason.contains("at most 512"), "{reason}");
}

/// A call that may be refused runs late, and here both of its copies join the same relations.
#[tokio::test]
async fn a_call_may_be_written_twice() {
    let db = people().await;
    let query = "[:find ?n :in $ [[?k [?m ...]]] [[?z ?s]]
                  :where [(count ?s) ?m] [?e :p/name ?n] [(count ?s) ?m]]";
    let inputs = given(&[r#"[["" [1 3]]]"#, r#"[[4 "abc"]]"#]);
    assert_eq!(
        ask_with(&db, query, inputs).await,
        r#"["Ada"] ["Bob"] ["Cyd"] ["Dan"]"#
    );
}

#[tokio::test]
async fn get_else_asks_about_a_variable_that_a_join_has_bound() {
    let db = people().await;
    let query = "[:find ?n ?a :where [_ :p/friend ?f] [?f :p/name ?n]
                  [(get-else $ ?f :p/age 0) ?a]]";
    assert_eq!(ask(&db, query).await, r#"["Bob" 40] ["Cyd" 40] ["Dan" 0]"#);
    let mixed = r#"[:find ?n ?a :where [?f :p/name ?n] [(get-else $ ?f :p/weight "none") ?a]]"#;
    assert_eq!(
        ask(&db, mixed).await,
        r#"["Ada" 36.0] ["Bob" 70.5] ["Cyd" "none"] ["Dan" 40.0]"#
    );
}

#[tokio::test]
async fn get_else_over_a_history_answers_each_value_once() {
    let connection = database(1).await;
    transact(&connection, SCHEMA).await;
    transact(&connection, "[{:p/name \"Ann\" :p/age 30}]").await;
    for age in [31, 30, 31] {
        transact(&connection, &format!("[{{:p/name \"Ann\" :p/age {age}}}]")).await;
    }
    let db = connection.db().history();
    let query = "[:find ?e ?a :where [?e :p/name ?n ?t true] [(get-else $ ?e :p/age 0) ?a]]";
    let rows = db.q(query, &Inputs::new()).await.unwrap().into_rows();
    let ages: Vec<&Term> = rows.iter().map(|row| &row[1]).collect();
    assert_eq!(ages.len(), 2, "{ages:?}");
    let count = "[:find (count ?a) . :where [?e :p/name _ _ true] [(get-else $ ?e :p/age 0) ?a]]";
    let count = db.q(count, &Inputs::new()).await.unwrap();
    assert_eq!(count.to_term(), Term::Long(2));
}

#[tokio::test]
async fn a_variable_means_the_same_in_nested_scopes() {
    let db = people().await;
    let query = r#"[:find ?n :where [?e :p/name ?n]
                    (or (and [?e :p/age ?a] (not [?x :p/age ?a] [?x :p/name "Ada"]))
                        (not [?e :p/age _]))]"#;
    assert_eq!(ask(&db, query).await, r#"["Bob"] ["Cyd"] ["Dan"]"#);
    // In two negations, a variable that occurs nowhere else is two variables.
    let apart = "[:find ?n :where [?e :p/name ?n] (not [?e :p/age ?a] [(< ?a 37)])
                  (not [?e :p/weight ?a] [(< 50 ?a)])]";
    assert_eq!(ask(&db, apart).await, r#"["Cyd"] ["Dan"]"#);
}

#[tokio::test]
async fn an_undeclared_attribute_matches_nothing_and_is_noted() {
    let db = people().await;
    assert_eq!(ask(&db, "[:find ?e :where [?e :p/nmae ?n]]").await, "");
    let not = "[:find ?n :where [?e :p/name ?n] (not [?e :p/nmae])]";
    assert_eq!(ask(&db, not).await, r#"["Ada"] ["Bob"] ["Cyd"] ["Dan"]"#);
    let or_else = "[:find ?v . :where [?e :p/name \"Ada\"] [(get-else $ ?e :p/nmae 7) ?v]]";
    assert_eq!(ask(&db, or_else).await, "[7]");
    let inputs = Inputs::new().source("$", &db);
    let plan = Federation::new()
        .explain_q("[:find ?e :where [?e :p/nmae ?n]]", &inputs)
        .await
        .unwrap();
    assert!(plan.contains("there is no attribute :p/nmae"), "{plan}");
}

#[tokio::test]
async fn numbers_join_by_value_and_other_kinds_never_meet() {
    let db = people().await;
    let across =
        "[:find ?m ?n :where [?e :p/age ?x] [?f :p/weight ?x] [?e :p/name ?m] [?f :p/name ?n]]";
    assert_eq!(
        ask(&db, across).await,
        r#"["Ada" "Ada"] ["Bob" "Dan"] ["Cyd" "Dan"]"#
    );
    let never = "[:find ?e :where [?e :p/age ?x] [?f :p/name ?x]]";
    assert_eq!(ask(&db, never).await, "");
    let plan = Federation::new()
        .explain_q(never, &Inputs::new().source("$", &db))
        .await
        .unwrap();
    assert!(plan.contains("note: ?x"), "{plan}");
    let constant = "[:find ?e :where [?e :p/age \"40\"]]";
    assert_eq!(ask(&db, constant).await, "");
    let plan = Federation::new()
        .explain_q(constant, &Inputs::new().source("$", &db))
        .await
        .unwrap();
    assert!(plan.contains("note: \"40\""), "{plan}");
}

/// DataFusion's push-down takes `7 = x AND x = 7` for false unless another rule has turned one around.
#[tokio::test]
async fn an_equality_written_twice_is_no_contradiction() {
    let db = people().await;
    let query = "[:find ?n :where [(= 36 ?a)] [(= ?a 36)] [?e :p/age ?a] [?e :p/name ?n]
                  [(get-some $ ?e :p/price :p/weight) [_ ?v]]]";
    assert_eq!(ask(&db, query).await, r#"["Ada"]"#);
}

#[tokio::test]
async fn decimals_stay_exact_and_print_with_their_digits() {
    let db = people().await;
    assert_eq!(
        ask(&db, "[:find (sum ?p) . :where [_ :p/price ?p]]").await,
        "[1.6M]"
    );
    let any = "[:find ?v :where [[:p/name \"Bob\"] ?a ?v] [(decimal? ?v)]]";
    assert_eq!(ask(&db, any).await, "[1.5M]");
}

#[tokio::test]
async fn attributes_are_entities_and_print_as_idents() {
    let db = people().await;
    let query = r#"[:find ?a ?i :where [?e :p/name "Dan"] [?e ?a] [?a :db/ident ?i]]"#;
    assert_eq!(
        ask(&db, query).await,
        "[:p/name :p/name] [:p/weight :p/weight]"
    );
    let named = r#"[:find ?s :where [[:p/name "Dan"] ?a] [(name ?a) ?s]]"#;
    assert_eq!(ask(&db, named).await, r#"["name"] ["weight"]"#);
    let compared = r#"[:find ?v :where [[:p/name "Dan"] ?a ?v] [(not= ?a :p/name)]]"#;
    assert_eq!(ask(&db, compared).await, "[40.0]");
    // A value that happens to be an attribute's name is a keyword.
    let value = "[:find ?m :where [?e :p/mood ?m] [(= ?m :p/age)]]";
    assert_eq!(ask(&db, value).await, "[:p/age]");
}

#[tokio::test]
async fn nested_collections_and_boolean_answers_bind() {
    let db = people().await;
    let nested = "[:find ?k ?n :in $ [[?k [[?age ...]]]] :where [?e :p/age ?age] [?e :p/name ?n]]";
    let inputs = given(&[r#"[["old" [[40 41]]] ["young" [[36]]]]"#]);
    assert_eq!(
        ask_with(&db, nested, inputs).await,
        r#"["old" "Bob"] ["old" "Cyd"] ["young" "Ada"]"#
    );
    let boolean = "[:find ?n ?b :where [?e :p/name ?n] [?e :p/age ?a] [(< ?a 40) ?b]]";
    assert_eq!(
        ask(&db, boolean).await,
        r#"["Ada" true] ["Bob" false] ["Cyd" false]"#
    );
    let lookup = r#"[:find ?n :where [?e :p/friend [:p/name "Cyd"]] [?e :p/name ?n]]"#;
    assert_eq!(ask(&db, lookup).await, r#"["Ada"] ["Bob"]"#);
    let inside = "[:find ?a . :in $ ?n :where [[:p/name ?n] :p/age ?a]]";
    assert_eq!(ask_with(&db, inside, given(&[r#""Bob""#])).await, "[40]");
    let passed = "[:find ?n :in $ ?f :where [?e :p/friend ?f] [?e :p/name ?n]]";
    let inputs = given(&[r#"[:p/name "Cyd"]"#]);
    assert_eq!(ask_with(&db, passed, inputs).await, r#"["Ada"] ["Bob"]"#);
}

#[tokio::test]
async fn a_query_within_a_query_is_answered_first() {
    let db = people().await;
    let query = "[:find ?n :where [(q [:find (max ?a) . :where [_ :p/age ?a]] $) ?oldest]
                  [?e :p/age ?oldest] [?e :p/name ?n]]";
    assert_eq!(ask(&db, query).await, r#"["Bob"] ["Cyd"]"#);
}

#[tokio::test]
async fn a_query_within_a_query_is_asked_for_each_binding_of_its_inputs() {
    let db = people().await;
    let friends = "[:find ?n ?count :where [?e :p/name ?n]
        [(q [:find (count ?f) . :in $ ?e :where [?e :p/friend ?f]] $ ?e) ?count]]";
    // Dan has no friends: the inner query answers nil, which binds nothing.
    assert_eq!(ask(&db, friends).await, r#"["Ada" 2] ["Bob" 1] ["Cyd" 1]"#);
    let given_ages = "[:find ?a ?n :in $ [?a ...] :where
        [(q [:find [?n ...] :in $ ?a :where [?e :p/age ?a] [?e :p/name ?n]] $ ?a) [?n ...]]]";
    assert_eq!(
        ask_with(&db, given_ages, given(&["[36 40 50]"])).await,
        r#"[36 "Ada"] [40 "Bob"] [40 "Cyd"]"#
    );
    // One that feeds another, one that must answer its own input, one inside or and one inside not.
    let chained = "[:find ?n ?older :where [?e :p/name ?n] [?e :p/age ?a]
        [(q [:find (max ?b) . :in $ ?a :where [_ :p/age ?b] [(< ?a ?b)]] $ ?a) ?most]
        [(q [:find [?m ...] :in $ ?b :where [?x :p/age ?b] [?x :p/name ?m]] $ ?most) [?older ...]]]";
    assert_eq!(ask(&db, chained).await, r#"["Ada" "Bob"] ["Ada" "Cyd"]"#);
    let same = "[:find ?n :where [?e :p/name ?n] [?e :p/age ?a]
        [(q [:find (max ?b) . :in $ ?a :where [_ :p/age ?b] [(<= ?a ?b)]] $ ?a) ?a]]";
    assert_eq!(ask(&db, same).await, r#"["Bob"] ["Cyd"]"#);
    let inside = "[:find ?n :where [?e :p/name ?n]
        (or [?e :p/age 36]
            (and [?e :p/friend ?f]
                 [(q [:find ?m . :in $ ?f :where [?f :p/name ?m]] $ ?f) ?m] [(= ?m \"Dan\")]))
        (not [(q [:find ?a . :in $ ?e :where [?e :p/age ?a]] $ ?e) ?a] [(= ?a 36)])]";
    assert_eq!(ask(&db, inside).await, r#"["Cyd"]"#);
    let in_rules = "[:find ?n :in $ % :where (popular ?e) [?e :p/name ?n]]";
    let rules = "[[(popular ?e) [?e :p/name _]
        [(q [:find (count ?f) . :in $ ?e :where [?f :p/friend ?e]] $ ?e) ?count] [(< 1 ?count)]]]";
    assert_eq!(
        ask_with(&db, in_rules, Inputs::new().rules(rules)).await,
        r#"["Cyd"]"#
    );
    let unbound = "[:find ?x :where [(q [:find ?n . :in $ ?y :where [?y :p/name ?n]] $ ?y) ?x]]";
    let text = refused(&db, unbound, Inputs::new()).await;
    assert!(text.contains("?y"), "{text}");
}

#[tokio::test]
async fn what_never_holds_in_a_not_leaves_the_outside_as_it_is() {
    let db = people().await;
    // Outside ?a is one attribute and inside it would have to be another.
    let query =
        "[:find ?n :where (not [?e :p/friend ?f] [(= ?a :p/mood)]) [?p ?a ?v] [(= ?a :p/age)]
                  [?p :p/name ?n]]";
    assert_eq!(ask(&db, query).await, r#"["Ada"] ["Bob"] ["Cyd"]"#);
}

#[tokio::test]
async fn a_row_that_another_clause_drops_makes_no_error() {
    let db = people().await;
    let query =
        r#"[:find ?n ?m :where [?e ?a ?v] [(* 2 ?v) ?m] [?e :p/name ?n] [?a :db/ident :p/age]]"#;
    assert_eq!(ask(&db, query).await, r#"["Ada" 72] ["Bob" 80] ["Cyd" 80]"#);
    let guarded = r#"[:find ?v :where [?e :p/name] [?e _ ?v] [(even? ?v)] [(int? ?v)] [(< 30 ?v)] [(< ?v 60)]]"#;
    assert_eq!(ask(&db, guarded).await, "[36] [40]");
}

#[tokio::test]
async fn rules_run_over_collections_of_many_tuples() {
    let db = people().await;
    let tuples = (0..100_000_i64).map(|n| Term::vector([Term::Long(n), Term::Long(n / 10)]));
    let rules = "[[(under ?a ?b) [?a ?b]] [(under ?a ?b) [?a ?c] (under ?c ?b)]]";
    let inputs = Inputs::new().collection("$t", tuples).rules(rules);
    let query = "[:find ?b :in $ $t % :where ($t under 54321 ?b)]";
    assert_eq!(
        ask_with(&db, query, inputs.clone()).await,
        "[0] [5] [54] [543] [5432]"
    );
    // A clause binds the start as well as a constant does.
    let query = "[:find ?b :in $ $t % :where [$t ?a 5432] ($t under ?a ?b) [(< ?a 54321)]]";
    assert_eq!(
        ask_with(&db, query, inputs).await,
        "[0] [5] [54] [543] [5432]"
    );
}

#[tokio::test]
async fn faults_of_a_query_are_quoted_and_underlined() {
    let db = people().await;
    for (query, says) in [
        ("[:find ?x :where [?e :p/name]]", "?x is not bound"),
        (
            "[:find ?e :where [?e :p/name] [(< ?y 3)]]",
            "nothing binds ?y",
        ),
        (
            "[:find ?e :where [?e :p/name ?n] [(starts-with? ?n \"A\")]]",
            "clojure.string/starts-with?",
        ),
        (
            "[:find ?e :where [?e :p/name ?n] [(subs ?n)]]",
            "subs takes",
        ),
        (
            "[:find ?e :in $ % :where (raech ?e _)]",
            "did you mean reach?",
        ),
        (
            "[:find ?e :in $ % :where (reach ?e)]",
            "reach takes 2 arguments, not 1",
        ),
        ("[:find ?e :where [$x ?e :p/name]]", "there is no source $x"),
        (
            "[:find (maks ?a) :where [_ :p/age ?a]]",
            "did you mean max?",
        ),
        (
            "[:find ?e :where [?e :p/name ?n] [(+ ?n 1) ?m]]",
            "+ takes numbers",
        ),
        (
            "[:find ?a :where [_ :p/name ?n] [[:p/name ?n] :p/age ?a]]",
            "inside a constant",
        ),
    ] {
        let error = refused(&db, query, Inputs::new().rules(REACH)).await;
        assert!(error.contains(says), "{query}\n{error}");
        assert!(error.contains('^'), "{query}\n{error}");
    }
    let unstratified = "[[(p ?a) [?a :p/name] (not (q ?a))] [(q ?a) [?a :p/name] (not (p ?a))]]";
    let error = refused(
        &db,
        "[:find ?e :in $ % :where (p ?e)]",
        Inputs::new().rules(unstratified),
    );
    assert!(error.await.contains("negation"));
    let surplus = refused(&db, "[:find ?e :where [?e :p/name]]", given(&["1"])).await;
    assert!(surplus.contains("1 more argument"), "{surplus}");
    let missing = refused(
        &db,
        "[:find ?e :in $ ?n :where [?e :p/name ?n]]",
        given(&[]),
    )
    .await;
    assert!(missing.contains("no argument was given"), "{missing}");
}

#[tokio::test]
async fn registered_functions_and_aggregates_are_called_by_name() {
    let db = people().await;
    let mut functions = Functions::standard();
    functions.register("my/initial", 1, |arguments| match &arguments[0] {
        Term::String(text) => Ok(Term::String(
            text.chars().take(1).collect::<String>().into(),
        )),
        other => Err(format!(
            "my/initial takes a string, not {}",
            other.describe()
        )),
    });
    functions.register_aggregate("my/joined", |values| {
        let mut texts: Vec<String> = values.iter().map(ToString::to_string).collect();
        texts.sort();
        Ok(Term::String(texts.join("+").into()))
    });
    let query =
        "[:find ?i (my/joined ?a) :where [?e :p/name ?n] [(my/initial ?n) ?i] [?e :p/age ?a]]";
    let inputs = Inputs::new().functions(functions.clone());
    assert_eq!(
        ask_with(&db, query, inputs).await,
        r#"["A" "36"] ["B" "40"] ["C" "40"]"#
    );
    // A name may come as an input, too.
    let query = "[:find ?n :in $ ?f :where [?e :p/name ?n] [(?f ?n) ?i] [(= ?i \"C\")]]";
    let inputs = given(&["my/initial"]).functions(functions);
    assert_eq!(ask_with(&db, query, inputs).await, r#"["Cyd"]"#);
}

#[tokio::test]
async fn answers_are_ordered_and_cut_as_the_query_says() {
    let db = people().await;
    let query = "[:find ?a ?n :where [?e :p/name ?n] [?e :p/age ?a]
                  :order-by [?a :desc ?n :asc] :limit 2 :offset 1]";
    let answer = db.q(query, &Inputs::new()).await.unwrap();
    assert_eq!(answer.to_term().to_string(), r#"[[40 "Cyd"] [36 "Ada"]]"#);
}

#[tokio::test]
async fn an_or_within_an_or_is_looked_into_once() {
    let db = people().await;
    let mut clause = "[(< ?n 100)]".to_owned();
    for _ in 0..40 {
        clause = format!("(or (and {clause} [?e :p/age ?n]) [(= ?n 0)])");
    }
    let query = format!("[:find ?n :where [?e :p/age ?n] {clause}]");
    assert_eq!(ask(&db, &query).await, "[36] [40]");
}

#[tokio::test]
async fn pull_shows_attributes_too_and_refuses_a_history() {
    let db = people().await;
    let query = "[:find (pull ?a [:db/ident]) :where [[:p/name \"Dan\"] ?a 40.0]]";
    assert_eq!(ask(&db, query).await, "[{:db/ident :p/weight}]");
    let query = "[:find (pull ?e [*]) :where [?e :p/name]]";
    let error = refused(&db.history(), query, Inputs::new()).await;
    assert!(error.contains("this is a history"), "{error}");
}

#[tokio::test]
async fn a_query_of_no_database_needs_none() {
    let federation = Federation::new();
    let query = r#"[:find ?b . :where [(re-find #"l+" "hello") ?b]]"#;
    let answer = federation.q(query, &Inputs::new()).await.unwrap();
    assert_eq!(answer.to_term(), Term::from("ll"));
    let query = "[:find ?b . :where [(subs \"hello\" 1 3) ?b]]";
    let answer = federation.q(query, &Inputs::new()).await.unwrap();
    assert_eq!(answer.to_term(), Term::from("el"));
    let asks = federation.q("[:find ?e :where [?e]]", &Inputs::new()).await;
    assert!(
        asks.unwrap_err()
            .to_string()
            .contains("there is no source $")
    );
}

#[tokio::test]
async fn a_query_that_does_not_end_in_time_is_an_error() {
    let db = people().await;
    let rules = "[[(count-up ?n) [(ground 0) ?n]] [(count-up ?n) (count-up ?m) [(inc ?m) ?n]]]";
    let query = "[:find (count ?n) :in $ % :where (count-up ?n) :timeout 50]";
    let error = refused(&db, query, Inputs::new().rules(rules)).await;
    assert!(error.contains(":timeout of 50 ms"), "{error}");
}

#[tokio::test]
async fn a_query_that_would_take_the_machine_is_an_error() {
    let store = Store::memory();
    chains(&store, 2000).await;
    let db = Db::open(&store, &BranchName::default()).await.unwrap();
    let query = "[:find ?a ?b :in $ % :where (reach ?a ?b)]";
    let federation = Federation::new().with_memory_limit(1 << 18).unwrap();
    let inputs = Inputs::new().source("$", &db).rules(REACH);
    let error = federation.q(query, &inputs).await.unwrap_err().to_string();
    assert!(error.contains("Resources exhausted"), "{error}");
    let mut federation = federation;
    federation.attach("d", db).unwrap();
    let sql = "SELECT count(*) FROM d.datoms a JOIN d.datoms b ON a.tx = b.tx";
    let error = federation.query(sql).await.unwrap_err().to_string();
    assert!(error.contains("Resources exhausted"), "{error}");
}

/// A forest of chains, each of ten links.
async fn chains(store: &Store, chains: u32) {
    let connection =
        Connection::create_in(store, BranchName::default(), datomfusion::Seeded::new(7))
            .await
            .unwrap();
    transact(&connection, SCHEMA).await;
    let mut text = String::from("[");
    for chain in 0..chains {
        for link in 0..10 {
            let next = if link < 9 {
                format!(":p/friend \"{chain}-{}\"", link + 1)
            } else {
                String::new()
            };
            let name = format!("{chain}-{link}");
            writeln!(text, "{{:db/id \"{name}\" :p/name \"{name}\" {next}}}").unwrap();
        }
    }
    transact(&connection, &(text + "]")).await;
    connection.checkpoint().await.unwrap();
}

#[tokio::test]
async fn a_small_bound_input_into_a_recursive_or_rule_costs_by_the_input() {
    let rules = "[[(reach ?a ?b) (or [?a :p/friend ?b]
                                     (and [?a :p/friend ?c] (reach ?c ?b)))]]";
    let query = "[:find (count ?b) . :in $ % [?start ...]
                  :where [?a :p/name ?start] (reach ?a ?b)]";
    let mut read = Vec::new();
    for size in [200, 4_000] {
        let store = Store::memory();
        chains(&store, size).await;
        let db = Db::open(&store, &BranchName::default()).await.unwrap();
        let before = store.requests();
        let inputs = given(&[r#"["7-3" "11-8"]"#]).rules(rules);
        assert_eq!(ask_with(&db, query, inputs).await, "[7]");
        let after = store.requests();
        read.push(after.bytes_read - before.bytes_read);
    }
    // Twenty times the data: a little more is read for higher trees and larger leaves, not twenty times.
    assert!(read[1] < 4 * read[0], "{read:?} bytes");
}

/// Sales of customers of nations: whichever predicate leaves least, its entities are joined first.
#[tokio::test]
async fn a_predicate_that_leaves_little_comes_first() {
    let connection = database(1).await;
    let schema = [":s/c ref", ":s/x long", ":c/n ref", ":n/z long"].map(|attribute| {
        let (ident, kind) = attribute.split_once(' ').unwrap();
        format!("{{:db/ident {ident} :db/valueType :db.type/{kind} :db/cardinality :db.cardinality/one}}")
    });
    transact(&connection, &format!("[{}]", schema.join(" "))).await;
    let mut data = String::from("[");
    for n in 0..500 {
        write!(data, "{{:db/id \"n{n}\" :n/z {}}}", n * 7 % 500).unwrap();
    }
    for c in 0..1000 {
        write!(data, "{{:db/id \"c{c}\" :c/n \"n{}\"}}", c * 3 % 500).unwrap();
    }
    for s in 0..2000 {
        let c = s * 11 % 1000;
        write!(data, "{{:s/c \"c{c}\" :s/x {}}}", s * 13 % 2000).unwrap();
    }
    data.push(']');
    transact(&connection, &data).await;
    connection.checkpoint().await.unwrap();
    let db = connection.db();
    for (x, z, first, last) in [(1990, -1, "?s", "?z"), (-1, 495, "?z", "?s")] {
        let query = format!(
            "[:find (count ?s) . :where [?s :s/c ?c] [?s :s/x ?x] [?c :c/n ?n] [?n :n/z ?z]
              [(< {x} ?x)] [(< {z} ?z)]]"
        );
        let inputs = Inputs::new().source("$", &db);
        let plan = Federation::new().explain_q(&query, &inputs).await.unwrap();
        let join = plan.lines().find(|line| line.starts_with("join")).unwrap();
        let begins = join.contains(first) && !join.contains(last);
        assert!(begins, "{first} before {last} in\n{plan}");
    }
}

#[tokio::test]
async fn what_a_recursion_did_is_shown() {
    let db = people().await;
    let query = "[:find ?b :in $ % ?a :where (reach ?a ?b)]";
    let ada = r#"[:find ?e . :where [?e :p/name "Ada"]]"#;
    let ada = db.q(ada, &Inputs::new()).await.unwrap().to_term();
    let inputs = Inputs::new().source("$", &db).rules(REACH).argument(ada);
    let shown = Federation::new().analyze_q(query, &inputs).await.unwrap();
    let line = shown.lines().find(|line| line.contains("FixpointExec"));
    let line = line.unwrap_or_else(|| panic!("a fixpoint in {shown}"));
    for part in [
        "output_rows=3",
        "rounds=",
        "rows_derived=",
        "look_ups=",
        "facts_read=",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
}
