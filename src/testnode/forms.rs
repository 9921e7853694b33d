//! The forms of a block other than the whole: its header with its coinbase, its proven parts, its short ids.
//!
//! Pure. Sections 2.6, 2.12, 2.26, 2.37, 6.6 and 6.7 of the wire specification.

use crate::block::PartialMerkleTree;
use crate::message::{
    Block, BloomFilter, CompactBlock, EnrichedHeader, MerkleBlock, MerkleProof, Message, ProofTarget,
    ProvenTransaction, Transaction, TransactionView,
};
use crate::wire::{Txid, compact_size_len};

/// A transaction of a block, proven as in `datareftx`; `None` if the block does not have it.
pub(super) fn proven(block: &Block, txid: &Txid) -> Option<ProvenTransaction> {
    let txids = txids(block);
    let index = txids.iter().position(|other| other == txid)?;
    let transaction = block.transactions().nth(index)?.to_transaction();
    let proof = MerkleProof::new(&txids, index, ProofTarget::BlockHash(block.hash()))?;
    Some(ProvenTransaction { transaction, proof })
}

/// A block's item in `hdrsen`.
pub(super) fn enriched(block: &Block, is_tip: bool) -> EnrichedHeader {
    let coinbase = block.transactions().next().and_then(|coinbase| proven(block, &coinbase.txid()));
    EnrichedHeader {
        header: *block.header(),
        // A message with more of them cannot be written.
        transaction_count: u32::try_from(block.transaction_count()).unwrap_or(u32::MAX),
        no_more_headers: is_tip,
        // A first transaction is never without a sibling, which the node would write otherwise here than in `datareftx`.
        coinbase: coinbase.map(Box::new),
        miner_info: None,
    }
}

/// As many of the items as a message of `limit` bytes holds, but always the first.
pub(super) fn up_to_limit(items: impl IntoIterator<Item = EnrichedHeader>, limit: u64) -> Vec<EnrichedHeader> {
    let mut taken = Vec::new();
    let mut bytes = 0;
    for item in items {
        let mut alone = Vec::new();
        Message::HdrsEn(vec![item.clone()]).encode_payload(&mut alone);
        // Without the count of one.
        bytes += alone.len() as u64 - 1;
        let count = taken.len() as u64 + 1;
        if count > 1 && bytes + compact_size_len(count) as u64 > limit {
            break;
        }
        taken.push(item);
    }
    taken
}

/// A block's `merkleblock` and the transactions behind it; without a filter these are all.
pub(super) fn filtered(block: &Block, filter: Option<&mut BloomFilter>) -> Option<(MerkleBlock, Vec<Transaction>)> {
    let mut matches: Vec<bool> = vec![true; block.transaction_count()];
    if let Some(filter) = filter {
        // In block order: what one transaction adds to the filter counts for those behind it.
        for (is_match, transaction) in matches.iter_mut().zip(block.transactions()) {
            *is_match = filter.matches(transaction);
        }
    }
    let tree = PartialMerkleTree::new(&txids(block), |index, _| matches[index]).ok()?;
    let parts = block.transactions().zip(&matches).filter(|(_, is_match)| **is_match);
    let parts = parts.map(|(transaction, _)| transaction.to_transaction()).collect();
    Some((MerkleBlock { header: *block.header(), tree }, parts))
}

/// A block's `cmpctblock`, with a nonce that follows from the block and `salt`.
pub(super) fn compact(block: &Block, salt: u64) -> Message {
    let hash = block.hash();
    let nonce = hash.as_wire().first_chunk().map_or(salt, |bytes| u64::from_le_bytes(*bytes) ^ salt);
    Message::CmpctBlock(Box::new(CompactBlock::new(block, nonce)))
}

fn txids(block: &Block) -> Vec<Txid> {
    block.transactions().map(|transaction: TransactionView<'_>| transaction.txid()).collect()
}
