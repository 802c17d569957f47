//! `--with [NAME=]FILE`: databases as they would be.

use std::path::Path;

use clap::Args;

use super::Failure;
use super::argument::read;
use crate::db::Db;
use crate::tx::TxData;

/// Files that are applied to what is opened, and never stored.
#[derive(Args, Clone, Debug)]
pub(super) struct With {
    /// Ask as if FILE were transacted; nothing is stored. NAME says on which database, if there are
    /// several; several files apply one after the other
    #[arg(long = "with", value_name = "[NAME=]FILE")]
    files: Vec<String>,
}

impl With {
    /// Applies each file to the database that it names, or to the only one.
    pub(super) async fn apply(&self, databases: &mut [(String, Db)]) -> Result<(), Failure> {
        for file in &self.files {
            let named = file.split_once('=').and_then(|(name, file)| {
                let is_name = |known: &str| known == name || known.strip_prefix('$') == Some(name);
                let at = databases.iter().position(|(known, _)| is_name(known))?;
                Some((at, file))
            });
            let (at, file) = match (named, databases.len()) {
                (Some(named), _) => named,
                (None, 1) => (0, &**file),
                (None, _) => {
                    let names: Vec<&str> = databases.iter().map(|(name, _)| &**name).collect();
                    return Err(Failure::usage(format!(
                        "--with {file}: say on which database, as in --with NAME={file}; there is {}",
                        if names.is_empty() {
                            "none".to_owned()
                        } else {
                            names.join(", ")
                        }
                    )));
                }
            };
            let of = |failure: Failure| failure.of(format!("--with {file}"));
            let data = TxData::parse(&read(Path::new(file))?).map_err(|error| of(error.into()))?;
            let (_, db) = &mut databases[at];
            *db = db.db_with(&data).await.map_err(|error| of(error.into()))?;
        }
        Ok(())
    }
}
