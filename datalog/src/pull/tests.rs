//! Pulls from a vector of facts that counts how often it is asked.

use std::fmt::Write;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;

use super::*;
use crate::edn::{Keyword, read};
use crate::source::{AttributeFacts, TermType};

/// Facts in a vector.
struct Memory {
    attributes: Vec<AttributeFacts>,
    facts: Vec<(i64, i64, Term)>,
    calls: AtomicUsize,
}

const NAME: i64 = 1;
const AGE: i64 = 2;
const NICK: i64 = 3;
const FRIEND: i64 = 4;
const BOSS: i64 = 5;
const PART: i64 = 6;
const TYPE: i64 = 7;

impl Memory {
    fn new(facts: impl IntoIterator<Item = (i64, i64, Term)>) -> Self {
        let attribute = |id, ident, value_type, is_many, is_component| AttributeFacts {
            id,
            ident: Keyword::new(ident),
            value_type,
            is_many,
            is_unique: false,
            is_component,
            is_indexed: false,
        };
        let mut facts: Vec<_> = facts.into_iter().collect();
        facts.sort();
        Self {
            attributes: vec![
                attribute(NAME, "p/name", TermType::String, false, false),
                attribute(AGE, "p/age", TermType::Long, false, false),
                attribute(NICK, "p/nick", TermType::String, true, false),
                attribute(FRIEND, "p/friend", TermType::Ref, true, false),
                attribute(BOSS, "p/boss", TermType::Ref, false, false),
                attribute(PART, "p/part", TermType::Ref, true, true),
                attribute(TYPE, "p/type", TermType::Attribute, false, false),
            ],
            facts,
            calls: AtomicUsize::new(0),
        }
    }

    fn count(&self, entities: &[i64]) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        assert!(entities.is_sorted_by(|a, b| a < b), "{entities:?} ascend");
        assert!(!entities.is_empty(), "nothing is asked of nobody");
    }
}

#[async_trait]
impl Facts for Memory {
    fn attribute(&self, ident: &Keyword) -> Option<AttributeFacts> {
        self.attributes.iter().find(|a| a.ident == *ident).cloned()
    }

    fn attribute_by_id(&self, id: i64) -> Option<AttributeFacts> {
        self.attributes.iter().find(|a| a.id == id).cloned()
    }

    fn references(&self) -> Vec<i64> {
        Vec::new()
    }

    fn entid(&self, ident: &Keyword) -> Option<i64> {
        self.attribute(ident).map(|attribute| attribute.id)
    }

    fn ident(&self, entity: i64) -> Option<Keyword> {
        self.attribute_by_id(entity)
            .map(|attribute| attribute.ident)
    }

    async fn lookup(&self, _: i64, _: &Term) -> Result<Option<i64>, SourceError> {
        Err("a pull looks nothing up".into())
    }

    async fn facts_of(
        &self,
        entities: &[i64],
        attribute: Option<i64>,
    ) -> Result<Vec<(i64, i64, Term)>, SourceError> {
        self.count(entities);
        let is_asked = |(e, a, _): &&(i64, i64, Term)| {
            entities.binary_search(e).is_ok() && attribute.is_none_or(|attribute| attribute == *a)
        };
        Ok(self.facts.iter().filter(is_asked).cloned().collect())
    }

    async fn referrers_of(
        &self,
        entities: &[i64],
        attribute: i64,
    ) -> Result<Vec<(i64, i64)>, SourceError> {
        self.count(entities);
        let pair = |(e, a, v): &(i64, i64, Term)| match v {
            Term::Long(v) if *a == attribute => Some((*v, *e)),
            _ => None,
        };
        let mut found: Vec<_> = self.facts.iter().filter_map(pair).collect();
        found.retain(|(v, _)| entities.binary_search(v).is_ok());
        found.sort_unstable();
        Ok(found)
    }
}

/// Runs what never waits.
fn run<T>(future: impl Future<Output = T> + Send) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("facts in memory are there at once"),
    }
}

