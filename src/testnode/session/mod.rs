//! The reader of one connection: takes its bytes, answers its messages in the order they came.
//!
//! Sections 2 to 5 of the wire specification.

mod breaches;
mod compact;
mod data;
mod headers;
mod transactions;
mod wishes;

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::compact::Awaited;
use super::faults::Reception;
use super::line::Line;
use super::node::{News, Node};
use super::sieve::{Fate, Sieve, Sifted, Step};
use super::{LOG, now, unix};
use crate::message::{
    AuthCh, BlockHeader, Message, NetworkAddress, Reject, RejectCode, SendCmpct, Services, TimestampedAddress,
    Version,
};
use crate::proto::{Event, FrameBatch, Link, ProtocolError, Stream, stream_of};
use crate::wire::{
    BlockHash, Command, DecodeError, Frame, FrameError, FrameHeader, PayloadLimits, SharedBytes, sha256d,
};

/// One connection as its reader thread has it.
#[derive(Debug)]
pub(super) struct Session {
    node: Arc<Node>,
    line: Arc<Line>,
    /// The line that this one has joined.
    first: Option<Arc<Line>>,
    link: Link,
    sieve: Sieve,
    established: bool,
    addresses_told: bool,
    /// The misbehaviour score; at 100 the peer is disconnected.
    score: u32,
    /// How many challenges and answers to challenges it sent.
    proofs: u32,
    /// The last of the 500 blocks that `getblocks` was answered with, until it is fetched.
    last_listed: Option<BlockHash>,
    /// Blocks to ask the peer for, in order, whose headers it sent.
    wanted: VecDeque<BlockHash>,
    /// Always the blocks in `wanted`, to look them up.
    in_wanted: HashSet<BlockHash>,
    /// Blocks it was asked for.
    requested: HashSet<BlockHash>,
    /// The compact block it was asked for transactions of.
    awaited: Option<Awaited>,
    /// When it was asked for headers that did not come yet.
    headers_asked: Option<Instant>,
    /// It answers when asked for headers, so one question at a time is enough.
    has_headers: bool,
    /// How many times in a row its headers began with one that does not connect.
    unconnected: u32,
    /// It announced blocks while headers or blocks were still to come: it is asked again once they are here.
    has_more: bool,
    /// Transactions taken from the bytes at hand, still to be announced to others.
    news: Vec<News>,
    /// The handshake ended in the bytes at hand, and what follows in them is not answered.
    fell_silent: bool,
    /// What to say to messages from the bytes at hand that are rejected unread.
    rejections: VecDeque<(RejectCode, String)>,
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    Protocol(ProtocolError),
    Socket(io::Error),
    /// The peer closed it, or this side did.
    Closed,
    /// The peer broke a rule for which nodes disconnect.
    Punished(&'static str),
}

impl Session {
    pub(super) fn new(node: Arc<Node>, line: Arc<Line>, link: Link, limits: PayloadLimits) -> Self {
        let sieve = Sieve::new(node.magic, limits);
        Self {
            node,
            line,
            first: None,
            link,
            sieve,
            established: false,
            addresses_told: false,
            score: 0,
            proofs: 0,
            last_listed: None,
            wanted: VecDeque::new(),
            in_wanted: HashSet::new(),
            requested: HashSet::new(),
            awaited: None,
            headers_asked: None,
            has_headers: false,
            unconnected: 0,
            has_more: false,
            news: Vec::new(),
            fell_silent: false,
            rejections: VecDeque::new(),
        }
    }

    /// The reader thread.
    pub(super) fn run(mut self) {
        let remote = self.line.remote;
        log::debug!(target: LOG, "{remote}: connected");
        if let Err(end) = self.read_on() {
            log::debug!(target: LOG, "{remote}: {end}");
        }
        self.line.close();
        // Without one of its connections there is no association.
        let second = self.line.state().second.take();
        if let Some(other) = self.first.take().or(second) {
            other.close();
        }
        self.node.closed(&self.line);
        self.line.join_writer();
    }

