//! Marking against a twin that reads everything, and what it costs.

use super::*;
use crate::id::Location;

/// Every place below some roots, found by reading every node.
async fn slowly(loader: &Loader, roots: &[Root]) -> BTreeSet<Location> {
    let mut places = BTreeSet::new();
    let mut open = roots.to_vec();
    while let Some(place) = open.pop() {
        places.insert(place.location);
        for node in loader
            .load_here(&[(place.id, place.location)])
            .await
            .unwrap()
        {
            match &node {
                Node::Inner(_) => open.extend(place.children(&node).unwrap()),
                Node::Leaf(leaf) => {
                    let larges = leaf.larges().into_iter();
                    places.extend(larges.filter_map(|large| large.location));
                }
            }
        }
    }
    places
}

fn roots(head: &Head) -> Vec<Root> {
    roots_of(&head.checkpoint)
        .chain(head.commits.root)
        .collect()
}

async fn marked(store: &Store) -> (Reachable, crate::node::loader::Loads, Head) {
    let branch = BranchName::default();
    let (head, _) = read_head(store, &branch).await.unwrap().unwrap();
    let loader = Loader::new(store.clone());
    let reachable = mark(&loader, roots(&head), Vec::new()).await.unwrap();
    (reachable, loader.loads(), head)
}

#[tokio::test]
async fn marking_finds_what_a_twin_finds_that_reads_everything() {
    let mut work = Work::begin(30).await;
    for seed in 0..3 {
        work.go_on(40, 10).await;
        work.simulation.pass(2 * HOUR);
        work.gc(&newest_only(), seed).await;
        let store = work.simulation.store();
        let (reachable, _, head) = marked(&store).await;
        let slow = slowly(&Loader::new(store.clone()), &roots(&head)).await;
        assert_eq!(reachable.frames(), slow.len() as u64);
        let bytes: u64 = slow.iter().map(|place| u64::from(place.len)).sum();
        assert_eq!(reachable.bytes(), bytes);
        assert!(
            slow.iter()
                .all(|place| reachable.bodies_of(*place).is_some())
        );
    }
}

#[tokio::test]
async fn marking_reads_no_leaf_that_names_no_body() {
    let simulation = Simulation::new();
    let store = simulation.store();
    let environment = world(&simulation, 31);
    let connection = Connection::create_in(&store, BranchName::default(), environment)
        .await
        .unwrap();
    connection
        .transact(&TxData::parse(SCHEMA).unwrap())
        .await
        .unwrap();
    let mut import = crate::Import::new(connection.db().schema());
    let (id, text) = (
        import.attribute("n/id").unwrap(),
        import.attribute("n/text").unwrap(),
    );
    for n in 0..40_000 {
        let text = (text, crate::Value::string(format!("text {n}")));
        import.entity([(id, crate::Value::Long(n)), text]).unwrap();
    }
    connection.import(import).await.unwrap();
    let (reachable, loads, head) = marked(&store).await;
    let inner: u64 = {
        let loader = Arc::new(Loader::new(store.clone()));
        let db = Db::from_head(loader, head).await.unwrap();
        let mut inner = 0;
        for tree in db.0.checkpoint.trees.iter().chain([&db.0.head.commits]) {
            let mut open: Vec<Root> = tree.root.into_iter().collect();
            while let Some(place) = open.pop().filter(|place| place.level > 0) {
                inner += 1;
                let node = db.loader().load(place.id, place.location).await.unwrap();
                let children = place.children(&node).unwrap();
                open.extend(children.into_iter().filter(|child| child.level > 0));
            }
        }
        inner
    };
    assert!(reachable.frames() > 50, "{}", reachable.frames());
    assert_eq!(
        loads.nodes,
        inner,
        "inner nodes alone, of {} frames",
        reachable.frames()
    );

    // One long text: the leaves that name it are read, and no others.
    let data = r#"[{:n/id 7 :n/text "LONG"}]"#.replace("LONG", &"x".repeat(2000));
    connection
        .transact(&TxData::parse(&data).unwrap())
        .await
        .unwrap();
    connection.checkpoint().await.unwrap();
    let (_, loads, _) = marked(&store).await;
    let holders = loads.nodes - inner;
    assert!((3..=8).contains(&holders), "{holders} leaves name the text");
    let texts = Range::prefix(Components::all().a(text));
    let count: usize = connection
        .db()
        .scan(Index::Aevt, texts)
        .try_fold(0, async |sum, slice| Ok(sum + slice.rows.len()))
        .await
        .unwrap();
    assert_eq!(count, 40_000);
}

#[tokio::test]
async fn a_tail_holds_bodies_and_names_no_place() {
    let mut work = Work::begin(32).await;
    let text = "x".repeat(3000);
    work.transact(&format!(r#"[{{:n/id 7 :n/text "{text}"}}]"#))
        .await;
    work.connection.checkpoint().await.unwrap();
    work.transact("[[:db/retract [:n/id 7] :n/text]]").await;
    let store = work.simulation.store();
    let branch = BranchName::default();
    let (head, _) = read_head(&store, &branch).await.unwrap().unwrap();
    assert_eq!(Leaf::from_datoms(&head.log).larges().len(), 1);
    assert_eq!(tail_bodies(&head), []);
}

#[tokio::test]
async fn a_pack_as_young_as_the_run_is_not_condemned() {
    let work = Work::begin(33).await;
    let store = work.simulation.store();
    let stray = async |number: u8| {
        let id = PackId([number; 16]);
        let pack = crate::store::PackWriter::new(id).finish();
        store.put_pack(id, pack).await.unwrap();
    };
    stray(1).await;
    work.simulation.pass(1);
    stray(2).await;
    let run = work.gc(&GcOptions::default(), 1).await;
    assert_eq!((run.packs.count, run.condemned.count), (2, 1));
    work.simulation.pass(HOUR);
    let run = work.gc(&GcOptions::default(), 2).await;
    assert_eq!((run.deleted.count, run.condemned.count), (1, 1));
}
