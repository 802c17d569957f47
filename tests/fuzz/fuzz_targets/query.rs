//! Text → AST: nothing panics, whatever the text is taken for, and errors print in three lines at most.
#![no_main]

use datomfusion_datalog::ast::{PullPattern, Query, RuleSet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let errors = [
        Query::parse(text).err(),
        RuleSet::parse(text).err(),
        PullPattern::parse(text).err(),
    ];
    for error in errors.into_iter().flatten() {
        assert!(error.to_string().lines().count() <= 3);
    }
});
