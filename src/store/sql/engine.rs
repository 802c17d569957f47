//! Connections to PostgreSQL and SQLite, and statements on them.
//!
//! The two differ in their types only, so that what is done with a connection is written once, in a macro.
//! A connection on which anything failed is closed; the next statement begins with a fresh one.
//!
//! **Invariant.** No statement depends on being polled by whoever asked: there are few connections, and a
//! stream may rest while it holds one.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sqlx::postgres::PgRow;
use sqlx::sqlite::{SqliteJournalMode, SqliteRow};
use sqlx::{Connection, FromRow, Postgres, Sqlite};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::failure::Failure;

/// Connections of one store.
const CONNECTIONS_MAX: usize = 8;
/// How long a connection may rest: whatever lies between may have forgotten it, and say nothing.
const REST_MAX: Duration = Duration::from_mins(1);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How long each row of an answer may take, and an answer without rows.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often a statement is tried whose answer did not arrive, if it may be carried out twice.
const ATTEMPTS_MAX: usize = 3;

/// A value of a statement.
pub(super) enum Arg {
    Text(String),
    Int(i64),
    Bytes(Bytes),
}

/// A statement and its values, `$1` and so on.
pub(super) struct Statement {
    sql: String,
    args: Vec<Arg>,
}

impl Statement {
    /// `sql` holds no text from outside, but the checked and quoted name of the table.
    pub(super) fn new(sql: String, args: Vec<Arg>) -> Self {
        Self { sql, args }
    }
}

/// A database and the table in it.
pub(super) struct Database {
    pub(super) engine: Engine,
    /// The name of the table, in quotes.
    pub(super) table: String,
    /// For messages: without user and password.
    pub(super) location: String,
}

pub(super) enum Engine {
    Postgres(Pool<Postgres>),
    /// With the file, which only `create` makes.
    Sqlite(Pool<Sqlite>, PathBuf),
}

impl Database {
    /// The rows of a query.
    pub(super) async fn read<R>(self: &Arc<Self>, statement: Statement) -> Result<Vec<R>, Failure>
    where
        R: Send + for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + 'static,
    {
        let this = Arc::clone(self);
        on_a_task(async move { this.rows(&statement).await }).await
    }

    /// Carries out statements, all or none; the rows that the first one changed. If it changed none, the
    /// others are left out.
    ///
    /// Only what is `repeatable` is tried again after it may have been carried out.
    pub(super) async fn write(
        self: &Arc<Self>,
        statements: Arc<[Statement]>,
        repeatable: bool,
    ) -> Result<u64, Failure> {
        let this = Arc::clone(self);
        on_a_task(async move { this.changed(&statements, repeatable).await }).await
    }

    /// Makes the table, unless another writer has done so.
    pub(super) async fn create(self: &Arc<Self>) -> Result<(), Failure> {
        let this = Arc::clone(self);
        on_a_task(async move { this.created().await }).await
    }

    async fn rows<R>(&self, statement: &Statement) -> Result<Vec<R>, Failure>
    where
        R: Send + for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow>,
    {
        let mut attempts = ATTEMPTS_MAX;
        loop {
            attempts -= 1;
            let rows = match &self.engine {
                Engine::Postgres(pool) => pool.read(statement).await,
                Engine::Sqlite(pool, path) => {
                    pool.is_there(path)?;
                    pool.read(statement).await
                }
            };
            match rows {
                Err(Failure::Broken(_) | Failure::Overtaken(_)) if attempts > 0 => {}
                rows => return rows,
            }
        }
    }

    async fn changed(&self, statements: &[Statement], repeatable: bool) -> Result<u64, Failure> {
        let mut attempts = ATTEMPTS_MAX;
        loop {
            attempts -= 1;
            let changed = match &self.engine {
                Engine::Postgres(pool) => pool.write(statements).await,
                Engine::Sqlite(pool, path) => {
                    pool.is_there(path)?;
                    pool.write(statements).await
                }
            };
            match changed {
                Err(Failure::Broken(_)) if repeatable && attempts > 0 => {}
                Err(Failure::Overtaken(_)) if attempts > 0 => {}
                changed => return changed,
            }
        }
    }

