//! What one connected peer was asked and still owes an answer for.
//!
//! Layer 4. Section 4 of the wire specification: there are no request ids, so answers are told by their content, in the
//! order asked.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

use super::Now;
use super::gathering::{Gathered, Gathering};
use super::pool::Size;
use super::request::RequestId;
use crate::message::{BlockHeader, Inventory, InventoryKind, MerkleBlock, Message, Transaction};
use crate::request::Question;
use crate::wire::{BlockHash, Command, Txid};

/// What one connected peer was asked, by what its answers will hold.
///
/// What a request asked stays when it has ended, so that the late answer is not taken for news.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    transactions: HashMap<Txid, VecDeque<Asked>>,
    datarefs: HashMap<Txid, VecDeque<Asked>>,
    blocks: HashMap<BlockHash, VecDeque<(BlockForm, Asked)>>,
    /// Filtered blocks whose transactions are coming.
    gatherings: Vec<Gathering>,
    pings: HashMap<u64, (RequestId, Instant)>,
    /// At most one of each kind: two overlapping replies could not be told apart.
    walks: HashMap<Walk, InFlight>,
    cue: Cue,
    addresses: BTreeSet<RequestId>,
    mempool: BTreeSet<RequestId>,
    /// The requests that have not ended, and what each is owed.
    live: HashMap<RequestId, Owed>,
    /// Always those of `live` that a node answers at once, by the time they were asked.
    prompt: BTreeSet<(Instant, RequestId)>,
    /// Always how many of `live` ask for bulk.
    bulk: usize,
    /// Always how many transactions, blocks and pings are owed to requests that have ended.
    ended: usize,
    next_order: u64,
}

/// What a request that has not ended is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owed {
    answers: usize,
    since: Instant,
    pace: Pace,
}

/// When an answer can be expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// At once.
    Prompt,
    /// Once many bytes have come.
    Bulk,
    /// On a timer of the node's (section 2.14 of the wire specification).
    Timed,
}

impl Pace {
    fn of(question: &Question) -> Self {
        match (question, Size::of(question)) {
            (Question::Addresses, _) => Self::Timed,
            (_, Size::Small) => Self::Prompt,
            (_, Size::Bulk) => Self::Bulk,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    request: RequestId,
    /// Greater for what was asked later.
    order: u64,
}

/// How a block was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockForm {
    Whole,
    /// Whole, into a queue.
    Streamed,
    Filtered,
    Compact,
    /// So many of its transactions.
    Transactions(usize),
}

/// In what form a block came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockReply {
    Whole,
    Filtered,
    Compact,
    Transactions,
}

impl BlockForm {
    /// Whether this is the form it was asked for in, and one is as good as another.
    fn is_named_by(self, reply: BlockReply) -> bool {
        matches!(
            (self, reply),
            (Self::Whole, BlockReply::Whole)
                | (Self::Filtered, BlockReply::Filtered)
                | (Self::Compact, BlockReply::Compact)
        )
    }

    /// A whole block answers for its parts, too (trap 14 of the wire specification).
    fn is_met_by(self, reply: BlockReply) -> bool {
        match self {
            Self::Whole | Self::Streamed => reply == BlockReply::Whole,
            Self::Filtered => reply == BlockReply::Filtered,
            Self::Compact => matches!(reply, BlockReply::Compact | BlockReply::Whole),
            Self::Transactions(_) => matches!(reply, BlockReply::Transactions | BlockReply::Whole),
        }
    }
}

/// The questions that walk along the chain from a locator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Walk {
    Headers,
    EnrichedHeaders,
    BlockHashes,
}

impl Walk {
    /// The walk that a question makes, from where, and where it stops.
    pub(super) fn of(question: &Question) -> Option<(Self, &[BlockHash], BlockHash)> {
        match question {
            Question::Headers(request) => Some((Self::Headers, &request.locator, request.stop)),
            Question::EnrichedHeaders(request) => Some((Self::EnrichedHeaders, &request.locator, request.stop)),
            Question::BlockHashes(request) => Some((Self::BlockHashes, &request.locator, request.stop)),
            _ => None,
        }
    }
}

