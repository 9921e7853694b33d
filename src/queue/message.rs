//! Queues of messages for callers: bounded in bytes and items, shared by any number of worker threads.
//!
//! Messages cross the threads in batches, so that a busy queue costs one hand-over for many messages; all workers take
//! from one place, so that a slow one hoards nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use parking_lot::Mutex;

use super::inbound::Inbound;
use crate::error::{RecvError, TryRecvError};
use crate::message::Message;
use crate::peer::PeerId;
use crate::stats::QueueStats;
use crate::wire::Command;

/// A message that no request, broadcast or stream has claimed, and who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Incoming {
    /// The sender.
    pub peer: PeerId,
    /// What it sent.
    pub message: Message,
}

/// A shared receiver of messages: clone it into as many worker threads as you like.
///
/// Each message goes to one of the clones, in the order in which each peer sent them. Iterating waits for messages and
/// ends with the conduit. When the last clone is dropped, the queue is closed and what is in it is gone.
#[derive(Clone, Debug)]
pub struct Messages {
    reader: Arc<Reader<Incoming>>,
}

/// The one place from which all clones take.
#[derive(Debug)]
pub(crate) struct Reader<T> {
    /// Held by the worker whose turn it is, also while he waits for the next batch.
    turn: Mutex<std::vec::IntoIter<Queued<T>>>,
    /// The holder of the turn waits, so the queue is empty.
    is_waiting: AtomicBool,
    batches: Receiver<Vec<Queued<T>>>,
    gauge: Arc<Gauge>,
}

/// The end into which message threads put messages.
#[derive(Debug)]
pub(crate) struct Writer {
    batches: Sender<Vec<Queued>>,
    gauge: Arc<Gauge>,
    /// The commands subscribed to; `None` takes every message.
    commands: Option<Vec<Command>>,
}

/// A message, or what else a queue holds, and what it is charged.
#[derive(Clone, Debug)]
pub(crate) struct Queued<T = Incoming> {
    pub(crate) incoming: T,
    pub(crate) cost: usize,
}

/// How full a queue is.
#[derive(Debug)]
pub(crate) struct Gauge {
    bytes: AtomicUsize,
    items: AtomicUsize,
    most_bytes: AtomicUsize,
    most_items: AtomicUsize,
    bytes_limit: usize,
    items_limit: usize,
    /// Somebody waits for room.
    starved: AtomicBool,
    closed: AtomicBool,
    /// Tells the message threads of room.
    message_threads: Vec<Sender<Inbound>>,
}

/// Opens a queue; messages go in at one end and come out at the other.
pub(crate) fn open(
    bytes_limit: usize,
    items_limit: usize,
    commands: Option<Vec<Command>>,
    message_threads: Vec<Sender<Inbound>>,
) -> (Writer, Messages) {
    let gauge = Arc::new(Gauge::new(bytes_limit, items_limit, message_threads));
    let (batches, reader) = Reader::new(gauge.clone());
    (Writer { batches, gauge, commands }, Messages { reader: Arc::new(reader) })
}

impl Incoming {
    /// Copies the message out of the bytes that came with it, in the time of whoever takes it.
    fn compacted(self) -> Self {
        Self { message: self.message.compacted(), ..self }
    }
}

impl Messages {
    /// Takes the next message, waiting for it.
    ///
    /// # Errors
    ///
    /// [`RecvError`] once the conduit is shut down and every message taken.
    pub fn recv(&self) -> Result<Incoming, RecvError> {
        self.reader.recv_until(None).map(Incoming::compacted).map_err(|_| RecvError)
    }

    /// Takes the next message if there is one.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`].
    pub fn try_recv(&self) -> Result<Incoming, TryRecvError> {
        self.reader.try_recv().map(Incoming::compacted)
    }

