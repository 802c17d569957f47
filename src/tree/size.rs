//! How many nodes there are, and how many bytes they take; for statistics and yardsticks.

use std::collections::HashSet;

use super::{InnerNode, Root, Tree};
use crate::datom::Datom;
use crate::error::Result;
use crate::node::Loader;

/// Nodes and their bytes in packs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Nodes.
    pub nodes: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

impl Size {
    fn add(&mut self, place: &Root) {
        self.nodes += 1;
        self.bytes += u64::from(place.location.len);
    }
}

/// The size of a tree. Reads its inner nodes, and no leaf.
pub async fn size(loader: &Loader, tree: &Tree) -> Result<Size> {
    let mut size = Size::default();
    let mut open: Vec<Root> = tree.root.into_iter().collect();
    while let Some(place) = open.pop() {
        size.add(&place);
        if place.level > 0 {
            let node = InnerNode::load(loader, &place).await?;
            open.extend((0..node.len()).map(|i| node.place(i)));
        }
    }
    Ok(size)
}

/// The nodes on the paths from the root to the leaves where these keys lie or would lie.
pub async fn paths(loader: &Loader, tree: &Tree, keys: &[&Datom]) -> Result<Size> {
    let mut size = Size::default();
    let mut seen = HashSet::new();
    for key in keys {
        let mut next = tree.root;
        while let Some(place) = next.take() {
            if seen.insert(place.id) {
                size.add(&place);
            }
            if place.level > 0 {
                let node = InnerNode::load(loader, &place).await?;
                // A key behind the last goes to the last leaf.
                let child = node.position(tree.name.order(), key).min(node.len() - 1);
                next = Some(node.place(child));
            }
        }
    }
    Ok(size)
}
