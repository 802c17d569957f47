//! Purging: taking facts out of a branch's past for good.
//!
//! Everything is written anew from a log without them: trees, history, records of commits. Commits keep
//! their ids, because the records of those that said a purged fact keep its salted hash; the salt lies
//! beside it, so whoever guesses a value can find the guess confirmed, and nothing else. Checkpoints of the
//! past are dropped: older bases are replayed from the log.
//!
//! A purge takes effect at once for whoever opens the branch. The bytes go with the old packs: garbage
//! collection deletes them once the grace is over, if no other branch needs them. So **every branch that
//! holds the facts must be purged**; the report names the others that do.
//!
//! The disk tier of this process is rid of the store's frames. Other machines' tiers, and what values that were
//! opened before in other processes still read of the old packs, are not: see `store::disk`.
//!
//! **Old commits.** What lies before a purge can be read at every basis, without what was purged, and be
//! compared and merged as before. A branch cannot begin there, only at a value from the purge on. A value
//! that was opened before the purge still shows everything until the grace is over, but no branch can be
//! made of it, and it cannot be merged.
//!
//! **Merges.** A head moves to a commit of another branch only if the same was purged from both. A branch
//! that still holds what was purged here, or was purged of what is still held here, is merged by a transaction,
//! which says only what that branch has said since the two parted; so a purge is never merged. What it has said
//! of purged facts since then, be it by a merge from a third branch, does come back. So purge all branches that
//! the report names, then merge. A retraction that was purged is not merged either.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::{Connection, Newest, node_writer};
use crate::datom::{Datom, Entid, TxId};
use crate::db::head::Head;
use crate::db::rebuild::{log_and_records, rebuild};
use crate::db::{Db, head_object};
use crate::error::{Error, Result};
use crate::id::BranchName;
use crate::node::Loader;
use crate::schema::{Schema, attrs, describes};
use crate::store::CasOutcome;
use crate::value::Value;

/// How often a swap is tried anew; each time, another writer got ahead.
const ROUNDS_MAX: usize = 100;

/// What to take out of the past and the present.
#[derive(Clone, Debug, PartialEq)]
pub enum Purge {
    /// All facts of an attribute. The attribute itself stays.
    Attribute(Entid),
    /// All facts about an entity, and all references to it.
    Entity(Entid),
    /// One fact, whoever said it and took it back, however often.
    Fact {
        /// The entity.
        e: Entid,
        /// The attribute.
        a: Entid,
        /// The value.
        v: Value,
    },
    /// What was superseded or retracted before this `t`, with the retractions. Descriptions of attributes
    /// stay.
    Before(u64),
}

/// What a purge did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PurgeReport {
    /// Datoms that are gone from the log; if there were none, nothing was written.
    pub datoms: u64,
    /// Transactions that had said them.
    pub transactions: u64,
    /// Other branches of the same database that hold such facts, or cannot be read: purge them, too, before
    /// they are merged. As long as they hold them, the facts can come back by a merge, and their bytes stay.
    /// A deleted branch is among them until garbage collection has emptied it.
    pub elsewhere: Vec<BranchName>,
}

impl PurgeReport {
    fn of(log: &[Datom], goes: &BTreeSet<usize>) -> Self {
        let transactions: BTreeSet<TxId> = goes.iter().map(|at| log[*at].tx).collect();
        Self {
            datoms: goes.len() as u64,
            transactions: transactions.len() as u64,
            elsewhere: Vec::new(),
        }
    }
}

impl Connection {
    /// Takes facts out of this branch for good: see the [module page](self).
    ///
    /// Reads and writes the whole database and holds it in memory; reads the logs of all other branches.
    /// Transactions wait for it until this branch is purged, and not for the other branches.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if an attribute would lose its description while facts are left, if a composite
    /// tuple repeats what would go, or if a transaction's instant would go; [`Error::Store`].
    pub async fn purge(&self, what: &Purge) -> Result<PurgeReport> {
        let turn = self.0.writer.turn.lock().await;
        let purged = Box::pin(self.purge_here(what)).await;
        match &purged {
            // A purge that finds nothing to do may be the second of one that stopped before it came here.
            Ok(report) if report.datoms == 0 && self.db().0.head.purges == 0 => {}
            Ok(_) => self.db().loader().purge_disk().await,
            Err(Error::Invalid(_)) => {}
            // It may have happened all the same; the value here may be the one of before.
            Err(_) => {
                self.store().purge_disk().await;
            }
        }
        let report = purged?;
        drop(turn);
        self.with_elsewhere(what, report).await
    }

