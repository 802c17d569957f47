//! Deleted branches: how long they can be restored, and when what they held goes.

use super::*;
use crate::conn::{Branches, MergeOutcome, MergeStrategy, Purge};
use crate::datom::Entid;
use crate::id::Location;

pub(super) fn side() -> BranchName {
    BranchName::try_new("side").unwrap()
}

impl Work {
    pub(super) fn branches(&self, seed: u64) -> Branches {
        let environment = world(&self.simulation, 1 << 44 | seed);
        Branches::new_in(self.connection.store(), environment)
    }

    pub(super) async fn open(&self, branch: &BranchName, seed: u64) -> Connection {
        let environment = world(&self.simulation, 1 << 45 | seed);
        Connection::open_in(self.connection.store(), branch.clone(), environment)
            .await
            .unwrap()
    }

    /// A branch that says much that nobody else says, and its twin; nothing of it is in the tail.
    async fn aside(&self, seed: u64) -> (Connection, Twin) {
        let db = self.connection.sync().await.unwrap();
        self.branches(seed).create(&side(), &db).await.unwrap();
        let connection = self.open(&side(), seed).await;
        let mut twin = self.twin.clone();
        for n in 0..40 {
            let text = format!("side {n:0>width$}", width = 20 + n * 37);
            let said = format!(r#"[{{:n/id {n} :n/text "{text}" :n/next [[:n/id 1]]}}]"#);
            let data = TxData::parse(&said).unwrap();
            twin.0
                .push(connection.transact(&data).await.unwrap().tx_data);
            self.simulation.pass(MINUTE);
            if n % 4 == 3 {
                connection.checkpoint().await.unwrap();
            }
        }
        (connection, twin)
    }

    fn purge_of_next(&self) -> (Purge, Entid) {
        let ident = datomfusion_datalog::edn::Keyword::new("n/next");
        let next = self.connection.db().schema().entid(&ident).unwrap();
        (Purge::Attribute(next), next)
    }

    async fn head(&self, branch: &BranchName) -> Head {
        let found = read_head(&self.simulation.store(), branch).await.unwrap();
        found.unwrap().0
    }
}

impl Twin {
    fn forget_attribute(&mut self, a: Entid) {
        for said in &mut self.0 {
            said.retain(|datom| datom.a != a);
        }
    }
}

/// Makes, deletes or restores a branch, whatever is next, and proves that it is what its twin says.
pub(super) async fn turn(work: &Work, twin: &mut Twin, seed: u64) {
    let branches = work.branches(seed);
    let found = read_head(&work.simulation.store(), &side()).await.unwrap();
    let live = match found {
        Some((head, _)) if head.deleted.is_none() => {
            let db = work.open(&side(), seed).await.db();
            db.verify().await.unwrap();
            twin.check(&db, 9).await;
            return branches.delete(&side()).await.unwrap();
        }
        Some((head, _)) if !head.is_emptied() => branches.restore(&side()).await.unwrap(),
        other => {
            if other.is_some() {
                let refused = branches.restore(&side()).await;
                assert!(matches!(refused, Err(Error::SnapshotExpired(_))));
            }
            let newest = work.connection.sync().await.unwrap();
            *twin = work.twin.clone();
            branches.create(&side(), &newest).await.unwrap()
        }
    };
    twin.check(&live, 9).await;
}

/// Where the trees of a head begin.
fn places(head: &Head) -> BTreeSet<Location> {
    let roots = roots_of(&head.checkpoint).chain(head.commits.root);
    roots.map(|root| root.location).collect()
}

#[tokio::test]
async fn a_young_tombstone_keeps_its_trees_and_they_can_be_repacked() {
    let mut work = Work::begin(90).await;
    work.go_on(30, 10).await;
    let (dev, twin) = work.aside(90).await;
    let live = work.simulation.store().list_packs().await.unwrap().len();
    work.branches(91).delete(&side()).await.unwrap();
    let before = work.head(&side()).await;
    let options = GcOptions {
        grace: Duration::from_mins(61),
        ..newest_only()
    };
    for (seed, minutes) in [(1, 1), (2, 30), (3, 29)] {
        work.simulation.pass(minutes * MINUTE);
        let report = work.gc(&options, seed).await;
        assert_eq!(report.branches, 2);
        let head = work.head(&side()).await;
        assert!(head.deleted == before.deleted && !head.is_emptied());
    }
    let after = work.head(&side()).await;
    assert_eq!(after.commit, before.commit);
    assert!(places(&after).is_disjoint(&places(&before)), "it was moved");
    let db = work.branches(92).restore(&side()).await.unwrap();
    db.verify().await.unwrap();
    twin.check(&db, 1).await;
    // The old places go; the branch that came back stays.
    for seed in 4..7 {
        work.simulation.pass(62 * MINUTE);
        work.gc(&newest_only(), seed).await;
    }
    let left = work.simulation.store().list_packs().await.unwrap().len();
    assert!(left < live, "{left} of {live} packs are left");
    let db = dev.sync().await.unwrap();
    db.verify().await.unwrap();
    twin.check(&db, 1).await;
    work.check(1).await;
}

#[tokio::test]
async fn an_old_tombstone_is_emptied_and_then_its_packs_go() {
    let mut work = Work::begin(93).await;
    work.go_on(30, 10).await;
    let options = GcOptions {
        repack: false,
        ..GcOptions::default()
    };
    for seed in 0..3 {
        work.simulation.pass(61 * MINUTE);
        work.gc(&options, seed).await;
    }
    let base = work.simulation.store().list_packs().await.unwrap().len();
    let (dev, twin) = work.aside(93).await;
    let reader = dev.db();
    let commit = reader.head_commit();
    work.branches(94).delete(&side()).await.unwrap();

    work.simulation.pass(59 * MINUTE);
    let young = work.gc(&options, 3).await;
    assert_eq!((young.condemned.count, young.deleted.count), (0, 0));
    work.simulation.pass(MINUTE);
    let old = work.gc(&options, 4).await;
    assert!(old.condemned.count > 5 && old.deleted.count == 0, "{old:?}");
    let head = work.head(&side()).await;
    assert!(head.is_emptied() && places(&head).is_empty());
    assert_eq!(head.commit, commit);
    // Whoever read it before has the grace.
    let late = Db::open_with(Arc::new(Loader::new(work.simulation.store())), &side()).await;
    assert!(matches!(late, Err(Error::BranchDeleted { .. })));
    twin.check(&reader, 7).await;
    let refused = work.branches(95).restore(&side()).await.unwrap_err();
    assert!(
        matches!(&refused, Error::SnapshotExpired(what) if what.contains("free for a new branch")),
        "{refused}"
    );

    work.simulation.pass(60 * MINUTE);
    let gone = work.gc(&options, 5).await;
    assert_eq!(gone.deleted, old.condemned);
    let left = work.simulation.store().list_packs().await.unwrap().len();
    assert!(left <= base + 2, "{left} packs are left of {base}");
    let refused = work.branches(95).restore(&side()).await.unwrap_err();
    assert!(matches!(refused, Error::SnapshotExpired(_)), "{refused}");
    work.check(1).await;

    // The name is free, and further runs mind the new branch.
    let db = work.connection.sync().await.unwrap();
    let made = work.branches(96).create(&side(), &db).await.unwrap();
    assert_eq!(made.0.head.generation, work.head(&side()).await.generation);
    assert!(made.0.head.generation > head.generation);
    work.go_on(9, 10).await;
    for seed in 6..9 {
        work.simulation.pass(61 * MINUTE);
        work.gc(&newest_only(), seed).await;
    }
    let db = work.open(&side(), 97).await.db();
    db.verify().await.unwrap();
    assert_eq!(db.head_commit(), made.head_commit());
}

/// Making a branch of a value that garbage collection has overtaken leaves an emptied tombstone at once.
#[tokio::test]
async fn an_emptied_tombstone_that_is_young_is_collected_like_any() {
    let mut work = Work::begin(98).await;
    work.go_on(20, 10).await;
    let stale = work.connection.db();
    work.gc(&newest_only(), 1).await;
    let refused = work.branches(98).create(&side(), &stale).await.unwrap_err();
    assert!(
        matches!(&refused, Error::SnapshotExpired(what) if what.contains("open it again")),
        "{refused}"
    );
    assert!(work.head(&side()).await.is_emptied());
    for seed in 2..5 {
        let report = work.gc(&newest_only(), seed).await;
        assert_eq!(report.branches, 2);
        assert!(work.head(&side()).await.is_emptied());
        work.simulation.pass(61 * MINUTE);
    }
    let restored = work.branches(99).restore(&side()).await;
    assert!(matches!(restored, Err(Error::SnapshotExpired(_))));
    let newest = work.connection.sync().await.unwrap();
    work.branches(99).create(&side(), &newest).await.unwrap();
    work.check(5).await;
}

/// A purge raises no epoch: it was once necessary to collect garbage before a purged branch could be
/// branched from over a tombstone, or be fast-forwarded.
#[tokio::test]
async fn a_purge_leaves_branching_and_fast_forward_as_they_are() {
    let mut work = Work::begin(100).await;
    work.go_on(12, 10).await;
    let (dev, mut twin) = work.aside(100).await;
    let (purge, next) = work.purge_of_next();
    let report = work.connection.purge(&purge).await.unwrap();
    assert_eq!(report.elsewhere, [side()]);
    work.twin.forget_attribute(next);
    work.check(1).await;
    let report = dev.purge(&purge).await.unwrap();
    assert_eq!(report.elsewhere, []);
    twin.forget_attribute(next);
    twin.check(&dev.db(), 1).await;
    // Without a collection in between.
    let merged = work.connection.merge(&dev.db(), &MergeStrategy::Fail).await;
    assert_eq!(merged.unwrap().outcome, MergeOutcome::FastForward);
    work.twin = twin;
    work.check(1).await;
    let branches = work.branches(101);
    branches.delete(&side()).await.unwrap();
    let db = work.connection.db();
    branches.create(&side(), &db).await.unwrap();
    for seed in 0..3 {
        work.simulation.pass(61 * MINUTE);
        work.gc(&newest_only(), seed).await;
    }
    work.check(1).await;
    let db = work.open(&side(), 102).await.db();
    work.twin.check(&db, 1).await;
}

#[tokio::test]
async fn no_branch_begins_with_a_value_that_was_purged_since() {
    let mut work = Work::begin(103).await;
    work.go_on(12, 10).await;
    let stale = work.connection.db();
    let (purge, _) = work.purge_of_next();
    work.connection.purge(&purge).await.unwrap();
    let refused = work.branches(103).create(&side(), &stale).await;
    assert!(matches!(refused, Err(Error::SnapshotExpired(_))));
    let listed = work.branches(103).list().await.unwrap();
    assert_eq!(listed.len(), 1);
    let report = work.connection.purge(&purge).await.unwrap();
    assert_eq!(report.elsewhere, [], "the tombstone holds nothing");
}

/// Moving the head to the commit of a branch that was not purged would bring its whole past along.
#[tokio::test]
async fn a_branch_that_was_not_purged_is_merged_by_a_transaction() {
    for gone_on in [false, true] {
        let mut work = Work::begin(104).await;
        work.go_on(12, 10).await;
        let (dev, _) = work.aside(104).await;
        if gone_on {
            work.go_on(3, 10).await;
        }
        let (purge, next) = work.purge_of_next();
        work.connection.purge(&purge).await.unwrap();
        work.twin.forget_attribute(next);
        let merged = work.connection.merge(&dev.db(), &MergeStrategy::Ours).await;
        let merged = merged.unwrap();
        assert_eq!(merged.outcome, MergeOutcome::Merged);
        let said = merged.tx.unwrap().tx_data;
        assert!(said.iter().any(|datom| datom.a == next), "said since");
        work.twin.0.push(said);
        work.check(1).await;
        // The next merge begins where this one ended.
        let again = work.connection.merge(&dev.db(), &MergeStrategy::Ours).await;
        assert_eq!(again.unwrap().outcome, MergeOutcome::UpToDate);
    }
}

#[tokio::test]
async fn a_deleted_branch_is_named_by_a_purge_until_it_is_emptied() {
    let mut work = Work::begin(106).await;
    work.go_on(8, 10).await;
    work.aside(106).await;
    work.branches(107).delete(&side()).await.unwrap();
    let (purge, _) = work.purge_of_next();
    let report = work.connection.purge(&purge).await.unwrap();
    assert_eq!(report.elsewhere, [side()]);
    work.simulation.pass(61 * MINUTE);
    work.gc(&GcOptions::default(), 1).await;
    let report = work.connection.would_purge(&purge).await.unwrap();
    assert_eq!((report.datoms, report.elsewhere), (0, Vec::new()));
}
