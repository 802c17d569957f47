//! The database as a value: trees of a checkpoint, a tail, and the schema of this basis.
//!
//! ```text
//!              checkpoint                    tail
//!   t:  0 ───────────────────── covered ─┬─────────── basis t
//!       EAVT AEVT AVET                   │ the datoms of the transactions
//!       history EAVT AEVT AVET           │ since, sorted per index
//!       LOG                              │
//!                                        ▼
//!            read(range) = merge(tree range, tail range), leaf by leaf
//! ```
//!
//! Above [`tree`](crate::tree), below [`tx`](crate::tx). A head, a past basis and a speculative value
//! differ only in where their trees and their tail come from.
//!
//! **Invariant.** A `Db` never changes, and needs nothing but its store to be read. It does not know
//! whether it is the newest of its branch.

pub(crate) mod basis;
pub(crate) mod checkpoint;
pub(crate) mod commit;
mod datoms;
mod diff;
pub(crate) mod head;
pub(crate) mod history;
pub(crate) mod merge;
pub(crate) mod rebuild;
#[cfg(feature = "query")]
pub(crate) mod sample;
pub(crate) mod stats;
pub(crate) mod tail;
mod verify;
mod view;

pub use diff::{Change, ChangeCount};
pub use history::Transaction;
pub use stats::TreeSize;
pub use verify::{Depth, Fault, Progress, Stage, Verification};

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use datomfusion_datalog::edn::Keyword;

use self::commit::{Checkpoint, Pending};
use self::head::Head;
use self::tail::Tail;
use crate::datom::{Datom, Entid};
use crate::error::{Error, Result};
use crate::id::{BranchName, CommitHash, CommitId, DatabaseId};
use crate::index::{Components, Index, Range};
use crate::node::{Loader, Node};
use crate::schema::{Attribute, EntityRef, LookupRef, Schema, describes};
use crate::store::Store;
use crate::value::{Value, ValueType};

/// Entities of each table, by namespace; attributes without one share the empty namespace.
pub(crate) type Tables = BTreeMap<Arc<str>, u64>;

/// An immutable database: a set of datoms as of one basis.
///
/// Clones are cheap and share everything.
#[derive(Clone)]
pub struct Db(pub(crate) Arc<Inner>);

#[derive(Clone)]
pub(crate) struct Inner {
    pub(crate) loader: Arc<Loader>,
    /// The head that this value was reached from.
    pub(crate) head: Arc<Head>,
    /// The hashes of the commits that wait in the head, once somebody has asked.
    pub(crate) chain: Arc<OnceLock<Vec<CommitHash>>>,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) checkpoint_schema: Arc<Schema>,
    pub(crate) checkpoint_instant: i64,
    pub(crate) tail: Arc<Tail>,
    pub(crate) schema: Arc<Schema>,
    pub(crate) tables: Tables,
    pub(crate) t: u64,
    pub(crate) instant: i64,
    pub(crate) next_entid: Entid,
    /// Transactions after this one were never committed.
    pub(crate) speculative_after: Option<u64>,
    /// Only datoms of later transactions are seen.
    pub(crate) since: Option<u64>,
    /// Superseded datoms and retractions are seen too.
    pub(crate) history: bool,
}

impl Db {
    /// Opens the newest value of a branch. Reads one object.
    ///
    /// # Errors
    ///
    /// [`Error::NoDatabase`] if the branch does not exist, [`Error::BranchDeleted`] if it no longer does;
    /// [`Error::Corrupt`], [`Error::NewerFormat`] and [`Error::Store`] as they say.
    pub async fn open(store: &Store, branch: &BranchName) -> Result<Self> {
        Self::open_with(Arc::new(Loader::new(store.clone())), branch).await
    }

    /// [`Db::open`] with a loader, whose cache then serves several values.
    pub(crate) async fn open_with(loader: Arc<Loader>, branch: &BranchName) -> Result<Self> {
        let store = loader.store();
        let location = store.location().to_owned();
        let (bytes, _) = store.head(branch).await?.ok_or_else(|| Error::NoDatabase {
            location: location.clone(),
            branch: branch.clone(),
        })?;
        let head = Head::decode(&bytes, &head_object(&location, branch))?;
        if head.branch != *branch {
            return Err(Error::corrupt(
                head_object(&location, branch),
                format!("it is the head of branch {}", head.branch),
            ));
        }
        Self::from_head(loader, head).await
    }

    /// The newest value under a head, which must be no tombstone.
    pub(crate) async fn from_head(loader: Arc<Loader>, head: Head) -> Result<Self> {
        if let Some(deleted) = head.deleted {
            return Err(Error::BranchDeleted {
                location: loader.store().location().to_owned(),
                branch: head.branch,
                deleted,
            });
        }
        let loader = loader.of_era(head.era());
        let checkpoint_schema = match &head.schema {
            Some(schema) => schema.clone(),
            None => load_schema(&loader, &head.checkpoint).await?,
        };
        Ok(Self::from_parts(
            loader,
            Arc::new(head),
            Arc::new(checkpoint_schema),
        ))
    }

