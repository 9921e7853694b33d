//! The handshake, the chain, the pool, what is relayed, and the switches for all connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use conduit::message::{
    Block, BlockHeader, GetHeaders, Inventory, InventoryKind, Message, OutPoint, RejectCode, Services, Transaction,
    TransactionInput, TransactionOutput, Version,
};
use conduit::testnode::{TestNode, TestNodeConfig, spend, transaction};
use conduit::wire::{BlockHash, Command, Frame, SharedBytes, Txid};
use conduit::{CustomNetwork, Network};

use super::peer::{PATIENCE, Peer, mined, version, without_relay};

fn start(blocks: u32) -> TestNode {
    TestNode::start(TestNodeConfig::default().blocks(blocks)).unwrap()
}

fn inv_tx(txid: Txid) -> Message {
    Message::Inv(vec![Inventory::transaction(txid)])
}

fn getdata(items: impl IntoIterator<Item = Inventory>) -> Message {
    Message::GetData(items.into_iter().collect())
}

fn reject_of(message: Message) -> (RejectCode, String, Option<Txid>) {
    let Message::Reject(reject) = message else { panic!("{message:?} is no reject") };
    (reject.code, reject.reason.to_string(), reject.txid())
}

fn coinbase(tag: u8) -> Transaction {
    let input = TransactionInput { previous_output: OutPoint::NULL, script_sig: &[1, tag], sequence: u32::MAX };
    Transaction::new(1, &[input], &[TransactionOutput { value: 1, script_pubkey: &[0x51] }], 0)
}

#[test]
fn the_handshake_goes_as_with_a_real_node() {
    let node = start(10);
    let mut peers = Vec::new();
    for services in [Services::NONE, Services::NETWORK] {
        let mut peer = Peer::dial(&node, &Network::Regtest);
        peer.send(&Message::from(Version::new(services, 77, "/raw/", 0, 0)));
        let Message::Version(version) = peer.recv() else { panic!("the first message is no version") };
        assert_eq!((version.version, version.start_height), (70016, 10));
        assert_eq!(version.services, Services(0x21));
        assert_eq!(version.user_agent.as_str(), "/Bitcoin SV:1.2.2/");
        assert_eq!(peer.recv(), Message::Verack);
        let Message::ProtoConf(protoconf) = peer.recv() else { panic!("no protoconf") };
        assert_eq!(protoconf.max_recv_payload_length, 2_097_152);
        peer.send(&Message::Verack);
        let mut order = vec![Command::AUTHCH, Command::SENDHEADERS, Command::SENDCMPCT, Command::PING];
        if services == Services::NETWORK {
            order.push(Command::GETHEADERS);
        }
        let got: Vec<_> = order.iter().map(|_| peer.recv().command()).collect();
        assert_eq!(got, order);
        assert!(peer.said().is_empty());
        peers.push(peer);
    }
    assert!(node.wait_for_connections(2, PATIENCE));
    assert_eq!(node.received(Command::VERACK), 2);
}

