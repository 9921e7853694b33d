//! Blocks as a whole: where their transactions end, the chunks they are cut into, what proves that transactions, all of
//! them or some, belong to a header, and that work went into it.
//!
//! Pure: no I/O, no clock, no locks. Depends on `wire`, and on `message` for the header.

mod assembly;
mod chunk;
mod merkle;
mod partial;
mod proof;
#[cfg(test)]
mod samples;
mod scanner;
mod work;

pub(crate) use assembly::{Assembly, AssemblyOptions};
pub use chunk::{BlockTransaction, BlockTransactions, Chunk, ChunkContent, Piece};
pub use merkle::{MerkleError, MerkleTree, merkle_root};
pub(crate) use merkle::{hash_pair, merkle_branch};
pub(crate) use partial::tree_height;
pub use partial::{PartialMerkleTree, PartialTreeError, PartialTreeMatches};
pub use proof::{BlockFault, BlockProof, BlockSummary};
pub use scanner::{BlockScanner, Boundary, Claim, ScanError};
pub(crate) use work::proven_work;
