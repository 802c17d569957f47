//! Collects datoms, one by one or as runs of other leaves, into a [`Leaf`].

use std::ops::Range;
use std::sync::Arc;

use arrow_array::StringViewArray;
use arrow_array::builder::{BinaryViewBuilder, StringViewBuilder};
use arrow_buffer::BooleanBufferBuilder;

use super::leaf::Leaf;
use super::values::{Kind, ValueArray, Values};
use crate::datom::Datom;
use crate::value::{Large, Value};

/// Collects datoms into a [`Leaf`]. Rows keep the order in which they are pushed.
#[derive(Debug, Default)]
pub struct LeafBuilder {
    e: Vec<i64>,
    a: Vec<i64>,
    tx: Vec<i64>,
    /// `None` while every datom is an assertion.
    added: Option<BooleanBufferBuilder>,
    kinds: Vec<u8>,
    /// By code of the kind.
    children: [Option<ChildBuilder>; Kind::CODES],
}

impl LeafBuilder {
    /// An empty builder with room for `rows` datoms.
    pub fn with_capacity(rows: usize) -> Self {
        Self {
            e: Vec::with_capacity(rows),
            a: Vec::with_capacity(rows),
            tx: Vec::with_capacity(rows),
            kinds: Vec::with_capacity(rows),
            ..Self::default()
        }
    }

    /// Datoms so far.
    pub fn len(&self) -> usize {
        self.e.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.e.is_empty()
    }

    /// Appends a datom.
    pub fn push(&mut self, datom: &Datom) {
        self.push_added(1, |_| datom.added);
        self.e.push(datom.e.0);
        self.a.push(datom.a.0);
        self.tx.push(datom.tx.0.0);
        let kind = Kind::of(&datom.v);
        self.kinds.push(kind.code());
        self.child(kind).push(&datom.v);
    }

    /// Appends rows of another leaf, column by column.
    ///
    /// Text is copied, not shared: a leaf edited often must not keep all its ancestors in memory.
    ///
    /// # Panics
    ///
    /// If the rows do not lie within the leaf.
    pub fn push_run(&mut self, leaf: &Leaf, rows: Range<usize>) {
        match leaf.added() {
            Some(added) => self.push_added(rows.len(), |i| added.value(rows.start + i)),
            None => self.push_added(rows.len(), |_| true),
        }
        self.e.extend_from_slice(&leaf.e()[rows.clone()]);
        self.a.extend_from_slice(&leaf.a()[rows.clone()]);
        self.tx.extend_from_slice(&leaf.tx()[rows.clone()]);
        let values = leaf.values();
        let mut start = rows.start;
        while start < rows.end {
            let end = values.run_end(start, rows.end);
            let (child, from) = values.at(start);
            self.kinds
                .resize(self.kinds.len() + (end - start), child.kind().code());
            let child_rows = from..from + (end - start);
            self.child(child.kind()).extend(child, child_rows);
            start = end;
        }
    }

    /// The leaf. The builder is empty afterwards.
    pub fn finish(&mut self) -> Leaf {
        let built = std::mem::take(self);
        let children: Vec<ValueArray> = built
            .children
            .into_iter()
            .flatten()
            .map(ChildBuilder::finish)
            .collect();
        Leaf::new(
            built.e.into(),
            built.a.into(),
            Values::new(children, built.kinds),
            built.tx.into(),
            built.added.map(BooleanBufferBuilder::build),
        )
    }

    fn child(&mut self, kind: Kind) -> &mut ChildBuilder {
        self.children[usize::from(kind.code())].get_or_insert_with(|| ChildBuilder::new(kind))
    }

    fn push_added(&mut self, rows: usize, added: impl Fn(usize) -> bool) {
        for i in 0..rows {
            let added = added(i);
            if let Some(bits) = &mut self.added {
                bits.append(added);
            } else if !added {
                let mut bits = BooleanBufferBuilder::new(self.e.capacity().max(64));
                bits.append_n(self.e.len() + i, true);
                bits.append(false);
                self.added = Some(bits);
            }
        }
    }
}

/// A [`ValueArray`] in the making.
#[derive(Debug)]
enum ChildBuilder {
    Boolean(BooleanBufferBuilder),
    /// Longs, instants and refs.
    Number(Kind, Vec<i64>),
    Double(Vec<f64>),
    Float(Vec<f32>),
    Uuid(Vec<u128>),
    /// Strings, keywords, symbols and uris.
    Text(Kind, StringViewBuilder),
    Bytes(BinaryViewBuilder),
    /// Bigints, bigdecs and tuples.
    Other(Kind, Vec<Value>),
    Large(Vec<Arc<Large>>),
}

impl ChildBuilder {
    fn new(kind: Kind) -> Self {
        use crate::value::ValueType as Type;
        match kind.value_type() {
            None => Self::Large(Vec::new()),
            Some(Type::Boolean) => Self::Boolean(BooleanBufferBuilder::new(64)),
            Some(Type::Long | Type::Instant | Type::Ref) => Self::Number(kind, Vec::new()),
            Some(Type::Double) => Self::Double(Vec::new()),
            Some(Type::Float) => Self::Float(Vec::new()),
            Some(Type::Uuid) => Self::Uuid(Vec::new()),
            Some(Type::String | Type::Keyword | Type::Symbol | Type::Uri) => {
                Self::Text(kind, StringViewBuilder::new())
            }
            Some(Type::Bytes) => Self::Bytes(BinaryViewBuilder::new()),
            Some(Type::BigInt | Type::BigDec | Type::Tuple) => Self::Other(kind, Vec::new()),
        }
    }

