//! Branches: what they cost, where they stand, and what deleting one leaves behind.

use std::sync::Mutex;

use futures::executor::block_on;

use super::*;
use crate::conn::fixture::{all, branch_off, create, name, open, people, transact};
use crate::conn::merge::{MergeOutcome, MergeStrategy};
use crate::db::basis::TimePoint;
use crate::environment::Seeded;
use crate::index::Index;

type Interruption = Box<dyn FnOnce() + Send>;

/// A world in which somebody else acts when the clock is first looked at: between what a deletion has read
/// and its swap.
struct Interrupted(Arc<Seeded>, Mutex<Option<Interruption>>);

impl Interrupted {
    fn branches(store: &Store, by: impl FnOnce() + Send + 'static) -> Branches {
        let environment = Self(Seeded::new(77), Mutex::new(Some(Box::new(by))));
        Branches::new_in(store, Arc::new(environment))
    }
}

impl fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Interrupted").field(&self.0).finish()
    }
}

impl Environment for Interrupted {
    fn now(&self) -> i64 {
        let interruption = self.1.lock().unwrap().take();
        if let Some(interrupt) = interruption {
            interrupt();
        }
        self.0.now()
    }

    fn random(&self) -> [u8; 16] {
        self.0.random()
    }
}

async fn listed(store: &Store) -> Vec<String> {
    let branches = Branches::new_in(store, Seeded::new(78));
    let listed = branches.list().await.unwrap();
    listed.iter().map(|b| b.name.to_string()).collect()
}

