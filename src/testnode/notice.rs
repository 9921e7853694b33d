//! A notice of a double spend, as a node that saw both blocks would send it.
//!
//! Section 2.32 of the wire specification.

use super::chain::proves_work;
use crate::block::merkle_root;
use crate::message::{
    BlockHeader, DoubleSpendFork, DsDetected, MerkleProof, ProofSubject, ProofTarget, Transaction,
};
use crate::wire::{BlockHash, Txid};

/// A `dsdetected` with a fork for each of these transactions: a block on top of `common` that holds it, with proof of work
/// and a merkle proof.
///
/// Nodes take it for valid if each of at least two transactions spends what another one spends. Change it to get an invalid
/// one.
///
/// ```
/// use conduit::message::OutPoint;
/// use conduit::testnode::{double_spend_notice, spend, transaction};
/// use conduit::{BlockHash, Txid};
///
/// let spent = OutPoint { txid: transaction(1, 100).txid(), index: 0 };
/// let notice = double_spend_notice(BlockHash::ZERO, &[spend(&[spent], 1), spend(&[spent], 2)]);
/// assert_eq!(notice.check(), Ok(()));
/// ```
#[must_use]
pub fn double_spend_notice(common: BlockHash, rivals: &[Transaction]) -> DsDetected {
    let forks = (1_u8..).zip(rivals).map(|(tag, rival)| fork(common, rival, tag)).collect();
    DsDetected { version: DsDetected::VERSION, forks }
}

fn fork(previous: BlockHash, transaction: &Transaction, tag: u8) -> DoubleSpendFork {
    // The coinbase stays unknown: its id is all that the proof needs.
    let txids = [Txid::from_wire([tag; 32]), transaction.txid()];
    let merkle_root = merkle_root(txids).expect("two transactions have a root");
    let header = BlockHeader { version: 1, previous, merkle_root, time: 1_700_000_000, bits: EASY_BITS, nonce: 0 };
    let header = (0..).map(|nonce| BlockHeader { nonce, ..header }).find(proves_work);
    let header = header.expect("every second header proves work");
    let proof = MerkleProof::new(&txids, 1, ProofTarget::MerkleRoot(merkle_root));
    let mut proof = proof.expect("the second of two transactions has a place");
    proof.subject = ProofSubject::Transaction(transaction.clone());
    DoubleSpendFork { headers: vec![header], proof }
}

/// The easiest proof of work, that of regtest.
const EASY_BITS: u32 = 0x207f_ffff;
