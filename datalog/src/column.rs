//! How terms lie in columns.
//!
//! | what a variable can be | Arrow |
//! |---|---|
//! | long, entity, attribute | `Int64` |
//! | double | `Float64` |
//! | boolean | `Boolean` |
//! | string; keyword, with its colon | `Utf8View` |
//! | instant | `Timestamp(Millisecond, "UTC")` |
//! | anything else, and a mixture | `Binary`: the order-preserving encoding of [`Term`] |
//!
//! Bytes of an encoding are equal if the terms are, except that numbers of several kinds, and what can
//! hold numbers, differ in what they are and not only in how much: there the *key* of an encoding decides.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder,
    StringViewBuilder, TimestampMillisecondBuilder,
};
use datafusion::arrow::datatypes::{
    DataType, Float64Type, Int64Type, TimeUnit, TimestampMillisecondType,
};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err};

use crate::analyze::bound::SourceId;
use crate::edn::Keyword;
use crate::source::TermType;
use crate::term::Term;

/// A set of kinds of terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kinds(u32);

/// The bit of everything that no attribute has: characters, sets, maps, vectors.
const OTHER: u32 = 1 << 31;

impl Kinds {
    /// Nothing at all.
    pub const NONE: Self = Self(0);
    /// Whatever a term can be.
    pub const ANY: Self = Self(u32::MAX);

    /// One kind.
    pub const fn of(kind: TermType) -> Self {
        Self(1 << kind as u32)
    }

    /// The kind of a term.
    pub fn of_term(term: &Term) -> Self {
        Self::of(match term {
            Term::Boolean(_) => TermType::Boolean,
            Term::Long(_) => TermType::Long,
            Term::BigInt(_) => TermType::BigInt,
            Term::Double(_) => TermType::Double,
            Term::BigDec(_) => TermType::BigDec,
            Term::String(_) => TermType::String,
            Term::Keyword(_) => TermType::Keyword,
            Term::Symbol(_) => TermType::Symbol,
            Term::Instant(_) => TermType::Instant,
            Term::Uuid(_) => TermType::Uuid,
            Term::Bytes(_) => TermType::Bytes,
            Term::Uri(_) => TermType::Uri,
            Term::Vector(_) => TermType::Tuple,
            Term::Nil | Term::Char(_) | Term::Set(_) | Term::Map(_) => return Self(OTHER),
        })
    }

    /// Both together.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether every kind of this is one of `other`.
    pub const fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Integers of 64 bits, whatever they stand for.
    pub const INTEGERS: Self = Self::of(TermType::Long)
        .or(Self::of(TermType::Ref))
        .or(Self::of(TermType::Attribute));

    /// All numbers.
    pub const NUMBERS: Self = Self::INTEGERS
        .or(Self::of(TermType::Double))
        .or(Self::of(TermType::Float))
        .or(Self::of(TermType::BigInt))
        .or(Self::of(TermType::BigDec));

    /// Whether two different kinds of encodings of it can be equal.
    fn is_ambiguous(self) -> bool {
        let numbers = self.and(Self::NUMBERS);
        let decimal = Self::of(TermType::BigDec);
        let several = !numbers.within(Self::INTEGERS)
            && !numbers.within(Self::of(TermType::Double).or(Self::of(TermType::Float)))
            && !numbers.within(Self::of(TermType::BigInt));
        several
            || !self.and(decimal).is_empty()
            || !self
                .and(Self::of(TermType::Tuple).or(Self(OTHER)))
                .is_empty()
    }
}

/// The Arrow representation of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Repr {
    /// `Boolean`
    Boolean,
    /// `Int64`
    Int64,
    /// `Float64`
    Float64,
    /// `Utf8View`, the text.
    String,
    /// `Utf8View`, with a colon.
    Keyword,
    /// `Timestamp(Millisecond, "UTC")`
    Instant,
    /// `Binary`, an encoded term.
    Mixed,
}

impl Repr {
    /// The Arrow type.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::String | Self::Keyword => DataType::Utf8View,
            Self::Instant => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            Self::Mixed => DataType::Binary,
        }
    }
}

/// What is known of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ColumnType {
    /// What its terms can be.
    pub kinds: Kinds,
    /// The database whose attributes it holds, if it holds attributes.
    pub attribute_of: Option<SourceId>,
}

impl ColumnType {
    /// Terms of these kinds.
    pub const fn new(kinds: Kinds) -> Self {
        Self {
            kinds,
            attribute_of: None,
        }
    }

    /// Terms of one kind.
    pub const fn of(kind: TermType) -> Self {
        Self::new(Kinds::of(kind))
    }

    /// Attributes of a database.
    pub const fn attribute(source: SourceId) -> Self {
        Self {
            kinds: Kinds::of(TermType::Attribute),
            attribute_of: Some(source),
        }
    }

