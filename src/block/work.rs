//! Proof of work: the target that a header's bits stand for, and how much work meets it.
//!
//! Layer 2. The node's `src/arith_uint256.cpp` (`SetCompact`) and `src/pow.cpp`.

use crate::message::BlockHeader;
use crate::wire::BlockHash;

/// The expected number of hashes that prove what a header claims; `None` if its own hash does not prove it.
///
/// Only the header's own bits are looked at: whether the network would accept them is not.
pub(crate) fn proven_work(header: &BlockHeader, hash: &BlockHash) -> Option<u128> {
    let target = Target::from_bits(header.bits)?;
    target.is_met_by(hash.as_wire()).then(|| target.work())
}

/// A target as its compact form has it: `mantissa * 256^(exponent - 3)`.
#[derive(Clone, Copy, Debug)]
struct Target {
    /// At least 1, and below 2^23.
    mantissa: u32,
    /// At most 34, so that the target fits 256 bits.
    exponent: u32,
}

impl Target {
    /// `None` for what stands for zero, a negative number, or one of more than 256 bits.
    fn from_bits(bits: u32) -> Option<Self> {
        let (mut exponent, mut mantissa) = (bits >> 24, bits & 0x00ff_ffff);
        let is_negative = mantissa & 0x0080_0000 != 0;
        if exponent < 3 {
            mantissa >>= 8 * (3 - exponent);
            exponent = 3;
        }
        let is_too_large = match mantissa {
            0..=0xff => exponent > 34,
            0x100..=0xffff => exponent > 33,
            _ => exponent > 32,
        };
        (!is_negative && mantissa != 0 && !is_too_large).then_some(Self { mantissa, exponent })
    }

    /// Compares a hash in wire order, which is a number of 32 bytes, the lowest first.
    fn is_met_by(self, hash: &[u8; 32]) -> bool {
        let mut target = [0; 32];
        let lowest = self.exponent as usize - 3;
        for (at, byte) in self.mantissa.to_le_bytes().into_iter().enumerate() {
            if let Some(place) = target.get_mut(lowest + at) {
                *place = byte;
            }
        }
        hash.iter().rev().le(target.iter().rev())
    }

    /// 2^256 divided by the target, rounded down; at most 2^127 divided by the mantissa.
    fn work(self) -> u128 {
        let shift = 256 - 8 * (self.exponent - 3);
        (1_u128 << shift.min(127)) / u128::from(self.mantissa)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::MerkleRoot;

    fn genesis() -> BlockHeader {
        BlockHeader {
            version: 1,
            previous: BlockHash::ZERO,
            merkle_root: MerkleRoot::from_display(
                "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b",
            ),
            time: 1_231_006_505,
            bits: 0x1d00_ffff,
            nonce: 2_083_236_893,
        }
    }

    #[test]
    fn the_first_block_proves_its_work_and_no_other_nonce_does() {
        let header = genesis();
        assert_eq!(proven_work(&header, &header.hash()), Some(4_295_032_833));
        let other = BlockHeader { nonce: 1, ..header };
        assert_eq!(proven_work(&other, &other.hash()), None);
    }

    #[test]
    fn a_hash_equal_to_the_target_meets_it_and_one_more_does_not() {
        let target = Target::from_bits(0x0412_3456).unwrap();
        let mut hash = [0; 32];
        hash[1..4].copy_from_slice(&[0x56, 0x34, 0x12]);
        assert!(target.is_met_by(&hash));
        hash[0] = 1;
        assert!(!target.is_met_by(&hash));
    }

    #[test]
    fn bits_that_stand_for_no_target_prove_nothing() {
        for bits in [0, 0x0100_0012, 0x0300_0000, 0x0480_0001, 0x2300_0001, 0x2200_0100, 0x2101_0000, 0xff12_3456] {
            assert!(Target::from_bits(bits).is_none(), "{bits:08x}");
        }
        for (bits, work) in [(0x207f_ffff, 2), (0x1d00_ffff, 4_295_032_833), (0x0300_0001, 1 << 127)] {
            assert_eq!(Target::from_bits(bits).map(Target::work), Some(work), "{bits:08x}");
        }
    }
}
