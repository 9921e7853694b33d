//! How the node is told to misbehave, at any moment and from any thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use crate::wire::Command;

/// The faults that are switched on; read by all threads of the node.
#[derive(Debug, Default)]
pub(super) struct Switches {
    stopped: AtomicBool,
    refusing: AtomicBool,
    silent: AtomicBool,
    not_reading: AtomicBool,
    latency_nanos: AtomicU64,
    ignored: RwLock<Vec<Command>>,
}

macro_rules! switches {
    ($($field:ident: $getter:ident, $setter:ident;)*) => {
        impl Switches {
            $(
                pub(super) fn $getter(&self) -> bool {
                    self.$field.load(Ordering::SeqCst)
                }

                pub(super) fn $setter(&self, on: bool) {
                    self.$field.store(on, Ordering::SeqCst);
                }
            )*
        }
    };
}

switches! {
    stopped: is_stopped, set_stopped;
    refusing: is_refusing, set_refusing;
    silent: is_silent, set_silent;
    not_reading: is_not_reading, set_not_reading;
}

impl Switches {
    pub(super) fn latency(&self) -> Duration {
        Duration::from_nanos(self.latency_nanos.load(Ordering::SeqCst))
    }

    pub(super) fn set_latency(&self, latency: Duration) {
        // Five hundred years are enough.
        self.latency_nanos.store(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    pub(super) fn ignores(&self, command: Command) -> bool {
        self.ignored.read().contains(&command)
    }

    pub(super) fn ignore(&self, command: Command) {
        let mut ignored = self.ignored.write();
        if !ignored.contains(&command) {
            ignored.push(command);
        }
    }

    pub(super) fn heed(&self, command: Command) {
        self.ignored.write().retain(|other| *other != command);
    }
}
