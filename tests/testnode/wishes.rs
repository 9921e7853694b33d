//! What the test node tells its peers of unasked, in the way each of them wants it.

use conduit::Network;
use conduit::message::{
    BloomFilter, FilterAdd, FilterLoad, FilterUpdate, GetHeaders, Inventory, Message, Reconstruction, SendCmpct,
    Services, Transaction, Version,
};
use conduit::testnode::{TestNode, TestNodeConfig, transaction};
use conduit::wire::{BlockHash, Command, Txid};

use super::peer::{PATIENCE, Peer, version, without_relay};

fn start(blocks: u32) -> TestNode {
    TestNode::start(TestNodeConfig::default().blocks(blocks)).unwrap()
}

/// A node that serves filters, and the mempool to whoever asks.
fn start_open() -> TestNode {
    TestNode::start(TestNodeConfig::default().bloom(true).mempool_requests(true)).unwrap()
}

fn payments(count: u64) -> Vec<Transaction> {
    (0..count).map(|number| transaction(number, 200)).collect()
}

fn inv(transactions: &[Transaction]) -> Message {
    Message::Inv(transactions.iter().map(|each| Inventory::transaction(each.txid())).collect())
}

fn inv_block(hash: BlockHash) -> Message {
    Message::Inv(vec![Inventory::block(hash)])
}

fn high_bandwidth() -> Message {
    Message::SendCmpct(SendCmpct { announce: true, version: 1 })
}

/// A filter that lets exactly these through.
fn filter(txids: &[Txid]) -> FilterLoad {
    let mut filter = BloomFilter::new(10, 1e-9, 5, FilterUpdate::All).unwrap();
    txids.iter().for_each(|txid| filter.insert(txid.as_wire()).unwrap());
    filter.into()
}

/// A peer that says these things and then, if it is to be known to have the tip, asks for what is behind it.
fn peer_that_says(node: &TestNode, wishes: &[Message], has_tip: bool) -> Peer {
    let mut peer = Peer::connect(node);
    peer.send_all(wishes);
    if has_tip {
        let tip = node.block_hash(node.tip_height()).unwrap();
        peer.send(&Message::GetHeaders(GetHeaders::new([tip])));
        assert_eq!(peer.said(), [Message::Headers(vec![])]);
    }
    assert!(peer.said().is_empty());
    peer
}

#[test]
fn blocks_are_announced_in_the_form_asked_for() {
    use Message::{SendHdrsEn, SendHeaders};

    let node = start(10);
    // What each says, and the forms of one new block, of two, and of nine.
    let rows = [
        (vec![], [Command::INV; 3]),
        (vec![SendHeaders], [Command::HEADERS, Command::HEADERS, Command::INV]),
        (vec![SendHdrsEn], [Command::HDRSEN, Command::HDRSEN, Command::INV]),
        (vec![high_bandwidth()], [Command::CMPCTBLOCK, Command::INV, Command::INV]),
        (vec![SendHdrsEn, SendHeaders], [Command::HEADERS, Command::HEADERS, Command::INV]),
        (vec![high_bandwidth(), SendHeaders], [Command::CMPCTBLOCK, Command::HEADERS, Command::INV]),
        (vec![high_bandwidth(), SendHdrsEn], [Command::CMPCTBLOCK, Command::HDRSEN, Command::INV]),
        // Only version 1 means anything, and the mode may be taken back.
        (vec![Message::SendCmpct(SendCmpct { announce: true, version: 2 })], [Command::INV; 3]),
        (vec![high_bandwidth(), Message::SendCmpct(SendCmpct { announce: false, version: 1 })], [Command::INV; 3]),
    ];
    let mut peers: Vec<_> = rows.iter().map(|(wishes, _)| peer_that_says(&node, wishes, true)).collect();
    for (turn, count) in [1, 2, 9].into_iter().enumerate() {
        let hashes = node.mine(count);
        let tip = node.tip_height();
        let headers: Vec<_> = (tip + 1 - count..=tip).map(|height| node.header(height).unwrap()).collect();
        for (peer, (wishes, forms)) in peers.iter_mut().zip(&rows) {
            let said = peer.recv();
            assert_eq!(said.command(), forms[turn], "{count} blocks after {wishes:?}");
            match said {
                Message::Inv(_) => assert_eq!(said, inv_block(*hashes.last().unwrap())),
                Message::Headers(got) => assert_eq!(got, headers),
                Message::HdrsEn(items) => {
                    assert!(items.iter().all(|item| item.verify().is_ok()));
                    assert_eq!(items.iter().map(|item| item.header).collect::<Vec<_>>(), headers);
                    let last = items.iter().map(|item| item.no_more_headers).collect::<Vec<_>>();
                    assert_eq!(last.iter().position(|is_last| *is_last), Some(items.len() - 1));
                }
                Message::CmpctBlock(compact) => {
                    let Ok(Reconstruction::Complete(block)) = compact.reconstruct([]) else { panic!("incomplete") };
                    assert_eq!(block, node.block(tip).unwrap());
                }
                other => panic!("{other:?}"),
            }
            assert!(peer.said().is_empty());
        }
    }
}

