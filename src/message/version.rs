//! `version`, the first message of a connection, and the services a peer offers.
//!
//! Sections 2.1 and 6.9 of the wire specification (the node's `src/net/net_processing.cpp`, `src/protocol.h`).

use std::fmt;
use std::ops::BitOr;

use super::{NetworkAddress, Text};
use crate::wire::{DecodeError, Reader, write_bytes};

/// The protocol version this library speaks, that of SV Node since 1.0.10.
pub const PROTOCOL_VERSION: i32 = 70016;

/// The payload of `version`.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | version | 4 | little-endian |
/// | services | 8 | little-endian |
/// | timestamp | 8 | Unix seconds, little-endian |
/// | receiver | 26 | address without a time |
/// | sender | 26 | address without a time |
/// | nonce | 8 | little-endian |
/// | user agent | 1 + n | byte string, at most 256 |
/// | start height | 4 | little-endian |
/// | relay | 1 | zero: announce no transactions to me |
/// | association id | 1 + n | byte string, at most 129 |
///
/// A peer may end it after the receiver, the nonce, or any field behind that, but not inside a field. Of a shortened
/// message the nonce reads as 0, the user agent as empty, the start height as -1, the rest as `None`; it encodes to
/// its own length again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Version {
    /// The protocol version; SV Node refuses those below 31800.
    pub version: i32,
    /// What the sender offers.
    pub services: Services,
    /// The sender's clock in Unix seconds.
    pub timestamp: i64,
    /// The address the sender has for the receiver.
    pub receiver: NetworkAddress,
    /// The sender's own address; nodes leave it zero and ignore it.
    pub sender: NetworkAddress,
    /// Random, to notice a connection to oneself.
    pub nonce: u64,
    /// The sender's program; SV Node bans those that hold `abc`, `cash` or `bch`.
    pub user_agent: Text,
    /// The height of the sender's best block; -1 if it has none to offer.
    pub start_height: i32,
    /// Whether transactions may be announced to the sender; `None`, the field absent, means yes.
    pub relay: Option<bool>,
    /// Names the association that this connection opens; written only if `relay` is there. Empty is the null id.
    #[cfg_attr(feature = "serde", serde(default, with = "super::hex::optional_bytes"))]
    pub association_id: Option<Vec<u8>>,
    /// Where the message ends if that is before the start height.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    ends_after: Option<EarlyEnd>,
}

/// The groups before the relay byte after which a shortened `version` may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
enum EarlyEnd {
    Receiver,
    Nonce,
    UserAgent,
}

impl Version {
    /// A complete message of our protocol version that wants transactions announced and names no association.
    #[must_use]
    pub fn new(
        services: Services,
        nonce: u64,
        user_agent: impl Into<Text>,
        start_height: i32,
        timestamp: i64,
    ) -> Self {
        Self {
            version: PROTOCOL_VERSION,
            services,
            timestamp,
            receiver: NetworkAddress::UNSPECIFIED,
            sender: NetworkAddress { services, ..NetworkAddress::UNSPECIFIED },
            nonce,
            user_agent: user_agent.into(),
            start_height,
            relay: Some(true),
            association_id: None,
            ends_after: None,
        }
    }

    /// Whether transactions may be announced to the sender.
    #[must_use]
    pub fn wants_relay(&self) -> bool {
        self.relay.unwrap_or(true)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut this = Self {
            version: reader.i32()?,
            services: Services(reader.u64()?),
            timestamp: reader.i64()?,
            receiver: NetworkAddress::read(reader)?,
            sender: NetworkAddress::UNSPECIFIED,
            nonce: 0,
            user_agent: Text::default(),
            start_height: -1,
            relay: None,
            association_id: None,
            ends_after: None,
        };
        if reader.is_empty() {
            this.ends_after = Some(EarlyEnd::Receiver);
            return Ok(this);
        }
        this.sender = NetworkAddress::read(reader)?;
        this.nonce = reader.u64()?;
        if reader.is_empty() {
            this.ends_after = Some(EarlyEnd::Nonce);
            return Ok(this);
        }
        this.user_agent = Text::from_bytes(reader.bytes_up_to("user_agent", MAX_USER_AGENT_LEN)?);
        if reader.is_empty() {
            this.ends_after = Some(EarlyEnd::UserAgent);
            return Ok(this);
        }
        this.start_height = reader.i32()?;
        if !reader.is_empty() {
            this.relay = Some(reader.bool()?);
        }
        if !reader.is_empty() {
            let id = reader.bytes_up_to("association_id", MAX_ASSOCIATION_ID_LEN)?;
            this.association_id = Some(id.to_vec());
        }
        Ok(this)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.services.0.to_le_bytes());
        out.extend_from_slice(&self.timestamp.to_le_bytes());
        self.receiver.write(out);
        if self.ends_after == Some(EarlyEnd::Receiver) {
            return;
        }
        self.sender.write(out);
        out.extend_from_slice(&self.nonce.to_le_bytes());
        if self.ends_after == Some(EarlyEnd::Nonce) {
            return;
        }
        write_bytes(out, self.user_agent.as_bytes());
        if self.ends_after == Some(EarlyEnd::UserAgent) {
            return;
        }
        out.extend_from_slice(&self.start_height.to_le_bytes());
        let Some(relay) = self.relay else { return };
        out.push(u8::from(relay));
        if let Some(id) = &self.association_id {
            write_bytes(out, id);
        }
    }
}

/// What a peer offers: bits of a 64-bit number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Services(pub u64);

impl Services {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Serves whole blocks; a pruned node does not set it.
    pub const NETWORK: Self = Self(0x01);
    /// Filters by bloom filter.
    pub const BLOOM: Self = Self(0x04);
    /// Set by every SV Node since the fork of 2017; says nothing about the chain.
    pub const BITCOIN_CASH: Self = Self(0x20);

    /// Whether all of `other`'s bits are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Services {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Services({self})")
    }
}

/// Writes the number in hexadecimal, as in `0x21`.
impl fmt::Display for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x}", self.0)
    }
}

/// `MAX_SUBVERSION_LENGTH` of the node.
const MAX_USER_AGENT_LEN: usize = 256;
/// `MAX_ASSOCIATION_ID_LENGTH` of the node: a type byte and up to 128 bytes.
const MAX_ASSOCIATION_ID_LEN: usize = 129;
