//! The column encodings: numbers, byte strings and booleans.
//!
//! A column does not say how many values it has: the reader knows. The writer of a column measures every
//! encoding and takes the one of fewest bytes, and of equals the one with the lowest code, so that equal
//! values always give equal bytes. `FORMAT.md` specifies each encoding.
//!
//! **Invariant.** The choice is frozen: changing it, even for the better, changes the identity of nodes
//! and so needs a new format version.

use arrow_array::types::{BinaryType, ByteArrayType, ByteViewType, Utf8Type};
use arrow_array::{BinaryViewArray, GenericByteArray, GenericByteViewArray, StringViewArray};
use arrow_buffer::{BooleanBuffer, Buffer, OffsetBuffer, ScalarBuffer};
use std::collections::HashMap;
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use crate::wire::{Malformed, Reader, Result, Writer};

/// Values that are packed with one width.
const BLOCK: usize = 128;
/// Most distinct numbers of a dictionary.
const DICTIONARY_MAX: usize = 256;

/// How numbers are encoded.
mod numbers {
    pub(super) const CONSTANT: u8 = 0;
    pub(super) const FRAME: u8 = 1;
    pub(super) const DELTA: u8 = 2;
    pub(super) const DICTIONARY: u8 = 3;
    pub(super) const PLAIN: u8 = 4;
}

/// How byte strings are encoded.
mod strings {
    pub(super) const PLAIN: u8 = 0;
    pub(super) const PREFIX: u8 = 1;
    pub(super) const DICTIONARY: u8 = 2;
}

/// How booleans are encoded.
mod booleans {
    pub(super) const FALSE: u8 = 0;
    pub(super) const TRUE: u8 = 1;
    pub(super) const BITMAP: u8 = 2;
}

/// Writes a column of numbers.
pub(super) fn write_numbers(out: &mut Writer, values: &[i64]) {
    let Some(&first) = values.first() else { return };
    if values.iter().all(|&value| value == first) {
        out.u8(numbers::CONSTANT);
        return out.zigzag(first);
    }
    let deltas: Vec<i64> = values
        .windows(2)
        .map(|pair| pair[1].wrapping_sub(pair[0]))
        .collect();
    let dictionary = number_dictionary(values);
    let sizes = [
        (frame_bytes(values), numbers::FRAME),
        (zigzag_bytes(first) + frame_bytes(&deltas), numbers::DELTA),
        (
            dictionary.as_ref().map_or(usize::MAX, |distinct| {
                dictionary_bytes(distinct) + packed_bytes(values.len(), index_width(distinct.len()))
            }),
            numbers::DICTIONARY,
        ),
        (8 * values.len(), numbers::PLAIN),
    ];
    let (_, code) = sizes.into_iter().min().expect("there are four encodings");
    out.u8(code);
    match (code, dictionary) {
        (numbers::FRAME, _) => write_frame(out, values),
        (numbers::DELTA, _) => {
            out.zigzag(first);
            write_frame(out, &deltas);
        }
        (numbers::DICTIONARY, Some(distinct)) => {
            write_dictionary(out, &distinct);
            let index = |value| {
                distinct
                    .binary_search(value)
                    .expect("the dictionary is complete")
            };
            pack(
                out,
                index_width(distinct.len()),
                values.iter().map(|value| index(value) as u64),
            );
        }
        _ => values
            .iter()
            .for_each(|value| out.raw(&value.to_le_bytes())),
    }
}

/// Reads a column of `len` numbers.
pub(super) fn read_numbers(reader: &mut Reader<'_>, len: usize) -> Result<Vec<i64>> {
    if len == 0 {
        return Ok(Vec::new());
    }
    match reader.u8()? {
        numbers::CONSTANT => Ok(vec![reader.zigzag()?; len]),
        numbers::FRAME => {
            let mut values = Vec::with_capacity(len);
            read_frame(reader, len, |value| values.push(value))?;
            Ok(values)
        }
        numbers::DELTA => {
            let mut last = reader.zigzag()?;
            let mut values = Vec::with_capacity(len);
            values.push(last);
            read_frame(reader, len - 1, |delta| {
                last = last.wrapping_add(delta);
                values.push(last);
            })?;
            Ok(values)
        }
        numbers::DICTIONARY => {
            let distinct = read_dictionary(reader)?;
            let width = index_width(distinct.len());
            let packed = reader.raw(packed_bytes(len, width))?;
            let mut values = Vec::with_capacity(len);
            // A block of indices is a whole number of bytes, as BLOCK is a multiple of eight.
            for (i, packed) in packed.chunks(packed_bytes(BLOCK, width)).enumerate() {
                let mut in_bounds = true;
                unpack(packed, width, BLOCK.min(len - i * BLOCK), |index| {
                    let value = usize::try_from(index)
                        .ok()
                        .and_then(|index| distinct.get(index));
                    in_bounds &= value.is_some();
                    values.push(value.copied().unwrap_or_default());
                })?;
                if !in_bounds {
                    return Err(Malformed("an index lies outside the dictionary"));
                }
            }
            Ok(values)
        }
        numbers::PLAIN => {
            let bytes = reader.raw(len * 8)?;
            let (words, _) = bytes.as_chunks::<8>();
            Ok(words.iter().map(|word| i64::from_le_bytes(*word)).collect())
        }
        _ => Err(Malformed("a column of numbers has an unknown encoding")),
    }
}

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

