//! When each peer is dialled: the back-off of its address, and how many dials there are at once.
//!
//! Layer 4.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::State;
use crate::config::Config;
use crate::engine::back_off::back_off;
use crate::engine::{Action, Engine, Now, Timer};
use crate::error::DisconnectReason;
use crate::peer::{ConnectionId, Host, PeerAddress, PeerId};

/// The addresses of the peers held, and the dials under way.
#[derive(Debug, Default)]
pub(in crate::engine) struct Dialling {
    addresses: BTreeMap<PeerAddress, Address>,
    /// Peers that are being dialled, from the resolver to the end of the handshake.
    under_way: usize,
    /// Peers whose time has come while too many others are dialled.
    queue: BTreeSet<PeerId>,
}

/// One address, which may have several peers.
#[derive(Debug, Default)]
struct Address {
    peers: BTreeSet<PeerId>,
    /// Dials that failed, or connections that did not last, in a row.
    failures: u32,
    /// When the first of those failures was.
    failing_since: Option<Instant>,
    /// No dial before this.
    retry_at: Option<Instant>,
    dialled: usize,
    connected: usize,
    /// Peers that wait for the outcome of the dial under way: an address without a connection is dialled once at a time.
    held: BTreeSet<PeerId>,
}

impl Dialling {
    pub(super) fn knows(&self, address: &PeerAddress) -> bool {
        self.addresses.contains_key(address)
    }

