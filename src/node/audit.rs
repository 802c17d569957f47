//! Checking frames where they lie: a whole pack, its footer and that each frame holds what the footer says;
//! and bodies of large values, of which every leaf says for itself where they lie.

use super::Node;
use super::decode::decode_as;
use super::frame::{self, BODY_BYTES_MAX};
use super::large::is_text;
use super::loader::Loader;
use crate::error::{Error, Result};
use crate::id::{Location, NodeId, PackId};
use crate::store::{Footer, FrameKind};
use crate::value::Large;
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
    is_text: bool,
}

impl Body {
    /// That of a large value; `None` if it is not known where it lies.
    pub fn of(large: &Large) -> Option<Self> {
        large.location.map(|location| Self {
            location,
            hash: large.hash,
            is_text: is_text(large.value_type),
        })
    }

    /// Whether this frame holds it.
    fn lies_in(&self, frame: &[u8]) -> Result<(), Malformed> {
        let opened = frame::open(frame, BODY_BYTES_MAX)?;
        if opened.kind != FrameKind::Blob || NodeId::of(&opened.raw) != self.hash {
            return Err(Malformed("the content has another hash"));
        }
        if self.is_text && std::str::from_utf8(&opened.raw).is_err() {
            return Err(Malformed("text is not UTF-8"));
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
                let body = Body {
                    location: entry.location,
                    hash: entry.hash,
                    is_text: false,
                };
                body.lies_in(frame)
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
