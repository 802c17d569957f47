//! Arrow types of attributes, and values of leaves as Arrow arrays.
//!
//! | attribute | Arrow | SQL |
//! |---|---|---|
//! | long, ref | `Int64` | BIGINT |
//! | double, float | `Float64`, `Float32` | DOUBLE, REAL |
//! | boolean | `Boolean` | BOOLEAN |
//! | string, symbol, uri; keyword, with its colon | `Utf8View` | VARCHAR |
//! | uuid, in lower case with hyphens | `Utf8View`, of the extension type `arrow.uuid` | VARCHAR |
//! | instant | `Timestamp(Millisecond, "UTC")` | TIMESTAMP |
//! | bytes | `BinaryView` | BINARY |
//! | bigint, bigdec | `Decimal128(38, s)`, `s` the attribute's `:db/scale` or 0 | DECIMAL |
//! | tuple | `Struct` of `e0`, `e1`, …; a homogeneous one has eight | STRUCT |
//!
//! A cardinality-many attribute is a `List` of these. A bigdec inside a tuple has no scale that is declared
//! anywhere, so it is text with all its digits.
//!
//! Numbers, instants, booleans, text and bytes in line share the memory of the leaf they come from.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::compute::take;
use arrow_array::builder::{
    BinaryViewBuilder, BooleanBuilder, Decimal128Builder, Float32Builder, Float64Builder,
    Int64Builder, StringViewBuilder, TimestampMillisecondBuilder,
};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, StringViewArray,
    StructArray, TimestampMillisecondArray, UInt32Array, new_null_array,
};
use arrow_buffer::NullBuffer;
use arrow_schema::extension::EXTENSION_TYPE_NAME_KEY;
use arrow_schema::{DataType, Field, Fields, TimeUnit};
use bigdecimal::BigDecimal;
use num_bigint::BigInt;

use crate::datom::Entid;
use crate::error::{Error, Result};
use crate::node::{Kind, Leaf, ValueArray};
use crate::schema::Attribute;
use crate::value::{Value, ValueType};

/// The field metadata that names the attribute of a column.
pub(crate) const ATTRIBUTE_KEY: &str = "datomfusion.attribute";

/// Digits of a decimal column.
const PRECISION: u8 = 38;

/// Elements of a homogeneous tuple at most.
const TUPLE_ELEMENTS_MAX: usize = 8;

/// The Arrow type of an attribute's values; of each of them, if the attribute is cardinality-many.
pub(crate) fn value_type(attribute: &Attribute) -> DataType {
    match attribute.value_type {
        ValueType::BigDec => DataType::Decimal128(PRECISION, scale(attribute)),
        ValueType::Tuple => DataType::Struct(tuple_fields(attribute)),
        plain => plain_type(plain),
    }
}

/// The column that shows an attribute: NULL where an entity lacks it, a list if it has many values.
pub(crate) fn column_field(name: &str, attribute: &Attribute) -> Field {
    let data_type = if attribute.is_many() {
        DataType::List(Arc::new(item_field(attribute)))
    } else {
        value_type(attribute)
    };
    Field::new(name, data_type, true).with_metadata(metadata(attribute))
}

/// The column that shows one value of an attribute a row.
pub(crate) fn value_field(name: &str, attribute: &Attribute) -> Field {
    Field::new(name, value_type(attribute), false).with_metadata(metadata(attribute))
}

/// The field of the lists of a cardinality-many attribute.
pub(crate) fn item_field(attribute: &Attribute) -> Field {
    Field::new_list_field(value_type(attribute), true)
}

fn metadata(attribute: &Attribute) -> HashMap<String, String> {
    let mut metadata = HashMap::from([(ATTRIBUTE_KEY.to_owned(), attribute.ident.to_string())]);
    if attribute.value_type == ValueType::Uuid && !attribute.is_many() {
        metadata.insert(EXTENSION_TYPE_NAME_KEY.to_owned(), "arrow.uuid".to_owned());
    }
    metadata
}

