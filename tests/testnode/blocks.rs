//! Blocks that the test node makes as they leave, and what goes wrong in the middle of a block.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use conduit::message::{Block, Inventory, InventoryKind, Message, RejectCode};
use conduit::testnode::{BlockPlan, Fault, FaultKind, GeneratedBlock, TestNode, TestNodeConfig, transaction};
use conduit::wire::{BlockHash, Command, FrameHeader, checksum};

#[cfg(target_os = "linux")]
use super::own_process::{is_alone, resident_bytes};
use super::peer::{self, PATIENCE};

/// A peer that reads the frames of its connection one after the other, in pieces where it wants to.
struct Reader {
    stream: TcpStream,
}

/// A frame as it came.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    header: FrameHeader,
    payload: Vec<u8>,
}

impl Reader {
    fn connect(node: &TestNode) -> Self {
        Self::of(peer::Peer::connect(node))
    }

    fn of(mut peer: peer::Peer) -> Self {
        // Nothing else is on its way then.
        peer.said();
        Self { stream: peer.stream }
    }

    fn send(&mut self, message: &Message) {
        self.stream.write_all(&message.to_frame(MAGIC)).unwrap();
    }

    fn ask(&mut self, hashes: &[BlockHash]) {
        self.send(&Message::GetData(hashes.iter().copied().map(Inventory::block).collect()));
    }

    fn header(&mut self) -> FrameHeader {
        let mut bytes = vec![0; FrameHeader::BASIC_LEN];
        self.stream.read_exact(&mut bytes).unwrap();
        if let Some(header) = FrameHeader::decode(&bytes, MAGIC).unwrap() {
            return header;
        }
        bytes.resize(FrameHeader::EXTENDED_LEN, 0);
        self.stream.read_exact(&mut bytes[FrameHeader::BASIC_LEN..]).unwrap();
        FrameHeader::decode(&bytes, MAGIC).unwrap().unwrap()
    }

    fn frame(&mut self) -> Frame {
        let header = self.header();
        let mut payload = vec![0; header.length as usize];
        self.stream.read_exact(&mut payload).unwrap();
        Frame { header, payload }
    }

    /// The next frame, which is a block whose checksum fits.
    fn block(&mut self) -> Vec<u8> {
        let frame = self.frame();
        assert_eq!(frame.header.command, Command::BLOCK);
        assert!(frame.fits());
        frame.payload
    }

    /// The commands that came before the node answered a ping sent now.
    fn said(&mut self) -> Vec<Command> {
        self.send(&Message::Ping { nonce: 7 });
        let frames = std::iter::from_fn(|| Some(self.frame().header.command));
        frames.take_while(|command| *command != Command::PONG).collect()
    }

    /// Bytes until the node says nothing for a while, or closes the connection; and whether it did that.
    fn rest(&mut self) -> (Vec<u8>, bool) {
        self.stream.set_read_timeout(Some(A_WHILE)).unwrap();
        let (mut rest, mut buffer) = (Vec::new(), vec![0; 65_536]);
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return (rest, true),
                Ok(n) => rest.extend_from_slice(&buffer[..n]),
                Err(error) => match error.kind() {
                    ErrorKind::ConnectionReset => return (rest, true),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return (rest, false),
                    _ => panic!("{error}"),
                },
            }
        }
    }
}

impl Frame {
    fn fits(&self) -> bool {
        self.header.checksum == Some(checksum(&self.payload))
    }
}

fn start() -> TestNode {
    TestNode::start(TestNodeConfig::default().blocks(3)).unwrap()
}

fn offered(node: &TestNode, plan: BlockPlan) -> GeneratedBlock {
    let block = GeneratedBlock::new(plan);
    node.offer(&block);
    block
}

fn raw(block: &GeneratedBlock) -> Vec<u8> {
    let mut raw = Vec::new();
    block.reader().read_to_end(&mut raw).unwrap();
    raw
}

