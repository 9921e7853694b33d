//! A live table of all peers: redrawn each second in a terminal, plain lines when piped.
//!
//! Run with `cargo run --release --example peers -- --help`.

#[path = "support/mod.rs"]
mod support;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use conduit::{Conduit, Config, Network, PeerAddress, PeerInfo, PeerState, Socks5};
use support::{Failure, run};

const USAGE: &str = "\
Usage: peers [options]

Keeps peers connected, and prints all of them each second, best first: as a table that is drawn again in its place in
a terminal, else one line for each, with the seconds since the start in front.

  --peer HOST:PORT      a peer; may be repeated [found by DNS, except on regtest]
  --network NAME        main, test, stn or regtest [main]
  --proxy IP:PORT       a SOCKS5 proxy for all connections
  --rows N              peers shown at once in a terminal [20]
  --seconds N           end after N seconds
  --help                this text

Exit code 2: bad arguments.
";

#[allow(clippy::disallowed_methods, reason = "it ends at a time")]
fn main() -> ExitCode {
    run(USAGE, |args| {
        let (mut peers, mut network, mut proxy) = (Vec::<PeerAddress>::new(), Network::Main, None::<SocketAddr>);
        let (mut rows, mut seconds) = (20, None);
        while let Some(arg) = args.next()? {
            match arg.as_str() {
                "--peer" => peers.push(args.value()?),
                "--network" => network = args.value()?,
                "--proxy" => proxy = Some(args.value()?),
                "--rows" => rows = args.value()?,
                "--seconds" => seconds = Some(Duration::from_secs(args.value::<u32>()?.into())),
                _ => return Err(args.unknown()),
            }
        }
        if peers.is_empty() && network.seeds().is_empty() {
            return Err(Failure::Usage(format!("--peer: needed on {network}, which has no DNS seeds")));
        }

        let mut config = Config::new(network.clone());
        if let Some(proxy) = proxy {
            config = config.dialler(Socks5::new(proxy));
        }
        let conduit = Conduit::new(config)?;
        conduit.add_peers(&peers)?;
        conduit.start()?;

        let mut out = io::stdout();
        let is_terminal = out.is_terminal();
        let first = if is_terminal { "\x1b[2J".to_owned() } else { format!("seconds{}\n", heading()) };
        let start = Instant::now();
        let mut goes_on = is_read(out.write_all(first.as_bytes()))?;
        while goes_on {
            let next = Duration::from_secs(start.elapsed().as_secs() + 1);
            let until = seconds.map_or(next, |seconds| next.min(seconds));
            thread::sleep(until.saturating_sub(start.elapsed()));
            let (peers, passed) = (conduit.peers(), start.elapsed());
            let text = if is_terminal {
                table(&network, &peers, rows, passed.as_secs())
            } else {
                lines(&peers, passed.as_secs())
            };
            goes_on = is_read(out.write_all(text.as_bytes()).and_then(|()| out.flush()))?
                && seconds.is_none_or(|seconds| passed < seconds);
        }
        conduit.shutdown();
        Ok(ExitCode::SUCCESS)
    })
}

/// Whether somebody still reads what was written; that nobody does, as behind `head`, is no failure.
fn is_read(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// A column of the table: its name, its width, the side its cells stand on, and what they say.
struct Column(&'static str, usize, Side, fn(&PeerInfo) -> String);

enum Side {
    Left,
    Right,
}

/// All that is shown of a peer.
const COLUMNS: [Column; 10] = [
    Column("address", 30, Side::Left, |peer| peer.address.to_string()),
    Column("state", 10, Side::Left, |peer| format!("{:?}", peer.state).to_lowercase()),
    Column("main", 4, Side::Left, |peer| if peer.is_main { "yes" } else { "" }.to_owned()),
    Column("height", 8, Side::Right, |peer| or_dash(peer.start_height)),
    Column("latency", 10, Side::Right, |peer| or_dash(peer.latency.map(milliseconds))),
    Column("rate", 10, Side::Right, |peer| or_dash(peer.throughput.map(megabytes))),
    Column("since", 8, Side::Right, |peer| or_dash(peer.connected_for.map(|time| format!("{} s", time.as_secs())))),
    Column("asked", 5, Side::Right, |peer| peer.outstanding_requests.to_string()),
    Column("failures", 8, Side::Right, |peer| peer.failures.to_string()),
    Column("user agent", 40, Side::Left, |peer| or_dash(peer.user_agent.as_deref())),
];

fn heading() -> String {
    row(|&Column(name, ..)| name.to_owned())
}

fn line(peer: &PeerInfo) -> String {
    row(|Column(.., cell)| cell(peer))
}

/// Puts a cell of each column into its width.
fn row(cell: impl Fn(&Column) -> String) -> String {
    let mut row = String::new();
    for column @ &Column(_, width, ref side, _) in &COLUMNS {
        let mut text = cell(column);
        if text.chars().count() > width {
            text = text.chars().take(width - 1).chain(['…']).collect();
        }
        row += &match side {
            Side::Left => format!("  {text:<width$}"),
            Side::Right => format!("  {text:>width$}"),
        };
    }
    row.truncate(row.trim_end().len());
    row
}

/// The table, drawn over the one before it.
fn table(network: &Network, peers: &[PeerInfo], rows: usize, seconds: u64) -> String {
    let ready = peers.iter().filter(|peer| peer.state == PeerState::Ready).count();
    let mut lines = vec![format!("{network}: {ready} of {} peers ready, {seconds} s", peers.len()), heading()];
    lines.extend(peers.iter().take(rows).map(line));
    if peers.len() > rows {
        lines.push(format!("  and {} more", peers.len() - rows));
    }
    // Home, and no line longer than the terminal is wide; what is left of the last table is cleared line by line, for
    // clearing all at first would flicker.
    let lines: String = lines.into_iter().map(|line| line + "\x1b[K\n").collect();
    format!("\x1b[H\x1b[?7l{lines}\x1b[J\x1b[?7h")
}

/// A line for each peer.
fn lines(peers: &[PeerInfo], seconds: u64) -> String {
    peers.iter().map(|peer| format!("{seconds:>7}{}\n", line(peer))).collect()
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB/s", bytes as f64 / 1e6)
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}
