//! `block`: streams one block, proven, and says how fast and in how much memory.

use std::thread;
use std::time::Duration;

use conduit::block::BlockProof;
use conduit::{BlockError, BlockOptions};
use serde_json::{Value, json};

use super::support::Failure;
use super::support::process::{Span, peak_rss_bytes};
use super::{Options, missing, why};

pub(crate) fn run(options: &Options) -> Result<Value, Failure> {
    let hash = options.hash.ok_or_else(|| missing("--hash"))?;
    let mut block_options = BlockOptions::new().timeout(options.timeout);
    if let Some(chunk) = options.chunk {
        block_options.chunk_size = chunk.get();
    }
    let (conduit, peers, events) = options.conduit()?;
    if let [peer] = peers[..] {
        // Named, or the loss of the only one would be waited out.
        block_options.peer = Some(peer);
    }
    conduit.start()?;
    let losses = options.wait_for_all(&conduit, events)?;

    let span = Span::start();
    let read = || {
        let mut stream = conduit.block_with(hash, &block_options)?;
        let mut transactions = 0;
        while let Some(chunk) = stream.next_chunk()? {
            transactions += chunk.transaction_count() as u64;
            if options.slow {
                thread::sleep(SLOW_PER_MIB.mul_f64(chunk.bytes().len() as f64 / MIB));
            }
        }
        Ok((transactions, stream))
    };
    let (transactions, stream) = read().map_err(|error: BlockError| why(&losses, &error))?;
    let (seconds, cpu_seconds) = span.end();
    let summary = stream.summary().ok_or("a stream that has ended without a proof")?;
    if summary.transactions != transactions {
        return Err(format!("{transactions} transactions came of {}", summary.transactions).into());
    }
    Ok(json!({
        "mode": "block",
        "bytes": summary.size,
        "transactions": transactions,
        "seconds": seconds,
        "mb_per_second": summary.size as f64 / 1e6 / seconds,
        "cpu_seconds": cpu_seconds,
        "peak_rss_bytes": peak_rss_bytes(),
        "merkle_ok": summary.proof == BlockProof::Merkle,
        "peers": peers.len(),
    }))
}

/// What a slow reader takes: some 50 MB/s.
const SLOW_PER_MIB: Duration = Duration::from_millis(20);
const MIB: f64 = 1_048_576.0;
