//! The file that keeps broadcasts from one run to the next: appended to, synced in groups, and rewritten at times.
//!
//! The bytes are `engine::broadcast::record`'s. A kill at any moment loses nothing that was said to be saved: what it cuts
//! short is the end of the last group, which is cut off at the next start, or a new file that has not taken the place of
//! the old one yet.

mod disk;
mod log_file;
mod reading;

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use self::disk::{Disk, System};
use self::log_file::LogFile;
use super::files::{SetAside, with_suffix};
use crate::engine::book::file::label;
use crate::engine::broadcast::record::{GroupBuilder, Record, Restored};
use crate::error::StartError;
use crate::network::Network;

/// A network's file of broadcasts, which one thread writes and any thread adds to.
pub(crate) struct OutboxFile<D = System> {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Until the thread takes it.
    saver: Mutex<Option<Saver<D>>>,
}

/// What came of a group.
///
/// Records are numbered from 1 in the order in which they were appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SaveResult {
    /// All records up to this one are on the disk, or belong to broadcasts that were lost.
    pub(crate) through: u64,
    /// Broadcasts that are lost since the last result: the record that holds them, or any after the file broke for good,
    /// could not be written. Those that are lost for the former come back with no restart.
    pub(crate) lost: Vec<u64>,
    /// What the system said; what is not lost is tried again.
    pub(crate) error: Option<io::ErrorKind>,
}

#[derive(Debug, Default)]
struct Queue {
    records: VecDeque<(u64, Record)>,
    /// The number of the last record.
    last: u64,
    is_closed: bool,
}

/// The writer and what it could not write yet.
struct Saver<D> {
    log: LogFile<D>,
    /// In order; those at the front may have failed before.
    pending: VecDeque<(u64, Record)>,
    /// The last record that was taken from the queue.
    last: u64,
}

impl OutboxFile<System> {
    /// Opens or makes the file of a network, and reads what an earlier run left.
    ///
    /// An end that a kill cut short is cut off. A file that is damaged otherwise, or foreign, is kept under another name;
    /// what comes before the damage is used. Expired broadcasts are given like others.
    ///
    /// # Errors
    ///
    /// [`StartError::BroadcastsInUse`] if another conduit has the file open, [`StartError::Broadcasts`] if it can be neither
    /// used nor replaced.
    pub(crate) fn open(
        dir: &Path,
        network: &Network,
    ) -> Result<(Self, Vec<Restored>, Option<SetAside>), StartError> {
        let (log, restored, set_aside) = reading::open(System, dir, network)?;
        Ok((Self::new(log), restored, set_aside))
    }
}

impl<D: Disk> OutboxFile<D> {
    fn new(log: LogFile<D>) -> Self {
        let saver = Mutex::new(Some(Saver::new(log)));
        Self { queue: Mutex::default(), changed: Condvar::new(), saver }
    }

    /// Queues records to be written, without waiting, and gives the number of the last one.
    ///
    /// What comes after [`close`](Self::close) is not written.
    pub(crate) fn append(&self, records: Vec<Record>) -> u64 {
        let mut queue = self.queue.lock();
        if !queue.is_closed {
            for record in records {
                queue.last += 1;
                let number = queue.last;
                queue.records.push_back((number, record));
            }
            self.changed.notify_one();
        }
        queue.last
    }

    /// Writes what is queued, group by group, until the file is closed and nothing is left; then gives it free for others.
    ///
    /// While one group is synced the next one gathers. To be called by one thread, once.
    pub(crate) fn run(&self, mut on_saved: impl FnMut(SaveResult)) {
        let Some(mut saver) = self.saver.lock().take() else { return };
        loop {
            let is_closed = self.take(&mut saver);
            if saver.pending.is_empty() {
                // Only a closed queue comes here with nothing.
                return;
            }
            let result = saver.save();
            let has_failed = result.error.is_some();
            on_saved(result);
            if has_failed && is_closed {
                let unsaved = saver.save_the_last(&mut on_saved);
                if unsaved > 0 {
                    log::error!(target: "conduit::driver", "{unsaved} records of broadcasts are not saved");
                }
                return;
            }
            saver.log.compact_if_due();
        }
    }

