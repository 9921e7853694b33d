//! Downloads: each block is asked of one peer after the other until all of it has come, or nobody is left.
//!
//! Layer 4. The bytes do not pass here: the event loop puts them into the block's queue, and whoever reads them says
//! what they were worth. Sections 2.5 and 2.13 of the wire specification: a node that does not know a block says nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pool::{Session, Size, Standing};
use super::request::RequestId;
use super::{Action, Engine, LONGEST, Now, Timer};
use crate::error::{Attempt, AttemptFailure, BlockError, DisconnectReason};
use crate::message::{Inventory, InventoryKind, Message};
use crate::peer::{ConnectionId, PeerId, StreamId};
use crate::proto::ProtocolError;
use crate::queue::block::{BlockQueue, Level};
use crate::wire::BlockHash;

/// The blocks that are being downloaded.
#[derive(Debug, Default)]
pub(super) struct Downloads {
    open: BTreeMap<StreamId, Download>,
    /// Those that wait for a peer that can be asked, oldest first.
    waiting: BTreeSet<StreamId>,
}

/// One block that is being downloaded.
#[derive(Debug)]
struct Download {
    hash: BlockHash,
    /// The only peer that may be asked.
    only: Option<PeerId>,
    /// How long nothing new may come.
    timeout: Duration,
    queue: Arc<BlockQueue>,
    leg: Leg,
    /// When something new came last, or its time began to run; `None` before the start.
    progress: Option<Instant>,
    timer: Option<Instant>,
    /// Connections that were asked, so as not to ask twice.
    tried: HashSet<ConnectionId>,
    failures: Vec<Attempt>,
    /// How often each peer was lost in the middle.
    losses: HashMap<PeerId, u32>,
}

/// Who is at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leg {
    /// Nobody, for want of a peer.
    Waiting,
    /// A peer was asked and has not begun.
    Asked { peer: PeerId, connection: ConnectionId, until: Instant },
    /// A peer is sending.
    Coming { peer: PeerId, connection: ConnectionId, since: Instant, size: u64, level: Level, was_held_up: bool },
    /// All that came lies with the reader, who says what it is worth.
    Reading,
}

/// What a caller wants of a download.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DownloadOptions {
    pub(crate) peer: Option<PeerId>,
    /// How long nothing new may come.
    pub(crate) timeout: Duration,
}

impl Download {
    /// Whether a peer may be asked, now or when it is free.
    fn may_ask(&self, peer: PeerId, session: &Session) -> bool {
        let is_named = self.only == Some(peer);
        let has_standing = match session.standing {
            Standing::Verified => true,
            Standing::Unverified => is_named,
            Standing::Checking => false,
        };
        let has_lied = |attempt: &Attempt| attempt.peer == peer && attempt.failure == AttemptFailure::WrongAnswer;
        has_standing
            && self.only.is_none_or(|only| only == peer)
            && !self.tried.contains(&session.connection)
            && self.losses.get(&peer).is_none_or(|&losses| losses < MAX_LOSSES)
            && !self.failures.iter().any(has_lied)
    }

    fn connection(&self) -> Option<ConnectionId> {
        match self.leg {
            Leg::Asked { connection, .. } | Leg::Coming { connection, .. } => Some(connection),
            Leg::Waiting | Leg::Reading => None,
        }
    }

    /// When nothing new has come for too long.
    fn deadline(&self) -> Option<Instant> {
        self.progress.map(|progress| progress + self.timeout)
    }
}

impl Engine {
    /// Takes a block to be downloaded into a queue.
    pub(crate) fn open_download(
        &mut self,
        now: Now,
        hash: BlockHash,
        options: DownloadOptions,
        queue: Arc<BlockQueue>,
    ) -> Result<StreamId, BlockError> {
        let limit = self.config.max_streams;
        if self.downloads.open.len() >= limit {
            return Err(BlockError::TooManyStreams { limit });
        }
        let id = StreamId(self.next_id());
        let download = Download {
            hash,
            only: options.peer,
            timeout: options.timeout.min(LONGEST),
            queue,
            leg: Leg::Waiting,
            progress: None,
            timer: None,
            tried: HashSet::new(),
            failures: Vec::new(),
            losses: HashMap::new(),
        };
        self.downloads.open.insert(id, download);
        self.downloads.waiting.insert(id);
        if self.started {
            self.start_download(now, id);
        }
        Ok(id)
    }

