//! What real nodes do about each kind of transaction: the facts on which the verdicts of broadcasts are built.

#![expect(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]

mod support;

use std::collections::HashSet;

use conduit::message::{Inventory, RejectCode, Transaction};
use conduit::{Command, Message, Messages, Txid};
use support::PATIENCE;
use support::client::{Client, config, txid, wait_for_inventory, wait_for_message};
use support::rpc_line::RpcLine;
use support::sv_node::{SvNode, SvNodeOptions, follow, wait_until};
use support::transactions::{self, Funding};

/// Announces transactions and returns which of them the node asks for, in one question.
fn asked_for(client: &Client, requests: &Messages, raws: &[&[u8]]) -> Vec<Txid> {
    let items = raws.iter().map(|raw| Inventory::transaction(txid(raw))).collect();
    client.conduit.send(client.peers[0], Message::Inv(items)).unwrap();
    let Message::GetData(items) = requests.recv_timeout(PATIENCE).unwrap().message else { panic!("no getdata") };
    items.iter().filter_map(Inventory::txid).collect()
}

fn push(client: &Client, raw: &[u8]) {
    let transaction = Transaction::from_raw(raw.to_vec()).unwrap();
    client.conduit.send(client.peers[0], Message::Tx(transaction)).unwrap();
}

fn ids(raws: &[Vec<u8>]) -> HashSet<String> {
    raws.iter().map(|raw| transactions::txid(raw)).collect()
}

#[test]
fn each_kind_of_transaction_is_treated_as_the_docs_say() {
    let Some(node) = SvNode::start(SvNodeOptions::strict()) else { return };
    let mut funding = Funding::new(&node, 20);
    let mined = transactions::spend(funding.take(), 300);
    node.send_raw_transaction(&mined).unwrap();
    node.generate(1);
    let premature = transactions::immature_coinbase_spend(&node);
    let client = Client::connect(&[&node], config());
    let rejects = client.conduit.subscribe([Command::REJECT]).unwrap();
    let requests = client.conduit.subscribe([Command::GETDATA]).unwrap();

    // Refused aloud, and not asked for again before the next block.
    let loud = [
        (transactions::dust(funding.take()), RejectCode::NonStandard, "dust"),
        (transactions::oversized(funding.take()), RejectCode::NonStandard, "tx-size"),
        (premature.clone(), RejectCode::Invalid, "bad-txns-premature-spend-of-coinbase"),
    ];
    for (raw, code, reason) in &loud {
        push(&client, raw);
        let Message::Reject(reject) = rejects.recv_timeout(PATIENCE).unwrap().message else { panic!("no reject") };
        assert_eq!(
            (reject.code, reject.reason.to_string().as_str(), reject.txid()),
            (*code, *reason, Some(txid(raw)))
        );
        let fresh = transactions::spend(funding.take(), 300);
        assert_eq!(asked_for(&client, &requests, &[raw, &fresh]), [txid(&fresh)], "{reason}");
    }

    // Refused in silence: a rival of what is in the mempool.
    let rivals = transactions::rivals(funding.take(), 2);
    push(&client, &rivals[0]);
    node.wait_for_mempool(&ids(&rivals[..1]), PATIENCE);
    push(&client, &rivals[1]);
    // What is known, in whatever way, is not asked for.
    let non_final = transactions::non_final(funding.take());
    push(&client, &non_final);
    wait_until("the non-final one", PATIENCE, || {
        node.non_final_mempool().contains(&transactions::txid(&non_final))
    });
    let orphan = transactions::orphan(1);
    assert_eq!(asked_for(&client, &requests, &[&orphan]), [txid(&orphan)]);
    push(&client, &orphan);
    let parent = Transaction::from_raw(orphan).unwrap().inputs().next().unwrap().previous_output.txid;
    let Message::GetData(items) = requests.recv_timeout(PATIENCE).unwrap().message else { panic!("no getdata") };
    assert_eq!(items, [Inventory::transaction(parent)]);
    let fresh = transactions::spend(funding.take(), 300);
    let known = [&mined[..], &rivals[0], &rivals[1], &non_final, &fresh];
    assert_eq!(asked_for(&client, &requests, &known), [txid(&fresh)]);

    let mempool = node.mempool();
    let is_there = |raw: &[u8]| mempool.contains(&transactions::txid(raw));
    assert!(is_there(&rivals[0]) && !is_there(&rivals[1]) && !is_there(&non_final) && !is_there(&mined));
    assert!(rejects.try_recv().is_err(), "nothing else was rejected");
    client.end(&[&node]);
}

#[test]
fn a_chain_of_orphans_ends_in_all_mempools_of_a_line() {
    let Some(nodes) = SvNode::line(&[(); 3].map(|()| SvNodeOptions::default())) else { return };
    let mut chain = transactions::chain(Funding::new(&nodes[0], 1).take(), 25);
    follow(&nodes);
    let client = Client::connect(&[&nodes[0]], config());
    chain.reverse();
    chain.iter().for_each(|raw| push(&client, raw));
    for node in &nodes {
        node.wait_for_mempool(&ids(&chain), PATIENCE);
    }
    client.end(&[&nodes[0]]);
}

#[test]
fn coins_of_many_parents_are_spent_over_one_rpc_connection() {
    let Some(node) = SvNode::start(SvNodeOptions::default()) else { return };
    let mut funding = Funding::spread(&node, 10, 20);
    let raws: Vec<_> = (0..200).map(|_| transactions::spend(funding.take(), 250)).collect();
    let mut line = RpcLine::connect(&node);
    for raw in &raws {
        assert_eq!(line.send_raw_transaction(raw), Ok(transactions::txid(raw)));
    }
    let again = line.send_raw_transaction(&raws[0]).unwrap_err();
    assert_eq!((again.code, again.message.as_str()), (Some(-27), "Transaction already in the mempool"));
    assert_eq!(node.mempool(), ids(&raws));
}

#[test]
fn nodes_with_different_rules_reject_and_relay_the_same_transaction() {
    let options = [SvNodeOptions::strict(), SvNodeOptions::default(), SvNodeOptions::default()];
    let Some(nodes) = SvNode::line(&options) else { return };
    let dust = transactions::dust(Funding::new(&nodes[0], 1).take());
    follow(&nodes);
    let client = Client::connect(&[&nodes[0], &nodes[1], &nodes[2]], config());
    let heard = client.conduit.subscribe([Command::REJECT, Command::INV]).unwrap();
    let transaction = Transaction::from_raw(dust.clone()).unwrap();
    for &peer in &client.peers[..2] {
        client.conduit.send(peer, Message::Tx(transaction.clone())).unwrap();
    }
    let reject = wait_for_message(&heard, client.peers[0], |message| message.command() == Command::REJECT);
    let Message::Reject(reject) = reject else { panic!("{reject:?}") };
    assert_eq!((reject.code, reject.txid()), (RejectCode::NonStandard, Some(txid(&dust))));
    wait_for_inventory(&heard, client.peers[2], Inventory::transaction(txid(&dust)));
    client.end(&[&nodes[0], &nodes[1], &nodes[2]]);
}
