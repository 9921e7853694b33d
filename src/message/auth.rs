//! `authch` and `authresp`: a challenge that miners answer and everyone else ignores.
//!
//! Sections 2.35 and 2.36 of the wire specification (the node's `src/net/authconn.h`).

use crate::wire::{DecodeError, Reader, sha256d, write_bytes};

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

/// The payload of `authresp`: answers an `authch`. Its signature is not checked.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | public key | 1 + n | byte string; 33 bytes |
/// | client nonce | 8 | little-endian |
/// | signature | 1 + n | byte string, in DER; 70 to 72 bytes |
///
/// What is signed is [`signed_digest`](Self::signed_digest).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AuthResp {
    /// The sender's compressed public key.
    #[cfg_attr(feature = "serde", serde(with = "super::hex::bytes"))]
    pub public_key: Vec<u8>,
    /// Chosen by the sender.
    pub client_nonce: u64,
    /// By that key.
    #[cfg_attr(feature = "serde", serde(with = "super::hex::bytes"))]
    pub signature: Vec<u8>,
}

impl AuthResp {
    /// The digest that the signature should be over, given the challenge of the `authch`.
    #[must_use]
    pub fn signed_digest(&self, challenge: &[u8]) -> [u8; 32] {
        sha256d(&[challenge, &self.client_nonce.to_le_bytes()].concat())
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            public_key: reader.bytes()?.to_vec(),
            client_nonce: reader.u64()?,
            signature: reader.bytes()?.to_vec(),
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write_bytes(out, &self.public_key);
        out.extend_from_slice(&self.client_nonce.to_le_bytes());
        write_bytes(out, &self.signature);
    }
}
