//! The data that EDN text denotes: [`Edn`], and [`Form`] when it matters where it stood.
//!
//! Equality, order and hash are those of the written data and ignore spans, so that a form can be a
//! key. They are total: a NaN equals itself, and `-0.0` differs from `0.0`. Collections compare as they
//! are written: two maps with the same entries in another order are two forms.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use bigdecimal::BigDecimal;
use num_bigint::BigInt;
use uuid::Uuid;

use super::keyword::{Keyword, Symbol};
use crate::span::Span;

/// One piece of EDN data.
#[derive(Clone, Debug)]
pub enum Edn {
    /// `nil`
    Nil,
    /// `true`, `false`
    Boolean(bool),
    /// `42`
    Long(i64),
    /// `42N`, and integers too large for 64 bits.
    BigInt(BigInt),
    /// `1.5`, `1e9`, `##Inf`, `##-Inf`, `##NaN`
    Double(f64),
    /// `1.5M`; compares by number, so `1.0M` equals `1.00M`.
    BigDec(BigDecimal),
    /// `\a`, `\newline`, `\u00e9`
    Char(char),
    /// `"text"`
    String(Arc<str>),
    /// `?e`, `clojure.string/join`
    Symbol(Symbol),
    /// `:person/name`
    Keyword(Keyword),
    /// `#inst "2011-01-01"`, in milliseconds since the epoch.
    Instant(i64),
    /// `#uuid "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"`
    Uuid(Uuid),
    /// `(1 2)`
    List(Vec<Form>),
    /// `[1 2]`
    Vector(Vec<Form>),
    /// `{:a 1}`; the reader refuses equal keys.
    Map(Vec<(Form, Form)>),
    /// `#{1 2}`; the reader refuses equal elements.
    Set(Vec<Form>),
    /// `#db/id [:db.part/user -1]`: a tag that is not built in, and its form.
    Tagged(Symbol, Box<Form>),
}

/// An [`Edn`] and where it stood in the text. Comparisons ignore the span.
///
/// A form dereferences to its data, so the accessors of [`Edn`] are at hand.
///
/// ```
/// use datomfusion_datalog::edn::{read, Edn};
///
/// let form = read("{:name \"Ada\"}")?;
/// let (key, value) = &form.as_map().unwrap()[0];
/// assert_eq!((value.as_str(), value.span), (Some("Ada"), (7..12).into()));
/// # Ok::<(), datomfusion_datalog::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Form {
    /// The data.
    pub edn: Edn,
    /// The bytes it was read from, or an empty span if it was not read.
    pub span: Span,
}

