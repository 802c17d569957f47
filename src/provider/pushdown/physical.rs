//! What a physical expression says about columns, as ranges of values.
//!
//! Logical filters are known when a query is planned; physical ones are made while it runs, by joins from the keys
//! of their build side and by sorts from the rows they hold. The shapes are those that DataFusion makes:
//!
//! ```text
//! k >= 3 AND k <= 9 AND k IN (3, 5, 9)                      one build side
//! CASE hash(k) % 2 WHEN 0 THEN … WHEN 1 THEN … ELSE false   one of several: the branches together
//! v < 7 OR v IS NULL                                        the rows that a sort still wants
//! ```
//!
//! **Invariant.** As with logical filters, ranges never leave out a row for which the expression is true.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CaseExpr, Column, InListExpr, Literal};

use super::{Ranges, comparison};
use crate::value::ValueType;

/// The values that columns can have where an expression is true; see the [module page](self).
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Bounds {
    /// It is never true.
    Nothing,
    /// By the index of the column; a column that is not there can have any value.
    Within(BTreeMap<usize, Ranges>),
}

impl Bounds {
    /// Nothing is known: every value of every column may do.
    pub(crate) fn anything() -> Self {
        Self::Within(BTreeMap::new())
    }

    fn of(column: usize, ranges: Ranges) -> Self {
        if ranges.intervals().is_empty() {
            Self::Nothing
        } else {
            Self::Within(BTreeMap::from([(column, ranges)]))
        }
    }

    /// Where both are true.
    pub(crate) fn and(self, other: Self) -> Self {
        let (Self::Within(mut all), Self::Within(others)) = (self, other) else {
            return Self::Nothing;
        };
        for (column, ranges) in others {
            let both = match all.remove(&column) {
                Some(known) => known.intersect(&ranges),
                None => ranges,
            };
            if both.intervals().is_empty() {
                return Self::Nothing;
            }
            all.insert(column, both);
        }
        Self::Within(all)
    }

    /// Where at least one is true.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, one) | (one, Self::Nothing) => one,
            (Self::Within(all), Self::Within(mut others)) => {
                let both = all.into_iter().filter_map(|(column, ranges)| {
                    Some((column, ranges.union(others.remove(&column)?)))
                });
                Self::Within(both.collect())
            }
        }
    }
}

/// Finds what an expression says about its columns.
///
/// `type_of` tells the value type of a column whose values can be looked up, by the column's index.
pub(crate) fn bounds(
    expr: &Arc<dyn PhysicalExpr>,
    type_of: &dyn Fn(usize) -> Option<ValueType>,
) -> Bounds {
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        return match literal.value() {
            ScalarValue::Boolean(Some(true)) => Bounds::anything(),
            ScalarValue::Boolean(_) | ScalarValue::Null => Bounds::Nothing,
            _ => Bounds::anything(),
        };
    }
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        let (left, right) = (binary.left(), binary.right());
        return match binary.op() {
            Operator::And => bounds(left, type_of).and(bounds(right, type_of)),
            Operator::Or => bounds(left, type_of).or(bounds(right, type_of)),
            op => compared(left, *op, right, type_of).unwrap_or_else(Bounds::anything),
        };
    }
    if let Some(list) = expr.downcast_ref::<InListExpr>() {
        return listed(list, type_of).unwrap_or_else(Bounds::anything);
    }
    if let Some(case) = expr.downcast_ref::<CaseExpr>() {
        let branches = case.when_then_expr().iter().map(|(_, then)| then);
        return branches
            .chain(case.else_expr())
            .map(|branch| bounds(branch, type_of))
            .fold(Bounds::Nothing, Bounds::or);
    }
    Bounds::anything()
}

fn compared(
    left: &Arc<dyn PhysicalExpr>,
    op: Operator,
    right: &Arc<dyn PhysicalExpr>,
    type_of: &dyn Fn(usize) -> Option<ValueType>,
) -> Option<Bounds> {
    let column = |expr: &Arc<dyn PhysicalExpr>| Some(expr.downcast_ref::<Column>()?.index());
    let (column, op, literal) = match (column(left), column(right)) {
        (Some(column), None) => (column, op, right),
        (None, Some(column)) => (column, op.swap()?, left),
        _ => return None,
    };
    let literal = literal.downcast_ref::<Literal>()?.value();
    let found = comparison("", op, literal, type_of(column)?)?;
    Some(Bounds::of(column, found.ranges))
}

fn listed(list: &InListExpr, type_of: &dyn Fn(usize) -> Option<ValueType>) -> Option<Bounds> {
    if list.negated() {
        return None;
    }
    let column = list.expr().downcast_ref::<Column>()?.index();
    let value_type = type_of(column)?;
    let mut intervals = Vec::with_capacity(list.len());
    for item in list.list() {
        let literal = item.downcast_ref::<Literal>()?.value();
        // `x IN (1, NULL)` is true or NULL, never false: NULL adds no row.
        if !literal.is_null() {
            let one = comparison("", Operator::Eq, literal, value_type)?;
            intervals.extend(one.ranges.0);
        }
    }
    Some(Bounds::of(column, Ranges::new(intervals)))
}

#[cfg(test)]
mod tests {
    use arrow_array::{BooleanArray, Int64Array, RecordBatch};
    use arrow_schema::{DataType, Field, Schema};
    use datafusion::physical_expr::expressions::{in_list, is_null, lit};
    use proptest::prelude::*;

    use super::*;

