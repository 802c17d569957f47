//! A DataFusion session as this crate wants it, and SQL through it.

use std::sync::Arc;

use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DataFusionError, Result};
use datafusion::dataframe::DataFrame;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::AggregateUDF;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::optimizer::common_subexpr_eliminate::CommonSubexprEliminate;
use datafusion::optimizer::eliminate_filter::EliminateFilter;
use datafusion::optimizer::eliminate_limit::EliminateLimit;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::optimize_unions::OptimizeUnions;
use datafusion::optimizer::propagate_empty_relation::PropagateEmptyRelation;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::push_down_limit::PushDownLimit;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::aggregate_statistics::AggregateStatistics;
use datafusion::physical_optimizer::combine_partial_final_agg::CombinePartialFinalAggregate;
use datafusion::physical_optimizer::ensure_coop::EnsureCooperative;
use datafusion::physical_optimizer::ensure_requirements::EnsureRequirements;
use datafusion::physical_optimizer::join_selection::JoinSelection;
use datafusion::physical_optimizer::limit_pushdown::LimitPushdown;
use datafusion::physical_optimizer::limited_distinct_aggregation::LimitedDistinctAggregation;
use datafusion::physical_optimizer::projection_pushdown::ProjectionPushdown;
use datafusion::physical_optimizer::sanity_checker::SanityCheckPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::prelude::{SessionConfig, SessionContext};
use datomfusion_datalog::{DatalogQueryPlanner, Optimizations};
use tokio::runtime::Handle;

use super::checked::CheckedArithmetic;
use super::cooperative::CooperativeJoins;
use super::join_order::JoinOrder;
use super::time_travel::{self, Names, Statements};
use super::volatile::{physical_rules, run_time_filters};
use crate::provider::learn;
use crate::query::{Answers, Plans};

/// Keys of a join's build side that may become look-ups on the other side. Each costs 0.4 µs to hand over, whether it
/// is looked up or not: with 1000 of them a join with 20,000 rows took 0.65 ms instead of 0.28 ms.
const PROBES_MAX: usize = 512;

/// The settings that differ from DataFusion's.
///
/// `information_schema` is there, and the dialect is that of `PostgreSQL`. Text stays in string views, as
/// tables hand it out. The keys of a join's build side are handed to the scan of the other side one by one up to
/// [`PROBES_MAX`], because a scan can look them up; DataFusion's 150 suit files, which can only be skipped.
pub(crate) fn session_config(optimizations: &Optimizations) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_information_schema(true)
        .with_option_extension(optimizations.clone());
    let options = config.options_mut();
    options.sql_parser.dialect = datafusion::config::Dialect::PostgreSQL;
    options.sql_parser.map_string_types_to_utf8view = true;
    options.execution.parquet.schema_force_view_types = true;
    options
        .optimizer
        .hash_join_inlist_pushdown_max_distinct_values = PROBES_MAX;
    config
}

/// A session with DataFusion's features, checked arithmetic and joins that yield.
///
/// The caller adds its catalogs, run-time environment and further rules, then builds.
pub(crate) fn session_builder(config: SessionConfig) -> SessionStateBuilder {
    let checked = CheckedArithmetic::default();
    let mut builder = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features();
    // The later of two functions of one name wins, and these replace by name.
    builder
        .aggregate_functions()
        .get_or_insert_default()
        .push(Arc::clone(checked.sum()));
    builder
        .scalar_functions()
        .get_or_insert_default()
        .extend(checked.operators().iter().map(Arc::clone));
    builder
        .with_optimizer_rules(sql_rules())
        .with_physical_optimizer_rules(physical_rules())
        .with_analyzer_rule(Arc::new(checked))
        .with_physical_optimizer_rule(Arc::new(CooperativeJoins))
        .with_query_planner(Arc::new(DatalogQueryPlanner))
}

/// DataFusion's rules, and where filters have been pushed down to what they are about, the order of joins.
fn sql_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Optimizer::new().rules;
    let pushed = rules
        .iter()
        .position(|rule| rule.name() == "push_down_filter");
    rules.insert(pushed.map_or(rules.len(), |at| at + 1), Arc::new(JoinOrder));
    rules
}

/// What plans of Datalog are made and run in.
///
/// They bring their tables and functions, typed, so the session has no catalog, no functions but `sum`, and
/// only those rules that find something to do in such plans. Made once a federation, used by any number of queries at once.
#[derive(Debug)]
pub(crate) struct DatalogSession {
    one: Arc<Planning>,
    many: Arc<Planning>,
    /// A sum that does not overflow silently.
    pub(crate) sum: Arc<AggregateUDF>,
    pub(crate) answers: Answers,
    pub(crate) plans: Plans,
    pub(crate) optimizations: Optimizations,
}

/// What a plan is made and run in.
#[derive(Debug)]
pub(crate) struct Planning {
    pub(crate) state: SessionState,
    pub(crate) task: Arc<TaskContext>,
    run_time_filters: Arc<dyn PhysicalOptimizerRule + Send + Sync>,
    /// How often a physical plan was made.
    #[cfg(test)]
    pub(crate) planned: std::sync::atomic::AtomicUsize,
}