    /// Takes the next message, waiting for it at most this long.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`]; `Empty` if none came in time.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Incoming, TryRecvError> {
        self.reader.recv_until(crate::driver::deadline_after(timeout)).map(Incoming::compacted)
    }

    /// Messages that wait in the queue.
    #[must_use]
    pub fn len(&self) -> usize {
        self.reader.len()
    }

    /// Whether no message waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn downgrade(&self) -> std::sync::Weak<Reader<Incoming>> {
        Arc::downgrade(&self.reader)
    }

    pub(crate) fn upgrade(reader: &std::sync::Weak<Reader<Incoming>>) -> Option<Self> {
        reader.upgrade().map(|reader| Self { reader })
    }
}

impl Iterator for Messages {
    type Item = Incoming;

    fn next(&mut self) -> Option<Incoming> {
        self.recv().ok()
    }
}

impl<T> Reader<T> {
    /// A queue of batches whose items are charged to the gauge before they are put in.
    pub(crate) fn new(gauge: Arc<Gauge>) -> (Sender<Vec<Queued<T>>>, Self) {
        let (sender, batches) = crossbeam_channel::unbounded();
        (sender, Self { turn: Mutex::default(), is_waiting: AtomicBool::new(false), batches, gauge })
    }

    pub(crate) fn recv_until(&self, deadline: Option<Instant>) -> Result<T, TryRecvError> {
        let mut turn = match deadline {
            None => self.turn.lock(),
            Some(deadline) => self.turn.try_lock_until(deadline).ok_or(TryRecvError::Empty)?,
        };
        match self.take(&mut turn) {
            Err(TryRecvError::Empty) => {}
            result => return result,
        }
        // The lock is held on purpose: it is the turn, and the queue is empty for everybody else too.
        self.is_waiting.store(true, Ordering::Release);
        let batch = match deadline {
            None => self.batches.recv().map_err(|_| TryRecvError::Shutdown),
            Some(deadline) => self.batches.recv_deadline(deadline).map_err(|error| match error {
                RecvTimeoutError::Timeout => TryRecvError::Empty,
                RecvTimeoutError::Disconnected => TryRecvError::Shutdown,
            }),
        };
        self.is_waiting.store(false, Ordering::Release);
        *turn = batch?.into_iter();
        self.take(&mut turn)
    }

    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        loop {
            if let Some(mut turn) = self.turn.try_lock() {
                return self.take(&mut turn);
            }
            if self.is_waiting.load(Ordering::Acquire) {
                return Err(TryRecvError::Empty);
            }
            // Another worker is just taking a message.
            std::thread::yield_now();
        }
    }

    /// Items that wait in the queue.
    pub(crate) fn len(&self) -> usize {
        self.gauge.items()
    }

    fn take(&self, turn: &mut std::vec::IntoIter<Queued<T>>) -> Result<T, TryRecvError> {
        if turn.as_slice().is_empty() {
            match self.batches.try_recv() {
                Ok(batch) => *turn = batch.into_iter(),
                Err(crossbeam_channel::TryRecvError::Empty) => return Err(TryRecvError::Empty),
                Err(crossbeam_channel::TryRecvError::Disconnected) => return Err(TryRecvError::Shutdown),
            }
        }
        // A batch is never empty.
        let queued = turn.next().ok_or(TryRecvError::Empty)?;
        self.gauge.give_back(queued.cost);
        Ok(queued.incoming)
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        self.gauge.closed.store(true, Ordering::Release);
        // Frames parked for this queue are let go.
        self.gauge.tell_message_threads();
    }
}

impl Writer {
    /// Whether every message goes into the queue.
    pub(crate) fn takes_all(&self) -> bool {
        self.commands.is_none()
    }

    /// Whether messages with this command go into the queue.
    pub(crate) fn takes(&self, command: Command) -> bool {
        self.commands.as_ref().is_none_or(|commands| commands.contains(&command))
    }

