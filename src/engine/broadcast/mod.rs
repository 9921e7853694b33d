//! Broadcasts: transactions announced to peers, served to whoever asks, and what each peer did about them.
//!
//! Layer 4. Section 5 of the wire specification: a node never says that it accepted a transaction, so only another
//! peer's announcement tells.

#[cfg(test)]
use std::collections::BTreeSet;
use std::collections::{HashMap, HashSet, VecDeque};
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
            self.tell_best_peers(now, txid);
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
        self.tell_best_peers(now, txid);
        Ok(id)
    }

    /// Announces to the best peers until enough were told.
    fn tell_best_peers(&mut self, now: Now, txid: Txid) {
        let Some(broadcast) = self.broadcasts.get(&txid) else { return };
        let wanted = broadcast.nodes.saturating_sub(broadcast.told.len());
        for peer in self.best_peers(now, wanted, |peer| !broadcast.told.contains(&peer)) {
            if self.note_told(txid, peer) {
                self.announce(peer, &[txid]);
            }
        }
    }

    /// A peer has connected, or is read again: it is told what too few others were.
    pub(super) fn tell_new_peer(&mut self, peer: PeerId) {
        let too_few = self.oldest_first(|broadcast| broadcast.told.len() < broadcast.nodes);
        let told: Vec<Txid> = too_few.into_iter().filter(|&txid| self.note_told(txid, peer)).collect();
        self.announce(peer, &told);
    }

    /// A peer is lost: what it was not sent yet may be told to another, or to itself when it is back.
    pub(super) fn lose_broadcast_peer(&mut self, now: Now, peer: PeerId, unsent: &ToServe) {
        for txid in &unsent.queue {
            if let Some(broadcast) = self.broadcasts.get_mut(txid) {
                broadcast.requested.remove(&peer);
            }
        }
        let untold =
            self.oldest_first(|broadcast| broadcast.told.contains(&peer) && !broadcast.requested.contains(&peer));
        if untold.is_empty() {
            return;
        }
        let others = self.best_peers(now, usize::MAX, |_| true);
        let mut told: HashMap<PeerId, Vec<Txid>> = HashMap::new();
        for txid in untold {
            if let Some(broadcast) = self.broadcasts.get_mut(&txid) {
                broadcast.told.remove(&peer);
            }
            if let Some(&other) = others.iter().find(|&&other| self.note_told(txid, other)) {
                told.entry(other).or_default().push(txid);
            }
        }
        for peer in others {
            self.announce(peer, told.get(&peer).map_or(&[], Vec::as_slice));
        }
    }

    /// Broadcasts in the order in which they began, as later ones may spend from earlier ones.
    fn oldest_first(&self, which: impl Fn(&Broadcast) -> bool) -> Vec<Txid> {
        let chosen = self.broadcasts.iter().filter(|(_, broadcast)| which(broadcast));
        let mut chosen: Vec<_> = chosen.map(|(&txid, broadcast)| (broadcast.id, txid)).collect();
        chosen.sort_unstable();
        chosen.into_iter().map(|(_, txid)| txid).collect()
    }

    /// Notes that a peer is told; false if it was, or enough others were.
    fn note_told(&mut self, txid: Txid, peer: PeerId) -> bool {
        let Some(broadcast) = self.broadcasts.get_mut(&txid) else { return false };
        let is_new = broadcast.told.len() < broadcast.nodes && broadcast.told.insert(peer);
        if is_new {
            let id = broadcast.id;
            self.receipt(id, peer, ReceiptState::Announced);
        }
        is_new
    }

    fn announce(&mut self, peer: PeerId, txids: &[Txid]) {
        let Some(connection) = self.connection_of(peer) else { return };
        let announcements = txids.chunks(MAX_ANNOUNCED).map(|txids| {
            let items = txids.iter().copied().map(Inventory::transaction).collect();
            Action::Send { connection, message: Message::Inv(items) }
        });
        self.actions.extend(announcements);
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
        self.peers.iter().filter(|(id, peer)| peer.takes_part() && listens(id)).count()
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

/// Transactions announced by one `inv`: some 36 kB.
const MAX_ANNOUNCED: usize = 1_000;
