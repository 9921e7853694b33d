//! Partial merkle trees: which transactions of a block match, proven without the others.
//!
//! Depends on `wire` only. Section 6.6 of the wire specification (BIP 37; the node's `src/merkleblock.cpp`).

use std::error::Error;
use std::fmt;

use super::merkle::hash_pair;
#[cfg(feature = "serde")]
use crate::wire::hex;
use crate::wire::{MerkleRoot, Txid};

/// A merkle tree of which only the paths to some transactions are written down.
///
/// The tree is walked depth-first from its root, with one flag bit per node. A node whose bit is 0, and every leaf, is
/// given by its hash; below one whose bit is 1 lies a match. A leaf whose bit is 1 is a match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PartialMerkleTree {
    /// How many transactions the whole block has.
    pub total_transactions: u32,
    /// The hashes in the order of the walk, in wire order.
    #[cfg_attr(feature = "serde", serde(with = "hex::hashes"))]
    pub hashes: Vec<[u8; 32]>,
    /// The flag bits in the order of the walk, the least significant of each byte first.
    #[cfg_attr(feature = "serde", serde(with = "hex::bytes"))]
    pub flags: Vec<u8>,
}

impl PartialMerkleTree {
    /// Builds the tree of a block's transactions with those that `is_match` picks.
    ///
    /// # Errors
    ///
    /// [`PartialTreeError::NoTransactions`], [`PartialTreeError::TooManyTransactions`].
    pub fn new(txids: &[Txid], mut is_match: impl FnMut(usize, Txid) -> bool) -> Result<Self, PartialTreeError> {
        let total_transactions =
            u32::try_from(txids.len()).map_err(|_| PartialTreeError::TooManyTransactions { count: txids.len() })?;
        if total_transactions == 0 {
            return Err(PartialTreeError::NoTransactions);
        }
        let leaves =
            txids.iter().enumerate().map(|(i, txid)| Node { hash: *txid.as_wire(), matches: is_match(i, *txid) });
        let mut levels = vec![leaves.collect::<Vec<_>>()];
        while let Some(last) = levels.last().filter(|level| level.len() > 1) {
            let above = last.chunks(2).map(|pair| {
                let (left, right) = (&pair[0], &pair[pair.len() - 1]);
                Node { hash: hash_pair(&left.hash, &right.hash), matches: left.matches || right.matches }
            });
            let above = above.collect();
            levels.push(above);
        }
        let mut builder = Builder { levels, hashes: Vec::new(), bits: Vec::new() };
        builder.walk(builder.levels.len() - 1, 0);
        let flags = builder
            .bits
            .chunks(8)
            .map(|byte| byte.iter().enumerate().fold(0, |flags, (i, bit)| flags | u8::from(*bit) << i));
        Ok(Self { total_transactions, flags: flags.collect(), hashes: builder.hashes })
    }

    /// Takes the tree apart: its root, and the matches with their positions in the block.
    ///
    /// The matches are proven only once the root is compared with that of a header.
    ///
    /// # Errors
    ///
    /// What breaks the tree; every hash and flag must be used, and no two siblings may be equal (CVE-2012-2459).
    pub fn extract(&self) -> Result<PartialTreeMatches, PartialTreeError> {
        let total = self.total_transactions;
        let bits = self.flags.len().saturating_mul(8);
        if total == 0 {
            return Err(PartialTreeError::NoTransactions);
        }
        if self.hashes.len() as u64 > u64::from(total) {
            return Err(PartialTreeError::TooManyHashes { hashes: self.hashes.len(), total_transactions: total });
        }
        if bits < self.hashes.len() {
            return Err(PartialTreeError::FewerFlagsThanHashes { flags: bits, hashes: self.hashes.len() });
        }
        let mut walker = Walker::new(self, true);
        let root = walker.walk(tree_height(total), 0)?;
        let Walker { flags_used, hashes_used, matches, .. } = walker;
        // Only the bits that fill up the last byte may be left.
        if flags_used.div_ceil(8) != self.flags.len() {
            return Err(PartialTreeError::UnusedFlags { used: flags_used, flags: bits });
        }
        if hashes_used != self.hashes.len() {
            return Err(PartialTreeError::UnusedHashes { used: hashes_used, hashes: self.hashes.len() });
        }
        Ok(PartialTreeMatches { root: MerkleRoot::from_wire(root), matches })
    }
}

impl PartialMerkleTree {
    /// The matches of a tree that was [taken apart](Self::extract) before without an error; nothing is hashed again.
    pub(crate) fn checked_matches(&self) -> Vec<Txid> {
        let mut walker = Walker::new(self, false);
        let walked = walker.walk(tree_height(self.total_transactions), 0);
        debug_assert!(walked.is_ok(), "a broken tree: {walked:?}");
        walker.matches.into_iter().map(|(_, txid)| txid).collect()
    }
}

