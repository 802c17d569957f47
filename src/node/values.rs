//! The value column of a leaf: a dense union, one child array a type.
//!
//! ```text
//! row     0     1      2      3     4           children
//! kind    Ref   String Long   Ref   String      Long    [42]
//! offset  0     0      0      1     1           String  ["Ann", "Bob"]
//!                                               Ref     [7, 9]
//! ```
//!
//! **Invariant.** The child of a kind holds its values in row order. So a run of rows with one kind is
//! one slice of one child, found in constant time and handed out without copying. Only the host takes such
//! slices, so they exist only with the feature `query`.

use std::cmp::Ordering;
use std::ops::{Deref, Range};
use std::sync::Arc;

use arrow_array::{Array, BinaryViewArray, StringViewArray};
use arrow_buffer::{BooleanBuffer, ScalarBuffer};
use datomfusion_datalog::edn::{Keyword, Symbol};

use super::large::holds_large;
use crate::datom::Entid;
use crate::value::{Large, Value, ValueType};

/// What the child arrays are told apart by: a value type, or values of any type that lie out of line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(u8);

impl Kind {
    /// Strings, uris and bytes that lie out of line.
    pub const LARGE: Self = Self(16);
    pub(super) const TUPLE: Self = Self(ValueType::Tuple as u8);
    /// One more than the greatest code.
    pub(super) const CODES: usize = 17;

    /// The kind of a value.
    pub fn of(value: &Value) -> Self {
        match value {
            Value::Large(_) => Self::LARGE,
            _ => Self(value.value_type() as u8),
        }
    }

    /// The code of the kind: the code of the type, or 16. Part of the storage format.
    pub fn code(self) -> u8 {
        self.0
    }

    /// The kind of a code.
    pub fn from_code(code: u8) -> Option<Self> {
        (1..=Self::LARGE.0).contains(&code).then_some(Self(code))
    }

    /// The type; `None` for large values, which each say their own.
    pub fn value_type(self) -> Option<ValueType> {
        ValueType::from_code(self.0)
    }
}

/// A shared run of values that have no Arrow representation of their own.
#[derive(Clone, Debug)]
pub struct Shared<T> {
    items: Arc<[T]>,
    range: Range<usize>,
}

impl<T> Shared<T> {
    #[cfg(any(test, feature = "query"))]
    fn slice(&self, rows: Range<usize>) -> Self {
        let range = self.range.start + rows.start..self.range.start + rows.end;
        assert!(
            range.end <= self.range.end,
            "slice {rows:?} lies in {:?}",
            self.range
        );
        Self {
            items: Arc::clone(&self.items),
            range,
        }
    }
}

impl<T> From<Vec<T>> for Shared<T> {
    fn from(items: Vec<T>) -> Self {
        Self {
            range: 0..items.len(),
            items: items.into(),
        }
    }
}

impl<T> Deref for Shared<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items[self.range.clone()]
    }
}

/// The values of one kind, in row order. Clones and slices share the memory.
#[derive(Clone, Debug)]
pub enum ValueArray {
    /// Booleans.
    Boolean(BooleanBuffer),
    /// Longs.
    Long(ScalarBuffer<i64>),
    /// Doubles; never NaN, never −0.0.
    Double(ScalarBuffer<f64>),
    /// Floats; never NaN, never −0.0.
    Float(ScalarBuffer<f32>),
    /// [`Value::BigInt`] only.
    BigInt(Shared<Value>),
    /// [`Value::BigDec`] only.
    BigDec(Shared<Value>),
    /// Strings in line.
    String(StringViewArray),
    /// Keywords, without their colon.
    Keyword(StringViewArray),
    /// Symbols.
    Symbol(StringViewArray),
    /// UUIDs, their bytes read as big-endian numbers.
    Uuid(ScalarBuffer<u128>),
    /// Milliseconds since the epoch.
    Instant(ScalarBuffer<i64>),
    /// Entity ids.
    Ref(ScalarBuffer<i64>),
    /// Bytes in line.
    Bytes(BinaryViewArray),
    /// URIs in line.
    Uri(StringViewArray),
    /// [`Value::Tuple`] only.
    Tuple(Shared<Value>),
    /// Strings, uris and bytes out of line.
    Large(Shared<Arc<Large>>),
}

