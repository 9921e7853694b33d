//! Many transactions from one iterator, and what becomes of each.

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::check::read_transaction;
use super::{BroadcastOptions, BroadcastReport};
use crate::conduit::Conduit;
use crate::driver::deadline_after;
use crate::error::{BroadcastError, BroadcastFailure};
use crate::message::Transaction;
use crate::wire::SharedBytes;

/// Broadcasts the transactions of an iterator and gives what becomes of each, from
/// [`broadcast_transactions`](crate::Conduit::broadcast_transactions).
///
/// It is lazy: [`next`](Iterator::next) gives a verdict if there is one; else it takes transactions from the input as long
/// as there is room for them, and then waits. So the caller's thread does all the work, what is in flight is bounded by
/// what the conduit holds, and the outcomes come in the order in which verdicts are given. An input that blocks holds up the
/// outcomes, not the broadcasts.
///
/// Every transaction that was taken from the input has exactly one outcome; once the conduit is shut down no more are taken.
/// Dropped early, it leaves those under way going on.
#[must_use = "nothing is broadcast until outcomes are asked for"]
pub struct Broadcasts<I> {
    input: Option<I>,
    options: BroadcastOptions,
    conduit: Conduit,
    outcomes: Arc<Outcomes>,
    /// The one there was no room for, and until when it waits if nothing else is in flight.
    held: Option<(Transaction, Option<Instant>)>,
    submitted: u64,
    in_flight: u64,
}

/// What became of one of many transactions.
///
/// With the feature `serde` it serializes as a flat object, fit for a line of JSON: `index`, then of a report `txid`, `verdict`
/// (its [name](super::Verdict::name)), `text`, `announced`, `requested`, `sent`, `relayed`, `rejected`, `not_heard`,
/// `conflicts`, `listeners`, `too_few_listeners` and `milliseconds`; of an error `error` (its
/// [name](BroadcastFailure::name)) and `text`.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BroadcastOutcome {
    /// Its place in the input, from 0.
    pub index: u64,
    /// What was known when its verdict was given; or why it was not broadcast, and its bytes.
    pub result: Result<BroadcastReport, BroadcastError>,
}

/// Where the outcomes wait for the iterator.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<BroadcastOutcome>,
    /// How often there was room for more.
    turns: u64,
}

/// The right to leave one outcome.
#[derive(Debug)]
pub(crate) struct Ticket {
    outcomes: Arc<Outcomes>,
    index: u64,
}

impl<I> Broadcasts<I> {
    pub(crate) fn new(input: I, options: BroadcastOptions, conduit: Conduit) -> Self {
        let outcomes = Arc::default();
        conduit.shared().call_on_room(&outcomes);
        Self { input: Some(input), options, conduit, outcomes, held: None, submitted: 0, in_flight: 0 }
    }

    /// How many transactions were taken from the input.
    #[must_use]
    pub const fn submitted(&self) -> u64 {
        self.submitted
    }

    /// How many of them have no outcome yet.
    #[must_use]
    pub const fn in_flight(&self) -> u64 {
        self.in_flight
    }

    fn outcome(&mut self, outcome: BroadcastOutcome) -> BroadcastOutcome {
        self.in_flight -= 1;
        if let Err(BroadcastError { reason: BroadcastFailure::Shutdown | BroadcastFailure::NotStarted, .. }) =
            &outcome.result
        {
            self.input = None;
        }
        outcome
    }

    /// Submits a transaction; gives it back if there is no room.
    fn submit(&mut self, transaction: Transaction, index: u64) -> Result<(), Transaction> {
        let ticket = Ticket { outcomes: self.outcomes.clone(), index };
        match self.conduit.shared().try_broadcast(&transaction, &self.options, ticket) {
            Ok(()) => Ok(()),
            Err(BroadcastFailure::Full) => Err(transaction),
            Err(reason) => {
                self.fail(index, transaction.raw().to_vec(), reason);
                Ok(())
            }
        }
    }

    fn fail(&self, index: u64, raw: Vec<u8>, reason: BroadcastFailure) {
        self.outcomes.put(BroadcastOutcome { index, result: Err(BroadcastError { raw, reason }) });
    }

    /// The index of the transaction that was taken last.
    const fn last_index(&self) -> u64 {
        self.submitted - 1
    }
}

