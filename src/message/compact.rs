//! `cmpctblock`, `getblocktxn` and `blocktxn`: a block of which the receiver knows most transactions.
//!
//! Sections 2.26 to 2.28 and 6.6 of the wire specification (BIP 152; the node's `src/blockencodings.h`).

use super::merkle_proof::read_u32;
use super::payload::Payload;
use super::{Block, BlockHeader, ShortId, ShortIdKey, TransactionView, Transactions};
use crate::wire::{BlockHash, DecodeError, Reader, SharedBytes, compact_size_len, write_compact_size};

/// The payload of `cmpctblock`: a block with short ids in place of most transactions.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | header | 80 | |
/// | nonce | 8 | little-endian |
/// | short ids | 6 each | compact size, then the ids, little-endian |
/// | prefilled | 11 and more each | compact size, then per item: index as a difference (compact size), transaction |
///
/// The short ids stand for the transactions that are not prefilled, in block order.
/// [`reconstruct`](Self::reconstruct) makes the block of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactBlock {
    header: BlockHeader,
    nonce: u64,
    short_ids: Vec<ShortId>,
    /// The prefilled transactions as on the wire; every length and every index in it is checked.
    prefilled: SharedBytes,
    prefilled_count: usize,
}

impl CompactBlock {
    /// The compact form of a block, with its coinbase prefilled as nodes do.
    #[must_use]
    pub fn new(block: &Block, nonce: u64) -> Self {
        Self::with_prefilled(block, nonce, |index| index == 0)
    }

    /// The compact form of a block, with the transactions prefilled whose index `is_prefilled` picks.
    #[must_use]
    pub fn with_prefilled(block: &Block, nonce: u64, is_prefilled: impl Fn(u32) -> bool) -> Self {
        let key = ShortIdKey::new(block.header(), nonce);
        let mut short_ids = Vec::new();
        let mut prefilled = PrefilledWriter::default();
        for (index, transaction) in (0..).zip(block.transactions()) {
            if is_prefilled(index) {
                prefilled.push(index, transaction);
            } else {
                short_ids.push(key.short_id(transaction.txid()));
            }
        }
        Self {
            header: *block.header(),
            nonce,
            short_ids,
            prefilled: prefilled.raw.into(),
            prefilled_count: prefilled.count,
        }
    }

    /// The block's header.
    #[must_use]
    pub const fn header(&self) -> &BlockHeader {
        &self.header
    }

    /// Makes short ids differ from one sender to the next.
    #[must_use]
    pub const fn nonce(&self) -> u64 {
        self.nonce
    }

    /// The short ids of the transactions that are not prefilled, in block order.
    #[must_use]
    pub fn short_ids(&self) -> &[ShortId] {
        &self.short_ids
    }

    /// The transactions that are there, each with its index in the block, read in place.
    #[must_use]
    pub fn prefilled(&self) -> Prefilled<'_> {
        Prefilled { reader: Reader::new(&self.prefilled), remaining: self.prefilled_count, next: 0 }
    }

    /// How many transactions the block has.
    #[must_use]
    pub fn transaction_count(&self) -> usize {
        self.short_ids.len() + self.prefilled_count
    }

    /// What the short ids are made with.
    #[must_use]
    pub fn short_id_key(&self) -> ShortIdKey {
        ShortIdKey::new(&self.header, self.nonce)
    }

    pub(super) fn read(reader: &mut Reader<'_>, payload: Payload<'_>) -> Result<Self, DecodeError> {
        let header = BlockHeader::decode(&reader.array()?);
        let nonce = reader.u64()?;
        let count = reader.count(ShortId::LEN)?;
        let short_ids = reader.items(count, |reader| Ok(ShortId::from_wire(reader.array()?)))?;
        let prefilled_count = reader.count(1 + TransactionView::MIN_LEN)?;
        let start = payload.position(reader);
        let mut prefilled = Prefilled { reader: *reader, remaining: prefilled_count, next: 0 };
        for _ in 0..prefilled_count {
            prefilled.read()?;
        }
        let prefilled = payload.keep(start..payload.position(&prefilled.reader));
        Ok(Self { header, nonce, short_ids, prefilled, prefilled_count })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header.encode());
        out.extend_from_slice(&self.nonce.to_le_bytes());
        write_compact_size(out, self.short_ids.len() as u64);
        for id in &self.short_ids {
            out.extend_from_slice(id.as_wire());
        }
        write_compact_size(out, self.prefilled_count as u64);
        out.extend_from_slice(&self.prefilled);
    }

    /// Bytes of the payload, or a few more.
    pub(super) fn len_hint(&self) -> usize {
        BlockHeader::LEN + 8 + 10 + self.short_ids.len() * ShortId::LEN + self.prefilled.len()
    }
}

impl ShortId {
    /// Bytes on the wire.
    const LEN: usize = 6;
}

/// Iterates over a compact block's prefilled transactions and their indexes.
#[derive(Clone, Debug)]
pub struct Prefilled<'a> {
    reader: Reader<'a>,
    remaining: usize,
    /// The smallest index the next one may have.
    next: u64,
}

