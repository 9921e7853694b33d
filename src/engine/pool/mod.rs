//! The peers: which are held, when each is dialled, whether it is on our chain, in which order they are asked.
//!
//! Layer 4.

mod banning;
mod dialling;
mod finding;
mod joining;
mod life;
mod ranking;
mod saving;
mod verifying;

#[cfg(test)]
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use crate::engine::broadcast::{ToAnnounce, ToServe};
use crate::engine::outstanding::Outstanding;
use crate::engine::{Action, Engine, Now, Timer};
use crate::error::{AddPeersError, DisconnectReason};
use crate::message::{TimestampedAddress, Version};
use crate::peer::{ConnectionId, PeerAddress, PeerId, PeerInfo, PeerState};
use crate::proto::Link;

pub(super) use dialling::Dialling;
pub(super) use finding::Finding;
pub(super) use ranking::{MainPeer, Size};
pub(super) use verifying::Checks;

use joining::Second;
use ranking::Measured;

/// A peer, connected or not.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: PeerAddress,
    /// The caller named it, so it is kept whatever happens; any other is forgotten when its connection ends.
    named: bool,
    state: State,
    measured: Measured,
    /// Of a peer that waits: when it is dialled; of one whose name is resolved: when that is given up; of one that is
    /// not verified: when it is checked again.
    timer: Option<Instant>,
    /// Forget it once its connection ended.
    removed: bool,
}

#[derive(Debug)]
enum State {
    /// Dialled when the timer fires, or when others that are dialled make room.
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
pub(super) struct Session {
    pub(super) connection: ConnectionId,
    second: Second,
    pub(super) version: Box<Version>,
    /// When it was dialled.
    dialled: Instant,
    /// When its handshake was done.
    since: Instant,
    pub(super) standing: Standing,
    /// It announced a block while it was asked whether it is on our chain.
    pub(super) announced: bool,
    /// We do not read it, because nobody takes its messages.
    pub(super) paused: bool,
    /// Since when it is read.
    read_since: Instant,
    pub(super) outstanding: Outstanding,
    /// When its last large reply came.
    bulk_until: Option<Instant>,
    /// It has no room for large replies until then.
    pub(super) busy_until: Option<Instant>,
    /// Large replies it had no room for, in a row.
    pub(super) refusals: u32,
    pub(super) to_announce: ToAnnounce,
    pub(super) to_serve: ToServe,
    /// What it wants transactions to pay, in satoshis for 1,000 bytes, once it has said so.
    pub(super) fee_filter: Option<u64>,
    /// The peer's, shared with what is noted of it.
    pub(super) address: Arc<PeerAddress>,
    /// The addresses it sent last.
    pub(super) addresses: Vec<TimestampedAddress>,
    pub(super) asked_addresses: bool,
    /// We have asked it for addresses on our own account, and they have not come.
    pub(super) discovers: bool,
}

/// Whether a connected peer is known to be on our chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was asked, and nothing else is done with it until it has answered.
    Checking,
    /// It could not tell, as a node in initial block download cannot. It may be told of transactions.
    Unverified,
    /// It is, or there is nothing to check on this network.
    Verified,
}

impl Session {
    /// Whether it has no room for large replies now.
    pub(super) fn is_busy(&self, now: Now) -> bool {
        self.busy_until.is_some_and(|until| until > now.instant)
    }
}

impl Peer {
    fn new(address: PeerAddress, named: bool) -> Self {
        let measured = Measured::default();
        Self { address, named, state: State::Waiting, measured, timer: None, removed: false }
    }

    pub(super) fn session(&self) -> Option<&Session> {
        match &self.state {
            State::Ready(session) => Some(session),
            _ => None,
        }
    }

