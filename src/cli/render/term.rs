//! Answers of Datalog as text.
//!
//! | `:find` | `json` | `edn` | `ndjson` | `csv`, `table` |
//! |---|---|---|---|---|
//! | `?a ?b` | an array of arrays | a vector of vectors | an array a line | a row each |
//! | the same with `:keys` | an array of objects | a vector of maps | an object a line | the keys on top |
//! | `[?a ...]` | an array | a vector | a value a line | a row each |
//! | `[?a ?b]` | an array or `null` | a vector or `nil` | as `json` | one row or none |
//! | `?a .` | the value or `null` | the value or `nil` | as `json` | one row or none |
//!
//! Terms in JSON: keywords with their colon, instants as RFC 3339, UUIDs, URIs, symbols and characters as
//! text, bytes in hexadecimal, numbers with all their digits, sets as arrays, maps as objects.

use std::io::Write;
use std::sync::Arc;

use arrow::util::pretty::pretty_format_batches;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema as ArrowSchema, SchemaRef};
use chrono::DateTime;
use datomfusion_datalog::ast::{FindElement, FindSpec, Query, ReturnKeys};
use datomfusion_datalog::{Answer, Term};

use super::cell::{
    Notation, push, write_bytes, write_float, write_instant, write_string, write_text,
};
use super::{Format, distinct_names, write_csv};
use crate::cli::{Failure, Out};

/// Rows of one batch of a table.
const TABLE_ROWS: usize = 8192;

/// Writes an answer in the shape of its find spec.
pub(in crate::cli) fn write_answer(
    answer: Answer,
    query: &Query,
    format: Format,
    out: &mut Out,
) -> Result<(), Failure> {
    match format {
        Format::Table => write_table(&answer, query, out),
        Format::Csv => write_lines(&answer, query, out),
        Format::Edn => write_items(&answer, query, Notation::Edn, out),
        Format::Ndjson => write_each(&answer, query, out),
        Format::Json | Format::Parquet => write_items(&answer, query, Notation::Json, out),
    }
}

/// One array or vector of all rows, or the only one.
fn write_items(
    answer: &Answer,
    query: &Query,
    notation: Notation,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let item = Item::new(query, notation);
    let mut text = String::new();
    if !is_many(query) {
        item.write(answer.rows().first(), &mut text);
        writeln!(out, "{text}")?;
        return Ok(());
    }
    let between = if notation == Notation::Edn {
        "\n "
    } else {
        ",\n "
    };
    text.push('[');
    for (at, row) in answer.rows().iter().enumerate() {
        text.push_str(if at == 0 { "" } else { between });
        item.write(Some(row), &mut text);
        out.write_all(text.as_bytes())?;
        text.clear();
    }
    text.push_str("]\n");
    out.write_all(text.as_bytes())?;
    Ok(())
}

/// A line of JSON a row.
fn write_each(answer: &Answer, query: &Query, out: &mut impl Write) -> Result<(), Failure> {
    if !is_many(query) {
        return write_items(answer, query, Notation::Json, out);
    }
    let item = Item::new(query, Notation::Json);
    let mut text = String::new();
    for row in answer.rows() {
        item.write(Some(row), &mut text);
        text.push('\n');
        out.write_all(text.as_bytes())?;
        text.clear();
    }
    Ok(())
}

/// The names of the columns, then a line a row.
fn write_lines(answer: &Answer, query: &Query, out: &mut impl Write) -> Result<(), Failure> {
    let mut line = String::new();
    for (at, field) in distinct_names(&columns(query)).fields().iter().enumerate() {
        line.push_str(if at == 0 { "" } else { "," });
        write_csv(field.name(), &mut line);
    }
    let mut cell = String::new();
    for row in answer.rows() {
        line.push('\n');
        for (at, term) in row.iter().enumerate() {
            line.push_str(if at == 0 { "" } else { "," });
            if !matches!(term, Term::Nil) {
                cell.clear();
                write_term(term, Notation::Plain, &mut cell);
                write_csv(&cell, &mut line);
            }
        }
        out.write_all(line.as_bytes())?;
        line.clear();
    }
    writeln!(out, "{line}")?;
    Ok(())
}

/// Bars and dashes. What has parts is EDN here: people read it.
fn write_table(answer: &Answer, query: &Query, out: &mut impl Write) -> Result<(), Failure> {
    let schema = columns(query);
    let cell = |term: &Term| match term {
        Term::Nil => String::new(),
        Term::Vector(_) | Term::Set(_) | Term::Map(_) => term.to_string(),
        term => {
            let mut text = String::new();
            write_term(term, Notation::Plain, &mut text);
            text
        }
    };
    let mut batches = vec![RecordBatch::new_empty(Arc::clone(&schema))];
    let rows: Vec<&[Term]> = answer.rows().iter().collect();
    for rows in rows.chunks(TABLE_ROWS) {
        let column = |at: usize| -> ArrayRef {
            let cells = rows.iter().map(|row| row.get(at).map(cell));
            Arc::new(cells.collect::<StringArray>())
        };
        let columns = (0..schema.fields().len()).map(column).collect();
        batches.push(RecordBatch::try_new(Arc::clone(&schema), columns)?);
    }
    writeln!(out, "{}", pretty_format_batches(&batches)?)?;
    Ok(())
}

