//! Broadcasts: between the callers' handles, the engine and the outbox file.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::Shared;
use super::files::SetAside;
use super::outbox_file::OutboxFile;
use super::shared::{Core, Phase};
use crate::broadcast::{
    Broadcast, BroadcastOptions, BroadcastReport, BroadcastSlot, Outcomes, Progress, ProgressQueue, Ticket, Wakes,
};
use crate::engine::{BroadcastId, Now};
use crate::error::{BroadcastError, BroadcastFailure, StartError};
use crate::message::Transaction;
use crate::queue::events::Event;
use crate::wire::{BlockHash, SharedBytes, Txid};

/// Who waits for what becomes of a broadcast.
#[derive(Debug, Default)]
pub(super) struct Followers {
    slot: Option<Arc<BroadcastSlot>>,
    /// Until the verdict.
    tickets: Vec<Ticket>,
}

/// News of a broadcast that are told without the engine's lock.
pub(super) enum News {
    Wake(Wakes),
    Settle(Vec<Ticket>, Arc<BroadcastReport>),
    Fail(Vec<Ticket>, BroadcastError),
}

impl News {
    pub(super) fn tell(self) {
        match self {
            Self::Wake(wakes) => wakes.wake(),
            Self::Settle(mut tickets, report) => {
                let last = tickets.pop();
                tickets.into_iter().for_each(|ticket| ticket.redeem(Ok((*report).clone())));
                if let Some(last) = last {
                    // Nobody else has it where there is no handle.
                    last.redeem(Ok(Arc::unwrap_or_clone(report)));
                }
            }
            Self::Fail(tickets, error) => tickets.into_iter().for_each(|ticket| ticket.redeem(Err(error.clone()))),
        }
    }
}

/// Lets callers wait for room in the outbox.
#[derive(Debug, Default)]
pub(super) struct OutboxRoom {
    /// Callers that wait, or are about to.
    waiting: AtomicUsize,
    /// How often there was room while somebody waited.
    turns: Mutex<u64>,
    changed: Condvar,
    /// Those that wait for verdicts at the same time.
    iterators: Mutex<Vec<Weak<Outcomes>>>,
}

/// Somebody waits for room.
pub(crate) struct Waiting<'a>(&'a OutboxRoom);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl OutboxRoom {
    /// There may be room; called with the engine's lock held, so that whoever is refused afterwards waits for the next turn.
    pub(super) fn tell(&self, has_room: impl FnOnce() -> bool) {
        if self.waiting.load(Ordering::Acquire) > 0 && has_room() {
            self.next_turn();
        }
    }

    /// Everybody tries again.
    pub(super) fn next_turn(&self) {
        *self.turns.lock() += 1;
        self.changed.notify_all();
        self.iterators.lock().retain(|outcomes| match outcomes.upgrade() {
            Some(outcomes) => {
                outcomes.tell_room();
                true
            }
            None => false,
        });
    }

    fn wait_in_line(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Waiting(self)
    }
}

impl Shared {
    /// Begins or joins a broadcast and gives its handle, waiting for room in the outbox until a deadline, and for the
    /// file, if there is one.
    pub(crate) fn broadcast(
        self: &Arc<Self>,
        transaction: &Transaction,
        options: &BroadcastOptions,
        room_until: Option<Instant>,
    ) -> Result<Broadcast, BroadcastFailure> {
        let parents = parents(options)?;
        let (id, slot) = self.wait_for_room(room_until, || {
            self.enter(|core, now| {
                core.check_running()?;
                let id = core.engine.broadcast(now, transaction, &parents, options)?;
                Ok((id, core.slot_of(now, id, transaction.txid())))
            })
        })?;
        slot.wait_saved()?;
        Ok(Broadcast::new(slot, id, Arc::downgrade(self)))
    }

    /// Begins or joins a broadcast, whose verdict is then told; never waits.
    pub(crate) fn try_broadcast(
        self: &Arc<Self>,
        transaction: &Transaction,
        options: &BroadcastOptions,
        ticket: Ticket,
    ) -> Result<(), BroadcastFailure> {
        let parents = parents(options)?;
        let settled = self.enter(|core, now| {
            core.check_running()?;
            let id = core.engine.broadcast(now, transaction, &parents, options)?;
            if let Some(report) = core.engine.settled_report(now, id) {
                return Ok(Some((ticket, report)));
            }
            core.followers.entry(id).or_default().tickets.push(ticket);
            Ok(None)
        })?;
        if let Some((ticket, report)) = settled {
            ticket.redeem(Ok(report));
        }
        Ok(())
    }

