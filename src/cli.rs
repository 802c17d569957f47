//! The command line: a thin door over [`Connection`](crate::Connection) and
//! [`Federation`](crate::Federation).
//!
//! What is printed on standard output is an answer, and only that; errors go to standard error, the first
//! line first, causes indented below. The exit code is 0 if the request was fulfilled, 1 if it failed and
//! 2 if it could not be understood.
//!
//! **Invariant.** Only this module and those below it print, read the environment or exit. (Credentials of
//! stores, and where their frames are kept on disk, are read from the environment where the stores are opened.)

mod argument;
mod branch;
mod cache;
mod create;
mod datoms;
mod demo;
mod diff;
mod entity;
mod fact;
mod fetch;
mod gc;
mod history;
mod log;
mod merge;
mod pull;
mod purge;
mod q;
mod render;
mod repl;
#[cfg(feature = "ws")]
mod serve;
mod sql;
mod stats;
mod transact;
mod verify;
mod with;

use std::error::Error as StdError;
use std::fmt::Display;
use std::future::Future;
use std::io::{self, BufWriter, Stdout, Write};
use std::process::ExitCode;
use std::sync::{Arc, LazyLock};

use clap::{Parser, Subcommand};
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::DataFusionError;
use futures::future::{Either, select};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::error::Error;
use crate::provider::error::from_datafusion;

/// Immutable databases as values, queried by SQL and Datalog where they lie.
#[derive(Debug, Parser)]
#[command(name = "datomfusion", version, about, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const AFTER_HELP: &str = "\
URL is memory:NAME, a path, file:///path, s3://bucket/prefix, gs://…, az://…, postgres://…, sqlite:path,
http(s)://… (read-only), ws://host:port/NAME, and may end in #branch and @basis: a date, an instant, t=N, tx=ID, commit=HEX,
since=N, history.

  datomfusion demo                                     two small databases, and what to ask them
  datomfusion create ./sales
  datomfusion transact ./sales schema.edn data.edn
  datomfusion sql --db sales=./sales 'SELECT count(*) FROM sales.datoms'
  datomfusion sql --db sales=./sales                   a prompt
  datomfusion q --db ./sales '[:find ?n :where [_ :customer/last-name ?n]]'
  datomfusion pull --db ./sales '[*]' '[:customer/id 1]'
  datomfusion log ./sales                              what was committed, newest first
  datomfusion diff ./sales t=3                         what has changed since
  datomfusion branch ./sales dev                       a branch, which is './sales#dev'
  datomfusion merge ./sales dev                        its changes, as one transaction
  datomfusion fetch s3://team/sales ./sales            a copy, and later what is new
  datomfusion push ./sales s3://team/sales             the other way; --follow keeps it so
  datomfusion serve --sync 127.0.0.1:7788 --db sales=./sales
  datomfusion fetch --follow ws://127.0.0.1:7788/sales ./copy
  datomfusion gc ./sales --dry-run                     what could go, and how much it is
  datomfusion purge ./sales --entity '[:customer/id 1]'";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a new database.
    Create(create::Create),
    /// Commit EDN files, each as one transaction.
    Transact(transact::Transact),
    /// Ask databases and files in SQL; without a query and at a terminal, a prompt.
    Sql(sql::Sql),
    /// Ask databases and collections in Datalog.
    Q(q::Q),
    /// Print what a pattern finds of an entity.
    Pull(pull::Pull),
    /// Print the datoms of an index as EDN.
    Datoms(datoms::Datoms),
    /// Print the transactions of a branch, newest first.
    Log(log::Log),
    /// Print all that was ever said of an entity.
    History(history::History),
    /// Print what must be said to turn one value into another.
    Diff(diff::Diff),
    /// List branches, or make, delete, restore or rename one.
    Branch(branch::Branch),
    /// Merge a branch into another.
    Merge(merge::Merge),
    /// Bring a branch of one store up to that of another, or make it.
    Fetch(fetch::Fetch),
    /// The same, for those who think of the other end: FROM is here, TO is there.
    Push(fetch::Fetch),
    /// Serve stores to other machines, until Ctrl-C.
    #[cfg(feature = "ws")]
    Serve(serve::Serve),
    /// Prove that a database is whole.
    Verify(verify::Verify),
    /// Find what no branch needs any more, and delete what was found so before the grace.
    Gc(gc::Gc),
    /// Take facts out of a branch, its past included, for good.
    Purge(purge::Purge),
    /// Print what a database consists of.
    Stats(stats::Stats),
    /// Print what the cache on disk holds, or clear it.
    Cache(cache::Cache),
    /// Make two small databases and join them, now and in the past.
    Demo(demo::Demo),
}

