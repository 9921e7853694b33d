//! Requests over real sockets: each ends exactly once and with the right outcome, whatever the peers do.

#![allow(clippy::disallowed_methods, reason = "tests take the time")]

mod support;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use conduit::error::AttemptFailure;
use conduit::message::{BlockHeader, Inventory, Message, Transaction};
use conduit::testnode::{TestNode, TestNodeConfig, transaction};
use conduit::wire::Command;
use conduit::{
    Answer, BlockHash, Conduit, Config, GetAddr, GetData, GetHeaders, Network, PeerId, Ping, RequestError,
    RequestOptions, TransactionNotFound, Txid,
};
use support::raw_peer::RawListener;
use support::{PATIENCE, waits};

#[test]
fn two_hundred_callers_get_their_own_answers_while_peers_vanish() {
    let nodes: Vec<TestNode> = (0..8).map(|_| node()).collect();
    let known: Vec<Transaction> = (0..40).map(|n| transaction(n, 300)).collect();
    for node in &nodes {
        assert!(known.iter().all(|transaction| node.submit(transaction.clone())));
    }
    let conduit = Conduit::new(config().request_timeout(PATIENCE * 2)).unwrap();
    conduit.add_peers(nodes.iter().map(TestNode::address)).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(nodes.len(), PATIENCE).unwrap();

    let begin = Barrier::new(CALLERS);
    let (done, finished) = mpsc::channel();
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (conduit, nodes, known, begin, done, answered) =
                (&conduit, &nodes, &known, &begin, done.clone(), &answered);
            scope.spawn(move || {
                begin.wait();
                for round in 0..ROUNDS {
                    ask(conduit, &nodes[7], known, caller + round * 7);
                    answered.fetch_add(1, Ordering::SeqCst);
                    done.send(()).expect("the test counts");
                }
            });
        }
        drop(done);
        // The pace of the faults is that of the answers.
        for (count, ()) in finished.iter().enumerate() {
            match count % 40 {
                5 => nodes[0].drop_connections(),
                15 => {
                    nodes[1].refuse(true);
                    nodes[1].drop_connections();
                }
                25 => nodes[1].refuse(false),
                35 => nodes[3].drop_connections(),
                _ => {}
            }
            if count == CALLERS {
                nodes[2].stop();
            }
        }
    });
    assert_eq!(answered.into_inner(), CALLERS * ROUNDS);
    // A node stopped for good may be the one that is dialled just now; nothing else is left over.
    waits::until("nothing is outstanding", || conduit.peers().iter().all(|peer| peer.outstanding_requests == 0));
}

/// One question with the one right answer to it.
fn ask(conduit: &Conduit, node: &TestNode, known: &[Transaction], number: usize) {
    let height = (number % BLOCKS as usize) as u32;
    match number % 6 {
        0 => {
            let block = conduit.send_request(GetData::block(hash(node, height))).expect("five nodes have it");
            assert_eq!(Some(block), node.block(height));
        }
        1 => {
            let wanted = &known[number % known.len()];
            let got = conduit.send_request(GetData::transaction(wanted.txid())).expect("five nodes have it");
            assert_eq!(got, *wanted);
        }
        2 => {
            let wanted: Vec<_> = (0..3).map(|i| known[(number + i * 5) % known.len()].clone()).collect();
            let missing = transaction(1_000_000 + number as u64, 100).txid();
            let txids = wanted.iter().map(Transaction::txid).chain([missing]);
            let got = conduit.send_request(GetData::transactions(txids)).expect("each has a result of its own");
            let missing = Err(TransactionNotFound { txid: missing });
            assert_eq!(got, wanted.into_iter().map(Ok).chain([missing]).collect::<Vec<_>>());
        }
        3 => {
            let got = conduit.send_request(GetHeaders::new(vec![hash(node, height)])).expect("all nodes have them");
            assert_eq!(got, headers(node, height + 1));
        }
        4 => assert!(conduit.send_request(Ping).expect("any peer answers") < PATIENCE * 2),
        _ => {
            let missing = transaction(2_000_000 + number as u64, 100).txid();
            match conduit.send_request(GetData::transaction(missing)) {
                Err(RequestError::NotFound { attempts }) => assert!(!attempts.is_empty()),
                // A peer that was lost on the way has not said that it does not have it.
                Err(RequestError::Failed { attempts }) => {
                    assert!(attempts.iter().any(|attempt| attempt.failure == AttemptFailure::NotFound));
                    assert!(attempts.iter().any(|attempt| attempt.failure == AttemptFailure::Disconnected));
                }
                other => panic!("nobody has it, but: {other:?}"),
            }
        }
    }
}

