//! Announced blocks: the headers of late, which of them is the tip, and the blocks to fetch.
//!
//! Layer 4. Section 4.3 of the wire specification. This is no header chain: a window of the last few thousand headers,
//! each with the work its own bits claim, and no rules about which bits it should have.

use std::collections::{HashMap, VecDeque};

use super::{Action, Engine, ITEM_COST, Now, RequestId, Watches};
use crate::block::proven_work;
use crate::error::RequestError;
use crate::message::{Block, BlockHeader, GetHeaders, Inventory, InventoryKind, Message};
use crate::peer::{ConnectionId, IdMap, PeerId};
use crate::request::{Question, RequestOptions};
use crate::watch::Watched;
use crate::wire::BlockHash;

/// The last headers, and what is being asked.
#[derive(Debug)]
pub(super) struct Chain {
    genesis: BlockHash,
    stream_threshold: u64,
    window: HashMap<BlockHash, Place>,
    /// Always the keys of `window`, the oldest first.
    order: VecDeque<BlockHash>,
    best: Option<BlockHash>,
    connections: IdMap<ConnectionId, Source>,
    /// Blocks to deliver, in order.
    blocks: VecDeque<WantedBlock>,
}

/// A header's place in the window.
#[derive(Clone, Copy, Debug)]
struct Place {
    previous: BlockHash,
    /// Of all headers of the window up to this one.
    work: u128,
}

/// A connection that announces blocks.
#[derive(Debug)]
struct Source {
    peer: PeerId,
    /// It was told to announce by `headers`; a second time would cost us a point with the node.
    was_told: bool,
    /// The request for headers under way.
    request: Option<RequestId>,
    /// What it announced meanwhile.
    again: Option<BlockHash>,
    /// We do not read it, so it is asked nothing.
    paused: bool,
}

#[derive(Debug)]
struct WantedBlock {
    hash: BlockHash,
    header: BlockHeader,
    /// Who announced it, the first ones.
    announcers: Vec<ConnectionId>,
    /// Who was asked.
    tried: Vec<ConnectionId>,
    /// What became of the last one that was asked and stayed.
    failure: Option<RequestError>,
    request: Option<RequestId>,
}

/// What a request of ours is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// Headers of a peer that announced this block.
    Headers {
        connection: ConnectionId,
        stop: Option<BlockHash>,
    },
    Block {
        hash: BlockHash,
    },
    /// Nobody waits for it any more.
    Abandoned,
}

impl Chain {
    pub(super) fn new(genesis: BlockHash, stream_threshold: u64) -> Self {
        Self {
            genesis,
            stream_threshold,
            window: HashMap::new(),
            order: VecDeque::new(),
            best: None,
            connections: IdMap::default(),
            blocks: VecDeque::new(),
        }
    }

    pub(super) fn add(&mut self, peer: PeerId, connection: ConnectionId) {
        let source = Source { peer, was_told: false, request: None, again: None, paused: false };
        self.connections.insert(connection, source);
    }

    pub(super) fn set_paused(&mut self, connection: ConnectionId, paused: bool) {
        if let Some(source) = self.connections.get_mut(&connection) {
            source.paused = paused;
        }
    }

    pub(super) fn forget_blocks(&mut self) {
        self.blocks.clear();
    }

    pub(super) fn forget(&mut self) {
        self.window.clear();
        self.order.clear();
        self.best = None;
        for source in self.connections.values_mut() {
            (source.request, source.again) = (None, None);
        }
    }

    /// The best header, those before it at growing distances, and the first block, so that every peer knows one.
    fn locator(&self) -> Vec<BlockHash> {
        let mut locator = Vec::new();
        let (mut step, mut distance) = (1_usize, 0_usize);
        let mut next = self.best;
        while let Some(hash) = next {
            // What stands before the window is named, too, though only by its hash.
            let place = self.window.get(&hash);
            if distance == 0 || place.is_none() {
                locator.push(hash);
                if locator.len() > NEAR {
                    step *= 2;
                }
                distance = step;
            }
            distance -= 1;
            next = place.map(|place| place.previous).filter(|previous| *previous != BlockHash::ZERO);
        }
        if !locator.is_empty() && !locator.contains(&self.genesis) {
            locator.push(self.genesis);
        }
        locator
    }

