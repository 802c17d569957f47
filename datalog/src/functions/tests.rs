use bigdecimal::BigDecimal;
use num_bigint::BigInt;
use proptest::collection::vec;
use proptest::prelude::*;

use super::Functions;
use crate::edn::read;
use crate::term::Term;
use crate::term::strategy::{number, term};

fn call(name: &str, args: &[Term]) -> Result<Term, String> {
    Functions::standard()
        .get(name)
        .unwrap_or_else(|| panic!("no {name}"))
        .call(args)
}

/// Calls a form such as `(+ 1 2)`, whose arguments stand for themselves, and prints the answer.
fn answer(text: &str) -> String {
    let form = read(text).unwrap();
    let (name, args) = form.as_list().unwrap().split_first().unwrap();
    let args: Vec<Term> = args
        .iter()
        .map(|arg| Term::try_from(arg).unwrap())
        .collect();
    match call(name.as_symbol().unwrap().as_str(), &args) {
        Ok(term) => term.to_string(),
        Err(message) => format!("error: {message}"),
    }
}

fn check(rows: &[(&str, &str)]) {
    for (text, expected) in rows {
        assert_eq!(answer(text), *expected, "{text}");
    }
}

#[test]
fn equality_is_of_terms() {
    check(&[
        ("(= 1 1.0 1N 1.00M)", "true"),
        ("(= 1 1 2)", "false"),
        ("(= 1)", "true"),
        ("(== 1 1.0)", "true"),
        ("(clojure.core/= 1 1)", "true"),
        ("(= 9007199254740993 9007199254740992.0)", "false"),
        ("(= \"1\" 1)", "false"),
        ("(= [1 2] (1.0 2))", "true"),
        ("(= ##NaN ##NaN)", "true"),
        ("(= nil nil)", "true"),
        ("(not= 1 \"1\")", "true"),
        ("(!= 1 1 1)", "false"),
        ("(.equals \"a\" \"a\")", "true"),
        ("(=)", "error: = takes at least 1 argument, not 0"),
    ]);
}

#[test]
fn comparisons_hold_within_a_kind() {
    check(&[
        ("(< 1 2.5 3N 4M)", "true"),
        ("(< 1 1)", "false"),
        ("(<= 1 1.0 2)", "true"),
        ("(> 3 2 1)", "true"),
        ("(>= 3 3 4)", "false"),
        ("(< 9007199254740992.0 9007199254740993)", "true"),
        ("(< \"a\" \"b\")", "true"),
        ("(< :a :b)", "true"),
        ("(< false true)", "true"),
        ("(< [1 2] [1 3])", "true"),
        ("(< #inst \"2011\" #inst \"2012\")", "true"),
        ("(before? #inst \"2011\" #inst \"2012\")", "true"),
        ("(.after #inst \"2011\" #inst \"2012\")", "false"),
        ("(< 1 \"a\")", "false"),
        ("(> 1 \"a\")", "false"),
        ("(<= nil 1)", "false"),
        ("(< 1 2 \"a\")", "false"),
        ("(compare 1 2.0)", "-1"),
        ("(compare \"b\" \"a\")", "1"),
        ("(compare 1 1M)", "0"),
        ("(compare nil 1)", "-1"),
        ("(.compareTo :a :b)", "-1"),
        ("(max 1 3.0 2)", "3.0"),
        ("(min \"b\" \"a\")", "\"a\""),
        ("(max 1 1.0)", "1"),
    ]);
}

