//! Peers that break the protocol, over real sockets: each loses its connection for a typed reason, and an honest peer
//! beside it notices nothing.

#![allow(clippy::disallowed_methods, reason = "tests take the time")]

mod support;

use std::io::Write;
use std::time::Duration;

use conduit::error::{AttemptFailure, FrameError, ProtocolError};
use conduit::message::{Block, GetHeaders, Message, ProtoConf, Reject, RejectCode};
use conduit::testnode::{TestNode, TestNodeConfig, transaction};
use conduit::wire::{Command, DecodeError};
use conduit::{
    Conduit, Config, DisconnectReason, Events, GetData, Network, PeerId, Ping, RequestError, RequestOptions,
};
use support::raw_peer::{RawListener, RawPeer, frame, frame_of, header, version};
use support::{PATIENCE, own_process, waits};

#[test]
fn a_frame_of_another_network_ends_the_connection() {
    let mut bytes = frame(&Message::Verack);
    bytes[..4].copy_from_slice(&Network::Main.magic());
    let got = Network::Main.magic();
    assert_eq!(reason_after_handshake(&bytes), protocol(FrameError::WrongMagic { got }));
    assert_eq!(reason_before_version(&bytes), protocol(FrameError::WrongMagic { got }));
}

#[test]
fn whoever_speaks_first_is_heard_before_he_is_told_our_version() {
    let listener = RawListener::greeting_with(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let scene = Scene::around(listener, config());
    let got = *b"HTTP";
    assert_eq!(scene.reason(), protocol(FrameError::WrongMagic { got }));
    scene.honest_peer_goes_on();
}

#[test]
fn a_command_that_is_no_text_ends_the_connection() {
    for command in [*b"tx\x01\0\0\0\0\0\0\0\0\0", *b"tx\0x\0\0\0\0\0\0\0\0"] {
        let mut bytes = frame(&Message::Verack);
        bytes[4..16].copy_from_slice(&command);
        assert_eq!(reason_after_handshake(&bytes), protocol(FrameError::BadCommand { got: command }));
    }
}

#[test]
fn a_payload_that_does_not_give_its_checksum_ends_the_connection() {
    // One is verified by the message thread, one in the event loop.
    for message in [Message::Tx(transaction(1, 100)), Message::Ping { nonce: 1 }] {
        let mut bytes = frame(&message);
        let got = *bytes[20..24].as_array().unwrap();
        bytes[20] ^= 1;
        let expected = *bytes[20..24].as_array().unwrap();
        let command = message.command();
        assert_eq!(reason_after_handshake(&bytes), protocol(FrameError::BadChecksum { command, expected, got }));
    }
}

#[test]
fn a_length_over_the_limit_ends_the_connection_before_the_payload_comes() {
    let limit = u64::from(Config::new(Network::Regtest).max_recv_payload_length);
    for (command, length) in [(Command::INV, limit + 1), (Command::INV, 1 << 40)] {
        let error = FrameError::PayloadTooLarge { command, length, limit };
        assert_eq!(reason_after_handshake(&header(command, length, [0; 4])), protocol(error));
    }
    let huge = header(Command::PING, limit, [0; 4]);
    let DisconnectReason::Protocol(ProtocolError::Frame(FrameError::PayloadTooLarge { command, .. })) =
        reason_after_handshake(&huge)
    else {
        panic!("a ping has eight bytes");
    };
    assert_eq!(command, Command::PING);
}

#[test]
fn a_payload_that_is_not_what_its_command_says_ends_the_connection() {
    for (command, payload) in [(Command::INV, &[2_u8, 1, 0][..]), (Command::PING, &[1, 2, 3]), (Command::TX, &[0])]
    {
        let reason = reason_after_handshake(&frame_of(command, payload));
        let error = DecodeError::UnexpectedEnd;
        assert_eq!(reason, DisconnectReason::Protocol(ProtocolError::Malformed { command, error }));
    }
}

#[test]
fn a_message_before_the_version_ends_the_connection() {
    for message in [Message::Tx(transaction(1, 100)), Message::Ping { nonce: 1 }, Message::GetAddr] {
        let command = message.command();
        let error = ProtocolError::BeforeVersion { command };
        assert_eq!(reason_before_version(&frame(&message)), DisconnectReason::Protocol(error));
    }
}

#[test]
fn a_second_version_ends_the_connection() {
    let again = frame(&version());
    assert_eq!(reason_after_handshake(&again), DisconnectReason::Protocol(ProtocolError::DuplicateVersion));
    let twice = [again.clone(), again].concat();
    assert_eq!(reason_before_version(&twice), DisconnectReason::Protocol(ProtocolError::DuplicateVersion));
}

#[test]
fn a_second_protoconf_ends_the_connection() {
    let one = frame(&Message::ProtoConf(ProtoConf::new(1_048_576, "Default")));
    let reason = reason_after_handshake(&[one.clone(), one].concat());
    assert_eq!(reason, DisconnectReason::Protocol(ProtocolError::DuplicateProtoConf));
}

#[test]
fn an_obsolete_version_ends_the_connection() {
    let Message::Version(mut old) = version() else { unreachable!() };
    old.version = 31_799;
    let error = ProtocolError::ObsoleteVersion { version: 31_799 };
    assert_eq!(reason_before_version(&frame(&Message::Version(old))), DisconnectReason::Protocol(error));
}

#[test]
fn a_version_that_is_refused_ends_the_connection_with_the_words_of_the_peer() {
    let reject = Message::from(Reject {
        message: "version".into(),
        code: RejectCode::Obsolete,
        reason: "go away".into(),
        hash: None,
    });
    let error = ProtocolError::Refused { code: RejectCode::Obsolete, reason: "go away".to_owned() };
    assert_eq!(reason_before_version(&frame(&reject)), DisconnectReason::Protocol(error));
}

#[test]
fn a_connection_to_ourselves_ends() {
    let scene = Scene::new(config());
    let mut raw = scene.listener.accept();
    let ours = raw.expect(Command::VERSION);
    raw.send(&ours);
    assert_eq!(scene.reason(), DisconnectReason::Protocol(ProtocolError::SelfConnection));
}

#[test]
fn a_handshake_that_is_not_finished_ends_in_time() {
    let config = || config().handshake_timeout(Duration::from_millis(500));
    let timed_out = DisconnectReason::Protocol(ProtocolError::HandshakeTimeout);

    // Accepts and says nothing.
    let scene = Scene::new(config());
    let mut half_open = scene.listener.accept();
    assert_eq!(scene.reason(), timed_out);
    half_open.wait_until_closed();
    scene.honest_peer_goes_on();

    // Says everything but `verack`.
    let scene = Scene::new(config());
    let mut raw = scene.listener.accept();
    raw.expect(Command::VERSION);
    raw.send(&version());
    raw.send(&Message::Ping { nonce: 1 });
    raw.expect(Command::PONG);
    assert_eq!(scene.reason(), timed_out);
    raw.wait_until_closed();
    scene.honest_peer_goes_on();

    // Begins a frame and never ends it.
    let scene = Scene::new(config());
    let mut raw = scene.listener.accept();
    raw.send_bytes(&frame(&version())[..50]);
    assert_eq!(scene.reason(), timed_out);
}

#[test]
fn peer_that_sends_nothing_after_a_ping_is_dropped() {
    let scene = Scene::new(config().ping_interval(Duration::from_millis(200)).ping_timeout(Duration::from_secs(2)));
    let mut raw = scene.listener.shake_hands();
    assert_eq!(scene.reason(), DisconnectReason::Protocol(ProtocolError::PingTimeout));
    raw.wait_until_closed();
    scene.honest_peer_goes_on();
}

#[test]
fn peer_that_sends_anything_after_a_ping_is_kept() {
    let timeout = Duration::from_secs(1);
    let scene = Scene::new(config().ping_interval(Duration::from_millis(100)).ping_timeout(timeout));
    let mut raw = scene.listener.shake_hands();
    // A pong may queue behind a big block: here behind a payload that takes three times the timeout to come.
    let payload = vec![7; 30];
    let bytes = frame_of(Command::new("slow").unwrap(), &payload);
    for byte in &bytes {
        raw.send_bytes(std::slice::from_ref(byte));
        std::thread::sleep(timeout * 3 / bytes.len() as u32);
    }
    raw.ping(1);
    scene.honest_peer_goes_on();
    assert!(scene.conduit.peers().iter().all(|peer| peer.user_agent.is_some()), "both are still connected");
}

#[test]
fn headers_that_do_not_follow_from_each_other_end_the_connection() {
    let scene = Scene::new(config());
    let mut raw = scene.listener.shake_hands();
    let headers = [1, 2, 4].map(|height| scene.honest.header(height).unwrap());
    let options = RequestOptions::new().peer(scene.id);
    let question = GetHeaders::new(vec![scene.honest.block_hash(0).unwrap()]);
    let asked = scene.conduit.send_request_nowait_with(question, &options.attempts(1)).unwrap();
    raw.expect(Command::GETHEADERS);
    raw.send(&Message::Headers(headers.to_vec()));
    assert_eq!(scene.reason(), DisconnectReason::Protocol(ProtocolError::DisconnectedHeaders));
    let Err(RequestError::Failed { attempts }) = asked.wait_timeout(PATIENCE).unwrap() else {
        panic!("the peer was lost for its answer");
    };
    assert_eq!(attempts[0].failure, AttemptFailure::WrongAnswer);
    scene.honest_peer_goes_on();
}

#[test]
fn a_block_with_other_transactions_than_its_header_proves_is_asked_of_the_next_peer() {
    let scene = Scene::new(config());
    scene.conduit.set_main_peer(scene.listener.address()).unwrap();
    let mut raw = scene.listener.shake_hands();
    scene.conduit.wait_for_peers(2, PATIENCE).unwrap();
    let block = scene.honest.block(3).unwrap();
    let forged = Block::new(*block.header(), vec![transaction(1, 100)]);
    assert_eq!(forged.hash(), block.hash());

    let from_anyone = scene.conduit.send_request_nowait(GetData::block(block.hash())).unwrap();
    let from_it = {
        let options = RequestOptions::new().peer(scene.id).attempts(1);
        scene.conduit.send_request_nowait_with(GetData::block(block.hash()), &options).unwrap()
    };
    raw.expect(Command::GETDATA);
    raw.expect(Command::GETDATA);
    raw.send(&Message::Block(forged));
    assert_eq!(scene.reason(), DisconnectReason::Protocol(ProtocolError::BadMerkleRoot));
    assert_eq!(from_anyone.wait_timeout(PATIENCE).unwrap(), Ok(block));
    let Err(RequestError::Failed { attempts }) = from_it.wait_timeout(PATIENCE).unwrap() else {
        panic!("only the liar was asked");
    };
    assert_eq!(attempts.len(), 1);
    assert_eq!((attempts[0].peer, attempts[0].failure), (scene.id, AttemptFailure::WrongAnswer));
    scene.honest_peer_goes_on();
}

#[test]
fn a_frame_cut_off_by_the_end_of_the_connection_is_a_close_by_the_peer() {
    let bytes = frame(&Message::Tx(transaction(1, 100)));
    let scene = Scene::new(config());
    let mut raw = scene.listener.shake_hands();
    raw.send_bytes(&bytes[..bytes.len() - 1]);
    raw.end();
    assert_eq!(scene.reason(), DisconnectReason::ClosedByPeer);
    scene.honest_peer_goes_on();
}

#[test]
fn a_peer_that_sends_byte_by_byte_is_understood() {
    let scene = Scene::new(config());
    let messages = scene.conduit.messages().unwrap();
    let mut raw = scene.listener.accept();
    let sent: Vec<_> = (0..3).map(|n| Message::Tx(transaction(n, 100))).collect();
    let block = Message::Block(scene.honest.block(1).unwrap());
    raw.stream().set_nodelay(true).unwrap();
    for message in [version(), Message::Verack].iter().chain(&sent).chain([&block, &Message::Ping { nonce: 1 }]) {
        for byte in frame(message) {
            raw.send_bytes(&[byte]);
        }
    }
    assert_eq!(raw.expect(Command::PONG), Message::Pong { nonce: 1 });
    let mut got = Vec::new();
    while got.len() < 4 {
        let incoming = messages.recv_timeout(PATIENCE).unwrap();
        if incoming.peer == scene.id {
            got.push(incoming.message);
        }
    }
    assert_eq!(got[..3], sent);
    assert_eq!(got[3], block);
}

#[test]
fn a_burst_of_pings_is_answered_to_the_last() {
    let scene = Scene::new(config().outbound_share(64 * 1_024).outbound_pool(0));
    let mut raw = scene.listener.shake_hands();
    scene.conduit.wait_for_peers(2, PATIENCE).unwrap();
    scene.fill_the_way_out();
    // The second write holds the ping whose pong is one too many to wait, so the rest of it is put aside.
    for nonces in [1..=2_000, 2_001..=3_000] {
        raw.send_bytes(&nonces.flat_map(|nonce| frame(&Message::Ping { nonce })).collect::<Vec<_>>());
    }
    for nonce in 1..=3_000 {
        assert_eq!(raw.expect(Command::PONG), Message::Pong { nonce });
    }
    scene.honest_peer_goes_on();
}

#[test]
fn a_flood_of_pings_whose_pongs_nobody_reads_ends_in_bounded_memory() {
    if !own_process::is_alone("a_flood_of_pings_whose_pongs_nobody_reads_ends_in_bounded_memory") {
        return;
    }
    let config = config().stall_timeout(Duration::from_secs(5)).max_peers(2).outbound_share(64 * 1_024);
    let config = config.inbound_pool(32 * MIB).requests_limit(MIB).broadcast_bytes(MIB).outbound_pool(0);
    let bound = config.worst_case_bytes();
    let scene = Scene::new(config);
    let raw = scene.listener.shake_hands();
    scene.conduit.wait_for_peers(2, PATIENCE).unwrap();
    let before = own_process::resident_bytes();
    scene.fill_the_way_out();
    let mut stream = raw.stream();
    let pings: Vec<u8> = (1..=2_000).flat_map(|nonce| frame(&Message::Ping { nonce })).collect();
    let flood = waits::call(move || {
        let mut sent = 0;
        while stream.write_all(&pings).is_ok() {
            sent += pings.len();
        }
        sent
    });
    assert_eq!(scene.reason(), DisconnectReason::Protocol(ProtocolError::Stalled));
    let grown = own_process::resident_bytes().saturating_sub(before);
    assert!(grown < bound, "{grown} bytes more are over the bound of {bound}");
    assert!(grown < 16 * MIB as u64, "{grown} bytes more, for pongs of which 64 KiB may wait");
    assert!(flood.result() > 0);
    scene.honest_peer_goes_on();
}

#[test]
fn large_payloads_in_the_handshake_take_no_room_from_others() {
    // The pool holds one large payload, so that one which is not given back is felt at once.
    let config = config().stream_threshold(2 * MIB as u64).inbound_pool(2 * MIB);
    let config = config.redial_min(Duration::from_millis(1)).redial_max(Duration::from_millis(1));
    let scene = Scene::new(config);
    let large = frame_of(Command::BLOCK, &vec![0; 3 * MIB / 2]);

    let mut before_version = scene.listener.accept();
    before_version.expect(Command::VERSION);
    // The other side may be gone before it has all.
    drop(before_version.stream().write_all(&large));
    let error = ProtocolError::BeforeVersion { command: Command::BLOCK };
    assert_eq!(scene.reason(), DisconnectReason::Protocol(error));

    let mut before_verack = scene.listener.accept();
    before_verack.expect(Command::VERSION);
    before_verack.send(&version());
    before_verack.send_bytes(&large);
    before_verack.send(&Message::Verack);
    before_verack.ping(1);
    scene.honest_peer_sends_a_large_block();
}

#[test]
fn a_large_protoconf_takes_no_room_from_others() {
    let config = config().stream_threshold(2 * MIB as u64).inbound_pool(2 * MIB);
    let scene = Scene::new(config);
    let mut raw = scene.listener.shake_hands();
    let mut payload = Vec::new();
    Message::ProtoConf(ProtoConf::new(1_048_576, "Default")).encode_payload(&mut payload);
    payload.resize(MIB, 0);
    raw.send_bytes(&frame_of(Command::PROTOCONF, &payload));
    raw.ping(1);
    scene.honest_peer_sends_a_large_block();
}

/// A conduit between an honest peer and a raw one.
struct Scene {
    honest: TestNode,
    honest_id: PeerId,
    listener: RawListener,
    id: PeerId,
    events: Events,
    conduit: Conduit,
}

impl Scene {
    fn new(config: Config) -> Self {
        Self::around(RawListener::bind(), config)
    }

    fn around(listener: RawListener, config: Config) -> Self {
        let honest = TestNode::start(TestNodeConfig::default()).expect("a test node starts");
        honest.mine_with(vec![transaction(1, 3 * MIB / 2)]);
        let conduit = Conduit::new(config).expect("the settings hold");
        let events = conduit.events();
        let honest_id = conduit.add_peers([honest.address()]).expect("an address")[0];
        conduit.start().expect("it starts");
        conduit.wait_for_peers(1, PATIENCE).expect("the honest peer connects");
        let id = conduit.add_peers([listener.address()]).expect("an address")[0];
        Self { honest, honest_id, listener, id, events, conduit }
    }

    /// Why the raw peer was lost.
    #[track_caller]
    fn reason(&self) -> DisconnectReason {
        waits::reason_of(&self.events, self.id)
    }

    /// Fills the kernel's buffers towards the raw peer, who is not reading, and our own queue behind them.
    fn fill_the_way_out(&self) {
        let filling = Message::Tx(transaction(1, 60_000));
        while self.conduit.send_timeout(self.id, filling.clone(), Duration::from_millis(200)).is_ok() {}
    }

    #[track_caller]
    fn honest_peer_goes_on(&self) {
        let options = RequestOptions::new().peer(self.honest_id);
        let hash = self.honest.block_hash(3).expect("the chain is that high");
        assert_eq!(self.conduit.send_request_with(GetData::block(hash), &options).ok(), self.honest.block(3));
        assert!(self.conduit.send_request_with(Ping, &options).is_ok());
        assert_eq!(self.honest.received(Command::VERSION), 1, "its connection is still the first");
    }

    #[track_caller]
    fn honest_peer_sends_a_large_block(&self) {
        let options = RequestOptions::new().peer(self.honest_id).timeout(PATIENCE);
        let height = self.honest.tip_height();
        let hash = self.honest.block_hash(height).expect("it is the tip");
        assert_eq!(self.conduit.send_request_with(GetData::block(hash), &options).ok(), self.honest.block(height));
    }
}

/// What becomes of a peer that sends these bytes once the handshake is done.
#[track_caller]
fn reason_after_handshake(bytes: &[u8]) -> DisconnectReason {
    reason_of(RawListener::shake_hands, bytes)
}

/// What becomes of a peer that sends these bytes instead of, or with, its version.
#[track_caller]
fn reason_before_version(bytes: &[u8]) -> DisconnectReason {
    let greet = |listener: &RawListener| {
        let mut raw = listener.accept();
        raw.expect(Command::VERSION);
        raw
    };
    reason_of(greet, bytes)
}

#[track_caller]
fn reason_of(greet: impl FnOnce(&RawListener) -> RawPeer, bytes: &[u8]) -> DisconnectReason {
    let scene = Scene::new(config());
    let mut raw = greet(&scene.listener);
    raw.send_bytes(bytes);
    let reason = scene.reason();
    raw.wait_until_closed();
    scene.honest_peer_goes_on();
    reason
}

fn protocol(error: FrameError) -> DisconnectReason {
    DisconnectReason::Protocol(ProtocolError::Frame(error))
}

/// Whoever is lost stays lost, so that every event is the first one.
fn config() -> Config {
    Config::new(Network::Regtest).redial_min(PATIENCE * 10).redial_max(PATIENCE * 10)
}

const MIB: usize = 1_048_576;