fn is_many(query: &Query) -> bool {
    matches!(query.find, FindSpec::Rel(_) | FindSpec::Coll(_))
}

/// What is found, as the query says it, or by the keys that it asks for.
fn columns(query: &Query) -> SchemaRef {
    let names: Vec<String> = match &query.keys {
        Some(keys) => keys.names.iter().map(ToString::to_string).collect(),
        None => query
            .find
            .elements()
            .iter()
            .map(|element| header(query, element))
            .collect(),
    };
    let fields = names
        .into_iter()
        .map(|name| Field::new(name, DataType::Utf8, true));
    Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()))
}

/// The text of an element, on one line.
fn header(query: &Query, element: &FindElement) -> String {
    let span = match element {
        FindElement::Variable(variable, _) => return variable.to_string(),
        FindElement::Aggregate(aggregate) => aggregate.span,
        FindElement::Pull(pull) => pull.span,
    };
    let text = query.text.get(span.start..span.end).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How a row is written.
struct Item {
    notation: Notation,
    /// Whether a row is its only value.
    is_value: bool,
    /// What stands before each value if rows are maps.
    keys: Option<Vec<String>>,
}

impl Item {
    fn new(query: &Query, notation: Notation) -> Self {
        let keys = query.keys.as_ref().map(|map| {
            let key = |name: &dyn ToString| {
                let name = name.to_string();
                let name = match map.keys {
                    ReturnKeys::Keys => format!(":{name}"),
                    ReturnKeys::Strs | ReturnKeys::Syms => name,
                };
                if notation == Notation::Edn && map.keys != ReturnKeys::Strs {
                    return name + " ";
                }
                let mut key = String::new();
                write_string(&name, &mut key);
                key.push(if notation == Notation::Edn { ' ' } else { ':' });
                key
            };
            map.names.iter().map(|name| key(name)).collect()
        });
        Self {
            notation,
            is_value: matches!(query.find, FindSpec::Coll(_) | FindSpec::Scalar(_)),
            keys,
        }
    }

    /// Writes a row, or that there is none.
    fn write(&self, row: Option<&[Term]>, out: &mut String) {
        let notation = self.notation;
        match (row, &self.keys) {
            (None, _) => out.push_str(notation.nothing()),
            (Some(row), _) if self.is_value => {
                write_term(row.first().unwrap_or(&Term::Nil), notation, out);
            }
            (Some(row), Some(keys)) => {
                out.push('{');
                for (at, (key, term)) in keys.iter().zip(row).enumerate() {
                    out.push_str(if at == 0 { "" } else { notation.comma() });
                    out.push_str(key);
                    write_term(term, notation, out);
                }
                out.push('}');
            }
            (Some(row), None) => write_vector(row, notation, out),
        }
    }
}

/// Writes one term.
pub(in crate::cli) fn write_term(term: &Term, notation: Notation, out: &mut String) {
    if notation == Notation::Edn {
        return push(out, format_args!("{term}"));
    }
    match term {
        Term::Nil => out.push_str(notation.nothing()),
        Term::Boolean(value) => push(out, format_args!("{value}")),
        Term::Long(value) => push(out, format_args!("{value}")),
        Term::BigInt(value) => push(out, format_args!("{value}")),
        Term::Double(value) => write_float(*value, notation, out),
        // What EDN writes before the M is a number of JSON, with all digits.
        // All digits, unless an exponent stands for more of them than anybody reads.
        Term::BigDec(number) if number.as_bigint_and_exponent().1.unsigned_abs() <= 4096 => {
            out.push_str(&number.to_plain_string());
        }
        Term::BigDec(_) => out.push_str(term.to_string().trim_end_matches('M')),
        Term::Char(value) => write_text(value.encode_utf8(&mut [0; 4]), notation, out),
        Term::String(value) | Term::Uri(value) => write_text(value, notation, out),
        Term::Keyword(value) => write_text(&value.to_string(), notation, out),
        Term::Symbol(value) => write_text(value.as_str(), notation, out),
        Term::Uuid(value) => write_text(&value.to_string(), notation, out),
        Term::Bytes(value) => write_bytes(value, notation, out),
        Term::Instant(ms) => match DateTime::from_timestamp_millis(*ms) {
            Some(instant) => write_instant(instant, true, notation, out),
            None => write_text(&term.to_string(), notation, out),
        },
        Term::Vector(terms) | Term::Set(terms) => write_vector(terms, notation.inner(), out),
        Term::Map(entries) => {
            let notation = notation.inner();
            out.push('{');
            for (at, (key, value)) in entries.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { notation.comma() });
                let mut name = String::new();
                write_term(key, Notation::Plain, &mut name);
                write_string(&name, out);
                out.push(':');
                write_term(value, notation, out);
            }
            out.push('}');
        }
    }
}

