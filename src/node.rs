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

pub mod builder;
mod column;
pub mod inner;
pub mod leaf;
pub mod values;

pub use builder::LeafBuilder;
pub use inner::{Child, Inner};
pub use leaf::Leaf;
pub use values::{Kind, ValueArray, Values};

/// A node of a tree.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Datoms.
    Leaf(Leaf),
    /// Nodes one level below.
    Inner(Inner),
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
