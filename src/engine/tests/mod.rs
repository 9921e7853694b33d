//! The engine driven by a clock that only the test moves and by peers that say what the test has them say.

mod answers;
mod banning;
mod broadcast_interleavings;
mod broadcasts;
mod downloads;
mod holding;
mod interleavings;
mod joining;
mod peers;
mod ranking;
mod requests;
mod simulation;
mod verifying;
mod watches;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Action, BroadcastId, Engine, Now, Random, Record, RequestId, RequestOutcome, WatchId};
use crate::block::proven_work;
use crate::broadcast::{BroadcastOptions, BroadcastReport, Progress};
use crate::config::Config;
use crate::error::{Attempt, AttemptFailure, BroadcastFailure, DisconnectReason, RequestError};
use crate::message::{
    Block, BlockHeader, GetHeaders, Inventory, Message, NetworkAddress, Services, TimestampedAddress, Transaction,
    Version,
};
use crate::network::Network;
use crate::peer::{ConnectionId, PeerId, PeerState, StreamId};
use crate::queue::block::BlockQueue;
use crate::queue::events::Event;
use crate::queue::message::Queued;
use crate::queue::outbound::Joins;
use crate::request::{Answer, Question, RequestOptions};
use crate::watch::Watched;
use crate::wire::{BlockHash, MerkleRoot, Txid};

/// An engine, its clock, and everything it wanted done.
struct World {
    engine: Engine,
    now: Now,
    /// When the clock began.
    started: Instant,
    connects: Vec<(PeerId, ConnectionId, SocketAddr)>,
    joins: Vec<(PeerId, ConnectionId, Joins)>,
    resolves: Vec<(PeerId, ConnectionId, String)>,
    seeds: Vec<String>,
    closes: Vec<(ConnectionId, DisconnectReason)>,
    /// Every connection ever dialled, and whose it is.
    owners: HashMap<ConnectionId, PeerId>,
    /// Of each second connection the first.
    seconds: HashMap<ConnectionId, ConnectionId>,
    sent: Vec<(ConnectionId, Message)>,
    serves: Vec<PeerId>,
    outcomes: BTreeMap<RequestId, RequestOutcome>,
    progress: Vec<(BroadcastId, Progress)>,
    /// The verdict of every broadcast that has one.
    settled: BTreeMap<BroadcastId, BroadcastReport>,
    /// The last report of every broadcast that is over.
    over: BTreeMap<BroadcastId, BroadcastReport>,
    records: Vec<Record>,
    saved: Vec<BroadcastId>,
    lost: Vec<BroadcastId>,
    events: Vec<Event>,
    watched: Vec<(WatchId, Queued<Watched>)>,
    ended_watches: Vec<WatchId>,
    saves: usize,
    /// Blocks that streams wait for, as the event loop knows it.
    expected: Vec<Expected>,
    /// Every action in words, if wanted.
    log: Option<Vec<String>>,
}

/// A block that a stream waits for on a connection.
#[derive(Debug)]
struct Expected {
    connection: ConnectionId,
    hash: BlockHash,
    stream: StreamId,
    queue: Arc<BlockQueue>,
}

