//! What the threads and the callers' handles share: the engine behind its lock, the queues, the way to end it all.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use parking_lot::{Condvar, Mutex, RwLock};

use super::broadcasts::{Followers, News, OutboxRoom};
use super::calls::Recorder;
use super::counters::{Counters, Happened};
use super::event_loop::{EventLoop, LoopWaker};
use super::files::SetAside;
use super::outbox_file::OutboxFile;
use super::{hooks, message_thread, now, peers_file};
use crate::config::Config;
use crate::engine::{Action, BroadcastId, Engine, Now, Random, RequestId, RequestOutcome, WatchId};
use crate::error::{DisconnectReason, RequestError, StartError};
use crate::peer::{ConnectionId, IdMap, PeerId};
use crate::pending::{Ended, RequestSlot};
use crate::queue::events::{Event, Ring};
use crate::queue::inbound;
use crate::queue::inbound::Inbound;
use crate::queue::link::{LinkState, once_bit};
use crate::queue::message::{Gauge, Incoming, Queued, Reader, Writer};
use crate::queue::outbound::{Command, Outbound, send_cost};
use crate::watch::Watched;
use crate::wire;

/// Everything that outlives a single thread.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(super) core: Mutex<Core>,
    pub(super) outbound: Outbound,
    pub(super) inbound: Vec<Sender<Inbound>>,
    pub(super) inbound_budget: inbound::Budget,
    /// The connections that are up, for callers who send without the engine's lock.
    pub(super) links: RwLock<IdMap<PeerId, Arc<LinkState>>>,
    pub(super) counters: Counters,
    waker: LoopWaker,
    pub(super) ready: Mutex<Ready>,
    pub(super) ready_changed: Condvar,
    /// The other ends of the queues, until the start.
    ends: Mutex<Option<Ends>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Those of the threads that have not ended.
    alive: AtomicUsize,
    /// Resolver and dialler threads under way.
    hooks: AtomicUsize,
    /// Seeds whose addresses are being looked up.
    seeds_asked: Mutex<BTreeSet<String>>,
    /// With `keep_broadcasts`, from the start.
    pub(super) outbox_file: OnceLock<OutboxFile>,
    pub(super) outbox_room: OutboxRoom,
    /// Held while what is known of peers is written.
    saving: Mutex<()>,
}

/// What the engine's lock guards.
pub(super) struct Core {
    pub(super) engine: Engine,
    pub(super) phase: Phase,
    pub(super) slots: HashMap<RequestId, Arc<RequestSlot>>,
    pub(super) recorders: Vec<Arc<Recorder>>,
    /// The message queue and the subscriptions.
    pub(super) writers: Arc<Vec<Arc<Writer>>>,
    pub(super) messages: Weak<Reader<Incoming>>,
    pub(super) rings: Vec<Weak<Ring>>,
    /// The queues of watches.
    pub(super) watches: BTreeMap<WatchId, WatchQueue>,
    pub(super) followers: IdMap<BroadcastId, Followers>,
    pub(super) happened: Happened,
    /// When message thread 0 wakes up by itself.
    pub(super) sleeps_until: Option<Instant>,
}

/// The queue of a watch.
pub(super) struct WatchQueue {
    pub(super) sender: Sender<Vec<Queued<Watched>>>,
    pub(super) gauge: Arc<Gauge>,
    /// What the watch did not deliver.
    pub(super) missed: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    New,
    Running,
    /// Over, by the caller or by a panic of ours.
    Over {
        crashed: bool,
    },
}

#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) count: usize,
    pub(super) over: bool,
}

/// The receiving ends of the queues, which the threads take.
struct Ends {
    outbound: Receiver<Command>,
    inbound: Vec<Receiver<Inbound>>,
}

impl Core {
    fn end_watch(&mut self, watch: WatchId) {
        if let Some(queue) = self.watches.remove(&watch) {
            self.happened.announcements_missed += queue.missed.load(Ordering::Acquire);
        }
    }

