//! What the filters of a scan say, and which of them are left to be evaluated.

use std::sync::Arc;

use datafusion::physical_expr::PhysicalExpr;

use super::ONE_BY_ONE_MAX;
use crate::provider::pushdown::{Constraint as Narrowing, Ranges};
use crate::provider::star::run::Span;

/// What the filters of a scan amount to.
pub(super) struct Planned {
    /// Filters to be evaluated.
    pub(super) filters: Vec<Filter>,
    /// The entities that they leave.
    pub(super) span: Span,
    /// What they say about `db_id`.
    pub(super) ids: Option<Ranges>,
    /// Whether there was a filter at all.
    pub(super) any: bool,
}

impl Planned {
    /// The entities that filters name one by one, if they are few.
    pub(super) fn named(&self) -> Option<Vec<i64>> {
        let mut named = Vec::new();
        for (first, last) in self.ids.as_ref()?.longs() {
            let room = ONE_BY_ONE_MAX - named.len() as u64;
            if last.abs_diff(first) >= room.min(8) {
                return None;
            }
            named.extend(first..=last);
        }
        Some(named)
    }

    /// Drops `IS NOT NULL` of the column by which rows are found, and of those whose other filters say as much.
    pub(super) fn drop_implied(&mut self, driver: Option<usize>) {
        let others = self.filters.iter().filter(|filter| !filter.is_not_null);
        let others = others.filter(|filter| filter.rejects_null);
        let columns = others.map(|filter| filter.columns[0]).chain(driver);
        let columns: Vec<usize> = columns.collect();
        self.filters
            .retain(|filter| !(filter.is_not_null && columns.contains(&filter.columns[0])));
    }
}

pub(super) struct Filter {
    /// Over the columns of the table.
    pub(super) expr: Arc<dyn PhysicalExpr>,
    /// Columns of the table, ascending.
    pub(super) columns: Vec<usize>,
    pub(super) narrowing: Option<Narrowing>,
    pub(super) rejects_null: bool,
    /// Whether it says `IS NOT NULL` of a column that is not `db_id`, and nothing else.
    pub(super) is_not_null: bool,
}

impl Filter {
    pub(super) fn is_on(&self, column: &str) -> bool {
        self.narrowing
            .as_ref()
            .is_some_and(|narrowing| narrowing.column == column)
    }

    pub(super) fn is_exact_on(&self, column: &str) -> bool {
        self.is_on(column)
            && self
                .narrowing
                .as_ref()
                .is_some_and(|narrowing| narrowing.exact)
    }
}
