//! The event loop: one thread that moves bytes between all sockets and their connections, and decides nothing.
//!
//! The only code that names mio, whose edge-triggered rules it follows: read and write until the system says
//! `WouldBlock`, or keep the socket on a list.

mod blocks;
mod dialling;
mod socket;

use std::collections::BTreeSet;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use mio::{Events, Poll, Token, Waker};

use super::counters::add;
use super::shared::Shared;
use crate::engine::Random;
use crate::error::DisconnectReason;
use crate::peer::{ConnectionId, IdMap};
use crate::proto::{Connection, KeepalivePart, Settings};
use crate::queue::inbound::Inbound;
use crate::queue::outbound::{COMMAND_COST, Command};

use socket::{News, Open, Socket, Stage, count_control, take_bytes};

/// Wakes the event loop; many wakes while it is busy cost one.
#[derive(Default)]
pub(super) struct LoopWaker {
    /// Kept alive as long as the poll instance, as mio asks.
    waker: OnceLock<Waker>,
    /// Set by whoever wakes, cleared by the loop before it looks at its queue.
    woken: AtomicBool,
}

impl LoopWaker {
    /// Makes sure that the loop looks at its queue; what is to be seen there is put in before.
    pub(super) fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel)
            && let Some(waker) = self.waker.get()
            && let Err(error) = waker.wake()
        {
            log::error!(target: "conduit::driver", "the event loop cannot be woken: {error}");
        }
    }
}

/// The loop's own state; nobody else touches a socket.
pub(super) struct EventLoop {
    shared: Arc<Shared>,
    settings: Arc<Settings>,
    random: Random,
    poll: Poll,
    sockets: IdMap<ConnectionId, Socket>,
    /// When each socket's deadline is due, at the latest.
    timers: BTreeSet<(Instant, ConnectionId)>,
    /// Sockets whose last read stopped at its share of the turn.
    unread: Vec<ConnectionId>,
    /// Sockets with bytes to write.
    unwritten: Vec<ConnectionId>,
    /// Shared by all reads.
    buffer: Vec<u8>,
    /// Set when no new bytes are taken in: the instant by which everything must have left.
    flush_until: Option<Instant>,
}

impl EventLoop {
    pub(super) fn new(shared: Arc<Shared>, waker: &LoopWaker) -> io::Result<Self> {
        let poll = Poll::new()?;
        let new = Waker::new(poll.registry(), WAKER)?;
        // The loop is made once; should that fail and be tried again, the second poll needs its own waker.
        if waker.waker.set(new).is_err() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let settings = Arc::new(shared.config.connection_settings());
        Ok(Self {
            settings,
            random: Random::new(super::random_seed()),
            poll,
            sockets: IdMap::default(),
            timers: BTreeSet::new(),
            unread: Vec::new(),
            unwritten: Vec::new(),
            buffer: vec![0; READ_SIZE],
            flush_until: None,
            shared,
        })
    }

