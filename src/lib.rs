//! DatomFusion.

mod datom;
mod error;
mod id;
mod index;
mod node;
mod schema;
mod value;
mod wire;