fn write_vector(terms: &[Term], notation: Notation, out: &mut String) {
    out.push('[');
    for (at, term) in terms.iter().enumerate() {
        if at > 0 {
            out.push(if notation == Notation::Edn { ' ' } else { ',' });
        }
        write_term(term, notation, out);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use datomfusion_datalog::edn;

    use super::*;

    fn term(text: &str) -> Term {
        Term::try_from(&edn::read(text).expect("it is EDN")).expect("it is a term")
    }

    /// The answer of `query` that has these rows, in a format.
    fn shown(find: &str, rows: &str, format: Format) -> String {
        let query = Query::parse(&format!("[:find {find} :where [?a :x ?b]]")).expect("it parses");
        let rows = term(rows).elements().expect("it is a vector");
        let rows = rows
            .iter()
            .map(|row| row.elements().expect("a row").to_vec());
        let answer = Answer::new(&query, rows.collect());
        let mut out = Vec::new();
        match format {
            Format::Table => write_table(&answer, &query, &mut out),
            Format::Csv => write_lines(&answer, &query, &mut out),
            Format::Edn => write_items(&answer, &query, Notation::Edn, &mut out),
            Format::Ndjson => write_each(&answer, &query, &mut out),
            _ => write_items(&answer, &query, Notation::Json, &mut out),
        }
        .expect("it prints");
        String::from_utf8(out).expect("it is text")
    }

    #[test]
    fn terms_in_json_keep_names_digits_and_parts() {
        for (text, json) in [
            ("nil", "null"),
            (
                "[true 1 -2N 1.50M 1E+30M 0.1 1e300]",
                "[true,1,-2,1.50,1000000000000000000000000000000,0.1,1e300]",
            ),
            ("12345678901234567890123N", "12345678901234567890123"),
            ("[##Inf ##NaN]", r#"["Infinity","NaN"]"#),
            (r#"["a\"b" \c :x/y z]"#, r#"["a\"b","c",":x/y","z"]"#),
            ("#inst \"2022-12-31T12:00:00Z\"", "\"2022-12-31T12:00:00Z\""),
            (
                "#uuid \"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\"",
                "\"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\"",
            ),
            ("#bytes \"00ff\"", "\"00ff\""),
            ("#{2 1}", "[1,2]"),
            (
                r#"{:a/b {"c" [1]} 3 nil}"#,
                r#"{"3":null,":a/b":{"c":[1]}}"#,
            ),
        ] {
            let mut found = String::new();
            write_term(&term(text), Notation::Json, &mut found);
            assert_eq!(found, json);
        }
    }

    #[test]
    fn the_find_spec_gives_the_shape() {
        for (find, rows, json, edn, ndjson) in [
            (
                "?a ?b",
                "[[1 :x] [2 nil]]",
                "[[1,\":x\"],\n [2,null]]\n",
                "[[1 :x]\n [2 nil]]\n",
                "[1,\":x\"]\n[2,null]\n",
            ),
            ("?a ?b", "[]", "[]\n", "[]\n", ""),
            ("[?a ...]", "[[1] [2]]", "[1,\n 2]\n", "[1\n 2]\n", "1\n2\n"),
            ("[?a ?b]", "[[1 2]]", "[1,2]\n", "[1 2]\n", "[1,2]\n"),
            ("[?a ?b]", "[]", "null\n", "nil\n", "null\n"),
            ("?a .", "[[\"x\"]]", "\"x\"\n", "\"x\"\n", "\"x\"\n"),
            ("?a .", "[]", "null\n", "nil\n", "null\n"),
            (
                "?a ?b :keys x y/z",
                "[[1 2]]",
                "[{\":x\":1,\":y/z\":2}]\n",
                "[{:x 1, :y/z 2}]\n",
                "{\":x\":1,\":y/z\":2}\n",
            ),
            (
                "?a :strs x",
                "[[1]]",
                "[{\"x\":1}]\n",
                "[{\"x\" 1}]\n",
                "{\"x\":1}\n",
            ),
            (
                "?a :syms x",
                "[[1]]",
                "[{\"x\":1}]\n",
                "[{x 1}]\n",
                "{\"x\":1}\n",
            ),
        ] {
            assert_eq!(shown(find, rows, Format::Json), json);
            assert_eq!(shown(find, rows, Format::Edn), edn);
            assert_eq!(shown(find, rows, Format::Ndjson), ndjson);
        }
    }

    #[test]
    fn csv_has_the_elements_on_top() {
        assert_eq!(
            shown("?a (max  2\n?b)", "[[1 [1 2]] [nil \"\"]]", Format::Csv),
            "?a,(max 2 ?b)\n1,\"[1,2]\"\n,\"\"\n"
        );
        assert_eq!(shown("?a ?a", "[]", Format::Csv), "?a,?a_2\n");
    }

    #[test]
    fn a_table_shows_parts_as_edn() {
        assert_eq!(
            shown("?a ?b", "[[1 {:a \"x\"}] [\"two\" nil]]", Format::Table),
            "+-----+----------+\n\
             | ?a  | ?b       |\n\
             +-----+----------+\n\
             | 1   | {:a \"x\"} |\n\
             | two |          |\n\
             +-----+----------+\n"
        );
    }
}
