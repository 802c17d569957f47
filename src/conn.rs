//! A live branch: the newest value, and the way to change it.
//!
//! Above [`tx`](crate::tx); the only floor that changes shared state. What a writer does, and what it does
//! when another was faster, is in [`writer`].
//!
//! **Invariant.** [`Connection::db`] never goes back: each value it hands out is at least as new as the
//! one before, and as the newest commit made through this connection.

mod purge;
mod writer;

pub use purge::{Purge, PurgeReport};

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::db::head::Head;
use crate::db::{Db, head_object};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::id::BranchName;
use crate::node::Loader;
use crate::store::{HeadVersion, Store};

use self::writer::Writer;

/// A branch that can be read and written. Clones share one writer.
#[derive(Clone)]
pub struct Connection(Arc<Shared>);

struct Shared {
    store: Store,
    branch: BranchName,
    environment: Arc<dyn Environment>,
    newest: Mutex<Newest>,
    writer: Writer,
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
    /// As [`Connection::create`].
    pub async fn create_in(
        store: &Store,
        branch: BranchName,
        environment: Arc<dyn Environment>,
    ) -> Result<Self> {
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
        Self(Arc::new(Shared {
            store: newest.db.store().clone(),
            branch,
            environment,
            newest: Mutex::new(newest),
            writer: Writer::default(),
        }))
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
            self.advance(newest);
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

    /// Takes a value as the newest unless a newer one is known.
    fn advance(&self, newest: Newest) {
        let mut known = self.0.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.db.0.head.generation >= known.db.0.head.generation {
            *known = newest;
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.db()).finish()
    }
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