impl<I> Iterator for Broadcasts<I>
where
    I: Iterator,
    I::Item: Into<Vec<u8>>,
{
    type Item = BroadcastOutcome;

    fn next(&mut self) -> Option<BroadcastOutcome> {
        loop {
            if let Some(outcome) = self.outcomes.try_take() {
                return Some(self.outcome(outcome));
            }
            if let Some((transaction, until)) = self.held.take() {
                let conduit = self.conduit.clone();
                let _waiting = conduit.shared().wait_in_line();
                // Before the attempt, so that no turn after it is missed.
                let turn = self.outcomes.turn();
                let Err(transaction) = self.submit(transaction, self.last_index()) else { continue };
                let alone = self.in_flight == 1;
                let until =
                    until.filter(|_| alone).or_else(|| deadline_after(self.options.deadline).filter(|_| alone));
                if self.outcomes.wait(turn, until) {
                    self.held = Some((transaction, until));
                } else {
                    self.fail(self.last_index(), transaction.raw().to_vec(), BroadcastFailure::Full);
                }
                continue;
            }
            let Some(raw) = self.input.as_mut().and_then(Iterator::next) else {
                self.input = None;
                if self.in_flight == 0 {
                    return None;
                }
                // Each has its deadline.
                self.outcomes.wait(self.outcomes.turn(), None);
                continue;
            };
            let index = self.submitted;
            self.submitted += 1;
            self.in_flight += 1;
            let raw = SharedBytes::from(raw.into());
            match read_transaction(&raw, &self.options) {
                Ok(transaction) => {
                    self.held = self.submit(transaction, index).err().map(|transaction| (transaction, None));
                }
                Err(reason) => self.fail(index, raw.to_vec(), reason),
            }
        }
    }
}

impl<I> FusedIterator for Broadcasts<I>
where
    I: Iterator,
    I::Item: Into<Vec<u8>>,
{
}

impl<I> fmt::Debug for Broadcasts<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Broadcasts");
        f.field("submitted", &self.submitted).field("in_flight", &self.in_flight).finish_non_exhaustive()
    }
}

impl Outcomes {
    fn put(&self, outcome: BroadcastOutcome) {
        self.state.lock().ready.push_back(outcome);
        self.changed.notify_all();
    }

    /// There may be room.
    pub(crate) fn tell_room(&self) {
        self.state.lock().turns += 1;
        self.changed.notify_all();
    }

    fn turn(&self) -> u64 {
        self.state.lock().turns
    }

    fn try_take(&self) -> Option<BroadcastOutcome> {
        self.state.lock().ready.pop_front()
    }

    /// Waits for an outcome, or for room since a turn; false if neither came in time.
    fn wait(&self, turn: u64, until: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        while state.ready.is_empty() && state.turns == turn {
            match until {
                None => self.changed.wait(&mut state),
                Some(until) => {
                    if self.changed.wait_until(&mut state, until).timed_out() {
                        return !state.ready.is_empty() || state.turns != turn;
                    }
                }
            }
        }
        true
    }
}

impl Ticket {
    /// Leaves the outcome.
    pub(crate) fn redeem(self, result: Result<BroadcastReport, BroadcastError>) {
        self.outcomes.put(BroadcastOutcome { index: self.index, result });
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for BroadcastOutcome {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;

        let fields = if self.result.is_ok() { 14 } else { 3 };
        let mut object = serializer.serialize_struct("BroadcastOutcome", fields)?;
        object.serialize_field("index", &self.index)?;
        match &self.result {
            Ok(report) => {
                object.serialize_field("txid", &report.txid)?;
                object.serialize_field("verdict", report.verdict.name())?;
                object.serialize_field("text", &report.verdict.to_string())?;
                object.serialize_field("announced", &report.announced())?;
                object.serialize_field("requested", &report.requested())?;
                object.serialize_field("sent", &report.sent())?;
                object.serialize_field("relayed", &report.relayed())?;
                object.serialize_field("rejected", &report.rejected())?;
                object.serialize_field("not_heard", &report.not_heard())?;
                object.serialize_field("conflicts", &report.conflicts.len())?;
                object.serialize_field("listeners", &report.listeners)?;
                object.serialize_field("too_few_listeners", &report.too_few_listeners)?;
                object.serialize_field("milliseconds", &(report.elapsed.as_secs_f64() * 1e3))?;
            }
            Err(error) => {
                object.serialize_field("error", error.reason.name())?;
                object.serialize_field("text", &error.to_string())?;
            }
        }
        object.end()
    }
}