/// A question that walks along the chain and was not answered yet.
#[derive(Debug)]
struct InFlight {
    request: RequestId,
    locator: Vec<BlockHash>,
    stop: BlockHash,
    since: Instant,
}

impl InFlight {
    /// Whether headers that begin with this one can be the answer.
    fn is_answered_by(&self, first: Option<&BlockHeader>) -> bool {
        match first {
            None => true,
            Some(first) if self.locator.is_empty() => first.hash() == self.stop,
            Some(first) => self.locator.contains(&first.previous),
        }
    }

    /// Whether these can be the blocks after the locator. Hashes alone do not say where they belong.
    fn is_answered_by_hashes(&self, hashes: &[BlockHash]) -> bool {
        !hashes.is_empty() && !hashes.iter().any(|hash| self.locator.contains(hash))
    }
}

/// Where the announcement of a tip stands that a node sends behind the last block of a full list of hashes, so that a
/// client asks for the next list (section 2.7 of the wire specification).
#[derive(Clone, Copy, Debug, Default)]
enum Cue {
    #[default]
    None,
    /// It follows this block, once the peer is asked for it.
    Follows(BlockHash),
    /// The block has come, and this is next.
    IsNext,
}

impl Outstanding {
    /// Requests that wait for this peer.
    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    /// Requests for bulk that wait for this peer.
    pub(super) fn bulk(&self) -> usize {
        self.bulk
    }

    /// For how long the oldest request has waited that is answered at once, unless bulk is before it.
    pub(super) fn waiting_for(&self, now: Now) -> Duration {
        let oldest = self.prompt.first().filter(|_| self.bulk == 0);
        oldest.map_or(Duration::ZERO, |&(since, _)| now.instant.saturating_duration_since(since))
    }

    /// All requests that wait for this peer, oldest first.
    pub(super) fn requests(&self) -> Vec<RequestId> {
        let mut requests: Vec<_> = self.live.keys().copied().collect();
        requests.sort_unstable();
        requests
    }

    /// Whether a block was asked for, also by a request that has ended.
    pub(super) fn wants_block(&self, hash: &BlockHash) -> bool {
        self.blocks.get(hash).is_some_and(|asked| asked.iter().any(|(form, _)| form.is_met_by(BlockReply::Whole)))
    }

    /// Whether a transaction was asked for, also by a request that has ended.
    pub(super) fn wants_transaction(&self, txid: &Txid) -> bool {
        self.transactions.contains_key(txid)
    }

    /// Whether a request that has not ended is owed an answer.
    pub(super) fn owes(&self, request: RequestId) -> bool {
        self.live.contains_key(&request)
    }

    /// Whether a `tx` can be an answer, or a part of one.
    pub(super) fn awaits_transactions(&self) -> bool {
        !self.transactions.is_empty() || !self.blocks.is_empty() || !self.gatherings.is_empty()
    }

    /// Whether something that comes under this command is outstanding.
    pub(super) fn awaits(&self, command: Command) -> bool {
        match command {
            Command::TX | Command::NOTFOUND => !self.transactions.is_empty(),
            Command::HEADERS => self.walks.contains_key(&Walk::Headers),
            Command::PONG => !self.pings.is_empty(),
            _ => false,
        }
    }

    /// Whether a message answers something outstanding.
    pub(super) fn expects(&self, message: &Message) -> bool {
        match message {
            Message::Tx(tx) => self.transactions.contains_key(&tx.txid()),
            Message::Headers(headers) => {
                self.walks.get(&Walk::Headers).is_some_and(|walk| walk.is_answered_by(headers.first()))
            }
            Message::NotFound(items) => {
                // One that is named twice might be owed once.
                let mut seen = HashSet::new();
                let mut expects = |txid: Txid| self.transactions.contains_key(&txid) && seen.insert(txid);
                let is_transaction = |item: &Inventory| item.kind == InventoryKind::Transaction;
                items.iter().all(|item| is_transaction(item) && item.txid().is_some_and(&mut expects))
            }
            Message::Pong { nonce } => self.pings.contains_key(nonce),
            _ => false,
        }
    }

    pub(super) fn may_walk(&self, walk: Walk, now: Now) -> bool {
        !self.walks.contains_key(&walk) || self.gives_up_walk_at(walk).is_some_and(|at| now.instant >= at)
    }

