//! The peers: which are held, when each is dialled, in which order they are asked.
//!
//! Layer 4.

mod dialling;
mod ranking;

#[cfg(test)]
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::engine::broadcast::ToServe;
use crate::engine::outstanding::Outstanding;
use crate::engine::{Action, Engine, LONGEST, Now, Timer};
use crate::error::{AddPeersError, DisconnectReason};
use crate::message::{TimestampedAddress, Version};
use crate::peer::{ConnectionId, PeerAddress, PeerId, PeerInfo, PeerState};
use crate::proto::Link;
use crate::queue::events::Event;

use dialling::back_off;

/// A peer, connected or not.
#[derive(Debug)]
pub(in crate::engine) struct Peer {
    pub(in crate::engine) address: PeerAddress,
    /// The caller named it, so it is kept whatever happens.
    named: bool,
    state: State,
    /// Dials that failed, or connections that did not last, in a row: what the back-off grows by.
    dial_failures: u32,
    /// Requests that failed in a row: what the rank sinks by.
    request_failures: u32,
    /// Smoothed round trip.
    latency: Option<Duration>,
    timer: Option<Instant>,
    banned_until: Option<Instant>,
    /// Forget it once its connection ended.
    removed: bool,
}

#[derive(Debug)]
enum State {
    /// Dialled when the timer fires.
    Waiting,
    Connecting {
        connection: ConnectionId,
        since: Instant,
        resolving: bool,
    },
    Ready(Box<Session>),
}

/// What is known and outstanding of a connected peer.
#[derive(Debug)]
pub(in crate::engine) struct Session {
    pub(in crate::engine) connection: ConnectionId,
    pub(in crate::engine) version: Box<Version>,
    pub(in crate::engine) since: Instant,
    /// We do not read it, because nobody takes its messages.
    pub(in crate::engine) paused: bool,
    pub(in crate::engine) outstanding: Outstanding,
    pub(in crate::engine) to_serve: ToServe,
    /// The addresses it sent last.
    pub(in crate::engine) addresses: Vec<TimestampedAddress>,
    pub(in crate::engine) asked_addresses: bool,
}

impl Peer {
    pub(in crate::engine) fn session(&self) -> Option<&Session> {
        match &self.state {
            State::Ready(session) => Some(session),
            _ => None,
        }
    }

    pub(in crate::engine) fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.state {
            State::Ready(session) => Some(session),
            _ => None,
        }
    }

    /// Whether it is connected and its messages are taken.
    pub(in crate::engine) fn is_read(&self) -> bool {
        self.session().is_some_and(|session| !session.paused)
    }

    fn connection(&self) -> Option<ConnectionId> {
        match &self.state {
            State::Waiting => None,
            State::Connecting { connection, .. } => Some(*connection),
            State::Ready(session) => Some(session.connection),
        }
    }
}

impl Engine {
    /// Adds peers that are kept from now on; those known already keep their identity.
    pub(crate) fn add_peers(
        &mut self,
        now: Now,
        addresses: Vec<PeerAddress>,
    ) -> Result<Vec<PeerId>, AddPeersError> {
        let addresses: Vec<_> = addresses.into_iter().map(|a| a.or_port(self.config.network.port())).collect();
        let known: HashMap<&PeerAddress, PeerId> =
            self.peers.iter().map(|(&id, peer)| (&peer.address, id)).collect();
        let mut new: Vec<&PeerAddress> = addresses.iter().filter(|address| !known.contains_key(address)).collect();
        new.sort_unstable();
        new.dedup();
        let wanted = self.peers.len() + new.len();
        if wanted > self.config.max_peers {
            return Err(AddPeersError::TooManyPeers { wanted, limit: self.config.max_peers });
        }
        Ok(addresses.into_iter().map(|address| self.add_peer(now, address, true)).collect())
    }

    fn add_peer(&mut self, now: Now, address: PeerAddress, named: bool) -> PeerId {
        if let Some((&id, peer)) = self.peers.iter_mut().find(|(_, peer)| peer.address == address) {
            peer.named |= named;
            peer.removed = false;
            return id;
        }
        let id = PeerId(self.next_id());
        let mut peer = Peer {
            address,
            named,
            state: State::Waiting,
            dial_failures: 0,
            request_failures: 0,
            latency: None,
            timer: None,
            banned_until: None,
            removed: false,
        };
        if self.started {
            Self::set_timer(&mut self.timers, &mut peer.timer, Timer::Peer(id), Some(now.instant));
        }
        self.peers.insert(id, peer);
        id
    }

