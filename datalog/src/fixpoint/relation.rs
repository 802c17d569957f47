//! Rows of interned terms, and indexes over them that grow as they do.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::term::Term;

/// Ends a chain of rows.
const END: u32 = u32::MAX;

/// Mixes one integer; keys are interned numbers, which nobody outside chooses.
#[derive(Default)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_i64(&mut self, value: i64) {
        self.write_u64(value.cast_unsigned());
    }
}

type Mixed<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

/// Terms by number. Equal terms have one number.
#[derive(Default)]
pub(super) struct Interner {
    longs: Mixed<i64, u32>,
    others: HashMap<Term, u32>,
    terms: Vec<Term>,
}

impl Interner {
    /// The number of a term.
    pub(super) fn intern(&mut self, term: &Term) -> u32 {
        if let Term::Long(long) = term {
            return self.long(*long);
        }
        if let Some(&known) = self.others.get(term) {
            return known;
        }
        // A number of another kind may be equal to a long.
        if term.is_number()
            && let Some(long) = crate::column::integer(term)
        {
            return self.long(long);
        }
        let number = self.push(term.clone());
        self.others.insert(term.clone(), number);
        number
    }

    pub(super) fn long(&mut self, long: i64) -> u32 {
        if let Some(&known) = self.longs.get(&long) {
            return known;
        }
        let number = self.push(Term::Long(long));
        self.longs.insert(long, number);
        number
    }

    fn push(&mut self, term: Term) -> u32 {
        let number = u32::try_from(self.terms.len()).unwrap_or(END);
        self.terms.push(term);
        number
    }

    /// The term of a number.
    pub(super) fn term(&self, number: u32) -> &Term {
        &self.terms[number as usize]
    }

    /// Bytes that the terms take, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.terms.len() * (2 * size_of::<Term>() + 16)
    }

    /// Whether no more terms can be numbered.
    pub(super) fn is_full(&self) -> bool {
        self.terms.len() >= END as usize
    }
}

/// Distinct rows, in the order in which they came.
pub(super) struct Rows {
    arity: usize,
    cells: Vec<u32>,
    /// Rows without columns: there is one, or none.
    unit: bool,
    all: Index,
    indexes: Vec<Index>,
}

impl Rows {
    pub(super) fn new(arity: usize) -> Self {
        Self {
            arity,
            cells: Vec::new(),
            unit: false,
            all: Index::new((0..arity).collect()),
            indexes: Vec::new(),
        }
    }

    pub(super) fn arity(&self) -> usize {
        self.arity
    }

    pub(super) fn len(&self) -> usize {
        let rows = self.cells.len().checked_div(self.arity);
        rows.unwrap_or(usize::from(self.unit))
    }

    pub(super) fn row(&self, at: usize) -> &[u32] {
        &self.cells[at * self.arity..(at + 1) * self.arity]
    }

    /// Adds a row; answers whether it is new.
    pub(super) fn insert(&mut self, row: &[u32]) -> bool {
        if self.arity == 0 {
            return !std::mem::replace(&mut self.unit, true);
        }
        let key = key_of(row.iter().copied());
        let exact = self.arity <= 2;
        let mut at = self.all.first(key);
        while at != END {
            if exact || self.row(at as usize) == row {
                return false;
            }
            at = self.all.next[at as usize];
        }
        let number = u32::try_from(self.len()).unwrap_or(END);
        self.cells.extend_from_slice(row);
        self.all.push(key, number);
        true
    }

    /// The place of an index over some columns, made if it is not there, and brought up to date.
    pub(super) fn index(&mut self, columns: &[usize]) -> usize {
        let known = self
            .indexes
            .iter()
            .position(|index| index.columns == columns);
        let at = known.unwrap_or_else(|| {
            self.indexes.push(Index::new(columns.to_vec()));
            self.indexes.len() - 1
        });
        let rows = self.len();
        let mut index = std::mem::replace(&mut self.indexes[at], Index::new(Vec::new()));
        for row in index.next.len()..rows {
            let cells = self.row(row);
            let key = key_of(index.columns.iter().map(|&column| cells[column]));
            index.push(key, u32::try_from(row).unwrap_or(END));
        }
        self.indexes[at] = index;
        at
    }

