//! EDN: the notation of schemas, transactions and queries.

mod keyword;
mod value;

pub use keyword::{Keyword, Symbol};
pub use value::{Edn, Form};
