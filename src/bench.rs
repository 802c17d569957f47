//! What benches reach below the interface. No part of it: anything here may change.

pub use crate::index::{Range, TreeName};
pub use crate::node::{Loader, Loads, NodeWriter};
#[cfg(feature = "query")]
pub use crate::query::Stages;
pub use crate::tree::{
    Builder, Change, Difference, Direction, Edited, Fault, LeafSlice, Report, Root, Scan, Tree,
    build, build_stream, count, diff, edit, first, get, last, rank, scan, split, verify,
};

/// What has been loaded for a value, and for others that share its loader.
pub fn loads(db: &crate::Db) -> Loads {
    db.loader().loads()
}
