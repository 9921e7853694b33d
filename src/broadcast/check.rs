//! What can be seen of a transaction without its inputs.
//!
//! Sections 5.4 and 1.4 of the wire specification. Nodes ban or score whoever sends them such a transaction, and of some they
//! do not even say which it was.

use std::collections::HashSet;

use super::BroadcastOptions;
use crate::error::BroadcastFailure;
use crate::message::{OutPoint, Transaction};
use crate::wire::SharedBytes;

/// A transaction that may be broadcast under these options.
pub(crate) fn read_transaction(
    raw: &SharedBytes,
    options: &BroadcastOptions,
) -> Result<Transaction, BroadcastFailure> {
    if options.nodes == 0 {
        return Err(BroadcastFailure::NoNodes);
    }
    let transaction = Transaction::from_raw(raw.clone()).map_err(BroadcastFailure::Malformed)?;
    check(&transaction).map_err(|reason| BroadcastFailure::Invalid { reason })?;
    Ok(transaction)
}

/// Says in the node's words what is wrong with a transaction whatever its inputs are.
fn check(transaction: &Transaction) -> Result<(), &'static str> {
    if transaction.raw().len() > MAX_SIZE {
        return Err("bad-txns-oversize");
    }
    if transaction.inputs().next().is_none() {
        return Err("bad-txns-vin-empty");
    }
    if transaction.outputs().next().is_none() {
        return Err("bad-txns-vout-empty");
    }
    let mut total = 0_i64;
    for output in transaction.outputs() {
        if output.value < 0 {
            return Err("bad-txns-vout-negative");
        }
        if output.value > MAX_MONEY {
            return Err("bad-txns-vout-toolarge");
        }
        // Two amounts of at most 21e14 fit.
        total += output.value;
        if total > MAX_MONEY {
            return Err("bad-txns-txouttotal-toolarge");
        }
    }
    if transaction.is_coinbase() {
        return Err("bad-tx-coinbase");
    }
    let inputs = transaction.inputs();
    let mut spent = HashSet::with_capacity(inputs.len());
    for input in inputs {
        if input.previous_output == OutPoint::NULL {
            return Err("bad-txns-prevout-null");
        }
        if !spent.insert(input.previous_output) {
            return Err("bad-txns-inputs-duplicate");
        }
    }
    Ok(())
}

/// The largest payload of a `tx` that nodes take, bytes.
const MAX_SIZE: usize = 1_000_000_000;
/// All coins there will be, in satoshis.
const MAX_MONEY: i64 = 2_100_000_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{TransactionInput, TransactionOutput};
    use crate::wire::Txid;

    fn output(value: i64) -> TransactionOutput<'static> {
        TransactionOutput { value, script_pubkey: &[] }
    }

    fn input(index: u32) -> TransactionInput<'static> {
        input_of(OutPoint { txid: Txid::from_wire([7; 32]), index })
    }

    fn input_of(previous_output: OutPoint) -> TransactionInput<'static> {
        TransactionInput { previous_output, script_sig: &[], sequence: 0 }
    }

    fn checked(inputs: &[TransactionInput<'_>], outputs: &[TransactionOutput<'_>]) -> Result<(), &'static str> {
        check(&Transaction::new(1, inputs, outputs, 0))
    }

    #[test]
    fn what_no_node_can_accept_is_named_as_nodes_name_it() {
        let ok = [input(0)];
        assert_eq!(checked(&ok, &[output(0), output(MAX_MONEY)]), Ok(()));
        assert_eq!(checked(&[], &[output(1)]), Err("bad-txns-vin-empty"));
        assert_eq!(checked(&ok, &[]), Err("bad-txns-vout-empty"));
        assert_eq!(checked(&ok, &[output(-1)]), Err("bad-txns-vout-negative"));
        assert_eq!(checked(&ok, &[output(MAX_MONEY + 1)]), Err("bad-txns-vout-toolarge"));
        assert_eq!(checked(&ok, &[output(MAX_MONEY), output(1)]), Err("bad-txns-txouttotal-toolarge"));
        assert_eq!(checked(&[input(1), input(2), input(1)], &[output(1)]), Err("bad-txns-inputs-duplicate"));
        let null = OutPoint::NULL;
        assert_eq!(checked(&[input_of(null)], &[output(1)]), Err("bad-tx-coinbase"));
        assert_eq!(checked(&[input(0), input_of(null)], &[output(1)]), Err("bad-txns-prevout-null"));
        let zero = OutPoint { txid: Txid::ZERO, index: 0 };
        assert_eq!(checked(&[input_of(zero)], &[output(1)]), Ok(()));
        for value in [i64::MIN, -1] {
            assert_eq!(checked(&ok, &[output(value)]), Err("bad-txns-vout-negative"));
        }
        assert_eq!(checked(&ok, &[output(i64::MAX)]), Err("bad-txns-vout-toolarge"));
    }

    #[test]
    fn any_number_of_large_outputs_is_summed_without_overflow() {
        let outputs = vec![output(MAX_MONEY); 10_000];
        assert_eq!(checked(&[input(0)], &outputs), Err("bad-txns-txouttotal-toolarge"));
        assert_eq!(checked(&[input(0)], &[&[output(MAX_MONEY)], &*vec![output(0); 9_999]].concat()), Ok(()));
    }

    #[test]
    fn ten_megabytes_of_inputs_and_outputs_are_looked_at_once_each() {
        // 41 and 9 bytes of each; looked at again from the start for each of them, this would take hours.
        let inputs: Vec<_> = (0..170_000).map(input).collect();
        let outputs = vec![output(1); 340_000];
        let transaction = Transaction::new(1, &inputs, &outputs, 0);
        assert!(transaction.raw().len() > 10_000_000);
        let raw = SharedBytes::from(transaction.raw().to_vec());
        assert_eq!(read_transaction(&raw, &BroadcastOptions::new()).as_ref(), Ok(&transaction));
    }

    #[test]
    fn options_and_bytes_are_checked_first() {
        let raw = SharedBytes::from(vec![1, 2, 3]);
        let nobody = read_transaction(&raw, &BroadcastOptions::new().nodes(0));
        assert_eq!(nobody, Err(BroadcastFailure::NoNodes));
        assert!(matches!(read_transaction(&raw, &BroadcastOptions::new()), Err(BroadcastFailure::Malformed(_))));
    }
}
