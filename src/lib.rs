#![doc = include_str!("../README.md")]
#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the floors document each other; what leaves the house is listed here"
)]

#[doc(hidden)]
pub mod bench;
#[cfg(feature = "query")]
mod catalog;
#[cfg(feature = "cli")]
pub mod cli;
mod conn;
mod datom;
mod db;
mod environment;
mod error;
#[cfg(feature = "query")]
mod federation;
#[doc(hidden)]
pub mod fuzz;
mod gc;
mod id;
mod index;
mod node;
#[cfg(feature = "query")]
mod provider;
#[cfg(feature = "query")]
mod query;
mod schema;
mod store;
mod sync;
mod tree;
mod tx;
mod value;
mod wire;

pub use conn::{
    Branch, Branches, Commit, Conflict, ConflictKind, Connection, MergeOutcome, MergeReport,
    MergeStrategy, Purge, PurgeReport, Resolution, commit_graph,
};
pub use datom::{Datom, Entid, TxId};
pub use datomfusion_datalog::Term;
pub use datomfusion_datalog::edn;
#[cfg(feature = "query")]
pub use datomfusion_datalog::{Answer, Functions, Optimizations, Rows};
pub use db::basis::{BasisPart, BasisSpec, TimePoint, split_url};
pub use db::{
    Change, ChangeCount, Db, Depth, Fault, Progress, Stage, Transaction, TreeSize, Verification,
};
#[cfg(not(target_family = "wasm"))]
pub use environment::System;
pub use environment::{Environment, Seeded};
pub use error::{Error, Result, StoreFailure};
#[cfg(feature = "query")]
pub use federation::Federation;
#[cfg(not(target_family = "wasm"))]
pub use gc::gc;
pub use gc::gc_in;
pub use gc::{GcOptions, GcReport, Packs, Retention};
pub use id::{BranchName, CommitHash, CommitId, DatabaseId, Location, NodeId, PackId};
pub use index::{Components, Index, TreeName};
#[cfg(feature = "query")]
pub use query::{Inputs, Prepared};
pub use schema::{Attribute, Cardinality, EntityRef, LookupRef, Schema, Unique};
#[cfg(any(test, feature = "conformance"))]
pub use store::conformance;
pub use store::{
    CasOutcome, Footer, FooterEntry, FrameKind, HeadStore, HeadVersion, MemoryHeads, ObjectHeads,
    PackInfo, PackWriter, Requests, Store, read_footer,
};
#[cfg(feature = "fs")]
pub use store::{DiskCache, DiskUsage, FileHeads, FileObjects};
#[cfg(feature = "ws")]
pub use store::{SyncServer, SyncToken, serve_sync};
#[cfg(not(target_family = "wasm"))]
pub use sync::sync;
pub use sync::{SyncOptions, SyncOutcome, SyncReport, follow, sync_in, sync_watched};
pub use tree::{Difference, Size};
pub use tx::{Import, TempId, TransactionFunctions, TxData, TxReport};
pub use value::{Large, Value, ValueType};