    /// Takes a header that is not in the window; whether it is the best now, or `None` if it proves no work.
    ///
    /// One that follows nothing in the window is taken to have as much work behind it as the best, no more.
    fn insert(&mut self, hash: BlockHash, header: &BlockHeader) -> Option<bool> {
        let own = proven_work(header, &hash)?;
        let best = self.best.and_then(|best| self.window.get(&best)).map_or(0, |place| place.work);
        let work = match self.window.get(&header.previous) {
            Some(place) => place.work.saturating_add(own),
            None if self.best.is_none() => {
                // The header before is known by its name only.
                self.put(header.previous, Place { previous: BlockHash::ZERO, work: 0 });
                own
            }
            None => best,
        };
        self.put(hash, Place { previous: header.previous, work });
        let is_best = self.best.is_none() || work > best;
        if is_best {
            self.best = Some(hash);
        }
        Some(is_best)
    }

    fn put(&mut self, hash: BlockHash, place: Place) {
        if self.order.len() >= WINDOW
            && let Some(oldest) = self.order.pop_front()
        {
            self.window.remove(&oldest);
        }
        self.window.insert(hash, place);
        self.order.push_back(hash);
    }

    /// Whether a header follows one of the window.
    fn connects(&self, header: &BlockHeader) -> bool {
        self.window.contains_key(&header.previous)
    }

    fn want_block(&mut self, hash: BlockHash, header: BlockHeader, connection: ConnectionId) {
        self.blocks.push_back(WantedBlock {
            hash,
            header,
            announcers: vec![connection],
            tried: Vec::new(),
            failure: None,
            request: None,
        });
    }

    /// Whom to ask for a block next: an announcer, or anybody where all that were asked are lost or have failed.
    ///
    /// `Ok(None)` if somebody may be asked later; else why there is no block.
    fn next_source(&self, block: &WantedBlock) -> Result<Option<ConnectionId>, RequestError> {
        let untried = |connection: &&ConnectionId| {
            !block.tried.contains(connection) && self.connections.contains_key(connection)
        };
        let is_read = |connection: &&ConnectionId| self.connections.get(connection).is_some_and(|s| !s.paused);
        if let Some(&announcer) = block.announcers.iter().filter(untried).find(is_read) {
            return Ok(Some(announcer));
        }
        let others = || self.connections.keys().filter(untried);
        match &block.failure {
            Some(error) if block.tried.len() >= MOST_TRIES || others().next().is_none() => Err(error.clone()),
            _ => Ok(others().filter(is_read).min().copied()),
        }
    }

    fn wanted(&mut self, hash: &BlockHash) -> Option<&mut WantedBlock> {
        self.blocks.iter_mut().find(|block| block.hash == *hash)
    }
}

impl Watches {
    /// A connection is lost: gives the requests of ours that it was asked.
    pub(super) fn lose_source(&mut self, connection: ConnectionId) -> Vec<RequestId> {
        let source = self.chain.connections.remove(&connection);
        let mut lost: Vec<_> = source.and_then(|source| source.request).into_iter().collect();
        for block in &mut self.chain.blocks {
            block.announcers.retain(|&announcer| announcer != connection);
            if block.tried.last() == Some(&connection)
                && let Some(request) = block.request.take()
            {
                lost.push(request);
            }
            // The connection that comes back is another one.
            block.tried.retain(|&tried| tried != connection);
        }
        for request in &lost {
            self.requests.insert(*request, Purpose::Abandoned);
        }
        if self.chain.blocks.iter().all(|block| block.request.is_none()) {
            self.release_blocks();
        }
        lost
    }

