//! For sessions whose SQL does not pass through [`parse`](super::parse).

use datafusion::error::Result;
use datafusion::logical_expr::planner::{
    RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::sql::sqlparser::ast::TableFactor;

use crate::error::Error;
use crate::provider::error::into_datafusion;

/// Refuses each version clause that a planner meets: DataFusion's own would read the present instead.
#[derive(Debug)]
pub(crate) struct RefuseVersions;

impl RelationPlanner for RefuseVersions {
    fn plan_relation(
        &self,
        relation: TableFactor,
        _: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        if let TableFactor::Table {
            name,
            version: Some(version),
            ..
        } = &relation
        {
            return Err(into_datafusion(Error::invalid(format!(
                "{name} {version}: this session reads no version clauses; \
                 name the basis instead, as in \"sales@t=42\".invoice"
            ))));
        }
        Ok(RelationPlanning::Original(Box::new(relation)))
    }
}