    fn push(&mut self, value: &Value) {
        match (self, value) {
            (Self::Boolean(values), Value::Boolean(value)) => values.append(*value),
            (Self::Number(_, values), Value::Long(value) | Value::Instant(value)) => {
                values.push(*value);
            }
            (Self::Number(_, values), Value::Ref(value)) => values.push(value.0),
            (Self::Double(values), Value::Double(value)) => values.push(*value),
            (Self::Float(values), Value::Float(value)) => values.push(*value),
            (Self::Uuid(values), Value::Uuid(value)) => values.push(*value),
            (Self::Text(_, values), Value::String(value) | Value::Uri(value)) => {
                values.append_value(value);
            }
            (Self::Text(_, values), Value::Keyword(value)) => values.append_value(value.as_str()),
            (Self::Text(_, values), Value::Symbol(value)) => values.append_value(value.as_str()),
            (Self::Bytes(values), Value::Bytes(value)) => values.append_value(value),
            (Self::Large(values), Value::Large(value)) => values.push(Arc::clone(value)),
            (Self::Other(_, values), value) => values.push(value.clone()),
            _ => unreachable!("a child builder is chosen by the kind of the value"),
        }
    }

    fn extend(&mut self, child: &ValueArray, rows: Range<usize>) {
        match (self, child) {
            (Self::Boolean(values), ValueArray::Boolean(more)) => {
                values.append_buffer(&more.slice(rows.start, rows.len()));
            }
            (
                Self::Number(_, values),
                ValueArray::Long(more) | ValueArray::Instant(more) | ValueArray::Ref(more),
            ) => {
                values.extend_from_slice(&more[rows]);
            }
            (Self::Double(values), ValueArray::Double(more)) => {
                values.extend_from_slice(&more[rows]);
            }
            (Self::Float(values), ValueArray::Float(more)) => values.extend_from_slice(&more[rows]),
            (Self::Uuid(values), ValueArray::Uuid(more)) => values.extend_from_slice(&more[rows]),
            (
                Self::Text(_, values),
                ValueArray::String(more)
                | ValueArray::Keyword(more)
                | ValueArray::Symbol(more)
                | ValueArray::Uri(more),
            ) => rows.for_each(|i| values.append_value(more.value(i))),
            (Self::Bytes(values), ValueArray::Bytes(more)) => {
                rows.for_each(|i| values.append_value(more.value(i)));
            }
            (
                Self::Other(_, values),
                ValueArray::BigInt(more) | ValueArray::BigDec(more) | ValueArray::Tuple(more),
            ) => values.extend_from_slice(&more[rows]),
            (Self::Large(values), ValueArray::Large(more)) => values.extend_from_slice(&more[rows]),
            _ => unreachable!("a child builder is chosen by the kind of the value"),
        }
    }

    fn finish(self) -> ValueArray {
        match self {
            Self::Boolean(values) => ValueArray::Boolean(values.build()),
            Self::Number(kind, values) => number_child(kind, values),
            Self::Double(values) => ValueArray::Double(values.into()),
            Self::Float(values) => ValueArray::Float(values.into()),
            Self::Uuid(values) => ValueArray::Uuid(values.into()),
            Self::Text(kind, mut values) => text_child(kind, values.finish()),
            Self::Bytes(mut values) => ValueArray::Bytes(values.finish()),
            Self::Other(kind, values) => other_child(kind, values),
            Self::Large(values) => ValueArray::Large(values.into()),
        }
    }
}

/// The child of a kind whose values are 64-bit numbers.
pub(super) fn number_child(kind: Kind, values: Vec<i64>) -> ValueArray {
    use crate::value::ValueType as Type;
    match kind.value_type() {
        Some(Type::Instant) => ValueArray::Instant(values.into()),
        Some(Type::Ref) => ValueArray::Ref(values.into()),
        _ => ValueArray::Long(values.into()),
    }
}

/// The child of a kind whose values are text.
pub(super) fn text_child(kind: Kind, values: StringViewArray) -> ValueArray {
    use crate::value::ValueType as Type;
    match kind.value_type() {
        Some(Type::Keyword) => ValueArray::Keyword(values),
        Some(Type::Symbol) => ValueArray::Symbol(values),
        Some(Type::Uri) => ValueArray::Uri(values),
        _ => ValueArray::String(values),
    }
}

/// The child of a kind whose values are kept as [`Value`]s.
pub(super) fn other_child(kind: Kind, values: Vec<Value>) -> ValueArray {
    use crate::value::ValueType as Type;
    match kind.value_type() {
        Some(Type::BigInt) => ValueArray::BigInt(values.into()),
        Some(Type::BigDec) => ValueArray::BigDec(values.into()),
        _ => ValueArray::Tuple(values.into()),
    }
}