#[test]
fn every_network_and_every_loopback_address_can_be_had() {
    for network in [Network::Main, Network::Test, Network::Scaling, Network::Regtest] {
        let ip = Ipv4Addr::new(127, 9, 8, 7);
        let node = TestNode::start(TestNodeConfig::default().network(network.clone()).ip(ip).blocks(3)).unwrap();
        assert_eq!(node.address().ip(), ip);
        assert_eq!(node.block_hash(0), Some(network.genesis()));
        let mut peer = Peer::dial(&node, &network);
        peer.send(&Message::from(version()));
        assert_eq!(peer.recv().command(), Command::VERSION);
    }
    let elsewhere = TestNode::start(TestNodeConfig::default().ip(Ipv4Addr::UNSPECIFIED));
    assert_eq!(elsewhere.unwrap_err().kind(), ErrorKind::InvalidInput);
    let custom = |genesis| CustomNetwork {
        name: "mine".to_owned(),
        magic: [1, 2, 3, 4],
        port: 1,
        seeds: Vec::new(),
        genesis,
        fork_marker: None,
    };
    let known = Network::Custom(Arc::new(custom(Network::Regtest.genesis())));
    assert!(TestNode::start(TestNodeConfig::default().network(known)).is_ok());
    let unknown = Network::Custom(Arc::new(custom(BlockHash::ZERO)));
    let refused = TestNode::start(TestNodeConfig::default().network(unknown));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn the_chain_is_the_same_on_every_node() {
    let (one, two) = (start(30), start(20));
    assert_eq!((one.tip_height(), two.tip_height()), (30, 20));
    for height in 0..=20 {
        assert_eq!(one.block_hash(height), two.block_hash(height));
    }
    assert_eq!(two.mine(10), (21..=30).map(|height| one.block_hash(height).unwrap()).collect::<Vec<_>>());
    // Written down once: a change of this hash changes what every user's test sees.
    assert_eq!(one.block_hash(30).unwrap().to_string(), CHAIN_30);
    assert_eq!(one.header(30).map(|header| header.hash()), one.block_hash(30));
    assert_eq!((one.block_hash(31), one.header(31), one.block(31)), (None, None, None));
}

#[test]
fn headers_are_answered_row_by_row() {
    let node = start(2_010);
    let mut peer = Peer::connect(&node);
    let at = |height| node.block_hash(height).unwrap();
    let mut ask = |request: GetHeaders| {
        peer.send(&Message::GetHeaders(request));
        let said = peer.said();
        assert!(said.len() <= 1, "{said:?}");
        said.into_iter().next().map(|message| {
            let Message::Headers(headers) = message else { panic!("{message:?}") };
            headers.iter().map(BlockHeader::hash).collect::<Vec<_>>()
        })
    };
    let range = |from: u32, to: u32| Some((from..=to).map(at).collect::<Vec<_>>());
    assert_eq!(ask(GetHeaders::new([at(0)])), range(1, 2_000));
    assert_eq!(ask(GetHeaders::new([at(2_000)])), range(2_001, 2_010));
    assert_eq!(ask(GetHeaders::new([at(2_010)])), Some(vec![]));
    assert_eq!(ask(GetHeaders::new([at(5)]).stop_at(at(9))), range(6, 9));
    assert_eq!(ask(GetHeaders::new([BlockHash::ZERO]).stop_at(at(1))), range(1, 1));
    assert_eq!(ask(GetHeaders::new([]).stop_at(at(0))), range(0, 0));
    assert_eq!(ask(GetHeaders::new([])), None);
}

#[test]
fn data_is_answered_in_order_with_notfound_at_the_end_of_a_pass() {
    let node = start(10);
    let known = transaction(1, 300);
    assert!(node.submit(known.clone()));
    let mut peer = Peer::connect(&node);
    let missing: Vec<_> = (10..13).map(|n| Inventory::transaction(transaction(n, 100).txid())).collect();
    let block = node.block(4).unwrap();
    let unknown_block = Inventory::block(BlockHash::from_wire([9; 32]));
    let flagged = Inventory { kind: InventoryKind::Other(0x4000_0001), ..missing[0] };
    let dataref = Inventory { kind: InventoryKind::DataRefTransaction, ..missing[2] };
    peer.send_all(&[
        getdata([missing[0], Inventory::block(block.hash()), missing[1], Inventory::transaction(known.txid())]),
        Message::Ping { nonce: 1_000 },
        getdata([unknown_block]),
        getdata([flagged, dataref]),
    ]);
    assert_eq!(peer.recv(), Message::Block(block.clone()));
    assert_eq!(peer.recv(), Message::NotFound(vec![missing[0]]));
    assert_eq!(peer.recv(), Message::Tx(known));
    assert_eq!(peer.recv(), Message::NotFound(vec![missing[1]]));
    assert_eq!(peer.recv(), Message::Pong { nonce: 1_000 }, "a ping waits for what was asked before it");
    assert_eq!(peer.recv(), Message::NotFound(vec![dataref]));
    assert!(peer.said().is_empty(), "an unknown block gets silence");
    assert_eq!(block.check_merkle_root(), Ok(()));
}

#[test]
fn addresses_are_told_once_on_a_connection() {
    let addresses: Vec<SocketAddr> = (1..4).map(|n| SocketAddr::from(([127, 0, 0, n], 18_444))).collect();
    let node = TestNode::start(TestNodeConfig::default().addresses(addresses.clone())).unwrap();
    let mut peer = Peer::connect(&node);
    peer.send_all(&[Message::GetAddr, Message::GetAddr]);
    let said = peer.said();
    let [Message::Addr(told)] = &said[..] else { panic!("{said:?}") };
    assert_eq!(told.iter().map(|told| told.address.socket_addr()).collect::<Vec<_>>(), addresses);
    let mut other = Peer::connect(&node);
    other.send(&Message::GetAddr);
    assert_eq!(other.said().len(), 1);
    let lonely = start(0);
    let mut nobody = Peer::connect(&lonely);
    nobody.send(&Message::GetAddr);
    assert!(nobody.said().is_empty());
}

#[test]
fn what_is_not_for_it_is_ignored() {
    let node = start(1);
    let mut peer = Peer::connect(&node);
    let unknown = |name| Message::Unknown { command: Command::new(name).unwrap(), payload: SharedBytes::default() };
    let never_read = Message::NotFound(vec![Inventory::transaction(transaction(2, 100).txid())]);
    peer.send_all(&[unknown("hdrsen"), unknown("feefilter2"), unknown("sendaddrv2"), never_read]);
    let mut broken = Message::Tx(transaction(1, 100)).to_frame(Network::Regtest.magic()).to_vec();
    broken[30] ^= 1;
    peer.stream.write_all(&broken).unwrap();
    assert!(peer.said().is_empty());
    assert_eq!((node.received(Command::HDRSEN), node.score(0)), (1, 0));
    assert!(node.mempool().is_empty());
}

#[test]
fn a_transaction_is_fetched_and_relayed_but_never_to_its_sender() {
    let node = start(1);
    let mut sender = Peer::connect(&node);
    let mut listener = Peer::connect(&node);
    let mut deaf = Peer::connect_as(&node, without_relay(), true);
    let polite = transaction(1, 250);
    sender.send(&inv_tx(polite.txid()));
    assert_eq!(sender.recv(), getdata([Inventory::transaction(polite.txid())]));
    sender.send(&Message::Tx(polite.clone()));
    assert_eq!(listener.recv(), inv_tx(polite.txid()));
    assert!(node.contains(polite.txid()));
    // Unasked is fine too.
    let direct = transaction(2, 250);
    sender.send(&Message::Tx(direct.clone()));
    assert_eq!(listener.recv(), inv_tx(direct.txid()));
    assert_eq!(node.mempool(), [polite.txid(), direct.txid()]);

    // Again, a second spend, and one that is known announced again: not a word.
    let rival = spend(&[direct.inputs().next().unwrap().previous_output], 5);
    sender.send_all(&[Message::Tx(direct.clone()), Message::Tx(rival.clone()), inv_tx(rival.txid())]);
    sender.send(&inv_tx(direct.txid()));
    assert!(sender.said().is_empty());
    assert!(listener.said().is_empty());
    assert!(deaf.said().is_empty());
    listener.send(&getdata([Inventory::transaction(direct.txid())]));
    assert_eq!(listener.recv(), Message::Tx(direct));

    // A bloom filter's end turns relay on; a connection made later hears of nothing old.
    deaf.send(&Message::FilterClear);
    assert!(deaf.said().is_empty());
    let mut late = Peer::connect(&node);
    let submitted = transaction(3, 250);
    assert!(node.submit(submitted.clone()));
    assert!(!node.submit(submitted.clone()));
    for peer in [&mut sender, &mut listener, &mut deaf, &mut late] {
        assert_eq!(peer.recv(), inv_tx(submitted.txid()));
        assert!(peer.said().is_empty());
    }
}

#[test]
fn whoever_else_announced_a_transaction_is_asked_when_the_first_fails() {
    let node = start(1);
    let mut peers: Vec<_> = (0..4).map(|_| Peer::connect(&node)).collect();
    let wanted = transaction(1, 250);
    let asked = getdata([Inventory::transaction(wanted.txid())]);
    for peer in &mut peers {
        peer.send(&inv_tx(wanted.txid()));
        let said = peer.said();
        assert!(said.is_empty() || said == [asked.clone()]);
    }
    peers[0].send(&Message::NotFound(vec![Inventory::transaction(wanted.txid())]));
    assert_eq!(peers[1].recv(), asked);
    drop(peers.remove(1));
    assert_eq!(peers[1].recv(), asked);
    peers[1].send(&Message::Tx(wanted.clone()));
    assert!(node.wait_for_transaction(wanted.txid(), PATIENCE));
    // Those who announced it know it.
    for peer in &mut peers {
        assert!(peer.said().is_empty());
    }
}

#[test]
fn bad_transactions_are_rejected_with_their_txid() {
    let node = start(1);
    let mut peer = Peer::connect(&node);
    let no_inputs = spend(&[], 1);
    peer.send(&Message::Tx(no_inputs.clone()));
    let txid = Some(no_inputs.txid());
    assert_eq!(reject_of(peer.recv()), (RejectCode::Invalid, "bad-txns-vin-empty".to_owned(), txid));
    peer.send_all(&[Message::Tx(no_inputs.clone()), inv_tx(no_inputs.txid())]);
    assert!(peer.said().is_empty(), "what was rejected is not looked at again");

    let truncated = Frame::encode(Network::Regtest.magic(), Command::TX, |out| out.extend_from_slice(&[1; 20]));
    peer.stream.write_all(&truncated).unwrap();
    let malformed = (RejectCode::Malformed, "error parsing message".to_owned(), None);
    assert_eq!(reject_of(peer.recv()), malformed);

    let point = OutPoint { txid: Txid::from_wire([1; 32]), index: 0 };
    let twice = spend(&[point, point], 1);
    peer.send(&Message::Tx(twice.clone()));
    let reason = "bad-txns-inputs-duplicate".to_owned();
    assert_eq!(reject_of(peer.recv()), (RejectCode::Invalid, reason, Some(twice.txid())));
    peer.assert_closed();
    assert!(node.wait_for_connections(0, PATIENCE));
    assert!(node.mempool().is_empty());
}

#[test]
fn transactions_are_rejected_on_command() {
    let node = start(1);
    let mut peer = Peer::connect(&node);
    let [one, two, three] = [1, 2, 3].map(|n| transaction(n, 200));
    node.reject_transaction(one.txid(), RejectCode::NonStandard, "dust");
    peer.send_all(&[Message::Tx(one.clone()), Message::Tx(two.clone())]);
    let dust = (RejectCode::NonStandard, "dust".to_owned(), Some(one.txid()));
    assert_eq!(reject_of(peer.recv()), dust);
    assert!(node.wait_for_transaction(two.txid(), PATIENCE));
    node.reject_transactions(Some((RejectCode::InsufficientFee, "mempool min fee not met")));
    peer.send(&inv_tx(three.txid()));
    assert_eq!(peer.recv().command(), Command::GETDATA);
    peer.send(&Message::Tx(three.clone()));
    let fee = (RejectCode::InsufficientFee, "mempool min fee not met".to_owned(), Some(three.txid()));
    assert_eq!(reject_of(peer.recv()), fee);
    node.reject_transactions(None);
    peer.send(&Message::Tx(three.clone()));
    assert!(node.wait_for_transaction(three.txid(), PATIENCE));
    assert!(peer.said().is_empty());
}

#[test]
fn new_blocks_are_announced_as_the_peer_wants_it() {
    let node = start(10);
    let mut plain = Peer::connect_as(&node, without_relay(), false);
    let mut modern = Peer::connect(&node);
    modern.send(&Message::SendHeaders);
    assert!(modern.said().is_empty());

    // The node does not know yet that the peer has the block before.
    let payment = transaction(1, 250);
    assert!(node.submit(payment.clone()));
    assert_eq!(modern.recv(), inv_tx(payment.txid()));
    let first = node.mine(1)[0];
    let inv = Message::Inv(vec![Inventory::block(first)]);
    assert_eq!((plain.recv(), modern.recv()), (inv.clone(), inv));
    modern.send(&Message::GetHeaders(GetHeaders::new([node.block_hash(10).unwrap()])));
    assert_eq!(modern.recv(), Message::Headers(vec![node.header(11).unwrap()]));

    let hashes = node.mine(8);
    let headers: Vec<_> = (12..20).map(|height| node.header(height).unwrap()).collect();
    assert_eq!(modern.recv(), Message::Headers(headers));
    assert_eq!(plain.recv(), Message::Inv(vec![Inventory::block(hashes[7])]));
    // More than eight are too many.
    let tip = *node.mine(9).last().unwrap();
    let inv = Message::Inv(vec![Inventory::block(tip)]);
    assert_eq!((plain.recv(), modern.recv()), (inv.clone(), inv));

    // The mempool went into the first one; what was relayed can still be had.
    assert!(node.mempool().is_empty());
    let block = node.block(11).unwrap();
    assert_eq!(block.check_merkle_root(), Ok(()));
    assert_eq!(block.transactions().map(|t| t.txid()).collect::<Vec<_>>()[1..], [payment.txid()]);
    modern.send_all(&[Message::Tx(payment.clone()), getdata([Inventory::transaction(payment.txid())])]);
    assert_eq!(modern.recv(), Message::Tx(payment));
    assert!(modern.said().is_empty());
}

#[test]
fn a_reorganisation_is_announced_and_gives_the_transactions_back() {
    let node = start(10);
    let payment = transaction(1, 250);
    assert!(node.submit(payment.clone()));
    node.mine(1);
    let mut peer = Peer::connect(&node);
    let old = node.block_hash(11).unwrap();
    assert_eq!(node.mine_branch(9, 2).len(), 2, "as long as the chain, so not the chain yet");
    assert!(peer.said().is_empty());
    assert_eq!(node.block_hash(11), Some(old));
    let new = node.mine_branch(9, 3);
    assert_eq!(peer.recv(), Message::Inv(vec![Inventory::block(new[2])]));
    assert_eq!(node.tip_height(), 12);
    assert_eq!((10..=12).map(|height| node.block_hash(height).unwrap()).collect::<Vec<_>>(), new);
    let locator = vec![old, node.block_hash(9).unwrap()];
    peer.send(&Message::GetHeaders(GetHeaders::new(locator)));
    let Message::Headers(headers) = peer.recv() else { panic!("no headers") };
    assert_eq!(headers.iter().map(BlockHeader::hash).collect::<Vec<_>>(), new);
    assert_eq!(node.mempool(), [payment.txid()]);
    assert!(node.mine_branch(99, 1).is_empty());
}

#[test]
fn blocks_of_a_peer_are_asked_for_checked_and_announced() {
    let node = start(10);
    let mut miner = Peer::connect(&node);
    let mut listener = Peer::connect(&node);
    let payment = transaction(1, 250);
    assert!(node.submit(payment.clone()));
    assert_eq!((miner.recv(), listener.recv()), (inv_tx(payment.txid()), inv_tx(payment.txid())));
    let block = mined(&node.block(10).unwrap(), vec![coinbase(1), payment]);
    miner.send(&Message::Inv(vec![Inventory::block(block.hash())]));
    let Message::GetHeaders(request) = miner.recv() else { panic!("no getheaders") };
    assert_eq!((request.locator[0], request.stop), (node.block_hash(10).unwrap(), block.hash()));
    miner.send(&Message::Headers(vec![*block.header()]));
    assert_eq!(miner.recv(), getdata([Inventory::block(block.hash())]));
    miner.send(&Message::Block(block.clone()));
    let inv = Message::Inv(vec![Inventory::block(block.hash())]);
    assert_eq!((miner.recv(), listener.recv()), (inv.clone(), inv), "its sender hears of it as well");
    assert_eq!(node.block(11), Some(block.clone()));
    assert!(node.mempool().is_empty());

    // Headers out of nowhere draw a question, a block out of nowhere nothing.
    let next = mined(&block, vec![coinbase(2)]);
    let after = mined(&next, vec![coinbase(3)]);
    miner.send_all(&[Message::Headers(vec![*after.header()]), Message::Block(after)]);
    assert_eq!(miner.recv().command(), Command::GETHEADERS);
    assert!(miner.said().is_empty());
    // A block with other transactions than its header says ends the connection.
    miner.send(&Message::Block(Block::new(*next.header(), vec![coinbase(9)])));
    let Message::Reject(reject) = miner.recv() else { panic!("no reject") };
    assert_eq!((reject.code, reject.block_hash()), (RejectCode::Invalid, Some(next.hash())));
    miner.assert_closed();
}

#[test]
fn joined_nodes_share_transactions_and_blocks() {
    let nodes = [start(2_050), start(5), start(0)];
    nodes[0].join(&nodes[1]).unwrap();
    nodes[2].join(&nodes[1]).unwrap();
    assert_eq!(nodes[0].join(&nodes[0]).unwrap_err().kind(), ErrorKind::InvalidInput);
    for node in &nodes {
        assert!(node.wait_for_height(2_050, PATIENCE));
        assert_eq!(node.block_hash(2_050), nodes[0].block_hash(2_050));
        assert_eq!(node.connections(), 0, "joined nodes are no peers under test");
    }
    for (i, from) in nodes.iter().enumerate() {
        let payment = transaction(i as u64, 1_000);
        assert!(from.submit(payment.clone()));
        assert!(nodes.iter().all(|node| node.wait_for_transaction(payment.txid(), PATIENCE)));
        from.mine(3);
        let height = 2_050 + 3 * (i as u32 + 1);
        for node in &nodes {
            assert!(node.wait_for_height(height, PATIENCE));
            assert_eq!(node.block_hash(height), from.block_hash(height));
            assert!(node.mempool().is_empty());
        }
    }
    // The link is not what a test of connections drops or floods.
    nodes[1].drop_connections();
    assert_eq!(nodes[1].send(&Message::Ping { nonce: 1 }), 0);
    nodes[1].mine(1);
    assert!(nodes.iter().all(|node| node.wait_for_height(2_060, PATIENCE)));
    // Side branches travel as well once they are longer.
    nodes[2].mine_branch(2_055, 6);
    assert!(nodes.iter().all(|node| node.wait_for_height(2_061, PATIENCE)));
}

#[test]
fn a_block_of_many_megabytes_goes_out_whole_and_crosses_a_link() {
    let (node, other) = (start(1), start(1));
    node.join(&other).unwrap();
    let transactions: Vec<_> = (0..16).map(|n| transaction(n, 500_000)).collect();
    let mut peer = Peer::connect(&node);
    let hash = node.mine_with(transactions.iter().chain(&transactions[..1]).cloned().collect());
    assert_eq!(peer.recv(), Message::Inv(vec![Inventory::block(hash)]));
    peer.send(&getdata([Inventory::block(hash), Inventory::block(hash)]));
    for _ in 0..2 {
        let Message::Block(block) = peer.recv() else { panic!("no block") };
        assert_eq!((block.hash(), block.transaction_count()), (hash, 17));
        assert_eq!(block.check_merkle_root(), Ok(()));
    }
    assert!(other.wait_for_height(2, PATIENCE));
    assert_eq!(other.block(2), node.block(2));
}

#[test]
fn two_nodes_that_send_each_other_large_blocks_do_not_wait_for_each_other() {
    let (one, two) = (start(1), start(1));
    let large = |from: u64| (from..from + 5).map(|n| transaction(n, 1_000_000)).collect::<Vec<_>>();
    for n in 0..4 {
        one.mine_with(large(n * 10));
    }
    two.mine_branch(0, 2);
    for n in 10..13 {
        two.mine_with(large(n * 10));
    }
    two.join(&one).unwrap();
    // Both fetch the other's branch; neither is longer, so a block more decides.
    two.mine(1);
    assert!(one.wait_for_height(6, 3 * PATIENCE));
    assert_eq!(one.block_hash(6), two.block_hash(6));
}

#[test]
fn an_inventory_that_may_not_be_announced_ends_the_connection() {
    let node = start(1);
    let mut peer = Peer::connect(&node);
    peer.send(&Message::Inv(vec![Inventory { kind: InventoryKind::CompactBlock, hash: [1; 32] }]));
    peer.assert_closed();
}

#[test]
fn announcements_are_split_as_the_peer_takes_them() {
    let node = start(1);
    let mut peer = Peer::connect_as(&node, version(), false);
    let mut feeder = Peer::connect(&node);
    let stream: Vec<u8> = (0..30_000)
        .flat_map(|n| Message::Tx(transaction(n, 62)).to_frame(Network::Regtest.magic()).to_vec())
        .collect();
    feeder.stream.write_all(&stream).unwrap();
    let mut heard = 0;
    while heard < 30_000 {
        let Message::Inv(items) = peer.recv() else { panic!("no inv") };
        assert!(items.len() <= 29_126);
        heard += items.len();
    }
    assert_eq!(node.mempool().len(), 30_000);
}

#[test]
fn a_node_that_refuses_closes_without_a_byte_and_keeps_its_connections() {
    let node = start(1);
    let mut before = Peer::connect(&node);
    node.refuse(true);
    let mut refused = Peer::dial(&node, &Network::Regtest);
    assert_eq!(refused.next(), None);
    assert!(before.said().is_empty());
    node.refuse(false);
    Peer::connect(&node);
}

#[test]
fn a_silent_node_counts_but_never_answers() {
    let node = start(1);
    let mut peer = Peer::connect(&node);
    let pings = node.received(Command::PING);
    node.silence(true);
    peer.send(&Message::Ping { nonce: 5 });
    peer.send(&Message::GetHeaders(GetHeaders::new([BlockHash::ZERO])));
    assert!(node.wait_for_received(Command::PING, pings + 1, PATIENCE));
    assert!(node.wait_for_received(Command::GETHEADERS, 1, PATIENCE));
    assert!(node.submit(transaction(1, 100)));
    node.mine(1);
    assert_eq!(node.connections(), 1, "the connection stays");
    node.silence(false);
    assert!(peer.said().is_empty(), "what was asked in silence is lost");
}

#[test]
fn single_commands_are_ignored() {
    let node = start(1);
    node.ignore(Command::PROTOCONF);
    node.ignore(Command::GETHEADERS);
    let mut peer = Peer::connect(&node);
    let ask = Message::GetHeaders(GetHeaders::new([BlockHash::ZERO]));
    peer.send(&ask);
    assert!(peer.said().is_empty());
    assert_eq!((node.received(Command::GETHEADERS), node.received(Command::PROTOCONF)), (1, 1));
    node.heed(Command::GETHEADERS);
    peer.send(&ask);
    assert_eq!(peer.recv().command(), Command::HEADERS);
    node.ignore(Command::PING);
    peer.send_all(&[Message::Ping { nonce: 1 }, ask]);
    assert_eq!(peer.recv().command(), Command::HEADERS);
}

#[test]
fn latency_holds_everything_back() {
    let latency = Duration::from_millis(60);
    let node = TestNode::start(TestNodeConfig::default().latency(latency)).unwrap();
    let began = Instant::now();
    let mut peer = Peer::connect(&node);
    assert!(began.elapsed() >= latency, "the handshake");
    let began = Instant::now();
    peer.send(&Message::Ping { nonce: 1 });
    assert_eq!(peer.recv(), Message::Pong { nonce: 1 });
    assert!(began.elapsed() >= latency, "a pong");
    let began = Instant::now();
    let ask = Message::GetHeaders(GetHeaders::new([BlockHash::ZERO]));
    peer.send_all(&vec![ask; 50]);
    for _ in 0..50 {
        assert_eq!(peer.recv().command(), Command::HEADERS);
    }
    assert!(began.elapsed() >= latency, "answers");
    assert!(began.elapsed() < 25 * latency, "they are on their way together");
    let began = Instant::now();
    node.mine(1);
    assert_eq!(peer.recv().command(), Command::INV);
    assert!(began.elapsed() >= latency, "an announcement");
    node.set_latency(Duration::ZERO);
    assert!(peer.said().is_empty());
    let began = Instant::now();
    assert!((0..10).all(|_| peer.said().is_empty()));
    assert!(began.elapsed() < 10 * latency, "it is over");
}

#[test]
fn dropped_connections_are_gone_and_can_be_made_again() {
    let node = start(1);
    let mut peers: Vec<_> = (0..3).map(|_| Peer::connect(&node)).collect();
    assert!(peers.iter_mut().all(|peer| peer.said().is_empty()));
    assert_eq!(node.connections(), 3);
    node.drop_connections();
    assert_eq!(node.connections(), 0);
    peers.iter_mut().for_each(Peer::assert_closed);
    let mut again = Peer::connect(&node);
    assert!(again.said().is_empty());
    assert_eq!(node.connections(), 1);
}

#[test]
fn a_node_that_does_not_read_lets_the_sends_stall_and_goes_on_later() {
    let node = start(1);
    let mut peer = Peer::connect(&node);
    node.stop_reading(true);
    peer.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let payload = SharedBytes::from(vec![7; 1_000_000]);
    let command = Command::new("ballast").unwrap();
    let frame = Message::Unknown { command, payload }.to_frame(peer.magic);
    let mut sent = 0;
    let begun = loop {
        assert!(sent < 1_000, "a gigabyte vanished");
        match write_some(&mut peer.stream, &frame) {
            n if n == frame.len() => sent += 1,
            n => break n,
        }
    };
    assert_eq!(node.received(command), 0);
    // It still talks.
    node.send(&Message::Ping { nonce: 3 });
    assert_eq!(peer.recv(), Message::Ping { nonce: 3 });
    node.stop_reading(false);
    peer.stream.set_write_timeout(Some(PATIENCE)).unwrap();
    peer.stream.write_all(&frame[begun..]).unwrap();
    assert!(node.wait_for_received(command, sent + 1, PATIENCE));
    assert!(peer.said().is_empty());
}

/// Writes until all is written or the time is up; returns how much went.
fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(n) => written += n,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("{error}"),
        }
    }
    written
}

