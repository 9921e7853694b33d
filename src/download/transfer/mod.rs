//! One block over as many tries as it takes: what was handed out before is compared with what comes again, and skipped.
//!
//! Pure. A try is one peer's copy of the block, from its first byte.

use crate::block::{Assembly, AssemblyOptions, BlockFault, BlockSummary, Chunk};
use crate::message::BlockHeader;
use crate::peer::{ConnectionId, PeerId};
use crate::wire::BlockHash;

/// Puts one block together from the bytes of one or several peers.
#[derive(Debug)]
pub(crate) struct Transfer {
    hash: BlockHash,
    options: AssemblyOptions,
    /// Chunks are handed out before the block is proven, so that a later try has to agree with them.
    hands_out: bool,
    current: Option<Try>,
    /// Bytes handed out.
    handed_out: u64,
    /// Of what was handed out.
    marks: Marks,
    /// Tries that were broken off, while none of their chunks counts yet.
    earlier: Vec<(Source, Marks)>,
    summary: Option<BlockSummary>,
}

/// Who a try is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
}

#[derive(Debug)]
struct Try {
    source: Source,
    size: u64,
    assembly: Assembly,
    /// Of the chunks of this try.
    marks: Marks,
    /// How far it is known to agree with what was handed out.
    agreed: u64,
}

/// What bytes have led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// More bytes are needed.
    Wants,
    /// There is a new chunk.
    Chunk,
    /// The last chunk was handed out, and the block is proven.
    End,
}

/// Why a try, or the whole, cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TransferError {
    /// The peer lied; another one may do better.
    Fault(Source, BlockFault),
    /// The try differs from what was handed out.
    Diverged { at: u64 },
}

impl Transfer {
    pub(crate) fn new(hash: BlockHash, options: AssemblyOptions) -> Self {
        Self {
            hash,
            options,
            hands_out: true,
            current: None,
            handed_out: 0,
            marks: Marks::default(),
            earlier: Vec::new(),
            summary: None,
        }
    }

    /// Nothing counts until the end, so that every try starts over; the caller gives back what he was handed.
    pub(crate) fn start_over_on_loss(&mut self) {
        self.hands_out = false;
        self.handed_out = 0;
        let marks = std::mem::take(&mut self.marks);
        if let Some(current) = &mut self.current {
            current.marks = marks;
        }
    }

    /// A peer begins; `checksum` is that of its frame.
    pub(crate) fn begin(
        &mut self,
        source: Source,
        size: u64,
        checksum: Option<[u8; 4]>,
    ) -> Result<(), TransferError> {
        self.lose();
        let mut assembly = Assembly::new(self.hash, size, checksum, self.options)
            .map_err(|fault| TransferError::Fault(source, fault))?;
        assembly.stop_at(self.handed_out);
        self.current = Some(Try { source, size, assembly, marks: Marks::default(), agreed: 0 });
        Ok(())
    }

    /// The try under way comes to nothing.
    pub(crate) fn lose(&mut self) {
        if let Some(lost) = self.current.take()
            && !self.hands_out
            && !lost.marks.is_empty()
            && self.earlier.len() < MAX_EARLIER
        {
            self.earlier.push((lost.source, lost.marks));
        }
    }

    /// Takes bytes from the front of `input`, up to the end of a chunk that is new to the caller.
    pub(crate) fn push(&mut self, input: &mut &[u8]) -> Result<Step, TransferError> {
        if self.summary.is_some() {
            return Ok(Step::End);
        }
        let Some(current) = &mut self.current else { return Ok(Step::Wants) };
        let source = current.source;
        let fault = |fault| TransferError::Fault(source, fault);
        loop {
            if !current.assembly.push(input).map_err(fault)? {
                return Ok(Step::Wants);
            }
            let position = current.assembly.position();
            let digest = current.assembly.digest();
            // The last chunk is handed out when everything is known to be right.
            let summary =
                if current.assembly.is_complete() { Some(current.assembly.finish().map_err(fault)?) } else { None };
            if !self.hands_out {
                current.marks.add(position, digest);
                self.summary = summary;
                return Ok(Step::Chunk);
            }
            if current.agreed >= self.handed_out {
                self.marks.add(position, digest);
                current.agreed = position;
                self.handed_out = position;
                self.summary = summary;
                return Ok(Step::Chunk);
            }
            match self.marks.at(position) {
                Some(mark) if mark == digest => current.agreed = position,
                // A mark that was thinned out; the last one never is.
                None if position < self.handed_out => {}
                _ => return Err(TransferError::Diverged { at: current.agreed }),
            }
        }
    }

    /// The size of the block, as the peer says that is at it.
    pub(crate) fn size(&self) -> Option<u64> {
        Some(self.current.as_ref()?.size)
    }

    /// The header, once it is there; it is the one that was asked for.
    pub(crate) fn header(&self) -> Option<&BlockHeader> {
        self.current.as_ref()?.assembly.header()
    }

    /// The chunk that was completed last.
    pub(crate) fn chunk(&self) -> Option<&Chunk> {
        Some(self.current.as_ref()?.assembly.chunk())
    }

    /// Bytes handed out.
    pub(crate) const fn handed_out(&self) -> u64 {
        self.handed_out
    }

    /// What was proven, once the last chunk is there.
    pub(crate) const fn summary(&self) -> Option<&BlockSummary> {
        self.summary.as_ref()
    }

