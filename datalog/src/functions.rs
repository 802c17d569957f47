//! Functions, predicates and aggregates that queries call by name.
//!
//! A [`Functions`] is the library of one query: [`standard`](Functions::standard) is what the language
//! has, and programs [`register`](Functions::register) their own. Functions map terms to a term, never
//! panic, and end: what they make is limited (numbers to 4096 digits, texts to 16 MiB, collections to a
//! million elements). A predicate is a function whose answer is [truthy](Term::is_truthy).
//!
//! Names are those of Clojure, with or without `clojure.core/`. Where meanings differ:
//!
//! - Equality is that of [terms](crate::Term): `(= 1 1.0 1M)` holds, and a NaN equals itself.
//! - `<`, `<=`, `>` and `>=` compare whatever is of one kind, as terms order: NaN above all numbers,
//!   vectors element by element, prefixes first. Of two kinds, none is less or greater, and all is false.
//! - `compare` orders any two terms and answers -1, 0 or 1. `min` and `max` take any terms too.
//! - `/` of two integers is an integer if exact, else a double, for there are no ratios. Of big decimals it
//!   is rounded to 34 digits. Doubles divide by zero as IEEE 754 has it; integers and decimals may not.
//! - `(+ 1N 2.0)` is a double, `(+ 1N 2M)` a decimal, as in Clojure; longs do not overflow into big ones.
//! - Strings are sequences of characters, not of UTF-16 units: `count`, `subs`, `.indexOf` and the like
//!   count those. Where lists would be lazy there are vectors.
//! - Regular expressions are strings, in the syntax of the `regex` crate: without look-around and back
//!   references, in linear time. `clojure.string/split` takes one; `replace` takes plain text.
//! - `type` answers a keyword such as `:db.type/string`. An instant as `str` is RFC 3339.
//! - `ground` of several arguments is a vector of them.
//! - `like` matches as SQL does: `%` any text, `_` one character, `\` escapes. `in` looks into a collection.

mod call;
mod collection;
mod compare;
mod kind;
mod near;
pub(crate) mod number;
mod pattern;
mod random;
mod text;
mod time;

use std::collections::HashMap;
use std::fmt;
use std::ops::{RangeFrom, RangeInclusive};
use std::sync::{Arc, LazyLock};

pub(crate) use self::call::Call;
pub(crate) use self::near::near;
pub(crate) use self::random::Random;
use crate::aggregates::{self, Aggregate};
use crate::term::Term;

/// What a function answers: a term, or what is wrong in words.
pub(crate) type Answer = Result<Term, String>;

static STANDARD: LazyLock<Functions> = LazyLock::new(|| {
    let mut functions = Functions {
        functions: Arc::default(),
        aggregates: Arc::default(),
    };
    compare::add_to(&mut functions);
    number::add_to(&mut functions);
    kind::add_to(&mut functions);
    text::add_to(&mut functions);
    pattern::add_to(&mut functions);
    collection::add_to(&mut functions);
    time::add_to(&mut functions);
    aggregates::add_to(&mut functions);
    functions.with_random(Random::from_system())
});

/// The functions and aggregates that a query may call. Clones are cheap.
///
/// ```
/// use datomfusion_datalog::{Functions, Term};
///
/// let mut functions = Functions::standard();
/// functions.register("twice", 1, |args| match &args[0] {
///     Term::Long(long) => Ok(Term::Long(2 * long)),
///     other => Err(format!("twice takes a long, not {}", other.describe())),
/// });
/// let plus = functions.get("+").unwrap();
/// assert_eq!(plus.call(&[Term::Long(1), Term::Double(0.5)]), Ok(Term::Double(1.5)));
/// assert_eq!(functions.get("twice").unwrap().call(&[Term::Long(4)]), Ok(Term::Long(8)));
/// assert_eq!(functions.near("twcie"), ["twice"]);
/// ```
#[derive(Clone)]
pub struct Functions {
    functions: Arc<HashMap<Arc<str>, Function>>,
    aggregates: Arc<HashMap<Arc<str>, Aggregate>>,
}

/// A function by name.
#[derive(Clone)]
pub struct Function {
    /// How many arguments it takes.
    pub arity: Arity,
    /// Whether it answers the same for the same arguments, so that answers may be kept.
    pub is_deterministic: bool,
    name: Arc<str>,
    body: Arc<Body>,
}

type Body = dyn Fn(&Call<'_>) -> Answer + Send + Sync;

/// How many arguments a function takes: from `min` to `max`, or any number from `min`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arity {
    /// At least so many.
    pub min: usize,
    /// At most so many.
    pub max: Option<usize>,
}

impl Functions {
    /// The functions and aggregates of the language.
    pub fn standard() -> Self {
        STANDARD.clone()
    }

    /// Whether these are the functions of the language, and no others.
    pub fn is_standard(&self) -> bool {
        Arc::ptr_eq(&self.functions, &STANDARD.functions)
            && Arc::ptr_eq(&self.aggregates, &STANDARD.aggregates)
    }

    /// Adds a function, or replaces it. Its answers are not kept from one query to the next.
    ///
    /// An error is the whole message for the user, and so names the function.
    pub fn register(
        &mut self,
        name: &str,
        arity: impl Into<Arity>,
        f: impl Fn(&[Term]) -> Result<Term, String> + Send + Sync + 'static,
    ) {
        self.insert(name, arity, false, move |call| f(call.args));
    }

