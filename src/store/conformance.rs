//! What every backend must do, as functions that panic where it does not.
//!
//! The same functions run on memory, on a directory and on an object store here, and on whatever another
//! crate implements [`HeadStore`](crate::HeadStore) or `ObjectStore` for. [`all`] is the whole contract;
//! [`add`] is for tests that count from several processes.
//!
//! ```
//! # #[cfg(feature = "conformance")]
//! # futures::executor::block_on(async {
//! use datomfusion::{Store, conformance};
//!
//! conformance::all(Store::memory).await;
//! # });
//! ```

use bytes::Bytes;
use futures::future::join_all;

use super::layout;
use super::{CasOutcome, Footer, FrameKind, HeadVersion, PackWriter, Store, read_footer};
use crate::error::Error;
use crate::id::{BranchName, Location, NodeId, PackId};

/// Runs everything below, each on a store that `empty` has just made.
///
/// # Panics
///
/// If the backend breaks the contract.
pub async fn all(empty: impl Fn() -> Store) {
    packs_are_written_once(&empty()).await;
    frames_are_read_by_their_place(&empty()).await;
    a_pack_that_is_short_is_corrupt_and_a_missing_one_expired(&empty()).await;
    packs_are_listed(&empty()).await;
    heads_are_created_once(&empty()).await;
    heads_are_swapped_from_their_version(&empty()).await;
    an_old_version_never_comes_back(&empty()).await;
    an_unchanged_head_is_not_sent_again(&empty()).await;
    branches_do_not_meet(&empty()).await;
    no_increment_is_lost(&empty()).await;
    requests_are_counted(&empty()).await;
}

/// Nothing is there before it is written, all of it is there afterwards, and it never changes.
///
/// # Panics
///
/// If the backend breaks the contract.
pub async fn packs_are_written_once(store: &Store) {
    let (id, body) = sample_pack(1);
    assert!(
        store.read_pack(id).await.is_err(),
        "a pack is there before it is written"
    );
    done(store.put_pack(id, body.clone()).await);
    assert_eq!(done(store.read_pack(id).await), body);
    assert_eq!(done(store.pack_len(id).await), body.len() as u64);
    done(store.put_pack(id, body.clone()).await);
    let other = Bytes::from_static(b"other");
    let refused = store.put_pack(id, other).await;
    assert!(
        matches!(refused, Err(Error::Store { .. })),
        "a pack was overwritten: {refused:?}"
    );
    assert_eq!(done(store.read_pack(id).await), body);
    let (empty, nothing) = (pack_id(2), Bytes::new());
    done(store.put_pack(empty, nothing.clone()).await);
    assert_eq!(done(store.read_pack(empty).await), nothing);
}

/// Frames are read one by one, many at once in any order, and by the footer.
///
/// # Panics
///
/// If the backend breaks the contract.
pub async fn frames_are_read_by_their_place(store: &Store) {
    let mut expected = Vec::new();
    for pack in 0..3 {
        let (id, body) = sample_pack(pack);
        done(store.put_pack(id, body.clone()).await);
        let footer = done(read_footer(store, id).await);
        assert_eq!(footer, done(Footer::decode(id, &body)));
        for entry in footer.entries() {
            let bytes = done(store.read(entry.location).await);
            assert_eq!(bytes.len(), entry.location.len as usize);
            assert_eq!(
                NodeId::of(&bytes),
                entry.hash,
                "other bytes than were written"
            );
            expected.push((entry.location, bytes));
        }
    }
    // Backwards, and each twice.
    let wanted: Vec<_> = expected.iter().rev().chain(&expected).cloned().collect();
    let locations: Vec<_> = wanted.iter().map(|(location, _)| *location).collect();
    let found = done(store.read_many(&locations).await);
    assert!(
        found.iter().eq(wanted.iter().map(|(_, bytes)| bytes)),
        "frames were mixed up"
    );
    assert_eq!(done(store.read_many(&[]).await), Vec::<Bytes>::new());
}

