//! Watches: each announced transaction asked of one peer and delivered once, headers and blocks once.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::block::proven_work;
use crate::queue::message::Gauge;
use crate::watch::Watch;
use crate::wire::Command;

/// A watch as its reader has it.
struct Reader {
    id: WatchId,
    gauge: Arc<Gauge>,
    missed: Arc<AtomicU64>,
    /// What lies in its queue.
    queue: VecDeque<Queued<Watched>>,
}

impl Reader {
    fn open(world: &mut World, what: Watch, bytes: usize, items: usize) -> Self {
        let gauge = Arc::new(Gauge::new(bytes, items, Vec::new()));
        let missed = Arc::new(AtomicU64::new(0));
        let id = world.run(|engine, now| engine.watch(now, what, gauge.clone(), missed.clone()));
        Self { id, gauge, missed, queue: VecDeque::new() }
    }

    fn with_room(world: &mut World, what: Watch) -> Self {
        Self::open(world, what, 1 << 26, 1 << 20)
    }

    /// Fills the queue with what was delivered.
    fn fill(&mut self, world: &mut World) {
        let (mine, others) = std::mem::take(&mut world.watched).into_iter().partition(|(id, _)| *id == self.id);
        world.watched = others;
        let mine: Vec<(WatchId, Queued<Watched>)> = mine;
        self.queue.extend(mine.into_iter().map(|(_, item)| item));
    }

    /// Takes one item.
    fn take(&mut self, world: &mut World) -> Option<Watched> {
        self.fill(world);
        let item = self.queue.pop_front()?;
        self.gauge.give_back(item.cost);
        Some(item.incoming)
    }

    /// Takes all there is, and lets the engine know of the room.
    fn drain(&mut self, world: &mut World) -> Vec<Watched> {
        let items: Vec<_> = std::iter::from_fn(|| self.take(world)).collect();
        world.run(Engine::handle_watch_room);
        items
    }

    fn missed(&self) -> u64 {
        self.missed.load(Ordering::Acquire)
    }
}

fn inv(ns: impl IntoIterator<Item = u32>) -> Message {
    Message::Inv(ns.into_iter().map(|n| Inventory::transaction(txid(n))).collect())
}

fn get(ns: impl IntoIterator<Item = u32>) -> Message {
    Message::GetData(ns.into_iter().map(|n| Inventory::transaction(txid(n))).collect())
}

fn tx(n: u32) -> Message {
    Message::Tx(transaction(n))
}

fn transactions(items: &[Watched]) -> Vec<Txid> {
    let txid = |item: &Watched| match item {
        Watched::Transaction { transaction, .. } => Some(transaction.txid()),
        _ => None,
    };
    items.iter().filter_map(txid).collect()
}

fn watch_transactions(world: &mut World) -> Reader {
    Reader::with_room(world, Watch::new().transactions())
}

#[test]
fn a_transaction_is_asked_of_its_first_announcer_and_delivered_once() {
    let (mut world, peers) = World::connected(3);
    let mut reader = watch_transactions(&mut world);
    assert_eq!(world.say(peers[1], inv([1, 2])), Some(inv([1, 2])), "an announcement is news for everybody");
    assert_eq!(world.sent(), [(peers[1], get([1, 2]))], "one getdata for all of them");
    world.say(peers[0], inv([2, 1, 3]));
    assert_eq!(world.sent(), [(peers[0], get([3]))]);
    for (peer, n) in [(1, 1), (1, 2), (0, 3)] {
        assert_eq!(world.say(peers[peer], tx(n)), None, "what we asked for is ours");
    }
    world.say(peers[2], inv([1, 2, 3]));
    assert_eq!(world.sent(), []);
    let items = reader.drain(&mut world);
    assert_eq!(transactions(&items), [txid(1), txid(2), txid(3)]);
    assert_eq!(items[0], Watched::Transaction { peer: peers[1], transaction: transaction(1) });
}

