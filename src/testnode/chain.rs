//! The node's blocks: the active chain, its side branches, and how more are mined.
//!
//! Pure. Sections 1.3, 2.7 to 2.13 and 6.5 of the wire specification.

use std::collections::{HashMap, HashSet};

use crate::block::merkle_root;
use crate::message::{
    Block, BlockHeader, GetBlocks, GetHeaders, OutPoint, Transaction, TransactionInput, TransactionOutput,
};
use crate::network::Network;
use crate::wire::{BlockHash, Command, Frame, MerkleRoot, Txid, write_compact_size};

/// All blocks the node has.
#[derive(Debug)]
pub(super) struct Chain {
    magic: [u8; 4],
    blocks: HashMap<BlockHash, Entry>,
    /// The hashes of the chain with the most work, by height; never empty.
    active: Vec<BlockHash>,
    /// How many side branches were mined: each gets coinbases of its own.
    branches: u32,
}

#[derive(Debug)]
struct Entry {
    header: BlockHeader,
    height: u32,
    /// Ready to be sent, and the only copy of the block's bytes.
    frame: Frame,
}

/// What became of a block that was added.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// It was there already.
    Known,
    /// Its parent is not there.
    Orphan,
    /// Its proof of work or its merkle root is wrong.
    Invalid(&'static str),
    /// It lies on a branch with no more work than the active chain.
    Side,
    /// It is the new tip; these blocks left the chain and these joined it, both in ascending order.
    Tip { left: Vec<BlockHash>, joined: Vec<BlockHash> },
}

impl Chain {
    /// The network's first block and `blocks` more; `None` if the first block of a custom network is not known.
    pub(super) fn new(network: &Network, blocks: u32) -> Option<Self> {
        let header = genesis_header(network)?;
        let magic = network.magic();
        let coinbase = Transaction::from_raw(hex(GENESIS_COINBASE)).expect("a constant, read in a test");
        let frame = encode(magic, &header, &[coinbase]);
        let hash = header.hash();
        let genesis = Entry { header, height: 0, frame };
        let mut chain = Self { magic, blocks: HashMap::from([(hash, genesis)]), active: vec![hash], branches: 0 };
        for _ in 0..blocks {
            chain.mine(Vec::new());
        }
        Some(chain)
    }

    pub(super) fn tip(&self) -> BlockHash {
        *self.active.last().expect("the first block never leaves")
    }

    pub(super) fn height(&self) -> u32 {
        // Heights are 32 bits on the wire too.
        (self.active.len() - 1) as u32
    }

    pub(super) fn hash_at(&self, height: u32) -> Option<BlockHash> {
        self.active.get(height as usize).copied()
    }

    pub(super) fn contains(&self, hash: &BlockHash) -> bool {
        self.blocks.contains_key(hash)
    }

    pub(super) fn header(&self, hash: &BlockHash) -> Option<BlockHeader> {
        self.blocks.get(hash).map(|entry| entry.header)
    }

    pub(super) fn height_of(&self, hash: &BlockHash) -> Option<u32> {
        self.blocks.get(hash).map(|entry| entry.height)
    }

    /// The `block` frame of a block, also of one off the active chain.
    pub(super) fn frame(&self, hash: &BlockHash) -> Option<&Frame> {
        self.blocks.get(hash).map(|entry| &entry.frame)
    }

    pub(super) fn block(&self, hash: &BlockHash) -> Option<Block> {
        let frame = self.frame(hash)?;
        Some(Block::from_raw(frame.payload().to_vec()).expect("only whole blocks are added"))
    }

    /// Whether the active chain has the block.
    pub(super) fn is_active(&self, hash: &BlockHash) -> bool {
        self.height_of(hash).is_some_and(|height| self.hash_at(height) == Some(*hash))
    }

