//! Sort orders of datoms.
//!
//! A database keeps seven trees of datoms. Each is named by a [`TreeName`] and sorted by a [`TreeOrder`]:
//! trees of current facts identify a fact by `e a v` alone and carry `tx` along, trees of history and the
//! log include `tx` and `added` in the key.

use std::cmp::Ordering;
use std::fmt;

use crate::datom::{Datom, Entid, TxId};
use crate::value::Value;

/// Which components lead the sort order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Index {
    /// Entity, attribute, value: all facts about an entity lie together.
    Eavt,
    /// Attribute, entity, value: all values of an attribute lie together, by entity.
    Aevt,
    /// Attribute, value, entity: look-up by value. Holds indexed, unique and reference attributes.
    Avet,
    /// Transaction, then entity, attribute, value: what each transaction said.
    Log,
}

/// The name of one of the seven trees of data of a database, or of its tree of commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TreeName {
    /// Current facts by entity.
    Eavt,
    /// Current facts by attribute.
    Aevt,
    /// Current facts by value.
    Avet,
    /// Superseded facts and retractions by entity.
    HistoryEavt,
    /// Superseded facts and retractions by attribute.
    HistoryAevt,
    /// Superseded facts and retractions by value.
    HistoryAvet,
    /// Every datom, by transaction.
    Log,
    /// What is known of each transaction, by t: `e` is t, `v` an encoded record. Not part of the data.
    Commits,
}

impl TreeName {
    /// The seven trees of data, in the order in which heads list them.
    pub const DATA: [Self; 7] = [
        Self::Eavt,
        Self::Aevt,
        Self::Avet,
        Self::HistoryEavt,
        Self::HistoryAevt,
        Self::HistoryAvet,
        Self::Log,
    ];

    /// The order of the components.
    pub fn index(self) -> Index {
        match self {
            Self::Eavt | Self::HistoryEavt | Self::Commits => Index::Eavt,
            Self::Aevt | Self::HistoryAevt => Index::Aevt,
            Self::Avet | Self::HistoryAvet => Index::Avet,
            Self::Log => Index::Log,
        }
    }

    /// The order of this tree.
    pub fn order(self) -> TreeOrder {
        TreeOrder {
            index: self.index(),
            keys_tx: !matches!(self, Self::Eavt | Self::Aevt | Self::Avet | Self::Commits),
        }
    }

    /// The tree of current facts in this index.
    pub fn current(index: Index) -> Self {
        match index {
            Index::Eavt => Self::Eavt,
            Index::Aevt => Self::Aevt,
            Index::Avet => Self::Avet,
            Index::Log => Self::Log,
        }
    }

    /// The tree of superseded facts and retractions in this index; the log is its own history.
    pub fn history(index: Index) -> Self {
        match index {
            Index::Eavt => Self::HistoryEavt,
            Index::Aevt => Self::HistoryAevt,
            Index::Avet => Self::HistoryAvet,
            Index::Log => Self::Log,
        }
    }
}

impl fmt::Display for TreeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eavt => "eavt",
            Self::Aevt => "aevt",
            Self::Avet => "avet",
            Self::HistoryEavt => "history-eavt",
            Self::HistoryAevt => "history-aevt",
            Self::HistoryAvet => "history-avet",
            Self::Log => "log",
            Self::Commits => "commits",
        })
    }
}

/// A total order of datoms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TreeOrder {
    /// The order of the components.
    pub index: Index,
    /// Whether `tx` and `added` are part of the key. The log's always are.
    pub keys_tx: bool,
}

impl TreeOrder {
    /// Compares two datoms by the key of this order.
    pub fn compare(self, left: &Datom, right: &Datom) -> Ordering {
        let facts = match self.index {
            Index::Eavt => (left.e, left.a)
                .cmp(&(right.e, right.a))
                .then_with(|| left.v.cmp(&right.v)),
            Index::Aevt => (left.a, left.e)
                .cmp(&(right.a, right.e))
                .then_with(|| left.v.cmp(&right.v)),
            Index::Avet => left
                .a
                .cmp(&right.a)
                .then_with(|| left.v.cmp(&right.v))
                .then(left.e.cmp(&right.e)),
            Index::Log => (left.tx, left.e, left.a)
                .cmp(&(right.tx, right.e, right.a))
                .then_with(|| left.v.cmp(&right.v)),
        };
        if self.keys_tx {
            facts
                .then(left.tx.cmp(&right.tx))
                .then(left.added.cmp(&right.added))
        } else {
            facts
        }
    }

    /// Compares a datom with leading components; equal if the datom begins with them.
    pub fn compare_prefix(self, datom: &Datom, prefix: &Components) -> Ordering {
        prefix
            .compare(self.index, datom.e, datom.a, || datom.v.clone(), datom.tx)
            .reverse()
    }
}

