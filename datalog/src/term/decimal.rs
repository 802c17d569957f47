//! Numbers as decimal digits, where the exact value of different kinds must be compared.
//!
//! Every number of the language but the infinities and NaN is a finite decimal fraction: doubles too,
//! for they are fractions of powers of two. So digits are the notation that all of them share.

use std::cmp::Ordering;

use bigdecimal::BigDecimal;
use num_bigint::{BigInt, Sign};

/// A magnitude above zero: `0.digits × 10^point`.
///
/// **Invariant.** The digits are not empty, and neither the first nor the last is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digits {
    /// Digits in ASCII.
    pub(crate) digits: String,
    /// Place of the decimal point. Wider than the scale of any big decimal.
    pub(crate) point: i128,
}

impl Digits {
    /// From digits with zeros on either side; `None` if there are only zeros.
    pub(crate) fn new(digits: &str, point: i128) -> Option<Self> {
        let trimmed = digits.trim_start_matches('0');
        let point = point - (digits.len() - trimmed.len()) as i128;
        let digits = trimmed.trim_end_matches('0').to_owned();
        (!digits.is_empty()).then_some(Self { digits, point })
    }

    pub(crate) fn of_integer(magnitude: impl ToString) -> Option<Self> {
        let digits = magnitude.to_string();
        let point = digits.len() as i128;
        Self::new(&digits, point)
    }

    pub(crate) fn of_decimal(number: &BigDecimal) -> Option<Self> {
        let (unscaled, scale) = number.as_bigint_and_scale();
        let digits = unscaled.magnitude().to_string();
        let point = digits.len() as i128 - i128::from(scale);
        Self::new(&digits, point)
    }

    /// All digits of a double, which is finite.
    pub(crate) fn of_double(double: f64) -> Option<Self> {
        // No double has more than 767 significant digits, and with a precision they are all exact.
        let text = format!("{:.770e}", double.abs());
        let (digits, exponent) = text.split_once('e')?;
        Self::new(&digits.replace('.', ""), exponent.parse::<i128>().ok()? + 1)
    }

    /// The double next to this, which may be infinite.
    pub(crate) fn to_double(&self) -> f64 {
        match self.point {
            ..-400 => 0.0,
            400.. => f64::INFINITY,
            point => format!("0.{}e{point}", self.digits)
                .parse()
                .unwrap_or(f64::NAN),
        }
    }

    /// How many decimal places the digits take; below zero, zeros follow the digits.
    pub(crate) fn scale(&self) -> i128 {
        self.digits.len() as i128 - self.point
    }

    /// The integer of these digits without their point, with some zeros behind.
    pub(crate) fn to_unscaled(&self, is_negative: bool, zeros: usize) -> Option<BigInt> {
        let sign = if is_negative { "-" } else { "" };
        let digits = &self.digits;
        format!("{sign}{digits}{:0<zeros$}", "").parse().ok()
    }
}

impl Ord for Digits {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.point.cmp(&other.point)).then_with(|| self.digits.cmp(&other.digits))
    }
}

