//! Failover: what a peer failed to do goes to another, or waits for one.
//!
//! Layer 4.

use std::ops::Bound;
use std::time::Duration;

use super::outstanding::Walk;
use super::pool::Session;
use super::request::{OpenRequest, RequestId, is_prompt};
use super::{Engine, Now};
use crate::error::{Attempt, AttemptFailure, DisconnectReason};
use crate::peer::{ConnectionId, PeerId};
use crate::proto::ProtocolError;
use crate::request::Question;

impl Engine {
    /// Keeps what a peer failed to do; of each peer the last failure.
    pub(super) fn note_failure(&mut self, now: Now, id: RequestId, peer: PeerId, failure: AttemptFailure) {
        let Some(address) = self.peers.get(&peer).map(|peer| peer.address.clone()) else { return };
        let Some(request) = self.requests.get_mut(&id) else { return };
        match request.failures.iter_mut().find(|attempt| attempt.peer == peer) {
            Some(attempt) if attempt.failure == failure => return,
            Some(attempt) => attempt.failure = failure,
            None => request.failures.push(Attempt { peer, address, failure }),
        }
        let stalls = failure == AttemptFailure::TimedOut && is_prompt(&request.question);
        let asked = request.asked.iter().find(|asked| asked.peer == peer && stalls);
        let stalled_since = asked.map(|asked| asked.since);
        let is_its_fault = match failure {
            AttemptFailure::WrongAnswer => true,
            // We do not blame a peer for what we do not read.
            AttemptFailure::TimedOut => !self.is_held_up(peer),
            _ => false,
        };
        if is_its_fault && !self.is_check(id) {
            self.note_answer(peer, false);
            if let Some(since) = stalled_since {
                self.note_stalled(now, peer, since);
            }
        }
    }

    /// Requests whose peer was lost go to the next.
    pub(super) fn move_requests(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        lost: Vec<RequestId>,
        reason: &DisconnectReason,
    ) {
        for id in lost {
            if self.is_download(id) {
                self.lose_download(now, id, peer, connection);
                continue;
            }
            let Some(request) = self.requests.get(&id) else { continue };
            let failure = failure_by(reason, &request.question);
            let had_failed = request.has_timed_out(peer);
            self.note_failure(now, id, peer, failure);
            let Some(request) = self.requests.get_mut(&id) else { continue };
            let was_current = request.asked.last().is_some_and(|last| last.peer == peer);
            request.asked.retain(|asked| asked.peer != peer);
            if was_current {
                let closed_by_it = matches!(reason, DisconnectReason::ClosedByPeer | DisconnectReason::Io { .. });
                match request.question {
                    // Nodes ban for the index of a transaction that the block does not have: the others would, too.
                    Question::BlockTransactions(_) if closed_by_it => request.attempts_left = 0,
                    Question::Mempool { .. } => {}
                    // A loss says nothing about the question, but for those that nodes punish with it.
                    _ if failure == AttemptFailure::Disconnected && !had_failed => request.attempts_left += 1,
                    _ => {}
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
            if current.is_some_and(|current| self.is_paused(current.peer)) {
                self.ask(now, id);
            } else {
                self.leave_paused_download(now, id);
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
        self.download_waiting(now);
    }

    /// Asks for whoever waits to walk along the chain, until every peer is asked.
    pub(super) fn ask_waiting_for(&mut self, now: Now, walk: Walk) {
        let is_free = |session: &Session| !session.paused && session.outstanding.may_walk(walk, now);
        let mut next = self.waiting.first().copied();
        while let Some(id) = next
            && self.peers.values().any(|peer| peer.session().is_some_and(is_free))
        {
            let question = self.requests.get(&id).map(|request| &request.question);
            if question.and_then(Walk::of).is_some_and(|(other, ..)| other == walk) {
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
            if request.asked.last().is_some_and(|current| request.has_timed_out(current.peer)) {
                self.ask(now, id);
            } else if let Some(deadline) = request.deadline {
                let left = deadline.saturating_duration_since(now.instant);
                request.attempt_deadline = Some(now.instant + left / 2);
                self.set_request_timer(id);
            }
        }
    }

    /// A peer has no room for what it is to send: what it refused is asked of another, or later of itself. It refuses
    /// in the order asked, and without a name.
    pub(super) fn too_busy(&mut self, now: Now, peer: PeerId, connection: ConnectionId) -> bool {
        let Some(session) = self.session_mut(peer, connection) else { return false };
        let Some(refused) = session.outstanding.take_first_block() else { return false };
        let wait = BUSY_MIN.saturating_mul(1 << session.refusals.min(10)).min(BUSY_MAX);
        session.refusals = session.refusals.saturating_add(1);
        session.busy_until = Some(now.instant + wait);
        let Some(id) = refused else { return true };
        if self.is_download(id) {
            self.refuse_download(now, id, peer, connection);
            return true;
        }
        self.note_failure(now, id, peer, AttemptFailure::TooBusy);
        if let Some(request) = self.requests.get_mut(&id) {
            // Its time will come again, so it has not failed.
            request.tried.remove(&connection);
            request.attempts_left += 1;
            let was_current = request.asked.last().is_some_and(|last| last.peer == peer);
            request.asked.retain(|asked| asked.peer != peer);
            if was_current || request.asked.is_empty() {
                self.ask(now, id);
            }
        }
        true
    }
}

/// What the end of a connection means to a question that was asked on it.
fn failure_by(reason: &DisconnectReason, question: &Question) -> AttemptFailure {
    let DisconnectReason::Protocol(error) = reason else { return AttemptFailure::Disconnected };
    let is_wrong_answer = match error {
        ProtocolError::BadMerkleRoot => {
            matches!(question, Question::Block(_) | Question::CompactBlock(_) | Question::BlockTransactions(_))
        }
        ProtocolError::BadPartialTree(_) => matches!(question, Question::FilteredBlock(_)),
        ProtocolError::DisconnectedHeaders => {
            matches!(question, Question::Headers(_) | Question::EnrichedHeaders(_))
        }
        ProtocolError::BadProof(_) => matches!(question, Question::EnrichedHeaders(_)),
        _ => false,
    };
    if is_wrong_answer { AttemptFailure::WrongAnswer } else { AttemptFailure::Disconnected }
}

/// How long a peer that has no room is left alone, at least and at most.
const BUSY_MIN: Duration = Duration::from_secs(5);
const BUSY_MAX: Duration = Duration::from_secs(60);
