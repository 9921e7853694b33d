//! Serving: the transactions that peers ask for, in the order asked and as their queues have room.
//!
//! Layer 4. Sections 2.5 and 5.2 of the wire specification: a node also asks for the unconfirmed parents of what it was
//! sent, though it was told of none.

use std::collections::VecDeque;

use super::journey::{Journey, Stage, Told};
use super::{BroadcastId, Engine, Entry, Now, Record};
use crate::engine::Action;
use crate::message::{Inventory, InventoryKind};
use crate::peer::{ConnectionId, IdSet, PeerId};
use crate::wire::{Frame, Txid};

/// The transactions a peer shall be sent and was not yet, each once.
#[derive(Debug, Default)]
pub(in crate::engine) struct ToServe {
    queue: VecDeque<BroadcastId>,
    /// Always the members of `queue`.
    queued: IdSet<BroadcastId>,
    /// Parents of transactions of ours that it asked for and we did not have, the oldest first.
    unmet: VecDeque<Txid>,
}

impl ToServe {
    /// Puts a transaction at the end; false if it waits already.
    pub(super) fn push(&mut self, id: BroadcastId) -> bool {
        let is_new = self.queued.insert(id);
        if is_new {
            self.queue.push_back(id);
        }
        is_new
    }

    fn pop(&mut self) {
        if let Some(id) = self.queue.pop_front() {
            self.queued.remove(&id);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn note_unmet(&mut self, txid: Txid) {
        if self.unmet.contains(&txid) {
            return;
        }
        if self.unmet.len() >= MAX_UNMET {
            self.unmet.pop_front();
        }
        self.unmet.push_back(txid);
    }

    /// Whether this was asked for in vain; it is not any more.
    fn take_unmet(&mut self, txid: Txid) -> bool {
        let at = self.unmet.iter().position(|unmet| *unmet == txid);
        at.is_some_and(|at| self.unmet.remove(at).is_some())
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let Self { queue, queued, unmet } = self;
        assert!(queue.len() == queued.len() && queue.iter().all(|id| queued.contains(id)));
        assert!(unmet.len() <= MAX_UNMET);
    }
}

impl Engine {
    /// Queues the transactions a peer asks for; gives back what is not held.
    pub(in crate::engine) fn serve(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        mut items: Vec<Inventory>,
    ) -> Vec<Inventory> {
        if self.outbox.entries.is_empty() || self.session_mut(peer, connection).is_none() {
            return items;
        }
        let mut queued = false;
        items.retain(|item| {
            if item.kind != InventoryKind::Transaction {
                return true;
            }
            let Some(txid) = item.txid() else { return true };
            let Some(&id) = self.outbox.ids.get(&txid) else {
                self.note_unmet(peer, connection, txid);
                return true;
            };
            queued |= self.queue_to_serve(now, peer, id);
            false
        });
        if queued {
            self.actions.push_back(Action::Serve { peer });
        }
        items
    }

    /// A node asks for the parent of what it took to be an orphan once, and does not look at an `inv` of it for a while.
    fn note_unmet(&mut self, peer: PeerId, connection: ConnectionId, txid: Txid) {
        if self.outbox.has_child_of(txid)
            && let Some(session) = self.session_mut(peer, connection)
        {
            session.to_serve.note_unmet(txid);
        }
    }

    /// Sends a transaction to those who asked for it as a parent before we had it.
    pub(super) fn answer_unmet(&mut self, now: Now, txid: Txid) {
        let Some(&id) = self.outbox.ids.get(&txid) else { return };
        // Nobody asks for parents of transactions that are not there.
        if !self.outbox.has_child_of(txid) {
            return;
        }
        let asked = |session: &mut crate::engine::pool::Session| session.to_serve.take_unmet(txid);
        let sessions = self.peers.iter_mut().filter_map(|(&id, peer)| Some((id, peer.session_mut()?)));
        let asked: Vec<PeerId> = sessions.filter_map(|(id, session)| asked(session).then_some(id)).collect();
        for peer in asked {
            if self.queue_to_serve(now, peer, id) {
                self.actions.push_back(Action::Serve { peer });
            }
        }
    }

    /// Notes that a peer asked for a transaction that is held; false if it waits for it already.
    fn queue_to_serve(&mut self, now: Now, peer: PeerId, id: BroadcastId) -> bool {
        if let Some((_, open)) = self.outbox.open_mut(id)
            && let is_followed = open.is_followed
            && let Some(journey) = open.journey_mut(peer).filter(|journey| journey.is_told)
        {
            // As it is with nearly all.
            journey.requested.get_or_insert(now.instant);
            if !journey.is_final()
                && std::mem::replace(&mut journey.stage, Stage::Requested) != Stage::Requested
                && is_followed
            {
                self.progress(id, peer);
            }
            return self.push_to_serve(peer, id);
        }
        let Some(session) = self.peers.get(&peer).and_then(|peer| peer.session()) else { return false };
        let address = session.address.clone();
        let mut is_new_to_it = false;
        if let Some((_, open)) = self.outbox.open_mut(id) {
            open.adopt(&self.peers, peer, &address);
            if open.journey(peer).is_none() {
                open.journeys.push(Journey::new(Some(peer), address.clone(), Stage::Chosen));
            }
            if let Some(journey) = open.journey_mut(peer) {
                is_new_to_it = !journey.is_told && !journey.is_final();
                journey.is_told |= !journey.is_final();
                journey.requested.get_or_insert(now.instant);
                if !journey.is_final() && journey.stage != Stage::Requested {
                    journey.stage = Stage::Requested;
                    self.progress(id, peer);
                }
            }
        }
        let told_at =
            is_new_to_it.then(|| self.record(|| Record::Told { item: id.0, address: (*address).clone() }));
        let Some(entry) = self.outbox.entries.get_mut(&id) else { return false };
        match &mut entry.open {
            Some(open) => {
                if let (Some(journey), Some(told_at)) = (open.journey_mut(peer), told_at) {
                    journey.told_at = told_at;
                }
            }
            None => entry.note_told(Told { peer: Some(peer), address, is_of_address: false }),
        }
        self.push_to_serve(peer, id)
    }

    fn push_to_serve(&mut self, peer: PeerId, id: BroadcastId) -> bool {
        let session = self.peers.get_mut(&peer).and_then(|peer| peer.session_mut());
        session.is_some_and(|session| session.to_serve.push(id))
    }

    /// The next transaction to send to a peer.
    pub(crate) fn next_to_serve(&mut self, peer: PeerId) -> Option<Frame> {
        let saved = self.saved();
        let session = self.peers.get_mut(&peer)?.session_mut()?;
        loop {
            let &id = session.to_serve.queue.front()?;
            match self.outbox.entries.get(&id) {
                Some(entry) if entry.sendable_at(peer) > saved => return None,
                Some(entry) => return Some(entry.frame.clone()),
                // It gave way before its turn came.
                None => session.to_serve.pop(),
            }
        }
    }

    /// Notes that what `next_to_serve` gave was sent.
    pub(crate) fn mark_served(&mut self, now: Now, peer: PeerId) {
        let Some(session) = self.peers.get_mut(&peer).and_then(|peer| peer.session_mut()) else { return };
        let Some(&id) = session.to_serve.queue.front() else { return };
        session.to_serve.pop();
        let Some((_, open)) = self.outbox.open_mut(id) else { return };
        let (is_followed, is_enough) = (open.is_followed, open.terms.relays == 0);
        let Some(journey) = open.journey_mut(peer) else { return };
        journey.sent.get_or_insert(now.instant);
        if !journey.is_final() {
            journey.stage = Stage::Sent;
            if is_followed {
                self.progress(id, peer);
            }
            if is_enough {
                self.judge(now, id);
            }
        }
    }
}

impl Entry {
    /// What the file must have got before a peer is sent it.
    fn sendable_at(&self, peer: PeerId) -> u64 {
        let journey = self.open.as_ref().and_then(|open| open.journey(peer));
        journey.map_or(0, |journey| journey.told_at).max(self.held_at)
    }

    /// Remembers who had the transaction while it is not open.
    pub(super) fn note_told(&mut self, told: Told) {
        let is_known = |known: &Told| known.peer == told.peer && known.address == told.address;
        if !self.told.iter().any(is_known) {
            self.told.push(told);
        }
    }
}

/// Parents asked for in vain that are remembered of each peer.
const MAX_UNMET: usize = 256;