    /// Runs until the shutdown; then every connection is closed and every message thread told.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let mut events = Events::with_capacity(EVENTS);
        // What came before there was a waker has woken nobody.
        self.take_commands(Instant::now(), commands);
        loop {
            let timeout = self.until_next_deadline();
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                log::error!(target: "conduit::driver", "poll failed: {error}");
                // Not to spin, whatever the system's trouble is.
                std::thread::sleep(Duration::from_millis(10));
            }
            let now = Instant::now();
            self.take_commands(now, commands);
            for event in &events {
                if event.token() != WAKER {
                    let id = ConnectionId(event.token().0 as u64);
                    let ended = event.is_read_closed() || event.is_error();
                    self.service(now, id, event.is_readable() || ended, event.is_writable(), ended);
                }
            }
            self.service_unread(now);
            self.fire_deadlines(now);
            self.flush(now);
            if let Some(until) = self.flush_until {
                self.finish_sent();
                if now >= until || self.sockets.is_empty() {
                    break;
                }
            }
        }
        let open: Vec<_> = self.sockets.keys().copied().collect();
        for id in open {
            self.close(id, DisconnectReason::Shutdown);
        }
        for index in 0..self.shared.inbound.len() {
            self.shared.tell_message_thread(index, Inbound::Shutdown);
        }
    }

    fn until_next_deadline(&self) -> Option<Duration> {
        // Reading on while flushing can leave pongs to write.
        if !self.unread.is_empty() || !self.unwritten.is_empty() {
            return Some(Duration::ZERO);
        }
        let next = self.timers.first().map(|&(at, _)| at);
        let next = [next, self.flush_until].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Empties the whole queue, so that many wakes cost one.
    fn take_commands(&mut self, now: Instant, commands: &Receiver<Command>) {
        // A swap, not a store: whoever finds the flag set has put in before it what is taken out below.
        self.shared.waker().woken.swap(false, Ordering::AcqRel);
        self.shared.outbound.flush();
        // What comes while this runs has its own wake. The bound keeps the sockets from waiting, and what was copied
        // for them in the processor's caches.
        for _ in 0..COMMANDS_PER_TURN {
            let Ok(command) = commands.try_recv() else { return };
            self.take_command(now, command);
        }
        self.shared.waker().wake();
    }

    fn take_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Send { connection, frame } => {
                let command = frame.command();
                if self.send(connection, 1, |connection| connection.send(now, frame)) {
                    self.shared.counters.sent.add(command, 1);
                }
            }
            Command::SendAll { connections, frame } => {
                let mut send =
                    |&id: &ConnectionId| self.send(id, 1, |connection| connection.send(now, frame.clone()));
                let peers = connections.iter().filter(|&id| send(id)).count();
                self.shared.counters.sent.add(frame.command(), peers as u64);
            }
            Command::SendRun { connections, run, commands } => {
                let count = run.count();
                let mut send =
                    |&id: &ConnectionId| self.send(id, count, |connection| connection.send_run(now, run.clone()));
                let peers = connections.iter().filter(|&id| send(id)).count();
                self.shared.counters.sent.add_all(&commands, peers as u64);
            }
            Command::Connect { connection, peer, address } => self.connect(now, connection, peer, address, None),
            Command::Join { connection, peer, address, joins } => {
                self.connect(now, connection, peer, address, Some(joins));
            }
            Command::Adopt { connection, peer, result } => self.adopt(now, connection, peer, result),
            Command::Close { connection, reason } => self.close(connection, reason),
            Command::SetReading { connection, reading } => {
                for id in self.both(connection) {
                    if let Some(open) = self.open(id) {
                        open.wanted = reading;
                    }
                    self.read_on(now, id);
                }
            }
            Command::Resume { connection } => {
                if let Some(open) = self.open(connection) {
                    open.room = true;
                }
                self.read_on(now, connection);
            }
            Command::ExpectBlock { connection, hash, stream, queue } => {
                queue.tell_turn();
                for id in self.both(connection) {
                    let Some(open) = self.open(id) else { continue };
                    open.connection.expect_block(hash, stream);
                    open.blocks.expect(stream, queue.clone());
                    if open.blocks.has_many() {
                        open.blocks.forget_closed();
                        let blocks = &open.blocks;
                        open.connection.retain_expected(|stream| blocks.expects(stream));
                    }
                }
            }
            Command::ForgetBlocks { connection } => {
                for id in self.both(connection) {
                    let Some(open) = self.open(id) else { continue };
                    open.blocks.forget_who_wait_for_another(connection);
                    let blocks = &open.blocks;
                    open.connection.retain_expected(|stream| blocks.expects(stream));
                }
            }
            Command::ResumeBlock { connection } => {
                for id in self.both(connection) {
                    if let Some(open) = self.open(id) {
                        // It may be the other one that is to go on.
                        open.block_room = open.blocks.has_room(connection);
                    }
                    self.read_on(now, id);
                }
            }
            Command::Shutdown { flush_until } => {
                let at_once = self.flush_until.is_some() || flush_until.is_none();
                self.flush_until = if at_once { Some(now) } else { flush_until };
                self.unread.extend(self.sockets.keys());
            }
        }
    }

    /// Queues so many frames; false if the connection is gone.
    fn send(&mut self, id: ConnectionId, frames: usize, send: impl FnOnce(&mut Connection)) -> bool {
        // Of a connection that is gone, the budget has forgotten the charge.
        let Some(socket) = self.sockets.get_mut(&id) else { return false };
        let Stage::Open(open) = &mut socket.stage else { return false };
        send(&mut open.connection);
        open.spent += frames * COMMAND_COST;
        add(&open.link.traffic.messages_sent, frames as u64);
        if !std::mem::replace(&mut socket.is_unwritten, true) {
            self.unwritten.push(id);
        }
        true
    }

    fn service(&mut self, now: Instant, id: ConnectionId, readable: bool, writable: bool, ended: bool) {
        if self.sockets.get(&id).is_some_and(|socket| matches!(socket.stage, Stage::Connecting { .. })) {
            // The event may tell of the first bytes too, and no other one will.
            self.finish_connect(now, id);
        }
        // A spurious event, or one of a socket just closed.
        let Some(Socket { stage: Stage::Open(open), is_unwritten, .. }) = self.sockets.get_mut(&id) else { return };
        open.readable |= readable;
        open.writable |= writable;
        open.ended |= ended;
        if writable && !std::mem::replace(is_unwritten, true) {
            self.unwritten.push(id);
        }
        if readable {
            self.read_on(now, id);
        }
    }

    /// Reads a socket as far as it may be read, and notes whether we are the ones who do not read it.
    fn read_on(&mut self, now: Instant, id: ConnectionId) {
        self.note_read_again(id);
        let result = self.try_read(now, id);
        self.take_news(now, id);
        if let Err(reason) = result {
            return self.close(id, reason);
        }
        let pause_limit = self.shared.config.pause_limit;
        let Some(open) = self.open(id) else { return };
        let by_choice = !open.is_wanted();
        if by_choice != open.paused_at.is_some() {
            open.paused_at = by_choice.then_some(now);
            open.connection.set_reading(now, !by_choice);
            if by_choice {
                log::debug!(target: "conduit::driver", "not read for lack of room, at most {pause_limit:?}");
            }
        }
        self.rearm(id);
        self.note_unwritten(id);
    }

    /// Tells that a socket is read again, before what it brings.
    fn note_read_again(&self, id: ConnectionId) {
        if let Some(Socket { stage: Stage::Open(open), peer, .. }) = self.sockets.get(&id)
            && open.paused_at.is_some()
            && open.is_wanted()
        {
            let again = Inbound::ReadAgain { connection: open.primary, peer: *peer };
            self.shared.tell_message_thread_of(*peer, again);
        }
    }

    /// Does what a socket has brought that concerns more than itself.
    fn take_news(&mut self, now: Instant, id: ConnectionId) {
        let Some(Socket { stage: Stage::Open(open), peer, address, second, .. }) = self.sockets.get_mut(&id) else {
            return;
        };
        if open.news.is_empty() {
            return;
        }
        let (news, peer, primary) = (std::mem::take(&mut open.news), *peer, open.primary);
        let (address, other) = (address.clone(), if primary == id { *second } else { Some(primary) });
        for news in news {
            match news {
                News::Association(association) => {
                    let inbound =
                        Inbound::Association { connection: id, peer, address: address.clone(), association };
                    self.shared.tell_message_thread_of(peer, inbound);
                }
                News::Joined => {
                    if let Some(first) = self.open(primary) {
                        first.connection.set_keepalive(now, KeepalivePart::Half);
                        self.rearm(primary);
                    }
                    log::debug!(target: "conduit::driver", "{peer}: a second connection has joined the first one");
                    self.shared.tell_message_thread_of(peer, Inbound::Joined { connection: id, of: primary, peer });
                }
                News::Begun(stream) => {
                    if let Some(other) = other.and_then(|other| self.open(other)) {
                        other.connection.retain_expected(|waiting| waiting != stream);
                        other.blocks.forget(stream);
                    }
                }
                News::StrayPong { nonce } => {
                    if let Some(other) = other
                        && let Some(open) = self.open(other)
                    {
                        open.connection.take_stray_pong(now, nonce);
                        self.rearm(other);
                    }
                }
                News::Ponged { asked } => {
                    if let Some(Err(error)) =
                        self.open(primary).map(|first| first.connection.note_other_pong(asked))
                    {
                        self.close(primary, DisconnectReason::Protocol(error));
                    }
                }
            }
        }
    }

    fn try_read(&mut self, now: Instant, id: ConnectionId) -> Result<(), DisconnectReason> {
        if self.flush_until.is_some() {
            return self.try_discard(id);
        }
        let Some(Socket { stage: Stage::Open(open), peer, is_unread, .. }) = self.sockets.get_mut(&id) else {
            return Ok(());
        };
        let peer = *peer;
        let shared = &self.shared;
        if open.may_read() || open.connection.wants_room().is_some() {
            let leftover = std::mem::take(&mut open.leftover);
            take_bytes(shared, now, id, peer, open, &leftover)?;
        }
        let mut left = READS_PER_TURN;
        while open.readable && open.may_read() && open.leftover.is_empty() {
            if left == 0 {
                // Others have their turn first; no new event comes for what is left.
                if !std::mem::replace(is_unread, true) {
                    self.unread.push(id);
                }
                return Ok(());
            }
            left -= 1;
            match open.stream.read(&mut self.buffer) {
                Ok(0) => return Err(DisconnectReason::ClosedByPeer),
                Ok(n) => {
                    // A short read has emptied the socket, and what comes later has its own event; so the call that
                    // would only say `WouldBlock` is saved. An end that is there already has had its event.
                    open.readable = n == self.buffer.len() || open.ended;
                    add(&open.link.traffic.bytes_received, n as u64);
                    add(&shared.counters.bytes_received, n as u64);
                    take_bytes(shared, now, id, peer, open, &self.buffer[..n])?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => open.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(DisconnectReason::Io { kind: error.kind() }),
            }
        }
        Ok(())
    }

    /// Reads and drops what comes while we flush. Bytes left unread would make the system reset the connection at its
    /// end, and drop what is still on its way to the peer.
    fn try_discard(&mut self, id: ConnectionId) -> Result<(), DisconnectReason> {
        let Some(Socket { stage: Stage::Open(open), is_unread, .. }) = self.sockets.get_mut(&id) else {
            return Ok(());
        };
        // With two connections, the end of one is that of the other.
        let is_finished = open.finished || open.primary != id;
        let closed = |reason| Err(if is_finished { DisconnectReason::Shutdown } else { reason });
        for _ in 0..READS_PER_TURN {
            if !open.readable {
                return Ok(());
            }
            match open.stream.read(&mut self.buffer) {
                Ok(0) => return closed(DisconnectReason::ClosedByPeer),
                Ok(n) => {
                    add(&open.link.traffic.bytes_received, n as u64);
                    add(&self.shared.counters.bytes_received, n as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => open.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return closed(DisconnectReason::Io { kind: error.kind() }),
            }
        }
        if !std::mem::replace(is_unread, true) {
            self.unread.push(id);
        }
        Ok(())
    }

    fn service_unread(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.unread) {
            if let Some(socket) = self.sockets.get_mut(&id) {
                socket.is_unread = false;
            }
            self.read_on(now, id);
        }
    }

    fn fire_deadlines(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            if let Some(socket) = self.sockets.get_mut(&id) {
                socket.timer = None;
            }
            match self.check_deadlines(now, id) {
                Ok(()) => {
                    self.rearm(id);
                    self.note_unwritten(id);
                }
                Err(reason) => self.close(id, reason),
            }
        }
    }

    fn check_deadlines(&mut self, now: Instant, id: ConnectionId) -> Result<(), DisconnectReason> {
        let pause_limit = self.shared.config.pause_limit;
        let timed_out = DisconnectReason::Dial { kind: io::ErrorKind::TimedOut };
        let Some(Socket { stage, second, .. }) = self.sockets.get_mut(&id) else { return Ok(()) };
        let second = *second;
        match stage {
            Stage::Dialling { deadline } | Stage::Connecting { deadline, .. } => {
                if now >= *deadline {
                    Err(timed_out)
                } else {
                    Ok(())
                }
            }
            // The flush has a deadline of its own, and we do not look at what would meet the others.
            Stage::Open(_) if self.flush_until.is_some() => Ok(()),
            Stage::Open(open) => {
                if open.paused_at.is_some_and(|since| now >= since + pause_limit) {
                    return Err(DisconnectReason::PausedTooLong);
                }
                let result = open.connection.handle_timeout(now);
                count_control(&self.shared, open);
                let ping = open.connection.ping_out();
                if let Some(second) = second.and_then(|second| self.open(second)) {
                    second.connection.set_stray_ping(ping);
                }
                result.map_err(DisconnectReason::Protocol)
            }
        }
    }

    /// Sets a socket's timer if its next deadline is earlier than that; one too early does no harm.
    fn rearm(&mut self, id: ConnectionId) {
        if self.flush_until.is_some() {
            return;
        }
        let pause_limit = self.shared.config.pause_limit;
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let next = match &socket.stage {
            Stage::Dialling { deadline } | Stage::Connecting { deadline, .. } => Some(*deadline),
            Stage::Open(open) => {
                let paused = open.paused_at.map(|since| since + pause_limit);
                [open.connection.poll_timeout(), paused].into_iter().flatten().min()
            }
        };
        let Some(next) = next else { return };
        if socket.timer.is_none_or(|timer| next < timer) {
            if let Some(timer) = socket.timer.replace(next) {
                self.timers.remove(&(timer, id));
            }
            self.timers.insert((next, id));
        }
    }

    fn forget_timer(&mut self, id: ConnectionId, socket: &mut Socket) {
        if let Some(timer) = socket.timer.take() {
            self.timers.remove(&(timer, id));
        }
    }

    fn note_unwritten(&mut self, id: ConnectionId) {
        if let Some(socket) = self.sockets.get_mut(&id)
            && let Stage::Open(open) = &socket.stage
            && open.connection.pending_bytes() > 0
            && !std::mem::replace(&mut socket.is_unwritten, true)
        {
            self.unwritten.push(id);
        }
    }

    /// Writes what waits, until the socket takes no more.
    fn flush(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.unwritten) {
            if let Some(socket) = self.sockets.get_mut(&id) {
                socket.is_unwritten = false;
            }
            match self.write(now, id) {
                Ok(true) => self.read_on(now, id),
                Ok(false) => self.rearm(id),
                Err(reason) => self.close(id, reason),
            }
        }
    }

    /// Writes to one socket; true if it had not been read because its pongs had piled up.
    fn write(&mut self, now: Instant, id: ConnectionId) -> Result<bool, DisconnectReason> {
        let Some(Socket { stage: Stage::Open(open), peer, .. }) = self.sockets.get_mut(&id) else {
            return Ok(false);
        };
        let was_choked = !open.connection.wants_read();
        let mut freed = std::mem::take(&mut open.spent);
        let (mut bytes, mut frames) = (0, 0);
        let mut error = None;
        while open.writable && open.connection.pending_bytes() > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = open.connection.pending(&mut slices);
            match open.stream.write_vectored(&slices[..filled]) {
                Ok(0) => {
                    error = Some(DisconnectReason::Io { kind: io::ErrorKind::WriteZero });
                    break;
                }
                Ok(n) => {
                    let sent = open.connection.mark_sent(now, n);
                    freed += sent.normal;
                    frames += sent.frames;
                    bytes += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => open.writable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    error = Some(DisconnectReason::Io { kind: e.kind() });
                    break;
                }
            }
        }
        if bytes > 0 {
            add(&open.link.traffic.bytes_sent, bytes);
            add(&self.shared.counters.bytes_sent, bytes);
        }
        if self.shared.outbound.budget.release(id, freed, frames) {
            self.shared.tell_message_thread_of(*peer, Inbound::Writable { peer: *peer });
        }
        match error {
            Some(reason) => Err(reason),
            None => {
                let has_more = open.readable || !open.leftover.is_empty();
                Ok(was_choked && open.connection.wants_read() && has_more)
            }
        }
    }

    /// Ends our side of every connection that has nothing more to send; the peer ends his when he has taken it all.
    fn finish_sent(&mut self) {
        let mut idle = Vec::new();
        let first: BTreeSet<ConnectionId> = self.sockets.keys().copied().collect();
        for (&id, socket) in &mut self.sockets {
            if socket.joins.is_some_and(|joins| first.contains(&joins.of)) {
                // Its end would be that of the other one, which may have more to send.
                continue;
            }
            match &mut socket.stage {
                Stage::Open(open) if open.connection.is_established() => {
                    let is_sent = open.connection.pending_bytes() == 0;
                    if is_sent && !open.finished {
                        open.finished = true;
                        // An error says that the peer is gone, which the next read finds out.
                        drop(open.stream.shutdown(Shutdown::Write));
                    }
                }
                // Whoever is not connected yet gets nothing any more.
                _ => idle.push(id),
            }
        }
        for id in idle {
            self.close(id, DisconnectReason::Shutdown);
        }
    }

    /// Ends a connection, whatever its stage, and tells its message thread why.
    fn close(&mut self, id: ConnectionId, reason: DisconnectReason) {
        let Some(mut socket) = self.sockets.remove(&id) else { return };
        self.forget_timer(id, &mut socket);
        let peer = socket.peer;
        log::debug!(target: "conduit::driver", "{peer}: closed: {reason}");
        if let Stage::Open(open) = &socket.stage {
            open.link.closed.store(true, Ordering::Release);
            open.blocks.lose(open.primary);
            let mut links = self.shared.links.write();
            if links.get(&peer).is_some_and(|link| link.connection == id) {
                links.remove(&peer);
            }
            drop(links);
            self.shared.outbound.budget.close(id);
            let resumed = self.shared.inbound_budget.close(id, open.connection.reserved());
            self.shared.resume(resumed);
        }
        if let Some(joins) = socket.joins {
            self.lose_second(joins.of, id, &socket.stage);
        }
        self.shared.tell_message_thread_of(peer, Inbound::Down { connection: id, peer, reason });
        // Dropping the stream deregisters and closes it.
    }

    /// A connection that was to join another one, or had, is over.
    fn lose_second(&mut self, of: ConnectionId, id: ConnectionId, stage: &Stage) {
        let Some(first) = self.sockets.get_mut(&of).filter(|first| first.second == Some(id)) else { return };
        first.second = None;
        let had_joined = matches!(stage, Stage::Open(open) if open.connection.is_established());
        if let Stage::Open(first) = &mut first.stage
            && !had_joined
        {
            first.connection.set_keepalive(Instant::now(), KeepalivePart::Whole);
            self.rearm(of);
        }
    }

    /// A connection and the one that joins it.
    fn both(&self, id: ConnectionId) -> impl Iterator<Item = ConnectionId> + use<> {
        let second = self.sockets.get(&id).and_then(|socket| socket.second);
        [Some(id), second].into_iter().flatten()
    }

    fn open(&mut self, id: ConnectionId) -> Option<&mut Open> {
        match &mut self.sockets.get_mut(&id)?.stage {
            Stage::Open(open) => Some(open),
            _ => None,
        }
    }
}

const WAKER: Token = Token(usize::MAX);
const EVENTS: usize = 1_024;
/// Bytes of one read. What one read brings may lie over a limit: `READ_SLACK` in `config` counts on this size.
const READ_SIZE: usize = 128 * 1_024;
/// Reads of one socket before the others have their turn.
const READS_PER_TURN: usize = 8;
const COMMANDS_PER_TURN: usize = 256;
const SLICES: usize = 64;
