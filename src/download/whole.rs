//! A block gathered as a whole, and handed out only once it is proven.

use super::intake::{Intake, Wait};
use crate::error::BlockError;

/// Gathers a block of limited size.
#[derive(Debug)]
pub(super) struct Whole {
    limit: u64,
    /// What the peer at work claims.
    size: usize,
    bytes: Vec<u8>,
}

impl Whole {
    /// Begins before the first chunk.
    pub(super) fn new(intake: &mut Intake, limit: u64) -> Self {
        intake.start_over_on_loss();
        Self { limit, size: 0, bytes: Vec::new() }
    }

    /// The block, waiting for all of it.
    pub(super) fn wait(&mut self, intake: &mut Intake) -> Result<Vec<u8>, BlockError> {
        loop {
            // Without a deadline something always comes.
            let taken = self.take_chunk(intake, Wait::Until(None));
            if let Some(whole) = taken.unwrap_or(Err(BlockError::Crashed))? {
                return Ok(whole);
            }
        }
    }

    /// Takes the next chunk, and gives the block once it is proven; `None` if nothing came in time.
    pub(super) fn take_chunk(
        &mut self,
        intake: &mut Intake,
        wait: Wait<'_>,
    ) -> Option<Result<Option<Vec<u8>>, BlockError>> {
        let reached = intake.reach_chunk(wait);
        if let Some(size) = intake.size().filter(|&size| size > self.limit) {
            let error = BlockError::TooLarge { size, limit: self.limit };
            intake.fail(error.clone());
            return Some(Err(error));
        }
        match reached? {
            Ok(true) => {
                // It is below the limit, which is a size of memory.
                self.size = intake.size().and_then(|size| usize::try_from(size).ok()).unwrap_or_default();
                if let Some(chunk) = intake.chunk() {
                    if chunk.offset() == 0 {
                        // Another peer has begun anew.
                        self.bytes.clear();
                    }
                    self.keep(chunk.bytes());
                }
                Some(Ok(None))
            }
            Ok(false) => {
                intake.blame_liars();
                Some(Ok(Some(std::mem::take(&mut self.bytes))))
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// Stores bytes; at most the size of the block is allocated, and as much as twice of what came.
    fn keep(&mut self, bytes: &[u8]) {
        let needed = self.bytes.len() + bytes.len();
        if needed > self.bytes.capacity() {
            let goal = needed.max((2 * self.bytes.capacity()).min(self.size));
            self.bytes.reserve_exact(goal - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
    }
}
