//! EDN: the notation of schemas, transactions and queries.

mod keyword;

pub use keyword::{Keyword, Symbol};
