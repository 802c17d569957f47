//! Checking a whole pack: its footer, and that each frame holds what the footer says.

use super::Node;
use super::decode::decode_as;
use super::frame::{self, BODY_BYTES_MAX};
use super::large::unread;
use super::leaf::Leaf;
use super::loader::Loader;
use crate::error::{Error, Result};
use crate::id::{NodeId, PackId};
use crate::store::{Footer, FrameKind};

impl Loader {
    /// Reads the bodies of all large values of a leaf and verifies them, without keeping them in the leaf.
    ///
    /// # Errors
    ///
    /// As [`Loader::resolve`].
    pub async fn verify_bodies(&self, leaf: &Leaf) -> Result<()> {
        if !leaf.has_large() {
            return Ok(());
        }
        let copy = leaf.map_large(|large| unread(large, large.location));
        self.resolve(&copy, 0..copy.len()).await
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
                let opened = frame::open(frame, BODY_BYTES_MAX)
                    .map_err(|malformed| Error::corrupt(object(), malformed.0))?;
                if opened.kind != FrameKind::Blob || NodeId::of(&opened.raw) != entry.hash {
                    return Err(Error::corrupt(object(), "the content has another hash"));
                }
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
