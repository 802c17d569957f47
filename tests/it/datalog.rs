//! Datalog, through the library and through the command line: answers that independent engines gave, and
//! the contract of `q` and `pull`.

use std::cmp::Ordering;
use std::path::Path;

use datomfusion::edn::read;
use datomfusion::{Db, Federation, Inputs, Term};
use datomfusion_datalog::ast::{FindElement, FindSpec, Query};
use serde_json::{Map, Value as Json, json};

use crate::support::shell::{Shell, chinook, datomfusion};

/// A query and what it must answer.
struct Case {
    name: String,
    query: String,
    /// Sources by name, each `catalog` or `sales`, at a basis if there is one.
    databases: Vec<(String, String)>,
    arguments: Vec<String>,
    rules: Option<String>,
    expected: Json,
}

impl Case {
    fn of(json: &Json) -> Self {
        let text = |json: &Json| json.as_str().unwrap().to_owned();
        let databases = json["dbs"].as_object().unwrap().iter();
        let arguments = json["args"].as_array().into_iter().flatten();
        Self {
            name: text(&json["name"]),
            query: text(&json["query"]),
            databases: databases
                .map(|(name, db)| (name.clone(), address(db.as_str().unwrap())))
                .collect(),
            arguments: arguments.map(text).collect(),
            rules: json["rules"].as_str().map(str::to_owned),
            expected: json["expected"].clone(),
        }
    }

    async fn through_the_library(&self) -> Result<Json, String> {
        let mut inputs = Inputs::new();
        for (name, url) in &self.databases {
            inputs = inputs.source(name, &Db::open_url(url).await.unwrap());
        }
        if let Some(rules) = &self.rules {
            inputs = inputs.rules(&**rules);
        }
        for argument in &self.arguments {
            inputs = inputs.argument(Term::try_from(&read(argument).unwrap()).unwrap());
        }
        let answer = Federation::new().q(&self.query, &inputs).await;
        answer
            .map(|answer| json_of(&answer.to_term()))
            .map_err(|error| error.to_string())
    }

    fn through_the_command_line(&self) -> Result<Json, String> {
        let mut arguments = ["q", "--format", "json"].map(str::to_owned).to_vec();
        for (name, url) in &self.databases {
            arguments.extend(["--db".to_owned(), format!("{name}={url}")]);
        }
        if let Some(rules) = &self.rules {
            arguments.extend(["--rules".to_owned(), rules.clone()]);
        }
        for argument in &self.arguments {
            arguments.extend(["--arg".to_owned(), argument.clone()]);
        }
        arguments.push(self.query.clone());
        let run = datomfusion(&arguments);
        if run.code == 0 && run.err.is_empty() {
            serde_json::from_str(&run.out).map_err(|error| format!("{error} in {}", run.out))
        } else {
            Err(run.err)
        }
    }

    /// Whether an answer has a certain order: a tuple has, and what `(min n)` answers.
    fn is_ordered(&self) -> bool {
        match Query::parse(&self.query).unwrap().find {
            FindSpec::Rel(_) | FindSpec::Coll(_) => false,
            FindSpec::Tuple(_) => true,
            FindSpec::Scalar(FindElement::Aggregate(aggregate)) => aggregate.arguments.len() > 1,
            FindSpec::Scalar(_) => false,
        }
    }

    /// What is wrong with an answer.
    fn fault(&self, door: &str, found: Result<Json, String>) -> Option<String> {
        let expected = canonical(&self.expected, self.is_ordered());
        let found = found.map(|found| canonical(&found, self.is_ordered()));
        match found {
            Ok(found) if same(&found, &expected) => None,
            Ok(found) => {
                let show = |json: &Json| json.to_string().chars().take(600).collect::<String>();
                Some(format!(
                    "{} through {door}\n  {}\n  found    {}\n  expected {}",
                    self.name,
                    self.query,
                    show(&found),
                    show(&expected)
                ))
            }
            Err(error) => Some(format!(
                "{} through {door}\n  {}\n{error}",
                self.name, self.query
            )),
        }
    }
}