    /// Tries again whenever there is room in the outbox, until a deadline; without one, never waits.
    fn wait_for_room<T>(
        &self,
        until: Option<Instant>,
        mut attempt: impl FnMut() -> Result<T, BroadcastFailure>,
    ) -> Result<T, BroadcastFailure> {
        let Some(until) = until else { return attempt() };
        let room = &self.outbox_room;
        let _waiting = room.wait_in_line();
        loop {
            // Before the attempt, so that no turn after it is missed.
            let turn = *room.turns.lock();
            match attempt() {
                Err(BroadcastFailure::Full) => {}
                result => return result,
            }
            let mut turns = room.turns.lock();
            while *turns == turn {
                if room.changed.wait_until(&mut turns, until).timed_out() {
                    break;
                }
            }
            if *turns == turn {
                return Err(BroadcastFailure::Full);
            }
        }
    }

    /// As long as the result lives, room in the outbox is told to whom [`call_on_room`](Self::call_on_room) named.
    pub(crate) fn wait_in_line(&self) -> Waiting<'_> {
        self.outbox_room.wait_in_line()
    }

    pub(crate) fn call_on_room(&self, outcomes: &Arc<Outcomes>) {
        let mut iterators = self.outbox_room.iterators.lock();
        // Here, too, as there may never be a lack of room.
        iterators.retain(|outcomes| outcomes.strong_count() > 0);
        iterators.push(Arc::downgrade(outcomes));
    }

    /// What is known of a broadcast, unless it is over.
    pub(crate) fn broadcast_report(&self, id: BroadcastId, slot: &Arc<BroadcastSlot>) -> Option<BroadcastReport> {
        let core = self.core.lock();
        if core.is_slot_of(id, slot) { core.engine.broadcast_report(super::now(), id) } else { None }
    }

    /// Fills a queue with what is known of a broadcast and lets it hear what comes; false if it is over.
    pub(crate) fn follow_broadcast(
        &self,
        id: BroadcastId,
        slot: &Arc<BroadcastSlot>,
        queue: &Arc<ProgressQueue>,
    ) -> bool {
        let mut core = self.core.lock();
        if !core.is_slot_of(id, slot) {
            return false;
        }
        let Some((report, is_settled)) = core.engine.follow_broadcast(super::now(), id) else { return false };
        slot.follow(queue, &report, is_settled);
        true
    }

    pub(crate) fn cancel_broadcast(self: &Arc<Self>, id: BroadcastId, slot: &Arc<BroadcastSlot>) {
        self.enter(|core, now| {
            if core.is_slot_of(id, slot) {
                core.engine.cancel_broadcast(now, id);
            }
        });
    }

    pub(crate) fn confirm(self: &Arc<Self>, block: BlockHash, txids: impl IntoIterator<Item = Txid>) -> usize {
        // Not under the lock, as the iterator is the caller's.
        let txids: Vec<Txid> = txids.into_iter().collect();
        self.enter(|core, now| core.engine.confirm(now, block, txids))
    }

    /// The broadcasts that are not over, oldest first.
    ///
    /// Those that are yet to be saved are still their callers' alone: none may turn out not to be.
    pub(crate) fn broadcasts(self: &Arc<Self>) -> Vec<Broadcast> {
        let open = self.enter(|core, now| {
            let open = core.engine.saved_broadcasts();
            open.into_iter().map(|(id, txid)| (id, core.slot_of(now, id, txid))).collect::<Vec<_>>()
        });
        open.into_iter().map(|(id, slot)| Broadcast::new(slot, id, Arc::downgrade(self))).collect()
    }

    /// Takes over the broadcasts that an earlier run left.
    pub(super) fn load_broadcasts(self: &Arc<Self>) -> Result<(), StartError> {
        let Some(dir) = self.config.data_dir.as_ref().filter(|_| self.config.keep_broadcasts) else {
            return Ok(());
        };
        if self.outbox_file.get().is_some() {
            // A start that failed later has it.
            return Ok(());
        }
        let (file, restored, set_aside) = OutboxFile::open(dir, &self.config.network)?;
        // Before any record of it can come.
        let file = self.outbox_file.get_or_init(|| file);
        self.enter(|core, now| {
            if let Phase::Over { .. } = core.phase {
                // Whoever ended it meanwhile saw no file to close.
                file.close();
                return;
            }
            core.engine.restore_broadcasts(now, restored);
            if let Some(SetAside { moved_to, what }) = set_aside {
                core.tell(&Event::SetAside { moved_to, what });
            }
        });
        Ok(())
    }

    /// Writes the outbox file until the conduit is over.
    pub(super) fn run_outbox_file(self: &Arc<Self>) {
        if let Some(file) = self.outbox_file.get() {
            file.run(|saved| {
                self.enter(|core, now| core.engine.handle_saved(now, saved.through, &saved.lost, saved.error));
            });
        }
    }
}

