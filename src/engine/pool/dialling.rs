//! When each peer is dialled, and where peers are found.
//!
//! Layer 4.

use std::net::SocketAddr;
use std::time::Duration;

use super::State;
use crate::config::Config;
use crate::engine::{Action, Engine, Now, Timer};
use crate::error::DisconnectReason;
use crate::peer::{ConnectionId, Host, PeerId};

impl Engine {
    pub(in crate::engine) fn start_peers(&mut self, now: Now) {
        for (&id, peer) in &mut self.peers {
            let at = peer.banned_until.map_or(now.instant, |until| until.max(now.instant));
            Self::set_timer(&mut self.timers, &mut peer.timer, Timer::Peer(id), Some(at));
        }
        if self.peers.is_empty() {
            self.look_for_peers(now);
        }
    }

    /// Asks the seeds, again and again until there is a peer.
    pub(in crate::engine) fn look_for_peers(&mut self, now: Now) {
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
    pub(in crate::engine) fn peer_due(&mut self, now: Now, id: PeerId) {
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
        let failures = peer.dial_failures as usize;
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
}

pub(super) fn back_off(config: &Config, failures: u32, jitter: f64) -> Duration {
    let doubled = config.redial_min.saturating_mul(1_u32 << failures.saturating_sub(1).min(20));
    doubled.min(config.redial_max).mul_f64(jitter).min(config.redial_max)
}

/// Time between two looks at the seeds while there is no peer.
const SEED_INTERVAL: Duration = Duration::from_secs(60);