    /// The representation.
    pub fn repr(self) -> Repr {
        let is = |kind| self.kinds == Kinds::of(kind);
        if self.kinds.is_empty() || self.kinds.within(Kinds::INTEGERS) {
            Repr::Int64
        } else if is(TermType::Double) {
            Repr::Float64
        } else if is(TermType::Boolean) {
            Repr::Boolean
        } else if is(TermType::String) {
            Repr::String
        } else if is(TermType::Keyword) {
            Repr::Keyword
        } else if is(TermType::Instant) {
            Repr::Instant
        } else {
            Repr::Mixed
        }
    }

    /// Whether terms of this and of `other` are equal just if their representations are.
    pub fn compares_plainly(self, other: Self) -> bool {
        self.repr() == other.repr()
            && (self.repr() != Repr::Mixed || !self.kinds.or(other.kinds).is_ambiguous())
    }

    /// Whether no term of this can be equal to one of `other`.
    pub fn never_meets(self, other: Self) -> bool {
        let numbers = |column: Self| !column.kinds.and(Kinds::NUMBERS).is_empty();
        let known = !self.kinds.is_empty() && !other.kinds.is_empty();
        known && self.kinds.and(other.kinds).is_empty() && !(numbers(self) && numbers(other))
    }

    /// What a column of either holds.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            kinds: self.kinds.or(other.kinds),
            attribute_of: self.attribute_of.or(other.attribute_of),
        }
    }

    /// What a column holds that is equal to both.
    #[must_use]
    pub fn joined(self, other: Self) -> Self {
        Self {
            kinds: self.kinds,
            attribute_of: self.attribute_of.or(other.attribute_of),
        }
    }
}

impl fmt::Display for ColumnType {
    /// The kinds, with commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = TermType::ALL
            .into_iter()
            .filter(|kind| !Kinds::of(*kind).and(self.kinds).is_empty());
        let names: Vec<String> = kinds
            .map(|kind| format!("{kind:?}").to_lowercase())
            .collect();
        f.write_str(&names.join(", "))
    }
}

/// Reads terms out of an array of a representation.
pub struct Reader<'a> {
    repr: Repr,
    array: &'a dyn Array,
}

impl<'a> Reader<'a> {
    /// Reads an array.
    ///
    /// # Errors
    ///
    /// If its type is not the representation's.
    pub fn new(repr: Repr, array: &'a ArrayRef) -> Result<Self> {
        if *array.data_type() != repr.data_type() {
            return exec_err!("a column of {repr:?} cannot be {}", array.data_type());
        }
        Ok(Self { repr, array })
    }

    /// The term of a row; nil where the column is null.
    ///
    /// # Errors
    ///
    /// If the bytes are no encoded term.
    pub fn term(&self, row: usize) -> Result<Term> {
        let array = self.array;
        if array.is_null(row) {
            return Ok(Term::Nil);
        }
        Ok(match self.repr {
            Repr::Boolean => Term::Boolean(array.as_boolean().value(row)),
            Repr::Int64 => Term::Long(array.as_primitive::<Int64Type>().value(row)),
            Repr::Float64 => Term::Double(array.as_primitive::<Float64Type>().value(row)),
            Repr::String => Term::String(array.as_string_view().value(row).into()),
            Repr::Keyword => {
                let text = array.as_string_view().value(row);
                Term::Keyword(Keyword::new(text.strip_prefix(':').unwrap_or(text)))
            }
            Repr::Instant => {
                Term::Instant(array.as_primitive::<TimestampMillisecondType>().value(row))
            }
            Repr::Mixed => {
                let bytes = array.as_binary::<i32>().value(row);
                Term::decode(bytes).map_err(|error| exec_datafusion_err!("{error}"))?
            }
        })
    }

    /// The terms of all rows, in their order.
    ///
    /// # Errors
    ///
    /// As [`Reader::term`].
    pub fn read<'t>(&self, places: impl Iterator<Item = &'t mut Term>) -> Result<()> {
        if self.repr == Repr::Int64 && self.array.null_count() == 0 {
            let longs = self.array.as_primitive::<Int64Type>().values();
            for (place, long) in places.zip(longs) {
                *place = Term::Long(*long);
            }
            return Ok(());
        }
        for (row, place) in places.enumerate() {
            *place = self.term(row)?;
        }
        Ok(())
    }
}

/// Collects terms into an array of a representation.
pub enum Writer {
    /// See [`Repr::Boolean`].
    Boolean(BooleanBuilder),
    /// See [`Repr::Int64`].
    Int64(Int64Builder),
    /// See [`Repr::Float64`].
    Float64(Float64Builder),
    /// See [`Repr::String`].
    String(StringViewBuilder),
    /// See [`Repr::Keyword`].
    Keyword(StringViewBuilder, String),
    /// See [`Repr::Instant`].
    Instant(TimestampMillisecondBuilder),
    /// See [`Repr::Mixed`].
    Mixed(BinaryBuilder, Vec<u8>),
}

