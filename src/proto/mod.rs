//! Layer 3: one peer. Handshake, keepalive, what is waiting to be sent, what has arrived.
//!
//! Pure: bytes and `now` go in, frames, bytes and a deadline come out. Implements sections 3.1 to 3.7 of the wire
//! specification (the node's `src/net/net_processing.cpp`).

mod association;
mod batch;
mod connection;
mod error;
mod keepalive;
mod outbox;
mod run;
mod settings;
mod tally;

#[cfg(feature = "testnode")]
pub(crate) use association::BLOCK_PRIORITY;
pub(crate) use association::{AssociationId, Stream, stream_of};
pub(crate) use batch::{FrameBatch, RawFrame};
pub(crate) use connection::{Connection, Control, Event};
pub use error::ProtocolError;
pub(crate) use keepalive::Part as KeepalivePart;
pub(crate) use run::FrameRun;
pub use settings::Link;
pub(crate) use settings::{PeerLimits, Settings};
pub(crate) use tally::Tally;
