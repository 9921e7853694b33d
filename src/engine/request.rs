//! Requests: each is asked of one peer after the other until it ends, exactly once.
//!
//! Layer 4. Section 4 of the wire specification: there are no request ids, so replies are told by their content.

#[cfg(test)]
use std::collections::BTreeSet;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::{Duration, Instant};

use super::outstanding::Walk;
use super::pool::{Session, Size, Standing};
use super::{Action, Engine, LONGEST, Now, RequestOutcome, Timer};
use crate::error::{Attempt, AttemptFailure, BlockError, RequestError};
use crate::message::{Inventory, InventoryKind, Message, Transaction};
use crate::peer::{ConnectionId, PeerId};
use crate::request::{Answer, Question, RequestOptions, TransactionNotFound};
use crate::wire::{BlockHash, Txid};

/// Identifies a request; later ones have greater ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RequestId(pub(super) u64);

/// A request that has not ended.
#[derive(Debug)]
pub(super) struct OpenRequest {
    pub(super) question: Question,
    /// The only peer that may be asked.
    only: Option<PeerId>,
    /// It asks a peer whether it is on our chain.
    pub(super) is_check: bool,
    pub(super) attempts_left: usize,
    timeout: Duration,
    /// When its time began to run.
    since: Instant,
    /// `None` before the start.
    pub(super) deadline: Option<Instant>,
    /// When the next peer is asked if the current one has not answered, or a peer that was busy is free.
    pub(super) attempt_deadline: Option<Instant>,
    timer: Option<Instant>,
    /// Whoever was asked and may still answer; the last one is the current one.
    pub(super) asked: Vec<Asked>,
    /// Whoever was asked, so as not to ask twice.
    pub(super) tried: HashSet<ConnectionId>,
    pub(super) failures: Vec<Attempt>,
    /// Of a request for many transactions: what came.
    pub(super) found: HashMap<Txid, Transaction>,
    /// Of a request for the pool: what was announced.
    pub(super) heard: Vec<Txid>,
    /// What it is charged, with what came for it so far.
    cost: usize,
}

/// A peer that was asked on a connection that lasts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) peer: PeerId,
    connection: ConnectionId,
    pub(super) since: Instant,
}

impl OpenRequest {
    /// Whether a peer may be asked: it was not on this connection, and has not answered on an earlier one.
    pub(super) fn may_ask(&self, peer: PeerId, session: &Session) -> bool {
        let is_named = self.only == Some(peer);
        let walks = Walk::of(&self.question).is_some();
        let has_standing = match session.standing {
            Standing::Verified => true,
            // It may be on another chain: what it says of the chain counts only for whoever wants to hear that peer.
            Standing::Unverified => is_named || !walks,
            Standing::Checking => self.is_check,
        };
        let has_answered = |attempt: &Attempt| {
            attempt.peer == peer
                && matches!(attempt.failure, AttemptFailure::NotFound | AttemptFailure::WrongAnswer)
        };
        has_standing
            && self.only.is_none_or(|only| only == peer)
            && !self.tried.contains(&session.connection)
            && !self.failures.iter().any(has_answered)
    }

    /// Whether a peer that may be asked can be asked now.
    fn is_free(&self, session: &Session, now: Now) -> bool {
        let is_busy = asks_block(&self.question) && session.is_busy(now);
        let outstanding = &session.outstanding;
        let may_walk = Walk::of(&self.question).is_none_or(|(walk, locator, stop)| {
            // A node in initial block download never answers, and is checked again all the same.
            outstanding.may_walk(walk, now) || (self.is_check && outstanding.may_repeat(walk, locator, stop))
        });
        !is_busy && may_walk
    }

    /// When a peer that may be asked is free, if that is known.
    fn free_at(&self, session: &Session) -> Option<Instant> {
        match Walk::of(&self.question) {
            Some((walk, ..)) => session.outstanding.gives_up_walk_at(walk),
            None if asks_block(&self.question) => session.busy_until,
            None => None,
        }
    }

    /// Whether a peer has let its share of the time pass.
    pub(super) fn has_timed_out(&self, peer: PeerId) -> bool {
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
        let id = self.reserve_request(now, question, options)?;
        self.begin_request(now, id);
        Ok(id)
    }

