//! Many ids in few messages, many transactions in lots, and nobody held up meanwhile.

use std::net::Shutdown;

use conduit::message::ProtoConf;
use conduit::{Ping, RequestOptions};

use super::support::waits;
use super::*;

/// With room for any of these.
fn roomy() -> Config {
    config().broadcast_bytes(512 * 1_024 * 1_024)
}

fn payments(count: u64) -> Vec<Transaction> {
    (0..count).map(|number| transaction(number, 100)).collect()
}

/// Holds transactions for whoever asks.
fn hold(scene: &Scene, payments: &[Transaction]) {
    for payment in payments {
        let _broadcast = scene.broadcast(payment, &options(1));
    }
}

#[test]
fn ten_thousand_ids_go_in_few_messages_and_in_order() {
    let (mut scene, payments) = (Scene::new(roomy(), 0), payments(10_000));
    hold(&scene, &payments);
    scene.join();
    let (mut ids, mut messages) = (Vec::new(), 0);
    while ids.len() < payments.len() {
        let Message::Inv(items) = scene.peers[0].raw.expect(Command::INV) else { unreachable!() };
        ids.extend(items.iter().filter_map(Inventory::txid));
        messages += 1;
    }
    assert!(ids.iter().eq(payments.iter().map(Transaction::txid).collect::<Vec<_>>().iter()));
    assert!(messages <= 20, "{messages} messages");
    assert_eq!(scene.peers[0].raw.said(), []);
}

#[test]
fn ids_that_come_one_by_one_share_messages() {
    let nodes = [node(), node()];
    let conduit = connected(roomy(), &nodes);
    let payments = payments(10_000);
    let begun: Vec<_> = payments
        .iter()
        .map(|tx| conduit.broadcast_transaction_with(raw(tx), &options(2).relays(0)).unwrap())
        .collect();
    for broadcast in &begun {
        assert_eq!(broadcast.wait_timeout(PATIENCE).expect("a verdict").sent(), 2);
    }
    for node in &nodes {
        assert!(node.wait_for_mempool(payments.len(), PATIENCE));
        let messages = node.received(Command::INV);
        assert!(messages <= 2_500, "{messages} messages");
    }
}

#[test]
fn a_small_limit_of_the_peer_is_kept() {
    let (mut scene, payments) = (Scene::new(roomy(), 0), payments(30_000));
    let limit = 1_024 * 1_024;
    let listener = RawListener::bind();
    let id = scene.conduit.add_peers([listener.address()]).unwrap()[0];
    let mut raw = listener.shake_hands();
    raw.send(&Message::ProtoConf(ProtoConf::new(limit, "Default")));
    raw.said();
    scene.peers.push(Scripted { id, listener, raw });
    hold(&scene, &payments);
    let mut ids = 0;
    while ids < payments.len() {
        let Message::Inv(items) = scene.peers[0].raw.expect(Command::INV) else { unreachable!() };
        assert!(9 + 36 * items.len() <= limit as usize, "{} ids", items.len());
        ids += items.len();
    }
    assert_eq!(ids, payments.len());
}

#[test]
fn fifty_thousand_asked_for_at_once_are_served_while_all_else_goes_on() {
    let (mut scene, payments) = (Scene::new(roomy(), 2), payments(50_000));
    hold(&scene, &payments);
    let ids: Vec<_> = payments.iter().map(Transaction::txid).collect();
    let mut asking = scene.peers.remove(0);
    let mut other = scene.peers.remove(0);
    // What it was told of is of no interest here; nor is what comes between.
    asking.raw.ask(&ids);
    let mut writing = asking.raw.stream();
    let pong = Message::Pong { nonce: 77 };
    let ping = support::raw_peer::frame(&Message::Ping { nonce: 77 });
    let (mut served, mut pongs, mut pings) = (0, 0, 0);
    while served < ids.len() {
        match asking.raw.next().expect("it is served") {
            Message::Tx(transaction) => {
                assert_eq!(transaction.txid(), ids[served]);
                served += 1;
                // Now and then it asks whether we live.
                if served % 10_000 == 5_000 {
                    std::io::Write::write_all(&mut writing, &ping).unwrap();
                    pings += 1;
                    // A question to the other, answered meanwhile.
                    let options = RequestOptions::new().peer(other.id).timeout(PATIENCE);
                    let pending = scene.conduit.send_request_nowait_with(Ping, &options).unwrap();
                    let Message::Ping { nonce } = other.raw.expect(Command::PING) else { unreachable!() };
                    other.raw.send(&Message::Pong { nonce });
                    assert!(pending.wait_timeout(PATIENCE).expect("in time").is_ok());
                }
            }
            message if message == pong => pongs += 1,
            Message::Inv(_) | Message::Ping { .. } => {}
            message => panic!("{message:?}"),
        }
    }
    while pongs < pings {
        asking.raw.expect(Command::PONG);
        pongs += 1;
    }
}

#[test]
fn who_asks_and_does_not_read_holds_up_nobody() {
    const LEN: usize = 10_000;
    let mut scene = Scene::new(roomy().outbound_share(256 * 1_024).outbound_pool(256 * 1_024), 1);
    let large: Vec<_> = (0..3_000).map(|number| transaction(number, LEN)).collect();
    let ids: Vec<_> = large.iter().map(Transaction::txid).collect();
    for tx in &large {
        let _broadcast = scene.broadcast(tx, &options(1));
    }
    scene.peers[0].raw.ask(&ids);
    // 30 MB wait for it; it takes one of them and then nothing.
    scene.peers[0].raw.expect(Command::TX);
    // Others are told, served and heard.
    let tx = payment(9_999_999);
    let nodes = [node(), node()];
    nodes[0].join(&nodes[1]).unwrap();
    let peers = scene.conduit.add_peers(nodes.iter().map(TestNode::address)).unwrap();
    scene.conduit.wait_for_peers(3, PATIENCE).unwrap();
    let broadcast = scene.broadcast(&tx, &options(3).relays(0).deadline(Duration::from_secs(1)));
    assert!(nodes[0].wait_for_transaction(tx.txid(), PATIENCE));
    for peer in peers {
        let options = RequestOptions::new().peer(peer).timeout(PATIENCE);
        assert!(scene.conduit.send_request_with(Ping, &options).is_ok());
    }
    let sent = broadcast.wait_timeout(PATIENCE).expect("a verdict").sent();
    assert!(sent >= 1, "to nobody");
    let queued = scene.conduit.stats().outbound_queue.bytes;
    assert!(queued < 4 * 1_024 * 1_024, "{queued} bytes wait for it");
    // It reads again and gets all of it.
    for id in &ids[1..] {
        let Message::Tx(transaction) = scene.peers[0].raw.expect(Command::TX) else { unreachable!() };
        assert_eq!(transaction.txid(), *id);
    }
    waits::until("its queue is empty", || scene.conduit.stats().outbound_queue.bytes == 0);
    // An error says that it was faster.
    drop(scene.peers[0].raw.stream().shutdown(Shutdown::Both));
}
