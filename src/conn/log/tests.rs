//! The commit graph, against walking it edge by edge.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::conn::Connection;
use crate::conn::fixture::{Random, branch_off, people, transact};
use crate::conn::merge::MergeStrategy;
use crate::db::basis::TimePoint;
use crate::tx::TxData;

async fn log(db: &Db, range: impl RangeBounds<u64>) -> Vec<Commit> {
    db.log(range).try_collect().await.unwrap()
}

async fn grow(connection: &Connection, tag: &str, count: u64) {
    for n in 0..count {
        transact(connection, &format!("[{{:p/name \"{tag} {n}\"}}]")).await;
    }
}

#[tokio::test]
async fn a_log_tells_every_commit_newest_first() {
    let main = people(1).await;
    grow(&main, "a", 40).await;
    main.checkpoint().await.unwrap();
    grow(&main, "b", 9).await;
    let db = main.db();
    let all = log(&db, ..).await;
    assert_eq!(all.len() as u64, db.basis_t() + 1);
    for (commit, t) in all.iter().zip((0..=db.basis_t()).rev()) {
        let past = db.as_of(TimePoint::T(t)).await.unwrap();
        assert_eq!(commit.id, past.commit_id().await.unwrap());
        assert_eq!(commit.instant, past.basis_instant());
        assert_eq!(commit.tx, TxId::from_t(t));
    }
    for pair in all.windows(2) {
        assert_eq!(pair[0].parents, [pair[1].id]);
    }
    assert!(all[all.len() - 1].parents.is_empty());
    let newest = usize::try_from(db.basis_t()).unwrap();
    for (first, last) in [(0, 0), (3, 3), (5, 45), (41, 42), (40, 60), (7, 6)] {
        let expected: Vec<_> = all
            .iter()
            .filter(|commit| (first..=last).contains(&commit.id.t))
            .cloned()
            .collect();
        assert_eq!(log(&db, first..=last).await, expected, "{first}..={last}");
    }
    let past = db.as_of(TimePoint::T(10)).await.unwrap();
    assert_eq!(log(&past, ..).await, all[newest - 10..]);
}

#[tokio::test]
async fn a_speculative_value_has_no_commit_of_its_own() {
    let main = people(2).await;
    let data = TxData::parse("[{:p/name \"Ada\"}]").unwrap();
    let what_if = main.db().db_with(&data).await.unwrap();
    assert!(matches!(what_if.commit_id().await, Err(Error::Invalid(_))));
    assert_eq!(log(&what_if, ..).await, log(&main.db(), ..).await);
    let back = what_if.as_of(TimePoint::T(1)).await.unwrap();
    assert_eq!(back.commit_id().await.unwrap(), main.db().head_commit());
    let twice = what_if
        .db_with(&TxData::parse("[{:p/name \"B\"}]").unwrap())
        .await
        .unwrap();
    let once = twice.as_of(TimePoint::T(2)).await.unwrap();
    assert!(once.commit_id().await.is_err());
}

#[tokio::test]
async fn the_log_reads_as_far_as_it_is_taken() {
    let main = people(3).await;
    grow(&main, "a", 400).await;
    main.checkpoint().await.unwrap();
    let db = Db::open(main.store(), main.branch()).await.unwrap();
    let before = db.store().requests();
    let first: Vec<_> = db.log(..).take(3).try_collect().await.unwrap();
    assert_eq!(first[0].id, db.head_commit());
    let asked = db.store().requests() - before;
    assert!(asked.gets <= 4, "{asked:?}");
}

/// The ancestors of commits, themselves included.
fn ancestors(graph: &BTreeMap<CommitId, Commit>, from: CommitId) -> BTreeSet<CommitId> {
    let mut open = vec![from];
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            open.extend(&graph[&id].parents);
        }
    }
    seen
}

