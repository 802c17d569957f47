//! Planted faults of each kind are found, and named.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::TryStreamExt;

use super::super::commit::CommitRecord;
use super::super::head::Head;
use super::super::merge::tree_slices;
use super::diff::people;
use super::{Random, all, cold, database, go_on, transact};
use crate::index::Range;
use crate::node::{Child, Inner, Leaf, Node, NodeWriter, encode};
use crate::schema::attrs;
use crate::tree::{self, Root, Tree};
use crate::{
    Datom, Db, Depth, Entid, Error, FrameKind, Index, Location, PackId, PackWriter, Progress,
    Stage, TreeName, TxId, Value, Verification,
};

async fn verify(db: &Db, depth: Depth) -> Verification {
    db.verify_to(depth, &mut |_| ()).await.unwrap()
}

/// The faults of a database, as they are printed.
async fn faults(db: &Db, depth: Depth) -> Vec<String> {
    let found = verify(db, depth).await.faults;
    found.iter().map(ToString::to_string).collect()
}

/// The value under a head that differs from that of `db`, read anew.
fn spoilt(db: &Db, spoil: impl FnOnce(&mut Head)) -> Db {
    let mut head = Head::clone(&db.0.head);
    spoil(&mut head);
    let loader = Arc::new(crate::node::Loader::new(db.store().clone()));
    Db::from_parts(loader, Arc::new(head), Arc::clone(&db.0.checkpoint_schema))
}

fn with_tree(db: &Db, tree: Tree) -> Db {
    spoilt(db, |head| head.checkpoint.trees[tree.name as usize] = tree)
}

/// A writer whose packs have names of their own.
fn writer(db: &Db) -> NodeWriter {
    static PACKS: AtomicU64 = AtomicU64::new(0);
    let new_pack = || {
        let next = PACKS.fetch_add(1, Ordering::Relaxed);
        PackId(u128::from(next).to_le_bytes())
    };
    NodeWriter::new(Arc::clone(db.loader()), Box::new(new_pack))
}

async fn build(db: &Db, name: TreeName, datoms: Vec<Datom>) -> Tree {
    let mut writer = writer(db);
    let tree = Box::pin(tree::build(&mut writer, name, datoms))
        .await
        .unwrap();
    writer.finish().await.unwrap();
    tree
}

/// The datoms of one of the trees.
async fn stored(db: &Db, name: TreeName) -> Vec<Datom> {
    let mut slices = tree_slices(db, db.0.head.checkpoint.tree(name), Range::all());
    let mut datoms = Vec::new();
    while let Some(slice) = slices.try_next().await.unwrap() {
        datoms.extend(slice.rows.map(|row| slice.leaf.datom(row)));
    }
    datoms
}

#[tokio::test]
async fn sound_databases_have_no_faults_and_progress_ends() {
    for seed in 0..6 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let connection = database(seed).await;
        for t in [20, 40, 60, 80] {
            go_on(&connection, &mut random, t, 9).await;
            for change in [
                "[[:db/add :p/age :db/index false]]",
                "[[:db/add :p/note :db/index true]]",
                "[[:db/add :p/tags :db/noHistory true]]",
                "[[:db/add :p/note :db/ident :q/note]]",
            ] {
                if random.below(4) == 0 && connection.db().basis_t() < 75 {
                    let data = crate::TxData::parse(change).unwrap();
                    let _ = connection.transact(&data).await;
                }
            }
            if connection
                .db()
                .schema()
                .entid(&crate::edn::Keyword::new("q/note"))
                .is_some()
            {
                transact(&connection, "[[:db/add :q/note :db/ident :p/note]]").await;
            }
        }
        let db = cold(connection.store()).await;
        for depth in [Depth::Plain, Depth::Deep] {
            let mut told: Vec<Progress> = Vec::new();
            let found = db
                .verify_to(depth, &mut |now| told.push(now))
                .await
                .unwrap();
            assert_eq!(found.faults, []);
            assert_eq!(found.commits, db.basis_t() + 1);
            assert_eq!(found.trees, db.tree_sizes().await.unwrap());
            assert_eq!(found.frames > 0, depth == Depth::Deep);
            assert!(told.is_sorted_by_key(|now| (now.stage, now.done)));
            let stages = match depth {
                Depth::Plain => &[Stage::Trees, Stage::Commits][..],
                Depth::Deep => &[
                    Stage::Trees,
                    Stage::Commits,
                    Stage::Log,
                    Stage::Rebuild,
                    Stage::Past,
                    Stage::Packs,
                ],
            };
            for stage in stages {
                let last = told.iter().rfind(|now| now.stage == *stage).unwrap();
                assert_eq!(last.done, last.total, "{stage}");
            }
        }
        db.verify().await.unwrap();
    }
}

