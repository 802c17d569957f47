//! What the filters of a scan amount to: expressions to evaluate, entities they name, ranges of an index.

use std::sync::Arc;

use datafusion::physical_expr::PhysicalExpr;

use super::ONE_BY_ONE_MAX;
use crate::index::{Components, Edge, Range};
use crate::provider::arrow::is_costly;
use crate::provider::pushdown::{self, Constraint as Narrowing, Ranges};
use crate::provider::star::run::Span;
use crate::schema::Attribute;
use crate::value::{Value, ValueType};

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
}

pub(super) struct Filter {
    /// Over the columns of the table.
    pub(super) expr: Arc<dyn PhysicalExpr>,
    /// Columns of the table, ascending.
    pub(super) columns: Vec<usize>,
    pub(super) narrowing: Option<Narrowing>,
    pub(super) rejects_null: bool,
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

/// What an index answers.
pub(super) struct Found {
    pub(super) column: usize,
    pub(super) ranges: Vec<Range>,
    pub(super) rows: u64,
}

/// What reading and showing an attribute costs, roughly.
pub(super) fn weight(attribute: &Attribute) -> usize {
    let values = match attribute.value_type {
        ValueType::Boolean
        | ValueType::Long
        | ValueType::Ref
        | ValueType::Instant
        | ValueType::Double
        | ValueType::Float => 1,
        _ if is_costly(attribute) => 6,
        _ => 4,
    };
    if attribute.is_many() {
        4 * values
    } else {
        values
    }
}

/// The datoms of an attribute with these values, in AVET.
pub(super) fn avet_ranges(attribute: &Attribute, ranges: &Ranges) -> Vec<Range> {
    let of = |value: &Value| Components::all().a(attribute.id).v(value.clone());
    let open = || {
        Some(Edge {
            at: Components::all().a(attribute.id),
            inclusive: true,
        })
    };
    let edge = |end: &Option<pushdown::End>| match end {
        Some(end) => Some(Edge {
            at: of(&end.value),
            inclusive: end.inclusive,
        }),
        None => open(),
    };
    ranges
        .intervals()
        .iter()
        .map(|interval| Range {
            from: edge(&interval.low),
            to: edge(&interval.high),
        })
        .collect()
}

/// Whether ranges of AVET hold at most a single value, and so ascend by entity.
pub(super) fn one_value(ranges: &[Range]) -> bool {
    match ranges {
        [] => true,
        [
            Range {
                from: Some(from),
                to: Some(to),
            },
        ] => from == to && from.at.v.is_some(),
        _ => false,
    }
}
