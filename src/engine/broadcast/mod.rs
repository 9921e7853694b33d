//! Broadcasts: transactions announced to peers, served to whoever asks, and what each peer did about them.
//!
//! Layer 4. Section 5 of the wire specification. The outbox holds each transaction from the call until its lifetime ends:
//! open while it is announced and listened for, and afterwards, as long as there is room, to be served to peers that ask
//! late or need it as a parent.

mod hearing;
mod journey;
mod keeping;
mod serving;
mod settling;
mod telling;

pub(crate) mod record;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::{Action, Engine, LONGEST, Now, Timer};
use crate::broadcast::{BroadcastEnd, BroadcastOptions, BroadcastReport, Conflict, ConflictSource, Progress};
use crate::error::BroadcastFailure;
use crate::message::{OutPoint, Transaction, TransactionView};
use crate::peer::{IdMap, PeerId};
use crate::stats::QueueStats;
use crate::wire::{BlockHash, Command, Frame, Txid};

pub(crate) use record::Record;
pub(super) use serving::ToServe;
pub(super) use telling::ToAnnounce;

use journey::{Journey, Told};
use keeping::Log;
use record::{Held, Restored, Said};
use telling::Announcing;

/// Identifies a broadcast, and tells which of two began first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BroadcastId(pub(crate) u64);

/// All transactions that are held.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    ids: HashMap<Txid, BroadcastId>,
    entries: IdMap<BroadcastId, Entry>,
    /// Always the summed cost of `entries`.
    bytes: usize,
    /// The most bytes and entries there ever were.
    most: (usize, usize),
    /// Always the number of `entries` that are open.
    open: usize,
    /// What the transactions of `entries` spend.
    spends: BTreeSet<(OutPoint, BroadcastId)>,
    /// Those that are neither open nor the parent of an open one, the first to give way first.
    spare: BTreeMap<u64, BroadcastId>,
    /// Always the summed cost of `spare`.
    spare_bytes: usize,
    /// Counts those that became spare.
    spared: u64,
    announcing: Announcing,
    /// `None` without a file.
    log: Option<Log>,
}

/// A transaction that is held.
#[derive(Debug)]
struct Entry {
    txid: Txid,
    frame: Frame,
    /// What it is charged, bytes.
    cost: usize,
    /// Open broadcasts that brought it along as a parent.
    children: usize,
    /// Its place among those that give way.
    spare: Option<u64>,
    /// What the file must have got before it is sent to anybody.
    held_at: u64,
    /// How often it was opened.
    begins: u32,
    /// While it is not open: who had it from us.
    told: Vec<Told>,
    until: Instant,
    timer: Option<Instant>,
    /// `None` if it is held only to be served.
    open: Option<Box<Open>>,
}

/// A broadcast that is not over.
#[derive(Debug)]
struct Open {
    terms: Terms,
    begun: Instant,
    deadline: Instant,
    /// When those told are told again.
    again_at: Instant,
    journeys: Vec<Journey>,
    parents: Vec<BroadcastId>,
    conflicts: Vec<Conflict>,
    mined: Option<BlockHash>,
    /// The verdict was given, with too few listeners or enough.
    settled: Option<TooFewListeners>,
    /// Somebody reads its progress.
    is_followed: bool,
}

/// What of the [`BroadcastOptions`] is needed on the way.
#[derive(Clone, Copy, Debug)]
struct Terms {
    nodes: usize,
    listeners: usize,
    relays: usize,
    direct: bool,
    settle_on_reject: bool,
    fee: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TooFewListeners(bool);

impl Engine {
    /// Announces a transaction to the best peers and holds it for whoever asks; one under way is joined.
    ///
    /// The parents are held to be served as long as it is open.
    pub(crate) fn broadcast(
        &mut self,
        now: Now,
        transaction: &Transaction,
        parents: &[Transaction],
        options: &BroadcastOptions,
    ) -> Result<BroadcastId, BroadcastFailure> {
        let txid = transaction.txid();
        let parents: Vec<&Transaction> = parents.iter().filter(|parent| parent.txid() != txid).collect();
        if let Some(id) = self.outbox.open_id(&txid) {
            self.join(now, id, &parents, options)?;
            return Ok(id);
        }
        self.make_room(Some((txid, self.cost(transaction, options))), &parents)?;
        let is_new = |parent: &&&Transaction| !self.outbox.ids.contains_key(&parent.txid());
        let new_parents: Vec<Txid> = parents.iter().filter(is_new).map(|parent| parent.txid()).collect();
        // What was served on after its end begins anew.
        let known = self.outbox.ids.get(&txid).copied();
        let id = known.unwrap_or_else(|| BroadcastId(self.next_id()));
        self.begin(now, id, transaction, &parents, options);
        if self.outbox.log.is_some() {
            self.record_hold(now, id, transaction.clone(), options);
        }
        self.tell_best_peers(now, id);
        for txid in new_parents.into_iter().chain([txid]) {
            self.answer_unmet(now, txid);
        }
        self.flush_announcements(now);
        Ok(id)
    }

