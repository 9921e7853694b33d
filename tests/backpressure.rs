//! Full queues over real sockets: memory stays bounded, nothing is lost, and whoever is not the cause goes on.

#![allow(clippy::disallowed_methods, reason = "tests take the time")]

mod support;

use std::io::Write;
use std::time::{Duration, Instant};

use conduit::block::merkle_root;
use conduit::error::{ProtocolError, SendFailure};
use conduit::message::{Block, BlockHeader, Inventory, Message, OutPoint, ProtoConf, Transaction};
use conduit::testnode::{TestNode, TestNodeConfig, spend, transaction};
use conduit::wire::{Command, FrameHeader};
use conduit::{
    Conduit, Config, DisconnectReason, Event, Events, GetData, Messages, Network, PeerId, PeerState, Ping,
    RequestError, RequestOptions, Txid,
};
use support::raw_peer::{RawListener, RawPeer, frame};
use support::{PATIENCE, own_process, waits};

#[test]
fn a_flood_to_a_sleeping_consumer_stays_in_bounded_memory_and_arrives_whole() {
    if !own_process::is_alone("a_flood_to_a_sleeping_consumer_stays_in_bounded_memory_and_arrives_whole") {
        return;
    }
    let config = small();
    let bound = config.worst_case_bytes();
    let mut scene = Scene::new(config);
    let messages = scene.conduit.messages().unwrap();
    let node = TestNode::start(TestNodeConfig::default()).unwrap();
    let node_id = scene.conduit.add_peers([node.address()]).unwrap()[0];
    let (_other, mut other) = scene.add_raw();
    scene.conduit.wait_for_peers(3, PATIENCE).unwrap();
    let txids: Vec<Txid> = (0..FLOOD).map(|n| transaction(n, LEN).txid()).collect();
    scene.raw.ping(1);

    let before = own_process::resident_bytes();
    let mut stream = scene.raw.stream();
    let flood = waits::call(move || {
        let mut bytes = Vec::new();
        for n in 0..FLOOD {
            bytes.extend_from_slice(&frame(&Message::Tx(transaction(n, LEN))));
            if bytes.len() > 50_000 {
                stream.write_all(&bytes).expect("the flood is read to its end");
                bytes.clear();
            }
        }
        stream.write_all(&bytes).expect("the flood is read to its end");
    });
    scene.wait_until_paused();
    let mut most = 0;
    for round in 0..100 {
        // The kernel's buffers fill meanwhile, and then the flood stands still.
        other.ping(round);
        let height = (round % 10) as u32;
        let options = RequestOptions::new().peer(node_id);
        let block = scene.conduit.send_request_with(GetData::block(node.block_hash(height).unwrap()), &options);
        assert_eq!(block.ok(), node.block(height));
        most = most.max(own_process::resident_bytes().saturating_sub(before));
    }
    assert!(flood.is_blocked(), "the flood is larger than all buffers together");
    let consumer = {
        let (messages, id) = (messages, scene.id);
        let of_it = move || messages.clone().filter(move |incoming| incoming.peer == id).take(FLOOD as usize);
        waits::call(move || of_it().map(|incoming| txid(&incoming.message)).collect::<Vec<_>>())
    };
    flood.result();
    scene.raw.ping(2);
    let got = consumer.result();
    most = most.max(own_process::resident_bytes().saturating_sub(before + FLOOD * 32));
    assert!(got == txids, "every transaction arrives once, in order");
    assert!(most < bound, "{most} bytes more are over the bound of {bound}");
    println!("{most} bytes of {bound}");
}

