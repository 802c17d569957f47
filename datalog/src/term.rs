//! Terms: the values that variables of a query stand for while it runs.
//!
//! Equality, hash and order are those of the language, not of the types: numbers are equal if they are
//! the same number, whatever holds them (`1`, `1.0`, `1N` and `1.00M`), and order as numbers; everything
//! else orders by kind, then by content. So equality decides what unifies, what a join finds and what a
//! set holds once.
//!
//! Numbers are compared by exact value, never by a lossy cast. NaN equals itself and is the last of the
//! numbers; `-0.0` is zero. Kinds order as the variants of [`Term`]; vectors, sets and maps order element
//! by element, and a prefix comes before what it begins.

pub(crate) mod decimal;
mod edn;
mod encode;
mod order;

use std::sync::Arc;

use bigdecimal::BigDecimal;
use num_bigint::BigInt;
use uuid::Uuid;

pub use self::encode::DecodeError;
use crate::edn::{Keyword, Symbol};

/// A value in a running query. Clones are cheap.
#[derive(Clone, Debug)]
pub enum Term {
    /// No value. Functions may take and answer it; variables never hold it.
    Nil,
    /// `true`, `false`
    Boolean(bool),
    /// An integer of 64 bits; entity ids too.
    Long(i64),
    /// An integer of any size.
    BigInt(Arc<BigInt>),
    /// A double.
    Double(f64),
    /// A decimal number.
    BigDec(Arc<BigDecimal>),
    /// A character.
    Char(char),
    /// Text.
    String(Arc<str>),
    /// A keyword.
    Keyword(Keyword),
    /// A symbol.
    Symbol(Symbol),
    /// Milliseconds since the epoch.
    Instant(i64),
    /// A UUID.
    Uuid(Uuid),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A URI.
    Uri(Arc<str>),
    /// A vector, a list or a tuple: equal if their elements are.
    Vector(Arc<[Term]>),
    /// A set: sorted, without duplicates.
    Set(Arc<[Term]>),
    /// A map: sorted by key, without duplicates.
    Map(Arc<[(Term, Term)]>),
}

impl Term {
    /// Bytes that it takes, roughly, if they are at most so many. Looks at no more than that.
    pub fn bytes_within(&self, most: usize) -> Option<usize> {
        let room = most.checked_sub(size_of::<Self>())?;
        let inside = match self {
            Self::BigInt(number) => usize::try_from(number.bits() / 8).unwrap_or(usize::MAX),
            Self::BigDec(number) => usize::try_from(number.digits()).unwrap_or(usize::MAX),
            Self::String(text) | Self::Uri(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Vector(terms) | Self::Set(terms) => Self::bytes_of(&**terms, room)?,
            Self::Map(pairs) => {
                Self::bytes_of(pairs.iter().flat_map(|(key, value)| [key, value]), room)?
            }
            _ => 0,
        };
        (inside <= room).then(|| inside + size_of::<Self>())
    }

    /// What some take together, within the same bound.
    pub(crate) fn bytes_of<'t>(
        terms: impl IntoIterator<Item = &'t Self>,
        most: usize,
    ) -> Option<usize> {
        let mut terms = terms.into_iter();
        terms.try_fold(0, |sum: usize, term| {
            Some(sum + term.bytes_within(most.checked_sub(sum)?)?)
        })
    }

    /// A vector of terms.
    pub fn vector(elements: impl IntoIterator<Item = Self>) -> Self {
        Self::Vector(elements.into_iter().collect())
    }

    /// The set of terms; of equal ones, the first stays.
    pub fn set(elements: impl IntoIterator<Item = Self>) -> Self {
        let mut elements: Vec<_> = elements.into_iter().collect();
        elements.sort();
        elements.dedup();
        Self::Set(elements.into())
    }

    /// The map of entries; of entries with equal keys, the last stays.
    pub fn map(entries: impl IntoIterator<Item = (Self, Self)>) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.reverse();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        entries.dedup_by(|(a, _), (b, _)| a == b);
        Self::Map(entries.into())
    }

    /// What this is, with an article, for messages: `a keyword`, `a map`.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Boolean(_) => "a boolean",
            Self::Long(_) => "a long",
            Self::BigInt(_) => "a big integer",
            Self::Double(_) => "a double",
            Self::BigDec(_) => "a big decimal",
            Self::Char(_) => "a character",
            Self::String(_) => "a string",
            Self::Keyword(_) => "a keyword",
            Self::Symbol(_) => "a symbol",
            Self::Instant(_) => "an instant",
            Self::Uuid(_) => "a uuid",
            Self::Bytes(_) => "bytes",
            Self::Uri(_) => "a uri",
            Self::Vector(_) => "a vector",
            Self::Set(_) => "a set",
            Self::Map(_) => "a map",
        }
    }

    /// The elements of a vector, a set, or a map (as pairs); nothing for anything else.
    pub fn elements(&self) -> Option<Arc<[Self]>> {
        match self {
            Self::Vector(elements) | Self::Set(elements) => Some(Arc::clone(elements)),
            Self::Map(entries) => Some(
                entries
                    .iter()
                    .map(|(key, value)| Self::vector([key.clone(), value.clone()]))
                    .collect(),
            ),
            _ => None,
        }
    }

    /// Whether a predicate that answers this holds: everything but nil and false.
    pub fn is_truthy(&self) -> bool {
        !matches!(self, Self::Nil | Self::Boolean(false))
    }

    /// Whether this is a number, of whatever kind.
    pub fn is_number(&self) -> bool {
        matches!(
            self,
            Self::Long(_) | Self::BigInt(_) | Self::Double(_) | Self::BigDec(_)
        )
    }

    /// Whether both are of one kind; numbers are all of one.
    pub fn is_of_kind(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }

    /// Position of the kind in the order of terms; numbers share theirs. Also its byte in encodings.
    fn rank(&self) -> u8 {
        match self {
            Self::Nil => 1,
            Self::Boolean(_) => 2,
            Self::Long(_) | Self::BigInt(_) | Self::Double(_) | Self::BigDec(_) => 3,
            Self::Char(_) => 4,
            Self::String(_) => 5,
            Self::Keyword(_) => 6,
            Self::Symbol(_) => 7,
            Self::Instant(_) => 8,
            Self::Uuid(_) => 9,
            Self::Bytes(_) => 10,
            Self::Uri(_) => 11,
            Self::Vector(_) => 12,
            Self::Set(_) => 13,
            Self::Map(_) => 14,
        }
    }
}

macro_rules! term_from {
    ($($source:ty => |$name:ident| $term:expr;)*) => {$(
        impl From<$source> for Term {
            fn from($name: $source) -> Self {
                $term
            }
        }
    )*};
}

term_from! {
    bool => |boolean| Self::Boolean(boolean);
    i64 => |long| Self::Long(long);
    f64 => |double| Self::Double(double);
    BigInt => |number| Self::BigInt(Arc::new(number));
    BigDecimal => |number| Self::BigDec(Arc::new(number));
    char => |char| Self::Char(char);
    &str => |text| Self::String(text.into());
    String => |text| Self::String(text.into());
    Arc<str> => |text| Self::String(text);
    Keyword => |keyword| Self::Keyword(keyword);
    Symbol => |symbol| Self::Symbol(symbol);
    Uuid => |uuid| Self::Uuid(uuid);
}

#[cfg(test)]
pub(crate) mod strategy;
