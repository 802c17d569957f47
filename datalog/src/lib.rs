#![doc = include_str!("../README.md")]
#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the phases document each other; what leaves the crate is listed here"
)]

mod aggregates;
pub mod analyze;
pub mod ast;
#[cfg(feature = "plan")]
pub mod column;
#[cfg(feature = "plan")]
mod counts;
pub mod edn;
mod error;
#[cfg(feature = "plan")]
pub mod fixpoint;
mod functions;
#[cfg(feature = "plan")]
pub mod lower;
#[cfg(feature = "plan")]
mod optimizations;
pub mod order;
mod parse;
#[cfg(feature = "plan")]
mod plan_source;
#[cfg(feature = "plan")]
mod planner;
mod pull;
mod resolve;
#[cfg(feature = "plan")]
mod result;
mod source;
mod span;
mod term;

pub use aggregates::Aggregate;
pub use analyze::bound;
pub use analyze::{Given, SourceFacts, analyze};
#[cfg(feature = "plan")]
pub use counts::count;
pub use error::{Error, ErrorKind};
pub use functions::{Arity, Function, Functions};
#[cfg(feature = "plan")]
pub use lower::shared::fresh;
#[cfg(feature = "plan")]
pub use optimizations::Optimizations;
#[cfg(feature = "plan")]
pub use plan_source::{FactPattern, QuerySource, Source};
#[cfg(feature = "plan")]
pub use planner::{DatalogPlanner, DatalogQueryPlanner};
pub use pull::{PullError, Xform, pull};
pub use resolve::{Databases, resolve};
#[cfg(feature = "plan")]
pub use result::{Answer, Rows, rows};
pub use source::{AttributeFacts, Facts, SourceError, TermType};
pub use span::Span;
pub use term::{DecodeError, Term};
