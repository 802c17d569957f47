//! `datomfusion stats URL`

use std::io::Write;

use clap::Args;

use super::{Failure, Out};
use crate::db::Db;
use crate::db::basis::TimePoint;
use crate::index::{Index, Range};
use crate::node::{Loader, Node};
use crate::tree::Tree;

/// Print what a database consists of.
#[derive(Args, Debug)]
pub(super) struct Stats {
    /// The database, at a basis if you like
    url: String,
}

/// What a tree is made of.
#[derive(Default)]
struct Shape {
    height: u8,
    inner: u64,
    leaves: u64,
    /// Of the frames as they are stored.
    bytes: u64,
}

impl Stats {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let db = Db::open_url(&self.url).await?;
        let head = &db.0.head;
        let tail = &db.0.tail;
        writeln!(out, "store      {}", db.store().location())?;
        writeln!(out, "database   {}", db.database_id())?;
        writeln!(out, "branch     {}, commit {}", db.branch(), head.commit)?;
        let instant = TimePoint::Instant(db.basis_instant());
        writeln!(out, "basis      t={}, {instant}", db.basis_t())?;
        let (said, transactions) = (tail.log().len(), tail.pending().len());
        writeln!(
            out,
            "tail       {said} datoms of {transactions} transactions"
        )?;
        let facts = db.count(Index::Eavt, &Range::all()).await?;
        writeln!(out, "facts      {facts}")?;
        let schema = db.schema();
        let (attributes, idents) = (schema.attributes().count(), schema.idents().count());
        writeln!(out, "schema     {attributes} attributes, {idents} idents")?;
        for (table, entities) in db.0.tables.iter().filter(|(_, entities)| **entities > 0) {
            let name = if table.is_empty() {
                "(no namespace)"
            } else {
                table
            };
            writeln!(out, "entities   {entities:>10}  {name}")?;
        }
        writeln!(
            out,
            "\n{:<14} {:>10} {:>7} {:>7} {:>8} {:>12}",
            "tree", "datoms", "height", "inner", "leaves", "bytes"
        )?;
        let mut total = Shape::default();
        let mut datoms = 0;
        for tree in db.0.checkpoint.trees.iter().chain([&head.commits]) {
            let shape = shape(db.loader(), tree).await?;
            write_row(&mut out, &tree.name.to_string(), tree.count(), &shape)?;
            datoms += tree.count();
            total.height = total.height.max(shape.height);
            total.inner += shape.inner;
            total.leaves += shape.leaves;
            total.bytes += shape.bytes;
        }
        write_row(&mut out, "total", datoms, &total)?;
        let requests = db.store().requests();
        writeln!(
            out,
            "\nthis took {} GETs of {} bytes, {} PUTs, {} LISTs",
            requests.gets, requests.bytes_read, requests.puts, requests.lists
        )?;
        let loads = db.loader().loads();
        writeln!(out, "found in memory: {} nodes and values", loads.hits)?;
        if let Some(cache) = db.store().disk_cache() {
            writeln!(
                out,
                "found on disk: {} frames of {} bytes, in {}",
                loads.disk_hits,
                loads.disk_bytes,
                cache.path().display()
            )?;
        }
        out.flush()?;
        Ok(())
    }
}

fn write_row(out: &mut Out, name: &str, datoms: u64, shape: &Shape) -> std::io::Result<()> {
    let Shape {
        height,
        inner,
        leaves,
        bytes,
    } = shape;
    writeln!(
        out,
        "{name:<14} {datoms:>10} {height:>7} {inner:>7} {leaves:>8} {bytes:>12}"
    )
}

/// Reads the inner nodes of a tree; they tell what there is to know about the leaves.
async fn shape(loader: &Loader, tree: &Tree) -> Result<Shape, Failure> {
    let mut shape = Shape::default();
    let Some(root) = &tree.root else {
        return Ok(shape);
    };
    shape.height = root.level + 1;
    let mut pending = vec![(root.id, root.location, root.level)];
    while let Some((id, location, level)) = pending.pop() {
        shape.bytes += u64::from(location.len);
        if level == 0 {
            shape.leaves += 1;
            continue;
        }
        shape.inner += 1;
        if let Node::Inner(inner) = &*loader.load(id, location).await? {
            let children = inner.children();
            pending.extend(children.map(|child| (child.id, child.location, level - 1)));
        }
    }
    Ok(shape)
}
