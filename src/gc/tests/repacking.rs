//! Repacking: what is moved leads nowhere else, and whoever reads the old places has the grace.

use super::tombstones::side;
use super::*;
use crate::id::Location;

impl Work {
    async fn head_of(&self, branch: &BranchName) -> Head {
        let found = read_head(&self.simulation.store(), branch).await.unwrap();
        found.unwrap().0
    }

    /// The leaves of the tree of commits: the first `t` of each, and where it lies.
    async fn commits(&self, branch: &BranchName) -> Vec<(u64, Location)> {
        let loader = Loader::new(self.simulation.store());
        let mut open: Vec<Root> = self
            .head_of(branch)
            .await
            .commits
            .root
            .into_iter()
            .collect();
        let mut leaves = Vec::new();
        while let Some(place) = open.pop() {
            let node = loader.load(place.id, place.location).await.unwrap();
            match &*node {
                Node::Inner(_) => open.extend(place.children(&node).unwrap()),
                Node::Leaf(leaf) => {
                    leaves.push((leaf.datom(0).e.0.cast_unsigned(), place.location));
                }
            }
        }
        leaves.sort_unstable_by_key(|(t, _)| *t);
        leaves
    }

    async fn packs(&self) -> BTreeSet<PackId> {
        let packs = self.simulation.store().list_packs().await.unwrap();
        packs.into_iter().map(|pack| pack.id).collect()
    }

    /// A branch is whole, and says at its bases and of its commits what it said.
    async fn holds(&self, branch: &BranchName) {
        let db = Db::open(&self.simulation.store(), branch).await.unwrap();
        let last = db.0.head.checkpoint.covered - 1;
        let records = db.commit_records(0, last).await.unwrap();
        assert_eq!(records.len() as u64, last + 1);
        db.verify().await.unwrap();
        self.twin.check(&db, 17).await;
    }
}

/// Two branches shared a tree of commits, and an old leaf of it lay in a pack that was repacked. The first
/// branch moved it. The second found the moved root and edited its last record, reading inner nodes that its
/// loader had kept from before the move: the new root named the leaf where it had lain, in a pack that the
/// same run deleted.
#[tokio::test]
async fn branches_that_share_a_tree_of_commits_lose_no_leaf_of_it() {
    let (main, side) = (BranchName::default(), side());
    let mut moved = 0;
    for seed in 0..3 {
        let mut work = Work::begin(120 + seed).await;
        work.go_on(420 + 12 * seed, 1).await;
        let leaves = work.commits(&main).await;
        assert!(leaves.len() > 1, "{leaves:?}");
        let db = work.connection.sync().await.unwrap();
        work.branches(120).create(&side, &db).await.unwrap();
        // Of the checkpoints stay those of the first leaf, which is not written anew, and the newest.
        let second = leaves[1].0;
        let instant = db.commit_records(second, second).await.unwrap()[0]
            .pending
            .instant;
        work.simulation.pass(MINUTE);
        let age = work.simulation.now() - instant + 1;
        let options = GcOptions {
            retention: Retention::newest_only().thin(
                Duration::from_millis(age.unsigned_abs()),
                Duration::from_millis(1),
            ),
            grace: Duration::ZERO,
            ..GcOptions::default()
        };
        let report = work.gc(&options, 1).await;
        assert!(report.repacked.count > 0, "{report:?}");
        moved += usize::from(!work.packs().await.contains(&leaves[0].1.pack));
        work.holds(&main).await;
        work.holds(&side).await;
    }
    assert!(moved > 0, "no pack with an old leaf went");
}
