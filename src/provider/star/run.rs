//! One attribute's values in order of their entities, and how they line up with the rows of a table.
//!
//! ```text
//! rows      10  11  12  13  14  15          a row an entity
//! run       10  11  12  13  14  15          equal: the values are a slice of the leaf
//! run       10      12          15          gaps:  indices into the leaf, null where nothing lies
//! run       10      12  12  12  15          many:  offsets into a slice of the leaf
//! ```
//!
//! **Invariant.** A run only moves forward. The rows it is asked for ascend from one call to the next.

use std::cmp::Ordering;
use std::ops;
use std::sync::Arc;

use ::arrow::compute::{concat, filter};
use arrow_array::{Array, ArrayRef, BooleanArray, ListArray, UInt32Array, new_null_array};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::DataType;
use datafusion::error::Result;
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::db::Db;
use crate::db::merge::Slices;
use crate::index::{Components, Edge, Index, Range};
use crate::node::{Kind, Leaf, LeafBuilder};
use crate::provider::arrow::{self, Picks};
use crate::provider::error::into_datafusion;
use crate::schema::Attribute;
use crate::tree::LeafSlice;

/// Rows that may be passed over before it is cheaper to look a place up again than to read on to it.
const SKIP_ROWS: usize = 16_384;

/// A range of entities, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The least entity.
    pub(crate) first: i64,
    /// The greatest entity.
    pub(crate) last: i64,
}

impl Span {
    /// Every entity.
    pub(crate) const ALL: Self = Self {
        first: i64::MIN,
        last: i64::MAX,
    };

    /// No entity.
    pub(crate) const NONE: Self = Self {
        first: i64::MAX,
        last: i64::MIN,
    };

    /// The entities in both.
    pub(crate) fn intersect(self, other: Self) -> Self {
        Self {
            first: self.first.max(other.first),
            last: self.last.min(other.last),
        }
    }

    /// The datoms of an attribute about these entities, in AEVT.
    pub(crate) fn of(self, attribute: &Attribute) -> Range {
        let edge = |e, open| {
            let at = Components::all().a(attribute.id);
            let at = if e == open {
                at
            } else {
                at.e(crate::datom::Entid(e))
            };
            Some(Edge {
                at,
                inclusive: true,
            })
        };
        Range {
            from: edge(self.first, i64::MIN),
            to: edge(self.last, i64::MAX),
        }
    }
}

/// The values of one attribute, in order of entity.
pub(super) struct Run {
    db: Db,
    attribute: Arc<Attribute>,
    span: Span,
    slices: Slices,
    /// What lies before the end of `slices` and has been read.
    current: Option<LeafSlice>,
    /// Read ahead, to see whether an entity continues in it.
    next: Option<LeafSlice>,
    ended: bool,
    /// Rows that were passed over since the last look.
    skipped: usize,
}

impl Run {
    /// The facts about entities of a span.
    pub(super) fn scan(db: &Db, attribute: &Arc<Attribute>, span: Span) -> Self {
        let slices = if span.first > span.last {
            stream::empty().boxed()
        } else {
            db.scan(Index::Aevt, span.of(attribute))
        };
        Self::over(db, attribute, span, slices)
    }

    /// The facts of some ranges of AVET, in its order: by value, then entity.
    pub(super) fn by_value(db: &Db, attribute: &Arc<Attribute>, ranges: &[Range]) -> Self {
        let scans: Vec<_> = ranges
            .iter()
            .map(|range| db.scan(Index::Avet, range.clone()))
            .collect();
        Self::over(
            db,
            attribute,
            Span::ALL,
            stream::iter(scans).flatten().boxed(),
        )
    }

    /// Nothing yet; [`Run::give`] hands facts in.
    pub(super) fn empty(db: &Db, attribute: &Arc<Attribute>) -> Self {
        Self::over(db, attribute, Span::NONE, stream::empty().boxed())
    }

    fn over(db: &Db, attribute: &Arc<Attribute>, span: Span, slices: Slices) -> Self {
        Self {
            db: db.clone(),
            attribute: Arc::clone(attribute),
            span,
            slices,
            current: None,
            next: None,
            ended: false,
            skipped: 0,
        }
    }

