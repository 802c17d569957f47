//! Notes of copies under way: which packs garbage collection must leave alone, and a later run takes up.
//!
//! A note is an object `gc/<id>` beside those of garbage collection; the format is in `db/FORMAT.md`. It is
//! written before the first pack and never changed, because the names of a copy's packs follow from its own.
//!
//! **Invariant.** Packs of a copy are put one after the other, so the first name that is missing ends them.

use std::time::Duration;

use bytes::Bytes;

use crate::id::{BranchName, DatabaseId, PackId};
use crate::wire::{Malformed, Reader, Writer};

const MAGIC: &[u8; 8] = b"DFCOPY\0\x01";

/// A copy that has not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// The database that is copied.
    pub(crate) database: DatabaseId,
    /// The branch that is to have it.
    pub(crate) branch: BranchName,
    /// The epoch of the nodes that the copy shares, or [`NO_EPOCH`](Self::NO_EPOCH). After another collection
    /// they may lie elsewhere, and what the copy says of their places no longer holds.
    pub(crate) gc_epoch: u64,
}

impl Note {
    /// For how long after the note was written its packs stay although nothing reaches them.
    pub(crate) const KEPT: Duration = Duration::from_hours(7 * 24);
    /// The epoch of a copy that shares nothing: what it says of places may end with any collection.
    pub(crate) const NO_EPOCH: u64 = u64::MAX;

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        out.raw(MAGIC);
        out.raw(&self.database.0);
        out.bytes(self.branch.as_str().as_bytes());
        out.varint(self.gc_epoch);
        let checksum = blake3::hash(out.as_slice());
        out.raw(checksum.as_bytes());
        out.into_bytes().into()
    }

    /// Reads a note; `None` if it is none of a copy, or damaged.
    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let (body, checksum) = body.split_last_chunk::<32>()?;
        if blake3::hash(body).as_bytes() != checksum {
            return None;
        }
        Self::decode_body(body).ok()
    }

    fn decode_body(body: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(body);
        if input.array::<8>()? != *MAGIC {
            return Err(Malformed("it is no note of a copy"));
        }
        let note = Self {
            database: DatabaseId(input.array()?),
            branch: BranchName::try_new(input.text()?)
                .map_err(|_| Malformed("its branch has no valid name"))?,
            gc_epoch: input.varint()?,
        };
        input.finish()?;
        Ok(note)
    }
}

/// The names of the packs of a copy, in the order in which they are put.
pub(crate) fn packs_of(note: PackId) -> impl Iterator<Item = PackId> + Send {
    (0u64..).map(move |number| {
        let mut hasher = blake3::Hasher::new_derive_key("datomfusion 1 packs of a copy");
        hasher.update(&note.0);
        hasher.update(&number.to_le_bytes());
        let mut id = [0; PackId::LEN];
        hasher.finalize_xof().fill(&mut id);
        PackId(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_that_is_damaged_is_none() {
        let note = Note {
            database: DatabaseId([7; 16]),
            branch: BranchName::default(),
            gc_epoch: 300,
        };
        let body = note.encode();
        assert_eq!(Note::decode(&body), Some(note));
        for at in 0..body.len() {
            let mut damaged = body.to_vec();
            damaged[at] ^= 1;
            assert_eq!(Note::decode(&damaged), None, "{at}");
            assert_eq!(Note::decode(&body[..at]), None, "{at}");
        }
    }

    #[test]
    fn packs_have_names_of_their_own() {
        let of = |note: u8| packs_of(PackId([note; 16])).take(3).collect::<Vec<_>>();
        let mut names = [of(1), of(2)].concat();
        names.sort_unstable();
        names.dedup();
        assert_eq!((names.len(), of(1)), (6, of(1)));
    }
}
