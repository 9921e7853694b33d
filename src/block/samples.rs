//! Blocks for this room's tests: a real one, and small ones of any make. Compiled for tests only.

use std::fs;

use crate::message::{Block, BlockHeader, OutPoint, Transaction, TransactionInput, TransactionOutput};
use crate::wire::{BlockHash, MerkleRoot, Txid, sha256d, write_compact_size};

/// Mainnet, height 413567: 999,887 bytes, 1,557 transactions.
pub(super) fn real_block() -> Vec<u8> {
    let path = format!("{}/tests/data/mainnet-block-413567.bin", env!("CARGO_MANIFEST_DIR"));
    fs::read(path).expect("the file belongs to the tests")
}

/// The first transactions of the real block, below a header of our own.
pub(super) fn part_of_real_block(transactions: usize) -> Vec<u8> {
    let whole = Block::from_raw(real_block()).expect("the block is a real one");
    block_of(&whole.transactions().take(transactions).map(|view| view.to_transaction()).collect::<Vec<_>>())
}

/// A small block with everything that moves boundaries: no inputs, no outputs, many of them, empty and long scripts.
pub(super) fn varied_block() -> Vec<u8> {
    block_of(&varied_transactions())
}

/// A block of a few hundred bytes.
pub(super) fn small_block() -> Vec<u8> {
    block_of(&[coinbase(1), transaction(2, &[], &[]), transaction(3, &[30, 0], &[25]), transaction(4, &[], &[0])])
}

pub(super) fn varied_transactions() -> Vec<Transaction> {
    vec![
        coinbase(1),
        transaction(2, &[0], &[25, 25]),
        transaction(3, &[], &[]),
        transaction(4, &[107, 0, 0xfc, 0xfd], &[]),
        transaction(5, &[], &[0, 0, 0xff, 0x100]),
        transaction(6, &[1; 30], &[2; 40]),
        transaction(7, &[107], &[25, 25]),
    ]
}

pub(super) fn coinbase(number: u32) -> Transaction {
    let input = TransactionInput { previous_output: OutPoint::NULL, script_sig: &[4; 20], sequence: number };
    Transaction::new(1, &[input], &[TransactionOutput { value: 5_000, script_pubkey: &[0x51; 25] }], number)
}

/// A transaction with scripts of these lengths in its inputs and outputs.
pub(super) fn transaction(number: u32, inputs: &[usize], outputs: &[usize]) -> Transaction {
    let longest = inputs.iter().chain(outputs).max().copied().unwrap_or_default();
    let script: Vec<u8> = (0..longest).map(|i| (i * 7) as u8 ^ number as u8).collect();
    let txid = Txid::from_wire(sha256d(&number.to_le_bytes()));
    let input = |(index, len): (u32, &usize)| TransactionInput {
        previous_output: OutPoint { txid, index },
        script_sig: &script[..*len],
        sequence: u32::MAX,
    };
    let output = |len: &usize| TransactionOutput { value: i64::from(number), script_pubkey: &script[..*len] };
    let inputs: Vec<_> = (0..).zip(inputs).map(input).collect();
    Transaction::new(1, &inputs, &outputs.iter().map(output).collect::<Vec<_>>(), number)
}

/// A block whose header commits to these transactions, whatever they are.
pub(super) fn block_of(transactions: &[Transaction]) -> Vec<u8> {
    let txids: Vec<_> = transactions.iter().map(Transaction::txid).collect();
    raw_block(root_by_levels(&txids), transactions.iter().map(|transaction| &transaction.raw()[..]))
}

pub(super) fn raw_block<'a>(root: MerkleRoot, transactions: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<u8> {
    let header = BlockHeader {
        version: 4,
        previous: BlockHash::from_wire([3; 32]),
        merkle_root: root,
        time: 1_600_000_000,
        bits: 0x207f_ffff,
        nonce: 7,
    };
    let mut raw = header.encode().to_vec();
    write_compact_size(&mut raw, transactions.len() as u64);
    transactions.for_each(|transaction| raw.extend_from_slice(transaction));
    raw
}

/// The hash of a block's header.
pub(super) fn hash_of(raw: &[u8]) -> BlockHash {
    BlockHash::from_wire(sha256d(&raw[..BlockHeader::LEN]))
}

/// The root as the textbook has it, repeated nodes or not.
pub(super) fn root_by_levels(txids: &[Txid]) -> MerkleRoot {
    let mut level: Vec<[u8; 32]> = txids.iter().map(|txid| *txid.as_wire()).collect();
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| sha256d(&[pair[0], pair[pair.len() - 1]].concat())).collect();
    }
    MerkleRoot::from_wire(level[0])
}

/// Where a block's parts end: header and count, then each transaction.
pub(super) fn ends_of(raw: &[u8]) -> Vec<usize> {
    let block = Block::from_raw(raw.to_vec()).expect("the block is whole");
    let lens: Vec<_> = block.transactions().map(|transaction| transaction.raw().len()).collect();
    let mut end = raw.len() - lens.iter().sum::<usize>();
    let mut ends = vec![end];
    ends.extend(lens.iter().map(|len| {
        end += len;
        end
    }));
    ends
}

/// Numbers that are the same in every run (SplitMix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Cuts bytes into pieces: mostly small ones or mostly large ones, by chance.
    pub(super) fn pieces<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let largest = 1 << self.below(18);
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at((1 + self.below(largest)).min(bytes.len()));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }

    /// Flips, cuts out, inserts or repeats some of the bytes; the result differs.
    pub(super) fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut mutated = bytes.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(mutated.len());
            let end = (at + 1 + self.below(100)).min(mutated.len());
            match self.below(5) {
                0 => mutated[at] ^= 1 << self.below(8),
                1 => mutated[at] = [0, 1, 0xfc, 0xfd, 0xfe, 0xff][self.below(6)],
                2 => drop(mutated.drain(at..end)),
                3 => drop(mutated.splice(at..at, (at..end).map(|i| i as u8).collect::<Vec<_>>())),
                _ => {
                    let repeated = mutated[at..end].to_vec();
                    mutated.splice(end..end, repeated);
                }
            }
            if mutated.is_empty() {
                mutated.push(0);
            }
        }
        if mutated == bytes {
            mutated[0] ^= 1;
        }
        mutated
    }
}