#[test]
fn a_transaction_that_is_kept_does_not_keep_those_it_came_with() {
    if !own_process::is_alone("a_transaction_that_is_kept_does_not_keep_those_it_came_with") {
        return;
    }
    let scene = Scene::new(config());
    let messages = scene.conduit.messages().unwrap();
    let mut stream = scene.raw.stream();
    let flood = waits::call(move || {
        for lot in (0..FLOOD).collect::<Vec<_>>().chunks(100) {
            let frames = lot.iter().flat_map(|&n| frame(&Message::Tx(transaction(n, LEN))).to_vec());
            stream.write_all(&frames.collect::<Vec<_>>()).expect("the conduit reads");
        }
    });
    let before = own_process::resident_bytes();
    // Some of each batch would keep all of it.
    let kept: Vec<_> = messages.take(FLOOD as usize).step_by(20).collect();
    flood.result();
    let grown = own_process::resident_bytes().saturating_sub(before);
    assert_eq!(kept.len() as u64, FLOOD / 20);
    assert!(grown < FLOOD * LEN as u64 / 2, "{} transactions keep {grown} bytes", kept.len());
}

#[test]
fn a_reply_behind_a_full_queue_is_found_within_the_overflow_limit() {
    let mut scene = Scene::new(small().message_queue_items(10));
    let transactions = scene.conduit.subscribe([Command::TX]).unwrap();
    for n in 0..50 {
        scene.raw.send(&Message::Tx(transaction(n, 100)));
    }
    let wanted = transaction(1_000, 100);
    let pending = scene.conduit.send_request_nowait(GetData::transaction(wanted.txid())).unwrap();
    scene.raw.expect(Command::GETDATA);
    scene.raw.send(&Message::Tx(wanted.clone()));
    assert_eq!(pending.wait_timeout(PATIENCE).unwrap(), Ok(wanted));
    assert_eq!(transactions.len(), 10);
    take_in_order(&transactions, 0..50);
}

#[test]
fn a_reply_beyond_the_overflow_limit_ends_its_request_at_once() {
    let mut scene = Scene::new(small().message_queue_items(10).request_timeout(PATIENCE * 10));
    let transactions = scene.conduit.subscribe([Command::TX]).unwrap();
    let wanted = transaction(1_000_000, 100);
    let pending = scene.conduit.send_request_nowait(GetData::transaction(wanted.txid())).unwrap();
    scene.raw.expect(Command::GETDATA);
    for n in 0..1_000 {
        scene.raw.send(&Message::Tx(transaction(n, 500)));
    }
    scene.raw.send(&Message::Tx(wanted));
    assert_eq!(pending.wait_timeout(PATIENCE).unwrap(), Err(RequestError::MessageQueueFull));

    // Whatever else is asked of it, or said to it, ends the same way.
    scene.wait_until_paused();
    let options = RequestOptions::new().peer(scene.id);
    assert_eq!(scene.conduit.send_request_with(Ping, &options), Err(RequestError::MessageQueueFull));
    assert_eq!(scene.conduit.send_request(Ping), Err(RequestError::MessageQueueFull));
    for result in [
        scene.conduit.send(scene.id, Message::GetAddr),
        scene.conduit.try_send(scene.id, Message::GetAddr),
        scene.conduit.send_timeout(scene.id, Message::GetAddr, PATIENCE),
    ] {
        let error = result.unwrap_err();
        assert_eq!((error.message, error.reason), (Message::GetAddr, SendFailure::MessageQueueFull));
    }

    // Once they are taken, all goes on; the late reply is no news.
    take_in_order(&transactions, 0..1_000);
    waits::until("it is read again", || scene.state() == PeerState::Ready);
    scene.answers_a_ping();
    assert!(transactions.is_empty());
}

#[test]
fn a_request_that_others_can_answer_goes_to_them() {
    let mut scene = Scene::new(small());
    let transactions = scene.conduit.subscribe([Command::TX]).unwrap();
    let node = TestNode::start(TestNodeConfig::default()).unwrap();
    scene.conduit.add_peers([node.address()]).unwrap();
    scene.conduit.set_main_peer(scene.listener.address()).unwrap();
    scene.conduit.wait_for_peers(2, PATIENCE).unwrap();
    let _flood = scene.flood();
    scene.wait_until_paused();
    assert_eq!(scene.conduit.send_request(GetData::block(node.block_hash(1).unwrap())).ok(), node.block(1));
    take_in_order(&transactions, 0..FEW);
}

