//! Tokens that begin as a number does.

use bigdecimal::BigDecimal;
use num_bigint::BigInt;

use super::{DIGITS_MAX, Refusal};
use crate::edn::value::Edn;
use crate::error::ErrorKind;
use crate::span::Span;

/// Largest scale of a big decimal, either way: ten bytes of text must not stand for a number of a
/// billion digits, because to compare it with another would write them all out.
const SCALE_MAX: i64 = 4096;
/// Most bits of an integer of another radix than ten: it must print with no more than [`DIGITS_MAX`] digits.
const BITS_MAX: u64 = 13_606;

/// Reads a number: a token whose first byte, after one sign, is a digit.
pub(super) fn read(token: &str, span: Span) -> Result<Edn, Refusal> {
    short_integer(token).map_or_else(|| long_way(token, span), |long| Ok(Edn::Long(long)))
}

/// The common case: up to 18 decimal digits, which cannot overflow.
fn short_integer(token: &str) -> Option<i64> {
    let (negative, digits) = split_sign(token);
    if digits.len() > 18 || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    let mut value = 0;
    for byte in digits.bytes() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(if negative { -value } else { value })
}

fn long_way(token: &str, span: Span) -> Result<Edn, Refusal> {
    let refuse = |message| Refusal::syntax(message, span);
    let (negative, body) = split_sign(token);
    if let Some(digits) = body.strip_prefix("0x").or_else(|| body.strip_prefix("0X")) {
        let (digits, big) = strip_suffix(digits, 'N');
        return integer(negative, digits, 16, big, span);
    }
    let digits_end = body
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(body.len());
    let (digits, rest) = body.split_at(digits_end);
    match rest.as_bytes() {
        [] | b"N" if digits.len() > 1 && digits.starts_with('0') => Err(refuse(
            "an integer does not begin with 0 (octal numbers are written 8r17)",
        )),
        [] => integer(negative, digits, 10, false, span),
        b"N" => integer(negative, digits, 10, true, span),
        [b'.' | b'e' | b'E' | b'M', ..] => decimal(token, span),
        [b'r' | b'R', ..] => match digits.parse() {
            Ok(radix @ 2..=36) => integer(negative, &rest[1..], radix, false, span),
            _ => Err(refuse("the radix of an integer is 2 to 36")),
        },
        [b'/', ..] => Err(refuse(
            "ratios are not EDN; write a double or a big decimal (0.5M)",
        )),
        _ => Err(refuse("this is neither a number nor a name")),
    }
}

fn integer(
    negative: bool,
    digits: &str,
    radix: u32,
    big: bool,
    span: Span,
) -> Result<Edn, Refusal> {
    check_length(digits.len(), span)?;
    // Checked here because the big integer parser also accepts signs and underscores.
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(Refusal::syntax("this is not an integer of its radix", span));
    }
    let magnitude = BigInt::parse_bytes(digits.as_bytes(), radix)
        .ok_or_else(|| Refusal::syntax("this is not an integer", span))?;
    if radix != 10 && magnitude.bits() > BITS_MAX {
        return Err(too_long(span));
    }
    let value = if negative { -magnitude } else { magnitude };
    Ok(match i64::try_from(&value) {
        Ok(long) if !big => Edn::Long(long),
        _ => Edn::BigInt(value),
    })
}

/// Reads `12.5`, `12.`, `1e-3`, and either as a big decimal if `M` follows.
fn decimal(token: &str, span: Span) -> Result<Edn, Refusal> {
    let malformed = || Refusal::syntax("this is neither a number nor a name", span);
    let (text, exact) = strip_suffix(token, 'M');
    let (negative, body) = split_sign(text);
    let (significand, exponent) = match body.split_once(['e', 'E']) {
        Some((significand, exponent)) => (significand, Some(exponent)),
        None => (body, None),
    };
    let (whole, fraction) = significand.split_once('.').unwrap_or((significand, ""));
    // The zero of 0.5 is not counted, for it may be the printer's.
    check_length(
        if whole == "0" { 0 } else { whole.len() } + fraction.len(),
        span,
    )?;
    let exponent_digits = exponent.map_or("0", |exponent| split_sign(exponent).1);
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole)
        || !all_digits(fraction)
        || exponent_digits.is_empty()
        || !all_digits(exponent_digits)
    {
        return Err(malformed());
    }

    if !exact {
        let double: f64 = text.parse().map_err(|_| malformed())?;
        if double.is_infinite() {
            return Err(Refusal::syntax(
                "this number is too large for a double",
                span,
            ));
        }
        return Ok(Edn::Double(double));
    }
    let exponent: Option<i64> = exponent.unwrap_or("0").parse().ok();
    let scale = i64::try_from(fraction.len())
        .ok()
        .and_then(|places| places.checked_sub(exponent?))
        .filter(|scale| (-SCALE_MAX..=SCALE_MAX).contains(scale))
        .ok_or_else(|| {
            let message = format!("the scale of a big decimal is at most {SCALE_MAX}, either way");
            Refusal::new(ErrorKind::Limit, message, span)
        })?;
    let digits = BigInt::parse_bytes([whole, fraction].concat().as_bytes(), 10);
    let digits = digits.ok_or_else(malformed)?;
    Ok(Edn::BigDec(BigDecimal::new(
        if negative { -digits } else { digits },
        scale,
    )))
}