/// Asks all cases both ways.
async fn check(cases: &[Case]) {
    let mut faults = Vec::new();
    for case in cases {
        faults.extend(case.fault("the library", case.through_the_library().await));
        faults.extend(case.fault("the command line", case.through_the_command_line()));
    }
    assert!(
        faults.is_empty(),
        "{} of {} answers\n{}",
        faults.len(),
        2 * cases.len(),
        faults.join("\n")
    );
}

/// The address of a carried database, at a basis if there is one.
fn address(name: &str) -> String {
    let (catalog, sales) = chinook();
    let (name, basis) = name.split_at(name.find('@').unwrap_or(name.len()));
    match name {
        "catalog" => format!("{catalog}{basis}"),
        "sales" => format!("{sales}{basis}"),
        _ => panic!("there is no database {name}"),
    }
}

/// A term by the contract of the command line, written here a second time.
fn json_of(term: &Term) -> Json {
    match term {
        Term::Nil => Json::Null,
        Term::Boolean(value) => json!(value),
        Term::Long(value) => json!(value),
        Term::Double(value) => json!(value),
        Term::BigInt(value) => serde_json::from_str(&value.to_string()).unwrap(),
        Term::BigDec(value) => serde_json::from_str(&value.to_string()).unwrap(),
        Term::String(value) => json!(&**value),
        Term::Keyword(value) => json!(value.to_string()),
        Term::Vector(terms) | Term::Set(terms) => Json::Array(terms.iter().map(json_of).collect()),
        Term::Map(entries) => Json::Object(
            entries
                .iter()
                .map(|(key, value)| match key {
                    Term::String(key) => (key.to_string(), json_of(value)),
                    key => (key.to_string(), json_of(value)),
                })
                .collect(),
        ),
        other => panic!("no case has {}", other.describe()),
    }
}

