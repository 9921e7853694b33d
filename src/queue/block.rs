//! The queue of one block stream: pieces of a payload on their way from the event loop to whoever reads the block.
//!
//! One peer at a time fills it. The engine says whose turn it is, the event loop puts in what that peer sends, and stops
//! reading its socket while the queue is full.

use std::collections::VecDeque;
use std::task::{Poll, Waker};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::slot::wake;
use crate::error::BlockError;
use crate::peer::{ConnectionId, PeerId};

/// What the reader of a block gets, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A peer begins to send the block, from its first byte.
    Begin { connection: ConnectionId, peer: PeerId, size: u64, checksum: Option<[u8; 4]> },
    /// The next bytes.
    Bytes(Vec<u8>),
    /// The peer has sent all of it.
    End,
    /// The peer is lost. Another one is asked once the reader says so.
    Lost(ConnectionId),
    /// Nothing comes any more.
    Failed(BlockError),
}

impl Part {
    fn len(&self) -> usize {
        if let Self::Bytes(bytes) = self { bytes.len() } else { 0 }
    }
}

/// A part, and the connection that may be read again now that it was taken.
pub(crate) type Taken = (Part, Option<ConnectionId>);

/// What became of bytes that the event loop put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// There is room for more.
    Room,
    /// The connection is not to be read until it is told to go on.
    Full,
    /// Nobody wants them.
    Unwanted,
}

/// How far the peer whose turn it is has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    /// Bytes put in since the queue was made.
    pub(crate) received: u64,
    /// It is the reader who is slow.
    pub(crate) is_full: bool,
}

/// The queue of one block stream.
#[derive(Debug)]
pub(crate) struct BlockQueue {
    capacity: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    turn: Turn,
    parts: VecDeque<Part>,
    /// Always the summed length of the bytes in `parts`.
    bytes: usize,
    received: u64,
    is_full: bool,
    /// The reader is gone.
    closed: bool,
    waker: Option<Waker>,
}

/// Who may put something in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    Nobody,
    /// It was asked, and has not begun.
    Asked(ConnectionId),
    /// It is in the middle of the block.
    Sends(ConnectionId),
}

impl State {
    /// Takes the turn from whoever has it; gives the connection that is not read as the queue is full, and is to be now.
    fn end_turn(&mut self) -> Option<ConnectionId> {
        let is_full = std::mem::take(&mut self.is_full);
        match std::mem::take(&mut self.turn) {
            Turn::Sends(connection) if is_full => Some(connection),
            _ => None,
        }
    }
}

impl BlockQueue {
    /// A queue that holds so many bytes, and one read more.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Gives a connection its turn; false if another one has begun, or the reader is gone.
    pub(crate) fn expect(&self, connection: ConnectionId) -> bool {
        let mut state = self.state.lock();
        if state.closed || matches!(state.turn, Turn::Sends(_)) {
            return false;
        }
        state.turn = Turn::Asked(connection);
        true
    }

    /// Wakes who waits for several blocks, and looks whose turn it is. Not to be called with a lock held, as the waker is
    /// the caller's.
    pub(crate) fn tell_turn(&self) {
        let waker = self.state.lock().waker.take();
        waker.into_iter().for_each(wake);
    }

    /// Takes the turn from whoever has it; what was put in already stays. Gives the connection that is to be read again.
    pub(crate) fn expect_nobody(&self) -> Option<ConnectionId> {
        self.state.lock().end_turn()
    }

    /// The peer begins; false if the block is not wanted from it.
    pub(crate) fn begin(
        &self,
        connection: ConnectionId,
        peer: PeerId,
        size: u64,
        checksum: Option<[u8; 4]>,
    ) -> bool {
        let mut state = self.state.lock();
        if state.closed || state.turn != Turn::Asked(connection) {
            return false;
        }
        state.turn = Turn::Sends(connection);
        self.put(state, Part::Begin { connection, peer, size, checksum });
        true
    }

    /// The next bytes.
    pub(crate) fn push(&self, connection: ConnectionId, bytes: Vec<u8>) -> Pushed {
        let mut state = self.state.lock();
        if state.closed || state.turn != Turn::Sends(connection) {
            return Pushed::Unwanted;
        }
        state.bytes += bytes.len();
        state.received += bytes.len() as u64;
        state.is_full = state.bytes >= self.capacity;
        let pushed = if state.is_full { Pushed::Full } else { Pushed::Room };
        self.put(state, Part::Bytes(bytes));
        pushed
    }

    /// The payload is complete; false if nobody wants it any more.
    pub(crate) fn end(&self, connection: ConnectionId) -> bool {
        self.finish(connection, Part::End)
    }

    /// The connection ended.
    pub(crate) fn lose(&self, connection: ConnectionId) {
        self.finish(connection, Part::Lost(connection));
    }

    /// Nothing comes any more; gives the connection that is to be read again.
    pub(crate) fn fail(&self, error: BlockError) -> Option<ConnectionId> {
        let mut state = self.state.lock();
        let resumed = state.end_turn();
        self.put(state, Part::Failed(error));
        resumed
    }