fn functions(name: &Symbol) -> Option<Xform> {
    match name.as_str() {
        "vector" => Some(Arc::new(|term| Ok(Term::vector([term.clone()])))),
        "refuse" => Some(Arc::new(|_| Err("no".to_owned()))),
        _ => None,
    }
}

fn try_pull(facts: &Memory, pattern: &str, entities: &[i64]) -> Result<Vec<Term>, PullError> {
    let pattern = PullPattern::parse(pattern).unwrap();
    run(pull(facts, &pattern, entities, &functions))
}

#[track_caller]
fn assert_pulls(facts: &Memory, entity: i64, cases: &[(&str, &str)]) {
    for (pattern, expected) in cases {
        let found = try_pull(facts, pattern, &[entity]).unwrap();
        let expected = Term::try_from(&read(expected).unwrap()).unwrap();
        assert_eq!(found, [expected], "{pattern}");
    }
}

#[track_caller]
fn error(facts: &Memory, pattern: &str) -> PullError {
    try_pull(facts, pattern, &[1]).unwrap_err()
}

/// 1 Ada has the friends 2 Ben and 3 Cy; 2 has 3, 3 has 1. 2 and 3 have the boss 1. 1 has the part 8,
/// which has the part 9.
fn people() -> Memory {
    Memory::new([
        (1, NAME, "Ada".into()),
        (1, AGE, 36.into()),
        (1, NICK, "a".into()),
        (1, NICK, "countess".into()),
        (1, FRIEND, 2.into()),
        (1, FRIEND, 3.into()),
        (1, PART, 8.into()),
        (2, NAME, "Ben".into()),
        (2, FRIEND, 3.into()),
        (2, BOSS, 1.into()),
        (3, NAME, "Cy".into()),
        (3, FRIEND, 1.into()),
        (3, BOSS, 1.into()),
        (8, NAME, "arm".into()),
        (8, PART, 9.into()),
        (9, NAME, "hand".into()),
        (9, TYPE, BOSS.into()),
    ])
}

#[test]
fn attributes_are_keys_and_missing_ones_are_absent() {
    assert_pulls(
        &people(),
        1,
        &[
            ("[:p/name :p/age]", r#"{:p/name "Ada", :p/age 36}"#),
            ("[:p/nick]", r#"{:p/nick ["a" "countess"]}"#),
            ("[:p/boss]", "nil"),
            ("[:p/name :p/boss]", r#"{:p/name "Ada"}"#),
            ("[:p/friend]", "{:p/friend [{:db/id 2} {:db/id 3}]}"),
        ],
    );
    assert_pulls(
        &people(),
        9,
        &[
            ("[:p/type]", "{:p/type :p/boss}"),
            ("[{:p/type [:db/id]}]", "{:p/type {:db/id 5}}"),
        ],
    );
}

#[test]
fn an_id_is_found_of_anything() {
    assert_pulls(
        &people(),
        777,
        &[
            ("[:db/id]", "{:db/id 777}"),
            ("[[:db/id :as :id]]", "{:id 777}"),
            ("[:db/id :p/name]", "{:db/id 777}"),
            ("[*]", "nil"),
            ("[:p/name {:p/_boss [:p/name]}]", "nil"),
        ],
    );
}

#[test]
fn entities_answer_in_the_order_in_which_they_were_asked() {
    let found = try_pull(&people(), "[:p/name]", &[3, 777, 1, 3]).unwrap();
    let shown: Vec<_> = found.iter().map(|term| term.to_edn().to_string()).collect();
    assert_eq!(
        shown,
        [
            r#"{:p/name "Cy"}"#,
            "nil",
            r#"{:p/name "Ada"}"#,
            r#"{:p/name "Cy"}"#
        ]
    );
    assert!(try_pull(&people(), "[*]", &[]).unwrap().is_empty());
}

#[test]
fn a_wildcard_is_every_attribute_with_components_whole() {
    assert_pulls(
        &people(),
        1,
        &[(
            "[*]",
            r#"{:db/id 1, :p/name "Ada", :p/age 36, :p/nick ["a" "countess"],
                :p/friend [{:db/id 2} {:db/id 3}],
                :p/part [{:db/id 8, :p/name "arm",
                          :p/part [{:db/id 9, :p/name "hand", :p/type :p/boss}]}]}"#,
        )],
    );
}

#[test]
fn explicit_attributes_override_the_wildcard() {
    assert_pulls(
        &people(),
        1,
        &[(
            "[:p/age * {:p/friend [:p/name]} [:p/name :as :name] [:db/id :as :id]
              [:p/nick :limit 1] {:p/part [:db/id]} {:p/_boss [:p/name]}]",
            r#"{:id 1, :name "Ada", :p/age 36, :p/nick ["a"],
                :p/friend [{:p/name "Ben"} {:p/name "Cy"}],
                :p/part [{:db/id 8}], :p/_boss [{:p/name "Ben"} {:p/name "Cy"}]}"#,
        )],
    );
}

