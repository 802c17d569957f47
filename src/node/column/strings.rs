//! Columns of byte strings: plain, sharing prefixes with their neighbours, or by dictionary.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::types::{BinaryType, ByteArrayType, ByteViewType, Utf8Type};
use arrow_array::{BinaryViewArray, GenericByteArray, GenericByteViewArray, StringViewArray};
use arrow_buffer::{Buffer, OffsetBuffer};
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use super::numbers::{read_numbers, write_numbers};
use crate::wire::{Malformed, Reader, Result, Writer};

const PLAIN: u8 = 0;
const PREFIX: u8 = 1;
const DICTIONARY: u8 = 2;

/// The longest value that Arrow keeps within its view, in bytes.
const INLINE_MAX: usize = 12;

const TOO_LONG: Malformed = Malformed("byte strings are longer than a node may be");

/// Reads a column of `len` lengths, none negative, and their sum, which must not exceed `sum_max`.
fn read_lengths(
    reader: &mut Reader<'_>,
    len: usize,
    sum_max: usize,
) -> Result<(Vec<usize>, usize)> {
    let mut sum = 0usize;
    let lengths = read_numbers(reader, len)?
        .into_iter()
        .map(|length| {
            let length = usize::try_from(length).map_err(|_| Malformed("a length is negative"))?;
            sum = sum
                .checked_add(length)
                .filter(|&sum| sum <= sum_max)
                .ok_or(TOO_LONG)?;
            Ok(length)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok((lengths, sum))
}

/// Writes a column of byte strings.
pub(in crate::node) fn write_strings(out: &mut Writer, values: &[&[u8]]) {
    if values.is_empty() {
        return;
    }
    let mut best = write_flat_strings(values);
    if let Some((distinct, indices)) = string_dictionary(values) {
        let mut dictionary = Writer::new();
        dictionary.u8(DICTIONARY);
        dictionary.count(distinct.len());
        dictionary.raw(write_flat_strings(&distinct).as_slice());
        write_numbers(&mut dictionary, &indices);
        if dictionary.len() < best.len() {
            best = dictionary;
        }
    }
    out.raw(best.as_slice());
}

/// Plain or prefix-shared, whichever is shorter.
fn write_flat_strings(values: &[&[u8]]) -> Writer {
    let mut plain = Writer::new();
    plain.u8(PLAIN);
    let lengths: Vec<i64> = values.iter().map(|value| length(value.len())).collect();
    write_numbers(&mut plain, &lengths);

    let mut prefix = Writer::new();
    prefix.u8(PREFIX);
    let mut before: &[u8] = &[];
    let shared: Vec<usize> = values
        .iter()
        .map(|value| {
            let shared = before
                .iter()
                .zip(*value)
                .take_while(|(left, right)| left == right);
            before = value;
            shared.count()
        })
        .collect();
    let shared_numbers: Vec<i64> = shared.iter().map(|&shared| length(shared)).collect();
    write_numbers(&mut prefix, &shared_numbers);
    let rest: Vec<i64> = lengths
        .iter()
        .zip(&shared_numbers)
        .map(|(all, part)| all - part)
        .collect();
    write_numbers(&mut prefix, &rest);

    let plain_bytes = plain.len() + values.iter().map(|value| value.len()).sum::<usize>();
    let prefix_bytes = prefix.len()
        + values
            .iter()
            .zip(&shared)
            .map(|(value, shared)| value.len() - shared)
            .sum::<usize>();
    if plain_bytes <= prefix_bytes {
        for value in values {
            plain.raw(value);
        }
        plain
    } else {
        values
            .iter()
            .zip(&shared)
            .for_each(|(value, &shared)| prefix.raw(&value[shared..]));
        prefix
    }
}

fn length(len: usize) -> i64 {
    i64::try_from(len).expect("a byte string is shorter than 2^63")
}

/// The distinct values, ascending, and the place of each value among them, if at most half are distinct.
fn string_dictionary<'a>(values: &[&'a [u8]]) -> Option<(Vec<&'a [u8]>, Vec<i64>)> {
    let mut places: HashMap<&[u8], i64, Xxh3DefaultBuilder> = HashMap::default();
    for value in values {
        places.insert(value, 0);
        if places.len() > values.len() / 2 {
            return None;
        }
    }
    let mut distinct: Vec<&[u8]> = places.keys().copied().collect();
    distinct.sort_unstable();
    for (place, value) in (0..).zip(&distinct) {
        places.insert(value, place);
    }
    let indices = values.iter().map(|value| places[value]).collect();
    Some((distinct, indices))
}