    pub(super) fn attribute(&self) -> &Arc<Attribute> {
        &self.attribute
    }

    /// Replaces what is left by these facts.
    pub(super) fn give(&mut self, leaf: Leaf) {
        self.current = (!leaf.is_empty()).then(|| LeafSlice {
            rows: 0..leaf.len(),
            leaf: Arc::new(leaf),
        });
        self.ended = true;
    }

    /// Whether something is at hand, or nothing will ever be.
    pub(super) fn is_filled(&self) -> bool {
        self.current.is_some() || self.ended()
    }

    /// Whether reading on comes before lining up rows that begin with `e`.
    pub(super) fn must_read(&mut self, e: i64) -> bool {
        self.advance(|entity| entity < e);
        !self.is_filled() && self.skipped <= SKIP_ROWS
    }

    /// Says that `rows` rows will not be asked for.
    pub(super) fn skip(&mut self, rows: usize) {
        self.skipped = self.skipped.saturating_add(rows);
    }

    /// Moves behind the entities up to `last`, within what is at hand.
    pub(super) fn pass(&mut self, last: i64) {
        self.advance(|e| e <= last);
    }

    /// Whether nothing lies behind what is at hand.
    pub(super) fn ended(&self) -> bool {
        self.ended && self.next.is_none()
    }

    /// The entities at hand; none only at the end.
    pub(super) fn entities(&self) -> &[i64] {
        self.current
            .as_ref()
            .map_or(&[], |slice| &slice.leaf.e()[slice.rows.clone()])
    }

    /// The first entities at hand, without copying.
    pub(super) fn shared_entities(&self, rows: usize) -> ScalarBuffer<i64> {
        self.current
            .as_ref()
            .map_or_else(ScalarBuffer::default, |slice| {
                slice.leaf.e().slice(slice.rows.start, rows)
            })
    }

    /// Whether each entity at hand is the one before plus one.
    pub(super) fn is_gapless(&self) -> bool {
        self.current
            .as_ref()
            .is_some_and(|slice| slice.leaf.is_gapless())
    }

    /// Moves behind the entities for which `passed` holds, within what is at hand.
    fn advance(&mut self, passed: impl Fn(i64) -> bool) {
        let Some(slice) = &mut self.current else {
            return;
        };
        slice.rows.start += gallop(&slice.leaf.e()[slice.rows.clone()], passed);
        if slice.rows.is_empty() {
            self.current = None;
        }
    }

    /// Reads on if nothing is at hand.
    pub(super) async fn fill(&mut self) -> Result<()> {
        while self.current.is_none() {
            let Some(slice) = self.read().await? else {
                return Ok(());
            };
            self.current = Some(slice);
        }
        Ok(())
    }

    /// The next slice, with all values of its last entity: those of a cardinality-many attribute may go on
    /// in the slice behind.
    ///
    /// May be dropped while it waits: whatever has been read is kept in `self`.
    async fn read(&mut self) -> Result<Option<LeafSlice>> {
        if self.next.is_none() && !self.ended {
            self.next = self.slices.try_next().await.map_err(into_datafusion)?;
            self.ended = self.next.is_none();
        }
        if !self.attribute.is_many() {
            return Ok(self.next.take());
        }
        while !self.ended && self.next.is_some() {
            let behind = self.slices.try_next().await.map_err(into_datafusion)?;
            let Some(slice) = self.next.take() else { break };
            let Some(behind) = behind else {
                self.ended = true;
                return Ok(Some(slice));
            };
            if slice.leaf.e()[slice.rows.end - 1] != behind.leaf.e()[behind.rows.start] {
                self.next = Some(behind);
                return Ok(Some(slice));
            }
            let mut joined = LeafBuilder::with_capacity(slice.rows.len() + behind.rows.len());
            joined.push_run(&slice.leaf, slice.rows.clone());
            joined.push_run(&behind.leaf, behind.rows.clone());
            let leaf = joined.finish();
            self.next = Some(LeafSlice {
                rows: 0..leaf.len(),
                leaf: Arc::new(leaf),
            });
        }
        Ok(self.next.take())
    }