#[test]
fn two_paused_peers_do_not_stop_a_third() {
    // The paused ones have taken all of what peers compete for, if they could.
    let mut scene = Scene::new(small().message_queue_bytes(64 * 1_024));
    let transactions = scene.conduit.subscribe([Command::TX]).unwrap();
    let (second_id, mut second) = scene.add_raw();
    let node = TestNode::start(TestNodeConfig::default()).unwrap();
    node.mine_with(vec![transaction(1, MIB)]);
    let node_id = scene.conduit.add_peers([node.address()]).unwrap()[0];
    scene.conduit.wait_for_peers(3, PATIENCE).unwrap();
    let first_flood = scene.flood();
    let second_flood = flood(&mut second);
    waits::until("both are paused", || {
        [scene.id, second_id].iter().all(|&id| scene.state_of(id) == PeerState::Paused)
    });
    let options = RequestOptions::new().peer(node_id);
    for round in 0..20 {
        let height = round % (node.tip_height() + 1);
        let hash = node.block_hash(height).unwrap();
        assert_eq!(scene.conduit.send_request_with(GetData::block(hash), &options).ok(), node.block(height));
        assert!(scene.conduit.send_request_with(Ping, &options).is_ok());
    }
    let large = GetData::block(node.block_hash(node.tip_height()).unwrap());
    assert_eq!(scene.conduit.send_request_with(large, &options).ok(), node.block(node.tip_height()));

    // When they are taken, each peer's come in its order.
    let mut next = [(scene.id, 0), (second_id, 0)];
    while next.iter().any(|&(_, n)| n < FEW) {
        let incoming = transactions.recv_timeout(PATIENCE).unwrap();
        let (_, n) = next.iter_mut().find(|(id, _)| *id == incoming.peer).unwrap();
        assert_eq!(txid(&incoming.message), transaction(*n, LEN).txid());
        *n += 1;
    }
    first_flood.result();
    second_flood.result();
}

#[test]
fn a_peer_that_ended_while_it_was_paused_is_noticed_when_its_messages_are_taken() {
    let mut scene = Scene::new(small().message_queue_items(1).overflow_limit(0));
    let transactions = scene.conduit.subscribe([Command::TX]).unwrap();
    scene.raw.send(&Message::Tx(transaction(0, 500)));
    scene.raw.send(&Message::Tx(transaction(1, 500)));
    scene.wait_until_paused();
    for n in 2..20 {
        scene.raw.send(&Message::Tx(transaction(n, 500)));
    }
    scene.raw.end();
    take_in_order(&transactions, 0..20);
    assert_eq!(scene.reason(), DisconnectReason::ClosedByPeer);
}

#[test]
fn a_peer_that_is_paused_for_too_long_is_closed_for_our_fault() {
    let mut scene = Scene::new(small().pause_limit(Duration::from_millis(300)));
    let transactions = scene.conduit.subscribe([Command::TX]).unwrap();
    let flood = scene.flood();
    assert_eq!(scene.reason(), DisconnectReason::PausedTooLong);
    scene.raw.wait_until_closed();
    assert!(flood.result() < FEW);
    // What was taken from it is still there, from the first on.
    let mut n = 0;
    while let Ok(incoming) = transactions.recv_timeout(Duration::from_millis(500)) {
        assert_eq!(txid(&incoming.message), transaction(n, LEN).txid());
        n += 1;
    }
    assert!(n > 500, "only {n}");
}