    /// Keeps room for a block of any size in every queue that it goes into.
    fn reserve_block(&mut self) -> bool {
        let largest = usize::try_from(self.chain.stream_threshold).unwrap_or(usize::MAX / 4) + ITEM_COST;
        for watch in self.open.iter_mut().filter(|watch| watch.what.blocks && watch.reserved == 0) {
            let mut reserve = || {
                let has_room = watch.gauge.reserve(largest);
                if has_room {
                    watch.reserved = largest;
                }
                has_room
            };
            if !reserve() {
                watch.gauge.starve();
                // Room made between the two looks would otherwise not be heard of.
                if !reserve() {
                    self.release_blocks();
                    return false;
                }
            }
        }
        true
    }

    pub(super) fn release_blocks(&mut self) {
        for watch in &mut self.open {
            watch.gauge.release(std::mem::take(&mut watch.reserved));
        }
    }

    /// Abandons the requests that nobody waits for any more; gives them.
    pub(super) fn abandon(&mut self) -> Vec<RequestId> {
        let chain = &self.chain;
        let is_wanted = |id: &RequestId| {
            chain.connections.values().any(|source| source.request == Some(*id))
                || chain.blocks.iter().any(|block| block.request == Some(*id))
        };
        let mut abandoned = Vec::new();
        for (&id, purpose) in &mut self.requests {
            if !is_wanted(&id) {
                *purpose = Purpose::Abandoned;
                abandoned.push(id);
            }
        }
        abandoned.sort_unstable();
        abandoned
    }

    #[cfg(test)]
    pub(super) fn check_chain(&self) {
        let chain = &self.chain;
        assert_eq!(chain.window.len(), chain.order.len());
        assert!(chain.order.len() <= WINDOW && chain.order.iter().all(|hash| chain.window.contains_key(hash)));
        assert!(chain.best.is_none_or(|best| chain.window.contains_key(&best)));
        let asked = chain.blocks.iter().filter_map(|block| block.request);
        assert!(asked.clone().count() <= 1, "one block at a time");
        for id in asked.chain(chain.connections.values().filter_map(|source| source.request)) {
            assert!(self.requests.contains_key(&id), "{id:?} is waited for");
        }
    }
}

impl Engine {
    /// Has every peer announce blocks by their headers, which it does once it knows that we have the one before.
    pub(super) fn ask_for_announcements(&mut self, now: Now) {
        let mut told = Vec::new();
        for (&connection, source) in &mut self.watches.chain.connections {
            if !std::mem::replace(&mut source.was_told, true) {
                told.push(connection);
            }
        }
        told.sort_unstable();
        for connection in told {
            self.actions.push_back(Action::Send { connection, message: Message::SendHeaders });
            if self.watches.chain.best.is_some() {
                self.ask_headers(now, connection, None);
            }
        }
    }

    /// A peer announces blocks by hash. It names the tip only, so it is asked for the headers, also where we know the
    /// block: then it learns that we do, and announces the next ones by their headers.
    pub(super) fn watch_block_inventory(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        items: &[Inventory],
    ) {
        debug_assert!(self.watches.chain.connections.get(&connection).is_none_or(|source| source.peer == peer));
        let blocks = items.iter().filter(|item| item.kind == InventoryKind::Block);
        let Some(hash) = blocks.map(|item| BlockHash::from_wire(item.hash)).next_back() else { return };
        self.note_announcer(now, hash, connection);
        self.ask_headers(now, connection, Some(hash));
    }

    fn note_announcer(&mut self, now: Now, hash: BlockHash, connection: ConnectionId) {
        if let Some(block) = self.watches.chain.wanted(&hash)
            && block.announcers.len() < MOST_ANNOUNCERS
            && !block.announcers.contains(&connection)
        {
            block.announcers.push(connection);
            self.ask_blocks(now);
        }
    }

    /// Asks a peer for what follows the best header, or for the one header named if there is none; one question at a
    /// time.
    pub(super) fn ask_headers(&mut self, now: Now, connection: ConnectionId, stop: Option<BlockHash>) {
        let locator = self.watches.chain.locator();
        self.ask_headers_after(now, connection, locator, stop);
    }

