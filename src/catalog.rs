//! Databases as a catalog of DataFusion: a schema for each, and for each of its bases.
//!
//! `sales.invoice` names a table of an attached database, `"sales@2022-12-31".invoice` the same table
//! at another basis, `"sales#dev".invoice` on another branch. DataFusion asks a catalog for a schema
//! synchronously, and a schema for a table asynchronously; so a schema is handed out at once and finds
//! its database when its first table is asked for, before planning begins.
//!
//! **Invariant.** A catalog serves one session and resolves each name once: all statements of a session
//! see one value under one name.

mod checked;
mod cooperative;
pub(crate) mod external;
mod join_order;
pub(crate) mod metaschema;
pub(crate) mod session;
pub(crate) mod table_functions;
pub(crate) mod time_travel;
mod volatile;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::Result;
use tokio::sync::OnceCell;

use crate::db::Db;
use crate::db::basis::{BasisSpec, TimePoint, split_name};
use crate::error::Error;
use crate::id::BranchName;
use crate::provider::error::into_datafusion;
use crate::provider::{DatomTable, entity_table, meta};

/// Databases by the names they are attached under.
pub(crate) type Databases = BTreeMap<String, Db>;

/// The schema of foreign tables.
pub(crate) const PUBLIC: &str = "public";

/// What a message lists at most.
const LISTED_MAX: usize = 60;

/// Attached databases as schemas, in front of a catalog that has the other schemas.
pub(crate) struct DatabaseCatalog {
    databases: Arc<Databases>,
    others: Arc<dyn CatalogProvider>,
    /// Whether an unknown schema is an error that lists the databases, rather than unknown.
    explains: bool,
    resolved: Mutex<HashMap<String, Arc<BranchSchema>>>,
}

impl DatabaseCatalog {
    /// A catalog of its own session, which explains what it does not know.
    pub(crate) fn new(databases: Arc<Databases>, others: Arc<dyn CatalogProvider>) -> Self {
        Self {
            databases,
            others,
            explains: true,
            resolved: Mutex::default(),
        }
    }

    /// A catalog in front of another one, which alone knows what does not exist.
    pub(crate) fn over(databases: Arc<Databases>, others: Arc<dyn CatalogProvider>) -> Self {
        Self {
            explains: false,
            ..Self::new(databases, others)
        }
    }

    /// The schema of a name: a database that is attached, with a branch and a basis.
    fn value(&self, name: &str) -> Result<Arc<BranchSchema>> {
        let (base, spec) = split_name(name).map_err(into_datafusion)?;
        let Some(db) = self.databases.get(&base) else {
            let reason = no_database(&base, &self.databases);
            return Err(into_datafusion(Error::invalid(reason)));
        };
        Ok(self.resolve(&base, db, &spec))
    }

    /// The schema of a name in canonical form.
    fn resolve(&self, base: &str, db: &Db, spec: &BasisSpec) -> Arc<BranchSchema> {
        let name = format!("{base}{spec}");
        let known = |name: &str| {
            let resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
            resolved.get(name).map(Arc::clone)
        };
        if let Some(schema) = known(&name) {
            return schema;
        }
        let origin = match (spec.branch(), spec.parts()) {
            (None, []) => Origin::Value(db.clone()),
            (Some(branch), []) => Origin::Branch {
                sibling: db.clone(),
                branch: branch.clone(),
            },
            (branch, parts) => {
                // The head of a branch is read once, whatever bases of it are asked for.
                let whole = BasisSpec::try_new(branch.cloned(), Vec::new());
                let view = BasisSpec::try_new(None, parts.to_vec());
                let (Ok(whole), Ok(view)) = (whole, view) else {
                    unreachable!("parts that went together still do");
                };
                Origin::View {
                    of: self.resolve(base, db, &whole),
                    view,
                }
            }
        };
        let schema = Arc::new(BranchSchema::new(name.clone(), origin));
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(resolved.entry(name).or_insert(schema))
    }
}

