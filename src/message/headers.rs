//! `getheaders` and `headers`: how the chain of block headers is fetched.
//!
//! Sections 2.8 and 2.11 of the wire specification (the node's `src/net/net_processing.cpp`).

use super::{BlockHeader, PROTOCOL_VERSION};
use crate::wire::{BlockHash, DecodeError, Reader, write_compact_size};

/// The payload of `getheaders`: asks for the headers that follow the first locator hash on the active chain.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | version | 4 | little-endian, ignored |
/// | count | 1 to 9 | compact size |
/// | locator | 32 each | hashes, newest first |
/// | stop | 32 | hash of the last header wanted, zero for none |
///
/// With an empty locator the reply is the one header of `stop`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GetHeaders {
    /// Ignored by nodes.
    pub version: u32,
    /// Hashes of blocks the sender has, newest first.
    pub locator: Vec<BlockHash>,
    /// The last header wanted; zero for as many as there are, up to 2,000.
    pub stop: BlockHash,
}

impl GetHeaders {
    /// Asks for all headers after `locator`.
    #[must_use]
    pub fn new(locator: impl Into<Vec<BlockHash>>) -> Self {
        Self { version: PROTOCOL_VERSION.unsigned_abs(), locator: locator.into(), stop: BlockHash::ZERO }
    }

    /// Ends the reply with the header of `stop`.
    #[must_use]
    pub fn stop_at(mut self, stop: BlockHash) -> Self {
        self.stop = stop;
        self
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = reader.u32()?;
        let count = reader.count(32)?;
        let locator = reader.items(count, |reader| Ok(BlockHash::from_wire(reader.array()?)))?;
        Ok(Self { version, locator, stop: BlockHash::from_wire(reader.array()?) })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_le_bytes());
        write_compact_size(out, self.locator.len() as u64);
        for hash in &self.locator {
            out.extend_from_slice(hash.as_wire());
        }
        out.extend_from_slice(self.stop.as_wire());
    }
}

/// Reads `headers`: a compact size, at most 2,000, then per item 80 bytes and a transaction count that means nothing.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Vec<BlockHeader>, DecodeError> {
    let count = reader.count(ITEM_LEN)?;
    if count > MAX_HEADERS {
        return Err(DecodeError::TooManyItems { count: count as u64, limit: MAX_HEADERS as u64 });
    }
    reader.items(count, |reader| {
        let header = BlockHeader::decode(&reader.array()?);
        reader.compact_size()?;
        Ok(header)
    })
}

pub(super) fn write(headers: &[BlockHeader], out: &mut Vec<u8>) {
    write_compact_size(out, headers.len() as u64);
    for header in headers {
        out.extend_from_slice(&header.encode());
        // The node always writes a transaction count of zero.
        out.push(0);
    }
}

/// The smallest item: a header and one byte of transaction count.
pub(super) const ITEM_LEN: usize = BlockHeader::LEN + 1;
/// `MAX_HEADERS_RESULTS` of the node.
const MAX_HEADERS: usize = 2_000;
