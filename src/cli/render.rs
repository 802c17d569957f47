//! Rows as text: tables for people, and notations for programs.
//!
//! | format | a row | NULL | decimals | instants |
//! |---|---|---|---|---|
//! | `table` | a line between bars | empty | all digits | RFC 3339 |
//! | `json` | an object in one array | `null` | a number with all digits | text, RFC 3339 |
//! | `ndjson` | an object a line | `null` | as `json` | as `json` |
//! | `csv` | a line; the first has the names | nothing between the commas | all digits | RFC 3339 |
//! | `edn` | a map in one vector | `nil` | `1.50M` | `#inst` |
//! | `parquet` | a file on standard output | | | |
//!
//! A column name that came before becomes `name_2`. Rows are written as they arrive, except as a table,
//! whose widths depend on all of them.

mod cell;
mod term;

use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;

use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;
use arrow_array::RecordBatch;
use arrow_schema::{Field, Schema as ArrowSchema, SchemaRef};
use clap::ValueEnum;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::parquet::arrow::ArrowWriter;
use futures::stream::TryStreamExt;

pub(super) use self::cell::Notation;
use self::cell::{write_cell, write_string};
pub(super) use self::term::{write_answer, write_term};
use super::{Failure, Out};

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Bars and dashes
    Table,
    /// One array
    Json,
    /// JSON, a line a row
    Ndjson,
    /// A header and lines
    Csv,
    /// One vector
    Edn,
    /// A Parquet file
    Parquet,
}

