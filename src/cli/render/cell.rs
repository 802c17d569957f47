//! One value of an Arrow array as text.

use std::fmt::Write;
use std::sync::Arc;

use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use chrono::{DateTime, SecondsFormat, Utc};

/// In which notation a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Notation {
    Json,
    Edn,
    /// Text without quotes; what has parts is written as JSON.
    Plain,
}

impl Notation {
    pub(super) fn comma(self) -> &'static str {
        if self == Self::Edn { ", " } else { "," }
    }

    pub(super) fn nothing(self) -> &'static str {
        if self == Self::Edn { "nil" } else { "null" }
    }

    /// The notation of parts.
    pub(super) fn inner(self) -> Self {
        if self == Self::Edn {
            Self::Edn
        } else {
            Self::Json
        }
    }
}

/// Writes one value.
pub(super) fn write_cell(
    array: &ArrayRef,
    row: usize,
    notation: Notation,
    out: &mut String,
) -> Result<(), ArrowError> {
    if array.is_null(row) {
        out.push_str(notation.nothing());
        return Ok(());
    }
    match array.data_type() {
        DataType::Null => out.push_str(notation.nothing()),
        DataType::Float64 => {
            write_float(
                array.as_primitive::<Float64Type>().value(row),
                notation,
                out,
            );
        }
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            if value.is_finite() {
                push(out, format_args!("{value:?}"));
            } else {
                write_float(f64::from(value), notation, out);
            }
        }
        DataType::Decimal32(_, scale) => {
            let digits = array.as_primitive::<Decimal32Type>().value_as_string(row);
            write_decimal(&digits, *scale, notation, out);
        }
        DataType::Decimal64(_, scale) => {
            let digits = array.as_primitive::<Decimal64Type>().value_as_string(row);
            write_decimal(&digits, *scale, notation, out);
        }
        DataType::Decimal128(_, scale) => {
            let digits = array.as_primitive::<Decimal128Type>().value_as_string(row);
            write_decimal(&digits, *scale, notation, out);
        }
        DataType::Decimal256(_, scale) => {
            let digits = array.as_primitive::<Decimal256Type>().value_as_string(row);
            write_decimal(&digits, *scale, notation, out);
        }
        DataType::Utf8 => write_text(array.as_string::<i32>().value(row), notation, out),
        DataType::LargeUtf8 => write_text(array.as_string::<i64>().value(row), notation, out),
        DataType::Utf8View => write_text(array.as_string_view().value(row), notation, out),
        DataType::Binary => write_bytes(array.as_binary::<i32>().value(row), notation, out),
        DataType::LargeBinary => write_bytes(array.as_binary::<i64>().value(row), notation, out),
        DataType::BinaryView => write_bytes(array.as_binary_view().value(row), notation, out),
        DataType::FixedSizeBinary(_) => {
            write_bytes(array.as_fixed_size_binary().value(row), notation, out);
        }
        DataType::Timestamp(unit, zone) => match instant(array, row, *unit) {
            Some(instant) => write_instant(instant, zone.is_some(), notation, out),
            None => write_other(array, row, notation, out)?,
        },
        DataType::List(_) => {
            write_items(&array.as_list::<i32>().value(row), notation.inner(), out)?;
        }
        DataType::LargeList(_) => {
            write_items(&array.as_list::<i64>().value(row), notation.inner(), out)?;
        }
        DataType::FixedSizeList(..) => {
            write_items(
                &array.as_fixed_size_list().value(row),
                notation.inner(),
                out,
            )?;
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let parts = fields
                .iter()
                .map(|field| field.name().as_str())
                .zip(columns);
            write_parts(parts, row, notation.inner(), out)?;
        }
        DataType::Map(..) => {
            let entries: ArrayRef = Arc::new(array.as_map().value(row));
            write_map(&entries, notation.inner(), out)?;
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let key = dictionary.normalized_keys()[row];
            write_cell(dictionary.values(), key, notation, out)?;
        }
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64 => {
            let options = FormatOptions::default().with_display_error(false);
            push(
                out,
                format_args!("{}", ArrayFormatter::try_new(array, &options)?.value(row)),
            );
        }
        _ => write_other(array, row, notation, out)?,
    }
    Ok(())
}

/// Dates, times, intervals and whatever else Arrow has, as Arrow writes them.
fn write_other(
    array: &ArrayRef,
    row: usize,
    notation: Notation,
    out: &mut String,
) -> Result<(), ArrowError> {
    let options = FormatOptions::default().with_display_error(false);
    let text = ArrayFormatter::try_new(array, &options)?
        .value(row)
        .try_to_string()?;
    write_text(&text, notation, out);
    Ok(())
}

/// Writing into a string cannot fail.
pub(super) fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes all text");
}

