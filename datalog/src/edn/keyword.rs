//! Names: [`Keyword`] (`:ns/name`) and [`Symbol`] (`ns/name`).
//!
//! Both are one shared string, so a clone is a reference count and a comparison is a `memcmp`; the
//! order is by code point of the whole text, which for equal namespaces is the order of the names.

use std::fmt;
use std::sync::Arc;

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Longest text in bytes that databases accept.
            pub const BYTES_MAX: usize = 1024;

            /// Wraps the text of a name, without any leading colon: `ns/name` or `name`.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// Joins a namespace and a name.
            pub fn qualified(namespace: &str, name: &str) -> Self {
                Self(format!("{namespace}/{name}").into())
            }

            /// The whole text, `ns/name`, without a colon.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The shared text, `ns/name`, without a colon.
            pub fn as_arc(&self) -> &Arc<str> {
                &self.0
            }

            /// The part before the slash, if there is one. A lone `/` has no namespace.
            pub fn namespace(&self) -> Option<&str> {
                self.slash().map(|at| &self.0[..at])
            }

            /// The part after the slash, or all of it.
            pub fn name(&self) -> &str {
                self.slash().map_or(&*self.0, |at| &self.0[at + 1..])
            }

            fn slash(&self) -> Option<usize> {
                self.0.find('/').filter(|&at| at > 0 && at + 1 < self.0.len())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

name_type!(
    /// A keyword such as `:person/name`; the text is kept without its colon.
    ///
    /// ```
    /// use datomfusion_datalog::edn::Keyword;
    ///
    /// let keyword = Keyword::new("person/name");
    /// assert_eq!(keyword.namespace(), Some("person"));
    /// assert_eq!(keyword.name(), "name");
    /// assert_eq!(keyword.to_string(), ":person/name");
    /// ```
    Keyword,
    ":"
);
name_type!(
    /// A symbol such as `?e`, `clojure.string/upper-case` or `_`.
    Symbol,
    ""
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_slash_is_a_name() {
        assert_eq!(
            (Symbol::new("/").namespace(), Symbol::new("/").name()),
            (None, "/")
        );
    }
}
