//! What is found on disk again, and what is not believed.

use std::collections::BTreeSet;
use std::sync::Arc;

use object_store::memory::InMemory;

use super::*;
use crate::id::PackId;
use crate::store::{FrameKind, MemoryHeads, PackWriter};

const MIB: u64 = 1 << 20;

fn open(directory: &tempfile::TempDir) -> DiskCache {
    DiskCache::open(directory.path(), 64 * MIB).unwrap()
}

impl Store {
    /// Puts a frame on disk whose checksum fits, as anybody can who knows how.
    pub(crate) fn plant(&self, location: &Location, frame: &[u8]) {
        let tier = self.0.disk.as_ref().unwrap();
        tier.write(location, frame, tier.purges());
    }
}

/// The frame of this number. All are of one length.
fn frame(n: u32) -> Vec<u8> {
    n.to_le_bytes().repeat(700)
}

/// A store with one pack, and where its frames lie.
/// A store of some frames at a place of its own: a purge of one place is a purge of no other, and tests run at once.
async fn store_of(frames: u32) -> (Store, Vec<Location>) {
    static PLACES: AtomicU64 = AtomicU64::new(0);
    let place = format!("place {}", PLACES.fetch_add(1, Ordering::Relaxed));
    let store = bare(&place);
    let locations = put(&store, 1, (0..frames).map(frame)).await;
    (store, locations)
}

/// An empty store with this address.
fn bare(name: &str) -> Store {
    let heads = Arc::<MemoryHeads>::default();
    Store::new(Arc::new(InMemory::new()), heads, name)
}

fn named(name: &str, cache: &DiskCache) -> Store {
    bare(name).with_disk_cache(cache)
}

async fn put(store: &Store, pack: u8, frames: impl Iterator<Item = Vec<u8>>) -> Vec<Location> {
    let mut writer = PackWriter::new(PackId([pack; 16]));
    let locations = frames
        .map(|frame| writer.append(FrameKind::Leaf, 0, crate::NodeId::of(&frame), &frame))
        .collect();
    store.put_pack(writer.id(), writer.finish()).await.unwrap();
    locations
}

/// The files of the directory that are not being written.
fn files(directory: &Path) -> Vec<PathBuf> {
    let cache = DiskCache::open(directory, MIB).unwrap();
    let mut found = Vec::new();
    for shard in &cache.0.shards {
        let look = |file: &shard::Held| {
            assert!(!file.is_temporary, "{}", file.path.display());
            found.push(file.path.clone());
            Ok(())
        };
        shard.each(None, look).unwrap();
    }
    found
}

#[tokio::test]
async fn what_one_opening_has_read_another_finds_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let (bare, locations) = store_of(100).await;
    let first = bare.clone().with_disk_cache(&open(&directory));
    let frames = first.read_many(&locations).await.unwrap();
    assert_eq!(first.requests().gets, 1, "as without a tier");

    let second = bare.with_disk_cache(&open(&directory));
    let before = second.requests();
    assert_eq!(second.read_many(&locations).await.unwrap(), frames);
    assert_eq!(second.read(locations[7]).await.unwrap(), frame(7));
    assert_eq!((second.requests() - before).gets, 0);
    let usage = open(&directory).usage().await.unwrap();
    assert_eq!((usage.frames, usage.bytes), (100, 100 * 4096));
}

#[tokio::test]
async fn of_many_frames_only_those_that_are_missing_are_fetched() {
    let directory = tempfile::tempdir().unwrap();
    let (bare, locations) = store_of(100).await;
    let store = bare.with_disk_cache(&open(&directory));
    let some: Vec<_> = locations.iter().copied().step_by(2).take(20).collect();
    store.read_many(&some).await.unwrap();
    let read = store.requests().bytes_read;
    let mut wanted = locations.clone();
    wanted.reverse();
    wanted.push(locations[3]);
    let frames = store.read_many(&wanted).await.unwrap();
    let expected = (0..100).rev().chain([3]).map(frame);
    assert!(
        frames
            .iter()
            .zip(expected)
            .all(|(found, frame)| *found == frame)
    );
    assert!(store.requests().bytes_read - read < 100 * 2800, "the rest");
}

/// What happens to a file; the second is another's.
type Damage<'a> = &'a dyn Fn(&Path, &Path);

