//! A peer made by hand that dials a test node and says exactly what a test makes it say.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use conduit::Network;
use conduit::message::{Block, BlockHeader, Message, ProtoConf, Services, Transaction, Version};
use conduit::testnode::TestNode;
use conduit::wire::{Command, FrameDecoder, FramePart, PayloadLimits};

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A peer that dialled the node.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    pub(crate) magic: [u8; 4],
    decoder: FrameDecoder,
    got: VecDeque<Message>,
    /// Of the frame that is coming.
    payload: Vec<u8>,
    command: Option<Command>,
    next_nonce: u64,
}

impl Peer {
    /// Connects without a word.
    pub(crate) fn dial(node: &TestNode, network: &Network) -> Self {
        let stream = TcpStream::connect(node.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let limits = PayloadLimits { general: 1 << 30, block: 1 << 40 };
        Self {
            stream,
            magic: network.magic(),
            decoder: FrameDecoder::new(network.magic(), limits),
            got: VecDeque::new(),
            payload: Vec::new(),
            command: None,
            next_nonce: 1,
        }
    }

    /// Connects and shakes hands, up to the node's first ping.
    pub(crate) fn connect(node: &TestNode) -> Self {
        Self::connect_as(node, version(), true)
    }

    pub(crate) fn connect_as(node: &TestNode, version: Version, protoconf: bool) -> Self {
        let mut peer = Self::dial(node, &Network::Regtest);
        let headers_first = version.services.contains(Services::NETWORK);
        peer.send(&Message::from(version));
        peer.send(&Message::Verack);
        if protoconf {
            peer.send(&Message::ProtoConf(ProtoConf::new(2_097_152, "Default")));
        }
        peer.until(Command::PING);
        if headers_first {
            peer.until(Command::GETHEADERS);
        }
        peer
    }

    pub(crate) fn send(&mut self, message: &Message) {
        self.stream.write_all(&message.to_frame(self.magic)).unwrap();
    }

    /// All in one write.
    pub(crate) fn send_all(&mut self, messages: &[Message]) {
        let bytes: Vec<u8> = messages.iter().flat_map(|message| message.to_frame(self.magic).to_vec()).collect();
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next message; `None` once the node closed the connection.
    pub(crate) fn next(&mut self) -> Option<Message> {
        let mut buffer = vec![0; 65_536];
        while self.got.is_empty() {
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(n) => self.take(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("waiting for a message: {error}"),
            }
        }
        self.got.pop_front()
    }

    fn take(&mut self, mut input: &[u8]) {
        while let Some(part) = self.decoder.push(&mut input).unwrap() {
            match part {
                FramePart::Whole(header, payload) => {
                    self.got.push_back(Message::decode(header.command, payload).unwrap());
                }
                FramePart::Start(header) => self.command = Some(header.command),
                FramePart::Chunk(chunk) => self.payload.extend_from_slice(chunk),
                FramePart::End => {
                    let payload = std::mem::take(&mut self.payload);
                    self.got.push_back(Message::decode(self.command.take().unwrap(), &payload).unwrap());
                }
            }
        }
    }

    pub(crate) fn recv(&mut self) -> Message {
        self.next().expect("the node closed the connection")
    }

    pub(crate) fn until(&mut self, command: Command) -> Message {
        loop {
            let message = self.recv();
            if message.command() == command {
                return message;
            }
        }
    }

    /// What came before the node answered a ping sent now: everything it has to say to what was sent before.
    pub(crate) fn said(&mut self) -> Vec<Message> {
        self.next_nonce += 1;
        let nonce = self.next_nonce;
        self.send(&Message::Ping { nonce });
        let mut said = Vec::new();
        loop {
            match self.recv() {
                Message::Pong { nonce: n } if n == nonce => return said,
                message => said.push(message),
            }
        }
    }

    pub(crate) fn assert_closed(&mut self) {
        while let Some(message) = self.next() {
            assert_ne!(message.command(), Command::PONG, "the node still answers");
        }
    }
}

pub(crate) fn version() -> Version {
    Version::new(Services::NONE, 77, "/raw:1.0/", 0, 1_700_000_000)
}

pub(crate) fn without_relay() -> Version {
    let mut version = version();
    version.relay = Some(false);
    version
}

/// A block with these transactions on top of `previous`.
pub(crate) fn mined(previous: &Block, transactions: Vec<Transaction>) -> Block {
    let txids = transactions.iter().map(Transaction::txid);
    let header = BlockHeader {
        version: 0x2000_0000,
        previous: previous.hash(),
        merkle_root: conduit::block::merkle_root(txids).unwrap(),
        time: previous.header().time + 600,
        bits: 0x207f_ffff,
        nonce: 0,
    };
    let headers = (0..).map(|nonce| BlockHeader { nonce, ..header });
    let header = { headers }.find(|header| header.hash().as_wire()[31] <= 0x7e).unwrap();
    Block::new(header, transactions)
}
