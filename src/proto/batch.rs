//! Frames that arrived together, handed over together: one buffer and one hand-over for many small payloads.
//!
//! Layer 3.

use std::ops::Range;

use crate::wire::{Command, FrameHeader};

/// Complete frames of one connection in the order they arrived, their checksums not yet verified.
#[derive(Debug, Default)]
pub(crate) struct FrameBatch {
    /// The payloads, back to back.
    pub(crate) bytes: Vec<u8>,
    pub(crate) frames: Vec<RawFrame>,
    /// Bytes for which room was asked before the payload was taken; part of `cost`.
    pub(crate) reserved: usize,
}

/// One frame of a batch.
#[derive(Clone, Debug)]
pub(crate) struct RawFrame {
    pub(crate) command: Command,
    /// `None` behind an extended header.
    pub(crate) checksum: Option<[u8; 4]>,
    /// Where the payload lies in the batch's bytes.
    pub(crate) payload: Range<usize>,
}

impl RawFrame {
    /// What the frame is charged in the inbound queue, bytes.
    pub(crate) fn cost(&self) -> usize {
        self.payload.len() + FRAME_COST
    }
}

impl FrameBatch {
    /// A batch of one frame that has the whole buffer.
    pub(crate) fn of_one(header: &FrameHeader, payload: Vec<u8>, reserved: usize) -> Self {
        let frame = RawFrame { command: header.command, checksum: header.checksum, payload: 0..payload.len() };
        Self { bytes: payload, frames: vec![frame], reserved }
    }

    /// Appends a frame; `room` is what the buffer grows to if it is still empty.
    pub(crate) fn push(&mut self, header: &FrameHeader, payload: &[u8], room: usize) {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(payload.len().max(room));
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        self.frames.push(RawFrame {
            command: header.command,
            checksum: header.checksum,
            payload: start..self.bytes.len(),
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether the batch is handed over before more is added.
    pub(crate) fn is_full(&self) -> bool {
        self.frames.len() >= BATCH_FRAMES || self.bytes.len() >= BATCH_BYTES
    }

    /// What the batch is charged in the inbound queue, bytes.
    pub(crate) fn cost(&self) -> usize {
        self.bytes.len() + self.frames.len() * FRAME_COST
    }
}

/// What a frame and the message made of it cost besides the payload, bytes: an empty one is not free.
pub(crate) const FRAME_COST: usize = 256;
const BATCH_FRAMES: usize = 1_024;
const BATCH_BYTES: usize = 256 * 1_024;
