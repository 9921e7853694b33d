//! Broadcasts: transactions announced to peers, served to whoever asks, and what each peer did about them.
//!
//! Layer 4. Section 5 of the wire specification: a node never says that it accepted a transaction, so only another
//! peer's announcement tells.

#[cfg(test)]
use std::collections::BTreeSet;
use std::collections::{HashSet, VecDeque};
use std::time::Instant;

use super::{Action, Engine, Now, Served, Timer};
use crate::broadcast::ReceiptState;
use crate::error::BroadcastFailure;
use crate::message::{Inventory, InventoryKind, Message, Reject, Transaction};
use crate::peer::{ConnectionId, PeerAddress, PeerId};
use crate::wire::{Command, Frame, Txid};

/// Identifies a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BroadcastId(u64);

/// Something a peer did about a broadcast.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    pub(crate) peer: PeerId,
    pub(crate) address: PeerAddress,
    pub(crate) state: ReceiptState,
}

/// A transaction that is held for peers.
#[derive(Debug)]
pub(super) struct Broadcast {
    id: BroadcastId,
    frame: Frame,
    /// How many peers shall be told.
    nodes: usize,
    told: HashSet<PeerId>,
    requested: HashSet<PeerId>,
    timer: Option<Instant>,
}

/// The transactions a peer asked for and was not sent yet, each once.
#[derive(Debug, Default)]
pub(super) struct ToServe {
    queue: VecDeque<Txid>,
    /// Always the members of `queue`.
    queued: HashSet<Txid>,
}

impl ToServe {
    /// Puts a transaction at the end; false if it waits already.
    fn push(&mut self, txid: Txid) -> bool {
        let is_new = self.queued.insert(txid);
        if is_new {
            self.queue.push_back(txid);
        }
        is_new
    }

    fn front(&self) -> Option<Txid> {
        self.queue.front().copied()
    }

    fn pop(&mut self) {
        if let Some(txid) = self.queue.pop_front() {
            self.queued.remove(&txid);
        }
    }
}

impl Engine {
    /// Announces a transaction to the best peers and holds it for whoever asks; one under way is joined.
    pub(crate) fn broadcast(
        &mut self,
        now: Now,
        transaction: &Transaction,
        nodes: usize,
    ) -> Result<BroadcastId, BroadcastFailure> {
        let txid = transaction.txid();
        if let Some(broadcast) = self.broadcasts.get_mut(&txid) {
            broadcast.nodes = broadcast.nodes.max(nodes);
            let id = broadcast.id;
            self.tell_peers(txid);
            return Ok(id);
        }
        let magic = self.config.network.magic();
        let frame = Frame::with_digest(magic, Command::TX, transaction.raw(), txid.as_wire());
        if self.broadcast_bytes + frame.len() > self.config.broadcast_bytes {
            return Err(BroadcastFailure::Full);
        }
        self.broadcast_bytes += frame.len();
        let id = BroadcastId(self.next_id());
        let mut broadcast =
            Broadcast { id, frame, nodes, told: HashSet::new(), requested: HashSet::new(), timer: None };
        let over_at = now.instant + self.config.broadcast_lifetime;
        Self::set_timer(&mut self.timers, &mut broadcast.timer, Timer::Broadcast(txid), Some(over_at));
        self.broadcasts.insert(txid, broadcast);
        self.tell_peers(txid);
        Ok(id)
    }

    /// Announces to the best peers until enough were told.
    fn tell_peers(&mut self, txid: Txid) {
        for peer in self.best_peers() {
            self.tell_peer(txid, peer);
        }
    }

    /// A peer has connected: it is told what too few others were.
    pub(super) fn tell_new_peer(&mut self, peer: PeerId) {
        let txids: Vec<Txid> = self.broadcasts.keys().copied().collect();
        for txid in txids {
            self.tell_peer(txid, peer);
        }
    }

    fn tell_peer(&mut self, txid: Txid, peer: PeerId) {
        let Some(connection) = self.connection_of(peer) else { return };
        let Some(broadcast) = self.broadcasts.get_mut(&txid) else { return };
        if broadcast.told.len() >= broadcast.nodes || !broadcast.told.insert(peer) {
            return;
        }
        let id = broadcast.id;
        let message = Message::Inv(vec![Inventory::transaction(txid)]);
        self.actions.push_back(Action::Send { connection, message });
        self.receipt(id, peer, ReceiptState::Announced);
    }

    /// A peer is lost: what it did not ask for yet may be told to another, or to itself when it is back.
    pub(super) fn lose_broadcast_peer(&mut self, peer: PeerId) {
        let mut untold = Vec::new();
        for (&txid, broadcast) in &mut self.broadcasts {
            if !broadcast.requested.contains(&peer) && broadcast.told.remove(&peer) {
                untold.push(txid);
            }
        }
        for txid in untold {
            self.tell_peers(txid);
        }
    }

