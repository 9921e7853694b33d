//! Short transaction ids of compact blocks, and the SipHash-2-4 they are made with.
//!
//! Section 6.6 of the wire specification (BIP 152; the node's `src/blockencodings.cpp`, `src/hash.cpp`).

use std::fmt;

use sha2::{Digest, Sha256};

use super::BlockHeader;
use crate::wire::Txid;

/// The short id of a transaction in a compact block: 48 bits, little-endian on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortId([u8; 6]);

impl ShortId {
    /// Takes the six bytes in wire order.
    #[must_use]
    pub const fn from_wire(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// The six bytes in wire order.
    #[must_use]
    pub const fn as_wire(&self) -> &[u8; 6] {
        &self.0
    }
}

/// Writes the number in 12 hexadecimal digits.
impl fmt::Display for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().rev().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShortId({self})")
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for ShortId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for ShortId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut bytes: [u8; 6] = crate::wire::hex::array::deserialize(deserializer)?;
        bytes.reverse();
        Ok(Self(bytes))
    }
}

/// The key that one compact block's short ids are made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortIdKey {
    k0: u64,
    k1: u64,
}

impl ShortIdKey {
    /// The key of a compact block with this header and nonce.
    #[must_use]
    pub fn new(header: &BlockHeader, nonce: u64) -> Self {
        // A single hash, unlike everywhere else.
        let digest: [u8; 32] =
            Sha256::new().chain_update(header.encode()).chain_update(nonce.to_le_bytes()).finalize().into();
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| digest[at + i]));
        Self { k0: word(0), k1: word(8) }
    }

    /// The two words that key the SipHash.
    #[must_use]
    pub const fn words(&self) -> (u64, u64) {
        (self.k0, self.k1)
    }

    /// The short id of a transaction.
    #[must_use]
    pub fn short_id(&self, txid: Txid) -> ShortId {
        let [a, b, c, d, e, f, _, _] = siphash(self.k0, self.k1, txid.as_wire()).to_le_bytes();
        ShortId([a, b, c, d, e, f])
    }
}

/// SipHash-2-4 of exactly 32 bytes.
fn siphash(k0: u64, k1: u64, bytes: &[u8; 32]) -> u64 {
    // The published constants: "somepseudorandomlygeneratedbytes".
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let last = (bytes.len() as u64) << 56;
    let words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(std::array::from_fn(|i| word[i])));
    for word in words.chain([last]) {
        v[3] ^= word;
        rounds(&mut v, 2);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    rounds(&mut v, 4);
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn rounds(v: &mut [u64; 4], n: usize) {
    let [mut a, mut b, mut c, mut d] = *v;
    for _ in 0..n {
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
    }
    *v = [a, b, c, d];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siphash_gives_the_reference_value() {
        let bytes = std::array::from_fn(|i| i as u8);
        assert_eq!(siphash(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908, &bytes), 0x7127_512f_72f2_7cce);
    }
}
