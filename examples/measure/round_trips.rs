//! `round-trips`: blocking requests, one at a time.

#![allow(clippy::disallowed_methods, reason = "a measuring program reads the clock")]

use std::time::Instant;

use conduit::{GetData, Ping, RequestOptions};
use serde_json::{Value, json};

use super::support::Failure;
use super::support::process::Span;
use super::{Options, What, missing, why};

pub(crate) fn run(options: &Options) -> Result<Value, Failure> {
    let count = options.count()?;
    let what = options.what.ok_or_else(|| missing("--what"))?;
    if what == What::Ping && options.txid.is_some() {
        return Err(Failure::Usage("--txid: goes with --what tx only".into()));
    }
    let txid = if what == What::Tx { Some(options.txid.ok_or_else(|| missing("--txid"))?) } else { None };
    let (conduit, peers, events) = options.conduit()?;
    conduit.start()?;
    let losses = options.wait_for_all(&conduit, events)?;

    // One peer only, or the loss of all would be waited out.
    let request = |peer| RequestOptions::new().peer(peer).timeout(options.timeout);
    let ask = |peer| match txid {
        None => conduit.send_request_with(Ping, &request(peer)).map(drop),
        Some(txid) => conduit.send_request_with(GetData::transaction(txid), &request(peer)).map(drop),
    };
    let span = Span::start();
    let mut micros = Vec::new();
    for (_, &peer) in (0..count).zip(peers.iter().cycle()) {
        let start = Instant::now();
        ask(peer).map_err(|error| why(&losses, &error))?;
        micros.push(start.elapsed().as_secs_f64() * 1e6);
    }
    let (seconds, cpu_seconds) = span.end();
    micros.sort_unstable_by(f64::total_cmp);
    let at = |percent: usize| micros[(micros.len() - 1) * percent / 100];
    Ok(json!({
        "mode": "round-trips",
        "count": count,
        "p50_us": at(50),
        "p99_us": at(99),
        "max_us": at(100),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peers": peers.len(),
    }))
}
