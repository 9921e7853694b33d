//! How a block is fetched, cut and proven.

use std::time::Duration;

use crate::block::{AssemblyOptions, BlockProof, ChunkContent};
use crate::error::BlockError;
use crate::peer::PeerId;

/// How a block is fetched, cut and proven, for [`Conduit::block_with`](crate::Conduit::block_with).
///
/// ```
/// use conduit::BlockOptions;
/// use conduit::block::ChunkContent;
///
/// let options = BlockOptions::new().chunk_size(1 << 20).content(ChunkContent::BytesAndTxids);
/// assert_eq!(options.chunk_size, 1_048_576);
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockOptions {
    /// Bytes of a chunk at most. The default is 4 MiB.
    ///
    /// The stream holds up to two of them besides its queue, which is of
    /// [`stream_queue_bytes`](crate::Config#structfield.stream_queue_bytes).
    pub chunk_size: usize,
    /// What chunks carry. The default is the bytes alone.
    pub content: ChunkContent,
    /// What is proven, and so what is hashed. The default is that the header commits to every byte.
    pub proof: BlockProof,
    /// The only peer that is asked; `None`, the default, asks the best, and the next best when one fails.
    pub peer: Option<PeerId>,
    /// How long nothing new may come before the stream ends with an error; within it, others are asked. `None`, the default,
    /// takes [`request_timeout`](crate::Config#structfield.request_timeout). Time in which the reader is slow does not
    /// count.
    pub timeout: Option<Duration>,
}

impl BlockOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            chunk_size: DEFAULT_CHUNK_SIZE,
            content: ChunkContent::Bytes,
            proof: BlockProof::Merkle,
            peer: None,
            timeout: None,
        }
    }

    /// Sets [`chunk_size`](Self#structfield.chunk_size).
    #[must_use]
    pub fn chunk_size(mut self, bytes: usize) -> Self {
        self.chunk_size = bytes;
        self
    }

    /// Sets [`content`](Self#structfield.content).
    #[must_use]
    pub fn content(mut self, content: ChunkContent) -> Self {
        self.content = content;
        self
    }

    /// Sets [`proof`](Self#structfield.proof).
    #[must_use]
    pub fn proof(mut self, proof: BlockProof) -> Self {
        self.proof = proof;
        self
    }

    /// Sets [`peer`](Self#structfield.peer).
    #[must_use]
    pub fn peer(mut self, peer: PeerId) -> Self {
        self.peer = Some(peer);
        self
    }

    /// Sets [`timeout`](Self#structfield.timeout).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    pub(super) fn check(&self) -> Result<AssemblyOptions, BlockError> {
        if self.chunk_size == 0 {
            return Err(BlockError::Invalid { what: "chunks of no bytes" });
        }
        if self.proof == BlockProof::Checksum && self.content != ChunkContent::Bytes {
            return Err(BlockError::Invalid { what: "txids without hashing the transactions" });
        }
        if self.timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(BlockError::Invalid { what: "a timeout of zero" });
        }
        let &Self { chunk_size, content, proof, .. } = self;
        Ok(AssemblyOptions { chunk_size, content, proof })
    }
}

impl Default for BlockOptions {
    fn default() -> Self {
        Self::new()
    }
}

const DEFAULT_CHUNK_SIZE: usize = 4 * 1_024 * 1_024;
