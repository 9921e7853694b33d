//! Every kind of request over real sockets, against the embedded node and against peers that lie.

#![allow(clippy::disallowed_methods, reason = "tests take the time")]

mod support;

use std::time::Duration;

use conduit::block::PartialMerkleTree;
use conduit::error::{AttemptFailure, ProtocolError, SendFailure};
use conduit::message::{
    Block, BloomFilter, CompactBlock, FilterUpdate, Inventory, InventoryKind, MerkleBlock, Message, ProtoConf,
    Reconstruction, Transaction,
};
use conduit::testnode::{TestNode, TestNodeConfig, transaction};
use conduit::{
    BlockTxnReply, Command, CompactReply, Conduit, Config, DisconnectReason, GetBlockTxn, GetBlocks, GetData,
    GetHdrsEn, Harm, Mempool, Network, PeerId, Ping, RequestError, RequestOptions, Txid,
};
use support::raw_peer::RawListener;
use support::{PATIENCE, waits};

#[test]
fn a_block_comes_in_every_form() {
    let (node, conduit, _) = scene(TestNodeConfig::default().blocks(3));
    let payments: Vec<Transaction> = (0..20).map(|n| transaction(n, 200)).collect();
    let tip = node.mine_with(payments.clone());
    let block = node.block(node.tip_height()).unwrap();

    let filtered = conduit.send_request(GetData::filtered_block(tip)).unwrap();
    assert_eq!(filtered.merkle_block.header, *block.header());
    assert_eq!(filtered.transactions[1..], payments, "without a filter, every one behind the coinbase too");

    let CompactReply::Compact(compact) = conduit.send_request(GetData::compact_block(tip)).unwrap() else {
        panic!("the tip comes whole")
    };
    // Half of it is known; the rest is asked for, and the block is the same to the byte.
    let Ok(Reconstruction::Partial(partial)) = compact.reconstruct(&payments[..10]) else {
        panic!("ten transactions are missing")
    };
    let BlockTxnReply::Transactions(found) = conduit.send_request(partial.request()).unwrap() else {
        panic!("a few of them, not all")
    };
    assert_eq!(found.transactions().len(), 10);
    assert_eq!(partial.fill(&found).unwrap(), block);

    node.mine(12);
    let deep = conduit.send_request(GetData::compact_block(tip)).unwrap();
    assert_eq!(deep, CompactReply::Block(block.clone()), "compact no more");
    let deep = conduit.send_request(GetBlockTxn::new(tip, [1, 2])).unwrap();
    assert_eq!(deep, BlockTxnReply::Block(block));
}

#[test]
fn a_filter_lets_only_matches_through() {
    let (node, conduit, peer) = scene(TestNodeConfig::default().bloom(true));
    let payments: Vec<Transaction> = (0..50).map(|n| transaction(n, 200)).collect();
    let wanted: Vec<Transaction> = payments.iter().step_by(17).cloned().collect();
    let tip = node.mine_with(payments);
    let mut filter = BloomFilter::new(3, 1e-9, 1, FilterUpdate::None).unwrap();
    wanted.iter().for_each(|tx| filter.insert(tx.txid().as_wire()).unwrap());
    conduit.send(peer, Message::FilterLoad(filter.into())).unwrap();
    let options = RequestOptions::new().peer(peer);
    let filtered = conduit.send_request_with(GetData::filtered_block(tip), &options).unwrap();
    assert_eq!(filtered.transactions, wanted);
    let matches: Vec<Txid> = filtered.merkle_block.matches().unwrap().into_iter().map(|(_, txid)| txid).collect();
    assert_eq!(matches, wanted.iter().map(Transaction::txid).collect::<Vec<_>>());
}

#[test]
fn the_chain_is_walked_by_hashes_and_by_enriched_headers() {
    let (node, conduit, _) = scene(TestNodeConfig::default().blocks(20));
    node.mine_with((0..6).map(|n| transaction(n, 150)).collect());
    let hash = |height| node.block_hash(height).unwrap();

    let headers = conduit.send_request(GetHdrsEn::new([hash(18)])).unwrap();
    assert_eq!(headers.iter().map(|item| item.header.hash()).collect::<Vec<_>>(), [hash(19), hash(20), hash(21)]);
    assert!(headers.iter().all(|item| item.verify().is_ok()));
    assert_eq!(headers.iter().map(|item| item.transaction_count).collect::<Vec<_>>(), [1, 1, 7]);
    assert_eq!(headers.iter().map(|item| item.no_more_headers).collect::<Vec<_>>(), [false, false, true]);

    let request = GetBlocks::new([hash(10)]).stop_at(hash(13));
    assert_eq!(conduit.send_request(request), Ok(vec![hash(11), hash(12)]), "the stop is not listed itself");
}

