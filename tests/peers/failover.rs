//! Requests that move to the next peer, whatever becomes of the one that was asked.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use conduit::error::{Attempt, AttemptFailure};
use conduit::message::{Block, Message, Reject, RejectCode};
use conduit::testnode::{Fault, FaultKind, TestNode, TestNodeConfig, transaction};
use conduit::{
    BlockHash, Command, Conduit, Config, DisconnectReason, GetData, GetHeaders, PeerId, RequestError,
    RequestOptions,
};

use super::support::raw_peer::{RawListener, Reply, frame, frame_of, version};
use super::support::{PATIENCE, waits};
use super::{BLOCKS, addresses, config, connect, custom, hamlet, node, regtest};

#[test]
fn block_of_10_mb_is_returned_whole_though_the_answering_peer_dies_in_the_middle() {
    let (dying, next, hash) = large_blocks(10);
    for cut in [5_000_000, 100, 10_000_000] {
        let (conduit, events, ids) = connect(regtest(), [&dying, &next]);
        conduit.set_main_peer(dying.address()).unwrap();
        dying.inject(Fault::new(FaultKind::CloseAfter(cut)).command(Command::BLOCK).times(1));
        let before = [&dying, &next].map(|node| node.received(Command::GETDATA));
        let block = conduit.send_request(GetData::block(hash)).unwrap();
        // Not by assert_eq, which would print all of it.
        assert!(Some(block) == next.block(BLOCKS + 1));
        assert_eq!(waits::reason_of(&events, ids[0]), DisconnectReason::ClosedByPeer, "cut after {cut}");
        let after = [&dying, &next].map(|node| node.received(Command::GETDATA));
        assert_eq!(after, before.map(|count| count + 1), "each was asked once");
        dying.clear_faults();
    }
}

#[test]
fn node_that_is_killed_in_the_middle_of_a_block_is_survived_by_the_call() {
    let (dying, next, hash) = large_blocks(20);
    let (conduit, _, _) = connect(regtest(), [&dying, &next]);
    conduit.set_main_peer(dying.address()).unwrap();
    // It bounds the rate, too: to 16 MiB at a time, so that the node is caught in the act.
    dying.set_latency(Duration::from_secs(2));
    let seen = conduit.stats().bytes_received;
    let block = waits::call({
        let conduit = conduit.clone();
        move || conduit.send_request(GetData::block(hash))
    });
    waits::until("the reply is coming", || conduit.stats().bytes_received > seen + 100_000);
    dying.stop();
    assert!(block.result().ok() == next.block(BLOCKS + 1));
    assert_eq!((dying.received(Command::GETDATA), next.received(Command::GETDATA)), (1, 1));
}

#[test]
fn peer_that_falls_silent_in_the_middle_of_a_block_is_given_up_within_its_share() {
    let honest = node();
    let bytes = frame(&Message::Block(honest.block(3).unwrap()));
    // Half of it, and nothing more; pings are still answered, if only behind it.
    let half = bytes[..bytes.len() / 2].to_vec();
    let listener = RawListener::bind();
    let address = listener.address();
    listener.serve(version(), move |message| match message {
        Message::GetData(_) => Reply::Send(half.clone()),
        _ => Reply::Nothing,
    });
    let conduit = with_main(regtest(), address, &honest);
    let begun = Instant::now();
    let options = RequestOptions::new().timeout(Duration::from_secs(4)).attempts(2);
    let block = conduit.send_request_with(GetData::block(honest.block_hash(3).unwrap()), &options);
    assert_eq!(block.ok(), honest.block(3));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(begun.elapsed() >= Duration::from_secs(2), "it had its share: {:?}", begun.elapsed());
}

#[test]
fn peer_that_does_not_answer_a_ping_in_the_middle_of_a_block_is_dropped_and_the_next_asked() {
    let honest = node();
    let bytes = frame(&Message::Block(honest.block(3).unwrap()));
    let half = bytes[..bytes.len() / 2].to_vec();
    let listener = RawListener::bind();
    let config = regtest().ping_interval(Duration::from_millis(200)).ping_timeout(Duration::from_millis(500));
    let conduit = Conduit::new(config).unwrap();
    let id = conduit.set_main_peer(listener.address()).unwrap();
    conduit.add_peers([honest.address()]).unwrap();
    let events = conduit.events();
    conduit.start().unwrap();
    let mut raw = listener.shake_hands();
    conduit.wait_for_peers(2, PATIENCE).unwrap();
    let block = waits::call({
        let (conduit, hash) = (conduit.clone(), honest.block_hash(3).unwrap());
        move || conduit.send_request(GetData::block(hash))
    });
    raw.expect(Command::GETDATA);
    raw.send_bytes(&half);
    assert_eq!(block.result_within(Duration::from_secs(10)).ok(), honest.block(3));
    assert!(matches!(waits::reason_of(&events, id), DisconnectReason::Protocol(_)));
}

