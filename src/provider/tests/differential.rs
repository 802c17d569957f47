//! Random databases and random statements: a table answers as a table in memory does that was put together
//! datom by datom.

#![allow(clippy::format_push_string, reason = "texts of tests are short")]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;

use super::{Random, context, database, definition, register, rows_of, table, transact};
use crate::catalog::metaschema::TableKind;
use crate::conn::Connection;
use crate::datom::Entid;
use crate::db::Db;
use crate::db::basis::TimePoint;
use crate::index::{Components, Index};
use crate::store::Store;
use crate::value::Value;

/// Name, type, further schema, and a literal of SQL to compare with.
const ATTRIBUTES: [(&str, &str, &str); 23] = [
    ("n", "long", ""),
    ("ni", "long", ":db/index true"),
    ("d", "double", ""),
    ("di", "double", ":db/index true"),
    ("f", "float", ":db/index true"),
    ("b", "boolean", ""),
    ("s", "string", ""),
    ("si", "string", ":db/index true"),
    ("u", "string", ":db/unique :db.unique/identity"),
    ("k", "keyword", ""),
    ("ki", "keyword", ":db/index true"),
    ("y", "symbol", ":db/index true"),
    ("uu", "uuid", ":db/index true"),
    ("t", "instant", ""),
    ("ti", "instant", ":db/index true"),
    ("r", "ref", ""),
    ("by", "bytes", ":db/index true"),
    ("ur", "uri", ":db/index true"),
    ("bi", "bigint", ":db/index true"),
    ("bd", "bigdec", ":db/index true :db/scale 2"),
    (
        "tu",
        "tuple",
        ":db/tupleTypes [:db.type/long :db.type/string]",
    ),
    ("ms", "string", ":db/cardinality :db.cardinality/many"),
    (
        "mn",
        "long",
        ":db/cardinality :db.cardinality/many :db/index true",
    ),
];

fn text(random: &mut Random) -> String {
    match random.below(40) {
        0 => "x".repeat(1030),
        1 => format!("{}y{}", "x".repeat(1030), random.below(2)),
        2 => format!("{}é", "x".repeat(1023)),
        3 => String::new(),
        _ => format!("text {}", random.below(12)),
    }
}

/// A value as EDN.
fn edn(random: &mut Random, value_type: &str) -> String {
    let number = random.below(12).cast_signed() - 4;
    match value_type {
        "long" => number.to_string(),
        "double" | "float" => format!("{number}.5"),
        "boolean" => (number > 0).to_string(),
        "string" => format!("{:?}", text(random)),
        "keyword" => format!(":k{}/v{}", number.rem_euclid(2), number.unsigned_abs()),
        "symbol" => format!("y{}", number.unsigned_abs()),
        "uuid" => format!(
            "#uuid \"{}\"",
            uuid::Uuid::from_u128(number.unsigned_abs() as u128)
        ),
        "instant" => format!(
            "#inst \"2020-01-{:02}T00:00:00.500Z\"",
            number.rem_euclid(28) + 1
        ),
        "ref" => (1 + number.unsigned_abs()).to_string(),
        "bytes" => format!("#bytes \"{:02x}ff\"", number.unsigned_abs()),
        "uri" => format!("#uri \"http://x/{}\"", number.unsigned_abs()),
        "bigint" => format!("{}000000000000000000000N", number + 5),
        "bigdec" => format!("{number}.25M"),
        "tuple" => format!("[{number} {}]", if number > 0 { "nil" } else { "\"t\"" }),
        other => unreachable!("{other}"),
    }
}

