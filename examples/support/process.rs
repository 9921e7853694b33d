//! What this process has cost so far: time, processor time and memory.

#![allow(clippy::disallowed_methods, reason = "a measuring program reads the clock")]

use std::fs;
use std::time::Instant;

/// The costs since a moment.
pub(crate) struct Span {
    start: Instant,
    cpu: Option<u64>,
}

impl Span {
    pub(crate) fn start() -> Self {
        Self { cpu: cpu_ticks(), start: Instant::now() }
    }

    /// Seconds since the start, and processor seconds of all threads.
    pub(crate) fn end(&self) -> (f64, Option<f64>) {
        let seconds = self.start.elapsed().as_secs_f64();
        (seconds, cpu_ticks().zip(self.cpu).map(|(now, then)| (now - then) as f64 / TICKS_PER_SECOND))
    }
}

/// The most memory this process ever had, in bytes; `None` where the system does not tell (it is Linux that does).
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    memory("VmHWM:")
}

/// The memory this process has now, in bytes; `None` where the system does not tell.
#[allow(dead_code, reason = "not every example needs it")]
pub(crate) fn rss_bytes() -> Option<u64> {
    memory("VmRSS:")
}

fn memory(field: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1_024)
}

/// User and system time of all threads, also of those that have ended.
fn cpu_ticks() -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, the name in brackets, may hold anything; the third follows the last bracket.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(UTIME - 3);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The place of `utime` in `/proc/self/stat`, counted from 1; `stime` is the next.
const UTIME: usize = 14;
/// `USER_HZ`, the same on all current platforms of Linux.
const TICKS_PER_SECOND: f64 = 100.0;