const TOO_LONG: Malformed = Malformed("byte strings are longer than a node may be");

/// Blocks of numbers, each as its least number, relative to that of the block before, a width in bits,
/// and what lies above the least number, packed.
fn write_frame(out: &mut Writer, values: &[i64]) {
    let mut before = 0;
    for block in values.chunks(BLOCK) {
        let (min, width) = frame_of(block);
        out.zigzag(min.wrapping_sub(before));
        out.u8(width);
        pack(
            out,
            width,
            block
                .iter()
                .map(|value| value.wrapping_sub(min).cast_unsigned()),
        );
        before = min;
    }
}

fn read_frame(reader: &mut Reader<'_>, len: usize, mut each: impl FnMut(i64)) -> Result<()> {
    let mut min = 0i64;
    let mut left = len;
    while left > 0 {
        let rows = left.min(BLOCK);
        min = min.wrapping_add(reader.zigzag()?);
        let width = reader.u8()?;
        if width > 64 {
            return Err(Malformed("a number has more than 64 bits"));
        }
        let packed = reader.raw(packed_bytes(rows, width))?;
        unpack(packed, width, rows, |bits| {
            each(min.wrapping_add(bits.cast_signed()))
        })?;
        left -= rows;
    }
    Ok(())
}

fn frame_bytes(values: &[i64]) -> usize {
    let mut before = 0;
    let blocks = values.chunks(BLOCK).map(|block| {
        let (min, width) = frame_of(block);
        let relative = min.wrapping_sub(before);
        before = min;
        zigzag_bytes(relative) + 1 + packed_bytes(block.len(), width)
    });
    blocks.sum()
}

/// The least number, and how many bits the distance of the greatest from it has.
fn frame_of(block: &[i64]) -> (i64, u8) {
    let (min, max) = block
        .iter()
        .fold((i64::MAX, i64::MIN), |(min, max), &value| {
            (min.min(value), max.max(value))
        });
    (min, bits(max.wrapping_sub(min).cast_unsigned()))
}

/// The distinct numbers, ascending, if there are few.
fn number_dictionary(values: &[i64]) -> Option<Vec<i64>> {
    let mut distinct: Vec<i64> = Vec::new();
    let mut last = None;
    for &value in values {
        if last == Some(value) {
            continue;
        }
        last = Some(value);
        if let Err(at) = distinct.binary_search(&value) {
            if distinct.len() == DICTIONARY_MAX {
                return None;
            }
            distinct.insert(at, value);
        }
    }
    Some(distinct)
}

fn gaps(distinct: &[i64]) -> impl Iterator<Item = u64> {
    distinct
        .windows(2)
        .map(|pair| pair[1].wrapping_sub(pair[0]).cast_unsigned())
}

fn write_dictionary(out: &mut Writer, distinct: &[i64]) {
    out.count(distinct.len());
    out.zigzag(distinct[0]);
    gaps(distinct).for_each(|gap| out.varint(gap));
}

fn read_dictionary(reader: &mut Reader<'_>) -> Result<Vec<i64>> {
    let len = reader.count(1)?;
    if !(2..=DICTIONARY_MAX).contains(&len) {
        return Err(Malformed("the size of a dictionary is out of bounds"));
    }
    let mut last = reader.zigzag()?;
    let mut distinct = vec![last];
    for _ in 1..len {
        last = last.wrapping_add(reader.varint()?.cast_signed());
        distinct.push(last);
    }
    Ok(distinct)
}

fn dictionary_bytes(distinct: &[i64]) -> usize {
    varint_bytes(distinct.len() as u64)
        + zigzag_bytes(distinct[0])
        + gaps(distinct).map(varint_bytes).sum::<usize>()
}

fn index_width(len: usize) -> u8 {
    bits(len as u64 - 1)
}

