//! `datomfusion create URL`

use std::io::Write;
use std::sync::Arc;

use clap::Args;

use super::{Failure, Out};
use crate::conn::Connection;
use crate::db::basis::split_url;
use crate::environment::System;
use crate::store::Store;

/// Make a new database.
#[derive(Args, Debug)]
pub(super) struct Create {
    /// Where, as a path or any other address; #BRANCH names its first branch, else main
    url: String,
}

impl Create {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let (address, basis) = split_url(&self.url)?;
        if !basis.parts().is_empty() {
            return Err(Failure::usage(
                "a new database has no basis: leave out what follows @",
            ));
        }
        let store = Store::open_url(&address)?;
        let branch = basis.branch().cloned().unwrap_or_default();
        let conn = Connection::create_in(&store, branch, Arc::new(System)).await?;
        let db = conn.db();
        writeln!(
            out,
            "created database {} at {}",
            db.database_id(),
            store.location()
        )?;
        out.flush()?;
        Ok(())
    }
}
