//! What a database must tell the language: its attributes, its idents, its facts.
//!
//! The front end knows nothing of storage. It asks a [`Facts`], which the host implements for a database
//! value; a vector of facts will do as well.

use async_trait::async_trait;

use crate::edn::Keyword;
use crate::term::Term;

/// Transactions are the entities from here on: this and the number of the transaction.
pub const FIRST_TX: i64 = 1 << 42;

/// What goes wrong while facts are read; the host's own error, kept whole.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// What the language needs to know of an attribute.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of the schema by itself"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeFacts {
    /// The entity id.
    pub id: i64,
    /// The ident.
    pub ident: Keyword,
    /// The type of the values.
    pub value_type: TermType,
    /// Whether an entity can have several values.
    pub is_many: bool,
    /// Whether a value names one entity.
    pub is_unique: bool,
    /// Whether the values are parts of the entity.
    pub is_component: bool,
    /// Whether values are found by an index.
    pub is_indexed: bool,
}

/// The kinds of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TermType {
    /// `true`, `false`
    Boolean,
    /// Integers of 64 bits.
    Long,
    /// Entity ids, which are integers too.
    Ref,
    /// Entity ids of attributes; shown as their idents.
    Attribute,
    /// Doubles.
    Double,
    /// Doubles that came from floats.
    Float,
    /// Integers of any size.
    BigInt,
    /// Decimal numbers.
    BigDec,
    /// Text.
    String,
    /// Keywords.
    Keyword,
    /// Symbols.
    Symbol,
    /// Milliseconds since the epoch.
    Instant,
    /// UUIDs.
    Uuid,
    /// Bytes.
    Bytes,
    /// URIs.
    Uri,
    /// Tuples.
    Tuple,
}

impl TermType {
    /// Every kind.
    pub const ALL: [Self; 16] = [
        Self::Boolean,
        Self::Long,
        Self::Ref,
        Self::Attribute,
        Self::Double,
        Self::Float,
        Self::BigInt,
        Self::BigDec,
        Self::String,
        Self::Keyword,
        Self::Symbol,
        Self::Instant,
        Self::Uuid,
        Self::Bytes,
        Self::Uri,
        Self::Tuple,
    ];
}

/// The facts of one database value.
#[async_trait]
pub trait Facts: Send + Sync {
    /// The attribute of an ident.
    fn attribute(&self, ident: &Keyword) -> Option<AttributeFacts>;

    /// The attribute with an entity id.
    fn attribute_by_id(&self, id: i64) -> Option<AttributeFacts>;

    /// The entity with an ident.
    fn entid(&self, ident: &Keyword) -> Option<i64>;

    /// The ident of an entity.
    fn ident(&self, entity: i64) -> Option<Keyword>;

    /// The entity ids of all reference attributes.
    fn references(&self) -> Vec<i64>;

    /// The entity that has this value of a unique attribute.
    async fn lookup(&self, attribute: i64, value: &Term) -> Result<Option<i64>, SourceError>;

    /// The facts `(e, a, v)` of entities, of one attribute or of all, in this order.
    ///
    /// `entities` ascend without duplicates.
    async fn facts_of(
        &self,
        entities: &[i64],
        attribute: Option<i64>,
    ) -> Result<Vec<(i64, i64, Term)>, SourceError>;

    /// The facts `(v, e)` of a reference attribute that refer to entities, in this order.
    ///
    /// `entities` ascend without duplicates.
    async fn referrers_of(
        &self,
        entities: &[i64],
        attribute: i64,
    ) -> Result<Vec<(i64, i64)>, SourceError>;
}
