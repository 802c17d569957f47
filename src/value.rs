//! Values, and the one total order that every index, merge and comparison uses.
//!
//! # The order
//!
//! Values order by type first, in the order of [`ValueType`]'s codes, then within the type:
//!
//! | type | order |
//! |---|---|
//! | boolean | false, true |
//! | long, ref, instant | as signed numbers |
//! | double, float | as numbers, −∞ first, +∞ last; NaN is refused and −0.0 stored as 0.0 |
//! | bigint, bigdec | as numbers; `1.0M` and `1.00M` are the same value |
//! | string, keyword, symbol, uri | by code point, which is by UTF-8 byte |
//! | uuid, bytes | by unsigned byte |
//! | tuple | element by element, nil first, a shorter one before its extensions |
//!
//! A string, uri or bytes of more than [`Large::PREFIX_BYTES_MAX`] bytes is a [`Large`] value, which lies
//! out of line in trees. It orders by its first 1024 bytes (a string's are cut at a character boundary),
//! then by the BLAKE3 hash of the whole, so that it can be placed without being read.

mod edn;
#[cfg(feature = "query")]
mod term;

pub(crate) use edn::excerpt;
#[cfg(feature = "query")]
pub(crate) use term::{term_of, value_equal_to};

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use bigdecimal::BigDecimal;
use datomfusion_datalog::edn::{Keyword, Symbol};
use num_bigint::BigInt;

use crate::datom::Entid;
use crate::id::{Location, NodeId};

/// The type of an attribute's values. The codes are part of the storage format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ValueType {
    /// `:db.type/boolean`
    Boolean = 1,
    /// `:db.type/long`: 64 bits, signed.
    Long = 2,
    /// `:db.type/double`: IEEE 754, 64 bits.
    Double = 3,
    /// `:db.type/float`: IEEE 754, 32 bits.
    Float = 4,
    /// `:db.type/bigint`: up to [`Value::DIGITS_MAX`] digits.
    BigInt = 5,
    /// `:db.type/bigdec`: up to [`Value::DIGITS_MAX`] digits.
    BigDec = 6,
    /// `:db.type/string`
    String = 7,
    /// `:db.type/keyword`
    Keyword = 8,
    /// `:db.type/symbol`
    Symbol = 9,
    /// `:db.type/uuid`
    Uuid = 10,
    /// `:db.type/instant`: milliseconds since the epoch.
    Instant = 11,
    /// `:db.type/ref`: an entity id.
    Ref = 12,
    /// `:db.type/bytes`
    Bytes = 13,
    /// `:db.type/uri`
    Uri = 14,
    /// `:db.type/tuple`
    Tuple = 15,
}

impl ValueType {
    /// Every type, by code.
    pub const ALL: [Self; 15] = [
        Self::Boolean,
        Self::Long,
        Self::Double,
        Self::Float,
        Self::BigInt,
        Self::BigDec,
        Self::String,
        Self::Keyword,
        Self::Symbol,
        Self::Uuid,
        Self::Instant,
        Self::Ref,
        Self::Bytes,
        Self::Uri,
        Self::Tuple,
    ];

    /// The name after `:db.type/`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Long => "long",
            Self::Double => "double",
            Self::Float => "float",
            Self::BigInt => "bigint",
            Self::BigDec => "bigdec",
            Self::String => "string",
            Self::Keyword => "keyword",
            Self::Symbol => "symbol",
            Self::Uuid => "uuid",
            Self::Instant => "instant",
            Self::Ref => "ref",
            Self::Bytes => "bytes",
            Self::Uri => "uri",
            Self::Tuple => "tuple",
        }
    }

    /// The type of a storage code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ":db.type/{}", self.name())
    }
}

