//! The columns of `datoms`, built from slices of leaves.
//!
//! A slice whose values are of one type, as in a run of one attribute, shares its memory with the leaf;
//! only texts that the leaf does not hold (idents, the text of numbers) are written.

use std::collections::HashMap;
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use ::arrow::compute::take;
use arrow_array::builder::{
    BinaryBuilder, BinaryViewBuilder, Decimal128Builder, StringViewBuilder, UInt32Builder,
};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, StringViewArray,
    UInt32Array, new_null_array,
};
use arrow_buffer::BooleanBuffer;
use arrow_schema::{DataType, Field, Schema as ArrowSchema, SchemaRef, TimeUnit};
use datafusion::error::Result;

use crate::datom::Entid;
use crate::db::Db;
use crate::db::basis::TimePoint;
use crate::error::Error;
use crate::node::{Kind, Leaf, ValueArray};
use crate::provider::arrow;
use crate::provider::error::into_datafusion;
use crate::schema::Schema;
use crate::value::term_of;
use crate::value::{Value, ValueType};

/// Digits of a decimal column.
const PRECISION: u8 = 38;

/// A column of `datoms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    E,
    A,
    V,
    Typed(ValueType),
    Tx,
    Added,
    /// The attribute's entity id.
    AttributeId,
    /// The value as an encoded term.
    Encoded,
}

impl Column {
    /// All columns, in the order of the table.
    pub(super) const ALL: [Self; 19] = [
        Self::E,
        Self::A,
        Self::V,
        Self::Typed(ValueType::Boolean),
        Self::Typed(ValueType::Long),
        Self::Typed(ValueType::Double),
        Self::Typed(ValueType::Float),
        Self::Typed(ValueType::BigInt),
        Self::Typed(ValueType::BigDec),
        Self::Typed(ValueType::String),
        Self::Typed(ValueType::Keyword),
        Self::Typed(ValueType::Symbol),
        Self::Typed(ValueType::Uuid),
        Self::Typed(ValueType::Instant),
        Self::Typed(ValueType::Ref),
        Self::Typed(ValueType::Bytes),
        Self::Typed(ValueType::Uri),
        Self::Tx,
        Self::Added,
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::E => "e",
            Self::A => "a",
            Self::V => "v",
            Self::Tx => "tx",
            Self::Added => "added",
            Self::AttributeId => "attribute",
            Self::Encoded => "encoded",
            Self::Typed(value_type) => match value_type {
                ValueType::Boolean => "v_boolean",
                ValueType::Long => "v_long",
                ValueType::Double => "v_double",
                ValueType::Float => "v_float",
                ValueType::BigInt => "v_bigint",
                ValueType::BigDec => "v_bigdec",
                ValueType::String => "v_string",
                ValueType::Keyword => "v_keyword",
                ValueType::Symbol => "v_symbol",
                ValueType::Uuid => "v_uuid",
                ValueType::Instant => "v_instant",
                ValueType::Ref => "v_ref",
                ValueType::Bytes => "v_bytes",
                ValueType::Uri => "v_uri",
                ValueType::Tuple => "v_tuple",
            },
        }
    }

    fn data_type(self, scale: i8) -> DataType {
        match self {
            Self::E
            | Self::AttributeId
            | Self::Tx
            | Self::Typed(ValueType::Long | ValueType::Ref) => DataType::Int64,
            Self::Encoded => DataType::Binary,
            Self::Added | Self::Typed(ValueType::Boolean) => DataType::Boolean,
            Self::Typed(ValueType::Double) => DataType::Float64,
            Self::Typed(ValueType::Float) => DataType::Float32,
            Self::Typed(ValueType::BigInt) => DataType::Decimal128(PRECISION, 0),
            Self::Typed(ValueType::BigDec) => DataType::Decimal128(PRECISION, scale),
            Self::Typed(ValueType::Instant) => {
                DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
            }
            Self::Typed(ValueType::Bytes) => DataType::BinaryView,
            Self::A | Self::V | Self::Typed(_) => DataType::Utf8View,
        }
    }
}

/// The Arrow schema of `datoms`.
pub(super) fn table_schema(db: &Db) -> SchemaRef {
    schema_of(&[db], &Column::ALL)
}

