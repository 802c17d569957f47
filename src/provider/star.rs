//! The scan of an entity table: one operator that reads several attributes and answers whole rows.
//!
//! ```text
//! AEVT   …│ :person/age   (e, v) │ :person/email (e, v) │ :person/name  (e, v) │…
//!             ╲                      │                     ╱
//!              ╲_____ db_id _________│____________________╱
//!                       │ age │ email │ name
//! ```
//!
//! The values of an attribute lie together, sorted by entity. Leaves of all attributes of a namespace end at
//! the same entities, so that putting rows together is mostly comparing two equal arrays and sharing the
//! memory of the values. What is a row is told by a [`Driver`]; [`run`] lines values up with rows, [`reader`]
//! filters and puts batches together.
//!
//! **Invariant.** Within a partition rows ascend by `db_id`, except where a member table is read by value.
//! Partitions hold disjoint ranges of entities, in order.

mod reader;
pub(super) mod run;
mod run_time;

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, Statistics, stats::Precision};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, Partitioning};
use futures::stream::{self, BoxStream, StreamExt};

use self::reader::Reader;
use self::run::Span;
use self::run_time::RunTime;
use super::measured::Measured;
use crate::db::Db;
use crate::index::Range;
use crate::schema::Attribute;

/// What a scan reads, decided when it was planned.
///
/// Columns are numbered by *slots*: 0 is `db_id`, `i + 1` is run `i`.
#[derive(Clone, Debug)]
pub(super) struct StarSpec {
    pub(super) db: Db,
    /// The table, for people.
    pub(super) table: String,
    /// The attributes that are read.
    pub(super) runs: Vec<Arc<Attribute>>,
    /// The Arrow type of each slot.
    pub(super) types: Vec<DataType>,
    /// What tells which entities are rows.
    pub(super) driver: Driver,
    /// All attributes of the table, ascending.
    pub(super) members: Arc<[i64]>,
    /// Applied in this order.
    pub(super) predicates: Vec<Predicate>,
    /// Filters that become known while the plan runs, and only spare reading.
    pub(super) run_time: Vec<Predicate>,
    /// Rows that the driver goes through, before filters, if that is known.
    pub(super) driven: Option<u64>,
    /// One look-up costs about as much as scanning so many rows.
    pub(super) lookup_rows: u64,
    /// The slots of the result.
    pub(super) projection: Vec<usize>,
    /// The schema of the result.
    pub(super) schema: SchemaRef,
    /// Entities of each partition.
    pub(super) spans: Vec<Span>,
    /// Rows wanted of each partition.
    pub(super) fetch: Option<usize>,
    /// Whether rows ascend by `db_id`.
    pub(super) ordered: bool,
    /// Rows of the result before `fetch` cuts them off.
    pub(super) rows: Precision<usize>,
    /// By slot.
    pub(super) columns: Vec<ColumnStatistics>,
}

/// What tells which entities are rows.
#[derive(Clone, Debug)]
pub(super) enum Driver {
    /// The entities of this run: every row has the attribute, or a filter demands it.
    Run(usize),
    /// The facts of the only run, read by entity or by value.
    Facts(Option<Arc<[Range]>>),
    /// The entities of any run.
    Union,
    /// Entities that were named; those without an attribute of the table are no rows if looked up one by one.
    Ids {
        /// Ascending.
        ids: Arc<[i64]>,
        /// Look each up in EAVT rather than scan AEVT.
        one_by_one: bool,
    },
    /// Entities that AVET answers.
    Index {
        /// The attribute that is asked.
        attribute: Arc<Attribute>,
        /// What is asked.
        ranges: Arc<[Range]>,
        /// Look each up in EAVT rather than scan AEVT.
        one_by_one: bool,
    },
}

/// A filter, and the columns it speaks of.
#[derive(Clone, Debug)]
pub(super) struct Predicate {
    /// Over [`Predicate::schema`].
    pub(super) expr: Arc<dyn PhysicalExpr>,
    pub(super) slots: Vec<usize>,
    pub(super) schema: SchemaRef,
}

