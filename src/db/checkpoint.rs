//! A checkpoint: merging a tail into the trees.
//!
//! A superseded fact moves to history with the `tx` that had asserted it; the log takes every datom. An
//! attribute whose place in AVET changed is filled in or taken out whole, from AEVT.

use std::sync::Arc;

use futures::stream::TryStreamExt;

use super::commit::{Checkpoint, CommitRecord};
use super::head::{Head, schema_node};
use super::merge::tree_slices;
use super::tail::{Delta, Net};
use super::{Db, lies_in_avet};
use crate::datom::{Datom, Entid};
use crate::error::{Error, Result};
use crate::id::CommitHash;
use crate::index::{Components, Edge, Index, Range, TreeName, TreeOrder};
use crate::node::NodeWriter;
use crate::schema::Schema;
use crate::tree::{self, Change, Tree};

/// Merges the whole tail of `db` into its trees and returns the head that then stands for it.
///
/// `db` is a value whose `head` lists all its commits as pending, and `digests` are those of the last of
/// them, as far as they are known. Nodes go to `writer`; the caller finishes it before it swaps the head.
pub(crate) async fn checkpoint(
    db: &Db,
    digests: &[[u8; 32]],
    writer: &mut NodeWriter,
) -> Result<Head> {
    let trees = merge_tail(db, writer).await?;
    let schema = if db.0.schema.facts().eq(db.0.checkpoint_schema.facts()) {
        db.0.checkpoint.schema
    } else if db.0.schema.facts().next().is_none() {
        None
    } else {
        Some(writer.write(schema_node(&db.0.schema)).await?)
    };
    let checkpoint = Checkpoint {
        covered: db.0.t + 1,
        trees,
        schema,
        tables: db
            .0
            .tables
            .iter()
            .map(|(name, count)| (Arc::clone(name), *count))
            .collect(),
        next_entid: db.first_unsaid(),
    };
    let (commits, commit) = record_commits(db, &checkpoint, digests, writer).await?;
    Ok(Head {
        checkpoint,
        checkpoint_commit: commit,
        checkpoint_instant: db.0.instant,
        commits,
        schema: Some(Schema::clone(&db.0.schema)),
        ..db.0.head.without_tail()
    })
}

/// Writes a record for each commit of the tail; returns the new tree and the hash of the last.
async fn record_commits(
    db: &Db,
    checkpoint: &Checkpoint,
    digests: &[[u8; 32]],
    writer: &mut NodeWriter,
) -> Result<(Tree, CommitHash)> {
    let head = &db.0.head;
    let mut parent = head.checkpoint_commit;
    let mut changes = Vec::with_capacity(head.pending.len());
    let unknown = head.pending.len().saturating_sub(digests.len());
    for (at, pending) in head.pending.iter().enumerate() {
        // Each datom is hashed for it, so it is taken from whoever has it.
        let digest = match at.checked_sub(unknown) {
            Some(known) => digests[known],
            None => pending.digest(head.log_of(pending.t)),
        };
        debug_assert_eq!(digest, pending.digest(head.log_of(pending.t)));
        let last = pending.t == db.0.t;
        let record = CommitRecord {
            hash: pending.hash(parent, &digest),
            pending: pending.clone(),
            digest,
            covered: if last {
                checkpoint.covered
            } else {
                head.checkpoint.covered
            },
            checkpoint: last.then(|| checkpoint.clone()),
            purged: Vec::new(),
        };
        parent = record.hash;
        changes.push(Change::Insert(record.to_datom()));
    }
    let edited = tree::edit(db.loader(), writer, &head.commits, &changes).await?;
    Ok((edited.tree, parent))
}

/// The tree of commits with nothing but those below `t`: that of a branch that leaves here.
///
/// Reads the records from `t` on, without their bodies.
pub(crate) async fn commits_until(db: &Db, t: u64, writer: &mut NodeWriter) -> Result<Tree> {
    let commits = &db.0.head.commits;
    if t == 0 {
        return Ok(Tree::empty(TreeName::Commits));
    }
    let from = Some(Edge {
        at: Components::all().e(Entid(i64::try_from(t).unwrap_or(i64::MAX))),
        inclusive: true,
    });
    let mut slices = tree_slices(db, commits, Range { from, to: None });
    let mut later = Vec::new();
    while let Some(slice) = slices.try_next().await? {
        let rows = slice.rows.clone();
        later.extend(rows.map(|row| Change::Delete(slice.leaf.datom(row))));
    }
    Ok(tree::edit(db.loader(), writer, commits, &later).await?.tree)
}

