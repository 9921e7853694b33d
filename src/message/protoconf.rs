//! `protoconf`, in which a peer says what it accepts.
//!
//! Section 2.29 of the wire specification (the node's `src/protocol.h`, `CProtoconf`).

use super::Text;
use crate::wire::{DecodeError, Reader, write_bytes, write_compact_size};

/// The payload of `protoconf`: sent once, right after our `verack`.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | number of fields | 1 | compact size, at least 1 |
/// | largest payload | 4 | little-endian, at least 1,048,576 |
/// | stream policies | 1 + n | byte string, comma separated, at most 650; only if there are two fields |
///
/// Further fields are ignored and not written again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ProtoConf {
    /// The largest payload the sender accepts, in bytes; `tx`, `block` and others have limits of their own.
    pub max_recv_payload_length: u32,
    /// Names of the stream policies the sender knows; a node may refuse a list without `Default`.
    pub stream_policies: Option<Text>,
}

impl ProtoConf {
    /// The smallest payload limit that may be announced, in bytes.
    pub const MIN_RECV_PAYLOAD_LENGTH: u32 = 1_048_576;

    /// A message of two fields.
    #[must_use]
    pub fn new(max_recv_payload_length: u32, stream_policies: impl Into<Text>) -> Self {
        Self { max_recv_payload_length, stream_policies: Some(stream_policies.into()) }
    }

    /// The names in the list of stream policies.
    pub fn policies(&self) -> impl Iterator<Item = &str> {
        self.stream_policies.iter().flat_map(|list| list.split(','))
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let fields = reader.compact_size()?;
        if fields == 0 {
            return Err(DecodeError::InvalidValue { field: "number_of_fields" });
        }
        let max_recv_payload_length = reader.u32()?;
        if max_recv_payload_length < Self::MIN_RECV_PAYLOAD_LENGTH {
            return Err(DecodeError::InvalidValue { field: "max_recv_payload_length" });
        }
        let stream_policies = if fields >= 2 {
            Some(Text::from_bytes(reader.bytes_up_to("stream_policies", MAX_STREAM_POLICIES_LEN)?))
        } else {
            None
        };
        Ok(Self { max_recv_payload_length, stream_policies })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write_compact_size(out, 1 + u64::from(self.stream_policies.is_some()));
        out.extend_from_slice(&self.max_recv_payload_length.to_le_bytes());
        if let Some(policies) = &self.stream_policies {
            write_bytes(out, policies.as_bytes());
        }
    }
}

/// Of the whole list (section 1.5 of the wire specification).
const MAX_STREAM_POLICIES_LEN: usize = 650;