/// A value as a literal of SQL; sometimes of another type.
fn literal(random: &mut Random, value_type: &str) -> String {
    let number = random.below(13).cast_signed() - 5;
    match value_type {
        "long" | "ref" => match random.below(8) {
            0 => format!("{number}.0"),
            1 => format!("CAST({number} AS INT)"),
            _ => number.to_string(),
        },
        "double" | "float" => match random.below(4) {
            0 => number.to_string(),
            1 => "-0.0".to_owned(),
            _ => format!("{number}.5"),
        },
        "boolean" => "true".to_owned(),
        "string" => format!("'{}'", text(random)),
        "keyword" => match random.below(4) {
            0 => "'k0/v1'".to_owned(),
            _ => format!("'{}'", edn(random, "keyword")),
        },
        "symbol" => format!("'{}'", edn(random, "symbol")),
        "uuid" => {
            let uuid = uuid::Uuid::from_u128(number.unsigned_abs() as u128).to_string();
            format!(
                "'{}'",
                if random.chance(10) {
                    uuid.replace('-', "")
                } else {
                    uuid
                }
            )
        }
        "instant" => match random.below(4) {
            0 => format!(
                "TIMESTAMP '2020-01-{:02}T00:00:00.500'",
                number.rem_euclid(28) + 1
            ),
            1 => format!(
                "'2020-01-{:02}T01:00:00.500+01:00'",
                number.rem_euclid(28) + 1
            ),
            2 => format!(
                "TIMESTAMP '2020-01-{:02}T00:00:00.5001'",
                number.rem_euclid(28) + 1
            ),
            _ => format!(
                "arrow_cast('2020-01-{:02}T00:00:00.500Z', 'Timestamp(Millisecond, Some(\"UTC\"))')",
                number.rem_euclid(28) + 1
            ),
        },
        "bytes" => format!(
            "arrow_cast(X'{:02X}FF', 'BinaryView')",
            number.unsigned_abs()
        ),
        "uri" => format!("'http://x/{}'", number.unsigned_abs()),
        "bigint" => format!("{}000000000000000000000", number + 5),
        "bigdec" => match random.below(3) {
            0 => format!("{number}"),
            1 => format!("CAST({number}.25 AS DECIMAL(38,4))"),
            _ => format!("{number}.25"),
        },
        other => unreachable!("{other}"),
    }
}

type Entities = BTreeMap<Entid, BTreeMap<Entid, Vec<Value>>>;

/// What holds about the entities of a namespace.
async fn model(db: &Db, namespace: &str) -> Entities {
    let mut entities = Entities::new();
    let mut datoms = db.datoms(Index::Eavt, Components::all()).unwrap();
    while let Some(datom) = datoms.try_next().await.unwrap() {
        let attribute = db.schema().attribute(datom.a).expect("an attribute");
        if attribute.ident.namespace() == Some(namespace) {
            entities
                .entry(datom.e)
                .or_default()
                .entry(datom.a)
                .or_default()
                .push(datom.v);
        }
    }
    entities
}

fn scalar(value: &Value, data_type: &DataType) -> ScalarValue {
    match (value, data_type) {
        (Value::Boolean(value), _) => (*value).into(),
        (Value::Long(value) | Value::Ref(Entid(value)), _) => (*value).into(),
        (Value::Double(value), _) => (*value).into(),
        (Value::Float(value), _) => (*value).into(),
        (Value::Instant(value), _) => {
            ScalarValue::TimestampMillisecond(Some(*value), Some("UTC".into()))
        }
        (Value::Bytes(value), _) => ScalarValue::BinaryView(Some(value.to_vec())),
        (Value::Keyword(value), _) => ScalarValue::Utf8View(Some(format!(":{}", value.as_str()))),
        (Value::Symbol(value), _) => ScalarValue::Utf8View(Some(value.as_str().to_owned())),
        (Value::Uuid(value), _) => {
            ScalarValue::Utf8View(Some(uuid::Uuid::from_u128(*value).to_string()))
        }
        (Value::BigInt(value), _) => {
            ScalarValue::Decimal128(Some(value.to_string().parse().unwrap()), 38, 0)
        }
        (Value::BigDec(value), _) => {
            let digits = value.with_scale(2).as_bigint_and_exponent().0;
            ScalarValue::Decimal128(Some(digits.to_string().parse().unwrap()), 38, 2)
        }
        (Value::Tuple(elements), DataType::Struct(fields)) => {
            let cells: Vec<ArrayRef> = fields
                .iter()
                .zip(elements.iter())
                .map(|(field, element)| {
                    cell(element.as_ref(), field.data_type())
                        .to_array()
                        .unwrap()
                })
                .collect();
            ScalarValue::Struct(Arc::new(arrow_array::StructArray::new(
                fields.clone(),
                cells,
                None,
            )))
        }
        (text, _) => ScalarValue::Utf8View(Some(text.as_str().expect("text").to_owned())),
    }
}

