//! Pull: what is asked of entities, as a map each.
//!
//! Above [`ast`](crate::ast), beside the evaluation of clauses; knows facts only through [`Facts`].
//!
//! All entities are pulled together, level by level: the patterns say which attributes the entities of a
//! level are asked for, each attribute is one call for all of them, and the entities that the values refer
//! to are the next level. So a pull costs as many calls as it has levels and attributes, however many
//! entities there are. The maps are put together when the last level is there, from the bottom up.
//!
//! **Invariant.** Neither loop recurses. Patterns may go as deep as the reader lets them; what follows
//! data, recursion and components, ends at [`LEVELS_MAX`] and at [`NODES_MAX`].

mod level;
mod plan;
mod tree;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::level::Level;
use self::plan::Plan;
use self::tree::Tree;
use crate::ast::PullPattern;
use crate::edn::Symbol;
use crate::source::{Facts, SourceError};
use crate::span::Span;
use crate::term::Term;

/// Most values of a cardinality-many or reverse attribute, if the pattern does not say.
const LIMIT_DEFAULT: usize = 1000;
/// Most levels of maps. Terms are dropped, compared and printed by recursion; some three thousand levels
/// are too many to print on a stack of 2 MiB.
const LEVELS_MAX: usize = 1000;
/// Most maps beside those that were asked for: paths through a graph are more than its nodes.
const NODES_MAX: usize = if cfg!(test) { 1 << 16 } else { 1 << 22 };

/// A registered function that `:xform` names.
pub type Xform = Arc<dyn Fn(&Term) -> Result<Term, String> + Send + Sync>;

/// Why entities cannot be pulled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The pattern asks for what the database does not have. Correct it; [`Error::new`](crate::Error::new)
    /// makes an error that quotes the text it came from.
    #[error("{message}")]
    Invalid {
        /// What is wrong.
        message: String,
        /// Where the part of the pattern stands.
        span: Span,
    },
    /// A registered function refused a value.
    #[error("`{function}` failed: {message}")]
    Function {
        /// The function.
        function: Symbol,
        /// What it says.
        message: String,
        /// Where the part of the pattern stands.
        span: Span,
    },
    /// The maps would be nested too deep, or be too many. Bound the recursion.
    #[error("{message}")]
    Limit {
        /// Which limit was reached.
        message: String,
        /// Where the part of the pattern stands, if it is one.
        span: Span,
    },
    /// The facts could not be read.
    #[error("facts could not be read")]
    Source(#[source] SourceError),
}

impl PullError {
    /// The part of the pattern at fault.
    pub fn span(&self) -> Option<Span> {
        match self {
            Self::Invalid { span, .. } | Self::Function { span, .. } | Self::Limit { span, .. } => {
                Some(*span)
            }
            Self::Source(_) => None,
        }
    }
}

/// Pulls entities: one term each, in their order, a map or nil if nothing was found.
///
/// Meanings, as in Datomic, *pull*:
///
/// - An attribute without values is absent, unless it has a `:default`.
/// - A cardinality-many attribute is a vector of at most 1000 values, if there is no `:limit`. A reverse
///   attribute is one, too, except that of a component attribute, which is a single map.
/// - A reference is `{:db/id 1}`, that to a component a map as by `[*]`, or what the nested pattern makes
///   of it; entities of which the nested pattern finds nothing are left out.
/// - `*` is every attribute and `:db/id`; what the same pattern says of an attribute overrides it.
/// - Recursion ends at an entity that is on the path already, with `{:db/id 1}`.
/// - `:xform` is applied to the value as it would be, but not to a default.
///
/// `functions` knows the registered functions. Calls [`Facts::facts_of`] once for all attributes of the
/// entities that a wildcard asks for, and that or [`Facts::referrers_of`] once for each other attribute,
/// a level.
///
/// # Errors
///
/// [`PullError::Invalid`] if the pattern has an unknown attribute or function, or follows what is no
/// reference; [`PullError::Limit`] at 1000 levels of maps, or four million; [`PullError::Function`],
/// [`PullError::Source`].
pub async fn pull(
    facts: &dyn Facts,
    pattern: &PullPattern,
    entities: &[i64],
    functions: &(dyn Fn(&Symbol) -> Option<Xform> + Sync),
) -> Result<Vec<Term>, PullError> {
    let plan = Plan::new(facts, pattern, functions)?;
    let mut tree = Tree::new(facts, &plan, entities);
    while !tree.is_grown() {
        let level = Level::load(facts, tree.needs()).await?;
        tree.grow(&level)?;
    }
    let found = tree.into_terms()?;
    let term = |entity| {
        let at = found.binary_search_by_key(entity, |(entity, _)| *entity);
        at.map_or(Term::Nil, |at| found[at].1.clone())
    };
    Ok(entities.iter().map(term).collect())
}
