//! `datomfusion sql --db NAME=URL[@BASIS]... [--with [NAME=]FILE]... [--table NAME=FILE]... [-f FILE | 'SQL']`

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::Args;
use tokio::runtime::Runtime;

use super::argument::{named, query_text};
use super::render::{self, Format};
use super::with::With;
use super::{Failure, interruptible, repl, stdout};
use crate::db::Db;
use crate::error::Error;
use crate::federation::Federation;

/// Ask databases and files in SQL.
#[derive(Args, Debug)]
pub(super) struct Sql {
    /// Attach a database as the schema NAME, at a basis if you like: sales=./sales@2022-12-31
    #[arg(long = "db", value_name = "NAME=URL[@BASIS]", value_parser = named)]
    databases: Vec<(String, String)>,
    /// Attach a Parquet, CSV or JSON file as the table NAME
    #[arg(long = "table", value_name = "NAME=FILE", value_parser = named)]
    tables: Vec<(String, String)>,
    #[command(flatten)]
    with: With,
    /// How to print the rows
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Read the statement from a file; - is standard input
    #[arg(short, long, conflicts_with = "query")]
    file: Option<PathBuf>,
    /// The statement; version clauses are honoured: sales.invoice VERSION AS OF 42
    #[arg(value_name = "SQL", allow_hyphen_values = true)]
    query: Option<String>,
}

impl Sql {
    pub(super) fn run(self, runtime: &Runtime) -> Result<(), Failure> {
        let Self {
            databases,
            tables,
            with,
            format,
            file,
            query,
        } = self;
        let query = query_text(query, file)?;
        if query.as_ref().is_some_and(|query| query.trim().is_empty()) {
            return Err(Failure::usage("there is no statement"));
        }
        if query.is_some() && format == Format::Parquet && io::stdout().is_terminal() {
            return Err(Failure::usage(
                "Parquet is not for a terminal: redirect standard output to a file",
            ));
        }
        let federation = interruptible(runtime, attach(databases, tables, with))?;
        match query {
            Some(query) => interruptible(runtime, one(federation, query, format)),
            None => repl::run(runtime, &repl::Sql(federation), format),
        }
    }
}

async fn one(federation: Federation, query: String, format: Format) -> Result<(), Failure> {
    let rows = federation.sql(&query).await?.execute_stream().await?;
    render::write(rows, format, stdout()).await
}

async fn attach(
    databases: Vec<(String, String)>,
    tables: Vec<(String, String)>,
    with: With,
) -> Result<Federation, Failure> {
    let mut federation = Federation::new();
    let of = |name: &str| {
        let what = format!("--db {name}");
        move |error: Error| Failure::from(error).of(what)
    };
    let mut opened = Vec::with_capacity(databases.len());
    for (name, url) in databases {
        let db = Db::open_url(&url).await.map_err(of(&name))?;
        opened.push((name, db));
    }
    with.apply(&mut opened).await?;
    for (name, db) in opened {
        federation.attach(&name, db).map_err(of(&name))?;
    }
    for (name, file) in tables {
        federation
            .attach_file(&name, Path::new(&file))
            .await
            .map_err(|error| Failure::from(error).of(format!("--table {name}")))?;
    }
    Ok(federation)
}