impl ValueArray {
    /// The kind of every value here.
    pub fn kind(&self) -> Kind {
        Kind(match self {
            Self::Boolean(_) => ValueType::Boolean as u8,
            Self::Long(_) => ValueType::Long as u8,
            Self::Double(_) => ValueType::Double as u8,
            Self::Float(_) => ValueType::Float as u8,
            Self::BigInt(_) => ValueType::BigInt as u8,
            Self::BigDec(_) => ValueType::BigDec as u8,
            Self::String(_) => ValueType::String as u8,
            Self::Keyword(_) => ValueType::Keyword as u8,
            Self::Symbol(_) => ValueType::Symbol as u8,
            Self::Uuid(_) => ValueType::Uuid as u8,
            Self::Instant(_) => ValueType::Instant as u8,
            Self::Ref(_) => ValueType::Ref as u8,
            Self::Bytes(_) => ValueType::Bytes as u8,
            Self::Uri(_) => ValueType::Uri as u8,
            Self::Tuple(_) => ValueType::Tuple as u8,
            Self::Large(_) => Kind::LARGE.0,
        })
    }

    /// How many values.
    pub fn len(&self) -> usize {
        match self {
            Self::Boolean(values) => values.len(),
            Self::Long(values) | Self::Instant(values) | Self::Ref(values) => values.len(),
            Self::Double(values) => values.len(),
            Self::Float(values) => values.len(),
            Self::BigInt(values) | Self::BigDec(values) | Self::Tuple(values) => values.len(),
            Self::String(values)
            | Self::Keyword(values)
            | Self::Symbol(values)
            | Self::Uri(values) => values.len(),
            Self::Uuid(values) => values.len(),
            Self::Bytes(values) => values.len(),
            Self::Large(values) => values.len(),
        }
    }

