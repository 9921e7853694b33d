//! Broadcasts raw transactions and tells what each peer did about them.
//!
//! Run with `cargo run --example broadcast -- --help`.

#[path = "support/mod.rs"]
mod support;

use std::io::{self, BufRead};
use std::process::ExitCode;
use std::time::Duration;

use conduit::{Broadcast, Conduit, Config, Network, PeerAddress, Verdict};
use support::{Failure, read_hex, run};

const USAGE: &str = "\
Usage: broadcast [options] [HEX ...]

Sends each transaction, given as hex in an argument or in a line of standard input, and prints its txid, the verdict,
and what each peer did. Success is when a peer announces it that was not told, so there should be more peers than NODES.

  --connect HOST:PORT   a peer; may be repeated [found by DNS, except on regtest]
  --network NAME        main, test, stn or regtest [main]
  --nodes N             tell so many peers; the others listen [2]
  --timeout SECONDS     wait so long for peers, and for the verdicts [30]
  --help                this text

Exit code 1: a transaction was rejected, or is none. Exit code 2: bad arguments.
";

fn main() -> ExitCode {
    run(USAGE, |args| {
        let (mut connect, mut network, mut nodes, mut seconds) = (Vec::<PeerAddress>::new(), Network::Main, 2, 30);
        let mut transactions = Vec::new();
        while let Some(arg) = args.next()? {
            match arg.as_str() {
                "--connect" => connect.push(args.value()?),
                "--network" => network = args.value()?,
                "--nodes" => nodes = args.value::<std::num::NonZeroUsize>()?.get(),
                "--timeout" => seconds = args.value()?,
                _ if arg.starts_with('-') => return Err(args.unknown()),
                _ => transactions
                    .push(read_hex(&arg).map_err(|error| Failure::Usage(format!("{arg:.40}: {error}")))?),
            }
        }
        if connect.is_empty() && network.seeds().is_empty() {
            return Err(Failure::Usage(format!("--connect: needed on {network}, which has no DNS seeds")));
        }
        if transactions.is_empty() {
            for (line, number) in io::stdin().lock().lines().zip(1..) {
                let line = line?;
                let bytes =
                    read_hex(line.trim()).map_err(|error| format!("standard input, line {number}: {error}"))?;
                transactions.extend((!bytes.is_empty()).then_some(bytes));
            }
        }
        let timeout = Duration::from_secs(seconds);

        let conduit = Conduit::new(Config::new(network))?;
        conduit.add_peers(&connect)?;
        conduit.start()?;
        // One more than is told can show that it was relayed.
        let wanted = if connect.is_empty() { nodes + 1 } else { connect.len() };
        if let Err(error) = conduit.wait_for_peers(wanted, timeout) {
            if error.connected == 0 {
                return Err(error.into());
            }
            eprintln!("{error}; going on");
        }
        let under_way: Vec<Broadcast> = transactions
            .into_iter()
            .map(|raw| conduit.broadcast_transaction(raw, nodes))
            .collect::<Result<_, _>>()?;
        let mut rejected = false;
        for broadcast in under_way {
            let report = broadcast.wait();
            println!("{} {}", report.txid, report.verdict);
            for peer in &report.peers {
                println!("  {} {}", peer.address, peer.state);
            }
            rejected |= matches!(report.verdict, Verdict::Rejected { .. } | Verdict::Split { .. });
        }
        Ok(if rejected { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}