/// What has no order is sorted: the rows of an answer, and what lies in maps.
fn canonical(json: &Json, ordered: bool) -> Json {
    match json {
        Json::Array(items) => {
            let of_map = |item: &Json| canonical(item, !item.is_object());
            let mut items: Vec<Json> = items.iter().map(of_map).collect();
            if !ordered {
                items.sort_by(order);
            }
            Json::Array(items)
        }
        Json::Object(entries) => {
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            let entries = sorted.into_iter();
            let entries = entries.map(|(key, value)| (key.clone(), canonical(value, false)));
            Json::Object(entries.collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

fn order(left: &Json, right: &Json) -> Ordering {
    let rank = |json: &Json| match json {
        Json::Null => 0,
        Json::Bool(_) => 1,
        Json::Number(_) => 2,
        Json::String(_) => 3,
        Json::Array(_) => 4,
        Json::Object(_) => 5,
    };
    match (left, right) {
        (Json::Number(left), Json::Number(right)) => {
            // Sums of doubles that are alike must not be told apart here.
            let rounded = |number: &serde_json::Number| (number.as_f64().unwrap() * 1e6).round();
            rounded(left).total_cmp(&rounded(right))
        }
        (Json::String(left), Json::String(right)) => left.cmp(right),
        (Json::Array(left), Json::Array(right)) => {
            let pairs = left
                .iter()
                .zip(right)
                .map(|(left, right)| order(left, right));
            pairs
                .fold(Ordering::Equal, Ordering::then)
                .then(left.len().cmp(&right.len()))
        }
        (Json::Object(left), Json::Object(right)) => {
            let pairs = left.iter().zip(right);
            pairs
                .map(|((a, x), (b, y))| a.cmp(b).then_with(|| order(x, y)))
                .fold(Ordering::Equal, Ordering::then)
                .then(left.len().cmp(&right.len()))
        }
        _ => rank(left).cmp(&rank(right)),
    }
}

/// Numbers are equal by value, doubles nearly.
fn same(found: &Json, expected: &Json) -> bool {
    match (found, expected) {
        (Json::Number(found), Json::Number(expected)) => {
            let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
            (found - expected).abs() <= 1e-9 * expected.abs().max(1.0)
        }
        (Json::Array(found), Json::Array(expected)) => {
            found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| same(f, e))
        }
        (Json::Object(found), Json::Object(expected)) => {
            found.len() == expected.len()
                && found
                    .iter()
                    .zip(expected)
                    .all(|((a, f), (b, e))| a == b && same(f, e))
        }
        (found, expected) => found == expected,
    }
}

/// Facts of the Chinook data that can be counted by hand or by any other engine.
#[tokio::test]
async fn chinook_answers_as_other_engines_do() {
    let case = |databases: Json, query: &str, arguments: Json, expected: Json| {
        Case::of(
            &json!({"name": "carried", "dbs": databases, "query": query, "args": arguments,
            "expected": expected}),
        )
    };
    let catalog = || json!({"$": "catalog"});
    let sales = || json!({"$": "sales"});
    check(&[
        case(
            catalog(),
            "[:find (count ?t) . :where [?t :track/id] [?t :track/composer]]",
            json!([]),
            json!(2526),
        ),
        case(
            catalog(),
            "[:find [?n ?ms] :in $ ?id :where [?t :track/id ?id] [?t :track/name ?n]
                                               [?t :track/milliseconds ?ms]]",
            json!(["2500"]),
            json!(["Ava Adore", 261_433]),
        ),
        case(
            catalog(),
            "[:find ?a ?v :where [?g :genre/id 1] [?g ?a ?v]]",
            json!([]),
            json!([[":genre/name", "Rock"], [":genre/id", 1]]),
        ),
        case(
            catalog(),
            "[:find (pull ?t [:track/name {:track/album [:album/title]}]) . :where [?t :track/id 100]]",
            json!([]),
            json!({":track/name": "Out Of Exile", ":track/album": {":album/title": "Out Of Exile"}}),
        ),
        case(
            catalog(),
            "[:find ?n ?w :in $ $w :where [?g :genre/name ?n] [$w ?n ?w]]",
            json!(["[[\"Rock\" 10] [\"Nope\" 1]]"]),
            json!([["Rock", 10]]),
        ),
        case(
            sales(),
            "[:find (sum ?x) . :with ?i :where [?i :invoice/total ?x]]",
            json!([]),
            json!(2328.6),
        ),
        case(
            json!({"$": "sales", "$old": "sales@2022-12-31"}),
            "[:find [?new ?old] :in $ $old
              :where [(q [:find (count ?i) . :where [?i :invoice/id]] $) ?new]
                     [(q [:find (count ?i) . :where [?i :invoice/id]] $old) ?old]]",
            json!([]),
            json!([412, 166]),
        ),
        case(
            json!({"$": "catalog", "$s": "sales"}),
            "[:find (count ?t) . :in $ $s :where [?t :track/id ?id]
                                  ($s not [_ :invoice-line/track-id ?id])]",
            json!([]),
            json!(1519),
        ),
        case(
            sales(),
            "[:find ?i . :where [?i :invoice/id -1]]",
            json!([]),
            Json::Null,
        ),
    ])
    .await;
}

/// All cases of the shared file, where there is one.
#[tokio::test]
async fn every_shared_datalog_case_answers_right() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance/datalog-chinook.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!(
            "{} is not there: only the carried cases were run",
            path.display()
        );
        return;
    };
    let cases: Vec<Json> = serde_json::from_str(&text).unwrap();
    let cases: Vec<Case> = cases.iter().map(Case::of).collect();
    check(&cases).await;
    println!("{} cases", cases.len());
}

const SCHEMA: &str = r"[
 {:db/ident :person/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one
  :db/unique :db.unique/identity}
 {:db/ident :person/born :db/valueType :db.type/instant :db/cardinality :db.cardinality/one}
 {:db/ident :person/height :db/valueType :db.type/bigdec :db/cardinality :db.cardinality/one}
 {:db/ident :person/friend :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}
 {:db/ident :person/tag :db/valueType :db.type/keyword :db/cardinality :db.cardinality/many}
]";

