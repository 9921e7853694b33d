//! `headers`: the chain of block headers as it is fetched.
//!
//! Section 2.11 of the wire specification (the node's `src/net/net_processing.cpp`).

use super::BlockHeader;
use crate::wire::{DecodeError, Reader, write_compact_size};

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
pub(super) const MAX_HEADERS: usize = 2_000;
