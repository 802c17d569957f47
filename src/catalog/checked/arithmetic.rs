//! The operators as scalar functions.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, downcast_integer};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::kernels::numeric;
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DecimalType, Field, FieldRef,
};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err, internal_err};
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::interval_arithmetic::{Interval, apply_operator};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::physical_expr_common::datum::apply;

/// An operator that DataFusion lets wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Add,
    Subtract,
    Multiply,
    Negate,
}

impl Operation {
    pub(super) const ALL: [Self; 4] = [Self::Add, Self::Subtract, Self::Multiply, Self::Negate];

    pub(super) fn of(operator: Operator) -> Option<Self> {
        match operator {
            Operator::Plus => Some(Self::Add),
            Operator::Minus => Some(Self::Subtract),
            Operator::Multiply => Some(Self::Multiply),
            _ => None,
        }
    }

    /// Whether this operator, with a left operand of this type, would wrap or leave its precision.
    pub(super) fn wraps_on(self, left: &DataType) -> bool {
        // The negative of a decimal has the same number of digits.
        left.is_integer() || (left.is_decimal() && self != Self::Negate)
    }

    fn operator(self) -> Operator {
        match self {
            Self::Add => Operator::Plus,
            Self::Subtract | Self::Negate => Operator::Minus,
            Self::Multiply => Operator::Multiply,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Add => "checked_add",
            Self::Subtract => "checked_subtract",
            Self::Multiply => "checked_multiply",
            Self::Negate => "checked_negate",
        }
    }
}

/// `+`, `-`, `*` or unary minus that fails instead of wrapping.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct CheckedOperator {
    operation: Operation,
    signature: Signature,
}

impl CheckedOperator {
    pub(super) fn new(operation: Operation) -> Self {
        let operands = if operation == Operation::Negate { 1 } else { 2 };
        Self {
            operation,
            signature: Signature::any(operands, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for CheckedOperator {
    fn name(&self) -> &str {
        self.operation.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The name that DataFusion gives the operator, so that columns keep theirs.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(match args {
            [arg] => format!("(- {})", arg.schema_name()),
            [left, right] => {
                format!(
                    "{} {} {}",
                    left.schema_name(),
                    self.operation.operator(),
                    right.schema_name()
                )
            }
            _ => return internal_err!("{} has one or two operands", self.name()),
        })
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [arg] => Ok(arg.clone()),
            [left, right] => {
                BinaryTypeCoercer::new(left, &self.operation.operator(), right).get_result_type()
            }
            _ => internal_err!("{} has one or two operands", self.name()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<_> = args
            .arg_fields
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(
            self.name(),
            self.return_type(&types)?,
            nullable,
        )))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[..] {
            [arg] => negate(arg),
            [left, right] if args.return_type().is_integer() => {
                integer(self.operation, left, right, args.return_type())
            }
            [left, right] => decimal(self.operation, left, right),
            _ => internal_err!("{} has one or two operands", self.name()),
        }
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        match inputs {
            [arg] => arg.arithmetic_negate(),
            [left, right] => apply_operator(&self.operation.operator(), left, right),
            _ => internal_err!("{} has one or two operands", self.name()),
        }
    }

    /// What does not wrap keeps the order of its operands.
    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        Ok(match (self.operation, inputs) {
            (Operation::Negate, [arg]) => -arg.sort_properties,
            (Operation::Add, [left, right]) => left.sort_properties.add(&right.sort_properties),
            (Operation::Subtract, [left, right]) => {
                left.sort_properties.sub(&right.sort_properties)
            }
            (_, inputs)
                if inputs
                    .iter()
                    .all(|i| i.sort_properties == SortProperties::Singleton) =>
            {
                SortProperties::Singleton
            }
            _ => SortProperties::Unordered,
        })
    }
}

/// One operand: a column or a constant.
enum Operand<'a, T: ArrowPrimitiveType> {
    Column(&'a PrimitiveArray<T>),
    Constant(Option<T::Native>),
}

impl<'a, T: ArrowPrimitiveType> Operand<'a, T> {
    fn new(value: &'a ColumnarValue, constant: &'a mut Option<ArrayRef>) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Array(array) => Self::Column(array.as_primitive()),
            ColumnarValue::Scalar(scalar) => {
                let array = constant.insert(scalar.to_array()?).as_primitive::<T>();
                Self::Constant(array.is_valid(0).then(|| array.value(0)))
            }
        })
    }
}

