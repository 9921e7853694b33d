//! `dsdetected`: a notice that blocks of rival forks spend the same output.
//!
//! Section 2.32 of the wire specification (the node's `src/double_spend/dsdetected_message.h`).

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fmt;

use super::payload::Payload;
use super::{BlockHeader, MerkleProof, OutPoint, ProofError, ProofSubject, ProofTarget, Transaction};
use crate::wire::{DecodeError, Reader, write_compact_size};

/// The payload of `dsdetected`.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | version | 2 | little-endian; 1 |
/// | forks | 127 and more each | compact size, then the forks, at least 2 |
///
/// Decoding takes it apart; [`check`](Self::check) holds it against the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct DsDetected {
    /// The version of the notice.
    pub version: u16,
    /// The forks, each with a transaction that another one contradicts.
    pub forks: Vec<DoubleSpendFork>,
}

/// One of the rival forks of a `dsdetected`.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | headers | 80 each | compact size, at least 1, then the headers without transaction counts |
/// | proof | 46 and more | [`MerkleProof`] with the whole transaction and a merkle root as target |
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct DoubleSpendFork {
    /// The block that holds the transaction, then those before it, down to but without the last common one.
    pub headers: Vec<BlockHeader>,
    /// Proves the transaction, which it contains, against the first header.
    pub proof: MerkleProof,
}

impl DsDetected {
    /// The version that nodes send.
    pub const VERSION: u16 = 1;

    /// Checks what nodes check of a notice, except for proof of work and the chain it refers to.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), DoubleSpendError> {
        if self.version != Self::VERSION {
            return Err(DoubleSpendError::UnknownVersion { version: self.version });
        }
        if self.forks.len() < 2 {
            return Err(DoubleSpendError::TooFewForks { count: self.forks.len() });
        }
        let mut common = None;
        let mut txids = HashSet::new();
        let mut transactions = Vec::with_capacity(self.forks.len());
        for (fork, each) in self.forks.iter().enumerate() {
            let transaction = each.check(fork)?;
            let last = each.headers.last().ok_or(DoubleSpendError::NoHeaders { fork })?;
            if *common.get_or_insert(last.previous) != last.previous {
                return Err(DoubleSpendError::NoCommonBlock { fork });
            }
            if !txids.insert(transaction.txid()) {
                return Err(DoubleSpendError::SameTransaction { fork });
            }
            transactions.push(transaction);
        }
        // Each spends something that another one spends too; an output spent twice by one transaction counts once.
        let spent: Vec<HashSet<OutPoint>> = transactions
            .iter()
            .map(|transaction| transaction.inputs().map(|input| input.previous_output).collect())
            .collect();
        let mut spenders = HashMap::<OutPoint, usize>::new();
        for outpoint in spent.iter().flatten() {
            *spenders.entry(*outpoint).or_default() += 1;
        }
        let alone = spent.iter().position(|outpoints| outpoints.iter().all(|outpoint| spenders[outpoint] < 2));
        alone.map_or(Ok(()), |fork| Err(DoubleSpendError::NoConflict { fork }))
    }

    pub(super) fn read(reader: &mut Reader<'_>, payload: Payload<'_>) -> Result<Self, DecodeError> {
        let version = reader.u16()?;
        let count = reader.count(DoubleSpendFork::MIN_LEN)?;
        let forks = reader.items(count, |reader| DoubleSpendFork::read(reader, payload))?;
        Ok(Self { version, forks })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_le_bytes());
        write_compact_size(out, self.forks.len() as u64);
        for fork in &self.forks {
            write_compact_size(out, fork.headers.len() as u64);
            for header in &fork.headers {
                out.extend_from_slice(&header.encode());
            }
            fork.proof.write(out);
        }
    }

    /// Bytes of the payload, or a few more.
    pub(super) fn len_hint(&self) -> usize {
        let fork = |fork: &DoubleSpendFork| 9 + fork.headers.len() * BlockHeader::LEN + fork.proof.len_hint();
        2 + 9 + self.forks.iter().map(fork).sum::<usize>()
    }
}

impl DoubleSpendFork {
    /// A count of one byte, a header and the shortest proof.
    const MIN_LEN: usize = 1 + BlockHeader::LEN + 46;

    /// The transaction that another fork contradicts, if the proof has it.
    #[must_use]
    pub const fn transaction(&self) -> Option<&Transaction> {
        match &self.proof.subject {
            ProofSubject::Transaction(transaction) => Some(transaction),
            _ => None,
        }
    }

    /// Checks the fork for itself and gives its transaction.
    fn check(&self, fork: usize) -> Result<&Transaction, DoubleSpendError> {
        let first = self.headers.first().ok_or(DoubleSpendError::NoHeaders { fork })?;
        if self.headers.windows(2).any(|pair| pair[0].previous != pair[1].hash()) {
            return Err(DoubleSpendError::BrokenChain { fork });
        }
        let transaction = self.transaction().ok_or(DoubleSpendError::NoTransaction { fork })?;
        if !matches!(self.proof.target, ProofTarget::MerkleRoot(_)) {
            return Err(DoubleSpendError::BadProof { fork, error: ProofError::WrongTarget });
        }
        if self.proof.index == 0 {
            return Err(DoubleSpendError::Coinbase { fork });
        }
        self.proof.verify(first).map_err(|error| DoubleSpendError::BadProof { fork, error })?;
        Ok(transaction)
    }