#[test]
fn every_peer_that_fails_is_followed_by_the_next_and_the_last_one_gives_the_block() {
    let honest = node();
    let hash = honest.block_hash(3).unwrap();
    let failing = Failing::start(&honest);
    let config = regtest().request_attempts(9).request_timeout(Duration::from_secs(20));
    let conduit = Conduit::new(config).unwrap();
    conduit.add_peers(failing.peers.iter().map(|(address, _)| *address)).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(failing.peers.len(), PATIENCE).unwrap();
    let pending = conduit.send_request_nowait(GetData::block(hash)).unwrap();
    // Every one of them was asked, and has failed in its way, before the honest one is there.
    failing.wait_until_each_was_asked();
    conduit.add_peers([honest.address()]).unwrap();
    assert_eq!(pending.wait().ok(), honest.block(3));
}

#[test]
fn the_final_error_lists_what_each_peer_did() {
    let honest = node();
    let hash = honest.block_hash(3).unwrap();
    let failing = Failing::start(&honest);
    let config = regtest().request_attempts(9).redial_min(PATIENCE).redial_max(PATIENCE);
    let conduit = Conduit::new(config).unwrap();
    let ids = conduit.add_peers(failing.peers.iter().map(|(address, _)| *address)).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(failing.peers.len(), PATIENCE).unwrap();
    let begun = Instant::now();
    let options = RequestOptions::new().timeout(Duration::from_secs(4));
    let result = conduit.send_request_with(GetData::block(hash), &options);
    let Err(RequestError::TimedOut { attempts }) = result else { panic!("{result:?}") };
    assert_eq!(listed(&attempts), failing.expected(&ids));
    // The one that has no room is to be let alone for five seconds.
    assert!(begun.elapsed() >= Duration::from_secs(3) && begun.elapsed() < Duration::from_secs(6));
    failing.wait_until_each_was_asked();
    assert!(failing.asked.try_recv().is_err(), "nobody was asked twice");
}

#[test]
fn transaction_that_some_do_not_have_comes_from_the_one_that_does() {
    let nodes = [node(), node(), node()];
    let payment = transaction(1, 300);
    assert!(nodes[2].submit(payment.clone()));
    let (conduit, _, ids) = connect(regtest(), &nodes);
    conduit.set_main_peer(nodes[0].address()).unwrap();
    assert_eq!(conduit.send_request(GetData::transaction(payment.txid())), Ok(payment));
    assert_eq!(nodes[0].received(Command::GETDATA), 1);
    let nowhere = transaction(2, 300).txid();
    let Err(RequestError::NotFound { attempts }) = conduit.send_request(GetData::transaction(nowhere)) else {
        panic!("nobody has it")
    };
    let mut expected: Vec<_> = ids.iter().map(|&id| (id, AttemptFailure::NotFound)).collect();
    expected.sort_by_key(|(id, _)| *id);
    assert_eq!(listed(&attempts), expected);
}

#[test]
fn headers_that_do_not_follow_from_each_other_are_asked_of_the_next() {
    let honest = node();
    let [one, three] = [1, 3].map(|height| honest.header(height).unwrap());
    let listener = RawListener::bind();
    let address = listener.address();
    listener.serve(version(), move |message| match message {
        Message::GetHeaders(_) => Reply::Send(frame(&Message::Headers(vec![one, three]))),
        _ => Reply::Nothing,
    });
    let conduit = with_main(regtest(), address, &honest);
    let found = conduit.send_request(GetHeaders::new([honest.block_hash(0).unwrap()])).unwrap();
    assert_eq!(found.iter().map(|header| Some(header.hash())).collect::<Vec<_>>(), hashes(&honest));
}