    /// Whether the same walk was asked by a request that has ended, so that its late answer is as good as another.
    pub(super) fn may_repeat(&self, walk: Walk, locator: &[BlockHash], stop: BlockHash) -> bool {
        self.walks.get(&walk).is_some_and(|in_flight| {
            let is_same = in_flight.locator == locator && in_flight.stop == stop;
            is_same && !self.live.contains_key(&in_flight.request)
        })
    }

    /// When a reply that nobody waits for any more need not be reckoned with.
    pub(super) fn gives_up_walk_at(&self, walk: Walk) -> Option<Instant> {
        let in_flight = self.walks.get(&walk)?;
        let has_ended = !self.live.contains_key(&in_flight.request);
        // A node in initial block download never answers; it is asked again after a while.
        has_ended.then(|| in_flight.since + WALK_PATIENCE)
    }

    /// Notes that a request was asked; `nonce` is that of a ping.
    pub(super) fn ask(&mut self, question: &Question, request: RequestId, nonce: u64, now: Now) {
        self.begin(request, Pace::of(question), now);
        if let Some((walk, locator, stop)) = Walk::of(question) {
            self.note_asked(request);
            let in_flight = InFlight { request, locator: locator.to_vec(), stop, since: now.instant };
            self.walks.insert(walk, in_flight);
            return;
        }
        match question {
            Question::Block(hash) => self.ask_block(*hash, BlockForm::Whole, request),
            Question::FilteredBlock(hash) => self.ask_block(*hash, BlockForm::Filtered, request),
            Question::CompactBlock(hash) => self.ask_block(*hash, BlockForm::Compact, request),
            Question::BlockTransactions(wanted) => {
                self.ask_block(wanted.block_hash, BlockForm::Transactions(wanted.indexes().len()), request);
            }
            Question::Transaction(txid) => self.ask_transaction(*txid, request),
            // Each of them is noted as it is put into the message.
            Question::Transactions(_) => {}
            Question::DataRefTransaction(txid) => {
                let asked = self.note_asked(request);
                self.datarefs.entry(*txid).or_default().push_back(asked);
            }
            Question::Ping => {
                self.note_asked(request);
                self.pings.insert(nonce, (request, now.instant));
            }
            Question::Addresses => {
                self.note_asked(request);
                self.addresses.insert(request);
            }
            Question::Mempool { .. } => {
                self.note_asked(request);
                self.mempool.insert(request);
            }
            Question::Headers(_) | Question::EnrichedHeaders(_) | Question::BlockHashes(_) => {}
        }
    }

    fn begin(&mut self, request: RequestId, pace: Pace, now: Now) {
        self.live.insert(request, Owed { answers: 0, since: now.instant, pace });
        match pace {
            Pace::Prompt => drop(self.prompt.insert((now.instant, request))),
            Pace::Bulk => self.bulk += 1,
            Pace::Timed => {}
        }
    }

    /// A request is owed nothing any more.
    fn take_live(&mut self, request: RequestId) -> Option<Owed> {
        let owed = self.live.remove(&request)?;
        match owed.pace {
            Pace::Prompt => drop(self.prompt.remove(&(owed.since, request))),
            Pace::Bulk => self.bulk -= 1,
            Pace::Timed => {}
        }
        Some(owed)
    }

    pub(super) fn ask_transaction(&mut self, txid: Txid, request: RequestId) {
        let asked = self.note_asked(request);
        self.transactions.entry(txid).or_default().push_back(asked);
    }

    /// Notes that a block was asked for that goes into a queue.
    pub(super) fn ask_streamed(&mut self, hash: BlockHash, request: RequestId, now: Now) {
        self.begin(request, Pace::Bulk, now);
        self.ask_block(hash, BlockForm::Streamed, request);
    }

    /// Whether a block that goes into a queue was asked for, and is not waited for any more.
    pub(super) fn has_streamed_in_vain(&self, hash: &BlockHash) -> bool {
        let is_in_vain = |(form, asked): &(BlockForm, Asked)| {
            *form == BlockForm::Streamed && !self.live.contains_key(&asked.request)
        };
        self.blocks.get(hash).is_some_and(|entries| entries.iter().any(is_in_vain))
    }

