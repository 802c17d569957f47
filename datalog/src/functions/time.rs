//! Instants as milliseconds. They compare by `<`, `before?` and the like.

use super::Functions;
use crate::term::Term;

pub(super) fn add_to(functions: &mut Functions) {
    for name in ["inst-ms", ".getTime"] {
        functions.add(name, 1, |call| match &call.args[0] {
            Term::Instant(ms) => Ok(Term::Long(*ms)),
            other => call.wrong("an instant", other),
        });
    }
}