    /// Adds a function that answers the same for the same arguments, at all times, or replaces it.
    pub fn register_deterministic(
        &mut self,
        name: &str,
        arity: impl Into<Arity>,
        f: impl Fn(&[Term]) -> Result<Term, String> + Send + Sync + 'static,
    ) {
        self.insert(name, arity, true, move |call| f(call.args));
    }

    /// Adds an aggregate, or replaces it. It gets a bag of values and takes no constants.
    pub fn register_aggregate(
        &mut self,
        name: &str,
        f: impl Fn(&[Term]) -> Result<Term, String> + Send + Sync + 'static,
    ) {
        self.insert_aggregate(name, 0, false, move |call, _| f(call.args));
    }

    /// The function of a name.
    pub fn get(&self, name: &str) -> Option<&Function> {
        self.functions.get(plain(name))
    }

    /// The aggregate of a name.
    pub fn aggregate(&self, name: &str) -> Option<&Aggregate> {
        self.aggregates.get(plain(name))
    }

    /// Names of functions that look like `name`, the nearest first; at most three.
    pub fn near(&self, name: &str) -> Vec<&str> {
        near(plain(name), self.functions.keys().map(|name| &**name))
    }

    /// Names of aggregates that look like `name`, the nearest first; at most three.
    pub fn near_aggregate(&self, name: &str) -> Vec<&str> {
        near(plain(name), self.aggregates.keys().map(|name| &**name))
    }

    /// These functions, with random numbers from `source`: evenly distributed over 64 bits.
    #[must_use]
    pub fn with_random_source(self, source: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.with_random(Random::new(source))
    }

    fn with_random(mut self, random: Random) -> Self {
        random::add_to(&mut self, &random);
        aggregates::add_random_to(&mut self, &random);
        self
    }

    /// Adds a function of the language.
    fn add(&mut self, name: &str, arity: impl Into<Arity>, f: fn(&Call<'_>) -> Answer) {
        self.insert(name, arity, true, f);
    }

    fn insert(
        &mut self,
        name: &str,
        arity: impl Into<Arity>,
        is_deterministic: bool,
        body: impl Fn(&Call<'_>) -> Answer + Send + Sync + 'static,
    ) {
        let name: Arc<str> = plain(name).into();
        let function = Function {
            arity: arity.into(),
            is_deterministic,
            name: Arc::clone(&name),
            body: Arc::new(body),
        };
        Arc::make_mut(&mut self.functions).insert(name, function);
    }

    pub(crate) fn insert_aggregate(
        &mut self,
        name: &str,
        constants: impl Into<Arity>,
        is_deterministic: bool,
        body: impl Fn(&Call<'_>, &[Term]) -> Answer + Send + Sync + 'static,
    ) {
        let name: Arc<str> = plain(name).into();
        let aggregate = Aggregate::new(&name, constants.into(), is_deterministic, body);
        Arc::make_mut(&mut self.aggregates).insert(name, aggregate);
    }
}

fn plain(name: &str) -> &str {
    name.strip_prefix("clojure.core/").unwrap_or(name)
}

impl Default for Functions {
    fn default() -> Self {
        Self::standard()
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Functions")
            .field("functions", &self.functions.len())
            .field("aggregates", &self.aggregates.len())
            .finish()
    }
}

impl Function {
    /// Calls the function.
    ///
    /// # Errors
    ///
    /// What is wrong with the arguments, or with their number, in words.
    pub fn call(&self, args: &[Term]) -> Result<Term, String> {
        self.arity.check(&self.name, args.len(), "argument")?;
        (self.body)(&Call {
            name: &self.name,
            args,
        })
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function")
            .field("name", &self.name)
            .field("arity", &self.arity)
            .finish_non_exhaustive()
    }
}

impl Arity {
    /// Whether so many arguments will do.
    pub fn allows(self, count: usize) -> bool {
        count >= self.min && self.max.is_none_or(|max| count <= max)
    }

    pub(crate) fn check(self, name: &str, count: usize, what: &str) -> Result<(), String> {
        if self.allows(count) {
            return Ok(());
        }
        let plural = if self.max.unwrap_or(self.min) == 1 {
            ""
        } else {
            "s"
        };
        Err(format!("{name} takes {self} {what}{plural}, not {count}"))
    }
}

impl fmt::Display for Arity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.max {
            Some(0) => f.write_str("no"),
            Some(max) if max == self.min => write!(f, "{max}"),
            Some(max) if max == self.min + 1 => write!(f, "{} or {max}", self.min),
            Some(max) => write!(f, "{} to {max}", self.min),
            None => write!(f, "at least {}", self.min),
        }
    }
}

impl From<usize> for Arity {
    fn from(count: usize) -> Self {
        (count..=count).into()
    }
}

impl From<RangeInclusive<usize>> for Arity {
    fn from(range: RangeInclusive<usize>) -> Self {
        let (min, max) = range.into_inner();
        Self {
            min,
            max: Some(max),
        }
    }
}

impl From<RangeFrom<usize>> for Arity {
    fn from(range: RangeFrom<usize>) -> Self {
        Self {
            min: range.start,
            max: None,
        }
    }
}

#[cfg(test)]
mod tests;
