//! Editing: a sorted batch of changes makes a new tree that shares all untouched nodes with the old one.
//!
//! Levels are edited from the leaves up, each as one sequence of items:
//!
//! ```text
//! old nodes   [a b c] [d e f] [g h i] [j k l]      change: delete e, insert f½
//!                     └───────────────┘
//! region              [d f] [f½ g h i]             from the first touched node until a cut
//!                                                  falls where an old cut was
//! ```
//!
//! The nodes of a region are read, merged with the changes and cut anew; runs of rows are copied column by
//! column. What was taken out and put in is the batch of changes for the level above. Because a cut depends
//! only on what lies between it and the previous one, everything behind the region stays as it is, and the
//! result has the root that a bulk build of the same datoms has.

mod cursor;

use self::cursor::Cursor;
use super::boundary::{InnerCutter, Limits};
use super::build::{Builder, Leaves, Upper, write_inner};
use super::{InnerNode, Root, Tree, leaf_of};
use crate::datom::Datom;
use crate::error::{Error, Result};
use crate::index::TreeOrder;
use crate::node::{Child, Leaf, Loader, NodeWriter};

/// A change to the set of datoms.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Puts a datom in. If its key is there, its `tx` and `added` take the place of the old ones.
    Insert(Datom),
    /// Takes the datom with the key of this one out.
    Delete(Datom),
}

impl Change {
    /// The key that changes.
    pub fn key(&self) -> &Datom {
        match self {
            Self::Insert(datom) | Self::Delete(datom) => datom,
        }
    }
}

/// What an edit did.
#[derive(Clone, Debug, PartialEq)]
pub struct Edited {
    /// The new tree.
    pub tree: Tree,
    /// The datoms that were deleted, as they were stored, in order.
    pub removed: Vec<Datom>,
    /// The datoms whose place an insertion of the same key took, as they were stored, in order.
    pub replaced: Vec<Datom>,
    /// Deletions that found nothing.
    pub missing: u64,
}

/// Applies changes, which ascend strictly by key, to a tree.
///
/// Reads and writes a path of *height + 1* nodes for each touched leaf, and now and then a neighbour.
///
/// # Errors
///
/// [`Error::Invalid`] if the changes do not ascend; [`Error::Corrupt`], [`Error::Store`].
pub async fn edit(
    loader: &Loader,
    writer: &mut NodeWriter,
    tree: &Tree,
    changes: &[Change],
) -> Result<Edited> {
    // On the heap, because it holds the columns of an open leaf.
    Box::pin(edit_within(
        loader,
        writer,
        tree,
        changes,
        Limits::of(tree.name),
    ))
    .await
}

/// [`edit`] of a tree that was built with these limits.
pub(crate) async fn edit_within(
    loader: &Loader,
    writer: &mut NodeWriter,
    tree: &Tree,
    changes: &[Change],
    limits: Limits,
) -> Result<Edited> {
    let order = tree.name.order();
    if !changes.is_sorted_by(|left, right| order.compare(left.key(), right.key()).is_lt()) {
        return Err(Error::invalid(format!(
            "changes of tree {} do not ascend",
            tree.name
        )));
    }
    let mut edited = Edited {
        tree: *tree,
        removed: Vec::new(),
        replaced: Vec::new(),
        missing: 0,
    };
    let Some(root) = tree.root else {
        let mut builder = Builder::with_limits(writer, tree.name, limits);
        for change in changes {
            match change {
                Change::Insert(datom) => builder.push(datom.clone()).await?,
                Change::Delete(_) => edited.missing += 1,
            }
        }
        edited.tree = builder.finish().await?;
        return Ok(edited);
    };
    let mut edit = Edit {
        loader,
        writer,
        tree,
        root,
        limits,
    };
    let mut swaps = edit.leaves(changes, &mut edited).await?;
    for level in 1..=root.level {
        if swaps.is_empty() {
            return Ok(edited);
        }
        if let Some(only) = edit.collapse(level - 1, &swaps).await? {
            edited.tree.root = only;
            return Ok(edited);
        }
        swaps = edit.inner(level, swaps).await?;
    }
    if !swaps.is_empty() {
        // The root was replaced, so what was put in is all of its level.
        edited.tree.root = edit.grow(swaps).await?;
    }
    Ok(edited)
}

