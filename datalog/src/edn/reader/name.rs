//! Symbols and keywords, checked once and then shared.

use std::sync::Arc;

use super::{NAME_BYTES_MAX, Refusal};
use crate::edn::keyword::{Keyword, Symbol};
use crate::error::ErrorKind;
use crate::span::Span;

/// What a token names.
#[derive(Debug, PartialEq)]
pub(super) enum Name {
    Keyword(Keyword),
    Symbol(Symbol),
}

/// The names met lately, by their tokens.
///
/// A file of transactions repeats some dozen attributes a million times. This spares the check and the
/// allocation, and makes the names of one text share their memory. It is direct-mapped: a name that
/// takes another's place costs that one an allocation, and nothing else.
#[derive(Default)]
pub(super) struct NameCache<'a> {
    /// A token and its text without the colon. Empty until the first name is met.
    slots: Vec<Option<(&'a str, Arc<str>)>>,
}

const SLOTS: usize = 256;

impl<'a> NameCache<'a> {
    /// The name of a token, which begins with a colon if it is a keyword.
    pub(super) fn get(&mut self, token: &'a str, span: Span) -> Result<Name, Refusal> {
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, None);
        }
        let slot = &mut self.slots[slot_of(token)];
        let text = match slot {
            Some((cached, text)) if *cached == token => Arc::clone(text),
            _ => {
                let text: Arc<str> = check(token, span)?.into();
                *slot = Some((token, Arc::clone(&text)));
                text
            }
        };
        Ok(match token.as_bytes().first() {
            Some(b':') => Name::Keyword(Keyword::new(text)),
            _ => Name::Symbol(Symbol::new(text)),
        })
    }
}

/// Mixes the ends of a token; names that differ only in their middles share a slot.
fn slot_of(token: &str) -> usize {
    let word = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0_u64, |word, &byte| word << 8 | u64::from(byte))
    };
    let bytes = token.as_bytes();
    let tail = word(&bytes[bytes.len().saturating_sub(8)..]);
    let head = word(&bytes[..bytes.len().min(8)]);
    let mixed = (tail ^ head.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as usize
}

/// Whether a text is that of a symbol, and of nothing else.
pub(super) fn is_symbol(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    !text.is_empty()
        && !text.starts_with(['#', '\'', ':'])
        && !unsigned.starts_with(|c: char| c.is_ascii_digit())
        && !matches!(text, "nil" | "true" | "false")
        && check(text, Span::default()).is_ok()
}

/// Whether a text, without its colon, is that of a keyword.
pub(super) fn is_keyword(text: &str) -> bool {
    check(&format!(":{text}"), Span::default()).is_ok()
}

/// Returns the text of a name, without the colon of a keyword.
fn check(token: &str, span: Span) -> Result<&str, Refusal> {
    let refuse = |message: &'static str| Err(Refusal::syntax(message, span));
    if token.len() > NAME_BYTES_MAX {
        let message = format!("a name has at most {NAME_BYTES_MAX} bytes");
        return Err(Refusal::new(ErrorKind::Limit, message, span));
    }
    let name = match token.strip_prefix(':') {
        Some("") => return refuse("no name follows this colon"),
        Some(name) if name.starts_with(':') => {
            return refuse("`::name` depends on a namespace of code; write out the keyword");
        }
        Some(name) => name,
        None if token.starts_with(['`', '~', '@']) => {
            return refuse("`, ~ and @ belong to code, not to EDN");
        }
        None => {
            let digits = token
                .strip_prefix(['+', '-'])
                .unwrap_or(token)
                .strip_prefix('.');
            if digits.is_some_and(|digits| digits.starts_with(|c: char| c.is_ascii_digit())) {
                return refuse("a number begins with a digit; write 0.5, not .5");
            }
            token
        }
    };
    if name.ends_with(':') || name.contains("::") {
        return refuse("a colon does not end a name, nor follow another");
    }
    match name.split_once('/') {
        None | Some(("", "")) => Ok(name),
        Some(("", _)) => refuse("no namespace stands before the slash"),
        Some((_, "")) => refuse("no name follows the slash"),
        // The slash itself may be qualified: clojure.core//.
        Some((_, rest)) if rest != "/" && rest.contains('/') => {
            refuse("a name has at most one slash")
        }
        Some(_) => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shared() {
        let mut names = NameCache::default();
        let mut get = |token| match names.get(token, Span::default()) {
            Ok(Name::Keyword(keyword)) => keyword,
            other => panic!("{token}: {other:?}"),
        };
        assert!(Arc::ptr_eq(
            get(":person/name").as_arc(),
            get(":person/name").as_arc()
        ));
    }

    #[test]
    fn a_symbol_and_a_keyword_of_one_text_are_two() {
        let mut names = NameCache::default();
        for _ in 0..2 {
            let keyword = names.get(":a", Span::default()).unwrap();
            let symbol = names.get("a", Span::default()).unwrap();
            assert_eq!(keyword, Name::Keyword(Keyword::new("a")));
            assert_eq!(symbol, Name::Symbol(Symbol::new("a")));
        }
    }

    #[test]
    fn well_formed_names_are_accepted() {
        let tokens = "a ?e $ % _ ... -> + - -a / clojure.core// a/b a:b x' a# größe <= & * db.part/user \
                      :a :1 :a/1 :_attr :person/_friend :日本/語 :/";
        for token in tokens.split(' ') {
            assert!(check(token, Span::default()).is_ok(), "{token}");
        }
    }

    #[test]
    fn malformed_names_are_refused() {
        let tokens = ": ::a a: a::b /a a/ a/b/c :a/ :/a a/// .5 -.5 `a ~a @a";
        for token in tokens.split(' ').chain([&*"a".repeat(NAME_BYTES_MAX + 1)]) {
            assert!(check(token, Span::default()).is_err(), "{token}");
        }
    }
}
