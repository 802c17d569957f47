//! Nodes of a tree: datoms as columns, and the inner nodes above them.
//!
//! ```text
//!              Inner   last keys │ ids │ counts │ where the children lie
//!             ╱     ╲
//!        Leaf        Leaf        e │ a │ v │ tx │ added
//! ```
//!
//! Above [`store`](crate::store), which moves bytes; below the tree, which decides where nodes end. A node
//! knows neither its tree nor its order.

mod audit;
pub mod builder;
mod column;
mod decode;
mod encode;
mod frame;
pub mod inner;
mod large;
pub mod leaf;
pub mod loader;
pub mod values;
pub mod writer;

use std::sync::Arc;

pub use audit::Body;
pub use builder::LeafBuilder;
pub use decode::{Fault, decode, decode_trusted};
pub use encode::{Encoded, check_limits, encode};
pub use inner::{Child, Inner};
pub use leaf::{Leaf, partition_point};
pub use loader::{Era, Loader, Loads};
#[cfg(feature = "query")]
pub use values::Kind;
pub use values::ValueArray;
pub use writer::NodeWriter;

/// The newest format version of canonical bytes.
const VERSION: u8 = 1;
/// First byte of the canonical bytes of a leaf.
const LEAF: u8 = 1;
/// First byte of the canonical bytes of an inner node.
const INNER: u8 = 2;
/// How deep tuples may be nested within tuples.
const TUPLE_DEPTH_MAX: usize = 8;
/// What an element of a tuple takes in memory, in bytes: it counts towards the limit of a node.
const ELEMENT_BYTES: usize = 32;

/// A node of a tree.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "nodes are held by Arcs of their own"
)]
pub enum Node {
    /// Datoms. Scans share leaves.
    Leaf(Arc<Leaf>),
    /// Nodes one level below.
    Inner(Inner),
}

impl From<Leaf> for Node {
    fn from(leaf: Leaf) -> Self {
        Self::Leaf(Arc::new(leaf))
    }
}

impl Node {
    /// Most datoms of a leaf.
    pub const DATOMS_MAX: usize = 65_536;

    /// Height above the leaves.
    pub fn level(&self) -> u8 {
        match self {
            Self::Leaf(_) => 0,
            Self::Inner(inner) => inner.level(),
        }
    }

    /// How many datoms lie here or below.
    pub fn count(&self) -> u64 {
        match self {
            Self::Leaf(leaf) => leaf.len() as u64,
            Self::Inner(inner) => inner.count(),
        }
    }

    /// Bytes of memory held, approximately.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.memory_bytes(),
            Self::Inner(inner) => inner.memory_bytes(),
        }
    }
}

/// Decodes bytes without asking for their hash: as canonical bytes, and as a frame without its checksum.
/// Whatever they are, this must neither panic nor allocate much.
pub(crate) fn decode_untrusted(bytes: &[u8]) {
    let bare = decode::decode_canonical(bytes);
    let framed = frame::open_body(bytes, frame::NODE_BYTES_MAX)
        .map_err(Fault::from)
        .and_then(decode::decode_opened);
    for node in [bare, framed].into_iter().flatten() {
        // What was decoded can be encoded, and is then itself. Hostile bytes may share more of their text
        // than an encoder would, so that what they stand for is too long.
        let encoded = encode(&node);
        if check_limits(&node).is_ok() {
            assert_eq!(decode(&encoded.frame, encoded.id).ok(), Some(node));
        }
    }
}