#[test]
fn another_transaction_than_was_asked_for_is_no_answer() {
    let honest = node();
    let [wanted, other] = [1, 2].map(|n| transaction(n, 200));
    assert!(honest.submit(wanted.clone()));
    let listener = RawListener::bind();
    let address = listener.address();
    listener.serve(version(), move |message| match message {
        Message::GetData(_) => Reply::Send(frame(&Message::Tx(other.clone()))),
        _ => Reply::Nothing,
    });
    let conduit = with_main(regtest(), address, &honest);
    let begun = Instant::now();
    assert_eq!(conduit.send_request(GetData::transaction(wanted.txid())), Ok(wanted));
    // A share of the whole time would be longer.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn node_without_room_for_a_block_is_asked_again_when_there_is_nobody_else() {
    let node = node();
    let busy = FaultKind::Reject { code: RejectCode::TooBusy, reason: "too-busy".to_owned() };
    node.inject(Fault::new(busy).command(Command::GETDATA).times(1));
    let (conduit, _, _) = connect(regtest(), [&node]);
    let begun = Instant::now();
    let block = conduit.send_request(GetData::block(node.block_hash(2).unwrap()));
    assert_eq!(block.ok(), node.block(2));
    assert!(begun.elapsed() >= Duration::from_secs(5), "it was left alone for {:?} only", begun.elapsed());
    assert_eq!(node.received(Command::GETDATA), 2);
}

#[test]
fn requests_of_many_callers_survive_nodes_that_die_one_after_the_other() {
    let nodes: Vec<_> = (0..5).map(|_| node()).collect();
    let (conduit, _, _) = connect(regtest().request_attempts(5), &nodes);
    let (done, finished) = mpsc::channel();
    thread::scope(|scope| {
        for caller in 0..8 {
            let (conduit, nodes, done) = (&conduit, &nodes, done.clone());
            scope.spawn(move || {
                for round in 0..50 {
                    let height = 1 + (caller + round) % BLOCKS;
                    let block = conduit.send_request(GetData::block(nodes[4].block_hash(height).unwrap()));
                    assert_eq!(block.ok(), nodes[4].block(height));
                    done.send(()).expect("the test counts");
                }
            });
        }
        drop(done);
        for (count, ()) in finished.iter().enumerate() {
            if count % 80 == 40 && count / 80 < 4 {
                nodes[count / 80].stop();
            }
        }
    });
    assert_eq!(conduit.peers().iter().map(|peer| peer.outstanding_requests).sum::<usize>(), 0);
}

#[test]
fn no_request_fails_while_two_of_eight_found_peers_are_sound() {
    let nodes = hamlet(8);
    let payments: Vec<_> = (0..20).map(|n| transaction(n, 300)).collect();
    for node in &nodes {
        assert!(payments.iter().all(|payment| node.submit(payment.clone())));
    }
    let known = addresses(&nodes);
    let resolver = move |_: &str, _: u16| Ok(known.clone());
    let config = config(custom(&["seed.example"], None)).request_attempts(8).resolver(resolver);
    let conduit = Conduit::new(config).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(8, PATIENCE).unwrap();
    let (done, finished) = mpsc::channel();
    thread::scope(|scope| {
        for caller in 0..8 {
            let (conduit, sound, payments, done) = (&conduit, &nodes[7], &payments, done.clone());
            scope.spawn(move || {
                for round in 0..100 {
                    let number = caller * 31 + round;
                    let height = 1 + number % BLOCKS;
                    match number % 3 {
                        0 => {
                            let block = conduit.send_request(GetData::block(sound.block_hash(height).unwrap()));
                            assert_eq!(block.ok(), sound.block(height));
                        }
                        1 => {
                            let payment = &payments[number as usize % payments.len()];
                            let found = conduit.send_request(GetData::transaction(payment.txid()));
                            assert_eq!(found.as_ref(), Ok(payment));
                        }
                        _ => {
                            let asked = GetHeaders::new([sound.block_hash(0).unwrap()]);
                            let found = conduit.send_request(asked).map(|headers| headers.len());
                            assert_eq!(found, Ok(BLOCKS as usize));
                        }
                    }
                    done.send(()).expect("the test counts");
                }
            });
        }
        drop(done);
        // The pace of the faults is that of the answers. The last two nodes have none.
        for (count, ()) in finished.iter().enumerate() {
            let node = &nodes[count / 10 % 6];
            let closes = |command, bytes| Fault::new(FaultKind::CloseAfter(bytes)).command(command).times(1);
            match count % 60 {
                1 => node.drop_connections(),
                11 => node.inject(closes(Command::BLOCK, 100)),
                21 => node.inject(Fault::new(FaultKind::CorruptChecksum).command(Command::TX).times(1)),
                31 => node.set_latency(Duration::from_millis(count as u64 % 7)),
                41 => node.inject(closes(Command::HEADERS, 30)),
                51 => {
                    node.refuse(count % 120 == 51);
                    node.drop_connections();
                }
                _ => {}
            }
        }
    });
    nodes.iter().for_each(|node| node.refuse(false));
    nodes.iter().for_each(TestNode::clear_faults);
    conduit.wait_for_peers(8, PATIENCE).unwrap();
    let stats = conduit.stats();
    assert_eq!(stats.requests.keys().collect::<Vec<_>>(), ["ok"], "{stats}");
    assert!(stats.disconnects.values().sum::<u64>() > 10, "there were faults: {stats}");
}

