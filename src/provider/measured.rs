//! What a scan costs, for `EXPLAIN ANALYZE`: nodes read, bytes fetched, hits in memory and on disk, and time; and
//! how many rows were expected.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::RecordBatchStream;
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder,
};
use futures::stream::{BoxStream, Stream};

use crate::db::Db;

/// A partition being read, and what that costs.
pub(super) struct Measured {
    batches: BoxStream<'static, Result<RecordBatch>>,
    schema: SchemaRef,
    db: Db,
    baseline: BaselineMetrics,
    nodes_read: Count,
    bytes_fetched: Count,
    cache_hits: Count,
    disk_hits: Count,
}

impl Measured {
    pub(super) fn new(
        batches: BoxStream<'static, Result<RecordBatch>>,
        schema: SchemaRef,
        db: Db,
        metrics: &ExecutionPlanMetricsSet,
        partition: usize,
        expected: Option<usize>,
    ) -> Self {
        // Of the whole scan, so in one partition.
        if let (Some(rows), 0) = (expected, partition) {
            let gauge = MetricBuilder::new(metrics).gauge("rows_expected", partition);
            gauge.set(rows);
        }
        let counter = |name: &'static str| MetricBuilder::new(metrics).counter(name, partition);
        Self {
            batches,
            schema,
            db,
            baseline: BaselineMetrics::new(metrics, partition),
            nodes_read: counter("nodes_read"),
            bytes_fetched: counter("bytes_fetched"),
            cache_hits: counter("cache_hits"),
            disk_hits: counter("disk_hits"),
        }
    }
}

impl Stream for Measured {
    type Item = Result<RecordBatch>;

    /// Loads are counted for the whole process; those between the begin and the end of a poll are this
    /// scan's, unless other threads read at the same moment.
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let before = this.db.loader().loads();
        let polled = {
            let _timer = this.baseline.elapsed_compute().timer();
            this.batches.as_mut().poll_next(context)
        };
        let after = this.db.loader().loads();
        let less =
            |after: u64, before: u64| usize::try_from(after.saturating_sub(before)).unwrap_or(0);
        this.nodes_read.add(less(after.nodes, before.nodes));
        this.bytes_fetched
            .add(less(after.frame_bytes, before.frame_bytes));
        this.cache_hits.add(less(after.hits, before.hits));
        this.disk_hits.add(less(after.disk_hits, before.disk_hits));
        this.baseline.record_poll(polled)
    }
}

impl RecordBatchStream for Measured {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
