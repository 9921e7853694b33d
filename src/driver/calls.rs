//! What callers ask of a conduit: each enters the engine, or charges the outbound queue, and waits if it must.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::shared::{Core, Phase, Shared, WatchQueue};
use super::{deadline_after, now};
use crate::engine::{RequestId, RequestOutcome};
use crate::error::{AddPeersError, RequestError, SendFailure, StartError, SubscribeError, WaitForPeersError};
use crate::harm::harm_of;
use crate::message::{Message, Services};
use crate::peer::{BanInfo, ConnectionId, PeerAddress, PeerId, PeerInfo};
use crate::pending::{Outcome, RequestSlot};
use crate::queue::events::Events;
use crate::queue::link::{LinkState, once_bit};
use crate::queue::message::{self, Gauge, Messages, Reader};
use crate::queue::outbound::budget::{Refused, Wait};
use crate::queue::outbound::{Command, SMALL_PAYLOAD, SmallFrame, send_cost};
use crate::queue::slot::Slot;
use crate::request::{Question, RequestOptions};
use crate::stats::Stats;
use crate::watch::{Watch, Watching};
use crate::wire::{self, Frame, FrameHeader};

/// Gathers the outcomes of requests for `run_until_queue_empty`.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    outcomes: Mutex<BTreeMap<RequestId, Option<Outcome>>>,
    changed: Condvar,
}

impl Shared {
    pub(crate) fn add_peers(self: &Arc<Self>, addresses: Vec<PeerAddress>) -> Result<Vec<PeerId>, AddPeersError> {
        self.enter(|core, now| match core.phase {
            Phase::Over { .. } => Err(AddPeersError::Shutdown),
            _ => core.engine.add_peers(now, addresses),
        })
    }

    pub(crate) fn set_main_peer(self: &Arc<Self>, address: PeerAddress) -> Result<PeerId, AddPeersError> {
        self.enter(|core, now| {
            if let Phase::Over { .. } = core.phase {
                return Err(AddPeersError::Shutdown);
            }
            let ids = core.engine.add_peers(now, vec![address])?;
            ids.iter().for_each(|&id| core.engine.set_main_peer(now, id));
            ids.first().copied().ok_or(AddPeersError::Shutdown)
        })
    }

    pub(crate) fn add_connections(
        self: &Arc<Self>,
        address: PeerAddress,
        count: usize,
    ) -> Result<Vec<PeerId>, AddPeersError> {
        self.enter(|core, now| match core.phase {
            Phase::Over { .. } => Err(AddPeersError::Shutdown),
            _ => core.engine.add_connections(now, address, count),
        })
    }

    pub(crate) fn main_peer(&self) -> Option<PeerId> {
        self.core.lock().engine.main_peer(now())
    }

    pub(crate) fn unban(self: &Arc<Self>, address: PeerAddress) -> bool {
        self.enter(|core, now| core.engine.unban(now, address))
    }

    pub(crate) fn bans(&self) -> Vec<BanInfo> {
        self.core.lock().engine.bans(now())
    }

    pub(crate) fn disconnect(self: &Arc<Self>, peer: PeerId) -> bool {
        self.enter(|core, now| core.engine.disconnect(now, peer))
    }

    pub(crate) fn ban(self: &Arc<Self>, peer: PeerId, how_long: Duration) -> bool {
        self.enter(|core, now| core.engine.ban(now, peer, how_long))
    }

    pub(crate) fn peers(&self) -> Vec<PeerInfo> {
        let mut peers = self.core.lock().engine.peers(now());
        let links = self.links.read();
        for peer in &mut peers {
            peer.traffic = links.get(&peer.id).map(|link| link.traffic.read());
        }
        peers
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.counters.fill(&mut stats);
        // The run that callers are writing is counted when it is closed.
        self.outbound.flush();
        let (outbound_queue, unsent) = self.outbound.budget.stats();
        stats.outbound_queue = outbound_queue;
        stats.inbound_queue = self.inbound_budget.stats();
        let core = self.core.lock();
        stats.outbox = core.engine.outbox_stats();
        core.happened.fill(&mut stats);
        stats.uptime = core.happened.started.map_or(Duration::ZERO, |start| now().instant - start);
        stats.drops.unsent = unsent;
        for writer in core.writers.iter().filter(|writer| !writer.is_closed()) {
            if writer.takes_all() {
                stats.message_queue = Some(writer.stats());
            } else {
                stats.subscriptions.push(writer.stats());
            }
        }
        for queue in core.watches.values() {
            stats.drops.announcements += queue.missed.load(Ordering::Acquire);
            if !queue.gauge.is_closed() {
                stats.watches.push(queue.gauge.stats());
            }
        }
        stats
    }

