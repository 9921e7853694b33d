//! A broadcast under way: what each peer did about a transaction, and what that says.
//!
//! A node never says that it accepted a transaction (section 5 of the wire specification). It is silent, or sends a
//! `reject`, and announces what it accepted to its other peers. So the sign of success is an announcement from a peer
//! that we did not tell; silence is no sign at all.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::driver::deadline_after;
use crate::engine::Receipt;
use crate::message::RejectCode;
use crate::peer::{PeerAddress, PeerId};
use crate::queue::slot::wake;
use crate::wire::Txid;

/// A broadcast transaction, followed as it goes from peer to peer.
///
/// Dropping it does not end the broadcast: the transaction is served to peers that ask for it for
/// [`broadcast_lifetime`](crate::Config#structfield.broadcast_lifetime). As a `Future` it resolves as soon as the
/// [verdict](BroadcastReport::verdict) is `Relayed` or `Rejected`, or the broadcast is over.
#[derive(Clone, Debug)]
pub struct Broadcast {
    state: Arc<BroadcastState>,
}

/// What the conduit and all handles of a broadcast share.
#[derive(Debug)]
pub(crate) struct BroadcastState {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    report: BroadcastReport,
    wakers: Vec<Waker>,
}

/// What is known of a broadcast at one moment.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct BroadcastReport {
    /// The transaction.
    pub txid: Txid,
    /// Every peer that did something about it, or was told.
    pub peers: Vec<PeerReceipt>,
    /// Connected peers, when the broadcast began, that were not told and so can show that it was relayed. Without any,
    /// success cannot be seen.
    pub listeners: usize,
    /// Whether the transaction is no longer held for peers.
    pub is_over: bool,
}

/// What one peer did about a broadcast.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct PeerReceipt {
    /// The peer.
    pub peer: PeerId,
    /// Its address.
    pub address: PeerAddress,
    /// How far the transaction came with it.
    pub state: ReceiptState,
}

/// How far a transaction came with one peer.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum ReceiptState {
    /// It was told by `inv`. A node that knows the transaction, or rejected it since the last block, does not ask.
    Announced,
    /// It asked for the transaction.
    Requested,
    /// The transaction was handed to its connection. A node that accepts it says nothing.
    Sent,
    /// It refused the transaction.
    Rejected {
        /// The kind of fault.
        code: RejectCode,
        /// The node's words for it.
        reason: String,
    },
    /// It announced the transaction to us though we had not told it: some node accepted and relayed it.
    Relayed,
}

/// What a broadcast has come to.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Verdict {
    /// Peers that we did not tell announced it, and nobody rejected it.
    Relayed {
        /// How many did.
        by: usize,
    },
    /// Peers rejected it, and nobody relayed it.
    Rejected {
        /// How many did.
        by: usize,
        /// The first one's code.
        code: RejectCode,
        /// The first one's words.
        reason: String,
    },
    /// Some rejected it, others relayed it: rivals of it may be about.
    Split {
        /// How many relayed it.
        relayed: usize,
        /// How many rejected it.
        rejected: usize,
    },
    /// Peers asked for it and were sent it, and nothing was heard since. This is not acceptance.
    Sent {
        /// How many were.
        to: usize,
    },
    /// Peers were told and none has asked for it: they know it already, do not want it, or are slow.
    Unrequested,
    /// No peer has been told yet.
    Unannounced,
}

impl Broadcast {
    pub(crate) fn new(state: Arc<BroadcastState>) -> Self {
        Self { state }
    }

    /// The transaction.
    #[must_use]
    pub fn txid(&self) -> Txid {
        self.state.inner.lock().report.txid
    }

    /// What is known now.
    #[must_use]
    pub fn report(&self) -> BroadcastReport {
        self.state.inner.lock().report.clone()
    }

