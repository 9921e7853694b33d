//! Merkle proofs: that a transaction is in a block, in the binary and the JSON form of the TSC standard.
//!
//! Section 6.7 of the wire specification (TSC "Merkle proof standardised format"; the node's `src/merkleproof.h`).

#[cfg(feature = "serde")]
mod json;

use std::error::Error;
use std::fmt;

use super::payload::Payload;
use super::{BlockHeader, Transaction, TransactionView};
use crate::block::{hash_pair, merkle_branch, tree_height};
use crate::wire::{BlockHash, DecodeError, MerkleRoot, Reader, Txid, write_bytes, write_compact_size};

/// The proof that a transaction is in a block: its position and the nodes between it and the merkle root.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | flags | 1 | bit 0: a whole transaction, not its txid; bits 1 and 2: target is 0 block hash, 2 header, 4 merkle root |
/// | index | 1 to 5 | compact size |
/// | txid or transaction | 32 or more | with its length as a compact size in front if a transaction |
/// | target | 32, a header 80 | |
/// | nodes | 33 each | compact size, then per node from the leaf to the root: type 0, hash |
///
/// A node that is paired with itself is written as type 0 and a hash of zeros, as SV Node does in `datareftx`, or with
/// the hash itself, as it does in `hdrsen`. [`from_bytes`](Self::from_bytes) also reads type 1 without a hash, the form
/// of the published standard. In JSON, which follows that standard, such a node is `"*"`.
///
/// The root proves the txid only as far as the tree's depth is known: a transaction of exactly 64 bytes may be a pair
/// of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MerkleProof {
    /// The transaction's position in the block.
    pub index: u32,
    /// What is proven.
    pub subject: ProofSubject,
    /// The block it is in.
    pub target: ProofTarget,
    /// The siblings from the leaf to the root; a tree has at most 32 levels of them.
    pub nodes: Vec<ProofNode>,
}

/// The transaction that a merkle proof is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProofSubject {
    /// Its txid.
    Txid(Txid),
    /// All of it.
    Transaction(Transaction),
}

/// How a merkle proof names its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProofTarget {
    /// By its hash.
    BlockHash(BlockHash),
    /// By its header. No message carries this.
    Header(Box<BlockHeader>),
    /// By its merkle root.
    MerkleRoot(MerkleRoot),
}

/// A sibling on the way from a transaction to the merkle root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProofNode {
    /// Its hash, in wire order. A hash of zeros means the same as [`Duplicate`](Self::Duplicate).
    Hash([u8; 32]),
    /// The running node itself, which has no sibling.
    Duplicate,
}

impl MerkleProof {
    /// Proves the transaction at `index` in a block of these transactions; `None` if there is none.
    ///
    /// Nodes paired with themselves are [`ProofNode::Duplicate`]; see
    /// [`with_repeated_hashes`](Self::with_repeated_hashes).
    #[must_use]
    pub fn new(txids: &[Txid], index: usize, target: ProofTarget) -> Option<Self> {
        let nodes = merkle_branch(txids, index)?;
        let nodes = nodes.into_iter().map(|node| node.map_or(ProofNode::Duplicate, ProofNode::Hash)).collect();
        let subject = ProofSubject::Txid(txids[index]);
        Some(Self { index: u32::try_from(index).ok()?, subject, target, nodes })
    }

    /// Writes out the hashes of nodes that are paired with themselves, as SV Node does in `hdrsen`.
    #[must_use]
    pub fn with_repeated_hashes(mut self) -> Self {
        let mut running = *self.txid().as_wire();
        let mut index = self.index;
        for node in &mut self.nodes {
            let sibling = node.hash().unwrap_or(running);
            *node = ProofNode::Hash(sibling);
            running = if index & 1 == 1 { hash_pair(&sibling, &running) } else { hash_pair(&running, &sibling) };
            index >>= 1;
        }
        self
    }

    /// The txid of the transaction that is proven.
    #[must_use]
    pub const fn txid(&self) -> Txid {
        match &self.subject {
            ProofSubject::Txid(txid) => *txid,
            ProofSubject::Transaction(transaction) => transaction.txid(),
        }
    }

