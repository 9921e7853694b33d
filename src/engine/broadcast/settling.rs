//! Settling: when a broadcast's verdict is given, and when it is over.
//!
//! Layer 4. Each broadcast gets exactly one verdict and ends exactly once.

use std::sync::Arc;

use super::journey::{Journey, Told, verdict};
use super::{BroadcastId, Engine, Now, Open, Record, TooFewListeners, spare_cost};
use crate::broadcast::{BroadcastEnd, BroadcastReport, JourneyState, PeerJourney, Progress, Verdict};
use crate::engine::Action;
use crate::peer::PeerId;

impl Engine {
    /// Something was heard or done: it may be enough.
    pub(super) fn judge(&mut self, now: Now, id: BroadcastId) {
        let Some((_, open)) = self.outbox.open_mut(id) else { return };
        let (terms, journeys) = (open.terms, &open.journeys);
        let relayed = journeys.iter().filter(|journey| journey.is_relayed()).count();
        if terms.relays > 0 && relayed >= terms.relays {
            self.end(now, id, BroadcastEnd::Relayed);
            return;
        }
        let told = || journeys.iter().filter(|journey| journey.counts);
        let is_rejected = relayed == 0 && told().count() > 0 && told().all(Journey::is_rejected);
        if is_rejected {
            self.end(now, id, BroadcastEnd::Rejected);
            return;
        }
        let is_late = open.deadline <= now.instant;
        let is_sent = |journey: &Journey| journey.sent.is_some();
        let is_delivered =
            || told().count() >= terms.nodes && told().all(is_sent) || is_late && journeys.iter().any(is_sent);
        if terms.relays == 0 && is_delivered() {
            self.end(now, id, BroadcastEnd::Delivered);
            return;
        }
        if terms.settle_on_reject && journeys.iter().any(Journey::is_rejected) {
            self.settle(now, id);
        }
    }

    /// A broadcast's timer has fired.
    pub(in crate::engine) fn broadcast_due(&mut self, now: Now, id: BroadcastId) {
        let Some(entry) = self.outbox.entries.get_mut(&id) else { return };
        entry.timer = None;
        let is_expired = entry.until <= now.instant;
        let Some(open) = &mut entry.open else {
            if is_expired && entry.children == 0 {
                self.remove_entry(id);
            } else {
                self.postpone(now, id);
            }
            return;
        };
        let is_late = open.settled.is_none() && open.deadline <= now.instant;
        if is_late || is_expired {
            let peers = open.journeys.iter_mut().filter_map(|journey| journey.give_up().then_some(journey.peer?));
            let given_up: Vec<PeerId> = peers.collect();
            given_up.into_iter().for_each(|peer| self.progress(id, peer));
            if is_expired {
                self.end(now, id, BroadcastEnd::Expired);
                return;
            }
            self.settle(now, id);
            self.judge(now, id);
        } else if open.again_at <= now.instant {
            self.announce_again(now, id);
        }
        self.schedule(id);
    }

    /// A parent is held for as long as a child of it is open.
    fn postpone(&mut self, now: Now, id: BroadcastId) {
        let lifetime = self.config.broadcast_lifetime;
        if let Some(entry) = self.outbox.entries.get_mut(&id) {
            entry.until = now.instant + lifetime.clamp(MIN_POSTPONED, super::LONGEST);
        }
        self.schedule(id);
    }

    /// Gives the verdict, if it was not given.
    pub(super) fn settle(&mut self, now: Now, id: BroadcastId) {
        if self.mark_settled(id)
            && let Some(report) = self.report(now, id, None)
        {
            self.tell_verdict(id, &Arc::new(report));
            self.schedule(id);
        }
    }

    /// Notes that the verdict is given; false if it was.
    fn mark_settled(&mut self, id: BroadcastId) -> bool {
        let Some(listeners) = self.listeners(id) else { return false };
        let Some((_, open)) = self.outbox.open_mut(id) else { return false };
        let is_new = open.settled.is_none();
        if is_new {
            open.settled = Some(TooFewListeners(listeners < open.terms.listeners.max(open.terms.relays)));
        }
        is_new
    }

    fn tell_verdict(&mut self, id: BroadcastId, report: &Arc<BroadcastReport>) {
        if self.outbox.open_mut(id).is_some_and(|(_, open)| open.is_followed) {
            let progress = Progress::Settled(report.verdict.clone());
            self.actions.push_back(Action::Progress { broadcast: id, progress });
        }
        self.actions.push_back(Action::BroadcastSettled { broadcast: id, report: report.clone() });
    }

