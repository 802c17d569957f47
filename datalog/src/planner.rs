//! The operators of this crate in DataFusion's physical planner.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use crate::fixpoint::FixpointNode;
use crate::lower::shared::SharedNode;

/// Plans recursion and what is read in several places.
#[derive(Debug, Default)]
pub struct DatalogPlanner;

#[async_trait]
impl ExtensionPlanner for DatalogPlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if let Some(shared) = node.as_any().downcast_ref::<SharedNode>() {
            let [input] = inputs else {
                return datafusion::common::internal_err!("a shared relation has one input");
            };
            return Ok(Some(Arc::new(shared.exec(Arc::clone(input)))));
        }
        if let Some(fixpoint) = node.as_any().downcast_ref::<FixpointNode>() {
            return Ok(Some(Arc::new(fixpoint.exec(inputs.to_vec()))));
        }
        Ok(None)
    }
}

/// DataFusion's planner with [`DatalogPlanner`]: for sessions that have no planner of their own.
#[derive(Debug, Default)]
pub struct DatalogQueryPlanner;

#[async_trait]
impl QueryPlanner for DatalogQueryPlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(DatalogPlanner)])
            .create_physical_plan(plan, session)
            .await
    }
}
