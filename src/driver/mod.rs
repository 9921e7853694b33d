//! The threads and what they share: the event loop, the message threads, and the hooks with which callers can replace
//! name resolution and dialling.
//!
//! Only this layer reads the clock, and only `event_loop` names mio.
#![expect(clippy::disallowed_methods, reason = "the driver reads the clock")]

mod broadcasts;
mod calls;
mod counters;
mod downloads;
mod event_loop;
mod files;
mod hooks;
mod message_thread;
mod outbox_file;
mod peers_file;
mod serving;
mod shared;
mod socks5;

use std::time::{Duration, Instant, SystemTime};

pub use hooks::{Dialler, Resolver, SystemResolver};
pub(crate) use shared::Shared;
pub use socks5::Socks5;

use crate::engine::Now;

/// The instant this far ahead; `None` if it is beyond what the clock can count.
pub(crate) fn deadline_after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

/// Both clocks.
pub(crate) fn now() -> Now {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Now { instant: Instant::now(), unix: i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX) }
}

/// A seed from the random state that the standard library keeps for its maps.
pub(crate) fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(Instant::now())
}