/// Runs the command line and returns its exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return Failure::from(error).report(),
    };
    let outcome = match cli.verb {
        Verb::Create(verb) => interruptible(&runtime, verb.run(stdout())),
        Verb::Transact(verb) => interruptible(&runtime, verb.run(stdout())),
        Verb::Q(verb) => verb.run(&runtime),
        Verb::Pull(verb) => interruptible(&runtime, verb.run(stdout())),
        Verb::Datoms(verb) => interruptible(&runtime, verb.run(stdout())),
        Verb::Log(verb) => interruptible(&runtime, verb.run(stdout())),
        Verb::History(verb) => interruptible(&runtime, verb.run(stdout())),
        Verb::Diff(verb) => interruptible(&runtime, verb.run(stdout())),
        Verb::Branch(verb) => interruptible(&runtime, verb.run(stdout())),
        Verb::Merge(verb) => interruptible(&runtime, verb.run(stdout())),
        Verb::Fetch(verb) | Verb::Push(verb) => interruptible(&runtime, verb.run(stdout())),
        #[cfg(feature = "ws")]
        Verb::Serve(verb) => interruptible(&runtime, verb.run(stdout())),
        Verb::Verify(verb) => interruptible(&runtime, verb.run(stdout())),
        Verb::Gc(verb) => interruptible(&runtime, verb.run(stdout())),
        Verb::Purge(verb) => interruptible(&runtime, verb.run(stdout())),
        Verb::Stats(verb) => interruptible(&runtime, verb.run(stdout())),
        Verb::Cache(verb) => interruptible(&runtime, verb.run(stdout())),
        Verb::Demo(verb) => interruptible(&runtime, verb.run(stdout())),
        Verb::Sql(verb) => verb.run(&runtime),
    };
    // Waits for no task: what was interrupted may not look up for a while.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

type Out = BufWriter<Stdout>;

fn stdout() -> Out {
    BufWriter::with_capacity(1 << 16, io::stdout())
}

/// Runs work until it is done or the user presses Ctrl-C.
///
/// The work is a task of its own, because a query can keep its thread busy for longer than a user waits.
fn interruptible<T: Send + 'static>(
    runtime: &Runtime,
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    runtime.block_on(async move {
        let stop = Box::pin(interrupts().notified());
        let task = Box::pin(SpawnedTask::spawn(work).join_unwind());
        match select(task, stop).await {
            Either::Left((Ok(done), _)) => done,
            Either::Left((Err(error), _)) => Err(Failure::new(error)),
            Either::Right(_) => Err(Failure::new("interrupted")),
        }
    })
}

/// Tells, from its first use on, whoever waits that the user has pressed Ctrl-C.
///
/// Signals are awaited on a thread of their own: among the workers, a busy one may be the one that ought
/// to look for them.
fn interrupts() -> &'static Notify {
    static INTERRUPTS: LazyLock<Arc<Notify>> = LazyLock::new(|| {
        let notify = Arc::new(Notify::new());
        let told = Arc::clone(&notify);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                // Where signals cannot be awaited, Ctrl-C ends the process, which is as good.
                while tokio::signal::ctrl_c().await.is_ok() {
                    told.notify_waiters();
                }
            });
            io::Result::Ok(())
        });
        notify
    });
    &INTERRUPTS
}

/// Why a request was not fulfilled.
#[derive(Debug)]
struct Failure {
    code: u8,
    /// The first line, and what stands below it.
    lines: Vec<String>,
    /// The reader of our output went away: nobody to tell, and nothing wrong.
    unheard: bool,
}

impl Failure {
    fn new(message: impl Display) -> Self {
        Self {
            code: 1,
            lines: vec![message.to_string()],
            unheard: false,
        }
    }

    /// The request itself makes no sense.
    fn usage(message: impl Display) -> Self {
        Self {
            code: 2,
            ..Self::new(message)
        }
    }

    /// The same failure, with what it happened to in front.
    fn of(mut self, what: impl Display) -> Self {
        if let Some(first) = self.lines.first_mut() {
            *first = format!("{what}: {first}");
        }
        self
    }

    /// The same failure, with a line below.
    fn below(mut self, line: impl Display) -> Self {
        self.lines.push(line.to_string());
        self
    }

    fn from_chain(error: &(dyn StdError + 'static)) -> Self {
        let mut failure = Self::new(error);
        let mut depth = 1;
        let mut source = error.source();
        while let Some(error) = source {
            let text = error.to_string();
            // Some errors repeat their source.
            if !failure
                .lines
                .last()
                .is_some_and(|last| last.contains(&text))
            {
                failure
                    .lines
                    .push(format!("{:indent$}{text}", "", indent = 2 * depth));
                depth += 1;
            }
            source = error.source();
        }
        failure
    }

    fn report(self) -> ExitCode {
        if self.unheard {
            return ExitCode::SUCCESS;
        }
        let mut stderr = io::stderr().lock();
        for (number, line) in self.lines.iter().enumerate() {
            let before = if number == 0 { "error: " } else { "" };
            // There is no third place to say that standard error is closed.
            let _ = writeln!(stderr, "{before}{line}");
        }
        ExitCode::from(self.code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from_chain(&error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let unheard = error.kind() == io::ErrorKind::BrokenPipe;
        Self {
            unheard,
            ..Self::from_chain(&error)
        }
    }
}

impl From<DataFusionError> for Failure {
    fn from(error: DataFusionError) -> Self {
        match from_datafusion(error) {
            Ok(error) => error.into(),
            Err(DataFusionError::IoError(error)) => error.into(),
            Err(error) => {
                let text = error.strip_backtrace();
                let mut lines = text.lines();
                let first = Self::new(lines.next().unwrap_or_default());
                lines.fold(first, |failure, line| failure.below(format!("  {line}")))
            }
        }
    }
}

impl From<arrow::error::ArrowError> for Failure {
    fn from(error: arrow::error::ArrowError) -> Self {
        DataFusionError::from(error).into()
    }
}
