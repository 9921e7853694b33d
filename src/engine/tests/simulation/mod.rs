//! A network of some hundred nodes in virtual time, seeded: what nodes do is scheduled, and the engine is driven by it.
//!
//! The engine is only spoken to as the driver does it. What it does is held against the rules after every step, by an
//! observer that keeps books of its own.

mod node;
mod observer;
mod scenarios;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{MILLISECOND, SECOND, START_UNIX, hash, txid};
use crate::broadcast::BroadcastOptions;
use crate::config::Config;
use crate::engine::{Action, Engine, Now, Random, RequestId};
use crate::error::{DisconnectReason, RequestError};
use crate::message::{GetHeaders, Inventory, Message, Transaction};
use crate::network::Network;
use crate::peer::{ConnectionId, PeerAddress, PeerId};
use crate::proto::ProtocolError;
use crate::queue::events::Event;
use crate::request::{Question, RequestOptions};
use crate::wire::Txid;

use node::{Chain, Node, PORT, Tells, public_address};
use observer::Observer;

/// The engine, the network around it, and what is going to happen.
struct Simulation {
    engine: Engine,
    now: Now,
    started: Instant,
    dice: Dice,
    nodes: Vec<Node>,
    places: BTreeMap<SocketAddr, usize>,
    known: Knowledge,
    /// What the seeds give.
    seeds: Vec<SocketAddr>,
    /// Our own connection to the internet.
    link_is_up: bool,
    /// While it is down, every dial fails at once, as without a route.
    fails_at_once: bool,
    lines: BTreeMap<ConnectionId, Line>,
    happenings: BTreeMap<(Instant, u64), Happening>,
    scheduled: u64,
    caller: Caller,
    observer: Observer,
    /// Everything the engine did, in words, if wanted.
    log: Option<Vec<String>>,
    events: Vec<(Duration, Event)>,
    tally: Tally,
}

/// What nodes know.
#[derive(Debug, Default)]
struct Knowledge {
    nodes: Vec<SocketAddr>,
    /// Nodes on another chain.
    others: Vec<SocketAddr>,
    /// Where nobody is.
    dead: Vec<SocketAddr>,
    /// The transactions there are, by their numbers.
    transactions: BTreeMap<Txid, u32>,
}

/// A dial, or the connection it became.
#[derive(Debug)]
struct Line {
    peer: PeerId,
    node: Option<usize>,
    state: LineState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineState {
    Dialled,
    Up,
    /// The node is gone, or we are, and the engine has not been told.
    Dead,
}

/// Something that is going to happen.
#[derive(Debug)]
enum Happening {
    HandshakeDone(ConnectionId),
    Down(ConnectionId, DisconnectReason),
    Arrives(ConnectionId, Message),
    Heard(ConnectionId, Message),
    /// The loop's own ping.
    Ping(ConnectionId),
    Seeds,
    Dies(usize),
    Rises(usize),
    Link(bool),
    /// The caller asks for something.
    Call,
    /// The caller broadcasts a transaction.
    Broadcast,
    /// A node tells of addresses unasked.
    Flood(ConnectionId),
    /// Once a second.
    Look,
}

/// What the simulated caller does, and what became of it.
#[derive(Debug, Default)]
struct Caller {
    every: Option<Duration>,
    next: u32,
    open: BTreeMap<RequestId, Duration>,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tally {
    answered: usize,
    by_slow: usize,
    failed: BTreeMap<&'static str, usize>,
    longest: Duration,
    announced: usize,
    looks: usize,
    /// Peers seen ready at these looks.
    ready: usize,
    /// Looks at which there were fewer than wanted.
    short: usize,
    most_addresses: usize,
}

/// How the nodes of a network come and go.
#[derive(Clone, Copy, Debug)]
struct Churn {
    /// The mean time that a node is up, and down.
    up: Duration,
    down: Duration,
}

impl Simulation {
    fn new(seed: u64, config: Config, nodes: Vec<Node>) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a clock has to begin somewhere")]
        let instant = Instant::now();
        let mut dice = Dice::new(seed);
        let places = nodes.iter().enumerate().map(|(place, node)| (node.address, place)).collect();
        let known = Knowledge {
            nodes: nodes.iter().map(|node| node.address).collect(),
            others: nodes.iter().filter(|node| !node.is_ours()).map(|node| node.address).collect(),
            dead: (0..200).map(|_| public_address(&mut dice)).collect(),
            transactions: (0..TRANSACTIONS).map(|n| (txid(n), n)).collect(),
        };
        let seeds = (0..25).map(|_| dice.pick(&known.nodes)).collect();
        let mut simulation = Self {
            observer: Observer::new(&config),
            engine: Engine::new(config, Random::new(seed)),
            now: Now { instant, unix: START_UNIX },
            started: instant,
            dice,
            nodes,
            places,
            known,
            seeds,
            link_is_up: true,
            fails_at_once: seed.is_multiple_of(2),
            lines: BTreeMap::new(),
            happenings: BTreeMap::new(),
            scheduled: 0,
            caller: Caller::default(),
            log: None,
            events: Vec::new(),
            tally: Tally::default(),
        };
        simulation.schedule(SECOND, Happening::Look);
        simulation
    }

