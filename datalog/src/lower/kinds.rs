//! What functions answer, as far as their names and arguments tell: so that answers get columns of their
//! type.
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
