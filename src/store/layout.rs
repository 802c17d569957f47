//! Where things lie: `packs/<xx>/<32 hex digits>`, `heads/<escaped branch>`, `gc/<32 hex digits>`.
//!
//! Used by every part of [`store`](crate::store) and by nothing else. Plain functions between
//! identities and keys, both ways.
//!
//! **Invariant.** A key consists of parts over `[a-z0-9_-]`, none of them a device name of Windows and
//! none longer than 201 characters. So a key is the same on every backend: no backend folds its case,
//! normalises it, escapes it again or reads `..` into it, and different branches have different keys.
//! Names with a dot (`.lock`, `.tmp`) are never keys: the file store keeps its own files there.
//!
//! A branch name is escaped byte by byte: `a`–`z`, `0`–`9` and `-` stand for themselves, every other
//! byte of the UTF-8 text is `_` and two hexadecimal digits, and so is the first letter of a device name
//! (`con` → `_63on`). An escaped name longer than 200 characters is cut into parts of 200, because most
//! file systems allow 255 bytes a name; each part but the last ends with a `_` of its own, which no last
//! part does, so that one branch is never a directory where another is a file.

use object_store::path::Path;

use crate::id::{BranchName, PackId, is_device};

/// The directory of the packs.
pub(super) const PACKS: &str = "packs";
/// The directory of the heads.
pub(super) const HEADS: &str = "heads";
/// The directory of the notes of garbage collection.
pub(super) const NOTES: &str = "gc";
/// Where an escaped branch name is cut, in bytes.
const PART_BYTES_MAX: usize = 200;

/// The key of a pack.
pub(super) fn pack_key(prefix: &Path, id: PackId) -> Path {
    let hex = id.to_string();
    prefix
        .clone()
        .join(PACKS)
        .join(&hex[..2])
        .join(hex.as_str())
}

/// The pack at a key, unless something else lies there.
pub(super) fn pack_at(prefix: &Path, key: &Path) -> Option<PackId> {
    let id: PackId = key.filename()?.parse().ok()?;
    (pack_key(prefix, id) == *key).then_some(id)
}

/// The key of a note of garbage collection.
pub(super) fn note_key(prefix: &Path, id: PackId) -> Path {
    prefix.clone().join(NOTES).join(id.to_string())
}

/// The note at a key, unless something else lies there.
pub(super) fn note_at(prefix: &Path, key: &Path) -> Option<PackId> {
    let id: PackId = key.filename()?.parse().ok()?;
    (note_key(prefix, id) == *key).then_some(id)
}

/// The key of the head of a branch.
pub(super) fn head_key(prefix: &Path, branch: &BranchName) -> Path {
    escape(branch.as_str())
        .iter()
        .fold(prefix.clone().join(HEADS), |key, part| {
            key.join(part.as_str())
        })
}

/// The branch whose head is at a key, unless something else lies there.
pub(super) fn branch_at(prefix: &Path, key: &Path) -> Option<BranchName> {
    let heads = prefix.clone().join(HEADS);
    let parts: Vec<_> = key.prefix_match(&heads)?.collect();
    let branch = BranchName::try_new(&unescape(&parts)?).ok()?;
    // Only the one canonical spelling is a key: a foreign `heads/_6dain` is not the branch `main`.
    (head_key(prefix, &branch) == *key).then_some(branch)
}

/// Whether a part of a key may be handed to a file system as a name.
#[cfg(feature = "fs")]
pub(super) fn is_part(part: &str) -> bool {
    !part.is_empty()
        && part.len() <= PART_BYTES_MAX + 1
        && part.bytes().all(|byte| is_literal(byte) || byte == b'_')
        && !is_device(part)
}

fn is_literal(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')
}

fn escape(name: &str) -> Vec<String> {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if is_literal(byte) {
            escaped.push(char::from(byte));
        } else {
            push_escaped(&mut escaped, byte);
        }
    }
    let mut parts = Vec::new();
    while escaped.len() > PART_BYTES_MAX {
        let rest = escaped.split_off(PART_BYTES_MAX);
        escaped.push('_');
        parts.push(std::mem::replace(&mut escaped, rest));
    }
    if is_device(&escaped) {
        let mut safe = String::new();
        push_escaped(&mut safe, escaped.as_bytes()[0]);
        safe.push_str(&escaped[1..]);
        escaped = safe;
    }
    parts.push(escaped);
    parts
}

fn push_escaped(out: &mut String, byte: u8) {
    out.push('_');
    for digit in [byte >> 4, byte & 0xf] {
        out.push(char::from_digit(u32::from(digit), 16).expect("four bits are one digit"));
    }
}

