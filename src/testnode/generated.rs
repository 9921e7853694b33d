//! Blocks of any size that are made while they are served, not held.
//!
//! Pure. Sections 1.2, 2.13 and 6.5 of the wire specification.

use std::fmt;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::chain::proves_work;
use super::generator::{Contents, Generator, Layout};
use super::source::Source;
use crate::block::MerkleTree;
use crate::engine::Random;
use crate::message::BlockHeader;
use crate::wire::{BlockHash, Command, FrameHeader, MerkleRoot, Txid, sha256d};

/// What a [`GeneratedBlock`] is made of.
///
/// The same plan gives the same block everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockPlan {
    seed: u64,
    previous: BlockHash,
    contents: Contents,
    giant: Option<u64>,
    checksum: bool,
}

impl BlockPlan {
    /// A block of so many bytes, 150 at least, of transactions of 250 to 1,000 bytes and one of 100 kB in 2,000.
    ///
    /// Where the transaction count takes such a place that no block has this size, it has a few bytes more.
    #[must_use]
    pub const fn of_size(seed: u64, bytes: u64) -> Self {
        Self::new(seed, Contents::Mixed { bytes })
    }

    /// A block of so many transactions, its coinbase among them, of `size` bytes each.
    ///
    /// One of 60 bytes or more has an input and an output; one of less has neither, and takes 10 bytes.
    #[must_use]
    pub const fn of_count(seed: u64, count: u64, size: u64) -> Self {
        Self::new(seed, Contents::Equal { count, size })
    }

    const fn new(seed: u64, contents: Contents) -> Self {
        Self { seed, previous: BlockHash::ZERO, contents, giant: None, checksum: true }
    }

    /// Makes one transaction in the middle so many bytes long; a block of a size has that size all the same, if it can.
    #[must_use]
    pub const fn giant(mut self, bytes: u64) -> Self {
        self.giant = Some(bytes);
        self
    }

    /// Sets the block that this one follows; the default is all zeros.
    #[must_use]
    pub const fn previous(mut self, hash: BlockHash) -> Self {
        self.previous = hash;
        self
    }

    /// Leaves out the frame's checksum, which is zero then and almost surely wrong: it saves hashing the block once more.
    ///
    /// Above 4 GiB there is none in any case.
    #[must_use]
    pub const fn without_checksum(mut self) -> Self {
        self.checksum = false;
        self
    }
}

/// A valid block of any size in a few hundred bytes of memory: its transactions are made again whenever they are needed.
///
/// Cloning copies nothing. Give it to a node with [`TestNode::offer`](super::TestNode::offer).
///
/// ```
/// use std::io::Read;
/// use conduit::message::Block;
/// use conduit::testnode::{BlockPlan, GeneratedBlock};
///
/// let block = GeneratedBlock::new(BlockPlan::of_size(1, 1_000_000));
/// assert_eq!(block.size(), 1_000_000);
///
/// let mut raw = Vec::new();
/// block.reader().read_to_end(&mut raw).unwrap();
/// let read = Block::from_raw(raw).unwrap();
/// assert_eq!(read.hash(), block.hash());
/// assert_eq!(read.check_merkle_root(), Ok(()));
/// ```
#[derive(Clone, Debug)]
pub struct GeneratedBlock {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
    header: BlockHeader,
    hash: BlockHash,
    checksum: [u8; 4],
}

impl GeneratedBlock {
    /// Makes the block once to hash its transactions, and once more for the checksum of its frame.
    ///
    /// It has the easy proof of work of regtest.
    ///
    /// # Panics
    ///
    /// Never: its transactions differ, so their tree has a root.
    #[must_use]
    pub fn new(plan: BlockPlan) -> Self {
        let layout = Layout::new(plan.seed, plan.contents, plan.giant);
        let mut tree = MerkleTree::new();
        let mut transactions = layout.generator();
        let mut buffer = Vec::new();
        while transactions.begin() {
            tree.push(next_txid(&mut transactions, &mut buffer));
        }
        let merkle_root = tree.finish().expect("there is a coinbase, and no two transactions are the same");
        let header = mined(plan.previous, merkle_root);
        let mut checksum = [0; 4];
        if plan.checksum && layout.size <= u64::from(u32::MAX) {
            let digest = Source::of_block(&header, layout.count, layout.generator(), layout.size).digest();
            checksum.copy_from_slice(&digest[..4]);
        }
        Self { inner: Arc::new(Inner { layout, header, hash: header.hash(), checksum }) }
    }

