//! Comparisons and logic: `=`, `<`, `compare`, `max`, `and`, `like`, `in` and their kin.

use std::cmp::Ordering;

use super::{Call, Functions};
use crate::term::Term;

pub(super) fn add_to(functions: &mut Functions) {
    for name in ["=", "==", "identical?", ".equals"] {
        functions.add(name, 1.., |call| Ok(all_equal(call).into()));
    }
    for name in ["not=", "!="] {
        functions.add(name, 1.., |call| Ok((!all_equal(call)).into()));
    }
    for name in ["<", "before?", ".before"] {
        functions.add(
            name,
            1..,
            |call| Ok(ascending(call, Ordering::is_lt).into()),
        );
    }
    for name in [">", "after?", ".after"] {
        functions.add(
            name,
            1..,
            |call| Ok(ascending(call, Ordering::is_gt).into()),
        );
    }
    functions.add(
        "<=",
        1..,
        |call| Ok(ascending(call, Ordering::is_le).into()),
    );
    functions.add(
        ">=",
        1..,
        |call| Ok(ascending(call, Ordering::is_ge).into()),
    );
    for name in ["compare", ".compareTo"] {
        functions.add(name, 2, |call| {
            Ok(Term::Long(call.args[0].cmp(&call.args[1]) as i64))
        });
    }
    functions.add("max", 1.., |call| Ok(extreme(call, Ordering::is_gt)));
    functions.add("min", 1.., |call| Ok(extreme(call, Ordering::is_lt)));

    functions.add("not", 1, |call| Ok((!call.args[0].is_truthy()).into()));
    functions.add("boolean", 1, |call| Ok(call.args[0].is_truthy().into()));
    functions.add("and", 0.., |call| {
        let answer = call.args.iter().find(|arg| !arg.is_truthy());
        Ok(answer.or(call.args.last()).cloned().unwrap_or(true.into()))
    });
    functions.add("or", 0.., |call| {
        let answer = call.args.iter().find(|arg| arg.is_truthy());
        Ok(answer.or(call.args.last()).cloned().unwrap_or(Term::Nil))
    });
    functions.add("in", 2, |call| is_in(call).map(Term::from));
    functions.add("not-in", 2, |call| is_in(call).map(|is_in| (!is_in).into()));
    functions.add("like", 2, |call| {
        Ok(is_like(call.text(0)?, call.text(1)?).into())
    });
    functions.add("not-like", 2, |call| {
        Ok((!is_like(call.text(0)?, call.text(1)?)).into())
    });
}

fn all_equal(call: &Call<'_>) -> bool {
    call.args.windows(2).all(|pair| pair[0] == pair[1])
}

fn ascending(call: &Call<'_>, holds: fn(Ordering) -> bool) -> bool {
    let holds = |pair: &[Term]| pair[0].is_of_kind(&pair[1]) && holds(pair[0].cmp(&pair[1]));
    call.args.windows(2).all(holds)
}

/// The first argument that no other surpasses.
fn extreme(call: &Call<'_>, surpasses: fn(Ordering) -> bool) -> Term {
    let best = call
        .args
        .iter()
        .reduce(|best, arg| if surpasses(arg.cmp(best)) { arg } else { best });
    best.cloned().unwrap_or(Term::Nil)
}

fn is_in(call: &Call<'_>) -> Result<bool, String> {
    let value = &call.args[0];
    Ok(match &call.args[1] {
        Term::Nil => false,
        Term::Vector(elements) => elements.contains(value),
        Term::Set(elements) => elements.binary_search(value).is_ok(),
        Term::Map(entries) => entries.binary_search_by(|(key, _)| key.cmp(value)).is_ok(),
        other => return call.wrong("a collection", other),
    })
}

/// Matches a pattern of SQL, in time of both lengths multiplied at worst.
fn is_like(text: &str, pattern: &str) -> bool {
    let mut pieces = Vec::new();
    let mut chars = pattern.chars();
    while let Some(char) = chars.next() {
        pieces.push(match char {
            '%' => Piece::Any,
            '_' => Piece::One,
            '\\' => Piece::Char(chars.next().unwrap_or('\\')),
            _ => Piece::Char(char),
        });
    }
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut piece) = (0, 0);
    // Where the last `%` was, and how much of the text it has taken.
    let mut last_any = None;
    while at < text.len() {
        match pieces.get(piece) {
            Some(Piece::Any) => {
                last_any = Some((piece, at));
                piece += 1;
            }
            Some(Piece::One) => (at, piece) = (at + 1, piece + 1),
            Some(Piece::Char(char)) if *char == text[at] => (at, piece) = (at + 1, piece + 1),
            _ => match last_any {
                Some((any, taken)) => {
                    (at, piece) = (taken + 1, any + 1);
                    last_any = Some((any, at));
                }
                None => return false,
            },
        }
    }
    pieces[piece..]
        .iter()
        .all(|piece| matches!(piece, Piece::Any))
}

enum Piece {
    Any,
    One,
    Char(char),
}