    fn read(reader: &mut Reader<'_>, payload: Payload<'_>) -> Result<Self, DecodeError> {
        let count = reader.count(BlockHeader::LEN)?;
        if count == 0 {
            return Err(DecodeError::InvalidValue { field: "headers" });
        }
        let headers = reader.items(count, |reader| Ok(BlockHeader::decode(&reader.array()?)))?;
        Ok(Self { headers, proof: MerkleProof::read(reader, payload)? })
    }
}

/// Why a `dsdetected` shows no double spend; forks are numbered from 0.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoubleSpendError {
    /// The notice has a version that is not known.
    UnknownVersion {
        /// The version.
        version: u16,
    },
    /// Fewer than two forks.
    TooFewForks {
        /// How many.
        count: usize,
    },
    /// A fork has no header.
    NoHeaders {
        /// Which one.
        fork: usize,
    },
    /// A fork's headers do not follow each other.
    BrokenChain {
        /// Which one.
        fork: usize,
    },
    /// A fork starts from another block than the first fork.
    NoCommonBlock {
        /// Which one.
        fork: usize,
    },
    /// A fork's proof has only a txid.
    NoTransaction {
        /// Which one.
        fork: usize,
    },
    /// A fork's transaction is the first of its block.
    Coinbase {
        /// Which one.
        fork: usize,
    },
    /// A fork's transaction is not proven.
    BadProof {
        /// Which one.
        fork: usize,
        /// Why not.
        error: ProofError,
    },
    /// A fork has the same transaction as one before it.
    SameTransaction {
        /// Which one.
        fork: usize,
    },
    /// A fork's transaction spends nothing that another one spends.
    NoConflict {
        /// Which one.
        fork: usize,
    },
}

impl fmt::Display for DoubleSpendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownVersion { version } => write!(f, "double-spend notice of version {version}"),
            Self::TooFewForks { count } => write!(f, "double-spend notice with {count} forks"),
            Self::NoHeaders { fork } => write!(f, "fork {fork} has no headers"),
            Self::BrokenChain { fork } => write!(f, "headers of fork {fork} do not follow each other"),
            Self::NoCommonBlock { fork } => write!(f, "fork {fork} starts from another block"),
            Self::NoTransaction { fork } => write!(f, "proof of fork {fork} has no transaction"),
            Self::Coinbase { fork } => write!(f, "transaction of fork {fork} is the first of its block"),
            Self::BadProof { fork, error } => write!(f, "transaction of fork {fork} is not proven: {error}"),
            Self::SameTransaction { fork } => write!(f, "fork {fork} repeats a transaction"),
            Self::NoConflict { fork } => {
                write!(f, "transaction of fork {fork} spends nothing that another one spends")
            }
        }
    }
}

impl Error for DoubleSpendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::BadProof { error, .. } => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::merkle_root;
    use crate::message::TransactionInput;
    use crate::wire::{BlockHash, Txid};

    /// A fork of one block, whose second transaction spends these outputs of one earlier transaction.
    fn fork(outputs: &[u32]) -> DoubleSpendFork {
        let input = |index: &u32| {
            let previous_output = OutPoint { txid: Txid::from_wire([1; 32]), index: *index };
            TransactionInput { previous_output, script_sig: &[], sequence: 0 }
        };
        let transaction = Transaction::new(1, &outputs.iter().map(input).collect::<Vec<_>>(), &[], 0);
        let txids = [Txid::from_wire([2; 32]), transaction.txid()];
        let merkle_root = merkle_root(txids).unwrap();
        let header = BlockHeader { version: 1, previous: BlockHash::ZERO, merkle_root, time: 2, bits: 3, nonce: 4 };
        let mut proof = MerkleProof::new(&txids, 1, ProofTarget::MerkleRoot(merkle_root)).unwrap();
        proof.subject = ProofSubject::Transaction(transaction);
        DoubleSpendFork { headers: vec![header], proof }
    }

    #[test]
    fn every_fork_must_contradict_another() {
        let check = |forks: &[&[u32]]| {
            let forks = forks.iter().map(|outputs| fork(outputs)).collect();
            DsDetected { version: DsDetected::VERSION, forks }.check()
        };
        assert_eq!(check(&[&[0, 1], &[1, 2]]), Ok(()));
        assert_eq!(check(&[&[0, 1], &[1, 2], &[2, 3]]), Ok(()));
        assert_eq!(check(&[&[0], &[1]]), Err(DoubleSpendError::NoConflict { fork: 0 }));
        assert_eq!(check(&[&[0, 1], &[1], &[2]]), Err(DoubleSpendError::NoConflict { fork: 2 }));
        // Twice in one transaction is no conflict with another.
        assert_eq!(check(&[&[0, 0], &[1]]), Err(DoubleSpendError::NoConflict { fork: 0 }));
    }

    #[test]
    fn a_fork_without_headers_is_not_read() {
        let mut payload = Vec::new();
        let mut empty = fork(&[0]);
        empty.headers.clear();
        DsDetected { version: 1, forks: vec![empty] }.write(&mut payload);
        payload.resize(payload.len() + 127, 0);
        let read = DsDetected::read(&mut Reader::new(&payload), Payload::Borrowed(&payload));
        assert_eq!(read, Err(DecodeError::InvalidValue { field: "headers" }));
    }
}
