//! Why a request ended without its reply, and what each peer did that was asked.

use std::error::Error;
use std::fmt;

use crate::harm::Harm;
use crate::peer::{PeerAddress, PeerId};

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
    /// It stopped in the middle of a block.
    Stalled,
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
            Self::Stalled => "stopped in the middle",
            Self::WrongAnswer => "answered wrongly",
            Self::TooBusy => "was too busy",
        })
    }
}

/// Writes attempts behind a colon.
pub(super) struct List<'a>(pub(super) &'a [Attempt]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, attempt) in self.0.iter().enumerate() {
            write!(f, "{}{attempt}", if i == 0 { ": " } else { ", " })?;
        }
        Ok(())
    }
}
