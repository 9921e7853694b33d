//! The main job on three small nodes in this process, without a network: connect, ask, listen, broadcast.
//!
//! Run with `cargo run --example quickstart`.

use std::error::Error;
use std::thread;
use std::time::Duration;

use conduit::testnode::{TestNode, TestNodeConfig, transaction};
use conduit::{Conduit, Config, GetData, GetHeaders, Network, Ping, Verdict};

fn main() -> Result<(), Box<dyn Error>> {
    // Three nodes with the same chain, near and far, that relay to each other.
    let start =
        |latency| TestNode::start(TestNodeConfig::default().blocks(20).latency(Duration::from_millis(latency)));
    let nodes = [start(1)?, start(20)?, start(60)?];
    nodes[0].join(&nodes[1])?;
    nodes[1].join(&nodes[2])?;

    let conduit = Conduit::new(Config::new(Network::Regtest))?;
    conduit.add_peers(nodes.iter().map(TestNode::address))?;

    // A worker thread takes whatever no request has claimed.
    let messages = conduit.messages()?;
    let worker = thread::spawn(move || messages.map(|incoming| incoming.message.command()).collect::<Vec<_>>());

    conduit.start()?;
    conduit.wait_for_peers(nodes.len(), Duration::from_secs(10))?;
    // Each peer answers a ping, so that its latency is known.
    for peer in conduit.peers() {
        conduit.send_request_with(Ping, &conduit::RequestOptions::new().peer(peer.id))?;
    }
    println!("peers, best first:");
    for peer in conduit.peers() {
        let latency = peer.latency.unwrap_or_default();
        println!(
            "  {:<22} {:>7.1} ms  {}",
            peer.address,
            latency.as_secs_f64() * 1e3,
            peer.user_agent.unwrap_or_default()
        );
    }

    // Blocking requests: the best peer is asked, the next one if it fails.
    let headers = conduit.send_request(GetHeaders::new(vec![Network::Regtest.genesis()]))?;
    let tip = headers.last().ok_or("the chain is empty")?.hash();
    let block = conduit.send_request(GetData::block(tip))?;
    println!("tip at height {}: {tip}, {} transactions", headers.len(), block.transaction_count());

    // One peer is told; success is when another, which was not, announces it.
    let broadcast = conduit.broadcast_transaction(transaction(1, 250).raw().to_vec(), 1)?;
    let report = broadcast.wait();
    for peer in &report.peers {
        println!("broadcast: {} {}", peer.address, peer.state);
    }
    let Verdict::Relayed { by } = report.verdict else {
        return Err(format!("not relayed: {}", report.verdict).into());
    };
    println!("broadcast: {} relayed by {by} peers", report.txid);

    conduit.shutdown();
    let seen = worker.join().map_err(|_| "the worker panicked")?;
    println!("worker took {} messages, among them inv: {}", seen.len(), seen.iter().any(|c| c.as_str() == "inv"));

    // One and done: queue before the start, run until everything is answered, print the outcomes.
    let conduit = Conduit::new(Config::new(Network::Regtest))?;
    conduit.add_peers([nodes[0].address()])?;
    drop(conduit.send_request_nowait(GetHeaders::new(vec![headers[headers.len() - 3].hash()]))?);
    drop(conduit.send_request_nowait(Ping)?);
    drop(conduit.send_request_nowait(GetData::transaction(report.txid))?);
    let outcomes = conduit.run_until_queue_empty()?;
    println!("{}", serde_json::to_string(&outcomes)?);
    Ok(())
}
