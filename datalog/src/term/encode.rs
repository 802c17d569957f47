//! Terms as bytes that sort as terms do: the values of columns that mix kinds.
//!
//! An encoding is a *key*, then the *kinds* of the numbers in it, in the order they stand. Equal terms have
//! equal keys and differ at most in their kinds, so joins and sorts look at [`Term::key_of`] alone, which
//! is a prefix. No key is a prefix of another.
//!
//! | kind | key, after the byte of [its rank](Term::rank) |
//! |---|---|
//! | nil | nothing |
//! | boolean | 0 or 1 |
//! | number | the last double not above it, 8 bytes; then 0 if that is it, or 1 and its digits |
//! | character | 4 bytes |
//! | string, keyword, symbol, bytes, uri | its bytes, with `00` as `00 ff`; then `00 00` |
//! | instant | 8 bytes |
//! | uuid | 16 bytes |
//! | vector, set, map | the keys of its elements, key before value; then 0 |
//!
//! Integers are big-endian with the sign bit flipped. A double is its bits, of which it flips the sign if
//! positive and all if negative; zero is positive. Digits are an exponent of base 100 (a byte, or a byte
//! and eight if it is far from zero) and digits of base 100, doubled, plus one if more follow; all of it
//! inverted if the number is negative. So numbers that are doubles, and longs up to 2⁵³, take no digits.
//!
//! The kind of a number is one byte, followed by the scale if it is a decimal. A scale survives if the
//! decimal ends in at most 65536 zeros, and a big integer is a decimal afterwards if it ends in more than
//! a million: few bytes must not stand for a number without end.

use std::sync::Arc;

use bigdecimal::BigDecimal;
use num_bigint::BigInt;
use uuid::Uuid;

use super::Term;
use super::decimal::{self, Digits};
use crate::edn::{DEPTH_MAX, Keyword, Symbol};

const SIGN: u64 = 1 << 63;
/// Most zeros that decoding puts behind the digits of a decimal, and of an integer.
const DECIMAL_ZEROS_MAX: i128 = 1 << 16;
const INTEGER_ZEROS_MAX: i128 = 1 << 20;

/// Exponents that take one byte, and the byte of exponent zero.
const EXPONENTS: std::ops::RangeInclusive<i64> = -16..=47;
const EXPONENT_ZERO: u8 = 0xa0;
const EXPONENT_BELOW: u8 = 0x84;
const EXPONENT_ABOVE: u8 = 0xd0;

const LONG: u8 = 0;
const BIG_INT: u8 = 1;
const DOUBLE: u8 = 2;
const NEGATIVE_ZERO: u8 = 3;
const BIG_DEC: u8 = 4;

