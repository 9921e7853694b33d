//! How fast a test node takes transactions: it must not be what holds up a measurement of the library.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use conduit::Network;
use conduit::message::{Inventory, Message, ProtoConf, Services, Transaction, Version};
use conduit::testnode::{BlockPlan, GeneratedBlock, TestNode, TestNodeConfig, transaction};
use conduit::wire::{Command, FrameDecoder, FramePart, PayloadLimits};

use crate::support::own_process::resident_bytes;

/// Made before the clock runs: the `inv` messages, and the `tx` frames that answer the `getdata` for each.
struct Lot {
    count: usize,
    inv: Vec<u8>,
    txs: Vec<u8>,
}

fn lots(count: u64, size: usize) -> Vec<Lot> {
    let magic = Network::Regtest.magic();
    let mut lots = Vec::new();
    for start in (0..count).step_by(LOT) {
        let list: Vec<Transaction> =
            (start..count.min(start + LOT as u64)).map(|number| transaction(number, size)).collect();
        let count = list.len();
        let items = list.iter().map(|each| Inventory::transaction(each.txid())).collect();
        let inv = Message::Inv(items).to_frame(magic).to_vec();
        let txs = list.into_iter().flat_map(|each| Message::Tx(each).to_frame(magic).to_vec()).collect();
        lots.push(Lot { count, inv, txs });
    }
    lots
}

