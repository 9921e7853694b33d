//! Transactions that wait for those they spend from.
//!
//! Pure. Section 5.2 of the wire specification.

use std::collections::HashMap;

use crate::message::Transaction;
use crate::wire::Txid;

#[derive(Debug)]
pub(super) struct Orphans {
    waiting: HashMap<Txid, Orphan>,
    /// Who waits for a transaction; entries of orphans that left may linger until it comes.
    children: HashMap<Txid, Vec<Txid>>,
    /// Always the summed size of `waiting`.
    bytes: usize,
    limit_bytes: usize,
}

/// A transaction that waits, what it is taken to pay for 1,000 bytes, and the line it came from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Orphan {
    pub(super) transaction: Transaction,
    pub(super) fee_rate: i64,
    pub(super) from: Option<u64>,
}

impl Orphans {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { waiting: HashMap::new(), children: HashMap::new(), bytes: 0, limit_bytes }
    }

    pub(super) fn contains(&self, txid: &Txid) -> bool {
        self.waiting.contains_key(txid)
    }

    /// Keeps an orphan; where there is no room it is forgotten, as in a node.
    pub(super) fn insert(&mut self, orphan: Orphan) {
        let (txid, len) = (orphan.transaction.txid(), orphan.transaction.raw().len());
        if self.bytes + len > self.limit_bytes {
            return;
        }
        for input in orphan.transaction.inputs() {
            let children = self.children.entry(input.previous_output.txid).or_default();
            if !children.contains(&txid) {
                children.push(txid);
            }
        }
        self.bytes += len;
        self.waiting.insert(txid, orphan);
    }

    /// Takes out what waits for this transaction.
    pub(super) fn take_children(&mut self, parent: &Txid) -> Vec<Orphan> {
        let children = self.children.remove(parent).unwrap_or_default();
        let taken: Vec<_> = children.iter().filter_map(|txid| self.waiting.remove(txid)).collect();
        self.bytes -= taken.iter().map(|orphan| orphan.transaction.raw().len()).sum::<usize>();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::OutPoint;
    use crate::testnode::{spend, transaction};

    #[test]
    fn orphans_are_bounded_and_leave_with_any_parent() {
        let parents = [transaction(1, 100), transaction(2, 100)].map(|parent| parent.txid());
        let child = spend(&parents.map(|txid| OutPoint { txid, index: 0 }), 1);
        let orphan = || Orphan { transaction: child.clone(), fee_rate: 1, from: None };
        let mut orphans = Orphans::new(child.raw().len());
        orphans.insert(orphan());
        orphans.insert(Orphan { transaction: transaction(3, 62), ..orphan() });
        assert!(orphans.contains(&child.txid()) && !orphans.contains(&transaction(3, 62).txid()));
        assert_eq!(orphans.take_children(&parents[1]), [orphan()]);
        assert_eq!(orphans.take_children(&parents[0]), []);
        assert_eq!(orphans.bytes, 0);
    }
}