#[test]
fn a_peer_that_is_not_known_to_have_the_block_before_gets_an_inv() {
    let node = start(10);
    let wishes = [vec![Message::SendHeaders], vec![Message::SendHdrsEn], vec![high_bandwidth()]];
    let mut peers: Vec<_> = wishes.iter().map(|wishes| peer_that_says(&node, wishes, false)).collect();
    let first = node.mine(1)[0];
    for peer in &mut peers {
        assert_eq!(peer.recv(), inv_block(first));
        // Asked for the header, the node knows.
        peer.send(&Message::GetHeaders(GetHeaders::new([node.block_hash(10).unwrap()])));
        assert_eq!(peer.recv().command(), Command::HEADERS);
    }
    node.mine(1);
    let forms: Vec<_> = peers.iter_mut().map(|peer| peer.recv().command()).collect();
    assert_eq!(forms, [Command::HEADERS, Command::HDRSEN, Command::CMPCTBLOCK]);
    // After a branch took over, none of them has the parent on the chain.
    let branch = node.mine_branch(9, 5);
    for peer in &mut peers {
        assert_eq!(peer.recv(), inv_block(branch[4]));
    }
}

#[test]
fn enriched_announcements_need_a_protoconf() {
    let node = start(10);
    let mut peer = Peer::connect_as(&node, version(), false);
    let tip = node.block_hash(10).unwrap();
    peer.send_all(&[Message::SendHdrsEn, Message::GetHeaders(GetHeaders::new([tip]))]);
    assert_eq!(peer.said(), [Message::Headers(vec![])]);
    let hash = node.mine(1)[0];
    assert_eq!(peer.recv(), inv_block(hash));
}

#[test]
fn a_peer_far_ahead_hears_of_no_blocks() {
    let node = start(10);
    let at_height = |height| Version::new(Services::NONE, 77, "/raw:1.0/", height, 0);
    let mut ahead = Peer::connect_as(&node, at_height(2_011), true);
    let mut level = Peer::connect_as(&node, at_height(2_010), true);
    let mut unknown = Peer::connect_as(&node, at_height(-1), true);
    let hash = node.mine(1)[0];
    assert_eq!((level.recv(), unknown.recv()), (inv_block(hash), inv_block(hash)));
    assert!(ahead.said().is_empty());
    let hash = node.mine(1)[0];
    assert_eq!(ahead.recv(), inv_block(hash), "above the height it claims less 2,000");
}

