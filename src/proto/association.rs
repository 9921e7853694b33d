//! Associations: which of the two connections to one peer a message takes.
//!
//! Layer 3. Sections 3.5 and 3.6 of the wire specification (the node's `src/net/association_id.h`,
//! `src/net/stream_policy.cpp`).

use crate::message::{InventoryKind, Message};

/// Names an association: a type byte, 0 for a UUID, and 16 random ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AssociationId([u8; Self::LEN]);

impl AssociationId {
    pub(crate) const LEN: usize = 17;

    /// An id of 16 random bytes.
    pub(crate) const fn new(random: u128) -> Self {
        let mut bytes = [UUID; Self::LEN];
        bytes.split_at_mut(1).1.copy_from_slice(&random.to_le_bytes());
        Self(bytes)
    }

    /// Reads what a peer sent; `None` if it is empty, or of a type that nodes refuse.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().filter(|bytes: &[u8; Self::LEN]| bytes[0] == UUID).map(Self)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// One of the connections of an association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// The first one.
    General,
    /// The one for pings, headers and blocks.
    Data1,
}

/// The connection that a message takes under the policy `BlockPriority`, if there are two.
pub(crate) fn stream_of(message: &Message) -> Stream {
    let is_block = |kind: InventoryKind| {
        matches!(kind, InventoryKind::Block | InventoryKind::FilteredBlock | InventoryKind::CompactBlock)
    };
    let goes_first = match message {
        Message::Ping { .. }
        | Message::Pong { .. }
        | Message::GetHeaders(_)
        | Message::Headers(_)
        | Message::GetHdrsEn(_)
        | Message::HdrsEn(_)
        | Message::Block(_)
        | Message::CmpctBlock(_)
        | Message::GetBlockTxn(_)
        | Message::BlockTxn(_) => true,
        Message::GetData(items) | Message::Inv(items) => {
            !items.is_empty() && items.iter().all(|item| is_block(item.kind))
        }
        _ => false,
    };
    if goes_first { Stream::Data1 } else { Stream::General }
}

/// The policy that a connection of its own for pings, headers and blocks belongs to.
pub(crate) const BLOCK_PRIORITY: &str = "BlockPriority";
/// The type of an id that is a UUID.
const UUID: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{GetHeaders, Inventory};
    use crate::wire::BlockHash;

    #[test]
    fn ids_are_read_as_they_are_written_and_others_are_none() {
        let id = AssociationId::new(1 << 64 | 2);
        assert_eq!(AssociationId::from_bytes(id.as_bytes()), Some(id));
        assert_eq!(AssociationId::from_bytes(&[]), None);
        assert_eq!(AssociationId::from_bytes(&[0]), None);
        assert_eq!(AssociationId::from_bytes(&[1; 17]), None);
        assert_eq!(AssociationId::from_bytes(&[0; 18]), None);
    }

    #[test]
    fn messages_take_the_stream_of_the_policy() {
        let block = Inventory::block(BlockHash::ZERO);
        let transaction = Inventory { kind: InventoryKind::Transaction, hash: [0; 32] };
        let compact = Inventory { kind: InventoryKind::CompactBlock, hash: [0; 32] };
        let of = |message: Message| stream_of(&message);
        assert_eq!(of(Message::GetData(vec![block, compact])), Stream::Data1);
        assert_eq!(of(Message::GetData(vec![block, transaction])), Stream::General);
        assert_eq!(of(Message::GetData(Vec::new())), Stream::General);
        assert_eq!(of(Message::Inv(vec![block])), Stream::Data1);
        assert_eq!(of(Message::Inv(vec![transaction])), Stream::General);
        assert_eq!(of(Message::GetHeaders(GetHeaders::new([]))), Stream::Data1);
        assert_eq!(of(Message::Ping { nonce: 1 }), Stream::Data1);
        assert_eq!(of(Message::GetAddr), Stream::General);
        assert_eq!(of(Message::SendHeaders), Stream::General);
    }
}
