//! Copies against a slow twin that lists what both stores reach.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use futures::executor::block_on;

use super::*;
use crate::conn::branch::Branches;
use crate::conn::{Connection, Purge};
use crate::datom::Datom;
use crate::environment::Seeded;
use crate::gc::{GcOptions, Retention, gc_in, leaf_of};
use crate::id::NodeId;
use crate::index::{Index, Range};
use crate::store::simulated::Simulation;
use crate::tree::Root;
use crate::tx::TxData;
use crate::value::Value;

mod crash;
mod faults;
mod travel;
#[cfg(feature = "ws")]
mod ws;

const SCHEMA: &str = r#"[{:db/ident :n/id :db/valueType :db.type/long :db/cardinality :db.cardinality/one
    :db/unique :db.unique/identity}
   {:db/ident :n/text :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/index true}
   {:db/ident :n/next :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}]"#;

/// What transaction `n` of the script says: some texts are large, some facts are retracted.
fn scripted(n: u64) -> String {
    let text = match n % 7 {
        0 => format!("{n:0>1500}"),
        3 => format!("{n:0>300}"),
        _ => format!("text {n}"),
    };
    let mut said = format!("[{{:n/id {} :n/text \"{text}\" :n/next [\"t\"]}} ", n % 400);
    let _ = write!(said, "{{:db/id \"t\" :n/id {}}}", (n * 7) % 400);
    if n > 10 && n.is_multiple_of(5) {
        let _ = write!(said, " [:db/retractEntity [:n/id {}]]", (n - 3) % 400);
    }
    said.push(']');
    said
}

/// Many facts at once, so that trees have several levels.
fn bulk(from: u64, upto: u64) -> String {
    let facts = (from..upto).map(|n| format!("{{:n/id {n} :n/text \"bulk {n}\"}}"));
    format!("[{}]", facts.collect::<String>())
}

fn name(text: &str) -> BranchName {
    BranchName::try_new(text).unwrap()
}

fn main() -> BranchName {
    BranchName::default()
}

/// A database under work, in a storage of its own.
struct Source {
    simulation: Arc<Simulation>,
    connection: Connection,
    n: u64,
}

impl Source {
    async fn begin(seed: u64) -> Self {
        let simulation = Simulation::new();
        let store = simulation.store();
        let connection = Connection::create_in(&store, main(), Seeded::new(seed))
            .await
            .unwrap();
        let source = Self {
            simulation,
            connection,
            n: 0,
        };
        source.say(SCHEMA).await;
        source
    }

    /// A database whose trees have several levels.
    async fn large(seed: u64) -> Self {
        let source = Self::begin(seed).await;
        source.say(&bulk(0, 20_000)).await;
        source.connection.checkpoint().await.unwrap();
        source
    }

    async fn say(&self, text: &str) {
        said(&self.connection, text).await;
    }

    /// Goes on with the script; a checkpoint after every few transactions.
    async fn go_on(&mut self, transactions: u64, every: u64) {
        for _ in 0..transactions {
            self.n += 1;
            self.say(&scripted(self.n)).await;
            if self.n.is_multiple_of(every) {
                self.connection.checkpoint().await.unwrap();
            }
        }
    }

    fn store(&self) -> Store {
        self.simulation.store()
    }

    async fn db(&self) -> Db {
        Db::open(&self.store(), &main()).await.unwrap()
    }
}

async fn said(connection: &Connection, text: &str) {
    let data = TxData::parse(text).unwrap();
    connection.transact(&data).await.unwrap();
}

fn small() -> SyncOptions {
    SyncOptions {
        pack_bytes: 4 << 10,
        ..SyncOptions::default()
    }
}

async fn copied(from: &Store, to: &Store, options: &SyncOptions, seed: u64) -> Result<SyncReport> {
    sync_in(from, to, options, Seeded::new(1 << 32 | seed)).await
}

