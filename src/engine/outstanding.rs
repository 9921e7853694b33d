//! What one connected peer was asked and still owes an answer for.
//!
//! Layer 4. Section 4 of the wire specification: there are no request ids, so answers are told by their content, in the
//! order asked.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

use super::Now;
use super::request::RequestId;
use crate::message::{BlockHeader, GetHeaders, Message};
use crate::wire::{BlockHash, Command, Txid};

/// What one connected peer was asked, by what its answers will hold.
///
/// What a request asked stays when it has ended, so that the late answer is not taken for news.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    transactions: HashMap<Txid, VecDeque<Asked>>,
    blocks: HashMap<BlockHash, VecDeque<Asked>>,
    pings: HashMap<u64, (RequestId, Instant)>,
    headers: Option<HeadersInFlight>,
    addresses: BTreeSet<RequestId>,
    /// The requests that have not ended, and how many answers each is owed.
    live: HashMap<RequestId, usize>,
    /// Always how many transactions, blocks and pings are owed to requests that have ended.
    ended: usize,
    next_order: u64,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    request: RequestId,
    /// Greater for what was asked later.
    order: u64,
}

/// Two overlapping replies to `getheaders` could not be told apart, so one is in flight at a time.
#[derive(Debug)]
struct HeadersInFlight {
    request: RequestId,
    question: GetHeaders,
    since: Instant,
}

impl HeadersInFlight {
    fn is_answered_by(&self, headers: &[BlockHeader]) -> bool {
        match headers.first() {
            None => true,
            Some(first) if self.question.locator.is_empty() => first.hash() == self.question.stop,
            Some(first) => self.question.locator.contains(&first.previous),
        }
    }
}

impl Outstanding {
    /// Requests that wait for this peer.
    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    /// All requests that wait for this peer, oldest first.
    pub(super) fn requests(&self) -> Vec<RequestId> {
        let mut requests: Vec<_> = self.live.keys().copied().collect();
        requests.sort_unstable();
        requests
    }

    /// Whether a block was asked for, also by a request that has ended.
    pub(super) fn wants_block(&self, hash: &BlockHash) -> bool {
        self.blocks.contains_key(hash)
    }

    /// Whether a request that has not ended is owed an answer.
    pub(super) fn owes(&self, request: RequestId) -> bool {
        self.live.contains_key(&request)
    }

    #[cfg(test)]
    pub(super) fn has_headers_in_flight(&self) -> bool {
        self.headers.is_some()
    }

    /// Whether something that comes under this command is outstanding.
    pub(super) fn awaits(&self, command: Command) -> bool {
        match command {
            Command::TX | Command::NOTFOUND => !self.transactions.is_empty(),
            Command::HEADERS => self.headers.is_some(),
            Command::PONG => !self.pings.is_empty(),
            _ => false,
        }
    }

    /// Whether a message answers something outstanding.
    pub(super) fn expects(&self, message: &Message) -> bool {
        match message {
            Message::Tx(tx) => self.transactions.contains_key(&tx.txid()),
            Message::Headers(headers) => self.headers.as_ref().is_some_and(|h| h.is_answered_by(headers)),
            Message::NotFound(items) => {
                // One that is named twice might be owed once.
                let mut seen = HashSet::new();
                let mut expects = |txid: Txid| self.transactions.contains_key(&txid) && seen.insert(txid);
                items.iter().all(|item| item.txid().is_some_and(&mut expects))
            }
            Message::Pong { nonce } => self.pings.contains_key(nonce),
            _ => false,
        }
    }

    pub(super) fn may_take_headers(&self, now: Now) -> bool {
        self.headers.is_none() || self.gives_up_headers_at().is_some_and(|at| now.instant >= at)
    }

    /// When a reply that nobody waits for any more need not be reckoned with.
    pub(super) fn gives_up_headers_at(&self) -> Option<Instant> {
        let in_flight = self.headers.as_ref()?;
        let has_ended = !self.live.contains_key(&in_flight.request);
        // A node in initial block download never answers; it is asked again after a while.
        has_ended.then(|| in_flight.since + HEADERS_PATIENCE)
    }

    pub(super) fn ask_transaction(&mut self, txid: Txid, request: RequestId) {
        let asked = self.note_asked(request);
        self.transactions.entry(txid).or_default().push_back(asked);
    }

    pub(super) fn ask_block(&mut self, hash: BlockHash, request: RequestId) {
        let asked = self.note_asked(request);
        self.blocks.entry(hash).or_default().push_back(asked);
    }