fn plain_type(value_type: ValueType) -> DataType {
    match value_type {
        ValueType::Boolean => DataType::Boolean,
        ValueType::Long | ValueType::Ref => DataType::Int64,
        ValueType::Double => DataType::Float64,
        ValueType::Float => DataType::Float32,
        ValueType::BigInt => DataType::Decimal128(PRECISION, 0),
        ValueType::Instant => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        ValueType::Bytes => DataType::BinaryView,
        ValueType::String
        | ValueType::Keyword
        | ValueType::Symbol
        | ValueType::Uuid
        | ValueType::Uri
        // Within a tuple; elsewhere the attribute decides.
        | ValueType::BigDec
        | ValueType::Tuple => DataType::Utf8View,
    }
}

fn scale(attribute: &Attribute) -> i8 {
    let scale = attribute.scale.unwrap_or(0);
    i8::try_from(scale)
        .unwrap_or(0)
        .clamp(0, PRECISION.cast_signed())
}

/// The types of a tuple's elements; one type for up to eight of them if the tuple is homogeneous.
fn tuple_types(attribute: &Attribute) -> Vec<ValueType> {
    let named = |name: &str| {
        ValueType::ALL
            .into_iter()
            .find(|known| known.name() == name)
    };
    let types: Vec<_> = attribute
        .tuple_types
        .iter()
        .flat_map(|types| types.iter())
        .map(|ident| named(ident.name()).unwrap_or(ValueType::String))
        .collect();
    match types[..] {
        [only] => vec![only; TUPLE_ELEMENTS_MAX],
        _ => types,
    }
}

fn tuple_fields(attribute: &Attribute) -> Fields {
    let types = tuple_types(attribute).into_iter().enumerate();
    types
        .map(|(at, element)| Field::new(format!("e{at}"), plain_type(element), true))
        .collect()
}

/// Rows of a leaf that become the rows of an array.
#[derive(Clone, Debug)]
pub(crate) enum Picks {
    /// Neighbours.
    Run(Range<usize>),
    /// Any, ascending; null becomes NULL.
    Rows(UInt32Array),
    /// So many times NULL.
    Absent(usize),
}

impl Picks {
    /// How many rows the array has.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Run(rows) => rows.len(),
            Self::Rows(rows) => rows.len(),
            Self::Absent(rows) => *rows,
        }
    }

    /// The smallest range of leaf rows that has them all.
    fn hull(&self) -> Range<usize> {
        match self {
            Self::Run(rows) => rows.clone(),
            Self::Rows(rows) => {
                let mut some = (0..rows.len()).filter(|&i| rows.is_valid(i));
                let first = some.next();
                let last = some.next_back().or(first);
                match (first, last) {
                    (Some(first), Some(last)) => {
                        rows.value(first) as usize..rows.value(last) as usize + 1
                    }
                    _ => 0..0,
                }
            }
            Self::Absent(_) => 0..0,
        }
    }

    /// The leaf rows, in order.
    fn iter(&self) -> Box<dyn Iterator<Item = Option<usize>> + '_> {
        match self {
            Self::Run(rows) => Box::new(rows.clone().map(Some)),
            Self::Rows(rows) => Box::new(rows.iter().map(|row| row.map(|row| row as usize))),
            Self::Absent(rows) => Box::new(std::iter::repeat_n(None, *rows)),
        }
    }

    /// Those rows that `kept` tells to keep.
    pub(crate) fn filter(&self, kept: &BooleanArray) -> Self {
        match self {
            Self::Absent(_) => Self::Absent(kept.true_count()),
            Self::Run(rows) => {
                let kept = kept.values().set_indices();
                Self::Rows(kept.map(|i| u32::try_from(rows.start + i).ok()).collect())
            }
            Self::Rows(rows) => {
                let kept = kept.values().set_indices();
                Self::Rows(
                    kept.map(|i| rows.is_valid(i).then(|| rows.value(i)))
                        .collect(),
                )
            }
        }
    }

    /// Runs of neighbours among the leaf rows.
    fn runs(&self) -> Vec<Range<usize>> {
        if let Self::Run(rows) = self {
            return vec![rows.clone()];
        }
        let mut runs: Vec<Range<usize>> = Vec::new();
        for row in self.iter().flatten() {
            match runs.last_mut() {
                Some(run) if run.end == row => run.end += 1,
                _ => runs.push(row..row + 1),
            }
        }
        runs
    }
}

