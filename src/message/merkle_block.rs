//! `merkleblock`: a block's header and the proof of those of its transactions that match a filter.
//!
//! Sections 2.6 and 6.6 of the wire specification (BIP 37; the node's `src/merkleblock.h`).

use super::BlockHeader;
use crate::block::{PartialMerkleTree, PartialTreeError};
use crate::wire::{DecodeError, Reader, Txid, write_bytes, write_compact_size};

/// The payload of `merkleblock`; the matching transactions follow it, each as a `tx`.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | header | 80 | |
/// | total transactions | 4 | little-endian |
/// | hashes | 32 each | compact size, then the hashes depth-first |
/// | flags | 1 each | byte string, least significant bit first |
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MerkleBlock {
    /// The block's header.
    pub header: BlockHeader,
    /// Proves the matches.
    pub tree: PartialMerkleTree,
}

impl MerkleBlock {
    /// The matching transactions in block order, each with its position, proven against the header.
    ///
    /// # Errors
    ///
    /// What breaks the tree, [`PartialTreeError::WrongRoot`] if it is not the header's.
    pub fn matches(&self) -> Result<Vec<(u32, Txid)>, PartialTreeError> {
        let found = self.tree.extract()?;
        let (expected, got) = (self.header.merkle_root, found.root);
        if got == expected { Ok(found.matches) } else { Err(PartialTreeError::WrongRoot { expected, got }) }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let header = BlockHeader::decode(&reader.array()?);
        let total_transactions = reader.u32()?;
        let count = reader.count(32)?;
        let hashes = reader.items(count, Reader::array)?;
        let flags = reader.bytes()?.to_vec();
        Ok(Self { header, tree: PartialMerkleTree { total_transactions, hashes, flags } })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header.encode());
        out.extend_from_slice(&self.tree.total_transactions.to_le_bytes());
        write_compact_size(out, self.tree.hashes.len() as u64);
        for hash in &self.tree.hashes {
            out.extend_from_slice(hash);
        }
        write_bytes(out, &self.tree.flags);
    }

    /// Bytes of the payload, or a few more.
    pub(super) fn len_hint(&self) -> usize {
        BlockHeader::LEN + 4 + 10 + self.tree.hashes.len() * 32 + self.tree.flags.len()
    }
}
