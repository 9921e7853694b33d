//! The far ends: peers on plain `std` sockets, which shake hands as a node does and then do one thing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use conduit::message::{Message, Services, Version};
use conduit::wire::{Command, FrameDecoder, FrameHeader, FramePart, PayloadLimits};
use conduit::{Conduit, Config, PeerId};

use super::DEADLINE;
use super::payloads::network;

/// A conduit that is connected to these addresses, and its peers.
pub(crate) fn connect(addresses: &[SocketAddr]) -> (Conduit, Vec<PeerId>) {
    // Keepalive would only add bytes that nobody counts on.
    let config = Config::new(network()).ping_interval(DEADLINE * 100).stall_timeout(DEADLINE);
    let conduit = Conduit::new(config).expect("the settings are right");
    let peers = conduit.add_peers(addresses.iter().copied()).expect("few peers are added");
    conduit.start().expect("threads start");
    conduit.wait_for_peers(addresses.len(), DEADLINE).expect("the peers shake hands");
    (conduit, peers)
}

/// Listens on a free port of the loopback, and runs `serve` on a thread of its own with the first connection, after
/// the handshake if it is to be with a conduit.
pub(crate) fn listen(shakes_hands: bool, serve: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("a bound socket has an address");
    let run = move || {
        let (mut stream, _) = listener.accept().expect("somebody connects");
        prepare(&stream);
        if shakes_hands {
            shake_hands(&mut stream);
        }
        serve(stream);
    };
    std::thread::Builder::new().name("bench-peer".into()).spawn(run).expect("a thread starts");
    address
}

/// A plain connection, the limit's end.
pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the peer listens");
    prepare(&stream);
    stream
}

fn prepare(stream: &TcpStream) {
    stream.set_nodelay(true).expect("the socket is open");
    stream.set_read_timeout(None).expect("the socket is open");
    stream.set_write_timeout(Some(DEADLINE)).expect("no zero");
}

/// Shakes hands as the side that was dialled; done when the first ping, which ends the conduit's side, is answered.
fn shake_hands(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(DEADLINE)).expect("no zero");
    loop {
        let answers = match read_message(stream) {
            Message::Version(_) => {
                let version = Version::new(Services::NETWORK, 1, "/bench/", 0, 0);
                vec![Message::from(version), Message::Verack]
            }
            Message::Ping { nonce } => vec![Message::Pong { nonce }],
            _ => vec![],
        };
        for answer in &answers {
            stream.write_all(&answer.to_frame(network().magic())).expect("the conduit reads");
        }
        if let [Message::Pong { .. }] = answers[..] {
            break;
        }
    }
    stream.set_read_timeout(None).expect("the socket is open");
}

/// Reads exactly one message, so that what follows is left for others.
fn read_message(stream: &mut TcpStream) -> Message {
    let mut header = [0; FrameHeader::BASIC_LEN];
    stream.read_exact(&mut header).expect("a header comes");
    let header = FrameHeader::decode(&header, network().magic()).expect("it is one").expect("it is basic");
    let mut payload = vec![0; usize::try_from(header.length).expect("handshakes are short")];
    stream.read_exact(&mut payload).expect("the payload comes");
    Message::decode(header.command, &payload).expect("the conduit encodes well")
}

/// Peers that read and forget.
pub(crate) struct Sinks {
    pub(crate) addresses: Vec<SocketAddr>,
    sinks: Vec<Arc<Sink>>,
    done: Receiver<()>,
}

#[derive(Default)]
struct Sink {
    received: AtomicU64,
    /// Somebody hears when so much is received.
    goal: AtomicU64,
}

impl Sinks {
    pub(crate) fn new(count: usize, shake_hands: bool) -> Self {
        let (sender, done) = channel();
        let sinks: Vec<Arc<Sink>> = (0..count).map(|_| Arc::default()).collect();
        let serve = |sink: &Arc<Sink>| {
            let (sink, sender) = (sink.clone(), sender.clone());
            listen(shake_hands, move |stream| sink.read(stream, &sender))
        };
        Self { addresses: sinks.iter().map(serve).collect(), sinks, done }
    }

    /// Sets what each sink has to receive from now on; nothing may be under way.
    pub(crate) fn expect(&self, bytes: usize) {
        for sink in &self.sinks {
            sink.goal.store(sink.received.load(Ordering::SeqCst) + bytes as u64, Ordering::SeqCst);
        }
    }

    /// Waits until each has received what is expected.
    pub(crate) fn wait(&self) {
        for _ in &self.sinks {
            self.done.recv_timeout(DEADLINE).expect("the bytes arrive in time");
        }
    }
}

impl Sink {
    fn read(&self, mut stream: TcpStream, done: &Sender<()>) {
        let mut buffer = vec![0; 256 * 1_024];
        // A conduit that is shut down closes.
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            let before = self.received.fetch_add(n as u64, Ordering::SeqCst);
            let goal = self.goal.load(Ordering::SeqCst);
            let reached = before < goal && before + n as u64 >= goal;
            if reached && done.send(()).is_err() {
                return;
            }
        }
    }
}

/// A peer that sends the same bytes so many times when it is told to.
pub(crate) struct Source {
    pub(crate) address: SocketAddr,
    times: Sender<usize>,
}

impl Source {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let (sender, times) = channel();
        let address = listen(true, move |mut stream| {
            while let Ok(times) = times.recv() {
                for _ in 0..times {
                    if stream.write_all(&bytes).is_err() {
                        return;
                    }
                }
            }
        });
        Self { address, times: sender }
    }

    pub(crate) fn send(&self, times: usize) {
        self.times.send(times).expect("the peer lives");
    }
}

/// A peer that answers pings, and every `getdata` with the same frame.
pub(crate) fn answering(shake_hands: bool, answer: Vec<u8>) -> SocketAddr {
    listen(shake_hands, move |mut stream| {
        let limits = PayloadLimits { general: 1 << 20, block: 1 << 20 };
        let mut decoder = FrameDecoder::new(network().magic(), limits);
        let mut buffer = [0; 4_096];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            let mut input = &buffer[..n];
            while let Some(part) = decoder.push(&mut input).expect("the frames are right") {
                // One request at a time, so each arrives as a whole.
                let FramePart::Whole(header, payload) = part else { panic!("requests are small") };
                let sent = match header.command {
                    Command::GETDATA => stream.write_all(&answer),
                    Command::PING => {
                        let nonce = u64::from_le_bytes(payload.try_into().expect("a nonce has eight bytes"));
                        stream.write_all(&Message::Pong { nonce }.to_frame(network().magic()))
                    }
                    _ => Ok(()),
                };
                if sent.is_err() {
                    return;
                }
            }
        }
    })
}
