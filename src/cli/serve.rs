//! `datomfusion serve --sync ADDR --db NAME=URL… [--write]`

use std::io::Write;
use std::net::SocketAddr;

use clap::Args;
use tokio::net::TcpListener;

use super::argument::named;
use super::{Failure, Out};
use crate::db::basis::split_url;
use crate::store::{Store, SyncServer, SyncToken, serve_sync};

/// Serve stores to other machines, until Ctrl-C.
#[derive(Args, Debug)]
pub(super) struct Serve {
    #[arg(
        long,
        value_name = "ADDR",
        help = "The address to listen on, as 127.0.0.1:7788; any but this machine's needs DATOMFUSION_SYNC_TOKEN"
    )]
    sync: SocketAddr,
    #[arg(
        long = "db",
        value_name = "NAME=URL",
        value_parser = named,
        required = true,
        help = "A store and the name it has in ws://ADDR/NAME; may be given several times"
    )]
    dbs: Vec<(String, String)>,
    /// Take writes, too
    #[arg(long)]
    write: bool,
}

impl Serve {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let mut stores = Vec::new();
        for (name, url) in self.dbs {
            let (address, basis) = split_url(&url)?;
            if !basis.is_empty() {
                return Err(Failure::usage(
                    "a store is served whole: leave out what follows # or @",
                ));
            }
            stores.push((name, Store::open_url(&address)?));
        }
        let names: Vec<String> = stores.iter().map(|(name, _)| name.clone()).collect();
        let server = SyncServer::try_new(stores, SyncToken::from_environment()?)?;
        let listener = TcpListener::bind(self.sync).await?;
        let address = listener.local_addr()?;
        server.check(&address)?;
        for name in names {
            writeln!(out, "ws://{address}/{name}")?;
        }
        out.flush()?;
        Ok(serve_sync(listener, server.with_writes(self.write)).await?)
    }
}