    // What a scenario sets up.

    fn start(&mut self) {
        self.run(Engine::start);
    }

    fn name_peers(&mut self, addresses: &[SocketAddr]) {
        self.observer.named.extend(addresses);
        let addresses = addresses.iter().copied().map(PeerAddress::from).collect();
        self.run(|engine, now| engine.add_peers(now, addresses)).expect("there is room for them");
    }

    /// The caller asks for something so often from now on.
    fn call_every(&mut self, time: Duration) {
        self.caller.every = Some(time);
        self.schedule(time, Happening::Call);
    }

    fn broadcast_at(&mut self, time: Duration) {
        self.schedule(time, Happening::Broadcast);
    }

    fn outage(&mut self, from: Duration, length: Duration) {
        self.schedule(from, Happening::Link(false));
        self.schedule(from + length, Happening::Link(true));
    }

    /// Some nodes begin to come and go.
    fn churn(&mut self, churn: Churn, which: impl Fn(usize) -> bool) {
        self.observer.churn = Some(churn);
        for place in (0..self.nodes.len()).filter(|&place| which(place)) {
            let after = self.dice.around(churn.up);
            self.schedule(after, Happening::Dies(place));
        }
    }

    /// No node comes or goes any more, and all are there.
    fn calm(&mut self) {
        self.observer.churn = None;
        let comes_or_goes = |happening: &Happening| matches!(happening, Happening::Dies(_) | Happening::Rises(_));
        self.happenings.retain(|_, happening| !comes_or_goes(happening));
        self.nodes.iter_mut().for_each(|node| node.is_up = true);
    }

    // Time.

    fn elapsed(&self) -> Duration {
        self.now.instant.duration_since(self.started)
    }

    fn schedule(&mut self, after: Duration, happening: Happening) {
        self.scheduled += 1;
        self.happenings.insert((self.now.instant + after, self.scheduled), happening);
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) {
        let end = self.now.instant + time;
        loop {
            let due = self.engine.poll_timeout();
            let happens = self.happenings.first_key_value().map(|(&(at, _), _)| at);
            let Some(next) = [due, happens].into_iter().flatten().min().filter(|&next| next <= end) else { break };
            self.advance_to(next);
            if due.is_some_and(|due| due <= next) {
                self.run(Engine::handle_timeout);
            } else if let Some((_, happening)) = self.happenings.pop_first() {
                self.take(happening);
            }
        }
        self.advance_to(end);
    }

    /// Lets time pass until the target is reached; gives how long that was.
    fn until_target(&mut self, within: Duration) -> Duration {
        let from = self.elapsed();
        while self.engine.ready_count() < self.engine.config.target_peers {
            let passed = self.elapsed() - from;
            assert!(passed < within, "{} peers after {passed:?}: {:#?}", self.engine.ready_count(), self.tally);
            self.pass(100 * MILLISECOND);
        }
        self.elapsed() - from
    }

