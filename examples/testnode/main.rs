//! Runs the embedded test node as a program, so that clients in any language can be tried on it, and on its faults.
//!
//! Run with `cargo run --release --example testnode -- --help`.

mod spec;
#[path = "../support/mod.rs"]
mod support;

use std::io::{self, BufRead, Write};
use std::net::IpAddr;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use conduit::Command;
use conduit::testnode::{BlockPlan, Fault, FaultKind, GeneratedBlock, TestNode, TestNodeConfig, transaction};
use spec::{BlockSpec, FaultSpec, FloodSpec, Time};
use support::{Args, Failure, run};

const USAGE: &str = "\
Usage: testnode [options]

Prints `listening on IP:PORT` first, then runs until it is killed.

  --ip IP               listen at this loopback address [127.0.0.1]
  --port PORT           listen at this port [a free one]
  --network NAME        main, test, stn or regtest [regtest]
  --blocks N            blocks on top of the first one [10]
  --nodes N             nodes in a row, each joined to the next; a line and the next port for each [1]
  --latency TIME        hold back everything sent for so long, as in 20ms or 1.5s [0ms]
  --mine-every TIME     mine a block each time
  --tx-per-second N     make so many transactions a second
  --tx-size BYTES       of so many bytes each [250]
  --mempool N           hold N transactions from the start, and print `transaction TXID` for each
  --block SPEC          make this block whenever it is asked for, and print `block HASH BYTES TRANSACTIONS`;
                        may be repeated; what it is, separated by commas:
                          bytes=N             so many bytes of transactions of usual sizes, one in 2,000 of 100 kB
                          count=N,size=N      or so many transactions of one size, at least 60, or 10
                          giant=N             one transaction of so many bytes in the middle
                          seed=N              another block with each number [0]
                          unchecked           without a checksum, which makes it ready sooner
                        as in --block bytes=4500000000,seed=7
  --until-eof           run until standard input ends; its lines are commands:
                        mine [N], block SPEC, fault SPEC, clear, flood SPEC, drop, refuse on|off, read on|off

Faults, on every node:
  --fault SPEC          may be repeated; one kind, and what it concerns, separated by commas:
                          delay=TIME          what is sent leaves later
                          withhold            what would be sent is not
                          corrupt             what is sent has a wrong checksum
                          close=BYTES         the connection ends after so many bytes
                          stall=BYTES         nothing is sent any more after so many bytes
                          throttle=N          what is sent leaves at N bytes a second
                          extend              what is sent has an extended header
                          falsify=N           byte N of a block is wrong, from 0; the checksum is the honest one's
                          forge=N             the same, and the checksum fits
                          shorten=N           a block lacks its last N bytes
                          miscount=N          a block claims N transactions more, or fewer
                          busy                a block is not sent; the node says that it is too busy
                          ignore              what comes in is thrown away
                          reject=CODE[:TEXT]  what comes in is rejected; the code is a number, as 16 or 0x10
                          silence             nothing is said any more
                          idle                nothing is said after the handshake
                          flood=SPEC          many messages follow the handshake
                          command=NAME        messages of this command only
                          connection=N        the connection accepted after N others only
                          times=N             so often only
                        as in --fault command=block,delay=500ms,times=1
  --flood KIND:COUNT:SIZE  tx of SIZE bytes, or inv or headers of SIZE entries, right after each handshake
  --idle                the same as --fault idle
  --sink                throw away tx as they come, unhashed, and answer all else: a far end for senders to be measured
  --refuse              accept connections and close them at once
  --stop-reading        read nothing
  --help                this text
";

/// What the arguments say.
struct Options {
    config: TestNodeConfig,
    nodes: u16,
    mine_every: Option<Duration>,
    tx_per_second: u64,
    tx_size: usize,
    mempool: u64,
    blocks: Vec<BlockPlan>,
    until_eof: bool,
    faults: Vec<Fault>,
    refuse: bool,
    stop_reading: bool,
}

fn main() -> ExitCode {
    run(USAGE, |args| {
        // They live as long as the program.
        let options: &Options = Box::leak(Box::new(parse(args)?));
        let nodes: &[TestNode] = start(options)?.leak();
        announce(nodes, options)?;
        if let Some(every) = options.mine_every {
            thread::spawn(move || mine(&nodes[0], every));
        }
        if options.tx_per_second > 0 {
            thread::spawn(move || pay(&nodes[0], options));
        }
        if !options.until_eof {
            loop {
                thread::park();
            }
        }
        for line in io::stdin().lock().lines() {
            if let Err(text) = line.map_err(|error| error.to_string()).and_then(|line| obey(nodes, line.trim())) {
                eprintln!("error: {text}");
            }
        }
        nodes.iter().for_each(TestNode::stop);
        Ok(ExitCode::SUCCESS)
    })
}

