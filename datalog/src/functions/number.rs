//! Arithmetic on longs, big integers, decimals and doubles, mixed as in Clojure.
//!
//! Two numbers are computed as the wider of their kinds, in this order: long, big integer, decimal,
//! double. **Invariant.** No number has more than [`DIGITS_MAX`] digits or decimal places, before or after:
//! so each operation is bounded, and every result can be printed and read.

use std::cmp::Ordering;
use std::num::NonZeroU64;

use bigdecimal::{BigDecimal, RoundingMode};
use num_bigint::{BigInt, Sign};

use super::{Answer, Call, Functions};
use crate::term::Term;
use crate::term::decimal::Digits;

/// Most digits of a number, and most decimal places of either sign.
const DIGITS_MAX: u64 = 4096;
/// Bits of an integer that certainly has no more digits.
const BITS_MAX: u64 = 13_606;
/// Digits of a decimal that does not end.
const QUOTIENT_DIGITS: u64 = 34;

/// A number of one of four kinds.
#[derive(Clone, Debug)]
pub(crate) enum Number {
    Long(i64),
    Integer(BigInt),
    Decimal(BigDecimal),
    Double(f64),
}

/// Two numbers, made the same kind.
enum Pair {
    Longs(i64, i64),
    Integers(BigInt, BigInt),
    Decimals(BigDecimal, BigDecimal),
    Doubles(f64, f64),
}

/// An operation on each kind; `None` overflows.
struct Operation {
    longs: fn(i64, i64) -> Option<i64>,
    integers: fn(BigInt, BigInt) -> BigInt,
    decimals: fn(BigDecimal, BigDecimal) -> BigDecimal,
    doubles: fn(f64, f64) -> f64,
}

const ADD: Operation = Operation {
    longs: i64::checked_add,
    integers: |a, b| a + b,
    decimals: |a, b| a + b,
    doubles: |a, b| a + b,
};
const SUBTRACT: Operation = Operation {
    longs: i64::checked_sub,
    integers: |a, b| a - b,
    decimals: |a, b| a - b,
    doubles: |a, b| a - b,
};
const MULTIPLY: Operation = Operation {
    longs: i64::checked_mul,
    integers: |a, b| a * b,
    decimals: |a, b| a * b,
    doubles: |a, b| a * b,
};
const QUOTIENT: Operation = Operation {
    longs: i64::checked_div,
    integers: |a, b| a / b,
    decimals: |a, b| {
        let (a, b, _) = aligned(&a, &b);
        BigDecimal::new(a / b, 0)
    },
    doubles: |a, b| (a / b).trunc(),
};
const REMAINDER: Operation = Operation {
    // The remainder of the least long by -1 is zero, though the quotient overflows.
    longs: |a, b| Some(a.wrapping_rem(b)),
    integers: |a, b| a % b,
    decimals: |a, b| {
        let (a, b, scale) = aligned(&a, &b);
        BigDecimal::new(a % b, scale)
    },
    doubles: |a, b| a % b,
};

pub(super) fn add_to(functions: &mut Functions) {
    functions.add("+", 0.., |call| fold(call, Number::Long(0), &ADD));
    functions.add("*", 0.., |call| fold(call, Number::Long(1), &MULTIPLY));
    functions.add("-", 1.., |call| match call.args {
        [_] => apply(call, Number::Long(0), number(call, 0)?, &SUBTRACT).map(Term::from),
        _ => reduce(call, |a, b| apply(call, a, b, &SUBTRACT)),
    });
    functions.add("/", 1.., |call| match call.args {
        [_] => divide(call, Number::Long(1), number(call, 0)?).map(Term::from),
        _ => reduce(call, |a, b| divide(call, a, b)),
    });
    functions.add("quot", 2, |call| whole(call, &QUOTIENT).map(Term::from));
    functions.add("rem", 2, |call| whole(call, &REMAINDER).map(Term::from));
    functions.add("mod", 2, |call| {
        let (rest, divisor) = (whole(call, &REMAINDER)?, number(call, 1)?);
        if rest.is_zero() || rest.is_negative() == divisor.is_negative() {
            return Ok(rest.into());
        }
        apply(call, rest, divisor, &ADD).map(Term::from)
    });
    functions.add("inc", 1, |call| {
        apply(call, number(call, 0)?, Number::Long(1), &ADD).map(Term::from)
    });
    functions.add("dec", 1, |call| {
        apply(call, number(call, 0)?, Number::Long(1), &SUBTRACT).map(Term::from)
    });
    functions.add("abs", 1, |call| match number(call, 0)? {
        Number::Double(double) => Ok(Term::Double(double.abs())),
        number if number.is_negative() => {
            apply(call, Number::Long(0), number, &SUBTRACT).map(Term::from)
        }
        number => Ok(number.into()),
    });
    functions.add("zero?", 1, |call| Ok(number(call, 0)?.is_zero().into()));
    functions.add("pos?", 1, |call| {
        Ok((number(call, 0)?.sign() == Some(Ordering::Greater)).into())
    });
    functions.add("neg?", 1, |call| Ok(number(call, 0)?.is_negative().into()));
    functions.add("even?", 1, |call| Ok((!is_odd(call)?).into()));
    functions.add("odd?", 1, |call| Ok(is_odd(call)?.into()));
}

