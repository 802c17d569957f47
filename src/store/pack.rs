//! Packs: many frames in one object that is written once. Specified in `FORMAT.md` beside this file.
//!
//! ```text
//! magic  pack id │ frame │ frame │ … │ entry │ entry │ … │ checksum │ footer length  magic
//!                  └──── the frames, back to back ────┘ └──────────── the footer ──────────┘
//! ```
//!
//! Below [`node`](crate::node), which decides what a frame holds. Reading a frame needs no footer: whoever
//! points to it knows its [`Location`]. The footer is for those who walk packs: verification, garbage
//! collection, replication, and finding a frame whose location has become stale.
//!
//! **Invariant.** Entries are in the order of the frames, and the frames tile the space between header
//! and footer without gap or overlap. [`Footer::decode`] refuses a pack in which they do not.

use std::ops::Range;

use bytes::Bytes;

use super::{Store, layout};
use crate::error::{Error, Result};
use crate::id::{Location, NodeId, PackId};

/// First bytes of a pack, and its format version: the last byte.
const MAGIC: [u8; 8] = *b"DFPACK\0\x01";
/// Last bytes of a pack.
const MAGIC_END: [u8; 8] = *b"DFPKEND\x01";
/// Newest format version understood here.
const VERSION: u8 = 1;
const HEADER_BYTES: usize = MAGIC.len() + PackId::LEN;
const ENTRY_BYTES: usize = NodeId::LEN + 8 + 4 + 1 + 1;
const CHECKSUM_BYTES: usize = 32;
/// Checksum, length of the footer, magic.
const TRAILER_BYTES: usize = CHECKSUM_BYTES + 4 + MAGIC_END.len();
/// How much of the end of a pack is fetched in the hope that it holds the footer: 1400 frames.
const TAIL_BYTES: u64 = 64 << 10;

/// The bytes of a frame within its pack. A location is stored, so it may be any nonsense.
pub(super) fn frame_range(location: &Location) -> Result<Range<u64>> {
    match location.offset.checked_add(u64::from(location.len)) {
        Some(end) => Ok(location.offset..end),
        None => Err(corrupt(
            location.pack,
            &format!("has no {} bytes at {}", location.len, location.offset),
        )),
    }
}

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// A leaf of a tree.
    Leaf,
    /// An inner node of a tree.
    Inner,
    /// The body of a large value.
    Blob,
    /// A leaf that names bodies of large values: who follows references must read it, and no other leaf.
    Holder,
}

impl FrameKind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Leaf => 1,
            Self::Inner => 2,
            Self::Blob => 3,
            Self::Holder => 4,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::Leaf, Self::Inner, Self::Blob, Self::Holder]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

/// A line of the footer: one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FooterEntry {
    /// The hash of what the frame holds.
    pub hash: NodeId,
    /// Where the frame lies.
    pub location: Location,
    /// What it holds.
    pub kind: FrameKind,
    /// Height above the leaves; 0 for leaves and blobs.
    pub level: u8,
}

/// Collects frames into a pack, in memory.
///
/// ```
/// # fn main() -> datomfusion::Result<()> {
/// use datomfusion::{Footer, FrameKind, NodeId, PackId, PackWriter};
///
/// let id = PackId([7; 16]);
/// let mut writer = PackWriter::new(id);
/// let location = writer.append(FrameKind::Blob, 0, NodeId::of(b"hello"), b"hello");
/// let pack = writer.finish();
/// assert_eq!(Footer::decode(id, &pack)?.entries()[0].location, location);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PackWriter {
    id: PackId,
    bytes: Vec<u8>,
    entries: Vec<FooterEntry>,
}

