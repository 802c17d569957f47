//! Functions that answer tables: `diff('sales@t=3', 'sales')`.
//!
//! | column | type | |
//! |---|---|---|
//! | `e`, `a`, `v`, `v_long`, … | as in `datoms` | the fact |
//! | `added` | BOOLEAN | true if only the second value holds it, false if only the first does |
//!
//! Names are those of schemas: a database that is attached, with a branch and a basis. Rows come in the
//! order of `e`, `a` and `v`.

use std::fmt;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::streaming::StreamingTableExec;

use super::{BranchSchema, DatabaseCatalog};
use crate::error::Error;
use crate::provider::Changes;
use crate::provider::error::into_datafusion;

/// The name of [`Diff`].
pub(crate) const DIFF: &str = "diff";

/// `diff(from, to)`: what must be said to turn one value into another.
#[derive(Debug)]
pub(crate) struct Diff(pub(crate) Arc<DatabaseCatalog>);

impl TableFunctionImpl for Diff {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let [from, to] = args.exprs() else {
            return Err(usage());
        };
        let (from, to) = (self.0.value(text(from)?)?, self.0.value(text(to)?)?);
        // Values are opened when they are read; until then, what is attached tells the columns.
        let schema = Changes::schema([from.origin_db(), to.origin_db()]);
        Ok(Arc::new(DiffTable { from, to, schema }))
    }
}

fn usage() -> datafusion::error::DataFusionError {
    into_datafusion(Error::invalid(
        "diff takes two names of databases as texts: diff('sales@t=3', 'sales')",
    ))
}

fn text(argument: &Expr) -> Result<&str> {
    match argument {
        Expr::Literal(
            ScalarValue::Utf8(Some(text))
            | ScalarValue::Utf8View(Some(text))
            | ScalarValue::LargeUtf8(Some(text)),
            _,
        ) => Ok(text),
        _ => Err(usage()),
    }
}

/// The facts that only one of two values holds.
struct DiffTable {
    from: Arc<BranchSchema>,
    to: Arc<BranchSchema>,
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for DiffTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let from = self.from.db().await.map_err(into_datafusion)?;
        let to = self.to.db().await.map_err(into_datafusion)?;
        let changes = Changes::new(from.clone(), to.clone(), self.schema());
        Ok(Arc::new(StreamingTableExec::try_new(
            self.schema(),
            vec![Arc::new(changes)],
            projection,
            None,
            false,
            limit,
        )?))
    }
}

impl fmt::Debug for DiffTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiffTable")
            .field("from", &self.from)
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}
