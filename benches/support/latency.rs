//! A store in memory that takes its time to answer, and counts how many answers had to be waited for in turn.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

/// What has been asked of a [`Latency`].
#[derive(Debug, Default)]
pub struct Asked {
    under_way: AtomicU64,
    most: AtomicU64,
    rounds: AtomicU64,
}

impl Asked {
    /// The longest chain of requests of which each was made after the answer to the one before.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::SeqCst)
    }

    /// The most requests that were under way at once.
    pub fn most(&self) -> u64 {
        self.most.load(Ordering::SeqCst)
    }
}

/// Objects of which each read is answered after `delay`.
#[derive(Debug)]
pub struct Latency {
    objects: Arc<InMemory>,
    delay: Duration,
    asked: Arc<Asked>,
}

impl Latency {
    pub fn new(objects: &Arc<InMemory>, delay: Duration) -> (Self, Arc<Asked>) {
        let asked = Arc::<Asked>::default();
        let latency = Self {
            objects: Arc::clone(objects),
            delay,
            asked: Arc::clone(&asked),
        };
        (latency, asked)
    }

    async fn wait(&self) {
        let round = self.asked.rounds() + 1;
        let under_way = self.asked.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.asked.most.fetch_max(under_way, Ordering::SeqCst);
        tokio::time::sleep(self.delay).await;
        self.asked.under_way.fetch_sub(1, Ordering::SeqCst);
        self.asked.rounds.fetch_max(round, Ordering::SeqCst);
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory, after {:?}", self.delay)
    }
}

#[async_trait]
impl ObjectStore for Latency {
    async fn put_opts(
        &self,
        key: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.objects.put_opts(key, payload, options).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.wait().await;
        self.objects.get_opts(key, options).await
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.objects.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn put_multipart_opts(
        &self,
        key: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(key, options).await
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}
