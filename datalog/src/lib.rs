#![doc = include_str!("../README.md")]

mod aggregates;
pub mod ast;
pub mod edn;
mod error;
mod functions;
mod parse;
mod source;
mod span;
mod term;

pub use aggregates::Aggregate;
pub use error::{Error, ErrorKind};
pub use functions::{Arity, Function, Functions};
pub use source::{AttributeFacts, Facts, SourceError, TermType};
pub use span::Span;
pub use term::{DecodeError, Term};
