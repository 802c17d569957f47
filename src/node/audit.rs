//! Checking frames where they lie: a whole pack, its footer and that each frame holds what the footer says;
//! and bodies of large values, of which every leaf says for itself where they lie.

use xxhash_rust::xxh3::xxh3_64;

use super::Node;
use super::decode::{decode_as, open_body};
use super::large::is_text;
use super::loader::Loader;
use crate::error::{Error, Result};
use crate::id::{Location, NodeId, PackId};
use crate::store::{Footer, FrameKind};
use crate::value::{Large, ValueType};
use crate::wire::Malformed;

/// Bodies that are read at once.
const BODIES: usize = 16;

/// The body of a large value, and where a leaf says that it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Body {
    /// Where it lies.
    pub location: Location,
    /// Its hash.
    pub hash: NodeId,
    len: u64,
    value_type: ValueType,
    /// The hash of the prefix that the leaf holds.
    prefix: u64,
}

impl Body {
    /// That of a large value; `None` if it is not known where it lies.
    pub fn of(large: &Large) -> Option<Self> {
        large.location.map(|location| Self {
            location,
            hash: large.hash,
            len: large.len,
            value_type: large.value_type,
            prefix: xxh3_64(&large.prefix),
        })
    }

    /// Whether this frame holds it, and the leaf says of it what is so.
    fn lies_in(&self, frame: &[u8]) -> Result<(), Malformed> {
        let raw = open_body(frame, self.hash)?;
        if raw.len() as u64 != self.len {
            return Err(Malformed("the body has another length"));
        }
        if is_text(self.value_type) && std::str::from_utf8(&raw).is_err() {
            return Err(Malformed("text is not UTF-8"));
        }
        if xxh3_64(Large::prefix_of(self.value_type, &raw)) != self.prefix {
            return Err(Malformed("the body begins otherwise"));
        }
        Ok(())
    }
}

impl Loader {
    /// Reads the bodies of large values from these very places, past the cache, which knows one place a body,
    /// and verifies them; the first that does not lie there is returned, and why.
    ///
    /// # Errors
    ///
    /// [`Error::SnapshotExpired`] if a pack is gone; [`Error::Store`].
    pub async fn verify_bodies(&self, bodies: &[Body]) -> Result<Option<(Body, &'static str)>> {
        for some in bodies.chunks(BODIES) {
            let places: Vec<_> = some.iter().map(|body| body.location).collect();
            let frames = self.store().read_many(&places).await?;
            for (body, frame) in some.iter().zip(frames) {
                if let Err(malformed) = body.lies_in(&frame) {
                    return Ok(Some((*body, malformed.0)));
                }
            }
        }
        Ok(None)
    }

    /// Reads a pack whole and verifies every frame in it, whether anything refers to it or not.
    ///
    /// Returns the number of frames. One request.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`], [`Error::NewerFormat`], [`Error::Store`].
    pub async fn verify_pack(&self, pack: PackId) -> Result<u64> {
        let whole = self.store().read_pack(pack).await?;
        let footer = Footer::decode(pack, &whole)?;
        for entry in footer.entries() {
            let object = || format!("frame {} in pack {pack}", entry.hash);
            let start = usize::try_from(entry.location.offset).ok();
            let frame = start
                .and_then(|start| whole.get(start..)?.get(..entry.location.len as usize))
                .ok_or_else(|| Error::corrupt(object(), "it lies outside its pack"))?;
            if entry.kind == FrameKind::Blob {
                open_body(frame, entry.hash)
                    .map_err(|malformed| Error::corrupt(object(), malformed.0))?;
                continue;
            }
            let node = decode_as(frame, Some(entry.hash)).map_err(|fault| fault.of(object()))?;
            let holds = matches!(&node, Node::Leaf(leaf) if leaf.has_large());
            if holds != (entry.kind == FrameKind::Holder) {
                return Err(Error::corrupt(object(), "the footer gives it another kind"));
            }
            if node.level() != entry.level {
                return Err(Error::corrupt(
                    object(),
                    "the footer gives it another level",
                ));
            }
        }
        Ok(footer.entries().len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::node::large::unread;
    use crate::node::loader::tests::stored;
    use crate::value::Value;

    /// That a leaf says of a body another length, or that it begins otherwise, was no fault as long as the body's
    /// hash was right: whoever read the value then got an error, or a prefix that is none.
    #[tokio::test]
    async fn a_leaf_that_says_of_a_body_what_is_not_so_is_found_out() {
        for value in [Value::string("é".repeat(3000)), Value::bytes([0xff; 3000])] {
            let (loader, leaf) = stored(value).await;
            let right = leaf.larges()[0];
            let found = async |change: fn(&mut Large)| {
                let mut large = Arc::into_inner(unread(right, right.location)).unwrap();
                change(&mut large);
                let body = Body::of(&large).unwrap();
                let found = loader.verify_bodies(&[body]).await.unwrap();
                found.map(|(found, why)| {
                    assert_eq!(found, body);
                    why
                })
            };
            assert_eq!(found(|_| ()).await, None);
            let length = Some("the body has another length");
            assert_eq!(found(|large| large.len += 1).await, length);
            assert_eq!(found(|large| large.len -= 1).await, length);
            let prefix = Some("the body begins otherwise");
            assert_eq!(found(|large| large.prefix[1000] ^= 1).await, prefix);
            let shorter = |large: &mut Large| large.prefix = large.prefix[..1022].into();
            assert_eq!(found(shorter).await, prefix);
            assert_eq!(
                found(|large| large.hash.0[0] ^= 1).await,
                Some("the content has another hash")
            );
        }
    }
}