impl PartialOrd for Digits {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A number cut in two: the last double that is not above it, and its digits if that is below it.
pub(crate) type Cut = (f64, Option<Digits>);

pub(crate) fn cut_long(long: i64) -> Cut {
    #[allow(clippy::cast_precision_loss, reason = "the loss is found below")]
    let double = long as f64;
    if long.unsigned_abs() <= 1 << 53 {
        return (double, None);
    }
    #[allow(clippy::cast_possible_truncation, reason = "no wider than 65 bits")]
    let floor = match (double as i128).cmp(&i128::from(long)) {
        Ordering::Equal => return (double, None),
        Ordering::Less => double,
        Ordering::Greater => double.next_down(),
    };
    (floor, Digits::of_integer(long.unsigned_abs()))
}

pub(crate) fn cut_integer(integer: &BigInt) -> Cut {
    if let Ok(long) = i64::try_from(integer) {
        return cut_long(long);
    }
    let magnitude = integer.magnitude();
    let is_negative = integer.sign() == Sign::Minus;
    // The first 53 bits, towards zero.
    let shift = magnitude.bits().saturating_sub(53);
    #[allow(clippy::cast_precision_loss, reason = "53 bits are exact in a double")]
    let near = match u64::try_from(magnitude >> shift) {
        Ok(bits) if shift <= 1024 - 53 => bits as f64 * f64::from_bits((1023 + shift) << 52),
        _ => f64::MAX,
    };
    let is_exact = near < f64::MAX && magnitude.trailing_zeros() >= Some(shift);
    match (is_exact, is_negative) {
        (true, false) => (near, None),
        (true, true) => (-near, None),
        // The greatest double itself comes here too.
        (false, _) if near >= f64::MAX => cut(is_negative, Digits::of_integer(magnitude)),
        (false, false) => (near, Digits::of_integer(magnitude)),
        (false, true) => (-near.next_up(), Digits::of_integer(magnitude)),
    }
}

pub(crate) fn cut_decimal(decimal: &BigDecimal) -> Cut {
    let is_negative = decimal.sign() == Sign::Minus;
    let digits = Digits::of_decimal(decimal);
    match (digits, near_small(decimal)) {
        (Some(digits), Some((near, order))) => cut_near(is_negative, digits, near, order),
        (digits, _) => cut(is_negative, digits),
    }
}

/// The double next to the magnitude of a decimal, and how they compare, where words suffice for it.
fn near_small(decimal: &BigDecimal) -> Option<(f64, Ordering)> {
    let (unscaled, scale) = decimal.as_bigint_and_scale();
    let unscaled = u64::try_from(unscaled.magnitude()).ok()?;
    let power = 10_u64.checked_pow(u32::try_from(scale).ok()?)?;
    // Both are exact, so one division rounds once.
    if unscaled == 0 || unscaled > 1 << 53 || scale > 18 {
        return None;
    }
    #[allow(
        clippy::cast_precision_loss,
        reason = "exact up to 2⁵³, and for such powers of ten"
    )]
    let near = unscaled as f64 / power as f64;
    // A normal double: its mantissa and its exponent, which is not above zero.
    let bits = near.to_bits();
    let mantissa = u128::from(bits & ((1 << 52) - 1) | 1 << 52);
    let places = 1075_u32.checked_sub(u32::try_from(bits >> 52).ok()?)?;
    let wanted = u128::from(unscaled).checked_mul(1_u128.checked_shl(places)?)?;
    Some((near, (mantissa * u128::from(power)).cmp(&wanted)))
}

fn cut(is_negative: bool, digits: Option<Digits>) -> Cut {
    let Some(digits) = digits else {
        return (0.0, None);
    };
    let near = digits.to_double();
    let order = if near.is_finite() {
        Digits::of_double(near).map_or(Ordering::Less, |near| near.cmp(&digits))
    } else {
        Ordering::Greater
    };
    cut_near(is_negative, digits, near, order)
}

/// Cuts at a double next to a magnitude, of which it is known how it compares with it.
fn cut_near(is_negative: bool, digits: Digits, near: f64, order: Ordering) -> Cut {
    let floor = match (order, is_negative) {
        (Ordering::Equal, false) => return (near, None),
        (Ordering::Equal, true) => return (-near, None),
        (Ordering::Less, false) => near,
        (Ordering::Greater, false) => near.next_down(),
        (Ordering::Less, true) => -near.next_up(),
        (Ordering::Greater, true) => -near,
    };
    (floor, Some(digits))
}

