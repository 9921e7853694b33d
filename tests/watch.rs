//! Watching real and embedded nodes: each thing once, whatever the announcers do, in bounded memory.
//!
//! Every wait has a deadline and ends with an event.

#![cfg(feature = "testnode")]
#![expect(clippy::disallowed_methods, reason = "transactions are sent at a rate")]
#![expect(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use conduit::error::{RecvError, SubscribeError, TryRecvError};
use conduit::testnode::{TestNode, TestNodeConfig, transaction};
use conduit::{BlockHash, Command, Conduit, Config, Message, Network, Txid, Watch, Watched, Watching};

use serde_json::json;
use support::sv_node::{SvNode, wait_until};
use support::transactions::{self, Funding};
use support::{PATIENCE, waits};
use support::{hex, own_process};

// Real nodes.

#[test]
#[cfg(target_os = "linux")]
fn two_nodes_under_500_transactions_a_second_give_each_transaction_and_block_once() {
    const RATE: u32 = 500;
    const SECONDS: u32 = 6;
    const LOT: usize = 25;
    if !own_process::is_alone("two_nodes_under_500_transactions_a_second_give_each_transaction_and_block_once") {
        return;
    }
    let Some(nodes) = SvNode::joined(2) else { return };
    let mut funding = Funding::new(&nodes[0], RATE * SECONDS);
    wait_until("the funding on both nodes", PATIENCE, || nodes[1].best_height() == nodes[0].best_height());

    let conduit = Conduit::new(Config::new(Network::Regtest)).unwrap();
    conduit.add_peers(nodes.iter().map(SvNode::address)).unwrap();
    let watching = conduit.watch(Watch::new().transactions().blocks().tips()).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(2, PATIENCE).unwrap();
    // A node relays to those connections only that it knows to be ready.
    wait_until("the pongs", PATIENCE, || conduit.peers().iter().all(|peer| peer.latency.is_some()));

    let spends: Vec<Vec<u8>> = (0..RATE * SECONDS).map(|_| transactions::spend(funding.take(), 250)).collect();
    let txids: Vec<Txid> = spends.iter().map(|raw| transactions::txid(raw).parse().unwrap()).collect();
    let before = own_process::resident_bytes();
    let began = Instant::now();
    let nodes = Arc::new(nodes);
    let spends = Arc::new(spends);
    let sending = [0, 1].map(|turn| {
        let (nodes, spends) = (nodes.clone(), spends.clone());
        thread::spawn(move || {
            // One by one they would take longer than there is time; over P2P a busy node drops some in silence.
            for (lot, n) in spends.chunks(LOT).zip(0_u32..).filter(|(_, n)| n % 2 == turn) {
                let due = began + Duration::from_secs(1) * n * LOT as u32 / RATE;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                submit(&nodes[turn as usize], lot);
            }
            began.elapsed()
        })
    });
    let mut counts: HashMap<Txid, u32> = HashMap::new();
    while counts.len() < txids.len() {
        let next = watching.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let pools: Vec<_> = nodes.iter().map(|node| node.mempool().len()).collect();
            panic!("{} of {} were seen, the nodes have {pools:?}", counts.len(), txids.len())
        });
        match next {
            Watched::Transaction { transaction, .. } => *counts.entry(transaction.txid()).or_default() += 1,
            other => panic!("no block is mined: {other:?}"),
        }
    }
    assert!(txids.iter().all(|txid| counts.get(txid) == Some(&1)), "each once, none missed");
    let sent_in = sending.map(|thread| thread.join().unwrap()).into_iter().max().unwrap();
    let took = began.elapsed();
    let grown = own_process::resident_bytes().saturating_sub(before);
    println!("{} sent in {sent_in:.1?}, seen in {took:.1?}, memory grown by {} KiB", txids.len(), grown / 1024);
    // The memory of 200,000 transactions is 10 MiB at most, what waits 20 MiB more; three thousand need far less.
    assert!(grown < 16 << 20, "memory has grown by {grown} bytes");
    assert_eq!(watching.missed(), 0);

    // Both announce the block, which has them all.
    wait_until("all of them on the miner", PATIENCE, || nodes[0].mempool().len() == txids.len());
    let mined: BlockHash = nodes[0].generate(1)[0].parse().unwrap();
    wait_until("the block on both nodes", PATIENCE, || nodes[1].best_height() == nodes[0].best_height());
    let next: BlockHash = nodes[1].generate(1)[0].parse().unwrap();
    wait_until("the next block on both nodes", PATIENCE, || nodes[0].best_height() == nodes[1].best_height());
    let (mut tips, mut blocks, mut others) = (Vec::new(), Vec::new(), Vec::new());
    while blocks.len() < 2 {
        match watching.recv_timeout(PATIENCE).expect("two tips and two blocks") {
            Watched::Tip { header, .. } => tips.push(header.hash()),
            Watched::Block { block, .. } => blocks.push((block.hash(), block.transaction_count())),
            other => others.push(other),
        }
    }
    // Nothing comes a second time: what the nodes had to say before their pongs is here.
    for peer in conduit.peers() {
        let options = conduit::RequestOptions::new().peer(peer.id);
        conduit.send_request_with(conduit::Ping, &options).unwrap();
    }
    others.extend(std::iter::from_fn(|| watching.try_recv().ok()));
    assert_eq!(tips, [mined, next]);
    assert_eq!(blocks, [(mined, txids.len() + 1), (next, 1)]);
    assert_eq!(others, [], "nothing else is new");
    for node in nodes.iter() {
        node.assert_no_misbehaviour();
    }
    conduit.shutdown();
}

