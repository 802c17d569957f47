//! Text → [`Form`].
//!
//! One pass over the bytes with a stack of its own: an open collection, and a prefix that waits for its
//! form (a tag, a quote, `#_`), is a [`Frame`]. All finished forms lie on one second stack, from which a
//! closing bracket takes those since its frame; so collections are allocated once, in their exact size.
//!
//! **Invariant.** No input panics, and none nests deeper than [`DEPTH_MAX`]: what is read can be
//! printed, compared and dropped by recursion.

mod class;
mod collection;
mod name;
mod number;
mod tag;
mod text;

use std::borrow::Cow;
use std::sync::Arc;

use self::class::{Class, class, is_blank};
use self::collection::{distinct, entries};
use self::name::{Name, NameCache};
use super::keyword::Symbol;
use super::value::{Edn, Form};
use crate::error::{Error, ErrorKind};
use crate::span::Span;

/// Most brackets and prefixes that may be open at once.
pub const DEPTH_MAX: usize = 256;
/// Most digits of a number.
const DIGITS_MAX: usize = 4096;
/// Most bytes of a symbol, a keyword or a tag.
const NAME_BYTES_MAX: usize = 4096;
/// Most characters of a tag that a message repeats.
const OPENING_CHARS_MAX: usize = 60;

/// Reads a text that holds exactly one form.
///
/// # Errors
///
/// [`ErrorKind::Incomplete`] if the text ends before the form does, [`ErrorKind::Limit`] if it is nested
/// too deep or has too long a token, else [`ErrorKind::Syntax`] or [`ErrorKind::Invalid`].
///
/// ```
/// use datomfusion_datalog::edn::read;
///
/// assert_eq!(read("[:db/add 1, :name #_old \"Ada\"]")?.to_string(), "[:db/add 1 :name \"Ada\"]");
/// # Ok::<(), datomfusion_datalog::Error>(())
/// ```
pub fn read(text: &str) -> Result<Form, Error> {
    let mut reader = Reader::new(text);
    let Some(form) = reader.next().transpose()? else {
        let end = text.len()..text.len();
        return Err(Refusal::incomplete("the text holds no form", end).into_error(text));
    };
    match reader.next().transpose()? {
        None => Ok(form),
        Some(second) => {
            let refusal =
                Refusal::syntax("this form follows one that was to be alone", second.span);
            Err(refusal.into_error(text))
        }
    }
}

/// Reads all forms of a text.
///
/// # Errors
///
/// As [`read`], except that a text without forms is an empty vector.
pub fn read_all(text: &str) -> Result<Vec<Form>, Error> {
    Reader::new(text).collect()
}

/// An iterator over the top-level forms of a text, each read when it is asked for.
///
/// Ends after the first error.
///
/// ```
/// use datomfusion_datalog::edn::{Edn, Reader};
///
/// let mut forms = Reader::new("1 :a ; one form, then an open one\n [");
/// assert_eq!(forms.next().unwrap()?.edn, Edn::Long(1));
/// assert_eq!(forms.next().unwrap()?.to_string(), ":a");
/// assert!(forms.next().unwrap().is_err());
/// assert!(forms.next().is_none());
/// # Ok::<(), datomfusion_datalog::Error>(())
/// ```
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Open brackets and prefixes, the outermost first.
    frames: Vec<Frame>,
    /// The finished forms of all open collections.
    forms: Vec<Form>,
    names: NameCache<'a>,
    /// Where strings with escapes are put together.
    unescaped: String,
}

/// Something open, that the next form belongs to.
struct Frame {
    kind: FrameKind,
    /// The bracket, or the prefix.
    span: Span,
    /// Where on the stack of forms its own begin.
    forms_start: usize,
}

enum FrameKind {
    List,
    Vector,
    Set,
    /// With the namespace of its bare keys, if it was written `#:ns{…}`.
    Map(Option<Arc<str>>),
    Tag(Symbol),
    Quote,
    Discard,
    /// `^`, whose next form is the metadata.
    Metadata,
    /// What `^` becomes when the metadata was read and dropped.
    MetadataTarget,
}

