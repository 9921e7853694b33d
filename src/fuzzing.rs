//! What the fuzz targets of `tests/fuzz` reach inside the library. Compiled with `--cfg fuzzing` only, as cargo-fuzz does.
//!
//! Nothing here adds anything: it only makes public what is not.

use crate::block::{Assembly, AssemblyOptions, BlockFault, BlockProof, BlockSummary, Chunk, ChunkContent};
use crate::message::BlockHeader;
use crate::wire::BlockHash;

/// One block on its way in, as a stream assembles it.
#[derive(Debug)]
pub struct BlockAssembly(Assembly);

impl BlockAssembly {
    /// Starts before the first byte.
    ///
    /// # Errors
    ///
    /// What the announced size alone gives away.
    pub fn new(
        hash: BlockHash,
        size: u64,
        checksum: Option<[u8; 4]>,
        chunk_size: usize,
        content: ChunkContent,
        proof: BlockProof,
    ) -> Result<Self, BlockFault> {
        Assembly::new(hash, size, checksum, AssemblyOptions { chunk_size, content, proof }).map(Self)
    }

    /// Takes bytes until a chunk is complete (true) or they are used up (false).
    ///
    /// # Errors
    ///
    /// What shows that this is not the block.
    pub fn push(&mut self, input: &mut &[u8]) -> Result<bool, BlockFault> {
        self.0.push(input)
    }

    /// The chunk that was completed.
    #[must_use]
    pub const fn chunk(&self) -> &Chunk {
        self.0.chunk()
    }

    /// The header, once it is known to be the one asked for.
    #[must_use]
    pub const fn header(&self) -> Option<&BlockHeader> {
        self.0.header()
    }

    /// The end of the last complete chunk.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.0.position()
    }

    /// Commits to every byte before the position.
    #[must_use]
    pub const fn digest(&self) -> [u8; 32] {
        self.0.digest()
    }

    /// Whether the last byte is in.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    /// Proves the block.
    ///
    /// # Errors
    ///
    /// What shows that this is not the block.
    pub fn finish(&mut self) -> Result<BlockSummary, BlockFault> {
        self.0.finish()
    }
}

/// Puts a block together over several peers as the script says, and panics where a rule is broken.
pub fn run_transfer(script: &[u8]) {
    crate::download::run_transfer_model(script);
}
