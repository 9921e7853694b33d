//! Every error a caller can meet, one enum per question he asks.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

pub use crate::block::{MerkleError, PartialTreeError};
pub use crate::harm::Harm;
use crate::message::Services;
pub use crate::network::UnknownNetwork;
use crate::peer::{PeerAddress, PeerId};
pub use crate::proto::ProtocolError;
pub use crate::wire::{Command, DecodeError, FrameError, ParseHashError};

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
    /// The conduit is shut down.
    Shutdown,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the event loop cannot start: {error}"),
            Self::Shutdown => f.write_str("the conduit is shut down"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Shutdown => None,
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

/// Why a request ended without its reply.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The conduit was not started, so a blocking call would wait for ever.
    NotStarted,
    /// No peer could be asked until the deadline, or the only one that might be asked is not known any more.
    NoPeers,
    /// Every peer that was asked said it does not have what was wanted.
    NotFound {
        /// The peers asked.
        attempts: Vec<Attempt>,
    },
    /// The deadline passed; unknown blocks are met with silence, for one.
    TimedOut {
        /// The peers asked and what became of each.
        attempts: Vec<Attempt>,
    },
    /// Every attempt failed before the deadline.
    Failed {
        /// The peers asked and why each failed.
        attempts: Vec<Attempt>,
    },
    /// The reply is over `stream_threshold`, or what was gathered for it over `requests_limit`; sizes are in bytes.
    TooLarge {
        /// The reply's size.
        length: u64,
        /// The setting.
        limit: u64,
    },
    /// The reply lies behind more unread messages than `overflow_limit`: the message queue must be read.
    MessageQueueFull,
    /// `requests_limit` is reached.
    TooManyRequests,
    /// Nodes punish this question, and the request does not insist on it.
    Harmful(Harm),
    /// The request names nothing to ask for, or more than fits one message.
    Invalid {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The caller cancelled it.
    Cancelled,
    /// The conduit is shut down.
    Shutdown,
    /// A thread of the conduit panicked, which is a bug in it.
    Crashed,
}

impl RequestError {
    /// The variant's name in lower case with underscores, as it stands in JSON.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::NoPeers => "no_peers",
            Self::NotFound { .. } => "not_found",
            Self::TimedOut { .. } => "timed_out",
            Self::Failed { .. } => "failed",
            Self::TooLarge { .. } => "too_large",
            Self::MessageQueueFull => "message_queue_full",
            Self::TooManyRequests => "too_many_requests",
            Self::Harmful(_) => "harmful",
            Self::Invalid { .. } => "invalid",
            Self::Cancelled => "cancelled",
            Self::Shutdown => "shutdown",
            Self::Crashed => "crashed",
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted => f.write_str("the conduit is not started"),
            Self::NoPeers => f.write_str("no peer could be asked"),
            Self::NotFound { attempts } => write!(f, "not found{}", List(attempts)),
            Self::TimedOut { attempts } => write!(f, "timed out{}", List(attempts)),
            Self::Failed { attempts } => write!(f, "every attempt failed{}", List(attempts)),
            Self::TooLarge { length, limit } => {
                write!(f, "reply of {length} bytes is over the limit of {limit}")
            }
            Self::MessageQueueFull => f.write_str("the message queue is full and must be read first"),
            Self::TooManyRequests => f.write_str("too many requests are under way"),
            Self::Harmful(harm) => harm.fmt(f),
            Self::Invalid { what } => write!(f, "invalid request: {what}"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Shutdown => f.write_str("the conduit is shut down"),
            Self::Crashed => f.write_str("a thread of the conduit panicked"),
        }
    }
}

impl Error for RequestError {}

/// One peer that was asked, and why it gave no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Attempt {
    /// The peer.
    pub peer: PeerId,
    /// Its address.
    pub address: PeerAddress,
    /// What it did.
    pub failure: AttemptFailure,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.address, self.failure)
    }
}

/// What a peer did instead of answering.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum AttemptFailure {
    /// It said that it does not have it.
    NotFound,
    /// It did not answer in its share of the time.
    TimedOut,
    /// Its connection was lost.
    Disconnected,
    /// Its answer was wrong.
    WrongAnswer,
    /// It had no room for so large a reply at the time.
    TooBusy,
}

impl fmt::Display for AttemptFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "does not have it",
            Self::TimedOut => "did not answer in time",
            Self::Disconnected => "was lost",
            Self::WrongAnswer => "answered wrongly",
            Self::TooBusy => "was too busy",
        })
    }
}