    /// Says what [`Connection::purge`] would do, and writes nothing.
    ///
    /// # Errors
    ///
    /// As [`Connection::purge`].
    pub async fn would_purge(&self, what: &Purge) -> Result<PurgeReport> {
        let base = self.read_head().await?;
        let (log, _) = log_and_records(&base.db).await?;
        let goes = doomed(what, &log);
        if !goes.is_empty() {
            refuse(what, &base.db, &log, &goes)?;
        }
        self.with_elsewhere(what, PurgeReport::of(&log, &goes))
            .await
    }

    /// The report with the names of other branches that hold such facts.
    async fn with_elsewhere(&self, what: &Purge, mut report: PurgeReport) -> Result<PurgeReport> {
        // What they hold is not to be on disk because of a purge.
        let past_disk = self.store().past_disk();
        let store = past_disk.as_ref().unwrap_or(self.store());
        for branch in store.list_branches().await? {
            if branch == *self.branch() {
                continue;
            }
            let object = head_object(store.location(), &branch);
            let held = async {
                let Some((bytes, _)) = store.head(&branch).await? else {
                    return Ok(false);
                };
                let head = Head::decode(&bytes, &object)?;
                if head.is_emptied() || head.database != self.db().database_id() {
                    return Ok(false);
                }
                // A deleted branch can be restored.
                let head = Head {
                    deleted: None,
                    ..head
                };
                let loader = Arc::new(Loader::new(store.clone()));
                let (log, _) = log_and_records(&Db::from_head(loader, head).await?).await?;
                Ok::<bool, Error>(!doomed(what, &log).is_empty())
            };
            // What cannot be read cannot be shown to be free of them.
            if held.await.unwrap_or(true) {
                report.elsewhere.push(branch);
            }
        }
        Ok(report)
    }

    async fn purge_here(&self, what: &Purge) -> Result<PurgeReport> {
        // What a purge did whose answer was lost, if it arrives after all.
        let mut sent = None;
        for _ in 0..ROUNDS_MAX {
            let base = self.read_head().await?;
            let (log, records) = log_and_records(&base.db).await?;
            let goes = doomed(what, &log);
            let report = PurgeReport::of(&log, &goes);
            if goes.is_empty() {
                self.advance(base, Vec::new());
                return Ok(sent.unwrap_or(report));
            }
            refuse(what, &base.db, &log, &goes)?;
            let mut records = records;
            let mut start = 0;
            for record in &mut records {
                let end = start + log[start..].partition_point(|d| d.tx.t() <= record.pending.t);
                if goes.range(start..end).next().is_some() {
                    // A transaction says one thing of a fact at most, so its datoms differ.
                    let gone: HashSet<&Datom> =
                        goes.range(start..end).map(|at| &log[*at]).collect();
                    *record = record
                        .clone()
                        .without(&log[start..end], |datom| gone.contains(datom));
                }
                start = end;
            }
            let kept: Vec<Datom> = (0..)
                .zip(&log)
                .filter(|(at, _)| !goes.contains(at))
                .map(|(_, datom)| datom.clone())
                .collect();
            let purges = base.db.0.head.purges + 1;
            // Old nodes must not be found by what is read from now on: they lead to old packs.
            let loader = Arc::new(Loader::new(self.store().clone()));
            let mut writer = node_writer(&loader, &self.0.environment);
            let mut head = Box::pin(rebuild(&base.db, &kept, records, &mut writer)).await?;
            writer.finish().await?;
            head.generation += 1;
            head.purges = purges;
            let body = head
                .encode()
                .ok_or_else(|| Error::invalid("the head would be too large even without a tail"))?;
            let checkpoint = head.checkpoint.clone();
            let db = Db::from_head(loader, head).await?;
            match self
                .store()
                .cas_head(self.branch(), Some(&base.version), body)
                .await
            {
                CasOutcome::Swapped(version) => {
                    self.advance(Newest { db, version }, Vec::new());
                    return Ok(report);
                }
                CasOutcome::Failed(error) => return Err(error),
                outcome @ (CasOutcome::Conflict | CasOutcome::Unknown(_)) => {
                    let newest = self.read_head().await?;
                    let mine = newest.db.0.head.checkpoint == checkpoint;
                    self.advance(newest, Vec::new());
                    if mine {
                        return Ok(report);
                    }
                    if matches!(outcome, CasOutcome::Unknown(_)) {
                        sent = Some(report);
                    }
                }
            }
        }
        Err(Error::invalid(
            "other writers were faster every time; try again",
        ))
    }
}

