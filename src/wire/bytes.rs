//! Immutable bytes that many owners share without copying.
//!
//! Layer 1.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Immutable bytes shared by reference count, and the range of them that is meant.
///
/// Cloning copies no bytes. The memory is freed with the last owner, so a small range keeps the whole buffer it
/// was taken from.
#[derive(Clone)]
pub struct SharedBytes {
    data: Data,
    range: Range<usize>,
}

/// A buffer that was grown keeps its allocation; one that was copied takes a single one.
#[derive(Clone)]
enum Data {
    Grown(Arc<Vec<u8>>),
    Copied(Arc<[u8]>),
}

impl SharedBytes {
    /// Copies `bytes` into a buffer of exactly their size.
    #[must_use]
    pub fn copy_from(bytes: &[u8]) -> Self {
        Self { range: 0..bytes.len(), data: Data::Copied(bytes.into()) }
    }

    /// The part of these bytes at `range`; `None` if it is not within them.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let range = self.range.start + range.start..self.range.start + range.end;
        Some(Self { data: self.data.clone(), range })
    }

    /// Bytes of the whole buffer that this range keeps in memory.
    #[must_use]
    pub fn buffer_len(&self) -> usize {
        match &self.data {
            Data::Grown(vec) => vec.capacity(),
            Data::Copied(bytes) => bytes.len(),
        }
    }

    /// These bytes, copied out of a buffer of more than twice their size so as not to keep it in memory.
    #[must_use]
    pub(crate) fn compacted(self) -> Self {
        if self.buffer_len() / 2 > self.len() { Self::copy_from(&self) } else { self }
    }
}

impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self { range: 0..bytes.len(), data: Data::Grown(Arc::new(bytes)) }
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &self.data {
            Data::Grown(vec) => vec,
            Data::Copied(bytes) => bytes,
        };
        // The range is checked when it is made and the bytes never change.
        &all[self.range.clone()]
    }
}

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for SharedBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SharedBytes {}

impl Default for SharedBytes {
    fn default() -> Self {
        Self::from(Vec::new())
    }
}

/// Shows the length only: payloads are never logged.
impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBytes({} bytes)", self.len())
    }
}

/// Writes the bytes as hexadecimal digits.
#[cfg(feature = "serde")]
impl serde::Serialize for SharedBytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        super::hex::bytes::serialize(self, serializer)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for SharedBytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::hex::bytes::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_share_and_stay_within() {
        let bytes = SharedBytes::from(vec![0, 1, 2, 3, 4, 5]);
        let middle = bytes.slice(1..5).unwrap();
        assert_eq!(*middle, [1, 2, 3, 4]);
        assert_eq!(*middle.slice(1..3).unwrap(), [2, 3]);
        assert_eq!(middle.slice(0..5), None);
        assert_eq!(middle, SharedBytes::copy_from(&[1, 2, 3, 4]));
    }
}
