//! Writing a database anew from its log: what a purge leaves.
//!
//! The log is the truth, so trees, schema and counts follow from it; nothing of the old nodes is used, and
//! no old pack is named. Commits keep their ids.
//!
//! **Invariant.** Rebuilt from the whole log, a database has the roots that it had, and every commit says of
//! its tables what it had said.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::stream::TryStreamExt;

use super::commit::{Checkpoint, CommitRecord};
use super::head::{Head, schema_node};
use super::merge::tree_slices;
use super::stats::table_of;
use super::verify::replay::Replay;
use super::{Db, Tables};
use crate::datom::{Datom, Entid};
use crate::error::{Error, Result};
use crate::index::{Range, TreeName};
use crate::node::NodeWriter;
use crate::schema::{Schema, describes};
use crate::tree;

/// The log of a value's head, with its tail, and a record for each of its commits.
pub(crate) async fn log_and_records(db: &Db) -> Result<(Vec<Datom>, Vec<CommitRecord>)> {
    let head = &db.0.head;
    let mut log = logged(db).await?;
    log.extend_from_slice(&head.log);
    let mut records = match head.checkpoint.covered.checked_sub(1) {
        Some(last) => db.commit_records(0, last).await?,
        None => Vec::new(),
    };
    let mut parent = head.checkpoint_commit;
    for pending in &head.pending {
        let digest = pending.digest(head.log_of(pending.t));
        parent = pending.hash(parent, &digest);
        records.push(CommitRecord {
            pending: pending.clone(),
            hash: parent,
            digest,
            covered: 0,
            checkpoint: None,
            purged: Vec::new(),
        });
    }
    Ok((log, records))
}

/// The datoms of the tree of the log, large values with their bodies.
async fn logged(db: &Db) -> Result<Vec<Datom>> {
    let mut slices = tree_slices(db, db.0.head.checkpoint.tree(TreeName::Log), Range::all());
    let mut datoms = Vec::new();
    while let Some(slice) = slices.try_next().await? {
        db.loader().resolve(&slice.leaf, slice.rows.clone()).await?;
        datoms.extend(slice.rows.clone().map(|row| slice.leaf.datom(row)));
    }
    Ok(datoms)
}

/// Writes trees of this log, whose large values have their bodies, and returns the head that names them.
///
/// Its only checkpoint is the newest: older bases are replayed from the log. Nodes go to `writer`; the
/// caller finishes it before it swaps the head.
pub(crate) async fn rebuild(
    db: &Db,
    log: &[Datom],
    mut records: Vec<CommitRecord>,
    writer: &mut NodeWriter,
) -> Result<Head> {
    let old = &db.0.head;
    let log: Vec<Datom> = log
        .iter()
        .map(|datom| Datom {
            v: datom.v.unplaced(),
            ..datom.clone()
        })
        .collect();
    let mut replay = Replay::new();
    for said in log.chunk_by(|left, right| left.tx == right.tx) {
        replay
            .say(said)
            .map_err(|(datom, why)| Error::corrupt(format!("log datom {datom}"), why))?;
    }
    let mut checkpoint = Checkpoint {
        covered: old.commit.t + 1,
        // The log may have lost what it said of some.
        next_entid: db.first_unsaid(),
        ..Checkpoint::default()
    };
    for tree in &mut checkpoint.trees {
        *tree = if tree.name == TreeName::Log {
            tree::build(writer, tree.name, log.iter().cloned()).await?
        } else {
            tree::build(writer, tree.name, replay.datoms(tree.name)).await?
        };
    }
    if replay.schema.facts().next().is_some() {
        checkpoint.schema = Some(writer.write(schema_node(&replay.schema)).await?);
    }
    let mut census = Census::default();
    let mut rest = &log[..];
    for record in &mut records {
        let (said, behind) =
            rest.split_at(rest.partition_point(|datom| datom.tx.t() <= record.pending.t));
        record.pending.tables = census.count(said);
        record.checkpoint = None;
        record.covered = 0;
        rest = behind;
    }
    checkpoint.tables = census.tables.into_iter().collect();
    let (mut commit, mut instant) = (old.checkpoint_commit, old.checkpoint_instant);
    if let Some(last) = records.last_mut() {
        last.covered = checkpoint.covered;
        last.checkpoint = Some(checkpoint.clone());
        (commit, instant) = (last.hash, last.pending.instant);
    }
    let commits = records.iter().map(CommitRecord::to_datom);
    Ok(Head {
        commits: tree::build(writer, TreeName::Commits, commits).await?,
        checkpoint,
        checkpoint_commit: commit,
        checkpoint_instant: instant,
        schema: Some(replay.schema),
        pending: Vec::new(),
        log: Vec::new(),
        ..Head::clone(old)
    })
}

