//! Everything that can happen, in any order: each request ends once, and nothing is left behind.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::block::PartialMerkleTree;
use crate::message::{
    BlockTxn, CompactBlock, EnrichedHeader, GetBlockTxn, GetBlocks, GetHdrsEn, InventoryKind, MerkleBlock,
    MerkleProof, ProofTarget, ProvenTransaction, Reject, RejectCode,
};
use crate::network::CustomNetwork;
use crate::proto::ProtocolError;
use crate::queue::message::{Gauge, Reader};
use crate::watch::Watch;
use crate::wire::Command;

/// One thing that a caller, a peer or time does. Small numbers stand for peers, things asked for, and places in lists.
#[derive(Clone, Debug)]
enum Step {
    Ask {
        kind: u8,
        n: u8,
        pinned: Option<u8>,
        attempts: Option<u8>,
        seconds: Option<u8>,
    },
    Cancel(u8),
    Add(u8),
    Disconnect(u8),
    Ban(u8, u8),
    SetMain(u8),
    Resolved {
        answer: u8,
        at: u8,
    },
    Up(u8),
    Refused(u8),
    Down {
        peer: u8,
        reason: u8,
    },
    /// A peer answers something it was asked.
    Answer {
        at: u8,
    },
    /// A peer says that it does not have something it was asked for.
    Deny {
        at: u8,
    },
    /// A peer answers something again, or after its connection is gone.
    Repeat {
        at: u8,
    },
    /// A peer says something of its own accord.
    Say {
        peer: u8,
        kind: u8,
        n: u8,
    },
    Oversized {
        peer: u8,
        n: Option<u8>,
    },
    Pause(u8, bool),
    RoundTrip(u8, u8),
    Broadcast {
        n: u8,
        nodes: u8,
    },
    Serve {
        peer: u8,
        most: u8,
    },
    Pass(u16),
    Jump,
    Start,
    Seeds(u8),
    Watch(u8),
    EndWatch,
}

fn step() -> impl Strategy<Value = Step> {
    let ask =
        (0..13_u8, 0..4_u8, option::weighted(0.2, 0..8_u8), option::weighted(0.3, 0..5_u8), option::of(0..40_u8));
    prop_oneof![
        8 => ask.prop_map(|(kind, n, pinned, attempts, seconds)| Step::Ask { kind, n, pinned, attempts, seconds }),
        1 => any::<u8>().prop_map(Step::Cancel),
        2 => (0..6_u8).prop_map(Step::Add),
        1 => (0..6_u8).prop_map(Step::Disconnect),
        1 => (0..6_u8, 0..60_u8).prop_map(|(peer, seconds)| Step::Ban(peer, seconds)),
        1 => (0..6_u8).prop_map(Step::SetMain),
        2 => (0..4_u8, any::<u8>()).prop_map(|(answer, at)| Step::Resolved { answer, at }),
        6 => any::<u8>().prop_map(Step::Up),
        1 => any::<u8>().prop_map(Step::Refused),
        3 => (0..6_u8, 0..4_u8).prop_map(|(peer, reason)| Step::Down { peer, reason }),
        8 => any::<u8>().prop_map(|at| Step::Answer { at }),
        4 => any::<u8>().prop_map(|at| Step::Deny { at }),
        2 => any::<u8>().prop_map(|at| Step::Repeat { at }),
        4 => (0..6_u8, 0..16_u8, 0..4_u8).prop_map(|(peer, kind, n)| Step::Say { peer, kind, n }),
        1 => (0..6_u8, option::of(0..4_u8)).prop_map(|(peer, n)| Step::Oversized { peer, n }),
        3 => (0..6_u8, any::<bool>()).prop_map(|(peer, paused)| Step::Pause(peer, paused)),
        1 => (0..6_u8, any::<u8>()).prop_map(|(peer, time)| Step::RoundTrip(peer, time)),
        3 => (0..6_u8, 1..4_u8).prop_map(|(n, nodes)| Step::Broadcast { n, nodes }),
        2 => (0..6_u8, 0..3_u8).prop_map(|(peer, most)| Step::Serve { peer, most }),
        4 => (0..20_000_u16).prop_map(Step::Pass),
        4 => Just(Step::Jump),
        1 => Just(Step::Start),
        1 => (0..4_u8).prop_map(Step::Seeds),
        1 => (1..8_u8).prop_map(Step::Watch),
        1 => Just(Step::EndWatch),
    ]
}