#[test]
fn raw_bytes_go_out_as_they_are_between_messages() {
    let node = start(1);
    let mut peer = Peer::connect(&node);
    let large = Message::Unknown {
        command: Command::new("large").unwrap(),
        payload: SharedBytes::from(vec![1; 3_000_000]),
    };
    let ping = Message::Ping { nonce: 9 }.to_frame(peer.magic);
    thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(node.send(&large), 1);
            assert_eq!(node.send_bytes(&ping[..10]), 1);
            assert_eq!(node.send_bytes(&ping[10..]), 1);
            assert_eq!(node.send(&large), 1);
        });
        assert_eq!(peer.recv(), large);
        assert_eq!(peer.recv(), Message::Ping { nonce: 9 });
        assert_eq!(peer.recv(), large);
    });
    let garbage = b"no frame at all, but longer than a header";
    assert_eq!(node.send_bytes(garbage), 1);
    let mut rest = [0; 41];
    peer.stream.read_exact(&mut rest).unwrap();
    assert_eq!(rest, *garbage);
}

#[test]
fn a_flood_is_as_fast_as_its_reader_and_bounded_in_memory() {
    let node = start(1);
    let mut peer = Peer::connect(&node);
    let payload = SharedBytes::from(vec![7; 1_000_000]);
    let message = Message::Unknown { command: Command::new("flood").unwrap(), payload };
    let sent = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..100 {
                assert_eq!(node.send(&message), 1);
                sent.fetch_add(1, Ordering::SeqCst);
            }
        });
        for received in 0..100 {
            assert_eq!(peer.recv(), message);
            let ahead = sent.load(Ordering::SeqCst).saturating_sub(received);
            assert!(ahead < 40, "{ahead} MB are neither read nor held back");
        }
    });
}