    /// Makes room for a request, which is to be begun then.
    pub(super) fn reserve_request(
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
        // Another peer would end its connection, too.
        let attempts = match question {
            Question::Mempool { .. } => 1,
            _ => self.config.request_attempts,
        };
        let id = RequestId(self.next_id());
        self.requests_cost += cost;
        self.requests.insert(
            id,
            OpenRequest {
                question,
                only: options.peer,
                is_check: false,
                attempts_left: options.attempts.unwrap_or(attempts).max(1),
                timeout: options.timeout.unwrap_or(configured),
                since: now.instant,
                deadline: None,
                attempt_deadline: None,
                timer: None,
                asked: Vec::new(),
                tried: HashSet::new(),
                failures: Vec::new(),
                found: HashMap::new(),
                heard: Vec::new(),
                cost,
            },
        );
        if let Some(peer) = options.avoid {
            self.note_failure(now, id, peer, AttemptFailure::WrongAnswer);
        }
        Ok(id)
    }

    pub(super) fn begin_request(&mut self, now: Now, id: RequestId) {
        if self.started {
            self.start_request(now, id);
        } else {
            self.waiting.insert(id);
        }
    }

    /// Ends a request before its time.
    pub(crate) fn cancel(&mut self, now: Now, id: RequestId) {
        self.complete(now, id, None, Err(RequestError::Cancelled));
    }

    /// Requests of callers that have not ended, oldest first.
    pub(crate) fn open_requests(&self) -> Vec<RequestId> {
        let mut open: Vec<_> = self.requests.keys().copied().filter(|&id| !self.is_ours(id)).collect();
        open.sort_unstable();
        open
    }

