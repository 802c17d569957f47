//! EDN: the notation of schemas, transactions and queries.
//!
//! The ground floor of the house: nothing here knows of datoms or queries. [`read`] and [`Reader`] turn
//! text into [`Form`]s, which know where they stood; [`Display`](std::fmt::Display) turns them back.
//!
//! What is read is what Clojure reads, with these differences:
//!
//! - `'x` is read as `(quote x)`, because arguments of queries are often written so;
//! - `#"a+"` is read as `#regex "a+"`, because patterns are arguments of queries too;
//! - `^metadata` is read and dropped;
//! - ratios, octal integers such as `017`, and doubles that overflow are refused;
//! - nesting ends at [`DEPTH_MAX`], numbers at 4096 digits, names at 4096 bytes.

mod instant;
mod keyword;
mod printer;
mod reader;
mod value;

pub use instant::{format_instant, parse_instant};
pub use keyword::{Keyword, Symbol};
pub use reader::{DEPTH_MAX, Reader, read, read_all};
pub use value::{Edn, Form};