/// Whether making an array of this attribute's values costs more than sharing or copying memory.
pub(crate) fn is_costly(attribute: &Attribute) -> bool {
    matches!(
        attribute.value_type,
        ValueType::Keyword
            | ValueType::Uuid
            | ValueType::BigInt
            | ValueType::BigDec
            | ValueType::Tuple
    )
}

/// The rows whose values lie out of line and have to be read before [`array`] can show them.
pub(crate) fn out_of_line(leaf: &Leaf, picks: &Picks) -> Vec<Range<usize>> {
    if leaf.values().child(Kind::LARGE).is_none() {
        return Vec::new();
    }
    picks.runs()
}

/// Values of an attribute as an Arrow array of [`value_type`].
///
/// # Errors
///
/// [`Error::Invalid`] names the entity whose number has too many digits for its column;
/// [`Error::Corrupt`] if a value is not of the attribute's type.
pub(crate) fn array(attribute: &Attribute, leaf: &Leaf, picks: &Picks) -> Result<ArrayRef> {
    let hull = picks.hull();
    if hull.is_empty() {
        return Ok(new_null_array(&value_type(attribute), picks.len()));
    }
    let values = leaf.values().slice(hull.clone());
    match values
        .as_ref()
        .and_then(|values| shared(attribute.value_type, values))
    {
        Some(values) => match picks {
            Picks::Rows(rows) => {
                let offset = u32::try_from(hull.start).unwrap_or(u32::MAX);
                let rows = UInt32Array::new(
                    rows.values()
                        .iter()
                        .map(|row| row.saturating_sub(offset))
                        .collect(),
                    rows.nulls().cloned(),
                );
                take(&values, &rows, None)
                    .map_err(|error| misfit(attribute, leaf, hull.start, &error))
            }
            _ => Ok(values),
        },
        None => copied(attribute, leaf, picks),
    }
}

/// An array that shares the memory of the leaf, for types that allow it.
pub(super) fn shared(value_type: ValueType, values: &ValueArray) -> Option<ArrayRef> {
    if values.kind().value_type() != Some(value_type) {
        return None;
    }
    Some(match values {
        ValueArray::Boolean(values) => Arc::new(BooleanArray::new(values.clone(), None)),
        ValueArray::Long(values) | ValueArray::Ref(values) => {
            Arc::new(Int64Array::new(values.clone(), None))
        }
        ValueArray::Instant(values) => {
            Arc::new(TimestampMillisecondArray::new(values.clone(), None).with_timezone("UTC"))
        }
        ValueArray::Double(values) => Arc::new(Float64Array::new(values.clone(), None)),
        ValueArray::Float(values) => Arc::new(Float32Array::new(values.clone(), None)),
        ValueArray::String(values) | ValueArray::Symbol(values) | ValueArray::Uri(values) => {
            Arc::new(values.clone())
        }
        ValueArray::Bytes(values) => Arc::new(values.clone()),
        ValueArray::Keyword(_)
        | ValueArray::Uuid(_)
        | ValueArray::BigInt(_)
        | ValueArray::BigDec(_)
        | ValueArray::Tuple(_)
        | ValueArray::Large(_) => return None,
    })
}

