//! DatomFusion.

mod datom;
mod error;
mod id;
mod index;
mod schema;
mod value;
mod wire;