    fn ask_block(&mut self, hash: BlockHash, form: BlockForm, request: RequestId) {
        let asked = self.note_asked(request);
        self.blocks.entry(hash).or_default().push_back((form, asked));
    }

    fn note_asked(&mut self, request: RequestId) -> Asked {
        if let Some(owed) = self.live.get_mut(&request) {
            owed.answers += 1;
        }
        self.next_order += 1;
        Asked { request, order: self.next_order }
    }

    /// Takes the oldest entry for a transaction; `None` if there is none, else the request if it has not ended.
    pub(super) fn take_transaction(&mut self, txid: &Txid) -> Option<Option<RequestId>> {
        // Looked up on the way of every transaction, so the empty map is worth a look of its own.
        if self.transactions.is_empty() {
            return None;
        }
        let asked = take_oldest(&mut self.transactions, txid)?;
        Some(self.note_answered(asked.request))
    }

    /// Takes the entry of the transaction asked first.
    pub(super) fn take_first_transaction(&mut self) -> Option<Option<RequestId>> {
        let txid = first_asked(&self.transactions)?;
        self.take_transaction(&txid)
    }

    /// Takes the entry of the transaction asked first with its proof.
    pub(super) fn take_first_dataref(&mut self) -> Option<Option<RequestId>> {
        let txid = first_asked(&self.datarefs)?;
        self.take_dataref(&txid)
    }

    pub(super) fn take_dataref(&mut self, txid: &Txid) -> Option<Option<RequestId>> {
        let asked = take_oldest(&mut self.datarefs, txid)?;
        Some(self.note_answered(asked.request))
    }

    /// Takes the oldest entry for a block that this reply meets, with the form in which it was asked for.
    pub(super) fn take_block(
        &mut self,
        hash: &BlockHash,
        reply: BlockReply,
    ) -> Option<(BlockForm, Option<RequestId>)> {
        let (form, asked) = self.take_block_entry(hash, reply)?;
        Some((form, self.note_answered(asked.request)))
    }

    /// Takes the entry of a block that went into a queue.
    pub(super) fn take_streamed(&mut self, hash: &BlockHash, request: RequestId) {
        self.follow_cue(hash);
        let Some(entries) = self.blocks.get_mut(hash) else { return };
        let is_meant =
            |(form, asked): &(BlockForm, Asked)| *form == BlockForm::Streamed && asked.request == request;
        let Some(at) = entries.iter().position(is_meant) else { return };
        entries.remove(at);
        if entries.is_empty() {
            self.blocks.remove(hash);
        }
        self.note_answered(request);
    }

    fn follow_cue(&mut self, hash: &BlockHash) {
        if matches!(self.cue, Cue::Follows(last) if last == *hash) {
            self.cue = Cue::IsNext;
        }
    }

    fn take_block_entry(&mut self, hash: &BlockHash, reply: BlockReply) -> Option<(BlockForm, Asked)> {
        if reply != BlockReply::Transactions {
            self.follow_cue(hash);
        }
        let entries = self.blocks.get_mut(hash)?;
        let is_met = |(form, _): &(BlockForm, Asked)| form.is_met_by(reply);
        let is_awaited =
            |(form, asked): &(BlockForm, Asked)| form.is_named_by(reply) && self.live.contains_key(&asked.request);
        // One that was asked for in this form is as good as another; a request that has ended may never be answered itself.
        let awaited = entries.iter().position(is_awaited);
        let at = awaited.or_else(|| entries.iter().position(is_met))?;
        let entry = entries.remove(at);
        if entries.is_empty() {
            self.blocks.remove(hash);
        }
        entry
    }

    /// Takes the entry of the block, or part of one, that was asked for first.
    pub(super) fn take_first_block(&mut self) -> Option<Option<RequestId>> {
        let first = |entries: &VecDeque<(BlockForm, Asked)>| entries.front().map(|(_, asked)| asked.order);
        let (&hash, _) = self.blocks.iter().min_by_key(|(_, entries)| first(entries))?;
        let entries = self.blocks.get_mut(&hash)?;
        let (_, asked) = entries.pop_front()?;
        if entries.is_empty() {
            self.blocks.remove(&hash);
        }
        Some(self.note_answered(asked.request))
    }