/// Writes attempts behind a colon.
struct List<'a>(&'a [Attempt]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, attempt) in self.0.iter().enumerate() {
            write!(f, "{}{attempt}", if i == 0 { ": " } else { ", " })?;
        }
        Ok(())
    }
}

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
    /// No peers to tell were asked for.
    NoNodes,
    /// `broadcast_bytes` are held already.
    Full,
    /// The conduit was not started.
    NotStarted,
    /// The conduit is shut down.
    Shutdown,
}

impl fmt::Display for BroadcastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            BroadcastFailure::Malformed(error) => write!(f, "not a transaction: {error}"),
            BroadcastFailure::NoNodes => f.write_str("a broadcast needs at least one node to tell"),
            BroadcastFailure::Full => f.write_str("too many bytes of transactions are being broadcast"),
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

/// Why the file of peers was not used, but set aside.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFault {
    /// It is no file of peers, or what it holds is not all that was written: cut short, or changed.
    Damaged,
    /// Another version of this library wrote it, in a form that this one cannot read.
    Version {
        /// The version of the form; ours is 1.
        found: u32,
    },
    /// It holds the peers of another network.
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

/// Why a connection ended, or was not made.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The name did not resolve.
    Resolve {
        /// What the resolver said.
        kind: io::ErrorKind,
    },
    /// The connection could not be made.
    Dial {
        /// What the system, or the dialler, said.
        kind: io::ErrorKind,
    },
    /// A resolver or dialler of the caller's panicked.
    HookPanicked,
    /// The peer broke the protocol, or fell silent.
    Protocol(ProtocolError),
    /// The peer closed the connection.
    ClosedByPeer,
    /// The connection broke.
    Io {
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// Our side's fault: nobody took this peer's messages for `pause_limit`.
    PausedTooLong,
    /// The peer calls itself by the name of another chain's software.
    OtherChain {
        /// What it calls itself.
        user_agent: String,
    },
    /// The peer, which was found and not named, does not offer what we need.
    MissingServices {
        /// What it offers.
        services: Services,
    },
    /// The peer is on another chain: it has another block where ours has its fork marker.
    WrongChain,
    /// The peer's answer to the question for the fork marker is none: it follows nothing asked, or has no work.
    BadForkAnswer,
    /// The caller asked for it.
    Requested,
    /// The caller banned the peer.
    Banned,
    /// The conduit is shut down.
    Shutdown,
}

impl DisconnectReason {
    /// The variant's name in lower case with underscores, of a protocol error that of what was wrong.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "resolve",
            Self::Dial { .. } => "dial",
            Self::HookPanicked => "hook_panicked",
            Self::Protocol(error) => error.name(),
            Self::ClosedByPeer => "closed_by_peer",
            Self::Io { .. } => "io",
            Self::PausedTooLong => "paused_too_long",
            Self::OtherChain { .. } => "other_chain",
            Self::MissingServices { .. } => "missing_services",
            Self::WrongChain => "wrong_chain",
            Self::BadForkAnswer => "bad_fork_answer",
            Self::Requested => "requested",
            Self::Banned => "banned",
            Self::Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve { kind } => write!(f, "the name did not resolve: {kind}"),
            Self::Dial { kind } => write!(f, "could not connect: {kind}"),
            Self::HookPanicked => f.write_str("the resolver or dialler panicked"),
            Self::Protocol(error) => error.fmt(f),
            Self::ClosedByPeer => f.write_str("closed by the peer"),
            Self::Io { kind } => write!(f, "connection broken: {kind}"),
            Self::PausedTooLong => f.write_str("we did not take its messages for too long"),
            Self::OtherChain { user_agent } => write!(f, "{user_agent:?} is software of another chain"),
            Self::MissingServices { services } => write!(f, "does not offer what is needed, only {services}"),
            Self::WrongChain => f.write_str("is on another chain"),
            Self::BadForkAnswer => f.write_str("answered nonsense when asked for the fork marker"),
            Self::Requested => f.write_str("disconnected by the caller"),
            Self::Banned => f.write_str("banned by the caller"),
            Self::Shutdown => f.write_str("the conduit is shut down"),
        }
    }
}

impl DisconnectReason {
    /// Whether the same would happen again at once.
    pub(crate) fn is_lasting(&self) -> bool {
        matches!(self, Self::OtherChain { .. } | Self::MissingServices { .. } | Self::WrongChain)
    }

    /// Whether it was our doing, and says nothing about the peer.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Requested | Self::Banned | Self::Shutdown | Self::PausedTooLong | Self::HookPanicked)
    }
}

impl Error for DisconnectReason {}

impl From<ProtocolError> for DisconnectReason {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

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
