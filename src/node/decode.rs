//! Bytes → nodes. Nothing here trusts its input.
//!
//! Every length is compared with what there is, and every count with a limit, before anything is
//! allocated for it; a node of a few bytes may still claim 65,536 equal datoms, which take some 3 MiB.
//! The order of the datoms is not looked at: that is the business of whoever verifies a tree.

mod value;

use std::borrow::Cow;

use self::value::{
    UNKNOWN_TYPE, big_dec, big_int, double_of, float_of, kind_of, large_of, lies_in_line, tuple,
};
use super::builder::{number_child, other_child, text_child};
use super::column::{read_booleans, read_numbers, read_strings};
use super::frame::{self, BODY_BYTES_MAX, NODE_BYTES_MAX, Opened};
use super::inner::Inner;
use super::large::unread;
use super::leaf::Leaf;
use super::values::{Kind, ValueArray, Values};
use super::{INNER, LEAF, Node, VERSION};
use crate::error::{Error, Result};
use crate::id::{Location, NodeId, PackId};
use crate::store::FrameKind;
use crate::value::ValueType;
use crate::wire::{Malformed, Reader, Result as WireResult};

/// Why a frame could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The bytes are not a node, or not the one that was expected.
    Malformed(&'static str),
    /// The bytes are the right ones, in a format version that is not understood here.
    Newer(u8),
}

impl Fault {
    /// The error to return, which says what object it was.
    pub fn of(self, object: impl ToString) -> Error {
        match self {
            Self::Malformed(reason) => Error::corrupt(object, reason),
            Self::Newer(version) => Error::NewerFormat {
                object: object.to_string(),
                version: u32::from(version),
                supported: u32::from(VERSION),
            },
        }
    }
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.0)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(reason) => f.write_str(reason),
            Self::Newer(version) => write!(f, "format version {version} is too new"),
        }
    }
}

/// Decodes the frame of a node, if it is the node with this identity.
///
/// # Errors
///
/// [`Error::Corrupt`] if the frame is damaged or holds something else, [`Error::NewerFormat`].
pub fn decode(frame: &[u8], expected: NodeId) -> Result<Node> {
    decode_as(frame, Some(expected)).map_err(|fault| fault.of(format!("node {expected}")))
}

/// Decodes the frame of a node that something else vouches for; it may still be malformed.
///
/// # Errors
///
/// What is wrong, for the caller to say with what.
pub fn decode_trusted(frame: &[u8]) -> Result<Node, Fault> {
    decode_as(frame, None)
}

pub(super) fn decode_as(frame: &[u8], expected: Option<NodeId>) -> Result<Node, Fault> {
    let opened = frame::open(frame, NODE_BYTES_MAX)?;
    if expected.is_some_and(|expected| NodeId::of(&opened.raw) != expected) {
        return Err(Fault::Malformed("the content has another hash"));
    }
    decode_opened(opened)
}

pub(super) fn decode_opened(mut opened: Opened<'_>) -> Result<Node, Fault> {
    let node = decode_canonical(&opened.raw)?;
    let hints = &mut opened.hints;
    let node = match (opened.kind, node) {
        (FrameKind::Leaf, Node::Leaf(leaf)) if !leaf.has_large() => {
            read_locations(hints, 0)?;
            Node::Leaf(leaf)
        }
        (FrameKind::Holder, Node::Leaf(leaf)) if leaf.has_large() => {
            let mut locations = read_locations(hints, leaf.larges().len())?.into_iter();
            Node::from(leaf.map_large(|large| unread(large, locations.next().flatten())))
        }
        (FrameKind::Inner, Node::Inner(inner)) => {
            let locations = read_locations(hints, inner.len())?
                .into_iter()
                .collect::<Option<_>>();
            let locations = locations.ok_or(Malformed("a child has no location"))?;
            Node::Inner(inner.with_locations(locations))
        }
        _ => {
            return Err(Fault::Malformed(
                "a frame is of another kind than the node in it",
            ));
        }
    };
    hints.finish()?;
    Ok(node)
}

