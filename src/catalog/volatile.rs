//! Volatile expressions stay where they are.
//!
//! DataFusion's logical rules move no condition through a projection that computes what it is about if that is
//! volatile. Its physical rule does: the condition is rewritten over what the projection reads, and the projection
//! computes anew, so that `random() AS r … WHERE r < 0.1` shows any `r`, and a call that may refuse what it is
//! given runs before the condition that guards it.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::filter_pushdown::FilterPushdown;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;

/// DataFusion's physical rules, of which those that push conditions down leave volatile plans alone.
pub(super) fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let rules = PhysicalOptimizer::new().rules.into_iter();
    rules
        .map(|rule| {
            if rule.name().starts_with("FilterPushdown") {
                Arc::new(VolatileStays(rule)) as _
            } else {
                rule
            }
        })
        .collect()
}

/// The rule that tells scans what joins, sorts and aggregates learn while they run; it leaves volatile plans alone.
pub(super) fn run_time_filters() -> Arc<dyn PhysicalOptimizerRule + Send + Sync> {
    Arc::new(VolatileStays(Arc::new(
        FilterPushdown::new_post_optimization(),
    )))
}

/// A rule that is for plans without volatile expressions.
#[derive(Debug)]
struct VolatileStays(Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl PhysicalOptimizerRule for VolatileStays {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut volatile = false;
        plan.apply(|node| {
            if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
                volatile |= projection.expr().iter().any(|own| is_volatile(&own.expr));
            } else if let Some(filter) = node.downcast_ref::<FilterExec>() {
                volatile |= is_volatile(filter.predicate());
            }
            Ok(if volatile {
                TreeNodeRecursion::Stop
            } else {
                TreeNodeRecursion::Continue
            })
        })?;
        if volatile {
            Ok(plan)
        } else {
            self.0.optimize(plan, config)
        }
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::Float64Type;
    use datafusion::prelude::SessionContext;
    use datomfusion_datalog::Optimizations;

    use crate::catalog::session::{session_builder, session_config};

    #[tokio::test]
    async fn what_is_shown_is_what_the_condition_saw() {
        let state = session_builder(session_config(&Optimizations::default())).build();
        let context = SessionContext::new_with_state(state);
        let sql = "SELECT max(r) FROM (SELECT value AS a, random() AS r FROM generate_series(1, 3000) \
                   WHERE value % 7 > 3) WHERE r < 0.1";
        let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
        let most = batches[0].column(0).as_primitive::<Float64Type>().value(0);
        assert!(most < 0.1, "{most}");
        let rules = super::physical_rules();
        let wrapped = rules
            .iter()
            .filter(|rule| format!("{rule:?}").contains("VolatileStays"));
        assert_eq!(wrapped.count(), 2);
    }
}
