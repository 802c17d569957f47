//! Tables against a model that is slow and obvious, and against the number of requests they may make.

mod differential;
mod expected;
mod joins;
mod plans;
mod requests;
mod run_time;

use std::sync::Arc;

use arrow_array::RecordBatch;
use datafusion::prelude::{SessionConfig, SessionContext};
use datomfusion_datalog::Optimizations;

use super::entities::EntityTable;
use crate::catalog::metaschema::{TableDef, tables};
use crate::conn::Connection;
use crate::db::Db;
use crate::environment::Seeded;
use crate::id::BranchName;
use crate::store::Store;
use crate::tx::TxData;

/// Random numbers that a seed determines.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64*, by Vigna.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from((self.next() >> 16) % bound as u64).unwrap()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'t, T>(&mut self, items: &'t [T]) -> &'t T {
        &items[self.below(items.len())]
    }
}

async fn database(store: &Store, seed: u64) -> Connection {
    Connection::create_in(store, BranchName::default(), Seeded::new(seed))
        .await
        .unwrap()
}

async fn transact(connection: &Connection, text: &str) -> crate::tx::TxReport {
    match connection.transact(&TxData::parse(text).unwrap()).await {
        Ok(report) => report,
        Err(error) => panic!("{error}\nin {text}"),
    }
}

fn definition(db: &Db, name: &str) -> TableDef {
    let tables = tables(db.schema());
    tables
        .into_iter()
        .find(|table| table.name == name)
        .expect("the schema forms the table")
}

fn table(db: &Db, name: &str) -> EntityTable {
    EntityTable::new(db.clone(), &definition(db, name))
}

fn context(batch_rows: usize, partitions: usize) -> SessionContext {
    let config = SessionConfig::new()
        .with_option_extension(Optimizations::default())
        .with_batch_size(batch_rows)
        .with_target_partitions(partitions);
    SessionContext::new_with_config(config)
}

async fn rows_of(context: &SessionContext, sql: &str) -> Vec<String> {
    let batches = match context.sql(sql).await {
        Ok(frame) => frame.collect().await,
        Err(error) => panic!("{error}\nin {sql}"),
    };
    shown(&batches.unwrap_or_else(|error| panic!("{error}\nin {sql}")))
}

/// Rows as text.
fn shown(batches: &[RecordBatch]) -> Vec<String> {
    let options = arrow::util::display::FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| arrow::util::display::ArrayFormatter::try_new(column, &options).unwrap())
            .collect();
        rows.extend((0..batch.num_rows()).map(|row| {
            let cells: Vec<_> = columns
                .iter()
                .map(|column| column.value(row).to_string())
                .collect();
            cells.join(" | ")
        }));
    }
    rows
}

async fn plan_of(context: &SessionContext, sql: &str) -> String {
    let plan = context
        .sql(sql)
        .await
        .unwrap()
        .create_physical_plan()
        .await
        .unwrap();
    datafusion::physical_plan::displayable(plan.as_ref())
        .indent(false)
        .to_string()
}

fn register(context: &SessionContext, name: &str, table: EntityTable) {
    context.register_table(name, Arc::new(table)).unwrap();
}