/// Brings `main` from one storage to another.
async fn fetched(from: &Store, to: &Store, seed: u64) -> SyncReport {
    copied(from, to, &SyncOptions::default(), seed)
        .await
        .unwrap()
}

/// What checkpoints reach, found the slow way: every node of every tree, and every body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reach {
    nodes: BTreeSet<NodeId>,
    bodies: BTreeSet<NodeId>,
}

impl Reach {
    async fn of(db: &Db, checkpoints: &[Checkpoint]) -> Self {
        let mut reach = Self::default();
        let mut open: Vec<Root> = Vec::new();
        for checkpoint in checkpoints {
            open.extend(checkpoint.trees.iter().filter_map(|tree| tree.root));
            if let Some((id, _)) = checkpoint.schema {
                reach.nodes.insert(id);
            }
        }
        while let Some(place) = open.pop() {
            reach.nodes.insert(place.id);
            let here = [(place.id, place.location)];
            let node = db.loader().load_here(&here).await.unwrap().pop().unwrap();
            open.extend(place.children(&node).unwrap());
            if place.level == 0 {
                let leaf = leaf_of(node, &place).unwrap();
                reach
                    .bodies
                    .extend(leaf.larges().iter().map(|large| large.hash));
            }
        }
        reach
    }

    /// All that a head reaches but its tree of commits.
    async fn all(db: &Db) -> Self {
        Self::of(db, &checkpoints(db, 0).await).await
    }

    fn without(&self, other: &Self) -> (u64, u64) {
        let nodes = self.nodes.difference(&other.nodes).count();
        let bodies = self.bodies.difference(&other.bodies).count();
        (nodes as u64, bodies as u64)
    }
}

/// The checkpoints of a head that cover more than so many transactions.
async fn checkpoints(db: &Db, covered: u64) -> Vec<Checkpoint> {
    let newest = db.0.head.checkpoint.clone();
    let Some(last) = newest.covered.checked_sub(1) else {
        return Vec::new();
    };
    let records = db.commit_records(0, last).await.unwrap();
    let past = records.into_iter().filter_map(|record| record.checkpoint);
    past.chain([newest])
        .filter(|checkpoint| checkpoint.covered > covered)
        .collect()
}

async fn facts(db: &Db, index: Index) -> Vec<Datom> {
    db.collect(index, &Range::all()).await.unwrap()
}

/// Two stores answer alike at every `step`-th basis, and the copy is whole.
async fn alike(from: &Db, to: &Db, step: usize) {
    to.verify().await.unwrap();
    to.verify_packs().await.unwrap();
    assert_eq!(from.head_commit(), to.head_commit());
    assert_eq!(from.database_id(), to.database_id());
    for t in (0..=from.basis_t()).step_by(step).chain([from.basis_t()]) {
        let point = crate::TimePoint::T(t);
        let (ours, theirs) = (
            to.as_of(point).await.unwrap(),
            from.as_of(point).await.unwrap(),
        );
        assert_eq!(
            ours.commit_id().await.unwrap(),
            theirs.commit_id().await.unwrap()
        );
        for index in [Index::Eavt, Index::Aevt, Index::Avet] {
            assert_eq!(
                facts(&ours, index).await,
                facts(&theirs, index).await,
                "t={t}"
            );
        }
        assert_eq!(
            facts(&ours.history(), Index::Log).await,
            facts(&theirs.history(), Index::Log).await,
            "t={t}"
        );
    }
    for datom in facts(to, Index::Log).await {
        assert!(!matches!(&datom.v, Value::Large(large) if large.text().is_none()));
    }
}

async fn opened(store: &Store) -> Db {
    Db::open(store, &main()).await.unwrap()
}