    /// The answer to `getheaders`; `None` where a node is silent.
    pub(super) fn headers_after(&self, request: &GetHeaders) -> Option<Vec<BlockHeader>> {
        if request.locator.is_empty() {
            return self.header(&request.stop).map(|header| vec![header]);
        }
        let mut headers = Vec::new();
        for hash in self.after(&request.locator).iter().take(MAX_HEADERS) {
            headers.extend(self.header(hash));
            if *hash == request.stop {
                break;
            }
        }
        Some(headers)
    }

    /// What `getblocks` lists: at most 500 blocks, not the one at which it stops.
    pub(super) fn hashes_after(&self, request: &GetBlocks) -> Vec<BlockHash> {
        let hashes = self.after(&request.locator).iter().take_while(|hash| **hash != request.stop);
        hashes.take(MAX_LISTED).copied().collect()
    }

    /// How far below the tip a block is.
    pub(super) fn depth(&self, hash: &BlockHash) -> Option<u32> {
        self.height_of(hash).map(|height| self.height().saturating_sub(height))
    }

    /// The block of the active chain that holds the transaction.
    pub(super) fn block_with(&self, txid: &Txid) -> Option<Block> {
        let blocks = self.active.iter().rev().filter_map(|hash| self.block(hash));
        { blocks }.find(|block| block.transactions().any(|transaction| transaction.txid() == *txid))
    }

    /// The active chain behind the first hash of a locator that is on it, or behind the first block.
    fn after(&self, locator: &[BlockHash]) -> &[BlockHash] {
        let fork =
            locator.iter().find(|hash| self.is_active(hash)).and_then(|hash| self.height_of(hash)).unwrap_or(0);
        &self.active[fork as usize + 1..]
    }

    /// Hashes of the active chain, newest first: twelve in a row, then ever longer steps, then the first block.
    pub(super) fn locator(&self) -> Vec<BlockHash> {
        let mut locator = Vec::new();
        let (mut step, mut height) = (1, self.active.len() - 1);
        while height > 0 {
            locator.push(self.active[height]);
            if locator.len() >= 12 {
                step *= 2;
            }
            height = height.saturating_sub(step);
        }
        locator.push(self.active[0]);
        locator
    }

    /// Mines a block with these transactions on the tip.
    pub(super) fn mine(&mut self, transactions: Vec<Transaction>) -> (BlockHash, Added) {
        self.mine_on(self.tip(), 0, transactions)
    }

    /// Mines `count` empty blocks on the block at `height`, different from those that follow it already.
    pub(super) fn mine_branch(&mut self, height: u32, count: u32) -> Option<(Vec<BlockHash>, Vec<Added>)> {
        let mut parent = self.hash_at(height)?;
        self.branches += 1;
        let mut added = Vec::new();
        let mut hashes = Vec::new();
        for _ in 0..count {
            let (hash, what) = self.mine_on(parent, self.branches, Vec::new());
            parent = hash;
            hashes.push(hash);
            added.push(what);
        }
        Some((hashes, added))
    }

    fn mine_on(&mut self, parent: BlockHash, branch: u32, others: Vec<Transaction>) -> (BlockHash, Added) {
        let before = &self.blocks[&parent];
        let (height, time) = (before.height + 1, before.header.time + BLOCK_SECONDS);
        let mut transactions = vec![coinbase(height, branch)];
        // A transaction cannot be in a block twice: the merkle tree would be ambiguous.
        let mut seen: HashSet<Txid> = HashSet::new();
        transactions.extend(others.into_iter().filter(|transaction| seen.insert(transaction.txid())));
        let merkle_root = merkle_root(transactions.iter().map(Transaction::txid))
            .expect("there is a coinbase, and no transaction is there twice");
        let mut header =
            BlockHeader { version: 0x2000_0000, previous: parent, merkle_root, time, bits: EASIEST_BITS, nonce: 0 };
        while !proves_work(&header) {
            header.nonce += 1;
        }
        let frame = encode(self.magic, &header, &transactions);
        let hash = header.hash();
        (hash, self.insert(hash, Entry { header, height, frame }))
    }

