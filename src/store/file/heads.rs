//! The heads of a directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path as Key;

use super::{DEPTH_MAX, Root, blocking, done, parent, sync_directory, walk, write_durably};
use crate::error::Result;
use crate::id::BranchName;
use crate::store::head::{self, CasOutcome, HEAD_BYTES_MAX, HeadStore, HeadVersion};
use crate::store::layout;

/// The heads of a directory: `heads/<branch>`, swapped under the lock of `heads/<branch>.lock`.
///
/// The lock file is never deleted: a process that waits for the lock of a deleted file would get it
/// together with the one that locks its successor.
#[derive(Debug, Clone)]
pub struct FileHeads(Arc<Root>);

impl FileHeads {
    /// The heads below `root`, which need not exist yet and is only made by the first write.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`](crate::Error::Invalid) if the root is a file or a symbolic link.
    pub fn open(root: &Path) -> Result<Self> {
        Ok(Self(Root::open(root)?))
    }

    fn file(&self, branch: &BranchName) -> PathBuf {
        let key = layout::head_key(&Key::ROOT, branch);
        self.0.file(&key).expect("the layout makes keys only")
    }
}

#[async_trait]
impl HeadStore for FileHeads {
    async fn get(&self, branch: &BranchName) -> Result<Option<(Bytes, HeadVersion)>> {
        let path = self.file(branch);
        let name = path.clone();
        let body = blocking(move || read_head(&path)).await.flatten();
        match body.map_err(|error| self.0.failure("read", &name, error))? {
            Some(body) if body.len() > HEAD_BYTES_MAX => {
                Err(head::too_long(&name.display().to_string()))
            }
            body => Ok(body.map(|body| {
                let version = HeadVersion::of_body(&body);
                (body, version)
            })),
        }
    }

    async fn get_if_changed(
        &self,
        branch: &BranchName,
        seen: &HeadVersion,
    ) -> Result<Option<(Bytes, HeadVersion)>> {
        let found = self.get(branch).await?;
        let found = found.ok_or_else(|| head::absent(&self.0.location(), branch))?;
        Ok(Some(found).filter(|(_, version)| version != seen))
    }

    async fn cas(
        &self,
        branch: &BranchName,
        expected: Option<&HeadVersion>,
        body: Bytes,
    ) -> CasOutcome {
        let path = self.file(branch);
        let expected = expected.cloned();
        let root = Arc::clone(&self.0);
        let swapped = blocking(move || match swap(&root, &path, expected.as_ref(), &body) {
            Ok(Some(version)) => CasOutcome::Swapped(version),
            Ok(None) => CasOutcome::Conflict,
            Err(SwapFailure::Before(error)) => {
                CasOutcome::Failed(root.failure("write", &path, error))
            }
            Err(SwapFailure::During(error)) => {
                CasOutcome::Unknown(root.failure("replace", &path, error))
            }
        });
        // Without an answer, the swap may still be going on.
        swapped.await.unwrap_or_else(|error| {
            CasOutcome::Unknown(self.0.failure("replace", &self.file(branch), error))
        })
    }

    async fn list(&self) -> Result<Vec<BranchName>> {
        let path = self.0.path.join(layout::HEADS);
        let name = path.clone();
        let found = blocking(move || {
            let mut found = Vec::new();
            walk(&path, &Key::from(layout::HEADS), DEPTH_MAX, &mut found)?;
            Ok(found)
        });
        let found = found
            .await
            .flatten()
            .map_err(|error| self.0.failure("list", &name, error))?;
        Ok(found
            .iter()
            .filter_map(|meta| layout::branch_at(&Key::ROOT, &meta.location))
            .collect())
    }
}

fn read_head(path: &Path) -> io::Result<Option<Bytes>> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    }
    let mut body = Vec::new();
    File::open(path)?
        .take(HEAD_BYTES_MAX as u64 + 1)
        .read_to_end(&mut body)?;
    Ok(Some(body.into()))
}

enum SwapFailure {
    /// The head is as it was.
    Before(io::Error),
    /// The head may be the new one, and may not be durable.
    During(io::Error),
}

fn swap(
    root: &Root,
    path: &Path,
    expected: Option<&HeadVersion>,
    body: &[u8],
) -> Result<Option<HeadVersion>, SwapFailure> {
    use SwapFailure::{Before, During};

    let directory = parent(path);
    root.make_durable(directory).map_err(Before)?;
    let lock = path.with_extension("lock");
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(lock)
        .and_then(|lock| lock.lock().map(|()| lock))
        .map_err(Before)?;
    let current = read_head(path)
        .map_err(Before)?
        .map(|body| HeadVersion::of_body(&body));
    if current.as_ref() != expected {
        return Ok(None);
    }
    let temporary = path.with_extension("tmp");
    // Only the holder of the lock writes here: whatever lies here is from a process that died.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(Before(error)),
        _ => {}
    }
    File::create_new(&temporary)
        .and_then(|file| write_durably(file, [body].into_iter()))
        .map_err(Before)?;
    fs::rename(&temporary, path).map_err(During)?;
    done("named");
    sync_directory(directory).map_err(During)?;
    drop(lock);
    Ok(Some(HeadVersion::of_body(body)))
}
