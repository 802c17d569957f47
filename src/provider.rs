//! Databases as tables of DataFusion: how datoms become columns.
//!
//! | module | job |
//! |---|---|
//! | [`arrow`] | attributes as Arrow fields, leaves as Arrow arrays |
//! | [`pushdown`] | what filters say about columns |
//! | [`entities`] | entity and member tables; how a scan of one is planned |
//! | [`star`] | the scan itself |
//! | [`datoms`] | `datoms` and `datoms_history`: every fact as a row |
//! | [`meta`] | `transactions`, `attributes` and `idents` |
//! | [`measured`] | what a scan costs |
//! | [`error`] | errors on their way through DataFusion |
//!
//! Above [`db`](crate::db), below [`catalog`](crate::catalog), which says what tables there are and what they
//! are called.
//!
//! **Invariant.** A table is one database value. It never changes, and scanning it twice answers the same.

pub(crate) mod arrow;
pub(crate) mod datoms;
mod entities;
pub(crate) mod error;
mod measured;
pub(crate) mod meta;
mod pushdown;
mod star;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use futures::future::try_join_all;

pub(crate) use self::datoms::{Changes, DatomTable};
use crate::catalog::metaschema::TableDef;
use crate::db::Db;
use crate::error::Error;
use crate::schema::Attribute;

/// A table of the entities of a namespace, or of the members of a cardinality-many attribute.
///
/// `db_id` comes first and is not null; entity tables have one row an entity and ascend by it.
///
/// # Errors
///
/// [`Error::Invalid`] for a value that shows history: there an attribute of an entity has many values.
pub(crate) fn entity_table(db: Db, def: &TableDef) -> Result<Arc<dyn TableProvider>> {
    if db.is_history() {
        return Err(error::into_datafusion(Error::invalid(format!(
            "{} shows one state of its entities, not their history; see datoms_history",
            def.name
        ))));
    }
    Ok(Arc::new(entities::EntityTable::new(db, def)))
}

/// Counts the members of cardinality-many attributes where a plan reads enough tables for the order of joins to
/// matter. Reads inner nodes.
pub(crate) async fn count_members(plan: &LogicalPlan) -> Result<()> {
    let mut tables = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            tables.push(source_as_provider(&scan.source)?);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if tables.len() < 3 {
        return Ok(());
    }
    let members = tables
        .iter()
        .filter_map(|table| table.downcast_ref::<entities::EntityTable>());
    try_join_all(members.map(entities::EntityTable::count_members)).await?;
    Ok(())
}

/// A table of entities that have all of some cardinality-one attributes, for a query that demands each of
/// its columns `a0`, `a1` and so on.
pub(crate) fn star_table(db: Db, attributes: Vec<Arc<Attribute>>) -> Arc<dyn TableProvider> {
    Arc::new(entities::EntityTable::star(db, attributes))
}