    pub(super) fn start_downloads(&mut self, now: Now) {
        for id in self.downloads.open.keys().copied().collect::<Vec<_>>() {
            self.start_download(now, id);
        }
    }

    fn start_download(&mut self, now: Now, id: StreamId) {
        if let Some(download) = self.downloads.open.get_mut(&id) {
            download.progress = Some(now.instant);
            self.download(now, id);
        }
    }

    /// Ends a download: its reader has it, or does not want it any more.
    pub(crate) fn close_download(&mut self, now: Now, id: StreamId) {
        let Some(mut download) = self.downloads.open.remove(&id) else { return };
        self.downloads.waiting.remove(&id);
        Self::set_timer(&mut self.timers, &mut download.timer, Timer::Download(id), None);
        if let Leg::Asked { peer, connection, .. } | Leg::Coming { peer, connection, .. } = download.leg
            && let Some(session) = self.session_mut(peer, connection)
        {
            session.outstanding.end(id.into());
        }
        // A peer has room for another one.
        self.download_waiting(now);
    }

    /// The reader has come to where a peer was lost, or found out: another one is asked, if none is at it by now.
    pub(crate) fn go_on_with_download(&mut self, now: Now, id: StreamId, lost: ConnectionId) {
        if let Some(download) = self.downloads.open.get_mut(&id)
            && download.connection().is_none_or(|connection| connection == lost)
        {
            // Until now it was the reader's time.
            download.progress = Some(now.instant);
            self.leave_leg(id);
            self.download(now, id);
        }
    }

    /// The reader has found that what a peer sent is no block, or not the one asked for: that peer is not asked for
    /// anything again.
    pub(crate) fn blame_for_block(
        &mut self,
        now: Now,
        id: StreamId,
        peer: PeerId,
        connection: ConnectionId,
        error: ProtocolError,
    ) {
        self.note_download_failure(id, peer, AttemptFailure::WrongAnswer);
        self.note_answer(peer, false);
        self.remember_liar(now, peer);
        if self.downloads.open.get(&id).is_some_and(|download| download.connection() == Some(connection)) {
            self.leave_leg(id);
        }
        if self.session_mut(peer, connection).is_some() {
            self.end_connection(now, peer, DisconnectReason::Protocol(error));
        }
        self.go_on_with_download(now, id, connection);
    }

    /// A peer begins to send a block; `wanted` is false if it is not its turn any more.
    pub(crate) fn handle_block_began(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        id: StreamId,
        size: u64,
        wanted: bool,
    ) {
        self.note_heard(now);
        let Some(download) = self.downloads.open.get_mut(&id).filter(|_| wanted) else { return };
        if download.connection() != Some(connection) {
            return;
        }
        let level = download.queue.level();
        download.progress = Some(now.instant);
        download.leg = Leg::Coming { peer, connection, since: now.instant, size, level, was_held_up: false };
        self.set_download_timer(now, id);
    }

    /// All of a block has come from a peer.
    pub(crate) fn handle_block_ended(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        id: StreamId,
        hash: &BlockHash,
    ) {
        self.note_heard(now);
        if let Some(session) = self.session_mut(peer, connection) {
            session.outstanding.take_streamed(hash, id.into());
            session.refusals = 0;
        }
        if let Some(download) = self.downloads.open.get_mut(&id)
            && let Leg::Coming { connection: coming, since, size, was_held_up, .. } = download.leg
            && coming == connection
        {
            download.leg = Leg::Reading;
            let is_measured = !was_held_up && !download.queue.level().is_full;
            self.set_download_timer(now, id);
            self.measure_block(now, peer, since, size, is_measured);
            self.note_answer(peer, true);
        }
        self.download_waiting(now);
    }

