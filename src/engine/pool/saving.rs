//! What is kept of peers from one run to the next: the address book and the bans.
//!
//! Layer 4.

use std::time::{Duration, Instant};

use super::Engine;
use crate::engine::book::Snapshot;
use crate::engine::{Action, Now, Timer};

impl Engine {
    /// Takes over what an earlier run knew.
    pub(crate) fn restore_peers(&mut self, now: Now, saved: Snapshot) {
        self.finding.book.restore(now, saved.addresses);
        self.bans.restore(now, saved.bans);
    }

    /// What the next run shall know; `None` if nothing has changed since it was last asked for.
    pub(crate) fn snapshot_peers(&mut self) -> Option<Snapshot> {
        let book = &mut self.finding.book;
        let is_changed = book.take_changed() | self.bans.take_changed();
        is_changed.then(|| Snapshot { addresses: book.snapshot(), bans: self.bans.snapshot() })
    }

    /// What `snapshot_peers` gave could not be saved, so it is given again.
    pub(crate) fn note_unsaved(&mut self) {
        self.finding.book.note_changed();
    }

    /// What was heard is saved now and then.
    pub(super) fn save_later(&mut self, now: Now) {
        self.save_at(now.instant + SAVE_INTERVAL);
    }

    /// What the caller decided is saved soon.
    pub(super) fn save_soon(&mut self, now: Now) {
        self.save_at(now.instant + SAVE_SOON);
    }

    fn save_at(&mut self, at: Instant) {
        if self.config.data_dir.is_some() {
            let at = self.save_timer.map_or(at, |earlier| earlier.min(at));
            Self::set_timer(&mut self.timers, &mut self.save_timer, Timer::Save, Some(at));
        }
    }

    pub(in crate::engine) fn save_due(&mut self) {
        self.save_timer = None;
        self.actions.push_back(Action::SavePeers);
    }
}

const SAVE_INTERVAL: Duration = Duration::from_secs(60);
const SAVE_SOON: Duration = Duration::from_secs(1);
