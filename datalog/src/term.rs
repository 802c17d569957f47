//! Terms: the values that variables of a query stand for while it runs.
//!
//! Equality, hash and order are those of the language, not of the types: numbers are equal if they are
//! the same number, whatever holds them (`1`, `1.0`, `1N` and `1.00M`), and order as numbers; everything
//! else orders by kind, then by content. So equality decides what unifies, what a join finds and what a
//! set holds once.

use std::sync::Arc;

use bigdecimal::BigDecimal;
use num_bigint::BigInt;
use uuid::Uuid;

use crate::edn::{Keyword, Symbol};

/// A value in a running query. Clones are cheap.
#[derive(Clone, Debug)]
pub enum Term {
    /// No value. Functions may take and answer it; variables never hold it.
    Nil,
    /// `true`, `false`
    Boolean(bool),
    /// An integer of 64 bits; entity ids too.
    Long(i64),
    /// An integer of any size.
    BigInt(Arc<BigInt>),
    /// A double.
    Double(f64),
    /// A decimal number.
    BigDec(Arc<BigDecimal>),
    /// A character.
    Char(char),
    /// Text.
    String(Arc<str>),
    /// A keyword.
    Keyword(Keyword),
    /// A symbol.
    Symbol(Symbol),
    /// Milliseconds since the epoch.
    Instant(i64),
    /// A UUID.
    Uuid(Uuid),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A URI.
    Uri(Arc<str>),
    /// A vector, a list or a tuple: equal if their elements are.
    Vector(Arc<[Term]>),
    /// A set: sorted, without duplicates.
    Set(Arc<[Term]>),
    /// A map: sorted by key, without duplicates.
    Map(Arc<[(Term, Term)]>),
}
