//! Requests: each is asked of one peer after the other until it ends, exactly once.
//!
//! Layer 4. Section 4 of the wire specification: there are no request ids, so replies are told by their content.

#[cfg(test)]
use std::collections::BTreeSet;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::ops::Bound;
use std::time::{Duration, Instant};

use super::pool::Session;
use super::{Action, Engine, LONGEST, Now, RequestOutcome, Timer};
use crate::error::{Attempt, AttemptFailure, DisconnectReason, RequestError};
use crate::message::{Block, BlockHeader, Inventory, Message, TimestampedAddress, Transaction};
use crate::peer::{ConnectionId, PeerId};
use crate::proto::ProtocolError;
use crate::request::{Answer, Question, RequestOptions, TransactionNotFound};
use crate::wire::{BlockHash, Txid};

/// Identifies a request; later ones have greater ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RequestId(u64);

/// A request that has not ended.
#[derive(Debug)]
pub(super) struct OpenRequest {
    question: Question,
    /// The only peer that may be asked.
    only: Option<PeerId>,
    attempts_left: usize,
    timeout: Duration,
    /// When its time began to run.
    since: Instant,
    /// `None` before the start.
    deadline: Option<Instant>,
    /// When the next peer is asked if the current one has not answered, or a peer that was busy is free.
    attempt_deadline: Option<Instant>,
    timer: Option<Instant>,
    /// Whoever was asked and may still answer; the last one is the current one.
    asked: Vec<(PeerId, ConnectionId)>,
    /// Whoever was asked, so as not to ask twice.
    tried: HashSet<ConnectionId>,
    failures: Vec<Attempt>,
    /// Of a request for many transactions: what came.
    found: HashMap<Txid, Transaction>,
    cost: usize,
}

impl OpenRequest {
    /// Whether a peer may be asked: it was not on this connection, and has not answered on an earlier one.
    fn may_ask(&self, peer: PeerId, session: &Session) -> bool {
        let has_answered = |attempt: &Attempt| {
            attempt.peer == peer
                && matches!(attempt.failure, AttemptFailure::NotFound | AttemptFailure::WrongAnswer)
        };
        self.only.is_none_or(|only| only == peer)
            && !self.tried.contains(&session.connection)
            && !self.failures.iter().any(has_answered)
    }

    /// Whether a peer has let its share of the time pass.
    fn has_timed_out(&self, peer: PeerId) -> bool {
        let timed_out = |attempt: &Attempt| attempt.peer == peer && attempt.failure == AttemptFailure::TimedOut;
        self.failures.iter().any(timed_out)
    }
}

impl Engine {
    /// Takes a request; it ends with exactly one `Action::Complete`.
    pub(crate) fn submit(
        &mut self,
        now: Now,
        question: Question,
        options: &RequestOptions,
    ) -> Result<RequestId, RequestError> {
        let cost = REQUEST_COST + question_len(&question);
        if self.requests_cost + cost > self.config.requests_limit {
            return Err(RequestError::TooManyRequests);
        }
        let configured = match question {
            Question::Addresses => self.config.getaddr_timeout,
            _ => self.config.request_timeout,
        };
        let id = RequestId(self.next_id());
        self.requests_cost += cost;
        self.requests.insert(
            id,
            OpenRequest {
                question,
                only: options.peer,
                attempts_left: options.attempts.unwrap_or(self.config.request_attempts).max(1),
                timeout: options.timeout.unwrap_or(configured),
                since: now.instant,
                deadline: None,
                attempt_deadline: None,
                timer: None,
                asked: Vec::new(),
                tried: HashSet::new(),
                failures: Vec::new(),
                found: HashMap::new(),
                cost,
            },
        );
        if self.started {
            self.start_request(now, id);
        } else {
            self.waiting.insert(id);
        }
        Ok(id)
    }

    /// Ends a request before its time.
    pub(crate) fn cancel(&mut self, now: Now, id: RequestId) {
        self.complete(now, id, None, Err(RequestError::Cancelled));
    }