/// A column of byte strings as read.
#[derive(Debug)]
pub(in crate::node) struct Strings {
    /// One more than there are (distinct) strings.
    offsets: Vec<i32>,
    bytes: Vec<u8>,
    /// With a dictionary: which string each row has, in bounds.
    indices: Option<Vec<i64>>,
}

/// Reads a column of `len` byte strings. `budget` is how many bytes the strings of the node may still
/// take; what these take is subtracted.
pub(in crate::node) fn read_strings(
    reader: &mut Reader<'_>,
    len: usize,
    budget: &mut usize,
) -> Result<Strings> {
    if len == 0 {
        return Ok(Strings {
            offsets: vec![0],
            bytes: Vec::new(),
            indices: None,
        });
    }
    match reader.u8()? {
        DICTIONARY => {
            let distinct = usize::try_from(reader.varint()?)
                .ok()
                .filter(|count| *count <= len);
            let distinct = distinct
                .filter(|count| *count > 0)
                .ok_or(Malformed("the size of a dictionary is out of bounds"))?;
            let code = reader.u8()?;
            let flat = read_flat_strings(reader, code, distinct, budget)?;
            let indices = read_numbers(reader, len)?;
            let in_bounds = |index: &i64| usize::try_from(*index).is_ok_and(|i| i < distinct);
            if !indices.iter().all(in_bounds) {
                return Err(Malformed("an index lies outside the dictionary"));
            }
            Ok(Strings {
                indices: Some(indices),
                ..flat
            })
        }
        code => read_flat_strings(reader, code, len, budget),
    }
}

fn read_flat_strings(
    reader: &mut Reader<'_>,
    code: u8,
    len: usize,
    budget: &mut usize,
) -> Result<Strings> {
    let mut offsets = Vec::with_capacity(len + 1);
    offsets.push(0);
    let mut end = 0;
    let bytes = match code {
        PLAIN => {
            let (lengths, total) = read_lengths(reader, len, *budget)?;
            *budget -= total;
            for length in lengths {
                end += length;
                offsets.push(offset(end)?);
            }
            reader.raw(total)?.to_vec()
        }
        PREFIX => {
            let (shared, shared_total) = read_lengths(reader, len, *budget)?;
            let (rest, rest_total) = read_lengths(reader, len, *budget - shared_total)?;
            let total = shared_total + rest_total;
            *budget -= total;
            let mut source = Reader::new(reader.raw(rest_total)?);
            let mut bytes = Vec::with_capacity(total);
            let mut before = 0..0;
            for (shared, rest) in shared.into_iter().zip(rest) {
                if shared > before.len() {
                    return Err(Malformed("a string shares more than there is"));
                }
                let start = bytes.len();
                bytes.extend_from_within(before.start..before.start + shared);
                bytes.extend_from_slice(source.raw(rest)?);
                before = start..bytes.len();
                offsets.push(offset(bytes.len())?);
            }
            bytes
        }
        _ => return Err(Malformed("a column of strings has an unknown encoding")),
    };
    Ok(Strings {
        offsets,
        bytes,
        indices: None,
    })
}

fn offset(end: usize) -> Result<i32> {
    i32::try_from(end).map_err(|_| TOO_LONG)
}

