//! Making the block of a compact block: from transactions that are known, then from those that are asked for.
//!
//! Section 6.6 of the wire specification (BIP 152; the node's `src/blockencodings.cpp`).

use std::collections::HashMap;
use std::error::Error;
use std::fmt;

use super::{Block, BlockHeader, BlockTxn, CompactBlock, GetBlockTxn, ShortId, Transaction};
use crate::block::{MerkleError, merkle_root};
use crate::wire::BlockHash;

impl CompactBlock {
    /// Puts the block together from the prefilled transactions and those that are known.
    ///
    /// Short ids can collide. Where two known transactions have one id, neither is taken and the transaction is asked
    /// for; a block in which two ids are equal cannot be told apart.
    ///
    /// # Errors
    ///
    /// Why there is no such block; [`CompactBlockError::is_collision`] tells whether fetching the whole block helps.
    pub fn reconstruct<'a>(
        &self,
        known: impl IntoIterator<Item = &'a Transaction>,
    ) -> Result<Reconstruction, CompactBlockError> {
        let (mut transactions, positions) = self.places()?;
        let key = self.short_id_key();
        let mut ambiguous = Vec::new();
        for transaction in known {
            let Some(index) = positions.get(&key.short_id(transaction.txid())) else { continue };
            match &transactions[*index] {
                None => transactions[*index] = Some(transaction.clone()),
                Some(taken) if taken.txid() == transaction.txid() => {}
                // Emptied only at the end, so that a third one does not take the place.
                Some(_) => ambiguous.push(*index),
            }
        }
        for index in ambiguous {
            transactions[index] = None;
        }
        let partial = PartialBlock { header: *self.header(), transactions };
        if partial.transactions.iter().all(Option::is_some) {
            partial.finish().map(Reconstruction::Complete)
        } else {
            Ok(Reconstruction::Partial(partial))
        }
    }

    /// A place for each transaction, the prefilled ones in theirs; and the place that each short id stands for.
    #[expect(clippy::type_complexity, reason = "used once, by the method above")]
    fn places(&self) -> Result<(Vec<Option<Transaction>>, HashMap<ShortId, usize>), CompactBlockError> {
        let count = self.transaction_count();
        if count == 0 {
            return Err(CompactBlockError::NoTransactions);
        }
        let mut transactions = vec![None; count];
        for (index, transaction) in self.prefilled() {
            let place = transactions.get_mut(index as usize).ok_or(CompactBlockError::IndexGap { index })?;
            *place = Some(transaction.to_transaction());
        }
        let mut positions = HashMap::with_capacity(self.short_ids().len());
        let empty = transactions.iter().enumerate().filter(|(_, transaction)| transaction.is_none());
        for (short_id, (index, _)) in self.short_ids().iter().zip(empty) {
            if positions.insert(*short_id, index).is_some() {
                return Err(CompactBlockError::EqualShortIds { short_id: *short_id });
            }
        }
        Ok((transactions, positions))
    }
}

/// What came of a compact block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reconstruction {
    /// The whole block, proven against its header.
    Complete(Block),
    /// Some transactions are missing.
    Partial(PartialBlock),
}

/// A block some of whose transactions are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialBlock {
    header: BlockHeader,
    transactions: Vec<Option<Transaction>>,
}

impl PartialBlock {
    /// The indexes of the transactions that are missing, in increasing order.
    pub fn missing(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.transactions).filter(|(_, transaction)| transaction.is_none()).map(|(index, _)| index)
    }

    /// The message that asks for them.
    #[must_use]
    pub fn request(&self) -> GetBlockTxn {
        GetBlockTxn::new(self.header.hash(), self.missing().collect::<Vec<_>>())
    }

    /// Puts the transactions of the answer in their places.
    ///
    /// # Errors
    ///
    /// Why there is no such block; a wrong answer leaves nothing to try again with but the compact block.
    pub fn fill(mut self, answer: &BlockTxn) -> Result<Block, CompactBlockError> {
        let (expected, got) = (self.header.hash(), answer.block_hash());
        if got != expected {
            return Err(CompactBlockError::WrongBlock { expected, got });
        }
        let (expected, got) = (self.missing().count(), answer.transactions().len());
        if got != expected {
            return Err(CompactBlockError::WrongCount { expected, got });
        }
        let places = self.transactions.iter_mut().filter(|transaction| transaction.is_none());
        for (place, transaction) in places.zip(answer.transactions()) {
            *place = Some(transaction.to_transaction());
        }
        self.finish()
    }

    /// Proves the block, all of whose transactions are there.
    fn finish(self) -> Result<Block, CompactBlockError> {
        let transactions: Vec<_> = self.transactions.into_iter().flatten().collect();
        if transactions.first().is_some_and(|first| !first.is_coinbase()) {
            return Err(CompactBlockError::WrongTransactions(MerkleError::NoCoinbase));
        }
        let got = merkle_root(transactions.iter().map(Transaction::txid));
        let got = got.map_err(CompactBlockError::WrongTransactions)?;
        let expected = self.header.merkle_root;
        if got != expected {
            return Err(CompactBlockError::WrongTransactions(MerkleError::WrongRoot { expected, got }));
        }
        Ok(Block::new(self.header, transactions))
    }
}