#[test]
fn requests_of_every_kind_are_answered() {
    let address: SocketAddr = "10.1.2.3:8333".parse().unwrap();
    let node = TestNode::start(TestNodeConfig::default().blocks(BLOCKS).addresses([address])).unwrap();
    let payment = transaction(1, 500);
    assert!(node.submit(payment.clone()));
    let (conduit, _) = connect(config(), [node.address()]);

    assert_eq!(conduit.send_request(GetData::block(hash(&node, 3))).ok(), node.block(3));
    assert_eq!(conduit.send_request(GetData::transaction(payment.txid())), Ok(payment.clone()));
    let unknown = transaction(2, 100).txid();
    assert_eq!(
        conduit.send_request(GetData::transactions([unknown, payment.txid()])),
        Ok(vec![Err(TransactionNotFound { txid: unknown }), Ok(payment)])
    );
    assert_eq!(conduit.send_request(GetHeaders::new(vec![hash(&node, 0)])), Ok(headers(&node, 1)));
    let some = GetHeaders::new(vec![hash(&node, 0)]).stop_at(hash(&node, 2));
    assert_eq!(conduit.send_request(some), Ok(headers(&node, 1)[..2].to_vec()));
    let one = GetHeaders::new(vec![]).stop_at(hash(&node, 5));
    assert_eq!(conduit.send_request(one), Ok(vec![node.header(5).unwrap()]));
    assert_eq!(conduit.send_request(GetHeaders::new(vec![hash(&node, BLOCKS)])), Ok(vec![]));
    for _ in 0..2 {
        // A node answers the first one only; the second is answered from what it said.
        let addresses = conduit.send_request(GetAddr).unwrap();
        assert_eq!(addresses.iter().map(|a| a.address.socket_addr()).collect::<Vec<_>>(), [address]);
    }
    assert!(conduit.send_request(Ping).unwrap() < PATIENCE);
}

#[test]
fn questions_that_make_no_sense_are_refused() {
    let conduit = Conduit::new(config()).unwrap();
    let invalid = |result| matches!(result, Err(RequestError::Invalid { .. }));
    let txid = transaction(1, 100).txid();
    assert!(invalid(conduit.send_request_nowait(GetData::transactions([])).map(drop)));
    assert!(invalid(conduit.send_request_nowait(GetData::transactions([txid, txid])).map(drop)));
    assert!(invalid(conduit.send_request_nowait(GetHeaders::new(vec![])).map(drop)));
}

#[test]
fn a_request_moves_on_when_its_peer_is_lost() {
    let node = node();
    let listener = RawListener::bind();
    let (conduit, mut raw) = main_raw_peer(&listener, &node);
    let block = waits::call({
        let (conduit, hash) = (conduit.clone(), hash(&node, 2));
        move || conduit.send_request(GetData::block(hash))
    });
    raw.expect(Command::GETDATA);
    drop(raw);
    assert_eq!(block.result().ok(), node.block(2));
}

#[test]
fn a_request_moves_on_when_its_peer_does_not_have_it() {
    let (without, with) = (node(), node());
    let payment = transaction(1, 100);
    assert!(with.submit(payment.clone()));
    let (conduit, _) = connect(config(), [without.address(), with.address()]);
    conduit.set_main_peer(without.address()).unwrap();
    assert_eq!(conduit.send_request(GetData::transaction(payment.txid())), Ok(payment));
    assert_eq!(without.received(Command::GETDATA), 1);
    assert_eq!(with.received(Command::GETDATA), 1);

    let unknown = transaction(2, 100).txid();
    let Err(RequestError::NotFound { attempts }) = conduit.send_request(GetData::transaction(unknown)) else {
        panic!("nobody has it");
    };
    assert_eq!(attempts.len(), 2);
    assert!(attempts.iter().all(|attempt| attempt.failure == AttemptFailure::NotFound));
}

#[test]
fn a_request_moves_on_when_its_peer_is_silent() {
    let (silent, node) = (node(), node());
    silent.ignore(Command::GETDATA);
    let (conduit, _) = connect(config(), [silent.address(), node.address()]);
    conduit.set_main_peer(silent.address()).unwrap();
    // Half of the time is for each.
    let options = RequestOptions::new().timeout(Duration::from_secs(4)).attempts(2);
    assert_eq!(conduit.send_request_with(GetData::block(hash(&node, 1)), &options).ok(), node.block(1));
    assert_eq!(silent.received(Command::GETDATA), 1);

    let unknown = BlockHash::from_wire([7; 32]);
    let options = RequestOptions::new().timeout(Duration::from_secs(2)).attempts(2);
    let Err(RequestError::TimedOut { attempts }) = conduit.send_request_with(GetData::block(unknown), &options)
    else {
        panic!("nodes are silent about blocks they do not know");
    };
    assert!(attempts.iter().all(|attempt| attempt.failure == AttemptFailure::TimedOut));
    assert_eq!(attempts.len(), 2);
}

