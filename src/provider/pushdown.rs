//! What a filter says about one column, as ranges of values that an index can look up.
//!
//! Pure: expressions in, ranges out. A scan evaluates every filter that DataFusion can plan over its
//! columns with DataFusion's own expressions, and so answers `Exact` for it; what is found here only spares
//! it reading. Where the ranges say precisely what the filter says, the filter need not be evaluated at all.
//!
//! | filter | pushdown | why |
//! |---|---|---|
//! | over columns of the table | `Exact` | evaluated row by row within the scan |
//! | volatile | `Unsupported` | must be evaluated once for each row of the result |
//! | with a subquery or an outer column | `Unsupported` | the scan cannot plan it |
//!
//! Ranges come from `=`, `<`, `<=`, `>`, `>=`, `BETWEEN` and `IN` between a bare column and literals, and
//! from `AND` and `OR` of those over one column. Anything else narrows nothing.
//!
//! **Invariant.** Ranges never leave out a row for which the filter is true.

pub(super) mod physical;

use std::cmp::Ordering;

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{
    Between, BinaryExpr, Expr, Operator, TableProviderFilterPushDown, expr::InList,
};
use datomfusion_datalog::edn::{Keyword, Symbol};

use super::arrow::number_of_decimal;
use crate::datom::Entid;
use crate::value::{Large, Value, ValueType};

/// How a table handles a filter. See the [module page](self).
pub(crate) fn classify(filter: &Expr) -> TableProviderFilterPushDown {
    let mut plannable = !filter.is_volatile();
    let walk = filter.apply(|expr| {
        let foreign = matches!(
            expr,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::Placeholder(_)
                | Expr::AggregateFunction(_)
                | Expr::WindowFunction(_)
                | Expr::Unnest(_)
        );
        plannable &= !foreign;
        Ok(if foreign {
            TreeNodeRecursion::Stop
        } else {
            TreeNodeRecursion::Continue
        })
    });
    if plannable && walk.is_ok() {
        TableProviderFilterPushDown::Exact
    } else {
        TableProviderFilterPushDown::Unsupported
    }
}

/// What a filter says about one column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Constraint {
    /// The column's name.
    pub(crate) column: String,
    /// The values for which the filter can be true.
    pub(crate) ranges: Ranges,
    /// Whether it is true for all of them, and never for NULL.
    pub(crate) exact: bool,
}

/// Finds what a filter says about a column, if it speaks of one alone.
///
/// `type_of` tells the value type of a column whose values can be looked up.
pub(crate) fn constraint(
    filter: &Expr,
    type_of: &dyn Fn(&str) -> Option<ValueType>,
) -> Option<Constraint> {
    match filter {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: op @ (Operator::And | Operator::Or),
            right,
        }) => {
            let (left, right) = (constraint(left, type_of), constraint(right, type_of));
            if *op == Operator::And {
                return match (left, right) {
                    (Some(left), Some(right)) if left.column == right.column => Some(Constraint {
                        ranges: left.ranges.intersect(&right.ranges),
                        exact: left.exact && right.exact,
                        column: left.column,
                    }),
                    // One side narrows, the other is still to be evaluated.
                    (Some(one), _) | (None, Some(one)) => Some(Constraint {
                        exact: false,
                        ..one
                    }),
                    (None, None) => None,
                };
            }
            let (left, right) = (left?, right?);
            (left.column == right.column).then(|| Constraint {
                ranges: left.ranges.union(right.ranges),
                exact: left.exact && right.exact,
                column: left.column,
            })
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (column, op, literal) = match (&**left, &**right) {
                (Expr::Column(column), Expr::Literal(literal, _)) => (column, *op, literal),
                (Expr::Literal(literal, _), Expr::Column(column)) => (column, op.swap()?, literal),
                _ => return None,
            };
            comparison(&column.name, op, literal, type_of(&column.name)?)
        }
        Expr::InList(InList {
            expr,
            list,
            negated: false,
        }) => {
            let Expr::Column(column) = &**expr else {
                return None;
            };
            let value_type = type_of(&column.name)?;
            let mut ranges = Vec::with_capacity(list.len());
            let mut exact = true;
            for item in list {
                let Expr::Literal(literal, _) = item else {
                    return None;
                };
                if literal.is_null() {
                    // `x IN (1, NULL)` is true or NULL, never false: NULL adds no row.
                    continue;
                }
                let one = comparison(&column.name, Operator::Eq, literal, value_type)?;
                exact &= one.exact;
                ranges.extend(one.ranges.0);
            }
            Some(Constraint {
                column: column.name.clone(),
                ranges: Ranges::new(ranges),
                exact,
            })
        }
        Expr::Between(Between {
            expr,
            negated: false,
            low,
            high,
        }) => {
            let side = |op, bound: &Expr| {
                let bound =
                    Expr::BinaryExpr(BinaryExpr::new(expr.clone(), op, Box::new(bound.clone())));
                constraint(&bound, type_of)
            };
            let (low, high) = (side(Operator::GtEq, low)?, side(Operator::LtEq, high)?);
            Some(Constraint {
                column: low.column,
                ranges: low.ranges.intersect(&high.ranges),
                exact: low.exact && high.exact,
            })
        }
        _ => None,
    }
}

