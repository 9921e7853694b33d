//! The peers: which are held, when each is dialled, in which order they are asked.
//!
//! Layer 4.

#[cfg(test)]
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::broadcast::ToServe;
use super::outstanding::Outstanding;
use super::{Action, Engine, LONGEST, Now, Timer};
use crate::config::Config;
use crate::error::{AddPeersError, DisconnectReason};
use crate::message::{TimestampedAddress, Version};
use crate::peer::{ConnectionId, Host, PeerAddress, PeerId, PeerInfo, PeerState};
use crate::proto::Link;
use crate::queue::events::Event;

/// A peer, connected or not.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: PeerAddress,
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
pub(super) struct Session {
    pub(super) connection: ConnectionId,
    pub(super) version: Box<Version>,
    pub(super) since: Instant,
    /// We do not read it, because nobody takes its messages.
    pub(super) paused: bool,
    pub(super) outstanding: Outstanding,
    pub(super) to_serve: ToServe,
    /// The addresses it sent last.
    pub(super) addresses: Vec<TimestampedAddress>,
    pub(super) asked_addresses: bool,
}

impl Peer {
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

    fn connection(&self) -> Option<ConnectionId> {
        match &self.state {
            State::Waiting => None,
            State::Connecting { connection, .. } => Some(*connection),
            State::Ready(session) => Some(session.connection),
        }
    }

    /// What it costs to ask this peer; the cheapest is the best.
    pub(super) fn cost(&self) -> f64 {
        let Some(session) = self.session() else { return f64::INFINITY };
        let latency = self.latency.unwrap_or(UNKNOWN_LATENCY).as_secs_f64().max(50e-6);
        // A peer at work answers later, and one that fails is asked last.
        let load = 1.0 + session.outstanding.len() as f64 / 8.0;
        latency * load * f64::from(1_u32 << self.request_failures.min(16))
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

    /// Makes a peer the first to be asked, while it is connected.
    pub(crate) fn set_main_peer(&mut self, peer: PeerId) {
        self.main_peer = Some(peer);
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

    /// The order in which peers are asked: the main peer, then by cost.
    pub(super) fn rank(&self, id: PeerId, peer: &Peer) -> f64 {
        if self.main_peer == Some(id) && peer.session().is_some_and(|session| !session.paused) {
            return 0.0;
        }
        peer.cost()
    }

    /// Connected peers, also paused ones.
    pub(crate) fn ready_count(&self) -> usize {
        self.ready
    }

    /// The connection of a peer that is ready.
    pub(crate) fn connection_of(&self, peer: PeerId) -> Option<ConnectionId> {
        self.peers.get(&peer)?.session().map(|session| session.connection)
    }

    pub(super) fn start_peers(&mut self, now: Now) {
        for (&id, peer) in &mut self.peers {
            let at = peer.banned_until.map_or(now.instant, |until| until.max(now.instant));
            Self::set_timer(&mut self.timers, &mut peer.timer, Timer::Peer(id), Some(at));
        }
        if self.peers.is_empty() {
            self.look_for_peers(now);
        }
    }

    /// Asks the seeds, again and again until there is a peer.
    pub(super) fn look_for_peers(&mut self, now: Now) {
        if !self.peers.is_empty() {
            return;
        }
        let port = self.config.network.port();
        let seeds = self.config.network.seeds();
        self.actions.extend(seeds.iter().map(|&host| Action::ResolveSeed { host: host.to_owned(), port }));
        if !seeds.is_empty() {
            self.timers.insert((now.instant + SEED_INTERVAL, Timer::Seeds));
        }
    }

    /// Takes what a seed gave; dials until `target_peers` are held.
    pub(crate) fn handle_seeds(&mut self, now: Now, addresses: Vec<SocketAddr>) {
        // Whoever named a peer meanwhile wants no others.
        if self.peers.values().any(|peer| peer.named) {
            return;
        }
        for address in addresses {
            if self.peers.len() >= self.config.target_peers.min(self.config.max_peers) {
                break;
            }
            self.add_peer(now, address.into(), false);
        }
    }

    /// A peer's timer: dial it, or give up on its resolver.
    pub(super) fn peer_due(&mut self, now: Now, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.timer = None;
        match peer.state {
            State::Waiting => self.dial(now, id),
            State::Connecting { connection, resolving: true, .. } => {
                let reason = DisconnectReason::Resolve { kind: std::io::ErrorKind::TimedOut };
                self.handle_down(now, id, connection, reason);
            }
            _ => {}
        }
    }

    fn dial(&mut self, now: Now, id: PeerId) {
        let connection = ConnectionId(self.next_id());
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.banned_until = None;
        let port = peer.address.port.unwrap_or_default();
        let resolving = match &peer.address.host {
            Host::Ip(ip) => {
                let address = SocketAddr::new(*ip, port);
                self.actions.push_back(Action::Connect { peer: id, connection, address });
                false
            }
            Host::Name(host) => {
                self.actions.push_back(Action::Resolve { peer: id, connection, host: host.clone(), port });
                let at = now.instant + self.config.resolve_timeout;
                Self::set_timer(&mut self.timers, &mut peer.timer, Timer::Peer(id), Some(at));
                true
            }
        };
        peer.state = State::Connecting { connection, since: now.instant, resolving };
    }

    /// Takes a resolver's answer and dials its first address.
    pub(crate) fn handle_resolved(
        &mut self,
        now: Now,
        id: PeerId,
        connection: ConnectionId,
        result: Result<Vec<SocketAddr>, DisconnectReason>,
    ) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let State::Connecting { connection: current, resolving, .. } = &mut peer.state else { return };
        // A late answer to a question given up on.
        if *current != connection || !std::mem::replace(resolving, false) {
            return;
        }
        Self::set_timer(&mut self.timers, &mut peer.timer, Timer::Peer(id), None);
        let nothing = DisconnectReason::Resolve { kind: std::io::ErrorKind::NotFound };
        let failures = peer.dial_failures as usize;
        match result {
            // After a failure the next address of the name has its turn.
            Ok(addresses) if !addresses.is_empty() => {
                let address = addresses[failures % addresses.len()];
                self.actions.push_back(Action::Connect { peer: id, connection, address });
            }
            Ok(_) => self.handle_down(now, id, connection, nothing),
            Err(reason) => self.handle_down(now, id, connection, reason),
        }
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

    /// A ping came back.
    pub(crate) fn handle_round_trip(&mut self, id: PeerId, round_trip: Duration) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.latency = Some(match peer.latency {
                // As TCP smooths its round trips (RFC 6298).
                Some(smoothed) => (smoothed * 7 + round_trip) / 8,
                None => round_trip,
            });
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
    pub(super) fn is_paused(&self, id: PeerId) -> bool {
        self.peers.get(&id).and_then(Peer::session).is_some_and(|session| session.paused)
    }

    /// Notes that a peer did, or failed to do, what it was asked.
    pub(super) fn note_answer(&mut self, id: PeerId, answered: bool) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.request_failures = if answered { 0 } else { peer.request_failures.saturating_add(1) };
        }
    }