    /// Computes the merkle root that the transaction and the nodes lead to.
    ///
    /// # Errors
    ///
    /// [`ProofError::IndexOutOfTree`] if the position does not exist in a tree of this depth,
    /// [`ProofError::DuplicateOnTheLeft`] if a node is said to be its own left sibling, which no tree has.
    pub fn fold(&self) -> Result<MerkleRoot, ProofError> {
        let mut running = *self.txid().as_wire();
        let mut index = self.index;
        for (level, node) in self.nodes.iter().enumerate() {
            let sibling = node.hash().unwrap_or(running);
            running = if index & 1 == 0 {
                hash_pair(&running, &sibling)
            } else if sibling == running {
                return Err(ProofError::DuplicateOnTheLeft { level });
            } else {
                hash_pair(&sibling, &running)
            };
            index >>= 1;
        }
        if index == 0 {
            Ok(MerkleRoot::from_wire(running))
        } else {
            Err(ProofError::IndexOutOfTree { index: self.index, depth: self.nodes.len() })
        }
    }

    /// Proves that the transaction is in the block with this header.
    ///
    /// # Errors
    ///
    /// Those of [`fold`](Self::fold); [`ProofError::WrongTarget`] if the proof is for another block,
    /// [`ProofError::WrongRoot`] if it does not lead to the header's root.
    pub fn verify(&self, header: &BlockHeader) -> Result<(), ProofError> {
        let expected = header.merkle_root;
        let is_meant = match &self.target {
            ProofTarget::BlockHash(hash) => *hash == header.hash(),
            ProofTarget::Header(target) => **target == *header,
            ProofTarget::MerkleRoot(root) => *root == expected,
        };
        if !is_meant {
            return Err(ProofError::WrongTarget);
        }
        let got = self.fold()?;
        if got == expected { Ok(()) } else { Err(ProofError::WrongRoot { expected, got }) }
    }

    /// Reads the binary form of the published standard or of SV Node, from exactly its bytes.
    ///
    /// # Errors
    ///
    /// What is wrong with the bytes; [`DecodeError::InvalidValue`] naming `flags` for trees and composite proofs.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let reader = &mut Reader::new(bytes);
        let proof = Self::read_form(reader, Payload::Borrowed(bytes), Form::Published)?;
        if reader.is_empty() { Ok(proof) } else { Err(DecodeError::InvalidValue { field: "proof" }) }
    }

    /// The binary form, duplicates as SV Node writes them.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len_hint());
        self.write(&mut out);
        out
    }

    /// Reads the form in which messages hold it.
    pub(super) fn read(reader: &mut Reader<'_>, payload: Payload<'_>) -> Result<Self, DecodeError> {
        Self::read_form(reader, payload, Form::Node)
    }

    fn read_form(reader: &mut Reader<'_>, payload: Payload<'_>, form: Form) -> Result<Self, DecodeError> {
        let flags = reader.u8()?;
        let index = read_u32(reader)?;
        let subject = if flags & WHOLE_TRANSACTION == 0 {
            ProofSubject::Txid(Txid::from_wire(reader.array()?))
        } else {
            let length = reader.bytes()?.len();
            let end = payload.position(reader);
            let inner = Transaction::read_exact(payload, end - length..end)?;
            ProofSubject::Transaction(inner)
        };
        let target = match flags & !WHOLE_TRANSACTION {
            TARGET_BLOCK_HASH => ProofTarget::BlockHash(BlockHash::from_wire(reader.array()?)),
            TARGET_HEADER if form == Form::Published => {
                ProofTarget::Header(Box::new(BlockHeader::decode(&reader.array()?)))
            }
            TARGET_MERKLE_ROOT => ProofTarget::MerkleRoot(MerkleRoot::from_wire(reader.array()?)),
            _ => return Err(DecodeError::InvalidValue { field: "flags" }),
        };
        let count = reader.count(if form == Form::Published { 1 } else { NODE_LEN })?;
        if count > MAX_NODES {
            return Err(DecodeError::TooManyItems { count: count as u64, limit: MAX_NODES as u64 });
        }
        let nodes = reader.items(count, |reader| match reader.u8()? {
            NODE_HASH => Ok(ProofNode::from(reader.array::<32>()?)),
            NODE_DUPLICATE if form == Form::Published => Ok(ProofNode::Duplicate),
            _ => Err(DecodeError::InvalidValue { field: "node type" }),
        })?;
        Ok(Self { index, subject, target, nodes })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let subject = match &self.subject {
            ProofSubject::Txid(_) => 0,
            ProofSubject::Transaction(_) => WHOLE_TRANSACTION,
        };
        let target = match &self.target {
            ProofTarget::BlockHash(_) => TARGET_BLOCK_HASH,
            ProofTarget::Header(_) => TARGET_HEADER,
            ProofTarget::MerkleRoot(_) => TARGET_MERKLE_ROOT,
        };
        out.push(subject | target);
        write_compact_size(out, self.index.into());
        match &self.subject {
            ProofSubject::Txid(txid) => out.extend_from_slice(txid.as_wire()),
            ProofSubject::Transaction(transaction) => write_bytes(out, transaction.raw()),
        }
        match &self.target {
            ProofTarget::BlockHash(hash) => out.extend_from_slice(hash.as_wire()),
            ProofTarget::Header(header) => out.extend_from_slice(&header.encode()),
            ProofTarget::MerkleRoot(root) => out.extend_from_slice(root.as_wire()),
        }
        write_compact_size(out, self.nodes.len() as u64);
        for node in &self.nodes {
            out.push(NODE_HASH);
            out.extend_from_slice(&node.hash().unwrap_or_default());
        }
    }

    /// Bytes of the binary form, or a few more.
    pub(super) fn len_hint(&self) -> usize {
        let subject = match &self.subject {
            ProofSubject::Txid(_) => 32,
            ProofSubject::Transaction(transaction) => 5 + transaction.raw().len(),
        };
        8 + subject + BlockHeader::LEN + self.nodes.len() * NODE_LEN
    }
}

