//! DatomFusion.

#[cfg(feature = "query")]
mod catalog;
mod datom;
mod db;
mod error;
mod id;
mod index;
mod schema;
mod value;
mod wire;
