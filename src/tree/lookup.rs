//! Look-ups that read one path: exact counts, ranks, single datoms, and where to split a range.
//!
//! Inner nodes know how many datoms lie below each child, so the count of a range is the difference of two
//! ranks, and a rank needs the path to one datom and nothing beside it. Planners ask for many counts.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::scan::{Direction, Scan};
use super::{InnerNode, Root, Tree, load_leaf};
use crate::datom::Datom;
use crate::error::Result;
use crate::index::{Components, Edge, Index, Range, TreeOrder};
use crate::node::{Leaf, Loader, partition_point};

/// Counts the datoms of a range, exactly.
///
/// Reads at most two paths of *height + 1* nodes, both at once, and no leaf for an edge that is open or is known to fall
/// between two leaves.
///
/// # Errors
///
/// [`Error::Corrupt`](crate::error::Error::Corrupt), [`Error::Store`](crate::error::Error::Store).
pub async fn count(loader: &Loader, tree: &Tree, range: &Range) -> Result<u64> {
    let before = async {
        match &range.from {
            Some(from) => rank_of(loader, tree, from, Side::From).await,
            None => Ok(0),
        }
    };
    let until = async {
        match &range.to {
            Some(to) => rank_of(loader, tree, to, Side::To).await,
            None => Ok(tree.count()),
        }
    };
    let (before, until) = futures::try_join!(before, until)?;
    Ok(until.saturating_sub(before))
}

/// Counts the datoms that lie before `edge` taken as the start of a range.
///
/// # Errors
///
/// Those of [`count`].
pub async fn rank(loader: &Loader, tree: &Tree, edge: &Edge) -> Result<u64> {
    rank_of(loader, tree, edge, Side::From).await
}

/// Returns the datom with the same key as `key`, with its stored `tx`. Reads one path.
///
/// # Errors
///
/// Those of [`count`].
pub async fn get(loader: &Loader, tree: &Tree, key: &Datom) -> Result<Option<Datom>> {
    let order = tree.name.order();
    let Some(mut place) = tree.root else {
        return Ok(None);
    };
    while place.level > 0 {
        let node = InnerNode::load(loader, &place).await?;
        let at = node.position(order, key);
        if at == node.len() {
            return Ok(None);
        }
        place = node.place(at);
    }
    let leaf = load_leaf(loader, &place).await?;
    let at = leaf.lower_bound(order, key);
    Ok((at < leaf.len() && leaf.compare(at, order, key).is_eq()).then(|| leaf.datom(at)))
}

/// Finds the nodes of a level that hold these keys, or would; `None` for a key behind everything, and where
/// the tree has no such level.
///
/// Reads the nodes above them, each once, those of a level together.
///
/// # Errors
///
/// Those of [`count`].
pub async fn covering(
    loader: &Loader,
    tree: &Tree,
    level: u8,
    keys: &[Datom],
) -> Result<Vec<Option<Root>>> {
    let order = tree.name.order();
    let root = tree.root.filter(|root| root.level >= level);
    let mut places = vec![root; keys.len()];
    for above in (level + 1..=root.map_or(level, |root| root.level)).rev() {
        let mut wanted: Vec<Root> = places.iter().copied().flatten().collect();
        wanted.sort_unstable_by_key(|place| place.id);
        wanted.dedup_by_key(|place| place.id);
        let ids: Vec<_> = wanted
            .iter()
            .map(|place| (place.id, place.location))
            .collect();
        let nodes = loader.load_many(&ids).await?;
        let nodes: HashMap<_, _> = nodes
            .into_iter()
            .zip(&wanted)
            .map(|(node, place)| Ok((place.id, InnerNode::try_new(node, place)?)))
            .collect::<Result<_>>()?;
        debug_assert!(wanted.iter().all(|place| place.level == above));
        for (place, key) in places.iter_mut().zip(keys) {
            *place = place.and_then(|at| {
                let node = &nodes[&at.id];
                let at = node.position(order, key);
                (at < node.len()).then(|| node.place(at))
            });
        }
    }
    Ok(places)
}

/// Returns the first datom of a range. Reads one path, and a neighbour if the range begins behind it.
///
/// # Errors
///
/// Those of [`count`].
pub async fn first(loader: &Loader, tree: &Tree, range: &Range) -> Result<Option<Datom>> {
    let slice = Scan::new(tree, range.clone(), Direction::Forward)
        .next(loader)
        .await?;
    Ok(slice.map(|slice| slice.leaf.datom(slice.rows.start)))
}

/// Returns the last datom of a range. Reads one path, and a neighbour if the range ends before it.
///
/// # Errors
///
/// Those of [`count`].
pub async fn last(loader: &Loader, tree: &Tree, range: &Range) -> Result<Option<Datom>> {
    let slice = Scan::new(tree, range.clone(), Direction::Backward)
        .next(loader)
        .await?;
    Ok(slice.map(|slice| slice.leaf.datom(slice.rows.end - 1)))
}

