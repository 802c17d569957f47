//! Trees that are not what they say.

use super::*;

/// A tree of one inner node over these leaves, right or wrong.
fn by_hand(nodes: &mut Nodes, leaves: &[&[Datom]], spoil: impl Fn(usize, &mut Child)) -> Tree {
    let name = TreeName::Avet;
    let mut children = Vec::new();
    for (i, datoms) in leaves.iter().enumerate() {
        let leaf = Node::from(Leaf::from_datoms(*datoms));
        let (id, location) = block_on(nodes.writer.write(leaf)).unwrap();
        let last = datoms.last().unwrap().clone();
        let mut child = Child {
            last,
            id,
            count: datoms.len() as u64,
            location,
        };
        spoil(i, &mut child);
        children.push(child);
    }
    let inner = Inner::try_new(name.order(), 1, children).unwrap();
    let count = inner.count();
    let (id, location) = block_on(nodes.writer.write(Node::Inner(inner))).unwrap();
    nodes.settle();
    Tree {
        name,
        root: Some(Root {
            id,
            location,
            level: 1,
            count,
        }),
    }
}

#[test]
fn planted_damage_is_found() {
    let name = TreeName::Avet;
    let mut nodes = Nodes::new();
    let all = many(name);
    // As many datoms as make exactly one inner node of at least three leaves.
    let mut len = 20;
    let (datoms, tree) = loop {
        let tree = nodes.build(name, &all[..len]);
        if tree.root.unwrap().level == 1 && block_on(leaves(&nodes.loader, &tree)).len() >= 3 {
            break (&all[..len], tree);
        }
        len += 1;
    };
    let lens = block_on(leaves(&nodes.loader, &tree));
    let (a, b) = (lens[0], lens[0] + lens[1]);
    let (head, next, third) = (&datoms[..a], &datoms[a..b], &datoms[b..b + lens[2]]);
    let rest = &datoms[b + lens[2]..];
    let whole: Vec<&[Datom]> = [head, next, third, rest]
        .into_iter()
        .filter(|leaf| !leaf.is_empty())
        .collect();

    let sound = by_hand(&mut nodes, &whole[..3], |_, _| ());
    assert_eq!(nodes.verify(&sound).fault, None);

    let mut found = |leaves: &[&[Datom]], spoil: fn(usize, &mut Child)| {
        let tree = by_hand(&mut nodes, leaves, spoil);
        let fault = nodes.verify(&tree).fault.expect("the damage is found");
        (fault.reason, fault.key)
    };
    let late = found(&[&datoms[..b], third], |_, _| ());
    assert_eq!(
        late,
        (
            "a node should have ended before this key".into(),
            Some(datoms[a].clone())
        )
    );
    let early = found(&[&head[..1], &head[1..], next, third], |_, _| ());
    assert_eq!(
        early,
        (
            "a node ended too early before this key".into(),
            Some(datoms[1].clone())
        )
    );
    let swapped = found(&[next, head, third], |_, _| ());
    assert_eq!(
        swapped,
        ("datoms do not ascend".into(), Some(datoms[0].clone()))
    );
    let twice = found(&[head, head, next], |_, _| ());
    assert_eq!(twice.0, "datoms do not ascend");
    let miscounted = found(&[head, next], |i, child| child.count += i as u64);
    assert_eq!(miscounted.0, "the node has not the count its parent says");
    let misnamed = found(&[head, next], |_, child| child.last.e.0 += 1);
    assert_eq!(
        misnamed.0,
        "the key of a child is not the last key below it"
    );
    let tall = found(&[head], |_, _| ());
    assert_eq!(tall.0, "the root is not the lowest level with one node");

    let root = tree.root.unwrap();
    for wrong in [
        Root { level: 0, ..root },
        Root { level: 2, ..root },
        Root { level: 200, ..root },
        Root { count: 1, ..root },
    ] {
        let tree = Tree {
            name,
            root: Some(wrong),
        };
        assert!(nodes.verify(&tree).fault.is_some());
        let everything = scan(&nodes.loader, &tree, Range::all(), Direction::Forward);
        assert!(block_on(everything.try_collect::<Vec<_>>()).is_err());
    }
}

/// Two leaves have changed places behind their keys: by count a rank lies in one, by key the range in another.
#[test]
fn a_sample_of_keys_that_lie_is_an_error() {
    let mut nodes = Nodes::new();
    let datoms = many(TreeName::Avet);
    let leaves = [&datoms[..40], &datoms[80..120], &datoms[40..80]];
    let spoilt = by_hand(&mut nodes, &leaves, |at, child| {
        child.last = datoms[40 * at + 39].clone();
    });
    let edge = |datom: &Datom| {
        let at = leading(TreeName::Avet.index(), datom, 3);
        Some(Edge {
            at,
            inclusive: true,
        })
    };
    let range = Range {
        from: edge(&datoms[45]),
        to: edge(&datoms[100]),
    };
    let sampled = block_on(sample(&nodes.loader, &spoilt, &range, 8, 1));
    assert!(matches!(sampled, Err(Error::Corrupt { .. })), "{sampled:?}");
}

/// A node that has itself for a child cannot be written, for its identity is a hash of that. One can be whose child is
/// said to be another inner node, or to lie where one lies: whatever follows it ends at the first.
#[test]
fn a_cycle_ends() {
    let mut nodes = Nodes::new();
    let datoms = many(TreeName::Avet);
    let root = by_hand(&mut nodes, &[&datoms[..3], &datoms[3..6]], |_, _| ());
    let root = root.root.unwrap();
    let leaves: [&[Datom]; 2] = [&datoms[..6], &datoms[6..9]];
    let named = by_hand(&mut nodes, &leaves, |at, child| {
        if at == 0 {
            (child.id, child.location) = (root.id, root.location);
        }
    });
    let placed = by_hand(&mut nodes, &leaves, |at, child| {
        if at == 0 {
            child.location = root.location;
        }
    });
    for tree in [named, placed] {
        let loader = nodes.cold();
        let all = scan(&loader, &tree, Range::all(), Direction::Forward);
        let failed = [
            block_on(all.try_collect::<Vec<_>>()).is_err(),
            block_on(get(&loader, &tree, &datoms[1])).is_err(),
            block_on(leaf_at(&loader, &tree, 1)).is_err(),
            block_on(sample(&loader, &tree, &Range::all(), 2, 1)).is_err(),
            !matches!(
                block_on(verify(&loader, &tree)),
                Ok(Report { fault: None, .. })
            ),
        ];
        assert_eq!(failed, [true; 5]);
    }
}
