//! Reads one partition of a star: decides which entities are rows, and fills in their columns.
//!
//! ```text
//! rows ──► filter 1 ──► filter 2 ──► other columns ──► batches
//!          its columns  its columns  of what is left
//! ```
//!
//! Columns are read when a filter or the result asks for them. Where no row of a block is left, the runs of
//! the columns behind are not read at all, and look their place up again if they fell far behind.

mod narrow;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;

use arrow::compute::{BatchCoalescer, filter, prep_null_mask_filter};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder, ScalarBuffer};
use datafusion::error::Result;
use futures::future::try_join_all;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::run::{Aligned, Run, Span};
use super::run_time::RunTime;
use super::{Driver, Predicate, StarSpec};
use crate::datom::Entid;
use crate::db::Db;
use crate::index::{Components, Index, Range};
use crate::node::LeafBuilder;
use crate::provider::arrow::is_costly;
use crate::provider::error::into_datafusion;
use crate::tree::LeafSlice;

/// Entities that are looked up one by one as one block.
const GATHER_ROWS: usize = 256;

/// Look-ups under way at once.
const GATHER_AHEAD: usize = 16;

/// Batches of at least this share of the batch size are handed on as they are.
const COALESCE_SHARE: usize = 8;

/// Reads one partition.
pub(super) struct Reader {
    spec: Arc<StarSpec>,
    runs: Vec<Run>,
    span: Span,
    /// Spans behind `span`, where run-time filters leave gaps.
    behind: VecDeque<Span>,
    rows: Rows,
    run_time: RunTime,
    /// The attributes of which an entity that is looked up must have one to be a row, ascending.
    members: Arc<[i64]>,
    /// The last entity that has been a row.
    last: Option<i64>,
    started: bool,
    output: BatchCoalescer,
    /// Batches without columns, which cannot be coalesced.
    counted: VecDeque<RecordBatch>,
    batch_rows: usize,
    /// Rows still wanted.
    wanted: usize,
    done: bool,
}

/// Where rows come from, in progress.
enum Rows {
    /// The entities of one run.
    Run(usize),
    /// The facts of the only run.
    Facts,
    /// The entities of any run.
    Union,
    /// These entities, `at` of which have been rows; `None` until the index has been asked.
    Ids {
        ids: Option<Arc<[i64]>>,
        at: usize,
        one_by_one: bool,
    },
}

/// Entities that may be rows of the result, with what has been read of them.
struct Block {
    entities: ScalarBuffer<i64>,
    /// Whether each entity is known to be the one before plus one.
    gapless: bool,
    /// By slot.
    aligned: Vec<Option<Aligned>>,
    /// By slot, of all entities.
    arrays: Vec<Option<ArrayRef>>,
    /// Which entities are left; `None` if all are.
    kept: Option<BooleanArray>,
}

impl Reader {
    pub(super) fn new(
        spec: &Arc<StarSpec>,
        span: Span,
        batch_rows: usize,
        run_time: RunTime,
    ) -> Self {
        let db = &spec.db;
        let (rows, given) = match &spec.driver {
            Driver::Run(run) => (Rows::Run(*run), false),
            Driver::Facts(_) => (Rows::Facts, false),
            Driver::Union => (Rows::Union, false),
            Driver::Ids { ids, one_by_one } => (
                Rows::Ids {
                    ids: Some(Arc::clone(ids)),
                    at: 0,
                    one_by_one: *one_by_one,
                },
                *one_by_one,
            ),
            Driver::Index { one_by_one, .. } => (
                Rows::Ids {
                    ids: None,
                    at: 0,
                    one_by_one: *one_by_one,
                },
                *one_by_one,
            ),
        };
        let run = |attribute| match &spec.driver {
            Driver::Facts(Some(ranges)) => Run::by_value(db, attribute, ranges),
            _ if given => Run::empty(db, attribute),
            _ => Run::scan(db, attribute, span),
        };
        let bypass = (batch_rows / COALESCE_SHARE).max(1);
        Self {
            runs: spec.runs.iter().map(run).collect(),
            output: BatchCoalescer::new(Arc::clone(&spec.schema), batch_rows)
                .with_biggest_coalesce_batch_size(Some(bypass)),
            span,
            behind: VecDeque::new(),
            rows,
            run_time,
            members: Arc::clone(&spec.members),
            last: None,
            started: false,
            counted: VecDeque::new(),
            batch_rows,
            wanted: spec.fetch.unwrap_or(usize::MAX),
            done: false,
            spec: Arc::clone(spec),
        }
    }