impl FrameKind {
    /// The bracket that closes it; a prefix has none.
    fn closer(&self) -> Option<char> {
        match self {
            Self::List => Some(')'),
            Self::Vector => Some(']'),
            Self::Set | Self::Map(_) => Some('}'),
            _ => None,
        }
    }
}

/// An error in the making: without the quotation, which takes the whole text.
#[derive(Debug)]
struct Refusal {
    kind: ErrorKind,
    message: Cow<'static, str>,
    span: Span,
}

impl Refusal {
    fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>, span: impl Into<Span>) -> Self {
        Self {
            kind,
            message: message.into(),
            span: span.into(),
        }
    }

    fn syntax(message: impl Into<Cow<'static, str>>, span: impl Into<Span>) -> Self {
        Self::new(ErrorKind::Syntax, message, span)
    }

    fn incomplete(message: impl Into<Cow<'static, str>>, span: impl Into<Span>) -> Self {
        Self::new(ErrorKind::Incomplete, message, span)
    }

    #[cold]
    fn into_error(self, text: &str) -> Error {
        Error::with_kind(self.kind, self.message, self.span, text)
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<Form, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_form() {
            Ok(form) => form.map(Ok),
            Err(refusal) => {
                self.at = self.text.len();
                self.frames.clear();
                self.forms.clear();
                Some(Err(refusal.into_error(self.text)))
            }
        }
    }
}

