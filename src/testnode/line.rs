//! One connection of the node: its socket, what is to be written to it, and the thread that writes what does not go at
//! once.
//!
//! A small answer is written by the thread that made it, which saves waking another one. What the kernel does not take
//! within a moment, and whatever the latency holds back, is left to the writer thread, so that a peer who does not read
//! delays nobody else.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Deref;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::cutter::Cutter;
use super::faults::{Delivery, Reception, Whom};
use super::node::News;
use super::now;
use super::peer::Peer;
use super::source::Source;
use super::switches::Switches;
use crate::message::{Inventory, Message};
use crate::proto::Connection;
use crate::wire::{Command, Frame, SharedBytes};

/// One connection, shared by its reader, its writer and whoever sends.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) whom: Whom,
    pub(super) remote: SocketAddr,
    pub(super) magic: [u8; 4],
    stream: TcpStream,
    switches: Arc<Switches>,
    state: Mutex<State>,
    /// Told when bytes went, room appeared, work came or the line closed.
    changed: Condvar,
}

/// What the threads of one connection share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) proto: Connection,
    /// What the node knows of the peer; of a second connection it is the first one that has it.
    pub(super) peer: Peer,
    /// The connection that has joined this one.
    pub(super) second: Option<Arc<Line>>,
    /// What the last `feefilter` said; 0 before there was one.
    fee_rate_told: i64,
    /// Announcements that wait for room.
    announcements: Vec<Inventory>,
    /// Bytes that go before those in `proto`, each piece at its time.
    pieces: VecDeque<Piece>,
    /// Always the summed length of `pieces`.
    piece_bytes: usize,
    /// Whole frames that go behind the pieces and before what is in `proto`, made as they leave.
    sources: VecDeque<Source>,
    /// Until when the last throttled bytes fill the line.
    busy_until: Option<Instant>,
    /// Whether the writer has the socket; nobody else writes then.
    writing: bool,
    writer: Option<JoinHandle<()>>,
    /// Where the bytes that leave `proto` are in their frame.
    cutter: Cutter,
    /// A buffer to be used again.
    spare: Vec<u8>,
    pub(super) closed: bool,
}

#[derive(Debug)]
struct Piece {
    due: Instant,
    /// How fast it leaves, in bytes a second.
    rate: Option<u64>,
    bytes: Bytes,
    /// How many of them the socket took.
    sent: usize,
}

#[derive(Debug)]
enum Bytes {
    Own(Vec<u8>),
    Shared(SharedBytes),
}