/// A world with the memory of a careful observer.
struct Play {
    world: World,
    /// Every request taken: what was asked, how often it may be asked, and for how long.
    taken: BTreeMap<RequestId, (Question, Option<PeerId>, usize, Duration)>,
    /// What peers were asked and did not answer.
    owed: Vec<(ConnectionId, Message)>,
    answered: Vec<(ConnectionId, Message)>,
    asked_for_addresses: BTreeSet<ConnectionId>,
    /// Nobody takes from their queues.
    readers: Vec<Reader<Watched>>,
}

impl Play {
    fn new(checked: bool) -> Self {
        // The other one's peers are not asked for a fork marker.
        let network = if checked { Network::Test } else { unmarked_network() };
        let config = Config::new(network)
            .requests_limit(30 * 512)
            .broadcast_items(5)
            .broadcast_lifetime(50 * SECOND)
            .max_peers(5);
        let mut world = World::new(config);
        world.log = Some(Vec::new());
        Self {
            world,
            taken: BTreeMap::new(),
            owed: Vec::new(),
            answered: Vec::new(),
            asked_for_addresses: BTreeSet::new(),
            readers: Vec::new(),
        }
    }

    fn peer(&self, at: u8) -> Option<PeerId> {
        let mut peers: Vec<_> = self.world.engine.peers(self.world.now).iter().map(|info| info.id).collect();
        peers.sort_unstable();
        peers.get(usize::from(at)).copied()
    }

    fn ready_peer(&self, at: u8) -> Option<PeerId> {
        self.peer(at).filter(|&peer| self.world.engine.connection_of(peer).is_some())
    }

    fn run(&mut self, step: &Step) {
        self.take(step);
        for (connection, message) in self.world.sent.drain(..) {
            if message == Message::GetAddr {
                assert!(self.asked_for_addresses.insert(connection), "getaddr was sent twice");
            }
            self.owed.push((connection, message));
        }
    }