#[tokio::test]
async fn a_file_that_is_not_what_it_should_be_is_replaced() {
    let (bare, locations) = store_of(2).await;
    let whole = |path: &Path| fs::read(path).unwrap();
    let damages: [(&str, Damage); 8] = [
        ("flipped", &|path, _| {
            let mut bytes = whole(path);
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("checksum", &|path, _| {
            let mut bytes = whole(path);
            bytes[0] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("cut", &|path, _| {
            fs::write(path, &whole(path)[..100]).unwrap();
        }),
        ("shorter than a checksum", &|path, _| {
            fs::write(path, "x").unwrap();
        }),
        ("empty", &|path, _| fs::write(path, "").unwrap()),
        ("longer", &|path, _| {
            fs::write(path, [&whole(path)[..], b"x"].concat()).unwrap();
        }),
        ("swapped", &|path, other| {
            fs::copy(other, path).unwrap();
        }),
        ("foreign", &|path, _| {
            fs::write(path, vec![7; whole(path).len()]).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let directory = tempfile::tempdir().unwrap();
        let store = bare.clone().with_disk_cache(&open(&directory));
        store.read_many(&locations).await.unwrap();
        let found = files(directory.path());
        assert_eq!(found.len(), 2);
        damage(&found[0], &found[1]);
        let before = store.requests().gets;
        for (location, n) in locations.iter().zip(0..) {
            assert_eq!(store.read(*location).await.unwrap(), frame(n), "{what}");
        }
        assert_eq!(store.requests().gets - before, 1, "{what}");
        store.read_many(&locations).await.unwrap();
        assert_eq!(store.requests().gets - before, 1, "{what} is replaced");
        assert_eq!(store.disk_cache().unwrap().failures(), 0, "{what}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_pushed_out_by_what_does() {
    let directory = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(directory.path(), MIB).unwrap();
    let (bare, locations) = store_of(1000).await;
    let store = bare.with_disk_cache(&cache);
    let mut most = 0;
    for some in locations.chunks(50) {
        store.read_many(some).await.unwrap();
        let usage = cache.usage().await.unwrap();
        assert!(usage.bytes <= MIB, "{usage:?}");
        most = most.max(usage.bytes);
    }
    assert!(most > MIB / 2, "{most} of {MIB}");
    assert_eq!(cache.failures(), 0);

    // Nor is a frame that would push out all others kept.
    let locations = put(&store, 2, std::iter::once(vec![1; 30_000])).await;
    let before = cache.usage().await.unwrap();
    store.read(locations[0]).await.unwrap();
    assert_eq!(cache.usage().await.unwrap(), before);
}

#[tokio::test]
async fn what_is_used_stays_longer_than_what_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(directory.path(), MIB).unwrap();
    let (bare, locations) = store_of(600).await;
    let store = bare.with_disk_cache(&cache);
    let old = &locations[..100];
    store.read_many(old).await.unwrap();
    for path in files(directory.path()) {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(now() - Duration::from_hours(24)).unwrap();
    }
    let used: Vec<_> = old.iter().copied().step_by(5).collect();
    store.read_many(&used).await.unwrap();
    // Some shards overflow, and lose a tenth of their share.
    store.read_many(&locations[100..200]).await.unwrap();
    let tier = store.0.disk.as_ref().unwrap();
    let file = |at: &Location| tier.place(&Key::new(&tier.store, at)).1;
    let shard = |at: &Location| file(at).ancestors().nth(2).unwrap().to_owned();
    let is_gone = |at: &Location| !file(at).exists();
    let (used, unused): (Vec<Location>, Vec<_>) = old.iter().partition(|at| used.contains(at));
    let parted = |some: Vec<Location>| some.into_iter().partition::<Vec<_>, _>(is_gone);
    let ((used_gone, _), (unused_gone, unused_left)) = (parted(used), parted(unused));
    for gone in &used_gone {
        let beside = unused_left.iter().find(|at| shard(at) == shard(gone));
        assert_eq!(beside, None, "{gone:?} went first");
    }
    let (of_used, of_unused) = (used_gone.len(), unused_gone.len());
    assert!(4 * of_used < of_unused, "{of_used} and {of_unused}");
    assert!(!locations[100..200].iter().any(is_gone));
}

#[test]
fn a_shard_counts_what_others_wrote_and_what_was_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let shard = || Shard::new(directory.path().join("0"), 160 << 10, [0; 16]);
    let folder = directory.path().join("0").join("a".repeat(32));
    fs::create_dir_all(&folder).unwrap();
    let write = |name: String, hours: u64| {
        let file = File::create_new(folder.join(&name)).unwrap();
        file.set_len(8 << 10).unwrap();
        file.set_modified(now() - Duration::from_hours(hours))
            .unwrap();
    };
    for n in 0..19_u64 {
        write(format!("{n:032x}"), 100 - n);
    }
    write("f".repeat(48), 2);
    write("e".repeat(48), 0);
    write("not ours".to_owned(), 200);
    let names = || -> BTreeSet<String> {
        let names = fs::read_dir(&folder).unwrap();
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    // 19 files and one that is being written fill it: five blocks more need room.
    assert!(shard().reserve(20_000).unwrap());
    let left = names();
    assert!(!left.contains(&"f".repeat(48)) && left.contains(&"e".repeat(48)));
    assert!(left.contains("not ours"));
    // A tenth is gone, the oldest.
    let oldest = |n: u64| left.contains(&format!("{n:032x}"));
    assert_eq!(
        (0..19).map(oldest).position(|here| here),
        Some(3),
        "{left:?}"
    );
    assert!(!shard().reserve(41 << 10).unwrap(), "more than a quarter");
    assert_eq!(names(), left);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_caches_of_one_directory_do_not_disturb_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let (bare, locations) = store_of(400).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..4_usize {
        // They count for themselves, as processes do.
        let cache = DiskCache::open(directory.path(), MIB).unwrap();
        let store = bare.clone().with_disk_cache(&cache);
        let locations = locations.clone();
        tasks.spawn(async move {
            for round in 0..6 {
                let some = &locations[(n + round) * 30..][..120];
                for (bytes, at) in store.read_many(some).await.unwrap().iter().zip(some) {
                    let number = locations.iter().position(|location| location == at);
                    assert_eq!(*bytes, frame(u32::try_from(number.unwrap()).unwrap()));
                }
                if n == 3 && round == 3 {
                    store.disk_cache().unwrap().clear().await.unwrap();
                }
            }
            assert_eq!(store.disk_cache().unwrap().failures(), 0);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let usage = open(&directory).usage().await.unwrap();
    assert!(
        usage.frames > 0 && usage.bytes <= MIB + 4 * MIB / 16,
        "{usage:?}"
    );
    files(directory.path());
}

#[cfg(unix)]
#[test]
fn a_directory_that_others_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    for (mode, refused) in [(0o755, false), (0o775, true), (0o777, true), (0o700, false)] {
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        let opened = DiskCache::open(directory.path(), MIB);
        assert_eq!(opened.is_err(), refused, "{mode:o}");
        if let Err(error) = opened {
            assert!(error.to_string().contains("chmod 700"), "{error}");
        }
    }
}

/// Whoever purges removes the frames of a place, with whatever options its address is written.
#[tokio::test]
async fn a_purge_is_of_a_place() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(&directory);
    let (bare, locations) = store_of(5).await;
    let with = |options: &str| {
        let mut inner = super::super::Inner::clone(&bare.0);
        inner.identity = Identity::Address(blake3::hash(options.as_bytes()));
        Store(Arc::new(inner)).with_disk_cache(&cache)
    };
    let (one, other) = (with("?region=a"), with("?region=b"));
    one.read_many(&locations).await.unwrap();
    other.read_many(&locations).await.unwrap();
    assert_eq!(
        cache.usage().await.unwrap().frames,
        10,
        "answers are kept apart"
    );
    let asked = other.purges();
    one.purge_disk().await;
    assert_eq!(cache.usage().await.unwrap().frames, 0);
    assert_ne!(other.purges(), asked);
}

#[tokio::test]
async fn where_nothing_can_be_written_everything_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(&directory);
    for digit in "0123456789abcdef".chars() {
        let path = directory.path().join(digit.to_string());
        fs::write(path, "a file where a directory belongs").unwrap();
    }
    let (bare, locations) = store_of(20).await;
    let store = bare.with_disk_cache(&cache);
    for _ in 0..2 {
        let frames = store.read_many(&locations).await.unwrap();
        assert!(frames.iter().zip(0..).all(|(found, n)| *found == frame(n)));
    }
    assert_eq!(store.requests().gets, 2);
    assert!(cache.failures() >= 40, "{}", cache.failures());

    let file = directory.path().join("0");
    let refused = DiskCache::open(&file, MIB).unwrap_err();
    assert!(matches!(&refused, Error::Invalid(_)), "{refused:?}");
    assert!(
        refused.to_string().contains(file.to_str().unwrap()),
        "{refused}"
    );
    DiskCache::open(&file.join("below"), MIB).unwrap_err();
}

#[cfg(unix)]
#[tokio::test]
async fn a_directory_that_can_only_be_read_is_read() {
    use std::os::unix::fs::PermissionsExt;

    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("made").join("here");
    let (bare, locations) = store_of(4).await;
    let open = || {
        bare.clone()
            .with_disk_cache(&DiskCache::open(&path, MIB).unwrap())
    };
    let store = open();
    store.read_many(&locations[..2]).await.unwrap();
    for made in [&path, path.parent().unwrap()] {
        let mode = fs::metadata(made).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "it is for its owner alone");
    }
    let folders = files(&path)
        .into_iter()
        .map(|file| file.parent().unwrap().to_owned());
    let locked: Vec<_> = folders.chain([path.clone()]).collect();
    let set = |mode| {
        for folder in &locked {
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    set(0o500);
    let store = open();
    let before = store.requests().gets;
    let frames = store.read_many(&locations).await;
    set(0o700);
    let frames = frames.unwrap();
    assert!(frames.iter().zip(0..).all(|(found, n)| *found == frame(n)));
    assert_eq!(
        store.requests().gets - before,
        1,
        "for the two that are not here"
    );
}

#[tokio::test]
async fn clearing_removes_frames_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(&directory);
    let (bare, locations) = store_of(50).await;
    let store = bare.with_disk_cache(&cache);
    store.read_many(&locations).await.unwrap();
    let beside = files(directory.path())[0].with_file_name("not-ours");
    let above = directory.path().join("notes.txt");
    fs::write(&beside, "x").unwrap();
    fs::write(&above, "x").unwrap();
    let removed = cache.clear().await.unwrap();
    assert_eq!((removed.frames, removed.bytes), (50, 50 * 4096));
    assert_eq!(cache.usage().await.unwrap(), DiskUsage::default());
    assert!(beside.exists() && above.exists());
    store.read_many(&locations).await.unwrap();
    assert_eq!(store.requests().gets, 2);
    assert_eq!(cache.usage().await.unwrap(), removed, "it is filled again");
    fs::remove_dir_all(directory.path()).unwrap();
    store.read_many(&locations).await.unwrap();
    assert_eq!(cache.usage().await.unwrap(), removed, "and made again");
}

#[tokio::test]
async fn stores_do_not_find_each_others_frames() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(&directory);
    let named = |name: &str| named(name, &cache);
    let [one, two] = ["one", "two"].map(named);
    // Packs of one name, which do not happen by chance.
    let locations = put(&one, 1, (0..9).map(frame)).await;
    assert_eq!(put(&two, 1, (10..19).map(frame)).await, locations);
    for _ in 0..2 {
        for (store, from) in [(&one, 0), (&two, 10)] {
            let frames = store.read_many(&locations).await.unwrap();
            assert!(
                frames
                    .iter()
                    .zip(from..)
                    .all(|(found, n)| *found == frame(n))
            );
            assert_eq!(store.requests().gets, 1);
        }
    }
}

#[tokio::test]
async fn a_purge_removes_the_frames_of_its_store_and_stops_who_read_before() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(&directory);
    let named = |name: &str| named(name, &cache);
    let [purged, other] = ["a purged store", "another store"].map(named);
    let locations = put(&purged, 1, (0..30).map(frame)).await;
    let others = put(&other, 1, (0..20).map(frame)).await;
    purged.read_many(&locations).await.unwrap();
    other.read_many(&others).await.unwrap();
    let before = purged.purges();
    let again = named("a purged store");
    let after = purged.purge_disk().await;
    assert_ne!(before, after);
    assert_eq!((purged.purges(), again.purges()), (after, after));
    assert_eq!(cache.usage().await.unwrap().frames, 20);

    purged.frames(&locations, before).await.unwrap();
    purged.frame(locations[0], before).await.unwrap();
    assert_eq!(cache.usage().await.unwrap().frames, 20, "an earlier reader");
    purged.frames(&locations, after).await.unwrap();
    assert_eq!(cache.usage().await.unwrap().frames, 50, "a later one");
}

#[tokio::test]
async fn a_frame_whose_pack_is_gone_is_still_here() {
    let directory = tempfile::tempdir().unwrap();
    let (bare, locations) = store_of(10).await;
    let store = bare.with_disk_cache(&open(&directory));
    store.read_many(&locations[..5]).await.unwrap();
    store.delete_pack(locations[0].pack).await.unwrap();
    assert_eq!(store.read_many(&locations[..5]).await.unwrap().len(), 5);
    for outcome in [
        store.read_many(&locations).await.map(drop),
        store.read(locations[5]).await.map(drop),
        store
            .frame_anew(locations[0], store.purges())
            .await
            .map(drop),
        store
            .past_disk()
            .unwrap()
            .read(locations[1])
            .await
            .map(drop),
    ] {
        assert!(
            matches!(outcome, Err(Error::SnapshotExpired(_))),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn nonsense_is_looked_for_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let (bare, locations) = store_of(1).await;
    let store = bare.with_disk_cache(&open(&directory));
    let [mut long, mut far, mut none] = [locations[0]; 3];
    (long.len, far.offset, none.len) = (u32::MAX, u64::MAX, 0);
    for location in [long, far] {
        store.read(location).await.unwrap_err();
        store.read_many(&[location]).await.unwrap_err();
    }
    assert!(store.read(none).await.unwrap().is_empty());
    assert_eq!(store.read_many(&[none]).await.unwrap(), [Bytes::new()]);
    assert!(files(directory.path()).is_empty());
}

/// Only a process of its own has an environment of its own.
#[cfg(feature = "ws")]
#[test]
fn the_environment_names_the_directory_of_stores_elsewhere() {
    const ASKED: &str = "DATOMFUSION_TEST_CACHED";
    const THIS: &str =
        "store::disk::tests::the_environment_names_the_directory_of_stores_elsewhere";

    if std::env::var_os(ASKED).is_some() {
        let opened = ["ws://127.0.0.1:1/a", "ws://127.0.0.1:1/b"].map(Store::open_url);
        let [one, two] = opened.map(|opened| opened.map_err(|error| error.to_string()));
        println!("said {:?}", one.as_ref().map(Store::disk_cache));
        if let (Ok(one), Ok(two)) = (&one, &two)
            && let (Some(one), Some(two)) = (one.disk_cache(), two.disk_cache())
        {
            assert!(Arc::ptr_eq(&one.0, &two.0), "they count together");
        }
        for here in ["memory:", "./here"] {
            assert!(Store::open_url(here).unwrap().disk_cache().is_none());
        }
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache");
    let said = |variables: &[(&str, &str)]| {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([THIS, "--exact", "--nocapture"])
            .env_remove("DATOMFUSION_CACHE_DIR")
            .env_remove("DATOMFUSION_CACHE_BYTES")
            .envs(variables.iter().copied().chain([(ASKED, "")]))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        text
    };
    let at = path.to_str().unwrap();
    let named = ("DATOMFUSION_CACHE_DIR", at);
    assert!(said(&[]).contains("Ok(None)"));
    assert!(!path.exists());
    let text = said(&[named, ("DATOMFUSION_CACHE_BYTES", "1g")]);
    assert!(
        text.contains(at) && text.contains("bytes_max: 1073741824"),
        "{text}"
    );
    assert!(path.is_dir());
    let text = said(&[named, ("DATOMFUSION_CACHE_BYTES", "much")]);
    assert!(text.contains("Err(") && text.contains("not much"), "{text}");
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let text = said(&[("DATOMFUSION_CACHE_DIR", file.to_str().unwrap())]);
    assert!(
        text.contains("Err(") && text.contains("cannot be a cache directory"),
        "{text}"
    );
}