/// What an edit of one level did to the sequence of its nodes.
#[derive(Debug)]
enum Swap {
    /// The node with this last key was taken out.
    Out(Datom),
    /// This node was put in, perhaps in the place of one with the same last key.
    In(Child),
}

/// Has a key that decides its place in a sequence.
trait Keyed {
    fn key(&self) -> &Datom;
}

impl Keyed for Change {
    fn key(&self) -> &Datom {
        self.key()
    }
}

impl Keyed for Swap {
    fn key(&self) -> &Datom {
        match self {
            Self::Out(last) => last,
            Self::In(child) => &child.last,
        }
    }
}

struct Edit<'a> {
    loader: &'a Loader,
    writer: &'a mut NodeWriter,
    tree: &'a Tree,
    root: Root,
    limits: Limits,
}

impl Edit<'_> {
    fn order(&self) -> TreeOrder {
        self.tree.name.order()
    }

    /// Edits the leaves.
    async fn leaves(&mut self, changes: &[Change], edited: &mut Edited) -> Result<Vec<Swap>> {
        let order = self.order();
        let mut cursor = Cursor::new(self.loader, order, self.root, 0);
        let mut sink = Leaves::new(self.writer, self.tree.name, self.limits);
        let mut swaps = Swaps::new(order, self.root.level == 0);
        let mut rest = changes;
        while let Some(first) = rest.first() {
            cursor.seek(rest).await?;
            // A datom behind the last one of a leaf belongs to that leaf if it is of the same entity.
            let behind_last = cursor
                .previous_last()
                .is_some_and(|last| sink.cutter.together(&last, first.key()));
            if behind_last {
                cursor.back().await?;
            }
            loop {
                let place = cursor.place();
                let leaf = leaf_of(&*cursor.load().await?, &place)?;
                if leaf.is_empty() {
                    return Err(Error::corrupt(place.id, "a leaf is empty"));
                }
                let parts_entity = sink.cutter.may_part_entity(&leaf);
                let is_last = cursor.is_last();
                let here = if is_last {
                    rest.len()
                } else {
                    let last = leaf.datom(leaf.len() - 1);
                    rest.partition_point(|change| {
                        order.compare(change.key(), &last).is_le()
                            || (!parts_entity && sink.cutter.together(&last, change.key()))
                    })
                };
                let (mine, others) = rest.split_at(here);
                let steps = steps(order, &leaf, mine, edited);
                rest = others;
                let clean = sink.is_clear() && swaps.region_is_empty();
                if clean && steps.is_empty() {
                    // Only a leaf that was looked at because an entity may go on behind it comes here with
                    // changes left for the next one.
                    if mine.is_empty() && cursor.next().await? {
                        continue;
                    }
                    break;
                }
                merge(&mut sink, &leaf, steps, edited).await?;
                swaps.out(Child {
                    last: leaf.datom(leaf.len() - 1),
                    id: place.id,
                    count: place.count,
                    location: place.location,
                });
                let resynced = sink.is_clear()
                    || sink.cutter.ends_at_once()
                    || (!parts_entity && sink.cutter.ends());
                if is_last || resynced {
                    break;
                }
                cursor.next().await?;
            }
            sink.flush().await?;
            swaps.end_region(&mut sink.written);
        }
        Ok(swaps.finished)
    }

    /// Edits the nodes of an inner level, whose children were swapped.
    async fn inner(&mut self, level: u8, changes: Vec<Swap>) -> Result<Vec<Swap>> {
        let order = self.order();
        let mut cursor = Cursor::new(self.loader, order, self.root, level);
        let mut sink = Inners {
            writer: self.writer,
            tree: self.tree,
            level,
            cutter: InnerCutter::new(self.tree.name, level, self.limits),
            open: Vec::new(),
            written: Vec::new(),
        };
        let mut swaps = Swaps::new(order, self.root.level == level);
        let mut rest = &changes[..];
        while !rest.is_empty() {
            cursor.seek(rest).await?;
            loop {
                let place = cursor.place();
                let node = InnerNode::try_new(cursor.load().await?, &place)?;
                let last = node.last_keys().datom(node.len() - 1);
                let is_last = cursor.is_last();
                let here = if is_last {
                    rest.len()
                } else {
                    rest.partition_point(|swap| order.compare(swap.key(), &last).is_le())
                };
                let (mine, others) = rest.split_at(here);
                rest = others;
                sink.merge(order, &node, mine).await?;
                swaps.out(Child {
                    last,
                    id: place.id,
                    count: place.count,
                    location: place.location,
                });
                if is_last || sink.open.is_empty() || sink.cutter.ends() {
                    break;
                }
                cursor.next().await?;
            }
            sink.flush().await?;
            swaps.end_region(&mut sink.written);
        }
        Ok(swaps.finished)
    }

    /// If at most one node is left on a level below the root's, that is the new root: `Some(root)`.
    async fn collapse(&mut self, level: u8, swaps: &[Swap]) -> Result<Option<Option<Root>>> {
        let put_in: Vec<&Child> = swaps
            .iter()
            .filter_map(|swap| {
                if let Swap::In(child) = swap {
                    Some(child)
                } else {
                    None
                }
            })
            .collect();
        let root = InnerNode::load(self.loader, &self.root).await?;
        // Every swap takes out at most one node, and the level has at least as many as the root has children.
        if put_in.len() > 1 || root.len() + put_in.len() >= swaps.len() + 2 {
            return Ok(None);
        }
        let order = self.order();
        let mut left: Vec<Root> = put_in.iter().map(|child| Root::new(child, level)).collect();
        let mut cursor = Cursor::new(self.loader, order, self.root, level);
        let mut taken_out = swaps.iter().peekable();
        cursor.start().await?;
        loop {
            let last = cursor.last();
            while taken_out
                .next_if(|swap| order.compare(swap.key(), &last).is_lt())
                .is_some()
            {}
            if taken_out
                .peek()
                .is_none_or(|swap| order.compare(swap.key(), &last).is_gt())
            {
                left.push(cursor.place());
            }
            if left.len() > 1 {
                return Ok(None);
            }
            if !cursor.next().await? {
                return Ok(Some(left.pop()));
            }
        }
    }

    /// Builds levels above the old root's until one node is left.
    async fn grow(&mut self, swaps: Vec<Swap>) -> Result<Option<Root>> {
        let above = self.root.level + 1;
        let mut upper = Upper::new(self.tree.name, above, self.limits);
        for swap in swaps {
            if let Swap::In(child) = swap {
                upper.push(self.writer, child).await?;
            }
        }
        upper.finish(self.writer).await
    }
}

