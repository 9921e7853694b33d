//! Why a block did not come, or not to its end.

use std::error::Error;
use std::fmt;

use super::Attempt;
use super::request::List;

/// Why a block did not come, or not to its end.
///
/// `at` is how many of its bytes were handed out before.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockError {
    /// The conduit was not started, so a blocking call would wait for ever.
    NotStarted,
    /// No peer could be asked until the deadline, or the only one that might be asked is not known any more.
    NoPeers,
    /// Every peer that was asked failed, and there is none left to ask.
    Failed {
        /// How far it came, bytes.
        at: u64,
        /// The peers asked and why each failed.
        attempts: Vec<Attempt>,
    },
    /// Nothing new came in time; unknown blocks are met with silence, for one.
    TimedOut {
        /// How far it came, bytes.
        at: u64,
        /// The peers asked and what became of each.
        attempts: Vec<Attempt>,
    },
    /// The peer that should go on has other bytes than those that were handed out, so one of the two lies.
    ///
    /// What was handed out must be thrown away. Nobody is blamed, as neither block was proven.
    Diverged {
        /// They are the same before this byte, and differ somewhere behind it.
        at: u64,
    },
    /// The block is larger than the caller takes as a whole; sizes are in bytes.
    TooLarge {
        /// The block's size.
        size: u64,
        /// The caller's limit.
        limit: u64,
    },
    /// A transaction is larger than the caller takes as a whole; sizes are in bytes.
    TransactionTooLarge {
        /// Which one of the block, from 0.
        index: u64,
        /// The caller's limit.
        limit: usize,
    },
    /// So many blocks are under way that no further one may be.
    TooManyStreams {
        /// The setting `max_streams`.
        limit: usize,
    },
    /// The options contradict each other, or the handle is used in a way that makes no sense.
    Invalid {
        /// What is wrong.
        what: &'static str,
    },
    /// The conduit is shut down.
    Shutdown,
    /// A thread of the conduit panicked, which is a bug in it.
    Crashed,
}

impl BlockError {
    /// The variant's name in lower case with underscores, as it stands in JSON.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::NoPeers => "no_peers",
            Self::Failed { .. } => "failed",
            Self::TimedOut { .. } => "timed_out",
            Self::Diverged { .. } => "diverged",
            Self::TooLarge { .. } => "too_large",
            Self::TransactionTooLarge { .. } => "transaction_too_large",
            Self::TooManyStreams { .. } => "too_many_streams",
            Self::Invalid { .. } => "invalid",
            Self::Shutdown => "shutdown",
            Self::Crashed => "crashed",
        }
    }

    /// The same, having come so far.
    pub(crate) fn reached(self, reached: u64) -> Self {
        match self {
            Self::Failed { attempts, .. } => Self::Failed { at: reached, attempts },
            Self::TimedOut { attempts, .. } => Self::TimedOut { at: reached, attempts },
            other => other,
        }
    }
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted => f.write_str("the conduit is not started"),
            Self::NoPeers => f.write_str("no peer could be asked"),
            Self::Failed { at, attempts } => write!(f, "every peer failed, {at} bytes in{}", List(attempts)),
            Self::TimedOut { at, attempts } => write!(f, "nothing new came, {at} bytes in{}", List(attempts)),
            Self::Diverged { at } => write!(f, "another peer has other bytes behind byte {at}"),
            Self::TooLarge { size, limit } => write!(f, "block of {size} bytes is over the limit of {limit}"),
            Self::TransactionTooLarge { index, limit } => {
                write!(f, "transaction {index} is over the limit of {limit} bytes")
            }
            Self::TooManyStreams { limit } => write!(f, "{limit} blocks are under way already"),
            Self::Invalid { what } => write!(f, "invalid use: {what}"),
            Self::Shutdown => f.write_str("the conduit is shut down"),
            Self::Crashed => f.write_str("a thread of the conduit panicked"),
        }
    }
}

impl Error for BlockError {}

/// For readers of the block's bytes; the error itself is the inner one.
impl From<BlockError> for std::io::Error {
    fn from(error: BlockError) -> Self {
        use std::io::ErrorKind;
        let kind = match &error {
            BlockError::TimedOut { .. } => ErrorKind::TimedOut,
            BlockError::Diverged { .. } => ErrorKind::InvalidData,
            BlockError::Invalid { .. } => ErrorKind::InvalidInput,
            BlockError::NoPeers | BlockError::NotStarted => ErrorKind::NotConnected,
            _ => ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