#[test]
fn logic_takes_anything() {
    check(&[
        ("(not nil)", "true"),
        ("(not 0)", "false"),
        ("(and)", "true"),
        ("(and 1 2)", "2"),
        ("(and 1 false 2)", "false"),
        ("(or)", "nil"),
        ("(or nil false 3)", "3"),
        ("(or nil false)", "false"),
        ("(boolean nil)", "false"),
        ("(in 1 [1.0 2])", "true"),
        ("(in 3 #{1 2})", "false"),
        ("(not-in :c {:a 1 :b 2})", "true"),
        ("(in 1 2)", "error: in takes a collection, not a long (2)"),
        ("(like \"banana\" \"b%na\")", "true"),
        ("(like \"banana\" \"%an_x%\")", "false"),
        ("(like \"banana\" \"_a%a%_\")", "true"),
        ("(like \"\" \"%%\")", "true"),
        ("(like \"a\" \"\")", "false"),
        (r#"(like "50%" "50\\%")"#, "true"),
        (r#"(like "500" "50\\%")"#, "false"),
        ("(not-like \"a\" \"b%\")", "true"),
    ]);
}

#[test]
fn arithmetic_widens() {
    check(&[
        ("(+)", "0"),
        ("(*)", "1"),
        ("(+ 1 2 3)", "6"),
        ("(+ 1 2N)", "3N"),
        ("(+ 1N 2.50M)", "3.50M"),
        ("(+ 1 2.5)", "3.5"),
        ("(+ 1.5M 2.0)", "3.5"),
        ("(* 2 1.5M)", "3.0M"),
        ("(- 5)", "-5"),
        ("(- 5 2 1)", "2"),
        ("(+ \"a\")", "error: + takes numbers, not a string (\"a\")"),
        ("(+ 1 nil)", "error: + takes numbers, not nil"),
        (
            "(+ 9223372036854775807 1)",
            "error: + overflows a long (9223372036854775807 and 1); 1N is a big integer",
        ),
        ("(+ 9223372036854775807 1N)", "9223372036854775808N"),
        (
            "(* 9223372036854775807 2)",
            "error: * overflows a long (9223372036854775807 and 2); 1N is a big integer",
        ),
        (
            "(inc 9223372036854775807)",
            "error: inc overflows a long (9223372036854775807 and 1); 1N is a big integer",
        ),
        (
            "(abs -9223372036854775808)",
            "error: abs overflows a long (0 and -9223372036854775808); 1N is a big integer",
        ),
        (
            "(* 1e4000M 1e4000M)",
            "error: * takes and makes numbers of at most 4096 digits",
        ),
        ("(inc 1)", "2"),
        ("(dec 1.5)", "0.5"),
        ("(abs -1.5M)", "1.5M"),
        ("(abs -2.5)", "2.5"),
    ]);
}

#[test]
fn division_is_exact_or_a_double() {
    check(&[
        ("(/ 6 3)", "2"),
        ("(/ 1 2)", "0.5"),
        ("(/ 2)", "0.5"),
        ("(/ 12 2 3)", "2"),
        ("(/ 6N 3)", "2N"),
        ("(/ 7N 2)", "3.5"),
        ("(/ 1M 3)", "0.3333333333333333333333333333333333M"),
        ("(/ 10M 4)", "2.5M"),
        ("(/ 1000M 10)", "100M"),
        ("(/ 1 0)", "error: / divides by zero"),
        ("(/ 1M 0)", "error: / divides by zero"),
        ("(/ 1.0 0)", "##Inf"),
        ("(quot 7 -2)", "-3"),
        ("(rem 7 -2)", "1"),
        ("(mod 7 -2)", "-1"),
        ("(mod -7 2)", "1"),
        ("(mod -6 2)", "0"),
        ("(quot 7.5 2)", "3.0"),
        ("(rem 7.5 2)", "1.5"),
        ("(quot -7.5M 2)", "-3M"),
        ("(rem -7.5M 2)", "-1.5M"),
        ("(mod -7N 2)", "1N"),
        ("(quot 1e200M 3)", &format!("{}M", "3".repeat(200))),
        ("(quot 1 0)", "error: quot divides by zero"),
        ("(mod 1.0 0.0)", "error: mod divides by zero"),
        (
            "(quot -9223372036854775808 -1)",
            "error: quot overflows a long (-9223372036854775808 and -1); 1N is a big integer",
        ),
        ("(rem -9223372036854775808 -1)", "0"),
    ]);
}

#[test]
fn predicates_ask_for_kinds_and_signs() {
    check(&[
        ("(zero? 0.0)", "true"),
        ("(zero? ##NaN)", "false"),
        ("(pos? ##NaN)", "false"),
        ("(pos? 1M)", "true"),
        ("(neg? -1N)", "true"),
        ("(even? -2)", "true"),
        ("(odd? -3)", "true"),
        ("(odd? 3N)", "true"),
        (
            "(even? 1.5)",
            "error: even? takes integers, not a double (1.5)",
        ),
        ("(nil? nil)", "true"),
        ("(some? false)", "true"),
        ("(true? 1)", "false"),
        ("(false? false)", "true"),
        ("(number? 1M)", "true"),
        ("(integer? 1.0)", "false"),
        ("(integer? 1N)", "true"),
        ("(string? \\a)", "false"),
        ("(keyword? :a)", "true"),
        ("(coll? #{})", "true"),
        ("(identity [1])", "[1]"),
        ("(untuple [1 2])", "[1 2]"),
        ("(ground [1 2])", "[1 2]"),
        ("(ground 1 2)", "[1 2]"),
        ("(type \"a\")", ":db.type/string"),
        ("(type nil)", "nil"),
    ]);
}

#[test]
fn texts_are_sequences_of_characters() {
    check(&[
        ("(str)", "\"\""),
        ("(str \"a\" \\b :c 1 1.5 2N 3.0M nil)", "\"ab:c11.523.0\""),
        ("(str [\"a\" nil])", "\"[\\\"a\\\" nil]\""),
        ("(str #inst \"2011\")", "\"2011-01-01T00:00:00.000-00:00\""),
        ("(pr-str \"a\" 2N)", "\"\\\"a\\\" 2N\""),
        ("(print-str \"a\" 2)", "\"a 2\""),
        ("(prn-str nil)", "\"nil\\n\""),
        ("(subs \"aé😀b\" 1)", "\"é😀b\""),
        ("(subs \"aé😀b\" 1 3)", "\"é😀\""),
        ("(subs \"abc\" 3)", "\"\""),
        (
            "(subs \"abc\" 4)",
            "error: subs reaches beyond the 3 characters of the text",
        ),
        (
            "(subs \"abc\" 2 1)",
            "error: subs reaches beyond the 3 characters of the text",
        ),
        (
            "(subs \"abc\" -1)",
            "error: subs takes a number from zero, not a long (-1)",
        ),
        (
            "(subs \"abc\")",
            "error: subs takes 2 or 3 arguments, not 1",
        ),
        ("(.substring \"abc\" 1 2)", "\"b\""),
        ("(.length \"😀\")", "1"),
        ("(.isEmpty \"\")", "true"),
        ("(.indexOf \"aéb\" \"b\")", "2"),
        ("(.indexOf \"abc\" \"x\")", "-1"),
        ("(.concat \"a\" \"b\")", "\"ab\""),
        ("(.getTime #inst \"1970-01-01T00:00:01\")", "1000"),
        ("(.startsWith \"abc\" \"ab\")", "true"),
        ("(.contains \"abc\" \"bc\")", "true"),
        (
            "(.startsWith 1 \"ab\")",
            "error: .startsWith takes a string, not a long (1)",
        ),
        ("(keyword \"a\")", ":a"),
        ("(keyword \"a\" \"b\")", ":a/b"),
        (
            "(keyword \"a b\")",
            "error: keyword takes the text of a name, not a string (\"a b\")",
        ),
        ("(symbol :a/b)", "a/b"),
        ("(name :a/b)", "\"b\""),
        ("(namespace :a/b)", "\"a\""),
        ("(namespace :b)", "nil"),
    ]);
}

#[test]
fn clojure_string_is_there() {
    check(&[
        ("(clojure.string/blank? nil)", "true"),
        ("(clojure.string/blank? \" \\t\")", "true"),
        ("(clojure.string/starts-with? \"abc\" \"ab\")", "true"),
        ("(clojure.string/ends-with? \"abc\" \"ab\")", "false"),
        ("(clojure.string/includes? \"abc\" \"\")", "true"),
        ("(clojure.string/lower-case \"ÄB\")", "\"äb\""),
        ("(clojure.string/upper-case \"äb\")", "\"ÄB\""),
        ("(clojure.string/capitalize \"éCOLE\")", "\"École\""),
        ("(clojure.string/trim \" a \")", "\"a\""),
        ("(clojure.string/triml \" a \")", "\"a \""),
        ("(clojure.string/trimr \" a \")", "\" a\""),
        ("(clojure.string/join [1 \"b\" nil])", "\"1b\""),
        ("(clojure.string/join \", \" [1 \"b\" :c])", "\"1, b, :c\""),
        (
            "(clojure.string/split \"a, b,c\" \",\\\\s*\")",
            "[\"a\" \"b\" \"c\"]",
        ),
        ("(clojure.string/split \"a,b,,\" \",\")", "[\"a\" \"b\"]"),
        (
            "(clojure.string/split \"a,b,,\" \",\" -1)",
            "[\"a\" \"b\" \"\" \"\"]",
        ),
        (
            "(clojure.string/split \"a,b,c\" \",\" 2)",
            "[\"a\" \"b,c\"]",
        ),
        ("(clojure.string/split \"abc\" \"\")", "[\"a\" \"b\" \"c\"]"),
        ("(clojure.string/split \"\" \",\")", "[\"\"]"),
        ("(clojure.string/split \",\" \",\")", "[]"),
        (
            "(clojure.string/replace \"a.b.c\" \".\" \"-\")",
            "\"a-b-c\"",
        ),
        ("(clojure.string/replace \"a.b\" \\. \\-)", "\"a-b\""),
        (
            "(clojure.string/replace-first \"aaa\" \"a\" \"b\")",
            "\"baa\"",
        ),
        ("(clojure.string/reverse \"aé\")", "\"éa\""),
        ("(clojure.string/index-of \"éab\" \"b\")", "2"),
        ("(clojure.string/index-of \"abab\" \"a\" 1)", "2"),
        ("(clojure.string/index-of \"abc\" \"x\")", "nil"),
        ("(clojure.string/last-index-of \"éaba\" \"a\")", "3"),
        ("(clojure.string/last-index-of \"abab\" \"ab\" 1)", "0"),
        ("(clojure.string/last-index-of \"abab\" \"ab\" 2)", "2"),
    ]);
}

#[test]
fn regular_expressions_answer_groups() {
    check(&[
        ("(re-find \"b+\" \"abbc\")", "\"bb\""),
        ("(re-find \"(b)(x)?\" \"abc\")", "[\"b\" \"b\" nil]"),
        ("(re-find \"x\" \"abc\")", "nil"),
        ("(re-matches \"a|ab\" \"ab\")", "\"ab\""),
        ("(re-matches \"(a)b\" \"ab\")", "[\"ab\" \"a\"]"),
        ("(re-matches \"a\" \"ab\")", "nil"),
        ("(re-matches \"(?x) a # letter\" \"a\")", "\"a\""),
        ("(re-seq \"\\\\d\" \"1a2\")", "[\"1\" \"2\"]"),
        ("(re-seq \"\\\\d\" \"a\")", "nil"),
        (
            "(re-matches \"a)(b\" \"ab\")",
            "error: re-matches takes a regular expression: unopened group",
        ),
        (
            "(re-find \"(\" \"a\")",
            "error: re-find takes a regular expression: unclosed group",
        ),
        (
            "(re-find \"((a{100}){100}){100}\" \"a\")",
            "error: re-find takes a regular expression: it is too big",
        ),
    ]);
}

#[test]
fn collections_are_asked() {
    check(&[
        ("(count \"aé😀\")", "3"),
        ("(count [1 2])", "2"),
        ("(count {1 2})", "1"),
        ("(count nil)", "0"),
        (
            "(count 1)",
            "error: count takes a collection or a string, not a long (1)",
        ),
        ("(empty? \"\")", "true"),
        ("(not-empty [])", "nil"),
        ("(not-empty \"a\")", "\"a\""),
        ("(contains? #{1 2} 1.0)", "true"),
        ("(contains? {:a nil} :a)", "true"),
        ("(contains? [5] 0)", "true"),
        ("(contains? [5] 5)", "false"),
        (
            "(contains? 1 1)",
            "error: contains? takes a collection, not a long (1)",
        ),
        ("(get {:a 1} :a)", "1"),
        ("(get {:a 1} :b)", "nil"),
        ("(get {:a 1} :b 2)", "2"),
        ("(get [1 2] 1)", "2"),
        ("(get \"ab\" 1)", "\\b"),
        ("(get 1 1)", "nil"),
        ("(nth [1 2] 1)", "2"),
        ("(nth [1 2] 2)", "error: nth 2 is out of bounds"),
        ("(nth [1 2] -1 :none)", ":none"),
        ("(first [1 2])", "1"),
        ("(first \"ab\")", "\\a"),
        ("(first nil)", "nil"),
        ("(first {:a 1})", "[:a 1]"),
        ("(last [1 2])", "2"),
        ("(reverse [1 2 3])", "[3 2 1]"),
        ("(sort [3 1.5 2N])", "[1.5 2N 3]"),
        ("(distinct [2 1 2.0])", "[2 1]"),
        ("(range 3)", "[0 1 2]"),
        ("(range 1 3)", "[1 2]"),
        ("(range 5 0 -2)", "[5 3 1]"),
        (
            "(range 9223372036854775806 9223372036854775807 5)",
            "[9223372036854775806]",
        ),
        ("(range 0 1 0)", "error: range takes a step other than zero"),
        (
            "(range 9223372036854775807)",
            "error: range makes a collection that is too large",
        ),
        ("(vector 1 2)", "[1 2]"),
        ("(tuple)", "[]"),
        ("(list 1)", "[1]"),
        ("(set [1 2 1.0])", "#{1 2}"),
        ("(hash-map :b 1 :a 2)", "{:a 2, :b 1}"),
        (
            "(hash-map 1)",
            "error: hash-map takes keys with their values: an even number of arguments",
        ),
    ]);
}

#[test]
fn nothing_grows_without_end() {
    for (name, copies, start) in [
        ("vector", 1, Term::Nil),
        ("vector", 2, Term::Nil),
        ("hash-map", 2, Term::Nil),
        ("str", 2, Term::from("0123456789abcdef")),
        ("*", 2, Term::from(BigInt::from(10))),
        ("*", 2, "0.1".parse::<BigDecimal>().unwrap().into()),
    ] {
        let grow = |term: &Term| call(name, &vec![term.clone(); copies]).ok();
        let rounds = std::iter::successors(Some(start), grow).take(300).count();
        assert!(rounds < 300, "{name}");
    }
    let long = Term::from("a".repeat(1 << 20));
    let error = call("clojure.string/replace", &[long.clone(), "a".into(), long]);
    assert_eq!(
        error.unwrap_err(),
        "clojure.string/replace makes a text of more than 16 MiB"
    );
}

proptest! {
    #[test]
    fn no_call_panics(args in vec(term(), 0..4)) {
        for function in Functions::standard().functions.values() {
            let _ = function.call(&args);
        }
    }

    #[test]
    fn integers_compute_as_wide_ones(a in any::<i64>(), b in prop_oneof![-9..9_i64, any::<i64>()]) {
        let wide = |answer: Option<i128>| answer.and_then(|answer| i64::try_from(answer).ok());
        let (x, y) = (i128::from(a), i128::from(b));
        for (name, expected) in [
            ("+", Some(x + y)),
            ("-", Some(x - y)),
            ("*", x.checked_mul(y)),
            ("quot", x.checked_div(y)),
            ("rem", x.checked_rem(y)),
            ("mod", (y != 0).then(|| (x % y + y) % y)),
        ] {
            let answer = call(name, &[Term::Long(a), Term::Long(b)]);
            prop_assert_eq!(answer.ok(), wide(expected).map(Term::Long), "{}", name);
            // Big integers answer the same, and what longs cannot hold.
            let (a, b) = (Term::from(BigInt::from(a)), Term::from(BigInt::from(b)));
            prop_assert_eq!(call(name, &[a, b]).ok(), expected.map(|n| Term::from(BigInt::from(n))));
        }
    }

    #[test]
    fn decimals_compute_exactly(a in any::<i64>(), b in any::<i64>(), i in -9..9_i64, j in -9..9_i64) {
        let (a, b) = (BigDecimal::new(a.into(), i), BigDecimal::new(b.into(), j));
        for (name, expected) in [("+", &a + &b), ("-", &a - &b), ("*", &a * &b)] {
            let answer = call(name, &[a.clone().into(), b.clone().into()]);
            prop_assert_eq!(answer, Ok(Term::from(expected)));
        }
        if b != 0 {
            let args = [a.into(), b.into()];
            let [quot, rem] = ["quot", "rem"].map(|name| call(name, &args).unwrap());
            let product = call("*", &[quot, args[1].clone()]).unwrap();
            prop_assert_eq!(call("+", &[product, rem]).unwrap(), args[0].clone());
        }
    }

    #[test]
    fn comparisons_agree_with_order(a in term(), b in term()) {
        let holds = |name| call(name, &[a.clone(), b.clone()]).unwrap().is_truthy();
        prop_assert_eq!(holds("="), a == b);
        prop_assert_eq!(holds("not="), a != b);
        prop_assert_eq!(holds("<"), a.is_of_kind(&b) && a < b);
        prop_assert_eq!(holds("<="), a.is_of_kind(&b) && a <= b);
        prop_assert_eq!(holds(">"), a.is_of_kind(&b) && a > b);
        prop_assert_eq!(holds(">="), a.is_of_kind(&b) && a >= b);
    }

    #[test]
    fn doubles_compute_as_doubles(a in any::<f64>(), b in number()) {
        let Ok(Term::Double(b)) = call("+", &[b, Term::Double(0.0)]) else { return Ok(()) };
        prop_assert_eq!(call("*", &[a.into(), b.into()]), Ok(Term::Double(a * b)));
    }
}