impl From<[u8; 32]> for ProofNode {
    fn from(hash: [u8; 32]) -> Self {
        if hash == [0; 32] { Self::Duplicate } else { Self::Hash(hash) }
    }
}

impl ProofNode {
    /// The hash, `None` for a duplicate.
    fn hash(self) -> Option<[u8; 32]> {
        match self {
            Self::Hash(hash) if hash != [0; 32] => Some(hash),
            _ => None,
        }
    }
}

/// A transaction and the proof that it is in a block: the payload of `datareftx`, and parts of `hdrsen`.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | transaction | 10 and more | |
/// | proof | 67 and more | [`MerkleProof`], whose target is the block's hash |
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ProvenTransaction {
    /// The transaction.
    pub transaction: Transaction,
    /// The proof.
    pub proof: MerkleProof,
}

impl ProvenTransaction {
    /// Proves that the transaction is in the block with this header.
    ///
    /// # Errors
    ///
    /// Those of [`MerkleProof::verify`], and [`ProofError::WrongTransaction`] if the proof is about another one.
    pub fn verify(&self, header: &BlockHeader) -> Result<(), ProofError> {
        if self.proof.txid() != self.transaction.txid() {
            return Err(ProofError::WrongTransaction);
        }
        self.proof.verify(header)
    }

    /// Proves besides that the transaction is the coinbase of a block of so many transactions.
    pub(super) fn verify_coinbase(&self, header: &BlockHeader, transactions: u32) -> Result<(), ProofError> {
        if !self.transaction.is_coinbase() || self.proof.index != 0 {
            return Err(ProofError::NotTheCoinbase);
        }
        let (expected, got) = (tree_height(transactions) as usize, self.proof.nodes.len());
        if transactions == 0 || got != expected {
            return Err(ProofError::WrongDepth { expected, got });
        }
        self.verify(header)
    }

    pub(super) fn read(reader: &mut Reader<'_>, payload: Payload<'_>) -> Result<Self, DecodeError> {
        let transaction = Transaction::read(reader, payload)?;
        Ok(Self { transaction, proof: MerkleProof::read(reader, payload)? })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.transaction.raw());
        self.proof.write(out);
    }

    pub(super) fn len_hint(&self) -> usize {
        self.transaction.raw().len() + self.proof.len_hint()
    }

    /// A transaction without inputs and outputs, and a proof without nodes.
    pub(super) const MIN_LEN: usize = TransactionView::MIN_LEN + 46;
}

