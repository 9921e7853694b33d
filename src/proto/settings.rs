//! What every connection of one conduit, or of one test node, has in common; and what its peer told us.
//!
//! Layer 3.

use std::time::Duration;

use crate::message::{ProtoConf, Services};
use crate::wire::{Command, PayloadLimits};

/// Who dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Link {
    /// The peer dialled us.
    Inbound,
    /// We dialled the peer.
    Outbound,
}

/// Settings shared by all connections of one owner.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) magic: [u8; 4],
    pub(crate) user_agent: String,
    pub(crate) services: Services,
    pub(crate) start_height: i32,
    /// Whether the peer shall announce transactions to us.
    pub(crate) relay: bool,
    /// What our `protoconf` announces, and the limit of every command without one of its own; bytes.
    pub(crate) max_recv_payload_length: u32,
    /// Whether a second connection joins the first one, where the peer knows how to.
    pub(crate) streams: bool,
    /// Payloads above this are skipped without storing them; bytes.
    pub(crate) stream_threshold: u64,
    pub(crate) handshake_timeout: Duration,
    pub(crate) ping_interval: Duration,
    pub(crate) ping_timeout: Duration,
    pub(crate) stall_timeout: Duration,
}

impl Settings {
    pub(crate) fn payload_limits(&self) -> PayloadLimits {
        PayloadLimits { general: u64::from(self.max_recv_payload_length), block: u64::MAX }
    }

    pub(crate) fn protoconf(&self) -> ProtoConf {
        // Always `Default`: a list without a policy the node knows can get us disconnected (trap 1).
        let policies = if self.streams { "BlockPriority,Default" } else { "Default" };
        ProtoConf::new(self.max_recv_payload_length, policies)
    }
}

/// What the peer accepts from us, in bytes of payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerLimits {
    max_recv_payload_length: u32,
}

impl PeerLimits {
    pub(crate) const fn new(max_recv_payload_length: u32) -> Self {
        Self { max_recv_payload_length }
    }

    pub(crate) const fn max_recv_payload_length(self) -> u32 {
        self.max_recv_payload_length
    }

    /// The largest payload the peer takes for `command`; more would get us banned (section 1.4).
    pub(crate) fn of(self, command: Command) -> u64 {
        // Whatever the peer's block limit is, it is far above anything we hold in memory.
        PayloadLimits { general: u64::from(self.max_recv_payload_length), block: u64::MAX }.of(command)
    }
}

/// The least a node may announce, so what it takes before it has said so (`LEGACY_MAX_PROTOCOL_PAYLOAD_LENGTH`).
impl Default for PeerLimits {
    fn default() -> Self {
        Self::new(1_048_576)
    }
}