const PEOPLE: &str = r#"[
 {:db/id "ada" :person/name "Ada" :person/born #inst "1815-12-10" :person/height 1.650M
  :person/friend "bob" :person/tag [:math :poetry]}
 {:db/id "bob" :person/name "Bob, \"the\" Builder" :person/friend "cy"}
 {:db/id "cy" :person/name "Cy"}
]"#;

const REACHES: &str = "[[(reaches ?a ?b) [?a :person/friend ?b]]
 [(reaches ?a ?b) [?a :person/friend ?m] (reaches ?m ?b)]]";

/// A shell with a database of three people at `./people`.
fn people() -> Shell {
    let shell = Shell::new();
    shell.file("schema.edn", SCHEMA).file("people.edn", PEOPLE);
    shell.ok(&["create", "people"]);
    shell.ok(&["transact", "people", "schema.edn", "people.edn"]);
    shell
}

/// Arguments that ask the people.
fn q<'a>(format: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&["q", "--db", "$=people", "--format", format], rest].concat()
}

const HEIGHTS: &str = "[:find ?n ?h ?b :where [?p :person/name ?n] [?p :person/height ?h]
                        [?p :person/born ?b]]";

#[test]
fn every_format_has_all_digits() {
    let shell = people();
    for (format, printed) in [
        ("json", "[[\"Ada\",1.65,\"1815-12-10T00:00:00Z\"]]\n"),
        ("ndjson", "[\"Ada\",1.65,\"1815-12-10T00:00:00Z\"]\n"),
        ("csv", "?n,?h,?b\nAda,1.65,1815-12-10T00:00:00Z\n"),
        (
            "edn",
            "[[\"Ada\" 1.65M #inst \"1815-12-10T00:00:00.000-00:00\"]]\n",
        ),
        (
            "table",
            "+-----+------+----------------------+\n\
             | ?n  | ?h   | ?b                   |\n\
             +-----+------+----------------------+\n\
             | Ada | 1.65 | 1815-12-10T00:00:00Z |\n\
             +-----+------+----------------------+\n",
        ),
    ] {
        let found = shell.ok(&q(format, &[HEIGHTS]));
        assert_eq!(found.replace("1.650", "1.65"), printed);
    }
}

#[test]
fn the_find_spec_gives_the_shape() {
    let shell = people();
    let ada = "[?p :person/name \"Ada\"]";
    for (find, clauses, printed) in [
        (
            "?t",
            "[?p :person/tag ?t]",
            "[[\":math\"],\n [\":poetry\"]]\n",
        ),
        (
            "[?t ...]",
            "[?p :person/tag ?t]",
            "[\":math\",\n \":poetry\"]\n",
        ),
        (
            "[?n ?h]",
            "[?p :person/name ?n] [?p :person/height ?h]",
            "[\"Ada\",1.65]\n",
        ),
        (
            "?n .",
            "[?p :person/name ?n] [?p :person/height]",
            "\"Ada\"\n",
        ),
        (
            "?n .",
            "[?p :person/name ?n] [?p :person/tag :none]",
            "null\n",
        ),
        (
            "[?n]",
            "[?p :person/name ?n] [?p :person/tag :none]",
            "null\n",
        ),
        (
            "[?n ...]",
            "[?p :person/name ?n] [?p :person/tag :none]",
            "[]\n",
        ),
        (
            "?n :keys who",
            "[?p :person/name ?n] [?p :person/height]",
            "[{\":who\":\"Ada\"}]\n",
        ),
        (
            "?n :strs who",
            "[?p :person/name ?n] [?p :person/height]",
            "[{\"who\":\"Ada\"}]\n",
        ),
        (
            "(pull ?p [:person/name {:person/friend [:person/name]}]) .",
            ada,
            "{\":person/friend\":[{\":person/name\":\"Bob, \\\"the\\\" Builder\"}],\":person/name\":\"Ada\"}\n",
        ),
        (
            "(distinct ?t) .",
            "[?p :person/tag ?t]",
            "[\":math\",\":poetry\"]\n",
        ),
        (
            "?a",
            "[?p :person/name \"Cy\"] [?p ?a]",
            "[[\":person/name\"]]\n",
        ),
    ] {
        let order = if find.contains("?t") && !find.contains('(') {
            ":order-by [?t]"
        } else {
            ""
        };
        let query = format!("[:find {find} :where {clauses} {order}]");
        let found = shell.ok(&q("json", &[&query]));
        assert_eq!(found.replace("1.650", "1.65"), printed, "{query}");
    }
}

