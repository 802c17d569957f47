//! The secret that both ends of a connection know.

use std::fmt;

use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::error::{Error, Result};

/// Where the secret is looked for.
const VARIABLE: &str = "DATOMFUSION_SYNC_TOKEN";
/// Fewer characters than this are guessed.
const CHARS_MIN: usize = 16;

/// The bearer token of a sync server: whoever shows it is served. It is never printed.
#[derive(Clone)]
pub struct SyncToken(String);

impl SyncToken {
    /// A token of at least 16 letters, digits and other visible characters of ASCII.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if it is shorter, or has other characters.
    pub fn try_new(token: impl Into<String>) -> Result<Self> {
        let token = token.into();
        if token.len() < CHARS_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::invalid(format!(
                "a token of sync has at least {CHARS_MIN} visible characters of ASCII; see {VARIABLE}"
            )));
        }
        Ok(Self(token))
    }

    /// The token in `DATOMFUSION_SYNC_TOKEN`, if it is set and not empty.
    ///
    /// # Errors
    ///
    /// As [`try_new`](Self::try_new).
    pub fn from_environment() -> Result<Option<Self>> {
        match std::env::var_os(VARIABLE) {
            None => Ok(None),
            Some(token) if token.is_empty() => Ok(None),
            // What is no text has characters that no token has.
            Some(token) => Self::try_new(token.into_string().unwrap_or_default()).map(Some),
        }
    }

    /// What a client sends.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let mut header = HeaderValue::try_from(format!("Bearer {}", self.0)).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    /// Whether a client sent this one; takes as long for any other of its length.
    pub(super) fn is_in(&self, header: Option<&HeaderValue>) -> bool {
        let shown = header.and_then(|header| header.as_bytes().strip_prefix(b"Bearer "));
        // Hashes are compared in constant time.
        shown.is_some_and(|shown| blake3::hash(shown) == blake3::hash(self.0.as_bytes()))
    }
}

impl fmt::Debug for SyncToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SyncToken(…)")
    }
}