    pub(super) fn peers_at(&self, address: &PeerAddress) -> impl Iterator<Item = PeerId> + use<'_> {
        self.addresses.get(address).into_iter().flat_map(|address| address.peers.iter().copied())
    }

    pub(super) fn add(&mut self, id: PeerId, address: &PeerAddress) {
        self.addresses.entry(address.clone()).or_default().peers.insert(id);
    }

    pub(super) fn remove(&mut self, id: PeerId, address: &PeerAddress) {
        self.queue.remove(&id);
        if let Some(known) = self.addresses.get_mut(address) {
            known.peers.remove(&id);
            known.held.remove(&id);
            if known.peers.is_empty() {
                self.addresses.remove(address);
            }
        }
    }

    pub(super) fn failures(&self, address: &PeerAddress) -> u32 {
        self.addresses.get(address).map_or(0, |address| address.failures)
    }

    /// Whether a peer waits without a timer.
    pub(super) fn is_held_back(&self, id: PeerId, address: &PeerAddress) -> bool {
        self.queue.contains(&id) || self.addresses.get(address).is_some_and(|address| address.held.contains(&id))
    }

    /// Asks for a dial now: `Err` is when to ask again, if that is known.
    fn may_dial(&mut self, now: Now, id: PeerId, address: &PeerAddress) -> Result<(), Option<Instant>> {
        let Some(known) = self.addresses.get_mut(address) else { return Err(None) };
        if let Some(at) = known.retry_at.filter(|&at| at > now.instant) {
            return Err(Some(at));
        }
        if known.connected == 0 && known.dialled > 0 {
            known.held.insert(id);
            return Err(None);
        }
        if self.under_way >= MAX_DIALS {
            self.queue.insert(id);
            return Err(None);
        }
        self.under_way += 1;
        known.dialled += 1;
        Ok(())
    }

    /// A dial is over. Gives those that it held back.
    fn ended(&mut self, address: &PeerAddress) -> Vec<PeerId> {
        self.under_way -= 1;
        let Some(known) = self.addresses.get_mut(address) else { return Vec::new() };
        known.dialled -= 1;
        let held = std::mem::take(&mut known.held);
        let mut free: Vec<PeerId> = held.into_iter().collect();
        while let Some(next) = self.next_in_queue(free.len()) {
            free.push(next);
        }
        free
    }

    /// The next of those that wait for others' dials to end, if there is room besides so many.
    fn next_in_queue(&mut self, besides: usize) -> Option<PeerId> {
        if self.under_way + besides < MAX_DIALS { self.queue.pop_first() } else { None }
    }

    fn connected(&mut self, address: &PeerAddress) -> Vec<PeerId> {
        if let Some(known) = self.addresses.get_mut(address) {
            known.connected += 1;
        }
        self.ended(address)
    }

    fn disconnected(&mut self, address: &PeerAddress) {
        if let Some(known) = self.addresses.get_mut(address) {
            known.connected -= 1;
        }
    }

    /// Notes a failure, or with `lasted` the end of a connection that was none; gives when to dial again.
    fn note_failure(&mut self, now: Now, config: &Config, limit: Duration, jitter: f64, end: &End<'_>) -> Instant {
        let known = self.addresses.entry(end.address.clone()).or_default();
        // Several connections to one address end by one cause.
        if let Some(at) = known.retry_at.filter(|&at| at > now.instant && !end.is_final) {
            return at;
        }
        if end.lasted {
            known.failures = 0;
            known.failing_since = None;
        } else {
            known.failures = known.failures.saturating_add(1);
            known.failing_since.get_or_insert(now.instant);
        }
        let wait = if end.is_final {
            config.redial_max.mul_f64(jitter).min(config.redial_max)
        } else {
            back_off(config.redial_min, limit, known.failures, jitter)
        };
        let at = now.instant + wait;
        known.retry_at = Some(at);
        at
    }

    /// Takes back failures since an instant; gives the peers that may be dialled again.
    fn forgive(&mut self, since: Instant) -> Vec<PeerId> {
        let mut forgiven = Vec::new();
        for address in self.addresses.values_mut() {
            if address.failing_since.is_some_and(|failing| failing >= since) {
                address.failures = 0;
                address.failing_since = None;
                address.retry_at = None;
                forgiven.extend(&address.peers);
            }
        }
        forgiven
    }

    #[cfg(test)]
    pub(super) fn check(&self, peers: &BTreeMap<PeerId, super::Peer>, connecting: BTreeSet<PeerId>) {
        assert_eq!(self.under_way, connecting.len());
        assert!(self.under_way <= MAX_DIALS);
        let of = |ids: &BTreeSet<PeerId>, test: &dyn Fn(&super::Peer) -> bool| {
            ids.iter().filter(|id| peers.get(id).is_some_and(test)).count()
        };
        for (at, address) in &self.addresses {
            assert!(!address.peers.is_empty(), "{at} has no peer");
            assert_eq!(of(&address.peers, &|peer| peer.address == *at), address.peers.len());
            assert_eq!(of(&address.peers, &|peer| matches!(peer.state, State::Connecting { .. })), address.dialled);
            assert_eq!(of(&address.peers, &|peer| peer.session().is_some()), address.connected);
            let is_idle = |peer: &super::Peer| matches!(peer.state, State::Waiting) && peer.timer.is_none();
            assert_eq!(of(&address.held, &is_idle), address.held.len());
            assert!(address.held.is_empty() || address.dialled > 0, "somebody waits for a dial at {at}");
        }
        assert_eq!(peers.len(), self.addresses.values().map(|address| address.peers.len()).sum());
    }
}

/// How a dial, or a connection, ended.
pub(super) struct End<'a> {
    pub(super) address: &'a PeerAddress,
    /// It was a connection that held for long.
    pub(super) lasted: bool,
    /// Trying again soon would be of no use.
    pub(super) is_final: bool,
}

impl Engine {
    /// A peer's timer: dial it, give up on its resolver, or check it again.
    pub(in crate::engine) fn peer_due(&mut self, now: Now, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.timer = None;
        match peer.state {
            State::Waiting => self.dial(now, id),
            State::Connecting { connection, resolving: true, .. } => {
                let reason = DisconnectReason::Resolve { kind: std::io::ErrorKind::TimedOut };
                self.handle_down(now, id, connection, reason);
            }
            State::Connecting { .. } => {}
            State::Ready(_) => self.check_chain(now, id),
        }
    }

