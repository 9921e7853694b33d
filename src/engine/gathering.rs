//! A filtered block on its way: the proof has come, the matching transactions follow one by one.
//!
//! Layer 4. Sections 2.6 and 4.4 of the wire specification: there is no end mark, so the matches are counted.

use std::collections::HashSet;

use super::request::RequestId;
use crate::message::{MerkleBlock, Transaction};
use crate::request::FilteredBlock;
use crate::wire::Txid;

/// The parts of a filtered block that have come.
#[derive(Debug)]
pub(super) struct Gathering {
    pub(super) request: RequestId,
    block: Box<FilteredBlock>,
    /// The matches that have not come.
    missing: HashSet<Txid>,
}

/// What a message was to a filtered block.
#[derive(Debug)]
pub(super) enum Gathered {
    /// A transaction of so many bytes, not the last one.
    More { request: RequestId, len: usize },
    /// The last part.
    Complete { request: RequestId, block: Box<FilteredBlock> },
}

impl Gathering {
    /// Begins with the proof, whose matches are `txids`.
    pub(super) fn new(request: RequestId, merkle_block: MerkleBlock, txids: Vec<Txid>) -> Self {
        let block = Box::new(FilteredBlock { merkle_block, transactions: Vec::new() });
        Self { request, block, missing: txids.into_iter().collect() }
    }

    pub(super) fn awaits(&self, txid: &Txid) -> bool {
        self.missing.contains(txid)
    }

    /// Takes a match; it is kept if somebody still waits for the block.
    pub(super) fn add(&mut self, transaction: Transaction, keep: bool) {
        self.missing.remove(&transaction.txid());
        if keep {
            self.block.transactions.push(transaction);
        }
    }

    /// Nobody waits for the block any more; its transactions are still not news.
    pub(super) fn forget_found(&mut self) {
        self.block.transactions = Vec::new();
    }

    pub(super) fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    pub(super) fn into_block(self) -> Box<FilteredBlock> {
        self.block
    }
}