/// Announces everything and sends what is asked for, which is all of it, in order.
fn deliver(node: &TestNode, lots: &[Lot]) {
    let magic = Network::Regtest.magic();
    let mut stream = TcpStream::connect(node.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let hello = [
        Message::from(Version::new(Services::NONE, 7, "/raw/", 0, 0)),
        Message::Verack,
        Message::ProtoConf(ProtoConf::new(2_097_152, "Default")),
    ];
    stream.write_all(&hello.map(|message| message.to_frame(magic).to_vec()).concat()).unwrap();
    let mut asked = Asked::new(stream.try_clone().unwrap());
    let mut announced = 0;
    let mut wanted = 0;
    for (place, lot) in lots.iter().enumerate() {
        // Some are always announced ahead, so that the node never waits.
        for ahead in &lots[announced..lots.len().min(place + AHEAD)] {
            stream.write_all(&ahead.inv).unwrap();
            announced += 1;
        }
        wanted += lot.count;
        asked.wait_for(wanted);
        stream.write_all(&lot.txs).unwrap();
    }
    assert_eq!(asked.items, wanted, "everything is asked for once");
}

/// Counts what is asked for.
struct Asked {
    stream: TcpStream,
    decoder: FrameDecoder,
    items: usize,
    payload: Vec<u8>,
    command: Option<Command>,
}

impl Asked {
    fn new(stream: TcpStream) -> Self {
        let limits = PayloadLimits { general: 1 << 24, block: 1 << 24 };
        let decoder = FrameDecoder::new(Network::Regtest.magic(), limits);
        Self { stream, decoder, items: 0, payload: Vec::new(), command: None }
    }

    fn wait_for(&mut self, items: usize) {
        let mut buffer = vec![0; 256 * 1_024];
        while self.items < items {
            let n = self.stream.read(&mut buffer).unwrap();
            assert_ne!(n, 0, "the node closed the connection");
            let mut input = &buffer[..n];
            while let Some(part) = self.decoder.push(&mut input).unwrap() {
                match part {
                    FramePart::Whole(header, payload) => self.items += count(header.command, payload),
                    FramePart::Start(header) => self.command = Some(header.command),
                    FramePart::Chunk(chunk) => self.payload.extend_from_slice(chunk),
                    FramePart::End => {
                        let payload = std::mem::take(&mut self.payload);
                        self.items += count(self.command.take().unwrap(), &payload);
                    }
                }
            }
        }
    }
}

fn count(command: Command, payload: &[u8]) -> usize {
    match Message::decode(command, payload).unwrap() {
        Message::GetData(items) => items.len(),
        _ => 0,
    }
}

fn run(nodes: usize, transactions: u64) {
    let lots = lots(transactions, SIZE);
    let config = || TestNodeConfig::default().keep_transactions(false);
    let nodes: Vec<_> = (0..nodes).map(|_| TestNode::start(config()).unwrap()).collect();
    let before = resident_bytes();
    let began = Instant::now();
    thread::scope(|scope| {
        for node in &nodes {
            scope.spawn(|| {
                deliver(node, &lots);
                assert!(node.wait_for_mempool(transactions as usize, PATIENCE));
            });
        }
    });
    let took = began.elapsed();
    let all = transactions as f64 * nodes.len() as f64;
    println!(
        "{} nodes, {transactions} transactions of {SIZE} bytes each: {:.1} s, {:.0} tx/s in all, {:.0} bytes kept for each",
        nodes.len(),
        took.as_secs_f64(),
        all / took.as_secs_f64(),
        (resident_bytes() - before) as f64 / all,
    );
}

#[test]
#[ignore = "long"]
fn a_million_transactions_are_taken_by_one_node() {
    run(1, 1_000_000);
}

#[test]
#[ignore = "long"]
fn a_million_transactions_are_taken_by_each_of_five_nodes() {
    run(5, 1_000_000);
}

#[test]
#[ignore = "long"]
fn a_gigabyte_is_made_and_sent_to_whoever_just_reads() {
    let magic = Network::Regtest.magic();
    let block = GeneratedBlock::new(BlockPlan::of_size(1, 1_000_000_000).without_checksum());
    let node = TestNode::start(TestNodeConfig::default()).unwrap();
    node.offer(&block);
    let mut stream = TcpStream::connect(node.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let version = Message::from(Version::new(Services::NONE, 7, "/raw/", 0, 0));
    let began = Instant::now();
    let messages = [version, Message::Verack, Message::GetData(vec![Inventory::block(block.hash())])];
    stream.write_all(&messages.map(|message| message.to_frame(magic).to_vec()).concat()).unwrap();
    let (mut buffer, mut left) = (vec![0; 256 * 1_024], block.size());
    while left > 0 {
        let n = stream.read(&mut buffer).unwrap();
        assert_ne!(n, 0, "the node closed the connection");
        left = left.saturating_sub(n as u64);
    }
    println!("1 GB made, sent and read: {:.2} GB/s", 1.0 / began.elapsed().as_secs_f64());
}

/// A peer of protocol version 70015 cannot read the header of such a block; a node says nothing to it then.
#[test]
#[ignore = "long"]
fn a_block_above_4_gib_goes_only_to_peers_that_know_extended_headers() {
    let magic = Network::Regtest.magic();
    let block = GeneratedBlock::new(BlockPlan::of_count(1, 2, 10).giant(4_300_000_000));
    let node = TestNode::start(TestNodeConfig::default()).unwrap();
    node.offer(&block);
    for (number, is_sent) in [(70_015, false), (70_016, true)] {
        let mut stream = TcpStream::connect(node.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut version = Version::new(Services::NONE, 7, "/raw/", 0, 0);
        version.version = number;
        let messages = [
            Message::from(version),
            Message::Verack,
            Message::GetData(vec![Inventory::block(block.hash())]),
            Message::Ping { nonce: 7 },
        ];
        stream.write_all(&messages.map(|message| message.to_frame(magic).to_vec()).concat()).unwrap();
        let mut decoder = FrameDecoder::new(magic, PayloadLimits { general: 1 << 24, block: u64::MAX });
        let mut buffer = vec![0; 65_536];
        let seen = 'seen: loop {
            let n = stream.read(&mut buffer).unwrap();
            assert_ne!(n, 0, "the node closed the connection");
            let mut input = &buffer[..n];
            while let Some(part) = decoder.push(&mut input).unwrap() {
                let (FramePart::Whole(header, _) | FramePart::Start(header)) = part else { continue };
                if [Command::BLOCK, Command::PONG].contains(&header.command) {
                    break 'seen header;
                }
            }
        };
        assert_eq!(seen.command == Command::BLOCK, is_sent, "to {number}");
        if is_sent {
            assert_eq!((seen.length, seen.checksum), (block.size(), None));
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
const SIZE: usize = 250;
/// Ids in an `inv`.
const LOT: usize = 1_000;
const AHEAD: usize = 8;