#[tokio::test]
async fn ancestors_and_graph_of_generated_histories() {
    for seed in 0..12 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let main = people(seed).await;
        let dev = branch_off(&main, "dev").await;
        let lines = [&main, &dev];
        let mut graph: BTreeMap<CommitId, Commit> = BTreeMap::new();
        for round in 0..30 {
            let at = usize::from(random.below(2) == 0);
            let (ours, theirs) = (lines[at], lines[1 - at]);
            match random.below(6) {
                0..=3 => grow(ours, &format!("{at} {round}"), 1 + random.below(3)).await,
                4 => {
                    let newest = theirs.sync().await.unwrap();
                    // Sometimes a commit that is not the newest, so that merges cross.
                    let t = newest.basis_t() - random.below(3).min(newest.basis_t());
                    let past = newest.as_of(TimePoint::T(t)).await.unwrap();
                    _ = ours.merge(&past, &MergeStrategy::Ours).await.unwrap();
                }
                _ => ours.checkpoint().await.unwrap(),
            }
            let (left, right) = (main.db(), dev.db());
            let dbs = [left.clone(), right.clone()];
            let commits: Vec<Commit> = commit_graph(&dbs).try_collect().await.unwrap();
            let mut seen = BTreeSet::new();
            for commit in &commits {
                assert!(commit.parents.iter().all(|parent| !seen.contains(parent)));
                assert!(seen.insert(commit.id), "{} comes twice", commit.id);
                graph.insert(commit.id, commit.clone());
            }
            let (l, r) = (left.head_commit(), right.head_commit());
            let mut reachable = ancestors(&graph, l);
            reachable.extend(ancestors(&graph, r));
            // A fast-forward leaves no commit of ours behind.
            assert_eq!(seen, reachable);

            let common: BTreeSet<_> = ancestors(&graph, l)
                .intersection(&ancestors(&graph, r))
                .copied()
                .collect();
            let best: BTreeSet<_> = common
                .iter()
                .filter(|id| {
                    !common
                        .iter()
                        .any(|o| o != *id && ancestors(&graph, *o).contains(id))
                })
                .copied()
                .collect();
            let found = left.common_ancestor(&right).await.unwrap().unwrap();
            assert!(best.contains(&found), "{found} is not among {best:?}");
            let back = right.common_ancestor(&left).await.unwrap().unwrap();
            assert!(best.contains(&back));
        }
        for line in lines {
            line.checkpoint().await.unwrap();
            line.db().verify().await.unwrap();
        }
    }
}

#[tokio::test]
async fn strangers_have_no_common_ancestor() {
    let (one, other) = (people(4).await, people(5).await);
    assert_eq!(one.db().common_ancestor(&other.db()).await.unwrap(), None);
}

#[tokio::test]
async fn a_fork_is_found_in_few_reads() {
    let main = people(6).await;
    grow(&main, "a", 700).await;
    let dev = branch_off(&main, "dev").await;
    grow(&main, "b", 2).await;
    grow(&dev, "c", 2).await;
    main.checkpoint().await.unwrap();
    let (left, right) = (
        Db::open(main.store(), main.branch()).await.unwrap(),
        Db::open(dev.store(), dev.branch()).await.unwrap(),
    );
    let before = left.store().requests();
    let found = left.common_ancestor(&right).await.unwrap().unwrap();
    assert_eq!(found.t, 701);
    let asked = left.store().requests() - before;
    assert!(asked.gets <= 40, "{asked:?}");
}

#[tokio::test]
async fn a_tampered_parent_is_found() {
    let main = people(7).await;
    let dev = branch_off(&main, "dev").await;
    grow(&main, "a", 1).await;
    grow(&dev, "b", 1).await;
    _ = main.merge(&dev.db(), &MergeStrategy::Fail).await.unwrap();
    let db = main.db();
    db.verify().await.unwrap();
    let head = &db.0.head;
    for spoil in [
        (|parent: &mut OtherParent| parent.commit.t += 1) as fn(&mut OtherParent),
        |parent| parent.commit.hash.0[0] ^= 1,
        |parent| parent.renumbered[0].to.0 += 1,
        |parent| parent.renumbered.clear(),
    ] {
        let mut head = crate::db::head::Head::clone(head);
        let last = head.pending.last_mut().unwrap();
        spoil(&mut last.other_parents[0]);
        let spoiled = Db::from_head(std::sync::Arc::clone(db.loader()), head)
            .await
            .unwrap();
        let fault = spoiled.verify().await.unwrap_err();
        assert!(
            fault.to_string().contains("do not lead to the head"),
            "{fault}"
        );
    }
}

/// Every step of a search for the fork hashed all datoms of the tail anew, which was most of a small merge.
#[tokio::test]
async fn a_value_remembers_the_commits_of_its_own_head() {
    let main = people(9).await;
    for n in 0..24 {
        if n % 10 == 9 {
            main.checkpoint().await.unwrap();
        }
        let db = main.db();
        let head = &db.0.head;
        let mut parent = head.checkpoint_commit;
        let mut hashes = Vec::new();
        for pending in &head.pending {
            parent = pending.hash(parent, &pending.digest(head.log_of(pending.t)));
            hashes.push(parent);
        }
        assert_eq!(db.chain(), hashes);
        assert_eq!(parent, head.commit.hash);
        let before = db.basis_t().saturating_sub(3);
        let past = db.as_of(TimePoint::T(before)).await.unwrap();
        assert_eq!(past.chain(), hashes);
        assert!(std::ptr::eq(db.chain(), db.history().chain()));
        // The next value is made of this one, which knows its chain by now.
        grow(&main, &n.to_string(), 1).await;
    }
}
