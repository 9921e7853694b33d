//! Watches: what peers announce is asked for once, and delivered once, to whoever watches.
//!
//! Layer 4. Sections 2.4, 2.5 and 4.3 of the wire specification. What is asked is shared by all watches; the slowest of
//! them decides how fast.

mod chain;
mod seen;
mod transactions;

#[cfg(test)]
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Action, Engine, Now, RequestId, Timer};
use crate::config::Config;
use crate::error::RequestError;
use crate::message::{Block, Inventory, InventoryKind, Transaction};
use crate::peer::{ConnectionId, PeerId};
use crate::queue::message::{Gauge, Queued};
use crate::request::Answer;
use crate::watch::{Watch, Watched};
use crate::wire::Txid;

use chain::{Chain, Purpose};
use transactions::Transactions;

/// Identifies a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WatchId(u64);

/// All watches, and what they share.
#[derive(Debug)]
pub(super) struct Watches {
    open: Vec<OpenWatch>,
    transactions: Transactions,
    chain: Chain,
    /// The requests that are ours.
    requests: HashMap<RequestId, Purpose>,
}

/// A watch and its queue.
#[derive(Debug)]
struct OpenWatch {
    id: WatchId,
    what: Watch,
    gauge: Arc<Gauge>,
    /// Missed and not told yet.
    untold: u64,
    /// What is kept of its queue for a block under way, in bytes.
    reserved: usize,
    missed: Arc<AtomicU64>,
}

impl Watches {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            open: Vec::new(),
            transactions: Transactions::new(config.watch_patience, config.watch_announcements, config.watch_memory),
            chain: Chain::new(config.network.genesis(), config.stream_threshold),
            requests: HashMap::new(),
        }
    }

    /// Whether a request is ours, so that no caller hears of it.
    pub(super) fn owns(&self, request: RequestId) -> bool {
        self.requests.contains_key(&request)
    }

    fn watch_transactions(&self) -> bool {
        self.open.iter().any(|watch| watch.what.transactions)
    }

    fn watch_chain(&self) -> bool {
        self.open.iter().any(|watch| watch.what.wants_chain())
    }

    /// How many transactions may be asked, with those that are: what the fullest queue has room for.
    fn room(&self) -> usize {
        let expected = self.transactions.expected_len() + ITEM_COST;
        let room = |watch: &OpenWatch| {
            let (bytes, items) = watch.gauge.room_to_ask();
            // One always fits an empty queue.
            if watch.gauge.items() == 0 { items.min(bytes / expected).max(1) } else { items.min(bytes / expected) }
        };
        self.open.iter().filter(|watch| watch.what.transactions).map(room).min().unwrap_or(0)
    }

    /// Delivers to each watch that wants it and has room; the others missed it.
    fn deliver(
        &mut self,
        actions: &mut impl Extend<Action>,
        wants: impl Fn(&Watch) -> bool,
        cost: usize,
        watched: &Watched,
    ) {
        for watch in self.open.iter_mut().filter(|watch| wants(&watch.what)) {
            watch.tell_missed(actions);
            if watch.untold == 0 && watch.gauge.try_charge(cost) {
                actions.extend([watch.item(watched.clone(), cost)]);
            } else {
                watch.miss(1);
            }
        }
    }

    fn miss(&mut self, wants: impl Fn(&Watch) -> bool, count: usize) {
        if count > 0 {
            self.open.iter_mut().filter(|watch| wants(&watch.what)).for_each(|watch| watch.miss(count as u64));
        }
    }
}

impl OpenWatch {
    fn item(&self, watched: Watched, cost: usize) -> Action {
        Action::Deliver { watch: self.id, item: Queued { incoming: watched, cost } }
    }

    fn miss(&mut self, count: u64) {
        self.untold += count;
        self.missed.fetch_add(count, Ordering::AcqRel);
        // To be told once there is room.
        self.gauge.starve();
    }

    fn tell_missed(&mut self, actions: &mut impl Extend<Action>) {
        if self.untold > 0 && self.gauge.try_charge(ITEM_COST) {
            let count = std::mem::take(&mut self.untold);
            actions.extend([self.item(Watched::Missed { count }, ITEM_COST)]);
        }
    }
}

impl Engine {
    /// Begins a watch whose items are charged to `gauge`.
    pub(crate) fn watch(&mut self, now: Now, what: Watch, gauge: Arc<Gauge>, missed: Arc<AtomicU64>) -> WatchId {
        let id = WatchId(self.next_id());
        if what.transactions && !self.watches.watch_transactions() {
            let secret = [self.random.next(), self.random.next()];
            self.watches.transactions.start(secret);
        }
        self.watches.open.push(OpenWatch { id, what, gauge, untold: 0, reserved: 0, missed });
        if what.wants_chain() {
            self.ask_for_announcements(now);
        }
        id
    }

