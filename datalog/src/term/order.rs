//! Equality, order and hash of terms.
//!
//! **Invariant.** Equal terms have equal hashes, whatever kinds of numbers they hold: a number hashes as
//! the long it is, else as the double it is, else by its digits.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use num_bigint::BigInt;

use super::Term;
use super::decimal::{self, Cut};

impl PartialEq for Term {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Long(a), Self::Long(b)) => a == b,
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Keyword(a), Self::Keyword(b)) => a == b,
            (Self::Vector(a), Self::Vector(b)) | (Self::Set(a), Self::Set(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            _ => self.cmp(other) == Ordering::Equal,
        }
    }
}

impl Eq for Term {}

impl Ord for Term {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Long(a), Self::Long(b)) | (Self::Instant(a), Self::Instant(b)) => a.cmp(b),
            (Self::Double(a), Self::Double(b)) => decimal::compare_doubles(*a, *b),
            (Self::String(a), Self::String(b)) | (Self::Uri(a), Self::Uri(b)) => a.cmp(b),
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::Char(a), Self::Char(b)) => a.cmp(b),
            (Self::Keyword(a), Self::Keyword(b)) => a.cmp(b),
            (Self::Symbol(a), Self::Symbol(b)) => a.cmp(b),
            (Self::Uuid(a), Self::Uuid(b)) => a.cmp(b),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            (Self::Vector(a), Self::Vector(b)) | (Self::Set(a), Self::Set(b)) => a.cmp(b),
            (Self::Map(a), Self::Map(b)) => a.cmp(b),
            _ => compare_numbers(self, other).unwrap_or_else(|| self.rank().cmp(&other.rank())),
        }
    }
}

impl PartialOrd for Term {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn compare_numbers(a: &Term, b: &Term) -> Option<Ordering> {
    Some(match (a, b) {
        (Term::Long(a), Term::Double(b)) => decimal::compare_long_to_double(*a, *b),
        (Term::Double(a), Term::Long(b)) => decimal::compare_long_to_double(*b, *a).reverse(),
        (Term::BigInt(a), Term::BigInt(b)) => a.cmp(b),
        (Term::BigDec(a), Term::BigDec(b)) => decimal::compare_decimals(a, b),
        (Term::BigInt(a), Term::Long(b)) => (**a).cmp(&(*b).into()),
        (Term::Long(a), Term::BigInt(b)) => BigInt::from(*a).cmp(b),
        (Term::BigDec(x), Term::Long(y)) => {
            decimal::compare_small(x, *y).or_else(|| compare_cuts(a, b))?
        }
        (Term::Long(x), Term::BigDec(y)) => {
            (decimal::compare_small(y, *x).map(Ordering::reverse)).or_else(|| compare_cuts(a, b))?
        }
        _ => compare_cuts(a, b)?,
    })
}

fn compare_cuts(a: &Term, b: &Term) -> Option<Ordering> {
    let ((a, a_rest), (b, b_rest)) = (a.cut()?, b.cut()?);
    Some(decimal::compare_doubles(a, b).then_with(|| {
        // Both lie at or above one double; digits count away from zero.
        let order = a_rest.cmp(&b_rest);
        if a < 0.0 && a_rest.is_some() && b_rest.is_some() {
            order.reverse()
        } else {
            order
        }
    }))
}

impl Term {
    /// Cuts a number at the last double not above it.
    pub(super) fn cut(&self) -> Option<Cut> {
        Some(match self {
            Self::Long(long) => decimal::cut_long(*long),
            Self::Double(double) => (*double, None),
            Self::BigInt(integer) => decimal::cut_integer(integer),
            Self::BigDec(number) => decimal::cut_decimal(number),
            _ => return None,
        })
    }
}

impl Hash for Term {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(self.rank());
        match self {
            Self::Nil => {}
            Self::Boolean(boolean) => boolean.hash(state),
            Self::Long(long) | Self::Instant(long) => state.write_i64(*long),
            Self::Double(double) => hash_double(*double, state),
            Self::BigInt(integer) => match i64::try_from(&**integer) {
                Ok(long) => state.write_i64(long),
                Err(_) => hash_cut(decimal::cut_integer(integer), state),
            },
            Self::BigDec(number) => hash_cut(decimal::cut_decimal(number), state),
            Self::Char(char) => char.hash(state),
            Self::String(text) | Self::Uri(text) => text.hash(state),
            Self::Keyword(keyword) => keyword.hash(state),
            Self::Symbol(symbol) => symbol.hash(state),
            Self::Uuid(uuid) => uuid.hash(state),
            Self::Bytes(bytes) => bytes.hash(state),
            Self::Vector(elements) | Self::Set(elements) => elements.hash(state),
            Self::Map(entries) => entries.hash(state),
        }
    }
}

