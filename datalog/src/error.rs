//! What is wrong with a text, and where.
//!
//! An error quotes the line at fault and underlines it. The quotation is made when the error is, and
//! clipped, so that an error neither borrows nor copies a text of many megabytes.

use std::fmt;

use crate::span::Span;

/// Most characters of one line that are quoted.
const QUOTE_CHARS_MAX: usize = 100;
/// Most characters quoted before the place at fault.
const QUOTE_CHARS_BEFORE_MAX: usize = 40;

/// A text that could not be read, or a form that is not what was asked for.
///
/// Printed, it is one line for the message and the place, then the line at fault and its underline:
///
/// ```
/// let error = datomfusion_datalog::edn::read("[:find ?e\n :where [?e :name}]").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "expected `]`, found `}` on line 2, column 18, for the `[` at line 2, column 9\n  \
///      \x20:where [?e :name}]\n  \
///      \x20       ^"
/// );
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Fault>);

/// What kind of fault it is, by what the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The text ends inside a form. At a prompt: ask for another line and read both.
    Incomplete,
    /// The text is not EDN. Correct it.
    Syntax,
    /// The form is EDN, but not what is expected in this place. Correct it.
    Invalid,
    /// The form is nested too deep, or a token is too long. Split it.
    Limit,
}

impl Error {
    /// Reports a well-formed form that is not what was expected; `text` is what the span points into.
    ///
    /// The message is lower case and without a full stop; the place is added when it is printed.
    pub fn new(message: impl Into<String>, span: impl Into<Span>, text: &str) -> Self {
        Self::with_kind(ErrorKind::Invalid, message, span, text)
    }

    /// As [`Error::new`], of another kind.
    pub fn with_kind(
        kind: ErrorKind,
        message: impl Into<String>,
        span: impl Into<Span>,
        text: &str,
    ) -> Self {
        let span = span.into();
        let (line, column) = span.position(text);
        Self(Box::new(Fault {
            kind,
            message: message.into(),
            span,
            line,
            column,
            quote: quote(span, text),
        }))
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The bytes at fault.
    pub fn span(&self) -> Span {
        self.0.span
    }

    /// The line of the first byte at fault, from 1.
    pub fn line(&self) -> usize {
        self.0.line
    }

    /// The column of the first byte at fault, in characters from 1.
    pub fn column(&self) -> usize {
        self.0.column
    }
}

/// The content of an [`Error`], boxed to keep results small.
#[derive(Clone, Debug)]
struct Fault {
    kind: ErrorKind,
    message: String,
    span: Span,
    line: usize,
    column: usize,
    /// The line at fault and its underline, or nothing if that line is empty.
    quote: String,
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            message,
            line,
            column,
            quote,
            ..
        } = self;
        write!(f, "{message} at line {line}, column {column}{quote}")
    }
}

/// Renders the first line of the span and its underline, each on a line of its own.
///
/// A long line is clipped around the start of the span; control characters are made visible, lest a
/// quotation move the cursor of a terminal.
fn quote(span: Span, text: &str) -> String {
    let start = text.floor_char_boundary(span.start);
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let end = text.floor_char_boundary(span.end).clamp(start, line_end);
    let before = &text[line_start..start];
    let after = text[start..line_end].trim_end_matches('\r');
    if before.is_empty() && after.is_empty() {
        return String::new();
    }

    let before_shown = before
        .char_indices()
        .rev()
        .take(QUOTE_CHARS_BEFORE_MAX)
        .last();
    let before_shown = before_shown.map_or("", |(at, _)| &before[at..]);
    let before_chars = before_shown.chars().count();
    let after_shown = match after.char_indices().nth(QUOTE_CHARS_MAX - before_chars) {
        Some((at, _)) => &after[..at],
        None => after,
    };
    let marked = text[start..end]
        .chars()
        .take(after_shown.chars().count())
        .count()
        .max(1);
    let [clip_left, clip_right] =
        [(before_shown, before), (after_shown, after)].map(|(shown, whole)| {
            if shown.len() < whole.len() { "…" } else { "" }
        });
    let visible = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    let shown: String = before_shown
        .chars()
        .chain(after_shown.chars())
        .map(visible)
        .collect();
    let indent = before_chars + clip_left.chars().count();
    format!(
        "\n  {clip_left}{shown}{clip_right}\n  {:indent$}{}",
        "",
        "^".repeat(marked)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(span: std::ops::Range<usize>, text: &str) -> String {
        Error::new("bad", span, text).to_string()
    }

    #[test]
    fn the_line_at_fault_is_quoted_and_underlined() {
        assert_eq!(
            show(7..9, "one\ntwo 10 three\r\nfour"),
            "bad at line 2, column 4\n  two 10 three\n     ^^"
        );
    }

    #[test]
    fn a_span_over_several_lines_is_underlined_to_the_end_of_its_first() {
        assert_eq!(
            show(1..6, "[{:a\n 1}]"),
            "bad at line 1, column 2\n  [{:a\n   ^^^"
        );
    }

    #[test]
    fn an_empty_span_at_the_end_gets_one_caret() {
        assert_eq!(show(2..2, "ab"), "bad at line 1, column 3\n  ab\n    ^");
        assert_eq!(show(0..0, ""), "bad at line 1, column 1");
    }

    #[test]
    fn long_lines_are_clipped_on_both_sides() {
        let text = "ä".repeat(100_000);
        let shown = show(100_000..100_004, &text);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "bad at line 1, column 50001");
        assert_eq!(lines[1], format!("  …{}…", "ä".repeat(100)));
        assert_eq!(lines[2], format!("  {}^^", " ".repeat(41)));
        let whole = show(0..200_000, &text);
        assert_eq!(
            whole.lines().last(),
            Some(&*format!("  {}", "^".repeat(100)))
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(
            show(2..3, "\t\u{1b}x"),
            "bad at line 1, column 3\n   \u{fffd}x\n    ^"
        );
    }

    #[test]
    fn a_span_of_another_text_does_not_panic() {
        for (start, end) in [(5, 2), (1, 99), (99, 1), (usize::MAX, usize::MAX)] {
            show(start..end, "ää\nb");
        }
    }

    #[test]
    fn results_stay_small() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