#[test]
fn sources_have_names_with_or_without_the_dollar() {
    let shell = people();
    let before =
        "[:find (count ?p) . :in $ $old :where [?p :person/name] ($old not [?p :person/name])]";
    for databases in [
        ["$=people", "$old=people@t=1"],
        ["people", "old=people@t=1"],
        ["people@t=2", "$old=people@t=1"],
    ] {
        let arguments = ["q", "--db", databases[0], "--db", databases[1], before];
        let found = shell.ok(&[&arguments[..], &["--format", "ndjson"]].concat());
        assert_eq!(found, "3\n", "{databases:?}");
    }
    let twice = ["q", "--db", "people", "--db", "$=people", before];
    let said = shell.run(&twice).failed(2);
    assert!(said.contains("--db binds $ twice"), "{said}");
}

/// A pattern of one place is short for an entity of whom anything is said; it once panicked.
#[test]
fn a_pattern_may_have_an_entity_alone() {
    let shell = people();
    for clauses in ["[?p]", "($old not [?p])"] {
        let query = format!("[:find (count ?p) . :in $ $old :where [?p :person/name] {clauses}]");
        let arguments = ["--db", "$old=people@t=1", &query];
        assert_eq!(shell.ok(&q("json", &arguments)), "3\n", "{clauses}");
    }
}

#[test]
fn arguments_bind_the_remaining_inputs_in_order() {
    let shell = people();
    shell
        .file("names.edn", "[\"Ada\" \"Cy\"]")
        .file("pairs.edn", "[[\"Ada\" -1]\n [\"Dora\" 2]]");
    let born = "[:find ?n :in $ [?n ...] ?least :where [?p :person/name ?n] [?p :person/height ?h]
                 [(< ?least ?h)]]";
    for (names, least, found) in [
        ("[\"Ada\" \"Cy\"]", "1", "[\"Ada\"]\n"),
        ("@names.edn", "-1.5M", "[\"Ada\"]\n"),
        ("@names.edn", "1.65M", ""),
        ("(\"Cy\")", "-1", ""),
    ] {
        let arguments = q("ndjson", &["--arg", names, "--arg", least, born]);
        assert_eq!(shell.ok(&arguments), found, "{names} {least}");
    }
    // A collection is a source too; the value may begin with a hyphen.
    let listed = "[:find ?n ?x :in $ $list ?x :where [?p :person/name ?n] [$list ?n ?x]]";
    let arguments = q("json", &["--arg", "@pairs.edn", "--arg", "-1", listed]);
    assert_eq!(shell.ok(&arguments), "[[\"Ada\",-1]]\n");
    // No database at all.
    let nothing = [
        "q",
        "--format",
        "edn",
        "--arg",
        "[1 [2 3]]",
        "[:find ?a ?c :in [?a [_ ?c]]]",
    ];
    assert_eq!(shell.ok(&nothing), "[[1 3]]\n");
}

#[test]
fn too_few_and_too_many_inputs_are_refused() {
    let shell = people();
    let query = "[:find ?n :in $ ?n :where [?p :person/name ?n]]";
    let said = shell.fails(&q("json", &[query]));
    assert!(
        said.contains("no argument was given") && said.contains("^^"),
        "{said}"
    );
    shell.fails(&q("json", &["--arg", "\"Ada\"", "--arg", "2", query]));
    let said = shell.fails(&["q", query]);
    assert!(said.contains("no argument was given for $"), "{said}");
    let said = shell.fails(&["q", "--arg", "7", query]);
    assert!(said.contains("$ is to be a database"), "{said}");
}

