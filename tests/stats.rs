//! The statistics: exact counts of known exchanges over real sockets, and marks that stay when a queue is empty again.

#![allow(clippy::disallowed_methods, reason = "tests take the time")]
#![allow(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]

mod support;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};

use conduit::message::Message;
use conduit::testnode::{TestNode, TestNodeConfig, transaction};
use conduit::wire::Command;
use conduit::{
    Conduit, Config, GetData, Network, PeerId, Ping, QueueStats, RequestError, RequestOptions, Stats, Watch,
};
use support::raw_peer::{RawListener, RawPeer, frame, frame_of};
use support::{PATIENCE, waits};

#[test]
fn a_known_exchange_is_counted_exactly() {
    let node = TestNode::start(TestNodeConfig::default().blocks(3)).unwrap();
    let known = [1, 2, 3].map(|n| transaction(n, 300));
    assert!(known.iter().all(|tx| node.submit(tx.clone())));
    let (conduit, _) = connect([&node]);
    for tx in &known {
        assert_eq!(conduit.send_request(GetData::transaction(tx.txid())), Ok(tx.clone()));
    }
    let unknown = conduit.send_request(GetData::transaction(transaction(9, 100).txid()));
    assert!(matches!(unknown, Err(RequestError::NotFound { .. })), "{unknown:?}");
    assert!(conduit.send_request(GetData::block(node.block_hash(2).unwrap())).is_ok());
    assert!(matches!(conduit.send_request(GetData::transactions([])), Err(RequestError::Invalid { .. })));
    fence(&conduit);
    // The reply is told a little before its charge is given back.
    waits::until("the queues are empty", || {
        let stats = conduit.stats();
        stats.outbound_queue.items == 0 && stats.inbound_queue.items == 0
    });

    let stats = conduit.stats();
    assert_eq!(stats.requests, counts(&[("invalid", 1), ("not_found", 1), ("ok", 5)]));
    let sent = [("getdata", 5), ("ping", 2), ("pong", 1), ("protoconf", 1), ("verack", 1), ("version", 1)];
    assert_eq!(stats.messages_sent, counts(&sent));
    for (name, count) in &stats.messages_sent {
        assert_eq!(node.received(Command::new(name).unwrap()), *count, "{name}");
    }
    let received = ["block", "notfound", "pong", "protoconf", "tx", "verack", "version"];
    let got = received.map(|name| stats.messages_received.get(name).copied());
    assert_eq!(got, [1, 1, 2, 1, 3, 1, 1].map(Some), "{stats}");
    assert_eq!((stats.dials, stats.connects, stats.reconnects), (1, 1, 0));
    assert_eq!((stats.outbound_queue.bytes, stats.inbound_queue.bytes), (0, 0));
    assert!(stats.outbound_queue.most_items >= 1 && stats.inbound_queue.most_items >= 1);
    assert!(stats.uptime > std::time::Duration::ZERO);

    // There was one connection, so what passed over it is all there was.
    let traffic = conduit.peers()[0].traffic.expect("it is connected");
    assert_eq!((traffic.bytes_received, traffic.bytes_sent), (stats.bytes_received, stats.bytes_sent));
    assert_eq!(traffic.messages_received, stats.messages_received.values().sum::<u64>());
    assert_eq!(traffic.messages_sent, stats.messages_sent.values().sum::<u64>());
    // 24 bytes of header each, and three transactions and a block of which none is empty.
    assert!(traffic.bytes_received > 24 * traffic.messages_received + 900, "{traffic:?}");

    let json = serde_json::to_value(&stats).unwrap();
    assert_eq!(json["requests"]["not_found"], 1);
    assert_eq!(json["messages_sent"]["getdata"], 5);
    assert_eq!(json["message_queue"], serde_json::Value::Null);
    assert_eq!(serde_json::from_value::<Stats>(json).unwrap(), stats);
}

