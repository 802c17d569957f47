//! `datomfusion gc URL [--dry-run] [--grace DURATION] [--keep default|all|newest] [--no-repack]`

use std::io::Write;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Failure, Out};
use crate::db::basis::split_url;
use crate::gc::{GcOptions, GcReport, Packs, Retention, gc};
use crate::store::Store;

/// Find what no branch needs any more, and delete what was found so before the grace.
#[derive(Args, Debug)]
pub(super) struct Gc {
    /// The database, all its branches together
    url: String,
    /// Change nothing; say what would happen, by the clock of this machine
    #[arg(long)]
    dry_run: bool,
    /// How long readers may go on with what they have opened, and deleted branches be restored: 90s, 15m,
    /// 2h, 1d; 0s only if nobody reads meanwhile
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    grace: Duration,
    /// Which checkpoints of the past stay; where they go, old bases open more slowly
    #[arg(long, value_enum, default_value = "default")]
    keep: Keep,
    /// Leave packs alone of which most is garbage, but not all
    #[arg(long)]
    no_repack: bool,
}

/// Which checkpoints stay.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Keep {
    /// All of a day, then one an hour for a week, one a day for 90 days, one every 30 days
    Default,
    /// All
    All,
    /// The newest of each branch
    Newest,
}

impl Gc {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let (address, basis) = split_url(&self.url)?;
        if basis.branch().is_some() || !basis.parts().is_empty() {
            return Err(Failure::usage(
                "garbage is collected from all branches at once: leave out what follows # or @",
            ));
        }
        let store = Store::open_url(&address)?;
        let options = GcOptions {
            retention: match self.keep {
                Keep::Default => Retention::default(),
                Keep::All => Retention::keep_all(),
                Keep::Newest => Retention::newest_only(),
            },
            grace: self.grace,
            dry_run: self.dry_run,
            repack: !self.no_repack,
        };
        let report = gc(&store, &options).await?;
        if report.branches == 0 {
            return Err(Failure::new(format!(
                "there is no database at {}",
                store.location()
            )));
        }
        if self.dry_run {
            writeln!(out, "dry run: nothing is changed")?;
        }
        write_report(&report, &mut out)?;
        if report.condemned.count > 0 {
            writeln!(
                out,
                "a run after the grace deletes what is condemned, if it is dead then"
            )?;
        }
        out.flush()?;
        Ok(())
    }
}

fn write_report(report: &GcReport, out: &mut impl Write) -> Result<(), Failure> {
    writeln!(
        out,
        "branches     {}, deleted ones included",
        report.branches
    )?;
    writeln!(
        out,
        "checkpoints  {} kept, {} dropped",
        report.kept_checkpoints, report.dropped_checkpoints
    )?;
    writeln!(
        out,
        "{:<12} {:>8} frames {:>14} bytes",
        "live", report.live_frames, report.live_bytes
    )?;
    let rows: [(&str, &Packs); 6] = [
        ("packs", &report.packs),
        ("dead", &report.dead),
        ("half-dead", &report.half_dead),
        ("repacked", &report.repacked),
        ("condemned", &report.condemned),
        ("deleted", &report.deleted),
    ];
    for (name, packs) in rows {
        let (count, bytes) = (packs.count, packs.bytes);
        writeln!(out, "{name:<12} {count:>8} packs  {bytes:>14} bytes")?;
    }
    Ok(())
}

/// Reads `90s`, `15m`, `2h` or `1d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let unknown = || format!("{text:?} is no duration; write 90s, 15m, 2h or 1d");
    let unit = text.chars().next_back().ok_or_else(unknown)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(unknown()),
    };
    let number = &text[..text.len() - unit.len_utf8()];
    // A sign is no digit, although numbers may begin with one.
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(unknown());
    }
    let number: u64 = number.parse().map_err(|_| unknown())?;
    let seconds = number.checked_mul(seconds);
    let seconds = seconds.ok_or_else(|| format!("{text} is longer than any clock counts"))?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("15m", 900),
            ("2h", 7200),
            ("1d", 86400),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "", "s", "5", "+5s", "-5s", "1.5h", "5 s", "5w", "5µ", "1h30m",
        ] {
            let error = duration(text).unwrap_err();
            assert!(
                error.contains("write 90s, 15m, 2h or 1d"),
                "{text}: {error}"
            );
        }
        assert!(duration("18446744073709551615d").is_err());
    }
}
