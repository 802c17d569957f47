//! Frames by their locations: from the disk tier, if the store has one, or from the packs.

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::{PARALLEL_MAX, Store, pack, range};
use crate::error::{Error, Result};
use crate::id::Location;

/// Frames that one piece of file work looks up.
#[cfg(feature = "fs")]
const LOOK_UPS: usize = 16;
/// Pieces of file work that one read has under way at once.
#[cfg(feature = "fs")]
const LOOK_UPS_PARALLEL: usize = 8;

/// A frame, and where it was found.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: Bytes,
    /// Whether it comes from the disk tier and not from the store.
    pub(crate) on_disk: bool,
}

/// How often this process has purged a store: what was asked for before a purge is not kept on disk after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Purges(pub(super) u64);

impl Purges {
    pub(crate) fn count(self) -> u64 {
        self.0
    }

    pub(crate) fn counted(purges: u64) -> Self {
        Self(purges)
    }
}

impl Store {
    /// Reads one frame. At most one request.
    ///
    /// # Errors
    ///
    /// [`Error::SnapshotExpired`] if the pack is gone, [`Error::Corrupt`] if it ends before the frame does,
    /// [`Error::Store`].
    pub async fn read(&self, location: Location) -> Result<Bytes> {
        Ok(self.frame(location, self.purges()).await?.bytes)
    }

