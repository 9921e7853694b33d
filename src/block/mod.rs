//! Blocks as a whole: what proves that transactions, all of them or some, belong to a header.
//!
//! Pure: no I/O, no clock, no locks. Depends on `wire` only.

mod merkle;
mod partial;

pub use merkle::{MerkleError, MerkleTree, merkle_root};
pub(crate) use merkle::{hash_pair, merkle_branch};
pub(crate) use partial::tree_height;
pub use partial::{PartialMerkleTree, PartialTreeError, PartialTreeMatches};
