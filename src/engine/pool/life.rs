//! The life of a connection: up, counted, stopped, lost.
//!
//! Layer 4.

use std::sync::Arc;
use std::time::Duration;

use super::dialling::End;
use super::joining::Second;
use super::{Engine, Session, Standing, State};
use crate::engine::broadcast::{ToAnnounce, ToServe};
use crate::engine::outstanding::Outstanding;
use crate::engine::{Action, Now, Timer};
use crate::error::DisconnectReason;
use crate::message::Version;
use crate::peer::{ConnectionId, PeerId};
use crate::queue::events::Event;

impl Engine {
    /// A peer's handshake is done.
    pub(crate) fn handle_up(&mut self, now: Now, id: PeerId, connection: ConnectionId, version: Box<Version>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let State::Connecting { connection: current, since: dialled, .. } = peer.state else { return };
        if current != connection {
            return;
        }
        let address = peer.address.clone();
        peer.state = State::Ready(Box::new(Session {
            connection,
            second: Second::default(),
            version,
            dialled,
            since: now.instant,
            standing: Standing::Checking,
            announced: false,
            paused: false,
            read_since: now.instant,
            outstanding: Outstanding::default(),
            bulk_until: None,
            busy_until: None,
            refusals: 0,
            to_announce: ToAnnounce::default(),
            to_serve: ToServe::default(),
            fee_filter: None,
            address: Arc::new(address.clone()),
            addresses: Vec::new(),
            asked_addresses: false,
            discovers: false,
        }));
        self.dial_connected(now, &address);
        match self.why_unacceptable(id) {
            Some(reason) => {
                if matches!(reason, DisconnectReason::OtherChain { .. }) {
                    self.remember_wrong_chain(now, id);
                }
                self.end_connection(now, id, reason);
            }
            None => self.check_chain(now, id),
        }
    }

    /// A peer is known to be on our chain: it counts from now on.
    pub(super) fn verified(&mut self, now: Now, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let address = peer.address.clone();
        Self::set_timer(&mut self.timers, &mut peer.timer, Timer::Peer(id), None);
        let Some(session) = peer.session_mut() else { return };
        if std::mem::replace(&mut session.standing, Standing::Verified) == Standing::Verified {
            return;
        }
        let (connection, is_paused) = (session.connection, session.paused);
        self.actions.push_back(Action::Event(Event::Connected {
            peer: id,
            address: address.clone(),
            user_agent: session.version.user_agent.to_string(),
            took: now.instant.saturating_duration_since(session.dialled),
        }));
        self.ready += 1;
        self.listening += usize::from(!is_paused);
        self.tell_if_back();
        self.update_main_peer(now);
        self.note_found_worked(now, id);
        self.tell_new_peer(now, id, true);
        self.ask_waiting(now);
        self.offer_peer(now, id);
        self.watch_peer(now, id, connection);
        if is_paused {
            self.pause_watched_peer(now, connection, true);
        }
        self.discover_from(id);
        self.hold(now);
    }

    /// A connection ended, or could not be made.
    pub(crate) fn handle_down(&mut self, now: Now, id: PeerId, connection: ConnectionId, reason: DisconnectReason) {
        if self.lose_second(now, id, connection, &reason) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.connection() != Some(connection) {
            return;
        }
        let address = peer.address.clone();
        let session = match std::mem::replace(&mut peer.state, State::Waiting) {
            State::Ready(session) => Some(session),
            _ => None,
        };
        let is_found = !peer.named;
        let was_verified = session.as_ref().is_some_and(|session| session.standing == Standing::Verified);
        let was_told = session.as_ref().is_some_and(|session| session.standing != Standing::Checking);
        let event = if was_told {
            Event::Disconnected { peer: id, address: address.clone(), reason: reason.clone() }
        } else {
            Event::Refused { peer: id, address: address.clone(), reason: reason.clone() }
        };
        self.actions.push_back(Action::Event(event));
        let has_lasted = |session: &Session| {
            let time = now.instant.saturating_duration_since(session.since);
            session.standing != Standing::Checking && (time >= LASTING || reason.is_ours())
        };
        let lasted = session.as_deref().is_some_and(has_lasted);
        let is_final = reason.is_lasting();
        let end = End { address: &address, lasted, is_final };
        let at = self.dial_ended(now, &end, session.is_some());
        if let Some(peer) = self.peers.get_mut(&id) {
            Self::set_timer(&mut self.timers, &mut peer.timer, Timer::Peer(id), Some(at));
            peer.removed |= is_found;
        }
        if session.is_none() && !reason.is_ours() {
            self.note_dial_failed(now, &address);
        }
        if is_found {
            self.note_found_lost(now, &address, lasted && !is_final, &reason);
        }
        if let Some(session) = session {
            self.leave_second(connection, session.second, &reason);
            self.ready -= usize::from(was_verified);
            self.listening -= usize::from(was_verified && !session.paused);
            self.drop_check(now, id);
            self.update_main_peer(now);
            self.lose_broadcast_peer(now, id);
            self.move_requests(now, id, connection, session.outstanding.requests(), &reason);
            self.lose_watched_peer(now, connection);
            if was_verified && self.ready == 0 && reason != DisconnectReason::Shutdown {
                self.tell_no_peers();
            }
        }
        if !was_verified {
            // Somebody may have waited for it in vain.
            self.ask_waiting(now);
        }
        // Last, as the requests it leaves name it among those they asked.
        self.forget_if_removed(now, id);
        self.hold(now);
    }

    /// We stop or go on reading a peer, as its messages are left or taken.
    pub(crate) fn handle_paused(&mut self, now: Now, id: PeerId, paused: bool) {
        let Some(session) = self.peers.get_mut(&id).and_then(super::Peer::session_mut) else { return };
        if std::mem::replace(&mut session.paused, paused) == paused {
            return;
        }
        session.read_since = now.instant;
        if session.standing == Standing::Verified {
            self.listening = if paused { self.listening - 1 } else { self.listening + 1 };
        }
        let connection = session.connection;
        let owed = session.outstanding.requests();
        let takes_part = session.standing != Standing::Checking;
        self.update_main_peer(now);
        self.pause_watched_peer(now, connection, paused);
        if paused {
            self.leave_paused(now, owed);
        } else if takes_part {
            self.tell_new_peer(now, id, false);
            self.ask_waiting(now);
            self.offer_peer(now, id);
        }
    }
}

/// A connection that held for so long was no failure.
const LASTING: Duration = Duration::from_secs(30);
