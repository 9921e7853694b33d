//! The transactions the node knows: those in its mempool, those mined, those it refused.
//!
//! Pure. Sections 5.2 to 5.4 of the wire specification.

use std::collections::{HashMap, HashSet};

use crate::message::{Block, OutPoint, RejectCode, Transaction};
use crate::wire::Txid;

#[derive(Debug)]
pub(super) struct Pool {
    entries: HashMap<Txid, Entry>,
    /// Numbers the entries in the order they came, in which they can be mined.
    next: u64,
    /// Always the summed size of `entries`.
    bytes: usize,
    limit_bytes: usize,
    /// Transactions of the active chain, without coinbases; those that came through the mempool can still be had.
    mined: HashMap<Txid, Option<Transaction>>,
    /// What every known transaction spends.
    spent: HashMap<OutPoint, Txid>,
    /// Refused since the last new block: not looked at again, and not asked for.
    rejected: HashSet<Txid>,
    /// Refuses everything, on command.
    refusal: Option<(RejectCode, String)>,
    /// Refuses single ones, on command.
    refusals: HashMap<Txid, (RejectCode, String)>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    transaction: Transaction,
    /// In satoshis for 1,000 bytes.
    fee_rate: i64,
}

/// What the node makes of a transaction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is in the mempool now.
    Accepted,
    /// It is known, refused before, or spends what another one spends: a node says nothing to any of these.
    Dropped,
    /// It breaks a rule; the last is what that adds to the sender's misbehaviour score.
    Rejected(RejectCode, String, u32),
}

impl Pool {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self {
            entries: HashMap::new(),
            next: 0,
            bytes: 0,
            limit_bytes,
            mined: HashMap::new(),
            spent: HashMap::new(),
            rejected: HashSet::new(),
            refusal: None,
            refusals: HashMap::new(),
        }
    }

    /// Takes a transaction in if nothing speaks against it that can be seen without its inputs; it is taken to pay
    /// `fee_rate` satoshis for 1,000 bytes.
    pub(super) fn offer(&mut self, transaction: &Transaction, fee_rate: i64) -> Verdict {
        let txid = transaction.txid();
        if !self.wants(&txid) {
            return Verdict::Dropped;
        }
        if let Some((code, reason)) = self.refusals.get(&txid).or(self.refusal.as_ref()) {
            self.rejected.insert(txid);
            return Verdict::Rejected(*code, reason.clone(), 0);
        }
        if let Err((reason, score)) = check(transaction) {
            self.rejected.insert(txid);
            return Verdict::Rejected(RejectCode::Invalid, reason.to_owned(), score);
        }
        if transaction.inputs().any(|input| self.spent.contains_key(&input.previous_output)) {
            self.rejected.insert(txid);
            return Verdict::Dropped;
        }
        if self.bytes + transaction.raw().len() > self.limit_bytes {
            return Verdict::Rejected(RejectCode::InsufficientFee, "mempool full".to_owned(), 0);
        }
        self.insert(transaction.clone(), fee_rate);
        Verdict::Accepted
    }

    /// Whether an announcement of this transaction is news.
    pub(super) fn wants(&self, txid: &Txid) -> bool {
        !self.entries.contains_key(txid) && !self.mined.contains_key(txid) && !self.rejected.contains(txid)
    }

    pub(super) fn contains(&self, txid: &Txid) -> bool {
        self.entries.contains_key(txid)
    }

    /// A transaction of the mempool, or one that was in it and is mined.
    pub(super) fn get(&self, txid: &Txid) -> Option<&Transaction> {
        match self.entries.get(txid) {
            Some(entry) => Some(&entry.transaction),
            None => self.mined.get(txid)?.as_ref(),
        }
    }

    /// The mempool in the order it was filled.
    pub(super) fn list(&self) -> Vec<&Transaction> {
        self.list_with_fees().into_iter().map(|(transaction, _)| transaction).collect()
    }

    /// The same with what each pays, in satoshis for 1,000 bytes.
    pub(super) fn list_with_fees(&self) -> Vec<(&Transaction, i64)> {
        let mut entries: Vec<_> = self.entries.values().collect();
        entries.sort_unstable_by_key(|entry| entry.number);
        entries.into_iter().map(|entry| (&entry.transaction, entry.fee_rate)).collect()
    }

    /// Refuses every new transaction from now on, or none.
    pub(super) fn refuse_all(&mut self, refusal: Option<(RejectCode, String)>) {
        self.refusal = refusal;
        self.rejected.clear();
    }

    /// Refuses one transaction when it comes.
    pub(super) fn refuse(&mut self, txid: Txid, code: RejectCode, reason: String) {
        self.refusals.insert(txid, (code, reason));
    }

    /// Takes note of a block that joined the active chain.
    pub(super) fn block_joined(&mut self, block: &Block) {
        self.rejected.clear();
        for view in block.transactions().skip(1) {
            let txid = view.txid();
            let entry = self.remove(&txid);
            for input in view.inputs() {
                if let Some(rival) = self.spent.insert(input.previous_output, txid)
                    && rival != txid
                {
                    self.remove(&rival);
                }
            }
            self.mined.insert(txid, entry.map(|entry| entry.transaction));
        }
    }

    /// Takes note of a block that left the active chain: its transactions wait for another one.
    pub(super) fn block_left(&mut self, block: &Block, fee_rate: i64) {
        for view in block.transactions().skip(1) {
            if self.mined.remove(&view.txid()).is_some() {
                self.insert(view.to_transaction(), fee_rate);
            }
        }
    }

    fn insert(&mut self, transaction: Transaction, fee_rate: i64) {
        let txid = transaction.txid();
        for input in transaction.inputs() {
            self.spent.insert(input.previous_output, txid);
        }
        self.bytes += transaction.raw().len();
        self.entries.insert(txid, Entry { number: self.next, transaction, fee_rate });
        self.next += 1;
    }

    fn remove(&mut self, txid: &Txid) -> Option<Entry> {
        let entry = self.entries.remove(txid)?;
        self.bytes -= entry.transaction.raw().len();
        Some(entry)
    }
}

