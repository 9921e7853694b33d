//! A million transactions by `inv` and `getdata`: how fast they are announced and served, what memory that takes, and what
//! becomes of a ping meanwhile.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use conduit::testnode::transaction;
use conduit::{BroadcastOptions, Conduit, Config, PeerId, Ping, RequestOptions, Verdict};

use crate::support::client::config;
use crate::support::own_process::{is_alone_within, peak_resident_bytes, processor_time, resident_bytes};
use crate::support::program::Program;

/// Test nodes in a process of their own, each joined to the next.
struct Nodes {
    addresses: Vec<SocketAddr>,
    _program: Program,
}

impl Nodes {
    fn start(args: &[&str]) -> Self {
        let count = NODES.to_string();
        let program = Program::start("testnode", &[&["--nodes", &count, "--until-eof"], args].concat());
        let address = |_| program.line().strip_prefix("listening on ").unwrap().parse().unwrap();
        Self { addresses: (0..NODES).map(address).collect(), _program: program }
    }

    fn connect(&self, config: Config) -> (Conduit, Vec<PeerId>) {
        let conduit = Conduit::new(config).unwrap();
        let peers = conduit.add_peers(&self.addresses).unwrap();
        conduit.start().unwrap();
        conduit.wait_for_peers(NODES, DEADLINE).unwrap();
        (conduit, peers)
    }
}

/// Transactions of [`SIZE`] bytes, made as they are asked for: each spends an output of its own.
fn transactions(count: u64) -> impl Iterator<Item = Vec<u8>> {
    let template = transaction(0, SIZE).raw().to_vec();
    (0..count).map(move |number| {
        let mut raw = template.clone();
        raw[SPENT..SPENT + 8].copy_from_slice(&number.to_le_bytes());
        raw
    })
}

/// How long five sockets take for the bytes of so many `tx`, written by one thread and read by one for each.
fn loopback(count: u64) -> Duration {
    let chunk = vec![0_u8; WRITE];
    let bytes = count as usize * FRAME;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let mut streams: Vec<_> = (0..NODES).map(|_| TcpStream::connect(address).unwrap()).collect();
    let sinks: Vec<_> = (0..NODES)
        .map(|_| {
            let mut stream = listener.accept().unwrap().0;
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            thread::spawn(move || {
                let mut buffer = vec![0; WRITE];
                let mut left = bytes;
                while left > 0 {
                    left -= stream.read(&mut buffer).unwrap();
                }
            })
        })
        .collect();
    let began = Instant::now();
    let mut left = bytes;
    while left > 0 {
        let n = left.min(WRITE);
        streams.iter_mut().for_each(|stream| stream.write_all(&chunk[..n]).unwrap());
        left -= n;
    }
    sinks.into_iter().for_each(|sink| sink.join().unwrap());
    began.elapsed()
}

/// Pings a peer, one at a time, until told to end, and gives the times taken, sorted.
fn ping(conduit: &Conduit, peer: PeerId, ends: &AtomicBool) -> Vec<Duration> {
    let options = RequestOptions::new().peer(peer).timeout(DEADLINE);
    let mut took = Vec::new();
    while !ends.load(Ordering::Acquire) {
        let began = Instant::now();
        conduit.send_request_with(Ping, &options).unwrap();
        took.push(began.elapsed());
        thread::sleep(BETWEEN_PINGS);
    }
    took.sort_unstable();
    took
}

/// The method: a conduit in a process of its own, five test nodes in another, which ask for what is announced and throw it
/// away unhashed; the clock runs from the first transaction made to the last verdict, which says that the transaction was
/// handed to the connections of all five. Beside it the bytes of the same `tx` frames through five loopback connections, from
/// one thread to five readers that do nothing.
#[test]
#[ignore = "long"]
fn a_million_transactions_are_announced_and_served_to_five_nodes() {
    let test = "broadcasts::a_million_transactions_are_announced_and_served_to_five_nodes";
    if !is_alone_within(test, DEADLINE) {
        return;
    }
    let plain = loopback(MANY);
    let nodes = Nodes::start(&["--sink"]);
    let config = config().max_peers(NODES);
    let bound = config.worst_case_bytes();
    let (conduit, peers) = nodes.connect(config);
    let options = BroadcastOptions::new().nodes(NODES).listeners(0).relays(0).deadline(DEADLINE);
    let before = resident_bytes();
    let ends = AtomicBool::new(false);
    let (took, processor, pings) = thread::scope(|scope| {
        let pings = scope.spawn(|| ping(&conduit, peers[0], &ends));
        let (processor, began) = (processor_time(), Instant::now());
        let mut verdicts = 0;
        for outcome in conduit.broadcast_transactions(transactions(MANY), options) {
            assert_eq!(outcome.result.unwrap().verdict, Verdict::Delivered { to: NODES });
            verdicts += 1;
        }
        let costs = (began.elapsed(), processor_time() - processor);
        ends.store(true, Ordering::Release);
        assert_eq!(verdicts, MANY);
        (costs.0, costs.1, pings.join().unwrap())
    });
    let each = MANY as f64 / took.as_secs_f64();
    println!(
        "{MANY} transactions of {SIZE} bytes to each of {NODES}: {:.2} s, {each:.0}/s to each; {:.2} s of processor time",
        took.as_secs_f64(),
        processor.as_secs_f64(),
    );
    println!(
        "loopback TCP, the same bytes: {:.2} s, {:.0}/s to each; ratio {:.3}",
        plain.as_secs_f64(),
        MANY as f64 / plain.as_secs_f64(),
        plain.as_secs_f64() / took.as_secs_f64(),
    );
    let place = |percent: usize| pings[(pings.len() - 1) * percent / 100];
    println!("{} pings meanwhile: p50 {:?}, p99 {:?}", pings.len(), place(50), place(99));
    let grown = peak_resident_bytes().saturating_sub(before);
    println!("memory: {} MiB more at its peak than before, {} MiB are allowed", grown >> 20, bound >> 20);
    assert!(grown <= bound, "{grown} bytes");
}

/// Here the nodes keep what they take and relay it: who was not told shows that it went through.
#[test]
#[ignore = "long"]
fn a_hundred_thousand_transactions_are_relayed_by_nodes_that_were_not_told() {
    let nodes = Nodes::start(&[]);
    let (conduit, _) = nodes.connect(config());
    let options = BroadcastOptions::new().nodes(2).listeners(NODES - 2).relays(1).deadline(DEADLINE);
    let began = Instant::now();
    let mut verdicts = 0;
    for outcome in conduit.broadcast_transactions(transactions(FEWER), options) {
        let verdict = outcome.result.unwrap().verdict;
        assert!(matches!(verdict, Verdict::Relayed { .. }), "{verdict}");
        verdicts += 1;
    }
    assert_eq!(verdicts, FEWER);
    let took = began.elapsed().as_secs_f64();
    println!("{FEWER} transactions told to 2 of {NODES} and relayed: {took:.2} s, {:.0}/s", FEWER as f64 / took);
}

const MANY: u64 = 1_000_000;
const FEWER: u64 = 100_000;
const NODES: usize = 5;
const SIZE: usize = 250;
/// With its header.
const FRAME: usize = 24 + SIZE;
/// Where the id of the first transaction spent begins: behind the version and the number of inputs.
const SPENT: usize = 5;
const WRITE: usize = 64 * 1_024;
const BETWEEN_PINGS: Duration = Duration::from_millis(5);
const DEADLINE: Duration = Duration::from_secs(300);
