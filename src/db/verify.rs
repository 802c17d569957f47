//! Proving a database whole: nodes, trees, their agreement, the log, and the chain of commits.
//!
//! The log is the truth: current facts, history and AVET follow from it, and so do the digests that the
//! commit ids cover. Everything is read once; the facts are held in memory while they are compared.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::TryStreamExt;

use super::Db;
use super::merge::tree_slices;
use crate::datom::{Datom, Entid};
use crate::error::{Error, Result};
use crate::id::CommitHash;
use crate::index::{Range, TreeName};
use crate::schema::Schema;
use crate::tree;
use crate::value::Value;

/// What [`Db::verify`] has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Nodes, each with its hash, its order, its counts and its boundaries checked.
    pub nodes: u64,
    /// Datoms of all trees together.
    pub datoms: u64,
    /// Commits whose ids have been computed anew.
    pub commits: u64,
}

/// A fact without its transaction.
type Fact = (Entid, Entid, Value);

/// What a log amounts to.
#[derive(Default)]
pub(crate) struct Replayed {
    current: BTreeMap<Fact, Datom>,
    history: Vec<Datom>,
    pub(crate) schema: Schema,
}

impl Replayed {
    /// What a tree must hold besides the log, in its order.
    pub(crate) fn tree(&self, name: TreeName) -> Vec<&Datom> {
        let in_avet = |d: &&Datom| self.schema.attribute(d.a).is_some_and(|a| a.in_avet());
        let mut said: Vec<&Datom> = match name {
            TreeName::Eavt | TreeName::Aevt => self.current.values().collect(),
            TreeName::Avet => self.current.values().filter(in_avet).collect(),
            TreeName::HistoryEavt | TreeName::HistoryAevt => self.history.iter().collect(),
            TreeName::HistoryAvet => self.history.iter().filter(in_avet).collect(),
            TreeName::Log | TreeName::Commits => Vec::new(),
        };
        let order = name.order();
        said.sort_unstable_by(|left, right| order.compare(left, right));
        said
    }
}

impl Db {
    /// Reads everything that the head of this value reaches and proves that it is whole.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] with the first fault; [`Error::SnapshotExpired`] if a garbage collection since
    /// removed what this value needs; [`Error::Store`].
    pub async fn verify(&self) -> Result<Verified> {
        match self.verify_whole().await {
            Err(Error::SnapshotExpired(what)) => {
                let newest = Self::open(self.store(), self.branch()).await?;
                // Without a garbage collection since, nothing may be gone.
                Err(if newest.0.head.gc_epoch == self.0.head.gc_epoch {
                    Error::corrupt(format!("branch {}", self.branch()), what)
                } else {
                    Error::SnapshotExpired(what)
                })
            }
            verified => verified,
        }
    }

    async fn verify_whole(&self) -> Result<Verified> {
        let head = &self.0.head;
        let mut verified = Verified::default();
        for tree in head.checkpoint.trees.iter().chain([&head.commits]) {
            let report = tree::verify(self.loader(), tree).await?;
            if let Some(fault) = report.fault {
                return Err(Error::corrupt(
                    format!("{} tree", tree.name),
                    format!("node {}: {}", fault.node, fault.reason),
                ));
            }
            verified.nodes += report.nodes;
            verified.datoms += report.datoms;
        }
        let log = self.tree_datoms(TreeName::Log).await?;
        let replayed = replay(&log)?;
        self.agree(&replayed).await?;
        verified.commits = self.verify_chain(&log).await?;
        // The tail must follow from the trees as the trees follow from the log.
        let all: Vec<Datom> = log.iter().chain(&head.log).cloned().collect();
        replay(&all)?;
        Ok(verified)
    }

    /// Checks every frame of every pack in the store, also those that nothing refers to any more.
    ///
    /// Returns the number of frames. One request to list, one a pack.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] with the first fault; [`Error::Store`].
    pub async fn verify_packs(&self) -> Result<u64> {
        let mut frames = 0;
        for pack in self.store().list_packs().await? {
            frames += self.loader().verify_pack(pack.id).await?;
        }
        Ok(frames)
    }