    /// Moves to the first entity that is not before `e`, by a look-up if that is far.
    async fn seek(&mut self, e: i64) -> Result<()> {
        let far = std::mem::take(&mut self.skipped) > SKIP_ROWS;
        loop {
            self.advance(|entity| entity < e);
            if self.current.is_some() || self.ended() {
                return Ok(());
            }
            if far && !self.ended && self.next.is_none() {
                let span = self.span.intersect(Span {
                    first: e,
                    last: i64::MAX,
                });
                *self = Self::scan(&self.db, &self.attribute, span);
                return self.fill().await;
            }
            self.fill().await?;
        }
    }

    /// Where the values of these entities lie. The entities ascend; `gapless` says that each is the one before plus
    /// one.
    pub(super) async fn align(&mut self, rows: &[i64], gapless: bool) -> Result<Aligned> {
        let mut aligned = Aligned {
            attribute: Arc::clone(&self.attribute),
            pieces: Vec::new(),
        };
        let mut at = 0;
        while at < rows.len() {
            self.seek(rows[at]).await?;
            let Some(slice) = &mut self.current else {
                aligned.pieces.push(Piece::absent(rows.len() - at));
                break;
            };
            let entities = &slice.leaf.e()[slice.rows.clone()];
            let last = entities[entities.len() - 1];
            let upto = at + gallop(&rows[at..], |e| e <= last);
            let (place, passed) = if self.attribute.is_many() {
                place_many(entities, &rows[at..upto], slice.rows.start)
            } else {
                let gapless = gapless && slice.leaf.is_gapless();
                place_one(entities, &rows[at..upto], slice.rows.start, gapless)
            };
            aligned.pieces.push(Piece {
                leaf: Some(Arc::clone(&slice.leaf)),
                rows: upto - at,
                place,
            });
            slice.rows.start += passed;
            if slice.rows.is_empty() {
                self.current = None;
            }
            at = upto;
        }
        Ok(aligned)
    }

    /// The next `rows` facts one by one, whatever their entities.
    pub(super) fn take_facts(&mut self, rows: usize) -> Aligned {
        let mut pieces = Vec::new();
        if let Some(slice) = &mut self.current {
            let taken = slice.rows.start..slice.rows.start + rows;
            slice.rows.start = taken.end;
            pieces.push(Piece {
                leaf: Some(Arc::clone(&slice.leaf)),
                rows,
                place: Place::One(Picks::Run(taken)),
            });
        }
        if self
            .current
            .as_ref()
            .is_some_and(|slice| slice.rows.is_empty())
        {
            self.current = None;
        }
        Aligned {
            attribute: Arc::clone(&self.attribute),
            pieces,
        }
    }
}

/// Lines up values of a cardinality-one attribute; `start` is the leaf row of `entities[0]`, `gapless` says that in
/// both each is the one before plus one. Returns how many of `entities` lie at or before the last row, too.
fn place_one(entities: &[i64], rows: &[i64], start: usize, gapless: bool) -> (Place, usize) {
    if entities.len() >= rows.len() && same(&entities[..rows.len()], rows, gapless) {
        return (
            Place::One(Picks::Run(start..start + rows.len())),
            rows.len(),
        );
    }
    let last = rows[rows.len() - 1];
    let within = gallop(entities, |e| e <= last);
    let mut picks = vec![0; rows.len()];
    let mut found = BooleanBufferBuilder::new(rows.len());
    found.append_n(rows.len(), false);
    let (mut at, mut row, mut hits) = (0, 0, 0);
    // Of the two sides, the one that lies behind catches up, by leaps if it is much denser.
    while at < within && row < rows.len() {
        match entities[at].cmp(&rows[row]) {
            Ordering::Less => at += 1 + leap(&entities[at + 1..within], rows[row]),
            Ordering::Greater => row += 1 + leap(&rows[row + 1..], entities[at]),
            Ordering::Equal => {
                picks[row] = u32::try_from(start + at).unwrap_or(u32::MAX);
                found.set_bit(row, true);
                hits += 1;
                at += 1;
                row += 1;
            }
        }
    }
    let picks = match hits {
        0 => Picks::Absent(rows.len()),
        all if all == rows.len() => Picks::Rows(UInt32Array::new(picks.into(), None)),
        _ => Picks::Rows(UInt32Array::new(
            picks.into(),
            Some(NullBuffer::new(found.finish())),
        )),
    };
    (Place::One(picks), within)
}

