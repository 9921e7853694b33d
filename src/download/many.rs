//! Many blocks over all peers at once, each proven, in the caller's own thread.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::intake::{Intake, Wait};
use super::slot::{BlockOutcome, Slot, Turn};
use super::{BlockOptions, open_intake};
use crate::conduit::Conduit;
use crate::error::BlockError;
use crate::wire::BlockHash;

/// How many blocks are fetched at once, and how they are handed out; for
/// [`Conduit::blocks_with`](crate::Conduit::blocks_with).
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlocksOptions {
    /// Bytes of blocks that are under way or wait to be handed out, all together. The default is 64 MiB; at least twice
    /// [`whole`](Self#structfield.whole) and 4 MiB more.
    pub window: usize,
    /// The largest block that is handed out as a whole, in bytes; larger ones come as streams. The default is 16 MiB.
    pub whole: usize,
    /// Whether blocks come in the order of their hashes, as they do by default, or each as soon as it is there.
    pub in_order: bool,
    /// As [`BlockOptions::timeout`](BlockOptions#structfield.timeout), for each block.
    pub timeout: Option<Duration>,
}

impl BlocksOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self { window: 64 * MIB, whole: 16 * MIB, in_order: true, timeout: None }
    }

    /// Sets [`window`](Self#structfield.window).
    #[must_use]
    pub fn window(mut self, bytes: usize) -> Self {
        self.window = bytes;
        self
    }

    /// Sets [`whole`](Self#structfield.whole).
    #[must_use]
    pub fn whole(mut self, bytes: usize) -> Self {
        self.whole = bytes;
        self
    }

    /// Sets [`in_order`](Self#structfield.in_order).
    #[must_use]
    pub fn in_order(mut self, in_order: bool) -> Self {
        self.in_order = in_order;
        self
    }

    /// Sets [`timeout`](Self#structfield.timeout).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    fn check(&self) -> Result<(), BlockError> {
        let least = self.whole.saturating_mul(2).saturating_add(4 * MIB);
        if self.window < least {
            return Err(BlockError::Invalid { what: "a window below twice the largest whole block and 4 MiB" });
        }
        self.block().check().map(|_| ())
    }

    fn block(&self) -> BlockOptions {
        let options = BlockOptions::new().chunk_size(CHUNK_SIZE);
        BlockOptions { timeout: self.timeout, ..options }
    }
}

impl Default for BlocksOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Fetches the blocks of an iterator of hashes; made by [`Conduit::blocks`](crate::Conduit::blocks).
///
/// It is lazy: blocks are asked for, scanned and hashed while [`next`](Iterator::next) waits for one to hand out, in the
/// caller's thread; in between, what was asked for goes on to arrive, as far as there is room. All peers are asked, each
/// for as much at once as keeps it busy, and a block that one fails to give is asked of another. Every hash has exactly one
/// outcome; after the conduit is shut down no more are taken.
///
/// Dropped early, it takes back what it asked for.
#[must_use = "nothing is fetched until blocks are asked for"]
pub struct Blocks<I> {
    /// `None` once it is used up.
    input: Option<I>,
    options: BlocksOptions,
    conduit: Conduit,
    bell: Arc<Bell>,
    /// In the order of the input.
    slots: VecDeque<Slot>,
    /// Always the summed cost of `slots`.
    used: usize,
    taken: u64,
}

/// Rung when one of the blocks has something to do.
#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn wait(&self) {
        let mut rung = self.rung.lock();
        while !std::mem::take(&mut *rung) {
            // Each block has a deadline of its own, so this ends.
            self.changed.wait(&mut rung);
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        *self.rung.lock() = true;
        self.changed.notify_one();
    }
}

impl<I: Iterator<Item = BlockHash>> Blocks<I> {
    pub(crate) fn new(input: I, options: BlocksOptions, conduit: Conduit) -> Self {
        let bell = Arc::new(Bell::default());
        Self { input: Some(input), options, conduit, bell, slots: VecDeque::new(), used: 0, taken: 0 }
    }