#[test]
fn another_announcer_is_asked_after_notfound_loss_and_silence() {
    let (mut world, peers) = World::connected(4);
    let mut reader = watch_transactions(&mut world);
    for &peer in &peers {
        world.say(peer, inv([1]));
    }
    assert_eq!(world.sent(), [(peers[0], get([1]))]);
    assert_eq!(world.say(peers[0], not_found([1])), None);
    assert_eq!(world.sent(), [(peers[1], get([1]))]);
    world.lose(peers[1]);
    assert_eq!(world.sent(), [(peers[2], get([1]))]);
    world.pass(10 * SECOND);
    assert_eq!(world.sent(), [(peers[3], get([1]))]);
    world.say(peers[3], tx(1));
    // The silent one answers after all.
    assert_eq!(world.say(peers[2], tx(1)), None);
    assert_eq!(transactions(&reader.drain(&mut world)), [txid(1)]);
    assert_eq!(reader.missed(), 0);
}

#[test]
fn a_peer_that_answers_others_is_slow_and_not_silent() {
    let (mut world, peers) = World::connected(2);
    let _reader = watch_transactions(&mut world);
    world.say(peers[0], inv(0..8));
    world.say(peers[1], inv(0..8));
    world.sent();
    for n in 0..6 {
        world.pass(9 * SECOND);
        world.say(peers[0], tx(n));
    }
    assert_eq!(world.sent(), []);
    // But not for ever.
    world.pass(7 * SECOND);
    assert_eq!(world.sent(), [(peers[1], get([6, 7]))]);
}

#[test]
fn a_late_answer_is_delivered_when_nobody_else_gave_it() {
    let (mut world, peers) = World::connected(1);
    let mut reader = watch_transactions(&mut world);
    world.say(peers[0], inv([1]));
    world.pass(60 * SECOND);
    assert_eq!(world.say(peers[0], inv([1])), Some(inv([1])));
    assert_eq!(world.sent(), [(peers[0], get([1]))], "a peer is asked once");
    assert_eq!(world.say(peers[0], tx(1)), None);
    assert_eq!(transactions(&reader.drain(&mut world)), [txid(1)]);
}

#[test]
fn what_comes_unasked_is_delivered_and_not_asked_for() {
    let (mut world, peers) = World::connected(2);
    let mut reader = watch_transactions(&mut world);
    assert_eq!(world.say(peers[0], tx(1)), Some(tx(1)));
    world.say(peers[1], inv([1]));
    assert_eq!(world.say(peers[1], tx(1)), Some(tx(1)));
    assert_eq!(world.sent(), []);
    assert_eq!(transactions(&reader.drain(&mut world)), [txid(1)]);
}

#[test]
fn a_request_for_the_same_transaction_serves_both() {
    let (mut world, peers) = World::connected(1);
    let mut reader = watch_transactions(&mut world);
    // Asked by the request first: the watch waits for the same answer.
    let request = world.ask(Question::Transaction(txid(1)));
    world.sent();
    world.say(peers[0], inv([1]));
    assert_eq!(world.sent(), []);
    assert_eq!(world.say(peers[0], tx(1)), None);
    assert_eq!(*world.result(request), Ok(Answer::Transaction(transaction(1))));
    // Asked by the watch first: two answers come, and both are claimed.
    world.say(peers[0], inv([2]));
    let request = world.ask(Question::Transaction(txid(2)));
    assert_eq!(world.sent().len(), 2);
    assert_eq!(world.say(peers[0], tx(2)), None);
    assert_eq!(world.say(peers[0], tx(2)), None);
    assert_eq!(*world.result(request), Ok(Answer::Transaction(transaction(2))));
    assert_eq!(transactions(&reader.drain(&mut world)), [txid(1), txid(2)]);
    // What only a request asked for is no news.
    world.ask(Question::Transaction(txid(3)));
    world.say(peers[0], tx(3));
    assert_eq!(reader.drain(&mut world), []);
}

#[test]
fn both_hear_of_a_transaction_that_is_not_there() {
    let (mut world, peers) = World::connected(2);
    let _reader = watch_transactions(&mut world);
    let request = world.ask_with(Question::Transaction(txid(1)), &RequestOptions::new().peer(peers[0]));
    world.say(peers[0], inv([1]));
    world.say(peers[1], inv([1]));
    world.sent();
    assert_eq!(world.say(peers[0], not_found([1])), None);
    assert!(matches!(world.result(request), Err(RequestError::NotFound { .. })));
    assert_eq!(world.sent(), [(peers[1], get([1]))]);
}

