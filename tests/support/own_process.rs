//! Tests that look at the whole process, its memory or its threads, and so need one for themselves.

use std::env;
use std::process::Command;
use std::time::Instant;

/// Runs the test of this name again in a process of its own; true there, false in the first one when that is over.
#[track_caller]
pub(crate) fn is_alone(test: &str) -> bool {
    if env::var(ALONE).is_ok_and(|name| name == test) {
        return true;
    }
    let program = env::current_exe().expect("a test is a program");
    let mut child = Command::new(program)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, test)
        .spawn()
        .expect("the test runs again");
    let deadline = Instant::now() + super::PATIENCE * 4;
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
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Memory of this process that lies in RAM, in bytes.
#[cfg(target_os = "linux")]
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the line is there");
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
