//! Telling: which peers hear of a transaction from us, when, and in which lots.
//!
//! Layer 4. Sections 2.4 and 5.1 of the wire specification.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::journey::{Journey, Stage};
use super::{BroadcastId, Engine, Now, Outbox, Record};
use crate::engine::pool::{Peer, Standing};
use crate::engine::{Action, LONGEST, Timer};
use crate::message::{Inventory, OutPoint};
use crate::peer::{ConnectionId, PeerId};
use crate::wire::Txid;

/// When peers are told next.
#[derive(Debug, Default)]
pub(super) struct Announcing {
    /// Peers for whom ids are gathered.
    peers: BTreeSet<PeerId>,
    last: Option<Instant>,
    pub(super) timer: Option<Instant>,
}

/// What a peer shall be told and was not told yet.
#[derive(Debug, Default)]
pub(in crate::engine) struct ToAnnounce {
    queue: VecDeque<Announcement>,
    /// Since it is connected it was not read, and so was not told again what it was told before.
    is_owed: bool,
    /// When its fee filter was last lowered.
    pub(super) lowered_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Announcement {
    id: BroadcastId,
    /// What the file must have got first.
    after: u64,
    /// The transaction itself is sent.
    direct: bool,
    /// As of the entry: what is over can begin anew under the same id.
    begins: u32,
}

impl ToAnnounce {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl Engine {
    /// Chooses the best peers until enough are told.
    pub(super) fn tell_best_peers(&mut self, now: Now, id: BroadcastId) {
        let mut most = 0;
        loop {
            let Some((_, open)) = self.outbox.open_mut(id) else { return };
            if open.wanted() == 0 {
                return;
            }
            // Those with a journey are not told again; nor are those that ask for more than it pays, hence another round.
            most = (most * 2).max(open.journeys.len() + open.wanted());
            let best = self.best_peers(now, most, |_| true);
            let are_all = best.len() < most;
            if !best.into_iter().all(|peer| self.choose(id, peer)) || are_all {
                return;
            }
        }
    }

    /// The same for many at once, among which the order of the peers does not change.
    fn tell_best_peers_of_all(&mut self, now: Now, ids: &[BroadcastId]) {
        let best = if ids.is_empty() { Vec::new() } else { self.best_peers(now, usize::MAX, |_| true) };
        for &id in ids {
            // The first that wants no more ends it.
            let _ = best.iter().all(|&peer| self.choose(id, peer));
        }
    }

    /// Lets a peer be told, unless it was or asks for a higher fee; false if enough are told.
    fn choose(&mut self, id: BroadcastId, peer: PeerId) -> bool {
        let Some(session) = self.peers.get(&peer).and_then(|peer| peer.session()) else { return true };
        let (fee_filter, address) = (session.fee_filter.unwrap_or_default(), session.address.clone());
        let is_too_cheap = fee_filter > 0 && self.fee_rate(id).is_some_and(|rate| rate < fee_filter);
        let Some((_, open)) = self.outbox.open_mut(id) else { return false };
        if open.wanted() == 0 {
            return false;
        }
        open.adopt(&self.peers, peer, &address);
        let wants_more = open.wanted() > 1;
        match open.journey_mut(peer) {
            Some(journey) if journey.is_final() || journey.counts => return true,
            Some(journey) if is_too_cheap => {
                // One that was told is at another stage.
                if !journey.is_told {
                    journey.stage = Stage::BelowFeeFilter(fee_filter);
                }
                return true;
            }
            None if is_too_cheap => {
                let stage = Stage::BelowFeeFilter(fee_filter);
                open.journeys.push(Journey::new(Some(peer), address, stage));
                self.progress(id, peer);
                return true;
            }
            Some(journey) => {
                journey.is_told = true;
                journey.counts = true;
                if std::mem::replace(&mut journey.is_queued, true) {
                    return wants_more;
                }
                if let Stage::BelowFeeFilter(_) = journey.stage {
                    journey.stage = Stage::Chosen;
                }
            }
            None => open.journeys.push(Journey { is_queued: true, ..Journey::chosen(peer, address.clone()) }),
        }
        let direct = open.terms.direct;
        let after = self.record(|| Record::Told { item: id.0, address: (*address).clone() });
        if after > 0
            && let Some(journey) = self.outbox.open_mut(id).and_then(|(_, open)| open.journey_mut(peer))
        {
            journey.told_at = after;
        }
        self.queue_announcement(peer, id, after, direct);
        wants_more
    }