    fn end_watches(&mut self) {
        let open: Vec<WatchId> = self.watches.keys().copied().collect();
        open.into_iter().for_each(|watch| self.end_watch(watch));
    }

    fn note_event(&mut self, event: &Event, max_peers: usize) {
        self.happened.note_event(event);
        if self.happened.remembers_too_many(max_peers) {
            let known = self.engine.peers(now()).into_iter().map(|peer| peer.id).collect();
            self.happened.remember_only(&known);
        }
    }

    /// Gives an event to whoever watches.
    pub(super) fn tell(&mut self, event: &Event) {
        let mut missed = 0;
        self.rings.retain(|ring| {
            ring.upgrade().is_some_and(|ring| {
                missed += u64::from(ring.push(event.clone()));
                true
            })
        });
        self.happened.events_missed += missed;
    }
}

impl Shared {
    pub(crate) fn new(config: Config, seed: u64) -> Arc<Self> {
        let (outbound, outbound_end) = Outbound::new(config.outbound_share, config.outbound_pool);
        let (inbound, inbound_ends): (Vec<_>, Vec<_>) =
            (0..config.message_threads).map(|_| crossbeam_channel::unbounded()).unzip();
        // A threshold beyond what memory can hold is bounded by the pool all the same.
        let pool_each = usize::try_from(config.stream_threshold).unwrap_or(usize::MAX);
        Arc::new(Self {
            core: Mutex::new(Core {
                engine: Engine::new(config.clone(), Random::new(seed)),
                phase: Phase::New,
                slots: HashMap::new(),
                recorders: Vec::new(),
                writers: Arc::default(),
                messages: Weak::new(),
                rings: Vec::new(),
                watches: BTreeMap::new(),
                followers: IdMap::default(),
                happened: Happened::default(),
                sleeps_until: None,
            }),
            outbound,
            inbound,
            inbound_budget: inbound::Budget::new(config.inbound_share, config.inbound_pool, pool_each),
            links: RwLock::default(),
            counters: Counters::default(),
            waker: LoopWaker::default(),
            ready: Mutex::default(),
            ready_changed: Condvar::new(),
            ends: Mutex::new(Some(Ends { outbound: outbound_end, inbound: inbound_ends })),
            threads: Mutex::default(),
            alive: AtomicUsize::new(0),
            hooks: AtomicUsize::new(0),
            seeds_asked: Mutex::default(),
            outbox_file: OnceLock::new(),
            outbox_room: OutboxRoom::default(),
            saving: Mutex::new(()),
            config,
        })
    }

    /// Takes over what an earlier run knew of peers, and says what of it cannot be used.
    fn load_peers(self: &Arc<Self>) {
        let Some(dir) = &self.config.data_dir else { return };
        let loaded = peers_file::load(dir, &self.config.network);
        self.enter(|core, now| {
            if let Some(snapshot) = loaded.snapshot {
                core.engine.restore_peers(now, snapshot);
            }
            if let Some(SetAside { moved_to, what }) = loaded.set_aside {
                core.tell(&Event::SetAside { moved_to, what });
            }
        });
    }

    /// Saves what is known of peers, if it has changed.
    pub(super) fn save_peers(&self) {
        let Some(dir) = &self.config.data_dir else { return };
        // Held while writing, so that an older snapshot never replaces a newer one.
        let _saving = self.saving.lock();
        let Some(snapshot) = self.core.lock().engine.snapshot_peers() else { return };
        if let Err(error) = peers_file::save(dir, &self.config.network, &snapshot) {
            log::warn!(target: "conduit::driver", "{}: peers are not saved: {error}", dir.display());
            self.core.lock().engine.note_unsaved();
        }
    }

