//! Merging a range of a tree with the same range of the tail, leaf by leaf.
//!
//! A leaf whose key range holds no entry of the tail passes through untouched, which is what keeps
//! `as_of` at the speed of now. The other leaves are rebuilt by column runs.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::try_join_all;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::Db;
use super::tail::{Delta, Net};
use crate::datom::Datom;
use crate::error::{Error, Result};
use crate::index::{Components, Index, Range, TreeName, TreeOrder};
use crate::node::{Leaf, LeafBuilder, Loader, partition_point};
use crate::tree::{Direction, LeafSlice, Scan, Tree};

/// Leaves in index order; each slice is sorted, and so are they.
pub(crate) type Slices = BoxStream<'static, Result<LeafSlice>>;

/// Datoms of a leaf that merging history builds.
const HISTORY_LEAF_DATOMS: usize = 4096;
/// Leaves whose large values are read at once, at most.
const RESOLVED_MAX: usize = 16;
/// Bytes of large values after which no further leaf is waited for.
const RESOLVED_BYTES_MAX: u64 = 16 << 20;

impl Db {
    /// The datoms of a range in index order, as slices of leaves.
    ///
    /// Large values have no bodies yet: [`Loader::resolve`](crate::node::Loader::resolve) reads them.
    pub(crate) fn scan(&self, index: Index, range: Range) -> Slices {
        let all = match (index, self.0.history) {
            (Index::Log, _) => self.scan_log(range),
            (Index::Avet, _) if !self.has_avet(&range) => self.scan_unindexed(range),
            (_, true) => self.scan_history(index, range),
            (_, false) => self.scan_current(index, range),
        };
        match self.0.since {
            None => all,
            Some(since) => all
                .try_filter_map(move |slice| async move { Ok(later(&slice, since)) })
                .boxed(),
        }
    }

    /// AVET where it has not been built: each attribute sorted from AEVT.
    fn scan_unindexed(&self, range: Range) -> Slices {
        let attributes = self.0.schema.attributes();
        let wanted: Vec<_> = attributes
            .filter(|attribute| attribute.in_avet())
            .map(|attribute| attribute.id)
            .filter(|a| range.attribute().is_none_or(|only| only == *a))
            .collect();
        let name = if self.0.history {
            TreeName::HistoryAvet
        } else {
            TreeName::Avet
        };
        let state = (self.clone(), wanted.into_iter());
        stream::try_unfold(state, move |(db, mut wanted)| {
            let range = range.clone();
            async move {
                for a in wanted.by_ref() {
                    let run = Range::prefix(Components::all().a(a));
                    let mut facts = db.collect(Index::Aevt, &run).await?;
                    facts.retain(|datom| range.locate(Index::Avet, datom).is_eq());
                    facts.sort_unstable_by(|left, right| name.order().compare(left, right));
                    if let Some(slice) = slice_of(&facts) {
                        return Ok(Some((slice, (db, wanted))));
                    }
                }
                Ok(None)
            }
        })
        .boxed()
    }

    fn tree_scan(&self, name: TreeName, range: &Range) -> Slices {
        tree_slices(self, self.0.checkpoint.tree(name), range.clone())
    }

    fn scan_current(&self, index: Index, range: Range) -> Slices {
        let base = self.tree_scan(TreeName::current(index), &range);
        let deltas = self.0.tail.rows(index, &range);
        if deltas.is_empty() {
            return base;
        }
        let order = TreeName::current(index).order();
        let state = (self.clone(), base, deltas.start, false);
        let end = deltas.end;
        stream::try_unfold(state, move |(db, mut base, mut at, done)| async move {
            if done {
                return Ok(None);
            }
            let deltas = &db.0.tail.deltas(index)[..end];
            let Some(slice) = base.try_next().await? else {
                let rest = appended(&deltas[at..])?;
                return Ok(rest.map(|slice| (slice, (db, base, end, true))));
            };
            let upto = slice.rows.end - 1;
            let reach = at
                + deltas[at..]
                    .partition_point(|delta| slice.leaf.compare(upto, order, &delta.datom).is_ge());
            let merged = if reach == at {
                slice
            } else {
                overlay(&slice, order, &deltas[at..reach])?
            };
            at = reach;
            Ok(Some((merged, (db, base, at, false))))
        })
        .try_filter(|slice| std::future::ready(!slice.rows.is_empty()))
        .boxed()
    }

