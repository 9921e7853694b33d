//! A reply that is under way, and how requests ended.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::driver::{Shared, deadline_after};
use crate::engine::RequestId;
use crate::error::RequestError;
use crate::peer::{PeerAddress, PeerId};
use crate::queue::slot::Slot;
use crate::request::{Answer, Request};

/// A request's place for its result.
pub(crate) type RequestSlot = Slot<Ended>;

/// How a request ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Who answered.
    pub(crate) peer: Option<PeerId>,
    pub(crate) result: Result<Answer, RequestError>,
}

/// The reply to a request that was queued: wait for it, poll it, or await it in any executor.
///
/// Dropping it does not cancel the request; [`cancel`](Self::cancel) does.
#[must_use = "the request goes on without it, but its reply is lost"]
pub struct Pending<R: Request> {
    slot: Arc<RequestSlot>,
    id: RequestId,
    shared: Weak<Shared>,
    request: PhantomData<fn() -> R>,
}

impl<R: Request> Pending<R> {
    pub(crate) fn new(slot: Arc<RequestSlot>, id: RequestId, shared: Weak<Shared>) -> Self {
        Self { slot, id, shared, request: PhantomData }
    }

    /// Waits for the reply, until the request's own deadline at the latest.
    ///
    /// Before the start no deadline runs, so this waits for the start too.
    ///
    /// # Errors
    ///
    /// Why there is no reply.
    pub fn wait(self) -> Result<R::Reply, RequestError> {
        reply::<R>(self.slot.take_until(None))
    }

    /// Waits for the reply, and tells who gave it.
    pub(crate) fn wait_naming_peer(self) -> (Option<PeerId>, Result<R::Reply, RequestError>) {
        let ended = self.slot.take_until(None);
        (ended.as_ref().and_then(|ended| ended.peer), reply::<R>(ended))
    }

    /// Waits for the reply at most this long.
    ///
    /// # Errors
    ///
    /// The pending reply itself if it did not come in time; the request goes on.
    pub fn wait_timeout(self, timeout: Duration) -> Result<Result<R::Reply, RequestError>, Self> {
        match self.slot.take_until(deadline_after(timeout)) {
            Some(ended) => Ok(reply::<R>(Some(ended))),
            None => Err(self),
        }
    }

    /// Takes the reply if it is there.
    ///
    /// # Errors
    ///
    /// The pending reply itself if it is not there yet.
    pub fn try_wait(self) -> Result<Result<R::Reply, RequestError>, Self> {
        match self.slot.try_take() {
            Some(ended) => Ok(reply::<R>(Some(ended))),
            None => Err(self),
        }
    }

    /// Ends the request with [`RequestError::Cancelled`], unless it has ended.
    pub fn cancel(self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.cancel(self.id);
        }
    }
}

/// Resolves to what [`Pending::wait`] returns; polled again after that, to [`RequestError::Cancelled`].
impl<R: Request> Future for Pending<R> {
    type Output = Result<R::Reply, RequestError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.slot.poll(context.waker()).map(reply::<R>)
    }
}

impl<R: Request> fmt::Debug for Pending<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("id", &self.id).finish_non_exhaustive()
    }
}

fn reply<R: Request>(ended: Option<Ended>) -> Result<R::Reply, RequestError> {
    let answer = ended.map_or(Err(RequestError::Cancelled), |ended| ended.result)?;
    R::reply(answer).ok_or(RequestError::Crashed)
}

/// How a queued request ended, as [`run_until_queue_empty`](crate::Conduit::run_until_queue_empty) reports it.
///
/// With the feature `serde` it serializes as an object with `request`, `peer`, `outcome` (`ok`, or the error's name),
/// `reply` (the reply, or the error's text) and `milliseconds`.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was asked.
    pub request: String,
    /// Who answered.
    pub peer: Option<PeerAddress>,
    /// The reply, or why there is none.
    pub result: Result<Answer, RequestError>,
    /// From the start, or the request if it was later, to the end.
    pub took: Duration,
}

#[cfg(feature = "serde")]
impl serde::Serialize for Outcome {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;

        let mut object = serializer.serialize_struct("Outcome", 5)?;
        object.serialize_field("request", &self.request)?;
        object.serialize_field("peer", &self.peer)?;
        match &self.result {
            Ok(answer) => {
                object.serialize_field("outcome", "ok")?;
                object.serialize_field("reply", answer)?;
            }
            Err(error) => {
                object.serialize_field("outcome", error.name())?;
                object.serialize_field("reply", &error.to_string())?;
            }
        }
        object.serialize_field("milliseconds", &(self.took.as_secs_f64() * 1_000.0))?;
        object.end()
    }
}
