//! The bytes of the frames in the outbound queue, for each connection and for all together.

use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::peer::{ConnectionId, IdMap};
use crate::queue::level::Level;
use crate::stats::QueueStats;

/// Bounds the frames that wait for each connection and for all together.
///
/// Each connection has its share for itself; what lies beyond it is taken from the pool that all share.
#[derive(Debug)]
pub(crate) struct Budget {
    share: usize,
    pool: usize,
    state: Mutex<State>,
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    accounts: IdMap<ConnectionId, Account>,
    /// Always the sum over all accounts of what is charged beyond the share.
    pool_used: usize,
    total: Level,
    /// Frames of accounts that were closed before they had left.
    unsent: u64,
    waiting: usize,
    shutdown: bool,
}

#[derive(Debug, Default)]
struct Account {
    used: usize,
    /// Frames that are charged; those that callers are still writing into a run are not counted yet.
    frames: usize,
    /// Somebody wants to hear when there is room for what the peer asked for.
    watched: bool,
    /// We do not read the peer, so it may never take what waits.
    paused: bool,
}

/// Charges made one after the other under one lock.
pub(crate) struct Charges<'a> {
    budget: &'a Budget,
    state: MutexGuard<'a, State>,
}

impl Charges<'_> {
    /// Charges `n` bytes for a frame if there is room now.
    pub(crate) fn try_charge(&mut self, connection: ConnectionId, n: usize) -> Result<(), Refused> {
        self.budget.try_charge(&mut self.state, connection, n, 1)
    }

    fn try_charge_ahead(&mut self, connection: ConnectionId, n: usize) -> Result<(), Refused> {
        self.budget.try_charge(&mut self.state, connection, n, 0)
    }

    fn refund(&mut self, connection: ConnectionId, n: usize) {
        if let Some(account) = self.state.accounts.get_mut(&connection) {
            let less = self.budget.pool_more(account.used - n, n);
            account.used -= n;
            self.state.pool_used -= less;
            self.state.total.sub(n, 0);
        }
    }

    fn count(&mut self, connection: ConnectionId, frames: usize) {
        let state = &mut *self.state;
        match state.accounts.get_mut(&connection) {
            Some(account) => {
                account.frames += frames;
                state.total.add(0, frames);
            }
            None => state.unsent += frames as u64,
        }
    }
}

/// Why a charge is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Closed,
    TooLarge {
        limit: usize,
    },
    /// There is no room, and waiting for it has no end while we do not read the peer.
    Paused,
    Shutdown,
}

/// How long a charge may wait for room.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    No,
    Until(Instant),
    Forever,
}

impl Budget {
    pub(crate) fn new(share: usize, pool: usize) -> Self {
        Self { share, pool, state: Mutex::default(), room: Condvar::new() }
    }

    pub(crate) fn open(&self, connection: ConnectionId) {
        self.state.lock().accounts.insert(connection, Account::default());
    }

    /// Ends an account; whoever waits for room in it is told.
    pub(crate) fn close(&self, connection: ConnectionId) {
        let mut state = self.state.lock();
        if let Some(account) = state.accounts.remove(&connection) {
            state.pool_used -= account.used.saturating_sub(self.share);
            state.total.sub(account.used, account.frames);
            state.unsent += account.frames as u64;
        }
        self.room.notify_all();
    }

    /// Notes that we do not read the peer, or do again; whoever waits for room is told.
    pub(crate) fn set_paused(&self, connection: ConnectionId, paused: bool) {
        if let Some(account) = self.state.lock().accounts.get_mut(&connection) {
            account.paused = paused;
        }
        self.room.notify_all();
    }

    /// Refuses every charge from now on.
    pub(crate) fn shut_down(&self) {
        self.state.lock().shutdown = true;
        self.room.notify_all();
    }

    /// Charges `n` bytes for a frame, waiting for room as `wait` says.
    pub(crate) fn charge(&self, connection: ConnectionId, n: usize, wait: Wait) -> Result<(), Refused> {
        let mut state = self.state.lock();
        loop {
            match self.try_charge(&mut state, connection, n, 1) {
                Err(Refused::Full) => {}
                done => return done,
            }
            let is_paused = state.accounts.get(&connection).is_some_and(|account| account.paused);
            if is_paused && !matches!(wait, Wait::No) {
                return Err(Refused::Paused);
            }
            state.waiting += 1;
            let timed_out = match wait {
                Wait::No => true,
                Wait::Until(deadline) => self.room.wait_until(&mut state, deadline).timed_out(),
                Wait::Forever => {
                    self.room.wait(&mut state);
                    false
                }
            };
            state.waiting -= 1;
            if timed_out {
                return Err(Refused::Full);
            }
        }
    }