#[test]
fn components_are_whole_unless_a_pattern_says_otherwise() {
    assert_pulls(
        &people(),
        8,
        &[
            (
                "[:p/part]",
                r#"{:p/part [{:db/id 9, :p/name "hand", :p/type :p/boss}]}"#,
            ),
            ("[{:p/part [:p/name]}]", r#"{:p/part [{:p/name "hand"}]}"#),
        ],
    );
}

#[test]
fn parts_that_contain_each_other_end() {
    let facts = Memory::new([(1, PART, 2.into()), (2, PART, 1.into())]);
    assert_pulls(
        &facts,
        1,
        &[(
            "[*]",
            "{:db/id 1, :p/part [{:db/id 2, :p/part [{:db/id 1}]}]}",
        )],
    );
}

#[test]
fn a_reverse_attribute_is_a_vector_except_of_a_component() {
    assert_pulls(
        &people(),
        1,
        &[
            ("[:p/_boss]", "{:p/_boss [{:db/id 2} {:db/id 3}]}"),
            (
                "[{:p/_friend [:p/name]}]",
                r#"{:p/_friend [{:p/name "Cy"}]}"#,
            ),
            ("[:p/_part]", "nil"),
        ],
    );
    assert_pulls(
        &people(),
        9,
        &[
            ("[:p/_part]", "{:p/_part {:db/id 8}}"),
            (
                "[{:p/_part ...} :db/id]",
                "{:db/id 9, :p/_part {:db/id 8, :p/_part {:db/id 1}}}",
            ),
        ],
    );
}

#[test]
fn nested_maps_without_content_are_left_out() {
    assert_pulls(
        &people(),
        1,
        &[
            (
                "[{:p/friend [:p/boss]}]",
                "{:p/friend [{:p/boss {:db/id 1}} {:p/boss {:db/id 1}}]}",
            ),
            ("[{:p/friend [:p/age]}]", "nil"),
            ("[{:p/part [:p/age :p/nick]} :p/age]", "{:p/age 36}"),
        ],
    );
    assert_pulls(&people(), 3, &[("[{:p/boss [:p/type]}]", "nil")]);
}

#[test]
fn options_rename_bound_and_replace() {
    assert_pulls(
        &people(),
        1,
        &[
            (
                r#"[[:p/name :as "name"] [:p/age :as 7]]"#,
                r#"{"name" "Ada", 7 36}"#,
            ),
            ("[[:p/boss :default :nobody]]", "{:p/boss :nobody}"),
            (
                "[(default :p/age 0) (limit :p/nick 1)]",
                r#"{:p/age 36, :p/nick ["a"]}"#,
            ),
            ("[[:p/name :xform vector]]", r#"{:p/name ["Ada"]}"#),
            ("[[:p/nick :xform vector :limit 1]]", r#"{:p/nick [["a"]]}"#),
            ("[[:p/boss :xform vector :default 1]]", "{:p/boss 1}"),
            (
                "[{[:p/friend :as :f :limit 1 :xform vector] [:p/name]}]",
                r#"{:f [[{:p/name "Ben"}]]}"#,
            ),
            ("[{[:p/boss :default 0] [:p/name]}]", "{:p/boss 0}"),
            ("[[:p/_boss :limit 1]]", "{:p/_boss [{:db/id 2}]}"),
        ],
    );
}

#[test]
fn a_thousand_values_are_pulled_unless_more_are_asked_for() {
    let facts = (0..1500).flat_map(|i| [(1, FRIEND, (10 + i).into()), (10 + i, BOSS, 1.into())]);
    let facts = Memory::new(facts);
    for (pattern, expected) in [
        ("[:p/friend]", 1000),
        ("[*]", 1000),
        ("[:p/_boss]", 1000),
        ("[[:p/friend :limit nil]]", 1500),
        ("[[:p/_boss :limit nil]]", 1500),
        ("[[:p/_boss :limit 1200]]", 1200),
    ] {
        let found = try_pull(&facts, pattern, &[1]).unwrap();
        let Term::Map(entries) = &found[0] else {
            panic!("a map")
        };
        let is_vector = |value: &Term| matches!(value, Term::Vector(v) if v.len() == expected);
        assert!(
            entries.iter().any(|(_, value)| is_vector(value)),
            "{pattern}"
        );
    }
}

#[test]
fn recursion_goes_as_deep_as_it_is_told() {
    let chain = Memory::new((1..9).map(|i| (i, BOSS, (i + 1).into())));
    assert_pulls(
        &chain,
        1,
        &[
            ("[:db/id {:p/boss 1}]", "{:db/id 1, :p/boss {:db/id 2}}"),
            (
                "[:db/id {:p/boss 2}]",
                "{:db/id 1, :p/boss {:db/id 2, :p/boss {:db/id 3}}}",
            ),
        ],
    );
    assert_pulls(
        &people(),
        1,
        &[(
            "[:p/name {:p/_boss 1}]",
            r#"{:p/name "Ada", :p/_boss [{:p/name "Ben"} {:p/name "Cy"}]}"#,
        )],
    );
}

#[test]
fn each_recursive_attribute_has_its_own_depth() {
    let facts = Memory::new([
        (1, BOSS, 2.into()),
        (1, FRIEND, 3.into()),
        (2, FRIEND, 4.into()),
        (2, BOSS, 5.into()),
        (3, BOSS, 6.into()),
    ]);
    assert_pulls(
        &facts,
        1,
        &[(
            "[:db/id {:p/boss 1 :p/friend 1}]",
            "{:db/id 1, :p/boss {:db/id 2, :p/friend [{:db/id 4}]},
              :p/friend [{:db/id 3, :p/boss {:db/id 6}}]}",
        )],
    );
}

#[test]
fn recursion_ends_where_its_path_closes() {
    assert_pulls(
        &people(),
        1,
        &[(
            "[:p/name {:p/friend ...}]",
            r#"{:p/name "Ada", :p/friend [
                {:p/name "Ben", :p/friend [{:p/name "Cy", :p/friend [{:db/id 1}]}]}
                {:p/name "Cy", :p/friend [{:db/id 1}]}]}"#,
        )],
    );
    let selfish = Memory::new([(1, BOSS, 1.into())]);
    assert_pulls(&selfish, 1, &[("[{:p/boss ...}]", "{:p/boss {:db/id 1}}")]);
}