#[test]
fn the_main_peer_is_asked_first_and_again_when_it_is_back() {
    let (main, other) = (node(), node());
    // Slower than the other, so that only its rank speaks for it.
    main.set_latency(Duration::from_millis(30));
    let conduit = Conduit::new(config()).unwrap();
    let events = conduit.events();
    let id = conduit.set_main_peer(main.address()).unwrap();
    conduit.add_peers([other.address()]).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(2, PATIENCE).unwrap();
    let ask = || conduit.send_request(GetData::block(hash(&other, 1))).map(drop);

    assert_eq!(ask(), Ok(()));
    assert_eq!((main.received(Command::GETDATA), other.received(Command::GETDATA)), (1, 0));

    main.refuse(true);
    main.drop_connections();
    assert_eq!(ask(), Ok(()));
    assert_eq!((main.received(Command::GETDATA), other.received(Command::GETDATA)), (1, 1));
    waits::reason_of(&events, id);

    main.refuse(false);
    waits::connected(&events, id);
    assert_eq!(ask(), Ok(()));
    assert_eq!((main.received(Command::GETDATA), other.received(Command::GETDATA)), (2, 1));
    assert!(conduit.peers()[0].is_main);
}

#[test]
fn a_request_to_a_named_peer_goes_nowhere_else() {
    let (one, two) = (node(), node());
    let payment = transaction(1, 100);
    assert!(one.submit(payment.clone()));
    let (conduit, ids) = connect(config(), [one.address(), two.address()]);
    let ask = |peer: PeerId| {
        let options = RequestOptions::new().peer(peer);
        conduit.send_request_with(GetData::transaction(payment.txid()), &options)
    };
    assert_eq!(ask(ids[0]), Ok(payment.clone()));
    let Err(RequestError::NotFound { attempts }) = ask(ids[1]) else { panic!("the second does not have it") };
    assert_eq!(attempts.iter().map(|attempt| attempt.peer).collect::<Vec<_>>(), [ids[1]]);

    // While that peer is away the request waits for it, to its deadline at the latest.
    two.stop();
    waits::until("the second is gone", || {
        conduit.peers().iter().any(|peer| peer.outstanding_requests == 0 && peer.user_agent.is_none())
    });
    let options = RequestOptions::new().peer(ids[1]).timeout(Duration::from_millis(100));
    assert_eq!(conduit.send_request_with(Ping, &options), Err(RequestError::NoPeers));
}

#[test]
fn a_request_to_a_named_peer_is_asked_again_when_it_is_back() {
    let listener = RawListener::bind();
    let conduit = Conduit::new(config()).unwrap();
    let id = conduit.add_peers([listener.address()]).unwrap()[0];
    conduit.start().unwrap();
    let mut raw = listener.shake_hands();
    let payment = transaction(1, 100);
    let options = RequestOptions::new().peer(id);
    let pending = conduit.send_request_nowait_with(GetData::transaction(payment.txid()), &options).unwrap();
    raw.expect(Command::GETDATA);
    drop(raw);
    let mut raw = listener.shake_hands();
    raw.expect(Command::GETDATA);
    raw.send(&Message::Tx(payment.clone()));
    assert_eq!(pending.wait_timeout(PATIENCE).unwrap(), Ok(payment));
}

#[test]
fn before_the_start_blocking_is_refused_and_queueing_is_not() {
    let node = node();
    let conduit = Conduit::new(config()).unwrap();
    conduit.add_peers([node.address()]).unwrap();
    assert_eq!(conduit.send_request(GetData::block(hash(&node, 1))), Err(RequestError::NotStarted));
    let pending = conduit.send_request_nowait(GetData::block(hash(&node, 1))).unwrap();
    let pending = pending.try_wait().unwrap_err();
    conduit.start().unwrap();
    assert_eq!(pending.wait_timeout(PATIENCE).unwrap().ok(), node.block(1));
}

#[test]
fn without_a_peer_a_request_ends_at_its_deadline() {
    let (conduit, _) = connect(config(), []);
    let options = RequestOptions::new().timeout(Duration::from_millis(50));
    assert_eq!(conduit.send_request_with(Ping, &options), Err(RequestError::NoPeers));
}