#[test]
fn a_peer_that_comes_back_leaves_no_more_behind_until_its_messages_are_taken() {
    let config = small().pause_limit(Duration::from_millis(300));
    let mut scene = Scene::new(config.redial_min(Duration::from_millis(10)).redial_max(Duration::from_millis(10)));
    let transactions = scene.conduit.subscribe([Command::TX]).unwrap();
    drop(scene.flood());
    let lost = |event: &Event| match event {
        Event::Disconnected { reason, .. } => Some((true, reason.clone())),
        Event::Refused { reason, .. } => Some((false, reason.clone())),
        _ => None,
    };
    assert_eq!(lost(&waits::next_event(&scene.events)), Some((true, DisconnectReason::PausedTooLong)));
    assert_eq!(waits::next_event(&scene.events), Event::NoPeers);
    for _ in 0..3 {
        let _again = scene.listener.shake_hands();
        assert_eq!(lost(&waits::next_event(&scene.events)), Some((false, DisconnectReason::PausedTooLong)));
    }
    let consumer = waits::call(move || {
        transactions.clone().find(|i| matches!(&i.message, Message::Tx(tx) if tx.raw().len() == 100))
    });
    let mut raw = loop {
        let raw = scene.listener.shake_hands();
        // The last dials may have been made before they were taken.
        match waits::next_event(&scene.events) {
            Event::Connected { .. } => break raw,
            Event::Refused { reason: DisconnectReason::PausedTooLong, .. } => {}
            other => panic!("unexpected: {other:?}"),
        }
    };
    raw.send(&Message::Tx(transaction(0, 100)));
    assert_eq!(consumer.result().map(|incoming| incoming.peer), Some(scene.id));
}

#[test]
fn no_deadline_judges_a_peer_that_we_do_not_read() {
    let timeout = Duration::from_secs(3);
    let config = small().outbound_pool(0).ping_interval(Duration::from_millis(100));
    let config = config.ping_timeout(timeout).stall_timeout(timeout);
    let mut scene = Scene::new(config.message_queue_items(1).overflow_limit(0));
    let transactions = scene.conduit.subscribe([Command::TX]).unwrap();
    scene.raw.send(&Message::Tx(transaction(0, 500)));
    // Nodes do not read on whoever does not take their answers; so bytes for it wait as long as we do.
    let filling = Message::Tx(transaction(1, 60_000));
    while scene.conduit.send_timeout(scene.id, filling.clone(), Duration::from_millis(200)).is_ok() {}
    let sending = waits::call({
        let (conduit, id) = (scene.conduit.clone(), scene.id);
        move || conduit.send(id, filling).map_err(|error| error.reason)
    });
    scene.raw.send(&Message::Tx(transaction(1, 500)));
    scene.wait_until_paused();
    assert_eq!(sending.result_within(timeout / 2), Err(SendFailure::MessageQueueFull), "there may never be room");
    let event = scene.events.recv_timeout(timeout * 2);
    assert!(event.is_err(), "it is not lost, but: {event:?}");
    // From now on it is judged again.
    take_in_order(&transactions, 0..2);
    let reasons = [ProtocolError::Stalled, ProtocolError::PingTimeout].map(DisconnectReason::Protocol);
    assert!(reasons.contains(&scene.reason()));
}

#[test]
fn a_send_waits_for_a_peer_that_does_not_read_and_goes_on_when_it_does() {
    let mut scene = Scene::new(small().outbound_pool(0));
    let numbered = |n| Message::Tx(transaction(n, 10_000));
    let mut sent = 0;
    let refused = loop {
        match scene.conduit.try_send(scene.id, numbered(sent)) {
            Ok(()) => sent += 1,
            // The loop may just not have come to it yet.
            Err(error) => match scene.conduit.send_timeout(scene.id, error.message, Duration::from_secs(1)) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            },
        }
    };
    assert_eq!((refused.message, refused.reason), (numbered(sent), SendFailure::Full));
    let refused = scene.conduit.try_send(scene.id, numbered(sent)).unwrap_err();
    assert_eq!((refused.message, refused.reason), (numbered(sent), SendFailure::Full));
    let sending = waits::call({
        let (conduit, id) = (scene.conduit.clone(), scene.id);
        move || (sent..sent + 50).try_for_each(|n| conduit.send(id, numbered(n)))
    });
    assert!(sending.is_blocked());
    for n in 0..sent + 50 {
        assert_eq!(scene.raw.expect(Command::TX), numbered(n));
    }
    assert_eq!(sending.result(), Ok(()));
}