#[tokio::test]
async fn a_new_copy_answers_alike_at_every_basis() {
    let mut source = Source::begin(1).await;
    source.go_on(90, 7).await;
    let to = Simulation::new();
    to.put("heads/readme.txt", b"not ours").await;
    to.put("notes/todo", b"not ours").await;
    to.put("gc/readme", b"not ours").await;
    let report = fetched(&source.store(), &to.store(), 1).await;
    assert_eq!((report.outcome, report.commits), (SyncOutcome::Created, 92));
    assert_eq!(report.commit, Some(source.db().await.head_commit()));
    let reach = Reach::all(&source.db().await).await;
    assert_eq!(
        (report.nodes, report.bodies),
        reach.without(&Reach::default())
    );
    assert!(report.bodies > 5, "{report:?}");
    alike(&source.db().await, &opened(&to.store()).await, 1).await;
    let bytes = to.bytes().await;
    assert_eq!(bytes["notes/todo"], b"not ours"[..]);
    assert_eq!(bytes["heads/readme.txt"], b"not ours"[..]);
    assert_eq!(bytes["gc/readme"], b"not ours"[..]);
}

#[tokio::test]
async fn what_has_not_changed_costs_one_request_at_each_side() {
    let mut source = Source::begin(2).await;
    source.go_on(30, 7).await;
    let (from, to) = (source.store(), Store::memory());
    fetched(&from, &to, 1).await;
    let again = fetched(&from, &to, 2).await;
    assert_eq!(again.outcome, SyncOutcome::UpToDate);
    let one = |r: Requests| (r.gets, r.puts, r.lists, r.deletes) == (1, 0, 0, 0);
    assert!(one(again.from) && one(again.to), "{again:?}");
    assert_eq!((again.commits, again.nodes), (0, 0));

    // So it is where the head has no tail.
    source.connection.checkpoint().await.unwrap();
    source.say("[{:n/id 4 :n/text \"four\"}]").await;
    source.connection.checkpoint().await.unwrap();
    fetched(&from, &to, 4).await;
    let again = fetched(&from, &to, 5).await;
    assert!(one(again.from) && one(again.to), "{again:?}");

    // A tail alone: both heads, and one swap.
    source.say("[{:n/id 5 :n/text \"five\"}]").await;
    let tail = fetched(&from, &to, 3).await;
    assert_eq!(
        (tail.outcome, tail.commits, tail.nodes),
        (SyncOutcome::FastForward, 1, 0)
    );
    assert!(one(tail.from), "{tail:?}");
    assert_eq!((tail.to.gets, tail.to.puts, tail.to.lists), (1, 1, 0));
    alike(&source.db().await, &opened(&to).await, 9).await;
}

#[tokio::test]
async fn a_branch_is_followed_at_one_request_a_tick() {
    let mut source = Source::begin(3).await;
    source.go_on(20, 7).await;
    let (from, to) = (source.store(), Store::memory());
    let (tick, ticks) = futures::channel::mpsc::unbounded();
    let mut reports = follow(&from, &to, SyncOptions::default(), Seeded::new(99), ticks);
    let first = reports.next().await.unwrap().unwrap();
    assert_eq!(first.outcome, SyncOutcome::Created);
    for round in 0..3u64 {
        let before = (from.requests(), to.requests());
        source.go_on(1 + round, 3).await;
        (0..4).for_each(|_| tick.unbounded_send(()).unwrap());
        let report = reports.next().await.unwrap().unwrap();
        assert_eq!(
            (report.outcome, report.commits),
            (SyncOutcome::FastForward, 1 + round)
        );
        // Three ticks are left, and after them nothing comes.
        assert!(futures::poll!(reports.next()).is_pending());
        let spent = from.requests() - before.0;
        assert_eq!(spent.gets, report.from.gets + 3);
        assert_eq!((to.requests() - before.1).gets, report.to.gets);
        alike(&source.db().await, &opened(&to).await, 9).await;
    }
    // An error does not end it.
    let branches = Branches::new_in(&from, Seeded::new(98));
    branches
        .create(&name("dev"), &opened(&from).await)
        .await
        .unwrap();
    branches.delete(&main()).await.unwrap();
    tick.unbounded_send(()).unwrap();
    let error = reports.next().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::BranchDeleted { .. }), "{error}");
    branches.restore(&main()).await.unwrap();
    tick.unbounded_send(()).unwrap();
    assert_eq!(
        reports.next().await.unwrap().unwrap().outcome,
        SyncOutcome::UpToDate
    );
    drop(tick);
    assert!(reports.next().await.is_none());
}

