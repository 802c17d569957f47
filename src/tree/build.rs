//! Bulk building: a sorted sequence of datoms becomes a tree.
//!
//! Datoms pass through one chunker a level, from the leaves up; a node is written as soon as it is known to
//! end, so memory holds one open node a level, and leaves are written in key order.

use std::ops::Range;

use futures::{Stream, StreamExt as _};

use super::boundary::{InnerCutter, LeafCutter, Limits};
use super::{Root, Tree};
use crate::datom::Datom;
use crate::error::{Error, Result};
use crate::index::TreeName;
use crate::node::{Child, Inner, Leaf, LeafBuilder, Node, NodeWriter};

/// Builds a tree from datoms in ascending order.
///
/// # Errors
///
/// [`Error::Invalid`] if the datoms do not ascend strictly in the order of the tree; [`Error::Store`].
pub async fn build(
    writer: &mut NodeWriter,
    name: TreeName,
    datoms: impl IntoIterator<Item = Datom>,
) -> Result<Tree> {
    let mut builder = Builder::new(writer, name);
    builder.push_all(datoms).await?;
    builder.finish().await
}

/// Builds a tree from a stream of datoms in ascending order.
///
/// # Errors
///
/// Those of [`build`] and of the stream.
pub async fn build_stream(
    writer: &mut NodeWriter,
    name: TreeName,
    datoms: impl Stream<Item = Result<Datom>>,
) -> Result<Tree> {
    let mut builder = Builder::new(writer, name);
    let mut datoms = std::pin::pin!(datoms);
    while let Some(datom) = datoms.next().await {
        builder.push(datom?).await?;
    }
    builder.finish().await
}

/// Builds a tree from datoms pushed one by one, in ascending order.
pub struct Builder<'w> {
    name: TreeName,
    leaves: Leaves<'w>,
    upper: Upper,
    last: Option<Datom>,
}

impl<'w> Builder<'w> {
    /// An empty tree to push into.
    pub fn new(writer: &'w mut NodeWriter, name: TreeName) -> Self {
        Self::with_limits(writer, name, Limits::of(name))
    }

    pub(crate) fn with_limits(writer: &'w mut NodeWriter, name: TreeName, limits: Limits) -> Self {
        Self {
            name,
            leaves: Leaves::new(writer, name, limits),
            upper: Upper::new(name, 1, limits),
            last: None,
        }
    }

    /// Appends a datom.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if it does not lie behind the previous one; [`Error::Store`].
    pub async fn push(&mut self, datom: Datom) -> Result<()> {
        if let Some(last) = &self.last
            && self.name.order().compare(last, &datom).is_ge()
        {
            return Err(Error::invalid(format!(
                "datoms for tree {} do not ascend: {datom} follows {last}",
                self.name
            )));
        }
        self.leaves.push(&datom).await?;
        self.last = Some(datom);
        if !self.leaves.written.is_empty() {
            self.lift().await?;
        }
        Ok(())
    }

    /// Appends datoms.
    ///
    /// # Errors
    ///
    /// Those of [`Builder::push`].
    pub async fn push_all(&mut self, datoms: impl IntoIterator<Item = Datom>) -> Result<()> {
        for datom in datoms {
            self.push(datom).await?;
        }
        Ok(())
    }

    /// Writes what is still open and returns the tree.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn finish(mut self) -> Result<Tree> {
        self.leaves.flush().await?;
        self.lift().await?;
        Ok(Tree {
            name: self.name,
            root: self.upper.finish(self.leaves.writer).await?,
        })
    }

    /// Passes finished leaves to the level above.
    async fn lift(&mut self) -> Result<()> {
        for leaf in self.leaves.written.drain(..) {
            self.upper.push(self.leaves.writer, leaf).await?;
        }
        Ok(())
    }
}

/// Chunks datoms into leaves and writes them.
pub(super) struct Leaves<'w> {
    pub(super) writer: &'w mut NodeWriter,
    pub(super) cutter: LeafCutter,
    /// Leaves that have been written, in order; the owner takes them out.
    pub(super) written: Vec<Child>,
    open: LeafBuilder,
}

impl<'w> Leaves<'w> {
    pub(super) fn new(writer: &'w mut NodeWriter, name: TreeName, limits: Limits) -> Self {
        Self {
            writer,
            cutter: LeafCutter::new(name, limits),
            written: Vec::new(),
            open: LeafBuilder::default(),
        }
    }

    /// Whether no leaf is open.
    pub(super) fn is_clear(&self) -> bool {
        self.open.is_empty()
    }

    /// Appends a datom.
    #[inline]
    pub(super) async fn push(&mut self, datom: &Datom) -> Result<()> {
        if self.cutter.push(datom) {
            self.write().await?;
        }
        self.open.push(datom);
        Ok(())
    }

