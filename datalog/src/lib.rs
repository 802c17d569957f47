#![doc = include_str!("../README.md")]

mod aggregates;
pub mod analyze;
pub mod ast;
#[cfg(feature = "plan")]
pub mod column;
pub mod edn;
mod error;
mod functions;
#[cfg(feature = "plan")]
pub mod lower;
mod parse;
#[cfg(feature = "plan")]
mod plan_source;
mod pull;
mod resolve;
mod source;
mod span;
mod term;

pub use aggregates::Aggregate;
pub use error::{Error, ErrorKind};
pub use analyze::bound;
pub use analyze::{Given, SourceFacts, analyze};
pub use functions::{Arity, Function, Functions};
#[cfg(feature = "plan")]
pub use plan_source::{FactPattern, QuerySource, Source};
pub use pull::{PullError, Xform, pull};
pub use resolve::{Databases, resolve};
pub use source::{AttributeFacts, Facts, SourceError, TermType};
pub use span::Span;
pub use term::{DecodeError, Term};
