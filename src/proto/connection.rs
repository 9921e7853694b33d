//! One connection to one peer: the handshake, the frames that arrive, the frames that leave.
//!
//! Layer 3. Sections 3.1 to 3.5 of the wire specification.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::association::{AssociationId, BLOCK_PRIORITY};
use super::batch::FrameBatch;
use super::keepalive::{Due, Keepalive, Part};
use super::outbox::{Outbox, Sent};
use super::{FrameRun, Link, PeerLimits, ProtocolError, Settings, Tally};
use crate::message::{CreateStrm, Message, NetworkAddress, ProtoConf, Services, StreamAck, StreamType, Version};
use crate::peer::StreamId;
use crate::wire::{BlockHash, Command, Frame, FrameDecoder, FrameError, FrameHeader, FramePart, sha256d};

/// The state machine of one connection; no I/O, no clock.
///
/// After every call that takes `now`, drain [`poll_event`](Self::poll_event) to `None`.
#[derive(Debug)]
pub(crate) struct Connection {
    settings: Arc<Settings>,
    link: Link,
    remote: SocketAddr,
    nonce: u64,
    decoder: FrameDecoder,
    payload: Payload,
    /// Blocks whose payloads go to streams, in the order asked.
    expected: Vec<(BlockHash, StreamId)>,
    batch: FrameBatch,
    events: VecDeque<Event>,
    outbox: Outbox,
    /// When the socket last took bytes, or the first ones began to wait.
    progress: Option<Instant>,
    /// Since when we do not read by our own choice.
    paused_at: Option<Instant>,
    stage: Stage,
    handshake_deadline: Instant,
    keepalive: Keepalive,
    got_protoconf: bool,
    /// What the association is called, if there may be one: the id that our `version` names.
    association: Option<AssociationId>,
    /// The peer's `version` has the same one.
    is_shared: bool,
    /// The peer knows the policy of two connections.
    knows_policy: bool,
    /// A ping that another connection sent, and whose pong may come here.
    stray_ping: Option<u64>,
    /// It joins another one, which hears of the pongs.
    joins: bool,
    /// Room granted to payloads that ended here, so that no batch carries it.
    unused_room: usize,
    control: Control,
}

/// Messages of handshake and keepalive that nobody else sees.
#[derive(Debug, Default)]
pub(crate) struct Control {
    pub(crate) received: Tally,
    pub(crate) sent: Tally,
}

/// What a connection has to tell.
#[derive(Debug)]
pub(crate) enum Event {
    /// The handshake is done; this was the peer's `version`.
    Established(Box<Version>),
    /// The peer would take a second connection, which joins this one under that name; comes once. Who was dialled tells so
    /// as soon as it has agreed to the name.
    Association(AssociationId),
    /// This connection has joined another one.
    Joined,
    /// Frames for the message thread.
    Frames(FrameBatch),
    /// The peer's `protoconf` says what it takes.
    Limits(PeerLimits),
    /// A keepalive ping came back after this long.
    RoundTrip(std::time::Duration),
    /// A keepalive ping came back, which this connection, joined to another one, had sent then.
    Ponged { asked: Instant },
    /// The other connection's keepalive ping came back here.
    StrayPong { nonce: u64 },
    /// A payload above the stream threshold has begun and is being skipped; `start` has its first bytes (80 of a
    /// block).
    Oversized { command: Command, length: u64, start: Vec<u8> },
    /// The payload of a block for a stream has begun.
    BlockBegin { stream: StreamId, hash: BlockHash, length: u64, checksum: Option<[u8; 4]> },
    /// The next bytes of it, its header among the first.
    BlockBytes { bytes: Vec<u8> },
    /// It is complete.
    BlockEnd { stream: StreamId },
}

/// How far the handshake is.
#[derive(Debug)]
enum Stage {
    AwaitVersion,
    AwaitVerack(Box<Version>),
    /// It joins another one.
    AwaitAck(AssociationId),
    Established,
}

