//! Columns of 64-bit numbers: constant, packed in blocks, as differences, by dictionary, or plain.

use crate::wire::{Malformed, Reader, Result, Writer, zigzag};

const CONSTANT: u8 = 0;
const FRAME: u8 = 1;
const DELTA: u8 = 2;
const DICTIONARY: u8 = 3;
const PLAIN: u8 = 4;

/// Values that are packed with one width.
const BLOCK: usize = 128;
/// Most distinct numbers of a dictionary.
const DICTIONARY_MAX: usize = 256;

/// Writes a column of numbers.
pub(in crate::node) fn write_numbers(out: &mut Writer, values: &[i64]) {
    let Some(&first) = values.first() else { return };
    if values.iter().all(|&value| value == first) {
        out.u8(CONSTANT);
        return out.zigzag(first);
    }
    let deltas: Vec<i64> = values
        .windows(2)
        .map(|pair| pair[1].wrapping_sub(pair[0]))
        .collect();
    let dictionary = number_dictionary(values);
    let sizes = [
        (frame_bytes(values), FRAME),
        (zigzag_bytes(first) + frame_bytes(&deltas), DELTA),
        (
            dictionary.as_ref().map_or(usize::MAX, |distinct| {
                dictionary_bytes(distinct) + packed_bytes(values.len(), index_width(distinct.len()))
            }),
            DICTIONARY,
        ),
        (8 * values.len(), PLAIN),
    ];
    let (_, code) = sizes.into_iter().min().expect("there are four encodings");
    out.u8(code);
    match (code, dictionary) {
        (FRAME, _) => write_frame(out, values),
        (DELTA, _) => {
            out.zigzag(first);
            write_frame(out, &deltas);
        }
        (DICTIONARY, Some(distinct)) => {
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
pub(in crate::node) fn read_numbers(reader: &mut Reader<'_>, len: usize) -> Result<Vec<i64>> {
    if len == 0 {
        return Ok(Vec::new());
    }
    match reader.u8()? {
        CONSTANT => Ok(vec![reader.zigzag()?; len]),
        FRAME => {
            let mut values = Vec::with_capacity(len);
            read_frame(reader, len, |value| values.push(value))?;
            Ok(values)
        }
        DELTA => {
            let mut last = reader.zigzag()?;
            let mut values = Vec::with_capacity(len);
            values.push(last);
            read_frame(reader, len - 1, |delta| {
                last = last.wrapping_add(delta);
                values.push(last);
            })?;
            Ok(values)
        }
        DICTIONARY => {
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
        PLAIN => {
            let bytes = reader.raw(len * 8)?;
            let (words, _) = bytes.as_chunks::<8>();
            Ok(words.iter().map(|word| i64::from_le_bytes(*word)).collect())
        }
        _ => Err(Malformed("a column of numbers has an unknown encoding")),
    }
}

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
            each(min.wrapping_add(bits.cast_signed()));
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
    varint_bytes(zigzag(value))
}

fn packed_bytes(len: usize, width: u8) -> usize {
    (len * usize::from(width)).div_ceil(8)
}

/// Numbers of `width` bits, least significant bit first, the last byte filled up with zeros.
pub(super) fn pack(out: &mut Writer, width: u8, values: impl Iterator<Item = u64>) {
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
pub(in crate::node) fn low_half(value: u128) -> u64 {
    u64::try_from(value & u128::from(u64::MAX)).expect("64 bits are left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_encoding_is_chosen_where_it_is_shortest() {
        let code = |values: &[i64]| {
            let mut out = Writer::new();
            write_numbers(&mut out, values);
            (out.as_slice()[0], out.len())
        };
        let n = 1000i64;
        assert_eq!(code(&vec![7; 1000]), (CONSTANT, 2));
        let scattered: Vec<i64> = (0..n).map(|i| i * 7919 % 1024).collect();
        assert_eq!(code(&scattered).0, FRAME);
        let ascending: Vec<i64> = (0..n).map(|i| i * 3 + i % 2).collect();
        assert_eq!(code(&ascending).0, DELTA);
        let far_apart: Vec<i64> = (0..n).map(|i| (i * i % 5) << 40).collect();
        assert_eq!(code(&far_apart).0, DICTIONARY);
        let random: Vec<i64> = (0..n)
            .map(|i| xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes()).cast_signed())
            .collect();
        assert_eq!(code(&random), (PLAIN, 8001));
        // One jump costs one block, not all of them.
        let jump: Vec<i64> = (0..n)
            .map(|i| if i < 500 { i } else { i - 1_000_000 })
            .collect();
        assert!(code(&jump).1 < 400, "{:?}", code(&jump));
    }
}