fn check_length(digits: usize, span: Span) -> Result<(), Refusal> {
    if digits > DIGITS_MAX {
        Err(too_long(span))
    } else {
        Ok(())
    }
}

fn too_long(span: Span) -> Refusal {
    Refusal::new(
        ErrorKind::Limit,
        format!("a number has at most {DIGITS_MAX} digits"),
        span,
    )
}

fn split_sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn strip_suffix(text: &str, suffix: char) -> (&str, bool) {
    text.strip_suffix(suffix)
        .map_or((text, false), |text| (text, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(token: &str) -> Edn {
        read(token, Span::default()).unwrap_or_else(|refusal| panic!("{token}: {refusal:?}"))
    }

    #[test]
    fn integers_are_long_until_they_overflow() {
        for (token, long) in [
            ("0", 0),
            ("-0", 0),
            ("+1", 1),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("0x1F", 31),
            ("-0Xff", -255),
            ("36rZZ", 1295),
            ("2r101", 5),
            ("-16rFF", -255),
        ] {
            assert_eq!(number(token), Edn::Long(long), "{token}");
        }
        let big: BigInt = BigInt::from(i64::MAX) + 1;
        assert_eq!(number("9223372036854775808"), Edn::BigInt(big.clone()));
        assert_eq!(number("0x8000000000000000"), Edn::BigInt(big));
        assert_eq!(number("42N"), Edn::BigInt(42.into()));
        assert_eq!(number("-0x1FN"), Edn::BigInt((-31).into()));
    }

    #[test]
    fn a_point_or_an_exponent_makes_a_double() {
        for (token, double) in [
            ("1.5", 1.5),
            ("-0.0", -0.0),
            ("1.", 1.0),
            ("1e3", 1000.0),
            ("1.5E-3", 0.0015),
            ("+1.e+2", 100.0),
            ("1e-400", 0.0),
        ] {
            assert_eq!(number(token), Edn::Double(double), "{token}");
        }
    }

    #[test]
    fn a_big_decimal_keeps_its_scale() {
        for (token, digits, scale) in [
            ("1M", 1, 0),
            ("1.50M", 150, 2),
            ("-1.5M", -15, 1),
            ("1.M", 1, 0),
            ("1.5e3M", 15, -2),
            ("0.00M", 0, 2),
        ] {
            let Edn::BigDec(number) = number(token) else {
                panic!("{token}")
            };
            assert_eq!(
                number.into_bigint_and_scale(),
                (digits.into(), scale),
                "{token}"
            );
        }
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        let tokens = "1a 01 00 007N 1/2 1.5.2 1e 1e+ 1.5N 1_000 0x 0xG 1r0 37r1 999r1 1rr 2r2 2r 10r1_0 \
                      10r-1 0x-1 1e400 1MM 1e5e5 1e1_0 1e+-1 1ä 1e1000000000M 1e-4097M 1e9999999999999999999M";
        for token in tokens.split(' ') {
            assert!(read(token, Span::default()).is_err(), "{token}");
        }
    }

    #[test]
    fn the_number_of_digits_is_bounded() {
        let digits = "7".repeat(DIGITS_MAX);
        for (suffix, ok) in [
            ("", true),
            ("N", true),
            ("M", true),
            ("8", false),
            (".5M", false),
        ] {
            let token = format!("-{digits}{suffix}");
            assert_eq!(read(&token, Span::default()).is_ok(), ok, "{suffix}");
        }
    }

    /// Numbers at the limits used to print as numbers just beyond them: `36rZZ…` has more digits when
    /// printed in base ten, and `7…7E-4096M` gets a zero before its point.
    #[test]
    fn numbers_at_the_limits_print_within_them() {
        let digits = "7".repeat(DIGITS_MAX);
        let bits = usize::try_from(BITS_MAX).unwrap();
        for token in [
            format!("0.{digits}M"),
            format!("{digits}e-4096M"),
            format!("{digits}e4096M"),
            format!("0.{}M", "0".repeat(DIGITS_MAX)),
            format!("2r{}", "1".repeat(DIGITS_MAX)),
            format!("0x3f{}", "f".repeat(bits / 4 - 1)),
        ] {
            let edn = number(&token);
            assert_eq!(number(&edn.to_string()), edn, "{token}");
        }
        for token in [
            format!("0x{}", "f".repeat(DIGITS_MAX)),
            format!("36r{}", "z".repeat(DIGITS_MAX)),
            format!("1.{}e-4096M", "0".repeat(9)),
            "1e4097M".to_owned(),
        ] {
            assert!(read(&token, Span::default()).is_err(), "{token}");
        }
    }
}
