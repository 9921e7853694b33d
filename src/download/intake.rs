//! The reader's end of one download: takes what the queue brings through the checks, and tells the engine what it was
//! worth.

use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};
use std::time::Instant;

use super::transfer::{Source, Step, Transfer, TransferError};
use crate::block::{BlockSummary, Chunk, ChunkContent};
use crate::driver::Shared;
use crate::error::BlockError;
use crate::message::BlockHeader;
use crate::peer::{ConnectionId, PeerId, StreamId};
use crate::proto::ProtocolError;
use crate::queue::block::{BlockQueue, Part, Taken};
use crate::wire::BlockHash;

/// One download as its reader has it. Dropping it ends the download.
pub(super) struct Intake {
    shared: Weak<Shared>,
    id: StreamId,
    queue: Arc<BlockQueue>,
    hash: BlockHash,
    content: ChunkContent,
    transfer: Transfer,
    /// Bytes that came, used up to `used`.
    input: Vec<u8>,
    used: usize,
    /// There is a chunk that was not asked for yet.
    is_ahead: bool,
    peer: Option<PeerId>,
    end: Option<Result<(), BlockError>>,
}

/// How long to wait for what comes next.
#[derive(Clone, Copy)]
pub(super) enum Wait<'a> {
    Until(Option<Instant>),
    No,
    /// Not at all, but call the waker when there is something to do.
    Poll(&'a Waker),
}

impl Intake {
    pub(super) fn new(
        shared: Weak<Shared>,
        id: StreamId,
        queue: Arc<BlockQueue>,
        hash: BlockHash,
        content: ChunkContent,
        transfer: Transfer,
    ) -> Self {
        Self {
            shared,
            id,
            queue,
            hash,
            content,
            transfer,
            input: Vec::new(),
            used: 0,
            is_ahead: false,
            peer: None,
            end: None,
        }
    }

    pub(super) const fn hash(&self) -> BlockHash {
        self.hash
    }

    pub(super) const fn content(&self) -> ChunkContent {
        self.content
    }

    pub(super) const fn peer(&self) -> Option<PeerId> {
        self.peer
    }

    /// Whom it was asked of, if that peer has not begun.
    pub(super) fn asked(&self) -> Option<ConnectionId> {
        self.queue.asked()
    }

    /// Nobody is at it, and nothing of it is left to be read.
    pub(super) fn lacks_peer(&self) -> bool {
        self.end.is_none() && self.queue.is_idle()
    }

    /// Where it is coming from.
    pub(super) fn coming(&self) -> Option<ConnectionId> {
        self.queue.coming()
    }

    /// Bytes handed out, what is ahead included.
    pub(super) const fn position(&self) -> u64 {
        self.transfer.handed_out()
    }

    /// What is proven, once the end was reached.
    pub(super) fn summary(&self) -> Option<&BlockSummary> {
        self.transfer.summary().filter(|_| self.end == Some(Ok(())))
    }

    /// The chunk that was reached last.
    pub(super) fn chunk(&self) -> Option<&Chunk> {
        self.transfer.chunk().filter(|_| !self.is_ahead)
    }

    /// The size that the peer at work claims.
    pub(super) fn size(&self) -> Option<u64> {
        self.transfer.size()
    }

    /// The header, once it is there.
    pub(super) fn header(&self) -> Option<&BlockHeader> {
        self.transfer.header()
    }

    /// Nothing counts until the end, so that every peer begins anew; no chunk may have been reached before.
    pub(super) fn start_over_on_loss(&mut self) {
        self.transfer.start_over_on_loss();
    }

    /// Goes on to the next chunk; `Ok(false)` at the proven end, `None` if it did not come in time.
    pub(super) fn reach_chunk(&mut self, wait: Wait<'_>) -> Option<Result<bool, BlockError>> {
        if let Some(end) = &self.end {
            return Some(end.clone().map(|()| false));
        }
        if std::mem::take(&mut self.is_ahead) {
            return Some(Ok(true));
        }
        let result = self.run(wait, |_| false)?.map(|step| step == Step::Chunk);
        if !matches!(result, Ok(true)) {
            self.finish(result.clone().map(|_| ()));
        }
        Some(result)
    }