/// The places in a log of what is to go.
fn doomed(what: &Purge, log: &[Datom]) -> BTreeSet<usize> {
    let all = |goes: &dyn Fn(&Datom) -> bool| {
        let places = (0..).zip(log).filter(|(_, datom)| goes(datom));
        places.map(|(at, _)| at).collect()
    };
    match what {
        Purge::Attribute(a) => all(&|datom| datom.a == *a),
        Purge::Entity(e) => all(&|datom| datom.e == *e || datom.v.referred().any(|to| to == *e)),
        Purge::Fact { e, a, v } => all(&|datom| datom.e == *e && datom.a == *a && datom.v == *v),
        Purge::Before(t) => {
            let mut open: BTreeMap<(Entid, Entid, &Value), usize> = BTreeMap::new();
            let mut goes = BTreeSet::new();
            for (at, datom) in (0..).zip(log) {
                let fact = (datom.e, datom.a, &datom.v);
                if datom.added {
                    open.insert(fact, at);
                } else if let Some(said) = open.remove(&fact)
                    && datom.tx.t() < *t
                    && !describes(datom.a)
                {
                    goes.extend([said, at]);
                }
            }
            goes
        }
    }
}

/// Refuses what would leave facts without meaning.
fn refuse(what: &Purge, db: &Db, log: &[Datom], goes: &BTreeSet<usize>) -> Result<()> {
    let left: BTreeSet<Entid> = (0..)
        .zip(log)
        .filter(|(at, _)| !goes.contains(at))
        .map(|(_, datom)| datom.a)
        .collect();
    let schema = db.schema();
    for datom in goes.iter().map(|at| &log[*at]) {
        if datom.a == attrs::TX_INSTANT {
            return Err(Error::invalid(format!(
                "transaction {} cannot be without its instant",
                datom.e
            )));
        }
        if describes(datom.a) && left.contains(&datom.e) {
            return Err(Error::invalid(format!(
                "{} describes an attribute that is in use; purge the facts of the attribute first",
                named(schema, datom.e)
            )));
        }
        if datom.tx.t() == 0 {
            return Err(Error::invalid(format!(
                "{} belongs to the bootstrap, which every database needs",
                named(schema, datom.e)
            )));
        }
    }
    let source = match what {
        Purge::Attribute(a) | Purge::Fact { a, .. } => schema.attribute(*a),
        Purge::Entity(_) | Purge::Before(_) => None,
    };
    let composite = source.and_then(|source| {
        schema.attributes().find(|composite| {
            let parts = composite.tuple_attrs.as_deref().unwrap_or_default();
            parts.contains(&source.ident) && left.contains(&composite.id)
        })
    });
    match composite {
        Some(composite) => Err(Error::invalid(format!(
            "{} repeats these values; purge its facts first",
            composite.ident
        ))),
        None => Ok(()),
    }
}

fn named(schema: &Schema, e: Entid) -> String {
    schema
        .ident(e)
        .map_or_else(|| format!("entity {e}"), ToString::to_string)
}

#[cfg(test)]
mod tests;
