//! Blocks over real sockets: streamed, resumed on another peer, refused, and always proven before they count.

#![allow(clippy::disallowed_methods, reason = "tests take the time")]
#![allow(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]

#[path = "../support/mod.rs"]
mod support;

mod chaos;
mod losses;
mod many;
mod streams;

use std::io::Read;
use std::time::Duration;

use conduit::testnode::{BlockPlan, GeneratedBlock, TestNode, TestNodeConfig};
use conduit::{BlockStream, Conduit, Config, Network};
use support::PATIENCE;

/// Quick to dial again.
fn config() -> Config {
    Config::new(Network::Regtest)
        .redial_min(Duration::from_millis(20))
        .redial_max(Duration::from_millis(100))
        .request_timeout(PATIENCE)
}

fn nodes(count: usize) -> Vec<TestNode> {
    (0..count).map(|_| TestNode::start(TestNodeConfig::default()).unwrap()).collect()
}

/// A conduit connected to all of the nodes.
fn connect(nodes: &[TestNode], config: Config) -> Conduit {
    let conduit = Conduit::new(config).unwrap();
    conduit.add_peers(nodes.iter().map(TestNode::address)).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(nodes.len(), PATIENCE).unwrap();
    conduit
}

/// A block of about so many bytes, which every node can serve.
fn offer(nodes: &[TestNode], bytes: u64) -> GeneratedBlock {
    let block = GeneratedBlock::new(BlockPlan::of_size(bytes, bytes));
    nodes.iter().for_each(|node| node.offer(&block));
    block
}

fn raw(block: &GeneratedBlock) -> Vec<u8> {
    let mut raw = Vec::new();
    block.reader().read_to_end(&mut raw).unwrap();
    raw
}

/// All chunks of a stream, one behind the other.
fn read_chunks(stream: &mut BlockStream) -> Result<Vec<u8>, conduit::BlockError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next_chunk()? {
        assert_eq!(chunk.offset(), bytes.len() as u64);
        bytes.extend_from_slice(chunk.bytes());
    }
    Ok(bytes)
}