    /// Requests that have not ended, oldest first.
    pub(crate) fn open_requests(&self) -> Vec<RequestId> {
        let mut open: Vec<_> = self.requests.keys().copied().collect();
        open.sort_unstable();
        open
    }

    /// Ends every request with the same error.
    pub(crate) fn fail_all(&mut self, now: Now, error: &RequestError) {
        for id in self.open_requests() {
            self.complete(now, id, None, Err(error.clone()));
        }
    }

    pub(super) fn start_requests(&mut self, now: Now) {
        for id in std::mem::take(&mut self.waiting) {
            self.start_request(now, id);
        }
    }

    fn start_request(&mut self, now: Now, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.since = now.instant;
        request.deadline = Some(now.instant + request.timeout.min(LONGEST));
        self.ask(now, id);
    }

    /// Asks the next best peer, or waits for one, or ends the request.
    fn ask(&mut self, now: Now, id: RequestId) {
        let Some(request) = self.requests.get(&id) else { return };
        let is_headers = matches!(request.question, Question::Headers(_));
        let mut candidates = 0_u32;
        let next = if request.attempts_left == 0 {
            None
        } else {
            let untried = |peer: PeerId, session: &Session| request.may_ask(peer, session);
            let with_addresses = match request.question {
                Question::Addresses => self.best_peer(|peer, s| untried(peer, s) && !s.addresses.is_empty()),
                _ => None,
            };
            candidates = self.candidates(untried);
            with_addresses.or_else(|| {
                self.best_peer(|peer, session| {
                    untried(peer, session) && (!is_headers || session.outstanding.may_take_headers(now))
                })
            })
        };
        match next {
            Some(peer) => self.ask_peer(now, id, peer, candidates),
            None => self.ask_nobody(now, id, candidates > 0),
        }
    }

    fn candidates(&self, may_ask: impl Fn(PeerId, &Session) -> bool) -> u32 {
        let sessions = self.peers.iter().filter_map(|(&id, peer)| Some((id, peer.session()?)));
        let candidates = sessions.filter(|&(id, session)| !session.paused && may_ask(id, session));
        candidates.count().try_into().unwrap_or(u32::MAX)
    }

    fn ask_peer(&mut self, now: Now, id: RequestId, peer: PeerId, candidates: u32) {
        let nonce = self.random.next();
        let (Some(request), Some(session)) =
            (self.requests.get_mut(&id), self.peers.get_mut(&peer).and_then(|peer| peer.session_mut()))
        else {
            return;
        };
        self.waiting.remove(&id);
        let connection = session.connection;
        request.tried.insert(connection);
        request.asked.push((peer, connection));
        let others = candidates.saturating_sub(1).min(request.attempts_left.saturating_sub(1) as u32);
        request.attempts_left -= 1;
        let deadline = request.deadline.unwrap_or(now.instant);
        let share = deadline.saturating_duration_since(now.instant) / (others + 1);
        request.attempt_deadline = (others > 0).then(|| now.instant + share);
        let outstanding = &mut session.outstanding;
        let message = match &request.question {
            Question::Transaction(txid) => {
                outstanding.ask_transaction(*txid, id);
                Some(Message::GetData(vec![Inventory::transaction(*txid)]))
            }
            Question::Transactions(txids) => {
                let missing = txids.iter().copied().filter(|txid| !request.found.contains_key(txid));
                let ask = |txid| {
                    outstanding.ask_transaction(txid, id);
                    Inventory::transaction(txid)
                };
                Some(Message::GetData(missing.map(ask).collect()))
            }
            Question::Block(hash) => {
                outstanding.ask_block(*hash, id);
                Some(Message::GetData(vec![Inventory::block(*hash)]))
            }
            Question::Headers(question) => {
                outstanding.ask_headers(question.clone(), id, now);
                Some(Message::GetHeaders(question.clone()))
            }
            Question::Addresses => {
                outstanding.ask_addresses(id);
                // A node answers the first one only (trap of section 2.14).
                (!std::mem::replace(&mut session.asked_addresses, true)).then_some(Message::GetAddr)
            }
            Question::Ping => {
                outstanding.ask_ping(nonce, id, now);
                Some(Message::Ping { nonce })
            }
        };
        let known_addresses = match request.question {
            Question::Addresses if !session.addresses.is_empty() => Some(session.addresses.clone()),
            _ => None,
        };
        self.actions.extend(message.map(|message| Action::Send { connection, message }));
        match known_addresses {
            Some(addresses) => self.complete(now, id, Some(peer), Ok(Answer::Addresses(addresses))),
            None => self.set_request_timer(id),
        }
    }