#[test]
fn a_slow_reader_stops_the_asking_and_misses_nothing() {
    let (mut world, peers) = World::connected(2);
    let mut reader = Reader::open(&mut world, Watch::new().transactions(), 1 << 26, 8);
    world.say(peers[0], inv(0..20));
    assert_eq!(world.sent(), [(peers[0], get(0..7))]);
    let mut got = Vec::new();
    let mut asked = 0..7_u32;
    while got.len() < 20 {
        for n in asked {
            world.say(peers[0], tx(n));
        }
        assert_eq!(world.sent(), [], "nothing is asked for while nothing is taken");
        got.extend(transactions(&reader.drain(&mut world)));
        let count: usize = world.sent().iter().map(|(_, message)| asked_for(message).len()).sum();
        asked = got.len() as u32..(got.len() + count) as u32;
    }
    assert_eq!(got, (0..20).map(txid).collect::<Vec<_>>());
    assert_eq!(reader.missed(), 0);
}

#[test]
fn announcements_beyond_the_limit_are_dropped_and_counted() {
    let config = Config::new(Network::Regtest).watch_announcements(10);
    let (mut world, peers) = World::connected_with(config, 1);
    let mut reader = Reader::open(&mut world, Watch::new().transactions(), 1 << 26, 8);
    world.say(peers[0], inv(0..30));
    assert_eq!(reader.missed(), 20);
    let mut got = Vec::new();
    let mut told = 0;
    loop {
        let asked: Vec<_> = world.sent().iter().flat_map(|(_, message)| asked_for(message)).collect();
        if asked.is_empty() {
            break;
        }
        for n in (0..30).filter(|&n| asked.contains(&txid(n))) {
            world.say(peers[0], tx(n));
        }
        let items = reader.drain(&mut world);
        got.extend(transactions(&items));
        told += items.iter().map(|i| if let Watched::Missed { count } = i { *count } else { 0 }).sum::<u64>();
    }
    told += reader
        .drain(&mut world)
        .iter()
        .map(|i| if let Watched::Missed { count } = i { *count } else { 0 })
        .sum::<u64>();
    assert_eq!((got.len(), told), (10, 20));
    assert_eq!(got.last(), Some(&txid(29)), "the oldest go first");
}

#[test]
fn nothing_is_asked_for_once_the_last_reader_is_gone() {
    let (mut world, peers) = World::connected(1);
    let (_, reader) = {
        let gauge = Arc::new(Gauge::new(1 << 20, 100, Vec::new()));
        let (queue, reader) = crate::queue::message::Reader::<Watched>::new(gauge.clone());
        let what = Watch::new().transactions().blocks();
        let id = world.run(|engine, now| engine.watch(now, what, gauge, Arc::default()));
        world.say(peers[0], inv([1]));
        world.sent();
        drop(reader);
        world.run(Engine::handle_watch_room);
        (queue, id)
    };
    assert_eq!(world.ended_watches, [reader]);
    world.say(peers[0], inv([2]));
    world.say(peers[0], Message::Inv(vec![Inventory::block(hash(1))]));
    assert_eq!(world.sent(), []);
    assert_eq!(world.say(peers[0], tx(1)), None, "a late answer is nobody's news");
}

#[test]
fn a_payload_too_large_to_hold_counts_as_missed() {
    let (mut world, peers) = World::connected(1);
    let mut reader = watch_transactions(&mut world);
    world.say(peers[0], inv([1, 2]));
    let connection = world.connection(peers[0]);
    world.run(|engine, now| engine.handle_oversized(now, peers[0], connection, Command::TX, 1 << 30, &[]));
    world.say(peers[0], tx(2));
    assert_eq!(world.closes, []);
    let items = reader.drain(&mut world);
    assert_eq!(items[0], Watched::Missed { count: 1 });
    assert_eq!(transactions(&items), [txid(2)]);
}

#[test]
fn load_is_spread_over_those_that_have_room() {
    let (mut world, peers) = World::connected(2);
    let _reader = watch_transactions(&mut world);
    world.say(peers[0], inv(0..6_000));
    world.say(peers[1], inv(0..6_000));
    let asked: Vec<usize> = world.sent().iter().map(|(_, message)| asked_for(message).len()).collect();
    assert_eq!(asked, [4_096, 1_904]);
}

