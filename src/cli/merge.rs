//! `datomfusion merge URL[#INTO] FROM [--strategy fail|ours|theirs]`

use std::io::Write;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::{Failure, Out};
use crate::conn::{Conflict, ConflictKind, Connection, MergeOutcome, MergeStrategy, Resolution};
use crate::db::Db;
use crate::db::basis::{BasisSpec, split_url};
use crate::environment::System;
use crate::store::Store;
use crate::value::Value;

/// Merge a branch into another, as one transaction.
#[derive(Args, Debug)]
pub(super) struct Merge {
    /// The database, and the branch that takes the changes: ./sales, './sales#dev'
    url: String,
    /// The branch whose changes are taken, at a basis if you like: dev, dev@t=12
    from: String,
    /// What becomes of conflicts
    #[arg(long, value_enum, default_value = "fail")]
    strategy: Strategy,
}

/// Who wins.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Strategy {
    /// Nothing is merged if there are any
    Fail,
    /// The branch that takes the changes stays as it is
    Ours,
    /// The changes are taken over
    Theirs,
}

impl Merge {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let (address, basis) = split_url(&self.url)?;
        if !basis.parts().is_empty() {
            return Err(Failure::usage(
                "a merge builds on the newest basis: leave out what follows @",
            ));
        }
        let store = Store::open_url(&address)?;
        let branch = basis.branch().cloned().unwrap_or_default();
        let ours = Connection::open_in(&store, branch, Arc::new(System)).await?;
        let from = self.from.strip_prefix('#').unwrap_or(&self.from);
        let from: BasisSpec = format!("#{from}").parse()?;
        let theirs = Db::open(&store, &from.branch().cloned().unwrap_or_default()).await?;
        let theirs = theirs.at(&from).await?;
        let strategy = match self.strategy {
            Strategy::Fail => MergeStrategy::Fail,
            Strategy::Ours => MergeStrategy::Ours,
            Strategy::Theirs => MergeStrategy::Theirs,
        };
        let report = ours.merge(&theirs, &strategy).await?;
        // Conflicts speak in ids of ours.
        let db = ours.db();
        for (conflict, resolution) in &report.conflicts {
            writeln!(out, "{}", line(&db, conflict, *resolution))?;
        }
        let commit = report.commit;
        match report.outcome {
            MergeOutcome::UpToDate => writeln!(out, "up to date at {commit}")?,
            MergeOutcome::FastForward => writeln!(out, "fast-forward to {commit}")?,
            MergeOutcome::Merged => {
                let datoms = report.tx.map_or(0, |tx| tx.tx_data.len());
                writeln!(out, "merged as {commit}, {datoms} datoms")?;
            }
            MergeOutcome::Refused => {
                out.flush()?;
                return Err(Failure::new(format!(
                    "{} conflicts: nothing was merged; --strategy ours or theirs decides them",
                    report.conflicts.len()
                )));
            }
        }
        out.flush()?;
        Ok(())
    }
}

fn line(db: &Db, conflict: &Conflict, resolution: Resolution) -> String {
    let a = db
        .ident(conflict.a)
        .map_or_else(|| conflict.a.to_string(), ToString::to_string);
    let shown = |value: &Option<Value>| {
        let text = value.as_ref().map(ToString::to_string);
        text.unwrap_or_else(|| "nothing".into())
    };
    let what = match conflict.kind {
        ConflictKind::Changed => "changed by both".to_owned(),
        ConflictKind::Retracted => "retracted by one and changed by the other".to_owned(),
        ConflictKind::Unique { holder } => format!("unique, and {holder} has it"),
    };
    let became = match resolution {
        Resolution::Ours => ", ours stays",
        Resolution::Theirs => ", theirs is taken",
        Resolution::Refuse => "",
    };
    format!(
        "conflict [{} {a}]: {what}{became}: base {}, ours {}, theirs {}",
        conflict.e,
        shown(&conflict.base),
        shown(&conflict.ours),
        shown(&conflict.theirs)
    )
}
