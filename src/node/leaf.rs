//! A leaf: datoms as columns.
//!
//! A leaf does not know in which order its rows are: whoever searches one says so. It knows nothing of
//! schema either; every row carries the type of its value.

use std::cmp::Ordering;
use std::ops::Range;

use arrow_buffer::{BooleanBuffer, ScalarBuffer};

use super::builder::LeafBuilder;
use super::values::Values;
use crate::datom::{Datom, Entid, TxId};
use crate::index::{self, Components, Edge, Index, TreeOrder};

/// Datoms as columns of equal length. Clones share the columns.
#[derive(Clone, Debug)]
pub struct Leaf {
    e: ScalarBuffer<i64>,
    a: ScalarBuffer<i64>,
    values: Values,
    tx: ScalarBuffer<i64>,
    added: Option<BooleanBuffer>,
    /// Whether each entity is the one before plus one.
    #[cfg(feature = "query")]
    is_gapless: bool,
}

impl Leaf {
    pub(super) fn new(
        e: ScalarBuffer<i64>,
        a: ScalarBuffer<i64>,
        values: Values,
        tx: ScalarBuffer<i64>,
        added: Option<BooleanBuffer>,
    ) -> Self {
        // INVARIANT: all columns are equally long, and `added` exists only if something is retracted.
        assert!(
            e.len() == a.len()
                && e.len() == values.len()
                && e.len() == tx.len()
                && added.as_ref().is_none_or(|added| added.len() == e.len()),
            "columns are equally long"
        );
        debug_assert!(
            added
                .as_ref()
                .is_none_or(|added| added.count_set_bits() < added.len())
        );
        Self {
            #[cfg(feature = "query")]
            is_gapless: e
                .windows(2)
                .all(|pair| pair[0].checked_add(1) == Some(pair[1])),
            e,
            a,
            values,
            tx,
            added,
        }
    }

    /// The same datoms with other, equal values.
    pub(super) fn with_values(&self, values: Values) -> Self {
        Self {
            values,
            ..self.clone()
        }
    }

