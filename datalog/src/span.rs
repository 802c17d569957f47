//! Where something stands in a text.

use std::ops::Range;

/// A range of bytes in the text that was read: `start..end`.
///
/// A span does not know its text; [`Error`](crate::Error) takes both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// Makes the span `start..end`.
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The smallest span that covers both.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// The line and the column of the first byte, both from 1; columns count characters.
    ///
    /// Reads the text up to the span. A span that lies outside the text is moved to its end.
    pub fn position(self, text: &str) -> (usize, usize) {
        let before = &text[..text.floor_char_boundary(self.start)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self::new(range.start, range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_start_anew_on_each_line() {
        assert_eq!(Span::new(0, 0).position(""), (1, 1));
        assert_eq!(Span::new(4, 5).position("äöx"), (1, 3));
        assert_eq!(Span::new(3, 4).position("a\nb"), (2, 2));
    }

    #[test]
    fn a_span_outside_the_text_is_moved_to_its_end() {
        assert_eq!(Span::new(99, 100).position("a\nbc"), (2, 3));
        assert_eq!(
            Span::new(1, 2).position("ä"),
            (1, 1),
            "never inside a character"
        );
    }
}
