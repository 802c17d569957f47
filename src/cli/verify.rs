//! `datomfusion verify URL [--deep]`

use std::io::{IsTerminal, Write};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Failure, Out};
use crate::db::{Db, Depth, Progress};

/// Prove that a database is whole; the exit code says whether it is.
#[derive(Args, Debug)]
pub(super) struct Verify {
    /// The database
    url: String,
    /// Also prove that every tree follows from the log, and read packs whole
    #[arg(long)]
    deep: bool,
}

impl Verify {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let db = Db::open_url(&self.url).await?;
        let depth = if self.deep { Depth::Deep } else { Depth::Plain };
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new(0)
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}");
        bar.set_style(style.map_err(Failure::new)?);
        let mut progress = |progress: Progress| {
            bar.set_message(progress.stage.to_string());
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        };
        let found = db.verify_to(depth, &mut progress).await;
        bar.finish_and_clear();
        let found = found?;
        for tree in &found.trees {
            writeln!(
                out,
                "{:<14} {:>10} datoms {:>8} nodes {:>12} bytes",
                tree.name.to_string(),
                tree.datoms,
                tree.nodes,
                tree.bytes
            )?;
        }
        writeln!(out, "{} commits, {} frames", found.commits, found.frames)?;
        out.flush()?;
        match found.faults.split_first() {
            None => Ok(()),
            Some((first, rest)) => {
                let failure = Failure::new(first);
                Err(rest.iter().fold(failure, Failure::below))
            }
        }
    }
}