    /// No peer can be asked now: wait for whoever was asked or will come, or end.
    fn ask_nobody(&mut self, now: Now, id: RequestId, busy: bool) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.attempt_deadline = None;
        if !request.asked.is_empty() {
            let asked = request.asked.clone();
            if busy {
                self.wait(id);
            } else if asked.into_iter().all(|(peer, _)| self.is_paused(peer)) {
                self.complete(now, id, None, Err(RequestError::MessageQueueFull));
            } else {
                // The last ones asked may still answer.
                self.set_request_timer(id);
            }
            return;
        }
        let only = request.only;
        let mut connected = self
            .peers
            .iter()
            .filter(|&(&peer, _)| only.is_none_or(|only| only == peer))
            .filter_map(|(_, p)| p.session())
            .peekable();
        let all_paused = connected.peek().is_some() && connected.all(|session| session.paused);
        let Some(request) = self.requests.get(&id) else { return };
        let is_hopeless = request.only.is_some_and(|only| !self.peers.contains_key(&only));
        let was_lost = |attempt: &Attempt| attempt.failure == AttemptFailure::Disconnected;
        let was_answered = request.failures.iter().any(|attempt| !was_lost(attempt));
        if all_paused {
            self.complete(now, id, None, Err(RequestError::MessageQueueFull));
        } else if is_hopeless || request.attempts_left == 0 || (was_answered && !busy) {
            self.give_up(now, id);
        } else {
            self.wait(id);
        }
    }

    /// Lets a request wait for a peer to connect or to be free.
    fn wait(&mut self, id: RequestId) {
        let at = self.requests.get(&id).and_then(|request| self.headers_free_at(request));
        self.waiting.insert(id);
        if let Some(request) = self.requests.get_mut(&id) {
            request.attempt_deadline = at;
        }
        self.set_request_timer(id);
    }

    /// When the first peer is given up that keeps a request for headers waiting.
    fn headers_free_at(&self, request: &OpenRequest) -> Option<Instant> {
        let Question::Headers(_) = request.question else { return None };
        let sessions = self.peers.iter().filter_map(|(&id, peer)| Some((id, peer.session()?)));
        sessions
            .filter(|&(id, session)| !session.paused && request.may_ask(id, session))
            .filter_map(|(_, session)| session.outstanding.gives_up_headers_at())
            .min()
    }

    /// Ends a request that no further peer can be asked.
    fn give_up(&mut self, now: Now, id: RequestId) {
        let Some(request) = self.requests.get(&id) else { return };
        let attempts = request.failures.clone();
        let said_no = |attempt: &Attempt| attempt.failure == AttemptFailure::NotFound;
        let result = match &request.question {
            _ if attempts.is_empty() => Err(RequestError::NoPeers),
            // Each transaction has a result of its own.
            Question::Transactions(txids) if attempts.iter().any(said_no) => {
                let result =
                    |txid: &Txid| request.found.get(txid).cloned().ok_or(TransactionNotFound { txid: *txid });
                Ok(Answer::Transactions(txids.iter().map(result).collect()))
            }
            _ if attempts.iter().all(said_no) => Err(RequestError::NotFound { attempts }),
            _ if attempts.iter().any(|attempt| attempt.failure == AttemptFailure::TimedOut) => {
                Err(RequestError::TimedOut { attempts })
            }
            _ => Err(RequestError::Failed { attempts }),
        };
        self.complete(now, id, None, result);
    }

    /// A request's timer: the attempt's share of the time is over, or all of it.
    pub(super) fn request_due(&mut self, now: Now, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.timer = None;
        if request.deadline.is_some_and(|deadline| now.instant >= deadline) {
            if request.asked.is_empty() && request.failures.is_empty() {
                self.complete(now, id, None, Err(RequestError::NoPeers));
                return;
            }
            let asked = request.asked.clone();
            for (peer, _) in asked {
                self.note_failure(id, peer, AttemptFailure::TimedOut);
            }
            let attempts = self.requests.get(&id).map(|request| request.failures.clone()).unwrap_or_default();
            self.complete(now, id, None, Err(RequestError::TimedOut { attempts }));
            return;
        }
        if request.attempt_deadline.is_some_and(|deadline| now.instant >= deadline) {
            if let Some(&(peer, _)) = request.asked.last() {
                // Its late answer still counts.
                self.note_failure(id, peer, AttemptFailure::TimedOut);
            }
            self.ask(now, id);
            return;
        }
        self.set_request_timer(id);
    }

    /// Keeps what a peer failed to do; of each peer the last failure.
    fn note_failure(&mut self, id: RequestId, peer: PeerId, failure: AttemptFailure) {
        let Some(address) = self.peers.get(&peer).map(|peer| peer.address.clone()) else { return };
        let Some(request) = self.requests.get_mut(&id) else { return };
        match request.failures.iter_mut().find(|attempt| attempt.peer == peer) {
            Some(attempt) if attempt.failure == failure => return,
            Some(attempt) => attempt.failure = failure,
            None => request.failures.push(Attempt { peer, address, failure }),
        }
        let is_its_fault = match failure {
            AttemptFailure::WrongAnswer => true,
            // We do not blame a peer for what we do not read.
            AttemptFailure::TimedOut => !self.is_paused(peer),
            _ => false,
        };
        if is_its_fault {
            self.note_answer(peer, false);
        }
    }

    /// Requests whose peer was lost go to the next.
    pub(super) fn move_requests(
        &mut self,
        now: Now,
        peer: PeerId,
        lost: Vec<RequestId>,
        reason: &DisconnectReason,
    ) {
        for id in lost {
            let Some(request) = self.requests.get(&id) else { continue };
            let failure = failure_by(reason, &request.question);
            let had_failed = request.has_timed_out(peer);
            self.note_failure(id, peer, failure);
            let Some(request) = self.requests.get_mut(&id) else { continue };
            let was_current = request.asked.last().is_some_and(|&(last, _)| last == peer);
            request.asked.retain(|&(asked, _)| asked != peer);
            if was_current {
                if failure == AttemptFailure::Disconnected && !had_failed {
                    // A loss says nothing about the question.
                    request.attempts_left += 1;
                }
                self.ask(now, id);
            }
        }
    }

    /// A peer is not read any more, as nobody takes its messages: the replies it owes lie behind those, so others are
    /// asked, and where there is none the request ends at once.
    pub(super) fn leave_paused(&mut self, now: Now, owed: Vec<RequestId>) {
        for id in owed {
            let current = self.requests.get(&id).and_then(|request| request.asked.last());
            if current.is_some_and(|&(peer, _)| self.is_paused(peer)) {
                self.ask(now, id);
            }
        }
        self.ask_waiting(now);
    }

    /// Asks for whoever waits, as a peer has become free, or is gone for ever.
    pub(super) fn ask_waiting(&mut self, now: Now) {
        if !self.started {
            return;
        }
        let waiting: Vec<RequestId> = self.waiting.iter().copied().collect();
        for id in waiting {
            self.ask(now, id);
        }
    }

    /// Asks for whoever waits for headers, until every peer is asked for some.
    fn ask_waiting_for_headers(&mut self, now: Now) {
        let is_free = |session: &Session| !session.paused && session.outstanding.may_take_headers(now);
        let mut next = self.waiting.first().copied();
        while let Some(id) = next
            && self.peers.values().any(|peer| peer.session().is_some_and(is_free))
        {
            if self.requests.get(&id).is_some_and(|request| matches!(request.question, Question::Headers(_))) {
                self.ask(now, id);
            }
            next = self.waiting.range((Bound::Excluded(id), Bound::Unbounded)).next().copied();
        }
    }

    /// A peer has connected, or is read again: it takes over from those that are silent.
    pub(super) fn offer_peer(&mut self, now: Now, peer: PeerId) {
        let Some(session) = self.peers.get(&peer).and_then(|peer| peer.session()) else { return };
        let has_one_chance = |request: &OpenRequest| {
            let may_move = request.attempts_left > 0 && request.may_ask(peer, session);
            !request.asked.is_empty() && request.attempt_deadline.is_none() && may_move
        };
        let mut offered: Vec<RequestId> =
            self.requests.iter().filter(|(_, request)| has_one_chance(request)).map(|(&id, _)| id).collect();
        offered.sort_unstable();
        for id in offered {
            let Some(request) = self.requests.get_mut(&id) else { continue };
            if request.asked.last().is_some_and(|&(current, _)| request.has_timed_out(current)) {
                self.ask(now, id);
            } else if let Some(deadline) = request.deadline {
                let left = deadline.saturating_duration_since(now.instant);
                request.attempt_deadline = Some(now.instant + left / 2);
                self.set_request_timer(id);
            }
        }
    }

    fn set_request_timer(&mut self, id: RequestId) {
        if let Some(request) = self.requests.get_mut(&id) {
            let at = [request.deadline, request.attempt_deadline].into_iter().flatten().min();
            Self::set_timer(&mut self.timers, &mut request.timer, Timer::Request(id), at);
        }
    }

    /// Ends a request, once.
    fn complete(&mut self, now: Now, id: RequestId, peer: Option<PeerId>, result: Result<Answer, RequestError>) {
        let Some(mut request) = self.requests.remove(&id) else { return };
        self.requests_cost -= request.cost;
        self.waiting.remove(&id);
        Self::set_timer(&mut self.timers, &mut request.timer, Timer::Request(id), None);
        let is_headers = matches!(request.question, Question::Headers(_));
        let mut leaves_headers = false;
        for &(asked, connection) in &request.asked {
            if let Some(session) = self.session_mut(asked, connection) {
                session.outstanding.end(id);
                leaves_headers |= session.outstanding.gives_up_headers_at().is_some();
            }
        }
        if let Some(peer) = peer {
            self.note_answer(peer, true);
        }
        self.actions.push_back(Action::Complete {
            request: id,
            outcome: RequestOutcome {
                question: request.question,
                peer: peer.and_then(|peer| self.peers.get(&peer)).map(|peer| peer.address.clone()),
                result,
                took: now.instant.saturating_duration_since(request.since),
            },
        });
        if leaves_headers && is_headers {
            // Whoever waits for the same peer learns how long.
            self.ask_waiting(now);
        }
    }

    /// Whether a block was asked of this peer, also by a request that has ended.
    pub(crate) fn wants_block(&self, peer: PeerId, hash: &BlockHash) -> bool {
        let session = self.peers.get(&peer).and_then(|peer| peer.session());
        session.is_some_and(|session| session.outstanding.wants_block(hash))
    }

    /// Takes a transaction somebody asked for; gives it back if nobody did.
    pub(super) fn answer_transaction(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        transaction: Transaction,
    ) -> Option<Transaction> {
        let txid = transaction.txid();
        let taken = self.session_mut(peer, connection).and_then(|s| s.outstanding.take_transaction(&txid));
        match taken {
            None => Some(transaction),
            Some(None) => None,
            Some(Some(id)) => {
                self.transaction_found(now, id, peer, connection, transaction);
                None
            }
        }
    }

    fn transaction_found(
        &mut self,
        now: Now,
        id: RequestId,
        peer: PeerId,
        connection: ConnectionId,
        transaction: Transaction,
    ) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let txids = match &request.question {
            Question::Transactions(txids) => txids,
            _ => return self.complete(now, id, Some(peer), Ok(Answer::Transaction(transaction))),
        };
        request.found.insert(transaction.txid(), transaction);
        if request.found.len() == txids.len() {
            // In the order asked.
            let results = txids.iter().filter_map(|txid| request.found.remove(txid)).map(Ok).collect();
            self.complete(now, id, Some(peer), Ok(Answer::Transactions(results)));
        } else {
            self.not_found(now, id, peer, connection);
        }
    }

    /// Something is missing: once the peer has answered for everything it was asked, it is another's turn.
    fn not_found(&mut self, now: Now, id: RequestId, peer: PeerId, connection: ConnectionId) {
        if self.session_mut(peer, connection).is_some_and(|session| session.outstanding.owes(id)) {
            return;
        }
        self.note_failure(id, peer, AttemptFailure::NotFound);
        self.note_answer(peer, true);
        let Some(request) = self.requests.get_mut(&id) else { return };
        let was_current = request.asked.last().is_some_and(|&(last, _)| last == peer);
        request.asked.retain(|&(asked, _)| asked != peer);
        if was_current || request.asked.is_empty() {
            self.ask(now, id);
        }
    }

    /// Takes what a peer said it does not have; gives back the items nobody asked for.
    pub(super) fn answer_not_found(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        items: Vec<Inventory>,
    ) -> Vec<Inventory> {
        let mut unclaimed = Vec::new();
        for item in items {
            let taken = item.txid().and_then(|txid| {
                let session = self.session_mut(peer, connection)?;
                session.outstanding.take_transaction(&txid)
            });
            match taken {
                None => unclaimed.push(item),
                Some(None) => {}
                Some(Some(id)) => self.not_found(now, id, peer, connection),
            }
        }
        unclaimed
    }

    /// Takes a block somebody asked for; gives it back if nobody did.
    pub(super) fn answer_block(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        block: Block,
    ) -> Option<Block> {
        match self.session_mut(peer, connection).and_then(|s| s.outstanding.take_block(&block.hash())) {
            None => Some(block),
            Some(None) => None,
            Some(Some(id)) => {
                self.complete(now, id, Some(peer), Ok(Answer::Block(block)));
                None
            }
        }
    }

    /// Takes headers that answer the request in flight; gives them back if they do not.
    pub(super) fn answer_headers(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        headers: Vec<BlockHeader>,
    ) -> Option<Vec<BlockHeader>> {
        let Some(session) = self.session_mut(peer, connection) else { return Some(headers) };
        let Some(request) = session.outstanding.take_headers(&headers) else { return Some(headers) };
        if let Some(id) = request {
            self.complete(now, id, Some(peer), Ok(Answer::Headers(headers)));
        }
        self.ask_waiting_for_headers(now);
        None
    }

    /// Keeps the addresses a peer sent; true if somebody had asked for them.
    pub(super) fn answer_addresses(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        addresses: &[TimestampedAddress],
    ) -> bool {
        let Some(session) = self.session_mut(peer, connection) else { return false };
        if addresses.is_empty() {
            return false;
        }
        session.addresses = addresses.to_vec();
        let requests = session.outstanding.take_addresses();
        for &id in &requests {
            self.complete(now, id, Some(peer), Ok(Answer::Addresses(addresses.to_vec())));
        }
        !requests.is_empty()
    }

    /// Takes the pong to a caller's ping; false if it is nobody's.
    pub(super) fn answer_ping(&mut self, now: Now, peer: PeerId, connection: ConnectionId, nonce: u64) -> bool {
        let Some(session) = self.session_mut(peer, connection) else { return false };
        let Some((request, sent_at)) = session.outstanding.take_ping(nonce) else { return false };
        if let Some(id) = request {
            let round_trip = now.instant.saturating_duration_since(sent_at);
            self.complete(now, id, Some(peer), Ok(Answer::RoundTrip(round_trip)));
        }
        true
    }

    /// A reply over the stream threshold is being skipped; false if nobody asked for it.
    pub(super) fn answer_too_large(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        block: Option<BlockHash>,
        length: u64,
    ) -> bool {
        let limit = self.config.stream_threshold;
        let Some(session) = self.session_mut(peer, connection) else { return false };
        let taken = match block {
            Some(hash) => session.outstanding.take_block(&hash),
            // The id of a transaction is not in its first bytes; nodes answer in the order asked.
            None => session.outstanding.take_first_transaction(),
        };
        if let Some(Some(id)) = taken {
            self.complete(now, id, Some(peer), Err(RequestError::TooLarge { length, limit }));
        }
        taken.is_some()
    }

    #[cfg(test)]
    pub(super) fn check_requests(&self, timers: &mut BTreeSet<(Instant, Timer)>) {
        assert_eq!(self.requests_cost, self.requests.values().map(|request| request.cost).sum());
        assert!(self.requests_cost <= self.config.requests_limit);
        for (&id, request) in &self.requests {
            let waits = self.waiting.contains(&id);
            assert!(waits || !request.asked.is_empty(), "{id:?} waits, or somebody was asked");
            let could_be_asked = self.started
                && request.attempts_left > 0
                && self.peers.iter().any(|(&id, peer)| {
                    let may_ask = |session: &Session| match request.question {
                        Question::Headers(_) => {
                            !session.outstanding.has_headers_in_flight() && request.may_ask(id, session)
                        }
                        _ => request.may_ask(id, session),
                    };
                    peer.is_read() && peer.session().is_some_and(may_ask)
                });
            let looks_on = !waits && request.attempt_deadline.is_some();
            assert!(looks_on || !could_be_asked, "{id:?} does not hang while a peer could be asked");
            assert_eq!(request.deadline.is_some(), self.started, "{id:?} ends");
            let due = [request.deadline, request.attempt_deadline].into_iter().flatten().min();
            assert_eq!(request.timer, due, "{id:?}");
            timers.extend(due.map(|at| (at, Timer::Request(id))));
            for &(peer, connection) in &request.asked {
                let session = self.peers[&peer].session().expect("whoever was asked is connected");
                assert_eq!(session.connection, connection);
                assert!(session.outstanding.owes(id), "{peer} owes {id:?} an answer");
                assert!(request.tried.contains(&connection));
            }
            let peers: HashSet<PeerId> = request.failures.iter().map(|attempt| attempt.peer).collect();
            assert_eq!(peers.len(), request.failures.len(), "{id:?} lists each peer once: {:?}", request.failures);
        }
        assert!(self.waiting.iter().all(|id| self.requests.contains_key(id)), "only open requests wait");
        for (&peer, session) in self.peers.iter().filter_map(|(id, peer)| Some((id, peer.session()?))) {
            session.outstanding.check();
            for id in &session.outstanding.requests() {
                let asked = self.requests.get(id).is_some_and(|r| r.asked.contains(&(peer, session.connection)));
                assert!(asked, "{id:?} waits for {peer}");
            }
        }
    }
}

/// What the end of a connection means to a question that was asked on it.
fn failure_by(reason: &DisconnectReason, question: &Question) -> AttemptFailure {
    match (reason, question) {
        (DisconnectReason::Protocol(ProtocolError::BadMerkleRoot), Question::Block(_))
        | (DisconnectReason::Protocol(ProtocolError::DisconnectedHeaders), Question::Headers(_)) => {
            AttemptFailure::WrongAnswer
        }
        _ => AttemptFailure::Disconnected,
    }
}

fn question_len(question: &Question) -> usize {
    match question {
        Question::Transactions(txids) => txids.len() * 128,
        Question::Headers(request) => request.locator.len() * 64,
        _ => 0,
    }
}

/// What a request is charged besides its message, bytes.
const REQUEST_COST: usize = 512;