    /// The same transaction is broadcast again before it is over.
    fn join(
        &mut self,
        now: Now,
        id: BroadcastId,
        parents: &[&Transaction],
        options: &BroadcastOptions,
    ) -> Result<(), BroadcastFailure> {
        self.make_room(None, parents)?;
        let until = now.instant + self.lifetime(options);
        self.join_parents(now, id, until, parents);
        let Some((entry, open)) = self.outbox.open_mut(id) else { return Ok(()) };
        let terms = &mut open.terms;
        terms.nodes = terms.nodes.max(options.nodes);
        terms.listeners = terms.listeners.max(options.listeners);
        terms.relays = terms.relays.max(options.relays);
        terms.settle_on_reject &= options.settle_on_reject;
        terms.fee = terms.fee.or(options.fee);
        open.deadline = open.deadline.max(now.instant + options.deadline.min(LONGEST));
        *entry.until = until.max(*entry.until);
        self.schedule(id);
        self.tell_best_peers(now, id);
        self.flush_announcements(now);
        Ok(())
    }

    /// Holds the parents that a second call brings and the first did not.
    fn join_parents(&mut self, now: Now, id: BroadcastId, until: Instant, parents: &[&Transaction]) {
        for &parent in parents {
            let txid = parent.txid();
            let known = self.outbox.ids.get(&txid).copied();
            let Some((entry, open)) = self.outbox.open_mut(id) else { return };
            if known.is_some_and(|known| known == id || open.parents.contains(&known)) {
                continue;
            }
            let held_at = *entry.held_at;
            let parent = self.hold_parent(until, parent, held_at);
            if let Some((_, open)) = self.outbox.open_mut(id) {
                open.parents.push(parent);
            }
            if known.is_none() {
                self.answer_unmet(now, txid);
            }
        }
    }

    /// Makes an entry that is open.
    fn begin(
        &mut self,
        now: Now,
        id: BroadcastId,
        transaction: &Transaction,
        parents: &[&Transaction],
        options: &BroadcastOptions,
    ) {
        let until = now.instant + self.lifetime(options);
        // Known when the file is told of the child.
        let held_at = if self.outbox.log.is_some() { u64::MAX } else { 0 };
        let parents = parents.iter().map(|parent| self.hold_parent(until, parent, held_at)).collect();
        let cost = self.cost(transaction, options);
        self.outbox.claim(id);
        self.insert_entry(id, transaction, until, cost);
        let again_at = now.instant + self.config.rebroadcast_interval.min(LONGEST);
        let open = Open {
            terms: Terms::of(options),
            begun: now.instant,
            deadline: now.instant + options.deadline.min(LONGEST),
            again_at,
            journeys: Vec::with_capacity(options.nodes.min(self.config.max_peers)),
            parents,
            conflicts: Vec::new(),
            mined: None,
            settled: None,
            is_followed: false,
        };
        if let Some(entry) = self.outbox.entries.get_mut(&id) {
            let told = std::mem::take(&mut entry.told).into_iter().map(Journey::told_before).collect();
            entry.open = Some(Box::new(Open { journeys: told, ..open }));
            entry.begins = entry.begins.wrapping_add(1);
            self.outbox.open += 1;
        }
        self.schedule(id);
        self.note_rivals(id, transaction.view());
    }

    /// Holds a transaction to be served while a child of it is open.
    fn hold_parent(&mut self, until: Instant, parent: &Transaction, held_at: u64) -> BroadcastId {
        let id = match self.outbox.ids.get(&parent.txid()) {
            Some(&id) => id,
            None => {
                let id = BroadcastId(self.next_id());
                self.insert_entry(id, parent, until, spare_cost(parent.view()));
                if let Some(entry) = self.outbox.entries.get_mut(&id) {
                    entry.held_at = held_at;
                }
                id
            }
        };
        self.outbox.claim(id);
        if let Some(entry) = self.outbox.entries.get_mut(&id) {
            entry.children += 1;
            entry.until = entry.until.max(until);
        }
        self.schedule(id);
        id
    }

