//! In which order peers are asked.
//!
//! Layer 4.

use std::time::Duration;

use super::{Peer, Session};
use crate::engine::Engine;
use crate::peer::PeerId;

impl Peer {
    /// What it costs to ask this peer; the cheapest is the best.
    pub(in crate::engine) fn cost(&self) -> f64 {
        let Some(session) = self.session() else { return f64::INFINITY };
        let latency = self.latency.unwrap_or(UNKNOWN_LATENCY).as_secs_f64().max(50e-6);
        // A peer at work answers later, and one that fails is asked last.
        let load = 1.0 + session.outstanding.len() as f64 / 8.0;
        latency * load * f64::from(1_u32 << self.request_failures.min(16))
    }
}

impl Engine {
    /// The order in which peers are asked: the main peer, then by cost.
    pub(in crate::engine) fn rank(&self, id: PeerId, peer: &Peer) -> f64 {
        if self.main_peer == Some(id) && peer.session().is_some_and(|session| !session.paused) {
            return 0.0;
        }
        peer.cost()
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

    /// Notes that a peer did, or failed to do, what it was asked.
    pub(in crate::engine) fn note_answer(&mut self, id: PeerId, answered: bool) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.request_failures = if answered { 0 } else { peer.request_failures.saturating_add(1) };
        }
    }

    /// The best peer that may be asked, by a test on its session.
    pub(in crate::engine) fn best_peer(&self, may_ask: impl Fn(PeerId, &Session) -> bool) -> Option<PeerId> {
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
    pub(in crate::engine) fn best_peers(&self, most: usize, may_choose: impl Fn(PeerId) -> bool) -> Vec<PeerId> {
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

    /// Makes a peer the first to be asked, while it is connected.
    pub(crate) fn set_main_peer(&mut self, peer: PeerId) {
        self.main_peer = Some(peer);
    }
}

/// A peer that is not measured yet stands behind those that are near.
const UNKNOWN_LATENCY: Duration = Duration::from_millis(500);
