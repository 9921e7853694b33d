//! A peer made of a std socket, which says exactly what a test makes it say.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use conduit::Network;
use conduit::message::{Message, Services, Version};
use conduit::wire::{Command, FrameDecoder, FrameHeader, FramePart, PayloadLimits};

use super::PATIENCE;

/// A listening socket whose connections are raw peers.
pub(crate) struct RawListener {
    magic: [u8; 4],
    address: SocketAddr,
    accepted: Receiver<TcpStream>,
}

/// What a served peer does about a message.
pub(crate) enum Reply {
    Nothing,
    Send(Vec<u8>),
    /// Sends these bytes and closes the connection.
    Close(Vec<u8>),
}

/// What came to a served peer, handshake and pings included.
pub(crate) type Heard = Arc<Mutex<Vec<Message>>>;

impl RawListener {
    pub(crate) fn bind() -> Self {
        Self::greeting_with(&[])
    }

    /// The same on another network than regtest.
    pub(crate) fn of(network: &Network) -> Self {
        Self { magic: network.magic(), ..Self::bind() }
    }

    /// Sends these bytes to everybody who connects, before it is asked for anything.
    pub(crate) fn greeting_with(bytes: &'static [u8]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (sender, accepted) = mpsc::channel();
        // A thread, because std's accept knows no deadline. It ends with the first connection that nobody takes.
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                if stream.write_all(bytes).is_err() || sender.send(stream).is_err() {
                    return;
                }
            }
        });
        Self { magic: Network::Regtest.magic(), address, accepted }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection, before its first byte.
    pub(crate) fn accept(&self) -> RawPeer {
        RawPeer::new(self.accepted.recv_timeout(PATIENCE).expect("a connection in time"), self.magic)
    }

    /// The next connection, its handshake done.
    pub(crate) fn shake_hands(&self) -> RawPeer {
        let mut peer = self.accept();
        peer.shake_hands();
        peer
    }

    /// Serves connections, one after the other: does the handshake, answers pings, and all else as told.
    pub(crate) fn serve(
        self,
        version: Message,
        mut reply: impl FnMut(&Message) -> Reply + Send + 'static,
    ) -> Heard {
        let heard = Heard::default();
        let all = heard.clone();
        thread::spawn(move || {
            while let Ok(stream) = self.accepted.recv() {
                let mut peer = RawPeer::new(stream, self.magic);
                while let Ok(message) = peer.next() {
                    let frame = |message: &Message| message.to_frame(self.magic).to_vec();
                    let reply = match &message {
                        Message::Version(_) => Reply::Send([frame(&version), frame(&Message::Verack)].concat()),
                        Message::Ping { nonce } => Reply::Send(frame(&Message::Pong { nonce: *nonce })),
                        _ => reply(&message),
                    };
                    all.lock().expect("nobody panics with it").push(message);
                    let (bytes, ends) = match reply {
                        Reply::Nothing => continue,
                        Reply::Send(bytes) => (bytes, false),
                        Reply::Close(bytes) => (bytes, true),
                    };
                    if peer.stream.write_all(&bytes).is_err() || ends {
                        break;
                    }
                }
            }
        });
        heard
    }
}

/// One connection; every wait of it has a deadline.
pub(crate) struct RawPeer {
    magic: [u8; 4],
    stream: TcpStream,
    decoder: FrameDecoder,
    /// The frame whose payload is coming.
    begun: Option<(FrameHeader, Vec<u8>)>,
    arrived: VecDeque<Message>,
}