/// What cannot be read in full is an error that names the pack, whatever the way of asking.
///
/// # Panics
///
/// If the backend breaks the contract.
pub async fn a_pack_that_is_short_is_corrupt_and_a_missing_one_expired(store: &Store) {
    let (id, body) = sample_pack(1);
    done(store.put_pack(id, body.clone()).await);
    let len = body.len() as u64;
    for (pack, offset, bytes) in [
        (id, len - 1, 2),
        (id, len, 1),
        (id, len + 1000, 10),
        (id, 0, u32::MAX),
        (id, u64::MAX - 1, 1),
        (id, u64::MAX, 1),
    ] {
        let location = Location {
            pack,
            offset,
            len: bytes,
        };
        for found in [
            store.read(location).await.map(|_| ()),
            store.read_many(&[location]).await.map(|_| ()),
        ] {
            let Err(Error::Corrupt { object, reason }) = found else {
                panic!("{location:?} is answered by {found:?}")
            };
            let message = format!("{object}: {reason}");
            assert!(
                message.contains(&pack.to_string()),
                "{message} does not name the pack"
            );
        }
    }
    let gone = Location {
        pack: pack_id(9),
        offset: 0,
        len: 1,
    };
    for found in [
        store.read(gone).await.map(|_| ()),
        store.read_many(&[gone]).await.map(|_| ()),
        store.read_pack(pack_id(9)).await.map(|_| ()),
        store.pack_len(pack_id(9)).await.map(|_| ()),
        read_footer(store, pack_id(9)).await.map(|_| ()),
    ] {
        assert!(
            matches!(&found, Err(Error::SnapshotExpired(what)) if what.contains(&pack_id(9).to_string())),
            "a missing pack: {found:?}"
        );
    }
}

/// Listing finds the packs and their lengths, and takes heads for nothing of the kind.
///
/// # Panics
///
/// If the backend breaks the contract.
pub async fn packs_are_listed(store: &Store) {
    assert_eq!(done(store.list_packs().await), []);
    let mut expected = Vec::new();
    for pack in 0..5 {
        let (id, body) = sample_pack(pack);
        done(store.put_pack(id, body.clone()).await);
        expected.push((id, body.len() as u64));
    }
    swapped(
        store
            .cas_head(&BranchName::default(), None, Bytes::from_static(b"head"))
            .await,
    );
    expected.sort_unstable();
    let found = done(store.list_packs().await);
    assert!(
        found.iter().map(|pack| (pack.id, pack.len)).eq(expected),
        "{found:?}"
    );
    assert!(found.iter().all(|pack| pack.modified > 0), "{found:?}");
}

/// A branch has no head until it is created, and is created once.
///
/// # Panics
///
/// If the backend breaks the contract.
pub async fn heads_are_created_once(store: &Store) {
    let branch = BranchName::default();
    assert!(
        done(store.head(&branch).await).is_none(),
        "a head is there before it is written"
    );
    let absent = store.head_if_changed(&branch, &HeadVersion::new("1")).await;
    assert!(
        matches!(absent, Err(Error::NoDatabase { .. })),
        "{absent:?}"
    );
    let stale = store
        .cas_head(&branch, Some(&HeadVersion::new("1")), Bytes::new())
        .await;
    assert!(
        matches!(stale, CasOutcome::Conflict),
        "a missing head was swapped: {stale:?}"
    );
    let first = swapped(
        store
            .cas_head(&branch, None, Bytes::from_static(b"first"))
            .await,
    );
    let again = store
        .cas_head(&branch, None, Bytes::from_static(b"again"))
        .await;
    assert!(
        matches!(again, CasOutcome::Conflict),
        "a branch was created twice: {again:?}"
    );
    let found = done(store.head(&branch).await);
    assert_eq!(found, Some((Bytes::from_static(b"first"), first)));
}

/// A swap needs the current version, and gives the next one.
///
/// # Panics
///
/// If the backend breaks the contract.
pub async fn heads_are_swapped_from_their_version(store: &Store) {
    let branch = BranchName::default();
    let first = swapped(
        store
            .cas_head(&branch, None, Bytes::from_static(b"first"))
            .await,
    );
    let body = Bytes::from_static(b"second");
    let second = swapped(store.cas_head(&branch, Some(&first), body.clone()).await);
    assert_ne!(first, second);
    for stale in [Some(&first), None] {
        let late = store
            .cas_head(&branch, stale, Bytes::from_static(b"late"))
            .await;
        assert!(
            matches!(late, CasOutcome::Conflict),
            "a stale writer won: {late:?}"
        );
    }
    assert_eq!(
        done(store.head(&branch).await),
        Some((body, second.clone()))
    );
    // As long as a head may be.
    let long = Bytes::from(vec![7; 64 << 10]);
    let third = swapped(store.cas_head(&branch, Some(&second), long.clone()).await);
    assert_eq!(done(store.head(&branch).await), Some((long, third)));
}