#[test]
fn a_transaction_comes_with_its_proof_where_the_node_has_it() {
    let (node, conduit, _) = scene(TestNodeConfig::default().blocks(0));
    let payments: Vec<Transaction> = (0..9).map(|n| transaction(n, 150)).collect();
    node.mine_with(payments.clone());
    let txid = payments[4].txid();
    let missing = conduit.send_request(GetData::dataref_transaction(txid));
    assert!(matches!(missing, Err(RequestError::NotFound { .. })), "{missing:?}");
    assert!(node.add_dataref(txid));
    let proven = conduit.send_request(GetData::dataref_transaction(txid)).unwrap();
    assert_eq!(proven.transaction, payments[4]);
    assert_eq!(proven.verify(&node.header(1).unwrap()), Ok(()));
    assert!(proven.verify(&node.header(0).unwrap()).is_err());
}

#[test]
fn the_pool_is_told_to_whoever_insists_and_may() {
    let (node, conduit, _) = scene(TestNodeConfig::default().bloom(true).mempool_requests(true));
    let mut pool: Vec<Txid> = (0..30).map(|n| transaction(n, 150).txid()).collect();
    assert!((0..30).all(|n| node.submit(transaction(n, 150))));
    assert_eq!(conduit.send_request(Mempool::new()), Err(RequestError::Harmful(Harm::Mempool)));
    let quiet = Duration::from_millis(200);
    let mut told = conduit.send_request(Mempool::new().insist().quiet(quiet)).unwrap();
    told.sort_unstable();
    pool.sort_unstable();
    assert_eq!(told, pool);

    // A node set up as usual ends the connection, and nobody else is asked.
    let (_usual, conduit, peer) = scene(TestNodeConfig::default());
    let events = conduit.events();
    let refused = conduit.send_request(Mempool::new().insist().quiet(quiet));
    let Err(RequestError::Failed { attempts }) = refused else { panic!("{refused:?}") };
    assert_eq!(attempts.len(), 1);
    assert_eq!((attempts[0].peer, &attempts[0].failure), (peer, &AttemptFailure::Disconnected));
    waits::reason_of(&events, peer);
}

#[test]
fn what_nodes_punish_is_refused_and_the_connection_stays() {
    let (node, conduit, peer) = scene(TestNodeConfig::default());
    let filter = || BloomFilter::new(1, 0.1, 1, FilterUpdate::None).expect("a small filter");
    let illegal = Inventory { kind: InventoryKind::CompactBlock, hash: [1; 32] };
    let cases = [
        (Message::Mempool { age_seconds: None }, Harm::Mempool),
        (Message::FilterLoad(filter().into()), Harm::FilterNotOffered),
        (Message::Inv(vec![illegal]), Harm::InventoryKind { kind: InventoryKind::CompactBlock }),
        (Message::ProtoConf(ProtoConf::new(2_000_000, "Default")), Harm::Handshake { command: Command::PROTOCONF }),
    ];
    for (message, harm) in cases {
        let refused = conduit.send(peer, message.clone()).unwrap_err();
        assert_eq!((refused.reason, &refused.message), (SendFailure::Harmful(harm), &message));
        assert_eq!(conduit.try_send(peer, message.clone()).unwrap_err().reason, SendFailure::Harmful(harm));
        assert_eq!(conduit.send_to_all(&[peer, peer], &message), [(); 2].map(|()| Err(SendFailure::Harmful(harm))));
    }
    conduit.send_anyway(peer, Message::SendHdrsEn).unwrap();
    let again = conduit.send(peer, Message::SendHdrsEn).unwrap_err();
    assert_eq!(again.reason, SendFailure::Harmful(Harm::Repeated { command: Command::SENDHDRSEN }));
    conduit.send(peer, Message::SendHeaders).unwrap();
    let again = conduit.send(peer, Message::SendHeaders).unwrap_err();
    assert_eq!(again.reason, SendFailure::Harmful(Harm::Repeated { command: Command::SENDHEADERS }));
    conduit.send_request(Ping).unwrap();
    assert_eq!(node.received(Command::SENDHEADERS), 1);
    assert_eq!(
        node.received(Command::INV) + node.received(Command::MEMPOOL) + node.received(Command::FILTERLOAD),
        0
    );

    let events = conduit.events();
    conduit.send_anyway(peer, Message::Mempool { age_seconds: None }).unwrap();
    assert_eq!(waits::reason_of(&events, peer), DisconnectReason::ClosedByPeer, "as the caller insisted");
}

#[test]
fn a_broken_proof_ends_the_connection_and_the_next_peer_is_asked() {
    let honest = node_with_payments();
    let block = honest.block(1).unwrap();
    for lie in [broken_tree(&block), wrong_root(&block)] {
        let (conduit, listener, liar) = beside_a_liar(&honest);
        let events = conduit.events();
        let mut raw = listener.shake_hands();
        waits::until("both are connected", || conduit.wait_for_peers(2, PATIENCE).is_ok());
        let pending = conduit.send_request_nowait(GetData::filtered_block(block.hash())).unwrap();
        raw.expect(Command::GETDATA);
        raw.send(&Message::MerkleBlock(Box::new(lie)));
        let reason = waits::reason_of(&events, liar);
        let is_typed = matches!(reason, DisconnectReason::Protocol(ProtocolError::BadPartialTree(_)));
        assert!(is_typed, "{reason:?}");
        let filtered = pending.wait().unwrap();
        assert_eq!(filtered.transactions.len(), block.transactions().len());
    }
}