fn parse(args: &mut Args) -> Result<Options, Failure> {
    let mut options = Options {
        config: TestNodeConfig::default(),
        nodes: 1,
        mine_every: None,
        tx_per_second: 0,
        tx_size: 250,
        mempool: 0,
        blocks: Vec::new(),
        until_eof: false,
        faults: Vec::new(),
        refuse: false,
        stop_reading: false,
    };
    while let Some(arg) = args.next()? {
        let config = &mut options.config;
        match arg.as_str() {
            "--ip" => config.ip = args.value::<IpAddr>()?,
            "--port" => config.port = args.value()?,
            "--network" => config.network = args.value()?,
            "--blocks" => config.blocks = args.value()?,
            "--nodes" => options.nodes = args.value::<std::num::NonZeroU16>()?.get(),
            "--latency" => config.latency = args.value::<Time>()?.0,
            "--mine-every" => options.mine_every = Some(args.value::<Time>()?.0),
            "--tx-per-second" => options.tx_per_second = args.value()?,
            "--tx-size" => options.tx_size = args.value()?,
            "--mempool" => options.mempool = args.value()?,
            "--block" => options.blocks.push(args.value::<BlockSpec>()?.0),
            "--until-eof" => options.until_eof = true,
            "--fault" => options.faults.push(args.value::<FaultSpec>()?.0),
            "--flood" => options.faults.push(Fault::new(FaultKind::Flood(args.value::<FloodSpec>()?.0))),
            "--idle" => options.faults.push(Fault::new(FaultKind::Idle)),
            "--sink" => options.faults.push(Fault::new(FaultKind::Ignore).command(Command::TX)),
            "--refuse" => options.refuse = true,
            "--stop-reading" => options.stop_reading = true,
            _ => return Err(args.unknown()),
        }
    }
    if options.mine_every.is_some_and(|every| every < SHORTEST) {
        return Err(Failure::Usage(format!("--mine-every: at least {SHORTEST:?}")));
    }
    Ok(options)
}

fn start(options: &Options) -> Result<Vec<TestNode>, Failure> {
    let mut nodes: Vec<TestNode> = Vec::new();
    for number in 0..options.nodes {
        let mut config = options.config.clone();
        if config.port > 0 {
            config.port = config
                .port
                .checked_add(number)
                .ok_or_else(|| Failure::Usage(format!("--nodes {}: there are not so many ports", options.nodes)))?;
        }
        let (ip, port) = (config.ip, config.port);
        let node =
            TestNode::start(config).map_err(|error| format!("cannot listen at {ip} port {port}: {error}"))?;
        if let Some(before) = nodes.last() {
            before.join(&node)?;
        }
        nodes.push(node);
    }
    for node in &nodes {
        options.faults.iter().for_each(|fault| node.inject(fault.clone()));
        node.refuse(options.refuse);
        node.stop_reading(options.stop_reading);
    }
    Ok(nodes)
}

/// Tells where the nodes listen, and what they hold.
fn announce(nodes: &[TestNode], options: &Options) -> io::Result<()> {
    let mut out = io::stdout().lock();
    nodes.iter().try_for_each(|node| writeln!(out, "listening on {}", node.address()))?;
    out.flush()?;
    for number in 0..options.mempool {
        let payment = transaction(number, options.tx_size);
        writeln!(out, "transaction {}", payment.txid())?;
        nodes[0].submit(payment);
    }
    out.flush()?;
    drop(out);
    options.blocks.iter().try_for_each(|plan| offer(nodes, *plan))
}

/// Makes a block ready on every node.
fn offer(nodes: &[TestNode], plan: BlockPlan) -> io::Result<()> {
    let block = GeneratedBlock::new(plan);
    nodes.iter().for_each(|node| node.offer(&block));
    let mut out = io::stdout().lock();
    writeln!(out, "block {} {} {}", block.hash(), block.size(), block.transaction_count())?;
    out.flush()
}

fn mine(node: &TestNode, every: Duration) {
    loop {
        thread::sleep(every);
        node.mine(1);
    }
}

/// Makes transactions at a rate that does not depend on how long the making takes.
#[allow(clippy::disallowed_methods, reason = "a rate needs the clock")]
fn pay(node: &TestNode, options: &Options) {
    let began = std::time::Instant::now();
    let mut made = 0;
    loop {
        // Numbers of some hundred years fit.
        let due = (began.elapsed().as_secs_f64() * options.tx_per_second as f64) as u64;
        for number in made..due {
            node.submit(transaction(options.mempool + number, options.tx_size));
        }
        made = due;
        thread::sleep(SHORTEST);
    }
}

/// Does what a line of standard input says.
fn obey(nodes: &[TestNode], line: &str) -> Result<(), String> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let on = || match rest {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("{line}: on or off?")),
    };
    match word {
        "" => {}
        "mine" if rest.is_empty() => drop(nodes[0].mine(1)),
        "mine" => drop(nodes[0].mine(rest.parse().map_err(|error| format!("{line}: {error}"))?)),
        "block" => {
            let plan = rest.parse::<BlockSpec>().map_err(|error| format!("{line}: {error}"))?.0;
            offer(nodes, plan).map_err(|error| error.to_string())?;
        }
        "fault" => {
            let fault = rest.parse::<FaultSpec>().map_err(|error| format!("{line}: {error}"))?.0;
            nodes.iter().for_each(|node| node.inject(fault.clone()));
        }
        "clear" => nodes.iter().for_each(TestNode::clear_faults),
        "flood" => {
            let flood = rest.parse::<FloodSpec>().map_err(|error| format!("{line}: {error}"))?.0;
            nodes.iter().try_for_each(|node| node.flood(flood).map(drop)).map_err(|error| error.to_string())?;
        }
        "drop" => nodes.iter().for_each(TestNode::drop_connections),
        "refuse" => {
            let on = on()?;
            nodes.iter().for_each(|node| node.refuse(on));
        }
        "read" => {
            let on = on()?;
            nodes.iter().for_each(|node| node.stop_reading(!on));
        }
        _ => return Err(format!("{line}: no such command")),
    }
    Ok(())
}

/// Between two looks at the clock.
const SHORTEST: Duration = Duration::from_millis(5);