impl CatalogProvider for DatabaseCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.databases
            .keys()
            .cloned()
            .chain(self.others.schema_names())
            .collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let (base, spec) = match split_name(name) {
            Ok((base, spec)) => (base, Ok(spec)),
            // A name that is no valid basis of a database of ours may be valid elsewhere.
            Err(error) => (name[..name.find(['#', '@'])?].to_owned(), Err(error)),
        };
        match (self.databases.get(&base), spec) {
            (Some(db), Ok(spec)) => Some(self.resolve(&base, db, &spec)),
            (Some(_), Err(error)) => Some(Arc::new(Refusal(error.to_string()))),
            (None, _) => self.others.schema(name).or_else(|| {
                self.explains.then(|| {
                    let refusal: Arc<dyn SchemaProvider> =
                        Arc::new(Refusal(no_database(&base, &self.databases)));
                    refusal
                })
            }),
        }
    }

    fn register_schema(
        &self,
        name: &str,
        schema: Arc<dyn SchemaProvider>,
    ) -> Result<Option<Arc<dyn SchemaProvider>>> {
        if self.databases.contains_key(name) {
            return Err(into_datafusion(Error::invalid(format!(
                "{name} is an attached database"
            ))));
        }
        self.others.register_schema(name, schema)
    }

    fn deregister_schema(
        &self,
        name: &str,
        cascade: bool,
    ) -> Result<Option<Arc<dyn SchemaProvider>>> {
        self.others.deregister_schema(name, cascade)
    }
}

impl fmt::Debug for DatabaseCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseCatalog")
            .field("databases", &self.databases)
            .finish_non_exhaustive()
    }
}

fn no_database(name: &str, databases: &Databases) -> String {
    if databases.is_empty() {
        return format!("there is no database {name}: none is attached");
    }
    let names: Vec<&str> = databases.keys().map(String::as_str).collect();
    format!(
        "there is no database {name}; attached are: {}",
        list(&names)
    )
}

/// One basis of a database as a schema: its entity and member tables, and the system tables.
pub(crate) struct BranchSchema {
    /// As statements name it.
    name: String,
    origin: Origin,
    db: OnceCell<Db>,
    tables: tokio::sync::Mutex<HashMap<String, Arc<dyn TableProvider>>>,
}

/// Where the value of a schema comes from.
enum Origin {
    Value(Db),
    /// The head of a branch that lies beside the branch of a value.
    Branch {
        sibling: Db,
        branch: BranchName,
    },
    View {
        of: Arc<BranchSchema>,
        view: BasisSpec,
    },
}

impl BranchSchema {
    fn new(name: String, origin: Origin) -> Self {
        let db = match &origin {
            Origin::Value(db) => OnceCell::from(db.clone()),
            Origin::Branch { .. } | Origin::View { .. } => OnceCell::new(),
        };
        Self {
            name,
            origin,
            db,
            tables: tokio::sync::Mutex::default(),
        }
    }

    /// The attached value that this one is found through.
    fn origin_db(&self) -> &Db {
        match &self.origin {
            Origin::Value(db) | Origin::Branch { sibling: db, .. } => db,
            Origin::View { of, .. } => of.origin_db(),
        }
    }

    async fn db(&self) -> crate::Result<&Db> {
        self.db
            .get_or_try_init(|| async {
                match &self.origin {
                    Origin::Value(db) => Ok(db.clone()),
                    Origin::Branch { sibling, branch } => {
                        Db::open_with(Arc::clone(sibling.loader()), branch).await
                    }
                    Origin::View { of, view } => Box::pin(of.db()).await?.at(view).await,
                }
            })
            .await
    }

    async fn make(&self, db: &Db, name: &str) -> Result<Arc<dyn TableProvider>> {
        Ok(match name {
            "datoms" => Arc::new(DatomTable::new(db.clone())),
            "datoms_history" => Arc::new(DatomTable::new(db.history())),
            "transactions" => meta::transactions(db).await?,
            "attributes" => meta::attributes(db).await?,
            "idents" => meta::idents(db)?,
            _ => {
                let defined = metaschema::tables(db.schema());
                let Some(table) = defined.iter().find(|table| table.name == name) else {
                    return Err(into_datafusion(self.no_table(db, name)));
                };
                if db.is_history() {
                    let base = &self.name[..self.name.find('@').unwrap_or(self.name.len())];
                    return Err(into_datafusion(Error::invalid(format!(
                        "{name} has one row an entity, but in a history an entity has many values: \
                         ask \"{base}\".datoms_history, or this history's datoms",
                    ))));
                }
                entity_table(db.clone(), table)?
            }
        })
    }

    fn no_table(&self, db: &Db, name: &str) -> Error {
        let names = names_of(db);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Error::invalid(format!(
            "there is no table {name} in {} (basis t={}, {}); there are: {}",
            self.name,
            db.basis_t(),
            TimePoint::Instant(db.basis_instant()),
            list(&names)
        ))
    }
}

/// The tables of a value: entities, members, then the system's.
fn names_of(db: &Db) -> Vec<String> {
    let entities = metaschema::tables(db.schema());
    let entities = entities.iter().filter(|_| !db.is_history());
    entities
        .map(|table| table.name.clone())
        .chain(metaschema::SYSTEM_TABLES.map(str::to_owned))
        .collect()
}

