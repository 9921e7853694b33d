//! Where a message takes the bytes from that it keeps: copied out of a slice, or shared with the payload.

use std::ops::Range;

use crate::wire::{Reader, SharedBytes};

/// A payload while it is decoded.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    Borrowed(&'a [u8]),
    Shared(&'a SharedBytes),
}

impl<'a> Payload<'a> {
    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }

    /// How much of this payload a reader of it has read.
    pub(super) fn position(self, reader: &Reader<'_>) -> usize {
        self.bytes().len() - reader.rest().len()
    }

    /// Keeps a range that lies within the payload, as every range between two positions does.
    pub(super) fn keep(self, range: Range<usize>) -> SharedBytes {
        match self {
            Self::Borrowed(bytes) => SharedBytes::copy_from(bytes.get(range).unwrap_or_default()),
            Self::Shared(bytes) => bytes.slice(range).unwrap_or_default().compacted(),
        }
    }

    /// Keeps all of it.
    pub(super) fn keep_all(self) -> SharedBytes {
        self.keep(0..self.bytes().len())
    }
}