    /// The values from `rows.start` to before `rows.end`, without copying.
    ///
    /// # Panics
    ///
    /// If the range does not lie within.
    #[cfg(any(test, feature = "query"))]
    #[must_use]
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let (start, len) = (rows.start, rows.len());
        match self {
            Self::Boolean(values) => Self::Boolean(values.slice(start, len)),
            Self::Long(values) => Self::Long(values.slice(start, len)),
            Self::Double(values) => Self::Double(values.slice(start, len)),
            Self::Float(values) => Self::Float(values.slice(start, len)),
            Self::BigInt(values) => Self::BigInt(values.slice(rows)),
            Self::BigDec(values) => Self::BigDec(values.slice(rows)),
            Self::String(values) => Self::String(values.slice(start, len)),
            Self::Keyword(values) => Self::Keyword(values.slice(start, len)),
            Self::Symbol(values) => Self::Symbol(values.slice(start, len)),
            Self::Uuid(values) => Self::Uuid(values.slice(start, len)),
            Self::Instant(values) => Self::Instant(values.slice(start, len)),
            Self::Ref(values) => Self::Ref(values.slice(start, len)),
            Self::Bytes(values) => Self::Bytes(values.slice(start, len)),
            Self::Uri(values) => Self::Uri(values.slice(start, len)),
            Self::Tuple(values) => Self::Tuple(values.slice(rows)),
            Self::Large(values) => Self::Large(values.slice(rows)),
        }
    }

    /// One value. Text is copied; for many rows use the arrays.
    ///
    /// # Panics
    ///
    /// If `i` is out of range.
    pub fn value(&self, i: usize) -> Value {
        match self {
            Self::Boolean(values) => Value::Boolean(values.value(i)),
            Self::Long(values) => Value::Long(values[i]),
            Self::Double(values) => Value::Double(values[i]),
            Self::Float(values) => Value::Float(values[i]),
            Self::BigInt(values) | Self::BigDec(values) | Self::Tuple(values) => values[i].clone(),
            Self::String(values) => Value::String(values.value(i).into()),
            Self::Keyword(values) => Value::Keyword(Keyword::new(values.value(i))),
            Self::Symbol(values) => Value::Symbol(Symbol::new(values.value(i))),
            Self::Uuid(values) => Value::Uuid(values[i]),
            Self::Instant(values) => Value::Instant(values[i]),
            Self::Ref(values) => Value::Ref(Entid(values[i])),
            Self::Bytes(values) => Value::Bytes(values.value(i).into()),
            Self::Uri(values) => Value::Uri(values.value(i).into()),
            Self::Large(values) => Value::Large(Arc::clone(&values[i])),
        }
    }

    /// Compares a value with one of any type, in the order of [`Value`], without materialising it.
    pub fn compare(&self, i: usize, value: &Value) -> Ordering {
        match (self, value) {
            (Self::Boolean(values), Value::Boolean(value)) => values.value(i).cmp(value),
            (Self::Long(values), Value::Long(value))
            | (Self::Instant(values), Value::Instant(value))
            | (Self::Ref(values), Value::Ref(Entid(value))) => values[i].cmp(value),
            (Self::Double(values), Value::Double(value)) => values[i].total_cmp(value),
            (Self::Float(values), Value::Float(value)) => values[i].total_cmp(value),
            (Self::BigInt(values), Value::BigInt(_))
            | (Self::BigDec(values), Value::BigDec(_))
            | (Self::Tuple(values), Value::Tuple(_)) => values[i].cmp(value),
            (Self::String(values), Value::String(value))
            | (Self::Uri(values), Value::Uri(value)) => values.value(i).cmp(value),
            (Self::Keyword(values), Value::Keyword(value)) => values.value(i).cmp(value.as_str()),
            (Self::Symbol(values), Value::Symbol(value)) => values.value(i).cmp(value.as_str()),
            (Self::Uuid(values), Value::Uuid(value)) => values[i].cmp(value),
            (Self::Bytes(values), Value::Bytes(value)) => values.value(i).cmp(value),
            // Values of different types, and large values among short ones: rare, so it may copy.
            _ => match self.kind().value_type() {
                Some(own) if own != value.value_type() => own.cmp(&value.value_type()),
                _ => self.value(i).cmp(value),
            },
        }
    }

    /// Compares a value with one of another child, in the order of [`Value`].
    pub fn compare_with(&self, i: usize, other: &Self, j: usize) -> Ordering {
        match (self, other) {
            (Self::Boolean(left), Self::Boolean(right)) => left.value(i).cmp(&right.value(j)),
            (Self::Long(left), Self::Long(right))
            | (Self::Instant(left), Self::Instant(right))
            | (Self::Ref(left), Self::Ref(right)) => left[i].cmp(&right[j]),
            (Self::Double(left), Self::Double(right)) => left[i].total_cmp(&right[j]),
            (Self::Float(left), Self::Float(right)) => left[i].total_cmp(&right[j]),
            (Self::String(left), Self::String(right))
            | (Self::Uri(left), Self::Uri(right))
            | (Self::Keyword(left), Self::Keyword(right))
            | (Self::Symbol(left), Self::Symbol(right)) => left.value(i).cmp(right.value(j)),
            (Self::Uuid(left), Self::Uuid(right)) => left[i].cmp(&right[j]),
            (Self::Bytes(left), Self::Bytes(right)) => left.value(i).cmp(right.value(j)),
            _ => match (self.kind().value_type(), other.kind().value_type()) {
                (Some(left), Some(right)) if left != right => left.cmp(&right),
                _ => self.value(i).cmp(&other.value(j)),
            },
        }
    }

    /// Bytes that one value takes before any compression, as [`Value::logical_bytes`].
    pub fn logical_bytes(&self, i: usize) -> usize {
        match self {
            Self::Boolean(_) => 1,
            Self::Long(_) | Self::Instant(_) | Self::Ref(_) | Self::Double(_) => 8,
            Self::Float(_) => 4,
            Self::Uuid(_) => 16,
            Self::String(values)
            | Self::Keyword(values)
            | Self::Symbol(values)
            | Self::Uri(values) => values.value(i).len(),
            Self::Bytes(values) => values.value(i).len(),
            Self::BigInt(values) | Self::BigDec(values) | Self::Tuple(values) => {
                values[i].logical_bytes()
            }
            Self::Large(values) => values[i].prefix.len() + 40,
        }
    }

    /// Bytes of memory held, approximately.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Boolean(values) => values.inner().capacity(),
            Self::Long(values) | Self::Instant(values) | Self::Ref(values) => {
                values.inner().capacity()
            }
            Self::Double(values) => values.inner().capacity(),
            Self::Float(values) => values.inner().capacity(),
            Self::Uuid(values) => values.inner().capacity(),
            Self::String(values)
            | Self::Keyword(values)
            | Self::Symbol(values)
            | Self::Uri(values) => values.get_buffer_memory_size(),
            Self::Bytes(values) => values.get_buffer_memory_size(),
            Self::BigInt(values) | Self::BigDec(values) | Self::Tuple(values) => {
                values.iter().map(|value| 96 + value.logical_bytes()).sum()
            }
            // The bodies may be read later: they are counted when the loader fills them in.
            Self::Large(values) => values.len() * (160 + Large::PREFIX_BYTES_MAX),
        }
    }
}

