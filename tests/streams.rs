//! Two connections to one peer over real sockets: what goes over which, and what becomes of the peer when one is not to
//! be had, or is lost.

#![allow(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]

mod support;

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use conduit::message::{
    BlockHeader, CreateStrm, Message, NetworkAddress, ProtoConf, RejectCode, Services, StreamAck, StreamType,
    TimestampedAddress, Version,
};
use conduit::testnode::{BlockPlan, Fault, FaultKind, GeneratedBlock, TestNode, TestNodeConfig, transaction};
use conduit::wire::{Command, MerkleRoot};
use conduit::{
    Conduit, Config, DisconnectReason, Event, Events, GetAddr, GetData, GetHeaders, Network, PeerId, PeerInfo, Ping,
};

use support::raw_peer::{RawListener, RawPeer};
use support::{PATIENCE, waits};

fn config() -> Config {
    Config::new(Network::Regtest)
        .streams(true)
        .redial_min(Duration::from_millis(20))
        .redial_max(Duration::from_millis(100))
        .request_timeout(PATIENCE)
}

/// A conduit with one peer.
struct Scene {
    node: TestNode,
    conduit: Conduit,
    events: Events,
    peer: PeerId,
}

impl Scene {
    fn new(node: TestNodeConfig, config: Config) -> Self {
        Self::faulty(node, config, [])
    }

    fn faulty(node: TestNodeConfig, config: Config, faults: impl IntoIterator<Item = Fault>) -> Self {
        let node = TestNode::start(node).unwrap();
        faults.into_iter().for_each(|fault| node.inject(fault));
        let conduit = Conduit::new(config).unwrap();
        let events = conduit.events();
        let peer = conduit.add_peers([node.address()]).unwrap()[0];
        conduit.start().unwrap();
        conduit.wait_for_peers(1, PATIENCE).unwrap();
        waits::connected(&events, peer);
        Self { node, conduit, events, peer }
    }

    /// Once the second connection is there.
    fn joined() -> Self {
        let scene = Self::new(TestNodeConfig::default(), config());
        scene.wait_for_streams(2);
        scene
    }

    fn info(&self) -> PeerInfo {
        self.conduit.peers().into_iter().find(|info| info.id == self.peer).unwrap()
    }

    #[track_caller]
    fn wait_for_streams(&self, count: usize) {
        waits::until(&format!("{count} connections"), || self.info().streams == count);
    }

    /// A block of about so many bytes, which the node can serve.
    fn offer(&self, bytes: u64) -> GeneratedBlock {
        let block = GeneratedBlock::new(BlockPlan::of_size(bytes, bytes));
        self.node.offer(&block);
        block
    }

    /// Streams a block to its end, which proves it.
    #[track_caller]
    fn stream(&self, block: &GeneratedBlock) {
        let mut stream = self.conduit.block(block.hash()).unwrap();
        while stream.next_chunk().unwrap().is_some() {}
        assert_eq!(stream.summary().unwrap().size, block.size());
    }

    /// Everything that a peer can be asked.
    #[track_caller]
    fn assert_works(&self) {
        self.stream(&self.offer(5_000_000));
        let headers = self.conduit.send_request(GetHeaders::new([Network::Regtest.genesis()])).unwrap();
        assert_eq!(headers.len() as u32, self.node.tip_height());
        let hash = self.node.block_hash(3).unwrap();
        assert_eq!(self.conduit.send_request(GetData::block(hash)).unwrap().hash(), hash);
        self.conduit.send_request(Ping).unwrap();
        let sent = transaction(1, 400);
        assert!(self.node.submit(sent.clone()) || self.node.contains(sent.txid()));
        assert_eq!(self.conduit.send_request(GetData::transaction(sent.txid())).unwrap(), sent);
        let new = transaction(2, 400);
        self.conduit.broadcast_transaction(&new.raw()[..], 1).unwrap();
        assert!(self.node.wait_for_transaction(new.txid(), PATIENCE));
    }

    /// The events up to the next connection.
    fn until_connected(&self) -> Vec<Event> {
        let mut seen = Vec::new();
        loop {
            let event = waits::next_event(&self.events);
            let is_last = matches!(event, Event::Connected { .. });
            seen.push(event);
            if is_last {
                return seen;
            }
        }
    }

