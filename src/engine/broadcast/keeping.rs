//! Keeping: what the outbox file is told, and what was in it at the start.
//!
//! Layer 4. Nothing is announced or sent before the file has the transaction and who is told of it, so that a peer that was
//! told is no witness after a restart either.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::journey::{Journey, Stage, Told};
use super::{BroadcastId, Engine, Entry, Held, Now, Open, Record, Restored, Said};
use crate::broadcast::{BroadcastEnd, BroadcastOptions};
use crate::engine::Action;
use crate::engine::pool::Peer;
use crate::message::Transaction;
use crate::peer::{PeerAddress, PeerId};

/// How far the file is behind.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Records told to the file.
    appended: u64,
    /// Records it has on disk.
    saved: u64,
    /// Broadcasts whose callers wait for the file, and what it must have got for them.
    unsaved: VecDeque<(u64, BroadcastId)>,
    /// Nothing is told to it any more.
    is_closed: bool,
}

impl Engine {
    /// Goes on where an earlier run was; from here on the file is told of everything.
    pub(crate) fn restore_broadcasts(&mut self, now: Now, restored: Vec<Restored>) {
        let last = restored.iter().map(|restored| restored.held.item).max().unwrap_or_default();
        self.next_id = self.next_id.max(last);
        let (mut begun, mut parents, mut doubles) = (Vec::new(), Vec::new(), Vec::new());
        // Recorded again would be to tell the file what it has.
        for Restored { held, told, heard } in restored {
            let id = BroadcastId(held.item);
            if self.outbox.ids.contains_key(&held.transaction.txid()) {
                doubles.push(id);
                continue;
            }
            let left = u64::try_from(held.expires.saturating_sub(now.unix)).unwrap_or_default();
            let options = held.options.lifetime(Duration::from_secs(left));
            self.begin(now, id, &held.transaction, &[], &options);
            begun.push(id);
            parents.push(options.parents);
            let Some((_, open)) = self.outbox.open_mut(id) else { continue };
            for address in told {
                let address = Arc::new(address);
                open.journeys.push(Journey::told_before(Told { peer: None, address, is_of_address: true }));
            }
            for (address, said) in heard {
                let stage = match said {
                    Said::Relayed => Stage::Relayed,
                    Said::Rejected { code, reason } => Stage::Rejected(Box::new((code, reason))),
                };
                let known = open.journeys.iter_mut().find(|journey| *journey.address == address);
                match known {
                    Some(journey) => journey.stage = stage,
                    None => {
                        let journey = Journey::new(None, Arc::new(address), stage);
                        open.journeys.push(Journey { is_of_address: true, ..journey });
                    }
                }
            }
        }
        // Last, as some are broadcast themselves, under ids of their own.
        for (&id, raw) in begun.iter().zip(parents) {
            let parents: Vec<_> = raw.into_iter().filter_map(|raw| Transaction::from_raw(raw).ok()).collect();
            let Some(until) = self.outbox.entries.get(&id).map(|entry| entry.until) else { continue };
            self.join_parents(now, id, until, &parents.iter().collect::<Vec<_>>());
        }
        self.outbox.log = Some(Log::default());
        for id in doubles {
            self.record(|| Record::Over { item: id.0 });
        }
        // What was heard may be enough: the earlier run can have ended before it could tell the file.
        begun.into_iter().for_each(|id| self.judge(now, id));
    }

    pub(super) fn record_hold(
        &mut self,
        now: Now,
        id: BroadcastId,
        transaction: Transaction,
        options: &BroadcastOptions,
    ) {
        let lifetime = self.lifetime(options).as_secs();
        let held = Held {
            item: id.0,
            transaction,
            options: options.clone(),
            begun: now.unix,
            expires: now.unix.saturating_add_unsigned(lifetime),
        };
        let after = self.record(|| Record::Hold(Box::new(held)));
        if let Some(log) = &mut self.outbox.log {
            log.unsaved.push_back((after, id));
        }
        let Some((entry, open)) = self.outbox.open_mut(id) else { return };
        *entry.held_at = after;
        let (parents, told) = (open.parents.clone(), open.journeys.clone());
        for parent in parents {
            if let Some(entry) = self.outbox.entries.get_mut(&parent).filter(|entry| entry.held_at == u64::MAX) {
                entry.held_at = after;
            }
        }
        // It may begin anew, and the file has forgotten who was told the time before.
        for (at, journey) in told.into_iter().enumerate() {
            let told_at = self.record(|| Record::Told { item: id.0, address: (*journey.address).clone() });
            if let Some(journey) = self.outbox.open_mut(id).and_then(|(_, open)| open.journeys.get_mut(at)) {
                journey.told_at = told_at;
            }
        }
    }

