//! Peers that look after themselves, over real sockets: who is found, checked, held, ranked, asked, banned, remembered.

#![allow(clippy::disallowed_methods, reason = "tests take the time")]
#![allow(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]

#[path = "../support/mod.rs"]
mod support;

mod bans;
mod connections;
mod events;
mod failover;
mod finding;
mod fork;
mod ranking;
mod saving;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use conduit::testnode::{TestNode, TestNodeConfig};
use conduit::{
    Conduit, Config, CustomNetwork, Event, Events, ForkMarker, ForkPoint, Network, PeerId, PeerInfo, PeerState,
};
use support::{PATIENCE, waits};

/// Quick to dial again.
fn config(network: Network) -> Config {
    Config::new(network).redial_min(Duration::from_millis(20)).redial_max(Duration::from_millis(100))
}

fn regtest() -> Config {
    config(Network::Regtest)
}

fn node() -> TestNode {
    TestNode::start(TestNodeConfig::default().blocks(BLOCKS)).expect("a test node starts")
}

/// A conduit with these peers named, once all are connected.
fn connect<'a>(config: Config, nodes: impl IntoIterator<Item = &'a TestNode>) -> (Conduit, Events, Vec<PeerId>) {
    let conduit = Conduit::new(config).expect("the settings hold");
    let events = conduit.events();
    let ids = conduit.add_peers(nodes.into_iter().map(TestNode::address)).expect("addresses are addresses");
    conduit.start().expect("it starts");
    conduit.wait_for_peers(ids.len(), PATIENCE).expect("the peers connect");
    (conduit, events, ids)
}

/// A network of the test's own, with regtest's first block.
fn custom(seeds: &[&str], fork_marker: Option<ForkMarker>) -> Network {
    let custom = CustomNetwork {
        name: "hamlet".to_owned(),
        magic: *b"haml",
        port: 17_000,
        seeds: seeds.iter().map(|&seed| seed.to_owned()).collect(),
        genesis: Network::Regtest.genesis(),
        fork_marker,
    };
    Network::Custom(custom.into())
}

/// The marker of a chain that others leave after the first block.
fn marker_of(node: &TestNode) -> ForkMarker {
    let one = node.block_hash(1).expect("the chain has a block on the first one");
    ForkMarker::new([ForkPoint::followed_by(Network::Regtest.genesis(), one)], one, 1)
}

/// Nodes of the custom network, at addresses of their own.
fn hamlet(count: u8) -> Vec<TestNode> {
    (1..=count).map(|n| hamlet_node(n, TestNodeConfig::default())).collect()
}

fn hamlet_node(n: u8, config: TestNodeConfig) -> TestNode {
    let config = config.network(custom(&[], None)).ip(Ipv4Addr::new(127, 0, n, 1)).blocks(BLOCKS);
    TestNode::start(config).expect("a test node starts")
}

fn addresses(nodes: &[TestNode]) -> Vec<SocketAddr> {
    nodes.iter().map(TestNode::address).collect()
}

/// A resolver that knows no name.
fn nowhere(_host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
    Err(io::ErrorKind::NotFound.into())
}

/// All events up to the first that is wanted, which is the last of them.
#[track_caller]
fn until(events: &Events, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut seen = Vec::new();
    loop {
        let event = events.recv_timeout(PATIENCE);
        seen.push(event.unwrap_or_else(|error| panic!("{error:?} after {seen:?}")));
        if seen.last().is_some_and(&wanted) {
            return seen;
        }
    }
}

/// Whether an event says that this peer is connected.
fn connects(id: PeerId) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Connected { peer, .. } if *peer == id)
}

/// Whether an event says that this peer is lost, or could not be connected.
fn loses(id: PeerId) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Disconnected { peer, .. } | Event::Refused { peer, .. } if *peer == id)
}

fn info(conduit: &Conduit, id: PeerId) -> PeerInfo {
    conduit.peers().into_iter().find(|peer| peer.id == id).expect("the peer is known")
}

/// How many peers are in this state.
fn count(conduit: &Conduit, state: PeerState) -> usize {
    conduit.peers().iter().filter(|peer| peer.state == state).count()
}

/// The addresses of the peers that are used, in order.
fn ready(conduit: &Conduit) -> Vec<SocketAddr> {
    let ready = conduit.peers().into_iter().filter(|peer| peer.state == PeerState::Ready);
    let mut addresses: Vec<_> = ready.filter_map(|peer| peer.address.socket_addr()).collect();
    addresses.sort();
    addresses
}

fn wait_for_state(conduit: &Conduit, id: PeerId, state: PeerState) {
    waits::until(&format!("{id} is {state:?}"), || info(conduit, id).state == state);
}

const BLOCKS: u32 = 5;
