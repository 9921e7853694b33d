//! A message thread: verifies checksums, decodes, and hands each message to the one place it belongs.
//!
//! It never blocks on a full queue: what does not fit is parked for its peer, still charged to that peer's inbound
//! budget, so that only this peer is stopped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::counters::add;
use super::shared::Shared;
use crate::error::DisconnectReason;
use crate::message::{BlockHeader, Message};
use crate::peer::{ConnectionId, IdMap, PeerId};
use crate::proto::{FrameBatch, ProtocolError, RawFrame};
use crate::queue::inbound::Inbound;
use crate::queue::message::{Incoming, Queued, Writer};
use crate::queue::outbound::Command;
use crate::wire::{Command as WireCommand, FrameError, SharedBytes, sha256d};

/// Runs until it is told to shut down.
pub(super) fn run(shared: &Arc<Shared>, index: usize, inbound: &Receiver<Inbound>) {
    let mut thread = MessageThread { shared, peers: IdMap::default(), parked: BTreeMap::new() };
    loop {
        let now = super::now();
        let sleep_until = now.instant + thread.sleep(index);
        match inbound.recv_deadline(sleep_until) {
            Ok(Inbound::Shutdown) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(inbound) => thread.take(inbound),
            Err(RecvTimeoutError::Timeout) => {}
        }
        // A busy queue is emptied in lots before the deadlines are looked at.
        for _ in 0..LOT {
            match inbound.try_recv() {
                Ok(Inbound::Shutdown) => return,
                Ok(inbound) => thread.take(inbound),
                Err(_) => break,
            }
        }
        if index == 0 {
            shared.enter(|core, now| core.engine.handle_timeout(now));
        }
    }
}

/// Finishes a reply in the event loop, if that is sure to hand nothing to a queue; gives the batch back otherwise.
pub(super) fn finish_here(
    shared: &Arc<Shared>,
    own: ConnectionId,
    connection: ConnectionId,
    peer: PeerId,
    batch: FrameBatch,
) -> Option<FrameBatch> {
    let may_answer = |frame: &RawFrame| {
        let command = frame.command;
        [WireCommand::TX, WireCommand::NOTFOUND, WireCommand::PONG, WireCommand::HEADERS].contains(&command)
    };
    if !batch.frames.first().is_some_and(may_answer) {
        return Some(batch);
    }
    let now = super::now();
    let Some(mut core) = shared.core.try_lock() else { return Some(batch) };
    let command = batch.frames[0].command;
    if !core.engine.awaits(peer, command) {
        return Some(batch);
    }
    // The lock is held while a payload of a few kilobytes is hashed; nobody waits for that long.
    let bytes = SharedBytes::copy_from(&batch.bytes);
    let Ok(message) = decode(&bytes, &batch.frames[0]) else { return Some(batch) };
    if check(&message, |_| false).is_err() || !core.engine.would_claim(peer, &message) {
        return Some(batch);
    }
    let unclaimed = core.engine.handle_message(now, peer, connection, message);
    debug_assert!(unclaimed.is_none(), "a message that was claimed came back");
    let todo = shared.take_actions(&mut core);
    drop(core);
    shared.perform(todo);
    shared.resume(shared.inbound_budget.release(own, batch.cost() - batch.reserved, batch.reserved, 1));
    None
}

struct MessageThread<'a> {
    shared: &'a Arc<Shared>,
    peers: IdMap<PeerId, PeerState>,
    /// Messages that found their queue full, by peer.
    parked: BTreeMap<PeerId, Parked>,
}

/// What the thread knows of a connection.
struct PeerState {
    connection: ConnectionId,
    /// It broke the protocol and is being closed; what else it sent does not count.
    faulty: bool,
}

#[derive(Default)]
struct Parked {
    messages: VecDeque<ParkedMessage>,
    /// Always the summed cost of `messages`.
    bytes: usize,
    /// The connection that was stopped.
    paused: Option<ConnectionId>,
}

struct ParkedMessage {
    queued: Queued,
    /// Queues it has yet to go into.
    writers: Vec<Arc<Writer>>,
    connection: ConnectionId,
    /// The part of the cost that lies in the pool.
    reserved: usize,
}

