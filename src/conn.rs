//! A live branch: the newest value, the way to change it, and word of its changes.
//!
//! Above [`tx`](crate::tx); the only floor that changes shared state. What a writer does, and what it does
//! when another was faster, is in [`writer`]; who hears of it, in [`listen`]. [`branch`] makes and deletes
//! branches, [`log`] walks their commits, and [`merge`] brings the changes of one into another.
//!
//! **Invariant.** [`Connection::db`] never goes back: each value it hands out is at least as new as the
//! one before, and as the newest commit made through this connection.

pub(crate) mod branch;
mod listen;
pub(crate) mod log;
pub(crate) mod merge;
mod purge;
mod writer;

pub use purge::{Purge, PurgeReport};

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::db::head::Head;
use crate::db::{Db, head_object};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::id::{BranchName, PackId};
use crate::node::{Loader, NodeWriter};
use crate::store::{HeadVersion, Store};
use crate::tx::{TransactionFunctions, TxReport};

pub use self::branch::{Branch, Branches};
use self::listen::Listeners;
pub use self::log::{Commit, commit_graph};
pub use self::merge::{
    Conflict, ConflictKind, MergeOutcome, MergeReport, MergeStrategy, Resolution,
};
use self::writer::Writer;

/// A branch that can be read and written. Clones share one writer; each has its own functions.
#[derive(Clone)]
pub struct Connection(Arc<Shared>, TransactionFunctions);

struct Shared {
    store: Store,
    branch: BranchName,
    environment: Arc<dyn Environment>,
    newest: Mutex<Newest>,
    writer: Writer,
    listeners: Listeners,
}

/// The newest value that is known, and the version of its head.
#[derive(Clone)]
struct Newest {
    db: Db,
    version: HeadVersion,
}

impl Connection {
    /// Makes a new database on the branch `main` of a store. Writes one object.
    ///
    /// # Errors
    ///
    /// [`Error::DatabaseExists`], or [`Error::Store`].
    #[cfg(not(target_family = "wasm"))]
    pub async fn create(store: &Store) -> Result<Self> {
        Self::create_in(
            store,
            BranchName::default(),
            Arc::new(crate::environment::System),
        )
        .await
    }

    /// Opens the branch `main` of a store. Reads one object.
    ///
    /// # Errors
    ///
    /// As [`Db::open`].
    #[cfg(not(target_family = "wasm"))]
    pub async fn open(store: &Store) -> Result<Self> {
        Self::open_in(
            store,
            BranchName::default(),
            Arc::new(crate::environment::System),
        )
        .await
    }

    /// [`Connection::create`] on a branch, with a clock and randomness of the caller's.
    ///
    /// # Errors
    ///
    /// As [`Connection::create`], and [`Error::Invalid`](crate::Error::Invalid) if the name has a meaning elsewhere, as
    /// `..` and `CON`.
    pub async fn create_in(
        store: &Store,
        branch: BranchName,
        environment: Arc<dyn Environment>,
    ) -> Result<Self> {
        branch.must_be_plain()?;
        let loader = Arc::new(Loader::new(store.clone()));
        let newest = writer::create(&loader, &branch, &*environment).await?;
        Ok(Self::new(branch, environment, newest))
    }

    /// [`Connection::open`] on a branch, with a clock and randomness of the caller's.
    ///
    /// # Errors
    ///
    /// As [`Db::open`].
    pub async fn open_in(
        store: &Store,
        branch: BranchName,
        environment: Arc<dyn Environment>,
    ) -> Result<Self> {
        let loader = Arc::new(Loader::new(store.clone()));
        let newest = read_head(&loader, &branch).await?;
        Ok(Self::new(branch, environment, newest))
    }

    fn new(branch: BranchName, environment: Arc<dyn Environment>, newest: Newest) -> Self {
        let shared = Arc::new(Shared {
            store: newest.db.store().clone(),
            branch,
            environment,
            newest: Mutex::new(newest),
            writer: Writer::default(),
            listeners: Listeners::default(),
        });
        Self(shared, TransactionFunctions::new())
    }

    /// This connection with functions and predicates for the transactions that are made through it.
    ///
    /// They take the place of those that it had. Other clones keep their own.
    #[must_use]
    pub fn with_functions(&self, functions: &TransactionFunctions) -> Self {
        Self(Arc::clone(&self.0), functions.clone())
    }

