//! Values from EDN and back.

use std::fmt;
use std::sync::Arc;

use bigdecimal::BigDecimal;
use datomfusion_datalog::edn::{Edn, Form, Keyword, Symbol};
use num_bigint::BigInt;

use super::{Value, ValueType};
use crate::datom::Entid;

impl Value {
    /// Reads a value of type `value_type`, without resolving references: a `ref` is an entity id here.
    ///
    /// A number is accepted for another numeric type if nothing is lost: `1` for a double, a bigint or a
    /// bigdec. A double is rounded to a float, because EDN has no other way to write one.
    ///
    /// # Errors
    ///
    /// What was expected and what came, in words.
    pub fn from_edn(edn: &Edn, value_type: ValueType) -> Result<Self, String> {
        let value = match (value_type, edn) {
            (ValueType::Boolean, Edn::Boolean(value)) => Some(Self::Boolean(*value)),
            (ValueType::Long, Edn::Long(value)) => Some(Self::Long(*value)),
            (ValueType::Long, Edn::BigInt(value)) => i64::try_from(value).ok().map(Self::Long),
            (ValueType::Double, Edn::Double(value)) => {
                return Self::double(*value).ok_or_else(|| "NaN is not a value".into());
            }
            (ValueType::Double, Edn::Long(value)) => exact_double(*value).map(Self::Double),
            (ValueType::Float, Edn::Double(value)) => {
                #[allow(
                    clippy::cast_possible_truncation,
                    reason = "EDN writes floats as doubles"
                )]
                let rounded = *value as f32;
                if rounded.is_infinite() && value.is_finite() {
                    return Err(format!("{value} is out of range for {value_type}"));
                }
                return Self::float(rounded).ok_or_else(|| "NaN is not a value".into());
            }
            (ValueType::Float, Edn::Long(value)) if value.unsigned_abs() <= 1 << 24 =>
            {
                #[allow(clippy::cast_precision_loss, reason = "24 bits are exact in a float")]
                Self::float(*value as f32)
            }
            (ValueType::BigInt, Edn::Long(value)) => Self::big_int(BigInt::from(*value)),
            (ValueType::BigInt, Edn::BigInt(value)) => {
                return Self::big_int(value.clone()).ok_or_else(too_many_digits);
            }
            (ValueType::BigDec, Edn::Long(value)) => Self::big_dec(&BigDecimal::from(*value)),
            (ValueType::BigDec, Edn::BigInt(value)) => {
                return Self::big_dec(&BigDecimal::from(value.clone())).ok_or_else(too_many_digits);
            }
            (ValueType::BigDec, Edn::BigDec(value)) => {
                return Self::big_dec(value).ok_or_else(too_many_digits);
            }
            (ValueType::String, Edn::String(value)) => Some(Self::string(Arc::clone(value))),
            (ValueType::Keyword, Edn::Keyword(value)) => {
                short(value.as_str())?;
                Some(Self::Keyword(value.clone()))
            }
            (ValueType::Symbol, Edn::Symbol(value)) => {
                short(value.as_str())?;
                Some(Self::Symbol(value.clone()))
            }
            (ValueType::Uuid, Edn::Uuid(value)) => Some(Self::Uuid(value.as_u128())),
            (ValueType::Instant, Edn::Instant(value)) => Some(Self::Instant(*value)),
            (ValueType::Ref, Edn::Long(value)) => Some(Self::Ref(Entid(*value))),
            (ValueType::Uri, Edn::String(value)) => Some(Self::uri(Arc::clone(value))),
            (ValueType::Uri, Edn::Tagged(tag, form)) if tag.as_str() == "uri" => match &form.edn {
                Edn::String(value) => Some(Self::uri(Arc::clone(value))),
                _ => None,
            },
            (ValueType::Bytes, Edn::Tagged(tag, form)) if tag.as_str() == "bytes" => {
                match &form.edn {
                    Edn::String(hex) => return Ok(Self::bytes(from_hex(hex)?)),
                    _ => None,
                }
            }
            _ => None,
        };
        value.ok_or_else(|| {
            let hint = match value_type {
                ValueType::Bytes => " (written #bytes \"hexadecimal digits\")",
                ValueType::Instant => " (written #inst \"2022-12-31T00:00:00Z\")",
                ValueType::Uuid => " (written #uuid \"…\")",
                _ => "",
            };
            format!("expected a {value_type}{hint}, got {}", excerpt(edn))
        })
    }

    /// This value as EDN.
    ///
    /// A large value whose body has not been read shows its beginning and its length.
    pub fn to_edn(&self) -> Edn {
        match self {
            Self::Boolean(value) => Edn::Boolean(*value),
            Self::Long(value) => Edn::Long(*value),
            Self::Double(value) => Edn::Double(*value),
            Self::Float(value) => Edn::Double(shortest_double(*value)),
            Self::BigInt(value) => Edn::BigInt(BigInt::clone(value)),
            Self::BigDec(value) => Edn::BigDec(BigDecimal::clone(value)),
            Self::String(value) => Edn::String(Arc::clone(value)),
            Self::Keyword(value) => Edn::Keyword(value.clone()),
            Self::Symbol(value) => Edn::Symbol(value.clone()),
            Self::Uuid(value) => Edn::Uuid(uuid::Uuid::from_u128(*value)),
            Self::Instant(value) => Edn::Instant(*value),
            Self::Ref(value) => Edn::Long(value.0),
            Self::Bytes(value) => tagged("bytes", Edn::String(to_hex(value).into())),
            Self::Uri(value) => tagged("uri", Edn::String(Arc::clone(value))),
            Self::Tuple(elements) => Edn::Vector(
                elements
                    .iter()
                    .map(|element| element.as_ref().map_or(Edn::Nil, Self::to_edn).into())
                    .collect(),
            ),
            Self::Large(large) => {
                let text = match (large.value_type, large.body.get()) {
                    (ValueType::Bytes, Some(body)) => to_hex(body),
                    (_, Some(_)) => large.text().unwrap_or_default().to_owned(),
                    (ValueType::Bytes, None) => {
                        return tagged("datomfusion/large", Edn::Long(large.len.cast_signed()));
                    }
                    (_, None) => format!(
                        "{}… ({} bytes)",
                        String::from_utf8_lossy(&large.prefix),
                        large.len
                    ),
                };
                match large.value_type {
                    ValueType::Bytes => tagged("bytes", Edn::String(text.into())),
                    ValueType::Uri => tagged("uri", Edn::String(text.into())),
                    _ => Edn::String(text.into()),
                }
            }
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_edn().fmt(f)
    }
}

