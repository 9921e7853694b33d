//! `hdrsen`: block headers with their transaction counts and their proven coinbase transactions.
//!
//! Section 2.12 of the wire specification (the node's `src/net/net_processing.cpp`, `CBlockHeaderEnriched`).

use super::headers::MAX_HEADERS;
use super::merkle_proof::read_u32;
use super::payload::Payload;
use super::{BlockHeader, ProofError, ProvenTransaction};
use crate::wire::{DecodeError, Reader, write_compact_size};

/// One item of `hdrsen`.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | header | 80 | |
/// | transaction count | 1 to 5 | compact size |
/// | no more headers | 1 | zero or not |
/// | coinbase | 1 or more | zero, or not and the transaction with its proof |
/// | miner info | 1 or more | the same |
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EnrichedHeader {
    /// The block's header.
    pub header: BlockHeader,
    /// How many transactions the block has.
    pub transaction_count: u32,
    /// Whether the block is the sender's tip. Fewer than 2,000 items do not say so.
    pub no_more_headers: bool,
    /// The coinbase transaction; pruned blocks come without.
    pub coinbase: Option<Box<ProvenTransaction>>,
    /// The transaction that the coinbase refers to for the miner's identity.
    pub miner_info: Option<Box<ProvenTransaction>>,
}

impl EnrichedHeader {
    /// Proves the coinbase transaction, and the miner info if there is one, against the header.
    ///
    /// The length of the coinbase's proof must be that of a block of [`transaction_count`](Self::transaction_count)
    /// transactions. Proof of work is not checked.
    ///
    /// # Errors
    ///
    /// [`ProofError::Missing`] without a coinbase, else why a proof fails.
    pub fn verify(&self) -> Result<(), ProofError> {
        let coinbase = self.coinbase.as_ref().ok_or(ProofError::Missing)?;
        coinbase.verify_coinbase(&self.header, self.transaction_count)?;
        self.miner_info.as_ref().map_or(Ok(()), |info| info.verify(&self.header))
    }

    fn read(reader: &mut Reader<'_>, payload: Payload<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            header: BlockHeader::decode(&reader.array()?),
            transaction_count: read_u32(reader)?,
            no_more_headers: reader.bool()?,
            coinbase: read_optional(reader, payload)?,
            miner_info: read_optional(reader, payload)?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header.encode());
        write_compact_size(out, self.transaction_count.into());
        out.push(u8::from(self.no_more_headers));
        for part in [&self.coinbase, &self.miner_info] {
            out.push(u8::from(part.is_some()));
            if let Some(part) = part {
                part.write(out);
            }
        }
    }

    /// Bytes of the item, or a few more.
    pub(super) fn len_hint(&self) -> usize {
        let parts = [&self.coinbase, &self.miner_info].into_iter().flatten();
        MIN_LEN + 4 + parts.map(|part| part.len_hint()).sum::<usize>()
    }
}

pub(super) fn read(reader: &mut Reader<'_>, payload: Payload<'_>) -> Result<Vec<EnrichedHeader>, DecodeError> {
    let count = reader.count(MIN_LEN)?;
    if count > MAX_HEADERS {
        return Err(DecodeError::TooManyItems { count: count as u64, limit: MAX_HEADERS as u64 });
    }
    reader.items(count, |reader| EnrichedHeader::read(reader, payload))
}

pub(super) fn write(items: &[EnrichedHeader], out: &mut Vec<u8>) {
    write_compact_size(out, items.len() as u64);
    for item in items {
        item.write(out);
    }
}

fn read_optional(
    reader: &mut Reader<'_>,
    payload: Payload<'_>,
) -> Result<Option<Box<ProvenTransaction>>, DecodeError> {
    if !reader.bool()? {
        return Ok(None);
    }
    // What is boxed here is larger than the least that may be there.
    if reader.rest().len() < ProvenTransaction::MIN_LEN {
        return Err(DecodeError::UnexpectedEnd);
    }
    Ok(Some(Box::new(ProvenTransaction::read(reader, payload)?)))
}

/// A header, a count of one byte, and three flags.
const MIN_LEN: usize = BlockHeader::LEN + 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_two_thousand_items_are_refused() {
        let read = |count: u16| {
            let mut payload = vec![0xfd];
            payload.extend_from_slice(&count.to_le_bytes());
            payload.resize(3 + usize::from(count) * MIN_LEN, 0);
            super::read(&mut Reader::new(&payload), Payload::Borrowed(&payload)).map(|items| items.len())
        };
        assert_eq!(read(2_000), Ok(2_000));
        assert_eq!(read(2_001), Err(DecodeError::TooManyItems { count: 2_001, limit: 2_000 }));
    }
}