#[test]
fn a_reply_can_be_awaited_in_any_executor() {
    let node = node();
    let (conduit, _) = connect(config(), [node.address()]);
    let pending = |height| conduit.send_request_nowait(GetData::block(hash(&node, height))).unwrap();
    let blocks = block_on(async { (pending(1).await, pending(2).await, pending(3).await) });
    assert_eq!((blocks.0.ok(), blocks.1.ok(), blocks.2.ok()), (node.block(1), node.block(2), node.block(3)));

    let mut once = pending(4);
    assert_eq!(block_on(&mut once).ok(), node.block(4));
    assert_eq!(block_on(&mut once), Err(RequestError::Cancelled), "there is nothing more to take");
}

#[test]
fn a_waker_that_panics_harms_nobody() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("planted by the test");
        }
    }
    let listener = RawListener::bind();
    let (conduit, _) = connect(config(), []);
    conduit.add_peers([listener.address()]).unwrap();
    let mut raw = listener.shake_hands();
    let waker = Waker::from(Arc::new(Panics));
    let payment = transaction(1, 100);
    // One is answered in the event loop, the other by the message thread.
    let mut small = conduit.send_request_nowait(GetData::transaction(payment.txid())).unwrap();
    assert!(Pin::new(&mut small).poll(&mut Context::from_waker(&waker)).is_pending());
    let node = node();
    let mut large = conduit.send_request_nowait(GetData::block(hash(&node, 1))).unwrap();
    assert!(Pin::new(&mut large).poll(&mut Context::from_waker(&waker)).is_pending());
    raw.expect(Command::GETDATA);
    raw.expect(Command::GETDATA);
    raw.send(&Message::Tx(payment.clone()));
    raw.send(&Message::Block(node.block(1).unwrap()));
    assert_eq!(small.wait_timeout(PATIENCE).unwrap(), Ok(payment));
    assert_eq!(large.wait_timeout(PATIENCE).unwrap().ok(), node.block(1));
    raw.ping(5);
    let ping = conduit.send_request_nowait(Ping).unwrap();
    let Message::Ping { nonce } = raw.expect(Command::PING) else { unreachable!() };
    raw.send(&Message::Pong { nonce });
    assert!(ping.wait_timeout(PATIENCE).unwrap().is_ok());
}

#[test]
fn a_cancelled_request_wakes_its_waiter_and_its_late_answer_is_no_news() {
    struct Counts(AtomicUsize);
    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let listener = RawListener::bind();
    let (conduit, _) = connect(config(), []);
    let messages = conduit.messages().unwrap();
    conduit.add_peers([listener.address()]).unwrap();
    let mut raw = listener.shake_hands();
    let (late, news) = (transaction(1, 100), transaction(2, 100));
    let mut pending = conduit.send_request_nowait(GetData::transaction(late.txid())).unwrap();
    let woken = Arc::new(Counts(AtomicUsize::new(0)));
    assert!(Pin::new(&mut pending).poll(&mut Context::from_waker(&Waker::from(woken.clone()))).is_pending());
    raw.expect(Command::GETDATA);
    pending.cancel();
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    assert_eq!(conduit.peers()[0].outstanding_requests, 0);
    raw.send(&Message::Tx(late));
    raw.send(&Message::Tx(news.clone()));
    assert_eq!(messages.recv_timeout(PATIENCE).map(|incoming| incoming.message), Ok(Message::Tx(news)));
}

#[test]
fn the_queue_runs_empty_with_one_outcome_each_in_order() {
    let node = node();
    let payment = transaction(1, 100);
    assert!(node.submit(payment.clone()));
    let conduit = Conduit::new(config()).unwrap();
    conduit.add_peers([node.address()]).unwrap();
    drop(conduit.send_request_nowait(GetData::transaction(payment.txid())).unwrap());
    let short = RequestOptions::new().timeout(Duration::from_millis(300));
    let unknown = GetData::block(BlockHash::from_wire([7; 32]));
    drop(conduit.send_request_nowait_with(unknown, &short).unwrap());
    let missing: Txid = transaction(2, 100).txid();
    drop(conduit.send_request_nowait(GetData::transaction(missing)).unwrap());
    conduit.send_request_nowait(Ping).unwrap().cancel();
    drop(conduit.send_request_nowait(GetData::block(hash(&node, 1))).unwrap());

    let runner = conduit.clone();
    let outcomes = waits::call(move || runner.run_until_queue_empty()).result().unwrap();
    let names: Vec<_> =
        outcomes.iter().map(|o| o.result.as_ref().map_or_else(RequestError::name, |_| "ok")).collect();
    assert_eq!(names, ["ok", "timed_out", "not_found", "ok"]);
    assert_eq!(outcomes[0].result, Ok(Answer::Transaction(payment)));
    assert_eq!(outcomes[0].peer, Some(node.address().into()));
    assert_eq!(outcomes[3].result, Ok(Answer::Block(node.block(1).unwrap())));
    assert_eq!(conduit.run_until_queue_empty().unwrap().len(), 0);
    // It runs on.
    assert!(conduit.send_request(Ping).is_ok());
}

