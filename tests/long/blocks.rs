//! Blocks of gigabytes, a transaction of hundreds of megabytes, millions of transactions: at what rate they are streamed
//! and proven, beside the bare hashing of the same block on one core; in how much memory; and what it does to others.
//!
//! The test nodes run in a process of their own, so that memory and processor time here are the library's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use conduit::block::{BlockSummary, ChunkContent, MerkleTree};
use conduit::testnode::{BlockPlan, GeneratedBlock, transaction};
use conduit::wire::sha256d;
use conduit::{BlockOptions, Conduit, GetData, PeerId, RequestOptions, Txid};

use crate::support::client::config;
use crate::support::own_process::{is_alone_within, peak_resident_bytes, processor_time, resident_bytes};
use crate::support::program::Program;

/// A client of two nodes: one makes the block, the other answers small requests.
struct Setup {
    conduit: Conduit,
    maker: PeerId,
    other: PeerId,
    block: GeneratedBlock,
    _nodes: [Program; 2],
}

/// What a download did.
struct Run {
    chunks: u64,
    pieces: u64,
    took: Duration,
    processor: Duration,
    /// What the process grew by at most, bytes.
    growth: u64,
    summary: BlockSummary,
    /// Round trips to the other node meanwhile.
    meanwhile: Latencies,
}

/// Round trips, the quickest first.
struct Latencies(Vec<Duration>);