impl PackWriter {
    /// An empty pack.
    pub fn new(id: PackId) -> Self {
        let mut bytes = Vec::with_capacity(64 << 10);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&id.0);
        Self {
            id,
            bytes,
            entries: Vec::new(),
        }
    }

    /// The identity of the pack.
    pub fn id(&self) -> PackId {
        self.id
    }

    /// Adds a frame and says where it will lie.
    ///
    /// # Panics
    ///
    /// If the frame is of 4 GiB or more.
    pub fn append(&mut self, kind: FrameKind, level: u8, hash: NodeId, frame: &[u8]) -> Location {
        let location = Location {
            pack: self.id,
            offset: self.bytes.len() as u64,
            len: u32::try_from(frame.len()).expect("a frame is shorter than 4 GiB"),
        };
        self.bytes.extend_from_slice(frame);
        self.entries.push(FooterEntry {
            hash,
            location,
            kind,
            level,
        });
        location
    }

    /// Bytes so far: header and frames, without the footer.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no frame yet.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The frames so far, in order.
    pub fn entries(&self) -> &[FooterEntry] {
        &self.entries
    }

    /// The whole pack, for [`Store::put_pack`].
    ///
    /// # Panics
    ///
    /// If there are more than 93 million frames.
    pub fn finish(mut self) -> Bytes {
        let footer_start = self.bytes.len();
        self.bytes
            .reserve_exact(self.entries.len() * ENTRY_BYTES + TRAILER_BYTES);
        for entry in &self.entries {
            self.bytes.extend_from_slice(&entry.hash.0);
            self.bytes
                .extend_from_slice(&entry.location.offset.to_le_bytes());
            self.bytes
                .extend_from_slice(&entry.location.len.to_le_bytes());
            self.bytes.push(entry.kind.code());
            self.bytes.push(entry.level);
        }
        let entries = &self.bytes[footer_start..];
        let len = u32::try_from(entries.len()).expect("a footer is shorter than 4 GiB");
        let checksum = checksum(self.id, entries);
        self.bytes.extend_from_slice(&checksum);
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(&MAGIC_END);
        self.bytes.into()
    }
}

/// The index at the end of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    pack: PackId,
    entries: Vec<FooterEntry>,
}

impl Footer {
    /// The pack.
    pub fn pack(&self) -> PackId {
        self.pack
    }

    /// The frames, in the order in which they lie.
    pub fn entries(&self) -> &[FooterEntry] {
        &self.entries
    }

    /// Reads and checks the footer of a whole pack. What the frames hold is not looked at.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`], or [`Error::NewerFormat`] if a newer release wrote the pack.
    pub fn decode(pack: PackId, whole: &[u8]) -> Result<Self> {
        check_header(pack, whole)?;
        let len = whole.len() as u64;
        let entries = trailer(pack, whole, len)?;
        let bytes = slice(whole, len, &entries).ok_or_else(|| corrupt(pack, "has no footer"))?;
        Self::decode_entries(pack, bytes, whole, entries.start)
    }

    /// `tail` ends with the pack, and begins no later than the checksum.
    fn decode_entries(pack: PackId, bytes: &[u8], tail: &[u8], end: u64) -> Result<Self> {
        let trailer = tail.len() - TRAILER_BYTES;
        if checksum(pack, bytes) != tail[trailer..trailer + CHECKSUM_BYTES] {
            return Err(corrupt(pack, "the checksum of the footer does not match"));
        }
        let mut entries = Vec::with_capacity(bytes.len() / ENTRY_BYTES);
        let mut next = HEADER_BYTES as u64;
        for entry in bytes.chunks_exact(ENTRY_BYTES) {
            let entry = decode_entry(pack, entry)
                .filter(|entry| entry.location.offset == next)
                .ok_or_else(|| corrupt(pack, "a line of the footer is not valid"))?;
            next = frame_range(&entry.location)?.end;
            entries.push(entry);
        }
        if next != end {
            return Err(corrupt(pack, "the frames do not fill the pack"));
        }
        Ok(Self { pack, entries })
    }
}

/// Reads the footer of a stored pack: one request, two if the pack has more than 1400 frames.
///
/// # Errors
///
/// [`Error::SnapshotExpired`] if the pack is gone, [`Error::Corrupt`], [`Error::NewerFormat`],
/// [`Error::Store`].
pub async fn read_footer(store: &Store, pack: PackId) -> Result<Footer> {
    let (tail, len) = store.read_pack_tail(pack, TAIL_BYTES).await?;
    let entries = trailer(pack, &tail, len)?;
    if let Some(bytes) = slice(&tail, len, &entries) {
        return Footer::decode_entries(pack, bytes, &tail, entries.start);
    }
    let bytes = store.read_range(pack, entries.clone()).await?;
    Footer::decode_entries(pack, &bytes, &tail, entries.start)
}

