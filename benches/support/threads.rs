//! What each thread of this process costs in processor time, where the system tells (Linux).

use std::collections::BTreeMap;
use std::fs;

/// Processor time by thread name, in nanoseconds, summed over threads that have the same.
#[derive(Default)]
pub(crate) struct Usage(BTreeMap<String, u64>);

impl Usage {
    /// Adds what all threads use while `work` runs.
    pub(crate) fn during<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let before = now();
        let value = work();
        for (name, nanos) in now() {
            let used = nanos.saturating_sub(before.get(&name).copied().unwrap_or(0));
            *self.0.entry(name).or_default() += used;
        }
        value
    }

    /// What each thread used for each of `messages`: `conduit-io 310 ns, ...`.
    pub(crate) fn each(&self, messages: usize) -> String {
        let each = |(name, nanos): (&String, &u64)| {
            let each = *nanos as f64 / messages as f64;
            (each >= 1.0).then(|| format!("{name} {each:.0} ns"))
        };
        let used: Vec<String> = self.0.iter().filter_map(each).collect();
        if used.is_empty() { String::from("not told by this system") } else { used.join(", ") }
    }
}

fn now() -> BTreeMap<String, u64> {
    let process = std::process::id().to_string();
    let mut usage = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).ok();
        let (Some(name), Some(stat)) = (read("comm"), read("schedstat")) else { continue };
        // The first thread has the program's name, which says less.
        let name = if entry.file_name() == *process { "caller" } else { name.trim() };
        let nanos = stat.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0);
        *usage.entry(name.to_owned()).or_default() += nanos;
    }
    usage
}