    /// Takes hashes as long as there is room for their blocks.
    fn fill(&mut self) {
        let mut open = self.slots.iter().filter(|slot| !slot.is_done()).count();
        while open < MOST_AT_ONCE && self.slots.len() < MOST_HELD && self.has_room_to_ask() {
            let Some(hash) = self.input.as_mut().and_then(Iterator::next) else {
                self.input = None;
                return;
            };
            let slot = Slot::new(self.taken, hash);
            self.taken += 1;
            match self.options.check().and_then(|()| self.ask(hash)) {
                Ok(intake) => self.change(slot, |slot| slot.ask(intake)),
                // There are too many streams: one of ours that ends makes room.
                Err(BlockError::TooManyStreams { .. }) if open > 0 => {
                    self.slots.push_back(slot);
                    return;
                }
                Err(error) => {
                    let is_over = matches!(error, BlockError::Shutdown | BlockError::Crashed);
                    self.change(slot, |slot| slot.fail(error));
                    if is_over {
                        // The input may be endless.
                        self.input = None;
                        return;
                    }
                }
            }
            open += 1;
        }
    }

    /// Puts a slot behind the others.
    fn change(&mut self, mut slot: Slot, change: impl FnOnce(&mut Slot)) {
        change(&mut slot);
        self.used += slot.cost();
        self.slots.push_back(slot);
    }

    fn ask(&self, hash: BlockHash) -> Result<Intake, BlockError> {
        open_intake(self.conduit.shared(), hash, &self.options.block(), QUEUE_BYTES, true)
    }

    /// Bytes that are kept free, so that the block that is waited for can always be gathered.
    fn reserve(&self) -> usize {
        Slot::cost_of(self.options.whole)
    }

    fn has_room_to_ask(&self) -> bool {
        self.slots.is_empty() || QUEUE_COST <= self.room_of_others()
    }

    /// Bytes that the block at a place may be charged in all.
    fn room_at(&self, at: usize) -> usize {
        let own = self.slots.get(at).map_or(0, Slot::cost);
        if self.options.in_order {
            // The first one has the reserve.
            return if at == 0 { usize::MAX } else { self.room_of_others() + own };
        }
        self.options.window.saturating_sub(self.used) + own
    }

    /// Bytes left for blocks that are not waited for.
    fn room_of_others(&self) -> usize {
        let first = self.slots.front().filter(|_| self.options.in_order).map_or(0, Slot::cost);
        self.options.window.saturating_sub(self.reserve().saturating_add(self.used - first))
    }

    /// Lets every block take a step; whether any of them did.
    fn step(&mut self) -> bool {
        let waker = Waker::from(self.bell.clone());
        let mut has_moved = false;
        for at in 0..self.slots.len() {
            has_moved |= self.step_at(at, Wait::Poll(&waker));
        }
        self.postpone_who_stand_in_the_way();
        has_moved
    }

    fn step_at(&mut self, at: usize, wait: Wait<'_>) -> bool {
        let room = self.room_at(at);
        let may_hand_out = at == 0 || !self.options.in_order;
        let whole = self.options.whole;
        let Some(slot) = self.slots.get_mut(at) else { return false };
        let cost = slot.cost();
        let has_moved = match &slot.turn {
            Turn::Done(_) => false,
            Turn::New => {
                // One that was put off is asked for again when there is room for all of it, or when it can be handed out.
                let needed = slot.cost_when_granted().filter(|_| !(may_hand_out && slot.is_larger_than(whole)));
                if needed.unwrap_or(QUEUE_COST) > room {
                    return false;
                }
                let hash = slot.hash;
                let is_alone = !self.slots.iter().any(Slot::is_under_way);
                let asked = self.ask(hash);
                let Some(slot) = self.slots.get_mut(at) else { return false };
                match asked {
                    Ok(intake) => slot.ask(intake),
                    Err(BlockError::TooManyStreams { .. }) if !is_alone => return false,
                    Err(error) => slot.fail(error),
                }
                true
            }
            Turn::Asked(_) => slot.reach_header(wait),
            // It is no more in the caller's hand than it is here.
            Turn::Held { size, .. } if *size > whole as u64 => may_hand_out && slot.hand_out_as_stream(),
            Turn::Held { .. } => {
                slot.cost_when_granted().is_some_and(|cost| cost <= room) && slot.grant(whole as u64)
            }
            Turn::Granted { .. } => slot.gather(wait),
        };
        self.used = self.used + self.slots.get(at).map_or(0, Slot::cost) - cost;
        debug_assert!(
            self.used <= self.options.window,
            "{} bytes in a window of {}",
            self.used,
            self.options.window
        );
        has_moved
    }