fn cell(value: Option<&Value>, data_type: &DataType) -> ScalarValue {
    value.map_or_else(
        || ScalarValue::try_new_null(data_type).unwrap(),
        |value| scalar(value, data_type),
    )
}

/// The table that a definition describes, datom by datom.
fn expected(db: &Db, name: &str, entities: &Entities, schema: &SchemaRef) -> RecordBatch {
    let mut columns: Vec<Vec<ScalarValue>> = vec![Vec::new(); schema.fields().len()];
    for (e, facts) in entities {
        match definition(db, name).kind {
            TableKind::Entities {
                columns: defined, ..
            } => {
                columns[0].push(e.0.into());
                for (at, column) in defined.iter().enumerate() {
                    let values = facts.get(&column.attribute.id);
                    let data_type = schema.field(at + 1).data_type();
                    let shown = match data_type {
                        DataType::List(item) => values.map_or_else(
                            || ScalarValue::try_new_null(data_type).unwrap(),
                            |values| {
                                let values: Vec<_> =
                                    values.iter().map(|v| scalar(v, item.data_type())).collect();
                                ScalarValue::List(ScalarValue::new_list_nullable(
                                    &values,
                                    item.data_type(),
                                ))
                            },
                        ),
                        _ => cell(values.map(|values| &values[0]), data_type),
                    };
                    columns[at + 1].push(shown);
                }
            }
            TableKind::Members { column } => {
                for value in facts.get(&column.attribute.id).into_iter().flatten() {
                    columns[0].push(e.0.into());
                    columns[1].push(scalar(value, schema.field(1).data_type()));
                }
            }
        }
    }
    let arrays = columns
        .into_iter()
        .zip(schema.fields())
        .map(|(cells, field)| {
            if cells.is_empty() {
                return arrow_array::new_empty_array(field.data_type());
            }
            ScalarValue::iter_to_array(cells).unwrap()
        });
    RecordBatch::try_new(Arc::clone(schema), arrays.collect()).unwrap()
}

/// Makes a database of random attributes with random coverage.
pub(super) async fn populate(
    random: &mut Random,
    connection: &Connection,
    rounds: usize,
    entities: usize,
) {
    let mut chosen: Vec<(&str, &str, usize)> = Vec::new();
    let mut schema = String::new();
    for (name, value_type, more) in ATTRIBUTES {
        if random.chance(60) {
            let coverage = *random.pick(&[0, 3, 30, 60, 95, 100]);
            chosen.push((name, value_type, coverage));
            let cardinality = if more.contains(":db/cardinality") {
                ""
            } else {
                ":db/cardinality :db.cardinality/one"
            };
            schema += &format!(
                "{{:db/ident :p/{name} :db/valueType :db.type/{value_type} {cardinality} {more}}}\n"
            );
        }
    }
    schema += "{:db/ident :q/n :db/valueType :db.type/long :db/cardinality :db.cardinality/one}";
    transact(connection, &format!("[{schema}]")).await;
    let mut unique = 0;
    for round in 0..rounds {
        let mut data = String::new();
        let mut value = |random: &mut Random, name: &str, value_type: &str| {
            if name == "u" {
                unique += 1;
                return format!("\"u{unique}\"");
            }
            if name.starts_with('m') {
                let some = 1 + random.below(3);
                let items: Vec<_> = (0..some).map(|_| edn(random, value_type)).collect();
                return format!("[{}]", items.join(" "));
            }
            edn(random, value_type)
        };
        for new in 0..=random.below(entities) {
            let mut facts = String::new();
            for &(name, value_type, coverage) in &chosen {
                if random.chance(coverage) {
                    facts += &format!(" :p/{name} {}", value(random, name, value_type));
                }
            }
            if facts.is_empty() || random.chance(10) {
                facts += " :q/n 1";
            }
            data += &format!("{{:db/id \"new{new}\" {facts}}}\n");
        }
        let known: Vec<Entid> = model(&connection.db(), "p").await.into_keys().collect();
        let mut touched = Vec::new();
        for _ in 0..random.below(1 + known.len() / 4) {
            let e = *random.pick(&known);
            if touched.contains(&e) || chosen.is_empty() {
                continue;
            }
            touched.push(e);
            let &(name, value_type, _) = random.pick(&chosen);
            data += &match random.below(4) {
                0 => format!("[:db/retractEntity {e}]\n"),
                1 => format!("[:db/retract {e} :p/{name}]\n"),
                _ => format!(
                    "{{:db/id {e} :p/{name} {}}}\n",
                    value(random, name, value_type)
                ),
            };
        }
        transact(connection, &format!("[{data}]")).await;
        if random.chance(30) || round + 2 == rounds {
            connection.checkpoint().await.unwrap();
        }
    }
}

