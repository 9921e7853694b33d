//! What a peer can do that ends its connection.
//!
//! Layer 3.

use std::error::Error;
use std::fmt;

use crate::block::{BlockFault, PartialTreeError};
use crate::message::{ProofError, RejectCode};
use crate::wire::{Command, DecodeError, FrameError};

/// What a peer did that ended its connection.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// A frame is broken: its magic, command field, length or checksum.
    Frame(FrameError),
    /// A payload does not hold what its command says.
    Malformed {
        /// The frame's command.
        command: Command,
        /// What is wrong with the payload.
        error: DecodeError,
    },
    /// A message that may not come before `version`.
    BeforeVersion {
        /// The message's command.
        command: Command,
    },
    /// A message other than the `streamack` that was asked for, on a connection that is to join an association.
    NoStreamAck {
        /// The message's command; `streamack` for one that names something else.
        command: Command,
    },
    /// A second `version`.
    DuplicateVersion,
    /// A second `protoconf`.
    DuplicateProtoConf,
    /// The peer speaks a protocol version below 31800.
    ObsoleteVersion {
        /// The version it announced.
        version: i32,
    },
    /// The peer sent our own nonce back: we talk to ourselves.
    SelfConnection,
    /// The peer refused our `version`, or our `createstrm`, with a `reject`.
    Refused {
        /// The reject's code.
        code: RejectCode,
        /// The reject's text.
        reason: String,
    },
    /// The handshake was not finished within `handshake_timeout`.
    HandshakeTimeout,
    /// No byte came for `ping_timeout` after a ping was sent.
    PingTimeout,
    /// The peer took no byte for `stall_timeout` although some were waiting.
    Stalled,
    /// A payload above `stream_threshold` that nobody asked for; sizes are in bytes.
    Oversized {
        /// The frame's command.
        command: Command,
        /// The announced size.
        length: u64,
        /// The threshold.
        limit: u64,
    },
    /// A `headers` message in which one header does not follow from the one before.
    DisconnectedHeaders,
    /// A `merkleblock` whose tree is broken, or has another root than its header.
    BadPartialTree(PartialTreeError),
    /// An `hdrsen` with a coinbase transaction, or miner info, that is not proven to be in its block.
    BadProof(ProofError),
    /// A block that was read as it came is malformed, or not what its header says.
    BadBlock(BlockFault),
    /// What the peer sent of a block before it was lost is not in the block, as another peer proved.
    ForgedBlock,
    /// The peer stopped in the middle of a block.
    BlockStalled,
    /// A requested block whose transactions do not give the merkle root in its header.
    BadMerkleRoot,
}

impl ProtocolError {
    /// The variant's name in lower case with underscores.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Frame(_) => "frame",
            Self::Malformed { .. } => "malformed",
            Self::BeforeVersion { .. } => "before_version",
            Self::NoStreamAck { .. } => "no_stream_ack",
            Self::DuplicateVersion => "duplicate_version",
            Self::DuplicateProtoConf => "duplicate_proto_conf",
            Self::ObsoleteVersion { .. } => "obsolete_version",
            Self::SelfConnection => "self_connection",
            Self::Refused { .. } => "refused",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::PingTimeout => "ping_timeout",
            Self::Stalled => "stalled",
            Self::Oversized { .. } => "oversized",
            Self::DisconnectedHeaders => "disconnected_headers",
            Self::BadPartialTree(_) => "bad_partial_tree",
            Self::BadProof(_) => "bad_proof",
            Self::BadBlock(_) => "bad_block",
            Self::ForgedBlock => "forged_block",
            Self::BlockStalled => "block_stalled",
            Self::BadMerkleRoot => "bad_merkle_root",
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(f),
            Self::Malformed { command, error } => write!(f, "malformed {command}: {error}"),
            Self::BeforeVersion { command } => write!(f, "{command} before version"),
            Self::NoStreamAck { command } => write!(f, "{command} in place of the streamack asked for"),
            Self::DuplicateVersion => f.write_str("second version"),
            Self::DuplicateProtoConf => f.write_str("second protoconf"),
            Self::ObsoleteVersion { version } => write!(f, "protocol version {version} is obsolete"),
            Self::SelfConnection => f.write_str("connected to ourselves"),
            Self::Refused { code, reason } => write!(f, "refused with {code}: {reason}"),
            Self::HandshakeTimeout => f.write_str("handshake not finished in time"),
            Self::PingTimeout => f.write_str("silent after a ping"),
            Self::Stalled => f.write_str("took no bytes for too long"),
            Self::Oversized { command, length, limit } => {
                write!(f, "unasked {command} of {length} bytes is over the stream threshold of {limit}")
            }
            Self::DisconnectedHeaders => f.write_str("headers that do not follow from each other"),
            Self::BadPartialTree(error) => write!(f, "merkleblock with a broken tree: {error}"),
            Self::BadProof(error) => write!(f, "hdrsen without proof: {error}"),
            Self::BadBlock(fault) => write!(f, "false block: {fault}"),
            Self::ForgedBlock => f.write_str("sent bytes of a block that are not in it"),
            Self::BlockStalled => f.write_str("stopped in the middle of a block"),
            Self::BadMerkleRoot => f.write_str("block whose transactions do not give its merkle root"),
        }
    }
}

impl Error for ProtocolError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Frame(error) => Some(error),
            Self::Malformed { error, .. } => Some(error),
            Self::BadPartialTree(error) => Some(error),
            Self::BadProof(error) => Some(error),
            Self::BadBlock(fault) => Some(fault),
            _ => None,
        }
    }
}

impl From<FrameError> for ProtocolError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}