    /// Takes a filtered block that was asked for; gives it back if it was not. Its matching transactions follow.
    pub(super) fn take_filtered(
        &mut self,
        block: Box<MerkleBlock>,
        txids: Vec<Txid>,
    ) -> Result<Option<Gathered>, Box<MerkleBlock>> {
        let Some((_, asked)) = self.take_block_entry(&block.header.hash(), BlockReply::Filtered) else {
            return Err(block);
        };
        self.gatherings.push(Gathering::new(asked.request, *block, txids));
        Ok(self.take_complete(self.gatherings.len() - 1))
    }

    /// Takes a transaction that belongs to a filtered block; gives it back if it belongs to none.
    pub(super) fn gather(&mut self, transaction: Transaction) -> Result<Option<Gathered>, Transaction> {
        if self.gatherings.is_empty() {
            return Err(transaction);
        }
        let txid = transaction.txid();
        let Some(at) = self.gatherings.iter().position(|gathering| gathering.awaits(&txid)) else {
            return Err(transaction);
        };
        let gathering = &mut self.gatherings[at];
        let (request, len) = (gathering.request, transaction.raw().len());
        let is_live = self.live.contains_key(&request);
        gathering.add(transaction.compacted(), is_live);
        let more = is_live.then_some(Gathered::More { request, len });
        Ok(self.take_complete(at).or(more))
    }

    /// Takes the filtered block whose last transaction has come, if a request still waits for it.
    fn take_complete(&mut self, at: usize) -> Option<Gathered> {
        if !self.gatherings[at].is_complete() {
            return None;
        }
        let gathering = self.gatherings.remove(at);
        let request = self.note_answered(gathering.request)?;
        Some(Gathered::Complete { request, block: gathering.into_block() })
    }

    pub(super) fn take_ping(&mut self, nonce: u64) -> Option<(Option<RequestId>, Instant)> {
        let (request, sent_at) = self.pings.remove(&nonce)?;
        Some((self.note_answered(request), sent_at))
    }

    /// Takes the walk in flight if headers that begin with this one can be its answer.
    pub(super) fn take_headers(&mut self, walk: Walk, first: Option<&BlockHeader>) -> Option<Option<RequestId>> {
        self.take_walk(walk, |in_flight| in_flight.is_answered_by(first))
    }

    /// Takes the request for block hashes if these can be its answer.
    pub(super) fn take_block_hashes(&mut self, hashes: &[BlockHash]) -> Option<Option<RequestId>> {
        match (self.cue, hashes) {
            (Cue::IsNext, [_]) => {
                self.cue = Cue::None;
                return None;
            }
            (_, [.., last]) if hashes.len() >= FULL_LIST => self.cue = Cue::Follows(*last),
            _ => {}
        }
        self.take_walk(Walk::BlockHashes, |in_flight| in_flight.is_answered_by_hashes(hashes))
    }

    fn take_walk(&mut self, walk: Walk, is_answer: impl Fn(&InFlight) -> bool) -> Option<Option<RequestId>> {
        if !self.walks.get(&walk).is_some_and(is_answer) {
            return None;
        }
        let in_flight = self.walks.remove(&walk)?;
        Some(self.take_live(in_flight.request).map(|_| in_flight.request))
    }

    /// Takes the walk in flight whose answer is too large to be read.
    pub(super) fn take_unread_walk(&mut self, walk: Walk) -> Option<Option<RequestId>> {
        self.take_walk(walk, |_| true)
    }

    /// Requests that gather announcements.
    pub(super) fn mempool_requests(&self) -> impl Iterator<Item = RequestId> + use<> {
        // There is hardly ever one.
        self.mempool.iter().copied().collect::<Vec<_>>().into_iter()
    }

    pub(super) fn take_addresses(&mut self) -> BTreeSet<RequestId> {
        let requests = std::mem::take(&mut self.addresses);
        for &request in &requests {
            self.take_live(request);
        }
        requests
    }

    fn note_answered(&mut self, request: RequestId) -> Option<RequestId> {
        let Some(owed) = self.live.get_mut(&request) else {
            self.ended -= 1;
            return None;
        };
        owed.answers -= 1;
        if owed.answers == 0 {
            self.take_live(request);
        }
        Some(request)
    }

