//! The progress of a broadcast, item by item.

use std::collections::VecDeque;
use std::iter::FusedIterator;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{BroadcastReport, Progress, Verdict};
use crate::error::{RecvError, TryRecvError};

/// What happens to a broadcast, from [`Broadcast::progress`](super::Broadcast::progress): first what happened before, then what
/// comes, until it is over.
///
/// As an iterator it blocks for the next item and ends behind [`Progress::Over`]. A reader that is 1,024 items behind loses
/// the oldest, and is told how many by [`Progress::Missed`].
#[derive(Debug)]
pub struct BroadcastProgress {
    queue: Arc<ProgressQueue>,
}

/// Where progress waits for its reader.
#[derive(Debug, Default)]
pub(crate) struct ProgressQueue {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Progress>,
    missed: u64,
    closed: bool,
}

impl BroadcastProgress {
    pub(super) fn new(queue: Arc<ProgressQueue>) -> Self {
        Self { queue }
    }

    /// Takes the next item, waiting for it.
    ///
    /// # Errors
    ///
    /// [`RecvError`] once the broadcast is over and everything taken.
    pub fn recv(&self) -> Result<Progress, RecvError> {
        self.recv_until(None).map_err(|_| RecvError)
    }

    /// Takes the next item if there is one.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`]; `Shutdown` once the broadcast is over and everything taken.
    pub fn try_recv(&self) -> Result<Progress, TryRecvError> {
        self.queue.state.lock().take()
    }

    /// Takes the next item, waiting for it at most this long.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`]; `Empty` if none came in time, `Shutdown` once the broadcast is over and everything taken.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Progress, TryRecvError> {
        self.recv_until(crate::driver::deadline_after(timeout))
    }

    fn recv_until(&self, deadline: Option<Instant>) -> Result<Progress, TryRecvError> {
        let mut state = self.queue.state.lock();
        loop {
            match state.take() {
                Err(TryRecvError::Empty) => {}
                result => return result,
            }
            match deadline {
                None => self.queue.ready.wait(&mut state),
                Some(deadline) => {
                    if self.queue.ready.wait_until(&mut state, deadline).timed_out() {
                        return state.take();
                    }
                }
            }
        }
    }
}

impl Iterator for BroadcastProgress {
    type Item = Progress;

    fn next(&mut self) -> Option<Progress> {
        self.recv().ok()
    }
}

impl FusedIterator for BroadcastProgress {}

impl ProgressQueue {
    /// Puts in what happened before the reader came.
    pub(super) fn fill(&self, report: &BroadcastReport, verdict: Option<Verdict>) {
        let peers = report.peers.iter().cloned().map(Progress::Peer);
        let conflicts = report.conflicts.iter().cloned().map(Progress::Conflict);
        peers.chain(conflicts).chain(verdict.map(Progress::Settled)).for_each(|progress| self.push(progress));
    }

    pub(super) fn push(&self, progress: Progress) {
        let mut state = self.state.lock();
        if state.items.len() >= LIMIT {
            state.items.pop_front();
            state.missed += 1;
        }
        state.items.push_back(progress);
        self.ready.notify_all();
    }

    /// Ends the queue behind a last item.
    pub(super) fn close(&self, last: Option<Progress>) {
        last.into_iter().for_each(|last| self.push(last));
        self.state.lock().closed = true;
        self.ready.notify_all();
    }
}

impl State {
    fn take(&mut self) -> Result<Progress, TryRecvError> {
        if self.missed > 0 {
            return Ok(Progress::Missed(std::mem::take(&mut self.missed)));
        }
        match self.items.pop_front() {
            Some(progress) => Ok(progress),
            None if self.closed => Err(TryRecvError::Shutdown),
            None => Err(TryRecvError::Empty),
        }
    }
}

/// Items that wait for a reader.
const LIMIT: usize = 1_024;
