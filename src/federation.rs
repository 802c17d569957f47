//! Many databases and foreign tables behind one door.
//!
//! ```text
//! attach("sales", db) ──┐                       ┌─ sales.invoice, "sales@t=3".invoice, …
//! attach_url(…) ────────┼─► Federation ─► session ─► tables of DataFusion
//! attach_file(…) ───────┘                       └─ prices (the default schema)
//! ```
//!
//! Above [`catalog`](crate::catalog), below the doors. A federation is a value: what it attaches are
//! values too, so a session made from it sees the same facts for as long as it lives.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use arrow::record_batch::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, TableProvider};
use datafusion::dataframe::DataFrame;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::SessionContext;
use datomfusion_datalog::Optimizations;

use crate::catalog::session::{DatalogSession, plan_sql, session_builder, session_config};
use crate::catalog::table_functions::{DIFF, Diff};
use crate::catalog::time_travel::{RefuseVersions, Statements};
use crate::catalog::{DatabaseCatalog, Databases, PUBLIC, PublicSchema, external};
use crate::db::Db;
use crate::db::basis::split_url;
use crate::error::{Error, Result};
use crate::store::Store;

/// The catalog of a session's own tables.
const CATALOG: &str = "datomfusion";

/// Databases and foreign tables that one statement can join.
///
/// Clones share what is attached so far, and attach apart.
///
/// # Examples
///
/// ```
/// # use datomfusion::{Connection, Federation, Store, TxData};
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sales = Connection::create(&Store::memory()).await?;
/// sales.transact(&TxData::parse(
///     "[{:db/ident :invoice/total :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]",
/// )?).await?;
/// sales.transact(&TxData::parse("[{:invoice/total 42}]")?).await?;
///
/// let mut federation = Federation::new();
/// federation.attach("sales", sales.db())?;
/// let now_and_then = federation
///     .sql("SELECT (SELECT sum(total) FROM sales.invoice) AS now,
///                  (SELECT sum(total) FROM sales.invoice VERSION AS OF 1) AS before")
///     .await?
///     .collect()
///     .await?;
/// assert_eq!(now_and_then[0].num_rows(), 1);
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Federation {
    databases: Arc<Databases>,
    foreign: BTreeMap<String, Arc<dyn TableProvider>>,
    runtime: Arc<RuntimeEnv>,
    optimizations: Optimizations,
    /// Made by the first query.
    datalog: Arc<OnceLock<Arc<DatalogSession>>>,
}

impl Federation {
    /// Nothing attached yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bounds what the queries of this federation hold in memory together, in bytes. Beyond it, sorts and aggregates go
    /// to a temporary directory; what cannot, such as the rows of recursive rules, ends in an error that says so. The
    /// cache of nodes ([`Loader`](crate::node::Loader)) has a bound of its own. Cost: none.
    ///
    /// # Errors
    ///
    /// DataFusion's, if there can be no temporary directory.
    pub fn with_memory_limit(self, bytes: usize) -> DataFusionResult<Self> {
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(bytes, 1.0);
        Ok(Self {
            runtime: runtime.build_arc()?,
            datalog: Arc::default(),
            ..self
        })
    }

    /// Chooses what sessions and queries of this federation may do to answer sooner. Cost: none.
    ///
    /// # Examples
    ///
    /// ```
    /// # use datomfusion::{Federation, Optimizations};
    /// let mut as_written = Optimizations::default();
    /// as_written.join_order = false;
    /// let federation = Federation::new().with_optimizations(as_written);
    /// # let _ = federation;
    /// ```
    #[must_use]
    pub fn with_optimizations(self, optimizations: Optimizations) -> Self {
        Self {
            optimizations,
            datalog: Arc::default(),
            ..self
        }
    }

    /// Attaches a value as the schema `name`. Other bases of it, and other branches of its store, are
    /// found through it: `"name@t=3"`, `"name#dev"`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the name would need quotes in SQL or is taken.
    pub fn attach(&mut self, name: &str, db: Db) -> Result<()> {
        self.check_name(name)?;
        Arc::make_mut(&mut self.databases).insert(name.to_owned(), db);
        Ok(())
    }

    /// Opens `address[#branch][@basis]` and attaches its value of now. Reads one object if no basis is
    /// given.
    ///
    /// # Errors
    ///
    /// As [`Federation::attach`], and as opening the store, the branch and the basis.
    pub async fn attach_url(&mut self, name: &str, url: &str) -> Result<()> {
        self.check_name(name)?;
        let db = Db::open_url(url).await?;
        self.attach(name, db)
    }

    /// Attaches a Parquet, CSV or JSON file as a table of the default schema. The ending of the file's
    /// name says which it is; a JSON file is an array of objects, or an object a line.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the name would need quotes in SQL or is taken, or if the file is not there,
    /// or not what its name says.
    pub async fn attach_file(&mut self, name: &str, path: &Path) -> Result<()> {
        self.check_name(name)?;
        let table = external::file_table(&self.session_context().state(), path).await?;
        self.foreign.insert(name.to_owned(), table);
        Ok(())
    }

    /// Attaches any table of DataFusion under the default schema.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the name would need quotes in SQL or is taken.
    pub fn attach_table(&mut self, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
        self.check_name(name)?;
        self.foreign.insert(name.to_owned(), table);
        Ok(())
    }

    /// The attached databases, by name.
    pub fn databases(&self) -> impl Iterator<Item = (&str, &Db)> {
        self.databases.iter().map(|(name, db)| (name.as_str(), db))
    }

