use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{all, database, lookup, refused, transact, values};
use crate::datom::Entid;
use crate::index::Index;
use crate::schema::tuple::from_edn;
use crate::value::Value;
use crate::{Connection, Db, Import, TxData};

const SCHEMA: &str = r#"[
    {:db/ident :course/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one
     :db/unique :db.unique/identity}
    {:db/ident :reg/course :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}
    {:db/ident :reg/student :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
    {:db/ident :reg/grade :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
    {:db/ident :reg/tags :db/valueType :db.type/long :db/cardinality :db.cardinality/many}
    {:db/ident :reg/course+student :db/valueType :db.type/tuple :db/cardinality :db.cardinality/one
     :db/tupleAttrs [:reg/course :reg/student] :db/unique :db.unique/identity}]"#;

async fn registrations() -> Connection {
    let connection = database(SCHEMA).await;
    transact(&connection, r#"[{:course/id "bio"} {:course/id "art"}]"#).await;
    connection
}

fn tuple(course: Option<Entid>, student: Option<i64>) -> Value {
    Value::Tuple([course.map(Value::Ref), student.map(Value::Long)].into())
}

async fn course(db: &Db, id: &str) -> Entid {
    lookup(db, "course/id", Value::string(id)).await.unwrap()
}

async fn composites(connection: &Connection) -> Vec<String> {
    let values = values(&connection.db(), "reg/course+student").await;
    values.into_iter().map(|(_, tuple)| tuple).collect()
}

#[tokio::test]
async fn a_composite_follows_its_parts() {
    let connection = registrations().await;
    let bio = course(&connection.db(), "bio").await;
    let report = transact(
        &connection,
        r#"[{:db/id "r" :reg/course [:course/id "bio"] :reg/student 7}]"#,
    )
    .await;
    assert_eq!(composites(&connection).await, [format!("[{bio} 7]")]);
    let r = report.tempids.values().next().unwrap();
    transact(&connection, &format!("[[:db/add {r} :reg/student 8]]")).await;
    assert_eq!(composites(&connection).await, [format!("[{bio} 8]")]);
    transact(&connection, &format!("[[:db/retract {r} :reg/student]]")).await;
    assert_eq!(composites(&connection).await, [format!("[{bio} nil]")]);
    // What is retracted with the course takes the reference along.
    transact(&connection, &format!("[[:db/add {r} :reg/student 9]]")).await;
    transact(&connection, r#"[[:db/retractEntity [:course/id "bio"]]]"#).await;
    assert_eq!(composites(&connection).await, ["[nil 9]"]);
    let report = transact(&connection, &format!("[[:db/retract {r} :reg/student 9]]")).await;
    assert_eq!(composites(&connection).await, [""; 0]);
    assert_eq!(
        report.tx_data.iter().filter(|datom| !datom.added).count(),
        2
    );
    connection.checkpoint().await.unwrap();
    connection.db().verify().await.unwrap();
}

#[tokio::test]
async fn a_retracted_entity_loses_its_composite_once() {
    let connection = registrations().await;
    transact(&connection, "[{:db/id 5000 :reg/student 7}]").await;
    let report = transact(&connection, "[[:db/retractEntity 5000]]").await;
    let retracted = report.tx_data.iter().filter(|datom| !datom.added).count();
    assert_eq!(retracted, 2);
    assert_eq!(composites(&connection).await, [""; 0]);
}

#[tokio::test]
async fn a_unique_composite_names_its_entity() {
    let connection = registrations().await;
    let first = transact(
        &connection,
        r#"[{:db/id "r" :reg/course [:course/id "bio"] :reg/student 7 :reg/grade 1}]"#,
    )
    .await;
    let db = connection.db();
    let (r, bio) = (
        first.tempids.values().next().copied(),
        course(&db, "bio").await,
    );
    let named = lookup(&db, "reg/course+student", tuple(Some(bio), Some(7))).await;
    assert_eq!(named, r);
    // By the composite itself, by its parts, and by a lookup ref.
    for (grade, text) in [
        (
            2,
            format!(r#"[{{:db/id "x" :reg/course+student [{bio} 7] :reg/grade 2}}]"#),
        ),
        (
            3,
            format!(r#"[{{:db/id "x" :reg/course {bio} :reg/student 7 :reg/grade 3}}]"#),
        ),
        (
            4,
            format!("[[:db/add [:reg/course+student [{bio} 7]] :reg/grade 4]]"),
        ),
    ] {
        let report = transact(&connection, &text).await;
        assert!(report.tempids.values().all(|x| Some(*x) == r), "{text}");
        let grades = values(&connection.db(), "reg/grade").await;
        assert_eq!(grades, [(r.unwrap(), grade.to_string())], "{text}");
    }
    // An entity that is named otherwise may not take what another has.
    transact(&connection, r#"[{:db/id 6000 :reg/student 7}]"#).await;
    let reason = refused(&connection, &format!("[[:db/add 6000 :reg/course {bio}]]")).await;
    assert!(reason.contains(":reg/course+student is unique"), "{reason}");
}

#[tokio::test]
async fn parts_that_trade_places_in_one_transaction_are_no_conflict() {
    let connection = registrations().await;
    let one = r#"[{:db/id 5000 :reg/course [:course/id "bio"] :reg/student 1}
                  {:db/id 5001 :reg/course [:course/id "bio"] :reg/student 2}]"#;
    transact(&connection, one).await;
    transact(
        &connection,
        "[[:db/add 5000 :reg/student 2] [:db/add 5001 :reg/student 1]]",
    )
    .await;
    let students = values(&connection.db(), "reg/student").await;
    assert_eq!(
        students,
        [(Entid(5000), "2".into()), (Entid(5001), "1".into())]
    );
}

#[tokio::test]
async fn temporary_ids_with_equal_parts_are_one_entity() {
    let connection = registrations().await;
    let report = transact(
        &connection,
        r#"[{:db/id "c" :course/id "chem"}
            {:db/id "x" :reg/course "c" :reg/student 1 :reg/grade 5}
            {:db/id "y" :reg/course "c" :reg/student 1 :reg/tags [6]}]"#,
    )
    .await;
    let ids: Vec<_> = ["x", "y"]
        .iter()
        .map(|name| report.tempids[&crate::TempId::Text((*name).into())])
        .collect();
    assert_eq!(ids[0], ids[1]);
    let chem = course(&connection.db(), "chem").await;
    assert_eq!(composites(&connection).await, [format!("[{chem} 1]")]);
}

#[tokio::test]
async fn a_claim_about_a_composite_must_agree_with_its_parts() {
    let connection = registrations().await;
    let bio = course(&connection.db(), "bio").await;
    transact(
        &connection,
        &format!(
            r#"[{{:db/id "c" :course/id "chem"}}
            {{:reg/course "c" :reg/student 1 :reg/course+student ["c" 1]}}
            {{:db/id 5000 :reg/course {bio} :reg/student 2}}]"#
        ),
    )
    .await;
    // What holds may be said again.
    let report = transact(
        &connection,
        &format!("[[:db/add 5000 :reg/course+student [{bio} 2]]]"),
    )
    .await;
    assert_eq!(report.tx_data.len(), 1, "only the instant");
    for (text, why) in [
        (
            format!("[[:db/add 5000 :reg/course+student [{bio} 3]]]"),
            format!("its parts make [{bio} 2], not [{bio} 3]"),
        ),
        (
            format!("[{{:reg/course+student [{bio} 99]}}]"),
            "its parts make nothing".into(),
        ),
        (
            format!("[[:db/retract 5000 :reg/course+student [{bio} 2]]]"),
            "is composed of :reg/course and :reg/student; change those".into(),
        ),
        (
            "[[:db/add 5000 :reg/course+student [nil nil]]]".into(),
            "nothing but nil".into(),
        ),
        (
            format!("[[:db/add 5000 :reg/course+student [{bio}]]]"),
            "a tuple of 2 elements, got 1".into(),
        ),
        (
            format!("[[:db/add 5000 :reg/course+student [{bio} \"x\"]]]"),
            "element 1: expected a :db.type/long".into(),
        ),
    ] {
        let reason = refused(&connection, &text).await;
        assert!(reason.contains(&why), "{text}: {reason}");
    }
}

#[tokio::test]
async fn a_composite_declared_late_is_said_of_what_is_there() {
    let connection = database(
        "[{:db/ident :reg/student :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
          {:db/ident :reg/grade :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]",
    )
    .await;
    for n in 0..5 {
        transact(
            &connection,
            &format!(
                "[{{:db/id {} :reg/grade {n} :reg/student {}}}]",
                5000 + n,
                n % 2
            ),
        )
        .await;
    }
    connection.checkpoint().await.unwrap();
    let declare = |ident: &str, rest: &str| {
        format!(
            "[{{:db/ident {ident} :db/valueType :db.type/tuple :db/cardinality :db.cardinality/one
               :db/tupleAttrs [:reg/student :reg/grade] {rest}}} [:db/add 5004 :reg/grade 2]]"
        )
    };
    let reason = refused(
        &connection,
        &declare(":seen/pair", ":db/unique :db.unique/value"),
    )
    .await;
    assert!(
        reason.contains("entities 5002 and 5004 share [0 2]"),
        "{reason}"
    );
    let report = transact(&connection, &declare(":seen/pair", ":db/index true")).await;
    let pairs = values(&connection.db(), "seen/pair").await;
    let expected = ["[0 0]", "[1 1]", "[0 2]", "[1 3]", "[0 2]"];
    let expected: Vec<_> = (5000..)
        .map(Entid)
        .zip(expected.map(String::from))
        .collect();
    assert_eq!(pairs, expected);
    assert_eq!(report.db_after.0.tables["seen"], 5);
    connection.checkpoint().await.unwrap();
    connection.db().verify().await.unwrap();
    transact(&connection, "[[:db/add 5001 :reg/grade 8]]").await;
    assert_eq!(values(&connection.db(), "seen/pair").await[1].1, "[1 8]");
}