    /// Holds a transaction; one that is held already is charged what it costs now.
    fn insert_entry(&mut self, id: BroadcastId, transaction: &Transaction, until: Instant, cost: usize) {
        let txid = transaction.txid();
        if let Some(entry) = self.outbox.entries.get_mut(&id) {
            self.outbox.bytes = self.outbox.bytes - entry.cost + cost;
            entry.cost = cost;
            entry.until = entry.until.max(until);
            self.outbox.most.0 = self.outbox.most.0.max(self.outbox.bytes);
            return;
        }
        let frame = Frame::with_digest(self.config.network.magic(), Command::TX, transaction.raw(), txid.as_wire());
        self.outbox.bytes += cost;
        self.outbox.spends.extend(transaction.inputs().map(|input| (input.previous_output, id)));
        self.outbox.ids.insert(txid, id);
        let entry = Entry {
            txid,
            frame,
            cost,
            children: 0,
            spare: None,
            held_at: 0,
            begins: 0,
            told: Vec::new(),
            until,
            timer: None,
            open: None,
        };
        self.outbox.entries.insert(id, entry);
        let most = &mut self.outbox.most;
        *most = (most.0.max(self.outbox.bytes), most.1.max(self.outbox.entries.len()));
    }

    /// Forgets a transaction.
    fn remove_entry(&mut self, id: BroadcastId) {
        self.outbox.claim(id);
        let Some(mut entry) = self.outbox.entries.remove(&id) else { return };
        Self::set_timer(&mut self.timers, &mut entry.timer, Timer::Broadcast(id), None);
        self.outbox.bytes -= entry.cost;
        self.outbox.open -= usize::from(entry.open.is_some());
        self.outbox.ids.remove(&entry.txid);
        for input in entry.transaction().inputs() {
            self.outbox.spends.remove(&(input.previous_output, id));
        }
        if let Some(open) = entry.open {
            self.release_parents(&open.parents);
        }
    }

    fn release_parents(&mut self, parents: &[BroadcastId]) {
        for &parent in parents {
            if let Some(entry) = self.outbox.entries.get_mut(&parent) {
                entry.children -= 1;
            }
            self.outbox.spare(parent);
        }
    }

    /// Lets transactions that are over give way until a new one, with what it is charged, and parents fit; or says why they
    /// cannot.
    fn make_room(&mut self, own: Option<(Txid, usize)>, parents: &[&Transaction]) -> Result<(), BroadcastFailure> {
        let (mut bytes, mut items) = (0, 0);
        // What is about to be needed must stay.
        let mut needed = HashSet::new();
        let mut spare = (self.outbox.spare_bytes, self.outbox.spare.len());
        let costs = parents.iter().map(|parent| (parent.txid(), spare_cost(parent.view())));
        for (txid, cost) in own.into_iter().chain(costs) {
            let known = self.outbox.ids.get(&txid).and_then(|id| self.outbox.entries.get(id));
            if !needed.insert(txid) {
                continue;
            }
            let Some(known) = known else {
                (bytes, items) = (bytes + cost, items + 1);
                continue;
            };
            if known.spare.is_some() {
                spare = (spare.0 - known.cost, spare.1 - 1);
            }
            if own.is_some_and(|(own, _)| own == txid) {
                bytes += cost.saturating_sub(known.cost);
            }
        }
        let (most_bytes, most_items) = (self.config.broadcast_bytes, self.config.broadcast_items);
        if bytes > most_bytes || items > most_items {
            return Err(BroadcastFailure::TooLarge { bytes, limit: most_bytes });
        }
        let outbox = &self.outbox;
        let fits = |bytes_held, items_held| bytes_held + bytes <= most_bytes && items_held + items <= most_items;
        if !fits(outbox.bytes - spare.0, outbox.entries.len() - spare.1) {
            return Err(BroadcastFailure::Full);
        }
        let (mut held, mut going) = ((outbox.bytes, outbox.entries.len()), Vec::new());
        for id in outbox.spare.values() {
            if fits(held.0, held.1) {
                break;
            }
            if let Some(entry) = outbox.entries.get(id).filter(|entry| !needed.contains(&entry.txid)) {
                held = (held.0 - entry.cost, held.1 - 1);
                going.push(*id);
            }
        }
        going.into_iter().for_each(|id| self.remove_entry(id));
        Ok(())
    }