impl Writer {
    /// An empty array to be.
    pub fn new(repr: Repr, rows: usize) -> Self {
        match repr {
            Repr::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            Repr::Int64 => Self::Int64(Int64Builder::with_capacity(rows)),
            Repr::Float64 => Self::Float64(Float64Builder::with_capacity(rows)),
            Repr::String => Self::String(StringViewBuilder::with_capacity(rows)),
            Repr::Keyword => Self::Keyword(StringViewBuilder::with_capacity(rows), String::new()),
            Repr::Instant => {
                Self::Instant(TimestampMillisecondBuilder::with_capacity(rows).with_timezone("UTC"))
            }
            Repr::Mixed => Self::Mixed(BinaryBuilder::with_capacity(rows, 16 * rows), Vec::new()),
        }
    }

    /// Adds a term; nil becomes null.
    ///
    /// # Errors
    ///
    /// If the column cannot hold the term, which is a fault of the planner's.
    pub fn push(&mut self, term: &Term) -> Result<()> {
        match (self, term) {
            (Self::Mixed(array, _), Term::Nil) => array.append_null(),
            (Self::Mixed(array, bytes), term) => {
                bytes.clear();
                term.encode(bytes);
                array.append_value(bytes);
            }
            (Self::Boolean(array), Term::Boolean(value)) => array.append_value(*value),
            (Self::Boolean(array), Term::Nil) => array.append_null(),
            (Self::Int64(array), Term::Long(value)) => array.append_value(*value),
            (Self::Int64(array), Term::Nil) => array.append_null(),
            // Equal numbers stand for each other, whatever kind came first.
            (Self::Int64(array), number) if integer(number).is_some() => {
                array.append_option(integer(number));
            }
            (Self::Float64(array), Term::Double(value)) => array.append_value(*value),
            (Self::Float64(array), Term::Nil) => array.append_null(),
            (Self::Float64(array), Term::Long(value)) => {
                #[expect(clippy::cast_precision_loss, reason = "a double was equal to it")]
                array.append_value(*value as f64);
            }
            (Self::String(array), Term::String(value)) => array.append_value(value),
            (Self::String(array) | Self::Keyword(array, _), Term::Nil) => array.append_null(),
            (Self::Keyword(array, text), Term::Keyword(value)) => {
                text.clear();
                text.push(':');
                text.push_str(value.as_str());
                array.append_value(&*text);
            }
            (Self::Instant(array), Term::Instant(value)) => array.append_value(*value),
            (Self::Instant(array), Term::Nil) => array.append_null(),
            (_, term) => return exec_err!("{} has no place in its column", term.describe()),
        }
        Ok(())
    }

    /// The array.
    pub fn finish(self) -> ArrayRef {
        match self {
            Self::Boolean(mut array) => Arc::new(array.finish()),
            Self::Int64(mut array) => Arc::new(array.finish()),
            Self::Float64(mut array) => Arc::new(array.finish()),
            Self::String(mut array) | Self::Keyword(mut array, _) => Arc::new(array.finish()),
            Self::Instant(mut array) => Arc::new(array.finish()),
            Self::Mixed(mut array, _) => Arc::new(array.finish()),
        }
    }
}

/// A term as a literal of a representation, if it has it exactly.
pub fn literal(term: &Term, repr: Repr) -> Option<ScalarValue> {
    Some(match (repr, term) {
        (Repr::Boolean, Term::Boolean(value)) => ScalarValue::Boolean(Some(*value)),
        (Repr::Int64, Term::Long(value)) => ScalarValue::Int64(Some(*value)),
        (Repr::Int64, number) => ScalarValue::Int64(Some(integer(number)?)),
        (Repr::Float64, Term::Double(value)) => ScalarValue::Float64(Some(*value + 0.0)),
        (Repr::Float64, Term::Long(value)) => {
            let exact = value.unsigned_abs() <= 1 << 53;
            #[expect(clippy::cast_precision_loss, reason = "checked above")]
            let double = *value as f64;
            exact.then_some(ScalarValue::Float64(Some(double)))?
        }
        (Repr::String, Term::String(value)) => ScalarValue::Utf8View(Some(value.to_string())),
        (Repr::Keyword, Term::Keyword(value)) => ScalarValue::Utf8View(Some(value.to_string())),
        (Repr::Instant, Term::Instant(value)) => {
            ScalarValue::TimestampMillisecond(Some(*value), Some("UTC".into()))
        }
        (Repr::Mixed, term) => {
            let mut bytes = Vec::new();
            term.encode(&mut bytes);
            ScalarValue::Binary(Some(bytes))
        }
        _ => return None,
    })
}

/// The integer that a number is, if it is one of 64 bits.
pub(crate) fn integer(term: &Term) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "checked by comparison")]
    let candidate = match term {
        Term::Long(value) => *value,
        Term::Double(value) => *value as i64,
        Term::BigInt(value) => i64::try_from(&**value).ok()?,
        _ => return None,
    };
    (Term::Long(candidate) == *term).then_some(candidate)
}
