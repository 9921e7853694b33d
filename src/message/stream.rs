//! `createstrm` and `streamack`: further connections to a peer one is connected to already.
//!
//! Sections 2.30, 2.31 and 3.5 of the wire specification (the node's `src/net/stream.h`, `src/net/association_id.h`).

use super::Text;
use crate::wire::{DecodeError, Reader, write_bytes};

/// The payload of `createstrm`: the only message a new connection opens with that joins an association.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | association id | 1 + n | byte string, at most 129: a type byte and up to 128 |
/// | stream type | 1 | |
/// | stream policy | 1 + n | byte string, at most 64; empty keeps the policy |
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CreateStrm {
    /// The id from the association's `version`: a type byte, 0 for a UUID, and the rest. Nodes refuse an empty one.
    #[cfg_attr(feature = "serde", serde(with = "super::hex::bytes"))]
    pub association_id: Vec<u8>,
    /// What the connection is for.
    pub stream_type: StreamType,
    /// The name of the policy that says which message takes which stream.
    pub stream_policy: Text,
}

impl CreateStrm {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            association_id: read_association_id(reader)?,
            stream_type: reader.u8()?.into(),
            stream_policy: Text::from_bytes(reader.bytes_up_to("stream_policy", MAX_POLICY_NAME_LEN)?),
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write_bytes(out, &self.association_id);
        out.push(self.stream_type.into());
        write_bytes(out, self.stream_policy.as_bytes());
    }
}

/// The payload of `streamack`: repeats what a `createstrm` asked for, on the new connection.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | association id | 1 + n | byte string, at most 129 |
/// | stream type | 1 | |
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct StreamAck {
    /// That of the `createstrm`.
    #[cfg_attr(feature = "serde", serde(with = "super::hex::bytes"))]
    pub association_id: Vec<u8>,
    /// That of the `createstrm`.
    pub stream_type: StreamType,
}

impl StreamAck {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { association_id: read_association_id(reader)?, stream_type: reader.u8()?.into() })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write_bytes(out, &self.association_id);
        out.push(self.stream_type.into());
    }
}

/// What a connection of an association is for.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum StreamType {
    /// 0: not said.
    Unspecified,
    /// 1: the association's first connection, for whatever has no other.
    General,
    /// 2: under the policy `BlockPriority` for pings, headers and blocks.
    Data1,
    /// 3: not used by any policy of SV Node.
    Data2,
    /// 4: not used by any policy of SV Node.
    Data3,
    /// 5: not used by any policy of SV Node.
    Data4,
    /// Any other number, which nodes refuse.
    Other(u8),
}

impl From<u8> for StreamType {
    fn from(number: u8) -> Self {
        match number {
            0 => Self::Unspecified,
            1 => Self::General,
            2 => Self::Data1,
            3 => Self::Data2,
            4 => Self::Data3,
            5 => Self::Data4,
            other => Self::Other(other),
        }
    }
}

impl From<StreamType> for u8 {
    fn from(stream: StreamType) -> Self {
        match stream {
            StreamType::Unspecified => 0,
            StreamType::General => 1,
            StreamType::Data1 => 2,
            StreamType::Data2 => 3,
            StreamType::Data3 => 4,
            StreamType::Data4 => 5,
            StreamType::Other(other) => other,
        }
    }
}

fn read_association_id(reader: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
    Ok(reader.bytes_up_to("association_id", MAX_ASSOCIATION_ID_LEN)?.to_vec())
}

/// A type byte and up to 128 bytes (section 1.5 of the wire specification).
const MAX_ASSOCIATION_ID_LEN: usize = 129;
/// Of one name (section 1.5 of the wire specification).
const MAX_POLICY_NAME_LEN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_over_the_limits_are_refused() {
        let payload = |id: usize, policy: usize| {
            let mut out = Vec::new();
            CreateStrm {
                association_id: vec![0; id],
                stream_type: StreamType::Data1,
                stream_policy: "p".repeat(policy).into(),
            }
            .write(&mut out);
            out
        };
        assert!(CreateStrm::read(&mut Reader::new(&payload(129, 64))).is_ok());
        let too_long = |field, length, limit| Err(DecodeError::FieldTooLong { field, length, limit });
        let read = |payload: &[u8]| CreateStrm::read(&mut Reader::new(payload));
        assert_eq!(read(&payload(130, 0)), too_long("association_id", 130, 129));
        assert_eq!(read(&payload(0, 65)), too_long("stream_policy", 65, 64));
        assert_eq!(
            StreamAck::read(&mut Reader::new(&payload(130, 0))),
            Err(DecodeError::FieldTooLong { field: "association_id", length: 130, limit: 129 })
        );
    }

    #[test]
    fn every_number_is_a_stream_type_and_back() {
        for number in 0..=u8::MAX {
            assert_eq!(u8::from(StreamType::from(number)), number);
        }
        assert_eq!(StreamType::from(6), StreamType::Other(6));
    }
}