/// The columns of a table with the types they are compared as.
fn columns_of(db: &Db, name: &str) -> Vec<(String, String, bool)> {
    let attribute = |column: &crate::catalog::metaschema::ColumnDef, many| {
        (
            column.name.clone(),
            column.attribute.value_type.name().to_owned(),
            many,
        )
    };
    match definition(db, name).kind {
        TableKind::Entities { columns, .. } => columns
            .iter()
            .map(|column| attribute(column, column.attribute.is_many()))
            .collect(),
        TableKind::Members { column } => vec![attribute(&column, false)],
    }
}

fn filter(random: &mut Random, columns: &[(String, String, bool)], known: &[i64]) -> String {
    if random.chance(20) {
        let mut some = || {
            known
                .get(random.below(known.len() + 1))
                .copied()
                .unwrap_or(77)
        };
        let (one, two, three) = (some(), some(), some());
        return match random.below(5) {
            0 => format!("db_id = {one}"),
            1 => format!("db_id IN ({one}, {two}, {three}, 3)"),
            2 => format!("db_id > {one}"),
            3 => format!("db_id BETWEEN {one} AND {two}"),
            _ => format!("(db_id = {one} OR db_id >= {two})"),
        };
    }
    let (name, value_type, many) = random.pick(columns);
    if random.chance(10) {
        return format!("{name} IS NULL");
    }
    if random.chance(10) {
        return format!("{name} IS NOT NULL");
    }
    if *many {
        return match (random.below(2), value_type.as_str()) {
            (0, "long") => format!("array_has({name}, 3)"),
            _ => format!("array_length({name}) > 1"),
        };
    }
    if value_type == "tuple" {
        return format!("{name}['e0'] > 0");
    }
    if value_type == "boolean" {
        return (*random.pick(&[
            name.clone(),
            format!("NOT {name}"),
            format!("{name} = false"),
        ]))
        .clone();
    }
    let one = literal(random, value_type);
    match random.below(10) {
        0 => format!("{name} <> {one}"),
        1 => format!("{name} < {one}"),
        2 => format!("{one} <= {name}"),
        3 => format!(
            "({name} = {one} OR {name} > {})",
            literal(random, value_type)
        ),
        4 => format!("{name} IN ({one}, {})", literal(random, value_type)),
        5 if value_type != "bytes" => {
            format!("{name} BETWEEN {one} AND {}", literal(random, value_type))
        }
        6 if value_type == "string" => format!("{name} LIKE 'text 1%'"),
        7 => {
            let (other, _, _) = random.pick(columns);
            format!("({name} = {one} OR {other} IS NULL)")
        }
        8 if value_type == "long" => format!("{name} + db_id % 3 > {one}"),
        _ => format!("{name} = {one}"),
    }
}

