//! Columns of booleans: all equal, or bits.

use arrow_buffer::{BooleanBuffer, Buffer};

use super::numbers::pack;
use crate::wire::{Malformed, Reader, Result, Writer};

const FALSE: u8 = 0;
const TRUE: u8 = 1;
const BITMAP: u8 = 2;

/// Writes a column of booleans; `None` stands for `len` times true.
pub(in crate::node) fn write_booleans(
    out: &mut Writer,
    values: Option<&BooleanBuffer>,
    len: usize,
) {
    if len == 0 {
        return;
    }
    let trues = values.map_or(len, BooleanBuffer::count_set_bits);
    match values {
        Some(values) if trues > 0 && trues < len => {
            out.u8(BITMAP);
            pack(out, 1, values.iter().map(u64::from));
        }
        _ => out.u8(if trues == 0 { FALSE } else { TRUE }),
    }
}

/// Reads a column of `len` booleans.
pub(in crate::node) fn read_booleans(reader: &mut Reader<'_>, len: usize) -> Result<BooleanBuffer> {
    if len == 0 {
        return Ok(BooleanBuffer::new_unset(0));
    }
    match reader.u8()? {
        FALSE => Ok(BooleanBuffer::new_unset(len)),
        TRUE => Ok(BooleanBuffer::new_set(len)),
        BITMAP => {
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