    fn ask_headers_after(
        &mut self,
        now: Now,
        connection: ConnectionId,
        locator: Vec<BlockHash>,
        stop: Option<BlockHash>,
    ) {
        let Some(source) = self.watches.chain.connections.get_mut(&connection) else { return };
        if source.request.is_some() {
            source.again = stop.or(source.again);
            return;
        }
        let peer = source.peer;
        let mut question = GetHeaders::new(locator);
        if question.locator.is_empty() {
            let Some(stop) = stop else { return };
            question = question.stop_at(stop);
        }
        let options = RequestOptions::new().peer(peer).attempts(1);
        // Without room for it the next announcement asks again.
        if let Ok(id) = self.reserve_request(now, Question::Headers(question), &options) {
            if let Some(source) = self.watches.chain.connections.get_mut(&connection) {
                source.request = Some(id);
            }
            self.watches.requests.insert(id, Purpose::Headers { connection, stop });
            self.begin_request(now, id);
        }
    }

    /// The headers that we asked for.
    pub(super) fn watch_asked_headers(
        &mut self,
        now: Now,
        peer: Option<PeerId>,
        connection: ConnectionId,
        stop: Option<BlockHash>,
        headers: &[BlockHeader],
    ) {
        let Some(source) = self.watches.chain.connections.get_mut(&connection) else { return };
        source.request = None;
        let again = source.again.take();
        let Some(peer) = peer else { return };
        let follows = headers.first().is_none_or(|first| self.watches.chain.connects(first));
        let is_single = headers.len() == 1 && stop == Some(headers[0].hash());
        if follows || is_single || self.watches.chain.best.is_none() {
            self.take_headers(now, peer, connection, headers);
            if headers.len() >= FULL_REPLY {
                self.ask_headers(now, connection, stop);
            }
        } else if stop.is_some() {
            // It follows another branch from before the window: the one header that it announced shows where it is.
            self.ask_headers_after(now, connection, Vec::new(), stop);
        }
        if let Some(again) = again
            && !self.watches.chain.window.contains_key(&again)
        {
            self.ask_headers(now, connection, Some(again));
        }
    }

    pub(super) fn headers_failed(&mut self, now: Now, connection: ConnectionId) {
        let Some(source) = self.watches.chain.connections.get_mut(&connection) else { return };
        source.request = None;
        if let Some(again) = source.again.take() {
            self.ask_headers(now, connection, Some(again));
        }
    }

    /// Headers that a peer sent unasked: it announces blocks.
    pub(in crate::engine) fn watch_headers(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        headers: &[BlockHeader],
    ) {
        let (Some(first), Some(last)) = (headers.first(), headers.last()) else { return };
        if !self.watches.watch_chain() || !self.watches.chain.connections.contains_key(&connection) {
            return;
        }
        let hash = last.hash();
        self.note_announcer(now, hash, connection);
        if self.watches.chain.window.contains_key(&hash) {
            return;
        }
        if self.watches.chain.connects(first) {
            self.take_headers(now, peer, connection, headers);
        } else {
            // Whatever lies between is unknown.
            self.ask_headers(now, connection, Some(hash));
        }
    }

    /// Takes headers that follow each other, and tells of those that are new.
    fn take_headers(&mut self, now: Now, peer: PeerId, connection: ConnectionId, headers: &[BlockHeader]) {
        let wants_blocks = self.watches.open.iter().any(|watch| watch.what.blocks);
        let mut new = Vec::new();
        let mut tips = Vec::new();
        let mut too_many = 0;
        for header in headers {
            let hash = header.hash();
            if self.watches.chain.window.contains_key(&hash) {
                continue;
            }
            let Some(is_tip) = self.watches.chain.insert(hash, header) else {
                log::debug!(target: "conduit::engine", "{peer}: header without the work that it claims, {hash}");
                break;
            };
            new.push(*header);
            if is_tip {
                tips.push(*header);
            }
            if wants_blocks {
                if self.watches.chain.blocks.len() < MOST_BLOCKS {
                    self.watches.chain.want_block(hash, *header, connection);
                } else {
                    too_many += 1;
                }
            }
        }
        if new.is_empty() {
            return;
        }
        let cost = new.len() * size_of::<BlockHeader>() + ITEM_COST;
        let watched = Watched::Headers { peer, headers: new };
        self.watches.deliver(&mut self.actions, |what| what.headers, cost, &watched);
        for header in tips {
            let watched = Watched::Tip { peer, header };
            self.watches.deliver(&mut self.actions, |what| what.tips, ITEM_COST, &watched);
        }
        self.watches.miss(|what| what.blocks, too_many);
        self.ask_blocks(now);
    }

