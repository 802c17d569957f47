//! Recursion: rules evaluated until they say nothing new.
//!
//! ```text
//! inputs (plans, planned once) ──┐
//! seeds (what is bound at the call) ─► round 0: rules without recursion
//!                                      round n: each recursive rule, one of its recursive literals
//!                                               reading only the rows that round n-1 added
//!                                      until no row is added ─► the rows of the predicate called
//! ```
//!
//! Semi-naive, for any shape: linear, non-linear, mutual. Terms are interned, so rows are a few integers,
//! a row is seen once by hash, and the indexes that joins use are kept from round to round and grow with
//! their relations. What is bound at the call reaches the rules (see [`compile`]), and facts are looked up
//! in the database's own indexes while few are wanted, so that a bound start costs what it reaches.
//!
//! A relation that only grows along edges is not evaluated in rounds but closed by walks: see [`frontier`].
//!
//! DataFusion's recursive query allows one self-reference, and rebuilds everything each round.

pub(crate) mod compile;
mod engine;
mod exec;
mod frontier;
pub(crate) mod program;
mod relation;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::{DFSchemaRef, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;

pub use self::exec::FixpointExec;
use self::program::Program;

/// Recursive rules as a node of a logical plan.
#[derive(Clone)]
pub struct FixpointNode {
    program: Arc<Program>,
    /// Seeds, if there are any, then the relations that the rules read.
    inputs: Vec<LogicalPlan>,
    schema: DFSchemaRef,
}

impl FixpointNode {
    pub(crate) fn new(program: Program, inputs: Vec<LogicalPlan>, schema: DFSchemaRef) -> Self {
        Self {
            program: Arc::new(program),
            inputs,
            schema,
        }
    }

    pub(crate) fn exec(&self, inputs: Vec<Arc<dyn ExecutionPlan>>) -> FixpointExec {
        FixpointExec::new(
            Arc::clone(&self.program),
            inputs,
            Arc::clone(self.schema.inner()),
        )
    }
}

impl fmt::Debug for FixpointNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fixpoint: {}", self.program)
    }
}

impl PartialEq for FixpointNode {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.program, &other.program) && self.inputs == other.inputs
    }
}

impl Eq for FixpointNode {}

impl Hash for FixpointNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.program).hash(state);
    }
}

impl PartialOrd for FixpointNode {
    fn partial_cmp(&self, _: &Self) -> Option<Ordering> {
        None
    }
}

impl UserDefinedLogicalNodeCore for FixpointNode {
    fn name(&self) -> &'static str {
        "Fixpoint"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        self.inputs.iter().collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fixpoint: {}", self.program)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        Ok(Self {
            inputs,
            ..self.clone()
        })
    }
}