/// Opens the frame of a large value's body and verifies its hash; whether the leaf that names it says its
/// length, its prefix and that it is text with right is not looked at.
pub(super) fn open_body(frame: &[u8], hash: NodeId) -> WireResult<Cow<'_, [u8]>> {
    let opened = frame::open(frame, BODY_BYTES_MAX)?;
    opened.hints.finish()?;
    if opened.kind != FrameKind::Blob {
        return Err(Malformed("a frame is not that of a large value"));
    }
    if NodeId::of(&opened.raw) != hash {
        return Err(Malformed("the content has another hash"));
    }
    Ok(opened.raw)
}

/// Decodes canonical bytes; the locations in the node are empty.
pub(super) fn decode_canonical(raw: &[u8]) -> Result<Node, Fault> {
    let mut reader = Reader::new(raw);
    let (kind, version) = (reader.u8()?, reader.u8()?);
    if version > VERSION {
        return Err(Fault::Newer(version));
    }
    let mut decoder = Decoder {
        reader,
        budget: NODE_BYTES_MAX,
    };
    let node = match (kind, version) {
        (LEAF, VERSION) => Node::from(decoder.datoms()?),
        (INNER, VERSION) => Node::Inner(decoder.inner()?),
        _ => return Err(Fault::Malformed("bytes are not those of a node")),
    };
    decoder.reader.finish()?;
    Ok(node)
}

struct Decoder<'a> {
    reader: Reader<'a>,
    /// How many bytes byte strings may still take.
    budget: usize,
}

