//! Nodes → bytes. `FORMAT.md` beside this file specifies them.
//!
//! **Invariant.** The canonical bytes are a function of the datoms (and, above the leaves, of the ids and
//! counts of the children) alone: not of how a leaf was put together, nor of where things lie.

use arrow_array::{Array, StringViewArray};
use num_bigint::BigInt;

use super::column::{low_half, write_booleans, write_numbers, write_strings};
use super::frame::{self, BODY_BYTES_MAX, NODE_BYTES_MAX};
use super::inner::Inner;
use super::leaf::Leaf;
use super::values::{Kind, ValueArray};
use super::{ELEMENT_BYTES, INNER, LEAF, Node, TUPLE_DEPTH_MAX, VERSION};
use crate::error::{Error, Result};
use crate::id::{Location, NodeId};
use crate::store::FrameKind;
use crate::value::{Large, Value};
use crate::wire::Writer;

/// An encoded node.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// What the frame holds.
    pub kind: FrameKind,
    /// The hash of the canonical bytes.
    pub id: NodeId,
    /// What to put into a pack.
    pub frame: Vec<u8>,
    /// How many canonical bytes there are.
    pub raw_bytes: usize,
}

/// Encodes a node. Hints are taken from the node: [`Large::location`] and [`Inner::locations`].
///
/// A node that [`check_limits`] refuses is encoded all the same, but cannot be decoded.
pub fn encode(node: &Node) -> Encoded {
    let raw = canonical(node);
    let mut hints = Writer::new();
    let kind = match node {
        Node::Leaf(leaf) => {
            write_locations(
                &mut hints,
                leaf.larges().into_iter().map(|large| large.location),
            );
            if leaf.has_large() {
                FrameKind::Holder
            } else {
                FrameKind::Leaf
            }
        }
        Node::Inner(inner) => {
            write_locations(&mut hints, inner.locations().iter().copied().map(Some));
            FrameKind::Inner
        }
    };
    let id = NodeId::of(&raw);
    Encoded {
        kind,
        id,
        frame: frame::seal(kind, &raw, hints.as_slice()),
        raw_bytes: raw.len(),
    }
}

/// Encodes the body of a large value as a frame.
pub(super) fn encode_body(body: &[u8]) -> Vec<u8> {
    frame::seal(FrameKind::Blob, body, &[])
}

/// The bytes whose hash is the identity of a node.
pub(super) fn canonical(node: &Node) -> Vec<u8> {
    let mut out = Writer::new();
    match node {
        Node::Leaf(leaf) => {
            out.raw(&[LEAF, VERSION]);
            write_datoms(&mut out, leaf);
        }
        Node::Inner(inner) => {
            out.raw(&[INNER, VERSION, inner.level()]);
            write_inner(&mut out, inner);
        }
    }
    out.into_bytes()
}

/// Checks that a node can be decoded once it is encoded.
///
/// # Errors
///
/// [`Error::Invalid`] if it has too many datoms, too many bytes, too long a body or too deep a tuple.
pub fn check_limits(node: &Node) -> Result<()> {
    let datoms = match node {
        Node::Leaf(leaf) => leaf,
        Node::Inner(inner) => inner.last_keys(),
    };
    if datoms.len() > Node::DATOMS_MAX {
        return Err(Error::invalid(format!(
            "a node holds at most {} datoms, not {}",
            Node::DATOMS_MAX,
            datoms.len()
        )));
    }
    let values = datoms.values();
    let tuples: &[Value] = match values.child(Kind::TUPLE) {
        Some(ValueArray::Tuple(tuples)) => tuples,
        _ => &[],
    };
    let value_bytes = (0..datoms.len())
        .map(|i| values.logical_bytes(i))
        .sum::<usize>()
        + tuples.iter().map(elements).sum::<usize>() * ELEMENT_BYTES;
    // What a datom takes beside its value is far below 64 bytes, and below 128 with a child.
    if value_bytes + 128 * datoms.len() > NODE_BYTES_MAX {
        return Err(Error::invalid(format!(
            "the values of a node take at most {NODE_BYTES_MAX} bytes, not {value_bytes}"
        )));
    }
    if tuples.iter().any(|tuple| depth(tuple) > TUPLE_DEPTH_MAX) {
        return Err(Error::invalid(format!(
            "a tuple is nested deeper than {TUPLE_DEPTH_MAX}"
        )));
    }
    match datoms.larges().iter().map(|large| large.len).max() {
        Some(longest) if longest > BODY_BYTES_MAX as u64 => Err(Error::invalid(format!(
            "a value has at most {BODY_BYTES_MAX} bytes, not {longest}"
        ))),
        _ => Ok(()),
    }
}

