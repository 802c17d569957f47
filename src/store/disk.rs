//! A directory on this machine's disk that keeps frames of stores elsewhere: the tier of the cache below memory.
//!
//! ```text
//! <directory>/<shard>/<store>/<name>     16 bytes of checksum, then the frame      src/store/disk/frame.rs
//!             0 … f    │       └ hash of the store, the pack, the offset and the length
//!                      └ hash of the store's address
//! ```
//!
//! Any number of processes share it, by files that are written under another name and renamed: the disk engines
//! of cache libraries belong to one process each. Nobody asks anybody, and no lock outlives a piece of file work.
//! What is looked up are frames of packs, by their [`Location`]; packs never change, so nothing here becomes stale.
//! Heads and notes are never kept. A frame whose pack garbage collection has deleted is still read from here, as
//! from memory: a value that was opened before reads on, until it asks for what is not here
//! ([`Error::SnapshotExpired`]).
//!
//! **Invariant.** A file is read only if it is as long as its key says and its checksum is that of key and frame.
//! Any other is deleted, and the frame read from the store. The hash of the node stands above, and a frame that does
//! not have it is read from the store anew by the [loader](crate::node::Loader), which replaces the file. So damage
//! here is never an error of a database. Of what a frame says besides, where its children lie, there is no hash:
//! a directory that others than its owner may write to is refused.
//!
//! **Invariant.** What cannot be written fails no read. It is counted ([`DiskCache::failures`]) and traced.
//!
//! **Bound.** The sixteen shards share the bound equally; frames meet them at random, so that a full directory
//! holds a little less than it may, and a frame of more than a 64th of the bound is not kept. A process counts a
//! shard whenever it has written a sixteenth of the shard's share there, the first time after some part of that, which
//! is left to chance: so short processes, too, count as often as all of them together must. In between, a process
//! knows of its own files only. So each one that writes at the same time may exceed the bound by a sixteenth. A
//! shard that is full loses what was not used for longest, a tenth of its share: a hit renews the modified time of a
//! file once a minute. Files count in blocks of 4 KiB.
//!
//! **Purges.** A process that purges a branch removes all frames of its store from here, and what was opened
//! before in that process writes no more. Values that other processes opened before may write what they still
//! read of the old packs. Tiers of other machines keep what they have until it is pushed out or cleared.
//!
//! A directory that we make is for its owner alone, for it holds what the stores guard.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use self::frame::{HEADER_BYTES, Key};
use self::shard::Shard;
use super::file::{FileFailure, blocking};
use super::frames::Purges;
use super::{Identity, Store};
use crate::environment::{Environment, System};
use crate::error::{Error, Result};
use crate::id::Location;

mod frame;
mod settings;
mod shard;

/// Parts of the directory: one hexadecimal digit.
const SHARDS: u64 = 16;
/// How old the modified time of a file may be that was just read.
const RENEWED: Duration = Duration::from_mins(1);

/// A directory that keeps frames of stores elsewhere, for any number of stores and processes.
///
/// A handle: clones are cheap and share what is known of the directory. See [`Store::with_disk_cache`]; stores
/// elsewhere that are opened by their address use the directory that the environment names.
#[derive(Clone)]
pub struct DiskCache(Arc<Directory>);

struct Directory {
    path: PathBuf,
    bytes_max: u64,
    shards: Vec<Shard>,
    failures: AtomicU64,
}

/// What a [`DiskCache`] holds, or held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Frames.
    pub frames: u64,
    /// Bytes of their files, in blocks of 4 KiB.
    pub bytes: u64,
}

/// The directories that the environment has named, for stores that are opened one after another count together.
static NAMED: LazyLock<Mutex<Vec<DiskCache>>> = LazyLock::new(Mutex::default);

/// How often this process has purged a store.
static PURGES: LazyLock<Mutex<HashMap<[u8; 32], Arc<AtomicU64>>>> = LazyLock::new(Mutex::default);

impl DiskCache {
    /// How many bytes of files a directory holds unless something else is said: 10 GiB.
    pub const BYTES_MAX: u64 = 10 << 30;

    /// The cache in a directory, which is made if it is missing; it holds so many bytes of files at most.
    ///
    /// Other files that lie there are neither counted nor touched.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if there is no such directory and none can be made, or if others may write to it.
    pub fn open(directory: &Path, bytes_max: u64) -> Result<Self> {
        // A later change of the working directory must not move it.
        let path = std::path::absolute(directory)
            .and_then(|path| {
                make_private(&path)?;
                refuse_others(&path).map(|()| path)
            })
            .map_err(|error| {
                let directory = directory.display();
                Error::invalid(format!("{directory} cannot be a cache directory: {error}"))
            })?;
        let shards = (0..SHARDS).map(|digit| {
            let path = path.join(format!("{digit:x}"));
            Shard::new(path, bytes_max / SHARDS, System.random())
        });
        Ok(Self(Arc::new(Directory {
            shards: shards.collect(),
            path,
            bytes_max,
            failures: 0.into(),
        })))
    }