    /// Whether every reader is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.gauge.is_closed()
    }

    /// How full the queue is, and has been.
    pub(crate) fn stats(&self) -> QueueStats {
        self.gauge.stats()
    }

    /// Makes room for a message of this cost, which must be put in then; if there is none, the message threads are
    /// woken when there is.
    pub(crate) fn charge(&self, cost: usize) -> bool {
        let gauge = &self.gauge;
        if gauge.try_charge(cost) {
            return true;
        }
        gauge.starved.store(true, Ordering::SeqCst);
        // Room made between the two lines above would otherwise not be heard of.
        if gauge.try_charge(cost) {
            return true;
        }
        false
    }

    /// Makes room for so many messages at once, if there is room now for all of them.
    pub(crate) fn charge_all(&self, count: usize, cost: usize) -> bool {
        self.gauge.try_charge_all(count, cost)
    }

    /// Puts in messages that were charged.
    pub(crate) fn put(&self, batch: Vec<Queued>) {
        if !batch.is_empty() {
            // Without readers the messages are dropped, as they are when the last reader leaves them behind.
            drop(self.batches.send(batch));
        }
    }
}

impl Gauge {
    pub(crate) fn new(bytes_limit: usize, items_limit: usize, message_threads: Vec<Sender<Inbound>>) -> Self {
        Self {
            bytes: AtomicUsize::new(0),
            items: AtomicUsize::new(0),
            most_bytes: AtomicUsize::new(0),
            most_items: AtomicUsize::new(0),
            bytes_limit,
            items_limit,
            starved: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            message_threads,
        }
    }

    /// Whether every reader is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn items(&self) -> usize {
        self.items.load(Ordering::SeqCst)
    }

    /// How full it is, and has been.
    pub(crate) fn stats(&self) -> QueueStats {
        let read = |number: &AtomicUsize| number.load(Ordering::Relaxed) as u64;
        QueueStats {
            items: read(&self.items),
            bytes: read(&self.bytes),
            most_items: read(&self.most_items),
            most_bytes: read(&self.most_bytes),
        }
    }

    /// Bytes and items that fit below the limits less an eighth, which is left for what nobody asks for.
    pub(crate) fn room_to_ask(&self) -> (usize, usize) {
        let room = |limit: usize, used: usize| (limit - limit / 8).saturating_sub(used);
        (room(self.bytes_limit, self.bytes.load(Ordering::SeqCst)), room(self.items_limit, self.items()))
    }

    /// Has the message threads woken once the queue is half empty.
    pub(crate) fn starve(&self) {
        self.starved.store(true, Ordering::SeqCst);
    }

    /// Keeps room for an item of up to so many bytes that may come.
    pub(crate) fn reserve(&self, n: usize) -> bool {
        self.charge_bytes(1, n)
    }

    /// Gives back what was kept.
    pub(crate) fn release(&self, n: usize) {
        self.bytes.fetch_sub(n, Ordering::SeqCst);
    }

    /// Charges an item if there is room now.
    pub(crate) fn try_charge(&self, cost: usize) -> bool {
        self.try_charge_all(1, cost)
    }

    fn try_charge_all(&self, count: usize, cost: usize) -> bool {
        if self.items.load(Ordering::SeqCst).saturating_add(count) > self.items_limit {
            return false;
        }
        let charged = self.charge_bytes(count, cost);
        if charged {
            raise(&self.most_items, self.items.fetch_add(count, Ordering::SeqCst) + count);
        }
        charged
    }

    fn charge_bytes(&self, count: usize, cost: usize) -> bool {
        // One message always fits an empty queue, however large it is.
        let fits = |bytes: usize| {
            let is_alone = bytes == 0 && count == 1;
            (is_alone || bytes.saturating_add(cost) <= self.bytes_limit).then(|| bytes + cost)
        };
        let charged = self.bytes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits);
        if let Ok(before) = charged {
            raise(&self.most_bytes, before + cost);
        }
        charged.is_ok()
    }

    /// Gives back what an item was charged.
    pub(crate) fn give_back(&self, cost: usize) {
        let items = self.items.fetch_sub(1, Ordering::SeqCst) - 1;
        let bytes = self.bytes.fetch_sub(cost, Ordering::SeqCst) - cost;
        let is_low = bytes <= self.bytes_limit / 2 && items <= self.items_limit / 2;
        if is_low && self.starved.load(Ordering::SeqCst) && self.starved.swap(false, Ordering::SeqCst) {
            self.tell_message_threads();
        }
    }

    fn tell_message_threads(&self) {
        for thread in &self.message_threads {
            // After the shutdown nobody needs to know.
            drop(thread.send(Inbound::Wake));
        }
    }
}

