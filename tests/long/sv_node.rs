//! What real nodes take in a second: what broadcasts are held against.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use conduit::message::Transaction;
use conduit::{BroadcastOptions, Conduit, Message, Verdict};

use crate::support::client::{Client, config};
use crate::support::own_process::processor_time;
use crate::support::program::Program;
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

/// A broadcast of all of them, told to the main peer and to be relayed by the two others, and what it took.
struct Run {
    until_verdicts: Duration,
    /// From the first `inv` to the moment in which the last `tx` was handed to the connection.
    serving: Duration,
    processor: Duration,
}

impl Run {
    fn of(conduit: &Conduit, raws: &[Vec<u8>]) -> Self {
        let options = BroadcastOptions::new().nodes(1).listeners(2).relays(2).deadline(DEADLINE);
        let (processor, began) = (processor_time(), Instant::now());
        let (mut verdicts, mut first, mut last) = (0, began + DEADLINE, began);
        for outcome in conduit.broadcast_transactions(raws.iter().cloned(), options) {
            let report = outcome.result.unwrap();
            assert_eq!(report.verdict, Verdict::Relayed { by: 2 }, "{report:?}");
            // The outcome was made a moment ago at most: this thread does nothing else.
            let begun = Instant::now() - report.elapsed;
            first = first.min(begun + report.first_announced().unwrap());
            last = last.max(begun + report.first_sent().unwrap());
            verdicts += 1;
        }
        assert_eq!(verdicts, raws.len());
        Self {
            until_verdicts: began.elapsed(),
            serving: last.saturating_duration_since(first),
            processor: processor_time() - processor,
        }
    }

    fn print(&self, what: &str, count: usize) {
        print_rate(&format!("{what}, until the last verdict"), count, self.until_verdicts);
        print_rate("  of that, from the first inv to the last tx handed over", count, self.serving);
        print_rate("  processor time of our process", count, self.processor);
    }
}

/// The method: three nodes in a line, fast ones, as on the main network. Half of the transactions go by
/// `broadcast_transactions` to the first node, with the other two as witnesses; then the other half goes by
/// `sendrawtransaction` to the first, one by one over one kept-alive connection. Conduit's own part, apart from the nodes'
/// validation, is what the same broadcast of the same transactions takes with three test nodes in their places, in a process
/// of their own, which validate nothing, and the processor time that our process took in both.
#[test]
#[ignore = "long"]
fn twenty_thousand_transactions_by_broadcasts_and_by_rpc() {
    let Some(nodes) = SvNode::line(&[(); 3].map(|()| SvNodeOptions::fast())) else { return };
    let mut raws = payments(&nodes[0], 2 * COUNT);
    follow(&nodes);
    let by_rpc = raws.split_off(COUNT as usize);

    let client = Client::connect(&nodes.iter().collect::<Vec<_>>(), config());
    client.conduit.set_main_peer(nodes[0].address()).unwrap();
    let began = Instant::now();
    let run = Run::of(&client.conduit, &raws);
    let ids_of_ours = ids(&raws);
    nodes.iter().for_each(|node| node.wait_for_mempool(&ids_of_ours, DEADLINE));
    print_rate("broadcast, until all three have them", raws.len(), began.elapsed());
    run.print("broadcast to three nodes", raws.len());
    client.end(&nodes.iter().collect::<Vec<_>>());

    let mut line = RpcLine::connect(&nodes[0]);
    let began = Instant::now();
    for raw in &by_rpc {
        line.send_raw_transaction(raw).unwrap();
    }
    print_rate("sendrawtransaction, one by one, into the first", by_rpc.len(), began.elapsed());
    let ids = ids(&by_rpc);
    nodes.iter().for_each(|node| node.wait_for_mempool(&ids, DEADLINE));
    print_rate("sendrawtransaction, until all three have them", by_rpc.len(), began.elapsed());
    drop(nodes);

    let program = Program::start("testnode", &["--nodes", "3", "--until-eof"]);
    let addresses = [(); 3].map(|()| program.line().strip_prefix("listening on ").unwrap().to_owned());
    let conduit = Conduit::new(config()).unwrap();
    conduit.add_peers(&addresses).unwrap();
    conduit.set_main_peer(addresses[0].as_str()).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(addresses.len(), DEADLINE).unwrap();
    Run::of(&conduit, &raws).print("the same to three test nodes, which validate nothing", raws.len());
    conduit.shutdown();
}

const COUNT: u32 = 20_000;
/// Coins of each parent.
const COINS_EACH: u32 = 100;
const SIZE: usize = 250;
const DEADLINE: Duration = Duration::from_secs(300);
