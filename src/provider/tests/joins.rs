//! Random joins, sorts and extremes with filters at run time, against the same without them.

#![allow(clippy::format_push_string, reason = "texts of tests are short")]

use std::sync::Arc;

use arrow_schema::DataType;
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};

use super::differential::populate;
use super::{Random, context, database, register, shown, table};
use crate::db::Db;
use crate::db::basis::TimePoint;
use crate::provider::DatomTable;
use crate::store::Store;

/// How a statement is run, the filters aside.
struct Way {
    batch_rows: usize,
    partitions: usize,
    /// Keys of a build side that become a list at most.
    listed: usize,
    /// Whether both sides of a join are divided by their keys.
    divided: bool,
    partition_rows: u64,
    lookup_rows: u64,
}

impl Way {
    fn any(random: &mut Random) -> Self {
        Self {
            batch_rows: *random.pick(&[7, 100, 8192]),
            partitions: *random.pick(&[1, 3]),
            listed: *random.pick(&[0, 150, 5000]),
            divided: random.chance(40),
            partition_rows: *random.pick(&[20, 1000]),
            lookup_rows: *random.pick(&[1, 2, 5]),
        }
    }
}

struct Tables {
    db: Db,
    names: Vec<&'static str>,
    /// Rows of `p`, some twice, with some NULLs instead of ids.
    keys: Arc<MemTable>,
    columns: Vec<(&'static str, Vec<(String, DataType)>)>,
}

impl Tables {
    async fn of(random: &mut Random, db: Db) -> Self {
        let plain = context(8192, 1);
        register(&plain, "p", table(&db, "p"));
        let (one, two) = (random.below(9), random.below(5));
        let some = |condition: &str| {
            format!(
                "SELECT *, CASE WHEN db_id % 5 > 0 THEN db_id END AS id FROM p WHERE {condition}"
            )
        };
        let sql = match random.below(5) {
            0 => some("false"),
            1 => some(&format!("db_id % 97 = {one}")),
            2 => some(&format!("db_id % 9 = {one}")),
            _ => format!(
                "{} UNION ALL {}",
                some(&format!("db_id % 31 = {one}")),
                some(&format!("db_id % 53 = {two} OR db_id % 31 = {one}"))
            ),
        };
        let rows = plain.sql(&sql).await.unwrap();
        let schema = Arc::clone(rows.schema().inner());
        let batches = rows.collect().await.unwrap();
        let keys = Arc::new(MemTable::try_new(schema, vec![batches]).unwrap());
        let mut names = vec!["p", "keys", "datoms"];
        let defined = crate::catalog::metaschema::tables(db.schema());
        for name in ["p_x_ms", "p_x_mn"] {
            if defined.iter().any(|table| table.name == name) {
                names.push(name);
            }
        }
        let mut tables = Self {
            db,
            names,
            keys,
            columns: Vec::new(),
        };
        let context = tables.session(&Way::any(random), false);
        for name in tables.names.clone() {
            let schema = context.table_provider(name).await.unwrap().schema();
            let columns = schema.fields().iter();
            let columns = columns.map(|field| (field.name().clone(), field.data_type().clone()));
            tables.columns.push((name, columns.collect()));
        }
        tables
    }

    fn session(&self, way: &Way, on: bool) -> SessionContext {
        let mut config = SessionConfig::new()
            .with_batch_size(way.batch_rows)
            .with_target_partitions(way.partitions);
        let optimizer = &mut config.options_mut().optimizer;
        optimizer.enable_join_dynamic_filter_pushdown = on;
        optimizer.enable_topk_dynamic_filter_pushdown = on;
        optimizer.enable_aggregate_dynamic_filter_pushdown = on;
        optimizer.hash_join_inlist_pushdown_max_distinct_values = way.listed;
        if way.divided {
            optimizer.hash_join_single_partition_threshold = 0;
            optimizer.hash_join_single_partition_threshold_rows = 0;
        }
        let context = SessionContext::new_with_config(config);
        for name in &self.names {
            match *name {
                "keys" => {
                    let keys = Arc::clone(&self.keys) as _;
                    context.register_table("keys", keys).unwrap();
                }
                "datoms" => {
                    let datoms = Arc::new(DatomTable::new(self.db.clone()));
                    context.register_table("datoms", datoms).unwrap();
                }
                name => register(
                    &context,
                    name,
                    table(&self.db, name)
                        .with_partition_rows(way.partition_rows)
                        .with_lookup_rows(way.lookup_rows),
                ),
            }
        }
        context
    }

    /// A column of each side, of one type.
    fn pair(&self, random: &mut Random, left: usize, right: usize) -> Option<(&str, &str)> {
        let (left, right) = (&self.columns[left].1, &self.columns[right].1);
        for _ in 0..40 {
            let (one, of) = random.pick(left);
            let (two, other) = random.pick(right);
            if of == other && !of.is_nested() {
                return Some((one, two));
            }
        }
        None
    }

