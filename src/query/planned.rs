//! Plans that are known: a question whose answer is too large to be kept is at least not planned again.
//!
//! A question decides its plan as it decides its answer (see [`cached`](super::cached)): counts and samples are of
//! the values that it is asked of. So what may change is not kept here either, and nothing goes stale.
//!
//! **Invariant.** A plan that is kept is never run. What runs is a fresh copy, so that runs at the same time share
//! nothing that changes, and none leaves rows, hash tables or metrics behind.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;
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
/// any. Chosen, and low: `benches/planning.rs` counts 15 to 38 KiB for plans of a few operators.
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
        let mut stages = Stages::of(session, query, inputs, depth).await?;
        let physical = stages.plan().await?;
        // Nothing asks for it again, and it holds what the planner learnt of its tables.
        stages.lowered.plan = LogicalPlan::default();
        Ok(Self { stages, physical })
    }

    /// Whether every run answers the same, so that the plan may be run again.
    pub(super) fn is_deterministic(&self) -> bool {
        self.stages.bound.is_deterministic
    }

    /// Runs a copy of the plan.
    pub(super) async fn answer(&self) -> Result<Answer> {
        let copy = fresh(&self.physical).map_err(from_plan)?;
        let batches = self.stages.execute(self.stages.to_run(copy)?).await?;
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
    /// Bounds the number, too. The arguments are in the question, in the inputs, in the bound query and in the plan.
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::{Connection, Federation, Inputs, Store, Term, TxData};

    /// Ten thousand pairs of a hundred ages: more than is kept of answers.
    const PAIRS: &str = "[:find ?a ?b ?x :in $ ?x :where [_ :p/age ?a] [_ :p/age ?b]]";

    async fn people() -> Connection {
        let connection = Connection::create(&Store::memory()).await.unwrap();
        let schema =
            "[{:db/ident :p/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]";
        let ages: Vec<String> = (0..100).map(|age| format!("{{:p/age {age}}}")).collect();
        for text in [schema, &format!("[{}]", ages.concat())] {
            transact(&connection, text).await;
        }
        connection
    }

    async fn transact(connection: &Connection, text: &str) {
        let data = TxData::parse(text).unwrap();
        connection.transact(&data).await.unwrap();
    }

    /// How many rows there are, how often the federation has planned, and how many plans it has kept.
    async fn asked(federation: &Federation, query: &str, inputs: &Inputs) -> [usize; 3] {
        let answer = federation.q(query, inputs).await.unwrap();
        let session = federation.datalog_session();
        let planned = session.planning(0).planned.load(Ordering::Relaxed);
        [answer.rows().len(), planned, session.plans.0.len()]
    }

    #[tokio::test]
    async fn a_question_with_a_large_answer_is_planned_once() {
        let connection = people().await;
        let federation = Federation::new();
        let now = |x: i64| Inputs::new().source("$", &connection.db()).argument(x);
        for _ in 0..3 {
            let found = asked(&federation, PAIRS, &now(0)).await;
            assert_eq!(found, [10_000, 1, 1]);
        }
        assert_eq!(asked(&federation, PAIRS, &now(1)).await, [10_000, 2, 2]);
        let then = now(0);
        transact(&connection, "[{:p/age 100}]").await;
        assert_eq!(asked(&federation, PAIRS, &now(0)).await, [10_201, 3, 3]);
        assert_eq!(asked(&federation, PAIRS, &then).await, [10_000, 3, 3]);
        let first = federation.q(PAIRS, &then).await.unwrap();
        assert_eq!(federation.q(PAIRS, &then).await.unwrap(), first);
        // A small answer is known itself.
        let sum = "[:find (sum ?a) . :where [_ :p/age ?a]]";
        let small = Inputs::new().source("$", &connection.db());
        for _ in 0..2 {
            assert_eq!(asked(&federation, sum, &small).await, [1, 4, 3]);
        }
    }

    #[tokio::test]
    async fn what_may_change_is_planned_anew() {
        let connection = people().await;
        let federation = Federation::new();
        let db = connection.db();
        let now = || Inputs::new().source("$", &db);
        let random = "[:find ?a ?b ?r :where [_ :p/age ?a] [_ :p/age ?b] [(rand) ?r]]";
        let given = "[:find ?a ?b ?x :in $ $c :where [_ :p/age ?a] [_ :p/age ?b] [$c ?x]]";
        let given_to = now().collection("$c", [Term::vector([Term::Long(1)])]);
        let mut planned = 0;
        for (query, inputs) in [(random, now()), (given, given_to)] {
            for _ in 0..2 {
                planned += 1;
                assert_eq!(
                    asked(&federation, query, &inputs).await,
                    [10_000, planned, 0],
                    "{query}"
                );
            }
        }
    }

    #[tokio::test]
    async fn few_plans_are_kept_and_none_that_is_large() {
        let connection = people().await;
        let federation = Federation::new();
        let now = |x: i64| Inputs::new().source("$", &connection.db()).argument(x);
        let plans = &federation.datalog_session().plans;
        let long = format!("{PAIRS}{}", " ".repeat(600_000));
        assert_eq!(asked(&federation, &long, &now(0)).await, [10_000, 1, 0]);
        for x in 0..100 {
            federation.q(PAIRS, &now(x)).await.unwrap();
            assert!(plans.0.len() <= PLANS_MAX && plans.0.weight() <= BYTES_MAX);
        }
        assert!(plans.0.len() > PLANS_MAX / 2, "{}", plans.0.len());
    }

    #[tokio::test]
    async fn plans_go_with_their_federation() {
        let connection = people().await;
        let federation = Federation::new();
        let inputs = Inputs::new().source("$", &connection.db()).argument(0);
        assert_eq!(asked(&federation, PAIRS, &inputs).await, [10_000, 1, 1]);
        let session = Arc::downgrade(federation.datalog_session());
        drop(federation);
        assert!(session.upgrade().is_none());
    }

    #[tokio::test]
    async fn a_kept_plan_is_never_run() {
        let connection = people().await;
        let federation = Federation::new();
        let inputs = Inputs::new().source("$", &connection.db()).argument(7);
        for _ in 0..3 {
            federation.q(PAIRS, &inputs).await.unwrap();
        }
        let question = Question::of(PAIRS, &inputs).unwrap();
        let planned = federation.datalog_session().plans.get(&question).unwrap();
        let mut operators = 0;
        let counted = planned.physical.apply(|operator| {
            operators += 1;
            let metrics = operator.metrics();
            assert!(metrics.is_none_or(|metrics| metrics.iter().next().is_none()));
            Ok(TreeNodeRecursion::Continue)
        });
        counted.unwrap();
        assert_eq!(planned.operators(), operators);
        assert!(operators > 2);
    }
}