    fn advance_to(&mut self, instant: Instant) {
        self.now.instant = self.now.instant.max(instant);
        self.now.unix = START_UNIX + self.elapsed().as_secs() as i64;
    }

    // What happens.

    fn take(&mut self, happening: Happening) {
        match happening {
            Happening::HandshakeDone(connection) => self.handshake_done(connection),
            Happening::Down(connection, reason) => {
                let Some(line) = self.lines.remove(&connection) else { return };
                self.run(|engine, now| engine.handle_down(now, line.peer, connection, reason));
            }
            Happening::Arrives(connection, message) => self.arrives(connection, &message),
            Happening::Heard(connection, message) => {
                if let Some(peer) = self.peer_on(connection) {
                    self.observer.has_heard(self.now);
                    let was_checking = self.observer.is_checking(peer);
                    let unclaimed = self.run(|engine, now| engine.handle_message(now, peer, connection, message));
                    assert!(!was_checking || unclaimed.is_none(), "{unclaimed:?} of a peer that is checked");
                }
            }
            Happening::Ping(connection) => {
                if let Some((peer, node)) = self.peer_on(connection).zip(self.node_on(connection)) {
                    let latency = self.nodes[node].latency;
                    self.observer.has_heard(self.now);
                    self.engine.handle_round_trip(self.now, peer, latency);
                    self.schedule(60 * SECOND, Happening::Ping(connection));
                }
            }
            Happening::Seeds => {
                if self.link_is_up {
                    let seeds = self.seeds.clone();
                    self.run(|engine, now| engine.handle_seeds(now, &seeds));
                }
            }
            Happening::Dies(place) => self.dies(place),
            Happening::Rises(place) => {
                self.nodes[place].is_up = true;
                if let Some(churn) = self.observer.churn {
                    let after = self.dice.around(churn.up);
                    self.schedule(after, Happening::Dies(place));
                }
            }
            Happening::Link(is_up) => self.set_link(is_up),
            Happening::Call => self.call(),
            Happening::Broadcast => {
                let transaction = super::transaction(self.dice.below(TRANSACTIONS.into()) as u32);
                self.broadcast(&transaction);
                self.schedule(40 * SECOND, Happening::Broadcast);
            }
            Happening::Flood(connection) => {
                if let Some(node) = self.node_on(connection) {
                    let told = self.nodes[node].addresses(&self.known, &mut self.dice);
                    self.take(Happening::Heard(connection, Message::Addr(told)));
                    self.schedule(90 * SECOND, Happening::Flood(connection));
                }
            }
            Happening::Look => {
                self.look();
                self.schedule(SECOND, Happening::Look);
            }
        }
    }

    fn handshake_done(&mut self, connection: ConnectionId) {
        let Some(line) = self.lines.get_mut(&connection) else { return };
        let Some(place) = line.node.filter(|_| line.state == LineState::Dialled) else { return };
        let peer = line.peer;
        if !self.link_is_up || !self.nodes[place].is_up {
            self.take(Happening::Down(connection, dial_failure(std::io::ErrorKind::ConnectionReset)));
            return;
        }
        line.state = LineState::Up;
        let version = Box::new(self.nodes[place].version());
        self.observer.is_up(self.now, peer);
        self.run(|engine, now| engine.handle_up(now, peer, connection, version));
        self.schedule(self.nodes[place].latency, Happening::Ping(connection));
        // Nodes talk before they are asked anything.
        let news = vec![Inventory::transaction(txid(self.dice.below(TRANSACTIONS.into()) as u32))];
        self.schedule(Duration::ZERO, Happening::Heard(connection, Message::Inv(news)));
        if self.nodes[place].tells != Tells::Truth {
            let after = self.dice.around(10 * SECOND);
            self.schedule(after, Happening::Flood(connection));
        }
        if let Some(time) = self.nodes[place].keeps_for {
            self.schedule(time, Happening::Down(connection, DisconnectReason::ClosedByPeer));
        }
    }