    /// The peer is lost once, comes back, and all goes on with two connections.
    #[track_caller]
    fn assert_lost_once_and_back(&self) {
        let seen = self.until_connected();
        let lost = |event: &&Event| matches!(event, Event::Disconnected { .. } | Event::Refused { .. });
        assert_eq!(seen.iter().filter(lost).count(), 1, "{seen:?}");
        self.wait_for_streams(2);
        assert!(self.node.wait_for_connections(1, PATIENCE));
        self.assert_works();
    }
}

#[test]
fn everything_works_over_two_connections_that_are_one_peer() {
    let scene = Scene::joined();
    assert_eq!((scene.node.connections(), scene.conduit.peers().len()), (1, 1));
    assert_eq!(scene.node.received(Command::CREATESTRM), 1);
    scene.assert_works();
    waits::until("a round trip is measured", || scene.info().latency.is_some());
    let (traffic, stats) = (scene.info().traffic.unwrap(), scene.conduit.stats());
    assert_eq!(traffic.bytes_received, stats.bytes_received, "the traffic is that of both");
    assert!(traffic.bytes_received > 5_000_000);
    scene.conduit.shutdown();
    waits::until("both connections are closed", || scene.node.connections() == 0);
}

#[test]
fn many_blocks_at_once_come_over_the_second_connection() {
    let scene = Scene::joined();
    let blocks: Vec<_> = (0..6).map(|n| scene.offer(700_000 + n * 1_000)).collect();
    for outcome in scene.conduit.blocks(blocks.iter().map(GeneratedBlock::hash)) {
        let hash = outcome.hash;
        assert_eq!(outcome.into_block().unwrap().hash(), hash);
    }
}

#[test]
fn reader_who_is_slow_stops_neither_transactions_nor_announcements() {
    let scene = Scene::joined();
    let block = scene.offer(30_000_000);
    let mut stream = scene.conduit.block(block.hash()).unwrap();
    waits::until("the queue is full", || scene.info().traffic.unwrap().bytes_received > 4_000_000);
    let sent = transaction(9, 400);
    assert!(scene.node.submit(sent.clone()));
    assert_eq!(scene.conduit.send_request(GetData::transaction(sent.txid())).unwrap(), sent);
    while stream.next_chunk().unwrap().is_some() {}
    assert_eq!(stream.summary().unwrap().size, block.size());
}

#[test]
fn node_that_knows_no_streams_is_served_over_one_connection() {
    let scene = Scene::new(TestNodeConfig::default().streams(false), config());
    scene.assert_works();
    assert_eq!((scene.info().streams, scene.node.received(Command::CREATESTRM)), (1, 0));
}

#[test]
fn without_the_setting_there_is_one_connection() {
    let scene = Scene::new(TestNodeConfig::default(), config().streams(false));
    scene.assert_works();
    assert_eq!((scene.info().streams, scene.node.received(Command::CREATESTRM)), (1, 0));
}

#[test]
fn second_connection_that_is_refused_is_not_tried_again_and_not_missed() {
    let refusal = FaultKind::Reject { code: RejectCode::StreamSetup, reason: "no room".to_owned() };
    let fault = Fault::new(refusal).command(Command::CREATESTRM);
    let scene = Scene::faulty(TestNodeConfig::default(), config(), [fault]);
    assert!(scene.node.wait_for_received(Command::CREATESTRM, 1, PATIENCE));
    scene.assert_works();
    assert_eq!((scene.info().streams, scene.node.received(Command::CREATESTRM)), (1, 1));
    assert!(scene.events.try_recv().is_err(), "nobody is told");
}

#[test]
fn second_connection_that_is_not_answered_is_given_up() {
    let fault = Fault::new(FaultKind::Ignore).command(Command::CREATESTRM);
    let config = config().handshake_timeout(Duration::from_millis(300)).ping_interval(Duration::from_millis(100));
    let scene = Scene::faulty(TestNodeConfig::default(), config, [fault]);
    assert!(scene.node.wait_for_received(Command::CREATESTRM, 1, PATIENCE));
    // While it waits, the first one rests.
    let pings = scene.node.received(Command::PING);
    assert!(scene.node.wait_for_received(Command::PING, pings + 3, PATIENCE), "pings go on");
    scene.assert_works();
    assert_eq!((scene.info().streams, scene.node.received(Command::CREATESTRM)), (1, 1));
    assert!(scene.events.try_recv().is_err(), "nobody is told");
}