    /// A peer has connected, or is read again: it is told what too few others were, and in a new session again what it
    /// was told before.
    pub(in crate::engine) fn tell_new_peer(&mut self, now: Now, peer: PeerId, is_new_session: bool) {
        let takes_part = self.peers.get(&peer).is_some_and(|peer| peer.takes_part());
        let Some(session) = self.peers.get_mut(&peer).and_then(|peer| peer.session_mut()) else { return };
        let is_new_session = is_new_session || session.to_announce.is_owed;
        session.to_announce.is_owed = is_new_session && !takes_part;
        let address = session.address.clone();
        let mut concerned = Vec::new();
        for (&id, entry) in &mut self.outbox.entries {
            let Some(open) = &mut entry.open else { continue };
            open.adopt(&self.peers, peer, &address);
            if !takes_part {
                continue;
            }
            let was_told = open.journey(peer).is_some_and(|journey| journey.is_told && !journey.is_final());
            if (was_told && is_new_session) || open.wanted() > 0 {
                concerned.push(id);
            }
        }
        for id in self.parents_first(concerned) {
            self.choose(id, peer);
            if is_new_session {
                self.tell_again(id, peer);
            }
        }
        self.flush_announcements(now);
    }

    /// Announces a transaction to a peer that was told before, unless its `inv` waits.
    fn tell_again(&mut self, id: BroadcastId, peer: PeerId) {
        let Some(session) = self.peers.get(&peer).and_then(|peer| peer.session()) else { return };
        let fee_filter = session.fee_filter.unwrap_or_default();
        if fee_filter > 0 && self.fee_rate(id).is_some_and(|rate| rate < fee_filter) {
            return;
        }
        let Some((_, open)) = self.outbox.open_mut(id) else { return };
        let wants_more = open.wanted() > 0;
        let Some(journey) = open.journey_mut(peer) else { return };
        if journey.is_told && !journey.is_final() && !journey.is_queued {
            journey.counts |= wants_more;
            journey.is_queued = true;
            let after = journey.told_at;
            self.queue_announcement(peer, id, after, false);
        }
    }

    /// Nothing was heard for a while: those told are told again, and others where too few were.
    pub(super) fn announce_again(&mut self, now: Now, id: BroadcastId) {
        for id in self.due_with(now, id) {
            self.announce_one_again(now, id);
        }
        self.flush_announcements(now);
    }

    /// A broadcast and those it spends from that are about to be announced again, too: those first.
    fn due_with(&self, now: Now, id: BroadcastId) -> Vec<BroadcastId> {
        let soon = now.instant + ABOUT_DUE;
        let mut due = BTreeSet::from([id]);
        let mut stack = vec![id];
        while let Some(entry) = stack.pop().and_then(|id| self.outbox.entries.get(&id)) {
            for input in entry.transaction().inputs() {
                let Some(&parent) = self.outbox.ids.get(&input.previous_output.txid) else { continue };
                let open = self.outbox.entries.get(&parent).and_then(|entry| entry.open.as_ref());
                if open.is_some_and(|open| open.again_at <= soon) && due.insert(parent) {
                    stack.push(parent);
                }
            }
        }
        self.parents_first(due.into_iter().collect())
    }

    fn announce_one_again(&mut self, now: Now, id: BroadcastId) {
        let interval = self.config.rebroadcast_interval.min(LONGEST);
        let Some((_, open)) = self.outbox.open_mut(id) else { return };
        open.again_at = now.instant + interval;
        for journey in &mut open.journeys {
            // Who is not read cannot ask, so another is told.
            let waits = journey.counts && journey.sent.is_none() && !journey.is_final();
            let is_read = |peer| self.peers.get(&peer).is_some_and(Peer::takes_part);
            journey.counts &= !waits || journey.peer.is_some_and(is_read);
        }
        let told: Vec<PeerId> =
            open.journeys.iter().filter(|journey| journey.is_told).filter_map(|j| j.peer).collect();
        for peer in told {
            if self.peers.get(&peer).is_some_and(|peer| peer.takes_part()) {
                self.tell_again(id, peer);
            }
        }
        self.tell_best_peers(now, id);
        self.schedule(id);
    }