#[test]
fn recursion_inside_a_nested_pattern_repeats_that_pattern() {
    assert_pulls(
        &people(),
        2,
        &[(
            "[:p/name {:p/boss [:p/age {:p/part ...}]}]",
            r#"{:p/name "Ben", :p/boss {:p/age 36}}"#,
        )],
    );
    assert_pulls(
        &people(),
        2,
        &[(
            "[{:p/boss [:db/id {:p/part ...}]}]",
            "{:p/boss {:db/id 1, :p/part [{:db/id 8, :p/part [{:db/id 9}]}]}}",
        )],
    );
}

#[test]
fn a_hundred_entities_cost_as_many_calls_as_one() {
    let facts = (1..200).flat_map(|i| {
        [
            (i, NAME, Term::from(format!("n{i}"))),
            (i, FRIEND, (i + 1).into()),
            (i, FRIEND, (i % 7 + 1).into()),
            (i, BOSS, (i % 10 + 1).into()),
        ]
    });
    let facts = Memory::new(facts);
    let calls = |pattern: &str, entities: &[i64]| {
        facts.calls.store(0, Ordering::Relaxed);
        try_pull(&facts, pattern, entities).unwrap();
        facts.calls.load(Ordering::Relaxed)
    };
    let hundred: Vec<i64> = (1..=100).collect();
    for (pattern, expected) in [
        ("[:p/name :p/age]", 2),
        ("[* {:p/boss [*]}]", 2),
        ("[:p/name {:p/friend [:p/name {:p/_boss [:p/name]}]}]", 5),
        ("[:p/name {:p/friend 2}]", 5),
        ("[:db/id]", 0),
    ] {
        assert_eq!(calls(pattern, &hundred), expected, "{pattern}");
        assert_eq!(calls(pattern, &[50]), expected, "{pattern}");
    }
}

