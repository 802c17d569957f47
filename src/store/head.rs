//! Heads: the one mutable object of each branch, changed only by compare-and-swap.
//!
//! [`HeadStore`] is what a backend must offer besides immutable objects. Here are the one in memory and
//! the one over conditional PUTs of an object store; the one on a file system is in
//! [`file`](super::file).
//!
//! **Invariant.** A head changes from one body to the next in one step that everybody sees, and only if
//! nobody changed it in between.
//!
//! A swap has *four* outcomes, because a network has: besides swapped, conflict and failed there is
//! [`CasOutcome::Unknown`]. And even a conflict may be one's own write: a store that applied a request,
//! lost the answer and was asked again answers that the version has changed. So a caller that did not
//! get [`CasOutcome::Swapped`] reads the head back and looks for its own commit in it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{
    GetOptions, GetResult, ObjectStore, PutMode, PutOptions, PutPayload, UpdateVersion,
};

use super::failure::{self, names_no_bucket};
use super::{Store, layout};
use crate::error::{Error, Result};
use crate::id::BranchName;

/// Longest body of a head, in bytes. Heads are at most 64 KiB; a larger object is not one.
pub(super) const HEAD_BYTES_MAX: usize = 1 << 20;

const NO_BUCKET: &str = "the bucket does not exist";

/// One head per branch, read and compared-and-swapped.
///
/// Every implementation passes [`conformance`](crate::conformance).
#[async_trait]
pub trait HeadStore: Debug + Send + Sync + 'static {
    /// Reads a head; `None` if the branch does not exist. One request.
    async fn get(&self, branch: &BranchName) -> Result<Option<(Bytes, HeadVersion)>>;

    /// Reads a head if it is no longer the one that was `seen`; `None` if it is. One request.
    ///
    /// # Errors
    ///
    /// [`Error::NoDatabase`] if the branch no longer exists.
    async fn get_if_changed(
        &self,
        branch: &BranchName,
        seen: &HeadVersion,
    ) -> Result<Option<(Bytes, HeadVersion)>>;

    /// As [`get_if_changed`](Self::get_if_changed), and where the backend can be told of changes, not before
    /// there is one or some time has passed. One request.
    async fn get_when_changed(
        &self,
        branch: &BranchName,
        seen: &HeadVersion,
    ) -> Result<Option<(Bytes, HeadVersion)>> {
        self.get_if_changed(branch, seen).await
    }

    /// Whether [`get_when_changed`](Self::get_when_changed) waits.
    fn is_live(&self) -> bool {
        false
    }

    /// Replaces the head if it is still the `expected` one; `None` expects that there is none.
    async fn cas(
        &self,
        branch: &BranchName,
        expected: Option<&HeadVersion>,
        body: Bytes,
    ) -> CasOutcome;

    /// The branches that have a head, in any order.
    async fn list(&self) -> Result<Vec<BranchName>>;
}

impl Store {
    /// Reads the head of a branch once it is no longer the one that was `seen`; `None` if it is after a while.
    ///
    /// One request. Waits only where the store [is live](Self::is_live).
    ///
    /// # Errors
    ///
    /// As [`head_if_changed`](Self::head_if_changed).
    pub async fn head_when_changed(
        &self,
        branch: &BranchName,
        seen: &HeadVersion,
    ) -> Result<Option<(Bytes, HeadVersion)>> {
        let head = self.0.heads.get_when_changed(branch, seen).await;
        self.count_head(head)
    }

    /// Whether the storage tells of a change as it happens: a server does, at `ws:` addresses.
    pub fn is_live(&self) -> bool {
        self.0.heads.is_live()
    }
}

/// What came of a compare-and-swap.
#[derive(Debug)]
#[must_use = "only `Swapped` means that the head was written"]
pub enum CasOutcome {
    /// The head was written, durably; this is its version.
    Swapped(HeadVersion),
    /// The head is not the expected one. It may be the body just sent: read it back.
    Conflict,
    /// Nothing was written, and asking again in the same way is of no use.
    Failed(Error),
    /// The head may or may not have been written: read it back.
    Unknown(Error),
}

/// What tells one state of a head from another: opaque, and comparable within one branch only.
///
/// Two bodies that differ have different versions. Whether a body that is written a second time, equal
/// to the last byte, has its first version again depends on the backend (where the version is a hash of
/// the body, it has). Heads hold a generation and a nonce, so no body occurs twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadVersion {
    tag: Arc<str>,
    // Google Cloud Storage compares generations where others compare entity tags.
    generation: Option<Arc<str>>,
}

impl HeadVersion {
    /// A version, for implementations of [`HeadStore`].
    pub fn new(tag: impl Into<Arc<str>>) -> Self {
        Self {
            tag: tag.into(),
            generation: None,
        }
    }

