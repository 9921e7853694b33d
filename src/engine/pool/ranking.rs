//! In which order peers are asked: the quickest for what is small, the strongest for what is large.
//!
//! Layer 4.

use std::time::{Duration, Instant};

use super::{Peer, Session, Standing};
use crate::engine::{Action, Engine, Now};
use crate::peer::{ConnectionId, PeerId};
use crate::queue::events::Event;
use crate::request::{Answer, Question};

/// What was measured of a peer, over all its connections.
#[derive(Debug, Default)]
pub(in crate::engine) struct Measured {
    /// Smoothed round trip.
    pub(super) latency: Option<Duration>,
    /// Smoothed rate at which large replies come, bytes a second.
    pub(super) throughput: Option<f64>,
    /// Smoothed size of the blocks that came from it, bytes.
    block_size: Option<f64>,
    /// Requests that failed in a row.
    pub(super) failures: u32,
    /// How long it kept us waiting in vain for what is answered at once; less with each ping that comes back.
    stalled: Duration,
    /// Greater for a peer that was asked later.
    last_asked: u64,
}

/// What a question asks for, as far as the choice of a peer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Size {
    /// The way there and back is all that counts.
    Small,
    /// The bytes count.
    Bulk,
}

impl Size {
    pub(in crate::engine) fn of(question: &Question) -> Self {
        match question {
            Question::Block(_)
            | Question::FilteredBlock(_)
            | Question::CompactBlock(_)
            | Question::BlockTransactions(_)
            | Question::EnrichedHeaders(_)
            | Question::Mempool { .. } => Self::Bulk,
            Question::Transactions(txids) if txids.len() > FEW => Self::Bulk,
            _ => Self::Small,
        }
    }
}

impl Measured {
    fn add_latency(&mut self, sample: Duration) {
        // As TCP smooths its round trips (RFC 6298).
        self.latency = Some(self.latency.map_or(sample, |smoothed| (smoothed * 7 + sample) / 8));
    }

    fn add_block_size(&mut self, sample: f64) {
        self.block_size = Some(self.block_size.map_or(sample, |smoothed| smoothed * 0.75 + sample * 0.25));
    }

    fn add_throughput(&mut self, sample: f64) {
        // There are fewer of these, so each counts for more.
        self.throughput = Some(self.throughput.map_or(sample, |smoothed| smoothed * 0.75 + sample * 0.25));
    }
}

impl Peer {
    /// What it costs to ask this peer, in seconds it is likely to take; the cheapest is the best.
    fn cost(&self, now: Now, size: Size) -> f64 {
        let Some(session) = self.session() else { return f64::INFINITY };
        let measured = &self.measured;
        let latency = measured.latency.unwrap_or(UNKNOWN_LATENCY).max(LEAST_LATENCY);
        // A peer that has become slow shows it by what it does not answer.
        let latency = latency.max(session.outstanding.waiting_for(now)).max(measured.stalled).as_secs_f64();
        let outstanding = &session.outstanding;
        let time = match size {
            Size::Small => latency * (1.0 + outstanding.len() as f64 / 8.0),
            Size::Bulk => {
                let throughput = measured.throughput.unwrap_or(UNKNOWN_THROUGHPUT).max(1.0);
                // A node sends one large reply after the other.
                latency + NOMINAL_BULK / throughput * (1.0 + outstanding.bulk() as f64)
            }
        };
        // Whoever fails, or may be on another chain, is asked last.
        let unproven = if session.standing == Standing::Verified { 1.0 } else { 1e6 };
        time * f64::from(1_u32 << measured.failures.min(16)) * unproven
    }
}

impl Engine {
    /// The order in which peers are asked: the main peer, then by cost.
    pub(super) fn rank(&self, now: Now, id: PeerId, peer: &Peer, size: Size) -> f64 {
        if self.main_peer.acting == Some(id) && peer.is_read() {
            return 0.0;
        }
        peer.cost(now, size)
    }