impl Strings {
    /// The values, in row order.
    pub(in crate::node) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let rows = self
            .indices
            .as_ref()
            .map_or(self.offsets.len() - 1, Vec::len);
        (0..rows).map(|row| {
            let at = self.indices.as_ref().map_or(row, |indices| {
                usize::try_from(indices[row]).expect("indices are checked when they are read")
            });
            &self.bytes[self.range(at)]
        })
    }

    /// Something made of each value, in row order. What a dictionary shares is made once and cloned.
    pub(in crate::node) fn map<T: Clone>(
        &self,
        mut each: impl FnMut(&[u8]) -> Result<T>,
    ) -> Result<Vec<T>> {
        let distinct = (1..self.offsets.len()).map(|i| each(&self.bytes[self.range(i - 1)]));
        let distinct = distinct.collect::<Result<Vec<T>>>()?;
        let Some(indices) = &self.indices else {
            return Ok(distinct);
        };
        let at =
            |index: &i64| usize::try_from(*index).expect("indices are checked when they are read");
        Ok(indices
            .iter()
            .map(|index| distinct[at(index)].clone())
            .collect())
    }

    /// Length of the longest value in bytes.
    pub(in crate::node) fn len_max(&self) -> usize {
        (1..self.offsets.len())
            .map(|i| self.range(i - 1).len())
            .max()
            .unwrap_or(0)
    }

    /// The values as text.
    pub(in crate::node) fn into_text(self) -> Result<StringViewArray> {
        self.into_views::<Utf8Type, _>("text is not UTF-8")
    }

    /// The values as bytes.
    pub(in crate::node) fn into_bytes(self) -> Result<BinaryViewArray> {
        self.into_views::<BinaryType, _>("bytes are malformed")
    }

    /// The array validates all text as a whole; views of it are then made without copying. Where every value lies
    /// within its view, the array has no buffer besides, for which Arrow looks at each view once more: it compares
    /// such views as numbers, five times as fast.
    fn into_views<F, V>(self, reason: &'static str) -> Result<GenericByteViewArray<V>>
    where
        F: ByteArrayType<Offset = i32>,
        V: ByteViewType<Native = F::Native>,
        for<'a> GenericByteViewArray<V>: From<&'a GenericByteArray<F>>,
    {
        let malformed = |_| Malformed(reason);
        let are_inline = self.len_max() <= INLINE_MAX;
        let flat = GenericByteArray::<F>::try_new(
            OffsetBuffer::new(self.offsets.into()),
            Buffer::from_vec(self.bytes),
            None,
        )
        .map_err(malformed)?;
        let views = GenericByteViewArray::<V>::from(&flat);
        if self.indices.is_none() && !are_inline {
            return Ok(views);
        }
        let (distinct, mut buffers, _) = views.into_parts();
        if are_inline {
            buffers = Arc::default();
        }
        let views = match self.indices {
            Some(indices) => indices
                .into_iter()
                .map(|index| usize::try_from(index).map_or(0, |index| distinct[index]))
                .collect(),
            None => distinct,
        };
        GenericByteViewArray::try_new(views, buffers, None).map_err(malformed)
    }

    fn range(&self, at: usize) -> Range<usize> {
        let offset = |i: usize| usize::try_from(self.offsets[i]).expect("offsets are not negative");
        offset(at)..offset(at + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_strings_have_no_buffer() {
        for (longest, buffers) in [("twelve bytes", 0), ("thirteen byte", 1)] {
            for rows in [vec!["", "é", longest], vec![longest; 40]] {
                let array = StringViewArray::from_iter_values(&rows);
                let mut out = Writer::new();
                let bytes: Vec<&[u8]> = rows.iter().map(|row| row.as_bytes()).collect();
                write_strings(&mut out, &bytes);
                let bytes = out.into_bytes();
                let read = read_strings(&mut Reader::new(&bytes), rows.len(), &mut 1000).unwrap();
                let read = read.into_text().unwrap();
                assert_eq!(read, array);
                assert_eq!(read.data_buffers().len(), buffers, "{rows:?}");
            }
        }
    }

    #[test]
    fn lengths_that_add_up_to_a_bomb_are_refused() {
        // 60,000 strings that each share the kilobyte of the one before: 60 MB out of a few bytes.
        let mut out = Writer::new();
        out.u8(PREFIX);
        let shared: Vec<i64> = (0..60_000).map(|i| if i == 0 { 0 } else { 1024 }).collect();
        let rest: Vec<i64> = shared.iter().map(|shared| 1024 - shared).collect();
        write_numbers(&mut out, &shared);
        write_numbers(&mut out, &rest);
        out.raw(&[b'x'; 1024]);
        let mut budget = 8 << 20;
        assert_eq!(
            read_strings(&mut Reader::new(out.as_slice()), 60_000, &mut budget).unwrap_err(),
            TOO_LONG
        );
    }
}
