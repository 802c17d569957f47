//! Filters that become known while a plan runs: the keys of a join's build side, the rows that a sort still wants.
//!
//! DataFusion pushes them down as dynamic filters, which say nothing when the plan is made. A partition looks at
//! them between blocks, and spares itself what they leave out:
//!
//! ```text
//! keys of db_id ───────────────┐
//! keys, ranges ──► AVET ──► entities ──► few:   each looked up, in EAVT (a member table: in AEVT)
//!                                  └───► many:  runs of the table with gaps between them, which are not read
//! anything else ──► evaluated over its own columns, before the other columns are read
//! ```
//!
//! What costs less is reckoned in rows: a look-up is worth [`StarSpec::lookup_rows`] of them. To evaluate a filter
//! costs as much as the join that made it, so it goes on only if that spares reading whole blocks, or making values
//! that cost more.
//!
//! **Invariant.** A run-time filter only spares reading. Whoever made it checks every row again, so a scan may
//! apply it late, in part or not at all; it must never leave out a row for which the filter is true.
//!
//! **Invariant.** What a filter was found to say is kept by the stream. A node that is executed again starts anew,
//! and [`reset_state`](super::StarScanExec) takes its filters away, because their makers forget them as well.

use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use futures::stream::{self, StreamExt, TryStreamExt};

use super::run::Span;
use super::{Driver, Predicate, StarSpec};
use crate::index::{Index, Range};
use crate::provider::arrow::is_costly;
use crate::provider::entities::avet_ranges;
use crate::provider::error::into_datafusion;
use crate::provider::pushdown::Ranges;
use crate::provider::pushdown::physical::{Bounds, bounds};
use crate::value::ValueType;

/// An index is asked further if it answers at most one in so many rows.
const INDEX_SHARE: u64 = 16;

/// Requests to an index under way at once.
const ASK_AHEAD: usize = 16;

/// Entities between two runs of them that are worth a look-up rather than reading on.
const GAP: u64 = 16_384;

/// Rows after which a filter is judged by how many it kept.
const JUDGED_ROWS: usize = 8192;

/// A filter that keeps more than so many in a hundred rows is given up, however much the other columns cost.
const KEPT_MAX: usize = 80;

/// Tables that are not worth so many look-ups are left alone: what a join does to make a filter costs as much.
const LOOKUPS_MIN: u64 = 16;

/// Look-ups' worth of rows to be read before a filter that changed is asked again what to read.
const ASKED_AGAIN: u64 = 16;

impl StarSpec {
    /// A filter over columns of the result as a predicate over slots, if applying it while the plan runs can pay.
    ///
    /// It must be dynamic and speak of bare columns: a key that is computed may fail for rows that would not have
    /// come as far as the operator that computes it. Where few entities were named at planning there is little to
    /// spare; and where only some rows are wanted, leaving out others would change which.
    pub(super) fn run_time_filter(&self, filter: &Arc<dyn PhysicalExpr>) -> Option<Predicate> {
        let narrow = matches!(
            self.driver,
            Driver::Ids { .. }
                | Driver::Index {
                    one_by_one: true,
                    ..
                }
        );
        let small = (self.driven).is_some_and(|rows| rows < LOOKUPS_MIN * self.lookup_rows);
        if narrow || small || self.fetch.is_some() || !filter.is::<DynamicFilterPhysicalExpr>() {
            return None;
        }
        let mut columns = Vec::new();
        for child in filter.children() {
            columns.push(child.downcast_ref::<Column>()?.index());
        }
        columns.sort_unstable();
        columns.dedup();
        let schema = Arc::new(self.schema.project(&columns).ok()?);
        let expr = Arc::clone(filter).transform(|expr| {
            let place = |column: &Column| columns.iter().position(|at| *at == column.index());
            Ok(match expr.downcast_ref::<Column>().and_then(place) {
                Some(at) => {
                    Transformed::yes(Arc::new(Column::new(schema.field(at).name(), at)) as _)
                }
                None => Transformed::no(expr),
            })
        });
        Some(Predicate {
            expr: expr.ok()?.data,
            slots: columns.iter().map(|at| self.projection[*at]).collect(),
            schema,
        })
    }

