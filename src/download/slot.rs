//! One of many blocks, from its hash to its outcome.

use super::intake::{Intake, Wait};
use super::many::{CHUNK_SIZE, QUEUE_COST};
use super::stream::BlockStream;
use super::whole::Whole;
use crate::error::BlockError;
use crate::message::Block;
use crate::peer::ConnectionId;
use crate::wire::BlockHash;

/// One of many blocks, or why it could not be had.
#[non_exhaustive]
#[derive(Debug)]
pub struct BlockOutcome {
    /// Its place in the input, from 0.
    pub index: u64,
    /// The hash that was asked for.
    pub hash: BlockHash,
    /// The block.
    pub result: Result<FetchedBlock, BlockError>,
    /// The largest that comes as a whole.
    limit: u64,
}

/// A block that was fetched.
#[derive(Debug)]
pub enum FetchedBlock {
    /// Proven to be the one that was asked for.
    Whole(Block),
    /// It is larger than [`whole`](crate::BlocksOptions#structfield.whole), so it is proven at its end only.
    ///
    /// While it is not read, other blocks of its peer wait behind it.
    Stream(Box<BlockStream>),
}

impl BlockOutcome {
    /// The block, if it could be had as a whole.
    ///
    /// # Errors
    ///
    /// Why not; [`TooLarge`](BlockError::TooLarge) for one that comes as a stream.
    pub fn into_block(self) -> Result<Block, BlockError> {
        match self.result? {
            FetchedBlock::Whole(block) => Ok(block),
            FetchedBlock::Stream(stream) => Err(BlockError::TooLarge { size: stream.size(), limit: self.limit }),
        }
    }
}

/// One of many blocks.
pub(super) struct Slot {
    index: u64,
    pub(super) hash: BlockHash,
    /// What it was, when it had begun to come and was put off.
    known_size: Option<usize>,
    pub(super) turn: Turn,
}

/// How far it is.
pub(super) enum Turn {
    /// It is not asked for.
    New,
    Asked(Box<Intake>),
    /// It has begun, and waits for room in its peer's socket; `whole` is what a peer that said less has led to.
    Held {
        intake: Box<Intake>,
        size: u64,
        whole: Option<Whole>,
    },
    /// There is room for all of it.
    Granted {
        intake: Box<Intake>,
        whole: Whole,
        size: usize,
    },
    Done(Result<FetchedBlock, BlockError>),
}

impl Slot {
    pub(super) fn new(index: u64, hash: BlockHash) -> Self {
        Self { index, hash, known_size: None, turn: Turn::New }
    }

    pub(super) const fn index(&self) -> u64 {
        self.index
    }

    /// What it is charged of the window, bytes.
    pub(super) fn cost(&self) -> usize {
        match &self.turn {
            Turn::New => 0,
            Turn::Asked(_) | Turn::Held { .. } => QUEUE_COST,
            Turn::Granted { size, .. } => Self::cost_of(*size),
            Turn::Done(Ok(FetchedBlock::Whole(block))) => block.raw().len(),
            Turn::Done(_) => 0,
        }
    }

    /// What a block of this size is charged while it is gathered: its bytes, the chunks they come in, and the queue.
    pub(super) fn cost_of(size: usize) -> usize {
        size.saturating_add(2 * CHUNK_SIZE.min(size)).saturating_add(QUEUE_COST)
    }

    /// What it will be charged, if its size is known.
    pub(super) fn cost_when_granted(&self) -> Option<usize> {
        let size = match &self.turn {
            Turn::Held { size, .. } => usize::try_from(*size).unwrap_or(usize::MAX),
            _ => self.known_size?,
        };
        Some(Self::cost_of(size))
    }

    /// Whether it is known to be larger than this.
    pub(super) fn is_larger_than(&self, size: usize) -> bool {
        match &self.turn {
            Turn::Held { size: held, .. } => *held > size as u64,
            _ => self.known_size.is_some_and(|known| known > size),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.turn, Turn::Done(_))
    }

    /// Whether there is room for all of it.
    pub(super) fn is_granted(&self) -> bool {
        matches!(self.turn, Turn::Granted { .. })
    }

    /// Whether it is asked for, or coming.
    pub(super) fn is_under_way(&self) -> bool {
        self.intake().is_some()
    }

    /// Whom it was asked of, if it has not begun.
    pub(super) fn asked(&self) -> Option<ConnectionId> {
        self.intake()?.asked()
    }

    /// Whether it waits for a peer that can be asked.
    pub(super) fn lacks_peer(&self) -> bool {
        self.intake().is_some_and(Intake::lacks_peer)
    }