fn comparison(
    column: &str,
    op: Operator,
    literal: &ScalarValue,
    value_type: ValueType,
) -> Option<Constraint> {
    let some = |ranges, exact| {
        Some(Constraint {
            column: column.to_owned(),
            ranges,
            exact,
        })
    };
    let ranges = |op, value: Value| {
        Some(match op {
            Operator::Eq => Ranges::point(value),
            Operator::Lt => Ranges::new(vec![Interval::below(value, false)]),
            Operator::LtEq => Ranges::new(vec![Interval::below(value, true)]),
            Operator::Gt => Ranges::new(vec![Interval::above(value, false)]),
            Operator::GtEq => Ranges::new(vec![Interval::above(value, true)]),
            _ => return None,
        })
    };
    match (value_type, literal) {
        (ValueType::Long, ScalarValue::Int64(Some(number))) => {
            some(ranges(op, Value::Long(*number))?, true)
        }
        (ValueType::Ref, ScalarValue::Int64(Some(number))) => {
            some(ranges(op, Value::Ref(Entid(*number)))?, true)
        }
        // Instants compare as instants, whatever the zones.
        (ValueType::Instant, ScalarValue::TimestampMillisecond(Some(instant), Some(_))) => {
            some(ranges(op, Value::Instant(*instant))?, true)
        }
        // Arrow orders floating-point numbers as the trees do, but -0.0 and NaN are never stored and
        // what SQL makes of them is its own business.
        (ValueType::Double, ScalarValue::Float64(Some(number)))
            if number.is_finite() && *number != 0.0 =>
        {
            some(ranges(op, Value::Double(*number))?, false)
        }
        (ValueType::Float, ScalarValue::Float32(Some(number)))
            if number.is_finite() && *number != 0.0 =>
        {
            some(ranges(op, Value::Float(*number))?, false)
        }
        (
            ValueType::BigInt | ValueType::BigDec,
            ScalarValue::Decimal128(Some(digits), _, scale),
        ) => {
            let number = number_of_decimal(*digits, *scale);
            if value_type == ValueType::BigDec {
                return some(ranges(op, Value::big_dec(&number)?)?, false);
            }
            // Between integers lies no integer.
            let whole = number
                .is_integer()
                .then(|| number.as_bigint_and_scale().0.into_owned());
            some(
                ranges(op, Value::big_int(whole.filter(|_| *scale == 0)?)?)?,
                false,
            )
        }
        (ValueType::Symbol, text) => some(
            ranges(op, Value::Symbol(Symbol::new(text.try_as_str()??)))?,
            true,
        ),
        (ValueType::Keyword, text) => match (text.try_as_str()??.strip_prefix(':'), op) {
            (Some(name), _) => some(ranges(op, Value::Keyword(Keyword::new(name)))?, true),
            // Every keyword is shown with its colon.
            (None, Operator::Eq) => some(Ranges::default(), true),
            (None, _) => None,
        },
        (ValueType::Uuid, text) if op == Operator::Eq => {
            let text = text.try_as_str()??;
            let uuid = uuid::Uuid::try_parse(text).ok();
            // Text in another form is equal to no uuid: they are shown in lower case with hyphens.
            match uuid.filter(|uuid| uuid.hyphenated().to_string() == *text) {
                Some(uuid) => some(Ranges::point(Value::Uuid(uuid.as_u128())), true),
                None => some(Ranges::default(), true),
            }
        }
        (ValueType::String, text) => {
            let (ranges, exact) = text_ranges(op, text.try_as_str()??, Value::string)?;
            some(ranges, exact)
        }
        (ValueType::Uri, text) => {
            let (ranges, exact) = text_ranges(op, text.try_as_str()??, Value::uri)?;
            some(ranges, exact)
        }
        (
            ValueType::Bytes,
            ScalarValue::BinaryView(Some(bytes))
            | ScalarValue::Binary(Some(bytes))
            | ScalarValue::LargeBinary(Some(bytes)),
        ) if op == Operator::Eq => some(Ranges::point(Value::bytes(bytes.as_slice())), true),
        _ => None,
    }
}