/// Facts up to which a query is not divided among processors. Chosen, not measured: such queries took about a
/// millisecond.
const UNDIVIDED_FACTS: u64 = 1 << 18;

impl DatalogSession {
    pub(crate) fn new(runtime: Arc<RuntimeEnv>, optimizations: Optimizations) -> Self {
        let config = session_config(&optimizations);
        Self {
            one: Planning::new(config.clone().with_target_partitions(1), &runtime).into(),
            many: Planning::new(config, &runtime).into(),
            sum: Arc::clone(CheckedArithmetic::default().sum()),
            answers: Answers::default(),
            plans: Plans::default(),
            optimizations,
        }
    }

    /// For a query that reads so many facts. Where one thread runs everything, dividing is work for nothing.
    pub(crate) fn planning(&self, facts: u64) -> &Arc<Planning> {
        let workers = Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers());
        if facts <= UNDIVIDED_FACTS || workers == 1 {
            &self.one
        } else {
            &self.many
        }
    }
}

impl Planning {
    fn new(config: SessionConfig, runtime: &Arc<RuntimeEnv>) -> Self {
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::clone(runtime))
            .with_analyzer_rules(vec![Arc::new(TypeCoercion::new())])
            .with_optimizer_rules(datalog_rules())
            .with_physical_optimizer_rules(datalog_physical_rules())
            .with_query_planner(Arc::new(DatalogQueryPlanner))
            .build();
        Self {
            task: state.task_ctx(),
            state,
            run_time_filters: run_time_filters(),
            #[cfg(test)]
            planned: std::sync::atomic::AtomicUsize::default(),
        }
    }

    /// A plan for one run: scans are told what joins learn while they run. Those filters are of this run alone, so a
    /// plan that is kept has none.
    pub(crate) fn to_run(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        if plan.exists(|node| Ok(node.is::<HashJoinExec>()))? {
            self.run_time_filters
                .optimize(plan, self.state.config_options())
        } else {
            Ok(plan)
        }
    }
}

/// DataFusion's rules, in its order, less those for what lowering never makes: subqueries, set operations but
/// the union of all, outer joins that a filter makes inner, nulls in keys, structs.
fn datalog_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(OptimizeUnions::new()),
        Arc::new(SimplifyExpressions::new()),
        Arc::new(ReplaceDistinctWithAggregate::new()),
        Arc::new(ExtractEquijoinPredicate::new()),
        Arc::new(EliminateFilter::new()),
        Arc::new(EliminateLimit::new()),
        Arc::new(PropagateEmptyRelation::new()),
        Arc::new(PushDownLimit::new()),
        Arc::new(PushDownFilter::new()),
        Arc::new(CommonSubexprEliminate::new()),
        Arc::new(OptimizeProjections::new()),
    ]
}

/// DataFusion's physical rules, in its order, less those for what these plans never have: an order that is required,
/// windows, conditions (logical rules have pushed what can be pushed, and [`Planning::to_run`] adds those of a run),
/// buffers. `benches/planning.rs` prints what each would cost.
fn datalog_physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    vec![
        Arc::new(AggregateStatistics::new()),
        Arc::new(JoinSelection::new()),
        Arc::new(LimitedDistinctAggregation::new()),
        Arc::new(EnsureRequirements::new()),
        Arc::new(CombinePartialFinalAggregate::new()),
        Arc::new(LimitPushdown::new()),
        Arc::new(ProjectionPushdown::new()),
        Arc::new(EnsureCooperative::new()),
        Arc::new(SanityCheckPlan::new()),
        Arc::new(CooperativeJoins),
    ]
}