// Blocks.

fn mined(previous: BlockHash, n: u32) -> BlockHeader {
    let with = |nonce| BlockHeader {
        version: 1,
        previous,
        merkle_root: MerkleRoot::ZERO,
        time: n,
        bits: 0x207f_ffff,
        nonce,
    };
    let proves = |header: &BlockHeader| proven_work(header, &header.hash()).is_some();
    (0..).map(with).find(proves).expect("every second nonce does")
}

fn mined_chain(previous: BlockHash, count: u32, branch: u32) -> Vec<BlockHeader> {
    let mut last = previous;
    let mut next = |n| {
        let header = mined(last, n + 1_000 * branch);
        last = header.hash();
        header
    };
    (0..count).map(&mut next).collect()
}

fn block_inv(header: &BlockHeader) -> Message {
    Message::Inv(vec![Inventory::block(header.hash())])
}

fn tips(items: &[Watched]) -> Vec<BlockHeader> {
    items
        .iter()
        .filter_map(|item| if let Watched::Tip { header, .. } = item { Some(*header) } else { None })
        .collect()
}

fn asked_locator(message: &Message) -> GetHeaders {
    match message {
        Message::GetHeaders(request) => request.clone(),
        other => panic!("not getheaders: {other:?}"),
    }
}

#[test]
fn peers_are_told_once_to_announce_by_headers() {
    let (mut world, peers) = World::connected(2);
    let _first = Reader::with_room(&mut world, Watch::new().tips());
    assert_eq!(world.sent(), [(peers[0], Message::SendHeaders), (peers[1], Message::SendHeaders)]);
    let _second = Reader::with_room(&mut world, Watch::new().blocks());
    assert_eq!(world.sent(), []);
    world.lose(peers[0]);
    world.reconnect(peers[0]);
    assert_eq!(world.sent(), [(peers[0], Message::SendHeaders)]);
}

#[test]
fn tips_and_headers_come_once_and_in_order_whoever_announces_them() {
    let (mut world, peers) = World::connected(2);
    let mut reader = Reader::with_room(&mut world, Watch::new().tips().headers());
    world.sent();
    let chain = mined_chain(hash(7), 6, 0);
    for &peer in &peers {
        world.say(peer, block_inv(&chain[0]));
        let question = asked_locator(&world.sent()[0].1);
        assert_eq!(question.stop == chain[0].hash(), peer == peers[0]);
        let answer = if peer == peers[0] { vec![chain[0]] } else { vec![] };
        assert_eq!(world.say(peer, Message::Headers(answer)), None);
    }
    // Announced by headers, by both.
    world.say(peers[0], Message::Headers(vec![chain[1]]));
    world.say(peers[1], Message::Headers(vec![chain[1], chain[2]]));
    assert_eq!(world.sent(), []);
    // Two are missing between.
    world.say(peers[0], Message::Headers(vec![chain[5]]));
    let question = asked_locator(&world.sent()[0].1);
    assert_eq!(question.locator[0], chain[2].hash());
    world.say(peers[0], Message::Headers(chain[3..].to_vec()));
    let items = reader.drain(&mut world);
    assert_eq!(tips(&items), chain);
    let headers: Vec<_> = items
        .iter()
        .filter_map(|i| if let Watched::Headers { headers, .. } = i { Some(headers.clone()) } else { None })
        .flatten()
        .collect();
    assert_eq!(headers, chain);
}