/// Leading components of a datom in an index order.
///
/// Components are given by name, and those that lead in the index are used: for AVET `a`, then `v`, then
/// `e`. A component behind a missing one cannot narrow a range and must be absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Components {
    /// The entity.
    pub e: Option<Entid>,
    /// The attribute.
    pub a: Option<Entid>,
    /// The value.
    pub v: Option<Value>,
    /// The transaction.
    pub tx: Option<TxId>,
}

impl Components {
    /// No components: everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// Narrows to an entity.
    #[must_use]
    pub fn e(self, e: Entid) -> Self {
        Self { e: Some(e), ..self }
    }

    /// Narrows to an attribute.
    #[must_use]
    pub fn a(self, a: Entid) -> Self {
        Self { a: Some(a), ..self }
    }

    /// Narrows to a value.
    #[must_use]
    pub fn v(self, v: Value) -> Self {
        Self { v: Some(v), ..self }
    }

    /// Narrows to a transaction.
    #[must_use]
    pub fn tx(self, tx: TxId) -> Self {
        Self {
            tx: Some(tx),
            ..self
        }
    }

    /// Whether the given components lead in `index` without a gap.
    pub fn lead(&self, index: Index) -> bool {
        let given = [
            self.e.is_some(),
            self.a.is_some(),
            self.v.is_some(),
            self.tx.is_some(),
        ];
        let order = match index {
            Index::Eavt => [0, 1, 2, 3],
            Index::Aevt => [1, 0, 2, 3],
            Index::Avet => [1, 2, 0, 3],
            Index::Log => [3, 0, 1, 2],
        };
        order
            .map(|component| given[component])
            .is_sorted_by(|before, after| before >= after)
    }

    /// Compares these components with those of a datom; equal if the datom begins with them.
    ///
    /// The value is asked for only where it matters.
    pub fn compare(
        &self,
        index: Index,
        e: Entid,
        a: Entid,
        v: impl FnOnce() -> Value,
        tx: TxId,
    ) -> Ordering {
        fn part<T: Ord>(wanted: Option<&T>, got: &T) -> Ordering {
            wanted.map_or(Ordering::Equal, |wanted| wanted.cmp(got))
        }
        let value = || {
            self.v
                .as_ref()
                .map_or(Ordering::Equal, |wanted| wanted.cmp(&v()))
        };
        match index {
            Index::Eavt => part(self.e.as_ref(), &e)
                .then_with(|| part(self.a.as_ref(), &a))
                .then_with(value)
                .then_with(|| part(self.tx.as_ref(), &tx)),
            Index::Aevt => part(self.a.as_ref(), &a)
                .then_with(|| part(self.e.as_ref(), &e))
                .then_with(value)
                .then_with(|| part(self.tx.as_ref(), &tx)),
            Index::Avet => part(self.a.as_ref(), &a)
                .then_with(value)
                .then_with(|| part(self.e.as_ref(), &e))
                .then_with(|| part(self.tx.as_ref(), &tx)),
            Index::Log => part(self.tx.as_ref(), &tx)
                .then_with(|| part(self.e.as_ref(), &e))
                .then_with(|| part(self.a.as_ref(), &a))
                .then_with(value),
        }
    }
}

/// A range of datoms in index order, between two runs of leading components.
///
/// Because a prefix stands for *all* datoms that begin with it, the range of one prefix is
/// `Range::prefix(p)`: from its first datom to its last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Range {
    /// Where the range begins; `None` is the first datom of the tree.
    pub from: Option<Edge>,
    /// Where the range ends; `None` is the last datom of the tree.
    pub to: Option<Edge>,
}

/// One end of a [`Range`].
#[derive(Clone, Debug, PartialEq)]
pub struct Edge {
    /// The components that the end lies at.
    pub at: Components,
    /// Whether datoms that begin with these components belong to the range.
    pub inclusive: bool,
}

impl Range {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// All datoms that begin with these components.
    pub fn prefix(components: Components) -> Self {
        let edge = Edge {
            at: components,
            inclusive: true,
        };
        Self {
            from: Some(edge.clone()),
            to: Some(edge),
        }
    }

    /// The attribute that all datoms of the range have, if both ends name it.
    pub(crate) fn attribute(&self) -> Option<Entid> {
        let (from, to) = (self.from.as_ref()?, self.to.as_ref()?);
        from.at.a.filter(|a| to.at.a == Some(*a))
    }

    /// Where a datom lies: `Less` before the range, `Equal` inside, `Greater` behind.
    pub fn locate(&self, index: Index, datom: &Datom) -> Ordering {
        let side = |edge: &Edge| {
            edge.at
                .compare(index, datom.e, datom.a, || datom.v.clone(), datom.tx)
                .reverse()
        };
        if let Some(from) = &self.from {
            let order = side(from);
            if order.is_lt() || (order.is_eq() && !from.inclusive) {
                return Ordering::Less;
            }
        }
        if let Some(to) = &self.to {
            let order = side(to);
            if order.is_gt() || (order.is_eq() && !to.inclusive) {
                return Ordering::Greater;
            }
        }
        Ordering::Equal
    }
}