    /// The newest value under a head whose checkpoint has this schema.
    pub(crate) fn from_parts(
        loader: Arc<Loader>,
        head: Arc<Head>,
        checkpoint_schema: Arc<Schema>,
    ) -> Self {
        Self::assemble(Parts {
            checkpoint: head.checkpoint.clone(),
            log: head.log.clone(),
            pending: head.pending.clone(),
            checkpoint_instant: head.checkpoint_instant,
            next_entid: head.next_entid,
            speculative_after: None,
            loader,
            head,
            checkpoint_schema,
        })
    }

    /// Puts a value together from what is stored, which says neither schema nor net changes.
    pub(crate) fn assemble(parts: Parts) -> Self {
        let schema = if parts.log.iter().any(|datom| describes(datom.a)) {
            let mut schema = Schema::clone(&parts.checkpoint_schema);
            schema.fold(&parts.log);
            Arc::new(schema)
        } else {
            Arc::clone(&parts.checkpoint_schema)
        };
        let mut tables: Tables = parts.checkpoint.tables.iter().cloned().collect();
        tables.extend(
            parts
                .pending
                .iter()
                .flat_map(|pending| pending.tables.iter().cloned()),
        );
        let newest = parts.pending.last();
        let t = newest.map_or(parts.checkpoint.covered.saturating_sub(1), |newest| {
            newest.t
        });
        let instant = newest.map_or(parts.checkpoint_instant, |newest| newest.instant);
        let in_avet = |a| lies_in_avet(a, &schema, &parts.checkpoint_schema);
        let tail = Tail::new(parts.log, parts.pending, in_avet);
        Self(Arc::new(Inner {
            loader: parts.loader,
            head: parts.head,
            chain: Arc::default(),
            checkpoint: parts.checkpoint,
            tail: Arc::new(tail),
            schema,
            checkpoint_schema: parts.checkpoint_schema,
            checkpoint_instant: parts.checkpoint_instant,
            tables,
            t,
            instant,
            next_entid: parts.next_entid,
            speculative_after: parts.speculative_after,
            since: None,
            history: false,
        }))
    }

    /// The same value, reached from a newer head that has committed all of it.
    pub(crate) fn with_head(&self, head: Arc<Head>) -> Self {
        Self(Arc::new(Inner {
            head,
            chain: Arc::default(),
            speculative_after: None,
            ..Inner::clone(&self.0)
        }))
    }

    /// The store that this value is read from.
    pub fn store(&self) -> &Store {
        self.0.loader.store()
    }

    pub(crate) fn loader(&self) -> &Arc<Loader> {
        &self.0.loader
    }

    /// The identities of the seven trees of data of this value's checkpoint; equal contents have equal
    /// ones. `None` stands for an empty tree.
    pub fn roots(&self) -> [Option<crate::id::NodeId>; 7] {
        self.0.checkpoint.trees.map(|tree| tree.id())
    }

    /// The id that the database keeps in every store that holds a copy.
    pub fn database_id(&self) -> DatabaseId {
        self.0.head.database
    }

    /// The branch that this value was read from.
    pub fn branch(&self) -> &BranchName {
        &self.0.head.branch
    }

    /// The newest commit of the head that this value was reached from.
    pub fn head_commit(&self) -> CommitId {
        self.0.head.commit
    }

    /// The newest transaction that this value knows.
    pub fn basis_t(&self) -> u64 {
        self.0.t
    }

    /// When the newest transaction of this value was made, in milliseconds since the epoch.
    pub fn basis_instant(&self) -> i64 {
        self.0.instant
    }

