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
    fn to_double(&self) -> f64 {
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
    match i64::try_from(integer) {
        Ok(long) => cut_long(long),
        Err(_) => cut(
            integer.sign() == Sign::Minus,
            Digits::of_integer(integer.magnitude()),
        ),
    }
}

pub(crate) fn cut_decimal(decimal: &BigDecimal) -> Cut {
    cut(decimal.sign() == Sign::Minus, Digits::of_decimal(decimal))
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

/// A number as a big decimal without loss; `None` for the infinities and NaN.
pub(crate) fn exact_decimal(double: f64) -> Option<BigDecimal> {
    if !double.is_finite() {
        return None;
    }
    let Some(digits) = Digits::of_double(double) else {
        return Some(BigDecimal::from(0));
    };
    let unscaled = digits.to_unscaled(double < 0.0, 0)?;
    Some(BigDecimal::new(
        unscaled,
        i64::try_from(digits.scale()).ok()?,
    ))
}