#[test]
fn rules_come_from_the_argument_or_a_file() {
    let shell = people();
    shell.file("rules.edn", REACHES);
    let query = "[:find [?n ...] :in $ % :where [?a :person/name \"Ada\"] (reaches ?a ?b)
                  [?b :person/name ?n] :order-by [?n]]";
    let expected = "\"Bob, \\\"the\\\" Builder\"\n\"Cy\"\n";
    for rules in [REACHES, "rules.edn"] {
        assert_eq!(shell.ok(&q("ndjson", &["--rules", rules, query])), expected);
    }
    let said = shell.fails(&q("json", &["--rules", "nothing.edn", query]));
    assert!(said.contains("nothing.edn"), "{said}");
    let said = shell.fails(&q("json", &["--rules", "[[(reaches ?a) [?a :b]", query]));
    assert!(
        said.starts_with("error: --rules: ") && said.contains('^'),
        "{said}"
    );
}

#[test]
fn a_query_may_come_from_a_file_or_a_pipe() {
    let shell = people();
    let query = "; how many\n[:find (count ?p) . :where [?p :person/name]]\n";
    shell.file("count.edn", query);
    let before = ["q", "--db", "people", "--format", "json"];
    assert_eq!(
        shell.ok(&[&before[..], &["-f", "count.edn"]].concat()),
        "3\n"
    );
    assert_eq!(shell.run_with_input(&before, query).ok(), "3\n");
    let map = "{:find [(count ?p) .] :where [[?p :person/name]]}";
    assert_eq!(shell.ok(&[&before[..], &[map]].concat()), "3\n");
}

