//! What the peer asks for by its hash: transactions, and blocks in all their forms.
//!
//! Sections 2.5, 2.7 and 2.27 of the wire specification.

use super::{End, Session};
use crate::message::{BlockTxn, GetBlockTxn, GetBlocks, Inventory, InventoryKind, Message, RejectCode};
use crate::proto::Stream;
use crate::testnode::chain::MAX_LISTED;
use crate::testnode::faults::{Delivery, Lie};
use crate::testnode::forms;
use crate::testnode::generated::GeneratedBlock;
use crate::testnode::source::Source;
use crate::wire::{BlockHash, Command, Frame, FrameHeader, Txid, checksum};

impl Session {
    pub(super) fn answer_data(&mut self, items: &[Inventory]) -> Result<(), End> {
        let mut missing = Vec::new();
        for item in items {
            match item.kind {
                InventoryKind::Transaction => {
                    let transaction = self.node.world.lock().pool.get(&Txid::from_wire(item.hash)).cloned();
                    match transaction {
                        Some(transaction) => self.send(&Message::Tx(transaction))?,
                        None => missing.push(*item),
                    }
                }
                InventoryKind::DataRefTransaction => {
                    let proven = self.node.world.lock().datarefs.get(&Txid::from_wire(item.hash)).cloned();
                    match proven {
                        Some(proven) => self.send(&Message::DataRefTx(Box::new(proven)))?,
                        None => missing.push(*item),
                    }
                }
                InventoryKind::Block | InventoryKind::CompactBlock | InventoryKind::FilteredBlock => {
                    self.answer_block(item.kind, BlockHash::from_wire(item.hash))?;
                    // A block ends a pass, and the end of a pass tells what was not there.
                    self.tell_missing(&mut missing)?;
                }
                InventoryKind::Other(_) => {}
            }
        }
        self.tell_missing(&mut missing)
    }

    /// Sends a block in the form asked for, or whole; nothing if the node does not have it.
    fn answer_block(&mut self, kind: InventoryKind, hash: BlockHash) -> Result<(), End> {
        let world = self.node.world.lock();
        if let Some(block) = world.offered.get(&hash).cloned() {
            drop(world);
            return if kind == InventoryKind::FilteredBlock { Ok(()) } else { self.send_generated(&block) };
        }
        let (Some(frame), Some(depth)) = (world.chain.frame(&hash).cloned(), world.chain.depth(&hash)) else {
            return Ok(());
        };
        let is_compact = kind == InventoryKind::CompactBlock && depth <= MAX_COMPACT_DEPTH;
        let is_whole = !is_compact && kind != InventoryKind::FilteredBlock;
        let block = if is_whole { None } else { world.chain.block(&hash) };
        drop(world);
        match block {
            Some(block) if is_compact => self.send(&forms::compact(&block, self.line.whom.line))?,
            Some(block) => {
                let filtered = forms::filtered(&block, self.known().state().peer.filter.as_mut());
                if let Some((proof, matches)) = filtered {
                    self.send(&Message::MerkleBlock(Box::new(proof)))?;
                    matches.into_iter().try_for_each(|transaction| self.send(&Message::Tx(transaction)))?;
                }
            }
            None => self.send_block(frame)?,
        }
        if self.last_listed.take_if(|last| *last == hash).is_some() {
            // The cue to ask for what follows the blocks that were listed.
            let tip = self.node.world.lock().chain.tip();
            self.send(&Message::Inv(vec![Inventory::block(tip)]))?;
        }
        Ok(())
    }

    /// Sends a whole block of the chain, or what a fault makes of it.
    fn send_block(&mut self, frame: Frame) -> Result<(), End> {
        match self.delivery()? {
            None => Ok(()),
            Some(lies) if lies.is_empty() => self.send_over(Stream::Data1, |line| line.answer(frame)),
            Some(lies) => {
                let checksum = checksum(frame.payload());
                let header = FrameHeader::new(self.line.magic, Command::BLOCK, 0, checksum);
                self.send_made(Source::of_bytes(frame.payload().to_vec()), header, &lies)
            }
        }
    }