    /// A peer is lost: what it was not sent yet is told to another, and to itself when it is back.
    pub(in crate::engine) fn lose_broadcast_peer(&mut self, now: Now, peer: PeerId) {
        self.outbox.announcing.peers.remove(&peer);
        let mut untold = Vec::new();
        let mut changed = Vec::new();
        for (&id, entry) in &mut self.outbox.entries {
            let Some(open) = &mut entry.open else { continue };
            let Some(journey) = open.journey_mut(peer).filter(|journey| journey.is_told) else { continue };
            journey.is_queued = false;
            if journey.give_up() {
                changed.push(id);
            }
            if journey.sent.is_none() && !journey.is_final() {
                journey.counts = false;
                untold.push(id);
            }
        }
        // Whatever the order in the map.
        changed.sort_unstable();
        changed.into_iter().for_each(|id| self.progress(id, peer));
        let untold = self.parents_first(untold);
        self.tell_best_peers_of_all(now, &untold);
        // All others may have rejected it.
        untold.into_iter().for_each(|id| self.judge(now, id));
        self.flush_announcements(now);
    }

    /// Broadcasts in the order in which they began, but none before one that it spends from.
    pub(super) fn parents_first(&self, mut ids: Vec<BroadcastId>) -> Vec<BroadcastId> {
        ids.sort_unstable();
        let chosen: HashMap<Txid, BroadcastId> =
            ids.iter().filter_map(|id| self.outbox.entries.get(id).map(|entry| (entry.txid, *id))).collect();
        let parents = |id: BroadcastId| -> Vec<BroadcastId> {
            let Some(entry) = self.outbox.entries.get(&id) else { return Vec::new() };
            let inputs = entry.transaction().inputs();
            inputs.filter_map(|input| chosen.get(&input.previous_output.txid).copied()).collect()
        };
        // Depth first without recursion: a chain can be as long as the outbox. No transaction is its own ancestor.
        let mut ordered = Vec::with_capacity(ids.len());
        let mut seen = BTreeMap::new();
        let mut stack = Vec::new();
        for id in ids {
            stack.push(id);
            while let Some(&top) = stack.last() {
                let state = seen.entry(top).or_insert(false);
                if *state {
                    stack.pop();
                    continue;
                }
                let waiting: Vec<_> =
                    parents(top).into_iter().filter(|parent| !seen.contains_key(parent)).collect();
                if waiting.is_empty() {
                    seen.insert(top, true);
                    ordered.push(top);
                    stack.pop();
                } else {
                    stack.extend(waiting);
                }
            }
        }
        ordered
    }

    fn queue_announcement(&mut self, peer: PeerId, id: BroadcastId, after: u64, direct: bool) {
        let Some(begins) = self.outbox.entries.get(&id).map(|entry| entry.begins) else { return };
        let announcement = Announcement { id, after, direct, begins };
        let Some(session) = self.peers.get_mut(&peer).and_then(|peer| peer.session_mut()) else { return };
        session.to_announce.queue.push_back(announcement);
        if session.to_announce.queue.len().is_multiple_of(LOT) {
            self.outbox.announcing.peers.remove(&peer);
            self.actions.push_back(Action::Serve { peer });
        } else {
            self.outbox.announcing.peers.insert(peer);
        }
    }

    /// Lets what was gathered for peers be sent, unless that was done a moment ago: then it is done in a moment, so that
    /// many ids share a message.
    pub(super) fn flush_announcements(&mut self, now: Now) {
        let announcing = &mut self.outbox.announcing;
        if announcing.peers.is_empty() {
            return;
        }
        let due = announcing.last.map_or(now.instant, |last| last + GATHER).max(now.instant);
        if due > now.instant {
            Self::set_timer(&mut self.timers, &mut announcing.timer, Timer::Announce, Some(due));
            return;
        }
        self.announcements_due(now);
    }

    pub(in crate::engine) fn announcements_due(&mut self, now: Now) {
        let announcing = &mut self.outbox.announcing;
        Self::set_timer(&mut self.timers, &mut announcing.timer, Timer::Announce, None);
        announcing.last = Some(now.instant);
        let peers = std::mem::take(&mut announcing.peers);
        self.actions.extend(peers.into_iter().map(|peer| Action::Serve { peer }));
    }