/// The Arrow schema of some columns of the facts of databases.
pub(super) fn schema_of(databases: &[&Db], columns: &[Column]) -> SchemaRef {
    let attributes = databases.iter().flat_map(|db| db.schema().attributes());
    let scales = attributes.filter_map(|attribute| attribute.scale);
    let scale = scales.max().unwrap_or(0).clamp(0, i64::from(PRECISION));
    let scale = i8::try_from(scale).unwrap_or(0);
    let fields = columns.iter().map(|column| {
        let nullable = matches!(column, Column::Typed(_));
        Field::new(column.name(), column.data_type(scale), nullable)
    });
    Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()))
}

/// The Arrow schema of facts as terms: `e a v tx added`.
pub(super) fn terms_schema(columns: [Column; 5]) -> SchemaRef {
    let names = ["e", "a", "v", "tx", "added"];
    let fields = names
        .into_iter()
        .zip(columns)
        .map(|(name, column)| Field::new(name, column.data_type(0), false));
    Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()))
}

/// Builds the projected columns.
pub(super) struct Columns {
    projected: Vec<Column>,
    arrow: SchemaRef,
    /// Where idents are looked up, one after the other.
    schemas: Vec<Arc<Schema>>,
}

impl Columns {
    pub(super) fn new(databases: &[&Db], columns: &[Column], arrow: SchemaRef) -> Self {
        let schemas = databases.iter().map(|db| Arc::clone(db.schema()));
        Self {
            projected: columns.to_vec(),
            arrow,
            schemas: schemas.collect(),
        }
    }

    /// Whether long values must have been read.
    pub(super) fn need_bodies(&self) -> bool {
        use ValueType::{Bytes, String, Uri};
        let needs = |column: &Column| {
            matches!(
                column,
                Column::V | Column::Encoded | Column::Typed(String | Uri | Bytes)
            )
        };
        self.projected.iter().any(needs)
    }