#[test]
fn a_send_to_a_peer_that_never_reads_ends_when_it_is_dropped() {
    let scene = Scene::new(small().outbound_pool(0).stall_timeout(Duration::from_secs(1)));
    let began = Instant::now();
    let error = loop {
        let message = Message::Tx(transaction(1, 60_000));
        if let Err(error) = scene.conduit.send(scene.id, message) {
            break error;
        }
    };
    assert_eq!(error.message, Message::Tx(transaction(1, 60_000)));
    assert_eq!(error.reason, SendFailure::Disconnected);
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(scene.reason(), DisconnectReason::Protocol(ProtocolError::Stalled));
}

#[test]
fn a_message_the_peer_or_the_queue_could_never_take_is_refused() {
    let mut scene = Scene::new(small().outbound_pool(0));
    let queue = 64 * 1_024;
    let error = scene.conduit.try_send(scene.id, Message::Tx(transaction(1, 70_000))).unwrap_err();
    assert_eq!(error.reason, SendFailure::TooLarge { length: 70_000, limit: queue });
    let many =
        |count: u64| Message::Inv((0..count).map(|n| Inventory::transaction(transaction(n, 62).txid())).collect());
    let error = scene.conduit.try_send(scene.id, many(30_000)).unwrap_err();
    assert!(matches!(error.reason, SendFailure::TooLarge { limit: 1_048_576, .. }), "{}", error.reason);
    scene.raw.send(&Message::ProtoConf(ProtoConf::new(2_000_000, "Default")));
    scene.raw.ping(1);
    let error = scene.conduit.try_send(scene.id, many(30_000)).unwrap_err();
    assert_eq!(error.reason, SendFailure::TooLarge { length: 3 + 30_000 * 36, limit: queue });
}

#[test]
fn a_requested_block_over_the_stream_threshold_is_skipped_and_the_peer_stays() {
    let mut scene = Scene::new(small());
    let block = large_block(3 * MIB);
    let length = block.raw().len() as u64;
    let pending = scene.conduit.send_request_nowait(GetData::block(block.hash())).unwrap();
    scene.raw.expect(Command::GETDATA);
    let mut stream = scene.raw.stream();
    let bytes = frame(&Message::Block(block));
    let sending = waits::call(move || stream.write_all(&bytes));
    let limit = 2 * MIB as u64;
    assert_eq!(pending.wait_timeout(PATIENCE).unwrap(), Err(RequestError::TooLarge { length, limit }));
    sending.result().unwrap();
    scene.answers_a_ping();
    let small = large_block(MIB);
    let pending = scene.conduit.send_request_nowait(GetData::block(small.hash())).unwrap();
    scene.raw.expect(Command::GETDATA);
    scene.raw.send(&Message::Block(small.clone()));
    assert_eq!(pending.wait_timeout(PATIENCE).unwrap(), Ok(small));
}

#[test]
fn an_unasked_payload_over_the_stream_threshold_ends_the_connection() {
    for message in [Message::Block(large_block(3 * MIB)), Message::Tx(transaction(1, 3 * MIB))] {
        let scene = Scene::new(small());
        let command = message.command();
        let bytes = frame(&message);
        let length = (bytes.len() - FrameHeader::BASIC_LEN) as u64;
        let mut stream = scene.raw.stream();
        let sending = waits::call(move || stream.write_all(&bytes));
        let error = ProtocolError::Oversized { command, length, limit: 2 * MIB as u64 };
        assert_eq!(scene.reason(), DisconnectReason::Protocol(error));
        drop(sending.result());
    }
}

