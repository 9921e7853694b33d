//! Serving: what the engine has for a peer goes into its outbound queue, in lots and as far as there is room.

use std::sync::Arc;

use super::Shared;
use super::shared::Core;
use crate::engine::Now;
use crate::message::{Inventory, Message};
use crate::peer::{ConnectionId, PeerId};
use crate::proto::{FrameRun, PeerLimits, Tally};
use crate::queue::link::LinkState;
use crate::queue::outbound::budget::{Refused, Wait};
use crate::queue::outbound::{Command, SMALL_PAYLOAD, send_cost};
use crate::wire::{self, Frame, FrameHeader};

/// What one entry into the engine gave for a peer.
#[derive(Default)]
struct Lot {
    announced: Vec<Inventory>,
    served: Vec<Frame>,
    /// There is nothing more, or no room for it; `Writable` brings us back.
    is_last: bool,
}

impl Shared {
    /// Tells a peer of transactions and sends it those it asked for, as far as its outbound queue has room; goes on when
    /// it has again.
    ///
    /// One thread at a time does so, as the order is that in which transactions spend from each other; whoever comes
    /// meanwhile leaves it to that one.
    pub(super) fn serve(self: &Arc<Self>, peer: PeerId) {
        let Some(link) = self.link(peer) else { return };
        if !link.serving.begin() {
            return;
        }
        loop {
            let lot = self.enter(|core, now| self.take_lot(core, now, peer, &link));
            let is_last = lot.is_last;
            self.send_lot(link.connection, lot);
            if is_last && link.serving.is_done() {
                return;
            }
        }
    }

    /// Takes from the engine what there is room for, and charges it.
    fn take_lot(&self, core: &mut Core, now: Now, peer: PeerId, link: &LinkState) -> Lot {
        let mut lot = Lot::default();
        let limit = PeerLimits::new(link.limit.load(std::sync::atomic::Ordering::Acquire)).of(wire::Command::INV);
        let most = usize::try_from(limit.saturating_sub(COUNT_LEN) / ITEM_LEN).unwrap_or(usize::MAX);
        let Some((connection, count)) = core.engine.announcements(peer, most.min(LOT_ITEMS)) else {
            return Lot { is_last: true, ..lot };
        };
        if connection != link.connection {
            // It is a new one, with a link of its own.
            return Lot { is_last: true, ..lot };
        }
        let charge = |len| self.outbound.budget.charge_served(connection, send_cost(len));
        let mut refused = None;
        if count > 0 {
            match charge(FrameHeader::BASIC_LEN + inventory_len(count)) {
                Ok(()) => lot.announced = core.engine.take_announcements(now, peer, count),
                Err(error) => refused = Some(error),
            }
        }
        let mut bytes = 0;
        while refused.is_none() && lot.served.len() < LOT_ITEMS && bytes < FrameRun::LIMIT {
            let Some(frame) = core.engine.next_to_serve(peer) else {
                lot.is_last = lot.announced.len() < LOT_ITEMS.min(most);
                return lot;
            };
            match charge(frame.len()) {
                Ok(()) => {
                    core.engine.mark_served(now, peer);
                    bytes += frame.len();
                    lot.served.push(frame);
                }
                Err(error) => refused = Some(error),
            }
        }
        lot.is_last = match refused {
            None => false,
            Some(Refused::Full) => self.outbound.budget.watch(connection),
            // Gone: what it asked for goes with it.
            Some(_) => true,
        };
        lot
    }

    /// Tells a peer that we do not have what it asked for, as nodes do; of blocks they say nothing (section 2.5 of the wire
    /// specification). A peer that does not read its answers gets none.
    pub(super) fn answer_not_found(&self, peer: PeerId, items: &[Inventory]) {
        let Some(link) = self.link(peer) else { return };
        let missing = items.iter().filter(|item| item.txid().is_some()).copied();
        let missing: Vec<Inventory> = missing.collect();
        for items in missing.chunks(LOT_ITEMS) {
            let frame = Message::NotFound(items.to_vec()).to_frame(self.config.network.magic());
            if self.outbound.budget.charge(link.connection, send_cost(frame.len()), Wait::No).is_err() {
                return;
            }
            self.command(Command::Send { connection: link.connection, frame });
        }
    }

    fn send_lot(&self, connection: ConnectionId, lot: Lot) {
        if lot.announced.is_empty() && lot.served.is_empty() {
            return;
        }
        if !lot.announced.is_empty() {
            let frame = Message::Inv(lot.announced).to_frame(self.config.network.magic());
            self.outbound.push(Command::Send { connection, frame });
        }
        let mut run =
            RunFor { connections: Arc::new([connection]), run: FrameRun::default(), commands: Tally::default() };
        for frame in lot.served {
            if frame.len() > SMALL_PAYLOAD {
                // Larger ones are cheaper shared than copied.
                self.outbound.extend(run.take());
                self.outbound.push(Command::Send { connection, frame });
                continue;
            }
            if !run.run.has_room(frame.len()) {
                self.outbound.extend(run.take());
            }
            run.push(&frame);
        }
        self.outbound.extend(run.take());
        self.waker().wake();
    }
}

/// A run of small frames for one peer.
struct RunFor {
    connections: Arc<[ConnectionId]>,
    run: FrameRun,
    commands: Tally,
}

impl RunFor {
    fn push(&mut self, frame: &Frame) {
        self.commands.add(frame.command());
        self.run.push(frame.len(), |out| out.extend_from_slice(frame));
    }

    /// The command to send it, unless it is empty.
    fn take(&mut self) -> Option<Command> {
        if self.run.is_empty() {
            return None;
        }
        let mut run = std::mem::take(&mut self.run);
        run.shrink();
        let commands = std::mem::take(&mut self.commands);
        Some(Command::SendRun { connections: self.connections.clone(), run: Arc::new(run), commands })
    }
}

/// Bytes of an inventory of so many items.
fn inventory_len(count: usize) -> usize {
    let prefix = if count < 0xfd { 1 } else { 3 };
    prefix + count * ITEM_LEN as usize
}

/// The most bytes that the count of an inventory takes.
const COUNT_LEN: u64 = 9;
/// An item of an inventory.
const ITEM_LEN: u64 = 36;
/// Ids announced, and transactions served, to one peer for one entry into the engine.
const LOT_ITEMS: usize = 1_000;