impl World {
    fn new(config: Config) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a clock has to begin somewhere")]
        let instant = Instant::now();
        Self {
            engine: Engine::new(config, Random::new(1)),
            now: Now { instant, unix: START_UNIX },
            started: instant,
            connects: Vec::new(),
            joins: Vec::new(),
            resolves: Vec::new(),
            seeds: Vec::new(),
            closes: Vec::new(),
            owners: HashMap::new(),
            seconds: HashMap::new(),
            sent: Vec::new(),
            serves: Vec::new(),
            outcomes: BTreeMap::new(),
            progress: Vec::new(),
            settled: BTreeMap::new(),
            over: BTreeMap::new(),
            records: Vec::new(),
            saved: Vec::new(),
            lost: Vec::new(),
            events: Vec::new(),
            watched: Vec::new(),
            ended_watches: Vec::new(),
            saves: 0,
            expected: Vec::new(),
            log: None,
        }
    }

    /// A started engine with so many connected peers, the first the nearest.
    fn connected(count: u8) -> (Self, Vec<PeerId>) {
        Self::connected_with(Config::new(Network::Regtest), count)
    }

    fn connected_with(config: Config, count: u8) -> (Self, Vec<PeerId>) {
        let mut world = Self::new(config);
        let peers: Vec<_> = (1..=count).map(|n| world.add(&address(n))).collect();
        world.start();
        world.pass(Duration::ZERO);
        for (n, &peer) in (1..).zip(&peers) {
            world.connect(peer);
            world.engine.handle_round_trip(world.now, peer, 10 * n * MILLISECOND);
        }
        world.sent.clear();
        world.events.clear();
        (world, peers)
    }

    /// Takes what the engine wants done, and holds its books against each other.
    fn settle(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            if let Some(log) = &mut self.log {
                log.push(format!("{action:?}"));
            }
            match action {
                Action::Resolve { peer, connection, host, port } => {
                    self.resolves.push((peer, connection, format!("{host}:{port}")));
                }
                Action::ResolveSeed { host, port } => self.seeds.push(format!("{host}:{port}")),
                Action::Connect { peer, connection, address } => {
                    self.owners.insert(connection, peer);
                    let address = address.socket_addr().expect("no dialler here resolves names");
                    self.connects.push((peer, connection, address));
                }
                Action::Join { peer, connection, joins, .. } => {
                    self.owners.insert(connection, peer);
                    self.seconds.insert(connection, joins.of);
                    self.joins.push((peer, connection, joins));
                }
                Action::Close { connection, reason } => self.closes.push((connection, reason)),
                Action::Send { connection, message } => {
                    let first = self.seconds.get(&connection).copied().unwrap_or(connection);
                    let is_up = self.engine.connection_of(self.owners[&connection]) == Some(first);
                    assert!(is_up, "{message:?} was sent on a connection that is not up");
                    self.sent.push((connection, message));
                }
                Action::ExpectBlock { connection, hash, stream, queue } => {
                    self.expected.push(Expected { connection, hash, stream, queue });
                }
                Action::ResumeBlock { .. } | Action::ForgetBlocks { .. } => {}
                Action::FailBlock { queue, error } => {
                    queue.fail(error);
                }
                Action::Serve { peer } => self.announce_to(peer),
                Action::Complete { request, outcome } => {
                    let earlier = self.outcomes.insert(request, outcome);
                    assert!(earlier.is_none(), "{request:?} ended twice");
                }
                Action::Progress { broadcast, progress } => {
                    assert!(!self.over.contains_key(&broadcast), "{broadcast:?} went on after its end");
                    self.progress.push((broadcast, progress));
                }
                Action::BroadcastSettled { broadcast, report } => {
                    let earlier = self.settled.insert(broadcast, (*report).clone());
                    assert!(earlier.is_none(), "{broadcast:?} got two verdicts");
                }
                Action::BroadcastOver { broadcast, report } => {
                    assert!(self.settled.contains_key(&broadcast), "{broadcast:?} ended without a verdict");
                    let earlier = self.over.insert(broadcast, (*report).clone());
                    assert!(earlier.is_none(), "{broadcast:?} ended twice");
                }
                Action::Record(record) => self.records.push(record),
                Action::BroadcastSaved { broadcast } => self.saved.push(broadcast),
                Action::BroadcastLost { broadcast, .. } => self.lost.push(broadcast),
                Action::Deliver { watch, item } => self.watched.push((watch, item)),
                Action::WatchOver { watch } => self.ended_watches.push(watch),
                Action::SavePeers => self.saves += 1,
                Action::Event(event) => self.events.push(event),
            }
        }
        self.engine.check_invariants();
    }

    /// Tells a peer what it is to be told, as a driver does whose queues have room.
    fn announce_to(&mut self, peer: PeerId) {
        while let Some((connection, count)) = self.engine.announcements(peer, 1_000)
            && count > 0
        {
            let items = self.engine.take_announcements(self.now, peer, count);
            assert_eq!(items.len(), count);
            if self.log.is_some() {
                let open = self.engine.open_broadcasts();
                let is_open = |item: &Inventory| open.iter().any(|&(_, txid)| item.txid() == Some(txid));
                assert!(items.iter().all(is_open), "only what is open is announced");
            }
            self.sent.push((connection, Message::Inv(items)));
        }
        if self.engine.next_to_serve(peer).is_some() {
            self.serves.push(peer);
        }
    }

    /// Enters the engine and settles.
    fn run<T>(&mut self, work: impl FnOnce(&mut Engine, Now) -> T) -> T {
        let value = work(&mut self.engine, self.now);
        self.settle();
        value
    }

    // Time.

    fn start(&mut self) {
        self.run(Engine::start);
    }

    /// Lets time pass, stopping wherever something is due.
    fn pass(&mut self, time: Duration) {
        let end = self.now.instant + time;
        while let Some(due) = self.engine.poll_timeout()
            && due <= end
        {
            self.jump();
        }
        self.advance(end.saturating_duration_since(self.now.instant));
    }

    /// Both clocks go on.
    fn advance(&mut self, time: Duration) {
        self.now.instant += time;
        let unix = START_UNIX + self.now.instant.duration_since(self.started).as_secs() as i64;
        self.now.unix = unix;
    }

    /// Jumps to the next deadline and gives the time that passed.
    fn jump(&mut self) -> Duration {
        let due = self.engine.poll_timeout().expect("something is due");
        let passed = due.saturating_duration_since(self.now.instant);
        self.advance(passed);
        self.run(Engine::handle_timeout);
        passed
    }

    // Peers.

    fn add(&mut self, address: &str) -> PeerId {
        let address = address.parse().unwrap();
        self.run(|engine, now| engine.add_peers(now, vec![address])).unwrap()[0]
    }

    /// The dial of a peer that was not answered yet.
    fn dialled(&mut self, peer: PeerId) -> Option<(ConnectionId, SocketAddr)> {
        let at = self.connects.iter().position(|&(dialled, ..)| dialled == peer)?;
        let (_, connection, address) = self.connects.remove(at);
        Some((connection, address))
    }

    /// Answers the dial of a peer, which must be under way.
    fn connect(&mut self, peer: PeerId) -> ConnectionId {
        self.connect_as(peer, Services::NETWORK, "/scripted:1.0/")
    }

    fn connect_as(&mut self, peer: PeerId, services: Services, user_agent: &str) -> ConnectionId {
        let (connection, _) = self.dialled(peer).expect("the peer is dialled");
        let version = Version::new(services, 1, user_agent, 100, 1_700_000_000);
        self.run(|engine, now| engine.handle_up(now, peer, connection, Box::new(version)));
        connection
    }

    /// A peer answers the question for the fork marker as one on our chain does.
    fn show_marker(&mut self, peer: PeerId) {
        let shown = Message::Headers(vec![marker_header()]);
        assert_eq!(self.say(peer, shown), None);
    }

    /// The seeds give these addresses, and those that are dialled then are given.
    fn find(&mut self, addresses: &[&str]) -> Vec<PeerId> {
        let addresses: Vec<SocketAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        self.run(|engine, now| engine.handle_seeds(now, &addresses));
        self.pass(Duration::ZERO);
        self.connects.iter().map(|&(peer, ..)| peer).collect()
    }

    /// Waits for a lost peer to be dialled again, and connects it.
    fn reconnect(&mut self, peer: PeerId) -> ConnectionId {
        while !self.connects.iter().any(|&(dialled, ..)| dialled == peer) {
            self.jump();
        }
        self.connect(peer)
    }

    fn connection(&self, peer: PeerId) -> ConnectionId {
        self.engine.connection_of(peer).expect("the peer is connected")
    }

    fn lose(&mut self, peer: PeerId) {
        self.lose_for(peer, DisconnectReason::ClosedByPeer);
    }

    fn lose_for(&mut self, peer: PeerId, reason: DisconnectReason) {
        let connection = self.connection(peer);
        self.run(|engine, now| engine.handle_down(now, peer, connection, reason));
    }

    /// The dial of a peer comes to nothing.
    fn refuse(&mut self, peer: PeerId) {
        let (connection, _) = self.dialled(peer).expect("the peer is dialled");
        let reason = DisconnectReason::Dial { kind: std::io::ErrorKind::ConnectionRefused };
        self.run(|engine, now| engine.handle_down(now, peer, connection, reason));
    }

    fn pause(&mut self, peer: PeerId, paused: bool) {
        self.run(|engine, now| engine.handle_paused(now, peer, paused));
    }

    /// A peer says something; what nobody claimed comes back.
    fn say(&mut self, peer: PeerId, message: Message) -> Option<Message> {
        let connection = self.connection(peer);
        let claimed = self.engine.would_claim(peer, &message);
        let unclaimed = self.run(|engine, now| engine.handle_message(now, peer, connection, message));
        assert!(!claimed || unclaimed.is_none(), "a message that was to be claimed came back: {unclaimed:?}");
        unclaimed
    }

    /// What was sent since the last look.
    fn sent(&mut self) -> Vec<(PeerId, Message)> {
        self.sent.drain(..).map(|(connection, message)| (self.owners[&connection], message)).collect()
    }

    /// Who was sent something since the last look.
    fn asked(&mut self) -> Vec<PeerId> {
        self.sent().into_iter().map(|(peer, _)| peer).collect()
    }

    // Requests.

    fn ask(&mut self, question: Question) -> RequestId {
        self.ask_with(question, &RequestOptions::new())
    }

    fn ask_with(&mut self, question: Question, options: &RequestOptions) -> RequestId {
        self.run(|engine, now| engine.submit(now, question, options)).expect("there is room for the request")
    }

    // Broadcasts.

    fn try_broadcast(
        &mut self,
        transaction: &Transaction,
        options: &BroadcastOptions,
    ) -> Result<BroadcastId, BroadcastFailure> {
        // What is over can begin anew under the same id.
        let raw = options.parents.iter().cloned();
        let parents: Vec<_> = raw.map(|raw| Transaction::from_raw(raw).expect("it is one")).collect();
        let id = self.engine.broadcast(self.now, transaction, &parents, options)?;
        if self.over.remove(&id).is_some() {
            self.settled.remove(&id);
        }
        self.engine.follow_broadcast(self.now, id);
        self.settle();
        Ok(id)
    }

    fn has_ended(&self, request: RequestId) -> bool {
        self.outcomes.contains_key(&request)
    }

    /// How a request ended.
    fn result(&self, request: RequestId) -> &Result<Answer, RequestError> {
        &self.outcomes.get(&request).expect("the request has ended").result
    }
}