    /// Whether a request is a download.
    pub(super) fn is_download(&self, id: RequestId) -> bool {
        self.downloads.open.contains_key(&StreamId::from(id))
    }

    /// The connection to a peer is lost that was asked.
    pub(super) fn lose_download(&mut self, now: Now, id: RequestId, peer: PeerId, connection: ConnectionId) {
        let id = StreamId::from(id);
        let Some(download) = self.downloads.open.get_mut(&id) else { return };
        if download.connection() != Some(connection) {
            return;
        }
        if let Leg::Asked { .. } = download.leg {
            download.leg = Leg::Waiting;
            self.note_download_failure(id, peer, AttemptFailure::Disconnected);
            return self.download(now, id);
        }
        *download.losses.entry(peer).or_default() += 1;
        // The reader has yet to come to that place, and then says so.
        download.leg = Leg::Reading;
        self.note_download_failure(id, peer, AttemptFailure::Disconnected);
        self.set_download_timer(now, id);
    }

    /// A peer has no room for a block now.
    pub(super) fn refuse_download(&mut self, now: Now, id: RequestId, peer: PeerId, connection: ConnectionId) {
        let id = StreamId::from(id);
        let Some(download) = self.downloads.open.get_mut(&id) else { return };
        // Its time will come again.
        download.tried.remove(&connection);
        if download.connection() == Some(connection) {
            self.leave_leg(id);
            self.note_download_failure(id, peer, AttemptFailure::TooBusy);
            self.download(now, id);
        }
    }

    /// A peer's messages are not taken any more, and so neither its blocks: others are asked for those not begun.
    pub(super) fn leave_paused_download(&mut self, now: Now, id: RequestId) {
        let id = StreamId::from(id);
        let Some(download) = self.downloads.open.get(&id) else { return };
        if let Leg::Asked { peer, connection, .. } = download.leg
            && download.queue.coming() != Some(connection)
            && self.is_paused(peer)
            && self.next_for_download(now, id).is_some()
        {
            self.leave_leg(id);
            self.download(now, id);
        }
    }

    /// Asks for the downloads that wait, as a peer has become free, or is gone for ever.
    pub(super) fn download_waiting(&mut self, now: Now) {
        if self.started && !self.downloads.waiting.is_empty() {
            for id in self.downloads.waiting.iter().copied().collect::<Vec<_>>() {
                self.download(now, id);
            }
        }
    }

    pub(super) fn download_due(&mut self, now: Now, id: StreamId) {
        let Some(download) = self.downloads.open.get_mut(&id) else { return };
        download.timer = None;
        match download.leg {
            Leg::Waiting => self.download(now, id),
            Leg::Asked { peer, connection, until } => {
                if now.instant < until {
                    return self.set_download_timer(now, id);
                }
                let has_begun = download.queue.coming() == Some(connection);
                if has_begun || self.is_sending_other(now, id) {
                    // It is busy with what it was asked for before, or with this, of which we have yet to hear.
                    return self.be_patient(now, id);
                }
                self.note_download_failure(id, peer, AttemptFailure::TimedOut);
                if !self.is_held_up(peer) {
                    self.note_answer(peer, false);
                }
                self.leave_leg(id);
                self.download(now, id);
            }
            Leg::Coming { .. } => self.check_coming(now, id),
            Leg::Reading => {}
        }
    }

    /// Ends every download with the same error.
    pub(super) fn fail_downloads(&mut self, error: &BlockError) {
        for id in self.downloads.open.keys().copied().collect::<Vec<_>>() {
            self.fail_download(id, error.clone());
        }
    }

    /// Whether a peer cannot show what it is able to, as we do not read it.
    pub(super) fn is_held_up(&self, peer: PeerId) -> bool {
        let comes_from =
            |download: &&Download| matches!(download.leg, Leg::Coming { peer: from, .. } if from == peer);
        self.is_paused(peer)
            || self.downloads.open.values().filter(comes_from).any(|download| download.queue.level().is_full)
    }