    /// Ends every request with the same error; nothing begins any more.
    pub(crate) fn fail_all(&mut self, now: Now, error: &RequestError) {
        self.over = true;
        self.end_watches();
        self.end_broadcasts(now);
        self.fail_downloads(if *error == RequestError::Crashed {
            &BlockError::Crashed
        } else {
            &BlockError::Shutdown
        });
        let mut all: Vec<_> = self.requests.keys().copied().collect();
        all.sort_unstable();
        for id in all {
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
    pub(super) fn ask(&mut self, now: Now, id: RequestId) {
        let Some(request) = self.requests.get(&id) else { return };
        let size = Size::of(&request.question);
        let mut candidates = 0_u32;
        let next = if request.attempts_left == 0 {
            None
        } else {
            let untried = |peer: PeerId, session: &Session| request.may_ask(peer, session);
            let with_addresses = match request.question {
                Question::Addresses => {
                    self.best_peer(now, size, |peer, s| untried(peer, s) && !s.addresses.is_empty())
                }
                _ => None,
            };
            candidates = self.candidates(untried);
            with_addresses
                .or_else(|| self.best_peer(now, size, |peer, s| untried(peer, s) && request.is_free(s, now)))
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
        self.note_asked(peer);
        let patience = self.patience(peer);
        let (Some(request), Some(session)) =
            (self.requests.get_mut(&id), self.peers.get_mut(&peer).and_then(|peer| peer.session_mut()))
        else {
            return;
        };
        self.waiting.remove(&id);
        let connection = session.connection;
        request.tried.insert(connection);
        request.asked.push(Asked { peer, connection, since: now.instant });
        let others = candidates.saturating_sub(1).min(request.attempts_left.saturating_sub(1) as u32);
        request.attempts_left -= 1;
        let deadline = request.deadline.unwrap_or(now.instant);
        let share = deadline.saturating_duration_since(now.instant) / (others + 1);
        // Whoever answers such questions at once and does not now has become slow.
        let share = if is_prompt(&request.question) { share.min(patience) } else { share };
        request.attempt_deadline = (others > 0).then(|| now.instant + share);
        let outstanding = &mut session.outstanding;
        outstanding.ask(&request.question, id, nonce, now);
        if let Question::Block(hash) = &request.question
            && outstanding.has_streamed_in_vain(hash)
        {
            // Else the one block that comes would be taken for theirs.
            self.actions.push_back(Action::ForgetBlocks { connection });
        }
        let block = |kind, hash: &BlockHash| Message::GetData(vec![Inventory { kind, hash: *hash.as_wire() }]);
        let message = match &request.question {
            Question::Transaction(txid) => Message::GetData(vec![Inventory::transaction(*txid)]),
            Question::Transactions(txids) => {
                let missing = txids.iter().copied().filter(|txid| !request.found.contains_key(txid));
                let ask = |txid| {
                    outstanding.ask_transaction(txid, id);
                    Inventory::transaction(txid)
                };
                Message::GetData(missing.map(ask).collect())
            }
            Question::DataRefTransaction(txid) => {
                let kind = InventoryKind::DataRefTransaction;
                Message::GetData(vec![Inventory { kind, hash: *txid.as_wire() }])
            }
            Question::Block(hash) => block(InventoryKind::Block, hash),
            Question::FilteredBlock(hash) => block(InventoryKind::FilteredBlock, hash),
            Question::CompactBlock(hash) => block(InventoryKind::CompactBlock, hash),
            Question::BlockTransactions(wanted) => Message::GetBlockTxn(wanted.clone()),
            Question::Headers(question) => Message::GetHeaders(question.clone()),
            Question::EnrichedHeaders(question) => Message::GetHdrsEn(question.clone()),
            Question::BlockHashes(question) => Message::GetBlocks(question.clone()),
            Question::Mempool { age_seconds, .. } => Message::Mempool { age_seconds: *age_seconds },
            Question::Addresses => Message::GetAddr,
            Question::Ping => Message::Ping { nonce },
        };
        // A node answers the first `getaddr` only (trap of section 2.14).
        let is_first = !matches!(request.question, Question::Addresses)
            || !std::mem::replace(&mut session.asked_addresses, true);
        let known_addresses = match request.question {
            Question::Addresses if !session.addresses.is_empty() => Some(session.addresses.clone()),
            _ => None,
        };
        self.actions.extend(is_first.then_some(Action::Send { connection, message }));
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
            } else if asked.into_iter().all(|asked| self.is_paused(asked.peer)) {
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
        } else if is_hopeless || request.attempts_left == 0 || (was_answered && !busy && !self.expects_peer(only)) {
            self.give_up(now, id);
        } else {
            self.wait(id);
        }
    }

    /// Lets a request wait for a peer to connect or to be free.
    fn wait(&mut self, id: RequestId) {
        let at = self.requests.get(&id).and_then(|request| self.free_at(request));
        self.waiting.insert(id);
        if let Some(request) = self.requests.get_mut(&id) {
            request.attempt_deadline = at;
        }
        self.set_request_timer(id);
    }

    /// When the first peer that keeps a request waiting is given up, or free.
    fn free_at(&self, request: &OpenRequest) -> Option<Instant> {
        let sessions = self.peers.iter().filter_map(|(&id, peer)| Some((id, peer.session()?)));
        sessions
            .filter(|&(id, session)| !session.paused && request.may_ask(id, session))
            .filter_map(|(_, session)| request.free_at(session))
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
        if !request.heard.is_empty() {
            let is_due = |at: Option<Instant>| at.is_some_and(|at| now.instant >= at);
            if is_due(request.deadline) || is_due(request.attempt_deadline) {
                self.complete_mempool(now, id);
            } else {
                self.set_request_timer(id);
            }
            return;
        }
        if request.deadline.is_some_and(|deadline| now.instant >= deadline) {
            if request.asked.is_empty() && request.failures.is_empty() {
                self.complete(now, id, None, Err(RequestError::NoPeers));
                return;
            }
            let asked = request.asked.clone();
            for Asked { peer, .. } in asked {
                self.note_failure(now, id, peer, AttemptFailure::TimedOut);
            }
            let attempts = self.requests.get(&id).map(|request| request.failures.clone()).unwrap_or_default();
            self.complete(now, id, None, Err(RequestError::TimedOut { attempts }));
            return;
        }
        if request.attempt_deadline.is_some_and(|deadline| now.instant >= deadline) {
            if let Some(&Asked { peer, .. }) = request.asked.last() {
                // Its late answer still counts.
                self.note_failure(now, id, peer, AttemptFailure::TimedOut);
            }
            self.ask(now, id);
            return;
        }
        self.set_request_timer(id);
    }

    /// When a request gives its peer up, or takes its answer for complete.
    pub(super) fn set_attempt_deadline(&mut self, id: RequestId, at: Instant) {
        if let Some(request) = self.requests.get_mut(&id) {
            request.attempt_deadline = Some(at);
        }
        self.set_request_timer(id);
    }

    /// Charges a request for what came for it and is kept; one that would go over the limit ends.
    pub(super) fn charge_found(&mut self, now: Now, id: RequestId, len: usize) -> bool {
        let Some(request) = self.requests.get_mut(&id) else { return false };
        let limit = self.config.requests_limit;
        let cost = len + FOUND_COST;
        let length = (request.cost + cost) as u64;
        if self.requests_cost + cost > limit {
            self.complete(now, id, None, Err(RequestError::TooLarge { length, limit: limit as u64 }));
            return false;
        }
        request.cost += cost;
        self.requests_cost += cost;
        true
    }

    pub(super) fn set_request_timer(&mut self, id: RequestId) {
        if let Some(request) = self.requests.get_mut(&id) {
            let at = [request.deadline, request.attempt_deadline].into_iter().flatten().min();
            Self::set_timer(&mut self.timers, &mut request.timer, Timer::Request(id), at);
        }
    }

    /// Ends a request, once.
    pub(super) fn complete(
        &mut self,
        now: Now,
        id: RequestId,
        peer: Option<PeerId>,
        result: Result<Answer, RequestError>,
    ) {
        let Some(mut request) = self.requests.remove(&id) else { return };
        self.requests_cost -= request.cost;
        self.waiting.remove(&id);
        Self::set_timer(&mut self.timers, &mut request.timer, Timer::Request(id), None);
        let walk = Walk::of(&request.question).map(|(walk, ..)| walk);
        let is_bulk = Size::of(&request.question) == Size::Bulk;
        let mut leaves_walk = false;
        let answered = peer.and_then(|peer| request.asked.iter().find(|asked| asked.peer == peer));
        let answered = answered.map(|asked| asked.since);
        for &Asked { peer: asked, connection, .. } in &request.asked {
            if let Some(session) = self.session_mut(asked, connection) {
                session.outstanding.end(id);
                leaves_walk |= walk.is_some_and(|walk| session.outstanding.gives_up_walk_at(walk).is_some());
            }
        }
        if let Some(peer) = peer {
            self.note_answer(peer, true);
            if let (Some(since), Ok(answer)) = (answered, &result) {
                self.measure(now, peer, since, answer);
            }
        }
        let mut result = Some(result);
        if !self.is_ours(id)
            && let Some(result) = result.take()
        {
            self.actions.push_back(Action::Complete {
                request: id,
                outcome: RequestOutcome {
                    question: request.question,
                    peer: peer.and_then(|peer| self.peers.get(&peer)).map(|peer| peer.address.clone()),
                    peer_id: peer,
                    result,
                    took: now.instant.saturating_duration_since(request.since),
                },
            });
        }
        if leaves_walk {
            // Whoever waits for the same peer learns how long.
            self.ask_waiting(now);
        } else if is_bulk {
            // A peer may have room for a block more.
            self.download_waiting(now);
        }
        if let Some(result) = result {
            self.take_own_answer(now, id, peer, result);
        }
    }

    /// Whether a request is the engine's own: of a watch, or of the check of a peer.
    fn is_ours(&self, id: RequestId) -> bool {
        self.watches.owns(id) || self.is_check(id)
    }

    fn take_own_answer(
        &mut self,
        now: Now,
        id: RequestId,
        peer: Option<PeerId>,
        result: Result<Answer, RequestError>,
    ) {
        if self.is_check(id) {
            self.take_check(now, id, result);
        } else {
            self.watch_answer(now, id, peer, result);
        }
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
                    let walk = Walk::of(&request.question).map(|(walk, ..)| walk);
                    let may_ask = |session: &Session| {
                        let is_busy = walk.is_some_and(|walk| session.outstanding.is_walking(walk))
                            || (asks_block(&request.question) && session.busy_until.is_some());
                        !is_busy && request.may_ask(id, session)
                    };
                    peer.is_read() && peer.session().is_some_and(may_ask)
                });
            let looks_on = !waits && request.attempt_deadline.is_some();
            assert!(looks_on || !could_be_asked, "{id:?} does not hang while a peer could be asked");
            assert_eq!(request.deadline.is_some(), self.started, "{id:?} ends");
            let due = [request.deadline, request.attempt_deadline].into_iter().flatten().min();
            assert_eq!(request.timer, due, "{id:?}");
            timers.extend(due.map(|at| (at, Timer::Request(id))));
            for &Asked { peer, connection, .. } in &request.asked {
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
            for id in session.outstanding.requests().iter().filter(|&&id| !self.is_download(id)) {
                let asked = self
                    .requests
                    .get(id)
                    .is_some_and(|r| r.asked.iter().any(|a| (a.peer, a.connection) == (peer, session.connection)));
                assert!(asked, "{id:?} waits for {peer}");
            }
        }
    }
}

fn question_len(question: &Question) -> usize {
    match question {
        Question::Transactions(txids) => txids.len() * 128,
        Question::BlockTransactions(wanted) => wanted.indexes().len() * 8,
        _ => Walk::of(question).map_or(0, |(_, locator, _)| locator.len() * 96),
    }
}

/// Whether a node refuses it when it has no room for what it is to send.
fn asks_block(question: &Question) -> bool {
    matches!(
        question,
        Question::Block(_)
            | Question::FilteredBlock(_)
            | Question::CompactBlock(_)
            | Question::BlockTransactions(_)
    )
}

/// Whether a node answers it at once, as it has nothing to gather.
pub(super) fn is_prompt(question: &Question) -> bool {
    matches!(question, Question::Transaction(_) | Question::Transactions(_) | Question::Headers(_) | Question::Ping)
}

/// What a request is charged besides its message, bytes.
const REQUEST_COST: usize = 512;
/// What each part of a reply is charged besides its bytes.
const FOUND_COST: usize = 256;
