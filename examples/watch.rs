//! Prints what is new on any network: transactions, blocks and tips, each once.
//!
//! Run with `cargo run --release --example watch -- --help`.

#[path = "support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use conduit::error::TryRecvError;
use conduit::{Conduit, Config, Network, PeerAddress, Watch, Watched};
use support::{Failure, run};

const USAGE: &str = "\
Usage: watch [options]

Prints a line for each new transaction, block and tip, then statistics on standard error.

  --connect HOST:PORT   a peer; may be repeated [found by DNS, except on regtest]
  --network NAME        main, test, stn or regtest [main]
  --transactions, --blocks, --tips
                        what to watch [all three]
  --json                print each item as JSON, transactions and blocks with their bytes
  --count N             end after N items
  --seconds N           end after N seconds
  --help                this text

Exit code 2: bad arguments.
";

#[allow(clippy::disallowed_methods, reason = "it ends at a time")]
fn main() -> ExitCode {
    run(USAGE, |args| {
        let (mut connect, mut network, mut json) = (Vec::<PeerAddress>::new(), Network::Main, false);
        let (mut what, mut count, mut seconds) = (Watch::new(), u64::MAX, None);
        while let Some(arg) = args.next()? {
            match arg.as_str() {
                "--connect" => connect.push(args.value()?),
                "--network" => network = args.value()?,
                "--transactions" => what = what.transactions(),
                "--blocks" => what = what.blocks(),
                "--tips" => what = what.tips(),
                "--json" => json = true,
                "--count" => count = args.value()?,
                "--seconds" => seconds = Some(Duration::from_secs(args.value::<u32>()?.into())),
                _ => return Err(args.unknown()),
            }
        }
        if connect.is_empty() && network.seeds().is_empty() {
            return Err(Failure::Usage(format!("--connect: needed on {network}, which has no DNS seeds")));
        }
        if what == Watch::new() {
            what = what.transactions().blocks().tips();
        }

        let conduit = Conduit::new(Config::new(network))?;
        conduit.add_peers(&connect)?;
        let watching = conduit.watch(what)?;
        conduit.start()?;
        let deadline = seconds.map(|seconds| Instant::now() + seconds);
        let (mut items, mut transactions, mut bytes) = (0, 0_u64, 0_u64);
        while items < count {
            let left = deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            let watched = match watching.recv_timeout(left) {
                Ok(watched) => watched,
                Err(TryRecvError::Empty | TryRecvError::Shutdown) => break,
            };
            items += 1;
            if let Watched::Transaction { transaction, .. } = &watched {
                transactions += 1;
                bytes += transaction.raw().len() as u64;
            }
            println!("{}", if json { serde_json::to_string(&watched)? } else { line(&watched) });
        }
        let rss = support::process::peak_rss_bytes()
            .map_or("unknown".into(), |rss| format!("{:.1} MiB", rss as f64 / 1048576.0));
        eprintln!("{transactions} transactions, {bytes} bytes; missed {}; peak memory {rss}", watching.missed());
        Ok(ExitCode::SUCCESS)
    })
}

fn line(watched: &Watched) -> String {
    match watched {
        Watched::Transaction { transaction: tx, .. } => format!("tx {} {} bytes", tx.txid(), tx.raw().len()),
        Watched::Block { block, .. } => {
            format!("block {} {} transactions", block.hash(), block.transaction_count())
        }
        Watched::NoBlock { header, error } => format!("no block {}: {error}", header.hash()),
        Watched::Tip { header, .. } => format!("tip {} after {}", header.hash(), header.previous),
        other => format!("{other:?}"),
    }
}
