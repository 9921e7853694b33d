//! Reading fields from a payload and writing them: integers, compact sizes, hashes, byte strings.
//!
//! Layer 1. Section 6.1 of the wire specification (the node's `src/serialize.h`).

use byteorder::{BigEndian, ByteOrder, LittleEndian};

use super::DecodeError;

/// Reads fields one after the other from a payload; every read is checked.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes not read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether every byte is read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    ///
    /// [`DecodeError::UnexpectedEnd`] if fewer are left; nothing is consumed then.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    ///
    /// [`DecodeError::UnexpectedEnd`] if fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    ///
    /// # Errors
    ///
    /// [`DecodeError::UnexpectedEnd`].
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// One byte, true unless zero, as the node reads it.
    ///
    /// # Errors
    ///
    /// [`DecodeError::UnexpectedEnd`].
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.u8()? != 0)
    }

    /// Two bytes, big-endian (ports).
    ///
    /// # Errors
    ///
    /// [`DecodeError::UnexpectedEnd`].
    pub fn u16_be(&mut self) -> Result<u16, DecodeError> {
        Ok(BigEndian::read_u16(self.take(2)?))
    }

    /// Two bytes, little-endian.
    ///
    /// # Errors
    ///
    /// [`DecodeError::UnexpectedEnd`].
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(LittleEndian::read_u16(self.take(2)?))
    }

    /// Four bytes, little-endian.
    ///
    /// # Errors
    ///
    /// [`DecodeError::UnexpectedEnd`].
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(LittleEndian::read_u32(self.take(4)?))
    }

    /// Four bytes, little-endian, signed.
    ///
    /// # Errors
    ///
    /// [`DecodeError::UnexpectedEnd`].
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(LittleEndian::read_i32(self.take(4)?))
    }

    /// Eight bytes, little-endian.
    ///
    /// # Errors
    ///
    /// [`DecodeError::UnexpectedEnd`].
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(LittleEndian::read_u64(self.take(8)?))
    }

    /// Eight bytes, little-endian, signed.
    ///
    /// # Errors
    ///
    /// [`DecodeError::UnexpectedEnd`].
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(LittleEndian::read_i64(self.take(8)?))
    }

    /// A compact size: 1, 3, 5 or 9 bytes.
    ///
    /// # Errors
    ///
    /// [`DecodeError::UnexpectedEnd`], [`DecodeError::NonCanonicalCompactSize`] if a shorter form exists,
    /// [`DecodeError::CompactSizeTooLarge`] over 0xffffffff.
    pub fn compact_size(&mut self) -> Result<u64, DecodeError> {
        let (value, smallest) = match self.u8()? {
            0xfd => (u64::from(self.u16()?), 0xfd),
            0xfe => (u64::from(self.u32()?), 0x1_0000),
            0xff => (self.u64()?, 0x1_0000_0000),
            small => (u64::from(small), 0),
        };
        if value < smallest {
            return Err(DecodeError::NonCanonicalCompactSize);
        }
        if value > MAX_COMPACT_SIZE {
            return Err(DecodeError::CompactSizeTooLarge { value });
        }
        Ok(value)
    }

    /// A count of items of at least `min_item_len` bytes each.
    ///
    /// The count is a claim: one that the bytes left cannot hold is refused, so what is allocated for it is
    /// bounded by what came in.
    ///
    /// # Errors
    ///
    /// Those of [`compact_size`](Self::compact_size), and [`DecodeError::UnexpectedEnd`] if the items cannot fit.
    pub fn count(&mut self, min_item_len: usize) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.compact_size()?).map_err(|_| DecodeError::UnexpectedEnd)?;
        match count.checked_mul(min_item_len) {
            Some(len) if len <= self.rest.len() => Ok(count),
            _ => Err(DecodeError::UnexpectedEnd),
        }
    }

    /// Reads `count` items, a count that [`count`](Self::count) has held against the bytes left.
    pub(crate) fn items<T>(
        &mut self,
        count: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        // Collecting results would grow the list step by step.
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// A byte string: its compact size, then the bytes.
    ///
    /// # Errors
    ///
    /// Those of [`compact_size`](Self::compact_size), and [`DecodeError::UnexpectedEnd`].
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let n = usize::try_from(self.compact_size()?).map_err(|_| DecodeError::UnexpectedEnd)?;
        self.take(n)
    }

    /// A byte string of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// Those of [`bytes`](Self::bytes), and [`DecodeError::FieldTooLong`] naming `field`.
    pub fn bytes_up_to(&mut self, field: &'static str, limit: usize) -> Result<&'a [u8], DecodeError> {
        let length = self.compact_size()?;
        match usize::try_from(length) {
            Ok(n) if n <= limit => self.take(n),
            _ => Err(DecodeError::FieldTooLong { field, length, limit: limit as u64 }),
        }
    }
}

/// Appends a compact size in its shortest form.
pub fn write_compact_size(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0xfc => out.push(value as u8),
        0xfd..=0xffff => {
            out.push(0xfd);
            out.extend_from_slice(&(value as u16).to_le_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xfe);
            out.extend_from_slice(&(value as u32).to_le_bytes());
        }
        _ => {
            out.push(0xff);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

/// Appends a byte string: its compact size, then the bytes.
pub fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_compact_size(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Bytes that a compact size of this value takes.
#[must_use]
pub const fn compact_size_len(value: u64) -> usize {
    match value {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// The largest compact size the node reads (`MAX_SIZE` in `src/serialize.h`).
const MAX_COMPACT_SIZE: u64 = 0xffff_ffff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_sizes_round_trip_in_their_shortest_form() {
        for value in [0, 1, 0xfc, 0xfd, 0xfe, 0xff, 0x100, 0xffff, 0x1_0000, 0xffff_ffff] {
            let mut out = Vec::new();
            write_compact_size(&mut out, value);
            assert_eq!(out.len(), compact_size_len(value));
            let mut reader = Reader::new(&out);
            assert_eq!(reader.compact_size(), Ok(value));
            assert!(reader.is_empty());
            for cut in 0..out.len() {
                assert_eq!(Reader::new(&out[..cut]).compact_size(), Err(DecodeError::UnexpectedEnd));
            }
        }
    }

    #[test]
    fn longer_forms_are_refused() {
        let non_canonical: [&[u8]; 4] = [
            &[0xfd, 0xfc, 0],
            &[0xfe, 0xff, 0xff, 0, 0],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
            &[0xfd, 0, 0],
        ];
        for bytes in non_canonical {
            assert_eq!(Reader::new(bytes).compact_size(), Err(DecodeError::NonCanonicalCompactSize));
        }
        assert_eq!(
            Reader::new(&[0xff, 0, 0, 0, 0, 1, 0, 0, 0]).compact_size(),
            Err(DecodeError::CompactSizeTooLarge { value: 1 << 32 })
        );
    }

    #[test]
    fn a_count_that_cannot_fit_is_refused() {
        let mut bytes = vec![0xfe, 0xff, 0xff, 0xff, 0xff];
        bytes.extend_from_slice(&[0; 72]);
        assert_eq!(Reader::new(&bytes).count(36), Err(DecodeError::UnexpectedEnd));
        bytes.splice(..5, [2]);
        assert_eq!(Reader::new(&bytes).count(36), Ok(2));
    }
}