    /// Calls `found` with each row whose indexed columns are `key`.
    pub(super) fn find(&self, index: usize, key: &[u32], mut found: impl FnMut(&[u32])) {
        let index = &self.indexes[index];
        let exact = key.len() <= 2;
        let mut at = index.first(key_of(key.iter().copied()));
        while at != END {
            let row = self.row(at as usize);
            let mut columns = index.columns.iter().zip(key);
            if exact || columns.all(|(&column, cell)| row[column] == *cell) {
                found(row);
            }
            at = index.next[at as usize];
        }
    }

    /// Whether a row has `key` in the indexed columns.
    pub(super) fn has(&self, index: usize, key: &[u32]) -> bool {
        let mut any = false;
        self.find(index, key, |_| any = true);
        any
    }

    /// Bytes that the rows and their indexes take, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.cells.len() * 4 + self.len() * 20 * (1 + self.indexes.len())
    }
}

/// Rows by the terms in some columns: chains through the rows, newest first.
struct Index {
    columns: Vec<usize>,
    heads: Mixed<u64, u32>,
    next: Vec<u32>,
}

impl Index {
    fn new(columns: Vec<usize>) -> Self {
        Self {
            columns,
            heads: Mixed::default(),
            next: Vec::new(),
        }
    }

    fn first(&self, key: u64) -> u32 {
        self.heads.get(&key).copied().unwrap_or(END)
    }

    fn push(&mut self, key: u64, row: u32) {
        let before = self.heads.insert(key, row).unwrap_or(END);
        self.next.push(before);
    }
}

/// One or two cells as they are, more of them hashed: then rows must be compared.
fn key_of(mut cells: impl ExactSizeIterator<Item = u32>) -> u64 {
    let first = || u64::from(u32::MAX);
    match cells.len() {
        0 => 0,
        1 => cells.next().map_or_else(first, u64::from),
        2 => {
            let high = cells.next().map_or_else(first, u64::from);
            let low = cells.next().map_or_else(first, u64::from);
            high << 32 | low
        }
        _ => {
            let mut hash = Mix::default();
            for cell in cells {
                hash.write_u32(cell);
            }
            hash.finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_have_one_number() {
        let mut interner = Interner::default();
        let one = interner.intern(&Term::Double(1.0));
        assert_eq!(interner.intern(&Term::Long(1)), one);
        assert_ne!(interner.intern(&Term::Double(1.5)), one);
        assert_eq!(interner.term(one), &Term::Long(1));
    }

    #[test]
    fn a_row_is_kept_once_whatever_its_width() {
        for arity in 0..5 {
            let mut rows = Rows::new(arity);
            let row: Vec<u32> = (0..u32::try_from(arity).unwrap()).collect();
            assert!(rows.insert(&row), "{arity}");
            assert!(!rows.insert(&row), "{arity}");
            assert_eq!(rows.len(), 1);
        }
    }

    #[test]
    fn an_index_grows_with_its_rows() {
        let mut rows = Rows::new(3);
        rows.insert(&[1, 2, 3]);
        let index = rows.index(&[1]);
        rows.insert(&[4, 2, 6]);
        rows.insert(&[4, 5, 6]);
        assert_eq!(rows.index(&[1]), index);
        let mut found = Vec::new();
        rows.find(index, &[2], |row| found.push(row.to_vec()));
        found.sort();
        assert_eq!(found, [[1, 2, 3], [4, 2, 6]]);
        assert!(!rows.has(index, &[3]));
        let wide = rows.index(&[0, 1, 2]);
        assert!(rows.has(wide, &[4, 5, 6]) && !rows.has(wide, &[4, 5, 7]));
    }
}
