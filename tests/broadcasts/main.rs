//! Transactions delivered, and known to be, over real sockets: every outcome, order and fault, through the public API.

#![allow(clippy::disallowed_methods, reason = "tests take the time")]
#![allow(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]

#[path = "../support/mod.rs"]
mod support;

mod conflicts;
mod joining;
mod lots;
mod many;
mod outbox;
mod peers;
mod verdicts;
mod waits_end;

use std::time::Duration;

use conduit::message::{Inventory, Message, Reject, RejectCode, Transaction};
use conduit::testnode::{TestNode, TestNodeConfig, transaction};
use conduit::wire::{Command, Txid};
use conduit::{
    Broadcast, BroadcastOptions, BroadcastProgress, Conduit, Config, JourneyState, Network, PeerId, Progress,
};
use support::PATIENCE;
use support::raw_peer::{RawListener, RawPeer};

/// Quick to dial again, and patient with scripted peers, which answer no pings.
fn config() -> Config {
    let config = Config::new(Network::Regtest).ping_timeout(10 * PATIENCE).stall_timeout(10 * PATIENCE);
    config.redial_min(Duration::from_millis(20)).redial_max(Duration::from_millis(100))
}

/// Waits long for the verdict.
fn options(nodes: usize) -> BroadcastOptions {
    BroadcastOptions::new().nodes(nodes).deadline(PATIENCE)
}

fn payment(number: u64) -> Transaction {
    transaction(number, 200)
}

fn raw(transaction: &Transaction) -> Vec<u8> {
    transaction.raw().to_vec()
}

fn node() -> TestNode {
    TestNode::start(TestNodeConfig::default().blocks(2)).expect("a test node starts")
}

/// A conduit with these nodes, all of them connected.
fn connected(config: Config, nodes: &[TestNode]) -> Conduit {
    let conduit = Conduit::new(config).expect("the settings hold");
    conduit.add_peers(nodes.iter().map(TestNode::address)).expect("addresses are addresses");
    conduit.start().expect("it starts");
    conduit.wait_for_peers(nodes.len(), PATIENCE).expect("the peers connect");
    conduit
}

/// A conduit whose peers say exactly what a test makes them say.
struct Scene {
    conduit: Conduit,
    peers: Vec<Scripted>,
}

/// A peer of a scene; dropping its socket loses the connection, and its listener takes the next one.
struct Scripted {
    id: PeerId,
    listener: RawListener,
    raw: RawPeer,
}

impl Scene {
    fn new(config: Config, peers: usize) -> Self {
        let conduit = Conduit::new(config).expect("the settings hold");
        conduit.start().expect("it starts");
        let mut scene = Self { conduit, peers: Vec::new() };
        (0..peers).for_each(|_| scene.join());
        scene
    }

    /// One more peer connects.
    fn join(&mut self) {
        let listener = RawListener::bind();
        let id = self.conduit.add_peers([listener.address()]).expect("addresses are addresses")[0];
        let raw = listener.shake_hands();
        self.peers.push(Scripted { id, listener, raw });
        self.conduit.wait_for_peers(self.peers.len(), PATIENCE).expect("the peer connects");
    }

    /// Begins a broadcast.
    fn broadcast(&self, transaction: &Transaction, options: &BroadcastOptions) -> Broadcast {
        self.conduit.broadcast_transaction_with(raw(transaction), options).expect("there is room")
    }

    /// Is told of a transaction, asks for it and gets it.
    fn deliver(&mut self, peer: usize, transaction: &Transaction) {
        let peer = &mut self.peers[peer].raw;
        peer.expect_announced(&[transaction.txid()]);
        peer.fetch(transaction);
    }
}

/// What raw peers of these tests say.
trait Says {
    fn announce(&mut self, txid: Txid);
    fn ask(&mut self, txids: &[Txid]);
    fn reject(&mut self, txid: Txid, reason: &str);
    /// The next announcement is of these.
    fn expect_announced(&mut self, txids: &[Txid]);
    /// Asks for a transaction and gets it.
    fn fetch(&mut self, transaction: &Transaction);
    /// What comes before the pong to a ping, but for pings.
    fn said(&mut self) -> Vec<Message>;
}

impl Says for RawPeer {
    fn announce(&mut self, txid: Txid) {
        self.send(&Message::Inv(vec![Inventory::transaction(txid)]));
    }

    fn ask(&mut self, txids: &[Txid]) {
        self.send(&Message::GetData(inventory(txids)));
    }

    fn reject(&mut self, txid: Txid, reason: &str) {
        self.send(&reject(txid, reason));
    }

    #[track_caller]
    fn expect_announced(&mut self, txids: &[Txid]) {
        assert_eq!(self.expect(Command::INV), Message::Inv(inventory(txids)));
    }

    #[track_caller]
    fn fetch(&mut self, transaction: &Transaction) {
        self.ask(&[transaction.txid()]);
        assert_eq!(self.expect(Command::TX), Message::Tx(transaction.clone()));
    }

    fn said(&mut self) -> Vec<Message> {
        let nonce = 0x5a1d;
        self.send(&Message::Ping { nonce });
        let mut said = Vec::new();
        loop {
            match self.next().expect("a pong in time") {
                Message::Pong { nonce: answered } if answered == nonce => return said,
                Message::Ping { .. } => {}
                message => said.push(message),
            }
        }
    }
}

fn inventory(txids: &[Txid]) -> Vec<Inventory> {
    txids.iter().copied().map(Inventory::transaction).collect()
}

fn reject(txid: Txid, reason: &str) -> Message {
    let (message, hash) = (Command::TX.as_str().into(), Some(*txid.as_wire()));
    Reject { message, code: RejectCode::Invalid, reason: reason.into(), hash }.into()
}

/// All progress up to the first item that is wanted, which is the last of it.
#[track_caller]
fn until(progress: &BroadcastProgress, wanted: impl Fn(&Progress) -> bool) -> Vec<Progress> {
    let mut seen = Vec::new();
    loop {
        let item = progress.recv_timeout(PATIENCE);
        seen.push(item.unwrap_or_else(|error| panic!("{error:?} after {seen:?}")));
        if seen.last().is_some_and(&wanted) {
            return seen;
        }
    }
}

/// Waits until a peer has come so far.
#[track_caller]
fn until_state(progress: &BroadcastProgress, peer: PeerId, state: fn(&JourneyState) -> bool) {
    until(progress, |item| matches!(item, Progress::Peer(j) if j.peer == Some(peer) && state(&j.state)));
}