#[tokio::test]
async fn what_cannot_be_composed_is_refused() {
    let connection = registrations().await;
    let declare =
        |rest: &str| format!("[{{:db/ident :x/y :db/cardinality :db.cardinality/one {rest}}}]");
    let typed = |rest: &str| declare(&format!(":db/valueType :db.type/tuple {rest}"));
    for (text, why) in [
        (typed(""), "must have exactly one of"),
        (
            typed(":db/tupleType :db.type/long :db/tupleAttrs [:reg/course :reg/student]"),
            "must have exactly one of",
        ),
        (
            declare(":db/valueType :db.type/long :db/tupleAttrs [:reg/course :reg/student]"),
            "has :db/tupleAttrs but is no :db.type/tuple",
        ),
        (
            typed(":db/tupleAttrs [:reg/course]"),
            "takes 2 to 8 keywords",
        ),
        (
            typed(":db/tupleTypes [:db.type/long]"),
            "takes 2 to 8 keywords",
        ),
        (
            typed(":db/tupleTypes [:db.type/long nil]"),
            "takes 2 to 8 keywords",
        ),
        (
            typed(":db/tupleType :db.type/tuple"),
            "is no type of a tuple's element",
        ),
        (
            typed(":db/tupleTypes [:db.type/long :long]"),
            "is no type of a tuple's element",
        ),
        (
            typed(":db/tupleAttrs [:reg/course :reg/nobody]"),
            ":reg/nobody, which is no attribute",
        ),
        (
            typed(":db/tupleAttrs [:reg/course :reg/course]"),
            "one attribute twice",
        ),
        (
            typed(":db/tupleAttrs [:reg/course :reg/tags]"),
            "must have cardinality one",
        ),
        (
            typed(":db/tupleAttrs [:reg/course :reg/course+student]"),
            "be no tuple",
        ),
        (
            typed(":db/tupleAttrs [:reg/course :db/ident]"),
            "belongs to the bootstrap",
        ),
        (
            "[[:db/add :reg/student :db/ident :reg/pupil]]".into(),
            "a part of a composite keeps its name",
        ),
        (
            "[{:db/id :reg/student :db/ident :reg/grade} {:db/id :reg/grade :db/ident :reg/student}]"
                .into(),
            "a part of a composite keeps its name",
        ),
        (
            "[[:db/add :reg/student :db/cardinality :db.cardinality/many]]".into(),
            "must have cardinality one",
        ),
        (
            "[[:db/add :reg/course+student :db/cardinality :db.cardinality/many]]".into(),
            "is a composite and has :db.cardinality/one",
        ),
        (
            "[[:db/retractEntity :reg/course+student] [:db/add 5000 :reg/student 1]]".into(),
            "an attribute in use cannot be retracted",
        ),
        (
            "[[:db/retractEntity :reg/grade] [:db/add 5000 :reg/grade 1]]".into(),
            "an attribute in use cannot be retracted",
        ),
        (
            "[[:db/add :reg/course+student :db/tupleAttrs [:reg/course :reg/grade]]]".into(),
            "cannot change",
        ),
    ] {
        let reason = refused(&connection, &text).await;
        assert!(reason.contains(why), "{text}: {reason}");
    }
}

