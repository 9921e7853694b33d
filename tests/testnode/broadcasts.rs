//! What the test node can do about a transaction that a peer broadcasts, by itself and on command.

use std::time::Duration;

use conduit::message::{Inventory, Message, OutPoint, RejectCode, Transaction};
use conduit::testnode::{TestNode, TestNodeConfig, spend, transaction};
use conduit::wire::{Command, Txid};

use super::peer::{PATIENCE, Peer};

fn start(config: TestNodeConfig) -> TestNode {
    TestNode::start(config.blocks(2)).unwrap()
}

fn inv(txids: &[Txid]) -> Message {
    Message::Inv(txids.iter().copied().map(Inventory::transaction).collect())
}

fn getdata(txids: &[Txid]) -> Message {
    Message::GetData(txids.iter().copied().map(Inventory::transaction).collect())
}

/// So many transactions, each spending the one before, the first of them a coinbase of the node.
fn chain(node: &TestNode, len: usize) -> Vec<Transaction> {
    let coinbase = node.block(1).unwrap().transactions().next().unwrap().txid();
    let mut links = vec![spend(&[OutPoint { txid: coinbase, index: 0 }], 1_000)];
    while links.len() < len {
        links.push(spend(&[OutPoint { txid: links[links.len() - 1].txid(), index: 0 }], 1_000));
    }
    links
}

#[test]
fn an_overlooked_transaction_is_asked_for_when_the_test_says_so() {
    let node = start(TestNodeConfig::default());
    let mut peer = Peer::connect(&node);
    let [quiet, usual] = [1, 2].map(|n| transaction(n, 100));
    assert!(!node.wait_for_overlooked(quiet.txid(), 0, Duration::ZERO), "nobody said that it is");
    node.overlook(quiet.txid(), true);
    peer.send(&inv(&[quiet.txid(), usual.txid()]));
    assert_eq!(peer.recv(), getdata(&[usual.txid()]));
    peer.send(&inv(&[quiet.txid()]));
    assert!(node.wait_for_overlooked(quiet.txid(), 2, PATIENCE));
    assert!(peer.said().is_empty());

    // Late, and again and again.
    for _ in 0..3 {
        assert_eq!(node.send(&getdata(&[quiet.txid()])), 1);
        assert_eq!(peer.recv(), getdata(&[quiet.txid()]));
    }
    peer.send(&Message::Tx(quiet.clone()));
    assert!(node.wait_for_transaction(quiet.txid(), PATIENCE));
    assert!(node.wait_for_mempool(1, PATIENCE) && !node.wait_for_mempool(2, Duration::ZERO));
    assert_eq!((node.overlooked(quiet.txid()), node.overlooked(usual.txid())), (2, 0));

    node.overlook(usual.txid(), true);
    node.overlook(usual.txid(), false);
    peer.send(&inv(&[usual.txid()]));
    assert_eq!(peer.recv(), getdata(&[usual.txid()]));
}

#[test]
fn parents_of_an_orphan_are_asked_for_until_all_are_there() {
    let node = start(TestNodeConfig::default().checks_inputs(true));
    let mut peer = Peer::connect(&node);
    let mut listener = Peer::connect(&node);
    let links = chain(&node, 4);
    let ids: Vec<_> = links.iter().map(Transaction::txid).collect();
    for place in (1..4).rev() {
        peer.send(&Message::Tx(links[place].clone()));
        assert_eq!(peer.recv(), getdata(&[ids[place - 1]]));
        peer.send(&inv(&[ids[place]]));
        assert!(peer.said().is_empty(), "an orphan is not asked for again");
    }
    assert_eq!(node.mempool_len(), 0);
    assert!(listener.said().is_empty());
    peer.send(&Message::Tx(links[0].clone()));
    assert!(peer.said().is_empty());
    assert_eq!(node.mempool(), ids);
    assert_eq!(listener.recv(), inv(&ids));

    // What was mined can be spent, what never was cannot.
    node.mine(1);
    let [paid, unpaid] = [ids[3], Txid::ZERO].map(|txid| spend(&[OutPoint { txid, index: 0 }], 9));
    assert!(node.submit(paid) && !node.submit(unpaid));
    let rival = spend(&[OutPoint { txid: ids[0], index: 0 }], 3);
    assert_eq!(peer.said().len(), 2, "the block and the one that is paid");
    peer.send(&Message::Tx(rival));
    assert!(peer.said().is_empty(), "of a rival of one that is mined no parents are asked for");
}

#[test]
fn an_orphan_is_rejected_when_its_parent_came_and_to_whom_sent_it() {
    let node = start(TestNodeConfig::default().checks_inputs(true));
    let mut peer = Peer::connect(&node);
    let mut other = Peer::connect(&node);
    let links = chain(&node, 3);
    let ids: Vec<_> = links.iter().map(Transaction::txid).collect();
    node.reject_transaction(ids[1], RejectCode::NonStandard, "dust");
    peer.send(&Message::Tx(links[1].clone()));
    assert_eq!(peer.said(), [getdata(&[ids[0]])]);
    other.send(&Message::Tx(links[0].clone()));
    let Message::Reject(reject) = peer.until(Command::REJECT) else { panic!("no reject") };
    assert_eq!(
        (reject.code, reject.reason.to_string(), reject.txid()),
        (RejectCode::NonStandard, "dust".into(), Some(ids[1]))
    );
    assert!(other.said().is_empty());
    // Its child falls with it, without a word and without a question.
    other.send_all(&[Message::Tx(links[2].clone()), inv(&ids[2..])]);
    assert!(other.said().is_empty());
    assert_eq!(node.mempool(), [ids[0]]);
}

#[test]
fn a_node_tells_its_fee_filter_when_it_changes_and_to_who_comes_later() {
    let node = start(TestNodeConfig::default());
    let mut peer = Peer::connect(&node);
    let told = |satoshis_per_kilobyte| [Message::FeeFilter { satoshis_per_kilobyte }];
    for (set, expected) in [(0, None), (500, Some(500)), (500, None), (-1, Some(-1)), (i64::MAX, Some(i64::MAX))] {
        node.set_fee_filter(set);
        let expected: Vec<_> = expected.into_iter().flat_map(told).collect();
        assert_eq!(peer.said(), expected);
    }
    node.set_fee_filter(700);
    let mut late = Peer::connect(&node);
    assert_eq!(late.said(), told(700));
    // With the end of the initial download it says this again.
    node.initial_download(true);
    assert_eq!(late.said(), told(9_577_383));
    node.initial_download(false);
    assert_eq!(late.said(), told(700));
}

#[test]
fn a_node_that_keeps_ids_takes_and_relays_what_it_cannot_serve() {
    let node = start(TestNodeConfig::default().keep_transactions(false));
    let mut peer = Peer::connect(&node);
    let mut listener = Peer::connect(&node);
    let payment = transaction(1, 250);
    let ids = [payment.txid()];
    peer.send(&inv(&ids));
    assert_eq!(peer.recv(), getdata(&ids));
    peer.send(&Message::Tx(payment));
    assert_eq!(listener.recv(), inv(&ids));
    listener.send(&getdata(&ids));
    assert_eq!(listener.recv(), Message::NotFound(vec![Inventory::transaction(ids[0])]));
    peer.send(&inv(&ids));
    assert!(peer.said().is_empty());
    assert!(node.contains(ids[0]) && node.mempool().is_empty());
    assert_eq!(node.mempool_len(), 1);
}
