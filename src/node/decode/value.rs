//! Values, one by one: what a column's bytes or numbers stand for, and the elements of tuples.

use std::sync::{Arc, OnceLock};

use bigdecimal::BigDecimal;
use datomfusion_datalog::edn::{Keyword, Symbol};
use num_bigint::BigInt;

use super::super::frame::BODY_BYTES_MAX;
use super::super::large::is_text;
use super::super::values::Kind;
use super::super::{ELEMENT_BYTES, TUPLE_DEPTH_MAX};
use crate::datom::Entid;
use crate::id::NodeId;
use crate::value::{Large, Value, ValueType};
use crate::wire::{Malformed, Reader, Result as WireResult};

pub(super) const UNKNOWN_TYPE: Malformed = Malformed("a value has an unknown type");

pub(super) fn kind_of(code: i64) -> WireResult<Kind> {
    u8::try_from(code)
        .ok()
        .and_then(Kind::from_code)
        .ok_or(UNKNOWN_TYPE)
}

pub(super) fn lies_in_line(len: usize) -> WireResult<()> {
    if len > Large::PREFIX_BYTES_MAX {
        return Err(Malformed("a long value is in line"));
    }
    Ok(())
}

pub(super) fn double_of(bits: i64) -> WireResult<f64> {
    let bits = bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed();
    double(f64::from_bits(bits.cast_unsigned()))
}

fn double(value: f64) -> WireResult<f64> {
    if value.is_nan() || value.to_bits() == (-0.0f64).to_bits() {
        return Err(Malformed("a double is not a number or a negative zero"));
    }
    Ok(value)
}

pub(super) fn float_of(bits: i64) -> WireResult<f32> {
    let bits = i32::try_from(bits).map_err(|_| Malformed("a float has more than 32 bits"))?;
    let bits = bits ^ ((bits >> 31).cast_unsigned() >> 1).cast_signed();
    float(f32::from_bits(bits.cast_unsigned()))
}

fn float(value: f32) -> WireResult<f32> {
    if value.is_nan() || value.to_bits() == (-0.0f32).to_bits() {
        return Err(Malformed("a float is not a number or a negative zero"));
    }
    Ok(value)
}

/// A number of so few bytes that it may have at most [`Value::DIGITS_MAX`] digits, and no superfluous one.
fn integer(bytes: &[u8]) -> WireResult<BigInt> {
    let malformed = Malformed("a bigint is not canonical");
    // A digit has a little more than 3.3 bits.
    if bytes.len() as u64 > Value::DIGITS_MAX * 10 / 24 {
        return Err(malformed);
    }
    let number = BigInt::from_signed_bytes_le(bytes);
    if number.to_signed_bytes_le() == bytes {
        Ok(number)
    } else {
        Err(malformed)
    }
}

pub(super) fn big_int(bytes: &[u8]) -> WireResult<Value> {
    Value::big_int(integer(bytes)?).ok_or(Malformed("a bigint has too many digits"))
}

pub(super) fn big_dec(digits: &[u8], scale: i64) -> WireResult<Value> {
    let malformed = Malformed("a bigdec is not canonical");
    let digits = integer(digits)?;
    if scale.unsigned_abs() > Value::DIGITS_MAX {
        return Err(malformed);
    }
    let value = Value::big_dec(&BigDecimal::new(digits.clone(), scale)).ok_or(malformed)?;
    match &value {
        Value::BigDec(number) if number.as_bigint_and_exponent() == (digits, scale) => Ok(value),
        _ => Err(malformed),
    }
}