    /// What [`new`](Self::new) was given.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// A version as another process knows it.
    #[cfg(feature = "ws")]
    pub(super) fn of_parts(tag: &str, generation: Option<&str>) -> Self {
        Self {
            tag: tag.into(),
            generation: generation.map(Arc::from),
        }
    }

    /// What a backend compares beside the tag.
    #[cfg(feature = "ws")]
    pub(super) fn generation(&self) -> Option<&str> {
        self.generation.as_deref()
    }

    /// The version of a body where the backend has none of its own.
    pub(super) fn of_body(body: &[u8]) -> Self {
        Self::new(blake3::hash(body).to_hex().as_str())
    }
}

/// Heads in memory, for as long as the value lives.
#[derive(Debug, Default)]
pub struct MemoryHeads(Mutex<BTreeMap<BranchName, (Bytes, u64)>>);

impl MemoryHeads {
    fn heads(&self) -> MutexGuard<'_, BTreeMap<BranchName, (Bytes, u64)>> {
        // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl HeadStore for MemoryHeads {
    async fn get(&self, branch: &BranchName) -> Result<Option<(Bytes, HeadVersion)>> {
        Ok(self
            .heads()
            .get(branch)
            .map(|(body, count)| (body.clone(), counted(*count))))
    }

    async fn get_if_changed(
        &self,
        branch: &BranchName,
        seen: &HeadVersion,
    ) -> Result<Option<(Bytes, HeadVersion)>> {
        let head = self
            .get(branch)
            .await?
            .ok_or_else(|| absent("memory:", branch))?;
        Ok(Some(head).filter(|(_, version)| version != seen))
    }

    async fn cas(
        &self,
        branch: &BranchName,
        expected: Option<&HeadVersion>,
        body: Bytes,
    ) -> CasOutcome {
        let mut heads = self.heads();
        let count = heads.get(branch).map(|(_, count)| *count);
        if count.map(counted).as_ref() != expected {
            return CasOutcome::Conflict;
        }
        let next = count.unwrap_or(0) + 1;
        heads.insert(branch.clone(), (body, next));
        CasOutcome::Swapped(counted(next))
    }

    async fn list(&self) -> Result<Vec<BranchName>> {
        Ok(self.heads().keys().cloned().collect())
    }
}

fn counted(count: u64) -> HeadVersion {
    HeadVersion::new(count.to_string())
}

/// Heads as objects, swapped by conditional PUTs: `If-None-Match: *` and `If-Match: <etag>`.
pub struct ObjectHeads {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    location: String,
}

impl ObjectHeads {
    /// Heads below `prefix`; `location` names the store in errors and holds no secret.
    pub fn new(objects: Arc<dyn ObjectStore>, prefix: Path, location: impl Into<String>) -> Self {
        Self {
            objects,
            prefix,
            location: location.into(),
        }
    }

    async fn read(
        &self,
        branch: &BranchName,
        options: GetOptions,
    ) -> Result<Answer, object_store::Error> {
        let key = layout::head_key(&self.prefix, branch);
        match self.objects.get_opts(&key, options).await {
            Ok(result) => read_body(result).await,
            // A bucket is not made by writing into it, so this is no place to create a database.
            Err(object_store::Error::NotFound { source, .. }) if names_no_bucket(&*source) => {
                Ok(Answer::NoBucket)
            }
            Err(object_store::Error::NotFound { .. }) => Ok(Answer::Absent),
            Err(object_store::Error::NotModified { .. }) => Ok(Answer::Same),
            Err(error) => Err(error),
        }
    }

    fn failure(&self, error: object_store::Error) -> Error {
        super::failure(&self.location, failure::requested(error))
    }

    fn too_long(&self, branch: &BranchName) -> Error {
        too_long(layout::head_key(&self.prefix, branch).as_ref())
    }
}

enum Answer {
    Body(Bytes, HeadVersion),
    Same,
    Absent,
    NoBucket,
    TooLong,
}