    /// How full it is, and how full it has been.
    pub(crate) fn outbox_stats(&self) -> QueueStats {
        let outbox = &self.outbox;
        QueueStats {
            items: outbox.entries.len() as u64,
            bytes: outbox.bytes as u64,
            most_items: outbox.most.1 as u64,
            most_bytes: outbox.most.0 as u64,
        }
    }

    /// Whether a small transaction would find room.
    pub(crate) fn outbox_has_room(&self) -> bool {
        let outbox = &self.outbox;
        let (bytes, items) = (outbox.bytes - outbox.spare_bytes, outbox.entries.len() - outbox.spare.len());
        let most = self.config.broadcast_bytes;
        bytes + ROOM.min(most) <= most && items < self.config.broadcast_items
    }

    fn cost(&self, transaction: &Transaction, options: &BroadcastOptions) -> usize {
        let most = self.config.max_peers;
        let journeys = options.nodes.min(most).saturating_add(options.relays.min(most));
        spare_cost(transaction.view()) + OPEN_COST + journeys * JOURNEY_COST
    }

    fn lifetime(&self, options: &BroadcastOptions) -> Duration {
        options.lifetime.unwrap_or(self.config.broadcast_lifetime).min(LONGEST)
    }

    /// Sets an entry's timer to what is due next.
    fn schedule(&mut self, id: BroadcastId) {
        let Some(entry) = self.outbox.entries.get_mut(&id) else { return };
        let due = match &entry.open {
            Some(open) => {
                let settled_at = if open.settled.is_some() { entry.until } else { open.deadline };
                entry.until.min(open.again_at).min(settled_at)
            }
            None => entry.until,
        };
        Self::set_timer(&mut self.timers, &mut entry.timer, Timer::Broadcast(id), Some(due));
    }

    /// Notes that transactions of ours spend the same.
    fn note_rivals(&mut self, id: BroadcastId, transaction: TransactionView<'_>) {
        let rivals: BTreeSet<BroadcastId> =
            self.outbox.spenders(transaction).filter(|&rival| rival != id).collect();
        for rival in rivals {
            let txid_of = |id| self.outbox.entries.get(&id).map(|entry| entry.txid);
            let (Some(ours), Some(theirs)) = (txid_of(id), txid_of(rival)) else { continue };
            self.note_conflict(id, Conflict { rival: theirs, source: ConflictSource::Broadcast });
            self.note_conflict(rival, Conflict { rival: ours, source: ConflictSource::Broadcast });
        }
    }

    /// Tells of a rival once.
    fn note_conflict(&mut self, id: BroadcastId, conflict: Conflict) {
        let Some((_, open)) = self.outbox.open_mut(id) else { return };
        // Which of the peers told it first is enough: a rival that all of them send must not crowd out the others.
        let is_same = |known: &Conflict| match (&known.source, &conflict.source) {
            (ConflictSource::Transaction { .. }, ConflictSource::Transaction { .. })
            | (ConflictSource::Broadcast, ConflictSource::Broadcast) => true,
            (ConflictSource::Block { block: one, .. }, ConflictSource::Block { block: other, .. }) => one == other,
            _ => false,
        };
        let is_known = open.conflicts.iter().any(|known| known.rival == conflict.rival && is_same(known));
        if is_known || open.conflicts.len() >= MAX_CONFLICTS {
            return;
        }
        open.conflicts.push(conflict.clone());
        if open.is_followed {
            self.actions.push_back(Action::Progress { broadcast: id, progress: Progress::Conflict(conflict) });
        }
    }

    /// What is known of an open broadcast.
    pub(crate) fn broadcast_report(&self, now: Now, id: BroadcastId) -> Option<BroadcastReport> {
        self.report(now, id, None)
    }

    /// The same of one whose verdict was given.
    pub(crate) fn settled_report(&self, now: Now, id: BroadcastId) -> Option<BroadcastReport> {
        self.outbox.entries.get(&id)?.open.as_ref()?.settled?;
        self.report(now, id, None)
    }