/// What a node finds wrong before it looks at the inputs, and the score for it (section 5.4).
fn check(transaction: &Transaction) -> Result<(), (&'static str, u32)> {
    let inputs = transaction.inputs();
    if inputs.len() == 0 {
        return Err(("bad-txns-vin-empty", 10));
    }
    if transaction.outputs().len() == 0 {
        return Err(("bad-txns-vout-empty", 10));
    }
    let mut total: i64 = 0;
    for output in transaction.outputs() {
        if output.value < 0 {
            return Err(("bad-txns-vout-negative", 100));
        }
        if output.value > MAX_MONEY {
            return Err(("bad-txns-vout-toolarge", 100));
        }
        total += output.value;
        if total > MAX_MONEY {
            return Err(("bad-txns-txouttotal-toolarge", 100));
        }
    }
    if transaction.is_coinbase() {
        return Err(("bad-tx-coinbase", 100));
    }
    if inputs.len() > 1 {
        let mut seen = HashSet::with_capacity(inputs.len());
        if !inputs.clone().all(|input| seen.insert(input.previous_output)) {
            return Err(("bad-txns-inputs-duplicate", 100));
        }
    }
    if inputs.clone().any(|input| input.previous_output == OutPoint::NULL) {
        return Err(("bad-txns-prevout-null", 10));
    }
    Ok(())
}

