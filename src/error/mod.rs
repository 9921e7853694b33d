//! Every error a caller can meet, one enum per question he asks.

mod block;
mod disconnect;
mod request;

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use crate::block::{MerkleError, PartialTreeError};
pub use crate::harm::Harm;
pub use crate::network::UnknownNetwork;
pub use crate::proto::ProtocolError;
pub use crate::wire::{Command, DecodeError, FrameError, ParseHashError};
pub use block::BlockError;
pub use disconnect::DisconnectReason;
pub use request::{Attempt, AttemptFailure, RequestError};

/// Why settings are refused.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// A node bans user agents that contain this word, in any letter case.
    BannedUserAgent {
        /// The word found.
        word: &'static str,
    },
    /// The user agent is longer than a node accepts; sizes are in bytes.
    UserAgentTooLong {
        /// Its length.
        length: usize,
        /// The longest accepted.
        limit: usize,
    },
    /// A limit is below what the others, or the protocol, need.
    TooSmall {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: u64,
        /// The least it can be.
        minimum: u64,
    },
    /// Two settings that cannot both be.
    Contradiction {
        /// One.
        setting: &'static str,
        /// The other.
        other: &'static str,
    },
    /// A setting is not made that another needs.
    Missing {
        /// The one that is not made.
        setting: &'static str,
        /// The one that needs it.
        needed_by: &'static str,
    },
    /// A duration is zero or over a year.
    BadDuration {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: Duration,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BannedUserAgent { word } => write!(f, "nodes ban user agents that contain {word:?}"),
            Self::UserAgentTooLong { length, limit } => {
                write!(f, "user agent of {length} bytes is over the limit of {limit}")
            }
            Self::TooSmall { setting, value, minimum } => {
                write!(f, "{setting} is {value}, but must be at least {minimum}")
            }
            Self::Contradiction { setting, other } => write!(f, "{setting} contradicts {other}"),
            Self::Missing { setting, needed_by } => write!(f, "{needed_by} needs {setting}"),
            Self::BadDuration { setting, value } => write!(f, "{setting} cannot be {value:?}"),
        }
    }
}

impl Error for ConfigError {}

/// A text that names no peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError {
    /// The text given.
    pub text: String,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no peer address: expected host:port, 1.2.3.4:8333 or [2001:db8::1]:8333", self.text)
    }
}

impl Error for AddressError {}

/// Why peers cannot be added.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddPeersError {
    /// An address is no address; none was added.
    Address(AddressError),
    /// More peers than `max_peers`; none was added.
    TooManyPeers {
        /// How many would be held.
        wanted: usize,
        /// The setting.
        limit: usize,
    },
    /// The conduit is shut down.
    Shutdown,
}

impl fmt::Display for AddPeersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => error.fmt(f),
            Self::TooManyPeers { wanted, limit } => write!(f, "{wanted} peers are over the limit of {limit}"),
            Self::Shutdown => f.write_str("the conduit is shut down"),
        }
    }
}

impl Error for AddPeersError {}

impl From<AddressError> for AddPeersError {
    fn from(error: AddressError) -> Self {
        Self::Address(error)
    }
}

/// Why the conduit cannot start.
#[non_exhaustive]
#[derive(Debug)]
pub enum StartError {
    /// The system refused a thread or the poll instance.
    Io(io::Error),
    /// Another conduit, of this process or another, keeps its broadcasts in the same directory; two would overwrite what
    /// the other has written.
    BroadcastsInUse {
        /// The file that it holds locked.
        lock: PathBuf,
    },
    /// The file of broadcasts can be neither used nor replaced, or its directory not made.
    Broadcasts(io::Error),
    /// The conduit is shut down.
    Shutdown,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the event loop cannot start: {error}"),
            Self::BroadcastsInUse { lock } => write!(f, "another conduit holds {}", lock.display()),
            Self::Broadcasts(error) => write!(f, "the file of broadcasts cannot be used: {error}"),
            Self::Shutdown => f.write_str("the conduit is shut down"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) | Self::Broadcasts(error) => Some(error),
            Self::BroadcastsInUse { .. } | Self::Shutdown => None,
        }
    }
}

