//! Points Conduit at any node and measures it: how fast it pushes, receives, asks and streams, and what an idle peer costs.
//!
//! Run with `cargo run --release --example measure -- --help`. The far end can be a real node, or the example `testnode`.

mod block;
mod broadcast;
mod hold;
mod idle;
mod push;
mod receive;
mod round_trips;
#[path = "../support/mod.rs"]
mod support;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use conduit::testnode::transaction;
use conduit::{BlockHash, Conduit, Config, Event, Events, Network, PeerAddress, PeerId, Txid};
use support::{Args, Failure, run};

const USAGE: &str = "\
Usage: measure MODE --connect HOST:PORT [--connect ...] [options]

Modes, each of which ends with one line of JSON on standard output:
  push --count N --size S     send N distinct transactions of S bytes to every peer, then a ping to each,
                              until the last pong
  broadcast --count N --size S [--nodes K]
                              announce N distinct transactions of S bytes to K of the peers [all] and serve them, until
                              one of the others has announced each, or all K have asked for it and were sent it
  receive --count N           take N messages (tx, inv or headers) that the peers send unasked
  round-trips --count N --what ping|tx [--txid HEX]
                              ask N times, one at a time, the peers in turn
  block --hash HEX [--chunk B] [--slow]
                              stream this block from the best of the peers in chunks of B bytes [4194304] and prove it;
                              with --slow the reader takes 20 ms for each MiB
  idle --peers N --seconds S  make N connections to the one peer named and let them be for S seconds
  hold                        connect once to each HOST:PORT (or port of 127.0.0.1) read from standard input, and
                              hold the connections until that ends; a line of JSON for each event, none at the end

Options:
  --connect HOST:PORT   a peer; may be repeated
  --network NAME        main, test, stn or regtest [regtest]
  --timeout SECONDS     give up when nothing happens for so long [60]
  --help                this text

In push, broadcast and receive, bytes are whole frames with their headers. Transactions are made before the clock
starts as far as they fit into 512 MiB (\"prepared\" says how many), the others while it runs. Exit code 2: bad
arguments.
";

/// What the modes share.
struct Options {
    connect: Vec<PeerAddress>,
    network: Network,
    timeout: Duration,
    count: Option<u64>,
    size: Option<usize>,
    what: Option<What>,
    txid: Option<Txid>,
    peers: Option<usize>,
    nodes: Option<NonZeroUsize>,
    seconds: Option<u64>,
    hash: Option<BlockHash>,
    chunk: Option<NonZeroUsize>,
    slow: bool,
}

/// What is asked for in round trips.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Ping,
    Tx,
}

fn main() -> ExitCode {
    run(USAGE, |args| {
        let mut mode = None;
        let options = parse(args, &mut mode)?;
        let mode = mode.ok_or_else(|| Failure::Usage("MODE: needed here".into()))?;
        if mode == "hold" {
            if let Some(address) = options.connect.first() {
                let text = format!("--connect {address}: hold reads its peers from standard input");
                return Err(Failure::Usage(text));
            }
            hold::run(options)?;
            return Ok(ExitCode::SUCCESS);
        }
        if options.connect.is_empty() {
            return Err(missing("--connect"));
        }
        let report = match mode.as_str() {
            "push" => push::run(&options),
            "broadcast" => broadcast::run(&options),
            "receive" => receive::run(&options),
            "idle" => idle::run(&options),
            "block" => block::run(&options),
            _ => round_trips::run(&options),
        }?;
        println!("{report}");
        Ok(ExitCode::SUCCESS)
    })
}

fn parse(args: &mut Args, mode: &mut Option<String>) -> Result<Options, Failure> {
    let mut options = Options {
        connect: Vec::new(),
        network: Network::Regtest,
        timeout: Duration::from_secs(60),
        count: None,
        size: None,
        what: None,
        txid: None,
        peers: None,
        nodes: None,
        seconds: None,
        hash: None,
        chunk: None,
        slow: false,
    };
    while let Some(arg) = args.next()? {
        match arg.as_str() {
            "push" | "broadcast" | "receive" | "round-trips" | "block" | "idle" | "hold" if mode.is_none() => {
                *mode = Some(arg)
            }
            "--connect" => {
                let address: PeerAddress = args.value()?;
                if options.connect.contains(&address) {
                    return Err(Failure::Usage(format!("--connect {address}: named twice")));
                }
                options.connect.push(address);
            }
            "--network" => options.network = args.value()?,
            "--timeout" => options.timeout = Duration::from_secs(args.value()?),
            "--count" => options.count = Some(args.value()?),
            "--size" => options.size = Some(args.value()?),
            "--what" => options.what = Some(args.value()?),
            "--txid" => options.txid = Some(args.value()?),
            "--peers" => options.peers = Some(args.value()?),
            "--nodes" => options.nodes = Some(args.value()?),
            "--seconds" => options.seconds = Some(args.value()?),
            "--hash" => options.hash = Some(args.value()?),
            "--chunk" => options.chunk = Some(args.value()?),
            "--slow" => options.slow = true,
            _ => return Err(args.unknown()),
        }
    }
    if options.timeout.is_zero() || options.timeout > LONGEST_TIMEOUT {
        return Err(Failure::Usage("--timeout: from 1 second to 30 days".into()));
    }
    Ok(options)
}