    /// Some rows of a leaf as a batch.
    pub(super) fn batch(&self, leaf: &Leaf, rows: Range<usize>) -> Result<RecordBatch> {
        let arrays = self
            .projected
            .iter()
            .zip(self.arrow.fields())
            .map(|(column, field)| match column {
                Column::E => Ok(long(leaf.e().slice(rows.start, rows.len()))),
                Column::Tx => Ok(long(leaf.tx().slice(rows.start, rows.len()))),
                Column::Added => Ok(added(leaf, &rows)),
                Column::A => self.idents(leaf, &rows),
                Column::AttributeId => Ok(long(leaf.a().slice(rows.start, rows.len()))),
                Column::Encoded => self.encoded(leaf, &rows),
                Column::V => self.texts(leaf, &rows),
                Column::Typed(value_type) => {
                    self.typed(leaf, &rows, *value_type, field.data_type())
                }
            });
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.arrow),
            arrays,
            &options,
        )?)
    }

    fn ident(&self, a: i64) -> String {
        let mut schemas = self.schemas.iter();
        match schemas.find_map(|schema| schema.ident(Entid(a))) {
            Some(ident) => format!(":{}", ident.as_str()),
            None => a.to_string(),
        }
    }

    fn idents(&self, leaf: &Leaf, rows: &Range<usize>) -> Result<ArrayRef> {
        let attributes = &leaf.a()[rows.clone()];
        let mut places: HashMap<i64, u32> = HashMap::new();
        let mut names = StringViewBuilder::new();
        let mut last = None;
        let indices: UInt32Array = attributes
            .iter()
            .map(|&a| match last {
                Some((known, place)) if known == a => place,
                _ => {
                    let next = u32::try_from(places.len()).unwrap_or(u32::MAX);
                    let place = *places.entry(a).or_insert_with(|| {
                        names.append_value(self.ident(a));
                        next
                    });
                    last = Some((a, place));
                    place
                }
            })
            .collect::<Vec<u32>>()
            .into();
        Ok(take(&names.finish(), &indices, None)?)
    }

    fn encoded(&self, leaf: &Leaf, rows: &Range<usize>) -> Result<ArrayRef> {
        let mut terms = BinaryBuilder::with_capacity(rows.len(), 16 * rows.len());
        let mut bytes = Vec::new();
        for row in rows.clone() {
            let (child, at) = leaf.values().at(row);
            bytes.clear();
            term_of(&child.value(at))
                .ok_or_else(|| self.misfit(leaf, row, UNREAD))?
                .encode(&mut bytes);
            terms.append_value(&bytes);
        }
        Ok(Arc::new(terms.finish()))
    }

    fn texts(&self, leaf: &Leaf, rows: &Range<usize>) -> Result<ArrayRef> {
        if let Some(
            ValueArray::String(texts) | ValueArray::Symbol(texts) | ValueArray::Uri(texts),
        ) = leaf.values().slice(rows.clone())
        {
            return Ok(Arc::new(texts));
        }
        let mut texts = StringViewBuilder::with_capacity(rows.len());
        let mut scratch = String::new();
        for row in rows.clone() {
            let (child, at) = leaf.values().at(row);
            if let ValueArray::String(values) = child {
                texts.append_value(values.value(at));
                continue;
            }
            scratch.clear();
            write_text(&child.value(at), &mut scratch)
                .map_err(|reason| self.misfit(leaf, row, &reason))?;
            texts.append_value(&scratch);
        }
        Ok(Arc::new(texts.finish()))
    }

    fn typed(
        &self,
        leaf: &Leaf,
        rows: &Range<usize>,
        value_type: ValueType,
        data_type: &DataType,
    ) -> Result<ArrayRef> {
        let values = leaf.values();
        let of_type = |kind: Kind| kind.value_type() == Some(value_type);
        let large = [ValueType::String, ValueType::Uri, ValueType::Bytes].contains(&value_type)
            && values.child(Kind::LARGE).is_some();
        if large || matches!(value_type, ValueType::BigInt | ValueType::BigDec) {
            return self.row_by_row(leaf, rows, value_type, data_type);
        }
        if let Some(all) = values.slice(rows.clone()) {
            return Ok(if of_type(all.kind()) {
                plain(value_type, &all)
            } else {
                new_null_array(data_type, rows.len())
            });
        }
        // The values of a type lie together in the leaf, in row order: spread them out.
        let mut places = UInt32Builder::with_capacity(rows.len());
        let mut first: Option<(&ValueArray, usize)> = None;
        let mut next = 0;
        for row in rows.clone() {
            let (child, at) = values.at(row);
            if of_type(child.kind()) {
                first.get_or_insert((child, at));
                places.append_value(next);
                next += 1;
            } else {
                places.append_null();
            }
        }
        let Some((child, from)) = first else {
            return Ok(new_null_array(data_type, rows.len()));
        };
        let dense = plain(value_type, &child.slice(from..from + next as usize));
        Ok(take(&dense, &places.finish(), None)?)
    }

    /// Types whose values are not all laid out in one way.
    fn row_by_row(
        &self,
        leaf: &Leaf,
        rows: &Range<usize>,
        value_type: ValueType,
        data_type: &DataType,
    ) -> Result<ArrayRef> {
        let values = rows.clone().map(|row| {
            let (child, at) = leaf.values().at(row);
            let kind = child.kind();
            let maybe = kind == Kind::LARGE || kind.value_type() == Some(value_type);
            let value = maybe.then(|| child.value(at));
            (row, value.filter(|value| value.value_type() == value_type))
        });
        match data_type {
            DataType::Decimal128(_, scale) => {
                let mut numbers =
                    Decimal128Builder::with_capacity(rows.len()).with_data_type(data_type.clone());
                for (row, value) in values {
                    let number = match &value {
                        None => None,
                        Some(value) => Some(decimal(value, *scale).ok_or_else(|| {
                            self.misfit(leaf, row, &format!("{value} does not fit {data_type}"))
                        })?),
                    };
                    numbers.append_option(number);
                }
                Ok(Arc::new(numbers.finish()))
            }
            DataType::BinaryView => {
                let mut bytes = BinaryViewBuilder::with_capacity(rows.len());
                for (row, value) in values {
                    match &value {
                        None => bytes.append_null(),
                        Some(value) => bytes.append_value(
                            bytes_of(value).ok_or_else(|| self.misfit(leaf, row, UNREAD))?,
                        ),
                    }
                }
                Ok(Arc::new(bytes.finish()))
            }
            _ => {
                let mut texts = StringViewBuilder::with_capacity(rows.len());
                for (row, value) in values {
                    match &value {
                        None => texts.append_null(),
                        Some(value) => texts.append_value(
                            value
                                .as_str()
                                .ok_or_else(|| self.misfit(leaf, row, UNREAD))?,
                        ),
                    }
                }
                Ok(Arc::new(texts.finish()))
            }
        }
    }

    fn misfit(&self, leaf: &Leaf, row: usize, reason: &str) -> datafusion::error::DataFusionError {
        into_datafusion(Error::invalid(format!(
            "entity {}, attribute {}: {reason}",
            leaf.e()[row],
            self.ident(leaf.a()[row])
        )))
    }
}