    /// Sends a block that is made as it leaves; nothing if the peer is too old for its length.
    fn send_generated(&mut self, block: &GeneratedBlock) -> Result<(), End> {
        let header = block.frame_header(self.line.magic);
        if header.is_extended() && self.known().state().peer.version < EXTENDED_VERSION {
            return Ok(());
        }
        match self.delivery()? {
            None => Ok(()),
            Some(lies) => self.send_made(block.source(), header, &lies),
        }
    }

    /// What is to be changed in a block; `None` if the peer was told that the node is too busy.
    fn delivery(&mut self) -> Result<Option<Vec<Lie>>, End> {
        match self.line.deliver() {
            Delivery::Send(lies) => Ok(Some(lies)),
            Delivery::TooBusy => {
                self.say(Command::GETDATA, RejectCode::TooBusy, "Max blocks' downloading size exceeded.")?;
                Ok(None)
            }
        }
    }

    /// Sends a block with lies in it, behind a header that has the honest one's checksum.
    fn send_made(&mut self, mut block: Source, honest: FrameHeader, lies: &[Lie]) -> Result<(), End> {
        let mut is_fitted = false;
        for lie in lies {
            match *lie {
                Lie::Falsify { at, checksum_fits } => {
                    block.flip(at);
                    is_fitted |= checksum_fits;
                }
                Lie::Shorten(bytes) => {
                    block.shorten(bytes);
                    is_fitted = true;
                }
                Lie::Miscount(more) => {
                    block.miscount(more);
                    is_fitted = true;
                }
            }
        }
        let mut checksum = honest.checksum.unwrap_or_default();
        if is_fitted && block.len() <= u64::from(u32::MAX) {
            checksum.copy_from_slice(&block.digest()[..4]);
        }
        let header = FrameHeader::new(honest.magic, honest.command, block.len(), checksum);
        self.send_over(Stream::Data1, |line| line.answer_made(block.framed(&header)))
    }

    fn tell_missing(&mut self, missing: &mut Vec<Inventory>) -> Result<(), End> {
        if missing.is_empty() { Ok(()) } else { self.send(&Message::NotFound(std::mem::take(missing))) }
    }

    pub(super) fn answer_block_transactions(&mut self, request: &GetBlockTxn) -> Result<(), End> {
        let hash = request.block_hash;
        let world = self.node.world.lock();
        let (Some(block), Some(depth)) = (world.chain.block(&hash), world.chain.depth(&hash)) else {
            return Ok(());
        };
        drop(world);
        let (count, indexes) = (block.transaction_count(), request.indexes());
        if depth > MAX_BLOCKTXN_DEPTH {
            return self.answer_block(InventoryKind::Block, hash);
        }
        if indexes.last().is_some_and(|last| *last as usize >= count) {
            return self.punish(100, "out-of-bound-tx-index");
        }
        if indexes.len() * 100 > count * MAX_BLOCKTXN_PERCENT {
            return self.answer_block(InventoryKind::Block, hash);
        }
        let mut wanted = indexes.iter().copied().peekable();
        let transactions = (0..).zip(block.transactions());
        let transactions = transactions.filter(|(index, _)| wanted.next_if_eq(index).is_some());
        let answer = BlockTxn::new(hash, transactions.map(|(_, transaction)| transaction));
        self.send(&Message::BlockTxn(Box::new(answer)))
    }

    pub(super) fn answer_blocks(&mut self, request: &GetBlocks) -> Result<(), End> {
        let hashes = self.node.world.lock().chain.hashes_after(request);
        if hashes.is_empty() {
            return Ok(());
        }
        if hashes.len() == MAX_LISTED {
            self.last_listed = hashes.last().copied();
        }
        self.send(&Message::Inv(hashes.into_iter().map(Inventory::block).collect()))
    }
}

/// `MAX_CMPCTBLOCK_DEPTH` of the node: the deepest block it sends in compact form.
const MAX_COMPACT_DEPTH: u32 = 5;
/// `MAX_BLOCKTXN_DEPTH` of the node: the deepest block of which it sends single transactions.
const MAX_BLOCKTXN_DEPTH: u32 = 10;
/// `-maxblocktxnpercent` of the node: who wants more of a block gets all of it.
const MAX_BLOCKTXN_PERCENT: usize = 99;
/// The protocol version from which peers know extended headers.
const EXTENDED_VERSION: i32 = 70_016;
