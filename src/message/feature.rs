//! `sendcmpct`: asks for new blocks in compact form.
//!
//! Section 2.25 of the wire specification (BIP 152; the node's `src/net/net_processing.cpp`).

use crate::wire::{DecodeError, Reader};

/// The payload of `sendcmpct`.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | announce | 1 | zero or not |
/// | version | 8 | little-endian; only 1 means anything |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SendCmpct {
    /// Whether compact blocks may be sent unasked.
    pub announce: bool,
    /// The version of the compact form.
    pub version: u64,
}

impl SendCmpct {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { announce: reader.bool()?, version: reader.u64()? })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.announce));
        out.extend_from_slice(&self.version.to_le_bytes());
    }
}
