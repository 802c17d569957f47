//! What a user sees when a text cannot be read.

use datomfusion_datalog::edn::{DEPTH_MAX, parse_instant, read};

#[track_caller]
fn assert_error(text: &str, expected: &str) {
    let error = read(text).expect_err("the text is not EDN");
    assert_eq!(error.to_string(), expected, "\n{error}\n");
}

#[test]
fn an_unclosed_string_is_underlined_to_the_end_of_its_line() {
    assert_error(
        "{:name \"Ada\n :age 36}",
        "unclosed string at line 1, column 8
  {:name \"Ada
         ^^^^",
    );
}

#[test]
fn an_unclosed_bracket_is_reported_where_it_opens() {
    assert_error(
        "[{:db/id 1}\n {:db/id #{2 3}\n",
        "unclosed `{` at line 2, column 2
   {:db/id #{2 3}
   ^",
    );
}

#[test]
fn an_unmatched_bracket_names_both_ends() {
    assert_error(
        "[:find ?e\n :where #{[?e :name]\n]",
        "expected `}`, found `]` on line 3, column 1, for the `#{` at line 2, column 9
   :where #{[?e :name]
          ^^",
    );
    assert_error(
        "[1 2]]",
        "nothing is open for this `]` to close at line 1, column 6
  [1 2]]
       ^",
    );
}

#[test]
fn an_odd_map_points_at_the_key_without_a_value() {
    assert_error(
        "{:db/id -1, :person/name}",
        "the map has no value for this key at line 1, column 13
  {:db/id -1, :person/name}
              ^^^^^^^^^^^^",
    );
}

#[test]
fn a_key_that_occurs_twice_is_underlined() {
    assert_error(
        "{:a 1 :a 2}",
        "this key occurs twice at line 1, column 7
  {:a 1 :a 2}
        ^^",
    );
}

#[test]
fn a_bad_tag_value_is_underlined_without_its_tag() {
    assert_error(
        "[#inst \"2011-02-29\"]",
        "the month of this instant has no such day at line 1, column 8
  [#inst \"2011-02-29\"]
         ^^^^^^^^^^^^",
    );
    assert_error(
        "#uuid \"f81d4fae\"",
        "a uuid has 32 hexadecimal digits in groups of 8-4-4-4-12 at line 1, column 7
  #uuid \"f81d4fae\"
        ^^^^^^^^^^",
    );
    assert_error(
        "[#db/id]",
        "no form follows this `#db/id` at line 1, column 2
  [#db/id]
   ^^^^^^",
    );
}

#[test]
fn the_bracket_that_is_too_deep_is_underlined() {
    assert_error(
        &"[".repeat(DEPTH_MAX + 1),
        &format!(
            "forms are nested deeper than 256 at line 1, column 257\n  …{}\n  {}^",
            "[".repeat(41),
            " ".repeat(41),
        ),
    );
}

#[test]
fn what_only_clojure_reads_is_refused_by_name() {
    assert_error(
        "[1/2]",
        "ratios are not EDN; write a double or a big decimal (0.5M) at line 1, column 2
  [1/2]
   ^^^",
    );
    assert_error(
        "{::name 1}",
        "`::name` depends on a namespace of code; write out the keyword at line 1, column 2
  {::name 1}
   ^^^^^^",
    );
    assert_error(
        "(f @x)",
        "`, ~ and @ belong to code, not to EDN at line 1, column 4
  (f @x)
     ^^",
    );
}

#[test]
fn half_a_surrogate_pair_is_underlined_inside_its_string() {
    assert_error(
        r#"["ok" "\ud83d!"]"#,
        "half of a surrogate pair is not a character at line 1, column 8
  [\"ok\" \"\\ud83d!\"]
         ^^^^^^",
    );
}

#[test]
fn a_line_of_a_hundred_thousand_characters_is_clipped() {
    let line = "[1 2] ".repeat(20_000);
    let error = read(&format!("[{line}}} {line}]")).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "expected `]`, found `}}` on line 1, column 120002, for the `[` at line 1, column 1\n  [{}…\n  ^",
            &line[..99]
        )
    );
}

#[test]
fn an_instant_by_itself_has_the_same_errors() {
    assert_eq!(
        parse_instant("2011-13").unwrap_err().to_string(),
        "the month of an instant is 01 to 12 at line 1, column 1
  2011-13
  ^^^^^^^",
    );
}
