//! The run of frames that callers are writing, all for the same peers.

use std::sync::Arc;

use super::LinkState;
use super::budget::Budget;
use crate::peer::{ConnectionId, PeerId};
use crate::proto::{FrameRun, Tally};
use crate::wire::Command;

/// Frames for the peers that the last ones were for.
#[derive(Debug, Default)]
pub(super) struct OpenRun {
    peers: Vec<PeerId>,
    /// Their connections; empty until a second frame in a row is for the same peers.
    links: Vec<Arc<LinkState>>,
    connections: Arc<[ConnectionId]>,
    run: FrameRun,
    /// The commands in `run`.
    commands: Tally,
    /// Bytes charged to each connection that no frame has used yet; zero while the run is empty.
    credit: usize,
    /// The size of the run before, which the next one will have.
    last_len: usize,
    last_count: usize,
}

impl OpenRun {
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.run.has_room(len)
    }

    pub(super) fn is_for(&self, peers: &[PeerId]) -> bool {
        self.peers == peers
    }

    /// Begins to count frames for other peers; the run is empty.
    pub(super) fn turn_to(&mut self, peers: &[PeerId]) {
        debug_assert!(self.run.is_empty());
        self.links.clear();
        self.peers.clear();
        self.peers.extend_from_slice(peers);
    }

    /// Looks the connections up, if that was not done yet or one of them is over; false if one of the peers has none.
    pub(super) fn find_links(&mut self, link: impl Fn(&PeerId) -> Option<Arc<LinkState>>) -> bool {
        if self.links.iter().any(|link| link.is_closed()) {
            if !self.run.is_empty() {
                return false;
            }
            self.links.clear();
        }
        if self.links.is_empty() {
            self.links.extend(self.peers.iter().map_while(link));
            self.connections = self.links.iter().map(|link| link.connection).collect();
        }
        if self.links.len() < self.peers.len() {
            self.links.clear();
        }
        !self.links.is_empty()
    }

    /// Whether every peer takes such a frame.
    pub(super) fn takes(&self, command: Command, payload_len: usize) -> bool {
        self.links.iter().all(|link| link.takes(command, payload_len).is_ok())
    }

    /// Charges a frame to every connection, ahead for those to come where there is room; false if one has none.
    pub(super) fn charge(&mut self, budget: &Budget, cost: usize) -> bool {
        if self.credit < cost {
            let ahead = cost.max(CREDIT);
            let n = [ahead, cost - self.credit].into_iter().find(|&n| budget.charge_all(&self.connections, n));
            let Some(n) = n else { return false };
            self.credit += n;
        }
        self.credit -= cost;
        true
    }

    /// Adds a frame that is charged.
    pub(super) fn push(&mut self, command: Command, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        if self.run.is_empty() {
            // A stream that goes on fills as much again.
            self.run = FrameRun::with_capacity(self.last_len, self.last_count);
        }
        self.run.push(len, write);
        self.commands.add(command);
    }

    /// Takes the run to be sent; `None` if there is none. The next one is for the same peers.
    pub(super) fn take(&mut self, budget: &Budget) -> Option<(Arc<[ConnectionId]>, Arc<FrameRun>, Tally)> {
        if self.run.is_empty() {
            return None;
        }
        budget.settle_all(&self.connections, std::mem::take(&mut self.credit), self.run.count());
        let mut run = std::mem::take(&mut self.run);
        (self.last_len, self.last_count) = (run.bytes().len(), run.count());
        run.shrink();
        Some((self.connections.clone(), Arc::new(run), std::mem::take(&mut self.commands)))
    }
}

/// Bytes charged ahead, so that not every frame looks at every account.
const CREDIT: usize = 16 * 1_024;
