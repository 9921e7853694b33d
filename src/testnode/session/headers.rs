//! Headers on one connection: asked for by the peer, and asked of it, with the blocks behind them.
//!
//! Sections 2.8, 2.11, 2.13 and 4.2 of the wire specification.

use std::time::Duration;

use super::{End, Session};
use crate::message::{Block, BlockHeader, GetHdrsEn, GetHeaders, Inventory, Message, RejectCode};
use crate::testnode::chain::{Added, MAX_HEADERS, proves_work};
use crate::testnode::forms;
use crate::testnode::now;
use crate::wire::{BlockHash, Command};

impl Session {
    pub(super) fn answer_headers(&mut self, request: &GetHeaders) -> Result<(), End> {
        if self.node.switches.is_syncing() {
            return Ok(());
        }
        let is_asked =
            |marker: &&BlockHeader| marker.hash() == request.stop && request.locator.contains(&marker.previous);
        if let Some(marker) = self.node.config.marker_header.as_ref().filter(is_asked) {
            return self.send(&Message::Headers(vec![*marker]));
        }
        let world = self.node.world.lock();
        let Some(headers) = world.chain.headers_after(request) else { return Ok(()) };
        // Told that there is nothing behind the tip, the peer is known to have the tip.
        let best = headers.last().map_or(world.chain.tip(), BlockHeader::hash);
        drop(world);
        self.send(&Message::Headers(headers))?;
        // Only now: the next block may be announced by its header alone, which must not overtake these.
        self.known().state().peer.best = best;
        Ok(())
    }

    /// The same with transaction counts and coinbases, as far as the peer's limit goes.
    pub(super) fn answer_enriched_headers(&mut self, request: GetHdrsEn) -> Result<(), End> {
        if self.node.switches.is_syncing() {
            return Ok(());
        }
        let GetHdrsEn { version, locator, stop } = request;
        let world = self.node.world.lock();
        let Some(headers) = world.chain.headers_after(&GetHeaders { version, locator, stop }) else {
            return Ok(());
        };
        let tip = world.chain.tip();
        drop(world);
        let blocks = headers.iter().filter_map(|header| self.node.world.lock().chain.block(&header.hash()));
        let items = blocks.map(|block| forms::enriched(&block, block.hash() == tip));
        let limit = self.known().state().peer.payload_limit;
        let items = forms::up_to_limit(items, limit);
        let best = items.last().map_or(tip, |item| item.header.hash());
        self.send(&Message::HdrsEn(items))?;
        self.known().state().peer.best = best;
        Ok(())
    }

    pub(super) fn headers(&mut self, headers: &[BlockHeader]) -> Result<(), End> {
        self.headers_asked = None;
        self.has_headers = true;
        let Some(first) = headers.first() else { return self.ask_blocks() };
        let world = self.node.world.lock();
        let connects = |hash: &BlockHash| {
            world.chain.contains(hash) || self.in_wanted.contains(hash) || self.requested.contains(hash)
        };
        if !connects(&first.previous) {
            drop(world);
            if headers.len() >= UNANNOUNCED_HEADERS {
                return self.punish(10, "prev-blk-not-found");
            }
            self.unconnected += 1;
            if self.unconnected.is_multiple_of(MAX_UNCONNECTED) {
                self.punish(20, "headers of another chain")?;
            }
            return self.ask_headers(BlockHash::ZERO);
        }
        self.unconnected = 0;
        let mut unknown = Vec::new();
        let mut previous = first.previous;
        for header in headers {
            if header.previous != previous {
                drop(world);
                return self.punish(20, "headers that do not follow from each other");
            }
            if !proves_work(header) {
                drop(world);
                return self.punish(50, "a header without proof of work");
            }
            previous = header.hash();
            if !connects(&previous) {
                unknown.push(previous);
            }
        }
        let locator = world.chain.locator();
        drop(world);
        self.known().state().peer.best = previous;
        self.in_wanted.extend(&unknown);
        self.wanted.extend(unknown);
        self.ask_blocks()?;
        if headers.len() == MAX_HEADERS {
            let mut request = GetHeaders::new(vec![previous]);
            request.locator.extend(locator);
            self.headers_asked = Some(now());
            self.send(&Message::GetHeaders(request))?;
        }
        Ok(())
    }

    pub(super) fn block(&mut self, block: &Block) -> Result<(), End> {
        let hash = block.hash();
        let added = self.node.world.lock().chain.add(block);
        let invalid = if let Added::Invalid(reason) = added { Some(reason) } else { None };
        self.node.after_blocks([added]);
        if let Some(reason) = invalid {
            self.reject(Command::BLOCK, RejectCode::Invalid, reason.to_owned(), *hash.as_wire())?;
            return self.punish(100, "an invalid block");
        }
        self.requested.remove(&hash);
        self.ask_blocks()
    }

    /// Asks for the headers behind our best one.
    pub(super) fn ask_headers(&mut self, stop: BlockHash) -> Result<(), End> {
        self.headers_asked = Some(now());
        let locator = self.node.world.lock().chain.locator();
        self.send(&Message::GetHeaders(GetHeaders::new(locator).stop_at(stop)))
    }

    /// Asks for blocks whose headers came, a few at a time.
    pub(super) fn ask_blocks(&mut self) -> Result<(), End> {
        let mut items = Vec::new();
        while self.requested.len() < MAX_BLOCKS_IN_FLIGHT
            && let Some(hash) = self.wanted.pop_front()
        {
            self.in_wanted.remove(&hash);
            if !self.node.world.lock().chain.contains(&hash) {
                self.requested.insert(hash);
                items.push(Inventory::block(hash));
            }
        }
        if self.requested.is_empty() && std::mem::take(&mut self.has_more) {
            self.ask_headers(BlockHash::ZERO)?;
        }
        if items.is_empty() { Ok(()) } else { self.send(&Message::GetData(items)) }
    }
}

/// `MAX_BLOCKS_IN_TRANSIT_PER_PEER` of the node.
const MAX_BLOCKS_IN_FLIGHT: usize = 16;
/// `MAX_UNCONNECTING_HEADERS` of the node.
const MAX_UNCONNECTED: u32 = 10;
/// Headers that did not come for so long will not come.
pub(super) const HEADERS_TIMEOUT: Duration = Duration::from_secs(5);
/// `MAX_BLOCKS_TO_ANNOUNCE` of the node: so many headers are no announcement.
const UNANNOUNCED_HEADERS: usize = 8;