impl<'a> Prefilled<'a> {
    fn read(&mut self) -> Result<(u32, TransactionView<'a>), DecodeError> {
        let index = read_index(&mut self.reader, &mut self.next)?;
        Ok((index, TransactionView::read(&mut self.reader)?))
    }
}

impl<'a> Iterator for Prefilled<'a> {
    type Item = (u32, TransactionView<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        self.read().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl ExactSizeIterator for Prefilled<'_> {}

/// Puts prefilled transactions together, in the order of their indexes.
#[derive(Default)]
struct PrefilledWriter {
    raw: Vec<u8>,
    count: usize,
    next: u64,
}

impl PrefilledWriter {
    fn push(&mut self, index: u32, transaction: TransactionView<'_>) {
        write_index(index, &mut self.next, &mut self.raw);
        self.raw.extend_from_slice(transaction.raw());
        self.count += 1;
    }
}

/// The payload of `getblocktxn`: asks for transactions of a compact block.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | block hash | 32 | |
/// | indexes | 1 to 5 each | compact size, then the first index and the differences less one, as compact sizes |
///
/// A node may answer with the whole block. It bans for an index that the block does not have, so a request that a peer
/// ends the connection over goes to no other.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GetBlockTxn {
    /// The block.
    pub block_hash: BlockHash,
    /// Strictly increasing.
    #[cfg_attr(feature = "serde", serde(deserialize_with = "serialized::increasing"))]
    indexes: Vec<u32>,
}

impl GetBlockTxn {
    /// Asks for the transactions at these indexes, in whatever order they are given.
    #[must_use]
    pub fn new(block_hash: BlockHash, indexes: impl Into<Vec<u32>>) -> Self {
        let mut indexes = indexes.into();
        indexes.sort_unstable();
        indexes.dedup();
        Self { block_hash, indexes }
    }

    /// The indexes in the block, in increasing order.
    #[must_use]
    pub fn indexes(&self) -> &[u32] {
        &self.indexes
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let block_hash = BlockHash::from_wire(reader.array()?);
        let count = reader.count(1)?;
        let mut next = 0;
        Ok(Self { block_hash, indexes: reader.items(count, |reader| read_index(reader, &mut next))? })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.block_hash.as_wire());
        write_compact_size(out, self.indexes.len() as u64);
        let mut next = 0;
        for index in &self.indexes {
            write_index(*index, &mut next, out);
        }
    }
}

/// The payload of `blocktxn`: the transactions that a `getblocktxn` asked for, in its order.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | block hash | 32 | |
/// | count | 1 to 5 | compact size |
/// | transactions | 10 and more each | one behind the other |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockTxn {
    block_hash: BlockHash,
    /// The transactions as on the wire; every length in it is checked.
    raw: SharedBytes,
    count: usize,
}

impl BlockTxn {
    /// Answers with these transactions.
    #[must_use]
    pub fn new<'a>(block_hash: BlockHash, transactions: impl IntoIterator<Item = TransactionView<'a>>) -> Self {
        let (mut raw, mut count) = (Vec::new(), 0);
        for transaction in transactions {
            raw.extend_from_slice(transaction.raw());
            count += 1;
        }
        Self { block_hash, raw: raw.into(), count }
    }

    /// The block.
    #[must_use]
    pub const fn block_hash(&self) -> BlockHash {
        self.block_hash
    }

    /// The transactions, in order, read in place.
    #[must_use]
    pub fn transactions(&self) -> Transactions<'_> {
        Transactions::new(&self.raw, self.count)
    }

    pub(super) fn read(reader: &mut Reader<'_>, payload: Payload<'_>) -> Result<Self, DecodeError> {
        let block_hash = BlockHash::from_wire(reader.array()?);
        let count = reader.count(TransactionView::MIN_LEN)?;
        let start = payload.position(reader);
        for _ in 0..count {
            TransactionView::read(reader)?;
        }
        Ok(Self { block_hash, raw: payload.keep(start..payload.position(reader)), count })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.block_hash.as_wire());
        write_compact_size(out, self.count as u64);
        out.extend_from_slice(&self.raw);
    }

    /// Bytes of the payload.
    pub(crate) fn len_hint(&self) -> usize {
        32 + compact_size_len(self.count as u64) + self.raw.len()
    }
}

/// Reads an index that is written as its distance from the smallest it may have.
fn read_index(reader: &mut Reader<'_>, next: &mut u64) -> Result<u32, DecodeError> {
    let index = *next + u64::from(read_u32(reader)?);
    *next = index + 1;
    u32::try_from(index).map_err(|_| DecodeError::InvalidValue { field: "index" })
}

/// Writes an index that is at least `next`.
fn write_index(index: u32, next: &mut u64, out: &mut Vec<u8>) {
    write_compact_size(out, u64::from(index) - *next);
    *next = u64::from(index) + 1;
}