    /// The newest value that this connection knows. Reads nothing.
    pub fn db(&self) -> Db {
        self.newest().db
    }

    /// The newest value of the branch, whoever wrote it. One conditional request.
    ///
    /// # Errors
    ///
    /// As [`Db::open`].
    pub async fn sync(&self) -> Result<Db> {
        let known = self.newest();
        if let Some((bytes, version)) = self
            .0
            .store
            .head_if_changed(&self.0.branch, &known.version)
            .await?
        {
            let newest = decode_head(known.db.loader(), &self.0.branch, &bytes, version).await?;
            self.check_database(&newest)?;
            self.advance(newest, Vec::new());
        }
        Ok(self.db())
    }

    /// The branch.
    pub fn branch(&self) -> &BranchName {
        &self.0.branch
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    fn newest(&self) -> Newest {
        self.0
            .newest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Refuses the head of another database, which lies where this one was if somebody removed it.
    fn check_database(&self, newest: &Newest) -> Result<()> {
        let (ours, theirs) = (self.db().database_id(), newest.db.database_id());
        if ours == theirs {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "branch {} at {} is of another database now, {theirs} and not {ours}; open it anew",
            self.0.branch,
            self.0.store.location()
        )))
    }

    /// Takes a value as the newest unless a newer one is known, and tells the listeners of what is new in
    /// it; `reports` are at hand of some.
    fn advance(&self, newest: Newest, reports: Vec<TxReport>) {
        // INVARIANT: listeners are told under the lock, so that they hear in the order of commits.
        let mut known = self.0.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.db.0.head.generation >= known.db.0.head.generation {
            self.0
                .listeners
                .tell(known.db.basis_t(), &newest.db, reports);
            *known = newest;
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.db()).finish()
    }
}

/// A writer of nodes into packs with new names.
pub(crate) fn node_writer(loader: &Arc<Loader>, environment: &Arc<dyn Environment>) -> NodeWriter {
    let environment = Arc::clone(environment);
    let names = Box::new(move || PackId(environment.random()));
    NodeWriter::new(Arc::clone(loader), names)
}

async fn read_head(loader: &Arc<Loader>, branch: &BranchName) -> Result<Newest> {
    let store = loader.store();
    let (bytes, version) = store.head(branch).await?.ok_or_else(|| Error::NoDatabase {
        location: store.location().to_owned(),
        branch: branch.clone(),
    })?;
    decode_head(loader, branch, &bytes, version).await
}

async fn decode_head(
    loader: &Arc<Loader>,
    branch: &BranchName,
    bytes: &[u8],
    version: HeadVersion,
) -> Result<Newest> {
    let head = Head::decode(bytes, &head_object(loader.store().location(), branch))?;
    let db = Db::from_head(Arc::clone(loader), head).await?;
    Ok(Newest { db, version })
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests {
    use super::fixture::{PEOPLE, create, transact};
    use super::*;
    use crate::tx::TxData;

    #[cfg(feature = "fs")]
    mod disk;
    #[cfg(feature = "aws")]
    mod s3;
    #[cfg(all(feature = "http", feature = "fs"))]
    mod web;

    /// Somebody removed the store and put another database in its place while a connection was open: what
    /// was meant for the one, and was checked against its schema, went into the other.
    #[tokio::test]
    async fn another_database_in_the_same_place_is_refused() {
        let [first, second] = [(); 2].map(|()| Store::memory());
        let ours = create(&first, 1).await;
        transact(&ours, PEOPLE).await;
        let theirs = create(&second, 2).await;
        for _ in 0..4 {
            transact(&theirs, "[]").await;
        }
        let (_, version) = first.head(ours.branch()).await.unwrap().unwrap();
        let (body, _) = second.head(ours.branch()).await.unwrap().unwrap();
        let swap = first.cas_head(ours.branch(), Some(&version), body).await;
        assert!(
            matches!(swap, crate::store::CasOutcome::Swapped(_)),
            "{swap:?}"
        );
        let data = TxData::parse("[{:p/name \"Ada\"}]").unwrap();
        for error in [
            ours.transact(&data).await.unwrap_err(),
            ours.checkpoint().await.unwrap_err(),
            ours.sync().await.unwrap_err(),
        ] {
            assert!(matches!(error, Error::Invalid(_)), "{error:?}");
            assert!(error.to_string().contains("another database"), "{error}");
        }
        assert_eq!(ours.db().basis_t(), 1);
    }
}