#[test]
fn an_unproven_coinbase_ends_the_connection_and_the_next_peer_is_asked() {
    let honest = node_with_payments();
    let (conduit, listener, liar) = beside_a_liar(&honest);
    let genesis = Network::Regtest.genesis();
    let mut headers = connect(&honest).send_request(GetHdrsEn::new([genesis])).unwrap();
    let coinbase = headers[0].coinbase.as_mut().expect("the node gives it");
    coinbase.transaction = transaction(5, 100);
    let events = conduit.events();
    let mut raw = listener.shake_hands();
    conduit.wait_for_peers(2, PATIENCE).unwrap();
    let pending = conduit.send_request_nowait(GetHdrsEn::new([genesis])).unwrap();
    raw.expect(Command::GETHDRSEN);
    raw.send(&Message::HdrsEn(headers));
    let reason = waits::reason_of(&events, liar);
    assert!(matches!(reason, DisconnectReason::Protocol(ProtocolError::BadProof(_))), "{reason:?}");
    assert!(pending.wait().unwrap().iter().all(|item| item.verify().is_ok()));
}

#[test]
fn a_short_count_of_block_transactions_is_a_wrong_answer() {
    let honest = node_with_payments();
    let block = honest.block(1).unwrap();
    let (conduit, listener, liar) = beside_a_liar(&honest);
    let mut raw = listener.shake_hands();
    conduit.wait_for_peers(2, PATIENCE).unwrap();
    let request = GetBlockTxn::new(block.hash(), [1, 2]);
    let pending = conduit.send_request_nowait(request).unwrap();
    raw.expect(Command::GETBLOCKTXN);
    let one = conduit::message::BlockTxn::new(block.hash(), block.transactions().take(1));
    raw.send(&Message::BlockTxn(Box::new(one)));
    let BlockTxnReply::Transactions(found) = pending.wait().unwrap() else { panic!("two of them are wanted") };
    let wanted: Vec<Txid> = block.transactions().skip(1).take(2).map(|tx| tx.txid()).collect();
    assert_eq!(found.transactions().map(|tx| tx.txid()).collect::<Vec<_>>(), wanted);
    assert!(conduit.peers().iter().any(|peer| peer.id == liar && peer.failures > 0), "it sinks in rank");
}

#[test]
fn a_compact_block_with_short_ids_of_another_is_found_out() {
    let honest = node_with_payments();
    let block = honest.block(1).unwrap();
    let other = Block::new(*block.header(), (50..59).map(|n| transaction(n, 100)).collect::<Vec<_>>());
    let lie = CompactBlock::new(&other, 3);
    let known: Vec<Transaction> = (50..59).map(|n| transaction(n, 100)).collect();
    let made = lie.reconstruct(&known);
    assert!(made.is_err(), "its transactions do not give the header's merkle root");
}

/// A tree with a hash too many.
fn broken_tree(block: &Block) -> MerkleBlock {
    let mut lie = honest_proof(block);
    lie.tree.hashes.push([7; 32]);
    lie
}

/// A sound tree of other transactions.
fn wrong_root(block: &Block) -> MerkleBlock {
    let others: Vec<Txid> = (90..95).map(|n| transaction(n, 100).txid()).collect();
    let tree = PartialMerkleTree::new(&others, |_, _| true).expect("there are some");
    MerkleBlock { tree, ..honest_proof(block) }
}

fn honest_proof(block: &Block) -> MerkleBlock {
    let txids: Vec<Txid> = block.transactions().map(|tx| tx.txid()).collect();
    let tree = PartialMerkleTree::new(&txids, |_, _| true).expect("a block has transactions");
    MerkleBlock { header: *block.header(), tree }
}

/// A node whose first block has payments.
fn node_with_payments() -> TestNode {
    let node = TestNode::start(TestNodeConfig::default().blocks(0)).expect("a test node starts");
    node.mine_with((0..9).map(|n| transaction(n, 100)).collect());
    node
}

/// A conduit with an honest peer; its main peer says what the test has it say.
fn beside_a_liar(honest: &TestNode) -> (Conduit, RawListener, PeerId) {
    let conduit = connect(honest);
    let listener = RawListener::bind();
    let liar = conduit.set_main_peer(listener.address()).expect("an address");
    (conduit, listener, liar)
}

fn connect(node: &TestNode) -> Conduit {
    let conduit = Conduit::new(Config::new(Network::Regtest)).expect("the settings hold");
    conduit.add_peers([node.address()]).expect("an address");
    conduit.start().expect("it starts");
    conduit.wait_for_peers(1, PATIENCE).expect("the node connects");
    conduit
}

/// A node and a conduit connected to it.
fn scene(config: TestNodeConfig) -> (TestNode, Conduit, PeerId) {
    let node = TestNode::start(config).expect("a test node starts");
    let conduit = connect(&node);
    let peer = conduit.peers()[0].id;
    (node, conduit, peer)
}