/// All the money there is, in satoshis.
const MAX_MONEY: i64 = 21_000_000 * 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{TransactionInput, TransactionOutput};

    fn spend(points: &[OutPoint], values: &[i64]) -> Transaction {
        let inputs: Vec<_> = points
            .iter()
            .map(|&previous_output| TransactionInput { previous_output, script_sig: &[], sequence: u32::MAX })
            .collect();
        let outputs: Vec<_> =
            values.iter().map(|&value| TransactionOutput { value, script_pubkey: &[0x51] }).collect();
        Transaction::new(1, &inputs, &outputs, 0)
    }

    fn point(n: u8) -> OutPoint {
        OutPoint { txid: Txid::from_wire([n; 32]), index: 0 }
    }

    #[test]
    fn a_transaction_is_taken_once_and_listed_in_order() {
        let mut pool = Pool::new(1_000_000);
        let list: Vec<_> = (1..50).map(|n| spend(&[point(n)], &[1])).collect();
        for transaction in &list {
            assert!(pool.wants(&transaction.txid()));
            assert_eq!(pool.offer(transaction, 1_000), Verdict::Accepted);
            assert_eq!(pool.offer(transaction, 1_000), Verdict::Dropped);
            assert!(!pool.wants(&transaction.txid()));
        }
        assert_eq!(pool.list(), list.iter().collect::<Vec<_>>());
        assert_eq!(pool.get(&list[7].txid()), Some(&list[7]));
    }

    #[test]
    fn broken_transactions_are_refused_with_the_words_of_the_node() {
        let mut pool = Pool::new(1_000_000);
        for (transaction, reason, score) in [
            (spend(&[], &[1]), "bad-txns-vin-empty", 10),
            (spend(&[point(1)], &[]), "bad-txns-vout-empty", 10),
            (spend(&[point(1)], &[-1]), "bad-txns-vout-negative", 100),
            (spend(&[point(1)], &[MAX_MONEY + 1]), "bad-txns-vout-toolarge", 100),
            (spend(&[point(1)], &[MAX_MONEY, 1]), "bad-txns-txouttotal-toolarge", 100),
            (spend(&[OutPoint::NULL], &[1]), "bad-tx-coinbase", 100),
            (spend(&[point(1), point(1)], &[1]), "bad-txns-inputs-duplicate", 100),
            (spend(&[point(1), OutPoint::NULL], &[1]), "bad-txns-prevout-null", 10),
        ] {
            let rejected = Verdict::Rejected(RejectCode::Invalid, reason.to_owned(), score);
            assert_eq!(pool.offer(&transaction, 1_000), rejected);
            assert_eq!(pool.offer(&transaction, 1_000), Verdict::Dropped, "{reason} again");
        }
    }

    #[test]
    fn a_second_spend_of_the_same_output_is_dropped_without_a_word() {
        let mut pool = Pool::new(1_000_000);
        assert_eq!(pool.offer(&spend(&[point(1)], &[1]), 1_000), Verdict::Accepted);
        let rival = spend(&[point(2), point(1)], &[2]);
        assert_eq!(pool.offer(&rival, 1_000), Verdict::Dropped);
        assert!(!pool.wants(&rival.txid()), "it is not asked for again");
    }

    #[test]
    fn refusals_on_command_end_when_told() {
        let mut pool = Pool::new(1_000_000);
        let (one, two) = (spend(&[point(1)], &[1]), spend(&[point(2)], &[1]));
        pool.refuse(one.txid(), RejectCode::NonStandard, "dust".to_owned());
        assert_eq!(pool.offer(&one, 1_000), Verdict::Rejected(RejectCode::NonStandard, "dust".to_owned(), 0));
        pool.refuse_all(Some((RejectCode::InsufficientFee, "mempool min fee not met".to_owned())));
        assert!(matches!(pool.offer(&two, 1_000), Verdict::Rejected(RejectCode::InsufficientFee, ..)));
        pool.refuse_all(None);
        assert_eq!(pool.offer(&two, 1_000), Verdict::Accepted);
    }

    #[test]
    fn a_full_pool_says_so() {
        let one = spend(&[point(1)], &[1]);
        let mut pool = Pool::new(one.raw().len());
        assert_eq!(pool.offer(&one, 1_000), Verdict::Accepted);
        let full = Verdict::Rejected(RejectCode::InsufficientFee, "mempool full".to_owned(), 0);
        assert_eq!(pool.offer(&spend(&[point(2)], &[1]), 1_000), full);
    }
}