impl Decoder<'_> {
    fn inner(&mut self) -> WireResult<Inner> {
        let level = self.reader.u8()?;
        let last_keys = self.datoms()?;
        let len = last_keys.len();
        let ids = self
            .reader
            .raw(len * NodeId::LEN)?
            .as_chunks()
            .0
            .iter()
            .copied()
            .map(NodeId);
        let ids = ids.collect();
        let counts = read_numbers(&mut self.reader, len)?
            .into_iter()
            .map(|count| u64::try_from(count).map_err(|_| Malformed("a count is negative")))
            .collect::<WireResult<_>>()?;
        let nowhere = Location {
            pack: PackId([0; 16]),
            offset: 0,
            len: 0,
        };
        Inner::from_parts(level, last_keys, ids, counts, vec![nowhere; len]).map_err(Malformed)
    }

    fn datoms(&mut self) -> WireResult<Leaf> {
        let len = usize::try_from(self.reader.varint()?)
            .ok()
            .filter(|&len| len <= Node::DATOMS_MAX)
            .ok_or(Malformed("a node has too many datoms"))?;
        let (kinds, rows_by_kind) = self.kinds(len)?;
        let e = read_numbers(&mut self.reader, len)?;
        let a = read_numbers(&mut self.reader, len)?;
        let mut children = Vec::new();
        for (code, &rows) in (0..).zip(&rows_by_kind) {
            if let Some(kind) = Kind::from_code(code)
                && rows > 0
            {
                children.push(self.values(kind, rows)?);
            }
        }
        let tx = read_numbers(&mut self.reader, len)?;
        let added = read_booleans(&mut self.reader, len)?;
        let added = (added.count_set_bits() < len).then_some(added);
        Ok(Leaf::new(
            e.into(),
            a.into(),
            Values::new(children, kinds),
            tx.into(),
            added,
        ))
    }

    /// The kind of each row unless there is only one, and how many rows there are of each kind.
    fn kinds(&mut self, len: usize) -> WireResult<(Vec<u8>, [usize; Kind::CODES])> {
        let mut rows = [0; Kind::CODES];
        if len == 0 {
            return Ok((Vec::new(), rows));
        }
        let mut probe = self.reader.clone();
        // A constant column is the same whatever its length.
        if probe.u8()? == 0 {
            let code = read_numbers(&mut self.reader, 1)?[0];
            rows[usize::from(kind_of(code)?.code())] = len;
            return Ok((Vec::new(), rows));
        }
        let kinds = read_numbers(&mut self.reader, len)?
            .into_iter()
            .map(|code| {
                let code = kind_of(code)?.code();
                rows[usize::from(code)] += 1;
                Ok(code)
            })
            .collect::<WireResult<Vec<u8>>>()?;
        if rows.iter().filter(|rows| **rows > 0).count() < 2 {
            return Err(Malformed("a column of equal kinds is not constant"));
        }
        Ok((kinds, rows))
    }

    fn values(&mut self, kind: Kind, len: usize) -> WireResult<ValueArray> {
        use ValueType as Type;
        let Some(value_type) = kind.value_type() else {
            return self.large(len);
        };
        Ok(match value_type {
            Type::Boolean => ValueArray::Boolean(read_booleans(&mut self.reader, len)?),
            Type::Long | Type::Instant | Type::Ref => {
                number_child(kind, read_numbers(&mut self.reader, len)?)
            }
            Type::Double => {
                let bits = read_numbers(&mut self.reader, len)?.into_iter();
                ValueArray::Double(bits.map(double_of).collect::<WireResult<Vec<_>>>()?.into())
            }
            Type::Float => {
                let bits = read_numbers(&mut self.reader, len)?.into_iter();
                ValueArray::Float(bits.map(float_of).collect::<WireResult<Vec<_>>>()?.into())
            }
            Type::Uuid => {
                let high = read_numbers(&mut self.reader, len)?;
                let low = read_numbers(&mut self.reader, len)?;
                let half = |half: i64| u128::from(half.cast_unsigned());
                let whole = high
                    .into_iter()
                    .zip(low)
                    .map(|(high, low)| half(high) << 64 | half(low));
                ValueArray::Uuid(whole.collect())
            }
            Type::String | Type::Uri | Type::Keyword | Type::Symbol => {
                let strings = read_strings(&mut self.reader, len, &mut self.budget)?;
                if matches!(value_type, Type::String | Type::Uri) {
                    lies_in_line(strings.len_max())?;
                }
                text_child(kind, strings.into_text()?)
            }
            Type::Bytes => {
                let strings = read_strings(&mut self.reader, len, &mut self.budget)?;
                lies_in_line(strings.len_max())?;
                ValueArray::Bytes(strings.into_bytes()?)
            }
            Type::BigInt => {
                let numbers = read_strings(&mut self.reader, len, &mut self.budget)?;
                other_child(kind, numbers.map(big_int)?)
            }
            Type::BigDec => {
                let scales = read_numbers(&mut self.reader, len)?;
                let digits = read_strings(&mut self.reader, len, &mut self.budget)?;
                let numbers = digits
                    .iter()
                    .zip(scales)
                    .map(|(digits, scale)| big_dec(digits, scale));
                other_child(kind, numbers.collect::<WireResult<_>>()?)
            }
            Type::Tuple => {
                let tuples = read_strings(&mut self.reader, len, &mut self.budget)?;
                other_child(kind, tuples.map(|bytes| tuple(bytes, &mut self.budget))?)
            }
        })
    }

    fn large(&mut self, len: usize) -> WireResult<ValueArray> {
        let types = read_numbers(&mut self.reader, len)?;
        let prefixes = read_strings(&mut self.reader, len, &mut self.budget)?;
        // A dictionary may share prefixes; in memory each value has its own.
        if prefixes.iter().map(<[u8]>::len).sum::<usize>() > NODE_BYTES_MAX {
            return Err(Malformed("large values are longer than a node may be"));
        }
        let hashes = self.reader.raw(len * NodeId::LEN)?.as_chunks().0;
        let lengths = read_numbers(&mut self.reader, len)?;
        let values = prefixes
            .iter()
            .zip(types)
            .zip(hashes.iter().zip(lengths))
            .map(|((prefix, code), (hash, len))| {
                let code = u8::try_from(code).map_err(|_| UNKNOWN_TYPE)?;
                let len = u64::try_from(len).map_err(|_| Malformed("a length is negative"))?;
                large_of(code, prefix, NodeId(*hash), len)
            });
        Ok(ValueArray::Large(
            values.collect::<WireResult<Vec<_>>>()?.into(),
        ))
    }
}

