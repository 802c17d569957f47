//! `datomfusion fetch FROM[#BRANCH] TO[#BRANCH] [--branch B] [--follow [--every DURATION]]`, and `push`, which
//! is the same walk

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures::stream::{self, StreamExt};
use indicatif::{ProgressBar, ProgressStyle};

use super::gc::duration;
use super::{Failure, Out};
use crate::db::basis::split_url;
use crate::environment::System;
use crate::error::Error;
use crate::id::BranchName;
use crate::store::Store;
use crate::sync::{SyncOptions, SyncOutcome, SyncReport, follow, sync_watched};

/// Bring a branch of one store up to that of another, or make it.
#[derive(Args, Debug)]
pub(super) struct Fetch {
    /// The database that is read
    from: String,
    /// The store that is written; it may be empty
    to: String,
    /// The branch at both ends, where an address names none
    #[arg(long)]
    branch: Option<String>,
    /// Go on whenever the branch moves, until Ctrl-C
    #[arg(long)]
    follow: bool,
    /// How often to look; a look that finds nothing is one request. A server, at ws:, tells at once
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration, requires = "follow")]
    every: Duration,
}

impl Fetch {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let other = self
            .branch
            .as_deref()
            .map(BranchName::try_new)
            .transpose()?;
        let (from, from_branch) = end(&self.from, other.as_ref())?;
        let (to, to_branch) = end(&self.to, other.as_ref().or(Some(&from_branch)))?;
        let options = SyncOptions::branches(from_branch, to_branch);
        if self.follow {
            // The look itself waits where a server tells of changes.
            let every = if from.is_live() {
                Duration::ZERO
            } else {
                self.every
            };
            let every = every.max(Duration::from_millis(100));
            let mut clock = tokio::time::interval(every);
            clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            // The first is now, and so is the first look.
            clock.tick().await;
            let ticks = stream::unfold(clock, |mut clock| async move {
                clock.tick().await;
                Some(((), clock))
            });
            let mut reports = follow(&from, &to, options.clone(), Arc::new(System), ticks);
            while let Some(report) = reports.next().await {
                match report {
                    // The storage may be back at the next look.
                    Err(error @ Error::Store { .. }) => {
                        Failure::from(error).report();
                        if from.is_live() {
                            let pause = std::future::pending::<()>();
                            drop(tokio::time::timeout(self.every, pause).await);
                        }
                    }
                    report => write_report(&report?, &options, &mut out)?,
                }
            }
            return Ok(());
        }
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template("{spinner} {pos} nodes {msg}");
        bar.set_style(style.map_err(Failure::new)?);
        let mut progress = |report: &SyncReport| {
            bar.set_position(report.nodes);
            bar.set_message(format!("{} bytes", report.bytes));
        };
        let report = sync_watched(&from, &to, &options, Arc::new(System), &mut progress).await;
        bar.finish_and_clear();
        write_report(&report?, &options, &mut out)
    }
}

/// The store and the branch that an address names.
fn end(url: &str, otherwise: Option<&BranchName>) -> Result<(Store, BranchName), Failure> {
    let (address, basis) = split_url(url)?;
    if !basis.parts().is_empty() {
        return Err(Failure::usage(
            "branches are brought from store to store, not bases: leave out what follows @",
        ));
    }
    let branch = basis.branch().or(otherwise).cloned().unwrap_or_default();
    Ok((Store::open_url(&address)?, branch))
}

fn write_report(
    report: &SyncReport,
    options: &SyncOptions,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let branch = &options.to_branch;
    let done = match report.outcome {
        SyncOutcome::UpToDate => "is up to date",
        SyncOutcome::FastForward => "has moved on and stands",
        SyncOutcome::Created => "was made and stands",
    };
    write!(out, "branch {branch} {done}")?;
    if let (Some(commit), true) = (report.commit, report.outcome != SyncOutcome::UpToDate) {
        write!(
            out,
            " at {commit}: {} commits, {} nodes, {} bodies, {} bytes",
            report.commits, report.nodes, report.bodies, report.bytes
        )?;
    }
    writeln!(out)?;
    out.flush()?;
    Ok(())
}