    /// The next batch of at most the batch size.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.counted.pop_front() {
                return Ok(Some(batch));
            }
            if let Some(batch) = self.output.next_completed_batch() {
                return Ok(Some(batch));
            }
            if self.done {
                return Ok(None);
            }
            let block = if self.wanted == 0 {
                None
            } else {
                self.block().await?
            };
            if let Some(block) = block {
                self.fill(block).await?;
            } else {
                self.output.finish_buffered_batch()?;
                self.done = true;
            }
        }
    }

    /// The next entities, of this span or those behind.
    async fn block(&mut self) -> Result<Option<Block>> {
        loop {
            self.narrow().await?;
            let block = self.block_of_span().await?;
            if block.is_none()
                && let Some(span) = self.behind.pop_front()
            {
                self.enter(span);
                continue;
            }
            return Ok(block);
        }
    }

    /// The next entities of this span.
    async fn block_of_span(&mut self) -> Result<Option<Block>> {
        if !self.started {
            self.started = true;
            self.start().await?;
        }
        // Without filters, no more rows are needed than are wanted.
        let most = match self.spec.predicates[..] {
            [] if self.run_time.is_empty() => self.batch_rows.min(self.wanted),
            _ => self.batch_rows,
        };
        let slots = self.runs.len() + 1;
        let mut block = Block {
            entities: ScalarBuffer::default(),
            gapless: false,
            aligned: std::iter::repeat_with(|| None).take(slots).collect(),
            arrays: vec![None; slots],
            kept: None,
        };
        match &mut self.rows {
            Rows::Run(run) => {
                let run = &mut self.runs[*run];
                if let Some(last) = self.last {
                    run.pass(last);
                }
                run.fill().await?;
                if run.attribute().is_many() {
                    let by_entity = run.entities().chunk_by(|left, right| left == right);
                    block.entities = by_entity.map(|members| members[0]).take(most).collect();
                } else {
                    block.entities = run.shared_entities(run.entities().len().min(most));
                    block.gapless = run.is_gapless();
                }
            }
            Rows::Facts => {
                let run = &mut self.runs[0];
                run.fill().await?;
                let rows = run.entities().len().min(most);
                block.entities = run.shared_entities(rows);
                block.aligned[1] = Some(run.take_facts(rows));
            }
            Rows::Union => {
                let last = self.last;
                if let Some(last) = last {
                    self.runs.iter_mut().for_each(|run| run.pass(last));
                }
                fill(self.runs.iter_mut()).await?;
                block.entities = union(&self.runs, most);
            }
            Rows::Ids {
                one_by_one: false, ..
            } => {
                let ids = self.ids().await?;
                let Rows::Ids { at: begin, .. } = &mut self.rows else {
                    return Ok(None);
                };
                let rows = (ids.len() - *begin).min(most);
                block.entities = ids[*begin..*begin + rows].to_vec().into();
                *begin += rows;
            }
            Rows::Ids {
                one_by_one: true, ..
            } => {
                let ids = self.ids().await?;
                loop {
                    let Rows::Ids { at, .. } = &mut self.rows else {
                        return Ok(None);
                    };
                    let some = *at..ids.len().min(*at + most.min(GATHER_ROWS));
                    *at = some.end;
                    if some.is_empty() {
                        break;
                    }
                    block.entities = self.gather(&ids[some]).await?;
                    if !block.entities.is_empty() {
                        break;
                    }
                }
            }
        }
        self.last = block.entities.last().copied().or(self.last);
        self.run_time.pass(block.entities.len());
        Ok((!block.entities.is_empty()).then_some(block))
    }

    /// Reads the first leaves of what the first block needs, together.
    async fn start(&mut self) -> Result<()> {
        let spec = &self.spec;
        if !matches!(self.rows, Rows::Run(_) | Rows::Union) {
            return Ok(());
        }
        let filters = self.run_time.worthwhile().map(|(_, filter)| filter);
        let filter = filters.chain(&spec.predicates).next();
        let first = |run: &usize| match (filter, &spec.driver) {
            (_, Driver::Run(driver)) if driver == run => true,
            (None, _) => true,
            (Some(filter), _) => filter.slots.contains(&(run + 1)),
        };
        let runs = self
            .runs
            .iter_mut()
            .enumerate()
            .filter(|(run, _)| first(run));
        try_join_all(runs.map(|(_, run)| run.fill())).await?;
        Ok(())
    }

    /// The entities that an index or the caller named, ascending and within the span.
    async fn ids(&mut self) -> Result<Arc<[i64]>> {
        let Rows::Ids {
            ids, one_by_one, ..
        } = &mut self.rows
        else {
            return Ok(Arc::default());
        };
        if let Some(ids) = ids {
            return Ok(Arc::clone(ids));
        }
        let Driver::Index { ranges, .. } = &self.spec.driver else {
            return Ok(Arc::default());
        };
        let mut found = Vec::new();
        for range in ranges.iter() {
            let mut slices = self.spec.db.scan(Index::Avet, range.clone());
            while let Some(slice) = slices.try_next().await.map_err(into_datafusion)? {
                found.extend_from_slice(&slice.leaf.e()[slice.rows]);
            }
        }
        found.sort_unstable();
        found.dedup();
        found.retain(|e| (self.span.first..=self.span.last).contains(e));
        let found: Arc<[i64]> = found.into();
        *ids = Some(Arc::clone(&found));
        if let (false, Some(&first), Some(&last)) = (*one_by_one, found.first(), found.last()) {
            let scan = |run: &Run| Run::scan(&self.spec.db, run.attribute(), Span { first, last });
            self.runs = self.runs.iter().map(scan).collect();
        }
        Ok(found)
    }

    /// Looks entities up in EAVT, one path each, and hands their facts to the runs. Answers those that have
    /// an attribute of the table.
    async fn gather(&mut self, ids: &[i64]) -> Result<ScalarBuffer<i64>> {
        let db = &self.spec.db;
        let found: Vec<Vec<LeafSlice>> = stream::iter(ids.to_vec())
            .map(|e| {
                let db: Db = db.clone();
                async move {
                    let range = Range::prefix(Components::all().e(Entid(e)));
                    db.scan(Index::Eavt, range)
                        .try_collect()
                        .await
                        .map_err(into_datafusion)
                }
            })
            .buffered(GATHER_AHEAD)
            .try_collect()
            .await?;
        let mut facts: Vec<LeafBuilder> =
            self.runs.iter().map(|_| LeafBuilder::default()).collect();
        let mut entities = Vec::with_capacity(ids.len());
        for (&e, slices) in ids.iter().zip(&found) {
            let mut member = false;
            for LeafSlice { leaf, rows } in slices {
                let mut row = rows.start;
                while row < rows.end {
                    let a = leaf.a()[row];
                    let len = leaf.a()[row..rows.end]
                        .iter()
                        .take_while(|&&other| other == a)
                        .count();
                    member |= self.members.binary_search(&a).is_ok();
                    if let Some(run) = self.runs.iter().position(|run| run.attribute().id.0 == a) {
                        facts[run].push_run(leaf, row..row + len);
                    }
                    row += len;
                }
            }
            if member {
                entities.push(e);
            }
        }
        for (run, mut facts) in self.runs.iter_mut().zip(facts) {
            run.give(facts.finish());
        }
        Ok(entities.into())
    }

    /// Filters a block, reads the columns of what is left, and passes it on.
    async fn fill(&mut self, mut block: Block) -> Result<()> {
        let spec = Arc::clone(&self.spec);
        let run_time = self.run_time.worthwhile();
        let run_time: Vec<_> = run_time.map(|(at, filter)| (at, filter.clone())).collect();
        for (at, filter) in &run_time {
            let rows = block.rows();
            let kept = self.evaluate(filter, &mut block).await?;
            let left = if kept { block.rows() } else { 0 };
            self.run_time.judge(*at, rows, left);
            if !kept {
                self.skip(&block);
                return Ok(());
            }
        }
        for predicate in &spec.predicates {
            let kept = self.evaluate(predicate, &mut block).await?;
            if !kept {
                self.skip(&block);
                return Ok(());
            }
        }
        let rows = block.rows();
        let rows = rows.min(self.wanted);
        self.wanted -= rows;
        if spec.projection.is_empty() {
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            let schema = Arc::clone(&spec.schema);
            let batch = RecordBatch::try_new_with_options(schema, Vec::new(), &options)?;
            self.counted.push_back(batch);
            return Ok(());
        }
        self.align(&mut block, &spec.projection).await?;
        let whole =
            block.kept.is_none() || !spec.projection.iter().any(|slot| block.picks(&spec, *slot));
        let mut arrays = Vec::with_capacity(spec.projection.len());
        for &slot in &spec.projection {
            arrays.push(if whole {
                block.all(&spec, slot).await?
            } else {
                block.left(&spec, slot).await?
            });
        }
        let batch = RecordBatch::try_new(Arc::clone(&spec.schema), arrays)?;
        match &block.kept {
            Some(kept) if whole && kept.true_count() == rows => {
                self.output.push_batch_with_filter(batch, kept)?;
            }
            Some(kept) if whole => {
                let batch = ::arrow::compute::filter_record_batch(&batch, kept)?;
                self.output.push_batch(batch.slice(0, rows))?;
            }
            _ => self.output.push_batch(batch.slice(0, rows))?,
        }
        Ok(())
    }

    /// Tells the runs that were not read for a block that nothing of it is left.
    fn skip(&mut self, block: &Block) {
        let rows = block.entities.len();
        let behind = self.runs.iter_mut().zip(&block.aligned[1..]);
        behind
            .filter(|(_, aligned)| aligned.is_none())
            .for_each(|(run, _)| run.skip(rows));
    }

    /// Applies a filter to what is left of a block; whether anything is.
    async fn evaluate(&mut self, predicate: &Predicate, block: &mut Block) -> Result<bool> {
        self.align(block, &predicate.slots).await?;
        let mut arrays = Vec::with_capacity(predicate.slots.len());
        for &slot in &predicate.slots {
            arrays.push(block.left(&self.spec, slot).await?);
        }
        let rows = block.rows();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&predicate.schema);
        let batch = RecordBatch::try_new_with_options(schema, arrays, &options)?;
        let passed = predicate.expr.evaluate(&batch)?.into_array(rows)?;
        let passed = passed.as_boolean();
        let passed = match passed.null_count() {
            0 => passed.clone(),
            _ => prep_null_mask_filter(passed),
        };
        match passed.true_count() {
            0 => return Ok(false),
            all if all == rows => {}
            _ => {
                block.kept = Some(match &block.kept {
                    None => passed,
                    Some(kept) => narrowed(kept.values(), &passed),
                });
            }
        }
        Ok(true)
    }

    /// Lines up the runs of some slots with a block, together.
    async fn align(&mut self, block: &mut Block, slots: &[usize]) -> Result<()> {
        let places = self
            .runs
            .iter_mut()
            .zip(&mut block.aligned[1..])
            .enumerate();
        let missing = places.filter_map(|(run, (place, aligned))| {
            (aligned.is_none() && slots.contains(&(run + 1))).then_some((place, aligned))
        });
        let mut missing: Vec<_> = missing.collect();
        if let Some(&first) = block.entities.first() {
            let runs = missing.iter_mut().map(|(run, _)| &mut **run);
            fill(runs.filter_map(|run| run.must_read(first).then_some(run))).await?;
        }
        for (run, aligned) in missing {
            *aligned = Some(run.align(&block.entities, block.gapless).await?);
        }
        Ok(())
    }
}