/// The argument as a double: the nearest, if it is another number.
pub(crate) fn double(call: &Call<'_>, at: usize) -> Result<f64, String> {
    number(call, at).map(|number| number.to_double())
}

fn number(call: &Call<'_>, at: usize) -> Result<Number, String> {
    Number::of(call, &call.args[at])
}

fn is_odd(call: &Call<'_>) -> Result<bool, String> {
    match &call.args[0] {
        Term::Long(long) => Ok(long & 1 == 1),
        Term::BigInt(integer) => Ok(integer.bit(0)),
        other => call.wrong("integers", other),
    }
}

fn fold(call: &Call<'_>, start: Number, operation: &Operation) -> Answer {
    match call.args {
        // The sum of a long is that long, but a string has none.
        [_] => number(call, 0).map(Term::from),
        [] => Ok(start.into()),
        _ => reduce(call, |a, b| apply(call, a, b, operation)),
    }
}

fn reduce(call: &Call<'_>, f: impl Fn(Number, Number) -> Result<Number, String>) -> Answer {
    let mut result = number(call, 0)?;
    for at in 1..call.args.len() {
        result = f(result, number(call, at)?)?;
    }
    Ok(result.into())
}

/// An operation that has no meaning on a divisor of zero, nor on infinities.
fn whole(call: &Call<'_>, operation: &Operation) -> Result<Number, String> {
    let (a, b) = (number(call, 0)?, number(call, 1)?);
    if b.is_zero() {
        return call.fail("divides by zero");
    }
    apply(call, a, b, operation)
}

fn apply(call: &Call<'_>, a: Number, b: Number, operation: &Operation) -> Result<Number, String> {
    let result = match Pair::new(a, b) {
        Pair::Longs(a, b) => match (operation.longs)(a, b) {
            Some(long) => return Ok(Number::Long(long)),
            None => {
                return call.fail(&format!(
                    "overflows a long ({a} and {b}); 1N is a big integer"
                ));
            }
        },
        Pair::Integers(a, b) => Number::Integer((operation.integers)(a, b)),
        Pair::Decimals(a, b) => Number::Decimal((operation.decimals)(a, b)),
        Pair::Doubles(a, b) => Number::Double((operation.doubles)(a, b)),
    };
    result.check(call)
}

/// Two decimals as integers of one scale. The library rounds quotients, and these have none to lose.
fn aligned(a: &BigDecimal, b: &BigDecimal) -> (BigInt, BigInt, i64) {
    let scale = a.as_bigint_and_scale().1.max(b.as_bigint_and_scale().1);
    let unscaled = |number: &BigDecimal| number.with_scale(scale).into_bigint_and_scale().0;
    (unscaled(a), unscaled(b), scale)
}

/// Divides: integers exactly or to a double, decimals to 34 digits.
pub(crate) fn divide(call: &Call<'_>, a: Number, b: Number) -> Result<Number, String> {
    let is_zero = b.is_zero();
    let result = match Pair::new(a, b) {
        Pair::Doubles(a, b) => Number::Double(a / b),
        _ if is_zero => return call.fail("divides by zero"),
        #[allow(clippy::cast_precision_loss, reason = "the answer is a double")]
        Pair::Longs(a, b) => match (a.checked_rem(b), a.checked_div(b)) {
            (Some(0), Some(quotient)) => Number::Long(quotient),
            (Some(_), _) => Number::Double(a as f64 / b as f64),
            (None, _) => return call.fail(&format!("overflows a long ({a} and {b})")),
        },
        Pair::Integers(a, b) if &a % &b == BigInt::ZERO => Number::Integer(a / b),
        Pair::Integers(a, b) => {
            let quotient = quotient(BigDecimal::new(a, 0), BigDecimal::new(b, 0));
            Number::Double(Number::Decimal(quotient).to_double())
        }
        Pair::Decimals(a, b) => Number::Decimal(quotient(a, b)),
    };
    result.check(call)
}

