//! Sums wider than the type that they add up.

use std::fmt::Debug;

use datafusion::arrow::array::ArrowNativeTypeOp;
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DecimalType, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType,
    DurationSecondType, Int64Type, UInt64Type, i256,
};

/// `low + carry · 2^bits`: a sum modulo the width of its type, and how often the width was exceeded.
///
/// Every number has one such form, so it fits the type exactly if the carry is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wide<N> {
    pub(super) low: N,
    pub(super) carry: i64,
}

impl<N: Word> Wide<N> {
    #[inline]
    pub(super) fn add(&mut self, value: N) {
        let (low, overflow) = self.low.add(value);
        self.low = low;
        if overflow {
            self.carry += value.sign();
        }
    }

    pub(super) fn add_wide(&mut self, other: Self) {
        self.add(other.low);
        self.carry += other.carry;
    }

    pub(super) fn subtract_wide(&mut self, other: Self) {
        let (low, overflow) = self.low.subtract(other.low);
        self.low = low;
        if overflow {
            self.carry -= other.low.sign();
        }
        self.carry -= other.carry;
    }

    /// The sum, if it fits.
    pub(super) fn value(self) -> Option<N> {
        (self.carry == 0).then_some(self.low)
    }
}

/// A fixed-width number.
pub(super) trait Word: ArrowNativeTypeOp + Default {
    /// The sum, wrapped, and whether it was.
    fn add(self, other: Self) -> (Self, bool);

    /// The difference, wrapped, and whether it was.
    fn subtract(self, other: Self) -> (Self, bool);

    /// The direction in which adding this number overflows.
    fn sign(self) -> i64;
}

macro_rules! word {
    ($($native:ident, $negative:expr;)*) => {$(
        impl Word for $native {
            #[inline]
            fn add(self, other: Self) -> (Self, bool) {
                self.overflowing_add(other)
            }

            #[inline]
            fn subtract(self, other: Self) -> (Self, bool) {
                self.overflowing_sub(other)
            }

            fn sign(self) -> i64 {
                if $negative(self) { -1 } else { 1 }
            }
        }
    )*};
}

word! {
    i32, i32::is_negative;
    i64, i64::is_negative;
    i128, i128::is_negative;
    u64, |_| false;
}

impl Word for i256 {
    fn add(self, other: Self) -> (Self, bool) {
        (self.wrapping_add(other), self.checked_add(other).is_none())
    }

    fn subtract(self, other: Self) -> (Self, bool) {
        (self.wrapping_sub(other), self.checked_sub(other).is_none())
    }

    fn sign(self) -> i64 {
        if self.is_negative() { -1 } else { 1 }
    }
}

/// A type that can be summed exactly.
pub(super) trait Summable: ArrowPrimitiveType<Native: Word> + Debug + Send + Sync {
    /// Whether a value that fits the width fits the type as well.
    fn fits(_: Self::Native, _: &DataType) -> bool {
        true
    }

    /// The sum of a run without nulls.
    fn sum(values: &[Self::Native]) -> Wide<Self::Native> {
        values.iter().fold(Wide::default(), |mut sum, value| {
            sum.add(*value);
            sum
        })
    }
}

impl Summable for UInt64Type {}

macro_rules! summable_i64 {
    ($($t:ty)*) => {$(
        impl Summable for $t {
            fn sum(values: &[i64]) -> Wide<i64> {
                sum_i64(values)
            }
        }
    )*};
}

summable_i64! {
    Int64Type DurationSecondType DurationMillisecondType DurationMicrosecondType DurationNanosecondType
}

macro_rules! summable_decimal {
    ($($t:ident, $data_type:ident;)*) => {$(
        impl Summable for $t {
            fn fits(value: Self::Native, data_type: &DataType) -> bool {
                match data_type {
                    DataType::$data_type(precision, _) => {
                        Self::is_valid_decimal_precision(value, *precision)
                    }
                    _ => false,
                }
            }
        }
    )*};
}

summable_decimal! {
    Decimal32Type, Decimal32;
    Decimal64Type, Decimal64;
    Decimal128Type, Decimal128;
    Decimal256Type, Decimal256;
}

/// Adds up chunks in plain 64-bit words where no sum of them can overflow, which is nearly always.
///
/// The test, that all values of a chunk lie within ±2^49, is an addition and an OR a value, and
/// vectorizes with the sum.
fn sum_i64(values: &[i64]) -> Wide<i64> {
    const CHUNK: usize = 1 << 13;
    const BOUND: i64 = 1 << 49;
    let mut sum = Wide::default();
    for chunk in values.chunks(CHUNK) {
        let (mut plain, mut bits) = (0_i64, 0_i64);
        for value in chunk {
            plain = plain.wrapping_add(*value);
            bits |= value.wrapping_add(BOUND);
        }
        if (0..2 * BOUND).contains(&bits) {
            sum.add(plain);
        } else {
            for value in chunk {
                sum.add(*value);
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exact(sum: Wide<i64>) -> i128 {
        i128::from(sum.low) + (i128::from(sum.carry) << 64)
    }

    fn number() -> impl Strategy<Value = i64> {
        prop_oneof![
            any::<i64>(),
            -9..9_i64,
            Just(i64::MAX),
            Just(i64::MIN),
            Just(1 << 49),
            Just((1 << 49) - 1),
            Just(-(1 << 49)),
        ]
    }

    proptest! {
        #[test]
        fn a_wide_sum_is_exact(values in proptest::collection::vec(number(), 0..100)) {
            let expected: i128 = values.iter().copied().map(i128::from).sum();
            let sum = sum_i64(&values);
            prop_assert_eq!(exact(sum), expected);
            prop_assert_eq!(sum.value(), i64::try_from(expected).ok());

            let (left, right) = values.split_at(values.len() / 2);
            let mut merged = sum_i64(left);
            merged.add_wide(sum_i64(right));
            prop_assert_eq!(merged, sum);
            merged.subtract_wide(sum_i64(left));
            prop_assert_eq!(merged, sum_i64(right));
        }

        #[test]
        fn an_unsigned_sum_is_exact(values in proptest::collection::vec(any::<u64>(), 0..20)) {
            let expected: i128 = values.iter().copied().map(i128::from).sum();
            let mut sum = UInt64Type::sum(&values);
            prop_assert_eq!(i128::from(sum.low) + (i128::from(sum.carry) << 64), expected);
            for value in &values {
                sum.subtract_wide(Wide { low: *value, carry: 0 });
            }
            prop_assert_eq!(sum, Wide::default());
        }
    }

    #[test]
    fn a_full_chunk_of_the_largest_plain_values_is_exact() {
        for value in [(1 << 49) - 1, -(1 << 49), 1 << 49] {
            let values = vec![value; 3 << 13];
            assert_eq!(exact(sum_i64(&values)), i128::from(value) * (3 << 13));
        }
    }
}