/// How many leading items lie before `bound`. Most often there are few.
fn leap(items: &[i64], bound: i64) -> usize {
    match items.iter().take(4).position(|&item| item >= bound) {
        Some(at) => at,
        None if items.len() <= 4 => items.len(),
        None => 4 + gallop(&items[4..], |item| item < bound),
    }
}

/// Lines up values of a cardinality-many attribute, as [`place_one`].
fn place_many(entities: &[i64], rows: &[i64], start: usize) -> (Place, usize) {
    let mut offsets = Vec::with_capacity(rows.len() + 1);
    let mut present = Vec::with_capacity(rows.len());
    let mut picks: Vec<u32> = Vec::with_capacity(entities.len());
    offsets.push(0);
    let mut at = 0;
    for &row in rows {
        at += gallop(&entities[at..], |e| e < row);
        let end = at + gallop(&entities[at..], |e| e <= row);
        picks.extend((at..end).map(|at| u32::try_from(start + at).unwrap_or(u32::MAX)));
        present.push(end > at);
        offsets.push(i32::try_from(picks.len()).unwrap_or(i32::MAX));
        at = end;
    }
    let neighbours = picks
        .first()
        .zip(picks.last())
        .is_some_and(|(first, last)| (last - first) as usize == picks.len() - 1);
    let picks = match picks.first() {
        Some(&first) if neighbours => Picks::Run(first as usize..first as usize + picks.len()),
        Some(_) => Picks::Rows(picks.into()),
        None => Picks::Absent(0),
    };
    let nulls = NullBuffer::new(BooleanBuffer::from(&present[..]));
    let nulls = (nulls.null_count() > 0).then_some(nulls);
    let place = Place::Many {
        picks,
        offsets: OffsetBuffer::new(offsets.into()),
        nulls,
    };
    (place, at)
}

/// Whether two runs of entities of one length are equal; for free if they are the same memory or without gaps.
fn same(left: &[i64], right: &[i64], gapless: bool) -> bool {
    std::ptr::eq(left, right) || (gapless && left.first() == right.first()) || left == right
}

/// How many leading items `before` holds for; it holds for no later one.
pub(super) fn gallop(items: &[i64], before: impl Fn(i64) -> bool) -> usize {
    // Most often it holds for all, and what lies between need not be brought into the processor.
    if items.last().is_none_or(|&last| before(last)) {
        return items.len();
    }
    let mut high = 1;
    while high <= items.len() && before(items[high - 1]) {
        high *= 2;
    }
    let low = high / 2;
    let high = high.min(items.len());
    low + items[low..high].partition_point(|&item| before(item))
}

/// Where the values of some rows lie.
pub(super) struct Aligned {
    attribute: Arc<Attribute>,
    pieces: Vec<Piece>,
}

/// Neighbouring rows whose values lie in one leaf.
struct Piece {
    leaf: Option<Arc<Leaf>>,
    rows: usize,
    place: Place,
}

enum Place {
    One(Picks),
    Many {
        picks: Picks,
        offsets: OffsetBuffer<i32>,
        nulls: Option<NullBuffer>,
    },
}

impl Piece {
    fn absent(rows: usize) -> Self {
        Self {
            leaf: None,
            rows,
            place: Place::One(Picks::Absent(rows)),
        }
    }
}

impl Aligned {
    /// Whether some of the values may have to be read from elsewhere.
    pub(super) fn lies_out_of_line(&self) -> bool {
        let leaves = self.pieces.iter().filter_map(|piece| piece.leaf.as_deref());
        leaves
            .into_iter()
            .any(|leaf| leaf.values().child(Kind::LARGE).is_some())
    }