/// What messages that stay with us are charged, of the share and of the pool.
#[derive(Default)]
struct Charged {
    count: usize,
    cost: usize,
    reserved: usize,
}

/// A message on its way, with what it is charged.
struct Decoded {
    message: Message,
    cost: usize,
}

impl MessageThread<'_> {
    fn sleep(&self, index: usize) -> Duration {
        if index != 0 {
            return MAX_SLEEP;
        }
        let now = super::now();
        let mut core = self.shared.core.lock();
        let latest = now.instant + MAX_SLEEP;
        let until = core.engine.poll_timeout().map_or(latest, |due| due.min(latest));
        core.sleeps_until = Some(until);
        until.saturating_duration_since(now.instant)
    }

    fn take(&mut self, inbound: Inbound) {
        let shared = self.shared;
        match inbound {
            Inbound::Frames { connection, peer, batch, link } => {
                self.take_frames(link.connection, connection, peer, batch);
                link.in_flight.fetch_sub(1, Ordering::AcqRel);
            }
            Inbound::Up { connection, peer, version } => {
                // Or a peer that comes back again and again would leave more behind each time.
                let is_full =
                    self.parked.get(&peer).is_some_and(|parked| parked.bytes > shared.config.overflow_limit);
                self.peers.insert(peer, PeerState { connection, faulty: is_full });
                if is_full {
                    shared.command(Command::Close { connection, reason: DisconnectReason::PausedTooLong });
                } else {
                    shared.enter(|core, now| core.engine.handle_up(now, peer, connection, version));
                }
            }
            Inbound::Down { connection, peer, reason } => {
                if self.peers.get(&peer).is_some_and(|state| state.connection == connection) {
                    self.peers.remove(&peer);
                }
                shared.enter(|core, now| core.engine.handle_down(now, peer, connection, reason));
            }
            Inbound::Association { connection, peer, address, association } => {
                shared.enter(|core, _| core.engine.handle_association(peer, connection, address, association));
            }
            Inbound::Joined { connection, of, peer } => {
                shared.enter(|core, _| core.engine.handle_joined(peer, of, connection));
            }
            Inbound::ReadAgain { connection, peer } => {
                shared.enter(|core, now| core.engine.handle_read_again(now, peer, connection));
            }
            Inbound::RoundTrip { peer, round_trip } => {
                shared.enter(|core, now| core.engine.handle_round_trip(now, peer, round_trip));
            }
            Inbound::Oversized { connection, peer, command, length, start } => {
                shared.enter(|core, now| {
                    core.engine.handle_oversized(now, peer, connection, command, length, &start);
                });
            }
            Inbound::BlockBegan { connection, peer, stream, size, wanted } => {
                shared.enter(|core, now| {
                    core.engine.handle_block_began(now, peer, connection, stream, size, wanted);
                });
            }
            Inbound::BlockEnded { connection, peer, stream, hash } => {
                shared.enter(|core, now| core.engine.handle_block_ended(now, peer, connection, stream, &hash));
            }
            Inbound::Writable { peer } => shared.serve(peer),
            Inbound::Resolved { peer, connection, result } => {
                shared.enter(|core, now| core.engine.handle_resolved(now, peer, connection, result));
            }
            Inbound::Wake => {
                self.unpark();
                shared.enter(|core, now| core.engine.handle_watch_room(now));
            }
            // Looked for where messages are received.
            Inbound::Shutdown => {}
        }
    }

    /// `own` is the connection that brought them and is charged for them.
    fn take_frames(&mut self, own: ConnectionId, connection: ConnectionId, peer: PeerId, batch: FrameBatch) {
        let (cost, reserved, frames) = (batch.cost() - batch.reserved, batch.reserved, batch.frames.len());
        let faulty = self.peers.get(&peer).is_none_or(|state| state.connection != connection || state.faulty);
        if faulty {
            add(&self.shared.counters.faulty, frames as u64);
            self.shared.resume(self.shared.inbound_budget.release(own, cost, reserved, frames));
            return;
        }
        let (decoded, fault) = self.decode_all(peer, batch);
        if fault.is_some() {
            add(&self.shared.counters.faulty, (frames - decoded.len()) as u64);
        }
        let (unclaimed, writers) = self.shared.enter(|core, now| {
            let mut unclaimed = Vec::with_capacity(decoded.len());
            for Decoded { message, cost } in decoded {
                if let Some(message) = core.engine.handle_message(now, peer, connection, message) {
                    unclaimed.push(Decoded { message, cost });
                }
            }
            (unclaimed, Shared::writers(core))
        });
        // What is parked stays charged; everything else has found its place.
        let parked = self.deliver(own, peer, unclaimed, &writers, reserved);
        self.pause_if_over(connection, peer);
        let resumed = self.shared.inbound_budget.release(
            own,
            cost - parked.cost,
            reserved - parked.reserved,
            frames - parked.count,
        );
        self.shared.resume(resumed);
        if let Some(error) = fault {
            if let Some(state) = self.peers.get_mut(&peer) {
                state.faulty = true;
            }
            self.shared.command(Command::Close { connection, reason: DisconnectReason::Protocol(error) });
        }
    }

    /// Decodes up to the first fault.
    fn decode_all(&self, peer: PeerId, batch: FrameBatch) -> (Vec<Decoded>, Option<ProtocolError>) {
        let bytes = SharedBytes::from(batch.bytes);
        let mut decoded = Vec::with_capacity(batch.frames.len());
        // What the engine keeps must not keep the whole batch; the callers copy theirs out of it when they take it.
        let is_kept = self.shared.core.lock().engine.may_keep_transactions(peer);
        let decode = |frame| if is_kept { decode(&bytes, frame) } else { decode_in_place(&bytes, frame) };
        for frame in &batch.frames {
            let message = decode(frame).and_then(|message| {
                check(&message, |hash| self.shared.core.lock().engine.wants_block(peer, hash))?;
                Ok(message)
            });
            match message {
                Ok(message) => decoded.push(Decoded { message, cost: frame.cost() }),
                Err(error) => return (decoded, Some(error)),
            }
        }
        (decoded, None)
    }

    /// Puts messages into the callers' queues; tells what those parked are charged.
    fn deliver(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        messages: Vec<Decoded>,
        writers: &[Arc<Writer>],
        reserved: usize,
    ) -> Charged {
        let messages = compact_few(messages);
        // A queue for all commands is about to get them all, and growing its batch would copy them again.
        let room = |writer: &Arc<Writer>| if writer.takes_all() { messages.len() } else { 0 };
        let mut batches: Vec<Vec<Queued>> = writers.iter().map(|w| Vec::with_capacity(room(w))).collect();
        let total: usize = messages.iter().map(|decoded| decoded.cost).sum();
        let is_behind = self.parked.contains_key(&peer);
        // Charged together where all of them fit: the gauge is shared with the workers, so each look at it costs.
        let charge_all = |writer: &Arc<Writer>| {
            !is_behind && writer.takes_all() && !writer.is_closed() && writer.charge_all(messages.len(), total)
        };
        let charged: Vec<bool> = writers.iter().map(charge_all).collect();
        let mut fits = Vec::with_capacity(writers.len());
        let mut charged_on = Charged::default();
        let mut unclaimed = 0;
        // A batch with room of its own in the pool holds one frame.
        let in_pool = reserved;
        for Decoded { message, cost } in messages {
            let command = message.command();
            let mut full = Vec::new();
            fits.clear();
            let waits = self.parked.contains_key(&peer);
            for (index, writer) in writers.iter().enumerate() {
                if charged[index] {
                    fits.push(index);
                    continue;
                }
                if !writer.takes(command) || writer.is_closed() {
                    continue;
                }
                // Behind others of the same peer, so that its messages keep their order.
                if waits || !writer.charge(cost) {
                    full.push(writer.clone());
                } else {
                    fits.push(index);
                }
            }
            let incoming = Incoming { peer, message };
            if !full.is_empty() {
                let queued =
                    Queued { incoming: Incoming { peer, message: incoming.message.clone().compacted() }, cost };
                charged_on.count += 1;
                charged_on.cost += cost - in_pool;
                charged_on.reserved += in_pool;
                let parked = self.parked.entry(peer).or_default();
                parked.bytes += cost;
                parked.messages.push_back(ParkedMessage { queued, writers: full, connection, reserved: in_pool });
            } else if fits.is_empty() {
                unclaimed += 1;
                if let Message::GetData(items) = &incoming.message {
                    self.shared.answer_not_found(peer, items);
                }
            }
            if let Some((&last, others)) = fits.split_last() {
                for &index in others {
                    batches[index].push(Queued { incoming: incoming.clone(), cost });
                }
                batches[last].push(Queued { incoming, cost });
            }
        }
        for (writer, batch) in writers.iter().zip(batches) {
            writer.put(batch);
        }
        if unclaimed > 0 {
            add(&self.shared.counters.unclaimed, unclaimed);
        }
        charged_on
    }

    /// Stops a peer whose parked messages are over `overflow_limit`.
    fn pause_if_over(&mut self, connection: ConnectionId, peer: PeerId) {
        let Some(parked) = self.parked.get_mut(&peer) else { return };
        if parked.paused == Some(connection) || parked.bytes <= self.shared.config.overflow_limit {
            return;
        }
        parked.paused = Some(connection);
        self.set_paused(connection, peer, true);
    }

    fn set_paused(&self, connection: ConnectionId, peer: PeerId, paused: bool) {
        if let Some(link) = self.shared.link(peer)
            && link.connection == connection
        {
            link.paused.store(paused, Ordering::Release);
        }
        self.shared.outbound.budget.set_paused(connection, paused);
        log::debug!(target: "conduit::driver", "{peer}: {}", if paused { "paused, its messages are not taken" } else { "read again" });
        self.shared.enter(|core, now| core.engine.handle_paused(now, peer, paused));
        self.shared.command(Command::SetReading { connection, reading: !paused });
    }

    /// Puts parked messages into queues that have room again, each peer in its turn.
    fn unpark(&mut self) {
        let mut moved = true;
        while moved {
            moved = false;
            let peers: Vec<PeerId> = self.parked.keys().copied().collect();
            for peer in peers {
                moved |= self.unpark_some(peer);
            }
        }
    }

    /// Moves some of a peer's parked messages; false if none could move.
    fn unpark_some(&mut self, peer: PeerId) -> bool {
        let Some(parked) = self.parked.get_mut(&peer) else { return false };
        let mut moved = 0;
        while moved < UNPARK_LOT
            && let Some(first) = parked.messages.front_mut()
        {
            let queued = &first.queued;
            first.writers.retain(|writer| {
                let fits = !writer.is_closed() && writer.charge(queued.cost);
                if fits {
                    writer.put(vec![queued.clone()]);
                }
                !fits && !writer.is_closed()
            });
            if !first.writers.is_empty() {
                break;
            }
            if let Some(done) = parked.messages.pop_front() {
                moved += 1;
                let cost = done.queued.cost;
                parked.bytes -= cost;
                let budget = &self.shared.inbound_budget;
                self.shared.resume(budget.release(done.connection, cost - done.reserved, done.reserved, 1));
            }
        }
        let low = self.shared.config.overflow_limit / 2;
        let resumed = if parked.bytes <= low { parked.paused.take() } else { None };
        if parked.messages.is_empty() {
            self.parked.remove(&peer);
        }
        if let Some(connection) = resumed {
            self.set_paused(connection, peer, false);
        }
        moved > 0
    }
}