impl<'a> Reader<'a> {
    /// Begins at the first byte of the text.
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            frames: Vec::new(),
            forms: Vec::new(),
            names: NameCache::default(),
            unescaped: String::new(),
        }
    }

    fn next_form(&mut self) -> Result<Option<Form>, Refusal> {
        loop {
            self.skip_blank();
            let start = self.at;
            let Some(&byte) = self.text.as_bytes().get(start) else {
                return self.end_of_text();
            };
            let finished = match byte {
                b'(' => self.open(FrameKind::List, 1)?,
                b'[' => self.open(FrameKind::Vector, 1)?,
                b'{' => self.open(FrameKind::Map(None), 1)?,
                b')' | b']' | b'}' => Some(self.close(char::from(byte))?),
                b'"' => Some(self.string()?),
                b'\\' => Some(self.character()?),
                b'#' => self.dispatch()?,
                b'\'' => self.open(FrameKind::Quote, 1)?,
                b'^' => self.open(FrameKind::Metadata, 1)?,
                _ => Some(self.token()?),
            };
            if let Some(form) = finished
                && let Some(form) = self.hand_over(form)?
            {
                return Ok(Some(form));
            }
        }
    }

    /// Skips whitespace, commas and comments.
    fn skip_blank(&mut self) {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match class(byte) {
                Class::Blank => self.at += 1,
                Class::Wide => match self.text[self.at..].chars().next() {
                    Some(c) if is_blank(c) => self.at += c.len_utf8(),
                    _ => return,
                },
                _ if byte == b';' => {
                    let end = bytes[self.at..].iter().position(|&byte| byte == b'\n');
                    self.at = end.map_or(bytes.len(), |length| self.at + length);
                }
                _ => return,
            }
        }
    }

    /// Opens a bracket or a prefix of some bytes; nothing is finished by that.
    fn open(&mut self, kind: FrameKind, length: usize) -> Result<Option<Form>, Refusal> {
        let span = Span::new(self.at, self.at + length);
        if self.frames.len() == DEPTH_MAX {
            let message = format!("forms are nested deeper than {DEPTH_MAX}");
            return Err(Refusal::new(ErrorKind::Limit, message, span));
        }
        self.at = span.end;
        self.frames.push(Frame {
            kind,
            span,
            forms_start: self.forms.len(),
        });
        Ok(None)
    }

    /// Closes the innermost bracket, which must be of the same shape.
    fn close(&mut self, found: char) -> Result<Form, Refusal> {
        let here = Span::new(self.at, self.at + 1);
        let Some(frame) = self.frames.pop() else {
            return Err(Refusal::syntax(
                format!("nothing is open for this `{found}` to close"),
                here,
            ));
        };
        match frame.kind.closer() {
            Some(expected) if expected == found => {}
            Some(expected) => {
                let (line, column) = here.position(self.text);
                let opening = self.opening(&frame);
                let message = format!(
                    "expected `{expected}`, found `{found}` on line {line}, column {column}, \
                     for the `{opening}`"
                );
                return Err(Refusal::syntax(message, frame.span));
            }
            None => return Err(Refusal::syntax(self.awaits_a_form(&frame), frame.span)),
        }
        self.at = here.end;
        let forms = self.forms.drain(frame.forms_start..);
        let edn = match frame.kind {
            FrameKind::List => Edn::List(forms.collect()),
            FrameKind::Vector => Edn::Vector(forms.collect()),
            FrameKind::Set => Edn::Set(distinct(forms.collect(), |form| form, "this element")?),
            FrameKind::Map(namespace) => {
                let entries = entries(forms, namespace.as_deref())?;
                Edn::Map(distinct(entries, |(key, _)| key, "this key")?)
            }
            _ => unreachable!("a prefix has no closing bracket"),
        };
        Ok(Form::new(edn, frame.span.to(here)))
    }

    /// Gives a finished form to what is open. Returns it if nothing is: then it is a top-level form.
    fn hand_over(&mut self, mut form: Form) -> Result<Option<Form>, Refusal> {
        while let Some(frame) = self.frames.last_mut() {
            if frame.kind.closer().is_some() {
                self.forms.push(form);
                return Ok(None);
            }
            let span = frame.span.to(form.span);
            match &mut frame.kind {
                FrameKind::Discard => {
                    self.frames.pop();
                    return Ok(None);
                }
                kind @ FrameKind::Metadata => {
                    check_metadata(&form)?;
                    *kind = FrameKind::MetadataTarget;
                    return Ok(None);
                }
                FrameKind::Quote => {
                    let quote = Form::new(Edn::Symbol(Symbol::new("quote")), frame.span);
                    form = Form::new(Edn::List(vec![quote, form]), span);
                }
                FrameKind::Tag(tag) => form = Form::new(tag::apply(tag, form)?, span),
                // Metadata is no part of the data, nor of its place.
                _ => {}
            }
            self.frames.pop();
        }
        Ok(Some(form))
    }

    fn end_of_text(&self) -> Result<Option<Form>, Refusal> {
        let Some(frame) = self.frames.last() else {
            return Ok(None);
        };
        let message = match frame.kind.closer() {
            Some(_) => format!("unclosed `{}`", self.opening(frame)),
            None => self.awaits_a_form(frame),
        };
        Err(Refusal::incomplete(message, frame.span))
    }

    fn awaits_a_form(&self, frame: &Frame) -> String {
        format!("no form follows this `{}`", self.opening(frame))
    }

    /// The bracket or the prefix as it stands in messages: on one line, and not a long one.
    fn opening(&self, frame: &Frame) -> String {
        let opening = &self.text[frame.span.start..frame.span.end];
        let shown: String = opening
            .chars()
            .take_while(|&c| c != '\n')
            .take(OPENING_CHARS_MAX)
            .collect();
        if shown.len() < opening.len() {
            shown + "…"
        } else {
            shown
        }
    }

    fn string(&mut self) -> Result<Form, Refusal> {
        let (text, start) = (self.text, self.at);
        let mut segment = start + 1;
        self.unescaped.clear();
        loop {
            let rest = &text.as_bytes()[segment..];
            let Some(length) = rest.iter().position(|&byte| byte == b'"' || byte == b'\\') else {
                return Err(Refusal::incomplete("unclosed string", start..text.len()));
            };
            let stop = segment + length;
            let plain = &text[segment..stop];
            if text.as_bytes()[stop] == b'"' {
                let content = if self.unescaped.is_empty() {
                    plain
                } else {
                    self.unescaped.push_str(plain);
                    &self.unescaped
                };
                self.at = stop + 1;
                return Ok(Form::new(
                    Edn::String(content.into()),
                    Span::new(start, self.at),
                ));
            }
            self.unescaped.push_str(plain);
            let (char, next) = text::unescape(text, stop)?;
            self.unescaped.push(char);
            segment = next;
        }
    }

    fn character(&mut self) -> Result<Form, Refusal> {
        let start = self.at;
        let Some(first) = self.text[start + 1..].chars().next() else {
            return Err(Refusal::incomplete(
                "no character follows this `\\`",
                start..start + 1,
            ));
        };
        // The first may be a delimiter, as in `\(`.
        let end = self.token_end(start + 1 + first.len_utf8());
        let span = Span::new(start, end);
        if first != ',' && (first.is_whitespace() || first.is_control()) {
            return Err(Refusal::syntax(
                "write a blank as \\space, \\newline or \\tab",
                span,
            ));
        }
        self.at = end;
        Ok(Form::new(
            Edn::Char(text::character(&self.text[start + 1..end], span)?),
            span,
        ))
    }

    /// Reads what begins with `#`.
    fn dispatch(&mut self) -> Result<Option<Form>, Refusal> {
        let start = self.at;
        match self.text.as_bytes().get(start + 1) {
            Some(b'{') => self.open(FrameKind::Set, 2),
            Some(b'_') => self.open(FrameKind::Discard, 2),
            Some(b':') => self.open_namespaced_map(),
            Some(b'"') => self.pattern().map(Some),
            Some(b'#') => {
                let end = self.token_end(start + 2);
                let double = match &self.text[start + 2..end] {
                    "Inf" => f64::INFINITY,
                    "-Inf" => f64::NEG_INFINITY,
                    "NaN" => f64::NAN,
                    _ => {
                        let message = "expected ##Inf, ##-Inf or ##NaN";
                        return Err(Refusal::syntax(message, start..end));
                    }
                };
                self.at = end;
                Ok(Some(Form::new(Edn::Double(double), Span::new(start, end))))
            }
            _ => {
                let end = self.token_end(start + 1);
                let tag = &self.text[start + 1..end];
                if !tag.starts_with(char::is_alphabetic) {
                    let end = self.text.ceil_char_boundary(end.max(start + 2));
                    let message = "a `#` begins a set, a tag, `#_` or `##Inf`";
                    return Err(Refusal::syntax(message, start..end));
                }
                match self.names.get(tag, Span::new(start + 1, end))? {
                    Name::Symbol(symbol) => self.open(FrameKind::Tag(symbol), end - start),
                    Name::Keyword(_) => unreachable!("a tag begins with a letter"),
                }
            }
        }
    }

    /// Reads `#"a\\.b"`, a pattern: its characters are taken as they are, but for `\\"`, which does not end
    /// it. It is the same as `#regex "a\\\\.b"`.
    fn pattern(&mut self) -> Result<Form, Refusal> {
        let start = self.at;
        let first = start + 2;
        let bytes = self.text.as_bytes();
        let mut end = first;
        while let Some(&byte) = bytes.get(end) {
            match byte {
                b'"' => {
                    let content = Edn::String(self.text[first..end].into());
                    let content = Form::new(content, Span::new(start + 1, end + 1));
                    self.at = end + 1;
                    let tagged = Edn::Tagged(Symbol::new("regex"), Box::new(content));
                    return Ok(Form::new(tagged, Span::new(start, self.at)));
                }
                b'\\' => end += 2,
                _ => end += 1,
            }
        }
        let message = "unclosed pattern";
        Err(Refusal::incomplete(message, start..self.text.len()))
    }

    /// Opens `#:ns{`; blanks may stand before the bracket.
    fn open_namespaced_map(&mut self) -> Result<Option<Form>, Refusal> {
        let start = self.at;
        let end = self.token_end(start + 2);
        let namespace = &self.text[start + 2..end];
        if namespace.contains('/') || !name::is_symbol(namespace) {
            let message = "a namespaced map is written #:ns{…}, with a plain name for ns";
            return Err(Refusal::syntax(message, start..end));
        }
        self.at = end;
        self.skip_blank();
        if self.text.as_bytes().get(self.at) != Some(&b'{') {
            let message = "a namespace is followed by a map: #:ns{…}";
            return Err(Refusal::syntax(message, start..end));
        }
        let length = self.at + 1 - start;
        self.at = start;
        self.open(FrameKind::Map(Some(namespace.into())), length)
    }

    /// Reads a number, a name, or `nil`, `true`, `false`.
    fn token(&mut self) -> Result<Form, Refusal> {
        let start = self.at;
        let end = self.token_end(start);
        let token = &self.text[start..end];
        let span = Span::new(start, end);
        let edn = match token.as_bytes() {
            [] => return Err(self.unexpected_character()),
            b"nil" => Edn::Nil,
            b"true" => Edn::Boolean(true),
            b"false" => Edn::Boolean(false),
            [b'0'..=b'9', ..] | [b'+' | b'-', b'0'..=b'9', ..] => number::read(token, span)?,
            _ => match self.names.get(token, span)? {
                Name::Keyword(keyword) => Edn::Keyword(keyword),
                Name::Symbol(symbol) => Edn::Symbol(symbol),
            },
        };
        self.at = end;
        Ok(Form::new(edn, span))
    }

    fn unexpected_character(&self) -> Refusal {
        let char = self.text[self.at..].chars().next().unwrap_or_default();
        let message = format!(
            "no form begins with the character U+{:04X}",
            u32::from(char)
        );
        Refusal::syntax(message, self.at..self.at + char.len_utf8())
    }

    /// Where the token ends that goes on at `at`.
    fn token_end(&self, mut at: usize) -> usize {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(at) {
            match class(byte) {
                Class::Token => at += 1,
                Class::Wide => match self.text[at..].chars().next() {
                    Some(c) if !is_blank(c) && !c.is_control() => at += c.len_utf8(),
                    _ => break,
                },
                _ => break,
            }
        }
        at
    }
}

