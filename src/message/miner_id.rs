//! `revokemid`: a miner gives up an identity whose key has been compromised.
//!
//! Section 2.34 of the wire specification (the node's `src/miner_id/revokemid.h`).

use crate::wire::{DecodeError, Reader, write_bytes};

/// The payload of `revokemid`. Its signatures are not checked.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | version | 4 | little-endian; 0 |
/// | revocation key | 33 | compressed public key |
/// | miner id | 33 | compressed public key |
/// | revocation message | 33 | compressed public key |
/// | signatures | 1 + n | byte string that holds exactly: length 1, signature, length 1, signature |
///
/// Both signatures are over the single SHA-256 of the revocation message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RevokeMid {
    /// The version of the message.
    pub version: u32,
    /// The key that may revoke the identity.
    #[cfg_attr(feature = "serde", serde(with = "super::hex::array"))]
    pub revocation_key: [u8; KEY_LEN],
    /// The identity the miner has now.
    #[cfg_attr(feature = "serde", serde(with = "super::hex::array"))]
    pub miner_id: [u8; KEY_LEN],
    /// The identity that is given up.
    #[cfg_attr(feature = "serde", serde(with = "super::hex::array"))]
    pub revocation_message: [u8; KEY_LEN],
    /// By the revocation key, in DER.
    pub revocation_signature: Signature,
    /// By the miner id, in DER.
    pub miner_id_signature: Signature,
}

impl RevokeMid {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (version, revocation_key, miner_id, revocation_message) =
            (reader.u32()?, reader.array()?, reader.array()?, reader.array()?);
        let mut signatures = Reader::new(reader.bytes()?);
        let invalid = |_| DecodeError::InvalidValue { field: "revocation_message_sig" };
        let revocation_signature = Signature::read(&mut signatures).map_err(invalid)?;
        let miner_id_signature = Signature::read(&mut signatures).map_err(invalid)?;
        if !signatures.is_empty() {
            return Err(DecodeError::InvalidValue { field: "revocation_message_sig" });
        }
        Ok(Self { version, revocation_key, miner_id, revocation_message, revocation_signature, miner_id_signature })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_le_bytes());
        for key in [&self.revocation_key, &self.miner_id, &self.revocation_message] {
            out.extend_from_slice(key);
        }
        let mut signatures = Vec::new();
        for signature in [&self.revocation_signature, &self.miner_id_signature] {
            // A signature has at most 255 bytes.
            signatures.push(signature.0.len() as u8);
            signatures.extend_from_slice(&signature.0);
        }
        write_bytes(out, &signatures);
    }
}

/// The bytes of a signature, at most 255 of them; nothing says that they are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Signature(#[cfg_attr(feature = "serde", serde(with = "super::hex::bytes"))] Vec<u8>);

impl Signature {
    /// The most bytes that fit its length field.
    pub const MAX_LEN: usize = 255;

    /// Takes the bytes; `None` if there are more than fit.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Option<Self> {
        let bytes = bytes.into();
        (bytes.len() <= Self::MAX_LEN).then_some(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = reader.u8()?;
        Ok(Self(reader.take(length.into())?.to_vec()))
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: Vec<u8> = super::hex::bytes::deserialize(deserializer)?;
        Self::new(bytes).ok_or_else(|| serde::de::Error::custom("a signature has at most 255 bytes"))
    }
}

/// A compressed public key.
const KEY_LEN: usize = 33;

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(signatures: &[u8]) -> Vec<u8> {
        let mut payload = vec![0; 4 + 3 * KEY_LEN];
        write_bytes(&mut payload, signatures);
        payload
    }

    #[test]
    fn signatures_must_fill_their_field_exactly() {
        let read = |signatures: &[u8]| RevokeMid::read(&mut Reader::new(&payload(signatures)));
        let whole = read(&[2, 7, 8, 1, 9]).unwrap();
        assert_eq!(whole.revocation_signature.as_bytes(), [7, 8]);
        assert_eq!(whole.miner_id_signature.as_bytes(), [9]);
        let invalid = Err(DecodeError::InvalidValue { field: "revocation_message_sig" });
        for broken in [&[][..], &[2, 7, 8], &[2, 7, 8, 2, 9], &[2, 7, 8, 1, 9, 0], &[200, 7, 8, 1, 9]] {
            assert_eq!(read(broken), invalid, "{broken:?}");
        }
        assert_eq!(Signature::new([0; 256]), None);
    }
}
