//! Notes of garbage collection: which packs a run found dead.
//!
//! A note is an object `gc/<id>`; when it was written, the store knows. The format is in `db/FORMAT.md`. A
//! note that names no pack tells only the time.

use bytes::Bytes;

use crate::id::PackId;
use crate::store::PackInfo;
use crate::wire::{Malformed, Reader, Writer};

const MAGIC: &[u8; 8] = b"DFUSGC\0\x01";

/// A note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The note.
    pub(super) note: PackId,
    /// When it was written, by the clock of the store.
    pub(super) at: i64,
    /// The packs that were dead then.
    pub(super) packs: Vec<PackId>,
}

impl Default for Verdict {
    fn default() -> Self {
        Self::of([])
    }
}

impl Verdict {
    /// A verdict that is to be written.
    pub(super) fn of(packs: impl IntoIterator<Item = PackId>) -> Self {
        Self {
            note: PackId([0; 16]),
            at: i64::MAX,
            packs: packs.into_iter().collect(),
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        out.raw(MAGIC);
        out.count(self.packs.len());
        self.packs.iter().for_each(|pack| out.raw(&pack.0));
        let checksum = blake3::hash(out.as_slice());
        out.raw(checksum.as_bytes());
        out.into_bytes().into()
    }

    /// What a note says. One that cannot be read says nothing: the worst is that garbage stays longer.
    pub(super) fn decode(note: &PackInfo, body: &[u8]) -> Self {
        Self {
            note: note.id,
            at: note.modified,
            packs: packs(body).unwrap_or_default(),
        }
    }
}

fn packs(body: &[u8]) -> Result<Vec<PackId>, Malformed> {
    let short = Malformed("it is cut short");
    let (body, checksum) = body.split_last_chunk::<32>().ok_or(short)?;
    let mut input = Reader::new(body);
    if input.array::<8>()? != *MAGIC || blake3::hash(body).as_bytes() != checksum {
        return Err(Malformed("it is no note"));
    }
    let count = input.count(PackId::LEN)?;
    let packs = (0..count)
        .map(|_| input.array().map(PackId))
        .collect::<Result<_, _>>()?;
    input.finish()?;
    Ok(packs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_that_is_damaged_condemns_nothing() {
        let packs = [PackId([1; 16]), PackId([2; 16])];
        let info = PackInfo {
            id: PackId([9; 16]),
            len: 0,
            modified: 7,
        };
        let body = Verdict::of(packs).encode();
        assert_eq!(Verdict::decode(&info, &body).packs, packs);
        for at in 0..body.len() {
            let mut damaged = body.to_vec();
            damaged[at] ^= 1;
            assert!(Verdict::decode(&info, &damaged).packs.is_empty(), "{at}");
            assert!(Verdict::decode(&info, &body[..at]).packs.is_empty(), "{at}");
        }
    }
}