    /// What we sent has come to a node, which answers.
    fn arrives(&mut self, connection: ConnectionId, message: &Message) {
        let Some(place) = self.node_on(connection) else { return };
        let elapsed = self.elapsed();
        let answer = self.nodes[place].answer(message, elapsed, &self.known, &mut self.dice);
        if let Some((after, answer)) = answer {
            self.schedule(after, Happening::Heard(connection, answer));
        }
    }

    fn dies(&mut self, place: usize) {
        self.nodes[place].is_up = false;
        for connection in self.lines_of(|line| line.node == Some(place)) {
            self.cut(connection);
        }
        if let Some(churn) = self.observer.churn {
            let after = self.dice.around(churn.down);
            self.schedule(after, Happening::Rises(place));
        }
    }

    /// A connection ends: at once, or nothing more is heard on it until our ping is not answered.
    fn cut(&mut self, connection: ConnectionId) {
        let is_silent = self.dice.one_in(2);
        let silence = Duration::from_millis(30_000 + self.dice.below(60_000));
        let Some(line) = self.lines.get_mut(&connection).filter(|line| line.state == LineState::Up) else { return };
        line.state = LineState::Dead;
        let (after, reason) = match is_silent {
            true => (silence, ProtocolError::PingTimeout.into()),
            false => (50 * MILLISECOND, DisconnectReason::Io { kind: std::io::ErrorKind::ConnectionReset }),
        };
        self.schedule(after, Happening::Down(connection, reason));
    }

    fn set_link(&mut self, is_up: bool) {
        self.link_is_up = is_up;
        if !is_up {
            for connection in self.lines_of(|line| line.state == LineState::Up) {
                self.cut(connection);
            }
        }
    }

    fn call(&mut self) {
        self.caller.next += 1;
        let n = self.caller.next;
        let question = match n % 3 {
            0 => Question::Ping,
            1 => Question::Transaction(txid(n % TRANSACTIONS)),
            _ => Question::Headers(GetHeaders::new([hash((n % 251) as u8)])),
        };
        let options = RequestOptions::new().timeout(CALL_TIMEOUT);
        let elapsed = self.elapsed();
        // Not by `run`, as it may be completed before its number is known.
        let request = self.engine.submit(self.now, question, &options).expect("there is room for the request");
        self.caller.open.insert(request, elapsed);
        self.settle();
        if let Some(every) = self.caller.every {
            self.schedule(every, Happening::Call);
        }
    }

    fn broadcast(&mut self, transaction: &Transaction) {
        let options = BroadcastOptions::new().nodes(3);
        let begun = self.run(|engine, now| engine.broadcast(now, transaction, &[], &options));
        begun.expect("there is room for the transaction");
    }

    fn look(&mut self) {
        self.tally.looks += 1;
        self.tally.ready += self.engine.ready_count();
        if self.engine.ready_count() < self.engine.config.target_peers {
            self.tally.short += 1;
        }
        self.observer.check_lines(self.now, &self.engine);
        // It may be large.
        if self.tally.looks.is_multiple_of(20) {
            self.look_at_book();
        }
    }

    fn look_at_book(&mut self) {
        if let Some(snapshot) = self.engine.snapshot_peers() {
            self.tally.most_addresses = self.tally.most_addresses.max(snapshot.addresses.len());
            self.observer.check_book(snapshot.addresses);
        }
    }

    /// The peer at the other end of a connection that is up.
    fn peer_on(&self, connection: ConnectionId) -> Option<PeerId> {
        self.lines.get(&connection).filter(|line| line.state == LineState::Up).map(|line| line.peer)
    }

    fn hears_us(&self, peer: PeerId) -> bool {
        self.lines.values().any(|line| line.peer == peer && line.state == LineState::Up)
    }

