//! The inbound queue: what the event loop tells the message threads, and the budget of the frames among it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::level::Level;
use super::link::LinkState;
use crate::error::DisconnectReason;
use crate::message::Version;
use crate::peer::{ConnectionId, IdMap, PeerAddress, PeerId, StreamId};
use crate::proto::{AssociationId, FrameBatch};
use crate::stats::QueueStats;
use crate::wire::{BlockHash, Command};

/// What a message thread is told, in order for each connection.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// The handshake is done.
    Up { connection: ConnectionId, peer: PeerId, version: Box<Version> },
    /// The connection ended, or could not be made; nothing of it comes after this.
    Down { connection: ConnectionId, peer: PeerId, reason: DisconnectReason },
    /// The peer would take a second connection, under that name; `address` is that of the first one.
    Association { connection: ConnectionId, peer: PeerId, address: PeerAddress, association: AssociationId },
    /// A second connection has joined the first one, `of`, and what it brings is told as if that had brought it. Its end
    /// is told under its own name, and so it is if it never joins.
    Joined { connection: ConnectionId, of: ConnectionId, peer: PeerId },
    /// Frames arrived; their cost is charged to the connection of the link.
    Frames { connection: ConnectionId, peer: PeerId, batch: FrameBatch, link: Arc<LinkState> },
    /// A keepalive ping came back.
    RoundTrip { peer: PeerId, round_trip: Duration },
    /// A connection that we did not read, by our own choice, is read again; what it sent meanwhile follows.
    ReadAgain { connection: ConnectionId, peer: PeerId },
    /// A payload above the stream threshold is being skipped; `start` has its first bytes.
    Oversized { connection: ConnectionId, peer: PeerId, command: Command, length: u64, start: Vec<u8> },
    /// A block for a stream has begun; `wanted` is false if the stream does not want it from there.
    BlockBegan { connection: ConnectionId, peer: PeerId, stream: StreamId, size: u64, wanted: bool },
    /// All of it came.
    BlockEnded { connection: ConnectionId, peer: PeerId, stream: StreamId, hash: BlockHash },
    /// Half the outbound share of a watched connection is free again.
    Writable { peer: PeerId },
    /// A name was resolved, or not.
    Resolved { peer: PeerId, connection: ConnectionId, result: Result<Vec<SocketAddr>, DisconnectReason> },
    /// A message queue has room again, was closed, or a deadline came closer.
    Wake,
    /// Nothing follows.
    Shutdown,
}

/// Bounds the frames that lie between the socket and their receiver, for each connection and for all together.
///
/// Small frames are charged to the connection's own share. A larger payload asks for room in the pool before its first
/// byte is taken, so that what was begun can always be finished.
#[derive(Debug)]
pub(crate) struct Budget {
    share: usize,
    pool: usize,
    /// The most one connection may have of the pool.
    pool_each: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    accounts: IdMap<ConnectionId, Account>,
    /// Always the sum of what the accounts have of the pool.
    pool_used: usize,
    total: Level,
    /// Connections that wait for room in the pool, first come, first served.
    pool_line: VecDeque<ConnectionId>,
}

#[derive(Debug, Default)]
struct Account {
    used: usize,
    pool_used: usize,
    /// The room it waits for in the pool.
    wanted: usize,
    /// Not read until half its share is free.
    starved: bool,
    /// The connection is gone; frames of it may still be under way.
    closed: bool,
}

impl Budget {
    pub(crate) fn new(share: usize, pool: usize, pool_each: usize) -> Self {
        Self { share, pool, pool_each, state: Mutex::default() }
    }

    pub(crate) fn open(&self, connection: ConnectionId) {
        self.state.lock().accounts.insert(connection, Account::default());
    }

    /// Notes that nothing more will be charged, and gives back `reserved` bytes that no frame will carry.
    ///
    /// Returns connections that may go on.
    #[must_use]
    pub(crate) fn close(&self, connection: ConnectionId, reserved: usize) -> Vec<ConnectionId> {
        let mut state = self.state.lock();
        if let Some(account) = state.accounts.get_mut(&connection) {
            account.closed = true;
            account.wanted = 0;
        }
        state.pool_line.retain(|&waiting| waiting != connection);
        self.give_back(&mut state, connection, 0, reserved, 0)
    }

    /// Charges frames that were taken; false if the connection must not be read until it is resumed.
    pub(crate) fn charge(&self, connection: ConnectionId, n: usize, frames: usize) -> bool {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(account) = state.accounts.get_mut(&connection) else { return true };
        account.used += n;
        state.total.add(n, frames);
        // Once starved it stays so until it is resumed, or nobody would resume it.
        account.starved |= account.used >= self.share;
        !account.starved
    }

    /// Asks for room in the pool; if there is none, the connection is resumed when there is, and asks again.
    pub(crate) fn reserve(&self, connection: ConnectionId, n: usize) -> bool {
        let mut state = self.state.lock();
        let Some(account) = state.accounts.get_mut(&connection) else { return true };
        account.wanted = n;
        let account = &state.accounts[&connection];
        let mut before = state.pool_line.iter().take_while(|&&waiting| waiting != connection);
        let is_next = before.all(|waiting| state.accounts.get(waiting).is_none_or(|a| self.waits_for_itself(a)));
        if is_next && !self.waits_for_itself(account) && n <= self.pool - state.pool_used {
            state.pool_line.retain(|&waiting| waiting != connection);
            state.pool_used += n;
            state.total.add(n, 0);
            if let Some(account) = state.accounts.get_mut(&connection) {
                account.pool_used += n;
                account.wanted = 0;
            }
            return true;
        }
        if !state.pool_line.contains(&connection) {
            state.pool_line.push_back(connection);
        }
        false
    }