/// Why a compact block does not become a block.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactBlockError {
    /// The block has no transaction.
    NoTransactions,
    /// A prefilled transaction lies behind the end of the block.
    IndexGap {
        /// Its index.
        index: u32,
    },
    /// Two transactions of the block have one short id.
    EqualShortIds {
        /// The id.
        short_id: ShortId,
    },
    /// The answer is about another block.
    WrongBlock {
        /// The block asked about.
        expected: BlockHash,
        /// The block of the answer.
        got: BlockHash,
    },
    /// The answer has another number of transactions than was asked for.
    WrongCount {
        /// How many were asked for.
        expected: usize,
        /// How many came.
        got: usize,
    },
    /// The transactions are not those of the header: a short id has hit a wrong one, or the peer lies.
    WrongTransactions(MerkleError),
}

impl CompactBlockError {
    /// Whether short ids may have collided, so that the whole block should be fetched; else the peer is at fault.
    #[must_use]
    pub const fn is_collision(&self) -> bool {
        matches!(self, Self::EqualShortIds { .. } | Self::WrongTransactions(_))
    }
}

impl fmt::Display for CompactBlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTransactions => f.write_str("compact block without transactions"),
            Self::IndexGap { index } => write!(f, "prefilled transaction {index} lies behind the end of its block"),
            Self::EqualShortIds { short_id } => write!(f, "two transactions have the short id {short_id}"),
            Self::WrongBlock { expected, got } => write!(f, "transactions of block {got}, expected {expected}"),
            Self::WrongCount { expected, got } => write!(f, "{got} transactions, expected {expected}"),
            Self::WrongTransactions(error) => write!(f, "compact block has the wrong transactions: {error}"),
        }
    }
}

