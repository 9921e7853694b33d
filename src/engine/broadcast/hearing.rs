//! Hearing: what peers say that concerns the transactions we broadcast.
//!
//! Layer 4. Section 5 of the wire specification. An announcement counts from a peer that was not told only, a reject only
//! from one that was sent the transaction: whatever else is said proves nothing, or is about somebody else's.

use std::collections::BTreeSet;
use std::time::Duration;

use super::journey::{Journey, Stage};
use super::{BroadcastId, Engine, Now, Record, Said};
use crate::broadcast::{Conflict, ConflictSource};
use crate::engine::pool::Standing;
use crate::message::{DsDetected, Inventory, InventoryKind, Reject, Transaction, TransactionView};
use crate::peer::{ConnectionId, PeerId};
use crate::wire::Txid;

impl Engine {
    /// A peer announces transactions: those we broadcast and did not tell it about were relayed to it.
    pub(in crate::engine) fn hear_inventory(&mut self, now: Now, peer: PeerId, items: &[Inventory]) {
        if self.outbox.open == 0 {
            return;
        }
        let Some(session) = self.peers.get(&peer).and_then(|peer| peer.session()) else { return };
        if session.standing != Standing::Verified {
            return;
        }
        let address = session.address.clone();
        let transactions = items.iter().filter(|item| item.kind == InventoryKind::Transaction);
        for txid in transactions.filter_map(Inventory::txid) {
            let Some(id) = self.outbox.open_id(&txid) else { continue };
            let Some((_, open)) = self.outbox.open_mut(id) else { continue };
            open.adopt(&self.peers, peer, &address);
            let journey = match open.journeys.iter().position(|journey| journey.peer == Some(peer)) {
                Some(at) => &mut open.journeys[at],
                None => {
                    open.journeys.push(Journey::new(Some(peer), address.clone(), Stage::Chosen));
                    open.journeys.last_mut().expect("one was pushed")
                }
            };
            if journey.is_told || journey.is_final() {
                continue;
            }
            journey.stage = Stage::Relayed;
            journey.heard = Some(now.instant);
            self.record(|| Record::Heard { item: id.0, address: (*address).clone(), said: Said::Relayed });
            self.progress(id, peer);
            self.judge(now, id);
        }
    }

    /// A peer rejects a message; true if it was a transaction that we sent it.
    pub(in crate::engine) fn hear_reject(&mut self, now: Now, peer: PeerId, reject: &Reject) -> bool {
        let Some(id) = reject.txid().and_then(|txid| self.outbox.open_id(&txid)) else { return false };
        let Some((_, open)) = self.outbox.open_mut(id) else { return false };
        let Some(journey) = open.journey_mut(peer).filter(|journey| journey.sent.is_some()) else { return false };
        if journey.is_final() {
            return true;
        }
        let (code, reason) = (reject.code, reject.reason.to_string());
        journey.stage = Stage::Rejected(Box::new((code, reason.clone())));
        journey.heard = Some(now.instant);
        let address = journey.address.clone();
        let said = Said::Rejected { code, reason };
        self.record(|| Record::Heard { item: id.0, address: (*address).clone(), said });
        self.progress(id, peer);
        self.judge(now, id);
        true
    }

    /// A peer sent a transaction: it may spend what one of ours spends.
    pub(in crate::engine) fn hear_transaction(&mut self, peer: PeerId, transaction: &Transaction) {
        self.hear_rival(transaction.view(), transaction.txid(), || ConflictSource::Transaction { peer });
    }

    /// A peer tells of double spends in blocks: one of them may spend what one of ours spends.
    pub(in crate::engine) fn hear_double_spend(&mut self, peer: PeerId, notice: &DsDetected) {
        if self.outbox.open == 0 || notice.check().is_err() {
            return;
        }
        for fork in &notice.forks {
            if let (Some(transaction), Some(header)) = (fork.transaction(), fork.headers.first()) {
                let source = || ConflictSource::Block { peer, block: header.hash() };
                self.hear_rival(transaction.view(), transaction.txid(), source);
            }
        }
    }

    fn hear_rival(&mut self, rival: TransactionView<'_>, txid: Txid, source: impl Fn() -> ConflictSource) {
        if self.outbox.open == 0 {
            return;
        }
        let ours: BTreeSet<BroadcastId> = self.outbox.spenders(rival).collect();
        for id in ours {
            if self.outbox.entries.get(&id).is_some_and(|entry| entry.txid != txid) {
                self.note_conflict(id, Conflict { rival: txid, source: source() });
            }
        }
    }

    /// A peer says what it wants transactions to pay; what it sends otherwise (section 2.24) is no rate.
    ///
    /// A node in initial block download asks for more than anybody pays, and for less once it is done: then it is told what
    /// too few others were.
    pub(in crate::engine) fn hear_fee_filter(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        satoshis_per_kilobyte: i64,
    ) {
        let Some(session) = self.session_mut(peer, connection) else { return };
        let Some(rate) = u64::try_from(satoshis_per_kilobyte).ok().filter(|&rate| rate <= MAX_MONEY) else {
            return;
        };
        let is_lower = session.fee_filter.replace(rate).is_some_and(|before| rate < before);
        // Whoever says it again and again is not listened to each time.
        let is_due = |at| now.instant.saturating_duration_since(at) >= FEE_FILTER_INTERVAL;
        if is_lower && session.to_announce.lowered_at.is_none_or(is_due) {
            session.to_announce.lowered_at = Some(now.instant);
            self.tell_new_peer(now, peer, false);
        }
    }
}

/// A lower filter is acted on at once if the last one was so long ago, else when the transactions are announced again.
const FEE_FILTER_INTERVAL: Duration = Duration::from_secs(10);
/// All coins there will be, in satoshis.
const MAX_MONEY: u64 = 2_100_000_000_000_000;