#[tokio::test]
async fn a_plain_verification_names_what_is_wrong_with_the_nodes_of_each_tree() {
    let connection = people(3000).await;
    let db = connection.db();
    for name in [
        TreeName::Eavt,
        TreeName::Aevt,
        TreeName::Avet,
        TreeName::Log,
    ] {
        let root = db.0.head.checkpoint.tree(name).root.unwrap();
        let node = db.loader().load(root.id, root.location).await.unwrap();
        let Node::Inner(inner) = &*node else {
            panic!("{name} has one leaf only")
        };
        assert!(root.level == 1 && inner.len() >= 3, "{name}");
        let children: Vec<Child> = (0..inner.len()).map(|at| inner.child(at)).collect();
        let planted = async |children: Vec<Child>| {
            let inner = Inner::try_new(name.order(), 1, children).unwrap();
            let count = inner.count();
            let mut writer = writer(&db);
            let (id, location) = writer.write(Node::Inner(inner)).await.unwrap();
            writer.finish().await.unwrap();
            let root = Some(Root {
                id,
                location,
                level: 1,
                count,
            });
            let found = faults(&with_tree(&db, Tree { name, root }), Depth::Plain).await;
            let start = format!("{name} tree: ");
            let found = found.iter().find_map(|fault| fault.strip_prefix(&start));
            found.expect("the tree is at fault").to_owned()
        };

        let mut spoilt = children.clone();
        spoilt[1].count += 1;
        let found = planted(spoilt).await;
        assert!(
            found.starts_with("the node has not the count its parent says"),
            "{found}"
        );

        let mut spoilt = children.clone();
        spoilt[1].last.e.0 += 1;
        spoilt[1].last.tx.0.0 += 1;
        let found = planted(spoilt).await;
        assert!(
            found.starts_with("the key of a child is not the last key below it"),
            "{found}"
        );

        let mut spoilt = children.clone();
        spoilt.swap(0, 1);
        let found = planted(spoilt).await;
        assert!(
            found.starts_with("datoms do not ascend") || found.contains("ended before this key"),
            "{found}"
        );

        // A leaf with two rows exchanged.
        let leaf = db
            .loader()
            .load(children[1].id, children[1].location)
            .await
            .unwrap();
        let Node::Leaf(leaf) = &*leaf else { panic!() };
        let mut rows: Vec<Datom> = (0..leaf.len()).map(|row| leaf.datom(row)).collect();
        rows.swap(3, 4);
        let key = rows[4].clone();
        let mut writer = writer(&db);
        let leaf = Node::from(Leaf::from_datoms(&rows));
        let (id, location) = writer.write(leaf).await.unwrap();
        writer.finish().await.unwrap();
        let mut spoilt = children;
        (spoilt[1].id, spoilt[1].location) = (id, location);
        let found = planted(spoilt).await;
        assert!(found.starts_with("datoms do not ascend"), "{found}");
        assert!(found.contains(&format!("at {key}")), "{found} at {key}");
    }
}