    /// Adds a block from elsewhere.
    pub(super) fn add(&mut self, block: &Block) -> Added {
        let hash = block.hash();
        let header = *block.header();
        if self.contains(&hash) {
            return Added::Known;
        }
        let Some(parent) = self.blocks.get(&header.previous) else {
            return Added::Orphan;
        };
        if !proves_work(&header) {
            return Added::Invalid("high-hash");
        }
        if block.check_merkle_root().is_err() {
            return Added::Invalid("bad-txnmrklroot");
        }
        let height = parent.height + 1;
        let frame = Frame::encode_sized(self.magic, Command::BLOCK, block.raw().len(), |out| {
            out.extend_from_slice(block.raw());
        });
        self.insert(hash, Entry { header, height, frame })
    }

    fn insert(&mut self, hash: BlockHash, entry: Entry) -> Added {
        let (height, mut parent) = (entry.height, entry.header.previous);
        if self.blocks.insert(hash, entry).is_some() {
            return Added::Known;
        }
        // Every block has the same work, so height is work.
        if height <= self.height() {
            return Added::Side;
        }
        let mut joined = vec![hash];
        while !self.is_active(&parent) {
            joined.push(parent);
            parent = self.blocks[&parent].header.previous;
        }
        joined.reverse();
        let left = self.active.split_off(self.blocks[&parent].height as usize + 1);
        self.active.extend_from_slice(&joined);
        Added::Tip { left, joined }
    }
}

/// Whether a header's hash is at or below the target in its bits.
pub(super) fn proves_work(header: &BlockHeader) -> bool {
    let mut target = [0_u8; 32];
    let exponent = (header.bits >> 24) as usize;
    let [_, mantissa @ ..] = header.bits.to_be_bytes();
    for (i, byte) in mantissa.into_iter().enumerate() {
        // The mantissa's last byte is the one of weight 256^(exponent - 3).
        match (32 + i).checked_sub(exponent).and_then(|at| target.get_mut(at)) {
            Some(place) => *place = byte,
            None if byte == 0 => {}
            None => return false,
        }
    }
    let mut hash = *header.hash().as_wire();
    hash.reverse();
    hash <= target
}

/// The transaction that pays a block's miner: 50 coins, halved every 150 blocks, to whoever comes first.
fn coinbase(height: u32, branch: u32) -> Transaction {
    let mut script_sig = Vec::new();
    push_number(&mut script_sig, height);
    script_sig.push(4);
    script_sig.extend_from_slice(&branch.to_le_bytes());
    Transaction::new(
        1,
        &[TransactionInput { previous_output: OutPoint::NULL, script_sig: &script_sig, sequence: u32::MAX }],
        &[TransactionOutput { value: subsidy(height), script_pubkey: &[OP_TRUE] }],
        0,
    )
}

/// What a coinbase of regtest pays, in satoshis.
pub(super) fn subsidy(height: u32) -> i64 {
    5_000_000_000_i64.checked_shr(height / 150).unwrap_or(0)
}

/// Pushes a number on the stack as scripts do (BIP 34).
fn push_number(script: &mut Vec<u8>, number: u32) {
    match number {
        0 => script.push(0),
        1..=16 => script.push(0x50 + number as u8),
        _ => {
            let mut bytes = number.to_le_bytes().to_vec();
            while bytes.last() == Some(&0) {
                bytes.pop();
            }
            // The highest bit is the sign.
            if bytes.last().is_some_and(|byte| byte & 0x80 != 0) {
                bytes.push(0);
            }
            script.push(bytes.len() as u8);
            script.extend_from_slice(&bytes);
        }
    }
}

fn encode(magic: [u8; 4], header: &BlockHeader, transactions: &[Transaction]) -> Frame {
    let len: usize = transactions.iter().map(|transaction| transaction.raw().len()).sum();
    Frame::encode_sized(magic, Command::BLOCK, BlockHeader::LEN + 9 + len, |out| {
        out.extend_from_slice(&header.encode());
        write_compact_size(out, transactions.len() as u64);
        for transaction in transactions {
            out.extend_from_slice(transaction.raw());
        }
    })
}