#[tokio::test]
async fn a_branch_is_one_small_put_and_one_get() {
    let main = people(1).await;
    let before = main.store().requests();
    let db = main
        .branches()
        .create(&name("dev"), &main.db())
        .await
        .unwrap();
    let asked = main.store().requests() - before;
    assert_eq!((asked.puts, asked.gets, asked.lists), (1, 1, 0));
    assert!(asked.bytes_written < 8 << 10, "{asked:?}");
    assert_eq!(db.head_commit(), main.db().head_commit());
    assert_eq!(db.branch(), &name("dev"));
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_is_refused_before_anything_is_asked() {
    let main = people(1).await;
    let before = main.store().requests();
    for refused in ["../x", "CON"] {
        let made = main.branches().create(&name(refused), &main.db()).await;
        assert!(matches!(made, Err(Error::Invalid(_))), "{made:?}");
        let made = Connection::create_in(main.store(), name(refused), Seeded::new(79)).await;
        assert!(matches!(made, Err(Error::Invalid(_))), "{made:?}");
    }
    let asked = main.store().requests() - before;
    assert_eq!((asked.puts, asked.gets, asked.lists), (0, 0, 0));
}

#[tokio::test]
async fn branches_go_their_own_ways() {
    let main = people(2).await;
    let dev = branch_off(&main, "dev").await;
    transact(&main, "[{:p/name \"Ada\"}]").await;
    transact(&dev, "[{:p/name \"Bob\"} {:p/name \"Eve\"}]").await;
    let names = async |db: &Db| {
        let mut names: Vec<String> = Vec::new();
        for datom in all(db, Index::Aevt).await {
            if db.ident(datom.a).is_some_and(|a| a.as_str() == "p/name") {
                names.push(datom.v.to_string());
            }
        }
        names
    };
    assert_eq!(names(&main.db()).await, ["\"Ada\""]);
    assert_eq!(names(&dev.db()).await, ["\"Bob\"", "\"Eve\""]);
    for connection in [&main, &dev] {
        connection.checkpoint().await.unwrap();
        connection.db().verify().await.unwrap();
    }
}

#[tokio::test]
async fn a_branch_from_the_past_stands_at_that_commit() {
    let main = people(3).await;
    for n in 0..30 {
        transact(
            &main,
            &format!("[{{:p/name \"n{n}\" :p/note \"{}\"}}]", "x".repeat(40 * n)),
        )
        .await;
        if n % 7 == 6 {
            main.checkpoint().await.unwrap();
        }
    }
    let newest = main.db();
    for t in 0..=newest.basis_t() {
        let past = newest.as_of(TimePoint::T(t)).await.unwrap();
        let branch = format!("at {t}");
        let db = main.branches().create(&name(&branch), &past).await.unwrap();
        assert_eq!(db.basis_t(), t);
        assert_eq!(db.head_commit(), past.commit_id().await.unwrap());
        let dev = open(main.store(), &branch, 100 + t).await;
        assert_eq!(dev.db().basis_instant(), past.basis_instant());
        assert_eq!(
            all(&dev.db(), Index::Eavt).await,
            all(&past, Index::Eavt).await
        );
        assert_eq!(
            all(&dev.db().history(), Index::Eavt).await,
            all(&past.history(), Index::Eavt).await
        );
        if t > 0 {
            // No id that main has handed out since is handed out again.
            let report = transact(&dev, "[{:p/name \"new\"}]").await;
            assert!(report.tempids.is_empty());
            let new = report
                .tx_data
                .iter()
                .map(|datom| datom.e)
                .filter(|e| !e.is_tx());
            assert!(new.min().unwrap() >= newest.0.next_entid);
        }
        dev.checkpoint().await.unwrap();
        let verified = dev.db().verify().await.unwrap();
        assert_eq!(verified.commits, dev.db().basis_t() + 1);
        for older in [0, t / 2, t] {
            let (mine, theirs) = (dev.db(), &newest);
            let mine = mine.as_of(TimePoint::T(older)).await.unwrap();
            let theirs = theirs.as_of(TimePoint::T(older)).await.unwrap();
            assert_eq!(
                all(&mine, Index::Eavt).await,
                all(&theirs, Index::Eavt).await
            );
            assert_eq!(
                mine.commit_id().await.unwrap(),
                theirs.commit_id().await.unwrap()
            );
        }
    }
}

#[tokio::test]
async fn a_report_of_a_transaction_is_a_value_to_branch_from() {
    let main = people(4).await;
    let report = transact(&main, "[{:p/name \"Ada\"}]").await;
    transact(&main, "[{:p/name \"Bob\"}]").await;
    main.checkpoint().await.unwrap();
    main.sync().await.unwrap();
    let db = main
        .branches()
        .create(&name("dev"), &report.db_after)
        .await
        .unwrap();
    assert_eq!(db.basis_t(), report.t);
    db.verify().await.unwrap();
}

#[tokio::test]
async fn what_no_branch_can_begin_with_is_refused() {
    let main = people(5).await;
    let branches = main.branches();
    let data = crate::tx::TxData::parse("[{:p/name \"Ada\"}]").unwrap();
    let speculative = main.db().db_with(&data).await.unwrap();
    let past = main.db().as_of(TimePoint::T(0)).await.unwrap();
    let what_if = past
        .db_with(&crate::tx::TxData::parse("[{:db/ident :x}]").unwrap())
        .await
        .unwrap();
    let elsewhere = people(6).await.db();
    let since = main.db().since(TimePoint::T(0)).await.unwrap();
    for value in [speculative, what_if, elsewhere, since, main.db().history()] {
        let refused = branches.create(&name("dev"), &value).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{value:?}");
    }
    assert_eq!(branches.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_taken_name_is_refused_and_a_repeated_request_is_not() {
    let main = people(7).await;
    let branches = main.branches();
    let dev = branch_off(&main, "dev").await;
    branches.create(&name("dev"), &main.db()).await.unwrap();
    transact(&dev, "[{:p/name \"Ada\"}]").await;
    let refused = branches.create(&name("dev"), &main.db()).await;
    assert!(matches!(refused, Err(Error::DatabaseExists { .. })));
}

#[tokio::test]
async fn a_branch_is_taken_back_if_garbage_was_collected_meanwhile() {
    let main = people(8).await;
    let old = main.db();
    let (mut head, version) = main.branches().live(old.branch()).await.unwrap();
    head.gc_epoch += 1;
    head.generation += 1;
    let bytes = head.encode().unwrap();
    let CasOutcome::Swapped(_) = main
        .store()
        .cas_head(old.branch(), Some(&version), bytes)
        .await
    else {
        panic!("nobody else writes");
    };
    let refused = main.branches().create(&name("dev"), &old).await;
    assert!(
        matches!(refused, Err(Error::SnapshotExpired(_))),
        "{refused:?}"
    );
    assert_eq!(main.branches().list().await.unwrap().len(), 1);
    let newest = main.sync().await.unwrap();
    main.branches().create(&name("dev"), &newest).await.unwrap();
}

#[tokio::test]
async fn a_deleted_branch_says_so_and_comes_back() {
    let main = people(9).await;
    let dev = branch_off(&main, "dev").await;
    transact(&dev, "[{:p/name \"Ada\"}]").await;
    let kept = dev.db();
    let branches = main.branches();
    branches.delete(&name("dev")).await.unwrap();
    let listed = branches.list().await.unwrap();
    assert_eq!(
        listed.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(),
        ["main"]
    );
    let deleted = &branches.list_all().await.unwrap()[0];
    assert_eq!(
        (deleted.name.as_str(), deleted.commit),
        ("dev", kept.head_commit())
    );
    assert!(deleted.deleted.is_some());

    let error = Db::open(main.store(), &name("dev")).await.unwrap_err();
    assert!(matches!(error, Error::BranchDeleted { .. }));
    assert!(error.to_string().contains("restore it"), "{error}");
    assert!(matches!(dev.sync().await, Err(Error::BranchDeleted { .. })));
    let data = crate::tx::TxData::parse("[{:p/name \"Bob\"}]").unwrap();
    assert!(matches!(
        dev.transact(&data).await,
        Err(Error::BranchDeleted { .. })
    ));
    assert!(matches!(
        branches.delete(&name("dev")).await,
        Err(Error::BranchDeleted { .. })
    ));
    // A value that was opened before can be read on, and be branched from.
    assert_eq!(
        all(&kept, Index::Eavt).await.len(),
        all(&dev.db(), Index::Eavt).await.len()
    );
    branches.create(&name("saved"), &kept).await.unwrap();

    let restored = branches.restore(&name("dev")).await.unwrap();
    assert_eq!(restored.head_commit(), kept.head_commit());
    assert!(matches!(
        branches.restore(&name("dev")).await,
        Err(Error::Invalid(_))
    ));
    transact(&dev, "[{:p/name \"Bob\"}]").await;
}

#[tokio::test]
async fn the_name_of_a_deleted_branch_is_free_and_its_generation_goes_on() {
    let main = people(10).await;
    let dev = branch_off(&main, "dev").await;
    transact(&dev, "[{:p/name \"Ada\"}]").await;
    let branches = main.branches();
    branches.delete(&name("dev")).await.unwrap();
    let (tombstone, _) = branches.read(&name("dev")).await.unwrap();
    let db = branches.create(&name("dev"), &main.db()).await.unwrap();
    assert_eq!(db.0.head.generation, tombstone.generation + 1);
    assert_eq!(db.head_commit(), main.db().head_commit());
    // A connection of the old branch follows the name.
    assert_eq!(dev.sync().await.unwrap().head_commit(), db.head_commit());
}

#[tokio::test]
async fn the_only_branch_stays() {
    let main = people(11).await;
    let branches = main.branches();
    assert!(matches!(
        branches.delete(&name("main")).await,
        Err(Error::Invalid(_))
    ));
    assert!(matches!(
        branches.delete(&name("none")).await,
        Err(Error::NoDatabase { .. })
    ));
    branch_off(&main, "dev").await;
    branches.delete(&name("main")).await.unwrap();
    assert!(matches!(
        branches.delete(&name("dev")).await,
        Err(Error::Invalid(_))
    ));
    branches.restore(&name("main")).await.unwrap();
}

#[tokio::test]
async fn a_renamed_branch_has_its_commits_under_the_new_name() {
    let main = people(12).await;
    transact(&main, "[{:p/name \"Ada\"}]").await;
    let (branches, commit) = (main.branches(), main.db().head_commit());
    branches
        .rename(&name("main"), &name("trunk"))
        .await
        .unwrap();
    let listed = branches.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].name.as_str(), listed[0].commit),
        ("trunk", commit)
    );
    assert_eq!(listed[0].instant, main.db().basis_instant());
    branch_off(&open(main.store(), "trunk", 1).await, "dev").await;
    let taken = branches.rename(&name("trunk"), &name("dev")).await;
    assert!(matches!(taken, Err(Error::DatabaseExists { .. })));
    let dev = open(main.store(), "dev", 2).await;
    transact(&dev, "[{:p/name \"Bob\"}]").await;
    let other = branch_off(&dev, "other").await;
    transact(&other, "[{:p/name \"Eve\"}]").await;
    let taken = branches.rename(&name("dev"), &name("other")).await;
    assert!(matches!(taken, Err(Error::DatabaseExists { .. })));
    assert_eq!(branches.list().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_tombstone_reads_back_as_it_was_written() {
    let main = people(13).await;
    let mut head = Head::clone(&main.db().0.head);
    for deleted in [None, Some(0), Some(-1), Some(i64::MAX)] {
        head.deleted = deleted;
        let bytes = head.encode().unwrap();
        let read = Head::decode(&bytes, "test").unwrap();
        assert_eq!(read.deleted, deleted);
        assert_eq!(read.encode().unwrap(), bytes);
    }
}

#[cfg(feature = "fs")]
#[tokio::test]
async fn branches_lie_on_disk_alike() {
    let root = std::env::temp_dir().join(format!("datomfusion-branches-{}", std::process::id()));
    let store = Store::file(&root).unwrap();
    let main = create(&store, 14).await;
    transact(&main, crate::conn::fixture::PEOPLE).await;
    let dev = branch_off(&main, "feature/ä 1").await;
    transact(&dev, "[{:p/name \"Ada\"}]").await;
    // Another handle of the store is the same store.
    let again = open(&Store::file(&root).unwrap(), "main", 15).await;
    let report = again.merge(&dev.db(), &MergeStrategy::Fail).await.unwrap();
    assert_eq!(report.outcome, MergeOutcome::FastForward);
    main.branches().delete(&name("feature/ä 1")).await.unwrap();
    assert_eq!(main.branches().list().await.unwrap().len(), 1);
    std::fs::remove_dir_all(&root).unwrap();
}

/// It read the heads of all branches to see that one lived. That one is read again when all is done.
#[tokio::test]
async fn deleting_one_of_many_branches_reads_three_heads() {
    let main = people(21).await;
    for n in 0..20 {
        let branch = name(&format!("dev-{n}"));
        main.branches().create(&branch, &main.db()).await.unwrap();
    }
    let before = main.store().requests();
    main.branches().delete(&name("dev-7")).await.unwrap();
    let asked = main.store().requests() - before;
    assert_eq!((asked.gets, asked.puts, asked.lists), (3, 1, 1));
}

/// Each saw that the other one lived.
#[tokio::test]
async fn the_last_two_branches_are_not_deleted_at_the_same_time() {
    let main = people(22).await;
    branch_off(&main, "dev").await;
    let other = main.branches();
    let branches = Interrupted::branches(main.store(), move || {
        block_on(other.delete(&name("main"))).unwrap();
    });
    let refused = branches.delete(&name("dev")).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    assert_eq!(listed(main.store()).await, ["dev"]);
    open(main.store(), "dev", 23)
        .await
        .db()
        .verify()
        .await
        .unwrap();
}

/// What a rename takes back is what it made.
#[tokio::test]
async fn a_rename_that_fails_takes_nobody_elses_commits_back() {
    for to_as_well in [false, true] {
        let main = people(24).await;
        let dev = branch_off(&main, "dev").await;
        let store = main.store().clone();
        let branches = Interrupted::branches(main.store(), move || {
            block_on(transact(&dev, "[{:p/name \"Ada\"}]"));
            if to_as_well {
                let new = block_on(open(&store, "new", 25));
                block_on(transact(&new, "[{:p/name \"Bob\"}]"));
            }
        });
        let error = branches
            .rename(&name("dev"), &name("new"))
            .await
            .unwrap_err();
        if to_as_well {
            assert!(error.to_string().contains("both"), "{error}");
            assert_eq!(listed(main.store()).await, ["dev", "main", "new"]);
        } else {
            assert!(matches!(error, Error::HeadMoved { .. }), "{error}");
            assert_eq!(listed(main.store()).await, ["dev", "main"]);
        }
    }
}

#[tokio::test]
async fn a_branch_that_cannot_be_taken_back_is_said_to_live_on() {
    let main = people(26).await;
    let old = main.db();
    let (mut head, version) = main.branches().live(old.branch()).await.unwrap();
    head.purges += 1;
    head.generation += 1;
    let bytes = head.encode().unwrap();
    let swapped = main
        .store()
        .cas_head(old.branch(), Some(&version), bytes)
        .await;
    assert!(matches!(swapped, CasOutcome::Swapped(_)));
    let store = main.store().clone();
    let branches = Interrupted::branches(main.store(), move || {
        let dev = block_on(open(&store, "dev", 27));
        block_on(transact(&dev, "[{:p/name \"Bob\"}]"));
    });
    let error = branches.create(&name("dev"), &old).await.unwrap_err();
    assert!(
        matches!(&error, Error::SnapshotExpired(what) if what.contains("lives on")),
        "{error}"
    );
    assert_eq!(listed(main.store()).await, ["dev", "main"]);
}