const UNREAD: &str = "its value has not been read";

fn long(values: arrow_buffer::ScalarBuffer<i64>) -> ArrayRef {
    Arc::new(Int64Array::new(values, None))
}

fn added(leaf: &Leaf, rows: &Range<usize>) -> ArrayRef {
    let bits = match leaf.added() {
        Some(added) => added.slice(rows.start, rows.len()),
        None => BooleanBuffer::new_set(rows.len()),
    };
    Arc::new(BooleanArray::new(bits, None))
}

/// Values of one kind as the array of their column. Numbers of any size are not among them.
fn plain(value_type: ValueType, values: &ValueArray) -> ArrayRef {
    match values {
        ValueArray::Keyword(values) => {
            let mut texts = StringViewBuilder::with_capacity(values.len());
            let mut scratch = String::new();
            for value in values.iter().flatten() {
                scratch.clear();
                scratch.push(':');
                scratch.push_str(value);
                texts.append_value(&scratch);
            }
            Arc::new(texts.finish())
        }
        ValueArray::Uuid(values) => {
            let texts = values
                .iter()
                .map(|uuid| Some(uuid::Uuid::from_u128(*uuid).to_string()));
            Arc::new(texts.collect::<StringViewArray>())
        }
        other => arrow::shared(value_type, other).expect("the other types share their memory"),
    }
}

/// A number as an unscaled decimal, if it fits without rounding.
fn decimal(value: &Value, scale: i8) -> Option<i128> {
    let (digits, own) = match value {
        Value::BigInt(number) => (num_bigint::BigInt::clone(number), 0),
        Value::BigDec(number) => number.as_bigint_and_exponent(),
        _ => return None,
    };
    let raise = u32::try_from(i64::from(scale).checked_sub(own)?).ok()?;
    if raise > 2 * u32::from(PRECISION) {
        return (digits == num_bigint::BigInt::ZERO).then_some(0);
    }
    let scaled: i128 = (digits * num_bigint::BigInt::from(10).pow(raise))
        .try_into()
        .ok()?;
    (scaled.unsigned_abs() < 10_u128.pow(u32::from(PRECISION))).then_some(scaled)
}

fn bytes_of(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Bytes(bytes) => Some(bytes),
        Value::Large(large) if large.value_type == ValueType::Bytes => {
            large.body.get().map(|body| &**body)
        }
        _ => None,
    }
}

/// A value as text for people and for comparisons: see the table of the [module](super).
pub(crate) fn write_text(value: &Value, out: &mut String) -> Result<(), String> {
    let written = match value {
        Value::Keyword(keyword) => write!(out, ":{}", keyword.as_str()),
        Value::Instant(ms) => write!(out, "{}", TimePoint::Instant(*ms)),
        Value::Uuid(uuid) => write!(out, "{}", uuid::Uuid::from_u128(*uuid)),
        Value::BigInt(number) => write!(out, "{number}"),
        Value::BigDec(number) => write!(out, "{}", number.to_plain_string()),
        Value::Symbol(symbol) => write!(out, "{}", symbol.as_str()),
        other => match (other.as_str(), bytes_of(other)) {
            (Some(text), _) => out.write_str(text),
            (None, Some(bytes)) => bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}")),
            _ if matches!(other, Value::Large(_)) => return Err(UNREAD.into()),
            _ => write!(out, "{other}"),
        },
    };
    written.map_err(|error| error.to_string())
}