    /// How many ids, at most so many, a peer is to be told now, and over which connection.
    pub(crate) fn announcements(&mut self, peer: PeerId, most: usize) -> Option<(ConnectionId, usize)> {
        let saved = self.saved();
        let outbox = &mut self.outbox;
        let session = self.peers.get_mut(&peer)?.session_mut()?;
        if session.standing == Standing::Checking {
            return None;
        }
        let queue = &mut session.to_announce.queue;
        let mut count = 0;
        while count < most
            && let Some(next) = queue.get(count)
            && next.after <= saved
        {
            let Announcement { id, direct, begins, .. } = *next;
            let is_open =
                outbox.entries.get(&id).is_some_and(|entry| entry.open.is_some() && entry.begins == begins);
            if is_open && !direct {
                count += 1;
                continue;
            }
            queue.remove(count);
            if is_open {
                // In the order chosen, so that none overtakes what it spends from.
                session.to_serve.push(id);
                if let Some(journey) = outbox.open_mut(id).and_then(|(_, open)| open.journey_mut(peer)) {
                    journey.is_queued = false;
                }
            }
        }
        Some((session.connection, count))
    }

    /// Takes so many ids that a peer is told now.
    pub(crate) fn take_announcements(&mut self, now: Now, peer: PeerId, count: usize) -> Vec<Inventory> {
        let Some(session) = self.peers.get_mut(&peer).and_then(|peer| peer.session_mut()) else {
            return Vec::new();
        };
        let count = count.min(session.to_announce.queue.len());
        let told: Vec<_> = session.to_announce.queue.drain(..count).map(|announcement| announcement.id).collect();
        told.into_iter().filter_map(|id| self.mark_announced(now, id, peer)).collect()
    }

    fn mark_announced(&mut self, now: Now, id: BroadcastId, peer: PeerId) -> Option<Inventory> {
        let txid = self.outbox.entries.get(&id)?.txid;
        let (_, open) = self.outbox.open_mut(id)?;
        let journey = open.journey_mut(peer)?;
        journey.is_queued = false;
        journey.announced.get_or_insert(now.instant);
        if matches!(journey.stage, Stage::Chosen | Stage::NotHeard) {
            journey.stage = Stage::Announced;
            self.progress(id, peer);
        }
        Some(Inventory::transaction(txid))
    }

    /// What a transaction pays, in satoshis for 1,000 bytes, if that is known.
    fn fee_rate(&mut self, id: BroadcastId) -> Option<u64> {
        let computed = self.outbox.fee(id)?;
        let entry = self.outbox.entries.get_mut(&id)?;
        // Once for all: what is spent does not change.
        let fee = *entry.open.as_mut()?.terms.fee.get_or_insert(computed);
        let size = u64::try_from(entry.frame.payload().len()).ok()?;
        fee.saturating_mul(1_000).checked_div(size)
    }
}

impl Outbox {
    /// What a transaction pays: what the caller says, or else by its parents, if all are held.
    fn fee(&self, id: BroadcastId) -> Option<u64> {
        let entry = self.entries.get(&id)?;
        if let Some(fee) = entry.open.as_ref()?.terms.fee {
            return Some(fee);
        }
        // A parent's outputs are read once, however many of them are spent.
        let mut values: HashMap<Txid, Vec<i64>> = HashMap::new();
        let mut spent = 0_i64;
        for input in entry.transaction().inputs() {
            let OutPoint { txid, index } = input.previous_output;
            let parent = self.entries.get(self.ids.get(&txid)?)?;
            let read = || parent.transaction().outputs().map(|output| output.value).collect();
            let value = *values.entry(txid).or_insert_with(read).get(usize::try_from(index).ok()?)?;
            spent = spent.checked_add(value)?;
        }
        let mut outputs = entry.transaction().outputs();
        let paid = outputs.try_fold(0_i64, |sum, output| sum.checked_add(output.value))?;
        u64::try_from(spent.checked_sub(paid)?).ok()
    }
}

/// As many ids as are sent without waiting for more.
const LOT: usize = 1_000;
/// Parents that are announced again within this time are so with their children.
const ABOUT_DUE: Duration = Duration::from_secs(1);
/// How long ids are gathered when some were sent just before.
const GATHER: Duration = Duration::from_millis(5);