    /// The same, and from here on its progress is told; and whether the verdict was given.
    pub(crate) fn follow_broadcast(&mut self, now: Now, id: BroadcastId) -> Option<(BroadcastReport, bool)> {
        let (_, open) = self.outbox.open_mut(id)?;
        open.is_followed = true;
        let is_settled = open.settled.is_some();
        Some((self.report(now, id, None)?, is_settled))
    }

    /// The broadcasts that are not over, oldest first.
    pub(crate) fn open_broadcasts(&self) -> Vec<(BroadcastId, Txid)> {
        let open = self.outbox.entries.iter().filter(|(_, entry)| entry.open.is_some());
        let mut open: Vec<_> = open.map(|(&id, entry)| (id, entry.txid)).collect();
        open.sort_unstable();
        open
    }

    /// The same without those that the file has not got yet: if it cannot take them, there are none.
    pub(crate) fn saved_broadcasts(&self) -> Vec<(BroadcastId, Txid)> {
        let unsaved = self.unsaved();
        self.open_broadcasts().into_iter().filter(|(id, _)| !unsaved.contains(id)).collect()
    }

    /// Ends a broadcast; its transaction is not served any more.
    pub(crate) fn cancel_broadcast(&mut self, now: Now, id: BroadcastId) {
        if self.outbox.open_mut(id).is_some() {
            self.end(now, id, BroadcastEnd::Cancelled);
        }
    }

    /// The caller found transactions in a block; gives how many of them were being broadcast.
    pub(crate) fn confirm(&mut self, now: Now, block: BlockHash, txids: impl IntoIterator<Item = Txid>) -> usize {
        let mut confirmed = 0;
        for txid in txids {
            let Some(id) = self.outbox.open_id(&txid) else { continue };
            if let Some((_, open)) = self.outbox.open_mut(id) {
                open.mined = Some(block);
            }
            self.end(now, id, BroadcastEnd::Mined);
            confirmed += 1;
        }
        confirmed
    }

    /// Ends all broadcasts. What is in the file stays there.
    pub(crate) fn end_broadcasts(&mut self, now: Now) {
        self.close_log();
        for (id, _) in self.open_broadcasts() {
            self.end(now, id, BroadcastEnd::Shutdown);
        }
    }

    /// Whether a transaction is held, and who was told of it remembered.
    #[cfg(test)]
    pub(super) fn holds(&self, txid: &Txid) -> bool {
        self.outbox.ids.contains_key(txid)
    }

    #[cfg(test)]
    pub(super) fn check_broadcasts(&self, timers: &mut BTreeSet<(Instant, Timer)>) {
        let outbox = &self.outbox;
        assert_eq!(outbox.bytes, outbox.entries.values().map(|entry| entry.cost).sum::<usize>());
        assert!(outbox.bytes <= self.config.broadcast_bytes && outbox.entries.len() <= self.config.broadcast_items);
        assert_eq!(outbox.open, outbox.entries.values().filter(|entry| entry.open.is_some()).count());
        let mut spends = BTreeSet::new();
        let mut children: HashMap<BroadcastId, usize> = HashMap::new();
        for (&id, entry) in &outbox.entries {
            assert_eq!(outbox.ids.get(&entry.txid), Some(&id));
            spends.extend(entry.transaction().inputs().map(|input| (input.previous_output, id)));
            timers.insert((entry.timer.expect("every entry ends"), Timer::Broadcast(id)));
            let Some(open) = &entry.open else { continue };
            for parent in &open.parents {
                *children.entry(*parent).or_default() += 1;
            }
            let counted = open.journeys.iter().filter(|journey| journey.counts);
            assert!(counted.count() <= open.terms.nodes, "{} was told to too many", entry.txid);
            let peers: HashSet<_> = open.journeys.iter().filter_map(|journey| journey.peer).collect();
            assert_eq!(peers.len(), open.journeys.iter().filter(|journey| journey.peer.is_some()).count());
        }
        assert_eq!(outbox.ids.len(), outbox.entries.len());
        assert_eq!(outbox.spends, spends);
        for (id, entry) in &outbox.entries {
            assert_eq!(entry.children, children.remove(id).unwrap_or_default());
            let gives_way = entry.open.is_none() && entry.children == 0;
            assert_eq!(entry.spare.is_some(), gives_way, "{} gives way", entry.txid);
            assert!(entry.spare.is_none_or(|at| outbox.spare.get(&at) == Some(id)));
            assert!(entry.open.is_none() || entry.told.is_empty());
        }
        let spare = outbox.entries.values().filter(|entry| entry.spare.is_some());
        assert_eq!(outbox.spare_bytes, spare.clone().map(|entry| entry.cost).sum::<usize>());
        assert_eq!(outbox.spare.len(), spare.count());
        assert!(children.is_empty(), "a parent of an open broadcast is not held");
        for session in self.peers.values().filter_map(|peer| peer.session()) {
            session.to_serve.check();
        }
        timers.extend(outbox.announcing.timer.map(|at| (at, Timer::Announce)));
    }
}

impl Outbox {
    /// Lets a transaction give way from here on if nobody needs it.
    fn spare(&mut self, id: BroadcastId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.open.is_some() || entry.children > 0 || entry.spare.is_some() {
            return;
        }
        self.spared += 1;
        entry.spare = Some(self.spared);
        self.spare.insert(self.spared, id);
        self.spare_bytes += entry.cost;
    }

