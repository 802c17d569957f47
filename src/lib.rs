//! DatomFusion.

#[cfg(feature = "query")]
mod catalog;
mod conn;
mod datom;
mod db;
mod environment;
mod error;
mod id;
mod index;
mod node;
mod schema;
mod store;
mod tree;
mod tx;
mod value;
mod wire;

pub use error::{Error, Result, StoreFailure};
pub use id::{BranchName, CommitHash, CommitId, DatabaseId, Location, NodeId, PackId};
#[cfg(any(test, feature = "conformance"))]
pub use store::conformance;
pub use store::{
    CasOutcome, Footer, FooterEntry, FrameKind, HeadStore, HeadVersion, MemoryHeads, ObjectHeads,
    PackInfo, PackWriter, Requests, Store, read_footer,
};
#[cfg(feature = "fs")]
pub use store::{FileHeads, FileObjects};
