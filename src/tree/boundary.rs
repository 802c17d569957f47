//! Where a node ends: decided by content, so that equal contents make equal trees.
//!
//! Each level of a tree is one sequence, cut into nodes from left to right. Whether a cut lies between two
//! neighbours depends on the items since the previous cut and on nothing else, and a cut clears that
//! memory. So an edit changes nodes from the touched one onwards only until a new cut falls on an old one;
//! and whatever the order of edits, the cuts are those that a bulk build of the same datoms would make.
//!
//! All arithmetic is on integers and all bytes that are hashed are spelled out below: every machine cuts
//! alike. Changing anything here changes roots, and needs a new version of the node format.
//!
//! # Leaves of EAVT and AEVT: between entities
//!
//! A cut lies only where the entity changes (in AEVT the attribute or the entity), so an entity's datoms,
//! or its values of one attribute, share a leaf. After an entity with `k` datoms in the leaf there is a cut
//! if the leaf has at least `count_min` datoms and `hash(e) < k · 2⁶⁴ / period`. The hash is of `e` alone:
//! in AEVT, attributes of the same entities therefore split at the same entities, and a scan over several
//! of them can zip aligned leaves. The factor `k` keeps the size of leaves independent of the number of
//! datoms an entity has; since the condition for one datom implies that for `k`, it leaves alignment alone.
//!
//! # Leaves of AVET, of history and of the log: by size
//!
//! Any two datoms may be parted. A leaf of `x` logical bytes that grows to `y` ends there if
//! `hash(key) < (y⁴ − x⁴) · 2⁶⁴ / L⁴`: the hazard of a Weibull distribution of shape 4 and scale `L`, which
//! makes leaves of about 0.9 `L` bytes and hardly any of more than 2 `L`. Below `L` / 4 nothing ends. Logical
//! bytes are additive (24 a datom and the value's), never the encoded size, which depends on neighbours.
//!
//! # Inner nodes
//!
//! The same rule over children, each 256 units long; the hash is of the child's last key.
//!
//! # Limits
//!
//! A leaf of 1 MiB logical size, or of `count_max` datoms, ends as soon as its rule allows a cut at all; at
//! 65 536 datoms or 4 MiB it ends at once, inside an entity if need be. An inner node has at most 1024
//! children and 1 MiB of keys, and at least two children so that every level is smaller than the one below.

use std::ops::Range;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::datom::{Datom, Entid};
use crate::index::{Index, TreeName};
use crate::node::{Child, Leaf, ValueArray};
use crate::value::{Value, ValueType};

/// Logical bytes of a datom besides its value.
const DATOM_BYTES: u64 = 24;
/// Logical bytes of a child besides the value in its last key.
const CHILD_BYTES: u64 = 64;
/// Length of a child in the size rule.
const CHILD_UNITS: u64 = 256;

/// What bounds the nodes of one tree. Production uses [`Limits::of`]; tests shrink it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Where leaves end.
    pub leaf: LeafRule,
    /// Logical bytes after which a leaf ends at the next chance.
    pub leaf_bytes_soft: u64,
    /// Logical bytes after which a leaf ends at once.
    pub leaf_bytes_hard: u64,
    /// Datoms after which a leaf ends at once.
    pub leaf_datoms_hard: u64,
    /// Binary logarithm of the scale of inner nodes, in units of 1/256 child.
    pub inner_scale_log2: u32,
    /// Children after which an inner node ends.
    pub inner_children_max: u64,
    /// Logical bytes of keys after which an inner node ends.
    pub inner_bytes_max: u64,
}

/// Where the leaves of a tree end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeafRule {
    /// Between entities.
    Entities {
        /// Datoms before which no leaf ends.
        count_min: u64,
        /// Datoms to one cut, on average, beyond `count_min`.
        period: u64,
        /// Datoms after which a leaf ends with the entity.
        count_max: u64,
    },
    /// Between any two datoms, by logical size.
    Bytes {
        /// Binary logarithm of the scale, in bytes.
        scale_log2: u32,
    },
}