    /// Notes that a request has ended; its late answers will be taken without being told to anybody.
    pub(super) fn end(&mut self, request: RequestId) {
        let Some(owed) = self.take_live(request) else { return };
        let walks = self.walks.values().any(|in_flight| in_flight.request == request);
        if walks || self.addresses.remove(&request) || self.mempool.remove(&request) {
            return;
        }
        for gathering in self.gatherings.iter_mut().filter(|gathering| gathering.request == request) {
            gathering.forget_found();
        }
        self.ended += owed.answers;
        if self.ended > MAX_ENDED {
            // A peer that never answers must not make us remember for ever what it was asked.
            let live = &self.live;
            let keep_live = |requests: &mut VecDeque<Asked>| {
                requests.retain(|asked| live.contains_key(&asked.request));
                !requests.is_empty()
            };
            self.transactions.retain(|_, requests| keep_live(requests));
            self.datarefs.retain(|_, requests| keep_live(requests));
            self.blocks.retain(|_, entries| {
                entries.retain(|(_, asked)| live.contains_key(&asked.request));
                !entries.is_empty()
            });
            self.gatherings.retain(|gathering| live.contains_key(&gathering.request));
            self.pings.retain(|_, (request, _)| live.contains_key(request));
            self.ended = 0;
        }
    }
}

#[cfg(test)]
impl Outstanding {
    /// Whether a walk is in flight.
    pub(super) fn is_walking(&self, walk: Walk) -> bool {
        self.walks.contains_key(&walk)
    }

    pub(super) fn check(&self) {
        let queues = || self.transactions.values().chain(self.datarefs.values());
        assert!(queues().all(|requests| !requests.is_empty()));
        assert!(self.blocks.values().all(|entries| !entries.is_empty()));
        assert!(!self.gatherings.iter().any(Gathering::is_complete));
        let (mut owed, mut ended) = (HashMap::new(), 0);
        let transactions = queues().flatten().map(|asked| asked.request);
        let blocks = self.blocks.values().flatten().map(|(_, asked)| asked.request);
        let gatherings = self.gatherings.iter().map(|gathering| gathering.request);
        let pings = self.pings.values().map(|ping| ping.0);
        for id in transactions.chain(blocks).chain(gatherings).chain(pings) {
            if self.live.contains_key(&id) {
                *owed.entry(id).or_default() += 1;
            } else {
                ended += 1;
            }
        }
        let walks = self.walks.values().map(|in_flight| in_flight.request);
        let sets = self.addresses.iter().chain(&self.mempool).copied();
        for id in walks.filter(|id| self.live.contains_key(id)).chain(sets) {
            *owed.entry(id).or_default() += 1;
        }
        let answers: HashMap<_, _> = self.live.iter().map(|(&id, owed)| (id, owed.answers)).collect();
        assert_eq!(answers, owed);
        let prompt = self.live.iter().filter(|(_, owed)| owed.pace == Pace::Prompt);
        assert_eq!(self.prompt, prompt.map(|(&id, owed)| (owed.since, id)).collect());
        assert_eq!(self.bulk, self.live.values().filter(|owed| owed.pace == Pace::Bulk).count());
        assert_eq!(self.ended, ended);
        assert!(ended <= MAX_ENDED);
    }
}

fn first_asked(asked: &HashMap<Txid, VecDeque<Asked>>) -> Option<Txid> {
    asked.iter().min_by_key(|(_, asked)| asked.front().map(|asked| asked.order)).map(|(txid, _)| *txid)
}

fn take_oldest<K: Hash + Eq>(map: &mut HashMap<K, VecDeque<Asked>>, key: &K) -> Option<Asked> {
    let requests = map.get_mut(key)?;
    let taken = requests.pop_front();
    if requests.is_empty() {
        map.remove(key);
    }
    taken
}

/// How long a peer that did not answer a `getheaders`, or the like, is left alone.
const WALK_PATIENCE: Duration = Duration::from_secs(30);
/// The most block hashes that a node lists at once.
const FULL_LIST: usize = 500;
/// Ended requests remembered for each peer.
const MAX_ENDED: usize = 10_000;