/// Reads on in those runs that have nothing at hand, together.
async fn fill<'r>(runs: impl Iterator<Item = &'r mut Run>) -> Result<()> {
    let mut waiting = Vec::new();
    for run in runs {
        if run.is_filled() {
            continue;
        }
        // Most often the leaf is in memory already, and waiting for several at once costs more than that.
        let polled = {
            let fill = std::pin::pin!(run.fill());
            futures::poll!(fill)
        };
        match polled {
            Poll::Ready(filled) => filled?,
            Poll::Pending => waiting.push(run),
        }
    }
    if !waiting.is_empty() {
        try_join_all(waiting.into_iter().map(Run::fill)).await?;
    }
    Ok(())
}

impl Block {
    /// How many entities are left.
    fn rows(&self) -> usize {
        self.kept
            .as_ref()
            .map_or(self.entities.len(), BooleanArray::true_count)
    }

    /// Whether the values of a slot are better picked than made and filtered.
    fn picks(&self, spec: &StarSpec, slot: usize) -> bool {
        let Some(aligned) = &self.aligned[slot] else {
            return false;
        };
        let attribute = &spec.runs[slot - 1];
        is_costly(attribute) || attribute.is_many() || aligned.lies_out_of_line()
    }

    /// A column of all entities.
    async fn all(&mut self, spec: &StarSpec, slot: usize) -> Result<ArrayRef> {
        if let Some(array) = &self.arrays[slot] {
            return Ok(Arc::clone(array));
        }
        let array: ArrayRef = match &self.aligned[slot] {
            Some(aligned) => aligned.column(&spec.db, &spec.types[slot], None).await?,
            None => Arc::new(Int64Array::new(self.entities.clone(), None)),
        };
        self.arrays[slot] = Some(Arc::clone(&array));
        Ok(array)
    }