impl Limits {
    /// The limits of a tree. Part of the format: they decide its root.
    ///
    /// AEVT, the order of scans, has leaves of about 4096 datoms; EAVT and AVET, the orders of look-ups,
    /// about 1024 (of 8-byte values); the log, which is written and read in runs, about twice that.
    pub(crate) const fn of(name: TreeName) -> Self {
        let leaf = match name {
            TreeName::Eavt => LeafRule::Entities {
                count_min: 128,
                period: 896,
                count_max: 4096,
            },
            TreeName::Aevt => LeafRule::Entities {
                count_min: 512,
                period: 3584,
                count_max: 16384,
            },
            TreeName::Avet
            | TreeName::HistoryEavt
            | TreeName::HistoryAevt
            | TreeName::HistoryAvet
            | TreeName::Commits => LeafRule::Bytes { scale_log2: 15 },
            TreeName::Log => LeafRule::Bytes { scale_log2: 16 },
        };
        Self {
            leaf,
            leaf_bytes_soft: 1 << 20,
            leaf_bytes_hard: 4 << 20,
            leaf_datoms_hard: 65_536,
            inner_scale_log2: 16,
            inner_children_max: 1024,
            inner_bytes_max: 1 << 20,
        }
    }
}

/// Cuts the datoms of a tree into leaves.
#[derive(Debug)]
pub(crate) struct LeafCutter {
    limits: Limits,
    index: Index,
    keys_tx: bool,
    seed: u64,
    /// Datoms since the last cut.
    count: u64,
    /// Their logical bytes.
    bytes: u64,
    /// The entity, with the attribute in AEVT, of the last datom, and how many datoms it has here.
    entity: (i64, i64),
    entity_count: u64,
    /// Whether the leaf ends after the last datom whatever follows.
    due: bool,
    scratch: Vec<u8>,
}

impl LeafCutter {
    /// A cutter at the start of a leaf.
    pub(crate) fn new(name: TreeName, limits: Limits) -> Self {
        Self {
            limits,
            index: name.index(),
            keys_tx: name.order().keys_tx,
            seed: seed(name, 0),
            count: 0,
            bytes: 0,
            entity: (0, 0),
            entity_count: 0,
            due: false,
            scratch: Vec::new(),
        }
    }

    /// Takes the next datom and says whether a leaf ends before it.
    pub(crate) fn push(&mut self, datom: &Datom) -> bool {
        let size = DATOM_BYTES + datom.v.logical_bytes() as u64;
        let keys_tx = self.keys_tx;
        self.step(datom.e.0, datom.a.0, size, |key| {
            write_key(datom, keys_tx, key);
        })
    }

    /// Takes row `i` of a leaf and says whether a leaf ends before it.
    pub(crate) fn push_row(&mut self, leaf: &Leaf, i: usize) -> bool {
        let size = DATOM_BYTES + leaf.values().logical_bytes(i) as u64;
        let keys_tx = self.keys_tx;
        self.step(leaf.e()[i], leaf.a()[i], size, |key| {
            write_row_key(leaf, i, keys_tx, key);
        })
    }

    /// Takes rows of which it is known that no leaf ends before or after any of them.
    pub(crate) fn skip(&mut self, leaf: &Leaf, rows: Range<usize>) {
        let Some(last) = rows.clone().next_back() else {
            return;
        };
        self.count += rows.len() as u64;
        let value_bytes: usize = rows.clone().map(|i| leaf.values().logical_bytes(i)).sum();
        self.bytes += rows.len() as u64 * DATOM_BYTES + value_bytes as u64;
        if self.by_entity() {
            let entity = |i: usize| self.entity_of(leaf.e()[i], leaf.a()[i]);
            let of_last = entity(last);
            let run = rows
                .clone()
                .rev()
                .take_while(|&i| entity(i) == of_last)
                .count();
            let earlier = if run == rows.len() && of_last == self.entity {
                self.entity_count
            } else {
                0
            };
            self.entity = of_last;
            self.entity_count = earlier + run as u64;
        }
    }