    /// Reads frames, in the order of `locations`, with as few requests as is sensible.
    ///
    /// Frames that lie close together come in one request and share its buffer, so that a small frame
    /// that is kept keeps up to 16 MiB: decode it, or copy it. At most 32 requests are under way at once. Callers
    /// are not counted together: one whose future nobody polls would hold up the others.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub async fn read_many(&self, locations: &[Location]) -> Result<Vec<Bytes>> {
        let frames = self.frames(locations, self.purges()).await?;
        Ok(frames.into_iter().map(|frame| frame.bytes).collect())
    }

    /// [`read`](Self::read) for a reader that began after so many purges.
    pub(crate) async fn frame(&self, location: Location, began: Purges) -> Result<Frame> {
        // What is nonsense is looked for nowhere.
        pack::frame_range(&location)?;
        match self.looked_up(&[location]).await.pop().flatten() {
            Some(bytes) => Ok(Frame {
                bytes,
                on_disk: true,
            }),
            None => self.frame_of_store(location, began).await,
        }
    }

    /// Reads a frame from the store that is not what it should be on disk, and puts it there instead.
    pub(crate) async fn frame_anew(&self, location: Location, began: Purges) -> Result<Frame> {
        #[cfg(feature = "fs")]
        if let Some(tier) = self.0.disk.clone() {
            // If that fails, the store is asked again the next time.
            let _ = super::file::blocking(move || tier.remove(&location)).await;
        }
        self.frame_of_store(location, began).await
    }

    async fn frame_of_store(&self, location: Location, began: Purges) -> Result<Frame> {
        let range = pack::frame_range(&location)?;
        let bytes = self.read_range(location.pack, range).await?;
        self.keep(&[(0, bytes.clone())], &[location], Some(began))
            .await;
        Ok(Frame {
            bytes,
            on_disk: false,
        })
    }

    /// [`read_many`](Self::read_many) for a reader that began after so many purges.
    pub(crate) async fn frames(&self, locations: &[Location], began: Purges) -> Result<Vec<Frame>> {
        let found = self.looked_up(locations).await;
        let missing = (0..locations.len()).filter(|&at| found.get(at).is_none_or(Option::is_none));
        let missing: Vec<usize> = missing.collect();
        let wanted: Vec<Location> = missing.iter().map(|&at| locations[at]).collect();
        let mut read = self.read_frames(&wanted, Some(began)).await?.into_iter();
        let mut found = found.into_iter();
        let frames = locations.iter().map(|_| {
            let on_disk = found.next().flatten();
            Frame {
                on_disk: on_disk.is_some(),
                bytes: on_disk.or_else(|| read.next()).unwrap_or_default(),
            }
        });
        Ok(frames.collect())
    }

    /// Reads frames from the store itself, and keeps them on disk for a reader that began after so many purges, or
    /// not at all.
    pub(crate) async fn read_frames(
        &self,
        locations: &[Location],
        began: Option<Purges>,
    ) -> Result<Vec<Bytes>> {
        let mut frames = vec![Bytes::new(); locations.len()];
        let mut answers = stream::iter(range::plan(locations)?)
            .map(|fetch| {
                let store = self.clone();
                async move {
                    let bytes = store.read_range(fetch.pack, fetch.range).await?;
                    let found = fetch.frames.into_iter();
                    let found: Vec<_> = found.map(|(at, range)| (at, bytes.slice(range))).collect();
                    // While other requests are under way.
                    store.keep(&found, locations, began).await;
                    Ok::<_, Error>(found)
                }
            })
            .buffer_unordered(PARALLEL_MAX);
        while let Some(found) = answers.try_next().await? {
            for (at, bytes) in found {
                frames[at] = bytes;
            }
        }
        Ok(frames)
    }

    /// The frames that are on disk, one answer a location; no answers without a tier there.
    async fn looked_up(&self, locations: &[Location]) -> Vec<Option<Bytes>> {
        #[cfg(feature = "fs")]
        if let Some(tier) = &self.0.disk {
            let chunks: Vec<_> = locations.chunks(LOOK_UPS).map(<[_]>::to_vec).collect();
            let found: Vec<_> = stream::iter(chunks)
                .map(|chunk| {
                    let (tier, nothing) = (tier.clone(), vec![None; chunk.len()]);
                    async move {
                        let read = move || chunk.iter().map(|at| tier.read(at)).collect();
                        // The runtime is stopping.
                        super::file::blocking(read).await.unwrap_or(nothing)
                    }
                })
                .buffered(LOOK_UPS_PARALLEL)
                .collect()
                .await;
            return found.concat();
        }
        #[cfg(not(feature = "fs"))]
        let _ = locations;
        Vec::new()
    }

    /// Keeps frames on disk, if the store has a tier there; each with the place of its location.
    async fn keep(&self, found: &[(usize, Bytes)], locations: &[Location], began: Option<Purges>) {
        #[cfg(feature = "fs")]
        if let (Some(tier), Some(began)) = (self.0.disk.clone(), began) {
            let found = found
                .iter()
                .map(|(at, bytes)| (locations[*at], bytes.clone()));
            let found: Vec<_> = found.collect();
            let write = move || {
                for (location, bytes) in found {
                    tier.write(&location, &bytes, began);
                }
            };
            // It fails when the runtime is stopping.
            let _ = super::file::blocking(write).await;
        }
        #[cfg(not(feature = "fs"))]
        let _ = (found, locations, began);
    }

    /// How often this process has purged this store, as far as its disk tier is concerned.
    pub(crate) fn purges(&self) -> Purges {
        #[cfg(feature = "fs")]
        if let Some(tier) = &self.0.disk {
            return tier.purges();
        }
        Purges::default()
    }

    /// Removes what the disk tier holds of this store; whoever began to read before keeps nothing there any more.
    pub(crate) async fn purge_disk(&self) -> Purges {
        #[cfg(feature = "fs")]
        if let Some(tier) = self.0.disk.clone() {
            // If the runtime is stopping, nobody reads on.
            let purged = super::file::blocking(move || tier.purge()).await;
            return purged.unwrap_or_default();
        }
        Purges::default()
    }

    /// The same store without a disk tier, for those who want to know what the store itself holds; `None` if it has
    /// none.
    pub(crate) fn past_disk(&self) -> Option<Self> {
        #[cfg(feature = "fs")]
        if self.0.disk.is_some() {
            let mut inner = super::Inner::clone(&self.0);
            inner.disk = None;
            return Some(Self(std::sync::Arc::new(inner)));
        }
        None
    }
}
