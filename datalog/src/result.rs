//! Record batches become answers.

use std::cmp::Ordering;
use std::slice::{ChunksExact, ChunksExactMut};

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
    rows: Rows,
}

/// Rows of terms, behind one another.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// Terms of a row, one at least.
    width: usize,
    terms: Vec<Term>,
}

impl Rows {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.terms.len() / self.width
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The first row.
    pub fn first(&self) -> Option<&[Term]> {
        self.iter().next()
    }

    /// The rows.
    pub fn iter(&self) -> ChunksExact<'_, Term> {
        self.terms.chunks_exact(self.width)
    }

    /// The rows, to be changed in place.
    pub fn iter_mut(&mut self) -> ChunksExactMut<'_, Term> {
        self.terms.chunks_exact_mut(self.width)
    }

    fn sort_by(&mut self, compare: impl Fn(&[Term], &[Term]) -> Ordering) {
        let mut rows: Vec<&[Term]> = self.iter().collect();
        rows.sort_by(|left, right| compare(left, right));
        self.terms = rows.concat();
    }

    /// Drops rows from the beginning.
    fn skip(&mut self, rows: u64) {
        let terms = self.terms_of(rows);
        self.terms.drain(..terms);
    }

    /// Drops all rows but those at the beginning.
    fn truncate(&mut self, rows: u64) {
        self.terms.truncate(self.terms_of(rows));
    }

    /// How many terms so many rows have, at most all.
    fn terms_of(&self, rows: u64) -> usize {
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        rows.saturating_mul(self.width).min(self.terms.len())
    }
}

impl<'a> IntoIterator for &'a Rows {
    type Item = &'a [Term];
    type IntoIter = ChunksExact<'a, Term>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a mut Rows {
    type Item = &'a mut [Term];
    type IntoIter = ChunksExactMut<'a, Term>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl<R: AsRef<[Term]>, const N: usize> PartialEq<[R; N]> for &Rows {
    fn eq(&self, other: &[R; N]) -> bool {
        self.iter().eq(other.iter().map(AsRef::as_ref))
    }
}

impl FromIterator<Vec<Term>> for Rows {
    /// Rows of one width.
    fn from_iter<I: IntoIterator<Item = Vec<Term>>>(rows: I) -> Self {
        let mut width = 1;
        let mut terms = Vec::new();
        for row in rows {
            width = row.len().max(1);
            terms.extend(row);
        }
        Self { width, terms }
    }
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
) -> Result<Rows> {
    let width = columns.len().max(1);
    let count: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let mut terms = Vec::with_capacity(count * width);
    for batch in batches {
        let start = terms.len();
        terms.resize(start + batch.num_rows() * width, Term::Nil);
        for (at, (array, column)) in batch.columns().iter().zip(columns).enumerate() {
            let places = terms[start..].iter_mut().skip(at).step_by(width);
            let reader = Reader::new(column.repr(), array)?;
            let source = column
                .attribute_of
                .map(|source| &sources[source.0 as usize]);
            let Some(QuerySource::Database(database)) = source else {
                reader.read(places)?;
                continue;
            };
            for (row, place) in places.enumerate() {
                let term = reader.term(row)?;
                *place = match term {
                    Term::Long(id) => database.ident(id).map_or(term, Term::Keyword),
                    _ => term,
                };
            }
        }
    }
    Ok(Rows { width, terms })
}

impl Answer {
    /// Bytes that it takes, roughly, if they are at most so many. Looks at no more than that.
    pub fn bytes_within(&self, most: usize) -> Option<usize> {
        Term::bytes_of(&self.rows.terms, most)
    }

    /// Rows as the query wants to have them: ordered, cut, shaped.
    pub fn new(query: &Query, mut rows: Rows) -> Self {
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
                keys.fold(Ordering::Equal, Ordering::then)
            });
        }
        rows.skip(query.offset);
        if let Some(limit) = query.limit {
            rows.truncate(limit);
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
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The rows, whatever the shape, each by itself.
    pub fn into_rows(self) -> Vec<Vec<Term>> {
        self.rows.iter().map(<[Term]>::to_vec).collect()
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
