//! A block gathered as a whole, and handed out only once it is proven.

use super::intake::{Intake, Wait};
use crate::error::BlockError;

/// Gathers a block of limited size.
#[derive(Debug)]
pub(super) struct Whole {
    limit: u64,
    bytes: Vec<u8>,
}

impl Whole {
    /// Begins before the first chunk.
    pub(super) fn new(intake: &mut Intake, limit: u64) -> Self {
        intake.start_over_on_loss();
        Self { limit, bytes: Vec::new() }
    }

    /// The block, waiting for all of it.
    pub(super) fn wait(&mut self, intake: &mut Intake) -> Result<Vec<u8>, BlockError> {
        // Without a deadline something always comes.
        self.go_on(intake, Wait::Until(None)).unwrap_or(Err(BlockError::Crashed))
    }

    /// Goes on to the end; `None` if it did not come in time.
    pub(super) fn go_on(&mut self, intake: &mut Intake, wait: Wait<'_>) -> Option<Result<Vec<u8>, BlockError>> {
        loop {
            if let Some(size) = intake.size().filter(|&size| size > self.limit) {
                let error = BlockError::TooLarge { size, limit: self.limit };
                intake.fail(error.clone());
                return Some(Err(error));
            }
            match intake.reach_chunk(wait)? {
                Ok(true) => {
                    let Some(chunk) = intake.chunk() else { continue };
                    if chunk.offset() == 0 {
                        // Another peer has begun anew.
                        self.bytes.clear();
                    }
                    self.bytes.extend_from_slice(chunk.bytes());
                }
                Ok(false) => {
                    intake.blame_liars();
                    return Some(Ok(std::mem::take(&mut self.bytes)));
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