    /// Asks for the first wanted block, if none is asked for and there is room for it.
    pub(super) fn ask_blocks(&mut self, now: Now) {
        while let Some(next) = self.watches.chain.blocks.front()
            && next.request.is_none()
        {
            let (hash, header) = (next.hash, next.header);
            let source = self.watches.chain.next_source(next);
            let peer_of = |connection| self.watches.chain.connections.get(&connection).map(|source| source.peer);
            let (connection, peer) = match source.map(|source| source.and_then(|c| Some((c, peer_of(c)?)))) {
                Ok(Some(source)) => source,
                Ok(None) => return,
                Err(error) => {
                    self.watches.chain.blocks.pop_front();
                    self.deliver_no_block(header, error);
                    continue;
                }
            };
            if !self.watches.reserve_block() {
                return;
            }
            let options = RequestOptions::new().peer(peer).attempts(1);
            let Some(next) = self.watches.chain.blocks.front_mut() else { return };
            next.tried.push(connection);
            match self.reserve_request(now, Question::Block(hash), &options) {
                Ok(id) => {
                    if let Some(next) = self.watches.chain.blocks.front_mut() {
                        next.request = Some(id);
                    }
                    self.watches.requests.insert(id, Purpose::Block { hash });
                    self.begin_request(now, id);
                    return;
                }
                Err(error) => {
                    self.watches.release_blocks();
                    self.watches.chain.blocks.pop_front();
                    self.deliver_no_block(header, error);
                }
            }
        }
    }

    /// Delivers a block that is wanted.
    pub(super) fn take_watched_block(&mut self, peer: PeerId, block: &Block) {
        let hash = block.hash();
        let Some(at) = self.watches.chain.blocks.iter().position(|wanted| wanted.hash == hash) else { return };
        if let Some(request) = self.watches.chain.blocks.remove(at).and_then(|wanted| wanted.request) {
            // Its own answer, if this is not that, comes later and is told to nobody.
            self.watches.requests.insert(request, Purpose::Abandoned);
            self.watches.release_blocks();
        }
        let watched = Watched::Block { peer, block: block.clone() };
        let cost = block.raw().len() + ITEM_COST;
        self.watches.deliver(&mut self.actions, |what| what.blocks, cost, &watched);
    }

    /// A peer did not give a block.
    pub(super) fn block_failed(&mut self, hash: BlockHash, error: RequestError) {
        self.watches.release_blocks();
        let Some(wanted) = self.watches.chain.wanted(&hash) else { return };
        wanted.request = None;
        if error == RequestError::MessageQueueFull {
            // It is our fault that the peer is not read, so it may be asked again.
            wanted.tried.pop();
        } else if let RequestError::TooLarge { .. } = error {
            // It is as large everywhere.
            let header = wanted.header;
            self.watches.chain.blocks.retain(|wanted| wanted.hash != hash);
            self.deliver_no_block(header, error);
        } else {
            wanted.failure = Some(error);
        }
    }

    fn deliver_no_block(&mut self, header: BlockHeader, error: RequestError) {
        let watched = Watched::NoBlock { header, error };
        self.watches.deliver(&mut self.actions, |what| what.blocks, ITEM_COST, &watched);
    }
}

/// Headers remembered: two weeks of blocks, and a full reply.
const WINDOW: usize = 4_096;
/// Headers of a reply behind which there are more.
const FULL_REPLY: usize = 2_000;
/// Hashes of a locator that follow each other.
const NEAR: usize = 10;
/// Blocks that wait to be fetched.
const MOST_BLOCKS: usize = 4_096;
/// Peers asked for a block while each says nothing, or cannot.
const MOST_TRIES: usize = 3;
/// Announcers of a block that are remembered.
const MOST_ANNOUNCERS: usize = 8;