/// The first header of a network; `None` for a custom one whose first block is not that of a known network.
fn genesis_header(network: &Network) -> Option<BlockHeader> {
    let merkle_root: MerkleRoot = GENESIS_MERKLE_ROOT.parse().expect("a constant, read in a test");
    let known = [
        (1_231_006_505, 0x1d00_ffff, 2_083_236_893),
        (1_296_688_602, 0x1d00_ffff, 414_098_458),
        (1_296_688_602, EASIEST_BITS, 2),
    ];
    known
        .map(|(time, bits, nonce)| BlockHeader {
            version: 1,
            previous: BlockHash::ZERO,
            merkle_root,
            time,
            bits,
            nonce,
        })
        .into_iter()
        .find(|header| header.hash() == network.genesis())
}

/// The bytes of a constant written in hexadecimal.
fn hex(text: &str) -> Vec<u8> {
    let digit = |i| u8::from_str_radix(&text[i..i + 2], 16).expect("a constant, read in a test");
    (0..text.len()).step_by(2).map(digit).collect()
}

/// The script that anybody can spend.
pub(super) const OP_TRUE: u8 = 0x51;
/// The easiest target there is, that of regtest.
const EASIEST_BITS: u32 = 0x207f_ffff;
const BLOCK_SECONDS: u32 = 600;
/// `MAX_HEADERS_RESULTS` of the node.
pub(super) const MAX_HEADERS: usize = 2_000;
/// The most hashes in an answer to `getblocks`.
pub(super) const MAX_LISTED: usize = 500;