/// The shortest digits that read back as the same number. JSON has no numbers for what is not finite.
pub(super) fn write_float(value: f64, notation: Notation, out: &mut String) {
    let special = match value {
        _ if value.is_finite() => return push(out, format_args!("{value:?}")),
        _ if value.is_nan() => ["NaN", "##NaN"],
        _ if value > 0.0 => ["Infinity", "##Inf"],
        _ => ["-Infinity", "##-Inf"],
    };
    match notation {
        Notation::Edn => out.push_str(special[1]),
        _ => write_text(special[0], notation, out),
    }
}

fn write_decimal(digits: &str, scale: i8, notation: Notation, out: &mut String) {
    out.push_str(digits);
    if notation == Notation::Edn {
        out.push(if scale == 0 { 'N' } else { 'M' });
    }
}

pub(super) fn write_text(text: &str, notation: Notation, out: &mut String) {
    match notation {
        Notation::Plain => out.push_str(text),
        Notation::Json | Notation::Edn => write_string(text, out),
    }
}

/// A quoted string; what is escaped is escaped alike in JSON and EDN.
pub(super) fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    for (at, c) in text.char_indices() {
        let escaped = match c {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            c if c < ' ' || c == '\u{7f}' => "",
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        if escaped.is_empty() {
            push(out, format_args!("\\u{:04x}", u32::from(c)));
        } else {
            out.push_str(escaped);
        }
        plain = at + c.len_utf8();
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

pub(super) fn write_bytes(bytes: &[u8], notation: Notation, out: &mut String) {
    let (before, after) = match notation {
        Notation::Json => ("\"", "\""),
        Notation::Edn => ("#bytes \"", "\""),
        Notation::Plain => ("", ""),
    };
    out.push_str(before);
    for byte in bytes {
        push(out, format_args!("{byte:02x}"));
    }
    out.push_str(after);
}

fn instant(array: &ArrayRef, row: usize, unit: TimeUnit) -> Option<DateTime<Utc>> {
    match unit {
        TimeUnit::Second => {
            DateTime::from_timestamp(array.as_primitive::<TimestampSecondType>().value(row), 0)
        }
        TimeUnit::Millisecond => {
            let value = array.as_primitive::<TimestampMillisecondType>().value(row);
            DateTime::from_timestamp_millis(value)
        }
        TimeUnit::Microsecond => {
            let value = array.as_primitive::<TimestampMicrosecondType>().value(row);
            DateTime::from_timestamp_micros(value)
        }
        TimeUnit::Nanosecond => {
            let value = array.as_primitive::<TimestampNanosecondType>().value(row);
            Some(DateTime::from_timestamp_nanos(value))
        }
    }
}

/// RFC 3339 with as many digits as there are; without a zone, a time that has none.
pub(super) fn write_instant(
    instant: DateTime<Utc>,
    zoned: bool,
    notation: Notation,
    out: &mut String,
) {
    let text = instant.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let text = if zoned {
        &text
    } else {
        text.trim_end_matches('Z')
    };
    if notation == Notation::Edn {
        out.push_str("#inst ");
    }
    write_text(text, notation, out);
}

fn write_items(items: &ArrayRef, notation: Notation, out: &mut String) -> Result<(), ArrowError> {
    out.push('[');
    for row in 0..items.len() {
        if row > 0 {
            out.push_str(if notation == Notation::Edn { " " } else { "," });
        }
        write_cell(items, row, notation, out)?;
    }
    out.push(']');
    Ok(())
}

fn write_parts<'a>(
    parts: impl Iterator<Item = (&'a str, &'a ArrayRef)>,
    row: usize,
    notation: Notation,
    out: &mut String,
) -> Result<(), ArrowError> {
    out.push('{');
    for (at, (name, column)) in parts.enumerate() {
        if at > 0 {
            out.push_str(notation.comma());
        }
        write_string(name, out);
        out.push(if notation == Notation::Edn { ' ' } else { ':' });
        write_cell(column, row, notation, out)?;
    }
    out.push('}');
    Ok(())
}

/// A map of Arrow: entries of a key and a value. Keys become text, as JSON has no others.
fn write_map(entries: &ArrayRef, notation: Notation, out: &mut String) -> Result<(), ArrowError> {
    let [keys, values] = entries.as_struct().columns() else {
        return Err(ArrowError::CastError("a map has keys and values".into()));
    };
    out.push('{');
    for row in 0..entries.len() {
        if row > 0 {
            out.push_str(notation.comma());
        }
        let mut key = String::new();
        write_cell(keys, row, Notation::Plain, &mut key)?;
        write_string(&key, out);
        out.push(if notation == Notation::Edn { ' ' } else { ':' });
        write_cell(values, row, notation, out)?;
    }
    out.push('}');
    Ok(())
}