    /// Goes on until the header is there; `None` if it did not come in time.
    pub(super) fn reach_header(&mut self, wait: Wait<'_>) -> Option<Result<(), BlockError>> {
        if let Some(Err(error)) = &self.end {
            return Some(Err(error.clone()));
        }
        if self.is_ahead || self.transfer.header().is_some() {
            return Some(Ok(()));
        }
        match self.run(wait, |transfer| transfer.header().is_some())? {
            Ok(step) => {
                self.is_ahead = step == Step::Chunk;
                Some(Ok(()))
            }
            Err(error) => {
                self.finish(Err(error.clone()));
                Some(Err(error))
            }
        }
    }

    /// Ends the download before its time.
    pub(super) fn fail(&mut self, error: BlockError) {
        if self.end.is_none() {
            self.finish(Err(error));
        }
    }

    /// Tells of those whose lost tries differ from what is proven.
    pub(super) fn blame_liars(&mut self) {
        let liars = self.transfer.liars();
        if let Some(shared) = self.shared.upgrade() {
            for Source { peer, connection } in liars {
                shared.blame_for_block(self.id, peer, connection, ProtocolError::ForgedBlock);
            }
        }
    }

    /// Takes what comes up to the next chunk, the end, or when it `is_enough`.
    fn run(&mut self, wait: Wait<'_>, is_enough: impl Fn(&Transfer) -> bool) -> Option<Result<Step, BlockError>> {
        loop {
            let mut input = &self.input[self.used..];
            let step = self.transfer.push(&mut input);
            self.used = self.input.len() - input.len();
            match step {
                Ok(Step::Wants) if !is_enough(&self.transfer) => {}
                Ok(step) => return Some(Ok(step)),
                Err(error) => {
                    if let Err(error) = self.take_error(error) {
                        return Some(Err(error));
                    }
                }
            }
            let (part, resumed) = self.take(wait)?;
            if resumed.is_some()
                && let Some(shared) = self.shared.upgrade()
            {
                shared.resume_block(resumed);
            }
            if let Err(error) = self.take_part(part) {
                return Some(Err(error));
            }
        }
    }

    fn take(&self, wait: Wait<'_>) -> Option<Taken> {
        match wait {
            Wait::Until(deadline) => self.queue.take_until(deadline),
            Wait::No => self.queue.try_take(),
            Wait::Poll(waker) => match self.queue.poll(waker) {
                Poll::Ready(taken) => Some(taken),
                Poll::Pending => None,
            },
        }
    }

    fn take_part(&mut self, part: Part) -> Result<(), BlockError> {
        match part {
            Part::Begin { connection, peer, size, checksum } => {
                self.forget_input();
                self.peer = Some(peer);
                let begun = self.transfer.begin(Source { peer, connection }, size, checksum);
                begun.or_else(|error| self.take_error(error))?;
            }
            Part::Bytes(bytes) => {
                self.input = bytes;
                self.used = 0;
            }
            // The last byte has said so before.
            Part::End => {}
            Part::Lost(connection) => {
                self.transfer.lose();
                self.forget_input();
                if let Some(shared) = self.shared.upgrade() {
                    shared.go_on_with_download(self.id, connection);
                }
            }
            Part::Failed(error) => return Err(error.reached(self.transfer.handed_out())),
        }
        Ok(())
    }

    /// A peer that lies is left for another; what differs from what was handed out is the end.
    fn take_error(&mut self, error: TransferError) -> Result<(), BlockError> {
        self.forget_input();
        match error {
            TransferError::Diverged { at } => Err(BlockError::Diverged { at }),
            TransferError::Fault(Source { peer, connection }, fault) => {
                self.transfer.lose();
                let resumed = self.queue.discard(connection);
                let shared = self.shared.upgrade().ok_or(BlockError::Shutdown)?;
                shared.blame_for_block(self.id, peer, connection, ProtocolError::BadBlock(fault));
                shared.resume_block(resumed);
                Ok(())
            }
        }
    }

    fn forget_input(&mut self) {
        self.input = Vec::new();
        self.used = 0;
    }

    fn finish(&mut self, end: Result<(), BlockError>) {
        self.close(end.as_ref().map_or_else(BlockError::name, |()| "proven"));
        self.end = Some(end);
        self.forget_input();
    }

    fn close(&self, outcome: &'static str) {
        if let Some(shared) = self.shared.upgrade() {
            shared.close_download(self.id, &self.queue, outcome);
        }
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        if self.end.is_none() {
            self.close("abandoned");
        }
    }
}