    /// Appends rows of a leaf, copying columns.
    pub(super) async fn push_run(&mut self, leaf: &Leaf, rows: Range<usize>) -> Result<()> {
        let mut from = rows.start;
        for i in rows.clone() {
            if self.cutter.push_row(leaf, i) {
                self.open.push_run(leaf, from..i);
                from = i;
                self.write().await?;
            }
        }
        self.open.push_run(leaf, from..rows.end);
        Ok(())
    }

    /// Appends rows of a leaf of which it is known that no leaf ends before or after any of them.
    pub(super) fn skip_run(&mut self, leaf: &Leaf, rows: Range<usize>) {
        self.cutter.skip(leaf, rows.clone());
        self.open.push_run(leaf, rows);
    }

    /// Ends the open leaf, if there is one.
    pub(super) async fn flush(&mut self) -> Result<()> {
        if !self.open.is_empty() {
            self.write().await?;
        }
        self.cutter.clear();
        Ok(())
    }

    async fn write(&mut self) -> Result<()> {
        let rows = self.open.len();
        let leaf = std::mem::replace(&mut self.open, LeafBuilder::with_capacity(rows)).finish();
        let last = leaf.datom(rows - 1);
        let (id, location) = self.writer.write(Node::from(leaf)).await?;
        self.written.push(Child {
            last,
            id,
            count: rows as u64,
            location,
        });
        Ok(())
    }
}

/// The levels above a sequence of nodes: chunks children into inner nodes until one node is left.
pub(super) struct Upper {
    name: TreeName,
    limits: Limits,
    /// The level of the first element of `levels`.
    base: u8,
    levels: Vec<Level>,
}

/// The open node of one level.
struct Level {
    cutter: InnerCutter,
    children: Vec<Child>,
    /// Whether a node of this level has been written.
    written: bool,
}

impl Upper {
    /// The levels from `base` upwards, over nodes of level `base − 1`.
    pub(super) fn new(name: TreeName, base: u8, limits: Limits) -> Self {
        Self {
            name,
            limits,
            base,
            levels: Vec::new(),
        }
    }

    /// Appends a node of level `base − 1`.
    pub(super) async fn push(&mut self, writer: &mut NodeWriter, child: Child) -> Result<()> {
        self.push_at(0, writer, child).await
    }

    async fn push_at(
        &mut self,
        mut at: usize,
        writer: &mut NodeWriter,
        mut child: Child,
    ) -> Result<()> {
        loop {
            let number = level_number(self.base, at)?;
            if at == self.levels.len() {
                let cutter = InnerCutter::new(self.name, number, self.limits);
                self.levels.push(Level {
                    cutter,
                    children: Vec::new(),
                    written: false,
                });
            }
            let level = &mut self.levels[at];
            let ends = level.cutter.push(&child);
            level.children.push(child);
            if !ends {
                return Ok(());
            }
            let next = level.children.pop().expect("the child was just pushed");
            let full = std::mem::replace(&mut level.children, vec![next]);
            level.written = true;
            child = write_inner(writer, self.name, number, full).await?;
            at += 1;
        }
    }

    /// Ends all levels. The root is the only node of the lowest level that has only one.
    pub(super) async fn finish(mut self, writer: &mut NodeWriter) -> Result<Option<Root>> {
        let mut at = 0;
        while let Some(level) = self.levels.get_mut(at) {
            let mut children = std::mem::take(&mut level.children);
            if !level.written && children.len() == 1 {
                let only = children.pop().expect("there is one child");
                return Ok(Some(Root::new(&only, level_number(self.base, at)? - 1)));
            }
            let number = level_number(self.base, at)?;
            let node = write_inner(writer, self.name, number, children).await?;
            at += 1;
            self.push_at(at, writer, node).await?;
        }
        Ok(None)
    }
}

fn level_number(base: u8, at: usize) -> Result<u8> {
    u8::try_from(at)
        .ok()
        .and_then(|at| base.checked_add(at))
        .filter(|level| *level <= Tree::LEVEL_MAX)
        .ok_or_else(|| Error::invalid("a tree is too high"))
}

/// Writes an inner node over these children.
pub(super) async fn write_inner(
    writer: &mut NodeWriter,
    name: TreeName,
    level: u8,
    children: Vec<Child>,
) -> Result<Child> {
    let last = children
        .last()
        .expect("an inner node is never empty")
        .last
        .clone();
    let inner = Inner::try_new(name.order(), level, children)?;
    let count = inner.count();
    let (id, location) = writer.write(Node::Inner(inner)).await?;
    Ok(Child {
        last,
        id,
        count,
        location,
    })
}
