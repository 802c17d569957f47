//! Text → AST → analysis: nothing panics, whatever the text is taken for, and errors print in three lines
//! at most.
#![no_main]

use datomfusion_datalog::ast::{PullPattern, Query, RuleSet, SourceName};
use datomfusion_datalog::{Functions, Given, SourceFacts, analyze};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let analysed = Query::parse(text).and_then(|query| {
        let given = Given {
            sources: &[(SourceName::default(), SourceFacts::Collection)],
            rules: &RuleSet::default(),
            arguments: &[],
            functions: &Functions::standard(),
        };
        analyze(&query, &given)
    });
    let errors = [
        analysed.err(),
        RuleSet::parse(text).err(),
        PullPattern::parse(text).err(),
    ];
    for error in errors.into_iter().flatten() {
        assert!(error.to_string().lines().count() <= 3);
    }
});
