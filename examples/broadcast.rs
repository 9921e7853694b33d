//! Broadcasts raw transactions, gigabytes of them if need be, and tells what became of each.
//!
//! Run with `cargo run --release --example broadcast -- --help`.

#![allow(clippy::disallowed_methods, reason = "it shows how fast it is")]

#[path = "support/mod.rs"]
mod support;

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use conduit::{BroadcastOptions, BroadcastOutcome, Conduit, Config, Network, PeerAddress, Verdict};
use serde_json::json;
use support::{Failure, read_hex, run};

const USAGE: &str = "\
Usage: broadcast [options] [HEX ...]

Broadcasts each transaction, given as hex in an argument or in a line of a file or of standard input, and prints for
each its txid, verdict and peers as verdicts are given, and a summary at the end. Success is when a peer announces it
that was not told, so there should be more peers than NODES. Of a line that is no hex its number is told, and the rest
goes on; empty lines are skipped. In a terminal standard error shows how far it has come.

  --file PATH           read transactions from this file [standard input, unless there are arguments]
  --connect HOST:PORT   a peer; may be repeated [found by DNS, except on regtest]
  --network NAME        main, test, stn or regtest [main]
  --nodes N             tell so many peers; the others listen [2]
  --relays N            so many that were not told must announce it; with 0 it is enough that all were sent it [1]
  --listeners N         peers that shall be there to listen; fewer are told of in the report [1]
  --deadline SECONDS    wait so long for each verdict [20]
  --direct              send transactions without announcing them
  --data-dir PATH       keep them in this folder: what is not over goes on with the next run
  --timeout SECONDS     wait so long for peers [30]
  --json                a line of JSON for each transaction, and one with the summary
  --help                this text

Exit code 1: a transaction was rejected, or is none, or there is no peer. Exit code 2: bad arguments.
";

fn main() -> ExitCode {
    run(USAGE, |args| {
        let mut config = Settings::default();
        while let Some(arg) = args.next()? {
            match arg.as_str() {
                "--file" => config.file = Some(args.value()?),
                "--connect" => config.connect.push(args.value()?),
                "--network" => config.network = args.value()?,
                "--nodes" => config.options.nodes = args.value::<std::num::NonZeroUsize>()?.get(),
                "--relays" => config.options.relays = args.value()?,
                "--listeners" => config.options.listeners = args.value()?,
                "--deadline" => config.options.deadline = Duration::from_secs(args.value::<u32>()?.into()),
                "--direct" => config.options.direct = true,
                "--data-dir" => config.data_dir = Some(args.value()?),
                "--timeout" => config.timeout = Duration::from_secs(args.value::<u32>()?.into()),
                "--json" => config.json = true,
                _ if arg.starts_with('-') => return Err(args.unknown()),
                _ => {
                    read_hex(&arg).map_err(|error| Failure::Usage(format!("{arg:.40}: {error}")))?;
                    config.given.push(arg);
                }
            }
        }
        if config.connect.is_empty() && config.network.seeds().is_empty() {
            let text = format!("--connect: needed on {}, which has no DNS seeds", config.network);
            return Err(Failure::Usage(text));
        }
        if config.file.is_some() && !config.given.is_empty() {
            return Err(Failure::Usage("--file: transactions are given as arguments, too".to_owned()));
        }
        broadcast_all(config)
    })
}

struct Settings {
    given: Vec<String>,
    file: Option<PathBuf>,
    connect: Vec<PeerAddress>,
    network: Network,
    data_dir: Option<PathBuf>,
    timeout: Duration,
    options: BroadcastOptions,
    json: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            given: Vec::new(),
            file: None,
            connect: Vec::new(),
            network: Network::Main,
            data_dir: None,
            timeout: Duration::from_secs(30),
            options: BroadcastOptions::new().nodes(2),
            json: false,
        }
    }
}