/// Why a merkle proof does not prove what it should.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofError {
    /// There is no proof.
    Missing,
    /// The position does not exist in a tree of this depth.
    IndexOutOfTree {
        /// The position.
        index: u32,
        /// How many nodes the proof has.
        depth: usize,
    },
    /// A node is said to be its own left sibling.
    DuplicateOnTheLeft {
        /// Its level, from 0 for the transactions.
        level: usize,
    },
    /// The proof is about another transaction.
    WrongTransaction,
    /// The transaction is not the first of the block or not a coinbase.
    NotTheCoinbase,
    /// The proof is not as long as the block's number of transactions asks for.
    WrongDepth {
        /// The height of the block's merkle tree.
        expected: usize,
        /// How many nodes the proof has.
        got: usize,
    },
    /// The proof is for another block.
    WrongTarget,
    /// The proof leads to another root than the header's.
    WrongRoot {
        /// The root in the header.
        expected: MerkleRoot,
        /// The root of the proof.
        got: MerkleRoot,
    },
}

impl fmt::Display for ProofError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no merkle proof"),
            Self::IndexOutOfTree { index, depth } => {
                write!(f, "position {index} does not exist in a merkle tree of {depth} levels")
            }
            Self::DuplicateOnTheLeft { level } => {
                write!(f, "node at level {level} of the merkle proof is its own left sibling")
            }
            Self::WrongTransaction => f.write_str("merkle proof is about another transaction"),
            Self::NotTheCoinbase => f.write_str("proven transaction is not the block's coinbase"),
            Self::WrongDepth { expected, got } => {
                write!(f, "merkle proof has {got} nodes, the block's tree has {expected} levels")
            }
            Self::WrongTarget => f.write_str("merkle proof is for another block"),
            Self::WrongRoot { expected, got } => {
                write!(f, "merkle proof leads to the root {got}, the header says {expected}")
            }
        }
    }
}

impl Error for ProofError {}

/// A compact size, none of which exceeds 32 bits.
pub(super) fn read_u32(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let value = reader.compact_size()?;
    u32::try_from(value).map_err(|_| DecodeError::CompactSizeTooLarge { value })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// SV Node: nodes of type 0 only, targets of 32 bytes only.
    Node,
    /// The published standard besides.
    Published,
}

