//! The fact, [`Datom`], and the numbers that name its parts.

use std::fmt;

use crate::value::Value;

/// An entity id.
///
/// Signed, because SQL has no unsigned 64-bit integer. Attributes, transactions and enums are entities too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entid(pub i64);

impl Entid {
    /// The first id that a transaction hands out; what lies below is the bootstrap's.
    pub const FIRST_USER: Self = Self(1024);
    /// The id of transaction 0, and the end of the ids that transactions hand out.
    pub const TX0: Self = Self(1 << 42);

    /// Whether this names a transaction.
    pub fn is_tx(self) -> bool {
        self >= Self::TX0
    }
}

impl fmt::Display for Entid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The entity id of a transaction: [`Entid::TX0`] + t.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxId(pub Entid);

impl TxId {
    /// The transaction that made basis `t`. `t` counts transactions: 0 is the bootstrap.
    pub fn from_t(t: u64) -> Self {
        let offset = i64::try_from(t).unwrap_or(i64::MAX);
        Self(Entid(Entid::TX0.0.saturating_add(offset)))
    }

    /// The basis `t` that this transaction made.
    pub fn t(self) -> u64 {
        self.0.0.saturating_sub(Entid::TX0.0).unsigned_abs()
    }
}

/// One fact: entity `e` has (or no longer has) value `v` for attribute `a`, said by transaction `tx`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Datom {
    /// The entity.
    pub e: Entid,
    /// The attribute, itself an entity.
    pub a: Entid,
    /// The value.
    pub v: Value,
    /// The transaction that said so.
    pub tx: TxId,
    /// `true` for an assertion, `false` for a retraction.
    pub added: bool,
}

impl Datom {
    /// An assertion.
    pub fn add(e: Entid, a: Entid, v: Value, tx: TxId) -> Self {
        Self {
            e,
            a,
            v,
            tx,
            added: true,
        }
    }

    /// A retraction.
    pub fn retract(e: Entid, a: Entid, v: Value, tx: TxId) -> Self {
        Self {
            e,
            a,
            v,
            tx,
            added: false,
        }
    }
}

impl fmt::Display for Datom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "[{} {} {} {} {}]",
            self.e, self.a, self.v, self.tx.0, self.added
        )
    }
}