    /// Asks the next best peer, or waits for one, or ends the download.
    fn download(&mut self, now: Now, id: StreamId) {
        let Some(download) = self.downloads.open.get(&id) else { return };
        if download.deadline().is_some_and(|deadline| now.instant >= deadline) && !self.waits_for_its_turn(now, id)
        {
            return self.give_up_download(id);
        }
        match self.next_for_download(now, id) {
            Some(peer) => self.ask_for_download(now, id, peer),
            None => self.wait_with_download(now, id),
        }
    }

    /// Whether all that a download lacks is that peers are done with what they were asked for before.
    fn waits_for_its_turn(&mut self, now: Now, id: StreamId) -> bool {
        let Some(download) = self.downloads.open.get(&id) else { return false };
        let sessions = self.peers.iter().filter_map(|(&id, peer)| Some((id, peer.session()?)));
        let is_at_work = |&(peer, session): &(PeerId, &Session)| {
            let has_enough = session.outstanding.bulk() >= self.block_limit(peer);
            has_enough && download.may_ask(peer, session) && !self.is_held_up(peer)
        };
        let waits = sessions.into_iter().any(|session| is_at_work(&session));
        if waits && let Some(download) = self.downloads.open.get_mut(&id) {
            download.progress = Some(now.instant);
        }
        waits
    }

    /// The peer that is asked next.
    fn next_for_download(&self, now: Now, id: StreamId) -> Option<PeerId> {
        let download = self.downloads.open.get(&id)?;
        let is_free = |peer: PeerId, session: &Session| {
            download.may_ask(peer, session)
                && !session.is_busy(now)
                && session.outstanding.bulk() < self.block_limit(peer)
        };
        // Whoever was lost with this block before is the last resort.
        let is_fresh =
            |peer: PeerId, session: &Session| !download.losses.contains_key(&peer) && is_free(peer, session);
        self.best_peer(now, Size::Bulk, is_fresh).or_else(|| self.best_peer(now, Size::Bulk, is_free))
    }

    /// How many peers might be asked, now or later.
    fn candidates_for_download(&self, id: StreamId) -> u32 {
        let Some(download) = self.downloads.open.get(&id) else { return 0 };
        let sessions = self.peers.iter().filter_map(|(&id, peer)| Some((id, peer.session()?)));
        let candidates = sessions.filter(|&(peer, session)| !session.paused && download.may_ask(peer, session));
        candidates.count().try_into().unwrap_or(u32::MAX)
    }

    fn ask_for_download(&mut self, now: Now, id: StreamId, peer: PeerId) {
        self.note_asked(peer);
        let others = self.candidates_for_download(id).saturating_sub(1);
        let Some(session) = self.peers.get_mut(&peer).and_then(|peer| peer.session_mut()) else { return };
        let Some(download) = self.downloads.open.get_mut(&id) else { return };
        let connection = session.connection;
        if !download.queue.expect(connection) {
            // The reader is gone, and will say so.
            self.downloads.waiting.insert(id);
            return self.set_download_timer(now, id);
        }
        session.outstanding.ask_streamed(download.hash, id.into(), now);
        download.tried.insert(connection);
        let deadline = download.deadline().unwrap_or(now.instant);
        let share = deadline.saturating_duration_since(now.instant) / (others + 1);
        download.leg = Leg::Asked { peer, connection, until: now.instant + share };
        let (hash, queue) = (download.hash, download.queue.clone());
        self.downloads.waiting.remove(&id);
        // The loop must know of it before the answer can come.
        self.actions.push_back(Action::ExpectBlock { connection, hash, stream: id, queue });
        let item = Inventory { kind: InventoryKind::Block, hash: *hash.as_wire() };
        self.actions.push_back(Action::Send { connection, message: Message::GetData(vec![item]) });
        self.set_download_timer(now, id);
    }

