//! Broadcasts that outlive their process, over real sockets and a real disk: restarts, kills, damage, a disk that is full.

#![allow(clippy::disallowed_methods, reason = "tests take the time")]
#![allow(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]

mod faults;
#[cfg(unix)]
mod kill;
mod restart;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::time::Duration;

use conduit::testnode::{TestNode, TestNodeConfig, transaction};
use conduit::{BroadcastOptions, Conduit, Config, Network};
use support::PATIENCE;

fn config(dir: &Path) -> Config {
    Config::new(Network::Regtest)
        .redial_min(Duration::from_millis(20))
        .redial_max(Duration::from_millis(100))
        .data_dir(dir)
        .keep_broadcasts(true)
}

fn node() -> TestNode {
    TestNode::start(TestNodeConfig::default()).expect("a test node starts")
}

/// A conduit on a directory with these peers, once all are connected.
fn start<'a>(dir: &Path, nodes: impl IntoIterator<Item = &'a TestNode>) -> Conduit {
    let conduit = Conduit::new(config(dir).only_named_peers(true)).expect("the settings hold");
    let ids = conduit.add_peers(nodes.into_iter().map(TestNode::address)).expect("addresses are addresses");
    conduit.start().expect("it starts");
    conduit.wait_for_peers(ids.len(), PATIENCE).expect("the peers connect");
    conduit
}

fn raw(number: u64) -> Vec<u8> {
    transaction(number, 250).raw().to_vec()
}

/// One is told; the verdict waits for what the test does.
fn patient() -> BroadcastOptions {
    BroadcastOptions::new().nodes(1).deadline(PATIENCE)
}
