//! What callers and message threads see of a connection that is up, without the engine's lock.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use crate::error::SendFailure;
use crate::peer::ConnectionId;
use crate::proto::PeerLimits;
use crate::wire::Command;

/// A connection that is up, as callers and message threads see it.
#[derive(Debug)]
pub(crate) struct LinkState {
    pub(crate) connection: ConnectionId,
    /// The peer's `max_recv_payload_length`.
    pub(crate) limit: AtomicU32,
    /// We do not read it, because nobody takes its messages.
    pub(crate) paused: AtomicBool,
    /// The connection is over.
    pub(crate) closed: AtomicBool,
    /// Batches of frames in the inbound queue.
    pub(crate) in_flight: AtomicUsize,
}

impl LinkState {
    pub(crate) fn new(connection: ConnectionId) -> Self {
        Self {
            connection,
            limit: AtomicU32::new(PeerLimits::default().max_recv_payload_length()),
            paused: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Says why a payload may not be sent over it; whether there is room is another matter.
    pub(crate) fn takes(&self, command: Command, length: usize) -> Result<(), SendFailure> {
        if self.paused.load(Ordering::Acquire) {
            return Err(SendFailure::MessageQueueFull);
        }
        let limit = PeerLimits::new(self.limit.load(Ordering::Acquire)).of(command);
        let length = length as u64;
        if length > limit { Err(SendFailure::TooLarge { length, limit }) } else { Ok(()) }
    }
}
