//! [`Form`] → text, on one line.
//!
//! **Invariant.** What the reader returned prints as text that reads back as the same data. Data put
//! together by hand does so too, if its names are names (`Symbol::new("a b")` is not) and its numbers
//! and nesting keep the limits of the reader.

use std::fmt::{self, Display, Formatter, Write};

use bigdecimal::BigDecimal;
use num_bigint::Sign;

use super::instant::format_instant;
use super::value::{Edn, Form};

impl Display for Form {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.edn.fmt(f)
    }
}

impl Display for Edn {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Boolean(boolean) => write!(f, "{boolean}"),
            Self::Long(long) => write!(f, "{long}"),
            Self::BigInt(number) => write!(f, "{number}N"),
            Self::Double(double) => print_double(f, *double),
            Self::BigDec(number) => print_decimal(f, number),
            Self::Char(char) => print_char(f, *char),
            Self::String(text) => print_string(f, text),
            Self::Symbol(symbol) => symbol.fmt(f),
            Self::Keyword(keyword) => keyword.fmt(f),
            Self::Instant(ms) => write!(f, "#inst \"{}\"", format_instant(*ms)),
            Self::Uuid(uuid) => write!(f, "#uuid \"{uuid}\""),
            Self::List(forms) => print_forms(f, "(", forms, ")"),
            Self::Vector(forms) => print_forms(f, "[", forms, "]"),
            Self::Set(forms) => print_forms(f, "#{", forms, "}"),
            Self::Map(entries) => print_map(f, entries),
            Self::Tagged(tag, form) => write!(f, "#{tag} {form}"),
        }
    }
}

fn print_forms(f: &mut Formatter<'_>, open: &str, forms: &[Form], close: &str) -> fmt::Result {
    f.write_str(open)?;
    for (index, form) in forms.iter().enumerate() {
        if index > 0 {
            f.write_char(' ')?;
        }
        form.fmt(f)?;
    }
    f.write_str(close)
}

fn print_map(f: &mut Formatter<'_>, entries: &[(Form, Form)]) -> fmt::Result {
    f.write_char('{')?;
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{key} {value}")?;
    }
    f.write_char('}')
}

fn print_double(f: &mut Formatter<'_>, double: f64) -> fmt::Result {
    if double.is_nan() {
        return f.write_str("##NaN");
    }
    if double.is_infinite() {
        return f.write_str(if double > 0.0 { "##Inf" } else { "##-Inf" });
    }
    // Unlike Display, Debug always writes a point or an exponent, and the fewest digits that suffice.
    write!(f, "{double:?}")
}

/// Prints all digits, so that the scale survives; with an exponent where Java does.
fn print_decimal(f: &mut Formatter<'_>, number: &BigDecimal) -> fmt::Result {
    let (unscaled, scale) = number.as_bigint_and_scale();
    let digits = unscaled.magnitude().to_string();
    if unscaled.sign() == Sign::Minus {
        f.write_char('-')?;
    }
    match usize::try_from(scale) {
        Ok(0) => write!(f, "{digits}M"),
        Ok(places) if places < digits.len() => {
            let (whole, fraction) = digits.split_at(digits.len() - places);
            write!(f, "{whole}.{fraction}M")
        }
        Ok(places) if places <= digits.len() + 5 => write!(f, "0.{digits:0>places$}M"),
        _ => write!(f, "{digits}E{}M", -i128::from(scale)),
    }
}

fn print_char(f: &mut Formatter<'_>, char: char) -> fmt::Result {
    match char {
        '\n' => f.write_str("\\newline"),
        ' ' => f.write_str("\\space"),
        '\t' => f.write_str("\\tab"),
        '\r' => f.write_str("\\return"),
        '\u{8}' => f.write_str("\\backspace"),
        '\u{c}' => f.write_str("\\formfeed"),
        // What cannot be seen is numbered; none of it lies beyond four hexadecimal digits.
        _ if char.is_whitespace() || char.is_control() || char == '\u{feff}' => {
            write!(f, "\\u{:04x}", u32::from(char))
        }
        _ => write!(f, "\\{char}"),
    }
}

fn print_string(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c == '"' || c == '\\' || c.is_control()) {
        f.write_str(&rest[..at])?;
        let mut chars = rest[at..].chars();
        match chars.next() {
            Some('"') => f.write_str("\\\"")?,
            Some('\\') => f.write_str("\\\\")?,
            Some('\n') => f.write_str("\\n")?,
            Some('\t') => f.write_str("\\t")?,
            Some('\r') => f.write_str("\\r")?,
            Some(control) => write!(f, "\\u{:04x}", u32::from(control))?,
            None => {}
        }
        rest = chars.as_str();
    }
    f.write_str(rest)?;
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use crate::edn::read;

    #[test]
    fn forms_print_in_one_notation() {
        for (text, printed) in [
            ("( 1,2 )", "(1 2)"),
            ("{:a 1 :b {}}", "{:a 1, :b {}}"),
            ("#{ 1 }", "#{1}"),
            ("'x", "(quote x)"),
            ("^:m [1]", "[1]"),
            ("#:p{:a 1, :q/b 2, :_/c 3}", "{:p/a 1, :q/b 2, :c 3}"),
            ("#db/id[:db.part/user -1]", "#db/id [:db.part/user -1]"),
            ("99999999999999999999", "99999999999999999999N"),
            ("1e3", "1000.0"),
            ("1e300", "1e300"),
            ("-0.0", "-0.0"),
            ("##-Inf", "##-Inf"),
            ("-1.50M", "-1.50M"),
            ("0.001M", "0.001M"),
            ("1e-9M", "1E-9M"),
            ("15e2M", "15E2M"),
            ("-0.0M", "0.0M"),
            (r"\u0000", r"\u0000"),
            (r"\u2028", r"\u2028"),
            (r"\é", r"\é"),
            (r"\u0020", r"\space"),
            ("\"a\nb\\u0007\\\\\"", r#""a\nb\u0007\\""#),
            ("#inst \"2011\"", "#inst \"2011-01-01T00:00:00.000-00:00\""),
        ] {
            assert_eq!(read(text).map(|form| form.to_string()).unwrap(), printed);
        }
    }
}