/// Ranges of text that may lie out of line.
///
/// What lies out of line orders by at least 1021 bytes and then by hash, not by the rest of the text. So a
/// bound can be compared with it only if it is shorter than that; a longer one is cut, and an upper one given
/// up.
fn text_ranges<'t>(
    op: Operator,
    text: &'t str,
    value: impl Fn(&'t str) -> Value,
) -> Option<(Ranges, bool)> {
    const EXACT_MAX: usize = Large::PREFIX_BYTES_MAX - 4;
    let exact = text.len() <= EXACT_MAX;
    let cut = value(&text[..text.floor_char_boundary(EXACT_MAX)]);
    Some(match op {
        Operator::Eq => (Ranges::point(value(text)), true),
        Operator::Gt => (Ranges::new(vec![Interval::above(cut, !exact)]), exact),
        Operator::GtEq => (Ranges::new(vec![Interval::above(cut, true)]), exact),
        Operator::Lt if exact => (Ranges::new(vec![Interval::below(cut, false)]), true),
        Operator::LtEq if exact => (Ranges::new(vec![Interval::below(cut, true)]), true),
        _ => return None,
    })
}

/// Values between two ends; an absent end is open.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Interval {
    /// The lower end.
    pub(crate) low: Option<End>,
    /// The upper end.
    pub(crate) high: Option<End>,
}

/// One end of an [`Interval`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    /// Where it lies.
    pub(crate) value: Value,
    /// Whether the value itself belongs to the interval.
    pub(crate) inclusive: bool,
}

impl Interval {
    fn above(value: Value, inclusive: bool) -> Self {
        Self {
            low: Some(End { value, inclusive }),
            high: None,
        }
    }

    fn below(value: Value, inclusive: bool) -> Self {
        Self {
            low: None,
            high: Some(End { value, inclusive }),
        }
    }

    fn is_empty(&self) -> bool {
        let (Some(low), Some(high)) = (&self.low, &self.high) else {
            return false;
        };
        match low.value.cmp(&high.value) {
            Ordering::Less => false,
            Ordering::Equal => !(low.inclusive && high.inclusive),
            Ordering::Greater => true,
        }
    }

    /// The only value, if both ends are it.
    #[cfg(test)]
    fn only(&self) -> Option<&Value> {
        let (low, high) = (self.low.as_ref()?, self.high.as_ref()?);
        (low.inclusive && high.inclusive && low.value == high.value).then_some(&low.value)
    }