    /// A leaf of these datoms, in this order.
    pub fn from_datoms<'a>(datoms: impl IntoIterator<Item = &'a Datom>) -> Self {
        let datoms = datoms.into_iter();
        let mut builder = Self::builder(datoms.size_hint().0);
        datoms.for_each(|datom| builder.push(datom));
        builder.finish()
    }

    /// A builder with room for `rows` datoms.
    pub fn builder(rows: usize) -> LeafBuilder {
        LeafBuilder::with_capacity(rows)
    }

    /// How many datoms.
    pub fn len(&self) -> usize {
        self.e.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.e.is_empty()
    }

    /// The entities.
    pub fn e(&self) -> &ScalarBuffer<i64> {
        &self.e
    }

    /// Whether each entity is the one before plus one, as an import makes them.
    #[cfg(feature = "query")]
    pub fn is_gapless(&self) -> bool {
        self.is_gapless
    }

    /// The attributes.
    pub fn a(&self) -> &ScalarBuffer<i64> {
        &self.a
    }

    /// The values.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// The transactions, as entity ids.
    pub fn tx(&self) -> &ScalarBuffer<i64> {
        &self.tx
    }

    /// Which datoms are assertions; `None` if all are.
    pub fn added(&self) -> Option<&BooleanBuffer> {
        self.added.as_ref()
    }

    /// Whether datom `i` is an assertion.
    pub fn is_added(&self, i: usize) -> bool {
        self.added.as_ref().is_none_or(|added| added.value(i))
    }

    /// Datom `i`. Text is copied; for many rows use the columns.
    ///
    /// # Panics
    ///
    /// If `i` is out of range.
    pub fn datom(&self, i: usize) -> Datom {
        Datom {
            e: Entid(self.e[i]),
            a: Entid(self.a[i]),
            v: self.values.value(i),
            tx: TxId(Entid(self.tx[i])),
            added: self.is_added(i),
        }
    }

    /// All datoms, in row order.
    #[cfg(test)]
    pub fn datoms(&self) -> impl DoubleEndedIterator<Item = Datom> + ExactSizeIterator {
        (0..self.len()).map(|i| self.datom(i))
    }

    /// Compares datom `i` with a datom, by the key of `order`.
    pub fn compare(&self, i: usize, order: TreeOrder, key: &Datom) -> Ordering {
        let e = || self.e[i].cmp(&key.e.0);
        let a = || self.a[i].cmp(&key.a.0);
        let v = || self.values.compare(i, &key.v);
        let tx = || self.tx[i].cmp(&key.tx.0.0);
        let fact = match order.index {
            Index::Eavt => e().then_with(a).then_with(v),
            Index::Aevt => a().then_with(e).then_with(v),
            Index::Avet => a().then_with(v).then_with(e),
            Index::Log => tx().then_with(e).then_with(a).then_with(v),
        };
        if order.keys_tx {
            fact.then_with(tx)
                .then_with(|| self.is_added(i).cmp(&key.added))
        } else {
            fact
        }
    }

    /// Compares datom `i` with datom `j` of another leaf (or of this one), by the key of `order`.
    #[allow(
        clippy::many_single_char_names,
        reason = "e, a, v are what they are called"
    )]
    pub fn compare_with(&self, i: usize, order: TreeOrder, other: &Self, j: usize) -> Ordering {
        let e = || self.e[i].cmp(&other.e[j]);
        let a = || self.a[i].cmp(&other.a[j]);
        let v = || self.values.compare_with(i, &other.values, j);
        let tx = || self.tx[i].cmp(&other.tx[j]);
        let fact = match order.index {
            Index::Eavt => e().then_with(a).then_with(v),
            Index::Aevt => a().then_with(e).then_with(v),
            Index::Avet => a().then_with(v).then_with(e),
            Index::Log => tx().then_with(e).then_with(a).then_with(v),
        };
        if order.keys_tx {
            fact.then_with(tx)
                .then_with(|| self.is_added(i).cmp(&other.is_added(j)))
        } else {
            fact
        }
    }

    /// Where datom `i` lies: `Less` before the range, `Equal` inside, `Greater` behind.
    pub fn locate(&self, i: usize, index: Index, range: &index::Range) -> Ordering {
        if range
            .from
            .as_ref()
            .is_some_and(|from| self.lies_before(i, index, from))
        {
            Ordering::Less
        } else if range
            .to
            .as_ref()
            .is_some_and(|to| self.lies_behind(i, index, to))
        {
            Ordering::Greater
        } else {
            Ordering::Equal
        }
    }

    /// The rows that lie in a range, found by binary search; the rows must be in the order of `index`.
    pub fn range(&self, index: Index, range: &index::Range) -> Range<usize> {
        // Most leaves of a scan lie whole within the range: look at their ends first.
        let len = self.len();
        let start = match &range.from {
            Some(from) if len > 0 && self.lies_before(0, index, from) => {
                partition_point(1..len, |i| self.lies_before(i, index, from))
            }
            _ => 0,
        };
        let end = match &range.to {
            Some(to) if start < len && self.lies_behind(len - 1, index, to) => {
                partition_point(start..len - 1, |i| !self.lies_behind(i, index, to))
            }
            _ => len,
        };
        start..end
    }

    /// The first row that is not before `key`; the rows must be in this order.
    pub fn lower_bound(&self, order: TreeOrder, key: &Datom) -> usize {
        partition_point(0..self.len(), |i| self.compare(i, order, key).is_lt())
    }

    /// Bytes of memory held, approximately.
    pub fn memory_bytes(&self) -> usize {
        let numbers = [&self.e, &self.a, &self.tx].map(|column| column.inner().capacity());
        let added = self
            .added
            .as_ref()
            .map_or(0, |added| added.inner().capacity());
        numbers.iter().sum::<usize>() + added + self.values.memory_bytes() + size_of::<Self>()
    }

    fn lies_before(&self, i: usize, index: Index, from: &Edge) -> bool {
        let order = self.compare_prefix(i, index, &from.at);
        order.is_lt() || (order.is_eq() && !from.inclusive)
    }

    fn lies_behind(&self, i: usize, index: Index, to: &Edge) -> bool {
        let order = self.compare_prefix(i, index, &to.at);
        order.is_gt() || (order.is_eq() && !to.inclusive)
    }

    /// Compares datom `i` with leading components; equal if it begins with them.
    pub fn compare_prefix(&self, i: usize, index: Index, prefix: &Components) -> Ordering {
        let number = |column: &ScalarBuffer<i64>, wanted: Option<Entid>| {
            wanted.map_or(Ordering::Equal, |wanted| column[i].cmp(&wanted.0))
        };
        let e = || number(&self.e, prefix.e);
        let a = || number(&self.a, prefix.a);
        let tx = || number(&self.tx, prefix.tx.map(|tx| tx.0));
        let v = || {
            prefix
                .v
                .as_ref()
                .map_or(Ordering::Equal, |v| self.values.compare(i, v))
        };
        match index {
            Index::Eavt => e().then_with(a).then_with(v).then_with(tx),
            Index::Aevt => a().then_with(e).then_with(v).then_with(tx),
            Index::Avet => a().then_with(v).then_with(e).then_with(tx),
            Index::Log => tx().then_with(e).then_with(a).then_with(v),
        }
    }
}