    /// The cache that the environment names: `DATOMFUSION_CACHE_DIR`, and the bytes that it holds at most,
    /// `DATOMFUSION_CACHE_BYTES`, a number with or without `k`, `m`, `g`; 10 GiB without it. `None` without the first.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`Error::Invalid`] for any other number.
    pub fn from_environment() -> Result<Option<Self>> {
        let Some((directory, bytes_max)) = settings::from_environment()? else {
            return Ok(None);
        };
        let opened = Self::open(&directory, bytes_max)?;
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &&Self| known.path() == opened.path() && known.0.bytes_max == bytes_max;
        if let Some(known) = named.iter().find(same) {
            return Ok(Some(known.clone()));
        }
        named.push(opened.clone());
        Ok(Some(opened))
    }

    /// The directory, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Most bytes of files that it holds.
    pub fn bytes_max(&self) -> u64 {
        self.0.bytes_max
    }

    /// How often this process could not read, write or remove a file.
    pub fn failures(&self) -> u64 {
        self.0.failures.load(Ordering::Relaxed)
    }

    /// Counts what the directory holds, of all stores. Looks at every file.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if it cannot be listed.
    pub async fn usage(&self) -> Result<DiskUsage> {
        self.run("list", |directory| {
            let mut usage = DiskUsage::default();
            for shard in &directory.shards {
                shard.each(None, |file| {
                    usage.add(file);
                    Ok(())
                })?;
            }
            Ok(usage)
        })
        .await
    }

    /// Removes what the directory holds, of all stores, and says what it was. Other files stay.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if something cannot be removed.
    pub async fn clear(&self) -> Result<DiskUsage> {
        self.run("clear", |directory| directory.remove(None)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        verb: &'static str,
        work: impl FnOnce(&Directory) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let directory = Arc::clone(&self.0);
        let done = blocking(move || work(&directory)).await.flatten();
        done.map_err(|source| {
            let path = self.0.path.clone();
            let failure = FileFailure { verb, path, source };
            super::failure(&self.0.path.display().to_string(), failure)
        })
    }
}

impl fmt::Debug for DiskCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskCache")
            .field("path", &self.0.path)
            .field("bytes_max", &self.0.bytes_max)
            .finish_non_exhaustive()
    }
}

impl DiskUsage {
    fn add(&mut self, file: &shard::Held) {
        if !file.is_temporary {
            self.frames += 1;
            self.bytes = self.bytes.saturating_add(file.bytes);
        }
    }
}

impl Directory {
    /// Removes all frames, or those of one store.
    fn remove(&self, store: Option<&str>) -> io::Result<DiskUsage> {
        let mut removed = DiskUsage::default();
        for shard in &self.shards {
            shard.each(store, |file| {
                match fs::remove_file(&file.path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => removed.add(file),
                }
                Ok(())
            })?;
            shard.recount();
        }
        Ok(removed)
    }

    fn failed(&self, verb: &'static str, path: &Path, error: &io::Error) {
        // A full disk fails every time: it is said loudly once.
        let path = path.display();
        if self.failures.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(%path, %error, "the disk cache cannot {verb} a file");
        } else {
            tracing::debug!(%path, %error, "the disk cache cannot {verb} a file");
        }
    }
}

/// The tier of one store.
#[derive(Clone)]
pub(super) struct Tier {
    cache: DiskCache,
    store: [u8; 32],
    /// Below each shard.
    folder: Arc<str>,
    purges: Arc<AtomicU64>,
}

impl Tier {
    /// The tier of a store at a place: a purge is of a place, however its address is written.
    fn new(cache: DiskCache, store: [u8; 32], place: [u8; 32]) -> Self {
        let mut purges = PURGES.lock().unwrap_or_else(PoisonError::into_inner);
        Self {
            cache,
            folder: frame::folder(&place).into(),
            purges: Arc::clone(purges.entry(place).or_default()),
            store,
        }
    }

    /// How often this process has purged the store.
    pub(super) fn purges(&self) -> Purges {
        Purges(self.purges.load(Ordering::SeqCst))
    }

    fn place(&self, key: &Key) -> (&Shard, PathBuf) {
        let name = key.name();
        let digit = name.chars().next().and_then(|first| first.to_digit(16));
        let shard = &self.cache.0.shards[digit.unwrap_or_default() as usize];
        (shard, shard.path().join(&*self.folder).join(name))
    }