    fn take(&mut self, step: &Step) {
        let world = &self.world;
        match *step {
            Step::Ask { kind, n, pinned, attempts, seconds } => {
                self.ask(question(kind, n), pinned, attempts, seconds);
            }
            Step::Cancel(at) => {
                let open = world.engine.open_requests();
                if let Some(&request) = pick(&open, at) {
                    self.world.run(|engine, now| engine.cancel(now, request));
                }
            }
            Step::Add(n) => {
                let name = if n == 5 { "node.example".to_owned() } else { address(n) };
                let address = vec![name.parse().unwrap()];
                // Refused where there are too many.
                let _ = self.world.run(|engine, now| engine.add_peers(now, address));
            }
            Step::Disconnect(at) => {
                if let Some(peer) = self.peer(at) {
                    assert!(self.world.run(|engine, now| engine.disconnect(now, peer)));
                }
            }
            Step::Ban(at, seconds) => {
                if let Some(peer) = self.peer(at) {
                    assert!(self.world.run(|engine, now| engine.ban(now, peer, u32::from(seconds) * SECOND)));
                }
            }
            Step::SetMain(at) => {
                if let Some(peer) = self.peer(at) {
                    self.world.run(|engine, now| engine.set_main_peer(now, peer));
                }
            }
            Step::Resolved { answer, at } => {
                if let Some(&(peer, connection, _)) = pick(&world.resolves, at) {
                    let result = match answer {
                        3 => Err(DisconnectReason::HookPanicked),
                        count => Ok((0..count).map(|n| SocketAddr::from(([10, 2, 0, n], 1))).collect()),
                    };
                    self.world.run(|engine, now| engine.handle_resolved(now, peer, connection, result));
                }
            }
            Step::Up(at) => {
                if let Some(&(peer, connection, _)) = pick(&world.connects, at) {
                    let version = Box::new(Version::new(Services::NETWORK, 1, "/scripted:1.0/", 1, 1));
                    self.world.run(|engine, now| engine.handle_up(now, peer, connection, version));
                }
            }
            Step::Refused(at) => {
                if let Some(&(peer, connection, _)) = pick(&world.connects, at) {
                    let reason = DisconnectReason::Dial { kind: std::io::ErrorKind::ConnectionRefused };
                    self.world.run(|engine, now| engine.handle_down(now, peer, connection, reason));
                }
            }
            Step::Down { peer, reason } => {
                if let Some(peer) = self.ready_peer(peer) {
                    let reason = match reason {
                        0 => ProtocolError::BadMerkleRoot.into(),
                        1 => ProtocolError::DisconnectedHeaders.into(),
                        _ => DisconnectReason::ClosedByPeer,
                    };
                    self.world.lose_for(peer, reason);
                }
            }
            Step::Answer { at } => self.reply(at, answer),
            Step::Deny { at } => self.reply(at, |message| match message {
                Message::GetData(items) => vec![Message::NotFound(items.clone())],
                Message::GetHeaders(_) => vec![Message::Headers(Vec::new())],
                _ => Vec::new(),
            }),
            Step::Repeat { at } => {
                if let Some((connection, message)) = pick(&self.answered, at).cloned() {
                    self.say_on(connection, message);
                }
            }
            Step::Say { peer, kind, n } => {
                if let Some(peer) = self.ready_peer(peer) {
                    self.world.say(peer, remark(kind, n));
                }
            }
            Step::Oversized { peer, n } => {
                if let Some(peer) = self.ready_peer(peer) {
                    let connection = self.world.connection(peer);
                    let (command, start) = match n {
                        Some(n) => (Command::BLOCK, block(n.into()).header().encode().to_vec()),
                        None => (Command::TX, Vec::new()),
                    };
                    self.world.run(|engine, now| {
                        engine.handle_oversized(now, peer, connection, command, 1 << 40, &start);
                    });
                }
            }
            Step::Pause(peer, paused) => {
                if let Some(peer) = self.ready_peer(peer) {
                    self.world.pause(peer, paused);
                }
            }
            Step::RoundTrip(peer, time) => {
                if let Some(peer) = self.peer(peer) {
                    self.world.engine.handle_round_trip(self.world.now, peer, u32::from(time) * MILLISECOND);
                }
            }
            Step::Broadcast { n, nodes } => {
                // Refused where there is no room.
                let options = BroadcastOptions::new().nodes(nodes.into());
                if let Ok(broadcast) = self.world.try_broadcast(&transaction(n.into()), &options) {
                    self.world.engine.broadcast_report(self.world.now, broadcast);
                }
            }
            Step::Serve { peer, most } => {
                if let Some(peer) = self.ready_peer(peer) {
                    for _ in 0..most {
                        if self.world.engine.next_to_serve(peer).is_some() {
                            self.world.engine.mark_served(self.world.now, peer);
                        }
                    }
                    self.world.settle();
                }
            }
            Step::Pass(milliseconds) => self.world.pass(u32::from(milliseconds) * MILLISECOND),
            Step::Jump => {
                if world.engine.poll_timeout().is_some() {
                    self.world.jump();
                }
            }
            Step::Watch(kinds) => {
                let mut what = Watch::new();
                (what.transactions, what.blocks, what.tips) = (kinds & 1 != 0, kinds & 2 != 0, kinds & 4 != 0);
                let gauge = Arc::new(Gauge::new(1 << 20, 4, Vec::new()));
                self.readers.push(Reader::new(gauge.clone()).1);
                self.world.run(|engine, now| engine.watch(now, what, gauge, Arc::default()));
            }
            Step::EndWatch => {
                drop(self.readers.pop());
                self.world.run(Engine::handle_watch_room);
            }
            Step::Start => self.world.start(),
            Step::Seeds(count) => {
                let found: Vec<_> = (0..count).map(|n| SocketAddr::from(([20, 3 + n, 0, 1], 8333))).collect();
                self.world.run(|engine, now| engine.handle_seeds(now, &found));
            }
        }
    }

    fn ask(&mut self, question: Question, pinned: Option<u8>, attempts: Option<u8>, seconds: Option<u8>) {
        let mut options = RequestOptions::new();
        options.peer = pinned.map(|at| self.peer(at).unwrap_or(PeerId(u64::MAX)));
        options.attempts = attempts.map(usize::from);
        options.timeout = seconds.map(|seconds| u32::from(seconds) * SECOND);
        let usual = if matches!(question, Question::Addresses) { 90 * SECOND } else { 30 * SECOND };
        let attempts = if matches!(question, Question::Mempool { .. }) { 1 } else { 3 };
        let (attempts, time) = (options.attempts.unwrap_or(attempts).max(1), options.timeout.unwrap_or(usual));
        let result = self.world.run(|engine, now| engine.submit(now, question.clone(), &options));
        match result {
            Ok(id) => drop(self.taken.insert(id, (question, options.peer, attempts, time))),
            Err(error) => assert_eq!(error, RequestError::TooManyRequests),
        }
    }

