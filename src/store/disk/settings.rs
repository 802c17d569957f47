//! What the environment says of the disk tier.

use std::ffi::OsString;
use std::path::PathBuf;

use super::DiskCache;
use crate::error::{Error, Result};

/// The directory; without it, there is no tier.
const DIRECTORY: &str = "DATOMFUSION_CACHE_DIR";
/// How many bytes of files it holds at most.
const BYTES: &str = "DATOMFUSION_CACHE_BYTES";

/// The directory and its bound, if there is to be one.
pub(super) fn from_environment() -> Result<Option<(PathBuf, u64)>> {
    said(std::env::var_os(DIRECTORY), std::env::var_os(BYTES))
}

fn said(directory: Option<OsString>, bytes: Option<OsString>) -> Result<Option<(PathBuf, u64)>> {
    let Some(directory) = directory.filter(|directory| !directory.is_empty()) else {
        return Ok(None);
    };
    let bytes_max = match bytes.filter(|bytes| !bytes.is_empty()) {
        None => DiskCache::BYTES_MAX,
        Some(text) => text.to_str().and_then(number).ok_or_else(|| {
            let text = text.display();
            Error::invalid(format!(
                "{BYTES} is how many bytes {DIRECTORY} may hold, as 5368709120, 512m or 5g, not {text}"
            ))
        })?,
    };
    Ok(Some((directory.into(), bytes_max)))
}

/// A number of bytes above zero: digits, and `k`, `m` or `g` behind them.
fn number(text: &str) -> Option<u64> {
    let (digits, shift) = match text.char_indices().next_back()? {
        (at, 'k' | 'K') => (&text[..at], 10),
        (at, 'm' | 'M') => (&text[..at], 20),
        (at, 'g' | 'G') => (&text[..at], 30),
        _ => (text, 0),
    };
    // `parse` takes a sign, too.
    let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_and_a_number_with_its_unit_are_read() {
        let said = |directory: &str, bytes: Option<&str>| {
            said(Some(directory.into()), bytes.map(OsString::from))
        };
        let at = |bytes| Some((PathBuf::from("/cache"), bytes));
        assert_eq!(said("/cache", None).unwrap(), at(10 << 30));
        assert_eq!(said("/cache", Some("")).unwrap(), at(10 << 30));
        assert_eq!(said("/cache", Some("4096")).unwrap(), at(4096));
        assert_eq!(said("/cache", Some("64k")).unwrap(), at(64 << 10));
        assert_eq!(said("/cache", Some("512M")).unwrap(), at(512 << 20));
        assert_eq!(said("/cache", Some("2g")).unwrap(), at(2 << 30));
        assert_eq!(said("", Some("nonsense")).unwrap(), None);
        for bytes in [
            "0",
            "0g",
            "-1",
            "+1",
            "1.5g",
            "10GB",
            "g",
            " 1",
            "é",
            "99999999999g",
        ] {
            let refused = said("/cache", Some(bytes)).unwrap_err().to_string();
            assert!(
                refused.contains(BYTES) && refused.contains("512m"),
                "{refused}"
            );
        }
    }

    #[test]
    fn without_a_directory_there_is_no_tier() {
        assert_eq!(said(None, Some("1g".into())).unwrap(), None);
    }
}