#[test]
fn announcements_may_be_asked_for_once() {
    let node = start(1);
    let mut peer = Peer::connect(&node);
    peer.send_all(&[Message::SendHeaders, Message::SendHdrsEn, high_bandwidth(), high_bandwidth()]);
    assert!(peer.said().is_empty());
    assert_eq!(node.score(0), 0);
    peer.send_all(&[Message::SendHeaders, Message::SendHdrsEn, Message::SendHeaders]);
    assert!(peer.said().is_empty());
    assert_eq!(node.score(0), 3);
}

#[test]
fn a_filter_decides_which_transactions_are_announced() {
    let node = start_open();
    let Message::Version(theirs) = ({
        let mut peer = Peer::dial(&node, &Network::Regtest);
        peer.send(&Message::from(version()));
        peer.recv()
    }) else {
        panic!("no version")
    };
    assert_eq!(theirs.services, Services(0x25));

    let all = payments(5);
    let mut peer = Peer::connect_as(&node, without_relay(), true);
    assert!(node.submit(all[0].clone()));
    assert!(peer.said().is_empty(), "no relay yet");
    peer.send(&Message::FilterLoad(filter(&[all[1].txid()])));
    assert!(peer.said().is_empty());
    for payment in &all[1..3] {
        assert!(node.submit(payment.clone()));
    }
    assert_eq!(peer.said(), [inv(&all[1..2])], "the filter turns relay on");
    peer.send(&Message::FilterAdd(FilterAdd { data: all[3].txid().as_wire().to_vec() }));
    assert!(peer.said().is_empty());
    for payment in &all[3..] {
        assert!(node.submit(payment.clone()));
    }
    assert_eq!(peer.said(), [inv(&all[3..4])]);
    // A new filter replaces the old one; without any, all come.
    let more = (10..14).map(|number| transaction(number, 200)).collect::<Vec<_>>();
    peer.send(&Message::FilterLoad(filter(&[more[0].txid()])));
    assert!(peer.said().is_empty());
    assert!(node.submit(more[0].clone()) && node.submit(more[1].clone()));
    assert_eq!(peer.said(), [inv(&more[..1])]);
    peer.send(&Message::FilterClear);
    assert!(peer.said().is_empty());
    assert!(node.submit(more[2].clone()));
    assert_eq!(peer.said(), [inv(&more[2..3])]);
    assert_eq!(node.score(1), 0);
}

#[test]
fn filters_over_the_limits_end_the_connection() {
    let node = start_open();
    let load = |len, hash_functions| {
        Message::FilterLoad(FilterLoad { filter: vec![0; len], hash_functions, tweak: 0, flags: 0 })
    };
    let add = |len| Message::FilterAdd(FilterAdd { data: vec![1; len] });
    let mut peer = Peer::connect(&node);
    peer.send_all(&[add(520), load(36_000, 50), add(520)]);
    assert!(peer.said().is_empty());
    assert_eq!(node.score(0), 0);
    for (number, over) in (1..).zip([load(36_001, 1), load(1, 51), add(521)]) {
        let mut peer = Peer::connect(&node);
        peer.send(&over);
        peer.assert_closed();
        assert_eq!(node.score(number), 100);
    }
}

#[test]
fn filters_that_are_not_served_end_the_connection() {
    let node = start(1);
    let empty = FilterAdd { data: Vec::new() };
    for (number, message) in (0..).zip([Message::FilterLoad(filter(&[])), Message::FilterAdd(empty.clone())]) {
        let mut peer = Peer::connect(&node);
        peer.send(&message);
        peer.assert_closed();
        assert_eq!(node.score(number), 100);
    }
    // Who is too old to know is not punished for it.
    let mut old = version();
    old.version = 70_010;
    let mut peer = Peer::connect_as(&node, old, true);
    peer.send(&Message::FilterAdd(empty));
    peer.assert_closed();
    assert_eq!(node.score(2), 0);
    // It costs the same before the handshake is done, and nothing where not even the version is known.
    for (number, is_introduced) in [(3, true), (4, false)] {
        let mut peer = Peer::dial(&node, &Network::Regtest);
        if is_introduced {
            peer.send(&Message::from(version()));
        }
        peer.send(&Message::FilterLoad(filter(&[])));
        peer.assert_closed();
        assert_eq!(node.score(number), if is_introduced { 100 } else { 0 });
    }
    let mut harmless = Peer::connect_as(&node, without_relay(), true);
    harmless.send(&Message::FilterClear);
    assert!(harmless.said().is_empty());
    let payment = transaction(1, 200);
    assert!(node.submit(payment.clone()));
    assert_eq!(harmless.said(), [inv(&[payment])], "relay is on");
    assert_eq!(node.score(5), 0);
}