#[tokio::test]
async fn branches_that_have_parted_are_refused_and_the_message_says_what_to_do() {
    let mut source = Source::begin(4).await;
    source.go_on(20, 7).await;
    let (from, to) = (source.store(), Simulation::new());
    fetched(&from, &to.store(), 1).await;
    let copy = Connection::open_in(&to.store(), main(), Seeded::new(44))
        .await
        .unwrap();
    said(&copy, "[{:n/id 1 :n/text \"here\"}]").await;
    // The other way round, it is a fast-forward; so far, the copy is merely ahead.
    assert_eq!(
        fetched(&from, &to.store(), 2).await.outcome,
        SyncOutcome::UpToDate
    );
    source.say("[{:n/id 1 :n/text \"there\"}]").await;
    let before = to.bytes().await;
    for (from, to) in [(&from, &to.store()), (&to.store(), &from)] {
        let error = copied(from, to, &SyncOptions::default(), 3)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, Error::Invalid(what) if what.contains("parted after t=21") && what.contains("merge that")),
            "{error}"
        );
    }
    assert_eq!(to.bytes().await, before);

    // What the message says: another branch and a merge. Then nothing is left to bring.
    let options = SyncOptions::branches(main(), name("theirs"));
    copied(&from, &to.store(), &options, 4).await.unwrap();
    let theirs = Db::open(&to.store(), &name("theirs")).await.unwrap();
    copy.sync().await.unwrap();
    let merged = copy
        .merge(&theirs, &crate::MergeStrategy::Theirs)
        .await
        .unwrap();
    assert_eq!(merged.outcome, crate::MergeOutcome::Merged);
    assert_eq!(
        fetched(&from, &to.store(), 5).await.outcome,
        SyncOutcome::UpToDate
    );
}

#[tokio::test]
async fn another_database_is_refused_by_its_id() {
    let (one, two) = (Source::begin(5).await, Source::begin(6).await);
    let error = copied(&one.store(), &two.store(), &SyncOptions::default(), 1)
        .await
        .unwrap_err();
    for id in [one.db().await.database_id(), two.db().await.database_id()] {
        assert!(error.to_string().contains(&id.to_string()), "{error}");
    }
    let both = SyncOptions::branches(main(), name("one"));
    copied(&one.store(), &two.store(), &both, 2).await.unwrap();
    let copy = Db::open(&two.store(), &name("one")).await.unwrap();
    alike(&one.db().await, &copy, 1).await;

    let error = copied(
        &one.store(),
        &Store::memory(),
        &SyncOptions::branches(name("no"), main()),
        3,
    )
    .await;
    assert!(matches!(error, Err(Error::NoDatabase { .. })));
    let error = copied(
        &one.connection.store().clone(),
        one.connection.store(),
        &both,
        4,
    )
    .await
    .unwrap_err();
    assert!(error.to_string().contains("within a store"), "{error}");
}

#[tokio::test]
async fn a_source_that_can_only_be_read_is_enough_and_a_target_is_told() {
    let mut source = Source::begin(7).await;
    source.go_on(40, 7).await;
    let (served, to) = (source.store().served(), Store::memory());
    let report = fetched(&served, &to, 1).await;
    assert_eq!(
        (report.from.puts, report.from.lists, report.from.deletes),
        (0, 0, 0)
    );
    alike(&source.db().await, &opened(&to).await, 5).await;
    assert_eq!(
        fetched(&to, &served, 2).await.outcome,
        SyncOutcome::UpToDate
    );
    let error = copied(&to, &Store::memory().served(), &SyncOptions::default(), 3)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("can only be read"), "{error}");
}
