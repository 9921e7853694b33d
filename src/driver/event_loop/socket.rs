//! One socket from the dial to its end, and what becomes of the bytes it brings.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use mio::net::TcpStream;

use crate::driver::counters::add;
use crate::driver::message_thread;
use crate::driver::shared::Shared;
use crate::error::DisconnectReason;
use crate::peer::{ConnectionId, PeerAddress, PeerId, StreamId};
use crate::proto::{AssociationId, Connection, Control, Event, FrameBatch};
use crate::queue::inbound::Inbound;
use crate::queue::link::LinkState;
use crate::queue::outbound::Joins;
use crate::wire::Command;

use super::blocks::{BlockIntake, Incoming};

/// One connection from the dial to its end.
pub(super) struct Socket {
    pub(super) peer: PeerId,
    pub(super) address: PeerAddress,
    pub(super) stage: Stage,
    /// What it joins, if it is a second connection.
    pub(super) joins: Option<Joins>,
    /// The connection that joins it.
    pub(super) second: Option<ConnectionId>,
    pub(super) timer: Option<Instant>,
    /// On the list `unread`.
    pub(super) is_unread: bool,
    /// On the list `unwritten`.
    pub(super) is_unwritten: bool,
}

pub(super) enum Stage {
    /// A caller's dialler is at work.
    Dialling {
        deadline: Instant,
    },
    Connecting {
        stream: TcpStream,
        deadline: Instant,
    },
    Open(Box<Open>),
}

/// A connected socket.
pub(super) struct Open {
    pub(super) stream: TcpStream,
    pub(super) connection: Connection,
    pub(super) link: Arc<LinkState>,
    /// As whose all that it brings is told: its own, or that of the connection that it joins.
    pub(super) primary: ConnectionId,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The peer has ended its side; no event comes any more, so reads go on to the end.
    pub(super) ended: bool,
    /// The message thread lets its messages come.
    pub(super) wanted: bool,
    /// The inbound budget has room.
    pub(super) room: bool,
    /// The stream whose block is coming has room.
    pub(super) block_room: bool,
    pub(super) blocks: BlockIntake,
    /// Bytes read but not taken by the connection, which waits for room.
    pub(super) leftover: Vec<u8>,
    /// Since when we do not read, by our own choice.
    pub(super) paused_at: Option<Instant>,
    /// Charges of commands done with, given back with the next bytes sent.
    pub(super) spent: usize,
    /// Everything has left and our side is ended; the peer has yet to end his.
    pub(super) finished: bool,
    /// What concerns more than this socket.
    pub(super) news: Vec<News>,
}

/// What a socket has brought that concerns more than itself.
pub(super) enum News {
    /// A second connection may join it.
    Association(AssociationId),
    /// It has joined the first one.
    Joined,
    /// The block of a stream comes here.
    Begun(StreamId),
    /// A second connection got back a ping that it had sent then.
    Ponged { asked: Instant },
    /// The other connection's ping came back here.
    StrayPong { nonce: u64 },
}

impl Open {
    /// A socket just connected.
    pub(super) fn new(stream: TcpStream, connection: Connection, link: LinkState) -> Self {
        Self {
            stream,
            connection,
            primary: link.connection,
            link: Arc::new(link),
            readable: true,
            writable: true,
            ended: false,
            wanted: true,
            room: true,
            block_room: true,
            blocks: BlockIntake::default(),
            leftover: Vec::new(),
            paused_at: None,
            spent: 0,
            finished: false,
            news: Vec::new(),
        }
    }

    pub(super) fn may_read(&self) -> bool {
        self.is_wanted() && self.connection.wants_read()
    }

    /// Whether nothing of ours stands against reading it.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted && self.room && self.block_room
    }
}

/// Gives bytes to the connection, and what it makes of them to the message thread; keeps what it does not take.
pub(super) fn take_bytes(
    shared: &Arc<Shared>,
    now: Instant,
    id: ConnectionId,
    peer: PeerId,
    open: &mut Open,
    bytes: &[u8],
) -> Result<(), DisconnectReason> {
    let mut input = bytes;
    loop {
        if let Some(n) = open.connection.wants_room() {
            if !shared.inbound_budget.reserve(id, n) {
                open.room = false;
                break;
            }
            open.connection.grant_room();
        }
        let result = open.connection.handle_bytes(now, crate::driver::now().unix, &mut input);
        count_control(shared, open);
        // What was whole before the fault is still delivered.
        while let Some(event) = open.connection.poll_event() {
            take_event(shared, peer, open, event)?;
        }
        result?;
        let unused = open.connection.take_unused_room();
        if unused > 0 {
            shared.resume(shared.inbound_budget.release(id, 0, unused, 0));
        }
        if open.connection.wants_room().is_none() {
            break;
        }
    }
    open.leftover = input.to_vec();
    Ok(())
}

