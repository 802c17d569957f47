#![doc = include_str!("../README.md")]

pub mod ast;
pub mod edn;
mod error;
mod parse;
mod source;
mod span;
mod term;

pub use error::{Error, ErrorKind};
pub use source::{AttributeFacts, Facts, SourceError, TermType};
pub use span::Span;
pub use term::{DecodeError, Term};