fn check_metadata(form: &Form) -> Result<(), Refusal> {
    match form.edn {
        Edn::Map(_) | Edn::Keyword(_) | Edn::Symbol(_) | Edn::String(_) | Edn::Vector(_) => Ok(()),
        _ => Err(Refusal::syntax(
            format!("{} cannot be metadata", form.describe()),
            form.span,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(text: &str) -> Vec<&str> {
        let forms = read_all(text).unwrap_or_else(|error| panic!("{error}"));
        forms
            .iter()
            .map(|form| &text[form.span.start..form.span.end])
            .collect()
    }

    fn printed(text: &str) -> String {
        let forms = read_all(text).unwrap_or_else(|error| panic!("{error}"));
        forms
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn blanks_commas_and_comments_separate_forms() {
        assert_eq!(printed("\u{feff}1,,2\t3;4 [\n5 ;"), "1 2 3 5");
        assert_eq!(printed("a\u{a0}b\u{2003}c\u{1c}d"), "a b c d");
        assert_eq!(printed("[a[b]\"c\"{}]"), "[a [b] \"c\" {}]");
        assert_eq!(printed(""), "");
    }

    #[test]
    fn discards_nest_and_take_whole_forms() {
        assert_eq!(printed("[1 #_2 #_[3 (4)] #_#a 5 6]"), "[1 6]");
        assert_eq!(printed("#_ #_ 1 2 3"), "3");
        assert_eq!(printed("#a #_1 2"), "#a 2");
        assert!(read_all("[1 #_]").is_err());
        assert!(read_all("#_").is_err());
        assert!(
            read_all("#_[1 #_]").is_err(),
            "what is discarded must be EDN too"
        );
    }

    #[test]
    fn a_span_covers_the_form_with_its_prefix() {
        assert_eq!(
            spans(" [1 2] #{} 'x #inst \"2011\" #a b \\newline \"ä\\\"\" #:a {:b 1} ##NaN"),
            [
                "[1 2]",
                "#{}",
                "'x",
                "#inst \"2011\"",
                "#a b",
                "\\newline",
                "\"ä\\\"\"",
                "#:a {:b 1}",
                "##NaN",
            ]
        );
        assert_eq!(spans("^:m #_no x"), ["x"], "metadata is dropped");
    }

    #[test]
    fn quotes_and_metadata_are_tolerated() {
        assert_eq!(
            printed("'[:find ?e] ''a x'"),
            "(quote [:find ?e]) (quote (quote a)) x'"
        );
        assert_eq!(printed("^{:a 1} ^String ^\"s\" [^:b c]"), "[c]");
        for text in ["[^:a]", "^:a", "^", "^1 a", "'", "(')"] {
            assert!(read_all(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_that_begin_like_constants_are_names() {
        let forms = read_all("nil nilly true truer -inf + +a :nil").unwrap();
        assert_eq!(forms[0].edn, Edn::Nil);
        assert_eq!(forms[2].edn, Edn::Boolean(true));
        assert_eq!(
            forms
                .iter()
                .filter(|form| form.as_symbol().is_some())
                .count(),
            5
        );
    }

    #[test]
    fn characters_may_be_delimiters() {
        let form = read(r#"[\( \, \; \\ \" \u \a]"#).unwrap();
        let chars = ['(', ',', ';', '\\', '"', 'u', 'a'].map(Form::from);
        assert_eq!(form.as_vector().unwrap(), chars);
        for text in ["\\", "\\ ", "\\\n", "\\ab"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_pattern_is_a_tagged_string_whose_backslashes_stay() {
        let form = read(r#"[#"a\.\"b" 1]"#).unwrap();
        let (tag, text) = form.as_vector().unwrap()[0].as_tagged().unwrap();
        assert_eq!((tag.as_str(), text.as_str()), ("regex", Some(r#"a\.\"b"#)));
        assert_eq!(read(&form.to_string()).unwrap(), form);
        for text in ["#\"", "#\"a\\", "#\"a\\\""] {
            assert_eq!(
                read(text).unwrap_err().kind(),
                ErrorKind::Incomplete,
                "{text}"
            );
        }
    }

    #[test]
    fn one_form_is_one_form() {
        assert!(read("1 ; and a comment").is_ok());
        assert!(read("1 #_2").is_ok());
        assert!(read("1 2").is_err());
        assert!(read("1 ]").is_err());
        assert!(read("; nothing").is_err());
    }

    #[test]
    fn the_iterator_ends_after_an_error() {
        let mut reader = Reader::new("[1 2) 3");
        assert!(reader.next().unwrap().is_err());
        assert!(reader.next().is_none());
    }

    #[test]
    fn errors_tell_what_to_do() {
        for (text, kind) in [
            ("", ErrorKind::Incomplete),
            ("[1", ErrorKind::Incomplete),
            ("\"a", ErrorKind::Incomplete),
            ("\"a\\", ErrorKind::Incomplete),
            ("#a", ErrorKind::Incomplete),
            ("'", ErrorKind::Incomplete),
            ("[1}", ErrorKind::Syntax),
            ("1/2", ErrorKind::Syntax),
            ("#inst \"2011-13\"", ErrorKind::Invalid),
        ] {
            assert_eq!(read(text).unwrap_err().kind(), kind, "{text}");
        }
    }

    #[test]
    fn every_kind_of_nesting_is_bounded() {
        let nested = |open: &str, depth| format!("{}1", open.repeat(depth));
        for open in [
            "[",
            "(",
            "{",
            "#{",
            "#a ",
            "'",
            "#_",
            "^",
            "#:a{",
            "{:a ",
            "[#_[#a '(",
        ] {
            let error = read(&nested(open, 100_000)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Limit, "{open}");
        }
        let deepest = format!("{}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
        assert_eq!(printed(&deepest), deepest);
        assert_eq!(printed(&nested("#a ", DEPTH_MAX)), nested("#a ", DEPTH_MAX));
    }
}
