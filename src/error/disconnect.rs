//! Why a connection ended, or was not made.

use std::error::Error;
use std::fmt;
use std::io;

use crate::message::Services;
use crate::proto::ProtocolError;

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
    /// Our side's doing: it was in the middle of a large block that nobody reads any more.
    BlockAbandoned,
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
    /// The peer, which was found, could not tell in two checks whether it is on our chain, and leaves its place to another.
    Unverifiable,
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
            Self::BlockAbandoned => "block_abandoned",
            Self::OtherChain { .. } => "other_chain",
            Self::MissingServices { .. } => "missing_services",
            Self::WrongChain => "wrong_chain",
            Self::BadForkAnswer => "bad_fork_answer",
            Self::Unverifiable => "unverifiable",
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
            Self::BlockAbandoned => f.write_str("nobody reads the large block that it sends"),
            Self::OtherChain { user_agent } => write!(f, "{user_agent:?} is software of another chain"),
            Self::MissingServices { services } => write!(f, "does not offer what is needed, only {services}"),
            Self::WrongChain => f.write_str("is on another chain"),
            Self::Unverifiable => f.write_str("cannot tell whether it is on our chain"),
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
        matches!(
            self,
            Self::Requested
                | Self::Banned
                | Self::Shutdown
                | Self::PausedTooLong
                | Self::BlockAbandoned
                | Self::HookPanicked
        )
    }
}

impl Error for DisconnectReason {}

impl From<ProtocolError> for DisconnectReason {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}
