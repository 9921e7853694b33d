//! Whether a connected peer is one for us: its services, what it calls itself, and that it is on our chain.
//!
//! Layer 4. BCH and XEC share our magic and our past, so only a header after the fork tells them from us.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Engine, Standing, State};
use crate::engine::fork::{self, Verdict};
use crate::engine::outstanding::Walk;
use crate::engine::request::RequestId;
use crate::engine::{Action, Now, Timer};
use crate::error::{DisconnectReason, RequestError};
use crate::message::Services;
use crate::peer::PeerId;
use crate::queue::events::Event;
use crate::request::{Answer, Question, RequestOptions};

/// The checks under way: each is a request of our own.
#[derive(Debug, Default)]
pub(in crate::engine) struct Checks {
    requests: BTreeMap<RequestId, PeerId>,
}

impl Checks {
    #[cfg(test)]
    pub(super) fn is_under_way(&self, peer: PeerId) -> bool {
        self.requests.values().any(|&checked| checked == peer)
    }
}

impl Engine {
    /// Why a peer is none for us, by its `version` alone.
    pub(super) fn why_unacceptable(&self, id: PeerId) -> Option<DisconnectReason> {
        let peer = self.peers.get(&id)?;
        let version = &peer.session()?.version;
        if self.config.fork_marker.is_some() && fork::agent_of_other_chain(version.user_agent.as_str()).is_some() {
            return Some(DisconnectReason::OtherChain { user_agent: version.user_agent.to_string() });
        }
        // Whoever names a peer knows what it is good for.
        if !peer.named && !version.services.contains(Services::NETWORK) {
            return Some(DisconnectReason::MissingServices { services: version.services });
        }
        None
    }

    /// Asks a peer for the header after the fork, or counts it where there is none to ask for.
    pub(super) fn check_chain(&mut self, now: Now, id: PeerId) {
        let Some(marker) = &self.config.fork_marker else { return self.verified(now, id) };
        let question = fork::question(marker);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        // A caller's question that was not answered stands in the way until it is given up: a check would end before it
        // was sent.
        let free_at = peer.session().and_then(|session| {
            let outstanding = &session.outstanding;
            let is_same = outstanding.may_repeat(Walk::Headers, &question.locator, question.stop);
            outstanding.gives_up_walk_at(Walk::Headers).filter(|_| !is_same)
        });
        if let Some(at) = free_at.filter(|&at| at > now.instant) {
            Self::set_timer(&mut self.timers, &mut peer.timer, Timer::Peer(id), Some(at));
            return;
        }
        let question = Question::Headers(question);
        let options = RequestOptions::new().peer(id).attempts(1).timeout(self.config.verify_timeout);
        match self.reserve_request(now, question, &options) {
            Ok(request) => {
                self.checks.requests.insert(request, id);
                if let Some(request) = self.requests.get_mut(&request) {
                    request.is_check = true;
                }
                self.begin_request(now, request);
            }
            // There is no room among the callers' requests, so it has to be asked again.
            Err(_) => self.unverified(now, id),
        }
    }

    pub(in crate::engine) fn is_check(&self, request: RequestId) -> bool {
        self.checks.requests.contains_key(&request)
    }

    /// A check has ended.
    pub(in crate::engine) fn take_check(
        &mut self,
        now: Now,
        request: RequestId,
        result: Result<Answer, RequestError>,
    ) {
        let Some(id) = self.checks.requests.remove(&request) else { return };
        let headers = match result {
            Ok(Answer::Headers(headers)) => headers,
            // The peer is gone, or we are.
            Err(RequestError::Cancelled | RequestError::Shutdown | RequestError::Crashed) => return,
            _ => return self.unverified(now, id),
        };
        let Some(marker) = &self.config.fork_marker else { return };
        let Some(session) = self.peers.get(&id).and_then(super::Peer::session) else { return };
        match fork::judge(marker, session.version.start_height, &headers) {
            Verdict::Right => self.verified(now, id),
            Verdict::Undecided => self.unverified(now, id),
            Verdict::Nonsense => self.end_connection(now, id, DisconnectReason::BadForkAnswer),
            Verdict::Wrong => {
                self.remember_wrong_chain(now, id);
                self.end_connection(now, id, DisconnectReason::WrongChain);
            }
        }
    }

    /// A peer is lost: its check is, too.
    pub(super) fn drop_check(&mut self, now: Now, id: PeerId) {
        let of_peer = |(&request, &peer): (&RequestId, &PeerId)| (peer == id).then_some(request);
        let request = self.checks.requests.iter().find_map(of_peer);
        if let Some(request) = request {
            self.cancel(now, request);
        }
    }

    /// A peer could not tell: it may be told of transactions, and is asked again later.
    fn unverified(&mut self, now: Now, id: PeerId) {
        let interval = self.config.verify_interval.mul_f64(self.random.jitter());
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let address = peer.address.clone();
        let State::Ready(session) = &mut peer.state else { return };
        // What it announced while it was asked may mean that it can tell by now.
        let wait = if std::mem::take(&mut session.announced) { ANNOUNCED_WAIT.min(interval) } else { interval };
        Self::set_timer(&mut self.timers, &mut peer.timer, Timer::Peer(id), Some(now.instant + wait));
        if std::mem::replace(&mut session.standing, Standing::Unverified) == Standing::Unverified {
            if self.is_in_the_way(id) {
                self.end_connection(now, id, DisconnectReason::Unverifiable);
            }
            return;
        }
        self.actions.push_back(Action::Event(Event::Unverified { peer: id, address }));
        self.tell_new_peer(now, id, true);
        self.ask_waiting(now);
        self.offer_peer(now, id);
        self.hold(now);
    }

    /// An unverified peer announces a block, so it may have become able to tell.
    pub(in crate::engine) fn check_again(&mut self, now: Now, id: PeerId) {
        let soon = now.instant + ANNOUNCED_WAIT;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let State::Ready(session) = &mut peer.state else { return };
        if session.standing == Standing::Verified {
            return;
        }
        match peer.timer {
            Some(at) if at > soon => {
                Self::set_timer(&mut self.timers, &mut peer.timer, Timer::Peer(id), Some(soon))
            }
            Some(_) => {}
            // It is being asked.
            None => session.announced = true,
        }
    }
}

/// How long after an announcement a peer is checked again, so that many announcements are one question.
const ANNOUNCED_WAIT: Duration = Duration::from_secs(1);
