//! Block headers, and `block`: a whole block, kept as its bytes and read in place.
//!
//! Sections 2.13 and 6.5 of the wire specification (the node's `src/primitives/block.h`).

use std::fmt;
use std::sync::Arc;

use super::{Transaction, TransactionView};
use crate::block::{BlockSummary, MerkleError, merkle_root};
use crate::wire::{
    BlockHash, DecodeError, MerkleRoot, Reader, SharedBytes, compact_size_len, sha256d, write_compact_size,
};

/// The header of a block.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | version | 4 | little-endian |
/// | previous | 32 | hash |
/// | merkle root | 32 | hash |
/// | time | 4 | Unix seconds, little-endian |
/// | bits | 4 | little-endian |
/// | nonce | 4 | little-endian |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BlockHeader {
    /// The block's version number.
    pub version: i32,
    /// The hash of the block before.
    pub previous: BlockHash,
    /// Commits to the transactions.
    pub merkle_root: MerkleRoot,
    /// When the block was made, in Unix seconds.
    pub time: u32,
    /// The target of the proof of work in compact form.
    pub bits: u32,
    /// What the proof of work varies.
    pub nonce: u32,
}

impl BlockHeader {
    /// Bytes of a header.
    pub const LEN: usize = 80;

    /// Reads a header; any 80 bytes are one.
    #[must_use]
    pub fn decode(bytes: &[u8; Self::LEN]) -> Self {
        Self {
            version: i32::from_le_bytes(field(bytes, 0)),
            previous: BlockHash::from_wire(field(bytes, 4)),
            merkle_root: MerkleRoot::from_wire(field(bytes, 36)),
            time: u32::from_le_bytes(field(bytes, 68)),
            bits: u32::from_le_bytes(field(bytes, 72)),
            nonce: u32::from_le_bytes(field(bytes, 76)),
        }
    }

    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&self.version.to_le_bytes());
        bytes[4..36].copy_from_slice(self.previous.as_wire());
        bytes[36..68].copy_from_slice(self.merkle_root.as_wire());
        bytes[68..72].copy_from_slice(&self.time.to_le_bytes());
        bytes[72..76].copy_from_slice(&self.bits.to_le_bytes());
        bytes[76..].copy_from_slice(&self.nonce.to_le_bytes());
        bytes
    }

    /// Computes the hash that names the block.
    #[must_use]
    pub fn hash(&self) -> BlockHash {
        BlockHash::from_wire(sha256d(&self.encode()))
    }
}

/// The `N` bytes at a place within a header.
fn field<const N: usize>(bytes: &[u8; BlockHeader::LEN], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

/// A whole block: its bytes, its header and its hash.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | header | 80 | |
/// | count | 1 to 5 | compact size |
/// | transactions | 10 and more each | one behind the other |
///
/// Decoding only checks the lengths: [`check_merkle_root`](Self::check_merkle_root) proves the transactions.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    /// Exactly one block; every length in it is checked.
    raw: SharedBytes,
    /// Shared, so that a block is as small to move as any other message.
    summary: Arc<Summary>,
}

#[derive(Debug, PartialEq, Eq)]
struct Summary {
    header: BlockHeader,
    hash: BlockHash,
    transaction_count: usize,
}

impl Block {
    /// Puts a block together; the header is taken as it is.
    #[must_use]
    pub fn new(header: BlockHeader, transactions: Vec<Transaction>) -> Self {
        let count = transactions.len() as u64;
        let len: usize = transactions.iter().map(|transaction| transaction.raw().len()).sum();
        let mut raw = Vec::with_capacity(BlockHeader::LEN + compact_size_len(count) + len);
        raw.extend_from_slice(&header.encode());
        write_compact_size(&mut raw, count);
        for transaction in &transactions {
            raw.extend_from_slice(transaction.raw());
        }
        Self::with_summary(raw.into(), header, transactions.len())
    }

    /// Takes the bytes of exactly one block.
    ///
    /// They are shared, or copied where sharing would hold a buffer of more than twice their size in memory.
    ///
    /// # Errors
    ///
    /// [`DecodeError::UnexpectedEnd`] if they end early, [`DecodeError::InvalidValue`] naming `block` if bytes are left
    /// over, and what is wrong with a compact size.
    pub fn from_raw(raw: impl Into<SharedBytes>) -> Result<Self, DecodeError> {
        let raw = raw.into();
        let len = raw.len();
        let block = Self::from_payload(raw)?;
        if block.raw.len() == len { Ok(block) } else { Err(DecodeError::InvalidValue { field: "block" }) }
    }