/// Raw peers, each of which fails in its own way when it is asked for a block.
struct Failing {
    peers: Vec<(SocketAddr, AttemptFailure)>,
    asked: mpsc::Receiver<usize>,
}

impl Failing {
    fn start(honest: &TestNode) -> Self {
        let block = honest.block(3).unwrap();
        let whole = frame(&Message::Block(block.clone()));
        let half = whole[..whole.len() / 2].to_vec();
        let no_room = Reject {
            message: Command::GETDATA.as_str().into(),
            code: RejectCode::TooBusy,
            reason: "too-busy".into(),
            hash: None,
        };
        type Answer = Box<dyn Fn() -> Reply + Send>;
        let ways: [(AttemptFailure, Answer); 4] = [
            (AttemptFailure::TooBusy, Box::new(move || Reply::Send(frame(&Message::from(no_room.clone()))))),
            (AttemptFailure::WrongAnswer, Box::new(move || Reply::Send(forged(&block)))),
            (AttemptFailure::Disconnected, Box::new(move || Reply::Close(half.clone()))),
            (AttemptFailure::TimedOut, Box::new(|| Reply::Nothing)),
        ];
        let (sender, asked) = mpsc::channel();
        let serve = |(n, (failure, answer)): (usize, (AttemptFailure, Answer))| {
            let listener = RawListener::bind();
            let (address, sender) = (listener.address(), sender.clone());
            listener.serve(version(), move |message| {
                if !matches!(message, Message::GetData(_)) {
                    return Reply::Nothing;
                }
                // The test may be over.
                let _ = sender.send(n);
                answer()
            });
            (address, failure)
        };
        Self { peers: ways.into_iter().enumerate().map(serve).collect(), asked }
    }

    #[track_caller]
    fn wait_until_each_was_asked(&self) {
        let mut missing: Vec<usize> = (0..self.peers.len()).collect();
        while !missing.is_empty() {
            let asked = self.asked.recv_timeout(PATIENCE).expect("every peer is asked");
            missing.retain(|&n| n != asked);
        }
    }

    fn expected(&self, ids: &[PeerId]) -> Vec<(PeerId, AttemptFailure)> {
        let mut expected: Vec<_> =
            ids.iter().copied().zip(self.peers.iter().map(|(_, failure)| *failure)).collect();
        expected.sort_by_key(|(id, _)| *id);
        expected
    }
}

/// A block whose last transaction is not the one that its header is proven for.
fn forged(block: &Block) -> Vec<u8> {
    let mut raw = block.raw().to_vec();
    // The lock time.
    *raw.last_mut().expect("a block has bytes") ^= 1;
    frame_of(Command::BLOCK, &raw)
}

/// The chain behind the first block.
fn hashes(node: &TestNode) -> Vec<Option<BlockHash>> {
    (1..=BLOCKS).map(|height| node.block_hash(height)).collect()
}

/// Two nodes with the same block of so many megabytes on top.
fn large_blocks(megabytes: u64) -> (TestNode, TestNode, BlockHash) {
    let config = || TestNodeConfig::default().blocks(BLOCKS);
    let payload: Vec<_> = (0..megabytes).map(|n| transaction(n, 1_000_000)).collect();
    let nodes = [config(), config()].map(|config| TestNode::start(config).unwrap());
    let [one, other] = nodes.each_ref().map(|node| node.mine_with(payload.clone()));
    assert_eq!(one, other, "the same of both");
    let [one, other] = nodes;
    let hash = other.block_hash(BLOCKS + 1).unwrap();
    (one, other, hash)
}

/// A conduit whose main peer is at this address, with an honest node beside it.
fn with_main(config: Config, address: SocketAddr, honest: &TestNode) -> Conduit {
    let conduit = Conduit::new(config).unwrap();
    conduit.set_main_peer(address).unwrap();
    conduit.add_peers([honest.address()]).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(2, PATIENCE).unwrap();
    conduit
}

/// Who failed and how, in the order of the peers.
fn listed(attempts: &[Attempt]) -> Vec<(PeerId, AttemptFailure)> {
    let mut listed: Vec<_> = attempts.iter().map(|attempt| (attempt.peer, attempt.failure)).collect();
    listed.sort_by_key(|(id, _)| *id);
    listed
}
