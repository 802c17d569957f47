//! Storage that stops before or after a chosen operation, and answers nothing from then on.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use datomfusion::{BranchName, CasOutcome, Error, HeadStore, HeadVersion, Result, Store};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

/// When a store stops.
#[derive(Debug, Default)]
pub(crate) struct Fuse {
    done: AtomicU64,
    /// The operation at which it stops, counted from 1; 0 is never.
    at: u64,
    /// Whether that operation still takes effect.
    applied: bool,
    blown: AtomicBool,
}

impl Fuse {
    /// A fuse that blows at operation `at`, before or after it takes effect.
    pub(crate) fn new(at: u64, applied: bool) -> Arc<Self> {
        Arc::new(Self {
            at,
            applied,
            ..Self::default()
        })
    }

    /// Operations so far.
    pub(crate) fn operations(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }

    /// Counts an operation; says whether it takes effect, and whether its answer arrives.
    fn step(&self) -> (bool, bool) {
        if self.blown.load(Ordering::SeqCst) {
            return (false, false);
        }
        let number = self.done.fetch_add(1, Ordering::SeqCst) + 1;
        if number == self.at {
            self.blown.store(true, Ordering::SeqCst);
            return (self.applied, false);
        }
        (true, true)
    }
}

fn stopped() -> object_store::Error {
    object_store::Error::Generic {
        store: "faulty",
        source: "the machine has stopped".into(),
    }
}

/// `inner` behind a fuse: writes and reads count, in the order in which they are asked for.
pub(crate) fn faulty(
    objects: Arc<dyn ObjectStore>,
    heads: Arc<dyn HeadStore>,
    fuse: &Arc<Fuse>,
) -> Store {
    let objects = Objects {
        inner: objects,
        fuse: Arc::clone(fuse),
    };
    let heads = Heads {
        inner: heads,
        fuse: Arc::clone(fuse),
    };
    Store::new(Arc::new(objects), Arc::new(heads), "faulty:")
}

#[derive(Debug)]
struct Heads {
    inner: Arc<dyn HeadStore>,
    fuse: Arc<Fuse>,
}

fn lost() -> Error {
    Error::Store {
        location: "faulty:".into(),
        source: Box::new(stopped()),
    }
}

#[async_trait]
impl HeadStore for Heads {
    async fn get(&self, branch: &BranchName) -> Result<Option<(Bytes, HeadVersion)>> {
        match self.fuse.step() {
            (_, true) => self.inner.get(branch).await,
            _ => Err(lost()),
        }
    }

    async fn get_if_changed(
        &self,
        branch: &BranchName,
        seen: &HeadVersion,
    ) -> Result<Option<(Bytes, HeadVersion)>> {
        match self.fuse.step() {
            (_, true) => self.inner.get_if_changed(branch, seen).await,
            _ => Err(lost()),
        }
    }

    async fn cas(
        &self,
        branch: &BranchName,
        expected: Option<&HeadVersion>,
        body: Bytes,
    ) -> CasOutcome {
        tokio::task::yield_now().await;
        let (takes_effect, answers) = self.fuse.step();
        let outcome = if takes_effect {
            self.inner.cas(branch, expected, body).await
        } else {
            CasOutcome::Unknown(lost())
        };
        if answers {
            outcome
        } else {
            CasOutcome::Unknown(lost())
        }
    }

    async fn list(&self) -> Result<Vec<BranchName>> {
        self.inner.list().await
    }
}

#[derive(Debug)]
struct Objects {
    inner: Arc<dyn ObjectStore>,
    fuse: Arc<Fuse>,
}

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Objects {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let (takes_effect, answers) = self.fuse.step();
        let result = if takes_effect {
            self.inner.put_opts(location, payload, options).await
        } else {
            Err(stopped())
        };
        if answers { result } else { Err(stopped()) }
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        Err(object_store::Error::NotImplemented {
            operation: "multipart".into(),
            implementer: "faulty".into(),
        })
    }

    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        match self.fuse.step() {
            (_, true) => self.inner.get_opts(location, options).await,
            _ => Err(stopped()),
        }
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        match self.fuse.step() {
            (_, true) => self.inner.get_ranges(location, ranges).await,
            _ => Err(stopped()),
        }
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        stream::once(async { Err(stopped()) }).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> object_store::Result<()> {
        Err(stopped())
    }
}
