//! The faults of the test node over raw blocking sockets: each kind, on the connection and the message it is meant for.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use conduit::Network;
use conduit::message::{GetHeaders, Inventory, Message, RejectCode, Services, Version};
use conduit::testnode::{Fault, FaultKind, Flood, TestNode, TestNodeConfig, transaction};
use conduit::wire::{BlockHash, Command, FrameHeader, checksum};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long beside what a loopback takes, and short enough to wait for.
const LATE: Duration = Duration::from_millis(300);

/// A peer that dialled the node and sees its bytes.
struct Peer {
    stream: TcpStream,
    /// Came and are no whole frame yet.
    bytes: Vec<u8>,
    next_nonce: u64,
}

/// A frame as it came.
struct Frame {
    command: Command,
    payload: Vec<u8>,
    checksum_fits: bool,
}

impl Peer {
    /// Connects without a word.
    fn silent(node: &TestNode) -> Self {
        let stream = TcpStream::connect(node.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, bytes: Vec::new(), next_nonce: 1_000 }
    }

    fn dial(node: &TestNode) -> Self {
        let mut peer = Self::silent(node);
        peer.send(&Message::from(Version::new(Services::NONE, 77, "/raw:1.0/", 0, 1_700_000_000)));
        peer.send(&Message::Verack);
        peer
    }

    /// Dials and shakes hands, up to the node's first ping.
    fn connect(node: &TestNode) -> Self {
        let mut peer = Self::dial(node);
        peer.until(Command::PING);
        peer
    }

    fn send(&mut self, message: &Message) {
        self.stream.write_all(&message.to_frame(Network::Regtest.magic())).unwrap();
    }

    /// The next frame; `None` once the node closed the connection, `bytes` then has what came of another one.
    fn next(&mut self) -> Option<Frame> {
        let mut buffer = vec![0; 1 << 20];
        loop {
            let header = FrameHeader::decode(&self.bytes, Network::Regtest.magic()).unwrap();
            if let Some(header) = header
                && let end = FrameHeader::BASIC_LEN + header.length as usize
                && self.bytes.len() >= end
            {
                let payload = self.bytes[FrameHeader::BASIC_LEN..end].to_vec();
                self.bytes.drain(..end);
                let checksum_fits = header.checksum == Some(checksum(&payload));
                return Some(Frame { command: header.command, payload, checksum_fits });
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(n) => self.bytes.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("waiting for a frame: {error}"),
            }
        }
    }

    fn recv(&mut self) -> Frame {
        self.next().expect("the node closed the connection")
    }

    fn until(&mut self, command: Command) -> Frame {
        loop {
            let frame = self.recv();
            if frame.command == command {
                return frame;
            }
        }
    }

    /// The commands that came before the node answered a ping sent now.
    fn said(&mut self) -> Vec<Command> {
        self.next_nonce += 1;
        let nonce = self.next_nonce;
        self.send(&Message::Ping { nonce });
        let mut said = Vec::new();
        loop {
            let frame = self.recv();
            if frame.command == Command::PONG && frame.payload == nonce.to_le_bytes() {
                return said;
            }
            said.push(frame.command);
        }
    }

    /// All bytes until the node closes the connection.
    fn rest(mut self) -> Vec<u8> {
        let mut rest = self.bytes;
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        rest
    }
}

fn start() -> TestNode {
    TestNode::start(TestNodeConfig::default().blocks(3)).unwrap()
}

fn ask_headers() -> Message {
    Message::GetHeaders(GetHeaders::new([BlockHash::ZERO]))
}

fn ask_block(node: &TestNode, height: u32) -> Message {
    Message::GetData(vec![Inventory::block(node.block_hash(height).unwrap())])
}

