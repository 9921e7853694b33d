//! The handle of a broadcast.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use super::progress::ProgressQueue;
use super::slot::BroadcastSlot;
use super::{BroadcastProgress, BroadcastReport, Progress};
use crate::driver::{Shared, deadline_after};
use crate::engine::BroadcastId;
use crate::wire::Txid;

/// A broadcast transaction, followed as it goes from peer to peer.
///
/// Clones are handles of the same broadcast. Dropping them does not end it: the transaction is announced and served until it
/// is over; [`cancel`](Self::cancel) ends it. As a `Future` it resolves, in any executor, to what [`wait`](Self::wait) gives.
///
/// ```no_run
/// use conduit::{Conduit, Progress};
///
/// # fn follow(conduit: &Conduit, raw: Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
/// let broadcast = conduit.broadcast_transaction(raw, 3)?;
/// for progress in broadcast.progress() {
///     match progress {
///         Progress::Peer(peer) => println!("{}: {}", peer.address, peer.state),
///         Progress::Settled(verdict) => println!("{verdict}"),
///         other => println!("{other:?}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Broadcast {
    slot: Arc<BroadcastSlot>,
    id: BroadcastId,
    shared: Weak<Shared>,
}

impl Broadcast {
    pub(crate) fn new(slot: Arc<BroadcastSlot>, id: BroadcastId, shared: Weak<Shared>) -> Self {
        Self { slot, id, shared }
    }

    /// The transaction.
    #[must_use]
    pub fn txid(&self) -> Txid {
        self.slot.txid()
    }

    /// What is known now, also after the verdict; of a broadcast that is over, what was known then.
    #[must_use]
    #[allow(clippy::missing_panics_doc, reason = "both are done under one lock")]
    pub fn report(&self) -> BroadcastReport {
        let report = self.shared.upgrade().and_then(|shared| shared.broadcast_report(self.id, &self.slot));
        report.or_else(|| self.slot.over()).expect("its end is told before it is forgotten")
    }

    /// Waits for the verdict and gives what was known then.
    ///
    /// It comes at the latest at the broadcast's [deadline](super::BroadcastOptions#structfield.deadline), or when the conduit
    /// is shut down.
    #[must_use]
    pub fn wait(&self) -> BroadcastReport {
        self.slot.wait_settled(None).unwrap_or_else(|| self.report())
    }

    /// Waits for the verdict at most this long; `None` if it was not given in time.
    #[must_use]
    pub fn wait_timeout(&self, timeout: Duration) -> Option<BroadcastReport> {
        self.slot.wait_settled(deadline_after(timeout))
    }

    /// What was known when the verdict was given, if it was.
    #[must_use]
    pub fn try_wait(&self) -> Option<BroadcastReport> {
        self.slot.poll_settled(None)
    }

    /// What happened to it so far, and what happens until it is over; every call gives a reader with a queue of its own.
    #[must_use]
    pub fn progress(&self) -> BroadcastProgress {
        let queue = Arc::new(ProgressQueue::default());
        let shared = self.shared.upgrade();
        let follows = shared.is_some_and(|shared| shared.follow_broadcast(self.id, &self.slot, &queue));
        if !follows {
            let last = self.slot.history().map(|(settled, over)| {
                queue.fill(&over, Some(settled.verdict));
                over.end
            });
            queue.close(last.flatten().map(Progress::Over));
        }
        BroadcastProgress::new(queue)
    }

    /// Ends the broadcast, unless it is over: the transaction is neither announced nor served any more. What peers have
    /// got, they have.
    pub fn cancel(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.cancel_broadcast(self.id, &self.slot);
        }
    }
}

impl Future for Broadcast {
    type Output = BroadcastReport;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<BroadcastReport> {
        self.slot.poll_settled(Some(context.waker())).map_or(Poll::Pending, Poll::Ready)
    }
}

impl fmt::Debug for Broadcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcast").field("txid", &self.txid()).finish_non_exhaustive()
    }
}
