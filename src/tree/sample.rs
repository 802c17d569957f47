//! Samples by rank: some datoms of a range, from all over it.

use std::sync::Arc;

use futures::future::try_join_all;

use super::lookup::{count, rank};
use super::{Direction, InnerNode, Scan, Tree, load_leaf};
use crate::error::{Error, Result};
use crate::index::Range;
use crate::node::{Leaf, LeafBuilder, Loader};

/// Takes `places` runs of `rows` neighbours from evenly spaced ranks of a range; the whole range if it has no
/// more than so many datoms.
///
/// Reads at most one path for each place, all at once, and the two paths of the range's ends before. A run is cut
/// off at the end of its leaf. Equal trees give equal samples.
///
/// # Errors
///
/// [`Error::Corrupt`](crate::error::Error::Corrupt), [`Error::Store`](crate::error::Error::Store).
pub async fn sample(
    loader: &Loader,
    tree: &Tree,
    range: &Range,
    places: u64,
    rows: usize,
) -> Result<Leaf> {
    let all = count(loader, tree, range).await?;
    let mut taken = LeafBuilder::with_capacity(0);
    if all <= places * rows as u64 {
        let mut scan = Scan::new(tree, range.clone(), Direction::Forward);
        while let Some(slice) = scan.next(loader).await? {
            taken.push_run(&slice.leaf, slice.rows);
        }
        return Ok(taken.finish());
    }
    let first = match &range.from {
        Some(from) => rank(loader, tree, from).await?,
        None => 0,
    };
    // The middle of each of `places` equal parts, which are longer than a run: runs do not meet.
    let middle =
        |place: u64| u128::from(all) * (2 * u128::from(place) + 1) / (2 * u128::from(places));
    let middles = (0..places).map(|place| first + u64::try_from(middle(place)).unwrap_or(all - 1));
    let found = try_join_all(middles.map(|rank| leaf_at(loader, tree, rank))).await?;
    for (leaf, at) in found.into_iter().flatten() {
        let within = leaf.range(tree.name.order().index, range);
        if !within.contains(&at) {
            return Err(Error::corrupt(
                format!("{} tree", tree.name),
                "a key of an inner node is not the last key below it",
            ));
        }
        taken.push_run(&leaf, at..(at + rows).min(within.end));
    }
    Ok(taken.finish())
}

/// The leaf that has the datom with `rank` datoms before it, and which of its rows that is; `None` if there are no so
/// many. Reads one path.
pub(super) async fn leaf_at(
    loader: &Loader,
    tree: &Tree,
    rank: u64,
) -> Result<Option<(Arc<Leaf>, usize)>> {
    let Some(mut place) = tree.root.filter(|root| rank < root.count) else {
        return Ok(None);
    };
    let mut rank = rank;
    while place.level > 0 {
        let node = InnerNode::load(loader, &place).await?;
        let mut at = 0;
        while rank >= node.counts()[at] {
            rank -= node.counts()[at];
            // INVARIANT: `rank` is below the node's count, which is the sum of these.
            at += 1;
        }
        place = node.place(at);
    }
    let leaf = load_leaf(loader, &place).await?;
    let at = usize::try_from(rank).ok().filter(|at| *at < leaf.len());
    Ok(at.map(|at| (leaf, at)))
}