impl Edn {
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
            Self::Symbol(_) => "a symbol",
            Self::Keyword(_) => "a keyword",
            Self::Instant(_) => "an instant",
            Self::Uuid(_) => "a uuid",
            Self::List(_) => "a list",
            Self::Vector(_) => "a vector",
            Self::Map(_) => "a map",
            Self::Set(_) => "a set",
            Self::Tagged(..) => "a tagged form",
        }
    }

    /// Whether this is `nil`.
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }

    /// The boolean, if it is one.
    pub fn as_boolean(&self) -> Option<bool> {
        match self {
            Self::Boolean(boolean) => Some(*boolean),
            _ => None,
        }
    }

    /// The long, if it is one.
    pub fn as_long(&self) -> Option<i64> {
        match self {
            Self::Long(long) => Some(*long),
            _ => None,
        }
    }

    /// The text of a string. Names are not strings.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The keyword, if it is one.
    pub fn as_keyword(&self) -> Option<&Keyword> {
        match self {
            Self::Keyword(keyword) => Some(keyword),
            _ => None,
        }
    }

    /// The symbol, if it is one.
    pub fn as_symbol(&self) -> Option<&Symbol> {
        match self {
            Self::Symbol(symbol) => Some(symbol),
            _ => None,
        }
    }

    /// The forms of a list.
    pub fn as_list(&self) -> Option<&[Form]> {
        match self {
            Self::List(forms) => Some(forms),
            _ => None,
        }
    }

    /// The forms of a vector.
    pub fn as_vector(&self) -> Option<&[Form]> {
        match self {
            Self::Vector(forms) => Some(forms),
            _ => None,
        }
    }

    /// The forms of a list or of a vector, where either will do.
    pub fn as_sequence(&self) -> Option<&[Form]> {
        match self {
            Self::List(forms) | Self::Vector(forms) => Some(forms),
            _ => None,
        }
    }

    /// The forms of a set, as they were written.
    pub fn as_set(&self) -> Option<&[Form]> {
        match self {
            Self::Set(forms) => Some(forms),
            _ => None,
        }
    }

    /// The entries of a map, as they were written.
    pub fn as_map(&self) -> Option<&[(Form, Form)]> {
        match self {
            Self::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The tag and the form of a tagged form.
    pub fn as_tagged(&self) -> Option<(&Symbol, &Form)> {
        match self {
            Self::Tagged(tag, form) => Some((tag, form)),
            _ => None,
        }
    }

    /// The value of a keyword in a map: the key without its colon. Looks at the entries one by one.
    pub fn get(&self, key: &str) -> Option<&Form> {
        let is_key = |form: &Form| {
            form.as_keyword()
                .is_some_and(|keyword| keyword.as_str() == key)
        };
        self.as_map()?
            .iter()
            .find(|(form, _)| is_key(form))
            .map(|(_, value)| value)
    }

    /// Position of the variant in the order of forms of different kinds.
    fn rank(&self) -> u8 {
        match self {
            Self::Nil => 0,
            Self::Boolean(_) => 1,
            Self::Long(_) => 2,
            Self::BigInt(_) => 3,
            Self::Double(_) => 4,
            Self::BigDec(_) => 5,
            Self::Char(_) => 6,
            Self::String(_) => 7,
            Self::Symbol(_) => 8,
            Self::Keyword(_) => 9,
            Self::Instant(_) => 10,
            Self::Uuid(_) => 11,
            Self::List(_) => 12,
            Self::Vector(_) => 13,
            Self::Map(_) => 14,
            Self::Set(_) => 15,
            Self::Tagged(..) => 16,
        }
    }
}

/// Makes all NaN one, so that the total order of doubles has one place for it.
fn one_nan(double: f64) -> f64 {
    if double.is_nan() { f64::NAN } else { double }
}

impl PartialEq for Edn {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nil, Self::Nil) => true,
            (Self::Boolean(a), Self::Boolean(b)) => a == b,
            (Self::Long(a), Self::Long(b)) | (Self::Instant(a), Self::Instant(b)) => a == b,
            (Self::BigInt(a), Self::BigInt(b)) => a == b,
            (Self::Double(a), Self::Double(b)) => one_nan(*a).to_bits() == one_nan(*b).to_bits(),
            (Self::BigDec(a), Self::BigDec(b)) => a == b,
            (Self::Char(a), Self::Char(b)) => a == b,
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Symbol(a), Self::Symbol(b)) => a == b,
            (Self::Keyword(a), Self::Keyword(b)) => a == b,
            (Self::Uuid(a), Self::Uuid(b)) => a == b,
            (Self::List(a), Self::List(b))
            | (Self::Vector(a), Self::Vector(b))
            | (Self::Set(a), Self::Set(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            (Self::Tagged(a, x), Self::Tagged(b, y)) => a == b && x == y,
            _ => false,
        }
    }
}

impl Eq for Edn {}