/// Copies transactions out of their batch if they are less than half of it: a queue may hold no more than twice what it
/// is charged.
fn compact_few(messages: Vec<Decoded>) -> Vec<Decoded> {
    let transaction = |decoded: &Decoded| match &decoded.message {
        Message::Tx(transaction) => Some((transaction.raw().len(), transaction.buffer_len())),
        _ => None,
    };
    let transactions = || messages.iter().filter_map(transaction);
    let buffer = transactions().map(|(_, buffer)| buffer).max().unwrap_or(0);
    if transactions().map(|(len, _)| len).sum::<usize>() >= buffer / 2 {
        return messages;
    }
    messages.into_iter().map(|decoded| Decoded { message: decoded.message.compacted(), ..decoded }).collect()
}

/// Verifies a frame's checksum and decodes its payload.
fn decode(bytes: &SharedBytes, frame: &RawFrame) -> Result<Message, ProtocolError> {
    decode_in_place(bytes, frame).map(Message::compacted)
}

/// As [`decode`], but a transaction shares the batch's bytes.
fn decode_in_place(bytes: &SharedBytes, frame: &RawFrame) -> Result<Message, ProtocolError> {
    let payload = bytes.slice(frame.payload.clone()).unwrap_or_default();
    let digest = match frame.checksum {
        None => None,
        Some(expected) => {
            let digest = sha256d(&payload);
            let got = [digest[0], digest[1], digest[2], digest[3]];
            if got != expected {
                return Err(FrameError::BadChecksum { command: frame.command, expected, got }.into());
            }
            Some(digest)
        }
    };
    let decoded = Message::decode_in_place(frame.command, payload, digest.as_ref());
    decoded.map_err(|error| ProtocolError::Malformed { command: frame.command, error })
}