    /// Whether cuts lie between entities and depend on them alone.
    pub(crate) fn by_entity(&self) -> bool {
        matches!(self.limits.leaf, LeafRule::Entities { .. })
    }

    /// Whether two datoms, neighbours in this order, may have to share a leaf.
    pub(crate) fn together(&self, left: &Datom, right: &Datom) -> bool {
        self.by_entity() && left.e == right.e && (self.index != Index::Aevt || left.a == right.a)
    }

    /// Whether this whole leaf ended for its size alone, and so perhaps inside an entity.
    pub(crate) fn may_part_entity(&self, leaf: &Leaf) -> bool {
        self.by_entity() && {
            let rows = leaf.len() as u64;
            let bytes = || {
                let values = (0..leaf.len()).map(|i| leaf.values().logical_bytes(i) as u64);
                rows * DATOM_BYTES + values.sum::<u64>()
            };
            rows >= self.limits.leaf_datoms_hard || bytes() >= self.limits.leaf_bytes_hard
        }
    }

    /// Whether the leaf ends here, if what follows is another entity.
    pub(crate) fn ends(&self) -> bool {
        self.count > 0 && (self.due || self.entity_ends())
    }

    /// Whether the leaf ends here whatever follows.
    pub(crate) fn ends_at_once(&self) -> bool {
        self.due
    }

    /// Starts a leaf.
    pub(crate) fn clear(&mut self) {
        (self.count, self.bytes, self.entity_count, self.due) = (0, 0, 0, false);
    }

    #[inline]
    fn step(&mut self, e: i64, a: i64, size: u64, key: impl FnOnce(&mut Vec<u8>)) -> bool {
        let entity = self.entity_of(e, a);
        let other = self.by_entity() && entity != self.entity;
        let cut = self.due || (other && self.count > 0 && self.entity_ends());
        if cut {
            self.clear();
        }
        if other || cut {
            self.entity = entity;
            self.entity_count = 0;
        }
        let from = self.bytes;
        self.count += 1;
        self.entity_count += 1;
        self.bytes += size;
        self.due =
            self.count >= self.limits.leaf_datoms_hard || self.bytes >= self.limits.leaf_bytes_hard;
        if let LeafRule::Bytes { scale_log2 } = self.limits.leaf
            && !self.due
            && self.bytes >= 1 << (scale_log2 - 2)
        {
            self.due = self.bytes >= self.limits.leaf_bytes_soft || {
                key(&mut self.scratch);
                xxh3_64_with_seed(&self.scratch, self.seed) < weibull(from, self.bytes, scale_log2)
            };
        }
        cut
    }

    fn entity_of(&self, e: i64, a: i64) -> (i64, i64) {
        (e, if self.index == Index::Aevt { a } else { 0 })
    }

    fn entity_ends(&self) -> bool {
        let LeafRule::Entities {
            count_min,
            period,
            count_max,
        } = self.limits.leaf
        else {
            return false;
        };
        if self.count >= count_max || self.bytes >= self.limits.leaf_bytes_soft {
            return true;
        }
        self.count >= count_min && {
            let threshold = (u64::MAX / period).saturating_mul(self.entity_count);
            xxh3_64_with_seed(&self.entity.0.to_le_bytes(), self.seed) < threshold
        }
    }
}

/// Cuts the children of one level into inner nodes.
#[derive(Debug)]
pub(crate) struct InnerCutter {
    limits: Limits,
    keys_tx: bool,
    seed: u64,
    count: u64,
    bytes: u64,
    due: bool,
    scratch: Vec<u8>,
}

