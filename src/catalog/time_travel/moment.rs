//! The expression of a version clause to the moment that it names.

use chrono::DateTime;
use datafusion::sql::sqlparser::ast::{DataType, Expr, TableVersion, Value};

use crate::db::basis::TimePoint;

/// Reads the moment of a version clause, or says why it is not honoured.
///
/// A date, `DATE '2022-12-31'` or `'2022-12-31'`, is the whole day, as everywhere in the basis grammar;
/// `TIMESTAMP '2022-12-31'` is its midnight, as everywhere in SQL. Without zone both are UTC.
pub(super) fn of_version(version: &TableVersion) -> Result<TimePoint, String> {
    match version {
        TableVersion::VersionAsOf(expr) => ordinal(expr),
        TableVersion::ForSystemTimeAsOf(expr) | TableVersion::TimestampAsOf(expr) => time(expr),
        TableVersion::Function(_) | TableVersion::Changes { .. } => Err(
            "this kind of version clause is not supported; write VERSION AS OF 42 or \
             FOR SYSTEM_TIME AS OF TIMESTAMP '2022-12-31 12:00:00'"
                .into(),
        ),
    }
}

fn ordinal(expr: &Expr) -> Result<TimePoint, String> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits
                .replace('_', "")
                .parse()
                .map(TimePoint::T)
                .map_err(|_| "VERSION AS OF takes a t: a whole number of transactions".into()),
            Value::Placeholder(_) => Err(PLACEHOLDER.into()),
            _ => Err(NOT_CONSTANT.into()),
        },
        _ => Err(NOT_CONSTANT.into()),
    }
}

const PLACEHOLDER: &str = "a version cannot be a parameter, because it decides which tables the \
    statement reads; write it out";

const NOT_CONSTANT: &str = "the version is not a constant; \
    write '2022-12-31', DATE '2022-12-31' or TIMESTAMP '2022-12-31 12:00:00'";

fn time(expr: &Expr) -> Result<TimePoint, String> {
    match expr {
        Expr::Nested(inner) => time(inner),
        Expr::Value(value) => text(&value.value).and_then(point),
        Expr::TypedString(typed) => convert(point(text(&typed.value.value)?)?, &typed.data_type),
        Expr::Cast {
            expr,
            data_type,
            array: false,
            format: None,
            ..
        } => convert(time(expr)?, data_type),
        _ => Err(NOT_CONSTANT.into()),
    }
}

fn text(value: &Value) -> Result<&str, String> {
    match value {
        Value::SingleQuotedString(text)
        | Value::EscapedStringLiteral(text)
        | Value::UnicodeStringLiteral(text) => Ok(text),
        Value::DollarQuotedString(quoted) => Ok(&quoted.value),
        Value::Placeholder(_) => Err(PLACEHOLDER.into()),
        Value::Number(digits, _) => Err(format!(
            "{digits} is not a time; for the transaction with this t write VERSION AS OF"
        )),
        _ => Err(NOT_CONSTANT.into()),
    }
}

fn point(text: &str) -> Result<TimePoint, String> {
    TimePoint::parse_time(text.trim()).map_err(|_| {
        format!("{text:?} is not a time; write '2022-12-31 12:00:00' or '2022-12-31', with or without zone")
    })
}

fn convert(point: TimePoint, to: &DataType) -> Result<TimePoint, String> {
    match (point, to) {
        (TimePoint::Date(day), DataType::Timestamp(..) | DataType::Datetime(_)) => {
            Ok(TimePoint::Instant(
                day.and_time(chrono::NaiveTime::MIN)
                    .and_utc()
                    .timestamp_millis(),
            ))
        }
        (TimePoint::Instant(ms), DataType::Date) => DateTime::from_timestamp_millis(ms)
            .map(|at| TimePoint::Date(at.date_naive()))
            .ok_or_else(|| NOT_CONSTANT.into()),
        (
            point,
            DataType::Date
            | DataType::Timestamp(..)
            | DataType::Datetime(_)
            | DataType::Text
            | DataType::Varchar(None),
        ) => Ok(point),
        _ => Err(format!("{to} is not a time; cast to DATE or TIMESTAMP")),
    }
}
