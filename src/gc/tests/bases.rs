//! Past bases where checkpoints are gone: what they answer, and what opening them costs.

use super::*;
use crate::conn::Purge;
use crate::tree::Tree;

/// Whether a purge takes a datom.
type Gone = Box<dyn Fn(&Datom) -> bool>;

/// The first `t` of each leaf of a tree, and the number of its other nodes.
async fn shape(db: &Db, tree: &Tree) -> (Vec<u64>, usize) {
    let loader = Loader::new(db.store().clone());
    let mut open: Vec<Root> = tree.root.into_iter().collect();
    let (mut leaves, mut inner) = (Vec::new(), 0);
    while let Some(place) = open.pop() {
        let node = loader.load(place.id, place.location).await.unwrap();
        match &*node {
            Node::Inner(_) => {
                inner += 1;
                open.extend(place.children(&node).unwrap());
            }
            Node::Leaf(leaf) => {
                let first = leaf.datom(0);
                leaves.push(match tree.name {
                    TreeName::Log => first.tx.t(),
                    _ => first.e.0.cast_unsigned(),
                });
            }
        }
    }
    (leaves, inner)
}

#[tokio::test]
async fn a_basis_without_a_checkpoint_costs_the_log_up_to_it_and_nothing_else() {
    let mut work = Work::begin(110).await;
    work.go_on(600, 1).await;
    work.simulation.pass(MINUTE);
    let report = work.gc(&newest_only(), 1).await;
    assert_eq!(report.kept_checkpoints, 1);
    let store = work.simulation.store();
    let newest = Db::open(&store, &BranchName::default()).await.unwrap();
    let covered = newest.0.head.checkpoint.covered;
    let (log, log_inner) = shape(&newest, newest.0.head.checkpoint.tree(TreeName::Log)).await;
    let (commits, commits_inner) = shape(&newest, &newest.0.head.commits).await;
    assert!(log.len() > 3, "{log:?}");
    let mut most = 0;
    for t in (0..covered - 1).rev().step_by(13) {
        let db = Db::open(&store, &BranchName::default()).await.unwrap();
        let past = db.as_of(crate::TimePoint::T(t)).await.unwrap();
        let opened = past.loader().loads().nodes;
        let upto = |leaves: &[u64]| leaves.iter().filter(|first| **first <= t).count();
        let bound = upto(&log) + log_inner + upto(&commits) + commits_inner;
        assert!(opened <= bound as u64, "t={t}: {opened} of {bound} nodes");
        let facts = past.collect(Index::Eavt, &Range::all()).await.unwrap();
        assert_eq!(facts, work.twin.current(t), "t={t}");
        assert_eq!(past.loader().loads().nodes, opened, "t={t}");
        most = most.max(opened);
    }
    assert!(most > log.len() as u64, "the last reads the whole log");
}

#[tokio::test]
async fn every_basis_of_a_purged_branch_answers_from_its_log() {
    let mut work = Work::begin(111).await;
    work.go_on(70, 3).await;
    let facts = work.twin.current(work.connection.db().basis_t());
    let attribute = |ident: &str| {
        let ident = datomfusion_datalog::edn::Keyword::new(ident);
        work.connection.db().schema().entid(&ident).unwrap()
    };
    let (id, text, next) = (attribute("n/id"), attribute("n/text"), attribute("n/next"));
    let entity = facts.iter().find(|datom| datom.a == id).unwrap().e;
    let fact = facts.iter().rfind(|datom| datom.a == text).unwrap().clone();
    let purges: [(Purge, Gone); 3] = [
        (
            Purge::Entity(entity),
            Box::new(move |d| d.e == entity || d.v == crate::Value::Ref(entity)),
        ),
        (
            Purge::Fact {
                e: fact.e,
                a: fact.a,
                v: fact.v.clone(),
            },
            Box::new(move |d| (d.e, d.a, &d.v) == (fact.e, fact.a, &fact.v)),
        ),
        (Purge::Attribute(next), Box::new(move |d| d.a == next)),
    ];
    for (seed, (purge, gone)) in (0..).zip(&purges) {
        let report = work.connection.purge(purge).await.unwrap();
        assert!(report.datoms > 0);
        for said in &mut work.twin.0 {
            said.retain(|datom| !gone(datom));
        }
        work.check(1).await;
        // New checkpoints behind the one that the purge made, then none but the newest.
        work.go_on(9, 3).await;
        work.check(1).await;
        work.simulation.pass(61 * MINUTE);
        work.gc(&newest_only(), seed).await;
        work.check(1).await;
    }
    work.simulation.pass(61 * MINUTE);
    let report = work.gc(&newest_only(), 9).await;
    assert!(report.deleted.count > 0, "{report:?}");
    work.check(1).await;
}

/// A checkpoint that a change of `:db/noHistory` forces can be dropped; then the tail of a past basis, and of
/// a branch made there, reaches across the change. What was superseded before it was taken for what was
/// superseded behind it.
#[tokio::test]
async fn a_branch_whose_tail_reaches_across_a_change_of_no_history_is_canonical() {
    for seed in 0..4 {
        let mut dice = Dice(seed);
        let mut work = Work::begin(115 + seed).await;
        work.go_on(4, 1).await;
        let mut forgets = [false; 2];
        let mut next = String::new();
        for n in 0..24u64 {
            let which = usize::from(dice.below(2) == 1);
            let attribute = ["n/text", "n/more"][which];
            next.clear();
            let _ = match (n, dice.below(4)) {
                (3, _) => write!(
                    next,
                    "[{{:db/ident :n/more :db/valueType :db.type/string :db/index true
                       :db/cardinality :db.cardinality/one}}]"
                ),
                (4.., 0) => {
                    let old = std::mem::replace(&mut forgets[which], n % 3 > 0);
                    if old == forgets[which] && n > 6 {
                        write!(next, "[[:db/add :{attribute} :db/index {}]]", n % 2 == 0)
                    } else {
                        write!(
                            next,
                            "[[:db/add :{attribute} :db/noHistory {}]]",
                            forgets[which]
                        )
                    }
                }
                (4.., 1) => write!(
                    next,
                    "[{{:n/id {} :n/text \"one {n}\" :n/more \"two {n}\"}}]",
                    dice.below(3)
                ),
                (0..4, _) => write!(next, "[{{:n/id {} :n/text \"{n}\"}}]", n % 2),
                _ => {
                    let id = dice.below(3);
                    work.transact(&format!("[{{:n/id {id} :n/text \"once more {n}\"}}]"))
                        .await;
                    write!(
                        next,
                        "[[:db/retractEntity [:n/id {id}]] [:db/add \"e\" :n/id {}]]",
                        9 + n
                    )
                }
            };
            work.transact(&next).await;
            work.simulation.pass(MINUTE);
        }
        work.connection.checkpoint().await.unwrap();
        work.simulation.pass(MINUTE);
        let report = work.gc(&newest_only(), seed).await;
        assert!(report.dropped_checkpoints > 2, "{report:?}");
        let newest = work.connection.sync().await.unwrap();
        newest.verify().await.unwrap();
        for t in 6..newest.basis_t() {
            let past = newest.as_of(crate::TimePoint::T(t)).await.unwrap();
            let name = BranchName::try_new(&format!("at-{t}")).unwrap();
            work.branches(t).create(&name, &past).await.unwrap();
            let connection = work.open(&name, t).await;
            connection.checkpoint().await.unwrap();
            let found = connection.db().verify().await;
            assert!(found.is_ok(), "seed {seed}, t={t}: {found:?}");
        }
    }
}