/// Bytes that encode no term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an encoded value: {0}")]
pub struct DecodeError(&'static str);

type Result<T> = std::result::Result<T, DecodeError>;

impl Term {
    /// Appends the encoding of this term: its key, then what distinguishes it from equal terms.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_key(out);
        self.encode_kinds(out);
    }

    /// Appends the key of this term. Keys order as terms do, and are equal if the terms are.
    pub fn encode_key(&self, out: &mut Vec<u8>) {
        out.push(self.rank());
        match self {
            Self::Nil => {}
            Self::Boolean(boolean) => out.push((*boolean).into()),
            Self::Long(_) | Self::Double(_) | Self::BigInt(_) | Self::BigDec(_) => {
                self.encode_number(out);
            }
            Self::Char(char) => out.extend(u32::from(*char).to_be_bytes()),
            Self::String(text) | Self::Uri(text) => encode_bytes(text.as_bytes(), out),
            Self::Keyword(keyword) => encode_bytes(keyword.as_str().as_bytes(), out),
            Self::Symbol(symbol) => encode_bytes(symbol.as_str().as_bytes(), out),
            Self::Bytes(bytes) => encode_bytes(bytes, out),
            Self::Instant(ms) => out.extend((ms.cast_unsigned() ^ SIGN).to_be_bytes()),
            Self::Uuid(uuid) => out.extend(uuid.as_bytes()),
            Self::Vector(elements) | Self::Set(elements) => {
                elements.iter().for_each(|element| element.encode_key(out));
                out.push(0);
            }
            Self::Map(entries) => {
                for (key, value) in entries.iter() {
                    key.encode_key(out);
                    value.encode_key(out);
                }
                out.push(0);
            }
        }
    }

    /// The key of an encoding: its first part. Bytes that encode nothing are their own key.
    pub fn key_of(encoded: &[u8]) -> &[u8] {
        let mut rest = encoded;
        match skip_key(&mut rest, 0) {
            Ok(()) => &encoded[..encoded.len() - rest.len()],
            Err(_) => encoded,
        }
    }

    /// Reads an encoding, which must end with the bytes.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the bytes are no encoding, or one of a term nested deeper than [`DEPTH_MAX`].
    pub fn decode(bytes: &[u8]) -> std::result::Result<Self, DecodeError> {
        let mut kinds = bytes;
        skip_key(&mut kinds, 0)?;
        let mut key = &bytes[..bytes.len() - kinds.len()];
        let term = decode(&mut key, &mut kinds)?;
        if kinds.is_empty() {
            Ok(term)
        } else {
            Err(DecodeError("bytes are left over"))
        }
    }

    fn encode_number(&self, out: &mut Vec<u8>) {
        let Some((double, digits)) = self.cut() else {
            return;
        };
        // Adding zero makes one of both zeros.
        let bits = if double.is_nan() {
            f64::NAN
        } else {
            double + 0.0
        }
        .to_bits();
        let ordered = if bits & SIGN == 0 { bits | SIGN } else { !bits };
        out.extend(ordered.to_be_bytes());
        out.push(digits.is_some().into());
        if let Some(digits) = digits {
            let start = out.len();
            encode_digits(&digits, out);
            if double < 0.0 {
                out[start..].iter_mut().for_each(|byte| *byte = !*byte);
            }
        }
    }

    fn encode_kinds(&self, out: &mut Vec<u8>) {
        match self {
            Self::Long(_) => out.push(LONG),
            Self::Double(double) if *double == 0.0 && double.is_sign_negative() => {
                out.push(NEGATIVE_ZERO);
            }
            Self::Double(_) => out.push(DOUBLE),
            Self::BigInt(integer) => match Digits::of_integer(integer.magnitude()) {
                Some(digits) if -digits.scale() > INTEGER_ZEROS_MAX => {
                    out.push(BIG_DEC);
                    encode_scale(digits.scale(), out);
                }
                _ => out.push(BIG_INT),
            },
            Self::BigDec(number) => {
                out.push(BIG_DEC);
                let scale = i128::from(number.as_bigint_and_scale().1);
                let scale_max = Digits::of_decimal(number)
                    .map_or(scale, |digits| digits.scale() + DECIMAL_ZEROS_MAX);
                encode_scale(scale.min(scale_max), out);
            }
            Self::Vector(elements) | Self::Set(elements) => {
                elements
                    .iter()
                    .for_each(|element| element.encode_kinds(out));
            }
            Self::Map(entries) => {
                for (key, value) in entries.iter() {
                    key.encode_kinds(out);
                    value.encode_kinds(out);
                }
            }
            _ => {}
        }
    }
}

/// A scale of one byte if it is small, as nearly all are, or a mark and eight bytes.
fn encode_scale(scale: i128, out: &mut Vec<u8>) {
    match i8::try_from(scale) {
        Ok(scale) if scale != i8::MIN => out.push(scale.cast_unsigned()),
        _ => {
            out.push(i8::MIN.cast_unsigned());
            // Only the scale of the zeros cut off a long integer could lie beyond, and none is so long.
            let scale = i64::try_from(scale).unwrap_or(i64::MIN);
            out.extend(scale.to_be_bytes());
        }
    }
}

fn decode_scale(rest: &mut &[u8]) -> Result<i64> {
    let [byte] = take::<1>(rest)?;
    match byte.cast_signed() {
        i8::MIN => Ok(i64::from_be_bytes(take(rest)?)),
        scale => Ok(scale.into()),
    }
}

fn encode_digits(digits: &Digits, out: &mut Vec<u8>) {
    let is_odd = digits.point.rem_euclid(2) == 1;
    let exponent = (digits.point + i128::from(is_odd)).div_euclid(2);
    match i64::try_from(exponent) {
        Ok(exponent) if EXPONENTS.contains(&exponent) => {
            #[allow(clippy::cast_possible_truncation, reason = "in the range of a byte")]
            out.push(EXPONENT_ZERO.wrapping_add_signed(exponent as i8));
        }
        exponent => {
            // Half a scale of 64 bits, more or less: it fits.
            let exponent = exponent.unwrap_or(i64::MAX);
            out.push(if exponent < 0 {
                EXPONENT_BELOW
            } else {
                EXPONENT_ABOVE
            });
            out.extend((exponent.cast_unsigned() ^ SIGN).to_be_bytes());
        }
    }
    let mut text = digits.digits.as_bytes();
    let mut push = |high: u8, low: u8, more: bool| {
        out.push(((high - b'0') * 10 + (low - b'0')) * 2 + u8::from(more));
    };
    if is_odd && let Some((first, rest)) = text.split_first() {
        push(b'0', *first, !rest.is_empty());
        text = rest;
    }
    let mut pairs = text.chunks(2).peekable();
    while let Some(pair) = pairs.next() {
        let low = pair.get(1).copied().unwrap_or(b'0');
        push(pair[0], low, pairs.peek().is_some());
    }
}