    /// Ends the connection to a peer and forgets it.
    pub(crate) fn disconnect(&mut self, now: Now, id: PeerId) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        peer.removed = true;
        peer.named = false;
        self.end_connection(now, id, DisconnectReason::Requested);
        true
    }

    /// Ends the connection to a peer and does not dial it for as long, a year at most.
    pub(crate) fn ban(&mut self, now: Now, id: PeerId, how_long: Duration) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        let until = now.instant + how_long.min(LONGEST);
        peer.banned_until = Some(until);
        if self.started {
            Self::set_timer(&mut self.timers, &mut peer.timer, Timer::Peer(id), Some(until));
        }
        self.end_connection(now, id, DisconnectReason::Banned);
        true
    }

    fn end_connection(&mut self, now: Now, id: PeerId, reason: DisconnectReason) {
        let Some(connection) = self.peers.get(&id).and_then(Peer::connection) else {
            self.forget_if_removed(now, id);
            return;
        };
        self.actions.push_back(Action::Close { connection, reason: reason.clone() });
        // The loop's own report comes later and finds the peer gone, so the one told is this.
        self.handle_down(now, id, connection, reason);
    }

    /// Peers, best first.
    pub(crate) fn peers(&self, now: Now) -> Vec<PeerInfo> {
        let mut ranked: Vec<(PeerId, &Peer)> = self.peers.iter().map(|(&id, peer)| (id, peer)).collect();
        ranked.sort_by(|a, b| self.rank(a.0, a.1).total_cmp(&self.rank(b.0, b.1)));
        ranked.into_iter().map(|(id, peer)| self.info(now, id, peer)).collect()
    }

    fn info(&self, now: Now, id: PeerId, peer: &Peer) -> PeerInfo {
        let session = peer.session();
        let is_banned = peer.banned_until.is_some_and(|until| until > now.instant);
        PeerInfo {
            id,
            address: peer.address.clone(),
            link: Link::Outbound,
            state: match &peer.state {
                State::Waiting if is_banned => PeerState::Banned,
                State::Waiting => PeerState::Waiting,
                State::Connecting { .. } => PeerState::Connecting,
                State::Ready(session) if session.paused => PeerState::Paused,
                State::Ready(_) => PeerState::Ready,
            },
            is_main: self.main_peer == Some(id),
            user_agent: session.map(|session| session.version.user_agent.to_string()),
            services: session.map(|session| session.version.services),
            start_height: session.map(|session| session.version.start_height),
            latency: peer.latency,
            outstanding_requests: session.map_or(0, |session| session.outstanding.len()),
            failures: peer.dial_failures.saturating_add(peer.request_failures),
        }
    }

    /// Connected peers, also paused ones.
    pub(crate) fn ready_count(&self) -> usize {
        self.ready
    }

    /// The connection of a peer that is ready.
    pub(crate) fn connection_of(&self, peer: PeerId) -> Option<ConnectionId> {
        self.peers.get(&peer)?.session().map(|session| session.connection)
    }

    /// A peer's handshake is done.
    pub(crate) fn handle_up(&mut self, now: Now, id: PeerId, connection: ConnectionId, version: Box<Version>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let State::Connecting { connection: current, since, .. } = peer.state else { return };
        if current != connection {
            return;
        }
        self.actions.push_back(Action::Event(Event::Connected {
            peer: id,
            address: peer.address.clone(),
            user_agent: version.user_agent.to_string(),
            took: now.instant.saturating_duration_since(since),
        }));
        self.ready += 1;
        peer.state = State::Ready(Box::new(Session {
            connection,
            version,
            since: now.instant,
            paused: false,
            outstanding: Outstanding::default(),
            to_serve: ToServe::default(),
            addresses: Vec::new(),
            asked_addresses: false,
        }));
        self.tell_new_peer(id);
        self.ask_waiting(now);
        self.offer_peer(now, id);
        self.watch_peer(now, id, connection);
    }

    /// A connection ended, or could not be made.
    pub(crate) fn handle_down(&mut self, now: Now, id: PeerId, connection: ConnectionId, reason: DisconnectReason) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.connection() != Some(connection) {
            return;
        }
        let address = peer.address.clone();
        let session = match std::mem::replace(&mut peer.state, State::Waiting) {
            State::Ready(session) => Some(session),
            _ => None,
        };
        let lasted = session.as_ref().map(|session| now.instant.saturating_duration_since(session.since));
        peer.dial_failures = match lasted {
            Some(lasted) if lasted >= LASTING => 0,
            _ => peer.dial_failures.saturating_add(1),
        };
        let event = match &session {
            Some(_) => Event::Disconnected { peer: id, address, reason: reason.clone() },
            None => Event::Refused { peer: id, address, reason: reason.clone() },
        };
        self.actions.push_back(Action::Event(event));
        let at = now.instant + back_off(&self.config, peer.dial_failures, self.random.jitter());
        let at = peer.banned_until.map_or(at, |until| until.max(at));
        Self::set_timer(&mut self.timers, &mut peer.timer, Timer::Peer(id), Some(at));
        if let Some(session) = session {
            self.ready -= 1;
            self.lose_broadcast_peer(id, &session.to_serve);
            self.move_requests(now, id, session.outstanding.requests(), &reason);
            self.lose_watched_peer(now, connection);
        }
        // Last, as the requests it leaves name it among those they asked.
        self.forget_if_removed(now, id);
    }

    fn forget_if_removed(&mut self, now: Now, id: PeerId) {
        let removed = self.peers.get(&id).is_some_and(|peer| peer.removed && peer.connection().is_none());
        if removed && let Some(mut peer) = self.peers.remove(&id) {
            Self::set_timer(&mut self.timers, &mut peer.timer, Timer::Peer(id), None);
            if self.main_peer == Some(id) {
                self.main_peer = None;
            }
            // Those that waited for this peer only wait in vain.
            self.ask_waiting(now);
        }
    }

    /// We stop or go on reading a peer, as its messages are left or taken.
    pub(crate) fn handle_paused(&mut self, now: Now, id: PeerId, paused: bool) {
        let Some(session) = self.peers.get_mut(&id).and_then(Peer::session_mut) else { return };
        if std::mem::replace(&mut session.paused, paused) == paused {
            return;
        }
        let connection = session.connection;
        let owed = session.outstanding.requests();
        self.pause_watched_peer(now, connection, paused);
        if paused {
            self.leave_paused(now, owed);
        } else {
            self.tell_new_peer(id);
            self.ask_waiting(now);
            self.offer_peer(now, id);
        }
    }

    /// Whether a peer is connected, but not read.
    pub(in crate::engine) fn is_paused(&self, id: PeerId) -> bool {
        self.peers.get(&id).and_then(Peer::session).is_some_and(|session| session.paused)
    }

    /// The session of a peer, if it is still that of this connection.
    pub(in crate::engine) fn session_mut(&mut self, id: PeerId, connection: ConnectionId) -> Option<&mut Session> {
        self.peers.get_mut(&id)?.session_mut().filter(|session| session.connection == connection)
    }

    #[cfg(test)]
    pub(in crate::engine) fn check_peers(&self, timers: &mut BTreeSet<(Instant, Timer)>) {
        assert!(self.main_peer.is_none_or(|id| self.peers.contains_key(&id)), "the main peer is known");
        let ready = self.peers.values().filter(|peer| peer.session().is_some()).count();
        assert_eq!(self.ready, ready);
        for (&id, peer) in &self.peers {
            assert!(!peer.removed, "{id} was to be forgotten");
            let has_timer = match &peer.state {
                State::Waiting => self.started,
                State::Connecting { resolving, .. } => *resolving,
                State::Ready(_) => false,
            };
            assert_eq!(peer.timer.is_some(), has_timer, "{id}: {:?}", peer.state);
            timers.extend(peer.timer.map(|at| (at, Timer::Peer(id))));
        }
    }
}

/// A connection that held for so long was no failure.
const LASTING: Duration = Duration::from_secs(30);
