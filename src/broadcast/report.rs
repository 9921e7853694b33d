//! What is known of a broadcast: each peer's journey, and what they come to.
//!
//! Section 5 of the wire specification: a node never says that it accepted a transaction. It is silent, or sends a
//! `reject`, and announces what it accepted to its other peers. So the sign of success is an announcement from a peer
//! that was not told; silence is no sign at all.

use std::fmt;
use std::time::Duration;

use crate::message::RejectCode;
use crate::peer::{PeerAddress, PeerId};
use crate::wire::{BlockHash, Txid};

/// What is known of a broadcast at one moment.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct BroadcastReport {
    /// The transaction.
    pub txid: Txid,
    /// What it comes to so far.
    pub verdict: Verdict,
    /// Every peer that was told, or announced it, in the order in which that began.
    pub peers: Vec<PeerJourney>,
    /// Peers that are connected and were not told, and so can show that it was relayed.
    pub listeners: usize,
    /// Whether fewer were listening, when the verdict was given, than [wanted](super::BroadcastOptions#structfield.listeners)
    /// or than relays are needed: then nothing heard says even less than it does otherwise.
    pub too_few_listeners: bool,
    /// Transactions heard of that spend what this one spends; the first 16.
    pub conflicts: Vec<Conflict>,
    /// Since the broadcast began: at the restart, if it was taken from the file.
    pub elapsed: Duration,
    /// Why the transaction is no longer announced; `None` while it is.
    pub end: Option<BroadcastEnd>,
}

/// How far a transaction came with one peer, and when.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct PeerJourney {
    /// The peer; `None` for one of an earlier run that was not connected since.
    pub peer: Option<PeerId>,
    /// Its address.
    pub address: PeerAddress,
    /// How far the transaction came with it.
    pub state: JourneyState,
    /// When it was told, after the beginning of the broadcast, as all times here.
    pub announced: Option<Duration>,
    /// When it first asked for the transaction.
    pub requested: Option<Duration>,
    /// When it was first sent.
    pub sent: Option<Duration>,
    /// When it rejected or announced the transaction.
    pub heard: Option<Duration>,
}

/// How far a transaction came with one peer.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum JourneyState {
    /// It was told by `inv`. A node that knows the transaction, or rejected it since the last block, does not ask; one that
    /// was told by another peer first asks that one, and us only a minute later.
    Announced,
    /// It asked for the transaction.
    Requested,
    /// The transaction was handed to its connection. A node that accepts it says nothing.
    Sent,
    /// It refused the transaction.
    Rejected {
        /// The kind of fault.
        code: RejectCode,
        /// The node's words for it; they differ between releases.
        reason: String,
    },
    /// It announced the transaction to us though we had not told it: some node accepted and relayed it.
    Relayed,
    /// It was told, and nothing more came of it before the deadline, or before its connection ended, or it cannot be heard
    /// because nobody takes its messages. How far it came is told by the times.
    NotHeard,
    /// It was not told, as it asks for more than the transaction pays.
    BelowFeeFilter {
        /// What it asks for, in satoshis for 1,000 bytes.
        fee_filter: u64,
    },
}

/// What a broadcast has come to.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Verdict {
    /// No peer has been told: none is connected that may be.
    Unannounced,
    /// Peers were told and none was sent it: they know it already, do not want it, or are slow. So it is with a
    /// transaction that is mined, that a node holds already, or that it rejected since the last block; and with any at a node
    /// in initial block download, which takes only what is sent [directly](super::BroadcastOptions#structfield.direct).
    Unrequested,
    /// Peers asked for it and were sent it, and nothing was heard since. This is not acceptance: a node is as silent about
    /// a double spend, an orphan and a full queue as about what it takes.
    Delivered {
        /// How many were.
        to: usize,
    },
    /// Peers that were not told announced it, and nobody rejected it.
    Relayed {
        /// How many did.
        by: usize,
    },
    /// Peers rejected it, and nobody relayed it.
    Rejected {
        /// How many did.
        by: usize,
        /// The first one's code.
        code: RejectCode,
        /// The first one's words.
        reason: String,
    },
    /// Some rejected it, others relayed it: they have different rules, or rivals of it are about.
    Split {
        /// How many relayed it.
        relayed: usize,
        /// How many rejected it.
        rejected: usize,
    },
    /// The caller found it in a block, by [`confirm`](crate::Conduit::confirm).
    Mined {
        /// The block.
        block: BlockHash,
    },
}

/// Why a broadcast is over.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum BroadcastEnd {
    /// As many peers relayed it as were wanted.
    Relayed,
    /// It was sent to as many as shall be told, and no relay is waited for.
    Delivered,
    /// Every peer that was told has rejected it.
    Rejected,
    /// The caller found it in a block.
    Mined,
    /// Its lifetime has passed.
    Expired,
    /// The caller ended it.
    Cancelled,
    /// The disk took no more, so that nobody may be told of it any longer. What the file has goes on with the next start.
    NotSaved,
    /// The conduit is shut down. What is kept in a file goes on with the next start.
    Shutdown,
}