fn decode_digits(rest: &mut &[u8], invert: u8) -> Result<Digits> {
    let [lead] = take::<1>(rest)?;
    let exponent = match lead ^ invert {
        EXPONENT_BELOW | EXPONENT_ABOVE => {
            let bits = u64::from_be_bytes(take::<8>(rest)?.map(|byte| byte ^ invert));
            (bits ^ SIGN).cast_signed()
        }
        lead => i64::from(lead) - i64::from(EXPONENT_ZERO),
    };
    let mut text = String::new();
    loop {
        let [byte] = take::<1>(rest)?;
        let byte = byte ^ invert;
        if byte >= 200 {
            return Err(DecodeError("a digit is out of range"));
        }
        text.push(char::from(b'0' + byte / 2 / 10));
        text.push(char::from(b'0' + byte / 2 % 10));
        if byte & 1 == 0 {
            break;
        }
    }
    Digits::new(&text, i128::from(exponent) * 2).ok_or(DecodeError("a number has no digits"))
}

fn skip_digits(rest: &mut &[u8], invert: u8) -> Result<()> {
    let [lead] = take::<1>(rest)?;
    if matches!(lead ^ invert, EXPONENT_BELOW | EXPONENT_ABOVE) {
        take::<8>(rest)?;
    }
    while (take::<1>(rest)?[0] ^ invert) & 1 == 1 {}
    Ok(())
}

fn encode_bytes(mut bytes: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        out.extend_from_slice(&bytes[..=at]);
        out.push(0xff);
        bytes = &bytes[at + 1..];
    }
    out.extend_from_slice(bytes);
    out.extend([0, 0]);
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    let (bytes, after) = rest
        .split_first_chunk()
        .ok_or(DecodeError("it ends too early"))?;
    *rest = after;
    Ok(*bytes)
}

/// The bytes before their end mark, as they stand.
fn take_escaped<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let bytes = *rest;
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == 0) {
        let at = from + at;
        match bytes.get(at + 1) {
            Some(0) => {
                *rest = &bytes[at + 2..];
                return Ok(&bytes[..at]);
            }
            Some(0xff) => from = at + 2,
            _ => return Err(DecodeError("a zero is not escaped")),
        }
    }
    Err(DecodeError("it ends too early"))
}

fn take_bytes(rest: &mut &[u8]) -> Result<Vec<u8>> {
    let mut escaped = take_escaped(rest)?;
    let mut bytes = Vec::with_capacity(escaped.len());
    while let Some(at) = escaped.iter().position(|byte| *byte == 0) {
        bytes.extend_from_slice(&escaped[..=at]);
        escaped = escaped.get(at + 2..).unwrap_or_default();
    }
    bytes.extend_from_slice(escaped);
    Ok(bytes)
}

fn take_text(rest: &mut &[u8]) -> Result<Arc<str>> {
    match String::from_utf8(take_bytes(rest)?) {
        Ok(text) => Ok(text.into()),
        Err(_) => Err(DecodeError("text is not UTF-8")),
    }
}

/// The double of a number, and whether digits follow.
fn take_double(rest: &mut &[u8]) -> Result<(f64, bool)> {
    let ordered = u64::from_be_bytes(take(rest)?);
    let bits = if ordered & SIGN == 0 {
        !ordered
    } else {
        ordered ^ SIGN
    };
    match take(rest)? {
        [0] => Ok((f64::from_bits(bits), false)),
        [1] => Ok((f64::from_bits(bits), true)),
        _ => Err(DecodeError("a number is neither whole nor cut")),
    }
}

