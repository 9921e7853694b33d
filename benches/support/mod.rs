//! What the benches share: interleaved measuring, the table, and the far ends of the sockets.
//! Benches only; the library knows nothing of it.

#![allow(dead_code, reason = "every bench compiles all of it and uses its own part")]
#![allow(clippy::disallowed_methods, reason = "benches read the clock")]

pub(crate) mod payloads;
pub(crate) mod peer;
pub(crate) mod threads;

use std::hint::black_box;
use std::time::{Duration, Instant};

use conduit::wire::sha256d;

/// How long anything in a bench may wait.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// One bench: how much it does, and the table it prints.
pub(crate) struct Bench {
    quick: bool,
    rounds: usize,
}

/// What the work of one round comes to, and so how its time is shown.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// So many messages a round: shown as a rate.
    Messages(usize),
    /// So many bytes a round: shown as a rate.
    Bytes(usize),
    /// The time of a round is that of one message, shown as it is.
    Latency,
}

/// Section 7 of the design.
#[derive(Clone, Copy)]
pub(crate) enum Aim {
    /// Ours does at least so much of the limit's rate.
    AtLeast(f64),
    /// Ours takes at most so many times the limit's time.
    AtMost(f64),
    /// Nothing is asked of the ratio.
    None,
}

/// Medians over the rounds.
#[derive(Clone, Copy)]
pub(crate) struct Medians {
    pub(crate) ours: Duration,
    pub(crate) limit: Duration,
}

impl Bench {
    /// Prints the table's head. Without `--bench`, which `cargo bench` passes, or with `--quick`, little is done: enough
    /// to see that the bench runs.
    pub(crate) fn start(title: &str) -> Self {
        let has = |flag: &str| std::env::args().any(|arg| arg == flag);
        let quick = has("--quick") || !has("--bench");
        guard(if quick { 2 * DEADLINE } else { 10 * DEADLINE });
        let bench = Self { quick, rounds: if quick { 1 } else { 9 } };
        if !is_pinned() {
            println!("\n{title}{}", if quick { " (quick: the figures mean nothing)" } else { "" });
            let head = ["ours", "limit", "ratio", "(min to max)", "aim"];
            println!("{:<46}{:>12}{:>12}{:>8}  {:<16}{:<10}", "work", head[0], head[1], head[2], head[3], head[4]);
        }
        bench
    }

    /// Whether a row is wanted: all are, unless words on the command line name some.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let mut words = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).peekable();
        words.peek().is_none() || words.any(|word| name.contains(&word))
    }

    /// `full`, or a small part of it in a quick run.
    pub(crate) fn amount(&self, full: usize) -> usize {
        if self.quick { full.div_ceil(50) } else { full }
    }

    /// Measures ours and the limit in turns and prints their row; both do the same work and give the time it took.
    ///
    /// The machine's speed changes while others use it, so ratios are taken within each round.
    pub(crate) fn row(
        &self,
        name: &str,
        work: Work,
        aim: Aim,
        mut ours: impl FnMut() -> Duration,
        mut limit: impl FnMut() -> Duration,
    ) -> Medians {
        if !self.quick {
            limit();
            ours();
        }
        let rounds: Vec<(Duration, Duration)> = (0..self.rounds)
            .map(|round| {
                if round % 2 == 0 {
                    let limit = limit();
                    (ours(), limit)
                } else {
                    (ours(), limit())
                }
            })
            .collect();
        let ratio = |&(ours, limit): &(Duration, Duration)| match work {
            Work::Latency => ours.as_secs_f64() / limit.as_secs_f64(),
            _ => limit.as_secs_f64() / ours.as_secs_f64(),
        };
        let ratios = sorted(rounds.iter().map(ratio));
        let seconds = |pick: fn(&(Duration, Duration)) -> Duration| {
            Duration::from_secs_f64(median(&sorted(rounds.iter().map(|round| pick(round).as_secs_f64()))))
        };
        let medians = Medians { ours: seconds(|round| round.0), limit: seconds(|round| round.1) };
        let middle = median(&ratios);
        let spread = format!("({:.2} to {:.2})", ratios[0], ratios[ratios.len() - 1]);
        println!(
            "{name:<46}{:>12}{:>12}{middle:>8.2}  {spread:<16}{:<10}",
            work.show(medians.ours),
            work.show(medians.limit),
            aim.show(middle),
        );
        medians
    }

    /// Prints a line that belongs to the row above.
    pub(crate) fn note(&self, text: &str) {
        println!("    {text}");
    }
}

impl Medians {
    /// What one of `messages` took us beyond the limit, in nanoseconds.
    pub(crate) fn beyond_limit(&self, messages: usize) -> f64 {
        (self.ours.as_secs_f64() - self.limit.as_secs_f64()) * 1e9 / messages as f64
    }

    /// What one of `messages` took the limit, in nanoseconds.
    pub(crate) fn limit_each(&self, messages: usize) -> f64 {
        self.limit.as_secs_f64() * 1e9 / messages as f64
    }
}

impl Work {
    fn show(self, time: Duration) -> String {
        match self {
            Self::Messages(count) => match count as f64 / time.as_secs_f64() {
                rate if rate >= 1e5 => format!("{:.2} M/s", rate / 1e6),
                rate => format!("{rate:.0} /s"),
            },
            Self::Bytes(count) => format!("{:.0} MB/s", count as f64 / 1e6 / time.as_secs_f64()),
            Self::Latency => format!("{:.1} µs", time.as_secs_f64() * 1e6),
        }
    }
}

impl Aim {
    fn show(self, ratio: f64) -> String {
        let verdict = |met: bool| if met { "met" } else { "missed" };
        match self {
            Self::AtLeast(aim) => format!("≥ {aim} {}", verdict(ratio >= aim)),
            Self::AtMost(aim) => format!("≤ {aim} {}", verdict(ratio <= aim)),
            Self::None => String::from("-"),
        }
    }
}

/// The time that `work` takes.
pub(crate) fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// The time that sha256d takes for each payload, `repeat` times: the limit of all that verifies checksums.
pub(crate) fn time_of_hashing(payloads: &[Vec<u8>], repeat: usize) -> Duration {
    time(|| {
        for payload in (0..repeat).flat_map(|_| payloads) {
            black_box(sha256d(payload));
        }
    })
}

/// The median time of one of `count` calls.
pub(crate) fn median_call(count: usize, mut call: impl FnMut()) -> Duration {
    let times = sorted((0..count).map(|_| time(&mut call).as_secs_f64()));
    Duration::from_secs_f64(median(&times))
}

/// Runs this bench again with everything on one core, if `taskset` is there; its rows go into the same table.
pub(crate) fn run_pinned_too() {
    if is_pinned() {
        return;
    }
    let Ok(bench) = std::env::current_exe() else { return };
    let mut command = std::process::Command::new("taskset");
    command.args(["-c", "0"]).arg(bench).args(std::env::args().skip(1)).env(PINNED, "1");
    match command.status() {
        Ok(status) => assert!(status.success(), "the run on one core failed"),
        Err(error) => println!("not measured on one core: taskset: {error}"),
    }
}

/// Whether this is the run on one core.
pub(crate) fn is_pinned() -> bool {
    std::env::var_os(PINNED).is_some()
}

/// Ends a bench that hangs.
fn guard(limit: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        eprintln!("the bench was not done in {limit:?}");
        std::process::exit(1);
    });
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

const PINNED: &str = "CONDUIT_BENCH_PINNED";