/// Where the entries lie in a pack of `len` bytes that ends with `tail`.
fn trailer(pack: PackId, tail: &[u8], len: u64) -> Result<Range<u64>> {
    let Some((_, trailer)) = tail.split_last_chunk::<TRAILER_BYTES>() else {
        return Err(corrupt(pack, "is too short"));
    };
    let (rest, magic) = trailer
        .split_last_chunk::<8>()
        .expect("a trailer is longer than its magic");
    check_magic(pack, *magic, MAGIC_END)?;
    let (_, footer_len) = rest
        .split_last_chunk::<4>()
        .expect("a length comes before the magic");
    let footer_len = u64::from(u32::from_le_bytes(*footer_len));
    let end = len.checked_sub(TRAILER_BYTES as u64);
    let start = end.and_then(|end| end.checked_sub(footer_len));
    match (start, end) {
        (Some(start), Some(end))
            if start >= HEADER_BYTES as u64 && footer_len % ENTRY_BYTES as u64 == 0 =>
        {
            Ok(start..end)
        }
        _ => Err(corrupt(pack, "the length of the footer is impossible")),
    }
}

/// The part `range` of a pack of `len` bytes, if it lies within the `tail` with which the pack ends.
fn slice<'a>(tail: &'a [u8], len: u64, range: &Range<u64>) -> Option<&'a [u8]> {
    let tail_start = len.checked_sub(tail.len() as u64)?;
    let start = usize::try_from(range.start.checked_sub(tail_start)?).ok()?;
    let end = usize::try_from(range.end.checked_sub(tail_start)?).ok()?;
    tail.get(start..end)
}

fn check_header(pack: PackId, whole: &[u8]) -> Result<()> {
    let Some((header, _)) = whole.split_first_chunk::<HEADER_BYTES>() else {
        return Err(corrupt(pack, "is too short"));
    };
    let (magic, id) = header
        .split_first_chunk::<8>()
        .expect("a header is longer than its magic");
    check_magic(pack, *magic, MAGIC)?;
    if *id != pack.0 {
        return Err(corrupt(pack, "is another pack under this name"));
    }
    Ok(())
}

fn check_magic(pack: PackId, found: [u8; 8], expected: [u8; 8]) -> Result<()> {
    if found[..7] != expected[..7] {
        return Err(corrupt(pack, "is not a pack, or not the whole of it"));
    }
    match found[7] {
        VERSION => Ok(()),
        0 => Err(corrupt(pack, "has format version 0")),
        newer => Err(Error::NewerFormat {
            object: name(pack),
            version: u32::from(newer),
            supported: u32::from(VERSION),
        }),
    }
}

fn decode_entry(pack: PackId, entry: &[u8]) -> Option<FooterEntry> {
    let (hash, entry) = entry.split_first_chunk()?;
    let (offset, entry) = entry.split_first_chunk()?;
    let (len, entry) = entry.split_first_chunk()?;
    let [kind, level] = *entry else { return None };
    Some(FooterEntry {
        hash: NodeId(*hash),
        location: Location {
            pack,
            offset: u64::from_le_bytes(*offset),
            len: u32::from_le_bytes(*len),
        },
        kind: FrameKind::from_code(kind)?,
        level,
    })
}

/// Covers the identity of the pack, so that the footer of another one does not pass.
fn checksum(pack: PackId, entries: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&pack.0);
    hasher.update(entries);
    *hasher.finalize().as_bytes()
}

fn name(pack: PackId) -> String {
    layout::pack_key(&object_store::path::Path::ROOT, pack).to_string()
}