impl PartialEq for Leaf {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.e == other.e
            && self.a == other.a
            && self.tx == other.tx
            && (0..self.len()).all(|i| {
                self.is_added(i) == other.is_added(i)
                    && self.values.compare_with(i, &other.values, i).is_eq()
            })
    }
}

/// The first of `rows` for which `before` does not hold; those for which it holds must come first.
pub fn partition_point(rows: Range<usize>, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (rows.start, rows.end);
    while low < high {
        let middle = low.midpoint(high);
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::{Range as IndexRange, TreeName};
    use crate::value::Value;
    use crate::value::tests::any_value;

    /// Datoms that collide often in every component.
    pub(crate) fn any_datom() -> impl Strategy<Value = Datom> {
        let number = || prop_oneof![9 => 0..6i64, 1 => any::<i64>()];
        (
            number(),
            number(),
            any_value(),
            number(),
            prop::bool::weighted(0.8),
        )
            .prop_map(|(e, a, v, tx, added)| Datom {
                e: Entid(e),
                a: Entid(a),
                v,
                tx: TxId(Entid(tx)),
                added,
            })
    }

    pub(crate) fn any_datoms() -> impl Strategy<Value = Vec<Datom>> {
        let longs = prop::collection::vec((any_datom(), any::<i64>()), 0..60).prop_map(|rows| {
            rows.into_iter()
                .map(|(datom, long)| Datom {
                    v: Value::Long(long),
                    ..datom
                })
                .collect::<Vec<_>>()
        });
        prop_oneof![4 => prop::collection::vec(any_datom(), 0..40), 1 => longs]
    }

    fn any_order() -> impl Strategy<Value = TreeName> {
        prop::sample::select(TreeName::DATA.to_vec())
    }

    proptest! {
        #[test]
        fn a_leaf_holds_the_datoms_it_was_made_of(datoms in any_datoms()) {
            let leaf = Leaf::from_datoms(&datoms);
            prop_assert_eq!(leaf.len(), datoms.len());
            prop_assert_eq!(leaf.datoms().collect::<Vec<_>>(), datoms);
        }

        #[test]
        fn runs_of_leaves_join_as_their_datoms(datoms in any_datoms(), cuts: (usize, usize)) {
            let leaf = Leaf::from_datoms(&datoms);
            let mut cuts = [cuts.0, cuts.1].map(|cut| cut % (datoms.len() + 1));
            cuts.sort_unstable();
            let mut builder = Leaf::builder(0);
            builder.push_run(&leaf, cuts[1]..datoms.len());
            datoms[..cuts[0]].iter().for_each(|datom| builder.push(datom));
            builder.push_run(&leaf, cuts[0]..cuts[1]);
            let rotated = [&datoms[cuts[1]..], &datoms[..cuts[1]]].concat();
            prop_assert_eq!(builder.finish(), Leaf::from_datoms(&rotated));
        }

        #[test]
        fn rows_compare_as_their_datoms(
            left in any_datoms(), right in any_datoms(), name in any_order(),
        ) {
            let (a, b) = (Leaf::from_datoms(&left), Leaf::from_datoms(&right));
            for (i, datom) in left.iter().enumerate() {
                for (j, key) in right.iter().enumerate() {
                    let expected = name.order().compare(datom, key);
                    prop_assert_eq!(a.compare(i, name.order(), key), expected);
                    prop_assert_eq!(a.compare_with(i, name.order(), &b, j), expected);
                }
            }
        }

        #[test]
        fn a_range_holds_the_rows_that_it_locates(
            mut datoms in any_datoms(), name in any_order(), edges in prop::collection::vec(
                (any_datom(), 0..5usize, any::<bool>()), 2),
        ) {
            let (index, order) = (name.index(), name.order());
            datoms.sort_by(|left, right| order.compare(left, right));
            let leaf = Leaf::from_datoms(&datoms);
            let edge = |(datom, parts, inclusive): &(Datom, usize, bool)| Edge {
                at: leading(index, datom, *parts),
                inclusive: *inclusive,
            };
            let range = IndexRange { from: Some(edge(&edges[0])), to: Some(edge(&edges[1])) };
            // A prefix of tx counts for trees of current facts only where e a v decide before it.
            let rows = leaf.range(index, &range);
            for (i, datom) in datoms.iter().enumerate() {
                prop_assert_eq!(leaf.locate(i, index, &range), range.locate(index, datom));
                if name.order().keys_tx {
                    prop_assert_eq!(rows.contains(&i), range.locate(index, datom).is_eq());
                }
            }
        }

        #[test]
        fn a_slice_is_one_kind_or_nothing(datoms in any_datoms(), cuts: (usize, usize)) {
            let leaf = Leaf::from_datoms(&datoms);
            let mut cuts = [cuts.0, cuts.1].map(|cut| cut % (datoms.len() + 1));
            cuts.sort_unstable();
            let rows = &datoms[cuts[0]..cuts[1]];
            let kinds = |datom: &Datom| super::super::values::Kind::of(&datom.v);
            let one_kind = !rows.is_empty() && rows.iter().all(|row| kinds(row) == kinds(&rows[0]));
            let slice = leaf.values().slice(cuts[0]..cuts[1]);
            prop_assert_eq!(slice.is_some(), one_kind);
            if let Some(slice) = slice {
                let values: Vec<Value> = (0..slice.len()).map(|i| slice.value(i)).collect();
                prop_assert_eq!(values, rows.iter().map(|row| row.v.clone()).collect::<Vec<_>>());
            }
        }
    }

    /// The first `parts` components of a datom.
    fn leading(index: Index, datom: &Datom, parts: usize) -> Components {
        let order = match index {
            Index::Eavt => ['e', 'a', 'v', 't'],
            Index::Aevt => ['a', 'e', 'v', 't'],
            Index::Avet => ['a', 'v', 'e', 't'],
            Index::Log => ['t', 'e', 'a', 'v'],
        };
        order[..parts.min(4)]
            .iter()
            .fold(Components::all(), |components, part| match part {
                'e' => components.e(datom.e),
                'a' => components.a(datom.a),
                'v' => components.v(datom.v.clone()),
                _ => components.tx(datom.tx),
            })
    }
}