/// Plans one SQL statement, version clauses included.
///
/// `is_database` tells, for a schema named without basis, whether it is an attached database; only those
/// have versions.
///
/// # Errors
///
/// [`DataFusionError::External`] around this crate's error if the statement is not allowed or a version
/// clause would not be honoured, and DataFusion's own errors of planning.
pub(crate) async fn plan_sql(
    context: &SessionContext,
    sql: &str,
    statements: Statements,
    is_database: &(dyn Fn(&str) -> bool + Sync),
) -> Result<DataFrame> {
    let state = context.state();
    let statement = {
        let catalog = &state.config_options().catalog;
        let names = Names {
            is_database: &|schema| is_database(schema),
            catalog: &catalog.default_catalog,
            schema: &catalog.default_schema,
        };
        time_travel::parse(sql, &names, statements)
            .map_err(|error| DataFusionError::External(Box::new(error)))?
    };
    let plan = state.statement_to_plan(statement).await?;
    if Optimizations::of(state.config_options()).samples {
        learn(&plan).await?;
    }
    context.execute_logical_plan(plan).await
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, RecordBatch};
    use datafusion::arrow::util::display::array_value_to_string;
    use datafusion::catalog::memory::MemorySchemaProvider;
    use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, SchemaProvider};
    use datafusion::datasource::MemTable;

    use super::*;

    /// `sales.t(id, v)` with v = 100 now and v = t at the basis t, and a foreign `files.t`.
    fn context() -> SessionContext {
        let context = SessionContext::new_with_state(
            session_builder(session_config(&Optimizations::default())).build(),
        );
        let catalog = MemoryCatalogProvider::new();
        for (schema, v) in [
            ("sales", 100),
            ("sales@t=1", 1),
            ("sales@t=2", 2),
            ("files", 0),
        ] {
            let tables = MemorySchemaProvider::new();
            let columns = [
                ("id", Int64Array::from(vec![7])),
                ("v", Int64Array::from(vec![v])),
            ];
            let batch = RecordBatch::try_from_iter(
                columns.map(|(name, column)| (name, Arc::new(column) as _)),
            )
            .unwrap();
            let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
            tables.register_table("t".into(), Arc::new(table)).unwrap();
            catalog.register_schema(schema, Arc::new(tables)).unwrap();
        }
        context.register_catalog("datafusion", Arc::new(catalog));
        context
    }

    async fn answer(sql: &str) -> Result<String> {
        let reads = Statements::ReadOnly;
        let frame = plan_sql(&context(), sql, reads, &|schema| schema == "sales").await?;
        let mut rows = Vec::new();
        for batch in frame.collect().await? {
            for row in 0..batch.num_rows() {
                let cells = batch
                    .columns()
                    .iter()
                    .map(|c| array_value_to_string(c, row).unwrap());
                rows.push(cells.collect::<Vec<_>>().join(" "));
            }
        }
        Ok(rows.join(", "))
    }

    #[tokio::test]
    async fn one_statement_reads_many_versions() {
        for (sql, expected) in [
            ("SELECT v FROM sales.t VERSION AS OF 1", "1"),
            (
                "SELECT now.v, one.v, two.v FROM sales.t now \
                 JOIN sales.t VERSION AS OF 1 AS one ON now.id = one.id \
                 JOIN sales.t VERSION AS OF 2 two ON now.id = two.id",
                "100 1 2",
            ),
            (
                "SELECT sales.t.v, t.v + 0, T.V * 1 FROM sales.t VERSION AS OF 1 WHERE sales.t.id = 7",
                "1 1 1",
            ),
            (
                "SELECT sales.t.* FROM sales.t VERSION AS OF 2 ORDER BY sales.t.v",
                "7 2",
            ),
            (
                "SELECT datafusion.sales.t.v FROM datafusion.sales.t VERSION AS OF 2",
                "2",
            ),
            (
                "SELECT * FROM sales.t VERSION AS OF 1, sales.t VERSION AS OF 2",
                "7 1 7 2",
            ),
            (
                "SELECT sum(v) FROM (SELECT v FROM sales.t VERSION AS OF 1 \
                 UNION ALL SELECT v FROM sales.t VERSION AS OF 2 UNION ALL SELECT v FROM sales.t)",
                "103",
            ),
            (
                "WITH old AS (SELECT * FROM sales.t VERSION AS OF 1) \
                 SELECT old.v, (SELECT max(v) FROM sales.t VERSION AS OF 2) FROM old \
                 WHERE EXISTS (SELECT 1 FROM sales.t VERSION AS OF 1 WHERE t.id = old.id)",
                "1 2",
            ),
            ("SELECT count(*) FROM \"sales@t=1\".t, files.t", "1"),
        ] {
            match answer(sql).await {
                Ok(got) => assert_eq!(got, expected, "{sql}"),
                Err(error) => panic!("{sql}: {error}"),
            }
        }
    }

    #[tokio::test]
    async fn what_is_not_honoured_fails() {
        for sql in [
            "SELECT v FROM files.t VERSION AS OF 1",
            "SELECT v FROM sales.t VERSION AS OF 3",
            "SELECT t.v FROM sales.t VERSION AS OF 1, sales.t VERSION AS OF 2",
            "CREATE TABLE x AS SELECT 1",
            "SELECT 9223372036854775807 + 1",
        ] {
            assert!(answer(sql).await.is_err(), "{sql}: {:?}", answer(sql).await);
        }
    }

    #[tokio::test]
    async fn the_session_has_what_it_promises() {
        assert_eq!(
            answer("SELECT arrow_typeof('a'::varchar), 'x' || 1, 'Ab' ILIKE 'aB'")
                .await
                .unwrap(),
            "Utf8View x1 true"
        );
        let tables = "SELECT count(*) FROM information_schema.tables WHERE table_name = 't'";
        assert_eq!(answer(tables).await.unwrap(), "4");
        let plan = answer("EXPLAIN SELECT count(*) FROM sales.t a, sales.t b WHERE a.v < b.v");
        assert!(plan.await.unwrap().contains("CooperativeExec"));
        assert!(answer("SHOW TABLES").await.is_ok());
        assert!(answer("DESCRIBE sales.t").await.is_ok());
    }
}
