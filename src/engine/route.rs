//! Routing: each message goes to the one place it belongs, or to the caller's queues.
//!
//! Layer 4.

use super::{Action, Engine, Now};
use crate::error::DisconnectReason;
use crate::message::Message;
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
        match message {
            Message::Tx(tx) => self.answer_transaction(now, peer, connection, tx).map(Message::Tx),
            Message::Block(block) => self.answer_block(now, peer, connection, block).map(Message::Block),
            Message::Headers(headers) => self.answer_headers(now, peer, connection, headers).map(Message::Headers),
            Message::CmpctBlock(block) => {
                self.answer_compact_block(now, peer, connection, block).map(Message::CmpctBlock)
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
                self.answer_enriched_headers(now, peer, connection, headers).map(Message::HdrsEn)
            }
            Message::NotFound(items) => {
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
                self.hear_inventory(peer, &items);
                self.answer_inventory(now, peer, connection, &items);
                Some(Message::Inv(items))
            }
            Message::GetData(items) => {
                let unclaimed = self.serve(peer, connection, items);
                (!unclaimed.is_empty()).then_some(Message::GetData(unclaimed))
            }
            Message::Reject(reject) => (!self.hear_reject(peer, &reject)).then_some(Message::Reject(reject)),
            other => Some(other),
        }
    }

    /// Whether a peer was asked for something that comes under this command.
    pub(crate) fn awaits(&self, peer: PeerId, command: Command) -> bool {
        let Some(session) = self.peers.get(&peer).and_then(|peer| peer.session()) else { return false };
        session.outstanding.awaits(command)
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
        let claimed = self.answer_too_large(now, peer, connection, command, length, start);
        if !claimed {
            let limit = self.config.stream_threshold;
            let reason = DisconnectReason::Protocol(ProtocolError::Oversized { command, length, limit });
            self.actions.push_back(Action::Close { connection, reason });
        }
    }
}