/// Bodies of one length, written one upon the other, never have a version twice.
///
/// A file system tells modifications apart by microseconds at best, so a version made of time and size
/// would fail here.
///
/// # Panics
///
/// If the backend breaks the contract.
pub async fn an_old_version_never_comes_back(store: &Store) {
    let branch = BranchName::default();
    let body = |count: u64| Bytes::copy_from_slice(&count.to_le_bytes());
    let mut versions = vec![swapped(store.cas_head(&branch, None, body(0)).await)];
    for count in 1..40 {
        let next = swapped(store.cas_head(&branch, versions.last(), body(count)).await);
        assert!(!versions.contains(&next), "version {next:?} came back");
        versions.push(next);
    }
    versions.pop();
    for stale in &versions {
        let late = store.cas_head(&branch, Some(stale), body(99)).await;
        assert!(
            matches!(late, CasOutcome::Conflict),
            "a stale writer won: {late:?}"
        );
    }
}

/// Asking for news costs no body while there are none.
///
/// # Panics
///
/// If the backend breaks the contract.
pub async fn an_unchanged_head_is_not_sent_again(store: &Store) {
    let branch = BranchName::default();
    let first = swapped(
        store
            .cas_head(&branch, None, Bytes::from_static(b"first"))
            .await,
    );
    let before = store.requests();
    assert_eq!(done(store.head_if_changed(&branch, &first).await), None);
    assert_eq!((store.requests() - before).bytes_read, 0);
    let body = Bytes::from_static(b"second");
    let second = swapped(store.cas_head(&branch, Some(&first), body.clone()).await);
    let news = done(store.head_if_changed(&branch, &first).await);
    assert_eq!(news, Some((body, second.clone())));
    assert_eq!(done(store.head_if_changed(&branch, &second).await), None);
}

/// Branches with the strangest names have heads of their own and are listed under their names.
///
/// # Panics
///
/// If the backend breaks the contract.
pub async fn branches_do_not_meet(store: &Store) {
    let mut expected = Vec::new();
    for name in layout::hostile_names() {
        let branch = done(BranchName::try_new(&name));
        swapped(store.cas_head(&branch, None, Bytes::from(name)).await);
        expected.push(branch);
    }
    for branch in &expected {
        let (body, _) = done(store.head(branch).await).expect("the head was just written");
        assert_eq!(
            body,
            branch.as_str().as_bytes(),
            "{branch} has the head of another branch"
        );
    }
    expected.sort_unstable();
    assert_eq!(done(store.list_branches().await), expected);
}

/// Writers that race for a head lose no update.
///
/// # Panics
///
/// If the backend breaks the contract.
pub async fn no_increment_is_lost(store: &Store) {
    let branch = BranchName::default();
    join_all((0..8).map(|_| add(store, &branch, 10))).await;
    assert_eq!(count(store, &branch).await, 80);
}

/// What is asked of the storage is counted, and nothing else.
///
/// # Panics
///
/// If the counters are wrong.
pub async fn requests_are_counted(store: &Store) {
    let branch = BranchName::default();
    let (id, body) = sample_pack(1);
    let footer = done(Footer::decode(id, &body));
    let locations: Vec<_> = footer
        .entries()
        .iter()
        .map(|entry| entry.location)
        .collect();
    let frames: u64 = locations
        .iter()
        .map(|location| u64::from(location.len))
        .sum();
    let before = store.requests();
    done(store.put_pack(id, body.clone()).await);
    swapped(
        store
            .cas_head(&branch, None, Bytes::from_static(b"head"))
            .await,
    );
    done(store.head(&branch).await);
    done(store.read_many(&locations).await);
    done(store.list_branches().await);
    let spent = store.requests() - before;
    assert_eq!(
        (spent.gets, spent.puts, spent.lists),
        (2, 2, 1),
        "{spent:?}"
    );
    assert_eq!(
        (spent.bytes_written, spent.bytes_read),
        (body.len() as u64 + 4, frames + 4)
    );
}