/// Writes rows as they arrive.
pub(super) async fn write(
    mut rows: SendableRecordBatchStream,
    format: Format,
    mut out: Out,
) -> Result<(), Failure> {
    let schema = distinct_names(&rows.schema());
    if format == Format::Table {
        let mut batches = vec![RecordBatch::new_empty(rows.schema())];
        while let Some(batch) = rows.try_next().await? {
            batches.push(batch);
        }
        let options = FormatOptions::default()
            .with_null("")
            .with_display_error(true);
        writeln!(
            out,
            "{}",
            pretty_format_batches_with_options(&batches, &options)?
        )?;
        out.flush()?;
        return Ok(());
    }
    if format == Format::Parquet {
        let mut writer =
            ArrowWriter::try_new(out, Arc::clone(&schema), None).map_err(Failure::new)?;
        while let Some(batch) = rows.try_next().await? {
            let named = RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec())?;
            writer.write(&named).map_err(Failure::new)?;
        }
        writer.into_inner().map_err(Failure::new)?.flush()?;
        return Ok(());
    }
    let mut text = Rows::new(format, &schema);
    while let Some(batch) = rows.try_next().await? {
        text.push(&batch)?;
        out.write_all(text.buffer.as_bytes())?;
        text.buffer.clear();
    }
    text.finish();
    out.write_all(text.buffer.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// A notation being written.
struct Rows {
    format: Format,
    /// What stands before each column's value.
    keys: Vec<String>,
    buffer: String,
    scratch: String,
    written: usize,
}

impl Rows {
    fn new(format: Format, schema: &ArrowSchema) -> Self {
        let keys = schema.fields().iter().map(|field| match format {
            Format::Edn => edn_key(field.name()),
            Format::Csv => field.name().clone(),
            _ => {
                let mut key = String::new();
                write_string(field.name(), &mut key);
                key + ":"
            }
        });
        let mut rows = Self {
            format,
            keys: keys.collect(),
            buffer: String::new(),
            scratch: String::new(),
            written: 0,
        };
        if format == Format::Csv {
            for at in 0..rows.keys.len() {
                rows.buffer.push_str(if at == 0 { "" } else { "," });
                write_csv(&rows.keys[at], &mut rows.buffer);
            }
            rows.buffer.push('\n');
        }
        rows
    }

    fn push(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        for row in 0..batch.num_rows() {
            self.buffer.push_str(match (self.format, self.written) {
                (Format::Json | Format::Edn, 0) => "[",
                (Format::Json, _) => ",\n ",
                (Format::Edn, _) => "\n ",
                _ => "",
            });
            self.written += 1;
            match self.format {
                Format::Csv => self.push_csv(batch, row)?,
                Format::Edn => self.push_object(batch, row, Notation::Edn)?,
                _ => self.push_object(batch, row, Notation::Json)?,
            }
            if matches!(self.format, Format::Csv | Format::Ndjson) {
                self.buffer.push('\n');
            }
        }
        Ok(())
    }

    fn push_object(
        &mut self,
        batch: &RecordBatch,
        row: usize,
        notation: Notation,
    ) -> Result<(), Failure> {
        self.buffer.push('{');
        for (at, column) in batch.columns().iter().enumerate() {
            if at > 0 {
                self.buffer.push_str(notation.comma());
            }
            self.buffer.push_str(&self.keys[at]);
            if notation == Notation::Edn {
                self.buffer.push(' ');
            }
            write_cell(column, row, notation, &mut self.buffer)?;
        }
        self.buffer.push('}');
        Ok(())
    }

    fn push_csv(&mut self, batch: &RecordBatch, row: usize) -> Result<(), Failure> {
        for (at, column) in batch.columns().iter().enumerate() {
            if at > 0 {
                self.buffer.push(',');
            }
            if !column.is_null(row) {
                self.scratch.clear();
                write_cell(column, row, Notation::Plain, &mut self.scratch)?;
                write_csv(&self.scratch, &mut self.buffer);
            }
        }
        Ok(())
    }

    fn finish(&mut self) {
        match (self.format, self.written) {
            (Format::Json | Format::Edn, 0) => self.buffer.push_str("[]\n"),
            (Format::Json | Format::Edn, _) => self.buffer.push_str("]\n"),
            _ => {}
        }
    }
}

/// Quotes what would break a line or a field apart, and the empty text, which is not NULL.
fn write_csv(text: &str, out: &mut String) {
    if text.is_empty() || text.contains(['"', ',', '\n', '\r']) {
        out.push('"');
        out.push_str(&text.replace('"', "\"\""));
        out.push('"');
    } else {
        out.push_str(text);
    }
}

/// A name as a keyword if it can be one, as a string if not.
fn edn_key(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+*!?<>=.".contains(c);
    if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(plain) {
        return format!(":{name}");
    }
    let mut key = String::new();
    write_string(name, &mut key);
    key
}

/// The same columns, each with a name of its own.
fn distinct_names(schema: &SchemaRef) -> SchemaRef {
    let mut taken = HashSet::new();
    let mut fields = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let mut name = field.name().clone();
        let mut number = 2;
        while !taken.insert(name.clone()) {
            name = format!("{}_{number}", field.name());
            number += 1;
        }
        fields.push(Field::clone(field).with_name(name));
    }
    Arc::new(ArrowSchema::new(fields))
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, Decimal128Array, Int64Array, StringViewArray};

    use super::*;

    fn batch() -> RecordBatch {
        let names: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a \"b\", c"), None]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX, -1]));
        let money = Decimal128Array::from(vec![Some(232_860), None]);
        let money: ArrayRef = Arc::new(money.with_precision_and_scale(38, 2).expect("it fits"));
        let schema = ArrowSchema::new(vec![
            Field::new("name", names.data_type().clone(), true),
            Field::new("name", numbers.data_type().clone(), true),
            Field::new("sum(x)", money.data_type().clone(), true),
        ]);
        RecordBatch::try_new(Arc::new(schema), vec![names, numbers, money]).expect("it fits")
    }

    fn shown(format: Format) -> String {
        let batch = batch();
        let mut rows = Rows::new(format, &distinct_names(&batch.schema()));
        rows.push(&batch).expect("it prints");
        rows.finish();
        rows.buffer
    }

    #[test]
    fn json_keeps_order_digits_and_repeated_names() {
        assert_eq!(
            shown(Format::Json),
            "[{\"name\":\"a \\\"b\\\", c\",\"name_2\":9223372036854775807,\"sum(x)\":2328.60},\n \
             {\"name\":null,\"name_2\":-1,\"sum(x)\":null}]\n"
        );
    }

    #[test]
    fn csv_quotes_what_it_must() {
        assert_eq!(
            shown(Format::Csv),
            "name,name_2,sum(x)\n\"a \"\"b\"\", c\",9223372036854775807,2328.60\n,-1,\n"
        );
    }

    #[test]
    fn edn_has_keywords_where_names_allow() {
        assert_eq!(
            shown(Format::Edn),
            "[{:name \"a \\\"b\\\", c\", :name_2 9223372036854775807, \"sum(x)\" 2328.60M}\n \
             {:name nil, :name_2 -1, \"sum(x)\" nil}]\n"
        );
    }

    #[test]
    fn no_rows_are_an_empty_array() {
        let mut rows = Rows::new(Format::Json, &batch().schema());
        rows.finish();
        assert_eq!(rows.buffer, "[]\n");
    }
}
