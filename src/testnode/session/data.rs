//! What the peer asks for by its hash.
//!
//! Section 2.5 of the wire specification.

use super::{End, Session};
use crate::message::{Inventory, InventoryKind, Message};
use crate::wire::{BlockHash, Txid};

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
                InventoryKind::DataRefTransaction => missing.push(*item),
                InventoryKind::Block | InventoryKind::CompactBlock | InventoryKind::FilteredBlock => {
                    let hash = BlockHash::from_wire(item.hash);
                    let frame = self.node.world.lock().chain.frame(&hash).cloned();
                    if let Some(frame) = frame.filter(|_| item.kind != InventoryKind::FilteredBlock)
                        && !self.line.answer(frame)
                    {
                        return Err(End::Closed);
                    }
                    // A block ends a pass, and the end of a pass tells what was not there.
                    self.tell_missing(&mut missing)?;
                }
                InventoryKind::Other(_) => {}
            }
        }
        self.tell_missing(&mut missing)
    }

    pub(super) fn tell_missing(&mut self, missing: &mut Vec<Inventory>) -> Result<(), End> {
        if missing.is_empty() { Ok(()) } else { self.send(&Message::NotFound(std::mem::take(missing))) }
    }
}
