//! What a user of the crate relies on: one binary, one module a capability.

mod edn_corpus;
mod edn_errors;
mod edn_round_trip;
mod forms;
mod generate;
mod generated;
mod loading;
mod naive;
mod naive_cases;
mod naive_conformance;
mod parse;
mod parse_anything;
