//! Rows of interned terms, and indexes over them that grow as they do.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::{HashTable, hash_table};

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
        let number = next(&self.terms);
        self.terms.push(term.clone());
        self.others.insert(term.clone(), number);
        number
    }

    pub(super) fn long(&mut self, long: i64) -> u32 {
        match self.longs.entry(long) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                let number = *place.insert(next(&self.terms));
                self.terms.push(Term::Long(long));
                number
            }
        }
    }

    /// The term of a number.
    pub(super) fn term(&self, number: u32) -> &Term {
        &self.terms[number as usize]
    }

    /// How many terms there are.
    pub(super) fn len(&self) -> usize {
        self.terms.len()
    }

    /// The terms by number, if all are longs.
    pub(super) fn longs(&self) -> Option<Vec<i64>> {
        let longs = self.terms.iter().map(|term| match term {
            Term::Long(long) => Some(*long),
            _ => None,
        });
        longs.collect()
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

/// The number of the term that comes next.
fn next(terms: &[Term]) -> u32 {
    u32::try_from(terms.len()).unwrap_or(END)
}

/// Distinct rows, in the order in which they came.
pub(super) struct Rows {
    arity: usize,
    cells: Vec<u32>,
    /// Rows without columns: there is one, or none.
    unit: bool,
    /// The numbers of the rows by what is in them; what was appended last may be missing.
    all: HashTable<u32>,
    indexes: Vec<Index>,
}

impl Rows {
    pub(super) fn new(arity: usize) -> Self {
        Self {
            arity,
            cells: Vec::new(),
            unit: false,
            all: HashTable::new(),
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

    /// The rows, if they have columns.
    pub(super) fn rows(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        self.cells.chunks_exact(self.arity.max(1))
    }

    /// Adds rows that are distinct and new.
    pub(super) fn append(&mut self, cells: &[u32]) {
        self.cells.extend_from_slice(cells);
    }

    /// Adds a row; answers whether it is new.
    pub(super) fn insert(&mut self, row: &[u32]) -> bool {
        if self.arity == 0 {
            return !std::mem::replace(&mut self.unit, true);
        }
        let number = u32::try_from(self.len()).unwrap_or(END);
        let (arity, cells) = (self.arity, &self.cells);
        let other = |number: u32| &cells[number as usize * arity..][..arity];
        for appended in self.all.len()..number as usize {
            let appended = u32::try_from(appended).unwrap_or(END);
            let hash = hash_of(other(appended));
            let rehash = |&number: &u32| hash_of(other(number));
            self.all.insert_unique(hash, appended, rehash);
        }
        if self.all.len() == self.all.capacity() {
            // Fourfold, since each growth puts every row in its place anew.
            let more = self.all.len() * 3;
            self.all.reserve(more, |&number| hash_of(other(number)));
        }
        let place = self.all.entry(
            hash_of(row),
            |&number| other(number) == row,
            |&number| hash_of(other(number)),
        );
        match place {
            hash_table::Entry::Occupied(_) => false,
            hash_table::Entry::Vacant(place) => {
                place.insert(number);
                self.cells.extend_from_slice(row);
                true
            }
        }
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
            index.push(self.row(row), u32::try_from(row).unwrap_or(END));
        }
        self.indexes[at] = index;
        at
    }

    /// Calls `found` with each row whose indexed columns are `key`.
    pub(super) fn find(&self, index: usize, key: &[u32], mut found: impl FnMut(&[u32])) {
        let index = &self.indexes[index];
        let exact = key.len() <= 2;
        let mut at = index.first(key);
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
        let indexes: usize = self.indexes.iter().map(Index::bytes).sum();
        self.cells.len() * 4 + self.all.capacity() * 5 + indexes
    }
}

/// Rows by the terms in some columns: chains through the rows, newest first.
struct Index {
    columns: Vec<usize>,
    heads: Heads,
    next: Vec<u32>,
}

/// Where the chains begin.
enum Heads {
    /// Of one column: by its number, of which few are missing.
    One(Vec<u32>),
    /// Of several columns, by two of them as they are, or by a hash of more: then rows must be compared.
    Several(Mixed<u64, u32>),
}

impl Index {
    fn new(columns: Vec<usize>) -> Self {
        let heads = match columns.len() {
            1 => Heads::One(Vec::new()),
            _ => Heads::Several(Mixed::default()),
        };
        Self {
            columns,
            heads,
            next: Vec::new(),
        }
    }

    fn first(&self, key: &[u32]) -> u32 {
        let found = match &self.heads {
            Heads::One(heads) => heads.get(key[0] as usize),
            Heads::Several(heads) => heads.get(&key_of(key.iter().copied())),
        };
        found.copied().unwrap_or(END)
    }

    fn push(&mut self, row: &[u32], number: u32) {
        let before = match &mut self.heads {
            Heads::One(heads) => {
                let cell = row[self.columns[0]] as usize;
                if heads.len() <= cell {
                    heads.resize(cell + 1, END);
                }
                std::mem::replace(&mut heads[cell], number)
            }
            Heads::Several(heads) => {
                let key = key_of(self.columns.iter().map(|&column| row[column]));
                heads.insert(key, number).unwrap_or(END)
            }
        };
        self.next.push(before);
    }

    fn bytes(&self) -> usize {
        let heads = match &self.heads {
            Heads::One(heads) => heads.len() * 4,
            Heads::Several(heads) => heads.capacity() * 17,
        };
        heads + self.next.len() * 4
    }
}

fn hash_of(row: &[u32]) -> u64 {
    let mut hash = Mix::default();
    match row {
        [high, low] => hash.write_u64(u64::from(*high) << 32 | u64::from(*low)),
        _ => row.iter().for_each(|cell| hash.write_u32(*cell)),
    }
    hash.finish()
}

/// Two cells as they are, more of them hashed.
fn key_of(cells: impl ExactSizeIterator<Item = u32>) -> u64 {
    if cells.len() <= 2 {
        return cells.fold(0, |key, cell| key << 32 | u64::from(cell));
    }
    let mut hash = Mix::default();
    cells.for_each(|cell| hash.write_u32(cell));
    hash.finish()
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
    fn appended_rows_are_known_when_the_next_is_inserted() {
        let mut rows = Rows::new(2);
        rows.insert(&[1, 2]);
        rows.append(&[3, 4, 5, 6]);
        assert!(!rows.insert(&[5, 6]));
        assert!(rows.insert(&[6, 5]));
        rows.append(&[7, 8]);
        assert!(!rows.insert(&[7, 8]) && !rows.insert(&[3, 4]));
        assert_eq!(rows.len(), 5);
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