    async fn created(&self) -> Result<(), Failure> {
        let table = &self.table;
        match &self.engine {
            Engine::Postgres(pool) => {
                let statements = [
                    // Two that make one table at once would meet in the catalog.
                    "SELECT pg_advisory_xact_lock(hashtext('datomfusion'))".to_owned(),
                    format!(
                        "CREATE TABLE IF NOT EXISTS {table} (key text COLLATE \"C\" NOT NULL, \
                         piece bigint NOT NULL, size bigint NOT NULL, version text NOT NULL, \
                         modified bigint NOT NULL, body bytea NOT NULL, PRIMARY KEY (key, piece))"
                    ),
                    // What is compressed already is not compressed again.
                    format!("ALTER TABLE {table} ALTER COLUMN body SET STORAGE EXTERNAL"),
                ];
                let statements = statements.map(|sql| Statement::new(sql, Vec::new()));
                pool.write(&statements).await.map(|_| ())
            }
            Engine::Sqlite(pool, path) => {
                if let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) {
                    let reason = format!("{} is not a directory", parent.display());
                    return Err(Failure::Connect(reason));
                }
                let options = pool.options.clone().create_if_missing(true);
                let options = options.journal_mode(SqliteJournalMode::Wal);
                let mut lease = pool.lease(Some(&options)).await?;
                let sql = format!(
                    "CREATE TABLE IF NOT EXISTS {table} (key TEXT NOT NULL, piece INTEGER NOT NULL, \
                     size INTEGER NOT NULL, version TEXT NOT NULL, modified INTEGER NOT NULL, \
                     body BLOB NOT NULL, PRIMARY KEY (key, piece)) WITHOUT ROWID"
                );
                let statement = Statement::new(sql, Vec::new());
                lease.write(&[statement]).await?;
                pool.give_back(lease);
                Ok(())
            }
        }
    }

    /// The clock of the database, in milliseconds since the epoch.
    pub(super) fn now(&self) -> &'static str {
        match self.engine {
            Engine::Postgres(_) => {
                "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS bigint)"
            }
            Engine::Sqlite(..) => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
        }
    }
}

/// Connections that are at rest, since when, and the right to have some at work.
pub(super) struct Pool<DB: sqlx::Database> {
    options: <DB::Connection as Connection>::Options,
    idle: Mutex<Vec<(Instant, DB::Connection)>>,
    permits: Semaphore,
}

impl<DB: sqlx::Database> Pool<DB> {
    pub(super) fn new(options: <DB::Connection as Connection>::Options) -> Self {
        Self {
            options,
            idle: Mutex::default(),
            permits: Semaphore::new(CONNECTIONS_MAX),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Instant, DB::Connection)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that has not rested for long; the others are closed.
    fn rested(&self) -> Option<DB::Connection> {
        let mut idle = self.idle();
        idle.retain(|(since, _)| since.elapsed() < REST_MAX);
        idle.pop().map(|(_, connection)| connection)
    }
}

impl Pool<Sqlite> {
    /// Whether there is a file; of one that was removed, connections at rest would go on with what is left.
    fn is_there(&self, path: &Path) -> Result<(), Failure> {
        match path.try_exists() {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.idle().clear();
                Err(Failure::Absent)
            }
            Err(error) => Err(Failure::Connect(error.to_string())),
        }
    }
}

/// Does all of some work, whether its caller goes on to poll or not: others wait for the connection. What
/// nobody waits for any more is given up.
async fn on_a_task<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    if Handle::try_current().is_err() {
        return Err(Failure::NoRuntime);
    }
    let mut task = JoinSet::new();
    task.spawn(work);
    let done = task.join_next().await.expect("the set holds the task");
    done.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        // Its statement may have been sent.
        Err(error) => Err(Failure::Broken(sqlx::Error::Io(error.into()))),
    })
}

/// Carries a future to its end, or to the end of patience.
async fn in_time<T>(future: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Failure> {
    match timeout(PATIENCE, future).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Failure::Late(PATIENCE.as_secs())),
    }
}