    /// The frame, if it is here and whole.
    pub(super) fn read(&self, location: &Location) -> Option<Bytes> {
        let key = Key::new(&self.store, location);
        let (_, path) = self.place(&key);
        match read(&path, &key) {
            Ok(Some(frame)) => Some(frame),
            Ok(None) => {
                self.remove_file(&path);
                None
            }
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                self.cache.0.failed("read", &path, &error);
                None
            }
        }
    }

    /// Keeps a frame that was asked for after so many purges.
    pub(super) fn write(&self, location: &Location, frame: &[u8], asked: Purges) {
        if frame.is_empty() || self.purges() != asked {
            return;
        }
        let key = Key::new(&self.store, location);
        let (shard, path) = self.place(&key);
        let len = frame.len() as u64 + HEADER_BYTES as u64;
        let written = match shard.reserve(len) {
            Ok(true) => put(&path, &key.encode(frame)).inspect_err(|_| {
                shard.release(len);
            }),
            Ok(false) => return,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            self.cache.0.failed("write", &path, &error);
        }
        // A purge that was counted since may have looked here before the file had its name. One that was not
        // counted yet looks later, and finds it.
        if self.purges() != asked {
            self.remove_file(&path);
        }
    }

    /// Removes one frame.
    pub(super) fn remove(&self, location: &Location) {
        let (_, path) = self.place(&Key::new(&self.store, location));
        self.remove_file(&path);
    }

    /// Removes all frames of the store, and lets nothing be written that was asked for before.
    pub(super) fn purge(&self) -> Purges {
        let before = self.purges.fetch_add(1, Ordering::SeqCst);
        let directory = &self.cache.0;
        if let Err(error) = directory.remove(Some(&self.folder)) {
            directory.failed("remove", &directory.path, &error);
        }
        Purges(before + 1)
    }

    fn remove_file(&self, path: &Path) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                self.cache.0.failed("remove", path, &error);
            }
            _ => {}
        }
    }
}

impl Store {
    /// This store with a tier of its cache on disk: frames are looked for there before the store is asked, and
    /// kept there when it has answered. Verification goes past it.
    ///
    /// A store that was opened by its address is known by that, options included; any other by its location, so
    /// that different stores that share a directory need different ones. Stores on this machine gain nothing.
    #[must_use]
    pub fn with_disk_cache(self, cache: &DiskCache) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        let mut hasher = blake3::Hasher::new();
        hasher.update(inner.location.as_bytes());
        hasher.update(&[0]);
        hasher.update(inner.prefix.as_ref().as_bytes());
        let place = *hasher.finalize().as_bytes();
        let store = match inner.identity {
            Identity::Address(hash) => *hash.as_bytes(),
            Identity::Objects | Identity::ObjectsAndHeads => place,
        };
        inner.disk = Some(Tier::new(cache.clone(), store, place));
        Self(Arc::new(inner))
    }

    /// The disk tier of this store, if it has one.
    pub fn disk_cache(&self) -> Option<&DiskCache> {
        self.0.disk.as_ref().map(|tier| &tier.cache)
    }
}

/// What others write may lead a reader, and then a writer, to wrong places.
fn refuse_others(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if fs::metadata(path)?.permissions().mode() & 0o022 != 0 {
            let reason = "others may write to it; chmod 700 it, or name another";
            return Err(io::Error::new(ErrorKind::PermissionDenied, reason));
        }
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Makes a directory that only its owner may look into, unless there is one.
fn make_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Reads a file; `None` if it is not the one of this key.
fn read(path: &Path, key: &Key) -> io::Result<Option<Bytes>> {
    // Opening what is no file may block, so it is looked at first.
    if !fs::symlink_metadata(path)?.is_file() {
        return Ok(None);
    }
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() != key.file_len() {
        return Ok(None);
    }
    // The file was as long as this a moment ago, so allocating for it is safe; it may have grown since.
    let capacity =
        usize::try_from(meta.len()).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
    let mut bytes = Vec::with_capacity(capacity);
    Read::by_ref(&mut file)
        .take(key.file_len())
        .read_to_end(&mut bytes)?;
    let frame = key.decode(bytes);
    if frame.is_some() && age(meta.modified()?).is_none_or(|age| age > RENEWED) {
        // Where that is not allowed, the oldest files go first instead of the least used.
        let _ = file.set_modified(now());
    }
    Ok(frame)
}

/// Writes a file, whole or not at all.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = frame::temporary(path, System.random());
    let file = File::create_new(&temporary).or_else(|error| {
        let Some(folder) = path
            .parent()
            .filter(|_| error.kind() == ErrorKind::NotFound)
        else {
            return Err(error);
        };
        make_private(folder)?;
        File::create_new(&temporary)
    })?;
    // Not fsynced: what a crash leaves has another checksum.
    let written = { file }
        .write_all(bytes)
        .and_then(|()| fs::rename(&temporary, path));
    match written {
        // Somebody cleared the directory meanwhile.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(System.now().unsigned_abs())
}

/// How long ago this was; `None` if it is yet to come.
fn age(modified: SystemTime) -> Option<Duration> {
    now().duration_since(modified).ok()
}

#[cfg(test)]
mod tests;