    pub(super) fn ask_ping(&mut self, nonce: u64, request: RequestId, now: Now) {
        self.note_asked(request);
        self.pings.insert(nonce, (request, now.instant));
    }

    pub(super) fn ask_headers(&mut self, question: GetHeaders, request: RequestId, now: Now) {
        self.note_asked(request);
        self.headers = Some(HeadersInFlight { request, question, since: now.instant });
    }

    pub(super) fn ask_addresses(&mut self, request: RequestId) {
        self.note_asked(request);
        self.addresses.insert(request);
    }

    fn note_asked(&mut self, request: RequestId) -> Asked {
        *self.live.entry(request).or_default() += 1;
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
        let first = self.transactions.iter().min_by_key(|(_, asked)| asked.front().map(|asked| asked.order));
        let txid = *first?.0;
        self.take_transaction(&txid)
    }

    pub(super) fn take_block(&mut self, hash: &BlockHash) -> Option<Option<RequestId>> {
        let asked = take_oldest(&mut self.blocks, hash)?;
        Some(self.note_answered(asked.request))
    }

    pub(super) fn take_ping(&mut self, nonce: u64) -> Option<(Option<RequestId>, Instant)> {
        let (request, sent_at) = self.pings.remove(&nonce)?;
        Some((self.note_answered(request), sent_at))
    }

    pub(super) fn take_headers(&mut self, headers: &[BlockHeader]) -> Option<Option<RequestId>> {
        let in_flight = self.headers.take_if(|in_flight| in_flight.is_answered_by(headers))?;
        Some(self.live.remove(&in_flight.request).map(|_| in_flight.request))
    }

    pub(super) fn take_addresses(&mut self) -> BTreeSet<RequestId> {
        let requests = std::mem::take(&mut self.addresses);
        for request in &requests {
            self.live.remove(request);
        }
        requests
    }

    fn note_answered(&mut self, request: RequestId) -> Option<RequestId> {
        let Some(owed) = self.live.get_mut(&request) else {
            self.ended -= 1;
            return None;
        };
        *owed -= 1;
        if *owed == 0 {
            self.live.remove(&request);
        }
        Some(request)
    }

    /// Notes that a request has ended; its late answers will be taken without being told to anybody.
    pub(super) fn end(&mut self, request: RequestId) {
        let Some(owed) = self.live.remove(&request) else { return };
        let is_headers = self.headers.as_ref().is_some_and(|in_flight| in_flight.request == request);
        if is_headers || self.addresses.remove(&request) {
            return;
        }
        self.ended += owed;
        if self.ended > MAX_ENDED {
            // A peer that never answers must not make us remember for ever what it was asked.
            let live = &self.live;
            let keep_live = |requests: &mut VecDeque<Asked>| {
                requests.retain(|asked| live.contains_key(&asked.request));
                !requests.is_empty()
            };
            self.transactions.retain(|_, requests| keep_live(requests));
            self.blocks.retain(|_, requests| keep_live(requests));
            self.pings.retain(|_, (request, _)| live.contains_key(request));
            self.ended = 0;
        }
    }
}

#[cfg(test)]
impl Outstanding {
    pub(super) fn check(&self) {
        let queues = || self.transactions.values().chain(self.blocks.values());
        assert!(queues().all(|requests| !requests.is_empty()));
        let (mut owed, mut ended) = (HashMap::new(), 0);
        for id in queues().flatten().map(|asked| asked.request).chain(self.pings.values().map(|ping| ping.0)) {
            if self.live.contains_key(&id) {
                *owed.entry(id).or_default() += 1;
            } else {
                ended += 1;
            }
        }
        let headers = self.headers.iter().map(|in_flight| in_flight.request);
        for id in headers.filter(|id| self.live.contains_key(id)).chain(self.addresses.iter().copied()) {
            *owed.entry(id).or_default() += 1;
        }
        assert_eq!(self.live, owed);
        assert_eq!(self.ended, ended);
        assert!(ended <= MAX_ENDED);
    }
}

fn take_oldest<K: Hash + Eq>(map: &mut HashMap<K, VecDeque<Asked>>, key: &K) -> Option<Asked> {
    let requests = map.get_mut(key)?;
    let taken = requests.pop_front();
    if requests.is_empty() {
        map.remove(key);
    }
    taken
}

/// How long a peer that did not answer a `getheaders` is left alone.
const HEADERS_PATIENCE: Duration = Duration::from_secs(30);
/// Ended requests remembered for each peer.
const MAX_ENDED: usize = 10_000;