#[tokio::test]
async fn declared_tuples_are_checked_and_resolve_temporary_ids() {
    let connection = registrations().await;
    transact(
        &connection,
        "[{:db/ident :x/mixed :db/valueType :db.type/tuple :db/cardinality :db.cardinality/many
           :db/tupleTypes [:db.type/ref :db.type/string]}
          {:db/ident :x/same :db/valueType :db.type/tuple :db/cardinality :db.cardinality/one
           :db/tupleType :db.type/ref}]",
    )
    .await;
    let report = transact(
        &connection,
        r#"[{:db/id "a" :reg/grade 1 :x/mixed [["a" "self"] [[:course/id "bio"] nil] ["datomic.tx" "tx"]]
             :x/same [nil "a" :reg/grade]}]"#,
    )
    .await;
    let a = report.tempids.values().next().unwrap().0;
    let db = connection.db();
    let bio = course(&db, "bio").await;
    let tx = crate::TxId::from_t(report.t).0;
    let shown =
        |values: Vec<(Entid, String)>| values.into_iter().map(|(_, v)| v).collect::<Vec<_>>();
    assert_eq!(
        shown(values(&db, "x/mixed").await),
        [
            format!("[{bio} nil]"),
            format!("[{a} \"self\"]"),
            format!("[{tx} \"tx\"]")
        ]
    );
    let grade = db
        .schema()
        .entid(&crate::edn::Keyword::new("reg/grade"))
        .unwrap();
    assert_eq!(
        shown(values(&db, "x/same").await),
        [format!("[nil {a} {grade}]")]
    );
    for (text, why) in [
        (
            "[{:x/same [1 2 3 4 5 6 7 8 9]}]".to_owned(),
            "2 to 8 elements, got 9",
        ),
        ("[{:x/same [1]}]".into(), "2 to 8 elements, got 1"),
        ("[{:x/same [999999 1]}]".into(), "there is no entity 999999"),
        (
            "[{:x/same [\"nobody\" 1]}]".into(),
            "nothing is said about it",
        ),
        (
            format!("[{{:x/mixed [[1 \"{}\"]]}}]", "x".repeat(1100)),
            "at most 1024 bytes",
        ),
    ] {
        let reason = refused(&connection, &text).await;
        assert!(reason.contains(why), "{text}: {reason}");
    }
}