/// The payload of a frame that arrives in pieces.
#[derive(Debug)]
enum Payload {
    None,
    /// A block of which not enough has come to say which one it is; only while a stream waits for one.
    Identify {
        header: FrameHeader,
        start: Vec<u8>,
    },
    /// A block for a stream.
    Stream(StreamId),
    /// A large payload waits until room for it is granted; of one that had to be identified, `start` has come.
    AwaitRoom {
        header: FrameHeader,
        start: Vec<u8>,
    },
    Gather {
        header: FrameHeader,
        bytes: Vec<u8>,
        reserved: usize,
    },
    /// Above the stream threshold: only the first bytes are kept.
    Skip {
        header: FrameHeader,
        start: Vec<u8>,
        told: bool,
    },
}

impl Connection {
    /// Begins a connection just made; the dialling side queues its `version`.
    ///
    /// `nonce` is random; `unix` is the wall clock in seconds, for `version`. `association` is how the dialling side would
    /// call an association.
    pub(crate) fn new(
        settings: Arc<Settings>,
        link: Link,
        remote: SocketAddr,
        nonce: u64,
        association: Option<AssociationId>,
        now: Instant,
        unix: i64,
    ) -> Self {
        let mut connection = Self::at_stage(Stage::AwaitVersion, settings, link, remote, nonce, now);
        connection.association = association;
        if link == Link::Outbound {
            connection.send_version(now, unix);
        }
        connection
    }

    /// Begins a connection just made that is to join another one to the same peer, on which a ping may be out.
    pub(crate) fn join(
        settings: Arc<Settings>,
        remote: SocketAddr,
        nonce: u64,
        association: AssociationId,
        stray_ping: Option<u64>,
        now: Instant,
    ) -> Self {
        let stage = Stage::AwaitAck(association);
        let mut connection = Self::at_stage(stage, settings, Link::Outbound, remote, nonce, now);
        // It comes on the first one.
        connection.got_protoconf = true;
        connection.stray_ping = stray_ping;
        connection.joins = true;
        let ask = CreateStrm {
            association_id: association.as_bytes().to_vec(),
            stream_type: StreamType::Data1,
            stream_policy: BLOCK_PRIORITY.into(),
        };
        connection.send_urgent(now, &Message::CreateStrm(Box::new(ask)));
        connection
    }

    fn at_stage(
        stage: Stage,
        settings: Arc<Settings>,
        link: Link,
        remote: SocketAddr,
        nonce: u64,
        now: Instant,
    ) -> Self {
        Self {
            link,
            remote,
            nonce,
            decoder: FrameDecoder::new(settings.magic, settings.payload_limits()),
            payload: Payload::None,
            expected: Vec::new(),
            batch: FrameBatch::default(),
            events: VecDeque::new(),
            outbox: Outbox::default(),
            progress: None,
            paused_at: None,
            stage,
            handshake_deadline: now + settings.handshake_timeout,
            keepalive: Keepalive::new(now, settings.ping_interval, settings.ping_timeout),
            got_protoconf: false,
            association: None,
            is_shared: false,
            knows_policy: false,
            stray_ping: None,
            joins: false,
            unused_room: 0,
            control: Control::default(),
            settings,
        }
    }

    /// Accepts a connection just made, which was to join another one.
    #[cfg(feature = "testnode")]
    pub(crate) fn accept(&mut self, now: Instant, ack: StreamAck) {
        self.got_protoconf = true;
        self.send_urgent(now, &Message::StreamAck(ack));
        self.establish(now, Event::Joined);
    }

    /// Takes bytes from the socket; what is not consumed must be given again once [`wants_read`](Self::wants_read).
    ///
    /// # Errors
    ///
    /// What the peer did wrong; the connection is over then. The events tell what came before it.
    pub(crate) fn handle_bytes(&mut self, now: Instant, unix: i64, input: &mut &[u8]) -> Result<(), ProtocolError> {
        if !input.is_empty() {
            self.keepalive.received(now, input.len());
        }
        let result = self.take_parts(now, unix, input);
        self.flush_batch();
        result
    }