    fn statement(&self, random: &mut Random) -> Option<String> {
        let (left, right) = (
            random.below(self.names.len()),
            random.below(self.names.len()),
        );
        let plain = |at: usize| -> Vec<&str> {
            let columns = self.columns[at].1.iter();
            columns
                .filter(|(_, data_type)| !data_type.is_nested())
                .map(|(name, _)| name.as_str())
                .collect()
        };
        if random.chance(20) {
            let (name, columns) = (self.names[left], plain(left));
            let (one, two) = (random.pick(&columns), random.pick(&columns));
            if one == two {
                return None;
            }
            let order = random.pick(&["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]);
            return Some(match random.below(3) {
                0 => format!("SELECT min({one}), max({two}) FROM {name} l"),
                1 => format!("SELECT {one} FROM {name} l ORDER BY {one}{order} LIMIT 5"),
                _ => format!(
                    "SELECT {one}, {two} FROM {name} l ORDER BY {one}{order}, {two} LIMIT 20"
                ),
            });
        }
        let (from, to) = (self.names[left], self.names[right]);
        let (one, two) = self.pair(random, left, right)?;
        if random.chance(10) {
            let inner = format!("SELECT r.{two} FROM {to} r");
            return Some(format!(
                "SELECT count(*) FROM {from} l WHERE l.{one} NOT IN ({inner})"
            ));
        }
        let mut on = format!("l.{one} = r.{two}");
        if random.chance(30)
            && let Some((one, two)) = self.pair(random, left, right)
        {
            on += &format!(" AND l.{one} = r.{two}");
        }
        let kind = *random.pick(&[
            "JOIN",
            "JOIN",
            "JOIN",
            "LEFT JOIN",
            "RIGHT JOIN",
            "FULL JOIN",
            "LEFT SEMI JOIN",
            "RIGHT SEMI JOIN",
            "LEFT ANTI JOIN",
            "RIGHT ANTI JOIN",
        ]);
        let shown = match kind {
            kind if kind.starts_with("LEFT ") && kind != "LEFT JOIN" => "l.*",
            kind if kind.starts_with("RIGHT ") && kind != "RIGHT JOIN" => "r.*",
            _ if random.chance(50) => "l.*, r.*",
            _ => "count(*)",
        };
        let filtered = (random.chance(30) && shown != "r.*")
            .then(|| format!(" WHERE l.{} IS NOT NULL", random.pick(&plain(left))));
        Some(format!(
            "SELECT {shown} FROM {from} l {kind} {to} r ON {on}{}",
            filtered.unwrap_or_default()
        ))
    }
}

fn sum(plan: &Arc<dyn ExecutionPlan>, metric: &str) -> usize {
    let own = plan
        .metrics()
        .and_then(|metrics| metrics.sum_by_name(metric));
    let below = plan.children().into_iter().map(|child| sum(child, metric));
    own.map_or(0, |value| value.as_usize()) + below.sum::<usize>()
}

/// What a statement answers, and its plan after it was run.
async fn answer(
    context: &SessionContext,
    sql: &str,
) -> Result<(Vec<String>, Arc<dyn ExecutionPlan>)> {
    let plan = context.sql(sql).await?.create_physical_plan().await?;
    let batches = collect(Arc::clone(&plan), context.task_ctx()).await?;
    let mut rows = shown(&batches);
    if !sql.contains("ORDER BY") {
        rows.sort();
    }
    Ok((rows, plan))
}

/// What was done in all, so that a test that does nothing fails.
#[derive(Debug, Default)]
struct Done {
    pushed: usize,
    looked_up: usize,
    rejected: usize,
    answered: usize,
}

async fn compare(random: &mut Random, db: Db, statements: usize, seed: u64, done: &mut Done) {
    let tables = Tables::of(random, db).await;
    for _ in 0..statements {
        let Some(sql) = tables.statement(random) else {
            continue;
        };
        let way = Way::any(random);
        // DataFusion refuses some, as the extremes of types that have none.
        let Ok((wanted, _)) = answer(&tables.session(&way, false), &sql).await else {
            continue;
        };
        let got = answer(&tables.session(&way, true), &sql).await;
        let (got, plan) = got.unwrap_or_else(|error| panic!("seed {seed}, {error}\n{sql}"));
        let text = displayable(plan.as_ref()).indent(false).to_string();
        let db = &tables.db;
        assert_eq!(got, wanted, "seed {seed}, {db:?}\n{sql}\n{text}");
        done.pushed += usize::from(text.contains("run_time=["));
        done.looked_up += sum(&plan, "run_time_lookups");
        done.rejected += sum(&plan, "run_time_rejected");
        done.answered += got.len();
    }
}

async fn round(seed: u64, entities: usize, statements: usize, done: &mut Done) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let store = Store::memory();
    let connection = database(&store, seed).await;
    populate(&mut random, &connection, 4, entities).await;
    let now = connection.db();
    compare(&mut random, now.clone(), statements, seed, done).await;
    let t = TimePoint::T(1 + random.below(4) as u64);
    let past = now.as_of(t).await.unwrap();
    compare(&mut random, past, statements / 2, seed, done).await;
    let since = now.since(t).await.unwrap();
    compare(&mut random, since, statements / 4, seed, done).await;
}

#[tokio::test]
async fn joins_of_small_tables_answer_as_without_filters() {
    let mut done = Done::default();
    for seed in 200..215 {
        round(seed, 60, 40, &mut done).await;
    }
    assert!(done.pushed > 50 && done.answered > 1000, "{done:?}");
    assert!(done.looked_up > 100 && done.rejected > 1000, "{done:?}");
}

#[tokio::test]
async fn joins_of_many_leaves_answer_as_without_filters() {
    let mut done = Done::default();
    for seed in 300..303 {
        round(seed, 900, 24, &mut done).await;
    }
    assert!(done.pushed > 10 && done.looked_up > 10, "{done:?}");
}