    fn node_on(&self, connection: ConnectionId) -> Option<usize> {
        self.lines.get(&connection).filter(|line| line.state == LineState::Up)?.node
    }

    fn lines_of(&self, which: impl Fn(&Line) -> bool) -> Vec<ConnectionId> {
        self.lines.iter().filter(|(_, line)| which(line)).map(|(&connection, _)| connection).collect()
    }

    // What the engine does.

    fn run<T>(&mut self, work: impl FnOnce(&mut Engine, Now) -> T) -> T {
        let value = work(&mut self.engine, self.now);
        self.settle();
        value
    }

    fn settle(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            if let Some(log) = &mut self.log {
                let elapsed = self.now.instant.duration_since(self.started);
                log.push(format!("{elapsed:?} {action:?}"));
            }
            match action {
                Action::Connect { peer, connection, address } => {
                    let address = address.socket_addr().expect("there are no names here");
                    self.dial(peer, connection, address);
                }
                Action::Send { connection, message } => self.send(connection, message),
                Action::ResolveSeed { .. } => {
                    let after = Duration::from_millis(100 + self.dice.below(2_000));
                    self.schedule(after, Happening::Seeds);
                }
                Action::Close { connection, .. } => {
                    if let Some(line) = self.lines.get_mut(&connection) {
                        line.state = LineState::Dead;
                        self.schedule(MILLISECOND, Happening::Down(connection, DisconnectReason::Requested));
                    }
                }
                Action::Complete { request, outcome } => self.completed(request, &outcome),
                Action::Event(event) => {
                    self.check_standing(&event);
                    self.observer.hears(self.now, &event);
                    self.events.push((self.elapsed(), event));
                }
                Action::Serve { peer } => {
                    while let Some((connection, count)) = self.engine.announcements(peer, 1_000)
                        && count > 0
                    {
                        let items = self.engine.take_announcements(self.now, peer, count);
                        self.send(connection, Message::Inv(items));
                    }
                    while self.engine.next_to_serve(peer).is_some() {
                        self.engine.mark_served(self.now, peer);
                    }
                }
                Action::BroadcastSettled { .. } | Action::BroadcastOver { .. } => {}
                other => panic!("nobody asked for {other:?}"),
            }
        }
        self.engine.check_invariants();
    }

    /// Only whoever is on our chain counts, and only whoever cannot tell is unverified.
    fn check_standing(&self, event: &Event) {
        let chain = |address: &PeerAddress| {
            let address = address.socket_addr().expect("there are no names here");
            (self.nodes[self.places[&address]].chain, self.observer.named.contains(&address))
        };
        match event {
            Event::Connected { address, .. } => match chain(address) {
                (Chain::Ours | Chain::Syncing(_), _) | (Chain::Pruned, true) => {}
                other => panic!("{address} counts: {other:?}"),
            },
            // Its answer may be lost with its connection.
            Event::Unverified { peer, address } if self.hears_us(*peer) => {
                assert!(matches!(chain(address).0, Chain::Syncing(_)), "{address} could tell");
            }
            _ => {}
        }
    }

    fn dial(&mut self, peer: PeerId, connection: ConnectionId, address: SocketAddr) {
        let snapshot = || self.engine.snapshot_peers().map(|snapshot| snapshot.addresses);
        self.observer.dials(self.now, peer, address, snapshot);
        let node = self.places.get(&address).copied();
        self.lines.insert(connection, Line { peer, node, state: LineState::Dialled });
        let refused = |kind| Happening::Down(connection, dial_failure(kind));
        let is_prompt = self.dice.one_in(2);
        let (after, happening) = match node {
            _ if !self.link_is_up && self.fails_at_once => {
                (MILLISECOND, refused(std::io::ErrorKind::NetworkUnreachable))
            }
            _ if !self.link_is_up => (10 * SECOND, refused(std::io::ErrorKind::TimedOut)),
            Some(node) if self.nodes[node].is_up => {
                (self.nodes[node].latency * 2, Happening::HandshakeDone(connection))
            }
            _ if is_prompt => (100 * MILLISECOND, refused(std::io::ErrorKind::ConnectionRefused)),
            _ => (10 * SECOND, refused(std::io::ErrorKind::TimedOut)),
        };
        self.schedule(after, happening);
    }

