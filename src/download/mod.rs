//! What callers hold of blocks that are being downloaded: a stream of one, or many of them as a whole.
//!
//! Whoever reads a block scans, hashes and checks it in his own thread (`block::Assembly`); the event loop only hands over
//! bytes, and `engine::download` says who is asked.

mod intake;
mod many;
mod options;
mod pending;
mod slot;
mod stream;
mod transactions;
mod transfer;
mod whole;

use std::sync::Arc;

use crate::driver::Shared;
use crate::engine::DownloadOptions;
use crate::error::BlockError;
use crate::queue::block::BlockQueue;
use crate::wire::BlockHash;

pub use many::{Blocks, BlocksOptions};
pub use options::BlockOptions;
pub use pending::PendingBlock;
pub use slot::{BlockOutcome, FetchedBlock};
pub use stream::BlockStream;
pub use transactions::Transactions;

use intake::Intake;
use transfer::Transfer;
#[cfg(fuzzing)]
pub(crate) use transfer::model::run as run_transfer_model;

/// Asks for a block; `blocking` refuses what could only wait for a start.
pub(crate) fn open(
    shared: &Arc<Shared>,
    hash: BlockHash,
    options: &BlockOptions,
    blocking: bool,
) -> Result<PendingBlock, BlockError> {
    let intake = open_intake(shared, hash, options, shared.config.stream_queue_bytes, blocking)?;
    Ok(PendingBlock::new(intake))
}

/// Begins a download with a queue of so many bytes.
fn open_intake(
    shared: &Arc<Shared>,
    hash: BlockHash,
    options: &BlockOptions,
    queue_bytes: usize,
    blocking: bool,
) -> Result<Intake, BlockError> {
    let assembly = options.check()?;
    let queue = Arc::new(BlockQueue::new(queue_bytes));
    let timeout = options.timeout.unwrap_or(shared.config.request_timeout);
    let download = DownloadOptions { peer: options.peer, timeout };
    let id = shared.open_download(hash, download, queue.clone(), blocking)?;
    let transfer = Transfer::new(hash, assembly);
    Ok(Intake::new(Arc::downgrade(shared), id, queue, hash, options.content, transfer))
}
