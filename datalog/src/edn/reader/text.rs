//! Characters and the escapes of strings.

use super::Refusal;
use crate::span::Span;

/// Reads the escape whose backslash stands at `at`: the character and where the text goes on.
pub(super) fn unescape(text: &str, at: usize) -> Result<(char, usize), Refusal> {
    let Some(letter) = text[at + 1..].chars().next() else {
        return Err(Refusal::incomplete(
            "the text ends inside a string",
            at..text.len(),
        ));
    };
    let end = at + 1 + letter.len_utf8();
    let refuse = |message: &'static str, end| Err(Refusal::syntax(message, at..end));
    let char = match letter {
        '"' | '\\' => letter,
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'u' => return unescape_unicode(text, at),
        '0'..='7' => {
            let digits = octal_digits(&text[at + 1..]);
            return match octal(digits) {
                Some(char) => Ok((char, at + 1 + digits.len())),
                None => refuse("an octal escape is at most \\377", at + 1 + digits.len()),
            };
        }
        _ => return refuse("no such escape in strings", end),
    };
    Ok((char, end))
}

/// Reads `\u00e9`, or `\ud83d\ude00` as one character.
fn unescape_unicode(text: &str, at: usize) -> Result<(char, usize), Refusal> {
    let Some(first) = code_unit(&text[at + 2..]) else {
        let end = text.floor_char_boundary(at + 6);
        return Err(Refusal::syntax(
            "\\u takes four hexadecimal digits",
            at..end,
        ));
    };
    let end = at + 6;
    if let Some(char) = char::from_u32(first.into()) {
        return Ok((char, end));
    }
    let second = text[end..].strip_prefix("\\u").and_then(code_unit);
    let pair = second.and_then(|second| char::decode_utf16([first, second]).next()?.ok());
    match pair {
        Some(char) => Ok((char, end + 6)),
        None => Err(Refusal::syntax(
            "half of a surrogate pair is not a character",
            at..end,
        )),
    }
}

/// Reads what follows the backslash of a character.
pub(super) fn character(name: &str, span: Span) -> Result<char, Refusal> {
    let mut chars = name.chars();
    if let (Some(only), None) = (chars.next(), chars.next()) {
        return Ok(only);
    }
    match name {
        "newline" => Ok('\n'),
        "space" => Ok(' '),
        "tab" => Ok('\t'),
        "return" => Ok('\r'),
        "backspace" => Ok('\u{8}'),
        "formfeed" => Ok('\u{c}'),
        _ => numbered_character(name).map_err(|message| Refusal::syntax(message, span)),
    }
}

/// Reads `u00e9` and `o351`.
fn numbered_character(name: &str) -> Result<char, &'static str> {
    if let Some(digits) = name.strip_prefix('u').filter(|digits| digits.len() == 4) {
        let unit = code_unit(digits).ok_or("\\u takes four hexadecimal digits")?;
        let half = "half of a surrogate pair is not a character";
        return char::from_u32(unit.into()).ok_or(half);
    }
    match name.strip_prefix('o') {
        Some(digits) if !digits.is_empty() && octal_digits(digits) == digits => {
            octal(digits).ok_or("an octal character is at most \\o377")
        }
        _ => Err("no such character"),
    }
}

/// The four hexadecimal digits at the start of the text.
fn code_unit(text: &str) -> Option<u16> {
    let digits = text.get(..4)?;
    // Checked here because the integer parser also accepts a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u16::from_str_radix(digits, 16).ok()
}

/// The one to three octal digits at the start of the text.
fn octal_digits(text: &str) -> &str {
    let count = text
        .bytes()
        .take(3)
        .take_while(|byte| (b'0'..=b'7').contains(byte))
        .count();
    &text[..count]
}

fn octal(digits: &str) -> Option<char> {
    u8::from_str_radix(digits, 8).ok().map(char::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_name_one_character() {
        for (text, char, end) in [
            (r"\n", '\n', 2),
            (r#"\""#, '"', 2),
            (r"\u00e9", 'é', 6),
            (r"\ud83d\ude00!", '😀', 12),
            (r"\101", 'A', 4),
            (r"\08", '\0', 2),
        ] {
            let found = unescape(text, 0).unwrap_or_else(|refusal| panic!("{text}: {refusal:?}"));
            assert_eq!(found, (char, end), "{text}");
        }
    }

    #[test]
    fn half_pairs_and_unknown_escapes_are_refused() {
        for text in [
            r"\ud83d",
            r"\ud83dx",
            r"\ud83d\u0041",
            r"\ude00",
            r"\u12",
            r"\u+123",
            r"\u12é4",
            r"\q",
            r"\é",
            r"\400",
            r"\",
        ] {
            assert!(unescape(text, 0).is_err(), "{text}");
        }
    }

    #[test]
    fn characters_have_names() {
        for (name, char) in [
            ("a", 'a'),
            ("u", 'u'),
            ("o", 'o'),
            ("😀", '😀'),
            ("newline", '\n'),
            ("u00e9", 'é'),
            ("o101", 'A'),
            ("(", '('),
        ] {
            assert_eq!(character(name, Span::default()).ok(), Some(char), "{name}");
        }
        for name in [
            "ab", "ud83d", "u00e", "u00e9a", "o8", "o400", "Newline", "é1", "u+041",
        ] {
            assert!(character(name, Span::default()).is_err(), "{name}");
        }
    }
}
