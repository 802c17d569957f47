//! `sum` that fails when the total does not fit its type, and only then.
//!
//! Same name, types and results as DataFusion's. What matters is the total, not the way to it: partial sums
//! carry what they lost, so `MAX + 1 - 1` is `MAX` in whatever order and over however many partitions it
//! is added up. Floats and calendar intervals are DataFusion's own.

mod distinct;
mod groups;
mod wide;

use std::fmt::Debug;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType,
    Field, FieldRef, Int64Type, TimeUnit, UInt64Type,
};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, GroupsAccumulator, ReversedUDAF, SetMonotonicity,
    Signature,
};

use distinct::{DistinctSum, SlidingDistinctSum};
use groups::GroupsSum;
use wide::{Summable, Wide};

/// The aggregate function.
///
/// Two of DataFusion's shortcuts are left out on purpose: `sum(a + 1)` is not turned into
/// `sum(a) + count(a)`, which may overflow where the original does not, and no total is taken from
/// statistics, which wrap.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct CheckedSum {
    theirs: Sum,
}

/// Instantiates `$ours` for the type that holds the total, or evaluates `$theirs`.
macro_rules! by_type {
    ($total:expr, $ours:ident, $theirs:expr) => {
        match $total {
            DataType::Int64 => $ours!(Int64Type),
            DataType::UInt64 => $ours!(UInt64Type),
            DataType::Decimal32(..) => $ours!(Decimal32Type),
            DataType::Decimal64(..) => $ours!(Decimal64Type),
            DataType::Decimal128(..) => $ours!(Decimal128Type),
            DataType::Decimal256(..) => $ours!(Decimal256Type),
            DataType::Duration(TimeUnit::Second) => $ours!(DurationSecondType),
            DataType::Duration(TimeUnit::Millisecond) => $ours!(DurationMillisecondType),
            DataType::Duration(TimeUnit::Microsecond) => $ours!(DurationMicrosecondType),
            DataType::Duration(TimeUnit::Nanosecond) => $ours!(DurationNanosecondType),
            _ => $theirs,
        }
    };
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        self.theirs.name()
    }

    fn signature(&self) -> &Signature {
        self.theirs.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.theirs.return_type(types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        macro_rules! ours {
            ($t:ty) => {
                if args.is_distinct {
                    let total = Total::new(&args);
                    Ok(Box::new(DistinctSum::<$t>::new(
                        self.theirs.accumulator(args)?,
                        total,
                    )))
                } else {
                    Ok(Box::new(PlainSum::<$t>::new(Total::new(&args))))
                }
            };
        }
        by_type!(
            args.return_field.data_type(),
            ours,
            self.theirs.accumulator(args)
        )
    }

    /// The total modulo the width of its type, and how often the width was exceeded.
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if args.is_distinct {
            return self.theirs.state_fields(args);
        }
        macro_rules! ours {
            ($t:ty) => {
                Ok(vec![
                    Arc::new(Field::new(
                        format_state_name(args.name, "sum"),
                        args.return_type().clone(),
                        true,
                    )),
                    Arc::new(Field::new(
                        format_state_name(args.name, "carry"),
                        DataType::Int64,
                        true,
                    )),
                ])
            };
        }
        by_type!(args.return_type(), ours, self.theirs.state_fields(args))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.theirs.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        macro_rules! ours {
            ($t:ty) => {
                Ok(Box::new(GroupsSum::<$t>::new(Total::new(&args))))
            };
        }
        by_type!(
            args.return_field.data_type(),
            ours,
            self.theirs.create_groups_accumulator(args)
        )
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return match args.return_field.data_type() {
                DataType::Int64 => Ok(Box::new(SlidingDistinctSum::new(Total::new(&args)))),
                _ => self.theirs.create_sliding_accumulator(args),
            };
        }
        macro_rules! ours {
            ($t:ty) => {
                Ok(Box::new(PlainSum::<$t>::new(Total::new(&args))))
            };
        }
        by_type!(
            args.return_field.data_type(),
            ours,
            self.theirs.create_sliding_accumulator(args)
        )
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.theirs.documentation()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.theirs.set_monotonicity(data_type)
    }
}

/// What a total must fit, and what to call it when it does not.
#[derive(Clone, Debug)]
struct Total {
    name: String,
    data_type: DataType,
}

impl Total {
    fn new(args: &AccumulatorArgs) -> Self {
        Self {
            name: args.name.to_owned(),
            data_type: args.return_field.data_type().clone(),
        }
    }

    /// The value of a total.
    fn fit<T: Summable>(&self, total: Wide<T::Native>) -> Result<T::Native> {
        match total.value() {
            Some(value) if T::fits(value, &self.data_type) => Ok(value),
            _ => self.overflow(),
        }
    }

    fn overflow<V>(&self) -> Result<V> {
        exec_err!(
            "overflow in {}: the total does not fit {}",
            self.name,
            self.data_type
        )
    }

    fn scalar<T: ArrowPrimitiveType>(&self, value: Option<T::Native>) -> Result<ScalarValue> {
        ScalarValue::new_primitive::<T>(value, &self.data_type)
    }
}

/// `sum` without groups, over a whole partition or a sliding frame.
#[derive(Debug)]
struct PlainSum<T: Summable> {
    sum: Wide<T::Native>,
    count: usize,
    total: Total,
}

impl<T: Summable> PlainSum<T> {
    fn new(total: Total) -> Self {
        Self {
            sum: Wide::default(),
            count: 0,
            total,
        }
    }
}

impl<T: Summable> Accumulator for PlainSum<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<T>();
        self.count += values.len() - values.null_count();
        self.sum.add_wide(sum_of(values));
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<T>();
        self.count -= values.len() - values.null_count();
        self.sum.subtract_wide(sum_of(values));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let value = if self.count == 0 {
            None
        } else {
            Some(self.total.fit::<T>(self.sum)?)
        };
        self.total.scalar::<T>(value)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let seen = self.count != 0;
        Ok(vec![
            self.total.scalar::<T>(seen.then_some(self.sum.low))?,
            ScalarValue::Int64(seen.then_some(self.sum.carry)),
        ])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)?;
        for carry in states[1].as_primitive::<Int64Type>().iter().flatten() {
            self.sum.carry += carry;
        }
        Ok(())
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

fn sum_of<T: Summable>(values: &PrimitiveArray<T>) -> Wide<T::Native> {
    let slice = values.values();
    match values.nulls() {
        Some(nulls) if nulls.null_count() > 0 => {
            nulls
                .valid_slices()
                .fold(Wide::default(), |mut sum, (start, end)| {
                    sum.add_wide(T::sum(&slice[start..end]));
                    sum
                })
        }
        _ => T::sum(slice),
    }
}
