//! How the node is told to misbehave, at any moment and from any thread.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::faults::Faults;

/// What is switched on; read by all threads of the node.
#[derive(Debug, Default)]
pub(super) struct Switches {
    stopped: AtomicBool,
    refusing: AtomicBool,
    not_reading: AtomicBool,
    /// The node is in initial block download.
    syncing: AtomicBool,
    latency_nanos: AtomicU64,
    /// What transactions must pay to be announced to the node, in satoshis for 1,000 bytes.
    fee_filter: AtomicI64,
    pub(super) faults: Faults,
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
    not_reading: is_not_reading, set_not_reading;
    syncing: is_syncing, set_syncing;
}

impl Switches {
    pub(super) fn latency(&self) -> Duration {
        Duration::from_nanos(self.latency_nanos.load(Ordering::SeqCst))
    }

    pub(super) fn fee_filter(&self) -> i64 {
        self.fee_filter.load(Ordering::SeqCst)
    }

    pub(super) fn set_fee_filter(&self, satoshis_per_kilobyte: i64) {
        self.fee_filter.store(satoshis_per_kilobyte, Ordering::SeqCst);
    }

    pub(super) fn set_latency(&self, latency: Duration) {
        // Five hundred years are enough.
        self.latency_nanos.store(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}
