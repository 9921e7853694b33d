//! The second connection to a peer: asked for, there, lost.
//!
//! Layer 4. What it brings comes as if the first one had brought it, so nothing else knows of it but what is sent.

use super::Engine;
use crate::engine::{Action, Now};
use crate::error::DisconnectReason;
use crate::message::Message;
use crate::peer::{ConnectionId, PeerAddress, PeerId};
use crate::proto::{AssociationId, Stream, stream_of};
use crate::queue::outbound::Joins;

/// How far a peer's second connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) enum Second {
    /// The peer has not said that it would take one.
    #[default]
    Unoffered,
    Joining(ConnectionId),
    Joined(ConnectionId),
    /// It did not come to be, and is not tried again.
    Failed,
}

impl Second {
    fn connection(self) -> Option<ConnectionId> {
        match self {
            Self::Joining(connection) | Self::Joined(connection) => Some(connection),
            Self::Unoffered | Self::Failed => None,
        }
    }
}

impl Engine {
    /// A peer would take a second connection.
    pub(crate) fn handle_association(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        address: PeerAddress,
        association: AssociationId,
    ) {
        let second = ConnectionId(self.next_id());
        let Some(session) = self.session_mut(peer, connection) else { return };
        if session.second == Second::Unoffered {
            session.second = Second::Joining(second);
            let joins = Joins { of: connection, association };
            self.actions.push_back(Action::Join { peer, connection: second, address, joins });
        }
    }

    /// A second connection has joined the first one.
    pub(crate) fn handle_joined(&mut self, peer: PeerId, connection: ConnectionId, second: ConnectionId) {
        let Some(session) = self.session_mut(peer, connection) else { return };
        if session.second == Second::Joining(second) {
            session.second = Second::Joined(second);
            self.seconds.insert(connection, second);
        }
    }

    /// The connection that a message to a peer takes.
    pub(in crate::engine) fn stream_for(&self, connection: ConnectionId, message: &Message) -> ConnectionId {
        match self.seconds.get(&connection) {
            Some(&second) if stream_of(message) == Stream::Data1 => second,
            _ => connection,
        }
    }

    /// A second connection ended, or could not be made; false if it is none.
    pub(super) fn lose_second(
        &mut self,
        now: Now,
        peer: PeerId,
        second: ConnectionId,
        reason: &DisconnectReason,
    ) -> bool {
        let Some(session) = self.peers.get_mut(&peer).and_then(super::Peer::session_mut) else { return false };
        if session.second.connection() != Some(second) {
            return false;
        }
        if session.second == Second::Joined(second) {
            // So does the node: without one of them there is no association.
            self.end_connection(now, peer, reason.clone());
        } else {
            session.second = Second::Failed;
        }
        true
    }

    /// The first connection is lost, so the second one goes, too.
    pub(super) fn leave_second(&mut self, connection: ConnectionId, second: Second, reason: &DisconnectReason) {
        self.seconds.remove(&connection);
        if let Some(connection) = second.connection() {
            self.actions.push_back(Action::Close { connection, reason: reason.clone() });
        }
    }

    #[cfg(test)]
    pub(super) fn check_seconds(&self) {
        let sessions = self.peers.values().filter_map(super::Peer::session);
        let joined = sessions.filter_map(|session| match session.second {
            Second::Joined(second) => Some((session.connection, second)),
            _ => None,
        });
        assert_eq!(self.seconds, joined.collect());
    }
}
