//! Repacking: what is moved leads nowhere else, and whoever reads the old places has the grace.

use super::tombstones::side;
use super::*;
use crate::id::Location;

impl Work {
    async fn head_of(&self, branch: &BranchName) -> Head {
        let found = read_head(&self.simulation.store(), branch).await.unwrap();
        found.unwrap().0
    }

    /// What a head reaches.
    async fn reached(&self, branch: &BranchName) -> Reachable {
        let head = self.head_of(branch).await;
        let roots = roots_of(&head.checkpoint).chain(head.commits.root);
        let loader = Loader::new(self.simulation.store());
        mark(&loader, roots.collect(), Vec::new()).await.unwrap()
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

    /// The packs of which a branch reaches something, but less than half.
    pub(super) async fn half_dead(&self, branch: &BranchName) -> Vec<PackId> {
        let reached = self.reached(branch).await;
        let packs = self.simulation.store().list_packs().await.unwrap();
        let half = packs
            .iter()
            .filter(|pack| (1..pack.len / 2).contains(&reached.bytes_in(pack.id)));
        let half: Vec<PackId> = half.map(|pack| pack.id).collect();
        assert!(!half.is_empty());
        half
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
        // Much that is new at each checkpoint and old at the next, beside the records of commits.
        for n in 0..40 + seed {
            work.go_on(10, 1).await;
            let new = |id: u64| format!("{{:n/id {id} :n/text \"wide {n} {}\"}}", id * (n + 7));
            let wide: Vec<String> = (1000..1080).map(new).collect();
            work.transact(&format!("[{}]", wide.concat())).await;
        }
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

/// Repacking took the branches that the run knew. One made in between went on naming the old packs: the run
/// condemned them although they were needed.
#[tokio::test]
async fn a_branch_made_during_a_run_is_repacked_too() {
    let mut work = Work::begin(130).await;
    work.go_on(80, 10).await;
    work.simulation.pass(MINUTE);
    let store = work.simulation.store();
    let options = newest_only();
    let mut run = Run::begin(&store, &options, world(&work.simulation, 1301))
        .await
        .unwrap();
    run.swap_heads().await.unwrap();
    let db = work.connection.sync().await.unwrap();
    work.branches(130).create(&side(), &db).await.unwrap();
    let report = run.collect().await.unwrap();
    assert!(report.repacked.count > 0, "{report:?}");
    let (main, aside) = (
        work.head_of(&BranchName::default()).await,
        work.head_of(&side()).await,
    );
    assert_eq!(aside.gc_epoch, main.gc_epoch);
    let reached = work.reached(&side()).await;
    for note in store.list_notes().await.unwrap() {
        let body = store.read_note(note.id).await.unwrap().unwrap();
        for pack in Verdict::decode(&note, &body).packs {
            assert_eq!(reached.bytes_in(pack), 0, "{pack} was condemned");
        }
    }
    work.simulation.pass(61 * MINUTE);
    let report = work.gc(&options, 2).await;
    assert!(report.deleted.count > 0, "{report:?}");
    work.holds(&side()).await;
    work.check(9).await;
}

/// A verdict named a pack that a later run found alive and repacked. The pack went under that verdict, at
/// once or when it was ripe, and readers of what had been alive had no grace.
#[tokio::test]
async fn a_verdict_counts_for_nothing_that_a_later_run_finds_alive() {
    for (seed, repack, minutes) in [(0, true, 61), (1, true, 30), (2, false, 30)] {
        let mut work = Work::begin(140 + seed).await;
        work.go_on(80, 10).await;
        let retention = Retention::keep_all();
        let options = |retention: &Retention, repack| GcOptions {
            retention: retention.clone(),
            repack,
            ..GcOptions::default()
        };
        // Everything that a checkpoint needs; half of it goes with the old checkpoints.
        work.simulation.pass(MINUTE);
        work.gc(&options(&Retention::newest_only(), false), 1).await;
        let store = work.simulation.store();
        let half = work.half_dead(&BranchName::default()).await;
        let note = PackId([u8::MAX; 16]);
        let wrong = Verdict::of(half.iter().copied()).encode();
        store.put_note(note, wrong).await.unwrap();
        work.simulation.pass(minutes * MINUTE);
        let reader = Db::open(&store, &BranchName::default()).await.unwrap();
        let twin = work.twin.clone();
        let report = work.gc(&options(&retention, repack), 2).await;
        assert_eq!(report.repacked.count > 0, repack, "{report:?}");
        if !repack {
            // Now they die, though the verdict is not ripe yet.
            work.gc(&options(&retention, true), 3).await;
        }
        for seed in 4..6 {
            work.simulation.pass(29 * MINUTE);
            work.gc(&options(&retention, false), seed).await;
        }
        work.simulation.pass(MINUTE);
        work.gc(&options(&retention, false), 6).await;
        let left = work.packs().await;
        assert!(half.iter().all(|pack| left.contains(pack)), "seed {seed}");
        reader.verify().await.unwrap();
        twin.check(&reader, 9).await;
        work.simulation.pass(MINUTE);
        work.gc(&options(&retention, false), 7).await;
        let left = work.packs().await;
        assert!(half.iter().all(|pack| !left.contains(pack)), "seed {seed}");
        assert!(store.list_notes().await.unwrap().len() <= 1);
        work.check(9).await;
    }
}

/// A head whose tail came to name a body in a pack that was to go ended the run before anything was swept,
/// and the run blamed writers for being faster.
#[tokio::test]
async fn a_pack_that_a_tail_comes_to_name_stays_and_the_run_goes_on() {
    let mut work = Work::begin(150).await;
    let main = BranchName::default();
    work.go_on(80, 10).await;
    work.transact("[{:n/id 1 :n/text \"in the tail\"}]").await;
    work.simulation.pass(MINUTE);
    let store = work.simulation.store();
    let options = GcOptions {
        grace: Duration::ZERO,
        ..newest_only()
    };
    let mut run = Run::begin(&store, &options, world(&work.simulation, 1501))
        .await
        .unwrap();
    run.swap_heads().await.unwrap();
    let half = work.half_dead(&main).await;
    // As only a foreign writer would: tuples with large elements are not transacted.
    let (mut head, version) = read_head(&store, &main).await.unwrap().unwrap();
    let text = "x".repeat(3000);
    let crate::Value::Large(large) = crate::Value::string(text) else {
        panic!("the text is short")
    };
    let large = crate::value::Large {
        value_type: large.value_type,
        prefix: large.prefix.clone(),
        hash: large.hash,
        len: large.len,
        body: std::sync::OnceLock::new(),
        location: Some(Location {
            pack: half[0],
            offset: 64,
            len: 64,
        }),
    };
    let last = head.log.last().unwrap().clone();
    let tuple = crate::Value::Tuple([Some(crate::Value::Large(large.into()))].into());
    head.log.push(Datom::add(
        crate::Entid(last.e.0 + 1),
        last.a,
        tuple,
        last.tx,
    ));
    head.generation += 1;
    let body = head.encode().unwrap();
    let CasOutcome::Swapped(_) = store.cas_head(&main, Some(&version), body).await else {
        panic!("nobody else writes")
    };
    let report = run.collect().await.unwrap();
    assert!(report.deleted.count > 0, "{report:?}");
    let left = work.packs().await;
    assert!(left.contains(&half[0]));
    assert!(half[1..].iter().all(|pack| !left.contains(pack)));
}