fn integer(
    operation: Operation,
    left: &ColumnarValue,
    right: &ColumnarValue,
    result: &DataType,
) -> Result<ColumnarValue> {
    macro_rules! dispatch {
        ($t:ty) => {
            integer_of::<$t>(operation, left, right)
        };
    }
    downcast_integer! {
        result => (dispatch),
        other => internal_err!("{} does not apply to {other}", operation.name()),
    }
}

fn integer_of<T>(
    operation: Operation,
    left: &ColumnarValue,
    right: &ColumnarValue,
) -> Result<ColumnarValue>
where
    T: ArrowPrimitiveType,
    T::Native: Flagging,
{
    for operand in [left, right] {
        if operand.data_type() != T::DATA_TYPE {
            return internal_err!(
                "{} got {} where {} is due",
                operation.name(),
                operand.data_type(),
                T::DATA_TYPE
            );
        }
    }
    // The operator is chosen once a batch, so that each loop holds one and vectorizes.
    match operation {
        Operation::Add => binary::<T>("+", left, right, T::Native::add),
        Operation::Subtract => binary::<T>("-", left, right, T::Native::subtract),
        Operation::Multiply => binary::<T>("*", left, right, T::Native::multiply),
        Operation::Negate => internal_err!("negation has one operand"),
    }
}

/// Applies `op` to every pair, then looks at the flags of all of them at once.
///
/// Computing first and asking afterwards keeps the loop free of branches; which row overflowed is looked
/// up only if one did, and values below a null do not count.
fn binary<T>(
    symbol: &str,
    left: &ColumnarValue,
    right: &ColumnarValue,
    op: impl Fn(T::Native, T::Native) -> (T::Native, T::Native) + Copy,
) -> Result<ColumnarValue>
where
    T: ArrowPrimitiveType,
    T::Native: Flagging,
{
    use Operand::{Column, Constant};
    let (mut left_array, mut right_array) = (None, None);
    let left = Operand::<T>::new(left, &mut left_array)?;
    let right = Operand::<T>::new(right, &mut right_array)?;
    let mut flags = T::Native::NO_FLAGS;
    let values: Vec<T::Native> = match (&left, &right) {
        (Column(left), Column(right)) => {
            if left.len() != right.len() {
                return internal_err!("operands differ in length");
            }
            map_flagged(
                left.values().iter().zip(right.values()),
                &mut flags,
                |(l, r)| op(*l, *r),
            )
        }
        (Column(left), Constant(Some(right))) => {
            map_flagged(left.values().iter(), &mut flags, |l| op(*l, *right))
        }
        (Constant(Some(left)), Column(right)) => {
            map_flagged(right.values().iter(), &mut flags, |r| op(*left, *r))
        }
        (Constant(Some(left)), Constant(Some(right))) => {
            map_flagged(std::iter::once(()), &mut flags, |()| op(*left, *right))
        }
        _ => {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_new_null(
                &T::DATA_TYPE,
            )?));
        }
    };
    let nulls = match (&left, &right) {
        (Column(left), Column(right)) => NullBuffer::union(left.nulls(), right.nulls()),
        (Column(column), _) | (_, Column(column)) => column.nulls().cloned(),
        _ => None,
    };
    if flags.flagged() {
        let at = |operand: &Operand<'_, T>, row: usize| match operand {
            Column(column) => column.value(row),
            Constant(constant) => constant.unwrap_or_default(),
        };
        let overflow = (0..values.len())
            .filter(|row| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*row)))
            .find(|row| op(at(&left, *row), at(&right, *row)).1.flagged());
        if let Some(row) = overflow {
            return exec_err!(
                "integer overflow in {:?} {symbol} {:?}",
                at(&left, row),
                at(&right, row)
            );
        }
    }
    let array = PrimitiveArray::<T>::new(values.into(), nulls);
    Ok(match (left, right) {
        (Constant(_), Constant(_)) => {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)
        }
        _ => ColumnarValue::Array(Arc::new(array)),
    })
}