    /// Tells the file, if there is one; gives what it must have got before anybody may notice.
    pub(super) fn record(&mut self, record: impl FnOnce() -> Record) -> u64 {
        let Some(log) = &mut self.outbox.log else { return 0 };
        if log.is_closed {
            return u64::MAX;
        }
        log.appended += 1;
        let position = log.appended;
        self.actions.push_back(Action::Record(record()));
        position
    }

    /// Whether a caller need not wait for the file any more.
    pub(crate) fn is_saved(&self, id: BroadcastId) -> bool {
        self.outbox.log.as_ref().is_none_or(|log| log.unsaved.iter().all(|&(_, unsaved)| unsaved != id))
    }

    /// Those that the file has not got yet.
    pub(super) fn unsaved(&self) -> HashSet<BroadcastId> {
        self.outbox.log.iter().flat_map(|log| &log.unsaved).map(|&(_, id)| id).collect()
    }

    /// The file is told nothing more.
    pub(super) fn close_log(&mut self) {
        if let Some(log) = &mut self.outbox.log {
            log.is_closed = true;
        }
    }

    /// What the file has got.
    pub(super) fn saved(&self) -> u64 {
        self.outbox.log.as_ref().map_or(u64::MAX, |log| log.saved)
    }

    /// The file has got so many records; the items that it could not take are lost.
    pub(crate) fn handle_saved(&mut self, now: Now, through: u64, lost: &[u64], fault: Option<io::ErrorKind>) {
        let saved = self.saved();
        for &item in lost {
            let id = BroadcastId(item);
            // What the file had before goes on without it, if it broke for good.
            let is_lost = |entry: &&Entry| entry.open.is_some() && entry.held_at > saved;
            let Some(entry) = self.outbox.entries.get(&id).filter(is_lost) else { continue };
            let (raw, kind) = (entry.frame.payload().to_vec(), fault.unwrap_or(io::ErrorKind::Other));
            let Some(report) = self.report(now, id, Some(BroadcastEnd::NotSaved)).map(Box::new) else { continue };
            self.actions.push_back(Action::BroadcastLost { broadcast: id, raw, kind, report });
            self.forget_open(id);
        }
        let lost: HashSet<u64> = lost.iter().copied().collect();
        let Some(log) = &mut self.outbox.log else { return };
        log.saved = log.saved.max(through);
        while let Some(&(after, id)) = log.unsaved.front()
            && after <= log.saved
        {
            log.unsaved.pop_front();
            if lost.contains(&id.0) {
                continue;
            }
            self.actions.push_back(Action::BroadcastSaved { broadcast: id });
        }
        let waiting = self.peers.iter().filter(|(_, peer)| {
            peer.session().is_some_and(|session| !session.to_announce.is_empty() || !session.to_serve.is_empty())
        });
        let waiting: Vec<PeerId> = waiting.map(|(&id, _)| id).collect();
        self.actions.extend(waiting.into_iter().map(|peer| Action::Serve { peer }));
        self.flush_announcements(now);
    }
}

impl Engine {
    /// There is no such broadcast any more, though others may need its transaction as a parent.
    fn forget_open(&mut self, id: BroadcastId) {
        let Some(entry) = self.outbox.entries.get_mut(&id) else { return };
        if entry.children == 0 {
            return self.remove_entry(id);
        }
        if let Some(open) = entry.open.take() {
            self.outbox.open -= 1;
            self.release_parents(&open.parents);
        }
        self.charge_as_spare(id);
        self.schedule(id);
    }
}

impl Open {
    /// Gives a peer the journey of one with its address that is not known any more: of an earlier run, or forgotten since.
    pub(super) fn adopt(&mut self, peers: &BTreeMap<PeerId, Peer>, peer: PeerId, address: &Arc<PeerAddress>) {
        if self.journey(peer).is_some() {
            return;
        }
        let mut is_known = false;
        for journey in self.journeys.iter_mut().filter(|journey| journey.address == *address) {
            if journey.peer.is_none_or(|id| !peers.contains_key(&id)) {
                journey.peer = Some(peer);
                journey.is_of_address = true;
                return;
            }
            is_known |= journey.is_of_address;
        }
        if is_known {
            // Of several connections to an address nobody knows which one it was.
            let told = Told { peer: Some(peer), address: address.clone(), is_of_address: true };
            self.journeys.push(Journey::told_before(told));
        }
    }
}