/// The value of a datom. Clones are cheap: long contents are shared.
#[derive(Clone, Debug)]
pub enum Value {
    /// A truth value.
    Boolean(bool),
    /// A 64-bit integer.
    Long(i64),
    /// A double, never NaN and never −0.0: see [`Value::double`].
    Double(f64),
    /// A float, never NaN and never −0.0: see [`Value::float`].
    Float(f32),
    /// An integer of any size.
    BigInt(Arc<BigInt>),
    /// A decimal number without trailing zeros: see [`Value::big_dec`].
    BigDec(Arc<BigDecimal>),
    /// Text of at most 1024 bytes: see [`Value::string`].
    String(Arc<str>),
    /// A keyword.
    Keyword(Keyword),
    /// A symbol.
    Symbol(Symbol),
    /// A UUID, its bytes read as a big-endian number.
    Uuid(u128),
    /// Milliseconds since the epoch.
    Instant(i64),
    /// An entity.
    Ref(Entid),
    /// At most 1024 bytes: see [`Value::bytes`].
    Bytes(Arc<[u8]>),
    /// A URI of at most 1024 bytes: see [`Value::uri`].
    Uri(Arc<str>),
    /// A tuple; elements may be nil.
    Tuple(Arc<[Option<Value>]>),
    /// A string, uri or bytes of more than 1024 bytes.
    Large(Arc<Large>),
}

/// A string, uri or bytes too long to lie in a tree node.
///
/// Order and equality need only the prefix and the hash; the body may not have been read yet.
pub struct Large {
    /// String, Uri or Bytes.
    pub value_type: ValueType,
    /// The first bytes, at most [`Large::PREFIX_BYTES_MAX`]; cut at a character boundary if text.
    pub prefix: Box<[u8]>,
    /// BLAKE3-256 of the whole body.
    pub hash: NodeId,
    /// Length of the whole body in bytes.
    pub len: u64,
    /// The body, once read; its hash has been verified.
    pub body: OnceLock<Arc<[u8]>>,
    /// Where the body lies, if this value was read from a tree; nothing to do with identity.
    pub location: Option<Location>,
}

impl Large {
    /// Bytes of a value that lie in line; longer values are out of line.
    pub const PREFIX_BYTES_MAX: usize = 1024;

    /// Splits a body of more than [`Large::PREFIX_BYTES_MAX`] bytes.
    fn new(value_type: ValueType, body: Arc<[u8]>) -> Self {
        Self {
            value_type,
            prefix: Self::prefix_of(value_type, &body).into(),
            hash: NodeId::of(&body),
            len: body.len() as u64,
            body: OnceLock::from(body),
            location: None,
        }
    }

    /// The prefix of a body, which is UTF-8 if the value is text.
    pub(crate) fn prefix_of(value_type: ValueType, body: &[u8]) -> &[u8] {
        let mut cut = Self::PREFIX_BYTES_MAX.min(body.len());
        if value_type != ValueType::Bytes {
            // A UTF-8 continuation byte is 0b10xxxxxx.
            while body.get(cut).is_some_and(|byte| byte & 0xc0 == 0x80) {
                cut -= 1;
            }
        }
        &body[..cut]
    }

    /// The same value at no place: places are the business of one store at one time.
    fn unplaced(&self) -> Self {
        Self {
            value_type: self.value_type,
            prefix: self.prefix.clone(),
            hash: self.hash,
            len: self.len,
            body: self.body.clone(),
            location: None,
        }
    }

    /// The body as text, if it has been read and the value is text.
    pub fn text(&self) -> Option<&str> {
        if self.value_type == ValueType::Bytes {
            return None;
        }
        self.body
            .get()
            .and_then(|body| std::str::from_utf8(body).ok())
    }
}

impl fmt::Debug for Large {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Large({}, {} bytes, {})",
            self.value_type.name(),
            self.len,
            self.hash
        )
    }
}

impl Value {
    /// Most digits of a bigint or bigdec, and the largest scale of a bigdec in either direction.
    pub const DIGITS_MAX: u64 = 1000;

