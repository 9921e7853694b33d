//! Events for whoever watches the peers: bounded, the oldest dropped and counted.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::{DisconnectReason, FileFault, RecvError, TryRecvError};
use crate::peer::{BanInfo, PeerAddress, PeerId};

/// What happened to a peer.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(tag = "event", rename_all = "snake_case"))]
pub enum Event {
    /// The handshake with a peer is done and it is on our chain, as far as that is checked: it is used from now on.
    Connected {
        /// The peer.
        peer: PeerId,
        /// Its address.
        address: PeerAddress,
        /// What it calls itself.
        user_agent: String,
        /// Time from the dial until now.
        took: Duration,
    },
    /// A peer could not be connected; it is tried again later unless it was removed.
    Refused {
        /// The peer.
        peer: PeerId,
        /// Its address.
        address: PeerAddress,
        /// Why.
        reason: DisconnectReason,
    },
    /// The handshake with a peer is done, but it cannot tell yet whether it is on our chain, as a node in initial block
    /// download cannot. It is told of transactions, and asked again later.
    Unverified {
        /// The peer.
        peer: PeerId,
        /// Its address.
        address: PeerAddress,
    },
    /// A peer that was connected, or unverified, is lost.
    Disconnected {
        /// The peer.
        peer: PeerId,
        /// Its address.
        address: PeerAddress,
        /// Why.
        reason: DisconnectReason,
    },
    /// An address, or a host, is not dialled for a while.
    Banned {
        /// Whom it is for, how long and why.
        ban: BanInfo,
    },
    /// Another peer is asked first now, in place of the main peer or because that is back; only where a main peer was
    /// set.
    MainPeerChanged {
        /// The peer; `None` if there is nobody.
        peer: Option<PeerId>,
        /// Its address.
        address: Option<PeerAddress>,
    },
    /// The last peer was lost.
    NoPeers,
    /// There is a peer again.
    NetworkBack,
    /// What was saved of peers or of broadcasts could not be used, or of broadcasts not all of it; the file as it was lies
    /// under another name now.
    SetAside {
        /// Where it lies.
        moved_to: PathBuf,
        /// What is wrong with it.
        what: FileFault,
    },
    /// The reader was too slow: this many older events are gone.
    Missed {
        /// How many.
        count: u64,
    },
}

/// A reader of events, with a queue of its own.
#[derive(Debug)]
pub struct Events {
    ring: Arc<Ring>,
}

/// The queue of one reader.
#[derive(Debug)]
pub(crate) struct Ring {
    limit: usize,
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    missed: u64,
    shutdown: bool,
}

impl Events {
    pub(crate) fn new(limit: usize) -> (Self, Arc<Ring>) {
        let ring = Arc::new(Ring { limit, state: Mutex::default(), ready: Condvar::new() });
        (Self { ring: ring.clone() }, ring)
    }

    /// Takes the next event, waiting for it.
    ///
    /// # Errors
    ///
    /// [`RecvError`] once the conduit is shut down and every event taken.
    pub fn recv(&self) -> Result<Event, RecvError> {
        self.recv_until(None).map_err(|_| RecvError)
    }

    /// Takes the next event if there is one.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`].
    pub fn try_recv(&self) -> Result<Event, TryRecvError> {
        self.ring.state.lock().take()
    }

    /// Takes the next event, waiting for it at most this long.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`]; `Empty` if none came in time.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event, TryRecvError> {
        self.recv_until(crate::driver::deadline_after(timeout))
    }

    fn recv_until(&self, deadline: Option<Instant>) -> Result<Event, TryRecvError> {
        let mut state = self.ring.state.lock();
        loop {
            match state.take() {
                Err(TryRecvError::Empty) => {}
                result => return result,
            }
            match deadline {
                None => self.ring.ready.wait(&mut state),
                Some(deadline) => {
                    if self.ring.ready.wait_until(&mut state, deadline).timed_out() {
                        return state.take();
                    }
                }
            }
        }
    }
}

impl Ring {
    /// Adds an event; true if the oldest one is gone for it.
    pub(crate) fn push(&self, event: Event) -> bool {
        let mut state = self.state.lock();
        let is_full = state.events.len() >= self.limit;
        if is_full {
            state.events.pop_front();
            state.missed += 1;
        }
        state.events.push_back(event);
        drop(state);
        self.ready.notify_one();
        is_full
    }

    pub(crate) fn shut_down(&self) {
        self.state.lock().shutdown = true;
        self.ready.notify_all();
    }
}

impl State {
    fn take(&mut self) -> Result<Event, TryRecvError> {
        if self.missed > 0 {
            return Ok(Event::Missed { count: std::mem::take(&mut self.missed) });
        }
        match self.events.pop_front() {
            Some(event) => Ok(event),
            None if self.shutdown => Err(TryRecvError::Shutdown),
            None => Err(TryRecvError::Empty),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reader_is_told_what_it_missed() {
        let (events, ring) = Events::new(2);
        let event = |n| Event::Missed { count: n };
        assert_eq!((10..15).filter(|&n| ring.push(event(n))).count(), 3);
        assert_eq!(events.try_recv(), Ok(Event::Missed { count: 3 }));
        assert_eq!(events.try_recv(), Ok(event(13)));
        assert_eq!(events.try_recv(), Ok(event(14)));
        assert_eq!(events.recv_timeout(Duration::from_millis(1)), Err(TryRecvError::Empty));
        ring.shut_down();
        assert_eq!(events.recv(), Err(RecvError));
    }
}
