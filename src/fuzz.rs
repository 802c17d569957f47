//! Entry points for fuzz targets and benches. Not part of the public interface.
//!
//! Each takes bytes that nobody vouches for. None may panic or allocate much, whatever the bytes are. Where
//! a checksum would stop every mutation at the door, it is made to fit.

use crate::datom::Datom;
use crate::db::head::Head;
use crate::error::Result;
use crate::id::{NodeId, PackId};
use crate::node::{Encoded, Leaf, Node, decode, decode_untrusted, encode};
use crate::store::Footer;

/// Decodes bytes as the canonical bytes of a node, and as a frame without its checksum; what it gets it
/// encodes and decodes again.
pub fn decode_node_untrusted(bytes: &[u8]) {
    decode_untrusted(bytes);
}

/// Decodes bytes as a pack whose name is the one that it claims.
pub fn decode_pack_untrusted(bytes: &[u8]) {
    let id = bytes
        .get(8..)
        .and_then(|bytes| bytes.first_chunk())
        .copied()
        .unwrap_or_default();
    if let Ok(footer) = Footer::decode(PackId(id), bytes) {
        assert!(footer.entries().len() <= bytes.len());
    }
}

/// Decodes bytes as a head, which lacks its checksum.
pub fn decode_head_untrusted(bytes: &[u8]) {
    let whole = [bytes, blake3::hash(bytes).as_bytes()].concat();
    let _ = Head::decode(&whole, "fuzz");
}

/// Encodes a leaf: its identity, its frame, and how many canonical bytes it has.
pub fn encode_leaf(datoms: &[Datom]) -> (NodeId, Vec<u8>, usize) {
    let Encoded {
        id,
        frame,
        raw_bytes,
        ..
    } = encode(&Node::from(Leaf::from_datoms(datoms)));
    (id, frame, raw_bytes)
}

/// Decodes a node, verified, and says how many datoms are there or below.
///
/// # Errors
///
/// [`Error::Corrupt`](crate::Error::Corrupt), [`Error::NewerFormat`](crate::Error::NewerFormat).
pub fn decode_node(frame: &[u8], id: NodeId) -> Result<u64> {
    decode(frame, id).map(|node| node.count())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    type Target = fn(&[u8]);

    /// What fuzzing found stays found: the corpora are replayed by every test run.
    #[test]
    fn the_corpora_decode_without_panic() {
        let targets: [(&str, Target); 4] = [
            ("leaf", super::decode_node_untrusted),
            ("inner", super::decode_node_untrusted),
            ("pack", super::decode_pack_untrusted),
            ("head", super::decode_head_untrusted),
        ];
        let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
        for (name, target) in targets {
            let files =
                std::fs::read_dir(corpora.join(name)).expect("the corpus is in the repository");
            let mut count = 0;
            for file in files {
                let bytes = std::fs::read(file.unwrap().path()).unwrap();
                target(&bytes);
                // Every prefix, too: a cheap run of the fuzzer's favourite mutation.
                (0..bytes.len().min(2000)).for_each(|len| target(&bytes[..len]));
                count += 1;
            }
            assert!(count > 0, "{name}");
        }
    }
}
