//! What is counted while the threads work, and the snapshot made of it.
//!
//! Counting must cost nothing that can be measured: the event loop adds to relaxed atomics, once for many messages where
//! many come together; what happens under the engine's lock is counted under it.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::broadcast::Verdict;
use crate::error::{DisconnectReason, RequestError};
use crate::peer::PeerId;
use crate::proto::Tally;
use crate::queue::events::Event;
use crate::stats::Stats;
use crate::wire::Command;

/// What the event loop and the message threads count.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) bytes_received: AtomicU64,
    pub(super) bytes_sent: AtomicU64,
    pub(super) received: CommandCounts,
    pub(super) sent: CommandCounts,
    pub(super) unclaimed: AtomicU64,
    pub(super) oversized: AtomicU64,
    pub(super) faulty: AtomicU64,
}

/// A count for each known command, and one for all others.
#[derive(Debug)]
pub(super) struct CommandCounts {
    counts: [AtomicU64; Command::KNOWN.len() + 1],
}

/// What is counted under the engine's lock.
#[derive(Debug, Default)]
pub(super) struct Happened {
    pub(super) started: Option<Instant>,
    pub(super) dials: u64,
    /// Events that readers missed.
    pub(super) events_missed: u64,
    /// What watches missed that are over.
    pub(super) announcements_missed: u64,
    connects: u64,
    reconnects: u64,
    refusals: BTreeMap<&'static str, u64>,
    disconnects: BTreeMap<&'static str, u64>,
    answered: u64,
    failed: BTreeMap<&'static str, u64>,
    verdicts: BTreeMap<&'static str, u64>,
    blocks: BTreeMap<&'static str, u64>,
    /// Peers that were connected and lost, and may come back.
    lost: HashSet<PeerId>,
}

/// Adds to a counter that nobody reads meanwhile.
pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// Reads a counter.
pub(super) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Counters {
    /// Writes what was counted into a snapshot.
    pub(super) fn fill(&self, stats: &mut Stats) {
        stats.bytes_received = read(&self.bytes_received);
        stats.bytes_sent = read(&self.bytes_sent);
        stats.messages_received = self.received.by_name();
        stats.messages_sent = self.sent.by_name();
        stats.drops.unclaimed = read(&self.unclaimed);
        stats.drops.oversized = read(&self.oversized);
        stats.drops.faulty = read(&self.faulty);
    }
}

impl CommandCounts {
    pub(super) fn add(&self, command: Command, n: u64) {
        self.add_at(command.index(), n);
    }

    /// Adds what was counted elsewhere, `times` over.
    pub(super) fn add_all(&self, tally: &Tally, times: u64) {
        for &(index, count) in tally.counts() {
            self.add_at(index, count * times);
        }
    }

    fn add_at(&self, index: Option<usize>, n: u64) {
        add(&self.counts[index.unwrap_or(OTHER)], n);
    }

    fn by_name(&self) -> BTreeMap<String, u64> {
        let name = |index: usize| Command::KNOWN.get(index).map_or("other", Command::as_str).to_owned();
        let counts = self.counts.iter().map(read).enumerate();
        counts.filter(|&(_, count)| count > 0).map(|(index, count)| (name(index), count)).collect()
    }
}

impl Default for CommandCounts {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Happened {
    /// Counts an event.
    pub(super) fn note_event(&mut self, event: &Event) {
        match event {
            Event::Connected { peer, .. } => {
                self.connects += 1;
                self.reconnects += u64::from(self.lost.remove(peer));
            }
            Event::Refused { reason, .. } => *self.refusals.entry(reason.name()).or_default() += 1,
            Event::Disconnected { peer, reason, .. } => {
                *self.disconnects.entry(reason.name()).or_default() += 1;
                // Whom the caller sent away is forgotten.
                if !matches!(reason, DisconnectReason::Requested | DisconnectReason::Shutdown) {
                    self.lost.insert(*peer);
                }
            }
            _ => {}
        }
    }