#[tokio::test]
async fn a_query_names_a_tuple_by_a_vector() {
    let connection = registrations().await;
    let db = connection.db();
    let ident = crate::edn::Keyword::new("reg/course+student");
    let attribute = db.schema().attribute_by_ident(&ident).unwrap();
    let read = |text: &str| from_edn(attribute, &super::read_all(text).unwrap()[0].edn);
    assert_eq!(read("[3 7]"), Some(tuple(Some(Entid(3)), Some(7))));
    assert_eq!(read("[nil 7]"), Some(tuple(None, Some(7))));
    for none in ["[3]", "[3 \"x\"]", "7", "[3 7 8]"] {
        assert_eq!(read(none), None, "{none}");
    }
}

#[tokio::test]
async fn an_import_composes_too() {
    let connection = registrations().await;
    let mut import = Import::new(connection.db().schema());
    let student = import.attribute("reg/student").unwrap();
    let composite = import.attribute("reg/course+student").unwrap();
    import.entity([(student, Value::Long(1))]).unwrap();
    import.entity([(student, Value::Long(2))]).unwrap();
    let error = import
        .entity([(composite, tuple(None, Some(3)))])
        .unwrap_err();
    assert!(error.to_string().contains("leave it out"), "{error}");
    let twice = {
        let mut import = import.clone();
        import.entity([(student, Value::Long(2))]).unwrap();
        connection.import(import).await.unwrap_err().to_string()
    };
    assert!(twice.contains("[nil 2] occurs twice"), "{twice}");
    connection.import(import).await.unwrap();
    assert_eq!(composites(&connection).await, ["[nil 1]", "[nil 2]"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The twin: a map of entities to parts, and every composite computed from it.
    #[test]
    fn composites_equal_those_computed_from_the_parts(
        steps in proptest::collection::vec(
            proptest::collection::vec((0..5i64, any::<bool>(), proptest::option::of(0..3i64)), 1..5),
            1..25,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(agree(steps));
    }
}

async fn agree(steps: Vec<Vec<(i64, bool, Option<i64>)>>) {
    let connection = database(
        "[{:db/ident :p/a :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
          {:db/ident :q/b :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
          {:db/ident :c/ab :db/valueType :db.type/tuple :db/cardinality :db.cardinality/one
           :db/tupleAttrs [:p/a :q/b] :db/unique :db.unique/value}]",
    )
    .await;
    let mut twin: BTreeMap<i64, [Option<i64>; 2]> = BTreeMap::new();
    for (at, step) in steps.iter().enumerate() {
        let mut next = twin.clone();
        let mut changes: BTreeMap<(i64, bool), Option<i64>> = BTreeMap::new();
        for (e, second, value) in step {
            changes.insert((*e, *second), *value);
        }
        let mut text = String::new();
        for ((e, second), value) in changes {
            let a = if second { ":q/b" } else { ":p/a" };
            let e = 5000 + e;
            text += &value.map_or_else(
                || format!("[:db/retract {e} {a}] "),
                |value| format!("[:db/add {e} {a} {value}] "),
            );
            next.entry(e).or_default()[usize::from(second)] = value;
        }
        next.retain(|_, parts| *parts != [None, None]);
        let mut tuples: Vec<_> = next.values().collect();
        tuples.sort_unstable();
        let unique = tuples.windows(2).all(|pair| pair[0] != pair[1]);
        let data = TxData::parse(&format!("[{text}]")).unwrap();
        let outcome = connection.transact(&data).await;
        assert_eq!(outcome.is_ok(), unique, "{text}: {outcome:?}");
        if unique {
            twin = next;
        }
        if at % 7 == 6 {
            connection.checkpoint().await.unwrap();
        }
        let db = connection.db();
        let expected: Vec<_> = twin
            .iter()
            .map(|(e, parts)| {
                let tuple = Value::Tuple(parts.map(|part| part.map(Value::Long)).into());
                (Entid(*e), tuple)
            })
            .collect();
        let shown: Vec<_> = expected.iter().map(|(e, v)| (*e, v.to_string())).collect();
        assert_eq!(values(&db, "c/ab").await, shown, "{text}");
        for (e, tuple) in expected {
            assert_eq!(lookup(&db, "c/ab", tuple).await, Some(e));
        }
        assert_eq!(
            db.0.tables.get("c").copied().unwrap_or(0),
            twin.len() as u64
        );
    }
    connection.checkpoint().await.unwrap();
    connection.db().verify().await.unwrap();
    assert!(!all(&connection.db(), Index::Eavt).await.is_empty());
}