    pub(super) fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.state {
            State::Ready(session) => Some(session),
            _ => None,
        }
    }

    /// Whether it is connected and its messages are taken.
    pub(super) fn is_read(&self) -> bool {
        self.session().is_some_and(|session| !session.paused)
    }

    /// Whether it is read and not in the middle of its check.
    pub(super) fn takes_part(&self) -> bool {
        self.session().is_some_and(|session| !session.paused && session.standing != Standing::Checking)
    }

    fn is_verified(&self) -> bool {
        self.session().is_some_and(|session| session.standing == Standing::Verified)
    }

    /// Whether it is on our chain and read.
    fn is_listening(&self) -> bool {
        self.is_verified() && self.is_read()
    }

    fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting)
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
        let new: HashSet<&PeerAddress> = addresses.iter().filter(|address| !self.dialling.knows(address)).collect();
        self.check_limit(new.len())?;
        let named = |address| {
            let known = self.dialling.peers_at(&address).next();
            if let Some(known) = known { self.name_peer(known) } else { self.add_peer(now, address, true) }
        };
        Ok(addresses.into_iter().map(named).collect())
    }

    /// Keeps so many connections to one address from now on, those there are among them.
    pub(crate) fn add_connections(
        &mut self,
        now: Now,
        address: PeerAddress,
        count: usize,
    ) -> Result<Vec<PeerId>, AddPeersError> {
        let address = address.or_port(self.config.network.port());
        let known: Vec<PeerId> = self.dialling.peers_at(&address).take(count).collect();
        self.check_limit(count - known.len())?;
        let mut peers: Vec<_> = known.into_iter().map(|id| self.name_peer(id)).collect();
        while peers.len() < count {
            peers.push(self.add_peer(now, address.clone(), true));
        }
        Ok(peers)
    }

    fn check_limit(&self, new: usize) -> Result<(), AddPeersError> {
        let (wanted, limit) = (self.peers.len() + new, self.config.max_peers);
        if wanted > limit { Err(AddPeersError::TooManyPeers { wanted, limit }) } else { Ok(()) }
    }

    fn name_peer(&mut self, id: PeerId) -> PeerId {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.named = true;
            peer.removed = false;
        }
        id
    }

    fn add_peer(&mut self, now: Now, address: PeerAddress, named: bool) -> PeerId {
        let id = PeerId(self.next_id());
        self.dialling.add(id, &address);
        let mut peer = Peer::new(address, named);
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

    pub(in crate::engine) fn end_connection(&mut self, now: Now, id: PeerId, reason: DisconnectReason) {
        let Some(connection) = self.peers.get(&id).and_then(Peer::connection) else {
            self.forget_if_removed(now, id);
            return;
        };
        self.actions.push_back(Action::Close { connection, reason: reason.clone() });
        // The loop's own report comes later and finds the peer gone, so the one told is this.
        self.handle_down(now, id, connection, reason);
    }

    fn forget_if_removed(&mut self, now: Now, id: PeerId) {
        let removed = self.peers.get(&id).is_some_and(|peer| peer.removed && peer.connection().is_none());
        if removed && let Some(mut peer) = self.peers.remove(&id) {
            Self::set_timer(&mut self.timers, &mut peer.timer, Timer::Peer(id), None);
            self.dialling.remove(id, &peer.address);
            self.forget_main_peer(id);
            // Those that waited for this peer only wait in vain.
            self.ask_waiting(now);
        }
    }

    /// Peers, best first.
    pub(crate) fn peers(&self, now: Now) -> Vec<PeerInfo> {
        let ranked = self.peers.iter().map(|(&id, peer)| (self.rank(now, id, peer, Size::Small), id, peer));
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        ranked.into_iter().map(|(_, id, peer)| self.info(now, id, peer)).collect()
    }

    fn info(&self, now: Now, id: PeerId, peer: &Peer) -> PeerInfo {
        let session = peer.session();
        let banned_until = self.banned_until(now, peer);
        PeerInfo {
            id,
            address: peer.address.clone(),
            link: Link::Outbound,
            state: match &peer.state {
                State::Waiting if banned_until.is_some() => PeerState::Banned,
                State::Waiting => PeerState::Waiting,
                State::Connecting { .. } => PeerState::Connecting,
                State::Ready(session) if session.paused => PeerState::Paused,
                State::Ready(session) => match session.standing {
                    Standing::Checking => PeerState::Checking,
                    Standing::Unverified => PeerState::Unverified,
                    Standing::Verified => PeerState::Ready,
                },
            },
            streams: session.map_or(0, |session| 1 + usize::from(self.seconds.contains_key(&session.connection))),
            is_main: self.main_peer.is_wanted(id),
            is_named: peer.named,
            connected_for: session.map(|session| now.instant.saturating_duration_since(session.since)),
            user_agent: session.map(|session| session.version.user_agent.to_string()),
            services: session.map(|session| session.version.services),
            start_height: session.map(|session| session.version.start_height),
            latency: peer.measured.latency,
            throughput: peer.measured.throughput.map(|rate| rate as u64),
            fee_filter: session.and_then(|session| session.fee_filter),
            outstanding_requests: session.map_or(0, |session| session.outstanding.len()),
            failures: self.dialling.failures(&peer.address).saturating_add(peer.measured.failures),
            // The driver sees what passes.
            traffic: None,
        }
    }

    /// Connected peers that count, also paused ones.
    pub(crate) fn ready_count(&self) -> usize {
        self.ready
    }

    /// Whether a peer can show what was relayed to it.
    pub(super) fn is_listening(&self, id: PeerId) -> bool {
        self.peers.get(&id).is_some_and(Peer::is_listening)
    }

    /// The connection of a peer that is connected.
    #[cfg(test)]
    pub(crate) fn connection_of(&self, peer: PeerId) -> Option<ConnectionId> {
        self.peers.get(&peer)?.session().map(|session| session.connection)
    }

    pub(super) fn is_verified(&self, id: PeerId) -> bool {
        self.peers.get(&id).is_some_and(Peer::is_verified)
    }

    /// Whether a peer that may be asked is on its way for the first time, so that it is worth a wait.
    pub(super) fn expects_peer(&self, only: Option<PeerId>) -> bool {
        let is_expected = |peer: &Peer| match &peer.state {
            State::Waiting => false,
            State::Connecting { .. } => self.dialling.failures(&peer.address) == 0,
            State::Ready(session) => session.standing == Standing::Checking,
        };
        self.peers.iter().any(|(&id, peer)| only.is_none_or(|only| only == id) && is_expected(peer))
    }

    /// Whether a peer is connected, but not read.
    pub(super) fn is_paused(&self, id: PeerId) -> bool {
        self.peers.get(&id).and_then(Peer::session).is_some_and(|session| session.paused)
    }

    /// Whether a peer is connected and its check is under way, so that nothing it says counts.
    pub(super) fn is_checking(&self, id: PeerId) -> bool {
        let session = self.peers.get(&id).and_then(Peer::session);
        session.is_some_and(|session| session.standing == Standing::Checking)
    }

    /// The session of a peer, if it is still that of this connection.
    pub(super) fn session_mut(&mut self, id: PeerId, connection: ConnectionId) -> Option<&mut Session> {
        self.peers.get_mut(&id)?.session_mut().filter(|session| session.connection == connection)
    }

    #[cfg(test)]
    pub(super) fn check_peers(&self, timers: &mut BTreeSet<(Instant, Timer)>) {
        let is_known = |id: PeerId| self.peers.contains_key(&id);
        assert!(self.main_peer.peers().all(is_known), "the main peer is known");
        self.check_seconds();
        assert_eq!(self.ready, self.peers.values().filter(|peer| peer.is_verified()).count());
        assert_eq!(self.listening, self.peers.values().filter(|peer| peer.is_listening()).count());
        let standing = self.peers.iter().filter(|(_, peer)| matches!(peer.state, State::Connecting { .. }));
        self.dialling.check(&self.peers, standing.map(|(&id, _)| id).collect());
        for (&id, peer) in &self.peers {
            assert!(!peer.removed, "{id} was to be forgotten");
            let has_timer = match &peer.state {
                State::Waiting => self.started && !self.dialling.is_held_back(id, &peer.address),
                State::Connecting { resolving, .. } => *resolving,
                State::Ready(session) => session.standing == Standing::Unverified && !self.checks.is_under_way(id),
            };
            assert_eq!(peer.timer.is_some(), has_timer, "{id}: {:?}", peer.state);
            timers.extend(peer.timer.map(|at| (at, Timer::Peer(id))));
        }
    }
}