    /// A ping came back.
    pub(crate) fn handle_round_trip(&mut self, now: Now, id: PeerId, round_trip: Duration) {
        self.note_heard(now);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.measured.add_latency(round_trip);
            peer.measured.stalled /= 2;
        }
    }

    /// A peer that lay unread because of us is read again: what it was asked before says nothing about its pace.
    pub(crate) fn handle_read_again(&mut self, now: Now, id: PeerId, connection: ConnectionId) {
        if let Some(session) = self.session_mut(id, connection) {
            session.read_since = now.instant;
        }
    }

    /// A request was answered: what its time says of the peer.
    pub(in crate::engine) fn measure(&mut self, now: Now, id: PeerId, asked: Instant, answer: &Answer) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let measured = &mut peer.measured;
        let super::State::Ready(session) = &mut peer.state else { return };
        // What lay unread because of us says nothing about the peer.
        if session.paused || session.read_since > asked {
            return;
        }
        if let Some(bytes) = bulk_len(answer) {
            let since = session.bulk_until.map_or(asked, |until| until.max(asked));
            session.bulk_until = Some(now.instant);
            let took = now.instant.saturating_duration_since(since);
            // The way there and back is measured apart, but cannot be most of it.
            let took = took.saturating_sub(measured.latency.unwrap_or_default()).max(took / 2);
            if bytes >= MEASURED_BULK {
                measured.add_throughput(bytes as f64 / took.as_secs_f64().max(1e-6));
            }
        } else if is_small(answer)
            && session.outstanding.bulk() == 0
            && session.bulk_until.is_none_or(|until| until < asked)
        {
            measured.add_latency(now.instant.saturating_duration_since(asked));
        }
    }

    /// A block has come to its end; its rate counts unless it was us who were slow.
    pub(in crate::engine) fn measure_block(
        &mut self,
        now: Now,
        id: PeerId,
        began: Instant,
        size: u64,
        is_rate_known: bool,
    ) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let measured = &mut peer.measured;
        measured.add_block_size(size as f64);
        if let super::State::Ready(session) = &mut peer.state {
            session.bulk_until = Some(now.instant);
        }
        let took = now.instant.saturating_duration_since(began).as_secs_f64().max(1e-6);
        if is_rate_known && size >= MEASURED_BULK as u64 {
            measured.add_throughput(size as f64 / took);
        }
    }

    /// How many blocks a peer is asked for at once: as many as keep it busy while the next questions are on their way.
    pub(in crate::engine) fn block_limit(&self, id: PeerId) -> usize {
        let Some(measured) = self.peers.get(&id).map(|peer| &peer.measured) else { return 0 };
        let throughput = measured.throughput.unwrap_or(UNKNOWN_THROUGHPUT);
        let ahead = throughput * AHEAD.max(measured.latency.unwrap_or_default() * 4).as_secs_f64();
        let blocks = ahead / measured.block_size.unwrap_or(NOMINAL_BULK).max(1.0);
        // Between the limits, so the cast cuts nothing.
        blocks.clamp(LEAST_BLOCKS, MOST_BLOCKS) as usize
    }

    /// How long a peer has to answer a small request before another is asked as well.
    pub(in crate::engine) fn patience(&self, id: PeerId) -> Duration {
        let latency = self.peers.get(&id).and_then(|peer| peer.measured.latency);
        latency.map_or(LONG_PATIENCE, |latency| (latency * 8).max(LEAST_PATIENCE))
    }

    /// Notes that a peer did, or failed to do, what it was asked.
    pub(in crate::engine) fn note_answer(&mut self, id: PeerId, answered: bool) {
        if let Some(peer) = self.peers.get_mut(&id) {
            let failures = &mut peer.measured.failures;
            *failures = if answered { 0 } else { failures.saturating_add(1) };
            if answered {
                peer.measured.stalled = Duration::ZERO;
            }
        }
    }

    /// Notes that a peer did not answer what is answered at once, so that its rank is not that of its better days.
    pub(in crate::engine) fn note_stalled(&mut self, now: Now, id: PeerId, asked: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.session().is_some_and(|session| session.read_since <= asked) {
            let waited = now.instant.saturating_duration_since(asked);
            peer.measured.stalled = peer.measured.stalled.max(waited);
        }
    }

    /// Notes that a peer is being asked, so that others as good have their turn next.
    pub(in crate::engine) fn note_asked(&mut self, id: PeerId) {
        let order = self.next_id();
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.measured.last_asked = order;
        }
    }

    /// The best peer that may be asked, by a test on its session; of several as good, the one not asked for longest.
    pub(in crate::engine) fn best_peer(
        &self,
        now: Now,
        size: Size,
        may_ask: impl Fn(PeerId, &Session) -> bool,
    ) -> Option<PeerId> {
        let may_ask =
            |id, peer: &Peer| peer.is_read() && peer.session().is_some_and(|session| may_ask(id, session));
        let ranked = self.peers.iter().filter(|&(&id, peer)| may_ask(id, peer));
        // Once for each peer, not for each comparison.
        let ranked: Vec<_> =
            ranked.map(|(&id, peer)| (self.rank(now, id, peer, size), peer.measured.last_asked, id)).collect();
        let best = ranked.iter().map(|&(rank, ..)| rank).min_by(f64::total_cmp)?;
        let close = if best > 0.0 { best * CLOSE + CLOSE_SECONDS } else { best };
        let close = ranked.into_iter().filter(|&(rank, ..)| rank <= close);
        close.min_by_key(|&(_, last_asked, id)| (last_asked, id)).map(|(.., id)| id)
    }

    /// The best so many of the peers that pass a test, are read and may be told, best first.
    pub(in crate::engine) fn best_peers(
        &self,
        now: Now,
        most: usize,
        may_choose: impl Fn(PeerId) -> bool,
    ) -> Vec<PeerId> {
        if most == 0 {
            return Vec::new();
        }
        let chosen = self.peers.iter().filter(|&(&id, peer)| peer.takes_part() && may_choose(id));
        let mut ranked: Vec<(PeerId, f64)> =
            chosen.map(|(&id, peer)| (id, self.rank(now, id, peer, Size::Small))).collect();
        let order = |a: &(PeerId, f64), b: &(PeerId, f64)| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0));
        if most < ranked.len() {
            // Sorting a thousand peers for each transaction would be most of its work.
            ranked.select_nth_unstable_by(most - 1, order);
            ranked.truncate(most);
        }
        ranked.sort_unstable_by(order);
        ranked.into_iter().map(|(id, _)| id).collect()
    }
}