    /// Whether more lost peers are remembered than can be waited for, so that those not known any more must go.
    pub(super) fn remembers_too_many(&self, max_peers: usize) -> bool {
        self.lost.len() > max_peers.saturating_mul(2)
    }

    /// Forgets lost peers that are not among these.
    pub(super) fn remember_only(&mut self, known: &HashSet<PeerId>) {
        self.lost.retain(|peer| known.contains(peer));
    }

    /// Counts the end of a request.
    pub(super) fn note_request<T>(&mut self, result: &Result<T, RequestError>) {
        match result {
            Ok(_) => self.answered += 1,
            Err(error) => *self.failed.entry(error.name()).or_default() += 1,
        }
    }

    /// Counts a block that was streamed, by what became of it.
    pub(super) fn note_block(&mut self, outcome: &'static str) {
        *self.blocks.entry(outcome).or_default() += 1;
    }

    /// Counts the verdict of a broadcast.
    pub(super) fn note_verdict(&mut self, verdict: &Verdict) {
        *self.verdicts.entry(verdict.name()).or_default() += 1;
    }

    /// Writes what was counted into a snapshot.
    pub(super) fn fill(&self, stats: &mut Stats) {
        let named = |counts: &BTreeMap<&'static str, u64>| {
            counts.iter().map(|(&name, &count)| (name.to_owned(), count)).collect::<BTreeMap<_, _>>()
        };
        stats.dials = self.dials;
        stats.connects = self.connects;
        stats.reconnects = self.reconnects;
        stats.refusals = named(&self.refusals);
        stats.disconnects = named(&self.disconnects);
        stats.requests = named(&self.failed);
        stats.broadcasts = named(&self.verdicts);
        stats.blocks = named(&self.blocks);
        if self.answered > 0 {
            stats.requests.insert("ok".to_owned(), self.answered);
        }
        stats.drops.events = self.events_missed;
        stats.drops.announcements = self.announcements_missed;
    }
}

/// The place of the count of all commands that are not known.
const OTHER: usize = Command::KNOWN.len();

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::time::Duration;

    fn connected(peer: u64) -> Event {
        let address = "127.0.0.1:1".parse().unwrap();
        Event::Connected { peer: PeerId(peer), address, user_agent: String::new(), took: Duration::ZERO }
    }

    fn lost(peer: u64, reason: DisconnectReason) -> Event {
        Event::Disconnected { peer: PeerId(peer), address: "127.0.0.1:1".parse().unwrap(), reason }
    }

    #[test]
    fn a_peer_that_comes_back_is_told_from_a_new_one() {
        let mut happened = Happened::default();
        for event in [
            connected(1),
            connected(2),
            lost(1, DisconnectReason::ClosedByPeer),
            connected(3),
            connected(1),
            lost(1, DisconnectReason::Requested),
            lost(2, DisconnectReason::Dial { kind: ErrorKind::TimedOut }),
        ] {
            happened.note_event(&event);
        }
        let mut stats = Stats::default();
        happened.fill(&mut stats);
        assert_eq!((stats.connects, stats.reconnects), (4, 1));
        let expected = [("closed_by_peer", 1), ("dial", 1), ("requested", 1)];
        assert_eq!(stats.disconnects, expected.map(|(name, count)| (name.to_owned(), count)).into());
        assert!(happened.remembers_too_many(0) && !happened.remembers_too_many(1));
        happened.remember_only(&HashSet::new());
        assert!(!happened.remembers_too_many(0));
    }

    #[test]
    fn commands_are_counted_by_name() {
        let counts = CommandCounts::default();
        let mut tally = Tally::default();
        [Command::TX, Command::INV, Command::TX].into_iter().for_each(|command| tally.add(command));
        counts.add_all(&tally, 5);
        counts.add(Command::TX, 1);
        counts.add(Command::new("cat").unwrap(), 2);
        let expected = [("inv", 5), ("other", 2), ("tx", 11)];
        assert_eq!(counts.by_name(), expected.map(|(name, count)| (name.to_owned(), count)).into());
    }
}
