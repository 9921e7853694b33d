//! What callers and message threads see of a connection that is up, without the engine's lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::error::SendFailure;
use crate::harm::{Harm, harm_of};
use crate::message::{Message, Services};
use crate::peer::ConnectionId;
use crate::proto::PeerLimits;
use crate::stats::Traffic;
use crate::wire::Command;

/// A connection that is up, as callers and message threads see it.
#[derive(Debug)]
pub(crate) struct LinkState {
    pub(crate) connection: ConnectionId,
    /// The peer's `max_recv_payload_length`.
    pub(crate) limit: AtomicU32,
    /// We do not read it, because nobody takes its messages.
    pub(crate) paused: AtomicBool,
    /// What the peer offers, as in its `version`.
    pub(crate) services: AtomicU64,
    /// The messages sent that may be sent once, as a bit each.
    sent_once: AtomicU8,
    /// The connection is over.
    pub(crate) closed: AtomicBool,
    /// Batches of frames in the inbound queue.
    pub(crate) in_flight: AtomicUsize,
    /// That of the peer, over both connections where there are two.
    pub(crate) traffic: Arc<LinkTraffic>,
    pub(crate) serving: Turn,
}

/// Lets one thread at a time do a piece of work, and makes sure that it is done again if somebody else came meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// How many came since nobody is at it.
    came: AtomicUsize,
}

impl Turn {
    /// Whether it is the caller who does the work.
    pub(crate) fn begin(&self) -> bool {
        self.came.fetch_add(1, Ordering::AcqRel) == 0
    }

    /// Whether nobody came since the work was begun, so that it is done; else it is done again.
    pub(crate) fn is_done(&self) -> bool {
        if self.came.compare_exchange(1, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return true;
        }
        self.came.store(1, Ordering::Release);
        false
    }
}

/// What has passed over a connection. The loop writes it all the time, and callers need not wait for its cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct LinkTraffic {
    pub(crate) bytes_received: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) messages_received: AtomicU64,
    pub(crate) messages_sent: AtomicU64,
}

impl LinkTraffic {
    pub(crate) fn read(&self) -> Traffic {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Traffic {
            bytes_received: read(&self.bytes_received),
            bytes_sent: read(&self.bytes_sent),
            messages_received: read(&self.messages_received),
            messages_sent: read(&self.messages_sent),
        }
    }
}

impl LinkState {
    pub(crate) fn new(connection: ConnectionId) -> Self {
        Self {
            connection,
            services: AtomicU64::new(0),
            sent_once: AtomicU8::new(0),
            limit: AtomicU32::new(PeerLimits::default().max_recv_payload_length()),
            paused: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            traffic: Arc::default(),
            serving: Turn::default(),
        }
    }

    /// The state of a connection that joins another one.
    pub(crate) fn beside(connection: ConnectionId, first: &Self) -> Self {
        Self { traffic: first.traffic.clone(), ..Self::new(connection) }
    }

    /// What there is against sending a message. One that may be sent once counts as sent from here on.
    pub(crate) fn harm_of(&self, message: &Message) -> Option<Harm> {
        let command = message.command();
        if !self.note_sent(command) {
            return Some(Harm::Repeated { command });
        }
        harm_of(message, Services(self.services.load(Ordering::Acquire)))
    }

    /// Notes that a message is being sent; false if it may be sent once and was sent before.
    pub(crate) fn note_sent(&self, command: Command) -> bool {
        let bit = once_bit(command);
        bit == 0 || self.sent_once.fetch_or(bit, Ordering::AcqRel) & bit == 0
    }

    /// A message that may be sent once was not sent after all.
    pub(crate) fn forget_sent(&self, command: Command) {
        self.sent_once.fetch_and(!once_bit(command), Ordering::AcqRel);
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

/// The bit of a message that costs a point when it comes twice (sections 2.22 and 2.23 of the wire specification).
pub(crate) fn once_bit(command: Command) -> u8 {
    match command {
        Command::SENDHEADERS => 1,
        Command::SENDHDRSEN => 2,
        _ => 0,
    }
}
