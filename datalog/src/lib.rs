#![doc = include_str!("../README.md")]

pub mod edn;
mod error;
mod span;

pub use error::{Error, ErrorKind};
pub use span::Span;