/// How many bits a number has.
fn bits(value: u64) -> u8 {
    u8::try_from(u64::BITS - value.leading_zeros()).expect("a number has at most 64 bits")
}

fn varint_bytes(value: u64) -> usize {
    usize::from(bits(value)).div_ceil(7).max(1)
}

fn zigzag_bytes(value: i64) -> usize {
    varint_bytes(crate::wire::zigzag(value))
}

fn packed_bytes(len: usize, width: u8) -> usize {
    (len * usize::from(width)).div_ceil(8)
}

/// Numbers of `width` bits, least significant bit first, the last byte filled up with zeros.
fn pack(out: &mut Writer, width: u8, values: impl Iterator<Item = u64>) {
    let (mut word, mut filled) = (0u128, 0u32);
    for value in values {
        word |= u128::from(value) << filled;
        filled += u32::from(width);
        if filled >= 64 {
            out.raw(&word.to_le_bytes()[..8]);
            word >>= 64;
            filled -= 64;
        }
    }
    out.raw(&word.to_le_bytes()[..filled.div_ceil(8) as usize]);
}

/// The inverse of [`pack`], for at most a block of values.
#[inline]
fn unpack(packed: &[u8], width: u8, len: usize, mut each: impl FnMut(u64)) -> Result<()> {
    if width == 0 {
        (0..len).for_each(|_| each(0));
        return Ok(());
    }
    // A copy with slack at the end, so that every number can be read as a whole word.
    let mut padded = [0u8; BLOCK * 8 + 16];
    padded[..packed.len()].copy_from_slice(packed);
    let width = usize::from(width);
    let used = len * width;
    if packed
        .last()
        .is_some_and(|last| !used.is_multiple_of(8) && last >> (used % 8) > 0)
    {
        return Err(Malformed("the padding of packed numbers is not zero"));
    }
    let mask = u64::MAX >> (64 - width);
    if width <= 56 {
        for i in 0..len {
            let bit = i * width;
            let word: [u8; 8] = padded[bit / 8..bit / 8 + 8]
                .try_into()
                .expect("a slice of eight");
            each((u64::from_le_bytes(word) >> (bit % 8)) & mask);
        }
    } else {
        for i in 0..len {
            let bit = i * width;
            let word: [u8; 16] = padded[bit / 8..bit / 8 + 16]
                .try_into()
                .expect("a slice of sixteen");
            each(low_half(u128::from_le_bytes(word) >> (bit % 8)) & mask);
        }
    }
    Ok(())
}

/// The lower 64 bits.
pub(super) fn low_half(value: u128) -> u64 {
    u64::try_from(value & u128::from(u64::MAX)).expect("64 bits are left")
}