    /// Counts a request that was refused at the call.
    pub(crate) fn note_refused_request(&self, error: RequestError) -> RequestError {
        self.core.lock().happened.note_request::<()>(&Err(error.clone()));
        error
    }

    pub(crate) fn wait_for_peers(&self, wanted: usize, timeout: Duration) -> Result<(), WaitForPeersError> {
        let deadline = deadline_after(timeout);
        let mut ready = self.ready.lock();
        while ready.count < wanted && !ready.over {
            match deadline {
                None => self.ready_changed.wait(&mut ready),
                Some(deadline) => {
                    if self.ready_changed.wait_until(&mut ready, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        if ready.count >= wanted && !ready.over {
            return Ok(());
        }
        Err(WaitForPeersError { connected: ready.count, wanted, shutdown: ready.over })
    }

    /// Submits a request; its result will be in the slot. `blocking` refuses what could only wait for a start.
    pub(crate) fn submit(
        self: &Arc<Self>,
        question: Question,
        options: &RequestOptions,
        blocking: bool,
    ) -> Result<(RequestId, Arc<RequestSlot>), RequestError> {
        let submitted = self.enter(|core, now| {
            match core.phase {
                Phase::Over { crashed: true } => return Err(RequestError::Crashed),
                Phase::Over { crashed: false } => return Err(RequestError::Shutdown),
                Phase::New if blocking => return Err(RequestError::NotStarted),
                _ => {}
            }
            let id = core.engine.submit(now, question, options)?;
            let slot = Arc::new(Slot::new());
            core.slots.insert(id, slot.clone());
            if !blocking {
                core.recorders.iter().for_each(|recorder| recorder.include(id));
            }
            Ok((id, slot))
        });
        submitted.map_err(|error| self.note_refused_request(error))
    }

    pub(crate) fn cancel(self: &Arc<Self>, id: RequestId) {
        self.enter(|core, now| core.engine.cancel(now, id));
    }

    /// Starts, and waits until every open request has ended; gives their outcomes in the order queued.
    pub(crate) fn run_until_queue_empty(self: &Arc<Self>) -> Result<Vec<Outcome>, StartError> {
        let recorder = Arc::new(Recorder::default());
        // Before the start, so that no outcome is missed.
        self.enter(|core, _| {
            core.engine.open_requests().into_iter().for_each(|id| recorder.include(id));
            core.recorders.push(recorder.clone());
        });
        let outcomes = self.start().map(|()| recorder.wait());
        self.enter(|core, _| core.recorders.retain(|other| !Arc::ptr_eq(other, &recorder)));
        outcomes
    }

    pub(crate) fn messages(&self) -> Result<Messages, SubscribeError> {
        let mut core = self.core.lock();
        if let Some(messages) = Messages::upgrade(&core.messages) {
            return Ok(messages);
        }
        let messages = self.open_queue(&mut core, None)?;
        core.messages = messages.downgrade();
        Ok(messages)
    }

    pub(crate) fn subscribe(&self, commands: Vec<wire::Command>) -> Result<Messages, SubscribeError> {
        self.open_queue(&mut self.core.lock(), Some(commands))
    }

    fn open_queue(
        &self,
        core: &mut Core,
        commands: Option<Vec<wire::Command>>,
    ) -> Result<Messages, SubscribeError> {
        self.check_queues(core)?;
        let mut writers: Vec<_> = core.writers.iter().filter(|writer| !writer.is_closed()).cloned().collect();
        let (bytes, items) = (self.config.message_queue_bytes, self.config.message_queue_items);
        let (writer, messages) = message::open(bytes, items, commands, self.inbound.clone());
        writers.push(Arc::new(writer));
        core.writers = Arc::new(writers);
        Ok(messages)
    }

    pub(crate) fn watch(self: &Arc<Self>, what: Watch) -> Result<Watching, SubscribeError> {
        self.enter(|core, now| {
            self.check_queues(core)?;
            let (bytes, items) = (self.config.message_queue_bytes, self.config.message_queue_items);
            let gauge = Arc::new(Gauge::new(bytes, items, self.inbound.clone()));
            let missed = Arc::new(AtomicU64::new(0));
            let id = core.engine.watch(now, what, gauge.clone(), missed.clone());
            let (queue, reader) = Reader::new(gauge.clone());
            core.watches.insert(id, WatchQueue { sender: queue, gauge, missed: missed.clone() });
            Ok(Watching::new(reader, missed))
        })
    }

    /// Says why no further queue may be opened.
    fn check_queues(&self, core: &Core) -> Result<(), SubscribeError> {
        if let Phase::Over { .. } = core.phase {
            return Err(SubscribeError::Shutdown);
        }
        let open = core.writers.iter().filter(|writer| !writer.is_closed()).count() + core.engine.open_watches();
        let limit = self.config.max_message_queues;
        if open >= limit { Err(SubscribeError::TooManyQueues { limit }) } else { Ok(()) }
    }

    pub(crate) fn events(&self) -> Events {
        let (events, ring) = Events::new(self.config.event_queue_items);
        let mut core = self.core.lock();
        if let Phase::Over { .. } = core.phase {
            ring.shut_down();
        }
        core.rings.push(Arc::downgrade(&ring));
        events
    }

    /// Queues a message for one peer, or says why not; unless the caller insists, one that nodes punish is refused.
    pub(crate) fn send(
        &self,
        peer: PeerId,
        message: &Message,
        wait: Wait,
        insists: bool,
    ) -> Result<(), SendFailure> {
        let link = if insists {
            // Whoever sends it again, ourselves included, is to know.
            let is_first =
                |link: &Arc<LinkState>| once_bit(message.command()) != 0 && link.note_sent(message.command());
            self.link(peer).filter(is_first)
        } else {
            self.check_harm(peer, message)?
        };
        let result = match self.send_small(&[peer], message) {
            Ok(()) => Ok(()),
            Err(frame) => self.send_frame(peer, frame, wait),
        };
        if let (Err(_), Some(link)) = (&result, link) {
            link.forget_sent(message.command());
        }
        result
    }

    /// Queues a message for several peers; a result for each.
    pub(crate) fn send_to_all(
        &self,
        peers: &[PeerId],
        message: &Message,
        wait: Wait,
    ) -> Vec<Result<(), SendFailure>> {
        if depends_on_peer(message) {
            // It is small, so to encode it for each costs little.
            return peers.iter().map(|&peer| self.send(peer, message, wait, false)).collect();
        }
        if !is_harmless(message)
            && let Some(harm) = harm_of(message, Services::NONE)
        {
            return peers.iter().map(|_| Err(SendFailure::Harmful(harm))).collect();
        }
        match self.send_small(peers, message) {
            Ok(()) => peers.iter().map(|_| Ok(())).collect(),
            Err(frame) => self.send_frame_to_all(peers, frame, wait),
        }
    }

    /// Refuses what nodes punish; gives the link of a message that may be sent once.
    fn check_harm(&self, peer: PeerId, message: &Message) -> Result<Option<Arc<LinkState>>, SendFailure> {
        if is_harmless(message) {
            return Ok(None);
        }
        // Who is not connected says so when it is sent.
        let Some(link) = self.link(peer) else { return Ok(None) };
        match link.harm_of(message) {
            Some(harm) => Err(SendFailure::Harmful(harm)),
            None => Ok((once_bit(message.command()) != 0).then_some(link)),
        }
    }

    /// Writes a small message straight into the run for these peers; else gives its frame.
    fn send_small(&self, peers: &[PeerId], message: &Message) -> Result<(), Frame> {
        let magic = self.config.network.magic();
        if let Message::Tx(transaction) = message
            && let payload = transaction.raw()
            && payload.len() <= SMALL_PAYLOAD
        {
            // The txid is the payload's digest, so all there is to do is to copy.
            let header =
                FrameHeader::basic(magic, wire::Command::TX, payload.len() as u32, transaction.txid().as_wire());
            let small = SmallFrame { command: wire::Command::TX, header: &header, payload };
            return if self.push_small(peers, &small) { Ok(()) } else { Err(message.to_frame(magic)) };
        }
        let frame = message.to_frame(magic);
        let (command, payload) = (frame.command(), frame.payload());
        let small = SmallFrame { command, header: &frame[..frame.len() - payload.len()], payload };
        if payload.len() <= SMALL_PAYLOAD && self.push_small(peers, &small) { Ok(()) } else { Err(frame) }
    }

    fn push_small(&self, peers: &[PeerId], frame: &SmallFrame<'_>) -> bool {
        let queued = self.outbound.push_small(peers, |peer| self.link(*peer), frame);
        if queued {
            self.waker().wake();
        }
        queued
    }

    fn send_frame(&self, peer: PeerId, frame: Frame, wait: Wait) -> Result<(), SendFailure> {
        let connection = self.charge_frame(peer, &frame, wait)?;
        self.command(Command::Send { connection, frame });
        Ok(())
    }

    fn send_frame_to_all(&self, peers: &[PeerId], frame: Frame, wait: Wait) -> Vec<Result<(), SendFailure>> {
        let mut connections = Vec::with_capacity(peers.len());
        let mut refused = Vec::new();
        {
            // All that have room are charged under the same locks.
            let links = self.links.read();
            let mut charges = self.outbound.budget.charges();
            for (index, peer) in peers.iter().enumerate() {
                match links.get(peer).filter(|link| link.takes(frame.command(), frame.payload().len()).is_ok()) {
                    Some(link) if charges.try_charge(link.connection, send_cost(frame.len())).is_ok() => {
                        connections.push(link.connection);
                    }
                    _ => refused.push(index),
                }
            }
        }
        let mut results: Vec<_> = peers.iter().map(|_| Ok(())).collect();
        if refused.is_empty() {
            self.command(Command::SendAll { connections, frame });
            return results;
        }
        // The others do not wait for those that are full.
        self.command(Command::SendAll { connections, frame: frame.clone() });
        for index in refused {
            results[index] = self.send_frame(peers[index], frame.clone(), wait);
        }
        results
    }

    fn charge_frame(&self, peer: PeerId, frame: &Frame, wait: Wait) -> Result<ConnectionId, SendFailure> {
        let link = self.links.read().get(&peer).cloned();
        let link = link.ok_or_else(|| self.why_not_connected())?;
        link.takes(frame.command(), frame.payload().len())?;
        let (connection, length) = (link.connection, frame.payload().len() as u64);
        self.outbound.budget.charge(connection, send_cost(frame.len()), wait).map_err(|refused| match refused {
            Refused::Full => SendFailure::Full,
            Refused::Closed => SendFailure::Disconnected,
            Refused::Paused => SendFailure::MessageQueueFull,
            Refused::TooLarge { limit } => SendFailure::TooLarge { length, limit: limit as u64 },
            Refused::Shutdown => SendFailure::Shutdown,
        })?;
        Ok(connection)
    }

    fn why_not_connected(&self) -> SendFailure {
        match self.core.lock().phase {
            Phase::New => SendFailure::NotStarted,
            Phase::Running => SendFailure::Disconnected,
            Phase::Over { .. } => SendFailure::Shutdown,
        }
    }
}

impl Recorder {
    fn include(&self, request: RequestId) {
        self.outcomes.lock().insert(request, None);
    }

    pub(super) fn awaits(&self, request: RequestId) -> bool {
        self.outcomes.lock().contains_key(&request)
    }

    pub(super) fn record(&self, request: RequestId, outcome: &RequestOutcome) {
        let outcome = Outcome {
            request: outcome.question.to_string(),
            peer: outcome.peer.clone(),
            result: outcome.result.clone(),
            took: outcome.took,
        };
        self.outcomes.lock().insert(request, Some(outcome));
        self.changed.notify_all();
    }

    fn wait(&self) -> Vec<Outcome> {
        let mut outcomes = self.outcomes.lock();
        while outcomes.values().any(Option::is_none) {
            // Every request has a deadline, so this ends.
            self.changed.wait(&mut outcomes);
        }
        std::mem::take(&mut *outcomes).into_values().flatten().collect()
    }
}

/// What is sent most is known to be harmless at a glance.
fn is_harmless(message: &Message) -> bool {
    matches!(message, Message::Tx(_) | Message::GetData(_) | Message::Ping { .. } | Message::Pong { .. })
}

/// Whether it is up to the peer, or to what it was sent before, if a message is punished.
fn depends_on_peer(message: &Message) -> bool {
    let needs_service = matches!(message, Message::FilterLoad(_) | Message::FilterAdd(_) | Message::Unknown { .. });
    needs_service || once_bit(message.command()) != 0
}