/// An array made value by value.
fn copied(attribute: &Attribute, leaf: &Leaf, picks: &Picks) -> Result<ArrayRef> {
    let values = leaf.values();
    let corrupt = |row: usize| {
        Error::corrupt(
            format!("{} of entity {}", attribute.ident, leaf.e()[row]),
            format!("its value is not of {}", attribute.value_type),
        )
    };
    match attribute.value_type {
        ValueType::Keyword => {
            let mut text = String::new();
            let mut array = StringViewBuilder::with_capacity(picks.len());
            for row in picks.iter() {
                let Some(row) = row else {
                    array.append_null();
                    continue;
                };
                let (ValueArray::Keyword(keywords), at) = values.at(row) else {
                    return Err(corrupt(row));
                };
                text.clear();
                text.push(':');
                text.push_str(keywords.value(at));
                array.append_value(&text);
            }
            Ok(Arc::new(array.finish()))
        }
        ValueType::Uuid => {
            let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
            let mut array = StringViewBuilder::with_capacity(picks.len());
            for row in picks.iter() {
                let Some(row) = row else {
                    array.append_null();
                    continue;
                };
                let (ValueArray::Uuid(uuids), at) = values.at(row) else {
                    return Err(corrupt(row));
                };
                array.append_value(
                    uuid::Uuid::from_u128(uuids[at])
                        .hyphenated()
                        .encode_lower(&mut text),
                );
            }
            Ok(Arc::new(array.finish()))
        }
        ValueType::Tuple => tuples(attribute, leaf, picks),
        _ => {
            let mut array = Builder::new(attribute.value_type, &value_type(attribute), picks.len());
            for row in picks.iter() {
                let value = row.map(|row| values.value(row));
                array
                    .push(value.as_ref())
                    .map_err(|reason| misfit(attribute, leaf, row.unwrap_or(0), &reason))?;
            }
            Ok(array.finish())
        }
    }
}

fn tuples(attribute: &Attribute, leaf: &Leaf, picks: &Picks) -> Result<ArrayRef> {
    let fields = tuple_fields(attribute);
    let mut columns: Vec<_> = tuple_types(attribute)
        .into_iter()
        .zip(&fields)
        .map(|(element, field)| Builder::new(element, field.data_type(), picks.len()))
        .collect();
    let mut valid = Vec::with_capacity(picks.len());
    for row in picks.iter() {
        let value = row.map(|row| leaf.values().value(row));
        let elements = match &value {
            Some(Value::Tuple(elements)) => &elements[..],
            None => &[],
            Some(_) => {
                return Err(misfit(
                    attribute,
                    leaf,
                    row.unwrap_or(0),
                    &"it is not a tuple",
                ));
            }
        };
        valid.push(value.is_some());
        for (at, column) in columns.iter_mut().enumerate() {
            let element = elements.get(at).and_then(Option::as_ref);
            column
                .push(element)
                .map_err(|reason| misfit(attribute, leaf, row.unwrap_or(0), &reason))?;
        }
    }
    let columns = columns.into_iter().map(Builder::finish).collect();
    let nulls = valid
        .contains(&false)
        .then(|| NullBuffer::from(valid.clone()));
    if fields.is_empty() {
        return Ok(Arc::new(StructArray::new_empty_fields(picks.len(), nulls)));
    }
    Ok(Arc::new(StructArray::new(fields, columns, nulls)))
}

fn misfit(attribute: &Attribute, leaf: &Leaf, row: usize, reason: &dyn std::fmt::Display) -> Error {
    let entity = leaf.e().get(row).copied().unwrap_or_default();
    Error::invalid(format!(
        "{} of entity {} has no place in its column: {reason}",
        attribute.ident,
        Entid(entity)
    ))
}

/// Builds an array of one value type from values.
enum Builder {
    Boolean(BooleanBuilder),
    Int64(Int64Builder),
    Float64(Float64Builder),
    Float32(Float32Builder),
    Decimal(Decimal128Builder, i8),
    Text(StringViewBuilder),
    Instant(TimestampMillisecondBuilder),
    Bytes(BinaryViewBuilder),
}

impl Builder {
    fn new(value_type: ValueType, data_type: &DataType, rows: usize) -> Self {
        match (value_type, data_type) {
            (ValueType::Boolean, _) => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            (ValueType::Long | ValueType::Ref, _) => Self::Int64(Int64Builder::with_capacity(rows)),
            (ValueType::Double, _) => Self::Float64(Float64Builder::with_capacity(rows)),
            (ValueType::Float, _) => Self::Float32(Float32Builder::with_capacity(rows)),
            (ValueType::Instant, _) => Self::Instant(
                TimestampMillisecondBuilder::with_capacity(rows).with_data_type(data_type.clone()),
            ),
            (ValueType::Bytes, _) => Self::Bytes(BinaryViewBuilder::with_capacity(rows)),
            (_, DataType::Decimal128(_, scale)) => Self::Decimal(
                Decimal128Builder::with_capacity(rows).with_data_type(data_type.clone()),
                *scale,
            ),
            _ => Self::Text(StringViewBuilder::with_capacity(rows)),
        }
    }