/// Splits a range into at most `parts` ranges of about equally many datoms, in order and without gaps.
///
/// Reads inner nodes only: those of the upper levels, as many as are needed to find enough places to split
/// at. EAVT and AEVT are split between entities, the other orders anywhere. A range within one leaf stays
/// whole.
///
/// # Errors
///
/// Those of [`count`].
pub async fn split(
    loader: &Loader,
    tree: &Tree,
    range: &Range,
    parts: usize,
) -> Result<Vec<Range>> {
    /// Places to choose from for each part, so that parts come out even.
    const CHOICES: usize = 8;
    let order = tree.name.order();
    // The nodes of one level that overlap the range, each with its last key.
    let mut nodes: Vec<(Root, Option<Datom>)> =
        tree.root.into_iter().map(|root| (root, None)).collect();
    while nodes.len() < parts.saturating_mul(CHOICES)
        && nodes.first().is_some_and(|(node, _)| node.level > 0)
        && parts > 1
    {
        let wanted: Vec<_> = nodes
            .iter()
            .map(|(node, _)| (node.id, node.location))
            .collect();
        let mut below = Vec::new();
        for (node, (place, _)) in loader.load_many(&wanted).await?.into_iter().zip(&nodes) {
            let node = InnerNode::try_new(node, place)?;
            let children = node.range(order, range);
            below.extend(children.map(|i| (node.place(i), Some(node.last_keys().datom(i)))));
        }
        nodes = below;
    }
    let total: u64 = nodes.iter().map(|(node, _)| node.count).sum();
    let mut ranges = Vec::new();
    let mut rest = range.clone();
    let mut passed = 0;
    let but_last = nodes.len().saturating_sub(1);
    for (node, last) in &nodes[..but_last] {
        passed += node.count;
        // The share of the datoms that the ranges up to the next split should have.
        let due = u128::from(total) * (ranges.len() as u128 + 1) / parts.max(1) as u128;
        if ranges.len() + 1 >= parts || u128::from(passed) < due {
            continue;
        }
        let Some(at) = last
            .as_ref()
            .and_then(|last| split_point(order, last, range))
        else {
            continue;
        };
        if rest.from.as_ref().is_some_and(|from| from.at == at) {
            continue;
        }
        let to = Some(Edge {
            at: at.clone(),
            inclusive: true,
        });
        ranges.push(Range {
            from: rest.from.take(),
            to,
        });
        rest.from = Some(Edge {
            at,
            inclusive: false,
        });
    }
    ranges.push(rest);
    Ok(ranges)
}

/// The components to split behind, near a datom; `None` if that would not part the range.
fn split_point(order: TreeOrder, last: &Datom, range: &Range) -> Option<Components> {
    if !range.locate(order.index, last).is_eq() {
        return None;
    }
    let at = match order.index {
        Index::Eavt => Components::all().e(last.e),
        Index::Aevt => Components::all().a(last.a).e(last.e),
        Index::Avet => {
            let at = Components::all().a(last.a).v(last.v.clone()).e(last.e);
            if order.keys_tx { at.tx(last.tx) } else { at }
        }
        Index::Log => Components::all()
            .tx(last.tx)
            .e(last.e)
            .a(last.a)
            .v(last.v.clone()),
    };
    // Behind the end of the range begins with the same components, so would the first part.
    let ends_here = range.to.as_ref().is_some_and(|to| begins_with(&to.at, &at));
    (!ends_here).then_some(at)
}

/// Whether `components` fix everything that `prefix` fixes, in the same way.
fn begins_with(components: &Components, prefix: &Components) -> bool {
    fn same<T: PartialEq>(given: Option<&T>, wanted: Option<&T>) -> bool {
        wanted.is_none() || given == wanted
    }
    same(components.e.as_ref(), prefix.e.as_ref())
        && same(components.a.as_ref(), prefix.a.as_ref())
        && same(components.v.as_ref(), prefix.v.as_ref())
        && same(components.tx.as_ref(), prefix.tx.as_ref())
}

/// Which end of a range an edge is.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    From,
    To,
}

impl Side {
    /// Whether a row that compares so with the edge lies before the datoms that follow the edge.
    fn passed(self, order: Ordering, inclusive: bool) -> bool {
        order.is_lt() || (order.is_eq() && inclusive == (self == Self::To))
    }
}

/// Counts the datoms before an edge that starts a range, or up to an edge that ends one.
async fn rank_of(loader: &Loader, tree: &Tree, edge: &Edge, side: Side) -> Result<u64> {
    let Some(mut place) = tree.root else {
        return Ok(0);
    };
    let order = tree.name.order();
    // Inner nodes of trees of current facts know no tx: a key that is equal but for tx may be on either
    // side, so the leaf must tell.
    let blind = !order.keys_tx && edge.at.tx.is_some();
    let at = if blind {
        Components {
            tx: None,
            ..edge.at.clone()
        }
    } else {
        edge.at.clone()
    };
    // Whether no two datoms compare equal with the edge.
    let unique = !order.keys_tx && !blind && at.e.is_some() && at.a.is_some() && at.v.is_some();
    let mut rank = 0;
    while place.level > 0 {
        let node = InnerNode::load(loader, &place).await?;
        let keys = node.last_keys();
        let compare = |i: usize| keys.compare_prefix(i, order.index, &at);
        let child = partition_point(0..node.len(), |i| {
            let compared = compare(i);
            if blind {
                compared.is_lt()
            } else {
                side.passed(compared, edge.inclusive)
            }
        });
        rank += node.counts()[..child].iter().sum::<u64>();
        let between = unique && child > 0 && compare(child - 1).is_eq();
        if child == node.len() || between {
            return Ok(rank);
        }
        place = node.place(child);
    }
    let leaf = load_leaf(loader, &place).await?;
    Ok(rank + rows_passed(&leaf, order.index, edge, side) as u64)
}

fn rows_passed(leaf: &Leaf, index: Index, edge: &Edge, side: Side) -> usize {
    partition_point(0..leaf.len(), |i| {
        side.passed(leaf.compare_prefix(i, index, &edge.at), edge.inclusive)
    })
}