/// How many entities each table has, transaction by transaction.
struct Census {
    schema: Schema,
    /// How many facts each entity has of each attribute.
    facts: HashMap<(Entid, Entid), u64>,
    /// How many facts each entity has in each table.
    members: HashMap<(Arc<str>, Entid), u64>,
    tables: Tables,
}

impl Default for Census {
    fn default() -> Self {
        Self {
            schema: Schema::bootstrap(),
            facts: HashMap::new(),
            members: HashMap::new(),
            tables: Tables::new(),
        }
    }
}

impl Census {
    /// Takes in what a transaction said; returns the tables whose number it changed.
    fn count(&mut self, said: &[Datom]) -> Vec<(Arc<str>, u64)> {
        let before = said.iter().any(|datom| describes(datom.a)).then(|| {
            let before = self.schema.clone();
            self.schema.fold(said);
            before
        });
        let mut touched: BTreeSet<Arc<str>> = BTreeSet::new();
        let known = self.tables.clone();
        for datom in said {
            let count = self.facts.entry((datom.a, datom.e)).or_default();
            *count = if datom.added {
                *count + 1
            } else {
                count.saturating_sub(1)
            };
            // A name that a transaction changes takes effect behind it.
            let schema = before.as_ref().unwrap_or(&self.schema);
            if let Some(table) = table_in(schema, datom.a) {
                self.member(Arc::clone(&table), datom.e, datom.added);
                touched.insert(table);
            }
        }
        if before.is_some_and(|before| self.moved(&before)) {
            self.recount();
            touched.extend(self.tables.keys().cloned());
        }
        let number = |tables: &Tables, table: &Arc<str>| tables.get(table).copied().unwrap_or(0);
        touched
            .into_iter()
            .map(|table| (number(&known, &table), number(&self.tables, &table), table))
            .filter(|(before, now, _)| before != now)
            .map(|(_, now, table)| (table, now))
            .collect()
    }

    fn member(&mut self, table: Arc<str>, e: Entid, added: bool) {
        let facts = self.members.entry((Arc::clone(&table), e)).or_default();
        let count = self.tables.entry(table).or_default();
        if added {
            *count += u64::from(*facts == 0);
            *facts += 1;
        } else {
            *facts = facts.saturating_sub(1);
            *count -= u64::from(*facts == 0 && *count > 0);
        }
    }

    /// Whether an attribute is in another table than it was.
    fn moved(&self, before: &Schema) -> bool {
        before
            .attributes()
            .any(|old| table_in(before, old.id) != table_in(&self.schema, old.id))
    }

    fn recount(&mut self) {
        self.members.clear();
        self.tables.values_mut().for_each(|count| *count = 0);
        let facts: Vec<_> = self.facts.iter().map(|((a, e), n)| (*a, *e, *n)).collect();
        for (a, e, count) in facts {
            if let Some(table) = table_in(&self.schema, a) {
                (0..count).for_each(|_| self.member(Arc::clone(&table), e, true));
            }
        }
    }
}

fn table_in(schema: &Schema, a: Entid) -> Option<Arc<str>> {
    let attribute = schema.attribute(a)?;
    table_of(&attribute.ident).map(Arc::from)
}
