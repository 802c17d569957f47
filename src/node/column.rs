//! The column encodings: numbers, byte strings and booleans.
//!
//! A column does not say how many values it has: the reader knows. The writer of a column measures every
//! encoding and takes the one of fewest bytes, and of equals the one with the lowest code, so that equal
//! values always give equal bytes. `FORMAT.md` specifies each encoding.
//!
//! **Invariant.** The choice is frozen: changing it, even for the better, changes the identity of nodes
//! and so needs a new format version.

mod booleans;
mod numbers;
mod strings;

pub(super) use booleans::{read_booleans, write_booleans};
pub(super) use numbers::{low_half, read_numbers, write_numbers};
pub(super) use strings::{read_strings, write_strings};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Reader, Writer};

    fn any_numbers() -> impl Strategy<Value = Vec<i64>> {
        prop_oneof![
            prop::collection::vec(any::<i64>(), 0..300),
            prop::collection::vec(-3..3i64, 0..300),
            (any::<i64>(), prop::collection::vec(0..9i64, 0..600)).prop_map(|(start, steps)| {
                steps
                    .iter()
                    .scan(start, |at, step| {
                        *at = at.wrapping_add(*step);
                        Some(*at)
                    })
                    .collect()
            }),
            (0..64u32, prop::collection::vec(any::<i64>(), 0..300))
                .prop_map(|(shift, values)| values.iter().map(|value| value >> shift).collect()),
            (any::<i64>(), 0..300usize).prop_map(|(value, len)| vec![value; len]),
        ]
    }

    fn any_strings() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let words =
            |word: &'static str| prop::collection::vec(word.prop_map(String::into_bytes), 0..200);
        prop_oneof![
            words("[ab]{0,4}"),
            words("\\PC{0,20}"),
            words("a{0,40}").prop_map(|mut words| {
                words.sort();
                words
            }),
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..50),
        ]
    }

    proptest! {
        #[test]
        fn numbers_come_back(values in any_numbers()) {
            let mut out = Writer::new();
            write_numbers(&mut out, &values);
            prop_assert!(out.len() <= 1 + 8 * values.len() + 2, "plain is never beaten by much");
            let mut reader = Reader::new(out.as_slice());
            prop_assert_eq!(read_numbers(&mut reader, values.len()), Ok(values));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn strings_come_back(values in any_strings()) {
            let slices: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            let mut out = Writer::new();
            write_strings(&mut out, &slices);
            let mut reader = Reader::new(out.as_slice());
            let mut budget = 1 << 20;
            let read = read_strings(&mut reader, values.len(), &mut budget).unwrap();
            prop_assert_eq!(reader.finish(), Ok(()));
            prop_assert_eq!(read.iter().collect::<Vec<_>>(), slices.clone());
            prop_assert!(budget <= 1 << 20);
            let views = read.into_bytes().unwrap();
            prop_assert_eq!(views.iter().flatten().collect::<Vec<_>>(), slices);
        }

        #[test]
        fn booleans_come_back(values: Vec<bool>) {
            let mut out = Writer::new();
            write_booleans(&mut out, Some(&values.iter().copied().collect()), values.len());
            let mut reader = Reader::new(out.as_slice());
            let read = read_booleans(&mut reader, values.len()).unwrap();
            prop_assert_eq!(read.iter().collect::<Vec<_>>(), values);
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn hostile_columns_are_errors(bytes: Vec<u8>, len in 0..70_000usize) {
            let _ = read_numbers(&mut Reader::new(&bytes), len);
            let _ = read_booleans(&mut Reader::new(&bytes), len);
            if let Ok(strings) = read_strings(&mut Reader::new(&bytes), len, &mut (1 << 20)) {
                let _ = strings.into_text();
            }
        }
    }
}