#[test]
fn what_the_database_does_not_have_is_an_error_in_its_place() {
    for (pattern, expected, at) in [
        ("[:p/name :p/nmae]", "there is no attribute :p/nmae", 9..16),
        ("[:p/_nmae]", "there is no attribute :p/nmae", 1..9),
        (
            "[{:p/name [*]}]",
            ":p/name refers to no entities, so none can be pulled",
            2..13,
        ),
        (
            "[:p/_name]",
            ":p/name refers to no entities, so none can be pulled",
            1..9,
        ),
        ("[(:p/name :xform f)]", "there is no function `f`", 1..19),
        (
            "[[:p/name :default #x 1]]",
            "the tag #x makes no value here",
            1..24,
        ),
        ("[[:p/name :xform refuse]]", "`refuse` failed: no", 1..24),
    ] {
        let error = error(&people(), pattern);
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.span(), Some(at.into()), "{pattern}");
    }
}

#[test]
fn the_deepest_pull_fits_the_stack_and_a_deeper_one_is_refused() {
    let levels = i64::try_from(LEVELS_MAX).unwrap();
    let pattern = "[:db/id {:p/friend ...}]";
    let chain = |length| Memory::new((1..length).map(|i| (i, FRIEND, (i + 1).into())));
    let found = try_pull(&chain(levels), pattern, &[1]).unwrap();
    assert_eq!(found, found.clone());
    let mut shown = String::new();
    write!(shown, "{}", found[0].to_edn()).unwrap();
    assert!(shown.ends_with("}]}]}]}"));
    drop(found);

    let error = error(&chain(levels + 1), pattern);
    assert!(matches!(error, PullError::Limit { .. }), "{error}");
    assert_eq!(error.span(), Some(Span::new(9, 22)));
    assert!(try_pull(&chain(100_000), "[{:p/friend 900}]", &[1]).is_ok());
}

#[test]
fn paths_without_number_are_refused() {
    let pairs = (1..13).flat_map(|from| (1..13).map(move |to| (from, to)));
    let facts = Memory::new(pairs.map(|(from, to)| (from, FRIEND, to.into())));
    let error = error(&facts, "[:db/id {:p/friend ...}]");
    assert!(matches!(error, PullError::Limit { .. }), "{error}");
    assert!(try_pull(&facts, "[:db/id {:p/friend 3}]", &[1]).is_ok());
}
