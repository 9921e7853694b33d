//! Parts of a block as they are handed out: whole transactions, or pieces of one that is too large.
//!
//! Layer 2. Depends on `wire`, and on `message` for the view of a transaction.

use std::fmt;
use std::iter::FusedIterator;

use crate::message::{Transaction, TransactionView};
use crate::wire::Txid;

/// A part of a block, cut where transactions end.
///
/// The bytes of all chunks of a block, one behind the other, are the block: the first chunk begins with header and
/// count. A transaction larger than a chunk comes in [pieces](Self::piece), each in a chunk of its own.
///
/// A chunk is provisional until the end of its block proves it: only then is it known that the header commits to these
/// transactions.
#[derive(Clone, Default)]
pub struct Chunk {
    pub(super) offset: u64,
    /// Empty where only txids are handed out.
    pub(super) bytes: Vec<u8>,
    /// Where the first transaction begins in the bytes.
    pub(super) first_start: u32,
    pub(super) first_index: u64,
    /// Where each transaction ends in the bytes; none in a piece.
    pub(super) ends: Vec<u32>,
    /// Empty if nobody asked for them; else one for each transaction that ends in this chunk.
    pub(super) txids: Vec<Txid>,
    pub(super) piece: Option<Piece>,
}

impl Chunk {
    /// Where the chunk begins in the block, in bytes.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes of the block that this chunk holds; empty for [`ChunkContent::Txids`].
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The index in the block of the first transaction that ends in this chunk, or of the one that it is a piece of.
    #[must_use]
    pub const fn first_index(&self) -> u64 {
        self.first_index
    }

    /// The whole transactions in this chunk, in order, borrowed.
    ///
    /// None in a piece, none for [`ChunkContent::Txids`], and none in a chunk so small that it only holds the block's
    /// header.
    #[must_use]
    pub fn transactions(&self) -> BlockTransactions<'_> {
        // Without the bytes there is nothing to borrow.
        let len = if self.bytes.is_empty() { 0 } else { self.ends.len() };
        BlockTransactions { chunk: self, next: 0, len, start: self.first_start as usize }
    }

    /// The txids of all transactions that end in this chunk, in order, a last piece's included.
    ///
    /// Empty for [`ChunkContent::Bytes`].
    #[must_use]
    pub fn txids(&self) -> &[Txid] {
        &self.txids
    }

    /// Which piece this is, if the chunk is a piece of a transaction that is larger than a chunk.
    #[must_use]
    pub const fn piece(&self) -> Option<Piece> {
        self.piece
    }

    /// How many transactions end in this chunk.
    #[must_use]
    pub fn transaction_count(&self) -> usize {
        self.ends.len() + usize::from(self.piece.is_some_and(|piece| piece.is_last))
    }

    /// Empties it for what follows in the block.
    pub(super) fn restart(&mut self, offset: u64, first_index: u64) {
        self.offset = offset;
        self.bytes.clear();
        self.first_start = 0;
        self.first_index = first_index;
        self.ends.clear();
        self.txids.clear();
        self.piece = None;
    }
}

/// Shows where it lies and what it holds, but no bytes.
impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk")
            .field("offset", &self.offset)
            .field("bytes", &self.bytes.len())
            .field("first_index", &self.first_index)
            .field("transactions", &self.ends.len())
            .field("txids", &self.txids.len())
            .field("piece", &self.piece)
            .finish()
    }
}

/// Where a piece belongs in its transaction.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Piece {
    /// The index of the transaction in the block.
    pub index: u64,
    /// Where the piece begins in the transaction, in bytes.
    pub offset: u64,
    /// Whether the transaction ends with this piece.
    pub is_last: bool,
}

/// What chunks carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ChunkContent {
    /// The bytes, and where each transaction lies in them.
    #[default]
    Bytes,
    /// The same, and each transaction's id.
    BytesAndTxids,
    /// Only the ids of the transactions.
    Txids,
}

/// A whole transaction of a block, borrowed from its chunk.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BlockTransaction<'a> {
    /// Its index in the block, from 0.
    pub index: u64,
    /// Where it begins in the block, in bytes.
    pub offset: u64,
    /// Where it begins in its chunk, in bytes.
    pub start: usize,
    /// Its id; `None` for [`ChunkContent::Bytes`].
    pub txid: Option<Txid>,
    /// Its bytes.
    pub raw: &'a [u8],
}

impl<'a> BlockTransaction<'a> {
    /// The transaction to be read in place.
    #[must_use]
    pub const fn view(&self) -> TransactionView<'a> {
        TransactionView::of_checked(self.raw)
    }

    /// Copies the transaction out; it is hashed only if its id is not here already.
    #[must_use]
    pub fn to_transaction(&self) -> Transaction {
        match self.txid {
            Some(txid) => self.view().to_transaction_of(txid),
            None => self.view().to_transaction(),
        }
    }
}

/// Shows place and size; scripts may be megabytes long.
impl fmt::Debug for BlockTransaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockTransaction")
            .field("index", &self.index)
            .field("offset", &self.offset)
            .field("start", &self.start)
            .field("txid", &self.txid)
            .field("raw", &self.raw.len())
            .finish()
    }
}

/// Iterates over the whole transactions of a chunk.
#[derive(Clone, Debug)]
pub struct BlockTransactions<'a> {
    chunk: &'a Chunk,
    next: usize,
    len: usize,
    /// Where the next one begins in the chunk.
    start: usize,
}

impl<'a> Iterator for BlockTransactions<'a> {
    type Item = BlockTransaction<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (chunk, start) = (self.chunk, self.start);
        if self.next == self.len {
            return None;
        }
        let end = *chunk.ends.get(self.next)? as usize;
        let transaction = BlockTransaction {
            index: chunk.first_index + self.next as u64,
            offset: chunk.offset + start as u64,
            start,
            txid: chunk.txids.get(self.next).copied(),
            raw: chunk.bytes.get(start..end)?,
        };
        (self.next, self.start) = (self.next + 1, end);
        Some(transaction)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.len - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for BlockTransactions<'_> {}

impl FusedIterator for BlockTransactions<'_> {}