macro_rules! engine {
    ($module:ident, $database:ident, $begin:literal, $refusal:expr) => {
        mod $module {
            use futures::TryStreamExt;
            use sqlx::query::Query;
            use sqlx::{AssertSqlSafe, ConnectOptions, Connection, FromRow};
            use tokio::sync::SemaphorePermit;
            use tokio::time::{Instant, timeout};

            use super::{Arg, CONNECT, Failure, Pool, Statement, in_time, $database};

            type Live = <$database as sqlx::Database>::Connection;
            type Options = <Live as Connection>::Options;
            type Row = <$database as sqlx::Database>::Row;

            /// A connection at work; it is closed unless it is given back.
            pub(super) struct Lease<'a>(Live, SemaphorePermit<'a>);

            impl Pool<$database> {
                pub(super) async fn read<R>(&self, statement: &Statement) -> Result<Vec<R>, Failure>
                where
                    R: Send + for<'r> FromRow<'r, Row>,
                {
                    let mut lease = self.lease(None).await?;
                    let rows = self.checked(lease.read(statement).await)?;
                    self.give_back(lease);
                    Ok(rows)
                }

                pub(super) async fn write(&self, statements: &[Statement]) -> Result<u64, Failure> {
                    let mut lease = self.lease(None).await?;
                    let changed = self.checked(lease.write(statements).await)?;
                    self.give_back(lease);
                    Ok(changed)
                }

                /// A connection at rest or a new one; by other options than the usual, a new one.
                pub(super) async fn lease(
                    &self,
                    options: Option<&Options>,
                ) -> Result<Lease<'_>, Failure> {
                    let permit = self.permits.acquire().await;
                    let permit = permit.expect("the semaphore is never closed");
                    let idle = match options {
                        None => self.rested(),
                        Some(_) => None,
                    };
                    if let Some(connection) = idle {
                        return Ok(Lease(connection, permit));
                    }
                    let options = options.unwrap_or(&self.options);
                    match timeout(CONNECT, options.connect()).await {
                        Ok(Ok(connection)) => Ok(Lease(connection, permit)),
                        Ok(Err(error)) => Err($refusal(error)),
                        Err(_) => {
                            let seconds = CONNECT.as_secs();
                            Err(Failure::Connect(format!(
                                "no answer within {seconds} seconds"
                            )))
                        }
                    }
                }

                pub(super) fn give_back(&self, lease: Lease<'_>) {
                    let Lease(connection, permit) = lease;
                    self.idle().push((Instant::now(), connection));
                    drop(permit);
                }

                /// After a broken connection, those at rest are likely to be broken too.
                fn checked<T>(&self, done: Result<T, Failure>) -> Result<T, Failure> {
                    if let Err(Failure::Broken(_) | Failure::Late(_)) = done {
                        self.idle().clear();
                    }
                    done
                }
            }

            fn bound(
                statement: &Statement,
            ) -> Query<'_, $database, <$database as sqlx::Database>::Arguments> {
                let query = sqlx::query(AssertSqlSafe(statement.sql.clone()));
                statement.args.iter().fold(query, |query, arg| match arg {
                    Arg::Text(text) => query.bind(text.as_str()),
                    Arg::Int(number) => query.bind(*number),
                    Arg::Bytes(bytes) => query.bind(&bytes[..]),
                })
            }

            impl Lease<'_> {
                async fn read<R>(&mut self, statement: &Statement) -> Result<Vec<R>, Failure>
                where
                    R: Send + for<'r> FromRow<'r, Row>,
                {
                    let mut answer = bound(statement).fetch(&mut self.0);
                    let mut rows = Vec::new();
                    while let Some(row) = in_time(answer.try_next()).await? {
                        rows.push(R::from_row(&row)?);
                    }
                    Ok(rows)
                }

                pub(super) async fn write(
                    &mut self,
                    statements: &[Statement],
                ) -> Result<u64, Failure> {
                    if let [statement] = statements {
                        return self.execute(statement).await;
                    }
                    self.tell($begin).await?;
                    let mut first = None;
                    for statement in statements {
                        let changed = self.execute(statement).await?;
                        if *first.get_or_insert(changed) == 0 {
                            break;
                        }
                    }
                    match first {
                        Some(changed) if changed > 0 => {
                            self.tell("COMMIT").await?;
                            Ok(changed)
                        }
                        _ => self.tell("ROLLBACK").await.map(|()| 0),
                    }
                }

                async fn execute(&mut self, statement: &Statement) -> Result<u64, Failure> {
                    let done = in_time(bound(statement).execute(&mut self.0)).await?;
                    Ok(done.rows_affected())
                }

                async fn tell(&mut self, sql: &'static str) -> Result<(), Failure> {
                    let done = sqlx::raw_sql(sql).execute(&mut self.0);
                    in_time(done).await.map(|_| ())
                }
            }
        }
    };
}

engine!(postgres, Postgres, "BEGIN", |error| {
    Failure::connecting_to_postgres(&error)
});
// Whoever reads first and writes later would lose to a writer in between.
engine!(sqlite, Sqlite, "BEGIN IMMEDIATE", Failure::from);

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqliteConnectOptions;

    use super::*;

    /// Connections rested for as long as the store was open. Where a firewall had forgotten one, the next
    /// statement waited for a minute.
    #[tokio::test]
    async fn a_connection_that_rested_for_long_is_not_used_again() {
        let pool = Pool::<Sqlite>::new(SqliteConnectOptions::new());
        let statement = |sql: &str| Statement::new(sql.to_owned(), Vec::new());
        pool.write(&[statement("CREATE TEMP TABLE mark (x)")])
            .await
            .unwrap();
        let is_marked = async || {
            let found = pool.read::<(i64,)>(&statement("SELECT x FROM mark")).await;
            !matches!(found, Err(Failure::Absent))
        };
        assert!(is_marked().await);
        pool.idle()[0].0 -= REST_MAX;
        assert!(!is_marked().await);
    }
}