    /// The values as a column of `data_type`; with `kept`, of those rows alone.
    pub(super) async fn column(
        &self,
        db: &Db,
        data_type: &DataType,
        kept: Option<&BooleanArray>,
    ) -> Result<ArrayRef> {
        let mut arrays = Vec::with_capacity(self.pieces.len());
        let mut at = 0;
        for piece in &self.pieces {
            let kept = kept.map(|kept| kept.slice(at, piece.rows));
            at += piece.rows;
            arrays.push(self.piece(db, data_type, piece, kept.as_ref()).await?);
        }
        match &arrays[..] {
            [] => Ok(new_null_array(data_type, 0)),
            [_] => Ok(arrays.remove(0)),
            _ => {
                let arrays: Vec<&dyn Array> = arrays.iter().map(|array| &**array).collect();
                Ok(concat(&arrays)?)
            }
        }
    }

    async fn piece(
        &self,
        db: &Db,
        data_type: &DataType,
        piece: &Piece,
        kept: Option<&BooleanArray>,
    ) -> Result<ArrayRef> {
        let Some(leaf) = &piece.leaf else {
            let rows = kept.map_or(piece.rows, BooleanArray::true_count);
            return Ok(new_null_array(data_type, rows));
        };
        match &piece.place {
            Place::One(picks) => {
                let filtered = kept.map(|kept| picks.filter(kept));
                self.values(db, leaf, filtered.as_ref().unwrap_or(picks))
                    .await
            }
            Place::Many {
                picks,
                offsets,
                nulls,
            } => {
                let values = self.values(db, leaf, picks).await?;
                let DataType::List(item) = data_type else {
                    // Members of a cardinality-many attribute are taken one by one.
                    return Ok(values);
                };
                let list =
                    ListArray::try_new(Arc::clone(item), offsets.clone(), values, nulls.clone())?;
                Ok(match kept {
                    Some(kept) => filter(&list, kept)?,
                    None => Arc::new(list),
                })
            }
        }
    }

    async fn values(&self, db: &Db, leaf: &Leaf, picks: &Picks) -> Result<ArrayRef> {
        for rows in arrow::out_of_line(leaf, picks) {
            resolve(db, leaf, rows).await?;
        }
        arrow::array(&self.attribute, leaf, picks).map_err(into_datafusion)
    }
}

async fn resolve(db: &Db, leaf: &Leaf, rows: ops::Range<usize>) -> Result<()> {
    db.loader()
        .resolve(leaf, rows)
        .await
        .map_err(into_datafusion)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some_entities(least: usize) -> impl Strategy<Value = Vec<i64>> {
        prop::collection::btree_set(0..60i64, least..40).prop_map(|set| set.into_iter().collect())
    }

    fn neighbours() -> impl Strategy<Value = Vec<i64>> {
        (0..4i64, 1..40i64).prop_map(|(first, len)| (first..first + len).collect())
    }

    proptest! {
        #[test]
        fn galloping_finds_the_first_that_is_not_before(mut items in prop::collection::vec(0..50i64, 0..80), bound in -1..52i64) {
            items.sort_unstable();
            prop_assert_eq!(gallop(&items, |e| e < bound), items.partition_point(|&e| e < bound));
        }

        #[test]
        fn each_row_finds_its_entity(
            entities in prop_oneof![some_entities(0), neighbours()],
            rows in prop_oneof![some_entities(1), neighbours()],
        ) {
            let follows = |pair: &[i64]| pair[0] + 1 == pair[1];
            let gapless = entities.windows(2).all(follows) && rows.windows(2).all(follows);
            let (place, passed) = place_one(&entities, &rows, 0, gapless);
            let Place::One(picks) = place else { unreachable!() };
            let found: Vec<Option<i64>> = match picks {
                Picks::Run(run) => entities[run].iter().copied().map(Some).collect(),
                Picks::Rows(picks) => picks.iter().map(|at| at.map(|at| entities[at as usize])).collect(),
                Picks::Absent(rows) => vec![None; rows],
            };
            let expected: Vec<_> = rows.iter().map(|row| entities.contains(row).then_some(*row)).collect();
            prop_assert_eq!(found, expected);
            let last = rows[rows.len() - 1];
            prop_assert!(entities[..passed].iter().all(|&e| e <= last));
            prop_assert!(entities.get(passed).is_none_or(|&e| e >= last));
        }
    }
}
