//! `datomfusion q --db '$'=URL[@BASIS]... [--rules FILE|EDN] [--arg EDN]... [--explain | --analyze]
//! 'QUERY' | -f FILE`

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use datomfusion_datalog::ast::{Query, RuleSet};
use datomfusion_datalog::{Term, edn};
use tokio::runtime::Runtime;

use super::argument::{no_option, query_text, read, source};
use super::render::{Format, write_answer};
use super::with::With;
use super::{Failure, interruptible, repl, stdout};
use crate::db::Db;
use crate::error::Error;
use crate::federation::Federation;
use crate::query::Inputs;

/// Ask databases and collections in Datalog.
#[derive(Args, Debug)]
pub(super) struct Q {
    /// Bind a source to a database, at a basis if you like: '$s=./sales@2022-12-31', s=./sales, or an
    /// address alone for $
    #[arg(long = "db", value_name = "NAME=URL[@BASIS]", value_parser = source)]
    databases: Vec<(String, String)>,
    #[command(flatten)]
    with: With,
    /// What % is: rules if the text starts with [ or (, a file of them if not
    #[arg(long, value_name = "FILE|EDN", allow_hyphen_values = true)]
    rules: Option<String>,
    /// The value of the next input that is neither a database nor %; may be repeated
    #[arg(long = "arg", value_name = "EDN|@FILE", allow_hyphen_values = true)]
    arguments: Vec<String>,
    /// How to print the answer
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Print how the query would be answered instead
    #[arg(long)]
    explain: bool,
    /// Answer the query, and print what each step of that took instead
    #[arg(long, conflicts_with = "explain")]
    analyze: bool,
    /// Read the query from a file; - is standard input
    #[arg(short, long, conflicts_with = "query")]
    file: Option<PathBuf>,
    /// The query: '[:find ?n :where [_ :artist/name ?n]]'
    #[arg(value_name = "QUERY", allow_hyphen_values = true)]
    query: Option<String>,
}

impl Q {
    pub(super) fn run(self, runtime: &Runtime) -> Result<(), Failure> {
        if self.format == Format::Parquet {
            return Err(Failure::usage(
                "an answer of Datalog has terms and not columns: Parquet is for sql",
            ));
        }
        let text = query_text(self.query, self.file)?;
        if text.as_ref().is_some_and(|text| text.trim().is_empty()) {
            return Err(Failure::usage("there is no query"));
        }
        let query = match &text {
            Some(text) => Some(Query::parse(text).map_err(Error::from)?),
            None => None,
        };
        let names: Vec<String> = self
            .databases
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        let bound = bound(self.databases, self.with, self.rules, self.arguments);
        let inputs = interruptible(runtime, bound)?;
        let (Some(text), Some(query)) = (text, query) else {
            return repl::run(runtime, &repl::Datalog { names, inputs }, self.format);
        };
        let (format, explain, analyze) = (self.format, self.explain, self.analyze);
        interruptible(runtime, async move {
            let federation = Federation::new();
            let mut out = stdout();
            if explain || analyze {
                let plan = if explain {
                    federation.explain_q(&text, &inputs).await?
                } else {
                    federation.analyze_q(&text, &inputs).await?
                };
                writeln!(out, "{}", plan.trim_end())?;
            } else {
                let answer = federation.q(&text, &inputs).await?;
                write_answer(answer, &query, format, &mut out)?;
            }
            out.flush()?;
            Ok(())
        })
    }
}

/// What the arguments bind.
async fn bound(
    databases: Vec<(String, String)>,
    with: With,
    rules: Option<String>,
    arguments: Vec<String>,
) -> Result<Inputs, Failure> {
    let mut inputs = Inputs::new();
    if let Some(rules) = &rules {
        inputs = inputs.rules(rules_text(rules)?);
    }
    for (at, argument) in arguments.iter().enumerate() {
        inputs = inputs.argument(term(argument, at + 1)?);
    }
    let mut names = HashSet::new();
    let mut opened = Vec::with_capacity(databases.len());
    for (name, url) in &databases {
        if !names.insert(name) {
            return Err(Failure::usage(format!("--db binds {name} twice")));
        }
        let db = Db::open_url(url).await;
        let db = db.map_err(|error| Failure::from(error).of(format!("--db {name}")))?;
        opened.push((name.clone(), db));
    }
    with.apply(&mut opened).await?;
    for (name, db) in &opened {
        inputs = inputs.source(name, db);
    }
    Ok(inputs)
}

/// Rules in the argument itself, or in the file that it names.
fn rules_text(argument: &str) -> Result<String, Failure> {
    no_option(argument)?;
    let text = if argument.trim_start().starts_with(['[', '(']) {
        argument.to_owned()
    } else {
        read(Path::new(argument))?
    };
    // Asked here, so that the error says in which of the texts it is.
    RuleSet::parse(&text).map_err(|error| Failure::from(Error::from(error)).of("--rules"))?;
    Ok(text)
}

/// The value of the `number`th `--arg`.
fn term(argument: &str, number: usize) -> Result<Term, Failure> {
    no_option(argument)?;
    let text = match argument.strip_prefix('@') {
        Some(file) => read(Path::new(file))?,
        None => argument.to_owned(),
    };
    let what = format!("--arg {number}");
    let form = edn::read(&text).map_err(|error| Failure::from(Error::from(error)).of(&what))?;
    Term::try_from(&form).map_err(|reason| Failure::new(reason).of(what))
}
