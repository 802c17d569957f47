//! Whether a branch may move on to what another store holds, and how much of its past stays.

use crate::conn::log::Kinship;
use crate::conn::merge::purged;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::index::TreeName;

/// What becomes of the target's records of old commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// They stay; new ones follow.
    Kept,
    /// There are none, or facts were purged from the source since: all are written anew.
    Whole,
}

/// What the target lacks of the source; `None` if it lacks nothing, also because it has merged it.
///
/// Reads at most one record of each while neither was purged.
///
/// # Errors
///
/// [`Error::Invalid`] if the target cannot move there.
pub(super) async fn past(ours: &Db, theirs: &Db) -> Result<Option<Past>> {
    if ours.database_id() != theirs.database_id() {
        return Err(Error::invalid(format!(
            "{} holds database {}, and {} holds {}; to have both in one store, name another branch",
            of(ours),
            ours.database_id(),
            of(theirs),
            theirs.database_id()
        )));
    }
    let (our, their) = (ours.head_commit(), theirs.head_commit());
    let same = our == their;
    if same || our.t >= their.t && ours.commit_hash(their.t).await? == Some(their.hash) {
        if theirs.0.head.purges == 0 {
            return Ok(None);
        }
        let purges = Purges::compare(ours, theirs, their.t).await?;
        if !purges.of_theirs_alone {
            return Ok(None);
        }
        if same {
            return purges.rewrite(ours, theirs);
        }
        return Err(Error::invalid(format!(
            "facts were purged from {} that {} may hold, and it has later commits: bring those to {} \
             first, then what is left to {}",
            of(theirs),
            of(ours),
            of(theirs),
            of(ours)
        )));
    }
    if theirs.commit_hash(our.t).await? != Some(our.hash) {
        let Some(kinship) = Kinship::between(ours, theirs).await? else {
            return Err(Error::invalid(format!(
                "{} and {} have no commit in common",
                of(ours),
                of(theirs)
            )));
        };
        if kinship.contained(our.t) >= their.t {
            if theirs.0.head.purges == 0 {
                return Ok(None);
            }
            let purges = Purges::compare(ours, theirs, kinship.fork).await?;
            if !purges.of_theirs_alone {
                return Ok(None);
            }
            return Err(Error::invalid(format!(
                "facts were purged from {} that {} may hold, which has merged it: purge them there, too",
                of(theirs),
                of(ours)
            )));
        }
        return Err(Error::invalid(format!(
            "{} and {} have parted after t={}: bring {} to another branch name of {}, and merge that into \
             branch {}",
            of(ours),
            of(theirs),
            kinship.fork,
            of(theirs),
            ours.store().location(),
            ours.branch()
        )));
    }
    let unpurged = ours.0.head.purges == 0 && theirs.0.head.purges == 0;
    if unpurged || same_log(ours, theirs).await? {
        return Ok(Some(Past::Kept));
    }
    Purges::compare(ours, theirs, our.t)
        .await?
        .rewrite(ours, theirs)
}

/// Whether facts were purged from one of two branches that the other may hold.
///
/// The facts are compared and not how often something was purged: as many purges may have been of other facts,
/// and one of as many facts as two.
struct Purges {
    of_ours_alone: bool,
    of_theirs_alone: bool,
}

impl Purges {
    /// Compares what was purged from the commits up to `fork`, which both share. What one has merged of the
    /// other's later ones are facts of its own commits, which its own purges take.
    async fn compare(ours: &Db, theirs: &Db, fork: u64) -> Result<Self> {
        let unpurged = ours.0.head.purges == 0 && theirs.0.head.purges == 0;
        if unpurged || same_log(ours, theirs).await? || same_log(theirs, ours).await? {
            return Ok(Self {
                of_ours_alone: false,
                of_theirs_alone: false,
            });
        }
        let (our, their) = (purged(ours, fork).await?, purged(theirs, fork).await?);
        Ok(Self {
            of_ours_alone: !our.is_subset(&their),
            of_theirs_alone: !their.is_subset(&our),
        })
    }

    /// Ours may be written anew unless that would bring back what it was purged of.
    fn rewrite(&self, ours: &Db, theirs: &Db) -> Result<Option<Past>> {
        if !self.of_ours_alone {
            return Ok(Some(Past::Whole));
        }
        Err(Error::invalid(format!(
            "facts were purged from {} that {} still holds; purge it, too, or bring it to another branch \
             name and merge that",
            of(ours),
            of(theirs)
        )))
    }
}

/// Whether the logs are the same as far as the trees of ours cover them: then nothing was purged from one
/// of them alone, for a purge drops older checkpoints.
async fn same_log(ours: &Db, theirs: &Db) -> Result<bool> {
    let (our, their) = (&ours.0.head.checkpoint, &theirs.0.head.checkpoint);
    let id = our.tree(TreeName::Log).id();
    let Some(last) = our.covered.checked_sub(1) else {
        return Ok(theirs.0.head.purges == 0);
    };
    if their.covered <= our.covered {
        return Ok(their.covered == our.covered && their.tree(TreeName::Log).id() == id);
    }
    let records = theirs.commit_records(last, last).await?;
    let then = records
        .first()
        .and_then(|record| record.checkpoint.as_ref());
    Ok(then.is_some_and(|then| then.covered == our.covered && then.tree(TreeName::Log).id() == id))
}

/// A branch, as messages name it.
fn of(db: &Db) -> String {
    format!("branch {} at {}", db.branch(), db.store().location())
}