#[test]
fn a_message_for_many_peers_counts_for_each() {
    let nodes = [(); 3].map(|()| TestNode::start(TestNodeConfig::default()).unwrap());
    let (conduit, peers) = connect(nodes.iter());
    for n in 0..200 {
        let results = conduit.send_to_all(&peers, &Message::Tx(transaction(n, 250)));
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }
    // Too large to be copied into a run.
    conduit.send_to_all(&peers, &Message::Tx(transaction(1_000, 50_000)));
    for node in &nodes {
        assert!(node.wait_for_received(Command::TX, 201, PATIENCE));
    }
    let stats = conduit.stats();
    assert_eq!(stats.messages_sent["tx"], 3 * 201);
    let sent: u64 = conduit.peers().iter().map(|peer| peer.traffic.unwrap().messages_sent).sum();
    assert_eq!(sent, stats.messages_sent.values().sum::<u64>());
    // The loop may be about to note what the sockets took.
    waits::until("all has left", || conduit.stats().outbound_queue.items == 0);
    assert_eq!(conduit.stats().outbound_queue.bytes, 0);
    assert_eq!(conduit.stats().drops.unsent, 0);
}

#[test]
fn losses_refusals_and_returns_are_counted_by_reason() {
    let conduit = Conduit::new(config()).unwrap();
    assert_eq!(conduit.send_request(Ping), Err(RequestError::NotStarted));
    let events = conduit.events();
    let listener = RawListener::bind();
    let id = conduit.add_peers([listener.address()]).unwrap()[0];
    conduit.start().unwrap();
    let mut raw = listener.shake_hands();
    waits::connected(&events, id);
    drop(raw);
    waits::reason_of(&events, id);
    raw = listener.shake_hands();
    waits::connected(&events, id);
    // One that is whole, one whose checksum is wrong, and one behind it that does not count any more.
    let bad = [frame_of(Command::TX, &[1, 2, 3]), frame(&Message::Tx(transaction(1, 100)))].concat();
    let mut good = frame(&Message::Tx(transaction(2, 100)));
    good.extend(bad);
    raw.send_bytes(&good);
    waits::reason_of(&events, id);
    raw = listener.shake_hands();
    waits::connected(&events, id);
    assert!(conduit.disconnect(id));
    waits::reason_of(&events, id);
    raw.wait_until_closed();

    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let id = conduit.add_peers([nobody]).unwrap()[0];
    waits::reason_of(&events, id);
    assert!(conduit.disconnect(id));
    let stats = conduit.stats();
    assert_eq!((stats.connects, stats.reconnects), (3, 2), "{stats}");
    assert_eq!(stats.disconnects.values().sum::<u64>(), 3, "{stats}");
    assert_eq!((stats.disconnects["malformed"], stats.disconnects["requested"]), (1, 1), "{stats}");
    assert_eq!(stats.refusals.keys().collect::<Vec<_>>(), ["dial"]);
    assert!(stats.dials >= 3 + stats.refusals["dial"], "{stats}");
    assert_eq!((stats.drops.unclaimed, stats.drops.faulty), (1, 2), "{stats}");
    assert_eq!(stats.requests, counts(&[("not_started", 1)]));
}