#[test]
fn a_delayed_message_holds_up_those_behind_it_and_no_other_connection() {
    let node = start();
    let (mut late, mut other) = (Peer::connect(&node), Peer::connect(&node));
    node.inject(Fault::new(FaultKind::Delay(LATE)).command(Command::HEADERS).connection(0).times(1));
    let began = Instant::now();
    late.send(&ask_headers());
    // The pong is not concerned and comes behind all the same.
    assert_eq!(late.said(), [Command::HEADERS]);
    assert!(began.elapsed() >= LATE);
    other.send(&ask_headers());
    assert_eq!(other.said(), [Command::HEADERS]);
    node.inject(Fault::new(FaultKind::Delay(PATIENCE * 2)).command(Command::BLOCK));
    // Once is over, and no other message is concerned: this would take longer than the peers wait.
    late.send(&ask_headers());
    assert_eq!(late.said(), [Command::HEADERS]);
}

#[test]
fn the_handshake_can_be_late_too() {
    let node = start();
    node.inject(Fault::new(FaultKind::Delay(LATE)).command(Command::VERACK));
    let began = Instant::now();
    let mut peer = Peer::connect(&node);
    assert!(began.elapsed() >= LATE);
    assert!(peer.said().is_empty());
}

#[test]
fn a_withheld_message_is_not_sent_and_the_next_is() {
    let node = start();
    let mut peer = Peer::connect(&node);
    node.inject(Fault::new(FaultKind::Withhold).command(Command::BLOCK).times(2));
    for height in 1..=3 {
        peer.send(&ask_block(&node, height));
    }
    assert_eq!(peer.said(), [Command::BLOCK], "the third");
    node.inject(Fault::new(FaultKind::Withhold).command(Command::HEADERS));
    peer.send(&ask_headers());
    assert!(peer.said().is_empty());
    node.clear_faults();
    peer.send(&ask_headers());
    assert_eq!(peer.said(), [Command::HEADERS]);
}

#[test]
fn a_connection_closes_in_the_middle_of_a_message() {
    let node = start();
    let block = Message::Block(node.block(1).unwrap()).to_frame(Network::Regtest.magic()).to_vec();
    for limit in [0, 1, 23, 24, 25, block.len() - 1, block.len()] {
        let mut peer = Peer::connect(&node);
        node.inject(Fault::new(FaultKind::CloseAfter(limit as u64)).command(Command::BLOCK));
        // Pongs do not count.
        assert!(peer.said().is_empty());
        peer.send(&ask_block(&node, 1));
        assert_eq!(peer.rest(), block[..limit], "{limit} bytes");
        assert!(node.wait_for_connections(0, PATIENCE));
        node.clear_faults();
    }
}

#[test]
fn a_connection_closes_after_bytes_of_several_messages() {
    let node = start();
    let (mut peer, mut other) = (Peer::connect(&node), Peer::connect(&node));
    node.inject(Fault::new(FaultKind::CloseAfter(70)).connection(0));
    assert!(peer.said().is_empty());
    assert!(peer.said().is_empty());
    peer.send(&Message::Ping { nonce: 9 });
    let pong = Message::Pong { nonce: 9 }.to_frame(Network::Regtest.magic()).to_vec();
    assert_eq!(peer.rest(), pong[..6], "after two pongs of 32 bytes");
    (0..5).for_each(|_| assert!(other.said().is_empty()));
}

#[test]
fn a_corrupt_checksum_does_not_fit_and_its_message_is_whole() {
    let node = start();
    let mut peer = Peer::connect(&node);
    node.inject(Fault::new(FaultKind::CorruptChecksum).command(Command::BLOCK).times(1));
    for fits in [false, true] {
        peer.send(&ask_block(&node, 1));
        let frame = peer.recv();
        assert_eq!((frame.command, frame.checksum_fits), (Command::BLOCK, fits));
        assert_eq!(Message::decode(Command::BLOCK, &frame.payload), Ok(Message::Block(node.block(1).unwrap())));
    }
}