    /// Readers have made room, or are gone.
    pub(crate) fn handle_watch_room(&mut self, now: Now) {
        if self.watches.open.is_empty() {
            return;
        }
        let closed: Vec<WatchId> =
            self.watches.open.iter().filter(|watch| watch.gauge.is_closed()).map(|watch| watch.id).collect();
        for id in closed {
            self.end_watch(now, id);
        }
        for watch in &mut self.watches.open {
            watch.tell_missed(&mut self.actions);
        }
        self.ask_transactions(now);
        self.ask_blocks(now);
    }

    fn end_watch(&mut self, now: Now, id: WatchId) {
        self.watches.open.retain(|watch| watch.id != id);
        self.actions.push_back(Action::WatchOver { watch: id });
        if !self.watches.watch_transactions() {
            self.watches.transactions.end();
        }
        if !self.watches.open.iter().any(|watch| watch.what.blocks) {
            self.watches.release_blocks();
            self.watches.chain.forget_blocks();
        }
        if !self.watches.watch_chain() {
            self.watches.chain.forget();
        }
        for request in self.watches.abandon() {
            self.cancel(now, request);
        }
    }

    /// Ends all watches; what is under way is told to nobody.
    pub(super) fn end_watches(&mut self) {
        self.watches.open.clear();
        self.watches.transactions.end();
        self.watches.chain.forget_blocks();
        self.watches.chain.forget();
    }

    // Peers.

    pub(super) fn watch_peer(&mut self, now: Now, peer: PeerId, connection: ConnectionId) {
        self.watches.transactions.add(now.instant, peer, connection);
        self.watches.chain.add(peer, connection);
        if self.watches.watch_chain() {
            self.ask_for_announcements(now);
            self.ask_blocks(now);
        }
    }

    pub(super) fn lose_watched_peer(&mut self, now: Now, connection: ConnectionId) {
        if let Some(timer) = self.watches.transactions.remove(connection) {
            self.timers.remove(&(timer, Timer::Watch(connection)));
        }
        // Else its requests would wait for the peer to come back.
        for request in self.watches.lose_source(connection) {
            self.complete(now, request, None, Err(RequestError::Cancelled));
        }
        if !self.watches.open.is_empty() {
            self.ask_transactions(now);
            self.ask_blocks(now);
        }
    }

    pub(super) fn pause_watched_peer(&mut self, now: Now, connection: ConnectionId, paused: bool) {
        self.watches.transactions.set_paused(connection, paused);
        self.watches.chain.set_paused(connection, paused);
        if self.watches.watch_chain() && !paused {
            self.ask_headers(now, connection, None);
        }
        if !self.watches.open.is_empty() {
            self.ask_transactions(now);
            self.ask_blocks(now);
        }
    }

    // Messages.

    /// A peer announces transactions and blocks.
    pub(super) fn watch_inventory(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        items: &[Inventory],
    ) {
        if self.watches.watch_transactions() {
            let room = self.watches.room();
            let session = self.peers.get(&peer).and_then(|peer| peer.session());
            let session = session.filter(|session| session.connection == connection);
            let is_asked = |txid: &Txid| session.is_some_and(|session| session.outstanding.wants_transaction(txid));
            let dropped = self.watches.transactions.hear(now.instant, connection, items, is_asked, room);
            self.watches.miss(|what| what.transactions, dropped);
            self.ask_transactions(now);
        }
        if self.watches.watch_chain() {
            self.watch_block_inventory(now, peer, connection, items);
        }
    }

    /// Whether transactions are watched, or the last ones asked for are still to come.
    pub(super) fn is_watching_transactions(&self) -> bool {
        self.watches.watch_transactions() || !self.watches.transactions.is_idle()
    }

    /// A transaction came, which a request has claimed or not; true if we had asked for it.
    pub(super) fn watch_transaction(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        transaction: &Transaction,
        is_claimed: bool,
    ) -> bool {
        if !self.is_watching_transactions() {
            return false;
        }
        let is_watched = self.watches.watch_transactions();
        let len = transaction.raw().len();
        let txid = transaction.txid();
        let has_room = is_watched && self.watches.room() > self.watches.transactions.outstanding();
        let arrival = self.watches.transactions.arrive(now.instant, connection, &txid, len, is_claimed, has_room);
        if arrival.is_new && is_watched {
            let watched = Watched::Transaction { peer, transaction: transaction.clone().compacted() };
            self.watches.deliver(&mut self.actions, |what| what.transactions, len + ITEM_COST, &watched);
        }
        self.ask_transactions(now);
        arrival.is_ours
    }