    /// A column of the entities that are left.
    async fn left(&mut self, spec: &StarSpec, slot: usize) -> Result<ArrayRef> {
        let Some(kept) = self.kept.clone() else {
            return self.all(spec, slot).await;
        };
        match &self.aligned[slot] {
            Some(aligned) if self.arrays[slot].is_none() && self.picks(spec, slot) => {
                aligned
                    .column(&spec.db, &spec.types[slot], Some(&kept))
                    .await
            }
            _ => Ok(filter(&self.all(spec, slot).await?, &kept)?),
        }
    }
}

/// The next entities of any run, ascending; at most `most`.
fn union(runs: &[Run], most: usize) -> ScalarBuffer<i64> {
    let parts: Vec<&[i64]> = runs.iter().map(Run::entities).collect();
    // Up to here everything is known: no run has a further entity before it.
    let known = runs
        .iter()
        .zip(&parts)
        .filter_map(|(run, part)| part.get(most - 1).or(part.last().filter(|_| !run.ended())));
    let bound = known
        .min()
        .or(parts.iter().filter_map(|part| part.last()).max());
    bound.map_or_else(ScalarBuffer::default, |&bound| {
        union_upto(&parts, bound, most)
    })
}

/// The entities of any part up to `bound`, ascending; at most `most`.
fn union_upto(parts: &[&[i64]], bound: i64, most: usize) -> ScalarBuffer<i64> {
    let parts: Vec<&[i64]> = parts
        .iter()
        .map(|part| &part[..part.partition_point(|&e| e <= bound)])
        .filter(|part| !part.is_empty())
        .collect();
    let mut all: Vec<i64> = match &parts[..] {
        // The usual case: every entity has every attribute.
        [first, rest @ ..] if rest.iter().all(|part| part == first) => first.to_vec(),
        _ => {
            let mut all = parts.concat();
            #[allow(
                clippy::stable_sort_primitive,
                reason = "this sort merges runs that are sorted already"
            )]
            all.sort();
            all
        }
    };
    all.dedup();
    all.truncate(most);
    all.into()
}