#[test]
fn a_branch_is_the_tip_once_it_has_more_work() {
    let (mut world, peers) = World::connected(1);
    let mut reader = Reader::with_room(&mut world, Watch::new().tips());
    let chain = mined_chain(hash(7), 2, 0);
    world.say(peers[0], block_inv(&chain[0]));
    world.say(peers[0], Message::Headers(vec![chain[0]]));
    world.say(peers[0], Message::Headers(vec![chain[1]]));
    let branch = mined_chain(chain[0].hash(), 2, 1);
    world.say(peers[0], Message::Headers(vec![branch[0]]));
    assert_eq!(tips(&reader.drain(&mut world)), chain);
    world.say(peers[0], Message::Headers(vec![branch[1]]));
    assert_eq!(tips(&reader.drain(&mut world)), [branch[1]]);
    // A branch from before everything known is asked for by name, and is the tip with its second header.
    let far = mined_chain(hash(9), 3, 2);
    world.sent();
    world.say(peers[0], block_inv(&far[1]));
    assert_eq!(asked_locator(&world.sent()[0].1).locator.last(), Some(&Network::Regtest.genesis()));
    let from_genesis = mined_chain(Network::Regtest.genesis(), 2, 3);
    world.say(peers[0], Message::Headers(from_genesis));
    assert_eq!(asked_locator(&world.sent()[0].1), GetHeaders::new([]).stop_at(far[1].hash()));
    world.say(peers[0], Message::Headers(vec![far[1]]));
    assert_eq!(reader.drain(&mut world), []);
    world.say(peers[0], Message::Headers(vec![far[2]]));
    assert_eq!(tips(&reader.drain(&mut world)), [far[2]]);
}

#[test]
fn a_header_without_its_work_is_nothing() {
    let (mut world, peers) = World::connected(1);
    let mut reader = Reader::with_room(&mut world, Watch::new().tips().headers().blocks());
    let lazy = BlockHeader { bits: 0x1d00_ffff, ..mined(hash(7), 0) };
    world.say(peers[0], block_inv(&lazy));
    world.say(peers[0], Message::Headers(vec![lazy]));
    assert_eq!(reader.drain(&mut world), []);
}

#[test]
fn a_block_is_fetched_once_from_an_announcer_that_gives_it() {
    let (mut world, peers) = World::connected(3);
    let mut reader = Reader::with_room(&mut world, Watch::new().blocks());
    world.sent();
    let header = mined(hash(7), 0);
    let block = Block::new(header, vec![transaction(1)]);
    let header = *block.header();
    let header =
        (0..).map(|nonce| BlockHeader { nonce, ..header }).find(|h| proven_work(h, &h.hash()).is_some()).unwrap();
    let block = Block::new(header, vec![transaction(1)]);
    let get = Message::GetData(vec![Inventory::block(block.hash())]);
    for &peer in &peers[1..] {
        world.say(peer, block_inv(&header));
    }
    world.sent();
    world.say(peers[1], Message::Headers(vec![header]));
    assert_eq!(world.sent(), [(peers[1], get.clone())]);
    world.say(peers[2], Message::Headers(vec![header]));
    world.say(peers[2], block_inv(&header));
    world.sent();
    world.lose(peers[1]);
    assert_eq!(world.sent(), [(peers[2], get.clone())]);
    assert_eq!(world.say(peers[2], Message::Block(block.clone())), None);
    assert_eq!(reader.drain(&mut world), [Watched::Block { peer: peers[2], block: block.clone() }]);
    // One that nobody gives is told of, and so is one that is too large.
    let next = mined(header.hash(), 1);
    world.say(peers[2], Message::Headers(vec![next]));
    world.pass(200 * SECOND);
    let items = reader.drain(&mut world);
    assert!(matches!(&items[..], [Watched::NoBlock { header, .. }] if *header == next), "{items:?}");
    let large = mined(next.hash(), 2);
    world.say(peers[2], Message::Headers(vec![large]));
    let connection = world.connection(peers[2]);
    world.run(|e, now| e.handle_oversized(now, peers[2], connection, Command::BLOCK, 1 << 40, &large.encode()));
    let items = reader.drain(&mut world);
    let error = RequestError::TooLarge { length: 1 << 40, limit: 32 << 20 };
    assert_eq!(items, [Watched::NoBlock { header: large, error }]);
    assert_eq!(world.outcomes.len(), 0, "no caller hears of it");
}

// Everything in any order.