fn map_flagged<I: ExactSizeIterator, N: Flagging>(
    operands: I,
    flags: &mut N,
    op: impl Fn(I::Item) -> (N, N),
) -> Vec<N> {
    let mut all = N::NO_FLAGS;
    let values = operands
        .map(|operands| {
            let (value, flag) = op(operands);
            all = all.with(flag);
            value
        })
        .collect();
    *flags = all;
    values
}

fn negate(arg: &ColumnarValue) -> Result<ColumnarValue> {
    let zero = ScalarValue::new_zero(&arg.data_type())?;
    // `0 - x` overflows exactly where `-x` does.
    integer(
        Operation::Subtract,
        &ColumnarValue::Scalar(zero),
        arg,
        &arg.data_type(),
    )
}

fn decimal(
    operation: Operation,
    left: &ColumnarValue,
    right: &ColumnarValue,
) -> Result<ColumnarValue> {
    let kernel = match operation {
        Operation::Add => numeric::add,
        Operation::Subtract => numeric::sub,
        Operation::Multiply => numeric::mul,
        Operation::Negate => return internal_err!("negation has one operand"),
    };
    let result = apply(left, right, kernel)?;
    // Arrow checks the width of the integers below, not the digits that the type promises.
    let checked = match &result {
        ColumnarValue::Array(array) => check_digits(array),
        ColumnarValue::Scalar(scalar) => check_digits(&scalar.to_array()?),
    };
    checked.map_err(|error| {
        exec_datafusion_err!(
            "decimal overflow in {}: {}",
            operation.operator(),
            error.strip_backtrace()
        )
    })?;
    Ok(result)
}

fn check_digits(array: &dyn Array) -> Result<()> {
    fn check<T: DecimalType>(array: &dyn Array, precision: u8) -> Result<()> {
        let array = array.as_primitive::<T>();
        // Short of the greatest precision, the type has room for every result.
        if precision == T::MAX_PRECISION {
            array.validate_decimal_precision(precision)?;
        }
        Ok(())
    }
    match array.data_type() {
        DataType::Decimal32(p, _) => check::<Decimal32Type>(array, *p),
        DataType::Decimal64(p, _) => check::<Decimal64Type>(array, *p),
        DataType::Decimal128(p, _) => check::<Decimal128Type>(array, *p),
        DataType::Decimal256(p, _) => check::<Decimal256Type>(array, *p),
        other => internal_err!("{other} is not a decimal"),
    }
}

/// Integer operations that return the wrapped result and, in the top bit of a second word, whether it
/// overflowed: no branch, so that a loop of them vectorizes.
trait Flagging: Copy + Default + std::fmt::Debug {
    const NO_FLAGS: Self;

    fn add(self, other: Self) -> (Self, Self);
    fn subtract(self, other: Self) -> (Self, Self);
    fn multiply(self, other: Self) -> (Self, Self);

    /// Flags of several operations, joined.
    fn with(self, other: Self) -> Self;

    /// Whether any of the joined operations overflowed.
    fn flagged(self) -> bool;
}

macro_rules! flagging {
    ($($native:ident)*, $add:expr, $subtract:expr) => {$(
        impl Flagging for $native {
            const NO_FLAGS: Self = 0;

            #[inline]
            fn add(self, other: Self) -> (Self, Self) {
                let sum = self.wrapping_add(other);
                (sum, $add(self, other, sum))
            }

            #[inline]
            fn subtract(self, other: Self) -> (Self, Self) {
                let difference = self.wrapping_sub(other);
                (difference, $subtract(self, other, difference))
            }

            #[inline]
            fn multiply(self, other: Self) -> (Self, Self) {
                let (product, overflow) = self.overflowing_mul(other);
                (product, Self::from(overflow) << (Self::BITS - 1))
            }

            #[inline]
            fn with(self, other: Self) -> Self {
                self | other
            }

            #[inline]
            fn flagged(self) -> bool {
                self >> (Self::BITS - 1) != 0
            }
        }
    )*};
}

// Signed: the result differs in sign from what both operands agree on.
flagging!(i8 i16 i32 i64, |l, r, out| (l ^ out) & (r ^ out), |l, r, out| (l ^ r) & (l ^ out));
// Unsigned: the carry, and the borrow, out of the top bit.
flagging!(
    u8 u16 u32 u64,
    |l, r, out: Self| (l & r) | ((l | r) & !out),
    |l: Self, r, out| (!l & r) | ((!l | r) & out)
);