/// The quotient to 34 digits, without zeros at its end; the divisor is not zero.
pub(crate) fn quotient(a: BigDecimal, b: BigDecimal) -> BigDecimal {
    let digits = NonZeroU64::new(QUOTIENT_DIGITS).unwrap_or(NonZeroU64::MIN);
    let quotient = (a / b).with_precision_round(digits, RoundingMode::HalfEven);
    let quotient = quotient.normalized();
    if quotient.as_bigint_and_scale().1 < 0 {
        quotient.with_scale(0)
    } else {
        quotient
    }
}

impl Number {
    pub(crate) fn of(call: &Call<'_>, term: &Term) -> Result<Self, String> {
        match term {
            Term::Long(long) => Ok(Self::Long(*long)),
            Term::Double(double) => Ok(Self::Double(*double)),
            Term::BigInt(integer) => Self::Integer((**integer).clone()).check(call),
            Term::BigDec(decimal) => Self::Decimal((**decimal).clone()).check(call),
            other => call.wrong("numbers", other),
        }
    }

    pub(crate) fn check(self, call: &Call<'_>) -> Result<Self, String> {
        let is_in_bounds = match &self {
            Self::Long(_) | Self::Double(_) => true,
            Self::Integer(integer) => integer.bits() <= BITS_MAX,
            Self::Decimal(decimal) => {
                let (unscaled, scale) = decimal.as_bigint_and_scale();
                unscaled.bits() <= BITS_MAX && scale.unsigned_abs() <= DIGITS_MAX
            }
        };
        if is_in_bounds {
            return Ok(self);
        }
        call.fail(&format!(
            "takes and makes numbers of at most {DIGITS_MAX} digits"
        ))
    }

    /// How this compares with zero, unless it is NaN.
    fn sign(&self) -> Option<Ordering> {
        Some(match self {
            Self::Long(long) => long.cmp(&0),
            Self::Integer(integer) => integer.cmp(&BigInt::ZERO),
            Self::Decimal(decimal) => match decimal.sign() {
                Sign::Minus => Ordering::Less,
                Sign::NoSign => Ordering::Equal,
                Sign::Plus => Ordering::Greater,
            },
            Self::Double(double) => return double.partial_cmp(&0.0),
        })
    }

    fn is_zero(&self) -> bool {
        self.sign() == Some(Ordering::Equal)
    }

    fn is_negative(&self) -> bool {
        self.sign() == Some(Ordering::Less)
    }

    /// The nearest double.
    pub(crate) fn to_double(&self) -> f64 {
        let signed = |sign, digits: Option<Digits>| {
            let magnitude = digits.map_or(0.0, |digits| digits.to_double());
            if sign == Sign::Minus {
                -magnitude
            } else {
                magnitude
            }
        };
        match self {
            #[allow(clippy::cast_precision_loss, reason = "the nearest is wanted")]
            Self::Long(long) => *long as f64,
            Self::Double(double) => *double,
            Self::Integer(integer) => {
                signed(integer.sign(), Digits::of_integer(integer.magnitude()))
            }
            Self::Decimal(decimal) => signed(decimal.sign(), Digits::of_decimal(decimal)),
        }
    }

    fn to_integer(&self) -> Option<BigInt> {
        match self {
            Self::Long(long) => Some(BigInt::from(*long)),
            Self::Integer(integer) => Some(integer.clone()),
            _ => None,
        }
    }

    fn into_decimal(self) -> Option<BigDecimal> {
        match self {
            Self::Decimal(decimal) => Some(decimal),
            integer => integer
                .to_integer()
                .map(|integer| BigDecimal::new(integer, 0)),
        }
    }
}

impl From<Number> for Term {
    fn from(number: Number) -> Self {
        match number {
            Number::Long(long) => long.into(),
            Number::Integer(integer) => integer.into(),
            Number::Decimal(decimal) => decimal.into(),
            Number::Double(double) => double.into(),
        }
    }
}

impl Pair {
    fn new(a: Number, b: Number) -> Self {
        if let (Number::Long(a), Number::Long(b)) = (&a, &b) {
            return Self::Longs(*a, *b);
        }
        if let (Some(a), Some(b)) = (a.to_integer(), b.to_integer()) {
            return Self::Integers(a, b);
        }
        let doubles = (a.to_double(), b.to_double());
        match (a.into_decimal(), b.into_decimal()) {
            (Some(a), Some(b)) => Self::Decimals(a, b),
            _ => Self::Doubles(doubles.0, doubles.1),
        }
    }
}