/// What a partial merkle tree holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PartialTreeMatches {
    /// The root that the hashes add up to.
    pub root: MerkleRoot,
    /// The matching transactions in block order, each with its position in the block.
    pub matches: Vec<(u32, Txid)>,
}

struct Node {
    hash: [u8; 32],
    /// Whether a leaf below, or the leaf itself, is a match.
    matches: bool,
}

struct Builder {
    /// From the leaves to the root.
    levels: Vec<Vec<Node>>,
    hashes: Vec<[u8; 32]>,
    bits: Vec<bool>,
}

impl Builder {
    fn walk(&mut self, level: usize, position: usize) {
        let node = &self.levels[level][position];
        self.bits.push(node.matches);
        if level == 0 || !node.matches {
            self.hashes.push(node.hash);
            return;
        }
        self.walk(level - 1, position * 2);
        if position * 2 + 1 < self.levels[level - 1].len() {
            self.walk(level - 1, position * 2 + 1);
        }
    }
}

struct Walker<'a> {
    tree: &'a PartialMerkleTree,
    flags_used: usize,
    hashes_used: usize,
    matches: Vec<(u32, Txid)>,
    /// Without hashing, the walk only finds the matches.
    is_hashing: bool,
}

impl<'a> Walker<'a> {
    fn new(tree: &'a PartialMerkleTree, is_hashing: bool) -> Self {
        Self { tree, flags_used: 0, hashes_used: 0, matches: Vec::new(), is_hashing }
    }

    /// The hash of the node at this place; never deeper than 32 calls, as the count has 32 bits.
    fn walk(&mut self, level: u32, position: u64) -> Result<[u8; 32], PartialTreeError> {
        let flags = self.tree.flags.get(self.flags_used / 8).ok_or(PartialTreeError::MissingFlags)?;
        let below = flags >> (self.flags_used % 8) & 1 == 1;
        self.flags_used += 1;
        if level == 0 || !below {
            let hash = *self.tree.hashes.get(self.hashes_used).ok_or(PartialTreeError::MissingHashes)?;
            self.hashes_used += 1;
            if below {
                // A leaf's position is below the count, which has 32 bits.
                self.matches.push((position as u32, Txid::from_wire(hash)));
            }
            return Ok(hash);
        }
        let left = self.walk(level - 1, position * 2)?;
        if position * 2 + 1 >= width(self.tree.total_transactions, level - 1) {
            return Ok(if self.is_hashing { hash_pair(&left, &left) } else { left });
        }
        let right = self.walk(level - 1, position * 2 + 1)?;
        if !self.is_hashing {
            return Ok(left);
        }
        if left == right {
            return Err(PartialTreeError::EqualSiblings { level: level - 1 });
        }
        Ok(hash_pair(&left, &right))
    }
}

/// The number of nodes at a level, from 0 for the leaves.
fn width(transactions: u32, level: u32) -> u64 {
    (u64::from(transactions) + (1 << level) - 1) >> level
}

/// The level of the root of a tree over so many transactions.
pub(crate) fn tree_height(transactions: u32) -> u32 {
    u64::from(transactions).next_power_of_two().trailing_zeros()
}

/// What is wrong with a partial merkle tree.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartialTreeError {
    /// The block has no transaction.
    NoTransactions,
    /// More transactions than 32 bits count.
    TooManyTransactions {
        /// How many.
        count: usize,
    },
    /// More hashes than the block has transactions.
    TooManyHashes {
        /// How many hashes there are.
        hashes: usize,
        /// How many transactions the block is said to have.
        total_transactions: u32,
    },
    /// Fewer flag bits than hashes.
    FewerFlagsThanHashes {
        /// How many bits there are.
        flags: usize,
        /// How many hashes there are.
        hashes: usize,
    },
    /// The walk needs more flag bits than there are.
    MissingFlags,
    /// The walk needs more hashes than there are.
    MissingHashes,
    /// Whole bytes of flags are left over.
    UnusedFlags {
        /// How many bits the walk took.
        used: usize,
        /// How many there are.
        flags: usize,
    },
    /// Hashes are left over.
    UnusedHashes {
        /// How many the walk took.
        used: usize,
        /// How many there are.
        hashes: usize,
    },
    /// A node equals its sibling, so a transaction could be shown twice.
    EqualSiblings {
        /// Their level, from 0 for the transactions.
        level: u32,
    },
    /// The tree has another root than the header.
    WrongRoot {
        /// The root in the header.
        expected: MerkleRoot,
        /// The root of the tree.
        got: MerkleRoot,
    },
}