impl InnerCutter {
    /// A cutter at the start of a node of this level.
    pub(crate) fn new(name: TreeName, level: u8, limits: Limits) -> Self {
        Self {
            limits,
            keys_tx: name.order().keys_tx,
            seed: seed(name, level),
            count: 0,
            bytes: 0,
            due: false,
            scratch: Vec::new(),
        }
    }

    /// Takes the next child and says whether a node ends before it.
    pub(crate) fn push(&mut self, child: &Child) -> bool {
        let cut = self.due;
        if cut {
            self.clear();
        }
        let Limits {
            inner_scale_log2,
            inner_children_max,
            inner_bytes_max,
            ..
        } = self.limits;
        self.count += 1;
        self.bytes += CHILD_BYTES + child.last.v.logical_bytes() as u64;
        self.due = self.count >= 2
            && (self.count >= inner_children_max || self.bytes >= inner_bytes_max || {
                write_key(&child.last, self.keys_tx, &mut self.scratch);
                let units = self.count * CHILD_UNITS;
                xxh3_64_with_seed(&self.scratch, self.seed)
                    < weibull(units - CHILD_UNITS, units, inner_scale_log2)
            });
        cut
    }

    /// Whether the node ends here.
    pub(crate) fn ends(&self) -> bool {
        self.due
    }

    /// Starts a node.
    pub(crate) fn clear(&mut self) {
        (self.count, self.bytes, self.due) = (0, 0, false);
    }
}

/// The seed of the hash on one level of one tree.
///
/// Without it, the last key of a leaf, chosen for its small hash, would end the inner node above as well.
fn seed(name: TreeName, level: u8) -> u64 {
    let code = match name {
        TreeName::Eavt => 1,
        TreeName::Aevt => 2,
        TreeName::Avet => 3,
        TreeName::HistoryEavt => 4,
        TreeName::HistoryAevt => 5,
        TreeName::HistoryAvet => 6,
        TreeName::Log => 7,
        TreeName::Commits => 8,
    };
    xxh3_64(&[code, level])
}

/// The largest hash, plus one, that ends a node growing from `from` to `to` on the scale 2^`scale_log2`.
fn weibull(from: u64, to: u64, scale_log2: u32) -> u64 {
    // Beyond 2 L the hazard of even one byte is high; beyond 2³⁰ the fourth power would overflow.
    let fourth = |x: u64| u128::from(x.min(1 << 30)).pow(4);
    let grown = fourth(to) - fourth(from);
    let threshold = match 4 * scale_log2 {
        bits @ 0..64 => grown
            .checked_shl(64 - bits)
            .filter(|up| up >> (64 - bits) == grown),
        bits => Some(grown.checked_shr(bits - 64).unwrap_or(0)),
    };
    threshold
        .and_then(|threshold| u64::try_from(threshold).ok())
        .unwrap_or(u64::MAX)
}

/// The bytes of a key that are hashed: `e`, `a` (8 bytes each), `tx` (8) and `added` (1) where they are part
/// of the key, the type's code (1), the value. Integers are little-endian.
///
/// The order is the same in all indexes; seeds keep them apart.
fn write_key(datom: &Datom, keys_tx: bool, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&datom.e.0.to_le_bytes());
    out.extend_from_slice(&datom.a.0.to_le_bytes());
    if keys_tx {
        out.extend_from_slice(&datom.tx.0.0.to_le_bytes());
        out.push(u8::from(datom.added));
    }
    write_value(&datom.v, out);
}