    /// The value type of a slot whose values can be looked up.
    fn value_type(&self, slot: usize) -> Option<ValueType> {
        if slot == 0 {
            return Some(ValueType::Long);
        }
        let attribute = &self.runs[slot - 1];
        let single = !attribute.is_many() || matches!(self.driver, Driver::Facts(_));
        single.then_some(attribute.value_type)
    }
}

/// How the rows behind are to be read, now that more is known.
pub(super) enum Access {
    /// These entities one by one.
    Entities(Vec<i64>),
    /// These spans, in order.
    Spans(VecDeque<Span>),
}

/// The run-time filters of one partition.
pub(super) struct RunTime {
    filters: Vec<Filter>,
    /// Rows that the partition goes through, as planned; 0 if unknown.
    rows: u64,
    /// Rows it has gone through.
    passed: u64,
    /// Rows it had gone through when the filters were last asked what to read.
    asked: Option<u64>,
    looked_up: Count,
    rejected: Count,
}

struct Filter {
    predicate: Predicate,
    /// Of the expression that was looked at last; no expression has 0.
    generation: u64,
    changed: bool,
    /// Whether making the other columns costs more than evaluating the filter.
    costly: bool,
    seen: usize,
    kept: usize,
    /// Rows of blocks of which none was kept.
    spared: usize,
}