    /// The session of a peer, if it is still that of this connection.
    pub(super) fn session_mut(&mut self, id: PeerId, connection: ConnectionId) -> Option<&mut Session> {
        self.peers.get_mut(&id)?.session_mut().filter(|session| session.connection == connection)
    }

    /// The best peer that may be asked, by a test on its session.
    pub(super) fn best_peer(&self, may_ask: impl Fn(PeerId, &Session) -> bool) -> Option<PeerId> {
        let asked = |id, peer: &Peer| peer.is_read() && peer.session().is_some_and(|session| may_ask(id, session));
        self.peers
            .iter()
            .filter(|&(&id, peer)| asked(id, peer))
            // Once for each peer, not for each comparison.
            .map(|(&id, peer)| (id, self.rank(id, peer)))
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(id, _)| id)
    }

    /// The best so many of the peers that pass a test and are read, best first.
    pub(super) fn best_peers(&self, most: usize, may_choose: impl Fn(PeerId) -> bool) -> Vec<PeerId> {
        if most == 0 {
            return Vec::new();
        }
        let chosen = self.peers.iter().filter(|&(&id, peer)| peer.is_read() && may_choose(id));
        let mut ranked: Vec<(PeerId, f64)> = chosen.map(|(&id, peer)| (id, self.rank(id, peer))).collect();
        let order = |a: &(PeerId, f64), b: &(PeerId, f64)| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0));
        if most < ranked.len() {
            // Sorting a thousand peers for each transaction would be most of its work.
            ranked.select_nth_unstable_by(most - 1, order);
            ranked.truncate(most);
        }
        ranked.sort_unstable_by(order);
        ranked.into_iter().map(|(id, _)| id).collect()
    }

    #[cfg(test)]
    pub(super) fn check_peers(&self, timers: &mut BTreeSet<(Instant, Timer)>) {
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

fn back_off(config: &Config, failures: u32, jitter: f64) -> Duration {
    let doubled = config.redial_min.saturating_mul(1_u32 << failures.saturating_sub(1).min(20));
    doubled.min(config.redial_max).mul_f64(jitter).min(config.redial_max)
}

/// A peer that is not measured yet stands behind those that are near.
const UNKNOWN_LATENCY: Duration = Duration::from_millis(500);
/// A connection that held for so long was no failure.
const LASTING: Duration = Duration::from_secs(30);
/// Time between two looks at the seeds while there is no peer.
const SEED_INTERVAL: Duration = Duration::from_secs(60);
