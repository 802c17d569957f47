#![doc = include_str!("../README.md")]

pub mod ast;
pub mod edn;
mod error;
mod span;
mod term;

pub use error::{Error, ErrorKind};
pub use span::Span;
pub use term::Term;