    fn schema() -> Arc<Schema> {
        let field = |name| Field::new(name, DataType::Int64, true);
        Arc::new(Schema::new(vec![field("a"), field("b")]))
    }

    fn column(at: usize) -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new(["a", "b"][at], at))
    }

    fn binary(
        left: Arc<dyn PhysicalExpr>,
        op: Operator,
        right: Arc<dyn PhysicalExpr>,
    ) -> Arc<dyn PhysicalExpr> {
        Arc::new(BinaryExpr::new(left, op, right))
    }

    /// What joins and sorts make, and what is not understood.
    fn any_expr() -> impl Strategy<Value = Arc<dyn PhysicalExpr>> {
        let ops = [
            Operator::Eq,
            Operator::NotEq,
            Operator::Lt,
            Operator::LtEq,
            Operator::Gt,
            Operator::GtEq,
        ];
        let leaf = prop_oneof![
            (0..2usize, -3..4i64, 0..6usize, any::<bool>()).prop_map(
                move |(at, number, op, swapped)| if swapped {
                    binary(lit(number), ops[op], column(at))
                } else {
                    binary(column(at), ops[op], lit(number))
                }
            ),
            (
                0..2usize,
                prop::collection::vec(prop::option::of(-3..4i64), 0..4),
                any::<bool>()
            )
                .prop_map(|(at, items, negated)| {
                    let items = items
                        .into_iter()
                        .map(|item| lit(ScalarValue::Int64(item)))
                        .collect();
                    in_list(column(at), items, &negated, &schema()).unwrap()
                }),
            (0..2usize).prop_map(|at| is_null(column(at)).unwrap()),
            prop::option::of(any::<bool>()).prop_map(|truth| lit(ScalarValue::Boolean(truth))),
        ];
        leaf.prop_recursive(4, 24, 3, |inner| {
            let pair =
                (inner.clone(), inner.clone(), any::<bool>()).prop_map(|(left, right, and)| {
                    binary(left, if and { Operator::And } else { Operator::Or }, right)
                });
            let case = (
                prop::collection::vec(inner.clone(), 1..3),
                prop::option::of(inner),
            )
                .prop_map(|(branches, otherwise)| {
                    let routed = binary(column(0), Operator::Modulo, lit(2i64));
                    let branches = branches.into_iter().zip(0i64..);
                    let branches = branches.map(|(then, at)| (lit(at), then)).collect();
                    Arc::new(CaseExpr::try_new(Some(routed), branches, otherwise).unwrap()) as _
                });
            prop_oneof![pair, case]
        })
    }

    proptest! {
        #[test]
        fn bounds_hold_every_row_for_which_the_expression_is_true(expr in any_expr()) {
            let numbers: Vec<Option<i64>> = (-5..6).map(Some).chain([None]).collect();
            let pairs = || numbers.iter().flat_map(|a| numbers.iter().map(move |b| [*a, *b]));
            let cells = |at: usize| Arc::new(pairs().map(|pair| pair[at]).collect::<Int64Array>()) as _;
            let batch = RecordBatch::try_new(schema(), vec![cells(0), cells(1)]).unwrap();
            let passed = expr.evaluate(&batch).unwrap().into_array(batch.num_rows()).unwrap();
            let passed: &BooleanArray = arrow_array::cast::AsArray::as_boolean(&*passed);
            let found = bounds(&expr, &|_| Some(ValueType::Long));
            for (pair, passed) in pairs().zip(passed) {
                if passed != Some(true) {
                    continue;
                }
                let Bounds::Within(within) = &found else {
                    panic!("{expr} is true of {pair:?}");
                };
                for (column, ranges) in within {
                    let n = pair[*column].expect("ranges leave NULL out only where nothing is true");
                    let inside = ranges.longs().iter().any(|&(low, high)| low <= n && n <= high);
                    prop_assert!(inside, "{} is true of {:?}", expr, pair);
                }
            }
        }
    }

    #[test]
    fn what_joins_and_sorts_make_is_understood() {
        let longs = |expr: Arc<dyn PhysicalExpr>| match bounds(&expr, &|_| Some(ValueType::Long)) {
            Bounds::Nothing => None,
            Bounds::Within(within) => {
                let ranges = within.into_iter().map(|(at, ranges)| (at, ranges.longs()));
                Some(ranges.collect::<Vec<_>>())
            }
        };
        let keys = |items: &[i64]| {
            let items = items.iter().map(|item| lit(*item)).collect();
            in_list(column(0), items, &false, &schema()).unwrap()
        };
        let low = binary(column(0), Operator::GtEq, lit(3i64));
        let both = binary(Arc::clone(&low), Operator::And, keys(&[9, 3, 1]));
        assert_eq!(
            longs(Arc::clone(&both)),
            Some(vec![(0, vec![(3, 3), (9, 9)])])
        );
        let routed = binary(column(0), Operator::Modulo, lit(2i64));
        let branches = vec![(lit(0i64), both), (lit(1i64), keys(&[5]))];
        let case = CaseExpr::try_new(Some(routed), branches, Some(lit(false))).unwrap();
        let expected = Some(vec![(0, vec![(3, 3), (5, 5), (9, 9)])]);
        assert_eq!(longs(Arc::new(case)), expected);
        let nulls_first = binary(is_null(column(0)).unwrap(), Operator::Or, Arc::clone(&low));
        assert_eq!(longs(nulls_first), Some(vec![]), "NULL is in no range");
        assert_eq!(longs(lit(false)), None);
        assert_eq!(longs(binary(low, Operator::And, keys(&[1]))), None);
    }
}