/// Adds one to a counter that is kept in the head of a branch, `times` times; races with others.
///
/// # Panics
///
/// If the backend breaks the contract.
pub async fn add(store: &Store, branch: &BranchName, times: u64) {
    for _ in 0..times {
        loop {
            let head = done(store.head(branch).await);
            let next = head.as_ref().map_or(0, |(body, _)| decode(body)) + 1;
            let body = Bytes::copy_from_slice(&next.to_le_bytes());
            match store
                .cas_head(branch, head.as_ref().map(|(_, version)| version), body)
                .await
            {
                CasOutcome::Swapped(_) => break,
                CasOutcome::Conflict => {}
                outcome => panic!("{outcome:?}"),
            }
        }
    }
}

/// The counter to which [`add`] adds.
///
/// # Panics
///
/// If the backend breaks the contract.
pub async fn count(store: &Store, branch: &BranchName) -> u64 {
    done(store.head(branch).await).map_or(0, |(body, _)| decode(&body))
}

fn decode(counter: &[u8]) -> u64 {
    u64::from_le_bytes(counter.try_into().expect("the counter has eight bytes"))
}

fn pack_id(n: u8) -> PackId {
    PackId(
        *NodeId::of(&[n])
            .0
            .first_chunk()
            .expect("a hash is longer than an identity"),
    )
}

/// Twenty frames of 1 to 39 bytes.
fn sample_pack(n: u8) -> (PackId, Bytes) {
    let id = pack_id(n);
    let mut writer = PackWriter::new(id);
    for frame in 0..20 {
        let bytes = [n.wrapping_add(frame)].repeat(usize::from(frame) * 2 + 1);
        writer.append(FrameKind::Leaf, 0, NodeId::of(&bytes), &bytes);
    }
    (id, writer.finish())
}

#[track_caller]
fn done<T>(result: Result<T, Error>) -> T {
    result.unwrap_or_else(|error| panic!("the backend failed: {error:?}"))
}

#[track_caller]
fn swapped(outcome: CasOutcome) -> HeadVersion {
    match outcome {
        CasOutcome::Swapped(version) => version,
        outcome => panic!("a head could not be written: {outcome:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use object_store::path::Path;

    use super::*;

    /// Increments from four threads at once.
    async fn race(store: Store) {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let store = store.clone();
            tasks.spawn(async move { add(&store, &BranchName::default(), 25).await });
        }
        tasks.join_all().await;
        assert_eq!(count(&store, &BranchName::default()).await, 100);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn memory_conforms() {
        all(Store::memory).await;
        race(Store::memory()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn an_object_store_with_entity_tags_conforms() {
        let empty = |prefix: &'static str| {
            move || {
                let prefix = Path::parse(prefix).unwrap();
                Store::from_object_store(Arc::new(InMemory::new()), prefix, "memory:")
            }
        };
        all(empty("")).await;
        all(empty("deep/pre#fix")).await;
        race(empty("deep")()).await;
    }

    #[tokio::test]
    async fn nothing_lies_outside_the_prefix() {
        use futures::TryStreamExt;
        use object_store::ObjectStore;

        let objects = Arc::new(InMemory::new());
        for prefix in ["team/a", "team/ab"] {
            let prefix = Path::parse(prefix).unwrap();
            let shared: Arc<dyn ObjectStore> = Arc::clone(&objects) as _;
            let store = Store::from_object_store(shared, prefix, "memory:");
            packs_are_listed(&store).await;
        }
        let keys: Vec<_> = objects.list(None).try_collect().await.unwrap();
        assert_eq!(keys.len(), 12);
        assert!(
            keys.iter()
                .all(|meta| meta.location.as_ref().starts_with("team/a"))
        );
    }

    #[cfg(feature = "fs")]
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_directory_conforms() {
        use std::cell::Cell;

        let root = tempfile::tempdir().unwrap();
        let made = Cell::new(0);
        let empty = || {
            made.set(made.get() + 1);
            Store::file(&root.path().join(format!("made/late/{}", made.get()))).unwrap()
        };
        all(empty).await;
        race(empty()).await;
    }

    #[cfg(feature = "fs")]
    #[test]
    fn a_directory_conforms_without_a_runtime() {
        let root = tempfile::tempdir().unwrap();
        futures::executor::block_on(async {
            let store = Store::file(root.path()).unwrap();
            frames_are_read_by_their_place(&store).await;
            no_increment_is_lost(&store).await;
        });
    }
}