    /// Makes a chain of `count` blocks of mixed sizes; the small ones are more: from one power of two to the next there
    /// are as many as from that to the next again.
    ///
    /// ```
    /// use conduit::testnode::GeneratedBlock;
    ///
    /// let blocks = GeneratedBlock::several(7, 20, 1_000..=100_000);
    /// assert_eq!(blocks[1].header().previous, blocks[0].hash());
    /// ```
    #[must_use]
    pub fn several(seed: u64, count: usize, bytes: RangeInclusive<u64>) -> Vec<Self> {
        let mut random = Random::new(seed);
        let mut previous = BlockHash::ZERO;
        let (low, high) = ((*bytes.start()).max(1) as f64, (*bytes.end()).max(1) as f64);
        let block = |_| {
            // A size is far below 2^52, so that it survives.
            let size = (low * (high / low).powf(random.fraction())) as u64;
            let block = Self::new(BlockPlan::of_size(random.next(), size).previous(previous));
            previous = block.hash();
            block
        };
        (0..count).map(block).collect()
    }

    /// The block's header.
    #[must_use]
    pub fn header(&self) -> &BlockHeader {
        &self.inner.header
    }

    /// The block's hash.
    #[must_use]
    pub fn hash(&self) -> BlockHash {
        self.inner.hash
    }

    /// Bytes of the whole block.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.inner.layout.size
    }

    /// How many transactions it has.
    #[must_use]
    pub fn transaction_count(&self) -> u64 {
        self.inner.layout.count
    }

    /// Its bytes from the first to the last, made as they are read.
    #[must_use]
    pub fn reader(&self) -> GeneratedReader {
        GeneratedReader { source: self.source(), buffer: Vec::new(), taken: 0 }
    }

    /// Makes each transaction, whole, in turn.
    pub fn for_each_transaction(&self, mut take: impl FnMut(&[u8])) {
        let mut transactions = self.inner.layout.generator();
        let mut raw = Vec::new();
        while transactions.begin() {
            raw.clear();
            transactions.part(&mut raw, usize::MAX);
            take(&raw);
        }
    }

    /// The payload of its frame.
    pub(super) fn source(&self) -> Source {
        let Inner { layout, header, .. } = &*self.inner;
        Source::of_block(header, layout.count, layout.generator(), layout.size)
    }

    /// The header of its frame.
    pub(super) fn frame_header(&self, magic: [u8; 4]) -> FrameHeader {
        FrameHeader::new(magic, Command::BLOCK, self.size(), self.inner.checksum)
    }
}

/// Reads a [`GeneratedBlock`].
pub struct GeneratedReader {
    source: Source,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were read.
    taken: usize,
}

impl Read for GeneratedReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.buffer.len() {
            self.buffer.clear();
            self.taken = 0;
            self.source.fill(&mut self.buffer, READ_LEN);
        }
        let n = out.len().min(self.buffer.len() - self.taken);
        out[..n].copy_from_slice(&self.buffer[self.taken..self.taken + n]);
        self.taken += n;
        Ok(n)
    }
}

impl fmt::Debug for GeneratedReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeneratedReader").field("left", &self.source.left()).finish_non_exhaustive()
    }
}

/// The id of the transaction at hand, however long it is.
fn next_txid(transactions: &mut Generator, buffer: &mut Vec<u8>) -> Txid {
    buffer.clear();
    transactions.part(buffer, READ_LEN);
    if transactions.left() == 0 {
        return Txid::from_wire(sha256d(buffer));
    }
    let mut hasher = Sha256::new_with_prefix(&*buffer);
    while transactions.left() > 0 {
        buffer.clear();
        transactions.part(buffer, READ_LEN);
        hasher.update(&*buffer);
    }
    Txid::from_wire(Sha256::digest(hasher.finalize()).into())
}

fn mined(previous: BlockHash, merkle_root: MerkleRoot) -> BlockHeader {
    let header = BlockHeader { version: 0x2000_0000, previous, merkle_root, time: TIME, bits: EASY_BITS, nonce: 0 };
    let mut nonces = (0..).map(|nonce| BlockHeader { nonce, ..header });
    nonces.find(proves_work).expect("every second header proves work")
}

