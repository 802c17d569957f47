//! Pull patterns.

use crate::edn::{Form, Keyword, Symbol};
use crate::span::Span;

/// What to fetch of an entity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PullPattern {
    /// From left to right.
    pub attributes: Vec<PullAttribute>,
}

/// One part of a pull pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct PullAttribute {
    /// What is fetched.
    pub key: PullKey,
    /// The key in the result, if it is another.
    pub rename: Option<Form>,
    /// Most values of a cardinality-many attribute: `None` if not said, `Some(None)` for all.
    pub limit: Option<Option<u64>>,
    /// The value if there is none.
    pub default: Option<Form>,
    /// The registered function that is applied to the value.
    pub xform: Option<Symbol>,
    /// What is fetched of the entities that the attribute refers to.
    pub nested: Option<Nested>,
    /// Where the part stands.
    pub span: Span,
}

/// What a part of a pull pattern names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullKey {
    /// `*`
    Wildcard,
    /// `:db/id`
    DbId,
    /// `:person/name`
    Forward(Keyword),
    /// `:person/_friend`, as the attribute `:person/friend`.
    Reverse(Keyword),
}

/// What is fetched of referred entities.
#[derive(Clone, Debug, PartialEq)]
pub enum Nested {
    /// A pattern of their own.
    Pattern(PullPattern),
    /// The pattern in which this stands, so many levels deep; without end if `None`.
    Recursion(Option<u32>),
}
