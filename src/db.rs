//! The database as a value.

pub mod basis;