impl Core {
    fn check_running(&self) -> Result<(), BroadcastFailure> {
        match self.phase {
            Phase::New => Err(BroadcastFailure::NotStarted),
            Phase::Over { .. } => Err(BroadcastFailure::Shutdown),
            Phase::Running => Ok(()),
        }
    }

    /// The place for the news of a broadcast, made if nobody has asked yet.
    fn slot_of(&mut self, now: Now, id: BroadcastId, txid: Txid) -> Arc<BroadcastSlot> {
        if let Some(slot) = self.followers.get(&id).and_then(|followers| followers.slot.clone()) {
            return slot;
        }
        let slot = Arc::new(BroadcastSlot::new(txid, self.engine.is_saved(id)));
        if let Some(report) = self.engine.settled_report(now, id) {
            // Nobody waits yet.
            slot.settle(report).wake();
        }
        self.followers.entry(id).or_default().slot = Some(slot.clone());
        slot
    }

    /// Whether the slot is for what has the id now: a transaction that is broadcast again has the same.
    fn is_slot_of(&self, id: BroadcastId, slot: &Arc<BroadcastSlot>) -> bool {
        let current = self.followers.get(&id).and_then(|followers| followers.slot.as_ref());
        current.is_some_and(|current| Arc::ptr_eq(current, slot))
    }

    pub(super) fn note_progress(&self, id: BroadcastId, progress: &Progress) {
        if let Some(slot) = self.slot(id) {
            slot.tell(progress);
        }
    }

    pub(super) fn note_settled(&mut self, id: BroadcastId, report: Arc<BroadcastReport>, news: &mut Vec<News>) {
        let Some(followers) = self.followers.get_mut(&id) else { return };
        let tickets = std::mem::take(&mut followers.tickets);
        match &followers.slot {
            None => {
                self.followers.remove(&id);
                news.push(News::Settle(tickets, report));
            }
            Some(slot) => {
                news.push(News::Wake(slot.settle((*report).clone())));
                news.push(News::Settle(tickets, report));
            }
        }
    }

    pub(super) fn note_over(&mut self, id: BroadcastId, report: Arc<BroadcastReport>, news: &mut Vec<News>) {
        if let Some(slot) = self.followers.remove(&id).and_then(|followers| followers.slot) {
            news.push(News::Wake(slot.end(Arc::unwrap_or_clone(report))));
        }
    }

    pub(super) fn note_saved(&self, id: BroadcastId) {
        if let Some(slot) = self.slot(id) {
            slot.saved(Ok(()));
        }
    }

    /// The file could not take a broadcast, or no longer takes what becomes of it, so that it is over for everybody.
    pub(super) fn note_lost(
        &mut self,
        id: BroadcastId,
        raw: Vec<u8>,
        kind: std::io::ErrorKind,
        report: BroadcastReport,
        news: &mut Vec<News>,
    ) {
        let Some(followers) = self.followers.remove(&id) else { return };
        let reason = BroadcastFailure::NotSaved { kind };
        if let Some(slot) = followers.slot {
            slot.saved(Err(reason.clone()));
            // Others may hold it, too.
            news.push(News::Wake(slot.end(report)));
        }
        news.push(News::Fail(followers.tickets, BroadcastError { raw, reason }));
    }

    fn slot(&self, id: BroadcastId) -> Option<&Arc<BroadcastSlot>> {
        self.followers.get(&id)?.slot.as_ref()
    }
}

/// The unconfirmed transactions that one spends from.
fn parents(options: &BroadcastOptions) -> Result<Vec<Transaction>, BroadcastFailure> {
    let read = |(index, raw): (usize, &Vec<u8>)| {
        let malformed = |error| BroadcastFailure::ParentMalformed { index, error };
        Transaction::from_raw(SharedBytes::from(raw.clone())).map_err(malformed)
    };
    options.parents.iter().enumerate().map(read).collect()
}
