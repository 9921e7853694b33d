//! The order of the peers, and how fast it follows what they do.

use std::time::{Duration, Instant};

use conduit::testnode::{TestNode, TestNodeConfig, transaction};
use conduit::{
    Command, Conduit, Event, Events, GetData, GetHeaders, Network, PeerId, PeerState, Ping, RequestOptions,
};

use super::support::{PATIENCE, waits};
use super::{BLOCKS, connect, info, node, regtest, until, wait_for_state};

#[test]
fn peer_that_becomes_slow_loses_its_rank_and_its_requests_within_seconds() {
    let (quick, steady) = (node(), node());
    steady.set_latency(Duration::from_millis(40));
    let (conduit, _, ids) = connect(regtest(), [&quick, &steady]);
    measure(&conduit, &ids);
    let asked = |node: &TestNode| node.received(Command::GETHEADERS);
    let ask = || {
        let begun = Instant::now();
        conduit.send_request(GetHeaders::new([Network::Regtest.genesis()])).unwrap();
        begun.elapsed()
    };
    assert!((0..5).map(|_| ask()).all(|took| took < PATIENCE));
    assert_eq!((asked(&quick), asked(&steady)), (5, 0));
    assert_eq!(conduit.peers()[0].id, ids[0]);

    quick.set_latency(Duration::from_secs(5));
    let begun = Instant::now();
    // One after the other, so that each has to learn from those before it.
    while ask() > Duration::from_secs(1) || conduit.peers()[0].id != ids[1] {
        assert!(begun.elapsed() < Duration::from_secs(10), "still asked: {:?}", conduit.peers());
    }
    assert!(asked(&steady) >= 1);
    let before = asked(&quick);
    let longest = (0..10).map(|_| ask()).max();
    assert_eq!(asked(&quick), before, "nobody asks it any more");
    assert!(longest < Some(Duration::from_secs(1)), "{longest:?}");
}

#[test]
fn requests_that_wait_for_a_slow_peer_move_to_the_next() {
    let (quick, steady) = (node(), node());
    let payments: Vec<_> = (0..20).map(|n| transaction(n, 200)).collect();
    for node in [&quick, &steady] {
        assert!(payments.iter().all(|payment| node.submit(payment.clone())));
    }
    steady.set_latency(Duration::from_millis(20));
    let (conduit, _, ids) = connect(regtest(), [&quick, &steady]);
    measure(&conduit, &ids);
    quick.set_latency(Duration::from_secs(20));
    let begun = Instant::now();
    let ask = |payment: &conduit::message::Transaction| {
        conduit.send_request_nowait(GetData::transaction(payment.txid())).unwrap()
    };
    let asked: Vec<_> = payments.iter().map(ask).collect();
    for (pending, payment) in asked.into_iter().zip(&payments) {
        assert_eq!(pending.wait(), Ok(payment.clone()));
    }
    // Well before the slow one has said anything, all at once and not one after the other.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert!(quick.received(Command::GETDATA) > 0, "it was asked first");
    assert!(info(&conduit, ids[0]).failures > 0);
}

#[test]
fn main_peer_that_dies_is_replaced_with_its_requests_and_comes_back_to_its_place() {
    let (main, good, far) = (node(), node(), node());
    far.set_latency(Duration::from_millis(60));
    let (conduit, events, ids) = connect(regtest(), [&main, &far, &good]);
    measure(&conduit, &ids);
    assert_eq!(conduit.set_main_peer(main.address()), Ok(ids[0]));
    assert_eq!(conduit.main_peer(), Some(ids[0]));
    assert_eq!(next_main(&events), Some(ids[0]));
    main.ignore(Command::GETDATA);
    let block = |height: u32| GetData::block(main.block_hash(height).unwrap());
    let pending: Vec<_> = (1..=3).map(|height| conduit.send_request_nowait(block(height)).unwrap()).collect();
    assert!(main.wait_for_received(Command::GETDATA, 3, PATIENCE));
    assert_eq!(info(&conduit, ids[0]).outstanding_requests, 3);

    let port = main.address().port();
    main.stop();
    assert_eq!(next_main(&events), Some(ids[2]), "the best of the others");
    for (pending, height) in pending.into_iter().zip(1..) {
        assert_eq!(pending.wait().ok(), good.block(height));
    }
    assert_eq!((good.received(Command::GETDATA), far.received(Command::GETDATA)), (3, 0));
    assert_eq!(conduit.main_peer(), Some(ids[2]));
    // The place is its own, though another acts for it.
    assert!(info(&conduit, ids[0]).is_main && !info(&conduit, ids[2]).is_main);

    let again = TestNode::start(TestNodeConfig::default().blocks(BLOCKS).port(port)).unwrap();
    assert_eq!(next_main(&events), Some(ids[0]));
    assert!(conduit.send_request(block(1)).is_ok());
    assert_eq!(again.received(Command::GETDATA), 1);
    assert_eq!(conduit.main_peer(), Some(ids[0]));

    // With nobody left, there is no main peer either.
    [&again, &good, &far].into_iter().for_each(TestNode::stop);
    while next_main(&events).is_some() {}
    assert_eq!(conduit.main_peer(), None);
}

#[test]
fn throughput_is_measured_and_decides_who_is_asked_for_blocks() {
    let nodes = [node(), node()];
    let payload: Vec<_> = (0..4).map(|n| transaction(n, 50_000)).collect();
    let [hash, same] = nodes.each_ref().map(|node| node.mine_with(payload.clone()));
    assert_eq!(hash, same);
    let (conduit, _, ids) = connect(regtest(), &nodes);
    measure(&conduit, &ids);
    // As far as the throughput goes, a peer that answers late is slow.
    nodes[0].set_latency(Duration::from_secs(2));
    for &id in &ids {
        conduit.send_request_with(GetData::block(hash), &RequestOptions::new().peer(id)).unwrap();
    }
    nodes[0].set_latency(Duration::ZERO);
    let [slow, fast] = [0, 1].map(|n: usize| info(&conduit, ids[n]).throughput.expect("it was measured"));
    assert!(fast > 2 * slow, "{slow} and {fast} bytes a second");
    let before = nodes.each_ref().map(|node| node.received(Command::GETDATA));
    for _ in 0..3 {
        conduit.send_request(GetData::block(hash)).unwrap();
    }
    let after = nodes.each_ref().map(|node| node.received(Command::GETDATA));
    assert_eq!(after, [before[0], before[1] + 3]);
    wait_for_state(&conduit, ids[0], PeerState::Ready);
}

/// Takes a few round trips to each peer.
fn measure(conduit: &Conduit, ids: &[PeerId]) {
    for &id in ids {
        for _ in 0..3 {
            conduit.send_request_with(Ping, &RequestOptions::new().peer(id)).expect("it is there");
        }
    }
    waits::until("every latency is known", || conduit.peers().iter().all(|peer| peer.latency.is_some()));
}

/// Who the next change makes the main peer.
#[track_caller]
fn next_main(events: &Events) -> Option<PeerId> {
    let seen = until(events, |event| matches!(event, Event::MainPeerChanged { .. }));
    match seen.last() {
        Some(Event::MainPeerChanged { peer, address }) => {
            assert_eq!(peer.is_some(), address.is_some());
            *peer
        }
        _ => unreachable!("it was waited for"),
    }
}
