//! What proves the bytes of a block while they pass: header, coinbase, merkle root or checksum, and a running digest.
//!
//! Layer 2. Sections 1.4, 2.13 and 6.5 of the wire specification (the node's `src/consensus/merkle.cpp`).

use std::error::Error;
use std::fmt;

use sha2::{Digest, Sha256};

use super::{MerkleError, MerkleTree, ScanError};
use crate::message::BlockHeader;
use crate::wire::{BlockHash, Txid, sha256d};

/// What proves a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum BlockProof {
    /// Every transaction is hashed, and the header commits to them: every byte is the one asked for.
    #[default]
    Merkle,
    /// The payload as a whole has the checksum in its frame: the bytes are those the peer sent, but nothing shows that
    /// they belong to the header.
    ///
    /// Transactions are hashed only if their ids are asked for. A frame without a checksum (every one of more than
    /// 4 GiB) is proven by [`Merkle`](Self::Merkle) instead, and then costs more than if that had been asked for.
    Checksum,
}

/// What was proven of a block that arrived as a whole.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BlockSummary {
    /// The hash of the header, which is the one asked for.
    pub hash: BlockHash,
    /// The header.
    pub header: BlockHeader,
    /// Bytes of the block.
    pub size: u64,
    /// How many transactions it has.
    pub transactions: u64,
    /// What was checked: the merkle root if the proof asked for could not be had.
    pub proof: BlockProof,
    /// Whether the frame's checksum was compared.
    pub checksum_checked: bool,
}

/// How the bytes of a block show that they are not the block asked for.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockFault {
    /// They do not make a block.
    Scan(ScanError),
    /// The header is another block's.
    WrongHeader {
        /// The hash asked for.
        expected: BlockHash,
        /// The hash of the header.
        got: BlockHash,
    },
    /// The transactions are not those the header commits to.
    Merkle(MerkleError),
    /// The payload does not hash to the checksum in its frame.
    WrongChecksum {
        /// The checksum in the frame.
        expected: [u8; 4],
        /// The checksum of the payload.
        got: [u8; 4],
    },
}

impl fmt::Display for BlockFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scan(error) => error.fmt(f),
            Self::WrongHeader { expected, got } => {
                write!(f, "header of block {got} where {expected} was asked for")
            }
            Self::Merkle(error) => error.fmt(f),
            Self::WrongChecksum { expected, got } => {
                write!(f, "block hashes to {got:02x?}, its frame says {expected:02x?}")
            }
        }
    }
}