    /// Whose socket it holds up.
    pub(super) fn held_by(&self) -> Option<ConnectionId> {
        match &self.turn {
            Turn::Held { intake, .. } => intake.coming(),
            _ => None,
        }
    }

    pub(super) fn ask(&mut self, intake: Intake) {
        self.turn = Turn::Asked(Box::new(intake));
    }

    pub(super) fn fail(&mut self, error: BlockError) {
        self.turn = Turn::Done(Err(error));
    }

    /// It is to be asked for again if it did not come in time; whether that is so.
    pub(super) fn retry(&mut self) -> bool {
        let is_late = matches!(self.turn, Turn::Done(Err(BlockError::TimedOut { .. } | BlockError::NoPeers)));
        if is_late {
            self.turn = Turn::New;
        }
        is_late
    }

    /// Gives it up for now.
    pub(super) fn postpone(&mut self) {
        if let Turn::Held { size, .. } = &self.turn {
            self.known_size = usize::try_from(*size).ok();
            self.turn = Turn::New;
        }
    }

    /// Looks whether it has begun.
    pub(super) fn reach_header(&mut self, wait: Wait<'_>) -> bool {
        let Turn::Asked(intake) = &mut self.turn else { return false };
        let Some(reached) = intake.reach_header(wait) else { return false };
        let size = intake.size().unwrap_or_default();
        self.replace(|turn| match (reached, turn) {
            (Ok(()), Turn::Asked(intake)) => Turn::Held { intake, size, whole: None },
            (Err(error), _) => Turn::Done(Err(error)),
            (Ok(()), other) => other,
        });
        true
    }

    /// There is room for all of it.
    pub(super) fn grant(&mut self, limit: u64) -> bool {
        self.replace(|turn| match turn {
            Turn::Held { mut intake, size, whole } => {
                let whole = whole.unwrap_or_else(|| Whole::new(&mut intake, limit));
                // At most the limit, which is a size of memory.
                Turn::Granted { intake, whole, size: usize::try_from(size).unwrap_or(usize::MAX) }
            }
            other => other,
        });
        true
    }

    /// It is the caller's from here on.
    pub(super) fn hand_out_as_stream(&mut self) -> bool {
        self.replace(|turn| match turn {
            Turn::Held { intake, .. } => {
                Turn::Done(BlockStream::new(*intake).map(|stream| FetchedBlock::Stream(Box::new(stream))))
            }
            other => other,
        });
        true
    }

    /// Takes what has come.
    pub(super) fn gather(&mut self, wait: Wait<'_>) -> bool {
        let Turn::Granted { intake, whole, size } = &mut self.turn else { return false };
        let gathered = whole.take_chunk(intake, wait);
        let result = match gathered {
            None | Some(Ok(None)) => {
                if let Some(other) = intake.size().filter(|&other| other > *size as u64) {
                    // Another peer has begun anew and says that it is larger: it needs room again, for what is missing.
                    self.replace(|turn| match turn {
                        Turn::Granted { intake, whole, .. } => {
                            Turn::Held { intake, size: other, whole: Some(whole) }
                        }
                        other => other,
                    });
                    return true;
                }
                return gathered.is_some();
            }
            // Whoever said that it is small enough was wrong: it is asked for again, to come as a stream.
            Some(Err(BlockError::TooLarge { size, .. })) => {
                self.known_size = usize::try_from(size).ok();
                self.turn = Turn::New;
                return true;
            }
            Some(Ok(Some(raw))) => match intake.summary() {
                Some(summary) => Ok(FetchedBlock::Whole(Block::of_proven(raw, summary))),
                None => Err(BlockError::Crashed),
            },
            Some(Err(error)) => Err(error),
        };
        self.turn = Turn::Done(result);
        true
    }

    pub(super) fn into_outcome(self, limit: u64) -> Option<BlockOutcome> {
        let Self { index, hash, turn, .. } = self;
        match turn {
            Turn::Done(result) => Some(BlockOutcome { index, hash, result, limit }),
            _ => None,
        }
    }

    fn intake(&self) -> Option<&Intake> {
        match &self.turn {
            Turn::Asked(intake) | Turn::Held { intake, .. } | Turn::Granted { intake, .. } => Some(intake),
            Turn::New | Turn::Done(_) => None,
        }
    }

    fn replace(&mut self, change: impl FnOnce(Turn) -> Turn) {
        let turn = std::mem::replace(&mut self.turn, Turn::New);
        self.turn = change(turn);
    }
}