fn unescape(parts: &[impl AsRef<str>]) -> Option<String> {
    let (last, cut) = parts.split_last()?;
    let mut escaped = String::new();
    for part in cut {
        escaped.push_str(part.as_ref().strip_suffix('_')?);
    }
    escaped.push_str(last.as_ref());
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'_' => (hex_digit(rest.next()?)? << 4) | hex_digit(rest.next()?)?,
            literal if is_literal(literal) => literal,
            _ => return None,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// Branch names that some backend, somewhere, would fold, split, refuse or escape from.
#[cfg(any(test, feature = "conformance"))]
pub(super) fn hostile_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "main",
        "Main",
        "MAIN",
        "_6dain",
        "_main",
        "main_",
        "main.",
        "main ",
        " main",
        "main.lock",
        "main.tmp",
        "main/dev",
        "main\\dev",
        "main-dev",
        "main_dev",
        ".",
        "..",
        "...",
        "../x",
        "a/../../x",
        "/etc/passwd",
        "\\\\host\\share",
        "C:",
        "C:\\x",
        "CON",
        "con",
        "_63on",
        "con.txt",
        "NUL",
        "aux",
        "com1",
        "LPT9",
        "a#1",
        "a#",
        "a%23",
        "a%2523",
        "a b",
        "a+b",
        "a?b=c",
        "a*",
        "~",
        "~root",
        "$HOME",
        "`x`",
        "a\"b",
        "a'b",
        "<a>",
        "a|b",
        "{a}",
        "a^b",
        "a:b",
        "a//b",
        "a/b/",
        "-",
        "--help",
        "\u{e9}",
        "e\u{301}",
        "\u{130}",
        "ı",
        "ß",
        "ss",
        "\u{212a}",
        "k",
        "中文",
        "🜁",
        "\u{200b}",
        "\u{202e}txt",
        "heads",
        "packs",
        "00",
    ]
    .map(str::to_owned)
    .into();
    // Lengths around the cut, in plain and in escaped bytes, and what a cut must not confuse.
    for plain in [199, 200] {
        names.push("x".repeat(plain));
    }
    for escaped in [66, 67, 100, 133, 134, 199, 200] {
        names.push("X".repeat(escaped));
    }
    names.push(format!("{}{}", "X".repeat(66), "abcon"));
    names.push("я".repeat(100));
    names
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn hostile_branch_names_round_trip_and_stay_distinct_on_every_backend() {
        let prefix = Path::parse("some/prefix#1").unwrap();
        let mut seen = HashSet::new();
        for name in hostile_names() {
            let branch = BranchName::try_new(&name).unwrap();
            let key = head_key(&prefix, &branch);
            assert_eq!(branch_at(&prefix, &key), Some(branch), "{name:?} at {key}");
            assert!(
                seen.insert(key.as_ref().to_lowercase()),
                "{name:?} shares the key {key}"
            );
            let below = key.as_ref().strip_prefix("some/prefix#1/heads/").unwrap();
            for part in below.split('/') {
                assert!(
                    part.len() <= PART_BYTES_MAX + 1 && !is_device(part),
                    "{name:?}: {part}"
                );
                assert!(
                    part.bytes().all(|byte| is_literal(byte) || byte == b'_'),
                    "{part}"
                );
            }
        }
        // No head is a directory of another head.
        for key in &seen {
            assert!(
                !seen
                    .iter()
                    .any(|other| other.starts_with(&format!("{key}/"))),
                "{key}"
            );
        }
    }

    #[test]
    fn plain_names_are_readable_keys() {
        let key = |name| head_key(&Path::ROOT, &BranchName::try_new(name).unwrap()).to_string();
        assert_eq!(key("main"), "heads/main");
        assert_eq!(key("fix-42"), "heads/fix-42");
        assert_eq!(key("ada/Fix"), "heads/ada_2f_46ix");
        assert_eq!(key("con"), "heads/_63on");
    }

    #[test]
    fn foreign_keys_are_neither_branches_nor_packs() {
        let prefix = Path::parse("p").unwrap();
        for foreign in [
            "p/heads/main.lock",
            "p/heads/main.tmp",
            "p/heads/_6dain",
            "p/heads/Main",
            "p/heads/_",
            "p/heads/_2",
            "p/heads/_ff",
            "p/heads/a/b",
            "p/heads",
            "heads/main",
            "q/heads/main",
            "p/heads/con",
            "p/heads/_00",
        ] {
            assert_eq!(
                branch_at(&prefix, &Path::parse(foreign).unwrap()),
                None,
                "{foreign}"
            );
        }
        let hex = "00112233445566778899aabbccddeeff";
        let id: PackId = hex.parse().unwrap();
        assert_eq!(pack_at(&prefix, &pack_key(&prefix, id)), Some(id));
        for foreign in [
            format!("p/packs/01/{hex}"),
            format!("p/packs/{hex}"),
            format!("packs/00/{hex}"),
            format!("p/packs/00/{}", hex.to_uppercase()),
            format!("p/packs/00/{hex}.tmp"),
        ] {
            assert_eq!(
                pack_at(&prefix, &Path::parse(&foreign).unwrap()),
                None,
                "{foreign}"
            );
        }
    }
}
