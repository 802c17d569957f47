//! `datoms` and `datoms_history`: every fact of a value as a row.
//!
//! | column | type | |
//! |---|---|---|
//! | `e` | BIGINT | the entity |
//! | `a` | VARCHAR | the attribute's ident, with its colon; join `attributes` for its id |
//! | `v` | VARCHAR | the value as text: strings as they are, keywords with their colon, bytes in hexadecimal |
//! | `v_long`, `v_string`, … | the type's own | the value, in the column of its type; NULL in the others |
//! | `tx` | BIGINT | the transaction |
//! | `added` | BOOLEAN | false for a retraction, which only a history has |
//!
//! Bigdecs of all attributes share one column, whose scale is the largest of any attribute. Tuples are
//! text only.
//!
//! **Pushdown.** All filters are *Inexact*: they choose an index and ranges of it, and DataFusion checks
//! each row again. See [`access`].

pub(super) mod access;
mod changes;
pub(super) mod columns;
mod scan;

use std::sync::Arc;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datomfusion_datalog::Optimizations;

use self::access::Access;
pub(crate) use self::changes::Changes;
use self::columns::Column;
use self::scan::DatomScanExec;
use super::error::into_datafusion;
use crate::datom::Entid;
use crate::db::Db;
use crate::index::{Components, Edge, Index, Range};
use crate::value::ValueType;

/// Rows that are not worth a partition of their own.
const PARTITION_ROWS_MIN: u64 = 16 * 1024;

/// The facts of one value.
#[derive(Debug)]
pub(crate) struct DatomTable {
    db: Db,
    columns: Vec<Column>,
    schema: SchemaRef,
    /// What is read whatever the filters say.
    access: Option<Access>,
}

impl DatomTable {
    pub(crate) fn new(db: Db) -> Self {
        let schema = columns::table_schema(&db);
        Self {
            db,
            columns: Column::ALL.to_vec(),
            schema,
            access: None,
        }
    }

    /// The facts that begin with some components, as terms: `e a v tx added`, with `a` as the
    /// attribute's id and `v` encoded, or as values of the attribute if that is known.
    pub(crate) fn terms(db: Db, pattern: &Components, native: Option<ValueType>) -> Self {
        let v = native.map_or(Column::Encoded, Column::Typed);
        let columns = [Column::E, Column::AttributeId, v, Column::Tx, Column::Added];
        let schema = columns::terms_schema(columns);
        let access = Access::to(&db, pattern);
        Self {
            db,
            columns: columns.to_vec(),
            schema,
            access: Some(access),
        }
    }

    /// Divides ranges among partitions, and counts their rows where that is cheap.
    async fn partitions(
        &self,
        access: Access,
        partitions_max: usize,
    ) -> crate::Result<(Vec<Vec<Range>>, Option<u64>)> {
        let counted = !self.db.is_history() && self.db.since_t().is_none();
        if !counted || access.index == Index::Log {
            return Ok((vec![access.ranges], None));
        }
        if access.everything {
            return self.divided(partitions_max).await;
        }
        let mut sized = Vec::with_capacity(access.ranges.len());
        for range in access.ranges {
            let rows = self.db.count(access.index, &range).await?;
            sized.push((rows, range));
        }
        sized.retain(|(rows, _)| *rows > 0);
        let total = sized.iter().map(|(rows, _)| rows).sum();
        let share = share_of(total, partitions_max);
        let mut partitions: Vec<(u64, Vec<Range>)> = Vec::new();
        for (rows, range) in sized {
            match partitions.last_mut() {
                Some((filled, ranges)) if *filled < share => {
                    *filled += rows;
                    ranges.push(range);
                }
                _ => partitions.push((rows, vec![range])),
            }
        }
        Ok((
            partitions.into_iter().map(|(_, ranges)| ranges).collect(),
            Some(total),
        ))
    }

    /// All of AEVT, cut between attributes.
    async fn divided(
        &self,
        partitions_max: usize,
    ) -> crate::Result<(Vec<Vec<Range>>, Option<u64>)> {
        let total = self.db.count(Index::Aevt, &Range::all()).await?;
        let share = share_of(total, partitions_max);
        let edge = |a: Entid, inclusive| {
            Some(Edge {
                at: Components::all().a(a),
                inclusive,
            })
        };
        let mut cuts = Vec::new();
        if share < total {
            let mut filled = 0;
            for attribute in self.db.schema().attributes() {
                let run = Range::prefix(Components::all().a(attribute.id));
                filled += self.db.count(Index::Aevt, &run).await?;
                if filled >= share {
                    cuts.push(attribute.id);
                    filled = 0;
                }
            }
        }
        // The ends are open: a history may hold attributes that the schema has forgotten.
        let mut from = None;
        let mut ranges = Vec::with_capacity(cuts.len() + 1);
        for cut in cuts {
            ranges.push(vec![Range {
                from: from.take(),
                to: edge(cut, true),
            }]);
            from = edge(cut, false);
        }
        ranges.push(vec![Range { from, to: None }]);
        Ok((ranges, Some(total)))
    }
}

fn share_of(total: u64, partitions_max: usize) -> u64 {
    total
        .div_ceil(partitions_max.max(1) as u64)
        .max(PARTITION_ROWS_MIN)
}

#[async_trait]
impl TableProvider for DatomTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let decide = |filter: &&Expr| {
            if self.access.is_none() && access::narrows(filter) {
                TableProviderFilterPushDown::Inexact
            } else {
                TableProviderFilterPushDown::Unsupported
            }
        };
        Ok(filters.iter().map(decide).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let access = match &self.access {
            Some(access) => access.clone(),
            None if Optimizations::of(session.config_options()).index_access => {
                Access::of(&self.db, filters)
            }
            None => Access::of(&self.db, &[]),
        };
        let index = access.index;
        let target = if limit.is_some() {
            1
        } else {
            session.config().target_partitions()
        };
        let (partitions, rows) = self
            .partitions(access, target)
            .await
            .map_err(into_datafusion)?;
        let (schema, columns): (SchemaRef, Vec<Column>) = match projection {
            Some(projection) => (
                Arc::new(self.schema.project(projection)?),
                projection.iter().map(|at| self.columns[*at]).collect(),
            ),
            None => (Arc::clone(&self.schema), self.columns.clone()),
        };
        let db = self.db.clone();
        Ok(Arc::new(DatomScanExec::new(
            db, index, partitions, columns, schema, rows, limit,
        )))
    }
}