impl RunTime {
    /// The filters of a partition, which add `run_time_lookups` and `run_time_rejected` to the metrics: entities
    /// that were looked up instead of scanned for, and rows that were left out of what was scanned.
    pub(super) fn new(
        spec: &StarSpec,
        metrics: &ExecutionPlanMetricsSet,
        partition: usize,
    ) -> Self {
        let filter = |predicate: &Predicate| Filter {
            predicate: predicate.clone(),
            generation: 0,
            changed: false,
            costly: spec.projection.iter().any(|slot| {
                *slot > 0 && !predicate.slots.contains(slot) && {
                    let attribute = &spec.runs[slot - 1];
                    is_costly(attribute) || attribute.is_many()
                }
            }),
            seen: 0,
            kept: 0,
            spared: 0,
        };
        let counter = |name: &'static str| match spec.run_time[..] {
            [] => Count::new(),
            _ => MetricBuilder::new(metrics).counter(name, partition),
        };
        Self {
            filters: spec.run_time.iter().map(filter).collect(),
            rows: spec.driven.unwrap_or(0) / spec.spans.len().max(1) as u64,
            passed: 0,
            asked: None,
            looked_up: counter("run_time_lookups"),
            rejected: counter("run_time_rejected"),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// Says that the partition goes through `rows` further rows.
    pub(super) fn pass(&mut self, rows: usize) {
        self.passed = self.passed.saturating_add(rows as u64);
    }

    /// The filters that are worth evaluating, by number.
    pub(super) fn worthwhile(&self) -> impl Iterator<Item = (usize, &Predicate)> {
        let told = self.filters.iter().enumerate();
        told.filter(|(_, filter)| filter.is_worthwhile())
            .map(|(at, filter)| (at, &filter.predicate))
    }

    /// Says how many rows a filter kept, so that one that does not pay is given up.
    pub(super) fn judge(&mut self, at: usize, rows: usize, kept: usize) {
        let filter = &mut self.filters[at];
        filter.seen += rows;
        filter.kept += kept;
        if kept == 0 {
            filter.spared += rows;
        }
        self.rejected.add(rows - kept);
    }

    /// Says that entities are looked up instead of scanned for.
    pub(super) fn look_up(&self, entities: usize) {
        self.looked_up.add(entities);
    }

    /// Look-ups that cost no more than going through the rest.
    pub(super) fn affordable(&self, spec: &StarSpec) -> usize {
        let rest = self.rows.saturating_sub(self.passed);
        usize::try_from(rest / spec.lookup_rows.max(1)).unwrap_or(usize::MAX)
    }

    /// What the filters say by now, if that is news and time to heed it.
    pub(super) fn news(&mut self, spec: &StarSpec) -> Result<Option<Bounds>> {
        let mut changed = false;
        for filter in &mut self.filters {
            let generation = filter.predicate.expr.snapshot_generation();
            if generation != filter.generation {
                let silent = filter.generation == 0 && generation == 1;
                (filter.generation, filter.changed) = (generation, !silent);
                (filter.seen, filter.kept, filter.spared) = (0, 0, 0);
            }
            changed |= filter.changed;
        }
        let wait = ASKED_AGAIN * spec.lookup_rows;
        if !changed || self.asked.is_some_and(|asked| self.passed < asked + wait) {
            return Ok(None);
        }
        self.asked = Some(self.passed);
        let mut all = Bounds::anything();
        for filter in &mut self.filters {
            filter.changed = false;
            let Some(dynamic) = filter
                .predicate
                .expr
                .downcast_ref::<DynamicFilterPhysicalExpr>()
            else {
                continue;
            };
            let slots = &filter.predicate.slots;
            let type_of = |at: usize| spec.value_type(slots[at]);
            let found = match bounds(&dynamic.current()?, &type_of) {
                Bounds::Nothing => Bounds::Nothing,
                Bounds::Within(within) => {
                    Bounds::Within(within.into_iter().map(|(at, r)| (slots[at], r)).collect())
                }
            };
            all = all.and(found);
        }
        Ok(Some(all))
    }

    /// How to go on, given what the filters say and the spans that are left; `None` to go on as before.
    pub(super) async fn access(
        &self,
        spec: &StarSpec,
        said: &Bounds,
        left: &[Span],
    ) -> Result<Option<Access>> {
        let Some(within) = self.entities(spec, said, left).await? else {
            return Ok(None);
        };
        let affordable = self.affordable(spec);
        if let Some(few) = one_by_one(&within, affordable) {
            return Ok(Some(Access::Entities(few)));
        }
        let spans = clusters(&within);
        // What has been read ahead is given up only for a gap.
        let gap = match (&spans[..], left) {
            ([span], [now, ..]) => span.first.abs_diff(now.first) > GAP,
            _ => true,
        };
        let worth = spans != left && (gap || self.passed == 0);
        Ok(worth.then(|| Access::Spans(spans.into())))
    }

    /// Which entities of some spans the filters can be true of, as spans; `None` if they do not say.
    pub(super) async fn entities(
        &self,
        spec: &StarSpec,
        said: &Bounds,
        left: &[Span],
    ) -> Result<Option<Vec<Span>>> {
        let Bounds::Within(within) = said else {
            return Ok(Some(Vec::new()));
        };
        let mut entities: Option<Vec<Span>> = None;
        for (slot, ranges) in within {
            let found = if *slot == 0 {
                let longs = ranges.longs().into_iter();
                Some(longs.map(|(first, last)| Span { first, last }).collect())
            } else {
                self.ask(spec, *slot, ranges).await?
            };
            if let Some(found) = found {
                entities = Some(both(entities.as_deref().unwrap_or(left), &found));
            }
        }
        Ok(entities.map(|entities| both(&entities, left)))
    }

    /// The entities that AVET answers, if it answers few and asking costs less than reading on.
    async fn ask(
        &self,
        spec: &StarSpec,
        slot: usize,
        ranges: &Ranges,
    ) -> Result<Option<Vec<Span>>> {
        let attribute = &spec.runs[slot - 1];
        let ranges = avet_ranges(attribute, ranges);
        let indexed = spec.db.in_avet(attribute.id);
        let at_hand = ranges.iter().all(|range| spec.db.has_avet(range));
        if !indexed || !at_hand || ranges.len() > self.affordable(spec) {
            return Ok(None);
        }
        let db = &spec.db;
        let mut counts = stream::iter(ranges.clone())
            .map(|range: Range| async move { db.count(Index::Avet, &range).await })
            .buffered(ASK_AHEAD);
        let mut facts: u64 = 0;
        while let Some(count) = counts.try_next().await.map_err(into_datafusion)? {
            facts += count;
            if facts > self.rows.saturating_sub(self.passed) / INDEX_SHARE {
                return Ok(None);
            }
        }
        let slices: Vec<Vec<_>> = stream::iter(ranges)
            .map(|range| async move { db.scan(Index::Avet, range).try_collect().await })
            .buffered(ASK_AHEAD)
            .try_collect()
            .await
            .map_err(into_datafusion)?;
        let mut found: Vec<i64> = Vec::new();
        for slice in slices.iter().flatten() {
            found.extend_from_slice(&slice.leaf.e()[slice.rows.clone()]);
        }
        found.sort_unstable();
        found.dedup();
        let one = |e| Span { first: e, last: e };
        Ok(Some(found.into_iter().map(one).collect()))
    }
}

impl Filter {
    fn is_worthwhile(&self) -> bool {
        let pays = self.spared * 2 >= self.seen
            || (self.costly && self.kept * 100 <= self.seen * KEPT_MAX);
        // The first generation is true of everything.
        self.generation > 1 && (self.seen < JUDGED_ROWS || pays)
    }
}

/// What lies in both of two lists of spans, each ascending and disjoint.
fn both(left: &[Span], right: &[Span]) -> Vec<Span> {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    let mut both = Vec::new();
    while let (Some(one), Some(two)) = (left.peek(), right.peek()) {
        let common = one.intersect(**two);
        if common.first <= common.last {
            both.push(common);
        }
        if one.last <= two.last {
            left.next();
        } else {
            right.next();
        }
    }
    both
}

/// The entities of spans, if they are at most so many.
fn one_by_one(spans: &[Span], most: usize) -> Option<Vec<i64>> {
    let mut entities = Vec::new();
    for span in spans {
        let room = most.checked_sub(entities.len())?;
        if span.last.abs_diff(span.first) >= room as u64 {
            return None;
        }
        entities.extend(span.first..=span.last);
    }
    Some(entities)
}

/// Spans without the small gaps between them.
fn clusters(spans: &[Span]) -> Vec<Span> {
    let mut joined: Vec<Span> = Vec::new();
    for span in spans {
        match joined.last_mut() {
            Some(before) if span.first.abs_diff(before.last) <= GAP => before.last = span.last,
            _ => joined.push(*span),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spans(edges: &[i64]) -> Vec<Span> {
        let pairs = edges.chunks_exact(2);
        pairs
            .map(|pair| Span {
                first: pair[0],
                last: pair[1],
            })
            .collect()
    }

    fn hold(spans: &[Span], e: i64) -> bool {
        spans.iter().any(|span| span.first <= e && e <= span.last)
    }

    #[test]
    fn gaps_are_left_out_if_they_are_wide() {
        let gap = i64::try_from(GAP).unwrap();
        let near = clusters(&spans(&[1, 2, 2 + gap, 3 + gap]));
        assert_eq!(near, spans(&[1, 3 + gap]));
        let far = spans(&[1, 2, 3 + gap, 4 + gap]);
        assert_eq!(clusters(&far), far);
        assert_eq!(clusters(&[Span::ALL]), [Span::ALL]);
    }

    #[test]
    fn few_entities_are_named() {
        assert_eq!(one_by_one(&spans(&[1, 2, 5, 5]), 3), Some(vec![1, 2, 5]));
        assert_eq!(one_by_one(&spans(&[1, 2, 5, 5]), 2), None);
        assert_eq!(one_by_one(&[Span::ALL], 1000), None);
        assert_eq!(one_by_one(&[], 0), Some(vec![]));
    }

    proptest! {
        #[test]
        fn both_hold_what_each_holds(
            left in prop::collection::btree_set(0..60i64, 0..16),
            right in prop::collection::btree_set(0..60i64, 0..16),
        ) {
            let list = |edges: std::collections::BTreeSet<i64>| spans(&Vec::from_iter(edges));
            let (left, right) = (list(left), list(right));
            let both = both(&left, &right);
            prop_assert!(both.windows(2).all(|pair| pair[0].last < pair[1].first));
            for e in 0..60 {
                prop_assert_eq!(hold(&both, e), hold(&left, e) && hold(&right, e));
            }
        }
    }
}