#[test]
fn faults_of_one_message_add_up() {
    let node = start();
    let mut peer = Peer::connect(&node);
    node.inject(Fault::new(FaultKind::CorruptChecksum));
    node.inject(Fault::new(FaultKind::Delay(LATE)).command(Command::HEADERS));
    let began = Instant::now();
    peer.send(&ask_headers());
    assert!(!peer.recv().checksum_fits);
    assert!(began.elapsed() >= LATE);
}

#[test]
fn a_reject_comes_instead_of_an_answer() {
    let node = start();
    let mut peer = Peer::connect(&node);
    let busy = FaultKind::Reject { code: RejectCode::TooBusy, reason: "busy".to_owned() };
    node.inject(Fault::new(busy.clone()).command(Command::GETHEADERS).times(1));
    node.inject(Fault::new(busy).command(Command::TX));
    let payment = transaction(1, 100);
    peer.send(&ask_headers());
    peer.send(&Message::Tx(payment.clone()));
    for (command, hash) in [(Command::GETHEADERS, None), (Command::TX, Some(*payment.txid().as_wire()))] {
        let frame = peer.recv();
        let Ok(Message::Reject(reject)) = Message::decode(frame.command, &frame.payload) else {
            panic!("{} is no reject", frame.command);
        };
        assert_eq!(reject.message.to_string(), command.as_str());
        assert_eq!((reject.code, reject.reason.to_string()), (RejectCode::TooBusy, "busy".to_owned()));
        assert_eq!(reject.hash, hash);
    }
    peer.send(&ask_headers());
    assert_eq!(peer.said(), [Command::HEADERS], "once only");
    assert_eq!(node.received(Command::GETHEADERS), 2);
    assert!(!node.contains(payment.txid()));
}

#[test]
fn a_reject_can_end_a_handshake() {
    let node = start();
    let obsolete = FaultKind::Reject { code: RejectCode::Obsolete, reason: "too old".to_owned() };
    node.inject(Fault::new(obsolete).command(Command::VERSION));
    let mut peer = Peer::dial(&node);
    assert_eq!(peer.until(Command::REJECT).payload[..8], *b"\x07version");
}

#[test]
fn what_is_ignored_on_one_connection_is_heeded_on_another() {
    let node = start();
    let (mut deaf, mut other) = (Peer::connect(&node), Peer::connect(&node));
    node.inject(Fault::new(FaultKind::Ignore).command(Command::GETHEADERS).connection(0));
    for (peer, said) in [(&mut deaf, vec![]), (&mut other, vec![Command::HEADERS])] {
        peer.send(&ask_headers());
        assert_eq!(peer.said(), said);
    }
    assert_eq!(node.received(Command::GETHEADERS), 2);
}

#[test]
fn silence_of_one_connection_ends_when_the_faults_do() {
    let node = start();
    let (mut silent, mut other) = (Peer::connect(&node), Peer::connect(&node));
    node.inject(Fault::new(FaultKind::Silence).connection(0));
    silent.send(&ask_headers());
    assert!(node.wait_for_received(Command::GETHEADERS, 1, PATIENCE));
    assert!(node.submit(transaction(1, 100)));
    assert_eq!(other.said(), [Command::INV]);
    node.clear_faults();
    assert!(silent.said().is_empty(), "neither an answer nor the announcement comes later");
    assert!(node.submit(transaction(2, 100)));
    assert_eq!(silent.said(), [Command::INV]);
}

#[test]
fn an_idle_connection_shakes_hands_and_then_says_nothing() {
    let node = start();
    let mut before = Peer::connect(&node);
    node.inject(Fault::new(FaultKind::Idle).times(1));
    let mut idle = Peer::connect(&node);
    let mut after = Peer::connect(&node);
    assert_eq!(node.connections(), 3);
    let pings = node.received(Command::PING);
    idle.send(&ask_headers());
    idle.send(&Message::Ping { nonce: 1 });
    assert!(node.wait_for_received(Command::PING, pings + 1, PATIENCE));
    assert!(node.submit(transaction(1, 100)));
    for peer in [&mut before, &mut after] {
        assert_eq!(peer.said(), [Command::INV]);
    }
    node.clear_faults();
    assert!(idle.said().is_empty());
}