/// A transaction heard of that spends an output which one of ours spends.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Conflict {
    /// The rival.
    pub rival: Txid,
    /// How it was heard of.
    pub source: ConflictSource,
}

/// How a conflicting transaction was heard of.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum ConflictSource {
    /// It is being broadcast through this conduit, too.
    Broadcast,
    /// A peer sent it: for a request, a watch, or unasked.
    Transaction {
        /// The peer.
        peer: PeerId,
    },
    /// A peer told by `dsdetected` that it is in a block; the proof that came along leads to this block's merkle root.
    Block {
        /// The peer.
        peer: PeerId,
        /// The block.
        block: BlockHash,
    },
}

/// Something that happened to a broadcast.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Progress {
    /// It came further with a peer.
    Peer(PeerJourney),
    /// A transaction was heard of that spends what it spends.
    Conflict(Conflict),
    /// The verdict was given. Comes once, and what is heard later does not take it back; the
    /// [report](super::Broadcast::report) tells that.
    Settled(Verdict),
    /// It is over. Comes once, and last.
    Over(BroadcastEnd),
    /// The reader was so slow that so many items were dropped, the oldest first.
    Missed(u64),
}

impl BroadcastReport {
    /// How many peers were told.
    #[must_use]
    pub fn announced(&self) -> usize {
        self.count(|peer| peer.announced.is_some())
    }

    /// How many asked for it.
    #[must_use]
    pub fn requested(&self) -> usize {
        self.count(|peer| peer.requested.is_some())
    }

    /// How many were sent it.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.count(|peer| peer.sent.is_some())
    }

    /// How many relayed it.
    #[must_use]
    pub fn relayed(&self) -> usize {
        self.count(|peer| peer.state == JourneyState::Relayed)
    }

    /// How many rejected it.
    #[must_use]
    pub fn rejected(&self) -> usize {
        self.count(|peer| matches!(peer.state, JourneyState::Rejected { .. }))
    }

    /// How many of those told were not heard of in time.
    #[must_use]
    pub fn not_heard(&self) -> usize {
        self.count(|peer| peer.state == JourneyState::NotHeard)
    }

    /// When the first peer was told, after the beginning, as all times here.
    #[must_use]
    pub fn first_announced(&self) -> Option<Duration> {
        self.peers.iter().filter_map(|peer| peer.announced).min()
    }

    /// When the first peer asked for it.
    #[must_use]
    pub fn first_requested(&self) -> Option<Duration> {
        self.peers.iter().filter_map(|peer| peer.requested).min()
    }

    /// When the first peer was sent it.
    #[must_use]
    pub fn first_sent(&self) -> Option<Duration> {
        self.peers.iter().filter_map(|peer| peer.sent).min()
    }

    /// When the first peer relayed it.
    #[must_use]
    pub fn first_relayed(&self) -> Option<Duration> {
        let relayed = self.peers.iter().filter(|peer| peer.state == JourneyState::Relayed);
        relayed.filter_map(|peer| peer.heard).min()
    }

    /// When the first peer rejected it.
    #[must_use]
    pub fn first_rejected(&self) -> Option<Duration> {
        let rejected = self.peers.iter().filter(|peer| matches!(peer.state, JourneyState::Rejected { .. }));
        rejected.filter_map(|peer| peer.heard).min()
    }

    fn count(&self, which: impl Fn(&PeerJourney) -> bool) -> usize {
        self.peers.iter().filter(|&peer| which(peer)).count()
    }
}

impl Verdict {
    /// The verdict as one word, such as `relayed`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unannounced => "unannounced",
            Self::Unrequested => "unrequested",
            Self::Delivered { .. } => "delivered",
            Self::Relayed { .. } => "relayed",
            Self::Rejected { .. } => "rejected",
            Self::Split { .. } => "split",
            Self::Mined { .. } => "mined",
        }
    }
}

impl fmt::Display for JourneyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Announced => f.write_str("announced"),
            Self::Requested => f.write_str("requested"),
            Self::Sent => f.write_str("sent"),
            Self::Rejected { code, reason } => write!(f, "rejected with {code}: {reason}"),
            Self::Relayed => f.write_str("relayed by others"),
            Self::NotHeard => f.write_str("not heard"),
            Self::BelowFeeFilter { fee_filter } => {
                write!(f, "not told, as it asks for {fee_filter} satoshis for 1,000 bytes")
            }
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unannounced => f.write_str("no peer was told"),
            Self::Unrequested => f.write_str("announced, and nobody took it"),
            Self::Delivered { to } => write!(f, "sent to {to}, and nothing heard, which is no acceptance"),
            Self::Relayed { by } => write!(f, "relayed by {by} that were not told"),
            Self::Rejected { by, code, reason } => write!(f, "rejected by {by}: {code}: {reason}"),
            Self::Split { relayed, rejected } => write!(f, "relayed by {relayed}, rejected by {rejected}"),
            Self::Mined { block } => write!(f, "mined in block {block}"),
        }
    }
}