#[test]
fn many_large_blocks_pass_through_a_pool_that_holds_one() {
    let config = config().max_peers(10).stream_threshold(24 * MIB as u64).inbound_pool(24 * MIB);
    let conduit = Conduit::new(config.request_timeout(PATIENCE * 2)).unwrap();
    let nodes: Vec<_> = (0..4)
        .map(|n| {
            let node = TestNode::start(TestNodeConfig::default().blocks(1)).unwrap();
            node.mine_with(vec![transaction(n, 20 * MIB)]);
            node
        })
        .collect();
    let ids = conduit.add_peers(nodes.iter().map(TestNode::address)).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(nodes.len(), PATIENCE).unwrap();
    let ask = |node: &TestNode, id: PeerId| {
        let options = RequestOptions::new().peer(id);
        conduit.send_request_nowait_with(GetData::block(node.block_hash(2).unwrap()), &options).unwrap()
    };
    // One of them twice, so that it waits for itself too.
    let pending: Vec<_> = (0..5).map(|n| ask(&nodes[n % 4], ids[n % 4])).collect();
    for (n, pending) in pending.into_iter().enumerate() {
        let block = pending.wait_timeout(PATIENCE * 2).unwrap().unwrap();
        assert_eq!(Some(block.hash()), nodes[n % 4].block_hash(2));
        assert!(block.raw().len() > 20 * MIB);
    }
}

#[test]
fn a_large_payload_that_nobody_takes_holds_up_only_its_own_peer() {
    let mut scene = Scene::new(
        small().inbound_pool(5 * MIB).message_queue_items(1).overflow_limit(8 * MIB).inbound_share(10 * MIB),
    );
    let blocks = scene.conduit.subscribe([Command::BLOCK]).unwrap();
    let node = TestNode::start(TestNodeConfig::default()).unwrap();
    node.mine_with(vec![transaction(1, 3 * MIB / 2)]);
    let node_id = scene.conduit.add_peers([node.address()]).unwrap()[0];
    scene.conduit.wait_for_peers(2, PATIENCE).unwrap();
    let block = large_block(MIB);
    let bytes = frame(&Message::Block(block.clone()));
    let mut stream = scene.raw.stream();
    let sending = waits::call(move || (0..60).try_for_each(|_| stream.write_all(&bytes)));
    waits::until("the first has come", || blocks.len() == 1);
    let options = RequestOptions::new().peer(node_id);
    for _ in 0..10 {
        let wanted = GetData::block(node.block_hash(node.tip_height()).unwrap());
        assert_eq!(scene.conduit.send_request_with(wanted, &options).ok(), node.block(node.tip_height()));
    }
    assert!(sending.is_blocked(), "the blocks are more than the pool, the queue and the kernel hold");
    assert_eq!(blocks.len(), 1);
    for _ in 0..60 {
        let incoming = blocks.recv_timeout(PATIENCE).unwrap();
        assert_eq!((incoming.peer, incoming.message), (scene.id, Message::Block(block.clone())));
    }
    sending.result().unwrap();
    scene.raw.ping(1);
}

#[test]
fn a_message_to_many_does_not_wait_for_the_one_that_is_full() {
    let mut scene = Scene::new(small().outbound_pool(0));
    let (other_id, mut other) = scene.add_raw();
    let numbered = |n| Message::Tx(transaction(n, 10_000));
    let mut sent = 0;
    while scene.conduit.send_timeout(scene.id, numbered(sent), Duration::from_secs(1)).is_ok() {
        sent += 1;
    }
    let sending = waits::call({
        let (conduit, peers) = (scene.conduit.clone(), [scene.id, other_id]);
        move || conduit.send_to_all(&peers, &numbered(sent))
    });
    assert_eq!(other.expect(Command::TX), numbered(sent));
    assert!(sending.is_blocked());
    for n in 0..=sent {
        assert_eq!(scene.raw.expect(Command::TX), numbered(n));
    }
    assert_eq!(sending.result(), [Ok(()), Ok(())]);
}

/// A conduit connected to one raw peer.
struct Scene {
    conduit: Conduit,
    events: Events,
    listener: RawListener,
    id: PeerId,
    raw: RawPeer,
}

