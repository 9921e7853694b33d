//! Compact blocks that the peer sends: put together from the mempool and what the peer adds.
//!
//! Sections 2.26 to 2.28 of the wire specification.

use super::{End, Session};
use crate::message::{
    Block, BlockTxn, CompactBlock, CompactBlockError, Inventory, Message, PartialBlock, Reconstruction,
};
use crate::testnode::chain::proves_work;
use crate::wire::BlockHash;

/// A block for which the peer was asked for transactions.
#[derive(Debug)]
pub(super) struct Awaited {
    hash: BlockHash,
    block: PartialBlock,
}

impl Session {
    pub(super) fn compact_block(&mut self, compact: &CompactBlock) -> Result<(), End> {
        let (header, hash) = (compact.header(), compact.header().hash());
        let world = self.node.world.lock();
        let (is_known, connects) = (world.chain.contains(&hash), world.chain.contains(&header.previous));
        if !is_known && !connects {
            drop(world);
            return self.ask_headers(BlockHash::ZERO);
        }
        if !proves_work(header) {
            drop(world);
            return self.punish(50, "a header without proof of work");
        }
        self.known().state().peer.best = hash;
        if is_known {
            return Ok(());
        }
        let made = compact.reconstruct(world.pool.list());
        drop(world);
        match made {
            Ok(Reconstruction::Complete(block)) => self.block(&block),
            Ok(Reconstruction::Partial(block)) => {
                let request = block.request();
                self.awaited = Some(Awaited { hash, block });
                self.send(&Message::GetBlockTxn(request))
            }
            Err(error) => self.give_up(hash, &error, "invalid-cmpctblk"),
        }
    }

    pub(super) fn block_transactions(&mut self, answer: &BlockTxn) -> Result<(), End> {
        let Some(awaited) = self.awaited.take_if(|awaited| awaited.hash == answer.block_hash()) else {
            return Ok(());
        };
        let filled: Result<Block, CompactBlockError> = awaited.block.fill(answer);
        match filled {
            Ok(block) => self.block(&block),
            Err(error) => self.give_up(awaited.hash, &error, "invalid-cmpctblk-txns"),
        }
    }

    /// Asks for the whole block if chance broke the compact one, and punishes the peer if he did.
    fn give_up(&mut self, hash: BlockHash, error: &CompactBlockError, reason: &'static str) -> Result<(), End> {
        if !error.is_collision() {
            return self.punish(100, reason);
        }
        self.requested.insert(hash);
        self.send(&Message::GetData(vec![Inventory::block(hash)]))
    }
}