const GENESIS_MERKLE_ROOT: &str = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b";
/// The one transaction of every network's first block.
const GENESIS_COINBASE: &str = "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff4d04ffff001d0104455468652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e206272696e6b206f66207365636f6e64206261696c6f757420666f722062616e6b73ffffffff0100f2052a01000000434104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000";

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(blocks: u32) -> Chain {
        Chain::new(&Network::Regtest, blocks).unwrap()
    }

    #[test]
    fn the_chain_links_proves_its_work_and_is_the_same_every_time() {
        let (one, two) = (chain(200), chain(200));
        assert_eq!(one.active, two.active);
        for height in 0..=200 {
            let block = one.block(&one.hash_at(height).unwrap()).unwrap();
            assert_eq!(block.hash(), one.hash_at(height).unwrap());
            assert_eq!(block.check_merkle_root(), Ok(()));
            assert!(proves_work(block.header()), "height {height}");
            if height > 0 {
                assert_eq!(Some(block.header().previous), one.hash_at(height - 1));
                assert_eq!(block.header().time, 1_296_688_602 + height * 600);
            }
        }
    }

    #[test]
    fn every_network_has_its_first_block() {
        for network in [Network::Main, Network::Test, Network::Scaling, Network::Regtest] {
            let chain = Chain::new(&network, 1).unwrap();
            assert_eq!(chain.hash_at(0), Some(network.genesis()));
            assert!(chain.active.iter().all(|hash| proves_work(&chain.header(hash).unwrap())));
            assert_eq!(chain.block(&network.genesis()).unwrap().check_merkle_root(), Ok(()));
        }
    }

    #[test]
    fn a_hash_above_its_target_proves_nothing() {
        let header = chain(1).header(&chain(1).tip()).unwrap();
        assert!(!proves_work(&BlockHeader { bits: 0x1d00_ffff, ..header }));
        assert!(!proves_work(&BlockHeader { bits: 0, ..header }));
        assert!(!proves_work(&BlockHeader { bits: 0x2300_0001, ..header }), "a target of more than 256 bits");
        assert!((0..100).any(|nonce| !proves_work(&BlockHeader { nonce, ..header })));
    }

    #[test]
    fn heights_are_pushed_as_scripts_have_them() {
        let pushed = |number| {
            let mut script = Vec::new();
            push_number(&mut script, number);
            script
        };
        assert_eq!(pushed(1), [0x51]);
        assert_eq!(pushed(16), [0x60]);
        assert_eq!(pushed(17), [1, 17]);
        assert_eq!(pushed(127), [1, 127]);
        assert_eq!(pushed(128), [2, 128, 0]);
        assert_eq!(pushed(256), [2, 0, 1]);
        assert_eq!(pushed(0x80_0000), [4, 0, 0, 0x80, 0]);
    }

    #[test]
    fn getheaders_is_answered_as_the_node_does() {
        let chain = chain(2_500);
        let at = |height| chain.hash_at(height).unwrap();
        let heights = |request: &GetHeaders| {
            let headers = chain.headers_after(request)?;
            Some(headers.iter().map(|header| chain.height_of(&header.hash()).unwrap()).collect::<Vec<_>>())
        };
        let range = |range: std::ops::RangeInclusive<u32>| Some(range.collect::<Vec<_>>());
        assert_eq!(heights(&GetHeaders::new([at(0)])), range(1..=2_000));
        assert_eq!(heights(&GetHeaders::new([at(2_000)])), range(2_001..=2_500));
        assert_eq!(heights(&GetHeaders::new([at(2_500)])), Some(vec![]));
        assert_eq!(heights(&GetHeaders::new([BlockHash::ZERO])), range(1..=2_000));
        assert_eq!(heights(&GetHeaders::new([BlockHash::ZERO, at(7)]).stop_at(at(9))), range(8..=9));
        assert_eq!(heights(&GetHeaders::new([at(2_490)]).stop_at(at(2_490))), range(2_491..=2_500));
        assert_eq!(heights(&GetHeaders::new([]).stop_at(at(0))), range(0..=0));
        assert_eq!(heights(&GetHeaders::new([])), None);
        assert_eq!(heights(&GetHeaders::new([]).stop_at(BlockHash::from_wire([1; 32]))), None);
    }

    #[test]
    fn a_longer_branch_takes_over_and_says_what_changed() {
        let mut chain = chain(10);
        let old: Vec<_> = (8..=10).map(|height| chain.hash_at(height).unwrap()).collect();
        let (hashes, added) = chain.mine_branch(7, 4).unwrap();
        assert_eq!(added[..3], [Added::Side, Added::Side, Added::Side]);
        assert_eq!(added[3], Added::Tip { left: old.clone(), joined: hashes.clone() });
        assert_eq!(chain.height(), 11);
        assert!(hashes.iter().all(|hash| chain.is_active(hash)));
        assert!(old.iter().all(|hash| !chain.is_active(hash) && chain.contains(hash)));
        assert_eq!(chain.headers_after(&GetHeaders::new([]).stop_at(old[0])).map(|list| list.len()), Some(1));
    }

    #[test]
    fn blocks_from_elsewhere_are_checked() {
        let (mut ours, mut theirs) = (chain(3), chain(3));
        let (hash, _) = theirs.mine(Vec::new());
        let block = theirs.block(&hash).unwrap();
        let (next, _) = theirs.mine(Vec::new());
        assert_eq!(ours.add(&theirs.block(&next).unwrap()), Added::Orphan);
        let header = BlockHeader { merkle_root: MerkleRoot::ZERO, ..*block.header() };
        let header = (0..).map(|nonce| BlockHeader { nonce, ..header }).find(proves_work).unwrap();
        let coinbase = block.transactions().next().unwrap().to_transaction();
        assert_eq!(ours.add(&Block::new(header, vec![coinbase])), Added::Invalid("bad-txnmrklroot"));
        assert_eq!(ours.add(&block), Added::Tip { left: vec![], joined: vec![hash] });
        assert_eq!(ours.add(&block), Added::Known);
    }

    #[test]
    fn the_locator_ends_with_the_first_block() {
        let chain = chain(100);
        let heights: Vec<_> = chain.locator().iter().map(|hash| chain.height_of(hash).unwrap()).collect();
        assert_eq!(heights, [100, 99, 98, 97, 96, 95, 94, 93, 92, 91, 90, 89, 87, 83, 75, 59, 27, 0]);
    }
}