    /// Whether no value lies between the end of this and the start of `next`, which starts no earlier.
    fn reaches(&self, next: &Self) -> bool {
        let (Some(high), Some(low)) = (&self.high, &next.low) else {
            return true;
        };
        match high.value.cmp(&low.value) {
            Ordering::Less => false,
            Ordering::Equal => high.inclusive || low.inclusive,
            Ordering::Greater => true,
        }
    }
}

/// Compares lower ends: the one that lets in more comes first.
fn by_low(left: Option<&End>, right: Option<&End>) -> Ordering {
    match (left, right) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(left), Some(right)) => left
            .value
            .cmp(&right.value)
            .then(right.inclusive.cmp(&left.inclusive)),
    }
}

/// Compares upper ends: the one that lets in more comes last.
fn by_high(left: Option<&End>, right: Option<&End>) -> Ordering {
    match (left, right) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(left), Some(right)) => left
            .value
            .cmp(&right.value)
            .then(left.inclusive.cmp(&right.inclusive)),
    }
}

/// Intervals in order, disjoint, with values between them; none is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ranges(Vec<Interval>);

impl Ranges {
    fn new(mut intervals: Vec<Interval>) -> Self {
        intervals.retain(|interval| !interval.is_empty());
        intervals.sort_by(|left, right| by_low(left.low.as_ref(), right.low.as_ref()));
        let mut merged: Vec<Interval> = Vec::with_capacity(intervals.len());
        for interval in intervals {
            match merged.last_mut() {
                Some(last) if last.reaches(&interval) => {
                    if by_high(interval.high.as_ref(), last.high.as_ref()).is_gt() {
                        last.high = interval.high;
                    }
                }
                _ => merged.push(interval),
            }
        }
        Self(merged)
    }

    fn point(value: Value) -> Self {
        let end = End {
            value,
            inclusive: true,
        };
        Self(vec![Interval {
            low: Some(end.clone()),
            high: Some(end),
        }])
    }

    /// The intervals, in order.
    pub(crate) fn intervals(&self) -> &[Interval] {
        &self.0
    }

    fn union(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        Self::new(self.0)
    }