    /// Starts the threads, once.
    pub(crate) fn start(self: &Arc<Self>) -> Result<(), StartError> {
        let mut threads = self.threads.lock();
        if let Phase::Over { .. } = self.core.lock().phase {
            return Err(StartError::Shutdown);
        }
        let mut ends = self.ends.lock();
        if ends.is_none() {
            return Ok(());
        }
        // First, as it may keep us from starting, and the loop is made only once.
        self.load_broadcasts()?;
        let event_loop = EventLoop::new(self.clone(), &self.waker).map_err(StartError::Io)?;
        let Some(Ends { outbound, inbound }) = ends.take() else { return Ok(()) };
        drop(ends);
        self.load_peers();
        let spawned = (|| {
            threads.push(self.spawn("conduit-io", move |_| event_loop.run(&outbound))?);
            for (index, end) in inbound.into_iter().enumerate() {
                threads
                    .push(self.spawn("conduit-message", move |shared| message_thread::run(shared, index, &end))?);
            }
            if self.outbox_file.get().is_some() {
                threads.push(self.spawn("conduit-outbox", Self::run_outbox_file)?);
            }
            Ok(())
        })();
        drop(threads);
        if let Err(error) = spawned {
            self.shut_down(None);
            // Its thread is the last, so nobody else gives it free.
            if let Some(file) = self.outbox_file.get() {
                file.release();
            }
            return Err(StartError::Io(error));
        }
        let is_over = self.enter(|core, now| {
            if core.phase == Phase::New {
                core.phase = Phase::Running;
                core.happened.started = Some(now.instant);
                core.engine.start(now);
            }
            matches!(core.phase, Phase::Over { .. })
        });
        if is_over {
            // Whoever ended it while the threads were made has not waited for them, nor for what they hold.
            self.shut_down(None);
            return Err(StartError::Shutdown);
        }
        // Thread 0 sleeps by what it knew before.
        self.tell_message_thread(0, Inbound::Wake);
        Ok(())
    }