    /// Whom the block was asked of, if that peer has not begun.
    pub(crate) fn asked(&self) -> Option<ConnectionId> {
        match self.state.lock().turn {
            Turn::Asked(connection) => Some(connection),
            _ => None,
        }
    }

    /// Who is in the middle of the block.
    pub(crate) fn coming(&self) -> Option<ConnectionId> {
        match self.state.lock().turn {
            Turn::Sends(connection) => Some(connection),
            _ => None,
        }
    }

    /// Whether it is nobody's turn, and nothing is left to be taken.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.turn == Turn::Nobody && state.parts.is_empty()
    }

    pub(crate) fn level(&self) -> Level {
        let state = self.state.lock();
        Level { received: state.received, is_full: state.is_full }
    }

    /// Whether it is full of what this connection sends.
    pub(crate) fn is_full_of(&self, connection: ConnectionId) -> bool {
        let state = self.state.lock();
        state.is_full && state.turn == Turn::Sends(connection)
    }

    /// Takes the next part, waiting for it until the deadline.
    pub(crate) fn take_until(&self, deadline: Option<Instant>) -> Option<Taken> {
        let mut state = self.state.lock();
        while state.parts.is_empty() {
            match deadline {
                None => self.changed.wait(&mut state),
                Some(deadline) => {
                    if self.changed.wait_until(&mut state, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        self.take(&mut state)
    }

    /// Takes the next part if it is there.
    pub(crate) fn try_take(&self) -> Option<Taken> {
        self.take(&mut self.state.lock())
    }

    /// Takes the next part, or keeps the waker to call when there is one.
    pub(crate) fn poll(&self, waker: &Waker) -> Poll<Taken> {
        let mut state = self.state.lock();
        match self.take(&mut state) {
            Some(taken) => Poll::Ready(taken),
            None => {
                state.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    /// Throws away what a peer has sent, of which the reader has come to the middle; its turn is over, if it is its turn.
    pub(crate) fn discard(&self, connection: ConnectionId) -> Option<ConnectionId> {
        let mut state = self.state.lock();
        let has_turn = matches!(state.turn, Turn::Asked(of) | Turn::Sends(of) if of == connection);
        let resumed = if has_turn { state.end_turn() } else { None };
        let is_anothers = |part: &Part| matches!(part, Part::Begin { connection: from, .. } if *from != connection);
        let end = state.parts.iter().position(is_anothers).unwrap_or(state.parts.len());
        let rest = state.parts.split_off(end);
        // That it failed for good still counts.
        state.parts.retain(|part| matches!(part, Part::Failed(_)));
        state.parts.extend(rest);
        state.bytes = state.parts.iter().map(Part::len).sum();
        resumed
    }

    /// The reader is gone; gives the connection that is to be read again, as it was waiting for him.
    pub(crate) fn close(&self) -> Option<ConnectionId> {
        let mut state = self.state.lock();
        // In one step: nobody has his turn in between.
        let resumed = state.end_turn();
        state.closed = true;
        state.bytes = 0;
        state.parts.clear();
        resumed
    }

    /// Whether the reader is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    fn finish(&self, connection: ConnectionId, part: Part) -> bool {
        let mut state = self.state.lock();
        if state.closed || state.turn != Turn::Sends(connection) {
            return false;
        }
        state.turn = Turn::Nobody;
        state.is_full = false;
        self.put(state, part);
        true
    }

    fn put(&self, mut state: parking_lot::MutexGuard<'_, State>, part: Part) {
        state.parts.push_back(part);
        let waker = state.waker.take();
        drop(state);
        self.changed.notify_one();
        waker.into_iter().for_each(wake);
    }

    fn take(&self, state: &mut State) -> Option<Taken> {
        let part = state.parts.pop_front()?;
        if let Part::Bytes(bytes) = &part {
            state.bytes -= bytes.len();
        }
        let resumed = match state.turn {
            Turn::Sends(connection) if state.is_full && state.bytes <= self.capacity / 2 => {
                state.is_full = false;
                Some(connection)
            }
            _ => None,
        };
        Some((part, resumed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConnectionId = ConnectionId(1);
    const B: ConnectionId = ConnectionId(2);
    const PEER: PeerId = PeerId(7);

    fn begin(connection: ConnectionId) -> Part {
        Part::Begin { connection, peer: PEER, size: 300, checksum: None }
    }

    #[test]
    fn a_full_queue_stops_its_connection_until_half_of_it_is_taken() {
        let queue = BlockQueue::new(100);
        assert!(queue.expect(A));
        assert!(queue.begin(A, PEER, 300, None));
        assert_eq!(queue.push(A, vec![1; 60]), Pushed::Room);
        assert_eq!(queue.push(A, vec![2; 60]), Pushed::Full);
        assert!(queue.level().is_full);
        assert_eq!(queue.try_take(), Some((begin(A), None)));
        assert_eq!(queue.try_take(), Some((Part::Bytes(vec![1; 60]), None)));
        assert_eq!(queue.try_take(), Some((Part::Bytes(vec![2; 60]), Some(A))));
        assert_eq!(queue.try_take(), None);
        assert_eq!(queue.level(), Level { received: 120, is_full: false });
    }

    #[test]
    fn only_the_one_whose_turn_it_is_is_heard() {
        let queue = BlockQueue::new(100);
        assert!(!queue.begin(A, PEER, 300, None));
        assert!(queue.expect(A));
        assert!(queue.expect(B), "the one before has not begun");
        assert!(!queue.begin(A, PEER, 300, None));
        assert!(queue.begin(B, PEER, 300, None));
        assert!(!queue.expect(A), "this one has");
        assert_eq!(queue.push(A, vec![1]), Pushed::Unwanted);
        queue.lose(A);
        assert!(!queue.end(A));
        assert!(queue.end(B));
        assert_eq!(queue.push(B, vec![1]), Pushed::Unwanted);
        assert_eq!(queue.try_take(), Some((begin(B), None)));
        assert_eq!(queue.try_take(), Some((Part::End, None)));
        assert_eq!(queue.try_take(), None);
    }

    #[test]
    fn what_came_before_a_loss_is_still_read_and_another_may_follow() {
        let queue = BlockQueue::new(2);
        queue.expect(A);
        queue.begin(A, PEER, 300, None);
        assert_eq!(queue.push(A, vec![1; 3]), Pushed::Full);
        queue.lose(A);
        assert!(queue.expect(B));
        assert!(queue.begin(B, PEER, 300, None));
        let parts: Vec<Taken> = std::iter::from_fn(|| queue.try_take()).collect();
        assert_eq!(parts, [begin(A), Part::Bytes(vec![1; 3]), Part::Lost(A), begin(B)].map(|part| (part, None)));
    }

    #[test]
    fn a_reader_that_goes_away_frees_the_connection_that_waits_for_him() {
        let queue = BlockQueue::new(2);
        queue.expect(A);
        queue.begin(A, PEER, 300, None);
        queue.push(A, vec![1; 3]);
        assert_eq!(queue.close(), Some(A));
        assert_eq!(queue.push(A, vec![1]), Pushed::Unwanted);
        assert!(!queue.expect(B));
        assert_eq!(queue.try_take(), None);
    }

    #[test]
    fn it_is_full_of_what_is_being_sent_only() {
        let queue = BlockQueue::new(2);
        queue.expect(A);
        queue.begin(A, PEER, 300, None);
        queue.push(A, vec![1; 3]);
        assert!(queue.is_full_of(A) && !queue.is_full_of(B));
        queue.discard(A);
        queue.expect(B);
        queue.begin(B, PEER, 300, None);
        queue.push(B, vec![1; 3]);
        assert!(queue.is_full_of(B) && !queue.is_full_of(A), "the one before may go on");
    }

    #[test]
    fn a_failure_outlives_what_is_thrown_away() {
        let queue = BlockQueue::new(2);
        queue.expect(A);
        queue.begin(A, PEER, 300, None);
        queue.push(A, vec![1; 3]);
        queue.fail(BlockError::Shutdown);
        assert_eq!(queue.discard(A), None);
        assert_eq!(queue.try_take(), Some((Part::Failed(BlockError::Shutdown), None)));
    }

    #[test]
    fn a_connection_that_loses_its_turn_is_read_again() {
        let full = || {
            let queue = BlockQueue::new(2);
            queue.expect(A);
            queue.begin(A, PEER, 300, None);
            assert_eq!(queue.push(A, vec![1; 3]), Pushed::Full);
            queue
        };
        let queue = full();
        assert_eq!(queue.expect_nobody(), Some(A));
        assert_eq!(queue.expect_nobody(), None);
        assert_eq!(queue.push(A, vec![1]), Pushed::Unwanted);
        assert!(!queue.level().is_full);
        let queue = full();
        assert_eq!(queue.fail(BlockError::Shutdown), Some(A));
        assert_eq!(queue.close(), None);
        let queue = full();
        queue.try_take();
        queue.try_take();
        assert_eq!(queue.expect_nobody(), None, "it is read already");
    }

    #[test]
    fn what_is_thrown_away_of_one_is_not_anothers() {
        let queue = BlockQueue::new(2);
        queue.expect(A);
        queue.begin(A, PEER, 300, None);
        queue.push(A, vec![1; 1]);
        queue.end(A);
        queue.expect(B);
        queue.begin(B, PEER, 300, None);
        assert_eq!(queue.push(B, vec![2; 2]), Pushed::Full);
        assert_eq!(queue.try_take(), Some((begin(A), None)));
        assert_eq!(queue.discard(A), None);
        assert_eq!(queue.push(B, vec![3; 1]), Pushed::Full);
        let parts: Vec<Taken> = std::iter::from_fn(|| queue.try_take()).collect();
        let resumed = (Part::Bytes(vec![2; 2]), Some(B));
        assert_eq!(parts, [(begin(B), None), resumed, (Part::Bytes(vec![3; 1]), None)]);
        assert_eq!(queue.discard(B), None);
        assert_eq!(queue.push(B, vec![3; 1]), Pushed::Unwanted);
    }
}