    /// A transaction does not give way any more.
    fn claim(&mut self, id: BroadcastId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if let Some(at) = entry.spare.take() {
            self.spare.remove(&at);
            self.spare_bytes -= entry.cost;
        }
    }

    /// The open broadcast of a transaction.
    fn open_id(&self, txid: &Txid) -> Option<BroadcastId> {
        let id = *self.ids.get(txid)?;
        self.entries.get(&id)?.open.as_ref().map(|_| id)
    }

    /// An open broadcast, with what else may be changed of its entry.
    fn open_mut(&mut self, id: BroadcastId) -> Option<(Changeable<'_>, &mut Open)> {
        let entry = self.entries.get_mut(&id)?;
        let open = entry.open.as_mut()?;
        Some((Changeable { until: &mut entry.until, held_at: &mut entry.held_at }, open))
    }

    /// The transactions held that spend something which this one spends.
    fn spenders(&self, transaction: TransactionView<'_>) -> impl Iterator<Item = BroadcastId> {
        transaction.inputs().flat_map(|input| {
            let outpoint = input.previous_output;
            let range = (outpoint, BroadcastId(0))..=(outpoint, BroadcastId(u64::MAX));
            self.spends.range(range).map(|&(_, id)| id)
        })
    }

    /// Whether a transaction that is held spends from this one.
    fn has_child_of(&self, txid: Txid) -> bool {
        let first = (OutPoint { txid, index: 0 }, BroadcastId(0));
        self.spends.range(first..).next().is_some_and(|(outpoint, _)| outpoint.txid == txid)
    }
}

struct Changeable<'a> {
    until: &'a mut Instant,
    held_at: &'a mut u64,
}

impl Entry {
    /// The transaction; the frame was made from a checked one.
    fn transaction(&self) -> TransactionView<'_> {
        TransactionView::of_checked(self.frame.payload())
    }
}

impl Open {
    fn journey_mut(&mut self, peer: PeerId) -> Option<&mut Journey> {
        self.journeys.iter_mut().find(|journey| journey.peer == Some(peer))
    }

    fn journey(&self, peer: PeerId) -> Option<&Journey> {
        self.journeys.iter().find(|journey| journey.peer == Some(peer))
    }

    /// How many more peers shall be told.
    fn wanted(&self) -> usize {
        let counted = self.journeys.iter().filter(|journey| journey.counts).count();
        self.terms.nodes.saturating_sub(counted)
    }
}

impl Terms {
    fn of(options: &BroadcastOptions) -> Self {
        Self {
            nodes: options.nodes,
            listeners: options.listeners,
            relays: options.relays,
            direct: options.direct,
            settle_on_reject: options.settle_on_reject,
            fee: options.fee,
        }
    }
}

/// What a transaction that is only served is charged.
fn spare_cost(transaction: TransactionView<'_>) -> usize {
    transaction.raw().len() + ENTRY_COST + transaction.inputs().count() * SPEND_COST
}

/// An entry, its frame's header, its places in the maps and who had it, bytes.
const ENTRY_COST: usize = 600;
/// What an open one has besides.
const OPEN_COST: usize = 350;
const JOURNEY_COST: usize = 128;
const SPEND_COST: usize = 96;
/// What a transaction of some hundred bytes is charged.
const ROOM: usize = 4_096;
/// Conflicts that are told of one broadcast.
const MAX_CONFLICTS: usize = 16;