impl Setup {
    /// `spec` is the same for the node as `plan` is here.
    fn new(spec: &str, plan: BlockPlan) -> Self {
        let maker = Program::start("testnode", &["--block", spec, "--until-eof"]);
        let other = Program::start("testnode", &["--mempool", "1", "--tx-size", "250", "--until-eof"]);
        let nodes = [maker, other];
        let addresses = nodes.each_ref().map(|node| {
            let line = node.line();
            line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).to_owned()
        });
        // Both processes hash it now, at the same time.
        let block = GeneratedBlock::new(plan.without_checksum());
        let made = nodes[0].lines.recv_timeout(DEADLINE).expect("the block is ready in time");
        assert_eq!(made, format!("block {} {} {}", block.hash(), block.size(), block.transaction_count()));
        let conduit = Conduit::new(config()).unwrap();
        let [maker, other] = addresses.map(|address| conduit.add_peers([address.as_str()]).unwrap()[0]);
        conduit.start().unwrap();
        conduit.wait_for_peers(2, DEADLINE).unwrap();
        Self { conduit, maker, other, block, _nodes: nodes }
    }

    /// Streams the block and checks it; `slow` is what the reader takes for each chunk.
    fn run(&self, options: BlockOptions, slow: Duration) -> Run {
        let is_over = AtomicBool::new(false);
        let (conduit, other) = (&self.conduit, self.other);
        thread::scope(|scope| {
            // Also when this panics, so that the other thread ends.
            let ends = SetOnDrop(&is_over);
            let (before, processor, began) = (resident_bytes(), processor_time(), Instant::now());
            let meanwhile = scope.spawn(|| round_trips(conduit, other, |_| !is_over.load(Ordering::SeqCst)));
            let has_bytes = options.content != ChunkContent::Txids;
            let mut stream = self.conduit.block_with(self.block.hash(), &options.peer(self.maker)).unwrap();
            assert_eq!((stream.header(), stream.size()), (self.block.header(), self.block.size()));
            let (mut chunks, mut pieces, mut bytes, mut transactions) = (0, 0, 0, 0);
            while let Some(chunk) = stream.next_chunk().unwrap() {
                if has_bytes {
                    assert_eq!(chunk.offset(), bytes);
                }
                bytes += chunk.bytes().len() as u64;
                transactions += chunk.transaction_count() as u64;
                chunks += 1;
                pieces += u64::from(chunk.piece().is_some());
                thread::sleep(slow);
            }
            let (took, processor) = (began.elapsed(), processor_time() - processor);
            let growth = peak_resident_bytes().saturating_sub(before);
            drop(ends);
            assert_eq!(bytes, if has_bytes { self.block.size() } else { 0 });
            assert_eq!(transactions, self.block.transaction_count());
            // The root was made by the generator, and the header has it.
            let summary = stream.summary().unwrap().clone();
            assert_eq!((summary.hash, summary.header), (self.block.hash(), *self.block.header()));
            assert_eq!((summary.size, summary.transactions), (self.block.size(), transactions));
            let meanwhile = meanwhile.join().unwrap();
            Run { chunks, pieces, took, processor, growth, summary, meanwhile }
        })
    }

    /// Round trips with nothing else under way.
    fn quiet_round_trips(&self) -> Latencies {
        round_trips(&self.conduit, self.other, |times| times < TRIPS)
    }

    /// How long one core hashes each transaction of the block and the tree, all of which lie in memory.
    fn bare_hashing(&self) -> Duration {
        let (mut lot, mut ends) = (Vec::with_capacity(2 * LOT), Vec::new());
        let mut tree = MerkleTree::new();
        let mut took = Duration::ZERO;
        let mut hash = |lot: &mut Vec<u8>, ends: &mut Vec<usize>| {
            let began = Instant::now();
            let mut start = 0;
            for end in ends.drain(..) {
                tree.push(Txid::from_wire(sha256d(&lot[start..end])));
                start = end;
            }
            took += began.elapsed();
            lot.clear();
        };
        self.block.for_each_transaction(|raw| {
            lot.extend_from_slice(raw);
            ends.push(lot.len());
            if lot.len() >= LOT {
                hash(&mut lot, &mut ends);
            }
        });
        hash(&mut lot, &mut ends);
        let began = Instant::now();
        let root = tree.finish();
        took += began.elapsed();
        assert_eq!(root, Ok(self.block.header().merkle_root));
        took
    }

    /// Prints a run beside the bare hashing of the same block.
    fn report(&self, what: &str, run: &Run, alone: &Latencies, hashing: Option<Duration>) {
        let megabytes = self.block.size() as f64 / 1e6;
        let rate = |took: Duration| megabytes / took.as_secs_f64();
        println!(
            "{what}: {megabytes:.0} MB, {} transactions in {} chunks, {} of them pieces: {:.2} s, {:.0} MB/s, {:.2} s \
             of processor time; grew by {:.1} MiB at most",
            run.summary.transactions,
            run.chunks,
            run.pieces,
            run.took.as_secs_f64(),
            rate(run.took),
            run.processor.as_secs_f64(),
            run.growth as f64 / MIB as f64,
        );
        if let Some(hashing) = hashing {
            let ratio = hashing.as_secs_f64() / run.took.as_secs_f64();
            println!("  bare hashing on one core: {:.0} MB/s; ratio {ratio:.2}", rate(hashing));
            assert!(ratio > 0.08, "a tenth of what is expected: {ratio:.3}");
        }
        println!("  round trips of another peer: {alone} alone, {} meanwhile", run.meanwhile);
        assert!(run.growth < 64 * MIB, "{} bytes", run.growth);
    }
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Asks a node for its transaction again and again, while `goes_on` says so of how often it was.
fn round_trips(conduit: &Conduit, peer: PeerId, goes_on: impl Fn(usize) -> bool) -> Latencies {
    let txid: Txid = transaction(0, 250).txid();
    let options = RequestOptions::new().peer(peer);
    let mut list = Vec::new();
    while goes_on(list.len()) {
        let began = Instant::now();
        let answer = conduit.send_request_with(GetData::transaction(txid), &options).unwrap();
        list.push(began.elapsed());
        assert_eq!(answer.txid(), txid);
        thread::sleep(Duration::from_millis(1));
    }
    list.sort_unstable();
    Latencies(list)
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |share: usize| self.0.get((self.0.len() * share / 100).min(self.0.len().saturating_sub(1)));
        let [p50, p99] = [50, 99].map(|share| at(share).copied().unwrap_or_default());
        write!(f, "p50 {p50:.0?} and p99 {p99:.0?} of {}", self.0.len())
    }
}

fn options() -> BlockOptions {
    BlockOptions::new().timeout(DEADLINE)
}