impl RawPeer {
    /// A connection to a node on regtest, before its first byte.
    pub(crate) fn dial(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).expect("a node that listens"), Network::Regtest.magic())
    }

    fn new(stream: TcpStream, magic: [u8; 4]) -> Self {
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout that is not zero");
        let limits = PayloadLimits { general: u64::MAX, block: u64::MAX };
        let decoder = FrameDecoder::new(magic, limits);
        Self { magic, stream, decoder, begun: None, arrived: VecDeque::new() }
    }

    /// A second handle of the socket, to read and write from two threads.
    pub(crate) fn stream(&self) -> TcpStream {
        self.stream.try_clone().expect("a file descriptor")
    }

    /// Waits for our version, then does its part of the handshake.
    pub(crate) fn shake_hands(&mut self) {
        self.expect(Command::VERSION);
        self.send(&version());
        self.send(&Message::Verack);
        self.expect(Command::VERACK);
        // The first ping says that the other side takes the handshake for done.
        self.expect(Command::PING);
    }

    pub(crate) fn send(&mut self, message: &Message) {
        let frame = message.to_frame(self.magic).to_vec();
        self.send_bytes(&frame);
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("a peer that reads");
    }

    /// The next message with this command; others before it are passed over.
    pub(crate) fn expect(&mut self, command: Command) -> Message {
        loop {
            match self.next() {
                Ok(message) if message.command() == command => return message,
                Ok(_) => {}
                Err(error) => panic!("no {command}: {error}"),
            }
        }
    }

    /// Sends a ping and waits for its pong.
    pub(crate) fn ping(&mut self, nonce: u64) {
        self.send(&Message::Ping { nonce });
        while self.expect(Command::PONG) != (Message::Pong { nonce }) {}
    }

    /// Reads on until the other side ends the connection.
    pub(crate) fn wait_until_closed(&mut self) {
        loop {
            match self.next() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => panic!("not closed: {error}"),
                Err(_) => return,
            }
        }
    }

    /// Ends the sending direction behind what was sent.
    pub(crate) fn end(&mut self) {
        // An error says that the other side was faster.
        drop(self.stream.shutdown(Shutdown::Write));
    }

    /// The next message, whatever it is.
    pub(crate) fn next(&mut self) -> io::Result<Message> {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = vec![0; 64 * 1_024];
        loop {
            if let Some(message) = self.arrived.pop_front() {
                return Ok(message);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.take(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, mut input: &[u8]) {
        while let Some(part) = self.decoder.push(&mut input).expect("we send whole frames") {
            match part {
                FramePart::Whole(header, payload) => self.arrived.push_back(decode(&header, payload)),
                FramePart::Start(header) => self.begun = Some((header, Vec::new())),
                FramePart::Chunk(chunk) => {
                    self.begun.as_mut().expect("a chunk follows a start").1.extend_from_slice(chunk);
                }
                FramePart::End => {
                    let (header, payload) = self.begun.take().expect("an end follows a start");
                    self.arrived.push_back(decode(&header, &payload));
                }
            }
        }
    }
}

fn decode(header: &FrameHeader, payload: &[u8]) -> Message {
    assert_eq!(header.checksum, Some(conduit::wire::checksum(payload)), "of {}", header.command);
    Message::decode(header.command, payload).expect("we send what can be read")
}

/// The `version` a raw peer sends.
pub(crate) fn version() -> Message {
    Message::from(Version::new(Services::NETWORK, 7, "/raw peer/", 0, 0))
}

/// A message as it goes over the wire.
pub(crate) fn frame(message: &Message) -> Vec<u8> {
    message.to_frame(Network::Regtest.magic()).to_vec()
}

/// A frame with a right header around any payload.
pub(crate) fn frame_of(command: Command, payload: &[u8]) -> Vec<u8> {
    let checksum = conduit::wire::checksum(payload);
    let mut bytes = header(command, payload.len() as u64, checksum);
    bytes.extend_from_slice(payload);
    bytes
}

/// A header that announces what need not follow.
pub(crate) fn header(command: Command, length: u64, checksum: [u8; 4]) -> Vec<u8> {
    let mut bytes = Vec::new();
    FrameHeader::new(Network::Regtest.magic(), command, length, checksum).encode(&mut bytes);
    bytes
}