impl Scene {
    fn new(config: Config) -> Self {
        let listener = RawListener::bind();
        let conduit = Conduit::new(config).expect("the settings hold");
        let events = conduit.events();
        let id = conduit.add_peers([listener.address()]).expect("an address")[0];
        conduit.start().expect("it starts");
        let raw = listener.shake_hands();
        waits::connected(&events, id);
        Self { conduit, events, listener, id, raw }
    }

    fn add_raw(&self) -> (PeerId, RawPeer) {
        let listener = RawListener::bind();
        let id = self.conduit.add_peers([listener.address()]).expect("an address")[0];
        let raw = listener.shake_hands();
        waits::connected(&self.events, id);
        (id, raw)
    }

    /// Begins to send transactions, numbered from zero; tells how many went.
    fn flood(&mut self) -> waits::Call<u64> {
        flood(&mut self.raw)
    }

    #[track_caller]
    fn reason(&self) -> DisconnectReason {
        waits::reason_of(&self.events, self.id)
    }

    fn state(&self) -> PeerState {
        self.state_of(self.id)
    }

    fn state_of(&self, id: PeerId) -> PeerState {
        self.conduit.peers().iter().find(|peer| peer.id == id).expect("it is known").state
    }

    #[track_caller]
    fn wait_until_paused(&self) {
        waits::until("it is paused", || self.state() == PeerState::Paused);
    }

    #[track_caller]
    fn answers_a_ping(&mut self) {
        let options = RequestOptions::new().peer(self.id);
        let ping = self.conduit.send_request_nowait_with(Ping, &options).expect("there is room");
        let Message::Ping { nonce } = self.raw.expect(Command::PING) else { unreachable!() };
        self.raw.send(&Message::Pong { nonce });
        assert!(ping.wait_timeout(PATIENCE).expect("a reply").is_ok());
    }
}

fn flood(raw: &mut RawPeer) -> waits::Call<u64> {
    let mut stream = raw.stream();
    waits::call(move || {
        (0..FEW).find(|&n| stream.write_all(&frame(&Message::Tx(transaction(n, LEN)))).is_err()).unwrap_or(FEW)
    })
}

#[track_caller]
fn take_in_order(messages: &Messages, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let incoming = messages.recv_timeout(PATIENCE).expect("a message in time");
        let Message::Tx(transaction) = incoming.message else { panic!("only transactions come") };
        let len = transaction.raw().len();
        assert_eq!(transaction, conduit::testnode::transaction(n, len), "number {n}");
    }
}

fn txid(message: &Message) -> Txid {
    match message {
        Message::Tx(transaction) => transaction.txid(),
        other => panic!("only transactions come, not {}", other.command()),
    }
}

/// A block with a transaction of this size.
fn large_block(bytes: usize) -> Block {
    let transactions = vec![spend(&[OutPoint::NULL], 1), transaction(1, bytes)];
    let header = BlockHeader {
        version: 1,
        previous: Network::Regtest.genesis(),
        merkle_root: merkle_root(transactions.iter().map(Transaction::txid)).expect("two different transactions"),
        time: 0,
        bits: 0,
        nonce: 0,
    };
    Block::new(header, transactions)
}

/// Settings under which everything is full soon.
fn small() -> Config {
    config()
        .max_peers(4)
        .stream_threshold(2 * MIB as u64)
        .inbound_pool(2 * MIB)
        .inbound_share(2 * MIB + 256 * 1_024)
        .overflow_limit(256 * 1_024)
        .message_queue_bytes(MIB)
        .max_message_queues(1)
        .outbound_share(64 * 1_024)
        .outbound_pool(MIB)
        .requests_limit(MIB)
        .broadcast_bytes(MIB)
}

/// Whoever is lost stays lost, so that every event is the first one.
fn config() -> Config {
    Config::new(Network::Regtest).redial_min(PATIENCE * 10).redial_max(PATIENCE * 10)
}

/// Transactions of `LEN` bytes, several times what all queues and the kernel hold.
const FLOOD: u64 = 40_000;
/// Enough to be paused for, also with what the kernel holds.
const FEW: u64 = 10_000;
const LEN: usize = 1_500;
const MIB: usize = 1_048_576;
