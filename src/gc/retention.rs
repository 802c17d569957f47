//! Which checkpoints of the past stay.
//!
//! A checkpoint makes opening a past basis cheap; no fact depends on it. Where one is dropped, its record
//! in the tree of commits leads to the older one that stays, and the basis replays a longer piece of the
//! log. Commit ids cover no checkpoint, so the chain stays as it is.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream::TryStreamExt;

use crate::datom::Datom;
use crate::db::Db;
use crate::db::commit::{Checkpoint, CommitRecord};
use crate::db::merge::tree_slices;
use crate::error::Result;
use crate::index::{Range, TreeName};
use crate::tree::Change;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Which checkpoints of the past stay: all that are young, then the last one of each interval, the longer
/// the older they are; and whatever their age so many that dropping the others makes no past basis replay
/// more than so many datoms of the log.
///
/// The newest checkpoint of a branch always stays. By default all stay for a day, then one an hour for a
/// week, one a day for 90 days, and one for every 30 days after that; and by dropping the others no basis
/// comes to replay more than about a million datoms.
///
/// Checkpoints are dropped and never brought back. A basis whose checkpoints went before, by a run with
/// [`Retention::newest_only`] or a larger bound, or by a purge, goes on replaying what it replays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Ages with the interval from there on, in milliseconds, the least age first.
    steps: Vec<(i64, i64)>,
    /// How many datoms of the log a basis may come to replay.
    replay_max: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self::keep_all()
            .thin(DAY, HOUR)
            .thin(7 * DAY, DAY)
            .thin(90 * DAY, 30 * DAY)
    }
}

impl Retention {
    /// Drops nothing.
    pub fn keep_all() -> Self {
        Self {
            steps: Vec::new(),
            replay_max: 1 << 20,
        }
    }

    /// Drops all but the newest. Every older basis then replays the log from its start, and holds it.
    pub fn newest_only() -> Self {
        Self::keep_all()
            .thin(Duration::ZERO, Duration::MAX)
            .replay(u64::MAX)
    }

    /// Keeps a checkpoint of any age if without it a basis could come to replay more datoms of the log than
    /// this.
    ///
    /// What counts are the datoms from the checkpoint that stays before it to the one behind it. The last
    /// transaction of these, which made that checkpoint, is replayed by no basis; records do not tell how much
    /// it said. So where it said much, a checkpoint stays that could go.
    #[must_use]
    pub fn replay(mut self, datoms_max: u64) -> Self {
        self.replay_max = datoms_max;
        self
    }

    /// From this age on, keeps the last checkpoint of each interval. Intervals are counted from 1970, so
    /// where each is a multiple of the one before, what stays later has stayed before.
    #[must_use]
    pub fn thin(mut self, age: Duration, interval: Duration) -> Self {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        self.steps.push((millis(age), millis(interval).max(1)));
        self.steps.sort_unstable();
        self
    }

    /// Which of these instants, which do not descend, stay at `now`. The last always does.
    fn keeps(&self, instants: &[i64], now: i64) -> Vec<bool> {
        let mut seen = BTreeSet::new();
        let mut keeps: Vec<bool> = instants
            .iter()
            .rev()
            .enumerate()
            .map(|(back, instant)| {
                // A writer's clock may be ahead of the store's, and many commits in one millisecond are.
                let age = now.saturating_sub(*instant).max(0);
                let step = self.steps.iter().rev().find(|(from, _)| age >= *from);
                // The newest speaks for its interval, too.
                let last =
                    step.is_none_or(|(_, every)| seen.insert((*every, instant.div_euclid(*every))));
                back == 0 || last
            })
            .collect();
        keeps.reverse();
        keeps
    }
}

/// What retention makes of the commits of a branch.
pub(super) struct Thinned {
    /// The checkpoints that stay.
    pub(super) kept: Vec<Checkpoint>,
    /// What happens to the tree of commits.
    pub(super) changes: Vec<Change>,
    /// How many checkpoints go.
    pub(super) dropped: u64,
}

/// The commits of a branch that made a checkpoint, as they are stored and as they read, by `t`.
pub(super) async fn checkpointed(db: &Db) -> Result<Vec<(Datom, CommitRecord)>> {
    let mut slices = tree_slices(db, &db.0.head.commits, Range::all());
    let mut found = Vec::new();
    while let Some(slice) = slices.try_next().await? {
        db.loader().resolve(&slice.leaf, slice.rows.clone()).await?;
        for row in slice.rows.clone() {
            let datom = slice.leaf.datom(row);
            let record = CommitRecord::from_datom(&datom)?;
            if record.checkpoint.is_some() {
                found.push((datom, record));
            }
        }
    }
    Ok(found)
}

