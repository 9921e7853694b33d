//! A block's transactions one by one, each copied out.

use std::collections::VecDeque;
use std::iter::FusedIterator;

use super::stream::BlockStream;
use crate::block::{BlockSummary, Chunk, ChunkContent};
use crate::error::BlockError;
use crate::message::Transaction;

/// Iterates over a block's transactions, waiting for each; made by [`BlockStream::transactions`].
///
/// Provisional until the iterator ends without an error, as the chunks are.
#[derive(Debug)]
pub struct Transactions {
    stream: BlockStream,
    limit: usize,
    /// Those of the last chunk, in order.
    ready: VecDeque<Transaction>,
    /// What has come of a transaction that is larger than a chunk.
    pieces: Vec<u8>,
    /// How it ended, or ends behind those that are ready.
    end: Option<Result<(), BlockError>>,
}

impl Transactions {
    pub(super) fn new(stream: BlockStream, limit: usize) -> Self {
        Self { stream, limit, ready: VecDeque::new(), pieces: Vec::new(), end: None }
    }

    /// The stream that they are taken from.
    #[must_use]
    pub const fn stream(&self) -> &BlockStream {
        &self.stream
    }

    /// What is proven, once the iterator has ended; `None` before, and after an error.
    #[must_use]
    pub fn summary(&self) -> Option<&BlockSummary> {
        self.stream.summary()
    }

    fn advance(&mut self) -> Result<bool, BlockError> {
        if self.stream.content() == ChunkContent::Txids {
            return Err(BlockError::Invalid { what: "transactions of a stream of txids" });
        }
        let Some(chunk) = self.stream.next_chunk()? else { return Ok(false) };
        let limit = self.limit;
        if let Some(piece) = chunk.piece() {
            if self.pieces.len() + chunk.bytes().len() > limit {
                return Err(BlockError::TransactionTooLarge { index: piece.index, limit });
            }
            self.pieces.extend_from_slice(chunk.bytes());
            if piece.is_last {
                let raw = std::mem::take(&mut self.pieces);
                // The scanner has found where it ends, so this does not fail.
                let transaction = Transaction::from_raw(raw);
                self.ready.extend(transaction);
            }
            return Ok(true);
        }
        take_whole(chunk, limit, &mut self.ready)?;
        Ok(true)
    }
}

fn take_whole(chunk: &Chunk, limit: usize, ready: &mut VecDeque<Transaction>) -> Result<(), BlockError> {
    for transaction in chunk.transactions() {
        if transaction.raw.len() > limit {
            return Err(BlockError::TransactionTooLarge { index: transaction.index, limit });
        }
        ready.push_back(transaction.to_transaction());
    }
    Ok(())
}

impl Iterator for Transactions {
    type Item = Result<Transaction, BlockError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(transaction) = self.ready.pop_front() {
                return Some(Ok(transaction));
            }
            match self.end.replace(Ok(())) {
                Some(Ok(())) => return None,
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    self.end = match self.advance() {
                        Ok(true) => None,
                        Ok(false) => Some(Ok(())),
                        Err(error) => Some(Err(error)),
                    };
                }
            }
        }
    }
}

impl FusedIterator for Transactions {}