    fn dial(&mut self, now: Now, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else { return };
        let until = self.banned_until(now, peer);
        let may_dial =
            until.map_or_else(|| self.dialling.may_dial(now, id, &peer.address), |until| Err(Some(until)));
        if let Err(at) = may_dial {
            let Some(peer) = self.peers.get_mut(&id) else { return };
            Self::set_timer(&mut self.timers, &mut peer.timer, Timer::Peer(id), at);
            // It leaves its place to another.
            let next = self.dialling.next_in_queue(0);
            self.dial_soon(now, next.into_iter().collect(), now.instant);
            return;
        }
        let connection = ConnectionId(self.next_id());
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let port = peer.address.port.unwrap_or_default();
        let resolving = match &peer.address.host {
            Host::Name(host) if !self.dials_names => {
                self.actions.push_back(Action::Resolve { peer: id, connection, host: host.clone(), port });
                let at = now.instant + self.config.resolve_timeout;
                Self::set_timer(&mut self.timers, &mut peer.timer, Timer::Peer(id), Some(at));
                true
            }
            _ => {
                self.actions.push_back(Action::Connect { peer: id, connection, address: peer.address.clone() });
                false
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
        let failures = self.dialling.failures(&peer.address) as usize;
        match result {
            // After a failure the next address of the name has its turn.
            Ok(addresses) if !addresses.is_empty() => {
                let address = addresses[failures % addresses.len()].into();
                self.actions.push_back(Action::Connect { peer: id, connection, address });
            }
            Ok(_) => self.handle_down(now, id, connection, nothing),
            Err(reason) => self.handle_down(now, id, connection, reason),
        }
    }

    /// The dial of a peer has become a connection.
    pub(super) fn dial_connected(&mut self, now: Now, address: &PeerAddress) {
        let free = self.dialling.connected(address);
        self.dial_soon(now, free, now.instant);
        self.network_works(now);
    }

    /// The dial of a peer came to nothing, or its connection ended; gives when to dial its address again.
    pub(super) fn dial_ended(&mut self, now: Now, end: &End<'_>, was_connected: bool) -> Instant {
        let jitter = self.random.jitter();
        let limit = self.longest_back_off();
        let at = self.dialling.note_failure(now, &self.config, limit, jitter, end);
        if was_connected {
            self.dialling.disconnected(end.address);
        } else {
            let free = self.dialling.ended(end.address);
            self.dial_soon(now, free, now.instant);
        }
        // Several that were lost together do not come back together.
        let is_one_of_many = self.dialling.peers_at(end.address).nth(1).is_some();
        if is_one_of_many { at + self.config.redial_min.mul_f64(self.random.fraction()) } else { at }
    }

    /// Takes back what failed since our own network failed, and dials again, each at a time of its own.
    pub(super) fn forgive_dials(&mut self, now: Now, since: Instant) {
        let forgiven = self.dialling.forgive(since);
        let within = self.config.redial_min;
        let waits = |id: &PeerId| self.peers.get(id).is_some_and(|peer| peer.timer.is_some());
        for id in forgiven.into_iter().filter(waits).collect::<Vec<_>>() {
            let at = now.instant + within.mul_f64(self.random.jitter());
            self.dial_soon(now, vec![id], at);
        }
    }

    /// Makes a peer that waits do so until then.
    pub(super) fn wait_until(&mut self, id: PeerId, at: Instant) {
        if let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.is_waiting()) {
            Self::set_timer(&mut self.timers, &mut peer.timer, Timer::Peer(id), Some(at));
        }
    }

    /// Sets the timers of those that wait.
    fn dial_soon(&mut self, now: Now, ids: Vec<PeerId>, at: Instant) {
        for id in ids {
            let Some(peer) = self.peers.get_mut(&id).filter(|peer| matches!(peer.state, State::Waiting)) else {
                continue;
            };
            let at = if self.started { Some(at.max(now.instant)) } else { None };
            Self::set_timer(&mut self.timers, &mut peer.timer, Timer::Peer(id), at);
        }
    }
}

/// Dials at once, over all peers: many that are lost together come back in turns.
const MAX_DIALS: usize = 48;