/// One effective change of a leaf.
struct Step<'c> {
    /// The row with the key of the change, or the one to insert before.
    at: usize,
    /// Whether the row has the key.
    found: bool,
    change: &'c Change,
}

/// Finds the rows that changes concern and leaves out changes without effect.
fn steps<'c>(
    order: TreeOrder,
    leaf: &Leaf,
    changes: &'c [Change],
    edited: &mut Edited,
) -> Vec<Step<'c>> {
    let mut steps = Vec::with_capacity(changes.len());
    for change in changes {
        let key = change.key();
        let at = leaf.lower_bound(order, key);
        let found = at < leaf.len() && leaf.compare(at, order, key).is_eq();
        match change {
            Change::Delete(_) if !found => edited.missing += 1,
            Change::Insert(datom)
                if found && leaf.tx()[at] == datom.tx.0.0 && leaf.is_added(at) == datom.added => {}
            _ => steps.push(Step { at, found, change }),
        }
    }
    steps
}

/// Appends the rows of a leaf, changed.
async fn merge(
    sink: &mut Leaves<'_>,
    leaf: &Leaf,
    steps: Vec<Step<'_>>,
    edited: &mut Edited,
) -> Result<()> {
    let mut row = 0;
    if sink.is_clear() {
        // Both sequences are equal up to the first change, so nothing ends before it. Only the last row of
        // the leaf may be one that ends a leaf.
        let first = steps.first().map_or(leaf.len(), |step| step.at);
        row = first.min(leaf.len() - 1);
        sink.skip_run(leaf, 0..row);
    }
    for step in steps {
        sink.push_run(leaf, row..step.at).await?;
        row = step.at + usize::from(step.found);
        match step.change {
            Change::Insert(datom) => {
                if step.found {
                    edited.replaced.push(leaf.datom(step.at));
                }
                sink.push(datom).await?;
            }
            Change::Delete(_) => edited.removed.push(leaf.datom(step.at)),
        }
    }
    sink.push_run(leaf, row..leaf.len()).await
}