/// The header by which peers of the test network are told (section 5.3 of the header chain's reference).
fn marker_header() -> BlockHeader {
    let hex = "00000020b9ea0b497adc73aff2e3d2c3663db12bdf4f8d612d3317e76700000000000000b1e1eda1767dc2e6fdb63e82d570461\
               da2daa2f4fd9fe375ebce93f5b180a6f5ae7e285faef5021a7f406d4d";
    let bytes: Vec<u8> = (0..80).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()).collect();
    BlockHeader::decode(&bytes.try_into().unwrap())
}

/// A header behind the last block that chains have in common which is not ours, with its work proven or not.
fn foreign_header(is_proven: bool) -> BlockHeader {
    let marker = Network::Test.fork_marker().unwrap();
    let candidate = |nonce| BlockHeader { bits: 0x207f_ffff, ..header_after(marker.locator[0].hash, nonce) };
    let is_wanted = |header: &BlockHeader| proven_work(header, &header.hash()).is_some() == is_proven;
    (0..).map(candidate).find(is_wanted).expect("every other header will do")
}

fn state(world: &World, peer: PeerId) -> PeerState {
    world.engine.peers(world.now).into_iter().find(|info| info.id == peer).expect("the peer is known").state
}

/// The order in which peers are listed.
fn ranking(world: &World) -> Vec<PeerId> {
    world.engine.peers(world.now).into_iter().map(|info| info.id).collect()
}

