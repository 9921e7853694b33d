//! What the node knows of one peer: what it told about itself, what it wants to hear of, what it has.
//!
//! Sections 2.4, 2.18 to 2.25 and 4.3 of the wire specification.

use super::node::News;
use crate::message::{BloomFilter, Version};
use crate::wire::BlockHash;

/// One peer, as whoever announces something to it sees it.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) established: bool,
    /// The protocol version it speaks.
    pub(super) version: i32,
    /// The height it said it has; -1 if it did not.
    pub(super) start_height: i32,
    /// It wants transactions announced.
    pub(super) relay: bool,
    /// It asked for blocks to be announced by `headers`.
    pub(super) headers: bool,
    /// It asked for blocks to be announced by `hdrsen`.
    pub(super) enriched: bool,
    /// It asked for single new blocks to be sent as `cmpctblock`.
    pub(super) compact: bool,
    /// The last block it is known to have the header of.
    pub(super) best: BlockHash,
    /// Most items it takes in one inventory.
    pub(super) inventory_limit: usize,
    /// Bytes of payload that its `protoconf` allows; 0 before that came.
    pub(super) payload_limit: u64,
    /// The transactions it wants to hear of; `None` for all.
    pub(super) filter: Option<BloomFilter>,
    /// It does not want to hear of transactions that pay less, in satoshis for 1,000 bytes.
    pub(super) lowest_fee_rate: i64,
}

impl Peer {
    pub(super) fn new() -> Self {
        Self {
            established: false,
            version: 0,
            start_height: -1,
            relay: false,
            headers: false,
            enriched: false,
            compact: false,
            best: BlockHash::ZERO,
            inventory_limit: 29_126,
            payload_limit: 0,
            filter: None,
            lowest_fee_rate: 0,
        }
    }

    /// Takes note of what its `version` says.
    pub(super) fn introduce(&mut self, version: &Version) {
        self.version = version.version;
        self.start_height = version.start_height;
        self.relay = version.wants_relay();
    }

    /// Whether its fee and its filter let a transaction through; the filter learns from it.
    pub(super) fn wants(&mut self, news: &News) -> bool {
        news.fee_rate >= self.lowest_fee_rate
            && self.filter.as_mut().is_none_or(|filter| filter.matches(news.transaction.view()))
    }

    /// Whether it is told of blocks at this height: a peer that claims to be far ahead is not.
    pub(super) fn hears_of_height(&self, height: u32) -> bool {
        i64::from(height) > i64::from(self.start_height) - START_HEIGHT_MARGIN
    }
}

/// How far below the height it claims a peer is still told of blocks (section 3.4).
const START_HEIGHT_MARGIN: i64 = 2_000;