    /// Does what is due at `now`; an early call does nothing.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::HandshakeTimeout`], [`ProtocolError::PingTimeout`], [`ProtocolError::Stalled`].
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), ProtocolError> {
        if !self.is_established() {
            return if now >= self.handshake_deadline { Err(ProtocolError::HandshakeTimeout) } else { Ok(()) };
        }
        if self.stall_deadline().is_some_and(|deadline| now >= deadline) {
            return Err(ProtocolError::Stalled);
        }
        match self.keepalive.due(now) {
            Due::Nothing => {}
            Due::Dead => return Err(ProtocolError::PingTimeout),
            Due::Ping => self.send_ping(now),
        }
        Ok(())
    }

    /// Queues a frame; it leaves after the handshake, in order.
    pub(crate) fn send(&mut self, now: Instant, frame: Frame) {
        self.outbox.push(frame);
        self.note_waiting(now);
    }

    /// Queues frames that other peers get, too; they leave after the handshake, in order.
    pub(crate) fn send_run(&mut self, now: Instant, run: Arc<FrameRun>) {
        self.outbox.push_run(run);
        self.note_waiting(now);
    }

    /// The next thing to tell.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if !self.is_established() {
            return Some(self.handshake_deadline);
        }
        [self.keepalive.next_deadline(), self.stall_deadline()].into_iter().flatten().min()
    }

    /// Fills `slices` with the next bytes for the socket; returns how many slices were filled.
    pub(crate) fn pending<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.outbox.pending(slices)
    }

    /// Bytes that wait for the socket.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.outbox.pending_bytes()
    }

    /// Bytes queued by [`send`](Self::send) that have not left, also while the handshake holds them back.
    #[cfg(feature = "testnode")]
    pub(crate) fn queued_bytes(&self) -> usize {
        self.outbox.normal_bytes()
    }

    /// Notes that the socket took `n` bytes; tells which of them had come through [`send`](Self::send).
    pub(crate) fn mark_sent(&mut self, now: Instant, n: usize) -> Sent {
        let sent = self.outbox.mark_sent(n);
        self.keepalive.sent(now, sent.urgent);
        self.progress = (self.outbox.pending_bytes() > 0).then_some(now);
        sent
    }

    /// Whether the peer's bytes may be taken; if not, they stay in the kernel.
    pub(crate) fn wants_read(&self) -> bool {
        self.may_take_more()
    }

    /// Bytes of room a large payload waits for; [`grant_room`](Self::grant_room) lets it go on.
    pub(crate) fn wants_room(&self) -> Option<usize> {
        match &self.payload {
            Payload::AwaitRoom { header, .. } => usize::try_from(header.length).ok(),
            _ => None,
        }
    }

    /// Lets the waiting payload be taken.
    pub(crate) fn grant_room(&mut self) {
        if let Payload::AwaitRoom { header, start } = &mut self.payload {
            // At most the stream threshold, which is a size of memory.
            let reserved = usize::try_from(header.length).unwrap_or(usize::MAX);
            self.payload = Payload::Gather { header: *header, bytes: std::mem::take(start), reserved };
        }
    }

    /// Gives a block with this hash to a stream; the events tell of it.
    pub(crate) fn expect_block(&mut self, hash: BlockHash, stream: StreamId) {
        self.expected.push((hash, stream));
    }

    /// No stream waits any more for the blocks that do not pass.
    pub(crate) fn retain_expected(&mut self, keep: impl Fn(StreamId) -> bool) {
        self.expected.retain(|&(_, stream)| keep(stream));
    }

    /// The blocks that streams wait for.
    pub(crate) fn expected(&self) -> &[(BlockHash, StreamId)] {
        &self.expected
    }

    /// Sets what this connection does for the keepalive where there are two to the same peer.
    pub(crate) fn set_keepalive(&mut self, now: Instant, part: Part) {
        self.keepalive.set_part(now, part);
    }

    /// The nonce of the keepalive ping that is out.
    pub(crate) fn ping_out(&self) -> Option<u64> {
        self.keepalive.nonce()
    }

    /// Sets the other connection's keepalive ping, whose pong may come here.
    pub(crate) fn set_stray_ping(&mut self, nonce: Option<u64>) {
        self.stray_ping = nonce;
    }

    /// Takes the pong to this connection's ping that came on the other one.
    pub(crate) fn take_stray_pong(&mut self, now: Instant, nonce: u64) {
        if self.keepalive.expects(nonce) {
            // The round trip is no sample: it may have waited behind a block.
            self.keepalive.ponged(now);
        }
    }

    /// Notes that the connection which joins this one got the pong to a ping that it had sent at `asked`.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::PingTimeout`] if this one's should have come long before.
    pub(crate) fn note_other_pong(&self, asked: Instant) -> Result<(), ProtocolError> {
        if self.keepalive.is_outlived(asked) { Err(ProtocolError::PingTimeout) } else { Ok(()) }
    }

    /// Takes the room of payloads that ended here, to be given back; zero most of the time.
    pub(crate) fn take_unused_room(&mut self) -> usize {
        std::mem::take(&mut self.unused_room)
    }

    /// Takes the counts of messages dealt with here since the last time; `None` most of the time.
    pub(crate) fn take_control(&mut self) -> Option<Control> {
        let is_empty = self.control.received.is_empty() && self.control.sent.is_empty();
        (!is_empty).then(|| std::mem::take(&mut self.control))
    }

    /// Bytes of granted room that no batch carries yet.
    pub(crate) fn reserved(&self) -> usize {
        let gathering = match &self.payload {
            Payload::Gather { reserved, .. } => *reserved,
            _ => 0,
        };
        gathering + self.unused_room
    }

    /// Tells that reading stops or goes on by our own choice, so that deadlines that judge the peer stand still.
    pub(crate) fn set_reading(&mut self, now: Instant, reading: bool) {
        self.keepalive.set_reading(now, reading);
        if !reading {
            self.paused_at.get_or_insert(now);
        } else if let Some(paused_at) = self.paused_at.take() {
            // A peer may read nothing while we do not take its answers, so that time does not count.
            self.progress = self.progress.map(|since| since + now.saturating_duration_since(since.max(paused_at)));
        }
    }

    /// Whether the handshake is done.
    pub(crate) fn is_established(&self) -> bool {
        matches!(self.stage, Stage::Established)
    }

    fn take_parts(&mut self, now: Instant, unix: i64, input: &mut &[u8]) -> Result<(), ProtocolError> {
        while self.may_take_more() {
            // What comes behind the first bytes of a block may have to wait for room.
            let most = match &self.payload {
                Payload::Identify { start, .. } => START_LEN - start.len(),
                _ => usize::MAX,
            };
            let (mut front, back) = input.split_at(most.min(input.len()));
            let part = self.decoder.push(&mut front)?;
            *input = &input[input.len() - back.len() - front.len()..];
            let Some(part) = part else { break };
            match part {
                FramePart::Whole(header, payload) => self.whole(now, unix, &header, payload, input.len())?,
                FramePart::Start(header) => self.start(header),
                FramePart::Chunk(chunk) => self.chunk(chunk),
                FramePart::End => self.end(now, unix)?,
            }
        }
        Ok(())
    }

    fn may_take_more(&self) -> bool {
        // A peer that does not take our pongs is not read, so it cannot make us hold ever more of them.
        !matches!(self.payload, Payload::AwaitRoom { .. }) && self.outbox.urgent_bytes() <= URGENT_LIMIT
    }

    fn whole(
        &mut self,
        now: Instant,
        unix: i64,
        header: &FrameHeader,
        payload: &[u8],
        input_left: usize,
    ) -> Result<(), ProtocolError> {
        if let Some((hash, stream)) = self.take_expected(header, payload) {
            self.begin_stream(stream, hash, header, payload);
            return self.end(now, unix);
        }
        if header.length > self.settings.stream_threshold {
            self.payload = self.unstreamed(*header, Vec::new());
            self.chunk(payload);
            return self.end(now, unix);
        }
        if self.handle_control(now, unix, header, payload)? {
            return Ok(());
        }
        self.batch.push(header, payload, payload.len() + input_left);
        if self.batch.is_full() {
            self.flush_batch();
        }
        Ok(())
    }

    fn start(&mut self, header: FrameHeader) {
        let may_be_streamed = header.command == Command::BLOCK && header.length >= START_LEN as u64;
        self.payload = if may_be_streamed && !self.expected.is_empty() {
            Payload::Identify { header, start: Vec::with_capacity(START_LEN) }
        } else {
            self.unstreamed(header, Vec::new())
        };
    }

    /// What becomes of a payload of which `start` has come, and no stream wants it.
    fn unstreamed(&self, header: FrameHeader, start: Vec<u8>) -> Payload {
        if header.length > self.settings.stream_threshold {
            Payload::Skip { header, start, told: false }
        } else if header.length > UNRESERVED_LEN {
            Payload::AwaitRoom { header, start }
        } else {
            Payload::Gather { header, bytes: start, reserved: 0 }
        }
    }

    /// Takes a stream that waits for the block that begins with these bytes: the one that asked last, as a block that was
    /// asked for in vain before may never come by itself.
    fn take_expected(&mut self, header: &FrameHeader, start: &[u8]) -> Option<(BlockHash, StreamId)> {
        if self.expected.is_empty() || header.command != Command::BLOCK || !self.is_established() {
            return None;
        }
        let hash = BlockHash::from_wire(sha256d(start.get(..START_LEN)?));
        let at = self.expected.iter().rposition(|&(expected, _)| expected == hash)?;
        Some(self.expected.remove(at))
    }

    fn begin_stream(&mut self, stream: StreamId, hash: BlockHash, header: &FrameHeader, start: &[u8]) {
        self.flush_batch();
        let &FrameHeader { length, checksum, .. } = header;
        self.events.push_back(Event::BlockBegin { stream, hash, length, checksum });
        self.events.push_back(Event::BlockBytes { bytes: start.to_vec() });
        self.payload = Payload::Stream(stream);
    }

    /// Enough has come of a block to say which one it is.
    fn identified(&mut self, header: FrameHeader, start: Vec<u8>) {
        if let Some((hash, stream)) = self.take_expected(&header, &start) {
            return self.begin_stream(stream, hash, &header, &start);
        }
        self.payload = self.unstreamed(header, start);
        if let Payload::Skip { .. } = self.payload {
            // There is enough to tell of it, whatever follows.
            self.chunk(&[]);
        }
    }

    fn chunk(&mut self, chunk: &[u8]) {
        match &mut self.payload {
            Payload::Gather { header, bytes, .. } => {
                let left = usize::try_from(header.length).unwrap_or(usize::MAX) - bytes.len();
                if bytes.capacity() - bytes.len() < chunk.len() {
                    // Grown as bytes arrive, never by announcement: at most doubled, at most to the payload's size.
                    bytes.reserve_exact(chunk.len().max(bytes.len()).min(left));
                }
                bytes.extend_from_slice(chunk);
            }
            Payload::Identify { header, start } => {
                start.extend_from_slice(chunk);
                if start.len() == START_LEN {
                    let (header, start) = (*header, std::mem::take(start));
                    self.identified(header, start);
                }
            }
            Payload::Stream(_) => self.events.push_back(Event::BlockBytes { bytes: chunk.to_vec() }),
            Payload::Skip { told: true, .. } => {}
            Payload::Skip { header, start, told } => {
                let missing = START_LEN - start.len();
                start.extend_from_slice(&chunk[..chunk.len().min(missing)]);
                if start.len() == START_LEN {
                    *told = true;
                    let (command, length, start) = (header.command, header.length, std::mem::take(start));
                    self.flush_batch();
                    self.events.push_back(Event::Oversized { command, length, start });
                }
            }
            Payload::None | Payload::AwaitRoom { .. } => debug_assert!(false, "a chunk without a start"),
        }
    }

    fn end(&mut self, now: Instant, unix: i64) -> Result<(), ProtocolError> {
        let ended = std::mem::replace(&mut self.payload, Payload::None);
        let (header, bytes, reserved) = match ended {
            Payload::Gather { header, bytes, reserved } => (header, bytes, reserved),
            Payload::Stream(stream) => {
                self.events.push_back(Event::BlockEnd { stream });
                return Ok(());
            }
            _ => return Ok(()),
        };
        // Until a batch takes it over; an error, too, leaves it to whoever ends the connection.
        self.unused_room += reserved;
        if self.handle_control(now, unix, &header, &bytes)? {
            return Ok(());
        }
        if reserved == 0 {
            self.batch.push(&header, &bytes, 0);
        } else {
            self.unused_room -= reserved;
            self.flush_batch();
            self.events.push_back(Event::Frames(FrameBatch::of_one(&header, bytes, reserved)));
        }
        Ok(())
    }

    fn flush_batch(&mut self) {
        if !self.batch.is_empty() {
            self.events.push_back(Event::Frames(std::mem::take(&mut self.batch)));
        }
    }

    /// Deals with handshake and keepalive; `Ok(false)` leaves the frame to the message thread.
    fn handle_control(
        &mut self,
        now: Instant,
        unix: i64,
        header: &FrameHeader,
        payload: &[u8],
    ) -> Result<bool, ProtocolError> {
        let result = self.try_control(now, unix, header, payload);
        if !matches!(result, Ok(false)) {
            self.control.received.add(header.command);
        }
        result
    }

    fn try_control(
        &mut self,
        now: Instant,
        unix: i64,
        header: &FrameHeader,
        payload: &[u8],
    ) -> Result<bool, ProtocolError> {
        if matches!(self.stage, Stage::AwaitVersion)
            && !matches!(header.command, Command::VERSION | Command::REJECT)
        {
            return Err(ProtocolError::BeforeVersion { command: header.command });
        }
        let awaits_ack = matches!(self.stage, Stage::AwaitAck(_));
        if awaits_ack && !matches!(header.command, Command::STREAMACK | Command::REJECT) {
            return Err(ProtocolError::NoStreamAck { command: header.command });
        }
        match header.command {
            Command::VERSION | Command::VERACK | Command::PING | Command::PROTOCONF => {}
            Command::STREAMACK if awaits_ack => {}
            Command::REJECT if !self.is_established() => {}
            Command::PONG if payload.first_chunk().is_some_and(|n| self.has_pinged(u64::from_le_bytes(*n))) => {}
            _ if self.is_established() => return Ok(false),
            // Between version and verack come feature messages of other chains' nodes; the node drops them too.
            _ => return Ok(true),
        }
        verify_checksum(header, payload)?;
        let message = Message::decode(header.command, payload)
            .map_err(|error| ProtocolError::Malformed { command: header.command, error })?;
        match message {
            Message::Version(version) => self.handle_version(now, unix, version)?,
            Message::Verack => self.handle_verack(now),
            Message::ProtoConf(protoconf) => {
                if std::mem::replace(&mut self.got_protoconf, true) {
                    return Err(ProtocolError::DuplicateProtoConf);
                }
                self.handle_protoconf(&protoconf);
            }
            Message::StreamAck(ack) => self.handle_ack(now, &ack)?,
            Message::Pong { nonce } if self.stray_ping == Some(nonce) => {
                self.stray_ping = None;
                self.events.push_back(Event::StrayPong { nonce });
            }
            Message::Ping { nonce } => self.send_urgent(now, &Message::Pong { nonce }),
            Message::Pong { .. } => {
                let asked = self.keepalive.sent_at().filter(|_| self.joins);
                self.events.extend(asked.map(|asked| Event::Ponged { asked }));
                if let Some(round_trip) = self.keepalive.ponged(now) {
                    self.flush_batch();
                    self.events.push_back(Event::RoundTrip(round_trip));
                }
            }
            Message::Reject(reject) => {
                return Err(ProtocolError::Refused { code: reject.code, reason: reject.reason.to_string() });
            }
            _ => debug_assert!(false, "not a control message"),
        }
        Ok(true)
    }

    fn handle_version(&mut self, now: Instant, unix: i64, version: Box<Version>) -> Result<(), ProtocolError> {
        if !matches!(self.stage, Stage::AwaitVersion) {
            return Err(ProtocolError::DuplicateVersion);
        }
        if version.version < MIN_VERSION {
            return Err(ProtocolError::ObsoleteVersion { version: version.version });
        }
        if version.nonce == self.nonce {
            return Err(ProtocolError::SelfConnection);
        }
        let theirs = version.association_id.as_deref().and_then(AssociationId::from_bytes);
        if self.link == Link::Inbound {
            self.association = theirs.filter(|_| self.settings.streams);
            self.send_version(now, unix);
            self.events.extend(self.association.map(Event::Association));
        } else {
            self.is_shared = theirs.is_some() && theirs == self.association;
        }
        self.stage = Stage::AwaitVerack(version);
        // Ours in one burst; a protoconf before our verack would cost a point and be lost (trap 1).
        self.send_urgent(now, &Message::Verack);
        self.send_urgent(now, &Message::ProtoConf(self.settings.protoconf()));
        Ok(())
    }

    fn handle_verack(&mut self, now: Instant) {
        // A repeated verack is not punished by the node either.
        if let Stage::AwaitVerack(_) = self.stage
            && let Stage::AwaitVerack(version) = std::mem::replace(&mut self.stage, Stage::Established)
        {
            self.establish(now, Event::Established(version));
            self.tell_association();
        }
    }

    fn handle_ack(&mut self, now: Instant, ack: &StreamAck) -> Result<(), ProtocolError> {
        let Stage::AwaitAck(id) = &self.stage else { return Ok(()) };
        if ack.association_id != id.as_bytes() || ack.stream_type != StreamType::Data1 {
            return Err(ProtocolError::NoStreamAck { command: Command::STREAMACK });
        }
        self.establish(now, Event::Joined);
        Ok(())
    }

    fn establish(&mut self, now: Instant, event: Event) {
        self.stage = Stage::Established;
        self.outbox.open();
        self.flush_batch();
        self.events.push_back(event);
        self.note_waiting(now);
        // The first ping tells how far away the peer is.
        self.send_ping(now);
    }

    fn handle_protoconf(&mut self, protoconf: &ProtoConf) {
        self.knows_policy = protoconf.policies().any(|name| name == BLOCK_PRIORITY);
        self.flush_batch();
        self.events.push_back(Event::Limits(PeerLimits::new(protoconf.max_recv_payload_length)));
        self.tell_association();
    }

    /// Tells of the association once everything is there for it.
    fn tell_association(&mut self) {
        if self.is_established()
            && self.knows_policy
            && std::mem::take(&mut self.is_shared)
            && let Some(id) = self.association
        {
            self.events.push_back(Event::Association(id));
        }
    }

    /// Whether a pong answers a ping of the keepalive.
    fn has_pinged(&self, nonce: u64) -> bool {
        self.keepalive.expects(nonce) || self.stray_ping == Some(nonce)
    }

    fn send_version(&mut self, now: Instant, unix: i64) {
        let settings = &self.settings;
        let mut version =
            Version::new(settings.services, self.nonce, settings.user_agent.as_str(), settings.start_height, unix);
        version.receiver = NetworkAddress::new(Services::default(), self.remote);
        version.relay = Some(settings.relay);
        version.association_id = self.association.map(|id| id.as_bytes().to_vec());
        self.send_urgent(now, &version.into());
    }

    fn send_ping(&mut self, now: Instant) {
        // The nonce only has to differ from the last one and from what a caller's ping is likely to carry.
        self.nonce = self.nonce.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let waiting = self.outbox.pending_bytes();
        self.send_urgent(now, &Message::Ping { nonce: self.nonce });
        self.keepalive.pinged(now, self.nonce, self.outbox.urgent_bytes(), waiting);
    }

    fn send_urgent(&mut self, now: Instant, message: &Message) {
        self.outbox.push_urgent(message.to_frame(self.settings.magic));
        self.control.sent.add(message.command());
        self.note_waiting(now);
    }

    fn note_waiting(&mut self, now: Instant) {
        if self.outbox.pending_bytes() > 0 {
            self.progress.get_or_insert(now);
        }
    }

    fn stall_deadline(&self) -> Option<Instant> {
        let since = self.progress.filter(|_| self.paused_at.is_none());
        since.map(|since| since + self.settings.stall_timeout)
    }
}

/// Compares the payload's digest with the header's checksum; nothing to compare behind an extended header.
fn verify_checksum(header: &FrameHeader, payload: &[u8]) -> Result<(), FrameError> {
    let Some(expected) = header.checksum else { return Ok(()) };
    let digest = sha256d(payload);
    let got = [digest[0], digest[1], digest[2], digest[3]];
    if got == expected { Ok(()) } else { Err(FrameError::BadChecksum { command: header.command, expected, got }) }
}

/// `MIN_PEER_PROTO_VERSION` of the node.
const MIN_VERSION: i32 = 31_800;
/// Payloads up to this size are taken without asking for room; bytes.
const UNRESERVED_LEN: u64 = 64 * 1_024;
/// Bytes kept of a payload that is skipped: a block's header, which names it.
const START_LEN: usize = 80;
/// Urgent bytes at which we stop reading the peer.
const URGENT_LIMIT: usize = 64 * 1_024;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs one instant to count from")]
mod tests;
