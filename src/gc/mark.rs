//! Marking: every frame that can be reached, by the place where it lies.
//!
//! Places, not identities: the same node may lie in two packs, and each copy leads to the places that *it*
//! names. So nodes are read past the cache, which knows one place a node.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures::stream::{self, StreamExt, TryStreamExt};

use super::leaf_of;
use crate::error::Result;
use crate::id::{Location, PackId};
use crate::node::Loader;
use crate::store::{FrameKind, read_footer};
use crate::tree::Root;

/// Nodes that are asked for at once.
const TOGETHER: usize = 256;
/// Footers that are asked for at once.
const FOOTERS: usize = 8;

/// What can be reached.
#[derive(Debug, Default)]
pub(super) struct Reachable {
    places: HashSet<Location>,
    /// The bytes of those in each pack.
    packs: HashMap<PackId, u64>,
    /// Leaves that name bodies, with the packs where those lie.
    holders: HashMap<Location, Vec<PackId>>,
}

impl Reachable {
    /// How many frames.
    pub(super) fn frames(&self) -> u64 {
        self.places.len() as u64
    }

    /// Their bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.packs.values().sum()
    }

    /// The bytes of those in a pack.
    pub(super) fn bytes_in(&self, pack: PackId) -> u64 {
        self.packs.get(&pack).copied().unwrap_or(0)
    }

    /// The packs where the bodies lie that the leaf at a place names; `None` if it was not reached.
    pub(super) fn bodies_of(&self, leaf: Location) -> Option<&[PackId]> {
        self.places
            .contains(&leaf)
            .then(|| self.holders.get(&leaf).map_or(&[][..], Vec::as_slice))
    }

    /// Adds a place; `false` if it was known.
    fn add(&mut self, place: Location) -> bool {
        let fresh = self.places.insert(place);
        if fresh {
            *self.packs.entry(place.pack).or_default() += u64::from(place.len);
        }
        fresh
    }
}

/// Follows roots, and takes these bodies as reached.
pub(super) async fn mark(
    loader: &Loader,
    roots: Vec<Root>,
    bodies: Vec<Location>,
) -> Result<Reachable> {
    let mut reachable = Reachable::default();
    for body in bodies {
        reachable.add(body);
    }
    let mut leaves: BTreeMap<PackId, Vec<Root>> = BTreeMap::new();
    let mut open = Vec::new();
    let mut reach = |reachable: &mut Reachable, open: &mut Vec<Root>, place: Root| {
        if !reachable.add(place.location) {
        } else if place.level > 0 {
            open.push(place);
        } else {
            leaves.entry(place.location.pack).or_default().push(place);
        }
    };
    for root in roots {
        reach(&mut reachable, &mut open, root);
    }
    while !open.is_empty() {
        let places = open.split_off(open.len().saturating_sub(TOGETHER));
        let wanted: Vec<_> = places.iter().map(|p| (p.id, p.location)).collect();
        for (place, node) in places.iter().zip(loader.load_here(&wanted).await?) {
            for child in place.children(&node)? {
                reach(&mut reachable, &mut open, child);
            }
        }
    }
    hold(loader, leaves, &mut reachable).await?;
    Ok(reachable)
}

/// Reads those of the leaves that name bodies, as the footers of their packs tell, and takes the bodies.
async fn hold(
    loader: &Loader,
    leaves: BTreeMap<PackId, Vec<Root>>,
    reachable: &mut Reachable,
) -> Result<()> {
    let store = loader.store();
    let footers: Vec<Vec<Root>> = stream::iter(leaves)
        .map(|(pack, leaves)| async move {
            let footer = read_footer(store, pack).await?;
            let holders: HashSet<Location> = footer
                .entries()
                .iter()
                .filter(|entry| entry.kind == FrameKind::Holder)
                .map(|entry| entry.location)
                .collect();
            let named = leaves
                .into_iter()
                .filter(|leaf| holders.contains(&leaf.location));
            Ok::<_, crate::Error>(named.collect())
        })
        .buffer_unordered(FOOTERS)
        .try_collect()
        .await?;
    let holders: Vec<Root> = footers.into_iter().flatten().collect();
    for some in holders.chunks(TOGETHER) {
        let wanted: Vec<_> = some.iter().map(|leaf| (leaf.id, leaf.location)).collect();
        for (place, node) in some.iter().zip(loader.load_here(&wanted).await?) {
            let leaf = leaf_of(node, place)?;
            let mut packs = Vec::new();
            for body in leaf.larges().iter().filter_map(|large| large.location) {
                reachable.add(body);
                packs.push(body.pack);
            }
            packs.sort_unstable();
            packs.dedup();
            reachable.holders.insert(place.location, packs);
        }
    }
    Ok(())
}
