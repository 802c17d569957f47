//! The file of a frame: what it is called, and how it is told from any other.
//!
//! ```text
//! checksum [16]   XXH3 of the key and the frame, 128 bits, little-endian
//! frame           as it lies in its pack
//! ```
//!
//! The key is the store (32 bytes), the pack (16), the offset (8, little-endian) and the length (4). The file does
//! not hold it: whoever asks knows it. Names are hashes in hexadecimal. A change of any of this changes the
//! context of the hashes; files of before are then never asked for, and go when there is no room.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use crate::id::{Location, PackId};

const NAME: &str = "datomfusion 2026-11-23 disk cache 2: name of a file";
const FOLDER: &str = "datomfusion 2026-11-23 disk cache 2: name of a store";

/// What comes before the frame, in bytes.
pub(super) const HEADER_BYTES: usize = 16;
const KEY_BYTES: usize = 32 + PackId::LEN + 8 + 4;

/// What a file is asked for by.
pub(super) struct Key {
    bytes: [u8; KEY_BYTES],
    frame_len: u32,
}

impl Key {
    pub(super) fn new(store: &[u8; 32], location: &Location) -> Self {
        let mut bytes = [0; KEY_BYTES];
        bytes[..32].copy_from_slice(store);
        bytes[32..48].copy_from_slice(&location.pack.0);
        bytes[48..56].copy_from_slice(&location.offset.to_le_bytes());
        bytes[56..].copy_from_slice(&location.len.to_le_bytes());
        Self {
            bytes,
            frame_len: location.len,
        }
    }

    /// The name of the file.
    pub(super) fn name(&self) -> String {
        short_hash(NAME, &self.bytes)
    }

    /// How long the file is, in bytes.
    pub(super) fn file_len(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.frame_len)
    }

    pub(super) fn encode(&self, frame: &[u8]) -> Vec<u8> {
        let mut file = Vec::with_capacity(HEADER_BYTES + frame.len());
        file.extend_from_slice(&self.checksum(frame));
        file.extend_from_slice(frame);
        file
    }

    /// The frame that a file holds, if it is the file of this key.
    pub(super) fn decode(&self, file: Vec<u8>) -> Option<Bytes> {
        let (checksum, frame) = file.split_first_chunk::<HEADER_BYTES>()?;
        if frame.len() as u64 != u64::from(self.frame_len) || *checksum != self.checksum(frame) {
            return None;
        }
        Some(Bytes::from(file).slice(HEADER_BYTES..))
    }

    fn checksum(&self, frame: &[u8]) -> [u8; HEADER_BYTES] {
        // Against damage: what a frame holds is hashed where it is decoded.
        let mut hasher = Xxh3::new();
        hasher.update(&self.bytes);
        hasher.update(frame);
        hasher.digest128().to_le_bytes()
    }
}

/// The name of the directory of a store.
pub(super) fn folder(store: &[u8; 32]) -> String {
    short_hash(FOLDER, store)
}

/// The name of a file while it is written: half as long again, so that nobody takes it for one.
pub(super) fn temporary(path: &Path, random: [u8; 16]) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(&PackId(random).to_string()[..16]);
    name.into()
}

/// Whether a name may be that of a store's directory or of a frame.
pub(super) fn is_name(name: &str) -> bool {
    name.len() == 32 && is_hexadecimal(name)
}

/// Whether a name may be that of a file that is being written.
pub(super) fn is_temporary(name: &str) -> bool {
    name.len() == 48 && is_hexadecimal(name)
}

fn is_hexadecimal(name: &str) -> bool {
    name.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn short_hash(context: &str, bytes: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(bytes);
    hasher.finalize().to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(pack: u8, offset: u64, len: usize) -> Location {
        Location {
            pack: PackId([pack; 16]),
            offset,
            len: u32::try_from(len).unwrap(),
        }
    }

    #[test]
    fn names_are_hexadecimal_and_tell_keys_apart() {
        let store = [7; 32];
        let names = [
            Key::new(&store, &at(1, 24, 10)).name(),
            Key::new(&store, &at(1, 24, 11)).name(),
            Key::new(&store, &at(1, 25, 10)).name(),
            Key::new(&store, &at(2, 24, 10)).name(),
            Key::new(&[8; 32], &at(1, 24, 10)).name(),
        ];
        for (number, name) in names.iter().enumerate() {
            assert!(is_name(name) && !is_temporary(name), "{name}");
            assert!(!names[..number].contains(name));
            let temporary = temporary(Path::new(name), [0xab; 16]);
            assert!(is_temporary(temporary.to_str().unwrap()));
        }
        assert!(!is_name("../etc/passwd/../etc/passwd/../e") && !is_name(""));
        assert_ne!(folder(&[7; 32]), folder(&[8; 32]));
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded_and_nothing_else(
            frame in prop::collection::vec(any::<u8>(), 0..300),
            other in prop::collection::vec(any::<u8>(), 0..300),
            pack in any::<u8>(),
            offset in any::<u64>(),
            flip in any::<(prop::sample::Index, u8)>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let store = [3; 32];
            let key = Key::new(&store, &at(pack, offset, frame.len()));
            let file = key.encode(&frame);
            prop_assert_eq!(file.len() as u64, key.file_len());
            prop_assert_eq!(key.decode(file.clone()).unwrap(), &frame);

            let mut flipped = file.clone();
            let at_byte = flip.0.index(file.len());
            flipped[at_byte] ^= flip.1.max(1);
            prop_assert!(key.decode(flipped).is_none());
            prop_assert!(key.decode(file[..cut.index(file.len())].to_vec()).is_none());
            prop_assert!(key.decode([&file[..], &[0]].concat()).is_none());
            prop_assert!(key.decode(other).is_none());

            for stranger in [
                Key::new(&[4; 32], &at(pack, offset, frame.len())),
                Key::new(&store, &at(pack.wrapping_add(1), offset, frame.len())),
                Key::new(&store, &at(pack, offset.wrapping_add(1), frame.len())),
                Key::new(&store, &at(pack, offset, frame.len() + 1)),
            ] {
                prop_assert!(stranger.decode(file.clone()).is_none());
            }
        }
    }
}