impl Error for BlockFault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Scan(error) => Some(error),
            Self::Merkle(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ScanError> for BlockFault {
    fn from(error: ScanError) -> Self {
        Self::Scan(error)
    }
}

impl From<MerkleError> for BlockFault {
    fn from(error: MerkleError) -> Self {
        Self::Merkle(error)
    }
}

/// Gathers the proof of one block, from bytes that pass in order.
///
/// It is shown the first bytes until it has seen a coinbase, and each transaction once: as a whole, or in pieces.
#[derive(Debug)]
pub(super) struct Prover {
    expected: BlockHash,
    checksum: Option<[u8; 4]>,
    head: Head,
    header: Option<BlockHeader>,
    is_coinbase_checked: bool,
    /// Transactions that ended.
    transactions: u64,
    /// Absent where the transactions prove nothing.
    tree: Option<MerkleTree>,
    /// Whether somebody asked for txids that the tree does not need.
    wants_txids: bool,
    /// Over the whole payload, for its checksum.
    payload: Option<Sha256>,
    /// Over the pieces of the transaction that has not ended.
    pieces: Option<Sha256>,
}

impl Prover {
    pub(super) fn new(
        expected: BlockHash,
        checksum: Option<[u8; 4]>,
        proof: BlockProof,
        wants_txids: bool,
    ) -> Self {
        let is_merkle = proof == BlockProof::Merkle;
        Self {
            expected,
            checksum: checksum.filter(|_| !is_merkle),
            head: Head::default(),
            header: None,
            is_coinbase_checked: false,
            transactions: 0,
            tree: (is_merkle || checksum.is_none()).then(MerkleTree::new),
            wants_txids,
            payload: (!is_merkle).then(Sha256::new),
            pieces: None,
        }
    }

    pub(super) const fn header(&self) -> Option<&BlockHeader> {
        self.header.as_ref()
    }

    /// Transactions that ended.
    pub(super) const fn transactions(&self) -> u64 {
        self.transactions
    }

    /// Looks at the next of the first bytes, up to where the coinbase is checked.
    pub(super) fn see(&mut self, bytes: &[u8]) {
        self.head.push(bytes);
    }

    /// Checks the header, whose last byte was seen.
    pub(super) fn check_header(&mut self) -> Result<(), BlockFault> {
        let Some(bytes) = self.head.bytes.first_chunk() else { return Ok(()) };
        let (expected, got) = (self.expected, BlockHash::from_wire(sha256d(bytes)));
        if got != expected {
            return Err(BlockFault::WrongHeader { expected, got });
        }
        self.header = Some(BlockHeader::decode(bytes));
        Ok(())
    }

    /// Notes that the count's last byte was seen just now.
    pub(super) const fn end_count(&mut self) {
        self.head.count_end = Some(self.head.len);
    }

    /// Whether header and count were seen.
    pub(super) const fn has_count(&self) -> bool {
        self.head.count_end.is_some()
    }

    /// Checks that the first transaction is a coinbase, once enough of it was seen.
    pub(super) fn check_coinbase(&mut self) -> Result<(), BlockFault> {
        match self.head.has_coinbase() {
            Some(false) => Err(MerkleError::NoCoinbase.into()),
            is_coinbase => {
                self.is_coinbase_checked = is_coinbase.is_some();
                Ok(())
            }
        }
    }

    /// Whether enough was seen, and no more needs to be.
    pub(super) const fn is_coinbase_checked(&self) -> bool {
        self.is_coinbase_checked
    }

    /// Takes the next whole transaction; gives its txid if it was computed.
    #[inline]
    pub(super) fn transaction(&mut self, raw: &[u8]) -> Option<Txid> {
        self.transactions += 1;
        if self.tree.is_none() && !self.wants_txids {
            return None;
        }
        Some(self.leaf(sha256d(raw)))
    }

    /// Takes the next piece of a transaction; with the last one gives its txid if it was computed.
    pub(super) fn piece(&mut self, bytes: &[u8], is_last: bool) -> Option<Txid> {
        self.transactions += u64::from(is_last);
        if self.tree.is_none() && !self.wants_txids {
            return None;
        }
        let mut hash = self.pieces.take().unwrap_or_default();
        hash.update(bytes);
        if is_last {
            return Some(self.leaf(Sha256::digest(hash.finalize()).into()));
        }
        self.pieces = Some(hash);
        None
    }

    /// Takes bytes of the payload, each once, for its checksum.
    pub(super) fn payload(&mut self, bytes: &[u8]) {
        if let Some(payload) = &mut self.payload {
            payload.update(bytes);
        }
    }

    /// Commits to the first `position` bytes, which have all been taken, and to no more.
    pub(super) fn digest(&self, position: u64) -> [u8; 32] {
        if let Some(payload) = &self.payload {
            return payload.clone().finalize().into();
        }
        let mut digest = Sha256::new();
        digest.update(position.to_le_bytes());
        let head = self.head.count_end.unwrap_or(self.head.len);
        let head = usize::try_from(position).map_or(head, |position| position.min(head));
        digest.update(&self.head.bytes[..head]);
        digest.update(self.transactions.to_le_bytes());
        for (level, node) in self.tree.as_ref().map(MerkleTree::subtrees).unwrap_or_default() {
            digest.update(level.to_le_bytes());
            digest.update(node);
        }
        if let Some(pieces) = &self.pieces {
            digest.update(pieces.clone().finalize());
        }
        digest.finalize().into()
    }

    /// Compares what came with what was promised, once all of `size` bytes were taken.
    pub(super) fn finish(&mut self, size: u64) -> Result<BlockSummary, BlockFault> {
        let Some(header) = self.header else {
            return Err(ScanError::UnexpectedEnd { at: size }.into());
        };
        let mut proof = BlockProof::Checksum;
        if let Some(tree) = &self.tree {
            let (expected, got) = (header.merkle_root, tree.clone().finish()?);
            if got != expected {
                return Err(MerkleError::WrongRoot { expected, got }.into());
            }
            proof = BlockProof::Merkle;
        }
        if let (Some(payload), Some(expected)) = (&self.payload, self.checksum) {
            let digest = Sha256::digest(payload.clone().finalize());
            let got = [digest[0], digest[1], digest[2], digest[3]];
            if got != expected {
                return Err(BlockFault::WrongChecksum { expected, got });
            }
        }
        Ok(BlockSummary {
            hash: self.expected,
            header,
            size,
            transactions: self.transactions,
            proof,
            checksum_checked: self.checksum.is_some(),
        })
    }

    fn leaf(&mut self, digest: [u8; 32]) -> Txid {
        let txid = Txid::from_wire(digest);
        if let Some(tree) = &mut self.tree {
            tree.push(txid);
        }
        txid
    }
}

/// The first bytes of a block: header, count, and of the first transaction what tells a coinbase.
#[derive(Debug)]
struct Head {
    bytes: [u8; HEAD_LEN],
    len: usize,
    /// Where the count ends, once it is in.
    count_end: Option<usize>,
}

impl Default for Head {
    fn default() -> Self {
        Self { bytes: [0; HEAD_LEN], len: 0, count_end: None }
    }
}

impl Head {
    fn push(&mut self, bytes: &[u8]) {
        let n = bytes.len().min(HEAD_LEN - self.len);
        self.bytes[self.len..self.len + n].copy_from_slice(&bytes[..n]);
        self.len += n;
    }

    /// `None` until it can be told.
    fn has_coinbase(&self) -> Option<bool> {
        let transaction = &self.bytes[self.count_end?..self.len];
        // With another number of inputs the transaction may be so short that the bytes behind are not its own.
        if *transaction.get(4)? != 1 {
            return Some(false);
        }
        let out_point = transaction.get(5..COINBASE_LEN)?;
        Some(out_point[..32] == [0; 32] && out_point[32..] == [0xff; 4])
    }
}

/// Version, count of inputs, out point.
const COINBASE_LEN: usize = 4 + 1 + 36;
const HEAD_LEN: usize = BlockHeader::LEN + 9 + COINBASE_LEN;
