//! What functions answer, as far as their names and arguments tell: so that answers get columns of their
//! type, and that what may be refused is called last.
//!
//! **Invariant.** A function never answers what is not listed here; the writer of the column would refuse
//! it, and say so.

use crate::column::Kinds;
use crate::source::TermType;

/// The kinds of the answer of a function; nil drops the row and is not among them.
pub(crate) fn result_kinds(name: &str, arguments: &[Kinds]) -> Kinds {
    let long = Kinds::of(TermType::Long);
    let double = Kinds::of(TermType::Double);
    let all = |kinds: Kinds| arguments.iter().all(|argument| argument.within(kinds));
    let any_double = arguments.contains(&double);
    match name {
        "+" | "-" | "*" if all(Kinds::INTEGERS) => long,
        "quot" | "rem" | "mod" | "inc" | "dec" | "abs" if all(Kinds::INTEGERS) => long,
        "+" | "-" | "*" | "/" if any_double && all(Kinds::INTEGERS.or(double)) => double,
        "str" | "subs" | "clojure.string/lower-case" | "clojure.string/upper-case" => {
            Kinds::of(TermType::String)
        }
        "=" | "==" | "not=" | "!=" | "<" | "<=" | ">" | ">=" | "even?" | "odd?" | "zero?"
        | "pos?" | "neg?" | "not" => Kinds::of(TermType::Boolean),
        "count" => long,
        "identity" | "ground" | "untuple" if arguments.len() == 1 => arguments[0],
        "tuple" | "vector" => Kinds::of(TermType::Tuple),
        _ => Kinds::ANY,
    }
}

/// Whether a function answers whatever it is given, of these kinds.
///
/// What may be refused is called after all else that a row depends on: a row that a later pattern drops
/// must not make an error of the query.
pub(crate) fn always_answers(name: &str, arguments: &[Kinds]) -> bool {
    let all = |kinds: Kinds| arguments.iter().all(|argument| argument.within(kinds));
    match name {
        "=" | "==" | "not=" | "!=" | "<" | "<=" | ">" | ">=" | "before?" | "after?" | "compare"
        | "max" | "min" | "not" | "boolean" | "and" | "or" | "identical?" => true,
        "nil?" | "some?" | "true?" | "false?" | "boolean?" | "number?" | "integer?" | "int?"
        | "double?" | "float?" | "decimal?" | "char?" | "string?" | "keyword?" | "symbol?"
        | "inst?" | "uuid?" | "uri?" | "bytes?" | "vector?" | "set?" | "map?" | "coll?"
        | "type" | "meta" | "identity" => true,
        "even?" | "odd?" => all(Kinds::INTEGERS),
        "zero?" | "pos?" | "neg?" => all(Kinds::NUMBERS),
        "clojure.string/starts-with?"
        | ".startsWith"
        | "clojure.string/ends-with?"
        | ".endsWith"
        | "clojure.string/includes?"
        | ".contains"
        | "clojure.string/blank?"
        | ".isEmpty"
        | "like"
        | "not-like" => all(Kinds::of(TermType::String)),
        _ => false,
    }
}