#[derive(Clone, Debug)]
enum Step {
    Announce {
        peer: u8,
        from: u8,
        count: u8,
    },
    /// A peer answers the oldest thing it was asked, in order; what it lacks with `notfound`.
    Answer {
        peer: u8,
        count: u8,
    },
    Unasked {
        peer: u8,
        n: u8,
    },
    Request {
        n: u8,
    },
    Down(u8),
    Up(u8),
    Pause(u8, bool),
    Read {
        count: u8,
    },
    Pass(u16),
    Jump,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4_u8, 0..40_u8, 1..12_u8).prop_map(|(peer, from, count)| Step::Announce { peer, from, count }),
        8 => (0..4_u8, 1..8_u8).prop_map(|(peer, count)| Step::Answer { peer, count }),
        1 => (0..4_u8, 0..40_u8).prop_map(|(peer, n)| Step::Unasked { peer, n }),
        1 => (0..40_u8).prop_map(|n| Step::Request { n }),
        2 => (0..4_u8).prop_map(Step::Down),
        3 => (0..4_u8).prop_map(Step::Up),
        1 => (0..4_u8, any::<bool>()).prop_map(|(peer, paused)| Step::Pause(peer, paused)),
        6 => (1..10_u8).prop_map(|count| Step::Read { count }),
        2 => (0..12_000_u16).prop_map(Step::Pass),
        2 => Just(Step::Jump),
    ]
}

/// A world with one watch and a careful observer.
struct Play {
    world: World,
    peers: Vec<PeerId>,
    reader: Reader,
    /// What each connection was asked and has not answered, in order.
    owed: BTreeMap<ConnectionId, VecDeque<Message>>,
    announced: BTreeSet<(ConnectionId, Txid)>,
    /// By whom: a watch, or requests.
    asked: BTreeSet<(ConnectionId, Txid)>,
    requested: BTreeSet<Txid>,
    delivered: BTreeSet<Txid>,
    unasked: BTreeSet<Txid>,
    /// What the reader was told to have missed.
    told: u64,
    /// Peers may have been given up for silent.
    waited: bool,
    salt: u8,
}

/// Whether a peer has a transaction.
fn has(peer: usize, n: u32, salt: u8) -> bool {
    !(n + peer as u32 * 3 + u32::from(salt)).is_multiple_of(4)
}

impl Play {
    fn new(items: usize, salt: u8) -> Self {
        let (mut world, peers) = World::connected(4);
        let reader = Reader::open(&mut world, Watch::new().transactions(), 1 << 20, items);
        world.log = Some(Vec::new());
        Self {
            world,
            peers,
            reader,
            owed: BTreeMap::new(),
            announced: BTreeSet::new(),
            asked: BTreeSet::new(),
            requested: BTreeSet::new(),
            delivered: BTreeSet::new(),
            unasked: BTreeSet::new(),
            told: 0,
            waited: false,
            salt,
        }
    }