#[test]
fn what_comes_together_with_the_end_of_the_handshake_is_idle_too() {
    let node = start();
    node.inject(Fault::new(FaultKind::Idle));
    let mut peer = Peer::silent(&node);
    let version = Message::from(Version::new(Services::NETWORK, 77, "/raw:1.0/", 0, 1_700_000_000));
    let messages = [version, Message::Verack, ask_headers(), Message::Ping { nonce: 1 }, ask_block(&node, 1)];
    let magic = Network::Regtest.magic();
    let bytes: Vec<u8> = messages.iter().flat_map(|message| message.to_frame(magic).to_vec()).collect();
    peer.stream.write_all(&bytes).unwrap();
    peer.until(Command::PING);
    assert!(node.wait_for_received(Command::GETDATA, 1, PATIENCE));
    peer.send(&ask_headers());
    assert!(node.wait_for_received(Command::GETHEADERS, 2, PATIENCE));
    node.clear_faults();
    assert!(peer.said().is_empty());
}

#[test]
fn a_flood_begins_right_after_the_handshake_and_ends() {
    let node = start();
    // More than one round of what is prepared, and more than the queue of a line.
    node.inject(Fault::new(FaultKind::Flood(Flood::transactions(30_000, 250))).connection(1));
    let (mut other, mut peer) = (Peer::connect(&node), Peer::connect(&node));
    let mut distinct = HashSet::new();
    for _ in 0..30_000 {
        let frame = peer.recv();
        assert!(frame.command == Command::TX && frame.checksum_fits && frame.payload.len() == 250);
        distinct.insert(frame.payload);
    }
    assert!(distinct.len() > 10_000);
    assert!(peer.said().is_empty());
    assert!(other.said().is_empty());
}

#[test]
fn a_flood_on_command_goes_beside_the_answers() {
    let node = start();
    let mut peer = Peer::connect(&node);
    assert_eq!(node.flood(Flood::inventories(200, 1_000)).unwrap(), 1);
    peer.send(&ask_headers());
    let (mut floods, mut answered) = (0, false);
    while floods < 200 || !answered {
        let frame = peer.recv();
        match Message::decode(frame.command, &frame.payload).unwrap() {
            Message::Inv(items) => {
                assert_eq!(items.len(), 1_000);
                floods += 1;
            }
            Message::Headers(headers) => {
                assert_eq!(headers.len(), 3);
                answered = true;
            }
            other => panic!("{other:?} comes from nowhere"),
        }
    }
    assert_eq!(node.flood(Flood::headers(3, 2_000)).unwrap(), 1);
    for _ in 0..3 {
        let frame = peer.recv();
        let Ok(Message::Headers(headers)) = Message::decode(frame.command, &frame.payload) else { panic!() };
        assert!(headers.len() == 2_000 && headers.windows(2).all(|two| two[1].previous == two[0].hash()));
    }
    assert!(peer.said().is_empty());
}

#[test]
fn a_node_ends_while_it_floods_a_peer_that_does_not_read() {
    let node = start();
    let peer = Peer::connect(&node);
    node.flood(Flood::transactions(u64::MAX, 1_000)).unwrap();
    let began = Instant::now();
    drop(node);
    assert!(began.elapsed() < PATIENCE);
    drop(peer);
}

#[test]
fn a_node_listens_at_the_port_it_is_told() {
    // An address of its own, where nobody else takes the port meanwhile.
    let config = TestNodeConfig::default().ip(Ipv4Addr::new(127, 0, 17, 4));
    let port = TestNode::start(config.clone()).unwrap().address().port();
    let config = config.port(port);
    let node = TestNode::start(config.clone()).unwrap();
    assert_eq!(node.address().port(), port);
    let taken = TestNode::start(config).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
}