/// Scans an entity table or a member table.
#[derive(Clone, Debug)]
pub(crate) struct StarScanExec {
    spec: Arc<StarSpec>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl StarScanExec {
    pub(super) fn new(spec: StarSpec) -> Self {
        let schema = Arc::clone(&spec.schema);
        let entity = spec.projection.iter().position(|slot| *slot == 0);
        let order = entity.filter(|_| spec.ordered).map(|at| {
            [PhysicalSortExpr::new_default(Arc::new(Column::new(
                schema.field(at).name(),
                at,
            )))]
        });
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(schema, order),
            Partitioning::UnknownPartitioning(spec.spans.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            spec: Arc::new(spec),
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for StarScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spec = &self.spec;
        write!(f, "StarScanExec: table={}, attributes=[", spec.table)?;
        for (at, attribute) in spec.runs.iter().enumerate() {
            write!(f, "{}{}", if at == 0 { "" } else { ", " }, attribute.ident)?;
        }
        write!(f, "], rows=")?;
        match &spec.driver {
            Driver::Run(run) => write!(f, "{}", spec.runs[*run].ident)?,
            Driver::Facts(None) => f.write_str("facts")?,
            Driver::Facts(Some(ranges)) => write!(f, "facts by value ({})", ranges.len())?,
            Driver::Union => f.write_str("union")?,
            Driver::Ids { ids, .. } => write!(f, "db_id ({})", ids.len())?,
            Driver::Index {
                attribute, ranges, ..
            } => {
                write!(f, "index of {} ({})", attribute.ident, ranges.len())?;
            }
        }
        if let [Span { first, last }] = spec.spans[..]
            && spec.spans[0] != Span::ALL
        {
            write!(f, ", db_id=[{first}, {last}]")?;
        }
        if !spec.predicates.is_empty() {
            write!(f, ", filters=[")?;
            for (at, predicate) in spec.predicates.iter().enumerate() {
                write!(f, "{}{}", if at == 0 { "" } else { ", " }, predicate.expr)?;
            }
            write!(f, "]")?;
        }
        if !spec.run_time.is_empty() {
            write!(f, ", run_time=[")?;
            let columns = spec
                .run_time
                .iter()
                .flat_map(|filter| filter.schema.fields());
            for (at, column) in columns.enumerate() {
                write!(f, "{}{}", if at == 0 { "" } else { ", " }, column.name())?;
            }
            write!(f, "]")?;
        }
        if let Some(fetch) = spec.fetch {
            write!(f, ", fetch={fetch}")?;
        }
        if spec.spans.len() > 1 {
            write!(f, ", partitions={}", spec.spans.len())?;
        }
        Ok(())
    }
}

impl ExecutionPlan for StarScanExec {
    fn name(&self) -> &'static str {
        "StarScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for predicate in self.spec.predicates.iter().chain(&self.spec.run_time) {
            if f(&predicate.expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    /// Forgets run-time filters, too: an operator that is reset makes new ones, which nobody pushes down again,
    /// and the old ones speak of what it read before.
    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        let mut fresh = Self {
            metrics: ExecutionPlanMetricsSet::new(),
            ..Self::clone(&self)
        };
        if !fresh.spec.run_time.is_empty() {
            Arc::make_mut(&mut fresh.spec).run_time.clear();
        }
        Ok(Arc::new(fresh))
    }

    /// Takes in run-time filters; what the plan says by itself has been pushed down when it was logical.
    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        offered: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let mut run_time = self.spec.run_time.clone();
        let taken = offered.parent_filters.iter().map(|offer| {
            let filter = matches!(phase, FilterPushdownPhase::Post)
                .then(|| self.spec.run_time_filter(&offer.filter))
                .flatten();
            let answer = filter.as_ref().map_or(PushedDown::No, |_| PushedDown::Yes);
            run_time.extend(filter);
            answer
        });
        let answers = FilterPushdownPropagation::with_parent_pushdown_result(taken.collect());
        Ok(if run_time.len() == self.spec.run_time.len() {
            answers
        } else {
            answers.with_updated_node(Arc::new(Self::new(StarSpec {
                run_time,
                rows: self.spec.rows.to_inexact(),
                ..StarSpec::clone(&self.spec)
            })))
        })
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let spec = &self.spec;
        if args.partition().is_some() && spec.spans.len() > 1 {
            return Ok(Arc::new(Statistics::new_unknown(&spec.schema)));
        }
        let columns = spec
            .projection
            .iter()
            .map(|slot| spec.columns[*slot].clone());
        let all = Statistics {
            num_rows: spec.rows,
            total_byte_size: Precision::Absent,
            column_statistics: columns.collect(),
        };
        Ok(Arc::new(match spec.fetch {
            None => all,
            Some(fetch) => Statistics {
                num_rows: spec.rows.min(&Precision::Exact(fetch)).to_inexact(),
                ..Statistics::new_unknown(&spec.schema)
            },
        }))
    }

    fn supports_limit_pushdown(&self) -> bool {
        false
    }

    /// Rows are counted before whoever made a run-time filter sees them, so there can be none beside a limit.
    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(Self::new(StarSpec {
            fetch: limit,
            run_time: Vec::new(),
            ..StarSpec::clone(&self.spec)
        })))
    }

    fn fetch(&self) -> Option<usize> {
        self.spec.fetch
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let batch_rows = context.session_config().batch_size().max(1);
        let spec = &self.spec;
        // Nothing is read to answer rows without columns that are known to be so many.
        let known = match spec.rows {
            Precision::Exact(rows) if spec.projection.is_empty() && spec.spans.len() == 1 => {
                Some(rows)
            }
            _ => None,
        };
        let batches = if let Some(rows) = known {
            counted(spec, rows.min(spec.fetch.unwrap_or(rows)), batch_rows)
        } else {
            let run_time = RunTime::new(spec, &self.metrics, partition);
            let reader = Reader::new(spec, spec.spans[partition], batch_rows, run_time);
            stream::try_unfold(reader, |mut reader| async move {
                Ok(reader.next().await?.map(|batch| (batch, reader)))
            })
            .boxed()
        };
        let (schema, db) = (Arc::clone(&spec.schema), spec.db.clone());
        Ok(Box::pin(Measured::new(
            batches,
            schema,
            db,
            &self.metrics,
            partition,
            spec.rows.get_value().copied(),
        )))
    }
}

/// So many rows without columns.
fn counted(
    spec: &StarSpec,
    rows: usize,
    batch_rows: usize,
) -> BoxStream<'static, Result<RecordBatch>> {
    let schema = Arc::clone(&spec.schema);
    stream::iter((0..rows).step_by(batch_rows))
        .map(move |at| {
            let rows = Some(batch_rows.min(rows - at));
            let options = arrow_array::RecordBatchOptions::new().with_row_count(rows);
            let batch =
                RecordBatch::try_new_with_options(Arc::clone(&schema), Vec::new(), &options);
            Ok(batch?)
        })
        .boxed()
}
