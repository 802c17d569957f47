//! What can go wrong, told apart by what the caller can do about it.

use crate::id::{BranchName, CommitId};
use crate::value::Value;

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request cannot be right: correct it and ask again.
    #[error("{0}")]
    Invalid(String),

    /// The text is not EDN, or not the EDN that was expected; the message underlines the form.
    #[error(transparent)]
    Edn(#[from] datomfusion_datalog::Error),

    /// A transaction was refused. Nothing was written.
    #[error("transaction refused: {reason}\n  in {form}")]
    Transaction {
        /// The form that could not be transacted, printed as EDN.
        form: String,
        /// Why, and what was expected.
        reason: String,
    },

    /// There is no database here. Create it, or check the address.
    #[error("no database at {location} (branch {branch})")]
    NoDatabase {
        /// The store, without secrets.
        location: String,
        /// The branch that was asked for.
        branch: BranchName,
    },

    /// The branch was deleted. Restore it, or create a branch of that name.
    #[error(
        "branch {branch} at {location} was deleted at {}; restore it, or create a branch of that name",
        Value::Instant(*.deleted)
    )]
    BranchDeleted {
        /// The store, without secrets.
        location: String,
        /// The branch.
        branch: BranchName,
        /// When, in milliseconds since the epoch.
        deleted: i64,
    },

    /// A database exists where one was to be created.
    #[error("a database already exists at {location} (branch {branch})")]
    DatabaseExists {
        /// The store, without secrets.
        location: String,
        /// The branch.
        branch: BranchName,
    },

    /// A listener was slower than the transactions, and these were not kept for it. Read what they said
    /// with [`Db::tx_range`](crate::Db::tx_range), or go on without.
    #[error(
        "the reports of transactions t={from} to t={to} were dropped: the listener is too slow"
    )]
    ReportsMissed {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },

    /// Another writer advanced the branch first. Read the new head and transact again.
    #[error("head of branch {branch} is {actual}, expected {expected}")]
    HeadMoved {
        /// The branch.
        branch: BranchName,
        /// The commit that the writer had read.
        expected: CommitId,
        /// The commit that is there now.
        actual: CommitId,
    },

    /// It cannot be known whether the commit happened. Read the head and look for `commit`.
    #[error("the outcome of commit {commit} on branch {branch} is unknown")]
    CommitUnknown {
        /// The branch.
        branch: BranchName,
        /// The commit that may or may not be in place.
        commit: CommitId,
        /// Why the head could not be read back.
        #[source]
        source: Box<Error>,
    },

    /// Stored bytes are not what they should be. Retrying cannot help; fetch the object anew.
    #[error("{object} is corrupt: {reason}")]
    Corrupt {
        /// The key or the identity of the object.
        object: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A newer release wrote this. It is neither read nor written; upgrade.
    #[error("{object} has format version {version}, this release understands up to {supported}")]
    NewerFormat {
        /// The object.
        object: String,
        /// The version it claims.
        version: u32,
        /// The newest version understood here.
        supported: u32,
    },

    /// What this value needs was removed by garbage collection. Open the branch again, and ask for a later
    /// basis if this one was old.
    #[error("snapshot expired: {0}")]
    SnapshotExpired(String),

    /// Garbage collection overtook this work, and nothing that it wrote counts. Begin it anew.
    #[error(
        "branch {branch} was garbage collected meanwhile (epoch {actual}, expected {expected}); begin anew"
    )]
    Fenced {
        /// The branch.
        branch: BranchName,
        /// The epoch of the head that the work began from.
        expected: u64,
        /// The epoch of the head that is there now.
        actual: u64,
    },

    /// The storage failed. Transient failures have already been retried.
    #[error("storage at {location} failed")]
    Store {
        /// The store, without secrets.
        location: String,
        /// What failed.
        #[source]
        source: StoreFailure,
    },
}

/// A failure below this crate: the object store or the local file system.
pub type StoreFailure = Box<dyn std::error::Error + Send + Sync>;

impl Error {
    /// The request cannot be right, and this says why.
    pub fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid(reason.into())
    }

    /// Stored bytes are not what they should be.
    pub fn corrupt(object: impl ToString, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            object: object.to_string(),
            reason: reason.into(),
        }
    }
}
