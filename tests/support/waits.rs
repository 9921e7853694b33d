//! Waits that end: for a condition, for a thread, for an event, each with a deadline.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use conduit::{DisconnectReason, Event, Events, PeerId};

use super::PATIENCE;

/// Waits until something holds that tells nobody when it begins to.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A call under way in a thread of its own.
pub(crate) struct Call<T> {
    result: mpsc::Receiver<T>,
}

/// Begins a call that may block.
pub(crate) fn call<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Call<T> {
    let (sender, result) = mpsc::channel();
    thread::spawn(move || drop(sender.send(work())));
    Call { result }
}

impl<T> Call<T> {
    #[track_caller]
    pub(crate) fn result(self) -> T {
        self.result_within(PATIENCE)
    }

    #[track_caller]
    pub(crate) fn result_within(self, limit: Duration) -> T {
        match self.result.recv_timeout(limit) {
            Ok(value) => value,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("the call has not returned"),
            Err(mpsc::RecvTimeoutError::Disconnected) => panic!("the call has panicked"),
        }
    }

    /// Whether it has not returned yet.
    pub(crate) fn is_blocked(&self) -> bool {
        matches!(self.result.try_recv(), Err(mpsc::TryRecvError::Empty))
    }
}

/// The reason for which this peer was lost, or could not be connected; other events are passed over.
#[track_caller]
pub(crate) fn reason_of(events: &Events, wanted: PeerId) -> DisconnectReason {
    loop {
        match next_event(events) {
            Event::Refused { peer, reason, .. } | Event::Disconnected { peer, reason, .. } if peer == wanted => {
                return reason;
            }
            _ => {}
        }
    }
}

/// Waits until this peer is connected; other events are passed over.
#[track_caller]
pub(crate) fn connected(events: &Events, wanted: PeerId) {
    while !matches!(next_event(events), Event::Connected { peer, .. } if peer == wanted) {}
}

#[track_caller]
pub(crate) fn next_event(events: &Events) -> Event {
    events.recv_timeout(PATIENCE).expect("an event in time")
}