/// Which child holds the value of a row.
#[derive(Clone, Debug)]
pub(super) enum Layout {
    /// All rows are of one kind: row `i` is value `i` of the only child. Also the layout of no rows.
    Single,
    /// The kind of each row, and its place within the child of that kind.
    PerRow {
        kinds: ScalarBuffer<u8>,
        offsets: ScalarBuffer<u32>,
    },
}

/// The value column. See the [module page](self).
#[derive(Clone, Debug)]
pub struct Values {
    layout: Layout,
    /// Ascending by kind, none empty.
    children: Vec<ValueArray>,
    /// By code of a kind: where its child is in `children`.
    places: [u8; Kind::CODES],
    has_large: bool,
}

impl Values {
    /// Puts children together. With more than one child, `kinds` has the kind of each row.
    ///
    /// # Panics
    ///
    /// If kinds and children do not fit: the decoder checks before it calls.
    pub(super) fn new(children: Vec<ValueArray>, kinds: Vec<u8>) -> Self {
        debug_assert!(children.is_sorted_by(|left, right| left.kind() < right.kind()));
        let mut places = [u8::MAX; Kind::CODES];
        for (place, child) in (0..).zip(&children) {
            places[usize::from(child.kind().0)] = place;
        }
        let layout = if children.len() <= 1 {
            Layout::Single
        } else {
            let mut next = [0u32; Kind::CODES];
            let offsets: Vec<u32> = kinds
                .iter()
                .map(|&kind| {
                    let next = &mut next[usize::from(kind)];
                    *next += 1;
                    *next - 1
                })
                .collect();
            for child in &children {
                assert_eq!(next[usize::from(child.kind().0)] as usize, child.len());
            }
            Layout::PerRow {
                kinds: kinds.into(),
                offsets: offsets.into(),
            }
        };
        let has_large = children.iter().any(|child| match child {
            ValueArray::Large(_) => true,
            ValueArray::Tuple(tuples) => tuples.iter().any(holds_large),
            _ => false,
        });
        Self {
            layout,
            children,
            places,
            has_large,
        }
    }

    /// How many values.
    pub fn len(&self) -> usize {
        match &self.layout {
            Layout::Single => self.children.first().map_or(0, ValueArray::len),
            Layout::PerRow { kinds, .. } => kinds.len(),
        }
    }

    /// The only child, if all values are of one kind.
    #[cfg(feature = "query")]
    pub fn single(&self) -> Option<&ValueArray> {
        match self.layout {
            Layout::Single => self.children.first(),
            Layout::PerRow { .. } => None,
        }
    }