    /// Appends a value, or the reason why it has no place here.
    fn push(&mut self, value: Option<&Value>) -> Result<(), String> {
        match (self, value) {
            (Self::Boolean(array), None) => array.append_null(),
            (Self::Int64(array), None) => array.append_null(),
            (Self::Float64(array), None) => array.append_null(),
            (Self::Float32(array), None) => array.append_null(),
            (Self::Decimal(array, _), None) => array.append_null(),
            (Self::Text(array), None) => array.append_null(),
            (Self::Instant(array), None) => array.append_null(),
            (Self::Bytes(array), None) => array.append_null(),
            (Self::Boolean(array), Some(Value::Boolean(value))) => array.append_value(*value),
            (Self::Int64(array), Some(Value::Long(value) | Value::Ref(Entid(value)))) => {
                array.append_value(*value);
            }
            (Self::Float64(array), Some(Value::Double(value))) => array.append_value(*value),
            (Self::Float32(array), Some(Value::Float(value))) => array.append_value(*value),
            (Self::Instant(array), Some(Value::Instant(value))) => array.append_value(*value),
            (Self::Decimal(array, scale), Some(Value::BigInt(value))) => {
                let number = decimal(value, i64::from(*scale));
                array.append_value(number.ok_or_else(|| too_long(value, *scale))?);
            }
            (Self::Decimal(array, scale), Some(Value::BigDec(value))) => {
                let (digits, exponent) = value.as_bigint_and_exponent();
                let number = decimal(&digits, i64::from(*scale) - exponent);
                array.append_value(number.ok_or_else(|| too_long(value, *scale))?);
            }
            (Self::Bytes(array), Some(Value::Bytes(value))) => array.append_value(value),
            (Self::Bytes(array), Some(Value::Large(large))) => {
                array.append_value(large.body.get().ok_or("its bytes have not been read")?);
            }
            (Self::Text(array), Some(value)) => match value {
                Value::Symbol(symbol) => array.append_value(symbol.as_str()),
                Value::Keyword(keyword) => array.append_value(keyword.to_string()),
                Value::Uuid(uuid) => {
                    array.append_value(uuid::Uuid::from_u128(*uuid).hyphenated().to_string());
                }
                Value::BigDec(number) => array.append_value(number.to_plain_string()),
                text => array.append_value(text.as_str().ok_or("it is not text, or not read")?),
            },
            (_, Some(value)) => return Err(format!("it is of {}", value.value_type())),
        }
        Ok(())
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Boolean(mut array) => Arc::new(array.finish()),
            Self::Int64(mut array) => Arc::new(array.finish()),
            Self::Float64(mut array) => Arc::new(array.finish()),
            Self::Float32(mut array) => Arc::new(array.finish()),
            Self::Decimal(mut array, _) => Arc::new(array.finish()),
            Self::Text(mut array) => Arc::new(array.finish()) as Arc<StringViewArray>,
            Self::Instant(mut array) => Arc::new(array.finish()),
            Self::Bytes(mut array) => Arc::new(array.finish()),
        }
    }
}

/// `number · 10^shift`, if that is a whole number of at most [`PRECISION`] digits.
fn decimal(number: &BigInt, shift: i64) -> Option<i128> {
    let limit = 10i128.pow(u32::from(PRECISION));
    let number = i128::try_from(number).ok()?;
    if number == 0 {
        return Some(0);
    }
    let shifted = if shift >= 0 {
        number.checked_mul(10i128.checked_pow(u32::try_from(shift).ok()?)?)?
    } else {
        let divisor = 10i128.checked_pow(u32::try_from(shift.unsigned_abs()).ok()?)?;
        (number % divisor == 0).then(|| number / divisor)?
    };
    (-limit < shifted && shifted < limit).then_some(shifted)
}

fn too_long(number: &impl std::fmt::Display, scale: i8) -> String {
    format!("{number} does not fit into DECIMAL({PRECISION}, {scale})")
}

/// A decimal of Arrow as a number.
pub(crate) fn number_of_decimal(unscaled: i128, scale: i8) -> BigDecimal {
    BigDecimal::new(unscaled.into(), scale.into())
}
