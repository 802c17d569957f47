//! Vectors, sets and maps: what makes them, and what asks them.

use super::{Answer, Call, Functions};
use crate::term::Term;

pub(super) fn add_to(functions: &mut Functions) {
    for name in ["vector", "list", "tuple"] {
        functions.add(name, 0.., |call| {
            call.answer_collection(Term::vector(call.args.iter().cloned()))
        });
    }
    functions.add("vec", 1, |call| {
        call.answer_collection(Term::Vector(call.elements(0)?.into()))
    });
    functions.add("set", 1, |call| {
        call.answer_collection(Term::set(call.elements(0)?))
    });
    functions.add("hash-set", 0.., |call| {
        call.answer_collection(Term::set(call.args.iter().cloned()))
    });
    for name in ["hash-map", "array-map"] {
        functions.add(name, 0.., |call| {
            let (pairs, rest) = call.args.as_chunks::<2>();
            if !rest.is_empty() {
                return call.fail("takes keys with their values: an even number of arguments");
            }
            call.answer_collection(Term::map(
                pairs.iter().cloned().map(|[key, value]| (key, value)),
            ))
        });
    }
    functions.add("range", 1..=3, range);
    functions.add("count", 1, |call| Ok(Term::Long(count(call)?)));
    functions.add("empty?", 1, |call| Ok((count(call)? == 0).into()));
    functions.add("not-empty", 1, |call| {
        Ok(if count(call)? == 0 {
            Term::Nil
        } else {
            call.args[0].clone()
        })
    });
    functions.add("contains?", 2, contains);
    functions.add("get", 2..=3, |call| {
        let found = get(&call.args[0], &call.args[1]);
        Ok(found
            .or_else(|| call.args.get(2).cloned())
            .unwrap_or(Term::Nil))
    });
    functions.add("nth", 2..=3, nth);
    functions.add("first", 1, |call| match &call.args[0] {
        Term::String(text) => Ok(text.chars().next().map_or(Term::Nil, Term::Char)),
        Term::Vector(elements) | Term::Set(elements) => {
            Ok(elements.first().cloned().unwrap_or(Term::Nil))
        }
        _ => Ok(call.elements(0)?.first().cloned().unwrap_or(Term::Nil)),
    });
    functions.add("last", 1, |call| match &call.args[0] {
        Term::String(text) => Ok(text.chars().next_back().map_or(Term::Nil, Term::Char)),
        Term::Vector(elements) | Term::Set(elements) => {
            Ok(elements.last().cloned().unwrap_or(Term::Nil))
        }
        _ => Ok(call.elements(0)?.last().cloned().unwrap_or(Term::Nil)),
    });
    functions.add("reverse", 1, |call| {
        Ok(Term::vector(call.elements(0)?.into_iter().rev()))
    });
    functions.add("sort", 1, |call| {
        let mut elements = call.elements(0)?;
        elements.sort();
        Ok(Term::Vector(elements.into()))
    });
    functions.add("distinct", 1, |call| {
        let mut seen = std::collections::HashSet::new();
        let mut elements = call.elements(0)?;
        elements.retain(|element| seen.insert(element.clone()));
        Ok(Term::Vector(elements.into()))
    });
}

fn count(call: &Call<'_>) -> Result<i64, String> {
    let count = match &call.args[0] {
        Term::Nil => 0,
        Term::String(text) => text.chars().count(),
        Term::Vector(elements) | Term::Set(elements) => elements.len(),
        Term::Map(entries) => entries.len(),
        Term::Bytes(bytes) => bytes.len(),
        other => return call.wrong("a collection or a string", other),
    };
    Ok(i64::try_from(count).unwrap_or(i64::MAX))
}

/// The position that a term names, if it can name one.
fn position(key: &Term) -> Option<usize> {
    match key {
        Term::Long(long) => usize::try_from(*long).ok(),
        _ => None,
    }
}

fn get(collection: &Term, key: &Term) -> Option<Term> {
    match collection {
        Term::Vector(elements) => elements.get(position(key)?).cloned(),
        Term::String(text) => text.chars().nth(position(key)?).map(Term::Char),
        Term::Set(elements) => elements
            .binary_search(key)
            .ok()
            .map(|at| elements[at].clone()),
        Term::Map(entries) => {
            let at = entries.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
            Some(entries[at].1.clone())
        }
        _ => None,
    }
}

fn contains(call: &Call<'_>) -> Answer {
    let [collection, key] = [&call.args[0], &call.args[1]];
    match collection {
        Term::Nil | Term::Vector(_) | Term::Set(_) | Term::Map(_) | Term::String(_) => {
            Ok(get(collection, key).is_some().into())
        }
        other => call.wrong("a collection", other),
    }
}

fn nth(call: &Call<'_>) -> Answer {
    let found = match &call.args[0] {
        Term::Nil => return Ok(call.args.get(2).cloned().unwrap_or(Term::Nil)),
        Term::Vector(_) | Term::String(_) => {
            call.long(1)?;
            get(&call.args[0], &call.args[1])
        }
        other => return call.wrong("a vector or a string", other),
    };
    match found.or_else(|| call.args.get(2).cloned()) {
        Some(element) => Ok(element),
        None => call.fail(&format!("{} is out of bounds", call.args[1])),
    }
}

fn range(call: &Call<'_>) -> Answer {
    let (start, end, step) = match call.args.len() {
        1 => (0, call.long(0)?, 1),
        2 => (call.long(0)?, call.long(1)?, 1),
        _ => (call.long(0)?, call.long(1)?, call.long(2)?),
    };
    if step == 0 {
        return call.fail("takes a step other than zero");
    }
    let length = i128::from(step.signum()) * (i128::from(end) - i128::from(start));
    let count = length.max(0) / i128::from(step.unsigned_abs());
    call.check_elements(usize::try_from(count).unwrap_or(usize::MAX))?;
    let numbers = std::iter::successors(Some(start), |number| number.checked_add(step)).take_while(
        |number| {
            if step > 0 {
                *number < end
            } else {
                *number > end
            }
        },
    );
    call.answer_collection(Term::vector(numbers.map(Term::Long)))
}