/// Transactions serialize as everywhere, indexes as such; what is read back must be in increasing order.
#[cfg(feature = "serde")]
mod serialized {
    use serde::de::Error as _;
    use serde::ser::SerializeStruct;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{BlockTxn, CompactBlock, Prefilled, PrefilledWriter};
    use crate::message::{BlockHeader, ShortId, Transaction, TransactionView};
    use crate::wire::BlockHash;

    pub(super) fn increasing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
        let indexes = Vec::<u32>::deserialize(deserializer)?;
        if indexes.is_sorted_by(|a, b| a < b) { Ok(indexes) } else { Err(D::Error::custom(NOT_INCREASING)) }
    }

    impl Serialize for CompactBlock {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut fields = serializer.serialize_struct("CompactBlock", 4)?;
            fields.serialize_field("header", &self.header)?;
            fields.serialize_field("nonce", &self.nonce)?;
            fields.serialize_field("short_ids", &self.short_ids)?;
            fields.serialize_field("prefilled", &self.prefilled())?;
            fields.end()
        }
    }

    impl Serialize for Prefilled<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            #[derive(Serialize)]
            struct Item<'a> {
                index: u32,
                transaction: TransactionView<'a>,
            }
            serializer.collect_seq(self.clone().map(|(index, transaction)| Item { index, transaction }))
        }
    }

    #[derive(Deserialize)]
    struct Fields {
        header: BlockHeader,
        nonce: u64,
        short_ids: Vec<ShortId>,
        prefilled: Vec<Item>,
    }

    #[derive(Deserialize)]
    struct Item {
        index: u32,
        transaction: Transaction,
    }

    impl<'de> Deserialize<'de> for CompactBlock {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let Fields { header, nonce, short_ids, prefilled } = Fields::deserialize(deserializer)?;
            if !prefilled.is_sorted_by(|a, b| a.index < b.index) {
                return Err(D::Error::custom(NOT_INCREASING));
            }
            let mut writer = PrefilledWriter::default();
            for item in &prefilled {
                writer.push(item.index, item.transaction.view());
            }
            Ok(Self { header, nonce, short_ids, prefilled: writer.raw.into(), prefilled_count: writer.count })
        }
    }

    impl Serialize for BlockTxn {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut fields = serializer.serialize_struct("BlockTxn", 2)?;
            fields.serialize_field("block_hash", &self.block_hash)?;
            fields.serialize_field("transactions", &self.transactions())?;
            fields.end()
        }
    }

    #[derive(Deserialize)]
    struct Answer {
        block_hash: BlockHash,
        transactions: Vec<Transaction>,
    }

    impl<'de> Deserialize<'de> for BlockTxn {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let Answer { block_hash, transactions } = Answer::deserialize(deserializer)?;
            Ok(Self::new(block_hash, transactions.iter().map(Transaction::view)))
        }
    }

    const NOT_INCREASING: &str = "indexes are not in increasing order";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(deltas: &[&[u8]]) -> Result<GetBlockTxn, DecodeError> {
        let mut payload = vec![0; 32];
        payload.push(deltas.len() as u8);
        deltas.iter().for_each(|delta| payload.extend_from_slice(delta));
        GetBlockTxn::read(&mut Reader::new(&payload))
    }

    const LARGEST: &[u8] = &[0xfe, 0xff, 0xff, 0xff, 0xff];

    #[test]
    fn indexes_are_differences_that_stay_within_32_bits() {
        assert_eq!(request(&[&[1], &[0], &[2], &[2]]).unwrap().indexes(), [1, 2, 5, 8]);
        assert_eq!(request(&[LARGEST]).unwrap().indexes(), [u32::MAX]);
        let overflow = Err(DecodeError::InvalidValue { field: "index" });
        assert_eq!(request(&[LARGEST, &[0]]), overflow);
        assert_eq!(request(&[&[0], LARGEST]), overflow);
        assert_eq!(request(&[LARGEST, LARGEST]), overflow);
        assert!(request(&[&[0], &[0xfe, 0xfe, 0xff, 0xff, 0xff]]).is_ok());
    }

    #[test]
    fn a_request_sorts_its_indexes() {
        let request = GetBlockTxn::new(BlockHash::ZERO, [5, u32::MAX, 0, 5]);
        assert_eq!(request.indexes(), [0, 5, u32::MAX]);
        let mut payload = Vec::new();
        request.write(&mut payload);
        assert_eq!(GetBlockTxn::read(&mut Reader::new(&payload)), Ok(request));
    }

    #[test]
    fn prefilled_indexes_that_overflow_are_refused() {
        let transaction = [0; 10];
        let read = |deltas: &[&[u8]]| {
            let mut payload = vec![0; 88];
            payload.extend_from_slice(&[0, deltas.len() as u8]);
            for delta in deltas {
                payload.extend_from_slice(delta);
                payload.extend_from_slice(&transaction);
            }
            CompactBlock::read(&mut Reader::new(&payload), Payload::Borrowed(&payload))
        };
        let block = read(&[&[3], &[0]]).unwrap();
        assert_eq!(block.prefilled().map(|(index, _)| index).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(read(&[LARGEST, &[0]]), Err(DecodeError::InvalidValue { field: "index" }));
    }
}