#[test]
#[ignore = "long"]
fn a_gigabyte_streams_at_the_speed_of_hashing() {
    if !is_alone_within("blocks::a_gigabyte_streams_at_the_speed_of_hashing", TEST) {
        return;
    }
    let setup = Setup::new("bytes=1000000000,seed=1", BlockPlan::of_size(1, 1_000_000_000));
    let alone = setup.quiet_round_trips();
    let run = setup.run(options(), Duration::ZERO);
    setup.report("1 GB", &run, &alone, Some(setup.bare_hashing()));
    // The second time all buffers are there already.
    let again = setup.run(options(), Duration::ZERO);
    setup.report("1 GB again", &again, &alone, Some(setup.bare_hashing()));
    let ids = setup.run(options().content(ChunkContent::Txids), Duration::ZERO);
    setup.report("1 GB, txids only", &ids, &alone, None);
}

#[test]
#[ignore = "long"]
fn four_and_a_half_gigabytes_stream_behind_an_extended_header() {
    if !is_alone_within("blocks::four_and_a_half_gigabytes_stream_behind_an_extended_header", TEST) {
        return;
    }
    let setup = Setup::new("bytes=4500000000,seed=2", BlockPlan::of_size(2, 4_500_000_000));
    let alone = setup.quiet_round_trips();
    let run = setup.run(options(), Duration::ZERO);
    assert!(!run.summary.checksum_checked, "there is none");
    setup.report("4.5 GB", &run, &alone, Some(setup.bare_hashing()));
}

#[test]
#[ignore = "long"]
fn a_slow_reader_of_a_gigabyte_costs_no_more_memory_and_no_one_else() {
    if !is_alone_within("blocks::a_slow_reader_of_a_gigabyte_costs_no_more_memory_and_no_one_else", TEST) {
        return;
    }
    let setup = Setup::new("bytes=1000000000,seed=3", BlockPlan::of_size(3, 1_000_000_000));
    let alone = setup.quiet_round_trips();
    let run = setup.run(options(), Duration::from_millis(100));
    setup.report("1 GB, read slowly", &run, &alone, None);
}

#[test]
#[ignore = "long"]
fn a_transaction_of_two_hundred_megabytes_streams_in_pieces() {
    if !is_alone_within("blocks::a_transaction_of_two_hundred_megabytes_streams_in_pieces", TEST) {
        return;
    }
    let plan = BlockPlan::of_size(4, 400_000_000).giant(200_000_000);
    let setup = Setup::new("bytes=400000000,giant=200000000,seed=4", plan);
    let alone = setup.quiet_round_trips();
    let run = setup.run(options(), Duration::ZERO);
    // Of 4 MiB each, what does not fill one at the end in one more.
    assert_eq!(run.pieces, 200_000_000_u64.div_ceil(options().chunk_size as u64));
    setup.report("400 MB with a transaction of 200 MB", &run, &alone, None);
}

#[test]
#[ignore = "long"]
fn four_million_minimal_transactions_stream() {
    if !is_alone_within("blocks::four_million_minimal_transactions_stream", TEST) {
        return;
    }
    for size in [10, 60] {
        let plan = BlockPlan::of_count(5, 4_000_000, size);
        let setup = Setup::new(&format!("count=4000000,size={size},seed=5"), plan);
        let alone = setup.quiet_round_trips();
        let run = setup.run(options(), Duration::ZERO);
        let hashing = setup.bare_hashing();
        setup.report(&format!("4,000,000 transactions of {size} bytes"), &run, &alone, Some(hashing));
        let ids = setup.run(options().content(ChunkContent::BytesAndTxids), Duration::ZERO);
        setup.report("  the same with their ids", &ids, &alone, None);
    }
}

const MIB: u64 = 1_024 * 1_024;
/// Transactions that are hashed in one go; bytes.
const LOT: usize = 4 * 1_024 * 1_024;
/// Round trips that are measured with nothing else under way.
const TRIPS: usize = 1_000;
/// Without instructions for it, gigabytes are hashed in minutes.
const DEADLINE: Duration = Duration::from_secs(600);
const TEST: Duration = Duration::from_secs(3_600);
