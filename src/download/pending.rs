//! A block that was asked for and has not begun to come.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::intake::{Intake, Wait};
use super::stream::BlockStream;
use crate::driver::deadline_after;
use crate::error::BlockError;
use crate::wire::BlockHash;

/// A block that was asked for: wait until it begins to come, poll, or await it in any executor.
///
/// Dropping it takes the question back.
#[must_use = "dropped, the block is not asked for any more"]
pub struct PendingBlock {
    /// `None` once it was resolved.
    intake: Option<Box<Intake>>,
    hash: BlockHash,
}

impl PendingBlock {
    pub(super) fn new(intake: Intake) -> Self {
        Self { hash: intake.hash(), intake: Some(Box::new(intake)) }
    }

    /// The hash that was asked for.
    #[must_use]
    pub const fn hash(&self) -> BlockHash {
        self.hash
    }

    /// Waits until header and size are there.
    ///
    /// Before the start no time runs, so this waits for the start too.
    ///
    /// # Errors
    ///
    /// Why the block does not come.
    pub fn wait(mut self) -> Result<BlockStream, BlockError> {
        // Without a deadline something always comes.
        self.resolve(Wait::Until(None)).unwrap_or(Err(BlockError::Crashed))
    }

    /// Waits until header and size are there, at most this long.
    ///
    /// # Errors
    ///
    /// The pending block itself if it did not begin in time; it is still asked for.
    pub fn wait_timeout(mut self, timeout: Duration) -> Result<Result<BlockStream, BlockError>, Self> {
        self.resolve(Wait::Until(deadline_after(timeout))).ok_or(self)
    }

    /// Takes the stream if header and size are there.
    ///
    /// # Errors
    ///
    /// The pending block itself if they are not.
    pub fn try_wait(mut self) -> Result<Result<BlockStream, BlockError>, Self> {
        self.resolve(Wait::No).ok_or(self)
    }

    fn resolve(&mut self, wait: Wait<'_>) -> Option<Result<BlockStream, BlockError>> {
        let Some(intake) = &mut self.intake else {
            return Some(Err(BlockError::Invalid { what: "a pending block polled after its end" }));
        };
        let reached = intake.reach_header(wait)?;
        let intake = self.intake.take()?;
        Some(reached.and_then(|()| BlockStream::new(*intake)))
    }
}

/// Resolves to what [`PendingBlock::wait`] returns.
impl Future for PendingBlock {
    type Output = Result<BlockStream, BlockError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.resolve(Wait::Poll(context.waker())).map_or(Poll::Pending, Poll::Ready)
    }
}

impl fmt::Debug for PendingBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingBlock").field("hash", &self.hash).finish_non_exhaustive()
    }
}
