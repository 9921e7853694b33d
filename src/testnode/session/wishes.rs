//! How the peer wants to hear of blocks and transactions, and its question for all of the latter.
//!
//! Sections 2.15, 2.18 to 2.20 and 2.22 to 2.25 of the wire specification.

use super::{End, Session};
use crate::message::{BloomFilter, FilterAdd, FilterLoad, SendCmpct};
use crate::testnode::node::News;

impl Session {
    pub(super) fn wants_headers(&mut self) -> Result<(), End> {
        let again = std::mem::replace(&mut self.known().state().peer.headers, true);
        if again { self.punish(1, "a second sendheaders") } else { Ok(()) }
    }

    pub(super) fn wants_enriched_headers(&mut self) -> Result<(), End> {
        let again = std::mem::replace(&mut self.known().state().peer.enriched, true);
        if again { self.punish(1, "a second sendhdrsen") } else { Ok(()) }
    }

    pub(super) fn wants_compact_blocks(&self, wish: SendCmpct) {
        if wish.version == 1 {
            self.known().state().peer.compact = wish.announce;
        }
    }

    pub(super) fn wants_fees(&self, satoshis_per_kilobyte: i64) {
        if (0..=MAX_MONEY).contains(&satoshis_per_kilobyte) {
            self.known().state().peer.lowest_fee_rate = satoshis_per_kilobyte;
        }
    }

    pub(super) fn load_filter(&mut self, load: FilterLoad) -> Result<(), End> {
        if !self.node.config.bloom {
            return self.refuse_filter();
        }
        let Ok(filter) = BloomFilter::try_from(load) else {
            return self.punish(100, "oversized-bloom-filter");
        };
        let peer = &mut self.known().state().peer;
        peer.filter = Some(filter);
        peer.relay = true;
        Ok(())
    }

    pub(super) fn add_to_filter(&mut self, add: &FilterAdd) -> Result<(), End> {
        if !self.node.config.bloom {
            return self.refuse_filter();
        }
        let mut state = self.line.state();
        let added =
            state.peer.filter.as_mut().map_or(add.is_within_limits(), |filter| filter.insert(&add.data).is_ok());
        drop(state);
        if added { Ok(()) } else { self.punish(100, "invalid-filteradd") }
    }

    pub(super) fn clear_filter(&self) {
        let peer = &mut self.known().state().peer;
        if self.node.config.bloom {
            peer.filter = None;
        }
        // Also where filters are not served: it is the one harmless way to turn relay on.
        peer.relay = true;
    }

    /// What a filter costs where none are served.
    pub(super) fn refuse_filter(&mut self) -> Result<(), End> {
        if self.known().state().peer.version < NO_BLOOM_VERSION {
            return self.hang_up("a filter, which is not served");
        }
        self.punish(100, "no-bloom-version")
    }

    pub(super) fn answer_mempool(&mut self, age_seconds: Option<i64>) -> Result<(), End> {
        if age_seconds.is_some() {
            // Only for peers that a node is told to share its mempool with.
            return Ok(());
        }
        let config = &self.node.config;
        if !(config.mempool_requests && config.bloom) {
            return self.hang_up("a mempool request");
        }
        let world = self.node.world.lock();
        let all = world.pool.list_with_fees().into_iter().map(|(transaction, fee_rate)| News {
            transaction: transaction.clone(),
            fee_rate,
            from: None,
            announcers: Vec::new(),
        });
        let all: Vec<News> = all.collect();
        drop(world);
        self.line.announce(&all, true);
        Ok(())
    }
}

/// `NO_BLOOM_VERSION` of the node: older peers cannot know that filters are not served.
const NO_BLOOM_VERSION: i32 = 70_011;
/// Above this a fee rate is none; satoshis.
const MAX_MONEY: i64 = 21_000_000 * 100_000_000;