/// Hands a node many transactions, each of which it must take.
#[cfg(target_os = "linux")]
fn submit(node: &SvNode, lot: &[Vec<u8>]) {
    let list: Vec<_> = lot.iter().map(|raw| json!({ "hex": hex::encode(raw) })).collect();
    let refused = node.rpc("sendrawtransactions", json!([list]));
    // It gives up on one for which the machine had no time; alone it has more of it.
    for refused in refused["invalid"].as_array().into_iter().flatten() {
        let raw = lot.iter().find(|raw| json!(transactions::txid(raw)) == refused["txid"]).unwrap();
        node.send_raw_transaction(raw).unwrap();
    }
}

// Embedded nodes.

#[test]
fn a_silent_announcer_is_passed_over() {
    let (nodes, watching, _conduit) =
        watch_two(Watch::new().transactions(), |config| config.watch_patience(Duration::from_millis(300)));
    // Whichever is asked first, the silent one answers nothing.
    nodes[0].ignore(Command::GETDATA);
    let payments: Vec<_> = (1..=20).map(|n| transaction(n, 200)).collect();
    for payment in &payments {
        assert!(nodes[0].submit(payment.clone()));
        assert!(nodes[1].submit(payment.clone()), "it cannot have it from the silent one");
    }
    assert_eq!(sorted(take_transactions(&watching, 20)), sorted(payments.iter().map(|p| p.txid()).collect()));
    assert_eq!(watching.missed(), 0);
    assert_eq!(watching.recv_timeout(Duration::from_millis(20)), Err(TryRecvError::Empty));
}

#[test]
fn a_lost_announcer_is_replaced() {
    let (nodes, watching, conduit) = watch_two(Watch::new().transactions(), |config| config);
    nodes[0].ignore(Command::GETDATA);
    let payment = transaction(1, 200);
    assert!(nodes[0].submit(payment.clone()));
    assert!(nodes[0].wait_for_received(Command::GETDATA, 1, PATIENCE), "it is asked");
    assert!(nodes[1].submit(payment.clone()) || nodes[1].contains(payment.txid()));
    let events = conduit.events();
    nodes[0].drop_connections();
    drop(waits::next_event(&events));
    assert_eq!(take_transactions(&watching, 1), [payment.txid()]);
}

#[test]
fn a_transaction_that_its_announcer_lacks_comes_from_another() {
    let (nodes, watching, _conduit) = watch_two(Watch::new().transactions(), |config| config);
    let payment = transaction(1, 200);
    // The first announces what it does not have.
    let item = conduit::message::Inventory::transaction(payment.txid());
    assert_eq!(nodes[0].send(&Message::Inv(vec![item])), 1);
    assert!(nodes[0].wait_for_received(Command::GETDATA, 1, PATIENCE));
    assert!(nodes[1].submit(payment.clone()));
    assert_eq!(take_transactions(&watching, 1), [payment.txid()]);
}

#[test]
fn a_slow_reader_misses_nothing_and_keeps_the_queue_small() {
    let (nodes, watching, conduit) =
        watch_two(Watch::new().transactions(), |config| config.message_queue_items(64));
    let payments: Vec<_> = (1..=1_000).map(|n| transaction(n, 200)).collect();
    for payment in &payments {
        assert!(nodes[0].submit(payment.clone()));
    }
    // The announcements are here, and what is asked for stops at the queue's limit.
    conduit.send_request(conduit::Ping).unwrap();
    waits::until("the queue is nearly full", || watching.len() >= 50);
    assert!(watching.len() <= 64);
    let mut got = Vec::new();
    while got.len() < payments.len() {
        assert!(watching.len() <= 64);
        got.extend(take_transactions(&watching, 1));
    }
    assert_eq!(sorted(got), sorted(payments.iter().map(|payment| payment.txid()).collect()));
    assert_eq!(watching.missed(), 0);
}

