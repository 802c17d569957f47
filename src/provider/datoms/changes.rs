//! The differences of two values as rows.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::stream::{StreamExt, TryStreamExt};

use super::columns::{Column, Columns, schema_of};
use crate::datom::{Datom, TxId};
use crate::db::{Change, Db};
use crate::node::Leaf;
use crate::provider::error::into_datafusion;

/// What must be said to turn one value into another, as the columns of `datoms` without `tx`.
#[derive(Debug)]
pub(crate) struct Changes {
    from: Db,
    to: Db,
    schema: SchemaRef,
}

impl Changes {
    pub(crate) fn new(from: Db, to: Db, schema: SchemaRef) -> Self {
        Self { from, to, schema }
    }

    /// The columns of differences of databases.
    pub(crate) fn schema(of: [&Db; 2]) -> SchemaRef {
        schema_of(&of, &columns())
    }
}

fn columns() -> Vec<Column> {
    let all = Column::ALL.into_iter();
    all.filter(|column| *column != Column::Tx).collect()
}

impl PartitionStream for Changes {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        // An attribute that is gone is called as it was.
        let columns = Columns::new(
            &[&self.to, &self.from],
            &columns(),
            Arc::clone(&self.schema),
        );
        let batch_rows = context.session_config().batch_size();
        let batches = futures::stream::once(std::future::ready(self.from.diff(&self.to)))
            .try_flatten()
            .try_chunks(batch_rows)
            .map(move |changes| {
                let changes = changes.map_err(|error| into_datafusion(error.1))?;
                let datoms: Vec<Datom> = changes.into_iter().map(datom).collect();
                columns.batch(&Leaf::from_datoms(&datoms), 0..datoms.len())
            });
        Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            batches,
        ))
    }
}

/// A change as a datom of no transaction in particular.
fn datom(change: Change) -> Datom {
    Datom {
        e: change.e,
        a: change.a,
        v: change.v,
        tx: TxId::from_t(0),
        added: change.added,
    }
}
