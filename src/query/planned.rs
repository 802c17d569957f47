//! Plans that are known: a question whose answer is too large to be kept is at least not planned again.
//!
//! A question decides its plan as it decides its answer (see [`cached`](super::cached)): counts and samples are of
//! the values that it is asked of. So what may change is not kept here either, and nothing goes stale.
//!
//! **Invariant.** A plan that is kept is never run. What runs is a fresh copy, so that runs at the same time share
//! nothing that changes, and none leaves rows, hash tables or metrics behind.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::ExecutionPlan;
use datomfusion_datalog::ast::Query;
use datomfusion_datalog::{Answer, fresh};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use super::cached::Question;
use super::stages::Stages;
use super::{Inputs, from_plan};
use crate::catalog::session::DatalogSession;
use crate::error::Result;

/// Plans that are kept at most. Each holds on to the values that it reads, so they are few.
const PLANS_MAX: usize = 64;

/// Bytes of all plans that are kept, by the estimate of [`Weight`]; an eighth of it for one.
const BYTES_MAX: u64 = 16 << 20;

/// What an operator takes, its schema, expressions and statistics included, and what its plan takes before it has
/// any. Rounded up from what `benches/planning.rs` counts.
const OPERATOR_BYTES: u64 = 4 << 10;

/// A query with its physical plan.
pub(super) struct Planned {
    pub(super) stages: Stages,
    physical: Arc<dyn ExecutionPlan>,
}

impl Planned {
    /// Goes through all stages but the last two.
    pub(super) async fn of(
        session: &Arc<DatalogSession>,
        query: &Arc<Query>,
        inputs: &Inputs,
        depth: usize,
    ) -> Result<Self> {
        let stages = Stages::of(session, query, inputs, depth).await?;
        let physical = stages.physical().await?;
        Ok(Self { stages, physical })
    }

    /// Whether every run answers the same, so that the plan may be run again.
    pub(super) fn is_deterministic(&self) -> bool {
        self.stages.bound.is_deterministic
    }

    /// Runs a copy of the plan.
    pub(super) async fn answer(&self) -> Result<Answer> {
        let copy = fresh(&self.physical).map_err(from_plan)?;
        let batches = self.stages.execute(copy).await?;
        self.stages.answer(&batches).await
    }

    fn operators(&self) -> u64 {
        let mut count = 0;
        let counted = self.physical.apply(|_| {
            count += 1;
            Ok(TreeNodeRecursion::Continue)
        });
        debug_assert!(counted.is_ok(), "counting does not fail");
        count
    }
}

/// Plans that are known.
#[derive(Debug)]
pub(crate) struct Plans(Cache<Question, Arc<Planned>, Weight>);

#[derive(Clone, Debug)]
struct Weight;

impl Weighter<Question, Arc<Planned>> for Weight {
    /// Bounds the number, too. The arguments are in the question, in the bound query and in both plans.
    fn weight(&self, question: &Question, planned: &Arc<Planned>) -> u64 {
        let bytes = 4 * question.bytes() as u64 + (planned.operators() + 1) * OPERATOR_BYTES;
        bytes.max(BYTES_MAX / PLANS_MAX as u64)
    }
}

impl Default for Plans {
    fn default() -> Self {
        // One shard: the bound is of all plans together, and they are few.
        let options = OptionsBuilder::new()
            .shards(1)
            .estimated_items_capacity(PLANS_MAX)
            .weight_capacity(BYTES_MAX)
            .build()
            .expect("both capacities are given");
        let hashes = DefaultHashBuilder::default();
        let lifecycle = DefaultLifecycle::default();
        Self(Cache::with_options(options, Weight, hashes, lifecycle))
    }
}

impl Plans {
    pub(super) fn get(&self, question: &Question) -> Option<Arc<Planned>> {
        self.0.get(question)
    }

    pub(super) fn keep(&self, question: Question, planned: Planned) {
        let planned = Arc::new(planned);
        if Weight.weight(&question, &planned) <= BYTES_MAX / 8 {
            self.0.insert(question, planned);
        }
    }
}

impl std::fmt::Debug for Planned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planned")
            .field("query", &self.stages.bound.query.text)
            .finish_non_exhaustive()
    }
}