    fn scan_log(&self, range: Range) -> Slices {
        let base = self.tree_scan(TreeName::Log, &range);
        let said: Vec<_> = self
            .0
            .tail
            .log()
            .iter()
            .filter(|datom| range.locate(Index::Log, datom).is_eq())
            .cloned()
            .collect();
        base.chain(stream::iter(slice_of(&said).map(Ok))).boxed()
    }

    /// Current ∪ history ∪ tail. The current tree is read without the tail's deletions, because a fact
    /// that was superseded is a fact of history.
    fn scan_history(&self, index: Index, range: Range) -> Slices {
        let order = TreeName::history(index).order();
        let in_index = |datom: &&Datom| index != Index::Avet || self.in_avet(datom.a);
        let mut said: Vec<_> = self
            .0
            .tail
            .log()
            .iter()
            .filter(in_index)
            .filter(|datom| range.locate(index, datom).is_eq())
            .cloned()
            .collect();
        said.sort_unstable_by(|left, right| order.compare(left, right));
        let sources = vec![
            Source::new(self.tree_scan(TreeName::current(index), &range)),
            Source::new(self.tree_scan(TreeName::history(index), &range)),
            Source::new(stream::iter(slice_of(&said).map(Ok)).boxed()),
        ];
        stream::try_unfold(sources, move |mut sources| async move {
            let mut merged = LeafBuilder::default();
            try_join_all(sources.iter_mut().map(Source::fill)).await?;
            while merged.len() < HISTORY_LEAF_DATOMS {
                let mut least: Option<(usize, &Datom)> = None;
                for (at, source) in sources.iter().enumerate() {
                    let Some(next) = source.buffer.front() else {
                        continue;
                    };
                    if least.is_none_or(|(_, datom)| order.compare(next, datom).is_lt()) {
                        least = Some((at, next));
                    }
                }
                let Some((at, _)) = least else { break };
                let source = &mut sources[at];
                if let Some(datom) = source.buffer.pop_front() {
                    merged.push(&datom);
                }
                // The others still have what they had.
                if source.buffer.is_empty() && merged.len() < HISTORY_LEAF_DATOMS {
                    source.fill().await?;
                }
            }
            let leaf = merged.finish();
            Ok((!leaf.is_empty()).then(|| (whole(leaf), sources)))
        })
        .boxed()
    }
}

/// The leaves of a range of a tree, in order.
pub(crate) fn tree_slices(db: &Db, tree: &Tree, range: Range) -> Slices {
    let scan = Scan::new(tree, range, Direction::Forward);
    stream::try_unfold(
        (scan, Arc::clone(db.loader())),
        |(mut scan, loader)| async move {
            Ok(scan
                .next(&loader)
                .await?
                .map(|slice| (slice, (scan, loader))))
        },
    )
    .boxed()
}

/// The same slices, large values with their bodies, which are read for 1, 2, 4 … 16 leaves at once: fewer where
/// they are long.
pub(crate) fn resolved(loader: &Arc<Loader>, slices: Slices) -> Slices {
    let state = (Arc::clone(loader), slices, 1);
    stream::try_unfold(state, |(loader, mut slices, ahead)| async move {
        let (mut some, mut bytes) = (Vec::new(), 0);
        while some.len() < ahead
            && bytes < RESOLVED_BYTES_MAX
            && let Some(slice) = slices.try_next().await?
        {
            let unread = slice.leaf.unread_bytes(slice.rows.clone());
            bytes = unread.saturating_add(bytes);
            some.push(slice);
        }
        let rows = some.iter();
        let rows = rows.map(|slice: &LeafSlice| (&*slice.leaf, slice.rows.clone()));
        loader.resolve_all(rows).await?;
        let state = (loader, slices, (2 * ahead).min(RESOLVED_MAX));
        Ok::<_, Error>((!some.is_empty()).then(|| (stream::iter(some.into_iter().map(Ok)), state)))
    })
    .try_flatten()
    .boxed()
}