/// A block made as it leaves and one of the chain, each with its bytes.
fn both(node: &TestNode) -> [(BlockHash, Vec<u8>); 2] {
    let made = offered(node, BlockPlan::of_size(1, 300_000));
    let mined = node.block(node.tip_height()).unwrap();
    [(made.hash(), raw(&made)), (mined.hash(), mined.raw().to_vec())]
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader::new(MAGIC, Command::BLOCK, payload.len() as u64, checksum(payload));
    let mut bytes = Vec::new();
    header.encode(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn blocks_come_in_the_order_asked_for_whether_made_or_mined() {
    let node = start();
    let made = GeneratedBlock::several(1, 12, 200..=2_000_000);
    made.iter().for_each(|block| node.offer(block));
    let mined: Vec<Block> = (1..=3).map(|height| node.block(height).unwrap()).collect();
    let mut peer = Reader::connect(&node);
    let mut asked: Vec<(BlockHash, Vec<u8>)> = made.iter().map(|block| (block.hash(), raw(block))).collect();
    for (place, block) in mined.iter().enumerate() {
        asked.insert(place * 4 + 2, (block.hash(), block.raw().to_vec()));
    }
    let hashes: Vec<_> = asked.iter().map(|(hash, _)| *hash).collect();
    peer.ask(&hashes[..5]);
    hashes[5..].iter().for_each(|hash| peer.ask(&[*hash]));
    peer.send(&Message::Ping { nonce: 9 });
    for (hash, raw) in asked {
        assert!(peer.block() == raw, "{hash}");
    }
    assert_eq!(peer.frame().header.command, Command::PONG);
}

#[test]
fn the_same_blocks_come_from_every_node() {
    let nodes: Vec<_> = (0..10).map(|_| start()).collect();
    let blocks = GeneratedBlock::several(3, 5, 1_000..=300_000);
    for node in &nodes {
        blocks.iter().for_each(|block| node.offer(block));
        let mut peer = Reader::connect(node);
        for block in &blocks {
            peer.ask(&[block.hash()]);
            assert!(peer.block() == raw(block));
        }
    }
}

#[test]
fn a_made_block_comes_whole_when_asked_for_as_compact_and_not_when_filtered() {
    let node = start();
    let made = offered(&node, BlockPlan::of_size(1, 10_000));
    let mut peer = Reader::connect(&node);
    let item = |kind| Inventory { kind, hash: *made.hash().as_wire() };
    peer.send(&Message::GetData(vec![item(InventoryKind::CompactBlock)]));
    assert!(peer.block() == raw(&made));
    peer.send(&Message::GetData(vec![item(InventoryKind::FilteredBlock)]));
    peer.ask(&[BlockHash::from_wire([9; 32])]);
    assert!(peer.said().is_empty());
}

#[test]
fn nothing_comes_between_the_pieces_of_a_block() {
    let node = start();
    let made = offered(&node, BlockPlan::of_size(1, 40_000_000).without_checksum());
    let mut peer = Reader::connect(&node);
    peer.ask(&[made.hash()]);
    let header = peer.header();
    // Longer than what the kernel holds, so the rest of it waits; and what is told now has to wait, too.
    assert!((1..=20).all(|number| node.submit(transaction(number, 100))));
    node.mine_with(Vec::new());
    let mut payload = vec![0; header.length as usize];
    peer.stream.read_exact(&mut payload).unwrap();
    assert!(payload == raw(&made));
    assert!(peer.said().iter().filter(|command| **command == Command::INV).count() >= 2);
}

#[test]
fn bytes_on_command_come_behind_the_block_that_is_on_its_way() {
    let node = start();
    let made = offered(&node, BlockPlan::of_size(1, 40_000_000).without_checksum());
    let mut peer = Reader::connect(&node);
    peer.ask(&[made.hash()]);
    let header = peer.header();
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| node.send_bytes(&Message::SendHeaders.to_frame(MAGIC)));
        let mut payload = vec![0; header.length as usize];
        peer.stream.read_exact(&mut payload).unwrap();
        assert!(payload == raw(&made));
        assert_eq!(peer.frame().header.command, Command::SENDHEADERS);
        assert_eq!(sent.join().unwrap(), 1);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_peer_that_does_not_read_costs_little_and_holds_up_nobody() {
    if !is_alone("blocks::a_peer_that_does_not_read_costs_little_and_holds_up_nobody") {
        return;
    }
    let node = start();
    let large = offered(&node, BlockPlan::of_size(1, 60_000_000).without_checksum());
    let small = offered(&node, BlockPlan::of_size(2, 100_000));
    // Whatever is made once is there now.
    let mut other = Reader::connect(&node);
    other.ask(&[small.hash()]);
    other.block();
    let mut stuck: Vec<_> = (0..8).map(|_| Reader::connect(&node)).collect();
    let before = resident_bytes();
    for peer in &mut stuck {
        peer.ask(&[large.hash(), large.hash()]);
        peer.header();
    }
    for _ in 0..20 {
        other.ask(&[small.hash()]);
        assert!(other.block() == raw(&small));
    }
    let each = resident_bytes().saturating_sub(before) / stuck.len() as u64;
    println!("{each} bytes for each");
    assert!(each < 1_024 * 1_024, "{each} bytes for each");
    // One of them goes on as if nothing had been.
    let mut made = large.reader();
    let (mut got, mut expected) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut left = large.size() as usize;
    while left > 0 {
        let n = left.min(1 << 20);
        stuck[0].stream.read_exact(&mut got[..n]).unwrap();
        made.read_exact(&mut expected[..n]).unwrap();
        assert!(got[..n] == expected[..n], "{left} bytes before the end");
        left -= n;
    }
    assert_eq!(stuck[0].header().length, large.size());
    let began = Instant::now();
    node.stop();
    assert!(began.elapsed() < PATIENCE / 2);
}

#[test]
fn a_small_block_may_have_an_extended_header() {
    let node = start();
    let mut peer = Reader::connect(&node);
    let blocks = both(&node);
    node.inject(Fault::new(FaultKind::ExtendHeader).command(Command::BLOCK).times(2));
    for extended in [true, false] {
        for (hash, raw) in &blocks {
            peer.ask(&[*hash]);
            let frame = peer.frame();
            assert_eq!((frame.header.command, frame.header.is_extended()), (Command::BLOCK, extended));
            assert!(frame.payload == *raw);
        }
    }
    assert!(peer.said().is_empty());
}

#[test]
fn a_connection_stalls_in_the_middle_of_a_block_and_stays_open() {
    let node = start();
    let mut submitted = 0;
    for (number, (hash, raw)) in both(&node).into_iter().enumerate() {
        let whole = frame(&raw);
        for limit in [0, 10, 24, 100, whole.len() - 1, whole.len()] {
            let mut peer = Reader::connect(&node);
            let stall = FaultKind::StallAfter(limit as u64);
            node.inject(Fault::new(stall).command(Command::BLOCK).times(1));
            peer.ask(&[hash, hash]);
            peer.send(&Message::Ping { nonce: 1 });
            let (rest, closed) = peer.rest();
            assert!(rest == whole[..limit], "block {number}: {} of {limit} bytes", rest.len());
            assert!(!closed);
            let mut other = Reader::connect(&node);
            other.ask(&[hash]);
            assert!(other.block() == raw);
            node.clear_faults();
            peer.send(&Message::Ping { nonce: 2 });
            submitted += 1;
            assert!(node.submit(transaction(submitted, 100)));
            assert_eq!(other.frame().header.command, Command::INV);
            assert_eq!(peer.rest(), (vec![], false), "the end of the fault does not help");
        }
    }
}

#[test]
fn bytes_until_a_stall_are_counted_over_several_blocks() {
    let node = start();
    let [(hash, raw), _] = both(&node);
    let mut peer = Reader::connect(&node);
    let limit = frame(&raw).len() + 1_000;
    node.inject(Fault::new(FaultKind::StallAfter(limit as u64)).command(Command::BLOCK).connection(0));
    peer.ask(&[hash, hash]);
    assert!(peer.block() == raw);
    assert_eq!(peer.rest(), (frame(&raw)[..1_000].to_vec(), false));
}

#[test]
fn a_connection_closes_in_the_middle_of_a_block_that_is_made() {
    let node = start();
    let [(hash, raw), _] = both(&node);
    for limit in [0, 24, 150_000, 300_024] {
        let mut peer = Reader::connect(&node);
        node.inject(Fault::new(FaultKind::CloseAfter(limit)).command(Command::BLOCK).times(1));
        peer.ask(&[hash]);
        assert_eq!(peer.rest(), (frame(&raw)[..limit as usize].to_vec(), true));
    }
}

#[test]
fn a_throttled_block_is_slow_and_no_other_connection_is() {
    let node = start();
    let made = offered(&node, BlockPlan::of_size(1, 300_000));
    let (mut slow, mut other) = (Reader::connect(&node), Reader::connect(&node));
    node.inject(Fault::new(FaultKind::Throttle(1_000_000)).command(Command::BLOCK).connection(0).times(2));
    let began = Instant::now();
    slow.ask(&[made.hash(), made.hash(), made.hash()]);
    other.ask(&[made.hash()]);
    assert!(other.block() == raw(&made));
    let quick = began.elapsed();
    for place in 1_u32..=2 {
        assert!(slow.block() == raw(&made));
        // The last step is written at once.
        let shortest = Duration::from_millis(300) * place - Duration::from_millis(60);
        assert!(began.elapsed() >= shortest, "block {place} after {:?}", began.elapsed());
    }
    let slowly = began.elapsed();
    assert!(slow.block() == raw(&made));
    assert!(quick < slowly && slowly < PATIENCE / 2, "{quick:?} and {slowly:?}");
}

#[test]
fn a_mined_block_can_be_throttled_too() {
    let node = start();
    node.mine_with(vec![transaction(1, 20_000)]);
    let mined = node.block(4).unwrap();
    let mut peer = Reader::connect(&node);
    node.inject(Fault::new(FaultKind::Throttle(50_000)).command(Command::BLOCK));
    let began = Instant::now();
    peer.ask(&[mined.hash()]);
    assert!(peer.block() == mined.raw()[..]);
    assert!(began.elapsed() >= A_WHILE, "{:?}", began.elapsed());
    assert!(peer.said().is_empty());
}

#[test]
fn a_block_lies_with_a_checksum_of_its_own_or_the_honest_one() {
    let node = start();
    let mut peer = Reader::connect(&node);
    for (hash, raw) in both(&node) {
        for (at, place) in [(0, 0), (90, 90), (u64::MAX, raw.len() - 1)] {
            for checksum_fits in [false, true] {
                node.inject(Fault::new(FaultKind::Falsify { at, checksum_fits }).times(1));
                peer.ask(&[hash]);
                let frame = peer.frame();
                assert_eq!(frame.fits(), checksum_fits);
                let mut lie = raw.clone();
                lie[place] ^= 0xff;
                assert!(frame.payload == lie, "byte {place}");
            }
        }
        peer.ask(&[hash]);
        assert!(peer.block() == raw, "once only");
    }
}

#[test]
fn a_block_ends_early_in_a_frame_that_fits() {
    let node = start();
    let mut peer = Reader::connect(&node);
    for (hash, raw) in both(&node) {
        for missing in [1, 60, raw.len() as u64 - 80, raw.len() as u64 + 9] {
            node.inject(Fault::new(FaultKind::Shorten(missing)).times(1));
            peer.ask(&[hash]);
            assert!(peer.block() == raw[..raw.len().saturating_sub(missing as usize)], "{missing} bytes");
        }
    }
    assert!(peer.said().is_empty());
}

#[test]
fn a_block_claims_more_or_fewer_transactions_than_it_has() {
    let node = start();
    let made = offered(&node, BlockPlan::of_count(1, 252, 60));
    let mut peer = Reader::connect(&node);
    for (more, count) in [(-252, vec![0]), (-1, vec![251]), (1, vec![0xfd, 253, 0]), (-300, vec![0])] {
        node.inject(Fault::new(FaultKind::Miscount(more)).times(1));
        peer.ask(&[made.hash()]);
        let honest = raw(&made);
        assert!(peer.block() == [&honest[..80], &count, &honest[81..]].concat(), "{more}");
    }
}

#[test]
fn a_busy_node_says_so_instead_of_sending_a_block() {
    let node = start();
    let mut peer = Reader::connect(&node);
    let blocks = both(&node);
    node.inject(Fault::new(FaultKind::TooBusy).connection(0).times(3));
    let unknown = transaction(1, 100).txid();
    peer.send(&Message::GetData(vec![Inventory::transaction(unknown)]));
    assert_eq!(peer.said(), [Command::NOTFOUND], "no block is asked for");
    peer.ask(&[blocks[0].0, blocks[1].0, blocks[0].0, blocks[1].0]);
    for _ in 0..3 {
        let frame = peer.frame();
        let Ok(Message::Reject(reject)) = Message::decode(frame.header.command, &frame.payload) else {
            panic!("{} is no reject", frame.header.command);
        };
        assert_eq!((reject.message.to_string(), reject.code), ("getdata".to_owned(), RejectCode::TooBusy));
        assert_eq!(reject.hash, None);
    }
    assert!(peer.block() == blocks[1].1);
}

#[test]
fn a_made_block_can_be_withheld_late_or_corrupt() {
    let node = start();
    let [(hash, raw), _] = both(&node);
    let mut peer = Reader::connect(&node);
    node.inject(Fault::new(FaultKind::Withhold).command(Command::BLOCK).times(1));
    peer.ask(&[hash]);
    assert!(peer.said().is_empty());
    node.inject(Fault::new(FaultKind::CorruptChecksum).command(Command::BLOCK).times(1));
    node.inject(Fault::new(FaultKind::Delay(A_WHILE)).command(Command::BLOCK).times(1));
    let began = Instant::now();
    peer.ask(&[hash]);
    let frame = peer.frame();
    assert!(began.elapsed() >= A_WHILE && frame.payload == raw && !frame.fits());
    node.set_latency(A_WHILE);
    let began = Instant::now();
    peer.ask(&[hash]);
    assert!(peer.block() == raw);
    assert!(began.elapsed() >= A_WHILE);
}

/// Regtest's.
const MAGIC: [u8; 4] = [0xda, 0xb5, 0xbf, 0xfa];
/// Long beside what a loopback takes, and short enough to wait for.
const A_WHILE: Duration = Duration::from_millis(300);