    /// Lets [`run`](Self::run) end when everything queued is written.
    pub(crate) fn close(&self) {
        self.queue.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Gives the file free for others, if nobody runs it.
    pub(crate) fn release(&self) {
        self.close();
        drop(self.saver.lock().take());
    }

    /// Moves what is queued to what is pending, waiting for it, or until it is time to try again; whether it is closed.
    fn take(&self, saver: &mut Saver<D>) -> bool {
        let mut queue = self.queue.lock();
        // A pending rest that has not failed waits for nothing.
        while queue.records.is_empty() && !queue.is_closed && !saver.has_more() {
            if saver.pending.is_empty() {
                self.changed.wait(&mut queue);
            } else if self.changed.wait_for(&mut queue, RETRY).timed_out() {
                break;
            }
        }
        saver.pending.append(&mut queue.records);
        saver.last = queue.last;
        queue.is_closed
    }
}

impl<D: Disk> Saver<D> {
    fn new(log: LogFile<D>) -> Self {
        Self { log, pending: VecDeque::new(), last: 0 }
    }

    /// Whether something is left that did not fit the last group.
    fn has_more(&self) -> bool {
        !self.pending.is_empty() && !self.log.has_failed()
    }

    /// Writes one group of what is pending.
    fn save(&mut self) -> SaveResult {
        let mut builder = GroupBuilder::new();
        let mut places = Vec::new();
        for (_, record) in &self.pending {
            if builder.is_full() {
                break;
            }
            places.push(builder.push(record));
        }
        let taken = places.len();
        let (lost, error) =
            match self.log.append(self.pending.iter().map(|(_, record)| record).zip(places), builder) {
                Ok(()) => {
                    self.pending.drain(..taken);
                    (BTreeSet::new(), None)
                }
                Err(error) => {
                    log::warn!(target: "conduit::driver", "{}: not written: {error}", self.log.path().display());
                    (self.lose(taken), Some(error.kind()))
                }
            };
        let through = self.pending.front().map_or(self.last, |(number, _)| number - 1);
        SaveResult { through, lost: lost.into_iter().collect(), error }
    }

    /// Gives up what can have no place in the file any more, among it every broadcast that the failed group was to hold.
    fn lose(&mut self, taken: usize) -> BTreeSet<u64> {
        let is_broken = self.log.is_broken();
        let failed = if is_broken { self.pending.len() } else { taken };
        let is_lost = |record: &Record| is_broken || matches!(record, Record::Hold(_));
        let lost: BTreeSet<u64> = self
            .pending
            .iter()
            .take(failed)
            .filter(|(_, record)| is_lost(record))
            .map(|(_, record)| record.item())
            .collect();
        // What the file has of an earlier broadcast of the same number must not come back in place of the one that is lost.
        let ends = |record: &Record| !is_broken && matches!(record, Record::Over { .. });
        self.pending.retain(|(_, record)| ends(record) || !lost.contains(&record.item()));
        lost
    }

    /// Writes what is pending after a failure, as there is nobody to wait for any more: without what it lost, the rest may
    /// find room. Ends when that fails, too, and tells how many records are left.
    fn save_the_last(&mut self, on_saved: &mut impl FnMut(SaveResult)) -> usize {
        while !self.pending.is_empty() {
            let result = self.save();
            let is_stuck = result.error.is_some() && result.lost.is_empty();
            on_saved(result);
            if is_stuck {
                break;
            }
        }
        self.pending.len()
    }
}

/// The file of a network: `outbox-main.log`.
fn path(dir: &Path, network: &Network) -> PathBuf {
    dir.join(format!("outbox-{}.log", label(network)))
}

/// The file whose lock stands for that of the log, which is replaced at times; it is empty and stays.
fn lock_path(path: &Path) -> PathBuf {
    with_suffix(path, ".lock")
}

/// After so long what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
