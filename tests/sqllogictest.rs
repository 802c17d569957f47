//! The SQL that `tests/slt/*.slt` asks, against the carried Chinook databases.
//!
//! `cargo test --test sqllogictest -- --complete` writes the answers into the files, for a human to read
//! before they are committed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::DataFusionError;
use datomfusion::{Connection, Federation, Seeded, Store, TxData};
use sqllogictest::{
    AsyncDB, DBOutput, DefaultColumnType, Runner, default_column_validator, default_normalizer,
    default_validator,
};

/// One client of the federation.
struct Client(Federation);

#[async_trait::async_trait]
impl AsyncDB for Client {
    type Error = DataFusionError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, DataFusionError> {
        let frame = self.0.sql(sql).await?;
        let types = frame
            .schema()
            .fields()
            .iter()
            .map(|field| kind(field.data_type()))
            .collect();
        let options = FormatOptions::default().with_null("NULL");
        let mut rows = Vec::new();
        for batch in frame.collect().await? {
            let columns = batch.columns().iter();
            let columns: Vec<ArrayFormatter<'_>> = columns
                .map(|column| ArrayFormatter::try_new(column, &options))
                .collect::<Result<_, _>>()?;
            for row in 0..batch.num_rows() {
                let values = columns
                    .iter()
                    .map(|column| match column.value(row).to_string() {
                        empty if empty.is_empty() => "(empty)".to_owned(),
                        text => text,
                    });
                rows.extend(lines(values.collect()));
            }
        }
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {}
}

/// A plan has many lines; each becomes a row, its depth shown by points.
fn lines(row: Vec<String>) -> Vec<Vec<String>> {
    match &row[..] {
        [name, plan] if plan.contains('\n') => {
            let line = |line: &str| {
                let depth = line.len() - line.trim_start().len();
                vec![name.clone(), ".".repeat(depth) + line.trim_start()]
            };
            plan.trim_end().lines().map(line).collect()
        }
        _ => vec![row],
    }
}

fn kind(data_type: &DataType) -> DefaultColumnType {
    if data_type.is_integer() {
        DefaultColumnType::Integer
    } else if data_type.is_floating() || data_type.is_decimal() {
        DefaultColumnType::FloatingPoint
    } else {
        DefaultColumnType::Text
    }
}

async fn database(seed: u64, files: &[&str]) -> Connection {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/chinook");
    let branch = datomfusion::BranchName::default();
    let conn = Connection::create_in(&Store::memory(), branch, Seeded::new(seed))
        .await
        .unwrap();
    for file in files {
        let text = std::fs::read_to_string(data.join(file)).unwrap();
        conn.transact(&TxData::parse(&text).unwrap()).await.unwrap();
    }
    conn
}

#[tokio::main]
async fn main() -> ExitCode {
    let catalog = database(1, &["catalog-schema.edn", "catalog.edn"]).await;
    let sales = [
        "sales-schema.edn",
        "sales-people.edn",
        "sales-2021.edn",
        "sales-2022.edn",
        "sales-2023.edn",
        "sales-2024.edn",
        "sales-2025.edn",
    ];
    let sales = database(2, &sales).await;
    let mut federation = Federation::new();
    federation.attach("catalog", catalog.db()).unwrap();
    federation.attach("sales", sales.db()).unwrap();

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "there is nothing to ask");
    let complete = std::env::args().any(|argument| argument == "--complete");
    let mut failures = 0;
    for file in files {
        let mut runner = Runner::new(|| async { Ok(Client(federation.clone())) });
        let outcome = if complete {
            let written = runner.update_test_file(
                &file,
                " ",
                default_validator,
                default_normalizer,
                default_column_validator,
            );
            written.await.map_err(|error| error.to_string())
        } else {
            let run = runner.run_file_async(&file).await;
            run.map_err(|error| error.display(false).to_string())
        };
        match outcome {
            Ok(()) => println!("ok      {}", file.display()),
            Err(error) => {
                failures += 1;
                println!("FAILED  {}\n{error}", file.display());
            }
        }
    }
    if failures == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
