//! Aggregates: functions of all values of a group, which are a bag.
//!
//! Some take constants before their variable: `(min 3 ?x)` is the three least. Results do not depend on
//! the order of the values, but for the last digits of sums of doubles; sums of anything else are exact.
//! Of no values, `count`, `count-distinct` and `sum` are 0, `distinct`, `sample` and those with a number
//! are empty, and the rest is nil.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use bigdecimal::BigDecimal;
use num_bigint::BigInt;

use crate::functions::number::{self, Number};
use crate::functions::{Answer, Arity, Call, Functions, Random};
use crate::term::Term;

/// An aggregate by name.
#[derive(Clone)]
pub struct Aggregate {
    /// How many constants it takes before its variable.
    pub constants: Arity,
    /// Whether it answers the same for the same values, so that answers may be kept.
    pub is_deterministic: bool,
    name: Arc<str>,
    body: Arc<Body>,
}

/// The values are the arguments of the call; the constants come second.
type Body = dyn Fn(&Call<'_>, &[Term]) -> Answer + Send + Sync;

impl Aggregate {
    pub(crate) fn new(
        name: &Arc<str>,
        constants: Arity,
        is_deterministic: bool,
        body: impl Fn(&Call<'_>, &[Term]) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self {
            constants,
            is_deterministic,
            name: Arc::clone(name),
            body: Arc::new(body),
        }
    }

    /// Aggregates values.
    ///
    /// # Errors
    ///
    /// What is wrong with the constants, their number, or the values, in words.
    pub fn call(&self, constants: &[Term], values: &[Term]) -> Result<Term, String> {
        self.constants
            .check(&self.name, constants.len(), "constant")?;
        let call = Call {
            name: &self.name,
            args: values,
        };
        (self.body)(&call, constants)
    }
}

impl fmt::Debug for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aggregate")
            .field("name", &self.name)
            .field("constants", &self.constants)
            .finish_non_exhaustive()
    }
}

pub(crate) fn add_to(functions: &mut Functions) {
    let mut add = |name: &str, f: fn(&Call<'_>) -> Answer| {
        functions.insert_aggregate(name, 0, true, move |call, _| f(call));
    };
    add("count", |call| Ok(count(call.args.len())));
    add("count-distinct", |call| {
        Ok(count(call.args.iter().collect::<HashSet<_>>().len()))
    });
    add("distinct", |call| Ok(Term::set(call.args.iter().cloned())));
    add("sum", |call| Ok(Sum::of(call)?.total(call)?.into()));
    add("avg", average);
    add("median", median);
    add("variance", |call| {
        Ok(variance(call)?.map_or(Term::Nil, Term::Double))
    });
    add("stddev", |call| {
        Ok(variance(call)?.map_or(Term::Nil, |variance| Term::Double(variance.sqrt())))
    });
    functions.insert_aggregate("min", 0..=1, true, |call, constants| {
        if constants.is_empty() {
            return Ok(call.args.iter().min().cloned().unwrap_or(Term::Nil));
        }
        Ok(Term::vector(least(call, constants, Ord::cmp)?))
    });
    functions.insert_aggregate("max", 0..=1, true, |call, constants| {
        if constants.is_empty() {
            return Ok(call.args.iter().max().cloned().unwrap_or(Term::Nil));
        }
        let greatest = least(call, constants, |a, b| b.cmp(a))?;
        Ok(Term::vector(greatest.into_iter().rev()))
    });
}

pub(crate) fn add_random_to(functions: &mut Functions, random: &Random) {
    let source = random.clone();
    functions.insert_aggregate("rand", 0..=1, false, move |call, constants| {
        let values = call.args;
        let one = || values.get(source.index(values.len())).cloned();
        if constants.is_empty() {
            return Ok(one().unwrap_or(Term::Nil));
        }
        let count = size(call, constants)?;
        let count = if values.is_empty() { 0 } else { count };
        call.check_elements(count)?;
        Ok(Term::vector((0..count).filter_map(|_| one())))
    });
    let source = random.clone();
    functions.insert_aggregate("sample", 1, false, move |call, constants| {
        let count = size(call, constants)?;
        let mut left: Vec<Term> = call.args.to_vec();
        left.sort();
        left.dedup();
        let count = count.min(left.len());
        for at in 0..count {
            let chosen = at + source.index(left.len() - at);
            left.swap(at, chosen);
        }
        left.truncate(count);
        Ok(Term::Vector(left.into()))
    });
}

fn count(count: usize) -> Term {
    Term::Long(i64::try_from(count).unwrap_or(i64::MAX))
}

/// How many values are wanted: the constant.
fn size(call: &Call<'_>, constants: &[Term]) -> Result<usize, String> {
    let call = Call {
        name: call.name,
        args: constants,
    };
    call.index(0)
}

/// The first values in an order, in this order. Equal values count each.
fn least(
    call: &Call<'_>,
    constants: &[Term],
    order: fn(&Term, &Term) -> Ordering,
) -> Result<Vec<Term>, String> {
    let count = size(call, constants)?;
    let mut values: Vec<&Term> = call.args.iter().collect();
    if count < values.len() {
        values.select_nth_unstable_by(count, |a, b| order(a, b));
        values.truncate(count);
    }
    values.sort_by(|a, b| order(a, b));
    Ok(values.into_iter().cloned().collect())
}

/// A sum kept by kind, so that the order of the values does not decide what overflows.
#[derive(Default)]
struct Sum {
    longs: i128,
    integers: Option<BigInt>,
    decimals: Option<BigDecimal>,
    /// The sum, and what rounding has lost of it.
    doubles: Option<(f64, f64)>,
}

