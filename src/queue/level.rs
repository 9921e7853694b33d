//! How full a queue is that is counted under a lock, and how full it has been.

use crate::stats::QueueStats;

/// Bytes and items, and the most there were of each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Level {
    bytes: usize,
    items: usize,
    most_bytes: usize,
    most_items: usize,
}

impl Level {
    pub(crate) fn add(&mut self, bytes: usize, items: usize) {
        self.bytes += bytes;
        self.items += items;
        self.most_bytes = self.most_bytes.max(self.bytes);
        self.most_items = self.most_items.max(self.items);
    }

    pub(crate) fn sub(&mut self, bytes: usize, items: usize) {
        self.bytes -= bytes;
        self.items -= items;
    }

    pub(crate) fn stats(&self) -> QueueStats {
        QueueStats {
            items: self.items as u64,
            bytes: self.bytes as u64,
            most_items: self.most_items as u64,
            most_bytes: self.most_bytes as u64,
        }
    }
}