fn address(n: u8) -> String {
    format!("10.0.0.{n}:18444")
}

fn transaction(n: u32) -> Transaction {
    Transaction::new(1, &[], &[], n)
}

fn txid(n: u32) -> Txid {
    transaction(n).txid()
}

fn header_after(previous: BlockHash, nonce: u32) -> BlockHeader {
    BlockHeader { version: 1, previous, merkle_root: MerkleRoot::ZERO, time: 0, bits: 0, nonce }
}

fn block(n: u32) -> Block {
    Block::new(header_after(BlockHash::ZERO, n), vec![transaction(n)])
}

fn hash(n: u8) -> BlockHash {
    BlockHash::from_wire([n; 32])
}

/// Headers after the block named.
fn headers(after: u8) -> Question {
    Question::Headers(GetHeaders::new([hash(after)]))
}

fn get_transaction(n: u32) -> Message {
    Message::GetData(vec![Inventory::transaction(txid(n))])
}

fn not_found(ns: impl IntoIterator<Item = u32>) -> Message {
    Message::NotFound(ns.into_iter().map(|n| Inventory::transaction(txid(n))).collect())
}

fn addresses(count: u8) -> Vec<TimestampedAddress> {
    let address = |n| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 1, 0, n)), 18_444);
    let entry = |n| TimestampedAddress { time: 0, address: NetworkAddress::new(Services::NETWORK, address(n)) };
    (0..count).map(entry).collect()
}

/// Who was asked and what became of it.
fn attempts(attempts: &[Attempt]) -> Vec<(PeerId, AttemptFailure)> {
    attempts.iter().map(|attempt| (attempt.peer, attempt.failure)).collect()
}

const START_UNIX: i64 = 1_700_000_000;
const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
