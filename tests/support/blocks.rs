//! Blocks of a chosen shape, mined by a real SV Node, and the node's own bytes of them to compare with.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use conduit::block::BlockProof;
use conduit::message::{Inventory, Message, Transaction};
use conduit::wire::{Command, FrameDecoder, FramePart, PayloadLimits};
use conduit::{BlockHash, Network, Ping, RequestOptions};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::PATIENCE;
use super::client::{Client, config, sole_peer};
use super::raw_peer;
use super::sv_node::{SvNode, SvNodeOptions, wait_until};
use super::transactions::{self, Funding};

/// A block that a node has mined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MinedBlock {
    pub(crate) hash: BlockHash,
    /// Of the raw block, in bytes.
    pub(crate) size: u64,
    /// The coinbase included.
    pub(crate) transactions: u64,
    /// SHA-256 of the raw block, as the node gives it by REST.
    pub(crate) digest: [u8; 32],
}

/// So many transactions of so many bytes.
pub(crate) type Lot = (usize, usize);

/// A few hundred bytes.
pub(crate) const ONE_KB: &[Lot] = &[(1, 800)];

/// Most transactions are small, most bytes are not.
pub(crate) const TEN_MB: &[Lot] = &[(4_000, 500), (30, 100_000), (1, 5_000_000)];

/// Among them some that are larger than any chunk.
pub(crate) const THREE_HUNDRED_MB: &[Lot] = &[(20_000, 500), (300, 100_000), (21, 10_000_000), (1, 50_000_000)];

/// Options of a node that mines such blocks in seconds and gives them by REST.
pub(crate) fn options() -> SvNodeOptions {
    let mut options = SvNodeOptions::fast();
    options.args.extend(ARGUMENTS.map(str::to_owned));
    options
}

/// Feeds a node, started with [`options`], transactions of these sizes and has it mine them all into one block.
pub(crate) fn mine(node: &SvNode, lots: &[Lot]) -> MinedBlock {
    let is_huge = |size: usize| size > HUGE;
    let count: usize = lots.iter().filter(|lot| !is_huge(lot.1)).map(|lot| lot.0).sum();
    let parents = count.div_ceil(COINS_EACH);
    let mut funding = Funding::spread(node, parents as u32, count.div_ceil(parents) as u32);
    let huge = lots.iter().filter(|lot| is_huge(lot.1));
    let mut coins: Vec<_> =
        huge.map(|&(count, size)| (size, Funding::for_size(node, count as u32, size))).collect();

    let client = Client::connect(&[node], config());
    let mut txids = HashSet::new();
    for &(count, size) in lots {
        let funding = match coins.iter_mut().find(|of| of.0 == size) {
            Some((_, coins)) => coins,
            None => &mut funding,
        };
        for _ in 0..count {
            let raw = transactions::spend(funding.take(), size);
            txids.insert(transactions::txid(&raw));
            let transaction = Transaction::from_raw(raw).unwrap();
            client.conduit.send(client.peers[0], Message::Tx(transaction)).unwrap();
        }
    }
    // A pong comes when the node has read all of it, which may take longer than a test waits for one.
    let options = RequestOptions::new().peer(client.peers[0]).timeout(DEADLINE);
    client.conduit.send_request_with(Ping, &options).unwrap();
    node.wait_for_mempool(&txids, DEADLINE);
    client.end(&[node]);

    let hash = node.generate(1).pop().expect("one block was mined");
    let block = described(node, hash.parse().unwrap());
    assert_eq!(block.transactions, txids.len() as u64 + 1, "all of them are in the block");
    block
}

/// What a node says of a block by REST, its bytes read in pieces.
pub(crate) fn described(node: &SvNode, hash: BlockHash) -> MinedBlock {
    let entry = node.rpc("getblock", json!([hash.to_string(), 1]));
    let mut raw = node.rest(&format!("/rest/block/{hash}.bin"));
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 256 * 1_024];
    let mut size = 0;
    loop {
        match raw.read(&mut buffer).unwrap() {
            0 => break,
            n => {
                digest.update(&buffer[..n]);
                size += n as u64;
            }
        }
    }
    assert_eq!(entry["size"].as_u64(), Some(size), "all of the block came by REST");
    let transactions = entry["tx"].as_array().expect("a list of ids").len() as u64;
    MinedBlock { hash, size, transactions, digest: digest.finalize().into() }
}

/// The ways in which a conduit can be connected to a node, by how many connections each is.
pub(crate) const WAYS: [(&str, usize); 2] = [("one connection", 1), ("two connections", 2)];

/// Connects so, and waits until the node takes all connections for one peer.
pub(crate) fn connect(node: &SvNode, connections: usize) -> Client {
    let client = Client::connect(&[node], config().streams(connections > 1));
    let streams = || sole_peer(node)["streams"].as_array().map_or(0, Vec::len);
    wait_until("all connections to be one peer's", PATIENCE, || streams() == connections);
    client
}

/// A block streamed from a real node, and the round trips of pings meanwhile.
pub(crate) struct Streamed {
    /// Without the time in which the bytes were compared, which is as much hashing again.
    took: Duration,
    size: u64,
    /// Our requests, each behind what the node was sending.
    ours: Vec<Duration>,
    /// Those of the node, as it says itself.
    theirs: Vec<Duration>,
}