    /// The same value; where its body lies, if it is a large one that has been read, is forgotten.
    #[must_use]
    pub(crate) fn unplaced(&self) -> Self {
        match self {
            Self::Large(large) if large.location.is_some() && large.body.get().is_some() => {
                Self::Large(Arc::new(large.unplaced()))
            }
            Self::Tuple(elements) => Self::Tuple(
                elements
                    .iter()
                    .map(|element| element.as_ref().map(Self::unplaced))
                    .collect(),
            ),
            other => other.clone(),
        }
    }

    /// A string of any length.
    pub fn string(text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        if text.len() <= Large::PREFIX_BYTES_MAX {
            return Self::String(text);
        }
        Self::Large(Arc::new(Large::new(ValueType::String, text.into())))
    }

    /// A URI of any length.
    pub fn uri(text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        if text.len() <= Large::PREFIX_BYTES_MAX {
            return Self::Uri(text);
        }
        Self::Large(Arc::new(Large::new(ValueType::Uri, text.into())))
    }

    /// Bytes of any length.
    pub fn bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        if bytes.len() <= Large::PREFIX_BYTES_MAX {
            return Self::Bytes(bytes);
        }
        Self::Large(Arc::new(Large::new(ValueType::Bytes, bytes)))
    }

    /// A double; `None` if it is NaN, which equals nothing and so could never be found again.
    pub fn double(number: f64) -> Option<Self> {
        (!number.is_nan()).then_some(Self::Double(number + 0.0))
    }

    /// A float; `None` if it is NaN.
    pub fn float(number: f32) -> Option<Self> {
        (!number.is_nan()).then_some(Self::Float(number + 0.0))
    }

    /// An integer; `None` if it has more than [`Value::DIGITS_MAX`] digits.
    pub fn big_int(number: BigInt) -> Option<Self> {
        // log10(2) is a little more than 0.3010.
        let digits_min = number.bits().saturating_sub(1) * 301 / 1000;
        (digits_min < Self::DIGITS_MAX).then(|| Self::BigInt(Arc::new(number)))
    }

    /// A decimal, stored without trailing zeros so that equal numbers are equal values; `None` if it has
    /// more than [`Value::DIGITS_MAX`] digits or a scale beyond that.
    pub fn big_dec(number: &BigDecimal) -> Option<Self> {
        if number.digits() > 2 * Self::DIGITS_MAX {
            return None;
        }
        let number = number.normalized();
        let scale = number.as_bigint_and_exponent().1;
        (number.digits() <= Self::DIGITS_MAX && scale.unsigned_abs() <= Self::DIGITS_MAX)
            .then(|| Self::BigDec(Arc::new(number)))
    }

    /// The type.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::Boolean(_) => ValueType::Boolean,
            Self::Long(_) => ValueType::Long,
            Self::Double(_) => ValueType::Double,
            Self::Float(_) => ValueType::Float,
            Self::BigInt(_) => ValueType::BigInt,
            Self::BigDec(_) => ValueType::BigDec,
            Self::String(_) => ValueType::String,
            Self::Keyword(_) => ValueType::Keyword,
            Self::Symbol(_) => ValueType::Symbol,
            Self::Uuid(_) => ValueType::Uuid,
            Self::Instant(_) => ValueType::Instant,
            Self::Ref(_) => ValueType::Ref,
            Self::Bytes(_) => ValueType::Bytes,
            Self::Uri(_) => ValueType::Uri,
            Self::Tuple(_) => ValueType::Tuple,
            Self::Large(large) => large.value_type,
        }
    }

    /// The text of a string or uri whose body is at hand.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) | Self::Uri(text) => Some(text),
            Self::Large(large) => large.text(),
            _ => None,
        }
    }

    /// The number of a long.
    pub fn as_long(&self) -> Option<i64> {
        if let Self::Long(number) = self {
            Some(*number)
        } else {
            None
        }
    }

    /// The entity of a ref.
    pub fn as_ref(&self) -> Option<Entid> {
        if let Self::Ref(entid) = self {
            Some(*entid)
        } else {
            None
        }
    }

    /// The entities that it refers to, those in a tuple included.
    pub(crate) fn referred(&self) -> impl Iterator<Item = Entid> + '_ {
        let elements = match self {
            Self::Tuple(elements) => &elements[..],
            _ => &[],
        };
        let values = elements.iter().flatten().chain([self]);
        values.filter_map(Self::as_ref)
    }

    /// The keyword.
    pub fn as_keyword(&self) -> Option<&Keyword> {
        if let Self::Keyword(keyword) = self {
            Some(keyword)
        } else {
            None
        }
    }

    /// Bytes that this value takes in a node before any compression: the size that bounds nodes.
    pub fn logical_bytes(&self) -> usize {
        match self {
            Self::Boolean(_) => 1,
            Self::Long(_) | Self::Double(_) | Self::Instant(_) | Self::Ref(_) => 8,
            Self::Float(_) => 4,
            Self::BigInt(number) => usize::try_from(number.bits() / 8).unwrap_or(usize::MAX) + 1,
            Self::BigDec(number) => usize::try_from(number.digits()).unwrap_or(usize::MAX) / 2 + 4,
            Self::String(text) | Self::Uri(text) => text.len(),
            Self::Keyword(keyword) => keyword.as_str().len(),
            Self::Symbol(symbol) => symbol.as_str().len(),
            Self::Uuid(_) => 16,
            Self::Bytes(bytes) => bytes.len(),
            Self::Tuple(elements) => elements
                .iter()
                .map(|element| 1 + element.as_ref().map_or(0, Self::logical_bytes))
                .sum(),
            Self::Large(large) => large.prefix.len() + 40,
        }
    }

    /// What orders text and bytes: the bytes in line, then the hash of what lies out of line.
    fn key_bytes(&self) -> (&[u8], Option<&NodeId>) {
        match self {
            Self::String(text) | Self::Uri(text) => (text.as_bytes(), None),
            Self::Bytes(bytes) => (bytes, None),
            Self::Large(large) => (&large.prefix, Some(&large.hash)),
            _ => (&[], None),
        }
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Long(left), Self::Long(right)) | (Self::Instant(left), Self::Instant(right)) => {
                left.cmp(right)
            }
            (Self::String(left), Self::String(right)) | (Self::Uri(left), Self::Uri(right)) => {
                left.cmp(right)
            }
            (Self::Ref(left), Self::Ref(right)) => left.cmp(right),
            (Self::Keyword(left), Self::Keyword(right)) => left.cmp(right),
            (Self::Boolean(left), Self::Boolean(right)) => left.cmp(right),
            (Self::Double(left), Self::Double(right)) => left.total_cmp(right),
            (Self::Float(left), Self::Float(right)) => left.total_cmp(right),
            (Self::BigInt(left), Self::BigInt(right)) => left.cmp(right),
            (Self::BigDec(left), Self::BigDec(right)) => left.cmp(right),
            (Self::Symbol(left), Self::Symbol(right)) => left.cmp(right),
            (Self::Uuid(left), Self::Uuid(right)) => left.cmp(right),
            (Self::Tuple(left), Self::Tuple(right)) => left.cmp(right),
            _ => (self.value_type().cmp(&other.value_type()))
                .then_with(|| self.key_bytes().cmp(&other.key_bytes())),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value_type().hash(state);
        match self {
            Self::Boolean(value) => value.hash(state),
            Self::Long(value) | Self::Instant(value) => value.hash(state),
            Self::Double(value) => value.to_bits().hash(state),
            Self::Float(value) => value.to_bits().hash(state),
            Self::BigInt(value) => value.hash(state),
            Self::BigDec(value) => value.hash(state),
            Self::Keyword(value) => value.hash(state),
            Self::Symbol(value) => value.hash(state),
            Self::Uuid(value) => value.hash(state),
            Self::Ref(value) => value.hash(state),
            Self::Tuple(value) => value.hash(state),
            Self::String(_) | Self::Uri(_) | Self::Bytes(_) | Self::Large(_) => {
                self.key_bytes().hash(state);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::str::FromStr;

    use proptest::prelude::*;

    use super::*;

    /// Values of every type, with many equal and adjacent ones.
    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            any::<bool>().prop_map(Value::Boolean),
            prop_oneof![-3..3i64, any::<i64>()].prop_map(Value::Long),
            any::<f64>().prop_filter_map("NaN", Value::double),
            any::<f32>().prop_filter_map("NaN", Value::float),
            any::<i128>().prop_filter_map("digits", |n| Value::big_int(n.into())),
            (any::<i64>(), -20..20i64).prop_filter_map("digits", |(n, s)| Value::big_dec(
                &BigDecimal::new(n.into(), s)
            )),
            prop_oneof!["[ab]{0,3}", "\\PC{0,20}"].prop_map(Value::string),
            "[ab]/[ab]{1,2}".prop_map(|text| Value::Keyword(Keyword::new(text))),
            "[ab]{1,3}".prop_map(|text| Value::Symbol(Symbol::new(text))),
            any::<u128>().prop_map(Value::Uuid),
            any::<i64>().prop_map(Value::Instant),
            (0..5000i64).prop_map(|e| Value::Ref(Entid(e))),
            prop::collection::vec(any::<u8>(), 0..9).prop_map(Value::bytes),
            "[ab:/]{0,9}".prop_map(Value::uri),
            ("[aé]{1,2}", 1020..1030usize).prop_map(|(tail, n)| {
                Value::string(format!("{}{tail}{}", "x".repeat(n), "y".repeat(20)))
            }),
        ];
        let element = prop::option::of(any::<i64>().prop_map(Value::Long));
        prop_oneof![
            9 => scalar,
            1 => prop::collection::vec(element, 1..4).prop_map(|v| Value::Tuple(v.into())),
        ]
    }

    proptest! {
        #[test]
        fn order_is_total(mut values in prop::collection::vec(any_value(), 0..30)) {
            values.sort();
            for pair in values.windows(2) {
                prop_assert!(pair[0] <= pair[1]);
                prop_assert_eq!(pair[0].cmp(&pair[1]).reverse(), pair[1].cmp(&pair[0]));
                prop_assert_eq!(pair[0] == pair[1], pair[0].cmp(&pair[1]).is_eq());
            }
        }
    }

    #[test]
    fn numbers_that_are_equal_are_one_value() {
        let dec = |text: &str| Value::big_dec(&BigDecimal::from_str(text).unwrap()).unwrap();
        assert_eq!(dec("1.0"), dec("1.00"));
        assert_eq!(dec("100"), dec("1e2"));
        assert!(dec("-0.5") < dec("0.25"));
        assert_eq!(Value::double(-0.0).unwrap(), Value::double(0.0).unwrap());
        assert!(Value::double(f64::NAN).is_none() && Value::float(f32::NAN).is_none());
    }

    #[test]
    fn a_long_string_sorts_behind_its_prefix() {
        let short = Value::string("x".repeat(1024));
        let long = Value::string("x".repeat(1025));
        let behind = Value::string("y");
        assert!(matches!(short, Value::String(_)) && matches!(long, Value::Large(_)));
        assert!(short < long && long < behind);
        assert_eq!(long.as_str().map(str::len), Some(1025));
    }

    #[test]
    fn enormous_numbers_are_refused() {
        assert!(Value::big_int(BigInt::from(10).pow(998)).is_some());
        assert!(Value::big_int(BigInt::from(10).pow(1002)).is_none());
        assert!(Value::big_dec(&BigDecimal::new(1.into(), 5000)).is_none());
    }
}