impl Error for CompactBlockError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::WrongTransactions(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::payload::Payload;
    use crate::message::{OutPoint, TransactionInput};
    use crate::wire::{Reader, Txid};

    /// A block of a coinbase and others that differ.
    fn block(count: u32) -> Block {
        let transaction = |i: u32| {
            let txid = Txid::from_wire([1; 32]);
            let previous_output = if i == 0 { OutPoint::NULL } else { OutPoint { txid, index: i } };
            Transaction::new(1, &[TransactionInput { previous_output, script_sig: &[], sequence: 0 }], &[], 0)
        };
        let transactions: Vec<_> = (0..count).map(transaction).collect();
        let header = BlockHeader {
            version: 1,
            previous: BlockHash::ZERO,
            merkle_root: merkle_root(transactions.iter().map(Transaction::txid)).unwrap(),
            time: 2,
            bits: 3,
            nonce: 4,
        };
        Block::new(header, transactions)
    }

    fn transactions(block: &Block) -> Vec<Transaction> {
        block.transactions().map(|view| view.to_transaction()).collect()
    }

    fn partial(outcome: Result<Reconstruction, CompactBlockError>) -> PartialBlock {
        match outcome {
            Ok(Reconstruction::Partial(partial)) => partial,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn known_transactions_complete_the_block() {
        let block = block(9);
        let known = transactions(&block);
        let compact = CompactBlock::new(&block, 7);
        assert_eq!(compact.transaction_count(), 9);
        let reversed = known.iter().rev();
        assert_eq!(compact.reconstruct(reversed.clone()), Ok(Reconstruction::Complete(block.clone())));
        // Twice the same is once.
        assert_eq!(compact.reconstruct(reversed.chain(&known)), Ok(Reconstruction::Complete(block)));
    }

    #[test]
    fn missing_transactions_are_asked_for_and_filled_in() {
        let block = block(9);
        let all = transactions(&block);
        let compact = CompactBlock::with_prefilled(&block, 7, |i| i == 0 || i == 8);
        let partial = partial(compact.reconstruct([&all[2], &all[5]]));
        assert_eq!(partial.missing().collect::<Vec<_>>(), [1, 3, 4, 6, 7]);
        let request = partial.request();
        assert_eq!((request.block_hash, request.indexes()), (block.hash(), &[1, 3, 4, 6, 7][..]));
        let answer = |indexes: &[usize]| BlockTxn::new(block.hash(), indexes.iter().map(|i| all[*i].view()));
        assert_eq!(partial.clone().fill(&answer(&[1, 3, 4, 6, 7])), Ok(block.clone()));

        let error = partial.clone().fill(&answer(&[1, 3, 4, 6])).unwrap_err();
        assert_eq!(error, CompactBlockError::WrongCount { expected: 5, got: 4 });
        assert!(!error.is_collision());
        let error = partial.clone().fill(&answer(&[1, 3, 4, 7, 6])).unwrap_err();
        assert!(matches!(error, CompactBlockError::WrongTransactions(MerkleError::WrongRoot { .. })), "{error:?}");
        assert!(error.is_collision());
        let other = BlockTxn::new(BlockHash::ZERO, []);
        let expected = CompactBlockError::WrongBlock { expected: block.hash(), got: BlockHash::ZERO };
        assert_eq!(partial.fill(&other), Err(expected));
    }

    /// The payload of a compact block whose short ids and indexes are chosen.
    fn forged(block: &Block, short_ids: &[ShortId], index: u8) -> CompactBlock {
        let coinbase = block.transactions().next().unwrap();
        let mut payload = block.header().encode().to_vec();
        payload.extend_from_slice(&7_u64.to_le_bytes());
        payload.push(short_ids.len() as u8);
        short_ids.iter().for_each(|id| payload.extend_from_slice(id.as_wire()));
        payload.extend_from_slice(&[1, index]);
        payload.extend_from_slice(coinbase.raw());
        CompactBlock::read(&mut Reader::new(&payload), Payload::Borrowed(&payload)).unwrap()
    }

    #[test]
    fn short_ids_that_cannot_be_told_apart_ask_for_the_whole_block() {
        let block = block(3);
        let ids = CompactBlock::new(&block, 7).short_ids().to_vec();
        let error = forged(&block, &[ids[0], ids[0]], 0).reconstruct(&transactions(&block)).unwrap_err();
        assert_eq!(error, CompactBlockError::EqualShortIds { short_id: ids[0] });
        assert!(error.is_collision());
        let error = forged(&block, &[ids[1], ids[0]], 0).reconstruct(&transactions(&block)).unwrap_err();
        assert!(error.is_collision(), "{error:?}");
    }

    #[test]
    fn indexes_behind_the_end_are_the_peers_fault() {
        let block = block(3);
        let ids = CompactBlock::new(&block, 7).short_ids().to_vec();
        let error = forged(&block, &ids, 3).reconstruct([]).unwrap_err();
        assert_eq!(error, CompactBlockError::IndexGap { index: 3 });
        assert!(!error.is_collision());
        let empty = Block::new(*block.header(), vec![]);
        assert_eq!(CompactBlock::new(&empty, 7).reconstruct([]), Err(CompactBlockError::NoTransactions));
    }

    #[test]
    fn a_block_that_does_not_start_with_a_coinbase_is_refused() {
        let block = block(5);
        let all = transactions(&block);
        let txids = all[1..].iter().map(Transaction::txid);
        let header = BlockHeader { merkle_root: merkle_root(txids).unwrap(), ..*block.header() };
        let compact = CompactBlock::new(&Block::new(header, all[1..].to_vec()), 7);
        let expected = CompactBlockError::WrongTransactions(MerkleError::NoCoinbase);
        assert_eq!(compact.reconstruct(&all), Err(expected));
    }
}