/// Why a message could not be queued; the message is given back.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendError<T> {
    /// What was not sent.
    pub message: T,
    /// Why.
    pub reason: SendFailure,
}

/// Why a message could not be queued.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendFailure {
    /// The outbound queue of that peer is full; only `try_send` and `send_timeout` say so.
    Full,
    /// The peer is not connected, or was lost while the call waited.
    Disconnected,
    /// We do not read this peer because nobody takes its messages, so no answer could come: take them first.
    MessageQueueFull,
    /// The peer would ban us for a payload of this size; sizes are in bytes.
    TooLarge {
        /// The payload's size.
        length: u64,
        /// The most the peer accepts, or the outbound queue can hold.
        limit: u64,
    },
    /// Nodes punish this message; [`send_anyway`](crate::Conduit::send_anyway) sends it all the same.
    Harmful(Harm),
    /// The conduit was not started.
    NotStarted,
    /// The conduit is shut down.
    Shutdown,
}

impl fmt::Display for SendFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the peer's outbound queue is full"),
            Self::Disconnected => f.write_str("the peer is not connected"),
            Self::MessageQueueFull => f.write_str("the peer is paused because the message queue is full"),
            Self::TooLarge { length, limit } => {
                write!(f, "payload of {length} bytes is over the limit of {limit}")
            }
            Self::Harmful(harm) => harm.fmt(f),
            Self::NotStarted => f.write_str("the conduit is not started"),
            Self::Shutdown => f.write_str("the conduit is shut down"),
        }
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl<T: fmt::Debug> Error for SendError<T> {}

/// Why a broadcast cannot begin; the transaction is given back.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BroadcastError {
    /// The bytes of the transaction.
    pub raw: Vec<u8>,
    /// Why.
    pub reason: BroadcastFailure,
}

/// Why a broadcast cannot begin.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BroadcastFailure {
    /// The bytes are no transaction.
    Malformed(DecodeError),
    /// No node can accept it whatever its inputs are, and they ban or score who sends it.
    Invalid {
        /// What is wrong, in the node's words.
        reason: &'static str,
    },
    /// The bytes of a parent are no transaction.
    ParentMalformed {
        /// Its place among the parents, from 0.
        index: usize,
        /// What is wrong.
        error: DecodeError,
    },
    /// The outbox file could not take it.
    NotSaved {
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// No peers to tell were asked for.
    NoNodes,
    /// It would take more room than `broadcast_bytes`, whatever else is held.
    TooLarge {
        /// What it and its parents are charged.
        bytes: usize,
        /// The room there is.
        limit: usize,
    },
    /// `broadcast_bytes` or `broadcast_items` are held already.
    Full,
    /// The conduit was not started.
    NotStarted,
    /// The conduit is shut down.
    Shutdown,
}

impl BroadcastFailure {
    /// The variant's name in lower case with underscores, as it stands in JSON.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Invalid { .. } => "invalid",
            Self::ParentMalformed { .. } => "parent_malformed",
            Self::NotSaved { .. } => "not_saved",
            Self::NoNodes => "no_nodes",
            Self::TooLarge { .. } => "too_large",
            Self::Full => "full",
            Self::NotStarted => "not_started",
            Self::Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for BroadcastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            BroadcastFailure::Malformed(error) => write!(f, "not a transaction: {error}"),
            BroadcastFailure::Invalid { reason } => write!(f, "a transaction that no node accepts: {reason}"),
            BroadcastFailure::ParentMalformed { index, error } => {
                write!(f, "parent {index} is not a transaction: {error}")
            }
            BroadcastFailure::NotSaved { kind } => write!(f, "the file of broadcasts cannot take it: {kind}"),
            BroadcastFailure::NoNodes => f.write_str("a broadcast needs at least one node to tell"),
            BroadcastFailure::TooLarge { bytes, limit } => {
                write!(f, "it would take {bytes} bytes of the {limit} there are for broadcasts")
            }
            BroadcastFailure::Full => f.write_str("too many transactions are being broadcast"),
            BroadcastFailure::NotStarted => f.write_str("the conduit is not started"),
            BroadcastFailure::Shutdown => f.write_str("the conduit is shut down"),
        }
    }
}

