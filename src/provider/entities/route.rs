//! How the rows of a scan are found, and what each way costs.

use super::super::arrow::is_costly;
use super::super::pushdown::{self, Ranges};
use crate::index::{Components, Edge, Range};
use crate::schema::Attribute;
use crate::value::{Value, ValueType};

/// How rows are found; see the [module page](super).
pub(super) enum Route {
    /// Only their number is asked for, and it is known.
    Counted,
    /// The entities that have the attribute of a column.
    Column(usize),
    Union,
    Facts(Option<Vec<Range>>),
    Ids(Vec<i64>),
    Index {
        column: usize,
        ranges: Vec<Range>,
        rows: u64,
        one_by_one: bool,
    },
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
pub(in super::super) fn avet_ranges(attribute: &Attribute, ranges: &Ranges) -> Vec<Range> {
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
