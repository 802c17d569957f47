//! One call of a function: its arguments by what is wanted of them, and messages for what is not.

use std::sync::Arc;

use super::Answer;
use crate::edn::DEPTH_MAX;
use crate::term::Term;

/// Most bytes of a text that a function makes.
const TEXT_BYTES_MAX: usize = 1 << 24;
/// Most elements of a collection that a function makes, at all depths.
pub(crate) const ELEMENTS_MAX: usize = 1 << 20;
/// Most characters of a term in a message.
const EXCERPT_CHARS_MAX: usize = 60;

/// A call of a function. There are as many arguments as its arity says.
pub(crate) struct Call<'a> {
    pub(crate) name: &'a str,
    pub(crate) args: &'a [Term],
}

impl<'a> Call<'a> {
    /// The error of a wrong argument: `+ takes numbers, not a string ("a")`.
    pub(crate) fn wrong<T>(&self, wanted: &str, got: &Term) -> Result<T, String> {
        let kind = got.describe();
        if matches!(got, Term::Nil) {
            return Err(format!("{} takes {wanted}, not {kind}", self.name));
        }
        let text = got.to_string();
        let end = text.char_indices().nth(EXCERPT_CHARS_MAX);
        let (text, more) = end.map_or((&*text, ""), |(end, _)| (&text[..end], "…"));
        Err(format!(
            "{} takes {wanted}, not {kind} ({text}{more})",
            self.name
        ))
    }

    /// The error of a call that went wrong: `nth reaches beyond the end`.
    pub(crate) fn fail<T>(&self, reason: &str) -> Result<T, String> {
        Err(format!("{} {reason}", self.name))
    }

    pub(crate) fn text(&self, at: usize) -> Result<&'a str, String> {
        match &self.args[at] {
            Term::String(text) => Ok(text),
            other => self.wrong("a string", other),
        }
    }

    /// The text of a string or of a character.
    pub(crate) fn text_or_char(&self, at: usize) -> Result<String, String> {
        match &self.args[at] {
            Term::Char(char) => Ok(char.to_string()),
            _ => self.text(at).map(str::to_owned),
        }
    }

    pub(crate) fn long(&self, at: usize) -> Result<i64, String> {
        match &self.args[at] {
            Term::Long(long) => Ok(*long),
            other => self.wrong("a long", other),
        }
    }

    /// A count or a position. What is too large for memory is beyond every end.
    pub(crate) fn index(&self, at: usize) -> Result<usize, String> {
        let long = self.long(at)?;
        match usize::try_from(long) {
            Ok(index) => Ok(index),
            Err(_) if long > 0 => Ok(usize::MAX),
            Err(_) => self.wrong("a number from zero", &self.args[at]),
        }
    }

    /// The elements of a collection; entries of a map are vectors, nil is empty.
    pub(crate) fn elements(&self, at: usize) -> Result<Vec<Term>, String> {
        match &self.args[at] {
            Term::Nil => Ok(Vec::new()),
            Term::Vector(elements) | Term::Set(elements) => Ok(elements.to_vec()),
            Term::Map(entries) => Ok(entries
                .iter()
                .map(|(key, value)| Term::vector([key.clone(), value.clone()]))
                .collect()),
            Term::String(text) => Ok(text.chars().map(Term::Char).collect()),
            other => self.wrong("a collection", other),
        }
    }

    /// Answers a text, unless it is too long.
    pub(crate) fn answer_text(&self, text: impl Into<Arc<str>>) -> Answer {
        let text = text.into();
        self.check_text(text.len())?;
        Ok(Term::String(text))
    }

    /// Refuses to make a text of so many bytes.
    pub(crate) fn check_text(&self, bytes: usize) -> Result<(), String> {
        if bytes > TEXT_BYTES_MAX {
            return self.fail("makes a text of more than 16 MiB");
        }
        Ok(())
    }

    /// Refuses to make a collection of so many elements.
    pub(crate) fn check_elements(&self, count: usize) -> Result<(), String> {
        if count > ELEMENTS_MAX {
            return self.fail("makes a collection that is too large");
        }
        Ok(())
    }

    /// Answers a collection, unless it is too large or too deep to print and to read.
    pub(crate) fn answer_collection(&self, collection: Term) -> Answer {
        let mut left = ELEMENTS_MAX;
        if !fits(&collection, 0, &mut left) {
            let reason = if left == 0 { "large" } else { "deep" };
            return self.fail(&format!("makes a collection that is too {reason}"));
        }
        Ok(collection)
    }
}

fn fits(term: &Term, depth: usize, left: &mut usize) -> bool {
    let mut all = |elements: &[Term]| {
        *left = left.saturating_sub(elements.len());
        *left > 0
            && depth < DEPTH_MAX
            && elements
                .iter()
                .all(|element| fits(element, depth + 1, left))
    };
    match term {
        Term::Vector(elements) | Term::Set(elements) => all(elements),
        Term::Map(entries) => entries
            .iter()
            .all(|(key, value)| all(std::slice::from_ref(key)) && all(std::slice::from_ref(value))),
        _ => true,
    }
}
