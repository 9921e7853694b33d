//! `filterload` and `filteradd`: a bloom filter over the transactions that a peer wants to hear of.
//!
//! Sections 2.18 to 2.20 of the wire specification (BIP 37; the node's `src/bloom.h`).

use crate::wire::{DecodeError, Reader, write_bytes};

/// The payload of `filterload`: replaces the filter, and turns the relay of transactions on.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | filter | 1 + n | byte string, at most 36,000; empty matches everything |
/// | hash functions | 4 | little-endian, at most 50 |
/// | tweak | 4 | little-endian |
/// | flags | 1 | the low two bits: what a match adds to the filter |
///
/// Nodes ban for a filter over the limits, and for any filter unless they offer the service. Decoding accepts both:
/// see [`is_within_limits`](Self::is_within_limits).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FilterLoad {
    /// The bits, the least significant of each byte first.
    #[cfg_attr(feature = "serde", serde(with = "super::hex::bytes"))]
    pub filter: Vec<u8>,
    /// How many bits each element sets.
    pub hash_functions: u32,
    /// Makes filters of the same elements differ.
    pub tweak: u32,
    /// What a match adds to the filter: in the low two bits 0 nothing, 1 the outputs that match, 2 those of them
    /// that pay to a public key or a bare multisignature.
    pub flags: u8,
}

impl FilterLoad {
    /// The largest filter, in bytes.
    pub const MAX_FILTER_LEN: usize = 36_000;
    /// The largest number of hash functions.
    pub const MAX_HASH_FUNCTIONS: u32 = 50;

    /// Whether nodes accept a filter of this size and this many hash functions.
    #[must_use]
    pub const fn is_within_limits(&self) -> bool {
        self.filter.len() <= Self::MAX_FILTER_LEN && self.hash_functions <= Self::MAX_HASH_FUNCTIONS
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            filter: reader.bytes()?.to_vec(),
            hash_functions: reader.u32()?,
            tweak: reader.u32()?,
            flags: reader.u8()?,
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write_bytes(out, &self.filter);
        out.extend_from_slice(&self.hash_functions.to_le_bytes());
        out.extend_from_slice(&self.tweak.to_le_bytes());
        out.push(self.flags);
    }
}

/// The payload of `filteradd`: adds an element to the filter.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | data | 1 + n | byte string, at most 520 |
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FilterAdd {
    /// The element: a txid, an outpoint, or data that a script pushes.
    #[cfg_attr(feature = "serde", serde(with = "super::hex::bytes"))]
    pub data: Vec<u8>,
}

impl FilterAdd {
    /// The longest element, in bytes.
    pub const MAX_DATA_LEN: usize = 520;

    /// Whether nodes accept an element of this length; they ban for a longer one.
    #[must_use]
    pub const fn is_within_limits(&self) -> bool {
        self.data.len() <= Self::MAX_DATA_LEN
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { data: reader.bytes()?.to_vec() })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write_bytes(out, &self.data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_limits_is_read_and_says_so() {
        let load = |len: usize, hash_functions| {
            let mut payload = Vec::new();
            FilterLoad { filter: vec![1; len], hash_functions, tweak: 2, flags: 3 }.write(&mut payload);
            let load = FilterLoad::read(&mut Reader::new(&payload)).unwrap();
            assert_eq!((load.filter.len(), load.hash_functions), (len, hash_functions));
            load.is_within_limits()
        };
        assert!(load(36_000, 50));
        assert!(!load(36_001, 50));
        assert!(!load(36_000, 51));
        assert!(!load(0, u32::MAX));
        let add = |len: usize| {
            let mut payload = Vec::new();
            FilterAdd { data: vec![1; len] }.write(&mut payload);
            FilterAdd::read(&mut Reader::new(&payload)).unwrap().is_within_limits()
        };
        assert!(add(520));
        assert!(!add(521));
    }
}
