//! What the conduit and all handles of one broadcast share: its verdict, its end, and who reads its progress.

use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::progress::ProgressQueue;
use super::{BroadcastEnd, BroadcastReport, Progress};
use crate::error::BroadcastFailure;
use crate::queue::slot::wake;
use crate::wire::Txid;

/// The place where the news of a broadcast are left for its handles.
///
/// The driver fills it with the engine's lock held, so that news keep their order; nothing here calls back.
#[derive(Debug)]
pub(crate) struct BroadcastSlot {
    txid: Txid,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// As the verdict was given.
    settled: Option<BroadcastReport>,
    over: Option<BroadcastReport>,
    saved: Option<Result<(), BroadcastFailure>>,
    wakers: Vec<Waker>,
    queues: Vec<Weak<ProgressQueue>>,
}

/// Wakers to be called without any lock of ours.
#[must_use = "whoever waits is not woken"]
#[derive(Debug, Default)]
pub(crate) struct Wakes(Vec<Waker>);

impl Wakes {
    pub(crate) fn wake(self) {
        self.0.into_iter().for_each(wake);
    }
}

impl BroadcastSlot {
    /// A broadcast that is not over; with a file, `is_saved` is false until that has it.
    pub(crate) fn new(txid: Txid, is_saved: bool) -> Self {
        let state = State { saved: is_saved.then_some(Ok(())), ..State::default() };
        Self { txid, state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) const fn txid(&self) -> Txid {
        self.txid
    }

    /// The verdict is given.
    pub(crate) fn settle(&self, report: BroadcastReport) -> Wakes {
        let mut state = self.state.lock();
        if state.settled.is_some() {
            return Wakes::default();
        }
        state.settled = Some(report);
        self.changed.notify_all();
        Wakes(std::mem::take(&mut state.wakers))
    }

    /// It is over; without a verdict yet, this is it.
    pub(crate) fn end(&self, report: BroadcastReport) -> Wakes {
        let mut state = self.state.lock();
        if state.over.is_some() {
            return Wakes::default();
        }
        if let Some(end) = report.end {
            for queue in state.queues.drain(..).filter_map(|queue| queue.upgrade()) {
                queue.close(Some(Progress::Over(end)));
            }
        }
        state.settled.get_or_insert_with(|| report.clone());
        // Who waits for the file waits no longer. At the end of it all the next start tells whether it has the transaction.
        let is_shutdown = report.end == Some(BroadcastEnd::Shutdown);
        state.saved.get_or_insert(if is_shutdown { Err(BroadcastFailure::Shutdown) } else { Ok(()) });
        state.over = Some(report);
        self.changed.notify_all();
        Wakes(std::mem::take(&mut state.wakers))
    }

    /// Whether the file has the broadcast, or why not.
    pub(crate) fn saved(&self, result: Result<(), BroadcastFailure>) {
        self.state.lock().saved.get_or_insert(result);
        self.changed.notify_all();
    }

    /// Gives progress to whoever reads it.
    pub(crate) fn tell(&self, progress: &Progress) {
        self.state.lock().queues.retain(|queue| match queue.upgrade() {
            Some(queue) => {
                queue.push(progress.clone());
                true
            }
            None => false,
        });
    }

    /// Lets a queue have what happened so far and what comes.
    pub(crate) fn follow(&self, queue: &Arc<ProgressQueue>, report: &BroadcastReport, is_settled: bool) {
        let mut state = self.state.lock();
        let verdict = state.settled.as_ref().filter(|_| is_settled).map(|settled| settled.verdict.clone());
        queue.fill(report, verdict);
        // Here, as of a broadcast of which nothing is heard those of all readers gone would be kept.
        state.queues.retain(|queue| queue.strong_count() > 0);
        state.queues.push(Arc::downgrade(queue));
    }

    /// Waits until the file has it.
    pub(crate) fn wait_saved(&self) -> Result<(), BroadcastFailure> {
        let mut state = self.state.lock();
        loop {
            if let Some(result) = &state.saved {
                return result.clone();
            }
            self.changed.wait(&mut state);
        }
    }

    /// The report with which the verdict was given, waiting for it until a deadline.
    pub(super) fn wait_settled(&self, deadline: Option<Instant>) -> Option<BroadcastReport> {
        let mut state = self.state.lock();
        while state.settled.is_none() {
            match deadline {
                None => self.changed.wait(&mut state),
                Some(deadline) => {
                    if self.changed.wait_until(&mut state, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        state.settled.clone()
    }

    /// The same if it is there; else the waker is called when it is.
    pub(super) fn poll_settled(&self, waker: Option<&Waker>) -> Option<BroadcastReport> {
        let mut state = self.state.lock();
        if let (None, Some(waker)) = (&state.settled, waker)
            && !state.wakers.iter().any(|known| known.will_wake(waker))
        {
            state.wakers.push(waker.clone());
        }
        state.settled.clone()
    }

    /// The last report, once it is over.
    pub(super) fn over(&self) -> Option<BroadcastReport> {
        self.state.lock().over.clone()
    }

    /// The verdict and the last report, once it is over.
    pub(super) fn history(&self) -> Option<(BroadcastReport, BroadcastReport)> {
        let state = self.state.lock();
        Some((state.settled.clone()?, state.over.clone()?))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::broadcast::{BroadcastProgress, JourneyState, PeerJourney, Verdict};
    use crate::driver::deadline_after;
    use crate::error::{RecvError, TryRecvError};
    use crate::peer::PeerId;

    const LONG: Duration = Duration::from_secs(30);

    fn slot() -> Arc<BroadcastSlot> {
        Arc::new(BroadcastSlot::new(Txid::ZERO, true))
    }

    fn report(end: Option<BroadcastEnd>) -> BroadcastReport {
        BroadcastReport {
            txid: Txid::ZERO,
            verdict: Verdict::Relayed { by: 1 },
            peers: Vec::new(),
            listeners: 1,
            too_few_listeners: false,
            conflicts: Vec::new(),
            elapsed: Duration::ZERO,
            end,
        }
    }

    fn peer(id: u64) -> Progress {
        Progress::Peer(PeerJourney {
            peer: Some(PeerId(id)),
            address: "127.0.0.1:1".parse().unwrap(),
            state: JourneyState::Announced,
            announced: None,
            requested: None,
            sent: None,
            heard: None,
        })
    }

    fn settled() -> Progress {
        Progress::Settled(Verdict::Relayed { by: 1 })
    }

    /// A reader of what comes from now on.
    fn follow(slot: &BroadcastSlot) -> BroadcastProgress {
        let queue = Arc::default();
        slot.follow(&queue, &report(None), false);
        BroadcastProgress::new(queue)
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::AcqRel);
        }
    }

    #[test]
    fn the_first_verdict_ends_every_wait_and_stays() {
        let slot = slot();
        assert_eq!(slot.poll_settled(None), None);
        assert_eq!(slot.wait_settled(deadline_after(Duration::from_millis(1))), None);
        thread::scope(|scope| {
            let waits: Vec<_> = (0..4).map(|_| scope.spawn(|| slot.wait_settled(deadline_after(LONG)))).collect();
            slot.settle(report(None)).wake();
            assert!(waits.into_iter().all(|wait| wait.join().unwrap() == Some(report(None))));
        });
        slot.settle(BroadcastReport { listeners: 9, ..report(None) }).wake();
        slot.end(report(Some(BroadcastEnd::Shutdown))).wake();
        slot.end(report(Some(BroadcastEnd::Expired))).wake();
        assert_eq!(slot.wait_settled(None), Some(report(None)));
        assert_eq!(slot.over(), Some(report(Some(BroadcastEnd::Shutdown))));
        assert_eq!(slot.history(), Some((report(None), report(Some(BroadcastEnd::Shutdown)))));
    }

    #[test]
    fn an_end_without_a_verdict_ends_the_waits_for_verdict_and_file() {
        for (end, saved) in [
            (BroadcastEnd::Shutdown, Err(BroadcastFailure::Shutdown)),
            (BroadcastEnd::Cancelled, Ok(())),
            (BroadcastEnd::Mined, Ok(())),
        ] {
            let slot = BroadcastSlot::new(Txid::ZERO, false);
            thread::scope(|scope| {
                let verdict = scope.spawn(|| slot.wait_settled(deadline_after(LONG)));
                let file = scope.spawn(|| slot.wait_saved());
                slot.end(report(Some(end))).wake();
                assert_eq!(verdict.join().unwrap().unwrap().end, Some(end));
                assert_eq!(file.join().unwrap(), saved);
            });
        }
    }

    #[test]
    fn the_first_word_of_the_file_counts() {
        assert_eq!(BroadcastSlot::new(Txid::ZERO, true).wait_saved(), Ok(()));
        let slot = BroadcastSlot::new(Txid::ZERO, false);
        thread::scope(|scope| {
            let wait = scope.spawn(|| slot.wait_saved());
            slot.saved(Err(BroadcastFailure::Full));
            slot.saved(Ok(()));
            assert_eq!(wait.join().unwrap(), Err(BroadcastFailure::Full));
        });
    }

    #[test]
    fn each_waker_is_called_once_and_a_ready_future_stays_ready() {
        let slot = slot();
        let counts = [0; 3].map(|_| Arc::new(Count::default()));
        thread::scope(|scope| {
            for count in &counts {
                scope.spawn(|| {
                    let waker = count.clone().into();
                    // Polled again, it waits once.
                    (0..3).for_each(|_| assert_eq!(slot.poll_settled(Some(&waker)), None));
                });
            }
        });
        let wakes = slot.settle(report(None));
        assert!(counts.iter().all(|count| count.0.load(Ordering::Acquire) == 0), "a lock may be held");
        wakes.wake();
        slot.end(report(Some(BroadcastEnd::Expired))).wake();
        assert!(counts.iter().all(|count| count.0.load(Ordering::Acquire) == 1));
        let waker = counts[0].clone().into();
        (0..2).for_each(|_| assert_eq!(slot.poll_settled(Some(&waker)), Some(report(None))));
    }

    #[test]
    fn no_wait_misses_what_comes_as_it_begins() {
        for _ in 0..1_000 {
            let slot = slot();
            let progress = follow(&slot);
            thread::scope(|scope| {
                let wait = scope.spawn(|| slot.wait_settled(deadline_after(LONG)));
                let read = scope.spawn(|| progress.recv_timeout(LONG));
                slot.tell(&settled());
                slot.settle(report(None)).wake();
                assert!(wait.join().unwrap().is_some());
                assert_eq!(read.join().unwrap(), Ok(settled()));
            });
        }
    }

    #[test]
    fn every_reader_sees_everything_once_and_the_end_last() {
        let slot = slot();
        let early = follow(&slot);
        slot.tell(&peer(1));
        slot.tell(&settled());
        slot.settle(report(None)).wake();
        let late = Arc::default();
        let Progress::Peer(journey) = peer(1) else { unreachable!() };
        slot.follow(&late, &BroadcastReport { peers: vec![journey], ..report(None) }, true);
        let late = BroadcastProgress::new(late);
        slot.tell(&peer(2));
        slot.end(report(Some(BroadcastEnd::Relayed))).wake();
        slot.tell(&peer(3));
        let all = [peer(1), settled(), peer(2), Progress::Over(BroadcastEnd::Relayed)];
        for mut reader in [early, late] {
            assert_eq!(reader.by_ref().collect::<Vec<_>>(), all);
            assert_eq!(
                (reader.next(), reader.recv(), reader.try_recv()),
                (None, Err(RecvError), Err(TryRecvError::Shutdown))
            );
        }
    }

    #[test]
    fn readers_that_are_gone_are_forgotten() {
        let slot = slot();
        (0..100).for_each(|_| drop(follow(&slot)));
        let reader = follow(&slot);
        assert_eq!(slot.state.lock().queues.len(), 1);
        drop(reader);
        slot.tell(&peer(1));
        assert!(slot.state.lock().queues.is_empty());
    }

    #[test]
    fn a_slow_reader_is_told_how_much_it_missed() {
        let slot = slot();
        let reader = follow(&slot);
        assert_eq!(reader.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(reader.recv_timeout(Duration::from_millis(1)), Err(TryRecvError::Empty));
        (0..1_026).for_each(|id| slot.tell(&peer(id)));
        assert_eq!(reader.try_recv(), Ok(Progress::Missed(2)));
        assert_eq!(reader.try_recv(), Ok(peer(2)));
        // Two more, the end among them, where there is room for one.
        slot.tell(&settled());
        slot.end(report(Some(BroadcastEnd::Expired))).wake();
        let rest: Vec<_> = reader.collect();
        assert_eq!(rest[..2], [Progress::Missed(1), peer(4)]);
        assert_eq!(rest[rest.len() - 2..], [settled(), Progress::Over(BroadcastEnd::Expired)]);
        assert_eq!(rest.len(), 1_025);
    }
}