#[tokio::test]
async fn a_missing_pack_is_named_and_the_other_trees_are_read_all_the_same() {
    let connection = people(300).await;
    let nowhere = PackId(*b"there is no pack");
    let db = spoilt(&connection.db(), |head| {
        let root = &mut head.checkpoint.trees[TreeName::Aevt as usize].root;
        root.as_mut().unwrap().location.pack = nowhere;
    });
    let found = verify(&db, Depth::Plain).await;
    let fault = &found.faults[0];
    assert_eq!(fault.object, "aevt tree");
    assert!(fault.reason.contains("missing"), "{fault}");
    let nodes = |name| {
        found
            .trees
            .iter()
            .find(|tree| tree.name == name)
            .unwrap()
            .nodes
    };
    assert_eq!(nodes(TreeName::Aevt), 0);
    assert!(nodes(TreeName::Avet) > 0 && nodes(TreeName::Log) > 0);
    assert!(matches!(db.verify().await, Err(Error::Corrupt { .. })));
}

#[tokio::test]
async fn an_older_checkpoint_that_cannot_be_read_is_named() {
    let connection = database(8).await;
    for t in [10, 20, 30] {
        go_on(&connection, &mut Random(t), t, 1 << 40).await;
        connection.checkpoint().await.unwrap();
    }
    let db = connection.db();
    let mut records = records(&db).await;
    let checkpoint = records[20].checkpoint.as_mut().unwrap();
    let root = &mut checkpoint.trees[TreeName::HistoryAevt as usize].root;
    root.as_mut().unwrap().location.pack = PackId(*b"there is no pack");
    let db = with_records(&db, &records).await;
    assert_eq!(faults(&db, Depth::Plain).await, [""; 0]);
    let found = faults(&db, Depth::Deep).await;
    assert!(
        found.len() == 1
            && found[0].starts_with("checkpoint t=20: ")
            && found[0].contains("missing"),
        "{found:?}"
    );
}

#[tokio::test]
async fn each_tree_that_says_more_or_less_than_the_log_is_named_with_the_datom() {
    let connection = database(4).await;
    go_on(&connection, &mut Random(4), 60, 10).await;
    connection.checkpoint().await.unwrap();
    transact(&connection, "[{:p/name \"in the tail\"}]").await;
    let db = connection.db();
    for name in TreeName::DATA
        .into_iter()
        .filter(|name| *name != TreeName::Log)
    {
        let datoms = stored(&db, name).await;
        let at = datoms.len() / 2;
        let named = async |datoms: Vec<Datom>, reason: String| {
            let db = with_tree(&db, build(&db, name, datoms).await);
            let plain = faults(&db, Depth::Plain).await;
            assert!(
                plain.iter().all(|fault| fault.starts_with("commit t=")),
                "{plain:?}"
            );
            let deep = faults(&db, Depth::Deep).await;
            assert!(
                deep.contains(&format!("{name} tree: {reason}")),
                "{deep:?}, not {reason}"
            );
        };
        let mut less = datoms.clone();
        let gone = less.remove(at);
        named(less, format!("it lacks {gone}, which the log says")).await;

        let mut more = datoms.clone();
        let mut new = more[at].clone();
        new.e.0 += 1_000_000;
        more.push(new.clone());
        more.sort_by(|left, right| name.order().compare(left, right));
        named(more, format!("it holds {new}, which the log does not say")).await;

        if !name.order().keys_tx {
            let mut other = datoms.clone();
            let said = other[at].clone();
            other[at].tx = TxId::from_t(said.tx.t() + 1);
            let reason = format!("it holds {} where the log says {said}", other[at]);
            named(other, reason).await;
        }
    }
}

/// The records of all commits in the trees.
async fn records(db: &Db) -> Vec<CommitRecord> {
    db.commit_records(0, db.0.head.checkpoint.covered - 1)
        .await
        .unwrap()
}