/// The same bytes from a row of a leaf, without a [`Value`] in between where that is cheap.
fn write_row_key(leaf: &Leaf, i: usize, keys_tx: bool, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&leaf.e()[i].to_le_bytes());
    out.extend_from_slice(&leaf.a()[i].to_le_bytes());
    if keys_tx {
        out.extend_from_slice(&leaf.tx()[i].to_le_bytes());
        out.push(u8::from(leaf.is_added(i)));
    }
    let (values, at) = leaf.values().at(i);
    let mut text = |code: ValueType, text: &str| {
        out.push(code as u8);
        out.extend_from_slice(text.as_bytes());
    };
    match values {
        ValueArray::String(values) => text(ValueType::String, values.value(at)),
        ValueArray::Keyword(values) => text(ValueType::Keyword, values.value(at)),
        ValueArray::Symbol(values) => text(ValueType::Symbol, values.value(at)),
        ValueArray::Uri(values) => text(ValueType::Uri, values.value(at)),
        _ => write_value(&values.value(at), out),
    }
}

/// A value's type code and its bytes: numbers little-endian, a float's bits, a bigint in two's complement, a
/// bigdec's exponent before its digits, text as UTF-8, of a large value the prefix and the hash; a tuple's
/// elements are each a length (4 bytes) and their own bytes, nil being empty.
fn write_value(value: &Value, out: &mut Vec<u8>) {
    out.push(value.value_type() as u8);
    match value {
        Value::Boolean(truth) => out.push(u8::from(*truth)),
        Value::Long(number) | Value::Instant(number) | Value::Ref(Entid(number)) => {
            out.extend_from_slice(&number.to_le_bytes());
        }
        Value::Double(number) => out.extend_from_slice(&number.to_bits().to_le_bytes()),
        Value::Float(number) => out.extend_from_slice(&number.to_bits().to_le_bytes()),
        Value::BigInt(number) => out.extend_from_slice(&number.to_signed_bytes_le()),
        Value::BigDec(number) => {
            let (digits, exponent) = number.as_bigint_and_exponent();
            out.extend_from_slice(&exponent.to_le_bytes());
            out.extend_from_slice(&digits.to_signed_bytes_le());
        }
        Value::String(text) | Value::Uri(text) => out.extend_from_slice(text.as_bytes()),
        Value::Keyword(keyword) => out.extend_from_slice(keyword.as_str().as_bytes()),
        Value::Symbol(symbol) => out.extend_from_slice(symbol.as_str().as_bytes()),
        Value::Uuid(number) => out.extend_from_slice(&number.to_le_bytes()),
        Value::Bytes(bytes) => out.extend_from_slice(bytes),
        Value::Large(large) => {
            out.extend_from_slice(&large.prefix);
            out.extend_from_slice(&large.hash.0);
        }
        Value::Tuple(elements) => {
            for element in elements.iter() {
                let at = out.len();
                out.extend_from_slice(&[0; 4]);
                if let Some(element) = element {
                    write_value(element, out);
                }
                let len = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
                out[at..at + 4].copy_from_slice(&len.to_le_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datom::TxId;

    fn long(e: i64, a: i64, v: i64) -> Datom {
        Datom::add(Entid(e), Entid(a), Value::Long(v), TxId(Entid(0)))
    }

    /// The lengths of the leaves that these datoms make, without the last.
    fn lens(name: TreeName, datoms: impl Iterator<Item = Datom>) -> Vec<u64> {
        let mut cutter = LeafCutter::new(name, Limits::of(name));
        let (mut lens, mut len) = (Vec::new(), 0);
        for datom in datoms {
            if cutter.push(&datom) {
                lens.push(std::mem::take(&mut len));
            }
            len += 1;
        }
        lens
    }

    fn mean(lens: &[u64]) -> u64 {
        lens.iter().sum::<u64>() / lens.len() as u64
    }

    #[test]
    fn leaves_have_the_intended_sizes() {
        let values = |i: i64| long(i, 7, i);
        for (name, wanted) in [
            (TreeName::Eavt, 900..1150),
            (TreeName::Aevt, 3600..4600),
            (TreeName::Avet, 850..1000),
            (TreeName::HistoryAevt, 850..1000),
            (TreeName::Log, 1700..2000),
        ] {
            let lens = lens(name, (0..1_000_000).map(values));
            assert!(wanted.contains(&mean(&lens)), "{name}: {}", mean(&lens));
        }
        // However many facts an entity has.
        for facts in [5, 30] {
            let lens = lens(
                TreeName::Eavt,
                (0..1_000_000).map(|i| long(i / facts, i % facts, 0)),
            );
            assert!(
                (900..1150).contains(&mean(&lens)),
                "{facts}: {}",
                mean(&lens)
            );
        }
    }

    #[test]
    fn entities_share_a_leaf_until_they_outgrow_it() {
        let facts = 900;
        let wide = lens(
            TreeName::Eavt,
            (0..100_000).map(|i| long(i / facts, i % facts, 0)),
        );
        assert!(wide.iter().all(|len| len % 900 == 0));
        let one = lens(TreeName::Eavt, (0..200_000).map(|i| long(1, 1, i)));
        assert_eq!(one, [65_536; 3]);
        let text = Value::string("x".repeat(1000));
        let long = (0..9000).map(|i| Datom {
            v: text.clone(),
            ..long(1, i, 0)
        });
        assert_eq!(lens(TreeName::Eavt, long), [(4 << 20) / 1024; 2]);
    }

    #[test]
    fn attributes_of_the_same_entities_split_at_the_same_entities() {
        let ends = |a: i64, step: i64| {
            let mut cutter = LeafCutter::new(TreeName::Aevt, Limits::of(TreeName::Aevt));
            let entities = (0..400_000i64).step_by(usize::try_from(step).unwrap());
            entities
                .filter(|e| cutter.push(&long(*e, a, e % 10)))
                .collect::<Vec<_>>()
        };
        let full = ends(1, 1);
        assert_eq!(full, ends(2, 1));
        let half = ends(3, 2);
        let shared = half
            .iter()
            .filter(|e| full.contains(e) || full.contains(&(**e - 1)));
        assert!(shared.count() * 10 >= half.len() * 8, "{half:?} {full:?}");
    }

    #[test]
    fn every_row_is_hashed_as_its_datom() {
        let values = [
            Value::Boolean(true),
            Value::Long(-5),
            Value::string("é"),
            Value::string("x".repeat(2000)),
            Value::bytes(vec![1, 2]),
            Value::big_int(300.into()).unwrap(),
            Value::Tuple([Some(Value::Long(1)), None].into()),
            Value::uri("u:"),
        ];
        let datoms: Vec<Datom> = values
            .into_iter()
            .map(|v| Datom::retract(Entid(1), Entid(2), v, TxId(Entid(3))))
            .collect();
        let leaf = Leaf::from_datoms(&datoms);
        for (i, datom) in datoms.iter().enumerate() {
            let (mut from_row, mut from_datom) = (Vec::new(), Vec::new());
            write_row_key(&leaf, i, true, &mut from_row);
            write_key(datom, true, &mut from_datom);
            assert_eq!(from_row, from_datom);
        }
    }

    /// These numbers decide roots: if they change, stored trees are no longer canonical.
    #[test]
    fn boundaries_never_move() {
        let head = |name| lens(name, (0..30_000).map(|i| long(i, 7, i)))[..4].to_vec();
        let heads = [
            TreeName::Eavt,
            TreeName::Aevt,
            TreeName::Avet,
            TreeName::Log,
        ]
        .map(head);
        let expected = [
            [256, 264, 555, 2381],
            [778, 2403, 4060, 2767],
            [923, 1214, 761, 837],
            [2662, 1806, 1600, 1161],
        ];
        assert_eq!(heads, expected);
        assert_eq!(weibull(0, 1 << 15, 15), u64::MAX);
        assert_eq!(weibull(1 << 14, (1 << 14) + 32, 15), 9_033_621_910_323_200);
        assert_eq!(weibull(256, 512, 16), (512u64.pow(4)) - 256u64.pow(4));
    }
}
