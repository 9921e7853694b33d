//! Floods: many messages of a kind, as fast as they are taken.

use std::sync::Arc;

use super::line::Line;
use super::transaction;
use crate::message::{BlockHeader, Inventory, Message};
use crate::wire::{BlockHash, MerkleRoot, SharedBytes, Txid};

/// Many messages of one kind, sent as fast as they are taken.
///
/// They are made before the first is sent: some thousand different ones at most, which come round again and again. The
/// faults of messages, and the latency, do not act on them.
///
/// ```
/// use conduit::testnode::Flood;
///
/// let flood = Flood::transactions(1_000_000, 250);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    what: What,
    count: u64,
    size: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Transactions,
    Inventories,
    Headers,
}

impl Flood {
    /// So many `tx` of `size` bytes each, 62 at least.
    #[must_use]
    pub const fn transactions(count: u64, size: usize) -> Self {
        Self { what: What::Transactions, count, size }
    }

    /// So many `inv` of `items` transactions each.
    #[must_use]
    pub const fn inventories(count: u64, items: usize) -> Self {
        Self { what: What::Inventories, count, size: items }
    }

    /// So many `headers` of `items` headers each; their proof of work is none.
    #[must_use]
    pub const fn headers(count: u64, items: usize) -> Self {
        Self { what: What::Headers, count, size: items }
    }

    /// Sends it all; ends early when the line is closed.
    pub(super) fn run(self, line: &Arc<Line>) {
        let round = self.round(line.magic);
        let mut left = self.count;
        while left > 0 {
            for stretch in &round {
                // The last round may be a part of one.
                let n = left.min(stretch.ends.len() as u64);
                let Some(&end) = n.checked_sub(1).and_then(|last| stretch.ends.get(last as usize)) else { return };
                let bytes = stretch.bytes.slice(0..end).expect("frames end within the bytes that hold them");
                if !line.send_shared(bytes) {
                    return;
                }
                left -= n;
            }
        }
    }

    /// The frames that come round, in stretches that are written at once.
    fn round(self, magic: [u8; 4]) -> Vec<Stretch> {
        let mut round = Vec::new();
        let (mut number, mut len) = (0, 0);
        while number < self.count && len < ROUND_LEN {
            let (mut bytes, mut ends) = (Vec::new(), Vec::new());
            while number < self.count && bytes.len() < STRETCH_LEN {
                bytes.extend_from_slice(&self.message(number).to_frame(magic));
                ends.push(bytes.len());
                number += 1;
            }
            len += bytes.len();
            round.push(Stretch { bytes: bytes.into(), ends });
        }
        round
    }

    fn message(self, number: u64) -> Message {
        let hash = |item: usize| {
            let mut hash = [0x5a; 32];
            hash[..8].copy_from_slice(&number.to_le_bytes());
            hash[8..16].copy_from_slice(&(item as u64).to_le_bytes());
            hash
        };
        match self.what {
            What::Transactions => Message::Tx(transaction(number, self.size)),
            What::Inventories => {
                let item = |item| Inventory::transaction(Txid::from_wire(hash(item)));
                Message::Inv((0..self.size).map(item).collect())
            }
            What::Headers => {
                let mut previous = BlockHash::from_wire(hash(0));
                let next = |item| {
                    let header = BlockHeader {
                        version: 0x2000_0000,
                        previous,
                        merkle_root: MerkleRoot::from_wire(hash(item)),
                        time: 1_700_000_000,
                        bits: 0x207f_ffff,
                        nonce: 0,
                    };
                    previous = header.hash();
                    header
                };
                Message::Headers((0..self.size).map(next).collect())
            }
        }
    }
}

struct Stretch {
    bytes: SharedBytes,
    /// Where each frame ends.
    ends: Vec<usize>,
}

/// What is written at once; bytes. Two of them are on their way at a time.
const STRETCH_LEN: usize = 512 * 1_024;
/// All that is made; bytes.
const ROUND_LEN: usize = 4 * 1_024 * 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_of_a_round_differ() {
        for flood in [Flood::transactions(50, 70), Flood::inventories(50, 3), Flood::headers(50, 2)] {
            let round = flood.round([1, 2, 3, 4]);
            let ends: Vec<usize> = round.iter().flat_map(|stretch| stretch.ends.clone()).collect();
            let mut starts = vec![0];
            starts.extend(&ends[..49]);
            let frames: std::collections::HashSet<&[u8]> =
                starts.iter().zip(&ends).map(|(&start, &end)| &round[0].bytes[start..end]).collect();
            assert_eq!((ends.len(), frames.len()), (50, 50), "{flood:?}");
        }
    }

    #[test]
    fn a_round_is_bounded() {
        let round = Flood::transactions(u64::MAX, 1_000).round([0; 4]);
        let len: usize = round.iter().map(|stretch| stretch.bytes.len()).sum();
        assert!((ROUND_LEN..ROUND_LEN + STRETCH_LEN + 2_000).contains(&len), "{len}");
    }
}