/// Streams a block from the node and compares it with the node's own bytes by their hash; meanwhile both sides send pings,
/// each when its last one is answered.
pub(crate) fn stream(node: &SvNode, client: &Client, block: &MinedBlock) -> Streamed {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Also when this panics, so that the other threads end.
        let ends = SetOnDrop(&is_over);
        let goes_on = || !is_over.load(Ordering::SeqCst);
        let ours = scope.spawn(move || our_pings(client, goes_on));
        let theirs = scope.spawn(move || their_pings(node, goes_on));
        let (mut digest, mut bytes, mut comparing) = (Sha256::new(), 0, Duration::ZERO);
        let began = Instant::now();
        let mut stream = client.conduit.block(block.hash).unwrap();
        assert_eq!((stream.hash(), stream.size()), (block.hash, block.size));
        while let Some(chunk) = stream.next_chunk().unwrap() {
            assert_eq!(chunk.offset(), bytes);
            bytes += chunk.bytes().len() as u64;
            let before = Instant::now();
            digest.update(chunk.bytes());
            comparing += before.elapsed();
        }
        let took = began.elapsed() - comparing;
        drop(ends);
        assert_eq!(<[u8; 32]>::from(digest.finalize()), block.digest, "the node's bytes, all {bytes} of them");
        let summary = stream.summary().unwrap();
        assert_eq!((summary.hash, summary.header.hash(), summary.size), (block.hash, block.hash, block.size));
        assert_eq!((summary.transactions, summary.proof), (block.transactions, BlockProof::Merkle));
        Streamed { took, size: block.size, ours: ours.join().unwrap(), theirs: theirs.join().unwrap() }
    })
}

/// How long the same takes a bare socket that reads as fast as it can and looks at nothing: the node's own rate.
pub(crate) fn read_by_bare_socket(node: &SvNode, block: &MinedBlock) -> Duration {
    let magic = Network::Regtest.magic();
    let mut socket = TcpStream::connect(node.address()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut decoder = FrameDecoder::new(magic, PayloadLimits { general: u64::MAX, block: u64::MAX });
    socket.write_all(&raw_peer::version().to_frame(magic)).unwrap();
    let mut buffer = vec![0; 1_024 * 1_024];
    let mut begun = None;
    let mut asked = Instant::now();
    loop {
        let n = socket.read(&mut buffer).unwrap();
        assert_ne!(n, 0, "the node closed the connection");
        let mut input = &buffer[..n];
        while let Some(part) = decoder.push(&mut input).unwrap() {
            match part {
                FramePart::Whole(header, _) if header.command == Command::VERACK => {
                    let wanted = Message::GetData(vec![Inventory::block(block.hash)]);
                    let both = [Message::Verack, wanted].map(|message| message.to_frame(magic).to_vec());
                    asked = Instant::now();
                    socket.write_all(&both.concat()).unwrap();
                }
                FramePart::Start(header) => begun = Some(header),
                FramePart::End if begun.is_some_and(|header| header.command == Command::BLOCK) => {
                    assert_eq!(begun.map(|header| header.length), Some(block.size));
                    return asked.elapsed();
                }
                _ => {}
            }
        }
    }
}

impl Streamed {
    pub(crate) fn print(&self, way: &str) {
        let rate = self.size as f64 / 1e6 / self.took.as_secs_f64();
        println!("{way}: {} bytes in {:.1?}, {rate:.0} MB/s", self.size, self.took);
        for (whose, trips) in [("our", &self.ours), ("the node's", &self.theirs)] {
            let mut sorted = trips.clone();
            sorted.sort_unstable();
            let [least, median, most] = [0, sorted.len() / 2, sorted.len() - 1].map(|at| sorted[at]);
            println!("  {whose} pings: {}, least {least:.1?}, median {median:.1?}, most {most:.1?}", trips.len());
        }
    }
}

/// Pings as long as it goes on, one at least.
fn our_pings(client: &Client, goes_on: impl Fn() -> bool) -> Vec<Duration> {
    let options = RequestOptions::new().peer(client.peers[0]).timeout(DEADLINE);
    let mut trips = Vec::new();
    loop {
        trips.push(client.conduit.send_request_with(Ping, &options).unwrap());
        if !goes_on() {
            return trips;
        }
    }
}

/// Has the node ping as long as it goes on, once at least.
fn their_pings(node: &SvNode, goes_on: impl Fn() -> bool) -> Vec<Duration> {
    let pongs = |peer: &Value| peer["bytesrecv_per_msg"]["pong"].as_u64().unwrap_or(0);
    let mut trips = Vec::new();
    loop {
        let before = pongs(&sole_peer(node));
        node.rpc("ping", json!([]));
        wait_until("the node to have its pong", DEADLINE, || pongs(&sole_peer(node)) > before);
        let seconds = sole_peer(node)["pingtime"].as_f64().expect("a time");
        trips.push(Duration::from_secs_f64(seconds));
        if !goes_on() {
            return trips;
        }
    }
}

/// Says that something is over when it goes out of scope.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Validation may take as long as it takes: it gives a transaction up after a second otherwise.
const ARGUMENTS: [&str; 3] =
    ["-rest", "-maxnonstdtxvalidationduration=100000", "-maxtxnvalidatorasynctasksrunduration=110000"];
/// Coins of each parent.
const COINS_EACH: usize = 100;
/// Bytes of a spend that a usual coin does not pay for.
const HUGE: usize = 20_000_000;
const DEADLINE: Duration = Duration::from_secs(120);