/// The start of a form, for messages.
pub(crate) fn excerpt(edn: &Edn) -> String {
    let text = edn.to_string();
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

fn tagged(tag: &str, edn: Edn) -> Edn {
    Edn::Tagged(Symbol::new(tag), Box::new(Form::from(edn)))
}

fn too_many_digits() -> String {
    format!("a number has at most {} digits", Value::DIGITS_MAX)
}

fn short(text: &str) -> Result<(), String> {
    if text.len() <= Keyword::BYTES_MAX {
        return Ok(());
    }
    Err(format!(
        "a keyword or symbol has at most {} bytes",
        Keyword::BYTES_MAX
    ))
}

fn exact_double(value: i64) -> Option<f64> {
    #[allow(clippy::cast_precision_loss, reason = "the bound makes it exact")]
    (value.unsigned_abs() <= 1 << 53).then_some(value as f64)
}

/// The double with the same shortest decimal form: `0.1` rather than `0.10000000149011612`.
fn shortest_double(value: f32) -> f64 {
    value
        .to_string()
        .parse()
        .unwrap_or_else(|_| f64::from(value))
}

fn to_hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            text.extend(
                [byte >> 4, byte & 15]
                    .map(|nibble| char::from(b"0123456789abcdef"[usize::from(nibble)])),
            );
            text
        })
}

fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    text.as_bytes()
        .chunks(2)
        .map(|pair| match *pair {
            [high, low] => {
                let (high, low) = (digit(high)?, digit(low)?);
                u8::try_from(16 * high + low).ok()
            }
            _ => None,
        })
        .collect::<Option<_>>()
        .ok_or_else(|| "#bytes takes an even number of hexadecimal digits".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::any_value;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_survive_edn(value in any_value()) {
            if value.value_type() != ValueType::Tuple {
                prop_assert_eq!(Value::from_edn(&value.to_edn(), value.value_type()), Ok(value));
            }
        }
    }

    #[test]
    fn a_wrong_type_says_what_was_expected() {
        let error = Value::from_edn(&Edn::String("x".into()), ValueType::Long).unwrap_err();
        assert_eq!(error, "expected a :db.type/long, got \"x\"");
        assert!(Value::from_edn(&Edn::Double(f64::NAN), ValueType::Double).is_err());
        assert!(Value::from_edn(&Edn::Double(1.5), ValueType::BigDec).is_err());
        assert_eq!(
            Value::from_edn(&Edn::Long(2), ValueType::Double),
            Ok(Value::Double(2.0))
        );
    }
}