    /// Charges `n` bytes for a frame that a peer asked for, if little waits for that peer: what a caller sends meanwhile,
    /// a ping above all, waits behind it.
    ///
    /// One that is larger than all the room there is is charged, too, when its turn comes: its bytes are those of the
    /// outbox.
    pub(crate) fn charge_served(&self, connection: ConnectionId, n: usize) -> Result<(), Refused> {
        let mut state = self.state.lock();
        let used = state.accounts.get(&connection).map_or(0, |account| account.used);
        if used > self.served_limit() / 2 && used + n > self.served_limit() {
            return Err(Refused::Full);
        }
        self.charge_locked(&mut state, connection, n)
    }

    fn served_limit(&self) -> usize {
        self.share.min(SERVED_LIMIT)
    }

    /// Charges several accounts at once, without waiting.
    pub(crate) fn charges(&self) -> Charges<'_> {
        Charges { budget: self, state: self.state.lock() }
    }

    /// Charges `n` bytes to each of these accounts if all have room now; none is charged if one has not.
    pub(super) fn charge_all(&self, connections: &[ConnectionId], n: usize) -> bool {
        let mut charges = self.charges();
        let refused = connections.iter().position(|&connection| charges.try_charge_ahead(connection, n).is_err());
        let Some(refused) = refused else { return true };
        connections[..refused].iter().for_each(|&connection| charges.refund(connection, n));
        false
    }

    /// Counts the frames for which bytes were charged ahead, and gives back `n` bytes that were too many. Nobody is
    /// told: the frames themselves are given back later, and then whoever waits is.
    pub(super) fn settle_all(&self, connections: &[ConnectionId], n: usize, frames: usize) {
        let mut charges = self.charges();
        for &connection in connections {
            charges.refund(connection, n);
            charges.count(connection, frames);
        }
    }

    fn try_charge(
        &self,
        state: &mut State,
        connection: ConnectionId,
        n: usize,
        frames: usize,
    ) -> Result<(), Refused> {
        let limit = self.share.saturating_add(self.pool);
        if n > limit {
            return Err(Refused::TooLarge { limit });
        }
        if state.shutdown {
            return Err(Refused::Shutdown);
        }
        let account = state.accounts.get_mut(&connection).ok_or(Refused::Closed)?;
        let more = self.pool_more(account.used, n);
        if more > 0 && state.pool_used + more > self.pool {
            return Err(Refused::Full);
        }
        account.used += n;
        account.frames += frames;
        state.pool_used += more;
        state.total.add(n, frames);
        Ok(())
    }

    /// Charges `n` bytes for a frame, beyond every limit: for what is bounded elsewhere, as requests are.
    pub(crate) fn charge_anyway(&self, connection: ConnectionId, n: usize) -> Result<(), Refused> {
        self.charge_locked(&mut self.state.lock(), connection, n)
    }

    fn charge_locked(&self, state: &mut State, connection: ConnectionId, n: usize) -> Result<(), Refused> {
        if state.shutdown {
            return Err(Refused::Shutdown);
        }
        let account = state.accounts.get_mut(&connection).ok_or(Refused::Closed)?;
        let more = self.pool_more(account.used, n);
        account.used += n;
        account.frames += 1;
        state.pool_used += more;
        state.total.add(n, 1);
        Ok(())
    }

    /// Asks that a release below half of what [`charge_served`](Self::charge_served) allows is told by
    /// [`release`](Self::release), once; false if it is there already.
    pub(crate) fn watch(&self, connection: ConnectionId) -> bool {
        let mut state = self.state.lock();
        let low = self.served_limit() / 2;
        match state.accounts.get_mut(&connection) {
            Some(account) if account.used > low => {
                account.watched = true;
                true
            }
            _ => false,
        }
    }

    /// Gives back `n` bytes, and `frames` that have left; true if the account was watched and there is room again.
    pub(crate) fn release(&self, connection: ConnectionId, n: usize, frames: usize) -> bool {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(account) = state.accounts.get_mut(&connection) else {
            return false;
        };
        debug_assert!(n <= account.used && frames <= account.frames, "more given back than was charged");
        let before = account.used;
        account.used -= n;
        account.frames -= frames;
        state.total.sub(n, frames);
        let is_low = account.used <= self.share / 2;
        let told = account.used <= self.served_limit() / 2 && std::mem::take(&mut account.watched);
        let less = before.saturating_sub(self.share) - account.used.saturating_sub(self.share);
        state.pool_used -= less;
        // Waiters are woken at the low-water mark, not for every byte.
        if state.waiting > 0 && (is_low || state.pool_used <= self.pool / 2) {
            self.room.notify_all();
        }
        told
    }

    /// How full all accounts are together, and the frames that were dropped with theirs.
    pub(crate) fn stats(&self) -> (QueueStats, u64) {
        let state = self.state.lock();
        (state.total.stats(), state.unsent)
    }

    fn pool_more(&self, used: usize, n: usize) -> usize {
        (used + n).saturating_sub(self.share) - used.saturating_sub(self.share)
    }
}