#[test]
fn loss_of_the_second_connection_in_the_middle_of_a_block_is_one_loss_of_the_peer() {
    let scene = Scene::joined();
    let block = scene.offer(8_000_000);
    scene.node.inject(Fault::new(FaultKind::CloseAfter(3_000_000)).connection(1).times(1));
    scene.stream(&block);
    scene.assert_lost_once_and_back();
}

#[test]
fn loss_of_the_first_connection_is_one_loss_of_the_peer() {
    let scene = Scene::joined();
    scene.node.inject(Fault::new(FaultKind::CloseAfter(10)).connection(0).times(1));
    let sent = transaction(9, 400);
    assert!(scene.node.submit(sent.clone()));
    assert_eq!(scene.conduit.send_request(GetData::transaction(sent.txid())).unwrap(), sent);
    scene.assert_lost_once_and_back();
}

#[test]
fn loss_of_both_connections_together_is_one_loss_of_the_peer() {
    let scene = Scene::joined();
    for _ in 0..5 {
        scene.node.drop_connections();
        scene.assert_lost_once_and_back();
    }
}

#[test]
fn second_connection_goes_through_the_dialler() {
    let dials = Arc::new(AtomicUsize::new(0));
    let counted = dials.clone();
    let dialler = move |address: SocketAddr, timeout: Duration| {
        counted.fetch_add(1, Ordering::AcqRel);
        TcpStream::connect_timeout(&address, timeout)
    };
    let scene = Scene::new(TestNodeConfig::default(), config().dialler(dialler));
    scene.wait_for_streams(2);
    assert_eq!(dials.load(Ordering::Acquire), 2);
    scene.assert_works();
}

