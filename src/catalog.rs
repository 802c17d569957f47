//! Databases as catalogs of DataFusion, and SQL as this crate reads it.

pub(crate) mod time_travel;
