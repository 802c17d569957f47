//! A directory as a store, durable on a local disk.
//!
//! [`FileObjects`] keeps packs, [`FileHeads`] keeps heads; [`Store::file`](crate::Store::file) joins the
//! two. Here is what they share. `object_store` has a file store of its own, but the release in use does not fsync, makes
//! directories when it only reads, and cannot swap a head.
//!
//! **Invariant.** When a write returns, its bytes and every directory entry that leads to them have
//! been fsynced. Since a pack is written before the head that names it, no crash leaves a head that
//! points into nothing.
//!
//! **Invariant.** Only keys of [`layout`](super::layout) become file names. The root, `packs`, `heads`,
//! every directory that is written to and every file that is read must not be a symbolic link. So no key
//! leads out of the root.
//!
//! A file is written under a temporary name, fsynced, and then linked (a pack, which must not exist) or
//! renamed (a head, under a lock) into place, so that readers never see half of it. Locks are advisory
//! file locks, freed by the kernel when a process dies. Network file systems with broken locks or
//! renames are no place for a store.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use object_store::ObjectMeta;
use object_store::path::Path as Key;

use super::layout;
use crate::error::{Error, Result};

mod heads;
mod objects;

pub use self::heads::FileHeads;
pub use self::objects::FileObjects;

/// Deepest directory below the root that holds keys: the longest branch name is cut into four parts.
const DEPTH_MAX: usize = 6;

/// A directory that is, or will be made with the first write, the root of a store.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// Directories whose entries this process has fsynced, up to the root.
    durable: Mutex<HashSet<PathBuf>>,
}

impl Root {
    fn open(path: &Path) -> Result<Arc<Self>> {
        // A later change of the working directory must not move the store.
        let path = std::path::absolute(path)
            .map_err(|error| Error::invalid(format!("{}: {error}", path.display())))?;
        let root = Self {
            path,
            durable: Mutex::default(),
        };
        for directory in [
            root.path.clone(),
            root.path.join(layout::PACKS),
            root.path.join(layout::HEADS),
        ] {
            match check_directory(&directory) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.kind() == ErrorKind::NotADirectory => {
                    return Err(Error::invalid(error.to_string()));
                }
                Err(error) => return Err(root.failure("examine", &directory, error)),
                Ok(()) => {}
            }
        }
        Ok(Arc::new(root))
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn failure(&self, verb: &'static str, path: &Path, source: io::Error) -> Error {
        super::failure(
            &self.location(),
            FileFailure {
                verb,
                path: path.to_owned(),
                source,
            },
        )
    }

    /// The file of a key, if it is a key.
    fn file(&self, key: &Key) -> io::Result<PathBuf> {
        let mut path = self.path.clone();
        for part in key.parts() {
            if !layout::is_part(part.as_ref()) {
                let reason = format!("{:?} is not a key of this store", key.as_ref());
                return Err(io::Error::new(ErrorKind::InvalidInput, reason));
            }
            path.push(part.as_ref());
        }
        Ok(path)
    }

    /// Makes a directory at or below the root, and every entry on the way to it durable.
    fn make_durable(&self, directory: &Path) -> io::Result<()> {
        // It may be gone: whoever removes a store and makes it anew need not restart the process.
        if self.durable().contains(directory) && directory.is_dir() {
            return Ok(());
        }
        let within = |ancestor: &&Path| ancestor.starts_with(&self.path);
        for ancestor in directory.ancestors().take_while(within) {
            match check_directory(ancestor) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                checked => checked?,
            }
        }
        let missing: Vec<_> = directory
            .ancestors()
            .take_while(|ancestor| !ancestor.exists())
            .collect();
        fs::create_dir_all(directory)?;
        // What another process made a moment ago may not be on the disk yet. So the entries below the
        // root are fsynced once by each process, even if they exist.
        for ancestor in directory.ancestors() {
            let below_root = ancestor != self.path && within(&ancestor);
            if !below_root && !missing.contains(&ancestor) {
                break;
            }
            if let Some(parent) = ancestor.parent() {
                sync_directory(parent)?;
            }
        }
        self.durable().insert(directory.to_owned());
        Ok(())
    }

    fn durable(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A directory that is not reached through a symbolic link.
fn check_directory(path: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(path)?.file_type();
    let reason = match (kind.is_symlink(), kind.is_dir()) {
        (false, true) => return Ok(()),
        (true, _) => "a symbolic link; name the directory it points to",
        _ => "not a directory",
    };
    Err(io::Error::new(
        ErrorKind::NotADirectory,
        format!("{} is {reason}", path.display()),
    ))
}

/// Makes the entries of a directory durable. Windows has no such call and needs none.
fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(windows) {
        Ok(())
    } else {
        File::open(path)?.sync_all()?;
        done("directory on disk");
        Ok(())
    }
}

