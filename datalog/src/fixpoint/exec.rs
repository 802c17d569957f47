//! The operator: loads what rules read when they first read it, runs them, and hands out the answer.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions,
};
use datafusion::arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, ExecutionPlan, PlanProperties,
};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Partitioning, ReplaceChildrenOptions, execute_stream,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::engine::{Engine, Inputs};
use super::program::Program;
use super::relation::{Interner, Rows};
use crate::Optimizations;
use crate::column::{ColumnType, Reader, Repr, Writer};
use crate::term::Term;

/// Runs recursive rules.
pub struct FixpointExec {
    program: Arc<Program>,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl FixpointExec {
    pub(super) fn new(
        program: Arc<Program>,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
        schema: SchemaRef,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self {
            program,
            inputs,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl FixpointExec {
    /// The same rules over other inputs.
    fn over(&self, inputs: Vec<Arc<dyn ExecutionPlan>>) -> Self {
        Self {
            program: Arc::clone(&self.program),
            inputs,
            properties: Arc::clone(&self.properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl fmt::Debug for FixpointExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FixpointExec: {}", self.program)
    }
}

impl DisplayAs for FixpointExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FixpointExec: {}", self.program)
    }
}

impl ExecutionPlan for FixpointExec {
    fn name(&self) -> &'static str {
        "FixpointExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.inputs.len()]
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
        Ok(Arc::new(self.over(children)))
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(self.over(children)))
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(self.over(self.inputs.clone())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.schema();
        let program = Arc::clone(&self.program);
        let plans = self.inputs.clone();
        let answer_schema = Arc::clone(&schema);
        let metrics = self.metrics.clone();
        let batches = async move {
            let batches = evaluate(&program, plans, context, &answer_schema, &metrics).await?;
            Ok::<_, datafusion::common::DataFusionError>(stream::iter(batches.into_iter().map(Ok)))
        };
        let batches = stream::once(batches).try_flatten().boxed();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

async fn evaluate(
    program: &Program,
    plans: Vec<Arc<dyn ExecutionPlan>>,
    context: Arc<TaskContext>,
    schema: &SchemaRef,
    metrics: &ExecutionPlanMetricsSet,
) -> Result<Vec<RecordBatch>> {
    let batch_rows = context.session_config().batch_size();
    let reservation = MemoryConsumer::new("FixpointExec").register(context.memory_pool());
    let mut plans = plans.into_iter();
    let seeds = match &program.seeds {
        Some(seeds) => match plans.next() {
            Some(plan) => Some((seeds, plan)),
            None => return internal_err!("a fixpoint lacks its seeds"),
        },
        None => None,
    };
    let inputs = Plans {
        plans: plans.collect(),
        columns: program
            .inputs
            .iter()
            .map(|input| input.columns.clone())
            .collect(),
        context: Arc::clone(&context),
        reservation,
    };
    let optimizations = Optimizations::of(context.session_config().options());
    let mut engine = Engine::new(program, inputs, &optimizations);
    if let Some((seeds, plan)) = seeds
        && let Some(relation) = seeds.relation
    {
        let mut rows = Rows::new(seeds.columns.len());
        read(
            plan,
            &seeds.columns,
            context,
            &mut engine.interner,
            &mut rows,
        )
        .await?;
        for number in 0..rows.len() {
            let row = rows.row(number);
            let kept: Vec<u32> = seeds.places.iter().map(|&place| row[place]).collect();
            engine.derived[relation].insert(&kept.repeat(seeds.copies));
        }
    }
    let rounds = engine.run().await?;
    let answer = &engine.derived[program.answer];
    let (look_ups, facts_read) = engine.read();
    for (name, count) in [
        ("rounds", usize::try_from(rounds).unwrap_or(usize::MAX)),
        ("rows_derived", engine.derived.iter().map(Rows::len).sum()),
        ("look_ups", look_ups),
        ("facts_read", facts_read),
    ] {
        MetricBuilder::new(metrics).counter(name, 0).add(count);
    }
    MetricBuilder::new(metrics).output_rows(0).add(answer.len());
    // Worth it where most terms are in the answer.
    let longs = (answer.len() >= engine.interner.len())
        .then(|| engine.interner.longs())
        .flatten();
    let mut batches = Vec::new();
    let mut from = 0;
    while from < answer.len() {
        let to = answer.len().min(from + batch_rows);
        let mut arrays = Vec::with_capacity(program.columns.len());
        for (at, column) in program.columns.iter().enumerate() {
            let numbers = (from..to).map(|number| answer.row(number)[at]);
            arrays.push(match &longs {
                Some(longs) if column.repr() == Repr::Int64 => {
                    let values = numbers.map(|number| longs[number as usize]);
                    Arc::new(Int64Array::from_iter_values(values))
                }
                _ => {
                    let terms = numbers.map(|number| engine.interner.term(number));
                    column_of(column.repr(), terms)?
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(to - from));
        batches.push(RecordBatch::try_new_with_options(
            Arc::clone(schema),
            arrays,
            &options,
        )?);
        from = to;
    }
    Ok(batches)
}

/// Terms as an array.
fn column_of<'t>(
    repr: Repr,
    terms: impl ExactSizeIterator<Item = &'t Term> + Clone,
) -> Result<ArrayRef> {
    if repr == Repr::Int64 {
        let longs = terms.clone().map(|term| match term {
            Term::Long(long) => Some(*long),
            _ => None,
        });
        if let Some(longs) = longs.collect::<Option<Vec<i64>>>() {
            return Ok(Arc::new(Int64Array::from(longs)));
        }
    }
    let mut writer = Writer::new(repr, terms.len());
    for term in terms {
        writer.push(term)?;
    }
    Ok(writer.finish())
}

/// The inputs as plans.
struct Plans {
    plans: Vec<Arc<dyn ExecutionPlan>>,
    columns: Vec<Vec<ColumnType>>,
    context: Arc<TaskContext>,
    reservation: MemoryReservation,
}

#[async_trait]
impl Inputs for Plans {
    async fn load(&mut self, input: usize, interner: &mut Interner, rows: &mut Rows) -> Result<()> {
        let plan = Arc::clone(&self.plans[input]);
        let context = Arc::clone(&self.context);
        read(plan, &self.columns[input], context, interner, rows).await
    }

    fn account(&mut self, bytes: usize) -> Result<()> {
        self.reservation.try_resize(bytes)
    }
}

/// Runs a plan and interns its rows.
async fn read(
    plan: Arc<dyn ExecutionPlan>,
    columns: &[ColumnType],
    context: Arc<TaskContext>,
    interner: &mut Interner,
    rows: &mut Rows,
) -> Result<()> {
    let mut batches = execute_stream(plan, context)?;
    let mut row = vec![0; columns.len()];
    while let Some(batch) = batches.try_next().await? {
        let mut numbers: Vec<Vec<u32>> = Vec::with_capacity(columns.len());
        for (array, column) in batch.columns().iter().zip(columns) {
            let mut own = Vec::with_capacity(batch.num_rows());
            if column.repr() == Repr::Int64 && array.null_count() == 0 {
                let longs = array.as_primitive::<Int64Type>().values();
                own.extend(longs.iter().map(|long| interner.long(*long)));
            } else {
                let reader = Reader::new(column.repr(), array)?;
                for number in 0..batch.num_rows() {
                    own.push(interner.intern(&reader.term(number)?));
                }
            }
            numbers.push(own);
        }
        for number in 0..batch.num_rows() {
            for (to, column) in row.iter_mut().zip(&numbers) {
                *to = column[number];
            }
            rows.insert(&row);
        }
    }
    Ok(())
}