    /// A peer lacks something; true if we had asked for it.
    pub(super) fn watch_not_found(&mut self, now: Now, connection: ConnectionId, item: &Inventory) -> bool {
        if self.watches.transactions.is_idle() {
            return false;
        }
        let Some(txid) = announced_transaction(item) else { return false };
        let is_ours = self.watches.transactions.lacks(now.instant, connection, &txid);
        if is_ours {
            self.ask_transactions(now);
        }
        is_ours
    }

    /// A transaction over the stream threshold is being skipped; true if we had asked for it.
    pub(super) fn watch_too_large(&mut self, now: Now, connection: ConnectionId) -> bool {
        let is_ours = self.watches.transactions.is_too_large(now.instant, connection);
        if is_ours {
            self.watches.miss(|what| what.transactions, 1);
            for watch in &mut self.watches.open {
                watch.tell_missed(&mut self.actions);
            }
            self.ask_transactions(now);
        }
        is_ours
    }

    /// A connection sends something large.
    pub(super) fn watch_busy_peer(&mut self, now: Now, connection: ConnectionId) {
        self.watches.transactions.note_busy(now.instant, connection);
    }

    /// Asks for what waits, as far as queues and peers have room.
    fn ask_transactions(&mut self, now: Now) {
        let Watches { transactions, .. } = &self.watches;
        if transactions.waiting() > 0 {
            let mut room = self.watches.room();
            if room <= self.watches.transactions.outstanding() {
                for watch in self.watches.open.iter().filter(|watch| watch.what.transactions) {
                    watch.gauge.starve();
                }
                // Room made between the two looks would otherwise not be heard of.
                room = self.watches.room();
            }
            let actions = &mut self.actions;
            self.watches.transactions.ask(now.instant, room, |_, connection, items| {
                actions.push_back(Action::Send { connection, message: crate::message::Message::GetData(items) });
            });
        }
        let timers = &mut self.timers;
        self.watches.transactions.timers(|connection, slot, due| {
            Self::set_timer(timers, slot, Timer::Watch(connection), Some(due));
        });
    }

    /// A peer may have been silent for too long.
    pub(super) fn watch_due(&mut self, now: Now, connection: ConnectionId) {
        self.watches.transactions.due(now.instant, connection);
        self.ask_transactions(now);
    }

    /// A request of ours has ended.
    pub(super) fn watch_answer(
        &mut self,
        now: Now,
        request: RequestId,
        peer: Option<PeerId>,
        result: Result<Answer, RequestError>,
    ) {
        let Some(purpose) = self.watches.requests.remove(&request) else { return };
        match (purpose, result) {
            // The whole conduit ends.
            (_, Err(RequestError::Shutdown | RequestError::Crashed)) => return,
            (Purpose::Headers { connection, stop }, Ok(Answer::Headers(headers))) => {
                self.watch_asked_headers(now, peer, connection, stop, &headers);
            }
            (Purpose::Headers { connection, .. }, _) => self.headers_failed(now, connection),
            // A block was taken when it came.
            (Purpose::Abandoned | Purpose::Block { .. }, Ok(_)) | (Purpose::Abandoned, Err(_)) => {}
            (Purpose::Block { hash }, Err(error)) => self.block_failed(hash, error),
        }
        self.ask_blocks(now);
        self.ask_transactions(now);
    }

    /// A block came that was asked for, by us or by others.
    pub(super) fn watch_block(&mut self, peer: PeerId, block: &Block) {
        if !self.watches.open.is_empty() {
            self.take_watched_block(peer, block);
        }
    }

    /// Watches that have a reader.
    pub(crate) fn open_watches(&self) -> usize {
        self.watches.open.iter().filter(|watch| !watch.gauge.is_closed()).count()
    }

    #[cfg(test)]
    pub(super) fn check_watches(&self, timers: &mut BTreeSet<(std::time::Instant, Timer)>) {
        let set = self.watches.transactions.check();
        timers.extend(set.into_iter().map(|(connection, at)| (at, Timer::Watch(connection))));
        if self.watches.room() > self.watches.transactions.outstanding() {
            assert!(!self.watches.transactions.could_ask(), "nothing waits while it could be asked");
        }
        for request in self.watches.requests.keys() {
            assert!(self.requests.contains_key(request), "{request:?} has ended");
        }
        self.watches.check_chain();
    }
}

/// The transaction an item announces.
fn announced_transaction(item: &Inventory) -> Option<Txid> {
    (item.kind == InventoryKind::Transaction).then(|| Txid::from_wire(item.hash))
}

/// What an item in a queue is charged besides the bytes it holds.
const ITEM_COST: usize = 256;
