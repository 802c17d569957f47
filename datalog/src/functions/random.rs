//! `rand` and `rand-int`, and where random numbers come from.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use super::{Call, Functions};
use crate::term::Term;

/// A source of random numbers. Clones share it.
#[derive(Clone)]
pub(crate) struct Random(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Random {
    pub(crate) fn new(source: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }

    /// Numbers nobody foresees, without a dependency: the seeds of hash maps are random.
    pub(crate) fn from_system() -> Self {
        Self::new(|| RandomState::new().hash_one(0))
    }

    /// A number from zero, below `end`; zero if there is none.
    pub(crate) fn below(&self, end: u64) -> u64 {
        let product = u128::from((self.0)()) * u128::from(end);
        u64::try_from(product >> 64).unwrap_or(0)
    }

    /// An index of a slice of this length, which is not empty.
    pub(crate) fn index(&self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// A double from 0.0, below 1.0.
    #[allow(clippy::cast_precision_loss, reason = "53 bits are exact in a double")]
    fn unit(&self) -> f64 {
        ((self.0)() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}

pub(super) fn add_to(functions: &mut Functions, random: &Random) {
    let source = random.clone();
    functions.insert("rand", 0..=1, false, move |call: &Call<'_>| {
        let unit = source.unit();
        Ok(Term::Double(match call.args.first() {
            None => unit,
            Some(_) => unit * super::number::double(call, 0)?,
        }))
    });
    let source = random.clone();
    functions.insert("rand-int", 1, false, move |call: &Call<'_>| {
        let end = call.long(0)?;
        let below = source.below(end.unsigned_abs()).cast_signed();
        Ok(Term::Long(if end < 0 {
            below.wrapping_neg()
        } else {
            below
        }))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_are_those_of_the_source() {
        let functions = Functions::standard().with_random_source(|| 1 << 63);
        let call = |name: &str, args: &[Term]| functions.get(name).unwrap().call(args).unwrap();
        assert_eq!(call("rand", &[]), Term::Double(0.5));
        assert_eq!(call("rand", &[Term::Long(3)]), Term::Double(1.5));
        assert_eq!(call("rand-int", &[Term::Long(9)]), Term::Long(4));
        assert_eq!(call("rand-int", &[Term::Long(-9)]), Term::Long(-4));
        assert!(!functions.get("rand").unwrap().is_deterministic);
    }

    #[test]
    fn random_numbers_differ() {
        let random = Random::from_system();
        let numbers: std::collections::HashSet<u64> = (0..64).map(|_| (random.0)()).collect();
        assert!(numbers.len() > 60);
        assert!((0..1000).all(|_| random.below(3) < 3 && random.unit() < 1.0));
    }
}
