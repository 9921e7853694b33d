//! Broadcasts as callers see them: how one is to be done, what came of it, and the handles to follow it.

mod check;
mod handle;
mod many;
mod options;
mod progress;
mod report;
mod slot;

pub use handle::Broadcast;
pub use many::{BroadcastOutcome, Broadcasts};
pub use options::BroadcastOptions;
pub use progress::BroadcastProgress;
pub use report::{
    BroadcastEnd, BroadcastReport, Conflict, ConflictSource, JourneyState, PeerJourney, Progress, Verdict,
};

pub(crate) use check::read_transaction;
pub(crate) use many::{Outcomes, Ticket};
pub(crate) use progress::ProgressQueue;
pub(crate) use slot::{BroadcastSlot, Wakes};
