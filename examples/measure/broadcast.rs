//! `broadcast`: transactions announced to peers and served to them as they ask, until each has its verdict.

use std::time::Duration;

use conduit::message::Message;
use conduit::{BroadcastOptions, Conduit, Verdict};
use serde_json::{Value, json};

use super::push::produce;
use super::support::Failure;
use super::support::process::{Span, peak_rss_bytes};
use super::{Options, why};

pub(crate) fn run(options: &Options) -> Result<Value, Failure> {
    let (count, size) = (options.count()?, options.size()?);
    let nodes = options.nodes.map_or(options.connect.len(), usize::from);
    if nodes > options.connect.len() {
        return Err(Failure::Usage(format!("--nodes {nodes}: there are {} peers", options.connect.len())));
    }
    let conduit = Conduit::new(options.peers_config().rebroadcast_interval(super::A_YEAR))?;
    conduit.add_peers(&options.connect)?;
    let events = conduit.events();
    conduit.start()?;
    let losses = options.wait_for_all(&conduit, events)?;

    // Who is not told shows that a transaction was relayed; with nobody left for that, it is enough that all have it.
    let listeners = options.connect.len() - nodes;
    let terms = BroadcastOptions::new()
        .nodes(nodes)
        .listeners(listeners)
        .relays(usize::from(listeners > 0))
        .deadline(options.timeout)
        .lifetime(2 * options.timeout);
    let (batches, prepared) = produce(count, size)?;
    let raw = batches.into_iter().flatten().map(|message| match message {
        Message::Tx(transaction) => transaction.raw().to_vec(),
        _ => Vec::new(),
    });
    let mut tally = Tally::default();
    let span = Span::start();
    for outcome in conduit.broadcast_transactions(raw, terms) {
        match outcome.result {
            Ok(report) => tally.add(&report.verdict, report.sent(), report.elapsed),
            Err(error) => return Err(why(&losses, &error).into()),
        }
    }
    let (seconds, cpu_seconds) = span.end();

    let bytes = tally.sent * (super::push::FRAME_HEADER_LEN + size as u64);
    Ok(json!({
        "mode": "broadcast",
        "transactions": count,
        "sent": tally.sent,
        "bytes": bytes,
        "seconds": seconds,
        "per_second": count as f64 / seconds,
        "mb_per_second": bytes as f64 / seconds / 1e6,
        "cpu_seconds": cpu_seconds,
        "peak_rss_bytes": peak_rss_bytes(),
        "peers": options.connect.len(),
        "nodes": nodes,
        "prepared": prepared,
        "relayed": tally.relayed,
        "delivered": tally.delivered,
        "rejected": tally.rejected,
        "others": tally.others,
        "verdict_p50_ms": tally.percentile(50),
        "verdict_p99_ms": tally.percentile(99),
    }))
}

/// What became of the transactions.
#[derive(Default)]
struct Tally {
    relayed: u64,
    delivered: u64,
    rejected: u64,
    others: u64,
    /// To each peer.
    sent: u64,
    /// Times until the verdict, by their length in steps of [`STEP`].
    took: Vec<u64>,
}

impl Tally {
    fn add(&mut self, verdict: &Verdict, sent: usize, took: Duration) {
        let counter = match verdict {
            Verdict::Relayed { .. } => &mut self.relayed,
            Verdict::Delivered { .. } => &mut self.delivered,
            Verdict::Rejected { .. } | Verdict::Split { .. } => &mut self.rejected,
            _ => &mut self.others,
        };
        *counter += 1;
        self.sent += sent as u64;
        let step = (took.as_micros() / STEP.as_micros()) as usize;
        let last = LONGEST_STEPS.min(step);
        if self.took.len() <= last {
            self.took.resize(last + 1, 0);
        }
        self.took[last] += 1;
    }

    /// The time within which so many of a hundred had their verdict, in milliseconds.
    fn percentile(&self, percent: u64) -> f64 {
        let total: u64 = self.took.iter().sum();
        let mut left = (total * percent).div_ceil(100);
        let reached = |&count: &u64| {
            left = left.saturating_sub(count);
            left == 0
        };
        let steps = self.took.iter().position(reached).unwrap_or_default() + 1;
        steps as f64 * STEP.as_secs_f64() * 1e3
    }
}

const STEP: Duration = Duration::from_micros(500);
/// Ten minutes.
const LONGEST_STEPS: usize = 1_200_000;