    /// Takes the block at the front of a payload.
    pub(super) fn from_payload(payload: SharedBytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(&payload);
        let header = BlockHeader::decode(&reader.array()?);
        let transaction_count = reader.count(TransactionView::MIN_LEN)?;
        for _ in 0..transaction_count {
            TransactionView::read(&mut reader)?;
        }
        let len = payload.len() - reader.rest().len();
        let raw = payload.slice(0..len).ok_or(DecodeError::UnexpectedEnd)?.compacted();
        Ok(Self::with_summary(raw, header, transaction_count))
    }

    /// Takes the bytes of a block that was scanned and proven.
    pub(crate) fn of_proven(raw: Vec<u8>, summary: &BlockSummary) -> Self {
        let &BlockSummary { header, hash, transactions, .. } = summary;
        // Each of them has bytes in memory.
        let transaction_count = usize::try_from(transactions).unwrap_or(usize::MAX);
        Self { raw: raw.into(), summary: Arc::new(Summary { header, hash, transaction_count }) }
    }

    fn with_summary(raw: SharedBytes, header: BlockHeader, transaction_count: usize) -> Self {
        Self { raw, summary: Arc::new(Summary { header, hash: header.hash(), transaction_count }) }
    }

    /// The block's bytes.
    #[must_use]
    pub const fn raw(&self) -> &SharedBytes {
        &self.raw
    }

    /// The block's header.
    #[must_use]
    pub fn header(&self) -> &BlockHeader {
        &self.summary.header
    }

    /// The hash of the header.
    #[must_use]
    pub fn hash(&self) -> BlockHash {
        self.summary.hash
    }

    /// How many transactions it holds.
    #[must_use]
    pub fn transaction_count(&self) -> usize {
        self.summary.transaction_count
    }

    /// The transactions, in order, read in place.
    #[must_use]
    pub fn transactions(&self) -> Transactions<'_> {
        let mut reader = Reader::new(&self.raw);
        // The block's lengths are checked, so neither read can fail.
        let remaining =
            reader.take(BlockHeader::LEN).and_then(|_| reader.count(TransactionView::MIN_LEN)).unwrap_or_default();
        Transactions { reader, remaining }
    }

    /// Proves that the transactions are those the header commits to, hashing each.
    ///
    /// # Errors
    ///
    /// [`MerkleError::NoTransactions`]; [`MerkleError::NoCoinbase`] if the first one spends something;
    /// [`MerkleError::RepeatedNode`] if the list may hold repetitions that the root does not show (CVE-2012-2459);
    /// [`MerkleError::WrongRoot`].
    pub fn check_merkle_root(&self) -> Result<(), MerkleError> {
        let first = self.transactions().next().ok_or(MerkleError::NoTransactions)?;
        if !first.is_coinbase() {
            return Err(MerkleError::NoCoinbase);
        }
        let got = merkle_root(self.transactions().map(|transaction| transaction.txid()))?;
        let expected = self.header().merkle_root;
        if got == expected { Ok(()) } else { Err(MerkleError::WrongRoot { expected, got }) }
    }
}

/// Shows hash and size.
impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({}, {} transactions, {} bytes)", self.hash(), self.transaction_count(), self.raw.len())
    }
}

/// Iterates over a block's transactions.
#[derive(Clone, Debug)]
pub struct Transactions<'a> {
    reader: Reader<'a>,
    remaining: usize,
}

impl<'a> Transactions<'a> {
    /// Reads `remaining` transactions whose lengths are checked.
    pub(super) const fn new(raw: &'a [u8], remaining: usize) -> Self {
        Self { reader: Reader::new(raw), remaining }
    }
}

impl<'a> Iterator for Transactions<'a> {
    type Item = TransactionView<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        TransactionView::read(&mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl ExactSizeIterator for Transactions<'_> {}

/// A block serializes as hash, header and transactions; the hash is checked when it is read back.
#[cfg(feature = "serde")]
mod serialized {
    use serde::de::Error as _;
    use serde::ser::SerializeStruct;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Block, BlockHeader, Transactions};
    use crate::message::Transaction;
    use crate::wire::BlockHash;

    impl Serialize for Block {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut fields = serializer.serialize_struct("Block", 3)?;
            fields.serialize_field("hash", &self.hash())?;
            fields.serialize_field("header", self.header())?;
            fields.serialize_field("transactions", &self.transactions())?;
            fields.end()
        }
    }

    impl Serialize for Transactions<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(self.clone())
        }
    }

    #[derive(Deserialize)]
    struct Fields {
        hash: Option<BlockHash>,
        header: BlockHeader,
        transactions: Vec<Transaction>,
    }

    impl<'de> Deserialize<'de> for Block {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let Fields { hash, header, transactions } = Fields::deserialize(deserializer)?;
            let block = Self::new(header, transactions);
            match hash {
                Some(hash) if hash != block.hash() => Err(D::Error::custom("hash is not that of the header")),
                _ => Ok(block),
            }
        }
    }
}