    /// The datoms of one of the head's trees, large values with their bodies.
    pub(crate) async fn tree_datoms(&self, name: TreeName) -> Result<Vec<Datom>> {
        let mut slices = tree_slices(self, self.0.head.checkpoint.tree(name), Range::all());
        let mut datoms = Vec::new();
        while let Some(slice) = slices.try_next().await? {
            self.loader()
                .resolve(&slice.leaf, slice.rows.clone())
                .await?;
            datoms.extend(slice.rows.clone().map(|row| slice.leaf.datom(row)));
        }
        Ok(datoms)
    }

    /// Each tree holds just what the log says.
    async fn agree(&self, replayed: &Replayed) -> Result<()> {
        for name in TreeName::DATA {
            if name == TreeName::Log {
                continue;
            }
            let said = replayed.tree(name);
            let stored = self.tree_datoms(name).await?;
            let differs = said
                .iter()
                .copied()
                .zip(&stored)
                .find(|(said, stored)| said != stored);
            if let Some((said, stored)) = differs {
                return Err(Error::corrupt(
                    format!("{name} tree"),
                    format!("it holds {stored} where the log says {said}"),
                ));
            }
            if said.len() != stored.len() {
                return Err(Error::corrupt(
                    format!("{name} tree"),
                    format!(
                        "it holds {} datoms, the log says {}",
                        stored.len(),
                        said.len()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Each commit's id follows from its parent, its data and its instant, up to the head's.
    async fn verify_chain(&self, log: &[Datom]) -> Result<u64> {
        let head = &self.0.head;
        let covered = head.checkpoint.covered;
        let mut parent = CommitHash([0; CommitHash::LEN]);
        let mut expected = 0;
        if let Some(last) = covered.checked_sub(1) {
            for record in self.commit_records(0, last).await? {
                let t = record.pending.t;
                let start = log.partition_point(|datom| datom.tx.t() < t);
                let end = log.partition_point(|datom| datom.tx.t() <= t);
                let digest = record.digest_with(&log[start..end]);
                if t != expected || digest != record.digest {
                    return Err(Error::corrupt(
                        format!("commit t={t}"),
                        "its data has another digest",
                    ));
                }
                parent = record.pending.hash(parent, &digest);
                if parent != record.hash {
                    return Err(Error::corrupt(
                        format!("commit t={t}"),
                        "its id does not follow",
                    ));
                }
                expected = t + 1;
            }
        }
        if expected != covered || parent != head.checkpoint_commit {
            return Err(Error::corrupt(
                "commits",
                "they do not lead to the checkpoint",
            ));
        }
        for pending in &head.pending {
            parent = pending.hash(parent, &pending.digest(head.log_of(pending.t)));
        }
        if parent != head.commit.hash {
            return Err(Error::corrupt("commits", "they do not lead to the head"));
        }
        Ok(covered + head.pending.len() as u64)
    }
}

/// Folds a log into what holds and what is history.
pub(crate) fn replay(log: &[Datom]) -> Result<Replayed> {
    let mut replayed = Replayed {
        schema: Schema::bootstrap(),
        ..Replayed::default()
    };
    for said in log.chunk_by(|left, right| left.tx == right.tx) {
        let forgets = |schema: &Schema, a| schema.attribute(a).is_some_and(|a| a.no_history);
        let mut seen = BTreeSet::new();
        for datom in said {
            let fact = (datom.e, datom.a, datom.v.clone());
            let contradiction = |what: &str| Error::corrupt(format!("log datom {datom}"), what);
            if !seen.insert(fact.clone()) {
                return Err(contradiction("its transaction says it twice"));
            }
            let history = !forgets(&replayed.schema, datom.a);
            if datom.added {
                if replayed.current.insert(fact, datom.clone()).is_some() {
                    return Err(contradiction("it held already"));
                }
            } else {
                let old = replayed.current.remove(&fact);
                let old = old.ok_or_else(|| contradiction("it did not hold"))?;
                if history {
                    replayed.history.extend([old, datom.clone()]);
                }
            }
        }
        replayed.schema.fold(said);
    }
    Ok(replayed)
}
