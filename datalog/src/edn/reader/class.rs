//! Which bytes make up tokens, and which separate them.

/// What a byte can be part of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Part of a number or a name.
    Token,
    /// Whitespace or a comma.
    Blank,
    /// Ends a token.
    Delimiter,
    /// Part of a character of several bytes.
    Wide,
}

pub(super) fn class(byte: u8) -> Class {
    CLASSES[usize::from(byte)]
}

/// Whether a character beyond ASCII separates tokens. A byte order mark does, wherever files were joined.
pub(super) fn is_blank(c: char) -> bool {
    c.is_whitespace() || c == '\u{feff}'
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Wide; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        classes[byte as usize] = match byte {
            // As in Java, the separators 0x1c to 0x1f are whitespace.
            b' ' | b',' | 0x09..=0x0d | 0x1c..=0x1f => Class::Blank,
            0x00..=0x1f
            | 0x7f
            | b'('
            | b')'
            | b'['
            | b']'
            | b'{'
            | b'}'
            | b'"'
            | b';'
            | b'^'
            | b'\\' => Class::Delimiter,
            _ => Class::Token,
        };
        byte += 1;
    }
    classes
};
