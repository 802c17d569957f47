//! `datomfusion log URL[@BASIS] [--graph] [--data] [-n N] [--format text|json]`

use std::collections::BTreeMap;
use std::io::Write;

use clap::Args;
use futures::stream::TryStreamExt;
use serde_json::json;

use super::fact::{Format, instant, write_fact};
use super::{Failure, Out};
use crate::conn::{Branches, Commit, commit_graph};
use crate::db::Db;
use crate::db::basis::split_url;
use crate::id::CommitId;
use crate::store::Store;

/// Print the transactions of a branch, newest first.
#[derive(Args, Debug)]
pub(super) struct Log {
    /// The database, at a basis if you like
    url: String,
    /// Print the commits of all branches and how they hang together instead
    #[arg(long)]
    graph: bool,
    /// Print what each transaction said, too
    #[arg(long, conflicts_with = "graph")]
    data: bool,
    /// Print at most so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
    limit: usize,
    /// How to print them
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl Log {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        if self.graph {
            self.draw(&mut out).await?;
        } else {
            self.list(&mut out).await?;
        }
        out.flush()?;
        Ok(())
    }

    async fn list(&self, out: &mut Out) -> Result<(), Failure> {
        let db = Db::open_url(&self.url).await?;
        let mut transactions = db.transactions_back(..);
        let mut left = self.limit;
        while left > 0
            && let Some(transaction) = transactions.try_next().await?
        {
            left -= 1;
            let commit = transaction.commit.map(|commit| commit.to_string());
            let (t, datoms) = (transaction.t, transaction.data.len());
            let at = instant(transaction.instant);
            match self.format {
                Format::Text => {
                    let commit = commit.unwrap_or_default();
                    writeln!(out, "t={t}  {at}  {datoms} datoms  {commit}")?;
                }
                Format::Json if !self.data => {
                    let tx = transaction.tx.0.0;
                    let line = json!({
                        "t": t, "tx": tx, "instant": at, "datoms": datoms, "commit": commit,
                    });
                    writeln!(out, "{line}")?;
                }
                Format::Json => {}
            }
            if self.data {
                for datom in &transaction.data {
                    let fact = (datom.e, datom.a, &datom.v);
                    write_fact(&db, fact, datom.added, Some(datom.tx), self.format, out)?;
                }
            }
        }
        Ok(())
    }

    async fn draw(&self, out: &mut Out) -> Result<(), Failure> {
        let (address, basis) = split_url(&self.url)?;
        if !basis.is_empty() {
            return Err(Failure::usage(
                "a graph shows all branches whole: leave out what follows # or @",
            ));
        }
        let store = Store::open_url(&address)?;
        let (mut dbs, mut names) = (Vec::new(), BTreeMap::<CommitId, Vec<String>>::new());
        for branch in Branches::new(&store).list().await? {
            let heads = names.entry(branch.commit).or_default();
            heads.push(branch.name.to_string());
            dbs.push(Db::open(&store, &branch.name).await?);
        }
        let mut commits = commit_graph(&dbs);
        let mut lanes = Lanes::default();
        let mut left = self.limit;
        while left > 0
            && let Some(commit) = commits.try_next().await?
        {
            left -= 1;
            let heads = names.get(&commit.id).map(|names| names.join(", "));
            let parents: Vec<String> = commit.parents.iter().map(ToString::to_string).collect();
            let at = instant(commit.instant);
            match self.format {
                Format::Text => {
                    let heads = heads
                        .map(|heads| format!("  ({heads})"))
                        .unwrap_or_default();
                    writeln!(out, "{}  {}  {at}{heads}", lanes.next(&commit), commit.id)?;
                }
                Format::Json => {
                    let line = json!({
                        "commit": commit.id.to_string(), "parents": parents, "instant": at,
                        "t": commit.id.t, "branches": names.get(&commit.id),
                    });
                    writeln!(out, "{line}")?;
                }
            }
        }
        Ok(())
    }
}

/// The columns of a graph: which commit each waits for.
#[derive(Default)]
struct Lanes(Vec<Option<CommitId>>);

impl Lanes {
    /// The columns at a commit, a star where it stands.
    fn next(&mut self, commit: &Commit) -> String {
        let waits = |lane: &Option<CommitId>| *lane == Some(commit.id);
        let at = match self.0.iter().position(waits) {
            Some(at) => at,
            None => self.free(),
        };
        self.0[at] = Some(commit.id);
        let drawn = self
            .0
            .iter()
            .enumerate()
            .map(|(lane, waiting)| match waiting {
                _ if lane == at => "*",
                // Other columns that wait for this commit end here.
                Some(other) if *other == commit.id => "/",
                Some(_) => "|",
                None => " ",
            });
        let drawn = drawn.collect::<Vec<_>>().join(" ");
        for lane in &mut self.0 {
            if waits(lane) {
                *lane = None;
            }
        }
        let mut parents = commit.parents.iter();
        self.0[at] = parents.next().copied();
        for parent in parents {
            if !self.0.contains(&Some(*parent)) {
                let free = self.free();
                self.0[free] = Some(*parent);
            }
        }
        while self.0.last().is_some_and(Option::is_none) {
            self.0.pop();
        }
        drawn
    }

    fn free(&mut self) -> usize {
        self.0.iter().position(Option::is_none).unwrap_or_else(|| {
            self.0.push(None);
            self.0.len() - 1
        })
    }
}
