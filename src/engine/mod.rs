//! Layer 4: everything that spans peers. Which to have, which to ask, what is outstanding, what was announced.
//!
//! One pure state machine: time and randomness are passed in, and what is to be done comes out as [`Action`]s. The
//! `driver` holds it behind one lock.

mod answer;
mod back_off;
pub(crate) mod book;
pub(crate) mod broadcast;
mod download;
mod failover;
mod fork;
mod gathering;
mod outstanding;
mod pool;
mod random;
mod request;
mod route;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::broadcast::{BroadcastReport, Progress};
use crate::config::Config;
use crate::error::{BlockError, DisconnectReason, RequestError};
use crate::message::Message;
use crate::peer::{ConnectionId, IdMap, PeerAddress, PeerId, StreamId};
use crate::queue::block::BlockQueue;
use crate::queue::events::Event;
use crate::queue::message::Queued;
use crate::queue::outbound::Joins;
use crate::request::{Answer, Question};
use crate::watch::Watched;
use crate::wire::BlockHash;

pub(crate) use broadcast::{BroadcastId, Record};
pub(crate) use download::DownloadOptions;
pub(crate) use random::Random;
pub(crate) use request::RequestId;
pub(crate) use watch::WatchId;

use book::{AddressBook, Bans};
use broadcast::Outbox;
use download::Downloads;
use pool::{Checks, Dialling, Finding, MainPeer, Peer};
use request::OpenRequest;
use watch::Watches;

/// The state of all peers, requests, broadcasts and watches.
#[derive(Debug)]
pub(crate) struct Engine {
    config: Config,
    random: Random,
    /// The dialler takes names. Asked once, as a caller's code must not run under the engine's lock.
    dials_names: bool,
    started: bool,
    /// Everything was ended, so nobody is looked for any more.
    over: bool,
    peers: BTreeMap<PeerId, Peer>,
    /// The second connection of each peer that has one, by the first.
    seconds: IdMap<ConnectionId, ConnectionId>,
    /// Always the number of `peers` that are connected and known to be on our chain.
    ready: usize,
    /// Always the number of those of `ready` that are read.
    listening: usize,
    dialling: Dialling,
    finding: Finding,
    checks: Checks,
    bans: Bans,
    main_peer: MainPeer,
    save_timer: Option<Instant>,
    requests: HashMap<RequestId, OpenRequest>,
    /// Requests that wait for a peer that can be asked, oldest first.
    waiting: BTreeSet<RequestId>,
    /// Always the summed cost of `requests`.
    requests_cost: usize,
    downloads: Downloads,
    outbox: Outbox,
    watches: Watches,
    timers: BTreeSet<(Instant, Timer)>,
    actions: VecDeque<Action>,
    next_id: u64,
}

/// What is to be done; the engine itself touches nothing.
#[derive(Debug)]
pub(crate) enum Action {
    /// Turn a name into addresses; the answer comes as `handle_resolved`.
    Resolve { peer: PeerId, connection: ConnectionId, host: String, port: u16 },
    /// Turn the name of a seed into addresses of peers; the answer comes as `handle_seeds`.
    ResolveSeed { host: String, port: u16 },
    /// Make a connection; its end comes as `handle_down`. The address has a port, and a name only if the dialler resolves
    /// names.
    Connect { peer: PeerId, connection: ConnectionId, address: PeerAddress },
    /// Make a connection that joins another one, as `handle_joined` tells; its end comes as `handle_down`.
    Join { peer: PeerId, connection: ConnectionId, address: PeerAddress, joins: Joins },
    /// End a connection.
    Close { connection: ConnectionId, reason: DisconnectReason },
    /// Send a message, however full the queue: what is asked for is bounded by `requests_limit`, and for watches by
    /// `watch_announcements`.
    Send { connection: ConnectionId, message: Message },
    /// Put the next block with this hash that comes on a connection into a queue.
    ExpectBlock { connection: ConnectionId, hash: BlockHash, stream: StreamId, queue: Arc<BlockQueue> },
    /// Put no blocks of a connection into queues any more that do not wait for it.
    ForgetBlocks { connection: ConnectionId },
    /// Read a connection again that waits for whoever reads a block.
    ResumeBlock { connection: ConnectionId },
    /// Tell whoever reads a block that nothing comes any more.
    FailBlock { queue: Arc<BlockQueue>, error: BlockError },
    /// Tell a peer of transactions and send it those it asked for, as far as there is room; take them with
    /// `take_announcements` and `next_to_serve`.
    Serve { peer: PeerId },
    /// A request has ended.
    Complete { request: RequestId, outcome: RequestOutcome },
    /// Something happened to a broadcast whose progress is read.
    Progress { broadcast: BroadcastId, progress: Progress },
    /// A broadcast's verdict is given; comes once, before its end.
    BroadcastSettled { broadcast: BroadcastId, report: Arc<BroadcastReport> },
    /// A broadcast is over; comes once.
    BroadcastOver { broadcast: BroadcastId, report: Arc<BroadcastReport> },
    /// Tell the outbox file; what it has got is told by `handle_saved`.
    Record(Record),
    /// The outbox file has a broadcast.
    BroadcastSaved { broadcast: BroadcastId },
    /// The outbox file could not take a broadcast, so that there is none.
    BroadcastLost { broadcast: BroadcastId, raw: Vec<u8>, kind: std::io::ErrorKind, report: Box<BroadcastReport> },
    /// Put an item that is charged into the queue of a watch.
    Deliver { watch: WatchId, item: Queued<Watched> },
    /// A watch is over: every reader is gone.
    WatchOver { watch: WatchId },
    /// Save what `snapshot_peers` gives.
    SavePeers,
    /// Tell whoever watches the peers.
    Event(Event),
}