    /// Answers something that was asked.
    fn reply(&mut self, at: u8, answer: impl Fn(&Message) -> Vec<Message>) {
        if self.owed.is_empty() {
            return;
        }
        let (connection, asked) = self.owed.remove(usize::from(at) % self.owed.len());
        for reply in answer(&asked) {
            self.answered.push((connection, reply.clone()));
            self.say_on(connection, reply);
        }
    }

    fn say_on(&mut self, connection: ConnectionId, message: Message) {
        let peer = self.world.owners[&connection];
        if self.world.engine.connection_of(peer) == Some(connection) {
            self.world.say(peer, message);
        } else {
            // The engine has given up on the connection, the loop not yet.
            self.world.run(|engine, now| engine.handle_message(now, peer, connection, message));
        }
    }

    /// Lets time run until everything must have ended.
    fn finish(&mut self) {
        self.world.start();
        self.world.pass(200 * SECOND);
        let ended: Vec<_> = self.world.outcomes.keys().collect();
        assert_eq!(ended, self.taken.keys().collect::<Vec<_>>(), "every request ends");
        let engine = &self.world.engine;
        let open = engine.requests.keys().filter(|&&id| !engine.is_check(id)).count();
        assert_eq!((open, engine.waiting.len()), (0, 0), "only peers are checked again and again");
        assert_eq!(engine.open_broadcasts(), []);
        for (id, (question, pinned, attempts, time)) in &self.taken {
            let outcome = &self.world.outcomes[id];
            // Before the start no time runs, but a request can be cancelled.
            let in_time = outcome.took <= *time || outcome.result == Err(RequestError::Cancelled);
            assert!(in_time, "{id:?} took {:?} of {time:?}", outcome.took);
            check_result(question, *pinned, *attempts, &outcome.result);
        }
    }
}

fn pick<T>(list: &[T], at: u8) -> Option<&T> {
    list.get(usize::from(at) % list.len().max(1))
}

fn question(kind: u8, n: u8) -> Question {
    match kind {
        0 => Question::Transaction(txid(n.into())),
        1 => Question::Transactions((0..=n).map(|n| txid(n.into())).collect()),
        2 => Question::Block(block(n.into()).hash()),
        3 => headers(n),
        4 => Question::Addresses,
        5 => Question::FilteredBlock(block(n.into()).hash()),
        6 => Question::CompactBlock(block(n.into()).hash()),
        7 => Question::BlockTransactions(GetBlockTxn::new(block(n.into()).hash(), [0])),
        8 => Question::DataRefTransaction(txid(n.into())),
        9 => Question::EnrichedHeaders(GetHdrsEn::new([hash(n)])),
        10 => Question::BlockHashes(GetBlocks::new([hash(n)])),
        11 => Question::Mempool { age_seconds: None, quiet: u32::from(n) * SECOND },
        _ => Question::Ping,
    }
}

/// What a peer that knows everything answers.
fn answer(message: &Message) -> Vec<Message> {
    match message {
        Message::GetData(items) => items.iter().flat_map(thing).collect(),
        Message::SendHeaders => Vec::new(),
        Message::GetHeaders(request) if request.stop == marker_header().hash() => {
            vec![Message::Headers(vec![marker_header()])]
        }
        Message::GetHeaders(request) if request.locator.is_empty() => vec![Message::Headers(Vec::new())],
        Message::GetHeaders(request) => vec![Message::Headers(vec![header_after(request.locator[0], 1)])],
        Message::GetHdrsEn(request) => vec![enriched(header_after(request.locator[0], 1))],
        Message::GetBlocks(_) => vec![Message::Inv(vec![Inventory::block(hash(50))])],
        Message::GetBlockTxn(request) => {
            let known = (0..4).map(block).find(|block| block.hash() == request.block_hash);
            known.map(|block| block_txn(&block)).into_iter().collect()
        }
        Message::Mempool { .. } => vec![Message::Inv(vec![Inventory::transaction(txid(60))])],
        Message::GetAddr => vec![Message::Addr(addresses(2))],
        Message::Ping { nonce } => vec![Message::Pong { nonce: *nonce }],
        Message::Inv(items) => vec![Message::GetData(items.clone())],
        other => panic!("nobody sends {other:?}"),
    }
}