/// The rows of `kept` whose place among them `passed` tells to keep.
fn narrowed(kept: &BooleanBuffer, passed: &BooleanArray) -> BooleanArray {
    let mut narrowed = BooleanBufferBuilder::new(kept.len());
    narrowed.append_n(kept.len(), false);
    for (row, passed) in kept.set_indices().zip(passed.values()) {
        if passed {
            narrowed.set_bit(row, true);
        }
    }
    BooleanArray::new(narrowed.finish(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_union_is_ascending_and_distinct() {
        assert_eq!(
            &union_upto(&[&[1, 3, 3, 9], &[], &[2, 3, 4]], 4, 10)[..],
            [1, 2, 3, 4]
        );
        assert_eq!(&union_upto(&[&[1, 2, 2], &[1, 2, 2]], 2, 10)[..], [1, 2]);
        assert_eq!(&union_upto(&[&[1, 2, 3], &[4]], 4, 2)[..], [1, 2]);
    }

    #[test]
    fn a_filter_of_what_is_left_narrows_the_whole() {
        let kept = BooleanBuffer::from(vec![false, true, true, false, true]);
        let passed = BooleanArray::from(vec![true, false, true]);
        let narrowed = narrowed(&kept, &passed);
        assert_eq!(
            narrowed,
            BooleanArray::from(vec![false, true, false, false, true])
        );
    }
}