/// A value with these records in the place of its own.
async fn with_records(db: &Db, records: &[CommitRecord]) -> Db {
    let datoms = records.iter().map(CommitRecord::to_datom).collect();
    let commits = build(db, TreeName::Commits, datoms).await;
    spoilt(db, |head| head.commits = commits)
}

/// A value whose log says something else, all ids forged to follow.
async fn forged(db: &Db, log: &[Datom], change: impl Fn(&mut CommitRecord)) -> Db {
    let mut records = records(db).await;
    let mut parent = crate::CommitHash([0; 32]);
    for record in &mut records {
        change(record);
        let t = record.pending.t;
        let said: Vec<Datom> = log
            .iter()
            .filter(|datom| datom.tx.t() == t)
            .cloned()
            .collect();
        record.digest = record.pending.digest(&said);
        record.hash = record.pending.hash(parent, &record.digest);
        parent = record.hash;
    }
    let tree = build(db, TreeName::Log, log.to_vec()).await;
    let db = with_records(db, &records).await;
    spoilt(&db, |head| {
        head.checkpoint.trees[TreeName::Log as usize] = tree;
        head.checkpoint_commit = parent;
        for pending in &head.pending {
            parent = pending.hash(parent, &pending.digest(head.log_of(pending.t)));
        }
        head.commit.hash = parent;
    })
}