#[test]
fn explain_prints_the_plan_and_no_rows() {
    let said = people().ok(&q("json", &["--explain", HEIGHTS]));
    for part in ["order", "logical plan", "physical plan"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(!said.contains("Ada"), "{said}");
    let said = people().ok(&q("json", &["--analyze", HEIGHTS]));
    for part in [
        "StarScanExec",
        "output_rows=",
        "rows_expected=",
        "nodes_read=",
        "cache_hits=",
        "disk_hits=",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(!said.contains("Ada"), "{said}");
}

#[test]
fn errors_quote_the_clause_and_underline_it() {
    let shell = people();
    let query = "[:find ?n\n :where [?p :person/name ?n]\n        [(frobnicate ?n)]]";
    let said = shell.fails(&q("json", &[query]));
    let first = said.lines().next().unwrap();
    assert!(
        first.contains("frobnicate") && first.contains("line 3"),
        "{said}"
    );
    assert!(
        said.contains("[(frobnicate ?n)]") && said.contains("^^^^"),
        "{said}"
    );
    for (query, parts) in [
        ("[:find ?x :where [?p :person/name ?n]]", &["?x", "^^"][..]),
        ("[:find ?n :where [?p :person/name ?n]", &["line 1", "^"]),
        ("[:find ?n :where (knows ?p ?n)]", &["knows", "^"]),
        ("[:find ?n :where [$x ?p :person/name ?n]]", &["$x", "^^"]),
        ("[:find (sum ?n) :where [?p :person/name ?n]]", &["sum"]),
        (
            "[:find (sum ?n) :where [(ground [9223372036854775807 1]) [?n ...]]]",
            &["overflow in (sum ?n)"],
        ),
        ("{:fnd [?n]}", &[":fnd"]),
    ] {
        let said = shell.fails(&q("json", &[query]));
        for part in parts {
            assert!(said.contains(part), "{query}: {part} in {said}");
        }
    }
    for (arguments, part) in [
        (&["--arg", "[1 2"][..], "--arg 1: "),
        (&["--arg", "#db/id 1"], "#db/id"),
        (&["--arg", "@nothing.edn"], "nothing.edn"),
        (&["--db", "s=nowhere"], "--db $s: "),
    ] {
        let rest = [arguments, &["[:find ?n :in $ ?n]"]].concat();
        let said = shell.fails(&q("json", &rest));
        assert!(said.contains(part), "{arguments:?}: {part} in {said}");
    }
}

#[test]
fn what_makes_no_sense_exits_with_2() {
    let shell = people();
    let query = "[:find ?n :where [?p :person/name ?n]]";
    for arguments in [
        &["q", "--db", "people", "--format", "parquet", query][..],
        &["q", "--db", "people", "--format", "xml", query],
        &["q", "--db", "people", ""],
        &["q", "--db", "$=", query],
        &["q", "--db", "people", "--explian", query],
        &["q", "--db", "people", "--arg", "--explain", query],
        &["q", "--db", "people", "-f", "q.edn", query],
        &["pull", "--db", "people", "[*]"],
        &["pull", "[*]", "1"],
        &["pull", "--db", "people", "--format", "csv", "[*]", "1"],
    ] {
        let answer = shell.run(arguments);
        assert_eq!(answer.code, 2, "{arguments:?}: {answer:?}");
    }
}

#[test]
fn pull_finds_an_entity_by_id_ident_and_lookup_ref() {
    let shell = people();
    let pull = |rest: &[&str]| shell.ok(&[&["pull", "--db", "people"], rest].concat());
    let pattern = "[:person/name :person/tag {:person/friend [:person/name]}]";
    assert_eq!(
        pull(&[
            "[:person/name {:person/friend [:person/name]}]",
            "[:person/name \"Ada\"]"
        ]),
        "{:person/friend [{:person/name \"Bob, \\\"the\\\" Builder\"}], :person/name \"Ada\"}\n"
    );
    let id = pull(&["[:db/id]", "[:person/name \"Ada\"]"]);
    let id = id.trim_start_matches("{:db/id ").trim_end_matches("}\n");
    let found: Json = serde_json::from_str(&pull(&["--format", "json", pattern, id])).unwrap();
    assert_eq!(found[":person/name"], "Ada");
    assert_eq!(
        found[":person/friend"][0][":person/name"],
        "Bob, \"the\" Builder"
    );
    assert_eq!(found[":person/tag"].as_array().unwrap().len(), 2);
    assert_eq!(
        pull(&["[:db/ident]", ":person/name"]),
        "{:db/ident :person/name}\n"
    );
    // As it was.
    let before = shell.ok(&[
        "pull",
        "--db",
        "people@t=1",
        "[:person/name]",
        "[:person/name \"Ada\"]",
    ]);
    assert_eq!(before, "nil\n");
}

#[test]
fn pull_of_nobody_is_nothing() {
    let shell = people();
    for entity in [
        "[:person/name \"Zoe\"]",
        ":person/nobody",
        "123456789",
        "-5",
    ] {
        for (format, nothing) in [("edn", "nil\n"), ("json", "null\n")] {
            let arguments = [
                "pull",
                "--db",
                "people",
                "--format",
                format,
                "[:person/name]",
                entity,
            ];
            assert_eq!(shell.ok(&arguments), nothing, "{entity}");
        }
    }
}

#[test]
fn pull_says_what_it_cannot_do() {
    let shell = people();
    for (pattern, entity, part) in [
        ("[:person/name", "1", "^"),
        ("[(:person/name :frob 1)]", "1", ":frob"),
        ("[*]", "\"Ada\"", "an entity is an id"),
        ("[*]", "[:person/nmae \"Ada\"]", "did you mean :person/name"),
        ("[*]", "[:person/name 12]", ":person/name"),
        ("[*]", "[:person/height 1.65M]", ":person/height"),
        ("[*]", "[1", "line 1"),
    ] {
        let said = shell.fails(&["pull", "--db", "people", pattern, entity]);
        assert!(said.contains(part), "{pattern} {entity}: {part} in {said}");
    }
}