/// Which peer the caller wants asked first, and which one is.
#[derive(Debug, Default)]
pub(in crate::engine) struct MainPeer {
    pub(super) wanted: Option<PeerId>,
    /// The wanted one while it can be asked; else the one that stands in for it.
    pub(super) acting: Option<PeerId>,
}

impl MainPeer {
    pub(super) fn is_wanted(&self, id: PeerId) -> bool {
        self.wanted == Some(id)
    }

    #[cfg(test)]
    pub(super) fn peers(&self) -> impl Iterator<Item = PeerId> {
        [self.wanted, self.acting].into_iter().flatten()
    }
}

impl Engine {
    /// Makes a peer the first to be asked, while it is connected.
    pub(crate) fn set_main_peer(&mut self, now: Now, peer: PeerId) {
        self.main_peer.wanted = Some(peer);
        self.update_main_peer(now);
    }

    /// The peer that is asked first now.
    pub(crate) fn main_peer(&self, now: Now) -> Option<PeerId> {
        let best = || self.best_peers(now, 1, |id| self.is_verified(id)).first().copied();
        if self.main_peer.wanted.is_some() { self.main_peer.acting } else { best() }
    }

    /// A peer came, went, was stopped or resumed: another may have to stand in, or has to give way.
    pub(super) fn update_main_peer(&mut self, now: Now) {
        let Some(wanted) = self.main_peer.wanted else { return };
        let can = |id: PeerId| self.peers.get(&id).is_some_and(Peer::is_read) && self.is_verified(id);
        let acting = if can(wanted) {
            Some(wanted)
        } else if let Some(acting) = self.main_peer.acting.filter(|&acting| can(acting)) {
            // It stays as long as it can, so that the main peer does not change with every measurement.
            Some(acting)
        } else {
            self.best_peers(now, 1, |id| self.is_verified(id)).first().copied()
        };
        self.tell_main_peer(acting);
    }

    /// A peer is forgotten, and is the main peer no more.
    pub(super) fn forget_main_peer(&mut self, id: PeerId) {
        if self.main_peer.wanted == Some(id) {
            self.main_peer = MainPeer::default();
        }
    }

    fn tell_main_peer(&mut self, acting: Option<PeerId>) {
        if std::mem::replace(&mut self.main_peer.acting, acting) != acting {
            let address = acting.and_then(|id| self.peers.get(&id)).map(|peer| peer.address.clone());
            self.actions.push_back(Action::Event(Event::MainPeerChanged { peer: acting, address }));
        }
    }
}

/// The bytes of a reply that is large enough for its rate to be measured.
fn bulk_len(answer: &Answer) -> Option<usize> {
    match answer {
        Answer::Block(block) => Some(block.raw().len()),
        Answer::BlockTransactions(found) => Some(found.len_hint()),
        Answer::FilteredBlock(block) => {
            Some(block.transactions.iter().map(|transaction| transaction.raw().len()).sum())
        }
        _ => None,
    }
}

/// Whether a reply is so small that its time is a round trip.
fn is_small(answer: &Answer) -> bool {
    match answer {
        Answer::Transaction(transaction) => transaction.raw().len() <= SMALL_LEN,
        Answer::Headers(headers) => headers.len() * 81 <= SMALL_LEN,
        Answer::RoundTrip(_) => true,
        _ => false,
    }
}

/// A peer that is not measured yet stands behind those that are near.
const UNKNOWN_LATENCY: Duration = Duration::from_millis(500);
/// Differences below this are the machine's.
const LEAST_LATENCY: Duration = Duration::from_micros(50);
/// What a peer has at least to answer a small request, and if it is not measured yet.
const LEAST_PATIENCE: Duration = Duration::from_secs(2);
const LONG_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes a second that a peer is trusted with before it is measured.
const UNKNOWN_THROUGHPUT: f64 = 4e6;
/// How much of a peer's time is asked for ahead.
const AHEAD: Duration = Duration::from_millis(500);
/// How many blocks a peer is asked for at once, at least and at most; nodes themselves ask for 16 (section 1.5 of the
/// wire specification).
const LEAST_BLOCKS: f64 = 2.0;
const MOST_BLOCKS: f64 = 16.0;
/// The size by which large replies are reckoned, bytes.
const NOMINAL_BULK: f64 = 1e6;
/// Replies below this say more about the way than about the rate, bytes.
const MEASURED_BULK: usize = 65_536;
/// Replies up to this are there as soon as their first byte, bytes.
const SMALL_LEN: usize = 16_384;
/// Transactions of one question that are still a small one.
const FEW: usize = 16;
/// Peers that cost up to this much more than the best, by factor and in seconds, are as good.
const CLOSE: f64 = 1.25;
const CLOSE_SECONDS: f64 = 0.000_5;
