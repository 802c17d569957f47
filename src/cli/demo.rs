//! `datomfusion demo [DIR]`: the Chinook music shop as two databases, and what to ask them.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::render::{self, Format};
use super::{Failure, Out, stdout};
use crate::conn::Connection;
use crate::db::Db;
use crate::db::basis::TimePoint;
use crate::error::Error;
use crate::federation::Federation;
use crate::store::Store;
use crate::tx::TxData;

/// Make two small databases, join them, and join them again as they were.
#[derive(Args, Debug)]
pub(super) struct Demo {
    /// Where to keep the databases [default: datomfusion-demo in the directory for temporary files]
    dir: Option<PathBuf>,
}

macro_rules! facts {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../examples/data/chinook/", $name)))),*]
    };
}

/// What the record company knows; each file is one transaction.
const CATALOG: &[(&str, &str)] = facts!["catalog-schema.edn", "catalog.edn"];

/// What the shop knows: a transaction a year.
const SALES: &[(&str, &str)] = facts![
    "sales-schema.edn",
    "sales-people.edn",
    "sales-2021.edn",
    "sales-2022.edn",
    "sales-2023.edn",
    "sales-2024.edn",
    "sales-2025.edn",
];

/// Both databases in one statement.
const JOIN: &str = "\
SELECT c.country, g.name AS genre, count(*) AS tracks, sum(l.unit_price * l.quantity) AS revenue
FROM sales.invoice_line l
JOIN sales.invoice i ON l.invoice = i.db_id
JOIN sales.customer c ON i.customer = c.db_id
JOIN catalog.track t ON l.track_id = t.id
JOIN catalog.genre g ON t.genre = g.db_id
GROUP BY c.country, g.name
ORDER BY revenue DESC, c.country, g.name
LIMIT 5";

/// Two databases, one of them at two points in time, in one statement.
const TIMES: &str = "\
WITH today AS (
  SELECT t.genre, sum(l.unit_price * l.quantity) AS revenue
  FROM sales.invoice_line l JOIN catalog.track t ON l.track_id = t.id
  GROUP BY t.genre
), earlier AS (
  SELECT t.genre, sum(l.unit_price * l.quantity) AS revenue
  FROM sales.invoice_line FOR SYSTEM_TIME AS OF TIMESTAMP '2022-12-31 23:59:59' AS l
  JOIN catalog.track t ON l.track_id = t.id
  GROUP BY t.genre
)
SELECT g.name AS genre, earlier.revenue AS \"end of 2022\", today.revenue AS today
FROM today
JOIN catalog.genre g ON today.genre = g.db_id
LEFT JOIN earlier ON earlier.genre = today.genre
ORDER BY today DESC, genre
LIMIT 5";

impl Demo {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let dir = self
            .dir
            .unwrap_or_else(|| std::env::temp_dir().join("datomfusion-demo"));
        let mut federation = Federation::new();
        for (name, facts) in [("catalog", CATALOG), ("sales", SALES)] {
            let db = database(&dir.join(name), name, facts, &mut out).await?;
            federation.attach(name, db)?;
        }
        show(
            &federation,
            "What sells where? Two databases, one statement:",
            JOIN,
            &mut out,
        )
        .await?;
        let title = "And the same databases as of the end of 2022, beside today:";
        show(&federation, title, TIMES, &mut out).await?;
        writeln!(out, "{}", go_on(&dir))?;
        out.flush()?;
        Ok(())
    }
}

/// Opens the database of a directory, or makes it; what an interrupted run left out is added.
async fn database(
    dir: &Path,
    name: &str,
    facts: &[(&str, &str)],
    out: &mut Out,
) -> Result<Db, Failure> {
    let store = Store::file(dir)?;
    let (conn, known) = match Connection::open(&store).await {
        Ok(conn) => {
            let t = conn.db().basis_t();
            writeln!(out, "{name}: there already, at {} (t={t})", dir.display())?;
            (conn, usize::try_from(t).unwrap_or(usize::MAX))
        }
        Err(Error::NoDatabase { .. }) => {
            writeln!(out, "{name}: a new database at {}", dir.display())?;
            (Connection::create(&store).await?, 0)
        }
        Err(error) => return Err(error.into()),
    };
    for (file, text) in facts.get(known..).unwrap_or_default() {
        let data = TxData::parse(text).map_err(|error| Failure::from(error).of(file))?;
        let report = conn
            .transact(&data)
            .await
            .map_err(|error| Failure::from(error).of(file))?;
        let instant = TimePoint::Instant(report.instant);
        writeln!(
            out,
            "  t={} {instant} {:>6} datoms  {file}",
            report.t,
            report.tx_data.len()
        )?;
        out.flush()?;
    }
    Ok(conn.db())
}

async fn show(
    federation: &Federation,
    title: &str,
    sql: &str,
    out: &mut Out,
) -> Result<(), Failure> {
    writeln!(out, "\n{title}\n")?;
    for line in sql.lines() {
        writeln!(out, "  {line}")?;
    }
    writeln!(out)?;
    out.flush()?;
    let rows = federation.sql(sql).await?.execute_stream().await?;
    render::write(rows, Format::Table, stdout()).await
}

/// Commands to copy: all of them run as they are printed.
fn go_on(dir: &Path) -> String {
    let catalog = quoted(&dir.join("catalog"));
    let sales = quoted(&dir.join("sales"));
    format!(
        "Go on by hand:

  datomfusion sql --db catalog={catalog} --db sales={sales}
  datomfusion sql --db sales={sales} 'SELECT billing_country, sum(total) AS total FROM sales.invoice GROUP BY 1 ORDER BY 2 DESC LIMIT 5'
  datomfusion sql --db sales={sales}@2021-12-31 'SELECT count(*) FROM sales.invoice'
  datomfusion sql --db sales={sales} 'SELECT * FROM sales.transactions'
  datomfusion sql --db sales={sales} --format json 'SELECT a, v, tx FROM sales.datoms WHERE a = '\\'':invoice/total'\\'' LIMIT 3'
  datomfusion datoms {sales} --index avet :customer/email '\"luisg@embraer.com.br\"'
  datomfusion stats {sales}
"
    )
}

/// A path as a word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