#[tokio::test]
async fn commits_that_do_not_follow_are_named() {
    let connection = database(5).await;
    go_on(&connection, &mut Random(5), 30, 8).await;
    connection.checkpoint().await.unwrap();
    transact(&connection, "[{:p/name \"in the tail\"}]").await;
    let db = connection.db();
    let log = stored(&db, TreeName::Log).await;
    let whole = records(&db).await;
    assert_eq!(
        faults(&with_records(&db, &whole).await, Depth::Deep).await,
        [""; 0]
    );

    let unfollowed = "commit t=7: its id does not follow from its parent, instant and data";
    let mut spoilt_records = whole.clone();
    spoilt_records[7].pending.instant += 1;
    let found = faults(&with_records(&db, &spoilt_records).await, Depth::Plain).await;
    assert_eq!(found, [unfollowed]);

    let mut spoilt_records = whole.clone();
    spoilt_records[7].digest[0] ^= 1;
    let found = faults(&with_records(&db, &spoilt_records).await, Depth::Plain).await;
    assert_eq!(found, [unfollowed]);

    let mut spoilt_records = whole.clone();
    spoilt_records.remove(9);
    let found = faults(&with_records(&db, &spoilt_records).await, Depth::Plain).await;
    assert_eq!(found, ["commit t=9: its record is missing"]);

    let found = faults(
        &spoilt(&db, |head| head.commit.hash.0[0] ^= 1),
        Depth::Plain,
    )
    .await;
    assert_eq!(found, ["commits: they do not lead to the head"]);
    let found = faults(
        &spoilt(&db, |head| head.pending[0].instant += 1),
        Depth::Plain,
    )
    .await;
    assert_eq!(found, ["commits: they do not lead to the head"]);

    // Ids that follow from a false instant.
    let late = |record: &mut CommitRecord| {
        record.pending.instant += i64::from(record.pending.t == 7);
    };
    let found = faults(&forged(&db, &log, late).await, Depth::Deep).await;
    assert!(
        found.contains(&"commit t=7: its instant is not the one that the log says".to_owned()),
        "{found:?}"
    );
    let past = |record: &mut CommitRecord| {
        record.pending.instant -= i64::from(record.pending.t == 7) << 40;
    };
    let found = faults(&forged(&db, &log, past).await, Depth::Plain).await;
    assert!(
        found.contains(&"commit t=7: its instant lies before its parent's".to_owned()),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_log_that_cannot_have_been_said_is_named() {
    let connection = database(6).await;
    go_on(&connection, &mut Random(6), 30, 8).await;
    connection.checkpoint().await.unwrap();
    let db = connection.db();
    let log = stored(&db, TreeName::Log).await;
    let with = |datom: Datom| {
        let mut log = log.clone();
        log.push(datom);
        log.sort_by(|left, right| TreeName::Log.order().compare(left, right));
        log
    };
    let e = Entid(2000);
    let age = db
        .schema()
        .entid(&crate::edn::Keyword::new("p/age"))
        .unwrap();
    let never = Datom::retract(e, age, Value::Long(77), TxId::from_t(12));

    // Behind the backs of the commits.
    let tree = build(&db, TreeName::Log, with(never.clone())).await;
    let found = faults(&with_tree(&db, tree), Depth::Deep).await;
    let expected = "commit t=12: what the log says of it is not what was committed: its data has \
                    another digest";
    assert!(found.contains(&expected.to_owned()), "{found:?}");
    // With ids that follow.
    let found = faults(
        &forged(&db, &with(never.clone()), |_| ()).await,
        Depth::Deep,
    )
    .await;
    let expected = format!("log tree: {never} cannot have been said: it did not hold");
    assert!(found.contains(&expected), "{found:?}");

    let instant = log
        .iter()
        .find(|datom| datom.a == attrs::TX_INSTANT && datom.tx.t() == 3);
    let mut twice = instant.unwrap().clone();
    twice.tx = TxId::from_t(12);
    let found = faults(
        &forged(&db, &with(twice.clone()), |_| ()).await,
        Depth::Deep,
    )
    .await;
    let expected = format!("log tree: {twice} cannot have been said: it held already");
    assert!(found.contains(&expected), "{found:?}");

    // A fact that the log says and no other tree holds.
    let fact = Datom::add(e, age, Value::Long(77), TxId::from_t(12));
    let found = faults(&forged(&db, &with(fact.clone()), |_| ()).await, Depth::Deep).await;
    for name in [TreeName::Eavt, TreeName::Aevt, TreeName::Avet] {
        let expected = format!("{name} tree: it lacks {fact}, which the log says");
        assert!(found.contains(&expected), "{found:?}");
    }
    assert!(
        found
            .iter()
            .any(|fault| fault.starts_with("table p: it is said to have")),
        "{found:?}"
    );
}

#[tokio::test]
async fn schema_and_tables_that_the_log_does_not_give_are_named() {
    let connection = people(10).await;
    let db = connection.db();
    let found = faults(
        &spoilt(&db, |head| head.checkpoint.tables[0].1 += 1),
        Depth::Deep,
    )
    .await;
    assert!(
        found.contains(&"table p: it is said to have 11 entities, by the log it has 10".to_owned()),
        "{found:?}"
    );
    let found = faults(
        &spoilt(&db, |head| head.checkpoint.tables.clear()),
        Depth::Deep,
    )
    .await;
    assert!(
        found.contains(&"table p: it is said to have 0 entities, by the log it has 10".to_owned()),
        "{found:?}"
    );
    let found = faults(
        &spoilt(&db, |head| head.schema = Some(crate::Schema::bootstrap())),
        Depth::Deep,
    )
    .await;
    assert_eq!(found, ["schema: it is not the one that the log describes"]);
}

#[tokio::test]
async fn a_frame_that_nothing_refers_to_is_checked_with_its_pack() {
    let connection = people(10).await;
    let db = connection.db();
    let root = db.0.head.checkpoint.tree(TreeName::Eavt).root.unwrap();
    let leaf = db.loader().load(root.id, root.location).await.unwrap();
    let frame = encode(&leaf).frame;
    let mut pack = PackWriter::new(PackId([7; 16]));
    let location: Location = pack.append(FrameKind::Leaf, 0, root.id, &frame);
    let mut wrong = root.id;
    wrong.0[0] ^= 1;
    pack.append(FrameKind::Leaf, 0, wrong, &frame);
    db.store()
        .put_pack(PackId([7; 16]), pack.finish())
        .await
        .unwrap();
    let db = with_tree(
        &db,
        Tree {
            name: TreeName::Eavt,
            root: Some(Root { location, ..root }),
        },
    );
    assert!(
        faults(&db, Depth::Plain)
            .await
            .iter()
            .all(|fault| fault.starts_with("commit t="))
    );
    let found = faults(&db, Depth::Deep).await;
    let start = format!("frame {wrong} in pack {}", PackId([7; 16]));
    assert!(
        found.iter().any(|fault| fault.starts_with(&start)),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_tail_that_contradicts_the_trees_is_named() {
    let connection = people(10).await;
    let held = all(&connection.db(), Index::Eavt).await.pop().unwrap();
    transact(&connection, "[{:p/name \"in the tail\"}]").await;
    let db = spoilt(&connection.db(), |head| {
        let again = Datom {
            tx: head.log[0].tx,
            ..held.clone()
        };
        head.log.push(again);
        head.log
            .sort_by(|left, right| TreeName::Log.order().compare(left, right));
        let pending = &head.pending[0];
        head.commit.hash = pending.hash(head.checkpoint_commit, &pending.digest(&head.log));
    });
    let found = faults(&db, Depth::Deep).await;
    assert!(
        found.len() == 1 && found[0].ends_with("it held already"),
        "{found:?}"
    );
}

/// Each node was a request of its own.
#[tokio::test]
async fn a_verification_reads_neighbours_together() {
    let connection = people(20_000).await;
    let db = cold(connection.store()).await;
    let before = db.store().requests();
    let found = db.verify_to(Depth::Plain, &mut |_| ()).await.unwrap();
    let nodes = found.sound().unwrap().nodes();
    let gets = (db.store().requests() - before).gets;
    println!("{gets} requests for {nodes} nodes");
    assert!(gets * 3 < nodes, "{gets} requests for {nodes} nodes");
}

/// Every leaf says for itself where the bodies of its large values lie. Only those of the log were followed, so
/// that a basis could not be read although its database had been proven whole.
#[tokio::test]
async fn a_body_that_does_not_lie_where_a_leaf_of_any_tree_says_is_named() {
    let connection = database(12).await;
    // Two entities lose values of two attributes, so that no two trees have a leaf in common.
    for number in 0..2 {
        let note = |name: &str| format!("{{:p/name \"{name}\" :p/note \"{name}{number:0>3000}\"}}");
        transact(&connection, &format!("[{}{}]", note("ada"), note("bob"))).await;
    }
    let rename = |name: &str| format!("[:db/add [:p/name \"{name}\"] :p/name \"{name}2\"]");
    transact(
        &connection,
        &format!("[{}{}]", rename("ada"), rename("bob")),
    )
    .await;
    connection.checkpoint().await.unwrap();
    let db = cold(connection.store()).await;
    assert_eq!(faults(&db, Depth::Deep).await, [""; 0]);
    for name in [
        TreeName::Eavt,
        TreeName::Aevt,
        TreeName::HistoryEavt,
        TreeName::HistoryAevt,
        TreeName::Log,
    ] {
        let root = db.0.head.checkpoint.tree(name).root.unwrap();
        let node = db.loader().load(root.id, root.location).await.unwrap();
        let Node::Leaf(leaf) = &*node else {
            panic!("{name} has many leaves")
        };
        assert!(!leaf.larges().is_empty(), "{name}");
        for elsewhere in [None, Some(root.location)] {
            let mut writer = writer(&db);
            let place = |large: &crate::value::Large| elsewhere.or(large.location);
            let (id, location) = writer.copy(leaf, db.loader(), place).await.unwrap();
            writer.finish().await.unwrap();
            assert_eq!(id, root.id);
            let root = Some(Root { location, ..root });
            let moved = with_tree(&db, Tree { name, root });
            let found = faults(&moved, Depth::Deep).await;
            let start = format!("{name} tree: the body of value ");
            let named = found.iter().any(|fault| fault.starts_with(&start));
            assert_eq!(named, elsewhere.is_some(), "{name}: {found:?}");
        }
    }
}
