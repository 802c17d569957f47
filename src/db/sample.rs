//! What planners learn of an attribute beyond its count: some of its facts, from all over AEVT.
//!
//! A root never changes, so a sample of one is taken once a process. It is of the checkpoint alone: what the
//! tail says is seldom enough to change an estimate, and counts, which hold it, are exact. Samples of a root that has
//! been left, by a purge for one, stay until others push them out.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use futures::TryStreamExt;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::Db;
use crate::datom::Entid;
use crate::error::Result;
use crate::id::NodeId;
use crate::index::{Components, Index, Range, TreeName};
use crate::node::{Leaf, LeafBuilder};
use crate::tree;
use crate::value::Value;

/// Runs of a sample, each of so many facts: 512 in all, in at most 16 leaves.
const PLACES: u64 = 16;
const PLACE_ROWS: usize = 32;

/// Bytes of all samples that are kept.
const BYTES_MAX: u64 = 16 << 20;

/// The samples of this process, by the root of AEVT and the attribute.
static SAMPLES: LazyLock<Cache<(NodeId, Entid), Arc<Sampled>, Weight>> =
    LazyLock::new(|| Cache::with_weighter(1024, BYTES_MAX, Weight));

#[derive(Clone)]
struct Weight;

impl Weighter<(NodeId, Entid), Arc<Sampled>> for Weight {
    fn weight(&self, _: &(NodeId, Entid), sampled: &Arc<Sampled>) -> u64 {
        sampled.leaf.memory_bytes() as u64 + 128
    }
}

/// Some facts of an attribute.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// The facts of the attribute, exactly.
    pub(crate) facts: u64,
    sampled: Arc<Sampled>,
}

#[derive(Debug)]
struct Sampled {
    leaf: Leaf,
    values: Seen,
    entities: Seen,
}

impl Db {
    /// A sample of an attribute; `None` for views whose trees hold more than they show. Counts its facts; reads at most
    /// 16 leaves, all at once, unless the sample of this root is still kept.
    ///
    /// # Errors
    ///
    /// Those of [`tree::sample`].
    pub(crate) async fn sample(&self, a: Entid) -> Result<Option<Sample>> {
        if self.is_history() || self.since_t().is_some() {
            return Ok(None);
        }
        let range = Range::prefix(Components::all().a(a));
        let facts = self.count(Index::Aevt, &range).await?;
        let tree = self.0.checkpoint.tree(TreeName::Aevt);
        let key = tree.root.map(|root| (root.id, a));
        if let Some(sampled) = key.as_ref().and_then(|key| SAMPLES.get(key)) {
            return Ok(Some(Sample { facts, sampled }));
        }
        let taken = tree::sample(self.loader(), tree, &range, PLACES, PLACE_ROWS);
        let mut leaf = Box::pin(taken).await?;
        // What the tail alone has is no property of the root.
        let key = key.filter(|_| !leaf.is_empty());
        if key.is_none() {
            leaf = self.beginning(range).await?;
        }
        let values = (0..leaf.len()).map(|row| leaf.values().value(row));
        let sampled = Arc::new(Sampled {
            values: Seen::of(values),
            entities: Seen::of(leaf.e().iter().map(|e| Value::Ref(Entid(*e)))),
            leaf,
        });
        if let Some(key) = key {
            SAMPLES.insert(key, Arc::clone(&sampled));
        }
        Ok(Some(Sample { facts, sampled }))
    }

    async fn beginning(&self, range: Range) -> Result<Leaf> {
        let mut taken = LeafBuilder::with_capacity(0);
        if let Some(slice) = self.scan(Index::Aevt, range).try_next().await? {
            taken.push_run(&slice.leaf, slice.rows);
        }
        Ok(taken.finish())
    }
}

impl Sample {
    /// The facts that were taken, in order of entity.
    pub(crate) fn leaf(&self) -> &Leaf {
        &self.sampled.leaf
    }

    /// How many values the attribute has, roughly.
    pub(crate) fn values(&self) -> u64 {
        self.sampled.values.of_all(self.facts)
    }

    /// How many entities have it, roughly: those of a run follow each other, so that their share is that of all.
    pub(crate) fn entities(&self) -> u64 {
        let Sampled { leaf, entities, .. } = &*self.sampled;
        let share = u128::from(self.facts) * u128::from(entities.once + entities.often);
        u64::try_from(share / (leaf.len() as u128).max(1)).unwrap_or(self.facts)
    }
}

/// How often things were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Seen {
    all: u64,
    /// Different things that were seen in one place: once, or several times in a row.
    once: u64,
    /// Those that were seen in several places.
    often: u64,
}

impl Seen {
    fn of(things: impl Iterator<Item = Value>) -> Self {
        let mut places: HashMap<Value, u64> = HashMap::new();
        let (mut all, mut before) = (0, None);
        for thing in things {
            all += 1;
            // What is said of neighbours together is found together.
            if before.as_ref() != Some(&thing) {
                *places.entry(thing.clone()).or_default() += 1;
            }
            before = Some(thing);
        }
        let once = places.values().filter(|places| **places == 1).count() as u64;
        Self {
            all,
            once,
            often: places.len() as u64 - once,
        }
    }

    /// How many there are among `all`: those seen several times are taken for common, those seen once for the share
    /// that the sample has of others like them (Charikar et al., *Towards estimation error guarantees for distinct
    /// values*, 2000).
    fn of_all(self, all: u64) -> u64 {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let scale = (all.max(self.all) as f64 / self.all.max(1) as f64).sqrt();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an estimate"
        )]
        let others = (scale * self.once as f64) as u64;
        self.often + others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Things that were seen so often each, in turn.
    fn seen(times: impl IntoIterator<Item = u64>) -> Seen {
        let mut things: Vec<(u64, i64)> = Vec::new();
        for (times, thing) in times.into_iter().zip(0..) {
            things.extend((0..times).map(|turn| (turn, thing)));
        }
        things.sort_unstable();
        Seen::of(things.into_iter().map(|(_, thing)| Value::Long(thing)))
    }

    #[test]
    fn what_is_seen_in_a_row_is_seen_once() {
        let orders = (0..512).map(|line| Value::Ref(Entid(line / 4)));
        let seen = Seen::of(orders);
        assert_eq!((seen.all, seen.once, seen.often), (512, 128, 0));
        assert!(seen.of_all(1_000_000) > 5_000);
    }

    #[test]
    fn different_values_are_estimated_from_a_sample() {
        assert_eq!(seen([100; 5]).of_all(20_000), 5, "five names among all");
        assert_eq!(
            seen([1; 500]).of_all(50_000),
            5_000,
            "between 500 and 50,000"
        );
        assert_eq!(seen([1, 2]).of_all(3), 2, "all is seen");
        assert_eq!(seen([]).of_all(0), 0);
    }
}
