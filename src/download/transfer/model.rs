//! What must hold of a transfer whatever peers send and however often they are lost: run by tests and by a fuzz target.

use super::{Source, Step, Transfer, TransferError};
use crate::block::{AssemblyOptions, BlockProof, ChunkContent, merkle_root};
use crate::message::{Block, BlockHeader, OutPoint, Transaction, TransactionInput};
use crate::peer::{ConnectionId, PeerId};
use crate::wire::{BlockHash, Txid};

/// Takes `script` for a list of operations (bytes that come, losses, other peers, who may lie) and panics where something
/// is handed out that it must not be.
pub(crate) fn run(script: &[u8]) {
    let mut script = Script(script);
    let block = sample(script.next() % 40, script.next());
    let copies = copies(block.raw(), &mut script);
    let options = AssemblyOptions {
        chunk_size: 20 + 3 * usize::from(script.next()),
        content: ChunkContent::Bytes,
        proof: BlockProof::Merkle,
    };
    let mut transfer = Transfer::new(block.hash(), options);
    let hands_out = script.next().is_multiple_of(2);
    if !hands_out {
        transfer.start_over_on_loss();
    }
    let mut reader =
        Reader { transfer, hands_out, honest: block.raw().to_vec(), copies, at: None, handed: Vec::new() };
    while let Some(operation) = script.0.first().copied() {
        script.next();
        let is_over = match operation % 8 {
            0 => reader.begin(usize::from(script.next())),
            1 => reader.lose(),
            _ => reader.read(usize::from(script.next()) * usize::from(operation / 8 + 1)),
        };
        if is_over {
            return;
        }
    }
    // An honest peer that stays ends it, one way or the other.
    let ended = reader.begin(0) || reader.read(usize::MAX);
    assert!(ended, "an honest block does not come to its end");
}

/// A reader, and peers that have a copy of the block each, the first one an honest one.
struct Reader {
    transfer: Transfer,
    hands_out: bool,
    honest: Vec<u8>,
    copies: Vec<Vec<u8>>,
    /// Whose turn it is, and how much of his copy has come.
    at: Option<(usize, usize)>,
    handed: Vec<u8>,
}

impl Reader {
    /// A peer begins; true if everything is over.
    fn begin(&mut self, copy: usize) -> bool {
        let copy = copy % self.copies.len();
        let source = Source { peer: PeerId(copy as u64), connection: ConnectionId(copy as u64) };
        self.at = Some((copy, 0));
        match self.transfer.begin(source, self.copies[copy].len() as u64, None) {
            Ok(()) => false,
            Err(error) => self.take_error(&error),
        }
    }

    fn lose(&mut self) -> bool {
        self.transfer.lose();
        self.at = None;
        false
    }

    /// So many bytes come; true if everything is over.
    fn read(&mut self, count: usize) -> bool {
        let Some((copy, at)) = self.at else { return false };
        let end = self.copies[copy].len().min(at.saturating_add(count));
        let bytes = self.copies[copy][at..end].to_vec();
        self.at = Some((copy, end));
        let mut input = &bytes[..];
        loop {
            match self.transfer.push(&mut input) {
                Ok(Step::Wants) => {
                    assert!(input.is_empty(), "bytes left over");
                    return false;
                }
                Ok(Step::Chunk) => self.take_chunk(copy),
                Ok(Step::End) => {
                    assert!(self.handed == self.honest, "another block was proven");
                    let summary = self.transfer.summary().expect("it is proven");
                    assert_eq!(summary.size, self.honest.len() as u64);
                    for liar in self.transfer.liars() {
                        assert!(!self.is_honest(liar.peer.0 as usize), "an honest peer was taken for a liar");
                    }
                    return true;
                }
                Err(error) => return self.take_error(&error),
            }
        }
    }

    fn take_chunk(&mut self, copy: usize) {
        let chunk = self.transfer.chunk().expect("there is a chunk");
        if !self.hands_out && chunk.offset() == 0 {
            self.handed.clear();
        }
        assert_eq!(chunk.offset(), self.handed.len() as u64, "a gap, or something twice");
        assert!(!chunk.bytes().is_empty());
        self.handed.extend_from_slice(chunk.bytes());
        assert!(self.copies[copy].starts_with(&self.handed), "bytes that the peer at work has not sent");
    }

    fn take_error(&mut self, error: &TransferError) -> bool {
        let (copy, _) = self.at.expect("somebody is at work");
        match *error {
            TransferError::Fault(source, fault) => {
                assert_eq!(source.peer.0, copy as u64);
                assert!(!self.is_honest(copy), "an honest peer is blamed: {fault}");
                self.lose()
            }
            TransferError::Diverged { at } => {
                assert!(self.hands_out, "nothing was handed out");
                let at = usize::try_from(at).expect("it is in memory");
                assert!(at <= self.handed.len());
                assert!(!self.copies[copy].starts_with(&self.handed), "they do not differ");
                assert!(self.copies[copy][..at] == self.handed[..at], "they differ before");
                true
            }
        }
    }

    fn is_honest(&self, copy: usize) -> bool {
        self.copies[copy] == self.honest
    }
}

struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn next(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }
}

/// A block of so many transactions, one of them with a long script.
fn sample(others: u8, long: u8) -> Block {
    let transaction = |n: u8| {
        let script = vec![n; if n == long % 40 { 600 } else { usize::from(n % 7) }];
        let previous_output =
            if n == 0 { OutPoint::NULL } else { OutPoint { txid: Txid::from_wire([n; 32]), index: 1 } };
        Transaction::new(
            1,
            &[TransactionInput { previous_output, script_sig: &script, sequence: 0 }],
            &[],
            n.into(),
        )
    };
    let transactions: Vec<Transaction> = (0..=others).map(transaction).collect();
    let merkle_root = merkle_root(transactions.iter().map(Transaction::txid)).expect("they differ");
    let header = BlockHeader { version: 1, previous: BlockHash::ZERO, merkle_root, time: 2, bits: 3, nonce: 4 };
    Block::new(header, transactions)
}

/// The block itself, and what liars make of it.
fn copies(honest: &[u8], script: &mut Script<'_>) -> Vec<Vec<u8>> {
    let mut copies = vec![honest.to_vec()];
    for _ in 0..script.next() % 5 {
        let mut copy = honest.to_vec();
        let place = (usize::from(script.next()) * 256 + usize::from(script.next())) % copy.len();
        match script.next() % 5 {
            0 => copy[place] ^= script.next(),
            1 => copy.truncate(place),
            2 => copy.insert(place, script.next()),
            3 => drop(copy.remove(place)),
            _ => copy.extend_from_within(place..),
        }
        copies.push(copy);
    }
    copies
}

#[cfg(test)]
mod tests {
    use super::run;

    #[test]
    fn whatever_peers_do_only_the_block_is_proven_and_only_liars_are_blamed() {
        // A generator of its own, so that the same scripts run everywhere.
        let mut state = 7_u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        for _ in 0..4_000 {
            let len = usize::from(next()) / 2;
            let script: Vec<u8> = (0..len).map(|_| next()).collect();
            run(&script);
        }
    }
}
