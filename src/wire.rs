//! Bytes in and out: little-endian integers, varints and length-prefixed runs.
//!
//! [`Reader`] never trusts its input: every length is compared with what is left before it is believed,
//! and a malformed input is an error, never a panic or an allocation.

/// Why bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// The result of reading untrusted bytes.
pub type Result<T> = std::result::Result<T, Malformed>;

/// Appends encoded values to a byte vector.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    /// Seven bits a byte, least significant first; 1 to 10 bytes.
    #[allow(clippy::cast_possible_truncation, reason = "seven bits at a time")]
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// A length or a count as a varint.
    pub fn count(&mut self, value: usize) {
        self.varint(value as u64);
    }

    /// A signed number: small magnitudes take few bytes.
    pub fn zigzag(&mut self, value: i64) {
        self.varint(zigzag(value));
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// A varint length, then the bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }
}

/// Reads what [`Writer`] wrote, checking everything.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Fails unless everything has been read.
    pub fn finish(&self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed("bytes are left over"))
        }
    }

    /// The next `len` bytes.
    pub fn raw(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(Malformed("input is cut short"))?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Malformed("input is cut short"))?;
        self.rest = rest;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A varint in its shortest form.
    pub fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed("a varint is too large"));
            }
            value |= bits << shift;
            if byte < 0x80 {
                // One number has one encoding: canonical bytes depend on it.
                if byte == 0 && shift > 0 {
                    return Err(Malformed("a varint is longer than it needs to be"));
                }
                return Ok(value);
            }
        }
        Err(Malformed("a varint is too long"))
    }

    /// A count of things that take at least `bytes_each` bytes each in what is left, so that it is safe
    /// to allocate for.
    pub fn count(&mut self, bytes_each: usize) -> Result<usize> {
        let count =
            usize::try_from(self.varint()?).map_err(|_| Malformed("a count is too large"))?;
        match count.checked_mul(bytes_each) {
            Some(bytes) if bytes <= self.rest.len() => Ok(count),
            _ => Err(Malformed("a count exceeds what is left")),
        }
    }

    /// A signed number.
    pub fn zigzag(&mut self) -> Result<i64> {
        self.varint().map(unzigzag)
    }

    /// A varint length, then that many bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = self.count(1)?;
        self.raw(len)
    }

    /// A varint length, then that many bytes of UTF-8.
    pub fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("text is not UTF-8"))
    }
}

/// Maps small magnitudes of either sign to small numbers.
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag`].
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(unsigned: u64, signed: i64, bytes: Vec<u8>) {
            let mut writer = Writer::new();
            writer.varint(unsigned);
            writer.zigzag(signed);
            writer.bytes(&bytes);
            writer.u32(7);
            let bytes_written = writer.into_bytes();
            let mut reader = Reader::new(&bytes_written);
            prop_assert_eq!(reader.varint(), Ok(unsigned));
            prop_assert_eq!(reader.zigzag(), Ok(signed));
            prop_assert_eq!(reader.bytes(), Ok(&bytes[..]));
            prop_assert_eq!(reader.u32(), Ok(7));
            prop_assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn padded_and_oversized_varints_are_refused() {
        assert!(Reader::new(&[0x80, 0x00]).varint().is_err());
        assert!(Reader::new(&[0xff; 11]).varint().is_err());
        assert!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2])
                .varint()
                .is_err()
        );
        assert!(Reader::new(&[0xff, 0xff, 0x03, 1]).count(1).is_err());
    }
}
