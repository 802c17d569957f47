//! A query as it was written: names are names, nothing is looked up.
//!
//! [`parse`](crate::parse) makes these trees, [`analyze`](mod@crate::analyze) turns them into what can run.
//! Every node knows its [`Span`](crate::Span) where an error may have to point at it.

mod clause;
mod pull;
mod query;
mod rule;

pub use clause::{
    Argument, Binding, Call, Callee, CalleeName, Clause, ClauseKind, Component, OrJoin, Pattern,
    RuleCall,
};
pub use pull::{Nested, PullAttribute, PullKey, PullPattern};
pub use query::{
    Aggregate, FindElement, FindSpec, Input, InputKind, OrderKey, Pull, PullArgument, Query,
    ReturnKeys, ReturnMap,
};
pub use rule::{HeadArgument, RuleBranch, RuleSet};

use std::fmt;
use std::sync::Arc;

/// A logic variable, with its question mark: `?name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Variable(Arc<str>);

/// The name of a source, with its dollar sign: `$`, `$sales`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(Arc<str>);

macro_rules! name {
    ($name:ident) => {
        impl $name {
            /// The name as it is written.
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            /// The name as it is written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(Variable);
name!(SourceName);

impl Default for SourceName {
    fn default() -> Self {
        Self::new("$")
    }
}