#[test]
fn second_connection_that_cannot_be_dialled_is_not_missed() {
    let dials = Arc::new(AtomicUsize::new(0));
    let counted = dials.clone();
    let dialler = move |address: SocketAddr, timeout: Duration| {
        if counted.fetch_add(1, Ordering::AcqRel) == 1 {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        TcpStream::connect_timeout(&address, timeout)
    };
    let scene = Scene::new(TestNodeConfig::default(), config().dialler(dialler));
    waits::until("it is tried", || dials.load(Ordering::Acquire) == 2);
    scene.assert_works();
    assert_eq!((scene.info().streams, dials.load(Ordering::Acquire)), (1, 2));
    assert!(scene.events.try_recv().is_err(), "nobody is told");
}

/// A raw peer's two connections, and the conduit at their other ends.
fn raw_pair(config: Config) -> (Conduit, Events, PeerId, RawPeer, RawPeer) {
    let listener = RawListener::bind();
    let conduit = Conduit::new(config).unwrap();
    let events = conduit.events();
    let peer = conduit.add_peers([listener.address()]).unwrap()[0];
    conduit.start().unwrap();
    let mut general = listener.accept();
    let Message::Version(ours) = general.expect(Command::VERSION) else { unreachable!() };
    let mut version = Version::new(Services::NETWORK, 7, "/raw peer/", 0, 0);
    version.relay = Some(true);
    version.association_id = ours.association_id;
    let id = version.association_id.clone().expect("an association is named");
    general.send(&version.into());
    general.send(&Message::Verack);
    general.send(&Message::ProtoConf(ProtoConf::new(2_097_152, "BlockPriority,Default")));
    let Message::Ping { nonce } = general.expect(Command::PING) else { unreachable!() };

    let mut data1 = listener.accept();
    let stream_type = StreamType::Data1;
    let ask = CreateStrm { association_id: id.clone(), stream_type, stream_policy: "BlockPriority".into() };
    assert_eq!(data1.next().unwrap(), Message::CreateStrm(Box::new(ask)), "nothing else comes first");
    data1.send(&Message::StreamAck(StreamAck { association_id: id, stream_type }));
    // The node answers on this one, wherever the ping came.
    data1.send(&Message::Pong { nonce });
    let is_joined = || conduit.peers()[0].streams == 2;
    waits::until("it has joined", is_joined);
    (conduit, events, peer, general, data1)
}

#[test]
fn questions_take_their_connection_and_answers_may_come_on_either() {
    let (conduit, _events, _, mut general, mut data1) = raw_pair(config());
    let messages = conduit.messages().unwrap();
    let header = |nonce| BlockHeader {
        version: 1,
        previous: Network::Regtest.genesis(),
        merkle_root: MerkleRoot::ZERO,
        time: 0,
        bits: 0,
        nonce,
    };
    let ask = || {
        let conduit = conduit.clone();
        waits::call(move || conduit.send_request(GetHeaders::new([Network::Regtest.genesis()])))
    };
    for (nonce, on_data1) in [(1, true), (2, false)] {
        let call = ask();
        data1.expect(Command::GETHEADERS);
        let answer = Message::Headers(vec![header(nonce)]);
        if on_data1 {
            data1.send(&answer)
        } else {
            general.send(&answer)
        }
        assert_eq!(call.result().unwrap(), [header(nonce)]);
    }
    let call = {
        let conduit = conduit.clone();
        waits::call(move || conduit.send_request(GetAddr))
    };
    general.expect(Command::GETADDR);
    let address = NetworkAddress::new(Services::NETWORK, SocketAddr::from(([10, 1, 2, 3], 8_333)));
    general.send(&Message::Addr(vec![TimestampedAddress { time: 1, address }; 2]));
    assert_eq!(call.result().unwrap().len(), 2);
    // Announcements on either are those of one peer.
    for (peer, nonce) in [(&mut general, 77), (&mut data1, 78)] {
        peer.send(&Message::Pong { nonce });
        let incoming = messages.recv_timeout(PATIENCE).unwrap();
        assert_eq!(incoming.message, Message::Pong { nonce }, "the pong to our own ping is nobody's");
        peer.ping(5);
    }
}

#[test]
fn pings_go_over_both_connections_and_the_second_ones_silence_is_judged() {
    let times = config().ping_interval(Duration::from_millis(50)).ping_timeout(Duration::from_millis(300));
    let (_conduit, events, peer, mut general, mut data1) = raw_pair(times);
    for _ in 0..20 {
        for on_data1 in [true, false] {
            let asked = if on_data1 { &mut data1 } else { &mut general };
            let Message::Ping { nonce } = asked.expect(Command::PING) else { unreachable!() };
            // The first one is silent all the time, as a node's may be.
            data1.send(&Message::Pong { nonce });
        }
    }
    while let Ok(event) = events.try_recv() {
        assert!(!matches!(event, Event::Disconnected { .. } | Event::Refused { .. }), "{event:?}");
    }
    // Then the second one is, too.
    let reason = waits::reason_of(&events, peer);
    let expected = DisconnectReason::Protocol(conduit::error::ProtocolError::PingTimeout);
    assert_eq!(reason, expected);
    general.wait_until_closed();
    data1.wait_until_closed();
}

#[test]
fn first_connection_that_is_dead_while_the_second_lives_ends_the_peer() {
    let times = config().ping_interval(Duration::from_millis(50)).ping_timeout(Duration::from_millis(300));
    let (_conduit, events, peer, mut general, mut data1) = raw_pair(times);
    // A way that nothing comes through any more, as when a router has forgotten it: nobody reads or answers here.
    let stopped = std::thread::spawn(move || {
        while let Ok(message) = data1.next() {
            if let Message::Ping { nonce } = message {
                data1.send(&Message::Pong { nonce });
            }
        }
    });
    let expected = DisconnectReason::Protocol(conduit::error::ProtocolError::PingTimeout);
    assert_eq!(waits::reason_of(&events, peer), expected);
    stopped.join().unwrap();
    general.wait_until_closed();
}

#[test]
fn protocol_errors_on_the_second_connection_end_the_peer() {
    let (_conduit, events, peer, mut general, mut data1) = raw_pair(config());
    data1.send(&support::raw_peer::version());
    let expected = DisconnectReason::Protocol(conduit::error::ProtocolError::DuplicateVersion);
    assert_eq!(waits::reason_of(&events, peer), expected);
    general.wait_until_closed();
}

#[test]
fn flush_delivers_what_is_queued_before_either_connection_ends() {
    let scene = Scene::joined();
    for n in 0..400 {
        scene.conduit.send(scene.peer, Message::Tx(transaction(n, 20_000))).unwrap();
    }
    scene.conduit.shutdown_after_flush(PATIENCE);
    assert!(scene.node.wait_for_received(Command::TX, 400, PATIENCE));
    let lost = std::iter::from_fn(|| scene.events.try_recv().ok())
        .filter(|event| matches!(event, Event::Disconnected { reason: DisconnectReason::Shutdown, .. }));
    assert_eq!(lost.count(), 1);
}