/// Decides about every checkpoint of a branch.
pub(super) async fn thin(db: &Db, retention: &Retention, now: i64) -> Result<Thinned> {
    let found = checkpointed(db).await?;
    let instants: Vec<i64> = found
        .iter()
        .map(|(_, record)| record.pending.instant)
        .collect();
    let keeps = retention.keeps(&instants, now);
    let logs: Vec<u64> = found
        .iter()
        .filter_map(|(_, record)| record.checkpoint.as_ref())
        .map(|checkpoint| checkpoint.tree(TreeName::Log).count())
        .collect();
    let mut thinned = Thinned {
        kept: Vec::new(),
        changes: Vec::new(),
        dropped: 0,
    };
    let (mut older, mut replayed_from) = (0, 0);
    for (at, ((datom, record), keep)) in found.into_iter().zip(keeps).enumerate() {
        // Without this one, a basis right before the next would replay from the last that stays: at most
        // this much, for it does not replay the transaction that made the next.
        let next = logs.get(at + 1).copied().unwrap_or_default();
        if keep || next.saturating_sub(replayed_from) > retention.replay_max {
            older = record.covered;
            replayed_from = logs[at];
            thinned.kept.extend(record.checkpoint);
        } else {
            let leads_back = CommitRecord {
                covered: older,
                checkpoint: None,
                ..record
            };
            thinned.changes.extend(replaced(datom, &leads_back));
            thinned.dropped += 1;
        }
    }
    Ok(thinned)
}

/// What puts a record into the place of one that is stored.
pub(super) fn replaced(old: Datom, new: &CommitRecord) -> Vec<Change> {
    let mut changes = vec![Change::Delete(old), Change::Insert(new.to_datom())];
    let order = TreeName::Commits.order();
    changes.sort_by(|left, right| order.compare(left.key(), right.key()));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOURS: i64 = 60 * 60 * 1000;

    /// The ages in hours of what stays of checkpoints that were made every half hour.
    fn ages(retention: &Retention, hours: i64) -> Vec<i64> {
        let now = 1_000_000 * HOURS;
        let instants: Vec<i64> = (0..hours * 2).rev().map(|n| now - n * HOURS / 2).collect();
        let keeps = retention.keeps(&instants, now);
        let kept = instants.iter().zip(keeps).filter(|(_, keep)| *keep);
        kept.map(|(instant, _)| (now - instant) / HOURS).collect()
    }

    #[test]
    fn checkpoints_thin_out_with_age() {
        let kept = ages(&Retention::default(), 24 * 300);
        let within = |from: i64, to: i64| {
            kept.iter()
                .filter(|age| (from * 24..to * 24).contains(age))
                .count()
        };
        assert_eq!(within(0, 1), 48, "all of a day");
        assert!((144..=145).contains(&within(1, 7)), "hourly for a week");
        assert!((83..=84).contains(&within(7, 90)), "daily for 90 days");
        assert!(
            (7..=8).contains(&within(90, 300)),
            "then every 30 days: {}",
            within(90, 300)
        );
        assert_eq!(ages(&Retention::keep_all(), 50).len(), 100);
        assert_eq!(ages(&Retention::newest_only(), 50), [0]);
    }

    /// Forty commits in a millisecond have instants that follow one another, into the future. They had an
    /// age below zero, which no step covers, so all of them stayed.
    #[test]
    fn a_checkpoint_of_the_future_is_as_old_as_one_of_now() {
        let instants: Vec<i64> = (1000..1040).collect();
        let keeps = Retention::newest_only().keeps(&instants, 1010);
        assert_eq!(keeps.iter().filter(|keep| **keep).count(), 1);
        assert_eq!(keeps.last(), Some(&true));
    }

    #[test]
    fn what_stays_later_has_stayed_before() {
        let retention = Retention::default();
        let start = 500_000 * HOURS;
        let mut instants: Vec<i64> = (0..3000).map(|n| start + n * HOURS / 3).collect();
        let mut at_once = instants.clone();
        let last = 2 * 24 * 365 * HOURS + start;
        for now in (start + 1000 * HOURS..last).step_by(usize::try_from(97 * HOURS).unwrap()) {
            let keeps = retention.keeps(&instants, now);
            let mut keep = keeps.iter();
            instants.retain(|_| *keep.next().unwrap());
        }
        let keeps = retention.keeps(&instants, last);
        let mut keep = keeps.iter();
        instants.retain(|_| *keep.next().unwrap());
        let keeps = retention.keeps(&at_once, last);
        let mut keep = keeps.iter();
        at_once.retain(|_| *keep.next().unwrap());
        assert_eq!(instants, at_once);
    }
}
