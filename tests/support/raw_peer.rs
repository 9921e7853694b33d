//! A peer made of a std socket, which says exactly what a test makes it say.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use conduit::Network;
use conduit::message::{Message, Services, Version};
use conduit::wire::{Command, FrameDecoder, FrameHeader, FramePart, PayloadLimits};

use super::PATIENCE;

/// A listening socket whose connections are raw peers.
pub(crate) struct RawListener {
    address: SocketAddr,
    accepted: Receiver<TcpStream>,
}

impl RawListener {
    pub(crate) fn bind() -> Self {
        Self::greeting_with(&[])
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
        Self { address, accepted }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection, before its first byte.
    pub(crate) fn accept(&self) -> RawPeer {
        RawPeer::new(self.accepted.recv_timeout(PATIENCE).expect("a connection in time"))
    }

    /// The next connection, its handshake done.
    pub(crate) fn shake_hands(&self) -> RawPeer {
        let mut peer = self.accept();
        peer.shake_hands();
        peer
    }
}

/// One connection; every wait of it has a deadline.
pub(crate) struct RawPeer {
    stream: TcpStream,
    decoder: FrameDecoder,
    /// The frame whose payload is coming.
    begun: Option<(FrameHeader, Vec<u8>)>,
    arrived: VecDeque<Message>,
}

impl RawPeer {
    fn new(stream: TcpStream) -> Self {
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout that is not zero");
        let limits = PayloadLimits { general: u64::MAX, block: u64::MAX };
        let decoder = FrameDecoder::new(Network::Regtest.magic(), limits);
        Self { stream, decoder, begun: None, arrived: VecDeque::new() }
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
        self.send_bytes(&frame(message));
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
