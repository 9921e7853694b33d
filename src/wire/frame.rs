//! A whole frame, header and payload, encoded once and shared by every peer it is sent to.
//!
//! Layer 1.

use std::ops::Deref;

use super::{Command, FrameHeader, SharedBytes, sha256d};

/// An encoded frame: shared bytes that start with its header.
///
/// Cloning copies no bytes, so a frame for many peers is encoded and hashed once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    bytes: SharedBytes,
    command: Command,
    /// Bytes of the header at the start.
    header_len: usize,
}

impl Frame {
    /// Encodes a frame around the payload that `write_payload` appends.
    #[must_use]
    pub fn encode(magic: [u8; 4], command: Command, write_payload: impl FnOnce(&mut Vec<u8>)) -> Self {
        Self::encode_sized(magic, command, 0, write_payload)
    }

    /// Encodes a frame in one allocation if the payload has no more than `payload_len_hint` bytes.
    pub(crate) fn encode_sized(
        magic: [u8; 4],
        command: Command,
        payload_len_hint: usize,
        write_payload: impl FnOnce(&mut Vec<u8>),
    ) -> Self {
        // The basic header's place is kept free, so that the payload is written where it stays.
        let mut bytes = Vec::with_capacity(FrameHeader::BASIC_LEN + payload_len_hint);
        bytes.resize(FrameHeader::BASIC_LEN, 0);
        write_payload(&mut bytes);
        let payload = &bytes[FrameHeader::BASIC_LEN..];
        let digest = sha256d(payload);
        let checksum = [digest[0], digest[1], digest[2], digest[3]];
        let header = FrameHeader::new(magic, command, payload.len() as u64, checksum);
        let mut encoded = Vec::with_capacity(FrameHeader::EXTENDED_LEN);
        header.encode(&mut encoded);
        bytes.splice(..FrameHeader::BASIC_LEN, encoded);
        Self { bytes: bytes.into(), command, header_len: header.encoded_len() }
    }

    /// Encodes a frame around a payload whose digest (double SHA-256) is known, as that of a transaction is.
    ///
    /// A wrong digest makes a frame that no peer accepts.
    #[must_use]
    pub fn with_digest(magic: [u8; 4], command: Command, payload: &[u8], digest: &[u8; 32]) -> Self {
        let checksum = [digest[0], digest[1], digest[2], digest[3]];
        let header = FrameHeader::new(magic, command, payload.len() as u64, checksum);
        let mut bytes = Vec::with_capacity(header.encoded_len() + payload.len());
        header.encode(&mut bytes);
        bytes.extend_from_slice(payload);
        Self { bytes: bytes.into(), command, header_len: header.encoded_len() }
    }

    /// The frame's command.
    #[must_use]
    pub const fn command(&self) -> Command {
        self.command
    }

    /// The payload behind the header.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.bytes[self.header_len..]
    }
}

/// The frame's bytes, header included.
impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}
