//! The packs of a directory.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use super::{
    DEPTH_MAX, Root, blocking, done, object_failure, object_meta, parent, sync_directory, walk,
    write_durably,
};
use crate::error::Result;
use crate::store::failure::unsupported;

/// The immutable objects of a directory. Puts only create; there is nothing else a store needs.
#[derive(Debug, Clone)]
pub struct FileObjects(Arc<Root>);

impl FileObjects {
    /// The objects below `root`, which need not exist yet and is only made by the first write.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`](crate::Error::Invalid) if the root is a file or a symbolic link.
    pub fn open(root: &Path) -> Result<Self> {
        Ok(Self(Root::open(root)?))
    }

    /// The directory, as an absolute path.
    pub(in crate::store) fn root(&self) -> &Path {
        &self.0.path
    }

    async fn run<T: Send + 'static>(
        &self,
        verb: &'static str,
        key: &Key,
        work: impl FnOnce(&Root, &Path) -> io::Result<T> + Send + 'static,
    ) -> object_store::Result<T> {
        let root = Arc::clone(&self.0);
        let path = root
            .file(key)
            .map_err(|error| object_failure(verb, &root.path, error))?;
        let name = path.clone();
        let done = blocking(move || work(&root, &path)).await.flatten();
        done.map_err(|error| object_failure(verb, &name, error))
    }
}

impl std::fmt::Display for FileObjects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.path.display())
    }
}

#[async_trait]
impl ObjectStore for FileObjects {
    async fn put_opts(
        &self,
        key: &Key,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        if options.mode != PutMode::Create || !options.attributes.is_empty() {
            return unsupported("FileObjects", "put other than `PutMode::Create`");
        }
        self.run("create", key, move |root, path| {
            create(root, path, &payload)
        })
        .await?;
        Ok(PutResult {
            e_tag: None,
            version: None,
        })
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> object_store::Result<GetResult> {
        let location = key.clone();
        self.run("read", key, move |_, path| {
            let meta = object_meta(&fs::symlink_metadata(path)?, location)?;
            if let Err(refused) = options.check_preconditions(&meta) {
                return Ok(Err(refused));
            }
            let range = match options.range {
                _ if options.head => 0..0,
                Some(range) => range
                    .as_range(meta.size)
                    .map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?,
                None => 0..meta.size,
            };
            let bytes = read_range(path, &range)?;
            let payload = GetResultPayload::Stream(stream::iter([Ok(bytes)]).boxed());
            Ok(Ok(GetResult {
                payload,
                meta,
                range,
                attributes: object_store::Attributes::new(),
            }))
        })
        .await?
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let this = self.clone();
        let prefix = prefix.cloned().unwrap_or_default();
        let listing = async move {
            let below = prefix.clone();
            let found = this
                .run("list", &prefix, move |_, path| {
                    let mut found = Vec::new();
                    walk(path, &below, DEPTH_MAX, &mut found)?;
                    Ok(found)
                })
                .await?;
            Ok::<_, object_store::Error>(stream::iter(found.into_iter().map(Ok)))
        };
        stream::once(listing).try_flatten().boxed()
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, object_store::Result<Key>>,
    ) -> BoxStream<'static, object_store::Result<Key>> {
        let this = self.clone();
        keys.and_then(move |key| {
            let this = this.clone();
            async move {
                this.run("delete", &key, |_, path| fs::remove_file(path))
                    .await?;
                Ok(key)
            }
        })
        .boxed()
    }

    async fn put_multipart_opts(
        &self,
        _: &Key,
        _: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        unsupported("FileObjects", "multipart upload")
    }

    async fn list_with_delimiter(&self, _: Option<&Key>) -> object_store::Result<ListResult> {
        unsupported("FileObjects", "list with delimiter")
    }

    async fn copy_opts(&self, _: &Key, _: &Key, _: CopyOptions) -> object_store::Result<()> {
        unsupported("FileObjects", "copy")
    }
}

/// Writes a new file: whole, durable, and never over another.
fn create(root: &Root, path: &Path, payload: &PutPayload) -> io::Result<()> {
    let directory = parent(path);
    root.make_durable(directory)?;
    let temporary = path.with_extension("tmp");
    let written = File::create_new(&temporary)
        .map(|file| write_durably(file, payload.iter().map(AsRef::as_ref)))?
        .and_then(|()| link_new(&temporary, path));
    // What cannot be removed is litter; a crash leaves the same.
    let _ = fs::remove_file(&temporary);
    written?;
    done("named");
    sync_directory(directory)
}

fn link_new(temporary: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(temporary, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(error),
        // Some file systems have no hard links. Names of packs are random, so that the gap between this
        // look and the rename is of no account.
        Err(_) if path.try_exists()? => Err(ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(temporary, path),
        Ok(()) => Ok(()),
    }
}

/// `range` is within the length that the file had a moment ago, so allocating for it is safe.
fn read_range(path: &Path, range: &Range<u64>) -> io::Result<Bytes> {
    let len = range.end - range.start;
    if len == 0 {
        return Ok(Bytes::new());
    }
    let mut file = File::open(path)?;
    if range.start > 0 {
        file.seek(SeekFrom::Start(range.start))?;
    }
    let capacity = usize::try_from(len).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
    let mut bytes = Vec::with_capacity(capacity);
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}
