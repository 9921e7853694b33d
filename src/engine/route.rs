//! Routing: each message goes to the one place it belongs, or to the caller's queues.
//!
//! Layer 4.

use super::{Action, Engine, Now};
use crate::error::DisconnectReason;
use crate::message::{Inventory, InventoryKind, Message, RejectCode};
use crate::peer::{ConnectionId, PeerId};
use crate::proto::ProtocolError;
use crate::wire::Command;

impl Engine {
    /// Takes a message of a peer; gives back what nobody has claimed.
    pub(crate) fn handle_message(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        message: Message,
    ) -> Option<Message> {
        self.note_heard(now);
        if let Message::FeeFilter { satoshis_per_kilobyte } = message {
            // Nodes tell it once, right after the handshake.
            self.hear_fee_filter(now, peer, connection, satoshis_per_kilobyte);
        }
        if self.is_checking(peer) {
            // It may be on another chain, so whatever else it says does not count.
            if let Message::Headers(headers) = message {
                self.answer_headers(now, peer, connection, headers);
            }
            return None;
        }
        if let Message::Tx(tx) = &message {
            self.hear_transaction(peer, tx);
        }
        match message {
            Message::Tx(tx) if !self.is_watching_transactions() => {
                self.answer_transaction(now, peer, connection, tx).map(Message::Tx)
            }
            Message::Tx(tx) => {
                // A request and a watch can both want it.
                let unclaimed = self.answer_transaction(now, peer, connection, tx.clone());
                let is_claimed = unclaimed.is_none();
                let is_ours = self.watch_transaction(now, peer, connection, &tx, is_claimed);
                unclaimed.filter(|_| !is_ours).map(Message::Tx)
            }
            Message::Block(block) => {
                self.watch_busy_peer(now, connection);
                self.answer_block(now, peer, connection, block).map(Message::Block)
            }
            Message::Headers(headers) => {
                let unclaimed = self.answer_headers(now, peer, connection, headers)?;
                self.check_again(now, peer);
                // As with `inv`, an announcement is news for everybody.
                self.watch_headers(now, peer, connection, &unclaimed);
                Some(Message::Headers(unclaimed))
            }
            Message::CmpctBlock(block) => {
                let unclaimed = self.answer_compact_block(now, peer, connection, block)?;
                self.watch_headers(now, peer, connection, &[*unclaimed.header()]);
                Some(Message::CmpctBlock(unclaimed))
            }
            Message::BlockTxn(found) => {
                self.answer_block_transactions(now, peer, connection, found).map(Message::BlockTxn)
            }
            Message::MerkleBlock(block) => {
                self.answer_filtered_block(now, peer, connection, block).map(Message::MerkleBlock)
            }
            Message::DataRefTx(proven) => {
                self.answer_dataref(now, peer, connection, proven).map(Message::DataRefTx)
            }
            Message::HdrsEn(headers) => {
                let unclaimed = self.answer_enriched_headers(now, peer, connection, headers)?;
                let headers: Vec<_> = unclaimed.iter().map(|item| item.header).collect();
                self.watch_headers(now, peer, connection, &headers);
                Some(Message::HdrsEn(unclaimed))
            }
            Message::NotFound(mut items) => {
                let mut both = Vec::new();
                items.retain(|item| {
                    let is_ours = self.watch_not_found(now, connection, item);
                    if is_ours && self.asks_transaction(peer, item) {
                        both.push(*item);
                    }
                    !is_ours
                });
                // A request may have asked for what a watch wants, too.
                self.answer_not_found(now, peer, connection, both);
                let unclaimed = self.answer_not_found(now, peer, connection, items);
                (!unclaimed.is_empty()).then_some(Message::NotFound(unclaimed))
            }
            Message::Addr(addresses) => {
                let claimed = self.answer_addresses(now, peer, connection, &addresses);
                (!claimed).then_some(Message::Addr(addresses))
            }
            Message::Pong { nonce } => {
                (!self.answer_ping(now, peer, connection, nonce)).then_some(Message::Pong { nonce })
            }
            Message::Inv(items) => {
                // An announcement is news for everybody, also where a broadcast learns from it.
                self.hear_inventory(now, peer, &items);
                if items.iter().any(|item| item.kind == InventoryKind::Block) {
                    self.check_again(now, peer);
                }
                self.watch_inventory(now, peer, connection, &items);
                self.answer_inventory(now, peer, connection, &items);
                Some(Message::Inv(items))
            }
            Message::GetData(items) => {
                let unclaimed = self.serve(now, peer, connection, items);
                (!unclaimed.is_empty()).then_some(Message::GetData(unclaimed))
            }
            Message::Reject(reject) if reject.code == RejectCode::TooBusy && reject.hash.is_none() => {
                (!self.too_busy(now, peer, connection)).then_some(Message::Reject(reject))
            }
            Message::Reject(reject) => (!self.hear_reject(now, peer, &reject)).then_some(Message::Reject(reject)),
            Message::DsDetected(notice) => {
                self.hear_double_spend(peer, &notice);
                Some(Message::DsDetected(notice))
            }
            other => Some(other),
        }
    }

    /// Whether a peer was asked for something that comes under this command.
    pub(crate) fn awaits(&self, peer: PeerId, command: Command) -> bool {
        let Some(session) = self.peers.get(&peer).and_then(|peer| peer.session()) else { return false };
        session.outstanding.awaits(command)
    }

    /// Whether a request has asked a peer for the transaction that an item names.
    fn asks_transaction(&self, peer: PeerId, item: &Inventory) -> bool {
        let session = self.peers.get(&peer).and_then(|peer| peer.session());
        let wants = |txid| session.is_some_and(|session| session.outstanding.wants_transaction(&txid));
        item.txid().is_some_and(wants)
    }

    /// Whether a transaction of this peer can be for a request or a watch, and is kept then.
    pub(crate) fn may_keep_transactions(&self, peer: PeerId) -> bool {
        let session = self.peers.get(&peer).and_then(|peer| peer.session());
        self.is_watching_transactions() || session.is_some_and(|session| session.outstanding.awaits_transactions())
    }

    /// Whether `handle_message` would give nothing back, so that the message need not wait for its turn.
    pub(crate) fn would_claim(&self, peer: PeerId, message: &Message) -> bool {
        let Some(session) = self.peers.get(&peer).and_then(|peer| peer.session()) else { return false };
        session.outstanding.expects(message)
    }

    /// A payload above the stream threshold is being skipped. One that was asked for ends its request, any other its
    /// connection.
    pub(crate) fn handle_oversized(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        command: Command,
        length: u64,
        start: &[u8],
    ) {
        self.watch_busy_peer(now, connection);
        let claimed = self.answer_too_large(now, peer, connection, command, length, start)
            || (command == Command::TX && self.watch_too_large(now, connection));
        if !claimed {
            let limit = self.config.stream_threshold;
            let reason = DisconnectReason::Protocol(ProtocolError::Oversized { command, length, limit });
            self.actions.push_back(Action::Close { connection, reason });
        }
    }
}
