//! DatomFusion.

mod datom;
mod error;
mod id;
mod index;
mod node;
mod schema;
mod store;
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