    fn send(&mut self, connection: ConnectionId, message: Message) {
        let line = self.lines.get(&connection).expect("what is sent goes out on a connection");
        assert_ne!(line.state, LineState::Dialled, "{message:?} was sent before the handshake");
        let chain = line.node.map(|node| self.nodes[node].chain);
        self.observer.sends(line.peer, chain, &message);
        if matches!(message, Message::Inv(_)) {
            self.tally.announced += 1;
        }
        self.schedule(Duration::ZERO, Happening::Arrives(connection, message));
    }

    fn completed(&mut self, request: RequestId, outcome: &crate::engine::RequestOutcome) {
        let asked = self.caller.open.remove(&request).expect("each request ends once");
        let took = self.elapsed() - asked;
        assert!(took <= CALL_TIMEOUT, "{request:?} took {took:?}: {:?}", outcome.result);
        self.tally.longest = self.tally.longest.max(took);
        let failure = match &outcome.result {
            Ok(_) => {
                let address = outcome.peer.as_ref().and_then(PeerAddress::socket_addr).expect("somebody answered");
                let node = &self.nodes[self.places[&address]];
                let is_named = self.observer.named.contains(&address) && node.chain == Chain::Pruned;
                assert!(node.is_ours() || is_named, "{address} is on another chain: {:?}", node.chain);
                self.tally.answered += 1;
                self.tally.by_slow += usize::from(node.latency >= SECOND);
                return;
            }
            Err(RequestError::NoPeers) => "no peers",
            Err(RequestError::TimedOut { .. }) => "timed out",
            Err(RequestError::Failed { .. }) => "failed",
            Err(error) => panic!("nothing here ends as {error:?}"),
        };
        *self.tally.failed.entry(failure).or_default() += 1;
    }

    /// How often an event was told.
    fn count(&self, which: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|(_, event)| which(event)).count()
    }

    fn failures(&self) -> usize {
        self.tally.failed.values().sum()
    }

    fn book_len(&mut self) -> usize {
        self.look_at_book();
        self.observer.book.len()
    }

    /// Addresses of nodes that the book has failures of.
    fn failed_addresses(&mut self) -> usize {
        self.look_at_book();
        self.observer.book.iter().filter(|saved| saved.failures > 0).count()
    }
}

/// The randomness of a simulation.
#[derive(Clone, Debug)]
struct Dice {
    random: Random,
}

impl Dice {
    fn new(seed: u64) -> Self {
        Self { random: Random::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x5eed) }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random.next() % limit.max(1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    /// Between half and one and a half times as much.
    fn around(&mut self, mean: Duration) -> Duration {
        mean / 2 + Duration::from_micros(self.below(mean.as_micros() as u64))
    }
}

/// A network of nodes on our chain that tell the truth, several in each /16.
fn town(dice: &mut Dice, count: usize) -> Vec<Node> {
    let mut taken = BTreeSet::new();
    let mut nodes = Vec::new();
    while nodes.len() < count {
        let ip = [20 + dice.below(4), dice.below(20), dice.below(256), 1 + dice.below(250)].map(|n| n as u8);
        let latency = Duration::from_millis(5 + dice.below(250));
        if taken.insert(ip) {
            nodes.push(Node {
                address: (ip, PORT).into(),
                chain: Chain::Ours,
                tells: Tells::Truth,
                latency,
                is_up: true,
                keeps_for: None,
            });
        }
    }
    nodes
}

fn config() -> Config {
    Config::new(Network::Test).target_peers(8).broadcast_lifetime(100 * SECOND)
}

fn dial_failure(kind: std::io::ErrorKind) -> DisconnectReason {
    DisconnectReason::Dial { kind }
}

/// Transactions that there are.
const TRANSACTIONS: u32 = 500;
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
