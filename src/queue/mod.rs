//! The queues between the threads, their byte budgets, and what happens when each is full.
//!
//! | queue | from, to | bounded by |
//! |---|---|---|
//! | outbound | callers and message threads, to the event loop | [`outbound::budget`] |
//! | inbound | the event loop, to the message threads | [`inbound::Budget`] |
//! | message | the message threads, to callers | bytes and items of each [`message`] queue |
//! | block | the event loop, to whoever reads a block | bytes of each [`block`] queue |

pub(crate) mod block;
pub(crate) mod events;
pub(crate) mod inbound;
pub(crate) mod level;
pub(crate) mod link;
pub(crate) mod message;
pub(crate) mod outbound;
pub(crate) mod slot;
