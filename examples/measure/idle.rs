//! `idle`: many connections to one address on which nothing happens, and what they cost.

use std::thread;
use std::time::Duration;

use conduit::{Conduit, Config};
use serde_json::{Value, json};

use super::support::Failure;
use super::support::process::{Span, rss_bytes};
use super::{Options, missing};

pub(crate) fn run(options: &Options) -> Result<Value, Failure> {
    let peers = match options.peers {
        Some(0) => return Err(Failure::Usage("--peers 0: at least 1".into())),
        peers => peers.ok_or_else(|| missing("--peers"))?,
    };
    let seconds = options.seconds.ok_or_else(|| missing("--seconds"))?;
    let [address] = &options.connect[..] else {
        return Err(Failure::Usage("--connect: once only, as all connections go to one address".into()));
    };
    // As a user has it, keepalive and redials included.
    let conduit = Conduit::new(
        Config::new(options.network.clone()).fork_marker(None).only_named_peers(true).max_peers(peers),
    )?;
    conduit.start()?;
    let before = rss_bytes();
    conduit.add_connections(address, peers)?;
    conduit.wait_for_peers(peers, options.timeout)?;

    let span = Span::start();
    thread::sleep(Duration::from_secs(seconds));
    let (seconds, cpu_seconds) = span.end();
    let after = rss_bytes();
    // Of those that were lost meanwhile, some may be back.
    let connected = conduit.peers().iter().filter(|peer| peer.traffic.is_some()).count();
    let grown = after.zip(before).map(|(after, before)| after.saturating_sub(before));
    Ok(json!({
        "mode": "idle",
        "peers": peers,
        "connected": connected,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "rss_bytes": after,
        "rss_per_peer_bytes": grown.map(|grown| grown / peers as u64),
    }))
}