/// The datoms of slices, in order, large values with their bodies.
pub(crate) async fn gathered(loader: &Arc<Loader>, slices: Slices) -> Result<Vec<Datom>> {
    let mut slices = resolved(loader, slices);
    let mut datoms = Vec::new();
    while let Some(slice) = slices.try_next().await? {
        datoms.extend(slice.rows.map(|row| slice.leaf.datom(row)));
    }
    Ok(datoms)
}

/// A sorted input of the merge of history.
struct Source {
    slices: Slices,
    buffer: VecDeque<Datom>,
}

impl Source {
    fn new(slices: Slices) -> Self {
        Self {
            slices,
            buffer: VecDeque::new(),
        }
    }

    async fn fill(&mut self) -> Result<()> {
        while self.buffer.is_empty() {
            let Some(slice) = self.slices.try_next().await? else {
                break;
            };
            self.buffer
                .extend(slice.rows.clone().map(|row| slice.leaf.datom(row)));
        }
        Ok(())
    }
}

/// A slice with net changes laid over it. All changes lie at or before its last row.
fn overlay(slice: &LeafSlice, order: TreeOrder, deltas: &[Delta]) -> Result<LeafSlice> {
    let leaf = &slice.leaf;
    let mut merged = LeafBuilder::default();
    let mut row = slice.rows.start;
    for delta in deltas {
        let found = partition_point(row..slice.rows.end, |row| {
            leaf.compare(row, order, &delta.datom).is_lt()
        });
        merged.push_run(leaf, row..found);
        row = found;
        let present = row < slice.rows.end && leaf.compare(row, order, &delta.datom).is_eq();
        if present == (delta.net == Net::Insert) {
            return Err(contradiction(&delta.datom));
        }
        if delta.net != Net::Delete {
            merged.push(&delta.datom);
        }
        row += usize::from(present);
    }
    merged.push_run(leaf, row..slice.rows.end);
    Ok(whole(merged.finish()))
}

/// The changes behind the last row of a tree: they can only be new facts.
fn appended(deltas: &[Delta]) -> Result<Option<LeafSlice>> {
    if let Some(delta) = deltas.iter().find(|delta| delta.net != Net::Insert) {
        return Err(contradiction(&delta.datom));
    }
    if deltas.is_empty() {
        return Ok(None);
    }
    let mut leaf = LeafBuilder::default();
    for delta in deltas {
        leaf.push(&delta.datom);
    }
    Ok(Some(whole(leaf.finish())))
}

fn contradiction(datom: &Datom) -> Error {
    Error::corrupt(
        format!("datom {datom}"),
        "the tail and the trees disagree on whether it holds",
    )
}

/// The rows of later transactions, or nothing.
fn later(slice: &LeafSlice, since: u64) -> Option<LeafSlice> {
    let bound = crate::datom::TxId::from_t(since).0.0;
    let tx = slice.leaf.tx();
    let mut kept = LeafBuilder::default();
    let mut row = slice.rows.start;
    while row < slice.rows.end {
        let run = row + partition_while(&tx[row..slice.rows.end], |tx| *tx > bound);
        kept.push_run(&slice.leaf, row..run);
        row = run + partition_while(&tx[run..slice.rows.end], |tx| *tx <= bound);
    }
    let leaf = kept.finish();
    (!leaf.is_empty()).then(|| whole(leaf))
}

