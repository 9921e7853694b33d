//! How long to wait after a failure, for whoever failed.
//!
//! Layer 4.

use std::time::Duration;

/// Doubles from `least` to `most` with each failure, with jitter.
pub(super) fn back_off(least: Duration, most: Duration, failures: u32, jitter: f64) -> Duration {
    let doubled = least.saturating_mul(1_u32 << failures.saturating_sub(1).min(20));
    doubled.min(most).mul_f64(jitter).min(most)
}
