//! Joins that yield.
//!
//! DataFusion makes its sources yield, so most operators above them do. A join makes many batches out of
//! few: a cross join can feed an aggregate for hours without asking a source again, and meanwhile neither
//! a timeout nor a cancellation gets a turn on that task.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PiecewiseMergeJoinExec, SortMergeJoinExec,
    SymmetricHashJoinExec,
};
use datafusion::physical_plan::unnest::UnnestExec;

/// Wraps every operator that multiplies rows, so that each batch it makes spends of its task's budget.
///
/// **Limit.** A turn ends between batches. A nested-loop join whose condition rejects nearly everything
/// makes none while it compares one batch of its right side with the whole left side.
#[derive(Debug, Default)]
pub(crate) struct CooperativeJoins;

impl PhysicalOptimizerRule for CooperativeJoins {
    fn name(&self) -> &'static str {
        "cooperative_joins"
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            Ok(if multiplies(node.as_ref()) {
                Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>)
            } else {
                Transformed::no(node)
            })
        })
        .map(|plan| plan.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn multiplies(node: &dyn ExecutionPlan) -> bool {
    node.is::<CrossJoinExec>()
        || node.is::<NestedLoopJoinExec>()
        || node.is::<HashJoinExec>()
        || node.is::<SortMergeJoinExec>()
        || node.is::<PiecewiseMergeJoinExec>()
        || node.is::<SymmetricHashJoinExec>()
        || node.is::<UnnestExec>()
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use datafusion::execution::SessionStateBuilder;
    use datafusion::prelude::{SessionConfig, SessionContext};
    use futures::{FutureExt, StreamExt};

    use super::*;

    /// Some hundred million rows in one task: far more than one budget, yet not hopeless if this fails.
    const EXPLOSIONS: [&str; 4] = [
        "SELECT count(*) FROM generate_series(1, 30000) a, generate_series(1, 3000) b",
        "SELECT sum(a.value) FROM generate_series(1, 30000) a \
         JOIN generate_series(1, 3000) b ON a.value + b.value > 0",
        "SELECT sum(a.value) FROM generate_series(1, 30000) a \
         JOIN generate_series(1, 3000) b ON a.value % 1 = b.value % 1",
        "SELECT count(*) FROM (SELECT unnest(l) FROM (SELECT range(1, 3000) l \
         FROM generate_series(1, 30000)))",
    ];

    fn context(cooperative: bool) -> SessionContext {
        let mut state = SessionStateBuilder::new()
            .with_config(SessionConfig::new().with_target_partitions(1))
            .with_default_features();
        if cooperative {
            state = state.with_physical_optimizer_rule(Arc::new(CooperativeJoins));
        }
        SessionContext::new_with_state(state.build())
    }

    #[tokio::test]
    async fn one_poll_of_an_exploding_join_returns() {
        for sql in EXPLOSIONS {
            let frame = context(true).sql(sql).await.unwrap();
            let mut stream = frame.execute_stream().await.unwrap();
            tokio::task::yield_now().await;
            // Without the rule the poll would return only with the answer.
            let polled = futures::poll!(stream.next());
            assert!(matches!(polled, Poll::Pending), "{sql}");
            // It left the budget spent, which is what gives others their turn.
            assert!(tokio::task::yield_now().now_or_never().is_none());
        }
    }

    #[tokio::test]
    async fn a_wrapped_join_answers_the_same() {
        let sql = "SELECT a.value, b.value FROM generate_series(1, 30) a \
                   JOIN generate_series(1, 40) b ON a.value < b.value ORDER BY 1, 2";
        let plain = context(false)
            .sql(sql)
            .await
            .unwrap()
            .collect()
            .await
            .unwrap();
        let wrapped = context(true)
            .sql(sql)
            .await
            .unwrap()
            .collect()
            .await
            .unwrap();
        assert_eq!(plain, wrapped);
    }
}