    fn wait_with_download(&mut self, now: Now, id: StreamId) {
        let has_candidates = self.candidates_for_download(id) > 0;
        let Some(download) = self.downloads.open.get_mut(&id) else { return };
        download.leg = Leg::Waiting;
        let only = download.only;
        let was_lost = |attempt: &Attempt| {
            attempt.failure == AttemptFailure::Disconnected
                && download.losses.get(&attempt.peer).is_none_or(|&losses| losses < MAX_LOSSES)
        };
        let may_come_back = download.failures.is_empty() || download.failures.iter().any(was_lost);
        let is_hopeless = only.is_some_and(|only| !self.peers.contains_key(&only));
        if is_hopeless || (!has_candidates && !may_come_back && !self.expects_peer(only)) {
            return self.give_up_download(id);
        }
        self.downloads.waiting.insert(id);
        self.set_download_timer(now, id);
    }

    fn give_up_download(&mut self, id: StreamId) {
        let Some(download) = self.downloads.open.get(&id) else { return };
        let attempts = download.failures.clone();
        // How far it came is known to the reader.
        let error = if attempts.is_empty() {
            BlockError::NoPeers
        } else if attempts.iter().any(|a| matches!(a.failure, AttemptFailure::TimedOut | AttemptFailure::Stalled)) {
            BlockError::TimedOut { at: 0, attempts }
        } else {
            BlockError::Failed { at: 0, attempts }
        };
        self.fail_download(id, error);
    }

    fn fail_download(&mut self, id: StreamId, error: BlockError) {
        self.leave_leg(id);
        let Some(mut download) = self.downloads.open.remove(&id) else { return };
        self.downloads.waiting.remove(&id);
        Self::set_timer(&mut self.timers, &mut download.timer, Timer::Download(id), None);
        self.actions.push_back(Action::FailBlock { queue: download.queue, error });
    }

    /// Nobody is at it any more; what the peer still sends of it is not wanted.
    fn leave_leg(&mut self, id: StreamId) {
        let Some(download) = self.downloads.open.get_mut(&id) else { return };
        let leg = std::mem::replace(&mut download.leg, Leg::Waiting);
        if let Leg::Asked { peer, connection, .. } | Leg::Coming { peer, connection, .. } = leg {
            let resumed = download.queue.expect_nobody();
            self.actions.extend(resumed.map(|connection| Action::ResumeBlock { connection }));
            if let Some(session) = self.session_mut(peer, connection) {
                session.outstanding.end(id.into());
            }
        }
    }

    /// Looks whether a peer that is sending a block goes on with it.
    fn check_coming(&mut self, now: Now, id: StreamId) {
        let others = self.candidates_for_download(id);
        let Some(download) = self.downloads.open.get_mut(&id) else { return };
        let deadline = download.deadline();
        let Leg::Coming { peer, connection, level, was_held_up, .. } = &mut download.leg else { return };
        let (peer, connection) = (*peer, *connection);
        let seen = std::mem::replace(level, download.queue.level());
        let is_read = self.peers.get(&peer).is_some_and(|peer| peer.is_read());
        if level.is_full || seen.is_full {
            // The reader takes his time.
            *was_held_up = true;
            download.progress = Some(now.instant);
        } else if level.received - seen.received >= LEAST_PROGRESS {
            download.progress = Some(now.instant);
        } else if let Some(progress) = download.progress {
            let patience = if others > 0 { download.timeout / 2 } else { download.timeout };
            let is_over = deadline.is_some_and(|deadline| now.instant >= deadline);
            if is_read && now.instant >= progress + patience {
                self.note_download_failure(id, peer, AttemptFailure::Stalled);
                self.note_answer(peer, false);
                // The rest of the block would stand before everything else that it sends.
                return self.end_connection(now, peer, DisconnectReason::Protocol(ProtocolError::BlockStalled));
            }
            if is_over {
                self.note_download_failure(id, peer, AttemptFailure::TimedOut);
                return self.give_up_download(id);
            }
        }
        log::trace!(target: "conduit::engine", "{connection:?}: {id:?} goes on");
        self.set_download_timer(now, id);
    }