pub(super) fn large_of(code: u8, prefix: &[u8], hash: NodeId, len: u64) -> WireResult<Arc<Large>> {
    let value_type = ValueType::from_code(code)
        .filter(|of| matches!(of, ValueType::String | ValueType::Uri | ValueType::Bytes))
        .ok_or(UNKNOWN_TYPE)?;
    // A prefix is cut at a character, so it may fall short by three bytes.
    let shortest = Large::PREFIX_BYTES_MAX - if is_text(value_type) { 3 } else { 0 };
    if !(shortest..=Large::PREFIX_BYTES_MAX).contains(&prefix.len())
        || !(Large::PREFIX_BYTES_MAX as u64 + 1..=BODY_BYTES_MAX as u64).contains(&len)
    {
        return Err(Malformed("a large value has a length out of bounds"));
    }
    if is_text(value_type) && std::str::from_utf8(prefix).is_err() {
        return Err(Malformed("text is not UTF-8"));
    }
    Ok(Arc::new(Large {
        value_type,
        prefix: prefix.into(),
        hash,
        len,
        body: OnceLock::new(),
        location: None,
    }))
}

pub(super) fn tuple(bytes: &[u8], budget: &mut usize) -> WireResult<Value> {
    let mut reader = Reader::new(bytes);
    match value(&mut reader, 0, budget)? {
        Some(tuple @ Value::Tuple(_)) => reader.finish().map(|()| tuple),
        _ => Err(Malformed("a value is not the tuple it should be")),
    }
}

/// One value behind its kind; `None` is nil. Elements count towards the budget, because a nil that is one
/// byte here is many in memory.
fn value(reader: &mut Reader<'_>, depth: usize, budget: &mut usize) -> WireResult<Option<Value>> {
    let code = reader.u8()?;
    if code == 0 {
        return Ok(None);
    }
    let kind = kind_of(i64::from(code))?;
    let in_line = |text: &str| lies_in_line(text.len());
    let Some(value_type) = kind.value_type() else {
        let code = reader.u8()?;
        let (prefix, hash) = (reader.bytes()?, NodeId(reader.array()?));
        return Ok(Some(Value::Large(large_of(
            code,
            prefix,
            hash,
            reader.varint()?,
        )?)));
    };
    Ok(Some(match value_type {
        ValueType::Boolean => match reader.u8()? {
            0 => Value::Boolean(false),
            1 => Value::Boolean(true),
            _ => return Err(Malformed("a boolean is neither true nor false")),
        },
        ValueType::Long => Value::Long(reader.zigzag()?),
        ValueType::Instant => Value::Instant(reader.zigzag()?),
        ValueType::Ref => Value::Ref(Entid(reader.zigzag()?)),
        ValueType::Double => Value::Double(double(f64::from_bits(reader.u64()?))?),
        ValueType::Float => Value::Float(float(f32::from_bits(reader.u32()?))?),
        ValueType::BigInt => big_int(reader.bytes()?)?,
        ValueType::BigDec => {
            let scale = reader.zigzag()?;
            big_dec(reader.bytes()?, scale)?
        }
        ValueType::String => {
            let text = reader.text()?;
            in_line(text)?;
            Value::String(text.into())
        }
        ValueType::Uri => {
            let text = reader.text()?;
            in_line(text)?;
            Value::Uri(text.into())
        }
        ValueType::Keyword => Value::Keyword(Keyword::new(reader.text()?)),
        ValueType::Symbol => Value::Symbol(Symbol::new(reader.text()?)),
        ValueType::Uuid => Value::Uuid(u128::from_be_bytes(reader.array()?)),
        ValueType::Bytes => {
            let bytes = reader.bytes()?;
            lies_in_line(bytes.len())?;
            Value::Bytes(bytes.into())
        }
        ValueType::Tuple => {
            if depth >= TUPLE_DEPTH_MAX {
                return Err(Malformed("a tuple is nested too deeply"));
            }
            let len = reader.count(1)?;
            *budget = len
                .checked_mul(ELEMENT_BYTES)
                .and_then(|bytes| budget.checked_sub(bytes))
                .ok_or(Malformed("tuples are longer than a node may be"))?;
            let elements = (0..len).map(|_| value(reader, depth + 1, budget));
            Value::Tuple(elements.collect::<WireResult<Vec<_>>>()?.into())
        }
    }))
}