    /// Gives back what so many frames were charged, `n` of the share and `reserved` of the pool.
    ///
    /// Returns connections that may go on.
    #[must_use]
    pub(crate) fn release(
        &self,
        connection: ConnectionId,
        n: usize,
        reserved: usize,
        frames: usize,
    ) -> Vec<ConnectionId> {
        self.give_back(&mut self.state.lock(), connection, n, reserved, frames)
    }

    /// How full all accounts are together.
    pub(crate) fn stats(&self) -> QueueStats {
        self.state.lock().total.stats()
    }

    /// Bytes charged to all connections together.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        let state = self.state.lock();
        state.pool_used + state.accounts.values().map(|account| account.used).sum::<usize>()
    }

    fn give_back(
        &self,
        state: &mut State,
        connection: ConnectionId,
        n: usize,
        reserved: usize,
        frames: usize,
    ) -> Vec<ConnectionId> {
        let mut resumed = Vec::new();
        if let Some(account) = state.accounts.get_mut(&connection) {
            debug_assert!(n <= account.used && reserved <= account.pool_used, "more given back than was charged");
            account.used -= n;
            account.pool_used -= reserved;
            state.pool_used -= reserved;
            state.total.sub(n + reserved, frames);
            if account.starved && account.used <= self.share / 2 && !account.closed {
                account.starved = false;
                resumed.push(connection);
            }
            if account.closed && account.used == 0 && account.pool_used == 0 {
                state.accounts.remove(&connection);
            }
        }
        if reserved > 0 || !state.pool_line.is_empty() {
            self.resume_next_in_line(state, &mut resumed);
        }
        resumed
    }

    /// Resumes whoever fits, in the order of the line, up to the first who does not.
    fn resume_next_in_line(&self, state: &State, resumed: &mut Vec<ConnectionId>) {
        let mut used = state.pool_used;
        for &waiting in &state.pool_line {
            let Some(account) = state.accounts.get(&waiting) else { continue };
            if self.waits_for_itself(account) {
                continue;
            }
            used += account.wanted;
            if used > self.pool {
                return;
            }
            if !resumed.contains(&waiting) {
                resumed.push(waiting);
            }
        }
    }

    /// Whether a connection has as much of the pool as it may have; it holds up nobody in the line.
    fn waits_for_itself(&self, account: &Account) -> bool {
        account.pool_used > 0 && account.pool_used + account.wanted > self.pool_each
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConnectionId = ConnectionId(1);
    const B: ConnectionId = ConnectionId(2);
    const C: ConnectionId = ConnectionId(3);

    fn budget() -> Budget {
        let budget = Budget::new(100, 1_000, 600);
        [A, B, C].into_iter().for_each(|c| budget.open(c));
        budget
    }

    #[test]
    fn a_share_that_is_full_stops_only_its_own_peer() {
        let budget = budget();
        assert!(budget.charge(A, 60, 0));
        assert!(!budget.charge(A, 60, 0));
        assert!(budget.charge(B, 60, 0));
        assert_eq!(budget.release(A, 60, 0, 0), []);
        assert_eq!(budget.release(A, 10, 0, 0), [A]);
        assert_eq!(budget.release(A, 50, 0, 0), []);
    }

    #[test]
    fn a_connection_once_stopped_is_resumed_whatever_was_charged_meanwhile() {
        let budget = budget();
        assert!(!budget.charge(A, 120, 0));
        assert_eq!(budget.release(A, 30, 0, 0), []);
        assert!(!budget.charge(A, 5, 0), "it is not resumed yet");
        assert_eq!(budget.release(A, 45, 0, 0), [A]);
        assert!(budget.charge(A, 5, 0));
    }

    #[test]
    fn the_pool_serves_in_order_and_nobody_is_overtaken() {
        let budget = budget();
        assert!(budget.reserve(A, 600));
        assert!(!budget.reserve(B, 500));
        // It would fit, but B is first in line.
        assert!(!budget.reserve(C, 300));
        assert_eq!(budget.release(A, 0, 600, 0), [B, C]);
        assert!(!budget.reserve(C, 300), "B has not asked yet");
        assert!(budget.reserve(B, 500));
        assert!(budget.reserve(C, 300));
        assert_eq!(budget.used(), 800);
    }

    #[test]
    fn a_peer_that_waits_for_itself_holds_up_nobody() {
        let budget = budget();
        assert!(budget.reserve(A, 400));
        assert!(!budget.reserve(A, 400));
        assert!(budget.reserve(B, 300));
        assert!(!budget.reserve(C, 500));
        assert_eq!(budget.release(B, 0, 300, 0), [C]);
        assert_eq!(budget.release(A, 0, 400, 0), [A, C]);
    }

    #[test]
    fn a_connection_that_ends_gives_back_what_it_reserved() {
        let budget = budget();
        assert!(budget.reserve(A, 600));
        assert!(!budget.reserve(B, 600));
        assert_eq!(budget.close(A, 600), [B]);
        assert!(budget.reserve(B, 600));
        assert!(!budget.reserve(C, 600));
        assert_eq!(budget.close(C, 0), []);
        assert_eq!(budget.close(B, 600), []);
        assert_eq!(budget.used(), 0);
        assert!(budget.state.lock().accounts.is_empty());
    }
}