impl fmt::Display for PartialTreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTransactions => f.write_str("partial merkle tree of a block without transactions"),
            Self::TooManyTransactions { count } => write!(f, "{count} transactions are more than 32 bits count"),
            Self::TooManyHashes { hashes, total_transactions } => {
                write!(f, "{hashes} hashes in a partial merkle tree of {total_transactions} transactions")
            }
            Self::FewerFlagsThanHashes { flags, hashes } => {
                write!(f, "{flags} flag bits in a partial merkle tree of {hashes} hashes")
            }
            Self::MissingFlags => f.write_str("partial merkle tree has too few flag bits"),
            Self::MissingHashes => f.write_str("partial merkle tree has too few hashes"),
            Self::UnusedFlags { used, flags } => {
                write!(f, "partial merkle tree uses {used} of its {flags} flag bits")
            }
            Self::UnusedHashes { used, hashes } => {
                write!(f, "partial merkle tree uses {used} of its {hashes} hashes")
            }
            Self::EqualSiblings { level } => {
                write!(f, "two siblings at level {level} of the partial merkle tree are equal")
            }
            Self::WrongRoot { expected, got } => {
                write!(f, "partial merkle tree has the root {got}, the header says {expected}")
            }
        }
    }
}

impl Error for PartialTreeError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::merkle_root;

    fn txids(n: u8) -> Vec<Txid> {
        (0..n).map(|i| Txid::from_wire([i; 32])).collect()
    }

    #[test]
    fn every_set_of_matches_of_small_blocks_comes_back() {
        for n in 1..=9 {
            let txids = txids(n);
            let root = merkle_root(txids.clone()).unwrap();
            for picked in 0..1_u32 << n {
                let tree = PartialMerkleTree::new(&txids, |i, _| picked >> i & 1 == 1).unwrap();
                let expected = (0..u32::from(n)).filter(|i| picked >> i & 1 == 1);
                let matches = expected.map(|i| (i, txids[i as usize])).collect();
                assert_eq!(tree.extract(), Ok(PartialTreeMatches { root, matches }), "{n} {picked:b}");
            }
        }
        assert_eq!(PartialMerkleTree::new(&[], |_, _| true), Err(PartialTreeError::NoTransactions));
    }

    #[test]
    fn heights_are_those_of_the_tree() {
        for (transactions, height) in [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (9, 4), (u32::MAX, 32)] {
            assert_eq!(tree_height(transactions), height, "{transactions}");
            assert_eq!(width(transactions, height), 1, "{transactions}");
        }
    }

    #[test]
    fn each_rule_refuses_what_breaks_it() {
        let whole = PartialMerkleTree::new(&txids(7), |i, _| i == 4).unwrap();
        assert!(whole.extract().is_ok());
        let broken = |change: &dyn Fn(&mut PartialMerkleTree)| {
            let mut tree = whole.clone();
            change(&mut tree);
            tree.extract().unwrap_err()
        };
        // Root, inner node, pair of leaves and the rest: seven nodes visited, four hashes.
        assert_eq!((whole.flags.len(), whole.hashes.len()), (1, 4));
        assert_eq!(broken(&|tree| tree.total_transactions = 0), PartialTreeError::NoTransactions);
        assert_eq!(
            broken(&|tree| tree.total_transactions = 3),
            PartialTreeError::TooManyHashes { hashes: 4, total_transactions: 3 }
        );
        assert_eq!(
            broken(&|tree| tree.flags.clear()),
            PartialTreeError::FewerFlagsThanHashes { flags: 0, hashes: 4 }
        );
        assert_eq!(broken(&|tree| tree.flags.push(0)), PartialTreeError::UnusedFlags { used: 7, flags: 16 });
        assert_eq!(
            broken(&|tree| tree.hashes.push([9; 32])),
            PartialTreeError::UnusedHashes { used: 4, hashes: 5 }
        );
        assert_eq!(broken(&|tree| tree.hashes.truncate(3)), PartialTreeError::MissingHashes);
        assert_eq!(
            broken(&|tree| {
                tree.flags = vec![0xff];
                tree.hashes = vec![[1; 32], [2; 32], [3; 32], [4; 32], [5; 32], [6; 32], [7; 32]];
            }),
            PartialTreeError::MissingFlags
        );
    }

    #[test]
    fn equal_siblings_are_refused_though_the_root_is_right() {
        // Six transactions, and the same with the last two again: one root, two trees.
        let six = txids(6);
        let eight = [&six[..], &six[4..]].concat();
        let honest = PartialMerkleTree::new(&six, |i, _| i == 4).unwrap().extract().unwrap();
        assert_eq!(honest.matches, [(4, six[4])]);
        let mutated = PartialMerkleTree::new(&eight, |i, _| i == 6).unwrap();
        assert_eq!(mutated.extract(), Err(PartialTreeError::EqualSiblings { level: 1 }));
    }

    #[test]
    fn a_count_of_billions_costs_no_more_than_the_flags_given() {
        let tree =
            PartialMerkleTree { total_transactions: u32::MAX, hashes: vec![[1; 32]; 3], flags: vec![0xff; 4] };
        assert_eq!(tree.extract(), Err(PartialTreeError::MissingFlags));
    }
}