/// Reads as many places as there are things; a hint may be any nonsense, but it must be well formed.
fn read_locations(reader: &mut Reader<'_>, len: usize) -> WireResult<Vec<Option<Location>>> {
    let packs = reader.count(PackId::LEN)?;
    let packs: &[[u8; PackId::LEN]] = reader.raw(packs * PackId::LEN)?.as_chunks().0;
    let mut ends = vec![0u64; packs.len()];
    let mut locations = Vec::with_capacity(len.min(reader.remaining()));
    for _ in 0..len {
        let place = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
        if place == 0 {
            locations.push(None);
            continue;
        }
        let (end, pack) = ends
            .get_mut(place - 1)
            .zip(packs.get(place - 1))
            .ok_or(Malformed("a location is in an unknown pack"))?;
        let offset = end.wrapping_add(reader.zigzag()?.cast_unsigned());
        let len = u32::try_from(reader.varint()?).map_err(|_| Malformed("a frame is too long"))?;
        *end = offset.wrapping_add(u64::from(len));
        locations.push(Some(Location {
            pack: PackId(*pack),
            offset,
            len,
        }));
    }
    Ok(locations)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::TUPLE_DEPTH_MAX;
    use super::super::encode::{canonical, check_limits, encode, encode_body};
    use super::super::leaf::tests::{any_datom, any_datoms};
    use super::super::{Child, Node};
    use super::*;
    use crate::datom::{Datom, Entid, TxId};
    use crate::index::TreeName;
    use crate::value::Value;
    use crate::wire::Writer;

    fn datom(e: i64, v: Value) -> Datom {
        Datom::add(Entid(e), Entid(1), v, TxId::from_t(1))
    }

    fn leaf(values: impl IntoIterator<Item = Value>) -> Node {
        let datoms: Vec<Datom> = (7..).zip(values).map(|(e, v)| datom(e, v)).collect();
        Node::from(Leaf::from_datoms(&datoms))
    }

    fn any_child() -> impl Strategy<Value = Child> {
        let location =
            (0..3u8, any::<u64>(), any::<u32>()).prop_map(|(pack, offset, len)| Location {
                pack: PackId([pack; 16]),
                offset,
                len,
            });
        (any_datom(), any::<[u8; 32]>(), 1..1u64 << 40, location).prop_map(
            |(last, id, count, location)| Child {
                last,
                id: NodeId(id),
                count,
                location,
            },
        )
    }

    fn any_node() -> impl Strategy<Value = Node> {
        let inner = (
            prop::sample::select(TreeName::DATA.to_vec()),
            1..=Inner::LEVEL_MAX,
            prop::collection::vec(any_child(), 1..40),
        )
            .prop_map(|(name, level, children)| {
                Node::Inner(Inner::try_new(name.order(), level, children).unwrap())
            });
        prop_oneof![2 => any_datoms().prop_map(|rows| Node::from(Leaf::from_datoms(&rows))), 1 => inner]
    }

    proptest! {
        #[test]
        fn a_node_comes_back_as_it_was_and_encodes_alike(node in any_node()) {
            let encoded = encode(&node);
            check_limits(&node).unwrap();
            let decoded = decode(&encoded.frame, encoded.id).unwrap();
            prop_assert_eq!(&decoded, &node);
            let again = encode(&decoded);
            prop_assert_eq!((again.id, again.frame), (encoded.id, encoded.frame));
        }

        #[test]
        fn identity_does_not_depend_on_how_a_leaf_was_made(
            rows in any_datoms(), prefix in any_datoms(),
        ) {
            let all = Leaf::from_datoms(prefix.iter().chain(&rows));
            let mut builder = Leaf::builder(0);
            builder.push_run(&all, prefix.len()..all.len());
            let ids = [builder.finish(), Leaf::from_datoms(&rows)]
                .map(|leaf| encode(&Node::from(leaf)).id);
            prop_assert_eq!(ids[0], ids[1]);
        }

        #[test]
        fn hostile_bytes_are_errors_or_nodes(bytes: Vec<u8>, kind in 1..3u8) {
            crate::fuzz::decode_node_untrusted(&bytes);
            crate::fuzz::decode_node_untrusted(&[&[kind, VERSION], &bytes[..]].concat());
        }

        #[test]
        fn mutated_nodes_are_errors_or_nodes(
            node in any_node(), edits in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4),
        ) {
            let mut bytes = canonical(&node);
            for (at, byte) in edits {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            crate::fuzz::decode_node_untrusted(&bytes);
        }

        #[test]
        fn a_large_body_comes_back(text in "\\PC{1024,1200}") {
            let Value::Large(large) = Value::string(text.clone()) else {
                return Ok(());
            };
            let frame = encode_body(text.as_bytes());
            prop_assert_eq!(&*open_body(&frame, large.hash).unwrap(), text.as_bytes());
            let Value::Large(other) = Value::string(format!("{text}!")) else { unreachable!() };
            prop_assert!(open_body(&frame, other.hash).is_err());
        }
    }

    /// A small frame of each kind: a leaf with a hint, an inner node.
    fn samples() -> Vec<(Vec<u8>, NodeId)> {
        let place = Location {
            pack: PackId([5; 16]),
            offset: 24,
            len: 99,
        };
        let Value::Large(long) = Value::string("é".repeat(600)) else {
            unreachable!()
        };
        let long = Value::Large(unread(&long, Some(place)));
        let short = [Value::Long(1), Value::string("Ann"), Value::Boolean(true)];
        let last = datom(9, Value::string("Bob"));
        let child = Child {
            last,
            id: NodeId([3; 32]),
            count: 7,
            location: place,
        };
        let order = TreeName::Eavt.order();
        let inner = Inner::try_new(order, 1, [child.clone(), child]).unwrap();
        [
            leaf(short.clone()),
            leaf(short.into_iter().chain([long])),
            Node::Inner(inner),
        ]
        .map(|node| encode(&node))
        .map(|encoded| (encoded.frame, encoded.id))
        .into()
    }

    #[test]
    fn every_bit_flip_is_detected() {
        for (mut frame, id) in samples() {
            for at in 0..frame.len() {
                for bit in 0..8 {
                    frame[at] ^= 1 << bit;
                    assert!(decode(&frame, id).is_err(), "bit {bit} of byte {at}");
                    frame[at] ^= 1 << bit;
                }
            }
            assert!(decode(&frame, id).is_ok());
        }
    }

    #[test]
    fn every_truncation_and_extension_is_detected() {
        for (mut frame, id) in samples() {
            for len in 0..frame.len() {
                assert!(decode(&frame[..len], id).is_err(), "{len} bytes");
            }
            frame.push(0);
            assert!(decode(&frame, id).is_err());
        }
    }

    #[test]
    fn another_node_is_not_taken_for_the_expected_one() {
        let [one, two] = [1, 2].map(|long| encode(&leaf([Value::Long(long)])));
        assert!(matches!(
            decode(&one.frame, two.id),
            Err(Error::Corrupt { .. })
        ));
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut raw = canonical(&leaf([Value::Long(1)]));
        raw[1] = VERSION + 1;
        let frame = frame::seal(FrameKind::Leaf, &raw, &[0]);
        assert!(matches!(
            decode(&frame, NodeId::of(&raw)),
            Err(Error::NewerFormat {
                version: 2,
                supported: 1,
                ..
            })
        ));
    }

    #[test]
    fn a_node_that_claims_too_much_is_refused_before_it_is_allocated() {
        for len in [Node::DATOMS_MAX as u64 + 1, 1 << 40, u64::MAX] {
            let mut out = Writer::new();
            out.raw(&[LEAF, VERSION]);
            out.varint(len);
            out.raw(&[0; 64]);
            let fault = decode_canonical(out.as_slice()).unwrap_err();
            assert_eq!(fault, Fault::Malformed("a node has too many datoms"));
        }
    }

    #[test]
    fn values_that_are_not_canonical_are_refused() {
        // The canonical bytes of a datom end with its value, its tx and its added.
        let with_value = |code: u8, value: &[u8]| {
            let mut out = Writer::new();
            out.raw(&[LEAF, VERSION, 1, 0]);
            out.zigzag(i64::from(code));
            out.raw(&[0, 2, 0, 2]);
            out.raw(value);
            out.raw(&[0, 2, 1]);
            decode_canonical(out.as_slice())
        };
        let number = |number: i64| {
            let mut out = Writer::new();
            out.u8(0);
            out.zigzag(number);
            out.into_bytes()
        };
        let double = |value: f64| number(super::super::encode::double_bits(value));
        assert!(with_value(2, &number(5)).is_ok());
        assert!(with_value(3, &double(0.5)).is_ok());
        assert!(with_value(3, &double(f64::NAN)).is_err());
        assert!(with_value(3, &double(-0.0)).is_err());
        assert!(
            with_value(4, &number(1 << 40)).is_err(),
            "a float of more than 32 bits"
        );
        assert!(with_value(5, &[0, 0, 2, 5]).is_ok(), "a bigint");
        assert!(
            with_value(5, &[0, 0, 4, 5, 0]).is_err(),
            "a bigint with a superfluous byte"
        );
        assert!(
            with_value(6, &[0, 0, 0, 0, 2, 10]).is_err(),
            "a bigdec with a trailing zero"
        );
        assert!(
            with_value(7, &[0, 0, 2, 0xff]).is_err(),
            "a string that is not UTF-8"
        );
        assert!(with_value(17, &number(5)).is_err(), "an unknown kind");
        let long = [&[0, 0, 0x82, 0x10][..], &[b'x'; 1025]].concat();
        assert!(with_value(8, &long).is_ok(), "a long keyword");
        assert!(with_value(7, &long).is_err(), "a long string in line");
    }

    #[test]
    fn a_tuple_that_unfolds_to_more_than_a_node_is_refused() {
        // A byte a nil is half a megabyte; in memory it would be many times that.
        let nils = leaf([Value::Tuple(vec![None; 500_000].into())]);
        assert!(check_limits(&nils).is_err());
        assert!(decode_canonical(&canonical(&nils)).is_err());
    }

    #[test]
    fn deep_tuples_are_refused() {
        let nested = |depth: usize| {
            (1..depth).fold(Value::Tuple([None].into()), |v, _| {
                Value::Tuple([Some(v)].into())
            })
        };
        let deepest = leaf([nested(TUPLE_DEPTH_MAX)]);
        check_limits(&deepest).unwrap();
        let encoded = encode(&deepest);
        assert_eq!(decode(&encoded.frame, encoded.id).unwrap(), deepest);
        let deeper = leaf([nested(TUPLE_DEPTH_MAX + 1)]);
        assert!(check_limits(&deeper).is_err());
        let encoded = encode(&deeper);
        assert!(decode(&encoded.frame, encoded.id).is_err());
    }

    #[test]
    fn large_values_keep_their_places_even_within_tuples() {
        let large = |fill: &str| Value::string(fill.repeat(2000));
        let tuple = Value::Tuple([None, Some(large("b"))].into());
        let Node::Leaf(leaf) = leaf([large("a"), tuple, Value::Long(1)]) else {
            unreachable!()
        };
        let mut at = 0;
        let placed = leaf.map_large(|large| {
            at += 100;
            unread(
                large,
                Some(Location {
                    pack: PackId([1; 16]),
                    offset: at,
                    len: 10,
                }),
            )
        });
        let encoded = encode(&Node::from(placed));
        let Node::Leaf(decoded) = decode(&encoded.frame, encoded.id).unwrap() else {
            unreachable!()
        };
        let offsets: Vec<_> = decoded
            .larges()
            .iter()
            .map(|l| l.location.unwrap().offset)
            .collect();
        assert_eq!(offsets, [100, 200]);
        assert_eq!(
            encoded.id,
            encode(&Node::Leaf(leaf)).id,
            "places are no part of identity"
        );
    }
}