/// Raises a high-water mark; most of the time it is high enough.
fn raise(mark: &AtomicUsize, level: usize) {
    if level > mark.load(Ordering::Relaxed) {
        mark.fetch_max(level, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(nonce: u64) -> Queued {
        Queued { incoming: Incoming { peer: PeerId(1), message: Message::Ping { nonce } }, cost: 10 }
    }

    fn nonce(incoming: &Incoming) -> u64 {
        match incoming.message {
            Message::Ping { nonce } => nonce,
            _ => panic!("only pings are queued here"),
        }
    }

    #[test]
    fn messages_come_out_in_order_and_make_room() {
        let (waker, woken) = crossbeam_channel::unbounded();
        let (writer, messages) = open(25, 100, None, vec![waker]);
        assert!(writer.charge(10) && writer.charge(10));
        assert!(!writer.charge(10));
        writer.put(vec![queued(1), queued(2)]);
        assert_eq!(messages.try_recv().map(|m| nonce(&m)), Ok(1));
        assert!(matches!(woken.try_recv(), Ok(Inbound::Wake)));
        assert!(writer.charge(10));
        writer.put(vec![queued(3)]);
        let clone = messages.clone();
        assert_eq!(clone.recv().map(|m| nonce(&m)), Ok(2));
        assert_eq!(messages.recv().map(|m| nonce(&m)), Ok(3));
        assert_eq!(messages.try_recv(), Err(TryRecvError::Empty));
        drop(writer);
        assert_eq!(messages.recv(), Err(RecvError));
    }

    #[test]
    fn a_message_over_the_limit_fits_an_empty_queue() {
        let (writer, _messages) = open(25, 100, None, vec![]);
        assert!(writer.charge(1_000));
        assert!(!writer.charge(1));
    }

    #[test]
    fn many_messages_find_room_together_or_not_at_all() {
        let (writer, messages) = open(25, 3, None, vec![]);
        assert!(!writer.charge_all(3, 30), "too many bytes, also for an empty queue");
        assert!(!writer.charge_all(4, 4), "too many items");
        assert!(writer.charge_all(2, 20));
        assert!(!writer.charge_all(1, 10));
        writer.put(vec![queued(1), queued(2)]);
        assert_eq!(messages.len(), 2);
        assert_eq!(messages.try_recv().map(|m| nonce(&m)), Ok(1));
        assert!(writer.charge_all(1, 10));
    }

    #[test]
    fn workers_share_every_message_once() {
        let (writer, messages) = open(usize::MAX, usize::MAX, None, vec![]);
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let messages = messages.clone();
                std::thread::spawn(move || messages.map(|m| nonce(&m)).collect::<Vec<_>>())
            })
            .collect();
        for batch in 0..100 {
            let batch: Vec<_> = (0..10).map(|i| queued(batch * 10 + i)).collect();
            assert!(batch.iter().all(|q| writer.charge(q.cost)));
            writer.put(batch);
        }
        drop(writer);
        let mut all: Vec<u64> = workers
            .into_iter()
            .flat_map(|worker| {
                let taken = worker.join().unwrap();
                assert!(taken.is_sorted());
                taken
            })
            .collect();
        all.sort_unstable();
        assert_eq!(all, (0..1_000).collect::<Vec<_>>());
    }
}
