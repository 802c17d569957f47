//! `datomfusion cache [DIR] [--clear]`

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::{Failure, Out};
use crate::store::DiskCache;

/// Print what the cache on disk holds, or clear it.
#[derive(Args, Debug)]
pub(super) struct Cache {
    #[arg(
        value_name = "DIR",
        help = "The directory; without it, the one in DATOMFUSION_CACHE_DIR"
    )]
    directory: Option<PathBuf>,
    /// Remove the frames of all stores; other files stay
    #[arg(long)]
    clear: bool,
}

impl Cache {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let cache = match &self.directory {
            Some(directory) if directory.is_dir() => {
                DiskCache::open(directory, DiskCache::BYTES_MAX)?
            }
            Some(directory) => {
                let directory = directory.display();
                return Err(Failure::new(format!("{directory} is not a directory")));
            }
            None => DiskCache::from_environment()?.ok_or_else(|| {
                Failure::usage("name the directory, here or in DATOMFUSION_CACHE_DIR")
            })?,
        };
        let (does, usage) = if self.clear {
            ("removed", cache.clear().await?)
        } else {
            ("holds", cache.usage().await?)
        };
        let directory = cache.path().display();
        let (frames, bytes) = (usage.frames, usage.bytes);
        writeln!(out, "{directory}: {does} {frames} frames, {bytes} bytes")?;
        out.flush()?;
        Ok(())
    }
}