    /// The children, ascending by kind.
    pub fn children(&self) -> &[ValueArray] {
        &self.children
    }

    /// The child of a kind, if there are such values.
    pub fn child(&self, kind: Kind) -> Option<&ValueArray> {
        self.children
            .get(usize::from(self.places[usize::from(kind.0)]))
    }

    /// The kind of a row.
    pub fn kind(&self, i: usize) -> Kind {
        match &self.layout {
            Layout::Single => self.children[0].kind(),
            Layout::PerRow { kinds, .. } => Kind(kinds[i]),
        }
    }

    /// The child that holds a row's value, and where in it.
    #[inline]
    pub fn at(&self, i: usize) -> (&ValueArray, usize) {
        match &self.layout {
            Layout::Single => (&self.children[0], i),
            Layout::PerRow { kinds, offsets } => {
                let place = self.places[usize::from(kinds[i])];
                (&self.children[usize::from(place)], offsets[i] as usize)
            }
        }
    }

    /// The values of `rows` if all are of one kind, without copying and in constant time; `None` if they
    /// are mixed or there are no rows.
    #[cfg(any(test, feature = "query"))]
    pub fn slice(&self, rows: Range<usize>) -> Option<ValueArray> {
        if rows.is_empty() {
            return None;
        }
        let (child, from) = self.at(rows.start);
        let (last_child, last) = self.at(rows.end - 1);
        // Offsets ascend within a kind: as many rows of this kind as rows at all means no other kind.
        (child.kind() == last_child.kind() && last - from == rows.len() - 1)
            .then(|| child.slice(from..last + 1))
    }

    /// Where the longest run of one kind that begins at `start` ends, at most `end`.
    pub fn run_end(&self, start: usize, end: usize) -> usize {
        match &self.layout {
            Layout::Single => end,
            Layout::PerRow { kinds, .. } => kinds[start..end]
                .iter()
                .position(|&kind| kind != kinds[start])
                .map_or(end, |len| start + len),
        }
    }

    /// One value. Text is copied; for many rows use the arrays.
    pub fn value(&self, i: usize) -> Value {
        let (child, at) = self.at(i);
        child.value(at)
    }

    /// Compares a row's value with any value, without materialising it.
    #[inline]
    pub fn compare(&self, i: usize, value: &Value) -> Ordering {
        let (child, at) = self.at(i);
        child.compare(at, value)
    }

    /// Compares a row's value with a row's of another leaf.
    #[inline]
    pub fn compare_with(&self, i: usize, other: &Self, j: usize) -> Ordering {
        let ((left, i), (right, j)) = (self.at(i), other.at(j));
        left.compare_with(i, right, j)
    }

    /// Bytes that a row's value takes before any compression.
    pub fn logical_bytes(&self, i: usize) -> usize {
        let (child, at) = self.at(i);
        child.logical_bytes(at)
    }

    /// Whether there are large values, be it within tuples.
    pub(super) fn has_large(&self) -> bool {
        self.has_large
    }

    /// The same rows, their children replaced by others of the same kinds and lengths.
    pub(super) fn map_children(&self, each: impl FnMut(&ValueArray) -> ValueArray) -> Self {
        let children: Vec<ValueArray> = self.children.iter().map(each).collect();
        Self {
            layout: self.layout.clone(),
            children,
            ..*self
        }
    }

    /// The kind of each row, if they differ.
    pub(super) fn kinds(&self) -> Option<&[u8]> {
        match &self.layout {
            Layout::Single => None,
            Layout::PerRow { kinds, .. } => Some(kinds),
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let layout = match &self.layout {
            Layout::Single => 0,
            Layout::PerRow { kinds, offsets } => {
                kinds.inner().capacity() + offsets.inner().capacity()
            }
        };
        layout
            + self
                .children
                .iter()
                .map(ValueArray::memory_bytes)
                .sum::<usize>()
    }
}