#[test]
fn stopping_ends_connections_and_blocked_sends_within_a_moment() {
    let node = start(1);
    let mut peer = Peer::connect(&node);
    let idle = Peer::connect(&node);
    let payload = SharedBytes::from(vec![7; 8_000_000]);
    let message = Message::Unknown { command: Command::new("flood").unwrap(), payload };
    thread::scope(|scope| {
        let flood = scope.spawn(|| (0..100).take_while(|_| node.send(&message) > 0).count());
        // Some bytes came, so the sender is at it; nobody reads the rest.
        peer.stream.read_exact(&mut [0; 1_000]).unwrap();
        let began = Instant::now();
        node.stop();
        assert!(flood.join().unwrap() < 100);
        assert!(began.elapsed() < Duration::from_secs(5));
    });
    drop(idle);
    node.stop();
    assert_eq!(node.connections(), 0);
    assert!(TcpStream::connect(node.address()).is_err(), "nobody listens any more");
    assert_eq!(node.tip_height(), 1);
}

#[test]
fn dropping_a_node_that_does_not_read_and_is_silent_ends_it_too() {
    let node = start(1);
    let mut peer = Peer::connect(&node);
    node.silence(true);
    node.stop_reading(true);
    peer.send(&Message::Ping { nonce: 1 });
    let began = Instant::now();
    drop(node);
    assert!(began.elapsed() < Duration::from_secs(5));
    peer.assert_closed();
}

#[test]
fn answers_do_not_depend_on_how_the_bytes_are_cut() {
    let node = start(3);
    let ask = Message::GetHeaders(GetHeaders::new([BlockHash::ZERO]));
    let tx = Message::Tx(spend(&[], 1));
    let magic = Network::Regtest.magic();
    let stream: Vec<u8> =
        [ask, Message::Ping { nonce: 4 }, tx].iter().flat_map(|message| message.to_frame(magic).to_vec()).collect();
    for cut in 1..stream.len() {
        let mut peer = Peer::connect(&node);
        node.reject_transactions(None);
        peer.stream.write_all(&stream[..cut]).unwrap();
        // Something whole in between would not be allowed here, so only the kernel decides how it is read.
        peer.stream.write_all(&stream[cut..]).unwrap();
        let got = [peer.recv(), peer.recv(), peer.recv()].map(|message| message.command());
        assert_eq!(got, [Command::HEADERS, Command::PONG, Command::REJECT], "cut at {cut}");
    }
}

const CHAIN_30: &str = "5fc6ee03a3cc2fd1af87d557512725b22f449dadc2ecc368e463e76fec901743";
