//! Transactions on one connection: announced by the peer, asked of it, taken from it.
//!
//! Sections 2.4, 2.10 and 5 of the wire specification.

use std::time::Duration;

use super::headers::HEADERS_TIMEOUT;
use super::{End, Session};
use crate::message::{Inventory, InventoryKind, Message, Transaction};
use crate::testnode::node::{Asked, News};
use crate::testnode::now;
use crate::testnode::pool::Verdict;
use crate::wire::{BlockHash, Command, Txid};

impl Session {
    pub(super) fn inventory(&mut self, items: &[Inventory]) -> Result<(), End> {
        let mut wanted = Vec::new();
        let mut blocks = Vec::new();
        let now = now();
        let is_syncing = self.node.switches.is_syncing();
        let mut world = self.node.world.lock();
        for item in items {
            match item.kind {
                InventoryKind::Transaction if is_syncing => {}
                InventoryKind::Transaction => {
                    let txid = Txid::from_wire(item.hash);
                    if let Some(count) = world.overlooked.get_mut(&txid) {
                        *count += 1;
                        self.node.changed.notify_all();
                        continue;
                    }
                    if !world.pool.wants(&txid) {
                        continue;
                    }
                    let asked = world.asked.entry(txid).or_insert_with(|| Asked {
                        announcers: Vec::new(),
                        at: 0,
                        since: now,
                    });
                    if !asked.announcers.contains(&self.line.whom.line) {
                        asked.announcers.push(self.line.whom.line);
                    }
                    if asked.is_asked(self.line.whom.line) {
                        asked.since = now;
                        wanted.push(*item);
                    } else if now >= asked.since + ASK_AGAIN_AFTER {
                        asked.at =
                            asked.announcers.iter().position(|id| *id == self.line.whom.line).unwrap_or(asked.at);
                        asked.since = now;
                        wanted.push(*item);
                    }
                }
                InventoryKind::Block => {
                    let hash = BlockHash::from_wire(item.hash);
                    if world.chain.contains(&hash) {
                        self.known().state().peer.best = hash;
                    } else {
                        blocks.push(hash);
                    }
                }
                _ => return Err(End::Punished("an inventory that may not be announced")),
            }
        }
        drop(world);
        for hash in blocks {
            let waiting = self.headers_asked.is_some_and(|since| now < since + HEADERS_TIMEOUT);
            if self.has_headers && (waiting || !self.requested.is_empty()) {
                self.has_more = true;
            } else {
                self.ask_headers(hash)?;
            }
        }
        let limit = self.known().state().peer.inventory_limit;
        wanted.chunks(limit).try_for_each(|items| self.send(&Message::GetData(items.to_vec())))
    }

    pub(super) fn not_found(&mut self, items: &[Inventory]) {
        let mut world = self.node.world.lock();
        let unanswered = items.iter().filter_map(Inventory::txid);
        let mut asked = Vec::new();
        for txid in unanswered {
            if world.asked.get(&txid).is_some_and(|asked| asked.is_asked(self.line.whom.line)) {
                asked.extend(world.ask_another(&txid));
            }
        }
        drop(world);
        for (line, txid) in asked {
            line.send_now(&Message::GetData(vec![Inventory::transaction(txid)]));
        }
    }

    pub(super) fn transaction(&mut self, transaction: &Transaction) -> Result<(), End> {
        let txid = transaction.txid();
        let mut world = self.node.world.lock();
        let fee_rate = world.fee_rate;
        let line = self.line.whom.line;
        let verdict = world.pool.offer(transaction, fee_rate, Some(line));
        let asked = world.asked.remove(&txid);
        let mut adopted = Vec::new();
        if verdict == Verdict::Accepted {
            adopted = world.pool.adopt(txid);
            self.node.changed.notify_all();
        }
        drop(world);
        match verdict {
            Verdict::Accepted => {
                let announcers = asked.map(|asked| asked.announcers).unwrap_or_default();
                let (transaction, from) = (transaction.clone(), Some(line));
                self.news.push(News { transaction, fee_rate, from, announcers });
                self.node.settle_orphans(adopted, &mut self.news);
                Ok(())
            }
            // Its sender has them, most likely, whoever announced them.
            Verdict::Orphaned(parents) if parents.is_empty() => Ok(()),
            Verdict::Orphaned(parents) => {
                self.send(&Message::GetData(parents.into_iter().map(Inventory::transaction).collect()))
            }
            Verdict::Dropped => Ok(()),
            Verdict::Rejected(code, reason, score) => {
                self.reject(Command::TX, code, reason, *txid.as_wire())?;
                self.punish(score, "an invalid transaction")
            }
        }
    }
}

/// A transaction that was not delivered for so long is asked of whoever announces it next.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(60);
