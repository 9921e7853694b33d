#![doc = include_str!("../README.md")]
//!
//! # The way of a message, in ten lines
//!
//! 1. Bytes arrive: the event loop (`driver::event_loop`, the only code that names mio) gives them to the peer's
//! 2. `Connection` (`proto`), which cuts frames with the push decoder (`wire`), answers handshake and pings itself, and
//! 3. puts the other frames, many together, into the inbound queue (`queue::inbound`), charged to the peer's budget.
//! 4. A message thread (`driver::message_thread`) verifies their checksums and decodes them (`message`), then enters the
//! 5. `Engine` (`engine`) once for all of them: one pure state machine behind one lock, held for microseconds, which
//! 6. gives each message to the request, broadcast or watch it belongs to, or gives it back.
//!    A block that somebody streams does not come this way: the event loop puts it into that stream's queue
//!    (`queue::block`), and it is scanned and hashed where it is read (`download`, with the pure `block`).
//! 7. What it gives back goes into the message queue (`queue::message`), or is parked for its peer if that is full.
//! 8. The other way, a caller's message is encoded in his own thread, charged to the peers' outbound budget
//!    (`queue::outbound`), a stream of small ones in one run of bytes that all its peers share,
//! 9. and taken by the event loop into the connection's outbox, where pongs go before everything else,
//! 10. and then to the socket. A small reply with nothing before it is finished in the event loop itself.
//!
//! Arrows point down only: `conduit` knows `driver`, which knows `engine` and `proto`; those know `message`, which knows
//! `wire`. Only `driver` reads a clock or starts a thread. The embedded `testnode` is built on the pure layers with
//! sockets of its own.

pub mod block;
pub mod message;
#[cfg(feature = "testnode")]
pub mod testnode;
pub mod wire;

mod broadcast;
mod compact;
mod conduit;
mod config;
mod download;
mod driver;
mod engine;
pub mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod harm;
mod network;
mod peer;
mod pending;
mod proto;
mod queue;
mod request;
mod stats;
mod watch;

pub use broadcast::{
    Broadcast, BroadcastEnd, BroadcastOptions, BroadcastOutcome, BroadcastProgress, BroadcastReport, Broadcasts,
    Conflict, ConflictSource, JourneyState, PeerJourney, Progress, Verdict,
};
pub use conduit::Conduit;
pub use config::Config;
pub use download::{
    BlockOptions, BlockOutcome, BlockStream, Blocks, BlocksOptions, FetchedBlock, PendingBlock, Transactions,
};
pub use driver::{Dialler, Resolver, Socks5, SystemResolver};
pub use error::{BlockError, DisconnectReason, Harm, RequestError, SendError};
pub use message::{GetBlockTxn, GetBlocks, GetHdrsEn, GetHeaders, Message};
pub use network::{CustomNetwork, ForkMarker, ForkPoint, Network};
pub use peer::{BanInfo, BanReason, PeerAddress, PeerId, PeerInfo, PeerState, ToPeerAddress};
pub use pending::{Outcome, Pending};
pub use proto::Link;
pub use queue::events::{Event, Events};
pub use queue::message::{Incoming, Messages};
pub use request::{
    Answer, BlockRequest, BlockTxnReply, CompactBlockRequest, CompactReply, DataRefTransactionRequest,
    FilteredBlock, FilteredBlockRequest, GetAddr, GetData, Mempool, Ping, Request, RequestOptions,
    TransactionNotFound, TransactionRequest, TransactionsRequest,
};
pub use stats::{Drops, QueueStats, Stats, Traffic};
pub use watch::{Watch, Watched, Watching};
pub use wire::{BlockHash, Command, MerkleRoot, Txid};