fn broadcast_all(settings: Settings) -> Result<ExitCode, Failure> {
    let Settings { given, file, connect, network, data_dir, timeout, options, json } = settings;
    let mut total = None;
    let lines: Box<dyn BufRead> = match &file {
        Some(path) => {
            let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
            // Of a pipe it is 0.
            total = Some(file.metadata()?.len()).filter(|&len| len > 0);
            Box::new(BufReader::with_capacity(BUFFER, file))
        }
        None if given.is_empty() => Box::new(BufReader::with_capacity(BUFFER, io::stdin())),
        None => Box::new(io::Cursor::new(given.join("\n"))),
    };
    let mut config = Config::new(network);
    if let Some(dir) = data_dir {
        config = config.data_dir(dir).keep_broadcasts(true);
    }
    let conduit = Conduit::new(config)?;
    conduit.add_peers(&connect)?;
    conduit.start()?;
    // One more than is told can show that it was relayed.
    let wanted = if connect.is_empty() { options.nodes.saturating_add(1) } else { connect.len() };
    if let Err(error) = conduit.wait_for_peers(wanted, timeout) {
        if error.connected == 0 {
            return Err(error.into());
        }
        eprintln!("{error}; going on");
    }

    let input = Rc::new(RefCell::new(Input::default()));
    let mut out = BufWriter::new(io::stdout().lock());
    let mut summary = Summary::new(total);
    let transactions = Transactions { lines, text: Vec::new(), input: input.clone() };
    let mut outcomes = conduit.broadcast_transactions(transactions, options);
    while let Some(outcome) = outcomes.next() {
        // Whoever reads it sees each as it comes, unless they come faster than that.
        let mut written = summary.take(&mut out, &outcome, json);
        if outcomes.in_flight() == 0 || summary.is_due() {
            summary.clear();
            written = written.and_then(|()| out.flush());
        }
        if !is_read(written)? {
            return Ok(ExitCode::FAILURE);
        }
        summary.show(outcomes.in_flight(), input.borrow().bytes);
    }
    summary.clear();
    let Input { bad_lines, failure, .. } = std::mem::take(&mut *input.borrow_mut());
    is_read(summary.end(&mut out, bad_lines, json).and_then(|()| out.flush()))?;
    // With no relay to wait for, the last may be on their way yet.
    conduit.shutdown_after_flush(timeout);
    if let Some(error) = failure {
        return Err(error.into());
    }
    let failed = bad_lines + summary.errors + summary.rejected + summary.split > 0;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What was seen of the input.
#[derive(Default)]
struct Input {
    line: u64,
    bytes: u64,
    bad_lines: u64,
    /// It could not be read to its end.
    failure: Option<io::Error>,
}

/// The transactions of the input, read line by line.
struct Transactions {
    lines: Box<dyn BufRead>,
    text: Vec<u8>,
    input: Rc<RefCell<Input>>,
}

impl Iterator for Transactions {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut input = self.input.borrow_mut();
        loop {
            self.text.clear();
            match self.lines.read_until(b'\n', &mut self.text) {
                Ok(0) => return None,
                Ok(len) => {
                    input.line += 1;
                    input.bytes += len as u64;
                }
                Err(error) => {
                    input.failure = Some(error);
                    return None;
                }
            }
            // What is no UTF-8 is no hexadecimal digit either.
            let text = String::from_utf8_lossy(&self.text);
            match read_hex(text.trim()) {
                Ok(raw) if raw.is_empty() => {}
                Ok(raw) => return Some(raw),
                Err(error) => {
                    input.bad_lines += 1;
                    eprintln!("line {}: {error}", input.line);
                }
            }
        }
    }
}

/// How many there were of each kind.
struct Summary {
    begin: Instant,
    /// The length of the input, where it is known.
    total: Option<u64>,
    shown: Option<Instant>,
    is_terminal: bool,
    /// A line is there that is to be taken away.
    is_drawn: bool,
    transactions: u64,
    relayed: u64,
    rejected: u64,
    split: u64,
    delivered: u64,
    unrequested: u64,
    unannounced: u64,
    errors: u64,
}

impl Summary {
    fn new(total: Option<u64>) -> Self {
        Self {
            begin: Instant::now(),
            total,
            shown: None,
            is_terminal: io::stderr().is_terminal(),
            is_drawn: false,
            transactions: 0,
            relayed: 0,
            rejected: 0,
            split: 0,
            delivered: 0,
            unrequested: 0,
            unannounced: 0,
            errors: 0,
        }
    }