pub(crate) fn compare_decimals(a: &BigDecimal, b: &BigDecimal) -> Ordering {
    let ((a_unscaled, a_scale), (b_unscaled, b_scale)) =
        (a.as_bigint_and_scale(), b.as_bigint_and_scale());
    if a_scale == b_scale {
        return a_unscaled.cmp(&b_unscaled);
    }
    (a.sign().cmp(&b.sign())).then_with(|| {
        // The library would expand numbers far apart to a common scale.
        let order = Digits::of_decimal(a).cmp(&Digits::of_decimal(b));
        if a.sign() == Sign::Minus {
            order.reverse()
        } else {
            order
        }
    })
}

/// Compares a decimal with a long, where words suffice for it.
pub(crate) fn compare_small(decimal: &BigDecimal, long: i64) -> Option<Ordering> {
    let (unscaled, scale) = decimal.as_bigint_and_scale();
    let unscaled = i64::try_from(&*unscaled).ok()?;
    let power = 10_i64.checked_pow(u32::try_from(scale).ok()?)?;
    Some(i128::from(unscaled).cmp(&(i128::from(long) * i128::from(power))))
}

pub(crate) fn compare_long_to_double(long: i64, double: f64) -> Ordering {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if double.is_nan() || double >= LIMIT {
        return Ordering::Less;
    }
    if double < -LIMIT {
        return Ordering::Greater;
    }
    let whole = double.trunc();
    #[allow(clippy::cast_possible_truncation, reason = "whole and in range")]
    let order = long.cmp(&(whole as i64));
    order.then_with(|| compare_doubles(whole, double))
}

/// Compares as numbers: one zero, one NaN, which is last.
pub(crate) fn compare_doubles(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b)
        .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// The long that a double is, if it is one.
pub(crate) fn exact_long(double: f64) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation, reason = "checked at once")]
    let long = double as i64;
    (compare_long_to_double(long, double) == Ordering::Equal).then_some(long)
}

/// The integer that a double is, if it is one.
pub(crate) fn exact_integer(double: f64) -> Option<BigInt> {
    if double.is_finite() && double.fract() == 0.0 {
        format!("{double:.0}").parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::term::Term;
    use crate::term::strategy::number;

    fn exact(double: f64) -> BigDecimal {
        BigDecimal::try_from(double).unwrap()
    }

    fn check(number: &BigDecimal, (floor, rest): Cut) -> Result<(), TestCaseError> {
        prop_assert_eq!(floor.is_finite() && exact(floor) == *number, rest.is_none());
        if floor.is_finite() {
            prop_assert!(exact(floor) <= *number, "{} {}", floor, number);
        }
        if floor.next_up().is_finite() {
            prop_assert!(exact(floor.next_up()) > *number, "{} {}", floor, number);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn a_cut_is_the_last_double_not_above(number in number()) {
            match number {
                Term::Long(long) => check(&long.into(), cut_long(long))?,
                Term::BigInt(integer) => check(&(*integer).clone().into(), cut_integer(&integer))?,
                Term::BigDec(number) => check(&number, cut_decimal(&number))?,
                _ => {}
            }
        }

        #[test]
        fn a_price_is_cut_there_too(cents in any::<i64>(), shift in 0..60_u32, scale in 0..25_i64) {
            let price = BigDecimal::new((cents >> shift).into(), scale);
            check(&price, cut_decimal(&price))?;
            let scale = u32::try_from(scale).unwrap();
            let whole = BigInt::from(cents) * BigInt::from(10).pow(scale * 13);
            check(&whole.clone().into(), cut_integer(&whole))?;
        }
    }

    #[test]
    fn the_ends_of_doubles_are_cut() {
        let largest = exact_integer(f64::MAX).unwrap();
        assert_eq!(cut_integer(&largest), (f64::MAX, None));
        assert_eq!(cut_integer(&-&largest), (f64::MIN, None));
        for (integer, floor) in [
            (&largest + 1, f64::MAX),
            (-&largest - 1, f64::NEG_INFINITY),
            (&largest - 1, f64::MAX.next_down()),
            (BigInt::from(10).pow(400), f64::MAX),
        ] {
            assert_eq!(cut_integer(&integer).0.to_bits(), floor.to_bits());
        }
    }
}
