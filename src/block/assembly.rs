//! Cuts a block that arrives in pieces of any size into chunks, and proves it on the way.
//!
//! Layer 2. Sections 2.13 and 6.5 of the wire specification.

use std::mem;

use super::proof::Prover;
use super::{BlockFault, BlockProof, BlockScanner, BlockSummary, Boundary, Chunk, ChunkContent, Piece};
use crate::message::BlockHeader;
use crate::wire::BlockHash;

/// How a block is cut and proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AssemblyOptions {
    /// Bytes of a chunk at most; 0 counts as 1, and all above [`MAX_CHUNK_SIZE`] as that.
    pub(crate) chunk_size: usize,
    pub(crate) content: ChunkContent,
    pub(crate) proof: BlockProof,
}

/// One block on its way in: takes its bytes in any pieces, gives chunks, and in the end the proof.
///
/// A chunk ends behind the last whole transaction when `chunk_size` bytes are there, behind 65,536 transactions, and at
/// the end of the block. The cuts depend on the bytes and the options only, never on how the bytes arrive.
#[derive(Debug)]
pub(crate) struct Assembly {
    size: u64,
    chunk_size: usize,
    content: ChunkContent,
    scanner: BlockScanner,
    prover: Prover,
    /// The bytes behind `position`, fewer than a chunk's between two calls.
    buffer: Vec<u8>,
    /// Where the transaction that has not ended begins in the buffer.
    begun: usize,
    /// Up to where the checksum was computed in the buffer.
    summed: usize,
    /// Where the count ends in the buffer, if it ends there.
    head_end: Option<usize>,
    /// Where the transaction that is being cut into pieces began in the block.
    pieces_since: Option<u64>,
    /// Being filled with places and txids; its bytes come with the cut.
    chunk: Chunk,
    is_chunk_complete: bool,
    position: u64,
    stop_at: Option<u64>,
    digest: [u8; 32],
    fault: Option<BlockFault>,
}

impl Assembly {
    /// Starts before the first byte of a payload of `size` bytes, in a frame that may hold a checksum.
    pub(crate) fn new(
        hash: BlockHash,
        size: u64,
        checksum: Option<[u8; 4]>,
        options: AssemblyOptions,
    ) -> Result<Self, BlockFault> {
        let AssemblyOptions { chunk_size, content, proof } = options;
        let prover = Prover::new(hash, checksum, proof, content != ChunkContent::Bytes);
        Ok(Self {
            size,
            chunk_size: chunk_size.clamp(1, MAX_CHUNK_SIZE),
            content,
            scanner: BlockScanner::new(size)?,
            digest: prover.digest(0),
            prover,
            buffer: Vec::new(),
            begun: 0,
            summed: 0,
            head_end: None,
            pieces_since: None,
            chunk: Chunk::default(),
            is_chunk_complete: false,
            position: 0,
            stop_at: None,
            fault: None,
        })
    }

    /// Ends a chunk at a place where one of another copy of the block ended, if a transaction ends there.
    ///
    /// Where the last chunk of a copy ends depends on what follows in that copy.
    pub(crate) const fn stop_at(&mut self, position: u64) {
        self.stop_at = Some(position);
    }