impl Line {
    pub(super) fn new(
        whom: Whom,
        stream: TcpStream,
        remote: SocketAddr,
        magic: [u8; 4],
        proto: Connection,
        switches: Arc<Switches>,
    ) -> io::Result<Arc<Self>> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(DIRECT_TIMEOUT))?;
        let state = State {
            proto,
            peer: Peer::new(),
            second: None,
            fee_rate_told: 0,
            announcements: Vec::new(),
            pieces: VecDeque::new(),
            piece_bytes: 0,
            sources: VecDeque::new(),
            busy_until: None,
            writing: false,
            writer: None,
            cutter: Cutter::new(magic),
            spare: Vec::new(),
            closed: false,
        };
        Ok(Arc::new(Self {
            whom,
            remote,
            magic,
            stream,
            switches,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The connection that has joined this one.
    pub(super) fn second(&self) -> Option<Arc<Self>> {
        self.state().second.clone()
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether the node says nothing here.
    pub(super) fn is_silent(&self) -> bool {
        self.switches.faults.silences(self.whom)
    }

    /// What becomes of a message that comes in.
    pub(super) fn receive(&self, command: Command) -> Reception {
        self.switches.faults.receive(self.whom, command)
    }

    /// What becomes of a block that was asked for.
    pub(super) fn deliver(&self) -> Delivery {
        self.switches.faults.deliver(self.whom)
    }

    /// Waits until the line changes; used with a condition in a loop.
    pub(super) fn wait(&self, state: &mut MutexGuard<'_, State>) {
        self.changed.wait(state);
    }

    /// Wakes whoever waits at this line, to look at the switches again.
    pub(super) fn wake(&self) {
        let state = self.state.lock();
        drop(state);
        self.changed.notify_all();
    }

    /// Queues an answer, which goes with the next [`flush`](Self::flush) at the latest. False once the line is closed.
    ///
    /// It waits only where a node, too, stops reading a peer who takes nothing: two nodes that send each other large
    /// blocks must not both wait for the other one to read.
    pub(super) fn answer(self: &Arc<Self>, frame: Frame) -> bool {
        self.queue(frame, ANSWER_LIMIT)
    }

    /// Queues an answer that is made as it leaves, a whole frame, in the same way.
    pub(super) fn answer_made(self: &Arc<Self>, frame: Source) -> bool {
        let mut state = self.state.lock();
        if !self.wait_for_room(&mut state, ANSWER_LIMIT) {
            return false;
        }
        if state.proto.pending_bytes() > 0 {
            let before = state.take_pending(usize::MAX);
            state.sources.push_back(Source::of_bytes(before));
        }
        state.sources.push_back(frame);
        self.flush_state(&mut state);
        true
    }

    /// Sends a frame; waits while the peer takes too little. False once the line is closed.
    pub(super) fn send(self: &Arc<Self>, frame: Frame) -> bool {
        let sent = self.queue(frame, QUEUE_LIMIT);
        self.flush();
        sent
    }

    fn queue(self: &Arc<Self>, frame: Frame, limit: usize) -> bool {
        let mut state = self.state.lock();
        if !self.wait_for_room(&mut state, limit) {
            return false;
        }
        state.proto.send(now(), frame);
        if state.queued_bytes() > DIRECT_LIMIT {
            // The writer can begin while more is made.
            self.flush_state(&mut state);
        }
        true
    }

    /// Queues a message and lets it go; waits for nothing, so it is for small messages that are few.
    pub(super) fn send_now(self: &Arc<Self>, message: &Message) {
        let mut state = self.state.lock();
        if !state.closed {
            state.proto.send(now(), message.to_frame(self.magic));
            self.flush_state(&mut state);
        }
    }

    /// Tells the peer from which fee rate on the node wants to hear of transactions, as it does when that changes.
    ///
    /// In initial block download it wants none, and to a peer that knows nothing else it need not say so afterwards.
    pub(super) fn tell_fee_filter(self: &Arc<Self>) {
        let mut state = self.state.lock();
        // Looked at under the lock, so that the last word is the right one.
        let satoshis_per_kilobyte =
            if self.switches.is_syncing() { HIGHEST_FEE_RATE } else { self.switches.fee_filter() };
        let told = std::mem::replace(&mut state.fee_rate_told, satoshis_per_kilobyte);
        if !state.closed && state.peer.version >= FEEFILTER_VERSION && told != satoshis_per_kilobyte {
            let message = Message::FeeFilter { satoshis_per_kilobyte };
            state.proto.send(now(), message.to_frame(self.magic));
            self.flush_state(&mut state);
        }
    }

    /// Sends bytes as they are, behind whatever was queued before; waits while the peer takes too little.
    pub(super) fn send_bytes(self: &Arc<Self>, bytes: &[u8]) -> bool {
        self.send_shared(SharedBytes::copy_from(bytes))
    }

    /// The same without copying them.
    pub(super) fn send_shared(self: &Arc<Self>, bytes: SharedBytes) -> bool {
        let mut state = self.state.lock();
        // Behind whole frames only: what is queued is made pieces first.
        loop {
            if !self.wait_for_room(&mut state, QUEUE_LIMIT) {
                return false;
            }
            self.stage(&mut state, usize::MAX);
            if state.unstaged_bytes() == 0 {
                break;
            }
            self.flush_state(&mut state);
            if !state.closed && state.unstaged_bytes() > 0 {
                self.changed.wait(&mut state);
            }
        }
        if state.cutter.is_over() {
            self.flush_state(&mut state);
            return !state.closed;
        }
        let due = state.due(now(), self.switches.latency());
        state.push_piece(due, None, Bytes::Shared(bytes));
        self.flush_state(&mut state);
        true
    }

    /// Puts frames in front of the last `keep_last` bytes that are pending.
    pub(super) fn send_ahead(&self, state: &mut State, keep_last: usize, frames: &[Frame]) {
        let mut pending = state.take_pending(usize::MAX);
        let last = pending.split_off(pending.len().saturating_sub(keep_last));
        for frame in frames {
            pending.extend_from_slice(frame);
        }
        pending.extend_from_slice(&last);
        self.put(state, pending);
    }

    /// Lets what is queued go.
    pub(super) fn flush(self: &Arc<Self>) {
        self.flush_state(&mut self.state.lock());
    }

    /// Announces those of the transactions that the peer wants to hear of; waits for nothing.
    ///
    /// `asked`: it asked for them, whether it wants others or not.
    pub(super) fn announce<'a>(self: &Arc<Self>, news: impl IntoIterator<Item = &'a News>, asked: bool) {
        let mut state = self.state.lock();
        let State { peer, announcements, closed, .. } = &mut *state;
        if *closed || !peer.established || !(asked || peer.relay) {
            return;
        }
        let wanted = news.into_iter().filter(|news| peer.wants(news));
        announcements.extend(wanted.map(|news| Inventory::transaction(news.transaction.txid())));
        state.move_announcements(self.magic);
        self.flush_state(&mut state);
    }

    /// Ends the connection at once, in both directions.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        self.close_state(&mut state);
    }

    /// Waits until everything queued is written, but no longer than `limit`; then ends the connection.
    pub(super) fn finish(self: &Arc<Self>, limit: Duration) {
        let deadline = now() + limit;
        let mut state = self.state.lock();
        self.flush_state(&mut state);
        while !state.closed && (state.writing || !state.is_drained()) {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        self.close_state(&mut state);
    }

    /// Waits for the writer thread of a closed line.
    pub(super) fn join_writer(&self) {
        let writer = self.state.lock().writer.take();
        if let Some(writer) = writer {
            // A panic of the writer is printed by its thread; there is nothing to add.
            let _ = writer.join();
        }
    }

    fn close_state(&self, state: &mut State) {
        state.closed = true;
        // An error says that the peer was faster.
        let _ = self.stream.shutdown(Shutdown::Both);
        self.changed.notify_all();
    }

    fn wait_for_room(self: &Arc<Self>, state: &mut MutexGuard<'_, State>, limit: usize) -> bool {
        // What the latency holds back is on its way already.
        let limit = || if self.switches.latency().is_zero() { limit } else { limit.max(STAGED_LIMIT) };
        while !state.closed && state.queued_bytes() > limit() {
            self.flush_state(state);
            if !state.closed && state.queued_bytes() > limit() {
                self.changed.wait(state);
            }
        }
        !state.closed
    }

    /// Writes what goes at once, and leaves the rest to the writer.
    fn flush_state(self: &Arc<Self>, state: &mut State) {
        if state.closed {
            return;
        }
        let latency = self.switches.latency();
        // What is made as it leaves has to be made.
        let changing = self.is_changing(state) || !state.sources.is_empty();
        if !latency.is_zero() || changing {
            // The time starts now, not when the writer comes to it.
            self.stage(state, usize::MAX);
        }
        if state.is_at_end() && !state.writing {
            return self.close_state(state);
        }
        if state.writing || state.is_drained() {
            return;
        }
        if latency.is_zero() && state.queued_bytes() <= DIRECT_LIMIT {
            match self.write_directly(state, changing) {
                Ok(true) if state.is_at_end() => return self.close_state(state),
                Ok(true) => return,
                Ok(false) => {}
                Err(_) => return self.close_state(state),
            }
        }
        state.writing = true;
        if state.writer.is_some() {
            self.changed.notify_all();
            return;
        }
        let line = Arc::clone(self);
        match thread::Builder::new().name("testnode-write".to_owned()).spawn(move || line.write_on()) {
            Ok(writer) => state.writer = Some(writer),
            Err(_) => self.close_state(state),
        }
    }

    /// `Ok(false)` if the kernel did not take all of it within a moment, or may not have it yet.
    ///
    /// `changing`: faults may change what is not in pieces yet.
    fn write_directly(&self, state: &mut State, changing: bool) -> io::Result<bool> {
        while let Some(piece) = state.pieces.front_mut() {
            if piece.due > now() || piece.rate.is_some() || state.busy_until.is_some_and(|until| until > now()) {
                return Ok(false);
            }
            let Some(n) = taken((&self.stream).write(&piece.bytes[piece.sent..]))? else { return Ok(false) };
            piece.sent += n;
            state.piece_bytes -= n;
            state.pieces.pop_front_if(|piece| piece.sent == piece.bytes.len());
        }
        if changing {
            return Ok(state.unstaged_bytes() == 0);
        }
        while state.proto.pending_bytes() > 0 {
            let mut slices = [IoSlice::new(&[]); 16];
            let filled = state.proto.pending(&mut slices);
            let Some(n) = taken((&self.stream).write_vectored(&slices[..filled]))? else { return Ok(false) };
            let mut left = n;
            for slice in &slices[..filled] {
                let sent = slice.len().min(left);
                state.cutter.follow(&slice[..sent]);
                left -= sent;
            }
            state.proto.mark_sent(now(), n);
        }
        Ok(true)
    }

    /// Makes pieces of what is pending, as far as the limits of a piece and of all pieces go.
    fn stage(&self, state: &mut State, limit: usize) {
        while state.unstaged_bytes() > 0 {
            if state.cutter.is_over() {
                // None of it will be sent.
                state.sources.clear();
                state.spare = state.take_pending(usize::MAX);
                break;
            }
            // The latency is there to hold back what is made, too; nothing else needs it early.
            let is_made = !state.sources.is_empty() && self.switches.latency().is_zero();
            if state.piece_bytes >= if is_made { MADE_LIMIT } else { STAGED_LIMIT } {
                break;
            }
            let bytes = if state.sources.is_empty() { state.take_pending(PIECE_LEN) } else { state.take_made() };
            self.put(state, bytes);
            if limit <= PIECE_LEN {
                break;
            }
        }
    }

    /// Makes pieces of bytes that follow those taken before, and lets the faults change them.
    fn put(&self, state: &mut State, bytes: Vec<u8>) {
        let (now, latency) = (now(), self.switches.latency());
        if !self.is_changing(state) {
            state.cutter.follow(&bytes);
            let due = state.due(now, latency);
            return state.push_piece(due, None, Bytes::Own(bytes));
        }
        let treat = |command, len| self.switches.faults.send(self.whom, command, len);
        for cut in state.cutter.cut(&bytes, treat) {
            let due = state.due(now, latency + cut.delay);
            state.push_piece(due, cut.rate, Bytes::Own(cut.bytes));
        }
        state.spare = bytes;
    }

    /// Whether what leaves `proto` may not go as it is.
    fn is_changing(&self, state: &State) -> bool {
        state.cutter.is_changing() || self.switches.faults.change_output(self.whom)
    }

    /// The writer thread: writes while there is something, then sleeps until [`flush`](Self::flush) has more.
    fn write_on(self: Arc<Self>) {
        let mut state = self.state.lock();
        // From here on a write waits as long as the peer does; closing the line ends it.
        let mut timeout = self.stream.set_write_timeout(None);
        while !state.closed && timeout.is_ok() {
            let (now, latency) = (now(), self.switches.latency());
            state.move_announcements(self.magic);
            if state.pieces.is_empty() || !latency.is_zero() {
                self.stage(&mut state, PIECE_LEN);
            }
            let busy_until = state.busy_until;
            match state.pieces.front().map(|piece| busy_until.map_or(piece.due, |until| until.max(piece.due))) {
                Some(due) if due > now => {
                    self.changed.wait_until(&mut state, due);
                }
                Some(_) => {
                    let Some(mut piece) = state.pieces.pop_front() else { continue };
                    let mut stream = &self.stream;
                    let end = piece.end_of_step();
                    let written =
                        MutexGuard::unlocked(&mut state, || stream.write_all(&piece.bytes[piece.sent..end]));
                    let n = end - piece.sent;
                    state.piece_bytes -= n;
                    piece.sent = end;
                    if let Some(rate) = piece.rate {
                        let before = busy_until.map_or(now, |until| until.max(now));
                        state.busy_until = Some(before + Duration::from_secs_f64(n as f64 / rate as f64));
                    }
                    if end < piece.bytes.len() {
                        state.pieces.push_front(piece);
                    } else if let Bytes::Own(bytes) = piece.bytes {
                        state.spare = bytes;
                    }
                    if written.is_err() {
                        self.close_state(&mut state);
                    }
                    self.changed.notify_all();
                }
                None if state.is_at_end() => break,
                None => {
                    timeout = self.stream.set_write_timeout(Some(DIRECT_TIMEOUT));
                    state.writing = false;
                    state.spare = Vec::new();
                    self.changed.notify_all();
                    while !state.writing && !state.closed {
                        self.changed.wait(&mut state);
                    }
                    timeout = timeout.and_then(|()| self.stream.set_write_timeout(None));
                }
            }
        }
        self.close_state(&mut state);
    }
}

impl State {
    /// Bytes that have not reached the kernel.
    fn queued_bytes(&self) -> usize {
        self.proto.queued_bytes().max(self.proto.pending_bytes()).saturating_add(self.made_bytes())
            + self.piece_bytes
    }

    /// Bytes that have not been made pieces, and may be.
    fn unstaged_bytes(&self) -> usize {
        self.proto.pending_bytes() + self.made_bytes()
    }

    /// Bytes in `sources`.
    fn made_bytes(&self) -> usize {
        let bytes: u64 = self.sources.iter().map(Source::left).sum();
        usize::try_from(bytes).unwrap_or(usize::MAX / 2)
    }

    fn is_drained(&self) -> bool {
        self.proto.pending_bytes() == 0 && self.sources.is_empty() && self.pieces.is_empty()
    }

    /// Whether a fault ends the connection here.
    fn is_at_end(&self) -> bool {
        self.cutter.is_at_end() && self.pieces.is_empty()
    }

    /// When bytes queued now may go: never before those queued earlier.
    fn due(&self, now: Instant, latency: Duration) -> Instant {
        let due = now + latency;
        self.pieces.back().map_or(due, |last| last.due.max(due))
    }

    fn push_piece(&mut self, due: Instant, rate: Option<u64>, bytes: Bytes) {
        if !bytes.is_empty() {
            self.piece_bytes += bytes.len();
            self.pieces.push_back(Piece { due, rate, bytes, sent: 0 });
        }
    }

    /// Makes the next bytes of the first source.
    fn take_made(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.clear();
        if let Some(source) = self.sources.front_mut() {
            source.fill(&mut bytes, MADE_LEN);
        }
        self.sources.pop_front_if(|source| source.left() == 0);
        bytes
    }

    /// Takes at most `limit` bytes out of what is pending.
    fn take_pending(&mut self, limit: usize) -> Vec<u8> {
        let limit = limit.min(self.proto.pending_bytes());
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.clear();
        bytes.reserve_exact(limit);
        while bytes.len() < limit {
            let before = bytes.len();
            let mut slices = [IoSlice::new(&[]); 16];
            let filled = self.proto.pending(&mut slices);
            for slice in &slices[..filled] {
                let n = slice.len().min(limit - bytes.len());
                bytes.extend_from_slice(&slice[..n]);
            }
            // They count as sent from here on: an urgent frame can no longer go before them.
            self.proto.mark_sent(now(), bytes.len() - before);
        }
        bytes
    }

    /// Makes `inv` messages of waiting announcements while there is room.
    fn move_announcements(&mut self, magic: [u8; 4]) {
        while !self.announcements.is_empty() && self.queued_bytes() <= QUEUE_LIMIT {
            let n = self.peer.inventory_limit.min(self.announcements.len());
            let rest = self.announcements.split_off(n);
            let items = std::mem::replace(&mut self.announcements, rest);
            self.proto.send(now(), Message::Inv(items).to_frame(magic));
        }
    }
}

impl Piece {
    /// How far it may be written at once.
    fn end_of_step(&self) -> usize {
        let left = self.bytes.len() - self.sent;
        let step = self.rate.map_or(u64::MAX, |rate| (rate / STEPS_A_SECOND).max(1));
        self.sent + usize::try_from(step).unwrap_or(usize::MAX).min(left)
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// How many bytes a write took; `None` if it took none within its time.
fn taken(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        Ok(n) => Ok(Some(n)),
        Err(error) => match error.kind() {
            io::ErrorKind::Interrupted => Ok(Some(0)),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(None),
            _ => Err(error),
        },
    }
}

/// `FEEFILTER_VERSION` of the node.
const FEEFILTER_VERSION: i32 = 70_013;
/// What the node says in initial block download, its largest rounding bucket; satoshis for 1,000 bytes.
const HIGHEST_FEE_RATE: i64 = 9_577_383;
/// How long a thread that answers may be held up by a peer who does not read, before the writer takes over.
const DIRECT_TIMEOUT: Duration = Duration::from_millis(1);
/// More than this goes to the writer straight away, so that reading goes on beside it; bytes.
const DIRECT_LIMIT: usize = 64 * 1_024;
/// Whoever sends waits while more than this is queued; bytes.
const QUEUE_LIMIT: usize = 1_024 * 1_024;
/// `-maxsendbuffer` of the node: no answer is added while more is queued; bytes. Blocks are shared, not copied.
const ANSWER_LIMIT: usize = 500_000_000;
/// What is written at once; bytes.
const PIECE_LEN: usize = 256 * 1_024;
/// What is made at once; bytes.
const MADE_LEN: usize = 128 * 1_024;
/// What is made before it can leave; bytes.
const MADE_LIMIT: usize = 256 * 1_024;
/// How many times a second throttled bytes go.
const STEPS_A_SECOND: u64 = 20;
/// What the latency holds back at most; bytes. It bounds the rate to this much for each latency.
const STAGED_LIMIT: usize = 16 * 1_024 * 1_024;