    fn read_on(&mut self) -> Result<(), End> {
        // The dialling side's version waits to go.
        self.line.flush();
        let mut buffer = vec![0; READ_LEN];
        let mut timeout = Duration::MAX;
        loop {
            self.wait_until_reading()?;
            let due = self.line.state().proto.poll_timeout();
            let left = due.map_or(IDLE, |due| due.saturating_duration_since(now()).clamp(SHORTEST_WAIT, IDLE));
            // Deadlines move with every byte; setting it anew each time would cost more than an answer.
            if left < timeout / 2 {
                timeout = left;
                self.line.stream().set_read_timeout(Some(timeout))?;
            }
            match self.line.stream().read(&mut buffer) {
                Ok(0) => return Err(End::Closed),
                Ok(n) => {
                    // Told to stop meanwhile, it has not read these bytes.
                    self.wait_until_reading()?;
                    self.take(&buffer[..n])?;
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => timeout = Duration::MAX,
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error.into()),
                },
            }
            if !self.line.is_silent() {
                self.line.state().proto.handle_timeout(now())?;
            }
            self.line.flush();
        }
    }

    fn wait_until_reading(&self) -> Result<(), End> {
        if self.node.switches.is_not_reading() {
            let mut state = self.line.state();
            while self.node.switches.is_not_reading() && !state.closed {
                self.line.wait(&mut state);
            }
        }
        if self.node.switches.is_stopped() { Err(End::Closed) } else { Ok(()) }
    }

    fn take(&mut self, input: &[u8]) -> Result<(), End> {
        let mut sifted = Sifted::default();
        let (line, rejections) = (&self.line, &mut self.rejections);
        let is_silent = line.is_silent();
        self.fell_silent = false;
        let fate = |command| match if is_silent { Reception::Ignore } else { line.receive(command) } {
            Reception::Ignore => Fate::Drop,
            Reception::Reject(code, reason) => {
                rejections.push_back((code, reason));
                Fate::Reject
            }
            Reception::Heed if command == Command::PING => Fate::Ping,
            Reception::Heed => Fate::Pass,
        };
        let result = self.sieve.sift(input, fate, &mut sifted);
        if !sifted.arrived.is_empty() {
            let mut world = self.node.world.lock();
            for (command, count) in &sifted.arrived {
                *world.received.entry(*command).or_default() += count;
            }
            self.node.changed.notify_all();
        }
        let taken = sifted.steps.into_iter().try_for_each(|step| match step {
            Step::Pass(range) => self.pass(&input[range]),
            Step::PassHeader(header) => self.pass_frame(&header, &[]),
            Step::Version(header, payload) => {
                self.introduced(&payload)?;
                self.pass_frame(&header, &payload)
            }
            Step::Ping(payload) => self.ping(&payload),
            Step::Reject(command, payload) => self.reject_unread(command, &payload),
            Step::Early(stage, command, payload) => self.out_of_turn(stage, command, &payload),
        });
        self.node.announce_transactions(&std::mem::take(&mut self.news));
        taken?;
        Ok(result?)
    }

    /// Gives bytes to the connection and deals with what comes out.
    fn pass(&mut self, bytes: &[u8]) -> Result<(), End> {
        let mut input = bytes;
        loop {
            let mut events = Vec::new();
            let mut state = self.line.state();
            let result = state.proto.handle_bytes(now(), unix(), &mut input);
            while let Some(event) = state.proto.poll_event() {
                if let Event::Established(_) = &event {
                    self.line.send_ahead(&mut state, PING_FRAME_LEN, &self.greeting());
                }
                events.push(event);
            }
            if state.proto.wants_room().is_some() {
                // The node takes whatever its memory holds.
                state.proto.grant_room();
            }
            drop(state);
            events.into_iter().try_for_each(|event| self.event(event))?;
            if let Err(error) = result {
                self.explain(&error)?;
                return Err(error.into());
            }
            if input.is_empty() {
                return Ok(());
            }
        }
    }

    /// Gives a header, and bytes behind it, to the connection.
    fn pass_frame(&mut self, header: &FrameHeader, payload: &[u8]) -> Result<(), End> {
        let mut bytes = Vec::with_capacity(FrameHeader::EXTENDED_LEN + payload.len());
        header.encode(&mut bytes);
        bytes.extend_from_slice(payload);
        self.pass(&bytes)
    }