fn skip_key(rest: &mut &[u8], depth: usize) -> Result<()> {
    match take(rest)? {
        [1] => {}
        [2] => drop(take::<1>(rest)?),
        [3] => {
            let (double, has_digits) = take_double(rest)?;
            if has_digits {
                skip_digits(rest, invert(double))?;
            }
        }
        [4] => drop(take::<4>(rest)?),
        [5 | 6 | 7 | 10 | 11] => drop(take_escaped(rest)?),
        [8] => drop(take::<8>(rest)?),
        [9] => drop(take::<16>(rest)?),
        [12..=14] if depth >= DEPTH_MAX => return Err(DecodeError("it nests too deep")),
        [12..=14] => {
            while rest.first() != Some(&0) {
                skip_key(rest, depth + 1)?;
            }
            take::<1>(rest)?;
        }
        _ => return Err(DecodeError("a kind is unknown")),
    }
    Ok(())
}

/// What inverts the digits behind a double.
fn invert(double: f64) -> u8 {
    if double < 0.0 { 0xff } else { 0 }
}

/// Decodes a key that [`skip_key`] has found to be whole and not too deep.
fn decode(key: &mut &[u8], kinds: &mut &[u8]) -> Result<Term> {
    let [rank] = take(key)?;
    Ok(match rank {
        1 => Term::Nil,
        2 => match take(key)? {
            [0] => Term::Boolean(false),
            [1] => Term::Boolean(true),
            _ => return Err(DecodeError("a boolean is neither true nor false")),
        },
        3 => decode_number(key, kinds)?,
        4 => char::from_u32(u32::from_be_bytes(take(key)?))
            .map(Term::Char)
            .ok_or(DecodeError("a character does not exist"))?,
        5 => Term::String(take_text(key)?),
        6 => Term::Keyword(Keyword::new(take_text(key)?)),
        7 => Term::Symbol(Symbol::new(take_text(key)?)),
        8 => Term::Instant((u64::from_be_bytes(take(key)?) ^ SIGN).cast_signed()),
        9 => Term::Uuid(Uuid::from_bytes(take(key)?)),
        10 => Term::Bytes(take_bytes(key)?.into()),
        11 => Term::Uri(take_text(key)?),
        12 => Term::Vector(decode_elements(key, kinds)?.into()),
        13 => {
            let elements = decode_elements(key, kinds)?;
            if !elements.is_sorted_by(|a, b| a < b) {
                return Err(DecodeError("a set is not sorted"));
            }
            Term::Set(elements.into())
        }
        _ => {
            let mut elements = decode_elements(key, kinds)?.into_iter();
            let mut entries = Vec::with_capacity(elements.len() / 2);
            while let Some(key) = elements.next() {
                let value = elements.next();
                entries.push((key, value.ok_or(DecodeError("a key has no value"))?));
            }
            if !entries.is_sorted_by(|(a, _), (b, _)| a < b) {
                return Err(DecodeError("a map is not sorted"));
            }
            Term::Map(entries.into())
        }
    })
}

fn decode_elements(key: &mut &[u8], kinds: &mut &[u8]) -> Result<Vec<Term>> {
    let mut elements = Vec::new();
    while key.first() != Some(&0) {
        elements.push(decode(key, kinds)?);
    }
    take::<1>(key)?;
    Ok(elements)
}

fn decode_number(key: &mut &[u8], kinds: &mut &[u8]) -> Result<Term> {
    const MISMATCH: DecodeError = DecodeError("a number is not of its kind");
    let (double, has_digits) = take_double(key)?;
    let digits = if has_digits {
        Some(decode_digits(key, invert(double))?)
    } else {
        None
    };
    let [kind] = take(kinds)?;
    let is_negative = double < 0.0;
    let number = match (kind, digits) {
        (LONG, None) => decimal::exact_long(double).map(Term::Long),
        (LONG, Some(digits)) if digits.point <= 19 => decode_integer(&digits, is_negative)
            .and_then(|integer| i64::try_from(integer).ok())
            .map(Term::Long),
        (BIG_INT, None) => decimal::exact_integer(double).map(Term::from),
        (BIG_INT, Some(digits)) => decode_integer(&digits, is_negative).map(Term::from),
        (DOUBLE, None) => Some(Term::Double(double)),
        (NEGATIVE_ZERO, None) if double == 0.0 => Some(Term::Double(-0.0)),
        (BIG_DEC, digits) => {
            let scale = decode_scale(kinds)?;
            let digits = digits.or_else(|| Digits::of_double(double));
            match digits {
                _ if !double.is_finite() && !has_digits => None,
                None => Some(BigInt::from(0)),
                Some(digits) => unscaled(&digits, scale, is_negative),
            }
            .map(|unscaled| Term::from(BigDecimal::new(unscaled, scale)))
        }
        _ => None,
    };
    number.ok_or(MISMATCH)
}