impl Sum {
    fn of(call: &Call<'_>) -> Result<Self, String> {
        let mut sum = Self::default();
        for value in call.args {
            sum.add(call, value)?;
        }
        Ok(sum)
    }

    fn add(&mut self, call: &Call<'_>, value: &Term) -> Result<(), String> {
        if let Term::Long(long) = value {
            // Memory ends before 2⁶⁴ longs do.
            self.longs += i128::from(*long);
            return Ok(());
        }
        match Number::of(call, value)? {
            Number::Long(long) => self.longs += i128::from(long),
            Number::Integer(integer) => *self.integers.get_or_insert_default() += integer,
            Number::Decimal(decimal) => {
                // The scale of the sum is the greatest, as if added one by one.
                let sum = self.decimals.take().unwrap_or_else(|| BigDecimal::from(0));
                self.decimals = Some(sum + decimal);
            }
            Number::Double(double) => {
                let (sum, lost) = self.doubles.get_or_insert((0.0, 0.0));
                let next = *sum + double;
                if next.is_finite() {
                    *lost += if sum.abs() >= double.abs() {
                        (*sum - next) + double
                    } else {
                        (double - next) + *sum
                    };
                }
                *sum = next;
            }
        }
        Ok(())
    }

    fn total(self, call: &Call<'_>) -> Result<Number, String> {
        let Self {
            longs,
            integers,
            decimals,
            doubles,
        } = self;
        let has_integers = integers.is_some();
        let integer = || integers.unwrap_or_default() + longs;
        let total = match (doubles, decimals) {
            (Some((sum, lost)), decimals) => {
                let rest = BigDecimal::new(integer(), 0) + decimals.unwrap_or_default();
                let sum = if sum.is_finite() { sum + lost } else { sum };
                Number::Double(sum + Number::Decimal(rest).to_double())
            }
            (None, Some(decimals)) => Number::Decimal(decimals + BigDecimal::new(integer(), 0)),
            (None, None) if has_integers => Number::Integer(integer()),
            (None, None) => match i64::try_from(longs) {
                Ok(long) => Number::Long(long),
                Err(_) => return call.fail(&format!("overflows a long ({longs})")),
            },
        };
        total.check(call)
    }
}

/// A sum divided by a count: a double, or a decimal if decimals were summed.
fn average(call: &Call<'_>) -> Answer {
    if call.args.is_empty() {
        return Ok(Term::Nil);
    }
    let mut sum = Sum::of(call)?;
    // No average overflows.
    *sum.integers.get_or_insert_default() += std::mem::take(&mut sum.longs);
    let count = BigInt::from(call.args.len());
    Ok(match sum.total(call)? {
        Number::Double(double) => {
            #[allow(
                clippy::cast_precision_loss,
                reason = "nobody has 2⁵³ values in memory"
            )]
            let count = call.args.len() as f64;
            Term::Double(double / count)
        }
        Number::Decimal(decimal) => number::quotient(decimal, BigDecimal::new(count, 0)).into(),
        total => Term::Double(number::divide(call, total, Number::Integer(count))?.to_double()),
    })
}

/// The middle number, or the mean of the middle two as `/` has it.
fn median(call: &Call<'_>) -> Answer {
    for value in call.args {
        Number::of(call, value)?;
    }
    // Equal numbers of several kinds are in an order, too: else the rows' would decide of what kind the answer is.
    let kind = |value: &Term| match value {
        Term::Long(_) => (0, 0),
        Term::BigInt(_) => (1, 0),
        Term::BigDec(number) => (2, number.fractional_digit_count()),
        _ => (3, 0),
    };
    let mut values: Vec<&Term> = call.args.iter().collect();
    values.sort_unstable_by(|one, other| one.cmp(other).then_with(|| kind(one).cmp(&kind(other))));
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (None, _) => Ok(Term::Nil),
        (Some(value), 1) => Ok((*value).clone()),
        (Some(high), _) => {
            let args = [values[middle - 1].clone(), (*high).clone()];
            let are_longs = args.iter().all(|arg| matches!(arg, Term::Long(_)));
            let pair = Call {
                name: call.name,
                args: &args,
            };
            let mut sum = Sum::of(&pair)?;
            *sum.integers.get_or_insert_default() += std::mem::take(&mut sum.longs);
            match number::divide(call, sum.total(call)?, Number::Long(2))? {
                // The mean of two longs is none too large.
                Number::Integer(integer) if are_longs => {
                    Ok(i64::try_from(&integer).map_or(Term::from(integer), Term::Long))
                }
                mean => Ok(mean.into()),
            }
        }
    }
}

/// The variance of the population; `None` of no values.
fn variance(call: &Call<'_>) -> Result<Option<f64>, String> {
    let doubles = (0..call.args.len())
        .map(|at| number::double(call, at))
        .collect::<Result<Vec<_>, _>>()?;
    if doubles.is_empty() {
        return Ok(None);
    }
    #[allow(
        clippy::cast_precision_loss,
        reason = "nobody has 2⁵³ values in memory"
    )]
    let count = doubles.len() as f64;
    let mean = doubles.iter().sum::<f64>() / count;
    let squares: f64 = doubles.iter().map(|double| (double - mean).powi(2)).sum();
    // Rounding of the mean shows in the sum of deviations, which would be zero.
    let deviation: f64 = doubles.iter().map(|double| double - mean).sum();
    Ok(Some(
        ((squares - deviation.powi(2) / count) / count).max(0.0),
    ))
}

#[cfg(test)]
mod tests;