    fn up(&self, at: u8) -> Option<(PeerId, ConnectionId)> {
        let peer = self.peers[usize::from(at)];
        Some((peer, self.world.engine.connection_of(peer)?))
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Announce { peer, from, count } => {
                if let Some((id, connection)) = self.up(peer) {
                    let ns = u32::from(from)..u32::from(from) + u32::from(count);
                    self.announced.extend(ns.clone().map(|n| (connection, txid(n))));
                    self.world.say(id, inv(ns));
                }
            }
            Step::Answer { peer, count } => {
                for _ in 0..count {
                    self.answer(peer);
                }
            }
            Step::Unasked { peer, n } => {
                if let Some((id, _)) = self.up(peer) {
                    self.unasked.insert(txid(n.into()));
                    self.world.say(id, tx(n.into()));
                }
            }
            Step::Request { n } => {
                self.requested.insert(txid(n.into()));
                self.world.ask(Question::Transaction(txid(n.into())));
            }
            Step::Down(peer) => {
                if let Some((id, connection)) = self.up(peer) {
                    self.world.lose(id);
                    self.owed.remove(&connection);
                }
            }
            Step::Up(peer) => {
                let id = self.peers[usize::from(peer)];
                if self.up(peer).is_none() && self.world.connects.iter().any(|&(dialled, ..)| dialled == id) {
                    self.world.connect(id);
                }
            }
            Step::Pause(peer, paused) => {
                if let Some((id, _)) = self.up(peer) {
                    self.world.pause(id, paused);
                }
            }
            Step::Read { count } => self.read(count.into()),
            Step::Pass(milliseconds) => {
                self.waited = true;
                self.world.pass(u32::from(milliseconds) * MILLISECOND);
            }
            Step::Jump => {
                self.waited = true;
                if self.world.engine.poll_timeout().is_some() {
                    self.world.jump();
                }
            }
        }
        self.note_sent();
    }

    fn note_sent(&mut self) {
        for (connection, message) in std::mem::take(&mut self.world.sent) {
            for txid in asked_for(&message) {
                let is_new = self.asked.insert((connection, txid));
                assert!(is_new || self.requested.contains(&txid), "{txid} was asked twice of {connection:?}");
                let was_announced = self.announced.contains(&(connection, txid));
                assert!(
                    was_announced || self.requested.contains(&txid),
                    "{txid} was asked of who did not announce it"
                );
                self.owed.entry(connection).or_default().push_back(get_one(txid));
            }
        }
    }

    fn answer(&mut self, peer: u8) {
        let Some((id, connection)) = self.up(peer) else { return };
        let Some(question) = self.owed.get_mut(&connection).and_then(VecDeque::pop_front) else { return };
        let wanted = asked_for(&question)[0];
        let n = (0..60).find(|&n| txid(n) == wanted).expect("one of ours");
        let answer = if has(peer.into(), n, self.salt) { tx(n) } else { not_found([n]) };
        let unclaimed = self.world.say(id, answer);
        // Where one came unasked it was taken for the answer.
        let may_come_back = self.unasked.contains(&wanted);
        assert!(unclaimed.is_none() || may_come_back, "what was asked for is claimed: {unclaimed:?}");
        self.note_sent();
    }

    fn read(&mut self, most: usize) {
        for _ in 0..most {
            let Some(item) = self.reader.take(&mut self.world) else { break };
            match item {
                Watched::Transaction { transaction, .. } => {
                    assert!(self.delivered.insert(transaction.txid()), "delivered twice");
                }
                Watched::Missed { count } => self.told += count,
                other => panic!("only transactions are watched: {other:?}"),
            }
        }
        self.world.run(Engine::handle_watch_room);
    }

    /// Lets everybody answer and everything be read.
    fn finish(&mut self) {
        for peer in 0..4 {
            if let Some((id, _)) = self.up(peer) {
                self.world.pause(id, false);
            }
        }
        for _ in 0..200 {
            self.note_sent();
            for peer in 0..4 {
                self.answer(peer);
                self.answer(peer);
            }
            self.read(4);
        }
        assert_eq!(self.reader.missed(), self.told);
        let mut missed = 0;
        for (n, id) in (0..60).map(|n| (n, txid(n))) {
            let serves = |peer: u8| {
                self.up(peer).is_some_and(|(_, connection)| {
                    self.announced.contains(&(connection, id)) && has(peer.into(), n, self.salt)
                })
            };
            if (0..4).any(serves) {
                // Announced by a living peer that has it.
                missed += u64::from(!self.delivered.contains(&id));
            }
        }
        assert!(missed <= self.told, "{missed} were lost, {} are accounted for", self.told);
        // What comes unasked, or late, finds no room kept for it.
        if self.unasked.is_empty() && !self.waited {
            assert_eq!(self.told, 0, "nothing is missed because the reader is slow");
        }
    }
}

fn get_one(txid: Txid) -> Message {
    Message::GetData(vec![Inventory::transaction(txid)])
}

fn asked_for(message: &Message) -> Vec<Txid> {
    match message {
        Message::GetData(items) => items.iter().filter_map(Inventory::txid).collect(),
        _ => Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_transaction_is_delivered_once_whatever_happens(
        items in 1..30_usize,
        salt in 0..4_u8,
        calm in any::<bool>(),
        mut steps in vec(step(), 1..150),
    ) {
        if calm {
            let is_calm = |step: &Step| !matches!(step, Step::Unasked { .. } | Step::Pass(_) | Step::Jump | Step::Up(_));
            steps.retain(is_calm);
        }
        let run = || {
            let mut play = Play::new(items, salt);
            steps.iter().for_each(|step| play.run(step));
            play.finish();
            play.world.log.take().unwrap_or_default()
        };
        // The same steps do the same again: nothing hangs on the order of a hash map.
        let log = run();
        prop_assert_eq!(log, run());
    }
}