/// How a request ended.
#[derive(Debug)]
pub(crate) struct RequestOutcome {
    pub(crate) question: Question,
    /// Who answered.
    pub(crate) peer: Option<PeerAddress>,
    /// The same, while it is known.
    pub(crate) peer_id: Option<PeerId>,
    pub(crate) result: Result<Answer, RequestError>,
    /// Since it was submitted, or since the start if that was later.
    pub(crate) took: Duration,
}

/// The two clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    /// Wall clock, seconds since 1970.
    pub(crate) unix: i64,
}

/// What becomes due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Request(RequestId),
    Peer(PeerId),
    Download(StreamId),
    Broadcast(BroadcastId),
    Announce,
    Watch(ConnectionId),
    Finding,
    Save,
}

impl Engine {
    pub(crate) fn new(config: Config, random: Random) -> Self {
        let book = AddressBook::new(config.redial_min, config.redial_max);
        Self {
            watches: Watches::new(&config),
            dials_names: config.dialler.as_ref().is_some_and(|dialler| dialler.resolves_names()),
            config,
            random,
            started: false,
            over: false,
            peers: BTreeMap::new(),
            seconds: IdMap::default(),
            ready: 0,
            listening: 0,
            dialling: Dialling::default(),
            finding: Finding::new(book),
            checks: Checks::default(),
            bans: Bans::default(),
            main_peer: MainPeer::default(),
            save_timer: None,
            requests: HashMap::new(),
            waiting: BTreeSet::new(),
            requests_cost: 0,
            downloads: Downloads::default(),
            outbox: Outbox::default(),
            timers: BTreeSet::new(),
            actions: VecDeque::new(),
            next_id: 0,
        }
    }

    /// Begins to dial; deadlines of queued requests run from here.
    pub(crate) fn start(&mut self, now: Now) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        self.start_requests(now);
        self.start_downloads(now);
        self.start_peers(now);
    }

    /// The next thing to do.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front()?;
        Some(match action {
            Action::Send { connection, message } => {
                Action::Send { connection: self.stream_for(connection, &message), message }
            }
            other => other,
        })
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|&(instant, _)| instant)
    }

    /// Does what is due; an early call does nothing.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        while let Some(&(instant, timer)) = self.timers.first()
            && instant <= now.instant
        {
            self.timers.pop_first();
            match timer {
                Timer::Request(request) => self.request_due(now, request),
                Timer::Peer(peer) => self.peer_due(now, peer),
                Timer::Download(stream) => self.download_due(now, stream),
                Timer::Broadcast(broadcast) => self.broadcast_due(now, broadcast),
                Timer::Announce => self.announcements_due(now),
                Timer::Watch(connection) => self.watch_due(now, connection),
                Timer::Finding => {
                    self.finding.timer = None;
                    self.hold(now);
                }
                Timer::Save => self.save_due(),
            }
        }
    }

    /// Moves a timer; `slot` is where its owner keeps the instant it is set to.
    fn set_timer(
        timers: &mut BTreeSet<(Instant, Timer)>,
        slot: &mut Option<Instant>,
        timer: Timer,
        at: Option<Instant>,
    ) {
        if *slot != at {
            if let Some(old) = slot.take() {
                timers.remove(&(old, timer));
            }
            if let Some(at) = at {
                timers.insert((at, timer));
            }
            *slot = at;
        }
    }

    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Holds the books against each other.
    #[cfg(test)]
    fn check_invariants(&self) {
        let mut timers = BTreeSet::new();
        self.check_peers(&mut timers);
        self.check_requests(&mut timers);
        self.check_downloads(&mut timers);
        self.check_broadcasts(&mut timers);
        self.check_watches(&mut timers);
        timers.extend(self.finding.timer.map(|at| (at, Timer::Finding)));
        timers.extend(self.save_timer.map(|at| (at, Timer::Save)));
        assert_eq!(self.timers, timers, "the timers are those their owners know of");
    }
}

/// What a caller wants to last for longer ends after a year: instants beyond the clock's range do not exist.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3_600);
