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
use datafusion::common::TableReference;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, SubqueryAlias};
use futures::future::try_join_all;

pub(crate) use self::datoms::{Changes, DatomTable};
pub(crate) use self::entities::EntityTable;
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

/// Tables of a plan that make the order of joins matter.
const JOINED_MIN: usize = 3;

/// Reads what the order of a plan's joins depends on, where it reads enough tables for that to matter: inner nodes,
/// and a few leaves for each column that is compared.
pub(crate) async fn learn(plan: &LogicalPlan) -> Result<()> {
    let mut tables = Vec::new();
    let mut names = Vec::new();
    let mut columns = HashSet::new();
    let mut conditions: Vec<Expr> = Vec::new();
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) => {
                tables.push((scan.table_name.clone(), source_as_provider(&scan.source)?));
            }
            LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. }) => {
                if let LogicalPlan::TableScan(scan) = &**input {
                    names.push((scan.table_name.clone(), alias.clone()));
                }
            }
            LogicalPlan::Filter(_) | LogicalPlan::Join(_) => {
                for expr in node.expressions() {
                    columns.extend(
                        expr.column_refs()
                            .into_iter()
                            .map(|column| column.name.clone()),
                    );
                    conditions.extend(split_conjunction(&expr).into_iter().cloned());
                }
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if tables.len() < JOINED_MIN {
        return Ok(());
    }
    let learning = tables.iter().filter_map(|(name, table)| {
        let table = table.downcast_ref::<EntityTable>()?;
        let is_own = |relation: &TableReference| {
            let mut aliases = names.iter().filter(|(of, _)| of == name);
            relation == name || aliases.any(|(_, alias)| alias == relation)
        };
        let about = conditions.iter().filter(|condition| {
            let refs = condition.column_refs();
            let mut relations = refs.iter().map(|column| column.relation.as_ref());
            !refs.is_empty() && relations.all(|relation| relation.is_some_and(is_own))
        });
        let about: Vec<&Expr> = about.collect();
        let columns = &columns;
        Some(async move { table.learn(columns, &about).await })
    });
    try_join_all(learning).await?;
    Ok(())
}

/// A table of entities that have all of some cardinality-one attributes, for a query that demands each of
/// its columns `a0`, `a1` and so on.
pub(crate) fn star_table(db: Db, attributes: Vec<Arc<Attribute>>) -> Arc<dyn TableProvider> {
    Arc::new(EntityTable::star(db, attributes))
}