    fn spawn(
        self: &Arc<Self>,
        name: &str,
        run: impl FnOnce(&Arc<Self>) + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        let shared = self.clone();
        self.alive.fetch_add(1, Ordering::AcqRel);
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&shared)));
            if result.is_err() {
                log::error!(target: "conduit::driver", "a thread of the conduit panicked, which is a bug in it");
                shared.end_everything(true, None);
            }
            shared.alive.fetch_sub(1, Ordering::AcqRel);
            shared.close_queues_if_idle();
        });
        if spawned.is_err() {
            self.alive.fetch_sub(1, Ordering::AcqRel);
        }
        spawned
    }

    /// Enters the engine, then does what it says.
    pub(super) fn enter<T>(self: &Arc<Self>, work: impl FnOnce(&mut Core, Now) -> T) -> T {
        let now = now();
        let mut core = self.core.lock();
        let value = work(&mut core, now);
        let todo = self.take_actions(&mut core);
        drop(core);
        self.perform(todo);
        value
    }

    /// Takes what the engine wants done, while its lock is held; events are told at once, so that their order is that
    /// in which things happened.
    pub(super) fn take_actions(&self, core: &mut Core) -> Vec<Todo> {
        let mut todo = Vec::new();
        let mut news = Vec::new();
        let mut records = Vec::new();
        let mut deliveries: Vec<(WatchId, Vec<Queued<Watched>>)> = Vec::new();
        while let Some(action) = core.engine.poll_action() {
            match action {
                Action::Event(event) => {
                    log_event(&event);
                    core.note_event(&event, self.config.max_peers);
                    core.tell(&event);
                }
                Action::Complete { request, outcome } => {
                    core.happened.note_request(&outcome.result);
                    let recorders =
                        core.recorders.iter().filter(|recorder| recorder.awaits(request)).cloned().collect();
                    todo.push(Todo::Complete { slot: core.slots.remove(&request), recorders, request, outcome });
                }
                Action::Progress { broadcast, progress } => core.note_progress(broadcast, &progress),
                Action::BroadcastSettled { broadcast, report } => {
                    core.happened.note_verdict(&report.verdict);
                    core.note_settled(broadcast, report, &mut news);
                }
                Action::BroadcastOver { broadcast, report } => core.note_over(broadcast, report, &mut news),
                Action::Record(record) => records.push(record),
                Action::BroadcastSaved { broadcast } => core.note_saved(broadcast),
                Action::BroadcastLost { broadcast, raw, kind, report } => {
                    core.note_lost(broadcast, raw, kind, *report, &mut news);
                }
                Action::Deliver { watch, item } => match deliveries.iter_mut().find(|(id, _)| *id == watch) {
                    Some((_, items)) => items.push(item),
                    None => deliveries.push((watch, vec![item])),
                },
                Action::WatchOver { watch } => core.end_watch(watch),
                // The loop must hear of a connection before its end, so these go into its queue in the order in
                // which the engine gave them.
                Action::Connect { peer, connection, address } => {
                    core.happened.dials += 1;
                    self.outbound.push(Command::Connect { connection, peer, address: address.clone() });
                    todo.push(Todo::WakeLoop);
                    todo.push(Todo::Engine(Action::Connect { peer, connection, address }));
                }
                Action::Join { peer, connection, address, joins } => {
                    let to = address.clone();
                    self.outbound.push(Command::Join { connection, peer, address: to, joins });
                    todo.push(Todo::WakeLoop);
                    todo.push(Todo::Engine(Action::Join { peer, connection, address, joins }));
                }
                Action::ExpectBlock { connection, hash, stream, queue } => {
                    // The question for it is sent later, from outside the lock.
                    self.outbound.push(Command::ExpectBlock { connection, hash, stream, queue });
                    todo.push(Todo::WakeLoop);
                }
                Action::ForgetBlocks { connection } => {
                    self.outbound.push(Command::ForgetBlocks { connection });
                    todo.push(Todo::WakeLoop);
                }
                Action::Close { connection, reason } => {
                    self.outbound.push(Command::Close { connection, reason });
                    todo.push(Todo::WakeLoop);
                }
                other => todo.push(Todo::Engine(other)),
            }
        }
        for (watch, items) in deliveries {
            if let Some(queue) = core.watches.get(&watch) {
                // Under the lock, so that items keep their order; the queue takes whatever was charged. Without readers
                // they are dropped.
                drop(queue.sender.send(items));
            }
        }
        todo.extend(news.into_iter().map(Todo::News));
        if let Some(file) = self.outbox_file.get().filter(|_| !records.is_empty()) {
            // Under the lock, so that the engine's numbers are those of the file.
            file.append(records);
        }
        self.outbox_room.tell(|| core.engine.outbox_has_room());
        let count = core.engine.ready_count();
        let mut ready = self.ready.lock();
        if ready.count != count {
            ready.count = count;
            self.ready_changed.notify_all();
        }
        drop(ready);
        if let (Some(due), Some(sleeps_until)) = (core.engine.poll_timeout(), core.sleeps_until)
            && due < sleeps_until
        {
            core.sleeps_until = Some(due);
            todo.push(Todo::WakeMessageThread);
        }
        todo
    }

    /// Does what the engine wanted, without its lock.
    pub(super) fn perform(self: &Arc<Self>, todo: Vec<Todo>) {
        for todo in todo {
            match todo {
                Todo::Complete { slot, recorders, request, outcome } => {
                    for recorder in recorders {
                        recorder.record(request, &outcome);
                    }
                    if let Some(slot) = slot {
                        slot.put(Ended { peer: outcome.peer_id, result: outcome.result });
                    }
                }
                Todo::News(news) => news.tell(),
                Todo::WakeLoop => self.waker.wake(),
                Todo::WakeMessageThread => self.tell_message_thread(0, Inbound::Wake),
                Todo::Engine(action) => self.perform_action(action),
            }
        }
    }

    fn perform_action(self: &Arc<Self>, action: Action) {
        match action {
            Action::Resolve { peer, connection, host, port } => hooks::resolve(self, peer, connection, host, port),
            Action::ResolveSeed { host, port } => hooks::resolve_seed(self, host, port),
            Action::Connect { peer, connection, address } | Action::Join { peer, connection, address, .. } => {
                if let Some(dialler) = &self.config.dialler {
                    hooks::dial(self, dialler.clone(), peer, connection, address);
                }
            }
            Action::Send { connection, message } => {
                if !self.note_sent(connection, message.command()) {
                    return;
                }
                let frame = message.to_frame(self.config.network.magic());
                // A connection that is gone meanwhile has taken its requests with it.
                if self.outbound.budget.charge_anyway(connection, send_cost(frame.len())).is_ok() {
                    self.command(Command::Send { connection, frame });
                }
            }
            Action::ResumeBlock { connection } => self.resume_block(Some(connection)),
            Action::FailBlock { queue, error } => self.resume_block(queue.fail(error)),
            Action::Serve { peer } => self.serve(peer),
            // Taken apart in `take_actions`.
            Action::Close { .. }
            | Action::ExpectBlock { .. }
            | Action::ForgetBlocks { .. }
            | Action::Complete { .. }
            | Action::Progress { .. }
            | Action::BroadcastSettled { .. }
            | Action::BroadcastOver { .. }
            | Action::Record(_)
            | Action::BroadcastSaved { .. }
            | Action::BroadcastLost { .. }
            | Action::Deliver { .. }
            | Action::WatchOver { .. }
            | Action::Event(_) => {}
            Action::SavePeers => hooks::save_peers(self),
        }
    }

    /// Notes that a message of ours is sent; false if the caller has sent it and it may be sent once.
    fn note_sent(&self, connection: ConnectionId, command: wire::Command) -> bool {
        if once_bit(command) == 0 {
            return true;
        }
        let links = self.links.read();
        links.values().find(|link| link.connection == connection).is_none_or(|link| link.note_sent(command))
    }

    /// Tells the event loop, which is woken if it sleeps.
    pub(super) fn command(&self, command: Command) {
        self.outbound.push(command);
        self.waker.wake();
    }

    pub(super) fn tell_message_thread(&self, index: usize, inbound: Inbound) {
        if let Some(thread) = self.inbound.get(index) {
            drop(thread.send(inbound));
        }
    }

    /// The message thread that deals with a peer, always the same.
    pub(super) fn tell_message_thread_of(&self, peer: PeerId, inbound: Inbound) {
        let threads = self.inbound.len() as u64;
        // At most the number of threads.
        self.tell_message_thread((peer.0 % threads) as usize, inbound);
    }

    /// Lets connections go on whose frames have found room.
    pub(super) fn resume(&self, connections: Vec<ConnectionId>) {
        for connection in connections {
            self.command(Command::Resume { connection });
        }
    }

    pub(super) fn waker(&self) -> &LoopWaker {
        &self.waker
    }

    pub(super) fn seeds_asked(&self) -> &Mutex<BTreeSet<String>> {
        &self.seeds_asked
    }

    pub(super) fn hooks(&self) -> &AtomicUsize {
        &self.hooks
    }

    pub(super) fn link(&self, peer: PeerId) -> Option<Arc<LinkState>> {
        self.links.read().get(&peer).cloned()
    }

    pub(super) fn writers(core: &Core) -> Arc<Vec<Arc<Writer>>> {
        core.writers.clone()
    }

    /// Ends everything and joins every thread of ours; `flush` lets what is queued leave first, for at most so long.
    pub(crate) fn shut_down(self: &Arc<Self>, flush: Option<Duration>) {
        self.end_everything(false, flush.and_then(super::deadline_after));
        self.save_peers();
        let mut threads = self.threads.lock();
        let this = std::thread::current().id();
        if threads.iter().any(|thread| thread.thread().id() == this) {
            // A waker of the caller's runs on a thread of ours, and the others cannot end before it. They close the
            // queues when they do.
            return;
        }
        let others = std::mem::take(&mut *threads);
        // Not to hold up a waker that comes here while we wait.
        drop(threads);
        for thread in others {
            // It caught its own panic, and told of it.
            drop(thread.join());
        }
        self.close_queues_if_idle();
    }

    /// Ends the messages and the events behind the last thread: before, something may still be under way to them.
    fn close_queues_if_idle(&self) {
        if self.alive.load(Ordering::Acquire) > 0 {
            return;
        }
        let mut core = self.core.lock();
        core.writers = Arc::default();
        core.end_watches();
        for ring in core.rings.drain(..).filter_map(|ring| ring.upgrade()) {
            ring.shut_down();
        }
    }

    /// Ends every wait and tells the threads to go; the first call counts.
    fn end_everything(self: &Arc<Self>, crashed: bool, flush_until: Option<Instant>) {
        let is_first = self.enter(|core, now| {
            if let Phase::Over { .. } = core.phase {
                return false;
            }
            core.phase = Phase::Over { crashed };
            let error = if crashed { RequestError::Crashed } else { RequestError::Shutdown };
            core.engine.fail_all(now, &error);
            true
        });
        if is_first || crashed {
            self.outbound.budget.shut_down();
            self.command(Command::Shutdown { flush_until });
        }
        if crashed {
            // The loop may be what crashed, so that nobody would tell them.
            for index in 0..self.inbound.len() {
                self.tell_message_thread(index, Inbound::Shutdown);
            }
            let mut core = self.core.lock();
            core.writers = Arc::default();
            core.end_watches();
            core.rings.drain(..).filter_map(|ring| ring.upgrade()).for_each(|ring| ring.shut_down());
        }
        if let Some(file) = self.outbox_file.get() {
            file.close();
        }
        self.outbox_room.next_turn();
        self.ready.lock().over = true;
        self.ready_changed.notify_all();
    }

    /// Blocks until the conduit is over.
    pub(crate) fn wait_for_shutdown(&self) {
        let mut ready = self.ready.lock();
        while !ready.over {
            self.ready_changed.wait(&mut ready);
        }
    }
}