    /// What goes out once the peer's `verack` is there, before the first ping (section 3.1).
    fn greeting(&self) -> Vec<Frame> {
        let challenge = sha256d(&self.line.whom.line.to_le_bytes()).to_vec();
        let mut messages = Vec::new();
        if self.link == Link::Outbound {
            messages.push(Message::GetAddr);
        }
        messages.push(Message::AuthCh(AuthCh { version: 1, challenge }));
        messages.push(Message::SendHeaders);
        messages.push(Message::SendCmpct(SendCmpct { announce: false, version: 1 }));
        messages.iter().map(|message| message.to_frame(self.node.magic)).collect()
    }

    fn event(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Established(version) => return self.begin(&version),
            Event::Association(id) => {
                self.node.world.lock().associations.insert(id, self.line.whom.line);
            }
            Event::Joined => {}
            Event::Frames(_) if self.fell_silent => {}
            Event::Frames(batch) => return self.frames(batch),
            Event::Limits(limits) => {
                let ours = 4 * u64::from(self.node.config.max_recv_payload_length);
                let bytes = limits.of(Command::INV).min(ours);
                let peer = &mut self.known().state().peer;
                peer.payload_limit = bytes;
                // At most 4 GiB by 36.
                peer.inventory_limit = (bytes.saturating_sub(8) / 36).max(1) as usize;
            }
            Event::RoundTrip(_) | Event::Ponged { .. } | Event::StrayPong { .. } | Event::Oversized { .. } => {}
            // The node streams no blocks.
            Event::BlockBegin { .. } | Event::BlockBytes { .. } | Event::BlockEnd { .. } => {}
        }
        Ok(())
    }

    fn begin(&mut self, version: &Version) -> Result<(), End> {
        self.established = true;
        // First here: who sees the connection counted may announce to it.
        self.known().state().peer.established = true;
        self.node.established(&self.line)?;
        self.fell_silent = self.line.is_silent();
        if self.fell_silent {
            return Ok(());
        }
        self.line.tell_fee_filter();
        if version.services.contains(Services::NETWORK) { self.ask_headers(BlockHash::ZERO) } else { Ok(()) }
    }

    fn ping(&mut self, payload: &[u8]) -> Result<(), End> {
        if self.fell_silent {
            return Ok(());
        }
        match payload.first_chunk() {
            Some(nonce) => self.send(&Message::Pong { nonce: u64::from_le_bytes(*nonce) }),
            None => self.malformed(Command::PING, &DecodeError::UnexpectedEnd),
        }
    }

    fn frames(&mut self, batch: FrameBatch) -> Result<(), End> {
        let bytes = SharedBytes::from(batch.bytes);
        for frame in batch.frames {
            let payload = bytes.slice(frame.payload).expect("a batch's ranges lie in its bytes");
            let digest = sha256d(&payload);
            if frame.checksum.is_some_and(|expected| digest[..4] != expected) {
                // Nodes drop it and say nothing.
                continue;
            }
            match Message::decode_shared(frame.command, payload, Some(&digest)) {
                Ok(message) => self.message(message)?,
                Err(error) => self.malformed(frame.command, &error)?,
            }
        }
        Ok(())
    }

    fn message(&mut self, message: Message) -> Result<(), End> {
        match message {
            Message::GetHeaders(request) => self.answer_headers(&request),
            Message::GetData(items) => self.answer_data(&items),
            Message::GetAddr => self.answer_addresses(),
            Message::Inv(items) => self.inventory(&items),
            Message::Tx(transaction) => self.transaction(&transaction),
            Message::Headers(headers) => self.headers(&headers),
            Message::Block(block) => self.block(&block),
            Message::CmpctBlock(compact) => self.compact_block(&compact),
            Message::BlockTxn(answer) => self.block_transactions(&answer),
            Message::NotFound(items) => {
                self.not_found(&items);
                Ok(())
            }
            Message::GetHdrsEn(request) => self.answer_enriched_headers(request),
            Message::GetBlocks(request) => self.answer_blocks(&request),
            Message::GetBlockTxn(request) => self.answer_block_transactions(&request),
            Message::Mempool { age_seconds } => self.answer_mempool(age_seconds),
            Message::SendHeaders => self.wants_headers(),
            Message::SendHdrsEn => self.wants_enriched_headers(),
            Message::SendCmpct(wish) => {
                self.wants_compact_blocks(wish);
                Ok(())
            }
            Message::FeeFilter { satoshis_per_kilobyte } => {
                self.wants_fees(satoshis_per_kilobyte);
                Ok(())
            }
            Message::FilterLoad(load) => self.load_filter(load),
            Message::FilterAdd(add) => self.add_to_filter(&add),
            Message::FilterClear => {
                self.clear_filter();
                Ok(())
            }
            Message::AuthCh(_) => self.challenged(),
            Message::AuthResp(_) => self.refuse_proof(),
            Message::DsDetected(notice) => self.double_spend(notice),
            _ => Ok(()),
        }
    }

    fn answer_addresses(&mut self) -> Result<(), End> {
        let addresses = &self.node.config.addresses;
        if self.link != Link::Inbound || std::mem::replace(&mut self.addresses_told, true) || addresses.is_empty() {
            return Ok(());
        }
        let time = u32::try_from(unix()).unwrap_or(u32::MAX);
        let services = Services::NETWORK | Services::BITCOIN_CASH;
        let told = addresses
            .iter()
            .take(MAX_ADDRESSES)
            .map(|address| TimestampedAddress { time, address: NetworkAddress::new(services, *address) });
        self.send(&Message::Addr(told.collect()))
    }

    fn reject(&mut self, command: Command, code: RejectCode, reason: String, hash: [u8; 32]) -> Result<(), End> {
        let (message, reason) = (command.as_str().into(), reason.into());
        self.send(&Reject { message, code, reason, hash: Some(hash) }.into())
    }

    /// Rejects a message on command.
    fn reject_unread(&mut self, command: Command, payload: &[u8]) -> Result<(), End> {
        let (code, reason) = self.rejections.pop_front().expect("every rejection has its words");
        if self.fell_silent {
            return Ok(());
        }
        let command = match (command, code) {
            // A node has the same words for both.
            (Command::GETBLOCKTXN, RejectCode::TooBusy) => Command::GETDATA,
            _ => command,
        };
        let hash = match command {
            Command::TX => Some(sha256d(payload)),
            Command::BLOCK => payload.get(..BlockHeader::LEN).map(sha256d),
            _ => None,
        };
        let (message, reason) = (command.as_str().into(), reason.into());
        let reject = Message::from(Reject { message, code, reason, hash });
        self.send_at_once(&reject)
    }

    /// Sends a message at any stage of the handshake.
    fn send_at_once(&mut self, message: &Message) -> Result<(), End> {
        if self.established {
            return self.send(message);
        }
        // What is queued waits for the handshake, which may never end now.
        if self.line.send_bytes(&message.to_frame(self.line.magic)) { Ok(()) } else { Err(End::Closed) }
    }

    fn send(&mut self, message: &Message) -> Result<(), End> {
        self.send_over(stream_of(message), |line| line.answer(message.to_frame(line.magic)))
    }

    /// Sends over one of the peer's lines, which tells whether it is still open.
    fn send_over(&self, stream: Stream, send: impl FnOnce(&Arc<Line>) -> bool) -> Result<(), End> {
        let other = match stream {
            Stream::General => self.first.clone(),
            Stream::Data1 => self.line.second(),
        };
        let sent = send(other.as_ref().unwrap_or(&self.line));
        if let Some(other) = other {
            // Ours goes once all that has come is answered.
            other.flush();
        }
        if sent { Ok(()) } else { Err(End::Closed) }
    }

    /// The line that has what is known of the peer.
    fn known(&self) -> &Arc<Line> {
        self.first.as_ref().unwrap_or(&self.line)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(error) => error.fmt(f),
            Self::Socket(error) => error.fmt(f),
            Self::Closed => f.write_str("closed"),
            Self::Punished(reason) => write!(f, "disconnected for {reason}"),
        }
    }
}

impl From<ProtocolError> for End {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        Self::Protocol(error.into())
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

/// The longest wait for bytes when nothing is due.
const IDLE: Duration = Duration::from_secs(60 * 60);
/// The shortest one, so that a deadline which passed in silence makes nobody spin.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const READ_LEN: usize = 128 * 1_024;
/// A header and a nonce.
const PING_FRAME_LEN: usize = FrameHeader::BASIC_LEN + 8;
/// `MAX_ADDR_TO_SEND` of the node.
const MAX_ADDRESSES: usize = 1_000;
const FINISH_LIMIT: Duration = Duration::from_secs(1);