    /// Asks again for what did not come in time, but for those that ended before; whether there is such a block.
    fn retry_but(&mut self, done_before: &HashSet<u64>) -> bool {
        let others = self.slots.iter_mut().filter(|slot| !done_before.contains(&slot.index()));
        others.map(Slot::retry).fold(false, |any, is_retried| any | is_retried)
    }

    /// A peer that sends a block there is no room for yet cannot send the one that is waited for: the former is asked for
    /// again later.
    fn postpone_who_stand_in_the_way(&mut self) {
        let is_waited_for = |(at, slot): &(usize, &Slot)| slot.is_granted() || (*at == 0 && self.options.in_order);
        let awaited = || self.slots.iter().enumerate().filter(is_waited_for).map(|(_, slot)| slot);
        // One that nobody was asked for waits for a place at a peer, and those that do not move hold them all.
        let lacks_peer = awaited().any(Slot::lacks_peer);
        let awaited: Vec<_> = awaited().filter_map(Slot::asked).collect();
        if awaited.is_empty() && !lacks_peer {
            return;
        }
        let rooms: Vec<usize> = (0..self.slots.len()).map(|at| self.room_at(at)).collect();
        let (whole, in_order) = (self.options.whole, self.options.in_order);
        for (slot, room) in self.slots.iter_mut().zip(rooms).skip(usize::from(in_order)) {
            if !in_order && slot.is_larger_than(whole) {
                // It is about to be handed out.
                continue;
            }
            let fits = slot.cost_when_granted().is_some_and(|cost| cost <= room);
            let is_in_the_way = |connection| awaited.contains(&connection) || (lacks_peer && !fits);
            if slot.held_by().is_some_and(is_in_the_way) {
                self.used -= slot.cost();
                slot.postpone();
            }
        }
    }

    /// Takes an outcome that may be handed out.
    fn take(&mut self) -> Option<BlockOutcome> {
        let at = if self.options.in_order {
            self.slots.front().filter(|slot| slot.is_done()).map(|_| 0)
        } else {
            self.slots.iter().position(Slot::is_done)
        };
        let slot = self.slots.remove(at?)?;
        self.used -= slot.cost();
        slot.into_outcome(self.options.whole as u64)
    }
}

impl<I: Iterator<Item = BlockHash>> Iterator for Blocks<I> {
    type Item = BlockOutcome;

    fn next(&mut self) -> Option<BlockOutcome> {
        let mut has_waited = false;
        loop {
            self.fill();
            let done_before =
                self.slots.iter().filter(|slot| !has_waited && slot.is_done()).map(Slot::index).collect();
            let mut has_moved = self.step();
            if !std::mem::replace(&mut has_waited, true) {
                // Between the calls nothing was read, so that peers could not send what they were asked for.
                has_moved |= self.retry_but(&done_before);
            }
            if let Some(outcome) = self.take() {
                return Some(outcome);
            }
            if self.slots.is_empty() {
                return None;
            }
            if !has_moved {
                self.bell.wait();
            }
        }
    }
}

impl<I: Iterator<Item = BlockHash>> FusedIterator for Blocks<I> {}

impl<I> fmt::Debug for Blocks<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocks")
            .field("taken", &self.taken)
            .field("under_way", &self.slots.len())
            .finish_non_exhaustive()
    }
}

const MIB: usize = 1_048_576;
/// Blocks that are asked for at once, at most.
const MOST_AT_ONCE: usize = 64;
/// Blocks under way and those that wait to be handed out, at most.
const MOST_HELD: usize = 1_024;
/// Of a block whose turn to be gathered has not come.
const QUEUE_BYTES: usize = 128 * 1_024;
/// What it may take with the read that fills it.
pub(super) const QUEUE_COST: usize = 2 * QUEUE_BYTES;
/// Blocks are gathered from chunks of this size.
pub(super) const CHUNK_SIZE: usize = 256 * 1_024;
