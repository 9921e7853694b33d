//! The threads: the event loop, the message threads, and the hooks with which callers can replace name resolution and
//! dialling.

use std::time::{Duration, Instant};

mod hooks;

pub use hooks::{Dialler, Resolver, SystemResolver};

/// The instant this far ahead; `None` if it is beyond what the clock can count.
#[expect(clippy::disallowed_methods, reason = "the driver reads the clock")]
pub(crate) fn deadline_after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}