    /// Attributes and idents of this basis.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.0.schema
    }

    /// Whether superseded datoms and retractions are seen.
    pub fn is_history(&self) -> bool {
        self.0.history
    }

    /// The transaction that this value begins after, if it is a `since` view.
    pub fn since_t(&self) -> Option<u64> {
        self.0.since
    }

    /// Whether AVET holds the facts of an attribute: whether it is indexed, unique or a reference.
    pub fn in_avet(&self, a: Entid) -> bool {
        let attribute = self.0.schema.attribute(a);
        attribute.is_some_and(|attribute| attribute.in_avet())
    }

    /// Whether trees and tail have this range of AVET. A speculative value that turned an index on or off
    /// has not, because only a commit builds it.
    pub(crate) fn has_avet(&self, range: &Range) -> bool {
        let (now, checkpoint) = (&self.0.schema, &self.0.checkpoint_schema);
        let stands = |before: &Attribute| {
            let after = now.attribute(before.id);
            after.is_none_or(|after| after.in_avet() == before.in_avet())
        };
        Arc::ptr_eq(now, checkpoint)
            || match range.attribute() {
                Some(a) => checkpoint.attribute(a).is_none_or(|before| stands(before)),
                None => checkpoint.attributes().all(|before| stands(before)),
            }
    }

    /// The id of an entity, if it can be found.
    ///
    /// An entity id is answered as it is: whether anything is known about it is another question. A
    /// lookup ref reads at most the height of AVET.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if a lookup ref names no unique attribute, or a value of another type.
    pub async fn entid(&self, entity: &EntityRef) -> Result<Option<Entid>> {
        match entity {
            EntityRef::Entid(entid) => Ok(Some(*entid)),
            EntityRef::Ident(ident) => Ok(self.0.schema.entid(ident)),
            EntityRef::Lookup(LookupRef { attribute, value }) => {
                let attribute = self.0.schema.require(attribute)?;
                if attribute.unique.is_none() {
                    return Err(Error::invalid(format!(
                        "{} is not unique, so a lookup ref cannot name an entity by it",
                        attribute.ident
                    )));
                }
                if value.value_type() != attribute.value_type {
                    return Err(Error::invalid(format!(
                        "{} has values of {}, a lookup ref gave {value}",
                        attribute.ident, attribute.value_type
                    )));
                }
                self.lookup(attribute.id, value).await
            }
        }
    }

    /// The ident of an entity.
    pub fn ident(&self, e: Entid) -> Option<&Keyword> {
        self.0.schema.ident(e)
    }

    /// The entity with this value of a unique attribute.
    pub(crate) async fn lookup(&self, a: Entid, value: &Value) -> Result<Option<Entid>> {
        if self.in_avet(a) {
            let components = Components::all().a(a).v(value.clone());
            return Ok(self
                .first(Index::Avet, &Range::prefix(components))
                .await?
                .map(|d| d.e));
        }
        let all = self
            .collect(Index::Aevt, &Range::prefix(Components::all().a(a)))
            .await?;
        Ok(all
            .into_iter()
            .find(|datom| datom.v == *value)
            .map(|datom| datom.e))
    }

    /// The entities that refer to `e` by attribute `a`.
    pub(crate) async fn referrers(&self, a: Entid, e: Entid) -> Result<Vec<Entid>> {
        debug_assert!(
            self.0
                .schema
                .attribute(a)
                .is_none_or(|a| a.value_type == ValueType::Ref),
            "references always lie in AVET"
        );
        let range = Range::prefix(Components::all().a(a).v(Value::Ref(e)));
        Ok(self
            .collect(Index::Avet, &range)
            .await?
            .into_iter()
            .map(|datom| datom.e)
            .collect())
    }

    /// The first entity id above all that transactions have named up to here, be it in a value; of a value
    /// from before a purge, above those that are left.
    pub(crate) fn first_unsaid(&self) -> Entid {
        let named = |datom: &Datom| {
            let entities = datom.v.referred().chain([datom.e]);
            entities.filter(|e| !e.is_tx()).max()
        };
        let newest = self.0.tail.log().iter().filter_map(named).max();
        let first = self.0.checkpoint.next_entid;
        newest.map_or(first, |newest| first.max(Entid(newest.0 + 1)))
    }

    /// How many entities have an attribute of a namespace, if this value keeps count.
    #[cfg(feature = "query")]
    pub(crate) fn entities_in(&self, namespace: &str) -> Option<u64> {
        let counts = self.0.since.is_none() && !self.0.history;
        counts.then(|| self.0.tables.get(namespace).copied().unwrap_or(0))
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db")
            .field("store", &self.store().location())
            .field("branch", self.branch())
            .field("t", &self.0.t)
            .field("since", &self.0.since)
            .field("history", &self.0.history)
            .finish_non_exhaustive()
    }
}

/// What a value is put together from.
pub(crate) struct Parts {
    pub(crate) loader: Arc<Loader>,
    pub(crate) head: Arc<Head>,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) checkpoint_schema: Arc<Schema>,
    pub(crate) checkpoint_instant: i64,
    /// The tail, in LOG order.
    pub(crate) log: Vec<Datom>,
    /// The transactions of the tail.
    pub(crate) pending: Vec<Pending>,
    pub(crate) next_entid: Entid,
    /// Transactions after this one were never committed.
    pub(crate) speculative_after: Option<u64>,
}

/// Whether an attribute lies in AVET both in the trees of a checkpoint and under the schema of now.
pub(crate) fn lies_in_avet(a: Entid, now: &Schema, checkpoint: &Schema) -> bool {
    now.attribute(a)
        .is_some_and(|attribute| attribute.in_avet())
        && checkpoint
            .attribute(a)
            .is_none_or(|attribute| attribute.in_avet())
}

/// Reads the schema of a checkpoint.
pub(crate) async fn load_schema(loader: &Loader, checkpoint: &Checkpoint) -> Result<Schema> {
    let Some((id, location)) = checkpoint.schema else {
        return Ok(Schema::bootstrap());
    };
    match &*loader.load(id, location).await? {
        Node::Leaf(leaf) => Ok(head::schema_from_leaf(leaf)),
        Node::Inner(_) => Err(Error::corrupt(id, "a schema is not a leaf")),
    }
}

/// How messages name a head.
pub(crate) fn head_object(location: &str, branch: &BranchName) -> String {
    format!("head of branch {branch} at {location}")
}

#[cfg(test)]
mod tests;
