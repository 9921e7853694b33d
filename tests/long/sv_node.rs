//! What real nodes take in a second: what broadcasts are held against.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use conduit::Message;
use conduit::message::Transaction;

use crate::support::client::{Client, config};
use crate::support::rpc_line::RpcLine;
use crate::support::sv_node::{SvNode, SvNodeOptions, follow};
use crate::support::transactions::{self, Funding};

/// Spends of coins of many parents, in raw form.
fn payments(node: &SvNode, count: u32) -> Vec<Vec<u8>> {
    let mut funding = Funding::spread(node, count / COINS_EACH, COINS_EACH);
    (0..count).map(|_| transactions::spend(funding.take(), SIZE)).collect()
}

fn ids(raws: &[Vec<u8>]) -> HashSet<String> {
    raws.iter().map(|raw| transactions::txid(raw)).collect()
}

fn print_rate(what: &str, count: usize, took: Duration) {
    println!("{what}: {count} in {:.2} s, {:.0}/s", took.as_secs_f64(), count as f64 / took.as_secs_f64());
}

#[test]
#[ignore = "long"]
fn twenty_thousand_transactions_reach_a_line_of_nodes_by_rpc() {
    let Some(nodes) = SvNode::line(&[(); 3].map(|()| SvNodeOptions::fast())) else { return };
    let raws = payments(&nodes[0], COUNT);
    follow(&nodes);
    let mut line = RpcLine::connect(&nodes[0]);
    let began = Instant::now();
    for raw in &raws {
        line.send_raw_transaction(raw).unwrap();
    }
    print_rate("sendrawtransaction, one by one, into the first", raws.len(), began.elapsed());
    let ids = ids(&raws);
    for node in &nodes {
        node.wait_for_mempool(&ids, DEADLINE);
    }
    print_rate("the same until all of three in a line have them", raws.len(), began.elapsed());
}

#[test]
#[ignore = "long"]
fn twenty_thousand_transactions_reach_a_line_of_nodes_by_a_push() {
    let Some(nodes) = SvNode::line(&[(); 3].map(|()| SvNodeOptions::fast())) else { return };
    let raws = payments(&nodes[0], COUNT);
    follow(&nodes);
    let client = Client::connect(&[&nodes[0]], config());
    let messages: Vec<_> =
        raws.iter().map(|raw| Message::Tx(Transaction::from_raw(raw.clone()).unwrap())).collect();
    let began = Instant::now();
    for message in messages {
        client.conduit.send(client.peers[0], message).unwrap();
    }
    print_rate("tx, unasked, queued for the first", raws.len(), began.elapsed());
    client.fence();
    print_rate("the same until it has read them", raws.len(), began.elapsed());
    let ids = ids(&raws);
    for node in &nodes {
        node.wait_for_mempool(&ids, DEADLINE);
    }
    print_rate("the same until all of three in a line have them", raws.len(), began.elapsed());
    client.end(&[&nodes[0]]);
}

const COUNT: u32 = 20_000;
/// Coins of each parent.
const COINS_EACH: u32 = 100;
const SIZE: usize = 250;
const DEADLINE: Duration = Duration::from_secs(300);
