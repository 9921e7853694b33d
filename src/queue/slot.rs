//! The place where one result is left for whoever waits for it: blocking, polling or as a `Future`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Poll, Waker};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// Holds one result from the moment it is there until it is taken.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
}

#[derive(Debug)]
enum State<T> {
    Waiting(Option<Waker>),
    Ready(T),
    Taken,
}

impl<T> Slot<T> {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State::Waiting(None)), ready: Condvar::new() }
    }

    /// Leaves the result; a second one is dropped, so that every wait ends once.
    pub(crate) fn put(&self, value: T) {
        let mut state = self.state.lock();
        let State::Waiting(waker) = &mut *state else { return };
        let waker = waker.take();
        *state = State::Ready(value);
        drop(state);
        self.ready.notify_all();
        waker.into_iter().for_each(wake);
    }

    /// Takes the result, waiting until it is there or the deadline passes.
    pub(crate) fn take_until(&self, deadline: Option<Instant>) -> Option<T> {
        let mut state = self.state.lock();
        while matches!(*state, State::Waiting(_)) {
            match deadline {
                None => self.ready.wait(&mut state),
                Some(deadline) => {
                    if self.ready.wait_until(&mut state, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        take(&mut state)
    }

    /// Takes the result if it is there.
    pub(crate) fn try_take(&self) -> Option<T> {
        take(&mut self.state.lock())
    }

    /// Takes the result, or keeps the waker to call when it is there; `None` once it was taken.
    pub(crate) fn poll(&self, waker: &Waker) -> Poll<Option<T>> {
        let mut state = self.state.lock();
        match &mut *state {
            State::Waiting(kept) => {
                *kept = Some(waker.clone());
                Poll::Pending
            }
            State::Ready(_) => Poll::Ready(take(&mut state)),
            State::Taken => Poll::Ready(None),
        }
    }
}

fn take<T>(state: &mut State<T>) -> Option<T> {
    match std::mem::replace(state, State::Taken) {
        State::Ready(value) => Some(value),
        State::Taken => None,
        waiting @ State::Waiting(_) => {
            *state = waiting;
            None
        }
    }
}

/// Calls a waker of the caller's; its panic must not end a thread of ours.
pub(crate) fn wake(waker: Waker) {
    if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
        log::error!(target: "conduit::queue", "a waker of the caller's panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::task::Wake;

    #[test]
    fn one_result_is_taken_once() {
        let slot = Slot::new();
        assert_eq!(slot.try_take(), None::<i32>);
        slot.put(1);
        slot.put(2);
        assert_eq!(slot.take_until(None), Some(1));
        assert_eq!(slot.try_take(), None);
        assert_eq!(slot.poll(Waker::noop()), Poll::Ready(None));
    }

    #[test]
    fn a_waker_that_panics_is_contained() {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("planted by the test");
            }
        }
        let slot = Slot::new();
        assert_eq!(slot.poll(&Arc::new(Panics).into()), Poll::Pending);
        slot.put(1);
        assert_eq!(slot.try_take(), Some(1));
    }
}
