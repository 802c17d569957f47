//! What a database must give the planner: tables, and how large they are.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::TableProvider;

use crate::source::{Facts, SourceError};
use crate::term::Term;

/// Which facts a table holds. What is fixed chooses the index; the planner filters again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FactPattern {
    /// The entity, if it is known.
    pub e: Option<i64>,
    /// The attribute, if it is known.
    pub a: Option<i64>,
    /// The value, if it is known.
    pub v: Option<Term>,
    /// The transaction, if it is known.
    pub tx: Option<i64>,
}

/// A database that can be planned over.
#[async_trait]
pub trait Source: Facts {
    /// How many facts match, exactly or nearly. Reads no leaves that a count makes unnecessary.
    async fn count(&self, pattern: &FactPattern) -> Result<u64, SourceError>;

    /// How many values an attribute has, roughly; `None` if that is not known. Reads a few leaves, once a value.
    async fn values(&self, attribute: i64) -> Result<Option<u64>, SourceError>;

    /// Some values of an attribute, from all over its entities; none if that is not known. Reads a few leaves, once
    /// a value.
    async fn sample(&self, attribute: i64) -> Result<Vec<Term>, SourceError>;

    /// Whether superseded facts are seen: then an entity can have many values of any attribute.
    fn is_history(&self) -> bool;

    /// The same database with everything that its transactions said.
    fn log(&self) -> Arc<dyn Source>;

    /// A table with one row an entity that has any of some cardinality-one attributes.
    ///
    /// The columns are `db_id`, not null, then `a0`, `a1` and so on, null where the entity lacks the
    /// attribute, each of the representation that [`ColumnType`](crate::column::ColumnType) has for it.
    ///
    /// # Errors
    ///
    /// The host's.
    fn star(&self, attributes: &[i64]) -> Result<Arc<dyn TableProvider>, SourceError>;

    /// A table of facts: `e`, `a`, `tx` as `Int64`, `added` as `Boolean`, and `v`, in the representation
    /// of the attribute's type if the pattern names an attribute, else encoded.
    ///
    /// # Errors
    ///
    /// The host's.
    fn facts(&self, pattern: &FactPattern) -> Result<Arc<dyn TableProvider>, SourceError>;
}

/// A source of a query.
#[derive(Clone)]
pub enum QuerySource {
    /// A database.
    Database(Arc<dyn Source>),
    /// A collection of tuples.
    Collection(Arc<Vec<Term>>),
}
