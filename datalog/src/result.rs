//! Record batches become answers.

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::Result;

use crate::ast::{FindSpec, Query, ReturnKeys, ReturnMap};
use crate::column::{ColumnType, Reader};
use crate::edn::Symbol;
use crate::plan_source::QuerySource;
use crate::term::Term;

/// What a query found.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    find: FindSpec,
    keys: Option<ReturnMap>,
    rows: Vec<Vec<Term>>,
}

/// The terms of record batches whose columns are of these types, attributes as their idents.
///
/// # Errors
///
/// If a column is not what its type says.
pub fn rows(
    batches: &[RecordBatch],
    columns: &[ColumnType],
    sources: &[QuerySource],
) -> Result<Vec<Vec<Term>>> {
    let mut rows = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for batch in batches {
        let mut readers = Vec::with_capacity(columns.len());
        for (array, column) in batch.columns().iter().zip(columns) {
            let database =
                column
                    .attribute_of
                    .and_then(|source| match &sources[source.0 as usize] {
                        QuerySource::Database(database) => Some(database),
                        QuerySource::Collection(_) => None,
                    });
            readers.push((Reader::new(column.repr(), array)?, database));
        }
        for row in 0..batch.num_rows() {
            let mut terms = Vec::with_capacity(columns.len());
            for (reader, database) in &readers {
                let term = reader.term(row)?;
                terms.push(match (&term, database) {
                    (Term::Long(id), Some(database)) => {
                        database.ident(*id).map_or(term, Term::Keyword)
                    }
                    _ => term,
                });
            }
            rows.push(terms);
        }
    }
    Ok(rows)
}

impl Answer {
    /// Rows as the query wants to have them: ordered, cut, shaped.
    pub fn new(query: &Query, mut rows: Vec<Vec<Term>>) -> Self {
        if !query.order_by.is_empty() {
            rows.sort_by(|left, right| {
                let keys = query.order_by.iter().map(|key| {
                    let order = left[key.element].cmp(&right[key.element]);
                    if key.descending {
                        order.reverse()
                    } else {
                        order
                    }
                });
                keys.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
            });
        }
        let skipped = usize::try_from(query.offset).unwrap_or(usize::MAX);
        rows.drain(..skipped.min(rows.len()));
        if let Some(limit) = query.limit {
            rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        if matches!(query.find, FindSpec::Tuple(_) | FindSpec::Scalar(_)) {
            rows.truncate(1);
        }
        Self {
            find: query.find.clone(),
            keys: query.keys.clone(),
            rows,
        }
    }

    /// The rows, whatever the shape: a term an element of `:find`.
    pub fn rows(&self) -> &[Vec<Term>] {
        &self.rows
    }

    /// The rows, whatever the shape.
    pub fn into_rows(self) -> Vec<Vec<Term>> {
        self.rows
    }

    /// The answer in the shape of its find spec: a vector of vectors or of maps, a vector, a vector or
    /// nil, a term or nil.
    pub fn to_term(&self) -> Term {
        let first = self.rows.first();
        match &self.find {
            FindSpec::Rel(_) => Term::vector(self.rows.iter().map(|row| self.row(row))),
            FindSpec::Coll(_) => {
                Term::vector(self.rows.iter().filter_map(|row| row.first()).cloned())
            }
            FindSpec::Tuple(_) => first.map_or(Term::Nil, |row| self.row(row)),
            FindSpec::Scalar(_) => first
                .and_then(|row| row.first())
                .cloned()
                .unwrap_or(Term::Nil),
        }
    }

    /// The only value of the only row, if there is one.
    pub fn scalar(&self) -> Option<&Term> {
        self.rows.first()?.first()
    }

    /// The keys of the rows if they are maps.
    fn row(&self, row: &[Term]) -> Term {
        let Some(keys) = &self.keys else {
            return Term::vector(row.iter().cloned());
        };
        let key = |name: &Symbol| match keys.keys {
            ReturnKeys::Keys => Term::Keyword(crate::edn::Keyword::new(name.as_str())),
            ReturnKeys::Strs => Term::String(name.as_str().into()),
            ReturnKeys::Syms => Term::Symbol(name.clone()),
        };
        Term::map(keys.names.iter().map(key).zip(row.iter().cloned()))
    }
}