    /// Counts an outcome and prints it.
    fn take(&mut self, out: &mut impl Write, outcome: &BroadcastOutcome, json: bool) -> io::Result<()> {
        self.transactions += 1;
        let count = match &outcome.result {
            Err(_) => &mut self.errors,
            Ok(report) => match report.verdict {
                Verdict::Relayed { .. } => &mut self.relayed,
                Verdict::Rejected { .. } => &mut self.rejected,
                Verdict::Split { .. } => &mut self.split,
                Verdict::Delivered { .. } => &mut self.delivered,
                Verdict::Unrequested => &mut self.unrequested,
                _ => &mut self.unannounced,
            },
        };
        *count += 1;
        if json {
            serde_json::to_writer(&mut *out, outcome)?;
            return writeln!(out);
        }
        match &outcome.result {
            Ok(report) => {
                writeln!(out, "{} {}", report.txid, report.verdict)?;
                report.peers.iter().try_for_each(|peer| writeln!(out, "  {} {}", peer.address, peer.state))
            }
            Err(error) => writeln!(out, "transaction {}: {error}", outcome.index + 1),
        }
    }

    /// Sent or announced, and nothing was heard of it.
    const fn not_heard(&self) -> u64 {
        self.delivered + self.unrequested + self.unannounced
    }

    fn per_second(&self) -> f64 {
        self.transactions as f64 / self.begin.elapsed().as_secs_f64()
    }

    fn is_due(&self) -> bool {
        self.shown.is_none_or(|at| at.elapsed() >= REDRAW)
    }

    /// Draws how far it has come, where somebody sees it.
    fn show(&mut self, in_flight: u64, bytes: u64) {
        if !self.is_due() {
            return;
        }
        self.shown = Some(Instant::now());
        if !self.is_terminal {
            return;
        }
        let bar = self.total.map(|total| {
            let filled = (BAR * bytes.min(total)).checked_div(total).unwrap_or_default() as usize;
            format!("[{:<width$}] ", "=".repeat(filled), width = BAR as usize)
        });
        self.is_drawn = true;
        eprint!(
            "\r{}{} done, {:.0}/s, {in_flight} in flight: {} relayed, {} rejected, {} not heard\x1b[K",
            bar.unwrap_or_default(),
            self.transactions,
            self.per_second(),
            self.relayed,
            self.rejected + self.split,
            self.not_heard(),
        );
    }

    /// Takes the line away before another is printed over it.
    fn clear(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            eprint!("\r\x1b[K");
        }
    }

    fn end(&self, out: &mut impl Write, bad_lines: u64, json: bool) -> io::Result<()> {
        let seconds = self.begin.elapsed().as_secs_f64();
        if json {
            let summary = json!({
                "transactions": self.transactions,
                "relayed": self.relayed,
                "rejected": self.rejected,
                "split": self.split,
                "delivered": self.delivered,
                "unrequested": self.unrequested,
                "unannounced": self.unannounced,
                "errors": self.errors,
                "bad_lines": bad_lines,
                "seconds": seconds,
                "per_second": self.per_second(),
                "peak_rss_bytes": support::process::peak_rss_bytes(),
            });
            return writeln!(out, "{summary}");
        }
        writeln!(
            out,
            "{} transactions in {seconds:.1} s, {:.0}/s: {} relayed, {} rejected, {} split, {} not heard, {} not \
             broadcast, {bad_lines} bad lines",
            self.transactions,
            self.per_second(),
            self.relayed,
            self.rejected,
            self.split,
            self.not_heard(),
            self.errors,
        )
    }
}

/// Whether somebody still reads what was written; that nobody does, as behind `head`, is no failure of the rest.
fn is_read(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Bytes read at once.
const BUFFER: usize = 1024 * 1024;
/// Characters of the bar.
const BAR: u64 = 20;
/// The line is not drawn more often, nor are lines printed one by one.
const REDRAW: Duration = Duration::from_millis(100);