/// Bytes that a reader makes at once.
const READ_LEN: usize = 64 * 1_024;
const TIME: u32 = 1_700_000_000;
/// The easiest proof of work, that of regtest.
const EASY_BITS: u32 = 0x207f_ffff;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Block;

    fn raw(block: &GeneratedBlock) -> Vec<u8> {
        let mut raw = Vec::new();
        block.reader().read_to_end(&mut raw).unwrap();
        raw
    }

    #[test]
    fn blocks_are_valid_and_follow_from_their_plan() {
        let previous = BlockHash::from_wire([3; 32]);
        for plan in [
            BlockPlan::of_size(1, 0),
            BlockPlan::of_size(1, 1_000),
            BlockPlan::of_size(2, 700_000).previous(previous),
            BlockPlan::of_size(3, 700_000).giant(400_000),
            BlockPlan::of_count(4, 5_000, 10),
            BlockPlan::of_count(4, 3, 60),
        ] {
            let block = GeneratedBlock::new(plan);
            let raw = raw(&block);
            assert_eq!(raw.len() as u64, block.size());
            assert_eq!(block.frame_header([0; 4]).checksum.unwrap(), crate::wire::checksum(&raw));
            let mut transactions = Vec::new();
            block.for_each_transaction(|raw| transactions.push(raw.to_vec()));
            let read = Block::from_raw(raw.clone()).unwrap();
            assert_eq!((read.header(), read.hash()), (block.header(), block.hash()));
            assert_eq!(read.check_merkle_root(), Ok(()));
            assert!(proves_work(read.header()) && read.header().previous == plan.previous);
            assert!(read.transactions().map(|each| each.raw().to_vec()).eq(transactions));
            assert_eq!(read.transaction_count() as u64, block.transaction_count());
            let again = GeneratedBlock::new(plan);
            assert!(again.hash() == block.hash() && super::tests::raw(&again) == raw);
        }
    }

    #[test]
    fn seeds_make_different_blocks() {
        let hashes = [1, 2].map(|seed| GeneratedBlock::new(BlockPlan::of_size(seed, 10_000)).hash());
        assert_ne!(hashes[0], hashes[1]);
        let sizes: Vec<_> =
            GeneratedBlock::several(1, 50, 1_000..=50_000).iter().map(GeneratedBlock::size).collect();
        assert!(sizes.iter().all(|size| (1_000..=50_010).contains(size)), "{sizes:?}");
        assert!(sizes.iter().filter(|size| **size < 8_000).count() > 10, "{sizes:?}");
    }

    #[test]
    fn a_block_above_4_gib_has_an_extended_frame_without_a_checksum() {
        let layout = Layout::new(1, Contents::Mixed { bytes: 4_500_000_000 }, None);
        let header = mined(BlockHash::ZERO, MerkleRoot::ZERO);
        let inner = Inner { layout, header, hash: header.hash(), checksum: [0; 4] };
        let block = GeneratedBlock { inner: Arc::new(inner) };
        assert_eq!(block.size(), 4_500_000_000);
        assert!(block.frame_header([0; 4]).is_extended());
        assert!((6_600_000..6_800_000).contains(&block.transaction_count()));
    }

    /// `cargo test --release --lib --features testnode -- --ignored --nocapture blocks_are_made`
    #[test]
    #[ignore = "a measurement"]
    #[expect(clippy::disallowed_methods, reason = "a rate needs the clock")]
    fn blocks_are_made_faster_than_they_are_hashed() {
        for (what, plan) in [
            ("mixed transactions", BlockPlan::of_size(1, 2_000_000_000)),
            ("60-byte transactions", BlockPlan::of_count(1, 10_000_000, 60)),
            ("10-byte transactions", BlockPlan::of_count(1, 10_000_000, 10)),
        ] {
            let layout = Layout::new(plan.seed, plan.contents, plan.giant);
            let (mut transactions, mut buffer) = (layout.generator(), Vec::new());
            let began = std::time::Instant::now();
            let mut made = 0;
            loop {
                buffer.clear();
                transactions.fill(&mut buffer, 128 * 1_024);
                if buffer.is_empty() {
                    break;
                }
                made += std::hint::black_box(&buffer).len();
            }
            let making = began.elapsed().as_secs_f64();
            let began = std::time::Instant::now();
            let block = GeneratedBlock::new(plan.without_checksum());
            let hashing = began.elapsed().as_secs_f64();
            let gigabytes = made as f64 / 1e9;
            println!(
                "{what}: made at {:.2} GB/s; with ids and tree at {:.2} GB/s, {} transactions",
                gigabytes / making,
                gigabytes / hashing,
                block.transaction_count(),
            );
            assert!(making < hashing, "{what}");
        }
    }
}
