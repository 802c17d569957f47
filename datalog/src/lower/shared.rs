//! A relation that is computed once and read in several places of one plan, and plans that are run again.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchemaRef, Result, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, ExecutionPlan, PlanProperties,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, Partitioning, ReplaceChildrenOptions,
    execute_stream,
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::OnceCell;

/// The rows, once somebody has computed them, and the memory that they take.
type Cell = Arc<OnceCell<(Vec<RecordBatch>, MemoryReservation)>>;

/// Reads a relation that other places of the plan read too.
#[derive(Clone)]
pub struct SharedNode {
    input: LogicalPlan,
    cell: Cell,
}

impl SharedNode {
    /// Makes a plan shareable: every clone of the result is computed together with the others.
    pub(super) fn share(input: LogicalPlan) -> LogicalPlan {
        LogicalPlan::Extension(Extension {
            node: Arc::new(Self {
                input,
                cell: Cell::default(),
            }),
        })
    }

    /// The operator over the planned input.
    pub(crate) fn exec(&self, input: Arc<dyn ExecutionPlan>) -> SharedExec {
        SharedExec::new(input, Arc::clone(&self.cell))
    }
}

impl fmt::Debug for SharedNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl PartialEq for SharedNode {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.cell, &other.cell) && self.input == other.input
    }
}

impl Eq for SharedNode {}

impl Hash for SharedNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.cell).hash(state);
    }
}

impl PartialOrd for SharedNode {
    fn partial_cmp(&self, _: &Self) -> Option<Ordering> {
        None
    }
}

impl UserDefinedLogicalNodeCore for SharedNode {
    fn name(&self) -> &'static str {
        "Shared"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let Some(input) = inputs.pop() else {
            return internal_err!("a shared relation has an input");
        };
        // A condition without columns passes the barrier that the columns are. It holds in this place only,
        // so this place then computes for itself.
        let narrowed = matches!(
            &input,
            LogicalPlan::Filter(filter) if filter.predicate.column_refs().is_empty()
        );
        let cell = if narrowed {
            Cell::default()
        } else {
            Arc::clone(&self.cell)
        };
        Ok(Self { input, cell })
    }
}

/// A copy of a plan that has not been run: nothing is computed yet, nothing counted, and it shares nothing that
/// changes with the plan or with other copies. So a plan that is never run itself is run by any number at once.
///
/// What each place of a shared relation reads stays one relation within the copy. Costs an allocation or two an
/// operator, and reads nothing.
///
/// **Limit.** A dynamic filter that a scan has taken up would be shared: those are added to the copy, not to the plan.
///
/// # Errors
///
/// `DataFusion`'s, of an operator that cannot be copied.
pub fn fresh(plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let mut cells: Vec<(Cell, Cell)> = Vec::new();
    let copy = Arc::clone(plan).transform_up(|operator| {
        let Some(shared) = operator.downcast_ref::<SharedExec>() else {
            return Ok(Transformed::yes(operator.reset_state()?));
        };
        let known = cells.iter().find(|(old, _)| Arc::ptr_eq(old, &shared.cell));
        let cell = if let Some((_, new)) = known {
            Arc::clone(new)
        } else {
            let new = Cell::default();
            cells.push((Arc::clone(&shared.cell), Arc::clone(&new)));
            new
        };
        let copy = SharedExec {
            input: Arc::clone(&shared.input),
            cell,
            properties: Arc::clone(&shared.properties),
        };
        Ok(Transformed::yes(Arc::new(copy)))
    })?;
    Ok(copy.data)
}

/// The operator: the first to be polled computes, the others wait.
#[derive(Debug)]
pub struct SharedExec {
    input: Arc<dyn ExecutionPlan>,
    cell: Cell,
    properties: Arc<PlanProperties>,
}

impl SharedExec {
    fn new(input: Arc<dyn ExecutionPlan>, cell: Cell) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self {
            input,
            cell,
            properties: Arc::new(properties),
        }
    }
}

impl DisplayAs for SharedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedExec")
    }
}

impl ExecutionPlan for SharedExec {
    fn name(&self) -> &'static str {
        "SharedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else {
            return internal_err!("a shared relation has an input");
        };
        let cell = Arc::clone(&self.cell);
        Ok(Arc::new(match options.children_properties {
            ChildrenPropertiesMode::Keep => Self {
                input,
                cell,
                properties: Arc::clone(&self.properties),
            },
            ChildrenPropertiesMode::Recompute => Self::new(input, cell),
        }))
    }

    /// Alone, an operator cannot know the other places: this one computes for itself. See [`fresh`].
    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self {
            input: Arc::clone(&self.input),
            cell: Cell::default(),
            properties: Arc::clone(&self.properties),
        }))
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema: SchemaRef = self.input.schema();
        let (input, cell) = (Arc::clone(&self.input), Arc::clone(&self.cell));
        let batches = async move {
            let (batches, _) = cell.get_or_try_init(|| compute(input, context)).await?;
            Ok::<_, datafusion::common::DataFusionError>(batches.clone())
        };
        let batches = stream::once(batches)
            .map_ok(|batches| stream::iter(batches.into_iter().map(Ok)))
            .try_flatten()
            .boxed();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

async fn compute(
    input: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
) -> Result<(Vec<RecordBatch>, MemoryReservation)> {
    let reservation = MemoryConsumer::new("SharedExec").register(context.memory_pool());
    let mut stream = execute_stream(input, context)?;
    let mut batches = Vec::new();
    while let Some(batch) = stream.try_next().await? {
        reservation.try_grow(batch.get_array_memory_size())?;
        batches.push(batch);
    }
    Ok((batches, reservation))
}
