//! What a user of the crate relies on: one binary, one module a capability.

mod edn_corpus;
mod edn_errors;
mod edn_round_trip;
mod forms;
mod parse;
mod parse_anything;
