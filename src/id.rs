//! Identities: what names a node, a commit, a pack, a database and a branch.
//!
//! Each is its own type, so that a commit can never be asked for where a node is meant. All are plain
//! bytes: nothing here knows where the named thing lies.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, Result};

macro_rules! bytes_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $bytes;
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                let mut bytes = [0; $bytes];
                if !decode_hex(text, &mut bytes) {
                    return Err(Error::invalid(format!(
                        "{text:?} is not {} hexadecimal digits",
                        2 * $bytes
                    )));
                }
                Ok(Self(bytes))
            }
        }
    };
}

bytes_id!(
    /// BLAKE3-256 of a node's canonical uncompressed bytes, or of an out-of-line value.
    NodeId,
    32
);
bytes_id!(
    /// The hash half of a [`CommitId`].
    CommitHash,
    32
);
bytes_id!(
    /// 128 random bits that name a pack.
    PackId,
    16
);
bytes_id!(
    /// 128 random bits that name a database for its whole life, in every store that holds a copy.
    DatabaseId,
    16
);

impl NodeId {
    /// Hashes canonical bytes.
    pub fn of(canonical: &[u8]) -> Self {
        Self(*blake3::hash(canonical).as_bytes())
    }
}

/// Where a frame lies: a hint, because content is found by identity and verified on read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The pack.
    pub pack: PackId,
    /// Where the frame begins in the pack, in bytes.
    pub offset: u64,
    /// Length of the frame in bytes.
    pub len: u32,
}

/// A commit: its `t` and a hash over parents, instant, data and a nonce. Printed `t-hex`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId {
    /// The basis `t` of the commit.
    pub t: u64,
    /// The hash that makes it unique.
    pub hash: CommitHash,
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.t, self.hash)
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of a branch: 1 to 200 bytes of text without control characters.
///
/// What a backend allows as a key is the business of `store::layout`, which escapes the name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BranchName(Arc<str>);

impl BranchName {
    /// Longest name, in bytes.
    pub const BYTES_MAX: usize = 200;

    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the name is empty, too long or holds a control character.
    pub fn try_new(name: &str) -> Result<Self> {
        if name.is_empty() || name.len() > Self::BYTES_MAX || name.chars().any(char::is_control) {
            return Err(Error::invalid(format!(
                "a branch name has 1 to {} bytes and no control characters, got {} bytes",
                Self::BYTES_MAX,
                name.len()
            )));
        }
        Ok(Self(name.into()))
    }

    /// Checks the name of a branch that is about to be made. Heads keep any name apart from others and within their
    /// directory; a name that other tools would take for a way elsewhere, or for a device, is refused all the same.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if a part between slashes is empty, `.`, `..` or what Windows calls a device.
    pub(crate) fn must_be_plain(&self) -> Result<()> {
        let refused = self.0.split(['/', '\\']).find(|part| {
            let stem = part.split('.').next().unwrap_or_default();
            matches!(*part, "" | "." | "..") || is_device(&stem.to_ascii_lowercase())
        });
        match refused {
            None => Ok(()),
            Some("") => Err(Error::invalid(format!(
                "{self} cannot be the name of a new branch: it begins or ends with a slash, or has two in a row"
            ))),
            Some(part) => Err(Error::invalid(format!(
                "{self} cannot be the name of a new branch: systems have another meaning for {part}, so choose another"
            ))),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Names, in lower case, that Windows takes for a device in every directory.
pub(crate) fn is_device(part: &str) -> bool {
    matches!(
        part.as_bytes(),
        b"con"
            | b"prn"
            | b"aux"
            | b"nul"
            | [b'c', b'o', b'm', b'0'..=b'9']
            | [b'l', b'p', b't', b'0'..=b'9']
    )
}

impl Default for BranchName {
    /// `main`.
    fn default() -> Self {
        Self("main".into())
    }
}

impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

fn decode_hex(text: &str, out: &mut [u8]) -> bool {
    text.len() == 2 * out.len()
        && text.is_ascii()
        && out
            .iter_mut()
            .zip(text.as_bytes().chunks_exact(2))
            .all(|(byte, pair)| {
                std::str::from_utf8(pair)
                    .ok()
                    .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                    .map(|parsed| *byte = parsed)
                    .is_some()
                    && pair[0] != b'+'
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_round_trips_and_refuses_the_rest() {
        let id = PackId(*b"0123456789abcdef");
        assert_eq!(id.to_string().parse::<PackId>().unwrap(), id);
        for bad in ["", "00", &"+1".repeat(16), &"zz".repeat(16)] {
            assert!(bad.parse::<PackId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn branch_names_are_bounded() {
        assert!(
            BranchName::try_new("../x").is_ok(),
            "escaping is the layout's business"
        );
        assert!(BranchName::try_new("").is_err());
        assert!(BranchName::try_new("a\nb").is_err());
        assert!(BranchName::try_new(&"x".repeat(1 << 20)).is_err());
    }

    #[test]
    fn new_branches_have_names_that_no_system_misunderstands() {
        let check = |name| BranchName::try_new(name).and_then(|name| name.must_be_plain());
        for refused in [
            "../x", "..", ".", "a/../b", "a/./b", "/etc", "a/", "a//b", "..\\x", "CON", "con",
            "nul.txt", "a/Aux", "LPT1",
        ] {
            assert!(check(refused).is_err(), "{refused}");
        }
        for plain in [
            "main",
            "dev/ä",
            "...",
            ".hidden",
            "release-1.0",
            "console",
            "com",
            "lpt10",
            "a..b",
        ] {
            assert!(check(plain).is_ok(), "{plain}");
        }
    }
}