fn thing(item: &Inventory) -> Vec<Message> {
    let mut blocks = (0..4).map(block).filter(|block| Some(block.hash()) == item.block_hash());
    let transaction = (0..4).map(transaction).find(|tx| Some(tx.txid()) == item.txid());
    match (item.kind, transaction, blocks.next()) {
        (InventoryKind::DataRefTransaction, Some(tx), _) => vec![proven(tx)],
        (_, Some(tx), _) => vec![Message::Tx(tx)],
        (InventoryKind::CompactBlock, _, Some(block)) => vec![compact(&block)],
        (InventoryKind::FilteredBlock, _, Some(block)) => {
            let matches = block
                .transactions()
                .map(|tx| Message::Tx(Transaction::from_raw(tx.raw().to_vec()).expect("it is one")));
            std::iter::once(filtered(&block)).chain(matches).collect()
        }
        (_, _, Some(block)) => vec![Message::Block(block)],
        _ => Vec::new(),
    }
}

fn filtered(block: &Block) -> Message {
    let txids: Vec<_> = block.transactions().map(|tx| tx.txid()).collect();
    let tree = PartialMerkleTree::new(&txids, |_, _| true).expect("there is a transaction");
    Message::MerkleBlock(Box::new(MerkleBlock { header: *block.header(), tree }))
}

fn compact(block: &Block) -> Message {
    Message::CmpctBlock(Box::new(CompactBlock::new(block, 1)))
}

fn block_txn(block: &Block) -> Message {
    Message::BlockTxn(Box::new(BlockTxn::new(block.hash(), block.transactions())))
}

fn proven(transaction: Transaction) -> Message {
    let proof = MerkleProof::new(&[transaction.txid()], 0, ProofTarget::BlockHash(hash(1))).expect("it is there");
    Message::DataRefTx(Box::new(ProvenTransaction { transaction, proof }))
}

fn enriched(header: BlockHeader) -> Message {
    Message::HdrsEn(vec![EnrichedHeader {
        header,
        transaction_count: 1,
        no_more_headers: true,
        coinbase: None,
        miner_info: None,
    }])
}

/// What a peer says without being asked.
fn remark(kind: u8, n: u8) -> Message {
    let item = Inventory::transaction(txid(n.into()));
    match kind {
        0 => Message::Tx(transaction(n.into())),
        1 => Message::Block(block(n.into())),
        2 => Message::Headers(vec![header_after(hash(n), 2)]),
        3 => Message::Headers(vec![header_after(hash(99), 2)]),
        4 => Message::NotFound(vec![item; usize::from(n)]),
        5 => Message::Addr(addresses(n)),
        6 => Message::Inv(vec![item]),
        7 => Message::GetData(vec![item, item, Inventory::block(hash(n))]),
        8 => {
            let hash = Some(*txid(n.into()).as_wire());
            let reject = Reject { message: "tx".into(), code: RejectCode::Invalid, reason: "bad".into(), hash };
            Message::Reject(Box::new(reject))
        }
        9 => Message::Inv(vec![Inventory::block(hash(n))]),
        10 => filtered(&block(n.into())),
        11 => compact(&block(n.into())),
        12 => Message::BlockTxn(Box::new(BlockTxn::new(block(n.into()).hash(), []))),
        13 => enriched(header_after(hash(n), 2)),
        14 => proven(transaction(n.into())),
        _ => Message::Pong { nonce: n.into() },
    }
}