fn decode_integer(digits: &Digits, is_negative: bool) -> Option<BigInt> {
    let zeros = -digits.scale();
    let zeros = usize::try_from(zeros)
        .ok()
        .filter(|_| zeros <= INTEGER_ZEROS_MAX)?;
    digits.to_unscaled(is_negative, zeros)
}

fn unscaled(digits: &Digits, scale: i64, is_negative: bool) -> Option<BigInt> {
    let zeros = i128::from(scale) - digits.scale();
    let zeros = usize::try_from(zeros)
        .ok()
        .filter(|_| zeros <= DECIMAL_ZEROS_MAX)?;
    digits.to_unscaled(is_negative, zeros)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::edn::read;
    use crate::term::strategy::{number, term};

    fn encoded(term: &Term) -> Vec<u8> {
        let mut bytes = Vec::new();
        term.encode(&mut bytes);
        bytes
    }

    fn key(term: &Term) -> Vec<u8> {
        let mut bytes = Vec::new();
        term.encode_key(&mut bytes);
        bytes
    }

    fn check(a: &Term, b: &Term) -> std::result::Result<(), TestCaseError> {
        prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(b), "{} {}", a, b);
        let (x, y) = (encoded(a), encoded(b));
        if a != b {
            prop_assert_eq!(x.cmp(&y), a.cmp(b), "{} {}", a, b);
        }
        let (x, y) = ([&x[..], &[7]].concat(), [&y[..], &[200]].concat());
        prop_assert_eq!(Term::key_of(&x).cmp(Term::key_of(&y)), a.cmp(b));
        let decoded = Term::decode(&encoded(a));
        // Printed, because equality does not see kinds.
        prop_assert_eq!(decoded.map(|term| term.to_string()), Ok(a.to_string()));
        Ok(())
    }

    #[test]
    fn a_long_takes_eleven_bytes() {
        assert_eq!(
            encoded(&Term::Long(1)),
            [3, 0xbf, 0xf0, 0, 0, 0, 0, 0, 0, 0, LONG]
        );
        assert_eq!(encoded(&Term::from("a\0")), [5, b'a', 0, 0xff, 0, 0]);
    }

    #[test]
    fn numbers_without_end_are_cut_short() {
        for (number, decoded) in [
            (
                BigDecimal::new(1.into(), i64::MIN),
                "1E9223372036854775808M",
            ),
            (
                BigDecimal::new(1.into(), i64::MAX),
                "1E-9223372036854775807M",
            ),
            (BigDecimal::new((-1).into(), -5000), "-1E5000M"),
        ] {
            let term = Term::from(number);
            assert_eq!(Term::decode(&encoded(&term)).unwrap().to_string(), decoded);
        }
        let mut bytes = encoded(&Term::from(BigDecimal::new(1.into(), i64::MIN)));
        bytes.truncate(bytes.len() - 10);
        bytes.push(BIG_INT);
        assert!(Term::decode(&bytes).is_err());
    }

    #[test]
    fn nesting_has_an_end() {
        let nested = |depth| [vec![12; depth], vec![0; depth]].concat();
        assert!(Term::decode(&nested(DEPTH_MAX)).is_ok());
        assert!(Term::decode(&nested(DEPTH_MAX + 1)).is_err());
        assert!(Term::decode(&nested(1_000_000)).is_err());
    }

    #[test]
    fn a_cut_encoding_is_refused() {
        let form =
            read("[1 -1.5M 9007199254740993 \"a\" :b {c #{#inst \"2011\"}} \\x nil]").unwrap();
        let bytes = encoded(&Term::try_from(&form).unwrap());
        for end in 0..bytes.len() {
            assert!(Term::decode(&bytes[..end]).is_err(), "{end}");
        }
    }

    proptest! {
        #[test]
        fn encodings_sort_as_terms(a in term(), b in term()) {
            check(&a, &b)?;
        }

        #[test]
        fn encodings_sort_as_numbers(a in number(), b in number()) {
            check(&a, &b)?;
        }

        #[test]
        fn hostile_bytes_do_not_panic(bytes in vec(prop_oneof![0..15_u8, any::<u8>()], 0..60)) {
            let _ = (Term::decode(&bytes), Term::key_of(&bytes));
        }

        #[test]
        fn damaged_encodings_do_not_panic(term in term(), at in any::<usize>(), byte in any::<u8>()) {
            let mut bytes = encoded(&term);
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(term) = Term::decode(&bytes) {
                prop_assert_eq!(Term::decode(&encoded(&term)).map(|term| term.to_string()), Ok(term.to_string()));
            }
            let _ = Term::key_of(&bytes);
        }
    }
}