    /// What lies in both.
    pub(crate) fn intersect(&self, other: &Self) -> Self {
        let mut both = Vec::new();
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(one), Some(two)) = (left.peek(), right.peek()) {
            let low = if by_low(one.low.as_ref(), two.low.as_ref()).is_lt() {
                &two.low
            } else {
                &one.low
            };
            let ends_first = by_high(one.high.as_ref(), two.high.as_ref()).is_lt();
            let high = if ends_first { &one.high } else { &two.high };
            both.push(Interval {
                low: low.clone(),
                high: high.clone(),
            });
            if ends_first {
                left.next()
            } else {
                right.next()
            };
        }
        Self::new(both)
    }

    /// Ranges of longs as inclusive pairs, for ids of entities.
    pub(crate) fn longs(&self) -> Vec<(i64, i64)> {
        let number = |end: &End| end.value.as_long();
        self.0
            .iter()
            .filter_map(|interval| {
                let low = match &interval.low {
                    None => i64::MIN,
                    Some(end) => number(end)?.checked_add(i64::from(!end.inclusive))?,
                };
                let high = match &interval.high {
                    None => i64::MAX,
                    Some(end) => number(end)?.checked_sub(i64::from(!end.inclusive))?,
                };
                (low <= high).then_some((low, high))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{col, lit};
    use proptest::prelude::*;

    use super::*;

    fn long(name: &str) -> Option<ValueType> {
        (name == "n").then_some(ValueType::Long)
    }

    fn longs(filter: &Expr) -> Option<(Vec<(i64, i64)>, bool)> {
        constraint(filter, &long).map(|found| (found.ranges.longs(), found.exact))
    }

    #[test]
    fn comparisons_become_ranges() {
        const MIN: i64 = i64::MIN;
        const MAX: i64 = i64::MAX;
        let n = || col("n");
        for (filter, expected) in [
            (n().eq(lit(5i64)), vec![(5, 5)]),
            (n().gt(lit(5i64)), vec![(6, MAX)]),
            (lit(5i64).gt(n()), vec![(MIN, 4)]),
            (n().gt_eq(lit(5i64)).and(n().lt(lit(9i64))), vec![(5, 8)]),
            (n().between(lit(5i64), lit(9i64)), vec![(5, 9)]),
            (n().between(lit(9i64), lit(5i64)), vec![]),
            (
                n().in_list(vec![lit(3i64), lit(1i64), lit(3i64)], false),
                vec![(1, 1), (3, 3)],
            ),
            (
                n().in_list(vec![lit(3i64), lit(ScalarValue::Int64(None))], false),
                vec![(3, 3)],
            ),
            (
                n().eq(lit(1i64)).or(n().gt(lit(7i64))),
                vec![(1, 1), (8, MAX)],
            ),
            (n().lt(lit(7i64)).or(n().gt(lit(3i64))), vec![(MIN, MAX)]),
            (n().gt(lit(MAX)), vec![]),
        ] {
            assert_eq!(longs(&filter), Some((expected, true)), "{filter}");
        }
    }

    #[test]
    fn what_is_not_understood_narrows_nothing() {
        for filter in [
            col("n").not_eq(lit(5i64)),
            col("n").eq(lit(5i32)),
            col("n").eq(lit(ScalarValue::Int64(None))),
            col("n").eq(col("m")),
            col("m").eq(lit(5i64)),
            (col("n") + lit(1i64)).eq(lit(5i64)),
            col("n").in_list(vec![lit(5i64)], true),
            col("n").in_list(vec![col("m")], false),
            col("n").eq(lit(5i64)).or(col("m").eq(lit(5i64))),
            !col("n").eq(lit(5i64)),
        ] {
            assert_eq!(longs(&filter), None, "{filter}");
        }
        let both = col("n").eq(lit(5i64)).and(col("m").eq(lit(5i64)));
        assert_eq!(
            longs(&both),
            Some((vec![(5, 5)], false)),
            "the other side is still to be evaluated"
        );
    }

    fn of(value_type: ValueType, filter: &Expr) -> Option<(Ranges, bool)> {
        constraint(filter, &|_| Some(value_type)).map(|found| (found.ranges, found.exact))
    }

    #[test]
    fn keywords_are_looked_up_without_their_colon() {
        let point = |name| Some((Ranges::point(Value::Keyword(Keyword::new(name))), true));
        assert_eq!(
            of(ValueType::Keyword, &col("k").eq(lit(":a/b"))),
            point("a/b")
        );
        assert_eq!(
            of(ValueType::Keyword, &col("k").eq(lit("a/b"))),
            Some((Ranges::default(), true))
        );
        assert_eq!(of(ValueType::Keyword, &col("k").gt(lit("a/b"))), None);
    }

    #[test]
    fn uuids_are_found_by_the_text_they_are_shown_as() {
        let text = "6f1ed002-ab5d-4f8c-9d3f-27a3f9c54d4a";
        let (ranges, exact) = of(ValueType::Uuid, &col("u").eq(lit(text))).unwrap();
        assert!(exact && matches!(ranges.intervals()[0].only(), Some(Value::Uuid(_))));
        for other in [text.to_uppercase(), text.replace('-', ""), "x".into()] {
            assert_eq!(
                of(ValueType::Uuid, &col("u").eq(lit(other))),
                Some((Ranges::default(), true))
            );
        }
        assert_eq!(of(ValueType::Uuid, &col("u").gt(lit(text))), None);
    }

    #[test]
    fn long_text_has_no_sharp_bounds() {
        let long = "x".repeat(2000);
        let (ranges, exact) = of(ValueType::String, &col("s").eq(lit(long.clone()))).unwrap();
        assert!(exact && ranges.intervals()[0].only() == Some(&Value::string(long.as_str())));
        let (ranges, exact) = of(ValueType::String, &col("s").gt(lit(long.clone()))).unwrap();
        assert!(!exact && ranges.intervals()[0].low.as_ref().unwrap().inclusive);
        assert_eq!(of(ValueType::String, &col("s").lt(lit(long))), None);
    }

    #[test]
    fn decimals_compare_by_number() {
        let literal = |digits, scale| lit(ScalarValue::Decimal128(Some(digits), 38, scale));
        let one_half = Value::big_dec(&BigDecimalOf::new(15.into(), 1)).unwrap();
        assert_eq!(
            of(ValueType::BigDec, &col("d").eq(literal(1500, 3))),
            Some((Ranges::point(one_half), false))
        );
        assert_eq!(of(ValueType::BigInt, &col("d").eq(literal(15, 1))), None);
    }

    use bigdecimal::BigDecimal as BigDecimalOf;

    #[test]
    fn only_plain_filters_are_pushed_down() {
        use TableProviderFilterPushDown::{Exact, Unsupported};
        assert_eq!(classify(&col("n").like(lit("a%"))), Exact);
        assert_eq!(
            classify(&col("n").gt(datafusion::prelude::random())),
            Unsupported
        );
        let outer = Expr::OuterReferenceColumn(
            std::sync::Arc::new(arrow_schema::Field::new(
                "o",
                arrow_schema::DataType::Int64,
                true,
            )),
            datafusion::common::Column::from_name("o"),
        );
        assert_eq!(classify(&col("n").eq(outer)), Unsupported);
    }

    fn any_filter() -> impl Strategy<Value = Expr> {
        let leaf = prop_oneof![
            (-3..4i64, 0..5usize).prop_map(|(number, op)| {
                let op = [
                    Operator::Eq,
                    Operator::Lt,
                    Operator::LtEq,
                    Operator::Gt,
                    Operator::GtEq,
                ][op];
                Expr::BinaryExpr(BinaryExpr::new(
                    Box::new(col("n")),
                    op,
                    Box::new(lit(number)),
                ))
            }),
            prop::collection::vec(-3..4i64, 0..4)
                .prop_map(|items| col("n").in_list(items.into_iter().map(lit).collect(), false)),
        ];
        leaf.prop_recursive(4, 20, 2, |inner| {
            (inner.clone(), inner, any::<bool>())
                .prop_map(|(left, right, and)| if and { left.and(right) } else { left.or(right) })
        })
    }

    fn holds(filter: &Expr, n: i64) -> bool {
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (op, &**right) {
                (Operator::And, _) => holds(left, n) && holds(right, n),
                (Operator::Or, _) => holds(left, n) || holds(right, n),
                (op, Expr::Literal(ScalarValue::Int64(Some(number)), _)) => match op {
                    Operator::Eq => n == *number,
                    Operator::Lt => n < *number,
                    Operator::LtEq => n <= *number,
                    Operator::Gt => n > *number,
                    _ => n >= *number,
                },
                _ => unreachable!("the strategy makes no such filter"),
            },
            Expr::InList(InList { list, .. }) => list.contains(&lit(n)),
            _ => unreachable!("the strategy makes no such filter"),
        }
    }

    proptest! {
        #[test]
        fn ranges_hold_what_the_filter_lets_through(filter in any_filter()) {
            let found = constraint(&filter, &long).unwrap();
            prop_assert!(found.exact);
            let ranges = found.ranges.longs();
            for n in -5..6 {
                let within = ranges.iter().any(|&(low, high)| low <= n && n <= high);
                prop_assert_eq!(within, holds(&filter, n), "{} at {}", filter, n);
            }
        }
    }
}