impl Ord for Edn {
    /// Orders by kind, in the order of the variants, then by content.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::Long(a), Self::Long(b)) | (Self::Instant(a), Self::Instant(b)) => a.cmp(b),
            (Self::BigInt(a), Self::BigInt(b)) => a.cmp(b),
            (Self::Double(a), Self::Double(b)) => one_nan(*a).total_cmp(&one_nan(*b)),
            (Self::BigDec(a), Self::BigDec(b)) => a.cmp(b),
            (Self::Char(a), Self::Char(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Symbol(a), Self::Symbol(b)) => a.cmp(b),
            (Self::Keyword(a), Self::Keyword(b)) => a.cmp(b),
            (Self::Uuid(a), Self::Uuid(b)) => a.cmp(b),
            (Self::List(a), Self::List(b))
            | (Self::Vector(a), Self::Vector(b))
            | (Self::Set(a), Self::Set(b)) => a.cmp(b),
            (Self::Map(a), Self::Map(b)) => a.cmp(b),
            (Self::Tagged(a, x), Self::Tagged(b, y)) => a.cmp(b).then_with(|| x.cmp(y)),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Edn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Edn {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rank().hash(state);
        match self {
            Self::Nil => {}
            Self::Boolean(boolean) => boolean.hash(state),
            Self::Long(number) | Self::Instant(number) => number.hash(state),
            Self::BigInt(number) => number.hash(state),
            Self::Double(double) => one_nan(*double).to_bits().hash(state),
            Self::BigDec(number) => number.hash(state),
            Self::Char(char) => char.hash(state),
            Self::String(text) => text.hash(state),
            Self::Symbol(symbol) => symbol.hash(state),
            Self::Keyword(keyword) => keyword.hash(state),
            Self::Uuid(uuid) => uuid.hash(state),
            Self::List(forms) | Self::Vector(forms) | Self::Set(forms) => forms.hash(state),
            Self::Map(entries) => entries.hash(state),
            Self::Tagged(tag, form) => (tag, form).hash(state),
        }
    }
}

impl Form {
    /// Data and where it stood.
    pub const fn new(edn: Edn, span: Span) -> Self {
        Self { edn, span }
    }
}

impl Deref for Form {
    type Target = Edn;

    fn deref(&self) -> &Edn {
        &self.edn
    }
}

impl PartialEq for Form {
    fn eq(&self, other: &Self) -> bool {
        self.edn == other.edn
    }
}

impl Eq for Form {}

impl Ord for Form {
    fn cmp(&self, other: &Self) -> Ordering {
        self.edn.cmp(&other.edn)
    }
}

impl PartialOrd for Form {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Form {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.edn.hash(state);
    }
}

impl<T: Into<Edn>> From<T> for Form {
    fn from(edn: T) -> Self {
        Self::new(edn.into(), Span::default())
    }
}

macro_rules! edn_from {
    ($($source:ty => |$name:ident| $edn:expr;)*) => {$(
        impl From<$source> for Edn {
            fn from($name: $source) -> Self {
                $edn
            }
        }
    )*};
}

edn_from! {
    bool => |boolean| Self::Boolean(boolean);
    i64 => |long| Self::Long(long);
    f64 => |double| Self::Double(double);
    BigInt => |number| Self::BigInt(number);
    BigDecimal => |number| Self::BigDec(number);
    char => |char| Self::Char(char);
    &str => |text| Self::String(text.into());
    String => |text| Self::String(text.into());
    Arc<str> => |text| Self::String(text);
    Symbol => |symbol| Self::Symbol(symbol);
    Keyword => |keyword| Self::Keyword(keyword);
    Uuid => |uuid| Self::Uuid(uuid);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn equality_ignores_the_span_at_every_depth() {
        let here = Form::new(Edn::Vector(vec![Form::from(1)]), Span::new(0, 3));
        let there = Form::new(
            Edn::Vector(vec![Form::new(Edn::Long(1), Span::new(8, 9))]),
            Span::new(7, 10),
        );
        assert_eq!(here, there);
        assert_eq!(BTreeSet::from([&here, &there]).len(), 1);
    }

    #[test]
    fn doubles_are_totally_ordered() {
        let form = |double: f64| Form::from(double);
        assert_eq!(form(f64::NAN), form(-f64::NAN));
        assert_ne!(form(0.0), form(-0.0));
        assert!(form(f64::INFINITY) < form(f64::NAN));
    }

    #[test]
    fn kinds_differ_even_where_numbers_agree() {
        assert_ne!(Form::from(1), Form::from(1.0));
        assert_ne!(Form::from(1), Form::from(BigInt::from(1)));
    }

    #[test]
    fn a_map_is_asked_by_keyword() {
        let entries = vec![
            (Form::from("name"), Form::from(1)),
            (Form::from(Keyword::new("name")), Form::from(2)),
        ];
        let map = Edn::Map(entries);
        assert_eq!(map.get("name").and_then(|form| form.as_long()), Some(2));
        assert_eq!(map.get("age"), None);
        assert_eq!(Edn::Nil.get("name"), None);
    }

    #[test]
    fn a_form_is_at_most_one_cache_line() {
        assert!(size_of::<Form>() <= 64, "{}", size_of::<Form>());
    }
}