/// An action of the engine's with what it needs from under the lock.
pub(super) enum Todo {
    Complete {
        slot: Option<Arc<RequestSlot>>,
        recorders: Vec<Arc<Recorder>>,
        request: RequestId,
        outcome: RequestOutcome,
    },
    News(News),
    WakeLoop,
    WakeMessageThread,
    Engine(Action),
}

fn log_event(event: &Event) {
    let (peer, address, what, reason) = match event {
        Event::Connected { peer, address, user_agent, .. } => {
            log::info!(target: "conduit::engine", "{peer}: connected, {address}, {user_agent}");
            return;
        }
        Event::Refused { peer, address, reason } => (peer, address, "not connected", reason),
        Event::Disconnected { peer, address, reason } => (peer, address, "disconnected", reason),
        Event::Unverified { peer, address } => {
            log::info!(target: "conduit::engine", "{peer}: cannot be verified yet, {address}");
            return;
        }
        Event::Banned { ban } => {
            log::info!(target: "conduit::engine", "{} is not dialled for {:?}", ban.address, ban.left);
            return;
        }
        Event::MainPeerChanged { address: Some(address), .. } => {
            log::info!(target: "conduit::engine", "{address} is the main peer now");
            return;
        }
        Event::NoPeers => {
            log::warn!(target: "conduit::engine", "no peers are left");
            return;
        }
        Event::NetworkBack => {
            log::info!(target: "conduit::engine", "there are peers again");
            return;
        }
        Event::MainPeerChanged { address: None, .. } | Event::SetAside { .. } | Event::Missed { .. } => return,
    };
    let level = match reason {
        DisconnectReason::Protocol(_) => log::Level::Warn,
        _ => log::Level::Info,
    };
    log::log!(target: "conduit::engine", level, "{peer}: {what}, {address}: {reason}");
}
