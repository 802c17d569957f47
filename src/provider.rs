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

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::Column;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, SubqueryAlias};
use futures::future::join_all;

pub(crate) use self::datoms::{Changes, DatomTable};
pub(crate) use self::entities::{EntityTable, by_column};
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
    Ok(Arc::new(EntityTable::new(db, def)))
}

/// Joins of a plan that can be done in several orders.
const JOINS_MIN: usize = 2;

/// Reads what the order of a plan's joins depends on, where there are several: inner nodes, and a few leaves for each
/// column that is compared.
pub(crate) async fn learn(plan: &LogicalPlan) -> Result<()> {
    let mut tables = Vec::new();
    let mut names = Vec::new();
    let mut conditions: Vec<Expr> = Vec::new();
    let mut joins = 0;
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) => {
                // What is no provider is none of ours.
                let known = tables.iter().any(|(name, _)| *name == scan.table_name);
                if !known && let Ok(table) = source_as_provider(&scan.source) {
                    tables.push((scan.table_name.clone(), table));
                }
            }
            LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. }) => {
                if let LogicalPlan::TableScan(scan) = &**input {
                    names.push((scan.table_name.clone(), alias.clone()));
                }
            }
            LogicalPlan::Filter(_) | LogicalPlan::Join(_) => {
                joins += usize::from(matches!(node, LogicalPlan::Join(_)));
                let expressions = node.expressions();
                let parts = expressions.iter().flat_map(split_conjunction);
                conditions.extend(parts.cloned());
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if joins < JOINS_MIN {
        return Ok(());
    }
    let learning = tables.iter().filter_map(|(name, table)| {
        let table = table.downcast_ref::<EntityTable>()?;
        let is_own = |column: &Column| match &column.relation {
            None => true,
            Some(relation) => {
                let mut aliases = names.iter().filter(|(of, _)| of == name);
                relation == name || aliases.any(|(_, alias)| alias == relation)
            }
        };
        let refs = conditions.iter().flat_map(Expr::column_refs);
        let own = refs.filter(|column| is_own(column));
        let columns: HashSet<&str> = own.map(|column| column.name.as_str()).collect();
        let about = conditions.iter().filter(|condition| {
            let refs = condition.column_refs();
            !refs.is_empty() && refs.into_iter().all(is_own)
        });
        let about: Vec<&Expr> = about.collect();
        Some(async move { table.learn(&columns, &about).await })
    });
    join_all(learning).await;
    Ok(())
}

/// A table of entities that have all of some cardinality-one attributes, for a query that demands each of
/// its columns `a0`, `a1` and so on.
pub(crate) fn star_table(db: Db, attributes: Vec<Arc<Attribute>>) -> Arc<dyn TableProvider> {
    Arc::new(EntityTable::star(db, attributes))
}