/// Writes a column of byte strings.
pub(super) fn write_strings(out: &mut Writer, values: &[&[u8]]) {
    if values.is_empty() {
        return;
    }
    let mut best = write_flat_strings(values);
    if let Some((distinct, indices)) = string_dictionary(values) {
        let mut dictionary = Writer::new();
        dictionary.u8(strings::DICTIONARY);
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
    plain.u8(strings::PLAIN);
    let lengths: Vec<i64> = values.iter().map(|value| length(value.len())).collect();
    write_numbers(&mut plain, &lengths);

    let mut prefix = Writer::new();
    prefix.u8(strings::PREFIX);
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
pub(super) struct Strings {
    /// One more than there are (distinct) strings.
    offsets: Vec<i32>,
    bytes: Vec<u8>,
    /// With a dictionary: which string each row has, in bounds.
    indices: Option<Vec<i64>>,
}

/// Reads a column of `len` byte strings. `budget` is how many bytes the strings of the node may still
/// take; what these take is subtracted.
pub(super) fn read_strings(
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
        strings::DICTIONARY => {
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
        strings::PLAIN => {
            let (lengths, total) = read_lengths(reader, len, *budget)?;
            *budget -= total;
            for length in lengths {
                end += length;
                offsets.push(offset(end)?);
            }
            reader.raw(total)?.to_vec()
        }
        strings::PREFIX => {
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
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
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
    pub(super) fn map<T: Clone>(&self, mut each: impl FnMut(&[u8]) -> Result<T>) -> Result<Vec<T>> {
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
    pub(super) fn len_max(&self) -> usize {
        (1..self.offsets.len())
            .map(|i| self.range(i - 1).len())
            .max()
            .unwrap_or(0)
    }

    /// The values as text.
    pub(super) fn into_text(self) -> Result<StringViewArray> {
        self.into_views::<Utf8Type, _>("text is not UTF-8")
    }

    /// The values as bytes.
    pub(super) fn into_bytes(self) -> Result<BinaryViewArray> {
        self.into_views::<BinaryType, _>("bytes are malformed")
    }

    /// The array validates all text once as a whole; views of it are then made without copying.
    fn into_views<F, V>(self, reason: &'static str) -> Result<GenericByteViewArray<V>>
    where
        F: ByteArrayType<Offset = i32>,
        V: ByteViewType<Native = F::Native>,
        for<'a> GenericByteViewArray<V>: From<&'a GenericByteArray<F>>,
    {
        let malformed = |_| Malformed(reason);
        let flat = GenericByteArray::<F>::try_new(
            OffsetBuffer::new(self.offsets.into()),
            Buffer::from_vec(self.bytes),
            None,
        )
        .map_err(malformed)?;
        let views = GenericByteViewArray::<V>::from(&flat);
        let Some(indices) = self.indices else {
            return Ok(views);
        };
        let (distinct, buffers, _) = views.into_parts();
        let gathered: ScalarBuffer<u128> = indices
            .into_iter()
            .map(|index| usize::try_from(index).map_or(0, |index| distinct[index]))
            .collect();
        GenericByteViewArray::try_new(gathered, buffers, None).map_err(malformed)
    }

    fn range(&self, at: usize) -> std::ops::Range<usize> {
        let offset = |i: usize| usize::try_from(self.offsets[i]).expect("offsets are not negative");
        offset(at)..offset(at + 1)
    }
}

/// Writes a column of booleans; `None` stands for `len` times true.
pub(super) fn write_booleans(out: &mut Writer, values: Option<&BooleanBuffer>, len: usize) {
    if len == 0 {
        return;
    }
    let trues = values.map_or(len, BooleanBuffer::count_set_bits);
    match values {
        Some(values) if trues > 0 && trues < len => {
            out.u8(booleans::BITMAP);
            pack(out, 1, values.iter().map(u64::from));
        }
        _ => out.u8(if trues == 0 {
            booleans::FALSE
        } else {
            booleans::TRUE
        }),
    }
}

/// Reads a column of `len` booleans.
pub(super) fn read_booleans(reader: &mut Reader<'_>, len: usize) -> Result<BooleanBuffer> {
    if len == 0 {
        return Ok(BooleanBuffer::new_unset(0));
    }
    match reader.u8()? {
        booleans::FALSE => Ok(BooleanBuffer::new_unset(len)),
        booleans::TRUE => Ok(BooleanBuffer::new_set(len)),
        booleans::BITMAP => {
            let bytes = reader.raw(len.div_ceil(8))?;
            let padding = bytes
                .last()
                .map_or(0, |last| u32::from(*last) >> ((len - 1) % 8 + 1));
            let bits = BooleanBuffer::new(Buffer::from(bytes), 0, len);
            let trues = bits.count_set_bits();
            if padding > 0 || trues == 0 || trues == len {
                return Err(Malformed("a bitmap is not canonical"));
            }
            Ok(bits)
        }
        _ => Err(Malformed("a column of booleans has an unknown encoding")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

    #[test]
    fn each_encoding_is_chosen_where_it_is_shortest() {
        let code = |values: &[i64]| {
            let mut out = Writer::new();
            write_numbers(&mut out, values);
            (out.as_slice()[0], out.len())
        };
        let n = 1000i64;
        assert_eq!(code(&vec![7; 1000]), (numbers::CONSTANT, 2));
        let scattered: Vec<i64> = (0..n).map(|i| i * 7919 % 1024).collect();
        assert_eq!(code(&scattered).0, numbers::FRAME);
        let ascending: Vec<i64> = (0..n).map(|i| i * 3 + i % 2).collect();
        assert_eq!(code(&ascending).0, numbers::DELTA);
        let far_apart: Vec<i64> = (0..n).map(|i| (i * i % 5) << 40).collect();
        assert_eq!(code(&far_apart).0, numbers::DICTIONARY);
        let random: Vec<i64> = (0..n)
            .map(|i| xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes()).cast_signed())
            .collect();
        assert_eq!(code(&random), (numbers::PLAIN, 8001));
        // One jump costs one block, not all of them.
        let jump: Vec<i64> = (0..n)
            .map(|i| if i < 500 { i } else { i - 1_000_000 })
            .collect();
        assert!(code(&jump).1 < 400, "{:?}", code(&jump));
    }

    #[test]
    fn lengths_that_add_up_to_a_bomb_are_refused() {
        // 60,000 strings that each share the kilobyte of the one before: 60 MB out of a few bytes.
        let mut out = Writer::new();
        out.u8(strings::PREFIX);
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
