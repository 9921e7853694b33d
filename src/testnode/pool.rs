//! The transactions the node knows: those in its mempool, those mined, those it refused.
//!
//! Pure. Sections 5.2 to 5.4 of the wire specification.

use std::collections::{HashMap, HashSet};

use super::config::TestNodeConfig;
use super::orphans::{Orphan, Orphans};
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
    /// How many outputs each known transaction has; `None` if nobody asks whether what is spent exists.
    outputs: Option<HashMap<Txid, usize>>,
    orphans: Orphans,
    /// Only ids are kept of what is taken in, and neither the transactions nor what they spend; `None` keeps all.
    ids: Option<HashSet<Txid>>,
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
    /// It waits for what it spends. These of its parents are neither known nor waiting themselves.
    Orphaned(Vec<Txid>),
    /// It breaks a rule; the last is what that adds to the sender's misbehaviour score.
    Rejected(RejectCode, String, u32),
}

impl Pool {
    pub(super) fn new(config: &TestNodeConfig) -> Self {
        let limit_bytes = config.mempool_bytes;
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
            outputs: config.checks_inputs.then(HashMap::new),
            orphans: Orphans::new(limit_bytes),
            ids: (!config.keep_transactions).then(HashSet::new),
        }
    }

    /// Takes a transaction in if nothing speaks against it that can be seen without scripts; it is taken to pay `fee_rate`
    /// satoshis for 1,000 bytes, and came from the line `from`.
    pub(super) fn offer(&mut self, transaction: &Transaction, fee_rate: i64, from: Option<u64>) -> Verdict {
        let txid = transaction.txid();
        if !self.wants(&txid) {
            return Verdict::Dropped;
        }
        if let Err((reason, score)) = check(transaction) {
            self.rejected.insert(txid);
            return Verdict::Rejected(RejectCode::Invalid, reason.to_owned(), score);
        }
        if let Some(parents) = self.missing(transaction) {
            if parents.iter().any(|parent| self.rejected.contains(parent)) {
                self.rejected.insert(txid);
                return Verdict::Dropped;
            }
            let parents = parents.into_iter().filter(|parent| self.wants(parent)).collect();
            self.orphans.insert(Orphan { transaction: transaction.clone(), fee_rate, from });
            return Verdict::Orphaned(parents);
        }
        if let Some((code, reason)) = self.refusals.get(&txid).or(self.refusal.as_ref()) {
            self.rejected.insert(txid);
            return Verdict::Rejected(*code, reason.clone(), 0);
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

    /// Looks again at the orphans that waited for this transaction, and for those of them that are taken in.
    pub(super) fn adopt(&mut self, parent: Txid) -> Vec<(Orphan, Verdict)> {
        let mut adopted = Vec::new();
        let mut parents = vec![parent];
        while let Some(parent) = parents.pop() {
            for orphan in self.orphans.take_children(&parent) {
                let verdict = self.offer(&orphan.transaction, orphan.fee_rate, orphan.from);
                if verdict == Verdict::Accepted {
                    parents.push(orphan.transaction.txid());
                }
                adopted.push((orphan, verdict));
            }
        }
        adopted
    }

    /// Whether an announcement of this transaction is news.
    pub(super) fn wants(&self, txid: &Txid) -> bool {
        !self.contains(txid)
            && !self.mined.contains_key(txid)
            && !self.rejected.contains(txid)
            && !self.orphans.contains(txid)
    }

    pub(super) fn contains(&self, txid: &Txid) -> bool {
        self.ids.as_ref().map_or_else(|| self.entries.contains_key(txid), |ids| ids.contains(txid))
    }

    /// How many transactions are in the mempool.
    pub(super) fn len(&self) -> usize {
        self.ids.as_ref().map_or(self.entries.len(), HashSet::len)
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
        if let Some(outputs) = &mut self.outputs {
            outputs
                .extend(block.transactions().take(1).map(|coinbase| (coinbase.txid(), coinbase.outputs().len())));
        }
        for view in block.transactions().skip(1) {
            let txid = view.txid();
            let entry = self.remove(&txid);
            if let Some(outputs) = &mut self.outputs {
                outputs.insert(txid, view.outputs().len());
            }
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
        if let Some(outputs) = &mut self.outputs {
            for coinbase in block.transactions().take(1) {
                outputs.remove(&coinbase.txid());
            }
        }
        for view in block.transactions().skip(1) {
            if self.mined.remove(&view.txid()).is_some() {
                self.insert(view.to_transaction(), fee_rate);
            }
        }
    }

    fn insert(&mut self, transaction: Transaction, fee_rate: i64) {
        let txid = transaction.txid();
        if let Some(outputs) = &mut self.outputs {
            outputs.insert(txid, transaction.outputs().len());
        }
        if let Some(ids) = &mut self.ids {
            ids.insert(txid);
            return;
        }
        for input in transaction.inputs() {
            self.spent.insert(input.previous_output, txid);
        }
        self.bytes += transaction.raw().len();
        self.entries.insert(txid, Entry { number: self.next, transaction, fee_rate });
        self.next += 1;
    }

    fn remove(&mut self, txid: &Txid) -> Option<Entry> {
        if let Some(outputs) = &mut self.outputs {
            outputs.remove(txid);
        }
        if let Some(ids) = &mut self.ids {
            ids.remove(txid);
        }
        let entry = self.entries.remove(txid)?;
        self.bytes -= entry.transaction.raw().len();
        Some(entry)
    }

    /// The parents that are not known, each once, of a transaction that spends what does not exist; `None` if all does.
    fn missing(&self, transaction: &Transaction) -> Option<Vec<Txid>> {
        let outputs = self.outputs.as_ref()?;
        let (mut is_orphan, mut parents) = (false, Vec::new());
        for OutPoint { txid, index } in transaction.inputs().map(|input| input.previous_output) {
            let known = outputs.get(&txid);
            is_orphan |= known.is_none_or(|count| index as usize >= *count);
            if known.is_none() && !parents.contains(&txid) {
                parents.push(txid);
            }
        }
        is_orphan.then_some(parents)
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
    use crate::message::{BlockHeader, TransactionInput, TransactionOutput};
    use crate::wire::{BlockHash, MerkleRoot};

    fn spend(points: &[OutPoint], values: &[i64]) -> Transaction {
        let inputs: Vec<_> = points
            .iter()
            .map(|&previous_output| TransactionInput { previous_output, script_sig: &[], sequence: u32::MAX })
            .collect();
        let outputs: Vec<_> =
            values.iter().map(|&value| TransactionOutput { value, script_pubkey: &[0x51] }).collect();
        Transaction::new(1, &inputs, &outputs, 0)
    }

    fn pool(bytes: usize) -> Pool {
        Pool::new(&TestNodeConfig::default().mempool_bytes(bytes))
    }

    fn point(n: u8) -> OutPoint {
        OutPoint { txid: Txid::from_wire([n; 32]), index: 0 }
    }

    #[test]
    fn a_transaction_is_taken_once_and_listed_in_order() {
        let mut pool = pool(1_000_000);
        let list: Vec<_> = (1..50).map(|n| spend(&[point(n)], &[1])).collect();
        for transaction in &list {
            assert!(pool.wants(&transaction.txid()));
            assert_eq!(pool.offer(transaction, 1_000, None), Verdict::Accepted);
            assert_eq!(pool.offer(transaction, 1_000, None), Verdict::Dropped);
            assert!(!pool.wants(&transaction.txid()));
        }
        assert_eq!(pool.list(), list.iter().collect::<Vec<_>>());
        assert_eq!(pool.get(&list[7].txid()), Some(&list[7]));
    }

    #[test]
    fn broken_transactions_are_refused_with_the_words_of_the_node() {
        let mut pool = pool(1_000_000);
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
            assert_eq!(pool.offer(&transaction, 1_000, None), rejected);
            assert_eq!(pool.offer(&transaction, 1_000, None), Verdict::Dropped, "{reason} again");
        }
    }

    #[test]
    fn a_second_spend_of_the_same_output_is_dropped_without_a_word() {
        let mut pool = pool(1_000_000);
        assert_eq!(pool.offer(&spend(&[point(1)], &[1]), 1_000, None), Verdict::Accepted);
        let rival = spend(&[point(2), point(1)], &[2]);
        assert_eq!(pool.offer(&rival, 1_000, None), Verdict::Dropped);
        assert!(!pool.wants(&rival.txid()), "it is not asked for again");
    }

    #[test]
    fn refusals_on_command_end_when_told() {
        let mut pool = pool(1_000_000);
        let (one, two) = (spend(&[point(1)], &[1]), spend(&[point(2)], &[1]));
        pool.refuse(one.txid(), RejectCode::NonStandard, "dust".to_owned());
        assert_eq!(pool.offer(&one, 1_000, None), Verdict::Rejected(RejectCode::NonStandard, "dust".to_owned(), 0));
        pool.refuse_all(Some((RejectCode::InsufficientFee, "mempool min fee not met".to_owned())));
        assert!(matches!(pool.offer(&two, 1_000, None), Verdict::Rejected(RejectCode::InsufficientFee, ..)));
        pool.refuse_all(None);
        assert_eq!(pool.offer(&two, 1_000, None), Verdict::Accepted);
    }

    #[test]
    fn a_full_pool_says_so() {
        let one = spend(&[point(1)], &[1]);
        let mut pool = pool(one.raw().len());
        assert_eq!(pool.offer(&one, 1_000, None), Verdict::Accepted);
        let full = Verdict::Rejected(RejectCode::InsufficientFee, "mempool full".to_owned(), 0);
        assert_eq!(pool.offer(&spend(&[point(2)], &[1]), 1_000, None), full);
    }

    #[test]
    fn an_orphan_waits_for_its_parents_and_theirs() {
        let block = Block::new(HEADER, vec![spend(&[OutPoint::NULL], &[50, 50])]);
        let coinbase = block.transactions().next().unwrap().txid();
        let output = |txid, index| OutPoint { txid, index };
        let one = spend(&[output(coinbase, 1)], &[40, 9]);
        let two = spend(&[output(one.txid(), 0)], &[39]);
        let three = spend(&[output(one.txid(), 1), output(two.txid(), 0), output(two.txid(), 0)], &[47]);
        let three_once = spend(&[output(one.txid(), 1), output(two.txid(), 0)], &[47]);
        let never = spend(&[output(coinbase, 2)], &[1]);
        let mut pool = Pool::new(&TestNodeConfig::default().checks_inputs(true));
        assert_eq!(pool.offer(&one, 1_000, None), Verdict::Orphaned(vec![coinbase]));
        assert!(!pool.wants(&one.txid()) && !pool.contains(&one.txid()));
        pool.block_joined(&block);
        assert_eq!(pool.offer(&never, 1_000, None), Verdict::Orphaned(vec![]), "its parent has no such output");

        // Parents that wait themselves are not named.
        assert_eq!(pool.offer(&three_once, 1_000, Some(3)), Verdict::Orphaned(vec![two.txid()]));
        assert_eq!(pool.offer(&two, 1_000, Some(2)), Verdict::Orphaned(vec![]));
        assert!(matches!(pool.offer(&three, 1_000, None), Verdict::Rejected(..)), "what is broken does not wait");
        let mut adopted = pool.adopt(coinbase);
        adopted.retain(|(_, verdict)| *verdict == Verdict::Accepted);
        let taken: Vec<_> = adopted.iter().map(|(orphan, _)| (orphan.transaction.txid(), orphan.from)).collect();
        assert_eq!(taken, [(one.txid(), None), (two.txid(), Some(2)), (three_once.txid(), Some(3))]);
        assert_eq!(pool.list(), [&one, &two, &three_once]);
        assert_eq!(pool.adopt(coinbase).len(), 1, "the one that waits in vain");
    }

    #[test]
    fn an_orphan_is_refused_when_its_parents_come_or_with_them() {
        let parent = spend(&[point(1)], &[5]);
        let child = spend(&[OutPoint { txid: parent.txid(), index: 0 }], &[4]);
        let grandchild = spend(&[OutPoint { txid: child.txid(), index: 0 }], &[3]);
        let mut pool = Pool::new(&TestNodeConfig::default().checks_inputs(true));
        let block = Block::new(HEADER, vec![spend(&[OutPoint::NULL], &[50]), parent.clone()]);
        pool.refuse(child.txid(), RejectCode::NonStandard, "dust".to_owned());
        assert!(matches!(pool.offer(&child, 1_000, Some(7)), Verdict::Orphaned(_)));
        pool.block_joined(&block);
        let refused = Verdict::Rejected(RejectCode::NonStandard, "dust".to_owned(), 0);
        let orphan = Orphan { transaction: child.clone(), fee_rate: 1_000, from: Some(7) };
        assert_eq!(pool.adopt(parent.txid()), [(orphan, refused)]);
        assert_eq!(pool.offer(&grandchild, 1_000, None), Verdict::Dropped);
        assert!(!pool.wants(&grandchild.txid()), "it is refused as its parent was");
    }

    #[test]
    fn a_pool_of_ids_knows_what_it_took_and_no_more() {
        let one = spend(&[point(1)], &[1]);
        let mut pool = Pool::new(&TestNodeConfig::default().keep_transactions(false));
        assert_eq!(pool.offer(&one, 1_000, None), Verdict::Accepted);
        assert_eq!(pool.offer(&one, 1_000, None), Verdict::Dropped);
        assert_eq!(pool.offer(&spend(&[point(1)], &[2]), 1_000, None), Verdict::Accepted, "rivals are not seen");
        assert!(pool.contains(&one.txid()) && !pool.wants(&one.txid()));
        assert_eq!((pool.len(), pool.get(&one.txid()), pool.list().len()), (2, None, 0));
        pool.block_joined(&Block::new(HEADER, vec![spend(&[OutPoint::NULL], &[50]), one.clone()]));
        assert!(!pool.contains(&one.txid()) && !pool.wants(&one.txid()));
        assert_eq!(pool.len(), 1);
    }

    const HEADER: BlockHeader = BlockHeader {
        version: 1,
        previous: BlockHash::ZERO,
        merkle_root: MerkleRoot::ZERO,
        time: 0,
        bits: 0,
        nonce: 0,
    };
}