#[async_trait]
impl SchemaProvider for BranchSchema {
    /// Names of a basis that has been asked for; a basis that nothing has asked for lists none.
    fn table_names(&self) -> Vec<String> {
        self.db.get().map(names_of).unwrap_or_default()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let named = |error| match error {
            Error::Invalid(reason) => Error::invalid(format!("{}: {reason}", self.name)),
            other => other,
        };
        let db = self
            .db()
            .await
            .map_err(|error| into_datafusion(named(error)))?;
        let mut tables = self.tables.lock().await;
        if let Some(table) = tables.get(name) {
            return Ok(Some(Arc::clone(table)));
        }
        let table = self.make(db, name).await?;
        tables.insert(name.to_owned(), Arc::clone(&table));
        Ok(Some(table))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.db
            .get()
            .is_some_and(|db| names_of(db).iter().any(|known| known == name))
    }
}

impl fmt::Debug for BranchSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BranchSchema")
            .field("name", &self.name)
            .field("db", &self.db)
            .finish_non_exhaustive()
    }
}

impl Db {
    /// This value as a schema of DataFusion: its entity tables, member tables and system tables.
    ///
    /// Tables are made when they are asked for, and read when they are scanned.
    ///
    /// # Examples
    ///
    /// ```
    /// # use datomfusion::{Connection, Store};
    /// # use datafusion::prelude::SessionContext;
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let db = Connection::create(&Store::memory()).await?.db();
    /// let context = SessionContext::new();
    /// let catalog = context.catalog("datafusion").expect("the default catalog");
    /// catalog.register_schema("sales", db.schema_provider())?;
    /// context.sql("SELECT count(*) FROM sales.datoms").await?.collect().await?;
    /// # Ok(()) }
    /// ```
    pub fn schema_provider(&self) -> Arc<dyn SchemaProvider> {
        let name = "this database".to_owned();
        Arc::new(BranchSchema::new(name, Origin::Value(self.clone())))
    }
}

/// The default schema of a session: foreign tables.
#[derive(Debug)]
pub(crate) struct PublicSchema {
    tables: Mutex<BTreeMap<String, Arc<dyn TableProvider>>>,
    databases: Arc<Databases>,
    /// DataFusion asks for a table where a statement calls a table function.
    functions: HashSet<String>,
}

impl PublicSchema {
    pub(crate) fn new(
        tables: BTreeMap<String, Arc<dyn TableProvider>>,
        databases: Arc<Databases>,
        functions: HashSet<String>,
    ) -> Self {
        Self {
            tables: Mutex::new(tables),
            databases,
            functions,
        }
    }

    fn no_table(&self, name: &str) -> Error {
        let names = self.table_names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let there = if names.is_empty() {
            String::new()
        } else {
            format!("; there are: {}", list(&names))
        };
        let databases: Vec<&str> = self.databases.keys().map(String::as_str).collect();
        let hint = match databases[..] {
            [] => String::new(),
            [first, ..] => format!(
                "; the tables of a database are written {first}.TABLE, and attached are: {}",
                list(&databases)
            ),
        };
        Error::invalid(format!("there is no table {name}{there}{hint}"))
    }
}

#[async_trait]
impl SchemaProvider for PublicSchema {
    fn table_names(&self) -> Vec<String> {
        self.tables
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .cloned()
            .collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let table = {
            let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
            tables.get(name).map(Arc::clone)
        };
        if table.is_none() && !self.functions.contains(name) {
            return Err(into_datafusion(self.no_table(name)));
        }
        Ok(table)
    }

    fn register_table(
        &self,
        name: String,
        table: Arc<dyn TableProvider>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self
            .tables
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, table))
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self
            .tables
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(name)
    }
}

/// A schema that does not exist, and says why as soon as a table of it is asked for.
#[derive(Debug)]
struct Refusal(String);

#[async_trait]
impl SchemaProvider for Refusal {
    fn table_names(&self) -> Vec<String> {
        Vec::new()
    }

    async fn table(&self, _: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Err(into_datafusion(Error::invalid(self.0.clone())))
    }

    fn table_exist(&self, _: &str) -> bool {
        false
    }
}

fn list(names: &[&str]) -> String {
    match names.get(..LISTED_MAX) {
        Some(first) if first.len() < names.len() => {
            format!("{} and {} more", first.join(", "), names.len() - LISTED_MAX)
        }
        _ => names.join(", "),
    }
}