impl Error for BroadcastError {}

/// Why a queue cannot be subscribed to.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscribeError {
    /// `max_message_queues` are open.
    TooManyQueues {
        /// The setting.
        limit: usize,
    },
    /// The conduit is shut down.
    Shutdown,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyQueues { limit } => write!(f, "{limit} message queues are open, which is the limit"),
            Self::Shutdown => f.write_str("the conduit is shut down"),
        }
    }
}

impl Error for SubscribeError {}

/// The queue is empty and the conduit shut down: nothing will come any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecvError;

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the conduit is shut down")
    }
}

impl Error for RecvError {}

/// Why nothing could be taken from a queue without waiting, or within a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// Nothing is there, or came in time.
    Empty,
    /// The queue is empty and the conduit shut down.
    Shutdown,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the queue is empty",
            Self::Shutdown => "the conduit is shut down",
        })
    }
}

impl Error for TryRecvError {}

/// Fewer peers than wanted were connected in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitForPeersError {
    /// How many were.
    pub connected: usize,
    /// How many were wanted.
    pub wanted: usize,
    /// Whether the wait ended because the conduit was shut down or never started.
    pub shutdown: bool,
}

impl fmt::Display for WaitForPeersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = if self.shutdown { "when the conduit was shut down" } else { "in time" };
        write!(f, "{} of {} peers were connected {why}", self.connected, self.wanted)
    }
}

impl Error for WaitForPeersError {}

/// Why a file of peers or broadcasts was not used, or of broadcasts only in part, and the original kept under another name.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFault {
    /// It is no such file, or what it holds is not all that was written: cut short, or changed.
    Damaged,
    /// Another version of this library wrote it, in a form that this one cannot read.
    Version {
        /// The version of the form; ours is 1.
        found: u32,
    },
    /// It is of another network.
    OtherNetwork,
    /// A line cannot be read although the file is whole.
    Line {
        /// Counted from 1.
        number: usize,
    },
    /// It is larger than any that this library writes.
    TooLarge {
        /// Bytes it has.
        length: u64,
        /// Bytes that are read at most.
        limit: u64,
    },
    /// It could not be read.
    Unreadable {
        /// What the system said.
        kind: io::ErrorKind,
    },
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged => f.write_str("it is damaged"),
            Self::Version { found } => write!(f, "it has the form of version {found}"),
            Self::OtherNetwork => f.write_str("it is of another network"),
            Self::Line { number } => write!(f, "line {number} cannot be read"),
            Self::TooLarge { length, limit } => write!(f, "it has {length} bytes, more than {limit}"),
            Self::Unreadable { kind } => write!(f, "it cannot be read: {kind}"),
        }
    }
}

impl Error for FileFault {}

/// Errors serialize as their text, which a person reads; programs match on the variants.
#[cfg(feature = "serde")]
macro_rules! serialize_as_text {
    ($($error:ty),*) => {
        $(
            impl serde::Serialize for $error {
                fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.collect_str(self)
                }
            }
        )*
    };
}

#[cfg(feature = "serde")]
serialize_as_text!(
    AddPeersError,
    AddressError,
    ConfigError,
    DecodeError,
    DisconnectReason,
    FileFault,
    FrameError,
    MerkleError,
    ParseHashError,
    PartialTreeError,
    ProtocolError,
    RecvError,
    RequestError,
    SendFailure,
    SubscribeError,
    TryRecvError,
    UnknownNetwork,
    WaitForPeersError
);