/// Checks what a message claims of itself, as far as it costs hashing.
fn check(message: &Message, is_wanted: impl Fn(&crate::wire::BlockHash) -> bool) -> Result<(), ProtocolError> {
    match message {
        Message::Headers(headers) if !follow_each_other(headers) => Err(ProtocolError::DisconnectedHeaders),
        Message::HdrsEn(items) => {
            let headers: Vec<BlockHeader> = items.iter().map(|item| item.header).collect();
            if !follow_each_other(&headers) {
                return Err(ProtocolError::DisconnectedHeaders);
            }
            // A pruned block comes without its coinbase.
            let proven = items.iter().filter(|item| item.coinbase.is_some());
            proven.into_iter().try_for_each(|item| item.verify().map_err(ProtocolError::BadProof))
        }
        Message::MerkleBlock(block) => block.matches().map(drop).map_err(ProtocolError::BadPartialTree),
        Message::Block(block) if is_wanted(&block.hash()) && block.check_merkle_root().is_err() => {
            Err(ProtocolError::BadMerkleRoot)
        }
        _ => Ok(()),
    }
}

fn follow_each_other(headers: &[BlockHeader]) -> bool {
    headers.windows(2).all(|pair| pair[1].previous == pair[0].hash())
}

/// Items taken from the queue before the deadlines are looked at.
const LOT: usize = 64;
/// Messages of one peer put back before the next has its turn.
const UNPARK_LOT: usize = 64;
/// A deadline that comes closer wakes the thread, so this is a precaution only.
const MAX_SLEEP: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Transaction;
    use crate::wire::Command;

    /// So many transactions of one batch, of which only some are still there.
    fn decoded(batch: u32, left: usize) -> Vec<Decoded> {
        let raw = Transaction::new(1, &[], &[], 7).raw().to_vec();
        let bytes = SharedBytes::from(raw.repeat(batch as usize));
        let of = |n: usize| {
            let payload = bytes.slice(n * raw.len()..(n + 1) * raw.len()).expect("it lies in the batch");
            Message::decode_in_place(Command::TX, payload, None).expect("it is a transaction")
        };
        (0..left).map(|n| Decoded { message: of(n), cost: 1 }).collect()
    }

    fn held(messages: &[Decoded]) -> usize {
        let Message::Tx(transaction) = &messages[0].message else { panic!("only transactions are made here") };
        transaction.buffer_len() / transaction.raw().len()
    }

    #[test]
    fn few_of_a_batch_are_copied_out_of_it_and_many_are_not() {
        assert_eq!(held(&compact_few(decoded(100, 100))), 100);
        assert_eq!(held(&compact_few(decoded(100, 50))), 100);
        assert_eq!(held(&compact_few(decoded(100, 49))), 1);
        let mut mixed = vec![Decoded { message: Message::Verack, cost: 1 }];
        mixed.extend(decoded(100, 1));
        assert_eq!(held(&compact_few(mixed)[1..]), 1);
        assert!(compact_few(Vec::new()).is_empty());
    }
}
