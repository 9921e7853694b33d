//! One block as it comes, in chunks, whatever its size and however many peers it takes.

use std::fmt;
use std::io::{self, Read};
use std::task::{Context, Poll};
use std::time::Duration;

use super::intake::{Intake, Wait};
use super::transactions::Transactions;
use super::whole::Whole;
use crate::block::{BlockSummary, Chunk, ChunkContent};
use crate::driver::deadline_after;
use crate::error::BlockError;
use crate::message::BlockHeader;
use crate::peer::PeerId;
use crate::wire::BlockHash;

/// A block as it comes: read it by chunks, as bytes, or transaction by transaction.
///
/// Made by [`Conduit::block`](crate::Conduit::block), when the first peer has begun to send it. It is scanned, hashed and
/// checked in the thread that reads it.
///
/// - What is handed out is provisional until [`next_chunk`](Self::next_chunk) gives `None`: only then is it proven that it is
///   the block that was asked for. The last chunk is handed out only if all of it is.
/// - A peer that is lost, stops or lies is replaced by the next best, and the reader does not notice: what was handed out is
///   compared and skipped. Should the next peer's bytes differ from it, the stream ends with
///   [`Diverged`](BlockError::Diverged).
/// - Who reads slowly stops the socket of the peer that sends, and nothing else. That peer's other answers wait behind the
///   block.
/// - Dropped before its end, it frees the peer: what is left is skipped if that is little, else the connection is made anew.
///
/// ```no_run
/// # fn index(_: &[u8]) {}
/// # fn example(conduit: &conduit::Conduit, hash: conduit::BlockHash) -> Result<(), conduit::BlockError> {
/// let mut block = conduit.block(hash)?;
/// println!("{} bytes, made at {}", block.size(), block.header().time);
/// while let Some(chunk) = block.next_chunk()? {
///     for transaction in chunk.transactions() {
///         index(transaction.raw);
///     }
/// }
/// // Proven to be the block that was asked for.
/// # Ok(())
/// # }
/// ```
pub struct BlockStream {
    intake: Intake,
    header: BlockHeader,
    size: u64,
    /// The chunk that was reached last may be read.
    has_chunk: bool,
    /// How much of it was given to whoever reads bytes.
    read: usize,
}

impl BlockStream {
    /// Takes a download whose header is there.
    pub(super) fn new(intake: Intake) -> Result<Self, BlockError> {
        let header = *intake.header().ok_or(BlockError::Crashed)?;
        let size = intake.size().ok_or(BlockError::Crashed)?;
        Ok(Self { intake, header, size, has_chunk: false, read: 0 })
    }

    /// The hash that was asked for.
    #[must_use]
    pub const fn hash(&self) -> BlockHash {
        self.intake.hash()
    }

    /// The block's header. Its hash is the one that was asked for; whether there is work in it was not looked at.
    #[must_use]
    pub const fn header(&self) -> &BlockHeader {
        &self.header
    }

    /// The size of the block in bytes, as the peer at work says; provisional as all that it sends, and proven at the end.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Who sends it at the moment, or did last.
    #[must_use]
    pub const fn peer(&self) -> Option<PeerId> {
        self.intake.peer()
    }

    /// What is proven, once the end was reached; `None` before.
    #[must_use]
    pub fn summary(&self) -> Option<&BlockSummary> {
        self.intake.summary()
    }

    /// The next chunk, waiting for it; `None` once the block is complete and proven.
    ///
    /// Waits at most as long as nothing new comes for [`timeout`](crate::BlockOptions#structfield.timeout).
    ///
    /// # Errors
    ///
    /// Why the block does not come to its end; the same again on every further call.
    pub fn next_chunk(&mut self) -> Result<Option<&Chunk>, BlockError> {
        // Without a deadline something always comes.
        self.next(Wait::Until(None)).unwrap_or(Err(BlockError::Crashed))
    }

    /// The next chunk, waiting for it at most this long; `None` if it did not come in time.
    ///
    /// # Errors
    ///
    /// As [`next_chunk`](Self::next_chunk).
    pub fn next_chunk_timeout(&mut self, timeout: Duration) -> Option<Result<Option<&Chunk>, BlockError>> {
        self.next(Wait::Until(deadline_after(timeout)))
    }

    /// The next chunk if it is there; `None` if not.
    ///
    /// # Errors
    ///
    /// As [`next_chunk`](Self::next_chunk).
    pub fn try_next_chunk(&mut self) -> Option<Result<Option<&Chunk>, BlockError>> {
        self.next(Wait::No)
    }

    /// The next chunk, for any executor; the waker of the last call is called when there is something to do.
    ///
    /// # Errors
    ///
    /// As [`next_chunk`](Self::next_chunk).
    pub fn poll_next_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<&Chunk>, BlockError>> {
        self.next(Wait::Poll(context.waker())).map_or(Poll::Pending, Poll::Ready)
    }

    /// The transactions one by one, copied out; one larger than `limit` bytes ends the iteration with
    /// [`TransactionTooLarge`](BlockError::TransactionTooLarge).
    ///
    /// To read them without copying, take them from the chunks. Their ids are those that were computed for the proof if the
    /// stream was opened with [`ChunkContent::BytesAndTxids`]; else each is hashed again.
    #[must_use]
    pub fn transactions(self, limit: usize) -> Transactions {
        Transactions::new(self, limit)
    }

    /// The whole block, proven, if it has at most `limit` bytes. Nothing may have been read before.
    ///
    /// As nothing is handed out before its end, every peer may begin anew, whatever the one before has sent.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](BlockError::TooLarge), and why the block does not come to its end.
    pub fn into_vec(mut self, limit: u64) -> Result<Vec<u8>, BlockError> {
        if self.has_chunk || self.intake.summary().is_some() {
            return Err(BlockError::Invalid { what: "into_vec on a block of which a part was read" });
        }
        if self.content() == ChunkContent::Txids {
            return Err(BlockError::Invalid { what: "into_vec on a stream of txids" });
        }
        Whole::new(&mut self.intake, limit).wait(&mut self.intake)
    }

    pub(super) const fn content(&self) -> ChunkContent {
        self.intake.content()
    }

    fn next(&mut self, wait: Wait<'_>) -> Option<Result<Option<&Chunk>, BlockError>> {
        self.has_chunk = false;
        self.read = 0;
        let reached = self.intake.reach_chunk(wait);
        self.size = self.intake.size().unwrap_or(self.size);
        let reached = reached?;
        self.has_chunk = reached == Ok(true);
        Some(reached.map(|is_chunk| self.intake.chunk().filter(|_| is_chunk)))
    }
}

/// The raw block, byte for byte; what was not read of the chunk handed out last comes first.
///
/// The end of the bytes is the end of the proof: a reader that has come to it has the block that was asked for. Errors are
/// [`BlockError`]s in an [`io::Error`].
impl Read for BlockStream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        if self.content() == ChunkContent::Txids {
            return Err(BlockError::Invalid { what: "bytes of a stream of txids" }.into());
        }
        loop {
            if self.has_chunk
                && let Some(chunk) = self.intake.chunk()
                && let Some(rest) = chunk.bytes().get(self.read..).filter(|rest| !rest.is_empty())
            {
                let n = rest.len().min(out.len());
                out[..n].copy_from_slice(&rest[..n]);
                self.read += n;
                return Ok(n);
            }
            if self.next_chunk()?.is_none() {
                return Ok(0);
            }
        }
    }
}

impl fmt::Debug for BlockStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockStream")
            .field("hash", &self.hash())
            .field("size", &self.size)
            .field("position", &self.intake.position())
            .finish_non_exhaustive()
    }
}
