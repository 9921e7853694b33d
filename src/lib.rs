//! Blocking, thread-based client for the Bitcoin SV peer-to-peer network.

pub mod block;
pub mod message;
#[cfg(feature = "testnode")]
pub mod testnode;
pub mod wire;

mod broadcast;
mod conduit;
mod config;
mod driver;
mod engine;
pub mod error;
mod network;
mod peer;
mod pending;
mod proto;
mod queue;
mod request;

pub use broadcast::{Broadcast, BroadcastReport, PeerReceipt, ReceiptState, Verdict};
pub use conduit::Conduit;
pub use config::Config;
pub use driver::{Dialler, Resolver, SystemResolver};
pub use error::{DisconnectReason, RequestError, SendError};
pub use message::{GetHeaders, Message};
pub use network::{CustomNetwork, Network};
pub use peer::{PeerAddress, PeerId, PeerInfo, PeerState, ToPeerAddress};
pub use pending::{Outcome, Pending};
pub use proto::Link;
pub use queue::events::{Event, Events};
pub use queue::message::{Incoming, Messages};
pub use request::{
    Answer, BlockRequest, GetAddr, GetData, Ping, Request, RequestOptions, TransactionNotFound, TransactionRequest,
    TransactionsRequest,
};
pub use wire::{BlockHash, MerkleRoot, Txid};
