//! EDN and the Datalog front end of DatomFusion.

pub mod edn;

/// Where a form stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
}

/// What is wrong with a text.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);