#[test]
fn a_mempool_request_ends_the_connection_unless_the_node_is_told_otherwise() {
    let classic = Message::Mempool { age_seconds: None };
    let refusing = [
        TestNodeConfig::default(),
        TestNodeConfig::default().bloom(true),
        TestNodeConfig::default().mempool_requests(true),
    ];
    for config in refusing {
        let node = TestNode::start(config).unwrap();
        let mut peer = Peer::connect(&node);
        peer.send(&Message::Mempool { age_seconds: Some(60) });
        assert!(peer.said().is_empty(), "with an age it is ignored");
        peer.send(&classic);
        peer.assert_closed();
        assert_eq!(node.score(0), 0);
    }
}

#[test]
fn the_mempool_is_listed_as_filter_and_fees_allow() {
    let classic = Message::Mempool { age_seconds: None };
    let node = start_open();
    let mut peer = Peer::connect_as(&node, without_relay(), true);
    peer.send(&classic);
    assert!(peer.said().is_empty(), "there is nothing to list");
    let all = payments(4);
    assert!(all[..3].iter().all(|payment| node.submit(payment.clone())));
    node.set_fee_rate(5_000);
    assert!(node.submit(all[3].clone()));
    peer.send(&classic);
    assert_eq!(peer.said(), [inv(&all)], "whether it wants others or not");
    peer.send(&Message::Mempool { age_seconds: Some(0) });
    assert!(peer.said().is_empty());
    peer.send_all(&[Message::FeeFilter { satoshis_per_kilobyte: 5_000 }, classic.clone()]);
    assert_eq!(peer.said(), [inv(&all[3..])]);
    let wanted = filter(&[all[1].txid(), all[2].txid()]);
    peer.send_all(&[Message::FeeFilter { satoshis_per_kilobyte: 0 }, Message::FilterLoad(wanted), classic]);
    assert_eq!(peer.said(), [inv(&all[1..3])]);
}

#[test]
fn cheap_transactions_are_not_announced_to_who_does_not_want_them() {
    let node = TestNode::start(TestNodeConfig::default().fee_rate(500)).unwrap();
    let all = payments(4);
    let mut peer = Peer::connect(&node);
    let mut submit = |wanted: i64, payment: &Transaction| {
        peer.send(&Message::FeeFilter { satoshis_per_kilobyte: wanted });
        assert!(peer.said().is_empty());
        assert!(node.submit(payment.clone()));
        peer.said()
    };
    assert_eq!(submit(500, &all[0]), [inv(&all[..1])]);
    assert_eq!(submit(501, &all[1]), []);
    // What is no amount of money changes nothing.
    assert_eq!(submit(-1, &all[2]), []);
    node.set_fee_rate(501);
    assert_eq!(submit(2_100_000_000_000_001, &all[3]), [inv(&all[3..])]);
    assert_eq!(node.mempool().len(), 4);
    node.send(&Message::FeeFilter { satoshis_per_kilobyte: 250 });
    assert_eq!(peer.recv(), Message::FeeFilter { satoshis_per_kilobyte: 250 }, "sent on command");
    assert!(node.wait_for_received(Command::FEEFILTER, 4, PATIENCE));
}
