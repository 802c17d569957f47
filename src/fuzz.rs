//! Entry points for fuzzing. Not part of the public interface.

/// Decodes bytes as a node without asking for their hash, and encodes again what it got: as canonical
/// bytes, and as a frame without its checksum.
pub fn decode_node_untrusted(bytes: &[u8]) {
    crate::node::decode_untrusted(bytes);
}
