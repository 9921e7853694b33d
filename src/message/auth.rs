//! `authch`: a challenge that miners answer and everyone else ignores.
//!
//! Section 2.35 of the wire specification (the node's `src/net/authconn.h`).

use crate::wire::{DecodeError, Reader};

/// The payload of `authch`; SV Node sends it to everyone after the handshake.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | version | 4 | little-endian; 1 |
/// | length | 4 | little-endian; 32 |
/// | challenge | length | random |
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AuthCh {
    /// The version of the challenge.
    pub version: u32,
    /// What is to be signed.
    #[cfg_attr(feature = "serde", serde(with = "super::hex::bytes"))]
    pub challenge: Vec<u8>,
}

impl AuthCh {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = reader.u32()?;
        let length = usize::try_from(reader.u32()?).map_err(|_| DecodeError::UnexpectedEnd)?;
        Ok(Self { version, challenge: reader.take(length)?.to_vec() })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_le_bytes());
        // A payload never holds 4 GiB, so the length of what was read always fits.
        out.extend_from_slice(&(self.challenge.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.challenge);
    }
}