    /// Queues the transactions a peer asks for; gives back what is not held.
    pub(super) fn serve(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        items: Vec<Inventory>,
    ) -> Vec<Inventory> {
        if self.broadcasts.is_empty() {
            return items;
        }
        let is_held = |item: &Inventory| {
            item.kind == InventoryKind::Transaction
                && item.txid().is_some_and(|id| self.broadcasts.contains_key(&id))
        };
        let (held, unclaimed): (Vec<_>, Vec<_>) = items.into_iter().partition(is_held);
        let Some(session) = self.session_mut(peer, connection) else { return unclaimed };
        // A peer that asks for the same again and again is sent it once at a time.
        let mut served: Vec<Txid> = held.iter().filter_map(Inventory::txid).collect();
        served.retain(|&txid| session.to_serve.push(txid));
        for &txid in &served {
            let Some(broadcast) = self.broadcasts.get_mut(&txid) else { continue };
            broadcast.requested.insert(peer);
            let id = broadcast.id;
            self.receipt(id, peer, ReceiptState::Requested);
        }
        if !served.is_empty() {
            self.actions.push_back(Action::Serve { peer });
        }
        unclaimed
    }

    /// The next transaction to send to a peer that asked for it.
    pub(crate) fn next_to_serve(&mut self, peer: PeerId) -> Option<Served> {
        loop {
            let session = self.peers.get_mut(&peer)?.session_mut()?;
            let connection = session.connection;
            let txid = session.to_serve.front()?;
            match self.broadcasts.get(&txid) {
                Some(broadcast) => return Some(Served { connection, frame: broadcast.frame.clone() }),
                // It was over before its turn came.
                None => session.to_serve.pop(),
            }
        }
    }

    /// Notes that what `next_to_serve` gave was sent.
    pub(crate) fn mark_served(&mut self, peer: PeerId) {
        let Some(session) = self.peers.get_mut(&peer).and_then(|peer| peer.session_mut()) else { return };
        let Some(txid) = session.to_serve.front() else { return };
        session.to_serve.pop();
        if let Some(broadcast) = self.broadcasts.get(&txid) {
            let id = broadcast.id;
            self.receipt(id, peer, ReceiptState::Sent);
        }
    }

    /// A peer announces transactions: those we broadcast and did not tell it about were relayed to it.
    pub(super) fn hear_inventory(&mut self, peer: PeerId, items: &[Inventory]) {
        if self.broadcasts.is_empty() {
            return;
        }
        for txid in items.iter().filter_map(Inventory::txid) {
            if let Some(broadcast) = self.broadcasts.get(&txid)
                && !broadcast.told.contains(&peer)
                && !broadcast.requested.contains(&peer)
            {
                let id = broadcast.id;
                self.receipt(id, peer, ReceiptState::Relayed);
            }
        }
    }

    /// A peer rejects a message; true if it was a transaction of ours.
    pub(super) fn hear_reject(&mut self, peer: PeerId, reject: &Reject) -> bool {
        let Some(broadcast) = reject.txid().and_then(|txid| self.broadcasts.get(&txid)) else { return false };
        let id = broadcast.id;
        let state = ReceiptState::Rejected { code: reject.code, reason: reject.reason.to_string() };
        self.receipt(id, peer, state);
        true
    }

    pub(super) fn broadcast_due(&mut self, txid: Txid) {
        if let Some(broadcast) = self.broadcasts.remove(&txid) {
            self.broadcast_bytes -= broadcast.frame.len();
            self.actions.push_back(Action::BroadcastOver { broadcast: broadcast.id });
        }
    }

    fn receipt(&mut self, broadcast: BroadcastId, peer: PeerId, state: ReceiptState) {
        if let Some(address) = self.peers.get(&peer).map(|peer| peer.address.clone()) {
            let receipt = Receipt { peer, address, state };
            self.actions.push_back(Action::Receipt { broadcast, receipt });
        }
    }

    /// Connected peers that would announce the transaction if it reached them.
    pub(crate) fn listeners(&self, txid: &Txid) -> usize {
        let Some(broadcast) = self.broadcasts.get(txid) else { return 0 };
        let listens = |id: &PeerId| !broadcast.told.contains(id) && !broadcast.requested.contains(id);
        self.best_peers().iter().filter(|id| listens(id)).count()
    }

    #[cfg(test)]
    pub(super) fn check_broadcasts(&self, timers: &mut BTreeSet<(Instant, Timer)>) {
        let bytes: usize = self.broadcasts.values().map(|broadcast| broadcast.frame.len()).sum();
        assert_eq!(self.broadcast_bytes, bytes);
        assert!(bytes <= self.config.broadcast_bytes);
        for session in self.peers.values().filter_map(|peer| peer.session()) {
            let ToServe { queue, queued } = &session.to_serve;
            assert!(queue.len() == queued.len() && queue.iter().all(|txid| queued.contains(txid)));
        }
        for (&txid, broadcast) in &self.broadcasts {
            assert!(broadcast.told.len() <= broadcast.nodes, "{txid} was told to too many");
            timers.insert((broadcast.timer.expect("every broadcast ends"), Timer::Broadcast(txid)));
        }
    }
}
