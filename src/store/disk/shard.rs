//! A sixteenth of the directory, and how much of it is in use.
//!
//! Counting looks at every file, so it is done seldom and for one shard at a time: at the full 10 GiB, some thirty
//! thousand files.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::frame::{is_name, is_temporary};

/// What a file takes of a disk is a multiple of this, in bytes.
const BLOCK: u64 = 4 << 10;
/// A file that is being written for longer than this was given up.
const GIVEN_UP: Duration = Duration::from_hours(1);
/// How many files are not written before a shard is counted anew that could not be listed, or where nothing could be
/// removed.
const PATIENCE: u32 = 1000;

/// A shard is counted whenever so much of its share has been written: one part in this many.
const COUNTED_SHARE: u64 = 16;

/// One part of the directory.
pub(super) struct Shard {
    path: PathBuf,
    bytes_max: u64,
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    /// Bytes in use, as far as this process knows: before it has counted, of its own files.
    bytes: u64,
    /// Bytes that this process has written since it counted.
    written: u64,
    /// How many files are turned away without looking.
    turned_away: u32,
}

/// A file of the shard.
pub(super) struct Held {
    pub(super) path: PathBuf,
    /// In whole blocks.
    pub(super) bytes: u64,
    pub(super) is_temporary: bool,
    modified: SystemTime,
}

impl Shard {
    /// A shard that is first counted after a random part of what is written between two counts.
    pub(super) fn new(path: PathBuf, bytes_max: u64, random: [u8; 16]) -> Self {
        let part = u128::from_le_bytes(random) % u128::from(bytes_max / COUNTED_SHARE).max(1);
        let counted = Counted {
            written: u64::try_from(part).unwrap_or(0),
            ..Counted::default()
        };
        Self {
            path,
            bytes_max,
            counted: Mutex::new(counted),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes room for a file of so many bytes and counts it; `false` if there is none.
    pub(super) fn reserve(&self, len: u64) -> io::Result<bool> {
        let bytes = in_blocks(len);
        if bytes > self.bytes_max / 4 {
            return Ok(false);
        }
        let mut counted = self.counted();
        if counted.turned_away > 0 {
            counted.turned_away -= 1;
            return Ok(false);
        }
        let fits = |held: &u64| held.saturating_add(bytes) <= self.bytes_max;
        let is_fresh = counted.written.saturating_add(bytes) <= self.bytes_max / COUNTED_SHARE;
        let held = if is_fresh && fits(&counted.bytes) {
            counted.bytes
        } else {
            counted.written = 0;
            // What cannot be listed is not tried for every file.
            let swept = self.sweep(bytes);
            swept.inspect_err(|_| counted.turned_away = PATIENCE)?
        };
        counted.bytes = held;
        if !fits(&held) {
            counted.turned_away = PATIENCE;
            return Ok(false);
        }
        counted.bytes = held + bytes;
        counted.written += bytes;
        Ok(true)
    }

    /// Takes back what was reserved for a file that could not be written.
    pub(super) fn release(&self, len: u64) {
        let mut counted = self.counted();
        counted.bytes = counted.bytes.saturating_sub(in_blocks(len));
    }

    /// Forgets the count, for files were removed, so that the next file has the others counted.
    pub(super) fn recount(&self) {
        *self.counted() = Counted {
            written: self.bytes_max,
            ..Counted::default()
        };
    }

    /// Counts the files. If there is no room for so many bytes more, removes those that were not used for longest.
    fn sweep(&self, room: u64) -> io::Result<u64> {
        let mut held = 0_u64;
        let mut files = Vec::new();
        self.each(None, |file| {
            let given_up = file.is_temporary
                && super::age(file.modified).is_some_and(|age| age > GIVEN_UP)
                && fs::remove_file(&file.path).is_ok();
            if !given_up {
                held = held.saturating_add(file.bytes);
                if !file.is_temporary {
                    files.push((file.modified, file.bytes, file.path.clone()));
                }
            }
            Ok(())
        })?;
        if held.saturating_add(room) <= self.bytes_max {
            return Ok(held);
        }
        files.sort_unstable();
        let enough = (self.bytes_max / 10 * 9).min(self.bytes_max - room);
        for (_, bytes, path) in files {
            if held <= enough {
                break;
            }
            match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {}
                // Another process may have removed it a moment ago.
                _ => held = held.saturating_sub(bytes),
            }
        }
        Ok(held)
    }

    /// Looks at all files of the shard, or at those of one store. What does not have a name of ours is left alone.
    pub(super) fn each(
        &self,
        store: Option<&str>,
        mut look: impl FnMut(&Held) -> io::Result<()>,
    ) -> io::Result<()> {
        for (folder, _) in entries(&self.path, fs::FileType::is_dir)? {
            let name = folder.file_name().and_then(|name| name.to_str());
            if !name.is_some_and(|name| is_name(name) && store.is_none_or(|store| store == name)) {
                continue;
            }
            for (path, entry) in entries(&folder, fs::FileType::is_file)? {
                let name = path.file_name().and_then(|name| name.to_str());
                let is_temporary = name.is_some_and(is_temporary);
                if !is_temporary && !name.is_some_and(is_name) {
                    continue;
                }
                // Another process may have removed it a moment ago.
                let Some(meta) = unless_gone(entry.metadata())? else {
                    continue;
                };
                look(&Held {
                    bytes: in_blocks(meta.len()),
                    modified: meta.modified()?,
                    is_temporary,
                    path,
                })?;
            }
        }
        Ok(())
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_blocks(len: u64) -> u64 {
    len.div_ceil(BLOCK).saturating_mul(BLOCK)
}

/// What lies in a directory and is of this kind itself, not by a symbolic link; nothing if there is none.
fn entries(
    folder: &Path,
    kind: impl Fn(&fs::FileType) -> bool,
) -> io::Result<Vec<(PathBuf, fs::DirEntry)>> {
    let Some(listed) = unless_gone(fs::read_dir(folder))? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in listed {
        let entry = entry?;
        if unless_gone(entry.file_type())?.is_some_and(|found| kind(&found)) {
            found.push((entry.path(), entry));
        }
    }
    Ok(found)
}

fn unless_gone<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
