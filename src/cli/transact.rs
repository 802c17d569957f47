//! `datomfusion transact URL [FILE|-]...`

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::sync::Arc;

use clap::Args;

use super::{Failure, Out};
use crate::conn::Connection;
use crate::db::basis::{TimePoint, split_url};
use crate::environment::System;
use crate::store::Store;
use crate::tx::TxData;

/// Commit EDN files, each as one transaction.
#[derive(Args, Debug)]
pub(super) struct Transact {
    /// The database; #BRANCH names another branch than main
    url: String,
    /// Files of EDN, each one transaction: a vector of maps and lists; - is standard input
    #[arg(value_name = "FILE|-")]
    files: Vec<String>,
}

impl Transact {
    pub(super) async fn run(mut self, mut out: Out) -> Result<(), Failure> {
        let (address, basis) = split_url(&self.url)?;
        if !basis.parts().is_empty() {
            return Err(Failure::usage(
                "a transaction builds on the newest basis: leave out what follows @",
            ));
        }
        if self.files.is_empty() {
            if io::stdin().is_terminal() {
                return Err(Failure::usage(
                    "name the files to transact, or - for standard input",
                ));
            }
            self.files.push("-".into());
        }
        // All are read before any is committed: a typing error in the last undoes nothing.
        let mut transactions = Vec::with_capacity(self.files.len());
        for file in self.files {
            let text = read(&file).map_err(|error| Failure::from(error).of(&file))?;
            let data = TxData::parse(&text).map_err(|error| Failure::from(error).of(&file))?;
            transactions.push((file, data));
        }
        let store = Store::open_url(&address)?;
        let branch = basis.branch().cloned().unwrap_or_default();
        let conn = Connection::open_in(&store, branch, Arc::new(System)).await?;
        let mut committed: Vec<String> = Vec::new();
        for (file, data) in transactions {
            let report = match conn.transact(&data).await {
                Ok(report) => report,
                Err(error) => {
                    out.flush()?;
                    let before = match &committed[..] {
                        [] => "nothing was committed".to_owned(),
                        before => format!("committed before: {}", before.join(", ")),
                    };
                    return Err(Failure::from(error).of(&file).below(before));
                }
            };
            writeln!(
                out,
                "{file}: t={}, {}, {} datoms, {} tempids",
                report.t,
                TimePoint::Instant(report.instant),
                report.tx_data.len(),
                report.tempids.len()
            )?;
            out.flush()?;
            committed.push(file);
        }
        Ok(())
    }
}

fn read(file: &str) -> io::Result<String> {
    if file == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    fs::read_to_string(file)
}