#[test]
fn blocks_headers_and_tips_come_once_from_nodes_that_all_announce_them() {
    let (nodes, watching, _conduit) = watch_two(Watch::new().blocks().tips().headers(), |config| config);
    let mined = [nodes[0].mine(1), nodes[0].mine(3), nodes[0].mine(12)].concat();
    assert!(nodes[1].wait_for_height(26, PATIENCE));
    let (mut tips, mut headers, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
    while blocks.last() != mined.last() {
        match watching.recv_timeout(PATIENCE).expect("the next item") {
            Watched::Tip { header, .. } => tips.push(header.hash()),
            Watched::Headers { headers: new, .. } => headers.extend(new.iter().map(|header| header.hash())),
            Watched::Block { block, .. } => blocks.push(block.hash()),
            other => panic!("nothing else is watched: {other:?}"),
        }
    }
    // The watch begins with the first block that it hears of, and from there on nothing is left out.
    let first = mined.iter().position(|hash| *hash == tips[0]).expect("one of ours");
    assert_eq!(tips, mined[first..]);
    assert_eq!(headers, mined[first..]);
    assert_eq!(blocks, mined[first..]);
}

#[test]
fn a_block_too_large_to_hold_is_told_of() {
    let (nodes, watching, _conduit) = watch_two(Watch::new().blocks(), |config| config.stream_threshold(2_097_152));
    let hash = nodes[0].mine_with(vec![transaction(1, 3_000_000)]);
    match watching.recv_timeout(PATIENCE).expect("an item") {
        Watched::NoBlock { header, error: conduit::RequestError::TooLarge { .. } } => {
            assert_eq!(header.hash(), hash)
        }
        other => panic!("not told of the large block: {other:?}"),
    }
}

#[test]
fn a_watch_ends_with_its_last_receiver_or_the_conduit() {
    let (nodes, watching, conduit) = watch_two(Watch::new().transactions(), |config| config.max_message_queues(1));
    assert!(matches!(conduit.watch(Watch::new().tips()), Err(SubscribeError::TooManyQueues { limit: 1 })));
    drop(watching.clone());
    assert!(nodes[0].submit(transaction(1, 200)));
    take_transactions(&watching, 1);
    drop(watching);
    let watching = conduit.watch(Watch::new().blocks()).unwrap();
    let asked = nodes[0].received(Command::GETDATA);
    assert!(nodes[0].submit(transaction(2, 200)));
    assert!(nodes[1].wait_for_transaction(transaction(2, 200).txid(), PATIENCE));
    for peer in conduit.peers() {
        conduit.send_request_with(conduit::Ping, &conduit::RequestOptions::new().peer(peer.id)).unwrap();
    }
    assert_eq!(nodes[0].received(Command::GETDATA), asked + 1, "only the other node asks");
    let waiting = waits::call({
        let watching = watching.clone();
        move || watching.recv()
    });
    conduit.shutdown();
    assert_eq!(waiting.result(), Err(RecvError));
    assert_eq!(watching.try_recv(), Err(TryRecvError::Shutdown));
    assert!(matches!(conduit.watch(Watch::new().tips()), Err(SubscribeError::Shutdown)));
}

/// Two joined nodes and a watch that began before the start.
fn watch_two(what: Watch, configure: impl FnOnce(Config) -> Config) -> ([TestNode; 2], Watching, Conduit) {
    let nodes = [(); 2].map(|()| TestNode::start(TestNodeConfig::default()).unwrap());
    nodes[0].join(&nodes[1]).unwrap();
    let conduit = Conduit::new(configure(Config::new(Network::Regtest))).unwrap();
    conduit.add_peers(nodes.iter().map(TestNode::address)).unwrap();
    let watching = conduit.watch(what).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(2, PATIENCE).unwrap();
    // A node announces nothing to whoever has not finished the handshake.
    assert!(nodes.iter().all(|node| node.wait_for_connections(1, PATIENCE)));
    (nodes, watching, conduit)
}

#[track_caller]
fn take_transactions(watching: &Watching, count: usize) -> Vec<Txid> {
    let take = |_| match watching.recv_timeout(PATIENCE).expect("the next transaction") {
        Watched::Transaction { transaction, .. } => transaction.txid(),
        other => panic!("not a transaction: {other:?}"),
    };
    (0..count).map(take).collect()
}

fn sorted(mut txids: Vec<Txid>) -> Vec<Txid> {
    txids.sort_unstable();
    txids
}
