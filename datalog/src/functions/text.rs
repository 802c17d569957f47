//! Texts: `str`, `subs`, `clojure.string` and some methods of Java's strings.
//!
//! Positions count characters.

use std::fmt::Write;

use super::{Answer, Call, Functions};
use crate::edn::{Keyword, Symbol, format_instant};
use crate::term::Term;

pub(super) fn add_to(functions: &mut Functions) {
    functions.add("str", 0.., |call| concat(call, "", "", display));
    functions.add("print-str", 0.., |call| concat(call, " ", "", display));
    functions.add("println-str", 0.., |call| concat(call, " ", "\n", display));
    functions.add("pr-str", 0.., |call| concat(call, " ", "", print));
    functions.add("prn-str", 0.., |call| concat(call, " ", "\n", print));
    functions.add("subs", 2..=3, subs);
    functions.add(".substring", 2..=3, subs);
    add_clojure_string_to(functions);
    add_positions_to(functions);
    add_names_to(functions);
}

fn add_clojure_string_to(functions: &mut Functions) {
    for name in ["clojure.string/starts-with?", ".startsWith"] {
        functions.add(name, 2, |call| {
            Ok(call.text(0)?.starts_with(call.text(1)?).into())
        });
    }
    for name in ["clojure.string/ends-with?", ".endsWith"] {
        functions.add(name, 2, |call| {
            Ok(call.text(0)?.ends_with(call.text(1)?).into())
        });
    }
    for name in ["clojure.string/includes?", ".contains"] {
        functions.add(name, 2, |call| {
            Ok(call.text(0)?.contains(call.text(1)?).into())
        });
    }
    for name in ["clojure.string/lower-case", ".toLowerCase"] {
        functions.add(name, 1, |call| {
            call.answer_text(call.text(0)?.to_lowercase())
        });
    }
    for name in ["clojure.string/upper-case", ".toUpperCase"] {
        functions.add(name, 1, |call| {
            call.answer_text(call.text(0)?.to_uppercase())
        });
    }
    for name in ["clojure.string/trim", ".trim"] {
        functions.add(name, 1, |call| call.answer_text(call.text(0)?.trim()));
    }
    for name in ["clojure.string/replace", ".replace"] {
        functions.add(name, 3, |call| replace(call, usize::MAX));
    }
    functions.add("clojure.string/replace-first", 3, |call| replace(call, 1));
    functions.add("clojure.string/triml", 1, |call| {
        call.answer_text(call.text(0)?.trim_start())
    });
    functions.add("clojure.string/trimr", 1, |call| {
        call.answer_text(call.text(0)?.trim_end())
    });
    functions.add("clojure.string/trim-newline", 1, |call| {
        call.answer_text(call.text(0)?.trim_end_matches(['\r', '\n']))
    });
    functions.add("clojure.string/capitalize", 1, |call| {
        let mut chars = call.text(0)?.chars();
        let first: String = chars
            .next()
            .into_iter()
            .flat_map(char::to_uppercase)
            .collect();
        call.answer_text(first + &chars.as_str().to_lowercase())
    });
    functions.add("clojure.string/reverse", 1, |call| {
        call.answer_text(call.text(0)?.chars().rev().collect::<String>())
    });
    functions.add("clojure.string/blank?", 1, |call| match &call.args[0] {
        Term::Nil => Ok(true.into()),
        _ => Ok(call.text(0)?.trim().is_empty().into()),
    });
    functions.add("clojure.string/join", 1..=2, join);
    functions.add("clojure.string/split-lines", 1, |call| {
        call.answer_collection(Term::vector(call.text(0)?.lines().map(Term::from)))
    });
}

fn add_positions_to(functions: &mut Functions) {
    functions.add("clojure.string/index-of", 2..=3, |call| {
        Ok(index_of(call)?.map_or(Term::Nil, position))
    });
    functions.add(".indexOf", 2..=3, |call| {
        Ok(index_of(call)?.map_or(Term::Long(-1), position))
    });
    functions.add("clojure.string/last-index-of", 2..=3, |call| {
        Ok(last_index_of(call)?.map_or(Term::Nil, position))
    });
    functions.add(".lastIndexOf", 2..=3, |call| {
        Ok(last_index_of(call)?.map_or(Term::Long(-1), position))
    });
    functions.add(".length", 1, |call| {
        Ok(position(call.text(0)?.chars().count()))
    });
    functions.add(".isEmpty", 1, |call| Ok(call.text(0)?.is_empty().into()));
    functions.add(".concat", 2, |call| {
        call.answer_text([call.text(0)?, call.text(1)?].concat())
    });
    functions.add(".toString", 1, |call| concat(call, "", "", display));
}

fn add_names_to(functions: &mut Functions) {
    functions.add("keyword", 1..=2, |call| match call.args {
        [Term::Nil] => Ok(Term::Nil),
        [Term::Keyword(keyword)] => Ok(Term::Keyword(keyword.clone())),
        [Term::Symbol(symbol)] => Ok(Term::Keyword(Keyword::new(symbol.as_str()))),
        _ => Ok(Term::Keyword(Keyword::new(qualified(
            call,
            Keyword::BYTES_MAX,
        )?))),
    });
    functions.add("symbol", 1..=2, |call| match call.args {
        [Term::Symbol(symbol)] => Ok(Term::Symbol(symbol.clone())),
        [Term::Keyword(keyword)] => Ok(Term::Symbol(Symbol::new(keyword.as_str()))),
        _ => Ok(Term::Symbol(Symbol::new(qualified(
            call,
            Symbol::BYTES_MAX,
        )?))),
    });
    functions.add("name", 1, |call| match &call.args[0] {
        Term::String(_) => Ok(call.args[0].clone()),
        Term::Keyword(keyword) => Ok(keyword.name().into()),
        Term::Symbol(symbol) => Ok(symbol.name().into()),
        other => call.wrong("a name or a string", other),
    });
    functions.add("namespace", 1, |call| match &call.args[0] {
        Term::Keyword(keyword) => Ok(keyword.namespace().map_or(Term::Nil, Term::from)),
        Term::Symbol(symbol) => Ok(symbol.namespace().map_or(Term::Nil, Term::from)),
        other => call.wrong("a keyword or a symbol", other),
    });
}