/// Chunks children into inner nodes of one level and writes them.
struct Inners<'a> {
    writer: &'a mut NodeWriter,
    tree: &'a Tree,
    level: u8,
    cutter: InnerCutter,
    open: Vec<Child>,
    written: Vec<Child>,
}

impl Inners<'_> {
    /// Appends the children of a node, swapped.
    async fn merge(&mut self, order: TreeOrder, node: &InnerNode, swaps: &[Swap]) -> Result<()> {
        let mut at = 0;
        for swap in swaps {
            let position = node.position(order, swap.key());
            for i in at..position {
                self.push(node.child(i)).await?;
            }
            let found = position < node.len()
                && node
                    .last_keys()
                    .compare(position, order, swap.key())
                    .is_eq();
            at = position + usize::from(found);
            if let Swap::In(child) = swap {
                self.push(child.clone()).await?;
            }
        }
        for i in at..node.len() {
            self.push(node.child(i)).await?;
        }
        Ok(())
    }

    async fn push(&mut self, child: Child) -> Result<()> {
        if self.cutter.push(&child) {
            self.write().await?;
        }
        self.open.push(child);
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        if !self.open.is_empty() {
            self.write().await?;
        }
        self.cutter.clear();
        Ok(())
    }

    async fn write(&mut self) -> Result<()> {
        let children = std::mem::take(&mut self.open);
        let node = write_inner(self.writer, self.tree.name, self.level, children).await?;
        self.written.push(node);
        Ok(())
    }
}

/// Collects what happens to the nodes of a level, region by region.
struct Swaps {
    order: TreeOrder,
    /// Whether this is the level of the root, where nobody else knows of a node that stays.
    is_top: bool,
    /// Nodes taken out in the open region.
    out: Vec<Child>,
    finished: Vec<Swap>,
}

impl Swaps {
    fn new(order: TreeOrder, is_top: bool) -> Self {
        Self {
            order,
            is_top,
            out: Vec::new(),
            finished: Vec::new(),
        }
    }

    fn region_is_empty(&self) -> bool {
        self.out.is_empty()
    }

    fn out(&mut self, node: Child) {
        self.out.push(node);
    }

    /// Ends the region: the nodes taken out make room for those that were written.
    fn end_region(&mut self, written: &mut Vec<Child>) {
        let names_all = self.is_top && written.len() > 1;
        let mut old = self.out.drain(..).peekable();
        for child in written.drain(..) {
            while let Some(gone) =
                old.next_if(|old| self.order.compare(&old.last, &child.last).is_lt())
            {
                self.finished.push(Swap::Out(gone.last));
            }
            let same_key = old.next_if(|old| self.order.compare(&old.last, &child.last).is_eq());
            // A node that came out as it went in stays where it is.
            if names_all || same_key.is_none_or(|old| old.id != child.id) {
                self.finished.push(Swap::In(child));
            }
        }
        self.finished.extend(old.map(|gone| Swap::Out(gone.last)));
    }
}
