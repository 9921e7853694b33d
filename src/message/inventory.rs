//! `inv`, `getdata` and `notfound`: lists of things named by kind and hash.
//!
//! Sections 2.4, 2.5, 2.17 and 6.8 of the wire specification (the node's `src/protocol.h`, `CInv`).

use crate::wire::{BlockHash, DecodeError, Reader, Txid, write_compact_size};

/// A transaction or block, named by its hash.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | kind | 4 | little-endian |
/// | hash | 32 | wire order |
///
/// The messages are a compact size and the items; only their payload's limit bounds the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Inventory {
    /// What the hash names, and in `getdata` the form it is wanted in.
    pub kind: InventoryKind,
    /// In wire order.
    #[cfg_attr(feature = "serde", serde(with = "super::hex::hash"))]
    pub hash: [u8; 32],
}

impl Inventory {
    /// Bytes on the wire.
    pub(super) const LEN: usize = 36;

    /// A transaction.
    #[must_use]
    pub const fn transaction(txid: Txid) -> Self {
        Self { kind: InventoryKind::Transaction, hash: *txid.as_wire() }
    }

    /// A block.
    #[must_use]
    pub const fn block(hash: BlockHash) -> Self {
        Self { kind: InventoryKind::Block, hash: *hash.as_wire() }
    }

    /// The txid, if this names a transaction.
    #[must_use]
    pub const fn txid(&self) -> Option<Txid> {
        match self.kind {
            InventoryKind::Transaction | InventoryKind::DataRefTransaction => Some(Txid::from_wire(self.hash)),
            _ => None,
        }
    }

    /// The block's hash, if this names a block in whatever form.
    #[must_use]
    pub const fn block_hash(&self) -> Option<BlockHash> {
        match self.kind {
            InventoryKind::Block | InventoryKind::FilteredBlock | InventoryKind::CompactBlock => {
                Some(BlockHash::from_wire(self.hash))
            }
            _ => None,
        }
    }
}

/// What an inventory item names.
///
/// In `inv` only transactions and blocks are legal: SV Node 1.2.0 and later disconnects for anything else.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum InventoryKind {
    /// 1: a transaction.
    Transaction,
    /// 2: a block.
    Block,
    /// 3: the parts of a block that match the filter.
    FilteredBlock,
    /// 4: a compact block.
    CompactBlock,
    /// 5: a transaction with its merkle proof.
    DataRefTransaction,
    /// Any other number.
    Other(u32),
}

impl From<u32> for InventoryKind {
    fn from(kind: u32) -> Self {
        match kind {
            1 => Self::Transaction,
            2 => Self::Block,
            3 => Self::FilteredBlock,
            4 => Self::CompactBlock,
            5 => Self::DataRefTransaction,
            other => Self::Other(other),
        }
    }
}

impl From<InventoryKind> for u32 {
    fn from(kind: InventoryKind) -> Self {
        match kind {
            InventoryKind::Transaction => 1,
            InventoryKind::Block => 2,
            InventoryKind::FilteredBlock => 3,
            InventoryKind::CompactBlock => 4,
            InventoryKind::DataRefTransaction => 5,
            InventoryKind::Other(other) => other,
        }
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> Result<Vec<Inventory>, DecodeError> {
    let count = reader.count(Inventory::LEN)?;
    reader.items(count, |reader| Ok(Inventory { kind: reader.u32()?.into(), hash: reader.array()? }))
}

pub(super) fn write(items: &[Inventory], out: &mut Vec<u8>) {
    write_compact_size(out, items.len() as u64);
    for item in items {
        out.extend_from_slice(&u32::from(item.kind).to_le_bytes());
        out.extend_from_slice(&item.hash);
    }
}