/// Appends a term as `str` has it: texts as they are, numbers without their marks, nothing for nil.
fn display(term: &Term, out: &mut String) {
    let _ = match term {
        Term::Nil => Ok(()),
        Term::String(text) | Term::Uri(text) => out.write_str(text),
        Term::Char(char) => out.write_char(*char),
        Term::BigInt(integer) => write!(out, "{integer}"),
        Term::BigDec(_) => {
            let text = term.to_string();
            out.write_str(text.strip_suffix('M').unwrap_or(&text))
        }
        Term::Double(double) if double.is_nan() => out.write_str("NaN"),
        Term::Double(f64::INFINITY) => out.write_str("Infinity"),
        Term::Double(f64::NEG_INFINITY) => out.write_str("-Infinity"),
        Term::Instant(ms) => write!(out, "{}", format_instant(*ms)),
        Term::Uuid(uuid) => write!(out, "{uuid}"),
        other => write!(out, "{other}"),
    };
}

fn print(term: &Term, out: &mut String) {
    let _ = write!(out, "{term}");
}

fn concat(call: &Call<'_>, between: &str, end: &str, write: fn(&Term, &mut String)) -> Answer {
    concat_terms(call, call.args, between, end, write)
}

fn concat_terms(
    call: &Call<'_>,
    terms: &[Term],
    between: &str,
    end: &str,
    write: fn(&Term, &mut String),
) -> Answer {
    let mut text = String::new();
    for (at, term) in terms.iter().enumerate() {
        if at > 0 {
            text.push_str(between);
        }
        write(term, &mut text);
        call.check_text(text.len())?;
    }
    text.push_str(end);
    call.answer_text(text)
}

fn join(call: &Call<'_>) -> Answer {
    let mut between = String::new();
    let last = call.args.len() - 1;
    if last == 1 {
        display(&call.args[0], &mut between);
    }
    concat_terms(call, &call.elements(last)?, &between, "", display)
}

fn subs(call: &Call<'_>) -> Answer {
    let text = call.text(0)?;
    let start = call.index(1)?;
    // Byte positions of characters, and the end.
    let byte_at = |index| {
        let mut starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
        starts.nth(index)
    };
    let end = match call.args.get(2) {
        None => Some(text.len()),
        Some(_) => byte_at(call.index(2)?),
    };
    match (byte_at(start), end) {
        (Some(start), Some(end)) if start <= end => call.answer_text(&text[start..end]),
        _ => call.fail(&format!(
            "reaches beyond the {} characters of the text",
            text.chars().count()
        )),
    }
}

fn replace(call: &Call<'_>, count: usize) -> Answer {
    let (text, from, to) = (call.text(0)?, call.text_or_char(1)?, call.text_or_char(2)?);
    let found = text.matches(&*from).take(count).count();
    let bytes = found.saturating_mul(to.len()).saturating_add(text.len());
    call.check_text(bytes.saturating_sub(found * from.len()))?;
    call.answer_text(text.replacen(&*from, &to, count))
}

fn position(index: usize) -> Term {
    Term::Long(i64::try_from(index).unwrap_or(i64::MAX))
}

fn index_of(call: &Call<'_>) -> Result<Option<usize>, String> {
    let (text, wanted) = (call.text(0)?, call.text_or_char(1)?);
    let from = if call.args.len() > 2 {
        call.index(2)?
    } else {
        0
    };
    let Some(start) = text
        .char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .nth(from)
    else {
        return Ok(None);
    };
    let at = text[start..].find(&*wanted);
    Ok(at.map(|at| from + text[start..start + at].chars().count()))
}

fn last_index_of(call: &Call<'_>) -> Result<Option<usize>, String> {
    let (text, wanted) = (call.text(0)?, call.text_or_char(1)?);
    let from = if call.args.len() > 2 {
        call.index(2)?
    } else {
        usize::MAX
    };
    // The match may begin at `from`, so it may end as much later.
    let end = text.char_indices().map(|(at, _)| at).nth(from);
    let end = end.map_or(text.len(), |end| {
        text.floor_char_boundary(end.saturating_add(wanted.len()))
    });
    let at = text[..end].rfind(&*wanted);
    Ok(at.map(|at| text[..at].chars().count()))
}

fn qualified(call: &Call<'_>, bytes_max: usize) -> Result<String, String> {
    let name = match call.args {
        [_] => call.text(0)?.to_owned(),
        [Term::Nil, _] => call.text(1)?.to_owned(),
        _ => format!("{}/{}", call.text(0)?, call.text(1)?),
    };
    let is_name = |char: char| !char.is_whitespace() && !"()[]{}\"\\;@^`~,".contains(char);
    if name.is_empty() || name.len() > bytes_max || !name.chars().all(is_name) {
        return call.wrong("the text of a name", &name.into());
    }
    Ok(name)
}