    /// A fresh session of DataFusion in which everything is installed: for one client.
    ///
    /// Its `sql` method plans with DataFusion's parser, which reads no version clause; [`Federation::sql`]
    /// and [`Federation::sql_in`] do. Names with a basis, `"sales@t=3".invoice`, work in both. What a
    /// name stands for is decided once a session. It also learns nothing of columns beforehand, so that joins are
    /// ordered by exact counts and assumed shares, and stay as written where a member table is among them.
    ///
    /// # Panics
    ///
    /// Never: a catalog in memory takes any schema.
    pub fn session_context(&self) -> SessionContext {
        let config = session_config(&self.optimizations)
            .with_default_catalog_and_schema(CATALOG, PUBLIC)
            .with_create_default_catalog_and_schema(false);
        let state = session_builder(config)
            .with_runtime_env(Arc::clone(&self.runtime))
            .build();
        let functions = state.table_functions().keys().cloned();
        let functions = functions.chain([DIFF.to_owned()]).collect();
        let context = SessionContext::new_with_state(state);
        let public =
            PublicSchema::new(self.foreign.clone(), Arc::clone(&self.databases), functions);
        let others = MemoryCatalogProvider::new();
        // A catalog in memory takes any schema.
        let registered = others.register_schema(PUBLIC, Arc::new(public));
        debug_assert!(registered.is_ok());
        let catalog = DatabaseCatalog::new(Arc::clone(&self.databases), Arc::new(others));
        let catalog = Arc::new(catalog);
        context.register_udtf(DIFF, Arc::new(Diff(Arc::clone(&catalog))));
        context.register_catalog(CATALOG, catalog);
        context
    }

    /// What queries in Datalog share.
    pub(crate) fn datalog_session(&self) -> &Arc<DatalogSession> {
        let new = || {
            let runtime = Arc::clone(&self.runtime);
            Arc::new(DatalogSession::new(runtime, self.optimizations.clone()))
        };
        self.datalog.get_or_init(new)
    }

    /// Plans one SQL statement that reads, in a session of its own. Version clauses are honoured:
    /// `sales.invoice FOR SYSTEM_TIME AS OF TIMESTAMP '2022-12-31 12:00:00'`, `sales.invoice VERSION AS
    /// OF 42`.
    ///
    /// # Errors
    ///
    /// DataFusion's errors of planning; ours travel inside as
    /// [`External`](datafusion::error::DataFusionError::External).
    pub async fn sql(&self, sql: &str) -> DataFusionResult<DataFrame> {
        self.sql_in(&self.session_context(), sql).await
    }

    /// [`Federation::sql`] in a session that [`Federation::session_context`] made.
    ///
    /// # Errors
    ///
    /// As [`Federation::sql`].
    pub async fn sql_in(&self, session: &SessionContext, sql: &str) -> DataFusionResult<DataFrame> {
        let is_database = |name: &str| self.databases.contains_key(name);
        plan_sql(session, sql, Statements::ReadOnly, &is_database).await
    }

    /// Plans and runs one SQL statement.
    ///
    /// # Errors
    ///
    /// As [`Federation::sql`], and what goes wrong while it runs.
    pub async fn query(&self, sql: &str) -> DataFusionResult<Vec<RecordBatch>> {
        self.sql(sql).await?.collect().await
    }

    /// The plan of a statement as text; with `analyze` it runs, and shows what each operator did.
    ///
    /// # Errors
    ///
    /// As [`Federation::query`].
    pub async fn explain(&self, sql: &str, analyze: bool) -> DataFusionResult<String> {
        let plan = self
            .sql(sql)
            .await?
            .explain(false, analyze)?
            .collect()
            .await?;
        Ok(pretty_format_batches(&plan)?.to_string())
    }

    /// Makes the attached databases schemas of a session of the caller's, beside the tables it has.
    ///
    /// They join its default catalog, in front: a schema of the name of a database is hidden. The
    /// session refuses version clauses, which DataFusion would ignore; use names with a basis, as
    /// `"sales@t=3".invoice`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the session has no default catalog.
    pub fn register(&self, context: &SessionContext) -> Result<()> {
        let catalog = context
            .state()
            .config_options()
            .catalog
            .default_catalog
            .clone();
        let Some(others) = context.catalog(&catalog) else {
            return Err(Error::invalid(format!(
                "the session has no catalog {catalog}"
            )));
        };
        let over = DatabaseCatalog::over(Arc::clone(&self.databases), others);
        let over = Arc::new(over);
        context.register_udtf(DIFF, Arc::new(Diff(Arc::clone(&over))));
        context.register_catalog(catalog, over);
        context
            .register_relation_planner(Arc::new(RefuseVersions))
            .map_err(|error| Error::invalid(error.strip_backtrace()))
    }

    /// A name is used in SQL as it is, so it must survive there without quotes.
    fn check_name(&self, name: &str) -> Result<()> {
        let plain = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !plain {
            return Err(Error::invalid(format!(
                "{name:?} cannot be a name in SQL: use lower-case letters, digits and _, \
                 not beginning with a digit"
            )));
        }
        if [PUBLIC, "information_schema", CATALOG].contains(&name) {
            return Err(Error::invalid(format!(
                "{name} is a schema that every session has"
            )));
        }
        if self.databases.contains_key(name) || self.foreign.contains_key(name) {
            return Err(Error::invalid(format!("{name} is attached already")));
        }
        Ok(())
    }
}

impl fmt::Debug for Federation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Federation")
            .field("databases", &self.databases)
            .field("foreign", &self.foreign.keys())
            .finish_non_exhaustive()
    }
}

impl Db {
    /// Opens the value at `address[#branch][@basis]`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the address or the basis is malformed, and as [`Db::open`] and [`Db::at`].
    pub async fn open_url(url: &str) -> Result<Self> {
        let (address, basis) = split_url(url)?;
        let store = Store::open_url(&address)?;
        let branch = basis.branch().cloned().unwrap_or_default();
        Self::open(&store, &branch).await?.at(&basis).await
    }
}
