//! The merkle tree that commits a block header to its transactions.
//!
//! Depends on `wire` only. Section 6.5 of the wire specification (the node's `src/consensus/merkle.cpp`).

use std::error::Error;
use std::fmt;

use crate::wire::{MerkleRoot, Txid, sha256d};

/// Folds txids into their merkle root one by one, in memory that grows only with the tree's height.
///
/// Nodes are paired by double SHA-256 of left and right; the odd node of a level is paired with itself. That rule
/// lets the tail of an odd level be repeated without changing the root (CVE-2012-2459), so a tree in which two
/// equal nodes are paired is refused.
#[derive(Clone, Debug, Default)]
pub struct MerkleTree {
    /// The complete subtrees not paired yet, each with its level, tallest first; no two of the same level.
    subtrees: Vec<(u32, [u8; 32])>,
    /// The level of the first two equal nodes that were paired.
    repeated: Option<u32>,
}

impl MerkleTree {
    /// Starts without leaves.
    #[must_use]
    pub const fn new() -> Self {
        Self { subtrees: Vec::new(), repeated: None }
    }

    /// Adds the next transaction of the block.
    pub fn push(&mut self, txid: Txid) {
        let (mut level, mut node) = (0, *txid.as_wire());
        while let Some((_, left)) = self.subtrees.pop_if(|(l, _)| *l == level) {
            node = self.pair(level, &left, &node);
            level += 1;
        }
        self.subtrees.push((level, node));
    }

    /// The complete subtrees not paired yet, each with its level, tallest first: they commit to every leaf so far.
    pub(crate) fn subtrees(&self) -> &[(u32, [u8; 32])] {
        &self.subtrees
    }

    /// The root over all leaves.
    ///
    /// # Errors
    ///
    /// [`MerkleError::NoTransactions`], [`MerkleError::RepeatedNode`].
    pub fn finish(mut self) -> Result<MerkleRoot, MerkleError> {
        let (mut level, mut node) = self.subtrees.pop().ok_or(MerkleError::NoTransactions)?;
        while let Some((left_level, left)) = self.subtrees.pop() {
            // The last node of its level stands alone up to the level of the subtree on its left.
            while level < left_level {
                node = hash_pair(&node, &node);
                level += 1;
            }
            node = self.pair(level, &left, &node);
            level += 1;
        }
        match self.repeated {
            Some(level) => Err(MerkleError::RepeatedNode { level }),
            None => Ok(MerkleRoot::from_wire(node)),
        }
    }

    fn pair(&mut self, level: u32, left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
        if left == right {
            self.repeated.get_or_insert(level);
        }
        hash_pair(left, right)
    }
}

/// The merkle root of a list of transactions.
///
/// # Errors
///
/// [`MerkleError::NoTransactions`], [`MerkleError::RepeatedNode`].
pub fn merkle_root(txids: impl IntoIterator<Item = Txid>) -> Result<MerkleRoot, MerkleError> {
    let mut tree = MerkleTree::new();
    for txid in txids {
        tree.push(txid);
    }
    tree.finish()
}

/// Why a list of transactions is not the one a header commits to.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MerkleError {
    /// There is no transaction at all.
    NoTransactions,
    /// The first transaction is not a coinbase, so the leaves may be nodes of a higher level.
    NoCoinbase,
    /// Two paired nodes are equal, so the list may hold repeated transactions.
    RepeatedNode {
        /// Their level, from 0 for the transactions.
        level: u32,
    },
    /// The transactions have another root than the header.
    WrongRoot {
        /// The root in the header.
        expected: MerkleRoot,
        /// The root of the transactions.
        got: MerkleRoot,
    },
}

impl fmt::Display for MerkleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTransactions => f.write_str("block without transactions"),
            Self::NoCoinbase => f.write_str("first transaction is not a coinbase"),
            Self::RepeatedNode { level } => {
                write!(f, "two paired nodes at level {level} of the merkle tree are equal")
            }
            Self::WrongRoot { expected, got } => write!(f, "merkle root is {got}, the header says {expected}"),
        }
    }
}

impl Error for MerkleError {}

/// The siblings on the way from a transaction to the root, `None` where a node is paired with itself; `None` at all if
/// there is no such transaction.
pub(crate) fn merkle_branch(txids: &[Txid], index: usize) -> Option<Vec<Option<[u8; 32]>>> {
    let mut level: Vec<[u8; 32]> = txids.iter().map(|txid| *txid.as_wire()).collect();
    level.get(index)?;
    let mut branch = Vec::new();
    let mut position = index;
    while level.len() > 1 {
        branch.push(level.get(position ^ 1).copied());
        level = level.chunks(2).map(|pair| hash_pair(&pair[0], &pair[pair.len() - 1])).collect();
        position /= 2;
    }
    Some(branch)
}

/// The parent of two nodes.
pub(crate) fn hash_pair(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut both = [0; 64];
    both[..32].copy_from_slice(left);
    both[32..].copy_from_slice(right);
    sha256d(&both)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn txids(n: u8) -> Vec<Txid> {
        (0..n).map(|i| Txid::from_wire([i; 32])).collect()
    }

    /// The textbook form: level by level, over the whole list.
    fn by_levels(txids: &[Txid]) -> [u8; 32] {
        let mut level: Vec<[u8; 32]> = txids.iter().map(|txid| *txid.as_wire()).collect();
        while level.len() > 1 {
            level = level.chunks(2).map(|pair| hash_pair(&pair[0], pair.last().unwrap())).collect();
        }
        level[0]
    }

    #[test]
    fn the_root_is_that_of_the_textbook_at_every_size() {
        for n in 1..=130 {
            assert_eq!(merkle_root(txids(n)), Ok(MerkleRoot::from_wire(by_levels(&txids(n)))), "{n} transactions");
        }
        assert_eq!(merkle_root([]), Err(MerkleError::NoTransactions));
    }

    #[test]
    fn every_repeated_tail_with_the_same_root_is_refused() {
        let mut checked = 0;
        for n in 1..=65 {
            let honest = txids(n);
            for level in 0..7 {
                // The last subtree of a level with an odd number of nodes, all complete, is written twice.
                let width = 1 << level;
                let nodes = honest.len() / width;
                if nodes < 3 || nodes.is_multiple_of(2) || nodes * width != honest.len() {
                    continue;
                }
                let mutated = [&honest[..], &honest[honest.len() - width..]].concat();
                assert_eq!(by_levels(&mutated), by_levels(&honest), "{n} transactions, level {level}");
                assert_eq!(merkle_root(mutated), Err(MerkleError::RepeatedNode { level }), "{n}, level {level}");
                checked += 1;
            }
        }
        assert_eq!(checked, 58);
    }
}
