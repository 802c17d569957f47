//! Frames: what lies in a pack. Canonical bytes, compressed or not, then hints, then a checksum.
//!
//! ```text
//! kind │ codec │ raw length │ payload length │ payload … │ hints … │ checksum
//!  u8     u8      varint         varint                              u32
//! ```
//!
//! Identity is the hash of the canonical bytes alone, so a frame may be compressed anew or be given other
//! hints without changing what it holds. The checksum covers the whole frame: a damaged hint would be
//! noticed by whoever follows it, but only then.

use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_64;

use crate::store::FrameKind;
use crate::wire::{Malformed, Reader, Result, Writer};

/// Most bytes of a node before compression: twice what a tree ever puts into one.
pub(crate) const NODE_BYTES_MAX: usize = 8 << 20;
/// Most bytes of the body of a large value.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 30;
/// LZ4 cannot shrink more than this.
const RATIO_MAX: usize = 256;

const CODEC_RAW: u8 = 0;
const CODEC_LZ4: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// Makes a frame. Compresses if that makes it smaller.
pub(crate) fn seal(kind: FrameKind, raw: &[u8], hints: &[u8]) -> Vec<u8> {
    let compressed = lz4_flex::block::compress(raw);
    let (codec, payload) = if compressed.len() < raw.len() {
        (CODEC_LZ4, &compressed[..])
    } else {
        (CODEC_RAW, raw)
    };
    let mut out = Writer::new();
    out.u8(kind.code());
    out.u8(codec);
    out.count(raw.len());
    out.bytes(payload);
    out.raw(hints);
    let checksum = checksum(out.as_slice());
    out.u32(checksum);
    out.into_bytes()
}

/// A frame whose checksum holds and whose payload has been decompressed.
pub(crate) struct Opened<'a> {
    pub(crate) kind: FrameKind,
    /// The canonical bytes. Whether they are the right ones is for the caller to see by their hash.
    pub(crate) raw: Cow<'a, [u8]>,
    pub(crate) hints: Reader<'a>,
}

/// Opens a frame of at most `raw_max` canonical bytes.
pub(crate) fn open(frame: &[u8], raw_max: usize) -> Result<Opened<'_>> {
    let (body, stored) = frame
        .split_last_chunk::<CHECKSUM_BYTES>()
        .ok_or(Malformed("a frame is cut short"))?;
    if u32::from_le_bytes(*stored) != checksum(body) {
        return Err(Malformed("the checksum of the frame does not hold"));
    }
    open_body(body, raw_max)
}

/// Opens a frame without its checksum.
pub(crate) fn open_body(body: &[u8], raw_max: usize) -> Result<Opened<'_>> {
    let mut reader = Reader::new(body);
    let kind = FrameKind::from_code(reader.u8()?).ok_or(Malformed("a frame of an unknown kind"))?;
    let codec = reader.u8()?;
    let raw_len = usize::try_from(reader.varint()?)
        .ok()
        .filter(|&len| len <= raw_max)
        .ok_or(Malformed("a frame claims to hold more than it may"))?;
    let payload = reader.bytes()?;
    let raw = match codec {
        CODEC_RAW if payload.len() == raw_len => Cow::Borrowed(payload),
        CODEC_LZ4 if raw_len / RATIO_MAX <= payload.len() => {
            let mut raw = vec![0; raw_len];
            match lz4_flex::block::decompress_into(payload, &mut raw) {
                Ok(len) if len == raw_len => Cow::Owned(raw),
                _ => return Err(Malformed("compressed bytes are malformed")),
            }
        }
        CODEC_RAW | CODEC_LZ4 => return Err(Malformed("the lengths of a frame contradict")),
        _ => return Err(Malformed("a frame is compressed in an unknown way")),
    };
    Ok(Opened {
        kind,
        raw,
        hints: reader,
    })
}

fn checksum(body: &[u8]) -> u32 {
    (xxh3_64(body) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_frame_gives_back_what_was_sealed(
            raw in prop_oneof![any::<Vec<u8>>(), (any::<u8>(), 0..5000usize).prop_map(|(b, n)| vec![b; n])],
            hints: Vec<u8>,
        ) {
            let frame = seal(FrameKind::Blob, &raw, &hints);
            prop_assert!(frame.len() <= raw.len() + hints.len() + 16);
            let mut opened = open(&frame, NODE_BYTES_MAX).unwrap();
            prop_assert_eq!(opened.kind, FrameKind::Blob);
            prop_assert_eq!(&opened.raw[..], &raw[..]);
            prop_assert_eq!(opened.hints.raw(hints.len()), Ok(&hints[..]));
            prop_assert_eq!(opened.hints.remaining(), 0);
        }

        #[test]
        fn hostile_frames_are_errors(bytes: Vec<u8>, codec in 0..2u8) {
            let _ = open(&bytes, NODE_BYTES_MAX);
            let _ = open_body(&[&[1, codec], &bytes[..]].concat(), NODE_BYTES_MAX);
        }
    }

    #[test]
    fn a_length_is_compared_before_it_is_believed() {
        for raw_len in [NODE_BYTES_MAX as u64 + 1, 1 << 40, u64::MAX] {
            let mut out = Writer::new();
            out.raw(&[1, CODEC_LZ4]);
            out.varint(raw_len);
            out.bytes(&[0; 8 << 10]);
            assert!(open_body(out.as_slice(), NODE_BYTES_MAX).is_err());
        }
        // A kilobyte that claims to be four megabytes.
        let mut out = Writer::new();
        out.raw(&[1, CODEC_LZ4]);
        out.varint(4 << 20);
        out.bytes(&[0; 1 << 10]);
        let refused = open_body(out.as_slice(), NODE_BYTES_MAX)
            .map(|_| ())
            .unwrap_err();
        assert_eq!(refused, Malformed("the lengths of a frame contradict"));
    }
}
