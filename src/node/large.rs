//! The large values of a leaf: strings, uris and bytes whose bodies lie in frames of their own.
//!
//! A tuple may hold them, too. Everything here visits them in one order: those within tuples by row, then
//! the others by row. Location hints are stored in that order.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::leaf::Leaf;
use super::values::ValueArray;
use crate::id::Location;
use crate::value::{Large, Value, ValueType};

impl Leaf {
    /// The large values, in the order of the [module page](self).
    pub fn larges(&self) -> Vec<&Arc<Large>> {
        let mut found = Vec::new();
        for child in self.values().children() {
            match child {
                ValueArray::Tuple(tuples) => {
                    tuples.iter().for_each(|tuple| collect(tuple, &mut found));
                }
                ValueArray::Large(values) => found.extend(values.iter()),
                _ => {}
            }
        }
        found
    }

    /// Those of some rows.
    pub(super) fn larges_of(&self, rows: Range<usize>) -> Vec<&Arc<Large>> {
        let mut found = Vec::new();
        if !self.has_large() {
            return found;
        }
        for row in rows {
            match self.values().at(row) {
                (ValueArray::Large(values), at) => found.push(&values[at]),
                (ValueArray::Tuple(values), at) => collect(&values[at], &mut found),
                _ => {}
            }
        }
        found
    }

    /// How long the bodies of these rows are that have not been read, in bytes.
    pub(crate) fn unread_bytes(&self, rows: Range<usize>) -> u64 {
        let larges = self.larges_of(rows).into_iter();
        let unread = larges.filter(|large| large.body.get().is_none());
        unread.fold(0, |bytes, large| bytes.saturating_add(large.len))
    }

    /// Whether there are large values.
    pub(super) fn has_large(&self) -> bool {
        self.values().has_large()
    }

    /// The same datoms with each large value replaced, in order, by one that is equal to it.
    pub(super) fn map_large(&self, mut each: impl FnMut(&Arc<Large>) -> Arc<Large>) -> Self {
        self.with_values(self.values().map_children(|child| match child {
            ValueArray::Tuple(tuples) => {
                let tuples: Vec<Value> = tuples
                    .iter()
                    .map(|tuple| replace(tuple, &mut each))
                    .collect();
                ValueArray::Tuple(tuples.into())
            }
            ValueArray::Large(values) => {
                let values: Vec<Arc<Large>> = values.iter().map(&mut each).collect();
                ValueArray::Large(values.into())
            }
            other => other.clone(),
        }))
    }
}

/// The same value, its body unread, at a place.
pub(super) fn unread(large: &Large, location: Option<Location>) -> Arc<Large> {
    Arc::new(Large {
        value_type: large.value_type,
        prefix: large.prefix.clone(),
        hash: large.hash,
        len: large.len,
        body: OnceLock::new(),
        location,
    })
}

/// The same value with its body, if that was read, and without a place.
pub(super) fn forgotten(large: &Large) -> Arc<Large> {
    Arc::new(Large {
        value_type: large.value_type,
        prefix: large.prefix.clone(),
        hash: large.hash,
        len: large.len,
        body: large.body.clone(),
        location: None,
    })
}

/// Finds the large value that a value is, or those within it if it is a tuple.
pub(super) fn collect<'a>(value: &'a Value, found: &mut Vec<&'a Arc<Large>>) {
    match value {
        Value::Large(large) => found.push(large),
        Value::Tuple(elements) => {
            elements
                .iter()
                .flatten()
                .for_each(|element| collect(element, found));
        }
        _ => {}
    }
}

pub(super) fn holds_large(value: &Value) -> bool {
    match value {
        Value::Large(_) => true,
        Value::Tuple(elements) => elements.iter().flatten().any(holds_large),
        _ => false,
    }
}

fn replace(value: &Value, each: &mut impl FnMut(&Arc<Large>) -> Arc<Large>) -> Value {
    match value {
        Value::Large(large) => Value::Large(each(large)),
        Value::Tuple(elements) if holds_large(value) => Value::Tuple(
            elements
                .iter()
                .map(|element| element.as_ref().map(|element| replace(element, each)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// Whether the body of a value of this type must be UTF-8.
pub(super) fn is_text(value_type: ValueType) -> bool {
    value_type != ValueType::Bytes
}