fn corrupt(pack: PackId, reason: &str) -> Error {
    Error::corrupt(name(pack), reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: PackId = PackId(*b"\0\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff");

    fn two_frames() -> Bytes {
        let mut writer = PackWriter::new(ID);
        writer.append(FrameKind::Leaf, 0, NodeId::of(b"leaf"), b"leaf");
        writer.append(
            FrameKind::Inner,
            1,
            NodeId::of(b"an inner node"),
            b"an inner node",
        );
        writer.finish()
    }

    #[test]
    fn the_hex_dump_of_the_specification_is_a_pack() {
        let page = include_str!("FORMAT.md");
        let dump = page
            .split("```hex\n")
            .nth(1)
            .and_then(|rest| rest.split("```").next())
            .unwrap();
        let bytes: Vec<u8> = dump
            .lines()
            .flat_map(|line| {
                line.split('|')
                    .next()
                    .unwrap_or_default()
                    .split_whitespace()
                    .skip(1)
            })
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect();
        assert_eq!(
            bytes,
            two_frames(),
            "update the dump together with the format version"
        );
        let footer = Footer::decode(ID, &bytes).unwrap();
        let [leaf, inner] = footer.entries() else {
            panic!("two frames")
        };
        assert_eq!(
            (leaf.kind, leaf.level, leaf.hash),
            (FrameKind::Leaf, 0, NodeId::of(b"leaf"))
        );
        assert_eq!((inner.kind, inner.level), (FrameKind::Inner, 1));
        let range = frame_range(&inner.location).unwrap();
        assert_eq!(
            slice(&bytes, bytes.len() as u64, &range),
            Some(&b"an inner node"[..])
        );
    }

    #[test]
    fn an_empty_pack_has_an_empty_footer() {
        let writer = PackWriter::new(ID);
        assert!(writer.is_empty());
        assert_eq!(Footer::decode(ID, &writer.finish()).unwrap().entries(), []);
    }

    #[test]
    fn every_flipped_bit_outside_the_frames_is_noticed() {
        let pack = two_frames();
        let frames = HEADER_BYTES..HEADER_BYTES + 17;
        for byte in (0..pack.len()).filter(|byte| !frames.contains(byte)) {
            for bit in 0..8 {
                let mut bad = pack.to_vec();
                bad[byte] ^= 1 << bit;
                assert!(
                    Footer::decode(ID, &bad).is_err(),
                    "bit {bit} of byte {byte}"
                );
            }
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let pack = two_frames();
        for len in 0..pack.len() {
            assert!(Footer::decode(ID, &pack[..len]).is_err(), "{len} bytes");
            assert!(
                Footer::decode(ID, &pack[pack.len() - len..]).is_err(),
                "last {len} bytes"
            );
        }
    }

    #[test]
    fn a_footer_that_points_outside_the_frames_is_refused() {
        let valid = FooterEntry {
            hash: NodeId::of(b"x"),
            location: Location {
                pack: ID,
                offset: HEADER_BYTES as u64,
                len: 5,
            },
            kind: FrameKind::Blob,
            level: 0,
        };
        let at = |offset, len| FooterEntry {
            location: Location {
                pack: ID,
                offset,
                len,
            },
            ..valid
        };
        let start = HEADER_BYTES as u64;
        for entries in [
            vec![at(start, 4)],
            vec![at(start, 6)],
            vec![at(start + 1, 4)],
            vec![at(start, 5), at(start, 5)],
            vec![at(start, 5), at(u64::MAX, 5)],
            vec![at(start, u32::MAX)],
            vec![],
        ] {
            let bytes = [&MAGIC[..], &ID.0, b"12345"].concat();
            let writer = PackWriter {
                id: ID,
                bytes,
                entries,
            };
            let reason = Footer::decode(ID, &writer.finish()).unwrap_err();
            assert!(matches!(reason, Error::Corrupt { .. }), "{reason}");
        }
    }

    #[test]
    fn a_newer_pack_asks_for_a_newer_release() {
        let mut pack = two_frames().to_vec();
        let last = pack.len() - 1;
        pack[last] = 2;
        assert!(matches!(
            Footer::decode(ID, &pack),
            Err(Error::NewerFormat { version: 2, .. })
        ));
    }

    #[tokio::test]
    async fn a_long_footer_takes_a_second_request() {
        let store = Store::memory();
        for (number, frames, gets) in [(1, 3, 1), (2, 2000, 2)] {
            let id = PackId([number; 16]);
            let mut writer = PackWriter::new(id);
            for frame in 0..frames {
                let frame = format!("frame {frame}");
                writer.append(
                    FrameKind::Blob,
                    0,
                    NodeId::of(frame.as_bytes()),
                    frame.as_bytes(),
                );
            }
            let entries = writer.entries().to_vec();
            store.put_pack(id, writer.finish()).await.unwrap();
            let before = store.requests();
            let footer = read_footer(&store, id).await.unwrap();
            assert_eq!(footer.entries(), entries);
            assert_eq!((store.requests() - before).gets, gets, "{frames} frames");
        }
    }
}