    /// Whether the peer that was asked is in the middle of another block.
    fn is_sending_other(&self, now: Now, id: StreamId) -> bool {
        let Some(connection) = self.downloads.open.get(&id).and_then(Download::connection) else { return false };
        let sends = |download: &Download| {
            let goes_on = download.progress.is_some_and(|progress| now.instant < progress + download.timeout / 2);
            matches!(download.leg, Leg::Coming { connection: other, .. } if other == connection)
                && goes_on
                && !download.queue.level().is_full
        };
        self.downloads.open.values().any(sends)
    }

    fn be_patient(&mut self, now: Now, id: StreamId) {
        if let Some(download) = self.downloads.open.get_mut(&id) {
            download.progress = Some(now.instant);
            let share = download.timeout / 2;
            if let Leg::Asked { until, .. } = &mut download.leg {
                *until = now.instant + share;
            }
        }
        self.set_download_timer(now, id);
    }

    fn note_download_failure(&mut self, id: StreamId, peer: PeerId, failure: AttemptFailure) {
        let Some(address) = self.peers.get(&peer).map(|peer| peer.address.clone()) else { return };
        let Some(download) = self.downloads.open.get_mut(&id) else { return };
        match download.failures.iter_mut().find(|attempt| attempt.peer == peer) {
            // That it was lost says less than why.
            Some(_) if failure == AttemptFailure::Disconnected => {}
            Some(attempt) => attempt.failure = failure,
            None => download.failures.push(Attempt { peer, address, failure }),
        }
    }

    fn set_download_timer(&mut self, now: Now, id: StreamId) {
        let busy_until = |engine: &Self, download: &Download| {
            let sessions = engine.peers.iter().filter_map(|(&id, peer)| Some((id, peer.session()?)));
            let may_ask = sessions.filter(|&(peer, session)| !session.paused && download.may_ask(peer, session));
            may_ask.filter_map(|(_, session)| session.busy_until).filter(|&until| until > now.instant).min()
        };
        let Some(download) = self.downloads.open.get(&id) else { return };
        let at = match download.leg {
            Leg::Waiting => [download.deadline(), busy_until(self, download)].into_iter().flatten().min(),
            Leg::Asked { until, .. } => Some(until),
            Leg::Coming { .. } => Some(now.instant + (download.timeout / CHECKS).max(LEAST_CHECK)),
            Leg::Reading => None,
        };
        if let Some(download) = self.downloads.open.get_mut(&id) {
            Self::set_timer(&mut self.timers, &mut download.timer, Timer::Download(id), at);
        }
    }

    #[cfg(test)]
    pub(super) fn check_downloads(&self, timers: &mut BTreeSet<(Instant, Timer)>) {
        for (&id, download) in &self.downloads.open {
            let waits = self.downloads.waiting.contains(&id);
            assert_eq!(waits, download.leg == Leg::Waiting, "{id:?}: {:?}", download.leg);
            let has_timer = self.started && download.leg != Leg::Reading;
            assert_eq!(download.timer.is_some(), has_timer, "{id:?}: {:?}", download.leg);
            timers.extend(download.timer.map(|at| (at, Timer::Download(id))));
            if let Leg::Asked { peer, connection, .. } | Leg::Coming { peer, connection, .. } = download.leg {
                let session = self.peers[&peer].session().expect("whoever is at it is connected");
                assert_eq!(session.connection, connection);
                assert!(download.tried.contains(&connection));
            }
        }
        assert!(self.downloads.waiting.iter().all(|id| self.downloads.open.contains_key(id)));
    }
}

impl From<RequestId> for StreamId {
    fn from(RequestId(id): RequestId) -> Self {
        Self(id)
    }
}

/// What a peer owes a download is noted as what it owes a request.
impl From<StreamId> for RequestId {
    fn from(StreamId(id): StreamId) -> Self {
        Self(id)
    }
}

/// A peer that was lost so often in the middle of a block is not asked for it again.
const MAX_LOSSES: u32 = 3;
/// Fewer bytes than that between two looks are no progress.
const LEAST_PROGRESS: u64 = 1_024;
/// How often a peer that sends is looked at within the time in which something new must come.
const CHECKS: u32 = 8;
const LEAST_CHECK: Duration = Duration::from_millis(10);