/// Bytes of what a peer asked for that wait for it: enough to keep its socket busy, little to wait behind.
const SERVED_LIMIT: usize = 512 * 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConnectionId = ConnectionId(1);
    const B: ConnectionId = ConnectionId(2);

    #[test]
    fn a_full_pool_leaves_every_share_free() {
        let budget = Budget::new(100, 50);
        budget.open(A);
        budget.open(B);
        assert_eq!(budget.charge(A, 150, Wait::No), Ok(()));
        assert_eq!(budget.charge(A, 1, Wait::No), Err(Refused::Full));
        assert_eq!(budget.charge(B, 100, Wait::No), Ok(()));
        assert_eq!(budget.charge(B, 1, Wait::No), Err(Refused::Full));
        budget.release(A, 60, 0);
        assert_eq!(budget.charge(B, 50, Wait::No), Ok(()));
        assert_eq!(budget.charge(B, 151, Wait::No), Err(Refused::TooLarge { limit: 150 }));
        budget.close(B);
        assert_eq!(budget.charge(B, 1, Wait::No), Err(Refused::Closed));
        assert_eq!(budget.charge(A, 60, Wait::No), Ok(()));
    }

    #[test]
    fn a_watched_account_is_told_once_at_half_its_share() {
        let budget = Budget::new(100, 50);
        budget.open(A);
        assert!(!budget.watch(A));
        assert_eq!(budget.charge(A, 90, Wait::No), Ok(()));
        assert!(budget.watch(A));
        assert!(!budget.release(A, 30, 0));
        assert!(budget.release(A, 10, 0));
        assert!(!budget.release(A, 50, 0));
    }

    #[test]
    fn what_a_peer_asked_for_waits_in_small_amounts_and_whatever_its_size_is_sent() {
        let budget = Budget::new(100, 50);
        budget.open(A);
        assert_eq!(budget.charge_served(A, 50), Ok(()));
        assert_eq!(budget.charge_served(A, 1_000), Ok(()), "half the room is free");
        assert_eq!(budget.charge_served(A, 1), Err(Refused::Full));
        assert!(budget.watch(A));
        assert!(!budget.release(A, 999, 1));
        assert!(budget.release(A, 1, 0));
        assert_eq!(budget.charge_served(A, 50), Ok(()));
        assert_eq!(budget.charge_served(A, 1), Err(Refused::Full), "all of it is taken");
    }

    #[test]
    fn a_waiting_caller_is_told_of_room_close_and_shutdown() {
        let budget = std::sync::Arc::new(Budget::new(10, 0));
        let wait_for = |end: fn(&Budget)| {
            budget.open(A);
            assert_eq!(budget.charge(A, 10, Wait::No), Ok(()));
            let waiter = {
                let budget = budget.clone();
                std::thread::spawn(move || budget.charge(A, 5, Wait::Forever))
            };
            while budget.state.lock().waiting == 0 {
                std::thread::yield_now();
            }
            end(&budget);
            waiter.join().unwrap()
        };
        assert_eq!(wait_for(|b| assert!(!b.release(A, 10, 0))), Ok(()));
        assert_eq!(wait_for(|b| b.close(A)), Err(Refused::Closed));
        assert_eq!(wait_for(|b| b.set_paused(A, true)), Err(Refused::Paused));
        assert_eq!(wait_for(|b| b.shut_down()), Err(Refused::Shutdown));
    }
}
