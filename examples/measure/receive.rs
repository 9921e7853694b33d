//! `receive`: takes what the peers send, in one worker.

use std::collections::BTreeMap;
use std::time::Duration;

use conduit::message::Message;
use conduit::{Events, Incoming, Messages};
use serde_json::{Value, json};

use super::support::Failure;
use super::support::process::{Span, peak_rss_bytes};
use super::{Options, loss};

pub(crate) fn run(options: &Options) -> Result<Value, Failure> {
    let count = options.count()?;
    let (conduit, peers, events) = options.conduit()?;
    // Before the start, so that nothing is missed.
    let messages = conduit.messages()?;
    conduit.start()?;

    let mut worker = Worker { messages, events, timeout: options.timeout, others: BTreeMap::new() };
    let mut total = worker.next(0)?;
    let span = Span::start();
    for taken in 1..count {
        let next = worker.next(taken)?;
        total.items += next.items;
        total.bytes += next.bytes;
    }
    let (seconds, cpu_seconds) = span.end();
    Ok(json!({
        "mode": "receive",
        "messages": count,
        "items": total.items,
        "bytes": total.bytes,
        "seconds": seconds,
        // The clock starts with the first message, so it is not in the rate.
        "per_second": (count - 1) as f64 / seconds,
        "mb_per_second": total.bytes as f64 / 1e6 / seconds,
        "cpu_seconds": cpu_seconds,
        "peak_rss_bytes": peak_rss_bytes(),
        "peers": peers.len(),
        "others": worker.others,
    }))
}

struct Worker {
    messages: Messages,
    events: Events,
    timeout: Duration,
    /// Messages that are not counted, by command.
    others: BTreeMap<String, u64>,
}

/// What messages come to.
struct Size {
    items: u64,
    /// Of whole frames.
    bytes: u64,
}

impl Worker {
    /// The next message that counts.
    fn next(&mut self, taken: u64) -> Result<Size, Failure> {
        loop {
            let message = match self.messages.try_recv() {
                Ok(incoming) => incoming.message,
                Err(_) => self.wait(taken)?.message,
            };
            let size = |items: usize, bytes: usize| Size { items: items as u64, bytes: (bytes + HEADER) as u64 };
            return Ok(match &message {
                Message::Tx(transaction) => size(1, transaction.raw().len()),
                Message::Inv(items) => size(items.len(), list_len(items.len(), INVENTORY)),
                Message::Headers(headers) => size(headers.len(), list_len(headers.len(), BLOCK_HEADER)),
                other => {
                    *self.others.entry(other.command().to_string()).or_default() += 1;
                    continue;
                }
            });
        }
    }

    /// Waits in short steps, so that the loss of a peer is seen.
    fn wait(&self, taken: u64) -> Result<Incoming, Failure> {
        let mut left = self.timeout;
        loop {
            let step = left.min(STEP);
            if let Ok(incoming) = self.messages.recv_timeout(step) {
                return Ok(incoming);
            }
            while let Ok(event) = self.events.try_recv() {
                if !matches!(event, conduit::Event::Connected { .. }) {
                    // What came before the loss is there by now.
                    return match self.messages.try_recv() {
                        Ok(incoming) => Ok(incoming),
                        Err(_) => Err(format!("{} after {taken} messages", loss(&event)).into()),
                    };
                }
            }
            left -= step;
            if left.is_zero() {
                return Err(format!("no message for {:?} after {taken} of them", self.timeout).into());
            }
        }
    }
}

/// A list on the wire: a compact size and its entries.
fn list_len(count: usize, each: usize) -> usize {
    let prefix = match count {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        _ => 5,
    };
    prefix + count * each
}

const STEP: Duration = Duration::from_millis(200);
const HEADER: usize = 24;
const INVENTORY: usize = 36;
/// A header, and the transaction count that means nothing.
const BLOCK_HEADER: usize = 81;