/// How many elements there are in a tuple and the tuples within.
fn elements(value: &Value) -> usize {
    match value {
        Value::Tuple(parts) => parts.len() + parts.iter().flatten().map(elements).sum::<usize>(),
        _ => 0,
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Tuple(elements) => 1 + elements.iter().flatten().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn write_inner(out: &mut Writer, inner: &Inner) {
    write_datoms(out, inner.last_keys());
    inner.ids().iter().for_each(|id| out.raw(&id.0));
    let counts: Vec<i64> = inner
        .counts()
        .iter()
        .map(|count| count.cast_signed())
        .collect();
    write_numbers(out, &counts);
}

fn write_datoms(out: &mut Writer, leaf: &Leaf) {
    let values = leaf.values();
    out.count(leaf.len());
    match values.kinds() {
        Some(kinds) => {
            write_numbers(
                out,
                &kinds
                    .iter()
                    .map(|&kind| i64::from(kind))
                    .collect::<Vec<_>>(),
            );
        }
        None if leaf.is_empty() => {}
        None => write_numbers(out, &[i64::from(values.kind(0).code())]),
    }
    write_numbers(out, leaf.e());
    write_numbers(out, leaf.a());
    values
        .children()
        .iter()
        .for_each(|child| write_values(out, child));
    write_numbers(out, leaf.tx());
    write_booleans(out, leaf.added(), leaf.len());
}

fn write_values(out: &mut Writer, child: &ValueArray) {
    match child {
        ValueArray::Boolean(values) => write_booleans(out, Some(values), values.len()),
        ValueArray::Long(values) | ValueArray::Instant(values) | ValueArray::Ref(values) => {
            write_numbers(out, values);
        }
        ValueArray::Double(values) => {
            write_numbers(
                out,
                &values
                    .iter()
                    .map(|value| double_bits(*value))
                    .collect::<Vec<_>>(),
            );
        }
        ValueArray::Float(values) => {
            write_numbers(
                out,
                &values
                    .iter()
                    .map(|value| float_bits(*value))
                    .collect::<Vec<_>>(),
            );
        }
        ValueArray::Uuid(values) => {
            let halves = |shift: u32| -> Vec<i64> {
                values
                    .iter()
                    .map(|value| low_half(value >> shift).cast_signed())
                    .collect()
            };
            write_numbers(out, &halves(64));
            write_numbers(out, &halves(0));
        }
        ValueArray::String(values)
        | ValueArray::Keyword(values)
        | ValueArray::Symbol(values)
        | ValueArray::Uri(values) => write_text(out, values),
        ValueArray::Bytes(values) => {
            write_strings(
                out,
                &(0..values.len())
                    .map(|i| values.value(i))
                    .collect::<Vec<_>>(),
            );
        }
        ValueArray::BigInt(values) => write_owned(
            out,
            values.iter().map(|value| match value {
                Value::BigInt(number) => number.to_signed_bytes_le(),
                _ => unreachable!("a child holds one kind"),
            }),
        ),
        ValueArray::BigDec(values) => {
            let parts: Vec<(BigInt, i64)> = values
                .iter()
                .map(|value| match value {
                    Value::BigDec(number) => number.as_bigint_and_exponent(),
                    _ => unreachable!("a child holds one kind"),
                })
                .collect();
            write_numbers(
                out,
                &parts.iter().map(|(_, scale)| *scale).collect::<Vec<_>>(),
            );
            write_owned(
                out,
                parts.iter().map(|(digits, _)| digits.to_signed_bytes_le()),
            );
        }
        ValueArray::Tuple(values) => write_owned(
            out,
            values.iter().map(|value| {
                let mut element = Writer::new();
                write_value(&mut element, value);
                element.into_bytes()
            }),
        ),
        ValueArray::Large(values) => {
            let column = |of: fn(&Large) -> i64| -> Vec<i64> {
                values.iter().map(|large| of(large)).collect()
            };
            write_numbers(out, &column(|large| i64::from(large.value_type as u8)));
            write_strings(
                out,
                &values
                    .iter()
                    .map(|large| &*large.prefix)
                    .collect::<Vec<_>>(),
            );
            values.iter().for_each(|large| out.raw(&large.hash.0));
            write_numbers(out, &column(|large| large.len.cast_signed()));
        }
    }
}

fn write_text(out: &mut Writer, values: &StringViewArray) {
    write_strings(
        out,
        &(0..values.len())
            .map(|i| values.value(i).as_bytes())
            .collect::<Vec<_>>(),
    );
}

fn write_owned(out: &mut Writer, values: impl Iterator<Item = Vec<u8>>) {
    let values: Vec<Vec<u8>> = values.collect();
    write_strings(out, &values.iter().map(Vec::as_slice).collect::<Vec<_>>());
}

/// The bits of a double as a number that ascends as the doubles do.
pub(super) fn double_bits(value: f64) -> i64 {
    let bits = value.to_bits().cast_signed();
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

/// The bits of a float as a number that ascends as the floats do.
pub(super) fn float_bits(value: f32) -> i64 {
    let bits = value.to_bits().cast_signed();
    i64::from(bits ^ ((bits >> 31).cast_unsigned() >> 1).cast_signed())
}

/// One value behind its kind: the elements of tuples.
fn write_value(out: &mut Writer, value: &Value) {
    out.u8(Kind::of(value).code());
    match value {
        Value::Boolean(value) => out.u8(u8::from(*value)),
        Value::Long(value) | Value::Instant(value) => out.zigzag(*value),
        Value::Ref(value) => out.zigzag(value.0),
        Value::Double(value) => out.u64(value.to_bits()),
        Value::Float(value) => out.u32(value.to_bits()),
        Value::BigInt(value) => out.bytes(&value.to_signed_bytes_le()),
        Value::BigDec(value) => {
            let (digits, scale) = value.as_bigint_and_exponent();
            out.zigzag(scale);
            out.bytes(&digits.to_signed_bytes_le());
        }
        Value::String(value) | Value::Uri(value) => out.bytes(value.as_bytes()),
        Value::Keyword(value) => out.bytes(value.as_str().as_bytes()),
        Value::Symbol(value) => out.bytes(value.as_str().as_bytes()),
        Value::Uuid(value) => out.raw(&value.to_be_bytes()),
        Value::Bytes(value) => out.bytes(value),
        Value::Tuple(elements) => {
            out.count(elements.len());
            for element in elements.iter() {
                match element {
                    Some(element) => write_value(out, element),
                    None => out.u8(0),
                }
            }
        }
        Value::Large(large) => {
            out.u8(large.value_type as u8);
            out.bytes(&large.prefix);
            out.raw(&large.hash.0);
            out.varint(large.len);
        }
    }
}

/// The distinct packs, then each place as a pack, the distance from the end of the place before it in
/// that pack, and a length: neighbours in a pack take four bytes or so.
fn write_locations(out: &mut Writer, locations: impl Iterator<Item = Option<Location>>) {
    let locations: Vec<Option<Location>> = locations.collect();
    let mut packs: Vec<_> = locations
        .iter()
        .flatten()
        .map(|location| location.pack)
        .collect();
    packs.sort_unstable();
    packs.dedup();
    out.count(packs.len());
    for pack in &packs {
        out.raw(&pack.0);
    }
    let mut ends = vec![0u64; packs.len()];
    for location in locations {
        let Some(Location { pack, offset, len }) = location else {
            out.u8(0);
            continue;
        };
        let place = packs.binary_search(&pack).expect("the packs are complete");
        out.count(place + 1);
        out.zigzag(offset.wrapping_sub(ends[place]).cast_signed());
        out.varint(u64::from(len));
        ends[place] = offset.wrapping_add(u64::from(len));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Child;
    use super::*;
    use crate::datom::{Datom, Entid, TxId};
    use crate::id::PackId;
    use crate::index::TreeName;

    const FORMAT: &str = include_str!("FORMAT.md");

    /// The bytes of a dump in `FORMAT.md`: hexadecimal digits before a semicolon, a comment behind it.
    fn dump(name: &str) -> Vec<u8> {
        let (_, dump) = FORMAT
            .split_once(&format!("```{name}\n"))
            .expect("the dump exists");
        let (dump, _) = dump.split_once("```").expect("the dump ends");
        let digits: String = dump
            .lines()
            .filter_map(|line| line.split(';').next())
            .flat_map(str::chars)
            .filter(|c| !c.is_whitespace())
            .collect();
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(byte).collect()
    }

    fn hex(bytes: &[u8]) -> String {
        let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        digits.join(" ")
    }

    fn documented_leaf() -> Node {
        let datom = |e, a, v| Datom::add(Entid(e), Entid(a), v, TxId::from_t(1));
        Node::from(Leaf::from_datoms(&[
            datom(1024, 72, Value::string("Ann")),
            datom(1024, 73, Value::Long(42)),
            Datom {
                added: false,
                ..datom(1025, 72, Value::string("Bob"))
            },
        ]))
    }

    fn documented_inner() -> Node {
        let leaf = encode(&documented_leaf());
        let location = |offset| Location {
            pack: PackId(*b"0123456789abcdef"),
            offset,
            len: u32::try_from(leaf.frame.len()).unwrap(),
        };
        let last = Datom::add(
            Entid(1025),
            Entid(72),
            Value::string("Bob"),
            TxId::from_t(1),
        );
        let child = Child {
            last,
            id: leaf.id,
            count: 3,
            location: location(24),
        };
        let next = Child {
            last: Datom {
                e: Entid(1030),
                ..child.last.clone()
            },
            id: NodeId::of(b"another"),
            location: location(24 + leaf.frame.len() as u64),
            ..child.clone()
        };
        Node::Inner(Inner::try_new(TreeName::Eavt.order(), 1, [child, next]).unwrap())
    }

    #[test]
    fn the_format_is_the_documented_one() {
        for (name, node) in [("leaf", documented_leaf()), ("inner", documented_inner())] {
            let raw = canonical(&node);
            let documented = dump(name);
            assert_eq!(hex(&raw), hex(&documented), "{name}");
            let frame = encode(&node).frame;
            assert_eq!(
                hex(&frame),
                hex(&dump(&format!("{name}-frame"))),
                "{name} frame"
            );
        }
    }
}