impl Options {
    /// How often, which is at least once.
    fn count(&self) -> Result<u64, Failure> {
        match self.count {
            Some(0) => Err(Failure::Usage("--count 0: at least 1".into())),
            count => count.ok_or_else(|| missing("--count")),
        }
    }

    /// The size of a transaction, bytes.
    fn size(&self) -> Result<usize, Failure> {
        let size = self.size.ok_or_else(|| missing("--size"))?;
        let least = transaction(0, 0).raw().len();
        if size < least {
            return Err(Failure::Usage(format!("--size {size}: a transaction has at least {least} bytes")));
        }
        if size > LARGEST {
            return Err(Failure::Usage(format!("--size {size}: at most {LARGEST}")));
        }
        Ok(size)
    }

    /// Each peer is dialled once, and only what is measured travels.
    fn config(&self) -> Config {
        Config::new(self.network.clone())
            .fork_marker(None)
            .only_named_peers(true)
            .redial_min(A_YEAR)
            .redial_max(A_YEAR)
    }

    /// The same for just these peers, which may be slow.
    fn peers_config(&self) -> Config {
        self.config().max_peers(self.connect.len()).ping_interval(A_YEAR).stall_timeout(self.timeout)
    }

    /// A conduit that will have these peers once it is started, and what happens to them.
    fn conduit(&self) -> Result<(Conduit, Vec<PeerId>, Events), Failure> {
        let conduit = Conduit::new(self.peers_config())?;
        let peers = conduit.add_peers(&self.connect)?;
        let events = conduit.events();
        Ok((conduit, peers, events))
    }

    /// Waits until all peers are connected; from then on whoever is lost is not waited for, and told.
    fn wait_for_all(&self, conduit: &Conduit, events: Events) -> Result<Receiver<String>, Failure> {
        for _ in &self.connect {
            match events.recv_timeout(self.timeout) {
                Ok(Event::Connected { .. }) => {}
                Ok(event) => return Err(loss(&event).into()),
                Err(_) => {
                    let count = conduit.peers().len();
                    return Err(format!("not all of the {count} peers were connected in {:?}", self.timeout).into());
                }
            }
        }
        let (sender, losses) = mpsc::channel();
        let conduit = conduit.clone();
        thread::Builder::new().name("measure-watch".into()).spawn(move || {
            while let Ok(event) = events.recv() {
                // First, so that it is there when the requests end that it ends.
                if sender.send(loss(&event)).is_err() {
                    return;
                }
                if let Event::Disconnected { peer, .. } = event {
                    // It may be forgotten already.
                    let _ = conduit.disconnect(peer);
                }
            }
        })?;
        Ok(losses)
    }
}

/// Why a peer is gone, which says more than that it is; else the error. The event may come a little after the error.
fn why(losses: &Receiver<String>, error: &dyn std::fmt::Display) -> String {
    losses.recv_timeout(Duration::from_secs(1)).unwrap_or_else(|_| error.to_string())
}

/// What to say when a needed option is missing.
fn missing(option: &str) -> Failure {
    Failure::Usage(format!("{option}: needed here"))
}

/// What an event means to whoever needs every peer.
fn loss(event: &Event) -> String {
    match event {
        Event::Refused { address, reason, .. } => format!("{address}: not connected: {reason}"),
        Event::Disconnected { address, reason, .. } => format!("{address}: lost: {reason}"),
        other => format!("unexpected: {other:?}"),
    }
}

impl std::str::FromStr for What {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ping" => Ok(Self::Ping),
            "tx" => Ok(Self::Tx),
            _ => Err("expected ping or tx"),
        }
    }
}

/// Far more than any node takes in one message.
const LARGEST: usize = 1_000_000_000;
const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30 * 24 * 3_600);