fn hash_double<H: Hasher>(double: f64, state: &mut H) {
    match decimal::exact_long(double) {
        Some(long) => state.write_i64(long),
        None if double.is_nan() => state.write_u64(f64::NAN.to_bits()),
        None => state.write_u64(double.to_bits()),
    }
}

fn hash_cut<H: Hasher>((double, rest): Cut, state: &mut H) {
    let Some(digits) = rest else {
        return hash_double(double, state);
    };
    let is_long = digits.scale() <= 0 && digits.point <= 19;
    let zeros = usize::try_from(-digits.scale()).unwrap_or(0);
    let long = is_long
        .then(|| digits.to_unscaled(double < 0.0, zeros))
        .flatten()
        .and_then(|integer| i64::try_from(integer).ok());
    if let Some(long) = long {
        state.write_i64(long);
    } else {
        state.write_u64(double.to_bits());
        digits.digits.hash(state);
        state.write_i128(digits.point);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::hash_map::DefaultHasher;

    use proptest::prelude::*;

    use super::*;
    use crate::edn::read;
    use crate::term::strategy::{number, term};

    fn hash(term: &Term) -> u64 {
        let mut hasher = DefaultHasher::new();
        term.hash(&mut hasher);
        hasher.finish()
    }

    fn terms(text: &str) -> Vec<Term> {
        let form = read(text).unwrap();
        let forms = form.as_vector().unwrap();
        forms
            .iter()
            .map(|form| Term::try_from(&form.edn).unwrap())
            .collect()
    }

    #[test]
    fn numbers_are_equal_whatever_holds_them() {
        for group in [
            "[1 1.0 1N 1.00M 1M 10E-1M]",
            "[0 0.0 -0.0 0N 0M 0.000M 0E9M]",
            "[-0.5 -0.5M -0.50M]",
            "[9007199254740993 9007199254740993N 9007199254740993.0M]",
            "[-9223372036854775808 -9223372036854775808N -9.223372036854775808e18 -9223372036854775808M]",
            "[1e300 1e300]",
            "[##NaN ##NaN]",
            "[18446744073709551616 1.8446744073709551616e19 18446744073709551616M]",
        ] {
            let terms = terms(group);
            for (a, b) in terms.iter().flat_map(|a| terms.iter().map(move |b| (a, b))) {
                assert_eq!(a, b);
                assert_eq!(hash(a), hash(b), "{a} {b}");
            }
        }
    }

    #[test]
    fn terms_are_in_order() {
        let terms = terms(
            "[nil false true ##-Inf -1e400M -1.7976931348623157e308 -9223372036854775809N
              -9223372036854775808 -9007199254740993 -9007199254740992.0 -2N -1.5M -1 -0.1 -0.1M -1e-400M
              0 1e-400M 5e-324 0.1M 0.1 0.3 0.30M 1 1.5 2M 9007199254740992.0 9007199254740993
              9007199254740994.0 9223372036854775807 9.223372036854775808e18 9223372036854775809N 1e300M
              1e300 1e400M ##Inf ##NaN \\a \"\" \"a\" \"a\\u0000\" \"ab\" :a :a/b a #inst \"2011\" #uuid
              \"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\" #bytes \"\" #bytes \"00ff\" #uri \"a:b\" [] [1] [1.0 2] [2]
              #{} #{1} {} {1 2} {1 3}]",
        );
        for pair in terms.windows(2) {
            assert!(pair[0] < pair[1], "{} < {}", pair[0], pair[1]);
            assert!(pair[1] > pair[0], "{} > {}", pair[1], pair[0]);
        }
    }

    proptest! {
        #[test]
        fn the_order_of_numbers_is_that_of_exact_decimals(a in number(), b in number()) {
            if let (Some(x), Some(y)) = (exact(&a), exact(&b)) {
                prop_assert_eq!(a.cmp(&b), x.cmp(&y), "{} {}", a, b);
            }
        }

        #[test]
        fn order_is_total(a in term(), b in term(), c in term()) {
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a == b, a.cmp(&b) == Ordering::Equal);
            if a <= b && b <= c {
                prop_assert!(a <= c, "{} {} {}", a, b, c);
            }
            if a == b {
                prop_assert_eq!(hash(&a), hash(&b));
            }
        }
    }

    fn exact(term: &Term) -> Option<bigdecimal::BigDecimal> {
        match term {
            Term::Long(long) => Some((*long).into()),
            Term::BigInt(integer) => Some((**integer).clone().into()),
            Term::BigDec(number) => Some((**number).clone()),
            Term::Double(double) => bigdecimal::BigDecimal::try_from(*double).ok(),
            _ => None,
        }
    }
}
