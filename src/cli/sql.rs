//! `datomfusion sql --db NAME=URL[@BASIS]... [--table NAME=FILE]... [--format …] [-f FILE | 'SQL']`

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use tokio::runtime::Runtime;

use super::render::{self, Format};
use super::{Failure, interruptible, repl, stdout};
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
        if let Some(option) = self.query.as_ref().filter(|query| is_option(query)) {
            return Err(Failure::usage(format!("there is no option {option}")));
        }
        let Self {
            databases,
            tables,
            format,
            file,
            query,
        } = self;
        let query = match (query, file) {
            (Some(query), _) => Some(query),
            (None, Some(file)) => Some(read(&file)?),
            (None, None) if io::stdin().is_terminal() => None,
            (None, None) => Some(read(Path::new("-"))?),
        };
        if query.as_ref().is_some_and(|query| query.trim().is_empty()) {
            return Err(Failure::usage("there is no statement"));
        }
        if query.is_some() && format == Format::Parquet && io::stdout().is_terminal() {
            return Err(Failure::usage(
                "Parquet is not for a terminal: redirect standard output to a file",
            ));
        }
        let federation = interruptible(runtime, attach(databases, tables))?;
        match query {
            Some(query) => interruptible(runtime, one(federation, query, format)),
            None => repl::run(runtime, &federation, format),
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
) -> Result<Federation, Failure> {
    let mut federation = Federation::new();
    for (name, url) in databases {
        federation
            .attach_url(&name, &url)
            .await
            .map_err(|error| Failure::from(error).of(format!("--db {name}")))?;
    }
    for (name, file) in tables {
        federation
            .attach_file(&name, Path::new(&file))
            .await
            .map_err(|error| Failure::from(error).of(format!("--table {name}")))?;
    }
    Ok(federation)
}

/// Whether a text was meant as an option. As a statement it would be nothing but a comment.
pub(super) fn is_option(text: &str) -> bool {
    text.starts_with("--") && text.len() > 2 && !text.contains(char::is_whitespace)
}

/// Splits `NAME=REST` at the first equals sign: a basis has some of its own.
fn named(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, rest)) if !name.is_empty() && !rest.is_empty() => {
            Ok((name.to_owned(), rest.to_owned()))
        }
        _ => Err("it is written NAME=ADDRESS, as in sales=./sales".into()),
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    fs::read_to_string(file).map_err(|error| Failure::from(error).of(file.display()))
}
