//! Samples by rank: some datoms of a range, from all over it.

use futures::future::try_join_all;

use super::lookup::{count, leaf_at, rank};
use super::{Direction, Scan, Tree};
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
