//! Tests that look at the whole process, its memory or its threads, and so need one for themselves.

use std::env;
use std::process::Command;
use std::time::{Duration, Instant};

/// Runs the test of this name again in a process of its own; true there, false in the first one when that is over.
#[track_caller]
pub(crate) fn is_alone(test: &str) -> bool {
    is_alone_within(test, super::PATIENCE * 4)
}

/// The same for a test that takes longer.
#[track_caller]
pub(crate) fn is_alone_within(test: &str, limit: Duration) -> bool {
    if env::var(ALONE).is_ok_and(|name| name == test) {
        return true;
    }
    let program = env::current_exe().expect("a test is a program");
    let mut child = Command::new(program)
        .args([test, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(ALONE, test)
        .spawn()
        .expect("the test runs again");
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            assert!(status.success(), "{test} failed in its own process: {status}");
            return false;
        }
        if Instant::now() > deadline {
            // It may end by itself in this moment.
            drop(child.kill());
            panic!("{test} does not end in its own process");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Memory of this process that lies in RAM, in bytes.
#[cfg(target_os = "linux")]
pub(crate) fn resident_bytes() -> u64 {
    memory("VmRSS:")
}

/// The most of it there ever was.
#[cfg(target_os = "linux")]
pub(crate) fn peak_resident_bytes() -> u64 {
    memory("VmHWM:")
}

/// Processor time of all threads of this process so far, also of those that have ended.
#[cfg(target_os = "linux")]
pub(crate) fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux tells");
    // The name in brackets may hold anything; `utime` and `stime` are the 12th and 13th fields behind it, in hundredths.
    let fields = stat.rsplit_once(") ").expect("a name in brackets").1.split(' ');
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

#[cfg(target_os = "linux")]
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the line is there");
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kilobytes * 1_024
}

/// The names of this process's threads that the library started, sorted.
#[cfg(target_os = "linux")]
pub(crate) fn conduit_threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux tells");
    // A thread can end between the two looks.
    let names = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    let mut names: Vec<_> =
        names.map(|name| name.trim().to_owned()).filter(|name| name.starts_with("conduit-")).collect();
    names.sort();
    names
}

const ALONE: &str = "CONDUIT_TEST_ALONE";