/// The seven trees with the tail in them.
async fn merge_tail(db: &Db, writer: &mut NodeWriter) -> Result<[Tree; 7]> {
    let old = &db.0.checkpoint;
    let tail = &db.0.tail;
    let eavt = edit(
        db,
        writer,
        TreeName::Eavt,
        changes(tail.deltas(Index::Eavt)),
    )
    .await?;
    let aevt = edit(
        db,
        writer,
        TreeName::Aevt,
        changes(tail.deltas(Index::Aevt)),
    )
    .await?;

    // What the trees held and the tail superseded comes out of the trees, with its `tx`.
    let ends = Ends::of(tail.log(), &db.0.checkpoint_schema);
    let mut superseded: Vec<Datom> = eavt.removed;
    superseded.extend(eavt.replaced);
    superseded.extend(tail.superseded().cloned());
    superseded.retain(|datom| ends.keeps(datom));
    let history = |name: TreeName, datoms: Vec<Datom>| {
        let order = name.order();
        let mut datoms = datoms;
        datoms.sort_unstable_by(|left, right| order.compare(left, right));
        datoms.into_iter().map(Change::Insert).collect::<Vec<_>>()
    };
    let history_eavt = history(TreeName::HistoryEavt, superseded.clone());
    let history_eavt = edit(db, writer, TreeName::HistoryEavt, history_eavt).await?;
    let history_aevt = history(TreeName::HistoryAevt, superseded.clone());
    let history_aevt = edit(db, writer, TreeName::HistoryAevt, history_aevt).await?;

    // Filled in from what is there already and what this tail adds: nothing that is being written can be read yet.
    let mut avet = changes(tail.deltas(Index::Avet));
    let mut moved_history = Vec::new();
    for (a, gained) in moved_in_avet(&db.0.schema, &db.0.checkpoint_schema) {
        let all = || Range::prefix(Components::all().a(a));
        let of = |name| tree_slices(db, old.tree(name), all());
        let (wrap, now, before): (fn(Datom) -> Change, _, _) = if gained {
            let own = superseded.iter().filter(|datom| datom.a == a);
            moved_history.extend(own.cloned().map(Change::Insert));
            let now = db.scan(Index::Aevt, all());
            (Change::Insert, now, of(TreeName::HistoryAevt))
        } else {
            let (now, before) = (of(TreeName::Avet), of(TreeName::HistoryAvet));
            (Change::Delete, now, before)
        };
        for (changes, mut slices) in [(&mut avet, now), (&mut moved_history, before)] {
            while let Some(slice) = slices.try_next().await? {
                changes.extend(slice.rows.clone().map(|row| wrap(slice.leaf.datom(row))));
            }
        }
    }
    superseded.retain(|datom| lies_in_avet(datom.a, &db.0.schema, &db.0.checkpoint_schema));
    let mut history_avet = history(TreeName::HistoryAvet, superseded);
    history_avet.extend(moved_history);
    let avet = edit(db, writer, TreeName::Avet, sorted(TreeName::Avet, avet)).await?;
    let history_avet = sorted(TreeName::HistoryAvet, history_avet);
    let history_avet = edit(db, writer, TreeName::HistoryAvet, history_avet).await?;
    let log = tail.log().iter().cloned().map(Change::Insert).collect();
    let log = edit(db, writer, TreeName::Log, log).await?;
    Ok([
        eavt.tree,
        aevt.tree,
        avet.tree,
        history_eavt.tree,
        history_aevt.tree,
        history_avet.tree,
        log.tree,
    ])
}

/// The retractions of a tail, and which of them history does not keep, nor what they retract.
///
/// `:db/noHistory` rules as it was before the transaction that retracted. So what history keeps is a function
/// of the log, however its transactions were grouped: the tail of a past basis whose checkpoints were dropped
/// reaches across changes of the schema.
struct Ends<'a> {
    /// By fact and `tx`; none if history keeps all.
    retracted: Vec<(&'a Datom, bool)>,
}

impl<'a> Ends<'a> {
    /// Those of `log`, which began under this schema.
    fn of(log: &'a [Datom], schema: &Schema) -> Self {
        let mut schema = Schema::clone(schema);
        let mut retracted = Vec::new();
        for said in log.chunk_by(|left, right| left.tx == right.tx) {
            for datom in said.iter().filter(|datom| !datom.added) {
                let attribute = schema.attribute(datom.a);
                let kept = attribute.is_none_or(|attribute| !attribute.no_history);
                retracted.push((datom, kept));
            }
            schema.fold(said);
        }
        if retracted.iter().all(|(_, kept)| *kept) {
            retracted.clear();
        }
        retracted.sort_unstable_by(|(left, _), (right, _)| BY_FACT.compare(left, right));
        Self { retracted }
    }

    /// Whether history keeps a fact that was superseded, or a retraction.
    fn keeps(&self, datom: &Datom) -> bool {
        // Words on one fact alternate: the next retraction is the one that ended it, or the datom itself.
        let ended = |(end, _): &(&Datom, bool)| BY_FACT.compare(end, datom).is_lt();
        let at = self.retracted.partition_point(ended);
        self.retracted.get(at).is_none_or(|(_, kept)| *kept)
    }
}

/// Facts in EAVT order, what was said of one by `tx`.
const BY_FACT: TreeOrder = TreeOrder {
    index: Index::Eavt,
    keys_tx: true,
};

async fn edit(
    db: &Db,
    writer: &mut NodeWriter,
    name: TreeName,
    changes: Vec<Change>,
) -> Result<tree::Edited> {
    let edited = tree::edit(db.loader(), writer, db.0.checkpoint.tree(name), &changes).await?;
    if edited.missing > 0 {
        return Err(Error::corrupt(
            format!("{name} tree of branch {}", db.branch()),
            format!("it lacks {} facts that the tail supersedes", edited.missing),
        ));
    }
    Ok(edited)
}

fn changes(deltas: &[Delta]) -> Vec<Change> {
    deltas
        .iter()
        .map(|delta| match delta.net {
            Net::Insert | Net::Replace => Change::Insert(delta.datom.clone()),
            Net::Delete => Change::Delete(delta.datom.clone()),
        })
        .collect()
}

fn sorted(name: TreeName, mut changes: Vec<Change>) -> Vec<Change> {
    let order = name.order();
    changes.sort_unstable_by(|left, right| order.compare(left.key(), right.key()));
    changes
}

/// Attributes that existed at the checkpoint and came into AVET (`true`) or left it (`false`) since.
fn moved_in_avet(now: &Schema, checkpoint: &Schema) -> Vec<(Entid, bool)> {
    checkpoint
        .attributes()
        .filter_map(|old| {
            let in_avet = now
                .attribute(old.id)
                .is_some_and(|attribute| attribute.in_avet());
            (in_avet != old.in_avet()).then_some((old.id, in_avet))
        })
        .collect()
}