/// Notes what has been done, for tests of the order.
fn done(what: &'static str) {
    #[cfg(test)]
    tests::DONE.with_borrow_mut(|done| done.push(what));
    let _ = what;
}

fn parent(path: &Path) -> &Path {
    path.parent().expect("a key lies below the root")
}

/// A failed file operation, with the file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {}", path.display())]
pub(super) struct FileFailure {
    pub(super) verb: &'static str,
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}

/// The same, as `object_store` says it.
fn object_failure(verb: &'static str, path: &Path, source: io::Error) -> object_store::Error {
    use object_store::Error as E;

    let kind = source.kind();
    let name = path.display().to_string();
    let source = Box::new(FileFailure {
        verb,
        path: path.to_owned(),
        source,
    });
    match kind {
        ErrorKind::NotFound => E::NotFound { path: name, source },
        ErrorKind::AlreadyExists => E::AlreadyExists { path: name, source },
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            E::PermissionDenied { path: name, source }
        }
        _ => E::Generic {
            store: "file",
            source,
        },
    }
}

/// Runs file operations where they may block: on a thread for it inside a tokio runtime, else here.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    match tokio::runtime::Handle::try_current() {
        Err(_) => Ok(work()),
        Ok(runtime) => match runtime.spawn_blocking(work).await {
            Ok(done) => Ok(done),
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(stopped) => Err(io::Error::other(stopped)),
            },
        },
    }
}

fn write_durably<'a>(mut file: File, chunks: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
    chunks
        .into_iter()
        .try_for_each(|chunk| file.write_all(chunk))?;
    file.sync_all()?;
    done("file on disk");
    Ok(())
}

fn object_meta(meta: &fs::Metadata, location: Key) -> io::Result<ObjectMeta> {
    if !meta.is_file() {
        let reason = if meta.is_symlink() {
            "is a symbolic link"
        } else {
            "is not a file"
        };
        return Err(io::Error::new(ErrorKind::InvalidInput, reason));
    }
    let modified = meta
        .modified()?
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let last_modified = i64::try_from(modified.as_secs())
        .ok()
        .and_then(|seconds| chrono::DateTime::from_timestamp(seconds, modified.subsec_nanos()))
        .unwrap_or_default();
    Ok(ObjectMeta {
        location,
        last_modified,
        size: meta.len(),
        e_tag: None,
        version: None,
    })
}