    /// Ends a broadcast, with its verdict if that was not given; the transaction may be served on.
    pub(super) fn end(&mut self, now: Now, id: BroadcastId, end: BroadcastEnd) {
        let is_verdict = self.mark_settled(id);
        let Some(report) = self.report(now, id, Some(end)) else { return };
        let report = Arc::new(report);
        if is_verdict {
            self.tell_verdict(id, &report);
        }
        let Some(entry) = self.outbox.entries.get_mut(&id) else { return };
        let Some(open) = entry.open.take() else { return };
        let Open { journeys, parents, .. } = *open;
        let had = journeys.into_iter().filter(|journey| journey.is_told || journey.requested.is_some());
        let had = had.map(|Journey { peer, address, is_of_address, .. }| Told { peer, address, is_of_address });
        if entry.told.is_empty() {
            entry.told = had.collect();
        } else {
            had.for_each(|told| entry.note_told(told));
        }
        self.outbox.open -= 1;
        self.release_parents(&parents);
        self.record(|| Record::Over { item: id.0 });
        self.actions.push_back(Action::BroadcastOver { broadcast: id, report });
        let Some(entry) = self.outbox.entries.get(&id) else { return };
        let is_parent = entry.children > 0;
        let is_wanted = matches!(end, BroadcastEnd::Relayed | BroadcastEnd::Delivered | BroadcastEnd::Rejected)
            && entry.until > now.instant;
        if !is_parent && !is_wanted {
            self.remove_entry(id);
            return;
        }
        self.charge_as_spare(id);
        self.outbox.spare(id);
        self.schedule(id);
    }

    pub(super) fn charge_as_spare(&mut self, id: BroadcastId) {
        if let Some(entry) = self.outbox.entries.get_mut(&id) {
            let cost = spare_cost(entry.transaction());
            self.outbox.bytes = self.outbox.bytes - entry.cost + cost;
            entry.cost = cost;
        }
    }

    /// How many peers are there to show that it was relayed.
    fn listeners(&self, id: BroadcastId) -> Option<usize> {
        let open = self.outbox.entries.get(&id)?.open.as_ref()?;
        let told = open.journeys.iter().filter(|journey| journey.is_told);
        let told = told.filter(|journey| journey.peer.is_some_and(|peer| self.is_listening(peer)));
        Some(self.listening - told.count())
    }

    pub(super) fn report(&self, now: Now, id: BroadcastId, end: Option<BroadcastEnd>) -> Option<BroadcastReport> {
        let entry = self.outbox.entries.get(&id)?;
        let open = entry.open.as_ref()?;
        let listeners = self.listeners(id)?;
        let verdict = match open.mined {
            Some(block) => Verdict::Mined { block },
            None => verdict(&open.journeys),
        };
        let wanted = open.terms.listeners.max(open.terms.relays);
        Some(BroadcastReport {
            txid: entry.txid,
            verdict,
            peers: open.journeys.iter().filter_map(|journey| self.public(open, journey)).collect(),
            listeners,
            too_few_listeners: open.settled.map_or(listeners < wanted, |few| few.0),
            conflicts: open.conflicts.clone(),
            elapsed: now.instant.saturating_duration_since(open.begun),
            end,
        })
    }

    fn public(&self, open: &Open, journey: &Journey) -> Option<PeerJourney> {
        let mut public = journey.public(open.begun)?;
        let waits = matches!(public.state, JourneyState::Announced | JourneyState::Requested | JourneyState::Sent);
        if waits && journey.peer.is_some_and(|peer| self.is_paused(peer)) {
            public.state = JourneyState::NotHeard;
        }
        Some(public)
    }

    /// Tells whoever follows a broadcast that it came further with a peer.
    pub(super) fn progress(&mut self, id: BroadcastId, peer: PeerId) {
        let Some((_, open)) = self.outbox.open_mut(id) else { return };
        if !open.is_followed {
            return;
        }
        let journey = open.journey(peer).and_then(|journey| journey.public(open.begun));
        if let Some(journey) = journey {
            let progress = Progress::Peer(journey);
            self.actions.push_back(Action::Progress { broadcast: id, progress });
        }
    }
}

/// A parent is not looked at more often than this.
const MIN_POSTPONED: std::time::Duration = std::time::Duration::from_secs(1);