/// A statement, and whether it says in which order rows come.
fn statement(
    random: &mut Random,
    columns: &[(String, String, bool)],
    known: &[i64],
) -> (String, bool) {
    let mut filters: Vec<String> = Vec::new();
    while random.chance(55) {
        filters.push(filter(random, columns, known));
    }
    let filters = match filters[..] {
        [] => String::new(),
        _ => format!(" WHERE {}", filters.join(" AND ")),
    };
    let mut shown: Vec<&str> = columns
        .iter()
        .filter(|_| random.chance(30))
        .map(|(name, ..)| name.as_str())
        .collect();
    match random.below(5) {
        0 => (format!("SELECT count(*) FROM t{filters}"), false),
        1 => {
            let (name, ..) = random.pick(columns);
            (
                format!("SELECT count({name}), count(*) FROM t{filters}"),
                false,
            )
        }
        2 => {
            shown.push("db_id");
            let limit = if random.chance(30) { " LIMIT 5" } else { "" };
            (
                format!(
                    "SELECT {} FROM t{filters} ORDER BY db_id{limit}",
                    shown.join(", ")
                ),
                true,
            )
        }
        _ => {
            if shown.is_empty() {
                shown.push("db_id");
            }
            (
                format!("SELECT {} FROM t{filters}", shown.join(", ")),
                false,
            )
        }
    }
}

async fn compare(random: &mut Random, db: &Db, statements: usize, seed: u64) {
    let entities = model(db, "p").await;
    let known: Vec<i64> = entities.keys().map(|e| e.0).collect();
    for name in ["p", "p_x_ms", "p_x_mn"] {
        if !crate::catalog::metaschema::tables(db.schema())
            .iter()
            .any(|table| table.name == name)
        {
            continue;
        }
        let schema = table(db, name).schema();
        let expected = expected(db, name, &entities, &schema);
        let reference = SessionContext::new();
        let memory = MemTable::try_new(Arc::clone(&schema), vec![vec![expected]]).unwrap();
        reference.register_table("t", Arc::new(memory)).unwrap();
        let columns = columns_of(db, name);
        for _ in 0..statements {
            let (sql, ordered) = statement(random, &columns, &known);
            let ordered = ordered && name == "p";
            if sql.contains("LIMIT") && !ordered {
                continue;
            }
            let tested = context(*random.pick(&[1, 7, 100, 8192]), *random.pick(&[1, 3]));
            if random.chance(20) {
                let off = "SET datomfusion.index_access = false";
                tested.sql(off).await.unwrap();
            }
            register(&tested, "t", table(db, name).with_partition_rows(50));
            let (mut got, mut wanted) = (
                rows_of(&tested, &sql).await,
                rows_of(&reference, &sql).await,
            );
            if !ordered {
                got.sort();
                wanted.sort();
            }
            if got != wanted {
                let plan = super::plan_of(&tested, &sql).await;
                panic!(
                    "seed {seed}, {db:?}, table {name}\n{sql}\n{plan}\ngot    {got:#?}\nwanted {wanted:#?}"
                );
            }
        }
    }
}

async fn round(seed: u64, rounds: usize, entities: usize, statements: usize) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let store = Store::memory();
    let connection = database(&store, seed).await;
    populate(&mut random, &connection, rounds, entities).await;
    let now = connection.db();
    // A value that has read nothing yet.
    let cold = Db::open(&store, &crate::id::BranchName::default())
        .await
        .unwrap();
    compare(&mut random, &cold, statements, seed).await;
    let t = 1 + random.below(rounds) as u64;
    let past = now.as_of(TimePoint::T(t)).await.unwrap();
    compare(&mut random, &past, statements / 2, seed).await;
    let since = now.since(TimePoint::T(t)).await.unwrap();
    compare(&mut random, &since, statements / 2, seed).await;
}

#[tokio::test]
async fn small_tables_answer_as_tables_in_memory() {
    for seed in 0..30 {
        round(seed, 5, 40, 30).await;
    }
}

#[tokio::test]
async fn tables_of_many_leaves_answer_as_tables_in_memory() {
    for seed in 100..103 {
        round(seed, 4, 3000, 40).await;
    }
}