const WHOLE_TRANSACTION: u8 = 1;
const TARGET_BLOCK_HASH: u8 = 0;
const TARGET_HEADER: u8 = 2;
const TARGET_MERKLE_ROOT: u8 = 4;
const NODE_HASH: u8 = 0;
const NODE_DUPLICATE: u8 = 1;
/// A type and a hash.
const NODE_LEN: usize = 33;
/// The height of the tree over as many transactions as a compact size counts.
const MAX_NODES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::merkle_root;

    fn txids(n: u8) -> Vec<Txid> {
        (1..=n).map(|i| Txid::from_wire([i; 32])).collect()
    }

    fn header(txids: &[Txid]) -> BlockHeader {
        let merkle_root = merkle_root(txids.to_vec()).unwrap();
        BlockHeader { version: 1, previous: BlockHash::ZERO, merkle_root, time: 2, bits: 3, nonce: 4 }
    }

    #[test]
    fn every_transaction_of_small_blocks_is_proven_in_both_forms() {
        for n in 1..=17 {
            let txids = txids(n);
            let header = header(&txids);
            for index in 0..txids.len() {
                let proof = MerkleProof::new(&txids, index, ProofTarget::BlockHash(header.hash())).unwrap();
                assert_eq!(proof.verify(&header), Ok(()), "{index} of {n}");
                let repeated = proof.clone().with_repeated_hashes();
                assert!(!repeated.nodes.contains(&ProofNode::Duplicate));
                assert_eq!(repeated.verify(&header), Ok(()), "{index} of {n}");
                // One bit more in the position names a transaction that is not there.
                let beyond = MerkleProof { index: proof.index | 1 << proof.nodes.len(), ..proof.clone() };
                let expected = ProofError::IndexOutOfTree { index: beyond.index, depth: proof.nodes.len() };
                assert_eq!(beyond.verify(&header), Err(expected));
            }
            assert_eq!(MerkleProof::new(&txids, txids.len(), ProofTarget::BlockHash(header.hash())), None);
        }
    }

    #[test]
    fn a_node_is_never_its_own_left_sibling() {
        // Three transactions read as four, the third twice: the fourth does not exist.
        let txids = txids(3);
        let header = header(&txids);
        let honest = MerkleProof::new(&txids, 2, ProofTarget::BlockHash(header.hash())).unwrap();
        for proof in [honest.clone(), honest.with_repeated_hashes()] {
            assert_eq!(proof.verify(&header), Ok(()));
            let forged = MerkleProof { index: 3, ..proof };
            assert_eq!(forged.verify(&header), Err(ProofError::DuplicateOnTheLeft { level: 0 }));
        }
    }

    #[test]
    fn each_kind_of_target_must_be_that_of_the_header() {
        let txids = txids(5);
        let right = header(&txids);
        let wrong = BlockHeader { merkle_root: MerkleRoot::ZERO, ..right };
        for target in [
            ProofTarget::BlockHash(right.hash()),
            ProofTarget::Header(Box::new(right)),
            ProofTarget::MerkleRoot(right.merkle_root),
        ] {
            let proof = MerkleProof::new(&txids, 4, target).unwrap();
            assert_eq!(proof.verify(&right), Ok(()));
            assert_eq!(proof.verify(&wrong), Err(ProofError::WrongTarget));
        }
        let other = MerkleProof::new(&txids, 4, ProofTarget::BlockHash(wrong.hash())).unwrap();
        let expected = ProofError::WrongRoot { expected: wrong.merkle_root, got: right.merkle_root };
        assert_eq!(other.verify(&wrong), Err(expected));
    }

    #[test]
    fn the_published_form_is_read_and_messages_hold_only_that_of_the_node() {
        let txids = txids(3);
        let header = header(&txids);
        let proof = MerkleProof::new(&txids, 2, ProofTarget::Header(Box::new(header))).unwrap();
        assert_eq!(proof.nodes[0], ProofNode::Duplicate);
        // A duplicate of type 1, which has no hash.
        let mut published = vec![TARGET_HEADER, 2];
        published.extend_from_slice(txids[2].as_wire());
        published.extend_from_slice(&header.encode());
        published.extend_from_slice(&[2, NODE_DUPLICATE, NODE_HASH]);
        published.extend_from_slice(&hash_pair(txids[0].as_wire(), txids[1].as_wire()));
        assert_eq!(MerkleProof::from_bytes(&published), Ok(proof.clone()));
        assert_eq!(MerkleProof::from_bytes(&proof.to_bytes()), Ok(proof));
        for cut in 0..published.len() {
            assert_eq!(MerkleProof::from_bytes(&published[..cut]), Err(DecodeError::UnexpectedEnd), "{cut}");
        }
        published.push(0);
        assert_eq!(MerkleProof::from_bytes(&published), Err(DecodeError::InvalidValue { field: "proof" }));

        let in_message = |bytes: &[u8]| MerkleProof::read(&mut Reader::new(bytes), Payload::Borrowed(bytes));
        assert_eq!(in_message(&published), Err(DecodeError::InvalidValue { field: "flags" }));
        let node = |kind: u8| [&[0, 0][..], &[7; 64], &[1, kind], &[9; 32]].concat();
        assert!(in_message(&node(0)).is_ok());
        assert_eq!(in_message(&node(1)), Err(DecodeError::InvalidValue { field: "node type" }));
        assert_eq!(MerkleProof::from_bytes(&node(2)), Err(DecodeError::InvalidValue { field: "node type" }));
    }

    #[test]
    fn trees_composites_and_endless_branches_are_refused() {
        let read = |flags: u8, nodes: u8| {
            let mut bytes = vec![flags, 0];
            bytes.extend_from_slice(&[7; 64]);
            bytes.push(nodes);
            bytes.resize(bytes.len() + usize::from(nodes) * NODE_LEN, 0);
            MerkleProof::from_bytes(&bytes)
        };
        assert!(read(TARGET_BLOCK_HASH, 32).is_ok());
        assert_eq!(read(TARGET_BLOCK_HASH, 33), Err(DecodeError::TooManyItems { count: 33, limit: 32 }));
        for flags in [6, 8, 16, 128] {
            assert_eq!(read(flags, 0), Err(DecodeError::InvalidValue { field: "flags" }), "{flags}");
        }
        let whole = [&[1, 0, 11][..], &[0; 11], &[7; 32], &[0]].concat();
        assert_eq!(MerkleProof::from_bytes(&whole), Err(DecodeError::InvalidValue { field: "transaction" }));
    }
}
