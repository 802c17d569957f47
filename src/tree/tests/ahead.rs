//! Reading ahead: what it reads, how often it waits, and that it changes no answer.

use super::*;
use crate::store::simulated::Simulation;

/// The slices of a range, read one node at a time.
fn leaf_by_leaf(loader: &Loader, tree: &Tree, range: &Range) -> Vec<LeafSlice> {
    let mut open: Vec<Root> = tree.root.into_iter().collect();
    let mut slices = Vec::new();
    while let Some(place) = open.pop() {
        let node = block_on(loader.load(place.id, place.location)).unwrap();
        let mut children = place.children(&node).unwrap();
        children.reverse();
        open.extend(children);
        if let Node::Leaf(leaf) = &*node {
            let rows = leaf.range(tree.name.index(), range);
            if !rows.is_empty() {
                let leaf = Arc::clone(leaf);
                slices.push(LeafSlice { leaf, rows });
            }
        }
    }
    slices
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn reading_ahead_gives_what_reading_leaf_by_leaf_gives(
        (name, datoms, range) in any_datoms(400).prop_flat_map(|(name, datoms)| {
            (Just(name), Just(datoms), any_range(name))
        }),
    ) {
        let mut nodes = Nodes::new();
        let tree = nodes.build(name, &datoms);
        let plain = |slices: Vec<LeafSlice>| -> Vec<(Vec<i64>, ops::Range<usize>)> {
            slices.into_iter().map(|slice| (slice.leaf.e().to_vec(), slice.rows)).collect()
        };
        let expected = plain(leaf_by_leaf(&nodes.loader, &tree, &range));
        for direction in [Direction::Forward, Direction::Backward] {
            let loader = nodes.cold();
            let slices = scan(&loader, &tree, range.clone(), direction).try_collect();
            let mut found = plain(block_on(slices).unwrap());
            if direction == Direction::Backward {
                found.reverse();
            }
            prop_assert_eq!(&found, &expected);
        }
    }
}

#[test]
fn a_scan_that_is_dropped_early_has_read_little_more_than_it_gave() {
    for name in NAMES {
        for direction in [Direction::Forward, Direction::Backward] {
            let mut nodes = Nodes::new();
            let tree = nodes.build(name, &many(name));
            let loader = nodes.cold();
            let mut scan = Scan::new(&tree, Range::all(), direction);
            let path = u64::from(tree.root.unwrap().level) + 1;
            let mut given = 0;
            while block_on(scan.next(&loader)).unwrap().is_some() {
                given += 1;
                let read = loader.loads().nodes;
                if given == 1 {
                    assert_eq!(read, path, "the first leaf costs one path");
                }
                // A window doubles in datoms, leaves here have from 1 to 20, and every third node is an inner one.
                assert!(read <= path + 8 * given, "{name}: {read} for {given}");
            }
            let frames = block_on(size(&loader, &tree)).unwrap();
            assert_eq!(loader.loads().nodes, frames.nodes, "each node once");
        }
    }
}

#[tokio::test]
async fn a_million_datoms_are_read_in_few_rounds() {
    const ENTITIES: i64 = 200_000;
    let simulation = Simulation::new();
    let loader = Arc::new(Loader::new(simulation.store()));
    let mut writer = writer(&loader, 0);
    let datoms = (0..5 * ENTITIES).map(|i| {
        let (e, a) = (Entid(2000 + i / 5), Entid(1000 + i % 5));
        Datom::add(e, a, Value::Long(i * 7919 % 100_003), TxId::from_t(1))
    });
    let tree = build(&mut writer, TreeName::Eavt, datoms).await.unwrap();
    writer.finish().await.unwrap();
    let height = u64::from(tree.root.unwrap().level) + 1;
    let frames = size(&loader, &tree).await.unwrap();
    for direction in [Direction::Forward, Direction::Backward] {
        let (store, rounds) = simulation.store_in_rounds();
        let loader = Loader::new(store.clone());
        let all = async {
            let mut scan = Scan::new(&tree, Range::all(), direction);
            let (mut datoms, mut leaves) = (0, 0);
            while let Some(slice) = scan.next(&loader).await.unwrap() {
                datoms += slice.rows.len() as u64;
                leaves += 1;
                let read = loader.loads().nodes;
                assert!(read <= height + 3 * leaves, "{read} nodes for {leaves}");
                let held = loader.loads().nodes - leaves;
                assert!(held <= 512, "{held} nodes are held at once");
            }
            datoms
        };
        let (datoms, waited, at_once) = rounds.of(all).await;
        assert_eq!(datoms, tree.count());
        // 30 ms each: half a second.
        assert!(waited <= height + 13, "{waited} rounds");
        assert!(at_once <= 32, "{at_once} requests at once");
        let asked = store.requests();
        assert!(asked.gets <= 30, "{} requests", asked.gets);
        // Leaves between a window and an inner node near it are read again.
        let most = frames.bytes * 5 / 4;
        assert!(asked.bytes_read <= most, "{} of {most}", asked.bytes_read);

        let (store, rounds) = simulation.store_in_rounds();
        let loader = Loader::new(store.clone());
        let mut scan = Scan::new(&tree, Range::all(), direction);
        let (first, waited, _) = rounds.of(scan.next(&loader)).await;
        assert!(first.unwrap().is_some());
        assert_eq!((waited, store.requests().gets), (height, height));
    }
}