impl Debug for ObjectHeads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The object store is left out: some print the credentials they were built with.
        f.debug_struct("ObjectHeads")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl HeadStore for ObjectHeads {
    async fn get(&self, branch: &BranchName) -> Result<Option<(Bytes, HeadVersion)>> {
        match self.read(branch, GetOptions::new()).await {
            Ok(Answer::Body(body, version)) => Ok(Some((body, version))),
            Ok(Answer::Absent) => Ok(None),
            Ok(Answer::NoBucket) => Err(super::failure(&self.location, NO_BUCKET)),
            Ok(Answer::TooLong) => Err(self.too_long(branch)),
            Ok(Answer::Same) => Err(Error::corrupt(
                layout::head_key(&self.prefix, branch),
                "the store answered “not modified” to an unconditional request",
            )),
            Err(error) => Err(self.failure(error)),
        }
    }

    async fn get_if_changed(
        &self,
        branch: &BranchName,
        seen: &HeadVersion,
    ) -> Result<Option<(Bytes, HeadVersion)>> {
        let options = GetOptions::new().with_if_none_match(Some(seen.tag()));
        match self.read(branch, options).await {
            // A server that does not know conditional requests answers with what it has.
            Ok(Answer::Body(_, version)) if version == *seen => Ok(None),
            Ok(Answer::Body(body, version)) => Ok(Some((body, version))),
            Ok(Answer::Same) => Ok(None),
            Ok(Answer::Absent) => Err(absent(&self.location, branch)),
            Ok(Answer::NoBucket) => Err(super::failure(&self.location, NO_BUCKET)),
            Ok(Answer::TooLong) => Err(self.too_long(branch)),
            Err(error) => Err(self.failure(error)),
        }
    }

    async fn cas(
        &self,
        branch: &BranchName,
        expected: Option<&HeadVersion>,
        body: Bytes,
    ) -> CasOutcome {
        use object_store::Error as E;

        let mode = expected.map_or(PutMode::Create, |version| {
            PutMode::Update(UpdateVersion {
                e_tag: Some(version.tag.to_string()),
                version: version.generation.as_deref().map(str::to_owned),
            })
        });
        let key = layout::head_key(&self.prefix, branch);
        let answer = self
            .objects
            .put_opts(&key, PutPayload::from(body), PutOptions::from(mode))
            .await;
        match answer {
            Ok(put) => match put.e_tag {
                Some(tag) => CasOutcome::Swapped(HeadVersion {
                    tag: tag.into(),
                    generation: put.version.map(Arc::from),
                }),
                None => CasOutcome::Unknown(self.failure(E::Generic {
                    store: "head",
                    source: "the store confirmed a write without an entity tag".into(),
                })),
            },
            Err(E::NotFound { source, .. } | E::Precondition { source, .. })
                if names_no_bucket(&*source) =>
            {
                CasOutcome::Failed(super::failure(&self.location, NO_BUCKET))
            }
            Err(E::AlreadyExists { .. } | E::Precondition { .. }) => CasOutcome::Conflict,
            // An update of a head that is gone; a creation finds no bucket.
            Err(E::NotFound { .. }) if expected.is_some() => CasOutcome::Conflict,
            Err(
                error @ (E::NotFound { .. }
                | E::NotImplemented { .. }
                | E::NotSupported { .. }
                | E::PermissionDenied { .. }
                | E::Unauthenticated { .. }
                | E::InvalidPath { .. }
                | E::UnknownConfigurationKey { .. }),
            ) => CasOutcome::Failed(self.failure(error)),
            Err(error) => CasOutcome::Unknown(self.failure(error)),
        }
    }

    async fn list(&self) -> Result<Vec<BranchName>> {
        let heads = self.prefix.clone().join(layout::HEADS);
        self.objects
            .list(Some(&heads))
            .try_filter_map(async |meta| Ok(layout::branch_at(&self.prefix, &meta.location)))
            .try_collect()
            .await
            .map_err(|error| self.failure(error))
    }
}

/// Collects a body as it arrives: the length a server claims allocates nothing.
async fn read_body(result: GetResult) -> Result<Answer, object_store::Error> {
    let tag = result.meta.e_tag.clone();
    let generation = result.meta.version.as_deref().map(Arc::from);
    let mut body = BytesMut::new();
    let mut stream = result.into_stream();
    while let Some(chunk) = stream.try_next().await? {
        if body.len() + chunk.len() > HEAD_BYTES_MAX {
            return Ok(Answer::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    let body = body.freeze();
    let version = match tag {
        Some(tag) => HeadVersion {
            tag: tag.into(),
            generation,
        },
        // Plain web servers may send no entity tag.
        None => HeadVersion::of_body(&body),
    };
    Ok(Answer::Body(body, version))
}

pub(super) fn absent(location: &str, branch: &BranchName) -> Error {
    Error::NoDatabase {
        location: location.to_owned(),
        branch: branch.clone(),
    }
}

pub(super) fn too_long(key: &str) -> Error {
    Error::corrupt(key, format!("a head has at most {HEAD_BYTES_MAX} bytes"))
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn an_object_too_long_for_a_head_is_refused_without_reading_it_all() {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let heads = ObjectHeads::new(Arc::clone(&objects), Path::ROOT, "memory:");
        let branch = BranchName::default();
        let body = Bytes::from(vec![0; HEAD_BYTES_MAX + 1]);
        let CasOutcome::Swapped(_) = heads.cas(&branch, None, body).await else {
            panic!()
        };
        assert!(matches!(
            heads.get(&branch).await,
            Err(Error::Corrupt { .. })
        ));
    }
}