fn take_event(shared: &Arc<Shared>, peer: PeerId, open: &mut Open, event: Event) -> Result<(), DisconnectReason> {
    // The one place where what a second connection brings becomes what the first one has brought.
    let connection = open.primary;
    let inbound = match event {
        Event::Established(version) => {
            open.link.services.store(version.services.0, Ordering::Release);
            shared.links.write().insert(peer, open.link.clone());
            Inbound::Up { connection, peer, version }
        }
        Event::Association(id) => {
            open.news.push(News::Association(id));
            return Ok(());
        }
        Event::Joined => {
            open.news.push(News::Joined);
            return Ok(());
        }
        Event::Ponged { asked } => {
            open.news.push(News::Ponged { asked });
            return Ok(());
        }
        Event::StrayPong { nonce } => {
            open.news.push(News::StrayPong { nonce });
            return Ok(());
        }
        Event::Frames(batch) => {
            take_frames(shared, connection, peer, open, batch);
            return Ok(());
        }
        Event::Limits(limits) => {
            // Callers' frames are held against it; the engine's own are smaller than every limit.
            open.link.limit.store(limits.max_recv_payload_length(), Ordering::Release);
            return Ok(());
        }
        Event::RoundTrip(round_trip) => Inbound::RoundTrip { peer, round_trip },
        Event::Oversized { command, length, start } => {
            add(&shared.counters.oversized, 1);
            Inbound::Oversized { connection, peer, command, length, start }
        }
        Event::BlockBegin { stream, hash, length, checksum } => {
            shared.counters.received.add(Command::BLOCK, 1);
            add(&open.link.traffic.messages_received, 1);
            open.news.push(News::Begun(stream));
            let wanted = open.blocks.begin(connection, peer, Incoming { stream, hash, length, checksum })?;
            Inbound::BlockBegan { connection, peer, stream, size: length, wanted }
        }
        Event::BlockBytes { bytes } => {
            open.block_room = open.blocks.push(connection, bytes)?;
            return Ok(());
        }
        Event::BlockEnd { stream } => {
            // It lies in the stream's queue to its end, and what follows is not for that.
            open.block_room = true;
            let Some(hash) = open.blocks.end(connection) else { return Ok(()) };
            Inbound::BlockEnded { connection, peer, stream, hash }
        }
    };
    shared.tell_message_thread_of(peer, inbound);
    Ok(())
}

fn take_frames(shared: &Arc<Shared>, connection: ConnectionId, peer: PeerId, open: &mut Open, batch: FrameBatch) {
    let own = open.link.connection;
    let cost = batch.cost() - batch.reserved;
    for same in batch.frames.chunk_by(|a, b| a.command == b.command) {
        shared.counters.received.add(same[0].command, same.len() as u64);
    }
    add(&open.link.traffic.messages_received, batch.frames.len() as u64);
    if !shared.inbound_budget.charge(own, cost, batch.frames.len()) {
        open.room = false;
    }
    // A small reply with nothing before it is finished here: waking a thread would be most of its round trip.
    let batch = if batch.frames.len() == 1
        && batch.bytes.len() <= SHORT_CUT_BYTES
        && open.link.in_flight.load(Ordering::Acquire) == 0
    {
        match message_thread::finish_here(shared, own, connection, peer, batch) {
            None => return,
            Some(batch) => batch,
        }
    } else {
        batch
    };
    open.link.in_flight.fetch_add(1, Ordering::AcqRel);
    let link = open.link.clone();
    shared.tell_message_thread_of(peer, Inbound::Frames { connection, peer, batch, link });
}

/// Counts what the connection dealt with by itself.
pub(super) fn count_control(shared: &Shared, open: &mut Open) {
    if let Some(Control { received, sent }) = open.connection.take_control() {
        shared.counters.received.add_all(&received, 1);
        shared.counters.sent.add_all(&sent, 1);
        add(&open.link.traffic.messages_received, received.total());
        add(&open.link.traffic.messages_sent, sent.total());
    }
}

/// Replies up to this are finished in the event loop, bytes.
const SHORT_CUT_BYTES: usize = 4_096;
