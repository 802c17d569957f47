//! The operator that reads ranges of an index into record batches.

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Statistics, stats::Precision};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, ExecutionPlan, PlanProperties,
};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Partitioning, ReplaceChildrenOptions,
};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::columns::{Column, Columns};
use crate::db::Db;
use crate::index::{Index, Range};
use crate::provider::error::into_datafusion;
use crate::provider::measured::Measured;

/// Reads the datoms of some ranges: each partition its own, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct DatomScanExec {
    db: Db,
    index: Index,
    partitions: Arc<[Vec<Range>]>,
    columns: Arc<[Column]>,
    /// Rows of all partitions, where the trees counted them.
    rows: Option<u64>,
    fetch: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl DatomScanExec {
    pub(super) fn new(
        db: Db,
        index: Index,
        mut partitions: Vec<Vec<Range>>,
        columns: Vec<Column>,
        schema: SchemaRef,
        rows: Option<u64>,
        fetch: Option<usize>,
    ) -> Self {
        if partitions.is_empty() {
            partitions.push(Vec::new());
        }
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            db,
            index,
            partitions: partitions.into(),
            columns: columns.into(),
            rows,
            fetch,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for DatomScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges: usize = self.partitions.iter().map(Vec::len).sum();
        write!(
            f,
            "DatomScanExec: t={}, index={:?}, ranges={ranges}",
            self.db.basis_t(),
            self.index
        )?;
        if self.db.is_history() {
            write!(f, ", history")?;
        }
        if let Some(rows) = self.rows {
            write!(f, ", rows={rows}")?;
        }
        if let Some(fetch) = self.fetch {
            write!(f, ", fetch={fetch}")?;
        }
        write!(f, ", columns={:?}", self.columns)
    }
}

impl ExecutionPlan for DatomScanExec {
    fn name(&self) -> &'static str {
        "DatomScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Arc::new(Self {
            metrics,
            ..Self::clone(&self)
        }))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let schema = Arc::clone(self.properties.equivalence_properties().schema());
        let columns = Arc::new(Columns::new(
            &[&self.db],
            &self.columns,
            Arc::clone(&schema),
        ));
        let (db, index) = (self.db.clone(), self.index);
        let batch_rows = context.session_config().batch_size();
        let ranges: Vec<Range> = self.partitions[partition].clone();
        let slices = stream::iter(ranges)
            .map(move |range| db.scan(index, range))
            .flatten()
            .map_err(into_datafusion);
        let loader = Arc::clone(self.db.loader());
        let batches = slices
            .and_then(move |slice| {
                let (columns, loader) = (Arc::clone(&columns), Arc::clone(&loader));
                async move {
                    if columns.need_bodies() {
                        let resolved = loader.resolve(&slice.leaf, slice.rows.clone());
                        resolved.await.map_err(into_datafusion)?;
                    }
                    let starts = slice.rows.clone().step_by(batch_rows);
                    let batches: Vec<Result<RecordBatch>> = starts
                        .map(|start| {
                            let end = slice.rows.end.min(start + batch_rows);
                            columns.batch(&slice.leaf, start..end)
                        })
                        .collect();
                    Ok(stream::iter(batches))
                }
            })
            .try_flatten();
        let batches = limited(batches.boxed(), self.fetch);
        let db = self.db.clone();
        let expected = self.rows.and_then(|rows| usize::try_from(rows).ok());
        let measured = Measured::new(batches, schema, db, &self.metrics, partition, expected);
        Ok(Box::pin(measured))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        if let (Some(rows), None) = (self.rows, args.partition()) {
            let rows = usize::try_from(rows).unwrap_or(usize::MAX);
            statistics.num_rows =
                Precision::Exact(self.fetch.map_or(rows, |fetch| fetch.min(rows)));
        }
        Ok(Arc::new(statistics))
    }

    fn with_fetch(&self, fetch: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        // Each partition would stop there by itself, and together they would not.
        (self.partitions.len() == 1 || fetch.is_none()).then(|| {
            Arc::new(Self {
                fetch,
                ..self.clone()
            }) as Arc<dyn ExecutionPlan>
        })
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }
}

/// Ends a stream after a number of rows, without asking for what lies behind.
fn limited(
    batches: BoxStream<'static, Result<RecordBatch>>,
    fetch: Option<usize>,
) -> BoxStream<'static, Result<RecordBatch>> {
    let Some(fetch) = fetch else { return batches };
    let limited = stream::try_unfold((batches, fetch), |(mut batches, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let Some(batch) = batches.try_next().await? else {
            return Ok(None);
        };
        let kept = batch.num_rows().min(left);
        Ok(Some((batch.slice(0, kept), (batches, left - kept))))
    });
    limited.boxed()
}