#[test]
fn marks_stay_when_a_slow_consumer_has_caught_up() {
    let (conduit, mut raw) = with_raw(config().message_queue_items(100));
    for n in 0..5 {
        raw.send(&Message::Tx(transaction(n, 250)));
    }
    fence_raw(&conduit, &mut raw);
    assert_eq!(conduit.stats().drops.unclaimed, 5, "there is no queue yet");

    let messages = conduit.messages().unwrap();
    let only = conduit.subscribe([Command::INV]).unwrap();
    let watching = conduit.watch(Watch::new().transactions()).unwrap();
    for n in 0..150 {
        raw.send(&Message::Ping { nonce: n });
        raw.send(&Message::GetAddr);
    }
    raw.send(&Message::Inv(vec![]));
    waits::until("the queue is full and the rest behind it", || {
        let stats = conduit.stats();
        stats.message_queue.is_some_and(|queue| queue.items == 100) && stats.inbound_queue.items == 51
    });
    let stats = conduit.stats();
    assert_eq!((stats.messages_received["getaddr"], stats.messages_received["ping"]), (150, 150));
    assert_eq!(stats.subscriptions.len(), 1);
    assert_eq!(stats.subscriptions[0].items, 0, "behind the others, so that the order is kept");
    assert_eq!(stats.watches, [QueueStats::default()]);
    for _ in 0..151 {
        messages.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!(only.recv_timeout(PATIENCE).unwrap().message, Message::Inv(vec![]));
    waits::until("what was parked is given back", || conduit.stats().inbound_queue.items == 0);
    let stats = conduit.stats();
    let queue = stats.message_queue.unwrap();
    assert_eq!((queue.items, queue.bytes, queue.most_items), (0, 0, 100));
    assert!(queue.most_bytes >= 100 * 256);
    assert_eq!(stats.subscriptions[0].most_items, 1);
    assert_eq!(stats.inbound_queue.bytes, 0);
    assert!(stats.inbound_queue.most_items >= 51 && stats.inbound_queue.most_bytes >= 51 * 256);
    assert_eq!(stats.messages_sent["pong"], 150);
    drop((messages, only, watching));
    let stats = conduit.stats();
    assert_eq!((stats.message_queue, stats.subscriptions.len(), stats.watches.len()), (None, 0, 0));
}

#[test]
fn what_a_lost_peer_did_not_take_is_counted() {
    let (conduit, raw) = with_raw(config().outbound_share(64 << 20));
    let id = conduit.peers()[0].id;
    // More than any socket buffers, and nobody reads it.
    for n in 0..40 {
        conduit.send(id, Message::Tx(transaction(n, 1_000_000))).unwrap();
    }
    let stats = conduit.stats();
    assert!(stats.outbound_queue.items > 0 && stats.outbound_queue.items <= 40, "{stats}");
    // The system's buffers hold a few of them.
    assert!(stats.outbound_queue.most_items >= 20 && stats.outbound_queue.most_bytes >= 20_000_000, "{stats}");
    assert!(conduit.disconnect(id));
    waits::until("it is gone", || conduit.stats().drops.unsent > 0);
    let after = conduit.stats();
    assert!(after.drops.unsent <= 40, "{after}");
    assert_eq!((after.outbound_queue.items, after.outbound_queue.bytes), (0, 0), "{after}");
    assert_eq!(after.messages_sent["tx"], 40);
    drop(raw);
}

#[test]
fn events_that_a_slow_reader_missed_are_counted() {
    let nodes = [(); 3].map(|()| TestNode::start(TestNodeConfig::default()).unwrap());
    let conduit = Conduit::new(config().event_queue_items(1)).unwrap();
    let (slow, idle) = (conduit.events(), conduit.events());
    conduit.add_peers(nodes.iter().map(TestNode::address)).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(3, PATIENCE).unwrap();
    assert_eq!(conduit.stats().drops.events, 4, "two for each reader");
    drop((slow, idle));
}

fn config() -> Config {
    Config::new(Network::Regtest)
        .handshake_timeout(PATIENCE)
        .redial_min(std::time::Duration::from_millis(10))
        .redial_max(std::time::Duration::from_millis(100))
}

fn connect<'a>(nodes: impl IntoIterator<Item = &'a TestNode>) -> (Conduit, Vec<PeerId>) {
    let conduit = Conduit::new(config()).unwrap();
    let peers = conduit.add_peers(nodes.into_iter().map(TestNode::address)).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(peers.len(), PATIENCE).unwrap();
    (conduit, peers)
}

fn with_raw(config: Config) -> (Conduit, RawPeer) {
    let listener = RawListener::bind();
    let conduit = Conduit::new(config).unwrap();
    conduit.add_peers([listener.address()]).unwrap();
    conduit.start().unwrap();
    let raw = listener.shake_hands();
    conduit.wait_for_peers(1, PATIENCE).unwrap();
    (conduit, raw)
}

/// All that came before the pong has been dealt with.
fn fence(conduit: &Conduit) {
    conduit.send_request(Ping).unwrap();
}

fn fence_raw(conduit: &Conduit, raw: &mut RawPeer) {
    let ping = conduit.send_request_nowait_with(Ping, &RequestOptions::new()).unwrap();
    let Message::Ping { nonce } = raw.expect(Command::PING) else { unreachable!() };
    raw.send(&Message::Pong { nonce });
    ping.wait_timeout(PATIENCE).expect("a reply").unwrap();
}

fn counts(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    counts.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
}
