//! Blocks as a whole: what proves that transactions, all of them or some, belong to a header, and that work went into it.
//!
//! Pure: no I/O, no clock, no locks. Depends on `wire`, and on `message` for the header.

mod merkle;
mod partial;
mod work;

pub use merkle::{MerkleError, MerkleTree, merkle_root};
pub(crate) use merkle::{hash_pair, merkle_branch};
pub(crate) use partial::tree_height;
pub use partial::{PartialMerkleTree, PartialTreeError, PartialTreeMatches};
pub(crate) use work::proven_work;