/// Lists the files whose names are keys, without following symbolic links.
fn walk(path: &Path, key: &Key, depth: usize, found: &mut Vec<ObjectMeta>) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(());
        }
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(part) = name.to_str().filter(|name| layout::is_part(name)) else {
            continue;
        };
        let kind = entry.file_type()?;
        let key = key.clone().join(part);
        if kind.is_dir() && depth > 1 {
            walk(&entry.path(), &key, depth - 1, found)?;
        } else if kind.is_file() {
            match entry.metadata() {
                // Deleted since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                meta => found.push(object_meta(&meta?, key)?),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use bytes::Bytes;
    use futures::executor::block_on;

    use super::*;
    use crate::id::{BranchName, PackId};
    use crate::{CasOutcome, Store};

    const PACK: PackId = PackId([1; 16]);

    thread_local! {
        /// What this thread has done, in order: outside a runtime, a store works on the thread that asks.
        pub(super) static DONE: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
    }

    /// A power cut takes what is not on the disk, the name of a file included.
    #[test]
    fn what_is_confirmed_is_on_the_disk() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::file(root.path()).unwrap();
        let last = || {
            let done = DONE.take();
            done[done.len() - 3..].to_vec()
        };
        let durable = ["file on disk", "named", "directory on disk"];
        let body = || Bytes::from_static(b"bytes");
        block_on(store.put_pack(PACK, body())).unwrap();
        assert_eq!(last(), durable, "a pack");
        let branch = BranchName::default();
        let CasOutcome::Swapped(head) = block_on(store.cas_head(&branch, None, body())) else {
            panic!("the first head is swapped in");
        };
        assert_eq!(last(), durable, "a first head");
        let next = Bytes::from_static(b"more bytes");
        let swapped = block_on(store.cas_head(&branch, Some(&head), next));
        assert!(matches!(swapped, CasOutcome::Swapped(_)));
        assert_eq!(last(), durable, "a head");
    }

    fn names_below(root: &Path) -> Vec<String> {
        let mut names = Vec::new();
        let mut pending = vec![root.to_owned()];
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                names.push(path.strip_prefix(root).unwrap().display().to_string());
                if path.is_dir() {
                    pending.push(path);
                }
            }
        }
        names.sort();
        names
    }

    #[tokio::test]
    async fn reading_makes_no_directory() {
        let parent = tempfile::tempdir().unwrap();
        let store = Store::file(&parent.path().join("absent")).unwrap();
        assert!(store.head(&BranchName::default()).await.unwrap().is_none());
        assert!(store.read_pack(PACK).await.is_err());
        assert!(store.list_branches().await.unwrap().is_empty());
        assert!(store.list_packs().await.unwrap().is_empty());
        assert!(names_below(parent.path()).is_empty());
    }

    #[tokio::test]
    async fn writing_leaves_packs_heads_and_locks_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::file(root.path()).unwrap();
        let branch = BranchName::default();
        store
            .put_pack(PACK, Bytes::from_static(b"pack"))
            .await
            .unwrap();
        assert!(
            store
                .put_pack(PACK, Bytes::from_static(b"other"))
                .await
                .is_err()
        );
        let head = store
            .cas_head(&branch, None, Bytes::from_static(b"one"))
            .await;
        let CasOutcome::Swapped(head) = head else {
            panic!("{head:?}")
        };
        let head = store
            .cas_head(&branch, Some(&head), Bytes::from_static(b"two"))
            .await;
        assert!(matches!(head, CasOutcome::Swapped(_)));
        let pack = format!("packs/01/{PACK}");
        let expected = [
            "heads",
            "heads/main",
            "heads/main.lock",
            "packs",
            "packs/01",
            pack.as_str(),
        ];
        assert_eq!(names_below(root.path()), expected);
    }

    #[tokio::test]
    async fn what_a_crash_left_behind_is_neither_read_nor_in_the_way() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::file(root.path()).unwrap();
        let branch = BranchName::default();
        fs::create_dir_all(root.path().join("heads")).unwrap();
        fs::create_dir_all(root.path().join("packs/01")).unwrap();
        fs::write(root.path().join("heads/main.tmp"), "half a he").unwrap();
        fs::write(root.path().join("heads/main.lock"), "").unwrap();
        fs::write(
            root.path().join(format!("packs/01/{PACK}.tmp")),
            "half a pa",
        )
        .unwrap();
        assert!(store.list_branches().await.unwrap().is_empty());
        assert!(store.list_packs().await.unwrap().is_empty());
        let head = store
            .cas_head(&branch, None, Bytes::from_static(b"whole"))
            .await;
        assert!(matches!(head, CasOutcome::Swapped(_)), "{head:?}");
        assert_eq!(store.head(&branch).await.unwrap().unwrap().0, "whole");
    }

    #[tokio::test]
    async fn a_store_where_nothing_can_be_written_fails_and_says_where() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::file(root.path()).unwrap();
        fs::write(
            root.path().join("packs"),
            "a file where a directory belongs",
        )
        .unwrap();
        let error = store
            .put_pack(PACK, Bytes::from_static(b"pack"))
            .await
            .unwrap_err();
        let chain = crate::store::tests::chain(&error);
        assert!(
            chain.contains(&root.path().join("packs").display().to_string()),
            "{chain}"
        );
        fs::write(root.path().join("heads"), "another").unwrap();
        let outcome = store
            .cas_head(&BranchName::default(), None, Bytes::from_static(b"head"))
            .await;
        assert!(matches!(outcome, CasOutcome::Failed(_)), "{outcome:?}");
        assert!(
            Store::file(root.path()).is_err(),
            "opening looks at the directories"
        );
        assert!(
            Store::file(&root.path().join("heads")).is_err(),
            "a file is no store"
        );
    }

    #[test]
    fn only_keys_of_the_layout_become_file_names() {
        let root = Root::open(Path::new("somewhere")).unwrap();
        for foreign in [
            "a.b",
            "A",
            "con",
            "a b",
            "packs/..%2f",
            "heads/é",
            "heads/a#1",
        ] {
            let key = Key::parse(foreign).unwrap();
            assert!(root.file(&key).is_err(), "{foreign}");
        }
        assert!(
            root.file(&Key::from("heads/main"))
                .unwrap()
                .ends_with("somewhere/heads/main")
        );
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn symbolic_links_are_refused() {
        use std::os::unix::fs::symlink;

        let parent = tempfile::tempdir().unwrap();
        let outside = parent.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "secret").unwrap();

        symlink(&outside, parent.path().join("link")).unwrap();
        let refused = Store::file(&parent.path().join("link"))
            .unwrap_err()
            .to_string();
        assert!(refused.contains("symbolic link"), "{refused}");

        let root = parent.path().join("root");
        let store = Store::file(&root).unwrap();
        fs::create_dir_all(root.join("packs")).unwrap();
        symlink(&outside, root.join("packs/01")).unwrap();
        store
            .put_pack(PACK, Bytes::from_static(b"pack"))
            .await
            .unwrap_err();
        fs::create_dir(root.join("packs/02")).unwrap();
        let pack = PackId([2; 16]);
        symlink(
            outside.join("secret"),
            root.join(format!("packs/02/{pack}")),
        )
        .unwrap();
        store.read_pack(pack).await.unwrap_err();
        assert!(store.list_packs().await.unwrap().is_empty());
        fs::create_dir(root.join("heads")).unwrap();
        symlink(outside.join("secret"), root.join("heads/main")).unwrap();
        store.head(&BranchName::default()).await.unwrap_err();
        assert_eq!(names_below(&outside), ["secret"]);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_directory_without_permission_to_write_is_readable() {
        use std::os::unix::fs::PermissionsExt;

        let root = tempfile::tempdir().unwrap();
        let branch = BranchName::default();
        let store = Store::file(root.path()).unwrap();
        let written = store
            .cas_head(&branch, None, Bytes::from_static(b"head"))
            .await;
        let CasOutcome::Swapped(version) = written else {
            panic!("{written:?}")
        };
        let heads = root.path().join("heads");
        fs::set_permissions(&heads, fs::Permissions::from_mode(0o555)).unwrap();
        assert_eq!(store.head(&branch).await.unwrap().unwrap().0, "head");
        let outcome = store
            .cas_head(&branch, Some(&version), Bytes::from_static(b"more"))
            .await;
        fs::set_permissions(&heads, fs::Permissions::from_mode(0o755)).unwrap();
        // The superuser may write everywhere.
        assert!(
            matches!(outcome, CasOutcome::Failed(_) | CasOutcome::Swapped(_)),
            "{outcome:?}"
        );
    }
}
