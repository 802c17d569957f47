//! `datomfusion branch URL[#FROM][@BASIS] [NAME | --delete NAME | --restore NAME | --rename OLD NEW]`

use std::io::Write;

use clap::Args;

use super::fact::instant;
use super::{Failure, Out};
use crate::conn::Branches;
use crate::db::Db;
use crate::db::basis::split_url;
use crate::id::BranchName;
use crate::store::Store;

/// List branches, or make, delete, restore or rename one.
#[derive(Args, Debug)]
pub(super) struct Branch {
    /// The database; a new branch begins at its #branch and @basis
    url: String,
    /// Make this branch
    #[arg(value_name = "NAME", conflicts_with_all = ["delete", "restore", "rename"])]
    name: Option<String>,
    /// Delete this branch; it can be restored until garbage collection takes it
    #[arg(long, value_name = "NAME", conflicts_with_all = ["restore", "rename"])]
    delete: Option<String>,
    /// Bring a deleted branch back
    #[arg(long, value_name = "NAME", conflicts_with = "rename")]
    restore: Option<String>,
    /// Rename a branch
    #[arg(long, num_args = 2, value_names = ["OLD", "NEW"])]
    rename: Option<Vec<String>>,
    /// List deleted branches, too
    #[arg(long)]
    all: bool,
}

impl Branch {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let (address, basis) = split_url(&self.url)?;
        if self.name.is_none() && !basis.is_empty() {
            return Err(Failure::usage(
                "only a new branch begins somewhere: leave out what follows # or @",
            ));
        }
        let branches = Branches::new(&Store::open_url(&address)?);
        if let Some(name) = &self.name {
            let at = Db::open_url(&self.url).await?;
            let db = branches.create(&BranchName::try_new(name)?, &at).await?;
            writeln!(out, "created {name} at {}", db.head_commit())?;
        } else if let Some(name) = &self.delete {
            branches.delete(&BranchName::try_new(name)?).await?;
            writeln!(out, "deleted {name}; --restore {name} brings it back")?;
        } else if let Some(name) = &self.restore {
            let db = branches.restore(&BranchName::try_new(name)?).await?;
            writeln!(out, "restored {name} at {}", db.head_commit())?;
        } else if let Some([old, new]) = self.rename.as_deref() {
            let (from, to) = (BranchName::try_new(old)?, BranchName::try_new(new)?);
            branches.rename(&from, &to).await?;
            writeln!(out, "renamed {old} to {new}")?;
        } else {
            let list = if self.all {
                branches.list_all().await?
            } else {
                branches.list().await?
            };
            for branch in list {
                let deleted = branch.deleted.map(instant);
                let deleted = deleted
                    .map(|at| format!("  deleted {at}"))
                    .unwrap_or_default();
                let (commit, at) = (branch.commit, instant(branch.instant));
                writeln!(out, "{}  {commit}  {at}{deleted}", branch.name)?;
            }
        }
        out.flush()?;
        Ok(())
    }
}