    /// Those whose broken tries differ from what is now proven.
    pub(crate) fn liars(&mut self) -> Vec<Source> {
        let Some(current) = &self.current else { return Vec::new() };
        let earlier = std::mem::take(&mut self.earlier);
        let lied = earlier.into_iter().filter(|(_, marks)| marks.differ_from(&current.marks));
        lied.map(|(source, _)| source).collect()
    }
}

/// Digests of what lies before some positions, so that two copies of a block can be told apart.
#[derive(Debug)]
struct Marks {
    /// Of one chunk of so many, in ascending order.
    kept: Vec<(u64, [u8; 32])>,
    every: u64,
    count: u64,
    last: Option<(u64, [u8; 32])>,
}

impl Default for Marks {
    fn default() -> Self {
        Self { kept: Vec::new(), every: 1, count: 0, last: None }
    }
}

impl Marks {
    fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds the mark of the next chunk.
    fn add(&mut self, position: u64, digest: [u8; 32]) {
        if self.count.is_multiple_of(self.every) {
            self.kept.push((position, digest));
            if self.kept.len() > MAX_MARKS {
                let mut is_even = false;
                self.kept.retain(|_| {
                    is_even = !is_even;
                    is_even
                });
                self.every *= 2;
            }
        }
        self.count += 1;
        self.last = Some((position, digest));
    }

    fn at(&self, position: u64) -> Option<[u8; 32]> {
        let last = self.last.filter(|&(last, _)| last == position);
        last.or_else(|| {
            let at = self.kept.binary_search_by_key(&position, |&(position, _)| position).ok()?;
            self.kept.get(at).copied()
        })
        .map(|(_, digest)| digest)
    }

    /// Whether one of these marks is another in a whole copy.
    fn differ_from(&self, other: &Self) -> bool {
        let differs =
            |(position, digest): &(u64, [u8; 32])| other.at(*position).is_some_and(|mark| mark != *digest);
        self.kept.iter().chain(&self.last).any(differs)
    }
}

/// Some 40 bytes each.
const MAX_MARKS: usize = 1_024;
/// Broken tries that are remembered.
const MAX_EARLIER: usize = 16;

#[cfg(any(test, fuzzing))]
pub(crate) mod model;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockProof, ChunkContent, merkle_root};
    use crate::message::{Block, OutPoint, Transaction, TransactionInput};
    use crate::wire::Txid;

    #[test]
    fn marks_stay_few_and_the_last_is_always_there() {
        let mut marks = Marks::default();
        for n in 0..5_000_u64 {
            marks.add(n * 10, [n as u8; 32]);
            assert_eq!(marks.at(n * 10), Some([n as u8; 32]));
            assert!(marks.kept.len() <= MAX_MARKS);
        }
        assert_eq!(marks.at(0), Some([0; 32]));
        assert_eq!(marks.at(5), None);
        let positions: Vec<u64> = marks.kept.iter().map(|&(position, _)| position / 10).collect();
        assert!(positions.iter().zip(&positions[1..]).all(|(a, b)| b - a == marks.every), "{positions:?}");
    }

    #[test]
    fn whose_lost_copy_differs_from_the_proven_block_has_lied() {
        let transaction = |n: u32| {
            let previous_output = if n == 0 { OutPoint::NULL } else { OutPoint { txid: Txid::ZERO, index: n } };
            Transaction::new(1, &[TransactionInput { previous_output, script_sig: &[7; 200], sequence: 0 }], &[], n)
        };
        let transactions: Vec<_> = (0..9).map(transaction).collect();
        let merkle_root = merkle_root(transactions.iter().map(Transaction::txid)).unwrap();
        let header = BlockHeader { version: 1, previous: BlockHash::ZERO, merkle_root, time: 2, bits: 3, nonce: 4 };
        let block = Block::new(header, transactions);
        let mut lie = block.raw().to_vec();
        lie[500] ^= 1;
        let options = AssemblyOptions { chunk_size: 600, content: ChunkContent::Bytes, proof: BlockProof::Merkle };
        let mut transfer = Transfer::new(block.hash(), options);
        transfer.start_over_on_loss();
        let source = |n| Source { peer: PeerId(n), connection: ConnectionId(n) };
        // The first lies, the second is honest, and both are lost.
        for (n, bytes) in [(1, &lie[..]), (2, block.raw())] {
            transfer.begin(source(n), bytes.len() as u64, None).unwrap();
            assert_eq!(transfer.push(&mut &bytes[..1_500]), Ok(Step::Chunk));
            transfer.lose();
        }
        transfer.begin(source(3), block.raw().len() as u64, None).unwrap();
        let mut input = &block.raw()[..];
        while transfer.push(&mut input).unwrap() != Step::End {}
        assert_eq!(transfer.liars(), [source(1)]);
    }

    #[test]
    fn a_block_too_small_for_a_header_is_a_fault_of_its_peer() {
        let options = AssemblyOptions { chunk_size: 100, content: ChunkContent::Bytes, proof: BlockProof::Merkle };
        let mut transfer = Transfer::new(BlockHash::ZERO, options);
        let source = Source { peer: PeerId(1), connection: ConnectionId(2) };
        assert!(matches!(transfer.begin(source, 80, None), Err(TransferError::Fault(s, _)) if s == source));
        assert_eq!(transfer.push(&mut &[0; 10][..]), Ok(Step::Wants));
    }
}
