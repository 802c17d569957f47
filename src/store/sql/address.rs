//! Addresses of SQL stores: `postgres://user@host/database?table=NAME` and `sqlite:path?table=NAME`.
//!
//! **Invariant.** Nothing that precedes an `@` is ever printed, and of the options only the name of the
//! table, once it is known to be one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use url::{Host, Url, form_urlencoded};

use super::SqlStore;
use super::engine::{Database, Engine, Pool};
use crate::error::{Error, Result};
use crate::store::url::{malformed, unescape};
use crate::store::{Identity, Store};

/// The table of a store whose address names none.
const TABLE: &str = "datomfusion";
/// Longest name of a table: PostgreSQL cuts longer ones.
const TABLE_BYTES_MAX: usize = 63;
/// What else PostgreSQL is told; `sqlx` reads the values.
const POSTGRES_OPTIONS: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];
/// How long SQLite waits for the writer before.
const BUSY: Duration = Duration::from_secs(30);

/// A table of PostgreSQL. Host, port, user and password may come from the environment (`PGHOST`,
/// `PGPASSWORD` and so on) and the password file.
pub(in crate::store) fn open_postgres(address: &str) -> Result<Store> {
    let mut url = Url::parse(address).map_err(malformed)?;
    if url.fragment().is_some() {
        return Err(Error::invalid(
            "the address has a # too many: write %23 where it is part of a password or a name",
        ));
    }
    let mut table = TABLE.to_owned();
    let mut rest = form_urlencoded::Serializer::new(String::new());
    for (name, value) in url.query_pairs() {
        match &*name {
            "table" => table = checked_table(&value)?,
            _ if POSTGRES_OPTIONS.contains(&&*name) => {
                rest.append_pair(&name, &value);
            }
            _ => return Err(unknown(&url, &name, &value)),
        }
    }
    let rest = rest.finish();
    url.set_query(Some(rest.as_str()).filter(|rest| !rest.is_empty()));
    let named = url.path().trim_matches('/');
    // An @ here may be one that ends a password with a slash in it.
    if named.is_empty() || named.contains(['/', '@']) {
        return Err(Error::invalid(
            "the address names no database: it is postgres://user@host:port/database, with %2F for / \
             and %40 for @ in a name or a password",
        ));
    }
    let options = PgConnectOptions::from_url(&url).map_err(|_| {
        // What is wrong may be the password.
        Error::invalid("the user, the password or an option of the address cannot be read")
    })?;
    let mut options = options.disable_statement_logging();
    if let Some(Host::Ipv6(address)) = url.host() {
        options = options.host(&address.to_string());
    }
    let host = match url.host() {
        Some(Host::Ipv6(address)) => format!("[{address}]"),
        _ => options.get_host().replace('/', "%2F"),
    };
    let location = format!(
        "postgres://{host}:{}/{named}{}",
        options.get_port(),
        shown(&table)
    );
    // The user too: the schema that a name is looked up in may be theirs.
    let identity = format!("{}@{location}", options.get_username());
    let identity = Identity::address("postgres", identity.as_bytes());
    let engine = Engine::Postgres(Pool::new(options));
    Ok(store(engine, &table, location).with_identity(identity))
}

/// A table of a file of SQLite, which the first write makes. `rest` is what follows `sqlite:`.
pub(in crate::store) fn open_sqlite(rest: &str) -> Result<Store> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut table = TABLE.to_owned();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "table" => table = checked_table(&value)?,
            _ => {
                return Err(Error::invalid(
                    "the address of a SQLite file has one option, table; write %3F for ? in a path",
                ));
            }
        }
    }
    let path = match path.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        None if !path.is_empty() => path,
        _ => {
            return Err(Error::invalid(
                "the address of a SQLite file is sqlite:path or sqlite:///path",
            ));
        }
    };
    let path = unescape(&path.replace("%3F", "?"));
    // A later change of the working directory must not move the store.
    let path = std::path::absolute(Path::new(&path))
        .map_err(|error| Error::invalid(format!("{path}: {error}")))?;
    if path.is_dir() {
        let reason = format!("{} is a directory, not a file of SQLite", path.display());
        return Err(Error::invalid(reason));
    }
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(false)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
        .disable_statement_logging();
    let location = format!("sqlite:{}{}", path.display(), shown(&table));
    // A path may hold what its location ends with.
    let identity = [path.as_os_str().as_encoded_bytes(), table.as_bytes()].join(&0);
    let identity = Identity::address("sqlite", &identity);
    let engine = Engine::Sqlite(Pool::new(options), path);
    Ok(store(engine, &table, location).with_identity(identity))
}

fn store(engine: Engine, table: &str, location: String) -> Store {
    let store = SqlStore(Arc::new(Database {
        engine,
        table: format!("\"{table}\""),
        location: location.clone(),
    }));
    Store::new(Arc::new(store.clone()), Arc::new(store), location)
}

/// The name of a table, if it is one on either database, in quotes or not.
fn checked_table(name: &str) -> Result<String> {
    let is_name = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.len() <= TABLE_BYTES_MAX
        && !name.starts_with("sqlite_")
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    if is_name {
        return Ok(name.to_owned());
    }
    Err(Error::invalid(format!(
        "option table of the address is not the name of a table: at most {TABLE_BYTES_MAX} of a-z, 0-9 \
         and _, not beginning with a digit or sqlite_"
    )))
}

fn unknown(url: &Url, name: &str, value: &str) -> Error {
    // Without a value, what looks like a name may be a pasted key; before an @, a password.
    let is_harmless = !value.is_empty() && !url.query().unwrap_or_default().contains('@');
    let shown = if is_harmless { name } else { "" };
    Error::invalid(format!(
        "option {shown:?} of the address is not one of this kind of store: it has table and {}",
        POSTGRES_OPTIONS.join(", ")
    ))
}

fn shown(table: &str) -> String {
    if table == TABLE {
        String::new()
    } else {
        format!("?table={table}")
    }
}
