//! A bounded memory of what was seen.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, DefaultHasher, Hasher};

use crate::peer::{ConnectionId, IdHasher};
use crate::wire::Txid;

/// Remembers at least the last `limit / 2` entries and at most the last `limit`, the oldest forgotten together.
///
/// An entry is a hash of 64 bits with a secret of ours, so nobody can choose two that look alike, and by chance one new
/// entry in 10^14 looks like one of 200,000.
#[derive(Debug)]
pub(super) struct Seen {
    secret: [u64; 2],
    /// Entries of each of the two generations.
    limit: usize,
    current: Generation,
    previous: Generation,
}

type Generation = HashSet<u64, BuildHasherDefault<IdHasher>>;

impl Seen {
    pub(super) fn new(limit: usize) -> Self {
        let limit = (limit / 2).max(1);
        Self { secret: [0; 2], limit, current: Generation::default(), previous: Generation::default() }
    }

    /// Forgets everything, and takes a new secret.
    pub(super) fn reset(&mut self, secret: [u64; 2]) {
        *self = Self::new(self.limit * 2);
        self.secret = secret;
    }

    pub(super) fn insert(&mut self, entry: u64) {
        if self.previous.contains(&entry) {
            return;
        }
        if self.current.len() >= self.limit {
            // Both tables have the room they need by now, so neither grows again.
            std::mem::swap(&mut self.current, &mut self.previous);
            self.current.clear();
        }
        self.current.insert(entry);
    }

    pub(super) fn contains(&self, entry: u64) -> bool {
        self.current.contains(&entry) || self.previous.contains(&entry)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.current.is_empty() && self.previous.is_empty()
    }

    pub(super) fn transaction(&self, txid: &Txid) -> u64 {
        let mut hasher = self.hasher();
        hasher.write(txid.as_wire());
        hasher.finish()
    }

    pub(super) fn transaction_of(&self, txid: &Txid, connection: ConnectionId) -> u64 {
        let mut hasher = self.hasher();
        hasher.write(txid.as_wire());
        hasher.write_u64(connection.0);
        hasher.finish()
    }

    fn hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        self.secret.into_iter().for_each(|word| hasher.write_u64(word));
        hasher
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered_and_the_memory_is_bounded() {
        let mut seen = Seen::new(1_000);
        for n in 0..100_000_u64 {
            seen.insert(n);
            assert!((n.saturating_sub(499)..=n).step_by(100).all(|n| seen.contains(n)));
            assert!(seen.current.len() + seen.previous.len() <= 1_000);
        }
        assert!(!seen.contains(98_000));
    }
}