fn partition_while(items: &[i64], keep: impl Fn(&i64) -> bool) -> usize {
    items
        .iter()
        .position(|item| !keep(item))
        .unwrap_or(items.len())
}

fn whole(leaf: Leaf) -> LeafSlice {
    LeafSlice {
        rows: 0..leaf.len(),
        leaf: Arc::new(leaf),
    }
}

fn slice_of(datoms: &[Datom]) -> Option<LeafSlice> {
    (!datoms.is_empty()).then(|| whole(Leaf::from_datoms(datoms)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datom::{Entid, TxId};
    use crate::id::PackId;
    use crate::node::{Node, NodeWriter};
    use crate::store::Store;
    use crate::value::Value;

    /// Leaves of a datom each, with these texts, as somebody finds them who has read nothing else.
    async fn leaves(store: &Store, texts: impl Iterator<Item = String>) -> (Arc<Loader>, Slices) {
        let mut packs = 0;
        let new_pack = Box::new(move || {
            packs += 1;
            PackId([packs; 16])
        });
        let loader = Arc::new(Loader::new(store.clone()));
        let mut writer = NodeWriter::new(Arc::clone(&loader), new_pack);
        let mut places = Vec::new();
        for (text, e) in texts.zip(1..) {
            let datom = Datom {
                e: Entid(e),
                a: Entid(100),
                v: Value::string(text),
                tx: TxId::from_t(1),
                added: true,
            };
            let leaf = Node::from(Leaf::from_datoms(&[datom]));
            places.push(writer.write(leaf).await.unwrap());
        }
        writer.finish().await.unwrap();
        let cold = Arc::new(Loader::new(store.clone()));
        let mut found = Vec::new();
        for node in cold.load_many(&places).await.unwrap() {
            let Node::Leaf(leaf) = &*node else {
                panic!("a leaf was written")
            };
            found.push(Ok(whole(Leaf::clone(leaf))));
        }
        (cold, stream::iter(found).boxed())
    }

    /// The leaves of a window had their bodies read each for itself: the same body as often as there were leaves,
    /// and neighbours in requests of their own.
    #[tokio::test]
    async fn the_leaves_of_a_window_read_their_bodies_together() {
        let store = Store::memory();
        // The leaves of a window say the same.
        let same = (1..32u64).map(|n| n.ilog2().to_string().repeat(4000));
        let (loader, slices) = leaves(&store, same).await;
        let before = store.requests();
        let read: Vec<_> = resolved(&loader, slices).try_collect().await.unwrap();
        assert_eq!((read.len(), loader.loads().bodies), (31, 5));
        assert_eq!((store.requests() - before).gets, 5);

        let store = Store::memory();
        let other = (0..31).map(|n| format!("{n:0>4000}"));
        let (loader, slices) = leaves(&store, other).await;
        let before = store.requests();
        let read: Vec<_> = resolved(&loader, slices).try_collect().await.unwrap();
        for slice in &read {
            let large = &slice.leaf.larges()[0];
            assert_eq!(large.text().map(str::len), Some(4000));
        }
        // 1, 2, 4, 8 and 16 of them.
        assert_eq!((store.requests() - before).gets, 5);
        assert_eq!(loader.loads().bodies, 31);
    }

    #[tokio::test]
    async fn a_window_ends_where_its_bodies_are_long() {
        let store = Store::memory();
        let (loader, slices) =
            leaves(&store, (0..15).map(|n| format!("{n:0>30}").repeat(100_000))).await;
        let mut slices = resolved(&loader, slices);
        let (mut at_once, mut before) = (Vec::new(), 0);
        while slices.try_next().await.unwrap().is_some() {
            let bodies = loader.loads().bodies;
            at_once.extend((bodies > before).then_some(bodies - before));
            before = bodies;
        }
        assert_eq!(at_once, [1, 2, 4, 6, 2]);
    }
}