#[test]
fn ten_thousand_requests_at_once_end_in_order() {
    let node = node();
    let payments: Vec<_> = (0..1_000).map(|n| transaction(n, 100)).collect();
    assert!(payments.iter().all(|payment| node.submit(payment.clone())));
    let conduit = Conduit::new(config().request_timeout(PATIENCE)).unwrap();
    conduit.add_peers([node.address()]).unwrap();
    for n in 0..10_000 {
        drop(conduit.send_request_nowait(GetData::transaction(payments[n % 1_000].txid())).unwrap());
    }
    let began = Instant::now();
    let outcomes = conduit.run_until_queue_empty().unwrap();
    assert_eq!(outcomes.len(), 10_000);
    for (n, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.result, Ok(Answer::Transaction(payments[n % 1_000].clone())), "number {n}");
    }
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn too_many_requests_are_refused() {
    let conduit = Conduit::new(config().requests_limit(2_000)).unwrap();
    let ask = || conduit.send_request_nowait(GetData::transaction(Txid::from_wire([1; 32])));
    let first = ask().unwrap();
    drop((ask().unwrap(), ask().unwrap()));
    assert_eq!(ask().unwrap_err(), RequestError::TooManyRequests);
    first.cancel();
    assert!(ask().is_ok());
}

#[test]
fn an_item_nobody_asked_for_stays_in_a_notfound() {
    let listener = RawListener::bind();
    let (conduit, _) = connect(config(), []);
    let messages = conduit.messages().unwrap();
    conduit.add_peers([listener.address()]).unwrap();
    let mut raw = listener.shake_hands();
    let (asked, other) = (transaction(1, 100).txid(), transaction(2, 100).txid());
    let pending = conduit.send_request_nowait(GetData::transaction(asked)).unwrap();
    raw.expect(Command::GETDATA);
    raw.send(&Message::NotFound(vec![Inventory::transaction(other), Inventory::transaction(asked)]));
    assert!(matches!(pending.wait_timeout(PATIENCE).unwrap(), Err(RequestError::NotFound { .. })));
    let unclaimed = messages.recv_timeout(PATIENCE).map(|incoming| incoming.message);
    assert_eq!(unclaimed, Ok(Message::NotFound(vec![Inventory::transaction(other)])));
}

/// Runs a future on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park_timeout(PATIENCE),
        }
    }
}

fn config() -> Config {
    Config::new(Network::Regtest).redial_min(Duration::from_millis(20)).redial_max(Duration::from_millis(100))
}

fn node() -> TestNode {
    TestNode::start(TestNodeConfig::default().blocks(BLOCKS)).expect("a test node starts")
}

/// A conduit connected to these peers.
fn connect<const N: usize>(config: Config, peers: [SocketAddr; N]) -> (Conduit, Vec<PeerId>) {
    let conduit = Conduit::new(config).expect("the settings hold");
    let ids = conduit.add_peers(peers).expect("addresses are addresses");
    conduit.start().expect("it starts");
    conduit.wait_for_peers(N, PATIENCE).expect("the peers connect");
    (conduit, ids)
}

/// A conduit whose main peer is raw, with an honest one beside it.
fn main_raw_peer(listener: &RawListener, node: &TestNode) -> (Conduit, support::raw_peer::RawPeer) {
    let (conduit, _) = connect(config(), [node.address()]);
    conduit.set_main_peer(listener.address()).expect("an address");
    let raw = listener.shake_hands();
    conduit.wait_for_peers(2, PATIENCE).expect("both connect");
    (conduit, raw)
}

fn hash(node: &TestNode, height: u32) -> BlockHash {
    node.block_hash(height).expect("the chain is that high")
}

fn headers(node: &TestNode, from: u32) -> Vec<BlockHeader> {
    (from..=BLOCKS).map(|height| node.header(height).expect("the chain is that high")).collect()
}

const CALLERS: usize = 200;
const ROUNDS: usize = 4;
const BLOCKS: u32 = 20;