fn check_result(
    question: &Question,
    pinned: Option<PeerId>,
    attempts: usize,
    result: &Result<Answer, RequestError>,
) {
    let list: &[Attempt] = match result {
        Ok(answer) => return check_answer(question, answer),
        Err(RequestError::NotFound { attempts }) => {
            assert!(!attempts.is_empty() && attempts.iter().all(|a| a.failure == AttemptFailure::NotFound));
            attempts
        }
        Err(RequestError::TimedOut { attempts } | RequestError::Failed { attempts }) => {
            assert!(!attempts.is_empty());
            attempts
        }
        Err(RequestError::TooLarge { .. }) => {
            return assert!(!matches!(question, Question::Ping | Question::Addresses | Question::Headers(_)));
        }
        Err(RequestError::NoPeers | RequestError::MessageQueueFull | RequestError::Cancelled) => return,
        Err(error) => panic!("nothing ends as {error:?}"),
    };
    let spent = list.iter().filter(|attempt| attempt.failure != AttemptFailure::Disconnected).count();
    assert!(spent <= attempts, "{attempts} attempts were allowed: {list:?}");
    assert!(pinned.is_none_or(|pinned| list.iter().all(|attempt| attempt.peer == pinned)));
}

fn check_answer(question: &Question, answer: &Answer) {
    match (question, answer) {
        (Question::Transaction(txid), Answer::Transaction(tx)) => assert_eq!(tx.txid(), *txid),
        (Question::Transactions(txids), Answer::Transactions(results)) => {
            let got =
                results.iter().map(|result| result.as_ref().map_or_else(|error| error.txid, Transaction::txid));
            assert!(got.eq(txids.iter().copied()), "in the order asked");
        }
        (Question::Headers(request), Answer::Headers(headers)) => {
            assert!(headers.first().is_none_or(|first| request.locator.contains(&first.previous)));
        }
        (Question::Block(hash) | Question::CompactBlock(hash), Answer::Block(block)) => {
            assert_eq!(block.hash(), *hash)
        }
        (Question::CompactBlock(hash), Answer::CompactBlock(block)) => assert_eq!(block.header().hash(), *hash),
        (Question::FilteredBlock(hash), Answer::FilteredBlock(block)) => {
            assert_eq!(block.merkle_block.header.hash(), *hash);
            let txids = block.transactions.iter().map(Transaction::txid);
            assert!(txids.eq(block.merkle_block.tree.checked_matches()), "in block order");
        }
        (Question::BlockTransactions(wanted), Answer::Block(block)) => assert_eq!(block.hash(), wanted.block_hash),
        (Question::BlockTransactions(wanted), Answer::BlockTransactions(found)) => {
            assert_eq!(found.block_hash(), wanted.block_hash);
            assert_eq!(found.transactions().len(), wanted.indexes().len());
        }
        (Question::DataRefTransaction(txid), Answer::DataRefTransaction(proven)) => {
            assert_eq!(proven.transaction.txid(), *txid);
        }
        (Question::EnrichedHeaders(request), Answer::EnrichedHeaders(items)) => {
            assert!(items.first().is_none_or(|first| request.locator.contains(&first.header.previous)));
        }
        (Question::BlockHashes(request), Answer::BlockHashes(hashes)) => {
            assert!(!hashes.is_empty() && !hashes.iter().any(|hash| request.locator.contains(hash)));
        }
        (Question::Mempool { .. }, Answer::Txids(txids)) => {
            assert!(!txids.is_empty());
            assert_eq!(txids.iter().collect::<BTreeSet<_>>().len(), txids.len(), "each once");
        }
        (Question::Addresses, Answer::Addresses(addresses)) => assert!(!addresses.is_empty()),
        (Question::Ping, Answer::RoundTrip(_)) => {}
        other => panic!("an answer to another question: {other:?}"),
    }
}

/// A network with seeds and without a fork marker.
fn unmarked_network() -> Network {
    Network::Custom(Arc::new(CustomNetwork {
        name: "unmarked".to_owned(),
        magic: [1, 2, 3, 4],
        port: 8333,
        seeds: vec!["seed.example".to_owned()],
        genesis: hash(0),
        fork_marker: None,
    }))
}

/// Runs the steps and gives everything the engine did.
fn play(steps: &[Step], checked: bool) -> Vec<String> {
    let mut play = Play::new(checked);
    for step in steps {
        play.run(step);
    }
    play.finish();
    play.world.log.take().unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_ends_once_whatever_happens(
        started in any::<bool>(),
        checked in any::<bool>(),
        mut steps in vec(step(), 1..200),
    ) {
        if started {
            steps.splice(0..0, [Step::Add(0), Step::Add(1), Step::Start, Step::Jump, Step::Up(0), Step::Up(1)]);
        }
        let log = play(&steps, checked);
        // The same steps do the same again: nothing hangs on the order of a hash map.
        prop_assert_eq!(log, play(&steps, checked));
    }
}