    /// Waits at most this long until some peer relayed the transaction, or every peer told has rejected it, or the
    /// broadcast is over; then tells what is known.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> BroadcastReport {
        self.wait_until(deadline_after(timeout), BroadcastReport::is_settled)
    }

    /// Waits at most this long until `is_enough` says that what is known suffices.
    ///
    /// It is called under the broadcast's lock, so it must not call the broadcast itself.
    #[must_use]
    pub fn wait_for(&self, timeout: Duration, is_enough: impl Fn(&BroadcastReport) -> bool) -> BroadcastReport {
        self.wait_until(deadline_after(timeout), |report| report.is_over || is_enough(report))
    }

    fn wait_until(&self, deadline: Option<Instant>, ends: impl Fn(&BroadcastReport) -> bool) -> BroadcastReport {
        let mut inner = self.state.inner.lock();
        while !ends(&inner.report) {
            match deadline {
                None => self.state.changed.wait(&mut inner),
                Some(deadline) => {
                    if self.state.changed.wait_until(&mut inner, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        inner.report.clone()
    }
}

impl Future for Broadcast {
    type Output = BroadcastReport;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<BroadcastReport> {
        let mut inner = self.state.inner.lock();
        if inner.report.is_settled() {
            return Poll::Ready(inner.report.clone());
        }
        if !inner.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            inner.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}

impl BroadcastReport {
    /// What it comes to.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let count =
            |wanted: fn(&ReceiptState) -> bool| self.peers.iter().filter(|peer| wanted(&peer.state)).count();
        let relayed = count(|state| matches!(state, ReceiptState::Relayed));
        let rejected = count(|state| matches!(state, ReceiptState::Rejected { .. }));
        let sent = count(|state| matches!(state, ReceiptState::Sent));
        let first_reject = self.peers.iter().find_map(|peer| match &peer.state {
            ReceiptState::Rejected { code, reason } => Some((*code, reason.clone())),
            _ => None,
        });
        match (relayed, first_reject) {
            (0, Some((code, reason))) => Verdict::Rejected { by: rejected, code, reason },
            (_, Some(_)) => Verdict::Split { relayed, rejected },
            (1.., None) => Verdict::Relayed { by: relayed },
            (0, None) if sent > 0 => Verdict::Sent { to: sent },
            (0, None) if self.peers.is_empty() => Verdict::Unannounced,
            (0, None) => Verdict::Unrequested,
        }
    }

    fn is_settled(&self) -> bool {
        let is_rejected = |peer: &PeerReceipt| matches!(peer.state, ReceiptState::Rejected { .. });
        let is_relayed = |peer: &PeerReceipt| matches!(peer.state, ReceiptState::Relayed);
        self.is_over
            || self.peers.iter().any(is_relayed)
            || (!self.peers.is_empty() && self.peers.iter().all(is_rejected))
    }
}

impl BroadcastState {
    pub(crate) fn new(txid: Txid) -> Self {
        let report = BroadcastReport { txid, peers: Vec::new(), listeners: 0, is_over: false };
        Self { inner: Mutex::new(Inner { report, wakers: Vec::new() }), changed: Condvar::new() }
    }

    pub(crate) fn set_listeners(&self, listeners: usize) {
        self.inner.lock().report.listeners = listeners;
    }

    pub(crate) fn apply(&self, receipt: Receipt) {
        self.change(|report| match report.peers.iter_mut().find(|peer| peer.peer == receipt.peer) {
            // Receipts are applied without the engine's lock, so the peer's answer can overtake our own `inv`.
            Some(_) if receipt.state == ReceiptState::Announced => {}
            // A reject or an announcement is the last word; a peer that asks again does not take it back.
            Some(known) if known.state.is_final() && !receipt.state.is_final() => {}
            Some(known) => known.state = receipt.state,
            None => {
                let Receipt { peer, address, state } = receipt;
                report.peers.push(PeerReceipt { peer, address, state });
            }
        });
    }

    pub(crate) fn end(&self) {
        self.change(|report| report.is_over = true);
    }

    fn change(&self, change: impl FnOnce(&mut BroadcastReport)) {
        let mut inner = self.inner.lock();
        change(&mut inner.report);
        let wakers = if inner.report.is_settled() { std::mem::take(&mut inner.wakers) } else { Vec::new() };
        drop(inner);
        self.changed.notify_all();
        wakers.into_iter().for_each(wake);
    }
}

impl ReceiptState {
    const fn is_final(&self) -> bool {
        matches!(self, Self::Rejected { .. } | Self::Relayed)
    }
}

impl fmt::Display for ReceiptState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Announced => f.write_str("announced"),
            Self::Requested => f.write_str("requested"),
            Self::Sent => f.write_str("sent"),
            Self::Rejected { code, reason } => write!(f, "rejected with {code}: {reason}"),
            Self::Relayed => f.write_str("relayed by others"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(peer: u64, state: ReceiptState) -> Receipt {
        Receipt { peer: PeerId(peer), address: "127.0.0.1:1".parse().unwrap(), state }
    }

    fn rejected() -> ReceiptState {
        ReceiptState::Rejected { code: RejectCode::Invalid, reason: "bad".into() }
    }

    fn verdict(states: &[(u64, ReceiptState)]) -> Verdict {
        let state = BroadcastState::new(Txid::ZERO);
        states.iter().for_each(|(peer, s)| state.apply(receipt(*peer, s.clone())));
        state.inner.lock().report.verdict()
    }

    #[test]
    fn silence_is_never_acceptance() {
        assert_eq!(verdict(&[]), Verdict::Unannounced);
        assert_eq!(verdict(&[(1, ReceiptState::Announced)]), Verdict::Unrequested);
        assert_eq!(verdict(&[(1, ReceiptState::Sent)]), Verdict::Sent { to: 1 });
        assert_eq!(verdict(&[(1, ReceiptState::Sent), (2, ReceiptState::Relayed)]), Verdict::Relayed { by: 1 });
        assert_eq!(
            verdict(&[(1, rejected()), (2, ReceiptState::Relayed)]),
            Verdict::Split { relayed: 1, rejected: 1 }
        );
        let reason = "bad".to_owned();
        let expected = Verdict::Rejected { by: 1, code: RejectCode::Invalid, reason };
        // Asking again does not take a reject back.
        assert_eq!(verdict(&[(1, rejected()), (1, ReceiptState::Requested)]), expected);
    }

    #[test]
    fn what_a_peer_did_is_not_taken_back_by_the_announcement_it_overtook() {
        assert_eq!(verdict(&[(1, ReceiptState::Sent), (1, ReceiptState::Announced)]), Verdict::Sent { to: 1 });
    }

    #[test]
    fn a_wait_ends_when_all_who_were_told_rejected() {
        let broadcast = Broadcast::new(Arc::new(BroadcastState::new(Txid::ZERO)));
        broadcast.state.apply(receipt(1, ReceiptState::Sent));
        broadcast.state.apply(receipt(2, rejected()));
        assert!(!broadcast.report().is_settled());
        broadcast.state.apply(receipt(1, rejected()));
        assert_eq!(broadcast.wait(Duration::from_secs(60)).peers.len(), 2);
    }
}
