//! Databases as catalogs of DataFusion, and SQL as this crate reads it.

mod checked;
mod cooperative;
pub(crate) mod metaschema;
pub(crate) mod session;
pub(crate) mod time_travel;
