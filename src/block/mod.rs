//! Blocks as a whole: what proves that a list of transactions belongs to a header.
//!
//! Pure: no I/O, no clock, no locks. Depends on `wire` only.

mod merkle;

pub use merkle::{MerkleError, MerkleTree, merkle_root};
