//! Regular expressions: `re-find`, `re-matches`, `re-seq`, `clojure.string/split`.
//!
//! Compiled ones are kept, the last used longest, because a query applies one to each of its rows.

use std::sync::{LazyLock, Mutex, PoisonError};

use regex::{Captures, Regex, RegexBuilder};

use super::call::ELEMENTS_MAX;
use super::{Answer, Call, Functions};
use crate::term::Term;

/// Most bytes of a compiled expression, and of each of its caches.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// Most bytes of its text.
const PATTERN_BYTES_MAX: usize = 4096;
const KEPT_MAX: usize = 32;

/// The last used first.
static KEPT: LazyLock<Mutex<Vec<(String, Regex)>>> = LazyLock::new(Mutex::default);

pub(super) fn add_to(functions: &mut Functions) {
    functions.add("re-pattern", 1, |call| {
        compiled(call, call.text(0)?)?;
        Ok(call.args[0].clone())
    });
    functions.add("re-find", 2, |call| {
        let regex = compiled(call, call.text(0)?)?;
        Ok(regex.captures(call.text(1)?).map_or(Term::Nil, groups))
    });
    functions.add("re-matches", 2, |call| {
        let pattern = call.text(0)?;
        // By itself first: it must not close the group that is put around it.
        compiled(call, pattern)?;
        // A comment at its end, which `(?x)` allows, would take the bracket for its own: a line ends it.
        let regex = compiled(call, &format!("\\A(?:{pattern})\\z"))
            .or_else(|_| compiled(call, &format!("\\A(?:{pattern}\n)\\z")))?;
        Ok(regex.captures(call.text(1)?).map_or(Term::Nil, groups))
    });
    functions.add("re-seq", 2, |call| {
        let regex = compiled(call, call.text(0)?)?;
        let found: Vec<Term> = (regex.captures_iter(call.text(1)?))
            .map(groups)
            .take(ELEMENTS_MAX + 1)
            .collect();
        if found.is_empty() {
            return Ok(Term::Nil);
        }
        call.answer_collection(Term::Vector(found.into()))
    });
    functions.add("clojure.string/split", 2..=3, split);
}

/// What an expression found: the text, or a vector of it and its groups, nil for those that took no part.
fn groups(captures: Captures<'_>) -> Term {
    let mut groups = captures
        .iter()
        .map(|group| group.map_or(Term::Nil, |group| group.as_str().into()));
    match captures.len() {
        1 => groups.next().unwrap_or(Term::Nil),
        _ => Term::vector(groups),
    }
}

/// Splits as Java does: empty texts at the end are dropped, unless a limit is given.
fn split(call: &Call<'_>) -> Answer {
    let (text, regex) = (call.text(0)?, compiled(call, call.text(1)?)?);
    let limit = if call.args.len() > 2 {
        call.long(2)?
    } else {
        0
    };
    let limit_max = usize::try_from(limit)
        .ok()
        .filter(|limit| *limit > 0)
        .unwrap_or(usize::MAX);
    let mut pieces: Vec<&str> = Vec::new();
    let mut start = 0;
    for found in regex.find_iter(text) {
        if pieces.len() + 1 >= limit_max || pieces.len() > ELEMENTS_MAX {
            break;
        }
        // What is empty splits neither before the first character nor after the last.
        if found.is_empty() && (found.start() == 0 || found.end() == text.len()) {
            continue;
        }
        pieces.push(&text[start..found.start()]);
        start = found.end();
    }
    pieces.push(&text[start..]);
    if limit == 0 {
        while start > 0 && pieces.last().is_some_and(|piece| piece.is_empty()) {
            pieces.pop();
        }
    }
    call.answer_collection(Term::vector(pieces.into_iter().map(Term::from)))
}

fn compiled(call: &Call<'_>, pattern: &str) -> Result<Regex, String> {
    // A panic elsewhere leaves the list whole: each change is one call.
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(at) = kept.iter().position(|(text, _)| text == pattern) {
        kept[..=at].rotate_right(1);
        return Ok(kept[0].1.clone());
    }
    drop(kept);
    if pattern.len() > PATTERN_BYTES_MAX {
        return call.fail(&format!(
            "takes a regular expression of at most {PATTERN_BYTES_MAX} bytes"
        ));
    }
    let regex = RegexBuilder::new(pattern)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| {
            format!(
                "{} takes a regular expression: {}",
                call.name,
                reason(&error)
            )
        })?;
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.truncate(KEPT_MAX - 1);
    kept.insert(0, (pattern.to_owned(), regex.clone()));
    Ok(regex)
}

/// The last line of the library's drawing says what is wrong.
fn reason(error: &regex::Error) -> String {
    if let regex::Error::CompiledTooBig(_) = error {
        return "it is too big".to_owned();
    }
    let text = error.to_string();
    let line = text.lines().last().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}