    /// Takes from the front of `input` until a chunk is complete (true) or the input is used up (false).
    ///
    /// Behind the end of the block it takes nothing. After a fault every call gives the same.
    pub(crate) fn push(&mut self, input: &mut &[u8]) -> Result<bool, BlockFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        self.push_checked(input).inspect_err(|fault| self.fault = Some(*fault))
    }

    /// The chunk that `push` completed, until the next `push`.
    pub(crate) const fn chunk(&self) -> &Chunk {
        &self.chunk
    }

    /// The header, once its bytes are in and its hash is the one asked for.
    pub(crate) const fn header(&self) -> Option<&BlockHeader> {
        self.prover.header()
    }

    /// The end of the last complete chunk, in the block.
    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    /// Commits to every byte before `position`, whatever the chunk size; to be compared for the same hash and proof only.
    pub(crate) const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Whether the last byte is in.
    pub(crate) const fn is_complete(&self) -> bool {
        self.scanner.is_complete()
    }

    /// Proves the block once the last byte is in, before the last chunk is handed out.
    pub(crate) fn finish(&mut self) -> Result<BlockSummary, BlockFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        self.finish_checked().inspect_err(|fault| self.fault = Some(*fault))
    }

    fn finish_checked(&mut self) -> Result<BlockSummary, BlockFault> {
        self.scanner.finish()?;
        self.prover.finish(self.size)
    }

    fn push_checked(&mut self, input: &mut &[u8]) -> Result<bool, BlockFault> {
        if mem::take(&mut self.is_chunk_complete) {
            self.chunk.restart(self.position, self.prover.transactions());
        }
        while !input.is_empty() && !self.scanner.is_complete() {
            // There is room: what is left of a cut is smaller than a chunk.
            let start = self.buffer.len();
            let room = (self.chunk_size - start).min(self.until_stop());
            let window = input.len().min(room).min(WINDOW);
            // Copied first, as bytes are read fastest in order: those that the scanner looks at are then in the cache.
            self.keep(&input[..window]);
            let is_at_end = self.scan(start)?;
            *input = &input[self.buffer.len() - start..];
            if let Some(end) = self.cut_at(is_at_end) {
                self.cut(end, is_at_end);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Finds and proves what ends in the bytes behind `start`. If the chunk ends there (true), gives back those behind.
    fn scan(&mut self, start: usize) -> Result<bool, BlockFault> {
        let mut at = start;
        let mut is_at_end = false;
        while !is_at_end && at < self.buffer.len() {
            let mut rest = &self.buffer[at..];
            if !self.prover.is_coinbase_checked() {
                // Byte by byte, so that of two faults the same one is found at every split.
                rest = &rest[..1];
            }
            let (taken, boundary) = self.scanner.scan(rest)?;
            if !self.prover.is_coinbase_checked() {
                self.prover.see(&rest[..taken]);
                self.prover.check_coinbase()?;
            }
            at += taken;
            match boundary {
                None => {}
                Some(Boundary::Header) => self.prover.check_header()?,
                Some(Boundary::Count(_)) => {
                    self.prover.end_count();
                    self.head_end = Some(at);
                    self.begun = at;
                }
                Some(_) if self.pieces_since.is_some() => is_at_end = true,
                Some(end) => {
                    let txid = self.prover.transaction(&self.buffer[self.begun..at]);
                    if self.content != ChunkContent::Bytes {
                        self.chunk.txids.extend(txid);
                    }
                    // No chunk is larger than MAX_CHUNK_SIZE.
                    self.chunk.ends.push(at as u32);
                    self.begun = at;
                    is_at_end = end == Boundary::End || self.chunk.ends.len() == MAX_TRANSACTIONS;
                }
            }
        }
        self.buffer.truncate(at);
        if self.pieces_since.is_none() {
            self.sum(self.begun);
        }
        Ok(is_at_end)
    }

    /// Hands the bytes up to `end` in the buffer to the prover of the checksum.
    fn sum(&mut self, end: usize) {
        self.prover.payload(&self.buffer[self.summed..end]);
        self.summed = end;
    }

    /// Stores bytes; the buffer grows with what came, not with what was announced.
    fn keep(&mut self, bytes: &[u8]) {
        let needed = self.buffer.len() + bytes.len();
        if needed > self.buffer.capacity() {
            let limit = usize::try_from(self.size).map_or(self.chunk_size, |size| size.min(self.chunk_size));
            let goal = needed.max((2 * self.buffer.capacity()).min(limit));
            self.buffer.reserve_exact(goal - self.buffer.len());
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes up to where another chunk has to end.
    fn until_stop(&self) -> usize {
        let here = self.position + self.buffer.len() as u64;
        let left = self.stop_at.and_then(|stop| stop.checked_sub(here)).filter(|&left| left > 0);
        left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX))
    }

    /// Where in the buffer the chunk ends, if it does.
    fn cut_at(&self, is_at_end: bool) -> Option<usize> {
        let len = self.buffer.len();
        if is_at_end {
            return Some(len);
        }
        let boundary = self.chunk.ends.last().map(|end| *end as usize).or(self.head_end);
        if len < self.chunk_size {
            let is_stop = self.stop_at == Some(self.position + len as u64);
            return boundary.filter(|&boundary| is_stop && boundary == len);
        }
        Some(boundary.unwrap_or(len))
    }

    fn cut(&mut self, end: usize, is_at_end: bool) {
        let is_piece = self.chunk.ends.is_empty() && self.head_end.is_none() && self.prover.has_count();
        if is_piece {
            let since = *self.pieces_since.get_or_insert(self.position);
            let txid = self.prover.piece(&self.buffer[..end], is_at_end);
            self.chunk.txids.extend(txid.filter(|_| self.content != ChunkContent::Bytes));
            let (index, offset) = (self.chunk.first_index, self.position - since);
            self.chunk.piece = Some(Piece { index, offset, is_last: is_at_end });
            if is_at_end {
                self.pieces_since = None;
            }
        }
        self.sum(end);
        // No chunk is larger than MAX_CHUNK_SIZE.
        self.chunk.first_start = self.head_end.take().unwrap_or_default() as u32;
        (self.begun, self.summed) = (0, 0);
        self.position += end as u64;
        self.digest = self.prover.digest(self.position);
        self.is_chunk_complete = true;
        if self.content == ChunkContent::Txids {
            self.buffer.drain(..end);
            return;
        }
        mem::swap(&mut self.buffer, &mut self.chunk.bytes);
        let tail = mem::take(&mut self.chunk.bytes);
        self.keep(&tail[end..]);
        self.chunk.bytes = tail;
        self.chunk.bytes.truncate(end);
    }
}

/// The largest chunk, so that places in it take 32 bits.
pub(crate) const MAX_CHUNK_SIZE: usize = 1 << 30;
/// Transactions of a chunk at most, so that small ones do not make its lists larger than its bytes.
const MAX_TRANSACTIONS: usize = 65_536;
/// Bytes taken at once, so that they are still in the cache when they are hashed.
const WINDOW: usize = 16 * 1_024;

#[cfg(test)]
mod tests;
